%% What `meerkatctl import` makes of a turnserver.conf: every key that has a counterpart, each other
%% one in a note with its line; and whatever comes out is a configuration of ours. The files here
%% are written after coturn's documentation of its keys.
-module(import_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([a_whole_file/1, secret_alone/1, users_alone/1, addresses/1, ranges_become_networks/1,
         what_has_no_counterpart/1, what_cannot_be_read/1, last_of_two_counts/1,
         text_is_quoted/1, metrics/1, discovery/1, any_text_is_survived/1, command/1,
         quotes_are_taken_off/1, comments_behind_values/1, blanks_stand_for_equals_signs/1,
         switches_say_off/1, mapped_ranges_mean_no_ipv4/1, relays_from_where_it_listens/1,
         single_addresses_are_opened_by_name/1,
         external_address_of_several/1, users_in_a_database/1, users_beside_a_secret/1,
         passwords_as_they_are/1, keys_without_a_realm/1, anybody_comes_in/1, threads/1,
         extra_listeners/1, marks_and_other_encodings/1, every_line_is_accounted_for/1,
         name_before_expiry/1, certificate_and_port/1, certificate_without_key/1, no_tls/1,
         transports_that_are_off/1, tls_notes/1,
         the_table_has_every_key/1]).

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

%% The configuration that comes out, as the server would take it, and the notes.
imported(Config, Lines) ->
    #{configuration := Text, notes := Notes} =
        meerkat_import:import(unicode:characters_to_binary(lists:join("\n", Lines))),
    File = filename:join(proplists:get_value(priv_dir, Config), "imported.cfg"),
    ok = file:write_file(File, unicode:characters_to_binary(Text)),
    Host = #{route => fun(inet) -> {ok, {192, 0, 2, 7}}; (inet6) -> none end,
             first => fun(_) -> none end,
             bindable => fun(_) -> true end},
    case meerkat_config:load(#{file => File, env => [], host => Host}) of
        {ok, Loaded, _} ->
            {over_udp(Loaded),
             [{N, lists:flatten(io_lib:format("~ts", [Note]))} || {N, Note} <- Notes]};
        {error, Mistakes} -> error({Mistakes, unicode:characters_to_list(Text)})
    end.

%% As in turnserver there is a listener over TCP beside each over UDP, which shows the address.
over_udp(#{listeners := Listeners} = Loaded) ->
    Loaded#{listeners := [L || #{transport := udp} = L <- Listeners]}.

%% What docs/coturn.md says of what is put together is what becomes of it.
the_table_has_every_key(_) ->
    #{composed := Composed} = meerkat_import:kinds(),
    ?assertEqual(lists:sort(Composed), lists:sort(maps:keys(meerkat_import_table:composed()))),
    [?assertMatch({_, {ok, _}}, {Key, meerkat_config_schema:find(atom_to_binary(Key))})
     || {_, {Keys, _}} <- maps:to_list(meerkat_import_table:composed()), Key <- Keys],
    Lines = ["rfc5780", "realm=r", "listening-ip=10.0.0.5", "listening-ip=10.0.0.6",
             "relay-ip=10.0.0.6", "external-ip=203.0.113.6/10.0.0.6", "alt-listening-port=3500",
             "aux-server=10.0.0.7:3480", "static-auth-secret=north", "use-auth-secret",
             "allowed-peer-ip=10.1.0.0-10.1.255.255", "denied-peer-ip=192.0.2.1",
             "allow-loopback-peers", "stale-nonce=1200", "alternate-server=192.0.2.9",
             "udp-alternate-server=192.0.2.8", "relay-threads=4", "verbose", "Verbose",
             "software-attribute", "sock-buf-size=1048576", "prometheus", "prometheus-port=9700",
             "prometheus-address=127.0.0.1"],
    [begin
         #{lines := Became} = meerkat_import:import(unicode:characters_to_binary(
                                                        lists:join("\n", File))),
         [?assertEqual({Theirs, []}, {Theirs, ours(Keys) -- said(Theirs)})
          || {_, Theirs, Keys} <- Became, lists:member(Theirs, Composed)]
     end || File <- [Lines, ["lt-cred-mech", "user=alice:wonderland", "realm=r"]]].

ours(Keys) ->
    case unicode:characters_to_list(Keys) of
        "nothing" ++ _ -> [];
        Text -> [list_to_atom(Key) || Key <- string:lexemes(Text, ", ")]
    end.

said(Theirs) -> element(1, maps:get(Theirs, meerkat_import_table:composed())).

%% The same of a file that is not about who may come in.
fragment(Config, Lines) ->
    imported(Config, Lines ++ ["static-auth-secret=north"]).

