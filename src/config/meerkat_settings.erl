%% A configuration map made into what the processes of one server need to know. Opens no socket, and
%% keeps no secret where a crash report could print it.
-module(meerkat_settings).

-export([new/2, renew/2, config/1, owner/2, tenant/2]).
-export([kept/1, adopted/2]).

-export_type([settings/0, listener/0, relay/0, owner/0, tenant/0, shown/0, certificates/0]).

-type listener() :: #{id := pos_integer(),
                      transport := byte(),
                      local := {inet:ip_address(), inet:port_number()},
                      realm := binary(),
                      other := undefined | {inet:ip_address(), inet:port_number()},
                      %% `none`, or a hash of those it shows TLS clients.
                      certificates := none | non_neg_integer(),
                      %% Where one is that is known already: the system may have chosen the port.
                      at => {inet:ip_address(), inet:port_number()},
                      %% Half of `any`: the machine may lack the family.
                      optional := boolean()}.
-type relay() :: #{pool := pos_integer(),
                   local := inet:ip_address(),
                   advertised := inet:ip_address(),
                   min_port := inet:port_number(),
                   max_port := inet:port_number(),
                   %% Whether it may come later.
                   awaited => boolean(),
                   _ => _}.
%% The two funs give the key nonces are made with and the secrets that credentials are made from.
-type settings() :: #{name := atom(),
                      auth := meerkat_auth:auth(),
                      tenants := #{Realm :: binary() => tenant()},
                      failures := meerkat_auth_failures:failures(),
                      %% Of strangers, and of users.
                      refusals := meerkat_refusal_log:refusals(),
                      denials := meerkat_refusal_log:refusals(),
                      notices := meerkat_refusal_log:refusals(),
                      shortages := meerkat_shortage:shortages(),
                      limits := meerkat_alloc_core:limits(),
                      listeners := [listener()],
                      certificates := certificates(),
                      streams := #{queue_ms | per_source => pos_integer()},
                      %% Who stands beside us on the way to clients: FRONT of ctl.def.
                      front := #{proxies := [meerkat_policy:prefix()],
                                 datagrams := boolean(),
                                 backends := [meerkat_config_web:backend()],
                                 names := [binary()],
                                 tells := boolean()},
                      realms := #{Listener :: pos_integer() => binary()},
                      relays := [relay()],
                      rules := [meerkat_policy:rule()],
                      own_kinds := [meerkat_policy:kind()],
                      software := undefined | binary(),
                      %% May the relay answer what was decided before?
                      grants := boolean(),
                      %% Of so many allocations one is looked at; 0: of none.
                      media_sample := non_neg_integer(),
                      usernames := meerkat_auth_rest:order(),
                      tls_client_user := meerkat_client_certificate:rule(),
                      quota := meerkat_quota:limits(),
                      %% Bytes per second in each direction.
                      bandwidth := #{allocation | packets | user | total => non_neg_integer()},
                      alternate_server := [{inet:ip_address(), inet:port_number()}],
                      fleet := [binary()],
                      fleet_region := undefined | binary(),
                      fleet_services := pos_integer(),
                      anycast_ip := [inet:ip_address()],
                      http := #{listen := undefined | {inet:ip_address(), inet:port_number()},
                                token := fun(() -> undefined | binary()),
                                webroot := undefined | binary(),
                                %% Wrong tokens, by source.
                                failures := meerkat_auth_failures:failures()},
                      %% The component: where it connects to, what it is called and goes by.
                      xmpp := none | #{servers := [{binary() | inet:ip_address(),
                                                    inet:port_number()}],
                                       component := binary(),
                                       secret := fun(() -> binary()),
                                       domains := [binary()],
                                       admins := [binary()],
                                       ttl := pos_integer(),
                                       rate := non_neg_integer(),
                                       ping_s := pos_integer(),
                                       is_subdomain := boolean()},
                      %% Where accounting records go and how they are kept: the keys
                      %% accounting_... without that.
                      accounting := #{file | url | ca_file | spool => undefined | binary(),
                                      token := fun(() -> undefined | binary()),
                                      database | redis =>
                                          none | fun(() -> meerkat_config_database:connection()),
                                      create_table := boolean(),
                                      interval | spool_bytes => non_neg_integer()},
                      %% An embedder's modules, each with what it is given.
                      authorizer := none | {module(), term()},
                      events := none | {module(), term()},
                      %% Where users are looked up, in a fun for its password, and how.
                      database := none | fun(() -> term()),
                      lookups := #{pool | refresh_s | lifetime_s | unknown_s | grace_s | size =>
                                       non_neg_integer()},
                      relay_program := default | file:name_all(),
                      relay_config := map(),
                      %% For how many seconds the relay goes on without this VM, and where the
                      %% next one finds it.
                      survive := non_neg_integer(),
                      run_dir := none | file:filename_all(),
                      %% How many VMs have had this relay before.
                      life := non_neg_integer(),
                      nonce_key := fun(() -> <<_:256>>),
                      ticket_key := meerkat_ticket:key(),
                      %% The certificate that we made, where we did; in a fun for its key.
                      self_signed := none | fun(() -> meerkat_config_certificates:certificate()),
                      %% Addresses that are no longer relayed from, but may have allocations.
                      retired := [relay()],
                      %% Listeners that are no more, but may have allocations.
                      retired_listeners := [listener()],
                      %% The last numbers given to listeners and addresses.
                      last_listener := non_neg_integer(),
                      last_pool := non_neg_integer(),
                      secrets := fun(() -> [binary()]),
                      %% Whether the secret was drawn, for none was configured.
                      is_drawn := boolean(),
                      %% What all this was made of; has secrets in it.
                      config := fun(() -> map())}.

