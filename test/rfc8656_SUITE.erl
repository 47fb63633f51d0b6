%% RFC 8656 (TURN) over UDP seen from the sockets of clients and peers: one case per rule, named
%% after the row of the conformance table (t15_... is row T15). What takes minutes is in time_SUITE.
-module(rfc8656_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([t2_realm_and_long_term/1, t4_wrong_credentials/1, t4_allocate_by_another_user/1,
         t5_no_allocation/1, t5_data_without_allocation/1, t7_not_without_cookie/1,
         t8_default_port/1, t9_retransmissions/1, t11_relayed_addresses_differ/1,
         t12_no_password_kept/1,
         t13_reflexive_address_and_default/1, t13_five_tuple_has_the_server_address/1,
         t14_authentication/1, t15_second_allocate_437/1, t16_transport_missing/1,
         t16_transport_unsupported/1, t17_dont_fragment/1, t18_token_with_others/1,
         t18_token_unknown/1, t19_both_family_attributes/1, t20_requested_family/1,
         t20_family_unknown/1, t20_no_ipv6_relay/1, t20_no_ipv4_relay/1,
         t21_even_port_and_both_families/1, t21_no_even_port/1, t22_additional_family_not_ipv6/1,
         t22_both_families/1, t22_one_family_missing/1, t22_ports_of_one_family_used_up/1,
         t25_new_allocation_is_empty/1, t26_token_at_another_listener/1,
         t26_token_with_fresh_credentials/1, t27_even_port/1,
         t27_reserved_port_is_held/1, t28_ports/1, t28_range_used_up/1,
         t28_allocations_used_up/1, t29_lifetime/1, t30_success/1, t31_retransmitted_allocate/1,
         t32_refresh_of_another_family/1, t33_refresh/1, t33_refresh_zero/1,
         t34_dual_one_family_deleted/1, t34_dual_deleted/1, t35_permission_is_for_an_address/1,
         t35_permission_is_of_an_allocation/1, t36_permission_needs_an_address/1,
         t36_several_at_once/1, t36_too_many/1, t36_another_family/1, t36_forbidden/1,
         t37_send/1, t37_send_from_ipv6_client/1, t37_send_incomplete/1,
         t37_send_without_permission/1, t37_relay_to_relay/1, t37_whole_or_not_at_all/1,
         t38_data_indication/1, t38_data_bytes/1, t38_channel_when_bound/1,
         t39_closed_port/1, t39_whoever_sent_it/1, t39_other_types/1, t40_first_byte/1,
         t41_channel_range/1, t41_wide_channel_range/1, t41_incomplete/1, t41_conflicts/1,
         t41_installs_permission/1, t41_family_and_policy/1, t41_too_many/1,
         t42_no_padding_from_server/1, t43_bad_channel_data/1,
         t43_channel_is_of_an_allocation/1,
         t44_translated_headers/1, t45_headers_to_peers/1, t45_headers_to_clients/1, t46_classes/1,
         t47_reserved_bits/1, t47_padding_after_even_port/1, t48_address_error_code/1,
         t49_tunnels/1, t51_logged/1,
         t6_software_where_configured/1]).
-export([log/2]).

-import(turn_kit, [doc/1, open/1, open/2, ask/2, silent/2, dropped/3, counted/3, request/2,
                   request/3,
                   challenged/1, signed/3, call/3, allocated/1, allocated/2, allocated/3,
                   allocate/1, allocate/2, delete/1, permit/2, bind/3, send_to/3,
                   send_indication/2, channel/3, data/1, peer/0, peer/1, peer/2, peer_send/3,
                   peer_next/1, peer_same/2, unheard/4, send/2, next/1, fence/1, get/2,
                   get_all/2, code/1, names/1, success/1, expect/2, with_server/2]).

-define(V6, {0, 0, 0, 0, 0, 0, 0, 1}).
-define(RAF4, {requested_address_family, 1}).
-define(RAF6, {requested_address_family, 2}).
-define(BOTH, {additional_address_family, 2}).

-spec all() -> [atom()].
all() -> turn_kit:cases(?MODULE).

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 60}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) -> [{server, turn_kit:start_server()} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) -> turn_kit:stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).

udp() -> {requested_transport, 17}.

methods() -> [allocate, refresh, create_permission, channel_bind].

relay(Ip, MinPort, MaxPort) ->
    #{local => Ip, advertised => Ip, min_port => MinPort, max_port => MaxPort}.

v4_only() -> #{relays => [relay({127, 0, 0, 1}, 49152, 65535)]}.

v6_only() -> #{relays => [relay(?V6, 49152, 65535)]}.

%% One relay on 127.0.0.1 with these ports, and none other.
ports(Min, Max) -> #{relays => [relay({127, 0, 0, 1}, Min, Max)]}.

%% Both relays, each with its own ports.
ports(Min, Max, Min6, Max6) ->
    #{relays => [relay({127, 0, 0, 1}, Min, Max), relay(?V6, Min6, Max6)]}.

relayed_port(Answer) ->
    {_, Port} = get(xor_relayed_address, success(Answer)),
    Port.

fresh(Server) -> challenged(open(Server)).

%% A client with an allocation, and a peer it may talk to.
pair(Config) -> pair(Config, [], {127, 0, 0, 1}).

pair(Config, Items, PeerIp) ->
    Client = allocated(server(Config), Items),
    Peer = peer(PeerIp),
    success(permit(Client, [Peer])),
    {Client, Peer}.

%% --------------------------------------------------------------------------- 5: all messages

-spec t2_realm_and_long_term(turn_kit:config()) -> _.
t2_realm_and_long_term(Config) ->
    doc("long-term credentials, with the realm that is configured (RFC 8656 5)"),
    Server = server(Config),
    #{realm := Realm} = Client = fresh(Server),
    ?assertEqual(maps:get(realm, Server), Realm),
    success(allocate(Client)).

-spec t4_wrong_credentials(turn_kit:config()) -> _.
t4_wrong_credentials(Config) ->
    doc("another user on an existing allocation: 441, and nothing changes (RFC 8656 5)"),
    Alice = allocated(server(Config)),
    Bob = Alice#{user => <<"bob">>, password => <<"builder">>,
                 key => stun_model:key("bob", maps:get(realm, Alice), "builder")},
    Peer = peer(),
    [?assertEqual([error_code, message_integrity], names(expect(441, Answer)))
     || Answer <- [call(Bob, refresh, []), call(Bob, refresh, [{lifetime, 0}]),
                   permit(Bob, [Peer]), bind(Bob, 16#4000, Peer),
                   call(Bob, create_permission, []), call(Bob, channel_bind, [])]],
    turn_kit:dropped(Alice, no_permission,
                     request(indication, send, [{xor_peer_address, maps:get(address, Peer)},
                                                {data, <<"x">>}])),
    success(permit(Alice, [Peer])),
    peer_same(Alice, Peer),
    delete(Alice).

-spec t4_allocate_by_another_user(turn_kit:config()) -> _.
t4_allocate_by_another_user(Config) ->
    doc("an Allocate of another user on a 5-tuple in use: 437, the first allocation lives "
        "(RFC 8656 7.2)"),
    Alice = allocated(server(Config)),
    Bob = Alice#{user => <<"bob">>, password => <<"builder">>,
                 key => stun_model:key("bob", maps:get(realm, Alice), "builder")},
    expect(437, allocate(Bob)),
    success(call(Alice, refresh, [])).

