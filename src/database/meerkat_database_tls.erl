%% TLS to a database, by the names that PostgreSQL has for it (sslmode).
-module(meerkat_database_tls).

-export([options/1]).

%% `none`: without TLS. Otherwise options of ssl:connect.
-spec options(map()) -> none | {ok, [ssl:tls_client_option()]} | {error, unicode:chardata()}.
options(#{sslmode := Mode} = Options) when Mode =/= disable ->
    case meerkat_tls_client:is_there() of
        true -> {ok, by(Mode, Options)};
        false -> {error, "sslmode needs Erlang's ssl (Debian: erlang-ssl)"}
    end;
options(#{}) ->
    none.

by(require, _Options) ->
    [{log_level, none}, {verify, verify_none}];
by(verify_ca, Options) ->
    [{log_level, none}, {verify, verify_peer}, {server_name_indication, disable}
     | authorities(Options)];
by(verify_full, #{host := Host} = Options) ->
    Name = binary_to_list(Host),
    Reference = case inet:parse_strict_address(Name) of {ok, Ip} -> Ip; {error, _} -> Name end,
    meerkat_tls_client:options(Reference, maps:from_list([{cacert, File} || #{sslrootcert := File}
                                                                                <- [Options]])).

authorities(#{sslrootcert := File}) -> [{cacertfile, File}];
authorities(#{}) ->
    try [{cacerts, public_key:cacerts_get()}]
    catch error:_ -> [{cacerts, []}]
    end.
