%% A TURN client for applications: one process, one UDP socket or connection (TCP, TLS, DTLS), one
%% allocation (RFC 8489, RFC 8656). It authenticates, retransmits over UDP, follows one redirection
%% and keeps allocation, permissions and channels alive by itself. What the messages mean it leaves
%% to meerkat_client_core, how they travel to meerkat_client_socket; it does no ICE.
%%
%% Whose network lets no UDP out gives "turn:HOST?transport=tcp", or "turns:HOST" for TLS, as
%% `server`; nothing else is different: what the server relays is UDP. With TLS the server's
%% certificate must be good for HOST:
%%
%%     {ok, Client} = meerkat_client:start_link(#{server => "turns:turn.example.org",
%%                                                username => "alice", password => "wonderland"}),
%%     {ok, #{relayed := Relayed}} = meerkat_client:allocate(Client),
%%
%% A connection that ends takes the allocation along: the owner gets {lost, {allocation, Reason}},
%% and the next request opens another connection. While one is being opened the client answers
%% nothing else.
%%
%% Such a client may have TCP relayed instead (RFC 6062), where the server does that. Each peer then
%% has a connection of its own, a socket of gen_tcp or ssl in passive mode that belongs to whoever
%% asked for it. What is read and written there are the peer's bytes, and nothing else:
%%
%%     {ok, _} = meerkat_client:allocate(Client, #{transport => tcp}),
%%     {ok, {Module, Socket}} = meerkat_client:connect(Client, {{198, 51, 100, 7}, 8080}),
%%     ok = Module:send(Socket, <<"GET / HTTP/1.0\r\n\r\n">>),
%%     {ok, Bytes} = Module:recv(Socket, 0),
%%
%% A peer that connects to the relayed address is told of to the owner, {attempt, Id, Peer}, if
%% permit/2 lets it in; accept/2 takes it. These connections end with their peer, with the socket,
%% and with the allocation.
-module(meerkat_client).
-behaviour(gen_statem).

%% API.
-export([start_link/1]).
-export([binding/1]).
-export([allocate/1]).
-export([allocate/2]).
-export([permit/2]).
-export([bind_channel/2]).
-export([send/3]).
-export([connect/2]).
-export([accept/2]).
-export([refresh/1]).
-export([refresh/2]).
-export([release/1]).
-export([close/1]).
-export([info/1]).
-export([format_error/1]).
-export([format_error/2]).
-export([format_address/1]).

%% Internal.
-export([boot/2]).

%% gen_statem.
-export([callback_mode/0]).
-export([init/1]).
-export([open/3]).
-export([terminate/3]).

%% Where an allocation can be had, and for whom.
%%
%% `server`    "turn:HOST[:PORT][?transport=udp]", "turn:HOST[:PORT]?transport=tcp",
%%             "turns:HOST[:PORT]" (RFC 7065), the same with stun: and stuns: (RFC 7064), or
%%             {Host, Port} with a name or an address. A name is looked up once, IPv4 first unless
%%             `local` says otherwise.
%% `transport` udp (the default), tcp, tls or dtls, where `server` is {Host, Port}.
%% `username`, `password`
%%             long-term credentials (RFC 8489 9.2); used when the server asks for them.
%% `family`    of the relayed address. Default: the server's choice, which is inet (RFC 8656 7.2).
%% `local`     address, or address and port, to send from. Default: the system's choice.
%% `owner`     who gets the messages below, and whose end is the client's. Default: the caller.
%% `rto`, `rc`, `rm`
%%             retransmission as in RFC 8489 6.2.1: first interval in ms (500), requests sent (7),
%%             and how many `rto` to wait for an answer to the last (16). UDP only.
%% `ti`        ms to wait for a connection, and for an answer on it (39500; RFC 8489 6.2.2).
%% `cacertfile`
%%             a PEM file with certificates that vouch for the server's, in place of the system's
%%             list; or with the server's own.
%% `fingerprint`
%%             SHA-256 of the server's certificate, as `openssl x509 -fingerprint -sha256` prints
%%             it. Then it counts alone: neither name nor date nor who vouches for it.
%% `insecure`  true: any certificate will do, so that anybody on the way can pass for the server.
-type options() :: #{server := unicode:chardata() | {host(), inet:port_number()},
                     transport => meerkat_client_socket:transport(),
                     username => unicode:chardata(),
                     password => unicode:chardata(),
                     family => inet | inet6,
                     local => inet:ip_address() | {inet:ip_address(), inet:port_number()},
                     owner => pid(),
                     rto => pos_integer(),
                     rc => pos_integer(),
                     rm => pos_integer(),
                     ti => pos_integer(),
                     cacertfile => file:name_all(),
                     fingerprint => unicode:chardata(),
                     insecure => boolean()}.
-type host() :: inet:ip_address() | string() | binary().

%% `transport`: what is relayed, udp or tcp; tcp asks for a client over TCP or TLS, and excludes
%% `even_port`, `reservation_token` and `dont_fragment` (RFC 6062 5.1).
%% `lifetime` in seconds is a wish; the server decides. `even_port`: an even port, or an even one
%% with the next higher reserved, whose token the result then carries and another client gives as
%% `reservation_token` (RFC 8656 7.1; excludes `family`). `dont_fragment`: to ask whether the
%% server knows the attribute.
-type allocate_options() :: meerkat_client_core:allocate_options().

%% `server` differs from the one asked when a redirection was followed.
-type allocation() :: #{server := address(), relayed := address(), mapped := address(),
                        lifetime := Seconds :: pos_integer(),
                        reservation_token => non_neg_integer()}.

