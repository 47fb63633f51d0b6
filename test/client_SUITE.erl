%% The client and the check: their core by itself, with answers made up here and time that passes
%% as told; then both against Debian's coturn and against Meerkat, over real sockets. coturn is a
%% requirement: where turnserver is missing its groups fail.
-module(client_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(turn_kit, [doc/1]).
-import(client_kit, [check/1, words/1]).

-define(SERVER, {{192, 0, 2, 1}, 3478}).
-define(MAPPED, {{203, 0, 113, 9}, 40000}).
-define(RELAYED, {{192, 0, 2, 1}, 50000}).
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
    [{group, uri}, {group, core}, {group, alone}, {group, arguments},
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
     {core, [parallel],
      [retransmits, answers_end_it, challenge, refused_credentials, realm_may_change,
       no_credentials_to_give, stale_nonce, binding_is_challenged_too,
       distrusts_unsigned_and_forged, strangers_are_ignored, unknown_attribute,
       password_algorithms, user_hash, bid_down_is_noticed, redirected_once, mismatch_moves,
       mismatch_stays, lifetimes, renews_permissions, lost_permission, renews_channels,
       lost_channel_keeps_number, channel_numbers_end, refresh_until_expired,
       refresh_refused, data_in, data_out, unreachable, release_forgets,
       wrong_family_is_given_back, keeps_secrets]},
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

%% ------------------------------------------------------------------------ core: transactions

retransmits(_) ->
    doc("at 0, 500, 1500, 3500, 7500, 15500 and 31500 ms, failed at 39500 (RFC8489 6.2.1)"),
    {S0, [{transmit, Packet}, {start_timer, Timer, 500}]} = call(binding, new()),
    {Times, Last} = retransmitted(Timer, 500, S0, Packet, []),
    ?assertEqual([500, 1500, 3500, 7500, 15500, 31500, 39500], Times),
    ?assertEqual([{stop_timer, Timer}, {reply, me, {error, timeout}}], Last),
    {S1, [{transmit, _}, {start_timer, T1, 20}]} = call(binding, new(#{rto => 20, rc => 2,
                                                                      rm => 3})),
    {S2, [{transmit, _}, {start_timer, T1, 60}]} = handle({timeout, T1}, S1),
    ?assertMatch({_, [_, {reply, me, {error, timeout}}]}, handle({timeout, T1}, S2)).

retransmitted(Timer, Now, S0, Packet, Times) ->
    case handle({timeout, Timer}, S0) of
        {S, [{transmit, Packet}, {start_timer, Timer, Ms}]} ->
            retransmitted(Timer, Now + Ms, S, Packet, [Now | Times]);
        {_, Effects} ->
            {lists:reverse([Now | Times]), Effects}
    end.

answers_end_it(_) ->
    doc("an answer stops the timer; the same answer again means nothing (RFC8489 6.3)"),
    {S0, [{transmit, Packet}, {start_timer, Timer, _}]} = call(binding, new()),
    Answer = success(Packet, [{xor_mapped_address, ?MAPPED}]),
    {S1, Effects} = datagram(Answer, S0),
    ?assertEqual([{stop_timer, Timer}, {reply, me, {ok, ?MAPPED}}], Effects),
    ?assertMatch({_, []}, datagram(Answer, S1)),
    ?assertMatch(#{ignored := 1}, meerkat_client_core:info(element(1, datagram(Answer, S1)))),
    {_, [_, {reply, me, Old}]} = datagram(success(Packet, [{mapped_address, ?MAPPED}]), S0),
    ?assertEqual({ok, ?MAPPED}, Old),
    {_, [_, {reply, me, None}]} = datagram(success(Packet, []), S0),
    ?assertEqual({error, {bad_response, binding}}, None).

challenge(_) ->
    doc("first without credentials, then with what the 401 gave, signed (RFC8489 9.2.3, 9.2.5)"),
    {S0, [{transmit, First}, {start_timer, T0, 500}]} = call({allocate, #{}}, new()),
    ?assertMatch(#{method := allocate, attributes := [{requested_transport, 17}],
                   integrity := none}, decoded(First)),
    {S1, Effects} = datagram(unauthorized(First, <<"n1">>), S0),
    [{stop_timer, T0}, {transmit, Second}, {start_timer, T1, 500}] = Effects,
    ?assertNotEqual(T0, T1),
    ?assertMatch(#{attributes := [{requested_transport, 17}, {username, ?USER}, {realm, ?REALM},
                                  {nonce, <<"n1">>}], integrity := sha1}, decoded(Second)),
    ?assertEqual(ok, meerkat_stun:verify(Second, key())),
    {S2, Done} = datagram(allocated(Second, 600), S1),
    ?assertEqual([{stop_timer, T1}, {start_timer, refresh, 540_000}, {start_timer, expire, 600_000},
                  {reply, me, {ok, #{server => ?SERVER, relayed => ?RELAYED, mapped => ?MAPPED,
                                     lifetime => 600}}}], Done),
    {_, [{transmit, Later} | _]} = call({permit, [{198, 51, 100, 7}]}, S2),
    ?assertMatch(#{method := create_permission, integrity := sha1,
                   attributes := [{xor_peer_address, {{198, 51, 100, 7}, 0}}, {username, _},
                                  {realm, _}, {nonce, <<"n1">>}]}, decoded(Later)).

