%% coturn's tables in a database that an embedder has connections to: a fun of theirs sends each
%% statement, by a pool of their own. It is called in a process that may wait.
-module(meerkat_database_given).
-behaviour(meerkat_database).

-export([connect/1, describe/1]).

-spec describe(meerkat_database_sql:query()) -> unicode:chardata().
describe(_Query) -> "a database of the application that this server is part of".

-spec connect(meerkat_database_sql:query()) -> {ok, meerkat_database:connection()}.
connect(Query) -> {ok, meerkat_database_sql:connection(Query)}.
