%% Machines as there are, each with its own idea of what an address is: the case makes it, of the
%% namespaces that test/netns/host.sh draws, and is called by its kind. That needs root.
%%
%% Whether something arrives is asked of a service in the server's own namespace, bound to all
%% addresses there: behind what must not arrive a client is made to send what must.
-module(hosts_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([address_of_32_bits/1, address_without_broadcast/1, broadcast_address/1,
         more_than_256_addresses/1, anyip_route/1, ipv6_anycast_address/1,
         address_that_comes_is_own_at_once/1, relay_address_that_comes_later/1,
         relay_address_that_goes_and_comes_back/1, one_address_of_several_goes/1,
         ipv6_address_that_is_tentative/1,
         service_beside_it/1, service_on_the_relay_address/1, service_on_a_port_of_ours/1,
         ipv6_only/1, without_ipv6/1, without_any_address/1, address_that_changes/1,
         addresses_that_change_for_ever/1]).

-import(turn_kit, [doc/1, eventually/1, open/2, challenged/1, allocate/1, allocate/2, permit/2,
                   bind/3, send_to/3, data/1, get/2, code/1, success/1, expect/2]).

-define(RAF6, {requested_address_family, 2}).
-define(CLIENT, {11, 0, 0, 2}).
-define(CLIENT6, {16#2a0a, 1, 0, 0, 0, 0, 0, 2}).
-define(SERVER, {11, 0, 0, 1}).
-define(SERVER6, {16#2a0a, 1, 0, 0, 0, 0, 0, 1}).
%% Another address of the server, which it does not relay from.
-define(BESIDE, {11, 0, 0, 3}).
-define(PORT, 3478).
-define(SERVICE, 5555).
-define(NEVER, <<"never to be seen">>).
-define(TIMEOUT, 30000).

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 90}}].

-spec all() -> [atom()].
all() -> lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

-spec init_per_testcase(atom(), turn_kit:config()) -> turn_kit:config() | {fail, string()}.
init_per_testcase(_Case, Config) ->
    case string:trim(os:cmd("id -u")) of
        "0" -> lab("up"), [{netns, "server"} | ctl_kit:prepare(Config)];
        _ -> {fail, "only root may make network namespaces; run this suite as root"}
    end.

-spec end_per_testcase(atom(), turn_kit:config()) -> _.
end_per_testcase(_Case, Config) ->
    ctl_kit:clean(Config),
    lab("down").

%% ---------------------------------------------------------------------------------------- the lab

lab(Command) -> done(path(["netns", "host.sh"]), [Command, prefix()]).

done(Program, Args) ->
    Port = open_port({spawn_executable, Program}, [{args, Args}, exit_status, stderr_to_stdout]),
    done(Port, {Program, Args}, []).

done(Port, What, Said) ->
    receive
        {Port, {data, Data}} -> done(Port, What, [Said | Data]);
        {Port, {exit_status, 0}} -> ok;
        {Port, {exit_status, Status}} -> ct:fail("~tp: ~ts: status ~b", [What, Said, Status])
    end.

path(Parts) ->
    filename:join([code:lib_dir(meerkat), "..", "..", "..", "..", "test" | Parts]).

prefix() -> "mkhost-" ++ os:getpid().

room(Name) -> prefix() ++ "-" ++ Name.

netns(Name) -> "/run/netns/" ++ room(Name).

%% ip's words, in the server's room.
ip(Words) ->
    done(os:find_executable("ip"), ["-n", room("server") | string:lexemes(Words, " ")]).

setting(Name, Value) ->
    done(os:find_executable("ip"),
         ["netns", "exec", room("server"), "sysctl", "-qw", Name ++ "=" ++ Value]).

%% The relay program alone is inside; it takes all that is of the network from there.
start(Config, Overrides) ->
    Program = filename:join(proplists:get_value(priv_dir, Config), "host_relay"),
    Relay = os:getenv("MEERKAT_RELAY_PROGRAM",
                      filename:join(code:priv_dir(meerkat), "meerkat_relay")),
    ok = file:write_file(Program, ["#!/bin/sh\nexec ip netns exec ", room("server"), " ", Relay,
                                   "\n"]),
    ok = file:change_mode(Program, 8#755),
    turn_kit:start_server(maps:merge(#{listeners => [listener(any)], relay_program => Program,
                                       allowed_peers => []}, Overrides)).

listener(Ip) -> #{transport => udp, ip => Ip, port => ?PORT}.

relay(Ip) -> #{local => Ip, advertised => Ip, min_port => 49152, max_port => 65535}.

with(Config, Overrides, Fun) ->
    Server = start(Config, Overrides),
    try Fun(Server) after turn_kit:stop_server(Server) end.

client(Server) ->
    open(Server, #{netns => netns("client"), ip => ?CLIENT, to => {?SERVER, ?PORT}}).

client6(Server) ->
    open(Server, #{netns => netns("client"), ip => ?CLIENT6, to => {?SERVER6, ?PORT}}).

allocated(Server) -> relayed(challenged(client(Server)), []).

allocated6(Server) -> relayed(challenged(client6(Server)), [?RAF6]).

relayed(Client, Items) ->
    Client#{relayed => get(xor_relayed_address, success(allocate(Client, Items)))}.

parsed(Text) ->
    {ok, Ip} = inet:parse_address(Text),
    Ip.

%% Something else that runs on the server's machine, at one port of all its addresses.
service(Port, Family) ->
    {ok, Socket} = gen_udp:open(Port, [Family, binary, {active, false},
                                       {netns, netns("server")}]),
    Socket.

%% What it hears next that is not said to be heard by nobody.
heard(Service) ->
    {ok, {_Ip, _Port, Payload}} = gen_udp:recv(Service, 0, ?TIMEOUT),
    ?assertNotEqual(?NEVER, Payload),
    Payload.

%% Two clients of the server call each other through two relayed addresses of it.
call_each_other(Server) ->
    #{relayed := A} = Alice = allocated(Server),
    #{relayed := B} = Bob = allocated(Server),
    _ = success(permit(Alice, [B])),
    _ = success(permit(Bob, [A])),
    send_to(Alice, B, <<"hello">>),
    ?assertEqual({A, <<"hello">>}, data(Bob)).

%% None of the services on these addresses can be permitted, nor reached by what is permitted.
forbidden(Client, Ips) ->
    [begin
         ?assertEqual({Ip, 403}, {Ip, code(permit(Client, [{Ip, ?SERVICE}]))}),
         ?assertEqual({Ip, 403}, {Ip, code(bind(Client, 16#4000, {Ip, ?SERVICE}))}),
         send_to(Client, {Ip, ?SERVICE}, ?NEVER)
     end || Ip <- Ips].

logged(Fun) -> lists:flatten(lists:join("\n", log_kit:logged(Fun))).

not_ready(#{name := Name}) -> meerkat_health:not_ready(Name).

%% ------------------------------------------------------------------------- what is an own address

-spec address_of_32_bits(turn_kit:config()) -> _.
address_of_32_bits(Config) ->
    doc("an address that names itself for its broadcast address is an address (threats trap 6)"),
    ip("address add 20.0.0.5/32 dev r"),
    with(Config, #{relays => [relay({20, 0, 0, 5})]}, fun call_each_other/1).

-spec address_without_broadcast(turn_kit:config()) -> _.
address_without_broadcast(Config) ->
    doc("and so is one that has no broadcast address, as ip-address adds it"),
    ip("address add 20.0.0.5/24 dev r"),
    with(Config, #{relays => [relay({20, 0, 0, 5})]}, fun call_each_other/1).

-spec broadcast_address(turn_kit:config()) -> _.
broadcast_address(Config) ->
    doc("a broadcast address is no peer, and the log says why (X08)"),
    ip("address add 20.0.0.5/24 broadcast + dev r"),
    with(Config, #{relays => [relay({20, 0, 0, 5})]}, fun(Server) ->
        Logged = logged(fun() -> forbidden(allocated(Server), [{20, 0, 0, 255}]) end),
        ?assertMatch({match, _}, re:run(Logged, "403 for peer 20.0.0.255 \\(a broadcast address of "
                                        "this host; nothing opens a broadcast address\\)"))
    end).

-spec more_than_256_addresses(turn_kit:config()) -> _.
more_than_256_addresses(Config) ->
    doc("the last of 300 addresses is as little a peer as the first (X09)"),
    ip("address add 20.0.0.5/32 dev r"),
    Batch = filename:join(proplists:get_value(priv_dir, Config), "addresses"),
    ok = file:write_file(Batch, [io_lib:format("address add 9.9.~b.~b/32 dev r~n",
                                               [N div 100, N rem 100 + 1])
                                 || N <- lists:seq(0, 299)]),
    ip("-batch " ++ Batch),
    Service = service(?SERVICE, inet),
    with(Config, #{relays => [relay({20, 0, 0, 5})],
                   allowed_peers => [{?BESIDE, {?SERVICE, ?SERVICE}}]}, fun(Server) ->
        Client = allocated(Server),
        forbidden(Client, [{9, 9, 0, 1}, {9, 9, 2, 57}, {9, 9, 2, 100}]),
        reaches(Client, Service)
    end).

%% The way to that service is open, at the address that is allowed.
reaches(Client, Service) ->
    _ = success(permit(Client, [{?BESIDE, ?SERVICE}])),
    Mark = crypto:strong_rand_bytes(8),
    send_to(Client, {?BESIDE, ?SERVICE}, Mark),
    ?assertEqual(Mark, heard(Service)).

-spec anyip_route(turn_kit:config()) -> _.
anyip_route(Config) ->
    doc("a prefix that the kernel takes for its own is none of peers (X09)"),
    ip("address add 20.0.0.5/32 dev r"),
    ip("route add local 9.9.8.0/24 dev lo"),
    Service = service(?SERVICE, inet),
    with(Config, #{relays => [relay({20, 0, 0, 5})],
                   allowed_peers => [{?BESIDE, {?SERVICE, ?SERVICE}}]}, fun(Server) ->
        Client = allocated(Server),
        forbidden(Client, [{9, 9, 8, 0}, {9, 9, 8, 7}, {9, 9, 8, 255}]),
        reaches(Client, Service)
    end).

-spec ipv6_anycast_address(turn_kit:config()) -> _.
ipv6_anycast_address(Config) ->
    doc("a router's anycast address in each of its prefixes is its own (RFC 4291 2.6.1, X09)"),
    setting("net.ipv6.conf.all.forwarding", "1"),
    ip("address add 2a00:1:2:3::5/64 nodad dev r"),
    with(Config, #{relays => [relay(parsed("2a00:1:2:3::5"))]}, fun(Server) ->
        forbidden(allocated6(Server), [parsed("2a00:1:2:3::"), parsed("2a0a:1::")])
    end).

-spec address_that_comes_is_own_at_once(turn_kit:config()) -> _.
address_that_comes_is_own_at_once(Config) ->
    doc("a peer that was permitted is none any more when this machine gets its address (X09)"),
    ip("address add 20.0.0.5/32 dev r"),
    Service = service(?SERVICE, inet),
    with(Config, #{relays => [relay({20, 0, 0, 5})],
                   allowed_peers => [{?BESIDE, {?SERVICE, ?SERVICE}}]}, fun(Server) ->
        Client = allocated(Server),
        Later = {{9, 9, 7, 1}, ?SERVICE},
        _ = success(permit(Client, [Later])),
        ip("address add 9.9.7.1/32 dev r"),
        eventually(fun() -> code(permit(Client, [Later])) =:= 403 end),
        send_to(Client, Later, ?NEVER),
        reaches(Client, Service),
        ip("address del 9.9.7.1/32 dev r"),
        eventually(fun() -> code(permit(Client, [Later])) =/= 403 end)
    end).

%% -------------------------------------------------------------------------- addresses that change

-spec relay_address_that_comes_later(turn_kit:config()) -> _.
relay_address_that_comes_later(Config) ->
    doc("a relay address that is not there yet is waited for, and nothing takes its place"),
    with(Config, #{relays => [(relay({20, 0, 0, 5}))#{awaited => true}]}, fun(Server) ->
        ?assert(lists:member(no_address, not_ready(Server))),
        Client = challenged(client(Server)),
        expect(508, allocate(Client)),
        ip("address add 20.0.0.5/32 dev r"),
        eventually(fun() -> not_ready(Server) =:= [] end),
        call_each_other(Server)
    end).

-spec relay_address_that_goes_and_comes_back(turn_kit:config()) -> _.
relay_address_that_goes_and_comes_back(Config) ->
    doc("while the address is gone the server is not ready and says which it is"),
    ip("address add 20.0.0.5/32 dev r"),
    with(Config, #{relays => [relay({20, 0, 0, 5})]}, fun(Server) ->
        eventually(fun() -> not_ready(Server) =:= [] end),
        Logged = logged(fun() ->
            ip("address del 20.0.0.5/32 dev r"),
            eventually(fun() -> lists:member(no_address, not_ready(Server)) end),
            ip("address add 20.0.0.5/32 dev r"),
            eventually(fun() -> not_ready(Server) =:= [] end)
        end),
        ?assertMatch({match, _}, re:run(Logged, "20.0.0.5 is no address of this machine now")),
        ?assertMatch({match, _}, re:run(Logged, "20.0.0.5 is an address of this machine again")),
        call_each_other(Server)
    end).

-spec one_address_of_several_goes(turn_kit:config()) -> _.
one_address_of_several_goes(Config) ->
    doc("addresses that are gone are told, and others of their kind still serve"),
    ip("address add 20.0.0.5/32 dev r"),
    with(Config, #{listeners => [listener(?BESIDE), listener(?SERVER)],
                   relays => [relay(?SERVER), relay({20, 0, 0, 5})]}, fun(Server) ->
        Logged = logged(fun() ->
            ip("address del 20.0.0.5/32 dev r"),
            ip("address del 11.0.0.3/24 dev s"),
            eventually(fun() -> are_gone(Server) end)
        end),
        [?assertMatch({match, _}, re:run(Logged, Ip ++ " is no address of this machine now"))
         || Ip <- ["20.0.0.5", "11.0.0.3"]],
        ?assertEqual([], not_ready(Server)),
        call_each_other(Server)
    end).

are_gone(#{name := Name}) ->
    _ = meerkat_relay:stats(Name),
    #{pools := Pools, listeners := Listeners} =
        meerkat_store:get(Name, meerkat_addresses, host),
    {length(Pools), length(Listeners)} =:= {1, 1}.

-spec ipv6_address_that_is_tentative(turn_kit:config()) -> _.
ipv6_address_that_is_tentative(Config) ->
    doc("an address that duplicates are still looked for of serves when none was found"),
    setting("net.ipv6.conf.r.accept_dad", "1"),
    setting("net.ipv6.conf.all.accept_dad", "1"),
    ip("address add 2a00:1:2:3::5/64 dev r"),
    with(Config, #{relays => [(relay(parsed("2a00:1:2:3::5")))#{awaited => true}]}, fun(Server) ->
        eventually(fun() -> not_ready(Server) =:= [] end),
        ?assertMatch(#{relayed := {{16#2a00, 1, 2, 3, 0, 0, 0, 5}, _}}, allocated6(Server))
    end).

%% -------------------------------------------------------------------------- services beside it

-spec service_beside_it(turn_kit:config()) -> _.
service_beside_it(Config) ->
    doc("an own address is opened by an entry that names it, at these ports, and by no other"),
    Service = service(?SERVICE, inet),
    with(Config, #{relays => [relay(?SERVER)],
                   allowed_peers => [{{11, 0, 0, 0}, 24}]}, fun(Server) ->
        forbidden(allocated(Server), [?BESIDE]),        % by a network that holds it: not
        ok = meerkat:reload(maps:get(name, Server),
                            changed(Server, [{?BESIDE, {?SERVICE - 5, ?SERVICE + 5}}])),
        Client = allocated(Server),
        Other = service(?SERVICE + 6, inet),
        _ = success(permit(Client, [{?BESIDE, 1}])),
        send_to(Client, {?BESIDE, ?SERVICE + 6}, ?NEVER),
        expect(403, bind(Client, 16#4000, {?BESIDE, ?SERVICE + 6})),
        _ = success(bind(Client, 16#4001, {?BESIDE, ?SERVICE})),
        reaches(Client, Service),
        nothing(Other)
    end).

%% What came before the marks that others have seen would be here.
nothing(Service) ->
    ?assertEqual({error, timeout}, gen_udp:recv(Service, 0, 0)).

changed(#{name := Name}, Allowed) ->
    (meerkat_settings:config(meerkat_registry:settings(Name)))#{allowed_peers := Allowed}.

-spec service_on_the_relay_address(turn_kit:config()) -> _.
service_on_the_relay_address(Config) ->
    doc("clients call each other at the relay's address whatever else of it is open"),
    Service = service(?SERVICE, inet),
    with(Config, #{relays => [relay(?BESIDE)],
                   allowed_peers => [{?BESIDE, {?SERVICE, ?SERVICE}}]}, fun(Server) ->
        call_each_other(Server),
        reaches(allocated(Server), Service)
    end).

-spec service_on_a_port_of_ours(turn_kit:config()) -> _.
service_on_a_port_of_ours(Config) ->
    doc("whatever is allowed, what the server listens on is no peer (X09)"),
    {ok, Tcp} = gen_tcp:listen(0, []),
    {ok, Listening} = inet:port(Tcp),
    with(Config, #{relays => [relay(?SERVER)],
                   allowed_peers => [{?BESIDE, 32}, {?SERVER, 32}]}, fun(Server) ->
        Client = allocated(Server),
        _ = success(bind(Client, 16#4000, {?BESIDE, ?SERVICE})),
        [?assertEqual({Ip, Port, 403}, {Ip, Port, code(bind(Client, 16#4001, {Ip, Port}))})
         || Ip <- [?BESIDE, ?SERVER], Port <- [?PORT, 4369, Listening]],
        ok = meerkat:reload(maps:get(name, Server), changed(Server, [{?BESIDE, {?PORT, ?PORT}}])),
        %% Nothing of it could ever be used.
        Logged = logged(fun() ->
            expect(403, permit(Client, [{?BESIDE, ?PORT}]))
        end),
        ?assertMatch({match, _}, re:run(Logged, "ports that this server uses itself; nothing "
                                        "opens"))
    end),
    ok = gen_tcp:close(Tcp).

%% ---------------------------------------------------------------------------- one family or none

-spec ipv6_only(turn_kit:config()) -> _.
ipv6_only(Config) ->
    doc("a machine without IPv4 serves IPv6, and says to whom it answers 440"),
    ip("address flush dev s scope global"),
    ip("address add 2a0a:1::1/64 nodad dev s"),
    ip("-6 route replace default via 2a0a:1::2"),
    {Server, Printed} = ctl_kit:start(in_server(Config),
                                      [{"LISTEN_IP", "any"}, {"LISTEN_PORT", "3478"},
                                       {"RELAY_IP", ""}]),
    ?assertMatch({match, _}, re:run(Printed, "there is no IPv4 address to relay from: clients that "
                                    "ask for no address family, as browsers do")),
    ?assertMatch({match, _}, re:run(ctl_kit:line("TURN", Printed), "turn:\\[2a0a:1::1\\]:3478")),
    {_, Found} = ctl_kit:run(in_server(Config), ["doctor"]),
    ?assertMatch({match, _}, re:run(Found, "there is no IPv4 address to relay from: browsers")),
    Client = challenged(client6(foreign())),
    expect(440, allocate(Client)),
    ?assertMatch(#{relayed := {?SERVER6, _}}, relayed(Client, [?RAF6])),
    ctl_kit:stop(Server, "TERM").

in_server(Config) -> [{netns, room("server")} | proplists:delete(netns, Config)].

%% The one that runs inside, for clients.
foreign() ->
    #{name => foreign, foreign => true, realm => <<"udp.localhost.local">>,
      secret => <<"hunter2">>, ip => ?SERVER, port => ?PORT, listeners => [{?SERVER, ?PORT}],
      users => #{}}.

-spec without_ipv6(turn_kit:config()) -> _.
without_ipv6(Config) ->
    doc("a machine without IPv6 serves IPv4"),
    setting("net.ipv6.conf.all.disable_ipv6", "1"),
    setting("net.ipv6.conf.default.disable_ipv6", "1"),
    {Server, Printed} = ctl_kit:start(in_server(Config),
                                      [{"LISTEN_IP", "any"}, {"LISTEN_PORT", "3478"},
                                       {"RELAY_IP", ""}]),
    ?assertMatch({match, _}, re:run(ctl_kit:line("TURN", Printed), "turn:11.0.0.1:3478")),
    call_each_other(foreign()),
    ctl_kit:stop(Server, "TERM").

-spec without_any_address(turn_kit:config()) -> _.
without_any_address(Config) ->
    doc("nothing is relayed from loopback by itself: without an address the server waits for one"),
    ip("address flush dev s scope global"),
    {Server, Printed} = ctl_kit:start(in_server(Config),
                                      [{"LISTEN_IP", "any"}, {"LISTEN_PORT", "3478"},
                                       {"RELAY_IP", ""}]),
    ?assertMatch({match, _}, re:run(Printed, "this machine has no address to relay from yet")),
    ?assertEqual(nomatch, re:run(Printed, "127\\.0\\.0\\.1")),
    {0, Status} = ctl_kit:run(in_server(Config), ["status"]),
    ?assertMatch({match, _}, re:run(Status, "not ready: this machine does not have the address")),
    {1, Found} = ctl_kit:run(in_server(Config), ["doctor"]),
    ?assertMatch({match, _}, re:run(Found, "this machine has no address to relay from")),
    ip("address add 11.0.0.1/24 broadcast + dev s"),
    ip("route add default via 11.0.0.2"),
    _ = ctl_kit:until(Server, "addresses have changed: relaying from 11.0.0.1"),
    call_each_other(foreign()),
    ctl_kit:stop(Server, "TERM").

-spec address_that_changes(turn_kit:config()) -> _.
address_that_changes(Config) ->
    doc("what is relayed from follows the address of the default route"),
    {Server, _} = ctl_kit:start(in_server(Config), [{"LISTEN_IP", "any"}, {"LISTEN_PORT", "3478"},
                                                    {"RELAY_IP", ""}]),
    #{relayed := {?SERVER, _}} = allocated(foreign()),
    ip("address add 11.0.0.9/24 broadcast + dev s"),
    ip("route replace default via 11.0.0.2 src 11.0.0.9"),
    ip("address del 11.0.0.3/24 dev s"),        % whatever: something has changed
    _ = ctl_kit:until(Server, "addresses have changed: relaying from 11.0.0.9"),
    #{relayed := {{11, 0, 0, 9}, _}} = allocated(foreign()),
    ctl_kit:stop(Server, "TERM").

-spec addresses_that_change_for_ever(turn_kit:config()) -> _.
addresses_that_change_for_ever(Config) ->
    doc("the 257th relay address is as good as the first: those that nobody uses are forgotten"),
    with(Config, #{relays => [relay(?SERVER)]}, fun(#{name := Name} = Server) ->
        [begin
             Relay = (relay(?SERVER))#{min_port := 20000 + N, max_port := 20099 + N},
             Now = (meerkat_settings:config(meerkat_registry:settings(Name)))#{relays := [Relay]},
             ok = meerkat:reload(Name, Now)
         end || N <- lists:seq(1, 300)],
        #{relayed := {?SERVER, Port}} = allocated(Server),
        ?assert(Port >= 20300 andalso Port =< 20399),
        #{retired := Retired} = meerkat_registry:settings(Name),
        ?assert(length(Retired) < meerkat_ctl:limit(pools_max))
    end).
