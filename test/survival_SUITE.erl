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
-export([relay_is_replaced/1, another_program_takes_over/1, killed_while_it_is_replaced/1,
         a_program_that_cannot_replace_it/1]).
%% In the node that is killed.
-export([serve/2, told/2, log/2]).

-import(turn_kit, [doc/1, open/1, challenged/1, signed/3, ask/2, call/3, request/2, allocated/1,
                   allocated/2, allocate/1, delete/1, permit/2, bind/3, channel/3, peer/0, peer/1,
                   peer_send/3, peer_next/1, next/1, get/2, success/1, expect/2, send/2,
                   eventually/1]).

-define(CHANNEL, 16#4000).

-spec all() -> [atom()].
all() ->
    [calls_go_on_without_erlang, killed_at_any_moment, a_client_moves_meanwhile,
     other_configuration_is_applied, what_cannot_change_needs_another_relay,
     relay_dies_after_it_was_taken_over, dual_and_tcp_allocations, time_runs_out,
     one_that_nobody_finds_ends,
     a_relay_that_hangs_is_replaced, stop_ends_the_relay, two_nodes_never_govern_one_relay,
     nobody_else_may_come_in,
     without_survive_it_ends_with_erlang, relay_is_replaced, another_program_takes_over,
     killed_while_it_is_replaced, a_program_that_cannot_replace_it].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 90}}].

%% Each case has a run directory of its own.
-spec init_per_testcase(atom(), turn_kit:config()) -> turn_kit:config().
init_per_testcase(_Case, Config) ->
    Dir = string:trim(os:cmd("mktemp -d /tmp/survival.XXXXXX")),
    [{run_dir, Dir} | Config].

%% A relay that a failed case leaves behind would go on for a while.
-spec end_per_testcase(atom(), turn_kit:config()) -> _.
end_per_testcase(_Case, Config) ->
    ok = ctl_kit:end_relay(run_dir(Config)),
    file:del_dir_r(run_dir(Config)).

run_dir(Config) -> proplists:get_value(run_dir, Config).

lock(Dir) -> filename:join(Dir, "relay-default.sock.lock").

%% ------------------------------------------------------------------------------------- nodes

%% A node with a server, as turn_kit:start_server/1 has one; its listener is where the one before
%% had it, if there was one.
start(Config, Overrides) ->
    {ok, Node, _} = start_node(),
    OsPid = peer:call(Node, os, getpid, []),
    Own = #{run_dir => run_dir(Config), survive => 60},
    try peer:call(Node, ?MODULE, serve, [default, maps:merge(Own, Overrides)], 60000) of
        Server -> Server#{node => Node, os_pid => OsPid}
    catch
        Class:Reason:Stack ->
            ok = peer:stop(Node),
            erlang:raise(Class, Reason, Stack)
    end.

start_node() ->
    peer:start_link(#{connection => standard_io, wait_boot => 60000,
                      args => ["-pa" | code:get_path()]}).

