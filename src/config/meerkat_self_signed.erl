%% A certificate for trying out, made here, for the addresses that clients are told (the key
%% tls_self_signed). Nobody vouches for it: a client knows it by its fingerprint. It is kept in a
%% file of the state directory, so that it is the same after the next start; where there is no such
%% directory it lasts as long as the server.
-module(meerkat_self_signed).

-export([certificate/2]).

-define(FILE_NAME, <<"self-signed.pem">>).
%% Its life, and what of it must be left at a start.
-define(DAYS, 397).
-define(DAYS_LEFT, 30).
-define(DAY_S, 86400).

%% Names of things in a certificate (RFC 5280, RFC 5480).
-define(COMMON_NAME, {2, 5, 4, 3}).
-define(KEY_USAGE, {2, 5, 29, 15}).
-define(SUBJECT_ALT_NAME, {2, 5, 29, 17}).
-define(BASIC_CONSTRAINTS, {2, 5, 29, 19}).
-define(EXTENDED_KEY_USAGE, {2, 5, 29, 37}).
-define(SERVER_AUTH, {1, 3, 6, 1, 5, 5, 7, 3, 1}).
-define(EC_PUBLIC_KEY, {1, 2, 840, 10045, 2, 1}).
-define(P_256, {1, 2, 840, 10045, 3, 1, 7}).
-define(ECDSA_SHA256, {1, 2, 840, 10045, 4, 3, 2}).

%% Good for these addresses: the one before, the one that is kept, or a new one. The error is a
%% sentence.
-spec certificate([inet:ip_address()],
                  Before :: none | meerkat_config_certificates:certificate()) ->
    {ok, meerkat_config_certificates:certificate()} | {error, string()}.
certificate(Ips, Before) ->
    File = meerkat_env:state_file(?FILE_NAME),
    case {code:ensure_loaded(public_key), [C || C <- [Before, kept(File)], is_good(C, Ips)]} of
        {{module, _}, [Good | _]} ->
            {ok, Good};
        {{module, _}, []} ->
            {ok, keep(File, new(Ips, meerkat_clock:wall_s()))};
        {{error, _}, _} ->
            {error, "tls_self_signed needs the Erlang application public_key (Debian: "
                    "erlang-public-key)"}
    end.

is_good(#{chain := Pem}, Ips) ->
    Wanted = meerkat_clock:wall_s() + ?DAYS_LEFT * ?DAY_S,
    case meerkat_certificate:in_pem(Pem) of
        {ok, #{names := Names, not_after := End}} when End > Wanted ->
            Ips -- [Ip || {ip, Ip} <- Names] =:= [];
        _ ->
            false
    end;
is_good(none, _Ips) ->
    false.

%%% Where it is kept

kept(none) ->
    none;
kept(File) ->
    case file:read_file(File) of
        {ok, Pem} -> certificate_of(Pem, File);
        {error, _} -> none
    end.

keep(none, Pem) ->
    certificate_of(Pem, none);
keep(File, Pem) ->
    case filelib:ensure_dir(File) =:= ok andalso meerkat_private_file:write(File, Pem) of
        ok -> certificate_of(Pem, File);
        _ -> certificate_of(Pem, none)
    end.

%% Certificate and key are in one file.
certificate_of(Pem, File) ->
    Name = case File of
        none -> <<"(self-signed, until the server ends)">>;
        _ -> File
    end,
    #{chain => Pem, key => Pem, chain_file => Name, key_file => Name, self_signed => true}.

%%% How it is made: public_key's records, written out, for their header brings hundreds along.

new(Ips, NowS) ->
    Key = public_key:generate_key({namedCurve, ?P_256}),
    Name = {rdnSequence, [[{'AttributeTypeAndValue', ?COMMON_NAME, {utf8String, <<"Meerkat">>}}]]},
    <<Serial:64>> = crypto:strong_rand_bytes(8),
    %% From a day ago: a clock that is behind finds it good.
    Validity = {'Validity', moment(NowS - ?DAY_S), moment(NowS + ?DAYS * ?DAY_S)},
    Der = public_key:pkix_sign(
        {'OTPTBSCertificate', v3, Serial bsr 1 + 1,
         {'SignatureAlgorithm', ?ECDSA_SHA256, asn1_NOVALUE},
         Name, Validity, Name, public(Key), asn1_NOVALUE, asn1_NOVALUE, extensions(Ips)}, Key),
    public_key:pem_encode([{'Certificate', Der, not_encrypted},
                           public_key:pem_entry_encode('ECPrivateKey', Key)]).

public(Key) ->
    {'OTPSubjectPublicKeyInfo', {'PublicKeyAlgorithm', ?EC_PUBLIC_KEY, {namedCurve, ?P_256}},
     {'ECPoint', element(5, Key)}}.

extensions(Ips) ->
    [{'Extension', Id, IsCritical, Value}
     || {Id, IsCritical, Value} <-
            [{?BASIC_CONSTRAINTS, true, {'BasicConstraints', false, asn1_NOVALUE}},
             {?KEY_USAGE, true, [digitalSignature]},
             {?EXTENDED_KEY_USAGE, false, [?SERVER_AUTH]},
             {?SUBJECT_ALT_NAME, false, [{iPAddress, octets(Ip)} || Ip <- Ips]}]].

octets({A, B, C, D}) -> <<A, B, C, D>>;
octets(Ip) -> << <<Part:16>> || Part <- tuple_to_list(Ip) >>.

%% RFC 5280 4.1.2.5: until 2049 with two digits of the year.
moment(UnixS) ->
    {{Y, Mo, D}, {H, M, S}} = calendar:system_time_to_universal_time(UnixS, second),
    Rest = lists:flatten([io_lib:format("~2..0b", [N]) || N <- [Mo, D, H, M, S]]) ++ "Z",
    case Y < 2050 of
        true -> {utcTime, lists:nthtail(2, integer_to_list(Y)) ++ Rest};
        false -> {generalTime, integer_to_list(Y) ++ Rest}
    end.
