%% What dies, and what lives on: the relay program under traffic, the processes around it, the
%% whole VM. Real clients, real peers, kill -9. That the next relay serves is awaited by asking the
%% server; what clients and peers then see is seen on their sockets, without a request of theirs.
-module(supervision_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([relay_killed_under_traffic/1, permissions_end_when_they_would_have/1,
         channel_without_its_permission/1, old_nonce_and_quota/1,
         port_taken_by_somebody_else/1, killed_twice/1, killed_while_replaying/1,
         moved_client/1, new_allocations_wait/1, expired_meanwhile/1,
         bandwidth_stays/1, relayed_to_one_another/1, deaths_end_the_server/1,
         server_starts_afresh/1,
         allocation_killed/1, vm_killed/1, foreground_ends_with_a_sentence/1,
         reloaded_settings_stay/1, drawn_secret_stays/1, embedder_starts_anew/1,
         forbidden_stays_forbidden/1, asked_when_it_is_dead_already/1,
         hung_relay_is_replaced/1, hung_worker_is_noticed/1, hung_relay_without_its_owner/1,
         hung_relay_ends_with_its_server/1, hung_worker_ends_with_its_server/1]).
-export([init/1]).

-import(turn_kit, [kill_relay/1, doc/1, open/1, ask/2, challenged/1, signed/3, call/3, allocated/1,
                   allocated/2, allocated/3, allocate/1, permit/2, bind/3, send_to/3, channel/3,
                   data/1, next/1, peer/0, peer/1, peer_send/3, peer_next/1, from_peer/2,
                   get/2, code/1, success/1, unheard/4]).

-define(V6, {0, 0, 0, 0, 0, 0, 0, 1}).
-define(TIMEOUT, 20000).
-define(NUMBER, 16#4001).
-define(SPEED, 100).

-spec all() -> [atom()].
all() ->
    [relay_killed_under_traffic,
     permissions_end_when_they_would_have,
     channel_without_its_permission,
     old_nonce_and_quota,
     port_taken_by_somebody_else,
     killed_twice,
     killed_while_replaying,
     moved_client,
     new_allocations_wait,
     expired_meanwhile,
     bandwidth_stays,
     relayed_to_one_another,
     forbidden_stays_forbidden,
     asked_when_it_is_dead_already,
     {group, side_by_side_1},
     {group, side_by_side_2},
     deaths_end_the_server,
     server_starts_afresh,
     allocation_killed,
     reloaded_settings_stay,
     drawn_secret_stays,
     embedder_starts_anew].

%% They wait most of their time, each for a server of its own. The lines of the log are collected by
%% one in each group.
-spec groups() -> [tuple()].
groups() ->
    [{side_by_side_1, [parallel], [hung_relay_is_replaced, vm_killed,
                                   foreground_ends_with_a_sentence]},
     {side_by_side_2, [parallel], [hung_worker_is_noticed, hung_relay_without_its_owner,
                                   hung_relay_ends_with_its_server,
                                   hung_worker_ends_with_its_server]}].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 30}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config() | {skip, string()}.
init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "kills the server"}),
    {ok, _} = application:ensure_all_started(meerkat),
    Level = maps:get(level, logger:get_primary_config()),
    ok = logger:set_primary_config(level, critical),
    [{log_level, Level} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) ->
    logger:set_primary_config(level, proplists:get_value(log_level, Config)).

%% Each case, or each group of those side by side, has an application that has seen no server end.
-spec init_per_group(atom(), turn_kit:config()) -> turn_kit:config().
init_per_group(_Group, Config) -> begun(Config).

-spec end_per_group(atom(), turn_kit:config()) -> _.
end_per_group(_Group, _Config) -> application:stop(meerkat).

-spec init_per_testcase(atom(), turn_kit:config()) -> turn_kit:config().
init_per_testcase(_Case, Config) -> begun(Config).

begun(Config) ->
    {ok, _} = application:ensure_all_started(meerkat),
    Config.

-spec end_per_testcase(atom(), turn_kit:config()) -> _.
end_per_testcase(_Case, Config) ->
    proplists:get_value(tc_group_properties, Config, []) =/= [] orelse application:stop(meerkat).

%%% The relay program

-spec relay_killed_under_traffic(turn_kit:config()) -> ok.
relay_killed_under_traffic(_Config) ->
    doc("kill -9 with 200 allocations and data on their channels: the same relayed addresses, and "
        "data flows both ways again without a request of any client"),
    turn_kit:with_server(#{}, fun(Server) ->
        Peers = #{v4 => peer(), v6 => peer(?V6)},
        Sessions = [session(Kind, Server, Peers)
                    || N <- lists:seq(1, 200),
                       Kind <- [lists:nth(1 + N rem 4, [channel, permission, v6, dual])]],
        [ok = both_ways(S, Peers) || S <- Sessions],
        Before = allocations(Server),
        Traffic = traffic(Sessions),
        ok = kill_relay(Server),
        #{relay_restarts := 1, relay_replayed := 200, relay_lost := 0} = restarted(Server, 1),
        ok = quiet(Traffic, Sessions, Peers),
        ?assertEqual(Before, allocations(Server)),
        [ok = both_ways(S, Peers) || S <- Sessions],
        [?assertEqual(get(lifetime, success(call(C, refresh, [{lifetime, 900}]))), 900)
         || {_, C} <- Sessions],
        ok
    end).

