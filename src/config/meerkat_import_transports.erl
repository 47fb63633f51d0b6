%% How clients may come in by a turnserver.conf: UDP, TCP and TLS, and the certificate. Pure:
%% whether the files are there is found out by whoever reads the configuration.
-module(meerkat_import_transports).

-export([settings/1, keys/0]).

-import(meerkat_import_lines, [all/2, last/2]).

%% Those that are looked at here.
-spec keys() -> [binary()].
keys() ->
    [<<"no-udp">>, <<"no-tcp">>, <<"no-tls">>, <<"cert">>, <<"pkey">>, <<"pkey-pwd">>,
     <<"CA-file">>,
     <<"tls-listening-port">>, <<"cipher-list">>, <<"no-tlsv1_2">>, <<"tlsv1">>, <<"tlsv1_1">>].

-spec settings([meerkat_import_lines:entry()]) ->
    {[meerkat_import:setting()], [meerkat_import_lines:note()]}.
settings(Entries) ->
    Tls = case on(<<"no-tls">>, Entries) of
        [] -> tls(value(<<"cert">>, Entries), value(<<"pkey">>, Entries), Entries);
        [Line | _] -> no_tls(Line, Entries)
    end,
    Off = off(<<"no-udp">>, udp_enabled, Entries) ++ off(<<"no-tcp">>, tcp_enabled, Entries),
    Parts = [{Off, []}, Tls, {[], protocol(Entries)}],
    {lists:append([S || {S, _} <- Parts]), lists:append([N || {_, N} <- Parts])}.

on(Key, Entries) ->
    [Line || {ok, Line, Value} <- [last(Key, Entries)],
             meerkat_import_lines:switch(Value) =:= on].

off(Key, Ours, Entries) ->
    [{Ours, "false", [Line]} || Line <- on(Key, Entries)].

%% A name of a file has no comment behind it: to turnserver it would be part of it.
value(Key, Entries) ->
    case last(Key, Entries) of
        {ok, Line, Value} when Value =/= <<>> -> {Line, Value};
        _ -> none
    end.

%% turnserver looks for its certificate in turn_server_cert.pem where none is named, and serves no
%% TLS where that is not there.
tls(none, none, Entries) ->
    {[], [{Line, [Key, " without cert and pkey: TLS is served where `tls_cert` and `tls_key` name "
                  "files"]}
          || Key <- [<<"tls-listening-port">>, <<"CA-file">>], {Line, _} <- all(Key, Entries)]
             ++ password(Entries)};
tls({Line, _}, none, Entries) ->
    {[], [{Line, "cert without pkey: `tls_cert` and `tls_key` name two files, or twice the same if "
                 "certificate and key are in one"} | password(Entries)]};
tls(none, {Line, _}, Entries) ->
    {[], [{Line, "pkey without cert: `tls_cert` and `tls_key` name two files, or twice the same if "
                 "certificate and key are in one"} | password(Entries)]};
tls({CertLine, Cert}, {KeyLine, Key}, Entries) ->
    {Port, Notes} = port(Entries),
    Ca = [{Line, File} || {Line, File} <- [value(<<"CA-file">>, Entries)]],
    {[{tls_cert, meerkat_config_value:libconfig_list([Cert]), [CertLine]},
      {tls_key, meerkat_config_value:libconfig_list([Key]), [KeyLine]} | Port]
         ++ [{tls_client_ca, meerkat_config_value:libconfig_list([File]), [Line]}
             || {Line, File} <- Ca],
     relative([{CertLine, <<"cert">>, Cert}, {KeyLine, <<"pkey">>, Key}]
                  ++ [{Line, <<"CA-file">>, File} || {Line, File} <- Ca])
         ++ Notes ++ password(Entries)}.

no_tls(Line, Entries) ->
    {[], [{Line, "no-tls: TLS is served where `tls_cert` names a certificate; here it names none"}
          || Key <- [<<"cert">>, <<"pkey">>], all(Key, Entries) =/= []]}.

port(Entries) ->
    case last(<<"tls-listening-port">>, Entries) of
        {ok, Line, Text} ->
            Number = meerkat_import_lines:number(Text),
            case meerkat_config_value:parse_text({integer, 0, 65535}, Number) of
                {ok, Port} ->
                    {[{tls_port, integer_to_binary(Port), [Line]}],
                     [{Line, "tls-listening-port: turnserver takes TCP without TLS and UDP there "
                             "too, this server nothing but TLS; `extra_listeners` adds ports that "
                             "take all of them"}]};
                {error, {Shown, Allowed}} ->
                    {[], [{Line, ["tls-listening-port is ", Shown, "; it must be ", Allowed]}]}
            end;
        none ->
            {[], []}
    end.

%% turnserver looks in several directories; nobody else knows which it was.
relative(Files) ->
    [{Line, [Key, ": \"", meerkat_text:escape(File), "\" is looked for where this server is "
             "started; an absolute path is safer"]}
     || {Line, Key, File} <- Files, binary:first(File) =/= $/].

password(Entries) ->
    [{Line, "pkey-pwd: the key must be stored without a passphrase: `openssl pkey -in FILE -out "
            "FILE`"} || {Line, _} <- all(<<"pkey-pwd">>, Entries)].

protocol(Entries) ->
    [{Line, [Key, Why]}
     || {Key, Why} <- [{<<"cipher-list">>,
                        ": TLS is spoken with AES-GCM and ChaCha20, forward secrecy always, which "
                        "cannot be set"},
                       {<<"no-tlsv1_2">>, ": TLS 1.2 is served beside 1.3"},
                       {<<"tlsv1">>, ": nothing older than TLS 1.2 is served"},
                       {<<"tlsv1_1">>, ": nothing older than TLS 1.2 is served"}],
        {Line, _} <- all(Key, Entries)].