%% In that node.
-spec serve(atom(), map()) -> turn_kit:server().
serve(Name, Overrides) ->
    {ok, _} = application:ensure_all_started(meerkat),
    ok = logger:set_primary_config(level, notice),
    ok = logger:remove_handler(default),
    ok = logger:add_handler(told, ?MODULE, #{}),
    Lines = ets:new(told, [named_table, public, ordered_set, {heir, whereis(init), none}]),
    _ = spawn(fun() -> true = ets:give_away(Lines, self(), none) end),
    turn_kit:start_server(Overrides#{name => Name}).

-spec log(logger:log_event(), term()) -> _.
log(#{msg := {string, Line}}, _) -> ets:insert(told, {erlang:monotonic_time(), Line});
log(#{msg := {report, _}}, _) -> ok;
log(#{msg := {Format, Args}}, _) ->
    ets:insert(told, {erlang:monotonic_time(), io_lib:format(Format, Args)}).

%% Whether a line of its log matches.
-spec told(ets:table(), string()) -> boolean().
told(Lines, Pattern) ->
    lists:any(fun({_, Line}) -> re:run(Line, Pattern) =/= nomatch end, ets:tab2list(Lines)).

in(#{node := Node}, Module, Function, Args) -> peer:call(Node, Module, Function, Args, 60000).

kill(#{node := Node, os_pid := OsPid}) ->
    Monitor = monitor(process, Node),
    unlink(Node),
    [] = os:cmd("kill -KILL " ++ OsPid),
    receive {'DOWN', Monitor, process, Node, _} -> ok end.

%% In order.
stop(#{node := Node} = Server) ->
    ok = in(Server, meerkat, stop_server, [default]),
    peer:stop(Node).

relay(Server) ->
    {ok, Pid} = in(Server, meerkat_relay, os_pid, [default]),
    Pid.

%% Of the program, while nobody may be there who knows it.
lives(Pid) ->
    case file:read_file("/proc/" ++ integer_to_list(Pid) ++ "/stat") of
        {ok, Stat} -> re:run(Stat, "\\) [ZX] ") =:= nomatch;
        {error, _} -> false
    end.

descriptors(Pid) ->
    {ok, Names} = file:list_dir("/proc/" ++ integer_to_list(Pid) ++ "/fd"),
    length(Names).

listeners(#{port := Port}) -> listeners_at(Port).

listeners_at(Port) ->
    [#{transport => Transport, ip => Ip, port => Port}
     || Ip <- [{127, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 1}], Transport <- [udp, tcp]].

%% A server on a port that the next one can name too.
first(Config) -> first(Config, #{}).

first(Config, Overrides) ->
    Listeners = listeners_at(turn_kit:free_ports(1)),
    Server = start(Config, maps:merge(#{listeners => Listeners}, Overrides)),
    Server#{relay => relay(Server)}.

next_to(Config, Server, Overrides) ->
    maps:merge(#{run_dir => run_dir(Config), survive => 60, listeners => listeners(Server)},
               Overrides).

%% The next node, at the same place, with the relay of the one before.
again(Config, Server) -> again(Config, Server, #{}).

again(Config, #{relay := Relay} = Server, Overrides) ->
    Next = start(Config, next_to(Config, Server, Overrides)),
    ?assertEqual(Relay, relay(Next)),
    Next#{relay => Relay}.

counter(Server, Name) ->
    {ok, #{counters := #{Name := N}}} = in(Server, meerkat_relay, stats, [default]),
    N.

ports_free(Server) ->
    {ok, #{ports_free := N}} = in(Server, meerkat_relay, stats, [default]),
    N.

allocations(Server) ->
    lists:sort([{Relayed, lists:sort([Ip || #{peer := Ip} <- Permissions]),
                 lists:sort([{Number, Peer} || #{number := Number, peer := Peer} <- Channels])}
                || #{relayed := Relayed, permissions := Permissions, channels := Channels}
                       <- in(Server, meerkat, allocations, [default])]).

%% ------------------------------------------------------------------------------------- calls

-define(EVERY_MS, 10).

bound(Server) ->
    {Client, Peer} = {allocated(Server), peer()},
    success(bind(Client, ?CHANNEL, Peer)),
    {Client, Peer}.

%% Both ways, now.
both_ways(#{relayed := Relayed} = Client, Peer) ->
    {There, Back} = {crypto:strong_rand_bytes(8), crypto:strong_rand_bytes(8)},
    channel(Client, ?CHANNEL, There),
    ?assertEqual({Relayed, There}, peer_next(Peer)),
    peer_send(Peer, Relayed, Back),
    ?assertEqual({ok, ?CHANNEL, Back}, stun_model:decode_channel(next_data(Client))).

%% A request that was sent again may be answered twice.
next_data(#{socket := Socket}) ->
    receive
        {udp, Socket, _, _, <<1:2, _/bitstring>> = Data} -> Data
    after 5000 ->
        ct:fail(no_data)
    end.

%% A process with a client on a channel, and its peer: sends numbers both ways until it is hushed.
talk(Server) ->
    Own = self(),
    Talker = spawn_link(fun() ->
        {Client, Peer} = bound(Server),
        Own ! {talks, self()},
        talking(Client, Peer, 0, #{})
    end),
    receive {talks, Talker} -> Talker end.

talking(#{relayed := Relayed} = Client, Peer, N, Came) ->
    channel(Client, ?CHANNEL, <<"to peer", N:32>>),
    peer_send(Peer, Relayed, <<"to client", N:32>>),
    gathered(Client, Peer, N + 1, Came, erlang:monotonic_time(millisecond) + ?EVERY_MS).

gathered(Client, Peer, N, Came, Until) ->
    receive
        {udp, _, _, _, Packet} -> gathered(Client, Peer, N, came(Packet, Came), Until);
        {hush, From} -> From ! {hushed, self(), N, 2 * N - map_size(rest(2 * N, Came))}
    after max(0, Until - erlang:monotonic_time(millisecond)) ->
        talking(Client, Peer, N, Came)
    end.

%% What is on its way still.
rest(All, Came) when map_size(Came) =:= All ->
    Came;
rest(All, Came) ->
    receive
        {udp, _, _, _, Packet} -> rest(All, came(Packet, Came))
    after 3000 ->
        Came
    end.

came(<<?CHANNEL:16, 13:16, "to client", N:32, _/binary>>, Came) -> Came#{{client, N} => true};
came(<<"to peer", N:32>>, Came) -> Came#{{peer, N} => true}.

%% Nothing was lost.
hush(Talker) ->
    Talker ! {hush, self()},
    receive {hushed, Talker, N, Lost} -> ?assertEqual({N, 0}, {N, Lost}) end.

%% A request that is sent again until it is answered, as clients do.
insist(Client, Method, Items) ->
    Request = signed(Client, Method, Items),
    <<_:64, Id:12/binary, _/binary>> = Request,
    insist(Client, Request, Id, 300).

insist(#{socket := Socket} = Client, Request, Id, Left) when Left > 0 ->
    send(Client, Request),
    receive
        {udp, Socket, _, _, <<0:2, _:62, Id:12/binary, _/binary>> = Answer} ->
            {ok, Message} = stun_model:decode(Answer),
            Message
    after 100 ->
        insist(Client, Request, Id, Left - 1)
    end.

%% A process with a client that allocates, refreshes, permits, binds and ends as it comes, until it
%% is told to end; then it says whether it was told that it has an allocation, and has tried that.
busy(Server) ->
    Own = self(),
    Pid = spawn_link(fun() ->
        Client = challenged(open(Server)),
        Own ! {busy, self()},
        busily(Client, peer(), none)
    end),
    receive {busy, Pid} -> Pid end.

busily(Client, Peer, Has) ->
    receive
        {finish, From} -> From ! {finished, self(), finished(Client, Peer, Has)}
    after rand:uniform(20) ->
        busily(Client, Peer, did(rand:uniform(6), Client, Peer, Has))
    end.

did(_, Client, _Peer, none) ->
    case insist(Client, allocate, [{requested_transport, 17}]) of
        #{class := success} = Answer -> {get(xor_relayed_address, Answer), unbound};
        Refused -> 437 = turn_kit:code(Refused), none   % the one of an earlier answer that is lost
    end;
did(1, Client, _Peer, _Has) ->
    _ = insist(Client, refresh, [{lifetime, 0}]),
    none;
did(N, Client, Peer, {Relayed, _}) when N < 4 ->
    success(insist(Client, channel_bind, [{channel_number, ?CHANNEL},
                                          {xor_peer_address, maps:get(address, Peer)}])),
    {Relayed, bound};
did(4, Client, Peer, Has) ->
    success(insist(Client, create_permission, [{xor_peer_address, maps:get(address, Peer)}])),
    Has;
did(_, Client, _Peer, Has) ->
    success(insist(Client, refresh, [])),
    Has.

finished(_Client, _Peer, none) -> none;
finished(Client, Peer, {Relayed, Bound}) ->
    _ = Bound =:= bound andalso both_ways(Client#{relayed => Relayed}, Peer),
    {Relayed, Bound}.

%% The relayed addresses that clients were told of.
finish(Pids) ->
    _ = [Pid ! {finish, self()} || Pid <- Pids],
    lists:sort([Relayed || Pid <- Pids,
                           {Relayed, _} <- [receive {finished, Pid, Has} -> Has end]]).

%% ------------------------------------------------------------------------------------- cases

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
    ?assert(in(Next, ?MODULE, told, [told, "taken over with 2 allocations, 0 lost"])),
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
    doc("Erlang is killed at random moments, also while it takes over, with allocations made, "
        "refreshed, bound and ended: what clients were told is there, all else is not; no packet "
        "of a call is lost"),
    Server = first(Config),
    Talker = talk(Server),
    Busy = [busy(Server) || _ <- lists:seq(1, 6)],
    Last = lists:foldl(fun(Round, Before) ->
        receive after rand:uniform(300) -> ok end,
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

%% It may have got anywhere.
begun_and_killed(Config, Server) ->
    {ok, Node, _} = start_node(),
    OsPid = peer:call(Node, os, getpid, []),
    ok = peer:cast(Node, ?MODULE, serve, [default, next_to(Config, Server, #{})]),
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
    ?assert(in(Next, ?MODULE, told, [told, "not taken over.*workers is another"])),
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
    Over = over_tcp(Server),
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

over_tcp(#{ip := Ip, port := Port, users := #{<<"alice">> := Password}} = Server) ->
    Socket = stream_kit:open(tcp, {Ip, Port}, #{}),
    Client = challenged(#{socket => Socket, server => Server, to => {Ip, Port},
                          here => stream_kit:here(Socket), user => <<"alice">>,
                          password => Password}),
    Answer = success(allocate(Client)),
    Client#{answer => Answer, relayed => get(xor_relayed_address, Answer)}.

-spec a_relay_that_hangs_is_replaced(turn_kit:config()) -> _.
a_relay_that_hangs_is_replaced(Config) ->
    doc("Erlang is killed while the relay stands still: the next node finds that it answers "
        "nobody, kills it and starts another at the same ports"),
    #{relay := Relay} = Server = first(Config),
    [] = os:cmd("kill -STOP " ++ integer_to_list(Relay)),
    kill(Server),
    Next = start(Config, next_to(Config, Server, #{})),
    ?assertNotEqual(Relay, relay(Next)),
    ?assertNot(in(Next, ?MODULE, told, [told, "another Erlang"])),
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
    [] = os:cmd("kill -STOP " ++ integer_to_list(Slow)),
    ok = file:del_dir_r(Dir),
    ok = file:make_dir(Dir),
    ok = file:change_mode(Dir, 8#700),
    Third = first(Config),
    {Client, Peer} = bound(Third),
    [] = os:cmd("kill -CONT " ++ integer_to_list(Slow)),
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
    ?assert(in(Second, ?MODULE, told, [told, Told])),
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

%% ------------------------------------------------------------------- the relay is replaced

upgrade(Server) -> in(Server, meerkat, upgrade, [default]).

-spec relay_is_replaced(turn_kit:config()) -> _.
relay_is_replaced(Config) ->
    doc("the relay is replaced under calls, twice, with allocations made, refreshed, bound and ended "
        "meanwhile and a client that moves (RFC 8016): no packet of a call is lost, what clients "
        "were told is there and nothing else, no port and no descriptor stays behind"),
    Mobile = #{mobility => true},
    #{relay := First} = Server = first(Config, Mobile),
    Free = ports_free(Server),
    Descriptors = descriptors(First),
    Talkers = [talk(Server) || _ <- [1, 2]],
    Dual = allocated(Server, [{additional_address_family, 2}]),
    {Peer, Six} = {peer(), peer({0, 0, 0, 0, 0, 0, 0, 1})},
    success(bind(Dual, ?CHANNEL, Peer)),
    success(bind(Dual, ?CHANNEL + 1, Six)),
    #{answer := Answer} = Client = allocated(Server, [{mobility_ticket, <<>>}]),
    success(bind(Client, ?CHANNEL, Peer)),
    Moving = challenged(open(Server)),
    Moved = success(call(Moving, refresh, [{mobility_ticket, get(mobility_ticket, Answer)}])),
    Busy = [busy(Server) || _ <- lists:seq(1, 4)],
    [begin
         {ok, #{lost := 0, sockets := Sockets, pid := Pid, gap_ms := Gap}} = upgrade(Server),
         ?assert(Sockets >= 4 + 4),
         ?assert(Gap > 0),
         ?assertEqual(Pid, relay(Server))
     end || _ <- [1, 2]],
    Last = relay(Server),
    ?assertNotEqual(First, Last),
    eventually(fun() -> not lives(First) end),
    %% It speaks from where it was about to move to.
    both_ways(Moving#{relayed => maps:get(relayed, Client)}, Peer),
    Third = challenged(open(Server)),
    success(call(Third, refresh, [{mobility_ticket, get(mobility_ticket, Moved)}])),
    both_ways(Third#{relayed => maps:get(relayed, Client)}, Peer),
    both_ways(Dual, Peer),
    Told = finish(Busy),
    _ = [hush(Talker) || Talker <- Talkers],
    eventually(fun() -> length(allocations(Server)) =:= length(Told) + 4 end),
    ?assertEqual([], Told -- [R || {[R], _, _} <- allocations(Server)]),
    _ = in(Server, meerkat, disconnect, [default, {user, maps:get(user, Dual)}]),
    eventually(fun() -> allocations(Server) =:= [] end),
    eventually(fun() -> ports_free(Server) =:= Free end),
    eventually(fun() -> descriptors(Last) =< Descriptors end),
    eventually(fun() -> holder(Config) =:= Last end),
    ok = stop(Server),
    eventually(fun() -> not lives(Last) end).

%% The process that has the lock.
holder(Config) ->
    {ok, Text} = file:read_file(lock(run_dir(Config))),
    binary_to_integer(string:trim(Text)).

-spec another_program_takes_over(turn_kit:config()) -> _.
another_program_takes_over(Config) ->
    doc("a node that starts with another relay program than the one that was left has it take over: "
        "sockets, allocations and what they have; the calls go on, and so do the node's deeds"),
    #{relay := Relay} = Server = first(Config),
    Talker = talk(Server),
    {Client, Peer} = bound(Server),
    kill(Server),
    success(call(Client, refresh, [])),
    Next = start(Config, next_to(Config, Server, #{relay_program => another_program(Config)})),
    ?assertNotEqual(Relay, relay(Next)),
    ?assert(in(Next, ?MODULE, told, [told, "taken over with 2 allocations, 0 lost"])),
    eventually(fun() -> in(Next, ?MODULE, told, [told, "another relay program has taken over: 2 "
                                                  "allocations go on, 0 are lost"]) end),
    eventually(fun() -> not lives(Relay) end),
    _ = hush(Talker),
    both_ways(Client, Peer),
    success(call(Client, refresh, [])),
    success(permit(Client, [peer()])),
    delete(allocated(Next)),
    %% And that one outlives this node, and is left alone by one of the same program.
    After = Next#{relay => relay(Next)},
    eventually(fun() -> holder(Config) =:= maps:get(relay, After) end),
    kill(After),
    both_ways(Client, Peer),
    Last = again(Config, After, #{relay_program => another_program(Config)}),
    both_ways(Client, Peer),
    success(call(Client, refresh, [{lifetime, 0}])),
    ok = stop(Last).

%% The same one, in a file of its own.
another_program(Config) ->
    Copy = filename:join(run_dir(Config), "another_relay"),
    case filelib:is_regular(Copy) of
        true -> ok;
        false ->
            #{relay_program := Program} = maps:merge(#{relay_program => default},
                                                     turn_kit:relay_kind()),
            {ok, _} = file:copy(meerkat_relay_program:path(#{relay_program => Program}), Copy),
            ok = file:change_mode(Copy, 8#700)
    end,
    Copy.

-spec killed_while_it_is_replaced(turn_kit:config()) -> _.
killed_while_it_is_replaced(Config) ->
    doc("either program is killed at some moment of the replacement, or Erlang is: one program is "
        "left, which governs; what clients were told is there, and no port is lost"),
    Server = first(Config),
    Free = ports_free(Server),
    {Client, Peer} = bound(Server),
    Last = lists:foldl(fun(Whom, Before) ->
        After = killed(Whom, Config, Before),
        _ = insist(Client, refresh, []),
        both_ways(Client, Peer),
        eventually(fun() -> holder(Config) =:= relay(After) end),
        ?assertMatch([_], allocations(After)),
        After#{relay => relay(After)}
    end, Server, [old, new, vm, old, new, vm]),
    delete(Client),
    eventually(fun() -> allocations(Last) =:= [] end),
    eventually(fun() -> ports_free(Last) =:= Free end),
    ok = stop(Last).

killed(vm, Config, Server) ->
    ok = peer:cast(maps:get(node, Server), meerkat, upgrade, [default]),
    receive after rand:uniform(40) -> ok end,
    kill(Server),
    start(Config, next_to(Config, Server, #{}));
killed(Whom, _Config, #{relay := Old} = Server) ->
    ok = peer:cast(maps:get(node, Server), meerkat, upgrade, [default]),
    Pid = case Whom of
        old -> receive after rand:uniform(40) -> Old end;
        new -> next_program(Server, Old, 300)
    end,
    _ = os:cmd("kill -KILL " ++ integer_to_list(Pid)),
    eventually(fun() -> not lives(Pid) end),
    eventually(fun() -> in(Server, meerkat, is_ready, [default]) end),
    _ = Whom =:= new andalso eventually(fun() -> not lives(Old) end),
    Server.

%% As soon as it is known.
next_program(Server, Old, Left) ->
    case in(Server, meerkat_relay_program, os_pid, [default]) of
        Pid when is_integer(Pid), Pid =/= Old -> Pid;
        _ when Left > 0 -> receive after 2 -> next_program(Server, Old, Left - 1) end
    end.

-spec a_program_that_cannot_replace_it(turn_kit:config()) -> _.
a_program_that_cannot_replace_it(Config) ->
    doc("what cannot take over is refused before anything is touched: a program that does not run, "
        "one of another protocol, and a relay that ends with Erlang"),
    Dir = run_dir(Config),
    Copy = another_program(Config),
    #{relay := Relay} = Server = first(Config, #{relay_program => Copy}),
    {Client, Peer} = bound(Server),
    ok = file:rename(Copy, Copy ++ ".before"),
    [begin
         ok = file:write_file(Copy, Script),
         ok = file:change_mode(Copy, 8#700),
         {error, Why} = upgrade(Server),
         ?assertMatch({match, _}, re:run(Why, Expected))
     end || {Script, Expected} <- [{"no program", "not a relay program that runs here"},
                                   {"#!/bin/sh\necho version 1 hash 0\n", "of another release"}]],
    ?assertEqual(Relay, relay(Server)),
    both_ways(Client, Peer),
    ok = file:rename(Copy ++ ".before", Copy),
    {ok, #{lost := 0}} = upgrade(Server),
    both_ways(Client, Peer),
    ok = stop(Server),
    ok = file:del_dir_r(Dir),
    ok = file:make_dir(Dir),
    Without = first(Config, #{survive => 0}),
    {error, Survive} = upgrade(Without),
    ?assertMatch({match, _}, re:run(Survive, "survive")),
    ok = stop(Without).
