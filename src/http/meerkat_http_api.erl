%% What is answered to an HTTP request: routes, pages, and who may have credentials. It knows
%% nothing of sockets; what it tells without a token names no user, client or peer.
-module(meerkat_http_api).

-include_lib("kernel/include/logger.hrl").

-export([handle/2]).
-export_type([request/0, response/0]).

%% Header names in lower case. The query's values are what they were before they were encoded.
-type request() :: #{method := string(), path := binary(), query := [{binary(), binary()}],
                     headers := [{string(), string()}], peer := inet:ip_address()}.
-type response() :: {Code :: 200..599, [{atom() | string(), string()}], Body :: binary()}.

%% Prometheus' text format.
-define(METRICS, "text/plain; version=0.0.4; charset=utf-8").
-define(TEXT, "text/plain; charset=utf-8").

-spec handle(Name :: atom(), request()) -> response().
handle(Name, #{method := Method, path := Path} = Request) when Method =:= "GET";
                                                               Method =:= "HEAD" ->
    case route(Path) of
        {page, File, Type} -> page(File, Type);
        none -> nothing();
        Route -> answer(Route, Name, Request)
    end;
handle(_Name, _Request) ->
    {Code, Headers, Body} = text(405, "GET and HEAD only\n"),
    {Code, [{"allow", "GET, HEAD"} | Headers], Body}.

%% All routes. No other file is ever read, except for the challenges of meerkat_http_acme.
route(<<"/">>) -> {page, "status.html", "text/html; charset=utf-8"};
route(<<"/plot.js">>) -> {page, "plot.js", "text/javascript; charset=utf-8"};
route(<<"/status.js">>) -> {page, "status.js", "text/javascript; charset=utf-8"};
route(<<"/ice">>) -> {page, "ice.html", "text/html; charset=utf-8"};
route(<<"/ice.js">>) -> {page, "ice.js", "text/javascript; charset=utf-8"};
route(<<"/call">>) -> {page, "call.html", "text/html; charset=utf-8"};
route(<<"/call.js">>) -> {page, "call.js", "text/javascript; charset=utf-8"};
route(<<"/style.css">>) -> {page, "style.css", "text/css; charset=utf-8"};
route(<<"/openapi.json">>) -> {page, "openapi.json", "application/json"};
route(<<"/metrics">>) -> metrics;
route(<<"/status.json">>) -> status;
route(<<"/health">>) -> health;
route(<<"/ready">>) -> ready;
route(<<"/credentials">>) -> credentials;
route(<<"/call.json">>) -> call;
route(Path) ->
    case meerkat_http_acme:challenge(Path) of
        {ok, Token} -> {challenge, Token};
        none -> none
    end.

page(File, Type) ->
    {ok, Body} = file:read_file(filename:join([code:priv_dir(meerkat), "www", File])),
    {200, [{content_type, Type}], Body}.

answer(metrics, Name, _Request) ->
    Text = meerkat_metrics:text(meerkat_metrics:snapshot(Name)),
    {200, [{content_type, ?METRICS}], iolist_to_binary(Text)};
answer(status, Name, _Request) ->
    Snapshot = meerkat_metrics:snapshot(Name),
    json(200, meerkat_http_status:status(Name, Snapshot, meerkat_clock:wall_s()));
answer(health, Name, _Request) ->
    case meerkat_health:alive(Name) of
        true -> json(200, #{health => ok});
        false -> json(503, #{health => relay_down})
    end;
answer(ready, Name, _Request) ->
    case meerkat_health:not_ready(Name) of
        [] -> json(200, #{ready => true});
        Reasons -> json(503, #{ready => false, reasons => Reasons})
    end;
answer({challenge, Token}, Name, _Request) ->
    #{http := #{webroot := Webroot}} = meerkat_registry:settings(Name),
    case meerkat_http_acme:answer(Webroot, Token) of
        {ok, Content} -> {200, [{content_type, ?TEXT}], Content};
        none -> nothing()
    end;
answer(credentials, Name, Request) ->
    with_token("/credentials", Name, Request, fun() -> made(Name, Request) end);
answer(call, Name, #{query := Query} = Request) ->
    with_token("/call.json", Name, Request, fun() ->
        case meerkat_http_call:answer(Name, Query) of
            {ok, Answer} -> json(200, Answer);
            {error, Sentence} -> problem(404, Sentence)
        end
    end).

%%% Who has the token

with_token(Path, Name, Request, Answer) ->
    #{http := #{token := Token, failures := Failures}} = meerkat_registry:settings(Name),
    with_token(Token(), Failures, Path, Request, Answer).

with_token(undefined, _Failures, Path, _Request, _Answer) ->
    problem(404, list_to_binary(["this server has no ", Path, ": http_token is not set"]));
with_token(Token, Failures, Path, #{peer := Ip} = Request, Answer) ->
    Now = meerkat_auth_failures:now_us(),
    Given = given(Request),
    case meerkat_auth_failures:too_many(Failures, Ip, <<>>, Now) of
        true ->
            problem(429, [{"retry-after", "1"}], <<"too many wrong tokens">>);
        false when Given =:= none ->
            unauthorized(<<"a token is needed: Authorization: Bearer ..., or the parameter key">>);
        false ->
            case is_same(Given, Token) of
                true ->
                    Answer();
                false ->
                    ok = meerkat_auth_failures:count(Failures, Ip, <<>>, Now),
                    ?LOG_WARNING("a wrong token for ~ts from ~ts", [Path, meerkat_text:ip(Ip)]),
                    unauthorized(<<"this is not the token">>)
            end
    end.

given(#{headers := Headers, query := Query}) ->
    case {proplists:get_value("authorization", Headers), proplists:get_value("x-api-key", Headers),
          proplists:get_value(<<"key">>, Query)} of
        {[_ | _] = Text, _, _} -> bearer(string:split(Text, " "));
        {_, [_ | _] = Text, _} -> unicode:characters_to_binary(Text, latin1, latin1);
        {_, _, Key} when is_binary(Key) -> Key;
        _ -> none
    end.

bearer([Scheme, Token]) ->
    case string:lowercase(Scheme) of
        "bearer" -> unicode:characters_to_binary(string:trim(Token), latin1, latin1);
        _ -> none
    end;
bearer(_) ->
    none.

%% Takes as long for any guess.
is_same(Given, Token) ->
    crypto:hash_equals(crypto:hash(sha256, Given), crypto:hash(sha256, Token)).

%%% The form of draft-uberti-behave-turn-rest-00: `service` is turn, `username` (or `user`) is
%%% anything, `key` the token, which may come as a header as well. `ttl`, `realm` and `region` are
%%% ours.

%% Unknown parameters are ignored, unless one is spelled nearly like one of ours: then the request
%% is refused, because credentials for another name are not what was meant.
made(Name, #{query := Query} = Request) ->
    Known = [<<"service">>, <<"username">>, <<"user">>, <<"key">>, <<"ttl">>, <<"realm">>,
             <<"region">>],
    Near = fun(Given) -> meerkat_spelling:nearest(Given, Known, fun slip/1) end,
    Slips = [{Given, Meant} || {Given, _} <- Query, not lists:member(Given, Known),
                               {ok, Meant} <- [Near(Given)]],
    case Slips of
        [] -> good(Name, Request);
        [{Given, Meant} | _] ->
            problem(400, unicode:characters_to_binary(["there is no parameter ",
                                                       meerkat_text:escape(Given),
                                                       "; did you mean ", Meant, "?"]))
    end.

slip(Known) -> byte_size(Known) div 3.

good(Name, #{query := Query, peer := Ip}) ->
    User = first([<<"username">>, <<"user">>], Query, <<"anonymous">>),
    Where = [{Key, Value} || {Word, Key} <- [{<<"realm">>, realm}, {<<"region">>, region}],
                             {Given, Value} <- Query, Given =:= Word],
    case {first([<<"service">>], Query, <<"turn">>), ttl(Query)} of
        {<<"turn">>, {ok, Ttl}} -> answered(Name, User, maps:from_list(Ttl ++ Where), Ip);
        {<<"turn">>, error} -> problem(400, <<"ttl is a number of seconds">>);
        {_, _} -> problem(400, <<"the only service is turn">>)
    end.

answered(Name, User, Options, Ip) ->
    Deed = {credentials, (meerkat_credentials:told(Options))#{user => User}},
    Ask = fun() -> meerkat_credentials:asked(Name, User, Options) end,
    case meerkat_audit:by({http, Ip}, Deed, Ask) of
        {ok, Credentials} -> json(200, Credentials);
        {error, {no_secret, Sentence}} -> problem(404, Sentence);
        {error, {_What, Sentence}} -> problem(400, Sentence)
    end.

ttl(Query) ->
    case [string:to_integer(Text) || {<<"ttl">>, Text} <- Query] of
        [] -> {ok, []};
        [{Seconds, <<>>} | _] when is_integer(Seconds) -> {ok, [{ttl, Seconds}]};
        [_ | _] -> error
    end.

first(Names, Query, Default) ->
    hd([Value || Name <- Names, {N, Value} <- Query, N =:= Name] ++ [Default]).

unauthorized(Sentence) ->
    problem(401, [{"www-authenticate", "Bearer realm=\"meerkat\""}], Sentence).

problem(Code, Sentence) -> problem(Code, [], Sentence).

problem(Code, Headers, Sentence) ->
    {Code, Json, Body} = json(Code, #{error => Sentence}),
    {Code, Headers ++ Json, Body}.

json(Code, Value) ->
    {Code, [{content_type, "application/json"}], <<(meerkat_json:encode(Value))/binary, $\n>>}.

nothing() -> text(404, "there is nothing here\n").

text(Code, Text) ->
    {Code, [{content_type, ?TEXT}], list_to_binary(Text)}.
