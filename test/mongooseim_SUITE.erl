%% docs/mongooseim.md, word for word: what it tells to paste is pasted, into servers that run for
%% real where there are any, and a client that is told of Meerkat by them allocates. Only address
%% and port become those of the test.
-module(mongooseim_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([page_for_mongooseim/1, page_for_mongooseim_component/1, page_for_ejabberd/1,
         page_for_prosody/1, page_tells_what_the_log_says/1]).

-import(turn_kit, [doc/1]).

-define(REALM, <<"example.com">>).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [page_for_mongooseim, page_for_mongooseim_component, page_for_ejabberd, page_for_prosody,
     page_tells_what_the_log_says].

%%% The page

page_for_mongooseim(Config) ->
    doc("the TOML, by MongooseIM's rules for its keys; its services and secret, minted from as "
        "MongooseIM does"),
    with_meerkat(Config, fun(#{port := Port} = Server) ->
        #{<<"modules">> := #{<<"mod_extdisco">> := #{<<"service">> := Services}}} =
            toml(Config, pasted("[modules.mod_extdisco]", Server)),
        [?assertMatch({Type, {127, 0, 0, 1}, Port, {ok, _}}, served(Service))
         || #{<<"type">> := Type} = Service <- Services],
        ?assertEqual([<<"stun">>, <<"turn">>], [Type || #{<<"type">> := Type} <- Services])
    end).

%% Keys and values as mod_extdisco takes them, and what a client then does with the service.
served(#{<<"type">> := Type, <<"host">> := Host, <<"port">> := Port, <<"transport">> := <<"udp">>}
       = Service) ->
    Known = [<<"type">>, <<"host">>, <<"port">>, <<"transport">>, <<"secret">>],
    ?assertEqual([], maps:keys(Service) -- Known),
    {ok, Ip} = inet:parse_address(binary_to_list(Host)),
    {Type, Ip, Port, served(Type, {Ip, Port}, Service)}.

served(<<"stun">>, Address, Service) ->
    ?assertNot(is_map_key(<<"secret">>, Service)),
    {ok, Client} = meerkat_client:start_link(#{server => Address}),
    meerkat_client:binding(Client);
served(<<"turn">>, Address, #{<<"secret">> := Secret}) ->
    User = <<(integer_to_binary(erlang:system_time(second) + 3600))/binary, ":alice@example.com">>,
    allocated(Address, User, base64:encode(crypto:mac(hmac, sha, Secret, User))).

page_for_mongooseim_component(Config) ->
    doc("the listener for components has the keys that MongooseIM asks for, and none it has not"),
    #{<<"listen">> := #{<<"component">> := [Listener]}} =
        toml(Config, snippet("[[listen.component]]")),
    ?assertEqual([], maps:keys(Listener)
                     -- [<<"port">>, <<"ip_address">>, <<"password">>, <<"access">>, <<"shaper">>,
                         <<"conflict_behaviour">>]),
    ?assertMatch(#{<<"port">> := Port, <<"password">> := <<_, _/binary>>,
                   <<"ip_address">> := <<"127.0.0.1">>, <<"access">> := <<"local">>,
                   <<"conflict_behaviour">> := <<"kick_old">>} when is_integer(Port), Listener).

page_for_ejabberd(Config) ->
    user_allocates(ejabberd, "mod_stun_disco:", Config).

page_for_prosody(Config) ->
    user_allocates(prosody, "turn_external", Config).

user_allocates(Kind, Known, Config) ->
    with_meerkat(Config, fun(#{port := Port} = Server) ->
        Xmpp = xmpp_servers:start(Kind, #{domain => ?REALM, extra => pasted(Known, Server)}),
        try
            Client = xmpp_client_kit:login(Xmpp, <<"alice">>),
            [Stun, Turn] = lists:sort(fun(A, B) -> type(A) =< type(B) end,
                                      xmpp_client_kit:services(Client)),
            Bytes = integer_to_binary(Port),
            [?assertMatch(#{<<"host">> := <<"127.0.0.1">>, <<"port">> := Bytes}, Service)
             || Service <- [Stun, Turn]],
            #{<<"username">> := User, <<"password">> := Password} = Turn,
            ?assertMatch({ok, _}, allocated({{127, 0, 0, 1}, Port}, User, Password)),
            ok = xmpp_client_kit:close(Client)
        after
            xmpp_servers:kill(Xmpp)
        end
    end).

type(#{<<"type">> := Type}) -> Type.

%% N stands for a number, ... for what a stranger wrote.
page_tells_what_the_log_says(_) ->
    doc("each cause that the page explains is one that is logged, and each of those that concern "
        "shared secrets is explained"),
    Now = erlang:system_time(second),
    Name = fun(At) -> <<(integer_to_binary(At))/binary, ":alice">> end,
    Told = [Pattern || Line <- lines(page()),
                       {match, [Pattern]} <- [re:run(Line, "^\\| `([^`]+)` \\|",
                                                     [unicode, {capture, all_but_first, list}])]],
    Logged = [why(User, Secrets, false)
              || {User, Secrets} <- [{Name(Now - 9), [<<"s">>]}, {Name(Now + 9), [<<"s">>]},
                                     {Name(Now + 9), [<<"s">>, <<"t">>]}, {<<"alice">>, [<<"s">>]},
                                     {<<"alice">>, []}]]
        ++ [why(<<"alice">>, [<<"s">>], true)],
    ?assertEqual(length(Logged), length(Told)),
    [?assertMatch({_, _, {match, _}}, {Pattern, Line, re:run(Line, regex(Pattern))})
     || {Pattern, Line} <- lists:zip(Told, Logged)].

why(User, Secrets, AsPassword) ->
    Auth = meerkat_auth:new(#{secrets => Secrets, secret_as_password => AsPassword,
                              users => #{<<"bob">> => {password, <<"b">>}}}),
    Message = #{class => request, method => allocate, transaction_id => <<1:96>>,
                attributes => [{username, User}, {realm, ?REALM}],
                integrity => {sha1, meerkat_stun:key(User, ?REALM, <<"wrong">>)}},
    {ok, Decoded} = meerkat_stun:decode(meerkat_stun:encode(Message)),
    unicode:characters_to_list(meerkat_auth:why(Decoded, ?REALM, Auth)).

regex(Pattern) ->
    Text = lists:append([case C of 16#2026 -> "[^\"]+"; $N -> "[0-9]+"; _ -> [C] end
                         || C <- Pattern]),
    "^" ++ Text ++ "$".

%%% Reading it

page() ->
    {ok, Bytes} = file:read_file(filename:join(root(), "docs/mongooseim.md")),
    unicode:characters_to_list(Bytes).

lines(Text) -> string:split(Text, "\n", all).

%% Where the sources are, from where the tests run.
root() ->
    {ok, Dir} = file:get_cwd(),
    root(Dir).

root(Dir) ->
    case filelib:is_file(filename:join(Dir, "rebar.config")) of
        true -> Dir;
        false -> root(filename:dirname(Dir))
    end.

%% The one block of code that has Known in it.
snippet(Known) ->
    {match, Blocks} = re:run(page(), "\n```[a-z]*\n(.*?)```",
                             [unicode, global, dotall, {capture, all_but_first, list}]),
    [Snippet] = [Block || [Block] <- Blocks, string:find(Block, Known) =/= nomatch],
    Snippet.

pasted(Known, #{port := Port}) ->
    pasted(snippet(Known), [{"203.0.113.7", "127.0.0.1"}, {"3478", integer_to_list(Port)}]);
pasted(Text, Replaced) ->
    lists:foldl(fun({From, To}, Now) ->
                    ?assertNotEqual(nomatch, string:find(Now, From)),
                    lists:append(string:replace(Now, From, To, all))
                end, Text, Replaced).

%% Python of Debian 12 reads TOML.
toml(Config, Text) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "mongooseim.toml"),
    ok = file:write_file(File, Text),
    Json = os:cmd("/usr/bin/python3 -c 'import json, sys, tomllib; "
                  "print(json.dumps(tomllib.load(open(sys.argv[1], \"rb\"))))' '" ++ File ++ "'"),
    {ok, Value} = meerkat_json:decode(unicode:characters_to_binary(Json)),
    Value.

%%% Meerkat, as the page configures it

with_meerkat(Config, Fun) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "meerkat.cfg"),
    ok = file:write_file(File, pasted(snippet("relay_ip = "), [{"203.0.113.7", "127.0.0.1"}])),
    Env = [{"LISTEN_IP", "127.0.0.1"}, {"LISTEN_PORT", "0"}],
    {ok, Read, []} = meerkat_config:load(#{file => File, env => Env}),
    turn_kit:with_server(maps:merge(Read, turn_kit:relay_kind()), Fun).

allocated(Address, User, Password) ->
    {ok, Client} = meerkat_client:start_link(#{server => Address, username => User,
                                               password => Password}),
    meerkat_client:allocate(Client).
