%% Accounting to databases: the same cases for each kind that speaks SQL, with the servers that
%% Debian has and the statements of docs/accounting.md; and to Redis, held against what coturn's own
%% server tells it. Each server is stopped and killed: no record is lost, and no row is there twice.
-module(accounting_database_SUITE).

-include_lib("stdlib/include/assert.hrl").

-import(turn_kit, [doc/1, eventually/1, eventually/2, with_server/2, close/1, allocated/1,
                   allocated/3, delete/1, permit/2, send_to/3, peer/0, peer_send/3, peer_next/1]).

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2, init_per_testcase/2]).
-export([rows_say_what_records_say/1, statements_of_the_page/1, hostile_names_hold_nothing_up/1,
         a_table_that_is_not_there/1, none_is_lost_while_it_is_away/1]).
-export([redis_is_told_as_coturn_tells_it/1, redis_is_told_again_after_it_was_away/1]).

-define(REALM, "example.org").

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, sqlite}, {group, postgresql}, {group, mysql}, {group, redis}].

%% The first case makes the table.
groups() ->
    Same = [a_table_that_is_not_there, rows_say_what_records_say, statements_of_the_page,
            hostile_names_hold_nothing_up, none_is_lost_while_it_is_away],
    [{sqlite, [], Same}, {postgresql, [], Same}, {mysql, [], Same},
     {redis, [], [redis_is_told_as_coturn_tells_it, redis_is_told_again_after_it_was_away]}].

init_per_group(Kind, Config) ->
    {ok, _} = application:ensure_all_started(meerkat),
    ok = keep(database_kit:start(Kind)),
    Config.

end_per_group(_Kind, _Config) ->
    ok = database_kit:stop(database()).

%% The database of a group, as it is after the case before.
keep(Database) -> persistent_term:put(?MODULE, Database).
database() -> persistent_term:get(?MODULE).

init_per_testcase(Case, Config) ->
    #{kind := Kind} = database(),
    Dir = filename:join([proplists:get_value(priv_dir, Config), Kind, Case]),
    ok = filelib:ensure_path(Dir),
    [{dir, Dir} | Config].

%% A server that keeps account there, and in a file, to compare.
to_database(Config, More) ->
    #{config := Connection, kind := Kind} = database(),
    Dir = proplists:get_value(dir, Config),
    Key = case Kind of redis -> redis_statsdb; _ -> accounting_database end,
    maps:merge(#{Key => Connection, accounting_file => list_to_binary(file(Config)),
                 accounting_spool => list_to_binary(filename:join(Dir, "spool"))}, More).

file(Config) -> filename:join(proplists:get_value(dir, Config), "accounting.jsonl").

%% ---------------------------------------------------------------------------------- each SQL

