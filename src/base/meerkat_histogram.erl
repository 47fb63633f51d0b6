%% A histogram in a `counters` array that any process adds to and any reads: one counter for each
%% bound and one for what is beyond them, then the sum. It knows no unit: what Prometheus is told in
%% seconds, or as a share, is counted here in millionths of that.
-module(meerkat_histogram).

-export([width/1, add/4, read/3]).
-export_type([read/0, bounds/0]).

-type bounds() :: [pos_integer()].
%% How many were at most so much, each bound including those before it; then all of them, and their
%% sum.
-type read() :: #{buckets := [{pos_integer(), non_neg_integer()}], count := non_neg_integer(),
                  sum := non_neg_integer()}.

%% So many counters it takes.
-spec width(bounds()) -> pos_integer().
width(Bounds) -> length(Bounds) + 2.

%% Value, in the histogram that stands behind so many other counters.
-spec add(counters:counters_ref(), Before :: non_neg_integer(), bounds(),
          Value :: non_neg_integer()) -> ok.
add(Counters, Before, Bounds, Value) ->
    ok = counters:add(Counters, Before + bucket(Value, Bounds, 1), 1),
    counters:add(Counters, Before + width(Bounds), Value).

bucket(Value, [Bound | Bounds], N) when Value > Bound -> bucket(Value, Bounds, N + 1);
bucket(_Value, _Bounds, N) -> N.

%% The count is that of the buckets read: what is added meanwhile is in both or in neither.
-spec read(counters:counters_ref(), Before :: non_neg_integer(), bounds()) -> read().
read(Counters, Before, Bounds) ->
    {Buckets, Sum} = lists:mapfoldl(fun({N, Bound}, Sum0) ->
        Sum = Sum0 + counters:get(Counters, Before + N),
        {{Bound, Sum}, Sum}
    end, 0, lists:zip(lists:seq(1, length(Bounds)), Bounds)),
    #{buckets => Buckets,
      count => Sum + counters:get(Counters, Before + length(Bounds) + 1),
      sum => counters:get(Counters, Before + width(Bounds))}.
