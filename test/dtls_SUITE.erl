%% DTLS where others mean no good or the network does badly: hellos that nobody answers for, forged
%% records, datagrams that are lost or overtake each other, clients that start over, and what ends
%% a session. Named after the rows of the threat table where there is one. What any client of DTLS
%% finds is in rfc7350_SUITE, what one datagram can do in test/c/unit/dtls.c.
-module(dtls_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2]).
-export([x15_peers/1, x28_flood/1, x28_large_hello/1, x96_renegotiation/1, x97_too_many/1,
         x97_tickets/1, x98_injected/1, x99_alpn/1]).
-export([lossy_handshake/1, starts_over/1, close_notify_ends_allocation/1, many_workers/1,
         mobility/1, reload/1, off/1, relay_dies/1, what_is_told/1, check_command/1]).
-export([turnutils_to_the_port_of_udp/1, turnutils_to_a_port_of_its_own/1]).

-import(turn_kit, [doc/1, open/2, challenged/1, call/3, allocated/3, bind/3, permit/2,
                   send_to/3, channel/3, delete/1, next/1, fence/1, peer/0, peer_send/3,
                   peer_next/1, get/2, success/1, expect/2, counted/3, counted/4, counter/2,
                   eventually/1,
                   with_server/2]).

-define(CHANNEL, 16#4001).

-spec all() -> [term()].
all() ->
    turn_kit:cases(?MODULE)
        ++ [{group, side_by_side}, starts_over, close_notify_ends_allocation, many_workers,
            mobility, reload, off, relay_dies, what_is_told, check_command].

%% Repetition takes seconds; coturn's client, which has a server of its own, waits most of its time.
-spec groups() -> [tuple()].
groups() ->
    [{side_by_side, [parallel], [lossy_handshake, turnutils_to_the_port_of_udp,
                                 turnutils_to_a_port_of_its_own]}].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "speaks UDP to others"}),
    Dir = proplists:get_value(priv_dir, Config),
    Settings = (stream_kit:config([stream_kit:certificate(Dir, ec, "turn.example.org")]))#{
        mobility => true, unauthenticated_rate => 0},
    [{settings, Settings}, {dir, Dir}, {server, turn_kit:start_server(Settings)} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) -> turn_kit:stop_server(server(Config)).

