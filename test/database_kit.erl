%% Databases for suites, as they come from Debian: each on loopback with data of its own in a
%% directory of its own, tables as coturn's packages have them, filled by coturn's own turnadmin. A
%% directory for LDAP has what it is told in LDIF, a web server (test/interop/users_hook.py) what is
%% in its file.
%% One ends when its suite does, however that ends.
-module(database_kit).

-export([start/1, stop/1, kill/1, again/1, pause/1, resume/1, config/1, key/1, add/4, remove/3,
         turnadmin/2, sql/2, entries/2, entry/3, authority/1, hook/2, asked/1, secrets/2,
         peer/4, encrypted/1]).

-export_type([database/0]).

%% `config`: what the key of the configuration has. `coturn`: how turnadmin is told.
-type database() :: #{kind := sqlite | postgresql | mysql | redis | ldap | http,
                      directory := file:filename(), config := map(), coturn => [string()], _ => _}.

-define(TIMEOUT, 60000).
%% Runs a program until standard input closes, and tells its process first.
-define(SHELL, "exec 3<&0 2>/dev/null; \"$@\" </dev/null >/dev/null 2>&1 3<&- & p=$!; echo $p; "
               "{ cat <&3 >/dev/null; kill -9 $p; } & c=$!; wait $p; kill $c").
-define(PASSWORD, "s3cret=of-the-database").

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
    {Authority, Certificate, Key} = certificate(Directory),
    "" = os:cmd("chown -R postgres " ++ Directory),
    [Data, File] = [filename:join(Directory, Name) || Name <- ["data", "password"]],
    ok = file:write_file(File, ?PASSWORD),
    {0, _} = run(as(postgres, [postgresql("initdb"), "--auth-local=trust",
                               "--auth-host=scram-sha-256", "--pwfile=" ++ File, "--no-sync",
                               "-E", "UTF8", "--locale=C", "-D", Data])),
    Port = turn_kit:free_tcp_port(),
    Running = again(Database#{port => Port, authority => Authority, program =>
        as(postgres, [postgresql("postgres"), "-D", Data, "-k", Directory,
                      "-p", integer_to_list(Port),
                      "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
                      "-c", "shared_buffers=16MB", "-c", "ssl=on",
                      "-c", "ssl_cert_file=" ++ Certificate, "-c", "ssl_key_file=" ++ Key])}),
    _ = sql(Running, "CREATE DATABASE turn"),
    {0, _} = run(psql(Running, "turn", ["-f", "/usr/share/coturn/schema.sql"])),
    Running#{config => (connection(postgresql, Port, <<"turn">>))#{user := <<"postgres">>},
             coturn => ["-e", "host=127.0.0.1 port=" ++ integer_to_list(Port) ++
                            " dbname=turn user=postgres password=" ?PASSWORD]};

new(mysql, #{directory := Directory} = Database) ->
    {Authority, Certificate, Key} = certificate(Directory),
    "" = os:cmd("chown -R mysql " ++ Directory),
    Data = "--datadir=" ++ filename:join(Directory, "data"),
    {0, _} = run(as(mysql, ["/usr/bin/mariadb-install-db", "--no-defaults", Data, "--skip-test-db",
                            "--auth-root-authentication-method=normal"])),
    Port = turn_kit:free_tcp_port(),
    Running = again(Database#{port => Port, authority => Authority, program =>
        as(mysql, ["/usr/sbin/mariadbd", "--no-defaults", Data, "--bind-address=127.0.0.1",
                   "--port=" ++ integer_to_list(Port), "--skip-name-resolve",
                   "--socket=" ++ filename:join(Directory, "socket"),
                   "--pid-file=" ++ filename:join(Directory, "pid"),
                   "--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=2",
                   "--innodb-buffer-pool-size=16M",
                   "--ssl-cert=" ++ Certificate, "--ssl-key=" ++ Key])}),
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
                            " dbname=2 password=" ?PASSWORD]};

