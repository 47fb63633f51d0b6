%% What people read of the table of keys: config/meerkat.cfg, and in docs/configuration.md the keys
%% by purpose with a line each, then each of them in full. `make gen` writes both. Pure.
-module(meerkat_config_pages).

-export([groups/0, example/0, summary/0, reference/0]).

-define(WIDTH, 96).

%% All keys, each once, by what they are for, with what each is in half a line.
-spec groups() -> [{Title :: string(), [{Key :: atom(), Line :: string()}]}].
groups() ->
    [{"Where clients come in",
      [{listen_ip, "addresses to listen on"},
       {listen_port, "the port, for UDP and TCP"},
       {udp_enabled, "whether to serve UDP"},
       {tcp_enabled, "whether to serve TCP"},
       {tls_cert, "certificates, for TLS"},
       {tls_key, "their keys"},
       {tls_self_signed, "a certificate of the server's own making, for trying out"},
       {tls_port, "a port for TLS alone"},
       {tls_client_ca, "who vouches for certificates of clients, which are then asked for one"},
       {tls_client_verify, "whether a client without certificate is refused"},
       {tls_client_user, "which user names a certificate makes its client's"},
       {dtls_enabled, "whether to serve DTLS too"},
       {extra_listeners, "more listeners, in realms of their own if wanted"},
       {tcp_queue_ms, "how long media may wait for a client over TCP or TLS"},
       {tcp_connections_per_address, "connections without allocation from one address"}]},
     {"Proxies and web servers beside",
      [{proxy_protocol_from, "proxies in front that tell who the client is"},
       {proxy_protocol_udp, "whether they do so before each datagram too"},
       {https_backend, "web servers that share the port of TLS"},
       {https_proxy_protocol, "whether these are told who the client is"},
       {tls_names, "the names that are ours, where a certificate has others too"}]},
     {"Where it relays from",
      [{relay_ip, "addresses that peers see; behind a NAT, ADVERTISED/BOUND"},
       {relays, "more of them, with ports of their own"},
       {min_port, "first relayed port"},
       {max_port, "last relayed port"}]},
     {"Who may come in",
      [{secret, "the shared secret that time-limited credentials are made from"},
       {secret_as_password, "whether the secret is a password by itself"},
       {users, "users with passwords of their own"},
       {users_file, "where users are kept that `meerkatctl users` adds"},
       {userdb, "a file of SQLite with users and secrets, as coturn's turndb"},
       {psql_userdb, "a database of PostgreSQL with coturn's tables"},
       {mysql_userdb, "a database of MySQL or MariaDB with them"},
       {redis_userdb, "a Redis with coturn's keys"},
       {ldap_userdb, "a directory that is asked by LDAP"},
       {http_userdb, "a web server that is asked about users"},
       {database_sha256, "whether its users have keys for SHA-256"},
       {database_pool, "connections to a database"},
       {database_refresh, "how often its rules for peers are read"},
       {cache_lifetime, "how long what a database said is used without asking again"},
       {cache_unknown_lifetime, "the same for users that it does not have"},
       {cache_grace, "how long it is used while the database does not answer"},
       {cache_size, "users that are remembered"},
       {realm, "the realm that clients are told"},
       {realms, "more realms, with secrets, users and limits of their own"},
       {strict_realm, "refuse requests that name another realm"},
       {credential_leeway, "seconds of grace for time-limited credentials"},
       {credential_sha256, "take HMAC-SHA256 too"},
       {credential_name_first, "take `name:expiry` too, as coturn does"},
       {jwt_keys, "keys of tokens, which may be usernames then"},
       {jwt_audience, "whom tokens must be for"},
       {jwt_issuer, "whom tokens must be from"},
       {jwt_required, "refuse time-limited usernames that are no tokens"},
       {expire_with_credentials, "end allocations when their credentials do"},
       {failed_authentication_rate, "wrong passwords per second before no more are looked at"},
       {password_algorithms, "offer SHA-256 (RFC 8489)"},
       {require_sha256, "refuse MD5"},
       {username_anonymity, "ask for hashed usernames"},
       {nonce_lifetime, "how long a nonce is good"}]},
     {"Which peers",
      [{allowed_peers, "what clients may reach although it is private or denied"},
       {denied_peers, "what clients may not reach"}]},
     {"How much",
      [{max_allocations, "allocations in all; memory is reserved for them"},
       {total_quota, "allocations in all, below that"},
       {user_quota, "allocations of one user"},
       {user_quota_replaces, "whether a newer one ends the oldest of these"},
       {max_allocations_per_address, "allocations from one address"},
       {new_peers_rate, "new peers per second of one allocation"},
       {max_permissions, "permissions, and channels, of one allocation"},
       {default_lifetime, "lifetime of an allocation"},
       {max_lifetime, "the longest that a client may ask for"},
       {max_bps, "bytes per second of one allocation"},
       {max_pps, "packets per second of one allocation"},
       {user_bps, "bytes per second of one user"},
       {bps_capacity, "bytes per second of all"},
       {unauthenticated_rate, "answers per second to one stranger"},
       {unauthenticated_burst, "how many of those at once"}]},
     {"What it speaks",
      [{rfc5766_channel_numbers, "channel numbers of older clients"},
       {mobility, "allocations that move with their client (RFC 8016)"},
      {tcp_relay, "whether TCP is relayed to peers (RFC 6062)"},
      {tcp_relay_connections, "peers over TCP of one allocation"},
      {tcp_relay_user_connections, "peers over TCP of one user"},
      {tcp_relay_min_port, "the lowest port of a peer over TCP"},
       {rfc5780, "tell clients what their NAT does"},
       {alternate_listen_ip, "the second address for that"},
       {alternate_listen_port, "the second port for that"},
       {rfc3489_compatibility, "answer Binding requests of RFC 3489"},
       {software, "the SOFTWARE attribute"}]},
     {"HTTP",
      [{http_listen, "where to serve metrics, health, status and credentials"},
       {http_token, "the token for /credentials"},
       {acme_webroot, "where challenges of an ACME authority lie"}]},
     {"XMPP",
      [{xmpp_host, "XMPP servers to be a component of"},
       {xmpp_port, "their port for components"},
       {xmpp_component, "the component's name"},
       {xmpp_secret, "the component's secret"},
       {xmpp_domains, "whose users are told of this server"},
       {xmpp_admins, "who may give commands"},
       {xmpp_ttl, "how long their credentials are good"},
       {xmpp_rate, "requests per second of one user"},
       {xmpp_ping_interval, "silence before the XMPP server is asked"},
       {xmpp_is_subdomain, "MongooseIM: below every domain"}]},
     {"Accounting",
      [{accounting_file, "a file for records of who used how much"},
       {accounting_url, "a web server that they are sent to"},
       {accounting_token, "what the web server is shown"},
       {accounting_ca_file, "who may vouch for the web server"},
       {accounting_database, "a database with a table for them"},
       {accounting_create_table, "make that table where there is none"},
       {redis_statsdb, "a Redis that is told as coturn tells it"},
       {accounting_interval, "seconds between the records of an allocation that lives"},
       {accounting_spool, "where records are kept until they are taken"},
       {accounting_spool_bytes, "bytes that they may take there"}]},
     {"Log and end",
      [{log_level, "the least severe lines"},
       {log_format, "text or JSON"},
       {media_sample, "of how many allocations one is looked at"},
       {survive, "how long the relay goes on without Erlang"},
       {drain_deadline, "how long allocations have after SIGTERM"},
       {alternate_server, "where clients are sent while it drains"}]},
     {"Fleet",
      [{fleet, "nodes that form one service with this one"},
       {fleet_ip, "where they reach this one"},
       {fleet_port, "the port for that"},
       {fleet_secret, "what they have in common"},
       {fleet_cert, "what this node shows them"},
       {fleet_key, "the key of that certificate"},
       {fleet_ca, "who issues their certificates"},
       {fleet_region, "where this node is"},
       {fleet_services, "of how many nodes clients are told"},
       {anycast_ip, "addresses that other servers have too"}]},
     {"The machine",
      [{workers, "threads that move packets"},
       {io_backend, "io_uring or epoll"},
       {grants, "whether the relay answers by itself what was decided before"},
       {shortcuts, "one hop between two clients of this server"},
       {offload, "whether busy channels are relayed inside the kernel"},
       {offload_interfaces, "where"},
       {receive_buffer, "bytes that may wait in a socket"},
       {send_buffer, "bytes that may wait to be sent"}]}].