-spec permissions_end_when_they_would_have(turn_kit:config()) -> ok.
permissions_end_when_they_would_have(Config) ->
    doc("a permission that had expired is not back, and one that had not ends before one given "
        "after the restart (RFC 8656 9)"),
    flying(Config, fun(Server) ->
        Client = allocated(Server, [{lifetime, 3600}]),
        [Old, Fresh, Late] = [peer({127, 0, 0, N}) || N <- [11, 12, 13]],
        success(permit(Client, [Old])),
        ok = read_by_erlang(Client),
        until(fun() -> not is_permitted(Old, Server) end),
        ok = outlives_the_relay(Client, Fresh, Server, 1),
        ok = unheard(Client, Old, relayed(Client), <<"not back">>),
        %% So much later that there is time to see the other one end.
        until(fun() -> not is_permitted(Fresh, 150000, Server) end),
        until(fun() ->
            success(permit(Client, [Late])),
            not answers(Client, Fresh) andalso answers(Client, Late)
        end)
    end).

%% Gives a permission, kills the relay and sees that the permission is there in the next one. On a
%% machine that is too busy for its hundredfold clock the permission may be over before it is seen;
%% then all of it is done once more.
outlives_the_relay(Client, Peer, Server, N) ->
    success(permit(Client, [Peer])),
    ok = kill_relay(Server),
    _ = restarted(Server, N),
    case {answers(Client, Peer), is_permitted(Peer, Server)} of
        {true, _} -> ok;
        {false, false} -> outlives_the_relay(Client, Peer, Server, N + 1)
    end.

-spec channel_without_its_permission(turn_kit:config()) -> ok.
channel_without_its_permission(Config) ->
    doc("K17: a channel that has outlived its permission comes back without it"),
    flying(Config, fun(Server) ->
        Client = allocated(Server, [{lifetime, 3600}]),
        ok = comes_back_without(Client, peer({127, 0, 0, 11}), Server, 1)
    end).

%% On a machine that is too busy for its hundredfold clock the channel may be over as well before it
%% was seen, or the new permission before it was used; then all of it is done once more.
comes_back_without(Client, Peer, Server, N) ->
    success(bind(Client, ?NUMBER, Peer)),
    ok = read_by_erlang(Client),
    until(fun() -> not is_permitted(Peer, Server) end),
    ok = kill_relay(Server),
    _ = restarted(Server, N),
    ok = unheard(Client, Peer, relayed(Client), <<"no permission">>),
    success(permit(Client, [Peer])),
    case {from_peer(Client, Peer), is_bound(Peer, Server)} of
        {{channel, ?NUMBER}, _} -> ok;
        {no_permission, _} -> comes_back_without(Client, Peer, Server, N + 1);
        {_, false} -> comes_back_without(Client, Peer, Server, N + 1)
    end.

-spec old_nonce_and_quota(turn_kit:config()) -> ok.
old_nonce_and_quota(_Config) ->
    doc("the nonce from before is good, and the quota counts what was replayed"),
    turn_kit:with_server(#{user_quota => 1}, fun(Server) ->
        Client = allocated(Server),
        ok = kill_relay(Server),
        _ = restarted(Server, 1),
        success(call(Client, refresh, [])),
        ?assertEqual(486, code(allocate(challenged(open(Server))))),
        success(call(Client, refresh, [{lifetime, 0}])),
        success(allocate(challenged(open(Server)))),
        ok
    end).

-spec port_taken_by_somebody_else(turn_kit:config()) -> ok.
port_taken_by_somebody_else(_Config) ->
    doc("an allocation whose port another program has got is lost, with a line in the log; the "
        "others live"),
    Lines = log_kit:logged(fun() -> turn_kit:with_server(#{}, fun(Server) ->
        Peers = #{v4 => peer()},
        {channel, Loser} = session(channel, Server, Peers),
        Lives = [session(channel, Server, Peers) || _ <- lists:seq(1, 10)],
        {Ip, Port} = relayed(Loser),
        _ = [erlang:monitor(process, Pid)
             || {_, Pid} <- meerkat_alloc_table:sessions(map_get(name, Server))],
        ok = suspend_supervisor(Server),
        ok = kill_relay(Server),
        {ok, Thief} = take_port(Ip, Port),
        ok = resume_supervisor(Server),
        #{relay_replayed := 10, relay_lost := 1, allocations := 10} = restarted(Server, 1),
        [ok = both_ways(S, Peers) || S <- Lives],
        ?assertEqual(437, code(call(Loser, refresh, []))),
        %% The process of the one that is lost, which has said so.
        receive {'DOWN', _, process, _, _} -> ok end,
        gen_udp:close(Thief)
    end) end),
    ?assertMatch([_], [L || L <- Lines, string:find(L, "no_ports") =/= nomatch,
                            string:find(L, "allocation lost") =/= nomatch]),
    ?assertMatch([_], [L || L <- Lines, string:find(L, "signal 9; 11 alloc") =/= nomatch]),
    ?assertMatch([_], [L || L <- Lines, string:find(L, "10 allocations replayed, 1 lost")
                                            =/= nomatch]).

-spec killed_twice(turn_kit:config()) -> ok.
killed_twice(_Config) ->
    doc("twice in a row"),
    turn_kit:with_server(#{}, fun(Server) ->
        Peers = #{v4 => peer()},
        Sessions = [session(channel, Server, Peers) || _ <- lists:seq(1, 20)],
        ok = kill_relay(Server),
        _ = restarted(Server, 1),
        ok = kill_relay(Server),
        #{relay_replayed := 40, relay_lost := 0} = restarted(Server, 2),
        [ok = both_ways(S, Peers) || S <- Sessions],
        ok
    end).

