%% A file of SQLite with coturn's tables (`turndb`), by the library p1_sqlite3. A file that is not
%% there is made, readable by nobody else.
-module(meerkat_database_sqlite).
-behaviour(meerkat_database).

-export([connect/1, describe/1]).

-define(HAS_OWN, "SELECT count(*) FROM sqlite_master WHERE name='meerkat_user_key'").
%% Another program may have it locked.
-define(BUSY, "PRAGMA busy_timeout=2000").
-define(TIMEOUT_MS, 10000).

-spec describe(map()) -> unicode:chardata().
describe(#{file := File}) -> ["SQLite ", meerkat_text:printable(File)].

-spec connect(map()) -> {ok, meerkat_database:connection()} | meerkat_database:failure().
connect(#{file := File}) ->
    case made(File) of
        ok -> opened(sqlite3:open(anonymous, [{file, unicode:characters_to_list(File)}]));
        {error, Reason} -> {error, file:format_error(Reason)}
    end.

made(File) ->
    case file:open(File, [write, exclusive, raw]) of
        {ok, Device} ->
            ok = file:close(Device),
            file:change_mode(File, 8#600);
        {error, eexist} -> ok;
        {error, Reason} -> {error, Reason}
    end.

opened({ok, Db}) ->
    _ = sqlite3:sql_exec(Db, ?BUSY),
    Query = fun(Statement, Values) -> sent(Db, Statement, Values) end,
    case tables(Query, Query("SELECT name FROM sqlite_master WHERE name='turnusers_lt'", [])) of
        ok -> {ok, meerkat_database_sql:connection(Query, ?HAS_OWN)};
        {error, Why} -> {error, Why}
    end;
opened({error, Reason}) ->
    {error, io_lib:format("~tp", [Reason])}.

tables(Query, {ok, {rows, []}}) ->
    hd([Error || {error, _} = Error <- [Query(Make, []) || Make <- meerkat_database_sql:schema()]]
       ++ [ok]);
tables(_Query, {ok, {rows, [_]}}) -> ok;
tables(_Query, {error, Why}) -> {error, Why}.

%% The library gives rows as tuples, and how many a statement changed only when it is asked.
sent(Db, Statement, Values) ->
    Text = re:replace(Statement, "\\$([0-9]+)", "?\\1", [global, {return, binary}]),
    case sqlite3:sql_exec_timeout(Db, Text, Values, ?TIMEOUT_MS) of
        [{columns, _}, {rows, Rows}] -> {ok, {rows, [row(Row) || Row <- Rows]}};
        [{columns, _}, {rows, _}, Error] -> failed(Error);
        Done when Done =:= ok; element(1, Done) =:= rowid -> {ok, {changed, sqlite3:changes(Db)}};
        Error -> failed(Error)
    end.

row(Row) -> [text(Column) || Column <- tuple_to_list(Row)].

text(Number) when is_integer(Number) -> integer_to_binary(Number);
text(Number) when is_float(Number) -> float_to_binary(Number, [short]);
text(Text) -> Text.

failed({error, _Code, Message}) -> {error, Message};
failed({error, Reason}) -> {error, io_lib:format("~tp", [Reason])}.
