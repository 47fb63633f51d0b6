%% Clients behind proxies that tell of them by the PROXY protocol: over TCP and TLS, and datagram by
%% datagram; whose word is taken and whose is not; and HAProxy and nginx in front. Names as in
%% docs/proxies.md, whose examples are tried here.
-module(proxy_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2]).
-export([announced/1, every_split/1, local_and_unknown/1, without_header/1, no_good_header/1,
         quota_of_the_client/1, limit_of_the_client/1, same_client_again/1]).
-export([strangers/1, reload/1, haproxy/1, nginx/1]).
-export([udp_announced/1, udp_many/1, udp_refused/1, udp_proxy_restarts/1, udp_relay_dies/1,
         udp_listener_goes/1, udp_moves/1]).
-export([dtls_announced/1, dtls_proxy_restarts/1, dtls_without_header/1, dtls_listener_goes/1]).

-import(turn_kit, [doc/1, open/2, challenged/1, allocated/3, allocate/1, bind/3, channel/3,
                   permit/2, send_to/3, data/1, next/1, fence/1, peer/0, peer_send/3, peer_next/1,
                   get/2,
                   call/3, request/2, success/1, expect/2, counted/3, counted/4, eventually/1,
                   with_server/2]).

-define(CHANNEL, 16#4001).
-define(PROXIES, [{{127, 0, 0, 1}, 32}]).
%% A client somewhere in the world, and where it thinks it has connected to.
-define(CLIENT, {{192, 0, 2, 77}, 50001}).
-define(FRONT, {{203, 0, 113, 5}, 443}).
%% A client that is not where proxies are.
-define(ELSEWHERE, {127, 0, 0, 9}).

-spec all() -> [term()].
all() ->
    [{group, tcp}, {group, tls}, strangers, reload, haproxy, nginx, udp_announced, udp_many,
     udp_refused, udp_proxy_restarts, udp_relay_dies, udp_listener_goes, udp_moves,
     dtls_announced, dtls_proxy_restarts, dtls_without_header, dtls_listener_goes].

-spec groups() -> [tuple()].
groups() ->
    Both = [announced, every_split, local_and_unknown, without_header, no_good_header,
            quota_of_the_client, limit_of_the_client, same_client_again],
    [{tcp, [], Both}, {tls, [], Both}].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "speaks UDP to others"}),
    Certificate = stream_kit:certificate(proplists:get_value(priv_dir, Config), ec,
                                         "turn.example.org"),
    Settings = (stream_kit:config([Certificate]))#{proxy_protocol_from => ?PROXIES,
                                                   proxy_protocol_udp => true},
    [{settings, Settings}, {certificate, Certificate},
     {server, turn_kit:start_server(Settings#{mobility => true})} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) -> turn_kit:stop_server(server(Config)).

-spec init_per_group(atom(), turn_kit:config()) -> turn_kit:config().
init_per_group(Transport, Config) -> [{transport, Transport} | Config].

-spec end_per_group(atom(), turn_kit:config()) -> _.
end_per_group(_, _Config) -> ok.

server(Config) -> proplists:get_value(server, Config).
settings(Config) -> proplists:get_value(settings, Config).
transport(Config) -> proplists:get_value(transport, Config).

%% Options of a client whose proxy says this first.
behind(Config, First) -> #{transport => transport(Config), first => First}.
behind(Config, First, Here) -> (behind(Config, First))#{here => Here}.

connection(#{socket := Connection}) -> Connection.

%% A port no client was said to have before.
client() -> {{192, 0, 2, 77}, 20000 + erlang:unique_integer([positive, monotonic]) rem 40000}.

clients_of(#{name := Name}) -> [Client || #{client := Client} <- meerkat:allocations(Name)].

%% An allocation relays both ways, and is known under the address of its client.
relays(Server, Client) -> relays(Server, Client, ?CHANNEL).

relays(Server, #{relayed := Relayed, here := Here, answer := Answer} = Client, Channel) ->
    ?assertEqual(Here, get(xor_mapped_address, Answer)),
    ?assert(lists:member(Here, clients_of(Server))),
    Peer = #{address := Address} = peer(),
    success(permit(Client, [Peer])),
    send_to(Client, Peer, <<"there">>),
    ?assertEqual({Relayed, <<"there">>}, peer_next(Peer)),
    peer_send(Peer, Relayed, <<"back">>),
    ?assertEqual({Address, <<"back">>}, data(Client)),
    success(bind(Client, Channel, Peer)),
    channel(Client, Channel, <<"by channel">>),
    ?assertEqual({Relayed, <<"by channel">>}, peer_next(Peer)),
    peer_send(Peer, Relayed, <<"and back">>),
    ?assertEqual(iolist_to_binary(stun_model:encode_channel(Channel, <<"and back">>)),
                 next(Client)).

%%% Connections

-spec announced(turn_kit:config()) -> _.
announced(Config) ->
    doc("the client is whom the header tells, in both versions and both families"),
    Server = server(Config),
    V6 = {{16#2001, 16#db8, 0, 0, 0, 0, 0, 7}, 50001},
    Front6 = {{16#2001, 16#db8, 0, 0, 0, 0, 0, 5}, 443},
    Mapped = {{0, 0, 0, 0, 0, 16#ffff, 16#c000, 16#024d}, 50002},
    [begin
         Client = counted(Server, proxied, fun() ->
             allocated(Server, [], behind(Config, First, Here))
         end),
         relays(Server, Client),
         turn_kit:close(Client),
         eventually(fun() -> not lists:member(Here, clients_of(Server)) end)
     end || {First, Here} <- [{proxy_kit:v1(?CLIENT, ?FRONT), ?CLIENT},
                              {proxy_kit:v2(tcp, ?CLIENT, ?FRONT), ?CLIENT},
                              {proxy_kit:v1(V6, Front6), V6},
                              {proxy_kit:v2(tcp, V6, Front6), V6},
                              %% Of a proxy that has IPv4 clients as IPv6.
                              {proxy_kit:v2(tcp, Mapped, Front6), {{192, 0, 2, 77}, 50002}}]].

-spec every_split(turn_kit:config()) -> _.
every_split(Config) ->
    doc("a header comes in any pieces, with TLVs and a checksum, and what follows in the same"),
    Server = server(Config),
    Tlvs = <<4, 5:16, "noop.", 16#ea, 0:16>>,
    Header = proxy_kit:sum(proxy_kit:v2(tcp, ?CLIENT, ?FRONT, Tlvs)),
    #{tcp_listeners := [To | _]} = meerkat:info(maps:get(name, Server)),
    [begin
         <<First:Cut/binary, Rest/binary>> = Whole,
         Connection = stream_kit:open(tcp, To, #{first => First}),
         <<_:64, Txid:12/binary, _/binary>> = Binding = request(binding, []),
         ok = stream_kit:raw(Connection, [Rest, Binding]),
         receive
             {udp, Connection, _, _, <<_:64, Txid:12/binary, _/binary>> = Answer} ->
                 {ok, Decoded} = stun_model:decode(Answer),
                 ?assertEqual(?CLIENT, get(xor_mapped_address, Decoded))
         end,
         stream_kit:close(Connection)
     end || Whole <- [Header, proxy_kit:v1(?CLIENT, ?FRONT)],
            Cut <- lists:seq(0, byte_size(Whole))].

-spec local_and_unknown(turn_kit:config()) -> _.
local_and_unknown(Config) ->
    doc("a proxy that tells of nobody is the client itself: LOCAL, UNKNOWN"),
    [begin
         Client = challenged(open(server(Config), behind(Config, First))),
         fence(Client),
         turn_kit:close(Client)
     end || First <- [proxy_kit:local(), proxy_kit:unknown()]].

refused(Config, Counter, Bytes) ->
    #{name := Name} = server(Config),
    #{tcp_listeners := [To | _], tls_listeners := Tls} = meerkat:info(Name),
    Where = case transport(Config) of tls -> hd(Tls); _ -> To end,
    counted(server(Config), Counter, fun() ->
        Connection = stream_kit:open(tcp, Where, #{first => Bytes}),
        stream_kit:closed(Connection)
    end).

-spec without_header(turn_kit:config()) -> _.
without_header(Config) ->
    doc("who connects from where proxies are and has no header is closed (proxy-protocol.txt 2)"),
    [refused(Config, proxy_header, Bytes)
     || Bytes <- [request(binding, []), <<22, 3, 1, 2, 0, 1, 0, 1>>, <<"GET / HTTP/1.1\r\n\r\n">>,
                  <<"Q">>, <<0>>, <<255>>]],
    %% From elsewhere all is as without proxies.
    Client = allocated(server(Config), [], #{transport => transport(Config), ip => ?ELSEWHERE}),
    relays(server(Config), Client),
    turn_kit:close(Client).

-spec no_good_header(turn_kit:config()) -> _.
no_good_header(Config) ->
    doc("headers that are broken, too long, or whose checksum is wrong close"),
    Good = proxy_kit:sum(proxy_kit:v2(tcp, ?CLIENT, ?FRONT)),
    <<Before:20/binary, Byte, After/binary>> = Good,
    <<Start:14/binary, _/binary>> = Good,
    [refused(Config, proxy_header, Bytes)
     || Bytes <- [<<Before/binary, (Byte bxor 1), After/binary>>,
                  <<Start/binary, 16#ffff:16>>,
                  <<"PROXY TCP4 192.0.2.7 192.0.2.1 1 66666\r\n">>,
                  <<"PROXY TCP4 192.0.2.7 192.0.2.1 0 1\r\n">>,
                  [<<"PROXY UNKNOWN ">>, lists:duplicate(100, $x)]]],
    %% And one that ends in the middle.
    #{tcp_listeners := [To | _]} = meerkat:info(maps:get(name, server(Config))),
    counted(server(Config), proxy_header, fun() ->
        Connection = stream_kit:open(tcp, To, #{first => Before}),
        ok = stream_kit:shutdown(Connection),
        stream_kit:closed(Connection)
    end).

-spec quota_of_the_client(turn_kit:config()) -> _.
quota_of_the_client(Config) ->
    doc("quotas are those of the client's address, not of the proxy's"),
    with_server((settings(Config))#{max_allocations_per_address => 1}, fun(Server) ->
        Try = fun(Ip) ->
            Client = {Ip, 40000 + erlang:unique_integer([positive]) rem 20000},
            Header = proxy_kit:v2(tcp, Client, ?FRONT),
            allocate(challenged(open(Server, behind(Config, Header, Client))))
        end,
        success(Try({192, 0, 2, 1})),
        success(Try({192, 0, 2, 2})),
        expect(486, Try({192, 0, 2, 1}))
    end).

-spec limit_of_the_client(turn_kit:config()) -> _.
limit_of_the_client(Config) ->
    doc("connections without allocation count for the client's address, not for the proxy's"),
    with_server((settings(Config))#{tcp_connections_per_address => 2}, fun(Server) ->
        #{tcp_listeners := [To | _]} = meerkat:info(maps:get(name, Server)),
        As = fun(Ip) ->
            {_, Port} = client(),
            #{first => proxy_kit:v2(tcp, {Ip, Port}, ?FRONT)}
        end,
        Kept = [allocated(Server, [], behind(Config, proxy_kit:v2(tcp, C, ?FRONT), C))
                || C <- [client(), client(), client()]],
        counted(Server, connections_refused, fun() ->
            Some = [stream_kit:open(tcp, To, As({192, 0, 2, N})) || N <- [1, 1, 2, 2, 3]],
            stream_kit:refused(tcp, To, As({192, 0, 2, 1})),
            [stream_kit:close(C) || C <- Some]
        end),
        [fence(C) || C <- Kept]
    end).

-spec same_client_again(turn_kit:config()) -> _.
same_client_again(Config) ->
    doc("a client that comes again from the same address and port takes its own place"),
    Server = server(Config),
    Options = behind(Config, proxy_kit:v2(tcp, ?CLIENT, ?FRONT), ?CLIENT),
    Before = allocated(Server, [], Options),
    Again = allocated(Server, [], Options),
    stream_kit:closed(connection(Before)),
    relays(Server, Again),
    turn_kit:close(Again).

-spec strangers(turn_kit:config()) -> _.
strangers(Config) ->
    doc("a header from whom nobody named is a first byte that is nobody's: closed, and counted"),
    Server = server(Config),
    #{name := Name} = Server,
    #{tcp_listeners := [Tcp | _], tls_listeners := [Tls | _]} = meerkat:info(Name),
    [counted(Server, proxy_stranger, fun() ->
         stream_kit:refused(tcp, To, #{first => First, ip => ?ELSEWHERE})
     end) || To <- [Tcp, Tls], First <- [proxy_kit:v1(?CLIENT, ?FRONT),
                                         proxy_kit:v2(tcp, ?CLIENT, ?FRONT)]],
    Client = open(Server, #{ip => ?ELSEWHERE}),
    counted(Server, proxy_stranger, fun() ->
        turn_kit:send(Client, [proxy_kit:v2(udp, ?CLIENT, ?FRONT), request(binding, [])])
    end),
    fence(Client).

-spec reload(turn_kit:config()) -> _.
reload(Config) ->
    doc("a reload names other proxies; who is connected stays"),
    Settings = settings(Config),
    with_server(Settings#{proxy_protocol_from => []}, fun(#{name := Name} = Server) ->
        Direct = allocated(Server, [], #{transport => tcp}),
        #{tcp_listeners := [To | _]} = meerkat:info(Name),
        Header = proxy_kit:v2(tcp, ?CLIENT, ?FRONT),
        counted(Server, proxy_stranger, fun() ->
            stream_kit:refused(tcp, To, #{first => Header})
        end),
        {ok, Given} = {ok, meerkat_settings:config(meerkat_registry:settings(Name))},
        ok = meerkat:reload(Name, Given#{proxy_protocol_from := ?PROXIES}),
        Proxied = allocated(Server, [], #{transport => tcp, first => Header, here => ?CLIENT}),
        relays(Server, Proxied),
        relays(Server, Direct)
    end).

%%% In front

%% The ports of this server, for the configuration of a proxy.
ports(#{name := Name}) ->
    #{tcp_listeners := [{_, Tcp} | _], tls_listeners := Tlss} = meerkat:info(Name),
    [{_, Tls} | _] = [L || {_, Port} = L <- Tlss, Port =/= Tcp],
    {integer_to_list(Tcp), integer_to_list(Tls)}.

%% A client by way of a proxy's port: known under its own address.
through(Server, Transport, Port) ->
    Client = allocated(Server, [], #{transport => Transport, ip => ?ELSEWHERE,
                                     to => {{127, 0, 0, 1}, Port}}),
    relays(Server, Client),
    turn_kit:close(Client).

scratch(Config, Name) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    Dir.

%% Certificate and key in one file, as HAProxy wants them.
pem(Dir, #{chain := Chain, key := Key}) ->
    File = filename:join(Dir, "turn.pem"),
    ok = file:write_file(File, [Chain, Key]),
    File.

-spec haproxy(turn_kit:config()) -> _.
haproxy(Config) ->
    doc("HAProxy in front: both versions, TLS passed through, and ended there"),
    Server = server(Config),
    {Tcp, Tls} = ports(Server),
    Dir = scratch(Config, "haproxy"),
    First = turn_kit:free_ports(5),
    Port = fun(N) -> integer_to_list(First + N) end,
    Listen = fun(N, Bind, Backend) ->
        io_lib:format("listen l~b\n    bind 127.0.0.1:~b~ts\n    server turn ~ts\n",
                      [N, First + N, Bind, Backend])
    end,
    Crypt = " ssl crt " ++ pem(Dir, proplists:get_value(certificate, Config)),
    Program = proxy_kit:haproxy(Dir, [
        "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n"
        "    timeout server 1h\n",
        Listen(0, "", ["127.0.0.1:", Tcp, " send-proxy"]),
        Listen(1, "", ["127.0.0.1:", Tcp, " send-proxy-v2 check"]),
        Listen(2, "", ["127.0.0.1:", Tls, " send-proxy-v2"]),
        Listen(3, Crypt, ["127.0.0.1:", Tcp,
                          " send-proxy-v2 proxy-v2-options ssl,cert-cn,crc32c,unique-id"]),
        proxy_kit:snippet(Config, "listen turn",
                          [{":443", ["127.0.0.1:", Port(4)]},
                           {"10.0.0.7:5349", ["127.0.0.1:", Tls]}])]),
    try
        [through(Server, Transport, First + N)
         || {N, Transport} <- [{0, tcp}, {1, tcp}, {2, tls}, {3, tls}, {4, tls}]]
    after
        proxy_kit:end_program(Program)
    end.

-spec nginx(turn_kit:config()) -> _.
nginx(Config) ->
    doc("nginx in front: plain, TLS passed through, and ended there"),
    Server = server(Config),
    {Tcp, Tls} = ports(Server),
    First = turn_kit:free_ports(4),
    #{chain_file := Chain, key_file := Key} = proplists:get_value(certificate, Config),
    Listen = fun(N, Ssl, Port) ->
        io_lib:format("server { listen 127.0.0.1:~b~ts; proxy_protocol on; proxy_pass "
                      "127.0.0.1:~ts; }\n", [First + N, Ssl, Port])
    end,
    Crypt = [" ssl; ssl_certificate ", Chain, "; ssl_certificate_key ", Key],
    Documented = proxy_kit:snippet(Config, "stream {",
                                   [{"listen 443", ["listen 127.0.0.1:",
                                                    integer_to_list(First + 3)]},
                                    {"10.0.0.7:5349", ["127.0.0.1:", Tls]}]),
    [_, Inner] = string:split(Documented, "stream {"),
    [Fourth, _] = string:split(Inner, "}", trailing),
    Program = proxy_kit:nginx(scratch(Config, "nginx"),
                              [Listen(0, "", Tcp), Listen(1, "", Tls), Listen(2, Crypt, Tcp),
                               Fourth], []),
    try
        [through(Server, Transport, First + N)
         || {N, Transport} <- [{0, tcp}, {1, tls}, {2, tls}, {3, tls}]]
    after
        proxy_kit:end_program(Program)
    end.

%%% Datagrams

-spec udp_announced(turn_kit:config()) -> _.
udp_announced(Config) ->
    doc("each datagram tells its client; answers and payload go back by the proxy, without header"),
    Server = server(Config),
    Proxy = proxy_kit:udp(hd(maps:get(listeners, Server))),
    Client = allocated(Server, [], #{to => proxy_kit:address(Proxy)}),
    relays(Server, Client),
    turn_kit:delete(Client),
    proxy_kit:stop(Proxy).

-spec udp_many(turn_kit:config()) -> _.
udp_many(Config) ->
    doc("clients are at home in the worker of their own address, wherever the proxy's port leads"),
    Server = server(Config),
    Proxy = proxy_kit:udp(hd(maps:get(listeners, Server))),
    [begin
         Client = allocated(Server, [], #{to => proxy_kit:address(Proxy)}),
         relays(Server, Client),
         turn_kit:delete(Client)
     end || _ <- lists:seq(1, 12)],
    proxy_kit:stop(Proxy).

-spec udp_refused(turn_kit:config()) -> _.
udp_refused(Config) ->
    doc("a datagram from a proxy without a good header is dropped; LOCAL is the proxy itself"),
    #{ip := Ip, port := Port} = Server = server(Config),
    {ok, Socket} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {active, true}]),
    {ok, Here} = inet:sockname(Socket),
    Good = proxy_kit:sum(proxy_kit:v2(udp, ?CLIENT, ?FRONT)),
    <<Before:20/binary, Byte, After/binary>> = Good,
    Bad = [request(binding, []), proxy_kit:v1(?CLIENT, ?FRONT), binary:part(Good, 0, 30),
           <<Before/binary, (Byte bxor 1), After/binary>>, <<13>>],
    counted(Server, proxy_header, length(Bad), fun() ->
        [ok = gen_udp:send(Socket, Ip, Port, [Bytes, request(binding, [])])
         || Bytes <- Bad -- [binary:part(Good, 0, 30)]],
        ok = gen_udp:send(Socket, Ip, Port, binary:part(Good, 0, 30))
    end),
    counted(Server, too_short, fun() -> ok = gen_udp:send(Socket, Ip, Port, Good) end),
    [begin
         ok = gen_udp:send(Socket, Ip, Port, [Header, request(binding, [])]),
         receive
             {udp, Socket, Ip, Port, Answer} ->
                 {ok, Decoded} = stun_model:decode(Answer),
                 ?assertEqual(Mapped, get(xor_mapped_address, Decoded))
         end
     end || {Header, Mapped} <- [{Good, ?CLIENT}, {proxy_kit:local(), Here}]],
    gen_udp:close(Socket).

-spec udp_proxy_restarts(turn_kit:config()) -> _.
udp_proxy_restarts(Config) ->
    doc("a proxy may reach us by another port for the same client: the way back is learnt anew"),
    Server = server(Config),
    Proxy = proxy_kit:udp(hd(maps:get(listeners, Server))),
    Client = allocated(Server, [], #{to => proxy_kit:address(Proxy)}),
    [begin
         relays(Server, Client, ?CHANNEL + N),
         ok = proxy_kit:restart(Proxy),
         fence(Client)
     end || N <- lists:seq(1, 6)],
    turn_kit:delete(Client),
    proxy_kit:stop(Proxy).

-spec udp_relay_dies(turn_kit:config()) -> _.
udp_relay_dies(Config) ->
    doc("allocations behind a proxy of datagrams outlive the relay program"),
    with_server(settings(Config), fun(#{name := Name} = Server) ->
        Proxy = proxy_kit:udp(hd(maps:get(listeners, Server))),
        Clients = [allocated(Server, [], #{to => proxy_kit:address(Proxy)})
                   || _ <- lists:seq(1, 4)],
        {ok, Pid} = meerkat_relay:os_pid(Name),
        _ = os:cmd("kill -9 " ++ integer_to_list(Pid)),
        eventually(fun() ->
            case meerkat:info(Name) of
                #{relay := {ok, #{sessions := 4}}, relay_restarts := 1} -> true;
                _ -> false
            end
        end),
        [begin fence(C), relays(Server, C) end || C <- Clients],
        proxy_kit:stop(Proxy)
    end).

-spec udp_listener_goes(turn_kit:config()) -> _.
udp_listener_goes(Config) ->
    doc("a listener that is taken away stays for the clients of a proxy that have an allocation"),
    with_server(settings(Config), fun(#{name := Name, listeners := [Where | _]} = Server) ->
        Proxy = proxy_kit:udp(Where),
        Client = allocated(Server, [], #{to => proxy_kit:address(Proxy)}),
        Given = meerkat_settings:config(meerkat_registry:settings(Name)),
        #{listeners := Listeners} = Given,
        ok = meerkat:reload(Name, Given#{listeners := [L || #{transport := T} = L <- Listeners,
                                                            T =/= udp]}),
        relays(Server, Client),
        turn_kit:delete(Client),
        {Ip, Port} = Where,
        eventually(fun() -> is_free(Ip, Port) end),
        proxy_kit:stop(Proxy)
    end).

is_free(Ip, Port) ->
    case gen_udp:open(Port, [{ip, Ip}]) of
        {ok, Socket} -> ok =:= gen_udp:close(Socket);
        {error, eaddrinuse} -> false
    end.

-spec udp_moves(turn_kit:config()) -> _.
udp_moves(Config) ->
    doc("a client behind a proxy of datagrams takes its allocation to another address (RFC 8016)"),
    Server = server(Config),
    Proxy = proxy_kit:udp(hd(maps:get(listeners, Server))),
    To = #{to => proxy_kit:address(Proxy)},
    [begin
         #{answer := Answer, relayed := Relayed} = Before =
             allocated(Server, [{mobility_ticket, <<>>}], To),
         Peer = peer(),
         success(bind(Before, ?CHANNEL, Peer)),
         #{here := Here} = Open = challenged(open(Server, To)),
         Ticket = get(mobility_ticket, Answer),
         success(call(Open, refresh, [{mobility_ticket, Ticket}])),
         channel(Open, ?CHANNEL, <<"from elsewhere">>),
         ?assertEqual({Relayed, <<"from elsewhere">>}, peer_next(Peer)),
         peer_send(Peer, Relayed, <<"to elsewhere">>),
         ?assertEqual(iolist_to_binary(stun_model:encode_channel(?CHANNEL, <<"to elsewhere">>)),
                      next(Open)),
         eventually(fun() -> lists:member(Here, clients_of(Server)) end),
         turn_kit:delete(Open)
     end || _ <- lists:seq(1, 6)],
    proxy_kit:stop(Proxy).

%%% Datagrams of DTLS

sessions(#{name := Name}) ->
    {ok, #{dtls_sessions := N}} = meerkat_relay:stats(Name),
    N.

dtls_behind(Server, Proxy) ->
    allocated(Server, [], #{transport => dtls, to => proxy_kit:address(Proxy)}).

%% Says goodbye, which reaches the server by way of the proxy too.
ends(Server, Client) ->
    turn_kit:close(Client),
    eventually(fun() -> sessions(Server) =:= 0 end).

-spec dtls_announced(turn_kit:config()) -> _.
dtls_announced(Config) ->
    doc("DTLS behind a proxy of datagrams, at the port of UDP and at its own: the client is whom "
        "each datagram tells, at home in the worker of his own address"),
    Server = #{name := Name} = server(Config),
    #{listeners := [Udp | _], dtls_listeners := Dtls} = meerkat:info(Name),
    [begin
         Proxy = proxy_kit:udp(To),
         Clients = [dtls_behind(Server, Proxy) || _ <- lists:seq(1, 6)],
         [relays(Server, Client) || Client <- Clients],
         [ends_allocation(Server, Client) || Client <- Clients],
         proxy_kit:stop(Proxy)
     end || {{_, _, _, _}, _} = To <- lists:usort([Udp | Dtls])].

ends_allocation(Server, #{here := Here} = Client) ->
    turn_kit:close(Client),
    eventually(fun() -> not lists:member(Here, clients_of(Server)) end).

-spec dtls_proxy_restarts(turn_kit:config()) -> _.
dtls_proxy_restarts(Config) ->
    doc("a session of DTLS goes on when the proxy reaches us by another port for the same client"),
    Server = server(Config),
    Proxy = proxy_kit:udp(hd(maps:get(listeners, Server))),
    Client = dtls_behind(Server, Proxy),
    [begin
         ok = proxy_kit:restart(Proxy),
         fence(Client),
         relays(Server, Client, ?CHANNEL + N)
     end || N <- lists:seq(1, 4)],
    ends(Server, Client),
    proxy_kit:stop(Proxy).

-spec dtls_without_header(turn_kit:config()) -> _.
dtls_without_header(Config) ->
    doc("a ClientHello from a proxy without header is dropped; with one its cookie goes back to "
        "the proxy as it is; from elsewhere DTLS needs none"),
    #{ip := Ip, port := Port} = Server = server(Config),
    {ok, Socket} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {active, true}]),
    counted(Server, proxy_header, fun() ->
        ok = gen_udp:send(Socket, Ip, Port, dtls_kit:hello())
    end),
    counted(Server, dtls_hellos, fun() ->
        ok = gen_udp:send(Socket, Ip, Port, [proxy_kit:v2(udp, ?CLIENT, ?FRONT),
                                             dtls_kit:hello()])
    end),
    receive
        {udp, Socket, Ip, Port, Answer} ->
            ?assertMatch(<<22, _:96, 3, _/binary>>, Answer) % a HelloVerifyRequest
    end,
    gen_udp:close(Socket),
    Client = allocated(Server, [], #{transport => dtls, ip => ?ELSEWHERE}),
    relays(Server, Client),
    ends(Server, Client).

-spec dtls_listener_goes(turn_kit:config()) -> _.
dtls_listener_goes(Config) ->
    doc("a listener that is taken away stays for a session of DTLS behind a proxy, and no longer"),
    with_server(settings(Config), fun(#{name := Name, listeners := [Where | _]} = Server) ->
        Proxy = proxy_kit:udp(Where),
        Client = dtls_behind(Server, Proxy),
        Given = meerkat_settings:config(meerkat_registry:settings(Name)),
        #{listeners := Listeners} = Given,
        ok = meerkat:reload(Name, Given#{listeners := [L || #{transport := T} = L <- Listeners,
                                                            T =/= udp]}),
        relays(Server, Client),
        ends(Server, Client),
        {Ip, Port} = Where,
        eventually(fun() -> is_free(Ip, Port) end),
        proxy_kit:stop(Proxy)
    end).
