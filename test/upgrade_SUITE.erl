%% The relay program is replaced under calls: by itself, by another file, with either of the two or
%% Erlang killed meanwhile. What clients were told is there then, and no packet is lost.
-module(upgrade_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([relay_is_replaced/1, clients_over_tcp_come_along/1, another_program_takes_over/1,
         killed_while_it_is_replaced/1, a_program_that_cannot_replace_it/1]).
%% Takes a build of its own: `make another-release` runs it.
-export([another_release_and_back/1]).
%% In the node.
-export([upgraded/0, table_hash/0]).

-import(turn_kit, [doc/1, open/1, challenged/1, call/3, signed/3, request/2, next/1, allocated/1,
                   allocated/2, delete/1, permit/2, bind/3, peer/0, peer/1, peer_send/3, get/2,
                   success/1, eventually/1]).
-import(survival_kit, [run_dir/1, lock/1, start/2, start/3, in/4, kill/1, stop/1, relay/1, lives/1,
                       descriptors/1, first/1, first/2, next_to/3, again/3, ports_free/1,
                       allocations/1, bound/1, both_ways/2, over_tcp/3, talk/1, talk_over_tcp/1,
                       hush/1, insist/3, busy/1, finish/1]).

-define(CHANNEL, 16#4000).

-spec all() -> [atom()].
all() ->
    [relay_is_replaced, clients_over_tcp_come_along, another_program_takes_over,
     killed_while_it_is_replaced, a_program_that_cannot_replace_it].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 90}}].

-spec init_per_testcase(atom(), turn_kit:config()) -> turn_kit:config().
init_per_testcase(_Case, Config) -> survival_kit:dir(Config).

-spec end_per_testcase(atom(), turn_kit:config()) -> _.
end_per_testcase(_Case, Config) -> survival_kit:end_dir(Config).

upgrade(Server) -> in(Server, meerkat, upgrade, [default]).

status(Server) -> in(Server, meerkat, status, [default]).

-spec relay_is_replaced(turn_kit:config()) -> _.
relay_is_replaced(Config) ->
    doc("the relay is replaced under calls, twice, with allocations made, refreshed, bound and "
        "ended meanwhile and a client that moves (RFC 8016): no packet of a call is lost, what "
        "clients were told is there and nothing else, no port and no descriptor stays behind"),
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
    ?assertMatch(#{relay_pid := Last, relay_replacements := 2, relay_outdated := false},
                 status(Server)),
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
    [First | _] = binary:split(Text, <<"\n">>),
    binary_to_integer(First).

-define(MORE, 20).

