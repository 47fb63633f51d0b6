%% The server as a person meets it: started by rel/bin/meerkatctl in a process of its own, asked,
%% checked with a client, stopped; and everything that can keep it from starting. What it prints is
%% taken at its word: the checks use the credentials and the command it shows.
-module(foreground_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/file.hrl").

-import(ctl_kit, [start/2, start/3, stop/2, signal/2, ended/1, until/2, run/2, run/3, json/2,
                  line/2,
                  port/1, socket/1]).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([relay_inherits_no_secrets/1, hung_relay_ends_with_a_killed_node/1,
         clock_set_after_the_start/1, users_without_a_secret/1,
         nobody_without_a_secret/1, no_address_to_tell/1,
         serves_what_it_prints/1, certificate_of_its_own/1, answers_its_command/1,
         takes_another_configuration/1,
         drains_when_told/1, ends_when_drained/1, ends_at_the_deadline/1,
         undrain_calls_the_end_off/1, sigterm_drains/1, sigterm_keeps_a_deadline/1,
         second_sigterm_ends_at_once/1, sigterm_to_the_group_is_one/1,
         ends_though_nobody_reads_stderr/1, interrupt_ends_at_once/1,
         command_shows_configuration/1, stops_on_signals/1, reads_its_files_again_on_hangup/1,
         bad_configuration_starts_nothing/1, bad_arguments/1, port_in_use/1,
         http_port_in_use/1, command_shows_what_is_in_force/1, command_warns_of_a_configuration/1,
         second_server_says_so/1, dead_server_leaves_no_harm/1, socket_is_nobody_elses/1,
         root_asks_another_users_server/1, warnings_come_with_the_log/1,
         secrets_stay_out_of_the_log/1]).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

init_per_testcase(_, Config) ->
    ctl_kit:prepare(Config).

end_per_testcase(_, Config) ->
    ctl_kit:clean(Config).

%% A person pastes the block; every part of it must hold.
serves_what_it_prints(Config) ->
    {Server, Block} = start(Config, []),
    {match, Turns} = re:run(Block, "^ *TURN +(\\S+)$", [global, multiline,
                                                       {capture, all_but_first, list}]),
    [[Turn], [OverTcp]] = Turns,
    ?assertMatch({match, _}, re:run(Turn, "^turn:127\\.0\\.0\\.1:[0-9]+\\?transport=udp$")),
    ?assertMatch({match, _}, re:run(OverTcp, "^turn:127\\.0\\.0\\.1:[0-9]+\\?transport=tcp$")),
    ?assertEqual("stun" ++ string:slice(hd(string:split(Turn, "?")), 4), line("STUN", Block)),
    {User, Password} = {line("username", Block), line("password", Block)},
    ?assertEqual("[{\"urls\":[\"" ++ line("STUN", Block) ++ "\"]},{\"urls\":[\"" ++ Turn ++
                 "\",\"" ++ OverTcp ++ "\"],\"username\":\"" ++ User ++
                 "\",\"credential\":\"" ++ Password ++ "\"}]",
                 line("iceServers", Block)),
    [begin
         {0, Checked} = run(Config, ["check", Uri, "--user", User, "--password", Password]),
         ?assertMatch({match, _}, re:run(Checked, "the server is usable from here"))
     end || [Uri] <- Turns],
    {1, _} = run(Config, ["check", Turn, "--user", User, "--password", "wrong"]),
    stop(Server, "TERM").

%% --self-signed: what is printed for TLS works as it stands there.
certificate_of_its_own(Config) ->
    State = proplists:get_value(priv_dir, Config),
    {Server, Block} = start(Config, ["foreground", "--self-signed"],
                            [{"TLS_PORT", "0"}, {"STATE_DIRECTORY", State}]),
    ?assertEqual("self-signed, " ++ filename:join(State, "self-signed.pem"),
                 line("certificate", Block)),
    Fingerprint = line("fingerprint", Block),
    {match, [Turns]} = re:run(Block, "^ *TURN +(turns:\\S+)$", [multiline,
                                                               {capture, all_but_first, list}]),
    Check = ["check", Turns, "--user", line("username", Block),
             "--password", line("password", Block), "--fingerprint"],
    {match, [Turns, Fingerprint]} =
        re:run(Block, "by TLS .* check '(\\S+)' .*--fingerprint (\\S+)\n",
               [{capture, all_but_first, list}]),
    {0, Checked} = run(Config, Check ++ [Fingerprint]),
    ?assertMatch({match, _}, re:run(Checked, "by TLS 1\\.3")),
    {1, _} = run(Config, Check ++ [lists:append(lists:duplicate(32, "00"))]),
    stop(Server, "TERM").

%% It parses what comes from the network: what it does not need it does not have.
relay_inherits_no_secrets(Config) ->
    {Server, _} = start(Config, [{"HTTP_TOKEN", "tok3n of http"}, {"XMPP_SECRET", "s3cret of xmpp"},
                                 {"TURN_USERNAME", "dora"}, {"TURN_PASSWORD", "pa55 of dora"}]),
    {0, Said} = run(Config, ["doctor"]),
    {match, [Pid]} = re:run(Said, "relay program is process ([0-9]+)",
                            [{capture, all_but_first, list}]),
    {ok, Env} = file:read_file("/proc/" ++ Pid ++ "/environ"),
    ?assertMatch({_, _}, binary:match(Env, <<"MEERKAT_RUN_DIR=">>)),
    [?assertEqual(nomatch, binary:match(Env, Secret))
     || Secret <- [<<"hunter2">>, <<"tok3n of http">>, <<"s3cret of xmpp">>, <<"pa55 of dora">>]],
    stop(Server, "TERM").

%% A program that stands still reads no end of file, and would keep the ports from the next node.
hung_relay_ends_with_a_killed_node(Config) ->
    {Server, Block} = start(Config, [{"SURVIVE", "0"}]),
    {0, Said} = run(Config, ["doctor"]),
    {match, [Pid]} = re:run(Said, "relay program is process ([0-9]+)",
                            [{capture, all_but_first, list}]),
    Node = parent(parent(Pid)),     % erl_child_setup is between them
    ok = process_kit:hold(Pid),
    "" = os:cmd("kill -KILL " ++ Node),
    receive {Server, {exit_status, Status}} -> ?assertEqual(137, Status) end,
    Port = port(line("TURN", Block)),
    turn_kit:eventually(fun() ->
        case gen_udp:open(Port, [{ip, {127, 0, 0, 1}}]) of
            {ok, Socket} -> gen_udp:close(Socket) =:= ok;
            {error, eaddrinuse} -> false
        end
    end).

parent(Pid) ->
    {ok, Stat} = file:read_file("/proc/" ++ Pid ++ "/stat"),
    [_, Behind] = string:split(Stat, ") "),
    [_State, Parent | _] = string:lexemes(Behind, " "),
    binary_to_list(Parent).

%% No clock of its own at boot, a VM resumed, chronyc makestep: from then on the new time counts,
%% for what it is shown and for what it makes.
clock_set_after_the_start(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "clock"),
    Set = fun(To) ->
        ok = file:write_file(File ++ ".new", To ++ "\n"),
        ok = file:rename(File ++ ".new", File)
    end,
    [Library | _] = filelib:wildcard("/usr/lib/*/faketime/libfaketimeMT.so.1"),
    ok = Set("+2d"),
    {Server, Block} = start(Config, [{"LD_PRELOAD", Library}, {"FAKETIME_TIMESTAMP_FILE", File},
                                     {"FAKETIME_NO_CACHE", "1"},
                                     {"FAKETIME_DONT_FAKE_MONOTONIC", "1"}]),
    Now = os:system_time(second),
    Good = fun({User, Password}) ->
        {Status, _} = run(Config, ["check", line("TURN", Block), "--user", User,
                                   "--password", Password]),
        Status =:= 0
    end,
    Made = fun(At) ->
        {User, Password} = meerkat_auth_rest:credentials(<<"hunter2">>, <<"u">>, 600, At),
        {binary_to_list(User), binary_to_list(Password)}
    end,
    Until = fun() ->
        {0, Said} = run(Config, ["credentials", "u", "--ttl", "1h"]),
        {Expiry, ":u"} = string:to_integer(line("username", Said)),
        Expiry - Now - 3600
    end,
    Step = fun() ->
        {_, Findings} = json(Config, ["doctor"]),
        [Text || #{<<"name">> := <<"clock_step">>, <<"text">> := Text} <- Findings]
    end,
    ?assertEqual([true, false, []], [Good(Made(Now + 2 * 86400)), Good(Made(Now)), Step()]),
    ok = Set("+0"),
    ?assertEqual([true, true], [Good(Made(Now)), Good({line("username", Block),
                                                       line("password", Block)})]),
    ?assert(abs(Until()) < 300),
    ?assertMatch([<<"the clock was set 172", _/binary>>], Step()),
    ok = Set("+4d"),
    ?assertEqual([false, true], [Good(Made(Now)), Good(Made(Now + 4 * 86400))]),
    ?assert(abs(Until() - 4 * 86400) < 300),
    ?assertMatch([<<"the clock was set 17", _/binary>>], Step()),
    stop(Server, "TERM").

%% The most usual small set-up: users, and no secret that credentials could be made from.
users_without_a_secret(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "users_only.cfg"),
    ok = file:write_file(File, "secret = ();\n"
                               "users = ( { name = \"dora\"; password = \"of her own\"; } );\n"),
    {Server, Block} = start(Config, [{"CONFIG_FILE", File}, {"STUN_SECRET", ""}]),
    Turn = line("TURN", Block),
    ?assertEqual("dora, each with a password of their own", line("users", Block)),
    ?assertEqual(nomatch, re:run(Block, "iceServers|until|password  ")),
    Who = ["--user", "dora", "--password", "of her own"],
    [begin
         {0, Checked} = run(Config, ["check" | Args]),
         ?assertMatch({match, _}, re:run(Checked, "the server is usable from here"))
     end || Args <- [Who, [Turn | Who]]],
    {1, _} = run(Config, ["check", "--user", "dora", "--password", "wrong"]),
    %% Nobody in particular: it says what is missing, and asks no other server.
    {2, Nobody} = run(Config, ["check"]),
    ?assertEqual("this server has no shared secret that credentials are made from; --user and "
                 "--password say who comes in\n", Nobody),
    {1, _} = run(Config, ["credentials"]),
    {0, _} = run(Config, ["users"]),
    {0, _} = run(Config, ["doctor"]),
    {0, _} = run(Config, ["status"]),
    stop(Server, "TERM").

nobody_without_a_secret(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "nobody.cfg"),
    ok = file:write_file(File, "secret = ();\n"),
    {Server, Block} = start(Config, [{"CONFIG_FILE", File}, {"STUN_SECRET", ""}]),
    ?assertMatch("none, and no secret: " ++ _, line("users", Block)),
    {0, _} = run(Config, ["users", "add", "dora", "--password", "of her own"]),
    {0, _} = run(Config, ["check", "--user", "dora", "--password", "of her own"]),
    stop(Server, "TERM").

%% It listens on IPv6 alone and relays from IPv4: there is no address of its own to tell.
no_address_to_tell(Config) ->
    {Server, Block} = start(Config, [{"LISTEN_IP", "::"}]),
    ?assertMatch("no listener has an address" ++ _, line("test it", Block)),
    {2, Said} = run(Config, ["check"]),
    ?assertMatch("the server that was started here has no address that clients could be told" ++ _,
                 Said),
    stop(Server, "TERM").

%% Without URI and credentials the command finds both.
answers_its_command(Config) ->
    {Server, Block} = start(Config, []),
    {0, Checked} = run(Config, ["check"]),
    ?assertMatch({match, _}, re:run(Checked, "the server is usable from here")),
    {0, Credentials} = run(Config, ["credentials", "carol"]),
    ?assertEqual(line("TURN", Block), line("TURN", Credentials)),
    ?assertMatch({match, _}, re:run(line("username", Credentials), "^[0-9]+:carol$")),
    {0, _} = run(Config, ["check", line("TURN", Credentials),
                          "--user", line("username", Credentials),
                          "--password", line("password", Credentials)]),
    {1, Refused} = run(Config, ["credentials", "a:b"]),
    ?assertMatch({match, _}, re:run(Refused, "none of them a colon")),
    {0, Info} = run(Config, ["info"]),
    ?assertMatch({match, _}, re:run(Info, "allocations => 0")),
    stop(Server, "TERM"),
    {3, NoServer} = run(Config, ["credentials"]),
    ?assertMatch({match, _}, re:run(NoServer, "no server was started here")).

%% What may change is changed by a word; the rest is named, and then nothing is.
takes_another_configuration(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "reloaded.cfg"),
    ok = file:write_file(File, "user_quota = 1;\n"),
    {Server, Block} = start(Config, [{"CONFIG_FILE", File}]),
    Credentials = ["--user", line("username", Block), "--password", line("password", Block)],
    Check = ["check", line("TURN", Block) | Credentials],
    {0, _} = run(Config, ["reload"]),
    ok = file:write_file(File, "user_quota = 2;\nsecret = \"sesame and more\";\n"),
    {0, _} = run(Config, ["reload"]),
    ok = file:write_file(File, "users = ( { name = \"guest\"; password = \"other\"; } );\n"
                               "workers = 7;\n"),
    {1, Refused} = run(Config, ["reload"]),
    ?assertMatch({match, _}, re:run(Refused, "^workers cannot change while the server runs")),
    ok = file:write_file(File, "user_quoat = 3;\n"),
    {1, Wrong} = run(Config, ["reload"]),
    ?assertEqual(File ++ ":1: there is no key \"user_quoat\"; did you mean user_quota?\n", Wrong),
    ok = file:write_file(File, "fleet = ( \"connected\" );\n"),
    {1, Fleet} = run(Config, ["reload"]),
    ?assertMatch({match, _},
                 re:run(Fleet, "\\Q" ++ File ++ "\\E:1: fleet is set, but fleet_secret is not")),
    {1, Fleet} = run(Config, ["config", "check", File]),
    {0, _} = run(Config, Check),
    stop(Server, "TERM").

drains_when_told(Config) ->
    {Server, Block} = start(Config, []),
    Credentials = ["--user", line("username", Block), "--password", line("password", Block)],
    Check = ["check", line("TURN", Block) | Credentials],
    {0, Drained} = run(Config, ["drain", "--stay"]),
    ?assertMatch({match, _}, re:run(Drained, "^0 allocations left; no new ones")),
    {1, Full} = run(Config, Check),
    ?assertMatch({match, _}, re:run(Full, "508")),
    {0, _} = run(Config, ["drain", "192.0.2.7:3478", "--stay"]),
    {0, Info} = run(Config, ["info"]),
    ?assertMatch({match, _}, re:run(Info, "draining => true")),
    {2, NoAddress} = run(Config, ["drain", "example.org"]),
    ?assertMatch({match, _}, re:run(NoAddress, "must be an IP address")),
    Here = "127.0.0.1:" ++ integer_to_list(port(line("TURN", Block))),
    {1, Itself} = run(Config, ["drain", Here]),
    ?assertMatch({match, _}, re:run(Itself, "an address of this server itself")),
    {0, "allocations are taken again\n"} = run(Config, ["undrain"]),
    {0, _} = run(Config, Check),
    stop(Server, "TERM").

%% Not ready, and no room for others; gone when the last allocation is.
ends_when_drained(Config) ->
    {Server, Block} = start(Config, []),
    Client = turn_kit:allocated(ctl_kit:turn(Block)),
    {0, Drained} = run(Config, ["drain"]),
    ?assertMatch({match, _}, re:run(Drained, "^1 allocation left; no new ones")),
    {0, #{<<"ready">> := false, <<"draining">> := true, <<"allocations">> := 1}} =
        json(Config, ["status"]),
    refused(Block),
    ok = turn_kit:delete(Client),
    ?assertMatch({match, _}, re:run(ended(Server), "drained: no allocation is left")).

ends_at_the_deadline(Config) ->
    {Server, Block} = start(Config, []),
    _ = turn_kit:allocated(ctl_kit:turn(Block)),
    {0, #{<<"allocations">> := 1}} = json(Config, ["drain", "--deadline", "1s"]),
    ?assertMatch({match, _}, re:run(ended(Server), "the time to drain is over: 1 allocation left")).

undrain_calls_the_end_off(Config) ->
    {Server, Block} = start(Config, []),
    Client = turn_kit:allocated(ctl_kit:turn(Block)),
    {0, _} = run(Config, ["drain", "--deadline", "3600"]),
    {0, #{<<"ends_in_s">> := Seconds}} = json(Config, ["status"]),
    ?assert(Seconds > 3500),
    {0, "allocations are taken again\n"} = run(Config, ["undrain"]),
    {0, #{<<"ready">> := true, <<"ends_in_s">> := null}} = json(Config, ["status"]),
    ok = turn_kit:delete(Client),
    Again = turn_kit:allocated(ctl_kit:turn(Block)),
    ok = turn_kit:delete(Again),
    stop(Server, "TERM").

sigterm_drains(Config) ->
    {Server, Block} = start(Config, [{"DRAIN_DEADLINE", "3600"}]),
    Client = turn_kit:allocated(ctl_kit:turn(Block)),
    ok = signal(Server, "TERM"),
    _ = until(Server, "SIGTERM: draining 1 allocation for at most 3600 s"),
    {0, #{<<"ready">> := false}} = json(Config, ["status"]),
    refused(Block),
    ok = turn_kit:delete(Client),
    ended(Server).

sigterm_keeps_a_deadline(Config) ->
    {Server, Block} = start(Config, [{"DRAIN_DEADLINE", "1"}]),
    _ = turn_kit:allocated(ctl_kit:turn(Block)),
    ?assertMatch({match, _}, re:run(stop(Server, "TERM"), "the time to drain is over")).

second_sigterm_ends_at_once(Config) ->
    {Server, Block} = start(Config, [{"DRAIN_DEADLINE", "3600"}]),
    _ = turn_kit:allocated(ctl_kit:turn(Block)),
    ok = signal(Server, "TERM"),
    _ = until(Server, "SIGTERM: draining 1"),
    ?assertEqual(nomatch, re:run(stop(Server, "TERM"), "drained|time to drain")).

%% As `timeout`, supervisors of processes and systemd's default send it: the shell in front of the
%% node and the node get it both, in any order, and it counts once.
sigterm_to_the_group_is_one(Config) ->
    {Server, Block} = start(Config, [{"DRAIN_DEADLINE", "3600"}]),
    Client = turn_kit:allocated(ctl_kit:turn(Block)),
    {os_pid, Pid} = erlang:port_info(Server, os_pid),
    Group = "/bin/kill -TERM -- -" ++ integer_to_list(Pid),
    ?assertEqual("", os:cmd(Group)),
    _ = until(Server, "SIGTERM: draining 1 allocation for at most 3600 s"),
    {0, #{<<"draining">> := true, <<"allocations">> := 1}} = json(Config, ["status"]),
    ok = turn_kit:delete(Client),
    ?assertMatch({match, _}, re:run(ended(Server), "drained: no allocation is left")),
    %% A second one to the group ends it.
    {Again, OtherBlock} = start(Config, [{"DRAIN_DEADLINE", "3600"}]),
    _ = turn_kit:allocated(ctl_kit:turn(OtherBlock)),
    {os_pid, Other} = erlang:port_info(Again, os_pid),
    Second = "/bin/kill -TERM -- -" ++ integer_to_list(Other),
    ?assertEqual("", os:cmd(Second)),
    _ = until(Again, "SIGTERM: draining 1"),
    ?assertEqual("", os:cmd(Second)),
    ?assertEqual(nomatch, re:run(ended(Again), "drained|time to drain")).

%% Its log goes into a pipe that becomes full, for whoever has the other end reads no more.
ends_though_nobody_reads_stderr(Config) ->
    Root = filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."]),
    Pipe = filename:join(proplists:get_value(priv_dir, Config), "unread"),
    Line = "mkfifo \"$0\" && exec 4<>\"$0\" && exec \"$1\" foreground 2>\"$0\"",
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", Line, Pipe, filename:join([Root, "rel", "bin", "meerkatctl"])]},
                      {env, [{"STUN_SECRET", "hunter2"}, {"SECRET_AS_PASSWORD", "true"},
                             {"LISTEN_IP", "127.0.0.1"},
                             {"LISTEN_PORT", "0"}, {"RELAY_IP", "127.0.0.1"},
                             {"REBAR_PROFILE", "test"},
                             {"MEERKAT_RUN_DIR", proplists:get_value(run_dir, Config)}]},
                      binary, exit_status]),
    Block = until(Port, "stop it +Ctrl-C\n\n"),
    _ = os:cmd("dd if=/dev/zero of='" ++ Pipe ++ "' bs=4k count=64 oflag=nonblock"),
    %% More lines than the port of stderr takes in by itself.
    {0, _} = run(Config, ["loglevel", "debug"]),
    [{1, _} = run(Config, ["check", line("TURN", Block), "--user", "u", "--password", "wrong"])
     || _ <- [1, 2, 3]],
    _ = stop(Port, "TERM").

interrupt_ends_at_once(Config) ->
    {Server, Block} = start(Config, [{"DRAIN_DEADLINE", "3600"}]),
    _ = turn_kit:allocated(ctl_kit:turn(Block)),
    ?assertEqual(nomatch, re:run(stop(Server, "INT"), "drain")).

refused(Block) ->
    Client = turn_kit:challenged(turn_kit:open(ctl_kit:turn(Block))),
    turn_kit:expect(508, turn_kit:allocate(Client)).

command_shows_configuration(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "shown.cfg"),
    ok = file:write_file(File, "realm = \"r\";\nsecret = \"hunter2\";\nmax_prot = 1;\n"),
    {1, Wrong} = run(Config, ["config", "check", File]),
    ?assertEqual(File ++ ":3: there is no key \"max_prot\"; did you mean max_port?\n", Wrong),
    {1, Wrong} = run(Config, ["config", "show", File]),
    ok = file:write_file(File, "realm = \"r\";\nsecret = \"hunter2\";\n"),
    {0, _} = run(Config, ["config", "check", File]),
    {0, Shown} = run(Config, ["config", "show", File]),
    ?assertMatch({match, _}, re:run(Shown, "realm +\"r\" +\\Q" ++ File ++ "\\E:1\n")),
    ?assertMatch({match, _}, re:run(Shown, "listen_ip +127\\.0\\.0\\.1 +LISTEN_IP\n")),
    ?assertEqual(nomatch, re:run(Shown, "hunter2")),
    {2, NoCommand} = run(Config, ["frobnicate"]),
    ?assertMatch("there is no command \"frobnicate\"" ++ _, NoCommand),
    {0, Usage} = run(Config, ["help"]),
    ?assertMatch({match, _}, re:run(Usage, "^usage: meerkatctl")).

%% In order: the socket is gone, the status is 0, the port is free.
stops_on_signals(Config) ->
    [begin
         {Server, Block} = start(Config, []),
         stop(Server, Signal),
         ?assertEqual({error, enoent}, file:read_link_info(socket(Config))),
         {ok, Socket} = gen_udp:open(port(line("TURN", Block)), [{ip, {127, 0, 0, 1}}]),
         ok = gen_udp:close(Socket)
     end || Signal <- ["TERM", "INT"]].

%% SIGHUP is `reload` without an answer: what came of it is in the log.
reads_its_files_again_on_hangup(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    [File, Secret] = [filename:join(Dir, Name) || Name <- ["hup.cfg", "hup.secret"]],
    ok = file:write_file(File, "secret_file = \"hup.secret\";\n"),
    ok = file:write_file(Secret, "before the rotation\n"),
    {Server, Block} = start(Config, [{"CONFIG_FILE", File}, {"STUN_SECRET", false}]),
    Check = fun(Password) ->
        {Status, _} = run(Config, ["check", line("TURN", Block), "--user", "u",
                                   "--password", Password]),
        Status
    end,
    ?assertEqual(0, Check("before the rotation")),
    ok = file:write_file(Secret, "after it\nbefore the rotation\n"),
    signal(Server, "HUP"),
    _ = until(Server, "SIGHUP: the configuration was read again and is in force\n"),
    ?assertEqual([0, 0], [Check(Password) || Password <- ["before the rotation", "after it"]]),
    ok = file:write_file(Secret, "after it\n"),
    signal(Server, "HUP"),
    _ = until(Server, "SIGHUP: the configuration was read again and is in force\n"),
    ?assertEqual([1, 0], [Check(Password) || Password <- ["before the rotation", "after it"]]),
    ok = file:write_file(File, "secret_file = \"hup.secret\";\nrelay_pi = \"::1\";\n"),
    signal(Server, "HUP"),
    Log = until(Server, "SIGHUP: the configuration is as it was\n"),
    ?assertNotEqual(nomatch, string:find(Log, "SIGHUP: " ++ File ++ ":2: there is no key "
                                              "\"relay_pi\"; did you mean relay_ip?\n")),
    ?assertEqual(0, Check("after it")),
    stop(Server, "TERM").


bad_configuration_starts_nothing(Config) ->
    {Status, Output} = run(Config, ["foreground"], [{"LISTEN_PORT", "x"}, {"RELAY_IP", "::"}]),
    ?assertEqual(1, Status),
    ?assertMatch([_, _], string:lexemes(Output, "\n")),
    ?assertMatch({match, _}, re:run(Output, "^LISTEN_PORT is \"x\"; it must be")),
    ?assertMatch({match, _}, re:run(Output, "\nRELAY_IP is \"::\"; it must be")),
    ?assertEqual({error, enoent}, file:read_link_info(socket(Config))),
    {1, Missing} = run(Config, ["foreground", "-c", "/nowhere/at/all.cfg"]),
    ?assertMatch({match, _}, re:run(Missing, "^/nowhere/at/all\\.cfg: ")).

bad_arguments(Config) ->
    {2, Output} = run(Config, ["foreground", "--config", "x"]),
    ?assertEqual("usage: meerkatctl foreground [-c FILE] [--self-signed]\n", Output).

%% The sentence comes last and names the address.
port_in_use(Config) ->
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    {1, Output} = run(Config, ["foreground"], [{"LISTEN_PORT", integer_to_list(Port)}]),
    ?assertMatch({match, _}, re:run(lists:last(string:lexemes(Output, "\n")),
                                    "127\\.0\\.0\\.1:" ++ integer_to_list(Port))),
    ?assertEqual(nomatch, re:run(Output, "is serving")),
    %% Once, in the log as a line like others, and not as what supervisors make of it.
    ?assertMatch({match, [_]}, re:run(Output, "cannot listen", [global])),
    ?assertMatch({match, _}, re:run(Output, " error: cannot listen")),
    ?assertEqual(nomatch, re:run(Output, "supervisor")),
    ok = gen_udp:close(Socket).

http_port_in_use(Config) ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    {1, Output} = run(Config, ["foreground"], [{"HTTP_LISTEN", integer_to_list(Port)}]),
    Wanted = "cannot serve HTTP on 127.0.0.1:" ++ integer_to_list(Port)
        ++ ": address already in use",
    ?assertMatch({match, _}, re:run(Output, [" error: \\Q", Wanted, "\\E\n$"])),
    ?assertMatch({match, [_]}, re:run(Output, "cannot serve", [global])),
    ?assertEqual(nomatch, re:run(Output, "supervisor")),
    {1, Doctor} = run(Config, ["doctor"], [{"HTTP_LISTEN", integer_to_list(Port)}]),
    ?assertMatch({match, _}, re:run(Doctor, "error +http +" ++ Wanted)),
    ok = gen_tcp:close(Socket),
    {0, _} = run(Config, ["doctor"], [{"HTTP_LISTEN", integer_to_list(Port)}]).

%% What is in force, wherever it came from, and in whole words.
command_shows_what_is_in_force(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "force.cfg"),
    ok = file:write_file(File, "user_quota = 3;\n"),
    {Server, Block} = start(Config, [{"CONFIG_FILE", File}, {"HTTP_LISTEN", "127.0.0.1:0"}]),
    {0, Shown} = run(Config, ["config", "show"]),
    [?assertMatch({match, _}, re:run(Shown, Line, [multiline]), {Line, Shown})
     || Line <- ["^user_quota +3 +\\Q" ++ File ++ "\\E:1$",
                 "^secret +\\(1, not shown\\) +STUN_SECRET$",
                 "^max_allocations_per_address +0 +default$", "^software +none +default$"]],
    {0, Rows} = json(Config, ["config", "show"]),
    ?assertEqual(length(meerkat_config_schema:rows()), length(Rows)),
    Values = maps:from_list([{Key, Value} || #{<<"key">> := Key, <<"value">> := Value} <- Rows]),
    ?assertMatch(#{<<"user_quota">> := 3, <<"udp_enabled">> := true, <<"software">> := null,
                   <<"listen_ip">> := [<<"127.0.0.1">>], <<"relay_ip">> := [<<"127.0.0.1">>],
                   <<"secret">> := [<<"(not shown)">>], <<"allowed_peers">> := [],
                   <<"log_level">> := <<"info">>, <<"realm">> := _}, Values),
    {0, Status} = run(Config, ["status"]),
    {match, [Http]} = re:run(Block, "serving HTTP on (http://[0-9.:]+/)",
                             [{capture, all_but_first, list}]),
    ?assertMatch({match, _}, re:run(Status, "\n  http +" ++ Http ++ "\n")),
    ?assertMatch({0, "no allocation is left: the server ends\n"}, run(Config, ["drain"])),
    _ = ended(Server).

%% What is right, but hardly meant.
command_warns_of_a_configuration(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "nobody.cfg"),
    ok = file:write_file(File, "secret = ();\nrealms = ( { name = \"r\"; } );\n"
                               "relay_ip = \"127.0.0.1\";\n"),
    {0, Said} = run(Config, ["config", "check", File]),
    [?assertMatch({match, _}, re:run(Said, Part), {Part, Said})
     || Part <- [":1: secret is none and there are no users: nobody can allocate\n",
                 ":2: realms: \"r\": no listener has this realm", "nobody.cfg: good\n"]],
    {0, #{<<"warnings">> := [_, _ | _], <<"mistakes">> := []}} =
        json(Config, ["config", "check", File]).

%% It serves, but leaves the command to the first.
second_server_says_so(Config) ->
    {First, FirstBlock} = start(Config, []),
    {Second, SecondBlock} = start(Config, []),
    ?assertMatch({match, _}, re:run(SecondBlock, "another server answers at " ++ socket(Config))),
    {0, Credentials} = run(Config, ["credentials"]),
    ?assertEqual(line("TURN", FirstBlock), line("TURN", Credentials)),
    stop(Second, "TERM"),
    {0, _} = run(Config, ["credentials"]),
    stop(First, "TERM").

%% A socket that a killed server left behind is replaced.
dead_server_leaves_no_harm(Config) ->
    Dir = proplists:get_value(run_dir, Config),
    ok = file:make_dir(Dir),
    ok = file:change_mode(Dir, 8#700),
    {ok, Dead} = gen_tcp:listen(0, [{ip, {local, socket(Config)}}]),
    ok = gen_tcp:close(Dead),
    {ok, _} = file:read_link_info(socket(Config)),
    {3, _} = run(Config, ["credentials"]),
    {Server, _} = start(Config, []),
    {0, _} = run(Config, ["credentials"]),
    stop(Server, "TERM").

socket_is_nobody_elses(Config) ->
    {Server, _} = start(Config, []),
    {ok, #file_info{mode = Socket}} = file:read_link_info(socket(Config)),
    ?assertEqual(8#600, Socket band 8#777),
    {ok, #file_info{mode = Directory}} = file:read_link_info(filename:dirname(socket(Config))),
    ?assertEqual(8#700, Directory band 8#777),
    stop(Server, "TERM"),
    %% Others could enter: no socket there, and the server says why.
    ok = file:change_mode(filename:dirname(socket(Config)), 8#755),
    {Careful, Block} = start(Config, []),
    ?assertMatch({match, _}, re:run(Block, "with mode 0700")),
    ?assertEqual({error, enoent}, file:read_link_info(socket(Config))),
    stop(Careful, "TERM").

%% As that of a service is; what others may enter is not believed.
root_asks_another_users_server(Config) ->
    case os:cmd("id -u") of
        "0\n" ->
            Directory = filename:dirname(socket(Config)),
            {Server, _} = start(Config, []),
            ok = file:change_owner(Directory, 65534),
            {0, _} = run(Config, ["status"]),
            ok = file:change_mode(Directory, 8#755),
            {3, _} = run(Config, ["status"]),
            ok = file:change_mode(Directory, 8#700),
            stop(Server, "TERM");
        _ ->
            {skip, "only root may ask others' servers"}
    end.

warnings_come_with_the_log(Config) ->
    {Server, Block} = start(Config, [{"MONGOOSEICE_QUIC", "true"}]),
    ?assertMatch({match, _}, re:run(Block, "warning: MONGOOSEICE_QUIC is not a variable Meerkat")),
    stop(Server, "TERM").

%% Whatever a report prints, configured secrets are struck out of it.
secrets_stay_out_of_the_log(_) ->
    Format = fun(Report) ->
        Event = #{level => error, msg => Report, meta => #{time => 0}},
        unicode:characters_to_binary(meerkat_log:format(Event, #{secrets => [<<"hunter2">>]}))
    end,
    [?assertEqual(nomatch, re:run(Format(Report), "hunter2"))
     || Report <- [{"~p", [#{secrets => [<<"hunter2">>]}]},
                   {string, <<"the secret is hunter2.">>},
                   {report, #{state => {secret, "hunter2"}}}]],
    ?assertMatch(<<_:32/binary, " error: a\\x1b[2J, b\n">>, Format({"~ts", ["a\e[2J\nb"]})).
