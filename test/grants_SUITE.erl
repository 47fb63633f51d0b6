%% Requests that the relay answers by itself within what Erlang decided (docs/design/grants.md):
%% that it does, that nobody can tell from the answers, that Erlang knows before the client does,
%% and what ends it.
-module(grants_SUITE).
-behaviour(meerkat_authorizer).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([erlang_is_not_asked/1, off_by_its_key/1, answers_as_ever/1, over_tcp/1, tcp_relayed/1,
         told_before_answered/1, counters_outlive_the_relay/1, shown_and_counted/1,
         taken_up_without_being_asked_for/1, processes_sleep_on/1,
         nobody_is_woken/1,
         a_refresh_keeps_both_addresses/1,
         the_end_is_granted/1, what_was_ended_is_free/1, what_was_reserved_is_not_granted/1,
         what_was_ended_is_not_replayed/1,
         erlang_refuses/1, erlang_has_what_has_no_rule/1, another_name_or_key/1,
         limits_are_kept/1, a_table_without_room/1, in_order_behind_what_erlang_has/1,
         reload_withdraws/1, refused_reload_withdraws/1, revoke_withdraws/1, disconnect_withdraws/1,
         delete_withdraws/1, policy_is_asked/1, credentials_that_end/1,
         allocations_that_end_with_them/1, authorizer_sees_every_request/1,
         authorizer_may_grant/1, authenticator_is_asked_again/1, moved_clients/1, new_relay_asks/1,
         same_as_without/1]).
-export([authorize/2, password/3]).

-import(turn_kit, [doc/1, open/1, open/2, send/2, await/2, challenged/1, signed/3, signed/4, call/3,
                   call/4, ask/2, allocated/1, allocated/2, allocated/3, delete/1, permit/2, bind/3,
                   channel/3, peer/0, peer/1, peer_next/1, get/2, code/1, success/1, expect/2,
                   counter/2, counted/4, eventually/1, with_server/2]).

