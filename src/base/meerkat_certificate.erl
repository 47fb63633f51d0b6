%% What a certificate says: for which names it is good, and when. Needs Erlang's public_key, which
%% comes with ssl. Whether anybody should believe it is not asked here.
-module(meerkat_certificate).

-export([names/1, validity/1, names_in_pem/1]).
-export_type([name/0, decoded/0]).

-type name() :: {dns, binary()} | {ip, inet:ip_address()}.
%% public_key's #'OTPCertificate'{}.
-type decoded() :: tuple().

-define(SUBJECT_ALT_NAME, {2, 5, 29, 17}).

%% The names and addresses in it (RFC 5280 4.2.1.6), in their order; of other kinds none. The common
%% name counts no more (RFC 6125 6.4.4).
-spec names(decoded()) -> [name()].
names(Certificate) ->
    Extensions = element(11, element(2, Certificate)),
    [Name || is_list(Extensions),
             {'Extension', ?SUBJECT_ALT_NAME, _, Names} <- Extensions, is_list(Names),
             {Kind, Value} <- Names, Name <- name(Kind, Value)].

name(dNSName, Name) ->
    [{dns, list_to_binary(Name)}];
name(iPAddress, Octets) ->
    case iolist_to_binary([Octets]) of
        <<A, B, C, D>> -> [{ip, {A, B, C, D}}];
        <<Ip:16/binary>> -> [{ip, list_to_tuple([Part || <<Part:16>> <= Ip])}];
        _ -> []
    end;
name(_, _) ->
    [].

%% Of the first certificate in a PEM file, which is the server's own where it is a chain. None where
%% it cannot be read: who shows it to clients finds out and says so.
-spec names_in_pem(binary()) -> [name()].
names_in_pem(Pem) ->
    try [Der || {'Certificate', Der, not_encrypted} <- public_key:pem_decode(Pem)] of
        [Der | _] -> names(public_key:pkix_decode_cert(Der, otp));
        [] -> []
    catch
        error:_ -> []    % public_key tells of bad DER by all kinds of errors, or is not there
    end.

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
