%% How much of a server one client may have, as clients and peers see it: allocations (quotas),
%% bytes (bandwidth), answers to strangers; and where clients go when it takes no more. One case per
%% row of the tables of conformance and threats (t23_... is T23, x71_... is X71).
%%
%% A rate of one byte per second makes bandwidth a matter of counting: what passes is the burst,
%% two of the largest datagrams there are.
-module(quota_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([t10_bandwidth_and_allocations/1, x22_strangers_have_a_share/1,
         x22_a_flood_from_one_address/1, t23_a_users_quota/1, t23_quota_is_of_the_user/1,
         t23_other_faults_come_first/1, t23_retransmitted_when_full/1, t23_total_508/1,
         s34_drained_300/1, s34_order_of_addresses/1, s34_nowhere_to_go_508/1,
         s34_never_to_itself/1, s34_only_who_may_come_in/1, s34_redirect/1,
         s34_clients_are_spread/1, t24_live_allocations_go_on/1, x44_expiries_share_a_quota/1,
         x44_who_a_username_is/1, x44_nobodys_expiries/1,
         x71_quota_of_an_address/1, x71_prefixes/1, x71_after_expiry/1,
         x71_after_508/1, x71_killed/1, x71_counter_killed/1, x71_relay_killed/1, x71_stampede/1,
         x71_dual_is_one/1, x71_the_newer_one_wins/1,
         x71_the_newer_one_wins_once_each/1, x71_nothing_ends_in_vain/1,
         x71_as_many_end_as_it_takes/1, x71_the_oldest_is_who_began_first/1,
         x71_replaced_and_killed/1, x73_reserved_by_one_that_is_replaced/1,
         x73_reserved_ports_count/1, x73_reserved_ports_of_one_user/1,
         x73_reservations_outlive_no_relay/1, x77_peers_are_bounded/1,
         x77_new_peers_are_paced/1, x83_of_an_allocation/1,
         x83_packets_of_an_allocation/1, x83_of_a_user/1, x83_of_all/1,
         x83_bucket_of_another_user/1]).

-import(turn_kit, [doc/1, eventually/1, open/1, open/2, ask/2, await/2, request/2, challenged/1,
                   signed/3,
                   call/3, call/4, allocated/1, allocated/3, allocate/1, allocate/2, delete/1,
                   permit/2, bind/3, send/2, send_to/3, channel/3, fence/1, peer/0, peer/1,
                   peer_send/3, peer_next/1, peer_same/2, get/2, get_all/2, code/1, names/1,
                   success/1, expect/2, counter/2, with_server/2]).

-define(V6, {0, 0, 0, 0, 0, 0, 0, 1}).
-define(TIMEOUT, 30000).
%% Bytes a bucket holds that fills with one byte per second (relay/bucket.h).
-define(BURST, 131072).
-define(SIZE, 1000).
-define(COUNTED, (?SIZE + 28)). % with the headers of IPv4 and UDP
-define(SENT, 200).

-spec all() -> [atom()].
all() -> turn_kit:cases(?MODULE).

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 60}}].

fresh(Server) -> challenged(open(Server)).

fresh(Server, Options) -> challenged(open(Server, Options)).

udp() -> {requested_transport, 17}.

bob() -> #{user => <<"bob">>}.

