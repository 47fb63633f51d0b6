#!/usr/bin/env escript
%% Writes the reference of modules by edoc, as documentation chunks (EEP 48): APP/doc/chunks, and in
%% APP/ebin. Comments of the house carry no markup; here they get edoc's, in copies: what precedes a
%% module, a specification, a callback or a type.
-mode(compile).

main([App | Modules]) ->
    Root = filename:dirname(filename:dirname(filename:absname(escript:script_name()))),
    Doc = filename:join(App, "doc"),
    Copies = filename:join(Doc, "copies"),
    [ok = filelib:ensure_dir(filename:join(Dir, "any"))
     || Dir <- [Copies, filename:join(Doc, "chunks")]],
    Files = [copy(source(Root, Name), Copies) || Name <- Modules],
    ok = edoc:files(Files, [{doclet, edoc_doclet_chunks}, {layout, edoc_layout_chunks}, {dir, Doc},
                            {preprocess, true}]),
    ok = file:del_dir_r(Copies),
    [ok = embed(Name, App) || Name <- Modules],
    ok.

source(Root, Name) ->
    [File] = filelib:wildcard(filename:join([Root, "src", "*", Name ++ ".erl"])),
    File.

%% The chunk is written after the module that has it: as long as it is newer it is not made again.
embed(Name, App) ->
    Chunk = filename:join([App, "doc", "chunks", Name ++ ".chunk"]),
    Beam = filename:join([App, "ebin", Name ++ ".beam"]),
    {ok, Written} = file:read_file(Chunk),
    Docs = of_others(Written, Beam),
    {ok, _, Chunks} = beam_lib:all_chunks(Beam),
    {ok, Module} = beam_lib:build_module(lists:keystore("Docs", 1, Chunks, {"Docs", Docs})),
    ok = file:write_file(Beam ++ ".new", Module),
    ok = file:rename(Beam ++ ".new", Beam),
    ok = file:write_file(Chunk, Docs),
    io:format("~ts~n", [Chunk]).

%% What is not exported is nobody's to call.
of_others(Written, Beam) ->
    {ok, {_, [{exports, Exports}]}} = beam_lib:chunks(Beam, [exports]),
    Docs = binary_to_term(Written),
    Kept = [Entry || {{Kind, Name, Arity}, _, _, _, _} = Entry <- element(7, Docs),
                     Kind =/= function orelse lists:member({Name, Arity}, Exports)],
    term_to_binary(setelement(7, Docs, Kept), [compressed]).

copy(File, Copies) ->
    {ok, Text} = file:read_file(File),
    Lines = string:split(unicode:characters_to_list(Text), "\n", all),
    Copy = filename:join(Copies, filename:basename(File)),
    ok = file:write_file(Copy, unicode:characters_to_binary(
                                   ["%% -*- coding: utf-8 -*-\n", lists:join("\n", blocks(Lines))])),
    Copy.

%% A block of comment lines and the line after it.
blocks(["%%" ++ _ | _] = Lines) ->
    {Block, Rest} = lists:splitwith(fun is_comment/1, Lines),
    marked(Block, Rest) ++ blocks(Rest);
blocks([Line | Lines]) ->
    [Line | blocks(Lines)];
blocks([]) ->
    [].

is_comment("%%%" ++ _) -> false;
is_comment("%%" ++ _) -> true;
is_comment(_) -> false.

%% edoc wants a type's words behind the type; they stay where a reader of the source finds them.
marked(Block, ["-module" ++ _ | _]) -> document(Block);
marked(Block, ["-spec" ++ _ | _]) -> document(Block);
marked(Block, _) -> Block.

document(Block) ->
    [First | Rest] = paragraphs([Line || "%%" ++ Line <- Block]),
    ["%% @doc" ++ First | ["%%" ++ Line || Line <- Rest]].

%% What is indented keeps its shape; the rest flows.
paragraphs(["   " ++ _ | _] = Lines) ->
    {Shaped, Rest} = lists:splitwith(fun(Line) -> lists:prefix("   ", Line) end, Lines),
    ["<pre>" | [escape(Line) || Line <- Shaped]] ++ ["</pre>" | paragraphs(Rest)];
paragraphs([Line | Lines]) ->
    [escape(Line) | paragraphs(Lines)];
paragraphs([]) ->
    [].

escape(Line) ->
    lists:append([escape_char(C) || C <- Line]).

escape_char($<) -> "&lt;";
escape_char($>) -> "&gt;";
escape_char($&) -> "&amp;";
escape_char($`) -> "&#96;";
escape_char($') -> "&#39;";
escape_char($[) -> "&#91;";
escape_char($]) -> "&#93;";
escape_char($@) -> "@@";
escape_char(C) -> [C].
