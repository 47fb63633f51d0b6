%% What takes seconds to hours (RFC 8656 5 to 12, RFC 8489 9.2, and what MongooseICE did), told by
%% real packets in a hundredth of the time: the relay is one built with a fast clock, Erlang's own
%% is set to the same speed. Named after the rows of the conformance table. Every case has a server
%% to itself and all run at once.
%%
%% That something is over is awaited, by trying again; that something else is not yet over, the
%% other's time being much longer, is seen then. A machine may be too busy for its hundredfold
%% clock: what was to be seen while something lasts is tried again if that was over before it was
%% seen. No case looks at a clock for anything else.
-module(time_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([t3_nonce_within_the_hour/1, t13_data_prolongs_nothing/1, t27_reservation_lapses/1,
         t29_lifetimes_are_kept/1, t33_refresh_prolongs/1, t34_families_end_apart/1,
         t35_permission_lapses/1, t35_permission_renewed/1, t37_send_renews_nothing/1,
         t40_channel_lapses/1, t41_bind_renews_channel_and_permission/1,
         t43_channel_data_renews_nothing/1, k6_nonce_of_an_idle_client/1,
         k15_reservation_lapses_with_its_allocation/1, k16_each_permission_by_itself/1,
         k17_channel_without_permission/1, k17_permission_without_channel/1,
         m6_spent_ticket_lapses/1, x30_stale_nonce/1, x73_held_port_comes_back/1,
         x73_held_port_is_counted_no_longer/1, x78_traffic_keeps_nothing_alive/1,
         x81_next_user_of_a_5_tuple/1]).
-export([nothing_of_it_ships/1]).

-import(turn_kit, [doc/1, open/1, ask/2, dropped/3, request/3, challenged/1, signed/3, call/3,
                   allocated/1, allocated/2, allocate/1, allocate/2, permit/2, bind/3, send_to/3,
                   channel/3, peer/0, peer/1, peer_next/1, from_peer/2, unheard/4,
                   fence/1, get/2, get_all/2, code/1, names/1, success/1, expect/2]).

%% As VARIANT=fast of c_src/Makefile.
-define(SPEED, 100).
%% What permissions and channels last (RFC 8656 9, 12), in seconds.
-define(PERMISSION, 300).
-define(CHANNEL, 600).
-define(V6, {0, 0, 0, 0, 0, 0, 0, 1}).
-define(RAF4, {requested_address_family, 1}).
-define(RAF6, {requested_address_family, 2}).
-define(BOTH, {additional_address_family, 2}).

-spec all() -> [atom() | {group, atom()}].
all() -> [nothing_of_it_ships, {group, rows}].

-spec groups() -> [tuple()].
groups() -> [{rows, [parallel], turn_kit:cases(?MODULE)}].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config() | {skip, string()}.
init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "needs a clock of its own"}),
    Root = root(proplists:get_value(data_dir, Config)),
    Built = os:cmd("env -u MAKEFLAGS make -s -C '" ++ Root ++ "/c_src' VARIANT=fast relay 2>&1 "
                   "&& echo built"),
    {_, "built"} = {Built, lists:last(string:lexemes("no\n" ++ Built, "\n"))},
    Relay = filename:join(Root, "_build/c/fast/meerkat_relay"),
    ok = meerkat_clock:set_speed(?SPEED),
    [{root, Root}, {relay, Relay} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(_Config) -> ok = meerkat_clock:set_speed(1).

root("/") -> error(no_source_tree);
root(Dir) ->
    case filelib:is_regular(filename:join(Dir, "c_src/ctl/ctl.def")) of
        true -> Dir;
        false -> root(filename:dirname(Dir))
    end.

%% Runs Fun with a server whose time flies.
flying(Config, Fun) -> flying(Config, #{}, Fun).

flying(Config, Overrides, Fun) ->
    Program = #{relay_program => proplists:get_value(relay, Config), workers => 1},
    turn_kit:with_server(maps:merge(Program, Overrides), Fun).

%% Sees what Look finds after Renew, which gives something so many seconds. Tried again, some times,
%% if they were over by then.
sees(Seconds, Renew, Expected, Look) -> sees(Seconds, Renew, Expected, Look, 5).

sees(Seconds, Renew, Expected, Look, Tries) ->
    Since = meerkat_clock:now_ms(),
    _ = Renew(),
    Found = Look(),
    Tries > 1 orelse ?assertEqual(Expected, Found),
    in_time(Seconds, Since, Expected, Found)
        orelse sees(Seconds, Renew, Expected, Look, Tries - 1).

%% Was it as expected? If not, then because so many seconds were over, or the case has failed.
in_time(Seconds, Since, Expected, Found) ->
    InTime = meerkat_clock:now_ms() - Since < 1000 * Seconds,
    InTime andalso ?assertEqual(Expected, Found),
    Found =:= Expected.

%% A client with an allocation that lasts, and a peer at that address it may talk to.
pair(Server, Ip) ->
    Client = allocated(Server, [{lifetime, 3600}]),
    Peer = peer(Ip),
    success(permit(Client, [Peer])),
    {Client, Peer}.

%% Tries again until it is so; the suite's time trap is the bound.
until(Fun) ->
    case Fun() of
        true -> ok;
        false ->
            receive after 10 -> until(Fun) end
    end.

%% Is there an allocation? A request that changes nothing and asks for nothing.
lives(Client) ->
    case code(call(Client, create_permission, [])) of
        400 -> true;
        437 -> false;
        438 -> lives(challenged(Client))
    end.

%% Does what Send leaves with the client come to the peer? What is sent straight to the peer
%% afterwards comes behind it.
reaches(Client, #{address := Address} = Peer) ->
    Mark = crypto:strong_rand_bytes(8),
    send_to(Client, Peer, Mark),
    came(Client, Peer, Address, Mark).

%% The same by channel.
reaches(Client, Number, #{address := Address} = Peer) ->
    Mark = crypto:strong_rand_bytes(8),
    channel(Client, Number, Mark),
    came(Client, Peer, Address, Mark).

came(Client, #{socket := Socket} = Peer, {Ip, Port}, Mark) ->
    fence(Client),
    ok = gen_udp:send(Socket, Ip, Port, <<"end">>),
    case peer_next(Peer) of
        {_, Mark} -> {{Ip, Port}, <<"end">>} = peer_next(Peer), true;
        {{Ip, Port}, <<"end">>} -> false
    end.

%% What becomes of what the client sends to the peer: reached, or the name of the counter that was
%% counted when it was dropped.
fate(Client, Peer) ->
    fate_of(Client, fun() -> reaches(Client, Peer) end).

%% The same by channel.
fate(Client, Number, Peer) ->
    fate_of(Client, fun() -> reaches(Client, Number, Peer) end).

fate_of(#{server := Server}, Reaches) ->
    Reasons = [no_permission, no_channel, no_allocation],
    Drops = fun() -> [turn_kit:counter(Server, Reason) || Reason <- Reasons] end,
    Before = Drops(),
    case Reaches() of
        true ->
            reached;
        false ->
            until(fun() -> Drops() =/= Before end),
            [Reason] = [R || {R, Was, Is} <- lists:zip3(Reasons, Before, Drops()), Is > Was],
            Reason
    end.

%% Why the channel carries nothing any more, when it does not.
lapse(Client, Number, Peer) ->
    case fate(Client, Number, Peer) of
        reached -> receive after 10 -> lapse(Client, Number, Peer) end;
        Reason -> Reason
    end.

%% Is the channel over, though the peer has had a permission since then?
is_over(Client, Number, Peer, Since) ->
    case fate(Client, Number, Peer) of
        no_channel -> true;
        Fate -> in_time(?PERMISSION, Since, reached, Fate) andalso false
    end.

permitted_until_over(Client, Number, Peer) ->
    until(fun() ->
        Since = meerkat_clock:now_ms(),
        success(permit(Client, [Peer])),
        is_over(Client, Number, Peer, Since)
    end).

lapsed_send(Client, #{address := Address}) ->
    dropped(Client, no_permission,
            request(indication, send, [{xor_peer_address, Address}, {data, <<"late">>}])).

%% ---------------------------------------------------------------------------------- nonces

-spec t3_nonce_within_the_hour(turn_kit:config()) -> _.
t3_nonce_within_the_hour(Config) ->
    doc("unless told otherwise a nonce is stale after an hour at the latest, used or not "
        "(RFC 8656 5)"),
    flying(Config, fun(Server) ->
        #{nonce := Nonce} = Client = challenged(open(Server)),
        expect(437, call(Client, refresh, [])),
        until(fun() -> maps:get(nonce, challenged(Client)) =/= Nonce end),
        Hour = allocated(Server, [{lifetime, 3600}]),
        until(fun() -> not lives(challenged(Hour)) end),
        expect(438, call(Client, refresh, []))
    end).

-spec x30_stale_nonce(turn_kit:config()) -> _.
x30_stale_nonce(Config) ->
    doc("a nonce past its time: 438 with realm and a fresh one, nothing of the user, and with "
        "that one the same request succeeds (RFC 8489 9.2.4, RFC 8656 5)"),
    flying(Config, #{nonce_lifetime => 300}, fun(Server) ->
        #{nonce := Nonce} = Client = allocated(Server, [{lifetime, 3600}]),
        until(fun() -> code(call(Client, refresh, [{lifetime, 3600}])) =:= 438 end),
        Answer = expect(438, call(Client, refresh, [{lifetime, 3600}])),
        ?assertEqual([], names(Answer) -- [error_code, nonce, realm, password_algorithms,
                                           message_integrity, message_integrity_sha256]),
        ?assertEqual(maps:get(realm, Server), get(realm, Answer)),
        ?assertNotEqual(Nonce, get(nonce, Answer)),
        sees(300, fun() -> ok end, success, fun() ->
            Fresh = get(nonce, expect(438, call(Client, refresh, []))),
            code(call(Client#{nonce => Fresh}, refresh, [{lifetime, 3600}]))
        end),
        expect(438, call(Client, refresh, []))
    end).

-spec k6_nonce_of_an_idle_client(turn_kit:config()) -> _.
k6_nonce_of_an_idle_client(Config) ->
    doc("a nonce is good for all its life, whatever was issued since and however idle its "
        "client; then 438 once"),
    flying(Config, fun(Server) ->
        Idle = challenged(open(Server)),
        Short = allocated(Server),
        until(fun() ->
            expect(401, ask(Idle, request(request, refresh, []))),
            not lives(Short)
        end),
        success(allocate(Idle))
    end).

%% ----------------------------------------------------------------------------- allocations

-spec t13_data_prolongs_nothing(turn_kit:config()) -> _.
t13_data_prolongs_nothing(Config) ->
    doc("an allocation ends after the ten minutes it was given, whatever it relays meanwhile and "
        "whatever else is renewed (RFC 8656 6)"),
    flying(Config, fun(Server) ->
        Client = allocated(Server),
        ?assertEqual(600, get(lifetime, maps:get(answer, Client))),
        Peer = peer(),
        until(fun() ->
            Bound = code(bind(Client, 16#4000, Peer)),
            Bound =:= success andalso reaches(Client, 16#4000, Peer),
            Bound =:= 437
        end),
        dropped(Client, no_allocation, stun_model:encode_channel(16#4000, <<"late">>)),
        expect(437, call(Client, refresh, []))
    end).

-spec t29_lifetimes_are_kept(turn_kit:config()) -> _.
t29_lifetimes_are_kept(Config) ->
    doc("each allocation ends when its own LIFETIME is over, and its port is free again "
        "(RFC 8656 7.2)"),
    flying(Config, fun(Server) ->
        [Short, Long] = [allocated(Server, [{lifetime, S}]) || S <- [1, 1800]],
        ?assertEqual([600, 1800], [get(lifetime, A) || #{answer := A} <- [Short, Long]]),
        until(fun() -> not lives(Short) end),
        ?assert(lives(Long)),
        {Ip, Port} = maps:get(relayed, Short),
        until(fun() ->
            case gen_udp:open(Port, [{ip, Ip}]) of
                {ok, Socket} -> gen_udp:close(Socket) =:= ok;
                {error, eaddrinuse} -> false
            end
        end),
        success(allocate(Short)),
        until(fun() -> not lives(Long) end)
    end).

-spec t33_refresh_prolongs(turn_kit:config()) -> _.
t33_refresh_prolongs(Config) ->
    doc("a Refresh sets the time that is left anew, longer or shorter (RFC 8656 8.2)"),
    flying(Config, fun(Server) ->
        [Longer, Shorter] = [allocated(Server, [{lifetime, S}]) || S <- [600, 3600]],
        Same = allocated(Server, [{lifetime, 3600}]),
        ?assertEqual(2400, get(lifetime, success(call(Longer, refresh, [{lifetime, 2400}])))),
        ?assertEqual(600, get(lifetime, success(call(Shorter, refresh, [{lifetime, 1}])))),
        until(fun() -> not lives(Shorter) end),
        ?assertEqual([true, true], [lives(C) || C <- [Longer, Same]]),
        until(fun() -> not lives(Longer) end)
    end).

-spec t34_families_end_apart(turn_kit:config()) -> _.
t34_families_end_apart(Config) ->
    doc("of a dual allocation the family that was not refreshed ends alone, with what is its "
        "own (RFC 8656 8.2)"),
    flying(Config, fun(Server) ->
        #{answer := Answer} = Client = allocated(Server, [?BOTH]),
        [Relayed6] = [A || {?V6, _} = A <- get_all(xor_relayed_address, Answer)],
        [Peer4, Peer6] = [peer(), peer(?V6)],
        success(call(Client, refresh, [?RAF6, {lifetime, 3000}])),
        until(fun() -> code(permit(Client, [Peer4])) =:= 443 end),
        expect(443, call(Client, refresh, [?RAF4])),
        sees(?PERMISSION, fun() -> success(bind(Client, 16#4000, Peer6)) end,
             {reached, {channel, 16#4000}},
             fun() ->
                 {fate(Client, 16#4000, Peer6), from_peer(Client#{relayed => Relayed6}, Peer6)}
             end),
        until(fun() -> not lives(Client) end)
    end).

-spec x81_next_user_of_a_5_tuple(turn_kit:config()) -> _.
x81_next_user_of_a_5_tuple(Config) ->
    doc("whoever has the 5-tuple after an allocation has expired finds nothing of it"),
    flying(Config, fun(Server) ->
        Alice = allocated(Server),
        Peer = peer(),
        until(fun() -> code(bind(Alice, 16#4000, Peer)) =:= 437 end),
        dropped(Alice, no_allocation, stun_model:encode_channel(16#4000, <<"late">>)),
        Bob = Alice#{user => <<"bob">>, password => <<"builder">>,
                     key => stun_model:key("bob", maps:get(realm, Alice), "builder")},
        Answer = success(allocate(Bob)),
        Next = Bob#{relayed => get(xor_relayed_address, Answer)},
        lapsed_send(Next, Peer),
        dropped(Next, no_channel, stun_model:encode_channel(16#4000, <<"whose">>)),
        unheard(Next, Peer, maps:get(relayed, Next), <<"hello">>),
        expect(441, call(Alice, refresh, [])),
        sees(?PERMISSION, fun() -> success(bind(Next, 16#4001, Peer)) end, reached,
             fun() -> fate(Next, 16#4001, Peer) end)
    end).

%% ---------------------------------------------------------------------------- reservations

%% A server with two ports, an allocation on the even one, and the token for the other.
reserving(Config, Items, Fun) ->
    Even = turn_kit:free_ports(2),
    Relay = #{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1},
              min_port => Even, max_port => Even + 1},
    flying(Config, #{relays => [Relay]}, fun(Server) ->
        #{answer := Answer} = Client = allocated(Server, [{even_port, true} | Items]),
        Fun(Server, Client, Even, {reservation_token, get(reservation_token, Answer)})
    end).

-spec t27_reservation_lapses(turn_kit:config()) -> _.
t27_reservation_lapses(Config) ->
    doc("a reservation nobody redeems ends after half a minute, long before its allocation: the "
        "token is worth nothing then (RFC 8656 7.2)"),
    reserving(Config, [], fun(Server, First, Even, Token) ->
        Late = challenged(open(Server)),
        until(fun() -> code(allocate(Late)) =:= success end),
        ?assert(lives(First)),
        expect(437, allocate(Late)),
        expect(508, allocate(challenged(open(Server)), [Token])),
        turn_kit:delete(Late),
        expect(508, allocate(Late, [Token])),
        Answer = success(allocate(Late)),
        ?assertMatch({_, Port} when Port =:= Even + 1, get(xor_relayed_address, Answer))
    end).

-spec x73_held_port_comes_back(turn_kit:config()) -> _.
x73_held_port_comes_back(Config) ->
    doc("ports held in reserve come back, one after the other: none is lost"),
    Even = turn_kit:free_ports(2),
    Relay = #{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1},
              min_port => Even, max_port => Even + 1},
    flying(Config, #{relays => [Relay]}, fun(Server) ->
        Client = challenged(open(Server)),
        [begin
             until(fun() -> code(allocate(Client, [{even_port, true}])) =:= success end),
             turn_kit:delete(Client)
         end || _ <- lists:seq(1, 3)],
        Others = [challenged(open(Server)) || _ <- [1, 2]],
        [until(fun() -> code(allocate(Other)) =:= success end) || Other <- Others],
        expect(508, allocate(Client))
    end).

-spec k15_reservation_lapses_with_its_allocation(turn_kit:config()) -> _.
k15_reservation_lapses_with_its_allocation(Config) ->
    doc("a token lives half a minute at most, and not longer than the allocation it came with"),
    reserving(Config, [{lifetime, 3600}], fun(Server, First, _Even, Token) ->
        Other = challenged(open(Server)),
        turn_kit:delete(First),
        expect(508, allocate(Other, [Token])),
        Again = challenged(open(Server)),
        until(fun() -> code(allocate(Again, [{even_port, true}])) =:= success end)
    end).

%% -------------------------------------------------------------------------------- mobility

-spec m6_spent_ticket_lapses(turn_kit:config()) -> _.
m6_spent_ticket_lapses(Config) ->
    doc("a ticket that was shown answers retransmissions for half a minute and somewhat, then "
        "400; the allocation goes on (RFC 8016 3.2.2)"),
    flying(Config, #{mobility => true}, fun(Server) ->
        Ticket = {mobility_ticket, <<>>},
        #{answer := Answer} = Client = allocated(Server, [Ticket, {lifetime, 3600}]),
        New = challenged(open(Server)),
        Request = signed(New, refresh, [{mobility_ticket, get(mobility_ticket, Answer)},
                                        {lifetime, 3600}]),
        success(ask(New, Request)),
        until(fun() -> code(expect([success, 400], ask(New, Request))) =:= 400 end),
        Peer = peer(),
        sees(?PERMISSION, fun() -> success(bind(New, 16#4000, Peer)) end, reached,
             fun() -> fate(New, 16#4000, Peer) end),
        expect(437, call(Client, refresh, []))
    end).

%% ----------------------------------------------------------------------------- permissions

-spec t35_permission_lapses(turn_kit:config()) -> _.
t35_permission_lapses(Config) ->
    doc("a permission ends after five minutes, both ways and in silence; its allocation goes on "
        "and can have it again (RFC 8656 9)"),
    flying(Config, fun(Server) ->
        {Client, Peer} = pair(Server, {127, 0, 0, 2}),
        BothWays = fun() ->
            sees(?PERMISSION, fun() -> success(permit(Client, [Peer])) end, {reached, data},
                 fun() -> {fate(Client, Peer), from_peer(Client, Peer)} end)
        end,
        BothWays(),
        until(fun() -> not reaches(Client, Peer) end),
        lapsed_send(Client, Peer),
        unheard(Client, Peer, maps:get(relayed, Client), <<"late">>),
        ?assert(lives(Client)),
        BothWays()
    end).

-spec t35_permission_renewed(turn_kit:config()) -> _.
t35_permission_renewed(Config) ->
    doc("CreatePermission gives a permission five minutes more, several at once too "
        "(RFC 8656 9, 10.2)"),
    flying(Config, fun(Server) ->
        {Client, Witness} = pair(Server, {127, 0, 0, 2}),
        Kept = [peer({127, 0, 0, N}) || N <- [3, 4]],
        until(fun() ->
            Since = meerkat_clock:now_ms(),
            success(permit(Client, Kept)),
            not reaches(Client, Witness) andalso
                in_time(?PERMISSION, Since, [{reached, data} || _ <- Kept],
                        [{fate(Client, Peer), from_peer(Client, Peer)} || Peer <- Kept])
        end),
        until(fun() -> [] =:= [P || P <- Kept, reaches(Client, P)] end)
    end).

-spec k16_each_permission_by_itself(turn_kit:config()) -> _.
k16_each_permission_by_itself(Config) ->
    doc("each permission has a time of its own: one lapses, the one made later does not yet"),
    flying(Config, fun(Server) ->
        {Client, First} = pair(Server, {127, 0, 0, 2}),
        Second = peer({127, 0, 0, 3}),
        until(fun() ->
            Since = meerkat_clock:now_ms(),
            success(permit(Client, [Second])),
            not reaches(Client, First) andalso
                in_time(?PERMISSION, Since, reached, fate(Client, Second))
        end),
        lapsed_send(Client, First),
        until(fun() -> not reaches(Client, Second) end)
    end).

-spec t37_send_renews_nothing(turn_kit:config()) -> _.
t37_send_renews_nothing(Config) ->
    doc("Send, and what peers send, give a permission no more time (RFC 8656 9, 11.2)"),
    flying(Config, fun(Server) ->
        {Client, Peer} = pair(Server, {127, 0, 0, 2}),
        until(fun() ->
            reaches(Client, Peer) =:= false
                orelse from_peer(Client, Peer) =:= no_permission
        end),
        lapsed_send(Client, Peer),
        ?assertEqual(no_permission, from_peer(Client, Peer))
    end).

%% -------------------------------------------------------------------------------- channels

-spec t40_channel_lapses(turn_kit:config()) -> _.
t40_channel_lapses(Config) ->
    doc("a channel ends after ten minutes if it is not bound again; number and peer are then "
        "free for others (RFC 8656 12)"),
    flying(Config, fun(Server) ->
        {Client, Peer} = pair(Server, {127, 0, 0, 2}),
        success(bind(Client, 16#4000, Peer)),
        permitted_until_over(Client, 16#4000, Peer),
        dropped(Client, no_channel, stun_model:encode_channel(16#4000, <<"late">>)),
        Other = peer({127, 0, 0, 2}),
        Channels = [{16#4000, Other}, {16#4001, Peer}],
        sees(?PERMISSION,
             fun() -> [success(bind(Client, N, P)) || {N, P} <- Channels] end,
             [{reached, {channel, N}} || {N, _} <- Channels],
             fun() -> [{fate(Client, N, P), from_peer(Client, P)} || {N, P} <- Channels] end)
    end).

-spec t41_bind_renews_channel_and_permission(turn_kit:config()) -> _.
t41_bind_renews_channel_and_permission(Config) ->
    doc("the same ChannelBind again gives channel and permission their whole time "
        "(RFC 8656 12.2)"),
    flying(Config, fun(Server) ->
        {Client, Once} = pair(Server, {127, 0, 0, 2}),
        Again = peer({127, 0, 0, 3}),
        success(bind(Client, 16#4000, Once)),
        until(fun() ->
            Since = meerkat_clock:now_ms(),
            success(bind(Client, 16#4001, Again)),
            success(permit(Client, [Once])),
            is_over(Client, 16#4000, Once, Since) andalso
                in_time(?PERMISSION, Since, {reached, {channel, 16#4001}},
                        {fate(Client, 16#4001, Again), from_peer(Client, Again)})
        end),
        until(fun() -> not reaches(Client, 16#4001, Again) end)
    end).

-spec t43_channel_data_renews_nothing(turn_kit:config()) -> _.
t43_channel_data_renews_nothing(Config) ->
    doc("ChannelData gives neither permission nor channel more time (RFC 8656 12.6)"),
    flying(Config, fun(Server) ->
        {Client, Peer} = pair(Server, {127, 0, 0, 2}),
        sees(?CHANNEL, fun() -> success(bind(Client, 16#4000, Peer)) end, no_permission,
             fun() -> lapse(Client, 16#4000, Peer) end),
        permitted_until_over(Client, 16#4000, Peer),
        dropped(Client, no_channel, stun_model:encode_channel(16#4000, <<"late">>))
    end).

-spec k17_channel_without_permission(turn_kit:config()) -> _.
k17_channel_without_permission(Config) ->
    doc("a channel whose permission has lapsed carries nothing, either way, until it is renewed"),
    flying(Config, fun(Server) ->
        Client = allocated(Server, [{lifetime, 3600}]),
        Peer = peer({127, 0, 0, 2}),
        sees(?CHANNEL, fun() -> success(bind(Client, 16#4000, Peer)) end,
             [no_permission, no_permission, reached, {channel, 16#4000}],
             fun() ->
                 Lapsed = [lapse(Client, 16#4000, Peer), from_peer(Client, Peer)],
                 success(permit(Client, [Peer])),
                 Lapsed ++ [fate(Client, 16#4000, Peer), from_peer(Client, Peer)]
             end)
    end).

-spec k17_permission_without_channel(turn_kit:config()) -> _.
k17_permission_without_channel(Config) ->
    doc("where the channel has lapsed and the permission not, peers come as Data again"),
    flying(Config, fun(Server) ->
        {Client, Peer} = pair(Server, {127, 0, 0, 2}),
        sees(?PERMISSION, fun() -> success(bind(Client, 16#4000, Peer)) end, {channel, 16#4000},
             fun() -> from_peer(Client, Peer) end),
        until(fun() ->
            Since = meerkat_clock:now_ms(),
            success(permit(Client, [Peer])),
            from_peer(Client, Peer) =:= data andalso
                in_time(?PERMISSION, Since, reached, fate(Client, Peer))
        end),
        dropped(Client, no_channel, stun_model:encode_channel(16#4000, <<"late">>))
    end).

-spec x73_held_port_is_counted_no_longer(turn_kit:config()) -> _.
x73_held_port_is_counted_no_longer(Config) ->
    doc("a port held in reserve counts for its user's quota for as long, and not for longer"),
    flying(Config, #{user_quota => 2}, fun(#{name := Name} = Server) ->
        Client = challenged(open(Server)),
        User = {user, {default, <<"alice">>}},
        [begin
             until(fun() -> code(allocate(Client, [{even_port, true}])) =:= success end),
             ?assertEqual(2, meerkat_quota:count(Name, User)),
             turn_kit:delete(Client)
         end || _ <- lists:seq(1, 3)],
        until(fun() -> code(allocate(Client, [{even_port, true}])) =:= success end)
    end).

-spec x78_traffic_keeps_nothing_alive(turn_kit:config()) -> _.
x78_traffic_keeps_nothing_alive(Config) ->
    doc("traffic of every kind and no request: the permission dies, both ways, with the channel "
        "still bound; then the channel, though the permission is back"),
    flying(Config, fun(Server) ->
        {Client, Peer} = pair(Server, {127, 0, 0, 2}),
        sees(?CHANNEL, fun() -> success(bind(Client, 16#4000, Peer)) end,
             [no_permission, no_permission, no_permission, {channel, 16#4000}],
             fun() ->
                 until(fun() ->
                     _ = reaches(Client, Peer),
                     _ = from_peer(Client, Peer),
                     not reaches(Client, 16#4000, Peer)
                 end),
                 Lapsed = [fate(Client, Peer), fate(Client, 16#4000, Peer),
                           from_peer(Client, Peer)],
                 success(permit(Client, [Peer])),
                 Lapsed ++ [from_peer(Client, Peer)]
             end),
        until(fun() ->
            Since = meerkat_clock:now_ms(),
            success(permit(Client, [Peer])),
            in_time(?PERMISSION, Since, reached, fate(Client, Peer)) andalso
                is_over(Client, 16#4000, Peer, Since) andalso
                in_time(?PERMISSION, Since, data, from_peer(Client, Peer))
        end)
    end).

%% ----------------------------------------------------------------------------------- alone

-spec nothing_of_it_ships(turn_kit:config()) -> _.
nothing_of_it_ships(Config) ->
    doc("neither Erlang nor the relay can be told to run fast unless they were built for it"),
    Source = filename:join(proplists:get_value(root, Config), "src/base/meerkat_clock.erl"),
    {Shipped, Tested} = {compiled(Source, []), compiled(Source, [{d, 'TEST'}])},
    ?assertMatch({[_ | _], _}, {Tested -- Shipped, Shipped}),
    ?assertEqual([], Shipped -- [meerkat_clock, now_ms, erlang, monotonic_time, millisecond,
                                 wall, wall_s, wall_ms, os, system_time, second, offset, step_s,
                                 microsecond, system_info, os_monotonic_time_source, lists, keyfind,
                                 time, '-', convert_time_unit, native, module_info,
                                 get_module_info]),
    {ok, Slow} = file:read_file(filename:join(code:priv_dir(meerkat), "meerkat_relay")),
    {ok, Fast} = file:read_file(proplists:get_value(relay, Config)),
    ?assertMatch({nomatch, {_, _}}, {binary:match(Slow, <<"with a fast clock">>),
                                     binary:match(Fast, <<"with a fast clock">>)}),
    ?assertEqual(nomatch, binary:match(Slow, <<"CLOCK_SPEED">>)).

%% All atoms of the module.
compiled(Source, Options) ->
    {ok, meerkat_clock, Beam} = compile:file(Source, [binary | Options]),
    {ok, {_, [{atoms, Atoms}]}} = beam_lib:chunks(Beam, [atoms]),
    [Atom || {_, Atom} <- Atoms].