count(#{name := Name}, total) -> meerkat_quota:count(Name, total);
count(#{name := Name}, {Kind, Key}) -> meerkat_quota:count(Name, {Kind, {default, Key}}).

%% Ends the allocation, which the relay may have answered by itself: when this returns Erlang has
%% read what it was told before that, and has counted it.
ended(#{server := #{name := Name}} = Client) ->
    ok = delete(Client),
    #{relay := {ok, _}} = meerkat:info(Name),
    _ = sys:get_state(meerkat_roles:find(Name, quota)),
    ok.

%% Waits for the end of the only allocation of that user.
process(#{name := Name}, User) ->
    [Pid] = [P || {Session, P} <- meerkat_alloc_table:sessions(Name),
                  #{session := S, user := U} <- meerkat:allocations(Name),
                  S =:= Session, U =:= User],
    Pid.

over(Pid) ->
    Monitor = monitor(process, Pid),
    receive {'DOWN', Monitor, process, Pid, _} -> ok after ?TIMEOUT -> error(still_there) end.

%% ------------------------------------------------------------------------------- allocations

-spec t10_bandwidth_and_allocations(turn_kit:config()) -> _.
t10_bandwidth_and_allocations(_Config) ->
    doc("both limits are of a username, and a client over one is only held back (RFC 8656 5)"),
    with_server(#{user_quota => 1, user_bps => 1}, fun(Server) ->
        Client = allocated(Server),
        expect(486, allocate(fresh(Server))),
        Peer = peer(),
        success(permit(Client, [Peer])),
        ?assert(?SENT - passed(Server, Client, Peer) > 0),
        success(call(Client, refresh, []))
    end).

-spec t23_a_users_quota(turn_kit:config()) -> _.
t23_a_users_quota(_Config) ->
    doc("one more than the quota: 486, signed; one that ends makes room (RFC 8656 7.2 (10))"),
    with_server(#{user_quota => 3}, fun(Server) ->
        [One | _] = [allocated(Server) || _ <- lists:seq(1, 3)],
        Late = fresh(Server),
        ?assertEqual([error_code, message_integrity], names(expect(486, allocate(Late)))),
        expect(486, allocate(Late)),
        delete(One),
        success(allocate(Late)),
        expect(486, allocate(One)),
        ?assertEqual(3, count(Server, {user, <<"alice">>})),
        ?assertMatch(#{answers := #{486 := 3}}, meerkat:info(maps:get(name, Server)))
    end).

-spec t23_quota_is_of_the_user(turn_kit:config()) -> _.
t23_quota_is_of_the_user(_Config) ->
    doc("wherever the user comes from, and nobody else is concerned (RFC 8656 7.2 (10))"),
    with_server(#{user_quota => 1}, fun(Server) ->
        _ = allocated(Server),
        [expect(486, allocate(fresh(Server, Options)))
         || Options <- [#{}, #{ip => {127, 0, 0, 2}}, #{family => v6}]],
        success(allocate(fresh(Server, bob()))),
        expect(486, allocate(fresh(Server, (bob())#{family => v6})))
    end).

-spec t23_other_faults_come_first(turn_kit:config()) -> _.
t23_other_faults_come_first(_Config) ->
    doc("what is wrong with a request is told before the quota is (RFC 8656 7.2)"),
    with_server(#{user_quota => 1}, fun(Server) ->
        Client = allocated(Server),
        expect(437, allocate(Client)),
        Late = fresh(Server),
        [expect(Code, call(Late, allocate, Items))
         || {Code, Items} <- [{400, []}, {442, [{requested_transport, 6}]},
                              {420, [udp(), {16#7ffe, <<>>}]},
                              {440, [udp(), {requested_address_family, 3}]},
                              {508, [udp(), {reservation_token, 1}]}]],
        expect(437, call(Late, refresh, [])),
        expect(401, call(Late, allocate, [udp()], #{key => <<"wrong">>})),
        expect(486, allocate(Late))
    end).

-spec t23_retransmitted_when_full(turn_kit:config()) -> _.
t23_retransmitted_when_full(_Config) ->
    doc("an Allocate that comes again is the same allocation, not one too many"),
    with_server(#{user_quota => 1}, fun(Server) ->
        Client = fresh(Server),
        Request = signed(Client, allocate, [udp()]),
        #{bytes := Bytes} = success(ask(Client, Request)),
        ?assertMatch(#{bytes := Bytes}, ask(Client, Request)),
        ?assertEqual(1, count(Server, total))
    end).

-spec x71_the_newer_one_wins(turn_kit:config()) -> _.
x71_the_newer_one_wins(_Config) ->
    doc("user_quota_replaces: the oldest of the user's ends, nobody else's; its client finds 437"),
    with_server(#{user_quota => 2, user_quota_replaces => true}, fun(#{name := Name} = Server) ->
        Bob = allocated(Server, [], bob()),
        First = allocated(Server),
        Second = allocated(Server),
        %% It is not the one that was used last.
        success(call(First, refresh, [])),
        ok = meerkat_watchers:enter(Name, {user, <<"alice">>}, [], self()),
        Third = allocated(Server),
        ?assertEqual({2, 3}, {count(Server, {user, <<"alice">>}), count(Server, total)}),
        over_soon(First),
        ?assertEqual(replaced, reason_of_the_next()),
        ok = meerkat_watchers:leave(Name, self()),
        [success(call(Client, refresh, [])) || Client <- [Bob, Second, Third]],
        ok = ended(Third),
        Fourth = allocated(Server),
        [success(call(Client, refresh, [])) || Client <- [Second, Fourth]],
        %% A retransmission is the same allocation.
        Fifth = fresh(Server),
        Request = signed(Fifth, allocate, [udp()]),
        #{bytes := Bytes} = success(ask(Fifth, Request)),
        ?assertMatch(#{bytes := Bytes}, ask(Fifth, Request)),
        over_soon(Second),
        [success(call(Client, refresh, [])) || Client <- [Bob, Fourth, Fifth]],
        ?assertEqual(2, meerkat_quota:count(Name, {replaced, default})),
        ?assertEqual(0, meerkat_quota:count(Name, {refused, default}))
    end).

%% Sooner or later, for nobody waits for it.
over_soon(Client) ->
    eventually(fun() -> code(call(Client, refresh, [])) =:= 437 end).

%% Why the next allocation of whom is watched has ended.
reason_of_the_next() ->
    receive {told, #{event := ended, reason := Reason}} -> Reason
    after ?TIMEOUT -> error(nothing_ended) end.

%% By many at once, and while what counts them is killed.
-spec x71_the_newer_one_wins_once_each(turn_kit:config()) -> _.
x71_the_newer_one_wins_once_each(_Config) ->
    doc("many Allocates of one user at once: each is answered, one allocation is left"),
    with_server(#{user_quota => 1, user_quota_replaces => true}, fun(#{name := Name} = Server) ->
        Clients = [fresh(Server) || _ <- lists:seq(1, 20)],
        Requests = [{Client, signed(Client, allocate, [udp()])} || Client <- Clients],
        [ok = send(Client, Request) || {Client, Request} <- Requests],
        [begin
             <<_:64, Id:12/binary, _/binary>> = Request,
             {ok, #{class := success}} = stun_model:decode(await(Client, Id))
         end || {Client, Request} <- Requests],
        eventually(fun() -> count(Server, total) =:= 1 end),
        ?assertEqual(19, meerkat_quota:count(Name, {replaced, default})),
        Alive = fun() -> [C || C <- Clients, code(call(C, refresh, [])) =:= success] end,
        eventually(fun() -> length(Alive()) =:= 1 end),
        Counter = meerkat_roles:find(Name, quota),
        true = exit(Counter, kill),
        eventually(fun() -> meerkat_roles:find(Name, quota) =/= Counter end),
        Last = allocated(Server),
        eventually(fun() -> Alive() =:= [] end),
        success(call(Last, refresh, []))
    end).

-spec x71_nothing_ends_in_vain(turn_kit:config()) -> _.
x71_nothing_ends_in_vain(_Config) ->
    doc("an Allocate that another bound refuses ends nothing; a reload turns it on and off"),
    Options = #{user_quota => 1, total_quota => 2, user_quota_replaces => true},
    with_server(Options, fun(#{name := Name} = Server) ->
        One = allocated(Server),
        _ = allocated(Server, [], bob()),
        %% Both its ports would count.
        expect(486, allocate(fresh(Server), [{even_port, true}])),
        success(call(One, refresh, [])),
        %% Its place is one of the two in all.
        Two = allocated(Server),
        over_soon(One),
        #{config := Config} = meerkat_registry:settings(Name),
        ok = meerkat:reload(Name, (Config())#{user_quota_replaces => false}),
        expect(486, allocate(fresh(Server))),
        success(call(Two, refresh, [])),
        ok = meerkat:reload(Name, (Config())#{user_quota => 2, total_quota => 2}),
        expect(508, allocate(fresh(Server))),
        success(call(Two, refresh, []))
    end).

-spec x71_as_many_end_as_it_takes(turn_kit:config()) -> _.
x71_as_many_end_as_it_takes(_Config) ->
    doc("a reload lowers the bound: the next Allocate ends what is beyond it, the oldest first; "
        "one that needs two places ends two"),
    with_server(#{user_quota => 4, user_quota_replaces => true}, fun(#{name := Name} = Server) ->
        Before = [allocated(Server) || _ <- lists:seq(1, 4)],
        #{config := Config} = meerkat_registry:settings(Name),
        ok = meerkat:reload(Name, (Config())#{user_quota => 2}),
        New = allocated(Server),
        ?assertEqual(2, count(Server, {user, <<"alice">>})),
        {Ended, [Newest]} = lists:split(3, Before),
        [over_soon(Client) || Client <- Ended],
        [success(call(Client, refresh, [])) || Client <- [Newest, New]],
        Pair = allocated(Server, [{even_port, true}], #{}),
        ?assertEqual(2, count(Server, {user, <<"alice">>})),
        [over_soon(Client) || Client <- [Newest, New]],
        success(call(Pair, refresh, [])),
        ?assertEqual(5, meerkat_quota:count(Name, {replaced, default}))
    end).

%% Stands for an allocation's process of alice's: does what it is told with its session, and says
%% when a newer one has its place.
holder(Session) ->
    Self = self(),
    spawn(fun() ->
        _ = monitor(process, Self),
        holder(Session, Self)
    end).

holder(Session, Owner) ->
    receive
        {do, Ref, Do} ->
            Owner ! {Ref, Do(Session)},
            holder(Session, Owner);
        {'$gen_cast', replaced} ->
            Owner ! {replaced, Session},
            holder(Session, Owner);
        {'DOWN', _, process, Owner, _} ->
            ok
    end.

by(Holder, Do) ->
    Ref = make_ref(),
    Holder ! {do, Ref, Do},
    receive {Ref, Result} -> Result after ?TIMEOUT -> error(no_answer) end.

next_replaced() ->
    receive {replaced, Session} -> Session after ?TIMEOUT -> error(none_replaced) end.

plan(Even) ->
    #{even => Even, token => 0, user => <<"alice">>, realm => default,
      client => {{127, 0, 0, 1}, 9}}.

-spec x71_the_oldest_is_who_began_first(turn_kit:config()) -> _.
x71_the_oldest_is_who_began_first(_Config) ->
    doc("allocations that another VM had are as old as they are, in whatever order they are taken "
        "over; also for a process that counts anew"),
    with_server(#{user_quota => 3, user_quota_replaces => true}, fun(#{name := Name} = Server) ->
        Now = meerkat_clock:now_ms(),
        [ok = by(holder(Session), fun(Id) ->
             meerkat_quota:adopt(Name, Id, plan(0), 1, Now - Ago)
         end) || {Session, Ago} <- [{1, 1000}, {2, 3000}, {3, 2000}]],
        _ = allocated(Server),
        ?assertEqual(2, next_replaced()),
        Counter = meerkat_roles:find(Name, quota),
        exit(Counter, kill),
        eventually(fun() ->
            not lists:member(meerkat_roles:find(Name, quota), [none, Counter])
        end),
        _ = allocated(Server),
        ?assertEqual(3, next_replaced()),
        ?assertEqual(3, count(Server, {user, <<"alice">>}))
    end).

-spec x71_replaced_and_killed(turn_kit:config()) -> _.
x71_replaced_and_killed(_Config) ->
    doc("one that is killed before it has ended what was replaced leaves nothing in the relay, and "
        "its place is given back once; also where what counts is killed in between"),
    with_server(#{user_quota => 1, user_quota_replaces => true}, fun(#{name := Name} = Server) ->
        Sessions = fun() ->
            #{relay := {ok, #{sessions := N}}} = meerkat:info(Name),
            N
        end,
        [begin
             Old = allocated(Server),
             Pid = process_of(Old),
             true = erlang:suspend_process(Pid),
             New = allocated(Server),
             ?assertEqual(2, Sessions()),
             Counter = meerkat_roles:find(Name, quota),
             true = exit(Counter, Signal),
             eventually(fun() ->
                 Next = meerkat_roles:find(Name, quota),
                 Next =/= none andalso (Next =/= Counter) =:= (Signal =:= kill)
             end),
             true = exit(Pid, kill),
             eventually(fun() -> Sessions() =:= 1 end),
             eventually(fun() -> meerkat_alloc_table:count(Name) =:= 1 end),
             ?assertEqual(1, count(Server, {user, <<"alice">>})),
             ok = ended(New),
             ?assertEqual(0, count(Server, total))
         end || Signal <- [normal, kill]]
    end).

-spec t23_total_508(turn_kit:config()) -> _.
t23_total_508(_Config) ->
    doc("all allocations together: 508, for it is not this user who has too many"),
    with_server(#{total_quota => 2, user_quota => 2}, fun(Server) ->
        [One, _] = [allocated(Server, [], Options) || Options <- [#{}, bob()]],
        expect(508, allocate(fresh(Server))),
        delete(One),
        success(allocate(fresh(Server, bob()))),
        expect(486, allocate(fresh(Server, bob()))),
        expect(508, allocate(fresh(Server)))
    end).

-spec x44_expiries_share_a_quota(turn_kit:config()) -> _.
x44_expiries_share_a_quota(_Config) ->
    doc("two time-limited usernames of one user share a quota, with a fixed one of that name"),
    with_server(#{user_quota => 2}, fun(#{secret := Secret} = Server) ->
        Now = erlang:system_time(second),
        Rest = fun(Name, Ttl) ->
            {User, Password} = meerkat_auth_rest:credentials(Secret, Name, Ttl, Now),
            fresh(Server, #{user => User, password => Password})
        end,
        success(allocate(Rest(<<"alice">>, 100))),
        success(allocate(Rest(<<"alice">>, 200))),
        expect(486, allocate(Rest(<<"alice">>, 300))),
        expect(486, allocate(fresh(Server))),
        success(allocate(Rest(<<"carol">>, 100))),
        ?assertEqual([2, 1], [count(Server, {user, U}) || U <- [<<"alice">>, <<"carol">>]])
    end).

-spec x44_who_a_username_is(turn_kit:config()) -> _.
x44_who_a_username_is(_Config) ->
    doc("the name behind the expiry; without either the username itself"),
    [?assertEqual({User, Key}, {User, meerkat_quota:user_key(User, expiry)})
     || {User, Key} <- [{<<"1700000000:alice">>, <<"alice">>}, {<<"1:a:b">>, <<"a:b">>},
                        {<<"alice">>, <<"alice">>}, {<<"1700000000">>, <<"1700000000">>},
                        {<<"1700000000:">>, <<"1700000000:">>}, {<<"x:alice">>, <<"x:alice">>},
                        {<<"-1:alice">>, <<"-1:alice">>}, {<<":alice">>, <<":alice">>},
                        {<<"99999999999999999999:a">>, <<"99999999999999999999:a">>}]].

-spec x44_nobodys_expiries(turn_kit:config()) -> _.
x44_nobodys_expiries(_Config) ->
    doc("expiries without a name (prosody) share a quota by source address, names have their own"),
    with_server(#{user_quota => 2}, fun(#{secret := Secret} = Server) ->
        Now = erlang:system_time(second),
        Bare = fun(Tail, Ttl, Options) ->
            User = <<(integer_to_binary(Now + Ttl))/binary, Tail/binary>>,
            fresh(Server, Options#{user => User,
                                   password => meerkat_auth_rest:password(Secret, User)})
        end,
        success(allocate(Bare(<<>>, 100, #{}))),
        success(allocate(Bare(<<":">>, 200, #{}))),
        expect(486, allocate(Bare(<<>>, 300, #{}))),
        success(allocate(Bare(<<":127.0.0.1">>, 100, #{}))),
        success(allocate(Bare(<<>>, 300, #{ip => {127, 0, 0, 2}}))),
        ?assertEqual([2, 1], [count(Server, {user, {source, <<127, 0, 0, Last>>}})
                              || Last <- [1, 2]])
    end).

-spec x71_quota_of_an_address(turn_kit:config()) -> _.
x71_quota_of_an_address(_Config) ->
    doc("a source address has a quota of its own, whoever the users and whatever the ports"),
    with_server(#{max_allocations_per_address => 2}, fun(Server) ->
        [One, _] = [allocated(Server, [], Options) || Options <- [#{}, bob()]],
        expect(486, allocate(fresh(Server))),
        expect(486, allocate(fresh(Server, bob()))),
        success(allocate(fresh(Server, #{ip => {127, 0, 0, 2}}))),
        success(allocate(fresh(Server, #{family => v6}))),
        delete(One),
        success(allocate(fresh(Server, bob()))),
        ?assertEqual(2, count(Server, {source, <<127, 0, 0, 1>>}))
    end).

-spec x71_prefixes(turn_kit:config()) -> _.
x71_prefixes(_Config) ->
    doc("an IPv4 address counts as a whole, an IPv6 one by its first 64 bits"),
    Source = fun(Text) ->
        {ok, Ip} = inet:parse_address(Text),
        meerkat_prefix:source(Ip)
    end,
    ?assertNotEqual(Source("192.0.2.1"), Source("192.0.2.2")),
    ?assertEqual(Source("2001:db8:1:2::"), Source("2001:db8:1:2:ffff:ffff:ffff:ffff")),
    ?assertNotEqual(Source("2001:db8:1:2::"), Source("2001:db8:1:3::")).

-spec x71_after_expiry(turn_kit:config()) -> _.
x71_after_expiry(_Config) ->
    doc("an allocation that expires gives its place back"),
    with_server(#{user_quota => 1, default_lifetime => 1, max_lifetime => 1}, fun(Server) ->
        Client = allocated(Server),
        Pid = process(Server, <<"alice">>),
        expect(486, allocate(fresh(Server))),
        over(Pid),
        ?assertEqual([0, 0], [count(Server, K) || K <- [total, {user, <<"alice">>}]]),
        success(allocate(Client))
    end).

-spec x71_after_508(turn_kit:config()) -> _.
x71_after_508(_Config) ->
    doc("an Allocate that found no port has taken no place"),
    Port = turn_kit:free_ports(1),
    Relay = #{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1}, min_port => Port,
              max_port => Port},
    with_server(#{user_quota => 1, relays => [Relay]}, fun(Server) ->
        Alice = allocated(Server),
        Bob = fresh(Server, bob()),
        [expect(508, allocate(Bob)) || _ <- lists:seq(1, 5)],
        ?assertEqual([1, 0], [count(Server, K) || K <- [total, {user, <<"bob">>}]]),
        delete(Alice),
        success(turn_kit:allocate_soon(Bob, []))
    end).

-spec x71_killed(turn_kit:config()) -> _.
x71_killed(_Config) ->
    doc("so does one whose process is killed, and nothing of it is left in the relay"),
    with_server(#{user_quota => 1}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        exit(process(Server, <<"alice">>), kill),
        eventually(fun() -> count(Server, total) =:= 0 end),
        eventually(fun() ->
            #{relay := {ok, #{sessions := Sessions}}} = meerkat:info(Name),
            Sessions =:= 0
        end),
        %% Readiness goes by this one, and nobody need come by for it.
        eventually(fun() -> meerkat_alloc_table:count(Name) =:= 0 end),
        success(allocate(Client)),
        expect(486, allocate(fresh(Server)))
    end).

-spec x71_counter_killed(turn_kit:config()) -> _.
x71_counter_killed(_Config) ->
    doc("the process that counts may be killed: allocations live, and no place is lost or won"),
    with_server(#{user_quota => 2}, fun(#{name := Name} = Server) ->
        [One, Two] = [allocated(Server) || _ <- [1, 2]],
        Counting = meerkat_roles:find(Name, quota),
        exit(Counting, kill),
        eventually(fun() -> meerkat_roles:find(Name, quota) =/= Counting end),
        ?assertEqual([2, 2, 2], [count(Server, K) || K <- [total, {user, <<"alice">>},
                                                           {source, <<127, 0, 0, 1>>}]]),
        [success(call(Client, refresh, [])) || Client <- [One, Two]],
        expect(486, allocate(fresh(Server))),
        delete(One),
        success(allocate(One)),
        exit(process_of(One), kill),
        eventually(fun() -> count(Server, total) =:= 1 end)
    end).

%% The allocation's of that client.
process_of(#{server := #{name := Name}, here := Here}) ->
    [Session] = [S || #{session := S, client := C} <- meerkat:allocations(Name), C =:= Here],
    meerkat_alloc_table:pid(Name, Session).

kill_relay(Name) ->
    {os_pid, Program} = erlang:port_info(meerkat_roles:find(Name, port), os_pid),
    [] = os:cmd("kill -9 " ++ integer_to_list(Program)),
    ok.

-spec x71_relay_killed(turn_kit:config()) -> _.
x71_relay_killed(_Config) ->
    doc("allocations that outlive their relay program keep their places, and give them back when "
        "they end"),
    with_server(#{user_quota => 1}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        ok = kill_relay(Name),
        eventually(fun() -> maps:get(relay_restarts, meerkat:info(Name)) =:= 1 end),
        ?assertEqual(1, count(Server, total)),
        ?assertEqual(486, code(allocate(fresh(Server)))),
        ok = ended(Client),
        ?assertEqual(0, count(Server, total)),
        success(allocate(fresh(Server)))
    end).

-spec x71_stampede(turn_kit:config()) -> _.
x71_stampede(_Config) ->
    doc("sixty at once for a quota of twenty: twenty get one"),
    with_server(#{user_quota => 20}, fun(Server) ->
        Clients = [fresh(Server) || _ <- lists:seq(1, 60)],
        Asked = [begin
                     <<_:64, Txid:12/binary, _/binary>> = Request =
                         signed(Client, allocate, [udp()]),
                     send(Client, Request),
                     {Client, Txid}
                 end || Client <- Clients],
        Types = [begin
                     <<Type:16, _/binary>> = await(Client, Txid),
                     Type
                 end || {Client, Txid} <- Asked],
        ?assertEqual(20, length([T || T <- Types, T =:= 16#0103])),
        ?assertEqual(20, count(Server, total))
    end).

-spec x71_dual_is_one(turn_kit:config()) -> _.
x71_dual_is_one(_Config) ->
    doc("an allocation of both families is one, and one until both addresses are gone"),
    with_server(#{user_quota => 1}, fun(Server) ->
        Client = allocated(Server, [{additional_address_family, 2}], #{}),
        success(call(Client, refresh, [{lifetime, 0}, {requested_address_family, 2}])),
        expect(486, allocate(fresh(Server))),
        success(call(Client, refresh, [{lifetime, 0}, {requested_address_family, 1}])),
        success(allocate(fresh(Server)))
    end).

-spec x73_reserved_ports_count(turn_kit:config()) -> _.
x73_reserved_ports_count(_Config) ->
    doc("a port held in reserve counts as an allocation until it is redeemed: by its user, its "
        "address, and in all"),
    [with_server(Quota, fun(Server) ->
         Client = allocated(Server),
         Pair = fresh(Server),
         expect(Code, allocate(Pair, [{even_port, true}])),
         delete(Client),
         Answer = success(allocate(Pair, [{even_port, true}])),
         ?assertEqual(2, count(Server, total)),
         expect(Code, allocate(Client)),
         Next = fresh(Server),
         success(allocate(Next, [{reservation_token, get(reservation_token, Answer)}])),
         ?assertEqual([2, 2, 2], [count(Server, K) || K <- [total, {user, <<"alice">>},
                                                            {source, <<127, 0, 0, 1>>}]]),
         expect(Code, allocate(Client)),
         [ok = ended(C) || C <- [Pair, Next]],
         ?assertEqual(0, count(Server, total))
     end) || {Code, Quota} <- [{486, #{user_quota => 2}}, {508, #{total_quota => 2}},
                               {486, #{max_allocations_per_address => 2}}]].

-spec x73_reserved_ports_of_one_user(turn_kit:config()) -> _.
x73_reserved_ports_of_one_user(_Config) ->
    doc("ending each allocation that reserved a port makes no room for another: one user cannot "
        "hold the ports of all; counted as well by a process that counts anew"),
    with_server(#{user_quota => 4}, fun(#{name := Name} = Server) ->
        Client = fresh(Server),
        [begin
             success(allocate(Client, [{even_port, true}])),
             delete(Client)
         end || _ <- lists:seq(1, 3)],
        expect(486, allocate(Client, [{even_port, true}])),
        Counting = meerkat_roles:find(Name, quota),
        exit(Counting, kill),
        eventually(fun() ->
            not lists:member(meerkat_roles:find(Name, quota), [none, Counting])
        end),
        ?assertEqual([3, 3], [count(Server, K) || K <- [total, {user, <<"alice">>}]]),
        expect(486, allocate(Client, [{even_port, true}])),
        success(allocate(Client)),
        expect(486, allocate(fresh(Server))),
        success(allocate(fresh(Server, bob()), [{even_port, true}]))
    end).

-spec x73_reserved_by_one_that_is_replaced(turn_kit:config()) -> _.
x73_reserved_by_one_that_is_replaced(_Config) ->
    doc("a port that was reserved while its allocation was replaced counts until the relay has "
        "let go of it: one user cannot hold the ports of all"),
    with_server(#{user_quota => 2, user_quota_replaces => true}, fun(#{name := Name} = Server) ->
        Holder = holder(1),
        {ok, _} = by(Holder, fun(Id) -> meerkat_quota:take(Name, Id, plan(2)) end),
        Client = allocated(Server),
        ?assertEqual(1, next_replaced()),
        ?assertEqual(1, count(Server, {user, <<"alice">>})),
        ok = by(Holder, fun(Id) -> meerkat_quota:hold(Name, Id, 77) end),
        ok = by(Holder, fun(Id) -> meerkat_quota:release(Name, Id) end),
        ?assertEqual([2, 2], [count(Server, K) || K <- [total, {user, <<"alice">>}]]),
        ok = ended(Client),
        ?assertEqual(1, count(Server, {user, <<"alice">>})),
        ok = meerkat_quota:none_held(Name),
        ?assertEqual([0, 0], [count(Server, K) || K <- [total, {user, <<"alice">>}]])
    end).

-spec x73_reservations_outlive_no_relay(turn_kit:config()) -> _.
x73_reservations_outlive_no_relay(_Config) ->
    doc("a relay that dies holds no port any more, so none of them counts"),
    with_server(#{user_quota => 2}, fun(#{name := Name} = Server) ->
        Client = fresh(Server),
        success(allocate(Client, [{even_port, true}])),
        ok = ended(Client),
        ?assertEqual(1, count(Server, total)),
        ok = kill_relay(Name),
        eventually(fun() -> count(Server, total) =:= 0 end)
    end).

-spec x77_peers_are_bounded(turn_kit:config()) -> _.
x77_peers_are_bounded(_Config) ->
    doc("five thousand peers: 508 beyond the cap, and no state grows; ports of one peer add none"),
    with_server(#{max_permissions => 64, workers => 1}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        Codes = [code(permit(Client, [{{127, 1, N div 200, 1 + N rem 200}, 9}]))
                 || N <- lists:seq(1, 5000)],
        {Allowed, Refused} = lists:split(64, Codes),
        ?assertEqual({[success], [508]}, {lists:usort(Allowed), lists:usort(Refused)}),
        Peers = fun() ->
            #{relay := {ok, #{peers := N}}} = meerkat:info(Name),
            N
        end,
        Before = Peers(),
        ?assert(Before =< 64),
        %% No more at a time than the relay's socket holds, so that none is lost on the way there.
        [begin
             [send_to(Client, {{127, 1, 0, 2}, Port}, <<"x">>)
              || Port <- lists:seq(First, First + 99)],
             fence_behind(Client)
         end || First <- lists:seq(40000, 44900, 100)],
        ?assertEqual(Before, Peers())
    end).

%% --------------------------------------------------------------------------------- bandwidth

%% How many of ?SENT datagrams come through to the peer; every other is counted.
passed(Server, Client, Peer) ->
    through(Server, fun() ->
        [send_to(Client, Peer, payload(N)) || N <- lists:seq(1, ?SENT)],
        fence(Client)
    end, fun() -> peer_next(Peer) end).

%% And the other way.
returned(Server, #{relayed := Relayed} = Client, Peer) ->
    through(Server, fun() ->
        Before = counter(Server, peer_packets),
        [peer_send(Peer, Relayed, payload(N)) || N <- lists:seq(1, ?SENT)],
        eventually(fun() -> counter(Server, peer_packets) =:= Before + ?SENT end),
        fence_behind(Client)
    end, fun() -> turn_kit:data(Client) end).

%% A fence that leaves Data indications, of which some may be ICMP's, where they are.
fence_behind(Client) ->
    success(ask(Client, request(binding, []))).

through(Server, Send, Receive) ->
    Before = counter(Server, over_bandwidth),
    Send(),
    Passed = ?SENT - (counter(Server, over_bandwidth) - Before),
    [Receive() || _ <- lists:seq(1, Passed)],
    Passed.

payload(N) -> <<N:32, 0:((?SIZE - 4) * 8)>>.

%% The burst and no more; what comes in while the test runs may let another pass.
is_burst(Passed) -> lists:member(Passed, [?BURST div ?COUNTED - 1, ?BURST div ?COUNTED]).

%% A client with a permitted peer.
pair(Server, Options) ->
    Client = allocated(Server, [], Options),
    Peer = peer(),
    success(permit(Client, [Peer])),
    {Client, Peer}.

%% The relay may answer by itself what was decided before: not this.
-spec x77_new_peers_are_paced(turn_kit:config()) -> _.
x77_new_peers_are_paced(_Config) ->
    doc("new_peers_rate: 508 for a new peer too soon, known ones stay; later there may be more"),
    with_server(#{new_peers_rate => 1}, fun(Server) ->
        Client = allocated(Server),
        Peer = fun(N) -> {{127, 0, 7, N}, 9} end,
        expect(508, permit(Client, [Peer(N) || N <- lists:seq(1, 10)])),
        [success(permit(Client, [Peer(N)])) || N <- [1, 2]],
        success(bind(Client, 16#4000, Peer(3))),
        Late = first(fun(N) -> code(permit(Client, [Peer(N)])) =:= 508 end, lists:seq(4, 250)),
        expect(508, permit(Client, [Peer(1) | [Peer(N) || N <- lists:seq(Late, Late + 4)]])),
        [success(permit(Client, [Peer(N)])) || N <- [1, 2, 3]],
        success(bind(Client, 16#4000, Peer(3))),
        success(bind(Client, 16#4002, Peer(2))),
        expect(400, permit(Client, [])),
        eventually(fun() -> code(bind(Client, 16#4003, Peer(Late))) =:= success end),
        %% Another allocation has its own.
        success(permit(allocated(Server, [], bob()), [Peer(5), Peer(6), Peer(7), Peer(8)]))
    end).

first(Is, [N | Others]) ->
    case Is(N) of true -> N; false -> first(Is, Others) end.

-spec x83_of_an_allocation(turn_kit:config()) -> _.
x83_of_an_allocation(_Config) ->
    doc("max_bps: excess is discarded, each direction by itself, the next allocation unharmed"),
    with_server(#{max_bps => 1}, fun(Server) ->
        {Client, Peer} = pair(Server, #{}),
        {Other, OtherPeer} = pair(Server, #{}),
        Up = passed(Server, Client, Peer),
        ?assert(is_burst(Up), Up),
        Down = returned(Server, Client, Peer),
        ?assert(is_burst(Down), Down),
        ?assertEqual(0, passed(Server, Client, Peer)),
        ?assertEqual(Up, passed(Server, Other, OtherPeer)),
        success(call(Client, refresh, []))
    end).

-spec x83_packets_of_an_allocation(turn_kit:config()) -> _.
x83_packets_of_an_allocation(_Config) ->
    doc("max_pps: however small they are, each direction by itself; the next one unharmed"),
    with_server(#{max_pps => 1}, fun(Server) ->
        [{Client, Peer}, {Other, OtherPeer}] = [pair(Server, #{}) || _ <- [1, 2]],
        ok = paced(Server, fun() -> send_all(Client, Peer) end, fun() -> peer_next(Peer) end),
        ok = paced(Server, fun() ->
            Before = counter(Server, peer_packets),
            [peer_send(Peer, maps:get(relayed, Client), <<N>>) || N <- lists:seq(1, 100)],
            eventually(fun() -> counter(Server, peer_packets) =:= Before + 100 end)
        end, fun() -> turn_kit:data(Client) end),
        ok = paced(Server, fun() -> send_all(Other, OtherPeer) end,
                   fun() -> peer_next(OtherPeer) end),
        ?assertEqual(0, counter(Server, over_bandwidth)),
        success(call(Client, refresh, []))
    end).

send_all(Client, Peer) ->
    [send_to(Client, Peer, <<N>>) || N <- lists:seq(1, 100)],
    fence(Client).

%% Of 100 datagrams 64 pass, and one more for each second that it takes; the others are counted.
paced(Server, Send, Receive) ->
    Before = counter(Server, over_packet_rate),
    Began = erlang:monotonic_time(millisecond),
    _ = Send(),
    Passed = 100 - (counter(Server, over_packet_rate) - Before),
    Seconds = (erlang:monotonic_time(millisecond) - Began) div 1000 + 1,
    ?assert(Passed >= 64 andalso Passed =< 64 + Seconds, Passed),
    _ = [Receive() || _ <- lists:seq(1, Passed)],
    ok.

-spec x83_of_a_user(turn_kit:config()) -> _.
x83_of_a_user(_Config) ->
    doc("user_bps: the allocations of a user share, those of another do not"),
    with_server(#{user_bps => 1}, fun(Server) ->
        [{A, PeerA}, {B, PeerB}] = [pair(Server, #{}) || _ <- [1, 2]],
        {Bob, PeerBob} = pair(Server, bob()),
        Up = passed(Server, A, PeerA),
        ?assert(is_burst(Up), Up),
        ?assertEqual(0, passed(Server, B, PeerB)),
        ?assertEqual(Up, passed(Server, Bob, PeerBob)),
        %% Nor does another allocation give the user more.
        delete(A),
        {C, PeerC} = pair(Server, #{}),
        ?assertEqual(0, passed(Server, C, PeerC))
    end).

-spec x83_bucket_of_another_user(turn_kit:config()) -> _.
x83_bucket_of_another_user(_Config) ->
    doc("as many users in turn as there are allocations: each is counted by itself"),
    with_server(#{user_bps => 1, max_allocations => 2, users => #{}}, fun(Server) ->
        #{secret := Secret} = Server,
        Numbers = [begin
             User = <<"user", (integer_to_binary(N))/binary>>,
             Client = allocated(Server, [], #{user => User, password => Secret}),
             [{Bucket, default}] = meerkat_quota:buckets(maps:get(name, Server)),
             delete(Client),
             Bucket
         end || N <- lists:seq(1, 5)],
        ?assertEqual([1], lists:usort(Numbers)),
        [_, _] = [allocated(Server, [], #{user => User, password => Secret})
                  || User <- [<<"x">>, <<"y">>]],
        ?assertEqual([{1, default}, {2, default}],
                     lists:sort(meerkat_quota:buckets(maps:get(name, Server))))
    end).

-spec x83_of_all(turn_kit:config()) -> _.
x83_of_all(_Config) ->
    doc("bps_capacity: all share"),
    with_server(#{bps_capacity => 1}, fun(Server) ->
        {Alice, Peer} = pair(Server, #{}),
        {Bob, PeerBob} = pair(Server, bob()),
        Up = passed(Server, Alice, Peer),
        ?assert(is_burst(Up), Up),
        ?assertEqual(0, passed(Server, Bob, PeerBob)),
        success(call(Bob, refresh, []))
    end).

%% --------------------------------------------------------------------------------- strangers

-spec x22_strangers_have_a_share(turn_kit:config()) -> _.
x22_strangers_have_a_share(_Config) ->
    doc("without a word in the configuration, there is a limit for strangers"),
    {ok, Config, _} = meerkat_config:load(#{file => none, env => []}),
    Limits = maps:with([unauthenticated_rate, unauthenticated_burst], Config),
    with_server(Limits, fun(Server) ->
        Client = open(Server),
        Request = request(binding, []),
        N = 4000,
        Before = counter(Server, bindings),
        ?assert(counter(Server, over_rate) =:= 0),
        [send(Client, Request) || _ <- lists:seq(1, N)],
        eventually(fun() -> counter(Server, over_rate) > 0 end),
        ?assert(counter(Server, bindings) - Before >= maps:get(unauthenticated_burst, Limits)),
        fence(fresh(Server, #{ip => {127, 0, 0, 2}}))
    end).

-spec x22_a_flood_from_one_address(turn_kit:config()) -> _.
x22_a_flood_from_one_address(_Config) ->
    doc("a thousand requests without credentials from one address, many ports: a few answers; "
        "another address and whoever has credentials get theirs"),
    with_server(#{unauthenticated_rate => 1, unauthenticated_burst => 20}, fun(Server) ->
        Known = allocated(Server),
        Flood = [open(Server) || _ <- lists:seq(1, 10)],
        Asked = lists:seq(1, 100),
        Challenges = counter(Server, challenges),
        [send(Client, request(allocate, [udp()])) || Client <- Flood, _ <- Asked],
        eventually(fun() -> counter(Server, challenges) - Challenges =:= 1000 end),
        Unanswered = counter(Server, over_rate),
        ?assert(Unanswered > 900, Unanswered),
        [success(call(Known, refresh, [])) || _ <- lists:seq(1, 50)],
        Elsewhere = fresh(Server, #{ip => {127, 0, 0, 2}}),
        success(allocate(Elsewhere)),
        success(allocate(fresh(Server, #{family => v6})))
    end).

%% --------------------------------------------------------------------------------- elsewhere

-define(A4, {{192, 0, 2, 7}, 3478}).
-define(B4, {{192, 0, 2, 8}, 3479}).
-define(A6, {{16#2001, 16#db8, 0, 0, 0, 0, 0, 7}, 3478}).

drained(Overrides, Fun) ->
    with_server(Overrides, fun(#{name := Name} = Server) ->
        ok = meerkat:drain(Name),
        Fun(Server)
    end).

-spec s34_drained_300(turn_kit:config()) -> _.
s34_drained_300(_Config) ->
    doc("a drained server: 300 with ALTERNATE-SERVER, signed like the request (RFC 8489 10)"),
    drained(#{alternate_server => [?A4]}, fun(Server) ->
        Client = fresh(Server),
        Answer = expect(300, allocate(Client)),
        ?assertEqual([alternate_server, error_code, message_integrity], names(Answer)),
        ?assertEqual(?A4, get(alternate_server, Answer)),
        Again = expect(300, call(Client, allocate, [udp()], #{hash => sha256})),
        ?assertNotEqual(none, maps:get(integrity, Again)),
        ?assertEqual(?A4, get(alternate_server, Again)),
        ?assertMatch(#{draining := true, answers := #{300 := 2}},
                     meerkat:info(maps:get(name, Server)))
    end).

-spec s34_order_of_addresses(turn_kit:config()) -> _.
s34_order_of_addresses(_Config) ->
    doc("an address of the request's family first, then one of the other (RFC 8489 10)"),
    drained(#{alternate_server => [?A6, ?A4]}, fun(Server) ->
        [?assertEqual(Expected, get_all(alternate_server,
                                        expect(300, allocate(fresh(Server, Options)))))
         || {Options, Expected} <- [{#{}, [?A4, ?A6]}, {#{family => v6}, [?A6, ?A4]}]]
    end).

-spec s34_nowhere_to_go_508(turn_kit:config()) -> _.
s34_nowhere_to_go_508(_Config) ->
    doc("no server of the request's family: 508, for a 300 must have one (RFC 8489 10)"),
    drained(#{alternate_server => [?A6]}, fun(Server) ->
        ?assertEqual([error_code, message_integrity],
                     names(expect(508, allocate(fresh(Server))))),
        expect(300, allocate(fresh(Server, #{family => v6})))
    end),
    drained(#{}, fun(Server) -> expect(508, allocate(fresh(Server))) end).

-spec s34_never_to_itself(turn_kit:config()) -> _.
s34_never_to_itself(_Config) ->
    doc("ALTERNATE-SERVER never names the server that sends it"),
    drained(#{}, fun(#{name := Name, listeners := [V4, V6]} = Server) ->
        #{config := Running} = meerkat_registry:settings(Name),
        ok = meerkat:reload(Name, (Running())#{alternate_server => [V4, V6]}),
        expect(508, allocate(fresh(Server))),
        ok = meerkat:reload(Name, (Running())#{alternate_server => [V4, ?A4, V6]}),
        [?assertEqual([?A4], get_all(alternate_server, expect(300, allocate(fresh(Server)))))
         || _ <- lists:seq(1, 10)],
        ?assertEqual({error, own_address}, meerkat:redirect(Name, [?A4, V4]))
    end).

-spec s34_only_who_may_come_in(turn_kit:config()) -> _.
s34_only_who_may_come_in(_Config) ->
    doc("strangers and bad requests learn nothing of it (RFC 8489 14.8)"),
    drained(#{alternate_server => [?A4]}, fun(Server) ->
        Client = open(Server),
        ?assertEqual(401, code(ask(Client, request(allocate, [udp()])))),
        Known = challenged(Client),
        [begin
             Answer = expect(Code, call(Known, Method, Items, Options)),
             ?assertEqual([], get_all(alternate_server, Answer))
         end || {Code, Method, Items, Options} <-
                    [{401, allocate, [udp()], #{key => <<"wrong">>}}, {400, allocate, [], #{}},
                     {442, allocate, [{requested_transport, 6}], #{}}, {437, refresh, [], #{}},
                     {437, create_permission, [], #{}}]],
        fence(Known)
    end).

-spec s34_redirect(turn_kit:config()) -> _.
s34_redirect(_Config) ->
    doc("the same when told to, to servers of the moment; and back again"),
    with_server(#{alternate_server => [?A4]}, fun(#{name := Name} = Server) ->
        Client = fresh(Server),
        ok = meerkat:redirect(Name, [?B4]),
        ?assertEqual(?B4, get(alternate_server, expect(300, allocate(Client)))),
        ok = meerkat:drain(Name),
        ?assertEqual(?A4, get(alternate_server, expect(300, allocate(Client)))),
        ok = meerkat:undrain(Name),
        success(allocate(Client)),
        ?assertMatch(#{draining := false}, meerkat:info(Name)),
        ?assertError(function_clause, meerkat:redirect(Name, []))
    end).

-spec s34_clients_are_spread(turn_kit:config()) -> _.
s34_clients_are_spread(_Config) ->
    doc("several servers share the clients, and a client is always sent to the same"),
    drained(#{alternate_server => [?A4, ?B4]}, fun(Server) ->
        Where = fun(Client) -> get(alternate_server, expect(300, allocate(Client))) end,
        Sent = [begin
                    Client = fresh(Server),
                    To = Where(Client),
                    ?assertEqual(To, Where(Client)),
                    To
                end || _ <- lists:seq(1, 40)],
        ?assertEqual([?A4, ?B4], lists:usort(Sent))
    end).

-spec t24_live_allocations_go_on(turn_kit:config()) -> _.
t24_live_allocations_go_on(_Config) ->
    doc("what was allocated before goes on to its end (RFC 8656 7.2 (11))"),
    with_server(#{alternate_server => [?A4]}, fun(#{name := Name} = Server) ->
        Client = fresh(Server),
        Request = signed(Client, allocate, [udp()]),
        #{bytes := Bytes} = Answer = success(ask(Client, Request)),
        Here = Client#{relayed => get(xor_relayed_address, Answer)},
        ok = meerkat:drain(Name),
        ?assertMatch(#{bytes := Bytes}, ask(Client, Request)),
        Peer = peer(),
        success(bind(Here, 16#4000, Peer)),
        success(permit(Here, [peer({127, 0, 0, 2})])),
        channel(Here, 16#4000, <<"on">>),
        ?assertMatch({_, <<"on">>}, peer_next(Peer)),
        peer_same(Here, Peer),
        success(call(Here, refresh, [])),
        delete(Here),
        expect(300, allocate(Client))
    end).
