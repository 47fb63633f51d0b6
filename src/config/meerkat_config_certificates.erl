%% Reads the files of the keys tls_cert, tls_key and tls_client_ca: at the start, and again when
%% they may have changed. Whether there is a certificate with its key in them is checked by the
%% relay program, with OpenSSL.
-module(meerkat_config_certificates).

-import(meerkat_config_origin, [named/2]).

-export([read/1, again/1, is_certificate/1, is_authority/1]).
-export_type([certificate/0, authority/0, pem/0]).

%% PEM each, and where it came from. `followed`: these are files, which are looked at again while
%% the server runs. `self_signed`: made by us (meerkat_self_signed).
-type certificate() :: #{chain := binary(), key := binary(),
                         chain_file := binary(), key_file := binary(),
                         followed => true, self_signed => true}.
%% A file of authorities that issue certificates to clients; there may be several in one.
-type authority() :: #{pem := binary(), file := binary(), followed => true}.
%% What is made of these keys in a configuration.
-type pem() :: #{certificates := [certificate()], client_authorities => [authority()], _ => _}.

%% Errors are sentences that name key and file.
-spec read(meerkat_config_origin:resolved()) -> {ok, pem()} | {error, [unicode:chardata(), ...]}.
read(#{tls_cert := {Chains, _}, tls_key := {Keys, _}, tls_client_ca := {Files, _}} = Resolved)
  when length(Chains) =:= length(Keys) ->
    Named = fun(Key) -> named(Key, Resolved) end,
    together(collected([certificate(Chain, Key, Named) || {Chain, Key} <- lists:zip(Chains, Keys)]),
             collected([authority(File, Named) || File <- Files]));
read(#{tls_cert := {Chains, _}, tls_key := {Keys, _}} = Resolved) ->
    {error, [io_lib:format("~ts names ~b files and ~ts names ~b; each certificate needs its key",
                           [named(tls_cert, Resolved), length(Chains), named(tls_key, Resolved),
                            length(Keys)])]}.

together({ok, Certificates}, {ok, Authorities}) ->
    {ok, #{certificates => Certificates, client_authorities => Authorities}};
together(Certificates, Authorities) ->
    {error, lists:append([Mistakes || {error, Mistakes} <- [Certificates, Authorities]])}.

%% What is in the same files now; `same` where that is what was in them.
-spec again(pem()) -> {ok, pem()} | same | {error, [unicode:chardata(), ...]}.
again(#{certificates := Certificates} = Config) ->
    Authorities = maps:get(client_authorities, Config, []),
    Before = #{certificates => Certificates, client_authorities => Authorities},
    case together(collected([reread(Certificate) || Certificate <- Certificates]),
                  collected([reread(Authority) || Authority <- Authorities])) of
        {ok, Before} -> same;
        Found -> Found
    end.

reread(#{followed := true, chain_file := Chain, key_file := Key}) ->
    certificate(Chain, Key, fun atom_to_binary/1);
reread(#{followed := true, file := File}) ->
    authority(File, fun atom_to_binary/1);
reread(Given) ->
    {ok, Given}.

collected(Read) ->
    case lists:append([Mistakes || {error, Mistakes} <- Read]) of
        [] -> {ok, [Pem || {ok, Pem} <- Read]};
        Mistakes -> {error, Mistakes}
    end.

certificate(ChainFile, KeyFile, Named) ->
    case {content(Named(tls_cert), ChainFile), content(Named(tls_key), KeyFile)} of
        {{ok, Chain}, {ok, Key}} ->
            {ok, #{chain => Chain, key => Key, chain_file => ChainFile, key_file => KeyFile,
                   followed => true}};
        Read ->
            {error, [Mistake || {error, Mistake} <- tuple_to_list(Read)]}
    end.

authority(File, Named) ->
    case content(Named(tls_client_ca), File) of
        {ok, Pem} -> {ok, #{pem => Pem, file => File, followed => true}};
        {error, Mistake} -> {error, [Mistake]}
    end.

content(Key, File) ->
    case file:read_file(File) of
        {ok, Content} ->
            {ok, Content};
        {error, Reason} ->
            %% The whole name, however long: the operator has to look at this file.
            {error, [Key, ": \"", meerkat_text:printable(File), "\" cannot be read: ",
                     file:format_error(Reason)]}
    end.

%% Is this a certificate as read/1 makes them? In a map made by hand it may be anything.
-spec is_certificate(term()) -> boolean().
is_certificate(#{chain := Chain, key := Key, chain_file := ChainFile,
                 key_file := KeyFile} = Given) ->
    lists:all(fun is_binary/1, [Chain, Key, ChainFile, KeyFile])
        andalso lists:all(fun(Flag) -> maps:get(Flag, Given, true) =:= true end,
                          [followed, self_signed]);
is_certificate(_) ->
    false.

-spec is_authority(term()) -> boolean().
is_authority(#{pem := Pem, file := File} = Given) ->
    is_binary(Pem) andalso is_binary(File) andalso maps:get(followed, Given, true) =:= true;
is_authority(_) ->
    false.
