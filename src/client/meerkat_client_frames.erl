%% STUN and ChannelData over a stream (RFC 8489 6.2.2, RFC 8656 12.5): where each message begins and
%% ends in bytes that come in pieces of any size, and the padding that what we send must have. Pure;
%% it knows no socket, and of a message no more than its header.
-module(meerkat_client_frames).

-export([new/0, take/2, rest/1, is_greeted/1, pad/1]).
-export_type([state/0]).

%% `greeted`: the server has said something in STUN. What comes before that can be no ChannelData,
%% for no channel is bound; a web server's "HTTP" would otherwise pass for the beginning of some.
-record(frames, {rest = <<>> :: binary(), greeted = false :: boolean()}).
-opaque state() :: #frames{}.

-define(COOKIE, 16#2112a442).
-define(HEADER, 20).

%% Of a connection on which nothing has come yet.
-spec new() -> state().
new() ->
    #frames{}.

%% The messages that are whole now, without padding, in their order. `error`: what follows them is
%% neither STUN nor ChannelData. Nobody can say where the next message would begin, so the
%% connection is of no more use.
-spec take(Bytes :: binary(), state()) -> {ok, [binary()], state()} | {error, [binary()], state()}.
take(Bytes, #frames{rest = Rest} = S) ->
    %% Appending to the one reference there is costs no copy of what has been collected.
    whole(<<Rest/binary, Bytes/binary>>, [], S).

whole(Bytes, Frames, S) ->
    case next(Bytes, S) of
        {Size, Padding} when byte_size(Bytes) >= Size + Padding ->
            <<Frame:Size/binary, _:Padding/binary, Rest/binary>> = Bytes,
            whole(Rest, [Frame | Frames], S#frames{greeted = true});
        bad ->
            {error, lists:reverse(Frames), S#frames{rest = Bytes}};
        _ ->
            {ok, lists:reverse(Frames), S#frames{rest = Bytes}}
    end.

%% How long the message is that the bytes begin with, and its padding.
next(<<0:2, _:14, Length:16, ?COOKIE:32, _/bits>>, _) when Length rem 4 =:= 0 ->
    {?HEADER + Length, 0};
next(<<0:2, _:6, _/bits>> = Bytes, _) when byte_size(Bytes) < 8 ->
    case Bytes of
        <<_:24, Length, _/bits>> when Length rem 4 =/= 0 -> bad;
        _ -> more
    end;
next(<<4:4, _:12, Length:16, _/bits>>, #frames{greeted = true}) ->
    {4 + Length, padding(Length)};
next(<<4:4, _:4, _/bits>> = Bytes, #frames{greeted = true}) when byte_size(Bytes) < 4 ->
    more;
next(<<>>, _) ->
    more;
next(_, _) ->
    bad.

%% What has come of a message that is not whole, or that is none.
-spec rest(state()) -> binary().
rest(#frames{rest = Rest}) ->
    Rest.

%% Whether at least one message has come.
-spec is_greeted(state()) -> boolean().
is_greeted(#frames{greeted = Greeted}) ->
    Greeted.

%% A message as a stream has it. STUN is as long as it must be already.
-spec pad(iodata()) -> iodata().
pad(Message) ->
    case padding(iolist_size(Message)) of
        0 -> Message;
        Padding -> [Message, <<0:Padding/unit:8>>]
    end.

padding(Length) -> -Length band 3.