-spec init_per_group(side_by_side, turn_kit:config()) -> turn_kit:config().
init_per_group(side_by_side, Config) ->
    [{for_turnutils, turn_kit:start_server((settings(Config))#{rfc5766_channel_numbers => true})}
     | Config].

-spec end_per_group(side_by_side, turn_kit:config()) -> _.
end_per_group(side_by_side, Config) ->
    turn_kit:stop_server(proplists:get_value(for_turnutils, Config)).

server(Config) -> proplists:get_value(server, Config).
settings(Config) -> proplists:get_value(settings, Config).
over() -> #{transport => dtls}.

address(#{name := Name}) ->
    #{dtls_listeners := [To | _]} = meerkat:info(Name),
    To.

at({Ip, Port}) -> [inet:ntoa(Ip), ":", integer_to_list(Port)].

sessions(#{name := Name}) ->
    {ok, #{dtls_sessions := N}} = meerkat_relay:stats(Name),
    N.

%% A client with an allocation, and a peer on a channel.
pair(Server) -> pair(Server, #{}).

pair(Server, Options) ->
    Client = allocated(Server, [], maps:merge(over(), Options)),
    Peer = peer(),
    success(bind(Client, ?CHANNEL, Peer)),
    {Client, Peer}.

talks({#{relayed := Relayed} = Client, Peer}) ->
    channel(Client, ?CHANNEL, <<"hello">>),
    ?assertEqual({Relayed, <<"hello">>}, peer_next(Peer)),
    peer_send(Peer, Relayed, <<"hello yourself">>),
    ?assertEqual(stun_model:encode_channel(?CHANNEL, <<"hello yourself">>), next(Client)).

%% Ends it, and sees that the server has nothing of it any more.
left(Client, Config) ->
    turn_kit:close(Client),
    #{name := Name} = Server = server(Config),
    eventually(fun() -> meerkat:allocations(Name) =:= [] andalso sessions(Server) =:= 0 end).

pass(_, _, _) -> pass.

%%% Rows

-spec x15_peers(turn_kit:config()) -> _.
x15_peers(Config) ->
    doc("forbidden peers are forbidden here too (X15)"),
    Client = allocated(server(Config), [], over()),
    [expect(403, permit(Client, [{Ip, 9}])) || Ip <- [{169, 254, 1, 1}, {10, 1, 2, 3}]],
    fence(Client),
    left(Client, Config).

-spec x28_flood(turn_kit:config()) -> _.
x28_flood(Config) ->
    doc("thousands of hellos from anywhere: each gets one short answer, nothing is kept (X28)"),
    Server = #{name := Name} = server(Config),
    {ok, Pid} = meerkat_relay:os_pid(Name),
    Before = sessions(Server),
    Sockets = [begin {ok, S} = gen_udp:open(0, [binary, {active, false}]), S end
               || _ <- lists:seq(1, 50)],
    Round = fun() ->
        [begin
             Hello = dtls_kit:hello(crypto:strong_rand_bytes(20)),
             ok = gen_udp:send(S, address(Server), Hello),
             {ok, {_, _, Answer}} = gen_udp:recv(S, 0, 10000),
             ?assertMatch({true, <<22, _:96, 3, _/binary>>},
                          {byte_size(Answer) < byte_size(Hello), Answer})
         end || S <- Sockets]
    end,
    [Round() || _ <- lists:seq(1, 25)], % every buffer there is was used
    Memory = resident(Pid),
    counted(Server, dtls_hellos, 50 * 60, fun() -> [Round() || _ <- lists:seq(1, 60)] end),
    ?assertEqual(Before, sessions(Server)),
    ?assert(is_sanitized() orelse resident(Pid) - Memory < 1_000_000),
    [gen_udp:close(S) || S <- Sockets].

-spec x28_large_hello(turn_kit:config()) -> _.
x28_large_hello(Config) ->
    doc("a hello that claims more than any has, in a fragment, is dropped (X28)"),
    {ok, Socket} = gen_udp:open(0, [binary]),
    Fragment = dtls_kit:record(22, 0, <<1, 650000:24, 0:16, 0:24, 10:24, 0:80>>),
    counted(server(Config), dtls_bad, fun() ->
        gen_udp:send(Socket, address(server(Config)), Fragment)
    end),
    gen_udp:close(Socket).

-spec x96_renegotiation(turn_kit:config()) -> _.
x96_renegotiation(Config) ->
    doc("a client may not renegotiate (X96)"),
    To = address(server(Config)),
    Before = counter(server(Config), handshakes),
    Said = os:cmd(["(sleep 0.3; echo R; sleep 0.5) | timeout 30 openssl s_client -dtls1_2 ",
                   "-connect ", at(To), " 2>&1"]),
    ?assertMatch({match, _}, re:run(Said, "(?i)no.renegotiation")),
    ?assertEqual(Before + 1, counter(server(Config), handshakes)),
    turn_kit:alive(server(Config)).

-spec x97_too_many(turn_kit:config()) -> _.
x97_too_many(Config) ->
    doc("a source has so many sessions without allocation; those with one do not count (X97)"),
    with_server((settings(Config))#{tcp_connections_per_address => 3}, fun(Server) ->
        With = [allocated(Server, [], over()) || _ <- lists:seq(1, 3)],
        Without = [open(Server, over()) || _ <- lists:seq(1, 3)],
        [fence(C) || C <- With ++ Without],
        Refused = counter(Server, dtls_refused),
        Self = self(),
        spawn_link(fun() ->
            More = open(Server, over()),
            fence(More),
            turn_kit:close(More),
            Self ! in
        end),
        eventually(fun() -> counter(Server, dtls_refused) > Refused end),
        ?assertEqual(6, sessions(Server)),
        turn_kit:close(hd(Without)),
        receive in -> ok end,
        [turn_kit:close(C) || C <- With ++ tl(Without)]
    end).

-spec x97_tickets(turn_kit:config()) -> _.
x97_tickets(Config) ->
    doc("a session is resumed with its ticket, at any worker (X97)"),
    File = filename:join(proplists:get_value(dir, Config), "dtls-ticket"),
    To = at(address(server(Config))),
    _ = dtls_kit:openssl(["-dtls1_2 -connect ", To, " -sess_out ", File]),
    Said = dtls_kit:openssl(["-dtls1_2 -connect ", To, " -sess_in ", File]),
    ?assertNotEqual({Said, nomatch}, {Said, string:find(Said, "Reused, ")}).

-spec x98_injected(turn_kit:config()) -> _.
x98_injected(Config) ->
    doc("what others send from a client's address does nothing to its session (X98)"),
    Server = server(Config),
    Network = dtls_kit:network(address(Server), fun pass/3),
    {Client, Peer} = pair(Server, dtls_kit:way(Network)),
    %% The client's side of the network takes from anybody, as if all came from one address.
    {ok, Other} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}]),
    Inject = fun(Bytes) -> ok = gen_udp:send(Other, dtls_kit:to(Network), Bytes) end,
    counted(Server, dtls_hellos, fun() -> Inject(dtls_kit:hello()) end),
    [Inject(dtls_kit:record(Type, Epoch, crypto:strong_rand_bytes(Size)))
     || Type <- [20, 21, 22, 23, 24], Epoch <- [0, 1, 2], Size <- [0, 1, 2, 23, 24, 40]],
    Inject(dtls_kit:record(21, 0, <<2, 40>>)), % a fatal alert
    Inject(dtls_kit:record(21, 0, <<1, 0>>)),  % close_notify
    talks({Client, Peer}),
    fence(Client),
    left(Client, Config),
    gen_udp:close(Other),
    dtls_kit:stop(Network),
    doc("and of no use is what comes from who has no session"),
    {ok, Stranger} = gen_udp:open(0, [binary]),
    counted(Server, dtls_unknown, fun() ->
        gen_udp:send(Stranger, address(Server), dtls_kit:record(23, 1, <<0:320>>))
    end),
    gen_udp:close(Stranger).

-spec x99_alpn(turn_kit:config()) -> _.
x99_alpn(Config) ->
    doc("ALPN is answered where one of ours is asked for; others alone are refused (X99)"),
    To = at(address(server(Config))),
    Said = dtls_kit:openssl(["-dtls1_2 -alpn stun.turn -connect ", To]),
    ?assertNotEqual({Said, nomatch}, {Said, string:find(Said, "ALPN protocol: stun.turn")}),
    counted(server(Config), handshakes_alpn, fun() ->
        dtls_kit:openssl(["-dtls1_2 -alpn h2 -connect ", To])
    end).

%%% The network

-spec lossy_handshake(turn_kit:config()) -> _.
lossy_handshake(Config) ->
    doc("datagrams of the handshake are lost and overtake each other: it is done all the same"),
    Server = server(Config),
    Rules = [fun(up, 3, _) -> lose; (down, 2, _) -> lose; (_, _, _) -> pass end,
             fun(_, N, _) when N rem 2 =:= 0 -> swap; (_, _, _) -> pass end],
    [begin
         Network = dtls_kit:network(address(Server), Rule),
         Client = open(Server, maps:merge(over(), dtls_kit:way(Network))),
         dtls_kit:rule(Network, fun pass/3),
         fence(Client),
         left(Client, Config),
         dtls_kit:stop(Network)
     end || Rule <- Rules].

-spec starts_over(turn_kit:config()) -> _.
starts_over(Config) ->
    doc("a client that has forgotten its session gets another at the same address; the allocation "
        "of before ends when that stands, not sooner"),
    Server = #{name := Name} = server(Config),
    Network = dtls_kit:network(address(Server), fun(up, _, <<21, _/binary>>) -> lose;
                                                   (_, _, _) -> pass
                                                end),
    {First, _Peer} = pair(Server, dtls_kit:way(Network)),
    [#{session := Session}] = meerkat:allocations(Name),
    turn_kit:close(First), % a word that gets lost
    {ok, Hello} = gen_udp:open(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
    ok = gen_udp:send(Hello, dtls_kit:to(Network), dtls_kit:hello()),
    {ok, _} = gen_udp:recv(Hello, 0, 10000),
    gen_udp:close(Hello),
    ?assertMatch([#{session := Session}], meerkat:allocations(Name)),
    counted(Server, dtls_replaced, fun() ->
        {Second, _} = Pair = pair(Server, dtls_kit:way(Network)),
        talks(Pair),
        ?assertMatch([#{session := Other}] when Other =/= Session, meerkat:allocations(Name)),
        dtls_kit:rule(Network, fun pass/3),
        left(Second, Config)
    end),
    dtls_kit:stop(Network).

-spec close_notify_ends_allocation(turn_kit:config()) -> _.
close_notify_ends_allocation(Config) ->
    doc("the end that a client says ends its allocation at once, and its session"),
    Server = #{name := Name} = server(Config),
    {#{socket := Connection}, _} = pair(Server),
    ?assertMatch([_], meerkat:allocations(Name)),
    ok = stream_kit:close(Connection),
    eventually(fun() -> meerkat:allocations(Name) =:= [] andalso sessions(Server) =:= 0 end).

%%% The server

-spec many_workers(turn_kit:config()) -> _.
many_workers(Config) ->
    doc("a session is with the worker where its client's datagrams come in"),
    with_server((settings(Config))#{workers => 4}, fun(#{name := Name} = Server) ->
        Pairs = [pair(Server) || _ <- lists:seq(1, 16)],
        [talks(Pair) || Pair <- Pairs],
        ?assertEqual(16, sessions(Server)),
        [turn_kit:close(Client) || {Client, _} <- Pairs],
        eventually(fun() -> meerkat:allocations(Name) =:= [] end)
    end).

-spec mobility(turn_kit:config()) -> _.
mobility(Config) ->
    doc("an allocation moves from UDP to DTLS, or stays where it was (RFC 8016)"),
    Server = server(Config),
    Client = allocated(Server, [{mobility_ticket, <<>>}], #{}),
    #{relayed := Relayed, answer := Answer} = Client,
    Peer = peer(),
    success(permit(Client, [Peer])),
    New = (challenged(open(Server, over())))#{relayed => Relayed},
    Owner = case call(New, refresh, [{mobility_ticket, get(mobility_ticket, Answer)}]) of
        #{class := success} ->
            send_to(New, Peer, <<"moved">>),
            ?assertEqual({Relayed, <<"moved">>}, peer_next(Peer)),
            New;
        Refused ->
            %% The session is with another worker.
            expect(437, Refused),
            send_to(Client, Peer, <<"stayed">>),
            ?assertEqual({Relayed, <<"stayed">>}, peer_next(Peer)),
            Client
    end,
    delete(Owner),
    turn_kit:close(Client),
    left(New, Config).

-spec reload(turn_kit:config()) -> _.
reload(Config) ->
    doc("a reload shows new clients another certificate, and takes no new ones where DTLS is off "
        "now; sessions go on"),
    Other = stream_kit:certificate(proplists:get_value(dir, Config), ec, "other.example.org"),
    with_server(settings(Config), fun(#{name := Name, listeners := [Udp | _]} = Server) ->
        #{dtls_listeners := [Dtls | _]} = meerkat:info(Name),
        Pairs = [pair(Server, #{to => To}) || To <- [Udp, Dtls]],
        Now = meerkat_settings:config(meerkat_registry:settings(Name)),
        ok = meerkat:reload(Name, Now#{certificates := [Other]}),
        [begin
             Said = dtls_kit:openssl(["-dtls1_2 -connect ", at(To)]),
             %% OpenSSL writes it with blanks up to 3.1.
             ?assertMatch({match, _}, re:run(Said, "CN ?= ?other\\.example\\.org"), Said)
         end || To <- [Udp, Dtls]],
        [talks(Pair) || Pair <- Pairs],
        Left = [L || #{transport := T} = L <- maps:get(listeners, Now), T =/= dtls],
        ok = meerkat:reload(Name, Now#{dtls_enabled := false, listeners := Left}),
        [talks(Pair) || Pair <- Pairs],
        counted(Server, not_stun, fun() ->
            {ok, Socket} = gen_udp:open(0, [binary]),
            ok = gen_udp:send(Socket, Udp, dtls_kit:hello()),
            gen_udp:close(Socket)
        end),
        [turn_kit:close(Client) || {Client, _} <- Pairs]
    end).

-spec off(turn_kit:config()) -> _.
off(Config) ->
    doc("where it is off, which it is by itself, DTLS is nothing that is served"),
    Settings = maps:remove(dtls_enabled, settings(Config)),
    Listeners = [L || #{transport := T} = L <- maps:get(listeners, Settings), T =/= dtls],
    with_server(Settings#{listeners := Listeners},
                fun(#{name := Name, listeners := [To | _]} = S) ->
        ?assertMatch(#{dtls_listeners := []}, meerkat:info(Name)),
        ?assertNot(lists:member(dtls, [T || #{transport := T} <- meerkat_services:services(Name)])),
        {ok, Socket} = gen_udp:open(0, [binary]),
        counted(S, not_stun, fun() -> gen_udp:send(Socket, To, dtls_kit:hello()) end),
        gen_udp:close(Socket)
    end).

-spec relay_dies(turn_kit:config()) -> _.
relay_dies(Config) ->
    doc("the death of the relay program ends sessions, and what Erlang knows of them"),
    with_server(settings(Config), fun(#{name := Name} = Server) ->
        {Client, _} = pair(Server),
        Udp = allocated(Server, [], #{}),
        {ok, Pid} = meerkat_relay:os_pid(Name),
        _ = os:cmd("kill -9 " ++ integer_to_list(Pid)),
        eventually(fun() ->
            case meerkat:info(Name) of
                #{relay := {ok, _}, relay_restarts := 1} ->
                    [maps:get(here, Udp)] =:= [C || #{client := C} <- meerkat:allocations(Name)];
                _ -> false
            end
        end),
        talks(pair(Server)),
        turn_kit:close(Client)
    end).

-spec what_is_told(turn_kit:config()) -> _.
what_is_told(Config) ->
    doc("status, allocations, metrics, services and XEP-0215 know of it"),
    Server = #{name := Name} = server(Config),
    {Client, _} = pair(Server),
    ?assertMatch([#{transport := dtls}], meerkat:allocations(Name)),
    ?assertMatch(#{dtls_sessions := 1, dtls_listeners := [_ | _]}, meerkat:status(Name)),
    Text = unicode:characters_to_list(meerkat_show:status(meerkat:status(Name))),
    ?assertNotEqual(nomatch, string:find(Text, ["dtls ", at(address(Server))])),
    Metrics = iolist_to_binary(meerkat_metrics:text(meerkat_metrics:snapshot(Name))),
    [?assertMatch({match, _}, re:run(Metrics, ["\nmeerkat_", M, "({[^}]*})? [1-9]"]))
     || M <- ["dtls_sessions_open", "dtls_sessions_total", "dtls_hellos_total",
              "handshakes_total"]],
    Services = meerkat_services:services(Name),
    ?assertMatch([#{host := <<"turn.example.org">>} | _],
                 [S || #{transport := dtls} = S <- Services]),
    ?assertMatch([_ | _], [S || #{type := turns, transport := udp} = S
                                    <- meerkat_xmpp_extdisco:services(Services)]),
    left(Client, Config).

-spec check_command(turn_kit:config()) -> _.
check_command(Config) ->
    doc("meerkatctl check, step by step over DTLS, and what helps where nobody answers"),
    {_, Port} = address(server(Config)),
    Options = #{server => {{127, 0, 0, 1}, Port}, transport => dtls, insecure => true,
                username => "alice", password => "wonderland"},
    {ok, [#{name := connect, detail := Detail} | Steps]} = meerkat_check:run(Options),
    ?assertEqual("by DTLS 1.2", lists:sublist(lists:flatten(Detail), 11)),
    ?assertEqual([], [Step || #{result := Result} = Step <- Steps, Result =/= ok]),
    ?assertMatch({ok, #{transport := udp}}, meerkat_client_uri:parse("turns:h?transport=udp")),
    {ok, Nobody} = gen_udp:open(0, []),
    {ok, Silent} = inet:port(Nobody),
    {error, [#{name := connect, hint := Hint}]} =
        meerkat_check:run(Options#{server := {{127, 0, 0, 1}, Silent}, ti => 1500}),
    ?assertNotEqual(nomatch, string:find(Hint, "dtls_enabled")),
    gen_udp:close(Nobody).

-spec turnutils_to_the_port_of_udp(turn_kit:config()) -> _.
turnutils_to_the_port_of_udp(Config) ->
    doc("coturn's client over DTLS, at the port of UDP: nothing is lost"),
    #{listeners := [{_, Port} | _]} = proplists:get_value(for_turnutils, Config),
    turnutils(Port).

-spec turnutils_to_a_port_of_its_own(turn_kit:config()) -> _.
turnutils_to_a_port_of_its_own(Config) ->
    doc("coturn's client over DTLS, at that of DTLS alone: nothing is lost"),
    {_, Port} = address(proplists:get_value(for_turnutils, Config)),
    turnutils(Port).

turnutils(Port) ->
    Said = os:cmd(io_lib:format("timeout 60 turnutils_uclient -S -p ~b -u alice -w wonderland -c "
                                "-m 1 -n 20 -l 171 -y 127.0.0.1 2>&1", [Port])),
    ?assertMatch({match, _}, re:run(Said, "method=DTLSv1.2")),
    ?assertMatch({match, _}, re:run(Said, "tot_send_msgs=40, tot_recv_msgs=40\n")).

%% A sanitizer keeps memory of its own.
is_sanitized() -> os:getenv("MEERKAT_RELAY_PROGRAM") =/= false.

resident(Pid) ->
    {ok, Status} = file:read_file(io_lib:format("/proc/~b/status", [Pid])),
    {match, [Kb]} = re:run(Status, "RssAnon:\\s+([0-9]+)", [{capture, all_but_first, list}]),
    list_to_integer(Kb) * 1024.
