%% What an operator may write and what becomes of it: every source of a value, every way to get one
%% wrong, and what MongooseICE's operators rely on. The machine's addresses are played, but in the
%% cases that ask for them.
-module(config_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_testcase/2, end_per_testcase/2]).
-export([defaults/1, file_then_mongooseice_then_own_name/1, every_variable_is_read/1,
         every_key_is_read_from_a_file/1, empty_is_unset/1, spellings_of_booleans/1,
         lists_in_both_sources/1, values_become_terms/1, names_and_passwords_are_prepared/1,
         a_file_may_be_named_by_a_variable/1]).
-export([wrong_variables/1, wrong_settings/1, wrong_together/1, discovery/1,
         discovery_that_cannot_be/1, all_mistakes_at_once/1, all_mistakes_of_a_list/1,
         a_mistake_in_the_file_counts_though_overridden/1, broken_files/1, unknown_keys/1,
         any_text_is_survived/1, errors_are_one_line/1]).
-export([every_secret_may_lie_in_a_file/1, kubernetes_sets_ports/1, bounds_are_the_relays/1,
         leftovers_in_secrets_are_pointed_out/1, secret_file_with_a_byte_order_mark/1]).
-export([secrets_in_files/1, secrets_in_files_that_cannot_be/1, estos_names/1,
         realms_become_terms/1, realms_that_cannot_be/1,
         tcp_is_relayed_for_clients_over_tcp/1]).
-export([what_is_read_is_good_in_a_map/1, a_realm_counts_in_bytes/1]).
-export([secrets_are_never_shown/1, secret_is_drawn_at_each_start/1,
         secret_with_white_space_is_pointed_out/1]).
-export([relay_is_the_default_route/1, no_address_yet/1, peers_with_ports/1,
         relay_ip_that_appears_later/1, ipv6_only_is_pointed_out/1,
         relay_that_clients_cannot_reach_is_pointed_out/1,
         relay_behind_nat/1, this_machine/1, relay_ports/1, several_relays/1,
         relays_that_cannot_be/1]).
-export([k27_names_and_defaults/1, k27_unknown_names_are_warnings/1,
         near_misses_of_variables_are_told/1, k27_own_names_win/1,
         k28_relay_ip/1, k29_peers_as_before/1, k30_listeners_with_realms/1,
         k12_channel_numbers/1, every_key_has_its_purpose/1, added_users_are_kept_by_realm/1,
         mistakes_come_as_a_reader_meets_them/1,
         secret_as_password/1, f16_tcp/1]).
-export([effective_tells_origins/1, values_have_types/1, example_is_the_schema/1,
         example_means_the_defaults/1, example_can_be_uncommented/1, reference_is_the_schema/1]).

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

init_per_testcase(Case, Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), atom_to_list(Case) ++ ".cfg"),
    [{file, File} | Config].

end_per_testcase(_, _) ->
    ok.

%%% Where values come from

