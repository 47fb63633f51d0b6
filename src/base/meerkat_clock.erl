%% The two clocks of Erlang's side. Deadlines are kept by one that only ever measures how long ago
%% something was, as the relay has one of its own. What is told to people and what credentials say
%% is wall clock time, as the machine has it now.
-module(meerkat_clock).

-export([now_ms/0, wall/0, wall_s/0, wall_ms/0, step_s/0]).

-ifdef(TEST).
-export([set_speed/1]).
-endif.

%% Unix time. Not Erlang's own system time: where the machine's clock is set after the start, that
%% one follows by a hundredth of a second a second, and an embedder's VM cannot be told otherwise.
-spec wall_s() -> integer().
wall_s() -> os:system_time(second).

-spec wall_ms() -> integer().
wall_ms() -> os:system_time(millisecond).

%% The same in native units, as events of telemetry have it.
-spec wall() -> integer().
wall() -> os:system_time().

%% How far the machine's clock was set ahead of the system time of this VM, in seconds; negative
%% where it was set back.
-spec step_s() -> float().
step_s() -> (os:system_time(microsecond) - erlang:system_time(microsecond)) / 1.0e6.

%% Milliseconds since some time or other; never goes back.
-spec now_ms() -> integer().

-ifdef(TEST).
%% As many times faster as the relay under test was built to be (VARIANT=fast of c_src/Makefile).
now_ms() -> erlang:monotonic_time(millisecond) * persistent_term:get(?MODULE, 1).

-spec set_speed(pos_integer()) -> ok.
set_speed(Speed) -> persistent_term:put(?MODULE, Speed).
-else.
now_ms() -> erlang:monotonic_time(millisecond).
-endif.
