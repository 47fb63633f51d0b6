%% A process with one connection to a database: it connects, does jobs one after the other, and ends
%% when the connection does. It is linked to its pool, which bounds the time of each job.
-module(meerkat_database_connection).

-export([start_link/1, do/3]).

-export_type([job/1, lost/0]).

-type job(Result) :: fun((meerkat_database:connection()) -> Result).
%% Why such a process ended; the pool sees it as a reason of an exit.
-type lost() :: {no_connection, unicode:chardata()}.

%% The caller gets {connected, Pid} when it is, else the exit of the process.
-spec start_link(meerkat_database:backend()) -> pid().
start_link(Backend) ->
    Pool = self(),
    spawn_link(fun() -> connect(Pool, Backend) end).

%% The caller gets {done, Pid, Ref, Result}.
-spec do(pid(), Ref :: reference(), job(_)) -> ok.
do(Pid, Ref, Job) ->
    Pid ! {do, Ref, Job},
    ok.

%% The reason why a library fails may have a password in it, so only its kind is told. What the
%% library prints is discarded.
connect(Pool, {Module, Options}) ->
    {ok, Nowhere} = file:open("/dev/null", [write]),
    true = group_leader(Nowhere, self()),
    try Module:connect(Options()) of
        {ok, Connection} ->
            Pool ! {connected, self()},
            loop(Pool, Connection);
        {error, Sentence} ->
            exit({no_connection, Sentence})
    catch
        exit:{no_connection, _} = Lost -> exit(Lost);
        _:Reason -> exit({no_connection, meerkat_database_words:lost(Reason)})
    end.

loop(Pool, Connection) ->
    receive
        {do, Ref, Job} ->
            Result = try
                Job(Connection)
            catch
                _:Reason -> exit({no_connection, meerkat_database_words:lost(Reason)})
            end,
            Pool ! {done, self(), Ref, Result},
            loop(Pool, Connection);
        %% Of a driver that monitors its library's process, which ends as if all were well.
        {'DOWN', _, process, _, Reason} ->
            exit({no_connection, meerkat_database_words:lost(Reason)});
        %% What a library tells of its own.
        _Other ->
            loop(Pool, Connection)
    end.
