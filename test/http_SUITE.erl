%% What a server serves by HTTP: health and credentials; and what hostile requests do to it, which
%% is nothing. What the metrics say is metrics_SUITE's, the pages are pages_SUITE's.
-module(http_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2]).
-export([health_and_ready/1, ready_says_why_not/1, a_silent_relay_is_not_healthy/1]).
-export([credentials_open_the_server/1, ways_to_show_a_token/1, wrong_tokens_are_refused/1,
         wrong_tokens_run_into_a_limit/1, no_token_no_credentials/1, no_secret_no_credentials/1,
         credentials_of_a_realm/1,
         what_credentials_are_for_is_checked/1, a_new_token_by_reload/1]).
-export([reload_begins_moves_and_ends_it/1, reload_to_an_address_that_is_taken/1,
         reload_from_one_address_to_all_of_them/1, reload_that_the_relay_refuses/1,
         reload_brings_back_what_had_died/1]).
-export([answers_carry_no_more_than_they_must/1, head_is_get_without_a_body/1,
         nothing_else_is_served/1, hostile_requests/1, slow_requests_are_given_up/1,
         many_at_once/1, idle_connections_give_way/1, others_wait_for_nobodys_flood/1]).
-export([off_unless_configured/1, a_port_that_is_taken/1, nothing_of_inets/1, ipv6/1,
         http_dies_alone/1, the_relay_dies_alone/1, history_is_bounded/1]).

-import(turn_kit, [doc/1, allocated/1, challenged/1, open/2, allocate/1, delete/1,
                   with_server/2]).
-import(http_kit, [get/2, get/3, ask/3, metrics/1, comes/1]).

-define(TOKEN, <<"let me in, please">>).
-define(HERE, {127, 0, 0, 1}).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [{group, served}, ready_says_why_not, a_silent_relay_is_not_healthy,
     wrong_tokens_run_into_a_limit, no_token_no_credentials, no_secret_no_credentials,
     credentials_of_a_realm, a_new_token_by_reload, reload_begins_moves_and_ends_it,
     reload_to_an_address_that_is_taken,
     reload_from_one_address_to_all_of_them, reload_that_the_relay_refuses,
     reload_brings_back_what_had_died, off_unless_configured, a_port_that_is_taken,
     nothing_of_inets, ipv6, http_dies_alone, the_relay_dies_alone, history_is_bounded].

