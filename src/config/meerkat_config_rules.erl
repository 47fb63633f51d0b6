%% What must hold between keys that are each right by themselves: combinations that make no sense.
%% Pure; listeners and relay addresses have modules of their own.
-module(meerkat_config_rules).

-import(meerkat_config_origin, [at/1, named/2]).

-export([mistakes/1, warnings/1, nobody/1]).

%% As TLS_CLIENT_FILES_MAX of the relay program.
-define(CLIENT_FILES_MAX, 16).

%% Sentences, each naming the keys, where they come from and what they are.
-spec mistakes(meerkat_config_origin:resolved()) -> [unicode:chardata()].
mistakes(Resolved) ->
    too_large(min_port, max_port, Resolved) ++
        too_large(default_lifetime, max_lifetime, Resolved) ++
        too_large(total_quota, max_allocations, Resolved) ++
        too_many(allowed_peers, Resolved) ++
        too_many(denied_peers, Resolved) ++
        too_many(proxy_protocol_from, Resolved) ++
        meerkat_config_listeners:mistakes(Resolved) ++
        nothing_required(Resolved) ++
        without_sha256(Resolved) ++
        nothing_to_serve(Resolved) ++
        two_certificates(Resolved) ++
        dtls(Resolved) ++
        clients(Resolved) ++
        realms(Resolved) ++
        databases(Resolved) ++
        meerkat_config_tokens:mistakes(Resolved) ++
        xmpp(Resolved).

too_large(Low, High, Resolved) ->
    case Resolved of
        #{Low := {A, _}, High := {B, _}} when A > B ->
            [larger(named(Low, Resolved), A, named(High, Resolved), B)];
        #{} ->
            []
    end.

larger(Low, A, High, B) ->
    io_lib:format("~ts is ~b and ~ts is ~b; the first must not be the larger", [Low, A, High, B]).

too_many(Key, Resolved) ->
    {Networks, _} = maps:get(Key, Resolved),
    Max = meerkat_config_address:networks_max(),
    [io_lib:format("~ts has ~b networks; at most ~b can be",
                   [named(Key, Resolved), length(Networks), Max]) || length(Networks) > Max].

