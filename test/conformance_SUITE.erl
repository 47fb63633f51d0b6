%% docs/conformance.md and what makes it (test/conformance.escript): the page is the one that rows
%% and tests come to today, and a row nobody shows is not passed over.
-module(conformance_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([fresh/1, every_row_has_a_test_or_a_reason/1, lost_references_are_named/1,
         rows_of_a_name/1]).

-spec all() -> [atom()].
all() -> [fresh, every_row_has_a_test_or_a_reason, lost_references_are_named, rows_of_a_name].

-spec init_per_suite([{atom(), term()}]) -> [{atom(), term()}].
init_per_suite(Config) -> [{root, root(proplists:get_value(data_dir, Config))} | Config].

-spec end_per_suite([{atom(), term()}]) -> ok.
end_per_suite(_Config) -> ok.

root("/") -> error(no_source_tree);
root(Dir) ->
    case filelib:is_regular(filename:join(Dir, "c_src/ctl/ctl.def")) of
        true -> Dir;
        false -> root(filename:dirname(Dir))
    end.

%% If this fails: make gen.
fresh(Config) ->
    Root = proplists:get_value(root, Config),
    {ok, Page} = file:read_file(filename:join(Root, "docs/conformance.md")),
    {0, Made} = made(Config, Root),
    Lines = fun(Text) -> binary:split(Text, <<"\n">>, [global]) end,
    ?assertEqual({[], []}, {Lines(Made) -- Lines(Page), Lines(Page) -- Lines(Made)}).

every_row_has_a_test_or_a_reason(Config) ->
    Rows = "= Some document\nS1 | 5 | shown\nS2 | 5 | not shown\nS3 | 5 | later | stream:\n",
    ?assertEqual({1, <<"S2 has neither a test nor a reason\n">>},
                 made(Config, checkout(Config, Rows))),
    {0, Page} = made(Config, checkout(Config, string:replace(Rows, "not shown",
                                                             "not shown | not met: too hard"))),
    [?assertNotEqual(nomatch, binary:match(Page, Part))
     || Part <- [<<"1 rows are tested, 1 are not met, 1 wait for TCP and TLS.\n">>,
                 <<"| S1 | 5 | shown | tested | a.c: `s1_in_c`; a_SUITE: `s01_once`, ">>,
                 <<"| S2 | 5 | not shown | not met: too hard |  |">>]].

lost_references_are_named(Config) ->
    Said = fun(More) ->
        made(Config, checkout(Config, "= T\nS1 | 5 | shown\nS2 | 5 | x | " ++ More ++ "\n"))
    end,
    [?assertMatch({0, _}, Said("as: " ++ There))
     || There <- ["S1", "a_SUITE:s1_s9_twice", "a.c:s1_in_c", "a_SUITE:other, S1"]],
    [?assertMatch({1, _}, Said("as: " ++ Nowhere))
     || Nowhere <- ["S3", "a_SUITE:helper", "b_SUITE:other", "S1 S4"]],
    ?assertMatch({1, _}, made(Config, checkout(Config, "= T\nS1 | 5 | shown | not met: no\n"))).

rows_of_a_name(Config) ->
    {0, Page} = made(Config, checkout(Config, "= T\nS1 | 5 | a\nS9 | 5 | b\n")),
    [?assertNotEqual(nomatch, binary:match(Page, Row))
     || Row <- [<<"| a | tested | a.c: `s1_in_c`; a_SUITE: `s01_once`, `s1_s9_twice` |">>,
                <<"| b | tested | a_SUITE: `s1_s9_twice` |">>]].

%% A checkout with these rows, one suite and one C program.
checkout(Config, Rows) ->
    Root = filename:join(proplists:get_value(priv_dir, Config),
                         integer_to_list(erlang:unique_integer([positive]))),
    [begin
         ok = filelib:ensure_dir(filename:join(Root, File)),
         ok = file:write_file(filename:join(Root, File), Text)
     end || {File, Text} <- [
         {"test/data/rows.txt", Rows},
         {"test/a_SUITE.erl", "-module(a_SUITE).\n-export([s01_once/1, s1_s9_twice/1]).\n"
                              "-export([other/1, s9_of_two/2]).\nhelper(_) -> ok.\n"},
         {"test/c/unit/a.c", "static void s1_not_run(void);\n    RUN(s1_in_c);\n"}]],
    Root.

%% Exit status and output.
made(Config, Root) ->
    Script = filename:join(proplists:get_value(root, Config), "test/conformance.escript"),
    Escript = filename:join([code:root_dir(), "bin", "escript"]),
    Port = open_port({spawn_executable, Escript},
                     [{args, [Script, Root]}, binary, exit_status, stderr_to_stdout]),
    collect(Port, <<>>).

collect(Port, Output) ->
    receive
        {Port, {data, Data}} -> collect(Port, <<Output/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Output}
    end.
