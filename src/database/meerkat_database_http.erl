%% An operator's web server that knows the users: each question is a POST with JSON, and the answer
%% is JSON too (docs/databases.md). The answer says for how long it may be remembered.
-module(meerkat_database_http).
-behaviour(meerkat_database).

-export([connect/1, describe/1, ask/2]).

-define(PROFILE, meerkat_users).
-define(CONNECT_MS, 3000).
%% The pool gives up sooner.
-define(ANSWER_MS, 60000).
%% An answer has a password or two keys.
-define(BYTES_MAX, 65536).
%% Of connections that wait for the next question.
-define(IDLE_MS, 60000).
-define(SESSIONS_MAX, 64).
-define(AGE_MAX_S, 86400).
%% As the keys of the configuration.
-define(LIMITS, [{user_quota, <<"user_quota">>, 131072}, {max_bps, <<"max_bps">>, 1000000000000},
                 {max_pps, <<"max_pps">>, 100000000}]).

%% The options in a fun, because of the token in there.
-type hook() :: fun(() -> map()).

-spec describe(map()) -> unicode:chardata().
describe(#{url := Url}) ->
    ["the web server at ", meerkat_text:escape(Url)].

%% There is no login: it can only be tried whether somebody listens there.
-spec connect(map()) -> {ok, meerkat_database:connection()} | meerkat_database:failure().
connect(#{url := Url} = Options) ->
    case meerkat_web_client:is_there({?PROFILE, Url}) of
        ok ->
            ok = httpc:set_options([{max_sessions, ?SESSIONS_MAX}, {max_keep_alive_length, 0},
                                    {ipfamily, inet6fb4}, {keep_alive_timeout, ?IDLE_MS}],
                                   ?PROFILE),
            reached(uri_string:parse(Url), Options);
        {error, Why} ->
            {error, Why}
    end.

reached(#{scheme := Scheme, host := Given} = Uri, Options) ->
    Host = binary_to_list(Given),
    Port = maps:get(port, Uri, case Scheme of <<"https">> -> 443; _ -> 80 end),
    case gen_tcp:connect(Host, Port, meerkat_database_address:family(Host), ?CONNECT_MS) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            {ok, {?MODULE, fun() -> Options end}};
        {error, Reason} ->
            {error, meerkat_database_words:lost(Reason)}
    end.

-spec ask(meerkat_database:question(), hook()) ->
    {ok, meerkat_database:answer()} | meerkat_database:failure()
    | {ok, meerkat_database:answer(), MaxAgeS :: non_neg_integer()}.
ask({secrets, _Realm}, _Hook) ->
    {ok, {secrets, []}};
ask(Question, Hook) ->
    #{url := Url} = Options = Hook(),
    CaFile = maps:get(ca_file, Options, undefined),
    Request = {binary_to_list(Url),
               meerkat_web_client:headers(maps:get(token, Options, undefined)),
               "application/json", meerkat_json:encode(asked(Question))},
    case httpc:request(post, Request, [{timeout, ?ANSWER_MS}, {connect_timeout, ?CONNECT_MS}
                                       | meerkat_web_client:options(Url, CaFile)],
                       [{body_format, binary}], ?PROFILE) of
        {ok, {{_, 200, _}, Headers, Body}} when byte_size(Body) =< ?BYTES_MAX ->
            said(meerkat_json:decode(Body), Headers);
        {ok, {{_, 404, _}, Headers, _}} ->
            aged({user, none}, #{}, Headers);
        {ok, {{_, Status, _}, _, _}} ->
            {error, ["it answers with status ", integer_to_list(Status)]};
        {error, Reason} ->
            exit({no_connection, meerkat_web_client:reason(Reason, "ca_file")})
    end.

asked({user, Realm, Name}) ->
    #{user => Name, realm => Realm};
asked({user, Realm, Name, Ip}) ->
    (asked({user, Realm, Name}))#{client => unicode:characters_to_binary(meerkat_text:ip(Ip))}.

%% A user that is not allowed counts as unknown: the client gets the same answer for both.
said({ok, #{<<"allow">> := false} = Said}, Headers) ->
    aged({user, none}, Said, Headers);
said({ok, #{} = Said}, Headers) ->
    case {keys(Said), limits(Said)} of
        {none, _} -> {error, "its answer has neither a password nor a key, and allow is not false"};
        {_, {error, Why}} -> {error, Why};
        {Keys, {ok, Limits}} -> aged({user, maps:merge(Keys, Limits)}, Said, Headers)
    end;
said(_, _Headers) ->
    {error, "its answer is not a JSON object"}.

keys(#{<<"key">> := Text} = Said) when is_binary(Text) ->
    Known = [Key || Member <- [<<"key">>, <<"sha256_key">>], #{Member := Hex} <- [Said],
                    is_binary(Hex), {_, _} = Key <- [meerkat_database:text_key(Hex)]],
    case maps:from_list(Known) of
        #{md5 := _} = Keys -> Keys;
        #{} -> none
    end;
keys(#{<<"password">> := <<_, _/binary>> = Password}) ->
    #{password => Password};
keys(#{}) ->
    none.

%% A limit that is wrong may be meant to be a low one, so the user is not let in without it.
limits(Said) ->
    Given = [{Key, Member, Value, Max}
             || {Key, Member, Max} <- ?LIMITS, #{Member := Value} <- [Said]],
    case [Wrong || {_, _, Value, Max} = Wrong <- Given,
                   not (is_integer(Value) andalso Value >= 0 andalso Value =< Max)] of
        [] when Given =:= [] -> {ok, #{}};
        [] -> {ok, #{limits => maps:from_list([{Key, Value} || {Key, _, Value, _} <- Given])}};
        [{_, Member, _, Max} | _] -> {error, ["its answer has \"", Member, "\", which must be a "
                                              "whole number from 0 to ", integer_to_list(Max)]}
    end.

%% For how long to remember it: max_age of the answer, else its header, else cache_lifetime.
aged(Answer, #{<<"max_age">> := Age}, _Headers) when is_integer(Age), Age >= 0 ->
    {ok, Answer, min(Age, ?AGE_MAX_S)};
aged(Answer, _Said, Headers) ->
    Control = proplists:get_value("cache-control", Headers, ""),
    case re:run(Control, "(?:^|[\\s,])max-age=([0-9]{1,9})(?:$|[\\s,])",
                [caseless, {capture, all_but_first, list}]) of
        {match, [Age]} -> {ok, Answer, min(list_to_integer(Age), ?AGE_MAX_S)};
        nomatch -> {ok, Answer}
    end.