groups() ->
    [{served, [],
      [health_and_ready, credentials_open_the_server, ways_to_show_a_token,
       wrong_tokens_are_refused, what_credentials_are_for_is_checked,
       answers_carry_no_more_than_they_must, head_is_get_without_a_body, nothing_else_is_served,
       hostile_requests, slow_requests_are_given_up, many_at_once, idle_connections_give_way,
       others_wait_for_nobodys_flood]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(meerkat),
    Config.

end_per_suite(_Config) ->
    ok.

init_per_group(served, Config) ->
    [{server, turn_kit:start_server(http())} | Config].

end_per_group(served, Config) ->
    turn_kit:stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).

http() -> http(#{}).

http(More) -> maps:merge(#{http_listen => {{127, 0, 0, 1}, 0}, http_token => ?TOKEN}, More).

%% ----------------------------------------------------------------------------------- health

json(Server, Path) ->
    #{code := Code, body := Body, headers := #{<<"content-type">> := <<"application/json">>}} =
        get(Server, Path),
    {ok, Value} = meerkat_json:decode(Body),
    {Code, Value}.

health_and_ready(Config) ->
    #{name := Name} = Server = server(Config),
    ?assertEqual({200, #{<<"health">> => <<"ok">>}}, json(Server, "/health")),
    ?assertEqual({200, #{<<"ready">> => true}}, json(Server, "/ready")),
    ok = meerkat:drain(Name),
    ?assertEqual({503, #{<<"ready">> => false, <<"reasons">> => [<<"draining">>]}},
                 json(Server, "/ready")),
    ?assertMatch({200, _}, json(Server, "/health")),
    Families = metrics(Server),
    ?assertEqual([0, 1], [exposition:value(Families, N, #{})
                          || N <- [<<"meerkat_ready">>, <<"meerkat_draining">>]]),
    ok = meerkat:undrain(Name),
    ?assertMatch({200, _}, json(Server, "/ready")).

ready_says_why_not(_Config) ->
    doc("no room for another allocation, or no port: /ready turns, and turns back"),
    Port = turn_kit:free_ports(1),
    Relay = #{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1},
              min_port => Port, max_port => Port},
    [with_server(http(Settings), fun(Server) ->
         Client = allocated(Server),
         ?assertMatch({503, #{<<"reasons">> := [Reason]}}, json(Server, "/ready")),
         ok = delete(Client),
         turns_ready(Server)
     end) || {Reason, Settings} <- [{<<"no_room">>, #{total_quota => 1}},
                                    {<<"no_ports">>, #{relays => [Relay]}}]].

%% The process of an allocation ends after its answer.
turns_ready(Server) ->
    comes(fun() ->
        case json(Server, "/ready") of
            {200, _} -> ok;
            {503, _} -> not_yet
        end
    end).

a_silent_relay_is_not_healthy(_Config) ->
    with_server(http(), fun(#{name := Name} = Server) ->
        Relay = meerkat_roles:find(Name, relay),
        ok = sys:suspend(Relay),
        %% Each waits for the relay as long as it may.
        [Health, Ready, Families] = rpc:parallel_eval(
            [{erlang, apply, [Ask, []]} || Ask <- [fun() -> json(Server, "/health") end,
                                                   fun() -> json(Server, "/ready") end,
                                                   fun() -> metrics(Server) end]]),
        ?assertEqual({503, #{<<"health">> => <<"relay_down">>}}, Health),
        ?assertMatch({503, #{<<"reasons">> := [<<"relay_down">>]}}, Ready),
        ?assertEqual([0, 0], [exposition:value(Families, N, #{})
                              || N <- [<<"meerkat_up">>, <<"meerkat_ready">>]]),
        ok = sys:resume(Relay),
        ?assertMatch({200, _}, json(Server, "/health"))
    end).

%% ------------------------------------------------------------------------------ credentials

bearer() -> [{"Authorization", ["Bearer ", ?TOKEN]}].

credentials(Server, Query, Headers) ->
    #{code := Code, body := Body} = get(Server, ["/credentials", Query], Headers),
    {ok, Answer} = meerkat_json:decode(Body),
    {Code, Answer}.

credentials_open_the_server(Config) ->
    doc("what /credentials answers has the form of the TURN REST API, and is good"),
    #{ip := Ip, port := Port} = Server = server(Config),
    {200, Answer} = credentials(Server, "?service=turn&username=bob%20b&ttl=60", bearer()),
    #{<<"username">> := User, <<"password">> := Password, <<"ttl">> := 60, <<"uris">> := Uris,
      <<"iceServers">> := Ice} = Answer,
    ?assertMatch({match, _}, re:run(User, "^[0-9]+:bob b$")),
    Turn = iolist_to_binary(["turn:", meerkat_text:address({Ip, Port}), "?transport=udp"]),
    ?assert(lists:member(Turn, Uris)),
    [#{<<"urls">> := Stun}, #{<<"urls">> := Relays, <<"username">> := User,
                              <<"credential">> := Password}] = Ice,
    ?assertEqual(lists:sort(Uris), lists:sort(Stun ++ Relays)),
    Client = challenged(open(Server, #{user => User, password => Password})),
    ok = delete(Client#{answer => turn_kit:success(allocate(Client))}).

ways_to_show_a_token(Config) ->
    Server = server(Config),
    Key = uri_string:quote(binary_to_list(?TOKEN)),
    [?assertMatch({200, #{<<"ttl">> := 86400}}, credentials(Server, Query, Headers))
     || {Query, Headers} <- [{"", bearer()}, {"", [{"authorization", ["bearer ", ?TOKEN]}]},
                             {"", [{"X-API-Key", ?TOKEN}]}, {["?key=", Key], []},
                             {["?user=x&key=", Key], []}]].

wrong_tokens_are_refused(Config) ->
    Server = server(Config),
    #{code := 401, headers := #{<<"www-authenticate">> := <<"Bearer", _/binary>>}} =
        get(Server, "/credentials"),
    [?assertMatch({401, #{<<"error">> := _}}, credentials(Server, Query, Headers))
     || {Query, Headers} <- [{"?key=", []}, {"", [{"Authorization", "Basic bGV0IG1lIGlu"}]},
                             {["?token=", uri_string:quote(binary_to_list(?TOKEN))], []},
                             {"?key=%ff", []}]].

wrong_tokens_run_into_a_limit(_Config) ->
    doc("who guesses is not looked at any more after some tries, not even with the right token"),
    with_server(http(), fun(Server) ->
        Guess = fun Guess(N) ->
            case credentials(Server, "?key=guess", []) of
                {401, _} -> Guess(N + 1);
                {429, _} -> N
            end
        end,
        ?assert(Guess(0) > 0),
        ?assertMatch({429, _}, credentials(Server, "", bearer())),
        ?assertMatch(#{code := 429, headers := #{<<"retry-after">> := _}},
                     get(Server, "/credentials", bearer())),
        ?assertMatch(#{code := 200}, get(Server, "/metrics")),
        comes(fun() ->
            case credentials(Server, "", bearer()) of
                {429, _} -> not_yet;
                {200, _} -> ok
            end
        end)
    end).

no_token_no_credentials(_Config) ->
    with_server(http(#{http_token => undefined}), fun(Server) ->
        ?assertMatch({404, _}, credentials(Server, "?key=", bearer())),
        ?assertMatch({404, _}, credentials(Server, "", []))
    end).

no_secret_no_credentials(_Config) ->
    with_server(http(#{secrets => []}), fun(Server) ->
        ?assertMatch({404, #{<<"error">> := _}}, credentials(Server, "", bearer()))
    end).

credentials_of_a_realm(_Config) ->
    doc("?realm= gives what opens that realm; one there is not: 400, and which there are"),
    Listener = #{transport => udp, ip => ?HERE, port => 0},
    Realms = #{listeners => [Listener, Listener#{realm => <<"a.example">>}],
               realms => [#{name => <<"a.example">>, secrets => [<<"of a">>]}]},
    with_server(http(Realms), fun(#{listeners := [_, OfA]} = Server) ->
        {200, #{<<"username">> := User, <<"password">> := Password, <<"uris">> := [_, Turn]}} =
            credentials(Server, "?user=u&realm=a.example", bearer()),
        ?assertEqual(meerkat_auth_rest:password(<<"of a">>, User), Password),
        There = iolist_to_binary(["turn:", meerkat_text:address(OfA), "?transport=udp"]),
        ?assertEqual(There, Turn),
        {400, #{<<"error">> := Sentence}} = credentials(Server, "?realm=b%1b", bearer()),
        ?assertEqual(<<"there is no realm \"b\\x1b\"; there is \"a.example\", \"example.org\"">>,
                     Sentence)
    end).

what_credentials_are_for_is_checked(Config) ->
    Server = server(Config),
    [?assertMatch({400, #{<<"error">> := _}}, credentials(Server, Query, bearer()))
     || Query <- ["?service=stun", "?ttl=x", "?ttl=0", "?ttl=-5", "?ttl=99999999", "?ttl=",
                  "?username=a:b", "?username=", "?username=%00", "?username=%0d%0aX:y",
                  ["?username=", binary:copy(<<"u">>, 129)]]],
    %% Of a slip of the pen nobody gets another's credentials.
    ?assertMatch({400, #{<<"error">> := <<"there is no parameter usrename; did you mean username",
                                          _/binary>>}},
                 credentials(Server, "?usrename=alice", bearer())),
    ?assertMatch({200, _}, credentials(Server, "?username=alice&_=1&cache=no", bearer())).

a_new_token_by_reload(_Config) ->
    with_server(http(), fun(Server) ->
        ok = reload(Server, #{http_token => <<"another">>}),
        ?assertMatch({401, _}, credentials(Server, "", bearer())),
        ?assertMatch({200, _}, credentials(Server, "?key=another", []))
    end).

%% ----------------------------------------------------------------------------------- reload

reload(#{name := Name}, Changed) ->
    #{config := Running} = meerkat_registry:settings(Name),
    meerkat:reload(Name, maps:merge(Running(), Changed)).

%% Free a moment ago.
port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, ?HERE}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

%% Does anybody listen there?
is_open({Ip, Port}) ->
    case gen_tcp:connect(Ip, Port, []) of
        {ok, Socket} -> ok = gen_tcp:close(Socket), true;
        {error, econnreset} -> true;    % it was let in, and was not taken before the end came
        {error, econnrefused} -> false
    end.

%% The system does so a moment after we have.
closes(Address) ->
    comes(fun() -> case is_open(Address) of true -> not_yet; false -> ok end end).

reload_begins_moves_and_ends_it(_Config) ->
    doc("http_listen set, changed and left out while allocations live; the history moves along"),
    with_server(#{http_token => ?TOKEN}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        Relay = meerkat_roles:find(Name, relay),
        ok = reload(Server, #{http_listen => {?HERE, 0}}),
        First = meerkat_http:address(Name),
        ?assertMatch({200, _}, json(Server, "/health")),
        ?assertMatch({200, _}, credentials(Server, "", bearer())),
        History = meerkat_roles:find(Name, history),
        ok = reload(Server, #{software => <<"other">>}),
        ?assertEqual(First, meerkat_http:address(Name)),
        Second = {?HERE, port()},
        {ok, Idle} = gen_tcp:connect(?HERE, element(2, First), []),
        ok = reload(Server, #{http_listen => Second}),
        ok = gen_tcp:close(Idle),
        ?assertEqual(Second, meerkat_http:address(Name)),
        ?assertMatch({200, #{<<"allocations">> := 1}}, json(Server, "/status.json")),
        ok = closes(First),
        ?assertEqual(History, meerkat_roles:find(Name, history)),
        ok = reload(Server, #{http_listen => undefined}),
        ?assertEqual(none, meerkat_http:address(Name)),
        ok = closes(Second),
        ?assertEqual([], meerkat_history:samples(Name)),
        ok = reload(Server, #{http_listen => Second}),
        ?assertMatch({200, _}, json(Server, "/health")),
        ?assertEqual(Relay, meerkat_roles:find(Name, relay)),
        ok = delete(Client)
    end).

reload_to_an_address_that_is_taken(_Config) ->
    doc("the reason names it, nothing of the reload is in force, and HTTP answers where it did"),
    {ok, Socket} = gen_tcp:listen(0, [{ip, ?HERE}]),
    {ok, Port} = inet:port(Socket),
    [with_server(Http, fun(#{name := Name} = Server) ->
         Before = meerkat_registry:settings(Name),
         {error, Sentence} = reload(Server, #{http_listen => {?HERE, Port}, users => #{}}),
         ?assertEqual("cannot serve HTTP on 127.0.0.1:" ++ integer_to_list(Port)
                          ++ ": address already in use; nothing has changed", Sentence),
         ?assertEqual(Before, meerkat_registry:settings(Name)),
         ok = delete(allocated(Server)),
         case Http of
             #{http_listen := _} -> ?assertMatch({200, _}, json(Server, "/health"));
             #{} -> ?assertEqual(none, meerkat_http:address(Name))
         end
     end) || Http <- [http(), #{}]],
    ok = gen_tcp:close(Socket).

reload_from_one_address_to_all_of_them(_Config) ->
    doc("the same port, once of all addresses and once of one, though they cannot be open at once"),
    Port = port(),
    [One, All] = [{?HERE, Port}, {{0, 0, 0, 0}, Port}],
    with_server(http(#{http_listen => One}), fun(#{name := Name} = Server) ->
        Other = {{127, 0, 0, 2}, Port},
        ok = reload(Server, #{http_listen => All}),
        ?assertEqual({All, true}, {meerkat_http:address(Name), is_open(Other)}),
        ok = reload(Server, #{http_listen => One}),
        ?assertEqual(One, meerkat_http:address(Name)),
        ok = closes(Other),
        ?assertMatch({200, _}, json(Server, "/health")),
        {ok, Socket} = gen_tcp:listen(Port, [{ip, {127, 0, 0, 2}}, {reuseaddr, true}]),
        {error, Sentence} = reload(Server, #{http_listen => All}),
        ?assertMatch({match, _}, re:run(Sentence, "^cannot serve HTTP on 0.0.0.0:[0-9]+: address")),
        ?assertEqual(One, meerkat_http:address(Name)),
        ?assertMatch({200, _}, json(Server, "/health")),
        ok = gen_tcp:close(Socket)
    end).

reload_that_the_relay_refuses(_Config) ->
    doc("a listener that cannot be: HTTP is at its old address and not at the new one"),
    {ok, Socket} = gen_udp:open(0, [{ip, ?HERE}]),
    {ok, Taken} = inet:port(Socket),
    Port = port(),
    [with_server(http(#{http_listen => From}), fun(#{name := Name} = Server) ->
         Before = meerkat_http:address(Name),
         {error, "cannot listen on udp " ++ _} =
             reload(Server, #{http_listen => To,
                              listeners => [#{transport => udp, ip => ?HERE, port => Taken}]}),
         ?assertEqual(Before, meerkat_http:address(Name)),
         From =:= undefined orelse ?assertMatch({200, _}, json(Server, "/health")),
         is_tuple(To) andalso closes({{127, 0, 0, 2}, element(2, To)})
     end) || {From, To} <- [{{?HERE, 0}, {{127, 0, 0, 2}, Port}}, {undefined, {{0, 0, 0, 0}, Port}},
                            {{?HERE, Port}, {{0, 0, 0, 0}, Port}}, {{?HERE, 0}, undefined}]],
    ok = gen_udp:close(Socket).

reload_brings_back_what_had_died(_Config) ->
    doc("HTTP that could not be kept alive is there again after a reload"),
    with_server(http(), fun(#{name := Name} = Server) ->
        Sup = meerkat_roles:find(Name, http_sup),
        Monitor = erlang:monitor(process, Sup),
        true = exit(Sup, kill),
        receive {'DOWN', Monitor, process, Sup, _} -> ok end,
        ok = reload(Server, #{}),
        ?assertMatch({200, _}, json(Server, "/health"))
    end).

%% ---------------------------------------------------------------------------------- hostile

answers_carry_no_more_than_they_must(Config) ->
    doc("every answer, an error too, forbids what pages need not; none says what runs"),
    [begin
         #{headers := Headers} = Answer,
         ?assertMatch(#{<<"x-content-type-options">> := <<"nosniff">>,
                        <<"cache-control">> := <<"no-store">>, <<"referrer-policy">> := _,
                        <<"content-security-policy">> := <<"default-src 'none'", _/binary>>},
                      Headers),
         ?assertNot(is_map_key(<<"server">>, Headers)),
         ?assertNot(is_map_key(<<"access-control-allow-origin">>, Headers))
     end || Server <- [server(Config)],
            Answer <- [get(Server, "/"), get(Server, "/ice"), get(Server, "/nothing"),
                       get(Server, "/credentials"), get(Server, ["/", long(3000)]),
                       ask(Server, "POST", "/"), ask(Server, "BREW", "/")]].

head_is_get_without_a_body(Config) ->
    Server = server(Config),
    [begin
         #{code := Code, body := Body, headers := #{<<"content-type">> := Type}} =
             get(Server, Path),
         #{code := Code, body := <<>>,
           headers := #{<<"content-type">> := Type, <<"content-length">> := Length}} =
             ask(Server, "HEAD", Path),
         ?assert(binary_to_integer(Length) > 0),
         Path =:= "/metrics" orelse ?assertEqual(byte_size(Body), binary_to_integer(Length))
     end || Path <- ["/", "/ice", "/style.css", "/metrics", "/health", "/nothing"]].

nothing_else_is_served(Config) ->
    Server = server(Config),
    [?assertMatch({Path, #{code := 404}}, {Path, get(Server, Path)})
     || Path <- ["/etc/passwd", "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
                 "/..%2f..%2fetc/passwd", "/www/status.html", "/status.html", "//x/health",
                 "/metrics/",
                 "/%6detrics/x", "/meerkat_relay", "/ice.js%00.html",
                 "/cgi-bin/x", "/nothing?/"]],
    [?assertMatch({Method, #{code := 405, headers := #{<<"allow">> := <<"GET, HEAD">>}}},
                  {Method, ask(Server, Method, "/")})
     || Method <- ["POST", "PUT", "DELETE", "PATCH"]],
    %% Of the slashes a path begins with httpd makes one, from OTP 27 on. Before, no page has such a
    %% name.
    Code = fun(Path) -> maps:get(code, get(Server, Path)) end,
    Folds = Code("//health") =:= 200,
    [?assertEqual({Path, case Folds of true -> Code(Path); false -> 404 end},
                  {Path, Code("/" ++ Path)})
     || Path <- ["/", "/health", "/credentials", "/metrics", "/etc/passwd"]].

long(N) -> binary:copy(<<"a">>, N).

hostile_requests(Config) ->
    doc("what is too long, too much or no HTTP is refused with an error or silence, and no harm"),
    Server = server(Config),
    ?assertMatch(#{code := 414}, get(Server, ["/", long(100000)])),
    ?assertMatch(#{code := 413}, get(Server, "/", [{"X-Long", long(100000)}])),
    ?assertMatch(#{code := Code} when Code >= 400, ask(Server, "BREW", "/")),
    ?assertMatch(#{code := 413}, get(Server, "/", [{"Content-Length", "1000000"}])),
    ?assertMatch(#{code := 400}, answer(Server, "GET / HTTP/1.1\r\n\r\n")),       % no Host
    [_ = http_kit:raw(Server, Bytes)
     || Bytes <- ["GET / HTTP/9.9\r\n\r\n", "GET  HTTP/1.1\r\nHost: x\r\n\r\n",
                  "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                  "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
                  "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                  "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n",
                  "GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n",
                  "GET /credentials?%%%=\xff&key HTTP/1.1\r\nHost: x\r\n\r\n",
                  "GET /status.json?a=%zz HTTP/1.1\r\nHost: x\r\n\r\n",
                  [0, 255, 1, 2, "\r\n\r\n"], crypto:strong_rand_bytes(5000), "\r\n\r\n\r\n",
                  ["GET / HTTP/1.1\r\n", long(20000)]]],
    ?assertMatch(#{code := 200}, get(Server, "/health")),
    turn_kit:alive(Server).

answer(Server, Bytes) ->
    <<"HTTP/1.", _, " ", Code:3/binary, _/binary>> = http_kit:raw(Server, Bytes),
    #{code => binary_to_integer(Code)}.

slow_requests_are_given_up(Config) ->
    doc("a connection that says nothing, half a request or no body is closed by the server"),
    Server = server(Config),
    Self = self(),
    Slow = ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"],
    Waiting = [spawn_link(fun() -> Self ! {self(), http_kit:raw(Server, Bytes)} end)
               || Bytes <- Slow],
    ?assertMatch(#{code := 200}, get(Server, "/health")),
    [receive {Pid, Answer} -> ?assertNotMatch(<<"HTTP/1.1 200", _/binary>>, Answer) end
     || Pid <- Waiting].

many_at_once(Config) ->
    Server = server(Config),
    Self = self(),
    Pids = [spawn_link(fun() -> Self ! {self(), get(Server, "/metrics")} end)
            || _ <- lists:seq(1, 50)],
    [receive {Pid, #{code := Code}} -> ?assertEqual(200, Code) end || Pid <- Pids].

idle_connections_give_way(Config) ->
    doc("more idle connections of one address than there is room for: /health and /ready answer, "
        "and those that waited longest are closed"),
    Server = server(Config),
    Idle = [idle(Server, ?HERE, Bytes) || _ <- lists:seq(1, 100), Bytes <- ["", "GET / HT"]],
    [?assertMatch({Path, #{code := 200}}, {Path, get(Server, Path)})
     || _ <- lists:seq(1, 20), Path <- ["/health", "/ready"]],
    {First, _} = lists:split(100, Idle),
    [?assertEqual(<<>>, left(Socket)) || Socket <- First],
    [ok = gen_tcp:close(Socket) || Socket <- Idle].

others_wait_for_nobodys_flood(Config) ->
    doc("a source that is slow keeps its connection whatever another opens, and whoever is new "
        "gets in when sources without number have all the room"),
    Server = server(Config),
    Slow = idle(Server, {127, 0, 0, 9}, "GET /health HTTP/1.1\r\n"),
    Greedy = [idle(Server, {127, 0, 0, N}, "") || N <- [1, 2, 3, 4, 5], _ <- lists:seq(1, 70)],
    ?assertMatch(#{code := 200}, get(Server, "/health")),
    ok = gen_tcp:send(Slow, "Host: here\r\n\r\n"),
    ?assertMatch(<<"HTTP/1.1 200 ", _/binary>>, left(Slow)),
    [ok = gen_tcp:close(Socket) || Socket <- Greedy].

%% A connection from that address which has said so much.
idle(#{name := Name}, From, Bytes) ->
    {Ip, Port} = meerkat_http:address(Name),
    {ok, Socket} = gen_tcp:connect(Ip, Port, [binary, {active, false}, {ip, From}]),
    ok = gen_tcp:send(Socket, Bytes),
    Socket.

%% What the server says until it ends the connection.
left(Socket) ->
    case gen_tcp:recv(Socket, 0, 20000) of
        {ok, Bytes} -> <<Bytes/binary, (left(Socket))/binary>>;
        {error, Reason} when Reason =:= closed; Reason =:= econnreset -> <<>>
    end.

%% -------------------------------------------------------------------------------- lifecycle

off_unless_configured(_Config) ->
    with_server(#{}, fun(#{name := Name}) ->
        ?assertEqual(none, meerkat_http:address(Name)),
        ?assertEqual([], meerkat_history:samples(Name))
    end).

a_port_that_is_taken(_Config) ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    try turn_kit:start_server(http(#{http_listen => {{127, 0, 0, 1}, Port}})) of
        _ -> error(started)
    catch
        error:{badmatch, {error, Sentence}} ->
            ?assertEqual("cannot serve HTTP on 127.0.0.1:" ++ integer_to_list(Port)
                             ++ ": address already in use", Sentence)
    end,
    ok = gen_tcp:close(Socket).

nothing_of_inets(_Config) ->
    doc("a node that lacks inets serves HTTP all the same"),
    Dir = filename:join(code:lib_dir(inets), "ebin"),
    true = code:del_path(Dir),
    try with_server(http(), fun(Server) ->
        ?assertMatch(#{code := 200}, get(Server, "/health"))
    end)
    after
        true = code:add_pathz(Dir)
    end.

ipv6(_Config) ->
    with_server(http(#{http_listen => {{0, 0, 0, 0, 0, 0, 0, 1}, 0}}), fun(Server) ->
        ?assertMatch(#{code := 200}, get(Server, "/health"))
    end).

http_dies_alone(_Config) ->
    doc("HTTP that is killed comes back at the same address, and no allocation notices"),
    with_server(http(), fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        Relay = meerkat_roles:find(Name, relay),
        Address = meerkat_http:address(Name),
        Old = listener(Name),
        true = exit(Old, kill),
        comes(fun() ->
            try get(Server, "/health") of
                #{code := 200} -> ok;
                _ -> not_yet
            catch
                _:_ -> not_yet
            end
        end),
        ?assertEqual(Address, meerkat_http:address(Name)),
        ?assertEqual(Relay, meerkat_roles:find(Name, relay)),
        ok = delete(Client)
    end).

listener(Name) ->
    Sup = meerkat_roles:find(Name, http_sup),
    [Pid] = [Pid || {{meerkat_http, _}, Pid, _, _} <- supervisor:which_children(Sup)],
    Pid.

the_relay_dies_alone(_Config) ->
    doc("a relay program that dies leaves HTTP and the history where they are, and is told of"),
    with_server(http(), fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        History = meerkat_roles:find(Name, history),
        Listener = listener(Name),
        {os_pid, Pid} = erlang:port_info(meerkat_roles:find(Name, port), os_pid),
        _ = os:cmd("kill -9 " ++ integer_to_list(Pid)),
        Families = comes(fun() ->
            case metrics(Server) of
                #{<<"meerkat_relay_restarts_total">> := #{samples := [{_, _, 1}]}} = Told -> Told;
                #{} -> not_yet
            end
        end),
        turns_ready(Server),
        ?assertEqual({History, Listener}, {meerkat_roles:find(Name, history), listener(Name)}),
        [?assert(exposition:value(Families, Metric, #{}) > 0)
         || Metric <- [<<"meerkat_relay_gap_seconds">>, <<"meerkat_relay_away_seconds_total">>]],
        ?assertEqual([1, 0], [exposition:value(Families,
                                               <<"meerkat_relay_replayed_allocations_total">>,
                                               #{<<"outcome">> => Outcome})
                              || Outcome <- [<<"ok">>, <<"lost">>]]),
        ok = delete(Client)
    end).

history_is_bounded(_Config) ->
    doc("an hour of samples every ten seconds, and not one more, however long it runs"),
    with_server(http(), fun(#{name := Name} = Server) ->
        History = meerkat_roles:find(Name, history),
        [History ! sample || _ <- lists:seq(1, 400)],
        Samples = comes(fun() ->
            case meerkat_history:samples(Name) of
                [] -> not_yet;
                Kept -> Kept
            end
        end),
        ?assertEqual(361, length(Samples)),
        ?assertEqual(lists:sort(Samples), Samples),
        {200, #{<<"history">> := Told}} = json(Server, "/status.json"),
        ?assertEqual(362, length(Told))
    end).
