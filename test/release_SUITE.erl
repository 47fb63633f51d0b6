%% The release as it is unpacked somewhere: built from the checkout, moved, started without any
%% Erlang of the system's in reach, asked through its own commands, told by signals; and what it
%% says to systemd.
-module(release_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([command_reads_the_releases_file/1]).
-export([brings_all_it_needs/1, serves_in_the_foreground/1, serves_as_a_daemon/1,
         stop_ends_where_nobody_reaps/1,
         remote_console_has_the_interface/1, bad_configuration_ends_it/1, tells_systemd/1,
         a_relay_that_hangs_is_not_alive_to_systemd/1, unit_is_what_systemd_understands/1,
         unit_allows_what_a_server_does/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports),
                     not lists:member(F, [module_info, init_per_suite, end_per_suite])]).

%% Built once; then moved to where it was not built.
init_per_suite(Config) ->
    Root = filename:absname(filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."])),
    Built = filename:join(proplists:get_value(priv_dir, Config), "built"),
    {0, _} = command("rebar3", ["release", "--output-dir", Built],
                     [{"REBAR_BASE_DIR", Built ++ ".base"}], [{cd, Root}]),
    Release = filename:join(proplists:get_value(priv_dir, Config), "meerkat"),
    ok = file:rename(filename:join(Built, "meerkat"), Release),
    [{release, Release} | Config].

end_per_suite(_) ->
    ok.

init_per_testcase(_, Config) ->
    Dir = "/tmp/meerkat-release-" ++ os:getpid() ++ "-"
        ++ integer_to_list(erlang:unique_integer([positive])),
    ok = file:make_dir(Dir),
    ok = file:change_mode(Dir, 8#700),
    [{home, Dir} | Config].

%% A daemon is nobody's child and would outlive a case that failed.
end_per_testcase(_, Config) ->
    _ = proplists:get_value(tc_status, Config) =:= ok orelse kill_node(Config),
    _ = file:del_dir_r(proplists:get_value(home, Config)),
    ok.

%% What is not in it are libraries of the C kind, which Debian calls by package.
brings_all_it_needs(Config) ->
    Release = proplists:get_value(release, Config),
    [?assert(filelib:is_file(filename:join(Release, Name)))
     || Name <- ["bin/meerkat", "bin/meerkatctl", "etc/meerkat.cfg", "share/meerkat.service",
                "docs/operating.md"]],
    [?assertMatch([_], filelib:wildcard(filename:join(Release, Pattern)))
     || Pattern <- ["erts-*/bin/beam.smp", "lib/meerkat-*/priv/meerkat_relay",
                    "lib/meerkat-*/priv/meerkat_stun_nif.so", "lib/jiffy-*/priv/jiffy.so"]],
    {ok, Example} = file:read_file(filename:join(Release, "etc/meerkat.cfg")),
    {0, Shown} = ctl(Config, ["config", "check", filename:join(Release, "etc/meerkat.cfg")], []),
    ?assertMatch({match, _}, re:run(Shown, "good")),
    ?assertMatch({match, _}, re:run(Example, "#secret = ")).

%% Without a server: what would be, by the file that bin/meerkat reads; and who starts one.
command_reads_the_releases_file(Config) ->
    File = filename:join(proplists:get_value(release, Config), "etc/meerkat.cfg"),
    {ok, Example} = file:read_file(File),
    ok = file:write_file(File, ["user_quota = 7;\n", Example]),
    {0, Shown} = ctl(Config, ["config", "show"], []),
    {0, Other} = ctl(Config, ["config", "show"], [{"CONFIG_FILE", ""}]),
    ok = file:write_file(File, Example),
    ?assertMatch({match, _}, re:run(Shown, "user_quota +7 +\\Q" ++ File ++ "\\E:1\n")),
    ?assertMatch({match, _}, re:run(Other, "user_quota +0 +default\n")),
    {3, Nobody} = ctl(Config, ["status"], []),
    ?assertEqual("no server was started here by this user; `" ++ script(Config, "meerkat")
                     ++ " daemon` starts one\n", Nobody).

serves_in_the_foreground(Config) ->
    {Server, _} = foreground(Config, []),
    {0, Checked} = ctl(Config, ["check"], []),
    ?assertMatch({match, _}, re:run(Checked, "the server is usable from here")),
    {0, "pong\n"} = release(Config, ["ping"], []),
    %% What is loaded only when it is wanted, by names that Debian's directories do not have.
    {0, Parsed} = release(Config, ["eval", "{ok, _} = application:ensure_all_started(fast_xml), "
                                   "fxml_stream:parse_element(<<\"<a/>\">>)."], []),
    ?assertMatch({match, _}, re:run(Parsed, "xmlel")),
    kill(Server, "TERM"),
    {0, _} = ended(Server, <<>>).

%% Whoever starts it must not be left holding its output.
serves_as_a_daemon(Config) ->
    Daemon = script(Config, "meerkat") ++ " daemon < /dev/null > /dev/null 2>&1",
    {0, ""} = ended(program(Config, "/bin/sh", ["-c", Daemon], []), <<>>),
    ok = poll(fun() -> {0, _} = ctl(Config, ["check"], []), ok end, 100),
    {0, "pong\n"} = release(Config, ["ping"], []),
    {0, _} = release(Config, ["stop"], []),
    {1, _} = release(Config, ["ping"], []).

%% A first process of a container may be one that waits for no child: here the node's parent is.
stop_ends_where_nobody_reaps(Config) ->
    Parent = script(Config, "meerkat") ++ " foreground & exec sleep 3600",
    {Server, _} = read(program(Config, "/bin/sh", ["-c", Parent], []), "relaying from"),
    {0, Pid} = release(Config, ["pid"], []),
    {0, _} = release(Config, ["stop"], []),
    {1, _} = release(Config, ["ping"], []),
    ?assertEqual("Z", string:trim(os:cmd("ps -o state= -p " ++ Pid))),
    {1, "Node is not running!\n"} = release(Config, ["stop"], []),
    kill(Server, "KILL"),
    {137, _} = ended(Server, <<>>).

%% As a person types it, on a terminal.
remote_console_has_the_interface(Config) ->
    {Server, _} = foreground(Config, []),
    Shell = filename:join(proplists:get_value(release, Config), "bin/meerkat") ++ " remote_console",
    Console = program(Config, "script", ["-qec", Shell, "/dev/null"], []),
    {_, _} = read(Console, "1> "),
    true = port_command(Console, "{meerkat:info(default), all}.\n"),
    {_, Answer} = read(Console, "2> "),
    ?assertMatch({match, _}, re:run(Answer, "allocations => 0")),
    true = port_command(Console, "h(meerkat, start_server).\n"),
    {_, Help} = read(Console, "3> "),
    ?assertMatch({match, _}, re:run(Help, "Starts a server under the application")),
    kill(Console, "TERM"),
    {_, _} = ended(Console, <<>>),
    kill(Server, "TERM"),
    {0, _} = ended(Server, <<>>).

%% Why, in words; and an exit status that a supervisor of services understands.
bad_configuration_ends_it(Config) ->
    File = filename:join(proplists:get_value(home, Config), "bad.cfg"),
    ok = file:write_file(File, "max_prot = 1;\n"),
    {1, Text} = release(Config, ["foreground"], [{"CONFIG_FILE", File}]),
    ?assertMatch({match, _}, re:run(Text, "bad.cfg:1: there is no key \"max_prot\"; did you mean")),
    ?assertEqual(nomatch, re:run(Text, "[Cc]rash dump")).

tells_systemd(Config) ->
    {Socket, Env} = systemd(Config),
    {Server, _} = foreground(Config, [{"WATCHDOG_USEC", "200000"} | Env]),
    Pid = integer_to_binary(element(2, erlang:port_info(Server, os_pid))),
    {ok, Ready} = told(Socket),
    ?assertEqual([<<"READY=1">>, <<"STATUS=serving">>, <<"MAINPID=", Pid/binary>>],
                 binary:split(Ready, <<"\n">>, [global])),
    {ok, <<"WATCHDOG=1">>} = told(Socket),
    {ok, <<"WATCHDOG=1">>} = told(Socket),
    kill(Server, "TERM"),
    {0, _} = ended(Server, <<>>),
    ?assertEqual(<<"STOPPING=1">>, last(Socket)).

%% Signs of life end with the relay's, and come back with them.
a_relay_that_hangs_is_not_alive_to_systemd(Config) ->
    {Socket, Env} = systemd(Config),
    {Server, _} = foreground(Config, [{"WATCHDOG_USEC", "200000"} | Env]),
    {ok, _} = told(Socket),
    {ok, <<"WATCHDOG=1">>} = told(Socket),
    {os_pid, Pid} = erlang:port_info(Server, os_pid),
    Relay = string:trim(os:cmd("pgrep -P $(pgrep -P " ++ integer_to_list(Pid)
                               ++ " erl_child_setup) meerkat_relay")),
    "" = os:cmd("kill -STOP " ++ Relay),
    _ = gone_quiet(Socket),
    "" = os:cmd("kill -CONT " ++ Relay),
    {ok, <<"WATCHDOG=1">>} = told(Socket),
    kill(Server, "TERM"),
    {0, _} = ended(Server, <<>>).

%% Where systemd is there to ask.
unit_is_what_systemd_understands(Config) ->
    case os:find_executable("systemd-analyze") of
        false ->
            {skip, "systemd-analyze is not here"};
        Analyze ->
            %% Its binaries must be where it says; so it says where they are.
            Release = proplists:get_value(release, Config),
            {ok, Unit} = file:read_file(filename:join(Release, "share/meerkat.service")),
            File = filename:join(proplists:get_value(home, Config), "meerkat.service"),
            ok = file:write_file(File, binary:replace(Unit, <<"/opt/meerkat">>,
                                                      list_to_binary(Release), [global])),
            {0, Verdict} = command(Analyze, ["verify", "--man=no", File], [], []),
            ?assertEqual(nomatch, re:run(Verdict, "meerkat\\.service:[0-9]+"))
    end.

%% In no more system calls than the unit allows: it serves, is asked, writes its file, ends; and
%% what moves packets is the same as without.
unit_allows_what_a_server_does(Config) ->
    case os:find_executable("systemd-analyze") of
        false ->
            {skip, "systemd-analyze is not here"};
        Analyze ->
            Release = proplists:get_value(release, Config),
            {ok, Unit} = file:read_file(filename:join(Release, "share/meerkat.service")),
            {match, Filters} = re:run(Unit, "^SystemCallFilter=(.*)$",
                                      [global, multiline, {capture, all_but_first, list}]),
            Allowed = allowed(lists:append(Filters), Analyze),
            ?assert(lists:member("io_uring_setup", Allowed)),
            ?assertNot(lists:member("setuid", Allowed)),
            Wrapper = [refuse(Config), "all_but:" ++ numbers(Allowed), "EPERM"],
            {Before, Text} = foreground(Config, []),
            {_, Free} = read(Before, "packets move by .*\n", Text),
            kill(Before, "TERM"),
            {0, _} = ended(Before, <<>>),
            [Program | Args] = Wrapper ++ [script(Config, "meerkat"), "foreground"],
            Users = filename:join(proplists:get_value(home, Config), "users.cfg"),
            {Server, Start} = read(program(Config, Program, Args, [{"USERS_FILE", Users}]),
                                   "packets move by .*\n"),
            ?assertEqual(backend(Free), backend(Start)),
            {0, _} = ctl(Config, ["check"], []),
            {0, _} = ctl(Config, ["users", "add", "alice", "--key", lists:duplicate(32, $a)], []),
            ?assert(filelib:is_regular(Users)),
            [Asking | How] = Wrapper ++ [script(Config, "meerkatctl"), "status"],
            {0, _} = ended(program(Config, Asking, How, []), <<>>),
            kill(Server, "TERM"),
            {0, _} = ended(Server, <<>>)
    end.

backend(Text) ->
    {match, [Line]} = re:run(Text, "packets move by .*", [{capture, first, list}]),
    Line.

%% What SystemCallFilter leaves: its lines add to the first, or take from it.
allowed(Filters, Analyze) ->
    lists:foldl(fun([$~ | Taken], Allowed) -> Allowed -- calls(Taken, Analyze);
                   (Given, Allowed) -> lists:usort(Allowed ++ calls(Given, Analyze))
                end, [], Filters).

calls(Text, Analyze) ->
    lists:usort(lists:flatmap(fun([$@ | _] = Set) -> members(Set, Analyze);
                                 (Call) -> [Call]
                              end, string:lexemes(Text, " "))).

members(Set, Analyze) ->
    {0, Text} = command(Analyze, ["--no-pager", "syscall-filter", Set], [], []),
    [_ | Lines] = [string:trim(L) || L <- string:lexemes(Text, "\n")],
    calls(lists:append(lists:join(" ", [L || [C | _] = L <- Lines, C =/= $#])), Analyze).

%% Those of them that this machine's kernel has.
numbers(Calls) ->
    Table = os:cmd("echo '#include <sys/syscall.h>' | gcc -E -dM -"),
    {match, Rows} = re:run(Table, "^#define __NR_([a-z0-9_]+) ([0-9]+)$",
                           [global, multiline, {capture, all_but_first, list}]),
    lists:append(lists:join(",", [Number || [Call, Number] <- Rows, lists:member(Call, Calls)])).

refuse(Config) ->
    Program = filename:join(proplists:get_value(home, Config), "refuse"),
    Source = filename:join([code:lib_dir(meerkat), "..", "..", "..", "..", "test", "c", "tools",
                            "refuse.c"]),
    {0, _} = command("gcc", ["-o", Program, Source], [], []),
    Program.

%%% systemd's end of the socket

systemd(Config) ->
    Path = filename:join(proplists:get_value(home, Config), "notify"),
    {ok, Socket} = gen_udp:open(0, [{ifaddr, {local, Path}}, binary, {active, false}]),
    {Socket, [{"NOTIFY_SOCKET", Path}]}.

told(Socket) ->
    case gen_udp:recv(Socket, 0, 20000) of
        {ok, {_, _, Text}} -> {ok, Text};
        {error, Reason} -> {error, Reason}
    end.

last(Socket) ->
    last(Socket, none).

last(Socket, Before) ->
    case gen_udp:recv(Socket, 0, 0) of
        {ok, {_, _, Text}} -> last(Socket, Text);
        {error, timeout} -> Before
    end.

%% Nothing for ten times as long as there was between two words.
gone_quiet(Socket) ->
    case gen_udp:recv(Socket, 0, 1000) of
        {ok, _} -> gone_quiet(Socket);
        {error, timeout} -> ok
    end.

%%% Processes

foreground(Config, Env) ->
    Port = program(Config, script(Config, "meerkat"), ["foreground"], Env),
    read(Port, "relaying from").

release(Config, Args, Env) ->
    ended(program(Config, script(Config, "meerkat"), Args, Env), <<>>).

ctl(Config, Args, Env) ->
    ended(program(Config, script(Config, "meerkatctl"), Args, Env), <<>>).

script(Config, Name) ->
    filename:join([proplists:get_value(release, Config), "bin", Name]).

%% In an environment with nothing in it that leads to another Erlang, or configures a server.
program(Config, Program, Args, Env) ->
    Home = proplists:get_value(home, Config),
    Name = "MEERKAT_NODE=meerkat-" ++ filename:basename(Home) ++ "@127.0.0.1",
    Bin = filename:join(Home, "bin"),
    _ = filelib:is_dir(Bin) orelse tools(Bin),
    Port = case get({port, Home}) of
        undefined -> put({port, Home}, free_port()), get({port, Home});
        Known -> Known
    end,
    Clean = ["-i", "--default-signal", Name, "HOME=" ++ Home, "MEERKAT_RUN_DIR=" ++ Home,
             "PATH=" ++ Bin, "TERM=xterm", "LISTEN_IP=127.0.0.1", "RELAY_IP=127.0.0.1",
             "STUN_SECRET=hunter2", "PIPE_DIR=" ++ Home ++ "/pipe/",
             "RUNNER_LOG_DIR=" ++ Home ++ "/log", "RELX_OUT_FILE_PATH=" ++ Home,
             "LISTEN_PORT=" ++ integer_to_list(Port)
             | ["IO_BACKEND=" ++ Backend || Backend <- [os:getenv("IO_BACKEND", "auto")]]
             ++ [Variable ++ "=" ++ Value || {Variable, Value} <- Env]],
    open_port({spawn_executable, os:find_executable("env")},
              [{args, Clean ++ [Program | Args]}, binary, exit_status, stderr_to_stdout]).

%% All of the system's commands but Erlang's.
tools(Bin) ->
    ok = file:make_dir(Bin),
    _ = [file:make_symlink(File, filename:join(Bin, filename:basename(File)))
         || Dir <- ["/usr/sbin", "/sbin", "/usr/bin", "/bin"],
            File <- filelib:wildcard(filename:join(Dir, "*")),
            Name <- [filename:basename(File)],
            not lists:member(Name, ["erl", "erlc", "escript", "epmd", "run_erl", "to_erl",
                                    "erl_call", "rebar3"])],
    ok.

%% Free a moment ago; daemon and foreground tell no port.
free_port() ->
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_udp:close(Socket),
    Port.

command(Program, Args, Env, Options) ->
    ended(open_port({spawn_executable, os:find_executable(Program)},
                    [{args, Args}, {env, Env}, binary, exit_status, stderr_to_stdout | Options]),
          <<>>).

kill(Port, Signal) ->
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    "" = os:cmd("kill -" ++ Signal ++ " " ++ integer_to_list(Pid)).

read(Port, Until) ->
    read(Port, Until, <<>>).

read(Port, Until, Read) ->
    case re:run(Read, Until) of
        {match, _} ->
            {Port, Read};
        nomatch ->
            receive
                {Port, {data, Data}} -> read(Port, Until, <<Read/binary, Data/binary>>);
                {Port, {exit_status, Status}} -> error({ended, Status, Read})
            end
    end.

ended(Port, Read) ->
    receive
        {Port, {data, Data}} -> ended(Port, <<Read/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, unicode:characters_to_list(Read)}
    end.

kill_node(Config) ->
    case release(Config, ["pid"], []) of
        {0, Pid} -> os:cmd("kill -KILL " ++ Pid);
        _ -> not_running
    end.

poll(Check, Tries) ->
    try Check() catch _:_ when Tries > 1 -> receive after 100 -> poll(Check, Tries - 1) end end.