%% What TLS clients are shown, if anything.
-type certificates() :: #{pairs := fun(() -> [#{chain := binary(), key := binary()}]),
                          %% Who vouches for those of clients; nobody: they are not asked for one.
                          clients := #{authorities := [#{pem := binary(), file := binary()}],
                                       required := boolean()},
                          shown := [shown()],
                          %% Of those who vouch for clients: the first end of all in a file.
                          vouching := [#{file := binary(), not_after => UnixS :: integer()}],
                          secret := fun(() -> <<_:256>>)}.

%% Of one certificate, what is no secret: where it came from and what is in it. The names are those
%% by which clients may come in by TLS; fingerprint and end are there where Erlang can read it.
-type shown() :: #{file := binary(), key_file := binary(), self_signed := boolean(),
                   names := [meerkat_certificate:name()],
                   fingerprint => string(), not_after => UnixS :: integer()}.

%% What may differ from realm to realm; the server's own is `default`.
-type owner() :: default | Realm :: binary().
-type tenant() :: #{auth := meerkat_auth:auth(),
                    secrets := fun(() -> [binary()]),
                    limits := meerkat_alloc_core:limits(),
                    quota := meerkat_quota:limits(),
                    bandwidth := #{allocation | packets | user | total => non_neg_integer()},
                    _ => _}.

%% What is put in force beside a file, and stays when that is read again.
-define(KEPT, [added_users, stored_peers, stored_realms, run_dir]).
%% Requests the relay may have waiting for us, per worker.
-define(CREDITS, 1024).
%% Of PBKDF2: about a tenth of a second, once at the start.
-define(KEY_ROUNDS, 200000).
%% Per second and source address, before no more are looked at.
-define(WRONG_TOKENS, 2).

%% Settings of the server Name, or what is wrong with Config in one sentence. Keys that are
%% missing take the defaults of docs/configuration.md, the environment is not looked at; besides
%% those of meerkat_config there are
%%   relay_program   path of another relay program than the one in priv
%%   run_dir         a directory of ours, where another VM finds a relay that outlives this one
%%   added_users     users as in `users` of each realm, added while the server runs (meerkat_users)
%%   stored_peers    networks that a database allows and denies (meerkat_database_peers)
%%   stored_realms   limits that a database has for realms (meerkat_database_realms)
%% and a listener may have a `realm` of its own, and `other`: what RFC 5780 calls the alternate
%% address, IP and port, where there is a listener for each combination of the two.
-spec new(Name :: atom(), map()) -> {ok, settings()} | {error, string()}.
new(Name, Given) ->
    IsDrawn = is_drawn(Given),
    new(Name, Given, IsDrawn, fresh(Given, IsDrawn)).