-spec t5_no_allocation(turn_kit:config()) -> _.
t5_no_allocation(Config) ->
    doc("requests without an allocation: 437, whatever else is wrong with them (RFC 8656 5)"),
    Client = fresh(server(Config)),
    Peer = peer(),
    [?assertEqual([error_code, message_integrity], names(expect(437, Answer)))
     || Answer <- [call(Client, refresh, []), call(Client, refresh, [{lifetime, 0}]),
                   permit(Client, [Peer]), bind(Client, 16#4000, Peer),
                   call(Client, create_permission, []), call(Client, channel_bind, []),
                   bind(Client, 16#7000, Peer)]].

-spec t5_data_without_allocation(turn_kit:config()) -> _.
t5_data_without_allocation(Config) ->
    doc("indications and ChannelData without an allocation are ignored (RFC 8656 5)"),
    Client = open(server(Config)),
    #{address := Address} = peer(),
    dropped(Client, no_allocation,
            request(indication, send, [{xor_peer_address, Address}, {data, <<"x">>}])),
    dropped(Client, no_allocation, stun_model:encode_channel(16#4000, <<"x">>)),
    success(allocate(challenged(Client))).

-spec t7_not_without_cookie(turn_kit:config()) -> _.
t7_not_without_cookie(Config) ->
    doc("a TURN request without the magic cookie is none, signed or not (RFC 8656 5)"),
    Client = fresh(server(Config)),
    [dropped(Client, bad_cookie, turn_kit:patch(Request, 4, <<0:32>>))
     || Method <- methods(),
        Request <- [request(Method, [udp()]), signed(Client, Method, [udp()])]],
    success(allocate(Client)).

-spec t8_default_port(turn_kit:config()) -> _.
t8_default_port(_Config) ->
    doc("unless told otherwise the server listens at port 3478, UDP and TCP (RFC 8656 5, RFC 8489 "
        "8)"),
    {ok, Defaults, _} = meerkat_config:load(#{file => none, env => []}),
    ?assertMatch([#{transport := udp, ip := any, port := 3478},
                  #{transport := tcp, ip := any, port := 3478}], maps:get(listeners, Defaults)).

-spec t9_retransmissions(turn_kit:config()) -> _.
t9_retransmissions(Config) ->
    doc("a request that comes twice has its effect once and the same answer (RFC 8656 5)"),
    Client = fresh(server(Config)),
    #{address := Address} = Peer = peer(),
    Twice = fun(Method, Items) ->
        Request = signed(Client, Method, Items),
        First = success(ask(Client, Request)),
        Second = success(ask(Client, Request)),
        ?assertEqual(names(First), names(Second)),
        [?assertEqual(get(N, First), get(N, Second))
         || N <- names(First), N =/= lifetime, N =/= message_integrity],
        First
    end,
    Relayed = get(xor_relayed_address, Twice(allocate, [udp()])),
    Twice(refresh, [{lifetime, 700}]),
    Twice(create_permission, [{xor_peer_address, Address}]),
    Twice(channel_bind, [{channel_number, 16#4001}, {xor_peer_address, Address}]),
    channel(Client, 16#4001, <<"once">>),
    ?assertEqual({Relayed, <<"once">>}, peer_next(Peer)),
    Last = signed(Client, refresh, [{lifetime, 0}]),
    success(ask(Client, Last)),
    expect(437, ask(Client, Last)).

%% --------------------------------------------------------------------- 6, 7: new allocations

-spec t11_relayed_addresses_differ(turn_kit:config()) -> _.
t11_relayed_addresses_differ(_Config) ->
    doc("no two allocations have a relayed address in common, whoever asks and however "
        "(RFC 8656 6)"),
    First = turn_kit:free_ports(16),
    with_server(ports(First, First + 15, First, First + 15), fun(Server) ->
        Answers = [begin
                       Client = challenged(turn_kit:open(Server, Options)),
                       success(allocate(Client, Items))
                   end || Options <- [#{}, #{user => <<"bob">>}, #{family => v6}],
                          Items <- [[], [?RAF6], [?BOTH], [{even_port, false}]]],
        Relayed = lists:append([get_all(xor_relayed_address, A) || A <- Answers]),
        ?assertEqual(15, length(Relayed)),
        ?assertEqual(lists:sort(Relayed), lists:usort(Relayed))
    end).

-spec t12_no_password_kept(turn_kit:config()) -> _.
t12_no_password_kept(Config) ->
    doc("an allocation keeps its user's name and no password (RFC 8656 6)"),
    #{name := Name} = Server = server(Config),
    turn_kit:is_foreign(Server) andalso throw({skip, "looks inside"}),
    #{here := Here} = Client = allocated(Server),
    [Kept] = [State || {_, Pid} <- meerkat_alloc_table:sessions(Name), is_process_alive(Pid),
                       State <- [term_to_binary(sys:get_state(Pid))],
                       binary:match(State, term_to_external(Here)) =/= nomatch],
    ?assertNotEqual(nomatch, binary:match(Kept, maps:get(user, Client))),
    ?assertEqual(nomatch, binary:match(Kept, maps:get(password, Client))).

%% As a part of another term.
term_to_external(Term) ->
    <<131, External/binary>> = term_to_binary(Term),
    External.

-spec t13_reflexive_address_and_default(turn_kit:config()) -> _.
t13_reflexive_address_and_default(Config) ->
    doc("the answer names the client's address; 600 s by default (RFC 8656 6, 7.2)"),
    Server = server(Config),
    [begin
         #{here := Here, answer := Answer} = allocated(Server, [], Options),
         ?assertEqual(Here, get(xor_mapped_address, Answer)),
         ?assertEqual(600, get(lifetime, Answer))
     end || Options <- [#{}, #{ip => {127, 3, 2, 1}}, #{family => v6}]].

-spec t13_five_tuple_has_the_server_address(turn_kit:config()) -> _.
t13_five_tuple_has_the_server_address(_Config) ->
    doc("one socket may have an allocation at each address of the server (RFC 8656 6)"),
    Listener = #{transport => udp, ip => {127, 0, 0, 1}, port => 0},
    with_server(#{listeners => [Listener, Listener]}, fun(#{listeners := [A, B]} = Server) ->
        First = allocated(Server, [], #{to => A}),
        Second = challenged(First#{to => B}),
        #{relayed := Relayed} = First,
        ?assertNotEqual(Relayed, get(xor_relayed_address, success(allocate(Second)))),
        delete(First),
        expect(437, call(First, refresh, [])),
        success(call(Second, refresh, []))
    end).

-spec t14_authentication(turn_kit:config()) -> _.
t14_authentication(Config) ->
    doc("all four methods need authentication, with or without an allocation: 401 "
        "(RFC 8656 5, 7.2 (1))"),
    Server = server(Config),
    [begin
         Answer = expect(401, ask(Client, request(Method, [udp()]))),
         ?assertEqual([error_code, nonce, realm], names(Answer) -- [password_algorithms])
     end || Client <- [open(Server), allocated(Server)], Method <- methods()].

-spec t15_second_allocate_437(turn_kit:config()) -> _.
t15_second_allocate_437(Config) ->
    doc("a second Allocate on the 5-tuple: 437 and nothing else (RFC 8656 7.2 (2))"),
    Server = server(Config),
    [begin
         Client = allocated(Server, [], Options),
         Answer = expect(437, allocate(Client)),
         ?assertEqual([error_code, message_integrity], names(Answer)),
         success(call(Client, refresh, []))
     end || Options <- [#{}, #{family => v6}]].

-spec t16_transport_missing(turn_kit:config()) -> _.
t16_transport_missing(Config) ->
    doc("REQUESTED-TRANSPORT missing or malformed: 400 (RFC 8656 7.2 (3))"),
    Client = fresh(server(Config)),
    [expect(400, call(Client, allocate, Items))
     || Items <- [[]] ++ [[{requested_transport, {raw, binary:part(<<17, 0:64>>, 0, N)}}]
                          || N <- [0, 1, 3, 5, 8]]],
    success(allocate(Client)).

-spec t16_transport_unsupported(turn_kit:config()) -> _.
t16_transport_unsupported(Config) ->
    doc("a transport that is not UDP: 442 (RFC 8656 7.2 (3))"),
    Client = fresh(server(Config)),
    [expect(442, call(Client, allocate, [{requested_transport, Protocol}]))
     || Protocol <- [0, 1, 6, 132, 255]],
    success(allocate(Client)).

-spec t17_dont_fragment(turn_kit:config()) -> _.
t17_dont_fragment(Config) ->
    doc("DONT-FRAGMENT is honoured, or unknown on Allocate and Send alike "
        "(RFC 8656 7.2 (4), 11.2)"),
    Server = server(Config),
    Client = fresh(Server),
    Answer = allocate(Client, [{dont_fragment, true}]),
    Honoured = code(Answer) =:= success,
    Honoured orelse ?assertEqual([16#001A], get(unknown_attributes, expect(420, Answer))),
    {Other, #{address := Address} = Peer} = pair(Config),
    #{relayed := Relayed} = Other,
    send_indication(Other, [{xor_peer_address, Address}, {dont_fragment, true}, {data, <<"df">>}]),
    Honoured andalso ?assertEqual({Relayed, <<"df">>}, peer_next(Peer)),
    peer_same(Other, Peer).

-spec t18_token_with_others(turn_kit:config()) -> _.
t18_token_with_others(Config) ->
    doc("RESERVATION-TOKEN with EVEN-PORT or an address family: 400 (RFC 8656 7.2 (5))"),
    Server = server(Config),
    #{answer := Answer} = allocated(Server, [{even_port, true}]),
    Token = get(reservation_token, Answer),
    Client = fresh(Server),
    [expect(400, allocate(Client, [{reservation_token, T} | Others]))
     || T <- [Token, 16#0123456789ABCDEF],
        Others <- [[{even_port, false}], [{even_port, true}], [?RAF4], [?RAF6], [?BOTH]]],
    success(allocate(Client, [{reservation_token, Token}])).

-spec t18_token_unknown(turn_kit:config()) -> _.
t18_token_unknown(Config) ->
    doc("a token nobody gave out: 508; one of the wrong size: 400 (RFC 8656 7.2 (5))"),
    Client = fresh(server(Config)),
    [expect(508, allocate(Client, [{reservation_token, Token}]))
     || Token <- [0, 1, 16#FFFFFFFFFFFFFFFF, 16#0123456789ABCDEF]],
    [expect(400, allocate(Client, [{reservation_token, {raw, <<0:(8 * N)>>}}])) || N <- [0, 7, 9]],
    success(allocate(Client)).

-spec t19_both_family_attributes(turn_kit:config()) -> _.
t19_both_family_attributes(Config) ->
    doc("REQUESTED- and ADDITIONAL-ADDRESS-FAMILY together: 400 (RFC 8656 7.2 (6))"),
    Client = fresh(server(Config)),
    [expect(400, allocate(Client, [Requested, ?BOTH])) || Requested <- [?RAF4, ?RAF6]],
    success(allocate(Client)).

-spec t20_requested_family(turn_kit:config()) -> _.
t20_requested_family(Config) ->
    doc("the relayed address is of the family asked for, IPv4 when none is, whatever the "
        "client's own (RFC 8656 7.2 (7))"),
    Server = server(Config),
    [begin
         #{answer := Answer} = allocated(Server, Items, Options),
         [{Ip, _}] = get_all(xor_relayed_address, Answer),
         ?assertEqual(Expected, Ip)
     end || Options <- [#{}, #{family => v6}],
            {Items, Expected} <- [{[], {127, 0, 0, 1}}, {[?RAF4], {127, 0, 0, 1}},
                                  {[?RAF6], ?V6}]].

-spec t20_family_unknown(turn_kit:config()) -> _.
t20_family_unknown(Config) ->
    doc("a family nobody speaks: 440; one of the wrong size: 400 (RFC 8656 7.2 (7))"),
    Client = fresh(server(Config)),
    [expect(440, allocate(Client, [{requested_address_family, F}])) || F <- [0, 3, 255]],
    [expect(400, allocate(Client, [{requested_address_family, {raw, <<1, 0:(8 * N)>>}}]))
     || N <- [0, 2, 4]],
    success(allocate(Client)).

-spec t20_no_ipv6_relay(turn_kit:config()) -> _.
t20_no_ipv6_relay(_Config) ->
    doc("IPv6 asked of a server that has none: 440 (RFC 8656 7.2 (7))"),
    with_server(v4_only(), fun(Server) ->
        Client = fresh(Server),
        expect(440, allocate(Client, [?RAF6])),
        success(allocate(Client, [?RAF4]))
    end).

-spec t20_no_ipv4_relay(turn_kit:config()) -> _.
t20_no_ipv4_relay(_Config) ->
    doc("no family asked for, or IPv4, of a server without IPv4: 440 (RFC 8656 7.2 (7))"),
    with_server(v6_only(), fun(Server) ->
        Client = fresh(Server),
        expect(440, allocate(Client)),
        expect(440, allocate(Client, [?RAF4])),
        success(allocate(Client, [?RAF6]))
    end).

-spec t21_even_port_and_both_families(turn_kit:config()) -> _.
t21_even_port_and_both_families(Config) ->
    doc("EVEN-PORT with R=1 and ADDITIONAL-ADDRESS-FAMILY: 400; R=0 is fine "
        "(RFC 8656 7.2 (8))"),
    Client = fresh(server(Config)),
    expect(400, allocate(Client, [{even_port, true}, ?BOTH])),
    Answer = success(allocate(Client, [{even_port, false}, ?BOTH])),
    [?assertEqual(0, Port rem 2) || {_, Port} <- get_all(xor_relayed_address, Answer)].

-spec t21_no_even_port(turn_kit:config()) -> _.
t21_no_even_port(_Config) ->
    doc("no port fits EVEN-PORT: 508 (RFC 8656 7.2 (8))"),
    Even = turn_kit:free_ports(2),
    with_server(ports(Even + 1, Even + 1), fun(Server) ->
        Client = fresh(Server),
        [expect(508, allocate(Client, [{even_port, R}])) || R <- [true, false]],
        ?assertEqual(Even + 1, relayed_port(allocate(Client)))
    end),
    with_server(ports(Even, Even), fun(Server) ->
        Client = fresh(Server),
        expect(508, allocate(Client, [{even_port, true}])),
        Answer = success(allocate(Client, [{even_port, false}])),
        ?assertEqual(Even, relayed_port(Answer)),
        ?assertEqual(undefined, get(reservation_token, Answer))
    end).

-spec t22_additional_family_not_ipv6(turn_kit:config()) -> _.
t22_additional_family_not_ipv6(Config) ->
    doc("ADDITIONAL-ADDRESS-FAMILY may only be IPv6: 400 (RFC 8656 7.2 (9), 18.11)"),
    Client = fresh(server(Config)),
    expect(400, allocate(Client, [{additional_address_family, 1}])),
    expect(400, allocate(Client, [{additional_address_family, {raw, <<2>>}}])),
    success(allocate(Client, [?BOTH])).

-spec t22_both_families(turn_kit:config()) -> _.
t22_both_families(Config) ->
    doc("one allocation with an IPv4 and an IPv6 address, both of use (RFC 8656 7.2 (9))"),
    Server = server(Config),
    [begin
         #{answer := Answer} = Client = allocated(Server, [?BOTH], Options),
         [{{127, 0, 0, 1}, _} = V4, {?V6, _} = V6] =
             lists:sort(fun({A, _}, {B, _}) -> tuple_size(A) < tuple_size(B) end,
                        get_all(xor_relayed_address, Answer)),
         ?assertEqual(undefined, get(address_error_code, Answer)),
         Peer4 = peer(),
         Peer6 = peer(?V6),
         success(permit(Client, [Peer4, Peer6])),
         [begin
              send_to(Client, Peer, <<"there">>),
              ?assertEqual({Relayed, <<"there">>}, peer_next(Peer)),
              peer_send(Peer, Relayed, <<"back">>),
              ?assertEqual({maps:get(address, Peer), <<"back">>}, data(Client))
          end || {Peer, Relayed} <- [{Peer4, V4}, {Peer6, V6}]]
     end || Options <- [#{}, #{family => v6}]].

-spec t22_one_family_missing(turn_kit:config()) -> _.
t22_one_family_missing(_Config) ->
    doc("only one of both to be had: success with ADDRESS-ERROR-CODE 440 for the other; where "
        "IPv4 is missing (7) allows a plain 440 too (RFC 8656 7.2 (7), (9))"),
    with_server(v4_only(), fun(Server) ->
        Answer = success(allocate(fresh(Server), [?BOTH])),
        ?assertMatch([{{127, 0, 0, 1}, _}], get_all(xor_relayed_address, Answer)),
        ?assertMatch({2, 440, _}, get(address_error_code, Answer))
    end),
    with_server(v6_only(), fun(Server) ->
        Answer = allocate(fresh(Server), [?BOTH]),
        case code(Answer) of
            success ->
                ?assertMatch([{?V6, _}], get_all(xor_relayed_address, Answer)),
                ?assertMatch({1, 440, _}, get(address_error_code, Answer));
            Code ->
                ?assertEqual(440, Code)
        end
    end).

-spec t22_ports_of_one_family_used_up(turn_kit:config()) -> _.
t22_ports_of_one_family_used_up(_Config) ->
    doc("ports of one family used up: success with ADDRESS-ERROR-CODE 508; of both: 508 "
        "(RFC 8656 7.2 (9))"),
    Port = turn_kit:free_ports(2),
    with_server(ports(Port, Port + 1, Port, Port), fun(Server) ->
        First = allocated(Server, [?RAF6]),
        Answer = success(allocate(fresh(Server), [?BOTH])),
        ?assertMatch([{{127, 0, 0, 1}, _}], get_all(xor_relayed_address, Answer)),
        ?assertMatch({2, 508, _}, get(address_error_code, Answer)),
        _ = allocated(Server),
        Late = fresh(Server),
        expect(508, allocate(Late, [?BOTH])),
        delete(First),
        Other = success(turn_kit:allocate_soon(Late, [?BOTH])),
        ?assertMatch([{?V6, _}], get_all(xor_relayed_address, Other)),
        ?assertMatch({1, 508, _}, get(address_error_code, Other))
    end).

-spec t25_new_allocation_is_empty(turn_kit:config()) -> _.
t25_new_allocation_is_empty(Config) ->
    doc("a new allocation has neither permissions nor channels of the one before "
        "(RFC 8656 7.2)"),
    {Client, #{address := Address} = Peer} = pair(Config),
    success(bind(Client, 16#4000, Peer)),
    delete(Client),
    Answer = success(allocate(Client)),
    Again = Client#{relayed => get(xor_relayed_address, Answer)},
    dropped(Again, no_permission,
            request(indication, send, [{xor_peer_address, Address}, {data, <<"x">>}])),
    dropped(Again, no_channel, stun_model:encode_channel(16#4000, <<"x">>)),
    success(bind(Again, 16#4001, Peer)),
    peer_same(Again, Peer).

-spec t26_token_at_another_listener(turn_kit:config()) -> _.
t26_token_at_another_listener(_Config) ->
    doc("a reservation can be redeemed from anywhere and at any listener (RFC 8656 7.2)"),
    Listeners = [#{transport => udp, ip => Ip, port => 0}
                 || Ip <- [{127, 0, 0, 1}, {127, 0, 0, 1}, ?V6]],
    with_server(#{listeners => Listeners}, fun(#{listeners := [A, B, C]} = Server) ->
        [begin
             #{answer := Answer, relayed := {Ip, Port}} = allocated(Server, [{even_port, true}],
                                                                    #{to => A}),
             Token = {reservation_token, get(reservation_token, Answer)},
             #{relayed := Next} = allocated(Server, [Token], #{to => Other}),
             ?assertEqual({Ip, Port + 1}, Next)
         end || Other <- [B, C, A]]
    end).

-spec t26_token_with_fresh_credentials(turn_kit:config()) -> _.
t26_token_with_fresh_credentials(_Config) ->
    doc("a reservation is the person's: other credentials of theirs redeem it, others' do not "
        "(RFC 8656 7.2)"),
    with_server(#{}, fun(#{secret := Secret} = Server) ->
        Who = fun(Name, Ttl) ->
            {User, Password} = meerkat_auth_rest:credentials(Secret, Name, Ttl,
                                                             os:system_time(second)),
            #{user => User, password => Password}
        end,
        #{answer := Answer, relayed := {Ip, Port}} =
            allocated(Server, [{even_port, true}], Who(<<"alice">>, 100)),
        Token = {reservation_token, get(reservation_token, Answer)},
        expect(508, allocate(challenged(open(Server, Who(<<"bob">>, 100))), [Token])),
        #{relayed := Next} = allocated(Server, [Token], Who(<<"alice">>, 200)),
        ?assertEqual({Ip, Port + 1}, Next)
    end).

-spec t27_even_port(turn_kit:config()) -> _.
t27_even_port(Config) ->
    doc("EVEN-PORT: an even port; with R=1 the next one is held and a token names it "
        "(RFC 8656 7.2)"),
    Server = server(Config),
    [begin
         Plain = success(allocate(fresh(Server), [{even_port, false}, Family])),
         ?assertEqual(0, relayed_port(Plain) rem 2),
         ?assertEqual(undefined, get(reservation_token, Plain)),
         Holding = success(allocate(fresh(Server), [{even_port, true}, Family])),
         ?assertEqual(0, relayed_port(Holding) rem 2),
         Token = get(reservation_token, Holding),
         ?assertEqual(relayed_port(Holding) + 1,
                      relayed_port(allocate(fresh(Server), [{reservation_token, Token}])))
     end || _ <- lists:seq(1, 8), Family <- [?RAF4, ?RAF6]].

-spec t27_reserved_port_is_held(turn_kit:config()) -> _.
t27_reserved_port_is_held(_Config) ->
    doc("nobody else gets the port that is held (RFC 8656 7.2)"),
    Even = turn_kit:free_ports(2),
    with_server(ports(Even, Even + 1), fun(Server) ->
        #{answer := Answer} = allocated(Server, [{even_port, true}]),
        Client = fresh(Server),
        expect(508, allocate(Client)),
        expect(508, allocate(Client, [{even_port, false}])),
        Token = get(reservation_token, Answer),
        ?assertEqual(Even + 1, relayed_port(allocate(Client, [{reservation_token, Token}]))),
        expect(508, allocate(fresh(Server), [{reservation_token, Token}]))
    end).

-spec t28_ports(turn_kit:config()) -> _.
t28_ports(Config) ->
    doc("relayed ports: from the dynamic range, not one after the other (RFC 8656 7.2, "
        "RFC 6056)"),
    Server = server(Config),
    Ports = [relayed_port(allocate(fresh(Server))) || _ <- lists:seq(1, 12)],
    ?assertEqual([], [P || P <- Ports, P < 49152]),
    ?assertEqual(length(Ports), length(lists:usort(Ports))),
    Steps = lists:zipwith(fun(A, B) -> B - A end, lists:droplast(Ports), tl(Ports)),
    ?assert(length(lists:usort(Steps)) > 2).

-spec t28_range_used_up(turn_kit:config()) -> _.
t28_range_used_up(_Config) ->
    doc("no port left: 508; a port given back serves again (RFC 8656 7.2)"),
    First = turn_kit:free_ports(4),
    with_server(ports(First, First + 3), fun(Server) ->
        Clients = [allocated(Server) || _ <- lists:seq(1, 4)],
        ?assertEqual(lists:seq(First, First + 3),
                     lists:sort([Port || #{relayed := {_, Port}} <- Clients])),
        Late = fresh(Server),
        expect(508, allocate(Late)),
        [#{relayed := {_, Freed}} = One | _] = Clients,
        delete(One),
        ?assertEqual(Freed, relayed_port(turn_kit:allocate_soon(Late, [])))
    end).

-spec t28_allocations_used_up(turn_kit:config()) -> _.
t28_allocations_used_up(_Config) ->
    doc("no room for another allocation: 508 (or 486), and there is room again when one ends "
        "(RFC 8656 7.2)"),
    with_server(crowded(), fun(Server) ->
        Client = allocated(Server),
        Late = fresh(Server),
        expect([486, 508], allocate(Late)),
        success(call(Client, refresh, [])),
        delete(Client),
        success(turn_kit:allocate_soon(Late, []))
    end).

-spec t29_lifetime(turn_kit:config()) -> _.
t29_lifetime(Config) ->
    doc("LIFETIME is at least the default and at most the maximum (RFC 8656 7.2)"),
    Server = server(Config),
    [begin
         Answer = success(allocate(fresh(Server), [{lifetime, Asked}])),
         ?assertEqual({Asked, Given}, {Asked, get(lifetime, Answer)})
     end || {Asked, Given} <- lifetimes() ++ [{0, 600}]],
    expect(400, allocate(fresh(Server), [{lifetime, {raw, <<600:24>>}}])).

lifetimes() ->
    [{1, 600}, {599, 600}, {600, 600}, {601, 601}, {700, 700}, {3600, 3600}, {3601, 3600},
     {7200, 3600}, {16#FFFFFFFF, 3600}].

-spec t30_success(turn_kit:config()) -> _.
t30_success(Config) ->
    doc("a success has relayed and mapped address and lifetime, the token if there is one "
        "(RFC 8656 7.2)"),
    Server = server(Config),
    Always = [lifetime, message_integrity, xor_mapped_address, xor_relayed_address],
    [?assertEqual(lists:sort(More ++ Always), names(success(allocate(fresh(Server), Items))))
     || {Items, More} <- [{[], []}, {[{even_port, false}], []},
                          {[{even_port, true}], [reservation_token]},
                          {[{lifetime, 900}, {software, <<"client">>}], []},
                          {[?BOTH], [xor_relayed_address]}]].

-spec t31_retransmitted_allocate(turn_kit:config()) -> _.
t31_retransmitted_allocate(Config) ->
    doc("the same Allocate again: the same success, token included (RFC 8656 7.2)"),
    Client = fresh(server(Config)),
    Request = signed(Client, allocate, [udp(), {even_port, true}, {lifetime, 900}]),
    First = success(ask(Client, Request)),
    [begin
         Again = success(ask(Client, Request)),
         ?assertEqual(names(First), names(Again)),
         [?assertEqual(get(Name, First), get(Name, Again))
          || Name <- [xor_relayed_address, xor_mapped_address, reservation_token]],
         ?assert(get(lifetime, Again) =< get(lifetime, First))
     end || _ <- [1, 2]],
    expect(437, allocate(Client, [{even_port, true}])).

-spec t32_refresh_of_another_family(turn_kit:config()) -> _.
t32_refresh_of_another_family(Config) ->
    doc("a Refresh for a family the allocation does not have: 443 (RFC 8656 8.2)"),
    Server = server(Config),
    [begin
         Client = allocated(Server, [Own]),
         expect(443, call(Client, refresh, [Other])),
         expect(443, call(Client, refresh, [Other, {lifetime, 0}])),
         success(call(Client, refresh, [Own])),
         delete(Client)
     end || {Own, Other} <- [{?RAF4, ?RAF6}, {?RAF6, ?RAF4}]],
    Dual = allocated(Server, [?BOTH]),
    [success(call(Dual, refresh, [Family])) || Family <- [?RAF4, ?RAF6]].

-spec t33_refresh(turn_kit:config()) -> _.
t33_refresh(Config) ->
    doc("a Refresh is clamped like an Allocate and answered with LIFETIME alone "
        "(RFC 8656 8.2)"),
    Client = allocated(server(Config)),
    [begin
         Answer = success(call(Client, refresh, Items)),
         ?assertEqual({Items, Given}, {Items, get(lifetime, Answer)}),
         ?assertEqual([lifetime, message_integrity], names(Answer))
     end || {Items, Given} <- [{[], 600} | [{[{lifetime, A}], G} || {A, G} <- lifetimes()]]],
    expect(400, call(Client, refresh, [{lifetime, {raw, <<>>}}])).

-spec t33_refresh_zero(turn_kit:config()) -> _.
t33_refresh_zero(Config) ->
    doc("LIFETIME 0 ends the allocation, and a new one may follow at once (RFC 8656 8.2)"),
    {Client, #{address := Address} = Peer} = pair(Config),
    #{relayed := Relayed} = Client,
    success(bind(Client, 16#4000, Peer)),
    Answer = success(call(Client, refresh, [{lifetime, 0}])),
    ?assertEqual([lifetime, message_integrity], names(Answer)),
    ?assertEqual(0, get(lifetime, Answer)),
    expect(437, call(Client, refresh, [])),
    expect(437, permit(Client, [Peer])),
    dropped(Client, no_allocation, stun_model:encode_channel(16#4000, <<"late">>)),
    dropped(Client, no_allocation,
            request(indication, send, [{xor_peer_address, Address}, {data, <<"late">>}])),
    peer_send(Peer, Relayed, <<"late">>),
    success(allocate(Client)),
    fence(Client).

-spec t34_dual_one_family_deleted(turn_kit:config()) -> _.
t34_dual_one_family_deleted(Config) ->
    doc("deleting one family of a dual allocation leaves the other's permissions and channels; "
        "without a family both end (RFC 8656 8.1)"),
    [begin
         #{answer := Answer} = Client = allocated(server(Config), [?BOTH]),
         Relayed = maps:from_list([{tuple_size(Ip), {Ip, P}}
                                   || {Ip, P} <- get_all(xor_relayed_address, Answer)]),
         Gone = peer(GoneIp),
         Kept = peer(KeptIp),
         success(permit(Client, [Gone, Kept])),
         success(bind(Client, 16#4006, Gone)),
         success(bind(Client, 16#4007, Kept)),
         Deleted = success(call(Client, refresh, [Family, {lifetime, 0}])),
         ?assertEqual(0, get(lifetime, Deleted)),
         silent(Client, stun_model:encode_channel(16#4006, <<"dead">>)),
         silent(Client, request(indication, send, [{xor_peer_address, maps:get(address, Gone)},
                                                   {data, <<"dead">>}])),
         peer_send(Gone, maps:get(tuple_size(GoneIp), Relayed), <<"dead">>),
         fence(Client),
         channel(Client, 16#4007, <<"alive">>),
         KeptRelayed = maps:get(tuple_size(KeptIp), Relayed),
         ?assertEqual({KeptRelayed, <<"alive">>}, peer_next(Kept)),
         peer_send(Kept, KeptRelayed, <<"alive too">>),
         ?assertEqual({ok, 16#4007, <<"alive too">>}, stun_model:decode_channel(next(Client))),
         expect(443, permit(Client, [Gone])),
         expect(443, call(Client, refresh, [Family])),
         delete(Client),
         expect(437, call(Client, refresh, [])),
         _ = turn_kit:close(Gone)
     end || {Family, GoneIp, KeptIp} <- [{?RAF6, ?V6, {127, 0, 0, 1}},
                                         {?RAF4, {127, 0, 0, 1}, ?V6}]].

-spec t34_dual_deleted(turn_kit:config()) -> _.
t34_dual_deleted(Config) ->
    doc("a Refresh 0 without a family ends both (RFC 8656 8.1)"),
    Client = allocated(server(Config), [?BOTH]),
    delete(Client),
    expect(437, call(Client, refresh, [?RAF4])),
    expect(437, call(Client, refresh, [?RAF6])).

%% ------------------------------------------------------------------------- 9, 10: permissions

-spec t35_permission_is_for_an_address(turn_kit:config()) -> _.
t35_permission_is_for_an_address(Config) ->
    doc("a permission is for an IP address and all its ports, no other address (RFC 8656 9)"),
    {#{relayed := Relayed} = Client, Peer} = pair(Config),
    Neighbour = peer(),
    Stranger = peer({127, 0, 0, 2}),
    unheard(Client, Stranger, Relayed, <<"who">>),
    peer_send(Neighbour, Relayed, <<"next door">>),
    ?assertEqual({maps:get(address, Neighbour), <<"next door">>}, data(Client)),
    peer_send(Peer, Relayed, <<"home">>),
    ?assertEqual({maps:get(address, Peer), <<"home">>}, data(Client)),
    counted(server(Config), no_permission, fun() ->
        send_to(Client, Stranger, <<"hello">>),
        fence(Client)
    end),
    success(permit(Client, [Stranger])),
    peer_same(Client, Stranger).

-spec t35_permission_is_of_an_allocation(turn_kit:config()) -> _.
t35_permission_is_of_an_allocation(Config) ->
    doc("a permission of one allocation says nothing in another (RFC 8656 9)"),
    {_, #{address := Address} = Peer} = pair(Config),
    #{relayed := Relayed} = Other = allocated(server(Config)),
    unheard(Other, Peer, Relayed, <<"wrong door">>),
    dropped(Other, no_permission,
            request(indication, send, [{xor_peer_address, Address}, {data, <<"x">>}])),
    success(permit(Other, [Peer])),
    peer_same(Other, Peer).

-spec t36_permission_needs_an_address(turn_kit:config()) -> _.
t36_permission_needs_an_address(Config) ->
    doc("CreatePermission without XOR-PEER-ADDRESS, or with an invalid one: 400 "
        "(RFC 8656 10.2)"),
    Client = allocated(server(Config)),
    #{address := Address} = Peer = peer(),
    expect(400, call(Client, create_permission, [])),
    Bad = [<<>>, <<0, 1, 0, 9>>, <<0, 1, 0, 9, 1, 2, 3>>, <<0, 1, 0, 9, 1, 2, 3, 4, 5>>,
           <<0, 2, 0, 9, 1, 2, 3, 4>>, <<0, 0, 0, 9, 1, 2, 3, 4>>, <<0, 3, 0, 9, 1, 2, 3, 4>>,
           <<0, 1, 0, 9, 0:128>>],
    [expect(400, call(Client, create_permission, Items))
     || B <- Bad,
        Items <- [[{xor_peer_address, {raw, B}}],
                  [{xor_peer_address, Address}, {xor_peer_address, {raw, B}}],
                  [{xor_peer_address, {raw, B}}, {xor_peer_address, Address}]]],
    dropped(Client, no_permission,
            request(indication, send, [{xor_peer_address, Address}, {data, <<"x">>}])),
    success(permit(Client, [Peer])),
    peer_same(Client, Peer).

-spec t36_several_at_once(turn_kit:config()) -> _.
t36_several_at_once(Config) ->
    doc("several addresses in one CreatePermission, ports ignored; a success carries nothing "
        "(RFC 8656 10.2)"),
    Client = allocated(server(Config)),
    Peers = [peer({127, 0, 0, N}) || N <- lists:seq(1, 5)],
    Answer = success(permit(Client, [{Ip, N} || {N, #{address := {Ip, _}}}
                                                    <- lists:zip([0, 1, 7, 80, 65535], Peers)])),
    ?assertEqual([message_integrity], names(Answer)),
    [peer_same(Client, Peer) || Peer <- Peers],
    success(permit(Client, Peers ++ Peers)).

-spec t36_too_many(turn_kit:config()) -> _.
t36_too_many(_Config) ->
    doc("more permissions than there is room for: 508, and those there are stay "
        "(RFC 8656 10.2)"),
    with_server(crowded(), fun(Server) ->
        Client = allocated(Server),
        Peer = peer(),
        success(permit(Client, [Peer])),
        N = room(fun(I) -> permit(Client, [{{127, 0, 1, I}, 9}]) end),
        ?assert(N >= 3),
        expect(508, permit(Client, [{{127, 0, 2, 1}, 9}, {{127, 0, 2, 2}, 9}])),
        expect(508, bind(Client, 16#4000, {{127, 0, 2, 3}, 9})),
        success(permit(Client, [Peer, {{127, 0, 1, 1}, 9}])),
        peer_same(Client, Peer)
    end).

%% Room for one allocation and, on average, four peers.
crowded() -> #{workers => 1, max_allocations => 1, max_permissions => 4}.

%% How often Fun succeeds before it is answered 508.
room(Fun) -> room(Fun, 0).

room(Fun, N) when N < 250 ->
    case code(Fun(N + 1)) of
        success -> room(Fun, N + 1);
        508 -> N
    end.

-spec t36_another_family(turn_kit:config()) -> _.
t36_another_family(Config) ->
    doc("an address of a family the allocation has not: 443, none of the others permitted "
        "(RFC 8656 10.2)"),
    Server = server(Config),
    [begin
         Client = allocated(Server, [Family]),
         #{address := Address} = Peer = peer(Ip),
         expect(443, permit(Client, [{Other, 0}])),
         expect(443, permit(Client, [Peer, {Other, 0}])),
         dropped(Client, no_permission,
                 request(indication, send, [{xor_peer_address, Address}, {data, <<"x">>}])),
         success(permit(Client, [Peer])),
         peer_same(Client, Peer)
     end || {Family, Ip, Other} <- [{?RAF4, {127, 0, 0, 1}, ?V6},
                                    {?RAF6, ?V6, {127, 0, 0, 1}}]].

-spec t36_forbidden(turn_kit:config()) -> _.
t36_forbidden(Config) ->
    doc("an address the policy denies: 403, none of the others permitted (RFC 8656 10.2)"),
    Client = allocated(server(Config)),
    #{address := Address} = Peer = peer(),
    Answer = expect(403, permit(Client, [{{10, 0, 0, 1}, 0}])),
    ?assertEqual([error_code, message_integrity], names(Answer)),
    expect(403, permit(Client, [Peer, {{224, 0, 0, 1}, 0}])),
    expect(403, permit(Client, [{{0, 0, 0, 0}, 0}, Peer])),
    dropped(Client, no_permission,
            request(indication, send, [{xor_peer_address, Address}, {data, <<"x">>}])),
    success(permit(Client, [Peer])),
    peer_same(Client, Peer).

%% ----------------------------------------------------------------------- 11: Send and Data

-spec t37_send(turn_kit:config()) -> _.
t37_send(Config) ->
    doc("what Send carries arrives at the peer as it is, from the relayed address "
        "(RFC 8656 11.2)"),
    [begin
         {#{relayed := Relayed} = Client, Peer} = pair(Config, Items, Ip),
         [begin
              Data = crypto:strong_rand_bytes(Size),
              send_to(Client, Peer, Data),
              ?assertEqual({Relayed, Data}, peer_next(Peer))
          end || Size <- [0, 1, 2, 3, 4, 5, 500, 1200, 1400]]
     end || {Items, Ip} <- [{[], {127, 0, 0, 1}}, {[?RAF6], ?V6}]].

-spec t37_send_from_ipv6_client(turn_kit:config()) -> _.
t37_send_from_ipv6_client(Config) ->
    doc("client and peer may be of different families (RFC 8656 5, 11.2)"),
    Server = server(Config),
    [begin
         #{relayed := Relayed} = Client = allocated(Server, Items, #{family => v6}),
         Peer = peer(Ip),
         success(permit(Client, [Peer])),
         send_to(Client, Peer, <<"across">>),
         ?assertEqual({Relayed, <<"across">>}, peer_next(Peer)),
         peer_send(Peer, Relayed, <<"and back">>),
         ?assertEqual({maps:get(address, Peer), <<"and back">>}, data(Client)),
         success(bind(Client, 16#4FFF, Peer)),
         channel(Client, 16#4FFF, <<"by channel">>),
         ?assertEqual({Relayed, <<"by channel">>}, peer_next(Peer)),
         peer_send(Peer, Relayed, <<"likewise">>),
         ?assertEqual(<<16#4FFF:16, 8:16, "likewise">>, next(Client))
     end || {Items, Ip} <- [{[], {127, 0, 0, 1}}, {[?RAF6], ?V6}]].

-spec t37_send_incomplete(turn_kit:config()) -> _.
t37_send_incomplete(Config) ->
    doc("Send without XOR-PEER-ADDRESS or DATA, or with them malformed: dropped "
        "(RFC 8656 11.2)"),
    {Client, #{address := Address} = Peer} = pair(Config),
    [dropped(Client, bad_indication, request(indication, send, Items))
     || Items <- [[], [{data, <<"x">>}], [{xor_peer_address, Address}],
                  [{xor_peer_address, {raw, <<0, 1, 2, 3>>}}, {data, <<"x">>}],
                  [{xor_peer_address, {raw, <<0, 2, 2, 3, 127, 0, 0, 1>>}}, {data, <<"x">>}],
                  [{xor_peer_address, {raw, <<>>}}, {data, <<"x">>}]]],
    peer_same(Client, Peer).

-spec t37_send_without_permission(turn_kit:config()) -> _.
t37_send_without_permission(Config) ->
    doc("Send without permission, or to an address that is denied: dropped (RFC 8656 11.2)"),
    {Client, Peer} = pair(Config),
    #{address := Address} = Stranger = peer({127, 0, 0, 2}),
    To = fun(A) -> request(indication, send, [{xor_peer_address, A}, {data, <<"x">>}]) end,
    dropped(Client, no_permission, To(Address)),
    [silent(Client, To({Ip, 9})) || Ip <- [{10, 0, 0, 1}, {0, 0, 0, 0}, {255, 255, 255, 255}]],
    silent(Client, To({?V6, 9})),
    peer_same(Client, Peer),
    success(permit(Client, [Stranger])),
    peer_same(Client, Stranger).

-spec t37_relay_to_relay(turn_kit:config()) -> _.
t37_relay_to_relay(Config) ->
    doc("two clients of one server talk through both their relayed addresses (RFC 8656 2.3)"),
    Server = server(Config),
    [begin
         #{relayed := A} = Alice = allocated(Server, [Family]),
         #{relayed := B} = Bob = allocated(Server, [Family], #{user => <<"bob">>}),
         success(permit(Alice, [B])),
         success(permit(Bob, [A])),
         send_to(Alice, B, <<"hello bob">>),
         ?assertEqual({A, <<"hello bob">>}, data(Bob)),
         success(bind(Bob, 16#4000, A)),
         channel(Bob, 16#4000, <<"hello alice">>),
         ?assertEqual({B, <<"hello alice">>}, data(Alice))
     end || Family <- [?RAF4, ?RAF6]].

-spec t37_whole_or_not_at_all(turn_kit:config()) -> _.
t37_whole_or_not_at_all(Config) ->
    doc("with DONT-FRAGMENT a datagram goes out with DF set, or, too long for the link, not at "
        "all and is reported as such with the MTU; without it, in pieces (RFC 8656 11.2, 11.5)"),
    narrow(Config, fun(Netns, Server) ->
        #{relayed := Relayed} = Client = allocated(Server, [], #{netns => Netns}),
        #{address := Address} = Peer = peer({127, 0, 0, 1}, #{netns => Netns}),
        success(permit(Client, [Peer])),
        Sniffer = sniffer(Netns),
        Send = fun(Size, More) ->
            Data = binary:copy(<<"d">>, Size),
            send_indication(Client, [{xor_peer_address, Address}, {data, Data} | More]),
            Data
        end,
        Whole = Send(1000, [{dont_fragment, true}]),
        ?assertEqual({Relayed, Whole}, peer_next(Peer)),
        ?assertMatch(#{df := 1}, seen(Sniffer, Relayed, Address)),
        _ = Send(1473, [{dont_fragment, true}]),
        ?assertEqual({Address, {3, 4, 1500}}, icmp(Client)),
        Last = Send(1472, [{dont_fragment, true}]),
        ?assertEqual({Relayed, Last}, peer_next(Peer)),
        ?assertMatch(#{df := 1}, seen(Sniffer, Relayed, Address)),
        Pieces = Send(4000, []),
        ?assertEqual({Relayed, Pieces}, peer_next(Peer)),
        ?assertMatch(#{df := 0}, seen(Sniffer, Relayed, Address)),
        fence(Client)
    end).

-spec t38_data_indication(turn_kit:config()) -> _.
t38_data_indication(Config) ->
    doc("a peer's datagram comes as Data with its address and bytes, nothing more "
        "(RFC 8656 11.3)"),
    [begin
         {#{relayed := Relayed} = Client, #{address := Address} = Peer} = pair(Config, Items, Ip),
         [begin
              Data = crypto:strong_rand_bytes(Size),
              peer_send(Peer, Relayed, Data),
              ?assertEqual({Address, Data}, data(Client))
          end || Size <- [0, 1, 2, 3, 4, 5, 500, 1200, 1400]]
     end || {Items, Ip} <- [{[], {127, 0, 0, 1}}, {[?RAF6], ?V6}]].

-spec t38_data_bytes(turn_kit:config()) -> _.
t38_data_bytes(Config) ->
    doc("the type of a Data indication is 0x0017, its ids differ (RFC 8656 17, RFC 8489 5)"),
    {#{relayed := Relayed} = Client, Peer} = pair(Config),
    Ids = [begin
               peer_send(Peer, Relayed, <<"abcde">>),
               <<16#0017:16, 24:16, 16#2112A442:32, Txid:12/binary, _:24/binary>> = next(Client),
               Txid
           end || _ <- lists:seq(1, 4)],
    ?assertEqual(4, length(lists:usort(Ids))).

-spec t38_channel_when_bound(turn_kit:config()) -> _.
t38_channel_when_bound(Config) ->
    doc("once a channel is bound to the peer its datagrams come as ChannelData "
        "(RFC 8656 11.3, 12.7)"),
    {#{relayed := Relayed} = Client, Peer} = pair(Config),
    success(bind(Client, 16#4123, Peer)),
    peer_send(Peer, Relayed, <<"abc">>),
    ?assertEqual(<<16#4123:16, 3:16, "abc">>, next(Client)),
    send_to(Client, Peer, <<"Send still works">>),
    ?assertEqual({Relayed, <<"Send still works">>}, peer_next(Peer)).

%% -------------------------------------------------------------------------------- 11.5: ICMP

%% The next datagram, a Data indication that tells of an ICMP message and carries no data.
icmp(Client) ->
    {ok, #{class := indication, method := data, attributes := Attributes}} =
        stun_model:decode(next(Client)),
    [{icmp, Icmp}, {xor_peer_address, Peer}] = lists:sort(Attributes),
    {Peer, Icmp}.

%% A peer's address nobody listens at any more.
closed(Ip) ->
    #{address := Address} = Peer = peer(Ip),
    turn_kit:close(Peer),
    Address.

-spec t39_closed_port(turn_kit:config()) -> _.
t39_closed_port(Config) ->
    doc("port unreachable, from a peer that is permitted: a Data indication with its address and "
        "the ICMP attribute, with a channel bound too; the allocation goes on (RFC 8656 11.5)"),
    Server = server(Config),
    [begin
         Client = allocated(Server, [Family]),
         {Ip, Port} = Closed = closed(PeerIp),
         success(permit(Client, [Closed])),
         send_to(Client, Closed, <<"anybody home">>),
         ?assertEqual({Closed, {Type, Code, 0}}, icmp(Client)),
         success(bind(Client, 16#4000, Closed)),
         channel(Client, 16#4000, <<"anybody home">>),
         ?assertEqual({Closed, {Type, Code, 0}}, icmp(Client)),
         %% X29: what was refused once is not refused for ever.
         {ok, Socket} = gen_udp:open(Port, [binary, {ip, Ip}, {active, true}
                                            | [inet6 || tuple_size(Ip) =:= 8]]),
         channel(Client, 16#4000, <<"back again">>),
         ?assertMatch({_, <<"back again">>}, peer_next(#{socket => Socket, address => Closed})),
         success(call(Client, refresh, []))
     end || {Family, PeerIp, Type, Code} <- [{?RAF4, {127, 0, 0, 1}, 3, 3}, {?RAF6, ?V6, 1, 4}]].

-spec t39_whoever_sent_it(turn_kit:config()) -> _.
t39_whoever_sent_it(Config) ->
    doc("who an ICMP message comes from does not matter, only whom the datagram in it was meant "
        "for: without permission nothing is reported (RFC 8656 11.5)"),
    Server = server(Config),
    {#{relayed := Relayed} = Client, #{address := Address} = Peer} = pair(Config),
    Router = router(),
    [begin
         forge(Router, Type, Code, Rest, Relayed, Address),
         ?assertEqual({Address, {Type, Code, Expected}}, icmp(Client))
     end || {Type, Code, Rest, Expected} <- [{11, 0, 0, 0}, {11, 0, 16#12345678, 0}, {3, 1, 0, 0},
                                             {3, 4, 1280, 1280}]],
    counted(Server, no_permission, fun() ->
        forge(Router, 3, 3, 0, Relayed, {{127, 0, 0, 77}, 9})
    end),
    fence(Client),
    peer_same(Client, Peer).

-spec t39_other_types(turn_kit:config()) -> _.
t39_other_types(Config) ->
    doc("of ICMP only types 3 and 11 are reported, and only of UDP (RFC 8656 11.5)"),
    {#{relayed := Relayed} = Client, #{address := Address} = Peer} = pair(Config),
    Router = router(),
    [forge(Router, Type, 0, 0, Relayed, Address) || Type <- [4, 12]],
    forge(Router, 3, 3, 0, 6, Relayed, Address),
    forge(Router, 11, 0, 0, Relayed, Address),
    ?assertEqual({Address, {11, 0, 0}}, icmp(Client)),
    fence(Client),
    peer_same(Client, Peer).

%% Somebody else's address, to send ICMP messages from.
router() ->
    case socket:open(inet, raw, icmp) of
        {ok, Socket} ->
            ok = socket:bind(Socket, #{family => inet, addr => {127, 0, 0, 9}, port => 0}),
            Socket;
        {error, _} ->
            throw({skip, "only root may send ICMP"})
    end.

forge(Router, Type, Code, Rest, From, To) -> forge(Router, Type, Code, Rest, 17, From, To).

%% The message that a datagram From one address To another, of that protocol, would have earned.
forge(Router, Type, Code, Rest, Protocol, {FromIp, FromPort}, {ToIp, ToPort}) ->
    Ip = checked_sum(fun(Sum) -> <<16#4500:16, 28:16, 1:16, 0:16, 64, Protocol, Sum:16,
                                   (ip4(FromIp))/binary, (ip4(ToIp))/binary>> end),
    Message = checked_sum(fun(Sum) -> <<Type, Code, Sum:16, Rest:32, Ip/binary, FromPort:16,
                                        ToPort:16, 8:16, 0:16>> end),
    ok = socket:sendto(Router, Message, #{family => inet, addr => FromIp, port => 0}).

ip4({A, B, C, D}) -> <<A, B, C, D>>.

%% RFC 1071
checked_sum(Make) ->
    Sum = lists:sum([Word || <<Word:16>> <= Make(0)]),
    Folded = (Sum band 16#FFFF) + (Sum bsr 16),
    Make(bnot (Folded + (Folded bsr 16)) band 16#FFFF).

%% ----------------------------------------------------------------------------- 12: channels

-spec t40_first_byte(turn_kit:config()) -> _.
t40_first_byte(Config) ->
    doc("first bytes that are neither STUN nor ChannelData are dropped (RFC 8656 12)"),
    {Client, Peer} = pair(Config),
    success(bind(Client, 16#4000, Peer)),
    [dropped(Client, not_stun, <<First, 0, 0, 4, "data">>)
     || First <- [4, 16, 19, 20, 63, 128, 191, 192, 255]],
    channel(Client, 16#4000, <<"after">>),
    ?assertMatch({_, <<"after">>}, peer_next(Peer)).

-spec t41_channel_range(turn_kit:config()) -> _.
t41_channel_range(Config) ->
    doc("channels are 0x4000 to 0x4FFF, else 400 (RFC 8656 12.2)"),
    Client = allocated(server(Config)),
    Peer = peer(),
    [expect(400, bind(Client, Number, Peer))
     || Number <- [0, 1, 16#3FFF, 16#5000, 16#7FFF, 16#8000, 16#FFFF]],
    success(bind(Client, 16#4000, Peer)),
    success(bind(Client, 16#4FFF, peer())).

-spec t41_wide_channel_range(turn_kit:config()) -> _.
t41_wide_channel_range(_Config) ->
    doc("where the numbers of RFC 5766 are allowed: 0x4000 to 0x7FFF (RFC 5766 11)"),
    with_server(#{rfc5766_channel_numbers => true}, fun(Server) ->
        #{relayed := Relayed} = Client = allocated(Server),
        [begin
             Peer = peer(),
             success(bind(Client, Number, Peer)),
             channel(Client, Number, <<"wide">>),
             ?assertEqual({Relayed, <<"wide">>}, peer_next(Peer)),
             peer_send(Peer, Relayed, <<"back">>),
             ?assertEqual(<<Number:16, 4:16, "back">>, next(Client))
         end || Number <- [16#4000, 16#5000, 16#6FD2, 16#7FFF]],
        [expect(400, bind(Client, Number, peer())) || Number <- [16#3FFF, 16#8000]]
    end).

-spec t41_incomplete(turn_kit:config()) -> _.
t41_incomplete(Config) ->
    doc("ChannelBind without number or address, or with them malformed: 400 (RFC 8656 12.2)"),
    Client = allocated(server(Config)),
    #{address := Address} = peer(),
    Number = {channel_number, 16#4000},
    [expect(400, call(Client, channel_bind, Items))
     || Items <- [[], [Number], [{xor_peer_address, Address}],
                  [Number, {xor_peer_address, {raw, <<0, 1, 0, 9, 1, 2, 3>>}}],
                  [{channel_number, {raw, <<16#4000:16>>}}, {xor_peer_address, Address}],
                  [{channel_number, {raw, <<16#4000:16, 0:32>>}}, {xor_peer_address, Address}]]],
    dropped(Client, no_channel, stun_model:encode_channel(16#4000, <<"x">>)).

-spec t41_conflicts(turn_kit:config()) -> _.
t41_conflicts(Config) ->
    doc("one number, one peer: what contradicts is 400, the old binding stays, the same again "
        "is fine (RFC 8656 12.2)"),
    Client = allocated(server(Config)),
    [A, B] = [peer(), peer()],
    Answer = success(bind(Client, 16#4001, A)),
    ?assertEqual([message_integrity], names(Answer)),
    expect(400, bind(Client, 16#4001, B)),
    expect(400, bind(Client, 16#4002, A)),
    success(bind(Client, 16#4001, A)),
    success(bind(Client, 16#4002, B)),
    [begin
         channel(Client, Number, <<"to you">>),
         ?assertMatch({_, <<"to you">>}, peer_next(Peer))
     end || {Number, Peer} <- [{16#4001, A}, {16#4002, B}]].

-spec t41_installs_permission(turn_kit:config()) -> _.
t41_installs_permission(Config) ->
    doc("ChannelBind installs the permission too (RFC 8656 12.2)"),
    #{relayed := Relayed} = Client = allocated(server(Config)),
    Peer = peer(),
    success(bind(Client, 16#4000, Peer)),
    peer_same(Client, Peer),
    Neighbour = peer(),
    peer_send(Neighbour, Relayed, <<"same address">>),
    ?assertEqual({maps:get(address, Neighbour), <<"same address">>}, data(Client)).

-spec t41_family_and_policy(turn_kit:config()) -> _.
t41_family_and_policy(Config) ->
    doc("a peer of another family: 443; a denied one: 403 (RFC 8656 12.2)"),
    Server = server(Config),
    V4 = allocated(Server, [?RAF4]),
    expect(443, bind(V4, 16#4000, {?V6, 9})),
    expect(403, bind(V4, 16#4000, {{10, 0, 0, 1}, 9})),
    V6 = allocated(Server, [?RAF6]),
    expect(443, bind(V6, 16#4000, {{127, 0, 0, 1}, 9})),
    expect(403, bind(V6, 16#4000, {{16#FE80, 0, 0, 0, 0, 0, 0, 1}, 9})),
    [dropped(C, no_channel, stun_model:encode_channel(16#4000, <<"x">>)) || C <- [V4, V6]].

-spec t41_too_many(turn_kit:config()) -> _.
t41_too_many(_Config) ->
    doc("more channels than there is room for: 508, and those there are stay (RFC 8656 12.2)"),
    with_server(crowded(), fun(Server) ->
        Client = allocated(Server),
        Peer = peer(),
        success(bind(Client, 16#4000, Peer)),
        N = room(fun(I) -> bind(Client, 16#4000 + I, {{127, 0, 1, I}, 9}) end),
        ?assert(N >= 1),
        success(bind(Client, 16#4000, Peer)),
        channel(Client, 16#4000, <<"still">>),
        ?assertMatch({_, <<"still">>}, peer_next(Peer))
    end).

-spec t42_no_padding_from_server(turn_kit:config()) -> _.
t42_no_padding_from_server(Config) ->
    doc("over UDP ChannelData from the server is not padded, that to it may be "
        "(RFC 8656 12.5)"),
    {#{relayed := Relayed} = Client, Peer} = pair(Config),
    success(bind(Client, 16#4000, Peer)),
    [begin
         Data = crypto:strong_rand_bytes(Size),
         peer_send(Peer, Relayed, Data),
         ?assertEqual(<<16#4000:16, Size:16, Data/binary>>, next(Client)),
         send(Client, <<16#4000:16, Size:16, Data/binary, 0:(8 * ((4 - Size rem 4) rem 4))>>),
         ?assertEqual({Relayed, Data}, peer_next(Peer)),
         channel(Client, 16#4000, Data),
         ?assertEqual({Relayed, Data}, peer_next(Peer))
     end || Size <- [0, 1, 2, 3, 4, 5, 500, 1200, 1400]].

-spec t43_bad_channel_data(turn_kit:config()) -> _.
t43_bad_channel_data(Config) ->
    doc("ChannelData that is short, unbound or of a reserved number is dropped "
        "(RFC 8656 12.6)"),
    {Client, Peer} = pair(Config),
    success(bind(Client, 16#4000, Peer)),
    [dropped(Client, bad_channel, Bytes)
     || Bytes <- [<<16#40>>, <<16#4000:16>>, <<16#4000:16, 0>>, <<16#4000:16, 1:16>>,
                  <<16#4000:16, 5:16, "data">>, <<16#4000:16, 16#FFFF:16, "data">>]],
    dropped(Client, no_channel, stun_model:encode_channel(16#4001, <<"data">>)),
    [dropped(Client, bad_channel, stun_model:encode_channel(Number, <<"data">>))
     || Number <- [16#5000, 16#5FFF, 16#7FFF]],
    channel(Client, 16#4000, <<>>),
    ?assertMatch({_, <<>>}, peer_next(Peer)),
    channel(Client, 16#4000, <<"after">>),
    ?assertMatch({_, <<"after">>}, peer_next(Peer)).

-spec t43_channel_is_of_an_allocation(turn_kit:config()) -> _.
t43_channel_is_of_an_allocation(Config) ->
    doc("the same number and peer in two allocations are two channels (RFC 8656 12)"),
    Server = server(Config),
    Peer = peer(),
    Clients = [allocated(Server), allocated(Server)],
    [success(bind(Client, 16#4000, Peer)) || Client <- Clients],
    [begin
         channel(Client, 16#4000, <<"whose">>),
         ?assertEqual({Relayed, <<"whose">>}, peer_next(Peer))
     end || #{relayed := Relayed} = Client <- Clients].

%% --------------------------------------------------------------------- 13, 14: IP headers

%% Runs Fun with a server in a network of its own, whose links take 1500 bytes.
narrow(Config, Fun) ->
    string:trim(os:cmd("id -u")) =:= "0" orelse throw({skip, "only root may make a network"}),
    Name = "mknarrow-" ++ os:getpid() ++ integer_to_list(erlang:unique_integer([positive])),
    Program = filename:join(proplists:get_value(priv_dir, Config), Name),
    Relay = os:getenv("MEERKAT_RELAY_PROGRAM",
                      filename:join(code:priv_dir(meerkat), "meerkat_relay")),
    ok = file:write_file(Program, ["#!/bin/sh\nexec ip netns exec ", Name, " ", Relay, "\n"]),
    ok = file:change_mode(Program, 8#755),
    "" = os:cmd("ip netns add " ++ Name ++ " && ip -n " ++ Name ++ " link set lo mtu 1500 up"),
    try
        with_server(#{relay_program => Program}, fun(Server) ->
            Fun("/run/netns/" ++ Name, Server)
        end)
    after
        os:cmd("ip netns del " ++ Name)
    end.

%% Hears every packet of UDP over IPv4, whole again if it came in pieces.
sniffer(Netns) ->
    {ok, Socket} = socket:open(inet, raw, udp, #{netns => Netns}),
    Socket.

%% The IP header of the next datagram between these two.
seen(Sniffer, {_, FromPort} = From, {_, ToPort} = To) ->
    {ok, <<4:4, 5:4, Tos, _:16, _:16, 0:1, Df:1, _:14, Ttl, 17, _:80, FromUdp:16, ToUdp:16,
           _/binary>>} = socket:recv(Sniffer, 0, 10000),
    case {FromUdp, ToUdp} of
        {FromPort, ToPort} -> #{tos => Tos, df => Df, ttl => Ttl};
        _ -> seen(Sniffer, From, To)
    end.

default_ttl() ->
    {ok, Text} = file:read_file("/proc/sys/net/ipv4/ip_default_ttl"),
    binary_to_integer(string:trim(Text)).

%% What no sender may pass on: expedited forwarding, congestion experienced, a short way to go.
marked(#{socket := Socket}) ->
    ok = inet:setopts(Socket, [{tos, 16#BB}, {ttl, 7}]).

-spec t45_headers_to_peers(turn_kit:config()) -> _.
t45_headers_to_peers(Config) ->
    doc("towards peers: best effort, Not-ECT, the system's TTL, no DF, whatever the client's "
        "packets had (RFC 8656 14, alternate behaviour)"),
    narrow(Config, fun(Netns, Server) ->
        #{relayed := Relayed} = Client = allocated(Server, [], #{netns => Netns}),
        #{address := Address} = Peer = peer({127, 0, 0, 1}, #{netns => Netns}),
        marked(Client),
        success(bind(Client, 16#4000, Peer)),
        Sniffer = sniffer(Netns),
        Plain = #{tos => 0, df => 0, ttl => default_ttl()},
        channel(Client, 16#4000, <<"by channel">>),
        ?assertEqual(Plain, seen(Sniffer, Relayed, Address)),
        send_to(Client, Peer, <<"by Send">>),
        ?assertEqual(Plain, seen(Sniffer, Relayed, Address))
    end).

-spec t45_headers_to_clients(turn_kit:config()) -> _.
t45_headers_to_clients(Config) ->
    doc("towards clients: the same, for data as for answers (RFC 8656 14)"),
    narrow(Config, fun(Netns, Server) ->
        #{relayed := Relayed, here := Here, to := There} = Client =
            allocated(Server, [], #{netns => Netns}),
        Peer = peer({127, 0, 0, 1}, #{netns => Netns}),
        marked(Peer),
        success(permit(Client, [Peer])),
        Sniffer = sniffer(Netns),
        Plain = #{tos => 0, df => 0, ttl => default_ttl()},
        peer_send(Peer, Relayed, <<"as Data">>),
        ?assertEqual(Plain, seen(Sniffer, There, Here)),
        success(bind(Client, 16#4000, Peer)),
        ?assertEqual(Plain, seen(Sniffer, There, Here)),
        peer_send(Peer, Relayed, <<"as ChannelData">>),
        ?assertEqual(Plain, seen(Sniffer, There, Here))
    end).

-spec t44_translated_headers(turn_kit:config()) -> _.
t44_translated_headers(Config) ->
    doc("between the families traffic class and hop limit are the system's, and DONT-FRAGMENT is "
        "ignored (RFC 8656 13)"),
    narrow(Config, fun(Netns, Server) ->
        Options = #{family => v6, netns => Netns},
        #{relayed := Relayed, socket := Socket} = Client = allocated(Server, [], Options),
        #{address := Address} = Peer = peer({127, 0, 0, 1}, #{netns => Netns}),
        ok = inet:setopts(Socket, [{tclass, 16#BB}]),
        success(permit(Client, [Peer])),
        Sniffer = sniffer(Netns),
        send_indication(Client, [{xor_peer_address, Address}, {dont_fragment, true},
                                 {data, <<"small">>}]),
        ?assertEqual({Relayed, <<"small">>}, peer_next(Peer)),
        ?assertEqual(#{tos => 0, df => 0, ttl => default_ttl()}, seen(Sniffer, Relayed, Address)),
        Long = binary:copy(<<"l">>, 3000),
        send_indication(Client, [{xor_peer_address, Address}, {dont_fragment, true},
                                 {data, Long}]),
        ?assertEqual({Relayed, Long}, peer_next(Peer)),
        #{relayed := Relayed6} = Client6 = allocated(Server, [?RAF6], #{netns => Netns}),
        #{address := Address6, socket := Socket6} = Peer6 = peer(?V6, #{netns => Netns}),
        ok = inet:setopts(Socket6, [{recvtclass, true}]),
        marked(Client6),
        success(permit(Client6, [Peer6])),
        send_indication(Client6, [{xor_peer_address, Address6}, {dont_fragment, true},
                                  {data, Long}]),
        receive
            {udp, Socket6, Ip, Port, Ancillary, Data} ->
                ?assertEqual({Relayed6, Long, [{tclass, 0}]}, {{Ip, Port}, Data, Ancillary})
        end
    end).

%% ------------------------------------------------------------------- 17, 18, 21: the rest

-spec t46_classes(turn_kit:config()) -> _.
t46_classes(Config) ->
    doc("each method only with its classes: the others are dropped (RFC 8656 17)"),
    {Client, Peer} = pair(Config),
    Rest = [{xor_peer_address, maps:get(address, Peer)}, {data, <<"x">>}, udp()],
    [dropped(Client, unknown_method, request(Class, Method, Rest))
     || {Class, Method} <- [{indication, allocate}, {indication, refresh},
                            {indication, create_permission}, {indication, channel_bind},
                            {request, send}, {request, data}, {indication, data}]],
    [dropped(Client, response_class, request(Class, Method, Rest))
     || Class <- [success, error], Method <- methods()],
    success(call(Client, refresh, [])),
    peer_same(Client, Peer).

-spec t47_reserved_bits(turn_kit:config()) -> _.
t47_reserved_bits(Config) ->
    doc("bits reserved for later are ignored (RFC 8656 18)"),
    Client = fresh(server(Config)),
    Answer = success(call(Client, allocate, [{requested_transport, {raw, <<17, -1:24>>}},
                                             {requested_address_family, {raw, <<1, -1:24>>}},
                                             {even_port, {raw, <<16#7F>>}}])),
    ?assertEqual(undefined, get(reservation_token, Answer)),
    ?assertEqual(0, relayed_port(Answer) rem 2),
    #{address := Address} = Peer = peer(),
    success(call(Client, channel_bind, [{channel_number, {raw, <<16#4000:16, -1:16>>}},
                                        {xor_peer_address, Address}])),
    channel(Client, 16#4000, <<"fine">>),
    ?assertEqual({get(xor_relayed_address, Answer), <<"fine">>}, peer_next(Peer)).

-spec t47_padding_after_even_port(turn_kit:config()) -> _.
t47_padding_after_even_port(Config) ->
    doc("EVEN-PORT is one byte and padded like any other (RFC 8656 18.7)"),
    Client = fresh(server(Config)),
    Answer = success(call(Client, allocate, [{pad, 255, {even_port, true}}, udp()])),
    ?assert(is_integer(get(reservation_token, Answer))),
    Other = fresh(server(Config)),
    expect(400, allocate(Other, [{even_port, {raw, <<128, 0>>}}])).

-spec t48_address_error_code(turn_kit:config()) -> _.
t48_address_error_code(_Config) ->
    doc("ADDRESS-ERROR-CODE: family, 13 bits of zero, class and number (RFC 8656 18.12)"),
    with_server(v4_only(), fun(Server) ->
        #{bytes := Bytes} = success(allocate(fresh(Server), [?BOTH])),
        {At, _} = binary:match(Bytes, <<16#8001:16>>),
        <<_:At/binary, _:16, Size:16, Value:Size/binary, _/binary>> = Bytes,
        ?assertMatch(<<2, 0:13, 4:3, 40, _/binary>>, Value),
        ?assert(Size - 4 < 128)
    end).

-spec t51_logged(turn_kit:config()) -> _.
t51_logged(Config) ->
    doc("an allocation leaves a line that names user, client and relayed address, a forbidden "
        "peer another (RFC 8656 21.3.2)"),
    Server = server(Config),
    turn_kit:is_foreign(Server) andalso throw({skip, "reads the log"}),
    Level = maps:get(level, logger:get_primary_config()),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}}),
    ok = logger:set_primary_config(level, info),
    try
        %% One that has not refused anything yet: after some it tells of fewer.
        with_server(#{}, fun allocation_and_refusal/1)
    after
        ok = logger:set_primary_config(level, Level),
        ok = logger:remove_handler(?MODULE)
    end.

allocation_and_refusal(Server) ->
    #{here := Here, relayed := Relayed} = Client = allocated(Server),
    Told = fun(What, Parts) ->
        Line = logged(What, unicode:characters_to_list(meerkat_text:address(Here))),
        [?assertMatch({match, _}, {re:run(Line, Part) =/= nomatch andalso match, Part})
         || Part <- ["user alice" | Parts]]
    end,
    expect(403, permit(Client, [{{10, 1, 2, 3}, 0}])),
    Told("403 for peer", ["10\\.1\\.2\\.3"]),
    delete(Client),
    Told("allocation deleted", [unicode:characters_to_list(meerkat_text:address(Relayed))]).

%% The line with both texts, once it is there.
logged(What, Who) ->
    receive
        {log, Line} ->
            case string:find(Line, What) =/= nomatch andalso string:find(Line, Who) =/= nomatch of
                true -> Line;
                false -> logged(What, Who)
            end
    end.

%% logger's handler callback, called in the process that logs.
-spec log(logger:log_event(), #{config := #{to := pid()}, _ => _}) -> ok.
log(Event, #{config := #{to := Pid}}) ->
    Line = logger_formatter:format(Event, #{single_line => true, template => [msg]}),
    Pid ! {log, unicode:characters_to_list(Line)},
    ok.

-spec t49_tunnels(turn_kit:config()) -> _.
t49_tunnels(Config) ->
    doc("Teredo and 6to4 peers are refused (RFC 8656 21.4)"),
    Client = allocated(server(Config), [?RAF6]),
    [begin
         expect(403, permit(Client, [{Ip, 9}])),
         expect(403, bind(Client, 16#4000, {Ip, 9}))
     end || Ip <- [{16#2002, 16#0808, 16#0808, 0, 0, 0, 0, 1},
                   {16#2001, 0, 16#0808, 16#0808, 0, 16#FFFF, 16#F7F7, 16#F7F7}]].

-spec t6_software_where_configured(turn_kit:config()) -> _.
t6_software_where_configured(_Config) ->
    doc("SOFTWARE, where configured, goes into what answers Allocate and Refresh "
        "(RFC 8656 5)"),
    with_server(#{software => <<"meerkat">>}, fun(Server) ->
        Client = fresh(Server),
        [?assertEqual(<<"meerkat">>, get(software, Answer))
         || Answer <- [success(allocate(Client)), success(call(Client, refresh, [])),
                       expect(437, allocate(Client))]]
    end).
