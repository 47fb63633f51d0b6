%% The package for hex: what is in it, and that applications compile and run from it and from
%% nothing else of this checkout.
-module(package_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([tarball_is_laid_out_as_hex_has_it/1, nothing_built_is_in_it/1,
         rebar3_application_uses_it/1, mix_application_uses_it/1,
         a_version_is_tagged_with_its_changes/1, libraries_come_with_what_is_installed/1]).

-import(turn_kit, [doc/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() ->
    [tarball_is_laid_out_as_hex_has_it, nothing_built_is_in_it, rebar3_application_uses_it,
     mix_application_uses_it, a_version_is_tagged_with_its_changes,
     libraries_come_with_what_is_installed].

init_per_suite(Config) ->
    Root = filename:absname(filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."])),
    Text = embed_kit:run(filename:join(Root, ".ci/package"), [], Root, []),
    File = string:trim(unicode:characters_to_list(lists:last(string:lexemes(Text, "\n")))),
    {ok, Parts} = erl_tar:extract(File, [memory]),
    [{root, Root}, {parts, maps:from_list(Parts)} | Config].

end_per_suite(_Config) ->
    ok.

%% The contents under a name of their own below the case's directory.
unpacked(Config, Name) ->
    #{"contents.tar.gz" := Contents} = proplists:get_value(parts, Config),
    Dir = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = filelib:ensure_dir(filename:join(Dir, "any")),
    ok = erl_tar:extract({binary, Contents}, [compressed, {cwd, Dir}]),
    Dir.

tarball_is_laid_out_as_hex_has_it(Config) ->
    doc("VERSION, CHECKSUM over the other parts, metadata.config and contents.tar.gz"),
    #{"VERSION" := <<"3">> = Version, "CHECKSUM" := Checksum, "metadata.config" := Metadata,
      "contents.tar.gz" := Contents} = Parts = proplists:get_value(parts, Config),
    ?assertEqual(4, map_size(Parts)),
    ?assertEqual(Checksum, binary:encode_hex(crypto:hash(sha256, [Version, Metadata, Contents]))),
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Metadata)),
    Terms = maps:from_list(terms(Tokens)),
    {ok, [{application, meerkat, Keys}]} =
        file:consult(filename:join(code:lib_dir(meerkat), "ebin/meerkat.app")),
    ?assertMatch(#{<<"name">> := <<"meerkat">>, <<"build_tools">> := [<<"rebar3">>]}, Terms),
    ?assertEqual(proplists:get_value(vsn, Keys), binary_to_list(maps:get(<<"version">>, Terms))),
    {ok, Files} = erl_tar:table({binary, Contents}, [compressed]),
    ?assertEqual(lists:sort(Files),
                 lists:sort([unicode:characters_to_list(F) || F <- maps:get(<<"files">>, Terms)])).

terms([]) -> [];
terms(Tokens) ->
    {Term, [Dot | Rest]} = lists:splitwith(fun(Token) -> element(1, Token) =/= dot end, Tokens),
    {ok, Value} = erl_parse:parse_term(Term ++ [Dot]),
    [Value | terms(Rest)].

nothing_built_is_in_it(Config) ->
    doc("text and pages alone: no program, library, object, beam or archive"),
    Dir = unpacked(Config, "looked_at"),
    Files = filelib:wildcard("**", Dir) ++ filelib:wildcard("{.ci,priv}/.*", Dir)
        ++ filelib:wildcard(".ci/*", Dir),
    Texts = [File || File <- Files, filelib:is_regular(filename:join(Dir, File))],
    ?assert(lists:member("rebar.config", Texts)),
    [begin
         {ok, Text} = file:read_file(filename:join(Dir, File)),
         ?assertEqual({File, nomatch}, {File, binary:match(Text, <<0>>)}),
         ?assert(is_binary(unicode:characters_to_binary(Text)), File)
     end || File <- Texts],
    ?assertEqual([".gitkeep", "www"], lists:sort(element(2, file:list_dir(
                                                              filename:join(Dir, "priv"))))).

rebar3_application_uses_it(Config) ->
    doc("an application of rebar3's compiles with it and relays a packet through its server"),
    App = copied(Config, "embed_rebar3"),
    Meerkat = unpacked(Config, "embed_rebar3/_checkouts/meerkat"),
    _ = embed_kit:run("rebar3", ["compile"], App, clean()),
    Paths = filelib:wildcard(filename:join(App, "_build/default/{lib,checkouts}/*/ebin")),
    Text = embed_kit:run("erl", ["-noshell", "-pa" | Paths]
                             ++ ["-eval", "embed_rebar3:relay_a_packet(), halt()."], App, clean()),
    ?assertMatch({match, _}, re:run(Text, "relayed: through the relay\n")),
    ?assert(filelib:is_regular(filename:join(Meerkat, "priv/meerkat_relay"))).

mix_application_uses_it(Config) ->
    doc("an application of Mix's compiles with it and relays a packet through its server"),
    App = copied(Config, "embed_mix"),
    Meerkat = unpacked(Config, "meerkat_for_mix"),
    Text = embed_kit:mix(App, Meerkat, proplists:get_value(priv_dir, Config)),
    ?assertMatch({match, _}, re:run(Text, "relayed: through the relay\n")),
    ?assertMatch({match, _}, re:run(Text, "documented: A server in a supervision tree")).

%% What a rebar3 that started this one left to it.
clean() ->
    [{Name, false} || Variable <- os:getenv(), [Name, _] <- [string:split(Variable, "=")],
                      lists:prefix("REBAR", Name) orelse lists:prefix("ERL_LIBS", Name)].

%% One of test/, without what is built there.
copied(Config, Name) ->
    From = filename:join([proplists:get_value(root, Config), "test", Name]),
    To = filename:join(proplists:get_value(priv_dir, Config), Name),
    [begin
         Copy = filename:join(To, File),
         ok = filelib:ensure_dir(Copy),
         {ok, _} = file:copy(filename:join(From, File), Copy)
     end || File <- filelib:wildcard("**/*.{erl,ex,exs,src,config}", From),
            not lists:prefix("_build", File), not lists:prefix("deps", File)],
    To.

a_version_is_tagged_with_its_changes(Config) ->
    doc("make tag: by the version that all places name, with the part of CHANGELOG.md that is its; "
        "else it says what is amiss"),
    Dir = filename:join(proplists:get_value(priv_dir, Config), "tagged"),
    ok = lists:foreach(fun(File) ->
        Copy = filename:join(Dir, File),
        ok = filelib:ensure_dir(Copy),
        From = filename:join(proplists:get_value(root, Config), File),
        {ok, _} = file:copy(From, Copy),
        {ok, Info} = file:read_file_info(From),
        ok = file:write_file_info(Copy, Info)
    end, [".ci/tag", "Dockerfile", "debian/changelog", "src/meerkat.app.src"]),
    {ok, [{application, meerkat, Keys}]} =
        file:consult(filename:join(Dir, "src/meerkat.app.src")),
    Version = proplists:get_value(vsn, Keys),
    Changes = fun(Heading) ->
        Text = ["# Changelog\n\n## [Unreleased]\n\n- of tomorrow\n\n", Heading,
                "\n\n### Added\n\n- of today\n\n## [0.0.1] - 2026-01-01\n\n- old\n"],
        ok = file:write_file(filename:join(Dir, "CHANGELOG.md"), Text)
    end,
    Heading = "## [" ++ Version ++ "]",
    {0, _} = said(Dir, "git", ["init", "-q"]),
    Changes(Heading),
    ?assertEqual(refused(["CHANGELOG.md has no heading \"", Heading, " - YEAR-MONTH-DAY\""]),
                 tag(Dir)),
    Changes(Heading ++ " - 2026-12-01"),
    ?assertEqual(refused("what is here is not all committed"), tag(Dir)),
    {0, _} = said(Dir, "git", ["add", "-A"]),
    {0, _} = said(Dir, "git", ["commit", "-q", "-m", "all"]),
    Tag = list_to_binary("v" ++ Version),
    ?assertEqual({0, <<Tag/binary, "\n">>}, tag(Dir)),
    {0, Told} = said(Dir, "git", ["tag", "-l", "--format=%(contents)", Tag]),
    ?assertEqual(iolist_to_binary(["Meerkat ", Version, "\n\n\n### Added\n\n- of today"]),
                 string:trim(Told)),
    ?assertEqual(refused([Tag, " is there already"]), tag(Dir)),
    ok = file:write_file(filename:join(Dir, "debian/changelog"), "meerkat (9.9.9) unstable\n"),
    ?assertEqual(refused(["the first line of debian/changelog is not of ", Version]), tag(Dir)).

tag(Dir) -> said(Dir, filename:join(Dir, ".ci/tag"), []).

refused(Why) -> {1, iolist_to_binary(["not tagged: ", Why, "\n"])}.

said(Dir, Program, Args) ->
    Who = [{"GIT_" ++ Whose ++ "_" ++ What, Value}
           || Whose <- ["AUTHOR", "COMMITTER"],
              {What, Value} <- [{"NAME", "a"}, {"EMAIL", "a@example.org"}]],
    try {0, embed_kit:run(Program, Args, Dir, Who)}
    catch error:{_, _, Status, Text} -> {Status, Text}
    end.

libraries_come_with_what_is_installed(Config) ->
    doc("Debian's packages of the libraries that some keys need: our package names each beside it, "
        "and the image is built with it"),
    Read = fun(File) ->
        {ok, Text} = file:read_file(filename:join(proplists:get_value(root, Config), File)),
        Text
    end,
    Packages = packages(Read("src/base/meerkat_libraries.erl"), "\"(erlang-[a-z0-9-]+)\""),
    ?assert(length(Packages) >= 6),
    [_, Ours] = binary:split(Read("debian/control"), <<"\nPackage:">>),
    ?assertEqual([], Packages -- packages(Ours, "(erlang-[a-z0-9-]+)")),
    ?assertEqual([], Packages -- packages(Read("Dockerfile"), "(erlang-[a-z0-9-]+)")).

packages(Text, Pattern) ->
    {match, Found} = re:run(Text, Pattern, [global, {capture, [1], binary}]),
    lists:usort(lists:append(Found)).
