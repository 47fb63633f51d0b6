%% Medians, quartiles and ratios of a handful of figures. Pure.
-module(bench_stats).

-export([median/1, quartiles/1, ratio/2]).

-spec median([number(), ...]) -> float().
median(Figures) ->
    quantile(0.5, lists:sort(Figures)).

%% The first and the third.
-spec quartiles([number(), ...]) -> {float(), float()}.
quartiles(Figures) ->
    Sorted = lists:sort(Figures),
    {quantile(0.25, Sorted), quantile(0.75, Sorted)}.

%% The ratio of the medians, and the least and the greatest ratio of two figures of one round.
%% Figures come with the round they are of.
-spec ratio([{Round :: integer(), number()}, ...], [{Round :: integer(), number()}, ...]) ->
          {float(), Least :: float(), Greatest :: float()} | none.
ratio(Ours, Theirs) ->
    Pairs = [A / B || {Round, A} <- Ours, {R, B} <- Theirs, R =:= Round, B /= 0],
    Base = median([B || {_, B} <- Theirs]),
    case Pairs of
        [_ | _] when Base /= 0 ->
            {median([A || {_, A} <- Ours]) / Base, lists:min(Pairs), lists:max(Pairs)};
        _ ->
            none
    end.

%% Between two figures it lies where the line between them has it.
quantile(Share, Sorted) ->
    Place = Share * (length(Sorted) - 1),
    Below = trunc(Place),
    Low = lists:nth(Below + 1, Sorted),
    High = lists:nth(min(Below + 2, length(Sorted)), Sorted),
    Low + (Place - Below) * (High - Low).
