%% Is a configuration as a map right, key by key? Files and environments have been judged while they
%% were read, with better words; a map may also be made by hand. Both go by the types of
%% meerkat_config_schema, and by nothing else where a value is in the map as it was read. What
%% several keys are made into has its shape here.
-module(meerkat_config_map).

-export([wrong/1]).

%% Addresses to relay from at a time. The relay keeps more, for those that allocations live on yet
%% (ctl.def: pools_max).
-define(RELAYS_MAX, 64).

%% The keys, in order, that there are not or that have a value they cannot have.
-spec wrong(map()) -> [term()].
wrong(Config) ->
    Plain = meerkat_config_schema:plain(),
    Rows = maps:from_list([{Key, Row} || #{key := Key} = Row <- meerkat_config_schema:rows(),
                                         lists:member(Key, Plain)]),
    [Key || {Key, Value} <- lists:sort(maps:to_list(Config)), not is_valid(Key, Value, Rows)].

%% As it was read, or what several keys were made into, or what only a program can give.
is_valid(Key, Value, Rows) ->
    case Rows of
        #{Key := #{type := Type, default := Default}} ->
            Value =:= Default orelse is_of(Type, Value);
        #{} -> is_made(Key, Value) orelse is_given(Key, Value)
    end.

is_made(secrets, Secrets) ->
    is_of({list, secret}, Secrets);
is_made(listeners, Listeners) ->
    is_list(Listeners) andalso lists:all(fun is_listener/1, Listeners);
is_made(certificates, Certificates) ->
    is_list(Certificates)
        andalso lists:all(fun meerkat_config_certificates:is_certificate/1, Certificates);
is_made(client_authorities, Authorities) ->
    is_list(Authorities)
        andalso lists:all(fun meerkat_config_certificates:is_authority/1, Authorities);
is_made(token_keys, Keys) ->
    meerkat_auth_token:is_keys(Keys);
is_made(relays, Relays) ->
    is_list(Relays) andalso length(Relays) =< ?RELAYS_MAX
        andalso lists:all(fun is_relay/1, Relays)
        andalso meerkat_config_relays:overlapping(Relays) =:= [];
is_made(realms, Realms) ->
    is_list(Realms) andalso lists:all(fun is_realm/1, Realms)
        andalso length(Realms) =:= length(lists:usort([Name || #{name := Name} <- Realms]));
is_made(added_users, Added) ->
    is_map(Added) andalso lists:all(fun({Realm, Users}) ->
        (Realm =:= default orelse is_binary(Realm)) andalso is_of(users, Users)
    end, maps:to_list(Added));
is_made(stored_peers, #{allowed := Allowed, denied := Denied}) ->
    is_of({list, peer}, Allowed) andalso is_of({list, network}, Denied);
is_made(stored_realms, Realms) ->
    is_map(Realms) andalso lists:all(fun({Realm, Limits}) ->
        is_binary(Realm) andalso is_map(Limits)
            andalso maps:keys(Limits) -- meerkat_config_group:stored() =:= []
    end, maps:to_list(Realms));
is_made(addresses, Resolved) ->
    is_map(Resolved);
is_made(settings, _Shown) ->
    true;
is_made(_, _) ->
    false.

is_given(Path, Value) when Path =:= relay_program; Path =:= run_dir ->
    is_list(Value) orelse is_binary(Value);
is_given(Callback, {Module, _Arg}) when Callback =:= authenticator; Callback =:= authorizer;
                                        Callback =:= events ->
    is_atom(Module);
%% Of an embedder's own: a fun that sends SQL, or a module of the behaviour meerkat_database.
is_given(database, Query) when is_function(Query, 2) ->
    true;
is_given(database, {Module, _Options}) ->
    is_atom(Module);
is_given(_, _) ->
    false.

is_of(Type, Value) ->
    meerkat_config_value:is_value(meerkat_config_value:widened(Type), Value).

%% The fields of a group of the key, secrets by the name they have in a map.
is_realm(#{name := _} = Realm) ->
    Types = meerkat_config_group:types(realms),
    lists:all(fun({secrets, Secrets}) -> is_of({list, secret}, Secrets);
                 ({Field, Value}) -> is_map_key(Field, Types) andalso Field =/= secret
                                         andalso is_of(maps:get(Field, Types), Value)
              end, maps:to_list(Realm));
is_realm(_) ->
    false.

is_listener(#{transport := Transport, ip := Ip, port := Port} = Listener) ->
    lists:member(Transport, [udp, tcp, tls, dtls])
        andalso is_of(listen_address, Ip) andalso is_port(Port, 0)
        andalso is_of(maps:get(realm, meerkat_config_group:types(listeners)),
                      maps:get(realm, Listener, <<"default">>))
        andalso is_other(maps:get(other, Listener, none), {Ip, Port});
is_listener(_) ->
    false.

%% Told to clients, hence known before anything is bound.
is_other(none, _) ->
    true;
is_other({OtherIp, OtherPort}, {Ip, Port}) ->
    inet:is_ip_address(OtherIp) andalso is_port(OtherPort, 1) andalso Port > 0
        andalso Ip =/= any andalso tuple_size(OtherIp) =:= tuple_size(Ip)
        andalso OtherIp =/= Ip andalso OtherPort =/= Port;
is_other(_, _) ->
    false.

is_relay(#{local := Local, advertised := Advertised, min_port := Min, max_port := Max}) ->
    inet:is_ip_address(Local) andalso inet:is_ip_address(Advertised)
        andalso tuple_size(Local) =:= tuple_size(Advertised)
        andalso is_port(Min, 1) andalso is_port(Max, Min);
is_relay(_) ->
    false.

is_port(Port, Least) ->
    meerkat_config_value:is_value({integer, Least, 65535}, Port).
