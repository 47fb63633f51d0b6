%% A file of SQLite with coturn's tables (`turndb`), by the library p1_sqlite3. A file that is not
%% there is made, readable by nobody else.
%%
%% The library's driver must not be closed while a statement runs in it: that ends the whole VM. So
%% the file is opened by a process that nobody kills, the keeper. A connection that is given up
%% leaves it to end its statement, which the lock of another program makes last for two seconds, and
%% to close the file then.
-module(meerkat_database_sqlite).
-behaviour(meerkat_database).

-export([connect/1, describe/1]).

-define(HAS_OWN, "SELECT count(*) FROM sqlite_master WHERE name='meerkat_user_key'").
%% Another program may have it locked.
-define(BUSY, "PRAGMA busy_timeout=2000").

-spec describe(map()) -> unicode:chardata().
describe(#{file := File}) -> ["SQLite ", meerkat_text:printable(File)].

-spec connect(map()) -> {ok, meerkat_database:connection()} | meerkat_database:failure().
connect(#{file := File}) ->
    case made(File) of
        ok -> opened(keeper(unicode:characters_to_list(File)));
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

opened({ok, Keeper}) ->
    _ = told(Keeper, {?BUSY, []}),
    Query = fun(Statement, Values) -> sent(Keeper, Statement, Values) end,
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
sent(Keeper, Statement, Values) ->
    Text = re:replace(Statement, "\\$([0-9]+)", "?\\1", [global, {return, binary}]),
    case told(Keeper, {Text, Values}) of
        {[{columns, _}, {rows, Rows}], _Changes} -> {ok, {rows, [row(Row) || Row <- Rows]}};
        {[{columns, _}, {rows, _}, Error], _Changes} -> failed(Error);
        {Done, Changes} when Done =:= ok; element(1, Done) =:= rowid -> {ok, {changed, Changes}};
        {Error, _Changes} -> failed(Error)
    end.

row(Row) -> [text(Column) || Column <- tuple_to_list(Row)].

text(Number) when is_integer(Number) -> integer_to_binary(Number);
text(Number) when is_float(Number) -> float_to_binary(Number, [short]);
text(Text) -> Text.

failed({error, _Code, Message}) -> {error, Message};
failed({error, Reason}) -> {error, io_lib:format("~tp", [Reason])}.

%%% The keeper

%% Of this process, which need not live as long.
keeper(File) ->
    Owner = self(),
    {Keeper, Monitor} = spawn_monitor(fun() -> open(Owner, File) end),
    receive
        {Keeper, opened} ->
            true = erlang:demonitor(Monitor, [flush]),
            {ok, Keeper};
        {'DOWN', Monitor, process, Keeper, Reason} ->
            {error, Reason}
    end.

open(Owner, File) ->
    _ = monitor(process, Owner),
    case sqlite3:open(anonymous, [{file, File}]) of
        {ok, Db} ->
            Owner ! {self(), opened},
            keep(Db);
        {error, Reason} ->
            exit(Reason)
    end.

keep(Db) ->
    receive
        {statement, Owner, Ref, {Text, Values}} ->
            Result = sqlite3:sql_exec_timeout(Db, Text, Values, infinity),
            Owner ! {Ref, {Result, sqlite3:changes(Db)}},
            keep(Db);
        {'DOWN', _, process, _, _} ->
            sqlite3:close(Db)
    end.

%% Where the keeper has ended so does the connection.
told(Keeper, Statement) ->
    Ref = monitor(process, Keeper),
    Keeper ! {statement, self(), Ref, Statement},
    receive
        {Ref, Result} ->
            true = erlang:demonitor(Ref, [flush]),
            Result;
        {'DOWN', Ref, process, Keeper, Reason} ->
            exit(Reason)
    end.
