%% Another configuration while the server runs: what clients and peers see of it, that it is all or
%% nothing, and that the table of keys tells the truth about which may change. Cases named after
%% rows of the tables of threats and conformance where there is one.
-module(reload_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([x16_denied_peers/1, x16_allowed_peers/1, x16_deleted_user/1, x16_another_password/1,
         secrets_change_without_a_break/1, limits_hold_at_once/1, quota_below_what_there_is/1,
         x83_bandwidth_of_live_allocations/1, socket_buffers/1,
         what_needs_a_restart_is_refused/1,
         listeners_come_and_go/1, a_listener_goes_with_its_last_client/1,
         a_listener_is_known_by_the_port_it_was_given/1,
         a_removed_listener_comes_back_while_its_clients_live/1,
         a_removed_listener_keeps_clients_that_moved/1,
         allocations_of_a_removed_listener_are_replayed/1,
         realm_of_a_listener/1, a_listener_that_cannot_be/1,
         relay_addresses_come_and_go/1, the_next_relay_knows_what_was/1,
         a_relay_address_that_cannot_be/1, what_the_relay_goes_by/1, what_cannot_be_is_refused/1,
         keys_left_out_take_their_defaults/1, the_table_is_right/1,
         the_next_relay_has_the_new_rules/1, many_at_once/1, allocations_while_reloading/1]).

-import(turn_kit, [eventually/1, doc/1, open/2, challenged/1, call/3, allocated/1, allocated/3,
                   allocate/1, allocate/2, permit/2, bind/3, send/2, send_to/3, channel/3, peer/1,
                   peer_send/3, peer_next/1, peer_same/2, get/2, request/3, success/1, expect/2,
                   counter/2, counted/3, with_server/2]).

-define(TIMEOUT, 30000).
-define(FOE, {127, 0, 0, 2}).
-define(FRIEND, {127, 0, 0, 3}).

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

suite() -> [{timetrap, {seconds, 60}}].

%% The configuration of a server with some keys replaced.
running(#{name := Name}, Overrides) ->
    #{config := Config} = meerkat_registry:settings(Name),
    maps:merge(Config(), Overrides).

reload(#{name := Name} = Server, Overrides) ->
    meerkat:reload(Name, running(Server, Overrides)).

fresh(Server) -> fresh(Server, #{}).

fresh(Server, Options) -> challenged(open(Server, Options)).

%% ------------------------------------------------------------------------------ revocation

x16_denied_peers(_Config) ->
    doc("a network that is denied now: permissions and channels end, both ways, and no others"),
    with_server(#{allowed_peers => []}, fun(Server) ->
        #{relayed := Relayed} = Client = allocated(Server),
        [#{address := Foe} = Bad, Good] = [peer(?FOE), peer(?FRIEND)],
        success(bind(Client, 16#4000, Bad)),
        success(bind(Client, 16#4001, Good)),
        channel(Client, 16#4000, <<"before">>),
        ?assertEqual({Relayed, <<"before">>}, peer_next(Bad)),
        ok = reload(Server, #{denied_peers => [{?FOE, 32}]}),
        %% Each worker has the new rules once it has forgotten the permission.
        Mark = fun() -> counter(Server, no_channel) + counter(Server, no_permission)
                            + counter(Server, forbidden_peer) end,
        Before = Mark(),
        eventually(fun() -> channel(Client, 16#4000, <<"?">>), Mark() > Before end),
        drain_socket(Bad),
        counted(Server, no_permission, fun() -> peer_send(Bad, Relayed, <<"never">>) end),
        expect(403, permit(Client, [Bad])),
        expect(403, bind(Client, 16#4000, Bad)),
        send(Client, request(indication, send, [{xor_peer_address, Foe}, {data, <<"never">>}])),
        channel(Client, 16#4001, <<"still">>),
        ?assertEqual({Relayed, <<"still">>}, peer_next(Good)),
        peer_send(Good, Relayed, <<"and back">>),
        ?assertEqual(<<16#4001:16, 8:16, "and back">>, turn_kit:next(Client)),
        ok = reload(Server, #{denied_peers => []}),
        eventually(fun() -> turn_kit:code(permit(Client, [Bad])) =:= success end),
        peer_same(Client, Bad)
    end).

%% What arrived before the rules changed: all that stands before a word of our own.
drain_socket(#{socket := Socket, address := {_, Port} = Address}) ->
    ok = gen_udp:send(Socket, Address, <<"the end">>),
    drained(Socket, Port).

drained(Socket, Own) ->
    receive
        {udp, Socket, _, Own, <<"the end">>} -> ok;
        {udp, Socket, _, _, <<"?">>} -> drained(Socket, Own)
    end.

x16_allowed_peers(_Config) ->
    doc("a network that is allowed now may be reached, by allocations of before as well"),
    with_server(#{allowed_peers => [], denied_peers => [{?FOE, 32}]}, fun(Server) ->
        Client = allocated(Server),
        Peer = peer(?FOE),
        expect(403, permit(Client, [Peer])),
        ok = reload(Server, #{allowed_peers => [{?FOE, 32}]}),
        eventually(fun() -> turn_kit:code(permit(Client, [Peer])) =:= success end),
        peer_same(Client, Peer)
    end).

x16_deleted_user(_Config) ->
    doc("a user that is gone: Refresh and everything else 401; others are not concerned"),
    with_server(#{}, fun(Server) ->
        [Alice, Bob] = [allocated(Server, [], #{user => User})
                        || User <- [<<"alice">>, <<"bob">>]],
        ok = reload(Server, #{users => #{<<"bob">> => {password, <<"builder">>}}}),
        Peer = peer(?FRIEND),
        [expect(401, Answer) || Answer <- [call(Alice, refresh, []), permit(Alice, [Peer]),
                                           call(Alice, refresh, [{lifetime, 0}]),
                                           bind(Alice, 16#4000, Peer)]],
        success(call(Bob, refresh, [])),
        success(permit(Bob, [Peer])),
        peer_same(Bob, Peer),
        expect(401, allocate(challenged(Alice)))
    end).

x16_another_password(_Config) ->
    doc("a password that was changed: the old one is refused at once, the new one goes on"),
    with_server(#{}, fun(Server) ->
        Alice = allocated(Server),
        ok = reload(Server, #{users => #{<<"alice">> => {password, <<"changed">>}}}),
        expect(401, call(Alice, refresh, [])),
        Key = stun_model:key("alice", maps:get(realm, Alice), "changed"),
        success(call(Alice#{key := Key, password := <<"changed">>}, refresh, []))
    end).

secrets_change_without_a_break(_Config) ->
    doc("new secret first, then the old one as well, then no more"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        Old = fresh(Server, #{user => <<"carol">>, password => <<"s3cret">>}),
        success(allocate(Old)),
        ok = reload(Server, #{secrets => [<<"n3w">>, <<"s3cret">>]}),
        success(call(Old, refresh, [])),
        #{username := User, password := Password} = meerkat:credentials(Name, <<"dave">>),
        ?assertEqual(meerkat_auth_rest:password(<<"n3w">>, User), Password),
        success(allocate(fresh(Server, #{user => User, password => Password}))),
        ok = reload(Server, #{secrets => [<<"n3w">>]}),
        expect(401, call(Old, refresh, []))
    end).

%% ---------------------------------------------------------------------------------- limits

limits_hold_at_once(_Config) ->
    doc("quotas, lifetimes and SOFTWARE of the new configuration, live allocations included"),
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        ok = reload(Server, #{user_quota => 1, default_lifetime => 900, max_lifetime => 1000,
                              software => <<"new">>}),
        Answer = success(call(Client, refresh, [{lifetime, 5000}])),
        ?assertEqual({1000, <<"new">>}, {get(lifetime, Answer), get(software, Answer)}),
        Late = fresh(Server),
        expect(486, allocate(Late)),
        ok = reload(Server, #{user_quota => 2}),
        ?assertEqual(900, get(lifetime, success(allocate(Late)))),
        expect(486, allocate(fresh(Server)))
    end).

quota_below_what_there_is(_Config) ->
    doc("allocations beyond a lowered quota live; there are no more until enough have ended"),
    with_server(#{}, fun(Server) ->
        [One, Two, Three] = [allocated(Server) || _ <- [1, 2, 3]],
        ok = reload(Server, #{user_quota => 1}),
        [success(call(Client, refresh, [])) || Client <- [One, Two, Three]],
        turn_kit:delete(One),
        turn_kit:delete(Two),
        expect(486, allocate(One)),
        turn_kit:delete(Three),
        success(allocate(One))
    end).

x83_bandwidth_of_live_allocations(_Config) ->
    doc("user_bps and bps_capacity change for allocations that live; max_bps for new ones"),
    with_server(#{}, fun(Server) ->
        Peer = peer(?FRIEND),
        Flood = fun(Client) ->
            Before = counter(Server, over_bandwidth),
            [send_to(Client, Peer, <<0:8000>>) || _ <- lists:seq(1, 200)],
            success(call(Client, create_permission,
                         [{xor_peer_address, maps:get(address, Peer)}])),
            counter(Server, over_bandwidth) > Before
        end,
        Of = fun(User) ->
            Client = allocated(Server, [], #{user => User}),
            success(permit(Client, [Peer])),
            Client
        end,
        Alice = Of(<<"alice">>),
        ?assertNot(Flood(Alice)),
        Told = fun(Overrides) ->
            %% Its outcome is known once the relay has answered what was asked behind it.
            ok = reload(Server, Overrides),
            #{relay := {ok, _}} = meerkat:info(maps:get(name, Server))
        end,
        Told(#{user_bps => 1}),
        ?assert(Flood(Alice)),
        Told(#{}),
        Told(#{user_bps => 0}),
        ?assertNot(Flood(Alice)),
        Told(#{bps_capacity => 1}),
        ?assert(Flood(Of(<<"bob">>))),
        Told(#{bps_capacity => 0, max_bps => 1}),
        ?assertNot(Flood(Alice)),
        ?assert(Flood(Of(<<"bob">>)))
    end).

socket_buffers(_Config) ->
    doc("listeners have other buffers at once, and so have allocations made afterwards"),
    with_server(#{receive_buffer => 10000, send_buffer => 11000}, fun(#{port := Port} = Server) ->
        #{relayed := {_, Early}} = allocated(Server),
        ?assertMatch([{10000, 11000} | _], lists:usort(buffers(Port))),
        ok = reload(Server, #{receive_buffer => 20000, send_buffer => 21000}),
        eventually(fun() -> lists:usort(buffers(Port)) =:= [{20000, 21000}] end),
        #{relayed := {_, Late}} = allocated(Server),
        ?assertEqual([{10000, 11000}], buffers(Early)),
        ?assertEqual([{20000, 21000}], buffers(Late))
    end).

%% Of the sockets at a local port, receive and send: the kernel tells twice what was asked for.
buffers(Port) ->
    Told = os:cmd("ss -Huanm 'sport = :" ++ integer_to_list(Port) ++ "'"),
    {match, Found} = re:run(Told, "skmem:\\(r\\d+,rb(\\d+),t\\d+,tb(\\d+)",
                            [global, {capture, all_but_first, list}]),
    [{list_to_integer(Receive) div 2, list_to_integer(Send) div 2} || [Receive, Send] <- Found].

%% ---------------------------------------------------------------------------- all or nothing

what_needs_a_restart_is_refused(_Config) ->
    doc("a key that cannot change is named, and of the rest nothing is taken over either"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        Before = meerkat_registry:settings(Name),
        [begin
             {error, Sentence} = reload(Server, #{Key => Value, software => <<"new">>, users => #{},
                                                  denied_peers => [{?FRIEND, 32}]}),
             ?assertMatch({match, _}, re:run(Sentence, "^" ++ Word ++ ".* cannot change while")),
             ?assertEqual(Before, meerkat_registry:settings(Name))
         end || {Key, Value, Word} <-
                    [{workers, 3, "workers"}, {max_allocations, 9, "max_allocations"},
                     {io_backend, other_backend(Server), "io_backend"}]],
        Answer = success(call(Client, refresh, [])),
        ?assertEqual(undefined, get(software, Answer)),
        success(permit(Client, [peer(?FRIEND)]))
    end).

other_backend(#{name := Name}) ->
    #{config := Config} = meerkat_registry:settings(Name),
    case Config() of #{io_backend := epoll} -> io_uring; _ -> epoll end.

%% ------------------------------------------------------------------- listeners and addresses

-define(HERE, {127, 0, 0, 1}).

listener(Ip, Port) -> #{transport => udp, ip => Ip, port => Port}.

relay(Ip, Min, Max) -> #{local => Ip, advertised => Ip, min_port => Min, max_port => Max}.

listeners_come_and_go(_Config) ->
    doc("a listener that is added serves at once; one that is removed keeps those it has, and "
        "answers no others"),
    with_server(#{listeners => [listener(?HERE, 0)]}, fun(#{name := Name} = Server) ->
        #{listeners := [First]} = Server,
        Client = allocated(Server),
        ok = reload(Server, #{listeners => [listener(?HERE, 0), listener({127, 0, 0, 4}, 0)]}),
        #{listeners := [First, Second]} = meerkat:info(Name),
        Late = allocated(Server, [], #{to => Second}),
        ok = reload(Server, #{listeners => [listener({127, 0, 0, 4}, 0)]}),
        #{listeners := [Second]} = meerkat:info(Name),
        Peer = peer(?FRIEND),
        [begin
             success(call(Who, refresh, [])),
             success(permit(Who, [Peer])),
             peer_same(Who, Peer)
         end || Who <- [Client, Late]],
        %% What the one listener says would come before what the other says.
        Stranger = open(Server, #{to => First}),
        send(Stranger, turn_kit:request(binding, [])),
        turn_kit:fence(Stranger#{to := Second}),
        success(allocate(challenged(Stranger#{to := Second})))
    end).

a_listener_goes_with_its_last_client(_Config) ->
    doc("clients of some workers keep a removed listener whole; after the last its port is free"),
    with_server(#{listeners => [listener(?HERE, 0)], workers => 4}, fun(#{port := Port} = Server) ->
        Clients = [allocated(Server) || _ <- [1, 2, 3]],
        ok = reload(Server, #{listeners => [listener({127, 0, 0, 4}, 0)]}),
        Peer = peer(?FRIEND),
        [begin
             success(permit(Client, [Peer])),
             peer_same(Client, Peer)
         end || Client <- Clients, _ <- [1, 2]],
        Both = #{listeners => [listener({127, 0, 0, 4}, 0), listener(?HERE, Port)]},
        Others = fun() ->
            case gen_udp:open(Port, [{ip, ?HERE}]) of
                {ok, Socket} -> gen_udp:close(Socket);
                {error, eaddrinuse} -> taken
            end
        end,
        ?assertEqual(taken, Others()),
        [turn_kit:delete(Client) || Client <- Clients],
        eventually(fun() -> Others() =:= ok end),
        ok = reload(Server, Both),
        success(allocate(fresh(Server, #{to => {?HERE, Port}})))
    end).

a_removed_listener_comes_back_while_its_clients_live(_Config) ->
    doc("the same address again: it takes new clients, and those it has kept go on; it may go "
        "again"),
    Port = turn_kit:free_ports(1),
    Both = #{listeners => [listener({127, 0, 0, 4}, 0), listener(?HERE, Port)]},
    with_server(Both#{workers => 2}, fun(Server) ->
        Clients = [allocated(Server, [], #{to => {?HERE, Port}}) || _ <- [1, 2, 3]],
        [begin
             ok = reload(Server, #{listeners => [listener({127, 0, 0, 4}, 0)]}),
             ok = reload(Server, Both),
             _ = [success(allocate(fresh(Server, #{to => {?HERE, Port}}))) || _ <- [1, 2, 3]],
             [success(call(Client, refresh, [])) || Client <- Clients]
         end || _ <- [1, 2, 3]],
        ok = reload(Server, #{listeners => [listener({127, 0, 0, 4}, 0)]}),
        ok = takes_nobody(Server, {?HERE, Port}),
        [success(call(Client, refresh, [])) || Client <- Clients]
    end).

a_listener_is_known_by_the_port_it_was_given(_Config) ->
    doc("a listener whose port the system chose is the same one when the configuration names that "
        "port: while it is there, and after it was removed and has clients still"),
    Other = listener({127, 0, 0, 4}, 0),
    with_server(#{listeners => [listener(?HERE, 0), Other], workers => 2},
                fun(#{listeners := [{_, Port} = Here, _]} = Server) ->
        Client = allocated(Server, [], #{to => Here}),
        Named = #{listeners => [listener(?HERE, Port), Other]},
        [begin
             ok = reload(Server, Listeners),
             success(call(Client, refresh, []))
         end || Listeners <- [Named, #{listeners => [Other]}, Named,
                              #{listeners => [listener(?HERE, 0), Other]}, Named]],
        success(allocate(fresh(Server, #{to => Here})))
    end).

a_removed_listener_keeps_clients_that_moved(_Config) ->
    doc("RFC 8016: requests of clients that have moved are taken on it too, whichever worker they "
        "come to"),
    Both = #{listeners => [listener(?HERE, 0), listener({127, 0, 0, 4}, 0)]},
    with_server(Both#{workers => 4, mobility => true}, fun(Server) ->
        Moved = [begin
            Client = allocated(Server, [{mobility_ticket, <<>>}], #{}),
            New = challenged(maps:merge(Client, maps:with([socket, here], open(Server, #{})))),
            Ticket = turn_kit:get(mobility_ticket, maps:get(answer, Client)),
            success(call(New, refresh, [{mobility_ticket, Ticket}])),
            New
        end || _ <- lists:seq(1, 12)],
        ok = reload(Server, #{listeners => [listener({127, 0, 0, 4}, 0)], mobility => true}),
        [success(call(New, create_permission, [{xor_peer_address, {?FRIEND, 5000}}]))
         || New <- Moved]
    end).

allocations_of_a_removed_listener_are_replayed(_Config) ->
    doc("the relay dies: who came by a listener that is no more has what he had, without delay, "
        "and the listener takes nobody else"),
    Both = #{listeners => [listener(?HERE, 0), listener({127, 0, 0, 4}, 0)]},
    with_server(Both, fun(#{name := Name, port := Port} = Server) ->
        Peer = peer(?FRIEND),
        Client = allocated(Server),
        success(permit(Client, [Peer])),
        ok = reload(Server, #{listeners => [listener({127, 0, 0, 4}, 0)]}),
        {ok, OsPid} = meerkat_relay:os_pid(Name),
        [] = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
        eventually(fun() -> maps:get(relay_restarts, meerkat:info(Name)) =:= 1 end),
        #{relay_replayed := 1, relay_lost := 0} = meerkat:info(Name),
        peer_same(Client, Peer),
        success(call(Client, refresh, [])),
        ok = takes_nobody(Server, {?HERE, Port})
    end).

%% A stranger there is not answered: what the other listener says to the same socket comes first.
takes_nobody(Server, There) ->
    #{listeners := [Other]} = meerkat:info(maps:get(name, Server)),
    Stranger = open(Server, #{to => There}),
    send(Stranger, turn_kit:request(binding, [])),
    turn_kit:fence(Stranger#{to := Other}),
    ok.

realm_of_a_listener(_Config) ->
    doc("another realm is in the next challenge; allocations go on"),
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        ok = reload(Server, #{realm => <<"other.example">>}),
        ?assertMatch(#{realm := <<"other.example">>}, fresh(Server)),
        success(call(Client, refresh, [])),
        success(allocate(fresh(Server)))
    end).

a_listener_that_cannot_be(_Config) ->
    doc("an address that is taken: the reason names it, and everything is as it was"),
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 5}}]),
    {ok, Taken} = inet:port(Socket),
    with_server(#{relays => [relay({127, 0, 0, 6}, 50000, 50009)]}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        Before = {meerkat_registry:settings(Name), meerkat:info(Name)},
        #{listeners := Listeners} = running(Server, #{}),
        {error, Sentence} =
            reload(Server, #{listeners => Listeners ++ [listener({127, 0, 0, 7}, 0),
                                                        listener({127, 0, 0, 5}, Taken)],
                             relays => [relay({127, 0, 0, 8}, 50000, 50009)],
                             denied_peers => [{?FRIEND, 32}], nonce_lifetime => 60,
                             realm => <<"other.example">>}),
        ?assertMatch({match, _}, re:run(Sentence, "^cannot listen on udp 127\\.0\\.0\\.5:"
                                                  ++ integer_to_list(Taken))),
        {Settings, #{listeners := Bound}} = Before,
        ?assertEqual(Settings, meerkat_registry:settings(Name)),
        ?assertMatch(#{listeners := Bound}, meerkat:info(Name)),
        success(permit(Client, [peer(?FRIEND)])),
        success(call(Client, refresh, [])),
        #{realm := <<"example.org">>} = fresh(Server),
        ?assertMatch(#{relayed := {{127, 0, 0, 6}, _}}, allocated(Server))
    end),
    gen_udp:close(Socket).

relay_addresses_come_and_go(_Config) ->
    doc("new allocations are on the addresses of the new configuration, live ones stay on theirs"),
    Old = relay({127, 0, 0, 6}, 50000, 50009),
    New = relay({127, 0, 0, 8}, 51000, 51009),
    with_server(#{relays => [Old]}, fun(#{name := Name} = Server) ->
        Peer = peer(?FRIEND),
        Client = allocated(Server),
        success(bind(Client, 16#4000, Peer)),
        ok = reload(Server, #{relays => [New]}),
        ?assertMatch(#{relays := [#{local := {127, 0, 0, 8}}], relay := {ok, #{ports_free := 10}}},
                     meerkat:info(Name)),
        ?assertMatch(#{relayed := {{127, 0, 0, 8}, _}}, allocated(Server)),
        peer_same(Client, Peer),
        success(call(Client, refresh, [])),
        %% The old one again, whose ports are in use as before.
        ok = reload(Server, #{relays => [Old]}),
        ?assertMatch(#{relay := {ok, #{ports_free := 9}}}, meerkat:info(Name)),
        ?assertMatch(#{relayed := {{127, 0, 0, 6}, _}}, allocated(Server))
    end).

the_next_relay_knows_what_was(_Config) ->
    doc("allocations on an address that is no longer handed out outlive the relay program too"),
    Old = relay({127, 0, 0, 6}, 50000, 50009),
    with_server(#{relays => [Old]}, fun(#{name := Name} = Server) ->
        Peer = peer(?FRIEND),
        Client = allocated(Server),
        success(bind(Client, 16#4000, Peer)),
        ok = reload(Server, #{relays => [relay({127, 0, 0, 8}, 51000, 51009)]}),
        Port = meerkat_roles:find(Name, port),
        {os_pid, Program} = erlang:port_info(Port, os_pid),
        [] = os:cmd("kill -9 " ++ integer_to_list(Program)),
        eventually(fun() ->
            Now = meerkat_roles:find(Name, port),
            Now =/= Port andalso meerkat_roles:find(Name, replaying) =:= none
        end),
        %% Its answer comes behind the commands of the replay.
        success(call(Client, refresh, [])),
        peer_same(Client, Peer),
        ?assertMatch(#{relayed := {{127, 0, 0, 8}, _}}, allocated(Server))
    end).

a_relay_address_that_cannot_be(_Config) ->
    doc("an address nobody has here"),
    with_server(#{}, fun(Server) ->
        {error, Sentence} = reload(Server, #{relays => [relay({192, 0, 2, 77}, 50000, 50009)]}),
        ?assertMatch("cannot relay from 192.0.2.77: " ++ _, Sentence),
        ?assertMatch(#{relayed := {?HERE, _}}, allocated(Server))
    end).

what_the_relay_goes_by(_Config) ->
    doc("channel numbers, nonces, password algorithms, RFC 3489, strangers' rate and mobility"),
    with_server(#{}, fun(#{ip := Ip, port := Port} = Server) ->
        Peer = peer(?FRIEND),
        Client = allocated(Server),
        expect(400, bind(Client, 16#5000, Peer)),
        Classic = <<1:16, 0:16, 7:128>>,
        {ok, Socket} = gen_udp:open(0, [binary, {ip, ?HERE}, {active, false}]),
        ok = reload(Server, #{rfc5766_channel_numbers => true, rfc3489_compatibility => true,
                              mobility => true}),
        eventually(fun() -> turn_kit:code(bind(Client, 16#5000, Peer)) =:= success end),
        eventually(fun() ->
            ok = gen_udp:send(Socket, Ip, Port, Classic),
            case gen_udp:recv(Socket, 0, 200) of
                {ok, {Ip, Port, <<16#0101:16, _/binary>>}} -> true;
                {error, timeout} -> false
            end
        end),
        success(allocate(fresh(Server), [{mobility_ticket, <<>>}])),
        ok = reload(Server, #{rfc5766_channel_numbers => true, mobility => false,
                              password_algorithms => false}),
        expect(405, allocate(fresh(Server), [{mobility_ticket, <<>>}])),
        eventually(fun() -> maps:get(offered, fresh(Server), []) =:= [] end),
        expect(438, call(Client, refresh, [])),
        success(call(challenged(Client), refresh, [])),
        ok = reload(Server, #{unauthenticated_rate => 1, unauthenticated_burst => 1}),
        counted(Server, over_rate, fun() ->
            [send(Client, turn_kit:request(binding, [])) || _ <- [1, 2]]
        end)
    end).

what_cannot_be_is_refused(_Config) ->
    doc("a value a key cannot have is named likewise"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        Before = meerkat_registry:settings(Name),
        [begin
             {error, Sentence} = reload(Server, #{Key => Value, software => <<"new">>}),
             ?assertNotEqual(nomatch, string:find(Sentence, atom_to_list(Key))),
             ?assertEqual(Before, meerkat_registry:settings(Name))
         end || {Key, Value} <- [{user_quota, -1}, {users, []}, {alternate_server, [{1, 2}]},
                                 {max_bps, 1.5}, {denied_peers, [{?FOE, 33}]}, {relam, <<"r">>},
                                 {allowed_peers, lists:duplicate(1025, {?FOE, 32})}]],
        ?assertError(badarg, meerkat:reload(nobody, #{}))
    end).

keys_left_out_take_their_defaults(_Config) ->
    doc("a configuration is a whole one; only a secret that was drawn stays"),
    Given = maps:without([users, secrets, realm], running_without(#{software => <<"old">>})),
    Name = ?FUNCTION_NAME,
    {ok, _} = application:ensure_all_started(meerkat),
    {ok, _} = meerkat:start_server(Name, Given),
    try
        #{secrets := Drawn} = meerkat_registry:settings(Name),
        ok = meerkat:reload(Name, maps:remove(software, Given)),
        #{software := undefined, secrets := Kept} = meerkat_registry:settings(Name),
        ?assertEqual(Drawn(), Kept()),
        ok = meerkat:reload(Name, Given#{secrets => [<<"chosen">>]}),
        #{secrets := Chosen} = meerkat_registry:settings(Name),
        ?assertEqual([<<"chosen">>], Chosen()),
        ok = meerkat:reload(Name, Given),
        #{secrets := Anew} = meerkat_registry:settings(Name),
        ?assertNotEqual(Chosen(), Anew()),
        ?assertNotEqual(Drawn(), Anew())
    after
        ok = meerkat:stop_server(Name)
    end.

%% A configuration to start with, as turn_kit makes it.
running_without(Overrides) ->
    with_server(Overrides, fun(#{name := Name}) ->
        #{config := Config} = meerkat_registry:settings(Name),
        maps:without([settings], Config())
    end).

%% Every row of the table, changed by itself, as a file or the environment would.
the_table_is_right(Config) ->
    doc("keys called reloadable can be reloaded, the others cannot"),
    %% Where accounting records wait.
    true = os:putenv("STATE_DIRECTORY", proplists:get_value(priv_dir, Config)),
    Load = fun(Env) ->
        {ok, Loaded, _} = meerkat_config:load(#{file => none, env => base() ++ Env}),
        Loaded
    end,
    {ok, _} = application:ensure_all_started(meerkat),
    [begin
         Name = ?FUNCTION_NAME,
         {ok, _} = meerkat:start_server(Name, Load([])),
         Outcome = try meerkat:reload(Name, Load([{Variable, changed(Key)}]))
                   after ok = meerkat:stop_server(Name)
                   end,
         ?assertEqual({Key, Reloadable}, {Key, Outcome =:= ok})
     end || #{key := Key, env := [Variable | _], reloadable := Reloadable}
                <- meerkat_config_schema:rows(),
            %% They are nothing without others; tls_SUITE has the reload of certificates, and
            %% client_certificate_SUITE that of who vouches for clients.
            not lists:member(Key, [udp_enabled, users, tls_cert, tls_key, tls_client_ca,
                                   dtls_enabled, rfc5780, alternate_listen_ip,
                                   alternate_listen_port, xmpp_host])].

base() ->
    [{"LISTEN_IP", "127.0.0.1"}, {"LISTEN_PORT", "0"}, {"RELAY_IP", "127.0.0.1"}].

changed(listen_ip) -> "127.0.0.2";
changed(listen_port) -> integer_to_list(turn_kit:free_ports(1));
changed(http_listen) -> integer_to_list(turn_kit:free_ports(1));
changed(relay_ip) -> "127.0.0.2";
changed(log_level) -> "error";
changed(secret_as_password) -> "true";
changed(accounting_file) -> "/dev/null";
changed(jwt_keys) -> filename:join(docs_kit:root(), "test/data/jwks.json");
changed(alternate_server) -> "192.0.2.7:3478";
changed(fleet) -> "127.0.0.9";
changed(Key) ->
    {ok, #{type := Type, default := Default}} =
        meerkat_config_schema:find(atom_to_binary(Key)),
    other(Type, Default).

other(boolean, Default) -> atom_to_list(not Default);
other({integer, Min, _}, Min) -> integer_to_list(Min + 1);
other({integer, _, _}, Default) -> integer_to_list(Default - 1);
other({choice, Words}, Default) ->
    hd([binary_to_list(Word) || {Word, Value} <- Words, Value =/= Default]);
other({database, sqlite}, _) -> filename:join(os:getenv("STATE_DIRECTORY"), "turndb");
%% Where nobody is: it is asked again and again.
other({database, redis}, _) -> "redis://127.0.0.1:9";
other({database, sql}, Default) -> other({database, postgresql}, Default);
other({database, ldap}, _) -> "host=127.0.0.1 port=9 base=dc=org password_attribute=p";
other({database, http}, _) -> "http://127.0.0.1:9/turn";
other({database, Kind}, _) -> lists:concat([Kind, "://turn:sesame@127.0.0.1:9/turn"]);
other({list, network}, _) -> "10.0.0.0/8";
other({list, peer}, _) -> "10.0.0.5:80";
other({list, secret}, _) -> "sesame";
other(secret, _) -> "sesame";
other(domain, _) -> "turn.example.com";
other({list, domain}, _) -> "example.com";
other({list, {text, _}}, _) -> "other";
other({list, jid}, _) -> "admin@example.com";
other({list, relay_address}, _) -> "127.0.0.3";
other(own_address, _) -> "127.0.0.3";
other({list, own_address}, _) -> "127.0.0.3";
other({list, web_server}, _) -> "127.0.0.1:8443";
other(url, _) -> "http://127.0.0.1:80/records";
other({list, server_name}, _) -> "turn.example.com";
other({Text, _}, _) when Text =:= text; Text =:= opaque_string -> "other".

%% ------------------------------------------------------------------------------- robustness

the_next_relay_has_the_new_rules(_Config) ->
    doc("a relay program that is started anew after a reload goes by what was reloaded"),
    with_server(#{allowed_peers => []}, fun(#{name := Name} = Server) ->
        ok = reload(Server, #{denied_peers => [{?FOE, 32}], bps_capacity => 1}),
        Port = meerkat_roles:find(Name, port),
        {os_pid, Program} = erlang:port_info(Port, os_pid),
        [] = os:cmd("kill -9 " ++ integer_to_list(Program)),
        eventually(fun() -> meerkat_roles:find(Name, port) =/= Port end),
        eventually(fun() -> element(1, maps:get(relay, meerkat:info(Name))) =:= ok end),
        Client = allocated(Server),
        expect(403, permit(Client, [peer(?FOE)])),
        Peer = peer(?FRIEND),
        success(permit(Client, [Peer])),
        counted(Server, over_bandwidth, fun() ->
            [send_to(Client, Peer, <<0:(40000 * 8)>>) || _ <- lists:seq(1, 4)]
        end)
    end).

many_at_once(_Config) ->
    doc("reloads wait for each other: each is done, and the last one holds for all"),
    with_server(#{allowed_peers => []}, fun(#{name := Name} = Server) ->
        Self = self(),
        Pids = [spawn_link(fun() ->
                    Denied = [{{127, 0, 1, N}, 32}],
                    Self ! {self(), reload(Server, #{denied_peers => Denied})}
                end) || N <- lists:seq(1, 20)],
        [receive {Pid, Result} -> ?assertEqual(ok, Result) end || Pid <- Pids],
        #{config := Config} = meerkat_registry:settings(Name),
        #{denied_peers := [{Denied, 32}]} = Config(),
        Client = allocated(Server),
        Permitted = fun(Ip) -> turn_kit:code(permit(Client, [{Ip, 9}])) =:= success end,
        [?assertEqual({Ip, Ip =/= Denied}, {Ip, Permitted(Ip)})
         || N <- lists:seq(1, 20), Ip <- [{127, 0, 1, N}]]
    end).

allocations_while_reloading(_Config) ->
    doc("clients notice nothing of reloads that do not concern them"),
    with_server(#{}, fun(Server) ->
        Self = self(),
        Pid = spawn_link(fun() ->
            [ok = reload(Server, #{software => integer_to_binary(N)}) || N <- lists:seq(1, 50)],
            Self ! {self(), done}
        end),
        Client = allocated(Server),
        Peer = peer(?FRIEND),
        success(permit(Client, [Peer])),
        [begin
             success(call(Client, refresh, [])),
             peer_same(Client, Peer)
         end || _ <- lists:seq(1, 50)],
        receive {Pid, done} -> ok end
    end).
