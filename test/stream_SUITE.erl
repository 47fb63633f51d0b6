%% Clients over TCP, and the same over TLS: how messages come apart on a stream, what ends a
%% connection, what its end ends, and what a client that does not read costs. Named after the rows
%% of the conformance and the threat table where there is one.
-module(stream_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2]).
-export([s6_stays_open/1, t5_no_allocation/1, t8_allocates_and_relays/1, t42_padding/1,
         x91_lengths/1, x92_every_split/1, x92_many_in_one/1, x93_other_protocols/1,
         x93_channel_first/1, x94_slow_reader/1, x94_answers_unread/1]).
-export([end_of_connection_ends_allocation/1, last_answer_before_the_end/1, many_workers/1,
         other_families/1, mobility/1, listener_of_tcp_goes/1, listener_of_tls_goes/1]).
-export([x90_slow_beginnings/1, x90_slow_headers/1, x90_silence/1, x90_too_many/1,
         x97_half_handshakes/1]).
-export([relay_dies/1, udp_is_as_before/1]).

-import(turn_kit, [doc/1, open/2, send/2, challenged/1, request/2, signed/3, call/3,
                   allocated/3, allocate/1, delete/1, permit/2, bind/3, send_to/3, channel/3,
                   data/1, next/1, await/2, fence/1, peer/0, peer_send/3, peer_next/1, get/2,
                   success/1, expect/2, counted/3, counted/4, counter/2, eventually/1,
                   with_server/2]).

