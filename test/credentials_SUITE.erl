%% Credentials that others make from a shared secret: those ejabberd and prosody, running for real,
%% give a user who asks as clients do (XEP-0215), and MongooseIM's by its vectors and the shape of
%% its answers. They allocate here; expired, tampered and foreign ones do not, and the log says why.
-module(credentials_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, end_per_testcase/2]).
-export([ejabberd_users_allocate/1, prosody_users_allocate/1, mongooseim_vectors/1,
         mongooseim_answer_allocates/1, several_secrets/1, foreign_secrets/1, expired/1, tampered/1,
         strange_names/1, leeway/1, quota_is_the_users/1, quota_of_nobody_is_the_addresss/1,
         allocation_ends_with_its_credentials/1]).
%% Of a handler of logger.
-export([log/2]).

-import(turn_kit, [doc/1, with_server/2]).

-define(SECRET, <<"sharedsecret">>).
-define(TIMEOUT, 20000).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [ejabberd_users_allocate, prosody_users_allocate, mongooseim_vectors,
     mongooseim_answer_allocates, several_secrets, foreign_secrets, expired, tampered,
     strange_names, leeway, quota_is_the_users, quota_of_nobody_is_the_addresss,
     allocation_ends_with_its_credentials].

end_per_testcase(_, _) ->
    _ = logger:remove_handler(?MODULE),
    ok.

%%% The three servers

ejabberd_users_allocate(_) ->
    doc("expiry:hash of the user; as part of all services and when asked for one"),
    Names = users_allocate(ejabberd),
    [?assertMatch({match, _}, re:run(Name, "^[0-9]+:[0-9a-f]{16}$")) || Name <- Names].

prosody_users_allocate(_) ->
    doc("the expiry alone"),
    Names = users_allocate(prosody),
    [?assertMatch({match, _}, re:run(Name, "^[0-9]+$")) || Name <- Names].