-spec killed_while_replaying(turn_kit:config()) -> ok.
killed_while_replaying(_Config) ->
    doc("the next relay dies before it has all of them: the one after it gets them"),
    turn_kit:with_server(#{}, fun(#{name := Name} = Server) ->
        Peers = #{v4 => peer()},
        Sessions = [session(channel, Server, Peers) || _ <- lists:seq(1, 50)],
        %% One that does not answer keeps the replay from ending.
        [{_, Slow} | _] = meerkat_alloc_table:sessions(Name),
        ok = sys:suspend(Slow),
        Old = relay_port(Server),
        ok = kill_relay(Server),
        until(fun() -> relay_port(Server) =/= Old andalso
                           meerkat_roles:find(Name, replaying) =/= none end),
        ok = kill_relay(Server),
        ok = sys:resume(Slow),
        #{allocations := 50} = restarted(Server, 1),
        [ok = both_ways(S, Peers) || S <- Sessions],
        ok
    end).

-spec moved_client(turn_kit:config()) -> ok.
moved_client(_Config) ->
    doc("RFC 8016: a client that has moved, and one that is about to, whichever worker they are "
        "at now"),
    turn_kit:with_server(#{workers => 4, mobility => true}, fun(Server) ->
        Peer = peer(),
        Moved = [moved(Server, Peer, Pending) || Pending <- [false, true], _ <- lists:seq(1, 12)],
        ok = kill_relay(Server),
        #{relay_lost := 0} = restarted(Server, 1),
        [begin
             ok = channel(New, ?NUMBER, <<"from there">>),
             ?assertEqual({relayed(Client), <<"from there">>}, peer_next(Peer)),
             ok = peer_send(Peer, relayed(Client), <<"to there">>),
             ?assertEqual(stun_model:encode_channel(?NUMBER, <<"to there">>), next(New)),
             success(call(New, refresh, []))
         end || {Client, New} <- Moved],
        ok
    end).

