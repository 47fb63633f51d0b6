%% A pool of connections to one database. Callers hand in jobs and do not wait. A job that is not
%% done in its time is answered `slow`, and its connection is closed, because it may hang. The
%% number of waiting jobs is bounded. A lost connection is made anew: after 250 ms, then twice as
%% long each time, up to 5 s.
-module(meerkat_database_pool).
-behaviour(gen_server).

-export([start_link/2, run/4, call/3, status/1, lost/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([options/0, refusal/0, status/0]).

-type options() :: #{%% Connections.
                     size := pos_integer(),
                     %% Jobs that may wait for one.
                     waiting := pos_integer(),
                     %% Told of each change: {database, Pool, up} or {database, Pool, {away, Why}}.
                     tell => pid()}.
%% There is no connection; too many jobs wait; its time was up; the job's own error, a sentence.
-type refusal() :: {away, unicode:chardata()} | busy | slow.
-type status() :: #{up := non_neg_integer(), size := pos_integer(), waiting := non_neg_integer(),
                    busy := non_neg_integer(), away := none | unicode:chardata()}.

-define(CONNECT_MS, 4000).
-define(FIRST_PAUSE_MS, 250).
-define(LAST_PAUSE_MS, 5000).

-record(job, {reply :: {pid() | reference(), term()},
              run :: meerkat_database_connection:job(term()),
              timer :: reference()}).
