%% The pages that people read, taken apart: every block of code with its line, its language and the
%% words behind the language, which say what a test does with it (CONTRIBUTING.md has the list).
-module(docs_kit).

-export([root/0, pages/0, blocks/1, spans/1, links/1, anchors/1, heading/2, place/2]).
-export([steps/1, written/2, told/2]).

-export_type([block/0]).

%% What is done with a step: it starts a server; it runs, beside one where its commands need one; it
%% has the ports to itself.
-type kind() :: serves | runs | alone.

%% `line` is the line of the fence. A block that is only indented has the language "".
-type block() :: #{page := string(), line := pos_integer(), language := string(),
                   words := [string()], text := string()}.

%% Where the sources are.
-spec root() -> file:filename().
root() ->
    filename:absname(filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."])).

%% All that somebody reads to use Meerkat or to change it, without the pages that are only about its
%% inside.
-spec pages() -> [string()].
pages() ->
    lists:append([lists:sort(filelib:wildcard(Pattern, root()))
                  || Pattern <- ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
                                 "docs/*.md", "bench/README.md", "examples/*/README.md",
                                 "test/*/README.md"]]).

lines(Page) ->
    {ok, Bytes} = file:read_file(filename:join(root(), Page)),
    string:split(unicode:characters_to_list(Bytes), "\n", all).

-spec blocks(Page :: string()) -> [block()].
blocks(Page) ->
    Lines = lists:zip(lists:seq(1, length(lines(Page))), lines(Page)),
    blocks(Page, Lines, "").

blocks(_, [], _) ->
    [];
blocks(Page, [{N, "```" ++ Info} | Rest], _) ->
    {Inside, [_ | After]} = lists:splitwith(fun({_, Line}) -> Line =/= "```" end, Rest),
    {Language, Words} = case string:lexemes(Info, " ") of
        [] -> {"", []};
        [First | More] -> {First, More}
    end,
    [#{page => Page, line => N, language => Language, words => Words,
       text => lists:append([Line ++ "\n" || {_, Line} <- Inside])} | blocks(Page, After, "")];
blocks(Page, [{N, "    " ++ Text} | Rest], "") when Text =/= "" ->
    [#{page => Page, line => N, language => "", words => [], text => Text}
     | blocks(Page, Rest, Text)];
blocks(Page, [{_, Line} | Rest], _) ->
    blocks(Page, Rest, Line).

%% The lines of prose, each with its number.
prose(Page) ->
    prose(lists:zip(lists:seq(1, length(lines(Page))), lines(Page)), false).

prose([], _) -> [];
prose([{_, "```" ++ _} | Rest], Inside) -> prose(Rest, not Inside);
prose([_ | Rest], true) -> prose(Rest, true);
prose([Line | Rest], false) -> [Line | prose(Rest, false)].

%% Code within sentences; a span may go on on the next line.
-spec spans(Page :: string()) -> [{pos_integer(), string()}].
spans(Page) ->
    Text = lists:append([[[16#1, integer_to_list(N), 16#2], Line, "\n"]
                         || {N, Line} <- prose(Page)]),
    {match, Found} = re:run(unicode:characters_to_binary([Text, "``"]), "`([^`]*)`",
                            [global, unicode, {capture, all, index}]),
    Bytes = unicode:characters_to_binary(Text),
    [{line_at(Bytes, From), unmarked(binary:part(Bytes, From, Length))}
     || [_, {From, Length}] <- Found, From + Length =< byte_size(Bytes)].

line_at(Bytes, At) ->
    {match, Found} = re:run(binary:part(Bytes, 0, At), "\x01([0-9]+)\x02",
                            [global, {capture, all_but_first, list}]),
    list_to_integer(hd(lists:last(Found))).

unmarked(Span) ->
    Joined = re:replace(Span, "\n?\x01[0-9]+\x02", " ", [global, unicode, {return, list}]),
    re:replace(string:trim(Joined), "\\\\\\|", "|", [global, unicode, {return, list}]).

%% What is linked to within the tree: a file as it stands there and the heading in it, or "".
-spec links(Page :: string()) -> [{pos_integer(), File :: string(), Anchor :: string()}].
links(Page) ->
    [{N, File, Anchor}
     || {N, Line} <- prose(Page),
        {match, Found} <- [re:run(Line, "\\]\\(([^):]*)\\)",
                                  [global, unicode, {capture, all_but_first, list}])],
        [Link] <- Found,
        {File, Anchor} <- [case string:split(Link, "#") of
                               [F, A] -> {F, A};
                               [F] -> {F, ""}
                           end]].

%% The headings of a page as links name them.
-spec anchors(Page :: string()) -> [string()].
anchors(Page) ->
    [anchor(string:trim(Line, leading, "#")) || {_, "#" ++ _ = Line} <- prose(Page)].

%% The one above a line.
-spec heading(Page :: string(), pos_integer()) -> string().
heading(Page, Line) ->
    lists:last(["" | [string:trim(Text, leading, "# ") || {N, "#" ++ _ = Text} <- prose(Page),
                                                         N < Line]]).

anchor(Heading) ->
    Kept = [C || C <- string:lowercase(string:trim(Heading)),
                 C =:= $\s orelse C =:= $- orelse C =:= $_ orelse C >= $0 andalso C =< $9
                     orelse C >= $a andalso C =< $z orelse C > 127],
    [case C of $\s -> $-; _ -> C end || C <- Kept].

-spec place(string(), pos_integer()) -> string().
place(Page, Line) -> Page ++ ":" ++ integer_to_list(Line).

%%% Commands

%% What test/docs_page.sh does with a page, in order: starts a server, or runs commands. `shows` is
%% what the page says that they print. Programs come last, all blocks of a language as one.
-spec steps([block()]) -> [#{line := pos_integer(), kind := kind(), text := string(),
                             shows := string() | {json, string()}}].
steps([]) ->
    [];
steps(Blocks) ->
    lists:append([step(Block, After)
                  || {Block, After} <- lists:zip(Blocks, tl(Blocks) ++ [none])])
        ++ [#{line => Line, kind => alone, shows => "", text => program(Language, Page)}
            || Language <- ["erlang", "elixir"],
               [#{line := Line, page := Page} | _] <- [[B || #{language := L} = B <- Blocks,
                                                             L =:= Language]]].

