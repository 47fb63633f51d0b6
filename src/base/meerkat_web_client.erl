%% What those have in common who send something to a web server of an operator's, by httpc: how the
%% server is known, what it is shown, and in words what went wrong.
-module(meerkat_web_client).

-export([options/2, headers/1, is_there/1, reason/2]).

%% For httpc:request/5. Of https the certificate is checked, by the system's list of authorities or
%% a file of them.
-spec options(Url :: binary(), CaFile :: undefined | binary()) -> [{atom(), term()}].
options(Url, CaFile) ->
    #{scheme := Scheme, host := Host} = uri_string:parse(Url),
    [{autoredirect, false} | [{ssl, tls(Host, CaFile)} || Scheme =:= <<"https">>]].

tls(Host, CaFile) ->
    Name = unicode:characters_to_list(Host),
    Reference = case inet:parse_strict_address(Name) of {ok, Ip} -> Ip; {error, _} -> Name end,
    meerkat_tls_client:options(Reference, maps:from_list([{cacert, CaFile}
                                                          || CaFile =/= undefined])).

%% What shows who we are.
-spec headers(Token :: undefined | binary()) -> [{string(), string()}].
headers(undefined) -> [];
headers(Token) -> [{"authorization", "Bearer " ++ binary_to_list(Token)}].

%% Starts httpc, with connections of that name's own, and ssl where it takes that.
-spec is_there({Profile :: atom(), Url :: binary()}) -> ok | {error, unicode:chardata()}.
is_there({Profile, Url}) ->
    {ok, _} = application:ensure_all_started(inets),
    _ = inets:start(httpc, [{profile, Profile}]),
    #{scheme := Scheme} = uri_string:parse(Url),
    case Scheme =:= <<"http">> orelse meerkat_tls_client:is_there() of
        true -> ok;
        false -> {error, "https needs Erlang's ssl (Debian: erlang-ssl)"}
    end.

%% Why httpc has no answer. The key is the one of the configuration that says who may vouch for it.
-spec reason(term(), CaFileKey :: unicode:chardata()) -> unicode:chardata().
reason({failed_connect, Details}, CaFileKey) ->
    case lists:keyfind(inet, 1, Details) of
        {inet, _, Reason} when is_atom(Reason) -> inet:format_error(Reason);
        {inet, _, {tls_alert, {unknown_ca, _}}} ->
            ["nobody we trust vouches for its certificate (", CaFileKey, ")"];
        {inet, _, Reason} -> meerkat_tls_client:reason(Reason);
        false -> "it cannot be reached"
    end;
reason(timeout, _) -> "it takes too long to answer";
reason(socket_closed_remotely, _) -> "it has closed the connection";
reason(_Reason, _) -> "its answer is not HTTP".
