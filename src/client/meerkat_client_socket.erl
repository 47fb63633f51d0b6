%% The client's way to its server: a UDP socket, with DTLS on it or without, or a TCP connection,
%% with TLS on it or without.
%% Opens it, sends messages, and makes messages of what it delivers to the process that owns it.
%% What they mean it does not know.
-module(meerkat_client_socket).

-export([open/3, send/2, close/1, received/2, info/1, is_stream/1, is_connection/1]).
-export([stream/3, write/2, read/3]).
-export_type([socket/0, stream/0, transport/0, options/0, error/0]).

-type transport() :: udp | tcp | tls | dtls.
-type address() :: {inet:ip_address(), inet:port_number()}.

%% `host`: what the server is called, whose certificate it must have. `ti`: how many ms a connection
%% may take to be there. The other keys are those of meerkat_client:options().
-type options() :: #{local := inet:ip_address() | any, local_port := inet:port_number(),
                     host := string() | inet:ip_address(), ti := pos_integer(),
                     cacertfile => file:name_all(), insecure => boolean(),
                     fingerprint => string()}.

%% `closed`: the server closed the connection during the handshake. `no_tls`: it answers something
%% else than TLS. `alert`: it or we ended the handshake, for a reason as in RFC 8446 6.2.
-type error() :: inet:posix() | timeout | connection_closed
               | {not_stun, Begins :: binary()}
               | no_ssl
               | {tls, closed | timeout | no_tls | {certificate, meerkat_tls_client:fault()}
                       | {alert, atom()} | {other, unicode:chardata()}}.

%% A stream also keeps what has come of a message whose end has not.
-record(socket, {transport :: transport(),
                 handle :: gen_udp:socket() | gen_tcp:socket() | ssl:sslsocket(),
                 frames = none :: none | meerkat_client_frames:state()}).
-opaque socket() :: #socket{}.

%% A connection as it is, which delivers nothing by itself: {active, false}.
-type stream() :: {gen_tcp, gen_tcp:socket()} | {ssl, ssl:sslsocket()}.

-define(ACTIVE, 100).
-define(SOCKET_BUFFER, 1_048_576).
%% A server that takes nothing for so long is gone.
-define(SEND_MS, 15_000).

%% Whether messages arrive in order and without loss.
-spec is_stream(transport()) -> boolean().
is_stream(Transport) ->
    Transport =:= tcp orelse Transport =:= tls.

%% Whether something must be agreed with the server first, which may end.
-spec is_connection(transport()) -> boolean().
is_connection(Transport) ->
    Transport =/= udp.

