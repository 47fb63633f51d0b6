%% What an attacker may try over UDP, one case per threat, named after its row (x38_... is X38).
%% Peers are refused by the rules that hold when nothing is configured; the suite's own peer lives
%% on the one address that is let through. After every case the server must answer a stranger.
-module(threats_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([x1_special_networks_v4/1, x1_neighbours_v4/1, x1_special_networks_v6/1,
         x1_neighbours_v6/1, x2_loopback/1, x3_this_network/1, x4_ipv4_inside_ipv6/1,
         x5_compare_numbers/1, x6_metadata_services/1, x7_local_addresses/1,
         x8_multicast_and_broadcast/1, x9_own_listeners/1, x10_own_relayed_address/1,
         x13_family_before_policy/1, x14_all_or_nothing/1, x17_port_zero/1, x18_never/1,
         x20_binding_amplification/1, x21_challenge_amplification/1,
         x23_answers_are_not_answered/1, x24_noise/1, x25_relayed_address_is_no_server/1,
         x27_list_of_unknown_attributes/1, x31_forged_nonce/1, x32_nonce_of_another_client/1,
         x33_replayed_elsewhere/1, x34_unknown_user_or_wrong_password/1, x34_unknown_userhash/1,
         x36_brute_force/1, x37_order_of_checks/1, x38_appended_attributes/1,
         x38_appended_to_a_signed_request/1, x40_hijack/1, x41_bid_down/1,
         x41_bid_down_of_the_nonce/1, x42_userhash_or_username/1, x42_userhash_after_reload/1,
         x43_mixed_integrity/1, x43_mixed_integrity_by_algorithm/1, x46_names_in_logs/1,
         x50_lengths/1, x51_attributes_past_the_end/1, x52_empty_values/1, x53_wrong_sizes/1,
         x55_response_padding/1, x55_data_padding/1, x56_known_where_unexpected/1,
         x57_duplicates/1, x58_many_attributes/1, x59_unaligned/1, x60_fingerprint/1,
         x61_transaction_ids/1, x63_classes_of_others/1, x64_usernames/1,
         x109_nothing_to_connect_to/1]).
-export([end_per_testcase/2]).
%% Of a handler of logger.
-export([log/2]).

-import(turn_kit, [doc/1, eventually/1, open/1, open/2, ask/2, silent/2, dropped/3, request/2,
                   request/3, challenged/1, signed/3, signed/4, call/3, call/4, allocated/1,
                   allocated/2, allocate/1, allocate/2, delete/1, permit/2, bind/3, send_to/3,
                   channel/3, data/1, peer/0, peer/1, peer_send/3, peer_next/1, peer_same/2,
                   unheard/4, send/2, get/2, code/1, success/1, expect/2, patch/3, with_server/2]).

-define(V6, {0, 0, 0, 0, 0, 0, 0, 1}).
-define(RAF6, {requested_address_family, 2}).
%% The one address of 127/8 that may be a peer.
-define(FRIEND, {127, 0, 0, 99}).

-spec all() -> [atom()].
all() -> turn_kit:cases(?MODULE).

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 60}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    [{server, turn_kit:start_server()}, {public, turn_kit:start_server(public())} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) ->
    turn_kit:stop_server(server(Config)),
    turn_kit:stop_server(public(Config)).

-spec end_per_testcase(atom(), turn_kit:config()) -> ok | {fail, term()}.
end_per_testcase(_Case, Config) ->
    try
        turn_kit:alive(server(Config)),
        turn_kit:alive(public(Config))
    catch
        error:Reason -> {fail, {server_is_dead, Reason}}
    end.

server(Config) -> proplists:get_value(server, Config).

%% The server whose relayed addresses look public, so that nothing is open for being alike.
public(Config) -> proplists:get_value(public, Config).

public() ->
    Relays = [#{local => {127, 0, 0, 1}, advertised => {8, 8, 8, 8}},
              #{local => ?V6, advertised => {16#2001, 16#4860, 16#4860, 0, 0, 0, 0, 16#8888}}],
    #{relays => [R#{min_port => 49152, max_port => 65535} || R <- Relays],
      allowed_peers => [{?FRIEND, 32}]}.

udp() -> {requested_transport, 17}.

fresh(Server) -> challenged(open(Server)).

send_request(Address, Data) ->
    request(indication, send, [{xor_peer_address, Address}, {data, Data}]).

%% ------------------------------------------------------------------ 2.1: forbidden addresses

