%% Databases for suites, as they come from Debian: each on loopback with data of its own in a
%% directory of its own, tables as coturn's packages have them, filled by coturn's own turnadmin.
%% One ends when its suite does, however that ends.
-module(database_kit).

-export([start/1, stop/1, kill/1, again/1, pause/1, resume/1, config/1, key/1, turnadmin/2, sql/2]).

-export_type([database/0]).

%% `config`: what the key of the configuration has. `coturn`: how turnadmin is told.
-type database() :: #{kind := sqlite | postgresql | mysql | redis, directory := file:filename(),
                      config := map(), coturn := [string()], _ => _}.

-define(TIMEOUT, 60000).
%% Runs a program until standard input closes, and tells its process first.
-define(SHELL, "exec 3<&0 2>/dev/null; \"$@\" </dev/null >/dev/null 2>&1 3<&- & p=$!; echo $p; "
               "{ cat <&3 >/dev/null; kill -9 $p; } & c=$!; wait $p; kill $c").
-define(PASSWORD, "s3cret=of-the-database").
-define(BIN, "/usr/lib/postgresql/15/bin/").

%% Returns when it answers and has coturn's tables.
-spec start(atom()) -> database().
start(Kind) ->
    Directory = filename:join("/tmp", "meerkat_" ++ atom_to_list(Kind) ++ "_"
                              ++ integer_to_list(erlang:unique_integer([positive])) ++ "_"
                              ++ os:getpid()),
    ok = file:make_dir(Directory),
    new(Kind, #{kind => Kind, directory => Directory}).

new(sqlite, #{directory := Directory} = Database) ->
    File = filename:join(Directory, "turndb"),
    "" = os:cmd("sqlite3 " ++ File ++ " < /usr/share/coturn/schema.sql"),
    Database#{config => #{kind => sqlite, file => list_to_binary(File)}, coturn => ["-b", File]};
new(postgresql, #{directory := Directory} = Database) ->
    "" = os:cmd("chown postgres " ++ Directory),
    [Data, File] = [filename:join(Directory, Name) || Name <- ["data", "password"]],
    ok = file:write_file(File, ?PASSWORD),
    {0, _} = run(as(postgres, [?BIN "initdb", "--auth-local=trust", "--auth-host=scram-sha-256",
                               "--pwfile=" ++ File, "--no-sync", "-E", "UTF8", "--locale=C",
                               "-D", Data])),
    Port = turn_kit:free_tcp_port(),
    Running = again(Database#{port => Port, program =>
        as(postgres, [?BIN "postgres", "-D", Data, "-k", Directory, "-p", integer_to_list(Port),
                      "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
                      "-c", "shared_buffers=16MB"])}),
    _ = sql(Running, "CREATE DATABASE turn"),
    {0, _} = run(psql(Running, "turn", ["-f", "/usr/share/coturn/schema.sql"])),
    Running#{config => (connection(postgresql, Port, <<"turn">>))#{user := <<"postgres">>},
             coturn => ["-e", "host=127.0.0.1 port=" ++ integer_to_list(Port) ++
                            " dbname=turn user=postgres password=" ?PASSWORD]};

new(mysql, #{directory := Directory} = Database) ->
    "" = os:cmd("chown mysql " ++ Directory),
    Data = "--datadir=" ++ filename:join(Directory, "data"),
    {0, _} = run(as(mysql, ["/usr/bin/mariadb-install-db", "--no-defaults", Data, "--skip-test-db",
                            "--auth-root-authentication-method=normal"])),
    Port = turn_kit:free_tcp_port(),
    Running = again(Database#{port => Port, program =>
        as(mysql, ["/usr/sbin/mariadbd", "--no-defaults", Data, "--bind-address=127.0.0.1",
                   "--port=" ++ integer_to_list(Port), "--skip-name-resolve",
                   "--socket=" ++ filename:join(Directory, "socket"),
                   "--pid-file=" ++ filename:join(Directory, "pid"),
                   "--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=2",
                   "--innodb-buffer-pool-size=16M"])}),
    _ = sql(Running, "CREATE DATABASE turn"),
    {0, _} = run(mariadb(Running, ["turn", "-e", "source /usr/share/coturn/schema.sql"])),
    _ = sql(Running, "GRANT ALL ON turn.* TO turn@127.0.0.1 IDENTIFIED BY '" ?PASSWORD "'"),
    Running#{config => connection(mysql, Port, <<"turn">>),
             coturn => ["-M", "host=127.0.0.1 port=" ++ integer_to_list(Port) ++
                            " dbname=turn user=turn password=" ?PASSWORD]};
