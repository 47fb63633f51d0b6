%% The configuration of a server: defaults, then a file, then the environment, made into the one
%% map that the rest works with. What is wrong with it is told here, in sentences for the operator.
%% It opens no socket and starts nothing.
-module(meerkat_config).

-export([load/1, effective/1, effective/2, what_secret_opens/1, again/1, again/2]).
-import(meerkat_config_origin, [at/1]).

-export_type([config/0, options/0, host/0, listener/0, setting/0]).

-type listener() :: #{
    transport := udp | tcp | tls | dtls,
    ip := any | inet:ip_address(),
    port := inet:port_number(),
    %% Of its own, in place of the server's.
    realm => binary(),
    %% The listener with the other address and the other port, for RFC 5780.
    other => {inet:ip_address(), inet:port_number()}
}.
%% Lifetimes in seconds. `settings` holds each key with its value and origin as text, secrets
%% masked, for effective/1.
-type config() :: #{
    realm := binary(),
    strict_realm := boolean(),
    secrets := [binary(), ...],
    secret_as_password := boolean() | auto,
    users := #{binary() => meerkat_config_group:user()},
    realms := [#{name := binary(), atom() => meerkat_config_value:value()}],
    listeners := [listener(), ...],
    certificates := [meerkat_config_certificates:certificate()],
    client_authorities := [meerkat_config_certificates:authority()],
    tls_client_verify := required | optional,
    tls_self_signed := boolean(),
    dtls_enabled := boolean(),
    relays := [meerkat_config_relays:relay()],
    %% What they were made of, where they follow the addresses of this machine.
    addresses => meerkat_config_origin:resolved(),
    workers := 0..255,
    max_allocations := pos_integer(),
    password_algorithms := boolean(),
    require_sha256 := boolean(),
    username_anonymity := boolean(),
    credential_leeway := non_neg_integer(),
    credential_sha256 := boolean(),
    credential_name_first := boolean(),
    token_keys := [meerkat_auth_token:key()],
    jwt_audience := undefined | binary(),
    jwt_issuer := undefined | binary(),
    jwt_required := boolean(),
    expire_with_credentials := boolean(),
    failed_authentication_rate := non_neg_integer(),
    total_quota := non_neg_integer(),
    user_quota := non_neg_integer(),
    user_quota_replaces := boolean(),
    max_allocations_per_address := non_neg_integer(),
    max_bps := non_neg_integer(),
    max_pps := non_neg_integer(),
    user_bps := non_neg_integer(),
    bps_capacity := non_neg_integer(),
    unauthenticated_rate := non_neg_integer(),
    unauthenticated_burst := pos_integer(),
    alternate_server := [{inet:ip_address(), inet:port_number()}],
    fleet := [binary()],
    fleet_ip := undefined | inet:ip_address(),
    fleet_port := inet:port_number(),
    fleet_secret | fleet_cert | fleet_key | fleet_ca | fleet_region := undefined | binary(),
    fleet_services := pos_integer(),
    anycast_ip := [inet:ip_address()],
    new_peers_rate := non_neg_integer(),
    max_permissions := pos_integer(),
    io_backend := auto | io_uring | epoll,
    receive_buffer := pos_integer(),
    send_buffer := pos_integer(),
    default_lifetime := pos_integer(),
    max_lifetime := pos_integer(),
    nonce_lifetime := pos_integer(),
    rfc5766_channel_numbers := boolean(),
    rfc3489_compatibility := boolean(),
    mobility := boolean(),
    allowed_peers := [meerkat_policy:peer()],
    denied_peers := [meerkat_policy:prefix()],
    software := undefined | binary(),
    grants := boolean(),
    shortcuts := boolean(),
    offload := off | auto | xdp | tc,
    offload_interfaces := [binary()],
    log_level := logger:level(),
    log_format := meerkat_log:format(),
    survive := non_neg_integer(),
    drain_deadline := non_neg_integer(),
    users_file := undefined | binary(),
    userdb := undefined | meerkat_config_database:connection(),
    psql_userdb := undefined | meerkat_config_database:connection(),
    mysql_userdb := undefined | meerkat_config_database:connection(),
    redis_userdb := undefined | meerkat_config_database:connection(),
    ldap_userdb := undefined | meerkat_config_database:connection(),
    http_userdb := undefined | meerkat_config_database:connection(),
    database_sha256 := boolean(),
    database_pool := pos_integer(),
    database_refresh := pos_integer(),
    cache_lifetime := pos_integer(),
    cache_unknown_lifetime := pos_integer(),
    cache_grace := non_neg_integer(),
    cache_size := pos_integer(),
    %% Those of users_file, where that is set.
    added_users => meerkat_config_users:added(),
    %% Those of a database.
    stored_realms => #{Realm :: binary() => #{meerkat_config_group:stored() =>
                                                  non_neg_integer()}},
    stored_peers => #{allowed | denied => [meerkat_policy:prefix()]},
    http_listen := undefined | {inet:ip_address(), inet:port_number()},
    http_token := undefined | binary(),
    acme_webroot := undefined | binary(),
    xmpp_host := [{binary() | inet:ip_address(), inet:port_number() | default}],
    xmpp_port := inet:port_number(),
    xmpp_component := undefined | binary(),
    xmpp_secret := undefined | binary(),
    xmpp_domains := [binary()],
    xmpp_admins := [binary()],
    xmpp_ttl := pos_integer(),
    xmpp_rate := non_neg_integer(),
    xmpp_ping_interval := pos_integer(),
    xmpp_is_subdomain := boolean(),
    accounting_file := undefined | binary(),
    accounting_url := undefined | binary(),
    accounting_token := undefined | binary(),
    accounting_ca_file := undefined | binary(),
    accounting_database := undefined | meerkat_config_database:connection(),
    accounting_create_table := boolean(),
    redis_statsdb := undefined | meerkat_config_database:connection(),
    media_sample := non_neg_integer(),
    accounting_interval := non_neg_integer(),
    accounting_spool := undefined | binary(),
    accounting_spool_bytes := pos_integer(),
    settings := [setting()]
}.
%% A key of the server, or one that a group of the key `realms` has, which is then named. The value
%% as JSON has it, and as text for people; secrets are masked in both.
-type setting() :: #{
    realm => binary(),
    key := atom(),
    value := meerkat_json:value(),
    text := binary(),
    origin := binary()
}.
%% What is asked of the machine; the functions of meerkat_host but in tests.
-type host() :: #{
    route := fun((inet | inet6) -> {ok, inet:ip_address()} | none),
    first := fun((inet | inet6) -> {ok, inet:ip_address()} | none),
    bindable := fun((inet:ip_address()) -> boolean()),
    on_link => fun((inet:ip_address()) -> boolean())
}.
%% file: the default is what CONFIG_FILE of the environment says, if anything; env: the default is
%% that of this process; terms: in place of a file; own_node: it is for a node of Meerkat's own,
%% which has to see itself to it that the others of its fleet can reach it.
-type options() :: #{
    file => none | file:name_all(),
    terms => meerkat_config_terms:terms(),
    env => [{Name :: unicode:chardata(), Value :: unicode:chardata()}],
    host => host(),
    own_node => true
}.