-define(CODE, "-pa _build/test/lib/meerkat/ebin").

program("erlang", Page) ->
    "erl -noshell " ?CODE " -pa _build/test/lib/meerkat/test -eval 'docs_program:follow(\""
        ++ Page ++ "\")'\n";
program("elixir", Page) ->
    "erl -noshell " ?CODE " -pa _build/test/lib/meerkat/test -eval 'docs_program:elixir(\""
        ++ Page ++ "\")' >/mnt/page.exs\n"
        "elixir " ?CODE " /mnt/page.exs | tee /mnt/said\n"
        "grep -qx 'to the end' /mnt/said\n".

step(#{language := "sh", words := Words, line := Line, text := Text}, After)
  when Words =:= []; Words =:= ["serves"] ->
    Shows = case After of
        #{language := "text", words := ["output"], text := Output} -> Output;
        #{language := "json", words := ["output"], text := Output} -> {json, Output};
        _ -> ""
    end,
    [#{line => Line, kind => case Words of [] -> runs; _ -> serves end, text => Text,
       shows => Shows}];
step(#{language := "console", words := [], line := Line, text := Text}, _) ->
    ["" | Parts] = string:split("\n" ++ Text, "\n$ ", all),
    [#{line => Line, kind => runs, text => Command, shows => Shows}
     || Part <- Parts,
        [Command, Shows] <- [case string:split(Part, "\n") of
                                 [C, S] -> [C, S];
                                 [C] -> [C, ""]
                             end]];
step(_, _) ->
    [].

%% Lines that the page shows and that were not written, whatever numbers, keys and times are in
%% them. An ellipsis stands for anything.
-spec written(Shown :: string() | {json, string()}, Written :: string()) -> Missing :: [string()].
written({json, Shown}, Written) ->
    [Value, Real] = [kinds(element(2, {ok, _} = meerkat_json:decode(
                                          unicode:characters_to_binary(Text))))
                     || Text <- [Shown, Written]],
    [Shown || Value =/= Real];
written(Shown, Written) ->
    Shapes = [shape(Line) || Line <- string:lexemes(Written, "\n")],
    [Line || Line <- string:lexemes(Shown, "\n"), not lists:any(told(Line), Shapes)].

%% Members, and the kinds of their values. Elements of a list that are alike count once.
kinds(Value) when is_map(Value) -> maps:map(fun(_, V) -> kinds(V) end, Value);
kinds(Value) when is_list(Value) -> lists:usort([kinds(V) || V <- Value]);
kinds(Value) when is_binary(Value) -> text;
kinds(Value) when is_number(Value) -> number;
kinds(Value) -> Value.

-spec told(Shown :: string(), Written :: string()) -> boolean().
told(Shown, Written) -> (told(Shown))(shape(Written)).

told(Shown) ->
    Parts = [re:replace(Part, "[][.*+?(){}|^$\\\\]", "\\\\&", [global, unicode, {return, list}])
             || Part <- string:split(shape(Shown), "…", all)],
    Pattern = unicode:characters_to_binary(["^ ?", lists:join(".*", Parts), "$"]),
    fun(Line) -> re:run(Line, Pattern, [unicode, {capture, none}]) =:= match end.

shape(Line) ->
    lists:foldl(fun({Pattern, By}, Now) ->
                    re:replace(Now, Pattern, By, [global, unicode, {return, list}])
                end, string:trim(Line, trailing),
                [{"[A-Za-z0-9+/]{20,}={0,2}", "KEY"}, {"[0-9]+", "9"}, {" +", " "}]).
