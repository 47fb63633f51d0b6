%% Calls outlive the VM: a server in a node of its own, which is killed while clients and peers of
%% this one talk through it, and started again. What clients were told is there then, what they were
%% not told is nowhere, and packets that were on their way in between are there too.
-module(survival_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/file.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([calls_go_on_without_erlang/1, killed_at_any_moment/1, a_client_moves_meanwhile/1,
         other_configuration_is_applied/1, what_cannot_change_needs_another_relay/1,
         relay_dies_after_it_was_taken_over/1, dual_and_tcp_allocations/1,
         a_relay_that_hangs_is_replaced/1, time_runs_out/1, one_that_nobody_finds_ends/1,
         stop_ends_the_relay/1,
         two_nodes_never_govern_one_relay/1,
         nobody_else_may_come_in/1, without_survive_it_ends_with_erlang/1]).

-import(turn_kit, [doc/1, open/1, challenged/1, signed/3, ask/2, call/3, request/2, allocated/1,
                   allocated/2, allocate/1, delete/1, permit/2, bind/3, channel/3, peer/0, peer/1,
                   peer_send/3, next/1, get/2, success/1, expect/2, send/2, eventually/1]).
-import(survival_kit, [run_dir/1, lock/1, start/2, start_node/0, in/4, kill/1, stop/1, relay/1,
                       lives/1, descriptors/1, listeners/1, first/1, first/2, next_to/3, again/2,
                       again/3, counter/2, ports_free/1, allocations/1, bound/1, both_ways/2,
                       over_tcp/3, talk/1, hush/1, insist/3, busy/1, finish/1]).

-define(CHANNEL, 16#4000).

-spec all() -> [atom()].
all() ->
    [calls_go_on_without_erlang, killed_at_any_moment, a_client_moves_meanwhile,
     other_configuration_is_applied, what_cannot_change_needs_another_relay,
     relay_dies_after_it_was_taken_over, dual_and_tcp_allocations, time_runs_out,
     one_that_nobody_finds_ends,
     a_relay_that_hangs_is_replaced, stop_ends_the_relay, two_nodes_never_govern_one_relay,
     nobody_else_may_come_in,
     without_survive_it_ends_with_erlang].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 90}}].

%% Each case has a run directory of its own.
-spec init_per_testcase(atom(), turn_kit:config()) -> turn_kit:config().
init_per_testcase(_Case, Config) -> survival_kit:dir(Config).

-spec end_per_testcase(atom(), turn_kit:config()) -> _.
end_per_testcase(_Case, Config) -> survival_kit:end_dir(Config).

-spec calls_go_on_without_erlang(turn_kit:config()) -> _.
calls_go_on_without_erlang(Config) ->
    doc("while there is no Erlang: data both ways, Binding, 401, and Refresh, CreatePermission and "
        "ChannelBind within the grant; nobody new. The next one knows all of it, and governs"),
    #{relay := Relay} = Server = first(Config),
    Free = ports_free(Server),
    Talker = talk(Server),
    {Client, Peer} = bound(Server),
    Descriptors = descriptors(Relay),
    kill(Server),
    Stranger = challenged(open(Server)),
    success(ask(Stranger, request(binding, []))),
    ?assertEqual(900, get(lifetime, success(call(Client, refresh, [{lifetime, 900}])))),
    Other = peer(),
    success(permit(Client, [Other])),
    success(bind(Client, ?CHANNEL + 1, Other)),
    both_ways(Client, Peer),
    send(Stranger, signed(Stranger, allocate, [{requested_transport, 17}])),
    success(ask(Stranger, request(binding, []))),
    ?assert(lives(Relay)),
    Next = again(Config, Server),
    ?assert(in(Next, survival_kit, told, [told, "taken over with 2 allocations, 0 lost"])),
    ?assertEqual(1, counter(Next, erlang_away)),
    _ = hush(Talker),
    ?assertEqual([1, 2], lists:sort([length(C) || {_, _, C} <- allocations(Next)])),
    #{expires_ms := Left} = hd([A || #{channels := [_, _]} = A <- in(Next, meerkat, allocations,
                                                                     [default])]),
    ?assert(Left > 600000),
    both_ways(Client, Peer),
    success(call(Client, refresh, [])),
    delete(Client),
    New = allocated(Next),
    delete(New),
    eventually(fun() -> length(in(Next, meerkat, allocations, [default])) =:= 1 end),
    ?assertEqual(1, in(Next, meerkat, disconnect, [default, {user, maps:get(user, New)}])),
    eventually(fun() -> in(Next, meerkat, allocations, [default]) =:= [] end),
    eventually(fun() -> ports_free(Next) =:= Free end),
    eventually(fun() -> descriptors(Relay) =< Descriptors end),
    ok = stop(Next),
    eventually(fun() -> not lives(Relay) end).