-type address() :: meerkat_client_core:address().

%% {300..699, Phrase} is the server's answer. `timeout`: none came. An inet:posix() comes from the
%% socket: econnrefused says that the server's host knows nobody at that port. `connection_closed`,
%% {not_stun, _} and {tls, _} are about connections (meerkat_client_socket:error()). All of them can
%% be put in words by format_error/1.
-type error() :: meerkat_client_core:error() | meerkat_client_start:error() | closed.

%% A socket in passive mode: {active, false}, binary.
-type connection() :: meerkat_client_socket:stream().

%% What the owner gets. `via` says how the data came. `attempt`: a peer has connected, which
%% accept/2 takes within 30 s; else the server closes it. `icmp`: the network's answer to something
%% sent to that peer (RFC 8656 11.5). `lost`: the allocation, a permission or a channel is no more,
%% though nobody released it; after {allocation, _} another may be asked for. `closed` is the last
%% message; a reason other than `normal` is a failure of the socket or an exit of a linked process.
-type message() :: {meerkat_client, pid(),
                    {data, Peer :: address(), Payload :: binary(), Via :: channel | indication}
                    | {icmp, Peer :: address(),
                       {Type :: byte(), Code :: byte(), Data :: 0..16#ffffffff}}
                    | {attempt, Id :: 0..16#ffffffff, Peer :: address()}
                    | {lost, meerkat_client_core:lost()}
                    | {closed, Reason :: term()}}.

-export_type([options/0, allocate_options/0, allocation/0, address/0, connection/0, error/0,
              message/0]).

-record(shell, {core :: meerkat_client_core:state(),
                %% `undefined`: a connection that has ended, or is to be opened to `server`.
                socket :: meerkat_client_socket:socket() | undefined,
                transport :: meerkat_client_socket:transport(),
                server :: address(),
                socket_options :: meerkat_client_socket:options(),
                owner :: pid(),
                monitor :: reference(),
                dropped = 0 :: non_neg_integer()}).

%% Payloads up to here fit a UDP datagram together with the headers of a Send indication.
-define(PAYLOAD_MAX, 65_000).
%% Requests and payloads that wait while a connection takes nothing. Payloads beyond are dropped:
%% they are late already.
-define(WAITING_MAX, 500).

%% ----------------------------------------------------------------------------------------- API

%% Starts a client and opens its socket or connection; nothing is asked yet. Looks the host name up,
%% which takes as long as the resolver does. A connection may take `ti` ms.
-spec start_link(options()) -> {ok, pid()} | {error, error()}.
start_link(Options) ->
    proc_lib:start_link(?MODULE, boot, [self(), Options]).

%% Asks how the server sees us: our address behind whatever NAT there is (RFC 8489 13, Binding).
%% May be asked at any time; an answer shows that the server is there.
-spec binding(pid()) -> {ok, Mapped :: address()} | {error, error()}.
binding(Client) ->
    call(Client, binding).

%% allocate/2 without wishes.
-spec allocate(pid()) -> {ok, allocation()} | {error, error()}.
allocate(Client) ->
    allocate(Client, #{}).

%% Asks for a relayed address (RFC 8656 7), which lives until it is released or lost. With a local
%% port of the system's choice, 437 (our address is still another client's) is answered by up to
%% two more tries from other ports, so `mapped` may differ from what binding/1 said before.
-spec allocate(pid(), allocate_options()) -> {ok, allocation()} | {error, error()}.
allocate(Client, Options) ->
    case [Name || {Name, Value} <- maps:to_list(Options),
                  not meerkat_client_start:valid(Name, Value)] of
        [] -> call(Client, {allocate, Options});
        [Name | _] -> {error, {bad_option, Name}}
    end.

%% Lets the hosts of these peers send to us and us to them (RFC 8656 10). Ports do not matter. All
%% or none: one peer that the server forbids (403) spoils the request. At most some fifty fit.
-spec permit(pid(), Peer | [Peer]) -> ok | {error, error()} when
      Peer :: address() | inet:ip_address().
permit(Client, Peers) when is_list(Peers) ->
    call(Client, {permit, lists:usort([peer_ip(Peer) || Peer <- Peers])});
permit(Client, Peer) ->
    permit(Client, [Peer]).

%% Gives the peer a channel (RFC 8656 12) and its host a permission; from then on data in both
%% directions travels with four bytes of header. A peer that has a channel keeps it.
-spec bind_channel(pid(), address()) -> {ok, 16#4000..16#4fff} | {error, error()}.
bind_channel(Client, Peer) ->
    call(Client, {bind_channel, peer(Peer)}).

%% Sends a datagram to the peer: as ChannelData if a channel is bound, else in a Send indication
%% (RFC 8656 11.1, 12.5). Never waits and promises nothing, like UDP: without an allocation, or
%% without the server's permission, the payload is dropped, and over a connection that takes less
%% than is sent, too. badarg on more than 65000 bytes.
-spec send(pid(), address(), iodata()) -> ok.
send(Client, Peer, Payload) ->
    Binary = iolist_to_binary(Payload),
    byte_size(Binary) =< ?PAYLOAD_MAX orelse error(badarg, [Client, Peer, Payload]),
    gen_statem:cast(Client, {send, peer(Peer), Binary}).

%% Has the server connect to the peer over TCP (RFC 6062 4.3), and opens the connection that
%% carries its bytes: the caller's, who reads, writes and closes it. 447: the server could not
%% connect to it; 446: there is such a connection already; 403: the server forbids it.
-spec connect(pid(), address()) -> {ok, connection()} | {error, error()}.
connect(Client, Peer) ->
    case call(Client, {connect, peer(Peer)}) of
        {ok, Id} -> accept(Client, Id);
        {error, _} = Failed -> Failed
    end.

%% Takes a peer that has connected to the relayed address, by the Id of the message about it. 400:
%% the server knows no such peer any more.
-spec accept(pid(), Id :: 0..16#ffffffff) -> {ok, connection()} | {error, error()}.
accept(Client, Id) when is_integer(Id), Id >= 0, Id =< 16#ffffffff ->
    case call(Client, way) of
        {ok, Way} -> meerkat_client_data:open(Way, Id);
        {error, _} = Failed -> Failed
    end.

%% refresh/2 with the lifetime asked for last, or the server's default.
-spec refresh(pid()) -> {ok, Seconds :: pos_integer()} | {error, error()}.
refresh(Client) ->
    call(Client, {refresh, default}).

%% Renews the allocation now (RFC 8656 8), though the client does so by itself in time. 0 is
%% release/1.
-spec refresh(pid(), Seconds :: non_neg_integer()) ->
          ok | {ok, Seconds :: pos_integer()} | {error, error()}.
refresh(Client, Lifetime) when is_integer(Lifetime), Lifetime >= 0, Lifetime =< 16#ffffffff ->
    call(Client, {refresh, Lifetime}).

%% Gives the allocation back and waits until the server has said so. The client goes on and may
%% allocate again. On an error the server has not heard; the allocation then expires by itself.
-spec release(pid()) -> ok | {error, error()}.
release(Client) ->
    call(Client, release).

%% Ends the client. An allocation is given back, but the server's answer not awaited. Closing what
%% is closed is no error.
-spec close(pid()) -> ok.
close(Client) ->
    case call(Client, close) of
        ok -> ok;
        {error, closed} -> ok
    end.

%% Addresses in use, and what is installed: `ignored` counts messages from the server that were
%% no valid answer or data, `dropped` payloads that a connection did not take in time. `tls`: the
%% version. A connection that has ended has no `local`. Never waits for the server, but for a
%% connection that is being opened.
-spec info(pid()) -> #{server := address(), transport := meerkat_client_socket:transport(),
                       local => address(), tls => atom(), ignored := non_neg_integer(),
                       dropped := non_neg_integer(),
                       relayed => address(), mapped => address(), lifetime => pos_integer(),
                       permissions => [inet:ip_address()],
                       channels => #{address() => 16#4000..16#4fff}}
                   | {error, closed}.
info(Client) ->
    call(Client, info).

%% What went wrong, in words for those who run the application. Takes what stands in {error, _},
%% or in {lost, _}.
-spec format_error(error() | meerkat_client_core:lost()) -> unicode:chardata().
format_error(Reason) ->
    format_error(Reason, "the server").

%% The same with a name for the server, such as "turn.example.org:3478".
-spec format_error(error() | meerkat_client_core:lost(), Server :: unicode:chardata()) ->
          unicode:chardata().
format_error(Reason, Server) ->
    meerkat_client_words:format_error(Reason, Server).

%% "192.0.2.1:3478", "[2001:db8::1]:3478".
-spec format_address(address()) -> string().
format_address(Address) ->
    meerkat_client_words:format_address(Address).

call(Client, Request) ->
    try gen_statem:call(Client, Request, infinity)
    catch exit:{_, {gen_statem, call, _}} -> {error, closed}
    end.

peer({Ip, Port} = Peer) when is_integer(Port), Port >= 0, Port =< 65535 ->
    inet:is_ip_address(Ip) orelse error(badarg),
    Peer;
peer(_) ->
    error(badarg).

peer_ip({Ip, Port}) when is_tuple(Ip) -> element(1, peer({Ip, Port}));
peer_ip(Ip) -> element(1, peer({Ip, 0})).

%% --------------------------------------------------------------------------------------- start

%% Not by gen_statem:start_link: a client that cannot start is an answer, not an exit signal for
%% the application that asked.
-spec boot(pid(), options()) -> ok | no_return().
boot(Caller, Options) ->
    _ = process_flag(trap_exit, true),
    case prepare(Caller, Options) of
        {ok, Shell} ->
            proc_lib:init_ack({ok, self()}),
            gen_statem:enter_loop(?MODULE, [], open, Shell);
        {error, _} = Failed ->
            proc_lib:init_ack(Failed)
    end.

prepare(Caller, Options) ->
    case meerkat_client_start:prepare(Options) of
        {ok, #{core := Core, transport := Transport, server := Server, socket := SocketOptions}} ->
            Owner = maps:get(owner, Options, Caller),
            connected(#shell{core = Core, transport = Transport, server = Server,
                             socket_options = SocketOptions, owner = Owner,
                             monitor = monitor(process, Owner)});
        {error, _} = Failed ->
            Failed
    end.

connected(#shell{transport = Transport, server = Server, socket_options = Options} = Shell) ->
    case meerkat_client_socket:open(Transport, Server, Options) of
        {ok, Socket} -> {ok, Shell#shell{socket = Socket}};
        {error, _} = Failed -> Failed
    end.

%% ---------------------------------------------------------------------------------- gen_statem

-spec callback_mode() -> state_functions.
callback_mode() ->
    state_functions.

%% Never called: boot/2 enters the loop by itself.
-spec init(term()) -> ignore.
init(_) ->
    ignore.

%% The one state there is: the client serves. Its connection may have ended meanwhile.
-spec open(gen_statem:event_type(), term(), #shell{}) ->
          gen_statem:event_handler_result(open, #shell{}).
open(cast, {send, _, _} = Send, #shell{transport = Transport, dropped = Dropped} = Shell) ->
    case meerkat_client_socket:is_stream(Transport) andalso is_behind() of
        true -> {keep_state, Shell#shell{dropped = Dropped + 1}};
        false -> step(Send, Shell)
    end;
open({timeout, Timer}, elapsed, Shell) ->
    step({timeout, Timer}, Shell);
open({call, From}, close, _) ->
    {stop_and_reply, normal, [{reply, From, ok}]};
open({call, From}, info, Shell) ->
    {keep_state_and_data, [{reply, From, info_of(Shell)}]};
open({call, From}, way, Shell) ->
    {keep_state_and_data, [{reply, From, way_of(Shell)}]};
open({call, From}, Call, Shell) ->
    step({call, From, Call}, Shell);
open(internal, Event, Shell) ->
    step(Event, Shell);
open(info, {'DOWN', Monitor, process, _, _}, #shell{monitor = Monitor}) ->
    {stop, normal};
open(info, {'EXIT', Pid, Reason}, _) when is_pid(Pid), Reason =/= normal ->
    {stop, Reason};
open(info, _, #shell{socket = undefined}) ->
    keep_state_and_data;    % what a connection left behind still had to say
open(info, Message, #shell{socket = Socket} = Shell) ->
    case meerkat_client_socket:received(Message, Socket) of
        {ok, Packets, Next} ->
            steps([{datagram, Packet} || Packet <- Packets], Shell#shell{socket = Next});
        {lost, Packets, Reason} ->
            steps([{datagram, Packet} || Packet <- Packets] ++ [{disconnected, Reason}], Shell);
        {unreachable, Reason} ->
            step({unreachable, Reason}, Shell);
        {failed, Reason} ->
            {stop, {socket, Reason}};
        other ->
            keep_state_and_data    % what a socket left behind still had to say
    end.

is_behind() ->
    {message_queue_len, Waiting} = process_info(self(), message_queue_len),
    Waiting > ?WAITING_MAX.

info_of(#shell{core = Core, socket = Socket, transport = Transport, dropped = Dropped}) ->
    OfSocket = case Socket of
                   undefined -> #{transport => Transport};
                   _ -> meerkat_client_socket:info(Socket)
               end,
    maps:merge((meerkat_client_core:info(Core))#{dropped => Dropped}, OfSocket).

%% To a connection beside this one.
way_of(#shell{core = Core, transport = Transport, server = Server, socket_options = Options}) ->
    case meerkat_client_core:signing(Core) of
        {ok, Signing} -> {ok, #{transport => Transport, server => Server, socket => Options,
                                signing => Signing}};
        {error, _} = Failed -> Failed
    end.

%% An owner that is gone gets its `closed` like any other: nobody reads it.
-spec terminate(term(), open, #shell{}) -> ok.
terminate(Reason, open, #shell{socket = Socket} = Shell) ->
    _ = [begin
             _ = step(close, Shell),
             meerkat_client_socket:close(Socket)
         end || Socket =/= undefined],
    tell({closed, Reason}, Shell).

%% -------------------------------------------------------------------------------------- effects

step(Event, Shell) ->
    steps([Event], Shell).

%% What follows from one event is done before the next is looked at: a reply is one of the actions,
%% which gen_statem carries out in the end, in this order.
steps(Events, Shell) ->
    steps(Events, [], Shell).

steps([], Actions, Shell) ->
    {keep_state, Shell, Actions};
steps([Event | Rest], Actions, Shell00) ->
    #shell{core = Core0} = Shell0 = before(Event, Shell00),
    {Core, Effects} = meerkat_client_core:handle(Event, Core0),
    case run(Effects, [], Shell0#shell{core = Core}) of
        {keep_state, Shell, More} -> steps(Rest, Actions ++ More, Shell);
        {stop, Reason, More, Shell} ->
            {stop_and_reply, Reason, [A || {reply, _, _} = A <- Actions ++ More], Shell}
    end.

%% Nothing can be sent any more on what has ended.
before({disconnected, _}, #shell{socket = Socket} = Shell) ->
    _ = [ok = meerkat_client_socket:close(Socket) || Socket =/= undefined],
    Shell#shell{socket = undefined};
before(_, Shell) ->
    Shell.

%% Carries the effects out. Replies and timers are left to gen_statem, which knows both.
run([], Actions, Shell) ->
    {keep_state, Shell, lists:reverse(Actions)};
run([{transmit, Packet} | Rest], Actions, Shell0) ->
    case transmit(Packet, Shell0) of
        {ok, Shell} -> run(Rest, Actions, Shell);
        {Lost, Shell} -> run(Rest, [Lost | Actions], Shell)
    end;
run([{connect, Server} | Rest], Actions, Shell0) ->
    case move(Server, Shell0) of
        {ok, Shell} ->
            run(Rest, Actions, Shell);
        {error, Reason} ->
            {stop, {socket, Reason}, lists:reverse(Rest, Actions),
             Shell0#shell{socket = undefined}}
    end;
run([{owner, Event} | Rest], Actions, Shell) ->
    tell(Event, Shell),
    run(Rest, Actions, Shell);
run([{reply, From, Result} | Rest], Actions, Shell) ->
    run(Rest, [{reply, From, Result} | Actions], Shell);
run([{start_timer, Timer, Ms} | Rest], Actions, Shell) ->
    run(Rest, [{{timeout, Timer}, Ms, elapsed} | Actions], Shell);
run([{stop_timer, Timer} | Rest], Actions, Shell) ->
    run(Rest, [{{timeout, Timer}, cancel} | Actions], Shell).

%% What goes wrong the core hears once all it wanted is done, timers started included.
transmit(Packet, #shell{socket = undefined} = Shell0) ->
    case connected(Shell0) of
        {ok, Shell} -> transmit(Packet, Shell);
        {error, Reason} -> {{next_event, internal, {disconnected, Reason}}, Shell0}
    end;
transmit(Packet, #shell{socket = Socket, transport = Transport} = Shell) ->
    Connection = meerkat_client_socket:is_connection(Transport),
    case {meerkat_client_socket:send(Socket, Packet), Connection} of
        {ok, _} ->
            {ok, Shell};
        {{error, Full}, false} when Full =:= eagain; Full =:= enobufs; Full =:= emsgsize ->
            {ok, Shell};    % lost like any datagram may be
        {{error, Reason}, false} ->
            {{next_event, internal, {unreachable, Reason}}, Shell};
        {{error, Reason}, true} ->
            {{next_event, internal, {disconnected, Reason}}, Shell}
    end.

%% A connection is opened when there is something to send.
move(Server, #shell{socket = Socket, transport = Transport} = Shell0) ->
    _ = [ok = meerkat_client_socket:close(Socket) || Socket =/= undefined],
    Shell = Shell0#shell{server = Server, socket = undefined},
    case meerkat_client_socket:is_connection(Transport) of
        true -> {ok, Shell};
        false -> connected(Shell)
    end.

tell(Event, #shell{owner = Owner}) ->
    Owner ! {meerkat_client, self(), Event},
    ok.
