%% Certificates of a suite's own, made by openssl: an authority that nobody knows, and what it
%% issues.
-module(certificate_kit).

-include_lib("stdlib/include/assert.hrl").

-export([authority/1, issued/2, self_signed/2, ending/2]).
-export_type([pair/0]).

%% PEM files.
-type pair() :: #{certificate := file:filename(), key := file:filename()}.

-define(NEW_KEY, "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes").

%% In that directory.
-spec authority(file:filename()) -> pair().
authority(Dir) ->
    made(Dir, fun(#{certificate := Certificate, key := Key}) ->
        ["openssl req -x509 " ?NEW_KEY " -days 30 -subj '/CN=An authority' -keyout ", Key,
         " -out ", Certificate]
    end).

%% Names as in a subjectAltName, "DNS:localhost,IP:127.0.0.1"; with negative days it has expired.
-spec issued(pair(), #{names := string(), days => integer()}) -> pair().
issued(#{certificate := Ca, key := CaKey}, #{names := Names} = Options) ->
    made(filename:dirname(Ca), fun(#{certificate := Certificate, key := Key}) ->
        ["openssl req -new " ?NEW_KEY " -subj /CN=server -addext subjectAltName=", Names,
         " -keyout ", Key, " | openssl x509 -req -CA ", Ca, " -CAkey ", CaKey,
         " -CAcreateserial -copy_extensions copy -days ",
         integer_to_list(maps:get(days, Options, 30)), " -out ", Certificate]
    end).

-spec self_signed(file:filename(), string()) -> pair().
self_signed(Dir, Names) ->
    made(Dir, fun(#{certificate := Certificate, key := Key}) ->
        ["openssl req -x509 " ?NEW_KEY " -days 30 -subj /CN=server -addext subjectAltName=",
         Names, " -keyout ", Key, " -out ", Certificate]
    end).

made(Dir, Command) ->
    Base = filename:join(Dir, integer_to_list(erlang:unique_integer([positive]))),
    Pair = #{certificate => Base ++ ".pem", key => Base ++ ".key"},
    Said = os:cmd(["(", Command(Pair), ") 2>&1"]),
    ?assertMatch({_, {ok, <<"-----BEGIN", _/binary>>}},
                 {Said, file:read_file(maps:get(certificate, Pair))}),
    Pair.

%% The same with another end (Unix time), by its own key.
-spec ending(pair(), integer()) -> pair().
ending(#{certificate := File, key := KeyFile} = Pair, End) ->
    {ok, Pem} = file:read_file(File),
    {ok, KeyPem} = file:read_file(KeyFile),
    [{_, Der, _} | _] = public_key:pem_decode(Pem),
    [Key] = [public_key:pem_entry_decode(E) || {Kind, _, _} = E <- public_key:pem_decode(KeyPem),
                                               Kind =/= 'EcpkParameters'],
    Signed = element(2, public_key:pkix_decode_cert(Der, otp)),
    {{Y, Mo, D}, {H, M, S}} = calendar:system_time_to_universal_time(End, second),
    Text = lists:flatten(io_lib:format("~2..0b~2..0b~2..0b~2..0b~2..0b~2..0bZ",
                                       [Y rem 100, Mo, D, H, M, S])),
    {'Validity', From, _} = element(6, Signed),
    Changed = setelement(6, Signed, {'Validity', From, {utcTime, Text}}),
    Again = public_key:pkix_sign(Changed, Key),
    ok = file:write_file(File, public_key:pem_encode([{'Certificate', Again, not_encrypted}])),
    Pair.
