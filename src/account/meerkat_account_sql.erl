%% Accounting records to a table of a database that speaks SQL (accounting_database): a row each, in
%% the table that meerkat_account_table tells.
-module(meerkat_account_sql).
-behaviour(meerkat_account_sink).

-export([settings/1, open/1, deliver/2, close/1, missing/1]).

-type settings() :: {meerkat_account_database:settings(), MayCreate :: boolean()}.
-record(sql, {pool :: pid(), kind :: sqlite | postgresql | mysql}).

-spec settings(map()) -> none | settings().
settings(#{database := none}) -> none;
settings(#{database := Database, create_table := MayCreate}) -> {Database, MayCreate}.

-spec open(settings()) -> {ok, #sql{}} | {error, unicode:chardata()}.
open({Database, MayCreate}) ->
    #{kind := Kind} = Database(),
    case meerkat_account_database:open(Database) of
        {ok, Pool} ->
            case meerkat_account_database:do(fun(Db) -> found(Kind, MayCreate, Db) end, Pool) of
                {ok, _} ->
                    {ok, #sql{pool = Pool, kind = Kind}};
                {error, Why} ->
                    ok = meerkat_account_database:close(Pool),
                    {error, Why}
            end;
        {error, Why} ->
            {error, Why}
    end.

found(Kind, MayCreate, Db) ->
    case meerkat_database:query(meerkat_account_table:look(), [], Db) of
        {ok, Found} -> {ok, Found};
        {error, _} when MayCreate -> all([{S, []} || S <- meerkat_account_table:create(Kind)], Db);
        {error, Why} ->
            {error, [Why, "; docs/accounting.md has the statement for the table, or set "
                          "accounting_create_table = true"]}
    end.

-spec deliver([binary(), ...], #sql{}) -> {ok, #sql{}} | {error, unicode:chardata()}.
deliver(Lines, #sql{pool = Pool, kind = Kind} = Sql) ->
    Records = [begin {ok, Record} = meerkat_json:decode(Line), Record end || Line <- Lines],
    Statements = meerkat_account_table:insert(Kind, Records),
    case meerkat_account_database:do(fun(Db) -> all(Statements, Db) end, Pool) of
        {ok, _} -> {ok, Sql};
        {error, Why} -> {error, Why}
    end.

all([{Statement, Values} | Others], Db) ->
    case meerkat_database:query(Statement, Values, Db) of
        {ok, _} -> all(Others, Db);
        {error, Why} -> {error, Why}
    end;
all([], _Db) ->
    {ok, done}.

-spec close(#sql{}) -> ok.
close(#sql{pool = Pool}) ->
    meerkat_account_database:close(Pool).

-spec missing(settings()) -> [string()].
missing({Database, _MayCreate}) ->
    meerkat_account_database:missing(Database).
