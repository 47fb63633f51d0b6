%% Users and secrets that are in a database: the same cases for each kind of database, with the
%% servers that Debian has and tables as coturn writes them. Then what is the same without a server:
%% pools, and what an operator writes wrongly.
-module(databases_SUITE).
-behaviour(meerkat_database).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2, init_per_testcase/2]).
-export([users_of_coturn_come_in/1, secrets_of_coturn_come_in/1, hostile_names_are_names/1,
         keys_of_sha256_stand_beside/1, secrets_are_rotated/1, operators_add_and_remove/1,
         peers_of_coturn_count/1, limits_of_coturn_count/1, origins_are_not_read/1, encrypted/1,
         realms_are_apart/1, what_it_has_is_carried_over/1,
         nobody_waits_for_others/1, names_beyond_a_charset/1,
         known_users_outlive_the_database/1, allocations_keep_their_key/1, no_tables_no_401/1,
         what_an_attribute_has/1, directories_by_tls/1, directories_close_what_is_idle/1,
         what_a_hook_says/1, hooks_by_tls/1]).
-export([slow_jobs_end/1, what_waits_is_bounded/1, an_embedder_has_a_pool/1, the_cache_has_room/1,
         put_aside_comes_back/1, mistakes_are_named/1]).
-export([connect/1, ask/2, describe/1]).

-import(turn_kit, [open/2, challenged/1, signed/3, call/3, call/4, allocated/3, allocate/1,
                   success/1, expect/2, eventually/1, fence/1, send/2, with_server/2, await/2]).

-define(REALM, "example.org").

all() ->
    [{group, sqlite}, {group, postgresql}, {group, mysql}, {group, redis}, {group, ldap},
     {group, http},
     slow_jobs_end, what_waits_is_bounded, an_embedder_has_a_pool, the_cache_has_room,
     put_aside_comes_back, mistakes_are_named].

groups() ->
    Same = [users_of_coturn_come_in, secrets_of_coturn_come_in, hostile_names_are_names,
            keys_of_sha256_stand_beside, secrets_are_rotated, peers_of_coturn_count,
            limits_of_coturn_count, what_it_has_is_carried_over,
            operators_add_and_remove, realms_are_apart,
            nobody_waits_for_others,
            known_users_outlive_the_database, allocations_keep_their_key, no_tables_no_401],
    Read = Same -- [secrets_of_coturn_come_in, keys_of_sha256_stand_beside, secrets_are_rotated,
                    peers_of_coturn_count, limits_of_coturn_count, what_it_has_is_carried_over,
                    operators_add_and_remove],
    [{sqlite, [], Same ++ [origins_are_not_read]}, {postgresql, [], [encrypted | Same]},
     {mysql, [], [encrypted, names_beyond_a_charset | Same]},
     %% It has no tables.
     {redis, [], Same -- [no_tables_no_401]},
     %% These have no secrets, and are only read.
     {ldap, [], Read ++ [what_an_attribute_has, directories_by_tls,
                         directories_close_what_is_idle]},
     {http, [], Read ++ [what_a_hook_says, hooks_by_tls]}].

suite() -> [{timetrap, {seconds, 60}}].

init_per_group(Kind, Config) ->
    Database = database_kit:start(Kind),
    true = erlang:register(database, spawn(fun() -> kept(Database) end)),
    Config.

end_per_group(_Kind, _Config) ->
    ok = database_kit:stop(database()),
    exit(whereis(database), kill),
    ok.

init_per_testcase(_Case, Config) -> Config.

%% The database of a group, as it is after the case before.
kept(Database) ->
    receive
        {From, get} -> From ! {database, Database}, kept(Database);
        {put, New} -> kept(New)
    end.

database() ->
    database ! {self(), get},
    receive {database, Database} -> Database end.

with_database(More, Fun) ->
    Database = database(),
    Given = maps:merge(#{secrets => [], secret_as_password => false, users => #{}},
                       database_kit:config(Database)),
    with_server(maps:merge(Given, More), fun(Server) -> Fun(Server, Database) end).

add(Database, User, Password) ->
    database_kit:add(Database, User, ?REALM, Password).

as(User, Password) -> #{user => iolist_to_binary(User), password => iolist_to_binary(Password)}.

%% Time-limited credentials by a secret.
rest(Name, Secret) ->
    {User, Password} = meerkat_auth_rest:credentials(iolist_to_binary(Secret), Name, 600,
                                                     erlang:system_time(second)),
    as(User, Password).

refused(Server, Who) -> expect(401, allocate(challenged(open(Server, Who)))).