new(ldap, #{directory := Directory} = Database) ->
    Port = turn_kit:free_tcp_port(),
    Tls = turn_kit:free_tcp_port(),
    {Authority, Certificate, Key} = certificate(Directory),
    Data = filename:join(Directory, "data"),
    ok = file:make_dir(Data),
    File = filename:join(Directory, "slapd.conf"),
    ok = file:write_file(File, [[Line, $\n] || Line <- [
        ["include /etc/ldap/schema/" ++ Schema ++ ".schema"]
            || Schema <- ["core", "cosine", "inetorgperson"]] ++ [
        "modulepath /usr/lib/ldap", "moduleload back_mdb",
        "TLSCertificateFile " ++ Certificate, "TLSCertificateKeyFile " ++ Key,
        "database mdb", "maxsize 4294967296", "suffix dc=example,dc=org", "directory " ++ Data,
        "rootdn cn=turn,dc=example,dc=org", "rootpw " ?PASSWORD, "dbnosync",
        "index objectClass,uid,o eq",
        "access to * by * none"]]),
    Url = "ldap://127.0.0.1:" ++ integer_to_list(Port),
    Running = again(Database#{url => Url, authority => Authority, program =>
        ["/usr/sbin/slapd", "-d", "0", "-f", File,
         "-h", Url ++ " ldaps://127.0.0.1:" ++ integer_to_list(Tls)]}),
    ok = entries(Running, [[entry("dc=example,dc=org", add, [
        {"objectClass", "dcObject"}, {"objectClass", "organization"}, {"dc", "example"},
        {"o", "Example"}]), entry("ou=people,dc=example,dc=org", add, [
        {"objectClass", "organizationalUnit"}, {"ou", "people"}])]]),
    Running#{tls_port => Tls, config =>
        #{kind => ldap, host => <<"127.0.0.1">>, port => Port, tls => no, name => <<"uid">>,
          base => <<"ou=people,dc=example,dc=org">>, realm => <<"o">>,
          password_attribute => <<"userPassword">>,
          binddn => <<"cn=turn,dc=example,dc=org">>, password => <<?PASSWORD>>}};
