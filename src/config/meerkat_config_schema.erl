%% Every configuration key, one row each. The reader, the pages that people read
%% (meerkat_config_pages, which has a line for each) and the tests go by this table. It knows
%% neither how a value is read nor what it is used for.
-module(meerkat_config_schema).

-export([rows/0, find/1, keys/0, environment/0]).
-export([plain/0, made/1, part/1]).
-export_type([row/0]).

%% Who gets a value. `config`: whoever looks into the configuration as a map, where it is under its
%% key (auth, policy, log, ...); it is there too for all that follow. `settings`: it is a setting of
%% that name. {Part, Name}: it is Name in that part of the settings; of `relay`, a field of CONFIG
%% in ctl.def, of `streams` one of STREAMS, and `front` is what FRONT is made of. {made, Name}: it
%% is not in the map itself, but goes into what is there under Name.
-type destination() :: config
                     | settings
                      | {relay | streams | front | limits | tcp | quota | bandwidth | http | xmpp
                         | accounting | lookups, atom()}
                      | {made, listeners | certificates | client_authorities | token_keys | relays
                                   | realms | secrets}.

%% A reloadable key may take a new value while allocations live.
%% `example` stands in the example file, in libconfig syntax, where the default cannot be written.
-type row() :: #{
    key := atom(),
    type := meerkat_config_value:type(),
    default := meerkat_config_value:value(),
    env := [Name :: binary()],
    reloadable := boolean(),
    gets := [destination()],
    example := undefined | binary(),
    doc := binary()
}.

-define(LOG_LEVELS, [
    {<<"debug">>, debug},
    {<<"info">>, info},
    {<<"notice">>, notice},
    {<<"warning">>, warning},
    {<<"warn">>, warning},
    {<<"error">>, error}
]).

-define(IO_BACKENDS, [
    {<<"auto">>, auto},
    {<<"io_uring">>, io_uring},
    {<<"epoll">>, epoll}
]).

-define(OFFLOADS, [
    {<<"off">>, off},
    {<<"auto">>, auto},
    {<<"xdp">>, xdp},
    {<<"tc">>, tc}
]).

-define(CLIENT_VERIFY, [
    {<<"required">>, required},
    {<<"optional">>, optional}
]).

-define(CLIENT_USER, [
    {<<"any">>, any},
    {<<"cn">>, cn},
    {<<"san">>, san}
]).