users_allocate(Kind) ->
    with_both(#{}, Kind, #{}, fun(_, Xmpp) ->
        [begin
             Client = xmpp_client_kit:login(Xmpp, User),
             [Stun, Turn] = lists:sort(fun by_type/2, xmpp_client_kit:services(Client)),
             ?assertMatch({ok, {{127, 0, 0, 1}, _}}, bound(Stun)),
             [Asked] = [S || #{<<"type">> := <<"turn">>} = S
                                 <- xmpp_client_kit:credentials(Client, Turn)],
             [?assertMatch({ok, #{relayed := _}}, allocated(S)) || S <- [Turn, Asked]],
             ok = xmpp_client_kit:close(Client),
             maps:get(<<"username">>, Turn)
         end || User <- [<<"alice">>, <<"bob">>]]
    end).

%% Secret, username, password as MongooseIM checks itself; by a clock that stands where they end.
mongooseim_vectors(_) ->
    [begin
         {ok, State} = meerkat_auth_rest:init(#{secrets => [Secret]}),
         {ok, Expiry} = meerkat_auth_rest:expiry(User, expiry),
         ?assertEqual({also, [{password, Password, Expiry}]},
                      meerkat_auth_rest:candidates(User, Expiry, State)),
         ?assertEqual({also, []}, meerkat_auth_rest:candidates(User, Expiry + 1, State))
     end || {Secret, User, Password} <-
                [{<<"my shared secret">>, <<"100:dummy_user">>, <<"aBGRg1t/TGlc9+gkWObW2Li97Ew=">>},
                 {<<"secret123">>, <<"10000:dummy_user@example.org">>,
                  <<"CKDrp61KWUnSXKusLAMKmL0qcQo=">>},
                 {<<"super#secret">>, <<"1772853308:example.org">>,
                  <<"+THIMe4fdg70xzgyfQe1sXwl8ys=">>},
                 {<<"super#secret">>, <<"5318549598:example.org">>,
                  <<"D8j9h+xPoWi8AL7Q5AfGywcRy10=">>},
                 {?SECRET, <<"1795190888:alice@localhost">>,
                  <<"tYUn+DlWjcA93uBAl3X5pEtpSu0=">>}]].

%% Byte for byte as MongooseIM writes it, with an hour from now.
mongooseim_answer_allocates(_) ->
    doc("expiry:bare JID, single quotes, no spaces; a JID of letters that are not ASCII too"),
    with_server(#{secrets => [?SECRET]}, fun(#{port := Port}) ->
        [begin
             Expiry = now_s() + 3600,
             User = <<(integer_to_binary(Expiry))/binary, $:, Jid/binary>>,
             Answer = ["<services xmlns='urn:xmpp:extdisco:2'><service type='turn' "
                       "host='127.0.0.1' port='", integer_to_list(Port), "' transport='udp' "
                       "username='", User, "' password='", hmac(?SECRET, User), "' expires='",
                       calendar:system_time_to_rfc3339(Expiry, [{offset, "Z"}]),
                       "'/></services>"],
             {ok, _} = application:ensure_all_started(fast_xml),
             Services = fxml_stream:parse_element(iolist_to_binary(Answer)),
             {ok, Service} = xmpp_client_kit:child(<<"service">>, Services),
             ?assertMatch({ok, #{relayed := _}}, allocated(xmpp_client_kit:attributes(Service)))
         end || Jid <- [<<"alice@localhost">>, <<"åsa@exämple.org"/utf8>>,
                        <<(binary:copy(<<"x">>, 490))/binary, "@y">>]]
    end).

%%% Whose they are

several_secrets(_) ->
    doc("while one secret takes the place of another, both servers' users come in"),
    with_server(#{secrets => [<<"new">>, ?SECRET]}, fun(#{port := Port}) ->
        [begin
             Turn = turn(Kind, #{secret => Secret, services => {{127, 0, 0, 1}, Port}}),
             ?assertMatch({ok, _}, allocated(Turn))
         end || {Kind, Secret} <- [{ejabberd, ?SECRET}, {prosody, <<"new">>}]]
    end).

foreign_secrets(_) ->
    doc("another server's credentials, good as they are, do not; with one secret, and with two"),
    [with_server(#{secrets => Secrets}, fun(#{port := Port}) ->
         Turn = turn(prosody, #{secret => <<"theirs">>, services => {{127, 0, 0, 1}, Port}}),
         refused(Turn, ["wrong password of user \"[0-9]+\": ", Said])
     end) || {Secrets, Said} <- [{[?SECRET], "it was not made with the secret$"},
                                 {[?SECRET, <<"old">>],
                                  "it was made with none of the 2 secrets$"}]].

expired(_) ->
    doc("prosody is told to make credentials that ended a minute ago"),
    with_server(#{secrets => [?SECRET]}, fun(#{port := Port}) ->
        Turn = turn(prosody, #{ttl => -60, services => {{127, 0, 0, 1}, Port}}),
        refused(Turn, "the credentials of \"[0-9]+\" expired 6[0-9] s ago$")
    end).

%% What a user who has good ones may try.
tampered(_) ->
    with_server(#{secrets => [?SECRET]}, fun(#{port := Port}) ->
        #{<<"username">> := User, <<"password">> := Password} = Turn =
            turn(ejabberd, #{services => {{127, 0, 0, 1}, Port}}),
        {ok, Expiry} = meerkat_auth_rest:expiry(User, expiry),
        {ok, Hash} = meerkat_auth_rest:name(User, expiry),
        Foreign = "wrong password of user \"[^\"]+\": it was not made with the secret$",
        [refused(Turn#{<<"username">> := Other}, Foreign)
         || Other <- [<<(integer_to_binary(Expiry + 86400))/binary, $:, Hash/binary>>,
                      <<(integer_to_binary(Expiry))/binary, ":0123456789abcdef">>,
                      integer_to_binary(Expiry)]],
        refused(Turn#{<<"password">> := string:reverse(Password)}, Foreign),
        ?assertMatch({ok, _}, allocated(Turn))
    end).

%% Signed with the secret, but nobody's way to say when they end.
strange_names(_) ->
    with_server(#{secrets => [?SECRET]}, fun(#{port := Port}) ->
        [refused(service(Port, User, hmac(?SECRET, User)),
                 ["wrong password of user \"", Shown, "\", a name that begins with no expiry$"])
         || {User, Shown} <- [{<<"alice@localhost">>, "alice@localhost"},
                              {<<"99999999999999999999:alice">>, "99999999999999999999:alice"},
                              {<<"1e10:alice">>, "1e10:alice"},
                              {<<"-1:a\r\nb">>, "-1:a\\\\x0d\\\\x0ab"}]]
    end).

leeway(_) ->
    doc("credential_leeway: what a clock that is behind made a minute too short is good"),
    with_server(#{secrets => [?SECRET], credential_leeway => 300}, fun(#{port := Port}) ->
        [Good, Over] = [turn(prosody, #{ttl => Ttl, services => {{127, 0, 0, 1}, Port}})
                        || Ttl <- [-60, -400]],
        ?assertMatch({ok, _}, allocated(Good)),
        refused(Over, "expired 4[0-9][0-9] s ago$")
    end).

%%% What they are good for

quota_is_the_users(_) ->
    doc("user_quota counts ejabberd's users, however often they fetch"),
    with_both(#{user_quota => 1}, ejabberd, #{}, fun(_, Xmpp) ->
        Client = xmpp_client_kit:login(Xmpp, <<"alice">>),
        Fetched = fun() -> turn(xmpp_client_kit:services(Client)) end,
        First = Fetched(),
        ?assertMatch({ok, _}, allocated(First)),
        %% The next second's username is another.
        Later = until(fun() -> Fetched() end, fun(Turn) -> Turn =/= First end),
        ?assertMatch({error, {486, _}}, allocated(Later)),
        Bob = xmpp_client_kit:login(Xmpp, <<"bob">>),
        ?assertMatch({ok, _}, allocated(turn(xmpp_client_kit:services(Bob)))),
        [xmpp_client_kit:close(C) || C <- [Client, Bob]]
    end).

quota_of_nobody_is_the_addresss(_) ->
    doc("prosody's users have no names: those of one address share a quota"),
    with_both(#{user_quota => 1}, prosody, #{}, fun(_, Xmpp) ->
        Of = fun(User) ->
            Client = xmpp_client_kit:login(Xmpp, User),
            Turn = turn(xmpp_client_kit:services(Client)),
            ok = xmpp_client_kit:close(Client),
            Turn
        end,
        ?assertMatch({ok, _}, allocated(Of(<<"alice">>))),
        ?assertMatch({error, {486, _}}, allocated(Of(<<"bob">>))),
        ?assertMatch({ok, _}, allocated(Of(<<"bob">>), #{local => {127, 0, 0, 2}}))
    end).

%% The client refreshes as it likes; it is told less and less, and then it is over.
allocation_ends_with_its_credentials(_) ->
    doc("expire_with_credentials: neither Allocate nor Refresh last longer than what prosody gave"),
    Config = #{expire_with_credentials => true},
    with_both(Config, prosody, #{ttl => 4}, fun(#{name := Name}, Xmpp) ->
        Asker = xmpp_client_kit:login(Xmpp, <<"alice">>),
        #{<<"username">> := User} = Turn = turn(xmpp_client_kit:services(Asker)),
        {ok, Expiry} = meerkat_auth_rest:expiry(User, expiry),
        {ok, #{lifetime := Given}} = allocated(Turn),
        ?assert(Given =< 4),
        #{allocations := 1} = meerkat:info(Name),
        0 = until(fun() -> maps:get(allocations, meerkat:info(Name)) end, fun(N) -> N =:= 0 end),
        ?assert(now_s() >= Expiry),
        ok = xmpp_client_kit:close(Asker)
    end).

%%% Tools

%% A server of ours, and an XMPP server that tells its users of it.
with_both(Config, Kind, Options, Fun) ->
    with_server(Config#{secrets => [?SECRET]}, fun(#{port := Port} = Server) ->
        Xmpp = xmpp_servers:start(Kind, Options#{services => {{127, 0, 0, 1}, Port}}),
        try Fun(Server, Xmpp) after xmpp_servers:kill(Xmpp) end
    end).

%% What alice gets from such a one.
turn(Kind, Options) ->
    Xmpp = xmpp_servers:start(Kind, Options),
    try
        Client = xmpp_client_kit:login(Xmpp, <<"alice">>),
        Turn = turn(xmpp_client_kit:services(Client)),
        ok = xmpp_client_kit:close(Client),
        Turn
    after
        xmpp_servers:kill(Xmpp)
    end.

turn(Services) ->
    [Turn] = [Service || #{<<"type">> := <<"turn">>} = Service <- Services],
    Turn.

by_type(#{<<"type">> := A}, #{<<"type">> := B}) -> A =< B.

service(Port, User, Password) ->
    #{<<"host">> => <<"127.0.0.1">>, <<"port">> => integer_to_binary(Port),
      <<"username">> => User, <<"password">> => Password}.

hmac(Secret, User) -> base64:encode(crypto:mac(hmac, sha, Secret, User)).

bound(Service) ->
    {ok, Client} = meerkat_client:start_link(client_options(Service)),
    meerkat_client:binding(Client).

allocated(Service) -> allocated(Service, #{}).

%% The allocation lives as long as this test case.
allocated(Service, Options) ->
    {ok, Client} = meerkat_client:start_link(maps:merge(client_options(Service), Options)),
    meerkat_client:allocate(Client).

client_options(#{<<"host">> := Host, <<"port">> := Port} = Service) ->
    Options = #{server => {binary_to_list(Host), binary_to_integer(Port)}},
    case Service of
        #{<<"username">> := User, <<"password">> := Password} ->
            Options#{username => User, password => Password};
        #{} ->
            Options
    end.

%% 401, and a line that an operator sees at the level that is set without being asked.
refused(Service, Pattern) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => notice, config => #{to => self()}}),
    ?assertMatch({error, {401, _}}, allocated(Service)),
    Line = receive {refusal, Said} -> Said after ?TIMEOUT -> error(nothing_logged) end,
    ok = logger:remove_handler(?MODULE),
    ?assertMatch({_, {match, _}}, {Line, re:run(Line, Pattern, [unicode])}),
    ?assertMatch({_, {match, _}}, {Line, re:run(Line, "^401 to 127\\.0\\.0\\.1:[0-9]+: ")}),
    #{<<"password">> := Password} = Service,
    [?assertEqual({Line, nomatch}, {Line, string:find(Line, Secret)})
     || Secret <- [binary_to_list(?SECRET), unicode:characters_to_list(Password)]].

log(#{meta := #{mfa := {meerkat_refusal_log, _, _}}, msg := {Format, Args}},
    #{config := #{to := Pid}}) ->
    Pid ! {refusal, lists:flatten(io_lib:format(Format, Args))};
log(_Event, _Config) ->
    ok.

now_s() -> erlang:system_time(second).

%% Seconds must pass: there is no event to await but the clock.
until(Get, Fits) -> until(Get, Fits, erlang:monotonic_time(millisecond) + ?TIMEOUT).

until(Get, Fits, Deadline) ->
    Value = Get(),
    case Fits(Value) orelse erlang:monotonic_time(millisecond) > Deadline of
        true -> Value;
        false -> timer:sleep(50), until(Get, Fits, Deadline)
    end.
