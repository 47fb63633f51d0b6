%% A TURN client for applications: one process, one UDP socket, one allocation (RFC 8489, RFC 8656).
%% It authenticates, retransmits, follows one redirection and keeps allocation, permissions and
%% channels alive by itself. What the messages mean it leaves to meerkat_client_core; it does no
%% ICE and speaks neither TCP nor TLS.
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
%% `server`    "turn:HOST[:PORT][?transport=udp]" (RFC 7065), or {Host, Port} with a name or an
%%             address. A name is looked up once, IPv4 first unless `local` says otherwise.
%% `username`, `password`
%%             long-term credentials (RFC 8489 9.2); used when the server asks for them.
%% `family`    of the relayed address. Default: the server's choice, which is inet (RFC 8656 7.2).
%% `local`     address, or address and port, to send from. Default: the system's choice.
%% `owner`     who gets the messages below, and whose end is the client's. Default: the caller.
%% `rto`, `rc`, `rm`
%%             retransmission as in RFC 8489 6.2.1: first interval in ms (500), requests sent (7),
%%             and how many `rto` to wait for an answer to the last (16).
-type options() :: #{server := unicode:chardata() | {host(), inet:port_number()},
                     username => unicode:chardata(),
                     password => unicode:chardata(),
                     family => inet | inet6,
                     local => inet:ip_address() | {inet:ip_address(), inet:port_number()},
                     owner => pid(),
                     rto => pos_integer(),
                     rc => pos_integer(),
                     rm => pos_integer()}.
-type host() :: inet:ip_address() | string() | binary().

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
%% socket: econnrefused says that the server's host knows nobody at that port. All of them can be
%% put in words by format_error/1.
-type error() :: meerkat_client_core:error()
               | closed
               | {unresolved, Host :: string(), timeout | inet:posix()}
               | {bad_uri, unicode:chardata(), meerkat_client_uri:problem()}
               | {unsupported_uri, unicode:chardata(), tls | tcp | string()}
               | {bad_option, atom()}.