a_whole_file(Config) ->
    {Loaded, Notes} = imported(Config, [
        "# a comment", "", "listening-port=3480", "listening-ip=10.0.0.5", "listening-ip=::1",
        "relay-ip = 10.0.0.6", "external-ip=203.0.113.6/10.0.0.6", "min-port=50000",
        "max-port=60000", "fingerprint", "use-auth-secret", "static-auth-secret=north",
        "static-auth-secret=south", "realm=turn.example.org", "user-quota=12", "total-quota=1200",
        "max-bps=64000", "bps-capacity=1000000", "stale-nonce=1200", "allow-loopback-peers",
        "allowed-peer-ip=10.1.0.0-10.1.255.255", "denied-peer-ip=192.0.2.1", "mobility",
        "max-allocate-lifetime=1800", "no-multicast-peers", "no-cli", "verbose",
        "rfc5766-channel-numbers", "sock-buf-size=1048576", "relay-threads=4",
        "software-attribute"]),
    ?assertEqual([], Notes),
    ?assertMatch(#{listeners := [#{ip := {10, 0, 0, 5}, port := 3480},
                                 #{ip := {0, 0, 0, 0, 0, 0, 0, 1}, port := 3480}],
                   relays := [#{local := {10, 0, 0, 6}, advertised := {203, 0, 113, 6},
                                min_port := 50000, max_port := 60000}],
                   secrets := [<<"north">>, <<"south">>], realm := <<"turn.example.org">>,
                   user_quota := 12, total_quota := 1200, max_bps := 64000,
                   bps_capacity := 1000000, nonce_lifetime := 1200, mobility := true,
                   allowed_peers := [{{10, 1, 0, 0}, 16}, {{127, 0, 0, 0}, 8},
                                     {{0, 0, 0, 0, 0, 0, 0, 1}, 128}],
                   denied_peers := [{{192, 0, 2, 1}, 32}], max_lifetime := 1800,
                   log_level := debug, rfc5766_channel_numbers := true, workers := 4,
                   receive_buffer := 1048576, send_buffer := 1048576,
                   software := <<"Meerkat">>}, Loaded).

