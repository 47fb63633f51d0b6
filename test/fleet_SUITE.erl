%% A fleet: three nodes of one distribution, each with a server and a relay of its own, that are
%% asked together, keep at one about who may come in, and are cut from one another and joined again.
%% five_nodes, which is run by `make fleet`, has all of it in one, under traffic.
-module(fleet_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([nodes_find_one_another/1, asked_together/1, meerkatctl_asks_all/1,
         one_is_drained_by_its_name/1, disconnected_everywhere/1, revoked_everywhere/1,
         who_was_cut_off_hears_of_it/1, who_joins_later_hears_of_it/1,
         a_nonce_is_good_at_another_node/1, the_page_is_right/1, a_node_that_dies_is_named/1,
         a_node_that_hangs_is_named/1, a_reload_joins_and_leaves/1, alone_it_is_in_no_fleet/1,
         nodes_by_name_and_by_part/1, one_quota_on_all_nodes/1, a_realm_has_one_quota/1,
         a_quota_while_cut_off/1]).
%% make fleet
-export([five_nodes/1]).
%% In the nodes.
-export([serve/2, log/2]).

-import(turn_kit, [doc/1, eventually/1, allocated/3, open/2, challenged/1, allocate/1, call/3,
                   expect/2, success/1, with_server/2]).

-define(NODES, [1, 2, 3]).
%% Between the deadline of an answer, 5 s, and the patience of a test.
-define(TIMEOUT, 60000).

all() ->
    [nodes_find_one_another, asked_together, meerkatctl_asks_all, one_is_drained_by_its_name,
     disconnected_everywhere, revoked_everywhere, who_was_cut_off_hears_of_it,
     who_joins_later_hears_of_it, a_nonce_is_good_at_another_node, the_page_is_right,
     a_node_that_dies_is_named, a_node_that_hangs_is_named, a_reload_joins_and_leaves,
     alone_it_is_in_no_fleet, nodes_by_name_and_by_part, one_quota_on_all_nodes,
     a_realm_has_one_quota, a_quota_while_cut_off].

suite() -> [{timetrap, {minutes, 2}}].

%% All listen for each other at one port, each at an address of its own of the loopback interface:
%% no epmd is needed.
init_per_suite(Config) ->
    ctl_kit:prepare([{port, turn_kit:free_tcp_port()} | Config]).

end_per_suite(_Config) ->
    ok.

init_per_testcase(Case, Config) when Case =:= alone_it_is_in_no_fleet;
                                     Case =:= nodes_by_name_and_by_part ->
    Config;
init_per_testcase(Case, Given) ->
    %% Its relays outlive their nodes.
    Config = case Case of
        five_nodes -> [{numbers, lists:seq(1, 5)}, {survive, 60} | Given];
        _ -> Given
    end,
    Fleet = [start(N, Config) || N <- numbers(Config)],
    ok = together(Fleet),
    [{fleet, Fleet} | Config].

end_per_testcase(_Case, Config) ->
    lists:foreach(fun stop/1, proplists:get_value(fleet, Config, [])).

%%% Who is there

nodes_find_one_another(Config) ->
    doc("each node that is named is a member of all others, and metrics say so"),
    [A, B, C] = Fleet = fleet(Config),
    _ = [?assertEqual(names([A, B, C]), members(Node)) || Node <- Fleet],
    Snapshot = in(A, meerkat_metrics, snapshot, [default]),
    Metrics = unicode:characters_to_binary(meerkat_metrics:text(Snapshot)),
    ?assertMatch({match, _}, re:run(Metrics, "\nmeerkat_fleet_members 3\n")),
    ?assertMatch({match, _}, re:run(Metrics, "\nmeerkat_fleet_missing 0\n")).

nodes_by_name_and_by_part(_Config) ->
    doc("a node is meant by its whole name, its host, or its own part where no other has the same"),
    Nodes = ['a@10.0.0.1', 'a@10.0.0.2', 'b@10.0.0.3'],
    Find = fun(Text) -> meerkat_fleet_nodes:find(Text, Nodes) end,
    ?assertEqual({ok, 'a@10.0.0.2'}, Find(<<"a@10.0.0.2">>)),
    ?assertEqual({ok, 'a@10.0.0.2'}, Find(<<"10.0.0.2">>)),
    ?assertEqual({ok, 'b@10.0.0.3'}, Find(<<"b">>)),
    ?assertEqual({error, ['a@10.0.0.1', 'a@10.0.0.2']}, Find(<<"a">>)),
    ?assertEqual({error, none}, Find(<<"10.0.0.4">>)).

alone_it_is_in_no_fleet(_Config) ->
    doc("a server without the key fleet is asked for one in vain, and revokes by itself"),
    with_server(#{}, fun(#{name := Name}) ->
        ?assertEqual(none, meerkat_fleet:info(Name)),
        ?assertError(badarg, meerkat_fleet:status(Name)),
        ?assertMatch({error, <<"this server is in no fleet", _/binary>>},
                     meerkat_fleet_admin:handle({fleet, [status]}, Name, node)),
        ?assertEqual({ok, 0}, meerkat:revoke(Name, <<"alice">>))
    end).

a_node_that_dies_is_named(Config) ->
    doc("kill -9 of a node: the others say that it is missing, and their calls go on"),
    [A, B, C] = fleet(Config),
    Client = allocated(B, [], #{user => <<"alice">>}),
    ok = kill(C),
    eventually(fun() -> missing(A) =:= names([C]) end),
    #{answers := Answers, silent := Silent} = in(A, meerkat_fleet, status, [default]),
    ?assertEqual(names([A, B]), [Node || {Node, {ok, _}} <- Answers]),
    ?assertEqual(names([C]), Silent),
    success(call(Client, refresh, [{lifetime, 600}])).

a_node_that_hangs_is_named(Config) ->
    doc("SIGSTOP of a node: within the time of an answer the others' answers are there, and it is "
        "named and counted"),
    [A, B, #{os_pid := OsPid} = C] = fleet(Config),
    ok = process_kit:hold(OsPid),
    try in(A, meerkat_fleet, status, [default]) of
        #{answers := Answers, silent := Silent} ->
            ?assertEqual(names([A, B]), [Node || {Node, {ok, _}} <- Answers]),
            ?assertEqual(names([C]), Silent),
            ?assertMatch(#{unanswered := 1}, in(A, meerkat_fleet, info, [default]))
    after
        ok = process_kit:let_go(OsPid)
    end.

a_reload_joins_and_leaves(Config) ->
    doc("without the key a server leaves the fleet, and with it it is back; its calls go on"),
    [A, B, C] = Fleet = fleet(Config),
    Client = allocated(C, [], #{user => <<"alice">>}),
    Settings = in(C, meerkat_settings, config, [in(C, meerkat_registry, settings, [default])]),
    ok = in(C, meerkat, reload, [default, Settings#{fleet := []}]),
    eventually(fun() -> members(A) =:= names([A, B]) andalso missing(A) =:= names([C]) end),
    ?assertEqual(none, in(C, meerkat_fleet, info, [default])),
    ok = in(C, meerkat, reload, [default, Settings]),
    ok = together(Fleet),
    success(call(Client, refresh, [{lifetime, 600}])).

%%% Asked together

asked_together(Config) ->
    doc("the allocations of all nodes are one list, each with its node, sorted and limited as one"),
    [A, B, C] = fleet(Config),
    _ = [allocated(Node, [], #{user => User}) || {Node, User} <- [{B, <<"alice">>}, {C, <<"bob">>},
                                                                  {C, <<"alice">>}]],
    {ok, #{total := 3, silent := [], allocations := All}} = question(A, [allocations, #{}]),
    ?assertEqual([name(B), name(C), name(C)],
                 lists:sort([binary_to_atom(Node) || #{node := Node} <- All])),
    {ok, #{total := 2, allocations := Alices}} =
        question(A, [allocations, #{user => <<"alice">>, limit => 1}]),
    ?assertMatch([#{user := <<"alice">>}], Alices),
    {ok, #{allocations := ByUser}} = question(A, [allocations, #{sort => user}]),
    ?assertEqual([<<"alice">>, <<"alice">>, <<"bob">>], [User || #{user := User} <- ByUser]).

meerkatctl_asks_all(Config) ->
    doc("meerkatctl fleet, at any node: a table for people, JSON for programs, exit codes for "
        "probes, and a sentence for what cannot be"),
    [A, B, C] = fleet(Config),
    _ = allocated(B, [], #{user => <<"alice">>}),
    {0, Status} = run(A, ["fleet", "status"]),
    _ = [?assertMatch({match, _}, re:run(Status, atom_to_list(name(Node)) ++ ".* ready\n"))
         || Node <- fleet(Config)],
    {0, Json} = run(A, ["fleet", "allocations", "--json"]),
    Name = atom_to_binary(name(B)),
    ?assertMatch({ok, #{<<"total">> := 1, <<"silent">> := [],
                        <<"allocations">> := [#{<<"user">> := <<"alice">>, <<"node">> := Name}]}},
                 meerkat_json:decode(Json)),
    {0, Table} = run(A, ["fleet", "allocations"]),
    ?assertMatch({match, _}, re:run(Table, "^NODE +ID +USER")),
    {0, <<"debug", _/binary>>} = run(C, ["loglevel", "debug"]),
    {0, Levels} = run(A, ["fleet", "loglevel", "warning"]),
    ?assertMatch({match, [_, _, _]}, re:run(Levels, "warning\n", [global])),
    {2, <<>>} = run(A, ["fleet", "disconnect"]),
    {2, <<>>} = run(A, ["fleet", "status", "--user", "alice"]),
    {2, <<>>} = run(A, ["fleet", "dance"]),
    {1, Unknown} = run(A, ["fleet", "drain", "nowhere", "--json"]),
    {ok, #{<<"error">> := Error}} = meerkat_json:decode(Unknown),
    ?assertMatch(<<"no node of the fleet is called nowhere; it has n1@127.0.0.11, n2@", _/binary>>,
                 Error),
    ok = kill(C),
    eventually(fun() -> missing(A) =:= names([C]) end),
    {1, Less} = run(A, ["fleet", "status"]),
    ?assertMatch({match, _}, re:run(Less, "no answer from n3@127.0.0.13\n$")).

the_page_is_right(Config) ->
    doc("each command of docs/fleet.md does what it is there for"),
    [A, B, _C] = fleet(Config),
    [Text] = [T || #{words := ["fleet"], text := T} <- docs_kit:blocks("docs/fleet.md")],
    lists:foreach(fun(Line) ->
        [Command | _] = string:split(Line, " #"),
        _ = allocated(A, [], #{user => <<"alice">>}),
        ["meerkatctl" | Args] = string:lexemes(lists:flatten(string:replace(Command, "app@10.0.0.2",
                                                              atom_to_list(name(B)))), " "),
        ?assertMatch({0, _}, run(A, Args), Line)
    end, string:lexemes(Text, "\n")).

one_is_drained_by_its_name(Config) ->
    doc("fleet drain takes one node out: it alone sends new clients away, to another one where "
        "what they have is good; its log says who asked from where, and undrain takes it back"),
    [A, B, C] = fleet(Config),
    Begun = allocated(B, [], #{user => <<"alice">>}),
    {0, Drained} = run(A, ["fleet", "drain", "127.0.0.12", "--stay"]),
    ?assertMatch(<<"n2@127.0.0.12: 1 allocation left", _/binary>>, Drained),
    Client = challenged(open(B, #{user => <<"bob">>})),
    To = turn_kit:get(alternate_server, expect(300, allocate(Client))),
    success(allocate(Client#{to := To})),
    ?assert(lists:member(To, [At || #{listeners := [At | _]} <- [A, C]])),
    ?assertEqual([], [Uri || #{listeners := [{_, Port} | _]} <- [B],
                             Uri <- maps:get(uris, in(B, meerkat, credentials,
                                                      [default, <<"bob">>])),
                             binary:match(Uri, integer_to_binary(Port)) =/= nomatch]),
    _ = [success(allocate(challenged(open(Node, #{user => <<"bob">>})))) || Node <- [A, C]],
    success(call(Begun, refresh, [{lifetime, 600}])),
    [#{way := meerkatctl, by := By}] = [Deed || #{action := drain} = Deed <- audited(B)],
    ?assertMatch({match, _}, re:run(By, " at n1@127.0.0.11$")),
    {0, _} = run(C, ["fleet", "undrain", "n2"]),
    success(allocate(challenged(open(B, #{user => <<"bob">>})))).

%%% At one

disconnected_everywhere(Config) ->
    doc("a user's allocations end on all nodes, others' go on, and the user may come again"),
    [A, B, C] = fleet(Config),
    Alices = [allocated(Node, [], #{user => <<"alice">>}) || Node <- [A, B, C]],
    Bob = allocated(B, [], #{user => <<"bob">>}),
    {0, <<"3 allocations ended\n">>} = run(A, ["fleet", "disconnect", "--user", "alice"]),
    _ = [expect(437, call(Client, refresh, [{lifetime, 600}])) || Client <- Alices],
    success(call(Bob, refresh, [{lifetime, 600}])),
    _ = allocated(C, [], #{user => <<"alice">>}),
    ok.

revoked_everywhere(Config) ->
    doc("what one node revokes, by whatever way, no node takes any more; allocations made "
        "by it end"),
    [A, B, C] = fleet(Config),
    Credentials = credentials(A, <<"carol">>),
    Clients = [allocated(Node, [], Credentials) || Node <- [B, C]],
    {ok, 0} = in(A, meerkat, revoke, [default, <<"carol">>]),
    _ = [eventually(fun() -> in(Node, meerkat, allocations, [default]) =:= [] end)
         || Node <- [B, C]],
    _ = [expect(401, allocate(challenged(open(Node, Credentials)))) || Node <- [A, B, C]],
    _ = [expect(401, call(Client, refresh, [{lifetime, 600}])) || Client <- Clients],
    {0, <<"0 allocations ended", _/binary>>} = run(B, ["fleet", "revoke", "dave"]),
    _ = [?assert(in(Node, meerkat_revoked, is_revoked, [default, <<"1:dave">>]))
         || Node <- [A, B, C]].

who_was_cut_off_hears_of_it(Config) ->
    doc("a node that is cut off serves on; when it is back it ends whom the others revoked or "
        "disconnected meanwhile, but not who came later, and they end whom it revoked"),
    [A, B, C] = Fleet = fleet(Config),
    Carol = credentials(A, <<"carol">>),
    Dave = credentials(A, <<"dave">>),
    ok = cut_off(C, [A, B]),
    _ = [allocated(C, [], Who) || Who <- [Carol, #{user => <<"alice">>}]],
    Kept = allocated(A, [], Dave),
    {ok, 0} = in(A, meerkat, revoke, [default, <<"carol">>]),
    #{silent := Silent} = in(B, meerkat_fleet, disconnect, [default, {user, <<"alice">>}]),
    ?assertEqual(names([C]), Silent),
    Later = allocated(C, [], #{user => <<"alice">>}),
    {ok, 0} = in(C, meerkat, revoke, [default, <<"dave">>]),
    ?assertEqual(3, length(in(C, meerkat, allocations, [default]))),
    success(call(Kept, refresh, [{lifetime, 600}])),
    ok = join(C, [A, B]),
    ok = together(Fleet),
    eventually(fun() -> length(in(C, meerkat, allocations, [default])) =:= 1 end),
    eventually(fun() -> in(A, meerkat, allocations, [default]) =:= [] end),
    success(call(Later, refresh, [{lifetime, 600}])),
    expect(401, allocate(challenged(open(C, Carol)))),
    expect(401, allocate(challenged(open(B, Dave)))),
    success(allocate(challenged(open(C, #{user => <<"alice">>})))).

who_joins_later_hears_of_it(Config) ->
    doc("a node that is started later is told what was revoked before it was there"),
    [A, B, C] = fleet(Config),
    Carol = credentials(A, <<"carol">>),
    ok = kill(C),
    eventually(fun() -> missing(A) =:= names([C]) end),
    {ok, 0} = in(A, meerkat, revoke, [default, <<"carol">>]),
    Later = start(3, Config),
    try
        ok = together([A, B, Later]),
        #{username := Username} = in(A, meerkat, credentials, [default, <<"carol">>, 10]),
        eventually(fun() -> in(Later, meerkat_revoked, is_revoked, [default, Username]) end),
        expect(401, allocate(challenged(open(Later, Carol))))
    after
        stop(Later)
    end.

a_nonce_is_good_at_another_node(Config) ->
    doc("RFC 8489 9.2.4: a client that was challenged by one node is not told 438 by another, for "
        "their nonces are made with one key; a server in no fleet makes its own"),
    [A, B, _C] = fleet(Config),
    #{server := #{ip := Ip, port := Port}} = _There = open(B, #{user => <<"alice">>}),
    Client = challenged(open(A, #{user => <<"alice">>})),
    success(allocate(Client#{to := {Ip, Port}})),
    with_server(#{}, fun(#{ip := OtherIp, port := OtherPort}) ->
        expect(438, allocate(Client#{to := {OtherIp, OtherPort}}))
    end).

%%% Quotas

one_quota_on_all_nodes(Config) ->
    doc("user_quota is for all nodes together: whichever node is asked, one more than that is "
        "answered 486 and counted as refused there, and there is room again when one has ended "
        "anywhere; others have their own"),
    [A, B, C] = fleet(Config),
    ok = reload_all(Config, #{user_quota => 2}),
    [First, _] = [allocated(Node, [], #{user => <<"alice">>}) || Node <- [A, B]],
    Alices = [challenged(open(Node, #{user => <<"alice">>})) || Node <- [A, B, C]],
    _ = [expect(486, allocate(Client)) || Client <- Alices],
    ?assertEqual(1, in(C, meerkat_quota, count, [default, {refused, default}])),
    _ = [allocated(C, [], #{user => <<"bob">>}) || _ <- [1, 2]],
    success(call(First, refresh, [{lifetime, 0}])),
    eventually(fun() -> known([A, B, C], <<"alice">>) =:= [1] end),
    success(allocate(lists:last(Alices))),
    expect(486, allocate(hd(Alices))),
    %% The newer one wins.
    ok = reload_all(Config, #{user_quota => 1, user_quota_replaces => true}),
    Older = allocated(A, [], #{user => <<"erin">>}),
    eventually(fun() -> in(A, meerkat_fleet_quota, total, [default, {default, <<"erin">>}]) =:= 1
               end),
    Newer = allocated(B, [], #{user => <<"erin">>}),
    eventually(fun() -> turn_kit:code(call(Older, refresh, [{lifetime, 600}])) =:= 437 end),
    success(call(Newer, refresh, [{lifetime, 600}])).

a_realm_has_one_quota(Config) ->
    doc("total_quota of a realm is for all nodes together, as each has heard of the others"),
    [A, B, C] = fleet(Config),
    Client = fun(#{listeners := Listeners} = Node) ->
        challenged(open(Node, #{user => <<"erin">>, password => <<"of a">>,
                                to => lists:last(Listeners)}))
    end,
    _ = [success(allocate(Client(Node))) || Node <- [A, B]],
    eventually(fun() -> in(C, meerkat_elsewhere, realm, [default, <<"a.example">>]) =:= 2 end),
    expect(508, allocate(Client(C))),
    success(allocate(challenged(open(C, #{user => <<"alice">>})))).

a_quota_while_cut_off(Config) ->
    doc("a node that is cut off has the whole quota for itself, which is the error; when it is "
        "back nothing ends, and nobody gets more before what is too much is gone"),
    [A, B, C] = Fleet = fleet(Config),
    ok = reload_all(Config, #{user_quota => 2}),
    [First, Second] = [allocated(Node, [], #{user => <<"alice">>}) || Node <- [A, B]],
    ok = cut_off(C, [A, B]),
    eventually(fun() -> known([C], <<"alice">>) =:= [0] end),
    [Third, Fourth] = [allocated(C, [], #{user => <<"alice">>}) || _ <- [1, 2]],
    expect(486, allocate(challenged(open(C, #{user => <<"alice">>})))),
    ok = join(C, [A, B]),
    ok = together(Fleet),
    eventually(fun() -> known(Fleet, <<"alice">>) =:= [4] end),
    _ = [success(call(Kept, refresh, [{lifetime, 0}])) || Kept <- [Second, Third]],
    eventually(fun() -> known(Fleet, <<"alice">>) =:= [2] end),
    _ = [success(call(Kept, refresh, [{lifetime, 600}])) || Kept <- [First, Fourth]],
    _ = [expect(486, allocate(challenged(open(Node, #{user => <<"alice">>})))) || Node <- Fleet],
    ok.

%% By whoever keeps count of a user, as each of these nodes sees it.
known(Nodes, User) ->
    lists:usort([in(Node, meerkat_fleet_quota, total, [default, {default, User}])
                 || Node <- Nodes]).

reload_all(Config, Changes) ->
    lists:foreach(fun(Node) ->
        Was = in(Node, meerkat_settings, config, [in(Node, meerkat_registry, settings, [default])]),
        ok = in(Node, meerkat, reload, [default, maps:merge(Was, Changes)])
    end, fleet(Config)).

%%% Under traffic

five_nodes(Config) ->
    doc("five nodes, a call on each that loses no packet while they are cut in halves and joined "
        "again, one is drained, the relay programs of all are replaced one after the other, one "
        "leaves and comes back, and one is killed, whose relay program goes on: what one half "
        "decided the other knows afterwards, clients are sent to whom has room, and each node is "
        "named that is not there"),
    [A, B, C, D, E] = Fleet = fleet(Config),
    Talkers = [survival_kit:talk(Node) || Node <- Fleet],
    Carol = credentials(A, <<"carol">>),
    %% In halves.
    _ = [ok = part(Left, Right) || Left <- [A, B], Right <- [C, D, E]],
    _ = [eventually(fun() -> members(Node) =:= names(Half) end)
         || Half <- [[A, B], [C, D, E]], Node <- Half],
    {ok, 0} = in(A, meerkat, revoke, [default, <<"carol">>]),
    _ = allocated(E, [], Carol),
    ok = join(A, [C, D, E]),
    ok = join(B, [C, D, E]),
    ok = together(Fleet),
    eventually(fun() -> length(in(E, meerkat, allocations, [default])) =:= 1 end),
    %% Drained.
    {0, _} = run(A, ["fleet", "drain", "n5", "--stay"]),
    Sent = challenged(open(E, #{user => <<"alice">>})),
    To = turn_kit:get(alternate_server, expect(300, allocate(Sent))),
    success(allocate(Sent#{to := To})),
    {0, _} = run(A, ["fleet", "undrain", "n5"]),
    success(allocate(challenged(open(E, #{user => <<"alice">>})))),
    %% Replaced.
    _ = [begin
             Before = relay(Node),
             {0, _} = run(Node, ["upgrade"]),
             ?assertNotEqual(Before, relay(Node))
         end || Node <- Fleet],
    %% Left, and back.
    Was = in(D, meerkat_settings, config, [in(D, meerkat_registry, settings, [default])]),
    ok = in(D, meerkat, reload, [default, Was#{fleet := []}]),
    eventually(fun() -> missing(A) =:= names([D]) end),
    ok = in(D, meerkat, reload, [default, Was]),
    ok = together(Fleet),
    %% Killed.
    ok = kill(C),
    eventually(fun() -> missing(A) =:= names([C]) end),
    #{silent := Silent} = in(B, meerkat_fleet, status, [default]),
    ?assertEqual(names([C]), Silent),
    _ = [survival_kit:hush(Talker) || Talker <- Talkers],
    ok.

relay(Node) ->
    {os_pid, Pid} = in(Node, erlang, port_info, [in(Node, meerkat_roles, find, [default, port]),
                                                 os_pid]),
    Pid.

%%% Nodes

numbers(Config) -> proplists:get_value(numbers, Config, ?NODES).

fleet(Config) -> proplists:get_value(fleet, Config).

ip(N) -> {127, 0, 0, 10 + N}.

node_of(N) -> list_to_atom(lists:concat(["n", N, "@", inet:ntoa(ip(N))])).

name(#{number := N}) -> node_of(N).

names(Nodes) -> lists:sort([name(Node) || Node <- Nodes]).

start(N, Config) ->
    Args = ["-start_epmd", "false", "-erl_epmd_port",
            integer_to_list(proplists:get_value(port, Config)),
            "-kernel", "inet_dist_use_interface", lists:flatten(io_lib:format("~w", [ip(N)])),
            %% Else nodes that two others cut off from one another part too.
            "-kernel", "prevent_overlapping_partitions", "false",
            "-setcookie", "fleet", "-pa" | code:get_path()],
    {ok, Node, _} = peer:start(#{connection => standard_io, wait_boot => ?TIMEOUT,
                                 name => lists:concat(["n", N]), host => inet:ntoa(ip(N)),
                                 longnames => true, args => Args}),
    RunDir = lists:concat([proplists:get_value(run_dir, Config), "-", N]),
    ok = filelib:ensure_dir(filename:join(RunDir, "admin.sock")),
    ok = file:change_mode(RunDir, 8#700),
    More = maps:from_list([{fleet, [atom_to_binary(node_of(M)) || M <- numbers(Config)]}
                           | [Kept || {survive, S} <- Config,
                                      Kept <- [{survive, S}, {run_dir, RunDir}]]]),
    Served = peer:call(Node, ?MODULE, serve, [RunDir, More], ?TIMEOUT),
    Served#{node => Node, number => N, os_pid => peer:call(Node, os, getpid, []),
            run_dir => RunDir}.

%% In that node.
-spec serve(file:filename(), map()) -> turn_kit:server().
serve(RunDir, More) ->
    {ok, _} = application:ensure_all_started(meerkat),
    _ = ets:new(told, [named_table, public, ordered_set, {heir, whereis(init), none}]),
    _ = spawn(fun() -> true = ets:give_away(told, self(), none) end),
    ok = logger:remove_handler(default),
    ok = logger:add_handler(told, ?MODULE, #{}),
    Listener = #{transport => udp, ip => {127, 0, 0, 1}, port => 0},
    Server = turn_kit:start_server(More#{name => default,
                                         listeners => [Listener,
                                                       Listener#{realm => <<"a.example">>}],
                                         realms => [#{name => <<"a.example">>, total_quota => 2,
                                                      secrets => [<<"of a">>]}]}),
    ok = meerkat_sup:start_helpers([meerkat_admin_socket:child_spec(RunDir, default)]),
    Server.

-spec log(logger:log_event(), term()) -> _.
log(#{msg := {report, #{event := audit} = Report}}, _) ->
    ets:insert(told, {erlang:unique_integer([monotonic]), Report});
log(_, _) ->
    ok.

%% What meerkatctl prints on stdout on the machine of that node, and its exit code.
run(#{run_dir := RunDir}, Args) ->
    ok = ct:capture_start(),
    Status = meerkat_cli:run(Args ++ ["-s", filename:join(RunDir, "admin.sock")]),
    ok = ct:capture_stop(),
    {Status, unicode:characters_to_binary(ct:capture_get([]))}.

stop(#{node := Node, run_dir := RunDir}) ->
    case is_process_alive(Node) of
        true ->
            _ = peer:call(Node, meerkat, stop_server, [default], ?TIMEOUT),
            peer:stop(Node);
        false ->
            ok
    end,
    ok = ctl_kit:end_relay(RunDir),
    file:del_dir_r(RunDir).

kill(#{node := Node, os_pid := OsPid}) ->
    Monitor = monitor(process, Node),
    [] = os:cmd("kill -KILL " ++ OsPid),
    receive {'DOWN', Monitor, process, Node, _} -> ok end.

in(#{node := Node}, Module, Function, Args) ->
    peer:call(Node, Module, Function, Args, ?TIMEOUT).

%% Each has heard of all others.
together(Fleet) ->
    lists:foreach(fun(Node) ->
        eventually(fun() -> members(Node) =:= names(Fleet) end),
        eventually(fun() ->
            lists:sort([N || #{node := N} <- in(Node, meerkat_elsewhere, places, [default])])
                =:= names(Fleet) -- [name(Node)]
        end)
    end, Fleet).

members(Node) ->
    #{members := Members} = in(Node, meerkat_fleet, info, [default]),
    Members.

missing(Node) ->
    #{missing := Missing} = in(Node, meerkat_fleet, info, [default]),
    Missing.

cut_off(Node, Others) ->
    lists:foreach(fun(Other) -> ok = part(Node, Other) end, Others),
    eventually(fun() -> members(Node) =:= names([Node]) end),
    lists:foreach(fun(Other) ->
        eventually(fun() -> not lists:member(name(Node), members(Other)) end)
    end, Others).

%% No more connections in either direction: another cookie is that of a stranger.
part(Node, Other) ->
    true = in(Node, erlang, set_cookie, [name(Other), stranger]),
    true = in(Other, erlang, set_cookie, [name(Node), enemy]),
    _ = in(Node, erlang, disconnect_node, [name(Other)]),
    ok.

join(Node, Others) ->
    lists:foreach(fun(Other) ->
        true = in(Node, erlang, set_cookie, [name(Other), fleet]),
        true = in(Other, erlang, set_cookie, [name(Node), fleet]),
        ok = in(Other, meerkat_fleet_seeker, seek, [default])
    end, Others),
    in(Node, meerkat_fleet_seeker, seek, [default]).

question(Node, Question) ->
    in(Node, meerkat_fleet_admin, handle, [{fleet, Question}, default, node]).

credentials(Node, User) ->
    #{username := Username, password := Password} =
        in(Node, meerkat, credentials, [default, User]),
    #{user => Username, password => Password}.

%% What its log has of things that operators did.
audited(Node) ->
    [Report || {_, Report} <- in(Node, ets, tab2list, [told])].
