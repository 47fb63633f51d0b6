%% TCP relayed to peers (RFC 6062), for clients over TCP and over TLS. Named after the rows of the
%% conformance and the threat table.
-module(rfc6062_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2]).
-export([c1_requested_transport/1, c2_over_udp/1, c3_attributes_of_datagrams/1,
         c4_relayed_address/1, c5_connect_refused/1, c5_same_peer/1, c6_source_and_failure/1,
         c7_buffered/1, c8_incoming/1, c9_bind_refused/1, c9_bytes_behind/1, c10_credentials/1,
         c11_both_ends/1, c11_allocation_ends/1, c11_last_words/1, c12_back_pressure/1,
         c13_no_stun/1]).
-export([x15_filter/1, x16_rules_change/1, x77_new_peers_are_paced/1, x100_uniform/1,
         x101_ids/1]).
-export([uclient/1, client/1, client_refused/1]).
-export([quotas/1, many_workers/1, two_clients/1, families/1, bandwidth/1, same_bytes/1, shown/1,
         off_means_off/1]).
-export([c6_silent_peer/1, c7_not_taken_up/1, x102_unbound/1]).
-export([relay_dies/1, process_dies/1]).

-import(turn_kit, [doc/1, open/2, challenged/1, request/2, request/3, signed/3, call/3, allocated/3,
                   delete/1, permit/2, bind/3, next/1, await/2, fence/1, get/2, success/1,
                   expect/2, counted/3, counter/2, eventually/1,
                   with_server/2, dropped/3, send/2]).

-define(TIMEOUT, 30000).
-define(SPEED, 100).
-define(LOOPBACK, {127, 0, 0, 1}).
-define(V6_LOOPBACK, {0, 0, 0, 0, 0, 0, 0, 1}).
-define(TCP, {requested_transport, 6}).

-spec all() -> [term()].
all() -> [{group, tcp}, {group, tls}, {group, hasty}, relay_dies, process_dies, off_means_off].

-spec groups() -> [tuple()].
groups() ->
    Each = turn_kit:cases(?MODULE) -- hasty(),
    Both = Each ++ [quotas, many_workers, two_clients, families, bandwidth, same_bytes, shown,
                    uclient, client, client_refused],
    [{tcp, [], Both}, {tls, [], Both}, {hasty, [], hasty()}].

