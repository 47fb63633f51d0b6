%% The client and the check over real sockets, against Debian's coturn and against Meerkat; how URIs
%% are read, and what is said of options that are wrong. coturn is a requirement: where turnserver
%% is missing its groups fail. What the client sends and when is client_core_SUITE's.
-module(client_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(turn_kit, [doc/1, eventually/1]).
-import(client_kit, [check/1, words/1]).

-define(MAPPED, {{203, 0, 113, 9}, 40000}).
-define(PEER, {{198, 51, 100, 7}, 6000}).
-define(REALM, <<"example.org">>).
-define(USER, <<"alice">>).
-define(PASSWORD, <<"wonderland">>).
-define(SERVER_NAMES, "DNS:localhost,IP:127.0.0.1,IP:::1").
-define(V6, {0, 0, 0, 0, 0, 0, 0, 1}).

%% Ends a case that waits for what does not come.
suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, uri}, {group, alone}, {group, arguments},
     {group, coturn}, {group, meerkat}].

groups() ->
    Everywhere = [everything_once, allocate_twice, short_lifetime, even_port_and_token,
                  release_and_again, close_gives_back, owner_ends, taken_five_tuple,
                  wrong_password, no_credentials, forbidden_peer, foreign_family,
                  nothing_listens, server_gone,
                  check_passes, check_wrong_password, check_nothing_listens],
    OverUdp = [taken_five_tuple, nothing_listens, server_gone],
    Streams = (Everywhere -- OverUdp) ++ [stream_nothing_listens, stream_server_gone],
    Server = [{v4, [], Everywhere}, {v6, [], Everywhere}],
    Stream = [{tcp, [], Streams}, {tls, [], Streams}],
    [{uri, [parallel], [uri_taken, uri_transport, uri_refused]},
     {alone, [], [options_refused, silence, stranger, lost_in_words, every_reason_in_words]},
     {arguments, [], [wrong_arguments, environment, credentials_from_secret]},
     {coturn, [], Server ++ Stream ++ [alternate_server, check_by_secret, check_outside]},
     {meerkat, [], Server ++ Stream ++ [check_by_secret, sha256_and_hashed_name]}].

init_per_group(Kind, Config) when Kind =:= coturn; Kind =:= meerkat ->
    [{kind, Kind}, {server, start(Kind)} | Config];
init_per_group(v4, Config) ->
    [{family, inet} | Config];
init_per_group(v6, Config) ->
    [{family, inet6} | Config];
init_per_group(tcp, Config) ->
    [{family, inet}, {transport, tcp} | Config];
init_per_group(tls, Config) ->
    [{family, inet6}, {transport, tls} | Config];
init_per_group(_, Config) ->
    Config.

end_per_group(Kind, Config) when Kind =:= coturn; Kind =:= meerkat ->
    stop(server(Config));
end_per_group(_, _) ->
    ok.

%% A case's clients end quietly, before the case's own end takes them along.
end_per_testcase(_, _) ->
    [ok = meerkat_client:close(Client) || {clients, Clients} <- get(), Client <- Clients],
    ok.

%% ----------------------------------------------------------------------------------------- URI

