%% RFC 7350 (STUN and TURN over DTLS) seen from a client's socket. Named after the rows of the
%% conformance table. What others may do to it is in dtls_SUITE.
-module(rfc7350_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([s35_no_cookie/1, u1_uris/1, u2_default_port/1, u2_hello_cookie/1, u2_suites/1,
         u2_no_tcp_allocations/1, u2_relays_both_ways/1, u2_shares_the_port_of_udp/1]).

-import(turn_kit, [doc/1, open/2, challenged/1, call/3, request/2, allocated/3, bind/3, permit/2,
                   send_to/3, channel/3, data/1, next/1, fence/1, peer/0, peer_send/3, peer_next/1,
                   success/1, counted/3, with_server/2]).

-define(CHANNEL, 16#4001).

-spec all() -> [atom()].
all() -> turn_kit:cases(?MODULE).

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "speaks UDP to others"}),
    Certificate = stream_kit:certificate(proplists:get_value(priv_dir, Config), ec,
                                         "turn.example.org"),
    Settings = stream_kit:config([Certificate]),
    [{settings, Settings}, {server, turn_kit:start_server(Settings)} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) -> turn_kit:stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).
settings(Config) -> proplists:get_value(settings, Config).
over() -> #{transport => dtls}.

-spec s35_no_cookie(turn_kit:config()) -> _.
s35_no_cookie(Config) ->
    doc("a request of RFC 3489 is answered 500, its indication is not answered (RFC 8489 11)"),
    with_server((settings(Config))#{rfc3489_compatibility => true}, fun(Server) ->
        Client = #{socket := Connection} = open(Server, over()),
        ok = stream_kit:send(Connection, <<16#0011:16, 0:16, 7:128>>),
        ok = stream_kit:send(Connection, <<16#0001:16, 0:16, 8:128>>),
        ?assertEqual(<<16#0111:16, 8:16, 8:128, 9:16, 4:16, 0:16, 5, 0>>, next(Client)),
        fence(Client),
        turn_kit:close(Client)
    end).

-spec u1_uris(turn_kit:config()) -> _.
u1_uris(Config) ->
    doc("turns: with transport=udp is DTLS (RFC 7350 4.6.2), and a client that takes it gets in"),
    #{name := Name} = server(Config),
    #{username := User, password := Password, uris := Uris} =
        meerkat:credentials(Name, <<"alice">>),
    #{dtls_listeners := [{_, Port} | _]} = meerkat:info(Name),
    P = integer_to_list(Port),
    ?assert(lists:member(iolist_to_binary(["turns:turn.example.org:", P, "?transport=udp"]), Uris)),
    {ok, Client} = meerkat_client:start_link(
        #{server => ["turns:127.0.0.1:", P, "?transport=udp"], insecure => true,
          username => User, password => Password}),
    {ok, _} = meerkat_client:allocate(Client),
    ?assertMatch(#{transport := dtls, tls := 'dtlsv1.2'}, meerkat_client:info(Client)),
    ok = meerkat_client:close(Client).

-spec u2_default_port(turn_kit:config()) -> _.
u2_default_port(Config) ->
    doc("5349 of UDP where dtls_enabled is set, which needs a certificate; off by itself"),
    #{certificates := [#{chain_file := Chain, key_file := Key}]} = settings(Config),
    Certificate = [{"TLS_CERT", binary_to_list(Chain)}, {"TLS_KEY", binary_to_list(Key)}],
    Load = fun(Env) ->
        meerkat_config:load(#{file => none, env => [{"STUN_SECRET", "s"} | Env]})
    end,
    Dtls = fun(#{listeners := Listeners}) -> [L || #{transport := dtls} = L <- Listeners] end,
    {ok, Off, _} = Load(Certificate),
    ?assertEqual([], Dtls(Off)),
    {ok, On, _} = Load([{"DTLS_ENABLED", "true"} | Certificate]),
    ?assertEqual([#{transport => dtls, ip => any, port => 5349}], Dtls(On)),
    %% Where UDP listens anyway it takes DTLS too.
    {ok, Shared, _} = Load([{"DTLS_ENABLED", "true"}, {"TLS_PORT", "3478"} | Certificate]),
    ?assertEqual([], Dtls(Shared)),
    {error, [Mistake]} = Load([{"DTLS_ENABLED", "true"}]),
    ?assertEqual("DTLS_ENABLED is true, which needs a certificate: tls_cert and tls_key",
                 unicode:characters_to_list(Mistake)).

-spec u2_hello_cookie(turn_kit:config()) -> _.
u2_hello_cookie(Config) ->
    doc("a hello is answered by HelloVerifyRequest, at the port of UDP and at that of DTLS"),
    #{name := Name, listeners := [Udp | _]} = server(Config),
    #{dtls_listeners := [Dtls | _]} = meerkat:info(Name),
    [begin
         {ok, Socket} = gen_udp:open(0, [binary, {active, false}]),
         Hello = dtls_kit:hello(),
         ok = gen_udp:send(Socket, To, Hello),
         {ok, {_, _, Answer}} = gen_udp:recv(Socket, 0, 10000),
         ?assertMatch(<<22, 16#feff:16, 0:16, 77:48, _:16, 3, _/binary>>, Answer),
         ?assert(byte_size(Answer) =< byte_size(Hello)),
         gen_udp:close(Socket)
     end || To <- [Udp, Dtls]],
    ?assertMatch({ok, #{dtls_sessions := 0, handshakes := 0}}, meerkat_relay:stats(Name)).

-spec u2_suites(turn_kit:config()) -> _.
u2_suites(Config) ->
    doc("DTLS 1.2 with AES-GCM and forward secrecy (RFC 7350 3, RFC 9325)"),
    #{socket := Connection} = Client = open(server(Config), over()),
    ?assertMatch(#{protocol := 'dtlsv1.2',
                   cipher := #{cipher := aes_128_gcm, key_exchange := ecdhe_ecdsa}},
                 stream_kit:info(Connection)),
    fence(Client),
    turn_kit:close(Client),
    #{name := Name} = server(Config),
    #{dtls_listeners := [{_, Port} | _]} = meerkat:info(Name),
    counted(server(Config), handshakes_version, fun() ->
        Said = dtls_kit:openssl(["-dtls1 -cipher ALL:@SECLEVEL=0 -connect 127.0.0.1:",
                                 integer_to_list(Port)]),
        ?assertNotEqual({Said, nomatch}, {Said, string:find(Said, "Cipher is (NONE)")})
    end).

-spec u2_no_tcp_allocations(turn_kit:config()) -> _.
u2_no_tcp_allocations(Config) ->
    doc("no TCP allocation over DTLS (RFC 7350 4.6.1)"),
    Client = challenged(open(server(Config), over())),
    ?assertMatch(#{class := error}, call(Client, allocate, [{requested_transport, 6}])),
    fence(Client),
    turn_kit:close(Client).

-spec u2_relays_both_ways(turn_kit:config()) -> _.
u2_relays_both_ways(Config) ->
    doc("allocations over IPv4 and IPv6; indications and ChannelData, empty and large ones"),
    [begin
         Client = #{relayed := Relayed} =
             allocated(server(Config), [], (over())#{family => Family}),
         Peer = peer(),
         success(permit(Client, [Peer])),
         send_to(Client, Peer, <<"by Send">>),
         ?assertEqual({Relayed, <<"by Send">>}, peer_next(Peer)),
         peer_send(Peer, Relayed, <<"by Data">>),
         ?assertMatch({_, <<"by Data">>}, data(Client)),
         success(bind(Client, ?CHANNEL, Peer)),
         [begin
              Payload = binary:copy(<<"p">>, Size),
              channel(Client, ?CHANNEL, Payload),
              ?assertEqual({Relayed, Payload}, peer_next(Peer)),
              peer_send(Peer, Relayed, Payload),
              ?assertEqual(stun_model:encode_channel(?CHANNEL, Payload), next(Client))
          end || Size <- [0, 1, 5, 1200, 16000]],
         fence(Client),
         turn_kit:close(Client)
     end || Family <- [v4, v6]],
    doc("what no record has room for is dropped"),
    Client1 = #{relayed := Relayed1} = allocated(server(Config), [], over()),
    Peer1 = peer(),
    success(bind(Client1, ?CHANNEL, Peer1)),
    counted(server(Config), truncated, fun() ->
        peer_send(Peer1, Relayed1, binary:copy(<<"p">>, 16381))
    end),
    fence(Client1),
    turn_kit:close(Client1).

-spec u2_shares_the_port_of_udp(turn_kit:config()) -> _.
u2_shares_the_port_of_udp(Config) ->
    doc("plain and DTLS at one port: the first byte tells (RFC 7983); at the other DTLS only"),
    #{name := Name, listeners := [Udp | _]} = Server = server(Config),
    #{dtls_listeners := [Dtls | _]} = meerkat:info(Name),
    Clients = [allocated(Server, [], maps:merge(#{to => Udp}, Way)) || Way <- [#{}, over()]],
    [fence(C) || C <- Clients],
    ?assertEqual([dtls, udp], lists:sort([T || #{transport := T} <- meerkat:allocations(Name)])),
    [turn_kit:close(C) || C <- Clients],
    {ok, Socket} = gen_udp:open(0, [binary]),
    counted(Server, not_stun, fun() -> gen_udp:send(Socket, Dtls, request(binding, [])) end),
    gen_udp:close(Socket).
