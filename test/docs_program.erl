%% What runs on the machine of a page (test/docs_page.sh): its Erlang, its Elixir, and a client that
%% holds an allocation while its commands run. Each of these is all that its node is there for.
-module(docs_program).

-export([hold/0, follow/1, elixir/1]).

-import(docs_kit, [blocks/1, place/2]).

%%% An allocation that is there while a page's commands run

%% Of the user whose credentials come as JSON on stdin: says so, and stays until it is killed.
-spec hold() -> no_return().
hold() ->
    {ok, #{<<"username">> := User, <<"password">> := Password, <<"uris">> := Uris}} =
        meerkat_json:decode(iolist_to_binary(io:get_line(""))),
    [Uri | _] = [U || <<"turn:", _/binary>> = U <- Uris],
    {ok, Client} = meerkat_client:start_link(#{server => Uri, username => User,
                                               password => Password}),
    {ok, _} = meerkat_client:allocate(Client),
    io:format("holding~n"),
    receive after infinity -> ok end.

%%% Programs

%% The Erlang of a page: modules are compiled, expressions run in order with the same variables. A
%% part is only parsed. Ends the node.
-spec follow(Page :: string()) -> no_return().
follow(Page) ->
    ok = io:setopts([{encoding, unicode}]),
    _ = lists:foldl(fun(Block, Bindings) -> followed(Block, Bindings) end, [],
                    [B || #{language := "erlang"} = B <- blocks(Page)]),
    halt(0).

followed(#{page := Page, line := Line} = Block, Bindings) ->
    try done(Block, Bindings)
    catch
        Class:Reason:Stack ->
            io:format("~ts: ~tp ~tp~n~tp~n", [place(Page, Line), Class, Reason, Stack]),
            halt(1)
    end.

done(#{words := ["part"], text := Text}, Bindings) ->
    Whole = string:trim(Text, trailing, ",.\n"),
    %% Pairs of a map are none by themselves.
    [_ | _] = [parsed || Tried <- [Whole ++ ".", "#{" ++ Whole ++ "}."],
                         {ok, Tokens, _} <- [erl_scan:string(Tried)],
                         {ok, _} <- [erl_parse:parse_exprs(Tokens)]],
    Bindings;
done(#{words := ["shell"], text := Text}, Bindings) ->
    Session = server_with_an_allocation(),
    expressions(lists:append(string:replace(Text, "1-37", Session, all)), Bindings);
done(#{text := "-module(" ++ Rest = Text}, Bindings) ->
    [Name, _] = string:split(Rest, ")"),
    File = filename:join("/mnt", Name ++ ".erl"),
    ok = file:write_file(File, unicode:characters_to_binary(Text)),
    {ok, Module, Beam, []} = compile:file(File, [binary, return]),
    {module, Module} = code:load_binary(Module, File, Beam),
    Bindings;
done(#{text := Text}, Bindings) ->
    expressions(Text, Bindings).

%% The server of an operator, with one of alice's.
server_with_an_allocation() ->
    {ok, _} = application:ensure_all_started(meerkat),
    {ok, Options} = meerkat:configuration(#{relay_ip => "203.0.113.5", secret => "hunter2"}),
    {ok, _} = meerkat:start_server(default, Options),
    #{username := User, password := Password, uris := Uris} =
        meerkat:credentials(default, <<"alice">>),
    [Uri | _] = [U || <<"turn:", _/binary>> = U <- Uris],
    {ok, Client} = meerkat_client:start_link(#{server => Uri, username => User,
                                               password => Password}),
    {ok, _} = meerkat_client:allocate(Client),
    {1, [#{session := Session}]} = meerkat_sessions:list(default, #{}),
    meerkat_text:session(Session).

expressions(Text, Bindings) ->
    lists:foldl(fun(Tokens, Now) ->
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        {value, _, New} = erl_eval:exprs(Expressions, Now),
        New
    end, Bindings, scanned(Text)).

scanned(Text) ->
    case erl_scan:tokens([], Text, 1) of
        {done, {ok, Tokens, _}, Rest} -> [Tokens | scanned(Rest)];
        {done, {eof, _}, _} -> [];
        {more, _} -> []
    end.

%% Prints the Elixir of a page as one program, which says "to the end" when it has come there. Ends
%% the node.
-spec elixir(Page :: string()) -> no_return().
elixir(Page) ->
    ok = io:setopts([{encoding, unicode}]),
    Blocks = [B || #{language := "elixir"} = B <- blocks(Page)],
    ok = io:put_chars([
        [["Code.string_to_quoted!(~S\"\"\"\n", Text, "\"\"\")\n"]
         || #{words := ["part"], text := Text} <- Blocks],
        "{:ok, _} = Application.ensure_all_started(:meerkat)\n",
        [Text || #{words := [], text := Text} <- Blocks],
        "IO.puts(\"to the end\")\n"]),
    halt(0).
