#!/usr/bin/env escript
%% Makes docs/conformance.md of a checkout, on standard output: the rows of test/data/rows.txt, each
%% with the tests that bear its name. Tests are the exported cases of test/*_SUITE.erl and what
%% RUN() runs in test/c/unit/*.c; x4_name and x04_name both show row X4, s19_s24_name two rows.
%% Fails on a row that has neither a test nor a reason, and on a reference that leads nowhere.
%%
%%   escript test/conformance.escript [CHECKOUT]
-mode(compile).

main([]) -> main([filename:dirname(filename:dirname(filename:absname(escript:script_name())))]);
main([Root]) ->
    Tests = tests(Root),
    Lines = lines(filename:join(Root, "test/data/rows.txt")),
    Rows = maps:from_list([{maps:get(id, Row), Row} || #{} = Row <- Lines]),
    ByRow = by_row(Tests, Rows),
    Judged = [case Line of
                  #{} -> judge(Line, ByRow, Tests);
                  _ -> Line
              end || Line <- Lines],
    case [Fault || #{faults := Faults} <- Judged, Fault <- Faults] of
        [] ->
            ok = io:setopts([{encoding, unicode}]),
            io:put_chars(page(Judged));
        Faults ->
            io:put_chars(standard_error, Faults),
            halt(1)
    end.

%%% The tests there are: {Suite or program, Case}

tests(Root) ->
    Erlang = [{filename:basename(File, ".erl"), Case}
              || File <- filelib:wildcard(filename:join(Root, "test/*_SUITE.erl")),
                 Case <- exported(File)],
    C = [{filename:basename(File), Case}
         || File <- filelib:wildcard(filename:join(Root, "test/c/unit/*.c")),
            Case <- run_by(File)],
    lists:usort(Erlang ++ C).

exported(File) ->
    {ok, Text} = file:read_file(File),
    case re:run(Text, "^-compile\\(\\[?export_all", [multiline]) of
        nomatch ->
            {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
            [atom_to_list(Name) || Form <- forms(Tokens, []), {Name, 1} <- exports(Form)];
        {match, _} ->
            found(Text, "^([a-z]\\w*)\\([^,()]*\\) ->")
    end.

forms([], _) -> [];
forms([{dot, _} = Dot | Rest], Form) -> [lists:reverse(Form, [Dot]) | forms(Rest, [])];
forms([Token | Rest], Form) -> forms(Rest, [Token | Form]).

exports([{'-', _}, {atom, _, export} | _] = Form) ->
    {ok, {attribute, _, export, Functions}} = erl_parse:parse_form(Form),
    Functions;
exports(_) ->
    [].

run_by(File) ->
    {ok, Text} = file:read_file(File),
    found(Text, "RUN\\(([a-z]\\w+)\\);").

found(Text, Pattern) ->
    case re:run(Text, Pattern, [global, multiline, {capture, all_but_first, list}]) of
        {match, Names} -> lists:append(Names);
        nomatch -> []
    end.

%% Only the documents of rows.txt have pages here: k12_ is a row of another table.
by_row(Tests, Rows) ->
    Named = [{Id, Test} || {_, Case} = Test <- Tests, Id <- ids(Case), is_map_key(Id, Rows)],
    maps:groups_from_list(fun({Id, _}) -> Id end, fun({_, Test}) -> Test end, Named).

ids(Case) ->
    case re:run(Case, "^([a-z])([0-9]+)_(.*)$", [{capture, all_but_first, list}]) of
        {match, [Letter, Number, Rest]} ->
            [string:uppercase(Letter) ++ integer_to_list(list_to_integer(Number)) | ids(Rest)];
        nomatch -> []
    end.

%%% The rows

lines(File) ->
    {ok, Text} = file:read_file(File),
    [line(Line) || Line <- string:split(unicode:characters_to_list(Text), "\n", all),
                   string:trim(Line) =/= "", hd(Line) =/= $#].

line("= " ++ Title) -> {title, Title};
line(Line) ->
    [Id, Section, Rule | More] = [string:trim(Cell) || Cell <- string:split(Line, "|", all)],
    #{id => Id, section => Section, rule => Rule, more => [more(M) || M <- More]}.

more("stream:" ++ _) -> stream;
more("not met: " ++ Why) -> {not_met, Why};
more("note: " ++ Text) -> {note, Text};
more("as: " ++ References) -> {as, string:lexemes(References, " ,")}.

judge(#{id := Id, more := More} = Row, ByRow, Tests) ->
    Own = maps:get(Id, ByRow, []),
    References = lists:append([R || {as, R} <- More]),
    Named = lists:append([referred(R, ByRow, Tests) || R <- References, is_name(R)]),
    Shown = lists:usort(Own ++ Named),
    Others = [R || R <- References, not is_name(R)],
    Reasons = [R || R <- More, R =:= stream orelse is_tuple(R) andalso element(1, R) =:= not_met],
    Lost = [R || R <- References, referred(R, ByRow, Tests) =:= []],
    Faults = [[Id, " has neither a test nor a reason\n"] || Shown ++ Others =:= [], Reasons =:= []]
          ++ [[Id, " is said to be shown by ", R, ", where there is no test\n"] || R <- Lost]
          ++ [[Id, " has tests and is said not to be met\n"] || Shown =/= [], Reasons =/= []],
    Row#{tests => Shown, others => Others, status => status(Reasons), faults => Faults,
         notes => [N || {note, N} <- More]}.

%% The name of a test, or that of a row?
is_name(Reference) -> lists:member($:, Reference).

referred(Reference, ByRow, Tests) ->
    case string:split(Reference, ":") of
        [Row] -> maps:get(Row, ByRow, []);
        [Where, Case] -> [{Where, Case} || lists:member({Where, Case}, Tests)]
    end.

status([]) -> "tested";
status([stream]) -> "not of UDP: comes with TCP and TLS";
status([{not_met, Why}]) -> "not met: " ++ Why.

%%% The page

page(Judged) ->
    Count = fun(Status) -> length([S || #{status := S} <- Judged, lists:prefix(Status, S)]) end,
    ["# Conformance\n\n"
     "What the documents ask of a server over UDP, row by row, and the tests that show it: cases "
     "of Common Test suites\nin `test/`, C programs in `test/c/unit/`. Made by `make gen` from "
     "`test/data/rows.txt` and the names of the tests.\n\n",
     io_lib:format("~b rows are tested, ~b are not met, ~b wait for TCP and TLS.\n",
                   [Count("tested"), Count("not met"), Count("not of UDP")]),
     [entry(Line) || Line <- Judged]].

entry({title, Title}) ->
    ["\n## ", Title, "\n\n| Row | Section | Asked for | Status | Tests |\n|---|---|---|---|---|\n"];
entry(#{id := Id, section := Section, rule := Rule, status := Status, notes := Notes,
        tests := Tests, others := Others}) ->
    Groups = maps:groups_from_list(fun({Where, _}) -> Where end, fun({_, Case}) -> Case end, Tests),
    Cells = [Id, Section, Rule, lists:join("; ", [Status | Notes]),
             lists:join("; ", [[Where, ": ", lists:join(", ", [["`", C, "`"] || C <- Cases])]
                               || {Where, Cases} <- lists:sort(maps:to_list(Groups))]
                              ++ [["as ", lists:join(", ", Others)] || Others =/= []])],
    ["| ", lists:join(" | ", Cells), " |\n"].
