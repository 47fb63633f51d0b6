%% What clients are told of where to come in: each listener that is open by the URI of its
%% transport, in credentials, on XMPP and on the page; and that all that is told lets a client in.
-module(services_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(turn_kit, [doc/1, with_server/2]).

-define(V6, {0, 0, 0, 0, 0, 0, 0, 1}).

suite() -> [{timetrap, {minutes, 1}}].

all() -> [udp_only, each_lets_in, tls_by_names, tls_by_address, tls_on_the_tcp_port, no_udp, xmpp].

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
