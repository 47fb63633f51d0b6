%% What became of questions to a database, counted by kind, and the time they took: an array that
%% any process adds to and anybody reads. The table is what metrics and documentation go by.
-module(meerkat_lookup_counts).

-export([new/0, count/2, took/2, all/1, help/0]).
-export_type([counts/0, kind/0]).

-opaque counts() :: counters:counters_ref().
-type kind() :: found | unknown | failed | slow | away | busy.

-spec help() -> [{kind(), string()}].
help() ->
    [{found, "there is such a user, or there are secrets"},
     {unknown, "there is no such user"},
     {failed, "the database refused the question"},
     {slow, "no answer within 3 s"},
     {away, "there was no connection, or it was lost"},
     {busy, "not asked, because too many were waiting"}].

-spec new() -> counts().
new() -> counters:new(length(help()) + 1, []).

-spec count(counts(), kind()) -> ok.
count(Counts, Kind) -> counters:add(Counts, position(Kind, help(), 1), 1).

%% A question has taken so many microseconds.
-spec took(counts(), Us :: non_neg_integer()) -> ok.
took(Counts, Us) -> counters:add(Counts, length(help()) + 1, Us).

position(Kind, [{Kind, _} | _], N) -> N;
position(Kind, [_ | Rows], N) -> position(Kind, Rows, N + 1).

%% And `took_us`, of all of them.
-spec all(counts()) -> #{kind() | took_us => non_neg_integer()}.
all(Counts) ->
    maps:from_list([{took_us, counters:get(Counts, length(help()) + 1)}
                    | [{Kind, counters:get(Counts, position(Kind, help(), 1))}
                       || {Kind, _} <- help()]]).