new(Name, Given, IsDrawn, Kept) ->
    {ok, Defaults, _Warnings} = meerkat_config:load(#{file => none, env => []}),
    Config = maps:merge(maps:without([settings | by_hand(Given)], Defaults), Given),
    case meerkat_config_map:wrong(Config) of
        [] ->
            case meerkat_settings_certificates:with_own(prepared(Config), Kept) of
                {ok, Whole} -> {ok, settings(Name, Whole, IsDrawn, Kept)};
                {error, Sentence} -> {error, Sentence}
            end;
        [Key | _] -> {error, lists:flatten(io_lib:format("configuration: ~tp is unknown or has a "
                                                         "value it cannot have", [Key]))}
    end.

%% Relay addresses of a map written by hand are what it says, whatever this machine's are.
by_hand(#{relays := _}) -> [addresses];
by_hand(_) -> [].

%% Settings to take the place of Old while the server runs, or why that needs a restart: only keys
%% that the table calls reloadable may have changed. A secret that was drawn is not drawn again.
-spec renew(map(), settings()) -> {ok, settings()} | {error, string()}.
renew(Given, #{name := Name, config := OldConfig, is_drawn := WasDrawn} = Old) ->
    IsDrawn = is_drawn(Given),
    Whole = maps:merge(maps:with(?KEPT, OldConfig()), Given),
    Kept = case IsDrawn andalso WasDrawn of
        true -> Whole#{secrets => maps:get(secrets, OldConfig())};
        false -> Whole
    end,
    case new(Name, Kept, IsDrawn, maps:with(maps:keys(fresh(#{}, true)), Old)) of
        {ok, #{config := NewConfig} = New} ->
            case changed(OldConfig(), NewConfig()) of
                [] -> {ok, New};
                [Key | _] -> {error, needs_restart(Key)}
            end;
        {error, Sentence} ->
            {error, Sentence}
    end.

%% A map with which renew/2 changes nothing: what these settings were made of. Secrets are in it.
-spec config(settings()) -> map().
config(#{config := Config, is_drawn := true}) -> maps:remove(secrets, Config());
config(#{config := Config}) -> Config().

%% What lives on from settings to settings: keys that clients hold something made with, and the
%% numbers that the relay knows listeners and addresses by, which never mean another.
fresh(Given, IsDrawn) ->
    NonceKey = nonce_key(Given, IsDrawn),
    #{nonce_key => fun() -> NonceKey end,
      ticket_key => meerkat_ticket:new_key(),
      self_signed => none,
      listeners => [],
      realms => #{},
      relays => [],
      retired => [],
      retired_listeners => [],
      last_listener => 0,
      last_pool => 0,
      life => 0}.

%% Nodes of a fleet that have a secret in common take each other's nonces. Whoever asks is given a
%% nonce, and may guess at what its key was made of: each guess is as dear as this.
nonce_key(#{fleet := [_ | _], fleet_secret := Secret}, _IsDrawn) when is_binary(Secret) ->
    nonce_key(Secret);
nonce_key(#{fleet := [_ | _], secrets := [First | _]}, false) ->
    nonce_key(First);
nonce_key(_Given, _IsDrawn) ->
    crypto:strong_rand_bytes(32).

nonce_key(Secret) ->
    crypto:pbkdf2_hmac(sha256, Secret, <<"meerkat nonces">>, ?KEY_ROUNDS, 32).

%%% Another VM

%% What it needs to go on with the relay of this one. Keys are in it.
-spec kept(settings()) -> map().
kept(#{nonce_key := NonceKey, ticket_key := TicketKey, is_drawn := IsDrawn,
       secrets := Secrets} = Settings) ->
    (maps:with([listeners, realms, relays, retired, retired_listeners, last_listener, last_pool,
                life, relay_config], Settings))#{
        nonce_key => NonceKey(),
        ticket_key => meerkat_ticket:raw(TicketKey),
        drawn => case IsDrawn of true -> Secrets(); false -> none end}.

%% Settings, made anew to go on with what kept/1 of another VM has, or why that needs another relay.
-spec adopted(Kept :: map(), settings()) -> {ok, settings()} | {error, string()}.
adopted(#{nonce_key := NonceKey, ticket_key := TicketKey, drawn := Drawn, life := Life,
          relay_config := Was} = Kept,
        #{name := Name, config := Config, is_drawn := IsDrawn, relay_config := Wanted}) ->
    case [Key || {Field, Key} <- meerkat_config_schema:part(relay), not is_reloadable(Key),
                 %% A key that the VM before did not know is of a program that is replaced anyway.
                 maps:get(Field, Was, maps:get(Field, Wanted)) =/= maps:get(Field, Wanted)] of
        [] ->
            Secrets = [{secrets, Drawn} || IsDrawn, Drawn =/= none],
            new(Name, maps:merge(Config(), maps:from_list(Secrets)), IsDrawn,
                maps:merge(fresh(Config(), IsDrawn), maps:merge(
                    maps:with([listeners, realms, relays, retired, retired_listeners,
                               last_listener, last_pool], Kept),
                    #{nonce_key => fun() -> NonceKey end,
                      ticket_key => meerkat_ticket:key(TicketKey),
                      life => Life + 1})));
        [Key | _] ->
            {error, atom_to_list(Key) ++ " is another than it was made with"}
    end.

%% Was the secret made at random, because none is configured?
is_drawn(#{secrets := _, settings := Settings}) ->
    [] =/= [secret || #{key := secret, value := random} <- Settings];
is_drawn(Config) ->
    not is_map_key(secrets, Config).

changed(Old, New) ->
    [Key || Key <- lists:usort(maps:keys(Old) ++ maps:keys(New)),
            maps:find(Key, Old) =/= maps:find(Key, New), not is_reloadable(Key)].

%% The keys of the table, by the names they have in the map; what is not in it came by hand.
is_reloadable(Made) when Made =:= settings; Made =:= addresses ->
    true;
is_reloadable(Added) when Added =:= added_users; Added =:= stored_peers;
                          Added =:= stored_realms ->
    true;
is_reloadable(Key) ->
    Rows = case meerkat_config_schema:made(Key) of
        [] -> [Row || {ok, Row} <- [meerkat_config_schema:find(atom_to_binary(Key))]];
        Made -> Made
    end,
    Rows =/= [] andalso lists:all(fun(#{reloadable := Reloadable}) -> Reloadable end, Rows).

needs_restart(Key) ->
    atom_to_list(Key)
        ++ " cannot change while the server runs: nothing was changed; stop it and start it anew".

settings(Name, Config, IsDrawn, Kept) ->
    #{realm := Realm, secrets := Secrets} = Config,
    #{nonce_key := NonceKey, ticket_key := TicketKey, listeners := ListenersBefore,
      realms := RealmsBefore, relays := RelaysBefore, retired := Retired,
      retired_listeners := RetiredListeners,
      last_listener := LastListener, last_pool := LastPool, life := Life} = Kept,
    {Listeners, Listener} = numbered(id, fun is_same_listener/2, listeners(Config, Realm),
                                     ListenersBefore ++ RetiredListeners, LastListener),
    {Relays, Pool} = numbered(pool, fun is_same_relay/2,
                              maps:get(relays, Config), RelaysBefore ++ Retired, LastPool),
    Limits = limits(Config, TicketKey, Relays),
    Stored = maps:remove(name, stored(Config#{name => Realm}, Config)),
    (as_they_are(Config))#{
      name => Name,
      auth => auth(Name, with_added(Config)),
      tenants => maps:from_list([{maps:get(name, R), tenant_of(R, Name, Config, Limits)}
                                 || Given <- maps:get(realms, Config),
                                    R <- [stored(Given, Config)]]),
      failures => meerkat_auth_failures:new(maps:get(failed_authentication_rate, Config)),
      refusals => meerkat_refusal_log:new(),
      denials => meerkat_refusal_log:new(),
      notices => meerkat_refusal_log:new(),
      shortages => meerkat_shortage:new(),
      limits => Limits#{new_peers := maps:get(new_peers_rate, Stored)},
      listeners => Listeners,
      certificates => meerkat_settings_certificates:all(Config),
      streams => part(streams, Config),
      front => part(front, Config),
      %% Allocations made through a listener that is gone still send requests by it.
      realms => maps:merge(RealmsBefore,
                           maps:from_list([{Id, R} || #{id := Id, realm := R} <- Listeners])),
      relays => Relays,
      retired => (RelaysBefore ++ Retired) -- Relays,
      retired_listeners => without(Listeners, ListenersBefore ++ RetiredListeners),
      last_listener => Listener,
      last_pool => Pool,
      life => Life,
      run_dir => maps:get(run_dir, Config, none),
      rules => meerkat_policy:rules(with_stored_peers(Config)),
      own_kinds => meerkat_policy:own_kinds(Relays),
      usernames => meerkat_auth_rest:order(Config),
      quota => quota(Stored),
      bandwidth => part(bandwidth, Stored),
      http => http(Config),
      xmpp => xmpp(Config),
      accounting => accounting(Config),
      authorizer => maps:get(authorizer, Config, none),
      events => maps:get(events, Config, none),
      relay_program => maps:get(relay_program, Config, default),
      database => database(meerkat_config_database:chosen(Config)),
      lookups => part(lookups, Config),
      relay_config => relay_config(Config, Limits, IsDrawn),
      nonce_key => NonceKey,
      ticket_key => TicketKey,
      self_signed => meerkat_settings_certificates:self_signed(Config),
      secrets => fun() -> Secrets end,
      is_drawn => IsDrawn,
      config => fun() -> Config end}.

%%% Parts of it, by the table: a key that goes there is a row of meerkat_config_schema.

as_they_are(Config) ->
    maps:from_list([{Key, maps:get(Key, Config)}
                    || #{key := Key, gets := Gets} <- meerkat_config_schema:rows(),
                       lists:member(settings, Gets)]).

part(Part, Config) ->
    maps:from_list([{Name, maps:get(Key, Config)}
                    || {Name, Key} <- meerkat_config_schema:part(Part)]).

%% CONFIG of ctl.def, but for the key of nonces.
relay_config(Config, #{channel_max := ChannelMax, max_peers := Permissions}, IsDrawn) ->
    #{sessions_max := Allocations} = Part = part(relay, Config),
    (maps:map(fun field/2, Part))#{
        peers_max => min(Allocations * Permissions, 16#ffffffff),
        credits => ?CREDITS,
        nonce_features => nonce_features(Config, IsDrawn),
        channel_max => ChannelMax}.

%% As ctl.def has it.
field(offload, Way) -> maps:get(Way, #{off => 0, auto => 1, xdp => 2, tc => 3});
field(interfaces, Names) -> iolist_to_binary(lists:join(" ", Names));
field(_Name, Value) -> number(Value).

number(N) when is_integer(N) -> N;
number(false) -> 0;
number(true) -> 1;
number(auto) -> 0;
number(io_uring) -> 1;
number(epoll) -> 2.

limits(#{mobility := Mobility, rfc5766_channel_numbers := Older} = Config, TicketKey, Relays) ->
    Part = part(limits, Config),
    maps:merge(Part#{channel_max => case Older of true -> 16#7fff; false -> 16#4fff end,
                     pools => maps:groups_from_list(fun({_, Ip}) -> family(Ip) end,
                                                    fun(Pool) -> Pool end,
                                                    [{P, Ip} || #{pool := P, local := Ip}
                                                                    <- Relays])},
               maps:from_list([{tickets, TicketKey} || Mobility] ++ tcp(Config))).

tcp(#{tcp_relay := false}) -> [];
tcp(#{tcp_relay := true} = Config) -> [{tcp, part(tcp, Config)}].

quota(#{max_allocations := Max} = Config) ->
    #{total := Total} = Quota = part(quota, Config),
    Quota#{total := case Total of 0 -> Max; _ -> min(Total, Max) end}.

http(Config) ->
    #{token := Token} = Http = part(http, Config),
    Http#{token := fun() -> Token end,
          failures => meerkat_auth_failures:new(?WRONG_TOKENS)}.

accounting(Config) ->
    #{token := Token, database := Database, redis := Redis} = Accounting =
        part(accounting, Config),
    Accounting#{token := fun() -> Token end, database := connection(Database),
                redis := connection(Redis)}.

%% In a fun, for its password.
connection(undefined) -> none;
connection(Connection) -> fun() -> Connection end.

%% meerkat_config_rules sees to it that all of it is there.
xmpp(Config) ->
    case part(xmpp, Config) of
        #{servers := [_ | _] = Servers, component := Component, secret := Secret, port := Default} =
            Xmpp when Component =/= undefined, Secret =/= undefined ->
            (maps:remove(port, Xmpp))#{
                secret := fun() -> Secret end,
                servers := [{Host, case Port of default -> Default; _ -> Port end}
                            || {Host, Port} <- Servers]};
        _ ->
            none
    end.

%%% Users, also those of a database

auth(Name, Config) ->
    case meerkat_config_database:chosen(Config) of
        none -> meerkat_auth:new(Config);
        Database ->
            meerkat_auth:new((offered(Config))#{lookups => {meerkat_lookups, Name},
                                                lookups_by_address => is_told(Database)})
    end.

%% Whether it makes a difference to a database where a client is.
is_told(#{kind := http, address := Told}) -> Told;
is_told(_) -> false.

%% A realm with the limits that the database has for it.
stored(#{name := Realm} = Given, #{stored_realms := Limits} = Config) ->
    case meerkat_config_database:chosen(Config) of
        none -> Given;
        _ -> maps:merge(Given, maps:get(Realm, Limits, #{}))
    end;
stored(Given, _Config) ->
    Given.

%% What the database says of peers beside what the configuration does.
with_stored_peers(#{stored_peers := #{allowed := Allowed, denied := Denied},
                    allowed_peers := Here, denied_peers := NotHere} = Config) ->
    case meerkat_config_database:chosen(Config) of
        none -> Config;
        _ -> Config#{allowed_peers := Here ++ Allowed, denied_peers := NotHere ++ Denied}
    end;
with_stored_peers(Config) ->
    Config.

database(none) -> none;
database(Given) -> fun() -> Given end.

%% coturn's tables have keys of MD5 only. Clients that are offered SHA-256 could not use them.
offered(#{password_algorithms := Algorithms, database_sha256 := Sha256} = Config) ->
    Database = meerkat_config_database:chosen(Config) =/= none,
    Config#{password_algorithms := Algorithms andalso (Sha256 orelse not Database)}.

%%% Realms with settings of their own

%% A realm of the key `realms`: what it does not say is as it is for all. Whoever comes there must
%% name it, or else another realm's credentials would be as good.
tenant_of(#{name := Realm} = Given, Name, Config, Limits) ->
    #{secrets := Secrets} = Own = maps:merge(Config#{total_quota := 0}, maps:remove(name, Given)),
    WithAdded = with_added(Realm, case Given of #{users := _} -> Own; _ -> with_added(Own) end),
    #{secrets => fun() -> Secrets end,
      auth => auth(Name, WithAdded#{realm := Realm, listeners := [], strict_realm := true}),
      limits => maps:merge(Limits, (maps:with([default_lifetime, max_lifetime], Own))#{
                                       new_peers => maps:get(new_peers_rate, Own)}),
      quota => quota(Own),
      bandwidth => part(bandwidth, Own)}.

%% Whose a listener's realm is: its own, where the configuration has it under `realms`.
-spec owner(Realm :: binary(), settings()) -> owner().
owner(Realm, #{tenants := Tenants}) when is_map_key(Realm, Tenants) -> Realm;
owner(_Realm, _Settings) -> default.

%% Credentials and limits that hold for whom owner/2 names. A realm that is gone leaves allocations
%% behind, which go on as everybody's.
-spec tenant(owner(), settings()) -> tenant().
tenant(Owner, #{tenants := Tenants} = Settings) ->
    case Tenants of
        #{Owner := Tenant} -> Tenant;
        #{} -> Settings
    end.

%% With those that were added to the server's own realm, who are users of the realms that share its
%% users too.
with_added(Config) ->
    with_added(default, Config).

%% A user of the configuration has the password that the configuration says, whatever was added.
with_added(Realm, #{users := Users} = Config) ->
    Added = maps:get(Realm, maps:get(added_users, Config, #{}), #{}),
    Config#{users := maps:merge(Added, Users)}.

%% RFC 8489 18.1, erratum 6290. A name that is hashed can only be found among the users there are:
%% where the shared secret lets in any name, or names are in a database, none is asked to be.
nonce_features(#{realms := Realms} = Config, IsDrawn) ->
    #{password_algorithms := Algorithms} = offered(Config),
    Anonymity = takes_hashes(Config, IsDrawn)
        andalso lists:all(fun(Realm) ->
                    takes_hashes(maps:merge(Config, Realm),
                                 IsDrawn andalso not is_map_key(secrets, Realm))
                end, Realms),
    lists:sum([1 || Algorithms] ++ [2 || Anonymity]).

takes_hashes(#{username_anonymity := Wanted, users := Users, secrets := Secrets} = Config,
             IsDrawn) ->
    Wanted andalso Users =/= #{} andalso (IsDrawn orelse Secrets =:= [])
        andalso meerkat_config_database:chosen(Config) =:= none.

%% Names, passwords and realms as they are hashed (RFC 8489 9.2.2). All of them can be.
prepared(#{added_users := Added} = Config) ->
    (prepared(maps:remove(added_users, Config)))#{
        added_users => maps:map(fun(_Realm, Users) -> prepared_users(Users) end, Added)};
prepared(#{users := Users, realm := Realm, listeners := Listeners, realms := Realms} = Config) ->
    Config#{users := prepared_users(Users),
            realms := [prepared_realm(R) || R <- Realms],
            realm := prepared_text(Realm),
            listeners := [prepared_listener(Listener) || Listener <- Listeners]}.

prepared_users(Users) ->
    maps:from_list([{prepared_text(User), prepared_proof(Proof)}
                    || {User, Proof} <- maps:to_list(Users)]).

prepared_text(Text) ->
    {ok, Prepared} = meerkat_opaque_string:prepare(Text),
    Prepared.

prepared_proof({password, Password}) -> {password, prepared_text(Password)};
prepared_proof({key, Key}) -> {key, Key}.

prepared_realm(#{name := Name, users := Users} = Realm) ->
    Realm#{name := prepared_text(Name), users := prepared_users(Users)};
prepared_realm(#{name := Name} = Realm) ->
    Realm#{name := prepared_text(Name)}.

prepared_listener(#{realm := Realm} = Listener) -> Listener#{realm := prepared_text(Realm)};
prepared_listener(Listener) -> Listener.

%% What is the same in all of Keys as one there was keeps its number; others get new ones.
numbered(Field, IsSame, Wanted, Known, Last) ->
    {Numbered, {_, Next}} = lists:mapfoldl(
        fun(Item, {Free, N}) ->
            case [K || K <- Free, IsSame(K, Item)] of
                [#{Field := Number} = Same | _] -> {Item#{Field => Number}, {Free -- [Same], N}};
                [] -> {Item#{Field => N + 1}, {Free, N + 1}}
            end
        end, {Known, Last}, Wanted),
    {Numbered, Next}.

%% One whose port the system chose is the same by that port's number too: nobody else could have it.
is_same_listener(#{transport := Transport, local := Local} = Known,
                 #{transport := Transport, local := Wanted}) ->
    Local =:= Wanted orelse maps:get(at, Known, Local) =:= Wanted;
is_same_listener(_Known, _Wanted) ->
    false.

is_same_relay(Known, Wanted) ->
    Keys = [local, advertised, min_port, max_port],
    maps:with(Keys, Known) =:= maps:with(Keys, Wanted).

%% By their numbers: what else there is of a listener may have changed.
without(Listeners, Known) ->
    Ids = [Id || #{id := Id} <- Listeners],
    [L || #{id := Id} = L <- Known, not lists:member(Id, Ids)].

family(Ip) when tuple_size(Ip) =:= 4 -> 4;
family(_Ip) -> 6.

listeners(#{listeners := Listeners} = Config, Realm) ->
    [#{transport => meerkat_ctl:transport(Transport), local => {Ip, maps:get(port, L)},
       realm => maps:get(realm, L, Realm), other => maps:get(other, L, undefined),
       certificates => shown(Transport, Config), optional => Optional}
     || #{ip := Where, transport := Transport} = L <- Listeners, {Ip, Optional} <- ips(Where)].

%% Which certificates a listener shows: other ones make it another listener.
shown(_, #{certificates := []}) -> none;
shown(udp, #{dtls_enabled := false}) -> none;
shown(_, #{certificates := Certificates} = Config) ->
    erlang:phash2({Certificates, meerkat_settings_certificates:clients(Config)}).

ips(any) -> [{{0, 0, 0, 0}, false}, {{0, 0, 0, 0, 0, 0, 0, 0}, true}];
ips(Ip) -> [{Ip, false}].
