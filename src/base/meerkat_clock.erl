%% The two clocks of Erlang's side. Deadlines are kept by a monotonic clock, which only measures how
%% long ago something was; the relay has one of its own. What is told to people and what credentials
%% say is the wall clock's time, as the machine has it now.
-module(meerkat_clock).

-export([now_ms/0, wall/0, wall_s/0, wall_ms/0, offset/0, step_s/1]).

-export_type([offset/0]).

%% Microseconds from the machine's monotonic clock to its wall clock. Only setting the wall clock
%% changes that: where a time server lets it run faster or slower, both do.
-type offset() :: integer().

-ifdef(TEST).
-export([set_speed/1]).
-endif.

%% Unix time. Not Erlang's own system time, which follows late where the machine's clock is set
%% after the start: within a minute in OTP 26 and later, by a hundredth of a second a second before
%% (time warp modes, erl +C; an embedder's VM may have either).
-spec wall_s() -> integer().
wall_s() -> os:system_time(second).

-spec wall_ms() -> integer().
wall_ms() -> os:system_time(millisecond).

%% The same in native units, as events of telemetry have it.
-spec wall() -> integer().
wall() -> os:system_time().

%% For step_s/1, later.
-spec offset() -> offset().
offset() ->
    {time, Monotonic} = lists:keyfind(time, 1, erlang:system_info(os_monotonic_time_source)),
    os:system_time(microsecond) - erlang:convert_time_unit(Monotonic, native, microsecond).

%% How far the machine's clock was set ahead since the offset was Before, in seconds; negative where
%% it was set back.
-spec step_s(Before :: offset()) -> float().
step_s(Before) -> (offset() - Before) / 1.0e6.

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
