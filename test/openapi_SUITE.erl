%% priv/www/openapi.json describes what is served by HTTP: real answers of every path and every code
%% are held against it, members that it does not have included, and it has every path there is.
-module(openapi_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([every_answer_is_as_described/1, every_path_is_described/1,
         what_is_not_described_is_told/1]).

-import(turn_kit, [doc/1, with_server/2, allocated/1]).

-define(TOKEN, "let me in, please").

suite() -> [{timetrap, {seconds, 60}}].

all() -> [every_answer_is_as_described, every_path_is_described, what_is_not_described_is_told].

every_answer_is_as_described(Config) ->
    doc("each code that is described comes, and its body fits"),
    Description = description(),
    Dir = proplists:get_value(priv_dir, Config),
    Certificate = stream_kit:certificate(Dir, ec, "turn.example.org"),
    Served = (stream_kit:config([Certificate]))#{http_token => list_to_binary(?TOKEN),
                                                 accounting_file => <<"/dev/full">>,
                                                 accounting_spool =>
                                                     list_to_binary([Dir, "accounting"])},
    with_server(http(Served), fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        %% Media and a drop: members that are only there then.
        #{address := Peer} = turn_kit:peer(),
        _ = turn_kit:success(turn_kit:bind(Client, 16#4000, Peer)),
        ok = turn_kit:channel(Client, 16#4000, <<"media">>),
        ok = turn_kit:channel(Client, 16#4001, <<"to nobody">>),
        ok = turn_kit:fence(Client),
        Seen = [fits(Description, Server, Path, Query, Headers)
                || {Path, Query, Headers} <-
                       [{"/credentials", "?username=alice&ttl=60", token(?TOKEN)},
                        {"/credentials", "?ttl=soon", token(?TOKEN)},
                        {"/credentials", "?realm=nowhere", token(?TOKEN)},
                        {"/credentials", "", []},
                        {"/credentials", "", token("another")},
                        {"/call.json", "", token(?TOKEN)}, {"/call.json", "", []},
                        {"/call.json", "?id=9-9", token(?TOKEN)},
                        {"/openapi.json", "", []}, {"/metrics", "", []},
                        {"/health", "", []}, {"/ready", "", []}, {"/status.json", "", []}]],
        {_, 200} = fits(Description, Server, "/call.json", "?id=" ++ one_of(Server), token(?TOKEN)),
        {_, 429} = limited(Description, Server),
        {_, 429} = fits(Description, Server, "/call.json", "", token("another")),
        ok = meerkat:drain(Name),
        Draining = [fits(Description, Server, Path, "", []) || Path <- ["/ready", "/status.json"]],
        ?assertEqual([{"/call.json", 429}, {"/credentials", 404}, {"/credentials", 429},
                      {"/health", 503}],
                     described(Description) -- (Seen ++ Draining))
    end),
    with_server(http(#{fleet => [<<"app@10.0.0.9">>], fleet_region => <<"eu">>}), fun(Server) ->
        turn_kit:eventually(fun() ->
            {200, Json} = status(Server),
            _ = fits(Description, Server, "/status.json", "", []),
            [{Node, State} || #{<<"node">> := Node, <<"state">> := State}
                                  <- maps:get(<<"fleet">>, Json)]
                =:= [{atom_to_binary(node()), <<"ready">>}, {<<"app@10.0.0.9">>, <<"missing">>}]
        end)
    end),
    with_server(http(#{}), fun(Server) ->
        {200, #{<<"fleet">> := null}} = status(Server),
        {_, 404} = fits(Description, Server, "/credentials", "", []),
        ok = turn_kit:kill_relay(Server),
        _ = fits(Description, Server, "/status.json", "", []),
        _ = fits(Description, Server, "/health", "", [])
    end).

one_of(#{name := Name}) ->
    [#{session := Session}] = meerkat:allocations(Name),
    meerkat_text:session(Session).

%% Guesses until nobody listens any more.
limited(Description, Server) ->
    case fits(Description, Server, "/credentials", "", token("another")) of
        {_, 401} -> limited(Description, Server);
        Limited -> Limited
    end.

every_path_is_described(_) ->
    doc("what the server has that is no page for people"),
    {ok, Source} = file:read_file(filename:join([docs_kit:root(), "src", "http",
                                                 "meerkat_http_api.erl"])),
    {match, Routes} = re:run(Source, "^route\\(<<\"([^\"]+)\">>\\) -> (.*);$",
                             [global, multiline, {capture, all_but_first, list}]),
    Paths = [Path || [Path, To] <- Routes,
                     re:run(To, "\"(text/html|text/javascript|text/css)") =:= nomatch],
    ?assertEqual(lists:sort(Paths),
                 lists:sort([unicode:characters_to_list(Path)
                             || Path <- maps:keys(maps:get(<<"paths">>, description()))])),
    {ok, Version} = application:get_key(meerkat, vsn),
    ?assertEqual(list_to_binary(Version),
                 maps:get(<<"version">>, maps:get(<<"info">>, description()))).

%% The judge itself.
what_is_not_described_is_told(_) ->
    Schema = #{<<"type">> => <<"object">>, <<"required">> => [<<"a">>],
               <<"additionalProperties">> => false,
               <<"properties">> => #{<<"a">> => #{<<"type">> => <<"integer">>},
                                     <<"b">> => #{<<"type">> => [<<"string">>, <<"null">>],
                                                  <<"enum">> => [<<"x">>, null]}}},
    Wrong = fun(Value) -> length(wrong(Schema, Value, "", #{})) end,
    ?assertEqual([0, 0, 0, 1, 1, 1, 1, 1],
                 [Wrong(Value) || Value <- [#{<<"a">> => 1}, #{<<"a">> => 1, <<"b">> => null},
                                            #{<<"a">> => 1, <<"b">> => <<"x">>},
                                            #{}, #{<<"a">> => 1, <<"c">> => 2},
                                            #{<<"a">> => <<"1">>}, [],
                                            #{<<"a">> => 1, <<"b">> => <<"y">>}]]).

http(More) -> More#{http_listen => {{127, 0, 0, 1}, 0}}.

token(Token) -> [{"Authorization", "Bearer " ++ Token}].

description() ->
    {ok, Text} = file:read_file(filename:join([code:priv_dir(meerkat), "www", "openapi.json"])),
    {ok, Description} = meerkat_json:decode(Text),
    Description.

described(#{<<"paths">> := Paths}) ->
    lists:sort([{unicode:characters_to_list(Path), binary_to_integer(Code)}
                || {Path, #{<<"get">> := #{<<"responses">> := Responses}}} <- maps:to_list(Paths),
                   Code <- maps:keys(Responses)]).

%% Which answer of which path it was.
fits(#{<<"paths">> := Paths} = Description, Server, Path, Query, Headers) ->
    #{code := Code, body := Body, headers := #{<<"content-type">> := Type}} =
        http_kit:get(Server, Path ++ Query, Headers),
    #{<<"get">> := #{<<"responses">> := Responses}} = maps:get(list_to_binary(Path), Paths),
    #{<<"content">> := Content} = maps:get(integer_to_binary(Code), Responses),
    [Media] = [M || M <- maps:keys(Content), string:prefix(Type, M) =/= nomatch],
    #{Media := #{<<"schema">> := Schema}} = Content,
    Value = case Media of
        <<"application/json">> -> element(2, {ok, _} = meerkat_json:decode(Body));
        _ -> Body
    end,
    ?assertEqual({Path, Code, []}, {Path, Code, wrong(Schema, Value, Path, Description)}),
    {Path, Code}.

status(Server) ->
    #{code := Code, body := Body} = http_kit:get(Server, "/status.json", []),
    {ok, Json} = meerkat_json:decode(Body),
    {Code, Json}.

%%% The part of JSON Schema that the description uses

wrong(#{<<"$ref">> := <<"#/components/schemas/", Name/binary>>}, Value, Where, Description) ->
    #{<<"components">> := #{<<"schemas">> := #{Name := Schema}}} = Description,
    wrong(Schema, Value, Where, Description);
wrong(#{<<"type">> := Types} = Schema, Value, Where, Description) ->
    Kinds = case Types of [_ | _] -> Types; _ -> [Types] end,
    case lists:member(kind(Value), Kinds) of
        false -> [{Where, Value, no, Kinds}];
        true -> not_in(Schema, Value, Where) ++ inside(Schema, Value, Where, Description)
    end.

kind(null) -> <<"null">>;
kind(Value) when is_boolean(Value) -> <<"boolean">>;
kind(Value) when is_integer(Value) -> <<"integer">>;
kind(Value) when is_binary(Value) -> <<"string">>;
kind(Value) when is_list(Value) -> <<"array">>;
kind(Value) when is_map(Value) -> <<"object">>.

not_in(#{<<"enum">> := Values}, Value, Where) ->
    [{Where, Value, is_none_of, Values} || not lists:member(Value, Values)];
not_in(_, _, _) ->
    [].

inside(#{<<"items">> := Schema}, Values, Where, Description) when is_list(Values) ->
    lists:append([wrong(Schema, Value, Where ++ "[]", Description) || Value <- Values]);
inside(Schema, Value, Where, Description) when is_map(Value) ->
    Properties = maps:get(<<"properties">>, Schema, #{}),
    Missing = maps:get(<<"required">>, Schema, []) -- maps:keys(Value),
    [{Where, lacks, Name} || Name <- Missing]
        ++ lists:append([member(Name, maps:get(Name, Properties, none), V, Where, Schema,
                                Description) || {Name, V} <- maps:to_list(Value)]);
inside(_, _, _, _) ->
    [].

member(Name, none, Value, Where, Schema, Description) ->
    case maps:get(<<"additionalProperties">>, Schema, true) of
        false -> [{Where, has, Name, Value}];
        true -> [];
        Other -> wrong(Other, Value, Where ++ "." ++ binary_to_list(Name), Description)
    end;
member(Name, Schema, Value, Where, _, Description) ->
    wrong(Schema, Value, Where ++ "." ++ binary_to_list(Name), Description).
