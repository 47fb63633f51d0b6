%% The release as it is unpacked somewhere: built from the checkout, moved, started without any
%% Erlang of the system's in reach, asked through its own commands, told by signals; and what it
%% says to systemd.
-module(release_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([command_reads_the_releases_file/1, commands_take_the_releases_libraries/1,
         needs_no_home/1, another_users_release_is_started_read_only/1,
         unpacking_overwrites_no_configuration/1, tarball_says_what_is_in_it/1,
         what_the_page_on_upgrades_says/1,
         daemon_says_why_it_did_not_start/1, commands_have_one_rule_of_exit_codes/1,
         commands_are_the_same_everywhere/1]).
-export([brings_all_it_needs/1, serves_in_the_foreground/1, serves_as_a_daemon/1,
         stop_ends_where_nobody_reaps/1, restart_keeps_the_relay_program/1,
         stop_ends_what_a_killed_node_left/1,
         remote_console_has_the_interface/1, nodes_are_a_fleet/1, a_fleet_that_cannot_be/1,
         bad_configuration_ends_it/1, tells_systemd/1,
         a_relay_that_hangs_is_not_alive_to_systemd/1, unit_is_what_systemd_understands/1,
         unit_allows_what_a_server_does/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports),
                     not lists:member(F, [module_info, init_per_suite, end_per_suite])]).

