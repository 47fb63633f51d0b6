%% What meerkat_doctor says of certificates: for how long they are good still, and whether what is
%% in their files now is in force.
-module(meerkat_doctor_certificates).

-export([examine/1]).

%% Days before the end of a certificate at which to warn. Whoever renews it automatically has done
%% so before.
-define(WARN_DAYS, 14).

%% Of a configuration as it was read, or of what a running server says of itself.
-spec examine(#{certificates => [map()], client_authorities => [map()],
                certificates_refused => null | binary(), _ => _}) ->
    [{meerkat_doctor:verdict(), unicode:chardata(), Remedy :: none | unicode:chardata()}].
examine(Config) ->
    [certificate(shown(C)) || C <- maps:get(certificates, Config, [])]
        ++ [authority(shown(A)) || A <- maps:get(client_authorities, Config, [])]
        ++ [{error, ["not in force: ", meerkat_text:printable(Why)],
             "those before are shown until the files are right"}
            || #{certificates_refused := Why} <- [Config], is_binary(Why)].

shown(#{chain := Pem, chain_file := File}) -> of_pem(Pem, File);
shown(#{pem := Pem, file := File}) -> of_pem(Pem, File);
shown(Told) -> Told.

of_pem(Pem, File) ->
    case meerkat_certificate:in_pem(Pem) of
        {ok, #{not_after := End}} ->
            #{file => File, days_left => meerkat_certificate:days_left(End)};
        _ ->
            #{file => File}
    end.

certificate(#{file := File, days_left := Days}) when Days < 0 ->
    {error, [meerkat_text:printable(File), " is over: clients refuse it"], remedy()};
certificate(#{file := File, days_left := Days}) ->
    Text = [meerkat_text:printable(File), io_lib:format(" is good for ~b days", [Days])],
    case Days < ?WARN_DAYS of
        true -> {warning, Text, remedy()};
        false -> {ok, Text, none}
    end;
certificate(#{file := File}) ->
    {unknown, [meerkat_text:printable(File), " cannot be read here"],
     "a PEM file, and the Erlang application public_key (Debian: erlang-public-key)"}.

%% When the certificate of an authority has expired, no client that it vouches for can connect.
authority(#{file := File, days_left := Days}) when Days < 0 ->
    {error, [meerkat_text:printable(File),
             " is over: certificates of clients that it vouches for are refused"], remedy()};
authority(Authority) ->
    certificate(Authority).

remedy() ->
    "put another one in its place; a server that runs notices by itself (docs/certificates.md)".
