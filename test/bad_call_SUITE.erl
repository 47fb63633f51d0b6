%% Bad calls, of real media: what is done to it on its way to the relay is what the relay finds and
%% says (docs/design/seeing.md). The ways are way_kit's, which know what they did.
-module(bad_call_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([loss_disorder_and_a_cut/1, of_chromium/1, blocked_udp/1]).

-import(turn_kit, [doc/1, allocated/1, allocated/3, permit/2, bind/3, channel/3, delete/1, peer/0,
                   peer/1, peer_next/1, eventually/1, success/1, start_server/1, stop_server/1,
                   with_server/2]).

-define(CHANNEL, 16#4001).
-define(HERE, {127, 0, 0, 1}).

-spec all() -> [atom()].
all() -> [loss_disorder_and_a_cut, of_chromium, blocked_udp].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    Listeners = [#{transport => Transport, ip => ?HERE, port => 0} || Transport <- [udp, tcp]],
    [{server, start_server(#{listeners => Listeners})} | Config].

-spec end_per_suite(turn_kit:config()) -> term().
end_per_suite(Config) -> stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).

%% ------------------------------------------------------------------------------------- helpers

session(#{name := Name}, #{relayed := Relayed}) ->
    [Session] = [S || #{session := S, relayed := [R]} <- meerkat:allocations(Name), R =:= Relayed],
    Session.

watch(#{name := Name}, Who) ->
    {ok, Id} = meerkat:watch(Name, Who, #{seconds => 600}),
    Id.

%% Events until one is so, with those before it.
until(#{name := Name} = Server, Id, Is, Before) ->
    {ok, Events, going} = meerkat:watched(Name, Id),
    case lists:any(Is, Events) of
        true -> Before ++ Events;
        false -> until(Server, Id, Is, Before ++ Events)
    end.

%% Beginning to be bad of all of these at a time.
is_bad(Wanted) ->
    fun(#{event := verdict, bad := Bad}) -> Wanted -- Bad =:= []; (#{}) -> false end.

%% ffmpeg speaks to that port for so many seconds, 50 packets each.
speaks(Port, Seconds) ->
    Test = self(),
    spawn_link(fun() ->
        Said = os:cmd(lists:flatten(io_lib:format(
            "ffmpeg -v error -re -f lavfi -i sine=duration=~b -c:a pcm_mulaw -ar 8000 -f rtp "
            "'rtp://127.0.0.1:~b?pkt_size=172&rtcpport=~b' 2>&1 >/dev/null",
            [Seconds, Port, Port]))),
        Test ! {said, self(), Said}
    end).

has_spoken(Speaker) ->
    receive {said, Speaker, Said} -> ?assertEqual("", Said) end.

needs(Program) ->
    _ = os:find_executable(Program) =/= false orelse throw({skip, "needs " ++ Program}),
    ok.

%% --------------------------------------------------------------------------------------- cases

-spec loss_disorder_and_a_cut(turn_kit:config()) -> term().
loss_disorder_and_a_cut(Config) ->
    ok = doc("ffmpeg speaks over a way that loses every tenth packet and holds every fourth back "
             "for 30 ms: what was lost is found exactly, what was late at least, and jitter. "
             "Another way is cut after a second: the silence is found while the client speaks on"),
    needs("ffmpeg"),
    Server = server(Config),
    Cut = cut(Server),
    Lossy = lossy(Server),
    Lossy(),
    Cut().

%% Each returns what is to be awaited.
lossy(#{name := Name} = Server) ->
    Client = #{relayed := Relayed} = allocated(Server),
    success(permit(Client, [{?HERE, 1}])),
    Session = session(Server, Client),
    Id = watch(Server, Session),
    until(Server, Id, fun(#{event := Event}) -> Event =:= allocated end, []),
    {Way, Port} = way_kit:open(Relayed, fun lose_and_hold/2, #{lost => 0, sent => 0}),
    Speaker = speaks(Port, 4),
    fun() ->
        has_spoken(Speaker),
        #{lost := Made, sent := Sent} = way_kit:over(Way),
        %% The first of a source only shows that there may be one (RFC 3550 A.1).
        eventually(fun() ->
            {ok, #{media := #{streams := [#{packets := N}]}}} = meerkat:allocation(Name, Session),
            N >= Sent - 1
        end),
        {ok, #{media := #{streams := [Source], flows := Flows}, verdict := Verdict}} =
            meerkat:allocation(Name, Session),
        #{lost := Lost, late := Late, jitter_us := Jitter} = Source,
        ?assertMatch(#{from := peer, payload_type := 0, clock_rate := 8000, twice := 0}, Source),
        ?assert(Made > 15), % of some 200
        ?assertEqual(Made, Lost),
        ?assert(Late >= Made),
        ?assert(Jitter > 5000),
        %% From a port of its own.
        ?assert(lists:sum([N || #{from_peer := #{rtcp := N}} <- Flows]) > 0),
        ?assertMatch({match, _},
                     re:run(Verdict, "% of peer 127.0.0.1:[0-9]+'s packets are lost")),
        until(Server, Id, is_bad([{loss, peer}, {late, peer}]), []),
        ok = meerkat:unwatch(Name, Id),
        ok = delete(Client)
    end.

%% Beginning and end come through, for what is lost there nobody can know of; RTCP passes.
lose_and_hold(Data, #{lost := Lost, sent := Sent} = Counts) ->
    N = Lost + Sent,
    case way_kit:is_media(Data) of
        false -> {pass, Counts};
        {true, _} when N rem 10 =:= 3, N < 180 -> {lose, Counts#{lost := Lost + 1}};
        {true, _} when N rem 4 =:= 2 -> {{hold, 30}, Counts#{sent := Sent + 1}};
        {true, _} -> {pass, Counts#{sent := Sent + 1}}
    end.

cut(#{name := Name} = Server) ->
    Client = #{relayed := Relayed} = allocated(Server),
    Peer = peer(),
    success(bind(Client, ?CHANNEL, Peer)),
    Id = watch(Server, session(Server, Client)),
    until(Server, Id, fun(#{event := Event}) -> Event =:= allocated end, []),
    {_Way, Port} = way_kit:open(Relayed, fun(_, N) when N < 100 -> {pass, N + 1};
                                            (_, N) -> {lose, N} end, 0),
    Speaker = speaks(Port, 3),
    Talker = spawn_link(fun() -> talk(Client, 1) end),
    fun() ->
        has_spoken(Speaker),
        until(Server, Id, is_bad([{silence, peer}]), []),
        true = unlink(Talker),
        true = exit(Talker, kill),
        ok = meerkat:unwatch(Name, Id),
        ok = delete(Client)
    end.

%% Media of 50 packets a second, until it is stopped.
talk(Client, N) ->
    ok = channel(Client, ?CHANNEL, <<2:2, 0:6, 0:8, N:16, (N * 160):32, 16#a11ce:32, 0:1280>>),
    receive after 20 -> talk(Client, N + 1) end.

-spec of_chromium(turn_kit:config()) -> term().
of_chromium(_Config) ->
    ok = doc("A call of Chromium's over a way that loses every tenth packet of each source: that "
             "share is found within a hundredth, on the client's side; its checks of ICE and its "
             "handshakes are told"),
    {0, _} = interop_SUITE:npm_ci(),
    with_server(#{}, fun(#{name := Name, ip := Ip, port := Server, users := Users} = Running) ->
        Id = watch(Running, {user, <<"alice">>}),
        {Way, Port} = way_kit:open({Ip, Server}, fun every_tenth/2, #{}),
        Test = self(),
        Args = ["127.0.0.1", integer_to_list(Port), "alice", maps:get(<<"alice">>, Users)],
        _ = spawn_link(fun() ->
            Test ! {browsed, interop_SUITE:browser("relay_call.mjs", Args, [{"FRAMES", "120"}])}
        end),
        %% Its allocations outlive the browser, which does not end them.
        {{Status, Output}, Events} = browsed(Running, Id, []),
        ?assertEqual({0, Output}, {Status, Output}),
        Made = [Ssrc || {Ssrc, N} <- maps:to_list(way_kit:over(Way)), N >= 200],
        ?assertMatch([_ | _], Made),
        [begin
             Found = [E || #{event := media, from := client, ssrc := S} = E <- Events, S =:= Ssrc],
             [Packets, Lost] = [lists:sum([maps:get(Key, E) || E <- Found])
                                || Key <- [packets, lost]],
             ?assert(Packets >= 100),
             Share = Lost / (Packets + Lost),
             ?assert(abs(Share - 0.1) < 0.01, Share)
         end || Ssrc <- Made],
        ?assertMatch([_ | _], lists:filter(is_bad([{loss, client}]), Events)),
        [?assertMatch([_ | _], [E || #{event := Event} = E <- Events, Event =:= Told])
         || Told <- [ice, dtls]],
        ok = meerkat:unwatch(Name, Id)
    end).

%% What the browser said, and the events until then: a watch that nobody asks ends.
browsed(#{name := Name} = Server, Id, Before) ->
    {ok, Events, going} = meerkat:watched(Name, Id),
    receive
        {browsed, Said} -> {Said, Before ++ Events}
    after 0 -> browsed(Server, Id, Before ++ Events)
    end.

%% Of each source.
every_tenth(Data, Counts) ->
    case way_kit:is_media(Data) of
        {true, Ssrc} ->
            N = maps:get(Ssrc, Counts, 0),
            {case N rem 10 of 3 -> lose; _ -> pass end, Counts#{Ssrc => N + 1}};
        false ->
            {pass, Counts}
    end.

-spec blocked_udp(turn_kit:config()) -> term().
blocked_udp(Config) ->
    ok = doc("Where UDP to the relayed ports is blocked, and where the relayed address is wrong, "
             "nothing comes back: why is told apart. Who comes by TCP is told to come by it"),
    needs("ffmpeg"),
    Public = [#{local => ?HERE, advertised => {8, 8, 8, 8}, min_port => 49152, max_port => 65535}],
    with_server(#{relays => Public}, fun(Server) ->
        ?assertEqual([unheard], unanswered(Server, #{}))
    end),
    ?assertEqual([wrong_relay_address, tcp], unanswered(server(Config), #{transport => tcp})).

%% The client speaks to a peer whose own media is lost on its way back.
unanswered(#{name := Name} = Server, Options) ->
    Client = allocated(Server, [], Options),
    [#{session := Session}] = meerkat:allocations(Name),
    {Way, Port} = way_kit:open({?HERE, 9}, fun(_, N) -> {lose, N + 1} end, 0),
    %% Not where this server relays.
    Peer = peer({127, 0, 0, 8}),
    success(bind(Client, ?CHANNEL, Peer)),
    Speaker = speaks(Port, 1),
    channel(Client, ?CHANNEL, <<"hello">>),
    _ = peer_next(Peer),
    has_spoken(Speaker),
    ?assert(way_kit:over(Way) > 0),
    {ok, [#{causes := Causes}]} = meerkat:explain(Name, Session),
    turn_kit:close(Client),
    Causes.
