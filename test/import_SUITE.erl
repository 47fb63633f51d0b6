%% What `meerkatctl import` makes of a turnserver.conf: every key that has a counterpart, each other
%% one in a note with its line; and whatever comes out is a configuration of ours. The files here
%% are written after coturn's documentation of its keys.
-module(import_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([a_whole_file/1, secret_alone/1, users_alone/1, addresses/1, ranges_become_networks/1,
         what_has_no_counterpart/1, what_cannot_be_read/1, first_of_two_counts/1,
         text_is_quoted/1, metrics/1, discovery/1, any_text_is_survived/1, command/1]).

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

%% The configuration that comes out, as the server would take it, and the notes.
imported(Config, Lines) ->
    {Text, Notes} = meerkat_import:import(unicode:characters_to_binary(lists:join("\n", Lines))),
    File = filename:join(proplists:get_value(priv_dir, Config), "imported.cfg"),
    ok = file:write_file(File, unicode:characters_to_binary(Text)),
    Host = #{route => fun(inet) -> {ok, {192, 0, 2, 7}}; (inet6) -> none end,
             first => fun(_) -> none end,
             bindable => fun(_) -> true end},
    case meerkat_config:load(#{file => File, env => [], host => Host}) of
        {ok, Loaded, _} -> {Loaded, [{N, lists:flatten(io_lib:format("~ts", [Note]))}
                                     || {N, Note} <- Notes]};
        {error, Mistakes} -> error({Mistakes, unicode:characters_to_list(Text)})
    end.

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
        imported(Config, ["lt-cred-mech", "user=alice:won:der=land",
                          "user=bob:0x000102030405060708090a0b0c0d0e0f"]),
    ?assertEqual(#{<<"alice">> => {password, <<"won:der=land">>},
                   <<"bob">> => {key, list_to_binary(lists:seq(0, 15))}}, Users).

addresses(Config) ->
    Relays = fun(Lines) ->
        {#{relays := Relays}, []} = imported(Config, Lines),
        [{Told, Local} || #{local := Local, advertised := Told} <- Relays]
    end,
    {A, B, Told} = {{10, 0, 0, 5}, {10, 0, 0, 6}, {203, 0, 113, 5}},
    ?assertEqual([{{192, 0, 2, 7}, {192, 0, 2, 7}}], Relays([])),
    ?assertEqual([{A, A}, {B, B}], Relays(["relay-ip=10.0.0.5", "relay-ip=10.0.0.6"])),
    ?assertEqual([{Told, A}], Relays(["relay-ip=10.0.0.5", "external-ip=203.0.113.5"])),
    ?assertEqual([{Told, Told}], Relays(["external-ip=203.0.113.5"])),
    ?assertEqual([{Told, A}], Relays(["external-ip=203.0.113.5/10.0.0.5"])),
    ?assertEqual([{A, A}, {Told, B}],
                 Relays(["relay-ip=10.0.0.5", "relay-ip=10.0.0.6",
                         "external-ip=203.0.113.5/10.0.0.6"])).

%% Each range as the fewest networks, and no address more or less.
ranges_become_networks(Config) ->
    Denied = fun(Range) ->
        {#{denied_peers := Networks}, []} = imported(Config, ["denied-peer-ip=" ++ Range]),
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
                                   "redis-userdb=\"ip=127.0.0.1\"", "tls-listening-port=5349",
                                   "alternate-server=192.0.2.9"]),
    ?assertEqual([{2, "cert: TLS and DTLS are not served"},
                  {3, "no-auth: nobody comes in without credentials here"},
                  {4, "redis-userdb has no counterpart"},
                  {5, "tls-listening-port: TLS and DTLS are not served"},
                  {6, "alternate-server: clients are sent there while this server is drained, not "
                      "always"}], Notes),
    {Text, _} = meerkat_import:import(<<"cert=x">>),
    ?assertMatch({match, _}, re:run(Text, "\n# 1: cert: TLS and DTLS are not served\n")).

what_cannot_be_read(Config) ->
    {Loaded, Notes} = imported(Config, [
        "listening-port=http", "denied-peer-ip=10.0.0.9-10.0.0.1", "user=nobody",
        "external-ip=turn.example.org", "stale-nonce=5", "listening-ip=eth0", "?", "max-bps=",
        "alternate-server=example.org", "allowed-peer-ip=10.0.0.1-::1", "static-auth-secret="]),
    ?assertEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [Line || {Line, _} <- Notes]),
    ?assertMatch(#{listeners := [#{port := 3478}], denied_peers := [], max_bps := 0}, Loaded),
    ?assertEqual({1, "listening-port is \"http\"; it must be a whole number from 0 to 65535"},
                 hd(Notes)).

first_of_two_counts(Config) ->
    {#{realm := <<"one">>}, Notes} = imported(Config, ["realm=one", "realm=two"]),
    ?assertEqual([{2, "realm comes twice; the first counts"}], Notes).

%% What is in quotes there is itself, and what quotes mean here is undone.
text_is_quoted(Config) ->
    {#{secrets := [Secret]}, []} =
        imported(Config, ["static-auth-secret=a\"b\\c\\n#d;e", "use-auth-secret"]),
    ?assertEqual(<<"a\"b\\c\\n#d;e">>, Secret),
    {#{users := Users}, []} = imported(Config, [[<<"user=Am\x{e9}lie:p\x{e4}ss"/utf8>>]]),
    ?assertEqual(#{<<"Am\x{e9}lie"/utf8>> => {password, <<"p\x{e4}ss"/utf8>>}}, Users).

metrics(Config) ->
    Listen = fun(Lines) ->
        {Loaded, []} = imported(Config, Lines),
        maps:get(http_listen, Loaded)
    end,
    ?assertEqual(undefined, Listen(["prometheus-port=1"])),
    ?assertEqual({{127, 0, 0, 1}, 9641}, Listen(["prometheus"])),
    ?assertEqual({{192, 0, 2, 1}, 9000},
                 Listen(["prometheus", "prometheus-port=9000", "prometheus-address=192.0.2.1"])).

%% A second address of a family is what RFC 5780 needs.
discovery(Config) ->
    {#{listeners := Listeners}, []} =
        imported(Config, ["rfc5780", "listening-ip=10.0.0.5", "listening-ip=10.0.0.6",
                          "alt-listening-port=3481"]),
    ?assertEqual([{{10, 0, 0, 5}, 3478}, {{10, 0, 0, 5}, 3481},
                  {{10, 0, 0, 6}, 3478}, {{10, 0, 0, 6}, 3481}],
                 [{Ip, Port} || #{ip := Ip, port := Port} <- Listeners]).

any_text_is_survived(_Config) ->
    Texts = [<<255, 254, 0, 10, 61>>, <<"=">>, <<"==\n=x\n-\n--\n">>, <<"user=:">>, <<"user=a:">>,
             <<"static-auth-secret=">>, <<"external-ip=/">>, <<"denied-peer-ip=-">>,
             binary:copy(<<"listening-ip=\n">>, 100), <<"realm=", 0, 1, 2>>],
    [begin
         {Text, Notes} = meerkat_import:import(T),
         ?assert(is_binary(unicode:characters_to_binary(Text))),
         [?assertEqual(nomatch, re:run(unicode:characters_to_binary(Note), "[\\x00-\\x1f]"))
          || {_, Note} <- Notes]
     end || T <- Texts].

command(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "turnserver.conf"),
    ok = file:write_file(File, "realm=r\ncert=x\n"),
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