%% Built and packed once; then unpacked where it was not built, in a path with a space.
init_per_suite(Config) ->
    Root = filename:absname(filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."])),
    Built = filename:join(proplists:get_value(priv_dir, Config), "built"),
    {0, _} = command("sh", [filename:join(Root, "rel/pack"), Built],
                     [{"REBAR_BASE_DIR", Built ++ ".base"}], []),
    [Tarball] = filelib:wildcard(filename:join(Built, "meerkat-*.tar.gz")),
    Unpacked = filename:join(proplists:get_value(priv_dir, Config), "unpacked here"),
    ok = file:make_dir(Unpacked),
    ok = unpack(Tarball, Unpacked),
    {ok, ["meerkat-" ++ _ = Top]} = file:list_dir(Unpacked),
    [{release, filename:join(Unpacked, Top)}, {tarball, Tarball} | Config].

unpack(Tarball, Directory) ->
    {0, _} = command("tar", ["xzf", Tarball, "-C", Directory], [], []),
    ok.

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
    _ = proplists:get_value(tc_status, Config) =:= ok
        orelse [kill_node(lists:keyreplace(home, 1, Config, {home, Dir}))
                || Home <- [proplists:get_value(home, Config)],
                   Dir <- [Home | filelib:wildcard(Home ++ "/[123]")]],
    _ = file:del_dir_r(proplists:get_value(home, Config)),
    ok.

%% What is not in it are libraries of the C kind, which Debian calls by package.
brings_all_it_needs(Config) ->
    Release = proplists:get_value(release, Config),
    [?assert(filelib:is_file(filename:join(Release, Name)))
     || Name <- ["bin/meerkat", "bin/meerkatctl", "etc/meerkat.cfg.example",
                "share/meerkat.service", "docs/operating.md", "LICENSE", "README.md"]],
    [?assertMatch([_], filelib:wildcard(filename:join(Release, Pattern)))
     || Pattern <- ["erts-*/bin/beam.smp", "lib/meerkat-*/priv/meerkat_relay",
                    "lib/meerkat-*/priv/meerkat_stun_nif.so", "lib/jiffy-*/priv/jiffy.so"]],
    File = filename:join(Release, "etc/meerkat.cfg.example"),
    {ok, Example} = file:read_file(File),
    {0, Shown} = ctl(Config, ["config", "check", File], []),
    ?assertMatch({match, _}, re:run(Shown, "good")),
    ?assertMatch({match, _}, re:run(Example, "#secret = ")).

%% Without a server: what would be, by the file that bin/meerkat reads; and who starts one.
command_reads_the_releases_file(Config) ->
    File = filename:join(proplists:get_value(release, Config), "etc/meerkat.cfg"),
    {ok, Example} = file:read_file(File ++ ".example"),
    ok = file:write_file(File, ["user_quota = 7;\n", Example]),
    {0, Shown} = ctl(Config, ["config", "show"], []),
    {0, Other} = ctl(Config, ["config", "show"], [{"CONFIG_FILE", ""}]),
    ok = file:delete(File),
    ?assertMatch({match, _}, re:run(Shown, "user_quota +7 +\\Q" ++ File ++ "\\E:1\n")),
    ?assertMatch({match, _}, re:run(Other, "user_quota +0 +default\n")),
    {3, Nobody} = ctl(Config, ["status"], []),
    ?assertEqual("no server was started here by this user; `" ++ script(Config, "meerkat")
                     ++ " daemon` starts one\n", Nobody).

%% Two versions of a library side by side, as an upgrade in place leaves them: the release's counts,
%% not the one whose name sorts last.
commands_take_the_releases_libraries(Config) ->
    Lib = filename:join(proplists:get_value(release, Config), "lib"),
    [Ours] = filelib:wildcard(filename:join(Lib, "meerkat-*")),
    Other = filename:join(Lib, "meerkat-99.0.0"),
    ok = file:make_symlink(filename:basename(Ours), Other),
    try
        Port = program(Config, script(Config, "meerkatctl"), ["version"], []),
        {0, Version} = ended(Port, <<>>),
        ?assertMatch("Meerkat " ++ _, Version),
        {Server, _} = foreground(Config, []),
        {0, Path} = release(Config, ["eval", "code:lib_dir(meerkat)."], []),
        ?assertEqual(filename:basename(Ours), filename:basename(string:trim(Path, both, "\"\n"))),
        kill(Server, "TERM"),
        {0, _} = ended(Server, <<>>)
    after
        ok = file:delete(Other)
    end.

%% No home, one that is not there, one that cannot be written.
needs_no_home(Config) ->
    [begin
         {Server, _} = foreground(Config, [{"HOME", Home} || is_list(Home)],
                                  ["-u", "HOME"]),
         {0, "pong\n"} = release(Config, ["ping"], [{"HOME", "/nonexistent"}]),
         {0, _} = release(Config, ["stop"], []),
         {0, _} = ended(Server, <<>>)
     end || Home <- [unset, "/nonexistent", "/proc"]].

%% As a package or an administrator installs it: root's, on a file system that cannot be written.
another_users_release_is_started_read_only(Config) ->
    case os:cmd("id -u") of
        "0\n" ->
            Home = proplists:get_value(home, Config),
            Nobody = "/tmp/meerkat-nobody-" ++ filename:basename(Home),
            ok = file:make_dir(Nobody),
            ok = file:change_mode(Nobody, 8#700),
            ok = file:change_owner(Nobody, 65534, 65534),
            Release = proplists:get_value(release, Config),
            Seen = "/tmp/meerkat-release-ro-" ++ filename:basename(Home),
            ok = file:make_dir(Seen),
            Script = "mount --bind \"$1\" \"$2\" && mount -o remount,ro,bind \"$2\" && cd / && "
                "! touch \"$2/bin/x\" 2>/dev/null && "
                "exec setpriv --reuid 65534 --regid 65534 --clear-groups "
                "env PATH=/usr/sbin:/usr/bin:/sbin:/bin MEERKAT_RUN_DIR=\"$3\" "
                "\"$2/bin/meerkat\" foreground",
            Args = ["-m", "sh", "-c", Script, "sh", Release, Seen, Nobody],
            Port = program(Config, "unshare", Args, []),
            {Server, _} = read(Port, "packets move by .*\n"),
            %% Root finds it there.
            Ping = fun() -> release(Config, ["ping"], [{"MEERKAT_RUN_DIR", Nobody}]) end,
            ok = poll(fun() -> {0, "pong\n"} = Ping(), ok end),
            {0, Status} = ctl(Config, ["status"], [{"MEERKAT_RUN_DIR", Nobody}]),
            ?assertMatch({match, _}, re:run(Status, ": ready\n")),
            kill(Server, "TERM"),
            {0, _} = ended(Server, <<>>),
            ok = file:del_dir_r(Nobody),
            ok = file:del_dir(Seen);
        _ ->
            {skip, "only root may start it as another user"}
    end.

%% The same version again, over what an operator wrote.
unpacking_overwrites_no_configuration(Config) ->
    Directory = filename:join(proplists:get_value(home, Config), "opt"),
    ok = file:make_dir(Directory),
    Tarball = proplists:get_value(tarball, Config),
    ok = unpack(Tarball, Directory),
    [Release] = filelib:wildcard(filename:join(Directory, "meerkat-*")),
    File = filename:join(Release, "etc/meerkat.cfg"),
    ok = file:write_file(File, "realm = \"mine.example\";\n"),
    ok = unpack(Tarball, Directory),
    ?assertEqual({ok, <<"realm = \"mine.example\";\n">>}, file:read_file(File)),
    {0, Shown} = ctl([{release, Release} | Config], ["config", "show"], []),
    ?assertMatch({match, _}, re:run(Shown, "realm +\"mine.example\"")).

tarball_says_what_is_in_it(Config) ->
    Tarball = proplists:get_value(tarball, Config),
    {0, _} = command("sha256sum", ["-c", filename:basename(Tarball) ++ ".sha256"], [],
                     [{cd, filename:dirname(Tarball)}]),
    {ok, Text} = file:read_file(filename:rootname(filename:rootname(Tarball)) ++ ".cdx.json"),
    {ok, #{<<"bomFormat">> := <<"CycloneDX">>, <<"components">> := Components}} =
        meerkat_json:decode(Text),
    Named = [Name || #{<<"name">> := Name, <<"version">> := V, <<"purl">> := _} <- Components,
                     V =/= <<>>],
    Libraries = [hd(string:split(filename:basename(Dir), "-", trailing))
                 || Dir <- filelib:wildcard(filename:join(proplists:get_value(release, Config),
                                                          "lib/*"))] -- ["meerkat"],
    ?assertEqual([], [list_to_binary(L) || L <- Libraries] -- Named),
    ?assert(lists:member(<<"liburing2">>, Named)),
    ?assert(lists:member(<<"erts">>, Named)).

%% Every command of docs/upgrading.md for a release, as it stands there: installed, upgraded, taken
%% back, saved, uninstalled, in a file system where /opt and /etc are empty copies of their own.
what_the_page_on_upgrades_says(Config) ->
    case {os:cmd("id -u"), re:run(proplists:get_value(tarball, Config), "-debian12-x86_64")} of
        {"0\n", {match, _}} -> follow_the_page(Config);
        _ -> {skip, "only root may mount, and the page's names are Debian 12's"}
    end.

follow_the_page(Config) ->
    Home = proplists:get_value(home, Config),
    ok = file:change_mode(Home, 8#755),
    Old = proplists:get_value(tarball, Config),
    Here = filename:join(Home, "downloads"),
    ok = file:make_dir(Here),
    {0, _} = command("cp", [Old, Old ++ ".sha256", Here], [], []),
    ok = next_version(Config, Here),
    Commands = lists:append([string:lexemes(Text, "\n")
                             || #{words := ["by=test/release_SUITE.erl"], text := Text}
                                    <- docs_kit:blocks("docs/upgrading.md")]),
    ?assert(length(Commands) > 18),
    Script = [prepared(), [["echo '$ ", Command, "'; ", Command, "\n", looked_at(Command)]
                           || Command <- Commands], "echo followed\n"],
    File = filename:join(Home, "page.sh"),
    ok = file:write_file(File, Script),
    Port = program(Config, "unshare", ["-m", "bash", "-eu", File, Here], []),
    {Status, Said} = ended(Port, <<>>),
    ct:log("~ts", [Said]),
    ?assertEqual({0, match}, {Status, re:run(Said, "followed\n$", [{capture, none}])}).

%% The same release under another number.
next_version(Config, Here) ->
    Script = "cd \"$0\" && tar xzf meerkat-*.tar.gz && mv meerkat-0.1.0 meerkat-0.2.0 && "
        "cd meerkat-0.2.0 && mv lib/meerkat-0.1.0 lib/meerkat-0.2.0 && "
        "mv releases/0.1.0 releases/0.2.0 && "
        "sed -i 's/\"0\\.1\\.0\"/\"0.2.0\"/' lib/meerkat-0.2.0/ebin/meerkat.app "
        "releases/0.2.0/meerkat.rel && "
        "sed -i 's/ 0\\.1\\.0/ 0.2.0/' releases/start_erl.data && cd .. && "
        "tar czf meerkat-0.2.0-debian12-x86_64.tar.gz meerkat-0.2.0 && "
        "sha256sum meerkat-0.2.0-*.gz >meerkat-0.2.0-debian12-x86_64.tar.gz.sha256 && "
        "rm -r meerkat-0.2.0",
    Port = program(Config, "sh", ["-euc", Script, Here], []),
    {0, _} = ended(Port, <<>>),
    ok.

%% systemd is not there to ask: what it does with the unit for these commands is done here.
prepared() ->
    "cd \"$1\"\n"
    "for dir in /opt /etc /var/lib; do\n"
    "    mkdir -p \"$PWD/fs$dir\"\n"
    "    [ $dir != /etc ] || cp /etc/{passwd,group,login.defs,nsswitch.conf,hosts} fs/etc/\n"
    "    mount --bind \"$PWD/fs$dir\" $dir\n"
    "done\n"
    "mkdir -p /etc/systemd/system fs/run\n"
    "systemctl() {\n"
    "    unit=/etc/systemd/system/meerkat.service\n"
    "    start=$(sed -n 's/^ExecStart=//p' $unit 2>/dev/null || true)\n"
    "    case \"$*\" in\n"
    "        'enable --now meerkat') begin ;;\n"
    "        'disable --now meerkat') finish ;;\n"
    "        'restart meerkat') finish; begin ;;\n"
    "        daemon-reload) ;;\n"
    "        *) echo \"no such command: $*\"; return 1 ;;\n"
    "    esac\n"
    "}\n"
    "begin() {\n"
    "    mkdir -p /var/lib/meerkat; install -d -m 700 -o meerkat fs/run/meerkat\n"
    "    export MEERKAT_RUN_DIR=$PWD/fs/run/meerkat\n"
    "    setpriv --reuid meerkat --regid meerkat --clear-groups env PATH=/usr/sbin:/usr/bin \\\n"
    "        CONFIG_FILE=/etc/meerkat/meerkat.cfg $start &\n"
    "    server=$!\n"
    "    until [ \"$(/opt/meerkat/bin/meerkat ping 2>/dev/null)\" = pong ]; do\n"
    "        kill -0 $server; sleep 0.1\n"
    "    done\n"
    "}\n"
    "finish() { kill -TERM $server; wait $server; }\n"
    "serves() { /opt/meerkat/bin/meerkatctl status | grep -q \"^Meerkat $1 .*: ready\"; }\n".

%% What must be true after it.
looked_at("systemctl enable" ++ _) ->
    "serves 0.1.0\necho 'realm = \"mine.example\";' >>/etc/meerkat/meerkat.cfg\nserved=0\n";
looked_at("systemctl restart" ++ _) ->
    "grep -q mine.example /etc/meerkat/meerkat.cfg\n"
    "case $served in 0) serves 0.2.0 ;; *) serves 0.1.0 ;; esac\nserved=1\n";
looked_at("tar -czpf" ++ _) ->
    "mv /etc/meerkat fs/gone\n";
looked_at("tar -xzpf" ++ _) ->
    "cmp /etc/meerkat/meerkat.cfg fs/gone/meerkat.cfg\n"
    "[ \"$(stat -c '%G %a' /etc/meerkat/meerkat.cfg)\" = 'meerkat 640' ]\n";
looked_at("userdel" ++ _) ->
    "[ -z \"$(ls /opt)\" ] && [ ! -e /etc/meerkat ] && ! grep -q ^meerkat: /etc/passwd\n";
looked_at(_) ->
    "".

%% And leaves nothing behind.
daemon_says_why_it_did_not_start(Config) ->
    {1, Text} = release(Config, ["daemon"], [{"LISTEN_PORT", "x"}]),
    ?assertMatch({match, _}, re:run(Text, "LISTEN_PORT is \"x\"; it must be")),
    {3, _} = release(Config, ["ping"], []).

commands_have_one_rule_of_exit_codes(Config) ->
    {0, Help} = release(Config, ["help"], []),
    ?assertMatch({match, _}, re:run(Help, "^usage: meerkat COMMAND")),
    ?assertEqual(nomatch, re:run(Help, "undefined|upgrade")),
    {2, _} = release(Config, [], []),
    {2, Unknown} = release(Config, ["frobnicate"], []),
    ?assertMatch({match, _}, re:run(Unknown, "there is no command \"frobnicate\"")),
    [?assertMatch({Command, {3, _}}, {Command, release(Config, [Command], [])})
     || Command <- ["ping", "pid", "stop", "restart", "eval", "remote_console"]].

%% Its help, its manual page, and the entry point of the image, which hands all others to
%% meerkatctl.
commands_are_the_same_everywhere(Config) ->
    {0, Help} = release(Config, ["help"], []),
    Helped = names("^  ([a-z_]+)", Help),
    ?assert(lists:member("restart", Helped)),
    Root = filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."]),
    {ok, Page} = file:read_file(filename:join(Root, "rel/share/meerkat.1")),
    [_, Commands] = binary:split(Page, <<".SH COMMANDS">>),
    [Rows, _] = binary:split(Commands, <<".SH EXIT">>),
    ?assertEqual(Helped, names("^\\.BI? ([a-z_]+)", Rows)),
    {ok, Entry} = file:read_file(filename:join(Root, "rel/docker-entrypoint")),
    {match, [Words]} = re:run(Entry, "^    (.*)\\) exec meerkat \"", [multiline,
                                                                   {capture, [1], list}]),
    ?assertEqual(Helped -- ["foreground", "version"], lists:sort(string:lexemes(Words, " |"))).

names(Pattern, Text) ->
    {match, Found} = re:run(Text, Pattern, [global, multiline, {capture, [1], list}]),
    lists:usort(lists:append(Found)).

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

%% Whoever starts it must not be left holding its output. What is kept for the next start lies in
%% the user's home, not in the run directory, which may be gone by then.
serves_as_a_daemon(Config) ->
    User = filename:join(proplists:get_value(home, Config), "user"),
    ok = file:make_dir(User),
    Daemon = quoted(script(Config, "meerkat")) ++ " daemon < /dev/null > /dev/null 2>&1",
    {0, ""} = ended(program(Config, "/bin/sh", ["-c", Daemon],
                            [{"HOME", User}, {"TLS_SELF_SIGNED", "true"},
                             {"TLS_PORT", integer_to_list(free_port())}]), <<>>),
    ?assertEqual(["self-signed.pem"],
                 filelib:wildcard("*", filename:join(User, ".local/state/meerkat"))),
    {0, _} = ctl(Config, ["check"], []),
    {0, "pong\n"} = release(Config, ["ping"], []),
    {1, "meerkat: it is running already\n"} = release(Config, ["daemon"], []),
    {0, ""} = release(Config, ["stop"], []),
    {3, _} = release(Config, ["ping"], []),
    %% Of the user's, or of whoever built this; none that began with it.
    ?assertEqual("", os:cmd("pgrep -f '" ++ proplists:get_value(release, Config) ++ ".*epmd'")).

%% Two nodes, started either way, with certificates of the fleet's own authority find each other and
%% are asked and told as one; whoever has no such certificate is refused at the handshake: a node
%% with one of another authority, and a stranger with none. What runs on this machine finds its node
%% by the name that it has for the others.
nodes_are_a_fleet(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    {Fleet, Node} = by_the_page(Dir),
    Stranger = certificate_kit:issued(certificate_kit:authority(Dir), "DNS:fleet"),
    Port = fleet_port(),
    [A, B, C] = [at_home(N, Config) || N <- [1, 2, 3]],
    {ServerA, _} = foreground(A, fleet_env(1, Port, Node, Fleet)),
    {ServerB, _} = read(program(B, script(B, "meerkatctl"), ["foreground"],
                                fleet_env(2, Port, Node, Fleet)), "packets move by .*\n"),
    {ServerC, _} = foreground(C, fleet_env(3, Port, Stranger, Fleet)),
    {1, Status} = sees(A, ["127.0.0.21 +[0-9]", "127.0.0.22 +[0-9]",
                           "\nno answer from meerkat@127.0.0.23\n$"]),
    ?assertEqual(nomatch, re:run(Status, "127.0.0.23 +[0-9]")),
    {1, _} = sees(C, ["127.0.0.23 +[0-9]",
                      "\nno answer from meerkat@127.0.0.21, meerkat@127.0.0.22\n$"]),
    ?assertMatch({error, {tls_alert, _}}, ssl:connect({127, 0, 0, 21}, Port,
                                                      [{verify, verify_none},
                                                       {versions, ['tlsv1.2']}])),
    {0, "'meerkat@127.0.0.21'"} = release(A, ["eval", "node()."], []),
    {0, "['meerkat@127.0.0.22']"} = release(A, ["eval", "nodes()."], []),
    {0, Drained} = ctl(A, ["fleet", "drain", "127.0.0.22", "--stay"], []),
    ?assertMatch({match, _}, re:run(Drained, "^meerkat@127.0.0.22: ")),
    {0, ""} = release(A, ["stop"], []),
    {0, _} = ended(ServerA, <<>>),
    {1, _} = sees(B, ["no answer from meerkat@127.0.0.21, meerkat@127.0.0.23\n$"]),
    ?assertEqual([], [File || Home <- [A, B, C],
                              File <- filelib:wildcard(proplists:get_value(home, Home)
                                                           ++ "/fleet-tls*")]),
    kill(ServerB, "INT"),
    {0, _} = ended(ServerB, <<>>),
    {0, ""} = release(C, ["stop"], []),
    {0, _} = ended(ServerC, <<>>).

%% Each in one sentence, before anything is served.
a_fleet_that_cannot_be(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    #{certificate := File, key := Key} = Authority = certificate_kit:authority(Dir),
    Good = fleet_env(1, fleet_port(), certificate_kit:issued(Authority, "DNS:fleet"), Authority),
    Ended = fun(Env) -> release(at_home(1, Config), ["foreground"], Good ++ Env) end,
    {78, Connected} = Ended([{"FLEET", "connected"}]),
    ?assertMatch({match, _}, re:run(Connected, "FLEET has \"connected\", which is for")),
    {78, Without} = Ended([{"FLEET_SECRET", ""}]),
    ?assertMatch({match, _}, re:run(Without, "FLEET is set, but fleet_secret is not: .*openssl")),
    {1, Elsewhere} = Ended([{"FLEET_IP", ""}, {"FLEET", "198.51.100.77"}]),
    ?assertMatch({match, _}, re:run(Elsewhere, "no address of 198.51.100.77 is one of this machi")),
    {1, NoKey} = Ended([{"FLEET_KEY", File}]),
    ?assertMatch({match, _}, re:run(NoKey, "fleet_key: " ++ File ++ " has no private key")),
    {1, NoFile} = Ended([{"FLEET_CA", Key ++ ".not"}]),
    ?assertMatch({match, _}, re:run(NoFile, "fleet_ca: .* no such file or directory")),
    {ok, Taken} = gen_tcp:listen(0, [{ip, {127, 0, 0, 21}}]),
    {ok, Port} = inet:port(Taken),
    {1, InUse} = Ended([{"FLEET_PORT", integer_to_list(Port)}]),
    ?assertMatch({match, _}, re:run(InUse, "fleet: cannot listen on 127.0.0.21:")),
    ok = gen_tcp:close(Taken).

%% What docs/fleet.md says that makes an authority and a certificate.
by_the_page(Dir) ->
    [Commands] = [Text || #{words := ["openssl"], text := Text}
                              <- docs_kit:blocks("docs/fleet.md")],
    {0, _} = command("sh", ["-ec", Commands], [], [{cd, Dir}]),
    [Authority, AuthorityKey, Node, Key] =
        [filename:join(Dir, File) || File <- ["ca.pem", "ca.key", "node.pem", "node.key"]],
    {#{certificate => Authority, key => AuthorityKey}, #{certificate => Node, key => Key}}.

fleet_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 21}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

fleet_env(N, Port, #{certificate := Certificate, key := Key}, #{certificate := Authority}) ->
    Ip = "127.0.0.2" ++ integer_to_list(N),
    [{"FLEET", "127.0.0.21,127.0.0.22,127.0.0.23"}, {"FLEET_IP", Ip}, {"LISTEN_IP", Ip},
     {"RELAY_IP", Ip}, {"FLEET_PORT", integer_to_list(Port)}, {"FLEET_SECRET", "together"},
     {"FLEET_CERT", Certificate}, {"FLEET_KEY", Key}, {"FLEET_CA", Authority}, {"SURVIVE", "0"}].

%% A run directory of its own.
at_home(N, Config) ->
    Home = filename:join(proplists:get_value(home, Config), integer_to_list(N)),
    ok = filelib:ensure_dir(filename:join(Home, "x")),
    ok = file:change_mode(Home, 8#700),
    lists:keyreplace(home, 1, Config, {home, Home}).

%% Once all of it is in its status.
sees(Config, Patterns) ->
    {_, Text} = Status = ctl(Config, ["fleet", "status"], []),
    case lists:all(fun(Pattern) -> re:run(Text, Pattern) =/= nomatch end, Patterns) of
        true -> Status;
        false -> sees(Config, Patterns)
    end.

%% A first process of a container may be one that waits for no child: here the node's parent is.
stop_ends_where_nobody_reaps(Config) ->
    Parent = quoted(script(Config, "meerkat")) ++ " foreground & exec sleep 3600",
    {Server, _} = read(program(Config, "/bin/sh", ["-c", Parent], []), "relaying from"),
    ok = poll(fun() -> {0, "pong\n"} = release(Config, ["ping"], []), ok end),
    {0, Pid} = release(Config, ["pid"], []),
    {0, _} = release(Config, ["stop"], []),
    {3, _} = release(Config, ["ping"], []),
    ?assertEqual("Z", string:trim(os:cmd("ps -o state= -p " ++ Pid))),
    {3, "Node is not running!\n"} = release(Config, ["stop"], []),
    kill(Server, "KILL"),
    {137, _} = ended(Server, <<>>).

%% A daemon's next node takes over what the one before had.
restart_keeps_the_relay_program(Config) ->
    Daemon = quoted(script(Config, "meerkat")) ++ " daemon < /dev/null > /dev/null 2>&1",
    {0, ""} = ended(program(Config, "/bin/sh", ["-c", Daemon], []), <<>>),
    Relay = ctl_kit:relay(proplists:get_value(home, Config)),
    {0, Node} = release(Config, ["pid"], []),
    Restart = quoted(script(Config, "meerkat")) ++ " restart < /dev/null > /dev/null 2>&1",
    {0, ""} = ended(program(Config, "/bin/sh", ["-c", Restart], []), <<>>),
    {0, Next} = release(Config, ["pid"], []),
    ?assertNotEqual(Node, Next),
    ?assertEqual(Relay, ctl_kit:relay(proplists:get_value(home, Config))),
    {0, Status} = ctl(Config, ["status"], []),
    ?assertMatch({match, _}, re:run(Status, "taken over +20.*, with 0 allocations")),
    {0, _} = ctl(Config, ["check"], []),
    {0, ""} = release(Config, ["stop"], []),
    ?assertEqual(none, ctl_kit:relay(proplists:get_value(home, Config))).

%% Exit codes and sentences while there is no node but its relay program; and a node that would take
%% none of it over cannot be restarted so.
stop_ends_what_a_killed_node_left(Config) ->
    {Server, _} = foreground(Config, []),
    {0, "pong\n"} = release(Config, ["ping"], []),
    kill(Server, "KILL"),
    {137, _} = ended(Server, <<>>),
    Relay = ctl_kit:relay(proplists:get_value(home, Config)),
    {3, Said} = release(Config, ["ping"], []),
    ?assertMatch({match, _}, re:run(Said, "^Node is not running!\nIts relay program, process "
                                          ++ Relay ++ ", goes on")),
    {0, ""} = release(Config, ["stop"], []),
    ?assertEqual(none, ctl_kit:relay(proplists:get_value(home, Config))),
    {3, "Node is not running!\n"} = release(Config, ["stop"], []),
    {Without, _} = foreground(Config, [{"SURVIVE", "0"}]),
    {1, Refused} = release(Config, ["restart"], []),
    ?assertMatch({match, _}, re:run(Refused, "see the key survive")),
    kill(Without, "TERM"),
    {0, _} = ended(Without, <<>>).

%% As a person types it, on a terminal.
remote_console_has_the_interface(Config) ->
    {Server, _} = foreground(Config, []),
    Shell = quoted(script(Config, "meerkat")) ++ " remote_console",
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
    {78, Text} = release(Config, ["foreground"], [{"CONFIG_FILE", File}]),
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
    Relay = ctl_kit:relay(proplists:get_value(home, Config)),
    ok = process_kit:hold(Relay),
    _ = gone_quiet(Socket),
    ok = process_kit:let_go(Relay),
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
            %% A unit takes no path with a space, so another leads there.
            Release = filename:join(proplists:get_value(home, Config), "release"),
            ok = file:make_symlink(proplists:get_value(release, Config), Release),
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
            {Before, Free} = foreground(Config, []),
            kill(Before, "TERM"),
            {0, _} = ended(Before, <<>>),
            [Program | Args] = Wrapper ++ [script(Config, "meerkat"), "foreground"],
            Home = proplists:get_value(home, Config),
            Users = filename:join(Home, "users.cfg"),
            Records = filename:join(Home, "accounting.jsonl"),
            {Server, Start} = read(program(Config, Program, Args,
                                           [{"USERS_FILE", Users}, {"ACCOUNTING_FILE", Records}]),
                                   "packets move by .*\n"),
            ?assertEqual(backend(Free), backend(Start)),
            {0, _} = ctl(Config, ["check"], []),
            {0, _} = ctl(Config, ["users", "add", "alice", "--key", lists:duplicate(32, $a)], []),
            ?assert(filelib:is_regular(Users)),
            [Asking | How] = Wrapper ++ [script(Config, "meerkatctl"), "status"],
            {0, _} = ended(program(Config, Asking, How, []), <<>>),
            kill(Server, "TERM"),
            {0, _} = ended(Server, <<>>),
            {ok, Written} = file:read_file(Records),
            ?assertMatch({match, _}, re:run(Written, "\"type\":\"off\"")),
            serves_a_database(Config, Program, Args)
    end.

%% With the same wrapper; a file of SQLite that is made, written and asked.
serves_a_database(Config, Program, Args) ->
    File = filename:join(proplists:get_value(home, Config), "turndb"),
    {Server, _} = read(program(Config, Program, Args, [{"USERDB", File}]), "packets move by .*\n"),
    {0, _} = ctl(Config, ["users", "add", "bob", "--password", "builder"], []),
    ?assert(filelib:is_regular(File)),
    {0, _} = ctl(Config, ["check", "--user", "bob", "--password", "builder"], []),
    kill(Server, "TERM"),
    {0, _} = ended(Server, <<>>).

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
    foreground(Config, Env, []).

%% Last of the lines of a start. Options are env's.
foreground(Config, Env, Options) ->
    Args = Options ++ [Name ++ "=" ++ Value || {Name, Value} <- Env]
        ++ [script(Config, "meerkat"), "foreground"],
    {Port, Read} = read(program(Config, "env", Args, []), "packets move by .*\n"),
    %% Its node is to be found a moment later.
    ok = poll(fun() -> {0, "pong\n"} = release(Config, ["ping"], []), ok end),
    {Port, Read}.

poll(Check) ->
    try Check() catch error:{badmatch, _} -> receive after 100 -> poll(Check) end end.

quoted(Path) ->
    "'" ++ Path ++ "'".

release(Config, Args, Env) ->
    ended(program(Config, script(Config, "meerkat"), Args, Env), <<>>).

ctl(Config, Args, Env) ->
    ended(program(Config, script(Config, "meerkatctl"), Args, Env), <<>>).

script(Config, Name) ->
    filename:join([proplists:get_value(release, Config), "bin", Name]).

%% In an environment with nothing in it that leads to another Erlang, or configures a server.
program(Config, Program, Args, Env) ->
    Home = proplists:get_value(home, Config),
    Bin = filename:join(Home, "bin"),
    _ = filelib:is_dir(Bin) orelse tools(Bin),
    Port = case get({port, Home}) of
        undefined -> put({port, Home}, free_port()), get({port, Home});
        Known -> Known
    end,
    Clean = ["-i", "--default-signal", "HOME=" ++ Home, "MEERKAT_RUN_DIR=" ++ Home,
             "PATH=" ++ Bin, "TERM=xterm", "LISTEN_IP=127.0.0.1", "RELAY_IP=127.0.0.1",
             "STUN_SECRET=hunter2", "SECRET_AS_PASSWORD=true", "RUNNER_LOG_DIR=" ++ Home ++ "/log",
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
    end,
    ctl_kit:end_relay(proplists:get_value(home, Config)).
