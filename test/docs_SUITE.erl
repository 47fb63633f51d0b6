%% The pages tell no lies: their commands run, their configuration is read, their programs compile
%% and their links lead somewhere. What a block of code is says the line that opens it
%% (CONTRIBUTING.md); what cannot run here says why, and is looked at as far as possible.
-module(docs_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([every_block_says_what_it_is/1, commands_run/1, what_does_not_run_is_right/1,
         commands_of_meerkatctl_exist/1, targets_of_make_exist/1, configurations_are_read/1,
         variables_are_read/1, variables_exist/1, other_languages_are_well_formed/1,
         options_of_others_have_ours/1,
         links_lead_somewhere/1, units_are_valid/1, rules_are_valid/1]).

-import(docs_kit, [root/0, pages/0, blocks/1, place/2]).

%% Languages, and the words that may stand behind each.
-define(LANGUAGES, #{
    "sh" => ["serves" | [Reason || {Reason, _} <- reasons()]],
    "console" => [],
    %% What the commands before it printed; drawings.
    "text" => ["output"],
    %% Lines of the log: troubleshooting_SUITE has servers write them.
    "log" => [],
    %% Of docs/accounting.md: accounting_database_SUITE sends them to databases.
    "sql" => [],
    "cfg" => [], "env" => [],
    "erlang" => ["part", "shell"], "elixir" => ["part"],
    "json" => ["output"], "yaml" => ["prometheus"], "toml" => [], "lua" => [], "js" => [],
    %% Examples of a row in a table of ours, shown and no more.
    "c" => []
}).

%% Why commands are not run here, and what must be in each line for that to be true.
reasons() ->
    [%% There is no Docker where the tests run; test/image.sh builds and tries the image.
     {"docker", "^docker "},
     %% It changes the machine; test/newcomer.sh does these in chroots.
     {"machine", "apt-get|systemctl|dpkg|useradd|make deb|^export MIX|mix local"},
     %% It fetches from other machines.
     {"network", "git clone|git pull|npm |https?://"},
     %% It takes longer than all of this suite.
     {"minutes", "^make|^$"},
     %% It needs a cluster; fleet_SUITE has one and runs them.
     {"fleet", "^meerkatctl fleet "},
     %% It needs a cluster of another kind; kubernetes_SUITE looks at what these apply.
     {"kubernetes", "^kubectl |^ +--from-file"},
     %% It makes files; release_SUITE does it, and nodes trust each other by them.
     {"openssl", "^openssl |^ +-"},
     %% Somebody must type or look.
     {"person", "remote_console|iex"}].

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info,
                     F =/= init_per_suite, F =/= end_per_suite]).

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(meerkat),
    Config.

end_per_suite(_) ->
    application:stop(meerkat).

blocks() -> lists:append([blocks(Page) || Page <- pages()]).

