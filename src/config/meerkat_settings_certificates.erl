%% The certificates of a server's settings: one of our own making where that is wanted, and what the
%% relay is told of all of them. Keys are in funs, so that no crash report prints one.
-module(meerkat_settings_certificates).

-export([with_own/2, self_signed/1, all/1, clients/1]).

-type made() :: none | fun(() -> meerkat_config_certificates:certificate()).

%% The configuration with a certificate of our own making, where it wants that and has no other: for
%% the addresses that clients are told, and for those on this machine. Other addresses need another
%% certificate. Before: the settings there were, whose own certificate is used again where it fits.
-spec with_own(map(), Before :: #{self_signed := made(), _ => _}) ->
    {ok, map()} | {error, string()}.
with_own(#{tls_self_signed := true, certificates := Given} = Config, #{self_signed := Before}) ->
    case [C || C <- Given, not is_map_key(self_signed, C)] of
        [] ->
            case meerkat_self_signed:certificate(own_ips(Config), made(Before)) of
                {ok, Certificate} -> {ok, Config#{certificates := [Certificate]}};
                {error, Sentence} -> {error, Sentence}
            end;
        _ ->
            {ok, Config}
    end;
with_own(#{certificates := Given} = Config, _Kept) ->
    {ok, Config#{certificates := [C || C <- Given, not is_map_key(self_signed, C)]}}.

own_ips(#{relays := Relays, listeners := Listeners}) ->
    lists:usort([Ip || #{advertised := Ip} <- Relays]
                ++ [Ip || #{ip := Ip} <- Listeners, Ip =/= any]
                ++ [{127, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 1}]).

made(none) -> none;
made(Certificate) -> Certificate().

%% Our own certificate, if it is in force.
-spec self_signed(map()) -> made().
self_signed(#{certificates := [#{self_signed := true} = Certificate]}) -> fun() -> Certificate end;
self_signed(_Config) -> none.

%% What the relay is told of them, and what is shown to an operator. The key of session tickets
%% follows from the secret, so that servers that share it open each other's.
-spec all(map()) -> meerkat_settings:certificates().
all(#{certificates := Certificates} = Config) ->
    Pairs = [maps:with([chain, key], Certificate) || Certificate <- Certificates],
    Secret = case Config of
        #{secrets := [First | _]} -> crypto:mac(hmac, sha256, First, <<"meerkat TLS tickets">>);
        #{} -> crypto:hash(sha256, term_to_binary(Pairs))
    end,
    #{pairs => fun() -> Pairs end,
      clients => clients(Config),
      shown => [described(Certificate) || Certificate <- Certificates],
      vouching => [vouching(Authority) || Authority <- maps:get(client_authorities, Config)],
      secret => fun() -> Secret end}.

%% Whether clients are asked for a certificate.
-spec clients(map()) ->
    #{authorities := [#{pem := binary(), file := binary()}], required := boolean()}.
clients(#{client_authorities := Authorities, tls_client_verify := Verify}) ->
    #{authorities => [maps:with([pem, file], Authority) || Authority <- Authorities],
      required => Verify =:= required}.

vouching(#{pem := Pem, file := File}) ->
    case meerkat_certificate:in_pem(Pem) of
        {ok, #{not_after := End}} -> #{file => File, not_after => End};
        _ -> #{file => File}
    end.

described(#{chain := Pem, chain_file := File, key_file := KeyFile} = Certificate) ->
    Known = case meerkat_certificate:in_pem(Pem) of
        {ok, Described} -> Described;
        none -> #{names => []}
    end,
    Known#{file => File, key_file => KeyFile, self_signed => is_map_key(self_signed, Certificate)}.
