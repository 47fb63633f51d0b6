%% Configuration files through the NIF: the shapes of terms, places and faults, and the handshake
%% with the library. What the language itself holds is tested in test/c/unit/conf.c.
-module(conf_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_testcase/2, end_per_testcase/2]).
-export([values/1, paths/1, empty/1, places/1, faults/1, text/1, names/1, include/1,
         include_directory/1, no_file/1, random_text/1, random_tree/1, wrong_abi/1]).

all() ->
    [values, paths, empty, places, faults, text, names, include, include_directory, no_file,
     random_text, random_tree, wrong_abi].

init_per_testcase(Case, Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Case),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    [{dir, Dir} | Config].

end_per_testcase(_Case, _Config) -> ok.

%% Each type of value.
values(_Config) ->
    [?assertEqual({Text, {ok, [{[<<"a">>], Value, #{file => <<"string">>, line => 1}}]}},
                  {Text, meerkat_conf_nif:read_string(["a = ", Text, ";"])})
     || {Text, Value} <- [{"0", 0}, {"-1", -1}, {"2147483647", 2147483647},
                          {"2147483648", 2147483648}, {"0xffffffff", 16#ffffffff},
                          {"9223372036854775807", 9223372036854775807},
                          {"-9223372036854775808L", -9223372036854775808},
                          {"1.5", 1.5}, {"-1e3", -1000.0}, {"true", true}, {"FALSE", false},
                          {"\"\"", <<>>}, {"\"x\\n\" \"y\"", <<"x\ny">>},
                          {<<"\"ä"/utf8, 255, "\"">>, <<"ä"/utf8, 255>>},
                          {"{}", empty_group}, {"()", empty_list}, {"[]", empty_list}]].

%% Names and indexes, down into groups, lists and arrays.
paths(_Config) ->
    ?assertEqual([{[<<"listeners">>, 0, <<"port">>], 3478},
                  {[<<"listeners">>, 1, <<"port">>], 3479},
                  {[<<"listeners">>, 1, <<"tags">>, 0], <<"x">>},
                  {[<<"listeners">>, 1, <<"tags">>, 1], <<"y">>},
                  {[<<"listeners">>, 2, 0], 1},
                  {[<<"g">>, <<"h">>, <<"i">>], true}],
                 settings("listeners = ( { port = 3478; }, { port = 3479; tags = [\"x\", \"y\"]; },"
                          " ( 1 ) ); g : { h : { i = true; }; };")).

empty(_Config) ->
    ?assertEqual([], settings("")),
    ?assertEqual([], settings("# nothing")),
    ?assertEqual([{[<<"a">>, 0], empty_group}, {[<<"a">>, 1], empty_list}],
                 settings("a = ( {}, () );")).

places(_Config) ->
    {ok, Settings} = meerkat_conf_nif:read_string("a = 1;\n\nb = {\n  c = [ 1,\n 2 ];\n};"),
    ?assertEqual([1, 4, 5], [Line || {_, _, #{line := Line}} <- Settings]).

faults(_Config) ->
    [?assertEqual({error, {<<"string">>, Line, Reason}}, meerkat_conf_nif:read_string(Text))
     || {Text, Line, Reason} <- [{"a = 1;\nb = = 2", 2, syntax("b")},
                                 {"a = 1;\n\na = 1", 3, <<"duplicate setting name at \"a\"">>},
                                 {"a = 9223372036854775808", 1, <<"integer out of range">>},
                                 {"a = 1e999", 1, <<"number out of range">>},
                                 {"\n\"", 2, <<"string without end">>},
                                 {"a = 1;\n@include \"x\"", 2, <<"@include is for files">>},
                                 {<<"a = 1;", 0>>, 0, <<"holds a NUL byte">>},
                                 {lists:duplicate(1 bsl 20 + 1, $ ), 0,
                                  <<"more than 1048576 bytes">>}]].

%% What was read there, never a value, and what may be.
syntax(At) ->
    <<"syntax error at \"", (list_to_binary(At))/binary, "\", or before it: a setting is "
      "name = value; and a value is a number, true, false, a text in \"quotes\", a list ( , ) or "
      "a group { }">>.

%% iodata is text; anything else is a mistake of the caller.
text(_Config) ->
    ?assertEqual([{[<<"a">>], 1}], settings([<<"a">>, [" = " | "1"]])),
    [?assertError(badarg, meerkat_conf_nif:read_string(Text)) || Text <- [a, 1, [256], #{}]].

%% Every spelling of a file's name.
names(Config) ->
    Dir = proplists:get_value(dir, Config),
    Name = filename:join(Dir, "naïve.conf"),
    Bytes = unicode:characters_to_binary(Name, unicode, file:native_name_encoding()),
    ok = file:write_file(Bytes, "a = 1;"),
    [?assertEqual({ok, [{[<<"a">>], 1, #{file => Bytes, line => 1}}]},
                  meerkat_conf_nif:read(Spelling))
     || Spelling <- [Bytes, Name, [Dir, $/, ["naïve"], ".conf"], list_to_atom(Name)]],
    [?assertError(badarg, meerkat_conf_nif:read(Wrong))
     || Wrong <- [<<"a", 0>>, "a\0", binary:copy(<<"a">>, 1024)]].

include(Config) ->
    Main = write(Config, "main.conf", "a = 1;\n@include \"sub/b.conf\"\nc = 1;\n"),
    B = write(Config, "sub/b.conf", "\nb = 1;\n"),
    ?assertEqual({ok, [{[<<"a">>], 1, #{file => Main, line => 1}},
                       {[<<"b">>], 1, #{file => B, line => 2}},
                       {[<<"c">>], 1, #{file => Main, line => 3}}]},
                 meerkat_conf_nif:read(Main)),
    B = write(Config, "sub/b.conf", "\n\n\n= 1;\n"),
    ?assertEqual({error, {B, 4, syntax("=")}}, meerkat_conf_nif:read(Main)),
    ok = file:delete(B),
    {error, {Main, 2, Reason}} = meerkat_conf_nif:read(Main),
    ?assertNotEqual(nomatch, binary:match(Reason, B)).

include_directory(Config) ->
    Main = write(Config, "main.conf", "@include \"conf.d\""),
    [write(Config, ["conf.d/", Name], Text)
     || {Name, Text} <- [{"2.conf", "b = 1;"}, {"1.cfg", "a = 1;"}, {"3.txt", "{"}]],
    {ok, Settings} = meerkat_conf_nif:read(Main),
    ?assertEqual([<<"a">>, <<"b">>], [Name || {[Name], 1, _} <- Settings]).

%% What is no file of text does not take the node down.
no_file(Config) ->
    Dir = unicode:characters_to_binary(proplists:get_value(dir, Config)),
    None = filename:join(Dir, "none"),
    ?assertMatch({error, {None, 0, <<"No such file", _/binary>>}}, meerkat_conf_nif:read(None)),
    ?assertEqual({error, {Dir, 0, <<"not a regular file">>}}, meerkat_conf_nif:read(Dir)),
    Null = <<"/dev/null">>,
    ?assertEqual({error, {Null, 0, <<"not a regular file">>}}, meerkat_conf_nif:read(Null)),
    Main = write(Config, "main.conf", "@include \"/dev/null\""),
    ?assertEqual({error, {Null, 0, <<"not a regular file">>}}, meerkat_conf_nif:read(Main)).

%% Anything that is not a configuration is a fault with a place, never a crash.
random_text(_Config) ->
    Pieces = {"a", "b", " = ", ";", "{", "}", "(", ")", "[", "]", ",", "\"", "\\", "\n", "1", "-",
              "0x", ".", "e9", "L", "true", "#", "/*", "*/", "//", "@include \"", [0], [255], "*"},
    lists:foldl(
        fun(_, S0) ->
                {Length, S1} = rand:uniform_s(30, S0),
                {Text, S2} = lists:mapfoldl(
                    fun(_, S) ->
                            {N, Next} = rand:uniform_s(tuple_size(Pieces), S),
                            {element(N, Pieces), Next}
                    end, S1, lists:seq(1, Length)),
                case meerkat_conf_nif:read_string(Text) of
                    {ok, Settings} ->
                        [?assertMatch({[_ | _], _, #{line := Line}} when Line > 0, Setting)
                         || Setting <- Settings];
                    {error, {<<"string">>, Line, <<_, _/binary>>}} ->
                        ?assert(Line >= 0)
                end,
                S2
        end, rand:seed_s(exsss, {20, 2, 2}), lists:seq(1, 5000)).

%% A tree of settings written down reads as its leaves.
random_tree(_Config) ->
    lists:foldl(
        fun(_, S0) ->
                {Tree, S1} = random_group(4, S0),
                ?assertEqual(leaves(Tree, []), settings(members(Tree))),
                S1
        end, rand:seed_s(exsss, {20, 2, 3}), lists:seq(1, 300)).

%% A library and a module that disagree on their terms do not come together.
wrong_abi(Config) ->
    Dir = proplists:get_value(dir, Config),
    {Module, Beam, _} = code:get_object_code(meerkat_conf_nif),
    {ok, {Module, [{abstract_code, {raw_abstract_v1, Forms}}]}} =
        beam_lib:chunks(Beam, [abstract_code]),
    Library = filename:join(code:priv_dir(meerkat), "meerkat_conf_nif"),
    [?assertEqual({Abi, Expected}, {Abi, load_as(Abi, Forms, Library, Dir)})
     || {Abi, Expected} <- [{1, ok}, {2, refused}, {0, refused}, {one, refused}]].

%% Loads the module, its init/0 replaced by one that passes Abi, in a node of its own.
load_as(Abi, Forms, Library, Dir) ->
    Init = {function, 1, init, 0,
            [{clause, 1, [], [],
              [erl_parse:abstract([]),
               {call, 1, {remote, 1, {atom, 1, erlang}, {atom, 1, load_nif}},
                [erl_parse:abstract(Library), erl_parse:abstract(Abi)]}]}]},
    Changed = [case Form of
                   {function, _, init, 0, _} -> Init;
                   {function, Line, priv, 0, _} ->
                       {function, Line, priv, 0, [{clause, Line, [], [], [{atom, Line, none}]}]};
                   _ -> Form
               end || Form <- Forms],
    {ok, meerkat_conf_nif, Beam} = compile:forms(Changed, [nowarn_unused_function]),
    ok = file:write_file(filename:join(Dir, "meerkat_conf_nif.beam"), Beam),
    Eval = "case code:load_file(meerkat_conf_nif) of {module, _} -> halt(0); "
           "{error, on_load_failure} -> halt(3) end.",
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    Port = open_port({spawn_executable, Erl},
                     [{args, ["-noshell", "-pa", Dir, "-eval", Eval]}, exit_status, binary,
                      stderr_to_stdout, {cd, Dir}]),
    outcome(Port).

outcome(Port) ->
    receive
        {Port, {data, Data}} ->
            ct:log("~ts", [Data]),
            outcome(Port);
        {Port, {exit_status, 0}} -> ok;
        {Port, {exit_status, 3}} -> refused
    end.

%%% Random trees: {group, [{Name, Tree}]} | {list, [Tree]} | {value, Term, Text}

random_group(Depth, S0) ->
    {Size, S1} = rand:uniform_s(4, S0),
    {Members, S2} = lists:mapfoldl(
        fun(N, S) ->
                {Tree, Next} = random_tree(Depth - 1, S),
                {{<<"m", (integer_to_binary(N))/binary>>, Tree}, Next}
        end, S1, lists:seq(2, Size)),
    {{group, Members}, S2}.

random_tree(Depth, S0) ->
    case rand:uniform_s(3, S0) of
        {1, S1} when Depth > 0 ->
            random_group(Depth, S1);
        {2, S1} when Depth > 0 ->
            {Size, S2} = rand:uniform_s(4, S1),
            {Elements, S3} = lists:mapfoldl(fun(_, S) -> random_tree(Depth - 1, S) end, S2,
                                            lists:seq(2, Size)),
            {{list, Elements}, S3};
        {_, S1} ->
            random_leaf(S1)
    end.

random_leaf(S0) ->
    {Kind, S1} = rand:uniform_s(4, S0),
    {N, S2} = rand:uniform_s(1 bsl 64, S1),
    Integer = N - 1 - (1 bsl 63),
    {case Kind of
         1 -> {value, Integer, integer_to_list(Integer)};
         2 -> {value, Integer / 7, io_lib:format("~.20e", [Integer / 7])};
         3 -> {value, N rem 2 =:= 0, atom_to_list(N rem 2 =:= 0)};
         4 ->
             String = << <<(max(Byte, 1))>> || <<Byte>> <= <<N:64>> >>,
             {value, String, [$", [escape(Byte) || <<Byte>> <= String], $"]}
     end, S2}.

escape($") -> "\\\"";
escape($\\) -> "\\\\";
escape(Byte) -> [Byte].

members({group, Members}) ->
    [[Name, " = ", written(Tree), ";\n"] || {Name, Tree} <- Members].

written({group, _} = Group) -> ["{\n", members(Group), "}"];
written({list, Elements}) -> ["(", lists:join(",\n", [written(Tree) || Tree <- Elements]), ")"];
written({value, _, Text}) -> Text.

%% The root is not a setting, so nothing in it is no setting.
leaves({group, []}, []) -> [];
leaves({group, []}, Path) -> [{lists:reverse(Path), empty_group}];
leaves({group, Members}, Path) ->
    lists:append([leaves(Tree, [Name | Path]) || {Name, Tree} <- Members]);
leaves({list, []}, Path) -> [{lists:reverse(Path), empty_list}];
leaves({list, Elements}, Path) ->
    Indexed = lists:zip(lists:seq(0, length(Elements) - 1), Elements),
    lists:append([leaves(Tree, [Index | Path]) || {Index, Tree} <- Indexed]);
leaves({value, Value, _}, Path) -> [{lists:reverse(Path), Value}].

%%% Helpers

settings(Text) ->
    {ok, Settings} = meerkat_conf_nif:read_string(Text),
    [{Path, Value} || {Path, Value, _} <- Settings].

write(Config, Name, Text) ->
    File = filename:join(proplists:get_value(dir, Config), Name),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, Text),
    unicode:characters_to_binary(File).
