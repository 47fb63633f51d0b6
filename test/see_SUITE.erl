%% Seeing into a call (docs/design/seeing.md): what a watch tells of an allocation from its first
%% Allocate on, what the relay finds wrong with media, that a watch has an end and a bound, and that
%% who is not watched is not looked at. Each row of counting is in test/c/unit/media.c.
-module(see_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([from_the_first_allocate/1, says_what_is_lost/1, one_sided/1, of_a_client/1,
         not_by_shortcuts/1, over_with_the_allocation/1, has_bounds/1, lines_for_people/1,
         explains/1, verdicts/1, between_looks/1, a_sample/1]).

-import(turn_kit, [doc/1, open/2, challenged/1, allocate/1, allocated/1, delete/1,
                   permit/2, bind/3, channel/3, peer/0, peer/2, peer_send/3, peer_next/1, call/4,
                   next/1, eventually/1, counter/2, success/1, start_server/1, stop_server/1]).

-define(CHANNEL, 16#4001).

-spec all() -> [atom()].
all() ->
    [from_the_first_allocate, says_what_is_lost, one_sided, of_a_client, not_by_shortcuts,
     over_with_the_allocation, has_bounds, lines_for_people, explains,
     verdicts, between_looks, a_sample].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) -> [{server, start_server(#{})} | Config].

-spec end_per_suite(turn_kit:config()) -> term().
end_per_suite(Config) -> stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).

%% ------------------------------------------------------------------------------------- helpers

watch(#{name := Name}, Who) ->
    {ok, Id} = meerkat:watch(Name, Who, #{seconds => 600}),
    Id.

%% Events until one is so, with those before it.
until(Server, Id, Is) -> until(Server, Id, Is, []).

until(#{name := Name} = Server, Id, Is, Before) ->
    {ok, Events, State} = meerkat:watched(Name, Id),
    All = Before ++ Events,
    case {lists:any(Is, Events), State} of
        {true, _} -> All;
        {false, going} -> until(Server, Id, Is, All);
        {false, over} -> error({not_told, All})
    end.

is(Wanted) ->
    fun(Event) -> maps:with(maps:keys(Wanted), Event) =:= Wanted end.

found(Wanted, Events) ->
    case lists:filter(is(Wanted), Events) of
        [Event | _] -> Event;
        [] -> error({not_told, Wanted, Events})
    end.

session(#{name := Name}, #{relayed := Relayed}) ->
    [Session] = [S || #{session := S, relayed := [R]} <- meerkat:allocations(Name), R =:= Relayed],
    Session.

rtp(Sequence, Timestamp, Ssrc) ->
    <<2:2, 0:6, 0:8, Sequence:16, Timestamp:32, Ssrc:32, 0:1280>>.

%% Media of 50 packets a second by its timestamps, without those that Lost says.
speak(Say, Ssrc, Sequences) ->
    lists:foreach(fun(N) -> Say(rtp(N, N * 160, Ssrc)) end, Sequences).

%% ------------------------------------------------------------------------------------- cases

-spec from_the_first_allocate(turn_kit:config()) -> term().
from_the_first_allocate(Config) ->
    ok = doc("A watch of a user begins before there is an allocation: what fails, each request "
             "and its answer, permissions and channels with the time that is left, the end"),
    Server = server(Config),
    Id = watch(Server, {user, <<"bob">>}),
    until(Server, Id, is(#{event => watching, allocations => []})),
    Client = challenged(open(Server, #{user => <<"bob">>, password => <<"builder">>})),
    _ = call(Client, allocate, [{requested_transport, 17}], #{key => <<"wrong">>}),
    Refused = until(Server, Id, is(#{event => asked, outcome => 401})),
    ?assertMatch(#{method := allocate, why := <<_, _/binary>>},
                 found(#{event => asked, outcome => 401}, Refused)),
    Answer = success(allocate(Client)),
    Made = Client#{answer => Answer, relayed => turn_kit:get(xor_relayed_address, Answer)},
    Begun = until(Server, Id, is(#{event => asked, method => allocate, outcome => success})),
    #{session := Session} = found(#{event => allocated, user => <<"bob">>, found => false}, Begun),
    Peer = #{address := Address} = peer(),
    success(bind(Made, ?CHANNEL, Peer)),
    success(permit(Made, [{{127, 0, 0, 9}, 1}])),
    Bound = until(Server, Id, is(#{event => permission, peer => {127, 0, 0, 9}})),
    Told = Begun ++ Bound,
    #{expires_ms := Left} = found(#{event => channel, number => ?CHANNEL, peer => Address}, Told),
    ?assert(Left > 0 andalso Left =< 600000),
    found(#{event => asked, method => channel_bind, outcome => success, session => Session}, Told),
    found(#{event => asked, method => create_permission, outcome => success}, Told),
    delete(Made),
    until(Server, Id, is(#{event => ended, session => Session})),
    ok = meerkat:unwatch(maps:get(name, Server), Id),
    ?assertEqual({error, not_found}, meerkat:watched(maps:get(name, Server), Id)).

-spec says_what_is_lost(turn_kit:config()) -> term().
says_what_is_lost(Config) ->
    ok = doc("Every tenth packet of the client's does not come: the first packet of each flow, "
             "the loss of that source and of no other, whose side it is, and what was dropped "
             "with an example of whom"),
    Server = #{name := Name} = server(Config),
    Client = allocated(Server),
    Peer = #{address := Address} = peer(),
    success(bind(Client, ?CHANNEL, Peer)),
    Session = session(Server, Client),
    Id = watch(Server, Session),
    until(Server, Id, is(#{event => allocated, found => true})),
    speak(fun(P) -> channel(Client, ?CHANNEL, P) end, 16#a11ce,
          [N || N <- lists:seq(1, 300), N rem 10 =/= 0]),
    speak(fun(P) -> peer_send(Peer, maps:get(relayed, Client), P) end, 16#b0b,
          lists:seq(1, 150)),
    Stranger = #{address := {_, Port}} = peer({127, 0, 0, 7}, #{}),
    peer_send(Stranger, maps:get(relayed, Client), <<"x">>),
    Events = until(Server, Id, is(#{event => drop, reason => no_permission})),
    ?assertMatch(#{count := 1, peer := {{127, 0, 0, 7}, Port}},
                 found(#{event => drop, reason => no_permission}, Events)),
    Flows = case [E || #{event := flow} = E <- Events] of
        [_, _ | _] -> Events;
        _ -> Events ++ until(Server, Id, is(#{event => flow, from => peer}))
    end,
    found(#{event => flow, from => client, peer => Address, protocols => [rtp]}, Flows),
    found(#{event => flow, from => peer, peer => Address, protocols => [rtp]}, Flows),
    eventually(fun() ->
        {ok, #{media := #{streams := Streams}}} = meerkat:allocation(Name, Session),
        lists:sum([N || #{packets := N} <- Streams]) =:= 269 + 149
    end),
    {ok, #{media := #{streams := Sources}, verdict := Verdict} = Details} =
        meerkat:allocation(Name, Session),
    [#{lost := 29, from := client, peer := Address, bursts := 0} = Source] =
        [S || #{ssrc := 16#a11ce} = S <- Sources],
    ?assert(abs(meerkat_media:loss(Source) - 0.1) < 0.005),
    [#{lost := 0, late := 0, from := peer}] = [S || #{ssrc := 16#b0b} = S <- Sources],
    ?assertMatch({match, _}, re:run(Verdict, "^9\\.7 % of the client's packets are lost before")),
    ?assertMatch({match, _}, re:run(unicode:characters_to_list(meerkat_show:allocation(Details)),
                                    "verdict +9\\.7 % of the client's")),
    ok = meerkat:unwatch(Name, Id).

-spec one_sided(turn_kit:config()) -> term().
one_sided(Config) ->
    ok = doc("Nobody answers the client's ICE checks: which peer it is"),
    Server = #{name := Name} = server(Config),
    Client = allocated(Server),
    Peer = #{address := Address} = peer(),
    success(bind(Client, ?CHANNEL, Peer)),
    Id = watch(Server, session(Server, Client)),
    until(Server, Id, is(#{event => allocated})),
    Check = <<1:16, 0:16, 16#2112a442:32, 0:96>>,
    channel(Client, ?CHANNEL, Check),
    {_, Check} = peer_next(Peer),
    Events = until(Server, Id, is(#{event => verdict, bad => [{ice, peer}]})),
    found(#{event => ice, from => client, peer => Address, what => check}, Events),
    ok = meerkat:unwatch(Name, Id).

-spec of_a_client(turn_kit:config()) -> term().
of_a_client(Config) ->
    ok = doc("A watch of a client's address tells of that one, and of no other"),
    Server = #{name := Name} = server(Config),
    One = open(Server, #{}),
    {ok, Address} = inet:sockname(maps:get(socket, One)),
    Id = watch(Server, {client, Address}),
    _ = allocated(Server),
    success(allocate(challenged(One))),
    Events = until(Server, Id, is(#{event => allocated, client => Address})),
    ?assertEqual([Address], lists:usort([C || #{client := C} <- Events])),
    ok = meerkat:unwatch(Name, Id).

-spec not_by_shortcuts(turn_kit:config()) -> term().
not_by_shortcuts(Config) ->
    ok = doc("What would come to a client by a shortcut comes the long way while it is watched"),
    Server = #{name := Name} = server(Config),
    A = allocated(Server),
    B = allocated(Server),
    success(bind(A, ?CHANNEL, maps:get(relayed, B))),
    success(bind(B, ?CHANNEL, maps:get(relayed, A))),
    Say = fun() -> channel(A, ?CHANNEL, <<"hello">>), next(B) end,
    eventually(fun() -> _ = Say(), counter(Server, shortcut_packets) > 0 end),
    Id = watch(Server, session(Server, B)),
    until(Server, Id, is(#{event => allocated})),
    _ = Say(),
    Before = counter(Server, shortcut_packets),
    _ = [Say() || _ <- lists:seq(1, 10)],
    ?assertEqual(Before, counter(Server, shortcut_packets)),
    until(Server, Id, is(#{event => flow, from => peer, peer => maps:get(relayed, A)})),
    ok = meerkat:unwatch(Name, Id).

-spec over_with_the_allocation(turn_kit:config()) -> term().
over_with_the_allocation(Config) ->
    ok = doc("The watch of an allocation is over when that is, and one of some seconds when they "
             "have passed"),
    Server = #{name := Name} = server(Config),
    Client = allocated(Server),
    Session = session(Server, Client),
    Id = watch(Server, Session),
    until(Server, Id, is(#{event => allocated})),
    {ok, Short} = meerkat:watch(Name, Session, #{seconds => 1}),
    until(Server, Short, is(#{event => over, reason => time})),
    delete(Client),
    Events = until(Server, Id, is(#{event => over, reason => allocation})),
    found(#{event => ended, session => Session, reason => deleted}, Events),
    ?assertEqual({error, not_found}, meerkat:watch(Name, Session, #{})).

-spec has_bounds(turn_kit:config()) -> term().
has_bounds(Config) ->
    ok = doc("Sixteen watches at a time, of an hour at most"),
    #{name := Name} = server(Config),
    ?assertEqual({error, seconds}, meerkat:watch(Name, {user, <<"x">>}, #{seconds => 3601})),
    ?assertEqual({error, not_found}, meerkat:watch(Name, <<"9-9">>, #{})),
    eventually(fun() -> meerkat_watchers:count(Name) =:= 0 end),
    Begin = fun Begin(Ids) ->
        case meerkat:watch(Name, {user, <<"nobody">>}, #{}) of
            {ok, Id} -> Begin([Id | Ids]);
            {error, too_many} -> Ids
        end
    end,
    Ids = Begin([]),
    ?assertEqual(16, length(Ids)),
    ?assertMatch({error, <<"so many watches", _/binary>>},
                 meerkat_admin:handle({watch, [{user, <<"x">>}, #{}]}, Name, node)),
    _ = [ok = meerkat:unwatch(Name, Id) || Id <- Ids],
    {ok, Id} = meerkat:watch(Name, {user, <<"nobody">>}, #{}),
    ok = meerkat:unwatch(Name, Id).

-spec lines_for_people(turn_kit:config()) -> term().
lines_for_people(_Config) ->
    ok = doc("Each event is a line, in which what a client chose is escaped; and JSON"),
    Peer = {{192, 0, 2, 9}, 5000},
    Rows = [{#{event => watching, allocations => []}, "watching; there is no allocation yet"},
            {#{event => asked, method => channel_bind, outcome => 403, why => <<"for a reason">>,
               channel => 16#4001, peers => [Peer], answered_by => erlang},
             "ChannelBind channel 0x4001 for 192.0.2.9:5000: 403 Forbidden, for a reason"},
            {#{event => asked, method => refresh, outcome => success, lifetime_s => 600,
               answered_by => relay},
             "Refresh, lifetime 600 s: success (by the relay, within its grant)"},
            {#{event => allocated, user => <<"a\e[2J">>, client => Peer, relayed => [Peer],
               found => false}, "allocated: user a\\x1b[2J, client 192.0.2.9:5000, relayed "
                                "192.0.2.9:5000"},
            {#{event => permission, peer => {192, 0, 2, 9}, expires_ms => 1500},
             "permission for 192.0.2.9, 1 s left"},
            {#{event => channel, number => 16#4001, peer => Peer, gone => true},
             "channel 0x4001 to 192.0.2.9:5000 is over"},
            {#{event => flow, from => peer, peer => Peer, protocols => [stun, dtls]},
             "first packet from peer 192.0.2.9:5000: STUN, DTLS"},
            {#{event => dtls, from => client, peer => Peer, what => client_hello},
             "DTLS ClientHello from the client to peer 192.0.2.9:5000"},
            {#{event => drop, reason => no_channel, count => 3, channel => 16#4009},
             "3 dropped: ChannelData on a number that is not bound, the last one on channel "
             "0x4009"},
            {#{event => media, from => client, peer => Peer, ssrc => 1, payload_type => 111,
               packets_per_s => 50, bits_per_s => 64000, loss => 0.125, late => 1,
               jitter_us => 4500},
             "client to 192.0.2.9:5000, SSRC 0x00000001, type 111: 50 packets/s, 64.0 kbit/s, "
             "12.5 % lost before us, jitter 4.5 ms, 1 out of order"},
            {#{event => unseen, reason => full},
             "its packets are not looked at: so many allocations are already"},
            {#{event => over, reason => time}, "the time is over"}],
    [begin
         Line = unicode:characters_to_list(meerkat_watch_words:line(Event#{at => 0, session => 0})),
         ?assertEqual("00:00:00.000  " ++ Text ++ "\n", Line),
         {ok, #{<<"event">> := _}} =
             meerkat_json:decode(meerkat_json:encode(meerkat_json:plain(Event)))
     end || {Event, Text} <- Rows].

-spec explains(turn_kit:config()) -> term().
explains(Config) ->
    ok = doc("What a client did, where it stopped and why, step by step; and of a user without "
             "any allocation"),
    Server = #{name := Name} = server(Config),
    {ok, [#{session := null, causes := [no_allocation]}]} =
        meerkat:explain(Name, {user, <<"nobody">>}),
    ?assertEqual({error, not_found}, meerkat:explain(Name, <<"9-9">>)),
    Client = #{relayed := Relayed} = allocated(Server),
    Session = session(Server, Client),
    Causes = fun() ->
        {ok, [#{session := Session, causes := Found, sentences := [_ | _]}]} =
            meerkat:explain(Name, Session),
        Found
    end,
    ?assertEqual([idle], Causes()),
    _ = call(Client, channel_bind, [{channel_number, 1}, {xor_peer_address, Relayed}], #{}),
    ?assertEqual([refused, idle], Causes()),
    Peer = peer({127, 0, 0, 8}, #{}),
    success(bind(Client, ?CHANNEL, Peer)),
    %% What the relay has answered by itself Erlang may have to read yet.
    eventually(fun() -> Causes() =:= [refused, silent] end),
    channel(Client, ?CHANNEL, <<"hello">>),
    _ = peer_next(Peer),
    %% Loopback is an address that nobody elsewhere can reach.
    ?assertEqual([refused, wrong_relay_address], Causes()),
    Other = peer({127, 0, 0, 9}, #{}),
    peer_send(Other, Relayed, <<"from elsewhere">>),
    eventually(fun() -> Causes() =:= [refused, no_permission] end),
    peer_send(Peer, Relayed, <<"hello">>),
    _ = next(Client),
    ?assertEqual([refused, works], Causes()),
    channel(Client, ?CHANNEL + 1, <<"hello">>),
    eventually(fun() -> Causes() =:= [refused, works, no_channel] end),
    success(permit(Client, [Relayed])),
    eventually(fun() -> Causes() =:= [refused, works, no_channel, hairpin] end),
    Ask = fun(Who) -> meerkat_admin:handle({explain, [Who]}, Name, node) end,
    ?assertEqual({error, <<"there is no allocation 9-9">>}, Ask(<<"9-9">>)),
    {ok, Explained} = Ask(unicode:characters_to_binary(meerkat_text:session(Session))),
    Text = unicode:characters_to_list(meerkat_show:explanations(Explained)),
    ?assertMatch({match, _}, re:run(Text, "^allocation [0-9-]+\n  Client 127.0.0.1:[0-9]+ of user "
                                          ".* allocated 127.0.0.1:")).

-spec verdicts(turn_kit:config()) -> term().
verdicts(_Config) ->
    ok = doc("Which side is bad, of each kind of badness: loss, disorder, jitter, a cut, nobody "
             "who answers ICE, DTLS or anything, the relay's own drops; and of nothing bad, or too "
             "little to tell by"),
    Peer = {{192, 0, 2, 9}, 5000},
    Well = #{from => client, peer => Peer, packets => 1000, lost => 0, late => 0, jitter_us => 2000,
             last_ms => 20, longest_burst => 0},
    Side = #{first_ms => 5000, ice_requests => 0, dtls_said => []},
    Both = #{peer => Peer, client => Side, from_peer => Side},
    Hello = Side#{dtls_said := [client_hello]},
    Rows = [{[], [Well], [Both], #{}},
            {none, [Well#{packets := 20, lost := 20}], [Both], #{}},
            {[{loss, client}], [Well#{lost := 100}], [Both], #{}},
            {[{loss, client}, {loss, peer}],
             [Well#{lost := 100}, Well#{from := peer, lost := 11}, Well], [Both], #{}},
            {[], [Well#{lost := 9}], [Both], #{}},
            {[{late, peer}], [Well#{from := peer, late := 10}], [Both], #{}},
            {[{jitter, client}], [Well#{jitter_us := 30000}], [Both], #{}},
            {[], [Well#{jitter_us := null}], [Both], #{}},
            {[{silence, peer}], [Well, Well#{from := peer, last_ms := 3000}], [Both], #{}},
            {[], [Well, Well#{last_ms := 9000}], [Both], #{}},
            {[{one_way, peer}], [], [Both#{from_peer := null}], #{}},
            {[{one_way, client}], [], [Both#{client := null}], #{}},
            {[{ice, peer}], [], [Both#{client := Side#{ice_requests := 1}, from_peer := null}],
             #{}},
            {none, [], [Both#{client := Side#{first_ms := 100}, from_peer := null}], #{}},
            %% One of the pairs that ICE tries in vain, beside one that works.
            {[], [Well], [Both, Both#{from_peer := null}], #{}},
            {[{dtls, peer}], [Well], [Both#{client := Hello}], #{}},
            {[{dtls, client}], [Well], [Both#{from_peer := Hello}], #{}},
            {[{dropped, relay}], [Well], [Both], #{dropped => 100,
                                                   drops => #{over_bandwidth => 100}}}],
    [begin
         Details = maps:merge(#{client_packets => 1000, peer_packets => 1000, dropped => 0,
                                drops => #{}}, Counted),
         Verdict = meerkat_media:verdict(#{streams => Streams, flows => Flows}, Details),
         ?assertEqual({Streams, Flows, Bad}, {Streams, Flows, case Verdict of
             none -> none;
             #{bad := Found, text := <<_, _/binary>>} -> Found
         end})
     end || {Bad, Streams, Flows, Counted} <- Rows].

-spec between_looks(turn_kit:config()) -> term().
between_looks(_Config) ->
    ok = doc("Figures are those between two looks; of a look that began anew, by another relay "
             "program, those since then; and where the relay does not look, why, once"),
    Peer = {{192, 0, 2, 9}, 5000},
    Details = #{user => <<"u">>, client => Peer, relayed => [Peer], age_ms => 1, permissions => [],
                channels => [], drops => #{}, dropped => 0, client_packets => 0,
                client_bytes => 0,
                peer_packets => 0, peer_bytes => 0},
    Looked = fun(Ms, Packets, Lost) ->
        {ok, #{looking_ms => Ms, missed => 0, flows => [], drops => [],
               streams => [#{from => client, peer => Peer, ssrc => 1, payload_type => 0,
                             packets => Packets, bytes => Packets * 100, lost => Lost, late => 0,
                             jitter_us => null, rtcp => 0, last_ms => 0, longest_burst => 0}]}}
    end,
    Step = fun(Answer, {_, Seen}) ->
        #{at := At} = Seen,
        meerkat_watch_changes:between(Seen, Details, Answer, At + 1000)
    end,
    Media = fun({Events, _}) ->
        [{N, L} || #{event := media, packets_per_s := N, lost := L} <- Events]
    end,
    First = meerkat_watch_changes:between(none, Details, Looked(0, 0, 0), 0),
    Second = Step(Looked(1000, 40, 10), First),
    ?assertEqual([{40, 10}], Media(Second)),
    ?assertMatch([#{loss := 0.2, bits_per_s := 32000}],
                 [E || #{event := media} = E <- element(1, Second)]),
    Third = Step(Looked(2000, 90, 10), Second),
    ?assertEqual([{50, 0}], Media(Third)),
    Anew = Step(Looked(500, 20, 0), Third),
    ?assertEqual([], Media(Anew)),
    ?assertEqual([{50, 0}], Media(Step(Looked(1500, 70, 0), Anew))),
    Full = Step({error, full}, Anew),
    ?assertEqual([full], [R || #{event := unseen, reason := R} <- element(1, Full)]),
    {Again, _} = Step({error, full}, Full),
    ?assertEqual([], [R || #{event := unseen, reason := R} <- Again]).

-spec a_sample(turn_kit:config()) -> term().
a_sample(_Config) ->
    ok = doc("With media_sample one allocation in so many is looked at, and /metrics has how media "
             "of all of them comes; without it none is"),
    turn_kit:with_server(#{}, fun(#{name := Name} = Server) ->
        Talkers = [{Client, session(Server, Client)}
                   || _ <- lists:seq(1, 8), Client <- [allocated(Server)]],
        [success(bind(Client, ?CHANNEL, peer())) || {Client, _} <- Talkers],
        Look = fun() ->
            Sampler = meerkat_roles:find(Name, sampler),
            Sampler ! look,
            _ = sys:get_state(Sampler), % it has looked
            meerkat_sampler:info(Name)
        end,
        Speak = fun(Numbers) ->
            [speak(fun(P) -> channel(Client, ?CHANNEL, P) end, 16#a11ce, Numbers)
             || {Client, _} <- Talkers],
            [turn_kit:fence(Client) || {Client, _} <- Talkers]
        end,
        ?assertMatch(#{allocations := 0}, Look()),
        ok = meerkat:reload(Name, (meerkat_settings:config(meerkat_registry:settings(Name)))#{
            media_sample := 2}),
        Sampled = length([x || {_, Session} <- Talkers, erlang:phash2(Session) rem 2 =:= 0]),
        ?assertMatch(#{allocations := Sampled}, Look()),
        Speak(lists:seq(1, 20)),
        _ = Look(),
        Speak([N || N <- lists:seq(21, 120), N rem 10 =/= 0, N rem 20 =/= 5]),
        #{histograms := #{{loss, client} := Loss, {jitter, client} := Jitter,
                          {loss, peer} := Peers}} = Look(),
        %% 15 of 100, of each source.
        ?assertMatch(#{count := Sampled}, Loss),
        ?assertEqual([0, Sampled], [maps:get(Bound, maps:from_list(maps:get(buckets, Loss)))
                                    || Bound <- [100000, 200000]]),
        ?assertMatch(#{count := Sampled}, Jitter),
        ?assertMatch(#{count := 0}, Peers),
        Text = iolist_to_binary(meerkat_metrics:text(meerkat_metrics:snapshot(Name))),
        [?assertMatch({_, _}, binary:match(Text, iolist_to_binary(Line)))
         || Line <- [["meerkat_media_sampled_allocations ", integer_to_list(Sampled), "\n"],
                     ["meerkat_media_loss_ratio_bucket{from=\"client\",le=\"0.1\"} 0\n"],
                     ["meerkat_media_loss_ratio_count{from=\"client\"} ",
                      integer_to_list(Sampled), "\n"]]]
    end).