%% Each address by each door: CreatePermission and ChannelBind 403, Send dropped.
refused(Client, Ips) ->
    [begin
         {_, Ip, 403} = {permission, Ip, code(permit(Client, [{Ip, 9}]))},
         {_, Ip, 403} = {channel, Ip, code(bind(Client, 16#4000, {Ip, 9}))},
         silent(Client, send_request({Ip, 9}, <<"never">>))
     end || Ip <- Ips],
    dropped(Client, no_channel, stun_model:encode_channel(16#4000, <<"never">>)).

allowed(Client, Ips) ->
    [{Ip, success} = {Ip, code(permit(Client, [{Ip, 9}]))} || Ip <- Ips].

%% First, middle and last address of a network.
samples({Ip, Bits}) ->
    Size = bit_size(bytes(Ip)),
    <<First:Size>> = bytes(Ip),
    Last = First + (1 bsl (Size - Bits)) - 1,
    lists:usort([ip(<<N:Size>>) || N <- [First, (First + Last) div 2, Last]]).

bytes({A, B, C, D}) -> <<A, B, C, D>>;
bytes(Ip) -> << <<Word:16>> || Word <- tuple_to_list(Ip) >>.

ip(<<A, B, C, D>>) -> {A, B, C, D};
ip(Bytes) -> list_to_tuple([Word || <<Word:16>> <= Bytes]).

networks(Texts) ->
    [begin
         [Text, Bits] = string:lexemes(T, "/"),
         {ok, Ip} = inet:parse_address(Text),
         {Ip, list_to_integer(Bits)}
     end || T <- string:lexemes(Texts, " ")].

ips(Texts) ->
    [begin {ok, Ip} = inet:parse_address(Text), Ip end || Text <- string:lexemes(Texts, " ")].

-spec x1_special_networks_v4(turn_kit:config()) -> _.
x1_special_networks_v4(Config) ->
    doc("every special network of IPv4 is denied, at both ends and in the middle"),
    Client = allocated(public(Config)),
    refused(Client, lists:append([samples(N) || N <- networks(
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 "
        "192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 "
        "198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32")])).

-spec x1_neighbours_v4(turn_kit:config()) -> _.
x1_neighbours_v4(Config) ->
    doc("and not one address more"),
    Client = allocated(public(Config)),
    allowed(Client, ips("1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 "
                        "126.255.255.255 128.0.0.0 168.63.129.15 168.63.129.17 "
                        "169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 "
                        "191.255.255.255 192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0 "
                        "192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 "
                        "198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 "
                        "223.255.255.255 127.0.0.99")).

-spec x1_special_networks_v6(turn_kit:config()) -> _.
x1_special_networks_v6(Config) ->
    doc("every special network of IPv6 is denied, and all that is not global unicast"),
    Client = allocated(public(Config), [?RAF6]),
    refused(Client, lists:append([samples(N) || N <- networks(
        "::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 "
        "100:0:0:1::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20 5f00::/16 fc00::/7 "
        "fe80::/10 fec0::/10 ff00::/8")])
        ++ ips("1::1 200::1 1fff:ffff::1 4000::1 8000::1 e000::1 fbff:ffff::1")).

-spec x1_neighbours_v6(turn_kit:config()) -> _.
x1_neighbours_v6(Config) ->
    doc("global unicast addresses next to them are allowed"),
    Client = allocated(public(Config), [?RAF6]),
    allowed(Client, ips("2001:200::1 2001:db7:ffff::1 2001:db9::1 2003::1 2600::1 "
                        "2a00:1450::1 3ffe:ffff:ffff::1 3fff:1000::1")).

-spec x2_loopback(turn_kit:config()) -> _.
x2_loopback(Config) ->
    doc("all of 127/8, the relay's own address too, and ::1"),
    refused(allocated(public(Config)),
            ips("127.0.0.1 127.0.0.98 127.0.0.100 127.1.2.3 127.255.255.254")),
    refused(allocated(public(Config), [?RAF6]), [?V6]).

-spec x3_this_network(turn_kit:config()) -> _.
x3_this_network(Config) ->
    doc("0.0.0.0/8 and :: lead to localhost on Linux"),
    refused(allocated(public(Config)), ips("0.0.0.0 0.0.0.1 0.1.2.3 0.255.255.255")),
    refused(allocated(public(Config), [?RAF6]), ips("::")).

-spec x4_ipv4_inside_ipv6(turn_kit:config()) -> _.
x4_ipv4_inside_ipv6(Config) ->
    doc("an IPv4 address does not get through in the dress of an IPv6 one"),
    Client = allocated(public(Config), [?RAF6]),
    [refused(Client, [ip(<<Dress/binary, (binary:part(<<V4/binary, 0:96>>, 0,
                                                      16 - byte_size(Dress)))/binary>>)
                      || Dress <- dresses()] ++ inverted(V4) ++ isatap(V4))
     || V4 <- [<<127, 0, 0, 1>>, <<10, 0, 0, 1>>, <<169, 254, 169, 254>>, <<0, 0, 0, 0>>]].

%% Mapped, compatible, translated, NAT64, local NAT64, 6to4, and Teredo's server.
dresses() ->
    [<<0:80, 16#FFFF:16>>, <<0:96>>, <<0:64, 16#FFFF:16, 0:16>>, <<16#64:16, 16#FF9B:16, 0:64>>,
     <<16#64:16, 16#FF9B:16, 1:16, 0:48>>, <<16#2002:16>>, <<16#2001:16, 0:16>>].

%% Teredo's client.
inverted(V4) -> [ip(<<16#2001:16, 0:16, 8, 8, 8, 8, 0:32, (crypto:exor(V4, <<-1:32>>))/binary>>)].

isatap(V4) ->
    [ip(<<Prefix:64, U:16, 16#5EFE:16, V4/binary>>)
     || Prefix <- [16#2A00145000000000, 16#FE80000000000000], U <- [0, 16#200]].

-spec x5_compare_numbers(turn_kit:config()) -> _.
x5_compare_numbers(_Config) ->
    doc("a network of IPv6 is compared as a number, not byte by byte"),
    Denied = networks("2a0f:1::1:0/112 2a0f:1::2:0/120"),
    with_server(maps:put(denied_peers, Denied, public()), fun(Server) ->
        Client = allocated(Server, [?RAF6]),
        refused(Client, ips("2a0f:1::1:0 2a0f:1::1:fffe 2a0f:1::2:ff")),
        allowed(Client, ips("2a0f:1:: 2a0f:1::ffff 2a0f:1::2:100"))
    end).

-spec x6_metadata_services(turn_kit:config()) -> _.
x6_metadata_services(Config) ->
    doc("the metadata services of clouds, public addresses among them"),
    refused(allocated(public(Config)),
            ips("169.254.169.254 169.254.170.2 168.63.129.16 100.100.100.200")),
    refused(allocated(public(Config), [?RAF6]), ips("fd00:ec2::254 fd20:ce::254")).

-spec x7_local_addresses(turn_kit:config()) -> _.
x7_local_addresses(Config) ->
    doc("link-local, unique local and site-local addresses"),
    refused(allocated(public(Config), [?RAF6]), ips("fe80::1 febf::1 fd00::1 fc00::1 fec0::1")).

-spec x8_multicast_and_broadcast(turn_kit:config()) -> _.
x8_multicast_and_broadcast(Config) ->
    doc("multicast, and broadcast of any interface"),
    {ok, Interfaces} = inet:getifaddrs(),
    Broadcast = [Ip || {_, Options} <- Interfaces, {broadaddr, Ip} <- Options,
                       tuple_size(Ip) =:= 4],
    refused(allocated(public(Config)),
            ips("224.0.0.1 239.255.255.250 255.255.255.255 127.255.255.255") ++ Broadcast),
    refused(allocated(public(Config), [?RAF6]), ips("ff02::1 ff0e::1 ffff::1")).

-spec x9_own_listeners(turn_kit:config()) -> _.
x9_own_listeners(Config) ->
    doc("the server's own listeners are no peers, though their address may be"),
    #{listeners := [V4, V6]} = Server = server(Config),
    [begin
         Client = allocated(Server, Items),
         success(permit(Client, [Own])),
         expect(403, bind(Client, 16#4000, Own)),
         [dropped(Client, forbidden_peer, send_request(Own, Request))
          || Request <- [request(binding, []), request(allocate, [udp()])]],
         #{address := Address} = Peer = peer(element(1, Own)),
         dropped(Client, no_channel, stun_model:encode_channel(16#4000, <<"x">>)),
         success(bind(Client, 16#4000, Address)),
         peer_same(Client, Peer)
     end || {Items, Own} <- [{[], V4}, {[?RAF6], V6}]].

-spec x10_own_relayed_address(turn_kit:config()) -> _.
x10_own_relayed_address(Config) ->
    doc("an allocation's own relayed address is no peer of it"),
    Server = server(Config),
    [begin
         #{relayed := Own} = Client = allocated(Server, Items),
         success(permit(Client, [Own])),
         expect(403, bind(Client, 16#4000, Own)),
         dropped(Client, forbidden_peer, send_request(Own, <<"round and round">>))
     end || Items <- [[], [?RAF6]]].

-spec x13_family_before_policy(turn_kit:config()) -> _.
x13_family_before_policy(Config) ->
    doc("a peer of another family is 443, denied or not; a dual allocation takes both"),
    Server = public(Config),
    V4 = allocated(Server),
    [begin
         expect(443, permit(V4, [{Ip, 9}])),
         expect(443, bind(V4, 16#4000, {Ip, 9})),
         silent(V4, send_request({Ip, 9}, <<"x">>))
     end || Ip <- ips("2600::1 fd00::1 ::1 ::")],
    V6 = allocated(Server, [?RAF6]),
    [begin
         expect(443, permit(V6, [{Ip, 9}])),
         expect(443, bind(V6, 16#4000, {Ip, 9}))
     end || Ip <- ips("1.1.1.1 10.0.0.1 127.0.0.1 0.0.0.0")],
    Dual = allocated(Server, [{additional_address_family, 2}]),
    success(permit(Dual, [{Ip, 9} || Ip <- ips("1.1.1.1 2600::1")])).

-spec x14_all_or_nothing(turn_kit:config()) -> _.
x14_all_or_nothing(Config) ->
    doc("one bad address in a CreatePermission, and none is permitted"),
    #{answer := Answer} = Client = allocated(public(Config)),
    {{8, 8, 8, 8}, Port} = get(xor_relayed_address, Answer),
    #{address := Address} = Peer = peer(?FRIEND),
    [expect(403, permit(Client, List))
     || List <- [[Peer, {{127, 0, 0, 1}, 9}], [{{127, 0, 0, 1}, 9}, Peer],
                 [Peer, {{1, 1, 1, 1}, 9}, {{10, 0, 0, 1}, 9}]]],
    expect(400, call(Client, create_permission, [{xor_peer_address, Address},
                                                 {xor_peer_address, {raw, <<0, 1, 0, 9>>}}])),
    expect(443, permit(Client, [Peer, {{16#2600, 0, 0, 0, 0, 0, 0, 1}, 9}])),
    unheard(Client, Peer, {{127, 0, 0, 1}, Port}, <<"too early">>),
    dropped(Client, no_permission, send_request(Address, <<"too early">>)),
    success(permit(Client, [Peer])),
    peer_send(Peer, {{127, 0, 0, 1}, Port}, <<"now">>),
    ?assertEqual({Address, <<"now">>}, data(Client)),
    send_to(Client, Peer, <<"yes">>),
    ?assertEqual({{{127, 0, 0, 1}, Port}, <<"yes">>}, peer_next(Peer)).

-spec x17_port_zero(turn_kit:config()) -> _.
x17_port_zero(Config) ->
    doc("port 0 is no peer for a channel or for data, though fine in a permission"),
    Client = allocated(public(Config)),
    success(permit(Client, [{?FRIEND, 0}])),
    expect([400, 403], bind(Client, 16#4000, {?FRIEND, 0})),
    dropped(Client, bad_indication, send_request({?FRIEND, 0}, <<"x">>)),
    expect([400, 403], bind(Client, 16#4000, {{1, 1, 1, 1}, 0})).

-spec x18_never(turn_kit:config()) -> _.
x18_never(_Config) ->
    doc("some addresses stay denied whatever is allowed"),
    Everything = #{allowed_peers => [{{0, 0, 0, 0}, 0}, {{0, 0, 0, 0, 0, 0, 0, 0}, 0}]},
    with_server(maps:merge(public(), Everything), fun(Server) ->
        V4 = allocated(Server),
        refused(V4, ips("0.0.0.0 0.1.2.3 224.0.0.1 239.255.255.250 255.255.255.255")),
        allowed(V4, ips("10.0.0.1 192.168.0.1 127.0.0.2")),
        refused(allocated(Server, [?RAF6]),
                ips(":: ff02::1 2002:808:808::1 2001:0:808:808::1 ::ffff:127.0.0.1 "
                    "::127.0.0.1 64:ff9b::127.0.0.1"))
    end).

%% ------------------------------------------------------- 2.2: reflection, amplification, loops

-spec x20_binding_amplification(turn_kit:config()) -> _.
x20_binding_amplification(Config) ->
    doc("20 bytes of Binding buy 32 over IPv4 and 44 over IPv6, and 8 more with FINGERPRINT"),
    Server = server(Config),
    [begin
         Client = open(Server, Options),
         #{bytes := Bytes} = ask(Client, request(binding, [])),
         ?assertEqual(Size, byte_size(Bytes)),
         #{bytes := Marked} = ask(Client, request(binding, [fingerprint])),
         ?assertEqual(Size + 8, byte_size(Marked))
     end || {Options, Size} <- [{#{}, 32}, {#{family => v6}, 44}]].

-spec x21_challenge_amplification(turn_kit:config()) -> _.
x21_challenge_amplification(Config) ->
    doc("401 and 438 with a realm of 11 characters are at most 112 bytes"),
    #{realm := <<_:11/binary>>} = Server = server(Config),
    Client = fresh(Server),
    [?assert(byte_size(Bytes) =< 112)
     || #{bytes := Bytes} <- [expect(401, ask(Client, request(allocate, [udp()]))),
                              expect(401, ask(Client, request(allocate, []))),
                              expect(401, call(Client, allocate, [], #{key => <<"wrong">>})),
                              expect(438, call(Client, allocate, [], #{nonce => <<"x">>}))]].

-spec x23_answers_are_not_answered(turn_kit:config()) -> _.
x23_answers_are_not_answered(Config) ->
    doc("nothing of class success or error, and no indication, is ever answered"),
    Client = open(server(Config)),
    [silent(Client, request(Class, Method, Items))
     || Class <- [success, error, indication],
        Method <- [binding, allocate, refresh, send, data, create_permission, channel_bind],
        Items <- [[], [fingerprint], [{error_code, {401, <<>>}}, fingerprint]]].

-spec x24_noise(turn_kit:config()) -> _.
x24_noise(Config) ->
    doc("errors are for well-formed requests only"),
    Client = fresh(server(Config)),
    Request = signed(Client, allocate, [udp()]),
    <<_, Rest/binary>> = Request,
    [silent(Client, Bytes)
     || Bytes <- [crypto:strong_rand_bytes(N) || N <- [1, 4, 19, 20, 21, 60, 500, 1400]]
            ++ [patch(Request, 4, <<0:32>>), <<Request/binary, 0>>, <<Request/binary, 0:32>>,
                patch(Request, 2, <<(byte_size(Request)):16>>),
                binary:part(Request, 0, byte_size(Request) - 4)]
            ++ [<<First, Rest/binary>> || First <- lists:seq(4, 63) ++ lists:seq(128, 255, 7)]
            ++ [request(Method, [udp()]) || Method <- [16#002, 16#0FF, 16#FFF]]
            ++ [<<"GET / HTTP/1.1\r\n\r\n">>, <<"SSH-2.0-x\r\n">>, <<22, 3, 1, 0, 5, 1, 0, 0, 1>>]],
    success(ask(Client, Request)).

-spec x25_relayed_address_is_no_server(turn_kit:config()) -> _.
x25_relayed_address_is_no_server(Config) ->
    doc("a STUN request to a relayed address is data like any other"),
    Server = server(Config),
    #{relayed := Relayed} = Client = allocated(Server),
    #{address := Address} = Peer = peer(),
    Requests = [request(binding, []), request(allocate, [udp()])],
    [unheard(Client, Peer, Relayed, R) || R <- Requests],
    success(permit(Client, [Peer])),
    [begin
         peer_send(Peer, Relayed, R),
         ?assertEqual({Address, R}, data(Client))
     end || R <- Requests],
    peer_same(Client, Peer).

-spec x27_list_of_unknown_attributes(turn_kit:config()) -> _.
x27_list_of_unknown_attributes(Config) ->
    doc("a 420 lists few of many unknown attributes and is shorter than its request"),
    Client = open(server(Config)),
    Request = request(binding, [{16#7000 + N, <<>>} || N <- lists:seq(1, 130)]),
    #{bytes := Bytes} = Answer = expect(420, ask(Client, Request)),
    Listed = get(unknown_attributes, Answer),
    ?assert(length(Listed) =< 16),
    ?assertEqual(lists:seq(16#7001, 16#7000 + length(Listed)), Listed),
    ?assert(byte_size(Bytes) =< byte_size(Request)).

%% ----------------------------------------------------------------------- 2.3: authentication

-spec x31_forged_nonce(turn_kit:config()) -> _.
x31_forged_nonce(Config) ->
    doc("an empty or oversized NONCE is malformed, any other stale, none succeeds"),
    Client = fresh(server(Config)),
    [expect([400, 438], call(Client, allocate, [udp()], #{nonce => Nonce}))
     || Nonce <- [<<>>, binary:copy(<<"n">>, 764)]],
    [expect(438, call(Client, allocate, [udp()], #{nonce => Nonce}))
     || Nonce <- [crypto:strong_rand_bytes(N) || N <- [1, 36, 37, 38, 127, 128, 763]]],
    expect(437, call(Client, refresh, [])).

-spec x32_nonce_of_another_client(turn_kit:config()) -> _.
x32_nonce_of_another_client(Config) ->
    doc("a nonce is of use to whom it was made for: an address and a port"),
    Server = server(Config),
    #{here := {_, Port}, nonce := Nonce} = Owner = fresh(Server),
    [begin
         Other = challenged(open(Server, Options)),
         expect(438, call(Other, allocate, [udp()], #{nonce => Nonce, hash => Hash})),
         turn_kit:close(Other)
     end || Options <- [#{}, #{ip => {127, 0, 0, 2}, port => Port}], Hash <- [sha1, sha256]],
    success(allocate(Owner)).

-spec x33_replayed_elsewhere(turn_kit:config()) -> _.
x33_replayed_elsewhere(Config) ->
    doc("a captured request from another port is stale, and its target unharmed"),
    Server = server(Config),
    Client = allocated(Server),
    Thief = open(Server),
    [expect(438, ask(Thief, signed(Client, Method, Items)))
     || {Method, Items} <- [{refresh, [{lifetime, 0}]}, {allocate, [udp()]},
                            {create_permission, [{xor_peer_address, {{127, 0, 0, 1}, 9}}]}]],
    success(call(Client, refresh, [])).

-spec x34_unknown_user_or_wrong_password(turn_kit:config()) -> _.
x34_unknown_user_or_wrong_password(Config) ->
    doc("an unknown user and a wrong password get the same answer"),
    Server = server(Config),
    [begin
         [A, B] = [begin
                       Client = challenged(open(Server, #{user => User, password => <<"guess">>})),
                       #{bytes := Bytes} = Answer =
                           expect(401, call(Client, allocate, [udp()], #{hash => Hash})),
                       anonymous(Bytes, get(nonce, Answer))
                   end || User <- [<<"alice">>, <<"mallory">>]],
         ?assertEqual(A, B)
     end || Hash <- [sha1, sha256]].

-spec x34_unknown_userhash(turn_kit:config()) -> _.
x34_unknown_userhash(_Config) ->
    doc("nor does a hash tell whether there is a user of that name, by any algorithm"),
    with_server(#{secrets => []}, fun(Server) ->
        [begin
             Answers = [begin
                            Who = #{user => User, password => <<"guess">>},
                            Client = challenged(open(Server, Who)),
                            #{bytes := Bytes} = Answer = expect(401, call(Client, allocate, [udp()],
                                                                          Options)),
                            anonymous(Bytes, get(nonce, Answer))
                        end || User <- [<<"alice">>, <<"mallory">>]],
             ?assertMatch([Same, Same], Answers)
         end || Anonymous <- [#{anonymous => true}, #{}],
                Options <- [Anonymous, Anonymous#{hash => sha256}, Anonymous#{algorithm => md5},
                            Anonymous#{algorithm => sha256}]]
    end).

%% An answer without its transaction id and nonce.
anonymous(Bytes, Nonce) ->
    binary:replace(patch(Bytes, 8, <<0:96>>), Nonce, binary:copy(<<"n">>, byte_size(Nonce))).

-spec x36_brute_force(turn_kit:config()) -> _.
x36_brute_force(_Config) ->
    doc("a thousand wrong passwords: few are looked at. The user from elsewhere and another user "
        "from there come in meanwhile"),
    with_server(#{failed_authentication_rate => 1}, fun(#{name := Name} = Server) ->
        Thieves = [fresh(Server) || _ <- lists:seq(1, 4)],
        Heard = fun() ->
            #{answers := #{401 := Refused, throttled := Throttled},
              relay := {ok, #{requests := Waiting}}} = meerkat:info(Name),
            {Refused, Throttled, Waiting}
        end,
        %% The relay drops what is more than a source may have waiting for Erlang. So requests are
        %% counted where they are judged, not where they are sent.
        eventually(fun() ->
            _ = [guessed(Thief) || Thief <- Thieves],
            {R, T, _} = Heard(),
            R + T >= 1000
        end),
        eventually(fun() -> element(3, Heard()) =:= 0 end),
        {Refused, Throttled, 0} = Heard(),
        ?assert(Refused >= 2),
        ?assert(Throttled >= 900),
        success(allocate(challenged(open(Server, #{ip => {127, 0, 0, 2}})))),
        success(allocate(challenged(open(Server, #{user => <<"bob">>}))))
    end).

%% Ten wrong passwords. The relay has read them when it answers what was sent behind them.
guessed(Thief) ->
    [turn_kit:send(Thief, signed(Thief, allocate, [udp()], #{key => <<N:32>>}))
     || N <- lists:seq(1, 10)],
    success(ask(Thief, request(binding, []))).

-spec x37_order_of_checks(turn_kit:config()) -> _.
x37_order_of_checks(Config) ->
    doc("integrity present, then its companions, then nonce, then signature (RFC 8489 9.2.4; "
        "the nonce is looked at before the signature)"),
    Client = fresh(server(Config)),
    Bad = #{key => <<"wrong">>},
    Unknown = [udp(), {16#7FFF, <<>>}],
    [begin
         Answer = call(Client, allocate, Items, Options),
         ?assertEqual({Options, Code}, {Options, code(Answer)}),
         ?assertEqual(Code =:= 400 orelse Code =:= 420, get(nonce, Answer) =:= undefined)
     end || {Items, Options, Code} <-
                [{Unknown, Bad#{nonce => undefined}, 400}, {Unknown, Bad#{user => undefined}, 400},
                 {Unknown, Bad#{realm => undefined}, 400}, {Unknown, #{nonce => <<"old">>}, 438},
                 {Unknown, Bad#{nonce => <<"old">>}, 438}, {Unknown, Bad, 401}, {[], Bad, 401},
                 {Unknown, #{}, 420}, {[{16#7FFF, <<>>}], #{}, 420}, {[], #{}, 400}]],
    expect(401, ask(Client, request(allocate, Unknown))),
    success(allocate(Client)).

-spec x38_appended_attributes(turn_kit:config()) -> _.
x38_appended_attributes(Config) ->
    doc("what is appended behind the integrity is not obeyed"),
    #{relayed := Relayed} = Client = allocated(server(Config)),
    [#{address := One}, #{address := Two} = Other] = [peer(), peer({127, 0, 0, 2})],
    Append = #{trailing => [{xor_peer_address, Two}, {16#7FFF, <<>>}, {lifetime, 0}]},
    [begin
         success(call(Client, create_permission, [{xor_peer_address, One}],
                      Append#{hash => Hash})),
         expect(400, call(Client, create_permission, [], Append#{hash => Hash}))
     end || Hash <- [sha1, sha256]],
    dropped(Client, no_permission, send_request(Two, <<"x">>)),
    unheard(Client, Other, Relayed, <<"x">>),
    Answer = success(call(Client, refresh, [], Append)),
    ?assertEqual(600, get(lifetime, Answer)),
    success(call(Client, refresh, [])).

-spec x38_appended_to_a_signed_request(turn_kit:config()) -> _.
x38_appended_to_a_signed_request(Config) ->
    doc("nor what a stranger appends to a captured request, its length set right"),
    Client = allocated(server(Config)),
    #{address := Address} = peer(),
    Refresh = signed(Client, refresh, [{lifetime, 900}]),
    <<_:16, Length:16, _/binary>> = Refresh,
    <<_:160, Extra/binary>> = request(refresh, [{lifetime, 0}, {xor_peer_address, Address}]),
    Longer = <<(patch(Refresh, 2, <<(Length + byte_size(Extra)):16>>))/binary, Extra/binary>>,
    ?assertEqual(900, get(lifetime, success(ask(Client, Longer)))),
    success(call(Client, refresh, [])).

-spec x40_hijack(turn_kit:config()) -> _.
x40_hijack(Config) ->
    doc("another user's good signature on the same 5-tuple: 441, and nothing happens"),
    Alice = allocated(server(Config)),
    Bob = Alice#{user => <<"bob">>, password => <<"builder">>,
                 key => stun_model:key("bob", maps:get(realm, Alice), "builder")},
    #{address := Address} = Peer = peer(),
    success(bind(Alice, 16#4000, Peer)),
    [expect(441, call(Bob, Method, Items, #{hash => Hash}))
     || Hash <- [sha1, sha256],
        {Method, Items} <- [{refresh, [{lifetime, 0}]}, {refresh, []},
                            {create_permission, [{xor_peer_address, {{127, 0, 0, 2}, 9}}]},
                            {channel_bind, [{channel_number, 16#4000},
                                            {xor_peer_address, Address}]},
                            {channel_bind, [{channel_number, 16#4001},
                                            {xor_peer_address, {{127, 0, 0, 2}, 9}}]}]],
    dropped(Alice, no_permission, send_request({{127, 0, 0, 2}, 9}, <<"x">>)),
    dropped(Alice, no_channel, stun_model:encode_channel(16#4001, <<"x">>)),
    channel(Alice, 16#4000, <<"still mine">>),
    ?assertMatch({_, <<"still mine">>}, peer_next(Peer)),
    delete(Alice).

-spec x41_bid_down(turn_kit:config()) -> _.
x41_bid_down(Config) ->
    doc("whoever takes away, shortens or turns round what was offered earns 400, without a look at "
        "the signature"),
    #{realm := Realm, offered := [Strong, Weak] = Offered} = Client = fresh(server(Config)),
    Key = stun_model:key("alice", Realm, "wonderland"),
    [begin
         Before = [{password_algorithms, All} || All =/= none]
             ++ [{password_algorithm, One} || One =/= none],
         Answer = call(Client, allocate, [udp()], #{before => Before, key => K, hash => Hash}),
         ?assertEqual({All, One, 400}, {All, One, code(Answer)}),
         ?assertEqual(undefined, get(nonce, Answer))
     end || {All, One} <- [{Offered, none}, {none, Weak}, {none, Strong}, {[Weak], Weak},
                           {[Strong], Strong}, {[Weak, Strong], Weak}, {Offered, {9, <<>>}}],
            K <- [Key, <<"wrong">>], Hash <- [sha1, sha256]],
    success(call(Client, allocate, [udp()], #{algorithm => md5})),
    with_server(#{require_sha256 => true}, fun(Strict) ->
        [expect(401, call(fresh(Strict), allocate, [udp()], Options))
         || Options <- [#{}, #{algorithm => md5}]]
    end).

-spec x41_bid_down_of_the_nonce(turn_kit:config()) -> _.
x41_bid_down_of_the_nonce(Config) ->
    doc("the features in the nonce cannot be changed: they are part of what it proves"),
    #{nonce := <<"obMatJos2AAAB", Rest/binary>>} = Client = fresh(server(Config)),
    [expect(438, call(Client, allocate, [udp()],
                      Options#{nonce => <<"obMatJos2", Bits/binary, Rest/binary>>}))
     || Bits <- [<<"AAAA">>, <<"AAAC">>, <<"AAAD">>, <<"gAAA">>, <<"QAAA">>],
        Options <- [#{}, #{algorithm => md5}, #{algorithm => sha256}]],
    success(call(Client, allocate, [udp()], #{algorithm => sha256})).

-spec x42_userhash_or_username(turn_kit:config()) -> _.
x42_userhash_or_username(_Config) ->
    doc("one hash, one user, and USERNAME decides where both are; what is no hash is nobody's"),
    with_server(#{secrets => []}, fun(#{name := Name, realm := Realm} = Server) ->
        Client = fresh(Server),
        Hash = stun_model:userhash("alice", Realm),
        Foreign = [<<0:256>>, stun_model:userhash("alice", "elsewhere"),
                   stun_model:userhash("alice:example.org", ""), crypto:hash(sha256, "alice")],
        [expect(401, call(Client, allocate, [{userhash, H}, udp()], #{user => undefined}))
         || H <- Foreign],
        [expect(400, call(Client, allocate, [{userhash, {raw, H}}, udp()], #{user => undefined}))
         || H <- [binary:part(Hash, 0, 31), <<Hash/binary, 0>>]],
        success(call(Client, allocate, [{userhash, stun_model:userhash("bob", Realm)}, udp()])),
        ?assertMatch([#{user := <<"alice">>}], meerkat:allocations(Name)),
        Bob = open(Server, #{user => <<"bob">>}),
        expect(401, call(challenged(Bob), allocate, [{userhash, Hash}, udp()],
                         #{key => stun_model:key("alice", Realm, "wonderland")}))
    end).

-spec x42_userhash_after_reload(turn_kit:config()) -> _.
x42_userhash_after_reload(_Config) ->
    doc("when the users change, so do the hashes by which they are found"),
    with_server(#{secrets => []}, fun(#{name := Name} = Server) ->
        Anonymous = fun(User, Password) ->
            Client = challenged(open(Server, #{user => User, password => Password})),
            code(call(Client, allocate, [udp()], #{anonymous => true, algorithm => sha256}))
        end,
        ?assertEqual([success, 401], [Anonymous(<<"alice">>, <<"wonderland">>),
                                      Anonymous(<<"carol">>, <<"christmas">>)]),
        #{config := Running} = meerkat_registry:settings(Name),
        ok = meerkat:reload(Name, (Running())#{users => #{<<"carol">> =>
                                                              {password, <<"christmas">>}}}),
        ?assertEqual([401, success], [Anonymous(<<"alice">>, <<"wonderland">>),
                                      Anonymous(<<"carol">>, <<"christmas">>)])
    end).

-spec x43_mixed_integrity(turn_kit:config()) -> _.
x43_mixed_integrity(Config) ->
    doc("a good SHA-1 does not heal a bad SHA-256, nor does a bad SHA-1 harm a good one"),
    #{key := Key} = Client = fresh(server(Config)),
    expect(401, call(Client, allocate, [udp()], #{before => [{sign, sha1, Key}], hash => sha256,
                                                  key => <<"wrong">>})),
    success(call(Client, allocate, [udp()], #{before => [{sign, sha1, <<"wrong">>}],
                                              hash => sha256, key => Key})).

-spec x43_mixed_integrity_by_algorithm(turn_kit:config()) -> _.
x43_mixed_integrity_by_algorithm(Config) ->
    doc("nor where an algorithm was chosen; and neither digest does for the other's key"),
    #{realm := Realm} = Client = fresh(server(Config)),
    [Md5, Sha256] = [stun_model:key(A, "alice", Realm, "wonderland") || A <- [md5, sha256]],
    Offer = fun(Number) ->
        [{password_algorithms, maps:get(offered, Client)}, {password_algorithm, {Number, <<>>}}]
    end,
    [?assertEqual({Number, Code},
                  {Number, code(call(Client, allocate, [udp()],
                                     #{before => Offer(Number) ++ [{sign, sha1, First}],
                                       hash => sha256, key => Second}))})
     || {Number, First, Second, Code} <-
            [{1, Md5, <<"wrong">>, 401}, {2, Sha256, <<"wrong">>, 401}, {2, Sha256, Md5, 401},
             {1, Md5, Sha256, 401}, {2, <<"wrong">>, Sha256, success}]],
    delete(Client),
    success(call(Client, allocate, [udp()], #{before => Offer(1) ++ [{sign, sha1, <<"wrong">>}],
                                              hash => sha256, key => Md5})).

-spec x46_names_in_logs(turn_kit:config()) -> _.
x46_names_in_logs(Config) ->
    doc("whatever a stranger calls itself: one line without control characters, no password or "
        "secret in it; and it says what was wrong"),
    #{secret := Secret} = Server = server(Config),
    Past = <<"1000000000:eve">>,
    Odd = [<<"%n%s~p">>, <<"a\r\nb">>, <<"a", 0, "b">>, <<"'; --">>, <<"{{}}">>, <<"\e[2J">>,
           <<16#FF, 16#FE>>, <<"\x{2028}"/utf8>>, binary:copy(<<16#C3, 16#A9>>, 381)],
    with_log(fun() ->
        [begin
             Client = challenged(open(Server, #{user => User, password => <<"gu3ss">>})),
             expect(401, call(Client, allocate, [udp(), {software, User}], Options)),
             Line = receive {line, L} -> unicode:characters_to_binary(L) end,
             ?assertMatch({_, {match, _}}, {Line, re:run(Line, Reason)}),
             ?assertEqual({Line, nomatch}, {Line, re:run(Line, "[\\x00-\\x1f\\x7f]")}),
             ?assertEqual({Line, nomatch}, {Line, re:run(Line, ["gu3ss|wonderland|", Secret])})
         end || {User, Reason, Options} <-
                    [{<<"alice">>, "wrong password of user \"alice\"( \\(|$)", #{}},
                     {Past, "the credentials of \"1000000000:eve\" expired [0-9]+ s ago( \\(|$)",
                      #{}},
                     {<<"alice">>, "nobody is known by that USERHASH( \\(|$)",
                      #{user => <<"mallory">>, anonymous => true}}]
                    ++ [{User, "^401 to 127\\.0\\.0\\.1:[0-9]+: ", #{}} || User <- Odd]]
    end).

with_log(Fun) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}}),
    ok = logger:set_module_level(meerkat_refusal_log, debug),
    try Fun()
    after
        ok = logger:unset_module_level(meerkat_refusal_log),
        ok = logger:remove_handler(?MODULE)
    end.

-spec log(logger:log_event(), logger:handler_config()) -> _.
log(#{meta := #{mfa := {meerkat_refusal_log, _, _}}, msg := {Format, Args}},
    #{config := #{to := Pid}}) ->
    Pid ! {line, io_lib:format(Format, Args)};
log(_Event, _Config) ->
    ok.

%% ------------------------------------------------------------------------------- 2.4: parser

-spec x50_lengths(turn_kit:config()) -> _.
x50_lengths(Config) ->
    doc("datagrams too short, and headers that lie about the length"),
    Client = open(server(Config)),
    Request = request(binding, [{software, <<"eight by">>}]),
    dropped(Client, receive_queue_full, <<>>),
    [dropped(Client, too_short, binary:part(Request, 0, N)) || N <- lists:seq(1, 19)],
    [dropped(Client, bad_length, patch(Request, 2, <<N:16>>))
     || N <- [0, 8, 11, 13, 16, 20, 16#FFFC, 16#FFFF]],
    [dropped(Client, bad_length, <<Request/binary, 0:(8 * N)>>) || N <- [1, 2, 3, 4, 8, 100]].

-spec x51_attributes_past_the_end(turn_kit:config()) -> _.
x51_attributes_past_the_end(Config) ->
    doc("an attribute that claims more than there is: nothing is read, nothing relayed"),
    Client = allocated(server(Config)),
    #{address := Address} = Peer = peer(),
    success(permit(Client, [Peer])),
    [dropped(Client, bad_attribute, request(Class, Method, Items))
     || {Class, Method} <- [{request, binding}, {request, allocate}, {indication, send}],
        Items <- [[{bytes, <<16#8022:16, 4:16>>}], [{bytes, <<16#8022:16, 16#FFFF:16>>}],
                  [{bytes, <<16#8022:16, 5:16, "abcd">>}],
                  [{software, <<"abcd">>}, {bytes, <<6:16, 1:16>>}],
                  [{xor_peer_address, Address}, {bytes, <<16#0013:16, 35510:16, "short123">>}],
                  [{xor_peer_address, Address}, {data, <<"ok">>}, {bytes, <<16#8022:16, 1:16>>}]]],
    peer_same(Client, Peer).

-spec x52_empty_values(turn_kit:config()) -> _.
x52_empty_values(Config) ->
    doc("attributes without a value that need one: 400, or 401 where nobody is known yet"),
    #{nonce := Nonce, realm := Realm} = Client = allocated(server(Config)),
    [expect([400, 401], call(Client, allocate, [udp()],
                             maps:merge(#{user => <<"alice">>, realm => Realm, nonce => Nonce,
                                          key => maps:get(key, Client)}, Empty)))
     || Empty <- [#{user => <<>>}, #{realm => <<>>}, #{nonce => <<>>}]],
    [expect(400, call(Client, Method, [{Name, {raw, <<>>}} | Rest]))
     || {Method, Name, Rest} <-
            [{create_permission, xor_peer_address, []}, {refresh, lifetime, []},
             {channel_bind, channel_number, [{xor_peer_address, {{127, 0, 0, 1}, 9}}]},
             {channel_bind, xor_peer_address, [{channel_number, 16#4000}]}]],
    Other = fresh(server(Config)),
    [expect(400, call(Other, allocate, Items))
     || Items <- [[{requested_transport, {raw, <<>>}}], [udp(), {lifetime, {raw, <<>>}}],
                  [udp(), {even_port, {raw, <<>>}}]]],
    success(allocate(Other)).

-spec x53_wrong_sizes(turn_kit:config()) -> _.
x53_wrong_sizes(Config) ->
    doc("values of the wrong size or family: 400"),
    Server = server(Config),
    Client = fresh(Server),
    [expect(400, allocate(Client, [{Name, {raw, Bytes}}]))
     || {Name, Bytes} <- [{lifetime, <<600:24>>}, {lifetime, <<600:40>>},
                          {reservation_token, <<0:56>>}, {reservation_token, <<0:72>>},
                          {even_port, <<0, 0>>}, {requested_address_family, <<1>>},
                          {requested_address_family, <<1:40>>},
                          {additional_address_family, <<2:16>>}]],
    expect([400, 440], allocate(Client, [{requested_address_family, 3}])),
    success(allocate(Client)),
    V4 = <<16#1234:16, 127, 0, 0, 1>>,
    [begin
         expect(400, call(Client, create_permission, [{xor_peer_address, {raw, Raw}}])),
         expect(400, call(Client, channel_bind, [{channel_number, 16#4000},
                                                 {xor_peer_address, {raw, Raw}}])),
         dropped(Client, bad_indication,
                 request(indication, send, [{xor_peer_address, {raw, Raw}}, {data, <<"x">>}]))
     end || Raw <- [<<0, 2, V4/binary>>, <<0, 1, V4/binary, 0:96>>, <<0, 0, V4/binary>>,
                    <<0, 3, V4/binary>>, <<0, 3, V4/binary, 0:96>>, <<0, 1, V4/binary, 0>>,
                    <<0, 2, V4/binary, 0:88>>, <<0, 2, V4/binary, 0:104>>]],
    [expect(400, call(Client, channel_bind, [{channel_number, {raw, Raw}},
                                             {xor_peer_address, {{127, 0, 0, 1}, 9}}]))
     || Raw <- [<<16#4000:16>>, <<16#4000:16, 0>>, <<16#4000:16, 0:48>>]].

-spec x55_response_padding(turn_kit:config()) -> _.
x55_response_padding(Config) ->
    doc("padding of responses is zero, whatever the memory held before"),
    Server = server(Config),
    Secret = binary:copy(<<"S3CRET!">>, 70),
    #{realm := Realm} = Client = fresh(Server),
    ?assertNotEqual(0, byte_size(Realm) rem 4),
    Padded = [begin
                  Answers = [ask(Client, request(allocate, [udp(), {software, Secret}])),
                             call(Client, refresh, [{software, Secret}], #{nonce => Secret}),
                             call(Client, refresh, [{software, Secret}]),
                             ask(Client, request(binding, [{16#7FFF, Secret}]))],
                  [?assertEqual(nomatch, binary:match(B, <<"S3C">>)) || #{bytes := B} <- Answers],
                  << <<(stun_model:padding(B))/binary>> || #{bytes := B} <- Answers >>
              end || _ <- lists:seq(1, 250)],
    ?assertMatch(<<_, _/binary>>, hd(Padded)),
    ?assertEqual([0], lists:usort(binary_to_list(iolist_to_binary(Padded)))).

-spec x55_data_padding(turn_kit:config()) -> _.
x55_data_padding(Config) ->
    doc("so is that of Data indications"),
    #{relayed := Relayed} = Client = allocated(server(Config)),
    Peer = peer(),
    success(permit(Client, [Peer])),
    [begin
         peer_send(Peer, Relayed, binary:copy(<<16#FF>>, 64)),
         _ = data(Client),
         Data = binary:copy(<<"x">>, Size),
         peer_send(Peer, Relayed, Data),
         ?assertMatch({_, Data}, data(Client))
     end || Size <- [1, 2, 3, 5, 6, 7]].

-spec x56_known_where_unexpected(turn_kit:config()) -> _.
x56_known_where_unexpected(Config) ->
    doc("known attributes where they mean nothing are ignored, unknown optional ones too"),
    Client = fresh(server(Config)),
    Noise = [{channel_number, 16#4000}, {data, <<"x">>}, {xor_mapped_address, {?V6, 9}},
             {error_code, {300, <<"x">>}}, {unknown_attributes, [1, 2, 3]}, {16#8FFF, <<"x">>},
             {mapped_address, {{1, 2, 3, 4}, 5}}],
    success(allocate(Client, Noise)),
    success(call(Client, refresh, Noise)),
    silent(Client, request(indication, binding, Noise)).

-spec x57_duplicates(turn_kit:config()) -> _.
x57_duplicates(Config) ->
    doc("the first of two counts, everywhere (RFC 8489 14)"),
    #{key := Key} = Client = fresh(server(Config)),
    Bob = #{before => [{username, <<"bob">>}]},
    expect(401, call(Client, allocate, [udp()], Bob#{key => stun_model:key(
        "bob", maps:get(realm, Client), "builder")})),
    Answer = success(call(Client, allocate, [udp(), {lifetime, 1000}, {lifetime, 2000}],
                          Bob#{key => Key})),
    ?assertEqual(1000, get(lifetime, Answer)),
    Here = Client#{relayed => get(xor_relayed_address, Answer)},
    [#{address := A} = One, #{address := B} = Two] = [peer(), peer({127, 0, 0, 2})],
    success(call(Here, channel_bind, [{channel_number, 16#4000}, {channel_number, 16#4001},
                                      {xor_peer_address, A}, {xor_peer_address, B}])),
    channel(Here, 16#4000, <<"first">>),
    ?assertMatch({_, <<"first">>}, peer_next(One)),
    dropped(Here, no_channel, stun_model:encode_channel(16#4001, <<"x">>)),
    dropped(Here, no_permission, send_request(B, <<"x">>)),
    success(permit(Here, [Two])),
    turn_kit:send_indication(Here, [{xor_peer_address, A}, {xor_peer_address, B},
                                    {data, <<"one">>}, {data, <<"two">>}]),
    ?assertMatch({_, <<"one">>}, peer_next(One)),
    peer_same(Here, Two),
    Refreshed = success(call(Here, refresh, [{lifetime, 800}, {lifetime, 0}])),
    ?assertEqual(800, get(lifetime, Refreshed)).

-spec x58_many_attributes(turn_kit:config()) -> _.
x58_many_attributes(Config) ->
    doc("as many attributes as fit: an answer, or a counted drop when it is too long to take"),
    Server = server(Config),
    Client = open(Server),
    Before = turn_kit:counter(Server, truncated),
    [begin
         <<_:64, Txid:12/binary, _/binary>> = Big =
             request(binding, [{bytes, binary:copy(<<16#8FFF:16, 0:16>>, N)}]),
         <<_:64, Other:12/binary>> = Small = request(binding, []),
         send(Client, Big),
         send(Client, Small),
         case turn_kit:next(Client) of
             <<16#0101:16, _:48, Txid:12/binary, _/binary>> ->
                 <<16#0101:16, _:48, Other:12/binary, _/binary>> = turn_kit:next(Client);
             <<16#0101:16, _:48, Other:12/binary, _/binary>> ->
                 ?assert(N > 300),
                 ?assert(turn_kit:counter(Server, truncated) > Before)
         end
     end || N <- [300, 1000, 4000, 16371]].

-spec x59_unaligned(turn_kit:config()) -> _.
x59_unaligned(Config) ->
    doc("an attribute that is not padded is dropped, not read at an odd address"),
    Client = open(server(Config)),
    [dropped(Client, Reason, request(binding, Items))
     || {Reason, Items} <-
            [{bad_length, [{bytes, <<16#8022:16, 1:16, "a">>}]},
             {bad_length, [{bytes, <<16#8022:16, 3:16, "abc">>}]},
             {bad_attribute, [{bytes, <<16#8022:16, 2:16, "ab", 16#8022:16, 2:16, "ab">>}]},
             {bad_attribute, [{bytes, <<16#8022:16, 1:16, "a", 16#8022:16, 3:16, "abc">>}]}]].

-spec x60_fingerprint(turn_kit:config()) -> _.
x60_fingerprint(Config) ->
    doc("a FINGERPRINT that is wrong, not last, there twice or of another length"),
    Client = fresh(server(Config)),
    [dropped(Client, bad_fingerprint, request(Class, binding, Items))
     || Class <- [request, indication],
        Items <- [[{16#8028, <<0:32>>}], [{16#8028, <<"abcdef">>}], [{16#8028, <<>>}],
                  [fingerprint, {software, <<"behind">>}], [fingerprint, fingerprint],
                  [{16#8028, <<0:32>>}, fingerprint]]],
    dropped(Client, bad_fingerprint,
            signed(Client, allocate, [udp()], #{trailing => [{16#8028, <<1:32>>}]})),
    dropped(Client, bad_fingerprint,
            signed(Client, allocate, [udp(), fingerprint])),
    success(allocate(Client)).

-spec x61_transaction_ids(turn_kit:config()) -> _.
x61_transaction_ids(Config) ->
    doc("the same transaction id from two sockets is two transactions; all zeros are fine"),
    Server = server(Config),
    [begin
         Options = #{transaction_id => Txid},
         Relayed = [begin
                        Client = fresh(Server),
                        Answer = success(call(Client, allocate, [udp()], Options)),
                        get(xor_relayed_address, Answer)
                    end || _ <- [1, 2]],
         ?assertEqual(2, length(lists:usort(Relayed)))
     end || Txid <- [<<0:96>>, <<-1:96>>, <<"same as ever">>]].

-spec x63_classes_of_others(turn_kit:config()) -> _.
x63_classes_of_others(Config) ->
    doc("methods with a class that is not theirs, or that only servers send"),
    Client = allocated(server(Config)),
    [dropped(Client, unknown_method, request(Class, Method, [udp()]))
     || {Class, Method} <- [{indication, allocate}, {request, send}, {indication, data},
                            {request, data}, {indication, connection_attempt},
                            {request, connection_attempt}, {indication, connect}]],
    success(call(Client, refresh, [])).

-spec x64_usernames(turn_kit:config()) -> _.
x64_usernames(Config) ->
    doc("long, odd and broken USERNAMEs: understood or refused, never the end of anything"),
    Server = server(Config),
    #{realm := Realm, nonce := Nonce} = Client = fresh(Server),
    Sign = fun(User) ->
        request(allocate, [udp(), {username, {raw, User}}, {realm, Realm}, {nonce, Nonce},
                           {sign, sha1, stun_model:key(User, Realm, maps:get(secret, Server))}])
    end,
    [expect([400, 401], ask(Client, Sign(binary:copy(<<"u">>, Size)))) || Size <- [764, 765, 1200]],
    [begin
         Other = challenged(open(Server, #{user => User})),
         expect([400, 401], call(Other, allocate, [udp()], #{key => <<"wrong">>})),
         Answer = allocate(Other),
         ?assert(lists:member(code(Answer), [success, 400, 401]))
     end || User <- [<<16#C3>>, <<16#FF, 16#FE>>, <<0, 1, 2>>, <<16#ED, 16#A0, 16#80>>,
                     <<"%n%s%p">>, <<"a\r\nb">>, <<"'; --">>, <<"{{}}">>, <<"../../etc">>,
                     binary:copy(<<16#C3, 16#A9>>, 381)]],
    success(allocate(Client)).

%% -------------------------------------------------------------------- 2.7: the two programs

-spec x109_nothing_to_connect_to(turn_kit:config()) -> _.
x109_nothing_to_connect_to(Config) ->
    doc("the relay has what it inherited from Erlang and sockets of UDP, and nothing anybody "
        "could connect to"),
    turn_kit:is_foreign(server(Config)) andalso throw({skip, "looks at its own relay"}),
    [begin
         {ok, N} = meerkat_relay:os_pid(Name),
         Pid = integer_to_list(N),
         {ok, Program} = file:read_link("/proc/" ++ Pid ++ "/exe"),
         ?assertEqual("meerkat_relay", filename:basename(Program)),
         Fds = filelib:wildcard("/proc/" ++ Pid ++ "/fd/*"),
         Links = [Link || Fd <- Fds, {ok, Link} <- [file:read_link(Fd)]],
         Own = fun(Inodes) -> [I || I <- Inodes, lists:member("socket:[" ++ I ++ "]", Links)] end,
         Streams = [lists:nth(10, Row) || Table <- ["tcp", "tcp6"], Row <- table(Pid, Table)],
         Named = [Inode || [_, _, _, _, _, _, Inode, _Path] <- table(Pid, "unix")],
         ?assertEqual([], Own(Streams ++ Named)),
         ?assertMatch([_, _ | _], Own([lists:nth(10, Row) || Row <- table(Pid, "udp")]))
     end || #{name := Name} <- [server(Config), public(Config)]].

table(Pid, Name) ->
    {ok, Text} = file:read_file("/proc/" ++ Pid ++ "/net/" ++ Name),
    [string:lexemes(Line, " ") || Line <- tl(string:lexemes(binary_to_list(Text), "\n"))].