%% What the owner gets. `via` says how the data came. `icmp`: the network's answer to something
%% sent to that peer (RFC 8656 11.5). `lost`: the allocation, a permission or a channel is no more,
%% though nobody released it; after {allocation, _} another may be asked for. `closed` is the last
%% message; a reason other than `normal` is a failure of the socket or an exit of a linked process.
-type message() :: {meerkat_client, pid(),
                    {data, Peer :: address(), Payload :: binary(), Via :: channel | indication}
                    | {icmp, Peer :: address(),
                       {Type :: byte(), Code :: byte(), Data :: 0..16#ffffffff}}
                    | {lost, meerkat_client_core:lost()}
                    | {closed, Reason :: term()}}.

-export_type([options/0, allocate_options/0, allocation/0, address/0, error/0, message/0]).

-record(shell, {core :: meerkat_client_core:state(),
                socket :: gen_udp:socket() | undefined,
                owner :: pid(),
                monitor :: reference(),
                local :: inet:ip_address() | any,
                local_port :: inet:port_number()}).

%% Payloads up to here fit a UDP datagram together with the headers of a Send indication.
-define(PAYLOAD_MAX, 65_000).
-define(ACTIVE, 100).
-define(SOCKET_BUFFER, 1_048_576).

%% ----------------------------------------------------------------------------------------- API

%% Starts a client and opens its socket; nothing is sent yet. Looks the host name up, which takes
%% as long as the resolver does.
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
    case [Name || {Name, Value} <- maps:to_list(Options), not valid(Name, Value)] of
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
%% without the server's permission, the payload is dropped. badarg on more than 65000 bytes.
-spec send(pid(), address(), iodata()) -> ok.
send(Client, Peer, Payload) ->
    Binary = iolist_to_binary(Payload),
    byte_size(Binary) =< ?PAYLOAD_MAX orelse error(badarg, [Client, Peer, Payload]),
    gen_statem:cast(Client, {send, peer(Peer), Binary}).

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

%% Addresses in use, and what is installed: `ignored` counts datagrams from the server that were
%% no valid answer or data. Never waits for the server.
-spec info(pid()) -> #{server := address(), local := address(), ignored := non_neg_integer(),
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
format_error({allocation, Reason}, Server) ->
    ["the allocation is lost: ", format_error(Reason, Server)];
format_error({permissions, Ips, Reason}, Server) ->
    ["the permission for ", lists:join(", ", [inet:ntoa(Ip) || Ip <- Ips]), " is lost: ",
     format_error(Reason, Server)];
format_error({channel, Peer, Reason}, Server) ->
    ["the channel to ", format_address(Peer), " is lost: ", format_error(Reason, Server)];
format_error({Code, Phrase}, Server) when is_integer(Code), is_binary(Phrase) ->
    Words = case lists:keyfind(Code, 1, error_codes()) of
                {_, Known} -> Known;
                false -> [Server, " refuses"]
            end,
    [integer_to_list(Code), [[" (", printable(Phrase), ")"] || Phrase =/= <<>>], ": ", Words];
format_error(timeout, Server) ->
    ["no answer from ", Server, ": a firewall, the wrong port, or the server is down"];
format_error(econnrefused, Server) ->
    ["nothing listens at ", Server, ": the wrong port, or the server is down"];
format_error(enetunreach, Server) ->
    ["this machine has no route to ", Server];
format_error(ehostunreach, Server) ->
    ["the network cannot deliver to the host of ", Server];
format_error(eperm, Server) ->
    ["a firewall on this machine forbids packets to ", Server];
format_error(nxdomain, _) ->
    "no such name";
format_error(bad_integrity, Server) ->
    ["what came back was not signed by ", Server, " with this password"];
format_error(bid_down, Server) ->
    [Server, " offers stronger password algorithms, but somebody on the way removes them"];
format_error(no_algorithm, Server) ->
    [Server, " offers no password algorithm that is known here"];
format_error(no_credentials, Server) ->
    [Server, " asks for a username and password, and none were given"];
format_error(no_allocation, _) ->
    "there is no allocation";
format_error(already_allocated, _) ->
    "there is an allocation already";
format_error(no_channels, _) ->
    "all 4096 channel numbers are taken";
format_error(expired, _) ->
    "it expired before it could be renewed";
format_error(closed, _) ->
    "the client is closed";
format_error({unknown_attributes, Types}, Server) ->
    [Server, " answers with attributes that are not understood: ",
     lists:join(", ", [io_lib:format("0x~4.16.0b", [Type]) || Type <- Types])];
format_error({bad_response, What}, Server) ->
    ["the answer of ", Server, " to ", atom_to_list(What), " lacks what it must have"];
format_error({unresolved, Host, nxdomain}, _) ->
    ["there is no host called ", Host];
format_error({unresolved, Host, timeout}, _) ->
    ["the name ", Host, " cannot be looked up: no resolver answers"];
format_error({unresolved, Host, Reason}, _) ->
    ["the name ", Host, " cannot be looked up: ", inet:format_error(Reason)];
format_error({bad_uri, Uri, Problem}, _) ->
    ["\"", Uri, "\" is no TURN URI: ", meerkat_client_uri:format_problem(Problem), ". Allowed: ",
     meerkat_client_uri:allowed()];
format_error({unsupported_uri, Uri, tls}, _) ->
    ["\"", Uri, "\" asks for TLS, but this client speaks TURN over UDP only: turn:"];
format_error({unsupported_uri, Uri, Transport}, _) ->
    ["\"", Uri, "\" asks for ", format_transport(Transport),
     ", but this client speaks TURN over UDP only"];
format_error({bad_option, Name}, _) ->
    ["the option ", atom_to_list(Name), " is missing, unknown or has a value it cannot have"];
format_error(Posix, _) when is_atom(Posix) ->
    inet:format_error(Posix).

%% "192.0.2.1:3478", "[2001:db8::1]:3478".
-spec format_address(address()) -> string().
format_address({Ip, Port}) when tuple_size(Ip) =:= 8 ->
    "[" ++ inet:ntoa(Ip) ++ "]:" ++ integer_to_list(Port);
format_address({Ip, Port}) ->
    inet:ntoa(Ip) ++ ":" ++ integer_to_list(Port).

%% RFC 8489 14.8, RFC 8656 19, RFC 8016 5, said to whoever has to mend it.
error_codes() ->
    [{300, "the server sends us on to another, which does not work"},
     {400, "the server takes our request for malformed"},
     {401, "wrong username or password"},
     {403, "the server forbids this peer address"},
     {405, "the server does not allow an allocation to move"},
     {420, "the server does not know an attribute of our request"},
     {437, "the server knows no allocation of ours, or one we do not know"},
     {438, "the server calls its own fresh nonce stale; its clock may jump"},
     {440, "the server has no relay address of this family"},
     {441, "these are not the credentials the allocation was made with"},
     {442, "the server does not relay over this transport"},
     {443, "the peer's address family is not that of the relayed address"},
     {446, "there is a connection to this peer already"},
     {447, "the server cannot reach the peer"},
     {486, "this user has as many allocations as the server allows"},
     {500, "the server has failed; its log may say why"},
     {508, "the server has no room: no free relay port, or a limit is reached"}].

%% A phrase comes off the wire: no control characters, and not the 763 bytes it may have.
printable(Phrase) ->
    [C || C <- lists:sublist(text(Phrase), 120), C >= $\s, C < 127 orelse C >= 160].

text(Binary) ->
    case unicode:characters_to_list(Binary) of
        Text when is_list(Text) -> Text;
        _ -> binary_to_list(Binary)
    end.

format_transport(Transport) when is_atom(Transport) -> atom_to_list(Transport);
format_transport(Transport) -> Transport.

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

valid(lifetime, V) -> is_integer(V) andalso V >= 0 andalso V =< 16#ffffffff;
valid(family, V) -> V =:= inet orelse V =:= inet6;
valid(even_port, V) -> V =:= even orelse V =:= reserve;
valid(reservation_token, V) -> is_integer(V) andalso V >= 0 andalso V =< 16#ffffffffffffffff;
valid(dont_fragment, V) -> is_boolean(V);
valid(_, _) -> false.

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
    try
        ok = check_options(Options),
        {LocalIp, LocalPort} = local(maps:get(local, Options, any)),
        Server = resolve(server(maps:get(server, Options)), LocalIp),
        Owner = maps:get(owner, Options, Caller),
        Config = maps:with([family, rto, rc, rm], Options),
        Core = meerkat_client_core:new(
            maps:merge(Config#{server => Server, movable => LocalPort =:= 0},
                       credentials(Options))),
        connect(Server, #shell{core = Core, owner = Owner, monitor = monitor(process, Owner),
                               local = LocalIp, local_port = LocalPort})
    catch
        throw:{start, Reason} -> {error, Reason}
    end.

check_options(Options) ->
    Known = [server, username, password, family, local, owner, rto, rc, rm],
    Unknown = maps:keys(maps:without(Known, Options)),
    Missing = [Name || {Name, Other} <- [{server, none}, {username, password},
                                         {password, username}],
                       not is_map_key(Name, Options),
                       Other =:= none orelse is_map_key(Other, Options)],
    Wrong = [Name || {Name, Value} <- maps:to_list(Options), not valid_option(Name, Value)],
    case Unknown ++ Missing ++ Wrong of
        [] -> ok;
        [Name | _] -> throw({start, {bad_option, Name}})
    end.

valid_option(family, V) -> valid(family, V);
valid_option(owner, V) -> is_pid(V);
valid_option(local, {Ip, Port}) when is_tuple(Ip) ->
    inet:is_ip_address(Ip) andalso is_integer(Port) andalso Port >= 0 andalso Port =< 65535;
valid_option(local, Ip) -> inet:is_ip_address(Ip);
valid_option(Name, V) when Name =:= rto; Name =:= rc; Name =:= rm -> is_integer(V) andalso V > 0;
valid_option(_, _) -> true.

local(any) -> {any, 0};
local({Ip, Port}) when is_tuple(Ip) -> {Ip, Port};
local(Ip) -> {Ip, 0}.

server({Host, Port}) when is_integer(Port), Port > 0, Port =< 65535 ->
    {Host, Port};
server({_, _}) ->
    throw({start, {bad_option, server}});
server(Uri) ->
    case meerkat_client_uri:parse(Uri) of
        {ok, #{scheme := turn, host := Host, port := Port, transport := Transport}}
          when Transport =:= default; Transport =:= udp ->
            {Host, Port};
        {ok, #{scheme := turns}} ->
            throw({start, {unsupported_uri, Uri, tls}});
        {ok, #{transport := Transport}} ->
            throw({start, {unsupported_uri, Uri, Transport}});
        {error, Reason} ->
            throw({start, Reason})
    end.

resolve({Host, Port}, Local) when is_binary(Host) ->
    resolve({text(Host), Port}, Local);
resolve({Host, Port}, Local) when is_list(Host) ->
    {resolve_name(Host, families(Local)), Port};
resolve({Ip, Port}, Local) ->
    inet:is_ip_address(Ip) orelse throw({start, {bad_option, server}}),
    lists:member(family(Ip), families(Local)) orelse throw({start, {bad_option, local}}),
    {Ip, Port}.

resolve_name(Host, [Family | More]) ->
    case inet:getaddr(Host, Family) of
        {ok, Ip} -> Ip;
        {error, _} when More =/= [] -> resolve_name(Host, More);
        {error, Reason} -> throw({start, {unresolved, Host, Reason}})
    end.

families(any) -> [inet, inet6];
families(Ip) -> [family(Ip)].

family(Ip) when tuple_size(Ip) =:= 4 -> inet;
family(_) -> inet6.

%% The OpaqueString profile (RFC 8489 9.2.2, RFC 8265 4.2): other spaces become the ASCII one, and
%% characters their composed form.
credentials(#{username := User, password := Password}) ->
    Secret = opaque_string(password, Password),
    #{username => opaque_string(username, User), password => fun() -> Secret end};
credentials(_) ->
    #{}.

opaque_string(Name, Text) ->
    try unicode:characters_to_nfc_list(Text) of
        [_ | _] = Composed -> unicode:characters_to_binary([space(C) || C <- Composed]);
        _ -> throw({start, {bad_option, Name}})
    catch
        error:badarg -> throw({start, {bad_option, Name}})
    end.

space(C) when C =:= 16#a0; C =:= 16#1680; C >= 16#2000, C =< 16#200a; C =:= 16#202f;
              C =:= 16#205f; C =:= 16#3000 -> $\s;
space(C) -> C.

%% ---------------------------------------------------------------------------------- gen_statem

-spec callback_mode() -> state_functions.
callback_mode() ->
    state_functions.

%% Never called: boot/2 enters the loop by itself.
-spec init(term()) -> ignore.
init(_) ->
    ignore.

%% The one state there is: the socket is open.
-spec open(gen_statem:event_type(), term(), #shell{}) ->
          gen_statem:event_handler_result(open, #shell{}).
open(info, {udp, Socket, _, _, Packet}, #shell{socket = Socket} = Shell) ->
    step({datagram, Packet}, Shell);
open(cast, {send, _, _} = Send, Shell) ->
    step(Send, Shell);
open({timeout, Timer}, elapsed, Shell) ->
    step({timeout, Timer}, Shell);
open(info, {udp_passive, Socket}, #shell{socket = Socket}) ->
    ok = inet:setopts(Socket, [{active, ?ACTIVE}]),
    keep_state_and_data;
open(info, {udp_error, Socket, Reason}, #shell{socket = Socket} = Shell) ->
    step({unreachable, Reason}, Shell);
open({call, From}, close, _) ->
    {stop_and_reply, normal, [{reply, From, ok}]};
open({call, From}, info, #shell{core = Core, socket = Socket}) ->
    {ok, Local} = inet:sockname(Socket),
    {keep_state_and_data,
     [{reply, From, (meerkat_client_core:info(Core))#{local => Local}}]};
open({call, From}, Call, Shell) ->
    step({call, From, Call}, Shell);
open(info, {'DOWN', Monitor, process, _, _}, #shell{monitor = Monitor}) ->
    {stop, normal};
open(info, {'EXIT', Socket, Reason}, #shell{socket = Socket}) ->
    {stop, {socket, Reason}};
open(info, {'EXIT', Pid, Reason}, _) when is_pid(Pid), Reason =/= normal ->
    {stop, Reason};
open(info, _, _) ->
    keep_state_and_data.    % what a socket left behind still had to say

%% An owner that is gone gets its `closed` like any other: nobody reads it.
-spec terminate(term(), open, #shell{}) -> ok.
terminate(Reason, open, Shell) ->
    _ = [step(close, Shell) || Shell#shell.socket =/= undefined],
    tell({closed, Reason}, Shell).

%% -------------------------------------------------------------------------------------- effects

step(Event, #shell{core = Core0} = Shell) ->
    {Core, Effects} = meerkat_client_core:handle(Event, Core0),
    run(Effects, [], Shell#shell{core = Core}).

%% Carries the effects out. Replies and timers are left to gen_statem, which knows both.
run([], Actions, Shell) ->
    {keep_state, Shell, lists:reverse(Actions)};
run([{transmit, Packet} | Rest], Actions, #shell{socket = Socket} = Shell) ->
    case gen_udp:send(Socket, Packet) of
        ok ->
            run(Rest, Actions, Shell);
        {error, Full} when Full =:= eagain; Full =:= enobufs; Full =:= emsgsize ->
            run(Rest, Actions, Shell);    % lost like any datagram may be
        {error, Reason} ->
            failed(Reason, Rest, Actions, Shell)
    end;
run([{connect, Server} | Rest], Actions, Shell0) ->
    ok = gen_udp:close(Shell0#shell.socket),
    case connect(Server, Shell0) of
        {ok, Shell} -> run(Rest, Actions, Shell);
        {error, Reason} ->
            {stop_and_reply, {socket, Reason}, [A || {reply, _, _} = A <- Rest ++ Actions],
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

%% The core hears of it once all it wanted is done, timers started included.
failed(Reason, Rest, Actions, Shell) ->
    Event = {next_event, info, {udp_error, Shell#shell.socket, Reason}},
    run(Rest, [Event | Actions], Shell).

tell(Event, #shell{owner = Owner}) ->
    Owner ! {meerkat_client, self(), Event},
    ok.

%% A connected socket takes nothing from anybody else and is told when nobody listens there.
connect({Ip, Port}, #shell{local = Local, local_port = LocalPort} = Shell) ->
    Family = family(Ip),
    Bind = [{ip, Local} || Local =/= any, family(Local) =:= Family]
        ++ [{ipv6_v6only, true} || Family =:= inet6],
    case gen_udp:open(LocalPort, [Family, binary, {active, ?ACTIVE}, {buffer, 65_536},
                                  {recbuf, ?SOCKET_BUFFER}, {sndbuf, ?SOCKET_BUFFER} | Bind]) of
        {ok, Socket} ->
            case gen_udp:connect(Socket, Ip, Port) of
                ok ->
                    {ok, Shell#shell{socket = Socket}};
                {error, _} = Failed ->
                    ok = gen_udp:close(Socket),
                    Failed
            end;
        {error, _} = Failed ->
            Failed
    end.
