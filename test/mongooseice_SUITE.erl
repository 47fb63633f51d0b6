%% What a client of MongooseICE relies on, one case per row (k21_... is row K21; f1_... is fault F1,
%% which is not kept). The server is configured as such a deployment is: a secret, a realm, a
%% relay on its own address, nothing else. Knows the wire only.
-module(mongooseice_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([k1_realm_is_hashed_not_compared/1, k2_any_username/1, k2_rest_credentials/1,
         k3_another_username/1, k4_authentication_first/1, k5_realm_and_nonce/1,
         k6_nonce_of_an_idle_client/1, k8_mismatch_before_bad_request/1, k9_second_allocate/1,
         k10_duplicate_attributes/1, k11_port_zero/1, k12_channel_numbers/1, k13_even_port/1,
         k13_media_pair/1, k14_token_works_once/1, k15_reservation_ends_with_its_allocation/1,
         k18_no_padding/1, k19_other_port_of_a_bound_peer/1, k20_dropped_in_silence/1,
         k21_exact_attributes/1, k23_signed_and_in_order/1, k24_error_numbers/1,
         k25_unknown_attributes_listed/1, k26_answers_leave_where_they_were_asked/1,
         k29_loopback_relay_reaches_loopback/1, f1_noise_costs_nothing/1,
         f7_refresh_zero_forgets_nobody/1, f9_token_in_repeated_success/1,
         f10_lifetime_of_allocate/1, f12_ipv6_peer_of_an_ipv4_relay/1]).

-import(turn_kit, [doc/1, open/1, open/2, ask/2, dropped/3, request/2, request/3, challenged/1,
                   signed/3, call/3, call/4, allocated/3, allocate/1, allocate/2, delete/1,
                   permit/2, bind/3, channel/3, data/1, peer/0, peer_send/3, peer_next/1,
                   peer_same/2, unheard/4, send/2, next/1, fence/1, get/2, code/1, names/1,
                   success/1, expect/2, with_server/2]).

-spec all() -> [atom()].
all() -> turn_kit:cases(?MODULE).

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 60}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) -> [{server, turn_kit:start_server(deployed())} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) -> turn_kit:stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).

%% Two IPv4 listeners, as the development profile of MongooseICE had, and no peer let through that
%% is not of the relay's own kind.
deployed() ->
    Loopback = {127, 0, 0, 1},
    #{realm => <<"myrelay">>, secrets => [<<"secret">>], secret_as_password => true, users => #{},
      listeners => [#{transport => udp, ip => Loopback, port => 0},
                    #{transport => udp, ip => Loopback, port => 0}],
      relays => [#{local => Loopback, advertised => Loopback,
                   min_port => 49152, max_port => 65535}],
      allowed_peers => [], rfc5766_channel_numbers => true}.

udp() -> {requested_transport, 17}.

fresh(Server) -> fresh(Server, <<"ignored">>).

