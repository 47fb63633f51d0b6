%% The commands of meerkatctl against a server in a process of its own: what they say to people and
%% to programs, what they change, how they exit. Clients are turn_kit's.
-module(cli_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/file.hrl").

-import(ctl_kit, [start/2, stop/2, until/2, run/2, run/3, fed/3, json/2, line/2, port/1, turn/1]).
-import(turn_kit, [allocated/1, allocated/3, delete/1, permit/2, peer/0, expect/2, success/1]).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([everything_is_there_in_json/1, tells_how_it_is/1, finds_allocations/1,
         shows_an_allocation/1, pages_of_allocations/1, disconnects/1, disconnects_a_user/1,
         names_reach_no_terminal/1, credentials_for_a_time/1, users_come_and_go/1,
         users_are_kept_in_a_file/1, what_cannot_be_kept_is_not_done/1,
         configured_users_are_not_touched/1, a_wrong_users_file/1,
         changes_the_log_level/1, doctor_looks_at_a_server/1, doctor_finds_what_is_wrong/1,
         doctor_asks_who_keeps_the_clock/1, arguments_in_the_posix_locale/1, answers_of_strangers/1,
         doctor_tells_who_refuses_io_uring/1, doctor_asks_outside/1,
         usage_is_told/1, usage_that_is_wrong_is_told_on_stderr_alone/1,
         json_has_one_form/1, a_reader_that_is_gone_is_no_crash/1, version_is_told/1,
         no_server_is_a_status_of_its_own/1,
         the_interface_of_the_shell/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

init_per_testcase(_, Config) ->
    ctl_kit:prepare(Config).

end_per_testcase(_, Config) ->
    ctl_kit:clean(Config).

everything_is_there_in_json(Config) ->
    {Server, Block} = start(Config, []),
    Client = allocated(turn(Block)),
    {0, #{<<"allocations">> := [#{<<"session">> := Id}]}} = json(Config, ["allocations"]),
    [?assertMatch({Args, {0, _}}, {Args, json(Config, Args)})
     || Args <- [["status"], ["info"], ["check"], ["allocations"],
                 ["allocation", binary_to_list(Id)], ["users"], ["loglevel"], ["reload"],
                 ["credentials", "carol"], ["config", "show"], ["doctor"],
                 ["drain", "--stay"], ["undrain"]]],
    {0, #{<<"allocations">> := 1, <<"lost">> := 0, <<"sockets">> := Sockets,
          <<"gap_ms">> := Gap, <<"pid">> := Relay}} = json(Config, ["upgrade"]),
    ?assert(Sockets > 1),
    ?assert(Gap > 0),
    {0, #{<<"relay_pid">> := Relay, <<"relay_replacements">> := 1}} = json(Config, ["status"]),
    {0, #{<<"usable">> := true, <<"steps">> := [_ | _]}} = json(Config, ["--json", "check"]),
    {1, #{<<"error">> := <<"there is no allocation 9-9">>}} = json(Config, ["allocation", "9-9"]),
    ok = delete(Client),
    stop(Server, "TERM").

tells_how_it_is(Config) ->
    {Server, Block} = start(Config, []),
    Client = allocated(turn(Block)),
    {0, Text} = run(Config, ["status"]),
    [?assertMatch({match, _}, re:run(Text, Pattern, [multiline]), {Pattern, Text})
     || Pattern <- ["^Meerkat [0-9.]+ .*: ready$", "listening +udp 127\\.0\\.0\\.1:[0-9]+$",
                    "relaying +127\\.0\\.0\\.1, ports 49152-65535$", "allocations +1 of 16384$",
                    "from clients +[0-9]+ packets, ", "answers +success 1$"]],
    {0, #{<<"ready">> := true, <<"relay">> := <<"up">>, <<"allocations">> := 1,
          <<"draining">> := false, <<"listeners">> := [_],
          <<"traffic">> := #{<<"client_packets">> := Packets}}} = json(Config, ["status"]),
    ?assert(Packets >= 2),
    ok = delete(Client),
    stop(Server, "TERM").

finds_allocations(Config) ->
    {Server, Block} = start(Config, []),
    Turn = turn(Block),
    {Quiet, Busy} = {allocated(Turn, [], #{user => <<"alice">>}),
                     allocated(Turn, [], #{user => <<"bob">>})},
    #{address := {Ip, Port} = Address} = Peer = peer(),
    _ = success(turn_kit:bind(Busy, 16#4000, Peer)),
    ok = turn_kit:channel(Busy, 16#4000, <<"hello">>),
    {_, <<"hello">>} = turn_kit:peer_next(Peer),
    Later = allocated(Turn, [], #{user => time_limited("alice")}),
    Users = fun(Args) ->
        {0, #{<<"allocations">> := Rows}} = json(Config, ["allocations" | Args]),
        [User || #{<<"user">> := User} <- Rows]
    end,
    Timed = time_limited("alice"),
    ?assertEqual([<<"alice">>, <<"bob">>, Timed], Users([])),
    ?assertEqual([<<"alice">>, Timed], Users(["--user", "alice"])),
    ?assertEqual([<<"alice">>, Timed], Users(["--user=" ++ "alice"])),
    ?assertEqual([Timed], Users(["--user", binary_to_list(Timed)])),
    ?assertEqual([<<"bob">>], Users(["--peer", inet:ntoa(Ip)])),
    ?assertEqual([<<"bob">>], Users(["--peer", meerkat_text:address(Address)])),
    ?assertEqual([], Users(["--peer", meerkat_text:address({Ip, Port + 1})])),
    ?assertEqual([], Users(["--peer", "192.0.2.1"])),
    ?assertEqual([<<"bob">>], Users(["--sort", "bytes", "--limit", "1"])),
    ?assertEqual([<<"alice">>], Users(["--sort", "age", "--limit", "1"])),
    ?assertEqual([<<"alice">>, Timed, <<"bob">>], Users(["--sort", "user"])),
    {0, Text} = run(Config, ["allocations", "--limit", "2", "--sort", "bytes"]),
    ?assertMatch([["ID", "USER" | _], [_, "bob" | _], _, ["2", "of", "3"]],
                 [string:lexemes(Line, " ") || Line <- string:lexemes(Text, "\n")]),
    [ok = delete(Client) || Client <- [Quiet, Busy, Later]],
    {0, "no allocations\n"} = run(Config, ["allocations"]),
    stop(Server, "TERM").

%% The same name each time it is asked for.
time_limited(Name) ->
    iolist_to_binary(["4102444800:", Name]).

shows_an_allocation(Config) ->
    {Server, Block} = start(Config, []),
    Client = allocated(turn(Block), [], #{user => <<"bob">>}),
    #{address := Address} = Peer = peer(),
    _ = success(turn_kit:bind(Client, 16#4001, Peer)),
    ok = turn_kit:channel(Client, 16#4001, <<"12345">>),
    {Relayed, <<"12345">>} = turn_kit:peer_next(Peer),
    ok = turn_kit:peer_send(Peer, Relayed, <<"123">>),
    ?assertEqual(stun_model:encode_channel(16#4001, <<"123">>), turn_kit:next(Client)),
    ok = turn_kit:channel(Client, 16#4002, <<"nobody">>),
    ok = turn_kit:fence(Client),
    {0, #{<<"allocations">> := [#{<<"session">> := Id}]}} = json(Config, ["allocations"]),
    {0, Details} = json(Config, ["allocation", binary_to_list(Id)]),
    PeerText = list_to_binary(meerkat_text:address(Address)),
    ?assertMatch(#{<<"session">> := Id, <<"user">> := <<"bob">>,
                   <<"client_packets">> := 1, <<"client_bytes">> := 5,
                   <<"peer_packets">> := 1, <<"peer_bytes">> := 3,
                   <<"dropped">> := 1, <<"drops">> := #{<<"no_channel">> := 1},
                   <<"permissions">> := [#{<<"peer">> := <<"127.0.0.1">>}],
                   <<"channels">> := [#{<<"number">> := 16#4001, <<"peer">> := PeerText,
                                        <<"expires_ms">> := _}]}, Details),
    {0, Text} = run(Config, ["allocation", binary_to_list(Id)]),
    [?assertMatch({match, _}, re:run(Text, Pattern, [multiline]), {Pattern, Text})
     || Pattern <- [["^allocation ", Id, "$"], "user +bob$",
                    "client +127\\.0\\.0\\.1:[0-9]+ by udp$",
                    "relayed +127\\.0\\.0\\.1:[0-9]+$", "from client +1 packets, 5 B$",
                    "from peers +1 packets, 3 B$", "dropped +1: no_channel 1$",
                    "permission +127\\.0\\.0\\.1, 4m[0-9]+s left$",
                    ["channel +0x4001 to ", PeerText, ", 9m[0-9]+s left$"]]],
    ok = delete(Client),
    stop(Server, "TERM").

%% More than the relay tells in one frame, of both workers.
pages_of_allocations(_Config) ->
    turn_kit:with_server(#{}, fun(#{name := Name} = Server) ->
        Clients = [allocated(Server) || _ <- lists:seq(1, 200)],
        {200, Rows} = meerkat_sessions:list(Name, #{}),
        ?assertEqual(lists:sort([Relayed || #{relayed := Relayed} <- Clients]),
                     lists:sort([Relayed || #{relayed := [Relayed]} <- Rows])),
        ?assertEqual([], [Row || Row <- Rows, not is_map_key(client_bytes, Row)]),
        ?assertMatch({200, [_, _, _]}, meerkat_sessions:list(Name, #{sort => bytes, limit => 3}))
    end).

%% Its client hears nothing, and 437 with the next word; the others stay.
disconnects(Config) ->
    {Server, Block} = start(Config, []),
    Turn = turn(Block),
    Client = allocated(Turn, [], #{user => <<"bob">>}),
    Other = allocated(Turn, [], #{user => <<"alice">>}),
    {0, #{<<"allocations">> := [#{<<"session">> := Id}]}} =
        json(Config, ["allocations", "--user", "bob"]),
    {0, "1 allocation ended\n"} = run(Config, ["disconnect", binary_to_list(Id)]),
    ?assertMatch({match, _}, re:run(until(Server, "allocation ended .*\n"),
                                    "allocation ended \\(admin\\): user bob")),
    expect(437, permit(Client, [peer()])),
    _ = success(permit(Other, [peer()])),
    {1, Gone} = run(Config, ["disconnect", binary_to_list(Id)]),
    ?assertEqual("there is no allocation " ++ binary_to_list(Id) ++ "\n", Gone),
    ok = delete(Other),
    stop(Server, "TERM").

disconnects_a_user(Config) ->
    {Server, Block} = start(Config, []),
    Turn = turn(Block),
    _ = [allocated(Turn, [], #{user => User}) || User <- [<<"bob">>, <<"bob">>, <<"alice">>]],
    {0, #{<<"ended">> := 2}} = json(Config, ["disconnect", "--user", "bob"]),
    {0, #{<<"total">> := 1}} = json(Config, ["allocations", "--user", "alice"]),
    {1, "no allocation of user bob\n"} = run(Config, ["disconnect", "--user", "bob"]),
    {0, #{<<"ended">> := 1}} = json(Config, ["disconnect", "--user", "alice"]),
    stop(Server, "TERM").

%% X46.
names_reach_no_terminal(Config) ->
    {Server, Block} = start(Config, []),
    Hostile = <<"a\e[2J\nroot", 0, 255, "\x{202e}"/utf8>>,
    _ = allocated(turn(Block), [], #{user => Hostile}),
    {0, #{<<"allocations">> := [#{<<"session">> := Id}]}} = json(Config, ["allocations"]),
    [begin
         {0, Text} = run(Config, Args),
         ?assertMatch({match, _}, re:run(Text, "a\\\\x1b\\[2J\\\\x0aroot\\\\x00\\\\xff")),
         ?assertEqual([], [C || C <- Text, C < 32 andalso C =/= $\n orelse C > 126])
     end || Args <- [["allocations"], ["allocation", binary_to_list(Id)]]],
    {0, #{<<"ended">> := 1}} = json(Config, ["disconnect", binary_to_list(Id)]),
    stop(Server, "TERM").

credentials_for_a_time(Config) ->
    {Server, _} = start(Config, []),
    {0, #{<<"username">> := Username, <<"password">> := Password, <<"ttl">> := 5400}} =
        json(Config, ["credentials", "dave", "--ttl", "90m"]),
    {ok, Expiry} = meerkat_auth_rest:expiry(Username, expiry),
    ?assert(abs(Expiry - erlang:system_time(second) - 5400) < 60),
    ?assertEqual(meerkat_auth_rest:password(<<"hunter2">>, Username), Password),
    {0, #{<<"ttl">> := 86400, <<"uris">> := [Stun | Turn], <<"iceServers">> := Ice} = Day} =
        json(Config, ["credentials", "dave"]),
    ?assertEqual([<<"udp">>, <<"tcp">>],
                 [Transport || Uri <- Turn,
                               [<<"turn:", _/binary>>, Transport]
                                   <- [binary:split(Uri, <<"?transport=">>)]]),
    ?assertEqual([#{<<"urls">> => [Stun]},
                  #{<<"urls">> => Turn, <<"username">> => maps:get(<<"username">>, Day),
                    <<"credential">> => maps:get(<<"password">>, Day)}], Ice),
    {0, _} = run(Config, ["credentials", "dave", "--realm", "udp.localhost.local"]),
    {1, NoRealm} = run(Config, ["credentials", "dave", "--realm", "udp"]),
    ?assertEqual("there is no realm \"udp\"; there is \"udp.localhost.local\"\n", NoRealm),
    {1, TooLong} = run(Config, ["credentials", "dave", "--ttl", "9999d"]),
    ?assertEqual("a lifetime has 1 to 2592000 seconds\n", TooLong),
    {2, Wrong} = run(Config, ["credentials", "dave", "--ttl", "soon"]),
    ?assertMatch({match, _}, re:run(Wrong, "^--ttl is \"soon\"; it must be a time above 0: "
                                           "seconds, or like")),
    stop(Server, "TERM").

%% An object, or a list of them; numbers are numbers.
json_has_one_form(Config) ->
    {Server, Block} = start(Config, []),
    Client = allocated(turn(Block)),
    Missing = filename:join(proplists:get_value(priv_dir, Config), "missing.cfg"),
    Answers = [{Args, element(2, json(Config, Args))}
               || Args <- [["version"], ["status"], ["info"], ["check"], ["allocations"], ["users"],
                           ["loglevel"], ["loglevel", "info"], ["reload"], ["credentials"],
                           ["config", "show"], ["config", "check", Missing], ["doctor"],
                           ["drain", "--stay"], ["undrain"], ["revoke", "nobody"],
                           ["users", "add", "x", "--password", "y"], ["allocation", "9-9"]]],
    [?assert(is_map(Answer) orelse is_list(Answer) andalso lists:all(fun is_map/1, Answer),
             {Args, Answer}) || {Args, Answer} <- Answers],
    [?assertMatch({Args, Wanted}, {Args, maps:with(maps:keys(Wanted), Answer)})
     || {Args, Wanted} <- [{["drain", "--stay"], #{<<"allocations">> => 1}},
                           {["undrain"], #{<<"draining">> => false}},
                           {["loglevel"], #{<<"level">> => <<"info">>}},
                           {["revoke", "nobody"], #{<<"ended">> => 0}},
                           {["reload"], #{<<"warnings">> => [], <<"changes">> => [],
                                          <<"dry_run">> => false}}],
        {Known, Answer} <- Answers, Known =:= Args],
    #{["status"] := #{<<"os_pid">> := Pid}, ["info"] := #{<<"relay">> := #{<<"workers">> := _}},
      ["config", "check", Missing] := #{<<"mistakes">> := [_], <<"warnings">> := [],
                                        <<"file">> := _}} = maps:from_list(Answers),
    ?assert(is_integer(Pid)),
    ok = delete(Client),
    stop(Server, "TERM").

version_is_told(Config) ->
    _ = application:load(meerkat),
    {ok, Version} = application:get_key(meerkat, vsn),
    Said = "Meerkat " ++ Version ++ " (OTP " ++ erlang:system_info(otp_release) ++ ")\n",
    [?assertEqual({0, Said}, run(Config, Args)) || Args <- [["version"], ["--version"]]].

%% Where a script reads an answer there is none.
usage_that_is_wrong_is_told_on_stderr_alone(Config) ->
    [?assertEqual({Line, {2, ""}}, {Line, shell_line(Config, "$CTL " ++ Line ++ " 2>/dev/null")})
     || Line <- ["", "frob", "users frob", "users add", "users add x --password a --key b",
                 "users add x --key 12", "disconnect", "disconnect 1-1 --user x", "config frob",
                 "config check", "drain here", "loglevel loud", "credentials --ttl 0",
                 "revoke x --ttl 0", "status --loud", "drain --deadline x", "doctor --xmpp h",
                 "foreground --loud", "check a b", "help frob"]].

a_reader_that_is_gone_is_no_crash(Config) ->
    {Server, _} = start(Config, []),
    [begin
         %% The reader has ended before the command begins.
         {0, Said} = shell_line(Config, "mkfifo $DIR/pipe && { sleep 0 <$DIR/pipe & } && "
                                "exec 4>$DIR/pipe && wait && $CTL " ++ Command ++ " >&4; echo $?; "
                                "rm $DIR/pipe"),
         %% All may have been handed over before the reader is missed.
         ?assert(lists:member(Said, ["0\n", "141\n"]), {Command, Said})
     end || Command <- ["help", "status", "check", "config show", "status --json", "version"]],
    stop(Server, "TERM").

%% What a line of shell prints; $CTL is meerkatctl, $DIR a directory.
shell_line(Config, Line) ->
    Dir = proplists:get_value(priv_dir, Config),
    Root = filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."]),
    Env = [{"CTL", filename:join([Root, "rel", "bin", "meerkatctl"])}, {"DIR", Dir},
           {"REBAR_PROFILE", "test"}, {"MEERKAT_RUN_DIR", proplists:get_value(run_dir, Config)}],
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", Line]}, {env, Env}, binary, exit_status, stderr_to_stdout]),
    shell_said(Port, <<>>).

shell_said(Port, Read) ->
    receive
        {Port, {data, Data}} -> shell_said(Port, <<Read/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, unicode:characters_to_list(Read)}
    end.

%% ------------------------------------------------------------------------------------ users

users_come_and_go(Config) ->
    {Server, Block} = start(Config, []),
    Turn = line("TURN", Block),
    Check = fun(Password) ->
        {Status, _} = run(Config, ["check", Turn, "--user", "erin", "--password", Password]),
        Status
    end,
    {0, Until} = fed(Config, "open sesame", ["users", "add", "erin"]),
    ?assertMatch({match, _}, re:run(Until, "until the server ends: the key users_file")),
    {0, 0} = {Check("open sesame"), 0},
    ?assertEqual(1, Check("hunter2")),
    {0, [#{<<"name">> := <<"erin">>, <<"from">> := <<"added">>, <<"proof">> := <<"password">>}]} =
        json(Config, ["users"]),
    {0, #{<<"kept">> := null}} = json(Config, ["users", "add", "erin", "--password", "another"]),
    ?assertEqual({1, 0}, {Check("open sesame"), Check("another")}),
    {0, _} = run(Config, ["reload"]),
    ?assertEqual(0, Check("another")),
    {0, _} = run(Config, ["users", "remove", "erin"]),
    ?assertEqual({1, 0}, {Check("another"), Check("hunter2")}),
    {1, "there is no user of this name\n"} = run(Config, ["users", "remove", "erin"]),
    {2, "a password must not be empty\n"} = fed(Config, "", ["users", "add", "erin"]),
    {1, NoName} = run(Config, ["users", "add", "a\nb", "--password", "x"]),
    ?assertMatch({match, _}, re:run(NoName, "^this is a list where name is \"a\\\\x0ab\"; ")),
    {2, _} = run(Config, ["users", "add", "erin", "--key", "abc"]),
    {0, []} = json(Config, ["users"]),
    stop(Server, "TERM").

%% Nobody else can read it, and it is there after the next start.
users_are_kept_in_a_file(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "users.cfg"),
    Env = [{"USERS_FILE", File}],
    {Server, _} = start(Config, Env),
    {0, Said} = run(Config, ["users", "add", "oscar", "--password", "q\"uo\\te"]),
    ?assertEqual("done, and kept in " ++ File ++ "\n", Said),
    {ok, #file_info{mode = Mode}} = file:read_file_info(File),
    ?assertEqual(8#600, Mode band 8#777),
    Key = crypto:hash(md5, "keyed:udp.localhost.local:secret word"),
    Hex = binary_to_list(binary:encode_hex(Key)),
    {0, _} = run(Config, ["users", "add", "keyed", "--key", Hex]),
    stop(Server, "TERM"),
    {Again, Block} = start(Config, Env),
    Check = ["check", line("TURN", Block)],
    {0, _} = run(Config, Check ++ ["--user", "oscar", "--password", "q\"uo\\te"]),
    {0, [#{<<"name">> := <<"keyed">>, <<"proof">> := <<"key">>}, _]} = json(Config, ["users"]),
    {0, _} = run(Config, ["users", "remove", "oscar"]),
    {0, _} = run(Config, ["users", "remove", "keyed"]),
    stop(Again, "TERM"),
    {Last, _} = start(Config, Env),
    {0, []} = json(Config, ["users"]),
    stop(Last, "TERM").

what_cannot_be_kept_is_not_done(Config) ->
    File = filename:join([proplists:get_value(priv_dir, Config), "nowhere", "users.cfg"]),
    {Server, _} = start(Config, [{"USERS_FILE", File}]),
    {1, Text} = run(Config, ["users", "add", "ivan", "--password", "x"]),
    ?assertEqual("nothing has changed: " ++ File ++ ": no such file or directory\n", Text),
    {0, []} = json(Config, ["users"]),
    stop(Server, "TERM").

configured_users_are_not_touched(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "configured.cfg"),
    ok = file:write_file(File, "users = ( { name = \"frank\"; password = \"sinatra\"; } );\n"),
    {Server, Block} = start(Config, [{"CONFIG_FILE", File}]),
    {1, Add} = run(Config, ["users", "add", "frank", "--password", "x"]),
    ?assertEqual("this user is in the configuration; change it there\n", Add),
    {1, Remove} = run(Config, ["users", "remove", "frank"]),
    ?assertEqual("this user is in the configuration; remove it there\n", Remove),
    {0, _} = run(Config, ["check", line("TURN", Block), "--user", "frank", "--password",
                          "sinatra"]),
    {0, Text} = run(Config, ["users"]),
    ?assertMatch({match, _}, re:run(Text, "\nfrank +udp\\.localhost\\.local +configuration "
                                          "+password +[0-9]+\n")),
    stop(Server, "TERM").

a_wrong_users_file(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "wrong.cfg"),
    ok = file:write_file(File, ["users = ( { name = \"a\"; password = \"b\"; } );\n",
                                "realm = \"r\";\n"]),
    {1, Text} = run(Config, ["foreground"], [{"USERS_FILE", File}]),
    ?assertEqual(File ++ ":2: a users_file has the key users and no other\n", Text),
    ok = file:write_file(File, "users = ( { name = \"a\"; } );\n"),
    {1, NoPassword} = run(Config, ["foreground"], [{"USERS_FILE", File}]),
    ?assertNotEqual(nomatch, string:prefix(NoPassword, File ++ ":1: users is ")).

%% ---------------------------------------------------------------------------------- the rest

changes_the_log_level(Config) ->
    {Server, Block} = start(Config, [{"LOG_LEVEL", "error"}]),
    {0, "error\n"} = run(Config, ["loglevel"]),
    {0, "debug\n"} = run(Config, ["loglevel", "debug"]),
    {1, _} = run(Config, ["check", line("TURN", Block), "--user", "gina", "--password", "wrong"]),
    _ = until(Server, "notice: 401 to 127\\.0\\.0\\.1:[0-9]+: wrong password of user \"gina\""),
    {2, Wrong} = run(Config, ["loglevel", "loud"]),
    ?assertEqual("a log level is \"loud\"; it must be one of debug, info, notice, warning, error, "
                 "critical, alert, emergency\n", Wrong),
    stop(Server, "TERM").

doctor_looks_at_a_server(Config) ->
    {Server, Block} = start(Config, []),
    {0, Findings} = json(Config, ["doctor"]),
    Of = fun(Name) -> hd([F || #{<<"name">> := N} = F <- Findings, N =:= Name]) end,
    ?assertMatch(#{<<"verdict">> := <<"ok">>}, Of(<<"server">>)),
    Listening = iolist_to_binary(["listening on udp 127.0.0.1:",
                                  integer_to_list(port(line("TURN", Block)))]),
    ?assertMatch(#{<<"verdict">> := <<"ok">>, <<"text">> := Listening}, Of(<<"listening">>)),
    ?assertMatch(#{<<"verdict">> := <<"warning">>, <<"remedy">> := _}, Of(<<"address">>)),
    [_ = Of(Name) || Name <- [<<"firewall">>, <<"conntrack">>, <<"nat">>, <<"descriptors">>,
                              <<"memlock">>, <<"io_uring">>, <<"clock">>]],
    ?assertEqual([], [V || #{<<"verdict">> := V} <- Findings,
                           not lists:member(V, [<<"ok">>, <<"warning">>, <<"unknown">>])]),
    {0, Text} = run(Config, ["doctor"]),
    ?assertMatch({match, _}, re:run(Text, "\n0 errors, [0-9]+ warnings?, [0-9]+ cannot be seen")),
    stop(Server, "TERM").

%% Where no server runs: a port that is taken, an address of nobody here, too few descriptors.
doctor_finds_what_is_wrong(Config) ->
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    {1, Taken} = run(Config, ["doctor"], [{"LISTEN_PORT", integer_to_list(Port)}]),
    ?assertMatch({match, _}, re:run(Taken, "error +listening +udp 127.0.0.1:" ++
                                        integer_to_list(Port) ++ " is taken by another program")),
    ok = gen_udp:close(Socket),
    {0, _} = run(Config, ["doctor"]),
    {1, Wrong} = run(Config, ["doctor"], [{"LISTEN_PORT", "many"}]),
    ?assertMatch({match, _}, re:run(Wrong, "error +configuration +LISTEN_PORT is \"many\"")),
    {0, Narrow} = run(Config, ["doctor"], [{"MIN_PORT", "50000"}, {"MAX_PORT", "50099"}]),
    ?assertMatch({match, _}, re:run(Narrow, "warning +port-range +100 ports do not hold")),
    Few = shell("ulimit -n 256; export MAX_ALLOCATIONS=100 TCP_RELAY=true; ", "doctor"),
    ?assertMatch({match, _}, re:run(Few, "warning +descriptors +256 descriptors are allowed, "
                                         "max_allocations 100 needs [0-9]+ with one peer over TCP "
                                         "each \\(tcp_relay\\)")).

%% Root may ask a service of less privilege; that may be anybody's by then.
answers_of_strangers(Config) ->
    ok = filelib:ensure_dir(ctl_kit:socket(Config)),
    ok = file:change_mode(filename:dirname(ctl_kit:socket(Config)), 8#700),
    {ok, Listener} = gen_tcp:listen(0, [{ifaddr, {local, ctl_kit:socket(Config)}}, binary,
                                        {packet, 4}, {active, false}]),
    Answered = fun(Answer) ->
        {Asker, Watch} = spawn_monitor(fun() -> exit(run(Config, ["status"])) end),
        {ok, Connection} = gen_tcp:accept(Listener),
        {ok, _} = gen_tcp:recv(Connection, 0),
        ok = gen_tcp:send(Connection, Answer),
        receive {'DOWN', Watch, process, Asker, Result} -> Result end
    end,
    ?assertEqual({1, "a\\x1b[2Jb\nc\\d\n"},
                 Answered(term_to_binary({error, <<"a\e[2Jb\nc\\d">>}))),
    Unheard = <<131, 119, 20, "an_atom_nobody_knows">>,
    NotOurs = {1, "the server answers what this meerkatctl does not understand\n"},
    ?assertEqual(NotOurs, Answered(Unheard)),
    ?assertEqual(NotOurs, Answered(<<"no term">>)),
    ok = gen_tcp:close(Listener).

%% cron, ssh without LANG, env -i, containers: what is typed is UTF-8 all the same, and so is what
%% is printed; be it a name, a password, or the name of a file.
arguments_in_the_posix_locale(Config) ->
    {Server, Block} = start(Config, [{"LC_ALL", "C"}, {"TURN_USERNAME", ""}]),
    Turn = line("TURN", Block),
    Name = unicode:characters_to_binary("Ren\x{e9} \x{141}"),
    Run = fun(Args) -> run(Config, Args, [{"LC_ALL", "C"}, {"LANG", "C"}]) end,
    {0, Credentials} = Run(["credentials", Name]),
    ?assertMatch({match, _}, re:run(line("username", Credentials), "^[0-9]+:Ren\x{e9} \x{141}$",
                                    [unicode])),
    Made = ["--user", unicode:characters_to_binary(line("username", Credentials)),
            "--password", line("password", Credentials)],
    {0, _} = Run(["check", Turn | Made]),
    Client = allocated(turn(Block), [], #{user => Name}),
    {0, Listed} = Run(["allocations", "--user", Name]),
    ?assertMatch({match, _}, re:run(Listed, "Ren\x{e9}", [unicode])),
    {0, "1 allocation ended, and the credentials there were\n"} = Run(["revoke", Name]),
    {1, _} = Run(["check", Turn | Made]),
    expect(437, permit(Client, [peer()])),
    {1, None} = Run(["disconnect", "--user", Name]),
    ?assertEqual("no allocation of user Ren\x{e9} \x{141}\n", None),
    Password = unicode:characters_to_binary("gr\x{f6}\x{df}e"),
    {0, _} = Run(["users", "add", Name, "--password", Password]),
    {0, [#{<<"name">> := Name}]} = json(Config, ["users"]),
    {0, _} = Run(["check", Turn, "--user", Name, "--password", Password]),
    {0, _} = run(Config, ["check", Turn],
                 [{"LC_ALL", "C"}, {"STUN_SECRET", "hunter2"}]),
    stop(Server, "TERM"),
    Dir = unicode:characters_to_binary(proplists:get_value(priv_dir, Config)),
    [File, Theirs, Missing] = [<<Dir/binary, Name/binary, End/binary>>
                               || End <- [<<".cfg">>, <<".conf">>, <<".none">>]],
    ok = file:write_file(File, ["realm = \"", Name, "\";\n"]),
    ok = file:write_file(Theirs, ["realm=", Name, "\nstatic-auth-secret=s\n"]),
    {0, Shown} = Run(["config", "show", File]),
    ?assertMatch({match, _}, re:run(Shown, "realm +\"Ren\x{e9} \x{141}\"", [unicode])),
    {0, _} = Run(["config", "check", File]),
    {0, Ours} = Run(["import", Theirs]),
    ?assertMatch({match, _}, re:run(Ours, "realm = \"Ren\x{e9} \x{141}\"", [unicode])),
    {1, Nowhere} = Run(["import", Missing]),
    ?assertMatch({match, _}, re:run(Nowhere, "Ren\x{e9} \x{141}.none: no such file", [unicode])).

%% Nobody in the network, and nobody for long: chrony, systemd, the kernel, whoever answers first.
doctor_asks_who_keeps_the_clock(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "keepers"),
    ok = file:make_dir(Dir),
    Play = fun(Name, Script) ->
        File = filename:join(Dir, Name),
        ok = file:write_file(File, ["#!/bin/sh\n", Script, "\n"]),
        ok = file:change_mode(File, 8#755)
    end,
    Told = fun() -> shell(["export PATH=", Dir, ":$PATH; "], "doctor") end,
    Chrony = fun(Offset, Way, Leap) ->
        Play("chronyc", ["echo 'Reference ID    : C0000201 (192.0.2.1)'; echo 'System time     : ",
                         Offset, " seconds ", Way, " of NTP time'; echo 'Leap status     : ", Leap,
                         "'"])
    end,
    Play("timedatectl", "echo no"),
    [begin
         Chrony(Offset, Way, Leap),
         ?assertMatch({match, _}, re:run(Told(), Pattern))
     end || {Offset, Way, Leap, Pattern} <-
        [{"0.000012345", "slow", "Normal",
          "ok +clock +the clock is kept by a time server, 0.000012 s slow \\(chronyc track"},
         {"12.500000000", "fast", "Normal",
          "warning clock +the clock is 12.500000 s fast: credentials end too early \\(chronyc"},
         {"0.000000000", "slow", "Not synchronised",
          "warning clock +the clock is not kept by a time server.*\\(chronyc tracking\\)"}]],
    Play("chronyc", "echo '506 Cannot talk to daemon'; exit 1"),
    ?assertMatch({match, _}, re:run(Told(), "warning clock +the clock is not kept .*\\(timedate")),
    Play("timedatectl", "echo yes"),
    ?assertMatch({match, _}, re:run(Told(), "ok +clock +the clock is kept .*\\(timedatectl\\)")),
    %% One that hangs, and one that cannot tell.
    Play("chronyc", "exec sleep 3600"),
    Play("timedatectl", "echo 'System has not been booted with systemd' >&2; exit 1"),
    ?assertMatch({match, _}, re:run(Told(), "clock +the clock is .*\\(the kernel\\)")).

%% By a profile like Docker's, for the command and all it starts.
doctor_tells_who_refuses_io_uring(Config) ->
    Refuse = filename:join(proplists:get_value(priv_dir, Config), "refuse"),
    Source = filename:join([root(), "test", "c", "tools", "refuse.c"]),
    "" = os:cmd(lists:join(" ", ["cc", "-o", Refuse, Source])),
    Auto = shell("", [Refuse, " io_uring EPERM "], "doctor"),
    ?assertMatch({match, _}, re:run(Auto, "warning io-uring +io_uring is refused .*EPERM")),
    Demanded = shell("export IO_BACKEND=io_uring; ", [Refuse, " io_uring EPERM "], "doctor"),
    ?assertMatch({match, _}, re:run(Demanded, "error +io-uring +io_uring is refused")).

shell(Before, Args) ->
    shell(Before, "", Args).

shell(Before, Wrapper, Args) ->
    Ctl = filename:join(root(), "rel/bin/meerkatctl"),
    os:cmd(lists:flatten([Before, "export MEERKAT_RUN_DIR=/nowhere REBAR_PROFILE=test "
                          "RELAY_IP=127.0.0.1; ", Wrapper, Ctl, " ", Args])).

root() ->
    filename:absname(filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."])).

%% A STUN server elsewhere is here a server of ours.
doctor_asks_outside(Config) ->
    {Server, Block} = start(Config, []),
    Here = "127.0.0.1:" ++ integer_to_list(port(line("TURN", Block))),
    {0, Seen} = run(Config, ["doctor", "--stun", Here]),
    ?assertMatch({match, _}, re:run(Seen, "ok +nat +the world sees 127.0.0.1 as 127.0.0.1")),
    stop(Server, "TERM"),
    {0, Silent} = run(Config, ["doctor", "--stun", Here]),
    ?assertMatch({match, _}, re:run(Silent, "warning +nat +" ++ Here)),
    {0, Other} = run(Config, ["doctor", "--stun", "127.0.0.1:x"]),
    ?assertMatch({match, _}, re:run(Other, "warning +nat +127.0.0.1:x: a port is a number")).

usage_is_told(Config) ->
    [begin
         {2, Text} = run(Config, Args),
         ?assertMatch({match, _}, re:run(Text, Pattern), {Args, Text})
     end || {Args, Pattern} <- [{["alocations"], "did you mean allocations\\?"},
                                {["allocation"], "^usage: meerkatctl allocation ID"},
                                {["status", "now"], "^usage: meerkatctl status"},
                                {["status", "--loud"], "^status has no option --loud"},
                                {["allocations", "--limit"], "^--limit needs a value"},
                                {["allocations", "--limit", "0"], "must be a number above 0"},
                                {["allocations", "--limit", "1", "--limit", "2"], "given twice"},
                                {["allocations", "--peer", "here"], "must be an IP address"},
                                {["allocations", "--sort", "size"], "one of age, bytes, user"},
                                {["drain", "--deadline", "-1"], "must be seconds"},
                                {["disconnect"], "^usage: meerkatctl disconnect"},
                                {["users", "frob"], "^usage: meerkatctl users"},
                                {[], "^usage: meerkatctl COMMAND"}]],
    [begin
         {0, Text} = run(Config, Args),
         ?assertMatch({match, _}, re:run(Text, "^usage: meerkatctl drain .*--deadline TIME"))
     end || Args <- [["help", "drain"], ["drain", "--help"], ["drain", "-h"]]],
    [?assertMatch({0, "usage: meerkatctl foreground [-c FILE]" ++ _}, run(Config, Args))
     || Args <- [["help", "foreground"], ["foreground", "--help"], ["foreground", "-h"]]],
    [?assertMatch({0, "usage: meerkatctl check " ++ _}, run(Config, Args))
     || Args <- [["help", "check"], ["check", "--help"]]].

no_server_is_a_status_of_its_own(Config) ->
    [?assertMatch({Args, {3, "no server was started here" ++ _}}, {Args, run(Config, Args)})
     || Args <- [["status"], ["info"], ["allocations"], ["allocation", "0-1"], ["users"],
                 ["disconnect", "0-1"], ["credentials"], ["drain"], ["undrain"], ["reload"],
                 ["loglevel"], ["users", "add", "x", "--password", "y"]]],
    {3, #{<<"error">> := _}} = json(Config, ["status"]).

%% What a remote shell has.
the_interface_of_the_shell(_Config) ->
    {ok, _} = application:ensure_all_started(meerkat),
    {ok, Config, _} = meerkat_config:load(#{file => none, env => [
        {"LISTEN_IP", "127.0.0.1"}, {"LISTEN_PORT", "0"}, {"RELAY_IP", "127.0.0.1"}]}),
    {ok, _} = meerkat:start_server(default, Config),
    ?assertMatch(#{ready := true, allocations := 0}, meerkat:status()),
    ?assertEqual([], meerkat:allocations(#{user => <<"x">>})),
    ?assertEqual({error, not_found}, meerkat:allocation("0-1")),
    ?assertEqual(0, meerkat:disconnect({user, <<"x">>})),
    {ok, memory} = meerkat:add_user(default, <<"x">>, <<"y">>),
    ?assertMatch([#{name := <<"x">>, from := added}], meerkat:users()),
    {ok, memory} = meerkat:remove_user(default, <<"x">>),
    {error, Sentence} = meerkat:remove_user(default, <<"x">>),
    ?assertEqual("there is no user of this name", lists:flatten(meerkat:format_error(Sentence))),
    ok = meerkat:drain(),
    ?assertNot(meerkat:is_ready()),
    ok = meerkat:undrain(),
    ?assert(meerkat:is_ready()),
    Monitor = erlang:monitor(process, meerkat_roles:find(default, relay)),
    ok = meerkat:drain(default, infinity),
    receive {'DOWN', Monitor, process, _, _} -> ok end,
    ?assertNot(meerkat:is_ready()).