secret_alone(Config) ->
    {#{secrets := [<<"north">>], users := Users}, []} =
        imported(Config, ["use-auth-secret", "static-auth-secret=north"]),
    ?assertEqual(#{}, Users),
    {_, [{1, Note}]} = imported(Config, ["use-auth-secret"]),
    ?assertMatch({match, _}, re:run(Note, "without static-auth-secret")).

%% Then nobody comes in by a secret, as it is there.
users_alone(Config) ->
    {#{secrets := [], users := Users}, []} =
        imported(Config, ["lt-cred-mech", "realm=r.example", "user=alice:won:der=land",
                          "user=bob:0x000102030405060708090a0b0c0d0e0f"]),
    ?assertEqual(#{<<"alice">> => {password, <<"won:der=land">>},
                   <<"bob">> => {key, list_to_binary(lists:seq(0, 15))}}, Users).

addresses(Config) ->
    Relays = fun(Lines) ->
        {#{relays := Relays}, []} = fragment(Config, Lines),
        [{Told, Local} || #{local := Local, advertised := Told} <- Relays]
    end,
    {A, B, Told} = {{10, 0, 0, 5}, {10, 0, 0, 6}, {203, 0, 113, 5}},
    ?assertEqual([{{192, 0, 2, 7}, {192, 0, 2, 7}}], Relays([])),
    ?assertEqual([{A, A}, {B, B}], Relays(["relay-ip=10.0.0.5", "relay-ip=10.0.0.6"])),
    ?assertEqual([{Told, A}], Relays(["relay-ip=10.0.0.5", "external-ip=203.0.113.5"])),
    ?assertEqual([{Told, Told}], Relays(["external-ip=203.0.113.5"])),
    ?assertEqual([{Told, A}], Relays(["external-ip=203.0.113.5/10.0.0.5"])),
    ?assertEqual([{Told, Told}], Relays(["external-ip=203.0.113.5", "listening-ip=0.0.0.0"])),
    ?assertEqual([{A, A}, {Told, B}],
                 Relays(["relay-ip=10.0.0.5", "relay-ip=10.0.0.6",
                         "external-ip=203.0.113.5/10.0.0.6"])).

%% Each range as the fewest networks, and no address more or less.
ranges_become_networks(Config) ->
    Denied = fun(Range) ->
        {#{denied_peers := Networks}, []} = fragment(Config, ["denied-peer-ip=" ++ Range]),
        Networks
    end,
    ?assertEqual([{{10, 0, 0, 0}, 8}], Denied("10.0.0.0-10.255.255.255")),
    ?assertEqual([{{10, 0, 0, 1}, 32}, {{10, 0, 0, 2}, 31}, {{10, 0, 0, 4}, 32}],
                 Denied("10.0.0.1-10.0.0.4")),
    ?assertEqual([{{0, 0, 0, 0}, 0}], Denied("0.0.0.0-255.255.255.255")),
    ?assertEqual([{{10, 0, 0, 7}, 32}], Denied("10.0.0.7-10.0.0.7")),
    ?assertEqual([{{192, 0, 2, 0}, 24}], Denied("192.0.2.0/24")),
    ?assertEqual([{{16#fc00, 0, 0, 0, 0, 0, 0, 0}, 7}],
                 Denied("fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
    [begin
         [A, B] = lists:sort([rand:uniform(1 bsl 32) - 1 || _ <- [1, 2]]),
         Ip = fun(N) -> <<W, X, Y, Z>> = <<N:32>>, inet:ntoa({W, X, Y, Z}) end,
         Networks = Denied(Ip(A) ++ "-" ++ Ip(B)),
         ?assertEqual(B - A + 1, lists:sum([1 bsl (32 - Bits) || {_, Bits} <- Networks])),
         {{W0, X0, Y0, Z0}, _} = hd(Networks),
         ?assertEqual(<<A:32>>, <<W0, X0, Y0, Z0>>),
         ?assert(length(Networks) < 64)
     end || _ <- lists:seq(1, 20)].

what_has_no_counterpart(Config) ->
    {_, Notes} = imported(Config, ["listening-port=3478", "cert=/etc/cert.pem", "no-auth",
                                   "mongo-userdb=\"mongodb://h/coturn\"", "tls-listening-port=5349",
                                   "alternate-server=192.0.2.9", "channel-lifetime=900",
                                   "tcp-proxy-port=5555"]),
    ?assertEqual([{2, "cert without pkey: `tls_cert` and `tls_key` name two files, or twice the "
                      "same if certificate and key are in one"},
                  {3, "no-auth: nobody comes in without credentials here"},
                  {4, "mongo-userdb: what is in such a database does not come over; `turnadmin "
                      "-l` lists its users, for `users` or `meerkatctl users add`, and `turnadmin "
                      "-S` its secrets, for `secret`"},
                  {6, "alternate-server: clients are sent there while this server is drained, not "
                      "always"},
                  {7, "channel-lifetime has no counterpart"},
                  {8, "tcp-proxy-port: `proxy_protocol_from` names the load balancers whose header "
                      "(PROXY protocol) is expected; they connect to any TCP or TLS port, this one "
                      "where `extra_listeners` has it"}], Notes),
    #{configuration := Text} = meerkat_import:import(<<"cert=x\nno-auth">>),
    ?assertMatch({match, _}, re:run(unicode:characters_to_list(Text), "\n# 1: cert without pkey: "
                                    "`tls_cert` and `tls_key`")).

%% Clients of both, over TCP and TLS.
listeners(Config, Lines) ->
    #{configuration := Text, notes := Notes} =
        meerkat_import:import(unicode:characters_to_binary(lists:join("\n", Lines ++
                                                           ["static-auth-secret=north"]))),
    File = filename:join(proplists:get_value(priv_dir, Config), "listeners.cfg"),
    ok = file:write_file(File, unicode:characters_to_binary(Text)),
    {ok, #{listeners := Listeners, certificates := Certificates}, _} =
        meerkat_config:load(#{file => File, env => []}),
    {[{T, Port} || #{transport := T, port := Port} <- Listeners],
     [{Chain, Key} || #{chain_file := Chain, key_file := Key} <- Certificates],
     [{N, unicode:characters_to_list(Note)} || {N, Note} <- Notes]}.

%% Files of that name; whether they are good nobody asks here.
tls_files(Config) ->
    [begin
         File = filename:join(proplists:get_value(priv_dir, Config), Name),
         ok = file:write_file(File, "x"),
         File
     end || Name <- ["cert.pem", "pkey.pem"]].

certificate_and_port(Config) ->
    [Cert, Key] = tls_files(Config),
    {Listeners, Certificates, Notes} =
        listeners(Config, ["cert=" ++ Cert, "pkey=\"" ++ Key ++ "\"", "tls-listening-port=443"]),
    ?assertEqual([{udp, 3478}, {tcp, 3478}, {tls, 443}], Listeners),
    ?assertEqual([{list_to_binary(Cert), list_to_binary(Key)}], Certificates),
    ?assertMatch([{3, "tls-listening-port: turnserver takes TCP without TLS and UDP there too"
                      ++ _}], Notes),
    {[_, _, {tls, 5349}], _, []} = listeners(Config, ["cert=" ++ Cert, "pkey=" ++ Key]),
    #{configuration := Asking} =
        meerkat_import:import(iolist_to_binary(["cert=", Cert, "\npkey=", Key, "\nCA-file=",
                                                Cert])),
    ?assertNotEqual(nomatch, string:find(Asking, ["tls_client_ca = ( \"", Cert])),
    #{notes := Relative} =
        meerkat_import:import(<<"cert=a.pem\npkey=/b.pem\nstatic-auth-secret=s">>),
    ?assertMatch([{1, _}], Relative).

certificate_without_key(Config) ->
    [Cert, Key] = tls_files(Config),
    [begin
         {Listeners, [], [{1, Note}]} = listeners(Config, [Line]),
         ?assertEqual([{udp, 3478}, {tcp, 3478}], Listeners),
         ?assertNotEqual(nomatch, string:find(Note, Says))
     end || {Line, Says} <- [{"cert=" ++ Cert, "cert without pkey"},
                             {"pkey=" ++ Key, "pkey without cert"},
                             {"tls-listening-port=443", "without cert and pkey"},
                             {"CA-file=" ++ Cert, "without cert and pkey"}]].

no_tls(Config) ->
    [Cert, Key] = tls_files(Config),
    Lines = ["cert=" ++ Cert, "pkey=" ++ Key],
    {[_, _], [], [{3, "no-tls: " ++ _}]} = listeners(Config, Lines ++ ["no-tls"]),
    {[_, _, {tls, _}], [_], []} = listeners(Config, Lines ++ ["no-tls=off"]).

transports_that_are_off(Config) ->
    [Cert, Key] = tls_files(Config),
    Lines = ["cert=" ++ Cert, "pkey=" ++ Key],
    {[{tls, 5349}], _, []} = listeners(Config, Lines ++ ["no-tcp", "no-udp"]),
    {[{udp, 3478}], _, []} = listeners(Config, ["no-tcp"]).

tls_notes(Config) ->
    {_, _, Notes} = listeners(Config, ["cipher-list=ALL", "pkey-pwd=x", "no-tlsv1_2", "dh2066",
                                       "tlsv1", "no-tlsv1", "no-tlsv1_1", "no-dtls"]),
    ?assertEqual([{1, "cipher-list: "}, {2, "pkey-pwd: "}, {3, "no-tlsv1_2: "}, {4, "dh2066: "},
                  {5, "tlsv1: "}],
                 [{N, hd(string:split(Note, ": ")) ++ ": "} || {N, Note} <- Notes]).

what_cannot_be_read(Config) ->
    {Loaded, Notes} = imported(Config, [
        "listening-port=http", "denied-peer-ip=10.0.0.9-10.0.0.1", "user=nobody",
        "external-ip=turn.example.org", "stale-nonce=5", "listening-ip=eth0", "?", "max-bps=",
        "alternate-server=example.org", "allowed-peer-ip=10.0.0.1-::1", "static-auth-secret=",
        "--mobility", "relay-threads=many", "aux-server=example.org:3480", "sock-buf-size=1",
        "realm=" ++ lists:duplicate(1100, $r)]),
    ?assertEqual(lists:seq(1, 16), [Line || {Line, _} <- Notes]),
    ?assertMatch(#{listeners := [#{port := 3478}], denied_peers := [], max_bps := 0}, Loaded),
    ?assertEqual({1, "listening-port is \"http\"; it must be a whole number from 0 to 65535"},
                 hd(Notes)).

%% As there; of external-ip without a private address it is the first.
last_of_two_counts(Config) ->
    {#{realm := <<"two">>, nonce_lifetime := 700, mobility := true, relays := [Relay]}, Notes} =
        fragment(Config, ["realm=one", "realm=two", "stale-nonce=600", "stale-nonce=700",
                          "mobility=0", "mobility", "external-ip=203.0.113.1",
                          "external-ip=203.0.113.2"]),
    ?assertMatch(#{advertised := {203, 0, 113, 1}}, Relay),
    ?assertEqual([{1, "realm comes again; the last counts"},
                  {5, "mobility comes again; the last counts"},
                  {8, "external-ip without a private address comes twice; turnserver takes the "
                      "first"}], Notes).

%% A mark at the end goes only with one at the beginning.
quotes_are_taken_off(Config) ->
    {#{secrets := Secrets, realm := Realm, denied_peers := Denied, listeners := [#{port := Port}]},
     []} = imported(Config, ["static-auth-secret=\"east west\"  ", "static-auth-secret=\"open",
                             "static-auth-secret=shut\"", "realm = \"turn.example.net\"",
                             "denied-peer-ip=\"192.0.2.0-192.0.2.255\"",
                             "listening-port=\"3490\""]),
    ?assertEqual([<<"east west">>, <<"open">>, <<"shut\"">>], Secrets),
    ?assertEqual({<<"turn.example.net">>, [{{192, 0, 2, 0}, 24}], 3490}, {Realm, Denied, Port}),
    {#{users := Users}, []} = imported(Config, ["user=\"carol:pass word\""]),
    ?assertEqual(#{<<"carol">> => {password, <<"pass word">>}}, Users).

%% Behind a number and a switch it is none of the value, behind a text it is part of it.
comments_behind_values(Config) ->
    {Loaded, Notes} = imported(Config, [
        "user-quota=9 # three calls", "total-quota=700;", "no-cli # none", "mobility # please",
        "static-auth-secret=south # of here", "external-ip=203.0.113.7 # the router's",
        "min-port=51000 ;", "relay-ip=10.0.0.7#x"]),
    ?assertMatch(#{user_quota := 9, total_quota := 700, mobility := true, min_port := 51000,
                   secrets := [<<"south # of here">>],
                   relays := [#{advertised := {203, 0, 113, 7}}]}, Loaded#{min_port => 51000}),
    ?assertEqual([5, 6, 8], [Line || {Line, _} <- Notes]),
    ?assertMatch({_, "static-auth-secret: to turnserver, and so here, what begins with #" ++ _},
                 hd(Notes)).

blanks_stand_for_equals_signs(Config) ->
    {Loaded, []} = imported(Config, [
        "listening-port 3491", "realm\tturn.example.net", "max-port \t = 60001", "user-quota==4",
        "  static-auth-secret   =  a=b =c"]),
    ?assertMatch(#{listeners := [#{port := 3491}], realm := <<"turn.example.net">>,
                   relays := [#{max_port := 60001}], user_quota := 4,
                   secrets := [<<"a=b =c">>]}, Loaded).

switches_say_off(Config) ->
    {Loaded, Notes} = fragment(Config, ["mobility=off", "rfc5780=off", "verbose=off",
                                        "rfc3489-compatibility=No", "no-cli=false",
                                        "allow-loopback-peers=0", "prometheus=off"]),
    ?assertMatch(#{mobility := false, rfc3489_compatibility := false, log_level := info,
                   http_listen := undefined, allowed_peers := []}, Loaded),
    ?assertEqual([{2, "rfc5780: turnserver takes this for on, whatever stands behind it; here it "
                      "is off, as it says"},
                  {5, "no-cli is off there; here it is so in any case"},
                  {7, "prometheus: turnserver takes this for on, whatever stands behind it; here "
                      "it is off, as it says"}], Notes),
    On = fun(Text) ->
        {#{mobility := Is}, _} = fragment(Config, ["mobility" ++ Text]),
        Is
    end,
    ?assert(lists:all(On, ["", "=1", "=on", "=ON", "=yes", "=True", " t", "=7"])),
    {#{mobility := false}, [{1, "mobility is \"maybe\"; " ++ _}]} =
        fragment(Config, ["mobility=maybe"]).

%% Denied or allowed, a range of mapped addresses says nothing of IPv4; nor does all of IPv6.
mapped_ranges_mean_no_ipv4(Config) ->
    Peers = fun(Key, Range) ->
        {Loaded, Notes} = fragment(Config, [Key ++ "-peer-ip=" ++ Range]),
        {[{Ip, Verdict} || Ip <- [{8, 8, 8, 8}, {10, 0, 0, 1},
                                  {16#2a00, 0, 0, 0, 0, 0, 0, 1}],
                           {Verdict, _} <- [meerkat_policy:check(
                                                Ip, meerkat_policy:rules(Loaded#{relays => []}))]],
         Notes}
    end,
    As = [{{8, 8, 8, 8}, allow}, {{10, 0, 0, 1}, deny}, {{16#2a00, 0, 0, 0, 0, 0, 0, 1}, allow}],
    {_, Usual} = {none, {As, []}},
    ?assertEqual(Usual, Peers("denied", "192.0.2.1")),
    [begin
         {Verdicts, [{1, Note}]} = Peers(Key, Range),
         ?assertEqual({Range, As}, {Range, Verdicts}),
         ?assertMatch({match, _}, re:run(Note, "peer-ip: no peer is reached by an IPv4-mapped"))
     end || Key <- ["denied", "allowed"],
            Range <- ["::ffff:0:0-::ffff:ffff:ffff", "::ffff:8.0.0.0-::ffff:8.255.255.255",
                      "::ffff:10.0.0.1"]],
    {Verdicts6, []} = Peers("denied", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ?assertEqual([{{8, 8, 8, 8}, allow}, {{10, 0, 0, 1}, deny},
                  {{16#2a00, 0, 0, 0, 0, 0, 0, 1}, deny}], Verdicts6),
    {Allowed6, []} = Peers("allowed", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ?assertEqual(As, Allowed6),
    %% One that begins before the mapped ones and ends among them.
    {As, []} = Peers("denied", "::1-::ffff:1.2.3.4").

%% An entry of one address opens an own address, which a network that holds it does not.
single_addresses_are_opened_by_name(Config) ->
    {_, [{1, Note}, {3, _}]} =
        fragment(Config, ["allowed-peer-ip=192.0.2.7", "allowed-peer-ip=192.0.2.0-192.0.2.255",
                          "allowed-peer-ip=2001:db8::7/128", "denied-peer-ip=192.0.2.9"]),
    ?assertMatch({match, _}, re:run(Note, "allowed-peer-ip=192\\.0\\.2\\.7: .*an address of this "
                                          "machine, but for ports that this server uses itself")).

%% Where no address to relay from is said, it is those it listens on; a wildcard is none.
relays_from_where_it_listens(Config) ->
    Relays = fun(Lines) ->
        {#{relays := Relays}, []} = fragment(Config, Lines),
        lists:sort([{Told, Local} || #{local := Local, advertised := Told} <- Relays])
    end,
    {A, B, V6} = {{10, 1, 0, 5}, {10, 1, 0, 6}, {16#2001, 16#db8, 0, 0, 0, 0, 0, 5}},
    Told = {203, 0, 113, 9},
    ?assertEqual([{A, A}, {B, B}], Relays(["listening-ip=10.1.0.5", "listening-ip=10.1.0.6"])),
    ?assertEqual([{Told, A}], Relays(["listening-ip=10.1.0.5", "external-ip=203.0.113.9"])),
    ?assertEqual([{Told, A}, {V6, V6}],
                 Relays(["listening-ip=10.1.0.5", "listening-ip=2001:db8::5",
                         "external-ip=203.0.113.9"])),
    ?assertEqual([{B, B}], Relays(["listening-ip=10.1.0.5", "relay-ip=10.1.0.6"])),
    ?assertEqual([{{127, 0, 0, 1}, {127, 0, 0, 1}}],
                 Relays(["listening-ip=127.0.0.1", "external-ip=203.0.113.9"])),
    ?assertEqual([{{192, 0, 2, 7}, {192, 0, 2, 7}}], Relays(["listening-ip=0.0.0.0"])).

%% Their clients would be told one address for both; and a pair nobody relays from is told to none.
external_address_of_several(Config) ->
    #{notes := Notes} = meerkat_import:import(
        <<"relay-ip=10.1.0.5\nrelay-ip=10.1.0.6\nexternal-ip=203.0.113.9\n"
          "static-auth-secret=s">>),
    ?assertMatch([{3, "external-ip is told for several" ++ _}], Notes),
    {#{relays := [_]}, [{2, Note}]} =
        fragment(Config, ["listening-ip=10.1.0.5", "external-ip=203.0.113.9/10.1.0.6"]),
    ?assertMatch({match, _}, re:run(Note, "203\\.0\\.113\\.9 is told to nobody")).

users_in_a_database(Config) ->
    {#{secrets := [], users := Users}, Notes} =
        imported(Config, ["lt-cred-mech", "realm=r.example"]),
    ?assertEqual(#{}, Users),
    ?assertMatch([{1, "lt-cred-mech without a user or a database: until there are some" ++ _}],
                 Notes),
    {#{secrets := [], userdb := #{file := <<"/var/lib/turn/turndb">>}}, []} =
        imported(Config, ["lt-cred-mech", "userdb=/var/lib/turn/turndb", "realm=r.example"]),
    {#{secrets := [], psql_userdb := #{host := <<"db.example">>, database := <<"turn">>}}, []} =
        imported(Config, ["use-auth-secret", "realm=r.example",
                          "psql-userdb=\"host=db.example dbname=turn user=turn password=turn\""]).

%% There the secret is the only way in.
users_beside_a_secret(Config) ->
    {#{secrets := [<<"north">>], users := Users}, [{2, Note}]} =
        imported(Config, ["static-auth-secret=north", "user=dave:word", "lt-cred-mech"]),
    ?assertEqual(#{}, Users),
    ?assertMatch("user: turnserver lets no user in by a password of its own" ++ _, Note).

passwords_as_they_are(Config) ->
    {#{users := Users}, Notes} = imported(Config, [
        "user=e:1;2'3&4$5%6", "user=f:a:b:", "user=g: padded", "user=h:", "user=:i", "user=k:0x12",
        "user=l:first", "user=l:second", "user=m:n # o"]),
    ?assertEqual(#{<<"e">> => {password, <<"1;2'3&4$5%6">>}, <<"f">> => {password, <<"a:b:">>},
                   <<"g">> => {password, <<"padded">>}, <<"l">> => {password, <<"second">>},
                   <<"m">> => {password, <<"n # o">>}}, Users),
    ?assertEqual([4, 5, 6, 7, 9], [Line || {Line, _} <- Notes]),
    [?assertEqual(nomatch, re:run(Note, "0x12|first|padded")) || {_, Note} <- Notes].

keys_without_a_realm(Config) ->
    Key = "user=nora:0x00112233445566778899aabbccddeeff",
    {_, [{1, Note}]} = imported(Config, [Key]),
    ?assertMatch("user: its key was made with a realm, and this file has none" ++ _, Note),
    {_, []} = imported(Config, [Key, "realm=r.example"]).

%% A file that asks nobody for credentials; an empty one says nothing.
anybody_comes_in(Config) ->
    {#{secrets := [_]}, [{0, Note}]} = imported(Config, ["listening-port=3492"]),
    ?assertMatch("turnserver lets anybody relay with this file" ++ _, Note),
    ?assertMatch(#{notes := [], lines := []}, meerkat_import:import(<<"# nothing\n">>)).

threads(Config) ->
    Workers = fun(N) ->
        {#{workers := Workers}, Notes} = fragment(Config, ["relay-threads=" ++ N]),
        {Workers, [Line || {Line, _} <- Notes]}
    end,
    {ok, #{type := {integer, 0, Max}}} = meerkat_config_schema:find(<<"workers">>),
    ?assertEqual({3, []}, Workers("3")),
    ?assertEqual({1, []}, Workers("0")),
    ?assertEqual({Max, [1]}, Workers("100000")).

extra_listeners(Config) ->
    {#{listeners := Listeners}, []} =
        fragment(Config, ["listening-ip=10.1.0.5", "aux-server=10.1.0.6:3493",
                          "aux-server=[2001:db8::6]:443"]),
    ?assertEqual([{{10, 1, 0, 5}, 3478}, {{10, 1, 0, 6}, 3493},
                  {{16#2001, 16#db8, 0, 0, 0, 0, 0, 6}, 443}],
                 [{Ip, Port} || #{ip := Ip, port := Port} <- Listeners]).

marks_and_other_encodings(_Config) ->
    #{configuration := Text, notes := Notes} = meerkat_import:import(
        <<16#ef, 16#bb, 16#bf, "realm=r.example\nuser=Zo", 16#eb, ":w\n">>),
    ?assertMatch([{1, "turnserver does not know the key of this line" ++ _}, {2, _}], Notes),
    [?assertMatch({match, _}, re:run(unicode:characters_to_binary(Text), Part, [unicode]))
     || Part <- [<<"realm = \"r.example\";">>, <<"name = \"Zo\x{eb}\";"/utf8>>]],
    ?assertMatch(#{notes := [], lines := [_]},
                 meerkat_import:import(<<16#ef, 16#bb, 16#bf, "# c\nstatic-auth-secret=s">>)).

%% Whatever key it is: it became something here, or there is a note, or it is so in any case.
every_line_is_accounted_for(_Config) ->
    Text = <<"fingerprint\nlistening-port=3494\nverbose=0\nunheard-of=1\nstatic-auth-secret=s\n">>,
    #{configuration := Ours, lines := Lines} = meerkat_import:import(Text),
    ?assertEqual([{1, <<"fingerprint">>, "nothing: it is so in any case"},
                  {2, <<"listening-port">>, "listen_port"},
                  {3, <<"verbose">>, "nothing: there is no need"},
                  {4, <<"unheard-of">>, "nothing, see the note"},
                  {5, <<"static-auth-secret">>, "secret"}],
                 [{N, Key, lists:flatten(io_lib:format("~ts", [What]))}
                  || {N, Key, What} <- Lines]),
    [?assertMatch({match, _}, re:run(unicode:characters_to_list(Ours), Said))
     || Said <- ["# 1: fingerprint becomes nothing: it is so in any case\n",
                 "# 4: unheard-of has no counterpart\n", "\nlisten_port = 3494;   # 2\n"]].

%% turnserver takes them in both orders.
name_before_expiry(Config) ->
    ?assertMatch({#{credential_name_first := true}, []},
                 imported(Config, ["static-auth-secret=s"])),
    ?assertMatch({#{credential_name_first := false}, []}, imported(Config, ["user=a:b"])).

%% What is in quotes there is itself, and what quotes mean here is undone.
text_is_quoted(Config) ->
    {#{secrets := [Secret]}, []} =
        imported(Config, ["static-auth-secret=a\"b\\c\\n#d;e", "use-auth-secret"]),
    ?assertEqual(<<"a\"b\\c\\n#d;e">>, Secret),
    {#{users := Users}, []} = imported(Config, [[<<"user=Am\x{e9}lie:p\x{e4}ss"/utf8>>]]),
    ?assertEqual(#{<<"Am\x{e9}lie"/utf8>> => {password, <<"p\x{e4}ss"/utf8>>}}, Users).

%% On all addresses unless it is said.
metrics(Config) ->
    Listen = fun(Lines) ->
        {Loaded, Notes} = fragment(Config, Lines),
        {maps:get(http_listen, Loaded), [Line || {Line, _} <- Notes]}
    end,
    ?assertEqual({undefined, []}, Listen(["prometheus-port=1"])),
    ?assertEqual({{{0, 0, 0, 0}, 9641}, [1]}, Listen(["prometheus"])),
    ?assertEqual({{{0, 0, 0, 0}, 9000}, [1]}, Listen(["prometheus", "prometheus-port=9000"])),
    ?assertEqual({undefined, [1]}, Listen(["prometheus", "prometheus-address=localhost"])),
    ?assertEqual({{{0, 0, 0, 0, 0, 0, 0, 1}, 9641}, []},
                 Listen(["prometheus", "prometheus-address=::1"])),
    ?assertEqual({{{192, 0, 2, 1}, 9000}, []},
                 Listen(["prometheus", "prometheus-port=9000", "prometheus-address=192.0.2.1"])).

%% A second address of a family is what RFC 5780 needs.
discovery(Config) ->
    Listening = fun(Lines) ->
        {#{listeners := Listeners}, []} =
            fragment(Config, ["rfc5780", "listening-ip=10.0.0.5", "listening-ip=10.0.0.6" | Lines]),
        [{Ip, Port} || #{ip := Ip, port := Port} <- Listeners]
    end,
    ?assertEqual([{{10, 0, 0, 5}, 3478}, {{10, 0, 0, 5}, 3481},
                  {{10, 0, 0, 6}, 3478}, {{10, 0, 0, 6}, 3481}],
                 Listening(["alt-listening-port=3481"])),
    %% Else it is the next one.
    ?assertEqual([{{10, 0, 0, 5}, 3500}, {{10, 0, 0, 5}, 3501},
                  {{10, 0, 0, 6}, 3500}, {{10, 0, 0, 6}, 3501}],
                 Listening(["listening-port=3500", "alt-listening-port=0"])).

any_text_is_survived(_Config) ->
    Texts = [<<255, 254, 0, 10, 61>>, <<"=">>, <<"==\n=x\n-\n--\n">>, <<"user=:">>, <<"user=a:">>,
             <<"static-auth-secret=">>, <<"external-ip=/">>, <<"denied-peer-ip=-">>,
             binary:copy(<<"listening-ip=\n">>, 100), <<"realm=", 0, 1, 2>>],
    [begin
         #{configuration := Text, notes := Notes} = meerkat_import:import(T),
         ?assert(is_binary(unicode:characters_to_binary(Text))),
         [?assertEqual(nomatch, re:run(unicode:characters_to_binary(Note), "[\\x00-\\x1f]"))
          || {_, Note} <- Notes]
     end || T <- Texts].

command(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "turnserver.conf"),
    ok = file:write_file(File, "realm=r\ncert=x\nstatic-auth-secret=s\n"),
    Run = fun(Args) ->
        ct:capture_start(),
        Status = meerkat_cli:run(Args),
        ct:capture_stop(),
        {Status, lists:append(ct:capture_get([]))}
    end,
    {0, Ours} = Run(["import", File]),
    ?assertMatch({match, _}, re:run(Ours, "\nrealm = \"r\";   # 1\n")),
    {0, Json} = Run(["import", File, "--json"]),
    {ok, #{<<"notes">> := [#{<<"line">> := 2}]}} =
        meerkat_json:decode(unicode:characters_to_binary(Json)),
    {1, _} = Run(["import", "/nowhere/at/all.conf"]),
    {2, _} = Run(["import"]).
