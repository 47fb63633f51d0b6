%% The files of the keys tls_cert and tls_key, read. Whether what is in them is a certificate and
%% its key the relay program says, which has OpenSSL for it.
-module(meerkat_config_certificates).

-import(meerkat_config_origin, [named/2]).

-export([read/1, is_certificate/1]).
-export_type([certificate/0]).

%% PEM each, and where it came from.
-type certificate() :: #{chain := binary(), key := binary(),
                         chain_file := binary(), key_file := binary()}.

%% Errors are sentences that name key and file.
-spec read(meerkat_config_origin:resolved()) ->
    {ok, [certificate()]} | {error, [unicode:chardata(), ...]}.
read(#{tls_cert := {Chains, _}, tls_key := {Keys, _}} = Resolved)
  when length(Chains) =:= length(Keys) ->
    Read = [{content(tls_cert, Chain, Resolved), content(tls_key, Key, Resolved), Chain, Key}
            || {Chain, Key} <- lists:zip(Chains, Keys)],
    case [Mistake || {A, B, _, _} <- Read, {error, Mistake} <- [A, B]] of
        [] -> {ok, [#{chain => Chain, key => Key, chain_file => ChainFile, key_file => KeyFile}
                    || {{ok, Chain}, {ok, Key}, ChainFile, KeyFile} <- Read]};
        Mistakes -> {error, Mistakes}
    end;
read(#{tls_cert := {Chains, _}, tls_key := {Keys, _}} = Resolved) ->
    {error, [io_lib:format("~ts names ~b files and ~ts names ~b; each certificate needs its key",
                           [named(tls_cert, Resolved), length(Chains), named(tls_key, Resolved),
                            length(Keys)])]}.

content(Key, File, Resolved) ->
    case file:read_file(File) of
        {ok, Content} ->
            {ok, Content};
        {error, Reason} ->
            {error, [named(Key, Resolved), ": ", meerkat_config_value:quote(File),
                     " cannot be read: ", file:format_error(Reason)]}
    end.

%% As read/1 makes them, or somebody by hand.
-spec is_certificate(term()) -> boolean().
is_certificate(#{chain := Chain, key := Key, chain_file := ChainFile, key_file := KeyFile}) ->
    lists:all(fun is_binary/1, [Chain, Key, ChainFile, KeyFile]);
is_certificate(_) ->
    false.