%% Connections by process. One that is connecting has the timer for that, and how long to wait
%% before the next try if it fails; one that works has its job.
-record(pool, {backend :: meerkat_database:backend(), options :: options(),
               connections = #{} :: #{pid() => {connecting, reference(), pos_integer()} | idle
                                               | {busy, reference(), #job{}}},
               idle = [] :: [pid()],
               queue = queue:new() :: queue:queue(#job{}),
               away = none :: none | unicode:chardata()}).

-spec start_link(meerkat_database:backend(), options()) -> {ok, pid()} | {error, term()}.
start_link(Backend, Options) ->
    gen_server:start_link(?MODULE, {Backend, Options}, []).

%% The caller gets {Tag, {ok, Result} | {error, refusal()}} within about TimeoutMs.
-spec run(Pool :: pid(), Tag :: term(), meerkat_database_connection:job(_),
          TimeoutMs :: pos_integer()) -> ok.
run(Pool, Tag, Job, TimeoutMs) ->
    gen_server:cast(Pool, {run, {self(), Tag}, Job, TimeoutMs}).

%% The same, for a caller that may wait.
-spec call(Pool :: pid(), meerkat_database_connection:job(Result), TimeoutMs :: pos_integer()) ->
    {ok, Result} | {error, refusal()}.
call(Pool, Job, TimeoutMs) ->
    Tag = erlang:monitor(process, Pool, [{alias, reply_demonitor}]),
    ok = gen_server:cast(Pool, {run, {Tag, Tag}, Job, TimeoutMs}),
    receive
        {Tag, Result} -> Result;
        {'DOWN', Tag, process, _, _} -> {error, {away, "its pool of connections has ended"}}
    end.

-spec status(Pool :: pid()) -> status().
status(Pool) ->
    gen_server:call(Pool, status).

%% A refusal in words.
-spec lost(refusal()) -> unicode:chardata().
lost({away, Why}) -> ["it is not there: ", Why];
lost(busy) -> "too many questions wait for it";
lost(slow) -> "it did not answer in time".

-spec init({meerkat_database:backend(), options()}) -> {ok, #pool{}}.
init({Backend, #{size := Size} = Options}) ->
    _ = process_flag(trap_exit, true),
    {ok, lists:foldl(fun(_, Pool) -> connect(?FIRST_PAUSE_MS, Pool) end,
                     #pool{backend = Backend, options = Options},
                     lists:seq(1, Size))}.

-spec handle_call(term(), gen_server:from(), #pool{}) -> {reply, status() | ok, #pool{}}.
handle_call(status, _From, #pool{connections = Connections, queue = Queue, options = Options,
                                 away = Away} = Pool) ->
    States = maps:values(Connections),
    Busy = length([busy || {busy, _, _} <- States]),
    {reply, #{up => Busy + length([idle || idle <- States]), size => maps:get(size, Options),
              waiting => queue:len(Queue), busy => Busy, away => Away}, Pool};
handle_call(_Request, _From, Pool) ->
    {reply, ok, Pool}.

-spec handle_cast(term(), #pool{}) -> {noreply, #pool{}}.
handle_cast({run, Reply, Run, TimeoutMs}, Pool) ->
    {noreply, taken(Reply, Run, TimeoutMs, Pool)};
handle_cast(_Request, Pool) ->
    {noreply, Pool}.

-spec handle_info(term(), #pool{}) -> {noreply, #pool{}} | {stop, term(), #pool{}}.
handle_info({connected, Pid}, Pool) ->
    {noreply, connected(Pid, Pool)};
handle_info({done, Pid, Ref, Result}, #pool{connections = Connections} = Pool) ->
    case Connections of
        #{Pid := {busy, Ref, Job}} ->
            ok = reply(Job, {ok, Result}),
            {noreply, next(Pid, Pool)};
        #{} ->
            {noreply, Pool}
    end;
handle_info({timeout, Timer, What}, Pool) ->
    {noreply, late(Timer, What, Pool)};
handle_info({'EXIT', Pid, Reason}, #pool{connections = Connections} = Pool) ->
    case is_map_key(Pid, Connections) of
        true -> {noreply, ended(Pid, why(Reason), Pool)};
        %% Whoever started this pool.
        false when Reason =/= normal -> {stop, Reason, Pool};
        false -> {noreply, Pool}
    end;
handle_info(_Other, Pool) ->
    {noreply, Pool}.

%%% Jobs

taken(Reply, Run, TimeoutMs, #pool{idle = [Pid | Idle]} = Pool) ->
    begin_job(Pid, job(Reply, Run, TimeoutMs), Pool#pool{idle = Idle});
taken({To, Tag}, _Run, _TimeoutMs, #pool{away = Why} = Pool) when Why =/= none ->
    To ! {Tag, {error, {away, Why}}},
    Pool;
taken({To, Tag} = Reply, Run, TimeoutMs, #pool{queue = Queue, options = Options} = Pool) ->
    case queue:len(Queue) < maps:get(waiting, Options) of
        true ->
            Pool#pool{queue = queue:in(job(Reply, Run, TimeoutMs), Queue)};
        false ->
            To ! {Tag, {error, busy}},
            Pool
    end.

job(Reply, Run, TimeoutMs) ->
    #job{reply = Reply, run = Run, timer = erlang:start_timer(TimeoutMs, self(), job)}.

begin_job(Pid, #job{run = Run} = Job, #pool{connections = Connections} = Pool) ->
    Ref = make_ref(),
    ok = meerkat_database_connection:do(Pid, Ref, Run),
    Pool#pool{connections = Connections#{Pid => {busy, Ref, Job}}}.

reply(#job{reply = {To, Tag}, timer = Timer}, Result) ->
    _ = erlang:cancel_timer(Timer),
    To ! {Tag, Result},
    ok.

%% It can do the next one.
next(Pid, #pool{queue = Queue, connections = Connections, idle = Idle} = Pool) ->
    case queue:out(Queue) of
        {{value, Job}, Rest} -> begin_job(Pid, Job, Pool#pool{queue = Rest});
        {empty, _} -> Pool#pool{connections = Connections#{Pid := idle}, idle = [Pid | Idle]}
    end.

late(Timer, job, #pool{queue = Queue, connections = Connections} = Pool) ->
    case [{Pid, Job} || {Pid, {busy, _, #job{timer = T} = Job}} <- maps:to_list(Connections),
                        T =:= Timer] of
        [{Pid, Job}] ->
            ok = reply(Job, {error, slow}),
            give_up(Pid, "it did not answer in time",
                    Pool#pool{connections = Connections#{Pid := idle}});
        [] ->
            {Late, Rest} = lists:partition(fun(#job{timer = T}) -> T =:= Timer end,
                                           queue:to_list(Queue)),
            ok = lists:foreach(fun(Job) -> ok = reply(Job, {error, slow}) end, Late),
            Pool#pool{queue = queue:from_list(Rest)}
    end;
late(Timer, connecting, #pool{connections = Connections} = Pool) ->
    case [Pid || {Pid, {connecting, T, _}} <- maps:to_list(Connections), T =:= Timer] of
        [Pid] -> give_up(Pid, "it did not answer in time", Pool);
        [] -> Pool
    end;
late(_Timer, {connect, Pause}, Pool) ->
    connect(Pause, Pool).

%%% Connections

connect(Pause, #pool{backend = Backend, connections = Connections} = Pool) ->
    Pid = meerkat_database_connection:start_link(Backend),
    Timer = erlang:start_timer(?CONNECT_MS, self(), connecting),
    Pool#pool{connections = Connections#{Pid => {connecting, Timer, Pause}}}.

connected(Pid, #pool{connections = Connections, away = Away} = Pool) ->
    case Connections of
        #{Pid := {connecting, Timer, _}} ->
            _ = erlang:cancel_timer(Timer),
            ok = case Away of none -> ok; _ -> tell(up, Pool) end,
            next(Pid, Pool#pool{away = none});
        #{} ->
            Pool
    end.

%% Kills the connection's process without waiting for it: nothing of it is needed any more.
give_up(Pid, Why, Pool) ->
    true = unlink(Pid),
    true = exit(Pid, kill),
    ended(Pid, Why, Pool).

ended(Pid, Why, #pool{connections = Connections, idle = Idle} = Pool) ->
    Pause = case Connections of
        #{Pid := {busy, _, Job}} -> ok = reply(Job, {error, {away, Why}}), ?FIRST_PAUSE_MS;
        #{Pid := {connecting, Timer, Next}} -> _ = erlang:cancel_timer(Timer), Next;
        #{Pid := idle} -> ?FIRST_PAUSE_MS
    end,
    _ = erlang:start_timer(Pause, self(), {connect, min(2 * Pause, ?LAST_PAUSE_MS)}),
    without(Why, Pool#pool{connections = maps:remove(Pid, Connections), idle = Idle -- [Pid]}).

%% If no connection is left, all waiting jobs are refused.
without(Why, #pool{connections = Connections, queue = Queue, away = Away} = Pool) ->
    case [up || State <- maps:values(Connections), not is_connecting(State)] of
        [] ->
            ok = case Away of none -> tell({away, Why}, Pool); _ -> ok end,
            ok = lists:foreach(fun(Job) -> ok = reply(Job, {error, {away, Why}}) end,
                               queue:to_list(Queue)),
            Pool#pool{queue = queue:new(), away = Why};
        [_ | _] ->
            Pool
    end.

is_connecting({connecting, _, _}) -> true;
is_connecting(_) -> false.

tell(What, #pool{options = #{tell := To}}) ->
    To ! {database, self(), What},
    ok;
tell(_What, _Pool) ->
    ok.

why({no_connection, Why}) -> Why;
why(Reason) -> meerkat_database_words:lost(Reason).
