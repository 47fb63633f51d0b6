%% A connection to the server that carries the bytes of one peer (RFC 6062 4.3): opened, joined to
%% the peer's by a ConnectionBind, and handed over as the socket that it is. Whoever calls opens it
%% and owns it; the client's process has nothing to do with what travels there.
-module(meerkat_client_data).

-export([open/2]).
-export_type([way/0]).

-type stream() :: meerkat_client_socket:stream().

%% How the client reaches its server, and what it signs with.
-type way() :: #{transport := tcp | tls,
                 server := meerkat_client:address(),
                 socket := meerkat_client_socket:options(),
                 signing := {none | meerkat_client_auth:auth(),
                             meerkat_client_transaction:credentials(),
                             meerkat_client_transaction:pace()}}.

-define(HEADER, 20).
-define(COOKIE, 16#2112a442).

%% Id: the CONNECTION-ID of an answer to Connect, or of a ConnectionAttempt. The local port is the
%% system's choice: the client's own is in use.
-spec open(way(), Id :: 0..16#ffffffff) -> {ok, stream()} | {error, meerkat_client:error()}.
open(#{transport := Transport, server := Server, socket := Options, signing := Signing}, Id) ->
    case meerkat_client_socket:stream(Transport, Server, Options#{local_port := 0}) of
        {ok, {Module, Socket} = Stream} ->
            case ask(Stream, bind(Id), Signing) of
                ok -> {ok, Stream};
                {error, _} = Failed -> _ = Module:close(Socket), Failed
            end;
        {error, _} = Failed ->
            Failed
    end.

bind(Id) ->
    meerkat_client_transaction:new(connection_bind, [{connection_id, Id}], join).

%% A nonce may be for the client's other connection alone: then the answer brings another one, and
%% the request is made once more.
ask(Stream, Request, {Auth, Credentials, Pace}) ->
    {Id, Packet, Wait, Sent} = meerkat_client_transaction:send(Auth, Pace, Request),
    End = erlang:monotonic_time(millisecond) + Wait,
    case meerkat_client_socket:write(Stream, Packet) of
        ok ->
            case answer(Stream, Id, Credentials, Sent, End) of
                {ok, _} -> ok;
                {again, Learnt, Next} -> ask(Stream, Next, {Learnt, Credentials, Pace});
                {error, _} = Failed -> Failed
            end;
        {error, _} = Failed ->
            Failed
    end.

answer(Stream, Id, Credentials, Sent, End) ->
    case message(Stream, End) of
        {ok, #{transaction_id := Id} = Message, Packet} ->
            case meerkat_client_transaction:answered(Message, Packet, Credentials, Sent) of
                ignored -> answer(Stream, Id, Credentials, Sent, End);
                {ignored, Distrusted} -> answer(Stream, Id, Credentials, Distrusted, End);
                Outcome -> Outcome
            end;
        {ok, _, _} ->
            answer(Stream, Id, Credentials, Sent, End);
        {error, timeout} ->
            {error, _} = meerkat_client_transaction:send_again({1, 1, 1}, Sent);
        {error, _} = Failed ->
            Failed
    end.

%% Exactly one: behind a success there are the peer's bytes.
message(Stream, End) ->
    case read(Stream, ?HEADER, End) of
        {ok, <<0:2, _:14, Length:16, ?COOKIE:32, _/binary>> = Header} when Length rem 4 =:= 0 ->
            rest(Stream, Header, Length, End);
        {ok, Begins} ->
            {error, {not_stun, Begins}};
        {error, _} = Failed ->
            Failed
    end.

rest(_, Header, 0, _) ->
    decoded(Header);
rest(Stream, Header, Length, End) ->
    case read(Stream, Length, End) of
        {ok, Body} -> decoded(<<Header/binary, Body/binary>>);
        {error, _} = Failed -> Failed
    end.

decoded(Packet) ->
    case meerkat_stun:decode(Packet) of
        {ok, Message} -> {ok, Message, Packet};
        _ -> {error, {not_stun, Packet}}
    end.

read(Stream, Size, End) ->
    Left = max(0, End - erlang:monotonic_time(millisecond)),
    meerkat_client_socket:read(Stream, Size, Left).