defaults(_) ->
    {ok, Config, _} = load([]),
    ?assertMatch(#{realm := <<"udp.localhost.local">>, strict_realm := false,
                   listeners := [#{transport := udp, ip := any, port := 3478}],
                   relays := [#{local := {192, 0, 2, 7}, advertised := {192, 0, 2, 7},
                                min_port := 49152, max_port := 65535}],
                   workers := 0, max_allocations := 16384, max_permissions := 64,
                   default_lifetime := 600, max_lifetime := 3600, nonce_lifetime := 3600,
                   rfc5766_channel_numbers := false, rfc3489_compatibility := false,
                   mobility := false, allowed_peers := [], denied_peers := [],
                   total_quota := 0, user_quota := 0, max_allocations_per_address := 0,
                   max_bps := 0, max_pps := 0, user_bps := 0, bps_capacity := 0,
                   unauthenticated_rate := 100, unauthenticated_burst := 1000,
                   alternate_server := [], fleet := [],
                   password_algorithms := true, require_sha256 := false,
                   username_anonymity := true, credential_leeway := 0,
                   credential_sha256 := false, credential_name_first := false,
                   token_keys := [], jwt_audience := undefined, jwt_issuer := undefined,
                   jwt_required := false, expire_with_credentials := false,
                   failed_authentication_rate := 10,
                   software := undefined, log_level := info, log_format := human,
                   survive := 120, drain_deadline := 8, users_file := undefined,
                   secrets := [_]}, Config),
    ?assertEqual(#{}, maps:get(users, Config)).

file_then_mongooseice_then_own_name(Config) ->
    File = file(Config, "realm = \"file\";"),
    Realm = fun(Env) ->
        {ok, #{realm := Realm}, _} = load(File, Env),
        Realm
    end,
    ?assertEqual(<<"file">>, Realm([])),
    ?assertEqual(<<"theirs">>, Realm([{"MONGOOSEICE_UDP_REALM", "theirs"}])),
    ?assertEqual(<<"ours">>, Realm([{"MONGOOSEICE_UDP_REALM", "theirs"}, {"REALM", "ours"}])),
    ?assertEqual(<<"file">>, Realm([{"MONGOOSEICE_UDP_REALM", ""}, {"REALM", " "}])).

%% What the relay has room for is what a key may be: at the bound it is good, above it there is a
%% sentence, and nothing gets as far as the relay.
bounds_are_the_relays(_) ->
    Most = fun meerkat_ctl:limit/1,
    Text = fun(Bytes) ->
        unicode:characters_to_binary(lists:duplicate(Bytes div 2, 16#e9))
    end,
    Ips = fun(N) -> lists:join(",", [["10.0.0.", integer_to_list(I)] || I <- lists:seq(1, N)]) end,
    Networks = fun(N) ->
        lists:join(",", [io_lib:format("10.~b.~b.0/24", [I div 256, I rem 256])
                         || I <- lists:seq(1, N)])
    end,
    [begin
         ?assertMatch({ok, _, _}, loaded([{Name, unicode:characters_to_binary(Good)}])),
         {error, [Sentence]} = loaded([{Name, unicode:characters_to_binary(Bad)}]),
         ?assertEqual({match, [Name]}, re:run(Sentence, "^[A-Z_]+", [{capture, first, binary}]))
     end || {Name, Good, Bad} <-
                [{<<"WORKERS">>, integer_to_list(Most(workers_max)),
                  integer_to_list(Most(workers_max) + 1)},
                 %% Characters of two bytes each.
                 {<<"REALM">>, Text(Most(realm_bytes_max)), Text(Most(realm_bytes_max) + 1)},
                 {<<"LISTEN_IP">>, Ips(Most(listeners_max)), Ips(Most(listeners_max) + 1)},
                 {<<"RELAY_IP">>, Ips(Most(pools_max) div 4), Ips(Most(pools_max) div 4 + 1)},
                 {<<"DENIED_PEERS">>, Networks(Most(rules_max) div 4),
                  Networks(Most(rules_max) div 4 + 1)}]],
    {error, [_]} = loaded([{<<"TURN_USERNAME">>, Text(510)}, {<<"TURN_PASSWORD">>, <<"x">>}]),
    {ok, _, _} = loaded([{<<"TURN_USERNAME">>, Text(508)}, {<<"TURN_PASSWORD">>, <<"x">>}]).

%% Kubernetes has such a variable for each Service, whatever it is called.
kubernetes_sets_ports(_) ->
    Ports = [Name || Name <- meerkat_config_schema:environment(),
                     re:run(Name, "_PORT$") =/= nomatch],
    ?assert(lists:all(fun(Name) -> lists:member(Name, Ports) end,
                      [<<"TURN_PORT">>, <<"XMPP_PORT">>, <<"LISTEN_PORT">>, <<"MIN_PORT">>,
                       <<"MONGOOSEICE_UDP_PORT">>, <<"ALTERNATE_LISTEN_PORT">>])),
    {ok, Usual, _} = loaded([]),
    [begin
         {ok, Loaded, Warnings} = loaded([{Name, Value}]),
         ?assertEqual(maps:remove(secrets, Usual), maps:remove(secrets, Loaded)),
         ?assertMatch([_], [W || W <- Warnings,
                                 string:prefix(iolist_to_binary(W),
                                               [Name, " is \"", Value, "\", which Kubernetes"])
                                     =/= nomatch])
     end || Name <- Ports, Value <- ["udp://10.96.0.7:3478", "tcp://[fd00::7]:80",
                                     "sctp://10.96.0.7:1"]],
    %% The next of the names counts.
    {ok, #{listeners := [#{port := 3600} | _]}, _} =
        loaded([{<<"LISTEN_PORT">>, "tcp://10.96.0.7:80"}, {<<"TURN_PORT">>, "3600"}]),
    [{error, [_]} = loaded([{<<"TURN_PORT">>, Value}])
     || Value <- ["udp://", "http://10.96.0.7:80", "udp://10.96.0.7"]],
    {error, [_]} = loaded([{<<"LISTEN_IP">>, "udp://10.96.0.7:80"}]).

loaded(Env) ->
    meerkat_config:load(#{file => none, env => Env,
                          host => #{route => fun(inet) -> {ok, {192, 0, 2, 7}}; (inet6) -> none end,
                                    first => fun(_) -> none end, bindable => fun(_) -> true end}}).

%% No name of the table is there for nothing.
every_variable_is_read(_) ->
    Names = [{Key, Name} || #{key := Key, env := Names} <- meerkat_config_schema:rows(),
                            Name <- Names],
    ?assert(length(Names) > 20),
    [begin
         {ok, Config, _} = load([{Name, variable(Key)}]),
         {Key, Shown, Origin} = setting(Key, Config),
         ?assertEqual({Name, Name, shown(Key)}, {Name, Origin, Shown})
     end || {Key, Name} <- Names, not lists:member(Key, [users, xmpp_host, tls_cert, tls_key,
                                                              tls_client_ca])].

every_key_is_read_from_a_file(Config) ->
    [begin
         File = file(Config, ["\n", Key, " = ", in_file(binary_to_existing_atom(Key)), ";\n"]),
         {ok, Loaded, _} = load(File, []),
         {_, Shown, Origin} = setting(binary_to_existing_atom(Key), Loaded),
         ?assertEqual({Key, shown(binary_to_existing_atom(Key))}, {Key, Shown}),
         ?assertEqual(iolist_to_binary([File, ":2"]), Origin)
     end || Key <- meerkat_config_schema:keys(),
            %% xep0114_SUITE and tls_SUITE have what cannot be by itself.
            not lists:member(Key, [<<"xmpp_host">>, <<"tls_cert">>, <<"tls_key">>,
                                <<"tls_client_ca">>])].

%% A value is judged once: what a file may have no server turns down at its start.
what_is_read_is_good_in_a_map(Config) ->
    %% Where a certificate is kept that is made for tls_self_signed.
    true = os:putenv("STATE_DIRECTORY", proplists:get_value(priv_dir, Config)),
    [begin
         File = file(Config, ["\n", Key, " = ", in_file(binary_to_existing_atom(Key)), ";\n"]),
         {ok, Loaded, _} = load(File, []),
         ?assertEqual({Key, []}, {Key, meerkat_config_map:wrong(Loaded)}),
         ?assertMatch({ok, _}, meerkat_settings:new(?FUNCTION_NAME, Loaded))
     end || Key <- meerkat_config_schema:keys(),
            not lists:member(Key, [<<"xmpp_host">>, <<"tls_cert">>, <<"tls_key">>,
                                <<"tls_client_ca">>])].

%% The relay program has room for so many.
a_realm_counts_in_bytes(Config) ->
    Fits = binary:copy(<<"ä"/utf8>>, 63),
    {ok, Loaded, _} = load(file(Config, ["realm = \"", Fits, "\";\n"]), []),
    ?assertMatch({ok, _}, meerkat_settings:new(?FUNCTION_NAME, Loaded)),
    {error, [Sentence]} = load(file(Config, ["realm = \"", Fits, "\x{e4}\";\n"]), []),
    ?assertNotEqual(nomatch, string:find(Sentence, "it must be text of 1 to 127 bytes")).

variable(allowed_peers) -> "10.0.0.0/8,::1";
variable(denied_peers) -> "10.0.0.0/8,::1";
variable(listen_ip) -> "127.0.0.1,::1";
variable(proxy_protocol_from) -> "10.0.0.0/8,::1";
variable(https_backend) -> "127.0.0.1:8443, WWW.example.org=[::1]:443";
variable(tls_names) -> "turn.example.org,*.Example.com";
variable(anycast_ip) -> "198.51.100.1,2001:db8::1";
variable(fleet) -> "app@10.0.0.1,connected";
variable(alternate_server) -> "192.0.2.7:3478, [2001:db8::7]:3479";
variable(secret) -> "sesame";
variable(offload_interfaces) -> "eth0,eth1";
variable(xmpp_domains) -> "example.com, Example.ORG";
variable(xmpp_admins) -> "a@example.com,b@example.com";
variable(Key) -> binary_to_list(iolist_to_binary(string:trim(in_file(Key), both, "\""))).

in_file(listen_ip) -> "( \"127.0.0.1\", \"::1\" )";
in_file(listen_port) -> "3479";
in_file(extra_listeners) -> "( { port = 1; }, { port = 2; ip = \"::1\"; realm = \"r\"; } )";
in_file(udp_enabled) -> "false";
in_file(grants) -> "false";
in_file(shortcuts) -> "false";
in_file(offload) -> "\"tc\"";
in_file(offload_interfaces) -> "( \"eth0\", \"eth1\" )";
in_file(tcp_enabled) -> "false";
in_file(tls_self_signed) -> "true";
in_file(tls_port) -> "443";
in_file(tls_client_verify) -> "\"optional\"";
in_file(tls_client_user) -> "\"cn\"";
in_file(dtls_enabled) -> "false";
in_file(tcp_queue_ms) -> "50";
in_file(tcp_connections_per_address) -> "17";
in_file(proxy_protocol_from) -> "[ \"10.0.0.0/8\", \"::1\" ]";
in_file(proxy_protocol_udp) -> "true";
in_file(https_backend) -> "( \"127.0.0.1:8443\", \"WWW.example.org=[::1]:443\" )";
in_file(https_proxy_protocol) -> "true";
in_file(tls_names) -> "( \"turn.example.org\", \"*.Example.com\" )";
in_file(relay_ip) -> "\"198.51.100.9\"";
in_file(realms) -> "( { name = \"a.example\"; secret = \"s\"; } )";
in_file(relays) -> "( { ip = \"10.0.0.5\"; advertised = \"203.0.113.5\"; min_port = 50000; } )";
in_file(min_port) -> "50000";
in_file(max_port) -> "60000";
in_file(secret) -> "\"sesame\"";
in_file(users) -> "( { name = \"alice\"; password = \"x\"; } )";
in_file(realm) -> "\"here\"";
in_file(default_lifetime) -> "700";
in_file(max_lifetime) -> "1200";
in_file(nonce_lifetime) -> "61";
in_file(allowed_peers) -> "[ \"10.0.0.0/8\", \"::1\" ]";
in_file(denied_peers) -> "( \"10.0.0.0/8\", \"::1\" )";
in_file(max_allocations) -> "7";
in_file(max_permissions) -> "8";
in_file(Quota) when Quota =:= total_quota; Quota =:= user_quota;
                    Quota =:= max_allocations_per_address -> "9";
in_file(max_pps) -> "5000";
in_file(Rate) when Rate =:= max_bps; Rate =:= user_bps; Rate =:= bps_capacity -> "1000000";
in_file(unauthenticated_rate) -> "11";
in_file(unauthenticated_burst) -> "12";
in_file(fleet) -> "( \"app@10.0.0.1\", \"connected\" )";
in_file(fleet_ip) -> "\"10.0.0.1\"";
in_file(fleet_port) -> "4371";
in_file(fleet_secret) -> "\"open sesame\"";
in_file(fleet_cert) -> "\"/nowhere/node.pem\"";
in_file(fleet_key) -> "\"/nowhere/node.key\"";
in_file(fleet_ca) -> "\"/nowhere/ca.pem\"";
in_file(fleet_region) -> "\"eu\"";
in_file(fleet_services) -> "3";
in_file(anycast_ip) -> "( \"198.51.100.1\", \"2001:db8::1\" )";
in_file(alternate_server) -> "( \"192.0.2.7:3478\", \"[2001:db8::7]:3479\" )";
in_file(workers) -> "2";
in_file(io_backend) -> "\"epoll\"";
in_file(receive_buffer) -> "65536";
in_file(send_buffer) -> "65537";
in_file(software) -> "\"S\"";
in_file(log_level) -> "\"error\"";
in_file(log_format) -> "\"json\"";
in_file(survive) -> "30";
in_file(drain_deadline) -> "14";
in_file(http_listen) -> "\"[::1]:9641\"";
in_file(acme_webroot) -> "\"/srv/webroot\"";
in_file(http_token) -> "\"open sesame\"";
in_file(xmpp_port) -> "5347";
in_file(xmpp_component) -> "\"turn.example.com\"";
in_file(xmpp_secret) -> "\"open sesame\"";
in_file(xmpp_domains) -> "( \"example.com\", \"Example.ORG\" )";
in_file(xmpp_admins) -> "( \"a@example.com\", \"b@example.com\" )";
in_file(xmpp_ttl) -> "601";
in_file(xmpp_rate) -> "6";
in_file(xmpp_ping_interval) -> "16";
in_file(xmpp_is_subdomain) -> "true";
in_file(accounting_file) -> "\"/nowhere/accounting.jsonl\"";
in_file(accounting_url) -> "\"https://billing.example.com/records\"";
in_file(accounting_token) -> "\"open sesame\"";
in_file(accounting_ca_file) -> "\"/nowhere/ca.pem\"";
in_file(new_peers_rate) -> "5";
in_file(user_quota_replaces) -> "true";
in_file(accounting_database) -> "\"mysql://u:sesame@h/turn\"";
in_file(accounting_create_table) -> "true";
in_file(redis_statsdb) -> "\"redis://:sesame@h:6380/3\"";
in_file(media_sample) -> "64";
in_file(accounting_interval) -> "60";
in_file(accounting_spool) -> "\"/nowhere/accounting\"";
in_file(accounting_spool_bytes) -> "2000000";
in_file(users_file) -> "\"/nowhere/users.cfg\"";
in_file(userdb) -> "\"/nowhere/turndb\"";
in_file(psql_userdb) -> "\"postgresql://u:open%20sesame@h:5433/turn\"";
in_file(mysql_userdb) -> "\"mysql://u:sesame@h/turn\"";
in_file(redis_userdb) -> "\"redis://:sesame@h:6380/3\"";
in_file(ldap_userdb) -> "\"host=h base=dc=org key_attribute=k binddn=cn=t password=sesame\"";
in_file(http_userdb) -> "\"url=https://hooks.example.com/turn token=sesame\"";
in_file(database_sha256) -> "true";
in_file(database_pool) -> "5";
in_file(database_refresh) -> "9";
in_file(cache_lifetime) -> "20";
in_file(cache_unknown_lifetime) -> "21";
in_file(cache_grace) -> "23";
in_file(cache_size) -> "1000";
in_file(password_algorithms) -> "false";
in_file(username_anonymity) -> "false";
in_file(credential_leeway) -> "15";
in_file(credential_sha256) -> "true";
in_file(credential_name_first) -> "true";
in_file(expire_with_credentials) -> "true";
in_file(jwt_keys) -> [$", filename:join(docs_kit:root(), "test/data/jwks.json"), $"];
in_file(jwt_audience) -> "\"turn.example.com\"";
in_file(jwt_issuer) -> "\"https://login.example.com\"";
in_file(jwt_required) -> "true";
in_file(require_sha256) -> "true";
in_file(failed_authentication_rate) -> "13";
in_file(strict_realm) -> "true";
in_file(secret_as_password) -> "true";
in_file(rfc5766_channel_numbers) -> "true";
in_file(rfc5780) -> "false";
in_file(alternate_listen_ip) -> "\"198.51.100.6\"";
in_file(alternate_listen_port) -> "3480";
in_file(rfc3489_compatibility) -> "true";
in_file(mobility) -> "true";
in_file(tcp_relay) -> "true";
in_file(tcp_relay_connections) -> "18";
in_file(tcp_relay_user_connections) -> "19";
in_file(tcp_relay_min_port) -> "22".

shown(listen_ip) -> <<"127.0.0.1, ::1">>;
shown(extra_listeners) -> <<"any port 1, ::1 port 2 \"r\"">>;
shown(realms) -> <<"\"a.example\"">>;
shown(relays) -> <<"203.0.113.5 (bound: 10.0.0.5) from port 50000">>;
shown(relay_ip) -> <<"198.51.100.9">>;
shown(https_backend) -> <<"127.0.0.1:8443, www.example.org=[::1]:443">>;
shown(tls_names) -> <<"turn.example.org, *.example.com">>;
shown(offload_interfaces) -> <<"\"eth0\", \"eth1\"">>;
shown(fleet) -> <<"app@10.0.0.1, connected">>;
shown(anycast_ip) -> <<"198.51.100.1, 2001:db8::1">>;
shown(alternate_server) -> <<"192.0.2.7:3478, [2001:db8::7]:3479">>;
shown(secret) -> <<"(1, not shown)">>;
shown(xmpp_domains) -> <<"example.com, example.org">>;
shown(xmpp_admins) -> <<"a@example.com, b@example.com">>;
shown(Token) when Token =:= http_token; Token =:= xmpp_secret; Token =:= accounting_token;
                  Token =:= fleet_secret ->
    <<"(not shown)">>;
shown(users) -> <<"\"alice\"">>;
shown(psql_userdb) -> <<"postgresql://u:(not shown)@h:5433/turn">>;
shown(accounting_database) -> shown(mysql_userdb);
shown(redis_statsdb) -> shown(redis_userdb);
shown(mysql_userdb) -> <<"mysql://u:(not shown)@h:3306/turn">>;
shown(redis_userdb) -> <<"redis://h:6380/3">>;
shown(http_userdb) -> <<"https://hooks.example.com/turn">>;
shown(ldap_userdb) -> <<"ldap://cn=t:(not shown)@h:389/dc=org">>;
shown(Key) when Key =:= allowed_peers; Key =:= denied_peers; Key =:= proxy_protocol_from ->
    <<"10.0.0.0/8, ::1/128">>;
shown(Key) when Key =:= realm; Key =:= software; Key =:= users_file; Key =:= userdb;
                Key =:= acme_webroot; Key =:= accounting_file; Key =:= accounting_ca_file;
                Key =:= accounting_spool; Key =:= fleet_cert; Key =:= fleet_key;
                Key =:= fleet_ca; Key =:= fleet_region; Key =:= jwt_keys;
                Key =:= jwt_audience; Key =:= jwt_issuer ->
    iolist_to_binary(in_file(Key));
shown(Key) -> iolist_to_binary(string:trim(in_file(Key), both, "\"")).

empty_is_unset(_) ->
    All = [{Name, ""} || Name <- meerkat_config_schema:environment()],
    {ok, Config, _} = load(All),
    Defaults = [{Key, <<"default">>} || #{key := Key} <- meerkat_config_schema:rows()],
    ?assertEqual(Defaults,
                 [{K, O} || #{key := K, origin := O} <- meerkat_config:effective(Config)]).

spellings_of_booleans(Config) ->
    Strict = fun(File, Env) ->
        {ok, #{strict_realm := Strict}, _} = load(File, Env),
        Strict
    end,
    [?assertEqual({Text, true}, {Text, Strict(none, [{"STRICT_REALM", Text}])})
     || Text <- ["true", "TRUE", "1", "yes", "Yes", " true "]],
    [?assertEqual({Text, false}, {Text, Strict(none, [{"STRICT_REALM", Text}])})
     || Text <- ["false", "False", "0", "no", "NO"]],
    [?assertEqual({Text, true}, {Text, Strict(file(Config, ["strict_realm = ", Text, ";"]), [])})
     || Text <- ["true", "TRUE", "1", "\"yes\""]].

lists_in_both_sources(Config) ->
    Peers = fun(File, Env) ->
        {ok, #{allowed_peers := Peers}, _} = load(File, Env),
        Peers
    end,
    Two = [{{10, 0, 0, 0}, 8}, {{16#2001, 16#db8, 0, 0, 0, 0, 0, 0}, 32}],
    ?assertEqual(Two, Peers(none, [{"ALLOWED_PEERS", "10.0.0.0/8 ,2001:db8::/32,10.0.0.0/8"}])),
    File = file(Config, "allowed_peers = ( \"10.0.0.0/8\", \"2001:db8::/32\" );"),
    ?assertEqual(Two, Peers(File, [])),
    ?assertEqual([hd(Two)], Peers(file(Config, "allowed_peers = \"10.0.0.0/8\";"), [])),
    ?assertEqual([], Peers(file(Config, "allowed_peers = ();"), [])).

values_become_terms(Config) ->
    File = file(Config,
                "users = ( { name = \"alice\"; password = \"x, y\"; },\n"
                "          { key = \"000102030405060708090A0b0c0d0e0f\"; name = \"bob\"; } );\n"
                "secret = ( \"new\", \"old\" );\n"
                "listen_ip = \"any\"; listen_port = \"3479\";\n"
                "extra_listeners = ( { port = 443; realm = \"other\"; } );\n"
                "software = \"M\";\n"),
    {ok, Loaded, _} = load(File, [{"DENIED_PEERS", "0.0.0.0/0,192.0.2.1,::ffff:192.0.2.2"}]),
    ?assertEqual(#{users => #{<<"alice">> => {password, <<"x, y">>},
                              <<"bob">> => {key, list_to_binary(lists:seq(0, 15))}},
                   secrets => [<<"new">>, <<"old">>],
                   software => <<"M">>,
                   listeners => [#{transport => udp, ip => any, port => 3479},
                                 #{transport => udp, ip => any, port => 443,
                                   realm => <<"other">>}],
                   denied_peers => [{{0, 0, 0, 0}, 0}, {{192, 0, 2, 1}, 32},
                                    {{192, 0, 2, 2}, 32}]},
                 maps:with([users, secrets, software, listeners, denied_peers], Loaded)).

%% RFC 8265 4.2: what is hashed is composed, its spaces are U+0020 and its letters as they are.
names_and_passwords_are_prepared(Config) ->
    File = file(Config, unicode:characters_to_binary(
        "users = ( { name = \"Ame\x{301}lie\"; password = \"a\x{a0}b\x{3000}\x{ff21}\"; } );\n"
        "realm = \"caf\x{65}\x{301}\";\n"
        "extra_listeners = ( { port = 1; realm = \"a\x{2003}b\"; } );")),
    {ok, Loaded, _} = load(File, []),
    ?assertEqual(#{<<"Am\x{e9}lie"/utf8>> => {password, <<"a b \x{ff21}"/utf8>>}},
                 maps:get(users, Loaded)),
    ?assertMatch(#{realm := <<"caf\x{e9}"/utf8>>, listeners := [_, #{realm := <<"a b">>}]}, Loaded).

a_file_may_be_named_by_a_variable(Config) ->
    File = file(Config, "realm = \"file\";"),
    Load = fun(Options) ->
        {ok, #{realm := Realm}, _} = meerkat_config:load(Options#{host => host()}),
        Realm
    end,
    ?assertEqual(<<"file">>, Load(#{env => [{"CONFIG_FILE", File}]})),
    ?assertEqual(<<"udp.localhost.local">>, Load(#{env => [{"CONFIG_FILE", ""}]})),
    ?assertEqual(<<"udp.localhost.local">>, Load(#{file => none, env => [{"CONFIG_FILE", File}]})).

%%% What can be wrong

wrong_variables(_) ->
    Realm = "text of 1 to 127 bytes in UTF-8, without control characters, \" or \\, and "
        "without what RFC 8265 (OpaqueString) disallows",
    [?assertEqual({error, [Sentence]}, load([{Name, Text}])) || {Name, Text, Sentence} <- [
        {"LISTEN_PORT", "http",
         "LISTEN_PORT is \"http\"; it must be a whole number from 0 to 65535"},
        {"MONGOOSEICE_UDP_PORT", "65536",
         "MONGOOSEICE_UDP_PORT is \"65536\"; it must be a whole number from 0 to 65535"},
        {"MIN_PORT", "-1", "MIN_PORT is \"-1\"; it must be a whole number from 1 to 65535"},
        {"MAX_PORT", "5e3", "MAX_PORT is \"5e3\"; it must be a whole number from 1 to 65535"},
        {"MAX_LIFETIME", "10m",
         "MAX_LIFETIME is \"10m\"; it must be a whole number from 600 to 86400"},
        {"STRICT_REALM", "on",
         "STRICT_REALM is \"on\"; it must be true, 1 or yes, or false, 0 or no"},
        {"LOG_LEVEL", "loud",
         "LOG_LEVEL is \"loud\"; it must be one of debug, info, notice, warning, warn, error"},
        {"LISTEN_IP", "localhost",
         "LISTEN_IP is \"localhost\"; it must be an IP address like 192.0.2.7 or 2001:db8::7 (no "
         "name), or any"},
        {"LISTEN_IP", "192.0.2.1,192.0.2.010",
         "LISTEN_IP is \"192.0.2.010\"; it must be an IP address like 192.0.2.7 or 2001:db8::7 "
         "(no name), or any"},
        {"LISTEN_IP", "any,127.0.0.1",
         "LISTEN_IP is any, 127.0.0.1; it must be any, or IP addresses (in a file a list of "
         "texts, in the environment separated by commas)"},
        {"RELAY_IP", "turn.example.org", not_relayable("turn.example.org")},
        {"RELAY_IP", "0.0.0.0", not_relayable("0.0.0.0")},
        {"RELAY_IP", "::", not_relayable("::")},
        {"RELAY_IP", "224.0.0.1", not_relayable("224.0.0.1")},
        {"RELAY_IP", "ff02::1", not_relayable("ff02::1")},
        {"RELAY_IP", "fe80::1", not_relayable("fe80::1")},
        {"RELAY_IP", "fe80::1%eth0", not_relayable("fe80::1%eth0")},
        {"RELAY_IP", "0x7f.0.0.1", not_relayable("0x7f.0.0.1")},
        {"RELAY_IP", "192.0.2.1,", not_relayable("")},
        {"RELAY_IP", "192.0.2.1/::1", not_relayable("192.0.2.1/::1")},
        {"RELAY_IP", "192.0.2.1/", not_relayable("192.0.2.1/")},
        {"ALTERNATE_LISTEN_IP", "192.0.2.1,192.0.2.2",
         "ALTERNATE_LISTEN_IP is 192.0.2.1, 192.0.2.2; it must be at most one IPv4 and one IPv6 "
         "address"},
        {"ALLOWED_PEERS", "10.0.0.1/8", no_network("10.0.0.1/8")},
        {"ALLOWED_PEERS", "10.0.0.0/33", no_network("10.0.0.0/33")},
        {"DENIED_PEERS", "2001:db8::/-1", no_network("2001:db8::/-1")},
        {"DENIED_PEERS", "10.0.0.0-10.0.0.9", no_network("10.0.0.0-10.0.0.9")},
        {"DENIED_PEERS", "2001:db8::1/64", no_network("2001:db8::1/64")},
        {"REALM", lists:duplicate(128, $x), "REALM is \"" ++ lists:duplicate(128, $x) ++ "\"; it "
         "must be " ++ Realm},
        {"REALM", <<"a", 255>>, "REALM is \"a\\xff\"; it must be " ++ Realm},
        {"REALM", <<"a\x{ad}b"/utf8>>, "REALM is \"a\x{ad}b\"; it must be " ++ Realm},
        {"SOFTWARE", "a\nb", "SOFTWARE is \"a\\x0ab\"; it must be text of 1 to 127 characters in "
         "UTF-8, without control characters, \" or \\"}
    ]].

not_relayable(Text) ->
    "RELAY_IP is \"" ++ Text ++ "\"; it must be an IP address like 192.0.2.7 or 2001:db8::7 that "
    "clients and peers can reach, or two of one family like 192.0.2.7/10.0.0.7, the advertised one "
    "first: no name, wildcard, multicast or link-local address".

no_network(Text) ->
    {Name, More} = case Text of
        "10.0.0." ++ [_, $/ | _] ->
            {"ALLOWED_PEERS", ", or ports of one address like 192.0.2.7:10000, "
             "192.0.2.7:10000-20000 or [2001:db8::7]:10000"};
        _ ->
            {"DENIED_PEERS", ""}
    end,
    Name ++ " is \"" ++ Text ++ "\"; it must be a network like 10.0.0.0/8, 2001:db8::/32 or "
    "192.0.2.7, its host bits zero" ++ More.

wrong_settings(Config) ->
    Listeners = "a list of groups { port = ...; ip = \"...\"; realm = \"...\"; }, ip and realm may "
        "be left out",
    Users = "a list of groups { name = \"...\"; password = \"...\"; } or { name = \"...\"; key = "
        "\"...\"; }, each name once",
    [begin
         File = file(Config, ["# a line before\n", Text, "\n"]),
         Place = File ++ ":" ++ integer_to_list(Line) ++ ": ",
         ?assertEqual({Text, {error, [Place ++ Sentence]}}, {Text, load(File, [])})
     end || {Text, Line, Sentence} <- [
        {"listen_port = 70000;", 2,
         "listen_port is 70000; it must be a whole number from 0 to 65535"},
        {"listen_port = 3478.5;", 2,
         "listen_port is 3478.5; it must be a whole number from 0 to 65535"},
        {"listen_port = true;", 2,
         "listen_port is true; it must be a whole number from 0 to 65535"},
        {"listen_port = (1, 2);", 2,
         "listen_port is a list or a group; it must be a whole number from 0 to 65535"},
        {"listen_port = { udp = 1; };", 2,
         "listen_port is a list or a group; it must be a whole number from 0 to 65535"},
        {"listen_port = ();", 2,
         "listen_port is an empty list; it must be a whole number from 0 to 65535"},
        {"strict_realm = 2;", 2,
         "strict_realm is 2; it must be true, 1 or yes, or false, 0 or no"},
        {"log_level = \"all\";", 2,
         "log_level is \"all\"; it must be one of debug, info, notice, warning, warn, error"},
        {"denied_peers = ( \"10.0.0.0/8\",\n\"10.1\" );", 3,
         "denied_peers is \"10.1\"; it must be a network like 10.0.0.0/8, 2001:db8::/32 or "
         "192.0.2.7, its host bits zero"},
        {"denied_peers = ( { a = 1; } );", 2,
         "denied_peers is a group; it must be networks like 10.0.0.0/8 (in a file a list of "
         "texts, in the environment separated by commas)"},
        {"secret = 5;", 2, "secret is a value not shown; it must be text that is not empty"},
        {"secret = \"\";", 2, "secret is a value not shown; it must be text that is not empty"},
        {"extra_listeners = ( { ip = \"::1\"; } );", 2,
         "extra_listeners is a group without port; it must be " ++ Listeners},
        {"extra_listeners = ( { port = 1; },\n{ port = 2; host = \"::1\"; } );", 3,
         "extra_listeners is a group with \"host\"; it must be " ++ Listeners},
        {"extra_listeners = ( { port = 1;\nip = \"localhost\"; } );", 3,
         "extra_listeners is a list where ip is \"localhost\"; it must be a list where ip is an "
         "IP address like 192.0.2.7 or 2001:db8::7 (no name), or any"},
        {"extra_listeners = ( 1 );", 2,
         "extra_listeners is a value that is no group; it must be " ++ Listeners},
        {"extra_listeners = { port = 1; };", 2,
         "extra_listeners is a group that stands in no list; it must be " ++ Listeners},
        {"extra_listeners = ( { port = 3478; } );", 2,
         "extra_listeners has any port 3478, which is listened on already"},
        {"users = ( { name = \"a\"; } );", 2,
         "users is a group without password and key, or with both; it must be " ++ Users},
        {"users = ( { name = \"a\"; password = \"b\"; key = \"00112233445566778899aabbccddeeff\"; "
         "} );", 2,
         "users is a group without password and key, or with both; it must be " ++ Users},
        {"users = ( { password = \"b\"; } );", 2,
         "users is a group without name; it must be " ++ Users},
        {"users = ( { name = \"a\"; password = \"b\"; }, { name = \"a\"; password = \"c\"; } );", 2,
         "users is \"a\" twice; it must be " ++ Users},
        {"users = ( { name = \"a\";\npassword = \"x\\ty\"; } );", 3,
         "users is a list where password is a value not shown; it must be a list where password "
         "is text in UTF-8 that is not empty, without control characters, characters that "
         "Unicode has not assigned and whatever else RFC 8265 (OpaqueString) disallows"},
        {"users = ( { name = \"a b\"; password = \"x\"; },\n"
         "{ name = \"a\x{3000}b\"; password = \"y\"; } );", 2,
         "users is \"a b\" twice; it must be " ++ Users},
        {"users = ( { name = \"a\"; key = \"0011\"; } );", 2,
         "users is a list where key is a value not shown; it must be a list where key is 32 "
         "hexadecimal digits"},
        {"min_port = 50000; max_port = 49999;", 2,
         "min_port is 50000 and " ++ proplists:get_value(file, Config) ++ ":2: max_port is 49999; "
         "the first must not be the larger"}
    ]].

wrong_together(Config) ->
    ?assertEqual({error, ["MIN_PORT is 60000 and MAX_PORT is 50000; the first must not be the "
                          "larger"]},
                 load([{"MIN_PORT", "60000"}, {"MAX_PORT", "50000"}])),
    ?assertEqual({error, ["min_port (default) is 49152 and MAX_PORT is 40000; the first must not "
                          "be the larger"]},
                 load([{"MAX_PORT", "40000"}])),
    ?assertEqual({error, ["DEFAULT_LIFETIME is 4000 and max_lifetime (default) is 3600; the first "
                          "must not be the larger"]},
                 load([{"DEFAULT_LIFETIME", "4000"}])),
    ?assertEqual({error, ["REQUIRE_SHA256 is true, but PASSWORD_ALGORITHMS is false: no client "
                          "will know that it may use SHA-256"]},
                 load([{"REQUIRE_SHA256", "yes"}, {"PASSWORD_ALGORITHMS", "no"}])),
    ?assertEqual({error, ["TOTAL_QUOTA is 9 and MAX_ALLOCATIONS is 8; the first must not be the "
                          "larger"]},
                 load([{"TOTAL_QUOTA", "9"}, {"MAX_ALLOCATIONS", "8"}])),
    Wildcard = file(Config, "extra_listeners = ( { port = 3478; ip = \"127.0.0.1\"; } );"),
    ?assertEqual({error, [Wildcard ++ ":1: extra_listeners has 127.0.0.1 port 3478, which is "
                          "listened on already: any port 3478"]}, load(Wildcard, [])),
    Many = file(Config, ["extra_listeners = ( ",
                         lists:join(", ", [["{ port = ", integer_to_list(N), "; }"]
                                           || N <- lists:seq(1, 16)]), " );"]),
    ?assertEqual({error, [Many ++ ":1: extra_listeners: that makes 34 addresses to listen on (any "
                          "is two); at most 32 can be"]}, load(Many, [])),
    Networks = lists:join(",", ["10.0." ++ integer_to_list(N div 256) ++ "."
                                ++ integer_to_list(N rem 256) || N <- lists:seq(0, 1024)]),
    ?assertEqual({error, ["DENIED_PEERS has 1025 networks; at most 1024 can be"]},
                 load([{"DENIED_PEERS", lists:append(Networks)}])),
    File = file(Config, "listen_ip = \"::1\";\n"
                        "extra_listeners = ( { port = 3478; ip = \"::1\"; } );"),
    ?assertEqual({error, [File ++ ":2: extra_listeners has ::1 port 3478, which is listened on "
                          "already"]}, load(File, [])).

%% RFC 5780: two addresses of a family and two ports, four listeners that know each other.
discovery(Config) ->
    Listeners = fun(Text) ->
        {ok, #{listeners := Listeners}, _} = load(file(Config, Text), []),
        [{Ip, Port, maps:get(other, L, none)} || #{ip := Ip, port := Port} = L <- Listeners]
    end,
    {A, B} = {{192, 0, 2, 1}, {192, 0, 2, 2}},
    V6 = {16#2001, 16#db8, 0, 0, 0, 0, 0, 1},
    ?assertEqual([{any, 3478, none}], Listeners("alternate_listen_ip = \"192.0.2.2\";")),
    ?assertEqual([{A, 3478, {B, 3479}}, {A, 3479, {B, 3478}},
                  {B, 3478, {A, 3479}}, {B, 3479, {A, 3478}}],
                 Listeners("rfc5780 = true; listen_ip = \"192.0.2.1\";\n"
                           "alternate_listen_ip = \"192.0.2.2\";")),
    ?assertEqual([{A, 5000, {B, 6000}}, {A, 6000, {B, 5000}},
                  {B, 5000, {A, 6000}}, {B, 6000, {A, 5000}},
                  {V6, 5000, none}, {any, 443, none}],
                 Listeners("rfc5780 = true; listen_ip = ( \"192.0.2.1\", \"2001:db8::1\" );\n"
                           "alternate_listen_ip = \"192.0.2.2\"; listen_port = 5000;\n"
                           "alternate_listen_port = 6000; extra_listeners = ( { port = 443; } );")).

discovery_that_cannot_be(Config) ->
    Beside = "; beside it there must be exactly one address of its family, and no wildcard: "
        "clients are told which",
    [begin
         File = file(Config, "\nrfc5780 = true;\n" ++ Text),
         Told = [string:replace(S, "FILE", File, all) || S <- Sentences],
         ?assertEqual({error, [lists:flatten(S) || S <- Told]}, load(File, []))
     end || {Text, Sentences} <- [
        {"", ["FILE:2: rfc5780 is true, which needs a second address to listen on: "
              "alternate_listen_ip"]},
        {"alternate_listen_ip = \"192.0.2.2\";",
         ["FILE:3: alternate_listen_ip is 192.0.2.2 and listen_ip (default) is any" ++ Beside]},
        {"alternate_listen_ip = \"192.0.2.2\"; listen_ip = \"0.0.0.0\";",
         ["FILE:3: alternate_listen_ip is 192.0.2.2 and FILE:3: listen_ip is 0.0.0.0" ++ Beside]},
        {"alternate_listen_ip = \"192.0.2.2\"; listen_ip = \"::1\";",
         ["FILE:3: alternate_listen_ip is 192.0.2.2 and FILE:3: listen_ip is ::1" ++ Beside]},
        {"alternate_listen_ip = \"192.0.2.2\"; listen_ip = ( \"192.0.2.1\", \"192.0.2.3\" );",
         ["FILE:3: alternate_listen_ip is 192.0.2.2 and FILE:3: listen_ip is 192.0.2.1, 192.0.2.3"
          ++ Beside]},
        {"alternate_listen_ip = \"192.0.2.2\"; listen_ip = \"192.0.2.2\";",
         ["FILE:3: alternate_listen_ip is 192.0.2.2 and FILE:3: listen_ip is 192.0.2.2; the two "
          "must differ"]},
        {"alternate_listen_ip = \"192.0.2.2\"; listen_ip = \"192.0.2.1\"; listen_port = 0;",
         ["FILE:3: listen_port is 0, which rfc5780 cannot do with: clients are told the ports"]},
        {"alternate_listen_ip = \"192.0.2.2\"; listen_ip = \"192.0.2.1\"; listen_port = 3479;",
         ["FILE:3: listen_port is 3479, and so is alternate_listen_port (default); the two must "
          "differ"]},
        {"alternate_listen_ip = \"192.0.2.2\"; listen_ip = \"192.0.2.1\";\n"
         "extra_listeners = ( { port = 3479; ip = \"192.0.2.2\"; } );",
         ["FILE:4: extra_listeners has 192.0.2.2 port 3479, which is listened on already"]}
    ]].

all_mistakes_at_once(Config) ->
    File = file(Config, "listen_prot = 1;\nmax_lifetime = 1;\n"),
    {error, Mistakes} = load(File, [{"MIN_PORT", "x"}, {"MONGOOSEICE_TCP_ENABLED", "x"}]),
    ?assertMatch([_, _, _, _], Mistakes),
    [?assertMatch({match, _}, re:run(lists:join("\n", Mistakes), Part))
     || Part <- ["listen_prot", "max_lifetime", "MIN_PORT", "MONGOOSEICE_TCP_ENABLED"]].

%% Lists of values and of groups, fields of a group, files of users, both variables of a user.
all_mistakes_of_a_list(Config) ->
    File = file(Config, "denied_peers = ( \"10.0.0.1/8\", \"10.0.0.0/8\",\n \"x\",\n"
                        " { a = 1; } );\n"
                        "users = ( { name = \"a\"; },\n"
                        " { name = \"b\"; key = \"z\"; passwort = 1; },\n"
                        " { name = \"c\"; key = \"z\"; } );\n"
                        "relays = ( { min_port = 0; max_port = 0; } );\n"),
    Expected = [{1, "\"10.0.0.1/8\""}, {2, "\"x\""}, {3, "a group"},
                {5, "a list where key is"}, {5, "a group with \"passwort\""},
                {6, "a list where key is"},
                {7, "a list where min_port is"}, {7, "a list where max_port is"},
                {7, "a group without ip"}],
    {error, Mistakes} = load(File, []),
    ?assertEqual({length(Expected), Mistakes}, {length(Mistakes), Mistakes}),
    [?assertMatch({_, _, [_ | _]},
                  {Line, Part, [M || M <- Mistakes, string:find(M, " is " ++ Part) =/= nomatch,
                                     string:find(M, ":" ++ integer_to_list(Line) ++ ": ")
                                         =/= nomatch]})
     || {Line, Part} <- Expected],
    {error, [Text]} = load([{"DENIED_PEERS", "10.0.0.0/8,x,10.0.0.1/8," ++
                             lists:append(lists:duplicate(20, "y,"))}]),
    ?assertMatch({_, {match, _}},
                 {Text, re:run(Text, "^DENIED_PEERS is \"x\", \"10.0.0.1/8\", .* and 15 more; ")}),
    Users = file(Config, "users = ( { name = \"a\"; key = \"z\"; },\n"
                         " { name = \"b\"; key = \"z\"; } );\n"),
    {error, [_, _] = Both} = meerkat_config_users:read(list_to_binary(Users)),
    one_line_each(Both).

%% A users_file has the realm of each user that is not of the server's own.
added_users_are_kept_by_realm(Config) ->
    File = list_to_binary(filename:join(proplists:get_value(priv_dir, Config), "kept.cfg")),
    Added = #{default => #{<<"a">> => {password, <<"of \"a\"">>}},
              <<"b.example">> => #{<<"a">> => {password, <<"another">>},
                                   <<"k">> => {key, <<1:128>>}}},
    ok = meerkat_config_users:write(File, Added),
    ?assertEqual({ok, Added}, meerkat_config_users:read(File)),
    ok = file:write_file(File, "users = ( { name = \"a\"; password = \"x\"; realm = \"r\"; },\n"
                               " { name = \"a\"; password = \"y\"; realm = \"r\"; } );\n"),
    {error, [Twice]} = meerkat_config_users:read(File),
    ?assertMatch({match, _}, re:run(Twice, "users is \"a\" twice")).

a_mistake_in_the_file_counts_though_overridden(Config) ->
    File = file(Config, "listen_port = 70000;"),
    ?assertMatch({error, [_]}, load(File, [{"LISTEN_PORT", "3479"}])).

broken_files(Config) ->
    Missing = filename:join(proplists:get_value(priv_dir, Config), "missing.cfg"),
    {error, [Sentence]} = load(Missing, []),
    ?assertMatch([_ | _], string:prefix(Sentence, Missing ++ ": ")),
    File = file(Config, "realm = \"a\";\nmin_port = ;\n"),
    {error, [Syntax]} = load(File, []),
    ?assertMatch([_ | _], string:prefix(Syntax, File ++ ":2: ")),
    {error, ["aaa" ++ _]} = load(lists:duplicate(2000, $a), []),
    Twice = file(Config, "realm = \"a\";\nrealm = \"b\";\n"),
    ?assertMatch({error, [_]}, load(Twice, [])).

mistakes_come_as_a_reader_meets_them(Config) ->
    File = file(Config, "user_quota = \"x\";\nlisten_port = 99999;\nnonsense = 1;\n"
                        "default_lifetime = 4000;\n"),
    {error, Mistakes} = load(File, [{"MIN_PORT", "x"}]),
    ?assertMatch(["MIN_PORT is " ++ _ | _], Mistakes),
    ?assertEqual(["1", "2", "3", "4"],
                 [Line || Mistake <- tl(Mistakes),
                          {match, [Line]} <- [re:run(Mistake, ":([0-9]+): ",
                                                     [{capture, all_but_first, list}])]]).

unknown_keys(Config) ->
    [begin
         File = file(Config, Text),
         ?assertEqual({error, [File ++ ":1: " ++ Sentence]}, load(File, []))
     end || {Text, Sentence} <- [
        {"listen_prot = 1;", "there is no key \"listen_prot\"; did you mean listen_port?"},
        {"RelayIP = \"::1\";", "there is no key \"RelayIP\"; did you mean relay_ip?"},
        {"secrets = (\"a\");", "there is no key \"secrets\"; did you mean secret?"},
        {"turn = { port = 1; };",
         "there is no key \"turn\"; docs/configuration.md lists them"},
        {"verbose = true;", "there is no key \"verbose\"; docs/configuration.md lists them"}
    ]].

%% Whatever an environment holds ends in a configuration or in sentences.
any_text_is_survived(_) ->
    Texts = [<<255, 254>>, <<"é"/utf8>>, <<0>>, <<",">>, <<"/">>, <<"1/">>, <<"%s%n">>,
             <<"::/129">>, <<"99999999999999999999">>, <<" , ">>, binary:copy(<<"9">>, 10000),
             binary:copy(<<"a,">>, 10000), <<"\e[2J">>, <<16#2028/utf8>>],
    [case load([{Name, Text}]) of
         {ok, #{}, Warnings} -> one_line_each(Warnings);
         {error, Mistakes} -> one_line_each(Mistakes)
     end || Name <- [<<"MONGOOSEICE_X">>, <<"MONGOOSEICE_TCP_ENABLED">>
                     | meerkat_config_schema:environment()], Text <- Texts].

errors_are_one_line(Config) ->
    File = file(Config, "realm = \"a\\nb\\x1b[2J\";"),
    {error, Mistakes} = load(File, []),
    one_line_each(Mistakes),
    ?assertMatch({match, _}, re:run(Mistakes, "a\\\\x0ab\\\\x1b\\[2J")).

one_line_each(Sentences) ->
    [?assertEqual(nomatch, re:run(unicode:characters_to_binary(Sentence), "[\\x00-\\x1f\\x7f]"))
     || Sentence <- Sentences].

%%% Secrets

secrets_are_never_shown(Config) ->
    Secret = "hunter2hunter2",
    Texts = [
        ["secret = \"", Secret, "\"; bad = 1;"],
        ["secret = ( \"", Secret, "\", 1 );"],
        ["secret = { a = \"", Secret, "\"; };"],
        ["users = ( { name = \"a\"; password = \"", Secret, "\"; key = \"", Secret, "\"; } );"],
        ["users = ( { name = \"a\"; key = \"", Secret, "\"; } );"],
        ["users = ( { name = \"a\"; pass = \"", Secret, "\"; } );"],
        ["users = ( { password = \"", Secret, "\"; } );"],
        ["users = \"", Secret, "\";"],
        ["users = ( \"", Secret, "\" );"]
    ],
    [begin
         {error, Mistakes} = load(file(Config, Text), [{"STUN_SECRET", Secret}]),
         ?assertEqual(nomatch, re:run(lists:join("\n", Mistakes), Secret))
     end || Text <- Texts],
    File = file(Config, ["users = ( { name = \"a\"; password = \"", Secret, "\"; } );"]),
    {ok, Loaded, Warnings} = load(File, [{"STUN_SECRET", " " ++ Secret}]),
    Shown = io_lib:format("~tp ~tp", [Warnings, meerkat_config:effective(Loaded)]),
    ?assertEqual(nomatch, re:run(Shown, Secret)).

%% F18: never the same twice, and enough of it.
secret_is_drawn_at_each_start(_) ->
    {ok, #{secrets := [First]}, Warnings} = load([]),
    {ok, #{secrets := [Second]}, _} = load([]),
    ?assertNotEqual(First, Second),
    ?assert(byte_size(base64:decode(First)) >= 16),
    ?assertMatch({match, _}, re:run(lists:join("\n", Warnings), "no secret is set")),
    {ok, #{secrets := [<<"abc">>]}, []} = load([{"STUN_SECRET", "abc"}, {"RELAY_IP", "8.8.8.8"}]).

secret_with_white_space_is_pointed_out(_) ->
    {ok, #{secrets := [<<"abc\n">>]}, [Warning]} =
        load([{"STUN_SECRET", "abc\n"}, {"RELAY_IP", "8.8.8.8"}]),
    ?assertEqual("STUN_SECRET begins or ends with white space, which counts",
                 lists:flatten(io_lib:format("~ts", [Warning]))).

%% What an editor, a shell or an --env-file leaves there, in whatever is secret.
leftovers_in_secrets_are_pointed_out(Config) ->
    Warned = fun(Load) ->
        {ok, _, Warnings} = Load,
        [lists:flatten(io_lib:format("~ts", [W]))
         || W <- Warnings, re:run(W, "which counts") =/= nomatch]
    end,
    ?assertEqual(["STUN_SECRET stands in quotation marks, which counts"],
                 Warned(load([{"STUN_SECRET", "\"sesame\""}]))),
    ?assertEqual([], Warned(load([{"STUN_SECRET", "a\"b\""}]))),
    File = filename:join(proplists:get_value(priv_dir, Config), "secret with a comment"),
    ok = file:write_file(File, "# the secret of turn.example\nsesame\n"),
    ?assertEqual(["STUN_SECRET_FILE begins with #, as a comment would, which counts"],
                 Warned(load([{"STUN_SECRET_FILE", File}]))),
    Cfg = filename:join(proplists:get_value(priv_dir, Config), "leftovers.cfg"),
    ok = file:write_file(Cfg, "http_token = \"'token'\";\nxmpp_secret = \"x \";\n"
                              "users = ( { name = \"al\"; password = \"#pass\"; } );\n"
                              "realms = ( { name = \"r\"; secret = \"\\\"s\\\"\"; } );\n"
                              "extra_listeners = ( { port = 3600; realm = \"r\"; } );\n"),
    ?assertEqual([Cfg ++ Rest || Rest <-
                      [":1: http_token stands in quotation marks, which counts",
                       ":2: xmpp_secret begins or ends with white space, which counts",
                       ":3: users: the password of \"al\" begins with #, as a comment would, which "
                       "counts",
                       ":4: realms: \"r\": secret stands in quotation marks, which counts"]],
                 lists:sort(Warned(meerkat_config:load(#{file => Cfg, env => []})))).

%% An editor's mark is nobody's secret; what is no UTF-8 at all is refused.
secret_file_with_a_byte_order_mark(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "marked"),
    Load = fun(Bytes) ->
        ok = file:write_file(File, Bytes),
        load([{"STUN_SECRET_FILE", File}])
    end,
    {ok, #{secrets := [<<"sesame">>]}, _} = Load(<<16#ef, 16#bb, 16#bf, "sesame\r\n">>),
    {error, [Empty]} = Load(<<16#ef, 16#bb, 16#bf, "\n">>),
    ?assertMatch({match, _}, re:run(Empty, "which is empty")),
    [begin
         {error, [Wide]} = Load(<<Mark/binary, "s", 0>>),
         ?assertMatch({match, _}, re:run(Wide, "which is in UTF-16; UTF-8 is wanted"))
     end || Mark <- [<<16#ff, 16#fe>>, <<16#fe, 16#ff>>]].

%% As Docker and systemd hand them over, from the environment or named in the file.
secrets_in_files(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Put = fun(Name, Bytes) ->
        ok = file:write_file(filename:join(Dir, Name), Bytes),
        filename:join(Dir, Name)
    end,
    Secrets = fun(File, Env) ->
        {ok, #{secrets := Secrets} = Loaded, _} = load(File, [{"RELAY_IP", "8.8.8.8"} | Env]),
        {secret, _, Origin} = setting(secret, Loaded),
        {Secrets, Origin}
    end,
    One = Put("one", "s3same\n"),
    Two = Put("two", "new, with a comma\r\n\nold"),
    ?assertEqual({[<<"s3same">>], <<"STUN_SECRET_FILE">>},
                 Secrets(none, [{"STUN_SECRET_FILE", One}])),
    ?assertEqual({[<<"new, with a comma">>, <<"old">>], <<"MONGOOSEICE_STUN_SECRET_FILE">>},
                 Secrets(none, [{"MONGOOSEICE_STUN_SECRET_FILE", Two}])),
    File = file(Config, "\nsecret_file = \"two\";"),
    Line = iolist_to_binary([File, ":2"]),
    ?assertEqual({[<<"new, with a comma">>, <<"old">>], Line}, Secrets(File, [])),
    ?assertEqual({[<<"s3same">>], <<"STUN_SECRET_FILE">>},
                 Secrets(File, [{"STUN_SECRET_FILE", One}])),
    Groups = file(Config, "users = ( { name = \"a\"; password_file = \"one\"; } );\n"
                          "extra_listeners = ( { port = 1; realm = \"r\"; } );\n"
                          "realms = ( { name = \"r\"; secret_file = \"two\"; } );"),
    ?assertMatch({ok, #{users := #{<<"a">> := {password, <<"s3same">>}},
                        realms := [#{name := <<"r">>,
                                     secrets := [<<"new, with a comma">>, <<"old">>]}]}, _},
                 load(Groups, [])),
    _ = Put("hex", "5bd3f1d1b9bbd1d7b2a0d9b4a9d0e0c7\n"),
    Nested = file(Config, "users = ( { name = \"k\"; key_file = \"hex\"; } );\n"
                          "extra_listeners = ( { port = 1; realm = \"r\"; } );\n"
                          "realms = ( { name = \"r\"; users = ( { name = \"a\"; password_file = "
                          "\"one\"; }, { name = \"b\"; key_file = \"hex\"; }, "
                          "{ name = \"c\"; password = \"d\"; } ); } );"),
    Key = {key, binary:decode_hex(<<"5bd3f1d1b9bbd1d7b2a0d9b4a9d0e0c7">>)},
    ?assertMatch({ok, #{users := #{<<"k">> := Key},
                        realms := [#{users := #{<<"a">> := {password, <<"s3same">>},
                                                <<"b">> := Key,
                                                <<"c">> := {password, <<"d">>}}}]}, _},
                 load(Nested, [])).

%% Each key and variable that holds a secret, and whatever secret there is in a group.
every_secret_may_lie_in_a_file(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "any"),
    Hex = "5bd3f1d1b9bbd1d7b2a0d9b4a9d0e0c7",
    Load = fun(Text) ->
        {ok, Loaded, _} = load(file(Config, Text), [{"RELAY_IP", "8.8.8.8"}]),
        maps:remove(settings, Loaded)
    end,
    Own = "secret = \"own\"; ",
    User = fun(In) -> ["{ name = \"u\"; ", In, "; }"] end,
    [begin
         ok = file:write_file(File, Secret),
         Plain = Load(io_lib:format(lists:flatten(Text), [Key, Secret])),
         ?assertEqual(Plain, Load(io_lib:format(lists:flatten(Text), [[Key, "_file"], File])))
     end || {Text, Key, Secret} <-
                [{case Key of <<"secret">> -> ""; _ -> Own end ++ "~ts = \"~ts\";", Key,
                  secret_of(Key)}
                 || Key <- meerkat_config_secret:keys()] ++
                [{Around("~ts = \"~ts\""), Key, Secret}
                 || Around <- [fun(In) -> [Own, "users = ( ", User(In), " );"] end,
                               fun(In) -> [Own, "realms = ( { name = \"r\"; users = ( ", User(In),
                                           " ); } );"] end],
                    {Key, Secret} <- [{"password", "sesame"}, {"key", Hex}]] ++
                [{Own ++ "realms = ( { name = \"r\"; ~ts = \"~ts\"; } );", "secret", "sesame"}]].

%% What a database is connected to by has a password in it.
secret_of(Key) ->
    case meerkat_config_schema:find(Key) of
        {ok, #{type := {database, _}}} ->
            string:trim(in_file(binary_to_existing_atom(Key)), both, "\"");
        {ok, _} -> "sesame"
    end.

secrets_in_files_that_cannot_be(Config) ->
    %% Short, for long names are cut.
    Dir = filename:join("/tmp", "meerkat_" ++ os:getpid()) ++ "/",
    ok = filelib:ensure_dir(Dir),
    try secrets_that_cannot_be(Dir, [{file, filename:join(Dir, "c.cfg")} | Config])
    after ok = file:del_dir_r(Dir)
    end.

secrets_that_cannot_be(Dir, Config) ->
    In = fun(Name) -> filename:join(Dir, Name) end,
    ok = file:write_file(In("empty"), " \n\n"),
    ok = file:write_file(In("two"), "hunter2\nhunter3"),
    ok = file:write_file(In("much"), binary:copy(<<"hunter2">>, 10000)),
    [begin
         File = file(Config, Text),
         {error, [Sentence]} = load(File, Env),
         Told = string:replace(string:replace(Sentence, File, "FILE", all), Dir, "DIR/", all),
         ?assertEqual(Wanted, lists:flatten(Told)),
         ?assertEqual(nomatch, string:find(Sentence, "hunter"))
     end || {Text, Env, Wanted} <- [
        {"", [{"STUN_SECRET_FILE", In("no")}],
         "STUN_SECRET_FILE names \"DIR/no\", which cannot be read: no such file or directory"},
        {"", [{"STUN_SECRET_FILE", In("empty")}],
         "STUN_SECRET_FILE names \"DIR/empty\", which is empty"},
        {"", [{"STUN_SECRET_FILE", In("much")}],
         "STUN_SECRET_FILE names \"DIR/much\", which cannot be read: it has more than 65536 bytes"},
        {"", [{"STUN_SECRET_FILE", In("two")}, {"STUN_SECRET", "hunter2"}],
         "STUN_SECRET and STUN_SECRET_FILE are both set; one must be left out"},
        {"", [{"TURN_PASSWORD_FILE", In("two")}, {"TURN_USERNAME", "u"}],
         "TURN_PASSWORD_FILE is a file of several lines; it must be text in UTF-8 that is not "
         "empty, without control characters, characters that Unicode has not assigned and "
         "whatever else RFC 8265 (OpaqueString) disallows"},
        {"\nsecret_file = \"no\";", [],
         "FILE:2: secret_file names \"DIR/no\", which cannot be read: no such file or directory"},
        {"secret = \"hunter2\";\nsecret_file = \"two\";", [],
         "FILE:2: secret_file and secret are both set; one must be left out"},
        {"secret_file = 5;", [], "FILE:1: secret_file must be the name of a file"},
        {"users = ( { name = \"a\";\npassword_file = \"no\"; } );", [],
         "FILE:2: password_file names \"DIR/no\", which cannot be read: no such file or directory"},
        {"realms = ( { name = \"r\"; users = ( { name = \"a\";\npassword_file = \"no\"; } ); } );",
         [],
         "FILE:2: password_file names \"DIR/no\", which cannot be read: no such file or directory"},
        {"realms = ( { name = \"r\"; users = ( { name = \"a\"; password = \"hunter2\";\n"
         "password_file = \"two\"; } ); } );", [],
         "FILE:2: password_file and password are both set; one must be left out"},
        {"users = ( { name = \"a\";\npassword_file = \"two\"; } );", [],
         "FILE:2: password_file names \"two\", which has several lines; one is wanted"},
        {"http_token_file = \"two\";", [],
         "FILE:1: http_token_file names \"two\", which has several lines; one is wanted"},
        {"secret_flie = \"x\";", [],
         "FILE:1: there is no key \"secret_flie\"; did you mean secret_file?"}
    ]].

%% The image of estos: its names, after ours and MongooseICE's.
estos_names(_) ->
    {ok, Config, _} = load([{"EXTERNAL_IP_ADDRESS", "198.51.100.9"}, {"TURN_PORT", "5000"},
                            {"LISTENING_IP_ADDRESS", "192.0.2.1"}, {"TURN_USERNAME", "alice"},
                            {"TURN_PASSWORD", "won, derland"}, {"LOG_LEVEL", "debug"}]),
    ?assertMatch(#{relays := [#{advertised := {198, 51, 100, 9}}], log_level := debug,
                   listeners := [#{ip := {192, 0, 2, 1}, port := 5000}],
                   users := #{<<"alice">> := {password, <<"won, derland">>}}}, Config),
    ?assertEqual({users, <<"\"alice\"">>, <<"TURN_USERNAME">>}, setting(users, Config)),
    {ok, #{listeners := [#{port := 6000}]}, _} =
        load([{"TURN_PORT", "5000"}, {"MONGOOSEICE_UDP_PORT", "6000"}]),
    ?assertEqual({error, ["TURN_USERNAME is set, but TURN_PASSWORD is not"]},
                 load([{"TURN_USERNAME", "alice"}])),
    ?assertEqual({error, ["TURN_PASSWORD is set, but TURN_USERNAME is not"]},
                 load([{"TURN_PASSWORD", "x"}])).

%%% Realms

realms_become_terms(Config) ->
    File = file(Config, "extra_listeners = ( { port = 1; realm = \"a\"; } );\n"
                        "realms = ( { name = \"a\"; secret = ( \"x\", \"y\" ); user_quota = 2;\n"
                        "  users = ( { name = \"u\"; password = \"p\"; },\n"
                        "            { name = \"v\"; password = \"q\"; } ); },\n"
                        "  { name = \"b\"; secret = (); max_lifetime = 700; } );"),
    {ok, #{realms := Realms}, Warnings} =
        load(File, [{"STUN_SECRET", "s"}, {"RELAY_IP", "8.8.8.8"}]),
    ?assertEqual([#{name => <<"a">>, secrets => [<<"x">>, <<"y">>], user_quota => 2,
                    users => #{<<"u">> => {password, <<"p">>}, <<"v">> => {password, <<"q">>}}},
                  #{name => <<"b">>, secrets => [], max_lifetime => 700}], Realms),
    ?assertEqual([File ++ ":5: realms: \"b\": no listener has this realm; extra_listeners gives "
                  "it one"], Warnings).

tcp_is_relayed_for_clients_over_tcp(Config) ->
    File = file(Config, "tcp_relay = true;\ntcp_enabled = false;\nsecret = \"s\";"),
    {ok, _, Warnings} = load(File, []),
    ?assert(lists:member(File ++ ":1: tcp_relay is true, but " ++ File ++ ":2: tcp_enabled is "
                         "false, and there is no certificate (tls_cert, tls_self_signed): only "
                         "clients over TCP or TLS can have TCP relayed", Warnings)),
    Signed = file(Config, "tcp_relay = true;\ntcp_enabled = false;\ntls_self_signed = true;\n"
                          "secret = \"s\";"),
    {ok, _, Others} = load(Signed, []),
    ?assertEqual([], [W || W <- Others, string:find(W, "tcp_relay") =/= nomatch]).

realms_that_cannot_be(Config) ->
    [begin
         File = file(Config, Text),
         {error, Mistakes} = load(File, []),
         ?assertEqual(Wanted, [lists:flatten(string:replace(Mistake, File, "FILE", all))
                               || Mistake <- Mistakes])
     end || {Text, Wanted} <- [
        {"realms = ( { name = \"one.example\"; } );\n"
         "extra_listeners = ( { port = 1; realm = \"one.exmaple\"; } );",
         ["FILE:2: extra_listeners has the realm \"one.exmaple\", which realms does not have; did "
          "you mean \"one.example\"?"]},
        {"realm = \"a\";\nrealms = ( { name = \"a\"; } );",
         ["FILE:2: realms: \"a\": that is the name in FILE:1: realm, whose secret, users and "
          "limits are keys by themselves"]},
        {"realms = ( { name = \"a\"; },\n{ name = \"a\"; } );",
         ["FILE:1: realms is \"a\" twice; it must be a list of groups { name = \"...\"; }, each "
          "name once, with any of these keys: secret, users, total_quota, user_quota, "
          "user_quota_replaces, new_peers_rate, max_allocations_per_address, max_bps, max_pps, "
          "user_bps, default_lifetime, max_lifetime"]},
        {"realms = ( { name = \"a\";\nusers = ( { name = \"u\"; } ); } );",
         ["FILE:2: realms is a list where users is a group without password and key, or with both; "
          "it must be a list where users is a list of groups { name = \"...\"; password = "
          "\"...\"; } or { name = \"...\"; key = \"...\"; }, each name once"]},
        {"realms = ( { name = \"a\"; default_lifetime = 5000; } );",
         ["FILE:1: realms: \"a\": default_lifetime is 5000 and max_lifetime is 3600; the first "
          "must not be the larger"]},
        {"require_sha256 = true;\n"
         "users = ( { name = \"u\"; key = \"000102030405060708090A0b0c0d0e0f\"; } );",
         ["FILE:2: users has \"u\" with a key, which is of MD5, but FILE:1: require_sha256 is "
          "true: the user needs a password"]}
    ]].

%%% The relay's addresses

relay_is_the_default_route(_) ->
    Relays = fun(Host) ->
        {ok, #{relays := Relays}, _} = load(none, [], Host),
        [Ip || #{local := Ip, advertised := Ip} <- Relays]
    end,
    None = fun(_) -> none end,
    V6 = {16#2001, 16#db8, 0, 0, 0, 0, 0, 7},
    Both = fun(inet) -> {ok, {192, 0, 2, 7}}; (inet6) -> {ok, V6} end,
    Only6 = fun(inet) -> none; (inet6) -> {ok, V6} end,
    ?assertEqual([{192, 0, 2, 7}, V6], Relays(#{route => Both})),
    ?assertEqual([V6], Relays(#{route => Only6, first => None})),
    ?assertEqual([{192, 0, 2, 9}], Relays(#{route => None,
                                            first => fun(inet) -> {ok, {192, 0, 2, 9}} end})),
    ?assertEqual([], Relays(#{route => None, first => None})).

peers_with_ports(Config) ->
    Peers = fun(Text) ->
        case load(none, [{"STUN_SECRET", "abc"}, {"ALLOWED_PEERS", Text}]) of
            {ok, #{allowed_peers := Peers} = Loaded, _} ->
                {_, Shown, _} = setting(allowed_peers, Loaded),
                {Peers, Shown};
            {error, [Mistake]} ->
                {error, lists:flatten(Mistake)}
        end
    end,
    V6 = {16#2001, 16#db8, 0, 0, 0, 0, 0, 7},
    ?assertEqual({[{{203, 0, 113, 5}, {10000, 20000}}, {{10, 0, 0, 0}, 8}],
                  <<"203.0.113.5:10000-20000, 10.0.0.0/8">>},
                 Peers("203.0.113.5:10000-20000, 10.0.0.0/8")),
    ?assertEqual({[{V6, {10000, 10000}}, {V6, 128}], <<"[2001:db8::7]:10000, 2001:db8::7/128">>},
                 Peers("[2001:db8::7]:10000,2001:db8::7")),
    ?assertMatch({error, "ALLOWED_PEERS is \"203.0.113.5:20000-10000\"; it must be" ++ _},
                 Peers("203.0.113.5:20000-10000")),
    [?assertMatch({error, _}, Peers(Wrong), Wrong)
     || Wrong <- ["203.0.113.5:0", "203.0.113.5:65536", "203.0.113.5:1-65536", "203.0.113.0/24:80",
                  "[203.0.113.5]:80", "2001:db8::7:10000-20000", "203.0.113.5:", "203.0.113.5:1-"]],
    File = file(Config, "denied_peers = \"203.0.113.5:80\";"),
    ?assertMatch({error, [_]}, load(File, [])).

no_address_yet(_) ->
    None = #{route => fun(_) -> none end, first => fun(_) -> none end},
    {ok, #{relays := []} = Config, Warnings} = load(none, [{"STUN_SECRET", "abc"}], None),
    ?assertMatch(["this machine has no address to relay from yet" ++ _],
                 [lists:flatten(W) || W <- Warnings]),
    Nothing = maps:merge(host(), None),
    ?assertEqual(same, meerkat_config:again(Config, Nothing)),
    %% It comes, and is another one a day later; then there is none for a while.
    {ok, #{relays := [#{local := {192, 0, 2, 7}}]} = Then, _} =
        meerkat_config:again(Config, host()),
    ?assertMatch(#{relay_ip := {<<"192.0.2.7">>, _}},
                 maps:from_list([{Key, {Value, Origin}}
                                 || #{key := Key, text := Value, origin := Origin}
                                        <- meerkat_config:effective(Then)])),
    ?assertEqual(same, meerkat_config:again(Then, host())),
    ?assertEqual(same, meerkat_config:again(Then, Nothing)),
    Moved = (host())#{route := fun(inet) -> {ok, {192, 0, 2, 8}}; (inet6) -> none end},
    ?assertMatch({ok, #{relays := [#{local := {192, 0, 2, 8}}]}, _},
                 meerkat_config:again(Then, Moved)).

relay_ip_that_appears_later(_) ->
    Later = fun(Text, Local, OnLink) ->
        Host = #{bindable => fun(_) -> false end, on_link => fun(_) -> OnLink end,
                 first => fun(_) -> none end,
                 route => fun(inet) -> Local; (inet6) -> none end},
        {ok, #{relays := [Relay]} = Config, Warnings} =
            load(none, [{"STUN_SECRET", "abc"}, {"RELAY_IP", Text}], Host),
        {maps:with([local, advertised], Relay), [lists:flatten(W) || W <- Warnings], Config}
    end,
    Ip = {8, 8, 8, 8},
    Itself = #{local => Ip, advertised => Ip},
    %% No NAT shows a public address of a machine that has one, or one of its own network.
    {Itself, [Warning], Config} = Later("8.8.8.8", {ok, {8, 8, 4, 4}}, false),
    ?assertMatch("RELAY_IP is 8.8.8.8, which is no address of this machine yet: nothing is" ++ _,
                 Warning),
    ?assertMatch({Itself, [_], _}, Later("8.8.8.8", {ok, {10, 0, 0, 5}}, true)),
    ?assertMatch({Itself, [_], _}, Later("8.8.8.8", none, false)),
    ?assertMatch({#{local := {10, 0, 0, 5}, advertised := Ip}, [_], _},
                 Later("8.8.8.8", {ok, {10, 0, 0, 5}}, false)),
    V6 = {16#2a00, 1, 0, 0, 0, 0, 0, 9},
    ?assertMatch({#{local := V6, advertised := V6}, [_ | _], _}, Later("2a00:1::9", none, false)),
    %% Where it was taken for a NAT's and is there now, it is bound itself.
    {_, _, Natted} = Later("8.8.8.8", {ok, {10, 0, 0, 5}}, false),
    ?assertMatch({ok, #{relays := [#{local := Ip}]}, _}, meerkat_config:again(Natted, host())),
    ?assertEqual(same, meerkat_config:again(Config, host())).

ipv6_only_is_pointed_out(_) ->
    {ok, _, Warnings} = load(none, [{"STUN_SECRET", "abc"}],
                             #{route => fun(inet) -> none;
                                           (inet6) -> {ok, {16#2a00, 1, 0, 0, 0, 0, 0, 7}} end,
                               first => fun(_) -> none end}),
    ?assertMatch(["there is no IPv4 address to relay from" ++ _],
                 [lists:flatten(W) || W <- Warnings]).

relay_that_clients_cannot_reach_is_pointed_out(_) ->
    Warnings = fun(Ip) ->
        {ok, _, Warnings} = load(none, [{"STUN_SECRET", "abc"}],
                                 #{route => fun(inet) -> {ok, Ip}; (inet6) -> none end}),
        Warnings
    end,
    ?assertEqual([], Warnings({8, 8, 8, 8})),
    ?assertEqual(["relaying from 10.1.2.3, a private address that clients elsewhere cannot reach; "
                  "RELAY_IP or the key relay_ip sets another"], Warnings({10, 1, 2, 3})).

%% K28, for both families and both names: what cannot be bound is advertised.
relay_behind_nat(Config) ->
    Local6 = {16#2001, 16#db8, 0, 0, 0, 0, 0, 7},
    Host = #{bindable => fun(_) -> false end,
             route => fun(inet) -> {ok, {10, 0, 0, 5}}; (inet6) -> {ok, Local6} end},
    File = file(Config, "relay_ip = ( \"203.0.113.9\", \"2001:db8::9\" );"),
    {ok, #{relays := Relays}, Warnings} = load(File, [{"STUN_SECRET", "abc"}], Host),
    ?assertMatch([#{local := {10, 0, 0, 5}, advertised := {203, 0, 113, 9}},
                  #{local := Local6, advertised := {16#2001, 16#db8, 0, 0, 0, 0, 0, 9}}], Relays),
    ?assertEqual([File ++ ":1: relay_ip is 203.0.113.9, which is no address of this machine: "
                  "relaying from 10.0.0.5 and telling clients 203.0.113.9",
                  File ++ ":1: relay_ip is 2001:db8::9, which is no address of this machine: "
                  "relaying from 2001:db8::7 and telling clients 2001:db8::9"], Warnings),
    Nowhere = Host#{route := fun(_) -> none end, first => fun(_) -> none end},
    %% Without an address that could be behind it, it is none of a NAT's; and never is loopback.
    {ok, #{relays := [#{local := {203, 0, 113, 9}}]}, _} =
        load(none, [{"RELAY_IP", "203.0.113.9"}], Nowhere).

this_machine(_) ->
    ?assert(meerkat_host:bindable({127, 0, 0, 1})),
    ?assertNot(meerkat_host:bindable({203, 0, 113, 77})),
    [?assert(meerkat_host:bindable(Ip)) || Family <- [inet, inet6],
                                           {ok, Ip} <- [meerkat_host:route(Family),
                                                        meerkat_host:first(Family)]],
    {ok, #{relays := [_ | _] = Relays}, _} = meerkat_config:load(#{file => none, env => []}),
    [?assert(meerkat_host:bindable(Ip)) || #{local := Ip} <- Relays].

relay_ports(_) ->
    {ok, #{relays := Relays}, _} =
        load([{"RELAY_IP", "::1,8.8.8.8"}, {"MIN_PORT", "50000"}, {"MAX_PORT", "50000"}]),
    ?assertMatch([#{local := {0, 0, 0, 0, 0, 0, 0, 1}, min_port := 50000, max_port := 50000},
                  #{local := {8, 8, 8, 8}, min_port := 50000, max_port := 50000}],
                 Relays).

%% Several of a family, each with what clients are told and ports of its own.
several_relays(Config) ->
    Relays = fun(Text, Env) ->
        {ok, #{relays := Relays}, _} = load(file(Config, Text), Env),
        [{Local, Told, Min, Max} || #{local := Local, advertised := Told, min_port := Min,
                                      max_port := Max} <- Relays]
    end,
    {A, B, C} = {{10, 0, 0, 5}, {10, 0, 0, 6}, {203, 0, 113, 5}},
    V6 = {16#2001, 16#db8, 0, 0, 0, 0, 0, 5},
    ?assertEqual([{A, A, 49152, 65535}, {B, C, 49152, 65535}, {V6, V6, 49152, 65535}],
                 Relays("relay_ip = ( \"10.0.0.5\", \"203.0.113.5/10.0.0.6\", \"2001:db8::5\" );",
                        [])),
    ?assertEqual([{A, A, 50000, 65535}, {B, C, 50000, 65535}],
                 Relays("", [{"RELAY_IP", "10.0.0.5, 203.0.113.5/10.0.0.6"},
                             {"MIN_PORT", "50000"}])),
    Groups = "relays = ( { ip = \"10.0.0.5\"; max_port = 50000; },\n"
        "           { ip = \"10.0.0.5\"; min_port = 50001; max_port = 50009; },\n"
        "           { ip = \"10.0.0.6\"; advertised = \"203.0.113.5\"; } );",
    ?assertEqual([{A, A, 49152, 50000}, {A, A, 50001, 50009}, {B, C, 49152, 65535}],
                 Relays(Groups, [])),
    ?assertEqual([{{192, 0, 2, 1}, {192, 0, 2, 1}, 49152, 60000}, {A, A, 49152, 50000},
                  {A, A, 50001, 50009}, {B, C, 49152, 60000}],
                 Relays(Groups, [{"RELAY_IP", "192.0.2.1"}, {"MAX_PORT", "60000"}])),
    ?assertMatch([{{192, 0, 2, 7}, _, _, _}], Relays("relays = ();", [])).

relays_that_cannot_be(Config) ->
    [begin
         File = file(Config, Text),
         Whole = lists:flatten(string:replace(Sentence, "FILE", File, all)),
         ?assertEqual({error, [Whole]}, load(File, Env))
     end || {Text, Env, Sentence} <- [
        {"\nrelays = ( { ip = \"10.0.0.5\"; },\n{ ip = \"10.0.0.5\"; min_port = 60000; } );", [],
         "FILE:2: relays has 10.0.0.5 and FILE:3: relays has 10.0.0.5, and both have ports 60000 "
         "to 65535: of one address, bound or told to clients, no port can be relayed from twice"},
        {"relays = ( { ip = \"10.0.0.5\"; } );", [{"RELAY_IP", "10.0.0.5/10.0.0.6"}],
         "RELAY_IP has 10.0.0.5 (bound: 10.0.0.6) and FILE:1: relays has 10.0.0.5, and both have "
         "ports 49152 to 65535: of one address, bound or told to clients, no port can be relayed "
         "from twice"},
        {"relays = ( { ip = \"10.0.0.5\";\nmin_port = 60000; max_port = 50000; } );", [],
         "FILE:1: relays has min_port 60000 and max_port 50000; the first must not be the larger"},
        {"relays = ( { ip = \"10.0.0.5\"; max_port = 50000; } );", [{"MIN_PORT", "50001"}],
         "FILE:1: relays has min_port 50001 and max_port 50000; the first must not be the larger"},
        {"relays = ( { ip = \"10.0.0.5\";\nadvertised = \"::1\"; } );", [],
         "FILE:1: relays is a group with addresses of two families; it must be a list of groups { "
         "ip = \"...\"; advertised = \"...\"; min_port = ...; max_port = ...; }, all but ip may "
         "be left out, both addresses of one family"}
    ]].

%%% MongooseICE's operators

%% The variables of its documentation, with their defaults and with the values it shows.
k27_names_and_defaults(_) ->
    Defaults = [{"MONGOOSEICE_LOGLEVEL", "info"}, {"MONGOOSEICE_UDP_ENABLED", "true"},
                {"MONGOOSEICE_TCP_ENABLED", "false"}, {"MONGOOSEICE_STUN_SECRET", "very_secret"},
                {"MONGOOSEICE_UDP_BIND_IP", "0.0.0.0"}, {"MONGOOSEICE_UDP_PORT", "3478"},
                {"MONGOOSEICE_UDP_REALM", "udp.localhost.local"},
                {"MONGOOSEICE_UDP_RELAY_IP", "127.0.0.1"},
                {"MONGOOSEICE_TCP_BIND_IP", "0.0.0.0"}, {"MONGOOSEICE_TCP_PORT", "3479"},
                {"MONGOOSEICE_TCP_REALM", "tcp.localhost.local"},
                {"MONGOOSEICE_TCP_RELAY_IP", "127.0.0.1"}],
    {ok, Config, []} = load(Defaults),
    ?assertMatch(#{log_level := info, secrets := [<<"very_secret">>],
                   realm := <<"udp.localhost.local">>,
                   listeners := [#{ip := {0, 0, 0, 0}, port := 3478}],
                   relays := [#{local := {127, 0, 0, 1}, advertised := {127, 0, 0, 1}}]}, Config),
    {ok, #{log_level := warning}, _} = load([{"MONGOOSEICE_LOGLEVEL", "warn"}]),
    {ok, #{realm := <<"myrelay">>, relays := [#{advertised := {1, 1, 1, 1}}]}, _} =
        load([{"MONGOOSEICE_UDP_RELAY_IP", "1.1.1.1"}, {"MONGOOSEICE_STUN_SECRET", "secret"},
              {"MONGOOSEICE_UDP_REALM", "myrelay"}]).

k27_unknown_names_are_warnings(_) ->
    {ok, _, Warnings} = load([{"STUN_SECRET", "abc"}, {"RELAY_IP", "8.8.8.8"},
                              {"MONGOOSEICE_UDP_PROT", "1"}, {"MONGOOSEICE_QUIC", "1"}]),
    ?assertEqual(["MONGOOSEICE_QUIC is not a variable Meerkat knows; it has no effect",
                  "MONGOOSEICE_UDP_PROT is not a variable Meerkat knows; it has no effect; did "
                  "you mean MONGOOSEICE_UDP_PORT?"], Warnings).

%% A slip of the pen in a name of ours; what is nobody's business is not looked at.
near_misses_of_variables_are_told(_) ->
    {ok, _, Warnings} = load([{"STUN_SECRETT", "abc"}, {"STUN_SECERT", "abc"},
                              {"RELAYIP", "8.8.8.8"},
                              {"STUN_PORT", "1"}, {"HTTP_LISTEM", "1"}, {"STUN_SECRET_FIEL", "x"},
                              {"USER", "me"}, {"HOME", "/"}, {"PORT", "80"}, {"SHELL", "sh"},
                              {"RELEASE", "1"}, {"LS_COLORS", ""}, {"LANG", "C"}, {"PWD", "/"},
                              {"HTTP_PROXY", "x"}, {"LOGNAME", "me"}, {"HOSTNAME", "x"}]),
    ?assertEqual([Name ++ " is not a variable Meerkat knows; it has no effect; did you mean "
                      ++ Meant ++ "?"
                  || {Name, Meant} <- [{"HTTP_LISTEM", "HTTP_LISTEN"}, {"RELAYIP", "RELAY_IP"},
                                       {"STUN_PORT", "TURN_PORT"}, {"STUN_SECERT", "STUN_SECRET"},
                                       {"STUN_SECRETT", "STUN_SECRET"},
                                       {"STUN_SECRET_FIEL", "STUN_SECRET_FILE"}]],
                 [W || W <- Warnings, re:run(W, "variable Meerkat knows") =/= nomatch]).

%% Even when theirs could not be read.
k27_own_names_win(_) ->
    {ok, #{listeners := [#{port := 5000}]}, _} =
        load([{"LISTEN_PORT", "5000"}, {"MONGOOSEICE_UDP_PORT", "6000"}]),
    {ok, #{listeners := [#{port := 5000}]}, _} =
        load([{"LISTEN_PORT", "5000"}, {"MONGOOSEICE_UDP_PORT", "x"}]).

k28_relay_ip(_) ->
    Bindable = #{bindable => fun(Ip) -> Ip =:= {10, 0, 0, 5} end},
    Env = fun(Ip) -> [{"STUN_SECRET", "abc"}, {"MONGOOSEICE_UDP_RELAY_IP", Ip}] end,
    {ok, #{relays := [#{local := {10, 0, 0, 5}, advertised := {10, 0, 0, 5}}]}, []} =
        load(none, Env("10.0.0.5"), Bindable),
    {ok, #{relays := [#{local := {192, 0, 2, 7}, advertised := {1, 1, 1, 1}}]}, [Warning]} =
        load(none, Env("1.1.1.1"), Bindable),
    ?assertEqual("MONGOOSEICE_UDP_RELAY_IP is 1.1.1.1, which is no address of this machine: "
                 "relaying from 192.0.2.7 and telling clients 1.1.1.1", Warning).

%% The option that docs/configuration.md names.
k29_peers_as_before(_) ->
    Peers = [{10, 0, 0, 1}, {127, 0, 0, 1}, {192, 168, 1, 1}, {16#fd00, 0, 0, 0, 0, 0, 0, 1}],
    Verdicts = fun(Env) ->
        {ok, Config, _} = load([{"RELAY_IP", "8.8.8.8"} | Env]),
        Rules = meerkat_policy:rules(Config),
        lists:usort([Verdict || Ip <- Peers, {Verdict, _} <- [meerkat_policy:check(Ip, Rules)]])
    end,
    ?assertEqual([deny], Verdicts([])),
    ?assertEqual([allow], Verdicts([{"ALLOWED_PEERS", "0.0.0.0/0,::/0"}])),
    ?assertMatch({match, _}, re:run(page("docs/configuration.md"),
                                    "ALLOWED_PEERS=0\\.0\\.0\\.0/0,::/0")).

%% Its two development listeners: each its realm, one secret for both.
k30_listeners_with_realms(Config) ->
    File = file(Config, "secret = \"abc\"; realm = \"turn1.localhost\";\n"
                        "listen_ip = \"127.0.0.1\"; listen_port = 12100;\n"
                        "extra_listeners = ( { ip = \"127.0.0.1\"; port = 12200;\n"
                        "                      realm = \"turn2.localhost\"; } );\n"),
    {ok, #{listeners := Listeners, realm := Realm, secrets := Secrets}, _} = load(File, []),
    ?assertEqual({<<"turn1.localhost">>, [<<"abc">>]}, {Realm, Secrets}),
    ?assertEqual([#{transport => udp, ip => {127, 0, 0, 1}, port => 12100},
                  #{transport => udp, ip => {127, 0, 0, 1}, port => 12200,
                    realm => <<"turn2.localhost">>}], Listeners).

k12_channel_numbers(Config) ->
    Accepted = fun(File, Env) ->
        {ok, #{rfc5766_channel_numbers := Accepted}, _} = load(File, Env),
        Accepted
    end,
    Theirs = {"MONGOOSEICE_STUN_SECRET", "abc"},
    ?assertNot(Accepted(none, [{"STUN_SECRET", "abc"}])),
    ?assertNot(Accepted(none, [{"MONGOOSEICE_STUN_SECRET", ""}])),
    ?assert(Accepted(none, [Theirs])),
    ?assertNot(Accepted(none, [Theirs, {"RFC5766_CHANNEL_NUMBERS", "no"}])),
    ?assertNot(Accepted(file(Config, "rfc5766_channel_numbers = false;"), [Theirs])).

%% The same of its secret: whoever comes with its variables need not ask.
secret_as_password(Config) ->
    Is = fun(File, Env) ->
        {ok, #{secret_as_password := Is} = Loaded, _} = load(File, Env),
        {Is, [string:find(Line, "is the password of any") =/= nomatch || Line <- said(Loaded)]}
    end,
    Theirs = {"MONGOOSEICE_STUN_SECRET", "abc"},
    Ours = {"STUN_SECRET", "abc"},
    ?assertEqual({auto, [false]}, Is(none, [Ours])),
    ?assertEqual({true, [true]}, Is(none, [Theirs])),
    ?assertEqual({true, [true]}, Is(none, [Ours, {"SECRET_AS_PASSWORD", "yes"}])),
    ?assertEqual({false, [false]}, Is(none, [Theirs, {"SECRET_AS_PASSWORD", "no"}])),
    ?assertEqual({true, [true]}, Is(file(Config, "secret_as_password = \"auto\";"), [Theirs])),
    ?assertEqual({false, [false]}, Is(file(Config, "secret_as_password = false;"), [Theirs])),
    ?assertEqual({auto, []}, Is(none, [])),
    {error, [Mistake]} = load(none, [{"SECRET_AS_PASSWORD", "maybe"}]),
    ?assertEqual("SECRET_AS_PASSWORD is \"maybe\"; it must be auto, true, 1 or yes, or false, 0 or "
                 "no", lists:flatten(io_lib:format("~ts", [Mistake]))).

said(Config) ->
    [unicode:characters_to_list(Line) || Line <- meerkat_config:what_secret_opens(Config)].

%% TCP is not served, and that is no reason to crash.
f16_tcp(_) ->
    Quiet = [{"STUN_SECRET", "abc"}, {"RELAY_IP", "8.8.8.8"}],
    Listeners = fun(Env) ->
        {ok, #{listeners := Ls}, []} = meerkat_config:load(#{file => none, host => host(),
                                                             env => Env ++ Quiet}),
        [{Transport, Port} || #{transport := Transport, port := Port} <- Ls]
    end,
    ?assertEqual([{udp, 3478}, {tcp, 3478}], Listeners([])),
    ?assertEqual([{udp, 3478}, {tcp, 3478}], Listeners([{"MONGOOSEICE_TCP_ENABLED", "true"}])),
    ?assertEqual([{udp, 3478}], Listeners([{"MONGOOSEICE_TCP_ENABLED", "No"}])),
    ?assertEqual([{udp, 3478}], Listeners([{"TCP_ENABLED", "0"}])),
    ?assertEqual([{tcp, 5000}], Listeners([{"UDP_ENABLED", "0"}, {"LISTEN_PORT", "5000"}])),
    {error, [_]} = load([{"MONGOOSEICE_TCP_ENABLED", "on"} | Quiet]),
    ?assertEqual({error, ["MONGOOSEICE_UDP_ENABLED is false, TCP_ENABLED is false, and tls_cert "
                          "names no certificate: there is nothing to serve"]},
                 load([{"TCP_ENABLED", "0"}, {"MONGOOSEICE_UDP_ENABLED", "0"}])).

%%% What is made from the schema

effective_tells_origins(Config) ->
    File = file(Config, "\n\nmax_lifetime = 1200;"),
    {ok, Loaded, _} = load(File, [{"REALM", "r"}, {"MONGOOSEICE_UDP_PORT", "1"}]),
    Effective = meerkat_config:effective(Loaded),
    ?assertEqual([Key || #{key := Key} <- meerkat_config_schema:rows()],
                 [Key || #{key := Key} <- Effective]),
    [?assertEqual(Setting, setting(element(1, Setting), Loaded)) || Setting <- [
        {realm, <<"\"r\"">>, <<"REALM">>},
        {listen_port, <<"1">>, <<"MONGOOSEICE_UDP_PORT">>},
        {max_lifetime, <<"1200">>, iolist_to_binary([File, ":3"])},
        {secret, <<"random">>, <<"default">>},
        {rfc5766_channel_numbers, <<"true">>, <<"default beside MONGOOSEICE_ variables">>}]].

%% For programs: a number is one, a list an array, whatever the key.
values_have_types(Config) ->
    File = file(Config, ["users = ( { name = \"bea\"; password = \"p\"; } );\n"
                         "extra_listeners = ( { port = 1; realm = \"r\"; } );\n"
                         "relays = ( { ip = \"192.0.2.9\"; min_port = 1024; } );\n"
                         "realms = ( { name = \"r\"; max_bps = 7; secret = \"s\"; } );\n"
                         "xmpp_secret = \"s\";\nhttp_token = \"t\";\n"
                         "software = \"S\";\nhttp_listen = \"9641\";\n"]),
    {ok, Loaded, _} = load(File, [{"RELAY_IP", "192.0.2.7/192.0.2.8"}, {"STUN_SECRET", "s"}]),
    {ok, Default, _} = load([]),
    Is = fun(#{type := boolean}, Value) -> is_boolean(Value);
            (#{type := {integer, _, _}}, Value) -> is_integer(Value);
            (#{type := {list, _}, default := Word}, Value) when is_atom(Word) ->
                 is_list(Value) orelse Value =:= Word;
            (#{type := {list, _}}, Value) -> is_list(Value);
            (#{type := Groups}, Value) when Groups =:= users; Groups =:= listeners;
                                            Groups =:= relays; Groups =:= realms -> is_list(Value);
            (_, Value) -> Value =:= null orelse is_atom(Value) orelse is_binary(Value)
         end,
    [?assertEqual([], [{Key, Value}
                       || {#{key := Key} = Row, #{value := Value}}
                              <- lists:zip(meerkat_config_schema:rows(), Settings),
                          not Is(Row, Value)])
     || C <- [Default, Loaded],
        Settings <- [[S || S <- meerkat_config:effective(C), not is_map_key(realm, S)]]],
    Values = [#{Key => Value}
              || #{key := Key, value := Value} <- meerkat_config:effective(Loaded)],
    All = meerkat_json:decode(meerkat_json:encode(meerkat_json:plain(Values))),
    [?assert(lists:member(#{Key => Value}, element(2, All)), {Key, Value, All})
     || {Key, Value} <- [{<<"users">>, [<<"bea">>]}, {<<"realms">>, [<<"r">>]},
                         {<<"extra_listeners">>, [#{<<"ip">> => <<"any">>, <<"port">> => 1,
                                                    <<"realm">> => <<"r">>}]},
                         {<<"relays">>, [#{<<"ip">> => <<"192.0.2.9">>, <<"min_port">> => 1024}]},
                         {<<"relay_ip">>, [<<"192.0.2.7/192.0.2.8">>]},
                         {<<"max_bps">>, 7}, {<<"software">>, <<"S">>},
                         {<<"xmpp_secret">>, <<"(not shown)">>},
                         {<<"http_token">>, <<"(not shown)">>},
                         {<<"http_listen">>, <<"127.0.0.1:9641">>},
                         {<<"secret">>, [<<"(not shown)">>]}]].

example_is_the_schema(_) ->
    ?assertEqual(unicode:characters_to_binary(meerkat_config_pages:example()),
                 page("config/meerkat.cfg")).

example_means_the_defaults(_) ->
    {ok, Defaults, _} = load([]),
    {ok, Example, _} = load(path("config/meerkat.cfg"), []),
    ?assertEqual(maps:remove(secrets, Defaults), maps:remove(secrets, Example)).

%% Its keys and values are right, and the defaults shown are those.
example_can_be_uncommented(Config) ->
    Lines = binary:split(page("config/meerkat.cfg"), <<"\n">>, [global]),
    %% Of what it has in other files only these must be there.
    #{chain_file := ChainFile, key_file := KeyFile} =
        stream_kit:certificate(proplists:get_value(priv_dir, Config), ec, "turn.example.com"),
    Text = lists:foldl(fun({Example, Real}, Acc) -> string:replace(Acc, Example, Real) end,
                       lists:join("\n", [uncommented(Line) || Line <- Lines]),
                       [{"/etc/letsencrypt/live/turn.example.com/fullchain.pem", ChainFile},
                        {"/etc/letsencrypt/live/turn.example.com/privkey.pem", KeyFile},
                        {"/etc/meerkat/clients-ca.pem", ChainFile},
                        {"/etc/meerkat/jwks.json", path("test/data/jwks.json")}]),
    File = file(Config, Text),
    {ok, Loaded, _} = load(File, []),
    {ok, Defaults, _} = load([]),
    Set = [Key || #{key := Key, origin := Origin} = Setting <- meerkat_config:effective(Loaded),
                  not is_map_key(realm, Setting), Origin =/= <<"default">>],
    ?assertEqual([Key || #{key := Key} <- meerkat_config_schema:rows()], Set),
    ByDefault = [Key || #{key := Key, example := undefined} <- meerkat_config_schema:rows()],
    ?assertEqual([setting(Key, Defaults) || Key <- ByDefault],
                 [{K, V, <<"default">>} || #{key := K, text := V} = S
                                               <- meerkat_config:effective(Loaded),
                                           not is_map_key(realm, S), lists:member(K, ByDefault)]).

uncommented(<<"# ", _/binary>> = Prose) -> Prose;
uncommented(<<"#", Setting/binary>>) -> Setting;
uncommented(Line) -> Line.

reference_is_the_schema(_) ->
    [?assertMatch([_, _], binary:split(page("docs/configuration.md"),
                                       unicode:characters_to_binary(Part)))
     || Part <- [meerkat_config_pages:summary(), meerkat_config_pages:reference()]].

%% What has no line is in no page.
every_key_has_its_purpose(_) ->
    Lines = [Key || {_, Keys} <- meerkat_config_pages:groups(), {Key, _} <- Keys],
    ?assertEqual(lists:sort([Key || #{key := Key} <- meerkat_config_schema:rows()]),
                 lists:sort(Lines)).

%%% The machine that is played, and files

load(Env) ->
    load(none, Env).

load(File, Env) ->
    load(File, Env, #{}).

load(File, Env, Host) ->
    Options = #{file => File, env => Env, host => maps:merge(host(), Host)},
    case meerkat_config:load(Options) of
        {ok, Config, Warnings} ->
            {ok, udp(Config), [unicode:characters_to_list(W) || W <- Warnings]};
        {error, Mistakes} -> {error, [unicode:characters_to_list(M) || M <- Mistakes]}
    end.

%% Listeners of TCP stand beside those of UDP, and f16_tcp has them.
udp(#{listeners := Listeners} = Config) ->
    Config#{listeners := [L || #{transport := udp} = L <- Listeners]}.

host() ->
    #{route => fun(inet) -> {ok, {192, 0, 2, 7}}; (inet6) -> none end,
      first => fun(_) -> none end,
      bindable => fun(_) -> true end}.

setting(Key, Config) ->
    [#{text := Text, origin := Origin}] =
        [Setting || #{key := K} = Setting <- meerkat_config:effective(Config), K =:= Key,
                    not is_map_key(realm, Setting)],
    {Key, Text, Origin}.

file(Config, Text) ->
    File = proplists:get_value(file, Config),
    ok = file:write_file(File, unicode:characters_to_binary(Text)),
    File.

page(Name) ->
    {ok, Bytes} = file:read_file(path(Name)),
    Bytes.

%% The suite is compiled from a link to the checkout.
path(Name) ->
    filename:join([code:lib_dir(meerkat), "..", "..", "..", "..", Name]).
