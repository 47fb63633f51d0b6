%% After a relay has died: tells every allocation's process to make its allocation again in the next
%% relay, a number of them at a time so that pipe and relay keep up, and tells them when all are
%% there. This process ends when that is done, or when the relay dies. It knows neither how an
%% allocation does it nor what else waits for the end.
-module(meerkat_replay).

-export([start_link/2]).

-export_type([outcome/0]).

%% `over`: their time had come meanwhile, or their clients had ended them.
-type outcome() :: #{ok | over | lost => non_neg_integer()}.

%% Processes that have been told and have not answered.
-define(WINDOW, 128).

%% When all is done the caller hears {replay_over, Pid, outcome()}. First all addresses are there,
%% then all else: a peer may be another's relayed address.
-spec start_link(meerkat_wire:wire(), [pid()]) -> pid().
start_link(Wire, Pids) ->
    Caller = self(),
    spawn_link(fun() ->
        Watched = [{Pid, erlang:monitor(process, Pid)} || Pid <- Pids],
        Replay = fun(Pid) -> meerkat_alloc:replay(Pid, Wire, self()) end,
        Whole = fun(Pid) -> meerkat_alloc:whole(Pid, Wire, self()) end,
        {There, Ended} = all(Replay, Watched, #{ok => 0, over => 0, lost => 0}),
        {[], Outcome} = all(Whole, There, Ended),
        Caller ! {replay_over, self(), Outcome}
    end).

%% Tells all of them, some at a time, and waits for what they say: those that are not through yet,
%% and what became of the others.
all(Tell, Watched, Outcome) ->
    {Now, Later} = lists:split(min(?WINDOW, length(Watched)), Watched),
    Waiting = lists:foldl(fun(One, Told) -> tell(Tell, One, Told) end, #{}, Now),
    collect(Tell, Waiting, Later, [], Outcome).

tell(Tell, {Pid, Monitor}, Waiting) ->
    ok = Tell(Pid),
    Waiting#{Pid => Monitor}.

collect(_Tell, Waiting, [], There, Outcome) when map_size(Waiting) =:= 0 ->
    {There, Outcome};
collect(Tell, Waiting, Later, There, Outcome) ->
    receive
        {replayed, Pid, What} when is_map_key(Pid, Waiting) ->
            heard(What, Pid, Tell, Waiting, Later, There, Outcome);
        {'DOWN', _, process, Pid, Reason} when is_map_key(Pid, Waiting) ->
            What = case Reason of normal -> over; _ -> lost end,
            heard(What, Pid, Tell, Waiting, Later, There, Outcome)
    end.

%% One that is there is watched on: it may end before the others are.
heard(there, Pid, Tell, Waiting, Later, There, Outcome) ->
    Watched = {Pid, maps:get(Pid, Waiting)},
    next(Tell, maps:remove(Pid, Waiting), Later, [Watched | There], Outcome);
heard(What, Pid, Tell, Waiting, Later, There, Outcome) ->
    true = erlang:demonitor(maps:get(Pid, Waiting), [flush]),
    next(Tell, maps:remove(Pid, Waiting), Later, There,
         maps:update_with(What, fun(N) -> N + 1 end, Outcome)).

next(Tell, Waiting, [Next | Later], There, Outcome) ->
    collect(Tell, tell(Tell, Next, Waiting), Later, There, Outcome);
next(Tell, Waiting, [], There, Outcome) ->
    collect(Tell, Waiting, [], There, Outcome).