-define(CHANNEL, 16#4001).
-define(SPEED, 100).

-spec all() -> [term()].
all() ->
    [{group, tcp}, {group, tls}, {group, hasty}, {group, listeners_go}, x90_too_many, relay_dies,
     udp_is_as_before].

-spec groups() -> [tuple()].
groups() ->
    Each = turn_kit:cases(?MODULE) -- [x90_too_many | hasty()],
    Both = Each ++ [end_of_connection_ends_allocation, last_answer_before_the_end, many_workers,
                    other_families, mobility],
    [{tcp, [], Both}, {tls, [], Both}, {hasty, [], hasty()},
     {listeners_go, [parallel], [listener_of_tcp_goes, listener_of_tls_goes]}].

%% With a relay whose clock runs fast.
hasty() -> [x90_slow_beginnings, x90_slow_headers, x90_silence, x97_half_handshakes].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "speaks UDP to others"}),
    Certificate = stream_kit:certificate(proplists:get_value(priv_dir, Config), ec,
                                         "turn.example.org"),
    Settings = stream_kit:config([Certificate]),
    [{settings, Settings}, {server, turn_kit:start_server(Settings#{mobility => true})} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) -> turn_kit:stop_server(server(Config)).

-spec init_per_group(atom(), turn_kit:config()) -> turn_kit:config().
init_per_group(hasty, Config) ->
    ok = meerkat_clock:set_speed(?SPEED),
    [{fast, stream_kit:fast_relay(proplists:get_value(data_dir, Config))} | Config];
init_per_group(listeners_go, Config) ->
    Config;
init_per_group(Transport, Config) ->
    [{transport, Transport} | Config].

-spec end_per_group(atom(), turn_kit:config()) -> _.
end_per_group(hasty, _Config) -> ok = meerkat_clock:set_speed(1);
end_per_group(_, _Config) -> ok.

server(Config) -> proplists:get_value(server, Config).
settings(Config) -> proplists:get_value(settings, Config).
over(Config) -> #{transport => proplists:get_value(transport, Config)}.

%% A client with an allocation, and a peer on a channel.
pair(Config) -> pair(Config, server(Config)).

pair(Config, Server) ->
    Client = allocated(Server, [], over(Config)),
    Peer = peer(),
    success(bind(Client, ?CHANNEL, Peer)),
    {Client, Peer}.

connection(#{socket := Connection}) -> Connection.

padded(Bytes) -> [Bytes, <<0:(-iolist_size(Bytes) band 3)/unit:8>>].

channel_data(Data) -> stun_model:encode_channel(?CHANNEL, Data).

%%% Messages

-spec s6_stays_open(turn_kit:config()) -> _.
s6_stays_open(Config) ->
    doc("a connection outlives answers of every kind: closing is the client's (RFC 8489 6.2.2)"),
    Client = challenged(open(server(Config), over(Config))),
    expect(437, call(Client, refresh, [])),
    expect(400, call(Client, allocate, [])),
    fence(Client),
    turn_kit:close(Client).

-spec t5_no_allocation(turn_kit:config()) -> _.
t5_no_allocation(Config) ->
    doc("ChannelData and Send without allocation are dropped, the connection stays (RFC 8656 5)"),
    Client = challenged(open(server(Config), over(Config))),
    counted(server(Config), no_allocation, 2, fun() ->
        send_to(Client, peer(), <<"lost">>),
        channel(Client, ?CHANNEL, <<"lost">>),
        fence(Client)
    end),
    turn_kit:close(Client).

-spec t8_allocates_and_relays(turn_kit:config()) -> _.
t8_allocates_and_relays(Config) ->
    doc("an allocation over a connection relays by Send, Data and ChannelData (RFC 8656 3.1)"),
    Client = allocated(server(Config), [], over(Config)),
    #{relayed := Relayed, answer := Answer, here := Here} = Client,
    ?assertEqual(Here, get(xor_mapped_address, Answer)),
    Peer = #{address := Address} = peer(),
    success(permit(Client, [Peer])),
    send_to(Client, Peer, <<"there">>),
    ?assertEqual({Relayed, <<"there">>}, peer_next(Peer)),
    peer_send(Peer, Relayed, <<"back">>),
    ?assertEqual({Address, <<"back">>}, data(Client)),
    success(bind(Client, ?CHANNEL, Peer)),
    channel(Client, ?CHANNEL, <<"by channel">>),
    ?assertEqual({Relayed, <<"by channel">>}, peer_next(Peer)),
    peer_send(Peer, Relayed, <<"and back">>),
    ?assertEqual(channel_data(<<"and back">>), next(Client)),
    delete(Client),
    turn_kit:close(Client).

-spec t42_padding(turn_kit:config()) -> _.
t42_padding(Config) ->
    doc("ChannelData is padded to 4 both ways, and padding is never relayed (RFC 8656 12.5, X92)"),
    {#{relayed := Relayed} = Client, Peer} = pair(Config),
    [begin
         Data = crypto:strong_rand_bytes(Size),
         channel(Client, ?CHANNEL, Data),
         ?assertEqual({Relayed, Data}, peer_next(Peer)),
         peer_send(Peer, Relayed, Data),
         ?assertEqual(iolist_to_binary(channel_data(Data)), next(Client))
     end || Size <- [0, 1, 2, 3, 4, 5, 6, 7, 1199, 1200, 9001, 65000]],
    turn_kit:close(Client).

-spec x92_every_split(turn_kit:config()) -> _.
x92_every_split(Config) ->
    doc("5 bytes of ChannelData and a request behind them, cut at every byte (X92)"),
    {#{relayed := Relayed} = Client, Peer} = pair(Config),
    Size = iolist_size(padded(channel_data(<<"five!">>))),
    [begin
         <<_:64, Txid:12/binary, _/binary>> = Request = signed(Client, refresh, []),
         All = iolist_to_binary([padded(channel_data(<<"five!">>)), Request]),
         <<First:Cut/binary, Rest/binary>> = All,
         ok = stream_kit:raw(connection(Client), First),
         ok = stream_kit:raw(connection(Client), Rest),
         ?assertEqual({Relayed, <<"five!">>}, peer_next(Peer)),
         {ok, #{class := success}} = stun_model:decode(await(Client, Txid))
     end || Cut <- lists:seq(1, Size + 30)],
    turn_kit:close(Client).

-spec x92_many_in_one(turn_kit:config()) -> _.
x92_many_in_one(Config) ->
    doc("a thousand messages in one write, of all sizes, arrive each by itself and in order (X92)"),
    {#{relayed := Relayed} = Client, Peer} = pair(Config),
    All = [<<N:16, 0:(N * 7 rem 600)/unit:8>> || N <- lists:seq(1, 1000)],
    lists:foreach(fun(Some) ->
        ok = stream_kit:raw(connection(Client), [padded(channel_data(Data)) || Data <- Some]),
        [?assertEqual({Relayed, Data}, peer_next(Peer)) || Data <- Some]
    end, [lists:sublist(All, From, 50) || From <- lists:seq(1, 1000, 50)]),
    turn_kit:close(Client).

%%% What ends a connection

closes(Config, Bytes) ->
    Client = open(server(Config), over(Config)),
    _ = stream_kit:raw(connection(Client), Bytes),
    stream_kit:closed(connection(Client)).

-spec x91_lengths(turn_kit:config()) -> _.
x91_lengths(Config) ->
    doc("lengths that pass what a message may have, or are no multiple of 4, close (X91)"),
    Server = server(Config),
    Binding = fun(Len) -> <<1:16, Len:16, 16#2112a442:32, 0:96>> end,
    Lengths = [65516, 65520, 65524, 65528, 65532, 65535, 1, 2, 3, 21],
    counted(Server, connections_bad, length(Lengths), fun() ->
        [closes(Config, Binding(Len)) || Len <- Lengths]
    end),
    %% With an allocation too, where ChannelData is welcome.
    counted(Server, connections_bad, 3, fun() ->
        [begin
             {Client, _} = pair(Config),
             _ = stream_kit:raw(connection(Client), <<?CHANNEL:16, Len:16>>),
             stream_kit:closed(connection(Client))
         end || Len <- [65508, 65520, 65532]]
    end).

-spec x93_other_protocols(turn_kit:config()) -> _.
x93_other_protocols(Config) ->
    doc("what other protocols begin with closes at once (X93)"),
    Others = [<<"GET / HTTP/1.1\r\nHost: a\r\n\r\n">>, <<"G">>, <<"SSH-2.0-x\r\n">>,
              <<"EHLO a\r\n">>, <<16#80, 0, 1, 2>>, <<255>>, <<22, 3, 1, 0, 5, 1, 0, 0, 1, 0>>,
              <<0, 1, 0, 0, "not the cookie", 0:64>>],
    [closes(Config, Bytes) || Bytes <- Others],
    turn_kit:alive(server(Config)).

-spec x93_channel_first(turn_kit:config()) -> _.
x93_channel_first(Config) ->
    doc("ChannelData is not what a connection begins with (X93)"),
    closes(Config, channel_data(<<"early">>)).

-spec end_of_connection_ends_allocation(turn_kit:config()) -> _.
end_of_connection_ends_allocation(Config) ->
    doc("with a connection its allocation ends, at once"),
    #{name := Name} = Server = server(Config),
    {#{here := Here} = Client, _} = pair(Config),
    Mine = fun() -> [A || #{client := C} = A <- meerkat:allocations(Name), C =:= Here] end,
    ?assertMatch([_], Mine()),
    turn_kit:close(Client),
    eventually(fun() -> Mine() =:= [] end),
    turn_kit:alive(Server).

-spec last_answer_before_the_end(turn_kit:config()) -> _.
last_answer_before_the_end(Config) ->
    doc("a client that says no more behind a request gets its answer, then the end"),
    Client = challenged(open(server(Config), over(Config))),
    <<_:64, Txid:12/binary, _/binary>> = Request =
        signed(Client, allocate, [{requested_transport, 17}]),
    send(Client, Request),
    ok = stream_kit:shutdown(connection(Client)),
    {ok, #{class := Class}} = stun_model:decode(await(Client, Txid)),
    ?assert(lists:member(Class, [success, error])),
    stream_kit:closed(connection(Client)).

%%% A client that does not read

%% Sends until the relay drops for the queue: too much waits, or on a slow machine too long.
flood(Server, Peer, Relayed) -> flood(Server, Peer, Relayed, dropped_in_queue(Server), 200).

flood(Server, Peer, Relayed, Before, Rounds) when Rounds > 0 ->
    [peer_send(Peer, Relayed, <<N:32, 0:1200/unit:8>>) || N <- lists:seq(1, 400)],
    case dropped_in_queue(Server) > Before of
        true -> ok;
        false -> flood(Server, Peer, Relayed, Before, Rounds - 1)
    end.

dropped_in_queue(Server) -> counter(Server, queue_full) + counter(Server, queue_late).

-spec x94_slow_reader(turn_kit:config()) -> _.
x94_slow_reader(Config) ->
    doc("media for who does not read is dropped, whole and the oldest first; answers never (X94)"),
    #{name := Name} = Server = server(Config),
    Client = allocated(Server, [], (over(Config))#{recbuf => 4096}),
    #{relayed := Relayed} = Client,
    Peer = peer(),
    success(bind(Client, ?CHANNEL, Peer)),
    {#{relayed := OtherRelayed} = Other, OtherPeer} = pair(Config),
    ok = stream_kit:pause(connection(Client)),
    flood(Server, Peer, Relayed),
    not_relayed(Name, Client),
    %% Bounded memory, and nobody else is hurt.
    {ok, #{queued := Queued}} = meerkat_relay:stats(Name),
    ?assert(Queued < 8 bsl 20),
    channel(Other, ?CHANNEL, <<"unhurt">>),
    ?assertEqual({OtherRelayed, <<"unhurt">>}, peer_next(OtherPeer)),
    %% An answer waits behind what has begun, but is not lost.
    <<_:64, Txid:12/binary, _/binary>> = Binding = request(binding, []),
    send(Client, Binding),
    peer_send(Peer, Relayed, <<"the latest">>),
    ok = stream_kit:resume(connection(Client)),
    {ok, #{class := success}} = stun_model:decode(await(Client, Txid)),
    %% Whole frames: the kit would have failed otherwise. And then it is as it was.
    ok = drained(Client),
    eventually(fun() ->
        peer_send(Peer, Relayed, <<"fresh">>),
        drained(Client, iolist_to_binary(channel_data(<<"fresh">>)))
    end),
    [turn_kit:close(C) || C <- [Client, Other]].

%% What is dropped in the queue counts as that, of its allocation too, and not as relayed.
not_relayed(Name, #{here := Here}) ->
    [Session] = [S || #{session := S, client := C} <- meerkat:allocations(Name), C =:= Here],
    {ok, #{drops := Drops, peer_packets := Packets, peer_bytes := Bytes}} =
        meerkat:allocation(Name, Session),
    ?assert(lists:sum([maps:get(D, Drops, 0) || D <- [queue_full, queue_late]]) > 0),
    ?assertEqual(Packets * 1204, Bytes).

drained(#{socket := Socket} = Client) ->
    receive {udp, Socket, _, _, _} -> drained(Client) after 0 -> ok end.

drained(#{socket := Socket} = Client, Wanted) ->
    receive
        {udp, Socket, _, _, Wanted} -> true;
        {udp, Socket, _, _, _} -> drained(Client, Wanted)
    after 50 -> false
    end.

-spec x94_answers_unread(turn_kit:config()) -> _.
x94_answers_unread(Config) ->
    doc("who asks and asks and reads no answer is closed (X94)"),
    Server = server(Config),
    Client = open(Server, (over(Config))#{recbuf => 4096}),
    ok = stream_kit:pause(connection(Client)),
    counted(Server, connections_stuck, fun() -> ask_on(Client, 20000) end),
    turn_kit:close(Client).

ask_on(Client, N) when N > 0 ->
    Some = [request(binding, []) || _ <- lists:seq(1, 100)],
    case stream_kit:raw(connection(Client), Some) of
        ok -> ask_on(Client, N - 1);
        {error, _} -> ok
    end.

%%% Workers, families, moves, listeners

-spec many_workers(turn_kit:config()) -> _.
many_workers(Config) ->
    doc("connections are spread over workers, and each relays from its own"),
    with_server((settings(Config))#{workers => 4}, fun(Server) ->
        Pairs = [pair(Config, Server) || _ <- lists:seq(1, 24)],
        [begin
             channel(Client, ?CHANNEL, <<"hello">>),
             ?assertEqual({Relayed, <<"hello">>}, peer_next(Peer)),
             peer_send(Peer, Relayed, <<"hello yourself">>),
             ?assertEqual(channel_data(<<"hello yourself">>), next(Client))
         end || {#{relayed := Relayed} = Client, Peer} <- Pairs],
        {ok, #{connections := 24}} = meerkat_relay:stats(maps:get(name, Server)),
        [turn_kit:close(Client) || {Client, _} <- Pairs],
        eventually(fun() -> meerkat:allocations(maps:get(name, Server)) =:= [] end)
    end).

-spec other_families(turn_kit:config()) -> _.
other_families(Config) ->
    doc("over IPv6, and to a listener of all addresses"),
    Client = allocated(server(Config), [], (over(Config))#{family => v6}),
    fence(Client),
    turn_kit:close(Client),
    #{listeners := Listeners} = Settings = settings(Config),
    Any = [L#{ip := any} || #{ip := {127, 0, 0, 1}} = L <- Listeners],
    with_server(Settings#{listeners := Any}, fun(#{name := Name} = Server) ->
        Key = case over(Config) of #{transport := tcp} -> tcp_listeners; _ -> tls_listeners end,
        #{Key := Bound} = meerkat:info(Name),
        [{_, Port}] = [B || {{0, 0, 0, 0}, _} = B <- Bound],
        Options = (over(Config))#{to => {{127, 0, 0, 1}, Port}},
        Wild = allocated(Server, [], Options),
        fence(Wild),
        turn_kit:close(Wild)
    end).

-spec mobility(turn_kit:config()) -> _.
mobility(Config) ->
    doc("an allocation moves from UDP to a connection, or stays where it was (RFC 8016)"),
    Server = server(Config),
    Client = allocated(Server, [{mobility_ticket, <<>>}], #{}),
    #{relayed := Relayed, answer := Answer} = Client,
    Peer = peer(),
    success(permit(Client, [Peer])),
    New = (challenged(open(Server, over(Config))))#{relayed => Relayed},
    case call(New, refresh, [{mobility_ticket, get(mobility_ticket, Answer)}]) of
        #{class := success} ->
            send_to(New, Peer, <<"moved">>),
            ?assertEqual({Relayed, <<"moved">>}, peer_next(Peer));
        Refused ->
            %% The connection is with another worker.
            expect(437, Refused),
            send_to(Client, Peer, <<"stayed">>),
            ?assertEqual({Relayed, <<"stayed">>}, peer_next(Peer))
    end,
    [turn_kit:close(C) || C <- [New, Client]].

%% The end of who has no allocation there takes seconds.
-spec listener_of_tcp_goes(turn_kit:config()) -> _.
listener_of_tcp_goes(Config) -> listener_goes([{transport, tcp} | Config]).

-spec listener_of_tls_goes(turn_kit:config()) -> _.
listener_of_tls_goes(Config) -> listener_goes([{transport, tls} | Config]).

listener_goes(Config) ->
    doc("a listener that is configured no longer takes nobody new; allocations there go on"),
    #{transport := Transport} = over(Config),
    #{listeners := Listeners} = Settings = settings(Config),
    with_server(Settings, fun(#{name := Name} = Server) ->
        {#{relayed := Relayed, to := To} = Client, Peer} = pair(Config, Server),
        Idle = open(Server, over(Config)),
        fence(Idle),
        Config0 = meerkat_settings:config(meerkat_registry:settings(Name)),
        Left = [L || #{transport := T} = L <- Listeners, T =/= Transport],
        ok = meerkat:reload(Name, Config0#{listeners := Left}),
        case stream_kit:open(Transport, To, #{error => true}) of
            {error, _} -> ok;
            Connection -> stream_kit:closed(Connection)
        end,
        channel(Client, ?CHANNEL, <<"still here">>),
        ?assertEqual({Relayed, <<"still here">>}, peer_next(Peer)),
        stream_kit:closed(connection(Idle)),
        delete(Client),
        stream_kit:closed(connection(Client))
    end).

%%% What takes too long

-spec x90_slow_beginnings(turn_kit:config()) -> _.
x90_slow_beginnings(Config) ->
    doc("the whole of the first message, and of each that has begun, is awaited for seconds (X90)"),
    hasty_server(Config, #{}, fun(Server) ->
        Ended = fun() ->
            counter(Server, connections_slow) + counter(Server, handshakes_late)
        end,
        [begin
             Before = Ended(),
             {Client, Tries} = in_time(Server, #{transport => Transport}, First, 1),
             _ = stream_kit:raw(connection(Client), Then),
             stream_kit:closed(connection(Client)),
             eventually(fun() -> Ended() - Before =:= Tries end)
         end || Transport <- [tcp, tls],
                {First, Then} <- [{fun(_) -> silent end, <<>>},
                                  {fun turn_kit:fence/1, <<0, 1, 0>>}]]
    end).

-spec x90_slow_headers(turn_kit:config()) -> _.
x90_slow_headers(Config) ->
    doc("half a header of a proxy, and half a hello that is read for its name, end in time (X90)"),
    More = #{proxy_protocol_from => [{{127, 0, 0, 1}, 32}],
             https_backend => [{any, {{127, 0, 0, 1}, 9}}]},
    Header = proxy_kit:v2(tcp, {{192, 0, 2, 7}, 1025}, {{203, 0, 113, 5}, 443}),
    hasty_server(Config, More, fun(#{name := Name} = Server) ->
        #{tls_listeners := [To | _]} = meerkat:info(Name),
        [counted(Server, connections_slow, fun() ->
             stream_kit:refused(tcp, To, Options)
         end) || Options <- [#{first => <<>>}, #{first => <<"PROXY TCP4 ">>},
                             #{first => binary:part(Header, 0, 20)},
                             #{first => [Header, <<22, 3, 1, 2, 0, 1, 0, 1, 252>>]},
                             #{first => <<22, 3, 1, 2, 0, 1, 0, 1, 252>>, ip => {127, 0, 0, 9}}]]
    end).

-spec x90_silence(turn_kit:config()) -> _.
x90_silence(Config) ->
    doc("who has no allocation may be silent for a minute, who has one for its lifetime (X90)"),
    hasty_server(Config, #{}, fun(Server) ->
        Kept = allocated(Server, [{lifetime, 3600}], #{transport => tcp}),
        Idle = spoken(Server, #{transport => tcp}),
        counted(Server, connections_idle, fun() -> stream_kit:closed(connection(Idle)) end),
        fence(Kept),
        turn_kit:close(Kept)
    end).

%% A connection by which something has been said.
spoken(Server, Options) ->
    {Client, _Tries} = in_time(Server, Options, fun turn_kit:fence/1, 1),
    Client.

%% A client that has connected and done First before the server's time for it was over, and how many
%% tried: the clock is fast, and where this machine is slow the server ends those before it.
in_time(Server, Options, First, Try) ->
    try
        Client = open(Server, Options),
        _ = First(Client),
        {Client, Try}
    catch
        error:_ when Try < 100 -> in_time(Server, Options, First, Try + 1)
    end.

-spec x90_too_many(turn_kit:config()) -> _.
x90_too_many(Config) ->
    doc("a source may have so many connections without allocation; others do not count (X90)"),
    with_server((settings(Config))#{tcp_connections_per_address => 3}, fun(Server) ->
        Kept = [allocated(Server, [], #{transport => tcp}) || _ <- lists:seq(1, 5)],
        Idle = [open(Server, #{transport => tcp}) || _ <- lists:seq(1, 3)],
        [fence(C) || C <- Idle],
        #{tcp_listeners := [To | _]} = meerkat:info(maps:get(name, Server)),
        counted(Server, connections_refused, fun() ->
            stream_kit:refused(tcp, To, #{})
        end),
        [fence(C) || C <- Kept],
        [turn_kit:close(C) || C <- Kept ++ Idle],
        eventually(fun() ->
            case stream_kit:open(tcp, To, #{error => true}) of
                {error, _} -> false;
                Connection ->
                    _ = stream_kit:raw(Connection, request(binding, [])),
                    receive
                        {udp, Connection, _, _, _} -> true;
                        {closed, Connection} -> false
                    end
            end
        end)
    end).

-spec x97_half_handshakes(turn_kit:config()) -> _.
x97_half_handshakes(Config) ->
    doc("half a handshake is awaited for seconds, and harms nobody (X97)"),
    hasty_server(Config, #{}, fun(#{name := Name} = Server) ->
        #{tls_listeners := [To | _]} = meerkat:info(Name),
        N = 20,
        counted(Server, handshakes_late, N, fun() ->
            Half = [begin
                        C = stream_kit:open(tcp, To, #{}),
                        ok = stream_kit:raw(C, <<22, 3, 1, 2, 0, 1, 0, 1>>),
                        C
                    end || _ <- lists:seq(1, N)],
            turn_kit:alive(Server),
            [stream_kit:closed(C) || C <- Half]
        end),
        Client = open(Server, #{transport => tls}),
        fence(Client),
        turn_kit:close(Client)
    end).

hasty_server(Config, More, Fun) ->
    Fast = proplists:get_value(fast, Config),
    with_server(maps:merge(maps:merge(settings(Config), Fast), More), Fun).

%%% The relay program

-spec relay_dies(turn_kit:config()) -> _.
relay_dies(Config) ->
    doc("the death of the relay program ends connections, and what Erlang knows of them"),
    with_server(settings(Config), fun(#{name := Name} = Server) ->
        Clients = [allocated(Server, [], #{transport => T}) || T <- [tcp, tls]],
        Udp = allocated(Server, [], #{}),
        {ok, Pid} = meerkat_relay:os_pid(Name),
        _ = os:cmd("kill -9 " ++ integer_to_list(Pid)),
        [stream_kit:closed(connection(C)) || C <- Clients],
        eventually(fun() ->
            case meerkat:info(Name) of
                #{relay := {ok, _}, relay_restarts := 1} ->
                    [maps:get(here, Udp)] =:= [C || #{client := C} <- meerkat:allocations(Name)];
                _ -> false
            end
        end),
        Again = allocated(Server, [], #{transport => tls}),
        fence(Again),
        turn_kit:close(Again)
    end).

-spec udp_is_as_before(turn_kit:config()) -> _.
udp_is_as_before(Config) ->
    doc("UDP clients and those on connections reach each other"),
    Server = server(Config),
    Udp = #{relayed := A} = allocated(Server, [], #{}),
    Tls = #{relayed := B} = allocated(Server, [], #{transport => tls}),
    success(permit(Udp, [B])),
    success(permit(Tls, [A])),
    send_to(Udp, B, <<"to tls">>),
    ?assertEqual({A, <<"to tls">>}, data(Tls)),
    send_to(Tls, A, <<"to udp">>),
    ?assertEqual({B, <<"to udp">>}, data(Udp)),
    ?assertMatch(#{class := success}, allocate(challenged(open(Server, #{transport => tcp})))),
    [turn_kit:close(C) || C <- [Udp, Tls]].
