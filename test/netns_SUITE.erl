%% What only a network of its own can show: sources and targets that no loopback has, and somebody
%% who listens where nothing must arrive. The suite makes its networks itself, of namespaces that
%% test/netns draws, and lives in all of them at once; only the relay program runs inside one.
%% That needs root, and a case says so where it is missing.
%%
%% Nothing waits for silence: behind everything that must not be seen the server is made to send
%% something that must be, the same way, and whoever listens takes in all until then.
-module(netns_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([x12_tunnel_sources/1, x12_tunnel_peers/1, x22_spoofed_flood/1, x22_spoofed_flood_v6/1,
         x01_forbidden_targets/1, x01_forbidden_targets_v6/1, x08_directed_broadcast/1,
         x09_own_addresses/1, x09_own_addresses_v6/1, s15_multihomed/1, s15_multihomed_v6/1,
         link_local_clients/1,
         nat_peer_outside/1, nat_clients_call_each_other/1]).

-import(turn_kit, [doc/1, open/2, ask/2, request/2, challenged/1, call/3, allocate/1,
                   allocate/2, permit/2, bind/3, send_to/3, channel/3, data/1, peer/2,
                   peer_send/3, peer_next/1, next/1, get/2, code/1, success/1, expect/2,
                   counted/4]).

-define(RAF6, {requested_address_family, 2}).
-define(CLIENT, {11, 0, 0, 2}).
-define(CLIENT6, {16#2a0a, 1, 0, 0, 0, 0, 0, 2}).
-define(SERVER, {11, 0, 0, 1}).
-define(SERVER6, {16#2a0a, 1, 0, 0, 0, 0, 0, 1}).
-define(LINK_LOCAL, {16#fe80, 0, 0, 0, 0, 0, 0, 2}).
-define(LINK_LOCAL_SERVER, {16#fe80, 0, 0, 0, 0, 0, 0, 1}).
-define(RELAY, {12, 0, 0, 1}).
-define(RELAY6, {16#2a0a, 2, 0, 0, 0, 0, 0, 1}).
-define(TARGET, {12, 0, 0, 2}).
-define(TARGET6, {16#2a0a, 2, 0, 0, 0, 0, 0, 2}).
-define(PORT, 3478).
%% Where forbidden packets would go.
-define(DISCARD, 9999).
-define(NEVER, <<"never to be seen">>).
-define(PROOF, <<"this can be seen">>).
-define(TIMEOUT, 30000).

-type seen() :: {To :: stun_model:address(), From :: stun_model:address(), Payload :: binary()}.

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 60}}].

-spec all() -> [atom()].
all() ->
    [x01_forbidden_targets, x01_forbidden_targets_v6, x08_directed_broadcast, x09_own_addresses,
     x09_own_addresses_v6, x12_tunnel_sources, x12_tunnel_peers, x22_spoofed_flood,
     x22_spoofed_flood_v6, s15_multihomed, s15_multihomed_v6, link_local_clients, nat_peer_outside,
     nat_clients_call_each_other].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    case is_root() of
        true ->
            [lab("up", Name, Config) || Name <- ["routed", "nat"]],
            [{server, start("routed", Config, routed())}, {nat, start("nat", Config, nat())}
             | Config];
        false -> Config
    end.

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) ->
    [turn_kit:stop_server(Server) || {Key, Server} <- Config, Key =:= server orelse Key =:= nat],
    is_root() andalso [lab("down", Name, Config) || Name <- ["routed", "nat"]].

-spec init_per_testcase(atom(), turn_kit:config()) -> turn_kit:config() | {fail, string()}.
init_per_testcase(_Case, Config) ->
    case is_root() of
        true -> Config;
        false -> {fail, "only root may make network namespaces; run this suite as root"}
    end.

-spec end_per_testcase(atom(), turn_kit:config()) -> ok.
end_per_testcase(_Case, _Config) -> ok.

is_root() -> string:trim(os:cmd("id -u")) =:= "0".

%% ------------------------------------------------------------------------------------ the labs

lab(Command, Name, _Config) ->
    Port = open_port({spawn_executable, path([Name ++ ".sh"])},
                     [{args, [Command, prefix(Name)]}, exit_status, stderr_to_stdout]),
    {0, _} = {lab_status(Port, []), {Command, Name}}.

lab_status(Port, Said) ->
    receive
        {Port, {data, Data}} -> lab_status(Port, [Said | Data]);
        {Port, {exit_status, 0}} -> 0;
        {Port, {exit_status, Status}} -> ct:fail("~ts: status ~b", [Said, Status])
    end.

path(Parts) ->
    filename:join([code:lib_dir(meerkat), "..", "..", "..", "..", "test", "netns" | Parts]).

prefix(Name) -> "mk" ++ Name ++ "-" ++ os:getpid().

netns(Lab, Room) -> "/run/netns/" ++ prefix(Lab) ++ "-" ++ Room.

%% The relay program alone is inside; it takes all that is of the network from there.
start(Lab, Config, Overrides) ->
    Program = filename:join(proplists:get_value(priv_dir, Config), Lab ++ "_relay"),
    Relay = os:getenv("MEERKAT_RELAY_PROGRAM",
                      filename:join(code:priv_dir(meerkat), "meerkat_relay")),
    ok = file:write_file(Program, ["#!/bin/sh\nexec ip netns exec ", prefix(Lab), "-server ",
                                   Relay, "\n"]),
    ok = file:change_mode(Program, 8#755),
    turn_kit:start_server(Overrides#{relay_program => Program, allowed_peers => []}).

routed() ->
    #{listeners => [#{transport => udp, ip => any, port => ?PORT}],
      relays => [#{local => Ip, advertised => Ip, min_port => 49152, max_port => 65535}
                 || Ip <- [?RELAY, ?RELAY6]]}.

nat() ->
    #{listeners => [#{transport => udp, ip => {10, 9, 0, 1}, port => ?PORT}],
      relays => [#{local => {10, 9, 0, 1}, advertised => {13, 0, 0, 1}, min_port => 49152,
                   max_port => 65535}]}.

server(Config) -> proplists:get_value(server, Config).

%% ------------------------------------------------------------------------------------- clients

client(Config) -> client(Config, ?CLIENT, ?SERVER).

client(Config, Ip, To) ->
    open(server(Config), #{netns => netns("routed", "client"), ip => Ip, to => {To, ?PORT}}).

allocated(Config) -> relayed(challenged(client(Config)), []).

allocated6(Config) -> relayed(challenged(client(Config, ?CLIENT6, ?SERVER6)), [?RAF6]).

relayed(Client, Items) ->
    Client#{relayed => get(xor_relayed_address, success(allocate(Client, Items)))}.

%% ----------------------------------------------------------------------------------- listening

%% All that passes the interfaces of a room from now on.
-spec sniff(file:name_all()) -> socket:socket().
sniff(Netns) ->
    {ok, Socket} = socket:open(17, raw, 16#0300, #{netns => Netns}),  % AF_PACKET, ETH_P_ALL
    ok = socket:setopt(Socket, socket, rcvbuf, 1 bsl 22),
    Socket.

%% The UDP datagrams seen up to the one with that payload.
-spec seen_until(socket:socket(), binary()) -> [seen()].
seen_until(Sniffer, Last) ->
    case seen(Sniffer) of
        {_, _, Last} = Datagram -> [Datagram];
        Datagram -> [Datagram | seen_until(Sniffer, Last)]
    end.

seen(Sniffer) ->
    case socket:recv(Sniffer, 0, ?TIMEOUT) of
        {ok, <<_:96, 16#0800:16, 4:4, Words:4, _:64, 17, _:16, From:4/binary, To:4/binary,
               More/binary>>} ->
            Options = 4 * (Words - 5),
            <<_:Options/binary, Datagram/binary>> = More,
            datagram(From, To, Datagram);
        {ok, <<_:96, 16#86dd:16, 6:4, _:28, _:16, 17, _:8, From:16/binary, To:16/binary,
               Datagram/binary>>} ->
            datagram(From, To, Datagram);
        {ok, _} ->
            seen(Sniffer)
    end.

datagram(From, To, <<FromPort:16, ToPort:16, Length:16, _:16, More/binary>>) ->
    {{ip(To), ToPort}, {ip(From), FromPort}, binary:part(More, 0, Length - 8)}.

ip(<<A, B, C, D>>) -> {A, B, C, D};
ip(Bytes) -> list_to_tuple([Word || <<Word:16>> <= Bytes]).

ips(Texts) ->
    [begin {ok, Ip} = inet:parse_address(Text), Ip end || Text <- string:lexemes(Texts, " ")].

%% Whoever sends from the server's machine without asking Meerkat is heard: the way is there, and
%% so are the listener's ears.
prove(Sniffer, Target) ->
    Family = case tuple_size(Target) of 4 -> inet; 8 -> inet6 end,
    {ok, Socket} = gen_udp:open(0, [Family, {netns, netns("routed", "server")},
                                    {broadcast, true}]),
    ok = gen_udp:send(Socket, Target, ?DISCARD, ?PROOF),
    ok = gen_udp:close(Socket),
    {_, {{Target, ?DISCARD}, _, ?PROOF}} =
        {Target, lists:last(seen_until(Sniffer, ?PROOF))}.

%% By each door: CreatePermission and ChannelBind earn 403, Send and ChannelData go nowhere.
attempt(Client, Ip) ->
    Target = {Ip, ?DISCARD},
    {_, 403} = {Ip, code(permit(Client, [Target]))},
    {_, 403} = {Ip, code(bind(Client, 16#4000, Target))},
    send_to(Client, Target, ?NEVER),
    channel(Client, 16#4000, ?NEVER).

%% The client sends to an allowed address, and this is how it looks on the wire.
mark(#{relayed := Relayed} = Client, Allowed) ->
    Mark = crypto:strong_rand_bytes(16),
    _ = success(permit(Client, [Allowed])),
    send_to(Client, Allowed, Mark),
    {Mark, {Allowed, Relayed, Mark}}.

%% Nothing but the mark has come by.
only_mark(Sniffer, Client, Allowed) ->
    {Mark, Sent} = mark(Client, Allowed),
    ?assertEqual([Sent], seen_until(Sniffer, Mark)).

%% -------------------------------------------------------------------------------------- targets

-spec x01_forbidden_targets(turn_kit:config()) -> _.
x01_forbidden_targets(Config) ->
    doc("a listener at each forbidden target of IPv4 sees nothing (threats 2.1, X01-X08)"),
    Targets = ips("10.0.0.1 10.255.255.254 172.16.0.1 172.31.255.254 192.168.0.1 192.168.255.254 "
                  "169.254.0.1 169.254.169.254 169.254.170.2 168.63.129.16 100.64.0.1 "
                  "100.127.255.254 100.100.100.200 192.0.0.1 192.0.2.1 192.88.99.1 198.18.0.1 "
                  "198.19.255.254 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250"),
    Client = allocated(Config),
    Sniffer = sniff(netns("routed", "target")),
    [begin prove(Sniffer, Ip), attempt(Client, Ip) end || Ip <- Targets],
    only_mark(Sniffer, Client, {?TARGET, ?DISCARD}),
    socket:close(Sniffer).

-spec x01_forbidden_targets_v6(turn_kit:config()) -> _.
x01_forbidden_targets_v6(Config) ->
    doc("a listener at each forbidden target of IPv6 sees nothing (threats 2.1, X04-X08)"),
    Targets = ips("fd00::1 fd00:ec2::254 fd20:ce::254 fc00::1 fec0::1 64:ff9b::a00:1 "
                  "64:ff9b:1::1 100::1 2001:db8::1 2001:2::1 3fff::1 5f00::1 ::a00:1 "
                  "::ffff:0:a00:1 2a0a:9::5efe:a00:1 2a0a:9::200:5efe:a9fe:a9fe"),
    Client = allocated6(Config),
    Sniffer = sniff(netns("routed", "target")),
    [begin prove(Sniffer, Ip), attempt(Client, Ip) end || Ip <- Targets],
    only_mark(Sniffer, Client, {?TARGET6, ?DISCARD}),
    socket:close(Sniffer).

-spec x08_directed_broadcast(turn_kit:config()) -> _.
x08_directed_broadcast(Config) ->
    doc("the broadcast address of an interface is no peer, and nobody behind it hears (X08)"),
    Client = allocated(Config),
    [begin
         Sniffer = sniff(netns("routed", Room)),
         prove(Sniffer, Broadcast),
         attempt(Client, Broadcast),
         {Mark, Sent} = mark(Client, {Allowed, ?DISCARD}),
         Seen = seen_until(Sniffer, Mark),
         ?assertEqual([Sent], [D || {{_, ?DISCARD}, _, _} = D <- Seen]),
         socket:close(Sniffer)
     end || {Room, Broadcast, Allowed} <- [{"target", {12, 0, 0, 255}, ?TARGET},
                                           {"target", {255, 255, 255, 255}, ?TARGET},
                                           {"client", {11, 0, 0, 255}, ?CLIENT}]].

-spec x09_own_addresses(turn_kit:config()) -> _.
x09_own_addresses(Config) ->
    doc("what the machine itself listens to hears nothing, whichever of its addresses (X02, X03, "
        "X09)"),
    Client = allocated(Config),
    attempt_own(Client, allocated(Config),
                ips("127.0.0.1 127.1.2.3 127.255.255.254 0.0.0.0 0.1.2.3 11.0.0.1 11.0.0.3")).

-spec x09_own_addresses_v6(turn_kit:config()) -> _.
x09_own_addresses_v6(Config) ->
    doc("nor by IPv6 (X02, X03, X04, X09)"),
    attempt_own(allocated6(Config), allocated6(Config), ips("::1 :: 2a0a:1::1 2a0a:1::3")).

%% On the relay's own address another allocation may be a peer, so its IP can be permitted; no
%% other port of it can be reached. The other allocation marks the end of what is seen.
attempt_own(Client, #{relayed := Other}, Ips) ->
    #{relayed := {Own, _}} = Client,
    Sniffer = sniff(netns("routed", "server")),
    [attempt(Client, Ip) || Ip <- Ips],
    _ = success(permit(Client, [{Own, ?DISCARD}])),
    [begin
         expect(403, bind(Client, 16#4000, {Own, Port})),
         send_to(Client, {Own, Port}, ?NEVER)
     end || Port <- [?DISCARD, ?PORT]],
    expect(403, bind(Client, 16#4000, maps:get(relayed, Client))),
    send_to(Client, maps:get(relayed, Client), ?NEVER),
    {Mark, Sent} = mark(Client, Other),
    Seen = seen_until(Sniffer, Mark),
    %% Clients are heard too, what they send among it.
    ?assertEqual([Sent], lists:usort([D || {_, {From, _}, _} = D <- Seen, From =:= Own])),
    ?assertEqual([], [D || {_, _, ?NEVER} = D <- Seen]),
    socket:close(Sniffer).

%% -------------------------------------------------------------------------------------- tunnels

-spec x12_tunnel_sources(turn_kit:config()) -> _.
x12_tunnel_sources(Config) ->
    doc("no allocation for whoever comes out of a tunnel of Teredo or 6to4, once it is known who "
        "asks (RFC 8656 21.4, T49)"),
    Before = allocations(Config),
    [begin
         Stranger = client(Config, Ip, ?SERVER6),
         expect(401, ask(Stranger, request(allocate, [{requested_transport, 17}]))),
         Client = challenged(Stranger),
         expect(403, allocate(Client)),
         expect(403, allocate(Client, [?RAF6])),
         expect(437, call(Client, channel_bind, [{channel_number, 16#4000},
                                                 {xor_peer_address, {?TARGET6, 9}}])),
         %% A wrong password is told of that, and of nothing else.
         expect(401, allocate(Client#{password := <<"wrong">>}))
     end || Ip <- ips("2001:0:b00:2::2 2002:b00:2::2")],
    ?assertEqual(Before, allocations(Config)).

allocations(Config) ->
    #{allocations := Count} = meerkat:info(maps:get(name, server(Config))),
    Count.

-spec x12_tunnel_peers(turn_kit:config()) -> _.
x12_tunnel_peers(Config) ->
    doc("nor is any tunnel relayed into, whether or not it hides a good address (X12)"),
    Client = allocated6(Config),
    Sniffer = sniff(netns("routed", "client")),
    [begin
         prove(Sniffer, Ip),
         attempt(Client, Ip)
     end || Ip <- ips("2001:0:b00:2::2 2002:b00:2::2 2001:0:808:808::1 2002:808:808::1")],
    {Mark, Sent} = mark(Client, {?CLIENT6, ?DISCARD}),
    ?assertEqual([Sent], [D || {{_, ?DISCARD}, _, _} = D <- seen_until(Sniffer, Mark)]),
    socket:close(Sniffer).

%% ---------------------------------------------------------------------------------------- floods

-spec x22_spoofed_flood(turn_kit:config()) -> _.
x22_spoofed_flood(Config) ->
    doc("strangers who ask in the name of one address bring upon it no more than its share, "
        "whatever ports they name, and nothing is kept of them (X22)"),
    flood(Config, ?SERVER, "target", fun(N) -> {{44, 0, 0, 1}, 1024 + N} end),
    %% Whoever really is there and has credentials does not feel it.
    flood(Config, ?SERVER, "client", fun(N) -> {?CLIENT, 30000 + N} end).

-spec x22_spoofed_flood_v6(turn_kit:config()) -> _.
x22_spoofed_flood_v6(Config) ->
    doc("with IPv6 a network of 64 bits has one share (X22)"),
    flood(Config, ?SERVER6, "target",
          fun(N) -> {{16#2a0c, 1, 2, 3, N * 7 rem 65536, 0, N, 1}, 1024 + N} end).

flood(Config, Ip, Room, Source) ->
    {Rate, Burst} = {10, 20},
    Overrides = (routed())#{listeners => [#{transport => udp, ip => any, port => 0}],
                            unauthenticated_rate => Rate, unauthenticated_burst => Burst,
                            workers => 1},
    Server = start("routed", Config, Overrides),
    try
        flood(Server, Ip, Room, Source, Rate, Burst)
    after
        turn_kit:stop_server(Server)
    end.

flood(#{listeners := [{_, Port}, {_, Port6}]} = Server, Ip, Room, Source, Rate, Burst) ->
    Requests = 1000,
    To = {Ip, case tuple_size(Ip) of 4 -> Port; 8 -> Port6 end},
    Client = challenged(open(Server, #{netns => netns("routed", "client"), ip => ?CLIENT,
                                       to => {?SERVER, Port}})),
    Allocated = relayed(Client, []),
    Sniffer = sniff(netns("routed", Room)),
    Before = state(Server),
    Start = erlang:monotonic_time(millisecond),
    counted(Server, challenges, Requests, fun() ->
        spoof(To, [Source(N) || N <- lists:seq(1, Requests)])
    end),
    Elapsed = erlang:monotonic_time(millisecond) - Start,
    ?assertEqual(Before, state(Server)),
    {Mark, _} = mark(Allocated, {case Room of "target" -> ?TARGET; "client" -> ?CLIENT end,
                                 ?DISCARD}),
    Answers = length([D || {_, From, <<16#0113:16, _/binary>>} = D <- seen_until(Sniffer, Mark),
                           From =:= To]),
    %% The client of this case was answered once, perhaps out of the same share.
    ?assert(Answers >= Burst - 1),
    ?assert(Answers =< Burst + Rate * (Elapsed div 1000 + 1)),
    ?assertEqual(Requests - Answers, turn_kit:counter(Server, over_rate)),
    socket:close(Sniffer).

state(#{name := Name}) ->
    #{allocations := Allocations, relay := {ok, Relay}} = meerkat:info(Name),
    {Allocations, maps:with([sessions, peers, ports_free], Relay)}.

%% An unauthenticated Allocate in the name of each of these, from the client's room.
spoof({Ip, _} = To, Sources) ->
    Family = case tuple_size(Ip) of 4 -> inet; 8 -> inet6 end,
    {ok, Socket} = socket:open(Family, raw, 255, #{netns => netns("routed", "client")}),
    Request = request(allocate, [{requested_transport, 17}]),
    [ok = socket:sendto(Socket, packet(From, To, Request),
                        #{family => Family, addr => Ip, port => 0}) || From <- Sources],
    socket:close(Socket).

%% The kernel fills in the checksum of IPv4's header; that of UDP may be left out there.
packet({From, FromPort}, {To, ToPort}, Data) when tuple_size(To) =:= 4 ->
    Datagram = <<FromPort:16, ToPort:16, (8 + byte_size(Data)):16, 0:16, Data/binary>>,
    <<16#4500:16, (20 + byte_size(Datagram)):16, 0:32, 64, 17, 0:16, (bytes(From))/binary,
      (bytes(To))/binary, Datagram/binary>>;
packet({From, FromPort}, {To, ToPort}, Data) ->
    Length = 8 + byte_size(Data),
    Addresses = <<(bytes(From))/binary, (bytes(To))/binary>>,
    Ports = <<FromPort:16, ToPort:16, Length:16>>,
    Sum = checksum(<<Addresses/binary, Length:32, 17:32, Ports/binary, 0:16, Data/binary>>, 0),
    <<16#60000000:32, Length:16, 17, 64, Addresses/binary, Ports/binary, Sum:16, Data/binary>>.

bytes({A, B, C, D}) -> <<A, B, C, D>>;
bytes(Ip) -> << <<Word:16>> || Word <- tuple_to_list(Ip) >>.

%% RFC 1071; a request's length is even.
checksum(<<Word:16, More/binary>>, Sum) -> checksum(More, Sum + Word);
checksum(<<>>, Sum) when Sum > 16#ffff -> checksum(<<>>, Sum bsr 16 + Sum band 16#ffff);
checksum(<<>>, 16#ffff) -> 16#ffff;
checksum(<<>>, Sum) -> 16#ffff - Sum.

%% ------------------------------------------------------------------------------- many addresses

-spec s15_multihomed(turn_kit:config()) -> _.
s15_multihomed(Config) ->
    doc("a wildcard listener answers from the address it was asked at, and relays from there "
        "(RFC 8489 6.3.1.2)"),
    [asked_at(Config, ?CLIENT, To, ?TARGET, []) || To <- [?SERVER, {11, 0, 0, 3}, ?RELAY]].

-spec s15_multihomed_v6(turn_kit:config()) -> _.
s15_multihomed_v6(Config) ->
    doc("the same with IPv6"),
    [asked_at(Config, ?CLIENT6, To, ?TARGET6, [?RAF6])
     || To <- [?SERVER6, {16#2a0a, 1, 0, 0, 0, 0, 0, 3}, ?RELAY6]].

-spec link_local_clients(turn_kit:config()) -> _.
link_local_clients(Config) ->
    doc("a client by link-local addresses gets what its peers send, as data and by channel, of "
        "both families: the interface is learnt from what it sends"),
    [begin
         Client = relayed(challenged(open(server(Config), #{netns => netns("routed", "client"),
                                                            device => <<"c">>, ip => ?LINK_LOCAL,
                                                            to => {?LINK_LOCAL_SERVER, ?PORT}})),
                          Items),
         Peer = peer(Target, #{netns => netns("routed", "target")}),
         both_ways(Client, Peer),
         success(call(Client, refresh, [])),
         turn_kit:delete(Client),
         [turn_kit:close(S) || S <- [Client, Peer]]
     end || {Target, Items} <- [{?TARGET, []}, {?TARGET6, [?RAF6]}]].

%% turn_kit takes nothing from anywhere but where it sends to.
asked_at(Config, Ip, To, Target, Items) ->
    Asking = client(Config, Ip, To),
    turn_kit:fence(Asking),
    Client = relayed(challenged(Asking), Items),
    Peer = peer(Target, #{netns => netns("routed", "target")}),
    both_ways(Client, Peer),
    turn_kit:delete(Client),
    [turn_kit:close(S) || S <- [Client, Peer]].

%% By indications, then by a channel.
both_ways(#{relayed := Relayed} = Client, #{address := Address} = Peer) ->
    _ = success(permit(Client, [Peer])),
    send_to(Client, Peer, <<"one">>),
    ?assertEqual({Relayed, <<"one">>}, peer_next(Peer)),
    peer_send(Peer, Relayed, <<"two">>),
    ?assertEqual({Address, <<"two">>}, data(Client)),
    _ = success(bind(Client, 16#4000, Peer)),
    channel(Client, 16#4000, <<"three">>),
    ?assertEqual({Relayed, <<"three">>}, peer_next(Peer)),
    peer_send(Peer, Relayed, <<"four">>),
    ?assertEqual(stun_model:encode_channel(16#4000, <<"four">>), next(Client)).

%% ------------------------------------------------------------------------------------------ NAT

behind_nat(Config) ->
    Client = open(proplists:get_value(nat, Config), #{netns => netns("nat", "outside"),
                                                      ip => ?CLIENT, to => {{13, 0, 0, 1}, ?PORT}}),
    relayed(challenged(Client), []).

-spec nat_peer_outside(turn_kit:config()) -> _.
nat_peer_outside(Config) ->
    doc("behind a 1:1 NAT clients are told its address, and peers reach them there"),
    #{relayed := {Ip, _} = Relayed} = Client = behind_nat(Config),
    ?assertEqual({13, 0, 0, 1}, Ip),
    Peer = peer({11, 0, 0, 7}, #{netns => netns("nat", "outside")}),
    _ = success(permit(Client, [Peer])),
    %% The peer speaks first: nothing but the rule of the NAT brings that in.
    peer_send(Peer, Relayed, <<"zero">>),
    ?assertEqual({maps:get(address, Peer), <<"zero">>}, data(Client)),
    both_ways(Client, Peer).

-spec nat_clients_call_each_other(turn_kit:config()) -> _.
nat_clients_call_each_other(Config) ->
    doc("two clients meet at the addresses they were told, which are no addresses of the server; "
        "what they say never leaves it"),
    #{relayed := CallerAt} = Caller = behind_nat(Config),
    #{relayed := CalleeAt} = Callee = behind_nat(Config),
    Sniffer = sniff(netns("nat", "router")),
    _ = [success(permit(C, [At])) || {C, At} <- [{Caller, CalleeAt}, {Callee, CallerAt}]],
    send_to(Caller, CalleeAt, <<"one">>),
    ?assertEqual({CallerAt, <<"one">>}, data(Callee)),
    _ = success(bind(Callee, 16#4001, CallerAt)),
    channel(Callee, 16#4001, <<"two">>),
    ?assertEqual({CalleeAt, <<"two">>}, data(Caller)),
    _ = success(bind(Caller, 16#4002, CalleeAt)),
    channel(Caller, 16#4002, <<"three">>),
    ?assertEqual(stun_model:encode_channel(16#4001, <<"three">>), next(Callee)),
    {Mark, Sent} = mark(Caller, {{11, 0, 0, 7}, ?DISCARD}),
    {_, _, Payload} = Sent,
    Ports = [Port || {_, Port} <- [CallerAt, CalleeAt]],
    %% Of the relayed ports the router sees the mark alone, inside and outside.
    ?assertEqual([Payload], lists:usort([P || {{_, To}, {_, From}, P} <- seen_until(Sniffer, Mark),
                                              Port <- Ports, To =:= Port orelse From =:= Port])),
    socket:close(Sniffer).
