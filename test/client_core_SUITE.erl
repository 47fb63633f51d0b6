%% The client's core by itself, with answers made up here and time that passes as told: which
%% request is sent when, what an answer means, what is renewed (RFC 8489, RFC 8656).
-module(client_core_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(turn_kit, [doc/1]).

-define(SERVER, {{192, 0, 2, 1}, 3478}).
-define(MAPPED, {{203, 0, 113, 9}, 40000}).
-define(RELAYED, {{192, 0, 2, 1}, 50000}).
-define(PEER, {{198, 51, 100, 7}, 6000}).
-define(REALM, <<"example.org">>).
-define(USER, <<"alice">>).
-define(PASSWORD, <<"wonderland">>).
-define(V6, {0, 0, 0, 0, 0, 0, 0, 1}).

all() ->
    [{group, core}].

groups() ->
    [{core, [parallel],
      [retransmits, answers_end_it, challenge, refused_credentials, realm_may_change,
       no_credentials_to_give, stale_nonce, binding_is_challenged_too,
       distrusts_unsigned_and_forged, strangers_are_ignored, unknown_attribute,
       password_algorithms, user_hash, bid_down_is_noticed, redirected_once, mismatch_moves,
       mismatch_stays, lifetimes, renews_permissions, lost_permission, renews_channels,
       lost_channel_keeps_number, channel_numbers_end, refresh_until_expired,
       refresh_refused, data_in, data_out, unreachable, release_forgets,
       wrong_family_is_given_back, keeps_secrets]}].

%% ------------------------------------------------------------------------------ transactions

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

%% ---------------------------------------------------------------------------- the allocation

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

%% ----------------------------------------------------------------------------------- helpers

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
