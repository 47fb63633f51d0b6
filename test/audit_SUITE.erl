%% What an operator does leaves a trace: who, what and what came of it, by whatever way it was done,
%% whatever the level of the log, and with no secret in it. And what a reload changes is told.
-module(audit_SUITE).

-include_lib("stdlib/include/assert.hrl").

-import(ctl_kit, [start/2, stop/2, run/2, json/2, line/2, turn/1, until/2, signal/2]).
-import(turn_kit, [doc/1, with_server/2, allocated/3]).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([each_thing_done_by_meerkatctl_is_told/1, lines_are_for_people_too/1,
         signals_are_told/1, by_http/1, from_within_the_node/1, the_kernel_says_who_asks/1,
         a_reload_tells_what_changed/1, a_dry_run_changes_nothing/1, changes_of_all_kinds/1]).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

init_per_testcase(_, Config) ->
    ctl_kit:prepare(Config).

end_per_testcase(_, Config) ->
    ctl_kit:clean(Config).

each_thing_done_by_meerkatctl_is_told(Config) ->
    doc("an event for each, of the user that the kernel names, though only errors are logged"),
    {Server, Block} = start(Config, [{"LOG_FORMAT", "json"}, {"LOG_LEVEL", "error"}]),
    _ = allocated(turn(Block), [], #{user => <<"alice">>}),
    _ = allocated(turn(Block), [], #{user => <<"bob">>}),
    {0, #{<<"allocations">> := [_, #{<<"session">> := Id}]}} =
        json(Config, ["allocations", "--sort", "user"]),
    Done = [{0, ["disconnect", binary_to_list(Id)],
             #{<<"action">> => <<"disconnect">>, <<"id">> => Id, <<"ended">> => 1}},
            {1, ["disconnect", "9-9"],
             #{<<"action">> => <<"disconnect">>, <<"outcome">> => <<"refused">>,
               <<"detail">> => <<"there is no allocation 9-9">>}},
            {0, ["revoke", "alice"],
             #{<<"action">> => <<"revoke">>, <<"user">> => <<"alice">>, <<"ended">> => 1}},
            {0, ["users", "add", "carol", "--password", "no-one-shall-see"],
             #{<<"action">> => <<"add_user">>, <<"user">> => <<"carol">>,
               <<"proof">> => <<"password">>}},
            {0, ["users", "remove", "carol"],
             #{<<"action">> => <<"remove_user">>, <<"user">> => <<"carol">>}},
            {0, ["credentials", "dave", "--ttl", "1h"],
             #{<<"action">> => <<"credentials">>, <<"user">> => <<"dave">>, <<"ttl_s">> => 3600}},
            {0, ["loglevel", "critical"],
             #{<<"action">> => <<"loglevel">>, <<"log_level">> => <<"critical">>}},
            {0, ["reload"], #{<<"action">> => <<"reload">>, <<"changes">> => []}},
            {0, ["drain", "192.0.2.7:3478", "--stay"],
             #{<<"action">> => <<"drain">>, <<"to">> => <<"192.0.2.7:3478">>, <<"stay">> => true,
               <<"allocations">> => 0}},
            {0, ["undrain"], #{<<"action">> => <<"undrain">>}},
            {0, ["upgrade"], #{<<"action">> => <<"upgrade">>, <<"allocations">> => 0,
                               <<"lost">> => 0}}],
    Credentials = [Printed || {Status, Args, _} <- Done,
                              {Exit, Printed} <- [run(Config, Args)],
                              ?assertEqual({Status, Args}, {Exit, Args}) =:= ok,
                              hd(Args) =:= "credentials"],
    _ = [{0, _} = run(Config, Args) || Args <- [["status"], ["allocations"], ["users"],
                                                ["loglevel"], ["reload", "--dry-run"]]],
    Lines = stop(Server, "TERM"),
    Events = [Object || Line <- string:lexemes(Lines, "\n"),
                        {ok, #{<<"event">> := <<"audit">>} = Object}
                            <- [meerkat_json:decode(unicode:characters_to_binary(Line))]],
    {Asked, [Last | _]} = lists:split(length(Done), Events),
    ?assertMatch(#{<<"action">> := <<"drain">>, <<"way">> := <<"signal">>,
                   <<"by">> := <<"SIGTERM">>}, Last),
    [begin
         ?assertEqual(Wanted, maps:with(maps:keys(Wanted), Event)),
         ?assertMatch(#{<<"level">> := <<"notice">>, <<"way">> := <<"meerkatctl">>,
                        <<"by">> := <<"root (uid 0, process ", _/binary>>}, Event)
     end || {{_, _, Wanted}, Event} <- lists:zip(Done, Asked)],
    [?assertEqual(nomatch, string:find(Lines, Secret))
     || Secret <- ["no-one-shall-see", "hunter2", line("password", hd(Credentials))]].

lines_are_for_people_too(Config) ->
    {Server, _} = start(Config, []),
    {0, _} = run(Config, ["users", "add", "carol", "--password", "x"]),
    {1, _} = run(Config, ["users", "remove", "nobody"]),
    {0, _} = run(Config, ["drain", "--deadline", "2h"]),
    Lines = ctl_kit:ended(Server),
    [?assertMatch({match, _}, re:run(Lines, "notice: audit: root \\(uid 0, process [0-9]+.*\\) by "
                                            "meerkatctl: " ++ Wanted ++ "\n"))
     || Wanted <- ["add user carol with a password: done, until the server ends",
                   "remove user nobody: refused: there is no user of this name",
                   "drain within 7200 s: 0 allocations left"]],
    %% No report of OTP's says it again.
    ?assertEqual(nomatch, string:find(Lines, "application: ")).

signals_are_told(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "signals.cfg"),
    ok = file:write_file(File, "user_quota = 1;\n"),
    {Server, Block} = start(Config, [{"CONFIG_FILE", File}, {"DRAIN_DEADLINE", "600"}]),
    _ = allocated(turn(Block), [], #{user => <<"alice">>}),
    ok = file:write_file(File, "user_quota = 2;\n"),
    ok = signal(Server, "HUP"),
    _ = until(Server, "audit: SIGHUP: reload: user_quota: 1 -> 2\n"),
    ok = signal(Server, "TERM"),
    _ = until(Server, "audit: SIGTERM: drain within 600 s: 1 allocation left\n"),
    ok = signal(Server, "INT"),
    Rest = ctl_kit:ended(Server),
    ?assertMatch({match, _}, re:run(Rest, "audit: SIGQUIT: stop: the server ends")),
    ?assertEqual(nomatch, string:find(Rest, "application: ")).

by_http(_Config) ->
    Overrides = #{http_listen => {{127, 0, 0, 1}, 0}, http_token => <<"the token">>},
    with_server(Overrides, fun(Server) ->
        Lines = log_kit:logged(fun() ->
            #{code := 200} = http_kit:get(Server, "/credentials?username=eve&ttl=60",
                                          [{"authorization", "Bearer the token"}]),
            #{code := 400} = http_kit:get(Server, "/credentials?username=a%3Ab",
                                          [{"authorization", "Bearer the token"}])
        end),
        ?assertMatch(["audit: 127.0.0.1 by HTTP: credentials for user eve (60 s): made",
                      "audit: 127.0.0.1 by HTTP: credentials for user a:b (86400 s): refused: "
                      "a user has " ++ _], Lines)
    end).

from_within_the_node(_Config) ->
    doc("whoever calls the functions of `meerkat`: a program's process, a shell; each once"),
    with_server(#{}, fun(#{name := Name}) ->
        {ok, Config} = meerkat:configuration(#{listen_ip => "127.0.0.1", listen_port => 0}),
        Lines = log_kit:logged(notice, fun() ->
            ok = meerkat:drain(Name),
            ok = meerkat:undrain(Name),
            {ok, memory} = meerkat:add_user(Name, <<"carol">>, <<"secret word">>),
            {ok, 0} = meerkat:revoke(Name, <<"alice">>, 60),
            0 = meerkat:disconnect(Name, "9-9"),
            {error, _} = meerkat:reload(Name, Config#{workers => 7})
        end),
        By = "audit: process " ++ pid_to_list(self()) ++ ": ",
        Told = [string:prefix(Line, By) || "audit: " ++ _ = Line <- Lines],
        ?assertMatch(["drain: done", "undrain: done",
                      "add user carol with a password: done, until the server ends",
                      "revoke user alice (60 s): 0 allocations ended",
                      "disconnect 9-9: refused: there is no such allocation",
                      "reload: refused: " ++ _], Told)
    end).

the_kernel_says_who_asks(Config) ->
    Path = ctl_kit:socket(Config),
    ok = filelib:ensure_dir(Path),
    {ok, Listening} = gen_tcp:listen(0, [{ip, {local, Path}}]),
    {ok, _Here} = gen_tcp:connect({local, Path}, 0, []),
    {ok, There} = gen_tcp:accept(Listening),
    {ok, #{uid := Uid, pid := Pid} = Peer} = meerkat_unix:peer(There),
    ?assertEqual({meerkat_unix:uid(), os:getpid()}, {Uid, integer_to_list(Pid)}),
    ?assertMatch("root (uid 0, process " ++ _,
                 lists:flatten(meerkat_unix:describe(Peer#{uid := 0}))),
    ?assertEqual("uid 4294967294 (process 7, logged in as root)",
                 lists:flatten(meerkat_unix:describe(#{uid => 4294967294, pid => 7, login => 0}))).

%% -------------------------------------------------------------------------- what a reload changes

a_reload_tells_what_changed(Config) ->
    doc("keys with what they were and are; of secrets that they changed"),
    File = filename:join(proplists:get_value(priv_dir, Config), "changes.cfg"),
    ok = file:write_file(File, "user_quota = 1;\n"),
    {Server, _} = start(Config, [{"CONFIG_FILE", File}]),
    {0, "nothing has changed\n"} = run(Config, ["reload"]),
    ok = file:write_file(File, "user_quota = 2;\nhttp_token = \"first token\";\n"
                               "users = ( { name = \"ann\"; password = \"pass one\"; } );\n"),
    {0, Text} = run(Config, ["reload"]),
    ?assertEqual("users: added \"ann\"\nuser_quota: 1 -> 2\nhttp_token: none -> (not shown)\n",
                 Text),
    ok = file:write_file(File, "user_quota = 2;\nhttp_token = \"second token\";\n"
                               "users = ( { name = \"ann\"; password = \"pass two\"; } );\n"),
    {0, #{<<"changes">> := Changes, <<"dry_run">> := false}} = json(Config, ["reload"]),
    ?assertEqual([#{<<"key">> => <<"users">>,
                    <<"note">> => <<"another password or key of \"ann\"">>},
                  #{<<"key">> => <<"http_token">>, <<"note">> => <<"changed">>}], Changes),
    Lines = stop(Server, "TERM"),
    ?assertMatch({match, _}, re:run(Lines, "reload: users: another password or key of \"ann\", "
                                           "http_token: changed\n")),
    ?assertEqual(nomatch, re:run(Lines, "first token|second token|pass one|pass two")).

a_dry_run_changes_nothing(Config) ->
    doc("it says what would change, or every reason against it; the server goes on as it was"),
    File = filename:join(proplists:get_value(priv_dir, Config), "dry.cfg"),
    ok = file:write_file(File, "user_quota = 1;\n"),
    {Server, _} = start(Config, [{"CONFIG_FILE", File}]),
    ok = file:write_file(File, "user_quota = 2;\n"),
    {0, "user_quota: 1 -> 2\na dry run: nothing was changed\n"} =
        run(Config, ["reload", "--dry-run"]),
    {0, #{<<"dry_run">> := true, <<"changes">> := [#{<<"was">> := 1, <<"is">> := 2}]}} =
        json(Config, ["reload", "--dry-run"]),
    {ok, Udp} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Tcp} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {{ok, UdpPort}, {ok, TcpPort}} = {inet:port(Udp), inet:port(Tcp)},
    ok = file:write_file(File, io_lib:format("extra_listeners = ( { ip = \"127.0.0.1\"; port = ~b; "
                                             "} );\nhttp_listen = ~b;\n", [UdpPort, TcpPort])),
    {1, Taken} = run(Config, ["reload", "--dry-run"]),
    [?assertMatch({match, _}, re:run(Taken, Wanted))
     || Wanted <- [io_lib:format("cannot listen on udp 127.0.0.1:~b: address already", [UdpPort]),
                   io_lib:format("cannot serve HTTP on 127.0.0.1:~b: address", [TcpPort])]],
    ok = file:write_file(File, "workers = 7;\n"),
    {1, "workers cannot change while" ++ _} = run(Config, ["reload", "--dry-run"]),
    ok = file:write_file(File, "user_quoat = 1;\n"),
    {1, _} = run(Config, ["reload", "--dry-run"]),
    {0, Settings} = run(Config, ["config", "show"]),
    ?assertMatch({match, _}, re:run(Settings, "user_quota +1 ")),
    Lines = stop(Server, "TERM"),
    ?assertEqual(nomatch, re:run(Lines, "audit: .*reload")).

changes_of_all_kinds(_Config) ->
    doc("keys, parts of realms, users, certificates and what no text shows; each once"),
    Base = #{users => #{<<"a">> => {password, <<"1">>}, <<"b">> => {password, <<"2">>}},
             realms => [#{name => <<"x">>, user_quota => 1, secrets => [<<"s1">>]},
                        #{name => <<"gone">>}]},
    {ok, Old} = loaded(#{secret => "one"}),
    {ok, New} = loaded(#{secret => "two", listen_port => 4000, software => "Meerkat"}),
    Was = maps:merge(Old, Base),
    Is = maps:merge(New, #{users => #{<<"b">> => {password, <<"3">>},
                                      <<"c">> => {password, <<"2">>}},
                           added_users => #{default => #{<<"d">> => {password, <<"5">>}}},
                           certificates => [other],
                           realms => [#{name => <<"x">>, user_quota => 2, secrets => [<<"s2">>],
                                        max_bps => 10},
                                      #{name => <<"new">>}]}),
    ?assertEqual([], meerkat_config_changes:between(Was, Was)),
    ?assertEqual(["listen_port: 3478 -> 4000", "tls_cert: changed", "secret: changed",
                  "users: added \"c\"; removed \"a\"; another password or key of \"b\"",
                  "realm \"gone\": realms: removed", "realm \"new\": realms: added",
                  "realm \"x\": max_bps: that of the server -> 10",
                  "realm \"x\": secret: changed", "realm \"x\": user_quota: 1 -> 2",
                  "software: none -> \"Meerkat\"", "users_file: added \"d\""],
                 [unicode:characters_to_list(meerkat_config_changes:text(Change))
                  || Change <- meerkat_config_changes:between(Was, Is)]).

loaded(Terms) ->
    Host = #{route => fun(inet) -> {ok, {192, 0, 2, 2}}; (inet6) -> none end,
             first => fun(_) -> none end,
             bindable => fun(_) -> true end},
    {ok, Config, _} = meerkat_config:load(#{terms => Terms, env => [], host => Host}),
    {ok, Config}.
