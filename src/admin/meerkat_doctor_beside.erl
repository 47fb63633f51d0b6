%% What meerkat_doctor says of web servers behind the server (https_backend), which must answer, and
%% of proxies in front of it (proxy_protocol_from), from whose addresses every connection must begin
%% with a PROXY header.
-module(meerkat_doctor_beside).

-export([findings/1]).

-define(CONNECT_MS, 2000).

%% Of the configuration in force.
-spec findings(map()) -> [meerkat_doctor:finding()].
findings(Config) ->
    [web(Backend) || Backend <- maps:get(https_backend, Config, [])]
        ++ [finding(proxies, ok,
                    ["whatever connects from ", networks(Proxies), " must begin with a header of "
                     "the PROXY protocol; a client there needs a proxy, `meerkatctl check` too"])
            || #{proxy_protocol_from := [_ | _] = Proxies} <- [Config]].

web({Name, {Ip, Port} = Address}) ->
    Shown = ["the web server ", meerkat_text:address(Address), " for ",
             case Name of any -> "any other name"; _ -> Name end],
    case gen_tcp:connect(Ip, Port, [], ?CONNECT_MS) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            finding(https_backend, ok, [Shown, " is there"]);
        {error, Reason} ->
            Finding = finding(https_backend, warning, [Shown, " does not answer: ",
                                                       inet:format_error(Reason)]),
            Finding#{remedy => <<"connections for it are closed until it listens there; else "
                                 "https_backend (HTTPS_BACKEND) must name another address">>}
    end.

networks(Networks) ->
    lists:join(", ", [meerkat_text:network(Network) || Network <- Networks]).

finding(Name, Verdict, Text) ->
    #{name => Name, verdict => Verdict, text => unicode:characters_to_binary(Text)}.
