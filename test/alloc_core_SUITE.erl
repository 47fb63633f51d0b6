%% RFC 8656 as meerkat_alloc_core answers it: events in, state and effects out, nothing running.
-module(alloc_core_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(UDP, (meerkat_ctl:transport(udp))).
-define(NOW, -576460000000).
-define(SESSION, 16#0100000000000007).
-define(CLIENT, {{192, 0, 2, 9}, 40000}).
-define(SERVER, {{203, 0, 113, 1}, 3478}).
-define(RELAY4, {203, 0, 113, 5}).
-define(RELAY6, {16#2001, 16#db8, 0, 0, 0, 0, 0, 5}).
-define(PEER, {{8, 8, 8, 8}, 5000}).
-define(PEER6, {{16#2a00, 0, 0, 0, 0, 0, 0, 8}, 5000}).
-define(TXID, <<"abcdefghijkl">>).
-define(OTHER_TXID, <<"ABCDEFGHIJKL">>).
-define(TOKEN, 16#1122334455667788).

all() ->
    [{group, allocate}, {group, made}, {group, refresh}, {group, permission}, {group, channel},
     {group, dual}, {group, mobility}, {group, ending}, {group, replay}].

groups() ->
    [{allocate, [], [
        rfc8656_7_2_plain, requested_transport_missing_400, requested_transport_malformed_400,
        requested_transport_not_udp_442, dont_fragment_is_known,
        check_order_of_rfc8656_7_2, malformed_attributes_400, unknown_attributes_420_before_437,
        foreign_attributes_420,
        no_allocation_437_before_400, reservation_token_not_alone_400,
        reservation_token_unknown_508, reservation_token_of_another_user_508,
        reservation_token_redeemed, family_requested, family_not_relayed_440,
        family_unknown_440, no_family_means_ipv4, no_family_and_no_ipv4_440,
        requested_and_additional_family_400, additional_family_1_400,
        additional_family_and_even_port_r_400, even_port, lifetime_clamped,
        lifetime_cut_by_credentials,
        tunnelled_source_403, first_duplicate_counts]},
     {made, [], [
        success_has_exactly_these_attributes, one_of_several_relay_addresses,
        reservation_token_held_and_told, retransmission_answered_the_same,
        second_allocate_437, second_allocate_malformed_437, other_user_441, method_unknown_400,
        no_ports_508, token_refused_by_relay_508, five_tuple_taken_437, late_reply_ignored,
        reply_to_another_command_ignored]},
     {refresh, [], [
        refresh_default, refresh_clamped, refresh_cut_by_credentials,
        refresh_zero_deletes, refresh_family_of_it,
        refresh_other_family_443, refresh_unknown_family_443, refresh_malformed_400,
        refresh_gone_437, refresh_refused_500]},
     {permission, [], [
        no_peer_400, malformed_peer_400, one_malformed_of_two_400, several_peers_one_frame,
        port_is_ignored, family_443, one_of_wrong_family_443_none_installed, forbidden_403,
        relay_full_508, too_many_508, renewal_when_full, permission_lasts_300_s,
        relay_refusal_500]},
     {channel, [], [
        bind, channel_missing_400, peer_missing_400, malformed_channel_400, out_of_range_400,
        rfc5766_numbers_when_asked_for, port_0_400, number_bound_to_other_peer_400,
        peer_bound_to_other_number_400, same_pair_renews, channel_lasts_600_s,
        expired_channel_blocks_nothing, channel_family_443, channel_forbidden_403,
        channel_forbidden_leaves_nothing, channel_conflict_in_relay_400, channel_full_508,
        too_many_channels_508, other_port_of_a_peer]},
     {dual, [], [
        dual_both, dual_without_ipv6_pool_440, dual_with_one_family_full_508, dual_none_508,
        dual_without_ipv4_440, dual_peers_of_both, dual_delete_one_leaves_other,
        dual_delete_both_in_turn, dual_refresh_one, dual_refresh_none_means_both,
        dual_family_expires_alone]},
     {mobility, [], [
        allocate_asks_for_a_ticket, mobility_off_then_retransmitted,
        ticket_without_allocation, ticket_told_with_allocation, resumed,
        resume_sets_the_lifetime, resume_deletes, resume_of_one_family, resume_from_here_400,
        resume_with_spent_ticket_400, resume_by_another_441, resume_faults_in_order,
        resume_into_a_five_tuple_taken_437, resume_refused_by_relay, resume_when_gone_437,
        retransmission_for_30_s, later_resume_replaces_pending, moved,
        moved_while_another_is_asked_for, moved_to_nowhere_we_know, forgotten_with_all_places,
        tickets_count_round, ticket_texts, ticket_opens_with_its_key_alone]},
     {ending, [], [
        gone_expired, gone_while_awaiting_437, gone_after_delete, disconnected, new_peers_are_paced,
        bound_peers_are_known,
        delete_never_confirmed,
        relay_silent_leaves_unanswered, relay_down_while_making, token_released_with_allocation,
        info]},
     {replay, [], [
        all_of_it_for_the_time_left, channel_outlives_its_permission, families_with_their_own_ends,
        family_that_ended, all_that_ended, moved_before, move_pending, requests_in_hand,
        move_in_hand, end_in_hand, port_not_free_yet, port_of_somebody_else, relay_dies_again,
        relay_silent_at_replay, refused_at_replay, ended_while_replayed,
        reservation_is_not_replayed, counters_of_both_relays]}].

%%% Allocate (RFC 8656 7.2)

rfc8656_7_2_plain(_) ->
    {create, Plan} = admit([]),
    {_, Effects} = new(Plan),
    ?assertEqual([{ask, 1, {alloc_create,
                            #{session => ?SESSION, listener => 1, transport => ?UDP,
                              client => ?CLIENT, server => ?SERVER, pool_v4 => 40, pool_v6 => 0,
                              port_v4 => 0, port_v6 => 0, even => 0, token => 0,
                              lifetime_ms => 600000, bytes_per_s => 0, bucket => 0,
                              packets_per_s => 0,
                              protocol => 17, connections_max => 0}}}],
                 Effects).

requested_transport_missing_400(_) ->
    ?assertEqual(refused(400), admit_only([])).

requested_transport_malformed_400(_) ->
    ?assertEqual(refused(400), answer(meerkat_alloc_admit:admit(
        malformed([requested_transport], request(allocate, [])), limits()))).

requested_transport_not_udp_442(_) ->
    ?assertEqual(refused(442), admit_only([{requested_transport, 6}])),
    ?assertEqual(refused(442), admit_only([{requested_transport, 132}])).

dont_fragment_is_known(_) ->
    ?assertMatch({create, _}, admit([{dont_fragment, true}])),
    ?assertEqual(refused(400), answer(meerkat_alloc_admit:admit(
        malformed([dont_fragment], request(allocate, [{requested_transport, 17}])), limits()))).

%% Each request violates two checks; the one that comes first in 7.2 answers.
check_order_of_rfc8656_7_2(_) ->
    [?assertMatch({error, Code, _}, answer(admit(Attributes)), Attributes)
     || {Code, Attributes} <- [
            {400, [{reservation_token, 1}, {even_port, true}]},
            {400, [{reservation_token, 1}, {requested_address_family, 3}]},
            {400, [{requested_address_family, 3}, {additional_address_family, 2}]},
            {440, [{requested_address_family, 3}, {even_port, true}]}]],
    ?assertEqual(refused(442), admit_only([{requested_transport, 6}, {reservation_token, 1},
                                           {even_port, true}])).

malformed_attributes_400(_) ->
    [?assertEqual(refused(400), answer(meerkat_alloc_admit:admit(
         malformed([Name], request(allocate, [{requested_transport, 17}])), limits())), Name)
     || Name <- [lifetime, requested_address_family, additional_address_family, even_port,
                 reservation_token]],
    ?assertMatch({create, _}, meerkat_alloc_admit:admit(
        malformed([software, channel_number], request(allocate, [{requested_transport, 17}])),
        limits())).

%% Authentication, then 420, then what the method says (RFC 8489 6.3.1).
unknown_attributes_420_before_437(_) ->
    Unknown = fun(Method) -> unknown([16#7fff, 16#7ffe], request(Method, [])) end,
    [?assertEqual({error, 420, [{unknown_attributes, [16#7fff, 16#7ffe]}]},
                  answer(meerkat_alloc_admit:admit(Unknown(Method), limits())))
     || Method <- [allocate, refresh, create_permission, channel_bind]],
    {_, Effects} = request_to(made(), Unknown(refresh)),
    ?assertEqual({error, 420, [{unknown_attributes, [16#7fff, 16#7ffe]}]}, answered(Effects)).

%% X26: NAT discovery and ICE are not spoken here, though the codec reads them.
foreign_attributes_420(_) ->
    Request = unknown([16#7fff], request(refresh, [{priority, 1}, {change_request, 6},
                                                   {software, <<"x">>}])),
    ?assertEqual([{answer, {error, 420, [{unknown_attributes, [16#7fff, 16#0003, 16#0024]}]}}],
                 element(2, request_to(made(), Request))).

%% K8: without an allocation nothing else is looked at.
no_allocation_437_before_400(_) ->
    [?assertEqual(refused(437), answer(meerkat_alloc_admit:admit(request(Method, []), limits())))
     || Method <- [refresh, create_permission, channel_bind]].

reservation_token_not_alone_400(_) ->
    [?assertEqual(refused(400), answer(admit([{reservation_token, ?TOKEN}, Attribute])))
     || Attribute <- [{even_port, false}, {even_port, true}, {requested_address_family, 1},
                      {additional_address_family, 2}]].

reservation_token_unknown_508(_) ->
    ?assertEqual(refused(508), answer(admit([{reservation_token, ?TOKEN}]))).

%% X74: a token is its user's.
reservation_token_of_another_user_508(_) ->
    Request = request(allocate, [{requested_transport, 17}, {reservation_token, ?TOKEN}]),
    ?assertEqual(refused(508), answer(meerkat_alloc_admit:admit(
        Request#{held => {{default, <<"bob">>}, 4}}, limits()))).

reservation_token_redeemed(_) ->
    Request = request(allocate, [{requested_transport, 17}, {reservation_token, ?TOKEN}]),
    {create, Plan} = meerkat_alloc_admit:admit(Request#{held => {{default, <<"alice">>}, 6}},
                                              limits()),
    {Alloc, [{ask, 1, {alloc_create, Create}}]} = new(Plan),
    ?assertMatch(#{token := ?TOKEN, pool_v4 := 0, pool_v6 := 60, even := 0}, Create),
    {_, Effects} = relay(Alloc, created(#{relayed_v4 => undefined,
                                          relayed_v6 => {?RELAY6, 50001}})),
    ?assertEqual([{release, ?TOKEN}], [E || {release, _} = E <- Effects]),
    {success, Attributes} = answered(Effects),
    ?assertEqual(error, find(reservation_token, Attributes)),
    ?assertEqual({?RELAY6, 50001}, find(xor_relayed_address, Attributes)).

family_requested(_) ->
    {create, #{families := [6]} = Plan} = admit([{requested_address_family, 2}]),
    ?assertMatch({_, [{ask, 1, {alloc_create, #{pool_v4 := 0, pool_v6 := 60}}}]}, new(Plan)),
    ?assertMatch({create, #{families := [4]}}, admit([{requested_address_family, 1}])).

family_not_relayed_440(_) ->
    Request = request(allocate, [{requested_transport, 17}, {requested_address_family, 2}]),
    ?assertEqual(refused(440), answer(meerkat_alloc_admit:admit(Request, only(4)))).

family_unknown_440(_) ->
    ?assertEqual(refused(440), answer(admit([{requested_address_family, 3}]))),
    ?assertEqual(refused(440), answer(admit([{requested_address_family, 0}]))).

no_family_means_ipv4(_) ->
    ?assertMatch({create, #{families := [4]}}, admit([])).

no_family_and_no_ipv4_440(_) ->
    Request = request(allocate, [{requested_transport, 17}]),
    ?assertEqual(refused(440), answer(meerkat_alloc_admit:admit(Request, only(6)))).

requested_and_additional_family_400(_) ->
    ?assertEqual(refused(400), answer(admit([{requested_address_family, 1},
                                             {additional_address_family, 2}]))).

additional_family_1_400(_) ->
    ?assertEqual(refused(400), answer(admit([{additional_address_family, 1}]))).

additional_family_and_even_port_r_400(_) ->
    ?assertEqual(refused(400), answer(admit([{additional_address_family, 2},
                                             {even_port, true}]))),
    ?assertMatch({create, #{even := 1}}, admit([{additional_address_family, 2},
                                                {even_port, false}])).

even_port(_) ->
    ?assertMatch({create, #{even := 0}}, admit([])),
    ?assertMatch({create, #{even := 1}}, admit([{even_port, false}])),
    ?assertMatch({create, #{even := 2}}, admit([{even_port, true}])).

%% Also below the default: less than a client may ask for, for it may have nothing at all then.
lifetime_cut_by_credentials(_) ->
    [begin
         Request = request(allocate, [{requested_transport, 17}, {lifetime, Asked}]),
         {create, #{lifetime := Lifetime}} =
             meerkat_alloc_admit:admit(Request#{left => Left}, limits()),
         ?assertEqual({Asked, Left, Given}, {Asked, Left, Lifetime})
     end || {Asked, Left, Given} <- [{600, 7, 7}, {3600, 1800, 1800}, {3600, 7200, 3600},
                                     {60, 7, 7}, {60, 1800, 600}]].

%% X76, T29: max(default, min(asked, maximum)).
lifetime_clamped(_) ->
    [begin
         {create, #{lifetime := Lifetime}} = admit([{lifetime, Asked}]),
         ?assertEqual(Given, Lifetime)
     end || {Asked, Given} <- [{0, 600}, {1, 600}, {599, 600}, {600, 600}, {700, 700},
                               {3600, 3600}, {3601, 3600}, {16#ffffffff, 3600}]].

%% RFC 8656 21.4, X12.
tunnelled_source_403(_) ->
    Request = request(allocate, [{requested_transport, 17}]),
    [?assertEqual(refused(403), answer(meerkat_alloc_admit:admit(
         Request#{client => {Ip, 4000}}, limits())))
     || Ip <- [{16#2002, 1, 2, 3, 0, 0, 0, 1}, {16#2001, 0, 1, 2, 3, 4, 5, 6}]].

%% RFC 8489 14, K10.
first_duplicate_counts(_) ->
    ?assertMatch({create, #{lifetime := 700}},
                 admit([{requested_transport, 6}, {lifetime, 700}, {lifetime, 900}])).

%%% What comes of it

%% K21.
success_has_exactly_these_attributes(_) ->
    {_, Effects} = make([]),
    ?assertEqual([{answer, {success, [{xor_relayed_address, {?RELAY4, 50000}},
                                      {lifetime, 600},
                                      {xor_mapped_address, ?CLIENT}]}}], Effects).

%% Where there are several: where the client came to, else the relay's choice (ctl.def).
one_of_several_relay_addresses(_) ->
    {create, Plan} = admit([]),
    Pool = fun(Locals) ->
        Limits = (limits())#{pools => #{4 => lists:zip([40, 41], Locals)}},
        {_, [{ask, 1, {alloc_create, #{pool_v4 := Pool, pool_v6 := 0}}}]} =
            meerkat_alloc_core:new(Plan, ?SESSION, here(), Limits),
        Pool
    end,
    {Server, _} = ?SERVER,
    ?assertEqual(41, Pool([?RELAY4, Server])),
    ?assertEqual(40, Pool([Server, ?RELAY4])),
    ?assertEqual(16#ffffffff, Pool([{10, 0, 0, 5}, {10, 0, 0, 6}])).

%% The token is known before the answer that tells it has left.
reservation_token_held_and_told(_) ->
    {create, Plan} = admit([{even_port, true}]),
    {Alloc, [{ask, 1, {alloc_create, #{even := 2}}}]} = new(Plan),
    {_, Effects} = relay(Alloc, created(#{token => ?TOKEN})),
    ?assertEqual([{hold, ?TOKEN, 4},
                  {answer, {success, [{xor_relayed_address, {?RELAY4, 50000}},
                                      {lifetime, 600},
                                      {reservation_token, ?TOKEN},
                                      {xor_mapped_address, ?CLIENT}]}}], Effects).

%% RFC 8656 7.2 note, F9, X70: also after a Refresh, and with its token.
retransmission_answered_the_same(_) ->
    {create, Plan} = admit([{even_port, true}, {lifetime, 700}]),
    {Alloc0, _} = new(Plan),
    {Alloc1, Effects} = relay(Alloc0, created(#{token => ?TOKEN})),
    Again = request(allocate, [{requested_transport, 17}, {even_port, true}, {lifetime, 700}]),
    ?assertEqual({Alloc1, [{answer, answered(Effects)}]}, request_to(Alloc1, Again)),
    Alloc2 = refreshed(Alloc1, 3600),
    ?assertEqual([{answer, answered(Effects)}], element(2, request_to(Alloc2, Again))).

second_allocate_437(_) ->
    Other = with_txid(?OTHER_TXID, request(allocate, [{requested_transport, 17}])),
    ?assertEqual([{answer, refused(437)}], element(2, request_to(made(), Other))).

%% K9: 437 and nothing else.
second_allocate_malformed_437(_) ->
    Other = with_txid(?OTHER_TXID, malformed([lifetime], request(allocate, []))),
    ?assertEqual([{answer, refused(437)}], element(2, request_to(made(), Other))).

%% X40, K3: on every method, and nothing changes. RFC 8656 7.2 has another code for Allocate.
other_user_441(_) ->
    Alloc = made(),
    ?assertEqual({Alloc, [{answer, refused(437)}]},
                 request_to(Alloc, (request(allocate, [{requested_transport, 17}]))#{
                                       user => <<"bob">>})),
    [?assertEqual({Alloc, [{answer, refused(441)}]},
                  request_to(Alloc, (request(Method, Attributes))#{user => <<"bob">>}))
     || {Method, Attributes} <- [{refresh, [{lifetime, 0}]},
                                 {create_permission, [{xor_peer_address, ?PEER}]},
                                 {channel_bind, [{channel_number, 16#4000},
                                                 {xor_peer_address, ?PEER}]}]].

method_unknown_400(_) ->
    ?assertEqual(refused(400), answered(element(2, request_to(made(), request(connect, []))))).

no_ports_508(_) ->
    ?assertEqual([forget, {answer, refused(508)}, {stop, {never_made, no_ports, <<>>}}],
                 made_with_status(no_ports)),
    ?assertEqual([forget, {answer, refused(508)}, {stop, {never_made, full, <<>>}}],
                 made_with_status(full)).

token_refused_by_relay_508(_) ->
    Request = request(allocate, [{requested_transport, 17}, {reservation_token, ?TOKEN}]),
    {create, Plan} = meerkat_alloc_admit:admit(Request#{held => {{default, <<"alice">>}, 4}},
                                              limits()),
    {Alloc, _} = new(Plan),
    {_, Effects} = relay(Alloc, created(#{status => bad_token, relayed_v4 => undefined})),
    ?assertEqual([{release, ?TOKEN}, forget, {answer, refused(508)},
                  {stop, {never_made, bad_token, <<>>}}], Effects).

five_tuple_taken_437(_) ->
    ?assertEqual([forget, {answer, refused(437)}, {stop, {never_made, conflict, <<>>}}],
                 made_with_status(conflict)).

late_reply_ignored(_) ->
    Alloc = made(),
    [?assertEqual({Alloc, []}, meerkat_alloc_core:handle({relay, Ref, Message}, ?NOW, Alloc))
     || {Ref, Message} <- [{0, reply(ok)}, {1, reply(ok)}, {7, reply(gone)},
                           {1, created(#{})}]].

reply_to_another_command_ignored(_) ->
    {create, Plan} = admit([]),
    {Making, [{ask, 1, _}]} = new(Plan),
    {Asking, [{ask, 2, _}]} = request_to(made(), permission([{8, 8, 8, 8}])),
    {Asked, _} = relay(Asking, reply(ok)),
    {Deleted, _} = request_to(Asked, request(refresh, [{lifetime, 0}])),
    [?assertEqual({Alloc, []}, meerkat_alloc_core:handle({relay, Ref, Message}, ?NOW, Alloc))
     || {Alloc, Ref, Message} <- [{Making, 0, created(#{})}, {Making, 2, created(#{})},
                                  {Asking, 0, reply(ok)}, {Asking, 1, reply(ok)},
                                  {Deleted, 0, reply(gone)}, {Deleted, 2, reply(ok)}]].

%%% Refresh (RFC 8656 8.2)

refresh_default(_) ->
    {Alloc, Effects} = request_to(made(), request(refresh, [])),
    ?assertEqual([{ask, 2, {alloc_refresh, #{session => ?SESSION, family => 0,
                                              lifetime_ms => 600000}}}],
                 Effects),
    ?assertEqual([{answer, {success, [{lifetime, 600}]}}], element(2, relay(Alloc, reply(ok)))).

%% Each request by itself; none is none.
refresh_cut_by_credentials(_) ->
    Refresh = request(refresh, [{lifetime, 3600}]),
    {Cut, [{ask, _, {alloc_refresh, #{lifetime_ms := 8000}}}]} =
        request_to(made(), Refresh#{left => 8}),
    {Alloc, [{answer, {success, [{lifetime, 8}]}} | _]} = relay(Cut, reply(ok)),
    ?assertMatch({_, [{ask, _, {alloc_refresh, #{lifetime_ms := 3600000}}}]},
                 request_to(Alloc, Refresh)),
    ?assertMatch({_, [{tell, {alloc_delete, _}} | _]},
                 request_to(Alloc, (request(refresh, [{lifetime, 0}]))#{left => 8})).

refresh_clamped(_) ->
    [begin
         {Alloc, [{ask, 2, {alloc_refresh, #{lifetime_ms := Ms}}}]} =
             request_to(made(), request(refresh, [{lifetime, Asked}])),
         ?assertEqual(Given * 1000, Ms),
         ?assertEqual([{answer, {success, [{lifetime, Given}]}}],
                      element(2, relay(Alloc, reply(ok))))
     end || {Asked, Given} <- [{1, 600}, {17, 600}, {700, 700}, {7200, 3600},
                               {16#ffffffff, 3600}]].

%% F7: LIFETIME 0 and nothing else; the 5-tuple is free before the answer leaves.
refresh_zero_deletes(_) ->
    {_, Effects} = request_to(made(), request(refresh, [{lifetime, 0}])),
    ?assertEqual([{tell, {alloc_delete, #{session => ?SESSION}}},
                  forget,
                  {answer, {success, [{lifetime, 0}]}}], Effects).

refresh_family_of_it(_) ->
    {_, Effects} = request_to(made(), request(refresh, [{requested_address_family, 1}])),
    ?assertMatch([{ask, 2, {alloc_refresh, _}}], Effects).

refresh_other_family_443(_) ->
    [?assertEqual([{answer, refused(443)}],
                  element(2, request_to(made(), request(refresh, [{requested_address_family, 2}
                                                                  | More]))))
     || More <- [[], [{lifetime, 0}]]].

refresh_unknown_family_443(_) ->
    ?assertEqual([{answer, refused(443)}],
                 element(2, request_to(made(), request(refresh, [{requested_address_family, 3}])))).

refresh_malformed_400(_) ->
    [?assertEqual([{answer, refused(400)}],
                  element(2, request_to(made(), malformed([Name], request(refresh, [])))))
     || Name <- [lifetime, requested_address_family]].

%% The relay's clock was faster: the client learns that it has no allocation any more.
refresh_gone_437(_) ->
    {Alloc0, _} = request_to(made(), request(refresh, [])),
    {Alloc1, Effects} = relay(Alloc0, reply(gone)),
    ?assertEqual([forget, {answer, refused(437)}], Effects),
    ?assertMatch({_, [{stop, {expired, #{}}}]}, gone(Alloc1, 1)).

%% Nothing a relay says should end an allocation, even what it has no reason to say.
refresh_refused_500(_) ->
    {Alloc, [{ask, _, _}]} = request_to(made(), request(refresh, [{lifetime, 700}])),
    [?assertMatch({_, [{log, warning, _, _}, {answer, {error, 500, _}}]},
                  relay(Alloc, reply(Status)))
     || Status <- [forbidden, failed, refused, no_ports]].

%%% CreatePermission (RFC 8656 10.2)

no_peer_400(_) ->
    ?assertEqual([{answer, refused(400)}],
                 element(2, request_to(made(), request(create_permission, [])))).

malformed_peer_400(_) ->
    Request = malformed([xor_peer_address], request(create_permission, [])),
    ?assertEqual([{answer, refused(400)}], element(2, request_to(made(), Request))).

%% X14: none of them.
one_malformed_of_two_400(_) ->
    Request = malformed([xor_peer_address],
                        request(create_permission, [{xor_peer_address, ?PEER}])),
    ?assertEqual([{answer, refused(400)}], element(2, request_to(made(), Request))).

%% One frame for all, so that the relay takes all or none (T36).
several_peers_one_frame(_) ->
    {Alloc, Effects} = request_to(made(), permission([{8, 8, 8, 8}, {9, 9, 9, 9}, {8, 8, 8, 8}])),
    [{ask, 2, {permit, #{session := ?SESSION, lifetime_ms := 300000, peers := Peers}}}] = Effects,
    ?assertEqual([{{8, 8, 8, 8}, 0}, {{9, 9, 9, 9}, 0}], meerkat_ctl:peers(Peers)),
    ?assertEqual([{answer, {success, []}}], element(2, relay(Alloc, reply(ok)))).

%% K11.
port_is_ignored(_) ->
    [?assertMatch({_, [{ask, _, {permit, _}}]},
                  request_to(made(), request(create_permission, [{xor_peer_address,
                                                                  {{8, 8, 8, 8}, Port}}])))
     || Port <- [0, 1, 65535]].

family_443(_) ->
    Request = request(create_permission, [{xor_peer_address, ?PEER6}]),
    ?assertEqual([{answer, refused(443)}], element(2, request_to(made(), Request))).

one_of_wrong_family_443_none_installed(_) ->
    Request = request(create_permission, [{xor_peer_address, ?PEER}, {xor_peer_address, ?PEER6}]),
    {Alloc, Effects} = request_to(made(), Request),
    ?assertEqual([{answer, refused(443)}], Effects),
    ?assertMatch(#{permissions := []}, info_of(Alloc, 0)).

%% What is logged of it is refusal_SUITE's.
forbidden_403(_) ->
    {Alloc0, _} = request_to(made(), permission([{10, 0, 0, 1}])),
    {Alloc, Effects} = relay(Alloc0, reply(forbidden, <<"10.0.0.0/8">>)),
    ?assertEqual([{answer, refused(403)}], Effects),
    ?assertMatch(#{permissions := []}, info_of(Alloc, 0)).

relay_full_508(_) ->
    {Alloc, _} = request_to(made(), permission([{8, 8, 8, 8}])),
    ?assertEqual([{answer, refused(508)}], element(2, relay(Alloc, reply(full)))).

%% X77.
too_many_508(_) ->
    Peers = [{8, 8, 8, N} || N <- lists:seq(1, 4)],
    Full = permitted(made(), Peers),
    ?assertEqual([{answer, refused(508)}],
                 element(2, request_to(Full, permission([{9, 9, 9, 9}])))),
    ?assertEqual([{answer, refused(508)}],
                 element(2, request_to(made(), permission([{9, 9, 9, 9} | Peers])))).

renewal_when_full(_) ->
    Peers = [{8, 8, 8, N} || N <- lists:seq(1, 4)],
    Full = permitted(made(), Peers),
    ?assertMatch([{ask, _, {permit, _}}], element(2, request_to(Full, permission(Peers)))).

permission_lasts_300_s(_) ->
    Alloc = permitted(made(), [{8, 8, 8, 8}]),
    ?assertMatch(#{permissions := [{8, 8, 8, 8}]}, info_of(Alloc, 299999)),
    ?assertMatch(#{permissions := []}, info_of(Alloc, 300000)).

relay_refusal_500(_) ->
    {Alloc, _} = request_to(made(), permission([{8, 8, 8, 8}])),
    ?assertMatch([{log, warning, _, _}, {answer, {error, 500, []}}],
                 element(2, relay(Alloc, reply(refused, <<"why">>)))).

%%% ChannelBind (RFC 8656 12.2)

bind(_) ->
    {Alloc, Effects} = request_to(made(), channel(16#4000, ?PEER)),
    ?assertEqual([{ask, 2, {channel, #{session => ?SESSION, number => 16#4000, peer => ?PEER,
                                       lifetime_ms => 600000, permission_ms => 300000}}}],
                 Effects),
    {Bound, Answer} = relay(Alloc, reply(ok)),
    ?assertEqual([{answer, {success, []}}], Answer),
    ?assertMatch(#{channels := [{16#4000, ?PEER}], permissions := [{8, 8, 8, 8}]},
                 info_of(Bound, 0)).

channel_missing_400(_) ->
    Request = request(channel_bind, [{xor_peer_address, ?PEER}]),
    ?assertEqual([{answer, refused(400)}], element(2, request_to(made(), Request))).

peer_missing_400(_) ->
    Request = request(channel_bind, [{channel_number, 16#4000}]),
    ?assertEqual([{answer, refused(400)}], element(2, request_to(made(), Request))).

malformed_channel_400(_) ->
    [?assertEqual([{answer, refused(400)}],
                  element(2, request_to(made(), malformed([Name], channel(16#4000, ?PEER)))))
     || Name <- [channel_number, xor_peer_address]].

%% X79, T40.
out_of_range_400(_) ->
    [?assertEqual([{answer, refused(400)}],
                  element(2, request_to(made(), channel(Number, ?PEER))), Number)
     || Number <- [0, 16#3fff, 16#5000, 16#7fff, 16#8000, 16#ffff]],
    [?assertMatch([{ask, _, _}], element(2, request_to(made(), channel(Number, ?PEER))), Number)
     || Number <- [16#4000, 16#4fff]].

%% K12.
rfc5766_numbers_when_asked_for(_) ->
    Limits = (limits())#{channel_max => 16#7fff},
    Asked = fun(Number) ->
        element(2, request_to(made(), (channel(Number, ?PEER))#{limits => Limits}))
    end,
    [?assertMatch([{ask, _, _}], Asked(Number), Number) || Number <- [16#4000, 16#5000, 16#7fff]],
    ?assertEqual([{answer, refused(400)}], Asked(16#8000)).

port_0_400(_) ->
    ?assertEqual([{answer, refused(400)}],
                 element(2, request_to(made(), channel(16#4000, {{8, 8, 8, 8}, 0})))).

number_bound_to_other_peer_400(_) ->
    Alloc = bound(made(), 16#4000, ?PEER),
    [?assertEqual([{answer, refused(400)}],
                  element(2, request_to(Alloc, channel(16#4000, Other))))
     || Other <- [{{9, 9, 9, 9}, 5000}, {{8, 8, 8, 8}, 5001}]],
    ?assertMatch(#{channels := [{16#4000, ?PEER}]}, info_of(Alloc, 0)).

peer_bound_to_other_number_400(_) ->
    Alloc = bound(made(), 16#4000, ?PEER),
    ?assertEqual([{answer, refused(400)}], element(2, request_to(Alloc, channel(16#4001, ?PEER)))).

same_pair_renews(_) ->
    Alloc0 = bound(made(), 16#4000, ?PEER),
    {Alloc1, [{ask, _, {channel, _}}]} =
        request_at(599000, Alloc0, channel(16#4000, ?PEER)),
    {Alloc2, [{answer, {success, []}}]} =
        meerkat_alloc_core:handle({relay, 3, reply(ok)}, ?NOW + 599000, Alloc1),
    ?assertMatch(#{channels := [_]}, info_of(Alloc2, 1198999)),
    ?assertMatch(#{channels := []}, info_of(Alloc2, 1199000)).

%% T35, T40, X78: the permission goes first.
channel_lasts_600_s(_) ->
    Alloc = bound(made(), 16#4000, ?PEER),
    ?assertMatch(#{channels := [_], permissions := [_]}, info_of(Alloc, 299999)),
    ?assertMatch(#{channels := [_], permissions := []}, info_of(Alloc, 300000)),
    ?assertMatch(#{channels := [_]}, info_of(Alloc, 599999)),
    ?assertMatch(#{channels := []}, info_of(Alloc, 600000)).

%% F11.
expired_channel_blocks_nothing(_) ->
    Alloc = bound(made(), 16#4000, ?PEER),
    [?assertMatch({_, [{ask, _, {channel, _}}]},
                  request_at(600000, Alloc, Request))
     || Request <- [channel(16#4000, {{9, 9, 9, 9}, 9}), channel(16#4001, ?PEER)]].

channel_family_443(_) ->
    ?assertEqual([{answer, refused(443)}],
                 element(2, request_to(made(), channel(16#4000, ?PEER6)))).

channel_forbidden_403(_) ->
    {Alloc, _} = request_to(made(), channel(16#4000, {{127, 0, 0, 1}, 80})),
    ?assertEqual([{answer, refused(403)}],
                 element(2, relay(Alloc, reply(forbidden, <<"127.0.0.0/8">>)))).

channel_forbidden_leaves_nothing(_) ->
    {Alloc0, _} = request_to(made(), channel(16#4000, {{127, 0, 0, 1}, 80})),
    {Alloc, _} = relay(Alloc0, reply(forbidden, <<"127.0.0.0/8">>)),
    ?assertMatch(#{channels := [], permissions := []}, info_of(Alloc, 0)).

channel_conflict_in_relay_400(_) ->
    {Alloc, _} = request_to(made(), channel(16#4000, ?PEER)),
    ?assertEqual([{answer, refused(400)}], element(2, relay(Alloc, reply(conflict)))).

channel_full_508(_) ->
    {Alloc, _} = request_to(made(), channel(16#4000, ?PEER)),
    ?assertEqual([{answer, refused(508)}], element(2, relay(Alloc, reply(full)))).

too_many_channels_508(_) ->
    Full = lists:foldl(fun(N, Alloc) -> bound(Alloc, 16#4000 + N, {{8, 8, 8, 8}, 5000 + N}) end,
                       made(), lists:seq(1, 4)),
    ?assertEqual([{answer, refused(508)}], element(2, request_to(Full, channel(16#4100, ?PEER)))),
    ?assertMatch([{ask, _, _}],
                 element(2, request_to(Full, channel(16#4001, {{8, 8, 8, 8}, 5001})))).

other_port_of_a_peer(_) ->
    Alloc = bound(bound(made(), 16#4000, ?PEER), 16#4001, {{8, 8, 8, 8}, 5001}),
    ?assertMatch(#{channels := [_, _], permissions := [_]}, info_of(Alloc, 0)).

%%% Dual allocations (RFC 8656 7.2 check 9, 8.1)

dual_both(_) ->
    {create, Plan} = admit([{additional_address_family, 2}]),
    {Alloc, [{ask, 1, {alloc_create, #{pool_v4 := 40, pool_v6 := 60}}}]} = new(Plan),
    {_, Effects} = relay(Alloc, created(#{relayed_v6 => {?RELAY6, 50006}, pool_v6 => 60})),
    ?assertEqual({success, [{xor_relayed_address, {?RELAY4, 50000}},
                            {xor_relayed_address, {?RELAY6, 50006}},
                            {lifetime, 600},
                            {xor_mapped_address, ?CLIENT}]}, answered(Effects)).

dual_without_ipv6_pool_440(_) ->
    {Alloc, Effects} = make([{additional_address_family, 2}], only(4), created(#{})),
    ?assertEqual({success, [{xor_relayed_address, {?RELAY4, 50000}},
                            {lifetime, 600},
                            {xor_mapped_address, ?CLIENT},
                            {address_error_code, {2, 440, <<>>}}]}, answered(Effects)),
    ?assertEqual([{answer, refused(443)}],
                 element(2, request_to(Alloc, request(create_permission,
                                                      [{xor_peer_address, ?PEER6}])))).

dual_with_one_family_full_508(_) ->
    [begin
         {_, Effects} = make([{additional_address_family, 2}], limits(), created(Created)),
         {success, Attributes} = answered(Effects),
         ?assertEqual({Family, 508, <<>>}, find(address_error_code, Attributes)),
         ?assertEqual([Address], [A || {xor_relayed_address, A} <- Attributes])
     end || {Family, Address, Created} <- [
                {2, {?RELAY4, 50000}, #{status_v6 => no_ports}},
                {1, {?RELAY6, 50006}, #{status_v4 => no_ports, relayed_v4 => undefined,
                                        relayed_v6 => {?RELAY6, 50006}}}]].

dual_none_508(_) ->
    {_, Effects} = make([{additional_address_family, 2}], limits(),
                        created(#{status => no_ports, relayed_v4 => undefined})),
    ?assertEqual(refused(508), answered(Effects)).

dual_without_ipv4_440(_) ->
    {_, Effects} = make([{additional_address_family, 2}], only(6),
                        created(#{relayed_v4 => undefined, relayed_v6 => {?RELAY6, 50006}})),
    ?assertEqual({success, [{xor_relayed_address, {?RELAY6, 50006}},
                            {lifetime, 600},
                            {xor_mapped_address, ?CLIENT},
                            {address_error_code, {1, 440, <<>>}}]}, answered(Effects)),
    Request = request(allocate, [{requested_transport, 17}, {additional_address_family, 2}]),
    ?assertEqual(refused(440),
                 answer(meerkat_alloc_admit:admit(Request, (limits())#{pools => #{}}))).

dual_peers_of_both(_) ->
    Request = request(create_permission, [{xor_peer_address, ?PEER}, {xor_peer_address, ?PEER6}]),
    ?assertMatch([{ask, _, {permit, _}}], element(2, request_to(dual(), Request))),
    ?assertMatch([{ask, _, {channel, _}}],
                 element(2, request_to(dual(), channel(16#4000, ?PEER6)))).

%% T34: the other family's permissions and channels stay.
dual_delete_one_leaves_other(_) ->
    Alloc0 = bound(bound(dual(), 16#4000, ?PEER), 16#4006, ?PEER6),
    {Asking, Effects} = request_to(Alloc0, request(refresh, [{lifetime, 0},
                                                             {requested_address_family, 2}])),
    ?assertMatch([{ask, _, {alloc_refresh, #{session := ?SESSION, family := 6,
                                             lifetime_ms := 0}}}], Effects),
    {Alloc1, Answer} = relay(Asking, reply(ok)),
    ?assertEqual([{answer, {success, [{lifetime, 0}]}}], Answer),
    ?assertMatch(#{channels := [{16#4000, ?PEER}], permissions := [{8, 8, 8, 8}]},
                 info_of(Alloc1, 0)),
    ?assertEqual([{answer, refused(443)}],
                 element(2, request_to(Alloc1, channel(16#4007, ?PEER6)))),
    ?assertEqual([{answer, refused(443)}],
                 element(2, request_to(Alloc1, request(refresh, [{requested_address_family, 2}])))),
    ?assertMatch([{ask, _, {channel, _}}],
                 element(2, request_to(Alloc1, channel(16#4000, ?PEER)))).

dual_delete_both_in_turn(_) ->
    {Asking, _} = request_to(dual(), request(refresh, [{lifetime, 0},
                                                       {requested_address_family, 1}])),
    {Alloc, _} = relay(Asking, reply(ok)),
    {_, Effects} = request_to(Alloc, request(refresh, [{lifetime, 0},
                                                       {requested_address_family, 2}])),
    ?assertMatch([{tell, {alloc_delete, _}}, forget, {answer, {success, [{lifetime, 0}]}}],
                 Effects).

dual_refresh_one(_) ->
    {Alloc0, Effects} = request_to(dual(), request(refresh, [{lifetime, 3600},
                                                             {requested_address_family, 1}])),
    ?assertMatch([{ask, _, {alloc_refresh, #{family := 4, lifetime_ms := 3600000}}}], Effects),
    {Alloc1, Answer} = relay(Alloc0, reply(ok)),
    ?assertEqual([{answer, {success, [{lifetime, 3600}]}}], Answer),
    {_, Shorter} = request_to(Alloc1, request(refresh, [{lifetime, 700},
                                                        {requested_address_family, 2}])),
    ?assertMatch([{ask, _, {alloc_refresh, #{family := 6, lifetime_ms := 700000}}}], Shorter).

dual_refresh_none_means_both(_) ->
    {Alloc, _} = request_to(dual(), request(refresh, [{lifetime, 3600}])),
    ?assertEqual([{answer, {success, [{lifetime, 3600}]}}], element(2, relay(Alloc, reply(ok)))).

dual_family_expires_alone(_) ->
    {Alloc0, _} = request_to(bound(dual(), 16#4006, ?PEER6),
                             request(refresh, [{lifetime, 3600}, {requested_address_family, 1}])),
    {Alloc1, _} = relay(Alloc0, reply(ok)),
    ?assertMatch({_, [{answer, {error, 443, _}}]},
                 request_at(600000, Alloc1, channel(16#4006, ?PEER6))).

%%% The end

gone_expired(_) ->
    {_, Effects} = gone(made(), 1),
    ?assertMatch([forget, {stop, {expired, #{client_bytes := 20, peer_bytes := 40}}}], Effects),
    ?assertMatch({_, [forget, {stop, {socket_error, _}}]}, gone(made(), 2)).

gone_while_awaiting_437(_) ->
    {Alloc, _} = request_to(made(), permission([{8, 8, 8, 8}])),
    ?assertMatch({_, [forget, {answer, {error, 437, []}}, {stop, {expired, _}}]}, gone(Alloc, 1)).

%% A peer takes its part of a second, four seconds' worth may come at once, and what is known costs
%% nothing.
new_peers_are_paced(_) ->
    Held = meerkat_alloc_held:relayed([4], ?NOW + 600000),
    Ip = fun(N) -> {192, 0, 2, N} end,
    Paced = fun(Numbers, At, H) ->
        Ips = [Ip(N) || N <- Numbers],
        case meerkat_alloc_held:paced(Ips, 5, At, H) of
            {ok, Next} -> meerkat_alloc_held:permit(Ips, At, Next);
            too_fast -> too_fast
        end
    end,
    ?assertEqual(too_fast, Paced(lists:seq(1, 21), ?NOW, Held)),
    Twenty = Paced(lists:seq(1, 20), ?NOW, Held),
    ?assertEqual(too_fast, Paced([21], ?NOW, Twenty)),
    ?assertEqual(too_fast, Paced([21], ?NOW + 199, Twenty)),
    ?assertEqual(Twenty, Paced(lists:seq(1, 20), ?NOW, Twenty)),
    More = Paced([21], ?NOW + 200, Twenty),
    ?assertEqual(too_fast, Paced([22], ?NOW + 200, More)),
    %% What was not used is not saved up for ever.
    Late = ?NOW + 100000,
    ?assertEqual(too_fast, Paced(lists:seq(30, 50), Late, More)),
    _ = #{} = meerkat_alloc_held:view(Late, Paced(lists:seq(30, 49), Late, More)).

%% Where a channel outlives its permission, its peer is no new one.
bound_peers_are_known(_) ->
    {Ip, _} = ?PEER,
    Held = meerkat_alloc_held:bind(16#4000, ?PEER, ?NOW, meerkat_alloc_held:relayed([4], ?NOW)),
    Later = ?NOW + 400000,
    Pruned = meerkat_alloc_held:prune(Later, Held),
    ?assertMatch(#{permissions := [], channels := [_]}, meerkat_alloc_held:view(Later, Pruned)),
    ?assertEqual({ok, Pruned}, meerkat_alloc_held:paced([Ip], 1, Later, Pruned)).

%% By an administrator, or for a newer one: nobody is told, the 5-tuple is free at once, and the end
%% says whose wish it was.
disconnected(_) ->
    [begin
         {Alloc, Effects} = meerkat_alloc_core:handle({disconnect, By}, ?NOW, made()),
         ?assertEqual([{tell, {alloc_delete, #{session => ?SESSION}}}, forget], Effects),
         ?assertMatch({_, [{stop, {By, #{client_bytes := 20}}}]}, gone(Alloc, 0)),
         ?assertMatch({_, [{stop, {By, _}}]},
                      meerkat_alloc_core:handle(relay_silent, ?NOW, Alloc))
     end || By <- [admin, replaced]].

%% The 5-tuple may be somebody else's by then: no second `forget`.
gone_after_delete(_) ->
    {Alloc, _} = request_to(made(), request(refresh, [{lifetime, 0}])),
    ?assertMatch({_, [{stop, {deleted, #{client_bytes := 20}}}]}, gone(Alloc, 0)).

delete_never_confirmed(_) ->
    {Alloc, _} = request_to(made(), request(refresh, [{lifetime, 0}])),
    ?assertMatch({_, [{stop, {deleted, #{}}}]},
                 meerkat_alloc_core:handle(relay_silent, ?NOW, Alloc)).

relay_silent_leaves_unanswered(_) ->
    {Alloc, _} = request_to(made(), permission([{8, 8, 8, 8}])),
    {_, Effects} = meerkat_alloc_core:handle(relay_silent, ?NOW, Alloc),
    ?assertEqual([{tell, {alloc_delete, #{session => ?SESSION}}}, forget, {answer, none},
                  {stop, relay_silent}], Effects).

%% Its client has not heard of it.
relay_down_while_making(_) ->
    {create, Plan} = admit([]),
    {Alloc, _} = new(Plan),
    ?assertMatch({_, [forget, {answer, none}, {stop, relay_down}]},
                 meerkat_alloc_core:handle(relay_down, ?NOW, Alloc)).

%% K15: a reservation ends with the allocation that made it, whichever way that ends.
token_released_with_allocation(_) ->
    {Alloc, _} = make([{even_port, true}], limits(), created(#{token => ?TOKEN})),
    Ends = [gone(Alloc, 1),
            request_to(Alloc, request(refresh, [{lifetime, 0}]))],
    [?assertEqual([{release, ?TOKEN}], [E || {release, _} = E <- Effects])
     || {_, Effects} <- Ends].

info(_) ->
    ?assertEqual(#{user => <<"alice">>, client => ?CLIENT, transport => udp,
                   relayed => [{?RELAY4, 50000}], expires_ms => 599000, permissions => [],
                   channels => []},
                 info_of(made(), 1000)).

%%% Another relay

all_of_it_for_the_time_left(_) ->
    Alloc = permitted(bound(made(), 16#4001, ?PEER), [{9, 9, 9, 9}]),
    {Asked, [{ask, Ref, Create}]} = up(100000, down(Alloc)),
    ?assertEqual({alloc_create, #{session => ?SESSION, listener => 1, transport => ?UDP,
                                  client => ?CLIENT, server => ?SERVER, pool_v4 => 40,
                                  pool_v6 => 0, port_v4 => 50000, port_v6 => 0, even => 0,
                                  token => 0, lifetime_ms => 500000, bytes_per_s => 0,
                                  packets_per_s => 0,
                                  bucket => 0, protocol => 17, connections_max => 0}}, Create),
    {Back, Effects} = back_at(100010, Asked, Ref, created(#{})),
    ?assertEqual([{tell, {channel, #{session => ?SESSION, number => 16#4001, peer => ?PEER,
                                     lifetime_ms => 499990, permission_ms => 199990}}},
                  {tell, {permit, #{session => ?SESSION, lifetime_ms => 199990,
                                    peers => meerkat_ctl:encode_peers([{{9, 9, 9, 9}, 0}])}}},
                  {replayed, ok}], Effects),
    ?assertEqual(info_of(Alloc, 100010), info_of(Back, 100010)).

%% K17; and what is over is not back.
channel_outlives_its_permission(_) ->
    Alloc = permitted(bound(made([{lifetime, 3600}], limits()), 16#4001, ?PEER), [{9, 9, 9, 9}]),
    ?assertMatch([{tell, {channel, #{lifetime_ms := 200000, permission_ms := 0}}},
                  {replayed, ok}], replayed(400000, Alloc)),
    ?assertEqual([{replayed, ok}], replayed(600000, Alloc)).

families_with_their_own_ends(_) ->
    {Alloc0, _} = request_to(dual(), request(refresh, [{lifetime, 3600},
                                                       {requested_address_family, 2}])),
    {Alloc, _} = relay(Alloc0, reply(ok)),
    {Asked, [{ask, Ref, {alloc_create, Create}}]} = up(1000, down(Alloc)),
    ?assertMatch(#{pool_v4 := 40, port_v4 := 50000, pool_v6 := 60, port_v6 := 50006,
                   lifetime_ms := 3599000}, Create),
    {_, Effects} = back_at(1000, Asked, Ref,
                            created(#{relayed_v6 => {?RELAY6, 50006}, pool_v6 => 60})),
    ?assertEqual([{tell, {alloc_refresh, #{session => ?SESSION, family => 4,
                                           lifetime_ms => 599000}}},
                  {replayed, ok}], Effects).

family_that_ended(_) ->
    {Alloc0, _} = request_to(dual(), request(refresh, [{lifetime, 3600},
                                                       {requested_address_family, 2}])),
    {Alloc, _} = relay(Alloc0, reply(ok)),
    ?assertMatch({_, [{ask, _, {alloc_create, #{pool_v4 := 0, port_v4 := 0, pool_v6 := 60,
                                                port_v6 := 50006}}}]},
                 up(600000, down(Alloc))).

all_that_ended(_) ->
    ?assertMatch({_, [{replayed, over}, forget, {stop, {expired, #{}}}]},
                 up(600000, down(made()))).

%% While the address is asked for, and while the others are; the relay tells of the last one's end.
ended_while_replayed(_) ->
    Alloc = permitted(bound(dual(), 16#4001, ?PEER), [{9, 9, 9, 9}]),
    {Asked, [{ask, Ref, _}]} = up(100000, down(Alloc)),
    {There, [{replayed, there}]} =
        relay_at(200000, Asked, Ref, created(#{relayed_v6 => {?RELAY6, 50006}, pool_v6 => 60})),
    Whole = fun(Ms) ->
        {_, Effects} = meerkat_alloc_core:handle(relay_whole, ?NOW + Ms, There),
        Effects
    end,
    ?assertMatch([{tell, {channel, #{lifetime_ms := 299999, permission_ms := 0}}}, {replayed, ok}],
                 Whole(300001)),
    ?assertEqual([{replayed, ok}], Whole(600000)),
    ?assertMatch({_, [forget, {stop, {expired, #{}}}]}, gone(There, 1)).

%% RFC 8016: the client is where it was last.
moved_before(_) ->
    #{client := Client} = There = there(),
    Alloc = move_done(There, resumed_to(There, 0, made_mobile())),
    ?assertMatch({_, [{ask, _, {alloc_create, #{client := Client}}}]}, up(0, down(Alloc))).

move_pending(_) ->
    #{client := Client} = There = there(),
    Pending = resumed_to(There, 0, made_mobile()),
    {Asked, [{ask, Ref, {alloc_create, #{client := ?CLIENT}}}]} = up(0, down(Pending)),
    {Back, [{tell, {alloc_move, #{client := Client}}}, {replayed, ok}]} =
        back_at(0, Asked, Ref, created(#{})),
    _ = move_done(There, Back).

%% Its client may have been answered by the relay that died: it is as good as done, and done again.
%% One that was not answered asks again.
requests_in_hand(_) ->
    [begin
         {Asked, [{ask, Last, _}]} = request_to(made(), Request),
         {Done, _} = meerkat_alloc_core:handle({relay, Last, reply(ok)}, ?NOW, Asked),
         {Down, [{answer, none}]} = meerkat_alloc_core:handle(relay_down, ?NOW, Asked),
         ?assertEqual(info_of(Done, 0), info_of(Down, 0)),
         {Again, [{ask, Ref, {alloc_create, _}}]} = up(0, Down),
         {Back, Effects} = back_at(0, Again, Ref, created(#{})),
         ?assertEqual({replayed, ok}, lists:last(Effects)),
         ?assertEqual(info_of(Done, 0), info_of(Back, 0)),
         ?assertMatch({_, [{ask, _, _}]}, request_to(Back, Request))
     end || Request <- [permission([{9, 9, 9, 9}]), channel(16#4000, ?PEER),
                        request(refresh, [])]].

%% The ticket is still good.
move_in_hand(_) ->
    There = there(),
    {Asked, [{meet, There}, {ask, _, {alloc_move, _}}]} =
        request_to(made_mobile(), resume(There, 0, [])),
    {Down, [{part, There}, {answer, none}]} =
        meerkat_alloc_core:handle(relay_down, ?NOW, Asked),
    {Again, [{ask, Ref, {alloc_create, #{client := ?CLIENT}}}]} = up(0, Down),
    {Back, [{replayed, ok}]} = back_at(0, Again, Ref, created(#{})),
    _ = resumed_to(There, 0, Back).

end_in_hand(_) ->
    {Alloc, _} = request_to(made(), request(refresh, [{lifetime, 0}])),
    ?assertMatch({_, [{stop, {deleted, #{}}}]},
                 meerkat_alloc_core:handle(relay_down, ?NOW, Alloc)).

port_not_free_yet(_) ->
    {Asked, [{ask, Ref, Create}]} = up(0, down(made())),
    {Waiting, [{later, _}]} = relay_at(0, Asked, Ref, taken()),
    {Again, [{ask, Ref2, Create}]} = meerkat_alloc_core:handle(again, ?NOW, Waiting),
    ?assertMatch({_, [{replayed, ok}]}, back_at(0, Again, Ref2, created(#{}))).

%% After a while it is given up.
port_of_somebody_else(_) ->
    {Asked, [{ask, Ref, _}]} = up(0, down(made())),
    ?assertMatch({_, [{replayed, lost}, forget, {stop, {not_replayed, no_ports}}]},
                 relay_at(10000, Asked, Ref, taken())).

%% Nothing but a port that is not free yet can be had a moment later.
refused_at_replay(_) ->
    [begin
         {Asked, [{ask, Ref, _}]} = up(0, down(made())),
         ?assertMatch({_, [{replayed, lost}, forget, {stop, {not_replayed, Status}}]},
                      relay_at(0, Asked, Ref, created(#{status => Status,
                                                        relayed_v4 => undefined})))
     end || Status <- [gone, full, conflict, refused]].

%% At any step; what the one before said late is nobody's.
relay_dies_again(_) ->
    Alloc = permitted(made(), [{9, 9, 9, 9}]),
    {Asked, [{ask, Ref, Create}]} = up(0, down(Alloc)),
    {Waiting, [{later, _}]} = relay_at(0, Asked, Ref, taken()),
    {There, [{replayed, there}]} = relay_at(0, Asked, Ref, created(#{})),
    [begin
         {Again, [{ask, Ref2, Create}]} = up(0, down(Before)),
         ?assertMatch({Again, []}, relay_at(0, Again, Ref, created(#{}))),
         ?assertMatch({_, [{tell, {permit, _}}, {replayed, ok}]},
                      back_at(0, Again, Ref2, created(#{})))
     end || Before <- [Asked, Waiting, There]],
    ?assertMatch({_, []}, meerkat_alloc_core:handle(again, ?NOW, down(Waiting))).

relay_silent_at_replay(_) ->
    {Asked, _} = up(0, down(made())),
    ?assertMatch({_, [{tell, {alloc_delete, _}}, {replayed, lost}, forget, {stop, relay_silent}]},
                 meerkat_alloc_core:handle(relay_silent, ?NOW, Asked)).

%% K15: nobody can redeem a token that the new relay does not know.
reservation_is_not_replayed(_) ->
    {Alloc, _} = make([{even_port, true}], limits(), created(#{token => ?TOKEN})),
    {Down, [{release, ?TOKEN}]} = meerkat_alloc_core:handle(relay_down, ?NOW, Alloc),
    ?assertMatch({_, [{ask, _, {alloc_create, #{even := 0, token := 0}}}]}, up(0, Down)),
    {_, [{answer, {success, Attributes}}]} =
        request_to(Down, request(allocate, [{requested_transport, 17}, {even_port, true}])),
    ?assertNot(lists:keymember(reservation_token, 1, Attributes)).

%% What the first had counted when it was last asked, at a Refresh.
counters_of_both_relays(_) ->
    {Soon, _} = request_to(made(), request(refresh, [{lifetime, 3600}])),
    {Alloc, [{answer, _}]} = meerkat_alloc_core:handle({relay, 2, reply(ok)}, ?NOW, Soon),
    {Alloc0, _} = request_at(10000, Alloc, request(refresh, [{lifetime, 3600}])),
    {Alloc1, Effects} =
        meerkat_alloc_core:handle({relay, 3, reply(ok)}, ?NOW + 10000, Alloc0),
    ?assert(lists:member({tell, {session_info, #{session => ?SESSION}}}, Effects)),
    Stats = (turn_kit:no_drops())#{session => ?SESSION, client_packets => 1, client_bytes => 10,
                                   peer_packets => 0, peer_bytes => 0, no_channel => 3},
    {Alloc2, []} = meerkat_alloc_core:handle({relay, 0, {session_stats, Stats}}, ?NOW, Alloc1),
    {Asked, [{ask, Ref, _}]} = up(0, down(Alloc2)),
    {Back, _} = back_at(0, Asked, Ref, created(#{})),
    ?assertMatch({_, [forget, {stop, {expired, #{client_packets := 3, client_bytes := 30,
                                                 peer_packets := 4, no_channel := 3}}}]},
                 gone(Back, 1)).

down(Alloc) ->
    {Down, []} = meerkat_alloc_core:handle(relay_down, ?NOW, Alloc),
    Down.

up(Ms, Alloc) ->
    meerkat_alloc_core:handle(relay_up, ?NOW + Ms, Alloc).

relay_at(Ms, Alloc, Ref, Message) ->
    meerkat_alloc_core:handle({relay, Ref, Message}, ?NOW + Ms, Alloc).

%% Its addresses are there, and so are all others'.
back_at(Ms, Alloc, Ref, Message) ->
    {There, [{replayed, there}]} = relay_at(Ms, Alloc, Ref, Message),
    meerkat_alloc_core:handle(relay_whole, ?NOW + Ms, There).

replayed(Ms, Alloc) ->
    {Asked, [{ask, Ref, _}]} = up(Ms, down(Alloc)),
    {_, Effects} = back_at(Ms, Asked, Ref, created(#{})),
    Effects.

taken() ->
    created(#{status => no_ports, relayed_v4 => undefined, status_v4 => no_ports}).

%%% Mobility (RFC 8016)

allocate_asks_for_a_ticket(_) ->
    Admit = fun(Ticket, Limits) ->
        Request = request(allocate, [{requested_transport, 17}, {mobility_ticket, Ticket}]),
        meerkat_alloc_admit:admit(Request, Limits)
    end,
    ?assertMatch({create, #{mobile := true}}, Admit(<<>>, mobile())),
    ?assertMatch({create, #{mobile := false}}, admit([])),
    ?assertEqual(refused(405), answer(Admit(<<>>, limits()))),
    [?assertEqual(refused(400), answer(Admit(<<"x">>, L))) || L <- [limits(), mobile()]].

ticket_without_allocation(_) ->
    Limits = #{tickets := Key} = mobile(),
    Admit = fun(Ticket, L) ->
        answer(meerkat_alloc_admit:admit(request(refresh, [{mobility_ticket, Ticket}]), L))
    end,
    Good = meerkat_ticket:seal(?SESSION, 0, Key),
    ?assertEqual(refused(437), Admit(Good, Limits)),
    [?assertEqual(refused(400), Admit(T, Limits)) || T <- [<<>>, <<"x">>, <<Good/binary, "x">>]],
    [?assertEqual(refused(405), Admit(T, limits())) || T <- [<<>>, Good]],
    %% Only Refresh has a ticket.
    Request = request(channel_bind, [{mobility_ticket, <<"x">>}]),
    ?assertEqual(refused(437), answer(meerkat_alloc_admit:admit(Request, Limits))).

%% A reload that takes mobility away takes no answer away that was given.
mobility_off_then_retransmitted(_) ->
    {Alloc, Effects} = make([{mobility_ticket, <<>>}], mobile(), created(#{})),
    Again = request(allocate, [{requested_transport, 17}, {mobility_ticket, <<>>}]),
    Now = Again#{limits => maps:remove(tickets, mobile())},
    ?assertEqual(answered(Effects), answered(element(2, request_to(Alloc, Now)))),
    ?assertMatch({success, [_ | _]}, answered(Effects)).

ticket_told_with_allocation(_) ->
    #{tickets := Key} = Limits = mobile(),
    {_, Effects} = make([{mobility_ticket, <<>>}], Limits, created(#{})),
    {success, Attributes} = answered(Effects),
    ?assertEqual({ok, ?SESSION, 0},
                 meerkat_ticket:open(find(mobility_ticket, Attributes), Key)),
    {success, Plain} = answered(element(2, make([], Limits, created(#{})))),
    ?assertEqual(error, find(mobility_ticket, Plain)).

%% The 5-tuple is known before the relay is asked, and the ticket told when all is done.
resumed(_) ->
    #{tickets := Key} = Limits = mobile(),
    {Alloc1, Effects} = request_to(made_mobile(Limits), resume(there(), 0, [])),
    ?assertEqual([{meet, there()},
                  {ask, 2, {alloc_move, (there())#{session => ?SESSION}}}],
                 Effects),
    {Alloc2, [{ask, 3, {alloc_refresh, #{lifetime_ms := 600000, family := 0}}}]} =
        relay(Alloc1, reply(ok)),
    {Alloc3, [{answer, {success, Attributes}}]} = relay(Alloc2, reply(ok)),
    ?assertMatch([{lifetime, 600}, {mobility_ticket, _}], Attributes),
    ?assertEqual({ok, ?SESSION, 1},
                 meerkat_ticket:open(find(mobility_ticket, Attributes), Key)),
    %% Not there yet.
    ?assertMatch(#{client := ?CLIENT}, info_of(Alloc3, 0)).

resume_sets_the_lifetime(_) ->
    {Alloc1, _} = request_to(made_mobile(), resume(there(), 0, [{lifetime, 1800}])),
    {Alloc2, [{ask, _, {alloc_refresh, #{lifetime_ms := 1800000}}}]} = relay(Alloc1, reply(ok)),
    {Alloc3, [{answer, {success, [{lifetime, 1800}, _]}}]} = relay(Alloc2, reply(ok)),
    ?assertMatch(#{expires_ms := 1800000}, info_of(Alloc3, 0)).

resume_deletes(_) ->
    {_, Effects} = request_to(made_mobile(), resume(there(), 0, [{lifetime, 0}])),
    ?assertEqual([{tell, {alloc_delete, #{session => ?SESSION}}}, forget,
                  {answer, {success, [{lifetime, 0}]}}], Effects).

resume_of_one_family(_) ->
    {Dual, _} = make([{additional_address_family, 2}, {mobility_ticket, <<>>}], mobile(),
                     created(#{relayed_v6 => {?RELAY6, 50006}, pool_v6 => 60})),
    V6 = {requested_address_family, 2},
    {Alloc1, _} = request_to(Dual, resume(there(), 0, [V6, {lifetime, 0}])),
    {Alloc2, [{ask, _, {alloc_refresh, #{family := 6, lifetime_ms := 0}}}]} =
        relay(Alloc1, reply(ok)),
    {Alloc3, [{answer, {success, [{lifetime, 0}, {mobility_ticket, _}]}}]} =
        relay(Alloc2, reply(ok)),
    {_, Effects} = request_to(Alloc3, resume(elsewhere(), 1, [V6])),
    ?assertEqual([{answer, refused(443)}], Effects).

resume_from_here_400(_) ->
    Alloc = made_mobile(),
    {_, Effects} = request_to(Alloc, resume(here(), 0, [])),
    ?assertEqual([{answer, refused(400)}], Effects),
    %% Nor from another address of the server's.
    {_, AtOther} = request_to(Alloc, resume((here())#{server := ?PEER, listener := 2}, 0, [])),
    ?assertEqual([{answer, refused(400)}], AtOther),
    Pending = resumed_to(there(), 0, Alloc),
    [?assertEqual([{answer, refused(400)}],
                  element(2, request_to(Pending, with_txid(?OTHER_TXID, resume(Place, 1, [])))))
     || Place <- [here(), there()]].

resume_with_spent_ticket_400(_) ->
    Pending = resumed_to(there(), 0, made_mobile()),
    [?assertEqual([{answer, refused(400)}], element(2, request_to(Pending, Request)))
     || Request <- [resume(elsewhere(), 0, []), resume(elsewhere(), 2, []),
                    resume(elsewhere(), 16#ffff, []),
                    with_txid(?OTHER_TXID, resume(there(), 0, []))]].

resume_by_another_441(_) ->
    Bob = fun(Request) -> Request#{user := <<"bob">>} end,
    Alloc = made_mobile(),
    [?assertEqual([{answer, refused(441)}],
                  element(2, request_to(Alloc, Bob(resume(there(), 0, Attributes)))))
     || Attributes <- [[], [{lifetime, 0}]]],
    %% What she did he cannot repeat.
    Pending = resumed_to(there(), 0, Alloc),
    ?assertEqual([{answer, refused(441)}],
                 element(2, request_to(Pending, Bob(resume(there(), 0, []))))).

%% Each request violates two checks.
resume_faults_in_order(_) ->
    Alloc = made_mobile(),
    Bob = #{user => <<"bob">>},
    [?assertMatch({_, [{answer, {error, Code, _}}]}, request_to(Alloc, Request), Code)
     || {Code, Request} <- [
            {420, unknown([16#7fff], resume(there(), 7, []))},
            {400, malformed([lifetime], maps:merge(resume(there(), 0, []), Bob))},
            {400, maps:merge(resume(here(), 0, []), Bob)},
            {441, maps:merge(taken(resume(there(), 0, [])), Bob)},
            {437, taken(resume(there(), 0, [{requested_address_family, 2}]))}]].

resume_into_a_five_tuple_taken_437(_) ->
    {Alloc, Effects} = request_to(made_mobile(), taken(resume(there(), 0, []))),
    ?assertEqual([{answer, refused(437)}], Effects),
    %% The ticket was not spent.
    resumed_to(elsewhere(), 0, Alloc).

resume_refused_by_relay(_) ->
    [begin
         {Alloc1, _} = request_to(made_mobile(), resume(there(), 0, [])),
         {Alloc2, Effects} = relay(Alloc1, reply(Status)),
         ?assertEqual([{part, there()}, {answer, refused(Code)}], Effects),
         resumed_to(elsewhere(), 0, Alloc2)
     end || {Status, Code} <- [{conflict, 437}, {full, 500}, {refused, 500}]].

resume_when_gone_437(_) ->
    {Alloc, _} = request_to(made_mobile(), resume(there(), 0, [])),
    {_, Effects} = relay(Alloc, reply(gone)),
    ?assertEqual([forget, {answer, refused(437)}], Effects),
    {_, Ended} = gone(Alloc, 1),
    ?assertMatch([forget, {answer, {error, 437, []}}, {stop, {expired, _}}], Ended).

%% RFC 8016 3.2.2: at least 30 s; a transaction is over after 39.5 s (RFC 8489 6.2.1).
retransmission_for_30_s(_) ->
    Pending = resumed_to(there(), 0, made_mobile()),
    Here = move_done(there(), Pending),
    [begin
         {Alloc1, [{ask, _, {alloc_refresh, _}}]} =
             request_at(Ms, Alloc, resume(there(), 0, [])),
         {_, [{answer, {success, Attributes}}]} = relay(Alloc1, reply(ok)),
         ?assertEqual(find(mobility_ticket, Attributes), ticket(1))
     end || Alloc <- [Pending, Here], Ms <- [0, 30000, 39500]],
    [?assertEqual([{answer, refused(400)}],
                  element(2, request_at(60000, Alloc, resume(there(), 0, []))))
     || Alloc <- [Pending, Here]].

later_resume_replaces_pending(_) ->
    Pending = resumed_to(there(), 0, made_mobile()),
    {There, Elsewhere} = {there(), elsewhere()},
    {Alloc1, [{meet, Elsewhere}, {ask, _, {alloc_move, _}}]} =
        request_to(Pending, resume(Elsewhere, 1, [])),
    {Alloc2, Effects} = relay(Alloc1, reply(ok)),
    ?assertMatch([{part, There}, {ask, _, {alloc_refresh, _}}], Effects),
    {Alloc3, [{answer, {success, _}}]} = relay(Alloc2, reply(ok)),
    %% The first is nobody's now.
    {_, Nothing} = relay_says_moved(there(), Alloc3),
    ?assertEqual([], Nothing),
    {Alloc4, Spent} = request_to(Alloc3, resume(there(), 0, [])),
    ?assertEqual([{answer, refused(400)}], Spent),
    ?assertMatch(#{client := ?CLIENT}, info_of(Alloc4, 0)).

moved(_) ->
    {Here, #{client := Client} = There} = {here(), there()},
    Pending = resumed_to(There, 0, made_mobile()),
    {Alloc, [{part, Here}, {log, info, _, _}]} = relay_says_moved(There, Pending),
    ?assertMatch(#{client := Client}, info_of(Alloc, 0)),
    ?assertEqual([{answer, refused(400)}],
                 element(2, request_to(Alloc, with_txid(?OTHER_TXID, resume(there(), 1, []))))),
    %% And back.
    move_done(here(), resumed_to(here(), 1, Alloc)).

%% The relay speaks of the move that was pending when it took the next one.
moved_while_another_is_asked_for(_) ->
    {Here, There} = {here(), there()},
    Pending = resumed_to(There, 0, made_mobile()),
    {Alloc1, _} = request_to(Pending, resume(elsewhere(), 1, [])),
    {Alloc2, [{part, Here}, {log, _, _, _}]} = relay_says_moved(There, Alloc1),
    {Alloc3, [{ask, _, {alloc_refresh, _}}]} = relay(Alloc2, reply(ok)),
    {Alloc4, [{answer, {success, _}}]} = relay(Alloc3, reply(ok)),
    {_, [{part, There}, {log, _, _, _}]} = relay_says_moved(elsewhere(), Alloc4).

moved_to_nowhere_we_know(_) ->
    [?assertMatch({Alloc, []}, relay_says_moved(elsewhere(), Alloc))
     || Alloc <- [made(), made_mobile(), resumed_to(there(), 0, made_mobile())]].

%% `forget` is for every 5-tuple: no `part` besides.
forgotten_with_all_places(_) ->
    Pending = resumed_to(there(), 0, made_mobile()),
    [?assertEqual({[forget], []}, {[E || E = forget <- Effects], [E || {part, _} = E <- Effects]})
     || {_, Effects} <- [gone(Pending, 1), request_to(Pending, request(refresh, [{lifetime, 0}]))]].

tickets_count_round(_) ->
    lists:foldl(fun(N, Alloc) ->
        Place = (there())#{client := {{192, 0, 2, 1}, N}},
        resumed_to(Place, (N - 1) band 16#ffff, Alloc)
    end, made_mobile(), lists:seq(1, 16#10003)).

%% 32 characters, the most that coturn's client keeps; as different as chance makes them.
ticket_texts(_) ->
    #{tickets := Key} = mobile(),
    Tickets = [meerkat_ticket:seal(Session, Number, Key)
               || Session <- lists:seq(?SESSION, ?SESSION + 30), Number <- [0, 1, 16#ffff]],
    ?assertEqual(length(Tickets), length(lists:usort(Tickets))),
    [?assertMatch({match, _}, re:run(T, "^[A-Za-z0-9_-]{32}$")) || T <- Tickets],
    %% Each of the places sees many characters.
    [?assert(length(lists:usort([binary:at(T, N) || T <- Tickets])) > 20)
     || N <- lists:seq(0, 31)].

ticket_opens_with_its_key_alone(_) ->
    #{tickets := Key} = mobile(),
    [begin
         Ticket = meerkat_ticket:seal(Session, Number, Key),
         ?assertEqual({ok, Session, Number}, meerkat_ticket:open(Ticket, Key)),
         ?assertEqual({error, forged}, meerkat_ticket:open(Ticket, meerkat_ticket:new_key())),
         [?assertEqual({error, forged}, meerkat_ticket:open(T, Key))
          || N <- lists:seq(0, 31), Bit <- lists:seq(0, 7),
             <<Before:N/binary, C, After/binary>> <- [Ticket],
             T <- [<<Before/binary, (C bxor (1 bsl Bit)), After/binary>>]]
     end || Session <- [0, ?SESSION, 16#ffffffffffffffff], Number <- [0, 16#ffff]].

%%% Helpers

%% One key for all cases of a run, as a server has one.
mobile() ->
    Key = case persistent_term:get(?MODULE, none) of
        none ->
            New = meerkat_ticket:new_key(),
            ok = persistent_term:put(?MODULE, New),
            New;
        Known ->
            Known
    end,
    (limits())#{tickets => Key}.

made_mobile() ->
    made_mobile(mobile()).

made_mobile(Limits) ->
    made([{mobility_ticket, <<>>}], Limits).

ticket(Number) ->
    #{tickets := Key} = mobile(),
    meerkat_ticket:seal(?SESSION, Number, Key).

%% What meerkat_request makes of a Refresh with that ticket.
resume(#{client := Client} = Place, Number, Attributes) ->
    (request(refresh, [{mobility_ticket, ticket(Number)} | Attributes]))#{
        client := Client,
        move => #{ticket => Number, place => Place, taken => false}}.

taken(#{move := Move} = Request) ->
    Request#{move := Move#{taken := true}}.

resumed_to(Place, Number, Alloc0) ->
    {Alloc1, [{meet, Place}, {ask, Move, {alloc_move, _}}]} =
        request_to(Alloc0, resume(Place, Number, [])),
    {Alloc2, Effects} = relay(Alloc1, reply(ok), Move),
    {ask, Refresh, {alloc_refresh, _}} = lists:last(Effects),
    {Alloc3, [{answer, {success, _}}]} = relay(Alloc2, reply(ok), Refresh),
    Alloc3.

relay_says_moved(#{client := Client}, Alloc) ->
    meerkat_alloc_core:handle({relay, 0, {session_moved, #{session => ?SESSION,
                                                           client => Client}}}, ?NOW, Alloc).

move_done(Place, Alloc0) ->
    {Alloc, [{part, _}, {log, _, _, _}]} = relay_says_moved(Place, Alloc0),
    Alloc.

limits() ->
    #{default_lifetime => 600, max_lifetime => 3600, max_peers => 4, channel_max => 16#4fff,
      pools => #{4 => [{40, {10, 0, 0, 5}}], 6 => [{60, ?RELAY6}]}}.

only(Family) ->
    #{pools := Pools} = Limits = limits(),
    Limits#{pools => maps:with([Family], Pools)}.

request(Method, Attributes) ->
    #{message => #{class => request, method => Method, transaction_id => ?TXID,
                   attributes => Attributes, unknown => [], malformed => [],
                   integrity => sha1, fingerprint => false},
      user => <<"alice">>,
      client => ?CLIENT}.

malformed(Names, #{message := Message} = Request) ->
    Request#{message => Message#{malformed => Names}}.

unknown(Types, #{message := Message} = Request) ->
    Request#{message => Message#{unknown => Types}}.

with_txid(Id, #{message := Message} = Request) ->
    Request#{message => Message#{transaction_id => Id}}.

permission(Ips) ->
    request(create_permission, [{xor_peer_address, {Ip, 0}} || Ip <- Ips]).

channel(Number, Peer) ->
    request(channel_bind, [{channel_number, Number}, {xor_peer_address, Peer}]).

refused(Code) ->
    {error, Code, []}.

admit(Attributes) ->
    meerkat_alloc_admit:admit(request(allocate, [{requested_transport, 17} | Attributes]),
                             limits()).

admit_only(Attributes) ->
    answer(meerkat_alloc_admit:admit(request(allocate, Attributes), limits())).

answer({answer, Response}) -> Response.

answered(Effects) ->
    [Response] = [R || {answer, R} <- Effects],
    Response.

find(Name, Attributes) ->
    proplists:get_value(Name, Attributes, error).

new(Plan) ->
    new(Plan, limits()).

new(Plan, Limits) ->
    meerkat_alloc_core:new(Plan, ?SESSION, here(), Limits).

here() ->
    #{listener => 1, transport => ?UDP, client => ?CLIENT, server => ?SERVER, flow => 99}.

there() ->
    #{listener => 1, transport => ?UDP, client => {{192, 0, 2, 77}, 50007}, server => ?SERVER}.

%% With another family, hence another listener.
elsewhere() ->
    #{listener => 3, transport => ?UDP, client => {{16#2001, 16#db8, 0, 0, 0, 0, 0, 77}, 50008},
      server => {{16#2001, 16#db8, 0, 0, 0, 0, 0, 1}, 3478}}.

created(Fields) ->
    {alloc_created, maps:merge(#{session => ?SESSION, status => ok,
                                 relayed_v4 => {?RELAY4, 50000}, relayed_v6 => undefined,
                                 pool_v4 => 40, pool_v6 => 0,
                                 status_v4 => ok, status_v6 => ok, token => 0,
                                 detail => <<>>}, Fields)}.

reply(Status) ->
    reply(Status, <<>>).

reply(Status, Detail) ->
    {reply, #{command => 0, status => Status, session => ?SESSION, detail => Detail}}.

%% The reply to the last command, whatever its number.
relay(Alloc, Message) ->
    relay(Alloc, Message, 1).

relay(Alloc, Message, Ref) ->
    case meerkat_alloc_core:handle({relay, Ref, Message}, ?NOW, Alloc) of
        {Alloc, []} when Ref < 20 -> relay(Alloc, Message, Ref + 1);
        {Changed, Effects} -> {Changed, [E || E <- Effects, not is_count(E)]}
    end.

%% Asked for along with something else (counters_of_both_relays).
is_count({tell, {session_info, _}}) -> true;
is_count(_Effect) -> false.

request_to(Alloc, Request) ->
    request_at(0, Alloc, Request).

request_at(Ms, Alloc, Request) ->
    meerkat_alloc_core:handle({request, maps:merge(#{limits => limits()}, Request)}, ?NOW + Ms,
                              Alloc).

gone(Alloc, Reason) ->
    Counted = (turn_kit:no_drops())#{client_packets => 2, client_bytes => 20, peer_packets => 4,
                                     peer_bytes => 40},
    Gone = Counted#{session => ?SESSION, reason => Reason},
    meerkat_alloc_core:handle({relay, 0, {session_gone, Gone}}, ?NOW, Alloc).

make(Attributes) ->
    make(Attributes, limits(), created(#{})).

make(Attributes, Limits, Created) ->
    Request = request(allocate, [{requested_transport, 17} | Attributes]),
    {create, Plan} = meerkat_alloc_admit:admit(Request, Limits),
    {Alloc, _} = new(Plan, Limits),
    relay(Alloc, Created).

made() ->
    made([], limits()).

made(Attributes, Limits) ->
    {Alloc, _} = make(Attributes, Limits, created(#{})),
    Alloc.

dual() ->
    {Alloc, _} = make([{additional_address_family, 2}], limits(),
                      created(#{relayed_v6 => {?RELAY6, 50006}, pool_v6 => 60})),
    Alloc.

made_with_status(Status) ->
    {_, Effects} = make([], limits(), created(#{status => Status, relayed_v4 => undefined})),
    Effects.

permitted(Alloc0, Ips) ->
    {Alloc1, [{ask, _, _}]} = request_to(Alloc0, permission(Ips)),
    {Alloc2, [{answer, {success, []}}]} = relay(Alloc1, reply(ok)),
    Alloc2.

bound(Alloc0, Number, Peer) ->
    {Alloc1, [{ask, _, _}]} = request_to(Alloc0, channel(Number, Peer)),
    {Alloc2, [{answer, {success, []}}]} = relay(Alloc1, reply(ok)),
    Alloc2.

refreshed(Alloc0, Lifetime) ->
    {Alloc1, [{ask, _, _}]} = request_to(Alloc0, request(refresh, [{lifetime, Lifetime}])),
    {Alloc2, [{answer, {success, _}}]} = relay(Alloc1, reply(ok)),
    Alloc2.

info_of(Alloc, After) ->
    Details = meerkat_alloc_facts:details(Alloc, ?NOW + After),
    #{permissions := Permissions, channels := Channels} = Details,
    (maps:without([peers, protocol, connections], Details))#{
        permissions := [Ip || #{peer := Ip} <- Permissions],
        channels := [{Number, Peer} || #{number := Number, peer := Peer} <- Channels]}.
