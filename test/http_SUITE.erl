%% What a server serves by HTTP: metrics, health, credentials, and two pages, which a browser looks
%% at. Raw requests, real allocations and their traffic; the exposition format is read strictly.
-module(http_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2]).
-export([metrics_are_well_formed/1, every_metric_of_the_table_is_there/1,
         counters_move_while_an_allocation_lives/1, drops_are_told_by_reason/1,
         responses_are_told_by_method_and_code/1, durations_are_told/1,
         free_ports_are_told_by_address/1, nobody_is_named/1, what_runs_is_told/1]).
-export([dashboard_and_alerts_fit_the_metrics/1]).
-export([health_and_ready/1, ready_says_why_not/1, a_silent_relay_is_not_healthy/1]).
-export([credentials_open_the_server/1, ways_to_show_a_token/1, wrong_tokens_are_refused/1,
         wrong_tokens_run_into_a_limit/1, no_token_no_credentials/1, no_secret_no_credentials/1,
         what_credentials_are_for_is_checked/1, a_new_token_by_reload/1]).
-export([answers_carry_no_more_than_they_must/1, head_is_get_without_a_body/1,
         nothing_else_is_served/1, hostile_requests/1, slow_requests_are_given_up/1,
         many_at_once/1]).
-export([off_unless_configured/1, a_port_that_is_taken/1, ipv6/1, http_dies_alone/1,
         the_relay_dies_alone/1, record_of_httpd/1, history_is_bounded/1]).
-export([status_page/1, ice_page/1]).

-import(turn_kit, [doc/1, allocated/1, bind/3, channel/3, challenged/1, open/1, open/2,
                   call/4, allocate/1, delete/1, peer/0, peer_next/1, peer_send/3, next/1, code/1,
                   with_server/2]).
-import(http_kit, [get/2, get/3, ask/3]).

-define(TOKEN, <<"let me in, please">>).
-define(CHANNEL, 16#4000).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [{group, served}, dashboard_and_alerts_fit_the_metrics, ready_says_why_not,
     a_silent_relay_is_not_healthy, wrong_tokens_run_into_a_limit, no_token_no_credentials,
     no_secret_no_credentials, a_new_token_by_reload, off_unless_configured,
     a_port_that_is_taken, ipv6, http_dies_alone, the_relay_dies_alone, record_of_httpd,
     history_is_bounded, status_page, ice_page].

groups() ->
    [{served, [],
      [metrics_are_well_formed, every_metric_of_the_table_is_there,
       counters_move_while_an_allocation_lives, drops_are_told_by_reason,
       responses_are_told_by_method_and_code, durations_are_told,
       free_ports_are_told_by_address, nobody_is_named, what_runs_is_told, health_and_ready,
       credentials_open_the_server, ways_to_show_a_token, wrong_tokens_are_refused,
       what_credentials_are_for_is_checked,
       answers_carry_no_more_than_they_must, head_is_get_without_a_body, nothing_else_is_served,
       hostile_requests, slow_requests_are_given_up, many_at_once]}].

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

%% ---------------------------------------------------------------------------------- metrics

metrics(Server) ->
    #{code := 200, body := Body,
      headers := #{<<"content-type">> := <<"text/plain; version=0.0.4", _/binary>>}} =
        get(Server, "/metrics"),
    exposition:parse(Body).

value(Server, Name, Labels) -> exposition:value(metrics(Server), Name, Labels).

%% Counted in the relay by the batch: asked for until they are there.
await_value(Server, Name, Labels, Wanted) ->
    comes(fun() ->
        case value(Server, Name, Labels) of
            Value when Value >= Wanted -> Value;
            _ -> not_yet
        end
    end).

%% Asks until there is another answer than not_yet; the suite's time trap is the bound.
comes(Ask) ->
    case Ask() of
        not_yet ->
            receive after 20 -> ok end,
            comes(Ask);
        Answer ->
            Answer
    end.

metrics_are_well_formed(Config) ->
    doc("every line of /metrics is what Prometheus' format 0.0.4 says a line may be"),
    ?assert(map_size(metrics(server(Config))) > 30).

