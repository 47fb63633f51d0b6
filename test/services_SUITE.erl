%% What clients are told of where to come in: each listener that is open by the URI of its
%% transport, in credentials, on XMPP and on the page; and that all that is told lets a client in.
-module(services_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(turn_kit, [doc/1, with_server/2]).

-define(V6, {0, 0, 0, 0, 0, 0, 0, 1}).

suite() -> [{timetrap, {minutes, 1}}].

all() -> [udp_only, each_lets_in, tls_by_names, tls_by_address, tls_on_the_tcp_port, no_udp, xmpp,
          to_another_node, to_a_node_with_room, of_other_nodes, from_an_anycast_address,
          dns_records].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(ssl),
    Dir = proplists:get_value(priv_dir, Config),
    [{authority, certificate_kit:authority(Dir)} | Config].

end_per_suite(_) -> ok.

udp_only(_) ->
    doc("a server without TCP tells what it always did"),
    with_server(#{listeners => listeners([udp])}, fun(#{name := Name, port := Port}) ->
        P = integer_to_binary(Port),
        ?assertEqual([<<"stun:127.0.0.1:", P/binary>>,
                      iolist_to_binary(["turn:127.0.0.1:", P, "?transport=udp"])], uris(Name)),
        ?assertMatch(#{iceServers := [#{urls := [<<"stun:", _/binary>>]},
                                      #{urls := [<<"turn:", _/binary>>]}]}, credentials(Name))
    end).

each_lets_in(Config) ->
    doc("all transports on both families; a client of each URI allocates with the credentials"),
    with_server(config(Config, [udp, tcp, tls], "DNS:localhost,IP:127.0.0.1,IP:::1"),
                fun(#{name := Name}) ->
        #{username := User, password := Password, uris := Uris, iceServers := [Stun, Turn]} =
            credentials(Name),
        #{listeners := Udp, tcp_listeners := Tcp, tls_listeners := Tls} = meerkat:info(Name),
        Expected = [["stun:", at(A)] || A <- lists:sort(Udp)]
            ++ [["turn:", at(A), "?transport=udp"] || A <- lists:sort(Udp)]
            ++ [["turn:", at(A), "?transport=tcp"] || A <- lists:sort(Tcp)],
        Secure = [iolist_to_binary(["turns:", at({Host, Port}), "?transport=tcp"])
                  || {Ip, Port} <- Tls, Host <- [Ip, "localhost"]],
        {Plain, Rest} = lists:split(length(Expected), Uris),
        ?assertEqual([iolist_to_binary(Uri) || Uri <- Expected], Plain),
        ?assertEqual(lists:sort(Secure), lists:sort(Rest)),
        ?assertEqual({#{urls => [U || <<"stun:", _/binary>> = U <- Uris]},
                      [U || <<"turn", _/binary>> = U <- Uris]}, {Stun, maps:get(urls, Turn)}),
        [begin
             {ok, Client} = meerkat_client:start_link(
                 maps:merge(#{server => Uri, username => User, password => Password},
                            trust(Uri, Config))),
             ?assertMatch({Uri, {ok, _}}, {Uri, meerkat_client:allocate(Client)}),
             ok = meerkat_client:close(Client)
         end || <<"turn", _/binary>> = Uri <- Uris, is_there(Uri, Tls)]
    end).

%% "localhost" is the IPv4 address here: the port of the other one's listener is not at it.
is_there(<<"turns:localhost:", Rest/binary>>, Tls) ->
    {_, Port} = lists:keyfind({127, 0, 0, 1}, 1, Tls),
    hd(binary:split(Rest, <<"?">>)) =:= integer_to_binary(Port);
is_there(_, _) ->
    true.

tls_by_names(Config) ->
    doc("by the names that the certificate has, for a client would not take another; wildcards are "
        "no names, and addresses that are not ours are not told"),
    with_server(config(Config, [udp, tls], "DNS:turn.example.org,DNS:*.example.org,DNS:b.example,"
                                           "IP:192.0.2.99"), fun(#{name := Name}) ->
        ?assertEqual([<<"b.example">>, <<"turn.example.org">>],
                     lists:usort([Host || #{transport := tls, host := Host}
                                              <- meerkat_services:services(Name)])),
        [?assertMatch({_, {ok, #{scheme := turns}}}, {U, meerkat_client_uri:parse(U)})
         || <<"turns", _/binary>> = U <- uris(Name)]
    end).

tls_by_address(Config) ->
    doc("a certificate without names leaves the address"),
    with_server(config(Config, [udp, tls], "URI:turn"), fun(#{name := Name}) ->
        ?assertEqual([{127, 0, 0, 1}, ?V6],
                     lists:usort([Host || #{transport := tls, host := Host}
                                              <- meerkat_services:services(Name)]))
    end).

tls_on_the_tcp_port(Config) ->
    doc("without a port for TLS alone the TCP port is told for it, which takes both"),
    with_server(config(Config, [udp, tcp], "DNS:localhost"), fun(#{name := Name}) ->
        #{tcp_listeners := [{_, Port} | _]} = meerkat:info(Name),
        Uri = <<"turns:localhost:", (integer_to_binary(Port))/binary, "?transport=tcp">>,
        ?assert(lists:member(Uri, uris(Name))),
        {ok, Client} = meerkat_client:start_link(maps:merge(#{server => Uri}, trust(Uri, Config))),
        ?assertMatch({ok, {{127, 0, 0, 1}, _}}, meerkat_client:binding(Client)),
        ok = meerkat_client:close(Client)
    end).

no_udp(_) ->
    doc("where there is only TCP, nothing else is told"),
    with_tcp(fun(Name) ->
        ?assertMatch([<<"turn:127.0.0.1:", _/binary>>], uris(Name)),
        ?assertMatch(#{iceServers := [#{urls := [_], username := _}]}, credentials(Name))
    end).

with_tcp(Fun) ->
    Name = services_without_udp,
    {ok, _} = application:ensure_all_started(meerkat),
    Ip = {127, 0, 0, 1},
    {ok, _} = meerkat:start_server(Name, maps:merge(turn_kit:relay_kind(), #{
        listeners => [#{transport => tcp, ip => Ip, port => 0}], secrets => [<<"s3cret">>],
        realm => <<"example.org">>,
        relays => [#{local => Ip, advertised => Ip, min_port => 49152, max_port => 65535}]})),
    try Fun(Name) after ok = meerkat:stop_server(Name) end.

xmpp(Config) ->
    doc("turn by udp and tcp, turns by tcp, with their hosts (XEP-0215)"),
    with_server(config(Config, [udp, tcp, tls], "DNS:turn.example.org"), fun(#{name := Name}) ->
        Services = meerkat_xmpp_extdisco:services(meerkat_services:services(Name)),
        ?assertEqual([{stun, udp}, {turn, tcp}, {turn, udp}, {turns, tcp}],
                     lists:usort([{Type, Transport}
                                  || #{type := Type, transport := Transport} <- Services])),
        ?assertEqual([<<"turn.example.org">>],
                     lists:usort([Host || #{type := turns, host := Host} <- Services])),
        Mint = fun(_) -> {ok, #{username => <<"u">>, password => <<"p">>, expires_s => 0}} end,
        Asked = meerkat_xmpp_xml:el(<<"services">>, [{<<"type">>, <<"turns">>}], []),
        {ok, Told, <<"turns">>} = meerkat_xmpp_extdisco:answer(Asked, <<"a@b">>, Services, Mint),
        [_ | _] = Children = meerkat_xmpp_xml:children(Told),
        [?assertEqual([<<"turns">>, <<"tcp">>, <<"u">>, <<"1">>],
                      [meerkat_xmpp_xml:attr(A, Child)
                       || A <- [<<"type">>, <<"transport">>, <<"username">>, <<"restricted">>]])
         || Child <- Children]
    end).

%%% Tools

listeners(Transports) ->
    [#{transport => T, ip => {127, 0, 0, 1}, port => 0} || T <- Transports].

%%% Other nodes of a fleet, as they have told of themselves; fleet_SUITE has some that do.

to_another_node(Config) ->
    doc("RFC 8489 10, 14.16: a drained server sends clients to a node that listens by the same "
        "transport in their family; over TLS with the name that its certificate has; signed"),
    Given = config(Config, [udp, tls], "DNS:localhost"),
    with_server(Given, fun(#{name := Name} = Server) ->
        Ways = [way(udp, {192, 0, 2, 7}), way(tls, <<"turn.example.org">>)],
        ok = meerkat_elsewhere:put_places(Name, [place(n, 0.5, Ways)]),
        ok = meerkat:drain(Name),
        Udp = turn_kit:expect(300, asked(Server, #{})),
        ?assertEqual([alternate_server, error_code, message_integrity], turn_kit:names(Udp)),
        ?assertEqual({{192, 0, 2, 7}, 3478}, turn_kit:get(alternate_server, Udp)),
        Tls = turn_kit:expect(300, asked(Server, #{transport => tls})),
        ?assertEqual([alternate_domain, alternate_server, error_code, message_integrity],
                     turn_kit:names(Tls)),
        ?assertEqual(<<"turn.example.org">>, turn_kit:get(alternate_domain, Tls)),
        turn_kit:expect(508, asked(Server, #{family => v6}))
    end).

to_a_node_with_room(_) ->
    doc("a full server sends to nodes that have room, take allocations and serve the realm, and "
        "the less loaded of two more often; without one it is 508; a user who has too many is told "
        "486"),
    with_server(#{total_quota => 1, user_quota => 1}, fun(#{name := Name} = Server) ->
        Places = fun(List) -> ok = meerkat_elsewhere:put_places(Name, List) end,
        _ = turn_kit:allocated(Server, [], #{user => <<"bob">>}),
        turn_kit:expect(508, asked(Server, #{})),
        Way = way(udp, {192, 0, 2, 1}),
        Places([place(full, 1.0, [Way]), (place(drained, 0.0, [Way]))#{ready := false},
                place(elsewhere, 0.0, [Way#{realm := <<"another">>}])]),
        turn_kit:expect(508, asked(Server, #{})),
        Places([place(light, 0.1, [way(udp, {192, 0, 2, 2})]),
                place(heavy, 0.9, [way(udp, {192, 0, 2, 3})])]),
        Sent = [turn_kit:get(alternate_server, turn_kit:expect(300, asked(Server, #{})))
                || _ <- lists:seq(1, 80)],
        {Light, Heavy} = lists:partition(fun({Ip, _}) -> Ip =:= {192, 0, 2, 2} end, Sent),
        ?assert(length(Light) > length(Heavy)),
        turn_kit:expect(486, asked(Server, #{user => <<"bob">>}))
    end).

of_other_nodes(_) ->
    doc("credentials list the nodes of the region first, then by load, this one before others as "
        "full, as many as fleet_services says; a drained node is in no list"),
    with_server(#{fleet_region => <<"eu">>, fleet_services => 2}, fun(#{name := Name}) ->
        [Own | _] = Alone = turn_uris(Name),
        Near = (place(near, 0.0, [way(udp, {192, 0, 2, 1})]))#{region := <<"eu">>},
        Light = place(light, 0.3, [way(udp, {192, 0, 2, 2})]),
        Far = place(far, 0.4, [way(udp, {192, 0, 2, 3})]),
        ok = meerkat_elsewhere:put_places(Name, [Far, Light]),
        ?assertEqual(Alone ++ [<<"turn:192.0.2.2:3478?transport=udp">>], turn_uris(Name)),
        ok = meerkat_elsewhere:put_places(Name, [Far, Light, Near]),
        ?assertEqual([Own, <<"turn:192.0.2.1:3478?transport=udp">>],
                     [Uri || Uri <- turn_uris(Name), not lists:member(Uri, tl(Alone))]),
        %% Of a client who is elsewhere.
        Asia = Far#{region := <<"asia">>},
        ok = meerkat_elsewhere:put_places(Name, [Asia, Light, Near]),
        {ok, #{uris := Uris}} = meerkat_credentials:asked(Name, <<"alice">>,
                                                          #{region => <<"asia">>}),
        ?assertMatch([<<"turn:192.0.2.3:", _/binary>> | _],
                     [Uri || <<"turn:", _/binary>> = Uri <- Uris]),
        ok = meerkat:drain(Name),
        ?assertEqual([<<"turn:192.0.2.1:3478?transport=udp">>,
                      <<"turn:192.0.2.2:3478?transport=udp">>], turn_uris(Name)),
        ok = meerkat_elsewhere:put_places(Name, []),
        ?assertEqual(Alone, turn_uris(Name))
    end).

from_an_anycast_address(_) ->
    doc("RFC 8155 7.1: whoever asks at an address that other servers have too is sent to one that "
        "this one has alone, by a signed 300, and may allocate there; Binding is answered"),
    Listeners = [#{transport => udp, ip => Ip, port => 0}
                 || Ip <- [{127, 0, 0, 6}, {127, 0, 0, 1}, {127, 0, 0, 7}]],
    with_server(#{listeners => Listeners, anycast_ip => [{127, 0, 0, 6}, {127, 0, 0, 7}]},
                fun(#{name := Name, listeners := [Shared, Own, _]} = Server) ->
        Client = turn_kit:challenged(turn_kit:open(Server, #{to => Shared})),
        Answer = turn_kit:expect(300, turn_kit:allocate(Client)),
        ?assertEqual([alternate_server, error_code, message_integrity], turn_kit:names(Answer)),
        ?assertEqual(Own, turn_kit:get(alternate_server, Answer)),
        turn_kit:success(turn_kit:allocate(Client#{to := Own})),
        Bound = turn_kit:ask(Client, turn_kit:request(binding, [])),
        turn_kit:success(Bound),
        #{ways := Ways} = meerkat_services:place(Name),
        ?assertEqual([Own], [At || #{at := At} <- Ways])
    end).

dns_records(_) ->
    doc("RFC 2782, RFC 5928 3: what a zone may have for a fleet; a certificate's name is a target "
        "as it is, an address gets a name"),
    Ways = [way(udp, {192, 0, 2, 1}), way(tls, <<"turn.example.org">>)],
    Half = place(half, 0.5, Ways),
    Full = place(full, 1.0, [way(udp, {192, 0, 2, 2}),
                             way(tcp, {16#2001, 16#db8, 0, 0, 0, 0, 0, 1})]),
    Drained = (place(drained, 0.0, [way(udp, {192, 0, 2, 3})]))#{ready := false},
    ?assertEqual(
        [{<<"_stun._udp.example.org.">>, <<"SRV">>, <<"10 1 3478 ip-192-0-2-2-x.example.org.">>},
         {<<"_stun._udp.example.org.">>, <<"SRV">>, <<"10 50 3478 ip-192-0-2-1-x.example.org.">>},
         {<<"_turn._tcp.example.org.">>, <<"SRV">>, <<"10 1 3478 ip-2001-db8--1-x.example.org.">>},
         {<<"_turn._udp.example.org.">>, <<"SRV">>, <<"10 1 3478 ip-192-0-2-2-x.example.org.">>},
         {<<"_turn._udp.example.org.">>, <<"SRV">>, <<"10 50 3478 ip-192-0-2-1-x.example.org.">>},
         {<<"_turns._tcp.example.org.">>, <<"SRV">>, <<"10 50 3478 turn.example.org.">>},
         {<<"ip-192-0-2-1-x.example.org.">>, <<"A">>, <<"192.0.2.1">>},
         {<<"ip-192-0-2-2-x.example.org.">>, <<"A">>, <<"192.0.2.2">>},
         {<<"ip-2001-db8--1-x.example.org.">>, <<"AAAA">>, <<"2001:db8::1">>}],
        [{N, T, D} || #{name := N, ttl := 60, type := T, data := D}
                          <- meerkat_fleet_dns:records(<<"example.org">>, 60,
                                                       [Half, Full, Drained])]).

place(Node, Load, Ways) ->
    #{node => Node, load => Load, ready => true, region => undefined, ways => Ways}.

way(Transport, Name) when is_binary(Name) ->
    (way(Transport, {192, 0, 2, 9}))#{hosts := [Name]};
way(Transport, Ip) ->
    #{transport => Transport, realm => <<"example.org">>, at => {Ip, 3478}, hosts => [Ip]}.

asked(Server, Options) ->
    turn_kit:allocate(turn_kit:challenged(turn_kit:open(Server, Options))).

turn_uris(Name) -> [Uri || <<"turn:", _/binary>> = Uri <- uris(Name)].

config(Config, Transports, Names) ->
    #{certificate := File, key := KeyFile} =
        certificate_kit:issued(proplists:get_value(authority, Config), Names),
    {{ok, Chain}, {ok, Key}} = {file:read_file(File), file:read_file(KeyFile)},
    #{listeners => [#{transport => T, ip => Ip, port => 0}
                    || T <- Transports, Ip <- [{127, 0, 0, 1}, ?V6]],
      certificates => [#{chain => Chain, key => Key, chain_file => list_to_binary(File),
                         key_file => list_to_binary(KeyFile)}]}.

credentials(Name) -> meerkat:credentials(Name, <<"alice">>, #{}).

uris(Name) -> maps:get(uris, credentials(Name)).

at({Host, Port}) when is_list(Host) -> [Host, $:, integer_to_list(Port)];
at(Address) -> meerkat_client:format_address(Address).

trust(<<"turns:", _/binary>>, Config) ->
    #{certificate := Ca} = proplists:get_value(authority, Config),
    #{cacertfile => Ca};
trust(_, _) ->
    #{}.