-define(NUMBER, 16#4001).
-define(LOOPBACK_V6, {0, 0, 0, 0, 0, 0, 0, 1}).

-spec all() -> [atom()].
all() ->
    [erlang_is_not_asked, off_by_its_key, answers_as_ever, over_tcp, tcp_relayed,
     told_before_answered, counters_outlive_the_relay, shown_and_counted,
     taken_up_without_being_asked_for, processes_sleep_on, nobody_is_woken,
     a_refresh_keeps_both_addresses, the_end_is_granted,
     what_was_ended_is_free, what_was_reserved_is_not_granted,
     what_was_ended_is_not_replayed, erlang_refuses,
     erlang_has_what_has_no_rule, another_name_or_key,
     limits_are_kept, a_table_without_room, in_order_behind_what_erlang_has, reload_withdraws,
     refused_reload_withdraws, revoke_withdraws, disconnect_withdraws, delete_withdraws,
     policy_is_asked, credentials_that_end, allocations_that_end_with_them,
     authorizer_sees_every_request, authorizer_may_grant, authenticator_is_asked_again,
     moved_clients, new_relay_asks, same_as_without].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

%% ------------------------------------------------------------------------------------- helpers

%% Runs Fun and sees how many requests the relay answered by itself and how many it handed on.
-define(BY(Server, Granted, Asked, Fun), by(Server, {Granted, Asked}, fun() -> Fun end)).

by(Server, Expected, Fun) ->
    Before = numbers(Server),
    Result = Fun(),
    {G0, A0} = Before,
    {G, A} = numbers(Server),
    ?assertEqual(Expected, {G - G0, A - A0}),
    Result.

numbers(Server) ->
    {counter(Server, granted), counter(Server, requests)}.

refresh(Client) -> call(Client, refresh, []).

info(#{server := #{name := Name}, here := Here}) ->
    [#{session := Session}] = [A || #{client := C} = A <- meerkat:allocations(Name), C =:= Here],
    {ok, Details} = meerkat:allocation(Name, Session),
    Details.

pid(#{server := #{name := Name}} = Client) ->
    #{session := Session} = info(Client),
    meerkat_alloc_table:pid(Name, Session).

kill_relay(#{name := Name}) ->
    {ok, Pid} = meerkat_relay:os_pid(Name),
    #{relay_restarts := N} = meerkat:info(Name),
    "" = os:cmd("kill -9 " ++ integer_to_list(Pid)),
    eventually(fun() ->
        case meerkat:info(Name) of
            #{relay_restarts := More, relay := {ok, _}} when More > N ->
                meerkat_roles:find(Name, replaying) =:= none;
            _ ->
                false
        end
    end).

%% The new relay has what was replayed of it: what Erlang answers now comes behind that.
replayed(Client) ->
    success(refresh(Client)).

reload(#{name := Name}, Changes) ->
    #{config := Config} = meerkat_registry:settings(Name),
    meerkat:reload(Name, maps:merge(Config(), Changes)).

%% ----------------------------------------------------------------------------- what it is for

-spec erlang_is_not_asked(turn_kit:config()) -> _.
erlang_is_not_asked(_Config) ->
    doc("Refresh, CreatePermission and ChannelBind of an allocation, new and renewed, are the "
        "relay's to answer; data flows by what it did"),
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        Peer = peer(),
        ?BY(Server, 7, 0, begin
            ?assertEqual(600, get(lifetime, success(refresh(Client)))),
            ?assertEqual(1200, get(lifetime, success(call(Client, refresh, [{lifetime, 1200}])))),
            [success(permit(Client, [Peer, peer({127, 0, 0, 9})])) || _ <- [1, 2]],
            [success(bind(Client, ?NUMBER, Peer)) || _ <- [1, 2]],
            success(permit(Client, [{{127, 0, 0, 7}, 0}]))
        end),
        ok = channel(Client, ?NUMBER, <<"there">>),
        ?assertMatch({_, <<"there">>}, peer_next(Peer))
    end).

-spec off_by_its_key(turn_kit:config()) -> _.
off_by_its_key(_Config) ->
    doc("grants = false: everything is asked; and a reload may change that either way"),
    with_server(#{grants => false}, fun(Server) ->
        Client = allocated(Server),
        ?BY(Server, 0, 2, begin success(refresh(Client)), success(permit(Client, [peer()])) end),
        ok = reload(Server, #{grants => true}),
        ?BY(Server, 1, 1, begin success(refresh(Client)), success(refresh(Client)) end),
        ok = reload(Server, #{grants => false}),
        ?BY(Server, 0, 2, begin success(refresh(Client)), success(refresh(Client)) end)
    end).

-spec answers_as_ever(turn_kit:config()) -> _.
answers_as_ever(_Config) ->
    doc("the signature of the request's kind, by either password algorithm and by USERHASH, "
        "FINGERPRINT where the request has it, SOFTWARE where it is configured"),
    with_server(#{software => <<"Meerkat">>, password_algorithms => true}, fun(Server) ->
        [begin
             Client = challenged(open(Server)),
             success(call(Client, allocate, [{requested_transport, 17}], Options)),
             Answer = ?BY(Server, 1, 0,
                          success(call(Client, refresh, [], Options#{fingerprint => true}))),
             ?assertMatch(#{fingerprint := true}, Answer),
             ?assertEqual(<<"Meerkat">>, get(software, Answer)),
             %% Another way to name the same user is not what was granted.
             Other = case Options of #{algorithm := _} -> #{}; #{} -> #{algorithm => md5} end,
             _ = ?BY(Server, 0, 1, success(call(Client, refresh, [], Other)))
         end || Options <- [#{}, #{algorithm => md5}, #{algorithm => sha256}]],
        Hidden = challenged(open(Server)),
        Anonymous = #{algorithm => sha256, anonymous => true},
        success(call(Hidden, allocate, [{requested_transport, 17}], Anonymous)),
        ?BY(Server, 1, 0, success(call(Hidden, refresh, [], Anonymous)))
    end).

-spec over_tcp(turn_kit:config()) -> _.
over_tcp(_Config) ->
    doc("clients on a connection as well"),
    Listeners = [#{transport => Transport, ip => {127, 0, 0, 1}, port => 0}
                 || Transport <- [tcp, udp]],
    with_server(#{listeners => Listeners}, fun(Server) ->
        Client = allocated(Server, [], #{transport => tcp}),
        ?BY(Server, 2, 0, begin success(refresh(Client)), success(permit(Client, [peer()])) end)
    end).

%% ----------------------------------------------------------------------------- Erlang knows it

-spec tcp_relayed(turn_kit:config()) -> _.
tcp_relayed(_Config) ->
    doc("an allocation that relays TCP (RFC 6062) has no grant: Erlang answers each request, and "
        "refuses channels"),
    Listeners = [#{transport => Transport, ip => {127, 0, 0, 1}, port => 0}
                 || Transport <- [tcp, udp]],
    with_server(#{listeners => Listeners, tcp_relay => true}, fun(Server) ->
        Client = challenged(open(Server, #{transport => tcp})),
        success(call(Client, allocate, [{requested_transport, 6}])),
        ?BY(Server, 0, 4, begin
            [success(refresh(Client)) || _ <- [1, 2]],
            success(permit(Client, [peer()])),
            ?assertEqual(400, code(bind(Client, ?NUMBER, peer())))
        end)
    end).

-spec told_before_answered(turn_kit:config()) -> _.
told_before_answered(_Config) ->
    doc("the relay dies right after its answers: the next one has what clients were told"),
    with_server(#{}, fun(Server) ->
        Peer = peer(),
        Clients = [begin
                       Client = allocated(Server),
                       success(bind(Client, ?NUMBER, Peer)),
                       Client
                   end || _ <- lists:seq(1, 20)],
        ok = kill_relay(Server),
        [begin
             replayed(Client),
             ok = channel(Client, ?NUMBER, <<"still">>),
             ?assertEqual({maps:get(relayed, Client), <<"still">>}, peer_next(Peer))
         end || Client <- Clients]
    end).

-spec counters_outlive_the_relay(turn_kit:config()) -> _.
counters_outlive_the_relay(_Config) ->
    doc("what was counted up to a Refresh is in the line that an allocation leaves"),
    Lines = log_kit:logged(fun() -> with_server(#{}, fun(Server) ->
        {Client, Peer} = {allocated(Server), peer()},
        success(bind(Client, ?NUMBER, Peer)),
        [begin
             ok = channel(Client, ?NUMBER, <<"12345">>),
             _ = peer_next(Peer)
         end || _ <- [1, 2, 3]],
        ?BY(Server, 1, 0, success(refresh(Client))),
        ok = kill_relay(Server),
        replayed(Client),
        ok = channel(Client, ?NUMBER, <<"12345">>),
        _ = peer_next(Peer),
        Pid = pid(Client),
        Monitor = monitor(process, Pid),
        ok = delete(Client),
        receive {'DOWN', Monitor, _, _, _} -> ok end
    end) end),
    ?assertMatch([_], [L || L <- Lines, string:find(L, "4 packets") =/= nomatch orelse
                                string:find(L, "client_packets=4") =/= nomatch]).

-spec shown_and_counted(turn_kit:config()) -> _.
shown_and_counted(_Config) ->
    doc("the allocation tells of its permissions, channels and time; each answer is one in the "
        "metrics, by its method"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        #{address := Address} = Peer = peer(),
        Before = meerkat_answers:by_method(meerkat_registry:answers(Name)),
        ?BY(Server, 3, 0, begin
            success(call(Client, refresh, [{lifetime, 3000}])),
            success(permit(Client, [{{127, 0, 0, 8}, 0}])),
            success(bind(Client, ?NUMBER, Peer))
        end),
        Details = info(Client),
        ?assertMatch(#{expires_ms := Ms, peers := 2} when Ms > 2900000, Details),
        ?assertMatch([#{peer := {127, 0, 0, 1}}, #{peer := {127, 0, 0, 8}}],
                     maps:get(permissions, Details)),
        ?assertMatch([#{number := ?NUMBER, peer := Address}], maps:get(channels, Details)),
        After = meerkat_answers:by_method(meerkat_registry:answers(Name)),
        [?assertEqual(1, maps:get({Method, success}, After) - maps:get({Method, success}, Before))
         || Method <- [refresh, create_permission, channel_bind]],
        %% Renewed is not new.
        success(permit(Client, [{{127, 0, 0, 8}, 0}])),
        ?assertMatch(#{peers := 2}, info(Client))
    end).

-spec taken_up_without_being_asked_for(turn_kit:config()) -> _.
taken_up_without_being_asked_for(_Config) ->
    doc("what was answered does not pile up: after some the process takes it in"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        Table = meerkat_registry:table(Name, granted),
        ?BY(Server, 100, 0, [success(refresh(Client)) || _ <- lists:seq(1, 100)]),
        eventually(fun() -> ets:info(Table, size) < 16 end),
        ok = delete(Client),
        eventually(fun() -> ets:info(Table, size) =:= 0 end)
    end).

-spec processes_sleep_on(turn_kit:config()) -> _.
processes_sleep_on(_Config) ->
    doc("the process of the allocation is not woken for a few of them"),
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        Pid = pid(Client),
        Asleep = fun() -> process_info(Pid, current_function) =:=
                              {current_function, {erlang, hibernate, 3}} end,
        eventually(Asleep),
        {reductions, Before} = process_info(Pid, reductions),
        ?BY(Server, 3, 0, [success(refresh(Client)) || _ <- [1, 2, 3]]),
        ?assertEqual({reductions, Before}, process_info(Pid, reductions))
    end).

-spec nobody_is_woken(turn_kit:config()) -> _.
nobody_is_woken(_Config) ->
    doc("nor is whoever reads what the relay says: answers are noted, and found when somebody "
        "asks"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        {Client, Peer} = {allocated(Server), peer()},
        Owner = meerkat_roles:find(Name, relay),
        %% Now and then it looks by itself.
        eventually(fun() ->
            {reductions, Before} = process_info(Owner, reductions),
            [success(refresh(Client)) || _ <- [1, 2, 3]],
            success(bind(Client, ?NUMBER, Peer)),
            {reductions, Before} =:= process_info(Owner, reductions)
        end),
        ?assertMatch(#{channels := [#{number := ?NUMBER}]}, info(Client))
    end).

%% -------------------------------------------------------------------------------- the end of it

-spec a_refresh_keeps_both_addresses(turn_kit:config()) -> _.
a_refresh_keeps_both_addresses(_Config) ->
    doc("a Refresh that the relay has answered prolongs both addresses of an allocation: data "
        "flows by them when one that was made later, and not refreshed, has ended"),
    with_server(#{default_lifetime => 3, max_lifetime => 60}, fun(Server) ->
        Kept = allocated(Server, [{additional_address_family, 2}]),
        ?BY(Server, 1, 0, success(call(Kept, refresh, [{lifetime, 60}]))),
        Ends = monitor(process, pid(allocated(Server))),
        Peers = [{?NUMBER, peer()}, {?NUMBER + 1, peer(?LOOPBACK_V6)}],
        [success(bind(Kept, Number, Peer)) || {Number, Peer} <- Peers],
        receive {'DOWN', Ends, _, _, _} -> ok end,
        [begin
             ok = channel(Kept, Number, <<"still">>),
             ?assertMatch({_, <<"still">>}, peer_next(Peer))
         end || {Number, Peer} <- Peers]
    end).

-spec the_end_is_granted(turn_kit:config()) -> _.
the_end_is_granted(_Config) ->
    doc("a Refresh with lifetime 0 is the relay's to answer; sent again it finds nothing, and "
        "Erlang knows how it ended"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        Monitor = erlang:monitor(process, pid(Client)),
        success(bind(Client, ?NUMBER, peer())),
        ?BY(Server, 1, 0, delete(Client)),
        receive {'DOWN', Monitor, process, _, Why} -> ?assertEqual(normal, Why) end,
        ?assertEqual([], meerkat:allocations(Name)),
        expect(437, call(Client, refresh, [{lifetime, 0}]))
    end).

-spec what_was_ended_is_free(turn_kit:config()) -> _.
what_was_ended_is_free(_Config) ->
    doc("whoever has the answer that an allocation is over finds its 5-tuple and its place in each "
        "quota free, and so does who does not wait for the answer"),
    with_server(#{user_quota => 1}, fun(Server) ->
        Client = allocated(Server),
        Other = challenged(open(Server)),
        expect(486, turn_kit:allocate(Other)),
        lists:foldl(fun(_, {Has, Wants}) ->
            ok = delete(Has),
            success(turn_kit:allocate(Wants)),
            {Wants, Has}
        end, {Client, Other}, lists:seq(1, 20)),
        [End, Again] = [signed(Client, refresh, [{lifetime, 0}]),
                        signed(Client, allocate, [{requested_transport, 17}])],
        Pid = pid(Client),
        ok = send(Client, End),
        ok = send(Client, Again),
        [?assertMatch({ok, #{class := success}}, stun_model:decode(await(Client, Txid)))
         || <<_:64, Txid:12/binary, _/binary>> <- [End, Again]],
        ?assertNotEqual(Pid, pid(Client))
    end).

-spec what_was_reserved_is_not_granted(turn_kit:config()) -> _.
what_was_reserved_is_not_granted(_Config) ->
    doc("an allocation that reserves a port is Erlang's to end: whoever has that answer finds the "
        "token worth nothing"),
    with_server(#{}, fun(Server) ->
        [begin
             #{answer := Answer} = Client = allocated(Server, [{even_port, true}]),
             ?BY(Server, 0, 2, begin success(refresh(Client)), delete(Client) end),
             Token = {reservation_token, get(reservation_token, Answer)},
             expect(508, turn_kit:allocate(challenged(open(Server)), [Token]))
         end || _ <- lists:seq(1, 10)]
    end).

-spec what_was_ended_is_not_replayed(turn_kit:config()) -> _.
what_was_ended_is_not_replayed(_Config) ->
    doc("what a client was told to be over stays over when the relay dies before Erlang's process "
        "has looked at it"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        Pid = pid(Client),
        Monitor = erlang:monitor(process, Pid),
        ok = sys:suspend(Pid),
        ?BY(Server, 1, 0, delete(Client)),
        #{relay_restarts := N} = meerkat:info(Name),
        {ok, Relay} = meerkat_relay:os_pid(Name),
        "" = os:cmd("kill -9 " ++ integer_to_list(Relay)),
        ok = sys:resume(Pid),
        receive {'DOWN', Monitor, process, _, Why} -> ?assertEqual(normal, Why) end,
        eventually(fun() ->
            #{relay_restarts := Now, relay := Is} = meerkat:info(Name),
            Now > N andalso element(1, Is) =:= ok
        end),
        ?assertEqual([], meerkat:allocations(Name)),
        success(turn_kit:allocate(challenged(Client)))
    end).

%% ------------------------------------------------------------------------- what stays Erlang's

-spec erlang_refuses(turn_kit:config()) -> _.
erlang_refuses(_Config) ->
    doc("every request that does not succeed is answered by Erlang, as ever"),
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        Peer = peer(),
        success(bind(Client, ?NUMBER, Peer)),
        ?BY(Server, 0, 8, begin
            expect(400, permit(Client, [])),
            expect(403, permit(Client, [Peer, {{169, 254, 0, 1}, 0}])),
            expect(443, permit(Client, [{{0, 0, 0, 0, 0, 0, 0, 1}, 0}])),
            expect(400, bind(Client, ?NUMBER + 1, Peer)),
            expect(400, bind(Client, ?NUMBER, peer())),
            expect(400, bind(Client, 16#3fff, Peer)),
            expect(400, call(Client, channel_bind, [{channel_number, ?NUMBER}])),
            expect(420, call(Client, refresh, [{16#7777, <<"?">>}]))
        end),
        %% Nothing of what was refused is there.
        #{permissions := [#{peer := {127, 0, 0, 1}}], channels := [_]} = info(Client)
    end).

-spec erlang_has_what_has_no_rule(turn_kit:config()) -> _.
erlang_has_what_has_no_rule(_Config) ->
    doc("attributes that the relay has no rule for"),
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        ?BY(Server, 0, 2, begin
            success(call(Client, refresh, [{requested_address_family, 1}])),
            success(call(Client, refresh, [{requested_address_family, 1}, {lifetime, 0}]))
        end)
    end).

-spec another_name_or_key(turn_kit:config()) -> _.
another_name_or_key(_Config) ->
    doc("another user of the same 5-tuple, and a wrong signature: 441 and 401, by Erlang, which "
        "counts them"),
    with_server(#{}, fun(#{users := Users} = Server) ->
        Client = allocated(Server, [], #{user => <<"alice">>,
                                         password => maps:get(<<"alice">>, Users)}),
        Bob = Client#{user := <<"bob">>, password := maps:get(<<"bob">>, Users)},
        ?BY(Server, 0, 3, begin
            expect(441, ask(Bob, signed(Bob, refresh, []))),
            expect(401, call(Client, refresh, [], #{key => <<0:128>>})),
            %% Bob's name with the key of Alice.
            expect(401, ask(Bob, signed(Bob, refresh, [], #{key => maps:get(key, Client)})))
        end),
        ?BY(Server, 1, 0, success(refresh(Client)))
    end).

-spec limits_are_kept(turn_kit:config()) -> _.
limits_are_kept(_Config) ->
    doc("max_permissions for permissions and for channels, whoever answered which of them"),
    with_server(#{max_permissions => 3}, fun(Server) ->
        Client = allocated(Server),
        Ips = [{127, 0, 1, N} || N <- [1, 2, 3, 4]],
        [A, B, C, D] = [{Ip, 9} || Ip <- Ips],
        success(permit(Client, [A, B])),
        expect(508, permit(Client, [C, D])),
        success(permit(Client, [C])),
        expect(508, permit(Client, [D])),
        success(permit(Client, [A, B, C])),
        [success(bind(Client, ?NUMBER + N, {{127, 0, 0, 1}, 1000 + N})) || N <- [1, 2, 3]],
        expect(508, bind(Client, ?NUMBER + 4, {{127, 0, 0, 1}, 1004})),
        #{channels := [_, _, _]} = info(Client)
    end).

-spec a_table_without_room(turn_kit:config()) -> _.
a_table_without_room(_Config) ->
    doc("more peers in one request than the relay takes at a time are Erlang's, all or none"),
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        Many = [{{127, 0, 2, N}, 0} || N <- lists:seq(1, 13)],
        ?BY(Server, 1, 1, begin
            success(permit(Client, tl(Many))),
            success(permit(Client, Many))
        end),
        #{permissions := Permissions} = info(Client),
        ?assertEqual(13, length(Permissions))
    end).

-spec in_order_behind_what_erlang_has(turn_kit:config()) -> _.
in_order_behind_what_erlang_has(_Config) ->
    doc("while Erlang has a request of a session in hand the relay answers none of the others of "
        "that session, so that they take effect in their order"),
    with_server(#{}, fun(Server) ->
        {Client, Other} = {allocated(Server), allocated(Server)},
        Pid = pid(Client),
        ok = sys:suspend(Pid),
        [First, Second] = [signed(Client, refresh, Items)
                           || Items <- [[{requested_address_family, 1}, {lifetime, 3000}],
                                        [{lifetime, 700}]]],
        ?BY(Server, 1, 2, begin
            ok = send(Client, First),
            ok = send(Client, Second),
            %% Somebody else's is.
            success(refresh(Other)),
            eventually(fun() -> element(2, erlang:process_info(Pid, message_queue_len)) >= 2 end)
        end),
        ok = sys:resume(Pid),
        [?assertMatch({ok, #{class := success}}, stun_model:decode(await(Client, Txid)))
         || <<_:64, Txid:12/binary, _/binary>> <- [First, Second]],
        ?assertMatch(#{expires_ms := Ms} when Ms =< 700000, info(Client))
    end).

%% ----------------------------------------------------------------------------- what withdraws

-spec reload_withdraws(turn_kit:config()) -> _.
reload_withdraws(_Config) ->
    doc("a reload is in force when it returns, in the relay's answers too; then they are granted "
        "anew"),
    with_server(#{max_lifetime => 3600}, fun(Server) ->
        Client = allocated(Server),
        ?assertEqual(3000, get(lifetime, call(Client, refresh, [{lifetime, 3000}]))),
        ok = reload(Server, #{max_lifetime => 1000}),
        ?BY(Server, 1, 1, [?assertEqual(1000, get(lifetime, call(Client, refresh,
                                                                [{lifetime, 3000}])))
                           || _ <- [1, 2]])
    end).

-spec refused_reload_withdraws(turn_kit:config()) -> _.
refused_reload_withdraws(_Config) ->
    doc("a reload that is refused half way leaves no grant made by what was in force meanwhile"),
    with_server(#{max_lifetime => 3600}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        {ok, Taken} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
        {ok, Port} = inet:port(Taken),
        #{config := Config} = meerkat_registry:settings(Name),
        #{listeners := Listeners} = Config(),
        {error, _} = reload(Server, #{max_lifetime => 1000,
                                      listeners => Listeners ++ [#{transport => udp,
                                                                   ip => {127, 0, 0, 1},
                                                                   port => Port}]}),
        ?BY(Server, 1, 1, [?assertEqual(3000, get(lifetime, call(Client, refresh,
                                                                [{lifetime, 3000}])))
                           || _ <- [1, 2]])
    end).

-spec revoke_withdraws(turn_kit:config()) -> _.
revoke_withdraws(_Config) ->
    doc("revoked credentials earn 401 from when revoke returns; the others' allocations live on"),
    with_server(#{}, fun(#{name := Name, secret := Secret} = Server) ->
        [Gone, Stays] = [rest(Server, Secret, User, 600) || User <- [<<"gone">>, <<"stays">>]],
        {ok, 1} = meerkat:revoke(Name, <<"gone">>),
        expect(401, refresh(Gone)),
        ?BY(Server, 1, 1, begin success(refresh(Stays)), success(refresh(Stays)) end)
    end).

%% With an allocation by time-limited credentials.
rest(Server, Secret, User, TtlS) ->
    {Name, Password} = meerkat_auth_rest:credentials(Secret, User, TtlS, meerkat_clock:wall_s()),
    allocated(Server, [], #{user => Name, password => Password}).

-spec disconnect_withdraws(turn_kit:config()) -> _.
disconnect_withdraws(_Config) ->
    doc("an allocation that an operator ended is over: 437"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        #{session := Session} = info(Client),
        1 = meerkat:disconnect(Name, Session),
        expect(437, refresh(Client))
    end).

-spec delete_withdraws(turn_kit:config()) -> _.
delete_withdraws(_Config) ->
    doc("a client may begin anew on its 5-tuple, with nothing of before"),
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        success(bind(Client, ?NUMBER, peer())),
        ok = delete(Client),
        expect(437, refresh(Client)),
        success(turn_kit:allocate_soon(Client, [])),
        ?BY(Server, 1, 0, success(bind(Client, ?NUMBER, peer())))
    end).

-spec policy_is_asked(turn_kit:config()) -> _.
policy_is_asked(_Config) ->
    doc("X16: a peer that a reload forbids is refused, though it was permitted before"),
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        Peer = peer({127, 0, 0, 77}),
        success(permit(Client, [Peer])),
        ok = reload(Server, #{allowed_peers => [], denied_peers => [{{127, 0, 0, 77}, 32}]}),
        success(refresh(Client)),                                   % granted again
        expect(403, permit(Client, [Peer])),
        expect(403, bind(Client, ?NUMBER, Peer))
    end).

-spec credentials_that_end(turn_kit:config()) -> _.
credentials_that_end(_Config) ->
    doc("time-limited credentials are no good to the relay either once their time is over"),
    with_server(#{credential_leeway => 0}, fun(#{secret := Secret} = Server) ->
        Client = rest(Server, Secret, <<"alice">>, 3),
        eventually(fun() -> code(refresh(Client)) =:= 401 end)
    end).

-spec allocations_that_end_with_them(turn_kit:config()) -> _.
allocations_that_end_with_them(_Config) ->
    doc("expire_with_credentials: no Refresh goes beyond them"),
    with_server(#{expire_with_credentials => true, credential_leeway => 0},
                fun(#{secret := Secret} = Server) ->
        Client = rest(Server, Secret, <<"alice">>, 300),
        Lifetimes = ?BY(Server, 3, 0, [get(lifetime, success(refresh(Client))) || _ <- [1, 2, 3]]),
        [?assert(L =< 300 andalso L > 200) || L <- Lifetimes]
    end).

%%% An embedder's modules

authorize(#{peers := [{_, 99} | _]}, _Mode) -> {deny, 403};
authorize(_, every) -> allow;
authorize(_, grant) -> {allow, grant}.

password(<<"carol">>, _Realm, Asked) ->
    ok = counters:add(Asked, 1, 1),
    {ok, {password, <<"sesame">>}};
password(_, _Realm, _Asked) ->
    error.

-spec authorizer_sees_every_request(turn_kit:config()) -> _.
authorizer_sees_every_request(_Config) ->
    doc("where an authorizer says allow, every request comes to it"),
    with_server(#{authorizer => {?MODULE, every}}, fun(Server) ->
        Client = allocated(Server),
        ?BY(Server, 0, 3, begin
            success(refresh(Client)),
            success(permit(Client, [peer()])),
            expect(403, permit(Client, [{{127, 0, 0, 1}, 99}]))
        end)
    end).

-spec authorizer_may_grant(turn_kit:config()) -> _.
authorizer_may_grant(_Config) ->
    doc("where it says {allow, grant} it is not asked again"),
    with_server(#{authorizer => {?MODULE, grant}}, fun(Server) ->
        Client = allocated(Server),
        ?BY(Server, 2, 0, begin
            success(refresh(Client)),
            success(permit(Client, [{{127, 0, 0, 1}, 99}]))
        end)
    end).

-spec authenticator_is_asked_again(turn_kit:config()) -> _.
authenticator_is_asked_again(_Config) ->
    doc("an embedder's module is asked about a user again after ten minutes at the latest: so long "
        "is what the relay may answer"),
    Asked = counters:new(1, []),
    with_server(#{authenticator => {?MODULE, Asked}}, fun(Server) ->
        Client = allocated(Server, [], #{user => <<"carol">>, password => <<"sesame">>}),
        Once = counters:get(Asked, 1),
        ?BY(Server, 1, 0, success(refresh(Client))),
        ?assertEqual(Once, counters:get(Asked, 1))
    end),
    Auth = meerkat_auth:new(#{authenticator => {?MODULE, Asked}, realm => <<"example.org">>}),
    Key = stun_model:key(<<"carol">>, <<"example.org">>, <<"sesame">>),
    Packet = stun_model:encode(#{class => request, method => refresh,
                                 transaction_id => <<0:96>>,
                                 attributes => [{username, <<"carol">>}, {realm, <<"example.org">>},
                                                {nonce, <<"n">>}, {sign, sha1, Key}]}),
    {ok, Message} = meerkat_stun:decode(Packet),
    {ok, #{grant := Grant}} = meerkat_auth:authenticate(Packet, Message, <<"example.org">>, Auth),
    #{until_s := Until} = Grant(),
    ?assert(Until > 0 andalso Until =< meerkat_clock:wall_s() + 600).

-spec moved_clients(turn_kit:config()) -> _.
moved_clients(_Config) ->
    doc("RFC 8016: a ticket is Erlang's; from the new address the relay answers as from the old"),
    with_server(#{mobility => true, workers => 1}, fun(Server) ->
        #{answer := Answer} = Client = allocated(Server, [{mobility_ticket, <<>>}]),
        Ticket = get(mobility_ticket, Answer),
        Peer = peer(),
        success(bind(Client, ?NUMBER, Peer)),
        New = (challenged(open(Server)))#{relayed => maps:get(relayed, Client)},
        ?BY(Server, 0, 1, success(call(New, refresh, [{mobility_ticket, Ticket}]))),
        %% The old address is still served.
        ?BY(Server, 1, 0, success(refresh(Client))),
        counted(Server, moves, 1, fun() ->
            ok = channel(New, ?NUMBER, <<"moved">>),
            ?assertMatch({_, <<"moved">>}, peer_next(Peer))
        end),
        ?BY(Server, 1, 0, success(bind(New, ?NUMBER, Peer)))
    end).

-spec new_relay_asks(turn_kit:config()) -> _.
new_relay_asks(_Config) ->
    doc("the relay that follows one that died has no grants until Erlang has answered once"),
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        ok = kill_relay(Server),
        {0, 0} = numbers(Server),
        success(refresh(Client)),
        success(refresh(Client)),
        ?assertEqual({1, 1}, numbers(Server))
    end).

%% ------------------------------------------------------------------------------- the property

-spec same_as_without(turn_kit:config()) -> _.
same_as_without(_Config) ->
    doc("random requests: the answers are the same, byte for byte, as those of a server whose "
        "relay asks for each, and so is what the allocation then holds"),
    Config = #{max_permissions => 3, max_lifetime => 1800,
               software => <<"Meerkat">>},
    with_server(Config, fun(With) -> with_server(Config#{grants => false}, fun(Without) ->
        case proper:quickcheck(prop_grants:prop_same(With, Without),
                               [{numtests, 150}, {max_size, 30}, quiet, long_result]) of
            true -> ok;
            Counterexample -> ct:fail(Counterexample)
        end,
        %% It was about something.
        Granted = counter(With, granted),
        ct:comment("~b answered by the relay, ~b by Erlang", [Granted, counter(With, requests)]),
        ?assert(Granted > 200),
        ?assertEqual(0, counter(Without, granted))
    end) end).