fresh(Server, User) -> challenged(open(Server, #{user => User, password => <<"secret">>})).

mine(Server) -> mine(Server, []).

mine(Server, Items) -> allocated(Server, Items, #{user => <<"ignored">>,
                                                  password => <<"secret">>}).

relayed_port(Answer) ->
    {_, Port} = get(xor_relayed_address, success(Answer)),
    Port.

%% --------------------------------------------------------------------------- authentication

-spec k1_realm_is_hashed_not_compared(turn_kit:config()) -> _.
k1_realm_is_hashed_not_compared(Config) ->
    doc("any REALM does, so long as the key was made with it; strictness is an option"),
    Server = server(Config),
    Foo = #{realm => <<"foo">>, key => stun_model:key("ignored", "foo", "secret")},
    success(call(fresh(Server), allocate, [udp()], Foo)),
    expect(401, call(fresh(Server), allocate, [udp()],
                     Foo#{key => stun_model:key("ignored", "myrelay", "secret")})),
    with_server(maps:put(strict_realm, true, deployed()), fun(Strict) ->
        Client = fresh(Strict),
        expect(401, call(Client, allocate, [udp()], Foo)),
        success(allocate(Client))
    end).

-spec k2_any_username(turn_kit:config()) -> _.
k2_any_username(Config) ->
    doc("the secret is the password of every USERNAME"),
    Server = server(Config),
    [success(allocate(fresh(Server, User)))
     || User <- [<<"ignored">>, <<"user">>, <<"x">>, <<"with space">>, <<"a:b">>,
                 <<"zażółć"/utf8>>, <<"2147483648">>]],
    [?assertEqual(binary:decode_hex(Key), stun_model:key(User, Realm, Secret))
     || {User, Realm, Secret, Key} <-
            [{"user", "turn1.localhost", "abc", <<"d6b9a8a470737a9f70827c1237b45381">>},
             {"user", "foo", "abc", <<"cb71cce9d36f81a328d52c47deb9e936">>},
             {"ignored", "myrelay", "secret", <<"64486993ca44fe870e4568ba2abe5ba3">>},
             {"username", "udp.localhost.local", "very_secret",
              <<"6bb824d9cdeaecd013c53cb2e380c419">>}]].

-spec k2_rest_credentials(turn_kit:config()) -> _.
k2_rest_credentials(Config) ->
    doc("beside it, passwords made from the secret and a username with an expiry"),
    Server = server(Config),
    Rest = fun(Expiry) ->
        User = <<(integer_to_binary(erlang:system_time(second) + Expiry))/binary, ":ann">>,
        Password = base64:encode(crypto:mac(hmac, sha, <<"secret">>, User)),
        allocate(challenged(open(Server, #{user => User, password => Password})))
    end,
    success(Rest(3600)),
    expect(401, Rest(-3600)).

-spec k3_another_username(turn_kit:config()) -> _.
k3_another_username(Config) ->
    doc("441 when the username is not the creator's, though its signature is right"),
    Ann = allocated(server(Config), [], #{user => <<"ann">>, password => <<"secret">>}),
    Ben = Ann#{user => <<"ben">>, key => stun_model:key("ben", "myrelay", "secret")},
    Peer = peer(),
    [expect(441, Answer) || Answer <- [call(Ben, refresh, []), permit(Ben, [Peer]),
                                       bind(Ben, 16#4000, Peer)]],
    success(call(Ann, refresh, [])).

-spec k4_authentication_first(turn_kit:config()) -> _.
k4_authentication_first(Config) ->
    doc("unsigned: 401 with REALM and NONCE, with or without an allocation, complete or not"),
    Server = server(Config),
    [?assertEqual([error_code, nonce, realm],
                  names(expect(401, ask(Client, request(Method, Items)))) -- [password_algorithms])
     || Client <- [open(Server), mine(Server)], Items <- [[], [udp()]],
        Method <- [allocate, refresh, create_permission, channel_bind]].

-spec k5_realm_and_nonce(turn_kit:config()) -> _.
k5_realm_and_nonce(Config) ->
    doc("401 and 438 carry the realm configured and a nonce of at most 127 characters"),
    Client = fresh(server(Config)),
    [begin
         ?assertEqual(<<"myrelay">>, get(realm, Answer)),
         Length = string:length(get(nonce, Answer)),
         ?assert(Length >= 1 andalso Length =< 127)
     end || Answer <- [expect(401, ask(Client, request(allocate, [udp()]))),
                       expect(438, call(Client, allocate, [udp()], #{nonce => <<"old">>})),
                       expect(401, call(Client, allocate, [udp()], #{key => <<"wrong">>}))]].

-spec k6_nonce_of_an_idle_client(turn_kit:config()) -> _.
k6_nonce_of_an_idle_client(Config) ->
    doc("a nonce stays good whatever is issued after it, with and without an allocation"),
    Server = server(Config),
    First = fresh(Server),
    _ = [fresh(Server) || _ <- lists:seq(1, 50)],
    [expect(401, ask(First, request(allocate, []))) || _ <- lists:seq(1, 10)],
    success(allocate(First)),
    expect(438, call(First, refresh, [], #{nonce => <<"another">>})),
    success(call(First, refresh, [])),
    delete(First),
    expect(437, call(First, refresh, [])),
    success(allocate(First)).

%% ---------------------------------------------------------------------- order and tolerance

-spec k8_mismatch_before_bad_request(turn_kit:config()) -> _.
k8_mismatch_before_bad_request(Config) ->
    doc("no allocation and no peer: 437"),
    Client = fresh(server(Config)),
    [expect(437, call(Client, Method, Items))
     || Method <- [create_permission, channel_bind],
        Items <- [[], [{channel_number, 16#4000}], [{channel_number, 1}],
                  [{xor_peer_address, {raw, <<0, 9, 0, 0>>}}]]].

-spec k9_second_allocate(turn_kit:config()) -> _.
k9_second_allocate(Config) ->
    doc("the same id: the same success; another id: 437 and nothing else"),
    Client = fresh(server(Config)),
    Request = signed(Client, allocate, [udp()]),
    First = success(ask(Client, Request)),
    Again = success(ask(Client, Request)),
    ?assertEqual(get(xor_relayed_address, First), get(xor_relayed_address, Again)),
    ?assertEqual([error_code, message_integrity], names(expect(437, allocate(Client)))).

-spec k10_duplicate_attributes(turn_kit:config()) -> _.
k10_duplicate_attributes(Config) ->
    doc("REQUESTED-TRANSPORT twice occurs; the first counts"),
    Server = server(Config),
    success(call(fresh(Server), allocate, [udp(), udp()])),
    success(call(fresh(Server), allocate, [udp(), {requested_transport, 6}])),
    expect(442, call(fresh(Server), allocate, [{requested_transport, 6}, udp()])).

-spec k11_port_zero(turn_kit:config()) -> _.
k11_port_zero(Config) ->
    doc("XOR-PEER-ADDRESS with port 0 is normal in CreatePermission, several are too"),
    Client = mine(server(Config)),
    Peer = peer(),
    success(permit(Client, [{{127, 0, 0, 1}, 0}])),
    peer_same(Client, Peer),
    success(permit(Client, [{{127, 0, 0, 1}, 0}, {{127, 0, 0, 2}, 0}, {{127, 0, 0, 3}, 1}])).

-spec k12_channel_numbers(turn_kit:config()) -> _.
k12_channel_numbers(Config) ->
    doc("0x4000 to 0x7FFF, as older clients draw them"),
    #{relayed := Relayed} = Client = mine(server(Config)),
    [begin
         Peer = peer(),
         success(bind(Client, Number, Peer)),
         channel(Client, Number, <<"there">>),
         ?assertEqual({Relayed, <<"there">>}, peer_next(Peer)),
         peer_send(Peer, Relayed, <<"and back">>),
         ?assertEqual(<<Number:16, 8:16, "and back">>, next(Client))
     end || Number <- [16#4000, 16#4001, 16#4872, 16#5000, 16#6FD2, 16#7FFF]],
    [expect(400, bind(Client, Number, peer())) || Number <- [0, 16#3FFF, 16#8000, 16#FFFF]].

%% ------------------------------------------------------------------------------- even ports

-spec k13_even_port(turn_kit:config()) -> _.
k13_even_port(Config) ->
    doc("R=0: an even port, no token; R=1: an even port and a token for the next"),
    Server = server(Config),
    [begin
         Plain = success(allocate(fresh(Server), [{even_port, false}])),
         ?assertEqual(0, relayed_port(Plain) rem 2),
         ?assertEqual(undefined, get(reservation_token, Plain)),
         #{answer := Answer} = mine(Server, [{even_port, true}]),
         ?assertEqual(0, relayed_port(Answer) rem 2),
         Next = mine(Server, [{reservation_token, get(reservation_token, Answer)}]),
         #{relayed := {_, Port}} = Next,
         ?assertEqual(relayed_port(Answer) + 1, Port)
     end || _ <- lists:seq(1, 10)].

-spec k13_media_pair(turn_kit:config()) -> _.
k13_media_pair(Config) ->
    doc("two 5-tuples, two neighbouring ports: RTP to one, RTCP to the next"),
    Server = server(Config),
    #{answer := Answer, relayed := {Ip, Port}} = Rtp = mine(Server, [{even_port, true}]),
    Rtcp = mine(Server, [{reservation_token, get(reservation_token, Answer)}]),
    #{address := {PeerIp, _} = Address} = Movie = peer(),
    [success(permit(Client, [{PeerIp, 0}])) || Client <- [Rtp, Rtcp]],
    peer_send(Movie, {Ip, Port}, <<"rtp">>),
    peer_send(Movie, {Ip, Port + 1}, <<"rtcp">>),
    ?assertEqual({Address, <<"rtp">>}, data(Rtp)),
    ?assertEqual({Address, <<"rtcp">>}, data(Rtcp)).

-spec k14_token_works_once(turn_kit:config()) -> _.
k14_token_works_once(Config) ->
    doc("a token works once, from another 5-tuple and at another listener"),
    #{listeners := [_, Other]} = Server = server(Config),
    #{answer := Answer} = mine(Server, [{even_port, true}]),
    Token = {reservation_token, get(reservation_token, Answer)},
    Client = challenged(open(Server, #{to => Other, user => <<"ignored">>,
                                       password => <<"secret">>})),
    ?assertEqual(relayed_port(Answer) + 1, relayed_port(allocate(Client, [Token]))),
    expect(508, allocate(fresh(Server), [Token])),
    delete(Client),
    expect(508, allocate(fresh(Server), [Token])).

-spec k15_reservation_ends_with_its_allocation(turn_kit:config()) -> _.
k15_reservation_ends_with_its_allocation(Config) ->
    doc("when the first allocation ends its reservation does: 508"),
    Server = server(Config),
    #{answer := Answer} = First = mine(Server, [{even_port, true}]),
    delete(First),
    Token = {reservation_token, get(reservation_token, Answer)},
    Client = fresh(Server),
    expect(508, allocate(Client, [Token])),
    success(allocate(Client)).

%% --------------------------------------------------------------------------------- relaying

-spec k18_no_padding(turn_kit:config()) -> _.
k18_no_padding(Config) ->
    doc("a ChannelData datagram is 4 bytes longer than its data; padding sent is tolerated"),
    #{relayed := Relayed} = Client = mine(server(Config)),
    Peer = peer(),
    success(bind(Client, 16#4000, Peer)),
    [begin
         Data = binary:copy(<<"d">>, Size),
         peer_send(Peer, Relayed, Data),
         ?assertEqual(<<16#4000:16, Size:16, Data/binary>>, next(Client)),
         send(Client, <<16#4000:16, Size:16, Data/binary, 0, 0, 0>>),
         ?assertEqual({Relayed, Data}, peer_next(Peer))
     end || Size <- [0, 1, 2, 3, 4, 1212]].

-spec k19_other_port_of_a_bound_peer(turn_kit:config()) -> _.
k19_other_port_of_a_bound_peer(Config) ->
    doc("the peer bound comes by channel, another port of its address as Data with that port"),
    #{relayed := Relayed} = Client = mine(server(Config)),
    [Bound, #{address := Address} = Other] = [peer(), peer()],
    success(bind(Client, 16#4000, Bound)),
    peer_send(Bound, Relayed, <<"one">>),
    ?assertEqual(<<16#4000:16, 3:16, "one">>, next(Client)),
    peer_send(Other, Relayed, <<"two">>),
    ?assertEqual({Address, <<"two">>}, data(Client)).

-spec k20_dropped_in_silence(turn_kit:config()) -> _.
k20_dropped_in_silence(Config) ->
    doc("data without allocation, channel or permission goes nowhere and costs nothing"),
    Server = server(Config),
    #{address := Address} = Peer = peer(),
    Send = request(indication, send, [{xor_peer_address, Address}, {data, <<"x">>}]),
    Stranger = open(Server),
    dropped(Stranger, no_allocation, Send),
    dropped(Stranger, no_allocation, stun_model:encode_channel(16#4000, <<"x">>)),
    Client = mine(Server),
    dropped(Client, no_permission, Send),
    dropped(Client, no_channel, stun_model:encode_channel(16#4000, <<"x">>)),
    #{relayed := Relayed} = Client,
    unheard(Client, Peer, Relayed, <<"x">>),
    success(permit(Client, [Peer])),
    peer_same(Client, Peer).

%% -------------------------------------------------------------------------------- responses

-spec k21_exact_attributes(turn_kit:config()) -> _.
k21_exact_attributes(Config) ->
    doc("each answer has exactly the attributes a client of MongooseICE counts on"),
    Server = server(Config),
    Client = fresh(Server),
    Peer = peer(),
    Signed = fun(Names, Answer) ->
        ?assertEqual(lists:sort([message_integrity | Names]), names(Answer)),
        Answer
    end,
    ?assertEqual([xor_mapped_address], names(success(ask(Client, request(binding, []))))),
    Three = [lifetime, xor_mapped_address, xor_relayed_address],
    Signed([error_code], expect(437, call(Client, refresh, []))),
    Signed([error_code], expect(400, call(Client, allocate, []))),
    Signed([error_code], expect(442, call(Client, allocate, [{requested_transport, 6}]))),
    Signed([error_code], expect(508, allocate(Client, [{reservation_token, 1}]))),
    Signed([error_code, unknown_attributes], expect(420, allocate(Client, [{16#7FFF, <<>>}]))),
    Signed(Three, success(allocate(Client))),
    Signed(Three, success(allocate(fresh(Server), [{even_port, false}]))),
    Signed([reservation_token | Three], success(allocate(fresh(Server), [{even_port, true}]))),
    Signed([lifetime], success(call(Client, refresh, []))),
    Signed([], success(permit(Client, [Peer]))),
    Signed([], success(bind(Client, 16#4001, Peer))),
    Signed([error_code], expect(400, call(Client, create_permission, []))),
    Signed([error_code], expect(400, bind(Client, 16#4002, Peer))),
    Signed([error_code], expect(403, permit(Client, [{{0, 0, 0, 0}, 0}]))),
    Signed([error_code], expect(437, allocate(Client))),
    Signed([lifetime], success(call(Client, refresh, [{lifetime, 0}]))).

-spec k23_signed_and_in_order(turn_kit:config()) -> _.
k23_signed_and_in_order(Config) ->
    doc("every authenticated answer is signed: attributes, MESSAGE-INTEGRITY, FINGERPRINT"),
    Client = fresh(server(Config)),
    Peer = peer(),
    Address = {xor_peer_address, maps:get(address, Peer)},
    [begin
         #{bytes := Bytes} = call(Client, Method, Items, #{fingerprint => true}),
         Codes = stun_model:codes(Bytes),
         ?assertEqual([16#0008, 16#8028], lists:nthtail(length(Codes) - 2, Codes))
     end || {Method, Items} <- [{refresh, []}, {allocate, [udp()]}, {allocate, [udp()]},
                                {refresh, []}, {create_permission, [Address]},
                                {create_permission, []},
                                {channel_bind, [{channel_number, 16#4000}, Address]},
                                {channel_bind, []}, {refresh, [{lifetime, 0}]}]].

-spec k24_error_numbers(turn_kit:config()) -> _.
k24_error_numbers(Config) ->
    doc("only error numbers that its client can decode, for all such a client can send"),
    Client = fresh(server(Config)),
    Known = [300, 400, 401, 403, 420, 437, 438, 441, 442, 486, 500, 508, success],
    Peer = peer(),
    Codes = [code(Answer)
             || Answer <- [ask(Client, request(allocate, [])), call(Client, allocate, []),
                           call(Client, allocate, [{requested_transport, 6}]),
                           allocate(Client, [{even_port, true}, {reservation_token, 5}]),
                           allocate(Client, [{reservation_token, 5}]),
                           call(Client, allocate, [udp()], #{nonce => <<"old">>}),
                           allocate(Client, [{dont_fragment, true}, {16#7FFF, <<>>}]),
                           permit(Client, []), bind(Client, 16#4000, Peer), allocate(Client),
                           allocate(Client), permit(Client, [{{0, 0, 0, 0}, 0}]),
                           permit(Client, []), bind(Client, 1, Peer),
                           call(Client, refresh, [{lifetime, 17}])]],
    ?assertEqual([], [Code || Code <- Codes, not lists:member(Code, Known)]).

-spec k25_unknown_attributes_listed(turn_kit:config()) -> _.
k25_unknown_attributes_listed(Config) ->
    doc("420 lists what is unknown, as the RFC demands"),
    Client = fresh(server(Config)),
    Answer = expect(420, allocate(Client, [{16#7FFF, <<>>}, {16#7FFE, <<1, 2, 3>>}])),
    ?assertEqual([16#7FFF, 16#7FFE], get(unknown_attributes, Answer)).

-spec k26_answers_leave_where_they_were_asked(turn_kit:config()) -> _.
k26_answers_leave_where_they_were_asked(Config) ->
    doc("each listener answers from its own address, one message per datagram"),
    #{listeners := Listeners} = Server = server(Config),
    [begin
         Client = challenged(open(Server, #{to => To, user => <<"x">>,
                                            password => <<"secret">>})),
         success(ask(Client, request(binding, []))),
         success(allocate(Client)),
         fence(Client)
     end || To <- Listeners].

-spec k29_loopback_relay_reaches_loopback(turn_kit:config()) -> _.
k29_loopback_relay_reaches_loopback(Config) ->
    doc("a relay on a loopback address reaches its like without being told to"),
    #{relayed := Relayed} = Client = mine(server(Config)),
    Peer = peer(),
    success(permit(Client, [Peer])),
    peer_same(Client, Peer),
    peer_send(Peer, Relayed, <<"hello">>),
    ?assertMatch({_, <<"hello">>}, data(Client)),
    expect(403, permit(Client, [{{10, 0, 0, 1}, 0}])).

%% --------------------------------------------------------------------- faults that are gone

-spec f1_noise_costs_nothing(turn_kit:config()) -> _.
f1_noise_costs_nothing(Config) ->
    doc("undecodable datagrams from the client's own address leave its allocation alone"),
    #{relayed := Relayed} = Client = mine(server(Config)),
    Peer = peer(),
    success(bind(Client, 16#4000, Peer)),
    <<_:32, Rest/binary>> = Valid = request(binding, [{software, <<"abcd">>}]),
    [begin
         send(Client, Bytes),
         fence(Client)
     end || Bytes <- [<<>>, <<0>>, <<16#40>>, crypto:strong_rand_bytes(100),
                      <<0, 1, 0, 7, Rest/binary>>, <<Valid/binary, "trailing">>,
                      request(16#00E, []), request(success, binding, []),
                      request(error, allocate, []), <<16#4000:16, 9:16, "short">>,
                      <<0, 1, 0, 0, 1:128>>]],
    channel(Client, 16#4000, <<"alive">>),
    ?assertEqual({Relayed, <<"alive">>}, peer_next(Peer)).

-spec f7_refresh_zero_forgets_nobody(turn_kit:config()) -> _.
f7_refresh_zero_forgets_nobody(Config) ->
    doc("Refresh 0 is answered with LIFETIME alone, and the nonce stays good"),
    Client = mine(server(Config)),
    Answer = success(call(Client, refresh, [{lifetime, 0}])),
    ?assertEqual([lifetime, message_integrity], names(Answer)),
    expect(437, call(Client, refresh, [])),
    success(allocate(Client)).

-spec f9_token_in_repeated_success(turn_kit:config()) -> _.
f9_token_in_repeated_success(Config) ->
    doc("the repeated success to an EVEN-PORT Allocate has the token too"),
    Client = fresh(server(Config)),
    Request = signed(Client, allocate, [udp(), {even_port, true}]),
    [A, B] = [success(ask(Client, Request)) || _ <- [1, 2]],
    ?assert(is_integer(get(reservation_token, A))),
    ?assertEqual(get(reservation_token, A), get(reservation_token, B)).

-spec f10_lifetime_of_allocate(turn_kit:config()) -> _.
f10_lifetime_of_allocate(Config) ->
    doc("LIFETIME in Allocate counts, between default and maximum"),
    Server = server(Config),
    [?assertEqual(Given, get(lifetime, success(allocate(fresh(Server), [{lifetime, Asked}]))))
     || {Asked, Given} <- [{17, 600}, {1200, 1200}, {7200, 3600}]].

-spec f12_ipv6_peer_of_an_ipv4_relay(turn_kit:config()) -> _.
f12_ipv6_peer_of_an_ipv4_relay(Config) ->
    doc("an IPv6 peer on an IPv4 relay: 443, for nothing could flow"),
    Client = mine(server(Config)),
    expect(443, permit(Client, [{{0, 0, 0, 0, 0, 0, 0, 1}, 0}])).
