%% Plots as SVG: groups of bars, one colour to a series. Pure.
-module(bench_svg).

-export([bars/1]).
-export_type([plot/0]).

%% A bar has a value, and marks from low to high across its end. A scale by powers of ten begins
%% at the power of ten below the least value.
-type plot() :: #{title := string(), unit := string(), scale := linear | log,
                  series := [{Key :: term(), Title :: string(), Colour :: string()}],
                  groups := [{Title :: string(),
                              [{Key :: term(), number(), Low :: number(), High :: number()}]}]}.

-define(WIDTH, 900).
-define(LABELS, 330).
-define(VALUES, 70).
-define(TOP, 66).
-define(BAR, 13).
-define(GAP, 12).
-define(FONT, "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222\"").

-spec bars(plot()) -> iodata().
bars(#{title := Title, unit := Unit, series := Series, groups := Groups} = Plot) ->
    Shown = [S || {Key, _, _} = S <- Series,
                  lists:any(fun({_, Bars}) -> lists:keymember(Key, 1, Bars) end, Groups)],
    Scale = scale(Plot),
    {Body, Bottom} = lists:mapfoldl(fun(Group, Y) -> group(Group, Shown, Scale, Y) end, ?TOP,
                                    Groups),
    Height = Bottom + 38,
    [io_lib:format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ~b ~b\" width=\"~b\" "
                   "height=\"~b\" " ?FONT ">~n", [?WIDTH, Height, ?WIDTH, Height]),
     io_lib:format("<rect width=\"~b\" height=\"~b\" fill=\"#fff\"/>~n", [?WIDTH, Height]),
     text(16, 24, "start", " font-size=\"15\" font-weight=\"bold\"", Title),
     legend(Shown), grid(Scale, Bottom), Body,
     text(?WIDTH - ?VALUES, Bottom + 29, "end", "", Unit), "</svg>\n"].

%%% Scale: {Kind, Low, High, Ticks}

scale(#{scale := Kind, groups := Groups}) ->
    Values = [V || {_, Bars} <- Groups, {_, Middle, Low, High} <- Bars, V <- [Middle, Low, High],
                   V > 0],
    case Kind of
        linear ->
            Step = step(lists:max([1 | Values])),
            Count = ceil(lists:max([1 | Values]) / Step),
            {linear, 0, Step * Count, [Step * N || N <- lists:seq(0, Count)]};
        log ->
            First = floor(math:log10(lists:min([1000 | Values]))),
            Last = max(First + 1, ceil(math:log10(lists:max([1 | Values])))),
            {log, First, Last, [math:pow(10, N) || N <- lists:seq(First, Last)]}
    end.

%% 1, 2 or 5 times a power of ten, four to nine of them to the whole.
step(Most) ->
    Power = math:pow(10, floor(math:log10(Most))),
    hd([S || Factor <- [0.1, 0.2, 0.5, 1], S <- [Factor * Power], Most / S =< 9] ++ [Power * 2]).

x({linear, Low, High, _}, Value) ->
    ?LABELS + (Value - Low) / (High - Low) * span();
x({log, First, Last, _}, Value) when Value > 0 ->
    ?LABELS + max(0, math:log10(Value) - First) / (Last - First) * span();
x({log, _, _, _}, _) ->
    ?LABELS.

span() ->
    ?WIDTH - ?LABELS - ?VALUES.

%%% Parts

grid({_, _, _, Ticks} = Scale, Bottom) ->
    [[io_lib:format("<line x1=\"~.1f\" y1=\"~b\" x2=\"~.1f\" y2=\"~b\" stroke=\"#ddd\"/>~n",
                    [X, ?TOP - 6, X, Bottom]),
      text(X, Bottom + 12, "middle", " font-size=\"11\"", number(Tick))]
     || Tick <- Ticks, X <- [float(x(Scale, Tick))]].

legend(Series) ->
    {Boxes, _} = lists:mapfoldl(
        fun({_, Title, Colour}, X) ->
            {[io_lib:format("<rect x=\"~b\" y=\"36\" width=\"11\" height=\"11\" fill=\"~s\"/>~n",
                            [X, Colour]),
              text(X + 15, 46, "start", "", Title)], X + 34 + 7 * length(Title)}
        end, 16, Series),
    Boxes.

group({Title, Bars}, Series, Scale, Y) ->
    Present = [{Colour, Bar} || {Key, _, Colour} <- Series, Bar <- [lists:keyfind(Key, 1, Bars)],
                                Bar =/= false],
    Height = ?BAR * length(Present),
    {Drawn, _} = lists:mapfoldl(fun(One, At) -> {bar(One, Scale, At), At + ?BAR} end, Y, Present),
    {[label(Title, Y + Height / 2), Drawn], Y + Height + ?GAP}.

bar({Colour, {_, Value, Low, High}}, Scale, Y) ->
    X = float(x(Scale, Value)),
    {From, To} = {float(x(Scale, Low)), float(x(Scale, High))},
    Middle = Y + ?BAR / 2,
    [io_lib:format("<rect x=\"~b\" y=\"~b\" width=\"~.1f\" height=\"~b\" fill=\"~s\"/>~n",
                   [?LABELS, Y, max(0.5, X - ?LABELS), ?BAR - 2, Colour]),
     io_lib:format("<line x1=\"~.1f\" y1=\"~.1f\" x2=\"~.1f\" y2=\"~.1f\" stroke=\"#222\"/>~n",
                   [From, Middle - 1, To, Middle - 1]),
     text(max(X, To) + 5, Middle + 3, "start", " font-size=\"11\"", number(Value))].

%% Long ones have two lines, broken where a comma or the middle is.
label(Title, Middle) ->
    case length(Title) > 48 of
        false ->
            text(?LABELS - 8, Middle + 3, "end", "", Title);
        true ->
            {First, Second} = halves(Title),
            [text(?LABELS - 8, Middle - 4, "end", "", First),
             text(?LABELS - 8, Middle + 10, "end", "", Second)]
    end.

halves(Title) ->
    Half = length(Title) div 2,
    {Before, After} = lists:split(Half, Title),
    {Rest, Next} = lists:splitwith(fun(C) -> C =/= $\s end, After),
    {Before ++ Rest, string:trim(Next)}.

text(X, Y, Anchor, More, Text) ->
    io_lib:format("<text x=\"~.1f\" y=\"~.1f\" text-anchor=\"~s\"~s>~ts</text>~n",
                  [float(X), float(Y), Anchor, More, escape(Text)]).

number(N) when N == trunc(N) -> integer_to_list(trunc(N));
number(N) when abs(N) >= 100 -> integer_to_list(round(N));
number(N) when abs(N) >= 10 -> io_lib:format("~.1f", [float(N)]);
number(N) -> io_lib:format("~.2f", [float(N)]).

escape(Text) ->
    [case C of
         $< -> "&lt;";
         $> -> "&gt;";
         $& -> "&amp;";
         _ -> C
     end || C <- unicode:characters_to_list(Text)].