counts(#{name := Name}) -> maps:get(counts, meerkat_lookups:info(Name)).

unavailable(#{name := Name}) ->
    #{answers := #{unavailable := N}} = meerkat:info(Name),
    N.

%% No answer, which the count shows.
unanswered(#{server := Server} = Client, Bytes) ->
    Before = unavailable(Server),
    ok = send(Client, Bytes),
    eventually(fun() -> unavailable(Server) > Before end).

%% As a client that sends again what is not answered, until it is.
persistent(Server, Who) ->
    Client = challenged(open(Server, Who)),
    Before = unavailable(Server),
    Bytes = signed(Client, allocate, [{requested_transport, 17}]),
    ok = send(Client, Bytes),
    <<_:64, Id:12/binary, _/binary>> = Bytes,
    persistent(Client, Server, Bytes, Id, Before).

persistent(#{socket := Socket} = Client, Server, Bytes, Id, Before) ->
    receive
        {udp, Socket, _, _, <<_:64, Id:12/binary, _/binary>> = Answer} -> decoded(Answer)
    after 20 ->
        Now = unavailable(Server),
        ok = case Now > Before of true -> send(Client, Bytes); false -> ok end,
        persistent(Client, Server, Bytes, Id, Now)
    end.

decoded(Bytes) ->
    {ok, Message} = stun_model:decode(Bytes),
    Message.

%%% The same for each database

users_of_coturn_come_in(_) ->
    with_database(#{}, fun(Server, Database) ->
        ok = add(Database, "carol", "sesame"),
        _ = allocated(Server, [], as("carol", "sesame")),
        _ = refused(Server, as("carol", "another")),
        _ = refused(Server, as("dave", "sesame")),
        %% Each was asked for once.
        ?assertMatch(#{found := 1, unknown := 1, failed := 0, away := 0}, counts(Server)),
        _ = refused(Server, as("dave", "sesame")),
        ?assertMatch(#{found := 1, unknown := 1}, counts(Server)),
        ?assertEqual(0, unavailable(Server))
    end).

secrets_of_coturn_come_in(_) ->
    with_database(#{}, fun(#{name := Name} = Server, Database) ->
        [ok = database_kit:turnadmin(Database, ["-s", Secret, "-r", ?REALM])
         || Secret <- ["first-secret", "second-secret"]],
        [_ = allocated(Server, [], rest(<<"carol">>, Secret))
         || Secret <- ["first-secret", "second-secret"]],
        ?assertMatch(#{found := 1}, counts(Server)),
        _ = refused(Server, rest(<<"carol">>, "another-secret")),
        ok = database_kit:turnadmin(Database, ["-X", "first-secret", "-r", ?REALM]),
        ok = meerkat_lookups:forget(Name, {secrets, <<?REALM>>}),
        _ = refused(Server, rest(<<"carol">>, "first-secret")),
        _ = allocated(Server, [], rest(<<"carol">>, "second-secret"))
    end).

%% As `meerkatctl secrets` does it: credentials by the old secret and by the new one count, until
%% one is taken away. coturn reads what was written.
secrets_are_rotated(_) ->
    Old = <<"an old 'secret'; -- \\">>,
    Configured = #{secrets => [<<"configured-secret">>], realms => [#{name => <<"a.example">>}]},
    with_database(Configured, fun(#{name := Name} = Server, Database) ->
        Ask = fun(Verb, Args) -> meerkat_admin:handle({Verb, Args}, Name, node) end,
        {ok, #{id := OldId} = Told} = Ask(add_secret, [Old, default]),
        ?assertNot(is_map_key(secret, Told)),
        {ok, #{id := OldId}} = Ask(add_secret, [Old, <<?REALM>>]),
        _ = allocated(Server, [], rest(<<"carol">>, Old)),
        {ok, #{id := NewId, secret := New}} = Ask(add_secret, [drawn, default]),
        [_ = allocated(Server, [], rest(<<"carol">>, Secret))
         || Secret <- [Old, New, "configured-secret"]],
        {ok, #{id := _}} = Ask(add_secret, [<<"elsewhere">>, <<"a.example">>]),
        _ = refused(Server, rest(<<"carol">>, "elsewhere")),
        {ok, Listed} = Ask(secrets, [<<?REALM>>]),
        ?assertMatch([{configuration, _}, {database, _}, {database, _} | _],
                     [{From, Id} || #{from := From, id := Id} <- Listed]),
        ?assertEqual([], [OldId, NewId] -- [Id || #{id := Id, from := database} <- Listed]),
        Shown = unicode:characters_to_binary(meerkat_show:secrets(Listed)),
        ?assertEqual(nomatch, binary:match(Shown, [New, Old, <<"configured-secret">>])),
        {ok, Elsewhere} = Ask(secrets, [<<"a.example">>]),
        ?assertMatch([#{realm := <<"a.example">>, characters := 9}],
                     [Secret || #{from := database} = Secret <- Elsewhere]),
        Coturn = database_kit:secrets(Database, ?REALM),
        ?assertNotEqual(nomatch, string:find(Coturn, binary_to_list(New))),
        {ok, #{id := OldId}} = Ask(remove_secret, [OldId, default]),
        _ = refused(Server, rest(<<"carol">>, Old)),
        _ = allocated(Server, [], rest(<<"carol">>, New)),
        {error, <<"the database has no secret", _/binary>>} =
            Ask(remove_secret, [OldId, default]),
        {error, <<"there is no realm ", _/binary>>} = Ask(remove_secret, [NewId, <<"b.example">>]),
        {error, <<"a secret has 1 to 256", _/binary>>} =
            Ask(add_secret, [binary:copy(<<"s">>, 257), default]),
        {ok, #{id := NewId}} = Ask(remove_secret, [NewId, default])
    end),
    with_server(#{}, fun(#{name := Name}) ->
        {error, <<"no database is configured", _/binary>>} =
            meerkat_admin:handle({add_secret, [drawn, default]}, Name, node)
    end).

%% Rows that coturn reads too, and `meerkatctl peers`: what is denied is cut, also where it was
%% permitted. While the database is away, what it said last counts.
peers_of_coturn_count(_) ->
    More = #{database_refresh => 1, allowed_peers => [], realms => [#{name => <<"a.example">>}]},
    with_database(More, fun(#{name := Name} = Server, Database) ->
        Ask = fun(Verb, Args) -> meerkat_admin:handle({Verb, Args}, Name, node) end,
        Peer = fun(Last) -> [{xor_peer_address, {{127, 0, 0, Last}, 5000}}] end,
        Client = allocated(Server, [], as("carol", "sesame")),
        _ = success(call(Client, create_permission, Peer(77))),
        ok = database_kit:peer(Database, denied, "", "127.0.0.77-127.0.0.78"),
        eventually(fun() -> is_refused(call(Client, create_permission, Peer(77))) end),
        _ = success(call(Client, create_permission, Peer(76))),
        {ok, _} = Ask(add_peer, [allowed, <<"127.0.0.78">>, default]),
        _ = success(call(Client, create_permission, Peer(78))),
        _ = expect(403, call(Client, create_permission, Peer(77))),
        %% For one realm: what is denied is denied to all, what is allowed to none.
        {ok, _} = Ask(add_peer, [denied, <<"127.0.0.80">>, <<"a.example">>]),
        {ok, _} = Ask(add_peer, [allowed, <<"127.0.0.77/32">>, <<"a.example">>]),
        [_ = expect(403, call(Client, create_permission, Peer(Last))) || Last <- [77, 80]],
        {ok, Listed} = Ask(peers, []),
        ?assertEqual([{<<"127.0.0.77-127.0.0.78">>, denied, <<>>, true},
                      {<<"127.0.0.77/32">>, allowed, <<"a.example">>, false},
                      {<<"127.0.0.78">>, allowed, <<>>, true},
                      {<<"127.0.0.80">>, denied, <<"a.example">>, true}],
                     lists:sort([{Range, Kind, Realm, InForce}
                                 || #{range := Range, kind := Kind, realm := Realm,
                                      in_force := InForce} <- Listed])),
        {error, <<"\"'; --\" is no address", _/binary>>} =
            Ask(add_peer, [denied, <<"'; --">>, default]),
        {error, <<"there is no realm ", _/binary>>} =
            Ask(add_peer, [denied, <<"127.0.0.1">>, <<"b.example">>]),
        {error, <<"the database has no ", _/binary>>} =
            Ask(remove_peer, [denied, <<"127.0.0.99">>, default]),
        Paused = database_kit:pause(Database),
        _ = expect(403, call(Client, create_permission, Peer(77))),
        ok = database_kit:resume(Paused),
        eventually(fun() -> element(1, Ask(peers, [])) =:= ok end),
        [{ok, _} = Ask(remove_peer, [Kind, Range, case Realm of <<>> -> default; _ -> Realm end])
         || #{range := Range, kind := Kind, realm := Realm} <- Listed],
        _ = success(call(Client, create_permission, Peer(77)))
    end).

%% As turnadmin writes them, and `meerkatctl realms`.
limits_of_coturn_count(_) ->
    Other = #{name => <<"a.example">>, user_quota => 7},
    More = #{database_refresh => 1, realms => [Other], user_quota => 9},
    with_database(More, fun(#{name := Name} = Server, Database) ->
        Ask = fun(Verb, Args) -> meerkat_admin:handle({Verb, Args}, Name, node) end,
        Quota = fun(Owner) ->
            #{quota := #{user := N}} =
                meerkat_settings:tenant(Owner, meerkat_registry:settings(Name)),
            N
        end,
        ok = database_kit:turnadmin(Database, ["-g", "-r", ?REALM, "--user-quota=1"]),
        eventually(fun() -> Quota(default) =:= 1 end),
        ?assertEqual(7, Quota(<<"a.example">>)),
        _ = allocated(Server, [], as("carol", "sesame")),
        _ = expect(486, allocate(challenged(open(Server, as("carol", "sesame"))))),
        {ok, _} = Ask(set_realm, [default, #{user_quota => 2, max_bps => 100000}]),
        _ = allocated(Server, [], as("carol", "sesame")),
        {ok, _} = Ask(set_realm, [<<"a.example">>,
                                  #{user_quota => 3, max_pps => 5000, new_peers_rate => 5}]),
        #{bandwidth := #{packets := 5000}, limits := #{new_peers := 5}} =
            meerkat_settings:tenant(<<"a.example">>, meerkat_registry:settings(Name)),
        ?assertEqual({2, 3}, {Quota(default), Quota(<<"a.example">>)}),
        {ok, Listed} = Ask(realms, []),
        ?assertMatch([#{realm := <<?REALM>>, user_quota := 2, max_bps := 100000},
                      #{realm := <<"a.example">>, user_quota := 3, max_bps := null,
                        max_pps := 5000, new_peers_rate := 5}], Listed),
        %% Also after a reload of what the configuration says.
        ok = meerkat:reload(Name, meerkat_settings:config(meerkat_registry:settings(Name))),
        ?assertEqual({2, 3}, {Quota(default), Quota(<<"a.example">>)}),
        {error, <<"there is no realm ", _/binary>>} =
            Ask(set_realm, [<<"b.example">>, #{user_quota => 3}]),
        [{ok, _} = Ask(remove_realm, [Realm]) || Realm <- [default, <<"a.example">>]],
        ?assertEqual({9, 7}, {Quota(default), Quota(<<"a.example">>)})
    end).

%% Into a file of SQLite and back again: what turnadmin wrote is there, in each realm, and once.
what_it_has_is_carried_over(_) ->
    #{config := Config} = Database = database(),
    #{config := Other} = Between = database_kit:start(sqlite),
    try
        Uri = fun(Connection) -> list_to_binary(uri(Connection)) end,
        [ok = database_kit:turnadmin(Database, Args)
         || Args <- [["-a", "-u", "zoe", "-r", "carried.example", "-p", "sesame"],
                     ["-s", "carried-secret", "-r", "carried.example"],
                     ["-g", "-r", "carried.example", "--user-quota=17"]]],
        ok = database_kit:peer(Database, denied, "carried.example", "192.0.2.0-192.0.2.9"),
        Counts = [users, secrets, peers, limits, refused],
        {ok, There} = meerkat_database_import:copy(Uri(Config), Uri(Other)),
        %% As `meerkatctl import` does it.
        0 = meerkat_cli:run(["import", binary_to_list(Uri(Other)),
                             "--into", binary_to_list(Uri(Config))]),
        {ok, Again} = meerkat_database_import:copy(Uri(Config), Uri(Other)),
        ?assertEqual(maps:with(Counts, There), maps:with(Counts, Again)),
        ?assertEqual([], maps:get(refused, There)),
        [?assert(maps:get(Count, There) > 0, Count) || Count <- Counts -- [refused]],
        with_server(maps:merge(#{secrets => [], secret_as_password => false,
                                 realm => <<"carried.example">>}, database_kit:config(Between)),
                    fun(#{name := Name} = Server) ->
            _ = allocated(Server, [], as("zoe", "sesame")),
            _ = allocated(Server, [], rest(<<"carol">>, "carried-secret")),
            _ = refused(Server, as("zoe", "another")),
            {ok, [#{user_quota := 17}]} = meerkat_admin:handle({realms, []}, Name, node),
            {ok, Peers} = meerkat_admin:handle({peers, []}, Name, node),
            ?assertMatch([#{kind := denied, range := <<"192.0.2.0-192.0.2.9">>}],
                         [Peer || #{realm := <<"carried.example">>} = Peer <- Peers])
        end),
        %% A password is not said again.
        {error, Mistake} = meerkat_database_import:copy(Uri(Config), <<"mongodb://u:hunter2@h/t">>),
        ?assertEqual(nomatch, string:find(Mistake, "hunter2")),
        {error, _} = meerkat_database_import:copy(<<"sqlite:///nowhere/turndb">>, Uri(Config)),
        {error, _} = meerkat_database_import:copy(Uri(Config), Uri(Config))
    after
        ok = database_kit:stop(Between)
    end.

uri(#{kind := sqlite, file := File}) -> ["sqlite://", File];
uri(#{kind := Kind, host := Host, port := Port, password := Password, database := Name} = Of) ->
    lists:concat([Kind, "://", binary_to_list(maps:get(user, Of, <<>>)), ":",
                  uri_string:quote(binary_to_list(Password)), "@", binary_to_list(Host), ":", Port,
                  "/", binary_to_list(Name)]).

is_refused(#{class := success}) -> false;
is_refused(Answer) -> expect(403, Answer) =/= false.

%% A realm is a listener's, whatever a client says of where its page is from.
origins_are_not_read(_) ->
    with_database(#{realms => [#{name => <<"a.example">>}]}, fun(Server, Database) ->
        "" = database_kit:sql(Database, "INSERT INTO turn_origin_to_realm (origin, realm) "
                              "VALUES ('https://a.example', 'a.example')"),
        Origin = {16#802F, <<"https://a.example">>},
        Client = challenged(open(Server, as("carol", "sesame"))),
        Items = [{requested_transport, 17}, Origin],
        Challenge = turn_kit:ask(Client, turn_kit:request(allocate, Items)),
        ?assertEqual(<<?REALM>>, turn_kit:get(realm, Challenge)),
        _ = success(call(Client, allocate, Items))
    end).

%% What a client sends is a value and nothing else, whatever it looks like.
hostile_names_are_names(_) ->
    All = [<<"'; DROP TABLE turnusers_lt; --">>, <<"x' OR '1'='1">>, <<"\"">>, <<"\\">>,
             <<"\\'">>, <<"$1">>,
             <<"%">>, <<"?1">>, <<"_arol">>, <<"/* ">>, <<"х"/utf8>>, <<"carol ">>,
             <<"CAROL">>, binary:copy(<<"n">>, 500), <<"turn/realm/*">>, <<"*)(uid=*">>,
             <<"4102444800">>],
    with_database(#{}, fun(#{name := Name} = Server, #{kind := Kind} = Database) ->
        ok = add(Database, "carol", "sesame"),
        %% To coturn's tables in MySQL some are the same, of whom one can be there.
        Alike = [User || User <- [<<"carol ">>, <<"CAROL">>], Kind =:= mysql],
        [{ok, {error, _}} = change(Name, add_user(User, #{}, <<"sesame">>)) || User <- Alike],
        [_ = refused(Server, as(User, "sesame")) || User <- Alike],
        Names = All -- Alike,
        [_ = refused(Server, as(User, "sesame")) || User <- Names],
        [ok = put_there(Database, Name, User, <<"sesame ", User/binary>>) || User <- Names],
        [ok = meerkat_lookups:forget(Name, {user, <<?REALM>>, User}) || User <- Names],
        [_ = allocated(Server, [], as(User, <<"sesame ", User/binary>>)) || User <- Names],
        [_ = refused(Server, as(User, "sesame")) || User <- Names],
        _ = allocated(Server, [], as("carol", "sesame")),
        %% Nobody is called so, and no database is asked.
        #{unknown := Before} = counts(Server),
        [_ = refused(Server, as(User, "sesame"))
         || User <- [<<"a", 0, "b">>, <<255, 254>>, <<"a\nb">>, binary:copy(<<"n">>, 513)]],
        ?assertMatch(#{unknown := Before, failed := 0, away := 0}, counts(Server)),
        ?assertEqual([], [<<"carol">> | Names] -- listed(Kind, Name, [<<"carol">> | Names])),
        [ok = take_away(Database, Name, User) || User <- Names],
        [ok = meerkat_lookups:forget(Name, {user, <<?REALM>>, User}) || User <- Names],
        [_ = refused(Server, as(User, <<"sesame ", User/binary>>)) || User <- Names]
    end).

%% A web server is asked about one by its name only.
listed(http, Name, All) ->
    {error, _} = meerkat_users:all(Name),
    All;
listed(_Kind, Name, _All) ->
    {ok, Users} = meerkat_users:all(Name),
    [User || #{name := User} <- Users].

%% By the server, or where it only reads by others.
put_there(#{kind := Kind} = Database, _Name, User, Password) when Kind =:= ldap; Kind =:= http ->
    add(Database, User, Password);
put_there(_Database, Name, User, Password) ->
    {ok, ok} = change(Name, add_user(User, #{}, Password)),
    ok.

take_away(#{kind := Kind} = Database, Name, User) when Kind =:= ldap; Kind =:= http ->
    {ok, {error, _}} = change(Name, {remove_user, <<?REALM>>, User}),
    database_kit:remove(Database, User, ?REALM);
take_away(_Database, Name, User) ->
    {ok, ok} = change(Name, {remove_user, <<?REALM>>, User}),
    {ok, none} = change(Name, {remove_user, <<?REALM>>, User}),
    ok.

change(Name, Change) ->
    meerkat_lookups:call(Name, fun(Connection) -> meerkat_database:change(Change, Connection) end).

add_user(User, More, Password) ->
    {add_user, <<?REALM>>, User, More#{md5 => meerkat_stun:key(md5, User, <<?REALM>>, Password)}}.

%% A name that a column could not hold is nobody's, which MySQL calls an error.
names_beyond_a_charset(_) ->
    with_database(#{}, fun(Server, Database) ->
        Table = "ALTER TABLE turnusers_lt CONVERT TO CHARACTER SET ",
        _ = database_kit:sql(Database, Table ++ "latin1"),
        ok = add(Database, "carol", "sesame"),
        _ = refused(Server, as(<<"х"/utf8>>, "sesame")),
        _ = allocated(Server, [], as("carol", "sesame")),
        _ = database_kit:sql(Database, Table ++ "utf8mb4"),
        ?assertMatch(#{failed := 0}, counts(Server))
    end).

%% With a certificate that an authority of ours vouches for, unless nobody wants to know. The server
%% says that the connections are encrypted.
encrypted(_) ->
    #{kind := Kind, config := Config} = Database = database(),
    #{certificate := Ca} = database_kit:authority(Database),
    Trusted = Config#{sslrootcert => list_to_binary(Ca)},
    With = fun(Options, Fun) -> with_database(#{database_kit:key(Database) => Options}, Fun) end,
    [With(Options, fun(Server, _) ->
         ok = add(Database, "carol", "sesame"),
         #{class := success} = persistent(Server, as("carol", "sesame")),
         ?assert(database_kit:encrypted(Database) >= 1)
     end) || Options <- [Trusted#{sslmode => verify_full}, Config#{sslmode => require}]
                 ++ [Trusted#{sslmode => verify_ca} || Kind =:= postgresql]
                 ++ [Trusted#{sslmode => verify_full, host := <<"localhost">>}
                     || Kind =:= postgresql]],
    With(Config#{sslmode => verify_full}, fun(#{name := Name}, _) ->
        eventually(fun() ->
            #{away := Away} = meerkat_lookups:info(Name),
            Away =/= none andalso re:run(Away, "vouches|unknown_ca", [{capture, none}]) =:= match
        end)
    end).

%% Of our own, and only as long as the key of coturn's beside it is the one it was written with.
keys_of_sha256_stand_beside(_) ->
    %% The table is seen by whoever connects from then on.
    with_database(#{}, fun(#{name := Name}, _Database) ->
        Sha256 = meerkat_stun:key(sha256, <<"erin">>, <<?REALM>>, <<"sesame">>),
        {ok, ok} = change(Name, add_user(<<"erin">>, #{sha256 => Sha256}, <<"sesame">>))
    end),
    with_database(#{database_sha256 => true}, fun(#{name := Name} = Server, Database) ->
        Client = challenged(open(Server, as("erin", "sesame"))),
        _ = success(call(Client, allocate, [{requested_transport, 17}], #{algorithm => sha256})),
        ok = add(Database, "erin", "another"),
        ok = meerkat_lookups:forget(Name, {user, <<?REALM>>, <<"erin">>}),
        Other = challenged(open(Server, as("erin", "sesame"))),
        _ = expect(401, call(Other, allocate, [{requested_transport, 17}],
                             #{algorithm => sha256})),
        _ = allocated(Server, [], as("erin", "another"))
    end),
    %% Where not all have one, nobody is offered it.
    with_database(#{}, fun(Server, _Database) ->
        #{offered := Offered} = challenged(open(Server, as("erin", "sesame"))),
        ?assertEqual([], Offered)
    end).

%% What `meerkatctl users` does is in the database, and counts at once.
operators_add_and_remove(_) ->
    with_database(#{database_sha256 => true, users => #{<<"configured">> => {password, <<"x">>}}},
                  fun(#{name := Name} = Server, _Database) ->
        _ = refused(Server, as("mallory", "sesame")),
        {ok, {database, Where}} = meerkat:add_user(Name, <<"mallory">>, <<"sesame">>),
        Client = allocated(Server, [], as("mallory", "sesame")),
        Strong = challenged(open(Server, as("mallory", "sesame"))),
        _ = success(call(Strong, allocate, [{requested_transport, 17}], #{algorithm => sha256})),
        {ok, Users} = meerkat_users:all(Name),
        ?assertMatch([#{from := database, proof := key, allocations := 2}],
                     [User || #{name := <<"mallory">>} = User <- Users]),
        {ok, {database, Where}} = meerkat:add_user(Name, <<"mallory">>, <<"another">>),
        _ = allocated(Server, [], as("mallory", "another")),
        _ = expect(401, call(Client, refresh, [])),
        {ok, {database, Where}} = meerkat:remove_user(Name, <<"mallory">>),
        _ = refused(Server, as("mallory", "another")),
        {error, "there is no such user in the database"} =
            meerkat:remove_user(Name, <<"mallory">>),
        {error, "this user is in the configuration" ++ _} =
            meerkat:add_user(Name, <<"configured">>, <<"sesame">>)
    end).

realms_are_apart(_) ->
    Other = #{name => <<"other.example">>},
    Listener = #{transport => udp, ip => {127, 0, 0, 1}, port => 0},
    Listeners = [Listener, Listener#{realm => <<"other.example">>}],
    with_database(#{realms => [Other], listeners => Listeners}, fun(Server, Database) ->
        #{listeners := [_, Second]} = Server,
        There = Server#{listeners := [Second]},
        ok = database_kit:add(Database, "frank", "other.example", "sesame"),
        _ = allocated(There, [], as("frank", "sesame")),
        _ = refused(Server, as("frank", "sesame")),
        ok = add(Database, "grace", "sesame"),
        _ = refused(There, as("grace", "sesame"))
    end).

%% While the database does not answer, those who are known come in, and who waits holds up nobody.
%% All who want to know the same are answered by one answer.
nobody_waits_for_others(_) ->
    with_database(#{}, fun(Server, Database) ->
        ok = add(Database, "heidi", "sesame"),
        _ = allocated(Server, [], as("carol", "sesame")),
        [Waiting, Known] = [[challenged(open(Server, as(User, "sesame"))) || _ <- lists:seq(1, N)]
                            || {User, N} <- [{"heidi", 8}, {"carol", 20}]],
        Paused = database_kit:pause(Database),
        Sent = [{Client, signed(Client, allocate, [{requested_transport, 17}])}
                || Client <- Waiting],
        [ok = send(Client, Bytes) || {Client, Bytes} <- Sent],
        #{name := Name} = Server,
        eventually(fun() -> maps:get(aside, meerkat_lookups:info(Name)) =:= 8 end),
        [_ = success(allocate(Client)) || Client <- Known],
        ?assertMatch(#{found := 1}, counts(Server)),
        ok = database_kit:resume(Paused),
        [answered(Client, Bytes) || {Client, Bytes} <- Sent],
        ?assertMatch(#{found := 2, away := 0, slow := 0, failed := 0}, counts(Server))
    end).

answered(Client, <<_:64, Id:12/binary, _/binary>>) ->
    #{class := success} = decoded(await(Client, Id)).

%% A wrong password of somebody known is still wrong. Others get no answer, and never a 401.
known_users_outlive_the_database(_) ->
    with_database(#{}, fun(#{name := Name} = Server, Database) ->
        ok = add(Database, "ivan", "sesame"),
        _ = allocated(Server, [], as("carol", "sesame")),
        Lost = lose(Database),
        eventually(fun() -> is_lost(Database, Name) end),
        _ = allocated(Server, [], as("carol", "sesame")),
        _ = refused(Server, as("carol", "another")),
        Ivan = challenged(open(Server, as("ivan", "sesame"))),
        unanswered(Ivan, signed(Ivan, allocate, [{requested_transport, 17}])),
        fence(maps:remove(key, Ivan)),
        find_again(Lost),
        #{class := success} = persistent(Server, as("ivan", "sesame"))
    end).

%% SQLite has no server that could go. That a directory is gone shows when it is asked.
lose(#{kind := sqlite} = Database) -> database_kit:pause(Database);
lose(Database) -> ok = database_kit:kill(Database), Database.

is_lost(#{kind := Kind}, _Name) when Kind =:= sqlite; Kind =:= ldap; Kind =:= http -> true;
is_lost(_Database, Name) -> maps:get(away, meerkat_lookups:info(Name)) =/= none.

find_again(#{kind := sqlite} = Database) -> database_kit:resume(Database);
find_again(Database) -> database ! {put, database_kit:again(Database)}, ok.

%% Also where nothing is remembered.
allocations_keep_their_key(_) ->
    with_database(#{}, fun(#{name := Name} = Server, #{kind := Kind} = Database) ->
        By = [rest(<<"judy">>, "first-secret") || Kind =/= ldap, Kind =/= http],
        [ok = database_kit:turnadmin(Database, ["-s", "first-secret", "-r", ?REALM]) || _ <- By],
        Clients = [allocated(Server, [], Who) || Who <- [as("carol", "sesame") | By]],
        Lost = lose(Database),
        eventually(fun() -> is_lost(Database, Name) end),
        ok = meerkat_lookups:forget(Name, {user, <<?REALM>>, <<"carol">>}),
        ok = meerkat_lookups:forget(Name, {secrets, <<?REALM>>}),
        [_ = success(call(Client, refresh, [])) || Client <- Clients],
        find_again(Lost)
    end).

no_tables_no_401(_) ->
    with_database(#{}, fun(#{name := Name} = Server, Database) ->
        %% A connection to SQLite makes the tables that are not there.
        eventually(fun() ->
            #{connections := Up, size := Size} = meerkat_lookups:info(Name),
            Up =:= Size
        end),
        ok = rename(Database, table, away),
        Client = challenged(open(Server, as("carol", "sesame"))),
        unanswered(Client, signed(Client, allocate, [{requested_transport, 17}])),
        ok = rename(Database, away, table),
        #{class := success} = persistent(Server, as("carol", "sesame")),
        ?assertMatch(#{failed := N} when N > 0, counts(Server))
    end).

rename(#{kind := ldap} = Database, From, To) ->
    Name = fun(table) -> "ou=people"; (away) -> "ou=away" end,
    database_kit:entries(Database, ["dn: ", Name(From), ",dc=example,dc=org\nchangetype: modrdn\n"
                                    "newrdn: ", Name(To), "\ndeleteoldrdn: 1\n"]);
rename(#{kind := http} = Database, table, away) ->
    database_kit:hook(Database, #{status => 500});
rename(#{kind := http} = Database, away, table) ->
    ok = database_kit:hook(Database, #{users => #{}}),
    add(Database, "carol", "sesame");
rename(Database, From, To) ->
    Name = fun(table) -> "turnusers_lt"; (away) -> "away" end,
    "" = database_kit:sql(Database, ["ALTER TABLE ", Name(From), " RENAME TO ", Name(To)]),
    ok.

%%% Of a directory

%% A password in clear, or a key made of it. A hash proves nothing, which is no wrong password.
what_an_attribute_has(_) ->
    #{config := Config} = Database = database(),
    Hex = fun(Digest) ->
        binary:encode_hex(meerkat_stun:key(Digest, <<"kim">>, <<?REALM>>, <<"sesame">>))
    end,
    ok = database_kit:entries(Database, [
        person("kim", [{"carLicense", Hex(md5)}, {"title", Hex(sha256)}]),
        person("lea", [{"userPassword", "{CLEARTEXT}sesame"}, {"userPassword", "{SSHA}c2VzYW1l"}]),
        person("mia", [{"userPassword", "{SSHA}c2VzYW1l"}]),
        person("noa", [{"userPassword", "one"}, {"userPassword", "another"}]),
        person("oda", [{"userPassword", "{not a} hash"}]),
        person("pia", [])]),
    Own = Config#{key_attribute => <<"CARLICENSE">>, sha256_attribute => <<"title">>},
    More = #{ldap_userdb => Own, database_sha256 => true},
    with_database(More, fun(#{name := Name} = Server, _) ->
        [_ = allocated(Server, [], as(User, Password))
         || {User, Password} <- [{"kim", "sesame"}, {"lea", "sesame"}, {"oda", "{not a} hash"}]],
        [begin
             Client = challenged(open(Server, as(User, "sesame"))),
             _ = success(call(Client, allocate, [{requested_transport, 17}],
                              #{algorithm => sha256}))
         end || User <- ["kim", "lea"]],
        _ = refused(Server, as("pia", "sesame")),
        ?assertMatch(#{failed := 0}, counts(Server)),
        [begin
             Client = challenged(open(Server, as(User, Password))),
             unanswered(Client, signed(Client, allocate, [{requested_transport, 17}]))
         end || {User, Password} <- [{"mia", "{SSHA}c2VzYW1l"}, {"noa", "one"}]],
        [{ok, {error, Why}}] = [meerkat_lookups:call(Name, fun(Connection) ->
            meerkat_database:ask({user, <<?REALM>>, <<"mia">>}, Connection)
        end)],
        ?assertMatch({match, _}, re:run(Why, "a hash of the password")),
        {ok, Users} = meerkat_users:all(Name),
        ?assertEqual([<<"kim">>, <<"pia">>],
                     [User || #{name := User} <- Users,
                              lists:member(User, [<<"kim">>, <<"pia">>, <<"a user">>])])
    end),
    %% Only what has that value is a user's.
    Where = Config#{where => {<<"objectClass">>, <<"organizationalRole">>}},
    with_database(#{ldap_userdb => Where}, fun(Server, _) ->
        _ = refused(Server, as("lea", "sesame"))
    end).

person(User, More) ->
    database_kit:entry("uid=" ++ User ++ ",ou=people,dc=example,dc=org", add,
                       [{"objectClass", "inetOrgPerson"}, {"cn", "a user"}, {"sn", "a user"},
                        {"uid", User}, {"o", ?REALM} | More]).

%% With a certificate that an authority of ours vouches for, and no other.
directories_by_tls(_) ->
    #{config := Config, tls_port := Port} = Database = database(),
    #{certificate := Ca} = database_kit:authority(Database),
    Trusted = #{ca_file => list_to_binary(Ca)},
    [with_database(#{ldap_userdb => maps:merge(Config, maps:merge(Trusted, Tls))},
                   fun(Server, _) -> _ = allocated(Server, [], as("carol", "sesame")) end)
     || Tls <- [#{tls => starttls}, #{tls => ldaps, port => Port},
                #{tls => ldaps, port => Port, host => <<"localhost">>}]],
    [with_database(#{ldap_userdb => maps:merge(Config, Tls)}, fun(#{name := Name}, _) ->
         eventually(fun() ->
             #{away := Away} = meerkat_lookups:info(Name),
             Away =/= none andalso re:run(Away, Why, [{capture, none}]) =:= match
         end)
     end) || {Tls, Why} <- [{#{tls => starttls}, "vouches for the certificate"},
                            {#{tls => ldaps, port => Port}, "vouches for the certificate"},
                            {Trusted#{tls => starttls, port => 9}, "refused"},
                            {#{password => <<"another">>}, "no binddn"},
                            {Trusted#{tls => ldaps}, "TLS"}]].

%% The next question makes a new connection, and is answered.
directories_close_what_is_idle(_) ->
    with_database(#{database_pool => 1, cache_unknown_lifetime => 1}, fun(Server, Database) ->
        _ = allocated(Server, [], as("carol", "sesame")),
        Running = database_kit:again(begin ok = database_kit:kill(Database), Database end),
        database ! {put, Running},
        _ = refused(Server, as("nobody", "sesame")),
        ?assertMatch(#{found := 1, unknown := 1, away := 0, failed := 0}, counts(Server)),
        ?assertEqual(0, unavailable(Server))
    end).

%%% Of a web server

%% A password or keys, for whom, from where, and for how long.
what_a_hook_says(_) ->
    #{config := Config} = Database = database(),
    Hex = fun(Digest) ->
        binary:encode_hex(meerkat_stun:key(Digest, <<"kim">>, <<?REALM>>, <<"sesame">>))
    end,
    Password = #{password => <<"sesame">>},
    ok = database_kit:hook(Database, #{users => #{<<?REALM>> => #{
        <<"kim">> => #{key => Hex(md5), sha256_key => Hex(sha256)},
        <<"lea">> => Password#{only_from => <<"192.0.2.1">>},
        <<"mia">> => Password#{only_from => <<"127.0.0.1">>, max_age => 3600},
        <<"noa">> => Password#{cache_control => <<"private, max-age=0">>},
        <<"oda">> => Password#{allow => false},
        <<"pia">> => #{key => <<"no key">>},
        <<"quinn">> => Password#{user_quota => 1, max_pps => 1, max_bps => 500000},
        <<"rosa">> => Password#{max_pps => <<"few">>}}}}),
    More = #{http_userdb => Config#{address => true}, database_sha256 => true},
    with_database(More, fun(#{name := Name} = Server, _) ->
        Client = challenged(open(Server, as("kim", "sesame"))),
        _ = success(call(Client, allocate, [{requested_transport, 17}], #{algorithm => sha256})),
        [_ = allocated(Server, [], as(User, "sesame")) || User <- ["kim", "mia", "noa"]],
        [_ = refused(Server, as(User, "sesame")) || User <- ["lea", "oda", "nobody"]],
        Pia = challenged(open(Server, as("pia", "sesame"))),
        unanswered(Pia, signed(Pia, allocate, [{requested_transport, 17}])),
        ?assertMatch(#{failed := 1, away := 0}, counts(Server)),
        ok = limits_of_a_hook(Server),
        Of = fun(User) -> meerkat_lookups:look(Name, {user, <<?REALM>>, User, {127, 0, 0, 1}}) end,
        ?assertMatch({fresh, {user, #{password := <<"sesame">>}}}, Of(<<"mia">>)),
        ?assertMatch({stale, {user, #{password := <<"sesame">>}}}, Of(<<"noa">>)),
        ?assertEqual(unknown, meerkat_lookups:look(Name, {user, <<?REALM>>, <<"mia">>})),
        %% Of who is good for no time each request asks, and nobody else's does.
        Before = length(database_kit:asked(Database)),
        [_ = allocated(Server, [], as(User, "sesame")) || User <- ["mia", "noa", "noa"]],
        Asked = lists:nthtail(Before, database_kit:asked(Database)),
        Question = #{<<"user">> => <<"noa">>, <<"realm">> => <<?REALM>>,
                     <<"client">> => <<"127.0.0.1">>},
        ?assertEqual([Question], lists:usort(Asked)),
        ?assert(length(Asked) >= 2)
    end),
    with_database(#{http_userdb => Config#{token := <<"another">>}}, fun(Server, _) ->
        Client = challenged(open(Server, as("kim", "sesame"))),
        unanswered(Client, signed(Client, allocate, [{requested_transport, 17}])),
        ?assertMatch(#{failed := N} when N > 0, counts(Server))
    end).

%% Those of one user, whatever there is for others; none is let in where a limit is no number.
limits_of_a_hook(Server) ->
    #{relayed := _} = Client = allocated(Server, [], as("quinn", "sesame")),
    _ = expect(486, allocate(challenged(open(Server, as("quinn", "sesame"))))),
    #{address := Address} = Peer = turn_kit:peer(),
    _ = success(turn_kit:permit(Client, [Address])),
    _ = turn_kit:send_to(Client, Address, <<"first">>),
    _ = turn_kit:peer_next(Peer),
    Before = turn_kit:counter(Server, over_packet_rate),
    [_ = turn_kit:send_to(Client, Address, <<N>>) || N <- lists:seq(1, 100)],
    eventually(fun() -> turn_kit:counter(Server, over_packet_rate) > Before end),
    Rosa = challenged(open(Server, as("rosa", "sesame"))),
    unanswered(Rosa, signed(Rosa, allocate, [{requested_transport, 17}])).

%% With a certificate that an authority of ours vouches for, and no other.
hooks_by_tls(_) ->
    #{config := Config} = Database = database_kit:start(https),
    try
        ok = add(Database, "carol", "sesame"),
        #{certificate := Ca} = database_kit:authority(Database),
        Trusted = Config#{ca_file => list_to_binary(Ca)},
        %% In this order: a connection that is there is used again.
        with_database(#{http_userdb => Config}, fun(Server, _) ->
            Client = challenged(open(Server, as("carol", "sesame"))),
            unanswered(Client, signed(Client, allocate, [{requested_transport, 17}])),
            ?assertMatch(#{away := Away} when Away > 0, counts(Server))
        end),
        with_database(#{http_userdb => Trusted}, fun(Server, _) ->
            _ = allocated(Server, [], as("carol", "sesame"))
        end)
    after
        ok = database_kit:stop(Database)
    end.

%%% Without a server

%% A database that is a process here.
connect(Options) -> {ok, {?MODULE, Options}}.

describe(_) -> "a database of a suite".

ask(Question, #{answer := Answer}) -> Answer(Question).

pool(Options) ->
    Backend = meerkat_database:backend({?MODULE, #{}}),
    {ok, Pool} = meerkat_database_pool:start_link(Backend, Options),
    eventually(fun() -> maps:get(up, meerkat_database_pool:status(Pool)) =:=
                            maps:get(size, Options) end),
    Pool.

%% A job that does not end takes its connection along, and nobody else's time.
slow_jobs_end(_) ->
    Pool = pool(#{size => 1, waiting => 10, tell => self()}),
    ok = meerkat_database_pool:run(Pool, slow, fun(_) -> receive never -> ok end end, 20),
    receive {slow, Result} -> ?assertEqual({error, slow}, Result) end,
    receive {database, Pool, {away, _}} -> ok end,
    receive {database, Pool, up} -> ok end,
    ?assertEqual({ok, done}, meerkat_database_pool:call(Pool, fun(_) -> done end, 5000)),
    ?assertMatch({error, {away, _}},
                 meerkat_database_pool:call(Pool, fun(_) -> error(a_fault) end, 5000)),
    unlink(Pool),
    exit(Pool, shutdown).

what_waits_is_bounded(_) ->
    Pool = pool(#{size => 1, waiting => 2}),
    Self = self(),
    Held = fun(N) -> fun(_) -> Self ! {begun, self()}, receive go -> N end end end,
    [ok = meerkat_database_pool:run(Pool, N, Held(N), 30000) || N <- lists:seq(1, 4)],
    receive {4, Result} -> ?assertEqual({error, busy}, Result) end,
    [receive {begun, Pid} -> Pid ! go end || _ <- [1, 2, 3]],
    [receive {N, Done} -> ?assertEqual({ok, N}, Done) end || N <- [1, 2, 3]],
    unlink(Pool),
    exit(Pool, shutdown).

%% Statements are sent by a fun of theirs, with the values beside them.
an_embedder_has_a_pool(_) ->
    Self = self(),
    Key = meerkat_stun:key(md5, <<"carol">>, <<?REALM>>, <<"sesame">>),
    Query = fun(Statement, Values) ->
        Self ! {sent, iolist_to_binary(Statement), Values},
        case Values of
            [<<?REALM>>, <<"carol">>] -> {ok, {rows, [[<<"carol">>, binary:encode_hex(Key)]]}};
            [_ | _] -> {ok, {rows, []}};
            [] -> {error, "no such table"}
        end
    end,
    with_server(#{database => Query}, fun(Server) ->
        _ = allocated(Server, [], as("carol", "sesame")),
        _ = refused(Server, as("dave", "sesame")),
        receive {sent, Statement, [<<?REALM>>, <<"carol">>]} ->
            ?assertEqual(nomatch, binary:match(Statement, <<"carol">>))
        end
    end).

%% Made-up names take the place of none who are there.
the_cache_has_room(_) ->
    Answer = fun({user, Realm, <<"user", _/binary>> = User}) ->
                     {ok, {user, #{md5 => meerkat_stun:key(md5, User, Realm, User)}}};
                ({user, _, _}) -> {ok, {user, none}}
             end,
    with_server(#{database => {?MODULE, #{answer => Answer}}, cache_size => 100},
                fun(#{name := Name} = Server) ->
        Client = challenged(open(Server, as("user", "user"))),
        _ = success(allocate(Client)),
        [_ = refused(Server, as("made up " ++ integer_to_list(N), "x")) || N <- lists:seq(1, 30)],
        #{cached := Few} = meerkat_lookups:info(Name),
        ?assert(Few =< 11),
        ?assertMatch({fresh, _}, meerkat_lookups:look(Name, {user, <<?REALM>>, <<"user">>})),
        [_ = allocated(Server, [], as(User, User))
         || N <- lists:seq(1, 120), User <- ["user " ++ integer_to_list(N)]],
        #{cached := Many} = meerkat_lookups:info(Name),
        ?assert(Many =< 100)
    end).

%% Whatever becomes of the process that asks, each request comes to an end.
put_aside_comes_back(_) ->
    Never = fun(_) -> receive never -> ok end end,
    with_server(#{database => {?MODULE, #{answer => Never}}}, fun(#{name := Name} = Server) ->
        Clients = [challenged(open(Server, as("carol", "sesame"))) || _ <- lists:seq(1, 5)],
        [ok = send(Client, signed(Client, allocate, [{requested_transport, 17}]))
         || Client <- Clients],
        eventually(fun() -> maps:get(aside, meerkat_lookups:info(Name)) =:= 5 end),
        exit(meerkat_roles:find(Name, lookups), kill),
        eventually(fun() -> unavailable(Server) =:= 5 end)
    end).

mistakes_are_named(_) ->
    Check = fun(Env) ->
        {error, Mistakes} = meerkat_config:load(#{file => none, env => Env}),
        unicode:characters_to_list(lists:join("\n", Mistakes))
    end,
    Bad = Check([{"PSQL_USERDB", "host=x nonsense=hunter2"}]),
    ?assertMatch({match, _}, re:run(Bad, "PSQL_USERDB")),
    ?assertMatch({match, _}, re:run(Bad, "dbname=turn")),
    ?assertEqual(nomatch, re:run(Bad, "hunter2")),
    Weak = Check([{"PSQL_USERDB", "postgresql://u:hunter2@h/turn"}, {"REQUIRE_SHA256", "true"}]),
    ?assertMatch({match, _}, re:run(Weak, "DATABASE_SHA256|database_sha256")),
    ?assertEqual(nomatch, re:run(Weak, "hunter2")),
    {ok, _, Warnings} = meerkat_config:load(#{file => none, env => [
        {"PSQL_USERDB", "postgresql://u:hunter2@h/turn"}, {"USERDB", "/tmp/turndb"}]}),
    ?assertMatch([_ | _], [Text || Text <- Warnings,
                                   string:find(Text, "users are looked up in") =/= nomatch]),
    Words = "host=127.0.0.1 dbname=turn user=turn password=hunter2 connect_timeout=30",
    {ok, Config, _} = meerkat_config:load(#{file => none, env => [{"PSQL_USERDB", Words}]}),
    ?assertMatch(#{psql_userdb := #{host := <<"127.0.0.1">>, port := 5432, user := <<"turn">>,
                                    password := <<"hunter2">>, database := <<"turn">>}}, Config),
    {ok, #{psql_userdb := #{sslmode := verify_full, sslrootcert := <<"/ca">>}}, _} =
        meerkat_config:load(#{file => none, env => [
            {"PSQL_USERDB", "postgresql://u:p@h/turn?sslmode=verify-full&sslrootcert=/ca"}]}),
    {ok, #{mysql_userdb := #{sslmode := require}}, _} =
        meerkat_config:load(#{file => none, env => [
            {"MYSQL_USERDB", "host=h dbname=turn user=u sslmode=require"}]}),
    [Check([{Key, Value}]) || {Key, Value} <- [
        {"PSQL_USERDB", "host=h dbname=turn user=u sslmode=prefer"},
        {"MYSQL_USERDB", "host=h dbname=turn user=u sslmode=verify-ca"},
        {"REDIS_USERDB", "rediss://h/0"}]],
    Quoted = "host=h dbname=turn user=turn password='a b \\' c='",
    {ok, #{psql_userdb := #{password := <<"a b ' c=">>}}, _} =
        meerkat_config:load(#{file => none, env => [{"PSQL_USERDB", Quoted}]}),
    Shown = [Value || {psql_userdb, Value, _} <- maps:get(settings, Config)],
    ?assertEqual([], [Text || Text <- Shown, binary:match(Text, <<"hunter2">>) =/= nomatch]).