%% The rows of a group.
rows(Keys) ->
    [{Row, Line} || {Key, Line} <- Keys,
                    {ok, Row} <- [meerkat_config_schema:find(atom_to_binary(Key))]].

%% ----------------------------------------------------------------------------- config/meerkat.cfg

%% Every key with its default, or an example, commented out.
-spec example() -> unicode:chardata().
example() ->
    [
        "# Meerkat's configuration (libconfig). Every key may be left out; the environment wins\n"
        "# over this file. Remove the # before a key to set it.\n"
        "#   rel/bin/meerkatctl config check FILE    says what is wrong with a file\n"
        "#   rel/bin/meerkatctl config show FILE     shows each value and where it is from\n"
        "# docs/configuration.md tells more. Made by `make gen` from meerkat_config_schema.erl.\n",
        [["\n## ", Title, "\n", [example(Row) || {Row, _} <- rows(Keys)]]
         || {Title, Keys} <- groups()]
    ].

example(#{key := Key, doc := Doc, env := Env} = Row) ->
    [
        "\n",
        [["# ", Line, "\n"] || Line <- wrap(Doc)],
        [["# Environment: ", lists:join(", ", Env), "\n"] || Env =/= []],
        ["#", atom_to_binary(Key), " = ", example_value(Row), ";\n"]
    ].

example_value(#{example := Example}) when Example =/= undefined -> Example;
example_value(#{type := {integer, _, _}, default := N}) -> integer_to_binary(N);
example_value(#{type := boolean, default := Flag}) -> atom_to_binary(Flag);
example_value(#{type := {opaque_string, _}, default := Text}) -> [$", Text, $"];
example_value(#{type := Type, default := Default}) -> [$", shown(Type, Default), $"].

wrap(Text) ->
    {Lines, Last} = lists:foldl(
        fun
            (Word, {Lines, []}) -> {Lines, Word};
            (Word, {Lines, Line}) when length(Line) + length(Word) + 1 =< ?WIDTH ->
                {Lines, Line ++ " " ++ Word};
            (Word, {Lines, Line}) -> {[Line | Lines], Word}
        end,
        {[], []},
        string:lexemes(unicode:characters_to_list(Text), " ")
    ),
    lists:reverse(Lines, [Last]).

%% -------------------------------------------------------------------------- docs/configuration.md

%% By purpose, a line each.
-spec summary() -> unicode:chardata().
summary() ->
    [["\n### ", Title, "\n\n| Key | | Default |\n|---|---|---|\n",
      [["| [", code(atom_to_binary(Key)), "](#", anchor(Key), ") | ", Line, " | ",
        default(Row), " |\n"] || {#{key := Key} = Row, Line} <- rows(Keys)]]
     || {Title, Keys} <- groups()].

%% Each in full, in the same order.
-spec reference() -> unicode:chardata().
reference() ->
    [["\n### ", code(atom_to_binary(Key)), "\n\n",
      [[Line, "\n"] || Line <- wrap(Doc)], "\n", [[Line, "\n"] || Line <- wrap(facts(Row))]]
     || {_, Keys} <- groups(), {#{key := Key, doc := Doc} = Row, _} <- rows(Keys)].

facts(#{type := Type, env := Env, reloadable := Reloadable} = Row) ->
    ["Value: ", meerkat_config_value:allowed(Type), ". Default: ", default(Row), ". ",
     [["Environment: ", lists:join(", ", [code(Name) || Name <- Env]), ". "] || Env =/= []],
     case Reloadable of true -> "A reload changes it."; false -> "It needs a restart." end].

%% As GitHub makes it of a heading.
anchor(Key) -> atom_to_binary(Key).

default(#{key := relay_ip}) -> "the default route's";
default(#{default := random}) -> "random";
default(#{key := xmpp_domains}) -> "that above xmpp_component";
default(#{default := undefined}) -> "none";
default(#{type := {opaque_string, _}, default := Text}) -> code(Text);
default(#{type := Type, default := Default}) -> code(shown(Type, Default)).

code(Text) -> [$`, Text, $`].

shown(Type, Value) -> meerkat_config_value:render(Type, Value).