new(redis, #{directory := Directory} = Database) ->
    Port = turn_kit:free_tcp_port(),
    Running = again(Database#{port => Port, program =>
        ["/usr/bin/redis-server", "--port", integer_to_list(Port), "--bind", "127.0.0.1", "--dir",
         Directory, "--requirepass", ?PASSWORD, "--save", ""]}),
    Running#{config => maps:remove(user, connection(redis, Port, <<"2">>)),
             coturn => ["-N", "ip=127.0.0.1 port=" ++ integer_to_list(Port) ++
                            " dbname=2 password=" ?PASSWORD]}.

connection(Kind, Port, Name) ->
    #{kind => Kind, host => <<"127.0.0.1">>, port => Port, user => <<"turn">>,
      password => <<?PASSWORD>>, database => Name}.

mariadb(#{directory := Directory}, Args) ->
    ["/usr/bin/mariadb", "--no-defaults", "-N", "-u", "root",
     "--socket=" ++ filename:join(Directory, "socket") | Args].

redis(#{port := Port}, Args) ->
    ["/usr/bin/redis-cli", "-p", integer_to_list(Port), "-a", ?PASSWORD, "--no-auth-warning",
     "-n", "2" | Args].

psql(#{directory := Directory, port := Port}, Name, Args) ->
    as(postgres, ["/usr/bin/psql", "-qtA", "-h", Directory, "-p", integer_to_list(Port), "-d", Name
                  | Args]).

%% In place of the program itself, so that the process is the server's.
as(User, Command) ->
    ["/usr/bin/setpriv", "--reuid", atom_to_list(User), "--regid", atom_to_list(User),
     "--clear-groups" | Command].

%% Starts what was killed; returns when it answers.
-spec again(database()) -> database().
again(#{kind := sqlite} = Database) ->
    Database;
again(#{program := Program} = Database) ->
    %% The shell ends the server with this node, whose end of its standard input closes.
    Shell = spawn(fun() -> held(Program) end),
    Shell ! {self(), pid},
    Pid = receive {Shell, Known} -> Known after ?TIMEOUT -> error(database_does_not_start) end,
    Running = Database#{shell => Shell, pid => Pid},
    ok = answers(Running, erlang:monotonic_time(millisecond) + ?TIMEOUT),
    Running.

%% Outlives the case that has started it.
held(Program) ->
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", ?SHELL, "sh" | Program]}, {line, 100}]),
    Pid = receive {Port, {data, {eol, Line}}} -> Line end,
    receive {From, pid} -> From ! {self(), Pid} end,
    receive stop -> true = port_close(Port), ok end.

answers(Database, Deadline) ->
    case is_ready(Database) of
        true -> ok;
        false ->
            erlang:monotonic_time(millisecond) < Deadline orelse error(database_does_not_start),
            answers(Database, Deadline)
    end.

is_ready(#{kind := postgresql} = Database) ->
    element(1, run(psql(Database, "postgres", ["-c", "SELECT 1"]))) =:= 0;
is_ready(#{kind := mysql} = Database) ->
    element(1, run(mariadb(Database, ["-e", "SELECT 1"]))) =:= 0;
is_ready(#{kind := redis} = Database) ->
    run(redis(Database, ["PING"])) =:= {0, "PONG\n"}.

-spec stop(database()) -> ok.
stop(#{directory := Directory} = Database) ->
    ok = kill(Database),
    ok = file:del_dir_r(Directory).

%% As a machine that fails; returns when it is gone.
-spec kill(database()) -> ok.
kill(#{kind := sqlite}) ->
    ok;
kill(#{shell := Shell} = Database) ->
    ok = signal("KILL", Database),
    ok = gone(Database),
    Shell ! stop,
    ok.

gone(#{pid := Pid} = Database) ->
    case filelib:is_dir("/proc/" ++ Pid) of
        true -> gone(Database);
        false -> ok
    end.

%% It takes connections and questions and answers none. SQLite has no server: its file is locked.
-spec pause(database()) -> database().
pause(#{kind := sqlite, config := #{file := File}} = Database) ->
    Lock = spawn(fun() -> locked(binary_to_list(File)) end),
    Lock ! {self(), locked},
    receive {Lock, locked} -> Database#{lock => Lock} after ?TIMEOUT -> error(not_locked) end;
pause(Database) ->
    ok = signal("STOP", Database),
    Database.

locked(File) ->
    Port = open_port({spawn_executable, "/usr/bin/sqlite3"}, [{args, [File]}, {line, 100}]),
    true = port_command(Port, "BEGIN EXCLUSIVE;\nSELECT 'locked';\n"),
    receive {Port, {data, {eol, "locked"}}} -> ok end,
    receive {From, locked} -> From ! {self(), locked} end,
    receive {Owner, resume} ->
        true = port_command(Port, "COMMIT;\nSELECT 'free';\n"),
        receive {Port, {data, {eol, "free"}}} -> ok end,
        true = port_close(Port),
        Owner ! {self(), free}
    end.

-spec resume(database()) -> ok.
resume(#{lock := Lock}) ->
    Lock ! {self(), resume},
    receive {Lock, free} -> ok after ?TIMEOUT -> error(still_locked) end;
resume(Database) ->
    signal("CONT", Database).

%% To a server and the processes that it has made.
signal(Signal, #{pid := Pid}) ->
    Children = string:lexemes(os:cmd("pgrep -P " ++ Pid), "\n"),
    _ = os:cmd("kill -" ++ Signal ++ " " ++ lists:append(lists:join(" ", [Pid | Children]))),
    ok.

%% What a server is configured with.
-spec config(database()) -> map().
config(#{config := Config} = Database) -> #{key(Database) => Config}.

-spec key(database()) -> atom().
key(#{kind := sqlite}) -> userdb;
key(#{kind := postgresql}) -> psql_userdb;
key(#{kind := mysql}) -> mysql_userdb;
key(#{kind := redis}) -> redis_userdb.

%% coturn's own program writes to it.
-spec turnadmin(database(), [string() | binary()]) -> ok.
turnadmin(#{coturn := Where}, Args) ->
    {0, Text} = run(["/usr/bin/turnadmin" | Args ++ Where]),
    %% It keeps a log of each run.
    case re:run(Text, "log file opened: (\\S+)", [{capture, [1], list}]) of
        {match, [Log]} -> file:delete(Log);
        nomatch -> ok
    end.

%% A statement by the database's own program, as its administrator.
-spec sql(database(), iodata()) -> string().
sql(#{kind := sqlite, config := #{file := File}}, Statement) ->
    {0, Text} = run(["/usr/bin/sqlite3", File, Statement]),
    Text;
sql(#{kind := postgresql} = Database, Statement) ->
    Name = case Database of #{config := _} -> "turn"; #{} -> "postgres" end,
    {0, Text} = run(psql(Database, Name, ["-c", Statement])),
    Text;
sql(#{kind := mysql} = Database, Statement) ->
    Name = case Database of #{config := _} -> "turn"; #{} -> "mysql" end,
    {0, Text} = run(mariadb(Database, [Name, "-e", Statement])),
    Text.

%% A program to its end: its status and what it printed.
run([Program | Args]) ->
    Port = open_port({spawn_executable, Program},
                     [{args, Args}, exit_status, stderr_to_stdout, binary, {cd, "/"}]),
    output(Port, <<>>).

output(Port, Text) ->
    receive
        {Port, {data, More}} -> output(Port, <<Text/binary, More/binary>>);
        {Port, {exit_status, Status}} -> {Status, binary_to_list(Text)}
    after ?TIMEOUT -> error({no_end, Text})
    end.
