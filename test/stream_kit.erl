%% A client's connection over TCP, TLS or DTLS for turn_kit: a process that cuts what comes into
%% messages and hands each to its owner as a datagram would come, {udp, Connection, Ip, Port,
%% Message}, and the end as {closed, Connection}. Every message of a stream is checked for the
%% padding it has there; with DTLS each record is a message. Behind a success of ConnectionBind
%% (RFC 6062) there are no messages: {bytes, Connection, Bytes}.
-module(stream_kit).

-include_lib("stdlib/include/assert.hrl").

-export([open/3, refused/3, send/2, raw/2, pause/1, resume/1, shutdown/1, close/1, closed/1,
         here/1, info/1]).
-export([certificate/3, config/1, fast_relay/1, root/1]).

-type connection() :: pid().
-type transport() :: tcp | tls | dtls.

-define(TIMEOUT, 30000).

%% Options: ip (of the client); recbuf; first (bytes before all else, as a proxy sends them); half
%% (true: what the server's end leaves can still be said, over TCP); tls (options of ssl:connect/3);
%% error (true: {error, _} is returned).
-spec open(transport(), {inet:ip_address(), inet:port_number()}, map()) ->
    connection() | {error, term()}.
open(Transport, To, Options) ->
    Owner = self(),
    {Pid, Ref} = spawn_monitor(fun() -> start(Owner, Transport, To, Options) end),
    receive
        {Pid, ok} -> demonitor(Ref, [flush]), Pid;
        {'DOWN', Ref, process, Pid, {shutdown, {error, Reason}}} ->
            case Options of
                #{error := true} -> {error, Reason};
                #{} -> error({not_connected, Reason})
            end;
        {'DOWN', Ref, process, Pid, Fault} ->
            error({not_connected, Fault})
    end.

%% Sees that a connection is closed by the server without a word. Its end may be there before the
%% client has finished connecting.
-spec refused(transport(), {inet:ip_address(), inet:port_number()}, map()) -> ok.
refused(Transport, To, Options) ->
    case open(Transport, To, Options#{error => true}) of
        {error, _} -> ok;
        Connection -> closed(Connection)
    end.

start(Owner, Transport, {Ip, Port} = To, Options) ->
    monitor(process, Owner),
    Family = case tuple_size(Ip) of 4 -> inet; 8 -> inet6 end,
    Common = [binary, {active, true}, Family]
        ++ case Transport of dtls -> [{buffer, 65536}]; _ -> [{packet, raw}, {nodelay, true}] end
        ++ [{ip, Here} || #{ip := Here} <- [Options]]
        ++ [{exit_on_close, false} || #{half := true} <- [Options], Transport =:= tcp]
        ++ [{recbuf, Size} || #{recbuf := Size} <- [Options]],
    case connect(Transport, Ip, Port, Common, Options) of
        {ok, Module, Socket} ->
            Owner ! {self(), ok},
            loop(#{owner => Owner, module => Module, socket => Socket, to => To, rest => <<>>,
                   stream => Transport =/= dtls});
        {error, Reason} ->
            exit({shutdown, {error, Reason}})
    end.

connect(tcp, Ip, Port, Common, Options) ->
    case gen_tcp:connect(Ip, Port, Common, ?TIMEOUT) of
        {ok, Socket} ->
            case gen_tcp:send(Socket, maps:get(first, Options, <<>>)) of
                ok -> {ok, gen_tcp, Socket};
                Gone -> Gone
            end;
        Error -> Error
    end;
connect(dtls, Ip, Port, Common, Options) ->
    connect(tls, Ip, Port, [{protocol, dtls}, {versions, ['dtlsv1.2']} | Common], Options);
connect(tls, Ip, Port, Common, #{first := First} = Options) ->
    {ok, _} = application:ensure_all_started(ssl),
    {ok, Socket} = gen_tcp:connect(Ip, Port, lists:keyreplace(active, 1, Common, {active, false}),
                                   ?TIMEOUT),
    ok = gen_tcp:send(Socket, First),
    case ssl:connect(Socket, [{active, true} | tls(Options)], ?TIMEOUT) of
        {ok, Tls} -> {ok, ssl, Tls};
        Error -> Error
    end;
connect(tls, Ip, Port, Common, Options) ->
    {ok, _} = application:ensure_all_started(ssl),
    case ssl:connect(Ip, Port, Common ++ tls(Options), ?TIMEOUT) of
        {ok, Socket} -> {ok, ssl, Socket};
        Error -> Error
    end.

tls(Options) -> [{verify, verify_none}, {log_level, none} | maps:get(tls, Options, [])].

loop(#{owner := Owner, module := Module, socket := Socket, rest := Rest} = S) ->
    receive
        {ssl, Socket, Record} when not map_get(stream, S) ->
            #{to := {Ip, Port}} = S,
            Owner ! {udp, self(), Ip, Port, Record},
            loop(S);
        {Kind, Socket, Bytes} when Kind =:= tcp; Kind =:= ssl ->
            More = case Rest of
                joined -> {joined, Bytes};
                _ -> <<Rest/binary, Bytes/binary>>
            end,
            loop(S#{rest := deliver(More, S)});
        {Kind, Socket} when Kind =:= tcp_closed; Kind =:= ssl_closed -> gone(S);
        {Kind, Socket, _} when Kind =:= tcp_error; Kind =:= ssl_error -> gone(S);
        {call, From, Fun} ->
            From ! {self(), Fun(Module, Socket)},
            loop(S);
        {'DOWN', _, process, Owner, _} -> ok
    end.

%% What is asked of it later is answered all the same.
gone(#{owner := Owner} = S) ->
    Owner ! {closed, self()},
    after_end(S).

after_end(#{owner := Owner, module := Module, socket := Socket} = S) ->
    receive
        {call, From, Fun} ->
            From ! {self(), Fun(Module, Socket)},
            after_end(S);
        {'DOWN', _, process, Owner, _} -> ok
    end.

deliver({joined, Bytes}, #{owner := Owner}) ->
    _ = Bytes =/= <<>> andalso (Owner ! {bytes, self(), Bytes}),
    joined;
deliver(<<0:2, _:14, Len:16, _/binary>> = Bytes, S) when byte_size(Bytes) >= 20 + Len ->
    ?assertEqual(0, Len rem 4),
    message(20 + Len, Bytes, S);
deliver(<<1:2, _:14, Len:16, _/binary>> = Bytes, S)
  when byte_size(Bytes) >= 4 + Len + (-Len band 3) ->
    <<_:32, _:Len/binary, Padding:(-Len band 3)/binary, _/binary>> = Bytes,
    ?assertEqual(0, binary:decode_unsigned(<<0, Padding/binary>>)),
    <<_:32, _:Len/binary, _:(-Len band 3)/binary, Rest/binary>> = Bytes,
    message(4 + Len, <<(binary:part(Bytes, 0, 4 + Len))/binary, Rest/binary>>, S);
deliver(<<Top:2, _/bitstring>> = Bytes, _S) when Top < 2 ->
    Bytes;
deliver(<<>>, _S) ->
    <<>>.

message(Size, Bytes, #{owner := Owner, to := {Ip, Port}} = S) ->
    <<Message:Size/binary, Rest/binary>> = Bytes,
    Owner ! {udp, self(), Ip, Port, Message},
    case Message of
        <<16#010b:16, _/binary>> -> deliver({joined, Rest}, S);
        _ -> deliver(Rest, S)
    end.

call(Pid, Fun) ->
    Pid ! {call, self(), Fun},
    receive {Pid, Result} -> Result after ?TIMEOUT -> error(no_reply) end.

%% A whole message, padded as a stream wants it; DTLS takes it so too.
-spec send(connection(), iodata()) -> ok.
send(Pid, Message) ->
    Padding = -iolist_size(Message) band 3,
    ok = raw(Pid, [Message, <<0:Padding/unit:8>>]).

%% Bytes as they are. The server may have closed.
-spec raw(connection(), iodata()) -> ok | {error, term()}.
raw(Pid, Bytes) -> call(Pid, fun(Module, Socket) -> Module:send(Socket, Bytes) end).

%% Reads no more, so that the server's send fills up.
-spec pause(connection()) -> ok.
pause(Pid) -> active(Pid, false).

-spec resume(connection()) -> ok.
resume(Pid) -> active(Pid, true).

active(Pid, Active) ->
    call(Pid, fun(gen_tcp, Socket) -> inet:setopts(Socket, [{active, Active}]);
                 (ssl, Socket) -> ssl:setopts(Socket, [{active, Active}])
              end).

%% Says no more, and goes on reading.
-spec shutdown(connection()) -> ok.
shutdown(Pid) -> call(Pid, fun(Module, Socket) -> Module:shutdown(Socket, write) end).

-spec close(connection()) -> ok.
close(Pid) -> call(Pid, fun(Module, Socket) -> Module:close(Socket) end).

%% Waits until the server has closed.
-spec closed(connection()) -> ok.
closed(Pid) -> receive {closed, Pid} -> ok after ?TIMEOUT -> error(not_closed) end.

-spec here(connection()) -> {inet:ip_address(), inet:port_number()}.
here(Pid) ->
    {ok, Here} = call(Pid, fun(gen_tcp, Socket) -> inet:sockname(Socket);
                              (ssl, Socket) -> sockname(Socket)
                           end),
    Here.

%% ssl of OTP 25 crashes when it is asked this of DTLS.
sockname(Socket) ->
    try ssl:sockname(Socket)
    catch error:_ ->
        {sslsocket, {gen_udp, {_To, Udp}, _}, _} = Socket,
        inet:sockname(Udp)
    end.

%% What TLS came to: protocol, cipher, and the certificate shown.
-spec info(connection()) -> #{protocol := atom(), cipher := map(), certificate := binary(),
                              alpn := binary() | none}.
info(Pid) ->
    call(Pid, fun(ssl, Socket) ->
        {ok, Items} = ssl:connection_information(Socket, [protocol, selected_cipher_suite]),
        {ok, Certificate} = ssl:peercert(Socket),
        #{protocol => proplists:get_value(protocol, Items),
          cipher => proplists:get_value(selected_cipher_suite, Items),
          certificate => Certificate,
          alpn => case ssl:negotiated_protocol(Socket) of {ok, P} -> P; _ -> none end}
    end).

%% A certificate for a name in Dir, its key of a kind: files, and as a configuration has it.
-spec certificate(file:name_all(), ec | rsa, string()) -> map().
certificate(Dir, Kind, Name) ->
    Base = filename:join(Dir, lists:concat([Name, ".", Kind, ".",
                                            erlang:unique_integer([positive])])),
    {Chain, Key} = {Base ++ ".pem", Base ++ ".key"},
    New = case Kind of
        ec -> "ec -pkeyopt ec_paramgen_curve:P-256";
        rsa -> "rsa:2048"
    end,
    Output = os:cmd(["openssl req -x509 -newkey ", New, " -nodes -days 30 -subj /CN=", Name,
                     " -addext subjectAltName=DNS:", Name, " -keyout ", Key, " -out ", Chain,
                     " 2>&1 && echo made"]),
    {_, "made"} = {Output, lists:last(string:lexemes(Output, "\n"))},
    {ok, ChainPem} = file:read_file(Chain),
    {ok, KeyPem} = file:read_file(Key),
    #{chain => ChainPem, key => KeyPem, chain_file => list_to_binary(Chain),
      key_file => list_to_binary(Key)}.

%% Listeners of all transports on both loopback addresses; TLS and DTLS with certificates.
-spec config([map()]) -> map().
config(Certificates) ->
    Transports = [udp, tcp] ++ [T || Certificates =/= [], T <- [tls, dtls]],
    #{dtls_enabled => Certificates =/= [],
      listeners => [#{transport => T, ip => Ip, port => 0}
                    || T <- Transports, Ip <- [{127, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 1}]],
      certificates => Certificates}.

%% A relay program whose clock runs fast, as a configuration has it. Dir is anywhere in the source
%% tree.
-spec fast_relay(file:name_all()) -> map().
fast_relay(Dir) ->
    Root = root(Dir),
    Built = os:cmd("env -u MAKEFLAGS make -s -C '" ++ Root ++ "/c_src' VARIANT=fast relay 2>&1 "
                   "&& echo built"),
    {_, "built"} = {Built, lists:last(string:lexemes("no\n" ++ Built, "\n"))},
    #{relay_program => filename:join(Root, "_build/c/fast/meerkat_relay")}.

%% Of the source tree that Dir is in.
-spec root(file:name_all()) -> file:filename().
root("/") -> error(no_source_tree);
root(Dir) ->
    case filelib:is_regular(filename:join(Dir, "c_src/Makefile")) of
        true -> Dir;
        false -> root(filename:dirname(Dir))
    end.
