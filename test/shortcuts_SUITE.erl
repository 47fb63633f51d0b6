%% Two clients of one server, joined (docs/design/shortcuts.md): that one hop does what two did, and
%% what ends it. What takes minutes, and each limit, is in test/c/unit/shortcuts.c.
-module(shortcuts_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([one_hop/1, off_by_its_key/1, named_by_a_nat/1, over_streams/1, deleted/1, disconnected/1,
         family_ended/1, port_of_another/1, moved/1, forbidden/1, relay_dies/1,
         same_as_without/1]).

-import(turn_kit, [doc/1, open/2, challenged/1, call/3, allocated/1, allocated/3, allocate_soon/2,
                   delete/1, permit/2, bind/3, send_to/3, channel/3, next/1, ask/2, request/2,
                   fence/1, get/2, success/1, counter/2, counted/3, eventually/1, with_server/2,
                   free_ports/1]).

-define(A, 16#4001). % is B to A
-define(B, 16#4002). % is A to B
-define(V6, [{requested_address_family, 2}]).

-spec all() -> [atom()].
all() ->
    [one_hop, off_by_its_key, named_by_a_nat, over_streams, deleted, disconnected, family_ended,
     port_of_another, moved, forbidden, relay_dies, same_as_without].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

%% ------------------------------------------------------------------------------------- helpers

%% Two clients that have bound a channel to each other and take shortcuts both ways.
pair(Server) -> pair(allocated(Server), allocated(Server)).

pair(A, B) ->
    bound(A, B),
    joined(A, ?A, B),
    joined(B, ?B, A),
    {A, B}.

bound(#{relayed := RelayedA} = A, #{relayed := RelayedB} = B) ->
    success(bind(A, ?A, RelayedB)),
    success(bind(B, ?B, RelayedA)).

%% Packets make shortcuts, and are delivered meanwhile.
joined(#{server := Server} = From, Number, To) ->
    Before = counter(Server, shortcut_packets),
    eventually(fun() ->
        arrives(From, Number, To),
        counter(Server, shortcut_packets) > Before
    end).

%% Returns how.
arrives(From, Number, To) ->
    Mark = crypto:strong_rand_bytes(8),
    ok = channel(From, Number, Mark),
    {How, Mark} = heard(next(To)),
    How.

heard(<<0:2, _/bitstring>> = Bytes) ->
    {ok, #{method := data, attributes := Attributes}} = stun_model:decode(Bytes),
    {proplists:get_value(xor_peer_address, Attributes), proplists:get_value(data, Attributes)};
heard(<<Number:16, Length:16, Data:Length/binary, _/binary>>) ->
    {Number, Data}.

%% Sees that these take one, and no more than these do.
-define(SHORT(Server, N, Fun), turn_kit:counted(Server, shortcut_packets, N, fun() -> Fun end)).

%% By its relayed address, for another client may have the same port over another transport.
info(#{server := #{name := Name}, relayed := Relayed}) ->
    [Session] = [S || #{session := S, relayed := Those} <- meerkat:allocations(Name),
                      lists:member(Relayed, Those)],
    {ok, Details} = meerkat:allocation(Name, Session),
    Details.

worker(Client) -> maps:get(session, info(Client)) bsr 56.

%% Another client, whose worker is the same or is not.
beside(Client, IsSame, Items) ->
    #{server := Server} = Client,
    Other = allocated(Server, Items, #{}),
    case (worker(Other) =:= worker(Client)) =:= IsSame of
        true -> Other;
        false -> beside(Client, IsSame, Items)
    end.

reload(#{name := Name}, Changes) ->
    #{config := Config} = meerkat_registry:settings(Name),
    meerkat:reload(Name, maps:merge(Config(), Changes)).

%% ----------------------------------------------------------------------------- what it is for

-spec one_hop(turn_kit:config()) -> _.
one_hop(_Config) ->
    doc("ChannelData and Send, of one worker and of two, IPv4 and IPv6: what arrives, and what "
        "both allocations and the server count"),
    with_server(#{}, fun(Server) ->
        [one_hop(Server, IsSame, Items) || IsSame <- [true, false], Items <- [[], ?V6]]
    end).

one_hop(Server, IsSame, Items) ->
    A = allocated(Server, Items, #{}),
    B = beside(A, IsSame, Items),
    #{relayed := RelayedB} = B,
    pair(A, B),
    {#{client_packets := Sent, client_bytes := SentBytes},
     #{peer_packets := Got, peer_bytes := GotBytes}} = {info(A), info(B)},
    Before = [counter(Server, C) || C <- counters()],
    Payloads = [<<>>, <<"x">>, crypto:strong_rand_bytes(1200)],
    ?SHORT(Server, 6, begin
        [begin
             ok = channel(A, ?A, Payload),
             ?assertEqual({?B, Payload}, heard(next(B))),
             ok = send_to(A, RelayedB, Payload),
             ?assertEqual({?B, Payload}, heard(next(B)))
         end || Payload <- Payloads]
    end),
    After = [counter(Server, C) || C <- counters()],
    ?assertEqual([6, 2402, 6, 2402, 6, 6 * 4 + 2402],
                 [N - M || {N, M} <- lists:zip(After, Before)]),
    ?assertMatch({#{client_packets := S, client_bytes := SB, dropped := 0, shortcuts := 1},
                  #{peer_packets := G, peer_bytes := GB, dropped := 0, shortcuts := 1}}
                   when S =:= Sent + 6 andalso SB =:= SentBytes + 2402
                        andalso G =:= Got + 6 andalso GB =:= GotBytes + 2402,
                 {info(A), info(B)}),
    ok = fence(A),
    ok = fence(B).

counters() ->
    [peer_sent_packets, peer_sent_bytes, peer_packets, peer_bytes, client_sent_packets,
     client_sent_bytes].

-spec off_by_its_key(turn_kit:config()) -> _.
off_by_its_key(_Config) ->
    doc("shortcuts = false: two hops; and a reload may change that either way"),
    with_server(#{shortcuts => false}, fun(Server) ->
        {A, B} = {allocated(Server), allocated(Server)},
        bound(A, B),
        ?SHORT(Server, 0, [?assertEqual(?B, arrives(A, ?A, B)) || _ <- lists:seq(1, 10)]),
        ok = reload(Server, #{shortcuts => true}),
        joined(A, ?A, B),
        ?assertMatch(#{shortcuts := 1}, info(A)),
        ok = reload(Server, #{shortcuts => false}),
        ?SHORT(Server, 0, [?assertEqual(?B, arrives(A, ?A, B)) || _ <- lists:seq(1, 10)])
    end).

-spec named_by_a_nat(turn_kit:config()) -> _.
named_by_a_nat(_Config) ->
    doc("behind a 1:1 NAT both know each other by the address that clients are told"),
    Shown = {203, 0, 113, 5},
    Relays = [#{local => {127, 0, 0, 1}, advertised => Shown, min_port => 49152,
                max_port => 65535}],
    Allowed = [{{127, 0, 0, 0}, 8}, {Shown, 32}],
    with_server(#{relays => Relays, allowed_peers => Allowed}, fun(Server) ->
        {A, B} = {allocated(Server), allocated(Server)},
        #{relayed := {Shown, _} = RelayedA} = A,
        #{relayed := {Shown, _} = RelayedB} = B,
        success(bind(A, ?A, RelayedB)),
        success(permit(B, [RelayedA])),
        joined(A, ?A, B),
        ?assertEqual(RelayedA, arrives(A, ?A, B)),
        success(bind(B, ?B, RelayedA)),
        joined(A, ?A, B),
        ?assertEqual(?B, arrives(A, ?A, B))
    end).

-spec over_streams(turn_kit:config()) -> _.
over_streams(Config) ->
    doc("a client over TCP, TLS or DTLS sends by a shortcut to one over UDP, and gets what that "
        "sends the long way"),
    Certificate = stream_kit:certificate(proplists:get_value(priv_dir, Config), ec,
                                         "turn.example.org"),
    with_server(stream_kit:config([Certificate]), fun(Server) ->
        [begin
             {A, B} = {allocated(Server, [], #{transport => Transport}), allocated(Server)},
             bound(A, B),
             joined(A, ?A, B),
             ?SHORT(Server, 3, [?assertEqual(?B, arrives(A, ?A, B)) || _ <- [1, 2, 3]]),
             ?SHORT(Server, 0, [?assertEqual(?A, arrives(B, ?B, A)) || _ <- [1, 2, 3]]),
             ?assertMatch({#{shortcuts := 1}, #{shortcuts := 0}}, {info(A), info(B)})
         end || Transport <- [tcp, tls, dtls]]
    end).

%% ------------------------------------------------------------------------------- what ends it

%% What the client has sent is on its way. It may hear by ICMP that nobody is there.
relayed(Client) ->
    _ = ask(Client, request(binding, [])),
    ok.

%% Once Fun has ended B's half, B hears nothing of A any more.
ended(Fun) ->
    with_server(#{}, fun(Server) ->
        {A, B} = pair(Server),
        ok = Fun(B),
        ?SHORT(Server, 0, begin
            [channel(A, ?A, <<"too late">>) || _ <- lists:seq(1, 5)],
            relayed(A),
            ok = fence(maps:remove(key, B))
        end)
    end).

-spec deleted(turn_kit:config()) -> _.
deleted(_Config) ->
    doc("the answer to the Refresh that ends B is the last that B gets"),
    ended(fun(B) -> delete(B) end).

-spec disconnected(turn_kit:config()) -> _.
disconnected(_Config) ->
    doc("an operator ends B"),
    ended(fun(#{server := #{name := Name}} = B) ->
        Session = maps:get(session, info(B)),
        1 = meerkat:disconnect(Name, Session),
        eventually(fun() ->
            case meerkat_relay:call(Name, {session_info, #{session => Session}}) of
                {ok, #{client_packets := _}} -> false;
                {ok, #{status := gone}} -> true
            end
        end)
    end).

-spec family_ended(turn_kit:config()) -> _.
family_ended(_Config) ->
    doc("B ends one of its two relayed addresses: the other goes on"),
    with_server(#{}, fun(Server) ->
        Both = [{additional_address_family, 2}],
        {A, B} = {allocated(Server, Both, #{}), allocated(Server, Both, #{})},
        {A6, B6} = {A#{relayed := v6(A)}, B#{relayed := v6(B)}},
        bound(A, B),
        joined(A, ?A, B),
        success(bind(A6, ?A + 2, v6(B))),
        success(bind(B6, ?B + 2, v6(A))),
        joined(A6, ?A + 2, B6),
        joined(A, ?A, B), % what B has bound since may be about A
        ?assertMatch(#{shortcuts := 2}, info(A)),
        success(call(B, refresh, [{lifetime, 0}, {requested_address_family, 1}])),
        ?SHORT(Server, 0, begin channel(A, ?A, <<"too late">>), relayed(A), ok = fence(B) end),
        joined(A6, ?A + 2, B6),
        ?assertMatch(#{shortcuts := 1}, info(A))
    end).

v6(#{answer := Answer}) ->
    [Address] = [A || {Ip, _} = A <- turn_kit:get_all(xor_relayed_address, Answer),
                      tuple_size(Ip) =:= 8],
    Address.

-spec port_of_another(turn_kit:config()) -> _.
port_of_another(_Config) ->
    doc("B's port is given to another client, who hears of A what he permits and no more"),
    Port = free_ports(2),
    Relays = [#{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1}, min_port => Port,
                max_port => Port + 1}],
    with_server(#{relays => Relays}, fun(Server) ->
        {A, #{relayed := Relayed} = B} = pair(Server),
        ok = delete(B),
        C = challenged(open(Server, #{})),
        Answer = success(allocate_soon(C, [])),
        ?assertEqual(Relayed, get(xor_relayed_address, Answer)),
        counted(Server, no_permission, fun() -> channel(A, ?A, <<"for B">>) end),
        ok = fence(C),
        success(permit(C, [maps:get(relayed, A)])),
        joined(A, ?A, C),
        ?assertEqual(maps:get(relayed, A), arrives(A, ?A, C))
    end).

-spec moved(turn_kit:config()) -> _.
moved(_Config) ->
    doc("B moves (RFC 8016): once it has spoken from there it hears A there, and at once"),
    with_server(#{mobility => true}, fun(Server) ->
        A = allocated(Server),
        #{answer := Answer} = B = allocated(Server, [{mobility_ticket, <<>>}], #{}),
        pair(A, B),
        Ticket = {mobility_ticket, get(mobility_ticket, Answer)},
        New = (challenged(open(Server, #{})))#{relayed => maps:get(relayed, B)},
        success(call(New, refresh, [Ticket])),
        ?SHORT(Server, 1, ?assertEqual(?B, arrives(A, ?A, B))),
        ok = channel(New, ?B, <<"here">>),
        ?assertEqual({?A, <<"here">>}, heard(next(A))),
        ?assertEqual(?B, arrives(A, ?A, New)),
        joined(A, ?A, New),
        ok = fence(maps:remove(key, B))
    end).

-spec forbidden(turn_kit:config()) -> _.
forbidden(_Config) ->
    doc("a reload that forbids the other's relayed address holds from then on; one that allows it "
        "again, once both have permitted each other"),
    with_server(#{}, fun(Server) ->
        {A, B} = pair(Server),
        ok = reload(Server, #{denied_peers => [{{127, 0, 0, 0}, 8}], allowed_peers => []}),
        counted(Server, no_permission, fun() -> channel(A, ?A, <<"forbidden">>) end),
        ok = fence(B),
        ok = reload(Server, #{denied_peers => [], allowed_peers => [{{127, 0, 0, 0}, 8}]}),
        bound(A, B),
        joined(A, ?A, B)
    end).

-spec relay_dies(turn_kit:config()) -> _.
relay_dies(_Config) ->
    doc("in the next relay packets make shortcuts anew"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        {A, B} = pair(Server),
        ok = turn_kit:kill_relay(Server),
        eventually(fun() ->
            case meerkat:info(Name) of
                #{relay_restarts := 1, relay := {ok, _}} ->
                    meerkat_roles:find(Name, replaying) =:= none;
                _ -> false
            end
        end),
        joined(A, ?A, B),
        joined(B, ?B, A)
    end).

%% ------------------------------------------------------------------------------- the property

-spec same_as_without(turn_kit:config()) -> _.
same_as_without(_Config) ->
    doc("random conversations: clients hear the same, and allocations count and hold the same, as "
        "at a server without shortcuts"),
    with_server(#{max_permissions => 4}, fun(With) ->
        with_server(#{max_permissions => 4, shortcuts => false}, fun(Without) ->
            case proper:quickcheck(prop_shortcuts:prop_same(With, Without),
                                   [{numtests, 60}, {max_size, 30}, quiet, long_result]) of
                true -> ok;
                Counterexample -> ct:fail(Counterexample)
            end,
            %% It was about something: a packet in each conversation, most have four.
            Short = counter(With, shortcut_packets),
            ct:comment("~b packets by a shortcut", [Short]),
            ?assert(Short >= 60),
            ?assertEqual(0, counter(Without, shortcut_packets))
        end)
    end).
