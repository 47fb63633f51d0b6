%% The kernel's own path (docs/design/offload.md), between network namespaces: real clients and
%% peers, and packets that pass the relay's sockets or do not, which its counters tell. That what
%% leaves is the same byte for byte, and what odd packets come to, is in test/c/unit/offload.c.
%%
%% Needs root and a kernel that lets it load programs; where that is refused the cases are skipped
%% and say why.
-module(offload_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([busy_channels/1, families_mixed/1, icmp_comes_back/1, reload_in_mid_flow/1,
         forbidden_at_once/1, deleted_at_once/1, relay_killed/1, relay_hangs/1, by_xdp/1,
         gives_rights_back/1, without_rights/1, bytecode_is_of_the_source/1]).

-import(turn_kit, [doc/1, open/2, challenged/1, allocate/2, success/1, bind/3, channel/3, next/1,
                   peer/2, peer_send/3, peer_next/1, get/2, counter/2, delete/1, eventually/1,
                   close/1]).

-define(CLIENT, {11, 0, 0, 2}).
-define(CLIENT6, {16#2a0a, 1, 0, 0, 0, 0, 0, 2}).
-define(SERVER, {11, 0, 0, 1}).
-define(SERVER6, {16#2a0a, 1, 0, 0, 0, 0, 0, 1}).
-define(PEER, {12, 0, 0, 2}).
-define(PEER6, {16#2a0a, 2, 0, 0, 0, 0, 0, 2}).
-define(RELAY, {12, 0, 0, 1}).
-define(RELAY6, {16#2a0a, 2, 0, 0, 0, 0, 0, 1}).
-define(PORT, 3478).
-define(CHANNEL, 16#4001).
%% More than make a channel hot.
-define(BURST, 60).

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 90}}].

-spec all() -> [atom()].
all() ->
    [busy_channels, families_mixed, icmp_comes_back, reload_in_mid_flow, forbidden_at_once,
     deleted_at_once, relay_killed, relay_hangs, gives_rights_back, by_xdp, without_rights,
     bytecode_is_of_the_source].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config() | {skip, string()}.
init_per_suite(Config) ->
    case string:trim(os:cmd("id -u")) of
        "0" ->
            ok = lab("up"),
            case refused() of
                [] -> [{server, start(Config, "tc", #{offload => tc})} | Config];
                Why -> ok = lab("down"), {skip, Why}
            end;
        _ -> {skip, "only root may make network namespaces and load programs"}
    end.

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) ->
    ok = turn_kit:stop_server(server(Config)),
    lab("down").

-spec init_per_testcase(atom(), turn_kit:config()) -> turn_kit:config().
init_per_testcase(_Case, Config) -> Config.

-spec end_per_testcase(atom(), turn_kit:config()) -> ok.
end_per_testcase(_Case, _Config) -> ok.

%% What the relay program itself says of its interfaces.
refused() ->
    Said = os:cmd(["ip netns exec ", room("server"), " ", relay(), " --offload"]),
    case re:run(Said, "\"reason\":\"([^\"]*)\"", [{capture, all_but_first, list}]) of
        {match, [Why]} -> "nothing is loaded here: " ++ Why;
        nomatch -> []
    end.

%% ------------------------------------------------------------------------------------- the lab

lab(Command) ->
    Script = filename:join([code:lib_dir(meerkat), "..", "..", "..", "..", "test", "netns",
                            "offload.sh"]),
    Port = open_port({spawn_executable, Script},
                     [{args, [Command, prefix()]}, exit_status, stderr_to_stdout]),
    lab_done(Port, []).

lab_done(Port, Said) ->
    receive
        {Port, {data, Data}} -> lab_done(Port, [Said | Data]);
        {Port, {exit_status, 0}} -> ok;
        {Port, {exit_status, Status}} -> ct:fail("~ts: status ~b", [Said, Status])
    end.

prefix() -> "mkoffload-" ++ os:getpid().
room(Room) -> prefix() ++ "-" ++ Room.
netns(Room) -> "/run/netns/" ++ room(Room).

relay() ->
    os:getenv("MEERKAT_RELAY_PROGRAM", filename:join(code:priv_dir(meerkat), "meerkat_relay")).

start(Config, Name, Overrides) -> start(Config, Name, "", Overrides).

%% The relay program alone is inside, started by Before.
start(Config, Name, Before, Overrides) ->
    Program = filename:join(proplists:get_value(priv_dir, Config), Name ++ "_relay"),
    ok = file:write_file(Program, ["#!/bin/sh\nexec ip netns exec ", room("server"), " ", Before,
                                   " ", relay(), "\n"]),
    ok = file:change_mode(Program, 8#755),
    turn_kit:start_server(maps:merge(#{
        relay_program => Program, allowed_peers => [], workers => 1,
        listeners => [#{transport => udp, ip => Ip, port => ?PORT} || Ip <- [?SERVER, ?SERVER6]],
        relays => [#{local => Ip, advertised => Ip, min_port => 49152, max_port => 65535}
                   || Ip <- [?RELAY, ?RELAY6]]}, Overrides)).

server(Config) -> proplists:get_value(server, Config).

%% ------------------------------------------------------------------------------------ the flow

%% A client with a channel to a peer.
flow(Server) -> flow(Server, ?CLIENT, ?PEER, "peer").

flow(Server, From, Ip, Room) ->
    Client = challenged(open(Server, #{netns => netns("client"), ip => From,
                                       family => family(From)})),
    Items = [{requested_address_family, 2} || family(Ip) =:= v6],
    Relayed = get(xor_relayed_address, success(allocate(Client, Items))),
    Peer = peer(Ip, #{netns => netns(Room)}),
    success(bind(Client, ?CHANNEL, Peer)),
    {Client#{relayed => Relayed}, Peer}.

family(Ip) -> case tuple_size(Ip) of 4 -> v4; 8 -> v6 end.

close_flow({Client, Peer}) ->
    _ = delete(Client),
    ok = close(Client),
    close(Peer).

%% So many packets each way, each of which arrives: of one byte and more, and another each time.
talk(Flow, N) -> [ok = both_ways(Flow, I) || I <- lists:seq(1, N)].

both_ways({#{relayed := Relayed} = Client, Peer}, I) ->
    Said = crypto:strong_rand_bytes(1 + (37 * I) rem 1180),
    channel(Client, ?CHANNEL, Said),
    {Relayed, Said} = peer_next(Peer),
    peer_send(Peer, Relayed, Said),
    Size = byte_size(Said),
    <<?CHANNEL:16, Size:16, Said:Size/binary>> = next(Client),
    ok.

offloaded(Server) -> counter(Server, offload_packets).

%% Talks until packets go by the kernel's path, and so much later than that.
hot(Server, Flow) ->
    Before = offloaded(Server),
    eventually(fun() ->
        _ = talk(Flow, ?BURST),
        offloaded(Server) >= Before + 2 * ?BURST
    end).

info(#{server := #{name := Name}, relayed := Relayed}) ->
    [Session] = [S || #{session := S, relayed := Those} <- meerkat:allocations(Name),
                      lists:member(Relayed, Those)],
    {ok, Details} = meerkat:allocation(Name, Session),
    Details.

%% ----------------------------------------------------------------------------------- the cases

-spec busy_channels(turn_kit:config()) -> _.
busy_channels(Config) ->
    doc("a channel that is busy is relayed in the kernel, across two interfaces; nothing is lost "
        "on the change, and the allocation's counters are those of what came"),
    Server = server(Config),
    {Client, _} = Flow = flow(Server),
    _ = talk(Flow, ?BURST),
    ok = hot(Server, Flow),
    #{client_packets := Before, peer_packets := Before} = info(Client),
    _ = talk(Flow, ?BURST),
    After = Before + ?BURST,
    ?assertMatch(#{client_packets := After, peer_packets := After, dropped := 0}, info(Client)),
    close_flow(Flow).

-spec families_mixed(turn_kit:config()) -> _.
families_mixed(Config) ->
    doc("clients and peers over IPv4 and IPv6, in each way but the one of all other cases"),
    Server = server(Config),
    [begin
         Flow = flow(Server, Client, Peer, "peer"),
         ok = hot(Server, Flow),
         close_flow(Flow)
     end || {Client, Peer} <- [{?CLIENT, ?PEER6}, {?CLIENT6, ?PEER}, {?CLIENT6, ?PEER6}]].

-spec icmp_comes_back(turn_kit:config()) -> _.
icmp_comes_back(Config) ->
    doc("the peer is gone: the ICMP error comes to the relayed socket, as ever (RFC8656 11.5)"),
    Server = server(Config),
    {Client, #{address := Address} = Peer} = Flow = flow(Server),
    ok = hot(Server, Flow),
    ok = close(Peer),
    channel(Client, ?CHANNEL, <<"is anybody there">>),
    {ok, #{class := indication, method := data, attributes := Attributes}} =
        stun_model:decode(next(Client)),
    ?assertEqual([{icmp, {3, 3, 0}}, {xor_peer_address, Address}], lists:sort(Attributes)),
    _ = delete(Client),
    close(Client).

-spec reload_in_mid_flow(turn_kit:config()) -> _.
reload_in_mid_flow(Config) ->
    doc("a new policy that lets the peer be: sockets take over at once and nothing is lost, then "
        "the kernel again"),
    #{name := Name} = Server = server(Config),
    Flow = flow(Server),
    ok = hot(Server, Flow),
    ok = reload(Name, #{denied_peers => [{{13, 0, 0, 0}, 8}]}),
    _ = talk(Flow, ?BURST),
    ok = hot(Server, Flow),
    ok = reload(Name, #{denied_peers => []}),
    close_flow(Flow).

-spec forbidden_at_once(turn_kit:config()) -> _.
forbidden_at_once(Config) ->
    doc("a new policy that forbids the peer: nothing goes to it once the reload has returned"),
    #{name := Name} = Server = server(Config),
    {Client, Peer} = Flow = flow(Server),
    ok = hot(Server, Flow),
    ok = reload(Name, #{denied_peers => [{?PEER, 32}]}),
    channel(Client, ?CHANNEL, <<"never">>),
    unheard(Client, Peer),
    ok = reload(Name, #{denied_peers => []}),
    _ = delete(Client),
    close(Client).

%% Whatever of it was sent would have come before this, which follows it.
unheard(Client, #{address := {Ip, Port}} = Peer) ->
    ok = turn_kit:fence(Client),
    {ok, Socket} = gen_udp:open(0, [binary, {netns, netns("server")}]),
    ok = gen_udp:send(Socket, Ip, Port, <<"proof">>),
    {_, <<"proof">>} = peer_next(Peer),
    gen_udp:close(Socket).

-spec deleted_at_once(turn_kit:config()) -> _.
deleted_at_once(Config) ->
    doc("the answer to the Refresh that ends the allocation is the last that its client gets"),
    Server = server(Config),
    {#{relayed := Relayed} = Client, Peer} = Flow = flow(Server),
    ok = hot(Server, Flow),
    _ = delete(Client),
    peer_send(Peer, Relayed, <<"never">>),
    ok = turn_kit:fence(maps:remove(key, Client)),
    ok = close(Client),
    close(Peer).

-spec relay_killed(turn_kit:config()) -> _.
relay_killed(Config) ->
    doc("kill -9 of the relay with live entries: the next one takes the flow up, by its own"),
    Server = server(Config),
    Flow = flow(Server),
    ok = hot(Server, Flow),
    ok = turn_kit:kill_relay(Server),
    ok = eventually(fun() -> is_back(Flow) end),
    ok = hot(Server, Flow),
    close_flow(Flow).

%% The next relay has its sockets: what is sent meanwhile is lost, as by any relay that dies.
is_back({Client, #{socket := Socket}}) ->
    Said = crypto:strong_rand_bytes(8),
    channel(Client, ?CHANNEL, Said),
    receive {udp, Socket, _, _, Said} -> forget(Socket) after 100 -> false end.

%% What was sent before has come before.
forget(Socket) ->
    receive {udp, Socket, _, _, _} -> forget(Socket) after 0 -> true end.

-spec relay_hangs(turn_kit:config()) -> _.
relay_hangs(Config) ->
    doc("a relay that stands still: within seconds its entries are over, though their channels are "
        "not; what is sent then waits in its sockets, and is there when it goes on"),
    #{name := Name} = Server = server(Config),
    {Client, Peer} = Flow = flow(Server),
    ok = hot(Server, Flow),
    {os_pid, Shell} = erlang:port_info(meerkat_roles:find(Name, port), os_pid),
    Pid = integer_to_list(Shell),
    [] = os:cmd("kill -STOP " ++ Pid),
    Waits = try over(Client, Peer, 0) after [] = os:cmd("kill -CONT " ++ Pid) end,
    {_, Waits} = peer_next(Peer),
    _ = talk(Flow, 5),
    close_flow(Flow).

%% The first packet that is not relayed while nobody is there to relay it but the kernel.
over(Client, #{socket := Socket} = Peer, N) ->
    Said = <<"packet ", (integer_to_binary(N))/binary>>,
    channel(Client, ?CHANNEL, Said),
    receive
        {udp, Socket, _, _, Said} -> over(Client, Peer, N + 1)
    after 500 -> Said
    end.

-spec gives_rights_back(turn_kit:config()) -> _.
gives_rights_back(Config) ->
    doc("once the program is attached no thread of the relay has CAP_BPF or CAP_PERFMON"),
    #{name := Name} = server(Config),
    {os_pid, Pid} = erlang:port_info(meerkat_roles:find(Name, port), os_pid),
    Threads = filelib:wildcard(lists:concat(["/proc/", Pid, "/task/*/status"])),
    ?assert(length(Threads) >= 2),
    [begin
         {ok, Status} = file:read_file(File),
         {match, [Hex]} = re:run(Status, "CapPrm:\\s*([0-9a-f]+)", [{capture, [1], binary}]),
         ?assertEqual(0, binary_to_integer(Hex, 16) band (3 bsl 38))
     end || File <- Threads].

-spec by_xdp(turn_kit:config()) -> _.
by_xdp(Config) ->
    doc("XDP, where packets leave by the interface they came by"),
    Server = start(Config, "xdp", #{
        offload => xdp, offload_interfaces => [<<"s">>],
        listeners => [#{transport => udp, ip => ?SERVER, port => ?PORT + 1}],
        relays => [#{local => ?SERVER, advertised => ?SERVER, min_port => 49152,
                     max_port => 65535}]}),
    Flow = flow(Server, ?CLIENT, ?CLIENT, "client"),
    ok = hot(Server, Flow),
    close_flow(Flow),
    turn_kit:stop_server(Server).

-spec without_rights(turn_kit:config()) -> _.
without_rights(Config) ->
    doc("without the capabilities one line says so, and sockets serve"),
    Lines = log_kit:logged(fun() ->
        Server = start(Config, "bare", "setpriv --bounding-set -bpf,-perfmon,-sys_admin,-net_admin",
                       #{offload => auto,
                         listeners => [#{transport => udp, ip => ?SERVER, port => ?PORT + 2}],
                         relays => [#{local => ?SERVER, advertised => ?SERVER, min_port => 30000,
                                      max_port => 40000}]}),
        Flow = flow(Server),
        _ = talk(Flow, 2 * ?BURST),
        ?assertEqual(0, offloaded(Server)),
        close_flow(Flow),
        turn_kit:stop_server(Server)
    end),
    ?assertMatch([_], [Line || Line <- Lines, string:find(Line, "offload: ") =/= nomatch,
                               string:find(Line, "CAP_BPF") =/= nomatch]).

-spec bytecode_is_of_the_source(turn_kit:config()) -> _ | {skip, string()}.
bytecode_is_of_the_source(Config) ->
    doc("the program in the tree is what clang makes of its source; where another clang, or other "
        "headers of Linux are, it makes other bytes"),
    Root = filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."]),
    Dir = filename:absname(proplists:get_value(priv_dir, Config)),
    Said = os:cmd(["make -s -C ", Root, "/c_src bytecode BUILD=", Dir, "/c BYTECODE=", Dir,
                   "/bytecode.inc 2>&1"]),
    {ok, Kept} = file:read_file(filename:join([Root, "c_src", "offload", "bytecode.inc"])),
    {ok, Made} = case file:read_file(filename:join(Dir, "bytecode.inc")) of
                     {error, enoent} -> ct:fail("~ts", [Said]);
                     Read -> Read
                 end,
    case {first_line(Kept), first_line(Made)} of
        {Same, Same} -> ?assertEqual(Kept, Made);
        {By, Here} -> {skip, unicode:characters_to_list([By, " is not ", Here])}
    end.

first_line(Text) -> hd(binary:split(Text, <<"\n">>)).

reload(Name, Changes) ->
    #{config := Config} = meerkat_registry:settings(Name),
    meerkat:reload(Name, maps:merge(Config(), Changes)).
