%% Runs the properties of prop_stun, prop_frames, prop_request, prop_replay, prop_talk and
%% prop_fleet, many cases each, and shows the smallest case that fails. Knows nothing of what they
%% say.
-module(prop_SUITE).

-export([all/0, suite/0]).
-export([encode/1, decode/1, mutated/1, noise/1, verify/1, keys/1, channel/1,
         frames/1, frames_refused/1, answered/1, replay_at_any_time/1,
         transports_agree/1, quota_of_a_fleet/1]).

-spec all() -> [atom()].
all() -> [encode, decode, mutated, noise, verify, keys, channel, frames, frames_refused,
          answered, replay_at_any_time, transports_agree, quota_of_a_fleet].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {minutes, 5}}].

-spec encode(turn_kit:config()) -> ok.
encode(_Config) -> holds(prop_stun:prop_encode(), 5000).

-spec decode(turn_kit:config()) -> ok.
decode(_Config) -> holds(prop_stun:prop_decode(), 10000).

-spec mutated(turn_kit:config()) -> ok.
mutated(_Config) -> holds(prop_stun:prop_mutated(), 10000).

-spec noise(turn_kit:config()) -> ok.
noise(_Config) -> holds(prop_stun:prop_noise(), 5000).

-spec verify(turn_kit:config()) -> ok.
verify(_Config) -> holds(prop_stun:prop_verify(), 5000).

-spec keys(turn_kit:config()) -> ok.
keys(_Config) -> holds(prop_stun:prop_keys(), 1000).

-spec channel(turn_kit:config()) -> ok.
channel(_Config) -> holds(prop_stun:prop_channel(), 1000).

-spec frames(turn_kit:config()) -> ok.
frames(_Config) -> holds(prop_frames:prop_split(), 3000).

-spec frames_refused(turn_kit:config()) -> ok.
frames_refused(_Config) -> holds(prop_frames:prop_refused(), 3000).

-spec answered(turn_kit:config()) -> ok.
answered(_Config) ->
    {ok, _} = application:ensure_all_started(crypto),
    Fixture = prop_request:start(),
    try
        holds(prop_request:prop_answered(Fixture), 3000)
    after
        prop_request:stop(Fixture)
    end.

-spec replay_at_any_time(turn_kit:config()) -> ok.
replay_at_any_time(_Config) -> holds(prop_replay:prop_replay_at_any_time(), 5000).

-spec quota_of_a_fleet(turn_kit:config()) -> ok.
quota_of_a_fleet(_Config) ->
    holds(prop_fleet:prop_quota(), 2000),
    holds(prop_fleet:prop_newer_wins(), 2000).

-spec transports_agree(turn_kit:config()) -> ok.
transports_agree(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "speaks UDP to others"}),
    Fixture = prop_talk:start(proplists:get_value(priv_dir, Config)),
    try
        holds(prop_talk:prop_transports_agree(Fixture), 200)
    after
        prop_talk:stop(Fixture)
    end.

holds(Property, Cases) ->
    case proper:quickcheck(Property, [{numtests, Cases}, {max_size, 20}, quiet, long_result]) of
        true -> ok;
        Counterexample -> ct:fail(Counterexample)
    end.