uri_taken(_) ->
    doc("host, port and transport as written, defaults by scheme (RFC7064 3, RFC7065 3)"),
    Taken = [{"turn:example.org", turn, "example.org", 3478, default},
             {"turns:example.org", turns, "example.org", 5349, default},
             {"turn:example.org:8000", turn, "example.org", 8000, default},
             {"turn:example.org?transport=udp", turn, "example.org", 3478, udp},
             {"turn:example.org?transport=tcp", turn, "example.org", 3478, tcp},
             {"turns:example.org?transport=tcp", turns, "example.org", 5349, tcp},
             {"turn:example.org?transport=x-y.1~_", turn, "example.org", 3478, "x-y.1~_"},
             {"TURN:Example.org:?transport=UDP", turn, "Example.org", 3478, udp},
             {<<"turn:192.0.2.1:1">>, turn, {192, 0, 2, 1}, 1, default},
             {["turn:", "[::1]", ":65535"], turn, ?V6, 65535, default},
             {"stun:example.org", stun, "example.org", 3478, default},
             {"stuns:192.0.2.1", stuns, {192, 0, 2, 1}, 5349, default},
             {"STUNS:[::1]:443", stuns, ?V6, 443, default},
             {"turn:[2001:db8::1]", turn, {16#2001, 16#db8, 0, 0, 0, 0, 0, 1}, 3478, default}],
    [?assertEqual({Uri, {ok, #{scheme => S, host => H, port => P, transport => T}}},
                  {Uri, meerkat_client_uri:parse(Uri)}) || {Uri, S, H, P, T} <- Taken],
    ok.

uri_transport(_) ->
    doc("UDP unless asked otherwise, TLS over TCP where the scheme wants it secure (RFC7065 3.2)"),
    Asked = [{"turn:a", {ok, udp}}, {"turn:a?transport=udp", {ok, udp}}, {"stun:a", {ok, udp}},
             {"turn:a?transport=tcp", {ok, tcp}}, {"turns:a", {ok, tls}},
             {"turns:a:443?transport=tcp", {ok, tls}}, {"stuns:a", {ok, tls}},
             {"turns:a?transport=udp", {ok, dtls}}, {"turn:a?transport=sctp", {error, "sctp"}}],
    [begin
         {ok, Parsed} = meerkat_client_uri:parse(Uri),
         ?assertEqual({Uri, Transport}, {Uri, meerkat_client_uri:transport(Parsed)})
     end || {Uri, Transport} <- Asked],
    ok.

uri_refused(_) ->
    doc("what the grammar does not allow is refused with the reason (RFC7065 3.1)"),
    Refused = [{"example.org:3478", scheme}, {"sip:example.org", scheme}, {"", scheme},
               {"stun:example.org?transport=udp", stun_query}, {"stuns:a?", stun_query},
               {"turn", scheme}, {"turn:", empty_host}, {"turn::3478", empty_host},
               {"turn:?transport=udp", empty_host}, {"turn://example.org", slashes},
               {"turn:alice@example.org", userinfo}, {"turn:alice:pw@example.org", userinfo},
               {"turn:1.2.3", ipv4}, {"turn:1.2.3.256", ipv4}, {"turn:3478", ipv4},
               {"turn:::1", ipv6}, {"turn:2001:db8::1", ipv6}, {"turn:[::1", ipv6},
               {"turn:[fe80::1%eth0]", ipv6}, {"turn:[192.0.2.1]", ipv6}, {"turn:[]", ipv6},
               {"turn:exa mple.org", host}, {"turn:ex%41mple.org", host},
               {"turn:example.org/", host}, {"turn:example.org#x", host},
               {"turn:example.org:0", port}, {"turn:example.org:65536", port},
               {"turn:example.org:1:2", port}, {"turn:example.org:-1", port},
               {"turn:example.org:80x", port}, {"turn:[::1]3478", port},
               {"turn:example.org?", query}, {"turn:example.org?ttl=1", query},
               {"turn:example.org?Transport=udp", query},
               {"turn:example.org?transport=", transport},
               {"turn:example.org?transport=udp&x=y", transport}],
    [?assertEqual({bad_uri, Uri, Problem}, element(2, meerkat_client_uri:parse(Uri)))
     || {Uri, Problem} <- Refused],
    [begin
         Words = words(meerkat_client:format_error({bad_uri, Uri, Problem})),
         ?assertMatch([_ | _], string:find(Words, "\"" ++ Uri ++ "\"")),
         ?assertMatch([_ | _], string:find(Words, "turn:HOST"))
     end || {Uri, Problem} <- Refused],
    ?assertEqual({error, {bad_uri, "", not_text}}, meerkat_client_uri:parse(<<255>>)),
    ?assertEqual({error, {bad_uri, "", not_text}}, meerkat_client_uri:parse({127, 0, 0, 1})).

%% -------------------------------------------------------------------------- without a server

options_refused(_) ->
    doc("what cannot start says why, and sends no exit signal"),
    Base = #{server => {{127, 0, 0, 1}, 3478}},
    Fingerprint = meerkat_certificate:fingerprint(<<"certificate">>),
    Refused = [{#{}, {bad_option, server}},
               {Base#{username => "a"}, {bad_option, password}},
               {Base#{password => "a"}, {bad_option, username}},
               {Base#{username => "", password => "a"}, {bad_option, username}},
               {Base#{username => "a", password => <<255>>}, {bad_option, password}},
               {Base#{familly => inet}, {bad_option, familly}},
               {Base#{family => ipv4}, {bad_option, family}},
               {Base#{rto => 0}, {bad_option, rto}},
               {Base#{local => {1, 2, 3}}, {bad_option, local}},
               {Base#{local => ?V6}, {bad_option, local}},
               {Base#{owner => me}, {bad_option, owner}},
               {#{server => {{127, 0, 0, 1}, 0}}, {bad_option, server}},
               {#{server => "turns:localhost?transport=sctp"},
                {unsupported_uri, "turns:localhost?transport=sctp", "sctp"}},
               {#{server => "turn:localhost", transport => tcp}, {bad_option, transport}},
               {Base#{transport => sctp}, {bad_option, transport}},
               {Base#{ti => 0}, {bad_option, ti}},
               {Base#{fingerprint => Fingerprint}, {only_for_tls, fingerprint}},
               {#{server => "turn:localhost?transport=tcp", insecure => true},
                {only_for_tls, insecure}},
               {Base#{transport => tls, fingerprint => "00"}, {bad_option, fingerprint}},
               {Base#{transport => tls, insecure => yes}, {bad_option, insecure}},
               {Base#{transport => tls, insecure => true, fingerprint => Fingerprint},
                {bad_option, insecure}},
               {Base#{transport => tls, cacertfile => "/dev/null"},
                {no_certificates, "/dev/null"}},
               {Base#{transport => tls, cacertfile => "/no/such/file"},
                {no_certificates, "/no/such/file"}},
               {#{server => "turn://x"}, {bad_uri, "turn://x", slashes}},
               {#{server => "turn:no-such-host.invalid"},
                {unresolved, "no-such-host.invalid", nxdomain}},
               {Base#{local => {192, 0, 2, 77}}, eaddrnotavail}],
    [?assertEqual({Options, {error, Reason}}, {Options, meerkat_client:start_link(Options)})
     || {Options, Reason} <- Refused],
    {ok, Client} = meerkat_client:start_link(Base),
    ?assertEqual({error, {bad_option, lifetime}},
                 meerkat_client:allocate(Client, #{lifetime => x})),
    ?assertError(badarg, meerkat_client:send(Client, {{127, 0, 0, 1}, 65536}, <<>>)),
    ?assertError(badarg, meerkat_client:send(Client, ?PEER, <<0:520008>>)),
    ?assertError(badarg, meerkat_client:permit(Client, [{1, 2, 3}])),
    ?assertEqual({error, no_allocation}, meerkat_client:permit(Client, element(1, ?PEER))),
    ?assertEqual({error, no_allocation}, meerkat_client:bind_channel(Client, ?PEER)),
    ?assertEqual({error, no_allocation}, meerkat_client:refresh(Client)),
    ?assertEqual({error, no_allocation}, meerkat_client:release(Client)),
    ok = meerkat_client:close(Client),
    ok = meerkat_client:close(Client),
    ?assertEqual({error, closed}, meerkat_client:binding(Client)),
    ok = meerkat_client:send(Client, ?PEER, <<>>),
    receive {meerkat_client, Client, {closed, normal}} -> ok end.

silence(_) ->
    doc("a server that says nothing: timeout, after as many requests as asked for (RFC8489 6.2.1)"),
    {Socket, Address} = peer(inet),
    {ok, Client} = meerkat_client:start_link(#{server => Address, rto => 10, rc => 3, rm => 2}),
    ?assertEqual({error, timeout}, meerkat_client:binding(Client)),
    Requests = [receive {udp, Socket, _, _, Packet} -> Packet end || _ <- [1, 2, 3]],
    ?assertEqual(1, length(lists:usort(Requests))),
    ok = meerkat_client:close(Client).

stranger(_) ->
    doc("a stranger's answer does not reach the client, whose socket knows its server only"),
    {Socket, Address} = peer(inet),
    {ok, Client} = meerkat_client:start_link(#{server => Address, rto => 10000}),
    #{local := {_, Port}} = meerkat_client:info(Client),
    {Stranger, _} = peer(inet),
    Self = self(),
    _ = spawn_link(fun() -> Self ! meerkat_client:binding(Client) end),
    Request = receive {udp, Socket, _, _, Later} -> Later end,
    ok = gen_udp:send(Stranger, {127, 0, 0, 1}, Port, mapped(Request, ?PEER)),
    ok = gen_udp:send(Socket, {127, 0, 0, 1}, Port, mapped(Request, ?MAPPED)),
    ?assertEqual({ok, ?MAPPED}, receive {_, _} = Result -> Result end),
    ?assertMatch(#{ignored := 0}, meerkat_client:info(Client)),
    ok = meerkat_client:close(Client).

%% The answer to a Binding.
mapped(Request, Address) ->
    {ok, #{method := binding, transaction_id := Id}} = meerkat_stun:decode(Request),
    meerkat_stun:encode(#{class => success, method => binding, transaction_id => Id,
                          attributes => [{xor_mapped_address, Address}]}).

lost_in_words(_) ->
    doc("what the owner is told can be told to people"),
    ?assertEqual("the allocation is lost: it expired before it could be renewed",
                 words(meerkat_client:format_error({allocation, expired}))),
    ?assertEqual("the permission for 192.0.2.1, ::1 is lost: 403: the server forbids this peer "
                 "address", words(meerkat_client:format_error(
                                    {permissions, [{192, 0, 2, 1}, ?V6], {403, <<>>}}))),
    ?assertEqual("the channel to [::1]:5 is lost: no answer from x:1: a firewall, the wrong port, "
                 "or the server is down",
                 words(meerkat_client:format_error({channel, {?V6, 5}, timeout}, "x:1"))).

every_reason_in_words(_) ->
    doc("format_error knows every reason, and lets nothing from the wire through unseen"),
    Reasons = [{Code, <<"Phrase">>} || Code <- [300, 400, 401, 403, 405, 420, 437, 438, 440, 441,
                                                442, 443, 446, 447, 486, 500, 508, 699]]
        ++ [timeout, econnrefused, enetunreach, ehostunreach, eperm, bad_integrity, bid_down,
            no_algorithm, no_credentials, no_allocation, already_allocated, no_channels, expired,
            closed, nxdomain, eaddrinuse, {unknown_attributes, [1, 16#7fff]},
            {bad_response, allocate}, {unresolved, "h", nxdomain}, {unresolved, "h", timeout},
            {unsupported_uri, "turn:h", "sctp"},
            {bad_option, family}, {bad_option, insecure}, {bad_option, fingerprint},
            {only_for_tls, insecure}, {no_certificates, "f"}, no_ssl,
            connection_closed, econnreset, {not_stun, <<"HTTP/1.1 400">>},
            {not_stun, <<21, 3, 3, 0, 2>>}, {not_stun, <<"hello">>}]
        ++ [{tls, Why} || Why <- [closed, timeout, no_tls, {alert, decrypt_error},
                                  {other, "something strange"}]]
        ++ [{tls, {certificate, Fault}}
            || Fault <- [{expired, {{2026, 1, 2}, {3, 4, 5}}},
                         {not_yet_valid, {{2026, 1, 2}, {3, 4, 5}}},
                         {wrong_name, "h", ["a", "b"]}, {wrong_name, "h", []}, self_signed,
                         unknown_issuer, {fingerprint, "AA"}, {bad_cert, invalid_signature}]],
    Said = [words(meerkat_client:format_error(Reason)) || Reason <- Reasons],
    ?assertEqual(length(Reasons), length(lists:usort(Said))),
    [?assertMatch([_, _, _, _, _, _, _, _, _, _ | _], Words) || Words <- Said],
    ?assertEqual("403 (a[31mb): the server forbids this peer address",
                 words(meerkat_client:format_error({403, <<"a\e[31m\nb">>}))),
    ?assertMatch("401 (" ++ _, words(meerkat_client:format_error({401, <<255, "x">>}))).

%% ------------------------------------------------------------------------- against a server

everything_once(Config) ->
    doc("Binding, Allocate, CreatePermission, data by indication, ChannelBind, data by channel, "
        "Refresh, release, close (RFC8656)"),
    %% Nothing is asked twice, and so no second answer ignored, however slow this machine is.
    Client = client(Config, #{rto => 30000}),
    #{local := {_, Port} = Here} = meerkat_client:info(Client),
    ?assertEqual({ok, {loopback(Config), Port}}, meerkat_client:binding(Client)),
    {ok, #{relayed := Relayed, mapped := Mapped, lifetime := 600, server := Server}} =
        meerkat_client:allocate(Client),
    ?assertEqual({Here, address(Config)}, {Mapped, Server}),
    ?assertEqual(loopback(Config), element(1, Relayed)),
    {Socket, Peer} = peer(family(Config)),
    ok = meerkat_client:permit(Client, Peer),
    there_and_back(Client, Relayed, Socket, Peer, indication),
    {ok, 16#4000} = meerkat_client:bind_channel(Client, Peer),
    {ok, 16#4000} = meerkat_client:bind_channel(Client, Peer),
    there_and_back(Client, Relayed, Socket, Peer, channel),
    {OtherSocket, Other} = peer(family(Config)),
    there_and_back(Client, Relayed, OtherSocket, Other, indication),
    {ok, 16#4001} = meerkat_client:bind_channel(Client, Other),
    ?assertEqual({ok, 600}, meerkat_client:refresh(Client)),
    ?assertMatch(#{relayed := Relayed, lifetime := 600, ignored := 0,
                   channels := #{Peer := 16#4000, Other := 16#4001}},
                 meerkat_client:info(Client)),
    ok = meerkat_client:release(Client),
    ?assertEqual({error, no_allocation}, meerkat_client:bind_channel(Client, Peer)),
    ok = meerkat_client:close(Client),
    receive {meerkat_client, Client, Last} -> ?assertEqual({closed, normal}, Last) end.

allocate_twice(Config) ->
    doc("one client, one allocation; another client, another relayed address"),
    {Client, #{relayed := First}} = with_allocation(Config),
    ?assertEqual({error, already_allocated}, meerkat_client:allocate(Client)),
    {Other, #{relayed := Second}} = with_allocation(Config),
    ?assertNotEqual(First, Second),
    [ok = meerkat_client:release(C) || C <- [Client, Other]].

short_lifetime(Config) ->
    doc("a longer lifetime is granted, zero ends it (RFC8656 8.1)"),
    Client = client(Config),
    {ok, #{lifetime := 1200}} = meerkat_client:allocate(Client, #{lifetime => 1200}),
    ?assertEqual({ok, 900}, meerkat_client:refresh(Client, 900)),
    ?assertEqual({ok, 900}, meerkat_client:refresh(Client)),
    ?assertEqual(ok, meerkat_client:refresh(Client, 0)),
    ?assertEqual({error, no_allocation}, meerkat_client:refresh(Client)).

even_port_and_token(Config) ->
    doc("an even port with the next one reserved, which the token gets (RFC8656 7.1)"),
    Client = client(Config, #{}),
    {ok, #{relayed := {Ip, Even}, reservation_token := Token}} =
        meerkat_client:allocate(Client, #{even_port => reserve}),
    ?assertEqual(0, Even rem 2),
    {ok, #{relayed := Next}} =
        meerkat_client:allocate(client(Config, #{}), #{reservation_token => Token}),
    ?assertEqual({Ip, Even + 1}, Next),
    {ok, #{relayed := {_, Port}}} =
        meerkat_client:allocate(client(Config, #{}), #{even_port => even}),
    ?assertEqual(0, Port rem 2).

release_and_again(Config) ->
    doc("after release/1 the same client may allocate again, by another address if it must"),
    {Client, _} = with_allocation(Config),
    ok = meerkat_client:release(Client),
    {ok, #{relayed := _}} = meerkat_client:allocate(Client),
    ok = meerkat_client:release(Client).

close_gives_back(Config) ->
    doc("close/1 gives the allocation back: a peer's datagrams end, and its port is free"),
    {Client, #{relayed := {Ip, Port}}} = with_allocation(Config),
    ok = meerkat_client:close(Client),
    %% Another client on the same server is answered after the Refresh that close/1 sent.
    eventually(fun() ->
        _ = meerkat_client:binding(client(Config)),
        case gen_udp:open(Port, [{ip, Ip}, binary | family_options(Config)]) of
            {ok, Socket} -> gen_udp:close(Socket), true;
            {error, eaddrinuse} -> false
        end
    end).

owner_ends(Config) ->
    doc("the client ends with its owner, and gives the allocation back"),
    Self = self(),
    Owner = spawn(fun() -> receive stop -> ok end end),
    Client = client(Config, #{owner => Owner}),
    {ok, _} = meerkat_client:allocate(Client),
    Monitor = monitor(process, Client),
    Owner ! stop,
    receive {'DOWN', Monitor, process, Client, Reason} -> ?assertEqual(normal, Reason) end,
    %% A linked caller that exits takes the client along.
    {Caller, M} = spawn_monitor(fun() -> Self ! {client, client(Config)}, receive stop -> ok end
                                end),
    Linked = receive {client, C} -> C end,
    M2 = monitor(process, Linked),
    exit(Caller, shutdown),
    receive {'DOWN', M, process, Caller, _} -> ok end,
    receive {'DOWN', M2, process, Linked, Why} -> ?assertEqual(shutdown, Why) end.

taken_five_tuple(Config) ->
    doc("437 where another client's allocation stands on our address (RFC8656 7.2, 7.4)"),
    _ = process_flag(trap_exit, true),
    Client = client(Config),
    {ok, #{mapped := {_, Port}}} = meerkat_client:allocate(Client),
    exit(Client, kill),
    receive {'EXIT', Client, killed} -> ok end,
    Next = client(Config, #{local => {loopback(Config), Port}}),
    ?assertMatch({error, {437, _}}, meerkat_client:allocate(Next)).

wrong_password(Config) ->
    doc("401, in words (RFC8489 9.2.4)"),
    Client = client(Config, #{password => "nonsense"}),
    {error, {401, _} = Reason} = meerkat_client:allocate(Client),
    ?assertMatch([_ | _], string:find(words(meerkat_client:format_error(Reason)),
                                      "wrong username or password")),
    ?assertMatch({error, {401, _}},
                 meerkat_client:allocate(client(Config, #{username => "eve", password => "x"}))).

no_credentials(Config) ->
    doc("the server asks, we have none"),
    {ok, Client} = meerkat_client:start_link((asking(Config))#{server => address(Config)}),
    _ = put(clients, [Client]),
    ?assertEqual({error, no_credentials}, meerkat_client:allocate(Client)),
    ?assertMatch({ok, _}, meerkat_client:binding(Client)).

forbidden_peer(Config) ->
    doc("403 for permission and channel; nothing else is harmed (RFC8656 10.2, 12.2)"),
    {Client, _} = with_allocation(Config),
    Forbidden = forbidden(family(Config)),
    {error, {403, _} = Reason} = meerkat_client:permit(Client, Forbidden),
    ?assertMatch([_ | _], string:find(words(meerkat_client:format_error(Reason)),
                                      "forbids this peer")),
    ?assertMatch({error, {403, _}}, meerkat_client:bind_channel(Client, {Forbidden, 9})),
    ?assertMatch({error, {403, _}}, meerkat_client:permit(Client, [loopback(Config), Forbidden])),
    ok = meerkat_client:permit(Client, loopback(Config)),
    ?assertMatch(#{channels := Channels, permissions := [_]} when Channels =:= #{},
                 meerkat_client:info(Client)).

foreign_family(Config) ->
    doc("443 for a peer of the other family (RFC8656 9.2)"),
    {Client, _} = with_allocation(Config),
    Other = case family(Config) of
                inet -> ?V6;
                inet6 -> {127, 0, 0, 1}
            end,
    ?assertMatch({error, {443, _}}, meerkat_client:permit(Client, Other)).

nothing_listens(Config) ->
    doc("the wrong port is said at once, by ICMP (RFC8489 6.2.1)"),
    {Socket, Address} = peer(family(Config)),
    ok = gen_udp:close(Socket),
    Client = client(Config, #{server => Address}),
    {error, econnrefused} = meerkat_client:binding(Client),
    ?assertMatch([_ | _], string:find(words(meerkat_client:format_error(econnrefused)),
                                      "wrong port")),
    ?assertEqual({error, econnrefused}, meerkat_client:allocate(Client)).

server_gone(Config) ->
    doc("the owner hears that the allocation is lost"),
    Server = start(proplists:get_value(kind, Config)),
    Own = [{server, Server} | Config],
    {Client, #{relayed := Relayed}} = with_allocation(Own),
    {Socket, Peer} = peer(family(Config)),
    ok = meerkat_client:permit(Client, Peer),
    there_and_back(Client, Relayed, Socket, Peer, indication),
    ok = stop(Server),
    ?assertEqual({allocation, econnrefused}, lost(Client, Peer)),
    ?assertEqual({error, econnrefused}, meerkat_client:allocate(Client)),
    ok = meerkat_client:close(Client).

stream_nothing_listens(Config) ->
    doc("the wrong port is said at once, when the client starts"),
    {Socket, Address} = peer(family(Config)),
    ok = gen_udp:close(Socket),
    ?assertEqual({error, econnrefused},
                 meerkat_client:start_link((asking(Config))#{server => Address})).

stream_server_gone(Config) ->
    doc("the owner hears that the allocation is lost with the connection; what is asked later "
        "tries another one"),
    Server = start(proplists:get_value(kind, Config)),
    Own = [{server, Server} | Config],
    {Client, _} = with_allocation(Own),
    ok = stop(Server),
    receive
        {meerkat_client, Client, Lost} ->
            ?assertMatch({lost, {allocation, Why}} when Why =:= connection_closed;
                                                        Why =:= econnreset, Lost)
    end,
    ?assertEqual(#{transport => transport(Config)},
                 maps:with([transport, local, relayed], meerkat_client:info(Client))),
    ?assertEqual({error, econnrefused}, meerkat_client:allocate(Client)),
    ?assertEqual({error, econnrefused}, meerkat_client:binding(Client)),
    ok = meerkat_client:close(Client).

alternate_server(Config) ->
    doc("coturn sends us on (300), and we arrive (RFC8489 10)"),
    {Ip, Port} = maps:get(inet, server(Config)),
    Target = inet:ntoa(Ip) ++ ":" ++ integer_to_list(Port),
    Front = start(coturn, ["--alternate-server=" ++ Target]),
    try
        Client = client([{family, inet}, {server, Front} | Config]),
        ?assertMatch({ok, #{server := {Ip, Port}}}, meerkat_client:allocate(Client)),
        ok = meerkat_client:release(Client)
    after
        ok = stop(Front)
    end.

%% ------------------------------------------------------------------------------------- check

check_passes(Config) ->
    doc("all steps, by the command, exit code 0"),
    #{user := User, password := Password} = server(Config),
    Family = case family(Config) of inet -> "4"; inet6 -> "6" end,
    Uri = uri(address(Config), Config),
    {0, Output} = check([Uri, "--user", User, "--password", Password, "--family", Family], Config),
    [Heading | Lines] = string:lexemes(Output, "\n"),
    ?assertEqual(Uri ++ " as " ++ User, Heading),
    Titles = ["Connect" || transport(Config) =/= udp] ++
             ["Binding", "Allocate twice", "CreatePermission", "Indications both ways",
              "ChannelBind", "ChannelData both ways", "Refresh", "Release"],
    ?assertEqual(length(Titles) + 1, length(Lines)),
    [?assertMatch({match, _}, re:run(Line, "^  " ++ Title ++ " +ok +[0-9.]+ ms"))
     || {Title, Line} <- lists:zip(Titles, lists:droplast(Lines))],
    ?assertMatch({match, _}, re:run(lists:last(Lines), "^All [89] steps passed in ")).

check_wrong_password(Config) ->
    doc("ends at Allocate and says why, exit code 1"),
    #{user := User} = server(Config),
    {1, Output} = check([uri(address(Config), Config), "--user", User, "--password",
                         "nonsense"], Config),
    ?assertMatch({match, _}, re:run(Output, "Binding +ok")),
    ?assertMatch({match, _}, re:run(Output, "Allocate twice +FAILED .*wrong username or password")),
    ?assertMatch({match, _}, re:run(Output, "Hint: ")),
    ?assertMatch({match, _}, re:run(Output, "Allocate twice failed. Not tried: CreatePermission, "
                                    ".*Release")),
    {1, Nobody} = check([uri(address(Config), Config)], Config),
    ?assertMatch({match, _}, re:run(Nobody, "none were given.*\n.*Hint: give --user")).

check_nothing_listens(Config) ->
    doc("ends at Binding, or at the connection, and names the address, exit code 1"),
    {Socket, Address} = peer(family(Config)),
    ok = gen_udp:close(Socket),
    {1, Output} = check([uri(Address, Config)], Config),
    ?assertMatch([_ | _], string:find(Output, "nothing listens at "
                                      ++ meerkat_client:format_address(Address))).

check_by_secret(Config) ->
    doc("credentials from the shared secret, given or from the environment"),
    Server = start(proplists:get_value(kind, Config), secret),
    Address = {_, Port} = maps:get(inet, Server),
    try
        {0, _} = check([uri(Address), "--secret", "s3cret"]),
        {1, Wrong} = check([uri(Address), "--secret", "other"]),
        ?assertMatch({match, _}, re:run(Wrong, "Hint: is the secret the server's")),
        {0, _} = with_environment([{"STUN_SECRET", "s3cret"}, {"RELAY_IP", "127.0.0.1"},
                                   {"LISTEN_PORT", integer_to_list(Port)}],
                                  fun() -> check([]) end),
        {ok, Steps} = meerkat_check:run(options_by_secret(Address)),
        ?assertEqual(8, length([ok || #{result := ok, ms := Ms} <- Steps, Ms >= 0]))
    after
        ok = stop(Server)
    end.

sha256_and_hashed_name(_) ->
    doc("every request to a server that offers both has a hash for a name and a key by SHA-256, "
        "without being told to (RFC8489 9.2.5)"),
    turn_kit:with_server(#{secrets => [], require_sha256 => true}, fun(Server) ->
        #{ip := Ip, port := Port, name := Name} = Server,
        Between = listener_between({Ip, Port}),
        {ok, Client} = meerkat_client:start_link(#{server => Between, username => ?USER,
                                                   password => ?PASSWORD}),
        {ok, _} = meerkat_client:allocate(Client),
        ?assertMatch([#{user := ?USER}], meerkat:allocations(Name)),
        {_, Peer} = peer(inet),
        ok = meerkat_client:permit(Client, Peer),
        {ok, _} = meerkat_client:bind_channel(Client, Peer),
        {ok, _} = meerkat_client:refresh(Client),
        ok = meerkat_client:release(Client),
        ok = meerkat_client:close(Client),
        [#{integrity := none} | Signed] = overheard(),
        ?assert(length(Signed) >= 5),
        Hash = stun_model:userhash(?USER, ?REALM),
        [begin
             ?assertMatch(#{integrity := sha256}, Request),
             ?assertEqual([Hash, undefined, {2, <<>>}, [{2, <<>>}, {1, <<>>}]],
                          [turn_kit:get(Attribute, Request)
                           || Attribute <- [userhash, username, password_algorithm,
                                            password_algorithms]])
         end || Request <- Signed]
    end).

%% An address that passes on to the server what comes to it, and back; the caller overhears.
listener_between({Ip, Port}) ->
    Self = self(),
    Pid = spawn_link(fun() ->
        [Near, Far] = [element(2, gen_udp:open(0, [binary, {ip, loopback(inet)}]))
                       || _ <- [near, far]],
        Self ! {self(), inet:sockname(Near)},
        pass_on(Self, Near, Far, {Ip, Port}, none)
    end),
    receive {Pid, {ok, Address}} -> Address end.

pass_on(Listener, Near, Far, {Ip, Port} = Server, Client) ->
    receive
        {udp, Near, FromIp, FromPort, Bytes} ->
            Listener ! {overheard, Bytes},
            ok = gen_udp:send(Far, Ip, Port, Bytes),
            pass_on(Listener, Near, Far, Server, {FromIp, FromPort});
        {udp, Far, Ip, Port, Bytes} ->
            {ClientIp, ClientPort} = Client,
            ok = gen_udp:send(Near, ClientIp, ClientPort, Bytes),
            pass_on(Listener, Near, Far, Server, Client)
    end.

overheard() ->
    receive
        {overheard, Bytes} ->
            {ok, #{class := request} = Request} = stun_model:decode(Bytes),
            [Request | overheard()]
    after 0 -> []
    end.

check_outside(_) ->
    doc("a server that relays to none of its own addresses: the peer is a socket here, and the "
        "check says so; where that is forbidden too, it ends"),
    Relay = ["--relay-ip=127.0.0.2"],
    Users = ["--lt-cred-mech", "--user=alice:wonderland", "--denied-peer-ip=127.0.0.2"],
    {0, Passed} = check_on(start_coturn(Users, Relay)),
    ?assertMatch({match, _}, re:run(Passed, "CreatePermission +ok .*the peer is a socket here")),
    ?assertMatch({match, _}, re:run(Passed, "ChannelData both ways +ok")),
    {1, Failed} = check_on(start_coturn(["--denied-peer-ip=127.0.0.1" | Users], Relay)),
    ?assertMatch({match, _}, re:run(Failed, "CreatePermission +FAILED .*neither.*127\\.0\\.0\\.1:"
                                    ".*may be peers.*\n.*Hint: ")).

check_on(#{inet := Address, user := User, password := Password} = Server) ->
    try check([uri(Address), "--user", User, "--password", Password])
    after stop(Server)
    end.

%% --------------------------------------------------------------------------------- arguments

wrong_arguments(_) ->
    doc("exit code 2, and one sentence that says what is wrong"),
    Wrong = [{["--nonsense"], "there is no option --nonsense"},
             {["--user"], "--user needs a value"},
             {["--secret", ""], "not empty"},
             {["--user", "a"], "--user needs --password"},
             {["--password", "a"], "--password needs --user"},
             {["--user", "a", "--password", "b", "--secret", "c"], "either --user"},
             {["--secret", "a", "--secret", "b"], "--secret is given twice"},
             {["--family", "5"], "--family is 4 or 6"},
             {["turn:a", "turn:b"], "one server at a time"},
             {["turn:a:b"], "the port must be a number"},
             {["a:3478"], "must begin with turn:"},
             {["turn:a?transport=sctp"], "asks for sctp"},
             {["turn:a", "--insecure"], "is for TLS"},
             {["turns:a", "--cacert", "/no/such"], "no certificates can be read"},
             {["turns:a", "--fingerprint", "abc"], "64 hexadecimal digits"},
             {["turns:a", "--insecure", "--cacert", "/etc/ssl/certs/ca-certificates.crt"],
              "not beside"}],
    [begin
         {2, Output} = check(Args),
         ?assertMatch({Args, [_ | _]}, {Args, string:find(Output, Words)})
     end || {Args, Words} <- Wrong],
    {0, Help} = check(["--help"]),
    ?assertMatch("usage: meerkatctl check" ++ _, Help).

environment(_) ->
    doc("without arguments the environment names server and secret; nonsense in it is refused"),
    {Socket, {_, Port}} = peer(inet6),
    ok = gen_udp:close(Socket),
    {1, Output} = with_environment([{"RELAY_IP", "::1"}, {"LISTEN_PORT", integer_to_list(Port)},
                                    {"STUN_SECRET", "x"}], fun() -> check([]) end),
    ?assertMatch({match, _}, re:run(Output, "^\\[::1\\]:[0-9]+ as [0-9]+:check\n")),
    {2, NoIp} = with_environment([{"RELAY_IP", "here"}], fun() -> check([]) end),
    ?assertMatch([_ | _], string:find(NoIp, "RELAY_IP=here is no IP address")),
    {2, NoPort} = with_environment([{"LISTEN_PORT", "0"}], fun() -> check([]) end),
    ?assertMatch([_ | _], string:find(NoPort, "LISTEN_PORT=0 is no port")).

credentials_from_secret(_) ->
    doc("the user name is when it ends and for whom, the password its HMAC-SHA1"),
    Before = erlang:system_time(second),
    {User, Password} = meerkat_check:rest_credentials("sharedsecret", "check", 600),
    [Expiry, <<"check">>] = binary:split(User, <<":">>),
    ?assert(binary_to_integer(Expiry) >= Before + 600),
    ?assertEqual(base64:encode(crypto:mac(hmac, sha, <<"sharedsecret">>, User)), Password).

%% -------------------------------------------------------------------------- helpers: network

server(Config) -> proplists:get_value(server, Config).
family(Config) -> proplists:get_value(family, Config).
transport(Config) -> proplists:get_value(transport, Config, udp).

address(Config) ->
    case {transport(Config), server(Config)} of
        {Transport, Server} when is_map_key(Transport, Server) ->
            maps:get(family(Config), maps:get(Transport, Server));
        {_, Addresses} -> maps:get(family(Config), Addresses)
    end.

%% What a client must be told of the server's transport.
asking(Config) ->
    case transport(Config) of
        udp -> #{};
        tcp -> #{transport => tcp};
        tls -> #{transport => tls, cacertfile => cacertfile(Config)}
    end.

cacertfile(Config) -> maps:get(cacertfile, server(Config)).

%% The same for the command.
uri(Address, Config) ->
    case transport(Config) of
        udp -> uri(Address);
        tcp -> uri(Address) ++ "?transport=tcp";
        tls -> "turns:" ++ meerkat_client:format_address(Address)
    end.

check(Args, Config) ->
    check(Args ++ [Arg || tls <- [transport(Config)], Arg <- ["--cacert", cacertfile(Config)]]).

loopback(inet) -> {127, 0, 0, 1};
loopback(inet6) -> ?V6;
loopback(Config) -> loopback(family(Config)).

%% Denied in start/2 below.
forbidden(inet) -> {127, 0, 0, 9};
forbidden(inet6) -> {16#2001, 16#db8, 0, 0, 0, 0, 0, 9}.

family_options(Config) -> [F || F <- [family(Config)], F =:= inet6].

client(Config) ->
    client(Config, #{family => family(Config)}).

client(Config, More) ->
    #{user := User, password := Password} = server(Config),
    {ok, Client} = meerkat_client:start_link(
        maps:merge((asking(Config))#{server => address(Config), username => User,
                                     password => Password, family => family(Config)}, More)),
    Clients = case get(clients) of
                  undefined -> [];
                  Some -> Some
              end,
    _ = put(clients, [Client | Clients]),
    Client.

with_allocation(Config) ->
    Client = client(Config),
    {ok, Allocation} = meerkat_client:allocate(Client),
    {Client, Allocation}.

peer(Family) ->
    Ip = loopback(Family),
    {ok, Socket} = gen_udp:open(0, [Family, binary, {ip, Ip}, {active, true}]),
    {ok, Address} = inet:sockname(Socket),
    {Socket, Address}.

there_and_back(Client, {RelayedIp, RelayedPort}, Socket, Peer, Via) ->
    There = crypto:strong_rand_bytes(1200),
    ok = meerkat_client:send(Client, Peer, There),
    receive {udp, Socket, RelayedIp, RelayedPort, There} -> ok end,
    [begin
         ok = gen_udp:send(Socket, RelayedIp, RelayedPort, Back),
         receive
             {meerkat_client, Client, Got} -> ?assertEqual({data, Peer, Back, Via}, Got)
         end
     end || Back <- [crypto:strong_rand_bytes(1200), <<>>]],
    ok.

%% What the client loses, found out by sending on: a datagram may fall into a socket that is just
%% being closed, and then nobody answers it.
lost(Client, Peer) ->
    ok = meerkat_client:send(Client, Peer, <<"anybody?">>),
    receive {meerkat_client, Client, {lost, Lost}} -> Lost
    after 100 -> lost(Client, Peer)
    end.

uri(Address) -> "turn:" ++ meerkat_client:format_address(Address).

options_by_secret(Address) ->
    {User, Password} = meerkat_check:rest_credentials(<<"s3cret">>, "check", 60),
    #{server => Address, username => User, password => Password}.

with_environment(Variables, Fun) ->
    [os:putenv(Name, Value) || {Name, Value} <- Variables],
    try Fun() after [os:unsetenv(Name) || {Name, _} <- Variables] end.

%% -------------------------------------------------------------------------- helpers: servers

%% A server on both loopback addresses that relays on both, to peers on loopback but for
%% forbidden/1: #{inet, inet6 := its addresses, user, password := of somebody it knows}.
start(Kind) -> start(Kind, []).

start(meerkat, Credentials) ->
    Forbidden = [{forbidden(inet), 32}, {forbidden(inet6), 128}],
    Directory = string:trim(os:cmd("mktemp -d")),
    #{certificate := CaFile} = Authority = certificate_kit:authority(Directory),
    #{certificate := CertFile, key := KeyFile} =
        certificate_kit:issued(Authority, ?SERVER_NAMES),
    {{ok, Chain}, {ok, Key}} = {file:read_file(CertFile), file:read_file(KeyFile)},
    Certificate = #{chain => Chain, key => Key, chain_file => list_to_binary(CertFile),
                    key_file => list_to_binary(KeyFile)},
    #{name := Name, listeners := Listeners} = Server =
        turn_kit:start_server(maps:merge(
            (stream_kit:config([Certificate]))#{denied_peers => Forbidden,
                                                allowed_peers => [{loopback(inet), 32},
                                                                  {loopback(inet6), 128}]},
            case Credentials of
                [] -> #{};
                secret -> #{users => #{}}
            end)),
    #{tcp_listeners := Tcp, tls_listeners := Tls} = meerkat:info(Name),
    maps:merge(addresses(Listeners),
               #{user => "alice", password => "wonderland", cacertfile => CaFile,
                 tcp => addresses(Tcp), tls => addresses(Tls),
                 stop => fun() ->
                                 ok = file:del_dir_r(Directory),
                                 turn_kit:stop_server(Server)
                         end});
start(coturn, secret) ->
    start_coturn(["--use-auth-secret", "--static-auth-secret=s3cret"], relay_ips());
start(coturn, More) ->
    start_coturn(["--lt-cred-mech", "--user=alice:wonderland"
                  | ["--denied-peer-ip=" ++ inet:ntoa(forbidden(F)) || F <- [inet, inet6]]
                  ++ More], relay_ips()).

stop(#{stop := Stop}) -> Stop().

addresses(Listeners) ->
    #{inet => lists:keyfind(loopback(inet), 1, Listeners),
      inet6 => lists:keyfind(loopback(inet6), 1, Listeners)}.

relay_ips() -> ["--relay-ip=127.0.0.1", "--relay-ip=::1"].

%% The shell between us and coturn ends it when told to, and when nobody is left to tell it.
start_coturn(More, Relays) ->
    ?assertNotEqual(false, os:find_executable("turnserver"), "Debian package coturn"),
    Port = turn_kit:free_ports(2),
    Directory = string:trim(os:cmd("mktemp -d")),
    #{certificate := CaFile} = Authority = certificate_kit:authority(Directory),
    #{certificate := CertFile, key := KeyFile} = certificate_kit:issued(
        Authority, ?SERVER_NAMES),
    Args = ["-n", "--listening-port=" ++ integer_to_list(Port), "--listening-ip=127.0.0.1",
            "--listening-ip=::1", "--realm=example.org", "--allow-loopback-peers",
            "--tls-listening-port=" ++ integer_to_list(Port + 1), "--cert=" ++ CertFile,
            "--pkey=" ++ KeyFile, "--userdb=" ++ filename:join(Directory, "turndb"),
            "--pidfile=" ++ filename:join(Directory, "pid"), "--log-file=stdout"]
        ++ [Option || Help <- [os:cmd("turnserver -h")], Option <- ["--no-cli", "--no-dtls"],
                      string:find(Help, Option) =/= nomatch]    % newer ones do not know them
        ++ Relays ++ More,
    Script = "exec 2>/dev/null; turnserver \"$@\" >\"$DIR/log\" 2>&1 &"
        " read line; kill $!; wait $!; rm -r \"$DIR\"",
    Keeper = spawn(fun() ->
                           Shell = open_port({spawn_executable, "/bin/sh"},
                                             [{args, ["-c", Script, "coturn" | Args]},
                                              {env, [{"DIR", Directory}]}, exit_status]),
                           keep(Shell)
                   end),
    Addresses = addresses([{loopback(F), Port} || F <- [inet, inet6]]),
    [ok = answers(Address) || Address <- maps:values(Addresses)],
    Addresses#{user => "alice", password => "wonderland", cacertfile => CaFile,
               tls => addresses([{loopback(F), Port + 1} || F <- [inet, inet6]]),
               stop => fun() -> Keeper ! {stop, self()}, receive {stopped, Keeper} -> ok end end}.

keep(Shell) ->
    receive
        {stop, From} ->
            true = port_command(Shell, "stop\n"),
            receive {Shell, {exit_status, _}} -> From ! {stopped, self()} end
    end.

%% Asks until the server is there; an unconnected socket hears of no refusal meanwhile.
answers({Ip, _} = Address) ->
    Family = case tuple_size(Ip) of 4 -> inet; 8 -> inet6 end,
    {ok, Socket} = gen_udp:open(0, [Family, binary, {active, true}]),
    Request = meerkat_stun:encode(#{class => request, method => binding, attributes => [],
                                    transaction_id => meerkat_stun:transaction_id()}),
    answers(Socket, Address, Request),
    gen_udp:close(Socket).

answers(Socket, {Ip, Port} = Address, Request) ->
    ok = gen_udp:send(Socket, Ip, Port, Request),
    receive {udp, Socket, Ip, Port, _} -> ok
    after 100 -> answers(Socket, Address, Request)
    end.