-define(MONGOOSEICE, "MONGOOSEICE_").
-define(FILE_NAME_MAX, 1023).
%% MongooseICE read these and did nothing with them.
-define(WITHOUT_EFFECT, [
    <<?MONGOOSEICE "TCP_BIND_IP">>,
    <<?MONGOOSEICE "TCP_PORT">>,
    <<?MONGOOSEICE "TCP_REALM">>,
    <<?MONGOOSEICE "TCP_RELAY_IP">>
]).

%% Reads it all. Warnings and errors are sentences, each one line without its end; errors name
%% every mistake found, with its place. Secrets are in neither.
-spec load(options()) ->
    {ok, config(), Warnings :: [unicode:chardata()]} | {error, [unicode:chardata(), ...]}.
load(Options) ->
    Given = env_map(maps:get(env, Options, meerkat_env:all())),
    Env = maps:filter(fun(Variable, Text) ->
        not meerkat_env:is_service_link(Variable, Text)
    end, Given),
    Host = maps:get(host, Options, host()),
    case leaves(file(Options, Env)) of
        {ok, Read} ->
            {WithSecrets, EnvErrors} = meerkat_config_secret:environment(Env),
            {Leaves, FileErrors} = secret_files(Read),
            {Resolved, Errors} = resolve(WithSecrets, Leaves),
            case EnvErrors ++ FileErrors ++ Errors ++ unknown_keys(Leaves) ++
                meerkat_config_rules:mistakes(Resolved) ++
                [Mistake || is_map_key(own_node, Options),
                            Mistake <- meerkat_config_fleet:mistakes(Resolved)] of
                [] ->
                    Nobody = [Warning || not is_map_key(terms, Options),
                                         Warning <- meerkat_config_rules:nobody(Resolved)],
                    Warnings = service_links(Given) ++ unknown_names(Env) ++ Nobody
                        ++ meerkat_config_rules:warnings(Resolved),
                    derive(Resolved, Host, Warnings);
                Mistakes -> {error, in_order(Mistakes)}
            end;
        {error, Mistake} ->
            {error, [Mistake]}
    end.

