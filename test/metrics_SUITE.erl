%% What /metrics tells, read strictly, while real clients allocate and talk.
-module(metrics_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([metrics_are_well_formed/1, names_end_as_types_do/1, every_metric_of_the_table_is_there/1,
         counters_move_while_an_allocation_lives/1, counters_of_the_relay_move/1,
         drops_are_told_by_reason/1,
         responses_are_told_by_method_and_code/1, durations_are_told/1,
         free_ports_are_told_by_address/1, nobody_is_named/1, what_runs_is_told/1,
         dashboard_and_alerts_fit_the_metrics/1]).

-import(turn_kit, [doc/1, allocated/1, bind/3, channel/3, challenged/1, open/1, open/2, call/4,
                   delete/1, peer/0, peer_next/1, peer_send/3, next/1, code/1]).
-import(http_kit, [get/2]).

-define(TOKEN, <<"let me in, please">>).
-define(CHANNEL, 16#4000).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [metrics_are_well_formed, names_end_as_types_do, every_metric_of_the_table_is_there,
     counters_move_while_an_allocation_lives, counters_of_the_relay_move, drops_are_told_by_reason,
     responses_are_told_by_method_and_code, durations_are_told, free_ports_are_told_by_address,
     nobody_is_named, what_runs_is_told, dashboard_and_alerts_fit_the_metrics].

init_per_suite(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    #{chain := Pem, chain_file := File} = Certificate =
        stream_kit:certificate(Dir, ec, "a.example"),
    [{server, turn_kit:start_server(#{http_listen => {{127, 0, 0, 1}, 0}, http_token => ?TOKEN,
                                      accounting_file => <<"/dev/null">>,
                                      accounting_spool => list_to_binary([Dir, "accounting"]),
                                      certificates => [Certificate],
                                      client_authorities => [#{pem => Pem, file => File}],
                                      tls_client_verify => optional,
                                      userdb => #{kind => sqlite,
                                                  file => list_to_binary([Dir, "turndb"])},
                                      database_sha256 => true})}
     | Config].

end_per_suite(Config) ->
    turn_kit:stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).

value(Server, Name, Labels) -> exposition:value(http_kit:metrics(Server), Name, Labels).

%% Counted in the relay by the batch: asked for until they are there.
await_value(Server, Name, Labels, Wanted) ->
    http_kit:comes(fun() ->
        case value(Server, Name, Labels) of
            Value when Value >= Wanted -> Value;
            _ -> not_yet
        end
    end).

metrics_are_well_formed(Config) ->
    doc("every line of /metrics is what Prometheus' format 0.0.4 says a line may be"),
    ?assert(map_size(http_kit:metrics(server(Config))) > 30).

names_end_as_types_do(_Config) ->
    doc("counters and nothing else end in _total; what Prometheus adds to the name of a histogram "
        "ends no other name, or promtool complains"),
    Families = meerkat_metrics:families(),
    [?assertEqual({Name, Type =:= counter}, {Name, ends(Name, [<<"_total">>])})
     || #{name := Name, type := Type} <- Families],
    ?assertEqual([], [Name || #{name := Name} <- Families,
                              ends(Name, [<<"_count">>, <<"_sum">>, <<"_bucket">>])]).

ends(Name, Ends) ->
    lists:any(fun(End) -> binary:longest_common_suffix([Name, End]) =:= byte_size(End) end, Ends).

every_metric_of_the_table_is_there(Config) ->
    doc("the table that docs/monitoring.md is made from is what a running server tells"),
    Served = http_kit:metrics(server(Config)),
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

counters_of_the_relay_move(Config) ->
    doc("requests answered without Erlang and with it, ICMP, runs taken and sent as one"),
    Server = server(Config),
    Before = http_kit:metrics(Server),
    _ = turn_kit:ask(open(Server), turn_kit:request(binding, [])),
    420 = code(turn_kit:ask(open(Server), turn_kit:request(binding, [{16#7abc, <<>>}]))),
    #{socket := Socket} = Client = allocated(Server),
    438 = code(call(Client, refresh, [], #{nonce => <<"stale">>})),
    #{address := Nobody} = Gone = peer(),
    ok = turn_kit:close(Gone),
    _ = turn_kit:success(turn_kit:permit(Client, [Nobody])),
    ok = turn_kit:send_to(Client, Nobody, <<"anybody home">>),
    _ = next(Client),
    Peer = peer(),
    _ = turn_kit:success(bind(Client, ?CHANNEL, Peer)),
    %% Four datagrams in one go (UDP_SEGMENT), as from a network card that joins them.
    ok = inet:setopts(Socket, [{raw, 17, 103, <<500:32/native>>}]),
    Message = stun_model:encode_channel(?CHANNEL, binary:copy(<<"x">>, 496)),
    ok = turn_kit:send(Client, binary:copy(Message, 4)),
    [_ = peer_next(Peer) || _ <- lists:seq(1, 4)],
    ok = delete(Client),
    [_ = await_value(Server, Name, #{}, exposition:value(Before, Name, #{}) + By)
     || {Name, By} <- [{<<"meerkat_bindings_total">>, 1}, {<<"meerkat_challenges_total">>, 1},
                       {<<"meerkat_stale_nonces_total">>, 1}, {<<"meerkat_bad_requests_total">>, 1},
                       {<<"meerkat_requests_total">>, 1}, {<<"meerkat_answers_total">>, 1},
                       {<<"meerkat_granted_total">>, 3},
                       {<<"meerkat_allocations_created_total">>, 1},
                       {<<"meerkat_icmp_errors_total">>, 1},
                       {<<"meerkat_gro_runs_total">>, 1}, {<<"meerkat_gro_datagrams_total">>, 4},
                       {<<"meerkat_gso_runs_total">>, 1}, {<<"meerkat_gso_datagrams_total">>, 4}]],
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
        #{<<"meerkat_ports_free">> := #{samples := Samples}} = http_kit:metrics(Server),
        maps:from_list([{Family, N} || {_, #{<<"family">> := Family}, N} <- Samples])
    end,
    #{<<"ipv4">> := V4, <<"ipv6">> := V6} = Free(),
    Client = allocated(Server),
    ?assertEqual(#{<<"ipv4">> => V4 - 1, <<"ipv6">> => V6}, Free()),
    ok = delete(Client),
    #{<<"meerkat_ports">> := #{samples := All}} = http_kit:metrics(Server),
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
    Families = http_kit:metrics(server(Config)),
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
dashboard_and_alerts_fit_the_metrics(Config) ->
    doc("the Grafana dashboard and the alert rules use metrics and labels that a server has"),
    Families = http_kit:metrics(server(Config)),
    Dashboard = monitoring("grafana-dashboard.json"),
    {ok, #{<<"panels">> := Panels}} = meerkat_json:decode(Dashboard),
    ?assert(length(Panels) >= 8),
    Queries = [Expr || #{<<"targets">> := Targets} <- Panels,
                       #{<<"expr">> := Expr} <- Targets],
    {match, Rules} = re:run(monitoring("alerts.yml"), "^ +expr: (.+)$",
                            [global, multiline, {capture, all_but_first, binary}]),
    ?assert(length(Rules) >= 6),
    [fits(Query, Families) || Query <- Queries ++ lists:append(Rules)].

monitoring(File) ->
    Root = filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."]),
    {ok, Text} = file:read_file(filename:join([Root, "docs", "monitoring", File])),
    Text.

%% Whether a server is there at all Prometheus knows by itself.
fits(<<"up{job=\"meerkat\"} ", _/binary>>, _Families) ->
    ok;
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
