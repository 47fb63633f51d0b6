%% Programs that a test holds up. SIGSTOP stops one thread after another, and kill(1) waits for none
%% of them: what was sent before may still be answered by one that runs on.
-module(process_kit).

-export([hold/1, let_go/1, is_held/1]).

%% Returns when none of the program's threads runs any more, as when it has ended.
-spec hold(OsPid :: pos_integer() | string()) -> ok.
hold(OsPid) ->
    Pid = text(OsPid),
    _ = os:cmd("kill -STOP " ++ Pid),
    turn_kit:eventually(fun() -> is_held(Pid) end).

-spec let_go(OsPid :: pos_integer() | string()) -> ok.
let_go(OsPid) ->
    _ = os:cmd("kill -CONT " ++ text(OsPid)),
    ok.

-spec is_held(OsPid :: pos_integer() | string()) -> boolean().
is_held(OsPid) ->
    lists:all(fun stands/1, filelib:wildcard("/proc/" ++ text(OsPid) ++ "/task/*/stat")).

%% One that has ended meanwhile stands too. The state is what follows the name, proc(5).
stands(Thread) ->
    case file:read_file(Thread) of
        {ok, Stat} ->
            [_, <<State, _/binary>>] = string:split(Stat, ") ", trailing),
            lists:member(State, "TtZX");
        {error, _} ->
            true
    end.

text(OsPid) when is_integer(OsPid) -> integer_to_list(OsPid);
text(OsPid) -> OsPid.
