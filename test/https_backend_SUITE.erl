%% The port of TLS shared with web servers: whose connection it is by name and by protocols, bytes
%% passed through untouched and both ways, a side that does not read, one that says no more; and
%% nginx and HAProxy behind, asked by curl. Also what HTTP gets where it is not expected.
-module(https_backend_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([by_name/1, ours/1, browsers_of_our_name/1, named_ours/1, untouched_in_any_pieces/1,
         half_close/1, back_pressure/1, large_both_ways/1, client_is_told/1, behind_a_proxy/1,
         too_many/1, not_there/1, ends_with_the_other/1, reload/1, relay_dies/1, curl/1]).
-export([x93_http_is_answered/1, x97_half_hello/1]).

-import(turn_kit, [doc/1, open/2, allocated/3, fence/1, counter/2, counted/3, counted/4,
                   eventually/1, with_server/2]).

-define(TIMEOUT, 30000).

-spec all() -> [atom()].
all() ->
    turn_kit:cases(?MODULE)
        ++ [by_name, ours, browsers_of_our_name, named_ours, untouched_in_any_pieces, half_close,
            back_pressure, large_both_ways, client_is_told, behind_a_proxy, too_many, not_there,
            ends_with_the_other, reload, relay_dies, curl].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "speaks UDP to others"}),
    Dir = proplists:get_value(priv_dir, Config),
    Ours = stream_kit:certificate(Dir, ec, "turn.example.org"),
    [{settings, stream_kit:config([Ours])}, {ours, Ours}, {dir, Dir} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(_Config) -> ok.

settings(Config) -> proplists:get_value(settings, Config).

%% A server that passes on to these.
passing(Config, Backends, Fun) -> passing(Config, Backends, #{}, Fun).

passing(Config, Backends, More, Fun) ->
    with_server(maps:merge((settings(Config))#{https_backend => Backends}, More), Fun).

address(#{name := Name}) ->
    #{tls_listeners := Listeners} = meerkat:info(Name),
    lists:last([L || {{127, 0, 0, 1}, _} = L <- Listeners]).

%%% A web server of the suite's own: whatever it gets, it hands over

web() ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}},
                                      {backlog, 100}, {nodelay, true}, {exit_on_close, false}]),
    {ok, Address} = inet:sockname(Listen),
    {Listen, Address}.

accepted(Listen) ->
    {ok, Socket} = gen_tcp:accept(Listen, ?TIMEOUT),
    Socket.

received(Socket, Bytes) ->
    Size = byte_size(Bytes),
    {ok, Got} = gen_tcp:recv(Socket, Size, ?TIMEOUT),
    ?assertEqual(Bytes, Got).

connect(Server) ->
    {Ip, Port} = address(Server),
    {ok, Socket} = gen_tcp:connect(Ip, Port, [binary, {active, false}, {nodelay, true},
                                              {exit_on_close, false}]),
    Socket.

%% The first flight of a client that asks for that name, as large as a post-quantum one.
hello(Name) -> hello(Name, []).

hello(Name, Protocols) ->
    Sni = list_to_binary(Name),
    Names = <<0, (byte_size(Sni)):16, Sni/binary>>,
    Alpn = << <<(length(P)), (list_to_binary(P))/binary>> || P <- Protocols >>,
    Extensions = iolist_to_binary(
        [extension(16#5a5a, <<>>), extension(51, binary:copy(<<7>>, 1250)),
         [extension(0, <<(byte_size(Names)):16, Names/binary>>) || Name =/= ""],
         [extension(16, <<(byte_size(Alpn)):16, Alpn/binary>>) || Protocols =/= []],
         extension(21, binary:copy(<<0>>, 400))]),
    Body = <<3, 3, 0:256, 32, 0:256, 2:16, 16#1301:16, 1, 0, (byte_size(Extensions)):16,
             Extensions/binary>>,
    <<22, 3, 1, (byte_size(Body) + 4):16, 1, (byte_size(Body)):24, Body/binary>>.

extension(Type, Data) -> <<Type:16, (byte_size(Data)):16, Data/binary>>.

%% A connection that is passed on, both its ends.
passed(Server, Listen, Name) ->
    Client = connect(Server),
    Hello = hello(Name),
    ok = gen_tcp:send(Client, Hello),
    Web = accepted(Listen),
    received(Web, Hello),
    {Client, Web}.

%% TLS is spoken by us.
served(Server, Tls) ->
    Client = open(Server, #{transport => tls, to => address(Server), tls => Tls}),
    fence(Client),
    turn_kit:close(Client).

%%% Whose it is

-spec by_name(turn_kit:config()) -> _.
by_name(Config) ->
    doc("a name has its web server, a star those of one label, and any other the default"),
    {A, AddressA} = web(),
    {B, AddressB} = web(),
    {C, AddressC} = web(),
    Backends = [{<<"www.example.org">>, AddressA}, {<<"*.example.net">>, AddressB},
                {any, AddressC}],
    passing(Config, Backends, fun(Server) ->
        counted(Server, spliced, 6, fun() ->
            [begin
                 {Client, Web} = passed(Server, Listen, Name),
                 gen_tcp:close(Client),
                 ?assertEqual({error, closed}, gen_tcp:recv(Web, 0, ?TIMEOUT)),
                 gen_tcp:close(Web)
             end || {Name, Listen} <- [{"www.example.org", A}, {"WWW.Example.Org.", A},
                                       {"mail.example.net", B}, {"a.b.example.net", C},
                                       {"example.net", C}, {"elsewhere.example.com", C}]]
        end),
        eventually(fun() -> counter(Server, splices_closed) =:= 6 end)
    end).

-spec ours(turn_kit:config()) -> _.
ours(Config) ->
    doc("the names of our certificates are ours, and so is who asks for none"),
    {_, Address} = web(),
    passing(Config, [{any, Address}], fun(Server) ->
        counted(Server, spliced, 0, fun() ->
            served(Server, [{server_name_indication, "turn.example.org"}]),
            served(Server, [{server_name_indication, disable}]),
            served(Server, [{server_name_indication, "turn.example.org"},
                            {alpn_advertised_protocols, [<<"h2">>, <<"stun.turn">>]}])
        end)
    end),
    %% Without a web server for others, others are ours too.
    passing(Config, [{<<"www.example.org">>, Address}], fun(Server) ->
        served(Server, [{server_name_indication, "elsewhere.example.com"}])
    end).

-spec browsers_of_our_name(turn_kit:config()) -> _.
browsers_of_our_name(Config) ->
    doc("who offers protocols (ALPN), none of ours, is a browser: one name for TURN and the web"),
    {Listen, Address} = web(),
    passing(Config, [{any, Address}], fun(Server) ->
        [begin
             Client = connect(Server),
             Hello = hello(Name, Protocols),
             ok = gen_tcp:send(Client, Hello),
             received(accepted(Listen), Hello),
             gen_tcp:close(Client)
         end || Name <- ["turn.example.org", ""],
                Protocols <- [["h2", "http/1.1"], ["acme-tls/1"]]]
    end).

-spec named_ours(turn_kit:config()) -> _.
named_ours(Config) ->
    doc("with tls_names only those are ours, whatever the certificates have"),
    {Listen, Address} = web(),
    Names = #{tls_names => [<<"relay.example.org">>]},
    passing(Config, [{any, Address}], Names, fun(Server) ->
        served(Server, [{server_name_indication, "relay.example.org"}]),
        {Client, _} = passed(Server, Listen, "turn.example.org"),
        gen_tcp:close(Client)
    end).

%%% What passes

-spec untouched_in_any_pieces(turn_kit:config()) -> _.
untouched_in_any_pieces(Config) ->
    doc("a hello is read to its end, in any pieces, before it is judged, and passed as it came"),
    {Listen, Address} = web(),
    passing(Config, [{any, Address}], fun(Server) ->
        Hello = hello("www.example.org"),
        ?assert(byte_size(Hello) > 1700),
        [begin
             Client = connect(Server),
             <<First:Cut/binary, Rest/binary>> = Hello,
             ok = gen_tcp:send(Client, First),
             %% Not before its end.
             served(Server, [{server_name_indication, disable}]),
             ok = gen_tcp:send(Client, [Rest, <<"and more">>]),
             received(accepted(Listen), <<Hello/binary, "and more">>),
             gen_tcp:close(Client)
         end || Cut <- [1, 4, 5, 6, 8, 9, 50, 1300, 1460, byte_size(Hello) - 1]]
    end).

-spec half_close(turn_kit:config()) -> _.
half_close(Config) ->
    doc("who says no more still hears what the other has to say"),
    {Listen, Address} = web(),
    passing(Config, [{any, Address}], fun(Server) ->
        [begin
             {Client, Web} = passed(Server, Listen, "www.example.org"),
             {One, Other} = case First of client -> {Client, Web}; web -> {Web, Client} end,
             ok = gen_tcp:send(One, <<"last words">>),
             ok = gen_tcp:shutdown(One, write),
             received(Other, <<"last words">>),
             ?assertEqual({error, closed}, gen_tcp:recv(Other, 0, ?TIMEOUT)),
             Answer = crypto:strong_rand_bytes(300000),
             ok = gen_tcp:send(Other, Answer),
             ok = gen_tcp:shutdown(Other, write),
             received(One, Answer),
             ?assertEqual({error, closed}, gen_tcp:recv(One, 0, ?TIMEOUT)),
             [gen_tcp:close(S) || S <- [One, Other]]
         end || First <- [client, web]],
        eventually(fun() -> counter(Server, splices_closed) =:= 2 end)
    end).

%% Sends until nothing goes any more; what did.
fill(Socket, Bytes) -> fill(Socket, Bytes, 0).

fill(Socket, Bytes, Sent) ->
    case gen_tcp:send(Socket, Bytes) of
        ok -> fill(Socket, Bytes, Sent + byte_size(Bytes));
        {error, timeout} -> Sent
    end.

-spec back_pressure(turn_kit:config()) -> _.
back_pressure(Config) ->
    doc("a side that does not read stops the other; nothing is held here, and nobody else waits"),
    {Listen, Address} = web(),
    passing(Config, [{any, Address}], fun(#{name := Name} = Server) ->
        {Client, Web} = passed(Server, Listen, "www.example.org"),
        Piece = binary:copy(<<"0123456789abcdef">>, 4096),
        [begin
             ok = inet:setopts(From, [{send_timeout, 1000}, {high_watermark, 1}]),
             Sent = fill(From, Piece),
             %% As much as the kernel holds on the two sides.
             ?assert(Sent < 64 bsl 20),
             {ok, #{queued := 0}} = meerkat_relay:stats(Name),
             served(Server, [{server_name_indication, disable}]),
             Drained = drain(To, Piece, Sent),
             ?assert(Drained)
         end || {From, To} <- [{Web, Client}, {Client, Web}]],
        [gen_tcp:close(S) || S <- [Client, Web]]
    end).

drain(_Socket, _Piece, Left) when Left =< 0 -> true;
drain(Socket, Piece, Left) ->
    {ok, Piece} = gen_tcp:recv(Socket, byte_size(Piece), ?TIMEOUT),
    drain(Socket, Piece, Left - byte_size(Piece)).

-spec large_both_ways(turn_kit:config()) -> _.
large_both_ways(Config) ->
    doc("megabytes pass both ways at once, each byte in its place"),
    {Listen, Address} = web(),
    passing(Config, [{any, Address}], fun(Server) ->
        Before = counter(Server, spliced_bytes),
        {Client, Web} = passed(Server, Listen, "www.example.org"),
        [Up, Down] = [crypto:strong_rand_bytes(8 bsl 20) || _ <- [1, 2]],
        Send = fun(Socket, Bytes) -> spawn_link(fun() -> ok = gen_tcp:send(Socket, Bytes) end) end,
        Send(Client, Up),
        Send(Web, Down),
        Self = self(),
        Reader = spawn_link(fun() -> received(Web, Up), Self ! {self(), done} end),
        received(Client, Down),
        receive {Reader, done} -> ok end,
        ?assertEqual((16 bsl 20) + byte_size(hello("www.example.org")),
                     counter(Server, spliced_bytes) - Before),
        [gen_tcp:close(S) || S <- [Client, Web]]
    end).

-spec client_is_told(turn_kit:config()) -> _.
client_is_told(Config) ->
    doc("with https_proxy_protocol the web server is told of the client, before all else"),
    {Listen, Address} = web(),
    passing(Config, [{any, Address}], #{https_proxy_protocol => true}, fun(Server) ->
        Client = connect(Server),
        {ok, Here} = inet:sockname(Client),
        Hello = hello("www.example.org"),
        ok = gen_tcp:send(Client, Hello),
        received(accepted(Listen), <<(proxy_kit:v2(tcp, Here, address(Server)))/binary,
                                     Hello/binary>>),
        gen_tcp:close(Client)
    end).

-spec behind_a_proxy(turn_kit:config()) -> _.
behind_a_proxy(Config) ->
    doc("behind a proxy it is the proxy's client that the web server is told of"),
    {Listen, Address} = web(),
    More = #{https_proxy_protocol => true, proxy_protocol_from => [{{127, 0, 0, 1}, 32}]},
    passing(Config, [{any, Address}], More, fun(Server) ->
        Header = proxy_kit:v2(tcp, {{192, 0, 2, 7}, 1025}, {{203, 0, 113, 5}, 443}),
        Hello = hello("www.example.org"),
        [begin
             Client = connect(Server),
             ok = gen_tcp:send(Client, [Told, Hello]),
             received(accepted(Listen), <<Header/binary, Hello/binary>>),
             gen_tcp:close(Client)
         end || Told <- [Header, proxy_kit:v1({{192, 0, 2, 7}, 1025}, {{203, 0, 113, 5}, 443})]]
    end).

%%% What does not

-spec too_many(turn_kit:config()) -> _.
too_many(Config) ->
    doc("a source may have so many of them, and they do not count as clients of ours"),
    {Listen, Address} = web(),
    More = #{tcp_connections_per_address => 3},
    passing(Config, [{any, Address}], More, fun(Server) ->
        Passed = [passed(Server, Listen, "www.example.org") || _ <- [1, 2, 3]],
        counted(Server, splices_refused, fun() ->
            Client = connect(Server),
            ok = gen_tcp:send(Client, hello("www.example.org")),
            ?assertMatch({error, _}, gen_tcp:recv(Client, 0, ?TIMEOUT))
        end),
        served(Server, [{server_name_indication, disable}]),
        [gen_tcp:close(S) || {Client, Web} <- Passed, S <- [Client, Web]],
        eventually(fun() -> counter(Server, splices_closed) =:= 3 end),
        {Again, _} = passed(Server, Listen, "www.example.org"),
        gen_tcp:close(Again)
    end).

-spec not_there(turn_kit:config()) -> _.
not_there(Config) ->
    doc("a web server that cannot be reached ends the connection, and is counted"),
    {Listen, Address} = web(),
    ok = gen_tcp:close(Listen),
    passing(Config, [{any, Address}], fun(Server) ->
        counted(Server, splices_failed, fun() ->
            Client = connect(Server),
            ok = gen_tcp:send(Client, hello("www.example.org")),
            ?assertMatch({error, _}, gen_tcp:recv(Client, 0, ?TIMEOUT))
        end),
        served(Server, [{server_name_indication, disable}])
    end).

-spec ends_with_the_other(turn_kit:config()) -> _.
ends_with_the_other(Config) ->
    doc("a side that is reset takes the other along, with bytes that wait"),
    {Listen, Address} = web(),
    passing(Config, [{any, Address}], fun(Server) ->
        [begin
             {Client, Web} = passed(Server, Listen, "www.example.org"),
             {One, Other} = case First of client -> {Client, Web}; web -> {Web, Client} end,
             ok = inet:setopts(Other, [{send_timeout, 200}, {high_watermark, 1}]),
             _ = fill(Other, binary:copy(<<1>>, 65536)),
             ok = inet:setopts(One, [{linger, {true, 0}}]),
             ok = gen_tcp:close(One),
             ?assertMatch({error, _}, gen_tcp:recv(Other, 0, ?TIMEOUT)),
             gen_tcp:close(Other)
         end || First <- [client, web]],
        eventually(fun() -> counter(Server, splices_closed) =:= 2 end)
    end).

-spec reload(turn_kit:config()) -> _.
reload(Config) ->
    doc("a reload names other web servers; what passes goes on"),
    {A, AddressA} = web(),
    {B, AddressB} = web(),
    passing(Config, [{any, AddressA}], fun(#{name := Name} = Server) ->
        {Client, Web} = passed(Server, A, "www.example.org"),
        Given = meerkat_settings:config(meerkat_registry:settings(Name)),
        ok = meerkat:reload(Name, Given#{https_backend := [{any, AddressB}]}),
        {Other, _} = passed(Server, B, "www.example.org"),
        ok = gen_tcp:send(Client, <<"still">>),
        received(Web, <<"still">>),
        ok = meerkat:reload(Name, Given#{https_backend := []}),
        served(Server, [{server_name_indication, "www.example.org"}]),
        ok = gen_tcp:send(Web, <<"and still">>),
        received(Client, <<"and still">>),
        [gen_tcp:close(S) || S <- [Client, Other]]
    end).

-spec relay_dies(turn_kit:config()) -> _.
relay_dies(Config) ->
    doc("the death of the relay program ends what it passes; the next one passes again"),
    {Listen, Address} = web(),
    passing(Config, [{any, Address}], fun(#{name := Name} = Server) ->
        {Client, Web} = passed(Server, Listen, "www.example.org"),
        {ok, Pid} = meerkat_relay:os_pid(Name),
        _ = os:cmd("kill -9 " ++ integer_to_list(Pid)),
        [?assertMatch({error, _}, gen_tcp:recv(S, 0, ?TIMEOUT)) || S <- [Client, Web]],
        eventually(fun() ->
            case meerkat:info(Name) of
                #{relay := {ok, _}, relay_restarts := 1} -> true;
                _ -> false
            end
        end),
        {Again, _} = passed(Server, Listen, "www.example.org"),
        gen_tcp:close(Again)
    end).

%%% Others behind

-spec curl(turn_kit:config()) -> _.
curl(Config) ->
    doc("nginx and HAProxy behind, by name, and a TURN client beside them; nginx knows the client"),
    Dir = proplists:get_value(dir, Config),
    [Www, Other] = [stream_kit:certificate(Dir, ec, Name)
                    || Name <- ["www.example.org", "other.example.org"]],
    First = turn_kit:free_ports(2),
    Large = crypto:strong_rand_bytes(3 bsl 20),
    ok = file:write_file(filename:join(Dir, "large"), Large),
    Documented = proxy_kit:snippet(Config, "server {", [
        {"127.0.0.1:8443", io_lib:format("127.0.0.1:~b", [First])},
        {"www.example.com", "www.example.org"}, {"/var/www/html", Dir},
        {"/etc/nginx/www.pem", maps:get(chain_file, Www)},
        {"/etc/nginx/www.key", maps:get(key_file, Www)}]),
    [Server, _] = string:split(Documented, "}", trailing),
    Nginx = proxy_kit:nginx(Dir, [], [Server, "location = /who { default_type text/plain; "
                                      "return 200 \"nginx $remote_addr\"; } }\n"]),
    Pem = filename:join(Dir, "other.pem"),
    ok = file:write_file(Pem, [maps:get(chain, Other), maps:get(key, Other)]),
    HaproxyDir = filename:join(Dir, "haproxy"),
    ok = filelib:ensure_dir(filename:join(HaproxyDir, "x")),
    Haproxy = proxy_kit:haproxy(HaproxyDir, [
        "defaults\n    mode http\n    timeout client 1m\n    timeout connect 5s\n"
        "    timeout server 1m\n",
        io_lib:format("frontend web\n    bind 127.0.0.1:~b ssl crt ~ts accept-proxy\n"
                      "    http-request return status 200 content-type text/plain "
                      "lf-string \"haproxy %[src]\"\n", [First + 1, Pem])]),
    Backends = [{any, {{127, 0, 0, 1}, First}},
                {<<"other.example.org">>, {{127, 0, 0, 1}, First + 1}}],
    try
        passing(Config, Backends, #{https_proxy_protocol => true}, fun(Passing) ->
            Ask = fun(Name, Path, More) -> ask(Passing, Config, Name, Path, More) end,
            ?assertEqual("nginx 127.0.0.9", Ask("www.example.org", "/who", "")),
            ?assertEqual("nginx 127.0.0.9", Ask("www.example.org", "/who", "--http1.1")),
            ?assertEqual("haproxy 127.0.0.9", Ask("other.example.org", "/", "")),
            %% Our own name, in a browser.
            ?assertEqual("nginx 127.0.0.9", Ask("turn.example.org", "/who", "-k")),
            File = filename:join(Dir, "fetched"),
            _ = Ask("www.example.org", "/large", "-o " ++ File),
            ?assertEqual({ok, Large}, file:read_file(File)),
            Client = allocated(Passing, [], #{transport => tls, to => address(Passing)}),
            turn_kit:close(Client)
        end)
    after
        [proxy_kit:end_program(P) || P <- [Nginx, Haproxy]]
    end.

ask(Server, Config, Name, Path, More) ->
    {_, Port} = address(Server),
    Ca = filename:join(proplists:get_value(dir, Config), "trusted.pem"),
    ok = file:write_file(Ca, [element(2, file:read_file(F))
                              || F <- filelib:wildcard(filename:join(
                                          proplists:get_value(dir, Config), "*.ec.*.pem"))]),
    os:cmd(lists:flatten(io_lib:format(
        "curl -sS --max-time 30 --interface 127.0.0.9 --cacert ~ts --resolve ~ts:~b:127.0.0.1 ~ts "
        "https://~ts:~b~ts", [Ca, Name, Port, More, Name, Port, Path]))).

%%% HTTP where it is not expected

-spec x93_http_is_answered(turn_kit:config()) -> _.
x93_http_is_answered(Config) ->
    doc("HTTP on a port of ours gets a short answer that says what the port is, and the end (X93)"),
    with_server(settings(Config), fun(#{name := Name} = Server) ->
        #{tcp_listeners := [{_, Tcp} | _]} = meerkat:info(Name),
        {_, Tls} = address(Server),
        [counted(Server, connections_http, fun() ->
             Said = os:cmd(io_lib:format("curl -sSik --no-alpn --max-time 30 "
                                         "~ts~ts://127.0.0.1:~b/", [More, Scheme, Port])),
             ?assertMatch({_, "HTTP/1.1 400 " ++ _}, {Said, Said}),
             ?assertNotEqual({Said, nomatch}, {Said, string:find(Said, "speaks STUN and TURN")})
         end) || {Scheme, Port} <- [{"http", Tcp}, {"https", Tcp}, {"http", Tls}, {"https", Tls}],
                 More <- ["", "-X POST -d x=y "]]
    end).

-spec x97_half_hello(turn_kit:config()) -> _.
x97_half_hello(Config) ->
    doc("a hello that ends in the middle, or that is none, ends the connection (X97)"),
    {_, Address} = web(),
    passing(Config, [{any, Address}], fun(Server) ->
        Half = connect(Server),
        ok = gen_tcp:send(Half, binary:part(hello("www.example.org"), 0, 700)),
        ok = gen_tcp:shutdown(Half, write),
        ?assertEqual({error, closed}, gen_tcp:recv(Half, 0, ?TIMEOUT)),
        counted(Server, handshakes_broken, fun() ->
            Broken = connect(Server),
            ok = gen_tcp:send(Broken, <<22, 3, 1, 0, 5, 1, 0, 0, 1, 0>>),
            %% An alert, and the end.
            {ok, <<21, 3, _/binary>>} = gen_tcp:recv(Broken, 0, ?TIMEOUT)
        end)
    end).
