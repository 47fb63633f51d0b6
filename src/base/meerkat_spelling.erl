%% What somebody may have meant who wrote a name that there is not: of a command, a key, a field.
-module(meerkat_spelling).

-export([nearest/2, nearest/3]).

%% The candidate that is spelled most like Name, when one is close enough to be meant.
-spec nearest(Name :: binary(), Candidates :: [binary()]) -> {ok, binary()} | error.
nearest(Name, Candidates) ->
    nearest(Name, Candidates, fun(Candidate) -> max(2, byte_size(Candidate) div 3) end).

%% Within Most(Candidate) letters that differ.
-spec nearest(Name :: binary(), Candidates :: [binary()],
              Most :: fun((binary()) -> non_neg_integer())) -> {ok, binary()} | error.
nearest(Name, Candidates, Most) ->
    Word = string:lowercase(unicode:characters_to_list(Name)),
    Near = lists:sort([
        {Distance, Candidate}
     || is_list(Word),
        Candidate <- Candidates,
        Distance <- [distance(Word, string:lowercase(binary_to_list(Candidate)))],
        Distance =< Most(Candidate)
    ]),
    case Near of
        [{_, Best} | _] -> {ok, Best};
        [] -> error
    end.

%% Edit distance (insertions, deletions, replacements), one row of the matrix at a time.
distance(A, B) when length(A) > 80 ->
    distance(lists:sublist(A, 80), B);
distance(A, B) ->
    First = lists:seq(0, length(B)),
    lists:last(lists:foldl(fun(C, Row) -> distance_row(C, B, Row) end, First, A)).

distance_row(C, B, [Corner | Above]) ->
    {Row, _, _} = lists:foldl(
        fun({D, Up}, {[Left | _] = Acc, Diagonal, _}) ->
            Step = min(min(Left, Up) + 1, Diagonal + replacement(C, D)),
            {[Step | Acc], Up, D}
        end,
        {[Corner + 1], Corner, none},
        lists:zip(B, Above)
    ),
    lists:reverse(Row).

replacement(C, C) -> 0;
replacement(_, _) -> 1.
