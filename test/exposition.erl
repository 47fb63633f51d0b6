%% Prometheus' text format 0.0.4, read as strictly as it is written down: what a line may be, one
%% HELP and one TYPE before a family's samples, which stand together; no series twice; counters
%% called _total that count up from 0; histograms whose buckets rise and end in +Inf, with the count
%% that _count has. Knows nothing of what is measured.
-module(exposition).

-export([parse/1, value/3]).
-export_type([families/0]).

-type labels() :: #{binary() => binary()}.
-type families() :: #{Name :: binary() => #{type := binary(), help := binary(),
                                            samples := [{binary(), labels(), number()}]}}.

%% The families of a text; an error with the line that is wrong otherwise.
-spec parse(binary()) -> families().
parse(Text) ->
    <<>> = last(binary:split(Text, <<"\n">>, [global])),
    Lines = binary:split(Text, <<"\n">>, [global, trim]),
    Families = collect(Lines, none, #{}),
    _ = maps:map(fun check/2, Families),
    Families.

%% The value of one series, or undefined.
-spec value(families(), Name :: binary(), labels()) -> number() | undefined.
value(Families, Name, Labels) ->
    case [V || #{samples := Samples} <- maps:values(Families), {N, L, V} <- Samples,
               N =:= Name, L =:= Labels] of
        [V] -> V;
        [] -> undefined
    end.

last(List) -> lists:last(List).

collect([<<"# HELP ", Rest/binary>>, <<"# TYPE ", Again/binary>> | Lines], _Open, Families) ->
    [Name, Help] = binary:split(Rest, <<" ">>),
    [Name, Type] = binary:split(Again, <<" ">>),
    match = re:run(Name, "^[a-zA-Z_:][a-zA-Z0-9_:]*$", [{capture, none}]),
    true = lists:member(Type, [<<"counter">>, <<"gauge">>, <<"histogram">>]),
    false = is_map_key(Name, Families),
    true = Help =/= <<>>,
    collect(Lines, Name, Families#{Name => #{type => Type, help => Help, samples => []}});
collect([<<"#", _/binary>> = Line | _], _Open, _Families) ->
    error({stray_comment, Line});
collect([Line | Lines], Open, Families) when Open =/= none ->
    {Name, Labels, Value} = Sample = sample(Line),
    #{Open := #{type := Type, samples := Samples} = Family} = Families,
    belongs(Name, Open, Type) orelse error({not_of_family, Open, Line}),
    [] = [twice || {N, L, _} <- Samples, N =:= Name, L =:= Labels],
    true = Type =:= <<"gauge">> orelse Value >= 0,
    collect(Lines, Open, Families#{Open := Family#{samples := Samples ++ [Sample]}});
collect([], _Open, Families) ->
    Families.

belongs(Name, Family, <<"histogram">>) ->
    lists:member(Name, [<<Family/binary, End/binary>>
                        || End <- [<<"_bucket">>, <<"_sum">>, <<"_count">>]]);
belongs(Name, Family, _) ->
    Name =:= Family.

sample(Line) ->
    case re:run(Line, "^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\\{(.*)\\})? ([^ ]+)$",
                [{capture, all_but_first, binary}]) of
        {match, [Name, Labels, Value]} -> {Name, labels(Labels, #{}), number(Value)};
        nomatch -> error({no_sample, Line})
    end.

labels(<<>>, Labels) ->
    Labels;
labels(Text, Labels) ->
    {match, [Name, Value, Rest]} =
        re:run(Text, "^([a-zA-Z_][a-zA-Z0-9_]*)=\"((?:[^\"\\\\]|\\\\[\\\\n\"])*)\"(?:,|$)(.*)$",
               [{capture, all_but_first, binary}]),
    false = is_map_key(Name, Labels),
    labels(Rest, Labels#{Name => Value}).

number(<<"+Inf">>) -> infinity;
number(Text) ->
    case string:to_float(Text) of
        {F, <<>>} -> F;
        _ -> binary_to_integer(Text)
    end.

check(Name, #{type := <<"counter">>, samples := [_ | _]}) ->
    match = re:run(Name, "_total$", [{capture, none}]);
check(Name, #{type := <<"histogram">>, samples := [_ | _] = Samples}) ->
    Keys = lists:usort([maps:remove(<<"le">>, Labels) || {_, Labels, _} <- Samples]),
    [histogram(Name, Key, Samples) || Key <- Keys];
check(_Name, #{type := <<"gauge">>, samples := [_ | _]}) ->
    ok.

histogram(Name, Key, Samples) ->
    Of = fun(End) ->
        [{L, V} || {N, L, V} <- Samples, N =:= <<Name/binary, End/binary>>,
                   maps:remove(<<"le">>, L) =:= Key]
    end,
    Buckets = [{number(Le), V} || {#{<<"le">> := Le}, V} <- Of(<<"_bucket">>)],
    {Bounds, Counts} = lists:unzip(Buckets),
    Bounds = lists:usort(Bounds),                    % numbers before atoms: +Inf is last
    infinity = lists:last(Bounds),
    Counts = lists:sort(Counts),
    [{_, Count}] = Of(<<"_count">>),
    Count = lists:last(Counts),
    [{_, Sum}] = Of(<<"_sum">>),
    true = is_number(Sum) andalso (Count > 0 orelse Sum == 0).
