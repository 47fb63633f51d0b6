%% Certificates of a suite's own, made by openssl: an authority that nobody knows, and what it
%% issues.
-module(certificate_kit).

-include_lib("stdlib/include/assert.hrl").

-export([authority/1, issued/2, self_signed/2]).
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
