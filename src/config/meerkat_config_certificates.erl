%% The files of the keys tls_cert and tls_key, read: at the start, and again when they may have
%% changed. Whether what is in them is a certificate and its key the relay program says, which has
%% OpenSSL for it.
-module(meerkat_config_certificates).

-import(meerkat_config_origin, [named/2]).

-export([read/1, again/1, is_certificate/1]).
-export_type([certificate/0]).

%% PEM each, and where it came from. `followed`: these are files, which are looked at again while
%% the server runs. `self_signed`: made by us (meerkat_self_signed).
-type certificate() :: #{chain := binary(), key := binary(),
                         chain_file := binary(), key_file := binary(),
                         followed => true, self_signed => true}.

%% Errors are sentences that name key and file.
-spec read(meerkat_config_origin:resolved()) ->
    {ok, [certificate()]} | {error, [unicode:chardata(), ...]}.
read(#{tls_cert := {Chains, _}, tls_key := {Keys, _}} = Resolved)
  when length(Chains) =:= length(Keys) ->
    Named = fun(Key) -> named(Key, Resolved) end,
    collected([certificate(Chain, Key, Named) || {Chain, Key} <- lists:zip(Chains, Keys)]);
read(#{tls_cert := {Chains, _}, tls_key := {Keys, _}} = Resolved) ->
    {error, [io_lib:format("~ts names ~b files and ~ts names ~b; each certificate needs its key",
                           [named(tls_cert, Resolved), length(Chains), named(tls_key, Resolved),
                            length(Keys)])]}.

%% What is in the same files now; `same` where that is what was in them.
-spec again([certificate()]) ->
    {ok, [certificate()]} | same | {error, [unicode:chardata(), ...]}.
again(Certificates) ->
    case collected([reread(Certificate) || Certificate <- Certificates]) of
        {ok, Certificates} -> same;
        Found -> Found
    end.

reread(#{followed := true, chain_file := Chain, key_file := Key}) ->
    certificate(Chain, Key, fun atom_to_binary/1);
reread(Certificate) ->
    {ok, Certificate}.

collected(Read) ->
    case lists:append([Mistakes || {error, Mistakes} <- Read]) of
        [] -> {ok, [Certificate || {ok, Certificate} <- Read]};
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

content(Key, File) ->
    case file:read_file(File) of
        {ok, Content} ->
            {ok, Content};
        {error, Reason} ->
            %% However long its name is: it is what has to be looked at.
            {error, [Key, ": \"", meerkat_text:printable(File), "\" cannot be read: ",
                     file:format_error(Reason)]}
    end.

%% As read/1 makes them, or somebody by hand.
-spec is_certificate(term()) -> boolean().
is_certificate(#{chain := Chain, key := Key, chain_file := ChainFile,
                 key_file := KeyFile} = Given) ->
    lists:all(fun is_binary/1, [Chain, Key, ChainFile, KeyFile])
        andalso lists:all(fun(Flag) -> maps:get(Flag, Given, true) =:= true end,
                          [followed, self_signed]);
is_certificate(_) ->
    false.