%% Messages from the socket go to the caller, for received/2.
-spec open(transport(), address(), options()) -> {ok, socket()} | {error, error()}.
open(udp, {Ip, Port}, #{local_port := LocalPort} = Options) ->
    case gen_udp:open(LocalPort, [binary, {active, ?ACTIVE}, {buffer, 65_536},
                                  {recbuf, ?SOCKET_BUFFER}, {sndbuf, ?SOCKET_BUFFER}
                                  | [{ipv6_v6only, true} || tuple_size(Ip) =:= 8]
                                  ++ bind(Ip, Options)]) of
        {ok, Handle} ->
            %% A connected socket takes nothing from anybody else and is told when nobody listens
            %% there.
            case gen_udp:connect(Handle, Ip, Port) of
                ok -> {ok, #socket{transport = udp, handle = Handle}};
                {error, _} = Failed -> ok = gen_udp:close(Handle), Failed
            end;
        {error, _} = Failed ->
            Failed
    end;
open(Transport, Server, Options) when Transport =:= tcp; Transport =:= tls ->
    Patience = [{send_timeout, ?SEND_MS}, {send_timeout_close, true}],
    case connection(Transport, Server, Patience, Options) of
        {ok, {_, Handle}} -> activate(#socket{transport = Transport, handle = Handle});
        {error, _} = Failed -> Failed
    end;
open(dtls, Server, Options) ->
    case meerkat_tls_client:is_there() andalso datagrams(Server, Options) of
        {ok, Handle} -> activate(#socket{transport = dtls, handle = Handle});
        false -> {error, no_ssl};
        {error, _} = Failed -> Failed
    end.

connection(tcp, Server, More, #{ti := Ti} = Options) ->
    case connect(Server, Ti, More, Options) of
        {ok, Handle} -> {ok, {gen_tcp, Handle}};
        {error, _} = Failed -> Failed
    end;
connection(tls, Server, More, #{ti := Ti} = Options) ->
    End = erlang:monotonic_time(millisecond) + Ti,
    case meerkat_tls_client:is_there() andalso connect(Server, Ti, More, Options) of
        {ok, Tcp} ->
            Left = max(1, End - erlang:monotonic_time(millisecond)),
            case secure(Tcp, Left, Options) of
                {ok, Handle} -> {ok, {ssl, Handle}};
                {error, _} = Failed -> _ = gen_tcp:close(Tcp), Failed
            end;
        false ->
            {error, no_ssl};
        {error, _} = Failed ->
            Failed
    end.

connect({Ip, Port}, Ti, More, #{local_port := LocalPort} = Options) ->
    gen_tcp:connect(Ip, Port, [binary, {active, false}, {nodelay, true}, {keepalive, true},
                               {port, LocalPort}, {reuseaddr, LocalPort =/= 0}
                               | More ++ bind(Ip, Options)], Ti).

bind(Ip, #{local := Local}) when tuple_size(Ip) =:= 4 ->
    [inet] ++ [{ip, Local} || tuple_size(Local) =:= 4];
bind(_, #{local := Local}) ->
    [inet6] ++ [{ip, Local} || tuple_size(Local) =:= 8].

%% An error where the server has closed the connection by now, or sent what is no message.
activate(#socket{transport = Transport} = Socket0) ->
    Socket = case is_stream(Transport) of
                 true -> Socket0#socket{frames = meerkat_client_frames:new()};
                 false -> Socket0
             end,
    case again(Socket) of
        ok -> {ok, Socket};
        {error, Reason} -> ok = close(Socket), {error, gone(Reason)}
    end.

again(#socket{transport = Transport, handle = Handle})
  when Transport =:= tls; Transport =:= dtls ->
    ssl:setopts(Handle, [{active, ?ACTIVE}]);
again(#socket{handle = Handle}) -> inet:setopts(Handle, [{active, ?ACTIVE}]).

gone(Reason) when Reason =:= closed; Reason =:= einval; Reason =:= enotconn -> connection_closed;
gone({tls_alert, {Alert, _}}) -> {tls, {alert, Alert}};
gone(Reason) when is_atom(Reason) -> Reason;
gone(Reason) -> {tls, {other, meerkat_tls_client:reason(Reason)}}.

%% ------------------------------------------------------------------------------------ a stream

%% A connection to the server that belongs to the caller. Who sends on it waits for as long as
%% nothing is taken.
-spec stream(tcp | tls, address(), options()) -> {ok, stream()} | {error, error()}.
stream(Transport, Server, Options) ->
    connection(Transport, Server, [], Options).

-spec write(stream(), iodata()) -> ok | {error, error()}.
write({Module, Handle}, Bytes) ->
    sent(Module:send(Handle, Bytes)).

%% So many bytes, at least one, and not one more: what follows them is still there to be read.
-spec read(stream(), pos_integer(), Ms :: non_neg_integer()) ->
    {ok, binary()} | {error, error()}.
read({Module, Handle}, Size, Ms) ->
    case Module:recv(Handle, Size, Ms) of
        {ok, Bytes} -> {ok, Bytes};
        {error, Reason} -> {error, gone(Reason)}
    end.

%% ----------------------------------------------------------------------------------------- TLS

%% What is wrong with a certificate comes from ssl's process by a message, before ssl says that
%% something is.
secure(Tcp, Ti, Options) ->
    agreed(fun(Identity) -> ssl:connect(Tcp, Identity, Ti) end, Options).

%% OTP's default is not to go beyond DTLS 1.2, nor is there more of it.
datagrams({Ip, Port}, #{ti := Ti, local_port := LocalPort} = Options) ->
    Way = [{protocol, dtls}, {versions, ['dtlsv1.2']}, binary, {active, false},
           {buffer, 65_536}, {recbuf, ?SOCKET_BUFFER}, {sndbuf, ?SOCKET_BUFFER}]
        ++ [{port, LocalPort} || LocalPort =/= 0] ++ bind(Ip, Options),
    case agreed(fun(Identity) -> ssl:connect(Ip, Port, Way ++ Identity, Ti) end, Options) of
        {ok, _} = Agreed -> Agreed;
        {error, {tls, timeout}} -> {error, timeout}; % nobody takes connections before
        {error, _} = Failed -> Failed
    end.

agreed(Connect, #{host := Host} = Options) ->
    {Self, Ref} = {self(), make_ref()},
    Report = fun(Fault) -> Self ! {Ref, Fault} end,
    Result = Connect(identity(Host, Report, Options)),
    Fault = receive {Ref, Told} -> Told after 0 -> none end,
    case {Result, Fault} of
        {{ok, Handle}, none} -> known(Handle, Options);
        {{error, Reason}, none} -> {error, {tls, failure(Reason)}};
        {{error, _}, _} -> {error, {tls, {certificate, Fault}}}
    end.

identity(Host, Report, Options) ->
    case Options of
        #{fingerprint := _} -> anybody(Host);
        #{insecure := true} -> anybody(Host);
        #{cacertfile := File} ->
            meerkat_tls_client:options(Host, #{cacert => File, report => Report});
        #{} ->
            meerkat_tls_client:options(Host, #{report => Report})
    end.

anybody(Host) ->
    Name = case Host of
               Ip when is_tuple(Ip) -> disable;
               _ -> Host
           end,
    [{log_level, none}, {verify, verify_none}, {server_name_indication, Name}].

%% The handshake has shown that the server holds the key of this certificate.
known(Handle, #{fingerprint := Wanted}) ->
    {ok, Certificate} = ssl:peercert(Handle),
    case meerkat_certificate:fingerprint(Certificate) of
        Wanted -> {ok, Handle};
        Other -> _ = ssl:close(Handle), {error, {tls, {certificate, {fingerprint, Other}}}}
    end;
known(Handle, _) ->
    {ok, Handle}.

failure(Reason) when Reason =:= closed; Reason =:= econnreset; Reason =:= epipe -> closed;
failure(timeout) -> timeout;
failure({tls_alert, {Alert, Said}}) ->
    case string:find(Said, "unsupported_record_type") of
        nomatch -> {alert, Alert};
        _ -> no_tls
    end;
failure(Reason) -> {other, meerkat_tls_client:reason(Reason)}.

%% ----------------------------------------------------------------------------------------- use

%% A whole message. An error says that none can be sent any more, or that this one is lost (UDP).
-spec send(socket(), iodata()) -> ok | {error, error()}.
send(#socket{transport = udp, handle = Handle}, Packet) ->
    gen_udp:send(Handle, Packet);
send(#socket{transport = tcp, handle = Handle}, Message) ->
    sent(gen_tcp:send(Handle, meerkat_client_frames:pad(Message)));
send(#socket{transport = dtls, handle = Handle}, Message) ->
    sent(ssl:send(Handle, Message));
send(#socket{transport = tls, handle = Handle}, Message) ->
    sent(ssl:send(Handle, meerkat_client_frames:pad(Message))).

sent(ok) -> ok;
sent({error, Reason}) -> {error, gone(Reason)}.

-spec close(socket()) -> ok.
close(#socket{transport = udp, handle = Handle}) -> gen_udp:close(Handle);
close(#socket{transport = tcp, handle = Handle}) -> gen_tcp:close(Handle);
close(#socket{transport = Transport, handle = Handle})
  when Transport =:= tls; Transport =:= dtls ->
    _ = ssl:close(Handle), ok.

%% What a message to the owning process says of the socket. `lost`: messages, and then the end of a
%% connection. `unreachable`: what a network says of a datagram. `other`: nothing.
-spec received(term(), socket()) -> {ok, [binary()], socket()} | {lost, [binary()], error()}
                                  | {unreachable, inet:posix()} | {failed, term()} | other.
received({udp, Handle, _, _, Packet}, #socket{handle = Handle} = Socket) ->
    {ok, [Packet], Socket};
received({ssl, Handle, Packet}, #socket{transport = dtls, handle = Handle} = Socket) ->
    {ok, [Packet], Socket};
received({udp_error, Handle, Reason}, #socket{handle = Handle}) ->
    {unreachable, Reason};
received({Kind, Handle, Bytes}, #socket{handle = Handle, frames = Frames0} = Socket)
  when Kind =:= tcp; Kind =:= ssl ->
    case meerkat_client_frames:take(Bytes, Frames0) of
        {ok, Messages, Frames} ->
            {ok, Messages, Socket#socket{frames = Frames}};
        {error, Messages, Frames} ->
            {lost, Messages, {not_stun, meerkat_client_frames:rest(Frames)}}
    end;
received({Kind, Handle}, #socket{handle = Handle} = Socket)
  when Kind =:= udp_passive; Kind =:= tcp_passive; Kind =:= ssl_passive ->
    case again(Socket) of
        ok -> {ok, [], Socket};
        {error, Reason} -> {lost, [], gone(Reason)}
    end;
received({ssl_closed, Handle}, #socket{transport = dtls, handle = Handle}) ->
    {lost, [], connection_closed};
received({Kind, Handle}, #socket{handle = Handle, frames = Frames})
  when Kind =:= tcp_closed; Kind =:= ssl_closed ->
    case {meerkat_client_frames:is_greeted(Frames), meerkat_client_frames:rest(Frames)} of
        {false, <<_, _/binary>> = Begins} -> {lost, [], {not_stun, Begins}};
        _ -> {lost, [], connection_closed}
    end;
received({Kind, Handle, Reason}, #socket{handle = Handle})
  when Kind =:= tcp_error; Kind =:= ssl_error ->
    {lost, [], gone(Reason)};
received({'EXIT', Handle, Reason}, #socket{transport = udp, handle = Handle}) ->
    {failed, Reason};
received(_, _) ->
    other.

%% `local`: where it sends from. `tls`: the version in use.
-spec info(socket()) -> #{transport := transport(), local => address(), tls => atom()}.
info(#socket{transport = Transport, handle = Handle})
  when Transport =:= tls; Transport =:= dtls ->
    Version = case ssl:connection_information(Handle, [protocol]) of
                  {ok, [{protocol, Protocol}]} -> #{tls => Protocol};
                  {error, _} -> #{}
              end,
    local(sockname(Handle), Version#{transport => Transport});
info(#socket{transport = Transport, handle = Handle}) ->
    local(inet:sockname(Handle), #{transport => Transport}).

%% ssl of OTP 25 crashes when it is asked this of DTLS.
sockname(Handle) ->
    try ssl:sockname(Handle)
    catch error:_ -> {error, enotsup}
    end.

local({ok, Local}, Info) -> Info#{local => Local};
local({error, _}, Info) -> Info.
