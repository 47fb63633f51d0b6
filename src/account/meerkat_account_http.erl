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
    {ok, _} = application:ensure_all_started(inets),
    _ = inets:start(httpc, [{profile, ?PROFILE}]),
    #{scheme := Scheme, host := Host} = uri_string:parse(Url),
    case Scheme =:= <<"http">> orelse meerkat_tls_client:is_there() of
        true ->
            {ok, #http{url = unicode:characters_to_list(Url), headers = authorization(Token()),
                       options = [{timeout, ?ANSWER_MS}, {connect_timeout, ?CONNECT_MS},
                                  {autoredirect, false}
                                  | [{ssl, tls(Host, CaFile)} || Scheme =:= <<"https">>]]}};
        false ->
            {error, "https needs Erlang's ssl (Debian: erlang-ssl)"}
    end.

authorization(undefined) -> [];
authorization(Token) -> [{"authorization", "Bearer " ++ binary_to_list(Token)}].

tls(Host, CaFile) ->
    Name = unicode:characters_to_list(Host),
    Reference = case inet:parse_strict_address(Name) of {ok, Ip} -> Ip; {error, _} -> Name end,
    meerkat_tls_client:options(Reference, maps:from_list([{cacert, CaFile}
                                                          || CaFile =/= undefined])).

-spec deliver([binary(), ...], #http{}) -> {ok, #http{}} | {error, unicode:chardata()}.
deliver(Lines, #http{url = Url, headers = Headers, options = Options} = Http) ->
    Body = iolist_to_binary([[Line, $\n] || Line <- Lines]),
    case httpc:request(post, {Url, Headers, "application/x-ndjson", Body}, Options,
                       [{body_format, binary}], ?PROFILE) of
        {ok, {{_, Status, _}, _, _}} when Status >= 200, Status < 300 -> {ok, Http};
        {ok, {{_, Status, _}, _, _}} -> {error, ["it answers with status ",
                                                 integer_to_list(Status)]};
        {error, Reason} -> {error, words(Reason)}
    end.

words({failed_connect, Details}) ->
    case lists:keyfind(inet, 1, Details) of
        {inet, _, Reason} when is_atom(Reason) -> inet:format_error(Reason);
        {inet, _, {tls_alert, {unknown_ca, _}}} ->
            "nobody we trust vouches for its certificate (accounting_ca_file)";
        {inet, _, Reason} -> meerkat_tls_client:reason(Reason);
        false -> "it cannot be reached"
    end;
words(timeout) -> "it takes too long to answer";
words(socket_closed_remotely) -> "it has closed the connection";
words(_Reason) -> "its answer is not HTTP".

-spec close(#http{}) -> ok.
close(#http{}) -> ok.

-spec missing(term()) -> [string()].
missing(_Settings) ->
    ["erlang-inets" || code:ensure_loaded(httpc) =/= {module, httpc}].