-spec clients_over_tcp_come_along(turn_kit:config()) -> _.
clients_over_tcp_come_along(Config) ->
    doc("clients over TCP keep their connections and allocations: what they have half said, what "
        "waits for one that does not read, and what has begun to go; so does an allocation that "
        "relays TCP (RFC 6062), but for its connections with peers"),
    #{relay := First} = Server = first(Config, #{tcp_relay => true, tcp_queue_ms => 10000}),
    Free = ports_free(Server),
    Descriptors = descriptors(First),
    Talkers = [talk(Server), talk_over_tcp(Server), talk_over_tcp(Server)],
    #{socket := Connection} = Half = over_tcp(Server, 17, #{}),
    #{socket := Stranger} = Nobody = open_tcp(Server),
    {Slow, Number} = slow(Server),
    {Relaying, Data, Far} = relaying_tcp(Server),
    Request = signed(Half, refresh, []),
    <<Begun:30/binary, Rest/binary>> = Request,
    <<_:64, Id:12/binary, _/binary>> = Asked = request(binding, []),
    ok = stream_kit:raw(Connection, Begun),
    ok = stream_kit:raw(Stranger, binary:part(Asked, 0, 7)),
    [begin
         {ok, #{lost := 0, connections := N}} = upgrade(Server),
         ?assertEqual(length(Talkers) - 1 + 4, N)
     end || _ <- [1, 2]],
    ok = stream_kit:raw(Connection, Rest),
    ?assertMatch({ok, #{class := success, method := refresh}}, stun_model:decode(next(Half))),
    ok = stream_kit:raw(Stranger, binary:part(Asked, 7, byte_size(Asked) - 7)),
    ?assertMatch({ok, #{class := success, transaction_id := Id}}, stun_model:decode(next(Nobody))),
    ok = stream_kit:resume(maps:get(socket, Slow)),
    ?assertEqual(lists:seq(1, Number), [number(next(Slow)) || _ <- lists:seq(1, Number)]),
    ok = stream_kit:closed(Data),
    ?assertEqual({error, closed}, gen_tcp:recv(Far, 0, 5000)),
    {_, Again} = connected(Relaying),
    ok = gen_tcp:close(Again),
    _ = [hush(Talker) || Talker <- Talkers],
    _ = in(Server, meerkat, disconnect, [default, {user, <<"alice">>}]),
    eventually(fun() -> allocations(Server) =:= [] end),
    _ = [ok = stream_kit:close(S) || #{socket := S} <- [Half, Nobody, Slow, Relaying]],
    eventually(fun() -> ports_free(Server) =:= Free end),
    eventually(fun() -> descriptors(relay(Server)) =< Descriptors end),
    ok = stop(Server).

open_tcp(#{ip := Ip, port := Port} = Server) ->
    #{socket => stream_kit:open(tcp, {Ip, Port}, #{}), server => Server, to => {Ip, Port}}.

%% One that reads nothing, while numbers wait for it in the relay: so many.
slow(Server) ->
    #{relayed := Relayed, socket := Connection} = Client = over_tcp(Server, 17, #{recbuf => 4096}),
    Peer = peer(),
    success(bind(Client, ?CHANNEL, Peer)),
    ok = stream_kit:pause(Connection),
    {Client, fill(Server, Peer, Relayed, 0)}.

%% What waits is less than what would be dropped for it.
fill(Server, Peer, Relayed, N) ->
    More = N + ?MORE,
    _ = [peer_send(Peer, Relayed, <<M:32, 0:1200/unit:8>>) || M <- lists:seq(N + 1, More)],
    eventually(fun() -> relayed(Server, Relayed) =:= More end),
    case in(Server, meerkat_relay, stats, [default]) of
        {ok, #{queued := Bytes}} when Bytes > 1204 * ?MORE -> More;
        {ok, _} -> fill(Server, Peer, Relayed, More)
    end.

relayed(Server, Relayed) ->
    [Session] = [S || #{session := S, relayed := [R]}
                          <- in(Server, meerkat, allocations, [default]), R =:= Relayed],
    {ok, #{peer_packets := N}} = in(Server, meerkat, allocation, [default, Session]),
    N.

number(Message) ->
    {ok, ?CHANNEL, <<N:32, _/binary>>} = stun_model:decode_channel(Message),
    N.

%% A client that relays TCP, a connection of its own that is joined to a peer's, and that one.
relaying_tcp(#{ip := Ip, port := Port} = Server) ->
    Client = over_tcp(Server, 6, #{}),
    {Id, Far} = connected(Client),
    Socket = stream_kit:open(tcp, {Ip, Port}, #{}),
    Data = challenged(Client#{socket := Socket, here := stream_kit:here(Socket)}),
    success(call(Data, connection_bind, [{connection_id, Id}])),
    ok = stream_kit:raw(Socket, <<"joined">>),
    {ok, <<"joined">>} = gen_tcp:recv(Far, 6, 5000),
    {Client, Socket, Far}.

%% To a peer that listens: the number of the connection, and the peer's end.
connected(Client) ->
    {ok, Listening} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Address} = inet:sockname(Listening),
    Id = get(connection_id, success(call(Client, connect, [{xor_peer_address, Address}]))),
    {ok, Far} = gen_tcp:accept(Listening, 5000),
    ok = gen_tcp:close(Listening),
    {Id, Far}.

-spec another_program_takes_over(turn_kit:config()) -> _.
another_program_takes_over(Config) ->
    doc("a node that starts with another relay program than the one that was left has it take "
        "over: sockets, allocations and what they have; calls go on, and so do the node's deeds"),
    #{relay := Relay} = Server = first(Config),
    Talker = talk(Server),
    {Client, Peer} = bound(Server),
    kill(Server),
    success(call(Client, refresh, [])),
    Next = start(Config, next_to(Config, Server, #{relay_program => another_program(Config)})),
    ?assertNotEqual(Relay, relay(Next)),
    ?assert(in(Next, survival_kit, told, [told, "taken over with 2 allocations, 0 lost"])),
    Told = "another relay program has taken over: 2 allocations go on, 0 are lost",
    eventually(fun() -> in(Next, survival_kit, told, [told, Told]) end),
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
    ok = peer:cast(maps:get(node, Server), ?MODULE, upgraded, []),
    receive after rand:uniform(40) -> ok end,
    kill(Server),
    start(Config, next_to(Config, Server, #{}));
killed(Whom, _Config, #{relay := Old} = Server) ->
    ok = peer:cast(maps:get(node, Server), ?MODULE, upgraded, []),
    Pid = case Whom of
        old -> receive after rand:uniform(40) -> Old end;
        new -> next_program(Server, Old, 3000)
    end,
    _ = os:cmd("kill -KILL " ++ integer_to_list(Pid)),
    eventually(fun() -> not lives(Pid) end),
    eventually(fun() -> in(Server, meerkat, is_ready, [default]) end),
    _ = Whom =:= new andalso eventually(fun() -> not lives(Old) end),
    Server.

%% In that node, once the one before is over.
-spec upgraded() -> _.
upgraded() ->
    case meerkat:upgrade(default) of
        {error, "the relay is being" ++ _} -> receive after 5 -> upgraded() end;
        {error, "there is no relay" ++ _} -> receive after 5 -> upgraded() end;
        Done -> Done
    end.

%% As soon as it is known.
next_program(Server, Old, Left) ->
    case in(Server, meerkat_relay_program, os_pid, [default]) of
        Pid when is_integer(Pid), Pid =/= Old -> Pid;
        _ when Left > 0 -> receive after 2 -> next_program(Server, Old, Left - 1) end
    end.

-spec another_release_and_back(turn_kit:config()) -> _.
another_release_and_back(Config) ->
    doc("a node of another release, whose protocol has one message and one field more in what a "
        "relay hands to the next, takes over with its own relay program under calls; then one of "
        "this release does: no packet is lost, and what clients were told is there"),
    Dir = filename:join(proplists:get_value(priv_dir, Config), "another"),
    Root = stream_kit:root(proplists:get_value(data_dir, Config)),
    Built = os:cmd("env -u MAKEFLAGS '" ++ Root ++ "/test/another_build.sh' '" ++ Dir ++ "' 2>&1"),
    Program = filename:join(Dir, "priv/meerkat_relay"),
    {true, _} = {filelib:is_regular(Program), Built},
    #{relay := Relay} = Server = first(Config),
    Free = ports_free(Server),
    Talkers = [talk(Server), talk_over_tcp(Server)],
    {Client, Peer} = bound(Server),
    Busy = [busy(Server) || _ <- [1, 2, 3]],
    kill(Server),
    Other = start(Config, next_to(Config, Server, #{relay_program => Program}),
                  [filename:join(Dir, "ebin")]),
    ?assertNotEqual(table_hash(), in(Other, ?MODULE, table_hash, [])),
    taken_over(Relay, Other),
    both_ways(Client, Peer),
    success(call(Client, refresh, [])),
    {ok, #{lost := 0}} = upgrade(Other),
    After = Other#{relay => relay(Other)},
    kill(After),
    Last = start(Config, next_to(Config, After, #{})),
    ?assertEqual(table_hash(), in(Last, ?MODULE, table_hash, [])),
    taken_over(maps:get(relay, After), Last),
    Told = finish(Busy),
    _ = [hush(Talker) || Talker <- Talkers],
    both_ways(Client, Peer),
    ?assertEqual([], Told -- [R || {[R], _, _} <- allocations(Last)]),
    _ = in(Last, meerkat, disconnect, [default, {user, maps:get(user, Client)}]),
    eventually(fun() -> allocations(Last) =:= [] end),
    eventually(fun() -> ports_free(Last) =:= Free end),
    ok = stop(Last).

taken_over(Before, Server) ->
    ?assertNotEqual(Before, relay(Server)),
    ?assert(in(Server, survival_kit, told, [told, "taken over with .* allocations, 0 lost"])),
    eventually(fun() -> in(Server, survival_kit, told, [told, "go on, 0 are lost"]) end),
    eventually(fun() -> not lives(Before) end).

-spec table_hash() -> non_neg_integer().
table_hash() -> meerkat_ctl:table_hash().

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
    false = maps:get(relay_outdated, status(Server)),
    ok = file:delete(Copy),
    Copy = another_program(Config),
    true = maps:get(relay_outdated, status(Server)),
    {ok, #{lost := 0}} = upgrade(Server),
    #{relay_outdated := false, relay_program := Program} = status(Server),
    ?assertEqual(unicode:characters_to_binary(Copy), Program),
    both_ways(Client, Peer),
    ok = stop(Server),
    ok = file:del_dir_r(Dir),
    ok = file:make_dir(Dir),
    Without = first(Config, #{survive => 0}),
    {error, Survive} = upgrade(Without),
    ?assertMatch({match, _}, re:run(Survive, "survive")),
    ok = stop(Without).
