%% What a certificate says: for which names it is valid, and from when to when. Whether to trust it
%% is decided elsewhere. Needs Erlang's public_key, which comes with ssl. What one says of a client
%% is in meerkat_client_certificate.
-module(meerkat_certificate).

-export([names/1, alternatives/1, validity/1, in_pem/1, days_left/1, format_name/1]).
-export([fingerprint/1, format_fingerprint/1]).
-export_type([name/0, alternative/0, decoded/0, described/0]).

-type name() :: {dns, binary()} | {ip, inet:ip_address()}.
%% Any of the kinds in RFC 5280 4.2.1.6 that is a text or an address.
-type alternative() :: name() | {email | uri, binary()}.
%% public_key's #'OTPCertificate'{}.
-type decoded() :: tuple().
%% Of a chain: for whom the first certificate is, and when the first of them all is over (Unix
%% time).
-type described() :: #{names := [name()], fingerprint := string(), not_after => integer()}.

-define(SUBJECT_ALT_NAME, {2, 5, 29, 17}).

%% The names and addresses in it (RFC 5280 4.2.1.6), in their order; of other kinds none. The common
%% name counts no more (RFC 6125 6.4.4).
-spec names(decoded()) -> [name()].
names(Certificate) ->
    [Name || {Kind, _} = Name <- alternatives(Certificate), Kind =:= dns orelse Kind =:= ip].

%% The same with email addresses and URIs.
-spec alternatives(decoded()) -> [alternative()].
alternatives(Certificate) ->
    Extensions = element(11, element(2, Certificate)),
    [Name || is_list(Extensions),
             {'Extension', ?SUBJECT_ALT_NAME, _, Names} <- Extensions, is_list(Names),
             {Kind, Value} <- Names, Name <- name(Kind, Value)].

name(dNSName, Name) ->
    [{dns, list_to_binary(Name)}];
name(rfc822Name, Name) ->
    [{email, list_to_binary(Name)}];
name(uniformResourceIdentifier, Name) ->
    [{uri, list_to_binary(Name)}];
name(iPAddress, Octets) ->
    case iolist_to_binary([Octets]) of
        <<A, B, C, D>> -> [{ip, {A, B, C, D}}];
        <<Ip:16/binary>> -> [{ip, list_to_tuple([Part || <<Part:16>> <= Ip])}];
        _ -> []
    end;
name(_, _) ->
    [].

%% What is in a PEM file: the server's own certificate, and behind it those that issued it. None
%% where it cannot be read: who shows it to clients finds out and says so.
-spec in_pem(binary()) -> {ok, described()} | none.
in_pem(Pem) ->
    try [Der || {'Certificate', Der, not_encrypted} <- public_key:pem_decode(Pem)] of
        [Der | _] = Ders ->
            Chain = [public_key:pkix_decode_cert(D, otp) || D <- Ders],
            Ends = [unix(End) || {_, End} <- [validity(C) || C <- Chain], End =/= unknown],
            Known = #{names => names(hd(Chain)),
                      fingerprint => fingerprint(Der)},
            {ok, maps:merge(Known, maps:from_list([{not_after, lists:min(Ends)} || Ends =/= []]))};
        [] ->
            none
    catch
        error:_ -> none    % public_key tells of bad DER by all kinds of errors, or is not there
    end.

unix(Moment) ->
    calendar:datetime_to_gregorian_seconds(Moment)
        - calendar:datetime_to_gregorian_seconds({{1970, 1, 1}, {0, 0, 0}}).

%% Whole days until then; negative once it is over.
-spec days_left(UnixS :: integer()) -> integer().
days_left(End) ->
    floor((End - meerkat_clock:wall_s()) / 86400).

-spec format_name(name()) -> unicode:chardata().
format_name({dns, Name}) -> meerkat_text:escape(Name);
format_name({ip, Ip}) -> meerkat_text:ip(Ip).

%% The first and the last moment of its life, in UTC.
-spec validity(decoded()) -> {calendar:datetime() | unknown, calendar:datetime() | unknown}.
validity(Certificate) ->
    {'Validity', From, To} = element(6, element(2, Certificate)),
    {moment(From), moment(To)}.

%% RFC 5280 4.1.2.5: both forms end with seconds and Z; the short one has two digits of the year.
moment({utcTime, [Y | _] = Text}) when Y >= $5 -> moment({generalTime, "19" ++ Text});
moment({utcTime, Text}) -> moment({generalTime, "20" ++ Text});
moment({generalTime, [A, B, C, D, Mo1, Mo2, D1, D2, H1, H2, M1, M2, S1, S2 | _]}) ->
    Number = fun list_to_integer/1,
    {{Number([A, B, C, D]), Number([Mo1, Mo2]), Number([D1, D2])},
     {Number([H1, H2]), Number([M1, M2]), Number([S1, S2])}};
moment(_) ->
    unknown.

%% Of a certificate in DER, as `openssl x509 -fingerprint -sha256` prints it.
-spec fingerprint(Der :: binary()) -> string().
fingerprint(Der) ->
    format_fingerprint(crypto:hash(sha256, Der)).

%% The same of its hash.
-spec format_fingerprint(binary()) -> string().
format_fingerprint(Hash) ->
    lists:flatten(lists:join($:, [io_lib:format("~2.16.0B", [Byte]) || <<Byte>> <= Hash])).