%% With a relay whose clock runs fast.
hasty() -> [c6_silent_peer, c7_not_taken_up, x100_uniform, x102_unbound].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "speaks UDP to others"}),
    Certificate = stream_kit:certificate(proplists:get_value(priv_dir, Config), ec,
                                         "turn.example.org"),
    Settings = (stream_kit:config([Certificate]))#{tcp_relay => true},
    [{settings, Settings}, {server, turn_kit:start_server(Settings#{mobility => true})} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) -> turn_kit:stop_server(server(Config)).

-spec init_per_group(atom(), turn_kit:config()) -> turn_kit:config().
init_per_group(hasty, Config) ->
    ok = meerkat_clock:set_speed(?SPEED),
    [{fast, stream_kit:fast_relay(proplists:get_value(data_dir, Config))} | Config];
init_per_group(Transport, Config) ->
    [{transport, Transport} | Config].

-spec end_per_group(atom(), turn_kit:config()) -> _.
end_per_group(hasty, _Config) -> ok = meerkat_clock:set_speed(1);
end_per_group(_, _Config) -> ok.

server(Config) -> proplists:get_value(server, Config).
settings(Config) -> proplists:get_value(settings, Config).
over(Config) -> #{transport => proplists:get_value(transport, Config, tcp)}.

connection(#{socket := Connection}) -> Connection.

%%% Clients and peers

%% With an allocation of TCP.
control(Config) -> control(server(Config), over(Config)).

control(Server, Options) ->
    Client = challenged(open(Server, Options)),
    #{class := success} = Answer = call(Client, allocate, [?TCP | extra(Options)]),
    Client#{relayed => get(xor_relayed_address, Answer), answer => Answer}.

extra(#{items := Items}) -> Items;
extra(#{}) -> [].

%% A peer that listens, and what it has accepted.
listening() -> listening(?LOOPBACK).

listening(Ip) ->
    {ok, Socket} = gen_tcp:listen(0, peer_options(Ip)),
    {ok, Address} = inet:sockname(Socket),
    {Socket, Address}.

peer_options(Ip) ->
    Family = case tuple_size(Ip) of 4 -> inet; 8 -> inet6 end,
    [binary, Family, {ip, Ip}, {active, false}, {exit_on_close, false}, {nodelay, true},
     {reuseaddr, true}, {backlog, 128}].

accepted({Socket, _}) ->
    {ok, Peer} = gen_tcp:accept(Socket, ?TIMEOUT),
    Peer.

%% A port where nobody listens.
closed_port() ->
    {Socket, Address} = listening(),
    ok = gen_tcp:close(Socket),
    Address.

%% A peer that comes by itself.
coming(Relayed) -> coming(Relayed, []).

coming({Ip, Port}, Options) ->
    {ok, Peer} = gen_tcp:connect(Ip, Port, Options ++ [{reuseaddr, true}
                                 | lists:sublist(peer_options(any(Ip)), 6)], ?TIMEOUT),
    Peer.

any(Ip) when tuple_size(Ip) =:= 8 -> ?V6_LOOPBACK;
any(_) -> ?LOOPBACK.

%% The peer of a socket, for a request.
address(Socket) ->
    {ok, Address} = inet:sockname(Socket),
    Address.

connect(Client, Peer) -> call(Client, connect, [{xor_peer_address, Peer}]).

%% Connected: the CONNECTION-ID, and the peer's socket.
connected(Client, {_, Address} = Listening) ->
    #{class := success} = Answer = connect(Client, Address),
    {get(connection_id, Answer), accepted(Listening)}.

%% What the client is told of a peer that came: CONNECTION-ID and address.
attempt(Client) ->
    {ok, #{class := indication, method := connection_attempt} = Attempt} =
        stun_model:decode(next(Client)),
    [] = maps:get(malformed, Attempt),
    {get(connection_id, Attempt), get(xor_peer_address, Attempt)}.

%% A connection of the client's to be bound.
fresh(Server, Options) -> challenged(open(Server, Options)).

bound(Config, Id) -> bound(server(Config), over(Config), Id).

bound(Server, Options, Id) ->
    Data = fresh(Server, Options#{half => true}),
    success(call(Data, connection_bind, [{connection_id, Id}])),
    connection(Data).

%% Both ends of a connection through the relay.
pair(Config) -> pair(server(Config), over(Config)).

pair(Server, Options) ->
    Client = control(Server, Options),
    {Data, Peer} = one_more(Server, Options, Client),
    {Client, Data, Peer}.

one_more(Server, Options, Client) ->
    {Id, Peer} = connected(Client, listening()),
    {bound(Server, Options, Id), Peer}.

%% So many bytes, as a client's connection has read them.
bytes(Data, N) -> bytes(Data, N, []).

bytes(_Data, 0, Read) ->
    iolist_to_binary(lists:reverse(Read));
bytes(Data, N, Read) when N > 0 ->
    receive
        {bytes, Data, Bytes} -> bytes(Data, N - byte_size(Bytes), [Bytes | Read])
    after ?TIMEOUT -> error({missing, N})
    end.

%% All that is left, to the end.
rest(Data, Read) ->
    receive
        {bytes, Data, Bytes} -> rest(Data, [Bytes | Read]);
        {closed, Data} -> iolist_to_binary(lists:reverse(Read))
    after ?TIMEOUT -> error(no_end)
    end.

peer_rest(Peer, Read) ->
    case gen_tcp:recv(Peer, 0, ?TIMEOUT) of
        {ok, Bytes} -> peer_rest(Peer, [Bytes | Read]);
        {error, closed} -> iolist_to_binary(lists:reverse(Read))
    end.

%% Both ways.
echoes(Data, Peer) ->
    ok = stream_kit:raw(Data, <<"ping">>),
    ?assertEqual({ok, <<"ping">>}, gen_tcp:recv(Peer, 4, ?TIMEOUT)),
    ok = gen_tcp:send(Peer, <<"pong">>),
    ?assertEqual(<<"pong">>, bytes(Data, 4)).

gone(Peer) -> ?assertMatch({error, _}, gen_tcp:recv(Peer, 0, ?TIMEOUT)).

close_all(Connections) ->
    [case C of
         #{} -> turn_kit:close(C);
         Pid when is_pid(Pid) -> stream_kit:close(Pid);
         Socket -> gen_tcp:close(Socket)
     end || C <- Connections].

%%% Allocate

-spec c1_requested_transport(turn_kit:config()) -> _.
c1_requested_transport(Config) ->
    doc("UDP and TCP are relayed, nothing else (RFC 6062 5.1)"),
    Client = challenged(open(server(Config), over(Config))),
    [expect(442, call(Client, allocate, [{requested_transport, T}])) || T <- [0, 1, 33, 255]],
    success(call(Client, allocate, [{requested_transport, 17}])),
    close_all([Client, control(Config)]).

-spec off_means_off(turn_kit:config()) -> _.
off_means_off(Config) ->
    doc("by default TCP is not relayed: 442, and there is no connection to bind (RFC 6062 5.1)"),
    with_server((settings(Config))#{tcp_relay => false}, fun(Server) ->
        Client = challenged(open(Server, #{transport => tcp})),
        expect(442, call(Client, allocate, [?TCP])),
        expect(437, connect(Client, {?LOOPBACK, 5000})),
        expect(400, call(Client, connection_bind, [{connection_id, 1}])),
        success(call(Client, allocate, [{requested_transport, 17}])),
        expect(400, connect(Client, {?LOOPBACK, 5000})),
        expect(442, call(challenged(open(Server, #{})), allocate, [?TCP])),
        turn_kit:close(Client)
    end).

-spec c2_over_udp(turn_kit:config()) -> _.
c2_over_udp(Config) ->
    doc("a client over UDP can have no allocation of TCP (RFC 6062 5.1)"),
    Client = challenged(open(server(Config), #{})),
    expect(400, call(Client, allocate, [?TCP])),
    turn_kit:close(Client).

-spec c3_attributes_of_datagrams(turn_kit:config()) -> _.
c3_attributes_of_datagrams(Config) ->
    doc("DONT-FRAGMENT, EVEN-PORT, RESERVATION-TOKEN, a second address: 400 (RFC 6062 5.1)"),
    Client = challenged(open(server(Config), over(Config))),
    [expect(400, call(Client, allocate, [?TCP, Item]))
     || Item <- [{dont_fragment, true}, {even_port, false}, {even_port, true},
                 {reservation_token, 1}, {additional_address_family, 2}]],
    expect(405, call(Client, allocate, [?TCP, {mobility_ticket, <<>>}])),
    expect(440, call(Client, allocate, [?TCP, {requested_address_family, 3}])),
    turn_kit:close(Client).

-spec c4_relayed_address(turn_kit:config()) -> _.
c4_relayed_address(Config) ->
    doc("the relayed address is one of TCP that listens; nothing of UDP works (RFC 6062 5.1, 4.2)"),
    #{relayed := {Ip, Port}, answer := Answer} = Client = control(Config),
    ?assertEqual([lifetime, xor_mapped_address, xor_relayed_address],
                 [N || N <- turn_kit:names(Answer), not lists:member(N, signatures())]),
    {ok, Peer} = gen_tcp:connect(Ip, Port, [], ?TIMEOUT),
    {ok, Udp} = gen_udp:open(Port, [{ip, Ip}]),
    expect(400, bind(Client, 16#4001, {Ip, 5000})),
    success(permit(Client, [{Ip, 5000}])),
    dropped(Client, peer_family, request(indication, send, [{xor_peer_address, {Ip, 5000}},
                                                            {data, <<"lost">>}])),
    success(call(Client, refresh, [{lifetime, 700}])),
    ok = gen_udp:close(Udp),
    close_all([Client, Peer]).

signatures() -> [message_integrity, message_integrity_sha256, fingerprint, software].

%%% Connect

-spec c5_connect_refused(turn_kit:config()) -> _.
c5_connect_refused(Config) ->
    doc("whom a client cannot be connected with: 437, 400, 443, 403 (RFC 6062 5.2)"),
    #{ip := Ip, port := Listener} = server(Config),
    None = challenged(open(server(Config), over(Config))),
    expect(437, connect(None, {?LOOPBACK, 5000})),
    Udp = allocated(server(Config), [], over(Config)),
    expect(400, connect(Udp, {?LOOPBACK, 5000})),
    #{relayed := Relayed} = Client = control(Config),
    expect(400, call(Client, connect, [])),
    expect(400, call(Client, connect, [{xor_peer_address, {?LOOPBACK, 0}}])),
    expect(400, call(Client, connect, [{xor_peer_address, {raw, <<0, 1, 2>>}}])),
    expect(420, call(Client, connect, [{xor_peer_address, {?LOOPBACK, 5000}},
                                       {16#7fff, <<1>>}])),
    expect(443, connect(Client, {?V6_LOOPBACK, 5000})),
    [expect(403, connect(Client, Peer))
     || Peer <- [{{10, 0, 0, 1}, 5000}, {?LOOPBACK, 1023}, {Ip, Listener}, Relayed]],
    fence(Client),
    close_all([None, Udp, Client]).

-spec c5_same_peer(turn_kit:config()) -> _.
c5_same_peer(Config) ->
    doc("a second connection with the same peer: 446, be the first asked for, made or bound"),
    Client = control(Config),
    {_, Address} = Listening = listening(),
    [First, Second] = [signed(Client, connect, [{xor_peer_address, Address}])
                       || _ <- lists:seq(1, 2)],
    ok = stream_kit:raw(connection(Client), [First, Second]),
    ?assertEqual([success, 446], lists:sort(fun(A, _) -> A =:= success end,
                                            [outcome(Client, R) || R <- [First, Second]])),
    _ = accepted(Listening),
    expect(446, connect(Client, Address)),
    %% The same 5-tuple the other way round.
    #{relayed := Relayed} = Client,
    success(permit(Client, [{?LOOPBACK, 0}])),
    Peer = coming(Relayed),
    {Id, Came} = attempt(Client),
    ?assertEqual(address(Peer), Came),
    expect(446, connect(Client, Came)),
    Data = bound(Config, Id),
    expect(446, connect(Client, Came)),
    close_all([Peer]),
    ok = stream_kit:close(Data),
    eventually(fun() -> turn_kit:code(connect(Client, Came)) =/= 446 end),
    close_all([Client]).

outcome(Client, <<_:64, Txid:12/binary, _/binary>>) ->
    case stun_model:decode(await(Client, Txid)) of
        {ok, #{class := success}} -> success;
        {ok, Answer} -> turn_kit:code(Answer)
    end.

-spec c6_source_and_failure(turn_kit:config()) -> _.
c6_source_and_failure(Config) ->
    doc("the peer sees the relayed address; one that refuses is 447, and nobody waits for it"),
    #{relayed := Relayed} = Client = control(Config),
    {_, Peer} = connected(Client, listening()),
    ?assertEqual({ok, Relayed}, inet:peername(Peer)),
    <<_:64, Txid:12/binary, _/binary>> = Request =
        signed(Client, connect, [{xor_peer_address, closed_port()}]),
    send(Client, Request),
    success(call(Client, refresh, [{lifetime, 600}])),
    {ok, Answer} = stun_model:decode(await(Client, Txid)),
    ?assertEqual(447, turn_kit:code(Answer)),
    close_all([Client, Peer]).

-spec c6_silent_peer(turn_kit:config()) -> _.
c6_silent_peer(Config) ->
    doc("a peer that does not answer within 30 s is 447 (RFC 6062 5.2)"),
    hasty_server(Config, fun(Server) ->
        %% Whoever comes to a full backlog gets no answer.
        {ok, Socket} = gen_tcp:listen(0, [{ip, ?LOOPBACK}, {backlog, 0}]),
        Full = address(Socket),
        {ok, _} = gen_tcp:connect(?LOOPBACK, element(2, Full), [], ?TIMEOUT),
        Client = control(Server, #{transport => tcp}),
        counted(Server, peer_connects_late, fun() -> expect(447, connect(Client, Full)) end),
        fence(Client)
    end).

-spec x100_uniform(turn_kit:config()) -> _.
x100_uniform(Config) ->
    doc("a peer that refuses and one that is silent are told of alike (X100)"),
    hasty_server(Config, fun(Server) ->
        {ok, Socket} = gen_tcp:listen(0, [{ip, ?LOOPBACK}, {backlog, 0}]),
        Full = address(Socket),
        {ok, _} = gen_tcp:connect(?LOOPBACK, element(2, Full), [], ?TIMEOUT),
        Client = control(Server, #{transport => tcp}),
        Answers = [expect(447, connect(Client, Peer)) || Peer <- [closed_port(), Full]],
        ?assertMatch([_], lists:usort([{turn_kit:names(A), get(error_code, A)}
                                       || A <- Answers]))
    end).

%%% ConnectionBind

-spec c7_buffered(turn_kit:config()) -> _.
c7_buffered(Config) ->
    doc("what a peer says before the connection is bound comes behind the answer (RFC 6062 5.2)"),
    Client = control(Config),
    {Id, Peer} = connected(Client, listening()),
    Said = crypto:strong_rand_bytes(100000),
    Sender = self(),
    spawn_link(fun() ->
        ok = gen_tcp:send(Peer, Said),
        ok = gen_tcp:shutdown(Peer, write),
        Sender ! said
    end),
    Data = bound(Config, Id),
    ?assert(Said =:= bytes(Data, byte_size(Said))),
    receive said -> ok after ?TIMEOUT -> error(not_said) end,
    stream_kit:closed(Data),
    close_all([Client]).

-spec c7_not_taken_up(turn_kit:config()) -> _.
c7_not_taken_up(Config) ->
    doc("a connection that nobody binds for 30 s ends, asked for or come (RFC 6062 5.2, 5.3)"),
    hasty_server(Config, fun(Server) ->
        #{relayed := Relayed} = Client = control(Server, #{transport => tcp}),
        {Id, Peer} = connected(Client, listening()),
        success(permit(Client, [{?LOOPBACK, 0}])),
        Came = coming(Relayed),
        {Other, _} = attempt(Client),
        gone(Peer),
        gone(Came),
        eventually(fun() -> counter(Server, peer_unjoined) =:= 2 end),
        [expect(400, call(fresh(Server, #{transport => tcp}), connection_bind,
                          [{connection_id, One}])) || One <- [Id, Other]],
        fence(Client)
    end).

-spec c8_incoming(turn_kit:config()) -> _.
c8_incoming(Config) ->
    doc("a peer that comes is closed at once without permission, else told of (RFC 6062 5.3)"),
    #{relayed := Relayed} = Client = control(Config),
    counted(server(Config), peer_accepts_no_permission, fun() -> gone(coming(Relayed)) end),
    fence(Client),
    success(permit(Client, [{?LOOPBACK, 0}])),
    Peer = coming(Relayed),
    {Id, From} = attempt(Client),
    ?assertEqual(address(Peer), From),
    Data = bound(Config, Id),
    echoes(Data, Peer),
    close_all([Client, Peer]).

-spec c9_bind_refused(turn_kit:config()) -> _.
c9_bind_refused(Config) ->
    doc("ConnectionBind over UDP, without or with an id that waits for nobody: 400 (RFC 6062 5.4)"),
    Client = control(Config),
    {Id, Peer} = connected(Client, listening()),
    Bind = fun(Who, Items) -> call(Who, connection_bind, Items) end,
    Data = fresh(server(Config), over(Config)),
    expect(400, Bind(Data, [])),
    expect(400, Bind(Data, [{connection_id, {raw, <<1, 2>>}}])),
    expect(400, Bind(Data, [{connection_id, Id bxor 1}])),
    expect(400, Bind(Client, [{connection_id, Id}])),
    expect(400, Bind(challenged(open(server(Config), #{})), [{connection_id, Id}])),
    expect(401, turn_kit:ask(Data, request(connection_bind, [{connection_id, Id}]))),
    %% Whatever stands behind a request that was refused is a message again.
    Refused = signed(Data, connection_bind, [{connection_id, Id bxor 1}]),
    <<_:64, Txid:12/binary, _/binary>> = Binding = request(binding, []),
    ok = stream_kit:raw(connection(Data), [Refused, Binding]),
    ?assertEqual(400, outcome(Data, Refused)),
    {ok, #{class := success}} = stun_model:decode(await(Data, Txid)),
    success(Bind(Data, [{connection_id, Id}])),
    expect(400, Bind(fresh(server(Config), over(Config)), [{connection_id, Id}])),
    echoes(connection(Data), Peer),
    close_all([Client, Peer]).

-spec c9_bytes_behind(turn_kit:config()) -> _.
c9_bytes_behind(Config) ->
    doc("what a client says behind its ConnectionBind, in one write, is for the peer (5.4)"),
    Client = control(Config),
    [begin
         {Id, Peer} = connected(Client, listening()),
         Data = fresh(server(Config), over(Config)),
         Said = crypto:strong_rand_bytes(Size),
         Bind = signed(Data, connection_bind, [{connection_id, Id}]),
         ok = stream_kit:raw(connection(Data), [Bind, Said]),
         ?assertEqual(success, outcome(Data, Bind)),
         {ok, Heard} = gen_tcp:recv(Peer, Size, ?TIMEOUT),
         ?assert(Said =:= Heard),
         echoes(connection(Data), Peer),
         close_all([Peer, connection(Data)])
     end || Size <- [1, 3, 20, 4096, 200000]],
    close_all([Client]).

-spec c10_credentials(turn_kit:config()) -> _.
c10_credentials(Config) ->
    doc("another user's ConnectionBind is 400 and spoils nothing; Connect is 441 (RFC 6062 4.3)"),
    Client = control(Config),
    {Id, Peer} = connected(Client, listening()),
    Bob = fresh(server(Config), (over(Config))#{user => <<"bob">>}),
    expect(400, call(Bob, connection_bind, [{connection_id, Id}])),
    Data = bound(Config, Id),
    echoes(Data, Peer),
    AsBob = maps:merge(Client, maps:with([user, password, key], Bob)),
    expect(441, connect(AsBob, closed_port())),
    close_all([Client, Bob, Peer]).

%%% The end

-spec c11_both_ends(turn_kit:config()) -> _.
c11_both_ends(Config) ->
    doc("who has said all is told so to the other side, behind all of it; both may (RFC 6062 5.5)"),
    Client = control(Config),
    Size = 300000,
    %% The client first.
    {Data, Peer} = one_more(server(Config), over(Config), Client),
    Question = crypto:strong_rand_bytes(Size),
    Answer = crypto:strong_rand_bytes(Size),
    ok = stream_kit:raw(Data, Question),
    ok = stream_kit:shutdown(Data),
    ?assert(Question =:= peer_rest(Peer, [])),
    spawn_link(fun() ->
        ok = gen_tcp:send(Peer, Answer),
        ok = gen_tcp:shutdown(Peer, write)
    end),
    ?assert(Answer =:= rest(Data, [])),
    %% The peer first; whoever speaks TLS here cannot go on then.
    {Data2, Peer2} = one_more(server(Config), over(Config), Client),
    spawn_link(fun() ->
        ok = gen_tcp:send(Peer2, Answer),
        ok = gen_tcp:shutdown(Peer2, write)
    end),
    ?assert(Answer =:= rest(Data2, [])),
    case over(Config) of
        #{transport := tcp} ->
            ok = stream_kit:raw(Data2, Question),
            ok = stream_kit:shutdown(Data2),
            ?assert(Question =:= peer_rest(Peer2, []));
        #{transport := tls} ->
            ?assertEqual(<<>>, peer_rest(Peer2, []))
    end,
    eventually(fun() -> connections(Config, Client) =:= [] end),
    %% One that breaks off breaks off the other.
    {Data3, Peer3} = one_more(server(Config), over(Config), Client),
    ok = inet:setopts(Peer3, [{linger, {true, 0}}]),
    counted(server(Config), peer_broken, fun() ->
        gen_tcp:close(Peer3),
        stream_kit:closed(Data3)
    end),
    close_all([Client]).

connections(Config, #{here := Here}) ->
    #{name := Name} = server(Config),
    [Id] = [S || #{client := C, session := S} <- meerkat:allocations(Name), C =:= Here],
    {ok, #{connections := Connections}} = meerkat_sessions:details(Name, Id),
    Connections.

-spec c11_allocation_ends(turn_kit:config()) -> _.
c11_allocation_ends(Config) ->
    doc("with the allocation its connections end, bound or not: by Refresh, by the end of the "
        "connection, by an administrator (RFC 6062 5.5)"),
    #{name := Name} = server(Config),
    Ends = [fun(Client) -> delete(Client) end,
            fun(Client) -> turn_kit:close(Client) end,
            fun(#{here := Here}) ->
                [Id] = [S || #{client := C, session := S} <- meerkat:allocations(Name),
                             C =:= Here],
                1 = meerkat_sessions:disconnect(Name, Id)
            end],
    [begin
         {#{relayed := Relayed} = Client, Data, Peer} = pair(Config),
         {_, Waiting} = connected(Client, listening()),
         End(Client),
         stream_kit:closed(Data),
         gone(Peer),
         gone(Waiting),
         eventually(fun() ->
             {Ip, Port} = Relayed,
             gen_tcp:connect(Ip, Port, [], ?TIMEOUT) =:= {error, econnrefused}
         end)
     end || End <- Ends].

-spec c11_last_words(turn_kit:config()) -> _.
c11_last_words(Config) ->
    doc("what a client has said before it closed everything is still sent to its peer"),
    [begin
         {Client, Data, Peer} = pair(Config),
         Said = crypto:strong_rand_bytes(50000),
         ok = stream_kit:raw(Data, Said),
         ok = stream_kit:close(Data),
         turn_kit:close(Client),
         ?assert(Said =:= peer_rest(Peer, []))
     end || _ <- lists:seq(1, 5)].

%%% Back-pressure

-spec c12_back_pressure(turn_kit:config()) -> _.
c12_back_pressure(Config) ->
    doc("while one side does not read the other is not read, and nothing is lost (RFC 6062 3)"),
    #{name := Name} = server(Config),
    Client = control(server(Config), (over(Config))#{recbuf => 16384}),
    Pieces = [crypto:strong_rand_bytes(65536) || _ <- lists:seq(1, 384)],
    Said = iolist_to_binary(Pieces),
    {Id, Peer} = connected(Client, listening()),
    Data = fresh(server(Config), (over(Config))#{recbuf => 16384}),
    success(call(Data, connection_bind, [{connection_id, Id}])),
    ok = stream_kit:pause(connection(Data)),
    Sender = sender(fun() -> [ok = gen_tcp:send(Peer, Piece) || Piece <- Pieces] end),
    stuck(Sender, fun() -> counter(server(Config), peer_stream_bytes) end),
    {ok, #{queued := Queued}} = meerkat_relay:stats(Name),
    ?assert(Queued < 1 bsl 20),
    fence(Client),
    ok = stream_kit:resume(connection(Data)),
    ?assert(Said =:= bytes(connection(Data), byte_size(Said))),
    done(Sender),
    %% The other way round.
    Back = sender(fun() -> [ok = stream_kit:raw(connection(Data), Piece) || Piece <- Pieces] end),
    stuck(Back, fun() -> counter(server(Config), peer_stream_sent_bytes) end),
    {ok, #{queued := QueuedBack}} = meerkat_relay:stats(Name),
    ?assert(QueuedBack < 1 bsl 20),
    fence(Client),
    {ok, Heard} = gen_tcp:recv(Peer, byte_size(Said), ?TIMEOUT),
    ?assert(Said =:= Heard),
    done(Back),
    close_all([Client, Peer]).

sender(Fun) ->
    {Pid, Monitor} = spawn_monitor(Fun),
    {Pid, Monitor}.

done({Pid, Monitor}) ->
    receive {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason)
    after ?TIMEOUT -> error(stuck)
    end.

%% What has been relayed grows no more, and the sender is not done.
stuck(Sender, Relayed) -> stuck(Sender, Relayed, -1, 0).

stuck({Pid, _}, _Relayed, _Before, 20) ->
    ?assert(is_process_alive(Pid));
stuck(Sender, Relayed, Before, Times) ->
    receive after 10 -> ok end,
    case Relayed() of
        Before -> stuck(Sender, Relayed, Before, Times + 1);
        More -> stuck(Sender, Relayed, More, 0)
    end.

-spec c13_no_stun(turn_kit:config()) -> _.
c13_no_stun(Config) ->
    doc("a bound connection carries bytes, be they STUN or ChannelData by their looks (5.4)"),
    {Client, Data, Peer} = pair(Config),
    Said = iolist_to_binary([request(binding, []), <<16#4001:16, 3:16, "abc">>, <<22, 3, 1>>,
                             signed(Client, refresh, [{lifetime, 0}])]),
    ok = stream_kit:raw(Data, Said),
    ?assertEqual({ok, Said}, gen_tcp:recv(Peer, byte_size(Said), ?TIMEOUT)),
    ok = gen_tcp:send(Peer, Said),
    ?assertEqual(Said, bytes(Data, byte_size(Said))),
    fence(Client),
    close_all([Client, Peer]).

%%% Who may be reached

-spec x15_filter(turn_kit:config()) -> _.
x15_filter(Config) ->
    doc("the rules hold for Connect and for peers that come, as they do elsewhere (X15)"),
    {Ip, Port} = closed_port(),
    Settings = (settings(Config))#{allowed_peers => [{?LOOPBACK, {Port, Port}}],
                                   denied_peers => [{{127, 0, 0, 0}, 8}]},
    with_server(Settings, fun(Server) ->
        #{relayed := Relayed} = Client = control(Server, over(Config)),
        {ok, Listen} = gen_tcp:listen(Port, peer_options(Ip)),
        {_, Peer} = connected(Client, {Listen, {Ip, Port}}),
        expect(403, connect(Client, {Ip, Port bxor 1})),
        [expect(403, connect(Client, {Forbidden, 5000}))
         || Forbidden <- [{169, 254, 169, 254}, {10, 1, 2, 3}, {0, 0, 0, 0}, {255, 255, 255, 255},
                          {224, 0, 0, 1}, {192, 88, 99, 1}]],
        success(permit(Client, [{Ip, 0}])),
        counted(Server, peer_accepts_forbidden, fun() -> gone(coming(Relayed)) end),
        close_all([Client, Peer, Listen])
    end).

-spec x16_rules_change(turn_kit:config()) -> _.
x16_rules_change(Config) ->
    doc("a peer that new rules forbid is cut off, bound as it may be (X16)"),
    with_server(settings(Config), fun(#{name := Name} = Server) ->
        {Client, Data, Peer} = pair(Server, over(Config)),
        echoes(Data, Peer),
        Config0 = meerkat_settings:config(meerkat_registry:settings(Name)),
        ok = meerkat:reload(Name, Config0#{allowed_peers => [],
                                           denied_peers => [{{127, 0, 0, 0}, 8}]}),
        %% What comes while the rules are on their way to the worker is judged by those before.
        eventually(fun() ->
            _ = gen_tcp:send(Peer, <<"lost">>),
            receive {closed, Data} -> true after 0 -> false end
        end),
        gone(Peer),
        fence(Client),
        close_all([Client])
    end).

-spec x101_ids(turn_kit:config()) -> _.
x101_ids(Config) ->
    doc("CONNECTION-IDs are drawn at random and good once (X101)"),
    #{relayed := Relayed} = Client = control(Config),
    success(permit(Client, [{?LOOPBACK, 0}])),
    Peers = [coming(Relayed) || _ <- lists:seq(1, 16)],
    Ids = [element(1, attempt(Client)) || _ <- Peers],
    ?assertEqual(16, length(lists:usort(Ids))),
    %% The least of 16 in 2^32 by chance: none of these fails once in ten thousand years of tests.
    ?assert(lists:max(Ids) > 1 bsl 26),
    ?assertNotEqual(1, length(lists:usort([B - A || {A, B} <- neighbours(lists:sort(Ids))]))),
    close_all([Client | Peers]).

neighbours([A, B | Rest]) -> [{A, B} | neighbours([B | Rest])];
neighbours(_) -> [].

-spec x102_unbound(turn_kit:config()) -> _.
x102_unbound(Config) ->
    doc("a peer that says much before it is bound costs the kernel's buffer, and ends (X102)"),
    hasty_server(Config, fun(#{name := Name} = Server) ->
        Client = control(Server, #{transport => tcp}),
        {_, Peer} = connected(Client, listening()),
        ?assertMatch({error, _}, send_on(Peer)),
        {ok, #{queued := 0}} = meerkat_relay:stats(Name),
        ?assertEqual(0, counter(Server, peer_stream_bytes))
    end).

send_on(Peer) ->
    case gen_tcp:send(Peer, <<0:65536/unit:8>>) of
        ok -> send_on(Peer);
        Error -> Error
    end.

%%% How much there may be

-spec quotas(turn_kit:config()) -> _.
quotas(Config) ->
    doc("connections of an allocation, of a user; those that come count, and ended ones do not"),
    Settings = (settings(Config))#{tcp_relay_connections => 3, tcp_relay_user_connections => 4},
    with_server(Settings, fun(Server) ->
        #{relayed := Relayed} = Client = control(Server, over(Config)),
        success(permit(Client, [{?LOOPBACK, 0}])),
        {_, _Peer} = connected(Client, listening()),
        {Id, Second} = connected(Client, listening()),
        Third = coming(Relayed),
        _ = attempt(Client),
        expect(508, connect(Client, closed_port())),
        counted(Server, peer_accepts_full, fun() -> gone(coming(Relayed)) end),
        #{relayed := OtherRelayed} = Other = control(Server, over(Config)),
        success(permit(Other, [{?LOOPBACK, 0}])),
        {_, _} = connected(Other, listening()),
        expect(486, connect(Other, closed_port())),
        gone(coming(OtherRelayed)),
        %% Bob is another.
        {_, _} = connected(control(Server, (over(Config))#{user => <<"bob">>}), listening()),
        %% One that ends makes room.
        Data = bound(Server, over(Config), Id),
        close_all([Data, Second]),
        eventually(fun() -> turn_kit:code(connect(Client, closed_port())) =:= 447 end),
        close_all([Client, Third]),
        eventually(fun() -> turn_kit:code(connect(Other, closed_port())) =:= 447 end)
    end).

%% A Connect needs no permission, and its answer tells whether the port is open.
-spec x77_new_peers_are_paced(turn_kit:config()) -> _.
x77_new_peers_are_paced(Config) ->
    doc("new_peers_rate: 508 for a connection with a new peer too soon; later there may be more, "
        "and whoever is permitted costs nothing"),
    with_server((settings(Config))#{new_peers_rate => 1}, fun(Server) ->
        Client = control(Server, over(Config)),
        {_, Port} = closed_port(),
        success(permit(Client, [{?LOOPBACK, 0}])),
        Permitted = fun(N) -> turn_kit:code(permit(Client, [{{127, 0, 8, N}, 0}])) end,
        Connected = fun(N) -> turn_kit:code(connect(Client, {{127, 0, 8, N}, Port})) end,
        eventually(fun() ->
            [_ | _] = lists:dropwhile(fun(N) -> Permitted(N) =/= 508 end, lists:seq(1, 60)),
            Connected(100) =:= 508
        end),
        [_ = connected(Client, listening()) || _ <- lists:seq(1, 5)],
        eventually(fun() -> Connected(101) =:= 447 end)
    end).

-spec many_workers(turn_kit:config()) -> _.
many_workers(Config) ->
    doc("whichever worker the kernel brings a connection to be bound to, it is joined to its peer"),
    with_server((settings(Config))#{workers => 4}, fun(#{name := Name} = Server) ->
        Client = control(Server, over(Config)),
        Pairs = [one_more(Server, over(Config), Client) || _ <- lists:seq(1, 12)],
        [echoes(Data, Peer) || {Data, Peer} <- Pairs],
        Said = crypto:strong_rand_bytes(100000),
        [begin
             ok = stream_kit:raw(Data, Said),
             ok = stream_kit:shutdown(Data),
             ?assert(Said =:= peer_rest(Peer, []))
         end || {Data, Peer} <- Pairs],
        turn_kit:close(Client),
        [stream_kit:closed(Data) || {Data, _} <- Pairs],
        eventually(fun() ->
            {ok, #{connections := N}} = meerkat_relay:stats(Name),
            N =:= 0
        end)
    end).

-spec two_clients(turn_kit:config()) -> _.
two_clients(Config) ->
    doc("two clients are connected by their relayed addresses; UDP of one is no peer of TCP"),
    #{relayed := RelayedA} = A = control(Config),
    #{relayed := RelayedB} = B = control(Config),
    success(permit(B, [RelayedA])),
    #{class := success} = Answer = connect(A, RelayedB),
    {IdB, From} = attempt(B),
    ?assertEqual(RelayedA, From),
    [DataA, DataB] = [bound(Config, Id) || Id <- [get(connection_id, Answer), IdB]],
    ok = stream_kit:raw(DataA, <<"hello">>),
    ?assertEqual(<<"hello">>, bytes(DataB, 5)),
    ok = stream_kit:raw(DataB, <<"hello yourself">>),
    ?assertEqual(<<"hello yourself">>, bytes(DataA, 14)),
    close_all([A, B]).

-spec families(turn_kit:config()) -> _.
families(Config) ->
    doc("IPv6 by REQUESTED-ADDRESS-FAMILY (RFC 8656 7.2)"),
    Options = (over(Config))#{items => [{requested_address_family, 2}]},
    #{relayed := {Ip, _} = Relayed} = Client = control(server(Config), Options),
    ?assertEqual(8, tuple_size(Ip)),
    expect(443, connect(Client, {?LOOPBACK, 5000})),
    expect(443, permit(Client, [{?LOOPBACK, 0}])),
    {Id, Peer} = connected(Client, listening(?V6_LOOPBACK)),
    ?assertEqual({ok, Relayed}, inet:peername(Peer)),
    Data = bound(Config, Id),
    echoes(Data, Peer),
    close_all([Client, Peer]).

-spec bandwidth(turn_kit:config()) -> _.
bandwidth(Config) ->
    doc("a limit of bandwidth slows a connection down, and loses nothing"),
    with_server((settings(Config))#{max_bps => 400000}, fun(Server) ->
        {Client, Data, Peer} = pair(Server, over(Config)),
        Said = crypto:strong_rand_bytes(250000),
        spawn_link(fun() -> ok = gen_tcp:send(Peer, Said) end),
        ?assert(Said =:= bytes(Data, byte_size(Said))),
        ok = stream_kit:raw(Data, Said),
        ok = stream_kit:shutdown(Data),
        ?assert(Said =:= peer_rest(Peer, [])),
        close_all([Client])
    end).

-spec same_bytes(turn_kit:config()) -> _.
same_bytes(Config) ->
    doc("whatever is said, in pieces of any size, by both at a time, comes out the same"),
    Client = control(Config),
    Conversation = fun({ToPeer, ToClient, PeerEnds}) ->
        {Data, Peer} = one_more(server(Config), over(Config), Client),
        Said = sender(fun() ->
            [ok = stream_kit:raw(Data, Piece) || Piece <- ToPeer],
            ok = stream_kit:shutdown(Data)
        end),
        Answered = sender(fun() ->
            [ok = gen_tcp:send(Peer, Piece) || Piece <- ToClient],
            PeerEnds andalso gen_tcp:shutdown(Peer, write)
        end),
        Heard = peer_rest(Peer, []),
        done(Said),
        done(Answered),
        PeerEnds orelse gen_tcp:shutdown(Peer, write),
        Read = rest(Data, []),
        gen_tcp:close(Peer),
        Heard =:= iolist_to_binary(ToPeer) andalso
            Read =:= iolist_to_binary(ToClient)
    end,
    %% Whoever speaks TLS here cannot go on when the peer has ended.
    PeerMayEnd = case over(Config) of
        #{transport := tcp} -> proper_types:boolean();
        #{transport := tls} -> false
    end,
    Property = proper:forall({pieces(), pieces(), PeerMayEnd}, Conversation),
    ?assertEqual(true, proper:quickcheck(Property, [{numtests, 15}, {to_file, user}, quiet])),
    close_all([Client]).

%% Up to a megabyte or so, in pieces from a byte on.
pieces() ->
    Size = proper_types:frequency([{4, proper_types:integer(1, 40)},
                                   {4, proper_types:integer(1000, 20000)},
                                   {1, proper_types:integer(100000, 200000)}]),
    proper_types:list(proper_types:bind(Size, fun crypto:strong_rand_bytes/1, false)).

-spec uclient(turn_kit:config()) -> _.
uclient(Config) ->
    doc("two of coturn's clients are each other's peers (-T -y, and -S for TLS), and what the one "
        "says comes back from the other"),
    case os:find_executable("turnutils_uclient") of
        false -> {skip, "turnutils_uclient is not installed"};
        _ -> uclient(server(Config), over(Config))
    end.

uclient(#{name := Name}, #{transport := Transport}) ->
    {Key, Flags} = case Transport of
        tcp -> {tcp_listeners, ""};
        tls -> {tls_listeners, "-S"}
    end,
    #{Key := [{Ip, Port} | _]} = meerkat:info(Name),
    Output = os:cmd(io_lib:format("timeout 60 turnutils_uclient -T -y ~ts -u alice -w wonderland "
                                  "-p ~b -n 20 -m 2 -l 170 -z 5 -c -X ~ts 2>&1",
                                  [Flags, Port, inet:ntoa(Ip)])),
    ct:log("~ts", [Output]),
    {match, [Sent, Received]} = re:run(Output, "start_mclient: tot_send_bytes ~ ([0-9]+), "
                                       "tot_recv_bytes ~ ([0-9]+)",
                                       [{capture, all_but_first, list}]),
    ?assertEqual(integer_to_list(20 * 2 * 170), Sent),
    ?assertEqual(Sent, Received).

%%% What is told of it

-spec shown(turn_kit:config()) -> _.
shown(Config) ->
    doc("status of an allocation names its connections, with what went by them"),
    {Client, Data, Peer} = pair(Config),
    echoes(Data, Peer),
    {ok, PeerAddress} = inet:sockname(Peer),
    eventually(fun() ->
        case connections(Config, Client) of
            [#{peer := PeerAddress, state := joined, client_bytes := 4, peer_bytes := 4}] -> true;
            _ -> false
        end
    end),
    {Id, Waiting} = connected(Client, listening()),
    ?assertMatch([#{connection := Id, state := waiting}],
                 [C || #{state := waiting} = C <- connections(Config, Client)]),
    #{name := Name} = server(Config),
    #{peer_connections := Connections} = Status = meerkat:status(Name),
    ?assert(Connections >= 2),
    ?assertNotEqual(nomatch, string:find(meerkat_show:status(Status), "connections over TCP")),
    close_all([Client, Peer, Waiting]).

%%% Deaths

-spec relay_dies(turn_kit:config()) -> _.
relay_dies(Config) ->
    doc("the death of the relay program ends connections with peers, and what Erlang knows of it"),
    with_server(settings(Config), fun(#{name := Name} = Server) ->
        {Client, Data, Peer} = pair(Server, #{transport => tcp}),
        {Id, Waiting} = connected(Client, listening()),
        {ok, Pid} = meerkat_relay:os_pid(Name),
        _ = os:cmd("kill -9 " ++ integer_to_list(Pid)),
        [stream_kit:closed(C) || C <- [connection(Client), Data]],
        [gone(P) || P <- [Peer, Waiting]],
        eventually(fun() ->
            case meerkat:info(Name) of
                #{relay := {ok, _}, relay_restarts := 1} -> meerkat:allocations(Name) =:= [];
                _ -> false
            end
        end),
        ?assertEqual(0, meerkat_connections:total(Name)),
        expect(400, call(fresh(Server, #{transport => tcp}), connection_bind,
                         [{connection_id, Id}])),
        {_, Data2, Peer2} = pair(Server, #{transport => tcp}),
        echoes(Data2, Peer2)
    end).

-spec process_dies(turn_kit:config()) -> _.
process_dies(Config) ->
    doc("with an allocation's process its connections end, and its user has room for others"),
    Settings = (settings(Config))#{tcp_relay_user_connections => 2},
    with_server(Settings, fun(#{name := Name} = Server) ->
        {#{here := Here} = Client, Data, Peer} = pair(Server, #{transport => tcp}),
        {_, Waiting} = connected(Client, listening()),
        [Session] = [S || #{client := C, session := S} <- meerkat:allocations(Name), C =:= Here],
        exit(meerkat_alloc_table:pid(Name, Session), kill),
        stream_kit:closed(Data),
        [gone(P) || P <- [Peer, Waiting]],
        eventually(fun() -> meerkat_connections:total(Name) =:= 0 end),
        {_, Data2, Peer2} = pair(Server, #{transport => tcp}),
        echoes(Data2, Peer2)
    end).

hasty_server(Config, Fun) ->
    Fast = proplists:get_value(fast, Config),
    with_server(maps:merge(settings(Config), Fast), Fun).

%%% meerkat_client

with_client(Config, Fun) ->
    #{name := Name, users := #{<<"alice">> := Password}} = server(Config),
    #{tcp_listeners := [Tcp | _], tls_listeners := [Tls | _]} = meerkat:info(Name),
    Way = case over(Config) of
              #{transport := tcp} -> #{server => Tcp, transport => tcp};
              #{transport := tls} -> #{server => Tls, transport => tls, insecure => true}
          end,
    {ok, Client} = meerkat_client:start_link(Way#{username => <<"alice">>, password => Password}),
    try
        {ok, #{relayed := Relayed}} = meerkat_client:allocate(Client, #{transport => tcp}),
        Fun(Client, Relayed)
    after
        ok = meerkat_client:close(Client)
    end.

%% Each side gets what the other says, then the end of one is the other's.
say({Module, Socket}, Peer) ->
    Bytes = crypto:strong_rand_bytes(300_000),
    {Self, Ref} = {self(), make_ref()},
    _ = spawn_link(fun() -> Self ! {Ref, Module:send(Socket, Bytes)} end),
    ?assertEqual({ok, Bytes}, gen_tcp:recv(Peer, byte_size(Bytes), ?TIMEOUT)),
    receive {Ref, Sent} -> ?assertEqual(ok, Sent) end,
    ok = gen_tcp:send(Peer, <<"and back">>),
    ?assertEqual({ok, <<"and back">>}, Module:recv(Socket, 8, ?TIMEOUT)).

-spec client(turn_kit:config()) -> _.
client(Config) ->
    doc("meerkat_client connects to peers and takes those that come; what a peer says at once is "
        "not lost, whoever ends first ends the other, and the allocation's end ends all"),
    with_client(Config, fun(Client, Relayed) ->
        {_, Address} = Listening = listening(),
        Early = spawn_link(fun() ->
            receive go -> ok end,
            Peer = accepted(Listening),
            ok = gen_tcp:send(Peer, <<"first words">>),
            receive {to, Pid} -> ok = gen_tcp:controlling_process(Peer, Pid), Pid ! {peer, Peer} end
        end),
        Early ! go,
        {ok, {Module, Socket} = Connection} = meerkat_client:connect(Client, Address),
        ?assertEqual({ok, <<"first words">>}, Module:recv(Socket, 11, ?TIMEOUT)),
        Early ! {to, self()},
        Peer = receive {peer, P} -> P end,
        say(Connection, Peer),
        ?assertMatch({error, {446, _}}, meerkat_client:connect(Client, Address)),
        ok = Module:close(Socket),
        ?assertEqual({error, closed}, gen_tcp:recv(Peer, 0, ?TIMEOUT)),
        gen_tcp:close(Peer),
        %% One that comes by itself.
        ok = meerkat_client:permit(Client, ?LOOPBACK),
        Coming = coming(Relayed),
        From = address(Coming),
        Id = receive {meerkat_client, Client, {attempt, N, From}} -> N end,
        {ok, {_, Accepted} = Second} = meerkat_client:accept(Client, Id),
        say(Second, Coming),
        ok = gen_tcp:shutdown(Coming, write),
        ?assertEqual({error, closed}, Module:recv(Accepted, 0, ?TIMEOUT)),
        ok = Module:close(Accepted),
        %% And what is left when the allocation goes.
        {ok, {_, Left}} = meerkat_client:connect(Client, Address),
        Last = accepted(Listening),
        ok = meerkat_client:release(Client),
        ?assertEqual({error, closed}, Module:recv(Left, 0, ?TIMEOUT)),
        ?assertEqual({error, closed}, gen_tcp:recv(Last, 0, ?TIMEOUT))
    end).

-spec client_refused(turn_kit:config()) -> _.
client_refused(Config) ->
    doc("meerkat_client says why there is no connection: nobody listens, a forbidden peer, an "
        "unknown Id, no allocation; and an option that cannot be is named"),
    with_client(Config, fun(Client, _) ->
        ?assertMatch({error, {447, _}}, meerkat_client:connect(Client, closed_port())),
        ?assertMatch({error, {403, _}}, meerkat_client:connect(Client, {{169, 254, 1, 1}, 80})),
        ?assertMatch({error, {400, _}}, meerkat_client:accept(Client, 12345)),
        ok = meerkat_client:release(Client),
        ?assertEqual({error, no_allocation}, meerkat_client:connect(Client, closed_port())),
        ?assertEqual({error, no_allocation}, meerkat_client:accept(Client, 1)),
        ?assertEqual({error, {bad_option, transport}},
                     meerkat_client:allocate(Client, #{transport => sctp}))
    end).