a_table_that_is_not_there(Config) ->
    doc("it is told what helps; made where that is asked for, as the page's statement makes it"),
    Database = database(),
    with_server(to_database(Config, #{}), fun(#{name := Name} = Server) ->
        ok = allocations(Server, 2),
        ok = eventually(fun() ->
            #{trouble := Why} = sink(Server),
            is_binary(Why) andalso string:find(Why, "accounting_create_table = true") =/= nomatch
        end),
        #{config := Running} = meerkat_registry:settings(Name),
        ok = meerkat:reload(Name, (Running())#{accounting_create_table => true}),
        ok = all_taken(Server, 2, 2),
        ?assertEqual(["5"], query("SELECT count(*) FROM meerkat_accounting"))
    end),
    Ours = query(columns(Database)),
    _ = query("DROP TABLE meerkat_accounting"),
    _ = [query(Statement) || Statement <- creation(Database)],
    ?assertEqual(Ours, query(columns(Database))),
    ?assertEqual(25, length(Ours)).

columns(#{kind := sqlite}) ->
    "SELECT name, lower(type), pk FROM pragma_table_info('meerkat_accounting') ORDER BY cid";
columns(#{kind := Kind}) ->
    Schema = case Kind of mysql -> "'turn'"; postgresql -> "'public'" end,
    ["SELECT column_name, data_type, character_maximum_length, datetime_precision, is_nullable ",
     [", character_set_name " || Kind =:= mysql],
     "FROM information_schema.columns WHERE table_name='meerkat_accounting' AND table_schema=",
     Schema, " ORDER BY ordinal_position"].

%% The page's, with what it says of MySQL.
creation(#{kind := Kind}) ->
    Statements = [S || S <- statements(), string:prefix(S, "CREATE") =/= nomatch],
    [case Kind of
         mysql ->
             Own = string:replace(S, "timestamp(3)", "datetime(3)", all),
             [Own | [" CHARACTER SET utf8mb4" || string:find(S, "CREATE TABLE") =/= nomatch]];
         _ ->
             S
     end || S <- Statements].

%% Of docs/accounting.md, in its order.
statements() ->
    [Statement || #{language := "sql", text := Text} <- docs_kit:blocks("docs/accounting.md"),
                  Statement <- string:lexemes(unicode:characters_to_list(Text), ";"),
                  Statement =/= "\n"].

statement(Beginning) ->
    [Statement] = [S || S <- statements(),
                        string:prefix(string:trim(S), Beginning) =/= nomatch],
    Statement.

rows_say_what_records_say(Config) ->
    doc("each field of each record is in its column, whatever kind of record it is"),
    ok = emptied(),
    with_server(to_database(Config, #{}), fun(Server) ->
        {Client, Peer} = talking(Server),
        ok = relayed_both_ways(Client, Peer, 100, 60),
        _ = delete(Client),
        ok = all_taken(Server, 1, 1),
        ok = rows_are(records(Config))
    end).

rows_are(Records) ->
    Names = ["record", "type", "host", "server", "session_id", "user_id", "username", "realm",
             "client", "transport", "listener", "relayed", "protocol", "lifetime",
             "client_packets", "client_bytes", "peer_packets", "peer_bytes", "dropped", "reason",
             "instance", "count"],
    [?assertEqual(lists:sort([text(maps:get(field(Name), R, null)) || R <- Records]),
                  lists:sort(query(["SELECT trim(coalesce(cast(", Name,
                                    " AS char(255)), '(null)')) FROM meerkat_accounting"])))
     || Name <- Names],
    %% Times as the database has them, and numbers that it counts with.
    [#{<<"start_time">> := <<Day:10/binary, $T, Time:12/binary, $Z>>, <<"duration">> := Seconds}] =
        [R || #{<<"type">> := <<"stop">>} = R <- Records],
    ?assertEqual(["1"],
                 query(["SELECT count(*) FROM meerkat_accounting WHERE type='stop' AND ",
                                "start_time='", Day, " ", Time, "' AND abs(duration - ",
                                io_lib:format("~p", [Seconds]), ") < 0.001"])),
    ok.

field("user_id") -> <<"user">>;
field(Name) -> list_to_binary(Name).

text(null) -> "(null)";
text(N) when is_integer(N) -> integer_to_list(N);
text(List) when is_list(List) -> lists:append(lists:join(" ", [binary_to_list(T) || T <- List]));
text(Text) -> binary_to_list(Text).

statements_of_the_page(_Config) ->
    doc("traffic per user and month, who used most, who is on, what is old, as the page asks"),
    ok = emptied(),
    %% What comes later has a name that sorts before, by which MySQL keeps its rows: two rows of the
    %% same time are not found in the order in which they came.
    Names = counters:new(1, []),
    Row = fun(Time, Session, User, Type, Bytes) ->
        ok = counters:sub(Names, 1, 1),
        query(io_lib:format(
            "INSERT INTO meerkat_accounting (record, type, time, host, server, session_id, "
            "user_id, client, start_time, duration, client_bytes, peer_bytes) VALUES "
            "('~w', '~s', '~s', 'h', 'default', ~s, '~s', 'c', '2026-10-31 23:00:00', 3600, ~b, "
            "~b)", [1000 + counters:get(Names, 1), Type, Time, Session, User, Bytes, 2 * Bytes]))
    end,
    _ = Row("2026-10-30 00:00:00", "'0'", "mallory", "start", 0),
    _ = Row("2026-10-31 22:59:00", "NULL", "", "on", 0),
    _ = Row("2026-10-31 23:00:00", "'1'", "alice", "start", 0),
    _ = Row("2026-10-31 23:00:00", "'2'", "bob", "start", 0),
    _ = Row("2026-10-31 23:59:00", "'1'", "alice", "interim", 1000),
    _ = Row("2026-11-01 00:10:00", "'1'", "alice", "stop", 1500),
    _ = Row("2026-11-02 00:10:00", "'3'", "alice", "start", 0),
    _ = Row("2026-11-02 00:10:00", "'3'", "alice", "stop", 7),
    ?assertEqual(["alice 2026-10 3000", "bob 2026-10 0", "mallory 2026-10 0", "alice 2026-11 1521"],
                 lists:sort(fun(A, B) -> month(A) =< month(B) end,
                            lists:sort(query(statement("SELECT user_id, substr"))))),
    [Most] = query(statement("SELECT user_id, count")),
    ?assertMatch(["alice", "2", _, _], string:lexemes(Most, " ")),
    [Hours, Gigabytes] = [number(T) || T <- tl(tl(string:lexemes(Most, " ")))],
    ?assert(abs(Hours - 2) < 0.001 andalso abs(Gigabytes - 4.521e-6) < 1.0e-9),
    ?assertMatch(["bob c h 2026-10-31 23:00:00" ++ _],
                 query(statement("SELECT a.user_id"))),
    _ = query("UPDATE meerkat_accounting SET time='2025-11-30 23:59:59' WHERE type='on'"),
    _ = query(statement("DELETE")),
    %% A row of the server before may come late.
    ?assertEqual(["7"], query("SELECT count(*) FROM meerkat_accounting WHERE host='h'")).

month(Line) -> lists:nth(2, string:lexemes(Line, " ")).

number(Text) ->
    try list_to_float(Text) catch error:badarg -> float(list_to_integer(Text)) end.

hostile_names_hold_nothing_up(Config) ->
    doc("what a client calls itself is a value, whatever it looks like; each record is there"),
    ok = emptied(),
    Names = [<<"'; DROP TABLE meerkat_accounting; --">>, <<"x', 'y'), ('z">>, <<"\"">>, <<"\\">>,
             <<"\\'">>, <<"$1 ?1 %s ~s">>, <<"/* ">>, <<"х😀"/utf8>>, <<"a", 0, "b">>,
             <<"a\nb\tc">>, binary:copy(<<"é"/utf8>>, 230), <<"carol ">>, <<"CAROL">>],
    with_server(to_database(Config, #{}), fun(#{secret := Secret} = Server) ->
        [begin
             {User, Password} = meerkat_auth_rest:credentials(Secret, Name, 600,
                                                              erlang:system_time(second)),
             Client = allocated(Server, [], #{user => User, password => Password}),
             _ = delete(Client),
             close(Client)
         end || Name <- Names],
        ok = all_taken(Server, length(Names), length(Names))
    end),
    ?assertEqual([integer_to_list(length(Names))],
                 query("SELECT count(*) FROM meerkat_accounting WHERE type='stop'")),
    %% As the database's own program counts their letters.
    Length = case database() of #{kind := mysql} -> "char_length"; _ -> "length" end,
    ?assertEqual(lists:sort([integer_to_list(length(unicode:characters_to_list(N)))
                             || N <- Names, N =/= <<"carol ">>]),
                 lists:sort(query(["SELECT ", Length, "(user_id) FROM meerkat_accounting "
                                           "WHERE type='stop' AND user_id <> 'carol '"])
                            ++ ["5" || maps:get(kind, database()) =:= mysql])).

none_is_lost_while_it_is_away(Config) ->
    doc("stopped, then killed, while allocations come and go: each record is there, and once"),
    ok = emptied(),
    Database = database(),
    with_server(to_database(Config, #{}), fun(Server) ->
        ok = allocations(Server, 20),
        ok = all_taken(Server, 20, 20),
        Paused = database_kit:pause(Database),
        %% Each is answered: turn_kit waits for that.
        ok = allocations(Server, 20),
        Again = case Database of
            #{kind := sqlite} ->
                ok = eventually(fun() -> is_binary(maps:get(trouble, sink(Server))) end),
                ok = database_kit:resume(Paused),
                Database;
            #{} ->
                ok = database_kit:kill(Database),
                ok = allocations(Server, 20),
                ok = eventually(fun() -> is_binary(maps:get(trouble, sink(Server))) end),
                find_again(Database)
        end,
        N = case Database of #{kind := sqlite} -> 40; #{} -> 60 end,
        ok = all_taken(Server, N, N),
        ?assertMatch(#{lost := 0, trouble := none}, sink(Server)),
        Counts = query("SELECT count(*), count(DISTINCT session_id) FROM "
                               "meerkat_accounting WHERE type <> 'on'"),
        ?assertEqual([lists:concat([2 * N, " ", N])], Counts),
        %% A batch that comes again changes nothing.
        #{config := Connection} = Again,
        {ok, Sql} = meerkat_account_sql:open({fun() -> Connection end, false}),
        {ok, Content} = file:read_file(file(Config)),
        Lines = binary:split(Content, <<"\n">>, [global, trim]),
        {ok, _} = meerkat_account_sql:deliver(Lines, Sql),
        ok = meerkat_account_sql:close(Sql),
        ?assertEqual(Counts, query("SELECT count(*), count(DISTINCT session_id) FROM "
                                           "meerkat_accounting WHERE type <> 'on'"))
    end).

find_again(Database) ->
    Again = database_kit:again(Database),
    ok = keep(Again),
    Again.

%% -------------------------------------------------------------------------------------- Redis

redis_is_told_as_coturn_tells_it(Config) ->
    doc("coturn and Meerkat do the same: the same channels, words in the same form; and true"),
    Listener = listener(),
    Theirs = with_coturn(fun(Server) ->
        _ = talked_once(Server),
        ended(Listener)
    end),
    {Ours, Client} = with_server(to_database(Config, #{accounting_interval => 1}), fun(Server) ->
        {Client, Peer} = talking(Server),
        ok = relayed_both_ways(Client, Peer, 100, 60),
        First = until_counted([1, 60, 1, 100], Listener),
        [{Status, _} | _] = First,
        %% It ends by itself where a server was killed.
        ?assertMatch("refreshed lifetime=600, " ++ _, redis(["GET", Status])),
        Seconds = list_to_integer(redis(["TTL", Status])),
        ?assert(Seconds > 0 andalso Seconds =< 3),
        ok = relayed_both_ways(Client, Peer, 7, 8),
        _ = delete(Client),
        Rest = ended(Listener),
        ?assertEqual("", redis(["GET", Status])),
        {First ++ Rest, Client}
    end),
    ?assertEqual(lists:usort([form(Told) || Told <- Theirs]),
                 lists:usort([form(Told) || Told <- Ours])),
    #{here := Here, to := To} = Client,
    ?assertEqual("new lifetime=600, type=UDP, local=" ++ meerkat_text:address(To) ++ ", remote="
                 ++ meerkat_text:address(Here) ++ ", ssl=NONE, cipher=NONE",
                 lists:flatten(element(2, hd(Ours)))),
    [?assertEqual(counts("/total_traffic" ++ Of, Ours), [sum(counts("/traffic" ++ Of, Ours))])
     || Of <- ["", "/peer"]],
    ?assertEqual([[2, 107, 2, 68]], counts("/total_traffic", Ours)),
    ?assertEqual([[2, 68, 2, 107]], counts("/total_traffic/peer", Ours)).

%% Numbers are others each time; an id has 18 digits.
form({Channel, Message}) ->
    Id = re:replace(Channel, "/[0-9]{18}/", "/ID/"),
    [re:replace(Text, "[0-9]+", "N", [global, {return, list}]) || Text <- [Id, Message]].

counts(Channel, Told) ->
    [[list_to_integer(N) || N <- string:lexemes(Message, "rcvpbsent=, ")]
     || {Of, Message} <- Told, lists:suffix(Channel, Of)].

sum(Rows) ->
    lists:foldl(fun(Row, Sum) -> lists:zipwith(fun erlang:'+'/2, Row, Sum) end, [0, 0, 0, 0], Rows).

redis_is_told_again_after_it_was_away(Config) ->
    doc("stopped, killed, and empty when it is back: nothing is lost, who lives is there again"),
    Options = to_database(Config, #{accounting_interval => 1}),
    with_server(Options, fun(Server) ->
        Database = database(),
        Before = allocated(Server),
        ok = all_taken(Server, 1, 0),
        ok = eventually(fun() -> length(live()) =:= 1 end),
        _ = database_kit:pause(Database),
        ok = allocations(Server, 20),
        ok = database_kit:kill(Database),
        During = allocated(Server),
        ok = allocations(Server, 20),
        ok = eventually(fun() -> is_binary(maps:get(trouble, sink(Server))) end),
        _ = find_again(Database),
        ok = all_taken(Server, 42, 40),
        ok = eventually(fun() -> length(live()) =:= 2 end),
        ?assertMatch(#{lost := 0, trouble := none}, sink(Server)),
        [_ = delete(Client) || Client <- [Before, During]],
        ok = eventually(fun() -> live() =:= [] end)
    end).

%% By the keys that coturn's consumers look for.
live() ->
    string:lexemes(redis(["--scan", "--pattern", "turn/realm/*/user/*/allocation/*/status"]), "\n").

redis(Command) ->
    [Program | Args] = redis_cli(Command),
    Port = open_port({spawn_executable, Program}, [{args, Args}, exit_status]),
    string:trim(output(Port, "")).

output(Port, Text) ->
    receive
        {Port, {data, More}} -> output(Port, Text ++ More);
        {Port, {exit_status, 0}} -> Text
    end.

redis_cli(Command) ->
    #{config := #{port := Port, password := Password, database := Database}} = database(),
    ["/usr/bin/redis-cli", "-p", integer_to_list(Port), "-a", binary_to_list(Password),
     "--no-auth-warning", "-n", binary_to_list(Database) | Command].

%% A program that listens to all allocations, as consumers of coturn's do.
listener() ->
    [Program | Args] = redis_cli(["PSUBSCRIBE", "turn/realm/*/user/*/allocation/*"]),
    Port = open_port({spawn_executable, Program}, [{args, Args}, {line, 1000}]),
    ["psubscribe", _, "1"] = [line(Port) || _ <- lists:seq(1, 3)],
    Port.

line(Port) -> receive {Port, {data, {eol, Line}}} -> Line end.

heard(Port) ->
    ["pmessage", _, Channel, Message] = [line(Port) || _ <- lists:seq(1, 4)],
    {Channel, Message}.

%% All up to this one.
until(Channel, Port) ->
    {Of, _} = Told = heard(Port),
    case lists:suffix(Channel, Of) of
        true -> [Told];
        false -> [Told | until(Channel, Port)]
    end.

%% All up to where the counters of peers have grown to this sum: there may be a record between one
%% packet and the next.
until_counted(Wanted, Port) -> lists:reverse(until_counted(Wanted, Port, [])).

until_counted(Wanted, Port, Told) ->
    All = [heard(Port) | Told],
    case sum(counts("/traffic/peer", All)) of
        Wanted -> All;
        _Less -> until_counted(Wanted, Port, All)
    end.

ended(Port) -> until("/total_traffic/peer", Port).

%% coturn's own server, which ends with this node.
with_coturn(Fun) ->
    #{coturn := ["-N", Where]} = database(),
    Port = turn_kit:free_ports(1),
    Program = open_port({spawn_executable, "/usr/bin/setpriv"},
                        [{args, ["--pdeathsig", "KILL", "/usr/bin/turnserver", "-n", "-L",
                                 "127.0.0.1", "-p", integer_to_list(Port), "-u",
                                 "alice:wonderland", "-r", ?REALM, "--lt-cred-mech", "-O", Where,
                                 "--allow-loopback-peers", "--no-cli", "--no-tls", "--no-dtls",
                                 "--log-file", "stdout", "--simple-log"]},
                         stderr_to_stdout, binary, exit_status]),
    try
        ok = answers(Port),
        Fun(#{name => coturn, foreign => true, realm => <<?REALM>>, secret => <<>>,
              ip => {127, 0, 0, 1}, port => Port, listeners => [{{127, 0, 0, 1}, Port}],
              users => #{<<"alice">> => <<"wonderland">>}})
    after
        {os_pid, Pid} = erlang:port_info(Program, os_pid),
        _ = os:cmd(["kill -KILL ", integer_to_list(Pid)]),
        ok = is_over(Program)
    end.

is_over(Program) ->
    receive
        {Program, {data, _}} -> is_over(Program);
        {Program, {exit_status, _}} -> ok
    end.

answers(Port) ->
    {ok, Socket} = gen_udp:open(0, [binary, {active, false}]),
    Request = stun_model:encode(#{class => request, method => binding,
                                  transaction_id => <<7:96>>, attributes => []}),
    ok = eventually(fun() ->
        ok = gen_udp:send(Socket, {127, 0, 0, 1}, Port, Request),
        element(1, gen_udp:recv(Socket, 0, 50)) =:= ok
    end),
    gen_udp:close(Socket).

talked_once(Server) ->
    {Client, Peer} = talking(Server),
    ok = relayed_both_ways(Client, Peer, 100, 60),
    delete(Client).

%% ------------------------------------------------------------------------------------- pieces

emptied() ->
    _ = query("DELETE FROM meerkat_accounting"),
    ok.

%% Lines of what the database's own program prints, columns with a blank between.
query(Statement) ->
    Text = database_kit:sql(database(), unicode:characters_to_list(Statement)),
    [re:replace(Line, "[|\t]", " ", [global, {return, list}])
     || Line <- string:lexemes(Text, "\n")].

records(Config) ->
    {ok, Content} = file:read_file(file(Config)),
    [begin {ok, Record} = meerkat_json:decode(Line), Record end
     || Line <- binary:split(Content, <<"\n">>, [global, trim])].

%% So many have begun and ended, and all records of that are where they belong. A client has its
%% answer before there is a record of it. A sink whose database was away looks again after half a
%% minute at most.
all_taken(#{name := Name}, Begun, Ended) ->
    eventually(fun() ->
        #{accounting := #{sinks := Sinks, records := Made}} = meerkat:info(Name),
        All = lists:sum(maps:values(Made)),
        {Begun, Ended} =:= {maps:get(start, Made, 0), maps:get(stop, Made, 0)} andalso
            lists:all(fun(#{waiting := Waiting, delivered := N}) ->
                Waiting =:= 0 andalso N >= All
            end, maps:values(Sinks))
    end, 90000).

sink(#{name := Name}) ->
    #{accounting := #{sinks := Sinks}} = meerkat:info(Name),
    [Sink] = maps:values(maps:with([database, redis], Sinks)),
    Sink.

%% So many are made and deleted, one by one.
allocations(Server, N) ->
    lists:foreach(fun(_) ->
        Client = allocated(Server),
        _ = delete(Client),
        close(Client)
    end, lists:seq(1, N)).

talking(Server) ->
    Client = allocated(Server),
    Peer = #{address := Address} = peer(),
    _ = permit(Client, [Address]),
    {Client, Peer}.

relayed_both_ways(#{relayed := Relayed} = Client, #{address := Address} = Peer, Out, In) ->
    ok = send_to(Client, Address, binary:copy(<<"o">>, Out)),
    {_, _} = peer_next(Peer),
    ok = peer_send(Peer, Relayed, binary:copy(<<"i">>, In)),
    %% coturn's indications are not quite ours, so that turn_kit:data/1 would complain.
    {ok, #{method := data}} = stun_model:decode(turn_kit:next(Client)),
    ok.
