%% The clock that deadlines are kept by in Erlang, beside the relay's own: both only ever measure
%% how long ago something was. What is told to people, and what credentials say, is wall clock time
%% and not from here.
-module(meerkat_clock).

-export([now_ms/0]).

-ifdef(TEST).
-export([set_speed/1]).
-endif.

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
