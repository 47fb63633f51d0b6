%% Waits for the last allocation of a server that is drained, and for a deadline, whichever is
%% first, and then does what it was told to. It ends nothing itself and asks nobody: it watches
%% the allocations' processes.
-module(meerkat_drain_end).

-include_lib("kernel/include/logger.hrl").

-export([start/3, stop/1]).

-export_type([then/0]).

%% A name and not a fun: code may be loaded anew while this waits, and a fun would keep the old one.
-type then() :: {module(), Function :: atom(), [term()]}.

%% Then is called in a process of its own. Returns at once.
-spec start(Name :: atom(), Ms :: non_neg_integer() | infinity, then()) -> pid().
start(Name, Ms, Then) ->
    proc_lib:spawn(fun() ->
        _ = is_integer(Ms) andalso erlang:send_after(Ms, self(), deadline),
        watch(Name, Then)
    end).

%% Calls it off.
-spec stop(pid()) -> ok.
stop(Pid) ->
    Monitor = erlang:monitor(process, Pid),
    true = exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

%% Again after each round: an Allocate may have been under way when the drain began.
watch(Name, Then) ->
    case meerkat_registry:is_running(Name) andalso living(Name) of
        false ->
            ok;
        [] ->
            ?LOG_NOTICE("drained: no allocation is left"),
            call(Then);
        Pids ->
            wait(maps:from_list([{erlang:monitor(process, Pid), Pid} || Pid <- Pids]), Name, Then)
    end.

living(Name) ->
    [Pid || {_, Pid} <- meerkat_alloc_table:sessions(Name), is_process_alive(Pid)].

wait(Monitors, Name, Then) when map_size(Monitors) =:= 0 ->
    watch(Name, Then);
wait(Monitors, Name, Then) ->
    receive
        {'DOWN', Monitor, process, _, _} ->
            wait(maps:remove(Monitor, Monitors), Name, Then);
        deadline ->
            ?LOG_NOTICE("the time to drain is over: ~ts left",
                        [meerkat_text:allocations(map_size(Monitors))]),
            call(Then)
    end.

call({Module, Function, Args}) ->
    apply(Module, Function, Args).