-spec killed_at_any_moment(turn_kit:config()) -> _.
killed_at_any_moment(Config) ->
    doc("Erlang is killed at random moments, also while it takes over and while it reloads, with "
        "allocations made, refreshed, bound and ended: what clients were told is there, all else "
        "is not; no packet of a call is lost"),
    Server = first(Config),
    Talker = talk(Server),
    Busy = [busy(Server) || _ <- lists:seq(1, 6)],
    Last = lists:foldl(fun(Round, Before) ->
        receive after rand:uniform(300) -> ok end,
        _ = Round =:= 3 andalso reloads(Config, Before),
        kill(Before),
        %% One that is killed in the middle of its start.
        _ = Round =:= 2 andalso begun_and_killed(Config, Before),
        again(Config, Before)
    end, Server, [1, 2, 3]),
    Told = finish(Busy),
    _ = hush(Talker),
    Known = fun() -> lists:sort([R || {[R], _, _} <- allocations(Last)]) end,
    eventually(fun() -> length(Known()) =:= length(Told) + 1 end),
    ?assertEqual([], Told -- Known()),
    ok = stop(Last).

%% And may have got anywhere with it: another listener, other rules and limits.
reloads(Config, Server) ->
    [#{ip := Ip} | _] = Here = listeners(Server),
    Other = #{transport => udp, ip => Ip, port => turn_kit:free_ports(1)},
    Changed = next_to(Config, Server, #{listeners => [Other | Here], user_quota => 50,
                                        denied_peers => [{{192, 0, 2, 0}, 24}]}),
    ok = peer:cast(maps:get(node, Server), survival_kit, reload, [default, Changed]),
    receive after rand:uniform(40) -> ok end.