nothing_required(#{require_sha256 := {true, _}, password_algorithms := {false, _}} = Resolved) ->
    [
        [named(require_sha256, Resolved), " is true, but ", named(password_algorithms, Resolved),
            " is false: no client will know that it may use SHA-256"]
    ];
nothing_required(_) ->
    [].

%% The SHA-256 key cannot be made from an MD5 key: such a user could never be authenticated.
without_sha256(#{require_sha256 := {true, _}, users := {Users, _}, realms := {Realms, _}} =
                   Resolved) ->
    [
        [Where, " has ", meerkat_config_value:quote(Name), " with a key, which is of MD5, but ",
            named(require_sha256, Resolved), " is true: the user needs a password"]
     || {Where, Those} <- [{named(users, Resolved), Users}] ++
            [{[realm(Realm), "users"], U} || #{users := U} = Realm <- Realms],
        {Name, {key, _}} <- lists:sort(maps:to_list(Those))
    ];
without_sha256(_) ->
    [].

nothing_to_serve(#{udp_enabled := {false, _}, tcp_enabled := {false, _},
                   tls_cert := {[], _}, tls_self_signed := {false, _}} = Resolved) ->
    [
        [named(udp_enabled, Resolved), " is false, ", named(tcp_enabled, Resolved),
            " is false, and tls_cert names no certificate: there is nothing to serve"]
    ];
nothing_to_serve(_) ->
    [].

two_certificates(#{tls_cert := {[_ | _], _}, tls_self_signed := {true, _}} = Resolved) ->
    [
        [named(tls_self_signed, Resolved), " is true, and ", named(tls_cert, Resolved),
            " names a certificate: only one of them can be shown"]
    ];
two_certificates(_) ->
    [].

%% There is no DTLS without a certificate.
dtls(#{dtls_enabled := {true, _}, tls_cert := {[], _}, tls_self_signed := {false, _}} = Resolved) ->
    [
        [named(dtls_enabled, Resolved), " is true, which needs a certificate: tls_cert and tls_key"]
    ];
dtls(_) ->
    [].

%% tls_client_ca without TLS, and more files than the relay program takes.
clients(#{tls_client_ca := {[_ | _], _}, tls_cert := {[], _},
          tls_self_signed := {false, _}} = Resolved) ->
    [
        [named(tls_client_ca, Resolved), " names who vouches for clients over TLS, and there is no "
            "TLS without a certificate: tls_cert and tls_key"]
    ];
clients(#{tls_client_ca := {Files, _}} = Resolved) when length(Files) > ?CLIENT_FILES_MAX ->
    [io_lib:format("~ts names ~b files; at most ~b can be",
                   [named(tls_client_ca, Resolved), length(Files), ?CLIENT_FILES_MAX])];
clients(_) ->
    [].

%% A database needs the library that reads it, and its users a key for what they are to use.
databases(#{require_sha256 := {Required, _}, database_sha256 := {Sha256, _}} = Resolved) ->
    Set = databases_set(Resolved),
    [[named(Key, Resolved), " is set, but the Erlang library that it needs is missing: ",
      meerkat_libraries:remedy(Library)]
     || {Key, Kind} <- Set ++ of_accounting(Resolved),
        {missing, Library} <- [meerkat_libraries:for_database(Kind)]]
        ++ [[named(require_sha256, Resolved), " is true, but ", named(database_sha256, Resolved),
             " is false: no user of the database could be authenticated"]
            || Set =/= [], Required, not Sha256].

of_accounting(Resolved) ->
    [{Key, Kind} || {Key, _} <- meerkat_config_database:account_keys(),
                    #{Key := {#{kind := Kind}, _}} <- [Resolved]].

databases_set(Resolved) ->
    [{Key, Kind} || {Key, Kind} <- meerkat_config_database:keys(),
                    #{Key := {#{}, _}} <- [Resolved]].

%% What must be set with xmpp_host.
xmpp(#{xmpp_host := {[], _}}) ->
    [];
xmpp(#{xmpp_component := {Name, _}, xmpp_secret := {Secret, _}, xmpp_domains := {Domains, _},
       xmpp_is_subdomain := {IsSubdomain, _}} = Resolved) ->
    Host = named(xmpp_host, Resolved),
    [
        [Host, " is set, but ", Key, " is not"]
     || {Key, undefined} <- [{"xmpp_component", Name}, {"xmpp_secret", Secret}]
    ] ++ [
        [named(xmpp_component, Resolved), " is below no domain, so xmpp_domains has to say whose "
            "users are told"]
     || Name =/= undefined, not IsSubdomain, Domains =:= [],
        binary:match(Name, <<".">>) =:= nomatch
    ] ++ [
        [Host, " is set, but Erlang libraries that it needs are missing; Debian packages have "
            "them: ", lists:join(" ", lists:usort(Packages))]
     || [_ | _] = Packages <- [meerkat_libraries:missing_for_xmpp()]
    ].

realm(#{name := Name, place := Place}) ->
    [at(Place), ": realms: ", meerkat_config_value:quote(Name), ": "].

realms(#{realms := {[], _}}) ->
    [];
realms(#{realms := {Realms, _}, realm := {Own, _}, extra_listeners := {Listeners, _}} = Resolved) ->
    Names = [Name || #{name := Name} <- Realms],
    [
        [realm(Realm), "that is the name in ", named(realm, Resolved),
            ", whose secret, users and limits are keys by themselves"]
     || #{name := Name} = Realm <- Realms, Name =:= Own
    ] ++ [
        [at(Place), ": extra_listeners has the realm ", meerkat_config_value:quote(Name),
            ", which realms does not have", near(Name, Names)]
     || #{realm := Name, place := Place} <- Listeners, not lists:member(Name, [Own | Names])
    ] ++ lists:append([lifetimes(Realm, Resolved) || Realm <- Realms]).

%% What can be, but hardly is what was meant.
-spec warnings(meerkat_config_origin:resolved()) -> [unicode:chardata()].
warnings(#{realms := {Realms, _}, extra_listeners := {Listeners, _}} = Resolved) ->
    Named = [Name || #{realm := Name} <- Listeners],
    [
        [realm(Realm), "no listener has this realm; extra_listeners gives it one"]
     || #{name := Name} = Realm <- Realms, not lists:member(Name, Named)
    ] ++ alone(Resolved) ++ meerkat_config_fleet:warnings(Resolved)
        ++ lists:usort([[Whose, Which, ", which counts"]
                      || {Whose, Secret} <- all_secrets(Resolved), Which <- unlikely(Secret)])
        ++ meerkat_config_tokens:warnings(Resolved)
        ++ tcp_for_nobody(Resolved) ++ unread(databases_set(Resolved), Resolved).

%% Users are looked up in one database.
unread([{First, _} | [_ | _] = Others], Resolved) ->
    [[named(Key, Resolved), " is set, but not read: users are looked up in ",
      named(First, Resolved)] || {Key, _} <- Others];
unread(_, _Resolved) ->
    [].

%% RFC 6062 5.1.
tcp_for_nobody(#{tcp_relay := {true, _}, tcp_enabled := {false, _}, tls_cert := {[], _},
                 tls_self_signed := {false, _}} = Resolved) ->
    [
        [named(tcp_relay, Resolved), " is true, but ", named(tcp_enabled, Resolved),
            " is false, and there is no certificate (tls_cert, tls_self_signed): only clients over "
            "TCP or TLS can have TCP relayed"]
    ];
tcp_for_nobody(_) ->
    [].

%% Keys that do nothing by themselves.
alone(Resolved) ->
    [[named(Key, Resolved), " is set, which does nothing without ", atom_to_list(Other)]
     || {Key, Other} <- [{tls_client_user, tls_client_ca},
                         {https_backend, tls_cert}, {https_proxy_protocol, https_backend},
                         {tls_names, https_backend},
                         {proxy_protocol_udp, proxy_protocol_from},
                         {accounting_token, accounting_url}, {accounting_ca_file, accounting_url},
                         {accounting_create_table, accounting_database}],
        is_set(Key, Resolved), not is_set(Other, Resolved)].

is_set(Key, Resolved) ->
    {Value, _} = maps:get(Key, Resolved),
    Value =/= [] andalso Value =/= false andalso Value =/= undefined andalso Value =/= any.

%% Every secret and password there is, and how to name it.
all_secrets(#{secret := {Secrets, _}, users := {Users, _}, realms := {Realms, _},
              http_token := {Token, _}, xmpp_secret := {Component, _},
              accounting_token := {Bearer, _}} = Resolved) ->
    Own = [{secret, S} || Secrets =/= random, S <- Secrets]
        ++ [{http_token, Token} || Token =/= undefined]
        ++ [{xmpp_secret, Component} || Component =/= undefined]
        ++ [{accounting_token, Bearer} || Bearer =/= undefined],
    [{named(Key, Resolved), Secret} || {Key, Secret} <- Own]
        ++ passwords([named(users, Resolved), ": "], Users)
        ++ lists:append([[{[realm(Realm), "secret"], S} || S <- maps:get(secret, Realm, [])]
                             ++ passwords([realm(Realm), "users: "], maps:get(users, Realm, #{}))
                         || Realm <- Realms]).

passwords(Where, Users) ->
    [{[Where, "the password of ", meerkat_config_value:quote(Name)], Password}
     || {Name, {password, Password}} <- lists:sort(maps:to_list(Users))].

%% What an editor, a shell or a file for `docker run --env-file` has left in it.
unlikely(Secret) ->
    [" begins or ends with white space" || re:run(Secret, "^\\s|\\s$") =/= nomatch]
        ++ [" stands in quotation marks"
            || re:run(Secret, "^(['\"]).*\\1$", [dotall, dollar_endonly]) =/= nomatch]
        ++ [" begins with #, as a comment would" || re:run(Secret, "^#") =/= nomatch].

%% A warning where no secret and no user is configured. An embedder may have users elsewhere.
-spec nobody(meerkat_config_origin:resolved()) -> [unicode:chardata()].
nobody(#{secret := {[], _}, users := {Users, _}, users_file := {undefined, _},
         realms := {Realms, _}} = Resolved) when Users =:= #{} ->
    case databases_set(Resolved) ++ [Realm || Realm <- Realms,
                   maps:get(secret, Realm, []) =/= [] orelse maps:get(users, Realm, #{}) =/= #{}] of
        [] -> [[named(secret, Resolved), " is none and there are no users: nobody can allocate"]];
        [_ | _] -> []
    end;
nobody(_) ->
    [].

near(Name, Names) ->
    case meerkat_spelling:nearest(Name, Names) of
        {ok, Near} -> ["; did you mean ", meerkat_config_value:quote(Near), "?"];
        error -> ""
    end.

lifetimes(Realm, #{default_lifetime := {Default, _}, max_lifetime := {Max, _}}) ->
    Given = maps:with([default_lifetime, max_lifetime], Realm),
    case maps:merge(#{default_lifetime => Default, max_lifetime => Max}, Given) of
        #{default_lifetime := A, max_lifetime := B} when A > B, map_size(Given) > 0 ->
            [[realm(Realm), larger("default_lifetime", A, "max_lifetime", B)]];
        #{} ->
            []
    end.
