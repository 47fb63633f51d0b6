%% After the relay's death: has every allocation make itself anew in the next one, some at a time so
%% that neither the pipe nor the relay chokes on them, and tells them when all are there. A process
%% that ends with its work, or with the relay's. Knows neither how an allocation does it nor what
%% else waits for the end.
-module(meerkat_replay).

-export([start_link/2]).

-export_type([outcome/0]).

%% `over`: their time had come meanwhile, or their clients had ended them.
-type outcome() :: #{ok | over | lost => non_neg_integer()}.

%% Processes that have been told and have not answered.
-define(WINDOW, 128).

%% When all is done the caller hears {replay_over, Pid, outcome()}.
-spec start_link(meerkat_wire:wire(), [pid()]) -> pid().
start_link(Wire, Pids) ->
    Caller = self(),
    spawn_link(fun() ->
        {Now, Later} = lists:split(min(?WINDOW, length(Pids)), Pids),
        Waiting = lists:foldl(fun(Pid, Asked) -> ask(Pid, Wire, Asked) end, #{}, Now),
        Outcome = collect(Waiting, Later, Wire, #{ok => 0, over => 0, lost => 0}),
        lists:foreach(fun(Pid) -> ok = meerkat_alloc:whole(Pid, Wire) end, Pids),
        Caller ! {replay_over, self(), Outcome}
    end).

ask(Pid, Wire, Waiting) ->
    Monitor = erlang:monitor(process, Pid),
    ok = meerkat_alloc:replay(Pid, Wire, self()),
    Waiting#{Pid => Monitor}.

collect(Waiting, [], _Wire, Outcome) when map_size(Waiting) =:= 0 ->
    Outcome;
collect(Waiting, Later, Wire, Outcome) ->
    receive
        {replayed, Pid, What} when is_map_key(Pid, Waiting) ->
            true = erlang:demonitor(maps:get(Pid, Waiting), [flush]),
            next(What, Pid, Waiting, Later, Wire, Outcome);
        {'DOWN', _, process, Pid, Reason} when is_map_key(Pid, Waiting) ->
            What = case Reason of normal -> over; _ -> lost end,
            next(What, Pid, Waiting, Later, Wire, Outcome)
    end.

next(What, Pid, Waiting, Later, Wire, Outcome) ->
    Left = maps:remove(Pid, Waiting),
    Counted = maps:update_with(What, fun(N) -> N + 1 end, Outcome),
    case Later of
        [Next | Rest] -> collect(ask(Next, Wire, Left), Rest, Wire, Counted);
        [] -> collect(Left, [], Wire, Counted)
    end.
