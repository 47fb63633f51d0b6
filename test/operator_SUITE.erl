%% What an operator is shown of a server that has more than one realm, and which server meerkatctl
%% speaks with: one that was started here, one embedded in another program, one that drains.
-module(operator_SUITE).

-include_lib("stdlib/include/assert.hrl").

-import(ctl_kit, [start/2, stop/2, run/2, run/3, json/2, line/2]).
-import(turn_kit, [doc/1]).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([realms_are_seen_into/1, the_banner_tells_who_comes_in/1, the_banner_tells_other_realms/1,
         check_tells_of_the_server_here/1, a_redirection_is_told/1,
         an_embedded_server_is_asked_by_its_socket/1, an_embedded_server_ends_alone/1,
         another_server_than_expected_is_named/1]).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

init_per_testcase(_, Config) ->
    ctl_kit:prepare(Config).

end_per_testcase(_, Config) ->
    ctl_kit:clean(Config).

file(Config, Name, Text) ->
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(File, Text),
    File.

realms_file(Config) ->
    file(Config, "realms.cfg",
         ["user_quota = 9;\n",
          "extra_listeners = ( { ip = \"127.0.0.1\"; port = 0; realm = \"a.example\"; } );\n",
          "realms = ( { name = \"a.example\"; secret = \"of a\"; max_bps = 7;\n"
          "  users = ( { name = \"ann\"; password = \"anns own\"; } ); } );\n"]).

realms_are_seen_into(Config) ->
    doc("config show and users have each realm's keys and users, --realm those of one; no secrets"),
    File = realms_file(Config),
    {Server, _} = start(Config, [{"CONFIG_FILE", File}]),
    {0, Shown} = run(Config, ["config", "show"]),
    [?assertMatch({match, _}, re:run(Shown, Pattern, [multiline]), {Pattern, Shown})
     || Pattern <- ["^user_quota +9 +/.*realms\\.cfg:1$", "^realm \"a\\.example\":$",
                    "^  secret +\\(1, not shown\\) +/.*realms\\.cfg:3$",
                    "^  max_bps +7 +/.*realms\\.cfg:3$", "^  users +\"ann\" +/.*realms\\.cfg:3$"]],
    {0, Rows} = json(Config, ["config", "show", "--realm", "a.example"]),
    ?assertEqual([], [Row || Row <- Rows, maps:get(<<"realm">>, Row, none) =/= <<"a.example">>]),
    Of = fun(Key) ->
        [Row] = [R || #{<<"key">> := K} = R <- Rows, K =:= Key],
        {maps:get(<<"value">>, Row), maps:get(<<"origin">>, Row)}
    end,
    ?assertMatch({7, _}, Of(<<"max_bps">>)),
    ?assertMatch({9, _}, Of(<<"user_quota">>)),
    ?assertMatch({match, _}, re:run(element(2, Of(<<"user_quota">>)), "as for the server$")),
    {0, OfFile} = json(Config, ["config", "show", File, "--realm", "a.example"]),
    ?assertEqual(length(Rows), length(OfFile)),
    {1, "there is no realm \"b.example\"; there is " ++ _} =
        run(Config, ["config", "show", "--realm", "b.example"]),
    {0, _} = run(Config, ["users", "add", "bea", "--realm", "a.example", "--password", "beas own"]),
    {0, Users} = json(Config, ["users", "--realm", "a.example"]),
    ?assertEqual([{<<"ann">>, <<"configuration">>}, {<<"bea">>, <<"added">>}],
                 [{Name, From} || #{<<"name">> := Name, <<"from">> := From,
                                    <<"realm">> := <<"a.example">>} <- Users]),
    {0, Listed} = run(Config, ["users"]),
    ?assertMatch({match, _},
                 re:run(Listed, "USER +REALM +FROM .*\nann +a\\.example +configuration")),
    {0, _} = run(Config, ["users", "remove", "bea", "--realm", "a.example"]),
    {1, _} = run(Config, ["users", "--realm", "b.example"]),
    Lines = stop(Server, "TERM"),
    ?assertEqual(nomatch, re:run([Shown, Listed, Lines], "anns own|beas own|of a\\b")).