refused_credentials(_) ->
    doc("a second 401 under the same realm is final (RFC8489 9.2.5)"),
    {S, Signed} = signed_allocate(),
    {_, Effects} = datagram(unauthorized(Signed, <<"n2">>), S),
    ?assertMatch([{stop_timer, _}, {reply, me, {error, {401, <<"Unauthenticated">>}}}], Effects).

realm_may_change(_) ->
    doc("another realm is one more try, not two (RFC8489 9.2.5)"),
    {S0, Signed} = signed_allocate(),
    {S1, [_, {transmit, Again}, _]} =
        datagram(failure(Signed, 401, [{realm, <<"other">>}, {nonce, <<"n2">>}]), S0),
    ?assertEqual({ok, <<"other">>}, meerkat_stun:get(realm, decoded(Again))),
    ?assertMatch({_, [_, {reply, me, {error, {401, _}}}]},
                 datagram(failure(Again, 401, [{realm, <<"third">>}, {nonce, <<"n3">>}]), S1)).

no_credentials_to_give(_) ->
    doc("a server that asks for credentials we do not have"),
    {S0, [{transmit, First}, _]} = call({allocate, #{}}, meerkat_client_core:new(
                                                           #{server => ?SERVER})),
    ?assertMatch({_, [_, {reply, me, {error, no_credentials}}]},
                 datagram(unauthorized(First, <<"n">>), S0)).

stale_nonce(_) ->
    doc("438: once more with the new nonce, and no third time (RFC8489 9.2.5)"),
    {S0, Signed} = signed_allocate(),
    {S1, [_, {transmit, Again}, _]} = datagram(stale(Signed, <<"n2">>), S0),
    ?assertEqual({ok, <<"n2">>}, meerkat_stun:get(nonce, decoded(Again))),
    ?assertEqual(ok, meerkat_stun:verify(Again, key())),
    ?assertMatch({_, [_, {reply, me, {error, {438, _}}}]}, datagram(stale(Again, <<"n3">>), S1)),
    {S2, _} = datagram(allocated(Again, 600), S1),
    %% The next request may meet a stale nonce as well.
    {S3, [{transmit, Refresh} | _]} = call({refresh, default}, S2),
    ?assertEqual({ok, <<"n2">>}, meerkat_stun:get(nonce, decoded(Refresh))),
    ?assertMatch({_, [_, {transmit, _}, _]}, datagram(stale(Refresh, <<"n4">>), S3)).

binding_is_challenged_too(_) ->
    doc("Binding goes unsigned unless the server insists (RFC8489 13)"),
    {S0, [{transmit, First}, _]} = call(binding, allocated()),
    ?assertMatch(#{integrity := none, attributes := []}, decoded(First)),
    {_, [_, {transmit, Second}, _]} = datagram(unauthorized(First, <<"b">>), S0),
    ?assertMatch(#{integrity := sha1}, decoded(Second)).

distrusts_unsigned_and_forged(_) ->
    doc("answers to a signed request which are not signed with our key do not count, and if none "
        "else comes that is what is reported (RFC8489 9.2.5)"),
    {S0, Signed} = signed_allocate(),
    Attributes = [{xor_relayed_address, ?RELAYED}, {xor_mapped_address, ?MAPPED}, {lifetime, 600}],
    Bad = [success(Signed, Attributes),
           success(Signed, Attributes, meerkat_stun:key(?USER, ?REALM, <<"other">>)),
           failure(Signed, 400, []), failure(Signed, 403, []), failure(Signed, 437, []),
           failure(Signed, 300, [{alternate_server, {{192, 0, 2, 2}, 3478}}])],
    S1 = lists:foldl(fun(Packet, S) -> {Next, []} = datagram(Packet, S), Next end, S0, Bad),
    ?assertMatch(#{ignored := 6}, meerkat_client_core:info(S1)),
    ?assertMatch({_, [_, _, _, {reply, me, {ok, _}}]}, datagram(allocated(Signed, 600), S1)),
    ?assertEqual({error, bad_integrity}, timed_out(Signed, S1)),
    ?assertEqual({error, timeout}, timed_out(Signed, S0)).

strangers_are_ignored(_) ->
    doc("no STUN, requests, other transactions, other methods (RFC8489 6.3)"),
    {S0, [{transmit, Packet}, _]} = call(binding, new()),
    Other = (decoded(Packet))#{transaction_id := <<"another one!">>},
    Bad = [<<>>, <<0>>, <<"hello, is anybody there?">>, Packet,
           encode(Other#{class := success, attributes := [{xor_mapped_address, ?MAPPED}]}),
           encode((decoded(Packet))#{class := success, method := refresh,
                                     attributes := [{lifetime, 1}]}),
           encode(#{class => indication, method => data, transaction_id => <<"abcdefghijkl">>,
                    attributes => [{xor_peer_address, ?PEER}, {data, <<"x">>}]}),
           <<16#4000:16, 1:16, "x">>, <<200, 1, 2, 3>>],
    S1 = lists:foldl(fun(P, S) -> {Next, []} = datagram(P, S), Next end, S0, Bad),
    ?assertEqual(length(Bad), maps:get(ignored, meerkat_client_core:info(S1))),
    ?assertMatch({_, [_, {reply, me, {ok, ?MAPPED}}]},
                 datagram(success(Packet, [{xor_mapped_address, ?MAPPED}]), S1)).

unknown_attribute(_) ->
    doc("a comprehension-required attribute we do not know fails the request (RFC8489 6.3.3)"),
    {S0, [{transmit, Packet}, _]} = call(binding, new()),
    ?assertMatch({_, [_, {reply, me, {error, {unknown_attributes, [16#7ff0]}}}]},
                 datagram(success(Packet, [{xor_mapped_address, ?MAPPED}, {16#7ff0, <<1>>}]), S0)),
    ?assertMatch({_, [_, {reply, me, {ok, ?MAPPED}}]},
                 datagram(success(Packet, [{16#fff0, <<1>>}, {xor_mapped_address, ?MAPPED}]), S0)).

password_algorithms(_) ->
    doc("the first algorithm known, both attributes, SHA-256 integrity (RFC8489 9.2.5, 18.5)"),
    Nonce = <<"obMatJos2AAABabc">>,
    [begin
         {S0, [{transmit, First}, _]} = call({allocate, #{}}, new()),
         {S1, [_, {transmit, Second}, _]} =
             datagram(failure(First, 401, [{realm, ?REALM}, {nonce, Nonce},
                                           {password_algorithms, Offered}]), S0),
         #{attributes := Attributes, integrity := sha256} = decoded(Second),
         ?assertEqual({password_algorithms, Offered}, lists:keyfind(password_algorithms, 1,
                                                                    Attributes)),
         ?assertEqual({password_algorithm, {Number, <<>>}},
                      lists:keyfind(password_algorithm, 1, Attributes)),
         Key = meerkat_stun:key(Name, ?USER, ?REALM, ?PASSWORD),
         ?assertEqual(ok, meerkat_stun:verify(Second, Key)),
         ?assertMatch({_, [_, _, _, {reply, me, {ok, _}}]},
                      datagram(signed_answer(Second, {sha256, Key}, 600), S1))
     end || {Offered, Name, Number} <- [{[{2, <<>>}, {1, <<>>}], sha256, 2},
                                        {[{1, <<>>}, {2, <<>>}], md5, 1},
                                        {[{9, <<"p">>}, {2, <<>>}], sha256, 2}]],
    {S, [{transmit, First}, _]} = call({allocate, #{}}, new()),
    ?assertMatch({_, [_, {reply, me, {error, no_algorithm}}]},
                 datagram(failure(First, 401, [{realm, ?REALM}, {nonce, Nonce},
                                               {password_algorithms, [{9, <<>>}]}]), S)).

user_hash(_) ->
    doc("USERHASH instead of USERNAME where the nonce cookie asks for it (RFC8489 9.2.5)"),
    {S0, [{transmit, First}, _]} = call({allocate, #{}}, new()),
    {_, [_, {transmit, Second}, _]} =
        datagram(unauthorized(First, <<"obMatJos2AAACabc">>), S0),
    ?assertEqual(error, meerkat_stun:get(username, decoded(Second))),
    ?assertEqual({ok, meerkat_stun:userhash(?USER, ?REALM)},
                 meerkat_stun:get(userhash, decoded(Second))).

bid_down_is_noticed(_) ->
    doc("a nonce that promises algorithms which are not there (RFC8489 9.2.1, 9.2.5)"),
    {S0, [{transmit, First}, _]} = call({allocate, #{}}, new()),
    ?assertMatch({_, [_, {reply, me, {error, bid_down}}]},
                 datagram(unauthorized(First, <<"obMatJos2AAABabc">>), S0)),
    {S1, Signed} = signed_allocate(),
    ?assertMatch({_, [_, {reply, me, {error, bid_down}}]},
                 datagram(stale(Signed, <<"obMatJos2AAABabc">>), S1)),
    %% Not base64, no features at all, bits that mean something only in the RFC as it was printed
    %% (erratum 6290): nonces like any other.
    [?assertMatch({_, [_, {transmit, _}, _]}, datagram(unauthorized(First, Nonce), S0))
     || Nonce <- [<<"obMatJos2!!!!">>, <<"obMatJos2AAAA">>, <<"obMatJos2">>, <<"obMatJos2gA">>,
                   <<"obMatJos2gAAAabc">>]].

%% ---------------------------------------------------------------------- core: the allocation

redirected_once(_) ->
    doc("300: once to the address of our family, from the start (RFC8489 10, RFC8656 7.4)"),
    Alternate = {{192, 0, 2, 2}, 3479},
    {S0, [{transmit, First}, _]} = call({allocate, #{}}, new()),
    Redirect = fun(Packet) ->
                       failure(Packet, 300, [{alternate_server, {?V6, 3479}},
                                             {alternate_server, Alternate}])
               end,
    {S1, Effects} = datagram(Redirect(First), S0),
    ?assertMatch([{connect, Alternate}, {stop_timer, _}, {transmit, _}, {start_timer, _, 500}],
                 Effects),
    [_, _, {transmit, Second}, _] = Effects,
    ?assertMatch(#{integrity := none}, decoded(Second)),
    ?assertMatch(#{server := Alternate}, meerkat_client_core:info(S1)),
    %% The one server's nonce is nothing to the other.
    {S2, Signed} = signed_allocate(),
    {_, [_, _, {transmit, Unsigned}, _]} =
        datagram(answer(Signed, error, [{error_code, {300, <<>>}}, {alternate_server, Alternate}],
                        {sha1, key()}), S2),
    ?assertMatch(#{integrity := none}, decoded(Unsigned)),
    ?assertMatch({_, [_, {reply, me, {error, {300, _}}}]}, datagram(Redirect(Second), S1)),
    ?assertMatch({_, [_, {reply, me, {error, {300, _}}}]},
                 datagram(failure(First, 300, [{alternate_server, {?V6, 3479}}]), S0)),
    ?assertMatch({_, [_, {reply, me, {error, {300, _}}}]},
                 datagram(failure(First, 300, [{alternate_server, {{192, 0, 2, 2}, 0}}]), S0)).

mismatch_moves(_) ->
    doc("437: another local port, three in all (RFC8656 7.4)"),
    {S0, Signed0} = signed_allocate(),
    {S1, [_, {connect, ?SERVER}, {transmit, First}, _]} = datagram(failed(Signed0, 437), S0),
    ?assertMatch(#{integrity := none}, decoded(First)),
    {S2, [_, {transmit, Signed1}, _]} = datagram(unauthorized(First, <<"m">>), S1),
    {S3, [_, {connect, ?SERVER}, {transmit, Third}, _]} = datagram(failed(Signed1, 437), S2),
    {S4, [_, {transmit, Signed2}, _]} = datagram(unauthorized(Third, <<"m">>), S3),
    ?assertMatch({_, [_, {reply, me, {error, {437, _}}}]}, datagram(failed(Signed2, 437), S4)).

mismatch_stays(_) ->
    doc("437 is the answer where the local port was given"),
    {S, Signed} = signed_allocate(new(#{movable => false})),
    ?assertMatch({_, [_, {reply, me, {error, {437, _}}}]}, datagram(failed(Signed, 437), S)).

lifetimes(_) ->
    doc("refreshed a minute before the end, a short one at half (RFC8656 8)"),
    [begin
         {S, Signed} = signed_allocate(),
         {_, [_, {start_timer, refresh, Ms}, {start_timer, expire, Expire}, _]} =
             datagram(allocated(Signed, Lifetime), S),
         ?assertEqual({Lifetime, Refresh, Lifetime * 1000}, {Lifetime, Ms, Expire})
     end || {Lifetime, Refresh} <- [{600, 540_000}, {3600, 3_540_000}, {120, 60_000},
                                    {100, 50_000}, {1, 500}]],
    {S, Signed} = signed_allocate(),
    ?assertMatch({_, [_, {reply, me, {error, {bad_response, allocate}}}]},
                 datagram(allocated(Signed, 0), S)),
    %% What was asked for is asked for again, and the server's word counts.
    {S0, Signed0} = signed_allocate(new(), #{lifetime => 1200}),
    ?assertEqual({ok, 1200}, meerkat_stun:get(lifetime, decoded(Signed0))),
    {S1, _} = datagram(allocated(Signed0, 900), S0),
    {S2, [{transmit, Refresh} | _]} = handle({timeout, refresh}, S1),
    ?assertEqual({ok, 1200}, meerkat_stun:get(lifetime, decoded(Refresh))),
    {S3, Effects} = datagram(succeeded(Refresh, [{lifetime, 300}]), S2),
    ?assertMatch([_, {start_timer, refresh, 240_000}, {start_timer, expire, 300_000}], Effects),
    ?assertMatch(#{lifetime := 300}, meerkat_client_core:info(S3)).

renews_permissions(_) ->
    doc("all of them every four minutes, sixteen a request (RFC8656 9)"),
    Ips = [{198, 51, 100, N} || N <- lists:seq(1, 17)],
    {S0, [{transmit, Permit} | _]} = call({permit, Ips}, allocated()),
    ?assertEqual(Ips, [Ip || {Ip, 0} <- meerkat_stun:get_all(xor_peer_address, decoded(Permit))]),
    {S1, Effects} = datagram(succeeded(Permit, []), S0),
    ?assertMatch([_, {start_timer, permissions, 240_000}, {reply, me, ok}], Effects),
    {S2, [{transmit, Other} | _]} = call({permit, [{198, 51, 100, 99}]}, S1),
    {S3, [_, {reply, me, ok}]} = datagram(succeeded(Other, []), S2),
    {_, Renewal} = handle({timeout, permissions}, S3),
    ?assertMatch([{start_timer, permissions, 240_000}, {transmit, _}, {start_timer, _, 500},
                  {transmit, _}, {start_timer, _, 500}], Renewal),
    Renewed = [meerkat_stun:get_all(xor_peer_address, decoded(P)) || {transmit, P} <- Renewal],
    ?assertEqual([16, 2], [length(Some) || Some <- Renewed]),
    ?assertEqual(lists:sort([{198, 51, 100, 99} | Ips]),
                 lists:sort([Ip || {Ip, 0} <- lists:append(Renewed)])).

lost_permission(_) ->
    doc("a permission refused is none; one that cannot be renewed is lost, and the owner told"),
    Ip = {198, 51, 100, 7},
    {S0, [{transmit, Permit} | _]} = call({permit, [Ip]}, allocated()),
    {S1, Refused} = datagram(failed(Permit, 403), S0),
    ?assertMatch([_, {reply, me, {error, {403, _}}}], Refused),
    ?assertEqual({1, []}, from_peer(S1)),
    {S2, _} = datagram(succeeded(Permit, []), S0),
    ?assertMatch({0, [_]}, from_peer(S2)),
    {S3, [_, {transmit, Renewal}, _]} = handle({timeout, permissions}, S2),
    {S4, Lost} = datagram(failed(Renewal, 403), S3),
    ?assertMatch([_, {owner, {lost, {permissions, [Ip], {403, _}}}}], Lost),
    ?assertEqual({1, []}, from_peer(S4)),
    ?assertMatch({_, []}, handle({timeout, permissions}, S4)).

renews_channels(_) ->
    doc("a channel after nine minutes, its permission with the others after four (RFC8656 12)"),
    {S0, [{transmit, Bind} | _]} = call({bind_channel, ?PEER}, allocated()),
    ?assertMatch(#{method := channel_bind, attributes := [{channel_number, 16#4000},
                                                          {xor_peer_address, ?PEER} | _]},
                 decoded(Bind)),
    {S1, Effects} = datagram(succeeded(Bind, []), S0),
    ?assertMatch([_, {start_timer, {channel, 16#4000}, 540_000},
                  {start_timer, permissions, 240_000}, {reply, me, {ok, 16#4000}}], Effects),
    ?assertMatch({_, [{reply, me, {ok, 16#4000}}]}, call({bind_channel, ?PEER}, S1)),
    {_, [{start_timer, permissions, _}, {transmit, Permit}, _]} = handle({timeout, permissions},
                                                                         S1),
    ?assertEqual({ok, {element(1, ?PEER), 0}}, meerkat_stun:get(xor_peer_address, decoded(Permit))),
    {S2, [{transmit, Again}, _]} = handle({timeout, {channel, 16#4000}}, S1),
    ?assertEqual({ok, 16#4000}, meerkat_stun:get(channel_number, decoded(Again))),
    ?assertMatch({_, [_, {start_timer, {channel, 16#4000}, 540_000}]},
                 datagram(succeeded(Again, []), S2)),
    {_, [{transmit, Next} | _]} = call({bind_channel, {element(1, ?PEER), 6001}}, S1),
    ?assertEqual({ok, 16#4001}, meerkat_stun:get(channel_number, decoded(Next))).

lost_channel_keeps_number(_) ->
    doc("a number goes to no other peer, even after its channel is lost (RFC8656 12)"),
    {S0, [{transmit, Bind} | _]} = call({bind_channel, ?PEER}, allocated()),
    {S1, _} = datagram(succeeded(Bind, []), S0),
    {S2, [{transmit, Again}, _]} = handle({timeout, {channel, 16#4000}}, S1),
    {S3, Lost} = datagram(failed(Again, 400), S2),
    ?assertMatch([_, {owner, {lost, {channel, ?PEER, {400, _}}}}], Lost),
    ?assertMatch({_, [{transmit, <<0:2, _/bits>>}]}, handle({send, ?PEER, <<"x">>}, S3)),
    {_, [{transmit, Other} | _]} = call({bind_channel, {{198, 51, 100, 8}, 1}}, S3),
    ?assertEqual({ok, 16#4001}, meerkat_stun:get(channel_number, decoded(Other))),
    {_, [{transmit, Same} | _]} = call({bind_channel, ?PEER}, S3),
    ?assertEqual({ok, 16#4000}, meerkat_stun:get(channel_number, decoded(Same))).

channel_numbers_end(_) ->
    doc("0x4000 to 0x4FFF and no further (RFC8656 12)"),
    S = lists:foldl(fun(Port, S0) ->
                            {S1, [{transmit, Bind} | _]} =
                                call({bind_channel, {{198, 51, 100, 7}, Port}}, S0),
                            {S2, _} = datagram(succeeded(Bind, []), S1),
                            S2
                    end, allocated(), lists:seq(1, 4096)),
    ?assertEqual(lists:seq(16#4000, 16#4fff),
                 lists:sort(maps:values(maps:get(channels, meerkat_client_core:info(S))))),
    ?assertMatch({_, [{reply, me, {error, no_channels}}]},
                 call({bind_channel, {{198, 51, 100, 7}, 4097}}, S)).

refresh_until_expired(_) ->
    doc("silence and server errors are not the end, the end of the lifetime is (RFC8656 8)"),
    {S0, [{transmit, Refresh}, {start_timer, Timer, _}]} = handle({timeout, refresh}, allocated()),
    {S1, [_, {start_timer, refresh, 10_000}]} = datagram(failed(Refresh, 500), S0),
    ?assertMatch({_, [{transmit, _}, _]}, handle({timeout, refresh}, S1)),
    S2 = lists:foldl(fun(_, S) -> element(1, handle({timeout, Timer}, S)) end, S0,
                     lists:seq(1, 6)),
    {S3, [{stop_timer, Timer}, {transmit, _}, {start_timer, Other, 500}]} =
        handle({timeout, Timer}, S2),
    {S4, Lost} = handle({timeout, expire}, S3),
    ?assert(lists:member({stop_timer, Other}, Lost)),
    ?assertEqual({owner, {lost, {allocation, expired}}}, lists:last(Lost)),
    ?assertMatch({_, [{transmit, _}, _]}, call({allocate, #{}}, S4)).

refresh_refused(_) ->
    doc("437 and other refusals are the end of the allocation (RFC8656 8.3)"),
    [begin
         {S0, [{transmit, Refresh}, _]} = handle({timeout, refresh}, allocated()),
         {S1, Effects} = datagram(failed(Refresh, Code), S0),
         ?assertMatch({owner, {lost, {allocation, {Code, _}}}}, lists:last(Effects)),
         ?assertMatch({_, [{reply, me, {error, no_allocation}}]}, call({refresh, default}, S1))
     end || Code <- [437, 441, 403]],
    {S0, [{transmit, Refresh}, _]} = call({refresh, 300}, allocated()),
    {_, Effects} = datagram(failed(Refresh, 437), S0),
    ?assert(lists:any(fun({reply, me, {error, {437, _}}}) -> true; (_) -> false end, Effects)),
    ?assertMatch({owner, {lost, {allocation, {437, _}}}}, lists:last(Effects)).

data_in(_) ->
    doc("only from permitted peers; on a channel before its answer, too (RFC8656 11.4, 12, 12.6)"),
    S0 = allocated(),
    Data = fun(Attributes) ->
                   encode(#{class => indication, method => data,
                            transaction_id => meerkat_stun:transaction_id(),
                            attributes => Attributes})
           end,
    From = {xor_peer_address, ?PEER},
    ?assertMatch({_, []}, datagram(Data([From, {data, <<"x">>}]), S0)),
    ?assertMatch({_, []}, datagram(<<16#4000:16, 1:16, "x">>, S0)),
    {S1, [{transmit, _} | _]} = call({bind_channel, ?PEER}, S0),
    Early = [{<<16#4000:16, 1:16, "x">>, [{owner, {data, ?PEER, <<"x">>, channel}}]},
             {<<16#4000:16, 0:16>>, [{owner, {data, ?PEER, <<>>, channel}}]},
             {<<16#4000:16, 1:16, "x", 0, 0, 0>>, [{owner, {data, ?PEER, <<"x">>, channel}}]},
             {<<16#4000:16, 2:16, "x">>, []},
             {<<16#4001:16, 1:16, "x">>, []},
             {<<16#5000:16, 1:16, "x">>, []},
             {Data([From, {data, <<"x">>}]), [{owner, {data, ?PEER, <<"x">>, indication}}]},
             {Data([From, {data, <<>>}]), [{owner, {data, ?PEER, <<>>, indication}}]},
             {Data([From, {icmp, {3, 3, 0}}]), [{owner, {icmp, ?PEER, {3, 3, 0}}}]},
             {Data([From]), []},
             {Data([{data, <<"x">>}]), []},
             {Data([From, {data, <<"x">>}, {16#7ff0, <<>>}]), []},
             {Data([{xor_peer_address, {{198, 51, 100, 8}, 6000}}, {data, <<"x">>}]), []}],
    [?assertEqual({Packet, Effects}, {Packet, element(2, datagram(Packet, S1))})
     || {Packet, Effects} <- Early],
    {S2, [{transmit, Bind} | _]} = call({bind_channel, ?PEER}, S0),
    {S3, [_, {reply, me, {error, _}}]} = datagram(failed(Bind, 403), S2),
    ?assertMatch({_, []}, datagram(<<16#4000:16, 1:16, "x">>, S3)).

data_out(_) ->
    doc("ChannelData once the channel is confirmed, Send indications before (RFC8656 11.1, 12)"),
    {S0, [{transmit, Bind} | _]} = call({bind_channel, ?PEER}, allocated()),
    {_, [{transmit, Indication}]} = handle({send, ?PEER, [<<"he">>, "llo"]}, S0),
    ?assertMatch(#{class := indication, method := send, integrity := none,
                   attributes := [{xor_peer_address, ?PEER}, {data, <<"hello">>}]},
                 decoded(Indication)),
    {S1, _} = datagram(succeeded(Bind, []), S0),
    {_, [{transmit, Channel}]} = handle({send, ?PEER, [<<"he">>, "llo"]}, S1),
    ?assertEqual(<<16#4000:16, 5:16, "hello">>, iolist_to_binary(Channel)),
    ?assertMatch({_, []}, handle({send, ?PEER, <<"x">>}, new())).

unreachable(_) ->
    doc("a hard ICMP error fails what is under way; the allocation is asked after, some times as "
        "the server may start again, and lost if that fails too (RFC8489 6.2.1)"),
    {S0, [{transmit, _}, _]} = call(binding, new()),
    ?assertMatch({_, [_, {reply, me, {error, econnrefused}}]},
                 handle({unreachable, econnrefused}, S0)),
    {S1, [{transmit, _} | _]} = call({permit, [{198, 51, 100, 7}]}, allocated()),
    {S2, Effects} = handle({unreachable, econnrefused}, S1),
    ?assertMatch([{stop_timer, _}, {reply, me, {error, econnrefused}}, {transmit, _},
                  {start_timer, _, 500}], Effects),
    [_, _, {transmit, Refresh}, _] = Effects,
    ?assertMatch(#{method := refresh}, decoded(Refresh)),
    ?assertMatch({_, []}, handle({timeout, refresh}, S2)),    % it is being asked already
    ?assertMatch({_, [_, {start_timer, refresh, _}, {start_timer, expire, _}]},
                 datagram(succeeded(Refresh, [{lifetime, 600}]), S2)),
    #{transaction_id := Id} = decoded(Refresh),
    Deaf = fun(_, S) ->
                   {Spared, []} = handle({unreachable, econnrefused}, S),
                   {Again, [{transmit, Refresh} | _]} = handle({timeout, {retransmit, Id}}, Spared),
                   Again
           end,
    {S3, Lost} = handle({unreachable, econnrefused}, lists:foldl(Deaf, S2, [500, 1500, 3500])),
    ?assertEqual({owner, {lost, {allocation, econnrefused}}}, lists:last(Lost)),
    ?assertMatch({_, []}, handle({unreachable, econnrefused}, S3)).

release_forgets(_) ->
    doc("Refresh 0; 437 means it was gone already; nobody is left waiting (RFC8656 8.3)"),
    {S0, [{transmit, _} | _]} = handle({call, other, {permit, [{198, 51, 100, 7}]}}, allocated()),
    {S1, Effects} = call(release, S0),
    ?assert(lists:member({reply, other, {error, no_allocation}}, Effects)),
    [?assert(lists:member({stop_timer, T}, Effects)) || T <- [refresh, expire, permissions]],
    [Refresh] = [P || {transmit, P} <- Effects],
    ?assertMatch(#{method := refresh, attributes := [{lifetime, 0} | _], integrity := sha1},
                 decoded(Refresh)),
    ?assertMatch({_, [_, {reply, me, ok}]}, datagram(succeeded(Refresh, [{lifetime, 0}]), S1)),
    ?assertMatch({_, [_, {reply, me, ok}]}, datagram(failed(Refresh, 437), S1)),
    ?assertMatch({_, [_, {reply, me, {error, {441, _}}}]}, datagram(failed(Refresh, 441), S1)),
    ?assertMatch({_, [{reply, me, {error, no_allocation}}]}, call(release, new())),
    {_, [{transmit, Goodbye}]} = handle(close, S0),
    ?assertMatch(#{method := refresh, attributes := [{lifetime, 0} | _]}, decoded(Goodbye)),
    ?assertMatch({_, []}, handle(close, new())).

wrong_family_is_given_back(_) ->
    doc("a relayed address of a family we did not ask for (RFC8656 7.3)"),
    {S, Signed} = signed_allocate(new(#{family => inet6})),
    ?assertEqual({ok, 2}, meerkat_stun:get(requested_address_family, decoded(Signed))),
    {_, Effects} = datagram(allocated(Signed, 600), S),
    ?assertMatch([_, {transmit, _}, {reply, me, {error, {bad_response, allocate}}}], Effects),
    [_, {transmit, Refresh}, _] = Effects,
    ?assertEqual({ok, 0}, meerkat_stun:get(lifetime, decoded(Refresh))).

keeps_secrets(_) ->
    doc("neither password nor key is in what a crash report prints"),
    {S, _} = signed_allocate(),
    Printed = lists:flatten(io_lib:format("~p ~w", [S, S])),
    Secrets = [io_lib:format("~p", [?PASSWORD]), string:trim(io_lib:format("~w", [?PASSWORD]),
                                                             both, "<>"),
               string:trim(io_lib:format("~w", [key()]), both, "<>")],
    [?assertEqual(nomatch, string:find(Printed, Secret)) || Secret <- Secrets],
    ?assertMatch([_ | _], string:find(Printed, "example.org")).

%% -------------------------------------------------------------------------- without a server

options_refused(_) ->
    doc("what cannot start says why, and sends no exit signal"),
    Base = #{server => {{127, 0, 0, 1}, 3478}},
    Fingerprint = meerkat_tls_client:fingerprint(<<"certificate">>),
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
    ok = gen_udp:send(Stranger, {127, 0, 0, 1}, Port,
                      success(Request, [{xor_mapped_address, ?PEER}])),
    ok = gen_udp:send(Socket, {127, 0, 0, 1}, Port,
                      success(Request, [{xor_mapped_address, ?MAPPED}])),
    ?assertEqual({ok, ?MAPPED}, receive {_, _} = Result -> Result end),
    ?assertMatch(#{ignored := 0}, meerkat_client:info(Client)),
    ok = meerkat_client:close(Client).

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
    Client = client(Config),
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
    until(fun() ->
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

%% ----------------------------------------------------------------------------- helpers: core

new() -> new(#{}).

new(More) ->
    meerkat_client_core:new(maps:merge(#{server => ?SERVER, username => ?USER,
                                         password => fun() -> ?PASSWORD end}, More)).

handle(Event, S) -> meerkat_client_core:handle(Event, S).
call(Call, S) -> handle({call, me, Call}, S).
datagram(Packet, S) -> handle({datagram, Packet}, S).

%% A client whose Allocate is signed and unanswered, and that request.
signed_allocate() -> signed_allocate(new()).
signed_allocate(S) -> signed_allocate(S, #{}).
signed_allocate(S0, Options) ->
    {S1, [{transmit, First}, _]} = call({allocate, Options}, S0),
    {S2, [_, {transmit, Second}, _]} = datagram(unauthorized(First, <<"n1">>), S1),
    {S2, Second}.

%% A client with an allocation.
allocated() ->
    {S0, Signed} = signed_allocate(),
    {S, [_, _, _, {reply, me, {ok, _}}]} = datagram(allocated(Signed, 600), S0),
    S.

key() -> meerkat_stun:key(?USER, ?REALM, ?PASSWORD).

decoded(Packet) ->
    {ok, Message} = meerkat_stun:decode(iolist_to_binary(Packet)),
    Message.

encode(Message) ->
    meerkat_stun:encode(maps:with([class, method, transaction_id, attributes], Message)).

success(Request, Attributes) ->
    encode((decoded(Request))#{class := success, attributes := Attributes}).
success(Request, Attributes, Key) ->
    answer(Request, success, Attributes, {sha1, Key}).

succeeded(Request, Attributes) -> success(Request, Attributes, key()).

failure(Request, Code, Attributes) ->
    encode((decoded(Request))#{class := error,
                               attributes := [{error_code, {Code, <<"Why">>}} | Attributes]}).

failed(Request, Code) ->
    answer(Request, error, [{error_code, {Code, <<"Why">>}}], {sha1, key()}).

answer(Request, Class, Attributes, Integrity) ->
    #{method := Method, transaction_id := Id} = decoded(Request),
    meerkat_stun:encode(#{class => Class, method => Method, transaction_id => Id,
                          attributes => Attributes, integrity => Integrity}).

unauthorized(Request, Nonce) ->
    encode((decoded(Request))#{class := error,
                               attributes := [{error_code, {401, <<"Unauthenticated">>}},
                                              {realm, ?REALM}, {nonce, Nonce}]}).

stale(Request, Nonce) ->
    failure(Request, 438, [{realm, ?REALM}, {nonce, Nonce}]).

allocated(Request, Lifetime) ->
    signed_answer(Request, {sha1, key()}, Lifetime).

signed_answer(Request, Integrity, Lifetime) ->
    answer(Request, success, [{xor_relayed_address, ?RELAYED}, {xor_mapped_address, ?MAPPED},
                              {lifetime, Lifetime}], Integrity).

%% Lets all the time pass that the request has, and returns what the caller hears.
timed_out(Packet, S) ->
    #{transaction_id := Id} = decoded(Packet),
    timed_out_loop({retransmit, Id}, S).

timed_out_loop(Timer, S0) ->
    case handle({timeout, Timer}, S0) of
        {S, [{transmit, _}, {start_timer, Timer, _}]} -> timed_out_loop(Timer, S);
        {_, [{stop_timer, Timer}, {reply, me, Result}]} -> Result
    end.

%% What a Data indication from the peer leads to: newly ignored datagrams, and effects.
from_peer(S0) ->
    {S, Effects} = datagram(encode(#{class => indication, method => data,
                                     transaction_id => <<"abcdefghijkl">>,
                                     attributes => [{xor_peer_address, ?PEER},
                                                    {data, <<"x">>}]}), S0),
    Ignored = fun(State) -> maps:get(ignored, meerkat_client_core:info(State)) end,
    {Ignored(S) - Ignored(S0), Effects}.

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

%% For what happens elsewhere without telling us: asks again until it has.
until(Fun) ->
    case Fun() of
        true -> ok;
        false -> until(Fun)
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
        certificate_kit:issued(Authority, #{names => ?SERVER_NAMES}),
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
        Authority, #{names => ?SERVER_NAMES}),
    Args = ["-n", "--listening-port=" ++ integer_to_list(Port), "--listening-ip=127.0.0.1",
            "--listening-ip=::1", "--realm=example.org", "--allow-loopback-peers", "--no-cli",
            "--tls-listening-port=" ++ integer_to_list(Port + 1), "--cert=" ++ CertFile,
            "--pkey=" ++ KeyFile, "--no-dtls", "--userdb=" ++ filename:join(Directory, "turndb"),
            "--pidfile=" ++ filename:join(Directory, "pid"), "--log-file=stdout"] ++ Relays ++ More,
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