%% The table. Own environment name first, then MongooseICE's, then that of estos' image; each
%% counts when it is not empty.
-spec rows() -> [row()].
rows() ->
    [
        row(listen_ip, {list, listen_address}, [any],
            ["LISTEN_IP", "MONGOOSEICE_UDP_BIND_IP", "LISTENING_IP_ADDRESS"], yes,
            [{made, listeners}],
            "Addresses to listen on: `any` (0.0.0.0 and ::), or one or more IP addresses."),
        row(listen_port, {integer, 0, 65535}, 3478,
            ["LISTEN_PORT", "MONGOOSEICE_UDP_PORT", "TURN_PORT"], yes, [{made, listeners}],
            "Port to listen on, for UDP and TCP. With 0 the system chooses one, which is printed "
            "at the start."),
        row(extra_listeners, listeners, [], [], yes, [{made, listeners}],
            <<"( { port = 3480; realm = \"a.example\"; }, { port = 443; ip = \"127.0.0.1\"; } )">>,
            "More listeners beside listen_ip and listen_port. Each has a port and, if wanted, "
            "one IP address (default: any) and a realm of its own. A realm that is in `realms` "
            "brings its secret, users and limits; any other has those of the server. Relay "
            "addresses are shared by all."),
        row(udp_enabled, boolean, true, ["UDP_ENABLED", "MONGOOSEICE_UDP_ENABLED"], yes,
            [{made, listeners}],
            "Whether to serve UDP."),
        row(tcp_enabled, boolean, true, ["TCP_ENABLED", "MONGOOSEICE_TCP_ENABLED"], yes,
            [{made, listeners}],
            "Whether to serve TCP, on the same addresses and ports as UDP, for clients whose "
            "network lets no UDP out. Where there is a certificate these ports take TLS too: the "
            "first byte tells."),
        row(tls_cert, {list, {text, 1023}}, [], ["TLS_CERT"], yes,
            [{made, certificates}, {made, listeners}],
            <<"\"/etc/letsencrypt/live/turn.example.com/fullchain.pem\"">>,
            "PEM files with a certificate each, and behind it those that issued it. Clients that "
            "name a server (SNI) are shown the one that has the name, others the first; for one "
            "name there may be an ECDSA and an RSA one, and the client chooses. When these files "
            "change they are read again, at each reload too; while one is bad those before stay "
            "in force. docs/certificates.md tells how to get one."),
        row(tls_key, {list, {text, 1023}}, [], ["TLS_KEY"], yes,
            [{made, certificates}],
            <<"\"/etc/letsencrypt/live/turn.example.com/privkey.pem\"">>,
            "PEM files with the keys of tls_cert, in the same order, without passphrase."),
        row(tls_self_signed, boolean, false, ["TLS_SELF_SIGNED"], yes, [config],
            "In place of tls_cert, for trying out: a certificate that the server makes for its "
            "addresses. Nobody vouches for it; its fingerprint is told at the start. It is kept "
            "in $STATE_DIRECTORY, $XDG_STATE_HOME/meerkat or ~/.local/state/meerkat."),
        row(tls_port, {integer, 0, 65535}, 5349, ["TLS_PORT"], yes, [{made, listeners}],
            "With tls_cert or tls_self_signed: the TCP port of listen_ip that takes TLS and "
            "nothing else; with dtls_enabled the UDP port that takes DTLS and nothing else, too."),
        row(tls_client_ca, {list, {text, 1023}}, [], ["TLS_CLIENT_CA"], yes,
            [{made, client_authorities}],
            <<"\"/etc/meerkat/clients-ca.pem\"">>,
            "PEM files with the certificates of authorities, up to 16. Clients over TLS and DTLS "
            "are then asked for a certificate that one of these has issued; one of anybody else is "
            "refused. An embedder's authenticator is told who it is for. Credentials are needed "
            "besides. Those over UDP and TCP are asked for none. Changed files are noticed as "
            "those of tls_cert are."),
        row(tls_client_verify, {choice, ?CLIENT_VERIFY}, required, ["TLS_CLIENT_VERIFY"], yes,
            [config],
            "With tls_client_ca: whether a client without certificate is refused (`required`), or "
            "served as without tls_client_ca (`optional`)."),
        row(tls_client_user, {choice, ?CLIENT_USER}, any, ["TLS_CLIENT_USER"], yes, [settings],
            "With tls_client_ca: which user names a client may use that has shown a certificate: "
            "`any`; the common name of its subject (`cn`); an alternative name that is a DNS name, "
            "an email address or a URI (`san`). Of a time-limited `expiry:name` the name is meant. "
            "What it asks for in another name is answered 403."),
        row(dtls_enabled, boolean, false, ["DTLS_ENABLED"], yes, [config],
            "Whether to serve DTLS 1.2 (`turns:` with `transport=udp`), with the certificates of "
            "tls_cert: at tls_port, and on the ports of UDP beside plain STUN, where the first "
            "byte tells. Few clients speak it, no browser does."),
        row(tcp_queue_ms, {integer, 10, 10000}, 100, ["TCP_QUEUE_MS"], yes, [{streams, queue_ms}],
            "Milliseconds that media may wait for a client over TCP or TLS. What has waited longer "
            "is dropped, the oldest first: late media is useless, and holds up what is fresh."),
        row(tcp_connections_per_address, {integer, 1, 16384}, 256,
            ["TCP_CONNECTIONS_PER_ADDRESS"], yes, [{streams, per_source}],
            "Connections without allocation that one source address (IPv4) or /64 network (IPv6) "
            "may have at a time; those beyond are closed at once."),
        row(proxy_protocol_from, {list, network}, [], ["PROXY_PROTOCOL_FROM"], yes,
            [{front, proxies}],
            <<"( \"10.0.0.5\", \"10.0.1.0/24\" )">>,
            "Proxies that stand before this server and begin each connection with a header of the "
            "PROXY protocol (version 1 or 2), over TCP and TLS. The client is then who the header "
            "says, for everything: XOR-MAPPED-ADDRESS, quotas, logs. A connection from there "
            "without header is closed, and so is one with it from anywhere else "
            "(docs/proxies.md)."),
        row(proxy_protocol_udp, boolean, false, ["PROXY_PROTOCOL_UDP"], yes, [{front, datagrams}],
            "Whether these proxies put a header (version 2) before each datagram too. Answers go "
            "back to the proxy without one."),
        row(https_backend, {list, web_server}, [], ["HTTPS_BACKEND"], yes, [{front, backends}],
            <<"( \"127.0.0.1:8443\", \"www.example.org=10.0.0.7:443\" )">>,
            "Web servers that share the port of TLS: connections that ask for a name (SNI) that is "
            "not ours are passed through to the address, untouched; ADDRESS:PORT is for any name, "
            "NAME=ADDRESS:PORT for one. Ours are the names of the certificates, or those of "
            "tls_names. A browser that asks for one of them is passed to the server for any name "
            "as well; whoever asks for no name is served here."),
        row(https_proxy_protocol, boolean, false, ["HTTPS_PROXY_PROTOCOL"], yes, [{front, tells}],
            "Begin what is passed to https_backend with a header of the PROXY protocol (version "
            "2), so that the web server knows the client's address. It must expect it."),
        row(tls_names, {list, server_name}, [], ["TLS_NAMES"], yes, [{front, names}],
            <<"\"turn.example.com\"">>,
            "With https_backend: the names (SNI) that are ours, where the certificates have others "
            "besides, as with *.example.com. Without it: all names of the certificates."),
        row(relay_ip, {list, relay_ip}, auto,
            ["RELAY_IP", "MONGOOSEICE_UDP_RELAY_IP", "EXTERNAL_IP_ADDRESS"], yes, [{made, relays}],
            <<"\"203.0.113.5\"">>,
            "The addresses that peers see: bound on this machine and told to clients. Behind a 1:1 "
            "NAT write `ADVERTISED/BOUND`, or an address that this machine does not have: then the "
            "default route's address of its family is bound, and this one is told to clients. An "
            "address of a network that this machine is in is waited for instead, and so is a "
            "public one if the machine has a public one. While an address is not there, nothing "
            "is relayed from it and the server is not ready. If "
            "there are several of a family, a client gets the one that it sent its request to, if "
            "that is among them and has a port free; otherwise the one with most ports free. "
            "Without it and without `relays`: the address of the IPv4 default route, and that of "
            "the IPv6 default route if there is one."),
        row(relays, relays, [], [], yes, [{made, relays}],
            <<"( { ip = \"10.0.0.6\"; advertised = \"203.0.113.6\"; max_port = 50000; } )">>,
            "More addresses to relay from. Each may have an address that clients are told in its "
            "place (1:1 NAT; default: itself) and ports of its own (default: min_port and "
            "max_port). They are used beside those of relay_ip, if that is set. Two of them may "
            "share an address if their ports do not overlap."),
        row(min_port, {integer, 1, 65535}, 49152, ["MIN_PORT"], yes, [{made, relays}],
            "First port of the range that relayed addresses are taken from."),
        row(max_port, {integer, 1, 65535}, 65535, ["MAX_PORT"], yes, [{made, relays}],
            "Last port of that range."),
        row(secret, {list, secret}, random, ["STUN_SECRET", "MONGOOSEICE_STUN_SECRET"], yes,
            [{made, secrets}],
            <<"\"change me\"">>,
            "The shared secret. It signs time-limited credentials (username `expiry:name` or "
            "`expiry`, password HMAC-SHA1 of the username: docs/mongooseim.md); whether it is also "
            "a password by itself secret_as_password says. A file may give several, "
            "`(\"new\", \"old\")`, so that it can be "
            "changed without a break. It may lie in a file of its own, one secret a line: "
            "`secret_file`, STUN_SECRET_FILE, MONGOOSEICE_STUN_SECRET_FILE. Without it each start "
            "makes a random one."),
        row(secret_as_password, boolean_or_auto, auto, ["SECRET_AS_PASSWORD"], yes, [config],
            "Whether the secret, besides, is the password of any username that is not among "
            "`users`, as MongooseICE has it. Whoever has it then lets in any number of users whose "
            "credentials never end, so it cannot be handed out. `auto`: only where a MONGOOSEICE_ "
            "variable is set. The server says at its start which it is."),
        row(users, users, #{}, ["TURN_USERNAME", "TURN_PASSWORD"], yes, [config],
            <<"( { name = \"alice\"; password = \"wonderland\"; } )">>,
            "Users with passwords of their own. For such a user the shared secret is no password. "
            "In place of `password`, `key` may be given: MD5(name:realm:password) in 32 "
            "hexadecimal digits. A user with a key cannot use SHA-256, which clients that know it "
            "choose. Names, passwords and realms are prepared as RFC 8265 (OpaqueString) says. The "
            "two variables stand for one user and are set together. A password may lie in a file: "
            "`password_file`, TURN_PASSWORD_FILE; so may a key: `key_file`."),
        row(realm, {opaque_string, meerkat_ctl:limit(realm_bytes_max)},
            <<"udp.localhost.local">>, ["REALM", "MONGOOSEICE_UDP_REALM"], yes, [config],
            "The realm that is sent with every challenge. Clients answer with what they were told, "
            "so any text will do; the default is MongooseICE's."),
        row(realms, realms, [], [], yes, [{made, realms}],
            <<"( { name = \"a.example\"; secret = \"theirs\"; user_quota = 5; } )">>,
            "Realms with secrets, users and limits of their own, for the listeners that name them "
            "(extra_listeners). A realm may set secret, secret_file, users, user_quota, "
            "user_quota_replaces, new_peers_rate, total_quota (within that of the server), "
            "max_allocations_per_address, max_bps, max_pps, user_bps, default_lifetime and "
            "max_lifetime. "
            "What it does not set it has from the key of the same name; `secret = ()` means none. "
            "In such a realm the REALM of a request must be this one, and users of other realms "
            "are not known."),
        row(strict_realm, boolean, false, ["STRICT_REALM"], yes, [config],
            "Refuse requests whose REALM is not ours. Off: a request is checked with the realm "
            "that it carries, as MongooseICE does."),
        row(password_algorithms, boolean, true, ["PASSWORD_ALGORITHMS"], yes, [config],
            "Offer clients to hash passwords with SHA-256 or MD5 (RFC 8489). Clients that do not "
            "know this offer use MD5."),
        row(require_sha256, boolean, false, ["REQUIRE_SHA256"], yes, [config],
            "Refuse passwords hashed with MD5. This refuses every client that knows nothing else, "
            "browsers among them."),
        row(credential_leeway, {integer, 0, 3600}, 0, ["CREDENTIAL_LEEWAY"], yes, [config],
            "Seconds for which time-limited credentials are still good after their expiry, in case "
            "the clock of the machine that makes them is behind."),
        row(credential_sha256, boolean, false, ["CREDENTIAL_SHA256"], yes, [config],
            "Accept also time-limited credentials whose password is HMAC-SHA256 of the username. "
            "MongooseIM, ejabberd, prosody and coturn use SHA-1."),
        row(credential_name_first, boolean, false, ["CREDENTIAL_NAME_FIRST"], yes, [config],
            "Accept also time-limited usernames in the order `name:expiry`, as coturn does: the "
            "name up to the first colon, unless that is all digits, then the expiry. Off: such a "
            "username is one without a time limit."),
        row(jwt_keys, {text, 1023}, undefined, ["JWT_KEYS"], yes, [{made, token_keys}],
            <<"\"/etc/meerkat/jwks.json\"">>,
            "A file with the keys that sign JSON Web Tokens: public keys in PEM, a JSON Web Key or "
            "a set of them. A token may then be a username: its password is made with the secret, "
            "as that of any time-limited username, its `sub` is the user and its `exp` the expiry. "
            "Each reload reads the file again. docs/databases.md tells more."),
        row(jwt_audience, {text, 255}, undefined, ["JWT_AUDIENCE"], yes, [config],
            <<"\"turn.example.com\"">>,
            "What the `aud` of a token must be, or have among others."),
        row(jwt_issuer, {text, 255}, undefined, ["JWT_ISSUER"], yes, [config],
            <<"\"https://login.example.com\"">>,
            "What the `iss` of a token must be."),
        row(jwt_required, boolean, false, ["JWT_REQUIRED"], yes, [config],
            "Refuse time-limited usernames that are no tokens. Users with passwords of their own "
            "come in as before."),
        row(expire_with_credentials, boolean, false, ["EXPIRE_WITH_CREDENTIALS"], yes, [config],
            "End an allocation when the time-limited credentials that it was made with expire, "
            "even before default_lifetime. Off: the allocation cannot be refreshed any more, and "
            "ends up to max_lifetime later."),
        row(username_anonymity, boolean, true, ["USERNAME_ANONYMITY"], yes, [config],
            "Ask clients that can to send a hash in place of their username (USERHASH). This is "
            "done only where there are `users` and no `secret` is set: a hash can be looked up "
            "among the users, but not among all the names that a secret is good for; for those it "
            "is answered 401."),
        row(failed_authentication_rate, {integer, 0, 1000000}, 10,
            ["FAILED_AUTHENTICATION_RATE"], yes, [config],
            "Failed attempts per second for one username from one source address (IPv4) or /64 "
            "network (IPv6); twice as many may come at once. Requests beyond that are not checked "
            "and get no answer. The same user from elsewhere, and other users from there, are not "
            "affected. 0 means no limit."),
        row(default_lifetime, {integer, 60, 86400}, 600, ["DEFAULT_LIFETIME"], yes,
            [{limits, default_lifetime}],
            "Lifetime of an allocation in seconds when the client asks for less, or for none."),
        row(max_lifetime, {integer, 600, 86400}, 3600, ["MAX_LIFETIME"], yes,
            [{limits, max_lifetime}],
            "Longest lifetime in seconds that a client may ask for."),
        row(nonce_lifetime, {integer, 60, 86400}, 3600, ["NONCE_LIFETIME"], yes,
            [{relay, nonce_lifetime_s}],
            "Seconds for which a nonce is good. Afterwards clients are challenged again (438)."),
        row(rfc5766_channel_numbers, boolean, false, ["RFC5766_CHANNEL_NUMBERS"], yes, [config],
            "Accept also channel numbers 0x5000 to 0x7FFF, which RFC 8656 took away and older "
            "clients use. On by default when a MONGOOSEICE_ variable is set, because its clients "
            "use them."),
        row(rfc5780, boolean, false, ["RFC5780"], yes, [{made, listeners}],
            "Let clients find out what their NAT does (RFC 5780): answer CHANGE-REQUEST, "
            "RESPONSE-PORT and PADDING in Binding requests. Needs a second address, see "
            "alternate_listen_ip. There must be no NAT between clients and these addresses."),
        row(alternate_listen_ip, {list, relay_address}, [], ["ALTERNATE_LISTEN_IP"], yes,
            [{made, listeners}],
            <<"\"203.0.113.6\"">>,
            "With rfc5780: a second address to listen on, at most one IPv4 and one IPv6 address, "
            "each beside the one address of its family in listen_ip. Both addresses listen on "
            "listen_port and on alternate_listen_port."),
        row(alternate_listen_port, {integer, 1, 65535}, 3479, ["ALTERNATE_LISTEN_PORT"], yes,
            [{made, listeners}],
            "With rfc5780: the second UDP port to listen on."),
        row(rfc3489_compatibility, boolean, false, ["RFC3489_COMPATIBILITY"], yes,
            [{relay, rfc3489}],
            "Answer also Binding requests of RFC 3489, which have no magic cookie. The answer has "
            "MAPPED-ADDRESS and nothing else."),
        row(mobility, boolean, false, ["MOBILITY"], yes, [config],
            "Let clients that ask for it keep their allocation when their address changes (RFC "
            "8016)."),
        row(tcp_relay, boolean, false, ["TCP_RELAY"], yes, [config],
            "Relay TCP to peers (RFC 6062) for clients over TCP and TLS that ask for it. Off: such "
            "an Allocate is answered 442. No browser uses it. Whoever may allocate can then be "
            "connected over TCP with whatever allowed_peers and denied_peers let through."),
        row(tcp_relay_connections, {integer, 1, meerkat_ctl:limit(connections_max)}, 32,
            ["TCP_RELAY_CONNECTIONS"], yes, [{tcp, connections}],
            "With tcp_relay: peers that one allocation may be connected with at a time, those "
            "that do not answer yet and those that wait for the client included. Beyond it Connect "
            "is answered 508, and peers that come are sent away. A new value holds for new "
            "allocations."),
        row(tcp_relay_user_connections, {integer, 0, 131072}, 0,
            ["TCP_RELAY_USER_CONNECTIONS"], yes, [{tcp, user}],
            "With tcp_relay: the same for all allocations of one user (see user_quota) together; "
            "beyond it Connect is answered 486. 0 means no limit."),
        row(tcp_relay_min_port, {integer, 1, 65535}, 1024, ["TCP_RELAY_MIN_PORT"], yes,
            [{tcp, min_port}],
            "With tcp_relay: the lowest port of a peer that a client may ask to be connected with. "
            "Below it Connect is answered 403. By default that keeps clients from mail servers, "
            "SSH and the web by the relay's address."),
        row(allowed_peers, {list, peer}, [], ["ALLOWED_PEERS"], yes, [config],
            <<"( \"10.0.0.0/8\", \"203.0.113.5:10000-20000\" )">>,
            "Networks that clients may reach although `denied_peers` forbids them, or although "
            "they are private, loopback, link-local or reserved. A server whose own relay address "
            "is of one of these kinds may reach that kind anyway. A service on this machine itself "
            "(an SFU) is reached only if an entry names its address, best with its ports; "
            "the ports that Meerkat listens on stay closed."),
        row(denied_peers, {list, network}, [], ["DENIED_PEERS"], yes, [config],
            <<"( \"203.0.113.0/24\" )">>,
            "Networks that clients may not reach, except for what `allowed_peers` has."),
        row(max_allocations, {integer, 1, 131072}, 16384, ["MAX_ALLOCATIONS"], no,
            [{relay, sessions_max}],
            "Most allocations at a time. The memory for them is reserved at the start."),
        row(total_quota, {integer, 0, 131072}, 0, ["TOTAL_QUOTA"], yes, [{quota, total}],
            "Most allocations at a time, below max_allocations; 0 means that only max_allocations "
            "counts. Beyond either, Allocate is answered 508."),
        row(user_quota, {integer, 0, 131072}, 0, ["USER_QUOTA"], yes, [{quota, user}],
            "Most allocations of one user; beyond it Allocate is answered 486. 0 means no limit. "
            "Of a time-limited username `expiry:name` only the name counts: all credentials of a "
            "user share one quota, and so do all users of a service that gives everybody the same "
            "name. An expiry without a name, as prosody gives, counts for its source address "
            "(IPv4) or /64 network (IPv6). A port held in reserve (EVEN-PORT, half a minute) "
            "counts as one more allocation, here and in the other quotas. In a fleet it is for all "
            "nodes together."),
        row(user_quota_replaces, boolean, false, ["USER_QUOTA_REPLACES"], yes,
            [{quota, replaces}],
            "With user_quota: whether an Allocate beyond it ends the user's oldest allocation, in "
            "place of being answered 486. With user_quota = 1 a user has one allocation, and the "
            "newer one wins. Not where everybody has the same name."),
        row(max_allocations_per_address, {integer, 0, 131072}, 0,
            ["MAX_ALLOCATIONS_PER_ADDRESS"], yes, [{quota, source}],
            "Most allocations from one source address (IPv4) or /64 network (IPv6), of all its "
            "users together; beyond it Allocate is answered 486. 0 means no limit. Many users may "
            "share an address."),
        row(max_bps, {integer, 0, 1000000000000}, 0, ["MAX_BPS"], yes, [{bandwidth, allocation}],
            "Bytes per second that one allocation may relay, in each direction; what is more is "
            "dropped. A datagram counts with its headers of IP and UDP: 28 bytes over IPv4, 48 "
            "over IPv6. 0 means no limit. A new value holds for new allocations."),
        row(max_pps, {integer, 0, 100000000}, 0, ["MAX_PPS"], yes, [{bandwidth, packets}],
            "Packets per second that one allocation may relay, in each direction; what is more is "
            "dropped (over_packet_rate). A quarter of a second's may come at once, or 64. 0 means "
            "no limit; a video call in high definition has some 500. A new value holds for new "
            "allocations. Not for connections with peers over TCP (tcp_relay)."),
        row(user_bps, {integer, 0, 1000000000000}, 0, ["USER_BPS"], yes, [{bandwidth, user}],
            "Bytes per second that all allocations of one user (see user_quota) may relay "
            "together, in each direction. 0 means no limit."),
        row(bps_capacity, {integer, 0, 1000000000000}, 0, ["BPS_CAPACITY"], yes,
            [{bandwidth, total}, {relay, bytes_per_s}],
            "Bytes per second that all allocations may relay together, in each direction. 0 means "
            "no limit."),
        row(unauthenticated_rate, {integer, 0, 1000000}, 100, ["UNAUTHENTICATED_RATE"], yes,
            [{relay, unauthenticated_rate}],
            "Answers per second to requests without good credentials (Binding, and the challenge "
            "that comes before every allocation), for one source address (IPv4) or /64 network "
            "(IPv6). The limit keeps this server from being used to flood others. 0 means no "
            "limit."),
        row(unauthenticated_burst, {integer, 1, 1000000}, 1000, ["UNAUTHENTICATED_BURST"], yes,
            [{relay, unauthenticated_burst}],
            "How many of those answers may be sent at once."),
        row(alternate_server, {list, server}, [], ["ALTERNATE_SERVER"], yes, [settings],
            <<"( \"192.0.2.7:3478\", \"[2001:db8::7]:3478\" )">>,
            "Servers that clients are sent to (300) while this one is drained; without any, in a "
            "fleet, to another node that has room. Clients whose "
            "address family none of them has are refused (508). Servers of one family share the "
            "clients."),
        row(fleet, {list, fleet_member}, [], ["FLEET"], yes, [settings],
            <<"\"turn.internal\"">>,
            "Which nodes form one service with this one (docs/fleet.md). Addresses, or a DNS name "
            "for the nodes at all its addresses, asked again every 10 s. Servers embedded in the "
            "nodes of a cluster may name nodes as Erlang does, `app@10.0.0.1`, or `connected` for "
            "whoever is connected anyway; the keys fleet_... are for Meerkat's own nodes, but "
            "for fleet_secret."),
        row(fleet_ip, own_address, undefined, ["FLEET_IP"], no, [config],
            <<"\"10.0.0.1\"">>,
            "The address of this machine at which the others of the fleet reach it; only there it "
            "listens to them. Without it that one of the addresses which `fleet` means that this "
            "machine has."),
        row(fleet_port, {integer, 1, 65535}, 4370, ["FLEET_PORT"], no, [config],
            "The TCP port for that, the same on all nodes. Nobody but them has to reach it."),
        row(fleet_secret, secret, undefined, ["FLEET_SECRET"], no, [config],
            <<"\"...\"">>,
            "A secret of the nodes of a fleet, which nobody else has to know: the key of nonces is "
            "made from it, and the cookie of Erlang's distribution. All nodes have the same. "
            "It may lie in a file: `fleet_secret_file`, FLEET_SECRET_FILE."),
        row(fleet_cert, {text, 1023}, undefined, ["FLEET_CERT"], no, [config],
            <<"\"/etc/meerkat/fleet/node.pem\"">>,
            "A PEM file with the certificate that this node shows the others of its fleet, issued "
            "by fleet_ca; whose name it has does not matter, but it needs one (subjectAltName). "
            "A newer one is read by itself within minutes."),
        row(fleet_key, {text, 1023}, undefined, ["FLEET_KEY"], no, [config],
            <<"\"/etc/meerkat/fleet/node.key\"">>,
            "The PEM file with the key of fleet_cert, without passphrase."),
        row(fleet_ca, {text, 1023}, undefined, ["FLEET_CA"], no, [config],
            <<"\"/etc/meerkat/fleet/ca.pem\"">>,
            "A PEM file with the certificate of the authority that issued those of all nodes. Who "
            "has a certificate of it may do anything to them: it is the fleet's own, and issues "
            "nothing else."),
        row(fleet_region, {text, 63}, undefined, ["FLEET_REGION"], yes, [settings],
            <<"\"eu\"">>,
            "Where this node is, as any word. Clients that ask this node where to come in (XMPP, "
            "GET /credentials) are told of nodes with the same word before others."),
        row(fleet_services, {integer, 1, 16}, 2, ["FLEET_SERVICES"], yes, [settings],
            "Of how many nodes of the fleet such clients are told, this one among them as a rule: "
            "those of the region first, and the least loaded of them."),
        row(anycast_ip, {list, own_address}, [], ["ANYCAST_IP"], yes, [settings],
            <<"( \"198.51.100.1\" )">>,
            "Addresses among those of listen_ip that other servers have too (RFC 8155). A client "
            "that asks for an allocation there is sent (300) to an address that this server "
            "listens on alone, in the same family and by the same transport, so name that in "
            "listen_ip."),
        row(new_peers_rate, {integer, 0, 10000}, 0, ["NEW_PEERS_RATE"], yes,
            [{limits, new_peers}],
            "New peers per second that an allocation may have (a permission, a channel or a "
            "connection for an address that has none); four times as many may come at once. Beyond "
            "it the request is answered 508. 0 means no limit. It keeps a client from looking for "
            "open ports of many machines; 5 is enough for calls."),
        row(max_permissions, {integer, 1, 1024}, 64, ["MAX_PERMISSIONS"], yes,
            [{limits, max_peers}],
            "Most permissions of one allocation, and most channels. Memory for max_allocations "
            "times this value is reserved at the start."),
        row(workers, {integer, 0, meerkat_ctl:limit(workers_max)}, 0, ["WORKERS"], no,
            [{relay, workers}],
            "Threads that move packets; 0 means one per CPU that this program may use "
            "(affinity, cpuset, quota of the cgroup). Each client belongs to one of them, "
            "so their number cannot change while the server runs."),
        row(io_backend, {choice, ?IO_BACKENDS}, auto, ["IO_BACKEND"], no, [{relay, io_backend}],
            "What moves packets. `auto` is `io_uring`, or `epoll` where io_uring is refused: by "
            "kernels before Linux 6.0, kernel.io_uring_disabled, Docker's default seccomp profile. "
            "The log says which it is, and why. With `io_uring` the server does not start where it "
            "is refused. The workers are built on it at the start."),
        row(receive_buffer, {integer, 4096, 1073741824}, 4194304, ["RECEIVE_BUFFER"], yes,
            [{relay, receive_buffer}],
            "Bytes of datagrams that may wait in each socket; in those of relayed addresses, of "
            "which there are many, 512 KiB at most. The kernel gives no more than "
            "net.core.rmem_max, except to a server with CAP_NET_ADMIN; the log says if it gives "
            "less. Memory is used only for what waits. After a reload, listeners have the new "
            "value, and the relayed addresses of allocations that are made later."),
        row(send_buffer, {integer, 4096, 1073741824}, 4194304, ["SEND_BUFFER"], yes,
            [{relay, send_buffer}],
            "The same for datagrams that wait to be sent, with net.core.wmem_max."),
        row(grants, boolean, true, ["GRANTS"], yes, [settings],
            "Whether the relay program may answer by itself what an allocation asks for within "
            "what was decided when it was made: Refresh, CreatePermission and ChannelBind that "
            "would succeed. Answers and limits are the same either way; with false each takes the "
            "longer way and more processor time."),
        row(shortcuts, boolean, true, ["SHORTCUTS"], yes, [{relay, shortcuts}],
            "Whether a packet between two clients of this server goes straight from the one to "
            "the other, instead of over both of their relayed addresses and the loopback "
            "interface. Checks, limits and counters are the same either way; with false each such "
            "packet costs twice the processor time, and can be seen on the loopback interface."),
        row(offload, {choice, ?OFFLOADS}, off, ["OFFLOAD"], no, [{relay, offload}],
            "Whether busy channels of UDP clients are relayed inside the kernel, for a fraction of "
            "the processor time (docs/design/offload.md). `tc` works on every Ethernet interface; "
            "`xdp` is cheaper, for what leaves by the interface it came by, where the driver can; "
            "`auto` is `tc`. It needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; the log says in one "
            "line what became of it, and sockets serve whatever that is. With `off` nothing is "
            "loaded. It is the default, for packets that are relayed so do not pass the firewall "
            "of this host, nor does anybody who captures them above the interface see them."),
        row(offload_interfaces, {list, {text, 15}}, [], ["OFFLOAD_INTERFACES"], no,
            [{relay, interfaces}], <<"( \"eth0\" )">>,
            "The interfaces on which `offload` takes packets, by name. Without it: all that have "
            "Ethernet and an address when the server starts."),
        row(software, {text, 127}, undefined, ["SOFTWARE"], yes, [settings], <<"\"Meerkat\"">>,
            "Text of the SOFTWARE attribute in responses. Without it there is none."),
        row(http_listen, http_address, undefined, ["HTTP_LISTEN"], yes, [{http, listen}],
            <<"\"127.0.0.1:9641\"">>,
            "Where to serve HTTP: metrics, health, credentials, a status page and one that tries "
            "the server from a browser (docs/monitoring.md). A port alone is served to this "
            "machine only. Without it there is no HTTP."),
        row(http_token, secret, undefined, ["HTTP_TOKEN"], yes, [{http, token}], <<"\"...\"">>,
            "The token that a request for /credentials must show; without it there is no "
            "/credentials. Whoever has the token can let anybody relay."),
        row(acme_webroot, {text, 1023}, undefined, ["ACME_WEBROOT"], yes, [{http, webroot}],
            <<"\"/var/lib/meerkat/webroot\"">>,
            "With http_listen: a directory whose .well-known/acme-challenge is served, so that a "
            "client of an ACME authority gets certificates by it (docs/certificates.md)."),
        row(xmpp_host, {list, xmpp_server}, [], ["XMPP_HOST"], yes, [{xmpp, servers}],
            <<"( \"127.0.0.1\", \"xmpp2.example.com:8888\" )">>,
            "XMPP servers to be a component of (XEP-0114), one for each node of a cluster. Each is "
            "a name or an address, with a port where that is not xmpp_port. Users are told of this "
            "server with credentials of their own (XEP-0215): docs/xmpp.md. Without it there is no "
            "component."),
        row(xmpp_port, {integer, 1, 65535}, 8888, ["XMPP_PORT"], yes, [{xmpp, port}],
            "The port for components on these servers."),
        row(xmpp_component, domain, undefined, ["XMPP_COMPONENT"], yes, [{xmpp, component}],
            <<"\"turn.example.com\"">>,
            "The component's name, as the XMPP server knows it. Several Meerkats each need one."),
        row(xmpp_secret, secret, undefined, ["XMPP_SECRET"], yes, [{xmpp, secret}], <<"\"...\"">>,
            "The secret that the component and the XMPP server share."),
        row(xmpp_domains, {list, domain}, [], ["XMPP_DOMAINS"], yes, [{xmpp, domains}],
            <<"( \"example.com\" )">>,
            "Domains whose users are told of this server. Without it: the domain above "
            "xmpp_component."),
        row(xmpp_admins, {list, jid}, [], ["XMPP_ADMINS"], yes, [{xmpp, admins}],
            <<"( \"admin@example.com\" )">>,
            "Who may give commands by XMPP (XEP-0050: status, a user's allocations, disconnect, "
            "drain): addresses without a resource, of xmpp_domains."),
        row(xmpp_ttl, {integer, 600, 604800}, 43200, ["XMPP_TTL"], yes, [{xmpp, ttl}],
            "Seconds for which the credentials are good. Some clients need at least 600."),
        row(xmpp_rate, {integer, 0, 1000000}, 5, ["XMPP_RATE"], yes, [{xmpp, rate}],
            "Requests per second of one user, with all its clients; twice as many may come at "
            "once. 0 means no limit."),
        row(xmpp_ping_interval, {integer, 1, 3600}, 60, ["XMPP_PING_INTERVAL"], yes,
            [{xmpp, ping_s}],
            "Seconds without a word from the XMPP server after which it is asked whether it is "
            "there. After as many again the connection is made anew."),
        row(xmpp_is_subdomain, boolean, false, ["XMPP_IS_SUBDOMAIN"], yes, [{xmpp, is_subdomain}],
            "MongooseIM only: xmpp_component is the first part of a name below every domain that "
            "it serves (`turn`: turn.example.com, turn.example.org, ...)."),
        row(accounting_file, {text, 1023}, undefined, ["ACCOUNTING_FILE"], yes,
            [{accounting, file}],
            <<"\"/var/lib/meerkat/accounting.jsonl\"">>,
            "A file that accounting records are appended to: who used how much of what, a JSON "
            "object a line (docs/accounting.md). It may be moved away at any time. /dev/stdout "
            "will do too."),
        row(accounting_url, url, undefined, ["ACCOUNTING_URL"], yes, [{accounting, url}],
            <<"\"https://billing.example.com/records\"">>,
            "A web server that accounting records are sent to, in batches: POST with a JSON object "
            "a line. Any status from 200 to 299 says that they are taken."),
        row(accounting_token, secret, undefined, ["ACCOUNTING_TOKEN"], yes, [{accounting, token}],
            <<"\"...\"">>,
            "With accounting_url: what is sent as `Authorization: Bearer`."),
        row(accounting_ca_file, {text, 1023}, undefined, ["ACCOUNTING_CA_FILE"], yes,
            [{accounting, ca_file}],
            <<"\"/etc/meerkat/billing-ca.pem\"">>,
            "With accounting_url and https: a PEM file with the certificates that may vouch for "
            "the web server, in place of the system's."),
        row(accounting_database, {database, sql}, undefined, ["ACCOUNTING_DATABASE"], yes,
            [{accounting, database}],
            <<"\"postgresql://turn:PASSWORD@db.example.com/turn\"">>,
            "A database that accounting records are put into, a row each in the table "
            "meerkat_accounting (docs/accounting.md has the statement that makes it)."),
        row(accounting_create_table, boolean, false, ["ACCOUNTING_CREATE_TABLE"], yes,
            [{accounting, create_table}],
            "With accounting_database: whether to make that table where there is none."),
        row(redis_statsdb, {database, redis}, undefined, ["REDIS_STATSDB"], yes,
            [{accounting, redis}],
            <<"\"ip=127.0.0.1 dbname=0 password=...\"">>,
            "A Redis that is told of allocations as coturn tells it, by the same keys and "
            "channels. As in coturn: `ip`, `port`, `dbname` and `password`, or "
            "`redis://:PASSWORD@HOST:PORT/NUMBER`."),
        row(accounting_interval, {integer, 0, 86400}, 300, ["ACCOUNTING_INTERVAL"], yes,
            [{accounting, interval}],
            "Seconds, about, between the records of an allocation that lives. 0 means that there "
            "are none but at its start and its end."),
        row(accounting_spool, {text, 1023}, undefined, ["ACCOUNTING_SPOOL"], yes,
            [{accounting, spool}],
            <<"\"/var/lib/meerkat/accounting\"">>,
            "The directory in which accounting records are kept until they are taken, this "
            "server's alone. Without it: `accounting` in $STATE_DIRECTORY, "
            "$XDG_STATE_HOME/meerkat or ~/.local/state/meerkat. A reload that would change it "
            "while records are kept is refused."),
        row(accounting_spool_bytes, {integer, 1048576, 1099511627776}, 268435456,
            ["ACCOUNTING_SPOOL_BYTES"], yes, [{accounting, spool_bytes}],
            "Bytes that records may take there. When it is more the oldest are removed; how many "
            "were lost is told in the log, in the metrics and in a record. A record has about 500 "
            "bytes."),
        row(log_level, {choice, ?LOG_LEVELS}, info, ["LOG_LEVEL", "MONGOOSEICE_LOGLEVEL"], yes,
            [config],
            "The least severe lines that are logged."),
        row(log_format, {choice, [{<<"human">>, human}, {<<"json">>, json}]}, human,
            ["LOG_FORMAT"], yes, [config],
            "What a line of the log looks like: text for people, or a JSON object."),
        row(media_sample, {integer, 0, 1000000}, 0, ["MEDIA_SAMPLE"], yes, [settings],
            "Of so many allocations one is looked at: the headers of its media tell how many "
            "packets are lost before they reach the server, and their jitter, which the metrics "
            "have of all that are looked at together (docs/monitoring.md). 64 costs less than 2 % "
            "of a processor; 0 means none."),
        row(survive, {integer, 0, 86400}, 120, ["SURVIVE"], no, [settings],
            "Seconds that the relay program goes on when Erlang is killed, crashes or is "
            "restarted: media, and what was decided before, go on, and nobody new comes in. An "
            "Erlang that starts within them takes it over with all allocations; otherwise it ends. "
            "It ends at once when it is stopped, and with 0. In another program's node: 0, unless "
            "it asks for more and gives a run_dir (docs/embedding.md)."),
        row(drain_deadline, {integer, 0, 86400}, 8, ["DRAIN_DEADLINE"], yes, [config],
            "Seconds that allocations have after SIGTERM. No new ones are made; the server ends "
            "when the last one has ended, when the time is over, or at once with the next SIGTERM. "
            "0 ends it at once. Whatever sends the signal must wait longer than this: `docker "
            "stop` waits 10 seconds (or its -t), Kubernetes terminationGracePeriodSeconds."),
        row(users_file, {text, 1023}, undefined, ["USERS_FILE"], yes, [config],
            <<"\"/var/lib/meerkat/users.cfg\"">>,
            "A file with more users, in the form of the key `users` and with nothing else in it. "
            "`meerkatctl users` writes users to it that are added while the server runs; without "
            "it they are gone after the next start. The file need not exist yet."),
        row(userdb, {database, sqlite}, undefined, ["USERDB"], yes, [config],
            <<"\"/var/lib/turn/turndb\"">>,
            "A file of SQLite with users and secrets, in coturn's tables: one that coturn or "
            "turnadmin has written, or a new one. Of userdb, psql_userdb, mysql_userdb, "
            "redis_userdb, ldap_userdb and http_userdb the first that is set counts "
            "(docs/databases.md tells more)."),
        row(psql_userdb, {database, postgresql}, undefined, ["PSQL_USERDB"], yes, [config],
            <<"\"host=127.0.0.1 dbname=turn user=turn password=...\"">>,
            "A database of PostgreSQL with users and secrets, in coturn's tables. As in coturn: "
            "`host`, `port`, `dbname`, `user` and `password`, or "
            "`postgresql://USER:PASSWORD@HOST:PORT/DATABASE`."),
        row(mysql_userdb, {database, mysql}, undefined, ["MYSQL_USERDB"], yes, [config],
            <<"\"host=127.0.0.1 dbname=turn user=turn password=...\"">>,
            "The same of MySQL or MariaDB, or `mysql://USER:PASSWORD@HOST:PORT/DATABASE`."),
        row(redis_userdb, {database, redis}, undefined, ["REDIS_USERDB"], yes, [config],
            <<"\"ip=127.0.0.1 dbname=0 password=...\"">>,
            "A Redis with users and secrets, by coturn's names for keys. As in coturn: `ip`, "
            "`port`, `dbname` and `password`, or `redis://:PASSWORD@HOST:PORT/NUMBER`."),
        row(ldap_userdb, {database, ldap}, undefined, ["LDAP_USERDB"], yes, [config],
            <<"\"host=ldap.example.com base='ou=people,dc=example,dc=com' "
              "password_attribute=turnPassword\"">>,
            "A directory with users, asked by LDAP: `host`, `port`, `tls` (starttls, ldaps or no), "
            "`ca_file`, `base`, `name` (the attribute with the name, uid), `password_attribute` or "
            "`key_attribute` and `sha256_attribute`, `realm`, `where` (ATTRIBUTE=VALUE), `binddn` "
            "and `password`."),
        row(http_userdb, {database, http}, undefined, ["HTTP_USERDB"], yes, [config],
            <<"\"url=https://hooks.example.com/turn token=...\"">>,
            "A web server that is asked about users: `url`, `token` (sent as `Authorization: "
            "Bearer`), `ca_file` (who may vouch for it), `address` (yes or no: whether it is told "
            "where a client is). A URL by itself will do."),
        row(database_sha256, boolean, false, ["DATABASE_SHA256"], yes, [config],
            "Whether password_algorithms counts for users of a database as well: every one of them "
            "needs a key for SHA-256, which coturn's tables have not. Clients that know it use no "
            "other."),
        row(database_pool, {integer, 1, 64}, 4, ["DATABASE_POOL"], yes, [{lookups, pool}],
            "Connections to the database, each of which is asked one thing at a time."),
        row(database_refresh, {integer, 1, 3600}, 30, ["DATABASE_REFRESH"], yes,
            [{lookups, refresh_s}],
            "Seconds after which the peers that the database allows and denies are read again."),
        row(cache_lifetime, {integer, 1, 86400}, 120, ["CACHE_LIFETIME"], yes,
            [{lookups, lifetime_s}],
            "Seconds for which users and secrets from the database are used without asking again."),
        row(cache_unknown_lifetime, {integer, 1, 3600}, 5, ["CACHE_UNKNOWN_LIFETIME"], yes,
            [{lookups, unknown_s}],
            "The same for users that the database does not have."),
        row(cache_grace, {integer, 0, 604800}, 86400, ["CACHE_GRACE"], yes, [{lookups, grace_s}],
            "Seconds for which users and secrets that were in the database are good while it does "
            "not answer."),
        row(cache_size, {integer, 100, 10000000}, 100000, ["CACHE_SIZE"], yes, [{lookups, size}],
            "Users that are remembered at a time.")
    ].

