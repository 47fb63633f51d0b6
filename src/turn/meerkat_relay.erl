%% What the rest of Erlang may do with the relay program: send it a command, or ask it something and
%% wait for the reply. The port to it belongs to meerkat_relay_owner, the bytes go by meerkat_wire.
-module(meerkat_relay).

-export([command/3, command/4, call/2, tell/2, read/1, stats/1, is_stalled/1, os_pid/1, admits/2,
         code/1, io_backend/1]).

-export_type([failure/0]).

%% Why there is no reply:
%%   dead     there is no relay program now, or it died before it replied. The next one begins with
%%            the settings in force
%%   slow     no reply in time. It has the command and may still do what it says
%%   busy     it has not read what was sent before; the command was not sent
%%   stopped  there is no server of that name
-type failure() :: dead | slow | busy | stopped.

-define(CALL_MS, 5000).
-define(STALLED_MS, 10000).

%% Sends a command. `closed`: the relay at the end of this wire is gone, and with it all that the
%% command could have meant.
-spec command(meerkat_wire:wire(), meerkat_ctl:ref(), meerkat_ctl:message()) -> ok | closed.
command(Wire, Ref, Message) ->
    meerkat_wire:send(Wire, [meerkat_ctl:encode(Ref, Message)]).

%% The same, with an answer_if that belongs to it.
-spec command(meerkat_wire:wire(), meerkat_ctl:ref(), meerkat_ctl:message(),
              meerkat_ctl:message()) -> ok | closed.
command(Wire, Ref, Message, {answer_if, _} = AnswerIf) ->
    meerkat_wire:send(Wire, [meerkat_ctl:encode(Ref, AnswerIf), meerkat_ctl:encode(Ref, Message)]).

%% A command and the fields of its reply.
-spec call(Name :: atom(), meerkat_ctl:message()) -> {ok, map()} | {error, failure()}.
call(Name, Message) ->
    try meerkat_roles:find(Name, relay) of
        none -> {error, dead};
        Owner -> ask(Name, Owner, Message)
    catch
        %% There is no server of that name, so there are no tables.
        error:badarg -> {error, stopped}
    end.

ask(Name, Owner, Message) ->
    try
        gen_server:call(Owner, {call, Message}, ?CALL_MS)
    catch
        exit:{timeout, _} -> {error, slow};
        exit:_ -> {error, gone(meerkat_registry:is_running(Name))}
    end.

gone(true) -> dead;
gone(false) -> stopped.

%% A command whose reply nobody waits for, behind all that the caller has asked by call/2, also what
%% was too slow; one that is busy gets it when it is not. Where there is no relay nothing is told:
%% the next one begins with the settings in force.
-spec tell(Name :: atom(), meerkat_ctl:message()) -> ok.
tell(Name, Message) ->
    try meerkat_roles:find(Name, relay) of
        none -> ok;
        Owner -> gen_server:cast(Owner, {tell, Message})
    catch
        error:badarg -> ok
    end.

%% What the relay has noted by now has been read when this returns (meerkat_grants), unless there is
%% none; the next one's owner reads it first of all.
-spec read(Name :: atom()) -> ok.
read(Name) ->
    case meerkat_roles:find(Name, relay) of
        none -> ok;
        Owner -> try gen_server:call(Owner, read, ?CALL_MS) catch exit:_ -> ok end
    end.

%% The relay's counters and tables: workers, what moves packets, sessions, peers (permissions),
%% requests that wait for an answer from Erlang, bytes of mail between its threads, for how long the
%% slowest worker has had no turn, ports free (in all, and by pool), counters by name. Every failure
%% but `busy` is `relay_down` here.
-spec stats(Name :: atom()) ->
    {ok, #{workers := non_neg_integer(), io_backend := io_uring | epoll,
           sessions := non_neg_integer(), peers := non_neg_integer(), requests := non_neg_integer(),
           mail_in := non_neg_integer(), mail_out := non_neg_integer(),
           stalled_ms := non_neg_integer(),
           ports_free := non_neg_integer(), pools := #{pos_integer() => non_neg_integer()},
           counters := #{atom() => non_neg_integer()}}}
    | {error, relay_down | busy}.
stats(Name) ->
    case call(Name, {stats, #{}}) of
        {ok, Stats} -> {ok, named_counters(Stats)};
        {error, busy} -> {error, busy};
        {error, Failure} when Failure =:= dead; Failure =:= slow; Failure =:= stopped ->
            {error, relay_down}
    end.

%% Does a worker stand still, so that its clients get no answer? Each turns at least once a second.
-spec is_stalled(#{stalled_ms := non_neg_integer(), _ => _}) -> boolean().
is_stalled(#{stalled_ms := Ms}) ->
    Ms >= ?STALLED_MS.

named_counters(#{io_backend := Backend, counters := Values, pools := Pools} = Stats) ->
    Names = [Name || {Name, _, _} <- meerkat_ctl:counters()],
    Stats#{io_backend := io_backend(Backend),
           pools := maps:from_list([{Pool, Free} || <<Pool:32, Free:32>> <= Pools]),
           counters := maps:from_list(lists:zip(Names, [V || <<V:64>> <= Values]))}.

%% What moves packets, by its number in ctl.def.
-spec io_backend(1 | 2) -> io_uring | epoll.
io_backend(1) -> io_uring;
io_backend(2) -> epoll.

%% The code of a message in ctl.def.
-spec code(Name :: atom()) -> byte().
code(Name) ->
    {_, Code, _, _} = lists:keyfind(Name, 1, meerkat_ctl:messages()),
    Code.

%% The relay program's process, if there is one.
-spec os_pid(Name :: atom()) -> {ok, pos_integer()} | none.
os_pid(Name) ->
    Port = meerkat_roles:find(Name, port),
    case is_port(Port) andalso erlang:port_info(Port, os_pid) of
        {os_pid, _Started} -> {ok, meerkat_relay_program:os_pid(Name)};
        _ -> none
    end.

%% May there be new allocations now? If not, the job is taken up again when there may: one could
%% get the port of another that is not replayed yet.
-spec admits(Name :: atom(), meerkat_request:job()) -> boolean().
admits(Name, Job) ->
    case meerkat_roles:find(Name, replaying) of
        none ->
            true;
        Owner ->
            Owner ! {later, Job},
            false
    end.