the_banner_tells_who_comes_in(Config) ->
    doc("where a user is configured and no secret: the user, and not a secret that was drawn"),
    {Server, Block} = start(Config, [{"STUN_SECRET", ""}, {"TURN_USERNAME", "alice"},
                                     {"TURN_PASSWORD", "wonderland"}, {"HTTP_LISTEN", "0"}]),
    ?assertEqual("alice, each with a password of their own", line("users", Block)),
    ?assertMatch({match, _}, re:run(line("test it", Block),
                                    " check --user 'alice' --password PASSWORD$")),
    ?assertEqual(nomatch, re:run(Block, "guest|wonderland|no secret is set")),
    {match, [Url]} = re:run(Block, "status +(http://127\\.0\\.0\\.1:[0-9]+/)\n",
                            [{capture, all_but_first, list}]),
    ?assertEqual(Url ++ "ice", line("try it", Block)),
    {0, _} = run(Config, ["check", "--user", "alice", "--password", "wonderland"]),
    stop(Server, "TERM").

the_banner_tells_other_realms(Config) ->
    {Server, Block} = start(Config, [{"CONFIG_FILE", realms_file(Config)}]),
    ?assertMatch({match, _}, re:run(line("realm", Block),
                                    "^\"a\\.example\": turn:127\\.0\\.0\\.1:[0-9]+"
                                    "\\?transport=udp, credentials from its secret, users ann$")),
    ?assertEqual(nomatch, re:run(Block, "anns own|of a\\b")),
    stop(Server, "TERM").