row(Key, Type, Default, Env, Reloadable, Gets, Doc) ->
    row(Key, Type, Default, Env, Reloadable, Gets, undefined, Doc).

row(Key, Type, Default, Env, Reloadable, Gets, Example, Doc) ->
    #{
        key => Key,
        type => Type,
        default => Default,
        env => [list_to_binary(Name) || Name <- Env],
        reloadable => Reloadable =:= yes,
        gets => Gets,
        example => Example,
        doc => list_to_binary(Doc)
    }.

%% The row of a key, by the name a file gives it.
-spec find(Name :: binary()) -> {ok, row()} | error.
find(Name) ->
    case [Row || #{key := Key} = Row <- rows(), atom_to_binary(Key) =:= Name] of
        [Row] -> {ok, Row};
        [] -> error
    end.

-spec keys() -> [binary()].
keys() ->
    [atom_to_binary(Key) || #{key := Key} <- rows()].

%% The keys whose values the configuration has as a map as they are.
-spec plain() -> [atom()].
plain() ->
    [Key || #{key := Key, gets := Gets} <- rows(), [] =:= [made || {made, _} <- Gets]].

%% The rows of the keys that this is made of.
-spec made(Name :: atom()) -> [row()].
made(Name) ->
    [Row || #{gets := Gets} = Row <- rows(), lists:member({made, Name}, Gets)].

%% A part of the settings: its names, and the key whose value each has.
-spec part(relay | streams | front | limits | tcp | quota | bandwidth | http | xmpp
           | accounting | lookups) ->
    [{Name :: atom(), Key :: atom()}].
part(Part) ->
    [{Name, Key} || #{key := Key, gets := Gets} <- rows(), {P, Name} <- Gets, P =:= Part].

%% Every environment name of the table.
-spec environment() -> [binary()].
environment() ->
    lists:append([Names || #{env := Names} <- rows()]).