-spec new_allocations_wait(turn_kit:config()) -> ok.
new_allocations_wait(_Config) ->
    doc("an Allocate in the gap is answered when all are replayed, and cannot get a port of "
        "theirs: here there is one besides"),
    First = turn_kit:free_ports(2),
    Relays = [#{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1}, min_port => First,
                max_port => First + 1}],
    turn_kit:with_server(#{relays => Relays}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        [{_, Slow}] = meerkat_alloc_table:sessions(Name),
        New = challenged(open(Server)),
        ok = sys:suspend(Slow),
        Old = relay_port(Server),
        ok = kill_relay(Server),
        until(fun() -> relay_port(Server) =/= Old end),
        <<_:64, Id:12/binary, _/binary>> = Request =
            signed(New, allocate, [{requested_transport, 17}]),
        ok = turn_kit:send(New, Request),
        %% Answered later than what was asked later.
        success(ask(Client, turn_kit:request(binding, []))),
        ok = sys:resume(Slow),
        #{relay_lost := 0} = restarted(Server, 1),
        {ok, #{class := success} = Answer} = stun_model:decode(turn_kit:await(New, Id)),
        Got = get(xor_relayed_address, Answer),
        ?assertEqual(lists:sort([{{127, 0, 0, 1}, First}, {{127, 0, 0, 1}, First + 1}]),
                     lists:sort([Got, relayed(Client)])),
        success(call(Client, refresh, [])),
        ok
    end).

-spec expired_meanwhile(turn_kit:config()) -> ok.
expired_meanwhile(Config) ->
    doc("what would have ended in the gap is not made again, and counts as no loss"),
    flying(Config, fun(Server) ->
        Client = allocated(Server, [{lifetime, 600}]),
        Longer = allocated(Server, [{lifetime, 3600}]),
        ok = suspend_supervisor(Server),
        ok = kill_relay(Server),
        until(fun() -> [E || #{expires_ms := E} <- alive(Server)] =:= [] orelse
                           lists:any(fun(#{expires_ms := E}) -> E =< 0 end, alive(Server)) end),
        ok = resume_supervisor(Server),
        #{relay_replayed := 1, relay_lost := 0, allocations := 1} = restarted(Server, 1),
        ?assertEqual(437, code(call(Client, refresh, []))),
        success(call(Longer, refresh, [])),
        ok
    end).

-spec bandwidth_stays(turn_kit:config()) -> ok.
bandwidth_stays(_Config) ->
    doc("X83: what a user may relay stays limited"),
    turn_kit:with_server(#{user_bps => 1000}, fun(Server) ->
        Peer = peer(),
        Client = allocated(Server),
        success(bind(Client, ?NUMBER, Peer)),
        ok = kill_relay(Server),
        _ = restarted(Server, 1),
        %% Two of the largest datagrams may come at once.
        Payload = binary:copy(<<0>>, 1200),
        [ok = channel(Client, ?NUMBER, Payload) || _ <- lists:seq(1, 200)],
        until(fun() -> turn_kit:counter(Server, over_bandwidth) > 0 end)
    end).

-spec forbidden_stays_forbidden(turn_kit:config()) -> ok.
forbidden_stays_forbidden(_Config) ->
    doc("X16: a peer that a reload forbade is forbidden in the next relay too, and takes no "
        "permission of another along"),
    turn_kit:with_server(#{}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        [Bad, Good] = [peer({127, 0, 0, N}) || N <- [21, 22]],
        success(permit(Client, [Bad, Good])),
        #{config := Running} = meerkat_registry:settings(Name),
        ok = meerkat:reload(Name, (Running())#{allowed_peers => [],
                                               denied_peers => [{{127, 0, 0, 21}, 32}]}),
        ok = kill_relay(Server),
        _ = restarted(Server, 1),
        ok = unheard(Client, Bad, relayed(Client), <<"forbidden">>),
        ok = reaches_client(Client, Good)
    end).

-spec relayed_to_one_another(turn_kit:config()) -> ok.
relayed_to_one_another(_Config) ->
    doc("peers that are others' relayed addresses are permitted again whoever is made again first"),
    Relay = #{local => {127, 0, 0, 1}, advertised => {198, 51, 100, 7},
              min_port => 49152, max_port => 65535},
    turn_kit:with_server(#{workers => 2, relays => [Relay]}, fun(Server) ->
        %% More than are made at a time (meerkat_replay).
        {Some, Others} = lists:split(100, [allocated(Server) || _ <- lists:seq(1, 200)]),
        Pairs = lists:zip(Some ++ Others, Others ++ Some),
        [success(bind(Client, ?NUMBER, relayed(Next))) || {Client, Next} <- Pairs],
        ok = all_is_read(Server),
        ok = kill_relay(Server),
        _ = restarted(Server, 1),
        [begin
             ok = channel(Client, ?NUMBER, <<"here">>),
             ?assertEqual(stun_model:encode_channel(?NUMBER, <<"here">>), next(Next))
         end || {Client, Next} <- Pairs],
        ok
    end).

-spec asked_when_it_is_dead_already(turn_kit:config()) -> ok.
asked_when_it_is_dead_already(_Config) ->
    doc("whoever asks a relay program whose end its owner has not heard of yet hears that it is "
        "dead, and the log says what it died of"),
    Lines = log_kit:logged(fun() -> turn_kit:with_server(#{}, fun(#{name := Name} = Server) ->
        Owner = meerkat_roles:find(Name, relay),
        ok = sys:suspend(Owner),
        Self = self(),
        Asking = spawn_link(fun() -> Self ! {self(), meerkat_relay:stats(Name)} end),
        until(fun() ->
            {messages, Mail} = process_info(Owner, messages),
            lists:any(fun(Message) -> element(1, Message) =:= '$gen_call' end, Mail)
        end),
        ok = kill_relay(Server),
        ok = sys:resume(Owner),
        receive {Asking, Answer} -> ?assertEqual({error, relay_down}, Answer) end,
        _ = restarted(Server, 1)
    end) end),
    ?assertMatch([_], [L || L <- Lines, string:prefix(L, "the relay program ended: killed by "
                                                         "signal 9; ") =/= nomatch], Lines),
    ok.

%%% One that hangs

-spec hung_relay_is_replaced(turn_kit:config()) -> ok.
hung_relay_is_replaced(_Config) ->
    doc("a relay program that says nothing more is killed, with one line that says why, and the "
        "next one has its allocations"),
    Lines = log_kit:logged(fun() -> turn_kit:with_server(#{}, fun(Server) ->
        Peers = #{v4 => peer()},
        Session = session(channel, Server, Peers),
        OsPid = stopped_relay(Server),
        #{relay_replayed := 1, relay_lost := 0} = restarted(Server, 1),
        ?assertNot(is_there(OsPid)),
        ok = both_ways(Session, Peers)
    end) end),
    ?assertMatch([_], [L || L <- Lines, string:find(L, "hangs: it has not answered for 10 s")
                                            =/= nomatch,
                            string:find(L, "1 allocations wait") =/= nomatch]).

-spec hung_worker_is_noticed(turn_kit:config()) -> ok.
hung_worker_is_noticed(_Config) ->
    doc("one thread of the relay program stands still: the server is neither alive nor ready, and "
        "another relay program takes over"),
    Lines = log_kit:logged(fun() -> turn_kit:with_server(#{}, fun(#{name := Name} = Server) ->
        Peers = #{v4 => peer()},
        Session = session(channel, Server, Peers),
        Self = self(),
        Watcher = spawn_link(fun() ->
            until(fun() -> lists:member(relay_stalled, meerkat_health:not_ready(Name)) end),
            Self ! {self(), meerkat_health:alive(Name)}
        end),
        ok = held_worker(Server),
        receive {Watcher, Alive} -> ?assertNot(Alive) end,
        #{relay_replayed := 1} = restarted(Server, 1),
        ok = both_ways(Session, Peers)
    end) end),
    %% Once by us; a supervisor reports it as well.
    Ours = "the relay program hangs: one of its threads has stood still",
    ?assertMatch([_], [L || L <- Lines, string:prefix(L, Ours) =/= nomatch]).

-spec hung_relay_without_its_owner(turn_kit:config()) -> ok.
hung_relay_without_its_owner(_Config) ->
    doc("the process that owns a relay program that hangs is killed: the next one kills what would "
        "keep it from listening"),
    turn_kit:with_server(#{}, fun(#{name := Name} = Server) ->
        Peers = #{v4 => peer()},
        Session = session(channel, Server, Peers),
        OsPid = stopped_relay(Server),
        true = exit(meerkat_roles:find(Name, relay), kill),
        #{relay_replayed := 1, relay_lost := 0} = restarted(Server, 1),
        ?assertNot(is_there(OsPid)),
        ok = both_ways(Session, Peers)
    end).

-spec hung_relay_ends_with_its_server(turn_kit:config()) -> ok.
hung_relay_ends_with_its_server(_Config) ->
    doc("a relay program that hangs does not outlive its server"),
    Name = ?FUNCTION_NAME,
    {ok, _} = meerkat:start_server(Name, config()),
    OsPid = stopped_relay(#{name => Name}),
    ok = meerkat:stop_server(Name),
    ?assertNot(is_there(OsPid)).

-spec hung_worker_ends_with_its_server(turn_kit:config()) -> ok.
hung_worker_ends_with_its_server(_Config) ->
    doc("and one of whose threads stands still ends itself"),
    Name = ?FUNCTION_NAME,
    {ok, _} = meerkat:start_server(Name, config()),
    Monitor = monitor(port, relay_port(#{name => Name})),
    Owner = meerkat_roles:find(Name, relay),
    1 = erlang:trace(Owner, true, ['receive']),
    ok = held_worker(#{name => Name}),
    ok = meerkat:stop_server(Name),
    receive {'DOWN', Monitor, port, _, _} -> ok end,
    receive {trace, Owner, 'receive', {_, {exit_status, Status}}} -> ?assertEqual(0, Status) end,
    ok.

%% Its number, as text.
stopped_relay(Server) ->
    {os_pid, OsPid} = erlang:port_info(relay_port(Server), os_pid),
    Text = integer_to_list(OsPid),
    ok = process_kit:hold(Text),
    Text.

%% Holds the thread of a worker, as a debugger would, until it is killed: workers are started last.
held_worker(Server) ->
    {os_pid, OsPid} = erlang:port_info(relay_port(Server), os_pid),
    {ok, Threads} = file:list_dir("/proc/" ++ integer_to_list(OsPid) ++ "/task"),
    Worker = lists:max([list_to_integer(T) || T <- Threads]),
    Attach = "import ctypes, os, sys\n"
             "libc = ctypes.CDLL(None, use_errno=True)\n"
             "if libc.ptrace(16, int(sys.argv[1]), None, None): "
             "sys.exit(os.strerror(ctypes.get_errno()))\n"
             "os.waitpid(int(sys.argv[1]), 0x40000000)\n"
             "os.write(1, b'held')\n"
             "os.waitpid(int(sys.argv[1]), 0x40000000)\n",
    Port = open_port({spawn_executable, os:find_executable("python3")},
                     [{args, ["-c", Attach, integer_to_list(Worker)]}, stream, exit_status,
                      stderr_to_stdout]),
    receive
        {Port, {data, "held"}} -> ok;
        {Port, {data, Why}} -> throw({skip, "no thread can be held: " ++ Why})
    after ?TIMEOUT -> error(nothing_held)
    end.

%%% When it does not help

-spec deaths_end_the_server(turn_kit:config()) -> ok.
deaths_end_the_server(_Config) ->
    doc("a relay that dies again and again ends the server, with a line that says so; the "
        "supervisor of an embedder hears `shutdown'"),
    Name = ?FUNCTION_NAME,
    Flag = process_flag(trap_exit, true),
    Lines = log_kit:logged(fun() ->
        {ok, Sup} = meerkat_server_sup:start_link(Name, make_ref(), fun() -> {ok, config()} end),
        ok = kill_until_gone(Name, Sup),
        receive {'EXIT', Sup, Reason} -> ?assertEqual(shutdown, Reason)
        after ?TIMEOUT -> error(still_there)
        end
    end),
    true = process_flag(trap_exit, Flag),
    ?assertMatch([_], [L || L <- Lines, string:find(L, "gives up and ends") =/= nomatch,
                            string:find(L, "6 relay programs have died") =/= nomatch,
                            string:find(L, "killed by signal 9") =/= nomatch]),
    ok = meerkat_registry:drop(Name).

-spec server_starts_afresh(turn_kit:config()) -> ok.
server_starts_afresh(_Config) ->
    doc("under the application a server that gave up starts once more, without its allocations"),
    turn_kit:with_server(fixed(), fun(#{name := Name} = Server) ->
        _ = allocated(Server),
        Sup = server_sup(Name),
        ok = kill_until_gone(Name, Sup),
        until(fun() -> is_serving(Name) end),
        #{allocations := 0, relay_restarts := 0} = meerkat:info(Name),
        success(allocate(challenged(open(Server)))),
        ok
    end).

-spec allocation_killed(turn_kit:config()) -> ok.
allocation_killed(_Config) ->
    doc("an allocation's process that dies loses only itself, in the relay too"),
    turn_kit:with_server(#{}, fun(#{name := Name} = Server) ->
        Peers = #{v4 => peer()},
        {_, Loser} = session(channel, Server, Peers),
        [{_, Pid}] = meerkat_alloc_table:sessions(Name),
        Lives = session(channel, Server, Peers),
        true = exit(Pid, kill),
        until(fun() -> relay_sessions(Name) =:= 1 end),
        ?assertEqual(437, code(call(Loser, refresh, []))),
        ok = both_ways(Lives, Peers),
        #{allocations := 1, relay_restarts := 0} = meerkat:info(Name),
        ok
    end).

-spec vm_killed(turn_kit:config()) -> ok.
vm_killed(_Config) ->
    doc("without `survive` no relaying without a governor: the VM is killed, and the relay program "
        "ends"),
    {Shell, Vm} = foreground(),
    [Relay] = children(Vm, "meerkat_relay"),
    [] = os:cmd("kill -9 " ++ Vm),
    until(fun() -> not is_there(Relay) end),
    _ = collected(Shell),
    ok.

-spec foreground_ends_with_a_sentence(turn_kit:config()) -> ok.
foreground_ends_with_a_sentence(_Config) ->
    doc("a server in the foreground whose relays die and die ends the node with status 1 and a "
        "sentence"),
    {Shell, Vm} = foreground(),
    ok = kill_children_until_gone(Vm),
    {1, Output} = collected(Shell),
    ?assertNotEqual(nomatch, string:find(Output, "gives up and ends")),
    ?assertNotEqual(nomatch, string:find(Output, "the server has given up")),
    [?assertEqual(nomatch, string:find(Output, Noise))
     || Noise <- ["Kernel pid terminated", "crash dump", "{\"init terminating"]].

%%% What a server that starts anew is told

-spec reloaded_settings_stay(turn_kit:config()) -> ok.
reloaded_settings_stay(_Config) ->
    doc("a server that its supervisor starts anew has the configuration of the last reload, and so "
        "it has when only its tables were lost"),
    turn_kit:with_server(fixed(), fun(#{name := Name} = Server) ->
        #{config := Running} = meerkat_registry:settings(Name),
        ok = meerkat:reload(Name, (Running())#{software => <<"reloaded">>}),
        [begin
             Was = server_registry(Name),
             true = exit(case Victim of tables -> Was; all -> server_sup(Name) end, kill),
             until(fun() -> server_registry(Name) =/= Was andalso is_serving(Name) end),
             ?assertEqual(<<"reloaded">>, get(software, allocate(challenged(open(Server)))))
         end || Victim <- [tables, all]],
        ok
    end).

-spec drawn_secret_stays(turn_kit:config()) -> ok.
drawn_secret_stays(_Config) ->
    doc("and the secret that was drawn when it first started"),
    Name = ?FUNCTION_NAME,
    {ok, _} = meerkat:start_server(Name, maps:remove(secrets, config())),
    Credentials = meerkat:credentials(Name, <<"alice">>),
    #{secrets := Drawn} = meerkat_registry:settings(Name),
    Was = server_registry(Name),
    true = exit(server_sup(Name), kill),
    until(fun() -> server_registry(Name) =/= Was andalso is_serving(Name) end),
    #{secrets := Kept} = meerkat_registry:settings(Name),
    ?assertEqual(Drawn(), Kept()),
    ?assertEqual(maps:keys(Credentials), maps:keys(meerkat:credentials(Name, <<"alice">>))),
    ok = meerkat:stop_server(Name),
    {ok, _} = meerkat:start_server(Name, maps:remove(secrets, config())),
    #{secrets := Other} = meerkat_registry:settings(Name),
    ?assertNotEqual(Drawn(), Other()),
    ok = meerkat:stop_server(Name).

-spec embedder_starts_anew(turn_kit:config()) -> ok.
embedder_starts_anew(_Config) ->
    doc("the same in somebody else's tree; another child specification begins with its own"),
    Name = ?FUNCTION_NAME,
    Flag = process_flag(trap_exit, true),
    Spec = meerkat:child_spec(Name, (config())#{software => <<"first">>}),
    {ok, Sup} = supervisor:start_link(?MODULE, Spec),
    #{config := Running} = meerkat_registry:settings(Name),
    ok = meerkat:reload(Name, (Running())#{software => <<"reloaded">>}),
    Was = server_registry(Name),
    [{_, Server, _, _}] = supervisor:which_children(Sup),
    true = exit(Server, kill),
    until(fun() -> server_registry(Name) =/= Was andalso is_serving(Name) end),
    ?assertMatch(#{software := <<"reloaded">>}, meerkat_registry:settings(Name)),
    true = exit(Sup, shutdown),
    receive {'EXIT', Sup, shutdown} -> ok end,
    {ok, Other} = supervisor:start_link(?MODULE,
                                        meerkat:child_spec(Name, (config())#{software =>
                                                                                 <<"second">>})),
    ?assertMatch(#{software := <<"second">>}, meerkat_registry:settings(Name)),
    true = exit(Other, shutdown),
    receive {'EXIT', Other, shutdown} -> ok end,
    true = process_flag(trap_exit, Flag),
    ok = meerkat_registry:drop(Name).

%% An embedder's supervisor.
-spec init(supervisor:child_spec()) -> {ok, tuple()}.
init(ChildSpec) ->
    {ok, {#{}, [ChildSpec]}}.

%%% Sessions and what flows in them

session(channel, Server, #{v4 := Peer}) ->
    Client = allocated(Server),
    success(bind(Client, ?NUMBER, Peer)),
    {channel, Client};
session(permission, Server, #{v4 := Peer}) ->
    Client = allocated(Server),
    success(permit(Client, [Peer])),
    {permission, Client};
session(v6, Server, #{v6 := Peer}) ->
    Client = allocated(Server, [{requested_address_family, 2}], #{family => v6}),
    success(bind(Client, ?NUMBER, Peer)),
    {v6, Client};
session(dual, Server, #{v4 := Peer4, v6 := Peer6}) ->
    Client = allocated(Server, [{additional_address_family, 2}]),
    success(permit(Client, [Peer4, Peer6])),
    success(bind(Client, ?NUMBER, Peer4)),
    {dual, Client}.

%% Data from the client and back, by what it had before.
both_ways({permission, Client}, #{v4 := Peer}) ->
    by_indication(Client, Peer);
both_ways({channel, Client}, #{v4 := Peer}) ->
    by_channel(Client, Peer);
both_ways({v6, Client}, #{v6 := Peer}) ->
    by_channel(Client, Peer);
both_ways({dual, Client}, #{v4 := Peer4, v6 := Peer6}) ->
    ok = by_channel(Client, Peer4),
    by_indication(Client, Peer6).

by_channel(Client, Peer) ->
    Mark = crypto:strong_rand_bytes(16),
    ok = channel(Client, ?NUMBER, Mark),
    {From, Mark} = peer_next(Peer),
    ?assertEqual(relayed(Client), From),
    ok = peer_send(Peer, From, Mark),
    ?assertEqual(stun_model:encode_channel(?NUMBER, Mark), next(Client)).

by_indication(Client, #{address := Address} = Peer) ->
    Mark = crypto:strong_rand_bytes(16),
    ok = send_to(Client, Peer, Mark),
    {From, Mark} = peer_next(Peer),
    ok = peer_send(Peer, From, Mark),
    ?assertEqual({Address, Mark}, data(Client)).

reaches_client(Client, Peer) ->
    ok = peer_send(Peer, relayed(Client), <<"reached">>),
    ?assertEqual({maps:get(address, Peer), <<"reached">>}, data(Client)).

%% Does what the peer sends come to the client?
answers(Client, Peer) ->
    from_peer(Client, Peer) =:= data.

relayed(#{relayed := Relayed}) -> Relayed.

%% Sends on all channels until it is told to stop.
traffic(Sessions) ->
    spawn_link(fun() -> pour([Client || {Kind, Client} <- Sessions, Kind =/= permission]) end).

pour(Clients) ->
    _ = [channel(Client, ?NUMBER, <<"traffic">>) || Client <- Clients],
    receive {stop, Pid} -> Pid ! {stopped, self()}
    after 1 -> pour(Clients)
    end.

%% Stops it; what is still on its way has arrived when all have sent and received a last thing.
quiet(Traffic, Sessions, Peers) ->
    Traffic ! {stop, self()},
    receive {stopped, Traffic} -> ok end,
    [begin
         ok = channel(Client, ?NUMBER, <<"last">>),
         ok = last(maps:get(case Kind of v6 -> v6; _ -> v4 end, Peers))
     end || {Kind, Client} <- Sessions, Kind =/= permission],
    ok.

last(Peer) ->
    case peer_next(Peer) of
        {_, <<"last">>} -> ok;
        {_, <<"traffic">>} -> last(Peer)
    end.

%% A client that had a channel, and itself at another address; Pending: nothing was sent from there.
moved(Server, Peer, Pending) ->
    Client = allocated(Server, [{mobility_ticket, <<>>}]),
    success(bind(Client, ?NUMBER, Peer)),
    Elsewhere = open(Server),
    New = maps:merge(Client, maps:with([socket, here], Elsewhere)),
    Ticket = get(mobility_ticket, maps:get(answer, Client)),
    success(call(challenged(New), refresh, [{mobility_ticket, Ticket}])),
    _ = Pending orelse begin
        ok = channel(New, ?NUMBER, <<"here I am">>),
        ?assertEqual({relayed(Client), <<"here I am">>}, peer_next(Peer))
    end,
    {Client, challenged(New)}.

%%% Servers

config() ->
    #{realm => <<"example.org">>, secrets => [<<"s3cret">>],
      secret_as_password => true, workers => 1,
      listeners => [#{transport => udp, ip => {127, 0, 0, 1}, port => 0}],
      relays => [#{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1}, min_port => 49152,
                   max_port => 65535}]}.

%% At a port it has again when it starts anew.
fixed() ->
    Port = turn_kit:free_ports(1),
    #{software => <<"first">>,
      listeners => [#{transport => udp, ip => {127, 0, 0, 1}, port => Port}]}.

%% As time_SUITE has it.
flying(Config, Fun) ->
    Root = root(proplists:get_value(data_dir, Config)),
    Built = os:cmd("env -u MAKEFLAGS make -s -C '" ++ Root ++ "/c_src' VARIANT=fast relay 2>&1 "
                   "&& echo built"),
    "built" = lists:last(string:lexemes(Built, "\n")),
    Relay = filename:join(Root, "_build/c/fast/meerkat_relay"),
    ok = meerkat_clock:set_speed(?SPEED),
    try
        turn_kit:with_server(#{relay_program => Relay, workers => 1}, Fun)
    after
        ok = meerkat_clock:set_speed(1)
    end.

root("/") -> error(no_source_tree);
root(Dir) ->
    case filelib:is_regular(filename:join(Dir, "c_src/ctl/ctl.def")) of
        true -> Dir;
        false -> root(filename:dirname(Dir))
    end.

relay_port(#{name := Name}) ->
    meerkat_roles:find(Name, port).

%% What the server says of itself when so many relays have been replaced.
restarted(#{name := Name}, N) ->
    until(fun() -> maps:get(relay_restarts, meerkat:info(Name)) >= N end),
    #{relay_gap_ms := Gap, relay_gap_total_ms := Total} = Info = meerkat:info(Name),
    ct:pal("gap ~b ms", [Gap]),
    ?assert(Total >= Gap andalso Gap > 0),
    Info.

allocations(#{name := Name}) ->
    lists:sort([{Session, Client, Relayed, [Ip || #{peer := Ip} <- Permissions],
                 [{Number, Peer} || #{number := Number, peer := Peer} <- Channels]}
                || #{session := Session, client := Client, relayed := Relayed,
                     permissions := Permissions, channels := Channels}
                       <- meerkat:allocations(Name)]).

%% Asked while there is no relay to ask.
alive(#{name := Name}) ->
    [Info || {_, Pid} <- meerkat_alloc_table:sessions(Name),
             {ok, Info} <- [meerkat_alloc:info(Pid)]].

%% What the relay answered by itself Erlang is told of, but need not have read yet: it has once it
%% answers a request that is not in the grant.
read_by_erlang(Client) ->
    ?assertEqual(437, code(allocate(Client))),
    ok.

%% The same for all clients: what the relay is asked it answers behind what it has written by then.
%% Where Erlang writes to a relay in the moment that dies, what it has not read is lost
%% (docs/design/grants.md).
all_is_read(#{name := Name}) ->
    #{relay := {ok, _}} = meerkat:info(Name),
    ok.

is_permitted(Peer, Server) ->
    is_permitted(Peer, 0, Server).

%% For so many milliseconds at least.
is_permitted(#{address := {Ip, _}}, Ms, Server) ->
    lists:any(fun(#{permissions := Permissions}) ->
        lists:any(fun(#{peer := Permitted, expires_ms := Left}) ->
            Permitted =:= Ip andalso Left >= Ms
        end, Permissions)
    end, alive(Server)).

is_bound(#{address := Address}, Server) ->
    lists:any(fun(#{channels := Channels}) ->
        lists:any(fun(#{peer := Peer}) -> Peer =:= Address end, Channels)
    end, alive(Server)).

relay_sessions(Name) ->
    case meerkat:info(Name) of
        #{relay := {ok, #{sessions := N}}} -> N;
        #{relay := {error, _}} -> unknown
    end.

%% Nothing is started anew meanwhile.
suspend_supervisor(#{name := Name}) -> sys:suspend(server_sup(Name)).

resume_supervisor(#{name := Name}) -> sys:resume(server_sup(Name)).

server_sup(Name) ->
    meerkat_sup:server(Name).

server_registry(Name) ->
    case persistent_term:get({meerkat, Name}, none) of
        #{owner := Owner} -> Owner;
        none -> none
    end.

is_serving(Name) ->
    try meerkat:info(Name) of
        #{relay := {ok, _}} -> true;
        #{relay := {error, _}} -> false
    catch
        error:badarg -> false
    end.

%% Whoever else wants it may have it once the kernel has let go.
take_port(Ip, Port) ->
    case gen_udp:open(Port, [{ip, Ip}]) of
        {ok, Socket} -> {ok, Socket};
        {error, eaddrinuse} -> take_port(Ip, Port)
    end.

kill_until_gone(Name, Sup) ->
    Monitor = monitor(process, Sup),
    kill_until_down(Name, Monitor).

kill_until_down(Name, Monitor) ->
    _ = case try meerkat_roles:find(Name, port) catch _:_ -> gone end of
        Port when is_port(Port) ->
            case erlang:port_info(Port, os_pid) of
                {os_pid, OsPid} -> os:cmd("kill -9 " ++ integer_to_list(OsPid));
                undefined -> ok
            end;
        _ -> ok
    end,
    receive {'DOWN', Monitor, _, _, _} -> ok
    after 1 -> kill_until_down(Name, Monitor)
    end.

%% Tries again until it is so; the suite's time trap is the bound.
until(Fun) ->
    case Fun() of
        true -> ok;
        false -> receive after 5 -> until(Fun) end
    end.

%%% A server in the foreground: the port to its shell and the VM's process id

foreground() ->
    Root = root(filename:dirname(code:which(meerkat))),
    Port = turn_kit:free_ports(1),
    Env = [{"LISTEN_IP", "127.0.0.1"}, {"LISTEN_PORT", integer_to_list(Port)},
           {"RELAY_IP", "127.0.0.1"}, {"XDG_RUNTIME_DIR", "/nonexistent"}, {"SURVIVE", "0"}],
    Shell = open_port({spawn_executable, filename:join(Root, "rel/bin/meerkatctl")},
                      [{args, ["foreground"]}, {env, Env}, exit_status, binary,
                       stderr_to_stdout]),
    ok = until_output(Shell, <<"is serving">>, <<>>),
    {os_pid, Pid} = erlang:port_info(Shell, os_pid),
    [Vm] = children(integer_to_list(Pid), "beam.smp"),
    {Shell, Vm}.

until_output(Shell, Wanted, Seen) ->
    receive
        {Shell, {data, Data}} ->
            All = <<Seen/binary, Data/binary>>,
            case binary:match(All, Wanted) of
                nomatch -> until_output(Shell, Wanted, All);
                _ -> ok
            end;
        {Shell, {exit_status, Status}} -> error({ended, Status, Seen})
    after ?TIMEOUT -> error({not_serving, Seen})
    end.

collected(Shell) -> collected(Shell, <<>>).

collected(Shell, Seen) ->
    receive
        {Shell, {data, Data}} -> collected(Shell, <<Seen/binary, Data/binary>>);
        {Shell, {exit_status, Status}} -> {Status, Seen}
    after ?TIMEOUT -> error({still_there, Seen})
    end.

%% Processes of that name below another, however far.
children(Parent, Name) ->
    Below = string:lexemes(os:cmd("pgrep -P " ++ Parent), "\n"),
    [P || P <- Below, string:trim(os:cmd("cat /proc/" ++ P ++ "/comm")) =:= Name]
        ++ lists:append([children(P, Name) || P <- Below]).

is_there(Pid) ->
    filelib:is_dir("/proc/" ++ Pid).

kill_children_until_gone(Vm) ->
    _ = [os:cmd("kill -9 " ++ Relay) || Relay <- children(Vm, "meerkat_relay")],
    case is_there(Vm) of
        true -> kill_children_until_gone(Vm);
        false -> ok
    end.