%% It may have got anywhere.
begun_and_killed(Config, Server) ->
    {ok, Node, _} = start_node(),
    OsPid = peer:call(Node, os, getpid, []),
    ok = peer:cast(Node, survival_kit, serve, [default, next_to(Config, Server, #{})]),
    receive after rand:uniform(500) -> ok end,
    kill(#{node => Node, os_pid => OsPid}).

-spec a_client_moves_meanwhile(turn_kit:config()) -> _.
a_client_moves_meanwhile(Config) ->
    doc("tickets (RFC 8016) are good for the next Erlang, each once: from before the kill, and "
        "where the client was about to move"),
    Mobile = #{mobility => true},
    Server = first(Config, Mobile),
    #{answer := Answer} = Client = allocated(Server, [{mobility_ticket, <<>>}]),
    Peer = peer(),
    success(bind(Client, ?CHANNEL, Peer)),
    Moving = challenged(open(Server)),
    First = get(mobility_ticket, Answer),
    Moved = success(call(Moving, refresh, [{mobility_ticket, First}])),
    kill(Server),
    %% It speaks from there while nobody is there to hear of it.
    both_ways(Moving#{relayed => maps:get(relayed, Client)}, Peer),
    Next = again(Config, Server, Mobile),
    both_ways(Moving#{relayed => maps:get(relayed, Client)}, Peer),
    Third = challenged(open(Next)),
    expect(400, call(Third, refresh, [{mobility_ticket, First}])),
    success(call(Third, refresh, [{mobility_ticket, get(mobility_ticket, Moved)}])),
    both_ways(Third#{relayed => maps:get(relayed, Client)}, Peer),
    ok = stop(Next).

-spec other_configuration_is_applied(turn_kit:config()) -> _.
other_configuration_is_applied(Config) ->
    doc("what the configuration says otherwise by now is applied as by a reload: a listener less "
        "and one more, peers that are denied, users that are gone"),
    Server = first(Config),
    {Client, Peer} = bound(Server),
    kill(Server),
    [Port] = [turn_kit:free_ports(1)],
    Listeners = listeners(Server) ++ [#{transport => udp, ip => {127, 0, 0, 1}, port => Port}],
    Next = again(Config, Server, #{listeners => tl(tl(Listeners)) ++ [hd(Listeners)],
                                   denied_peers => [{{127, 0, 0, 0}, 8}], allowed_peers => []}),
    success(ask(open(Next#{port := Port}), request(binding, []))),
    channel(Client, ?CHANNEL, <<"forbidden by now">>),
    eventually(fun() -> counter(Next, no_permission) + counter(Next, forbidden_peer) > 0 end),
    success(call(Client, refresh, [])),
    expect(403, call(Client, channel_bind, [{channel_number, ?CHANNEL},
                                            {xor_peer_address, maps:get(address, Peer)}])),
    ok = stop(Next).

-spec what_cannot_change_needs_another_relay(turn_kit:config()) -> _.
what_cannot_change_needs_another_relay(Config) ->
    doc("a configuration that this relay cannot have, for it made its tables by another: it ends, "
        "and another one starts; the log says why"),
    #{relay := Relay} = Server = first(Config),
    _ = bound(Server),
    kill(Server),
    Next = start(Config, next_to(Config, Server, #{workers => 3})),
    ?assert(in(Next, survival_kit, told, [told, "not taken over.*workers is another"])),
    ?assertNotEqual(Relay, relay(Next)),
    ?assertNot(lives(Relay)),
    ?assertEqual([], allocations(Next)),
    success(allocate(challenged(open(Next)))),
    ok = stop(Next).

-spec relay_dies_after_it_was_taken_over(turn_kit:config()) -> _.
relay_dies_after_it_was_taken_over(Config) ->
    doc("the processes that were made from the relay's state know enough to make it anew in "
        "another relay, and that one outlives Erlang too"),
    Server = first(Config),
    {Client, Peer} = bound(Server),
    kill(Server),
    Next = again(Config, Server),
    [] = os:cmd("kill -KILL " ++ integer_to_list(maps:get(relay, Next))),
    eventually(fun() -> in(Next, meerkat, is_ready, [default]) end),
    insist(Client, refresh, []),
    both_ways(Client, Peer),
    After = Next#{relay := relay(Next)},
    ?assertNotEqual(maps:get(relay, Next), maps:get(relay, After)),
    kill(After),
    both_ways(Client, Peer),
    Last = again(Config, After),
    both_ways(Client, Peer),
    ok = stop(Last).

-spec dual_and_tcp_allocations(turn_kit:config()) -> _.
dual_and_tcp_allocations(Config) ->
    doc("allocations with two addresses, one of which ends before the other, a client over TCP"),
    Server = first(Config),
    Dual = allocated(Server, [{additional_address_family, 2}]),
    success(call(Dual, refresh, [{requested_address_family, 2}, {lifetime, 1800}])),
    Over = over_tcp(Server, 17, #{}),
    {Peer, Six} = {peer(), peer({0, 0, 0, 0, 0, 0, 0, 1})},
    success(bind(Over, ?CHANNEL, Peer)),
    success(bind(Dual, ?CHANNEL, Peer)),
    success(bind(Dual, ?CHANNEL + 1, Six)),
    Before = allocations(Server),
    kill(Server),
    Next = again(Config, Server),
    ?assertEqual(Before, allocations(Next)),
    both_ways(Dual, Peer),
    peer_send(Peer, maps:get(relayed, Over), <<"over TCP">>),
    ?assertMatch({ok, ?CHANNEL, <<"over TCP">>}, stun_model:decode_channel(next(Over))),
    success(call(Over, refresh, [])),
    delete(Over),
    success(call(Dual, refresh, [{requested_address_family, 2}, {lifetime, 0}])),
    both_ways(Dual, Peer),
    ok = stop(Next).

-spec a_relay_that_hangs_is_replaced(turn_kit:config()) -> _.
a_relay_that_hangs_is_replaced(Config) ->
    doc("Erlang is killed while the relay stands still: the next node finds that it answers "
        "nobody, kills it and starts another at the same ports"),
    #{relay := Relay} = Server = first(Config),
    ok = process_kit:hold(Relay),
    kill(Server),
    Next = start(Config, next_to(Config, Server, #{})),
    ?assertNotEqual(Relay, relay(Next)),
    ?assertNot(in(Next, survival_kit, told, [told, "another Erlang"])),
    success(allocate(challenged(open(Next)))),
    ok = stop(Next).

-spec time_runs_out(turn_kit:config()) -> _.
time_runs_out(Config) ->
    doc("nobody comes within `survive` seconds: the relay ends, and its ports are free"),
    #{relay := Relay, port := Port} = Server = first(Config, #{survive => 1}),
    {Client, Peer} = bound(Server),
    kill(Server),
    both_ways(Client, Peer),
    eventually(fun() -> not lives(Relay) end),
    {ok, Socket} = gen_udp:open(Port, [{ip, {127, 0, 0, 1}}]),
    ok = gen_udp:close(Socket),
    Next = start(Config, next_to(Config, Server, #{})),
    ?assertEqual([], allocations(Next)),
    ok = stop(Next).

-spec one_that_nobody_finds_ends(turn_kit:config()) -> _.
one_that_nobody_finds_ends(Config) ->
    doc("whoever ends a service for good removes its run directory: the relay ends at once, its "
        "ports are free, and it takes nothing away that another one has there since"),
    Dir = run_dir(Config),
    #{relay := Relay} = Server = first(Config),
    kill(Server),
    ok = file:del_dir_r(Dir),
    eventually(fun() -> not lives(Relay) end),
    ok = file:make_dir(Dir),
    ok = file:change_mode(Dir, 8#700),
    #{relay := Slow} = Second = first(Config, #{listeners => listeners(Server)}),
    kill(Second),
    %% Two at a time: the one before is held up until the next one serves.
    ok = process_kit:hold(Slow),
    ok = file:del_dir_r(Dir),
    ok = file:make_dir(Dir),
    ok = file:change_mode(Dir, 8#700),
    Third = first(Config),
    {Client, Peer} = bound(Third),
    ok = process_kit:let_go(Slow),
    eventually(fun() -> not lives(Slow) end),
    kill(Third),
    Next = again(Config, Third),
    both_ways(Client, Peer),
    ok = stop(Next).

-spec stop_ends_the_relay(turn_kit:config()) -> _.
stop_ends_the_relay(Config) ->
    doc("an end in order is the relay's too, at once; so is a SIGTERM while it is alone"),
    #{relay := Relay} = Server = first(Config),
    _ = bound(Server),
    ok = stop(Server),
    eventually(fun() -> not lives(Relay) end),
    #{relay := Alone} = Other = first(Config),
    kill(Other),
    [] = os:cmd("kill -TERM " ++ integer_to_list(Alone)),
    eventually(fun() -> not lives(Alone) end).

-spec two_nodes_never_govern_one_relay(turn_kit:config()) -> _.
two_nodes_never_govern_one_relay(Config) ->
    doc("a second node with the same run directory is told so, and serves with a relay of its own "
        "that ends with it"),
    #{relay := Relay} = Server = first(Config),
    {Client, Peer} = bound(Server),
    #{relay := Own} = Second = first(Config),
    Told = "another Erlang governs the relay at .*relay-default.sock",
    ?assert(in(Second, survival_kit, told, [told, Told])),
    ?assertNotEqual(Relay, Own),
    success(allocate(challenged(open(Second)))),
    kill(Second),
    eventually(fun() -> not lives(Own) end),
    both_ways(Client, Peer),
    success(call(Client, refresh, [])),
    ok = stop(Server).

-spec nobody_else_may_come_in(turn_kit:config()) -> _.
nobody_else_may_come_in(Config) ->
    doc("socket and lock are this user's alone, and so is the directory; who comes by the socket "
        "and says nothing, or nonsense, is turned away, and the next node is let in"),
    Server = first(Config),
    {Client, Peer} = bound(Server),
    Dir = run_dir(Config),
    Path = filename:join(Dir, "relay-default.sock"),
    [{ok, #file_info{mode = Mode}}, {ok, #file_info{mode = LockMode}},
     {ok, #file_info{mode = DirMode}}] = [file:read_file_info(F) || F <- [Path, lock(Dir), Dir]],
    ?assertEqual({8#600, 8#600, 8#700},
                 {Mode band 8#777, LockMode band 8#777, DirMode band 8#777}),
    kill(Server),
    %% A moment passes until the relay knows that nobody governs it.
    eventually(fun() -> said_to(Path) =:= <<"w">> end),
    [begin
         {ok, Socket} = gen_tcp:connect({local, Path}, 0, [local, binary, {active, false}]),
         ok = gen_tcp:send(Socket, Nonsense),
         ?assertEqual({ok, <<"w">>}, gen_tcp:recv(Socket, 1, 10000)),
         {error, Closed} = gen_tcp:recv(Socket, 0, 10000),
         ?assert(lists:member(Closed, [closed, econnreset])),
         ok = gen_tcp:close(Socket)
     end || Nonsense <- [<<>>, <<"let me in">>, binary:copy(<<0>>, 64)]],
    both_ways(Client, Peer),
    ok = stop(again(Config, Server)).

%% The relay's first word to one who comes and says nothing.
said_to(Path) ->
    {ok, Socket} = gen_tcp:connect({local, Path}, 0, [local, binary, {active, false}]),
    {ok, Word} = gen_tcp:recv(Socket, 1, 10000),
    ok = gen_tcp:close(Socket),
    Word.

-spec without_survive_it_ends_with_erlang(turn_kit:config()) -> _.
without_survive_it_ends_with_erlang(Config) ->
    doc("with survive = 0 the relay ends with Erlang, at once; one that another node left for more "
        "is taken over by such a node, and ends with it"),
    #{relay := Relay} = Server = first(Config, #{survive => 0}),
    kill(Server),
    eventually(fun() -> not lives(Relay) end),
    #{relay := Left} = Other = first(Config),
    {Client, Peer} = bound(Other),
    kill(Other),
    Next = again(Config, Other, #{survive => 0}),
    both_ways(Client, Peer),
    kill(Next),
    eventually(fun() -> not lives(Left) end).