%% Each key with its value and where that came from, in the order of the schema; and what each realm
%% has of its own.
-spec effective(config()) -> [setting()].
effective(#{settings := Settings}) ->
    Settings.

%% What counts in one realm: what it has of its own, and what it has from the server. The error is a
%% sentence.
-spec effective(config(), Realm :: binary()) -> {ok, [setting()]} | {error, binary()}.
effective(#{settings := Settings, realm := Realm}, Realm) ->
    {ok, [Setting || Setting <- Settings, not is_map_key(realm, Setting)]};
effective(#{settings := Settings, realms := Realms} = Config, Realm) ->
    Names = [Name || #{name := Name} <- Realms],
    case lists:member(Realm, Names) of
        true ->
            {ok, [in_realm(Realm, Field, Settings) || Field <- realm_fields()]};
        false ->
            Known = [meerkat_config_value:quote(Name) || Name <- [maps:get(realm, Config) | Names]],
            {error, unicode:characters_to_binary(
                        ["there is no realm ", meerkat_config_value:quote(Realm), "; there is ",
                         lists:join(", ", Known)])}
    end.

in_realm(Realm, Field, Settings) ->
    case [Own || #{realm := In, key := Key} = Own <- Settings, In =:= Realm, Key =:= Field] of
        [Own] -> Own;
        %% The server's value limits all realms together; a realm without one of its own has none.
        [] when Field =:= total_quota ->
            #{realm => Realm, key => Field, value => 0, text => <<"0">>, origin => <<"default">>};
        [] ->
            #{origin := Origin} = Servers = of_server(Field, Settings),
            Servers#{realm => Realm, origin := <<Origin/binary, ", as for the server">>}
    end.

of_server(Key, Settings) ->
    [Setting] = [S || #{key := K} = S <- Settings, K =:= Key, not is_map_key(realm, S)],
    Setting.

realm_fields() ->
    [Field || #{key := Field} <- meerkat_config_schema:rows(),
              is_map_key(Field, meerkat_config_group:types(realms))].

%% A sentence for the start: what the secret is good for, where one is set.
-spec what_secret_opens(config()) -> [unicode:chardata()].
what_secret_opens(#{settings := Settings} = Config) ->
    case {of_server(secret, Settings), Config} of
        {#{value := random}, _} -> [];
        {_, #{secrets := []}} -> [];
        {_, #{secret_as_password := true}} ->
            ["the secret signs time-limited credentials, and is the password of any username "
             "besides (secret_as_password)"];
        {_, _} ->
            ["the secret signs time-limited credentials, and is no password by itself "
             "(secret_as_password)"]
    end.

host() ->
    #{
        route => fun meerkat_host:route/1,
        first => fun meerkat_host:first/1,
        bindable => fun meerkat_host:bindable/1,
        on_link => fun meerkat_host:on_link/1
    }.

%% A variable that is empty counts as unset.
env_map(Env) ->
    maps:from_list([
        {bytes(Name), Text}
     || {Name, Value} <- Env,
        Text <- [bytes(Value)],
        re:run(Text, "\\S") =/= nomatch
    ]).

bytes(Bytes) when is_binary(Bytes) -> Bytes;
bytes(Text) -> unicode:characters_to_binary(Text).

%%
%% The file
%%

file(#{terms := Terms}, _) -> {terms, Terms};
file(#{file := File}, _) -> File;
file(_, #{<<"CONFIG_FILE">> := File}) -> File;
file(_, _) -> none.

leaves(none) ->
    {ok, #{}};
leaves({terms, Terms}) ->
    {ok, by_key(meerkat_config_terms:scalars(Terms))};
leaves(File) ->
    case read(name(File)) of
        {ok, Scalars} -> {ok, by_key(Scalars)};
        {error, {Name, Line, Reason}} -> {error, [at(#{file => Name, line => Line}), ": ", Reason]}
    end.

by_key(Scalars) ->
    maps:groups_from_list(
        fun({[Key | _], _, _}) -> Key end,
        fun({[_ | Path], Value, Place}) -> {Path, Value, Place} end,
        Scalars
    ).

name(File) when is_binary(File) -> File;
name(File) -> meerkat_env:bytes(filename:flatten(File)).

%% No file has a longer name, and meerkat_conf_nif:read/1 would end with badarg.
read(File) when byte_size(File) > ?FILE_NAME_MAX ->
    {error, {meerkat_text:escape(File), 0, "this is too long for the name of a file"}};
read(File) ->
    meerkat_conf_nif:read(File).

%% Mistakes that belong to no line first, then those of files in the order of their lines.
in_order(Mistakes) ->
    Placed = lists:keysort(1, [{place(Mistake), Mistake} || Mistake <- Mistakes]),
    [Mistake || {_, Mistake} <- Placed].

place(Mistake) ->
    Text = unicode:characters_to_binary(Mistake),
    case is_binary(Text) andalso re:run(Text, "^([^\n]*?):([0-9]+): ",
                                        [{capture, all_but_first, binary}]) of
        {match, [File, Line]} -> {File, binary_to_integer(Line)};
        _ -> {<<>>, 0}
    end.

%% Secrets that lie in files of their own, read.
secret_files(Read) ->
    {Leaves, Mistakes} = meerkat_config_secret:leaves(Read),
    {Leaves, [Sentence || {_, Sentence} <- Mistakes]}.

unknown_keys(Leaves) ->
    Keys = meerkat_config_schema:keys(),
    Files = [meerkat_config_secret:key(Key) || Key <- meerkat_config_secret:keys()],
    Known = Keys ++ Files,
    [
        [
            at(Place), ": there is no key ", meerkat_config_value:quote(Key),
            meant(Key, Known, "; docs/configuration.md lists them")
        ]
     || {Key, [{_, _, Place} | _]} <- lists:sort(maps:to_list(Leaves)),
        not lists:member(Key, Known)
    ].

meant(Name, Known, Otherwise) ->
    case meerkat_spelling:nearest(Name, Known) of
        {ok, Near} -> ["; did you mean ", Near, "?"];
        error -> Otherwise
    end.

%%
%% One value for each key
%%

%% A mistake in the file is told even where the environment has a value, which then counts.
-spec resolve(map(), map()) -> {meerkat_config_origin:resolved(), [unicode:chardata()]}.
resolve(Env, Leaves) ->
    lists:foldl(
        fun(#{key := Key} = Row, {Resolved, Errors}) ->
            Found = [from_env(Row, Env), from_file(Row, Leaves)],
            Mistakes = lists:append([Those || {error, Those} <- Found]),
            [First | _] = [Value || {ok, Value} <- Found] ++ [from_defaults(Row, Env)],
            {Resolved#{Key => of_mongooseice(Row, First, Env)}, Errors ++ Mistakes}
        end,
        {#{}, []},
        meerkat_config_schema:rows()
    ).

%% The environment has variables for one user.
from_env(#{key := users, env := [Name, Password]}, Env) ->
    case {maps:get(Name, Env, none), maps:get(Password, Env, none)} of
        {none, none} ->
            none;
        {User, Text} when User =:= none; Text =:= none ->
            Missing = case User of none -> Name; _ -> Password end,
            {error, [[hd([Name, Password] -- [Missing]), " is set, but ", Missing, " is not"]]};
        {User, Text} ->
            Proof = from_text(password, Password, Text),
            case {from_text({opaque_string, 508}, Name, User), Proof} of
                {{ok, {Known, _}}, {ok, {Proven, _}}} ->
                    {ok, {#{Known => {password, Proven}}, {env, Name}}};
                {OfUser, OfProof} ->
                    {error, lists:append([Those || {error, Those} <- [OfUser, OfProof]])}
            end
    end;
from_env(#{type := Type, env := Names}, Env) ->
    case [Name || Name <- Names, is_map_key(Name, Env)] of
        [Name | _] -> from_text(Type, Name, maps:get(Name, Env));
        [] -> none
    end.

from_text({list, Type}, _, {lines, Variable, Lines}) ->
    case [Failure || Line <- Lines,
                     {error, Failure} <- [meerkat_config_value:parse_text(Type, Line)]] of
        [] -> {ok, {Lines, {env, Variable}}};
        Failures -> {error, [mistake(Variable, Failure) || Failure <- Failures]}
    end;
from_text(Type, _, {lines, Variable, [Line]}) ->
    from_text(Type, Variable, Line);
from_text(Type, _, {lines, Variable, _}) ->
    {error, [mistake(Variable, {"a file of several lines", meerkat_config_value:allowed(Type)})]};
from_text(Type, Name, Text) ->
    case meerkat_config_value:parse_text(Type, Text) of
        {ok, Value} -> {ok, {Value, {env, Name}}};
        {error, Failure} -> {error, [mistake(Name, Failure)]}
    end.

from_file(#{key := Key, type := Type}, Leaves) ->
    Name = atom_to_binary(Key),
    case Leaves of
        #{Name := Found} ->
            case meerkat_config_value:parse_leaves(Type, Found) of
                {ok, Value} -> {ok, {Value, {file, element(3, hd(Found))}}};
                {error, Failures} ->
                    {error, [mistake([at(Place), ": ", Name], Failure)
                             || {Failure, Place} <- Failures]}
            end;
        #{} ->
            none
    end.

mistake(Where, {Shown, Allowed}) ->
    [Where, " is ", Shown, "; it must be ", Allowed].

from_defaults(#{default := Default}, _) ->
    {Default, default}.

%% MongooseICE's clients draw channel numbers up to 0x7FFF and may have its secret as their
%% password, so whoever comes with its variables gets both accepted without asking.
of_mongooseice(#{key := rfc5766_channel_numbers}, {_, default} = Value, Env) ->
    beside_mongooseice(Value, Env);
of_mongooseice(#{key := secret_as_password}, {auto, _} = Value, Env) ->
    beside_mongooseice(Value, Env);
of_mongooseice(_Row, Value, _Env) ->
    Value.

beside_mongooseice(Value, Env) ->
    Known = [<<?MONGOOSEICE "STUN_SECRET_FILE">> | ?WITHOUT_EFFECT] ++
        meerkat_config_schema:environment(),
    case [Name || <<?MONGOOSEICE, _/binary>> = Name <- Known, is_map_key(Name, Env)] of
        [_ | _] -> {true, mongooseice};
        [] -> Value
    end.

%%
%% MongooseICE's other variables
%%

%% Variables of our names that Kubernetes has set for a Service.
service_links(Given) ->
    [[Name, " is ", meerkat_config_value:quote(maps:get(Name, Given)), ", which Kubernetes sets "
      "for a Service of that name: it has no effect here"]
     || Name <- meerkat_config_schema:environment(), is_map_key(Name, Given),
        meerkat_env:is_service_link(Name, maps:get(Name, Given))].

unknown_names(Env) ->
    Files = [meerkat_config_secret:variable(V) || V <- meerkat_config_secret:variables()],
    All = [<<"CONFIG_FILE">> | ?WITHOUT_EFFECT] ++ Files
        ++ meerkat_config_schema:environment(),
    lists:append([unknown_name(Name, All) || Name <- lists:sort(maps:keys(Env)),
                                             not lists:member(Name, All)]).

unknown_name(<<?MONGOOSEICE, _/binary>> = Name, All) ->
    Known = [K || <<?MONGOOSEICE, _/binary>> = K <- All],
    [no_effect(Name, meant(Name, Known, ""))];
%% Any other variable is somebody else's, and is told of only where it is nearly a name of ours.
unknown_name(Name, All) ->
    Known = [K || K <- All, string:prefix(K, ?MONGOOSEICE) =:= nomatch],
    case meerkat_spelling:nearest(Name, Known, fun slip/1) of
        {ok, Near} -> [no_effect(Name, ["; did you mean ", Near, "?"])];
        error -> []
    end.

%% In how many letters a name may differ to be taken for a misspelling of this one. Short names are
%% too much like other programs'.
slip(Candidate) when byte_size(Candidate) >= 9 -> 2;
slip(Candidate) when byte_size(Candidate) >= 7 -> 1;
slip(_) -> 0.

no_effect(Name, Meant) ->
    [meerkat_text:escape(Name), " is not a variable Meerkat knows; it has no effect", Meant].

%%
%% The map
%%

derive(#{users_file := {File, _}} = Resolved, Host, Warnings) when File =/= undefined ->
    case {meerkat_config_users:read(File), derived(Resolved, Host, Warnings)} of
        {{ok, Added}, {ok, Config, All}} -> {ok, Config#{added_users => Added}, All};
        {{ok, _}, {error, Mistakes}} -> {error, Mistakes};
        {{error, Mistakes}, {ok, _, _}} -> {error, Mistakes};
        {{error, OfFile}, {error, Mistakes}} -> {error, Mistakes ++ OfFile}
    end;
derive(Resolved, Host, Warnings) ->
    derived(Resolved, Host, Warnings).

derived(Resolved, Host, Warnings) ->
    case {meerkat_config_relays:relays(Resolved, Host),
          meerkat_config_certificates:read(Resolved), meerkat_config_tokens:read(Resolved)} of
        {{ok, Relays, RelayWarnings}, {ok, Pem}, {ok, Tokens}} ->
            {Secrets, SecretWarnings} = secrets(Resolved),
            Plain = maps:with(meerkat_config_schema:plain(), values(Resolved)),
            Config = maps:merge(maps:merge(maps:merge(Plain, Pem), Tokens), #{
                secrets => Secrets,
                listeners => meerkat_config_listeners:listeners(Resolved),
                realms => [realm(Realm) || Realm <- maps:get(realms, values(Resolved))],
                relays => bare(Relays),
                addresses => maps:with([relay_ip, relays, min_port, max_port], Resolved),
                settings => settings(Resolved, Relays)
            }),
            {ok, Config, Warnings ++ RelayWarnings ++ SecretWarnings};
        Read ->
            {error, lists:append([Mistakes || {error, Mistakes} <- tuple_to_list(Read)])}
    end.

%% The same configuration with the addresses to relay from as this machine has them now; `same`
%% where they are the same, or were given in a map made by hand.
-spec again(config()) -> {ok, config(), Warnings :: [unicode:chardata()]} | same.
again(Config) ->
    again(Config, host()).

-spec again(config(), host()) -> {ok, config(), Warnings :: [unicode:chardata()]} | same.
again(#{addresses := Resolved, relays := Before} = Config, Host) ->
    case meerkat_config_relays:relays(Resolved, Host) of
        {ok, [_ | _] = Relays, Warnings} ->
            case bare(Relays) of
                Before -> same;
                Now -> {ok, retold(Config#{relays := Now}, Relays), Warnings}
            end;
        %% The machine has no address now: the one before is kept, for it may come back.
        _ ->
            same
    end;
again(_Config, _Host) ->
    same.

bare(Relays) ->
    [maps:without([key, place], Relay) || Relay <- Relays].

retold(#{settings := Settings} = Config, Relays) ->
    Told = fun
        (#{key := relay_ip} = Setting) -> maps:merge(Setting, relay_ip(Relays));
        (Setting) -> Setting
    end,
    Config#{settings := [Told(Setting) || Setting <- Settings]};
retold(Config, _Relays) ->
    Config.

realm(Group) ->
    maps:from_list([case Field of {secret, Secrets} -> {secrets, Secrets}; _ -> Field end
                    || Field <- maps:to_list(maps:remove(place, Group))]).

values(Resolved) ->
    maps:map(fun(_, {Value, _}) -> Value end, Resolved).

%% A random secret is made at each start and is never part of what is built or shipped. There is no
%% warning where there are users, who need no secret, unless a component of an XMPP server makes
%% credentials with it.
secrets(#{secret := {random, default}, users := {Users, _}, xmpp_host := {Xmpp, _}}) ->
    Warning = "no secret is set: each start draws one; STUN_SECRET or the key secret sets one "
        "that lasts",
    {[base64:encode(crypto:strong_rand_bytes(24))], [Warning || Users =:= #{} orelse Xmpp =/= []]};
secrets(#{secret := {Secrets, _}}) ->
    {Secrets, []}.

settings(Resolved, Relays) ->
    [maps:merge(#{key => Key, origin => meerkat_config_origin:text(Origin)},
                shown(Row, Value, Relays))
     || #{key := Key} = Row <- meerkat_config_schema:rows(),
        {Value, Origin} <- [maps:get(Key, Resolved)]]
        ++ [maps:merge(#{realm => Name, key => Field,
                         origin => meerkat_config_origin:text({file, Place})},
                       shown(#{key => Field, type => Type}, Value, Relays))
            || {Realms, _} <- [maps:get(realms, Resolved)],
               #{name := Name, place := Place} = Realm <- Realms,
               Field <- realm_fields(), #{Field := Value} <- [Realm],
               #{Field := Type} <- [meerkat_config_group:types(realms)]].

%% A value as it is shown; of relay_ip the addresses that were found on this machine.
shown(#{key := relay_ip}, _, Relays) ->
    relay_ip(Relays);
shown(#{type := Type}, Value, _) ->
    meerkat_config_json:shown(Type, Value).

relay_ip(Relays) ->
    Named = [Relay || #{key := relay_ip} = Relay <- Relays],
    #{value => [meerkat_config_json:value(relay_ip, {Told, Local})
                || #{advertised := Told, local := Local} <- Named],
      text => unicode:characters_to_binary(meerkat_config_relays:shown(Named))}.
