%% RFC 5780 (NAT behaviour discovery) over UDP from the sockets of a client: one case per rule,
%% named after the row of the conformance or of the threat table (b3_... is row B3). TCP and TLS, of
%% which B1 speaks too, are not served; SRV records are for the operator to publish.
-module(rfc5780_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([b1_four_addresses/1, b1_one_address/1, b1_one_family_has_two/1, b2_mapped_addresses/1,
         b3_source/1, b3_reserved_bits/1, b3_malformed/1, b4_origin_and_other/1,
         b5_padding/1, b5_padding_is_for_who_asks/1, b5_padding_and_response_port/1,
         b6_response_port/1, b6_response_port_from_elsewhere/1, b6_privileged_port/1,
         b7_no_alternate_server/1, b8_long_padding/1, b9_nothing_is_kept/1,
         x26_off/1, x26_on/1, x26_not_in_turn/1]).

-import(turn_kit, [doc/1, open/1, open/2, send/2, ask/2, request/2, challenged/1, allocated/1,
                   allocate/2, get/2, get_all/2, names/1, success/1, expect/2, with_server/2]).

-define(IP, {127, 0, 0, 1}).
-define(OTHER_IP, {127, 0, 0, 2}).
-define(CHANGE_IP, 4).
-define(CHANGE_PORT, 2).
-define(TIMEOUT, 30000).

-spec all() -> [atom()].
all() -> turn_kit:cases(?MODULE).

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 60}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    [{server, turn_kit:start_server(#{listeners => listeners(turn_kit:free_ports(2))})} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) -> turn_kit:stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).

%% Two addresses, Port and the next: what meerkat_config makes of the key rfc5780.
listeners(Port) ->
    [#{transport => udp, ip => Ip, port => P, other => {OtherIp, OtherPort}}
     || {Ip, OtherIp} <- [{?IP, ?OTHER_IP}, {?OTHER_IP, ?IP}],
        {P, OtherPort} <- [{Port, Port + 1}, {Port + 1, Port}]].

%% The two IPs and the two ports, as one of the listeners sees them.
seen_from({Ip, Port}, #{listeners := Listeners}) ->
    [Other] = [Other || {OtherIp, OtherPort} = Other <- Listeners,
                        OtherIp =/= Ip, OtherPort =/= Port],
    Other.

binding(Items) -> request(binding, Items).

%% The answer to a request that the client sends, and where it came from.
answer(#{socket := Socket} = Client, Request) ->
    send(Client, Request),
    received(Socket, Request).

received(Socket, <<_:64, Id:12/binary, _/binary>>) ->
    receive
        {udp, Socket, Ip, Port, <<_:64, Id:12/binary, _/binary>> = Bytes} ->
            {ok, #{malformed := [], unknown := []} = Answer} = stun_model:decode(Bytes),
            {{Ip, Port}, Answer#{bytes => Bytes}}
    after ?TIMEOUT -> error(no_answer)
    end.

-spec b1_four_addresses(turn_kit:config()) -> _.
b1_four_addresses(Config) ->
    doc("two IPs and two ports: four addresses that answer alike (RFC 5780 6)"),
    #{listeners := Listeners} = Server = server(Config),
    ?assertEqual(4, length(Listeners)),
    [success(ask(open(Server, #{to => To}), binding([]))) || To <- Listeners],
    [success(allocate(challenged(open(Server, #{to => To})), [])) || To <- Listeners].

-spec b1_one_address(turn_kit:config()) -> _.
b1_one_address(_Config) ->
    doc("one IP only: no OTHER-ADDRESS, and CHANGE-REQUEST is unknown: 420 (RFC 5780 6)"),
    with_server(#{}, fun(Server) ->
        Client = open(Server),
        ?assertEqual([xor_mapped_address], names(success(ask(Client, binding([]))))),
        [?assertEqual([16#0003], get(unknown_attributes,
                                     expect(420, ask(Client, binding([{change_request, Flags}])))))
         || Flags <- [0, ?CHANGE_IP, ?CHANGE_PORT, ?CHANGE_IP bor ?CHANGE_PORT]]
    end).

-spec b1_one_family_has_two(turn_kit:config()) -> _.
b1_one_family_has_two(_Config) ->
    doc("two IPv4 addresses and one of IPv6: discovery over IPv4 alone (RFC 5780 6)"),
    Plain = #{transport => udp, ip => {0, 0, 0, 0, 0, 0, 0, 1}, port => 0},
    with_server(#{listeners => listeners(turn_kit:free_ports(2)) ++ [Plain]}, fun(Server) ->
        V4 = success(ask(open(Server), binding([]))),
        ?assertNotEqual(undefined, get(other_address, V4)),
        V6 = open(Server, #{family => v6}),
        ?assertEqual([xor_mapped_address], names(success(ask(V6, binding([]))))),
        expect(420, ask(V6, binding([{change_request, 0}])))
    end).

-spec b2_mapped_addresses(turn_kit:config()) -> _.
b2_mapped_addresses(Config) ->
    doc("MAPPED-ADDRESS and XOR-MAPPED-ADDRESS, both the client's (RFC 5780 6.1)"),
    [begin
         #{here := Here} = Client = open(server(Config), #{ip => Ip}),
         Answer = success(ask(Client, binding([]))),
         ?assertEqual([Here], get_all(mapped_address, Answer)),
         ?assertEqual([Here], get_all(xor_mapped_address, Answer))
     end || Ip <- [?IP, {127, 3, 2, 1}]].

-spec b3_source(turn_kit:config()) -> _.
b3_source(Config) ->
    doc("the flags decide where the answer comes from, at each of the four addresses: Da:Dp, "
        "Ca:Dp, Da:Cp or Ca:Cp (RFC 5780 6.1); more than once, whichever thread answers"),
    #{listeners := Listeners} = Server = server(Config),
    [begin
         Client = open(Server, #{to => To}),
         {Ca, Cp} = seen_from(To, Server),
         [?assertMatch({From, #{class := success}},
                       answer(Client, binding([{change_request, Flags}])), {To, Flags})
          || {Flags, From} <- [{0, {Da, Dp}}, {?CHANGE_IP, {Ca, Dp}}, {?CHANGE_PORT, {Da, Cp}},
                               {?CHANGE_IP bor ?CHANGE_PORT, {Ca, Cp}}]],
         turn_kit:close(Client)
     end || {Da, Dp} = To <- Listeners, _ <- lists:seq(1, 8)].

-spec b3_reserved_bits(turn_kit:config()) -> _.
b3_reserved_bits(Config) ->
    doc("the other bits of CHANGE-REQUEST mean nothing (RFC 5780 7.2)"),
    #{ip := Ip, port := Port} = Server = server(Config),
    Client = open(Server),
    [?assertMatch({{Ip, Port}, #{class := success}},
                  answer(Client, binding([{change_request, Bits}])))
     || Bits <- [1, 8, 16#FFFFFFF9]].

-spec b3_malformed(turn_kit:config()) -> _.
b3_malformed(Config) ->
    doc("a CHANGE-REQUEST or RESPONSE-PORT of the wrong size: 400 (RFC 5780 7.2, 7.5)"),
    Client = open(server(Config)),
    [expect(400, ask(Client, binding([{Name, {raw, Value}}])))
     || {Name, Sizes} <- [{change_request, [0, 1, 3, 5, 8]}, {response_port, [0, 1, 5, 8]}],
        Size <- Sizes,
        Value <- [binary:copy(<<16#80>>, Size)]],
    success(ask(Client, binding([]))).

-spec b4_origin_and_other(turn_kit:config()) -> _.
b4_origin_and_other(Config) ->
    doc("RESPONSE-ORIGIN is where the answer comes from; OTHER-ADDRESS is Ca:Cp whatever the "
        "flags (RFC 5780 6.1)"),
    #{listeners := Listeners} = Server = server(Config),
    [begin
         {From, Answer} = answer(open(Server, #{to => To}), binding(Items)),
         ?assertEqual([From], get_all(response_origin, Answer)),
         ?assertEqual([seen_from(To, Server)], get_all(other_address, Answer))
     end || To <- Listeners,
            Items <- [[] | [[{change_request, Flags}]
                            || Flags <- [0, ?CHANGE_IP, ?CHANGE_PORT, 6]]]].

-spec b5_padding(turn_kit:config()) -> _.
b5_padding(Config) ->
    doc("PADDING is answered with PADDING, of no more bytes than came (RFC 5780 6.1, and not the "
        "MTU: X26)"),
    Client = open(server(Config)),
    [begin
         Request = binding([{padding, binary:copy(<<"p">>, Size)}]),
         {_, #{class := success, bytes := Bytes} = Answer} = answer(Client, Request),
         [Padding] = get_all(padding, Answer),
         ?assertEqual(Size, byte_size(Padding)),
         ?assert(byte_size(Bytes) =< byte_size(Request) + 64)
     end || Size <- [0, 1, 4, 5, 64, 500, 1000, 1400]].

-spec b5_padding_is_for_who_asks(turn_kit:config()) -> _.
b5_padding_is_for_who_asks(Config) ->
    doc("no PADDING where none was asked for; with it from the other address, PADDING too "
        "(RFC 5780 6.1)"),
    Client = open(server(Config)),
    ?assertEqual(undefined, get(padding, success(ask(Client, binding([]))))),
    {From, Answer} = answer(Client, binding([{change_request, 6}, {padding, <<0:800>>}])),
    ?assertEqual(seen_from(maps:get(to, Client), server(Config)), From),
    ?assertEqual(100, byte_size(get(padding, Answer))).

-spec b5_padding_and_response_port(turn_kit:config()) -> _.
b5_padding_and_response_port(Config) ->
    doc("PADDING and RESPONSE-PORT together: 400, to where the request came from "
        "(RFC 5780 6.1)"),
    #{here := {_, Port}} = Client = open(server(Config)),
    [expect(400, ask(Client, binding(Items)))
     || Items <- [[{padding, <<0:32>>}, {response_port, Port}],
                  [{response_port, Port}, {padding, <<>>}],
                  [{change_request, 0}, {response_port, Port}, {padding, <<0:32>>}]]].

-spec b6_response_port(turn_kit:config()) -> _.
b6_response_port(Config) ->
    doc("the answer goes to that port of the IP the request came from, and names the client's "
        "own (RFC 5780 6.1)"),
    Server = server(Config),
    [begin
         #{here := Here, to := To} = Client = open(Server, #{ip => Ip}),
         #{here := {_, Port}, socket := Socket} = open(Server, #{ip => Ip}),
         Request = binding([{response_port, Port}]),
         send(Client, Request),
         {To, Answer} = received(Socket, Request),
         ?assertEqual(Here, get(xor_mapped_address, Answer)),
         ?assertEqual(Here, get(mapped_address, Answer)),
         {To, #{class := success}} = answer(Client, binding([]))
     end || Ip <- [?IP, {127, 3, 2, 1}]].

-spec b6_response_port_from_elsewhere(turn_kit:config()) -> _.
b6_response_port_from_elsewhere(Config) ->
    doc("RESPONSE-PORT and CHANGE-REQUEST together (RFC 5780 6.1)"),
    Server = server(Config),
    #{here := Here, to := To} = Client = open(Server),
    #{here := {_, Port}, socket := Socket} = open(Server),
    Request = binding([{response_port, Port}, {change_request, 6}]),
    send(Client, Request),
    {From, Answer} = received(Socket, Request),
    ?assertEqual(seen_from(To, Server), From),
    ?assertEqual(Here, get(xor_mapped_address, Answer)).

-spec b6_privileged_port(turn_kit:config()) -> _.
b6_privileged_port(Config) ->
    doc("a RESPONSE-PORT below 1024 is refused: 400 (threat X26)"),
    Client = open(server(Config)),
    [expect(400, ask(Client, binding([{response_port, Port}]))) || Port <- [0, 1, 53, 123, 1023]].

-spec b7_no_alternate_server(turn_kit:config()) -> _.
b7_no_alternate_server(Config) ->
    doc("answers have these attributes and no ALTERNATE-SERVER (RFC 5780 6.1)"),
    Client = open(server(Config)),
    Plain = [mapped_address, other_address, response_origin, xor_mapped_address],
    ?assertEqual(Plain, names(success(ask(Client, binding([]))))),
    {_, Answer} = answer(Client, binding([{change_request, 6}, {padding, <<0:32>>}, fingerprint])),
    ?assertEqual(lists:sort([fingerprint, padding | Plain]), names(Answer)).

-spec b8_long_padding(turn_kit:config()) -> _.
b8_long_padding(Config) ->
    doc("what a datagram may hold is answered, with as much as fits a packet, or dropped; and "
        "then the server goes on (RFC 5780 7.6)"),
    Client = open(server(Config)),
    [begin
         Request = binding([{padding, binary:copy(<<"p">>, Size)}]),
         {_, #{class := success, bytes := Bytes}} = answer(Client, Request),
         ?assert(byte_size(Bytes) =< 1500)
     end || Size <- [1401, 1440, 1500]],
    send(Client, binding([{padding, binary:copy(<<"p">>, 60000)}])),
    {_, #{class := success}} = answer(Client, binding([])).

-spec b9_nothing_is_kept(turn_kit:config()) -> _.
b9_nothing_is_kept(Config) ->
    doc("nothing of a request outlives its answer: padding sent is not what comes back, and the "
        "next answer is as if there had been none (RFC 5780 10)"),
    Client = open(server(Config)),
    #{bytes := Before} = success(ask(Client, binding([]))),
    {_, Answer} = answer(Client, binding([{padding, binary:copy(<<"secret">>, 100)}])),
    ?assertEqual(binary:copy(<<0>>, 600), get(padding, Answer)),
    #{bytes := After} = success(ask(Client, binding([]))),
    ?assertEqual(byte_size(Before), byte_size(After)).

-spec x26_off(turn_kit:config()) -> _.
x26_off(_Config) ->
    doc("off, as by default, each of the three is unknown: 420 that lists its type"),
    with_server(#{}, fun(Server) ->
        [begin
             Client = open(Server, Options),
             [?assertEqual([Type], get(unknown_attributes, expect(420, ask(Client, binding([A])))))
              || {Type, A} <- [{16#0003, {change_request, 6}}, {16#0026, {padding, <<0:32>>}},
                               {16#0027, {response_port, 5000}}]]
         end || Options <- [#{}, #{family => v6}]]
    end).

-spec x26_on(turn_kit:config()) -> _.
x26_on(Config) ->
    doc("on, no answer is much longer than its request, whatever is asked for"),
    Client = open(server(Config)),
    [begin
         {_, #{bytes := Bytes}} = answer(Client, Request),
         ?assert(byte_size(Bytes) =< byte_size(Request) + 64)
     end || Request <- [binding([{padding, <<0:32>>}]), binding([{change_request, 6}]),
                        binding([]), binding([fingerprint]),
                        binding([{change_request, 6}, {padding, <<0:32>>}, fingerprint])]].

-spec x26_not_in_turn(turn_kit:config()) -> _.
x26_not_in_turn(Config) ->
    doc("in requests of TURN they are unknown all the same: 420 (RFC 8489 6.3.1)"),
    Client = allocated(server(Config)),
    [?assertEqual([Type], get(unknown_attributes,
                              expect(420, turn_kit:call(Client, refresh, [A]))))
     || {Type, A} <- [{16#0003, {change_request, 6}}, {16#0026, {padding, <<0:32>>}},
                      {16#0027, {response_port, 5000}}]].
