%% RFC 8016 (mobility) seen from the sockets of a client that moves and of its peers: one case per
%% rule, named after the row of the conformance or of the threat table (m5_... is row M5). That an
%% old ticket is good for 30 s and not for ever is in alloc_core_SUITE.
-module(rfc8016_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([m1_off/1, m1_ticket_with_allocation/1, m1_only_who_asks/1, m1_ticket_in_allocate/1,
         m2_off/1, m3_allocation_gone/1, m3_not_a_ticket/1, m3_same_source/1,
         m3_five_tuple_in_use/1, m3_tickets_of_another_server/1,
         m4_new_ticket/1, m5_old_address_until_data/1, m5_data_from_old_while_pending/1,
         m5_requests_from_both/1, m5_send_commits/1, m5_empty_channel_data_commits/1,
         m5_requests_do_not_commit/1,
         m5_any_worker/1, m5_from_ipv4_to_ipv6/1, m5_old_address_is_free/1,
         m5_there_and_back/1, m5_lifetime/1, m5_deleted_from_new_address/1,
         m5_dual_allocation/1, m6_retransmission/1, m6_retransmission_after_data/1,
         m6_old_ticket_for_nothing_else/1, m7_opaque/1, m7_credentials/1,
         x103_ticket_of_another_user/1, x103_tampered/1, x104_one_pending/1,
         x104_one_ticket_many_addresses/1, x104_quota/1, x104_killed/1,
         x104_left_is_not_taken_for_lost/1, m6_reload/1]).

-import(turn_kit, [doc/1, open/1, open/2, ask/2, challenged/1, signed/3, call/3, call/4,
                   allocated/1, allocated/3, allocate/1, allocate/2, delete/1,
                   permit/2, bind/3, send_to/3, channel/3, data/1, next/1, peer/0, peer_send/3,
                   peer_next/1, peer_same/2, request/2, dropped/3, counted/3, counted/4, fence/1,
                   get/2, names/1, success/1, expect/2, with_server/2]).

-define(ASKED, {mobility_ticket, <<>>}).
-define(CHANNEL, 16#4000).

-spec all() -> [atom()].
all() -> turn_kit:cases(?MODULE).

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 60}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    [{server, turn_kit:start_server(#{mobility => true, workers => 4})} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) -> turn_kit:stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).

%% A client that may move, with its ticket.
mobile(Server) -> mobile(Server, [], #{}).

mobile(Server, Items, Options) ->
    #{answer := Answer} = Client = allocated(Server, [?ASKED | Items], Options),
    Client#{ticket => get(mobility_ticket, Answer)}.

%% With a peer that it may talk to, on a channel too.
pair(Server) ->
    Client = mobile(Server),
    Peer = peer(),
    success(bind(Client, ?CHANNEL, Peer)),
    {Client, Peer}.

%% The same client at another address of its own, or as Options have it.
elsewhere(Client) -> elsewhere(Client, #{}).

elsewhere(#{server := Server, user := User, relayed := Relayed, ticket := Ticket}, Options) ->
    New = challenged(open(Server, maps:merge(#{user => User}, Options))),
    New#{relayed => Relayed, ticket => Ticket}.

resume(#{ticket := Ticket} = Client) -> resume(Client, Ticket).

resume(Client, Ticket) -> call(Client, refresh, [{mobility_ticket, Ticket}]).

%% At another address, with the ticket it got there.
resumed(Client) -> resumed(Client, #{}).

resumed(Client, Options) ->
    New = elsewhere(Client, Options),
    New#{ticket := get(mobility_ticket, success(resume(New)))}.

%% Resumed, and the peer has heard of it.
moved(Client, Peer) -> moved(Client, Peer, #{}).

moved(#{server := Server} = Client, Peer, Options) ->
    New = resumed(Client, Options),
    counted(Server, moves, fun() -> peer_same(New, Peer) end),
    New.

%% What the peer sends next comes to the client on its channel.
heard(#{relayed := Relayed} = Client, Peer) ->
    Mark = crypto:strong_rand_bytes(9),
    peer_send(Peer, Relayed, Mark),
    ?assertEqual({ok, ?CHANNEL, Mark}, stun_model:decode_channel(next(Client))).

%% Number of the relay's worker that this client's datagrams come to.
worker(#{server := #{name := Name}, here := Here}) ->
    [Worker] = [Session bsr 56 || #{session := Session, client := Client}
                                      <- meerkat:allocations(Name), Client =:= Here],
    Worker.

%% -------------------------------------------------------------------------- 3.1: allocations

-spec m1_off(turn_kit:config()) -> _.
m1_off(_Config) ->
    doc("mobility is off by default: an Allocate that asks for it earns 405 (RFC 8016 3.1.2)"),
    with_server(#{}, fun(Server) ->
        Client = challenged(open(Server)),
        ?assertEqual([error_code, message_integrity],
                     names(expect(405, allocate(Client, [?ASKED])))),
        expect(400, allocate(Client, [{mobility_ticket, <<"ticket">>}])),
        ?assertEqual(undefined, get(mobility_ticket, success(allocate(Client))))
    end).

-spec m1_ticket_with_allocation(turn_kit:config()) -> _.
m1_ticket_with_allocation(Config) ->
    doc("the success brings a ticket, of at most 32 characters for coturn's client, and the same "
        "one when the Allocate is retransmitted (RFC 8016 3.1.2)"),
    Client = challenged(open(server(Config))),
    Request = signed(Client, allocate, [{requested_transport, 17}, ?ASKED]),
    Answer = success(ask(Client, Request)),
    Ticket = get(mobility_ticket, Answer),
    ?assertMatch({match, _}, re:run(Ticket, "^[A-Za-z0-9_-]{16,32}$")),
    ?assertEqual(lists:sort([lifetime, message_integrity, mobility_ticket, xor_mapped_address,
                             xor_relayed_address]), names(Answer)),
    ?assertEqual(Ticket, get(mobility_ticket, success(ask(Client, Request)))).

-spec m1_only_who_asks(turn_kit:config()) -> _.
m1_only_who_asks(Config) ->
    doc("no ticket for who does not ask for one, none in a plain Refresh (RFC 8016 3.1.2)"),
    #{answer := Answer} = Plain = allocated(server(Config)),
    ?assertEqual(undefined, get(mobility_ticket, Answer)),
    [?assertEqual([lifetime, message_integrity], names(success(call(Client, refresh, []))))
     || Client <- [Plain, mobile(server(Config))]].

-spec m1_ticket_in_allocate(turn_kit:config()) -> _.
m1_ticket_in_allocate(Config) ->
    doc("a ticket in an Allocate, even a good one: 400 (RFC 8016 3.1.2)"),
    #{ticket := Ticket} = Mobile = mobile(server(Config)),
    Client = elsewhere(Mobile),
    [expect(400, allocate(Client, [{mobility_ticket, T}])) || T <- [Ticket, <<0>>]],
    success(allocate(Client, [?ASKED])).

%% ------------------------------------------------------------------------------ 3.2: refresh

-spec m2_off(turn_kit:config()) -> _.
m2_off(_Config) ->
    doc("a Refresh with a ticket while mobility is off: 405, and the allocation stays "
        "(RFC 8016 3.2.2)"),
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        [expect(405, resume(C, T)) || C <- [Client, challenged(open(Server))],
                                      T <- [<<>>, <<"x">>, binary:copy(<<"A">>, 32)]],
        success(call(Client, refresh, []))
    end).

-spec m3_allocation_gone(turn_kit:config()) -> _.
m3_allocation_gone(Config) ->
    doc("a good ticket whose allocation is no more: 437, wherever it comes from "
        "(RFC 8016 3.2.2)"),
    Client = mobile(server(Config)),
    New = elsewhere(Client),
    delete(Client),
    [?assertEqual([error_code, message_integrity], names(expect(437, resume(C))))
     || C <- [New, Client, New]],
    success(allocate(New)).

-spec m3_not_a_ticket(turn_kit:config()) -> _.
m3_not_a_ticket(Config) ->
    doc("what is no ticket of ours: 400, with and without an allocation (RFC 8016 3.2.2)"),
    Server = server(Config),
    Client = mobile(Server),
    [expect(400, resume(C, T))
     || C <- [Client, elsewhere(Client)],
        T <- [<<>>, <<0>>, <<"x">>, binary:copy(<<"A">>, 31), binary:copy(<<"A">>, 32),
              binary:copy(<<0>>, 32), binary:copy(<<"=">>, 32), binary:copy(<<"A">>, 33),
              binary:copy(<<"A">>, 763), crypto:strong_rand_bytes(24),
              base64:encode(crypto:strong_rand_bytes(24))]],
    success(call(Client, refresh, [])).

-spec m3_same_source(turn_kit:config()) -> _.
m3_same_source(Config) ->
    doc("a ticket from where its client is already, or may be: 400 (RFC 8016 3.2.2)"),
    {Client, Peer} = pair(server(Config)),
    expect(400, resume(Client)),
    New = resumed(Client),
    [expect(400, resume(C, maps:get(ticket, New))) || C <- [Client, New]],
    peer_same(New, Peer),
    expect(400, resume(New)),
    heard(New, Peer).

-spec m3_five_tuple_in_use(turn_kit:config()) -> _.
m3_five_tuple_in_use(Config) ->
    doc("a 5-tuple that has an allocation cannot take another: 437, and both live on"),
    {#{ticket := Ticket} = Client, Peer} = pair(server(Config)),
    [begin
         expect(437, resume(Other, Ticket)),
         success(call(Other, refresh, [])),
         heard(Client, Peer)
     end || Other <- [allocated(server(Config)), mobile(server(Config))]],
    moved(Client, Peer).

-spec m3_tickets_of_another_server(turn_kit:config()) -> _.
m3_tickets_of_another_server(Config) ->
    doc("tickets are made with a key of their own at each start: 400 (RFC 8016 3.2.2)"),
    #{ticket := Ticket} = mobile(server(Config)),
    with_server(#{mobility => true}, fun(Server) ->
        mobile(Server),
        expect(400, resume(challenged(open(Server)), Ticket))
    end).

-spec m4_new_ticket(turn_kit:config()) -> _.
m4_new_ticket(Config) ->
    doc("each resume brings a ticket that was never there before (RFC 8016 3.2.2)"),
    {Client, Peer} = pair(server(Config)),
    {Tickets, _} = lists:mapfoldl(fun(_, At) ->
        New = moved(At, Peer),
        {maps:get(ticket, New), New}
    end, Client, lists:seq(1, 10)),
    ?assertEqual(11, length(lists:usort([maps:get(ticket, Client) | Tickets]))).

-spec m5_old_address_until_data(turn_kit:config()) -> _.
m5_old_address_until_data(Config) ->
    doc("what peers send goes to the old address until the client has sent data from the new "
        "one, and from then on to that (RFC 8016 3.2.2)"),
    {Client, Peer} = pair(server(Config)),
    New = resumed(Client),
    heard(Client, Peer),
    heard(Client, Peer),
    #{relayed := Relayed} = New,
    channel(New, ?CHANNEL, <<"here I am">>),
    ?assertEqual({Relayed, <<"here I am">>}, peer_next(Peer)),
    heard(New, Peer),
    fence(Client).

-spec m5_data_from_old_while_pending(turn_kit:config()) -> _.
m5_data_from_old_while_pending(Config) ->
    doc("data from the old address is relayed until data comes from the new one, and not any "
        "more then (RFC 8016 3.2.2)"),
    Server = server(Config),
    {#{relayed := Relayed} = Client, Peer} = pair(Server),
    New = resumed(Client),
    peer_same(Client, Peer),
    channel(Client, ?CHANNEL, <<"old">>),
    ?assertEqual({Relayed, <<"old">>}, peer_next(Peer)),
    counted(Server, moves, fun() -> peer_same(New, Peer) end),
    dropped(maps:remove(key, Client), no_allocation,
            stun_model:encode_channel(?CHANNEL, <<"late">>)),
    peer_same(New, Peer).

-spec m5_requests_from_both(turn_kit:config()) -> _.
m5_requests_from_both(Config) ->
    doc("between resume and data both 5-tuples are the allocation's (RFC 8016 3.2.2)"),
    {Client, Peer} = pair(server(Config)),
    New = resumed(Client),
    [begin
         Other = peer(),
         success(permit(C, [Other])),
         success(bind(C, Number, Other)),
         success(call(C, refresh, [])),
         expect(437, allocate(C))
     end || {C, Number} <- [{Client, ?CHANNEL + 1}, {New, ?CHANNEL + 2}]],
    heard(Client, Peer).

-spec m5_requests_do_not_commit(turn_kit:config()) -> _.
m5_requests_do_not_commit(Config) ->
    doc("neither requests nor data that is none make the new 5-tuple the only one: Binding, "
        "Refresh, a Send without peer (RFC 8016 3.2.2)"),
    Server = server(Config),
    {Client, Peer} = pair(Server),
    New = resumed(Client),
    counted(Server, moves, 0, fun() ->
        success(ask(New, request(binding, []))),
        success(call(New, refresh, [])),
        success(permit(New, [Peer])),
        heard(Client, Peer)
    end).

-spec m5_send_commits(turn_kit:config()) -> _.
m5_send_commits(Config) ->
    doc("a Send indication is data too (RFC 8016 3.2.2)"),
    {#{relayed := Relayed} = Client, Peer} = pair(server(Config)),
    New = resumed(Client),
    send_to(New, Peer, <<"sent">>),
    ?assertEqual({Relayed, <<"sent">>}, peer_next(Peer)),
    heard(New, Peer).

-spec m5_empty_channel_data_commits(turn_kit:config()) -> _.
m5_empty_channel_data_commits(Config) ->
    doc("so is ChannelData without payload, a keepalive (RFC 8016 3.2.2)"),
    Server = server(Config),
    {#{relayed := Relayed} = Client, Peer} = pair(Server),
    New = resumed(Client),
    counted(Server, moves, fun() -> channel(New, ?CHANNEL, <<>>) end),
    ?assertEqual({Relayed, <<>>}, peer_next(Peer)),
    heard(New, Peer).

-spec m5_any_worker(turn_kit:config()) -> _.
m5_any_worker(Config) ->
    doc("a client may move to any address: to one that the relay serves in the same thread, and "
        "to one that it serves in another"),
    Server = server(Config),
    {Client, Peer} = pair(Server),
    Home = worker(Client),
    Same = fun(Worker) -> Worker =:= Home end,
    Another = fun(Worker) -> Worker =/= Home end,
    lists:foldl(fun(Which, At) ->
        New = resumed(At, #{port => port_at(Which, Server)}),
        heard(At, Peer),
        counted(Server, moves, fun() -> peer_same(New, Peer) end),
        heard(New, Peer),
        success(call(New, refresh, [])),
        New
    end, Client, [Same, Another, Another, Same, Same, Another]).

%% A port of ours whose datagrams come to such a worker.
port_at(Which, Server) ->
    #{here := {_, Port}} = Client = allocated(Server),
    Found = Which(worker(Client)),
    delete(Client),
    turn_kit:close(Client),
    case Found of
        true -> Port;
        false -> port_at(Which, Server)
    end.

-spec m5_from_ipv4_to_ipv6(turn_kit:config()) -> _.
m5_from_ipv4_to_ipv6(Config) ->
    doc("a client may move to another address family (RFC 8016 3.1.2)"),
    {Client, Peer} = pair(server(Config)),
    V6 = moved(Client, Peer, #{family => v6}),
    heard(V6, Peer),
    heard(moved(V6, Peer), Peer).

-spec m5_old_address_is_free(turn_kit:config()) -> _.
m5_old_address_is_free(Config) ->
    doc("once the client has moved, its old 5-tuple may have an allocation of its own"),
    {Client, Peer} = pair(server(Config)),
    expect(437, allocate(Client)),
    New = moved(Client, Peer),
    expect(437, call(Client, refresh, [])),
    success(allocate(Client)),
    success(permit(Client, [Peer])),
    peer_same(New, Peer),
    heard(New, Peer),
    delete(Client),
    delete(New).

-spec m5_there_and_back(turn_kit:config()) -> _.
m5_there_and_back(Config) ->
    doc("a client may return to an address that it had before"),
    {#{here := {_, Port}} = Client, Peer} = pair(server(Config)),
    New = moved(Client, Peer),
    turn_kit:close(Client),
    Back = moved(New, Peer, #{port => Port}),
    heard(Back, Peer),
    delete(Back).

-spec m5_lifetime(turn_kit:config()) -> _.
m5_lifetime(Config) ->
    doc("a Refresh with a ticket is a Refresh: it sets the lifetime (RFC 8016 3.2.2)"),
    #{server := #{name := Name}, relayed := Relayed} = Client = mobile(server(Config)),
    New = elsewhere(Client),
    Answer = success(call(New, refresh, [{mobility_ticket, maps:get(ticket, New)},
                                         {lifetime, 1800}])),
    ?assertEqual([lifetime, message_integrity, mobility_ticket], names(Answer)),
    ?assertEqual(1800, get(lifetime, Answer)),
    [Ms] = [Ms || #{relayed := [R], expires_ms := Ms} <- meerkat:allocations(Name), R =:= Relayed],
    ?assert(Ms > 1700000 andalso Ms =< 1800000).

-spec m5_deleted_from_new_address(turn_kit:config()) -> _.
m5_deleted_from_new_address(Config) ->
    doc("whoever has the ticket may delete, from anywhere; both 5-tuples are free then"),
    Client = mobile(server(Config)),
    New = elsewhere(Client),
    Answer = success(call(New, refresh, [{mobility_ticket, maps:get(ticket, New)}, {lifetime, 0}])),
    ?assertEqual(0, get(lifetime, Answer)),
    [expect(437, call(C, refresh, [])) || C <- [Client, New]],
    Second = mobile(server(Config)),
    Pending = resumed(Second),
    delete(Pending),
    [success(allocate(C)) || C <- [Client, New, Second, Pending]].

-spec m5_dual_allocation(turn_kit:config()) -> _.
m5_dual_allocation(Config) ->
    doc("both relayed addresses of a dual allocation move; a family that it has not: 443"),
    Server = server(Config),
    Client = mobile(Server, [{additional_address_family, 2}], #{}),
    Peers = [peer(), turn_kit:peer({0, 0, 0, 0, 0, 0, 0, 1})],
    success(permit(Client, Peers)),
    #{answer := Answer} = Client,
    New = resumed(Client),
    [begin
         send_to(New, Peer, <<"moved">>),
         {Relayed, <<"moved">>} = peer_next(Peer),
         ?assert(lists:member(Relayed, turn_kit:get_all(xor_relayed_address, Answer))),
         peer_send(Peer, Relayed, <<"heard">>),
         ?assertEqual({maps:get(address, Peer), <<"heard">>}, data(New))
     end || Peer <- Peers],
    Single = mobile(Server),
    expect(443, call(elsewhere(Single), refresh, [{mobility_ticket, maps:get(ticket, Single)},
                                                  {requested_address_family, 2}])).

-spec m6_retransmission(turn_kit:config()) -> _.
m6_retransmission(Config) ->
    doc("the same Refresh again gets the same answer, with the same new ticket "
        "(RFC 8016 3.2.2)"),
    {Client, Peer} = pair(server(Config)),
    New = elsewhere(Client),
    Request = signed(New, refresh, [{mobility_ticket, maps:get(ticket, New)}]),
    [#{bytes := Bytes} = First | Others] = [success(ask(New, Request)) || _ <- lists:seq(1, 4)],
    [?assertEqual(Bytes, B) || #{bytes := B} <- Others],
    ?assertNotEqual(maps:get(ticket, New), get(mobility_ticket, First)),
    moved(New#{ticket := get(mobility_ticket, First)}, Peer).

-spec m6_retransmission_after_data(turn_kit:config()) -> _.
m6_retransmission_after_data(Config) ->
    doc("also after the client has sent data, for the answer may have been slow "
        "(RFC 8016 3.2.2)"),
    {Client, Peer} = pair(server(Config)),
    New = elsewhere(Client),
    Request = signed(New, refresh, [{mobility_ticket, maps:get(ticket, New)}]),
    #{bytes := Bytes} = success(ask(New, Request)),
    peer_same(New, Peer),
    ?assertMatch(#{bytes := Bytes}, success(ask(New, Request))),
    heard(New, Peer).

-spec m6_old_ticket_for_nothing_else(turn_kit:config()) -> _.
m6_old_ticket_for_nothing_else(Config) ->
    doc("a ticket that was used is good for nothing but retransmissions: 400 for another "
        "transaction, or from another address (RFC 8016 3.2.2)"),
    {#{ticket := Old} = Client, Peer} = pair(server(Config)),
    New = elsewhere(Client),
    Id = crypto:strong_rand_bytes(12),
    Items = [{mobility_ticket, Old}],
    Answer = success(call(New, refresh, Items, #{transaction_id => Id})),
    [expect(400, A) || A <- [resume(New, Old), resume(elsewhere(Client), Old),
                             call(elsewhere(Client), refresh, Items, #{transaction_id => Id}),
                             resume(Client, Old)]],
    heard(Client, Peer),
    moved(New#{ticket := get(mobility_ticket, Answer)}, Peer).

-spec m6_reload(turn_kit:config()) -> _.
m6_reload(_Config) ->
    doc("tickets are good for as long as the server runs, whatever it is told meanwhile"),
    with_server(#{mobility => true}, fun(#{name := Name} = Server) ->
        {Client, Peer} = pair(Server),
        #{config := Config} = meerkat_registry:settings(Name),
        ok = meerkat:reload(Name, (Config())#{software => <<"new">>}),
        moved(Client, Peer)
    end).

%% ------------------------------------------------------------------------------- 5: security

-spec m7_opaque(turn_kit:config()) -> _.
m7_opaque(Config) ->
    doc("nothing can be read from tickets: those of one allocation after another, and of one "
        "move after another, have no more in common than chance would have it (RFC 8016 5)"),
    Server = server(Config),
    {Client, Peer} = pair(Server),
    {Moves, _} = lists:mapfoldl(fun(_, At) ->
        New = moved(At, Peer),
        {maps:get(ticket, New), New}
    end, Client, lists:seq(1, 20)),
    Tickets = Moves ++ [maps:get(ticket, mobile(Server)) || _ <- lists:seq(1, 20)],
    %% Two texts of 32 from 64 letters agree in 0.5 places; in 12 once in 10^14 pairs.
    [?assert(length([C || {C, C} <- lists:zip(binary_to_list(A), binary_to_list(B))]) < 12)
     || A <- Tickets, B <- Tickets, A < B].

-spec m7_credentials(turn_kit:config()) -> _.
m7_credentials(Config) ->
    doc("a ticket is no credential: without integrity, or with a wrong one, 401; with the nonce "
        "of the old address, 438; and nothing has moved (RFC 8016 5)"),
    {#{ticket := Ticket, nonce := Nonce} = Client, Peer} = pair(server(Config)),
    New = elsewhere(Client),
    expect(401, ask(New, request(refresh, [{mobility_ticket, Ticket}]))),
    expect(401, call(New, refresh, [{mobility_ticket, Ticket}], #{key => <<"wrong">>})),
    expect(438, call(New, refresh, [{mobility_ticket, Ticket}], #{nonce => Nonce})),
    heard(Client, Peer),
    moved(New, Peer).

-spec x103_ticket_of_another_user(turn_kit:config()) -> _.
x103_ticket_of_another_user(Config) ->
    doc("a stolen ticket is worth nothing without its owner's password: 441, and the owner may "
        "still use it (RFC 8016 3.2.2)"),
    {Client, Peer} = pair(server(Config)),
    Thief = elsewhere(Client#{user => <<"bob">>}),
    ?assertEqual([error_code, message_integrity], names(expect(441, resume(Thief)))),
    expect(441, call(Thief, refresh, [{mobility_ticket, maps:get(ticket, Thief)}, {lifetime, 0}])),
    dropped(Thief, no_allocation, stun_model:encode_channel(?CHANNEL, <<"mine">>)),
    heard(Client, Peer),
    Owner = elsewhere(Client),
    Request = signed(Owner, refresh, [{mobility_ticket, maps:get(ticket, Owner)}]),
    Answer = success(ask(Owner, Request)),
    %% Not by a retransmission of his own either.
    <<_:64, Id:12/binary, _/binary>> = Request,
    expect(400, call(Thief, refresh, [{mobility_ticket, maps:get(ticket, Thief)}],
                     #{transaction_id => Id})),
    moved(Owner#{ticket := get(mobility_ticket, Answer)}, Peer).

-spec x103_tampered(turn_kit:config()) -> _.
x103_tampered(Config) ->
    doc("a ticket with any bit changed: 400, and the ticket itself is still good"),
    {#{ticket := Ticket} = Client, Peer} = pair(server(Config)),
    New = elsewhere(Client),
    [begin
         <<Before:N/binary, C, After/binary>> = Ticket,
         expect(400, resume(New, <<Before/binary, (C bxor Bit), After/binary>>))
     end || N <- lists:seq(0, byte_size(Ticket) - 1), Bit <- [1, 2, 16#20]],
    [expect(400, resume(New, T)) || T <- [<<Ticket/binary, 0>>, <<Ticket/binary, "A">>,
                                          binary:part(Ticket, 0, 31)]],
    moved(New, Peer).

-spec x104_one_pending(turn_kit:config()) -> _.
x104_one_pending(Config) ->
    doc("resume after resume without data: one is pending, the others are left; one allocation "
        "all along, in Erlang and in the relay"),
    #{name := Name} = Server = server(Config),
    {Client, Peer} = pair(Server),
    Count = fun() ->
        #{allocations := N, relay := {ok, #{sessions := M}}} = meerkat:info(Name),
        {N, M}
    end,
    Before = Count(),
    {Left, Last} = lists:mapfoldl(fun(_, At) -> {At, resumed(At)} end, Client, lists:seq(1, 40)),
    ?assertEqual(Before, Count()),
    [begin
         expect(437, call(C, refresh, [])),
         dropped(maps:remove(key, C), no_allocation,
                 stun_model:encode_channel(?CHANNEL, <<"left">>))
     end || C <- tl(Left)],
    heard(Client, Peer),
    counted(Server, moves, fun() -> peer_same(Last, Peer) end),
    heard(Last, Peer),
    ?assertEqual(Before, Count()),
    %% What was left behind is free.
    success(allocate(lists:last(Left))).

-spec x104_one_ticket_many_addresses(turn_kit:config()) -> _.
x104_one_ticket_many_addresses(Config) ->
    doc("one ticket from many addresses at once: one of them has it, the others earn 400"),
    {Client, Peer} = pair(server(Config)),
    Movers = [elsewhere(Client) || _ <- lists:seq(1, 20)],
    Requests = [signed(M, refresh, [{mobility_ticket, maps:get(ticket, M)}]) || M <- Movers],
    [turn_kit:send(M, R) || {M, R} <- lists:zip(Movers, Requests)],
    Codes = [begin
                 <<_:64, Id:12/binary, _/binary>> = R,
                 {ok, Answer} = stun_model:decode(turn_kit:await(M, Id)),
                 {turn_kit:code(Answer), M, Answer}
             end || {M, R} <- lists:zip(Movers, Requests)],
    [{New, Answer}] = [{M, A} || {success, M, A} <- Codes],
    ?assertEqual(19, length([400 || {400, _, _} <- Codes])),
    heard(Client, Peer),
    peer_same(New, Peer),
    moved(New#{ticket := get(mobility_ticket, Answer)}, Peer).

-spec x104_quota(turn_kit:config()) -> _.
x104_quota(_Config) ->
    doc("a resume takes no second place in the quotas and gives none back, pending or done; the "
        "place is free with the allocation"),
    Limits = #{mobility => true, user_quota => 1, max_allocations_per_address => 1},
    with_server(Limits, fun(Server) ->
        {Client, Peer} = pair(Server),
        Refused = fun() -> expect(486, allocate(challenged(open(Server)))) end,
        Refused(),
        {New, _} = lists:foldl(fun(_, {At, _}) ->
            Next = resumed(At),
            {Next, Refused()}
        end, {Client, none}, lists:seq(1, 10)),
        counted(Server, moves, fun() -> peer_same(New, Peer) end),
        Refused(),
        expect(486, allocate(Client)),
        delete(New),
        Second = mobile(Server),
        Refused(),
        delete(Second)
    end).

-spec x104_left_is_not_taken_for_lost(turn_kit:config()) -> _.
x104_left_is_not_taken_for_lost(Config) ->
    doc("requests from a 5-tuple that was just left, while the relay still has it: 437, and the "
        "allocation lives"),
    {Client, Peer} = pair(server(Config)),
    Last = lists:foldl(fun(_, At) ->
        New = elsewhere(At),
        Request = signed(New, refresh, [{mobility_ticket, maps:get(ticket, New)}]),
        %% All at once: the resume, and what the place left has to say.
        turn_kit:send(New, Request),
        Left = signed(At, refresh, []),
        turn_kit:send(At, Left),
        <<_:64, Id:12/binary, _/binary>> = Request,
        {ok, Answer} = stun_model:decode(turn_kit:await(New, Id)),
        <<_:64, LeftId:12/binary, _/binary>> = Left,
        {ok, _} = stun_model:decode(turn_kit:await(At, LeftId)),
        New#{ticket := get(mobility_ticket, success(Answer))}
    end, Client, lists:seq(1, 50)),
    heard(Client, Peer),
    peer_same(Last, Peer),
    heard(Last, Peer).

-spec x104_killed(turn_kit:config()) -> _.
x104_killed(Config) ->
    doc("an allocation whose process was killed cannot be resumed (437) and leaves nothing "
        "that would keep its addresses"),
    #{name := Name} = Server = server(Config),
    {#{here := Here} = Client, _Peer} = pair(Server),
    New = resumed(Client),
    [Session] = [S || #{session := S, client := C} <- meerkat:allocations(Name), C =:= Here],
    Pid = meerkat_alloc_table:pid(Name, Session),
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> ok end,
    expect(437, resume(elsewhere(New))),
    [expect(437, call(C, refresh, [])) || C <- [New, Client]],
    [success(allocate(C)) || C <- [New, Client]].
