%% Accounting records to a web server (accounting_url): each batch is a POST with a record a line
%% (application/x-ndjson). Any status from 200 to 299 says that it has been taken, anything else
%% that it is to be sent again.
-module(meerkat_account_http).
-behaviour(meerkat_account_sink).

-export([settings/1, open/1, deliver/2, close/1, missing/1]).

-record(http, {url :: string(), headers :: [{string(), string()}],
               options :: [{atom(), term()}]}).

-define(PROFILE, meerkat_accounting).
-define(CONNECT_MS, 5000).
-define(ANSWER_MS, 30000).

-spec settings(map()) -> none | {binary(), fun(() -> undefined | binary()), undefined | binary()}.
settings(#{url := undefined}) -> none;
settings(#{url := Url, token := Token, ca_file := CaFile}) -> {Url, Token, CaFile}.

-spec open({binary(), fun(() -> undefined | binary()), undefined | binary()}) ->
    {ok, #http{}} | {error, unicode:chardata()}.
open({Url, Token, CaFile}) ->
    case meerkat_web_client:is_there({?PROFILE, Url}) of
        ok ->
            {ok, #http{url = unicode:characters_to_list(Url),
                       headers = meerkat_web_client:headers(Token()),
                       options = [{timeout, ?ANSWER_MS}, {connect_timeout, ?CONNECT_MS}
                                  | meerkat_web_client:options(Url, CaFile)]}};
        {error, Why} ->
            {error, Why}
    end.

-spec deliver([binary(), ...], #http{}) -> {ok, #http{}} | {error, unicode:chardata()}.
deliver(Lines, #http{url = Url, headers = Headers, options = Options} = Http) ->
    Body = iolist_to_binary([[Line, $\n] || Line <- Lines]),
    case httpc:request(post, {Url, Headers, "application/x-ndjson", Body}, Options,
                       [{body_format, binary}], ?PROFILE) of
        {ok, {{_, Status, _}, _, _}} when Status >= 200, Status < 300 -> {ok, Http};
        {ok, {{_, Status, _}, _, _}} -> {error, ["it answers with status ",
                                                 integer_to_list(Status)]};
        {error, Reason} -> {error, meerkat_web_client:reason(Reason, "accounting_ca_file")}
    end.

-spec close(#http{}) -> ok.
close(#http{}) -> ok.

-spec missing(term()) -> [string()].
missing(_Settings) ->
    ["erlang-inets" || code:ensure_loaded(httpc) =/= {module, httpc}].
