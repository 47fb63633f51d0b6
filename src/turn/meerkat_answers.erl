%% What became of the requests that Erlang was asked to decide: counted by method and outcome, with
%% the time each took. A `counters` array that any process adds to and any reads; it knows neither
%% server nor client.
-module(meerkat_answers).

-export([new/0, count/4, outcomes/1, by_method/1, durations/1]).
-export_type([answers/0, method/0, outcome/0, durations/0]).

-opaque answers() :: counters:counters_ref().
-type method() :: allocate | refresh | create_permission | channel_bind | connect | connection_bind
                | other.
%% success, the error's code, `none` for a request left without an answer, `throttled` for one
%% whose sender was wrong too often to be heard, or `unavailable` for one of a user whom the
%% authenticator could not tell about. Codes that only an embedder's authorizer gives are
%% counted together, as `other`.
-type outcome() :: success | none | throttled | unavailable | other | 300 | 400..599.
%% Of microseconds.
-type durations() :: meerkat_histogram:read().

%% A connect takes as long as its peer.
-define(METHODS, [allocate, refresh, create_permission, channel_bind, connect, connection_bind,
                  other]).
-define(OUTCOMES, [success, 300, 400, 401, 403, 405, 420, 437, 440, 441, 442, 443, 446, 447, 486,
                   500, 508, none, throttled, unavailable, other]).
%% Microseconds. A request takes some hundred; a client sends its own again after 500 ms.
-define(BOUNDS, [100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000,
                 1000000, 5000000]).

%% Per method: a counter for each outcome, then the histogram.
-define(ROW, (length(?OUTCOMES) + length(?BOUNDS) + 2)).

-spec new() -> answers().
new() ->
    counters:new(length(?METHODS) * ?ROW, []).

%% A request of this method, any atom, has come to its end after so many microseconds.
-spec count(answers(), Method :: atom(), outcome(), Us :: non_neg_integer()) -> ok.
count(Answers, Method, Outcome, Us) ->
    Row = row(Method),
    Known = case lists:member(Outcome, ?OUTCOMES) of true -> Outcome; false -> other end,
    ok = counters:add(Answers, Row + position(Known, ?OUTCOMES, 1), 1),
    meerkat_histogram:add(Answers, Row + length(?OUTCOMES), ?BOUNDS, Us).

row(Method) ->
    Known = case lists:member(Method, ?METHODS) of true -> Method; false -> other end,
    (position(Known, ?METHODS, 1) - 1) * ?ROW.

position(Item, [Item | _], N) -> N;
position(Item, [_ | Items], N) -> position(Item, Items, N + 1).

%% All methods together.
-spec outcomes(answers()) -> #{outcome() => non_neg_integer()}.
outcomes(Answers) ->
    lists:foldl(fun({{_, Outcome}, N}, Sums) ->
        maps:update_with(Outcome, fun(Sum) -> Sum + N end, N, Sums)
    end, #{}, maps:to_list(by_method(Answers))).

%% Each pair there can be, those that were never seen too.
-spec by_method(answers()) -> #{{method(), outcome()} => non_neg_integer()}.
by_method(Answers) ->
    maps:from_list([{{Method, Outcome},
                     counters:get(Answers, row(Method) + position(Outcome, ?OUTCOMES, 1))}
                    || Method <- ?METHODS, Outcome <- ?OUTCOMES]).

%% Of each method.
-spec durations(answers()) -> #{method() => durations()}.
durations(Answers) ->
    maps:from_list([{Method, meerkat_histogram:read(Answers, row(Method) + length(?OUTCOMES),
                                                    ?BOUNDS)} || Method <- ?METHODS]).