every_metric_of_the_table_is_there(Config) ->
    doc("the table that docs/monitoring.md is made from is what a running server tells"),
    Served = metrics(server(Config)),
    Table = meerkat_metrics:families(),
    ?assertEqual(lists:sort([{Name, atom_to_binary(Type)}
                             || #{name := Name, type := Type} <- Table]),
                 lists:sort([{Name, Type} || {Name, #{type := Type}} <- maps:to_list(Served)])),
    [?assertEqual({Name, lists:sort([atom_to_binary(Label) || Label <- Labels])},
                  {Name, lists:sort(maps:keys(maps:remove(<<"le">>, Given)))})
     || #{name := Name, labels := Labels} <- Table,
        #{samples := Samples} <- [maps:get(Name, Served)], {_, Given, _} <- Samples],
    %% Nothing of the relay program's own table is left out.
    [?assertNotEqual(undefined, exposition:value(Served, <<"meerkat_dropped_packets_total">>,
                                                 #{<<"reason">> => atom_to_binary(Reason)}))
     || {Reason, drop, _} <- meerkat_ctl:counters()].

counters_move_while_an_allocation_lives(Config) ->
    doc("traffic and allocations are told as they are, not when a session has ended"),
    Server = server(Config),
    Sent = fun(Side) -> value(Server, <<"meerkat_sent_bytes_total">>, #{<<"side">> => Side}) end,
    {ToPeer, ToClient} = {Sent(<<"peer">>), Sent(<<"client">>)},
    Client = allocated(Server),
    Peer = peer(),
    _ = turn_kit:success(bind(Client, ?CHANNEL, Peer)),
    ok = channel(Client, ?CHANNEL, binary:copy(<<"x">>, 1000)),
    {Relayed, _} = peer_next(Peer),
    ok = peer_send(Peer, Relayed, binary:copy(<<"y">>, 500)),
    _ = next(Client),
    ?assertEqual(1, value(Server, <<"meerkat_allocations">>, #{})),
    ?assert(await_value(Server, <<"meerkat_sent_bytes_total">>, #{<<"side">> => <<"peer">>},
                        ToPeer + 1000) < ToPeer + 2000),
    _ = await_value(Server, <<"meerkat_sent_bytes_total">>, #{<<"side">> => <<"client">>},
                    ToClient + 500),
    ?assertEqual(1, value(Server, <<"meerkat_permissions">>, #{})),
    ok = delete(Client),
    ok = turn_kit:close(Peer).

drops_are_told_by_reason(Config) ->
    Server = server(Config),
    Labels = #{<<"reason">> => <<"no_allocation">>},
    Before = value(Server, <<"meerkat_dropped_packets_total">>, Labels),
    ok = turn_kit:dropped(open(Server), no_allocation, <<16#4000:16, 4:16, "data">>),
    ?assertEqual(Before + 1, value(Server, <<"meerkat_dropped_packets_total">>, Labels)).

responses_are_told_by_method_and_code(Config) ->
    Server = server(Config),
    Told = fun(Method, Code) ->
        value(Server, <<"meerkat_responses_total">>,
              #{<<"method">> => Method, <<"code">> => Code})
    end,
    Cases = [{<<"allocate">>, <<"401">>}, {<<"allocate">>, <<"success">>},
             {<<"refresh">>, <<"success">>}, {<<"channel_bind">>, <<"400">>}],
    Before = [Told(Method, Code) || {Method, Code} <- Cases],
    Liar = challenged(open(Server, #{password => <<"not hers">>})),
    401 = code(call(Liar#{key => <<"whatever it is">>}, allocate, [{requested_transport, 17}],
                    #{key => <<"whatever it is">>})),
    Client = allocated(Server),
    400 = code(bind(Client, 16#0001, {{127, 0, 0, 1}, 9})),
    ok = delete(Client),
    ?assertEqual([N + 1 || N <- Before], [Told(Method, Code) || {Method, Code} <- Cases]).

durations_are_told(Config) ->
    doc("each request is in one bucket of the histogram, whatever became of it"),
    Server = server(Config),
    Labels = #{<<"method">> => <<"allocate">>},
    Count = fun() ->
        {value(Server, <<"meerkat_request_duration_seconds_count">>, Labels),
         value(Server, <<"meerkat_request_duration_seconds_bucket">>,
               Labels#{<<"le">> => <<"+Inf">>})}
    end,
    {Before, Before} = Count(),
    Client = allocated(Server),
    ?assertEqual({Before + 1, Before + 1}, Count()),
    ?assert(value(Server, <<"meerkat_request_duration_seconds_sum">>, Labels) > 0),
    ok = delete(Client).

free_ports_are_told_by_address(Config) ->
    Server = server(Config),
    Free = fun() ->
        #{<<"meerkat_ports_free">> := #{samples := Samples}} = metrics(Server),
        maps:from_list([{Family, N} || {_, #{<<"family">> := Family}, N} <- Samples])
    end,
    #{<<"ipv4">> := V4, <<"ipv6">> := V6} = Free(),
    Client = allocated(Server),
    ?assertEqual(#{<<"ipv4">> => V4 - 1, <<"ipv6">> => V6}, Free()),
    ok = delete(Client),
    #{<<"meerkat_ports">> := #{samples := All}} = metrics(Server),
    ?assertEqual([16384, 16384], [N || {_, _, N} <- All]).

nobody_is_named(Config) ->
    doc("neither metrics nor status name a user, a client or a peer, whoever is there"),
    Server = server(Config),
    #{here := {_, ClientPort}} = Client = allocated(Server),
    #{address := {_, PeerPort}} = Peer = peer(),
    _ = turn_kit:success(bind(Client, ?CHANNEL, Peer)),
    ok = channel(Client, ?CHANNEL, <<"data">>),
    _ = peer_next(Peer),
    {_, Relayed} = maps:get(relayed, Client),
    [begin
         #{code := 200, body := Body} = get(Server, Path),
         [?assertEqual({Path, Name, nomatch}, {Path, Name, binary:match(Body, Name)})
          || Name <- [<<"alice">>, <<"s3cret">>, ?TOKEN]
                 ++ [iolist_to_binary([":", integer_to_list(Port)])
                     || Port <- [ClientPort, PeerPort, Relayed]]]
     end || Path <- ["/metrics", "/status.json", "/", "/health", "/ready"]],
    ok = delete(Client).

what_runs_is_told(Config) ->
    Families = metrics(server(Config)),
    #{<<"meerkat_build_info">> := #{samples := [{_, Build, 1}]}} = Families,
    {ok, Version} = application:get_key(meerkat, vsn),
    ?assertMatch(#{<<"io_backend">> := <<_, _/binary>>}, Build),
    ?assertEqual({list_to_binary(Version), list_to_binary(erlang:system_info(otp_release))},
                 {maps:get(<<"version">>, Build), maps:get(<<"otp">>, Build)}),
    [?assert(exposition:value(Families, Name, #{<<"program">> => Program}) > 0)
     || Name <- [<<"process_resident_memory_bytes">>, <<"process_open_fds">>,
                 <<"process_max_fds">>, <<"process_start_time_seconds">>],
        Program <- [<<"erlang">>, <<"relay">>]].

%% What they ask for is in the text: names, and the labels they select by.
dashboard_and_alerts_fit_the_metrics(_Config) ->
    doc("the Grafana dashboard and the alert rules use metrics and labels that a server has"),
    with_server(http(), fun(Server) ->
        Families = metrics(Server),
        Dashboard = monitoring("grafana-dashboard.json"),
        {ok, #{<<"panels">> := Panels}} = meerkat_json:decode(Dashboard),
        ?assert(length(Panels) >= 8),
        Queries = [Expr || #{<<"targets">> := Targets} <- Panels,
                           #{<<"expr">> := Expr} <- Targets],
        {match, Rules} = re:run(monitoring("alerts.yml"), "^ +expr: (.+)$",
                                [global, multiline, {capture, all_but_first, binary}]),
        ?assert(length(Rules) >= 6),
        [fits(Query, Families) || Query <- Queries ++ lists:append(Rules)]
    end).

monitoring(File) ->
    Root = filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."]),
    {ok, Text} = file:read_file(filename:join([Root, "docs", "monitoring", File])),
    Text.

fits(Query, Families) ->
    {match, Found} = re:run(Query, "\\b((?:meerkat|process|erlang_vm)_[a-z_]+)(?:\\{([^}]*)\\})?",
                            [global, {capture, all_but_first, binary}]),
    [begin
         Name = hd(Match),
         Samples = [S || #{samples := Of} <- maps:values(Families), {N, _, _} = S <- Of,
                         N =:= Name],
         ?assertNotEqual({Query, Name, []}, {Query, Name, Samples}),
         [?assert(lists:any(fun({_, Labels, _}) -> selects(Labels, Selector) end, Samples))
          || [_, Text] <- [Match],
             Selector <- binary:split(Text, <<",">>, [global, trim_all]),
             binary:match(Selector, <<"$">>) =:= nomatch]
     end || Match <- Found].

selects(Labels, Selector) ->
    {match, [Label, How, Wanted]} = re:run(Selector, "^ *([a-z_]+)(=~|!=|!~|=)\"([^\"]*)\" *$",
                                           [{capture, all_but_first, binary}]),
    case {Labels, How} of
        {#{Label := Value}, <<"=">>} -> Value =:= Wanted;
        {#{Label := Value}, <<"!=">>} -> Value =/= Wanted;
        {#{Label := Value}, <<"=~">>} -> matches(Value, Wanted);
        {#{Label := Value}, <<"!~">>} -> not matches(Value, Wanted);
        {#{}, _} -> false
    end.

matches(Value, Wanted) ->
    re:run(Value, ["^(?:", Wanted, ")$"], [{capture, none}]) =:= match.

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
    Relay = #{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1},
              min_port => 49300, max_port => 49300},
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
        Relay = meerkat_registry:note(Name, relay),
        ok = sys:suspend(Relay),
        ?assertEqual({503, #{<<"health">> => <<"relay_down">>}}, json(Server, "/health")),
        ?assertMatch({503, #{<<"reasons">> := [<<"relay_down">>]}}, json(Server, "/ready")),
        Families = metrics(Server),
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

what_credentials_are_for_is_checked(Config) ->
    Server = server(Config),
    [?assertMatch({400, #{<<"error">> := _}}, credentials(Server, Query, bearer()))
     || Query <- ["?service=stun", "?ttl=x", "?ttl=0", "?ttl=-5", "?ttl=99999999", "?ttl=",
                  "?username=a:b", "?username=", "?username=%00", "?username=%0d%0aX:y",
                  ["?username=", binary:copy(<<"u">>, 129)]]].

a_new_token_by_reload(_Config) ->
    with_server(http(), fun(#{name := Name} = Server) ->
        #{config := Running} = meerkat_registry:settings(Name),
        ok = meerkat:reload(Name, (Running())#{http_token => <<"another">>}),
        ?assertMatch({401, _}, credentials(Server, "", bearer())),
        ?assertMatch({200, _}, credentials(Server, "?key=another", []))
    end).

%% ---------------------------------------------------------------------------------- hostile

answers_carry_no_more_than_they_must(Config) ->
    doc("every answer, httpd's errors too, forbids what pages need not; none says what runs"),
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
                 "/..%2f..%2fetc/passwd", "/www/status.html", "/status.html", "//", "/metrics/",
                 "/%6detrics/x", "/meerkat_relay", "/ice.js%00.html",
                 "/cgi-bin/x", "/nothing?/"]],
    [?assertMatch({Method, #{code := 405, headers := #{<<"allow">> := <<"GET, HEAD">>}}},
                  {Method, ask(Server, Method, "/")})
     || Method <- ["POST", "PUT", "DELETE", "PATCH"]].

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

ipv6(_Config) ->
    with_server(http(#{http_listen => {{0, 0, 0, 0, 0, 0, 0, 1}, 0}}), fun(Server) ->
        ?assertMatch(#{code := 200}, get(Server, "/health"))
    end).

http_dies_alone(_Config) ->
    doc("HTTP that is killed comes back at the same address, and no allocation notices"),
    with_server(http(), fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        Relay = meerkat_registry:note(Name, relay),
        Address = meerkat_http:address(Name),
        Old = httpd(Name),
        true = exit(Old, kill),
        comes(fun() ->
            case catch get(Server, "/health") of
                #{code := 200} -> ok;
                _ -> not_yet
            end
        end),
        ?assertEqual(Address, meerkat_http:address(Name)),
        ?assertEqual(Relay, meerkat_registry:note(Name, relay)),
        ok = delete(Client)
    end).

httpd(Name) ->
    [Pid] = [Pid || {{meerkat, N}, Server, _, _} <- supervisor:which_children(meerkat_sup),
                    N =:= Name,
                    {meerkat_http_sup, Sup, _, _} <- supervisor:which_children(Server),
                    {meerkat_http, Pid, _, _} <- supervisor:which_children(Sup)],
    Pid.

the_relay_dies_alone(_Config) ->
    doc("a relay program that dies leaves HTTP and the history where they are"),
    with_server(http(), fun(#{name := Name} = Server) ->
        History = meerkat_registry:note(Name, history),
        Httpd = httpd(Name),
        {os_pid, Pid} = erlang:port_info(meerkat_registry:note(Name, port), os_pid),
        _ = os:cmd("kill -9 " ++ integer_to_list(Pid)),
        comes(fun() ->
            case erlang:port_info(meerkat_registry:note(Name, port), os_pid) of
                {os_pid, Pid} -> not_yet;
                _ -> ok
            end
        end),
        turns_ready(Server),
        ?assertEqual({History, Httpd}, {meerkat_registry:note(Name, history), httpd(Name)})
    end).

record_of_httpd(_Config) ->
    doc("the record that httpd hands us is the one we were built with"),
    Ours = fields(filename:join([code:lib_dir(meerkat), "src", "meerkat_http.erl"])),
    Theirs = fields(filename:join([code:lib_dir(inets), "include", "httpd.hrl"])),
    [?assertEqual({Name, maps:get(Name, Theirs)}, {Name, maps:get(Name, Ours)})
     || Name <- [mod, init_data]].

fields(File) ->
    {ok, Forms} = epp:parse_file(File, []),
    maps:from_list([{Name, [field(Field) || Field <- Fields]}
                    || {attribute, _, record, {Name, Fields}} <- Forms]).

field({typed_record_field, Field, _}) -> field(Field);
field({record_field, _, {atom, _, Name}}) -> Name;
field({record_field, _, {atom, _, Name}, _}) -> Name.

history_is_bounded(_Config) ->
    doc("an hour of samples every ten seconds, and not one more, however long it runs"),
    with_server(http(), fun(#{name := Name} = Server) ->
        History = meerkat_registry:note(Name, history),
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

%% ------------------------------------------------------------------------------------ pages

status_page(Config) ->
    doc("a browser shows the allocation that is there, its traffic and its drops"),
    with_server(http(), fun(Server) ->
        Client = allocated(Server),
        Peer = peer(),
        _ = turn_kit:success(bind(Client, ?CHANNEL, Peer)),
        Talker = spawn_link(fun() -> talk(Client, Peer) end),
        browse(Config, ["status", http_kit:url(Server)]),
        true = unlink(Talker),
        true = exit(Talker, kill),
        ok = delete(Client)
    end).

%% Sends until it is stopped, more and more, and now and then what must be dropped.
talk(Client, Peer) -> talk(Client, Peer, 100).

talk(Client, Peer, Size) ->
    ok = channel(Client, ?CHANNEL, binary:copy(<<"x">>, Size)),
    ok = channel(Client, ?CHANNEL + 1, <<"nowhere">>),
    receive after 20 -> talk(Client, Peer, min(1200, Size + 1)) end.

ice_page(Config) ->
    doc("a browser gets credentials and a relayed candidate, and says so; a wrong password too"),
    with_server(http(), fun(Server) ->
        browse(Config, ["ice", http_kit:url(Server), binary_to_list(?TOKEN)])
    end).

browse(Config, [Page | _] = Args) ->
    {0, _} = interop_SUITE:npm_ci(),
    Screenshot = filename:join(proplists:get_value(priv_dir, Config), Page ++ ".png"),
    {Status, Output} = interop_SUITE:browser("pages.mjs", Args ++ [Screenshot]),
    ct:log("<a href=\"file://~ts\">~ts</a>", [Screenshot, Screenshot]),
    ?assertEqual({0, match}, {Status, re:run(Output, Page ++ " page: ok", [{capture, none}])}).