new(https, #{directory := Directory} = Database) ->
    {Authority, Certificate, Key} = certificate(Directory),
    web("https", [Certificate, Key], Database#{kind := http, authority => Authority});
new(http, Database) ->
    web("http", [], Database).

certificate(Directory) ->
    Authority = certificate_kit:authority(Directory),
    #{certificate := Certificate, key := Key} =
        certificate_kit:issued(Authority, "IP:127.0.0.1,DNS:localhost"),
    {Authority, Certificate, Key}.

web(Scheme, Tls, #{directory := Directory} = Database) ->
    Port = turn_kit:free_tcp_port(),
    File = filename:join(Directory, "users.json"),
    Hook = filename:join(docs_kit:root(), "test/interop/users_hook.py"),
    Url = list_to_binary([Scheme, "://127.0.0.1:", integer_to_list(Port), "/turn"]),
    New = Database#{port => Port, file => File, config =>
        #{kind => http, url => Url, token => <<?PASSWORD>>, address => false}, program =>
        ["/usr/bin/python3", Hook, File, integer_to_list(Port), ?PASSWORD | Tls]},
    ok = hook(New, #{users => #{}}),
    again(New).

%% What the web server knows from now on.
-spec hook(database(), map()) -> ok.
hook(#{file := File}, Known) ->
    ok = file:write_file(File ++ ".new", meerkat_json:encode(Known)),
    file:rename(File ++ ".new", File).

known(#{file := File}) ->
    {ok, Text} = file:read_file(File),
    {ok, #{<<"users">> := Users}} = meerkat_json:decode(Text),
    Users.

%% What it was asked, in order.
-spec asked(database()) -> [map()].
asked(#{file := File}) ->
    {ok, Text} = file:read_file(File ++ ".asked"),
    [Asked || Line <- binary:split(Text, <<"\n">>, [global, trim]),
              {ok, Asked} <- [meerkat_json:decode(Line)]].

connection(Kind, Port, Name) ->
    #{kind => Kind, host => <<"127.0.0.1">>, port => Port, user => <<"turn">>,
      password => <<?PASSWORD>>, database => Name}.

%% Each Debian has one version of it, in a directory of that name.
postgresql(Program) ->
    lists:last(lists:sort(filelib:wildcard("/usr/lib/postgresql/*/bin/" ++ Program))).

%% By its Unix socket and so without TLS: from 11.4 on the client would verify the certificate.
mariadb(#{directory := Directory}, Args) ->
    ["/usr/bin/mariadb", "--no-defaults", "--skip-ssl", "-N", "-u", "root",
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
    run(redis(Database, ["PING"])) =:= {0, "PONG\n"};
is_ready(#{kind := http, port := Port}) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, []) of
        {ok, Socket} -> gen_tcp:close(Socket) =:= ok;
        {error, _} -> false
    end;
is_ready(#{kind := ldap} = Database) ->
    element(1, run(ldap(Database, "ldapwhoami", []))) =:= 0.

ldap(#{url := Url}, Program, Args) ->
    ["/usr/bin/" ++ Program, "-x", "-H", Url, "-D", "cn=turn,dc=example,dc=org",
     "-w", ?PASSWORD | Args].

%% Changes in LDIF are made, which are in a file before.
-spec entries(database(), iodata()) -> ok.
entries(#{directory := Directory} = Database, Ldif) ->
    File = filename:join(Directory, "changes.ldif"),
    ok = file:write_file(File, Ldif),
    {0, _} = run(ldap(Database, "ldapmodify", ["-f", File])),
    ok.

%% An entry in LDIF, with these values; or its end.
-spec entry(string(), add | delete, [{string(), iodata()}]) -> iolist().
entry(Dn, Change, Values) ->
    ["dn: ", Dn, "\nchangetype: ", atom_to_list(Change), $\n,
     [[Attribute, ":: ", base64:encode(iolist_to_binary(Value)), $\n]
      || {Attribute, Value} <- Values], $\n].

%% Who has issued the certificate of the directory.
-spec authority(database()) -> certificate_kit:pair().
authority(#{authority := Authority}) -> Authority.

-spec stop(database()) -> ok.
stop(#{directory := Directory} = Database) ->
    ok = kill(Database),
    %% Who had a file of SQLite open closes it a moment after the end of its connection.
    turn_kit:eventually(fun() -> file:del_dir_r(Directory) =:= ok end).

%% As a machine that fails; returns when it is gone.
-spec kill(database()) -> ok.
kill(#{kind := sqlite}) ->
    ok;
kill(#{shell := Shell, pid := Pid} = Database) ->
    _ = os:cmd("kill -KILL " ++ lists:append(lists:join(" ", [Pid | children(Pid)]))),
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
pause(#{pid := Pid} = Database) ->
    %% First itself, which then makes no more of them.
    ok = process_kit:hold(Pid),
    _ = [ok = process_kit:hold(Child) || Child <- children(Pid)],
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
resume(#{pid := Pid}) ->
    _ = [ok = process_kit:let_go(Each) || Each <- children(Pid) ++ [Pid]],
    ok.

%% The processes that a server has made.
children(Pid) -> string:lexemes(os:cmd("pgrep -P " ++ Pid), "\n").

%% What a server is configured with.
-spec config(database()) -> map().
config(#{config := Config} = Database) -> #{key(Database) => Config}.

-spec key(database()) -> atom().
key(#{kind := sqlite}) -> userdb;
key(#{kind := postgresql}) -> psql_userdb;
key(#{kind := mysql}) -> mysql_userdb;
key(#{kind := redis}) -> redis_userdb;
key(#{kind := ldap}) -> ldap_userdb;
key(#{kind := http}) -> http_userdb.

%% A user and a password, by the database's own means: what its operators have.
-spec add(database(), iodata(), Realm :: iodata(), Password :: iodata()) -> ok.
add(#{kind := ldap} = Database, User, Realm, Password) ->
    entries(Database, [[entry(Dn, delete, []) || is_entry(Database, Dn)]
                       ++ [entry(Dn, add, person(User, Realm, Password))]
                       || Dn <- [dn(User, Realm)]]);
add(#{kind := http} = Database, User, Realm, Password) ->
    answer(Database, User, Realm, fun(Users) ->
        Users#{iolist_to_binary(User) => #{password => iolist_to_binary(Password)}}
    end);
add(Database, User, Realm, Password) ->
    turnadmin(Database, ["-a", "-u", User, "-r", Realm, "-p", Password]).

-spec remove(database(), iodata(), Realm :: iodata()) -> ok.
remove(#{kind := ldap} = Database, User, Realm) ->
    entries(Database, entry(dn(User, Realm), delete, []));
remove(#{kind := http} = Database, User, Realm) ->
    answer(Database, User, Realm, fun(Users) -> maps:remove(iolist_to_binary(User), Users) end);
remove(Database, User, Realm) ->
    turnadmin(Database, ["-d", "-u", User, "-r", Realm]).

answer(Database, _User, Realm, Fun) ->
    Known = known(Database),
    Name = iolist_to_binary(Realm),
    hook(Database, #{users => Known#{Name => Fun(maps:get(Name, Known, #{}))}}).

person(User, Realm, Password) ->
    [{"objectClass", "inetOrgPerson"}, {"cn", "a user"}, {"sn", "a user"}, {"uid", User},
     {"o", Realm}, {"userPassword", Password}, {"employeeNumber", number(User, Realm)}].

%% Names have letters that a DN would need other words for.
dn(User, Realm) -> "employeeNumber=" ++ number(User, Realm) ++ ",ou=people,dc=example,dc=org".

number(User, Realm) ->
    binary_to_list(binary:encode_hex(crypto:hash(sha, [User, 0, Realm]))).

is_entry(Database, Dn) ->
    element(1, run(ldap(Database, "ldapcompare", [Dn, "objectClass:inetOrgPerson"]))) =:= 6.

%% coturn's own program writes to it.
-spec turnadmin(database(), [string() | binary()]) -> ok.
turnadmin(Database, Args) ->
    _ = said(Database, Args),
    ok.

%% What that program lists.
-spec secrets(database(), Realm :: string()) -> string().
secrets(Database, Realm) -> said(Database, ["-S", "-r", Realm]).

said(#{coturn := Where}, Args) ->
    {0, Text} = run(["/usr/bin/turnadmin" | Args ++ Where]),
    %% It keeps a log of each run.
    case re:run(Text, "log file opened: (\\S+)", [{capture, [1], list}]) of
        {match, [Log]} -> ok = file:delete(Log);
        nomatch -> ok
    end,
    Text.

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

%% How many connections of others it has by TLS.
-spec encrypted(database()) -> non_neg_integer().
encrypted(#{kind := postgresql} = Database) ->
    list_to_integer(string:trim(sql(Database, "SELECT count(*) FROM pg_stat_ssl WHERE ssl")));
encrypted(#{kind := mysql} = Database) ->
    ["Ssl_finished_accepts", N] = string:lexemes(sql(Database, "SHOW GLOBAL STATUS LIKE "
                                                     "'Ssl_finished_accepts'"), "\t\n"),
    list_to_integer(N).

%% A row of coturn's with peers, as its administrators write it.
-spec peer(database(), allowed | denied, Realm :: string(), Range :: string()) -> ok.
peer(#{kind := redis} = Database, Kind, Realm, Range) ->
    Key = lists:concat(["turn/realm/", Realm, "/", Kind, "-peer-ip"]),
    {0, "1\n"} = run(redis(Database, ["SADD", Key, Range])),
    ok;
peer(Database, Kind, Realm, Range) ->
    "" = sql(Database, lists:concat(["INSERT INTO ", Kind, "_peer_ip (realm, ip_range) VALUES ('",
                                     Realm, "', '", Range, "')"])),
    ok.

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
