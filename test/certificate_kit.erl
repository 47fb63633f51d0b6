%% Certificates of a suite's own, made by openssl: an authority that nobody knows, and what it
%% issues.
-module(certificate_kit).

-include_lib("stdlib/include/assert.hrl").

-export([authority/1, issued/2, issued/3, client/3, expired/2, ending/2, self_signed/2]).
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

%% Names as in a subjectAltName, "DNS:localhost,IP:127.0.0.1".
-spec issued(pair(), string()) -> pair().
issued(Authority, Names) ->
    issued(Authority, Names, 30).

%% The same, good for so many days.
-spec issued(pair(), string(), pos_integer()) -> pair().
issued(Authority, Names, Days) ->
    made_by(Authority, "/CN=server", Names, "-days " ++ integer_to_list(Days)).

%% A client's: the subject as openssl takes it, "/O=Example/CN=alice".
-spec client(pair(), Subject :: string(), Names :: string()) -> pair().
client(Authority, Subject, Names) ->
    made_by(Authority, Subject, Names, "-days 30").

%% The same, that was good for a month of 2020.
-spec expired(pair(), string()) -> pair().
expired(Authority, Names) ->
    made_by(Authority, "/CN=server", Names, "-startdate 20200101000000Z -enddate 20200201000000Z").

%% `openssl x509` of OpenSSL 3.5 makes none that ends before it begins, and that of 3.0 none that
%% does not begin now; `openssl ca` takes both times.
made_by(#{certificate := Ca, key := CaKey}, Subject, Names, Validity) ->
    Dir = filename:dirname(Ca),
    made(Dir, fun(#{certificate := Certificate, key := Key}) ->
        [Config, Index, Request] = [Key ++ Kind || Kind <- [".cnf", ".index", ".csr"]],
        ok = file:write_file(Index, []),
        ok = file:write_file(Config, ["[ca]\ndefault_ca = it\n"
                                      "[it]\ndatabase = ", Index, "\nnew_certs_dir = ", Dir, "\n"
                                      "rand_serial = yes\ndefault_md = sha256\n"
                                      "copy_extensions = copy\npolicy = any\n"
                                      "[any]\norganizationName = optional\n"
                                      "commonName = supplied\n"]),
        ["openssl req -new " ?NEW_KEY " -subj '", Subject, "' -addext subjectAltName=",
         Names, " -keyout ", Key, " -out ", Request, " && openssl ca -batch -notext -config ",
         Config, " -cert ", Ca, " -keyfile ", CaKey, " ", Validity, " -in ", Request,
         " -out ", Certificate]
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
