%% Several realms on one server, each with listeners, secrets, users and limits of its own: what
%% opens one does not open the other, and what one uses up the other still has.
-module(realms_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([each_says_its_name/1, secret_of_one_does_not_open_the_other/1,
         users_of_one_are_strangers_to_the_other/1, rest_credentials_of_a_realm/1,
         another_realms_name_is_no_way_in/1, what_is_not_said_is_the_servers/1,
         user_quota_by_realm/1, total_quota_by_realm/1, source_quota_by_realm/1,
         bandwidth_by_realm/1, lifetimes_by_realm/1, reservation_stays_in_its_realm/1,
         x76_ticket_stays_in_its_realm/1, realms_change_while_serving/1,
         credentials_are_for_the_servers_own/1, credentials_of_a_realm/1,
         credentials_of_no_realm/1, users_of_a_realm_come_and_go/1, metrics_by_realm/1,
         metrics_have_a_bound/1]).

-import(turn_kit, [doc/1, open/2, challenged/1, call/3, allocated/3, allocate/1, allocate/2,
                   permit/2, send_to/3, peer/1, get/2, success/1, expect/2, counter/2,
                   with_server/2]).

-define(LOCAL, {127, 0, 0, 1}).

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

suite() -> [{timetrap, {seconds, 60}}].

%% Listeners: the server's own realm, a.example, b.example.
with_realms(A, B, Test) -> with_realms(#{}, A, B, Test).

with_realms(Overrides, A, B, Test) ->
    Listener = #{transport => udp, ip => ?LOCAL, port => 0},
    Config = #{listeners => [Listener, Listener#{realm => <<"a.example">>},
                             Listener#{realm => <<"b.example">>}],
               realms => [A#{name => <<"a.example">>}, B#{name => <<"b.example">>}]},
    with_server(maps:merge(Config, Overrides), Test).

at(own, #{listeners := [Own, _, _]}) -> Own;
at(a, #{listeners := [_, A, _]}) -> A;
at(b, #{listeners := [_, _, B]}) -> B.

client(Where, Server, User, Password) ->
    challenged(open(Server, #{to => at(Where, Server), user => User, password => Password})).

there(Where, Server, User, Password) ->
    allocated(Server, [], #{to => at(Where, Server), user => User, password => Password}).

each_says_its_name(_Config) ->
    doc("the challenge of a listener has its realm"),
    with_realms(#{}, #{}, fun(Server) ->
        Realms = [maps:get(realm, client(Where, Server, <<"u">>, <<"p">>)) || Where <- [own, a, b]],
        ?assertEqual([<<"example.org">>, <<"a.example">>, <<"b.example">>], Realms)
    end).

secret_of_one_does_not_open_the_other(_Config) ->
    doc("each secret opens its own realm, whatever the user's name, and no other"),
    Secrets = [{own, <<"s3cret">>}, {a, <<"of a">>}, {a, <<"a before">>}, {b, <<"of b">>}],
    with_realms(#{secrets => [<<"of a">>, <<"a before">>]}, #{secrets => [<<"of b">>]},
                fun(Server) ->
        [begin
             Answer = allocate(client(Where, Server, <<"u">>, Secret)),
             case Where of
                 Of -> success(Answer);
                 _ -> expect(401, Answer)
             end
         end || Where <- [own, a, b], {Of, Secret} <- Secrets]
    end).

users_of_one_are_strangers_to_the_other(_Config) ->
    doc("users of one name are two users with two passwords"),
    User = fun(Password) -> #{secrets => [], users => #{<<"alice">> => {password, Password}}} end,
    with_realms(User(<<"at a">>), User(<<"at b">>), fun(Server) ->
        [begin
             Answer = allocate(client(Where, Server, <<"alice">>, Password)),
             case Where of
                 Of -> success(Answer);
                 _ -> expect(401, Answer)
             end
         end || Where <- [own, a, b],
                {Of, Password} <- [{own, <<"wonderland">>}, {a, <<"at a">>}, {b, <<"at b">>}]]
    end).

rest_credentials_of_a_realm(_Config) ->
    doc("time-limited credentials are made with the realm's secret"),
    with_realms(#{secrets => [<<"of a">>]}, #{secrets => [<<"of b">>]}, fun(Server) ->
        {User, Password} =
            meerkat_auth_rest:credentials(<<"of a">>, <<"u">>, 60, erlang:system_time(second)),
        success(allocate(client(a, Server, User, Password))),
        expect(401, allocate(client(b, Server, User, Password))),
        expect(401, allocate(client(own, Server, User, Password)))
    end).

another_realms_name_is_no_way_in(_Config) ->
    doc("a request at one listener in the name of another realm, or of none, earns 401"),
    with_realms(#{secrets => [<<"of a">>]}, #{secrets => [<<"of b">>]}, fun(Server) ->
        Client = client(a, Server, <<"u">>, <<"of a">>),
        [begin
             Key = stun_model:key("u", Realm, Password),
             expect(401, allocate(Client#{realm := list_to_binary(Realm), key := Key}))
         end || Realm <- ["b.example", "example.org", "nowhere"],
                Password <- ["of a", "of b", "s3cret"]],
        success(allocate(Client))
    end).

what_is_not_said_is_the_servers(_Config) ->
    doc("a realm without secret or users of its own has the server's"),
    with_realms(#{}, #{users => #{<<"carol">> => {password, <<"c">>}}}, fun(Server) ->
        success(allocate(client(a, Server, <<"anybody">>, <<"s3cret">>))),
        success(allocate(client(a, Server, <<"alice">>, <<"wonderland">>))),
        success(allocate(client(b, Server, <<"carol">>, <<"c">>))),
        expect(401, allocate(client(b, Server, <<"alice">>, <<"wonderland">>))),
        success(allocate(client(b, Server, <<"anybody">>, <<"s3cret">>)))
    end).

users_of_a_realm_come_and_go(_Config) ->
    doc("a user added to a realm comes in there and nowhere else, and is listed under it"),
    with_realms(#{}, #{users => #{<<"carol">> => {password, <<"c">>}}}, fun(Server) ->
        #{name := Name} = Server,
        {ok, memory} = meerkat:add_user(Name, <<"dave">>, <<"d">>, <<"a.example">>),
        {ok, memory} = meerkat:add_user(Name, <<"dave">>, <<"of b">>, <<"b.example">>),
        {error, "there is no realm \"c.example\"; there is " ++ _} =
            meerkat:add_user(Name, <<"dave">>, <<"d">>, <<"c.example">>),
        {error, "this user is in the configuration" ++ _} =
            meerkat:add_user(Name, <<"carol">>, <<"d">>, <<"b.example">>),
        success(allocate(client(a, Server, <<"dave">>, <<"d">>))),
        success(allocate(client(b, Server, <<"dave">>, <<"of b">>))),
        expect(401, allocate(client(own, Server, <<"dave">>, <<"d">>))),
        ?assertEqual([{<<"carol">>, configuration, 0}, {<<"dave">>, added, 1}],
                     users(Name, <<"b.example">>)),
        ?assertEqual([{<<"dave">>, added, 1}], users(Name, <<"a.example">>)),
        ?assertMatch([_, _], users(Name, <<"example.org">>)),
        ?assertEqual(5, length(meerkat:users(Name))),
        {error, _} = meerkat:remove_user(Name, <<"dave">>),
        {ok, memory} = meerkat:remove_user(Name, <<"dave">>, <<"a.example">>),
        expect(401, allocate(client(a, Server, <<"dave">>, <<"d">>))),
        success(allocate(client(b, Server, <<"dave">>, <<"of b">>)))
    end).

users(Name, Realm) ->
    {ok, Users} = meerkat_users:list(Name, Realm),
    [{User, From, N} || #{name := User, realm := Of, from := From, allocations := N} <- Users,
                        Of =:= Realm].

metrics_by_realm(_Config) ->
    doc("allocations there are, that there may be, that began and that were refused, by realm; and "
        "who could not come in"),
    with_realms(#{total_quota => 7}, #{user_quota => 1, total_quota => 3}, #{}, fun(Server) ->
        there(a, Server, <<"u">>, <<"s3cret">>),
        expect(486, allocate(client(a, Server, <<"u">>, <<"s3cret">>))),
        there(own, Server, <<"u">>, <<"s3cret">>),
        expect(401, allocate(client(b, Server, <<"u">>, <<"wrong">>))),
        expect(401, allocate(client(b, Server, <<"u">>, <<"wrong again">>))),
        Text = iolist_to_binary(meerkat_metrics:text(
                                    meerkat_metrics:snapshot(maps:get(name, Server)))),
        [?assertNotEqual({Line, nomatch}, {Line, binary:match(Text, <<"\n", Line/binary, "\n">>)})
         || Line <- [<<"meerkat_realm_allocations{realm=\"example.org\"} 1">>,
                     <<"meerkat_realm_allocations{realm=\"a.example\"} 1">>,
                     <<"meerkat_realm_allocations{realm=\"b.example\"} 0">>,
                     <<"meerkat_realm_allocations_max{realm=\"example.org\"} 7">>,
                     <<"meerkat_realm_allocations_max{realm=\"a.example\"} 3">>,
                     <<"meerkat_realm_allocations_total{realm=\"a.example\"} 1">>,
                     <<"meerkat_realm_allocations_refused_total{realm=\"a.example\"} 1">>,
                     <<"meerkat_realm_unauthenticated_total{realm=\"example.org\"} 0">>,
                     <<"meerkat_realm_unauthenticated_total{realm=\"a.example\"} 0">>,
                     <<"meerkat_realm_unauthenticated_total{realm=\"b.example\"} 2">>]]
    end).

metrics_have_a_bound(_Config) ->
    doc("a hundred realms have samples of their own; those beyond are one sample together"),
    Realms = [#{name => list_to_binary(io_lib:format("r~4..0b", [N]))} || N <- lists:seq(1, 150)],
    turn_kit:with_server(#{realms => Realms}, fun(#{name := Name}) ->
        #{realms := Told} = meerkat_metrics:snapshot(Name),
        ?assertEqual(101, length(Told)),
        ?assertMatch(#{realm := <<>>, allocations := 0}, lists:last(Told))
    end).

user_quota_by_realm(_Config) ->
    doc("a user's allocations count in the realm they are of, against its limit"),
    with_realms(#{user_quota => 1}, #{user_quota => 2}, #{}, fun(Server) ->
        [begin
             [there(Where, Server, <<"u">>, <<"s3cret">>) || _ <- lists:seq(1, Limit)],
             expect(486, allocate(client(Where, Server, <<"u">>, <<"s3cret">>)))
         end || {Where, Limit} <- [{own, 1}, {a, 2}, {b, 1}]]
    end).

total_quota_by_realm(_Config) ->
    doc("508 when a realm has all it may have, or the server all of them"),
    with_realms(#{total_quota => 3}, #{total_quota => 1}, #{}, fun(Server) ->
        Of = fun(Where, User) -> client(Where, Server, User, <<"s3cret">>) end,
        success(allocate(Of(a, <<"1">>))),
        expect(508, allocate(Of(a, <<"2">>))),
        success(allocate(Of(b, <<"3">>))),
        success(allocate(Of(own, <<"4">>))),
        expect(508, allocate(Of(b, <<"5">>)))
    end).

source_quota_by_realm(_Config) ->
    doc("max_allocations_per_address likewise"),
    with_realms(#{max_allocations_per_address => 1}, #{max_allocations_per_address => 2}, #{},
                fun(Server) ->
        [begin
             [there(Where, Server, <<"u">>, <<"s3cret">>) || _ <- lists:seq(1, Limit)],
             expect(486, allocate(client(Where, Server, <<"other">>, <<"s3cret">>)))
         end || {Where, Limit} <- [{own, 1}, {a, 2}, {b, 1}]]
    end).

bandwidth_by_realm(_Config) ->
    doc("max_bps and user_bps of a realm, also after they have changed"),
    with_realms(#{max_bps => 1}, #{user_bps => 1}, fun(#{name := Name} = Server) ->
        Peer = peer({127, 0, 0, 3}),
        Flood = fun(Client) ->
            success(permit(Client, [Peer])),
            Before = counter(Server, over_bandwidth),
            [send_to(Client, Peer, <<0:8000>>) || _ <- lists:seq(1, 200)],
            success(permit(Client, [Peer])),
            counter(Server, over_bandwidth) > Before
        end,
        [Own, A, B] = [there(Where, Server, <<"u">>, <<"s3cret">>) || Where <- [own, a, b]],
        ?assertEqual([false, true, true], [Flood(Client) || Client <- [Own, A, B]]),
        #{config := Config} = meerkat_registry:settings(Name),
        [RealmA, RealmB] = maps:get(realms, Config()),
        ok = meerkat:reload(Name, (Config())#{realms := [RealmA, RealmB#{user_bps := 0}]}),
        #{relay := {ok, _}} = meerkat:info(Name),
        ?assertEqual([false, true, false], [Flood(Client) || Client <- [Own, A, B]])
    end).

lifetimes_by_realm(_Config) ->
    doc("default_lifetime and max_lifetime of a realm, for Allocate and Refresh"),
    with_realms(#{max_lifetime => 700}, #{default_lifetime => 900}, fun(Server) ->
        [begin
             Client = client(Where, Server, <<"u">>, <<"s3cret">>),
             ?assertEqual(Default, get(lifetime, success(allocate(Client)))),
             ?assertEqual(Most, get(lifetime, success(call(Client, refresh, [{lifetime, 9999}]))))
         end || {Where, Default, Most} <- [{own, 600, 3600}, {a, 600, 700}, {b, 900, 3600}]]
    end).

reservation_stays_in_its_realm(_Config) ->
    doc("a RESERVATION-TOKEN is nobody's in another realm, however the user is called"),
    with_realms(#{}, #{}, fun(Server) ->
        Pair = client(a, Server, <<"u">>, <<"s3cret">>),
        Answer = success(allocate(Pair, [{even_port, true}])),
        Redeem = [{reservation_token, get(reservation_token, Answer)}],
        expect(508, allocate(client(b, Server, <<"u">>, <<"s3cret">>), Redeem)),
        expect(508, allocate(client(own, Server, <<"u">>, <<"s3cret">>), Redeem)),
        success(allocate(client(a, Server, <<"u">>, <<"s3cret">>), Redeem))
    end).

x76_ticket_stays_in_its_realm(_Config) ->
    doc("a MOBILITY-TICKET shown in another realm by a user of that name: 441"),
    with_realms(#{mobility => true}, #{}, #{}, fun(Server) ->
        Answer = success(allocate(client(a, Server, <<"u">>, <<"s3cret">>),
                                  [{mobility_ticket, <<>>}])),
        Ticket = [{mobility_ticket, get(mobility_ticket, Answer)}],
        expect(441, call(client(b, Server, <<"u">>, <<"s3cret">>), refresh, Ticket)),
        success(call(client(a, Server, <<"u">>, <<"s3cret">>), refresh, Ticket))
    end).

realms_change_while_serving(_Config) ->
    doc("a reload changes a realm's secret and limits; its live allocations go on"),
    with_realms(#{secrets => [<<"old">>]}, #{}, fun(#{name := Name} = Server) ->
        Client = client(a, Server, <<"u">>, <<"old">>),
        success(allocate(Client)),
        #{config := Config} = meerkat_registry:settings(Name),
        Reload = fun(Of) ->
            [_, B] = maps:get(realms, Config()),
            ok = meerkat:reload(Name, (Config())#{realms := [Of#{name => <<"a.example">>}, B]})
        end,
        Reload(#{secrets => [<<"new">>, <<"old">>], max_lifetime => 700}),
        ?assertEqual(700, get(lifetime, success(call(Client, refresh, [{lifetime, 9999}])))),
        Reload(#{secrets => [<<"new">>], user_quota => 1}),
        expect(401, call(Client, refresh, [])),
        expect(486, allocate(client(a, Server, <<"u">>, <<"new">>)))
    end).

credentials_are_for_the_servers_own(_Config) ->
    doc("the credentials a server hands out are for listeners where they are good"),
    with_realms(#{secrets => [<<"of a">>]}, #{}, fun(#{name := Name} = Server) ->
        {_, Port} = at(own, Server),
        #{uris := Uris} = meerkat:credentials(Name, <<"u">>),
        Text = iolist_to_binary(["127.0.0.1:", integer_to_list(Port)]),
        ?assertEqual([<<"stun:", Text/binary>>, <<"turn:", Text/binary, "?transport=udp">>], Uris)
    end).

credentials_of_a_realm(_Config) ->
    doc("asked for by realm: made of its secret, good at its listeners and nowhere else"),
    Secrets = #{secrets => [<<"of a">>, <<"a before">>]},
    with_realms(Secrets, #{}, fun(#{name := Name} = Server) ->
        [begin
             Made = meerkat:credentials(Name, <<"u">>, #{realm => Realm, ttl => 60}),
             #{username := User, password := Password, ttl := 60, uris := [Stun, Turn],
               iceServers := Ice} = Made,
             ?assertEqual([#{urls => [Stun]}, #{urls => [Turn], username => User,
                                                credential => Password}], Ice),
             Text = meerkat_text:address(at(Where, Server)),
             ?assertEqual(iolist_to_binary(["turn:", Text, "?transport=udp"]), Turn),
             ?assertEqual(meerkat_auth_rest:password(Secret, User), Password),
             success(allocate(client(Where, Server, User, Password)))
         end || {Where, Realm, Secret} <- [{own, <<"example.org">>, <<"s3cret">>},
                                           {a, <<"a.example">>, <<"of a">>},
                                           {b, <<"b.example">>, <<"s3cret">>}]],
        #{username := OfA, password := PasswordOfA} =
            meerkat:credentials(Name, <<"u">>, #{realm => <<"a.example">>}),
        expect(401, allocate(client(own, Server, OfA, PasswordOfA))),
        expect(401, allocate(client(b, Server, OfA, PasswordOfA)))
    end).

credentials_of_no_realm(_Config) ->
    doc("a realm there is not: those there are; one without a secret: that it has none"),
    with_realms(#{secrets => []}, #{}, fun(#{name := Name}) ->
        Ask = fun(Realm) ->
            meerkat_credentials:asked(Name, <<"u">>, #{realm => Realm})
        end,
        ?assertEqual({error, {realm, <<"there is no realm \"a.exmple\"; there is \"a.example\", "
                                       "\"b.example\", \"example.org\"">>}}, Ask(<<"a.exmple">>)),
        ?assertEqual({error, {no_secret, <<"the realm \"a.example\" has no shared secret that "
                                           "credentials are made from">>}}, Ask(<<"a.example">>)),
        ?assertError(badarg, meerkat:credentials(Name, <<"u">>, #{realm => <<"a.example">>}))
    end).