blocks_in(Language) -> [Block || #{language := L} = Block <- blocks(), L =:= Language].

place(#{page := Page, line := Line}) -> place(Page, Line).

%% Each is a sentence about a place in a page.
none(Wrong) ->
    case lists:join("\n", Wrong) of
        [] -> ok;
        Lines -> ct:fail("~ts", [[case C of _ when C > 126 -> $?; _ -> C end
                                  || C <- unicode:characters_to_list(Lines)]])
    end.

%%% What blocks are

every_block_says_what_it_is(_) ->
    none([[place(Block), ": ", Why] || Block <- blocks(), {error, Why} <- [known(Block)]]).

known(#{language := ""}) ->
    {error, "a block without a language"};
known(#{language := "sh", words := ["by=" ++ File], page := Page, text := Text}) ->
    by(File, Page, Text);
known(#{language := "sh", words := [Word], text := Text}) when Word =/= "serves" ->
    case lists:keyfind(Word, 1, reasons()) of
        {_, Pattern} ->
            case [Line || Line <- commands(Text), re:run(Line, Pattern, [unicode]) =:= nomatch] of
                [] -> ok;
                [Line | _] -> {error, [Word, " is no reason not to run: ", Line]}
            end;
        false ->
            {error, ["no such reason: ", Word]}
    end;
known(#{language := Language, words := Words}) ->
    case ?LANGUAGES of
        #{Language := Allowed} ->
            case Words -- Allowed of
                [] -> ok;
                [Word | _] -> {error, ["no such word: ", Word]}
            end;
        #{} ->
            {error, ["no such language: ", Language]}
    end.

%% Another test runs it: it reads the page, or has each program and option of the block in it.
by(File, Page, Text) ->
    case file:read_file(filename:join(root(), File)) of
        {ok, Test} ->
            Words = [Word || Line <- commands(Text), Word <- telling(Line)],
            Missing = [Word || Word <- Words, string:find(Test, Word) =:= nomatch],
            case string:find(Test, filename:basename(Page)) of
                nomatch when Missing =/= [] -> {error, [File, " has no ", hd(Missing)]};
                _ -> ok
            end;
        {error, _} ->
            {error, ["there is no ", File]}
    end.

telling(Line) ->
    case [W || W <- string:lexemes(Line, " "), re:run(W, "^[A-Z0-9_]+=", [unicode]) =:= nomatch] of
        ["cd" | _] -> [];
        [Program | Words] ->
            [filename:rootname(filename:basename(Program))
             | [Word || "--" ++ _ = Word <- Words]]
    end.

%% Each command of a block, without comments.
commands(Text) ->
    Joined = re:replace(Text, "\\\\\n", " ", [global, unicode, {return, list}]),
    [string:trim(Line) || Raw <- string:lexemes(Joined, "\n"),
                          Line <- [re:replace(Raw, "(^|\\s)#\\s.*", "",
                                              [unicode, {return, list}])],
                          string:trim(Line) =/= ""].

%%% Commands

%% Those of two pages at a time, each page on a machine of its own.
commands_run(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Pages = [{Page, Steps} || Page <- pages(), [_ | _] = Steps <- [docs_kit:steps(blocks(Page))]],
    ?assert(length(Pages) > 4),
    case [Page || {Page, skip} <- in_turn(Dir, Pages, [])] of
        [] -> ok;
        [_ | _] -> throw({skip, "neither root nor namespaces for anybody"})
    end,
    none(lists:append([wrong(Page, Steps, directory(Dir, Page)) || {Page, Steps} <- Pages])).

%% The longest first.
in_turn(Dir, Pages, Running) ->
    Sorted = lists:sort(fun({_, A}, {_, B}) -> length(A) >= length(B) end, Pages),
    turn(Dir, Sorted, Running, []).

turn(_, [], [], Done) ->
    Done;
turn(Dir, [{Page, Steps} | Rest], Running, Done) when length(Running) < 2 ->
    turn(Dir, Rest, [{started(directory(Dir, Page), Steps), Page} | Running], Done);
turn(Dir, Pages, Running, Done) ->
    receive
        {Port, {exit_status, Status}} ->
            {_, Page} = lists:keyfind(Port, 1, Running),
            Ended = case Status of 77 -> {Page, skip}; _ -> {Page, ran} end,
            turn(Dir, Pages, lists:keydelete(Port, 1, Running), [Ended | Done]);
        {_, {data, Data}} ->
            ct:log("~ts", [Data]),
            turn(Dir, Pages, Running, Done)
    end.

directory(Dir, Page) ->
    filename:join([Dir, "pages", lists:flatten(string:replace(Page, "/", "-", all))]).

started(Dir, Steps) ->
    ok = filelib:ensure_dir(step_file(Dir, 1, "")),
    [ok = file:write_file(step_file(Dir, N, atom_to_list(Kind)), unicode:characters_to_binary(Text))
     || {N, #{kind := Kind, text := Text}} <- numbered(Steps)],
    open_port({spawn_executable, filename:join([root(), "test", "docs_page.sh"])},
              [{args, [Dir]}, exit_status, stderr_to_stdout, binary]).

numbered(Steps) -> lists:zip(lists:seq(1, length(Steps)), Steps).

step_file(Dir, N, Extension) ->
    filename:join(Dir, integer_to_list(N) ++ "." ++ Extension).

wrong(Page, Steps, Dir) ->
    lists:append([wrong(place(Page, Line), Step, read(step_file(Dir, N, "status")),
                        read(step_file(Dir, N, "output")))
                  || {N, #{line := Line} = Step} <- numbered(Steps)]).

wrong(Place, #{shows := Shows}, "0\n", Output) ->
    [[Place, ": this was not printed: ", Line, "\n", Output]
     || Line <- docs_kit:written(Shows, Output)];
wrong(Place, #{text := Text}, Status, Output) ->
    [[Place, ": ended with ", string:trim(Status), "\n", Text, Output]].

read(File) ->
    case file:read_file(File) of
        {ok, Bytes} -> unicode:characters_to_list(Bytes);
        {error, _} -> "nothing"
    end.

%% Their syntax is the shell's, and files of ours that they name are there.
what_does_not_run_is_right(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "block.sh"),
    none([[place(Block), ": ", Said]
          || #{words := Words, text := Text} = Block <- blocks_in("sh"), Words =/= [],
             Said <- [begin
                          ok = file:write_file(File, unicode:characters_to_binary(Text)),
                          os:cmd("bash -n " ++ File)
                      end],
             Said =/= ""]).

%% Also in sentences: command, options, and values where there are any.
commands_of_meerkatctl_exist(_) ->
    InBlocks = [{place(Block), Line}
                || #{language := L, text := Text} = Block <- blocks(),
                   L =:= "sh" orelse L =:= "console",
                   Line <- commands(Text)],
    InText = [{place(Page, N), Span} || Page <- pages(), {N, Span} <- docs_kit:spans(Page)],
    All = [{Place, Words}
           || {Place, Line} <- InBlocks ++ InText,
              {match, Found} <- [re:run(Line, "(?:^|[ /;&(])meerkatctl(( [^|;&<>#)]+)+)",
                                        [global, unicode, {capture, [1], list}])],
              [Tail] <- Found,
              Words <- [words(Tail)]],
    ?assert(length(All) > 40),
    none([[Place, ": meerkatctl ", lists:join(" ", Words), ": ", Why]
          || {Place, Words} <- All, {error, Why} <- [understood(Words)]]).

words(Tail) ->
    {match, Found} = re:run(Tail ++ " ", "(?:'([^']*)'|\"([^\"]*)\"|(\\S+))",
                            [global, unicode, {capture, all_but_first, list}]),
    [lists:append(Parts) || Parts <- Found].

%% What stands for something of the reader's own is no mistake.
understood(["COMMAND" | _]) -> ok;
understood(["…"]) -> ok;
understood(["-c" | _]) -> ok;
%% The socket stands before the command, if there is one.
understood(["-s", _Socket]) -> ok;
understood(["-s", _Socket | Words]) -> understood(Words);
understood(["foreground" | _]) -> ok;
understood(["check" | Args]) ->
    Usage = unicode:characters_to_list(meerkat_check_command:usage()),
    case [Arg || "--" ++ _ = Arg <- Args, string:find(Usage, Arg) =:= nomatch, Arg =/= "--json"] of
        [] -> ok;
        [Arg | _] -> {error, ["no option ", Arg]}
    end;
understood(Words) ->
    case meerkat_cli_options:parse(Words) of
        {error, _} when length(Words) =:= 1 ->
            %% Only named.
            names(Words);
        {error, Why} ->
            case [Word || Word <- Words, stands_for_something(Word)] of
                [] -> {error, Why};
                [_ | _] -> names(Words)
            end;
        _ -> ok
    end.

stands_for_something(Word) ->
    re:run(Word, "^(.*[A-Z]{2,}.*|.*…|.*\\|.*|\\[.*)$", [unicode, {capture, none}]) =:= match.

names([Command | Args]) ->
    case lists:keyfind(Command, 1, meerkat_cli_options:rows()) of
        {_, _, _, Options, _} ->
            Known = ["--json" | ["--" ++ atom_to_list(Key) || {Key, _, _, _} <- Options]],
            case [Arg || "--" ++ _ = Arg <- Args, not lists:member(Arg, Known)] of
                [] -> ok;
                [Arg | _] -> {error, ["no option ", Arg]}
            end;
        false ->
            {error, "no such command"}
    end.

targets_of_make_exist(_) ->
    Targets = lists:append([targets(File) || File <- ["Makefile", "bench/Makefile",
                                                      "c_src/Makefile"]]),
    InBlocks = [{place(Block), Line} || #{text := Text} = Block <- blocks_in("sh"),
                                        Line <- commands(Text)],
    InText = [{place(Page, N), Span} || Page <- pages(), {N, Span} <- docs_kit:spans(Page)],
    All = [{Place, Word}
           || {Place, Line} <- InBlocks ++ InText,
              {match, [Tail]} <- [re:run(Line,
                                         "(?:^|&& |[A-Z_]+=\\S+ )make(?: -C \\S+)?((?: .*)?)$",
                                         [unicode, {capture, all_but_first, list}])],
              Word <- words(Tail ++ " all"),
              re:run(Word, "^[a-z][a-z-]*$") =/= nomatch],
    ?assert(length(All) > 30),
    none([[Place, ": there is no make ", Word] || {Place, Word} <- All,
                                                  not lists:member(Word, Targets)]).

targets(File) ->
    {ok, Text} = file:read_file(filename:join(root(), File)),
    {match, Found} = re:run(Text, "^([a-z][a-z -]*):", [global, multiline,
                                                        {capture, all_but_first, list}]),
    lists:append([string:lexemes(Names, " ") || [Names] <- Found]).

%%% Configuration

configurations_are_read(Config) ->
    Blocks = blocks_in("cfg"),
    ?assert(length(Blocks) >= 4),
    none([[place(Block), ": ", Why] || #{text := Text} = Block <- Blocks,
                                       {error, Why} <- [read_configuration(Config, Text, [])]]).

%% Lines NAME=value.
variables_are_read(Config) ->
    none([[place(Block), ": ", Why]
          || #{text := Text} = Block <- blocks_in("env"),
             Env <- [[{list_to_binary(Name), unicode:characters_to_binary(unquoted(Value))}
                      || Line <- commands(Text),
                         [Name, Value] <- [string:split(Line, "=")]]],
             {error, Why} <- [read_configuration(Config, "", Env)
                              | [{error, [Name, " is no variable"]}
                                 || {Name, _} <- Env,
                                    not lists:member(Name, meerkat_config_schema:environment())]]]).

%% Wherever one is named: in sentences, tables, and after `-e` of docker. Those of make, of programs
%% of ours and of others are looked for in the tree.
variables_exist(_) ->
    InText = [{place(Page, N), Name}
              || Page <- pages(), Page =/= "docs/conformance.md", Page =/= "docs/protocol.md",
                 {N, Span} <- docs_kit:spans(Page),
                 Name <- variables(Span, "^([A-Z][A-Z0-9]*_[A-Z0-9_]+[A-Z0-9])(?:=.*)?$")],
    InBlocks = [{place(Block), Name}
                || #{text := Text} = Block <- blocks_in("sh"),
                   Name <- variables(Text, "(?:-e \"?|^|\\n)([A-Z][A-Z0-9]*_[A-Z0-9_]+)=")],
    All = InText ++ InBlocks,
    ?assert(length(All) > 60),
    %% Also with a file in its place; eturnal's are eturnal's.
    Known = lists:append([[binary_to_list(Name), binary_to_list(Name) ++ "_FILE"]
                          || Name <- meerkat_config_schema:environment()]),
    none([[Place, ": there is no variable ", Name, "\n"]
          || {Place, Name} <- All, not lists:member(Name, Known),
             not lists:prefix("ETURNAL_", Name), not in_tree(Name)]).

variables(Text, Pattern) ->
    case re:run(Text, Pattern, [global, unicode, {capture, all_but_first, list}]) of
        {match, Found} -> lists:append(Found);
        nomatch -> []
    end.

%% In what is no page.
in_tree(Name) ->
    os:cmd("cd " ++ root() ++ " && git grep -lwF " ++ Name ++ " -- ':!*.md' | head -n 1") =/= "".

unquoted(Value) -> string:trim(Value, both, "'\"").

%% Files that it names are there, with something in them.
read_configuration(Config, Text, Env) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "configuration"),
    Files = filename:join(Dir, "meerkat.cfg"),
    ok = filelib:ensure_dir(Files),
    _ = [ok = file:write_file(filename:join(Dir, Name), "hunter2\n")
         || {match, Found} <- [re:run(Text, "/run/secrets/([a-z]+)",
                                      [global, {capture, all_but_first, list}])], [Name] <- Found],
    _ = [certificate(Dir, Text) || string:find(Text, "tls_cert") =/= nomatch],
    _ = [{ok, _} = file:copy(filename:join(root(), "test/data/jwks.json"),
                             filename:join(Dir, "jwks.json"))
         || string:find(Text, "jwt_keys") =/= nomatch],
    Here = re:replace(Text, "/run/secrets|/etc/meerkat", Dir, [global, unicode]),
    ok = file:write_file(Files, Here),
    Host = #{route => fun(inet) -> {ok, {20, 0, 0, 7}}; (inet6) -> none end,
             first => fun(_) -> none end, bindable => fun(_) -> true end},
    %% What a block is not about is there, as it would be.
    Secret = [{<<"STUN_SECRET">>, <<"hunter2">>}
              || re:run(Text, "^secret", [multiline]) =:= nomatch],
    case meerkat_config:load(#{file => Files, env => Secret ++ Env, host => Host}) of
        {ok, _, []} -> ok;
        {ok, _, Warnings} -> {error, io_lib:format("~tp", [Warnings])};
        {error, Mistakes} -> {error, io_lib:format("~tp", [Mistakes])}
    end.

%% In the tables of other servers' options: what is ours in them.
options_of_others_have_ours(_) ->
    Keys = [{Page, Key}
            || Page <- ["docs/coturn.md", "docs/eturnal.md"],
               {match, Rows} <- [re:run(read(filename:join(root(), Page)),
                                        "^\\| [^|]*`[^|]*\\| (`[^|]*`) \\| [^|]*\\|$",
                                        [global, multiline, unicode,
                                         {capture, all_but_first, list}])],
               [Cell] <- Rows,
               Key <- string:lexemes(Cell, "`, ")],
    ?assert(length(Keys) > 50),
    none([[Page, ": there is no key ", Key, "\n"]
          || {Page, Key} <- Keys, meerkat_config_schema:find(list_to_binary(Key)) =:= error]).

%% Under the names that the page uses.
certificate(Dir, Text) ->
    #{certificate := Certificate, key := Key} =
        certificate_kit:issued(certificate_kit:authority(Dir), "DNS:turn.example.org"),
    [{ok, _} = file:copy(From, filename:join(Dir, Name))
     || {Option, From} <- [{"tls_cert", Certificate}, {"tls_key", Key},
                         {"tls_client_ca", Certificate}],
        {match, [Names]} <- [re:run(Text, "^" ++ Option ++ " = ([^;]*);",
                                    [multiline, {capture, all_but_first, list}])],
        {match, Found} <- [re:run(Names, "/etc/meerkat/([a-z.-]+)",
                                  [global, {capture, all_but_first, list}])],
        [Name] <- Found].

%%% Other languages

other_languages_are_well_formed(Config) ->
    none([[place(Block), ": ", Said]
          || #{language := Language, text := Text} = Block <- blocks(),
             {Extension, Command} <- reader(Language),
             File <- [filename:join(proplists:get_value(priv_dir, Config), "block" ++ Extension)],
             Said <- [begin
                          ok = file:write_file(File, unicode:characters_to_binary(Text)),
                          os:cmd(Command ++ " " ++ File ++ " 2>&1 >/dev/null")
                      end],
             Said =/= ""]).

reader("json") -> [{".json", "/usr/bin/python3 -m json.tool"}];
reader("toml") -> [{".toml", "/usr/bin/python3 -c 'import sys, tomllib; "
                             "tomllib.load(open(sys.argv[1], \"rb\"))'"}];
reader("yaml") -> [{".yml", "/usr/bin/python3 -c 'import sys, yaml; "
                            "yaml.safe_load(open(sys.argv[1]))'"}];
reader("lua") -> [{".lua",
                  "sh -c 'LUA=$1 exec lua -e \"assert(loadfile(os.getenv([[LUA]])))\"' -"}];
reader("js") -> [{".mjs", "node --check"}];
reader(_) -> [].

%%% Links, units, rules

links_lead_somewhere(_) ->
    none([[place(Page, N), ": no ", File, [["#", Anchor] || Anchor =/= ""]]
          || Page <- pages(), {N, File, Anchor} <- docs_kit:links(Page),
             not leads(Page, File, Anchor)]).

leads(Page, File, Anchor) ->
    To = case File of
        "" -> Page;
        _ -> normal(filename:join(filename:dirname(Page), File))
    end,
    case filelib:is_file(filename:join(root(), To)) of
        true when Anchor =/= "" -> lists:member(Anchor, docs_kit:anchors(To));
        There -> There
    end.

normal(Path) ->
    Parts = lists:foldl(fun("..", [_ | Before]) -> Before;
                           (".", Before) -> Before;
                           (Part, Before) -> [Part | Before]
                        end, [], filename:split(Path)),
    filename:join(lists:reverse(Parts)).

units_are_valid(Config) ->
    program("systemd-analyze"),
    Dir = proplists:get_value(priv_dir, Config),
    Units = filelib:wildcard("{rel,debian}/*.service", root()),
    ?assertNotEqual([], Units),
    none([[Unit, ": ", Said]
          || Unit <- Units,
             {ok, Text} <- [file:read_file(filename:join(root(), Unit))],
             %% The program it starts is not installed here.
             Here <- [re:replace(Text, "=/(opt|usr/lib)/meerkat/bin/", "=/bin/true ", [global])],
             File <- [filename:join(Dir, "meerkat.service")],
             Said <- [begin
                          ok = file:write_file(File, Here),
                          os:cmd("systemd-analyze verify --man=no " ++ File ++ " 2>&1")
                      end],
             string:find(Said, "meerkat.service") =/= nomatch]).

rules_are_valid(Config) ->
    program("promtool"),
    Rules = filename:join(root(), "docs/monitoring/alerts.yml"),
    ?assertMatch({match, _}, re:run(os:cmd("promtool check rules " ++ Rules), "SUCCESS")),
    File = filename:join(proplists:get_value(priv_dir, Config), "prometheus.yml"),
    [begin
         ok = file:write_file(File, Text),
         ?assertMatch({match, _}, re:run(os:cmd("promtool check config " ++ File), "SUCCESS"))
     end || #{words := ["prometheus"], text := Text} <- blocks_in("yaml")].

program(Name) ->
    os:find_executable(Name) =/= false orelse throw({skip, Name ++ " is not here"}).