check_tells_of_the_server_here(Config) ->
    doc("which socket told of it and whose process it is; that it drains, where it does"),
    {Server, Block} = start(Config, []),
    Socket = ctl_kit:socket(Config),
    {0, Usable} = run(Config, ["check"]),
    ?assertMatch({match, _}, re:run(Usable, "\n  the server of root, process [0-9]+, asked by "
                                            ++ Socket ++ "\n")),
    {0, _} = run(Config, ["drain", "--stay"]),
    {1, Drains} = run(Config, ["check"]),
    ?assertMatch({match, _}, re:run(Drains, "\n  it was told to drain: .*undrain")),
    {1, #{<<"draining">> := true, <<"usable">> := false, <<"socket">> := Named}} =
        json(Config, ["check"]),
    ?assertEqual(list_to_binary(Socket), Named),
    %% What is asked from afar cannot know, but says what may be.
    {1, Afar} = run(Config, ["check", line("TURN", Block), "--user", "u", "--password", "hunter2"]),
    ?assertMatch({match, _}, re:run(Afar, "Hint: does the server drain\\?")),
    stop(Server, "TERM").

a_redirection_is_told(Config) ->
    doc("300: where the allocations were made"),
    {Server, Block} = start(Config, [{"LISTEN_IP", "127.0.0.1"}]),
    turn_kit:with_server(#{secrets => [<<"hunter2">>], users => #{}, realm => <<"other">>},
                         fun(#{listeners := [{_, Port} | _]}) ->
        Other = "127.0.0.1:" ++ integer_to_list(Port),
        {0, _} = run(Config, ["drain", Other, "--stay"]),
        {0, Checked} = run(Config, ["check", line("TURN", Block), "--user", "u",
                                    "--password", "hunter2"]),
        ?assertMatch({match, _},
                     re:run(Checked, "sent on to " ++ Other ++ " \\(300\\), relayed at"))
    end),
    stop(Server, "TERM").

%% In a program that embeds it: this node.
embedded(Config, Fun) ->
    {ok, _} = application:ensure_all_started(meerkat),
    Dir = proplists:get_value(run_dir, Config),
    Options = #{name => calls, listen_ip => "127.0.0.1", listen_port => 0, relay_ip => "127.0.0.1",
                secret => "hunter2"},
    {ok, Tree} = supervisor_kit:start([meerkat:child_spec(Options),
                                       meerkat_admin_socket:child_spec(Dir, calls)]),
    try
        Fun(["-s", filename:join(Dir, "admin.sock")])
    after
        true = unlink(Tree),
        true = exit(Tree, shutdown)
    end.

an_embedded_server_is_asked_by_its_socket(Config) ->
    doc("status, users, credentials and check as of one of Meerkat's own"),
    embedded(Config, fun(Here) ->
        Elsewhere = [{"MEERKAT_RUN_DIR", "/nowhere"}],
        {0, Status} = run(Config, Here ++ ["status"], Elsewhere),
        ?assertMatch({match, _}, re:run(Status, "^Meerkat .*: ready\n")),
        {3, _} = run(Config, ["status"], Elsewhere),
        %% Behind the command too, and doctor looks at the server that is meant.
        {0, "Meerkat " ++ _} = run(Config, ["status" | Here], Elsewhere),
        {0, Doctor} = run(Config, ["doctor" | Here], Elsewhere),
        ?assertMatch({match, _}, re:run(Doctor, "a server runs here, its relay program is ")),
        ["-s", Socket] = Here,
        Nobody = ["-s", Socket ++ ".not"],
        No = "no server answers at " ++ Socket ++ ".not",
        [?assertEqual({Command, {3, No ++ "\n"}}, {Command, run(Config, Command ++ Nobody)})
         || Command <- [["status"], ["config", "show"], ["check"]]],
        {1, Missed} = run(Config, ["doctor" | Nobody]),
        ?assertMatch({match, _}, re:run(Missed, "^  error +server +" ++ No)),
        {0, _} = run(Config, Here ++ ["users", "add", "carol", "--password", "c"], Elsewhere),
        {0, Users} = run(Config, Here ++ ["users"], Elsewhere),
        ?assertMatch({match, _}, re:run(Users, "carol")),
        {0, Checked} = run(Config, Here ++ ["check"], Elsewhere),
        ?assertMatch({match, _}, re:run(Checked, "usable from here")),
        try
            {0, "warning\n"} = run(Config, Here ++ ["loglevel", "warning"], Elsewhere),
            ?assertNotEqual(warning, maps:get(level, logger:get_primary_config())),
            {0, "warning\n"} = run(Config, Here ++ ["loglevel"], Elsewhere)
        after
            ok = logger:unset_application_level(meerkat)    % this node has other suites
        end,
        {1, Reload} = run(Config, Here ++ ["reload"], Elsewhere),
        ?assertEqual("this server was not started from a file or the environment\n", Reload)
    end).

an_embedded_server_ends_alone(Config) ->
    doc("drain ends the server and not the node it is in; its socket says that it is gone"),
    embedded(Config, fun(Here) ->
        {0, _} = run(Config, Here ++ ["drain"]),
        turn_kit:eventually(fun() -> not meerkat_registry:is_running(calls) end),
        {1, "the server calls does not run\n"} = run(Config, Here ++ ["status"])
    end).

another_server_than_expected_is_named(Config) ->
    doc("where none runs at the place of this user's, and another does: who is asked is told"),
    {Server, _} = start(Config, []),
    Dir = proplists:get_value(run_dir, Config),
    %% As root finds a service's: the directory is another user's.
    ok = file:change_owner(Dir, 65534),
    {0, Asked} = run(Config, ["status"]),
    ?assertMatch("asking the server of " ++ _, Asked),
    ok = file:change_owner(Dir, meerkat_unix:uid()),
    {0, "Meerkat " ++ _} = run(Config, ["status"]),
    stop(Server, "TERM").
