%% A connection to a database for a sink of accounting records: a pool of one, which the process of
%% the sink has. Whoever asks waits.
-module(meerkat_account_database).

-export([open/1, do/2, close/1, missing/1]).

-export_type([settings/0]).

%% In a fun, for its password.
-type settings() :: fun(() -> meerkat_config_database:connection()).

%% As long as an answer of a web server may take.
-define(ANSWER_MS, 30000).

%% Whether it is there shows with the first job.
-spec open(settings()) -> {ok, pid()} | {error, unicode:chardata()}.
open(Settings) ->
    case meerkat_database_pool:start_link(meerkat_database:backend(Settings()),
                                          #{size => 1, waiting => 1}) of
        {ok, Pool} -> {ok, Pool};
        {error, _} -> {error, "no connection to a database can be made"}
    end.

%% The error is the end of a sentence.
-spec do(meerkat_database_connection:job({ok, Result} | meerkat_database:failure()), pid()) ->
    {ok, Result} | meerkat_database:failure().
do(Job, Pool) ->
    case meerkat_database_pool:call(Pool, Job, ?ANSWER_MS) of
        {ok, Result} -> Result;
        {error, Refusal} -> {error, meerkat_database_pool:lost(Refusal)}
    end.

%% With its connection.
-spec close(pid()) -> ok.
close(Pool) ->
    Monitor = monitor(process, Pool),
    true = unlink(Pool),
    true = exit(Pool, shutdown),
    receive {'DOWN', Monitor, process, Pool, _} -> ok end,
    receive {'EXIT', Pool, _} -> ok after 0 -> ok end.

%% The Debian package of the library that it needs, where that is not there.
-spec missing(settings()) -> [string()].
missing(Settings) ->
    #{kind := Kind} = Settings(),
    [Package || {missing, {_App, Package, _Hex}} <- [meerkat_libraries:for_database(Kind)]].
