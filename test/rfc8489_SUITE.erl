%% RFC 8489 (STUN) seen from a client's socket: one case per rule a server over UDP can be held to,
%% named after the row of the conformance table (s14_... is row S14). Knows nothing of the server
%% but its addresses, its users and the names of its counters.
-module(rfc8489_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([s1_first_bits/1, s1_too_short/1, s1_empty_datagram/1, s1_cookie/1, s1_length/1,
         s2_transaction_id/1, s3_all_types/1, s8_response_class/1, s8_unknown_method/1,
         s8_bad_fingerprint/1, s9_unknown_optional/1, s9_known_unexpected/1,
         s10_binding_unknown_required/1, s10_signed_unknown_required/1,
         s10_authentication_first/1, s10_ice_attributes/1, s10_nat_discovery_off/1,
         s10_signed_ice_and_discovery/1, s11_binding_indication/1, s11_unknown_required/1,
         s12_retransmitted_binding/1, s13_errors_are_signed/1, s14_binding_xor_mapped_v4/1,
         s14_binding_xor_mapped_v6/1, s15_answer_from_the_address_asked/1,
         s16_fingerprint_last/1, s16_fingerprint_behind_integrity/1,
         s16_no_fingerprint_unasked/1, s18_behind_integrity_ignored/1,
         s18_behind_integrity_sha256_ignored/1, s18_integrity_behind_sha256_ignored/1,
         s19_nonce_cookie/1, s20_secrets_hard_to_guess/1, s21_long_term_key/1,
         s21_opaque_string/1, s22_challenge/1, s22_challenge_in_spite_of_names/1,
         s23_nonce_for_one_client/1, s23_nonce_of_another_client/1, s24_offers_and_their_bits/1,
         s25_signed_without_identity/1, s26_no_algorithm_means_md5/1, s27_algorithms_as_offered/1,
         s27_algorithms_not_as_offered/1, s28_unknown_user/1, s29_wrong_password/1,
         s29_one_bit_wrong/1, s29_wrong_by_every_algorithm/1, s30_sha256_decides/1,
         s31_stale_nonce/1, s32_success_is_signed/1, s32_algorithms_are_answered_by_sha256/1,
         s37_padding_ignored/1, s37_first_duplicate_counts/1,
         s38_reserved_byte_ignored/1, s39_long_usernames/1, s40_userhash/1,
         s40_userhash_of_another_length/1, s40_no_userhash_for_the_secret/1,
         s41_integrity_before_fingerprint/1,
         s42_truncated_sha256/1, s43_error_code_bits/1, s44_realm_and_nonce/1,
         s45_algorithms_on_the_wire/1, s46_unknown_attributes_list/1, s47_binding_has_no_state/1,
         s48_md5_for_legacy_only/1]).

-import(turn_kit, [doc/1, open/1, open/2, ask/2, silent/2, dropped/3, request/2, request/3,
                   challenged/1, signed/3, signed/4, call/3, call/4, allocated/1, allocate/1,
                   allocate/2, permit/2, peer/0, peer_next/1, peer_same/2, send/2, fence/1, get/2,
                   get_all/2, code/1, names/1, success/1, expect/2, patch/3]).

-export([s4_short_messages/1, s5_software/1, s36_binding_is_open/1, s36_rfc3489_off/1,
         s36_rfc3489_on/1, s36_rfc3489_binding_only/1]).

-define(COOKIE, 16#2112A442).

-spec all() -> [atom()].
all() -> turn_kit:cases(?MODULE).

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 60}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) -> [{server, turn_kit:start_server()} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) -> turn_kit:stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).

%% What a server that asks for credentials is asked for in turn.
methods() -> [allocate, refresh, create_permission, channel_bind].

udp() -> {requested_transport, 17}.

%% What a challenge has.
challenge(Server) ->
    [error_code, nonce] ++ [password_algorithms || not turn_kit:is_foreign(Server)] ++ [realm].

%% The server of the suite, for what only Meerkat has.
ours(Config) ->
    turn_kit:is_foreign(server(Config)) andalso throw({skip, "no RFC 8489 9.2 there"}),
    server(Config).

%% No secret, so that every name is a user's and may be hashed.
users_only() -> #{secrets => []}.

%% ------------------------------------------------------------------------------- 5: framing

-spec s1_first_bits(turn_kit:config()) -> _.
s1_first_bits(Config) ->
    doc("the first two bits are zero, else it is not STUN (RFC 8489 5, RFC 7983)"),
    Client = open(server(Config)),
    <<_, Rest/binary>> = request(binding, []),
    [dropped(Client, not_stun, <<First, Rest/binary>>)
     || First <- [4, 15, 16, 19, 20, 22, 63, 128, 191, 192, 255]].

-spec s1_too_short(turn_kit:config()) -> _.
s1_too_short(Config) ->
    doc("fewer than 20 bytes are no message (RFC 8489 5)"),
    Client = open(server(Config)),
    Binding = request(binding, []),
    [dropped(Client, too_short, binary:part(Binding, 0, N)) || N <- lists:seq(1, 19)].

-spec s1_empty_datagram(turn_kit:config()) -> _.
s1_empty_datagram(Config) ->
    doc("a datagram without a byte is no message: the kernel drops it (RFC 8489 5)"),
    dropped(open(server(Config)), receive_queue_full, <<>>).

-spec s1_cookie(turn_kit:config()) -> _.
s1_cookie(Config) ->
    doc("without the magic cookie it is not STUN of our time (RFC 8489 5, 6.3)"),
    Client = open(server(Config)),
    Binding = request(binding, []),
    [dropped(Client, bad_cookie, patch(Binding, 4, <<Cookie:32>>))
     || Cookie <- [0, ?COOKIE bxor 1, ?COOKIE bxor 16#80000000, 16#42A41221]].

-spec s1_length(turn_kit:config()) -> _.
s1_length(Config) ->
    doc("the length is a multiple of 4 and that of the datagram (RFC 8489 5)"),
    Client = open(server(Config)),
    Binding = request(binding, [{software, <<"abcd">>}]),
    [dropped(Client, bad_length, patch(Binding, 2, <<Length:16>>))
     || Length <- [0, 4, 7, 9, 12, 16#FFFC, 16#FFFF]],
    [dropped(Client, bad_length, <<(patch(Binding, 2, <<(8 + N):16>>))/binary, 0:(8 * N)>>)
     || N <- [1, 2, 3]].

-spec s2_transaction_id(turn_kit:config()) -> _.
s2_transaction_id(Config) ->
    doc("a response carries the transaction id of its request (RFC 8489 5)"),
    Client = open(server(Config)),
    [begin
         Request = stun_model:encode(#{class => request, method => binding, attributes => [],
                                       transaction_id => Txid}),
         #{bytes := <<_:64, Txid:12/binary, _/binary>>} = ask(Client, Request)
     end || Txid <- [<<0:96>>, <<-1:96>>, <<?COOKIE:32, ?COOKIE:32, ?COOKIE:32>>]].

-spec s3_all_types(turn_kit:config()) -> _.
s3_all_types(Config) ->
    doc("of the 16384 types only seven requests are answered (RFC 8489 5, 6.3; RFC 8656 17; "
        "RFC 6062 6.2)"),
    Server = server(Config),
    Client = open(Server),
    Answered = [16#0001, 16#0003, 16#0004, 16#0008, 16#0009, 16#000a, 16#000b],
    Ignored = [16#0011, 16#0016],
    Others = lists:seq(0, 16#3FFF) -- (Answered ++ Ignored),
    <<_:16, Rest/binary>> = request(binding, []),
    Count = fun() ->
        lists:sum([turn_kit:counter(Server, C)
                   || C <- [not_stun, unknown_method, response_class]])
    end,
    Before = Count(),
    in_batches(64, fun(Type) -> send(Client, <<Type:16, Rest/binary>>) end,
               fun() -> fence(Client) end, Others),
    turn_kit:is_foreign(Server) orelse ?assertEqual(length(Others), Count() - Before),
    [silent(Client, <<Type:16, Rest/binary>>) || Type <- Ignored],
    [begin
         Request = <<Type:16, Rest/binary>>,
         #{bytes := <<Got:16, _/binary>>} = ask(Client, Request),
         ?assertEqual(case Type of 1 -> 16#0101; _ -> 16#0110 bor Type end, Got)
     end || Type <- Answered].

in_batches(_, _, _, []) -> ok;
in_batches(N, Each, Between, List) ->
    {Batch, Rest} = lists:split(min(N, length(List)), List),
    lists:foreach(Each, Batch),
    Between(),
    in_batches(N, Each, Between, Rest).

%% ----------------------------------------------------------------------- 6: what is answered

-spec s4_short_messages(turn_kit:config()) -> _.
s4_short_messages(_Config) ->
    doc("the longest answers fit 548 bytes, which every path takes (RFC 8489 6.1)"),
    Text = binary:copy(<<"x">>, 127),
    turn_kit:with_server(#{realm => Text, software => Text}, fun(Server) ->
        Client = challenged(open(Server)),
        Many = [{T, <<>>} || T <- lists:seq(16#7F00, 16#7F40)],
        Fingerprint = #{fingerprint => true},
        Answers = [expect(401, ask(Client, request(allocate, [udp(), fingerprint]))),
                   expect(438, call(Client, allocate, [udp()], Fingerprint#{nonce => <<"n">>})),
                   expect(420, ask(Client, request(binding, Many ++ [fingerprint]))),
                   expect(420, call(Client, allocate, [udp() | Many], Fingerprint)),
                   success(call(Client, allocate, [udp(), {additional_address_family, 2}],
                                Fingerprint)),
                   success(ask(Client, request(binding, [fingerprint])))],
        ?assertEqual([], [S || #{bytes := B} <- Answers, S <- [byte_size(B)], S > 548])
    end).

-spec s5_software(turn_kit:config()) -> _.
s5_software(Config) ->
    doc("SOFTWARE is said by who is told to, and not unless (RFC 8489 6.1, 16.1.2)"),
    Said = fun(Server) ->
        Client = challenged(open(Server)),
        [get(software, Answer)
         || Answer <- [call(Client, refresh, []), allocate(Client), call(Client, refresh, [])]]
    end,
    ?assertEqual([undefined, undefined, undefined], Said(server(Config))),
    turn_kit:with_server(#{software => <<"Meerkat 1">>}, fun(Server) ->
        ?assertEqual([<<"Meerkat 1">>, <<"Meerkat 1">>, <<"Meerkat 1">>], Said(Server)),
        %% Strangers are told nothing (X21).
        ?assertEqual(undefined, get(software, ask(open(Server), request(allocate, [udp()]))))
    end).

-spec s8_response_class(turn_kit:config()) -> _.
s8_response_class(Config) ->
    doc("a response to nothing is dropped (RFC 8489 6.3.3, 6.3.4)"),
    Client = open(server(Config)),
    [dropped(Client, response_class, request(Class, binding, Items))
     || Class <- [success, error],
        Items <- [[], [{error_code, {400, <<>>}}], [{xor_mapped_address, {{127, 0, 0, 1}, 9}}]]].

-spec s8_unknown_method(turn_kit:config()) -> _.
s8_unknown_method(Config) ->
    doc("a method nobody knows is dropped, signed or not (RFC 8489 6.3)"),
    Client = challenged(open(server(Config))),
    [begin
         dropped(Client, unknown_method, request(Method, [])),
         dropped(Client, unknown_method, signed(Client, Method, []))
     end || Method <- [16#002, 16#00E, 16#07F, 16#080, 16#0FF]],
    dropped(Client, not_stun, request(16#FFF, [])).            % first byte above 3 (RFC 7983)

-spec s8_bad_fingerprint(turn_kit:config()) -> _.
s8_bad_fingerprint(Config) ->
    doc("a wrong FINGERPRINT makes it no STUN (RFC 8489 6.3, 7)"),
    Client = open(server(Config)),
    Binding = request(binding, [fingerprint]),
    Size = byte_size(Binding),
    [dropped(Client, bad_fingerprint, patch(Binding, Size - N, <<Byte>>))
     || N <- [1, 4], Byte <- [binary:at(Binding, Size - N) bxor 16#01]].

-spec s9_unknown_optional(turn_kit:config()) -> _.
s9_unknown_optional(Config) ->
    doc("unknown comprehension-optional attributes are ignored (RFC 8489 6.3)"),
    Client = open(server(Config)),
    success(ask(Client, request(binding, [{16#8FFF, <<"abc">>}, {16#FFFF, <<>>}]))),
    Signed = challenged(Client),
    success(allocate(Signed, [{16#8FFF, <<"abc">>}])).

-spec s9_known_unexpected(turn_kit:config()) -> _.
s9_known_unexpected(Config) ->
    doc("known attributes where nobody expects them are ignored (RFC 8489 6.3)"),
    Client = open(server(Config)),
    success(ask(Client, request(binding, [{lifetime, 5}, {channel_number, 16#4000},
                                          {data, <<"x">>}, {error_code, {420, <<>>}},
                                          {xor_peer_address, {{127, 0, 0, 1}, 7}}]))).

-spec s10_binding_unknown_required(turn_kit:config()) -> _.
s10_binding_unknown_required(Config) ->
    doc("an unknown comprehension-required attribute: 420, listing it (RFC 8489 6.3.1, 6.3.1.1)"),
    Client = open(server(Config)),
    Answer = expect(420, ask(Client, request(binding, [{16#7FFF, <<"who am I">>}]))),
    ?assertEqual([16#7FFF], get(unknown_attributes, Answer)),
    ?assertEqual([error_code, unknown_attributes], names(Answer)).

-spec s10_signed_unknown_required(turn_kit:config()) -> _.
s10_signed_unknown_required(Config) ->
    doc("420 on every authenticated method (RFC 8489 6.3.1, 9.2.4)"),
    Client = challenged(open(server(Config))),
    [begin
         Answer = expect(420, call(Client, Method, [udp(), {16#7FFF, <<>>}])),
         ?assertEqual([16#7FFF], get(unknown_attributes, Answer)),
         ?assertEqual([error_code, message_integrity, unknown_attributes], names(Answer))
     end || Method <- methods()],
    success(allocate(Client)).

-spec s10_authentication_first(turn_kit:config()) -> _.
s10_authentication_first(Config) ->
    doc("unauthenticated and unknown attribute: 401, not 420 (RFC 8489 6.3.1, 9.2.4)"),
    Client = open(server(Config)),
    [expect(401, ask(Client, request(Method, [udp(), {16#7FFF, <<>>}]))) || Method <- methods()],
    Signed = challenged(Client),
    expect(401, call(Signed, allocate, [udp(), {16#7FFF, <<>>}], #{key => <<"wrong">>})).

-spec s10_ice_attributes(turn_kit:config()) -> _.
s10_ice_attributes(Config) ->
    doc("the request of RFC 5769 2.1 carries PRIORITY, which a server that speaks no ICE does not "
        "know: 420 (RFC 8489 6.3.1)"),
    Client = open(server(Config)),
    Vector = binary:decode_hex(
        <<"000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74"
          "002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020000800149a"
          "eaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf">>),
    ?assertEqual([16#0024], get(unknown_attributes, expect(420, ask(Client, Vector)))).

-spec s10_nat_discovery_off(turn_kit:config()) -> _.
s10_nat_discovery_off(Config) ->
    doc("a server with one address knows no CHANGE-REQUEST, PADDING, RESPONSE-PORT: 420 "
        "(RFC 5780 6)"),
    Client = open(server(Config)),
    [begin
         Answer = expect(420, ask(Client, request(binding, [Attribute]))),
         ?assertEqual([Code], get(unknown_attributes, Answer))
     end || {Code, Attribute} <- [{16#0003, {change_request, 6}}, {16#0026, {padding, <<0:64>>}},
                                  {16#0027, {response_port, {raw, <<4000:16>>}}}]].

-spec s10_signed_ice_and_discovery(turn_kit:config()) -> _.
s10_signed_ice_and_discovery(Config) ->
    doc("nor does it know them on a signed request (RFC 8489 6.3.1)"),
    Client = challenged(open(server(Config))),
    [begin
         Answer = expect(420, call(Client, Method, [udp(), Attribute])),
         ?assertEqual([Code], get(unknown_attributes, Answer))
     end || Method <- [allocate, refresh],
            {Code, Attribute} <- [{16#0003, {change_request, 6}}, {16#0024, {priority, 1}},
                                  {16#0025, {use_candidate, true}}, {16#0026, {padding, <<>>}},
                                  {16#0027, {response_port, {raw, <<4000:16>>}}}]],
    success(allocate(Client)).

-spec s11_binding_indication(turn_kit:config()) -> _.
s11_binding_indication(Config) ->
    doc("an indication is never answered (RFC 8489 6.3.2)"),
    Client = open(server(Config)),
    silent(Client, request(indication, binding, [])),
    silent(Client, request(indication, binding, [{software, <<"x">>}, fingerprint])).

-spec s11_unknown_required(turn_kit:config()) -> _.
s11_unknown_required(Config) ->
    doc("an indication with an unknown comprehension-required attribute is dropped "
        "(RFC 8489 6.3.2)"),
    Server = server(Config),
    dropped(open(Server), unknown_attribute, request(indication, binding, [{16#7FFF, <<>>}])),
    Client = allocated(Server),
    #{address := Address} = Peer = peer(),
    success(permit(Client, [Peer])),
    dropped(Client, unknown_attribute,
            request(indication, send, [{xor_peer_address, Address}, {data, <<"lost">>},
                                       {16#7FFF, <<>>}])),
    peer_same(Client, Peer).

-spec s12_retransmitted_binding(turn_kit:config()) -> _.
s12_retransmitted_binding(Config) ->
    doc("the same request again gets the same response (RFC 8489 6.3.1)"),
    Client = open(server(Config)),
    Request = request(binding, []),
    #{bytes := Bytes} = ask(Client, Request),
    ?assertMatch(#{bytes := Bytes}, ask(Client, Request)).

-spec s13_errors_are_signed(turn_kit:config()) -> _.
s13_errors_are_signed(Config) ->
    doc("an error after authentication has ERROR-CODE, the same method and integrity "
        "(RFC 8489 6.3.1.1)"),
    Client = challenged(open(server(Config))),
    [?assertEqual([error_code, message_integrity],
                  names(expect(437, call(Client, Method, []))))
     || Method <- [refresh, create_permission, channel_bind]],
    ?assertEqual([error_code, message_integrity], names(expect(400, call(Client, allocate, [])))).

-spec s14_binding_xor_mapped_v4(turn_kit:config()) -> _.
s14_binding_xor_mapped_v4(Config) ->
    doc("XOR-MAPPED-ADDRESS is where the request came from, byte by byte (RFC 8489 14.2)"),
    Server = server(Config),
    [begin
         #{here := {{A, B, C, D} = Ip, Port}} = Client = open(Server, #{ip => Ip}),
         <<_:64, Txid:12/binary>> = Request = request(binding, []),
         <<X:32>> = <<A, B, C, D>>,
         ?assertEqual(<<16#0101:16, 12:16, ?COOKIE:32, Txid/binary, 16#0020:16, 8:16, 0, 1,
                        (Port bxor 16#2112):16, (X bxor ?COOKIE):32>>,
                      maps:get(bytes, ask(Client, Request)))
     end || Ip <- [{127, 0, 0, 1}, {127, 255, 1, 2}]].

-spec s14_binding_xor_mapped_v6(turn_kit:config()) -> _.
s14_binding_xor_mapped_v6(Config) ->
    doc("the same over IPv6: masked by cookie and transaction id (RFC 8489 14.2)"),
    #{here := {_, Port}} = Client = open(server(Config), #{family => v6}),
    <<_:64, Txid:12/binary>> = Request = request(binding, []),
    <<Mask:128>> = <<?COOKIE:32, Txid/binary>>,
    ?assertEqual(<<16#0101:16, 24:16, ?COOKIE:32, Txid/binary, 16#0020:16, 20:16, 0, 2,
                   (Port bxor 16#2112):16, (1 bxor Mask):128>>,
                 maps:get(bytes, ask(Client, Request))).

-spec s15_answer_from_the_address_asked(turn_kit:config()) -> _.
s15_answer_from_the_address_asked(_Config) ->
    doc("on a wildcard listener each answer leaves from the address that was asked "
        "(RFC 8489 6.3.1.2)"),
    turn_kit:with_server(#{listeners => [#{transport => udp, ip => any, port => 0}]}, fun(Server) ->
        #{listeners := Listeners} = Server,
        [Port] = [P || {Ip, P} <- Listeners, tuple_size(Ip) =:= 4],
        [Port6] = [P || {Ip, P} <- Listeners, tuple_size(Ip) =:= 8],
        [begin
             Client = open(Server, #{to => To}),
             success(ask(Client, request(binding, []))),
             Signed = challenged(Client),
             success(allocate(Signed)),
             expect(400, ask(Client, signed(Signed, refresh, [], #{nonce => undefined})))
         end || To <- [{{127, 0, 0, 1}, Port}, {{127, 0, 0, 2}, Port}, {{127, 9, 8, 7}, Port},
                       {{0, 0, 0, 0, 0, 0, 0, 1}, Port6}]]
    end).

%% --------------------------------------------------------------------------- 7: FINGERPRINT

-spec s16_fingerprint_last(turn_kit:config()) -> _.
s16_fingerprint_last(Config) ->
    doc("who is asked with FINGERPRINT answers with it, last and right (RFC 8489 7, 14.7)"),
    Client = open(server(Config)),
    Answer = success(ask(Client, request(binding, [fingerprint]))),
    #{bytes := Bytes, fingerprint := true} = Answer,
    Size = byte_size(Bytes) - 8,
    <<Covered:Size/binary, 16#8028:16, 4:16, Crc:32>> = Bytes,
    ?assertEqual(erlang:crc32(Covered) bxor 16#5354554E, Crc),
    Challenge = expect(401, ask(Client, request(allocate, [udp(), fingerprint]))),
    ?assertMatch(#{fingerprint := true}, Challenge).

-spec s16_fingerprint_behind_integrity(turn_kit:config()) -> _.
s16_fingerprint_behind_integrity(Config) ->
    doc("attributes, integrity, fingerprint: in this order (RFC 8489 14.5, 14.7)"),
    Client = challenged(open(server(Config))),
    Answer = success(call(Client, allocate, [udp()], #{fingerprint => true})),
    Codes = stun_model:codes(maps:get(bytes, Answer)),
    ?assertEqual([16#0008, 16#8028], lists:nthtail(length(Codes) - 2, Codes)),
    Algorithm = case turn_kit:is_foreign(server(Config)) of
        true -> #{hash => sha256};
        false -> #{algorithm => sha256}
    end,
    Other = success(call(Client, refresh, [], Algorithm#{fingerprint => true})),
    OtherCodes = stun_model:codes(maps:get(bytes, Other)),
    ?assertEqual([16#001C, 16#8028], lists:nthtail(length(OtherCodes) - 2, OtherCodes)).

-spec s16_no_fingerprint_unasked(turn_kit:config()) -> _.
s16_no_fingerprint_unasked(Config) ->
    doc("who asks without FINGERPRINT is answered without (RFC 8489 7)"),
    Client = challenged(open(server(Config))),
    ?assertMatch(#{fingerprint := false}, ask(Client, request(binding, []))),
    ?assertMatch(#{fingerprint := false}, success(allocate(Client))).

%% ---------------------------------------------------------------------------- 9: credentials

-spec s18_behind_integrity_ignored(turn_kit:config()) -> _.
s18_behind_integrity_ignored(Config) ->
    doc("attributes behind MESSAGE-INTEGRITY do not exist (RFC 8489 9)"),
    Client = challenged(open(server(Config))),
    expect(400, call(Client, allocate, [], #{trailing => [udp()]})),
    success(call(Client, allocate, [udp()], #{trailing => [{16#7FFF, <<>>}]})),
    Answer = success(call(Client, refresh, [{lifetime, 900}],
                          #{trailing => [{lifetime, 0}], fingerprint => true})),
    ?assertEqual(900, get(lifetime, Answer)).

-spec s18_behind_integrity_sha256_ignored(turn_kit:config()) -> _.
s18_behind_integrity_sha256_ignored(Config) ->
    doc("nor do those behind MESSAGE-INTEGRITY-SHA256 (RFC 8489 9)"),
    Client = challenged(open(server(Config))),
    Trailing = #{hash => sha256, trailing => [udp(), {16#7FFF, <<>>}], fingerprint => true},
    expect(400, call(Client, allocate, [], Trailing)),
    success(call(Client, allocate, [udp()], Trailing)).

-spec s18_integrity_behind_sha256_ignored(turn_kit:config()) -> _.
s18_integrity_behind_sha256_ignored(Config) ->
    doc("a MESSAGE-INTEGRITY behind MESSAGE-INTEGRITY-SHA256 does not count (RFC 8489 9)"),
    #{key := Key} = Client = challenged(open(server(Config))),
    success(call(Client, allocate, [udp()],
                 #{hash => sha256, trailing => [{sign, sha1, <<"wrong">>}]})),
    expect(401, call(Client, refresh, [], #{hash => sha256, key => <<"wrong">>,
                                            trailing => [{sign, sha1, Key}]})).

-spec s19_nonce_cookie(turn_kit:config()) -> _.
s19_nonce_cookie(Config) ->
    doc("a nonce begins with the cookie and the feature bits: password algorithms, the last bit "
        "(RFC 8489 9.2, erratum 6290)"),
    #{nonce := Nonce} = Client = challenged(open(ours(Config))),
    ?assertMatch(<<"obMatJos2AAAB", _, _/binary>>, Nonce),
    Stale = expect(438, call(Client, allocate, [udp()], #{nonce => <<"obMatJos2AAABstale">>})),
    ?assertMatch(<<"obMatJos2AAAB", _, _/binary>>, get(nonce, Stale)).

-spec s20_secrets_hard_to_guess(turn_kit:config()) -> _.
s20_secrets_hard_to_guess(Config) ->
    doc("a secret that is drawn has 128 bits or more, and so have passwords made of one "
        "(RFC 8489 9.2)"),
    #{name := Name} = ours(Config),
    Drawn = fun() ->
        {ok, #{secrets := [Secret]}, _} = meerkat_config:load(#{file => none, env => []}),
        base64:decode(Secret)
    end,
    Made = fun() ->
        User = integer_to_binary(erlang:unique_integer([positive])),
        base64:decode(maps:get(password, meerkat:credentials(Name, User)))
    end,
    [begin
         Secrets = [Make() || _ <- lists:seq(1, 8)],
         ?assertEqual(8, length(lists:usort(Secrets))),
         [?assert(bit_size(Secret) >= 128) || Secret <- Secrets]
     end || Make <- [Drawn, Made]].

-spec s21_long_term_key(turn_kit:config()) -> _.
s21_long_term_key(Config) ->
    doc("the key is MD5 of user, realm, password (RFC 8489 9.2.2)"),
    ?assertEqual(binary:decode_hex(<<"8493fbc53ba582fb4c044c456bdc40eb">>),
                 stun_model:key("user", "realm", "pass")),
    [success(allocate(challenged(open(server(Config), #{user => User}))))
     || User <- [<<"alice">>, <<"bob">>]].

-spec s21_opaque_string(turn_kit:config()) -> _.
s21_opaque_string(_Config) ->
    doc("what is configured is prepared as clients prepare it: composed, with plain spaces "
        "(RFC 8489 9.2.2, RFC 8265 4.2)"),
    Configured = #{<<"Ame\x{301}lie"/utf8>> => {password, <<"pass\x{a0}po\x{308}rt"/utf8>>}},
    Realm = #{users => Configured, realm => <<"cafe\x{301}\x{3000}x"/utf8>>},
    turn_kit:with_server(Realm, fun(Server) ->
        Prepared = #{user => <<"Am\x{e9}lie"/utf8>>, password => <<"pass p\x{f6}rt"/utf8>>},
        Client = challenged(open(Server, Prepared)),
        ?assertMatch(#{realm := <<"caf\x{e9} x"/utf8>>}, Client),
        success(allocate(Client)),
        success(call(Client, refresh, [], #{algorithm => sha256})),
        As = fun(Options) -> allocate(challenged(open(Server, maps:merge(Prepared, Options)))) end,
        expect(401, As(#{password => <<"pass po\x{308}rt"/utf8>>})),
        expect(401, As(#{user => <<"amelie">>, password => <<"pass port">>}))
    end).

-spec s22_challenge(turn_kit:config()) -> _.
s22_challenge(Config) ->
    doc("no integrity: 401 with REALM and NONCE and nothing of the user (RFC 8489 9.2.4)"),
    Server = server(Config),
    Client = open(Server),
    [begin
         Answer = turn_kit:counted(Server, challenges, fun() ->
             expect(401, ask(Client, request(Method, [udp()])))
         end),
         ?assertEqual(challenge(Server), names(Answer)),
         ?assertEqual(maps:get(realm, Server), get(realm, Answer))
     end || Method <- methods()].

-spec s22_challenge_in_spite_of_names(turn_kit:config()) -> _.
s22_challenge_in_spite_of_names(Config) ->
    doc("USERNAME, REALM and NONCE without integrity: still 401 (RFC 8489 9.2.4)"),
    Client = challenged(open(server(Config))),
    #{realm := Realm, nonce := Nonce} = Client,
    [?assertEqual(challenge(server(Config)),
                  names(expect(401, ask(Client, request(allocate, [udp() | Given])))))
     || Given <- [[{username, <<"alice">>}, {realm, Realm}, {nonce, Nonce}],
                  [{username, <<"alice">>}, {realm, Realm}, {nonce, <<"bad">>}],
                  [{username, <<"alice">>}], [{nonce, Nonce}]]].

-spec s23_nonce_for_one_client(turn_kit:config()) -> _.
s23_nonce_for_one_client(Config) ->
    doc("no two source addresses get the same nonce (RFC 8489 9.2.4)"),
    Server = server(Config),
    Nonces = [maps:get(nonce, challenged(open(Server, Options)))
              || Options <- [#{}, #{}, #{ip => {127, 0, 0, 2}}, #{family => v6}, #{family => v6}]],
    ?assertEqual(5, length(lists:usort(Nonces))).

-spec s23_nonce_of_another_client(turn_kit:config()) -> _.
s23_nonce_of_another_client(Config) ->
    doc("a nonce made for another port or address is stale (RFC 8489 9.2.4)"),
    Server = server(Config),
    #{nonce := Nonce, here := {_, Port}} = challenged(open(Server)),
    [begin
         Client = challenged(open(Server, Options)),
         expect(438, call(Client, allocate, [udp()], #{nonce => Nonce})),
         success(allocate(Client))
     end || Options <- [#{}, #{ip => {127, 0, 0, 2}, port => Port}]].

-spec s24_offers_and_their_bits(turn_kit:config()) -> _.
s24_offers_and_their_bits(_Config) ->
    doc("PASSWORD-ALGORITHMS comes if, and only if, bit 0 is set; bit 1 says that USERHASH is "
        "taken, as it is where every name is a user's (RFC 8489 9.2.4, 18.1)"),
    Off = #{password_algorithms => false},
    [turn_kit:with_server(Overrides, fun(Server) ->
         Client = open(Server),
         Stale = call(challenged(Client), allocate, [udp()], #{nonce => <<"stale">>}),
         Wrong = call(challenged(Client), allocate, [udp()], #{key => <<"wrong">>}),
         [begin
              ?assertMatch({Cookie, <<Cookie:13/binary, _/binary>>}, {Cookie, get(nonce, Answer)}),
              ?assertEqual({Cookie, Offered}, {Cookie, get(password_algorithms, Answer)})
          end || Answer <- [expect(401, ask(Client, request(allocate, [udp()]))),
                            expect(438, Stale), expect(401, Wrong)]],
         Anonymous = call(challenged(Client), allocate, [udp()], #{anonymous => true}),
         Taken =:= yes andalso success(Anonymous)
     end) || {Overrides, Cookie, Offered, Taken} <-
                 [{Off, <<"obMatJos2AAAA">>, undefined, '_'},
                  {#{}, <<"obMatJos2AAAB">>, [{2, <<>>}, {1, <<>>}], '_'},
                  {(users_only())#{password_algorithms => false}, <<"obMatJos2AAAC">>, undefined,
                   yes},
                  {users_only(), <<"obMatJos2AAAD">>, [{2, <<>>}, {1, <<>>}], yes},
                  {(users_only())#{username_anonymity => false}, <<"obMatJos2AAAB">>,
                   [{2, <<>>}, {1, <<>>}], '_'},
                  {(users_only())#{users => #{}}, <<"obMatJos2AAAB">>, [{2, <<>>}, {1, <<>>}],
                   '_'}]].

-spec s25_signed_without_identity(turn_kit:config()) -> _.
s25_signed_without_identity(Config) ->
    doc("integrity, but USERNAME, REALM or NONCE missing: 400 and no challenge (RFC 8489 9.2.4)"),
    Client = challenged(open(server(Config))),
    [?assertEqual([error_code],
                  names(expect(400, call(Client, Method, [udp()],
                                         (maps:from_keys(Missing, undefined))#{hash => Hash}))))
     || Missing <- [[user], [realm], [nonce], [user, realm, nonce]],
        Method <- methods(), Hash <- [sha1, sha256]],
    success(allocate(Client)).

-spec s26_no_algorithm_means_md5(turn_kit:config()) -> _.
s26_no_algorithm_means_md5(Config) ->
    doc("an offer that the client passes over means MD5 (RFC 8489 9.2.4)"),
    #{realm := Realm, offered := [_ | _]} = Client = challenged(open(ours(Config))),
    success(allocate(Client)),
    Key = stun_model:key(sha256, <<"alice">>, Realm, <<"wonderland">>),
    [expect(401, call(Client, refresh, [], #{key => Key, hash => Hash})) || Hash <- [sha1, sha256]],
    success(call(Client, refresh, [])).

-spec s27_algorithms_as_offered(turn_kit:config()) -> _.
s27_algorithms_as_offered(Config) ->
    doc("either algorithm of the offer, for a user, for the shared secret, for REST credentials "
        "(RFC 8489 9.2.4)"),
    #{name := Name} = Server = ours(Config),
    #{username := User, password := Password} = meerkat:credentials(Name, <<"bob">>),
    [begin
         Client = challenged(open(Server, Who)),
         [success(call(Client, Method, Items, #{algorithm => Algorithm}))
          || {Method, Items} <- [{allocate, [udp()]},
                                 {create_permission, [{xor_peer_address, {{127, 0, 0, 1}, 9}}]},
                                 {channel_bind, [{channel_number, 16#4000},
                                                 {xor_peer_address, {{127, 0, 0, 1}, 9}}]},
                                 {refresh, []}]]
     end || Who <- [#{user => <<"alice">>}, #{user => <<"anybody">>},
                    #{user => User, password => Password}],
            Algorithm <- [md5, sha256]].

-spec s27_algorithms_not_as_offered(turn_kit:config()) -> _.
s27_algorithms_not_as_offered(Config) ->
    doc("only one of the two attributes, another list, a choice that is not in it: 400, unsigned, "
        "whoever asks (RFC 8489 9.2.4)"),
    #{realm := Realm, offered := Offered} = Client = challenged(open(ours(Config))),
    List = fun(Algorithms) -> {password_algorithms, Algorithms} end,
    One = fun(Number) -> {password_algorithm, {Number, <<>>}} end,
    Key = stun_model:key(sha256, <<"alice">>, Realm, <<"wonderland">>),
    [?assertEqual({Items, User, [error_code]},
                  {Items, User, names(expect(400, call(Client, Method, [udp()],
                                                       #{before => Items, hash => sha256,
                                                         user => User, key => Key})))})
     || Items <- [[List(Offered)], [One(1)], [One(2)], [List(lists:reverse(Offered)), One(2)],
                  [List([{2, <<>>}]), One(2)], [List([{1, <<>>}]), One(1)],
                  [List(Offered ++ [{3, <<>>}]), One(2)], [List(Offered), One(3)],
                  [List(Offered), {password_algorithm, {2, <<"x">>}}],
                  [List(Offered), {password_algorithm, {raw, <<2:16, 4:16>>}}]],
        {Method, User} <- [{allocate, <<"alice">>}, {refresh, <<"mallory">>}]],
    success(call(Client, allocate, [udp()], #{algorithm => sha256})).

-spec s28_unknown_user(turn_kit:config()) -> _.
s28_unknown_user(Config) ->
    doc("a user nobody knows: 401 with REALM, NONCE and PASSWORD-ALGORITHMS (RFC 8489 9.2.4)"),
    Server = server(Config),
    Client = challenged(open(Server, #{user => <<"mallory">>, password => <<"guess">>})),
    Answer = expect(401, allocate(Client)),
    ?assertEqual(challenge(Server), names(Answer)).

-spec s29_wrong_password(turn_kit:config()) -> _.
s29_wrong_password(Config) ->
    doc("a wrong password: 401 with REALM, NONCE and PASSWORD-ALGORITHMS, unsigned "
        "(RFC 8489 9.2.4)"),
    Server = server(Config),
    Client = challenged(open(Server, #{password => <<"guess">>})),
    [?assertEqual(challenge(Server),
                  names(expect(401, call(Client, Method, [udp()], #{hash => Hash}))))
     || Method <- methods(), Hash <- [sha1, sha256]].

-spec s29_one_bit_wrong(turn_kit:config()) -> _.
s29_one_bit_wrong(Config) ->
    doc("an integrity that is wrong in one bit, or covers changed bytes: 401 (RFC 8489 9.2.4)"),
    Client = challenged(open(server(Config))),
    Signed = signed(Client, allocate, [udp(), {lifetime, 900}]),
    Size = byte_size(Signed),
    [expect(401, ask(Client, patch(Signed, Offset, <<(binary:at(Signed, Offset) bxor 1)>>)))
     || Offset <- [Size - 20, Size - 10, Size - 1, 35]],
    success(ask(Client, Signed)).

-spec s29_wrong_by_every_algorithm(turn_kit:config()) -> _.
s29_wrong_by_every_algorithm(Config) ->
    doc("the same whatever the algorithm; a user known by an MD5 key has no other "
        "(RFC 8489 9.2.4, 18.5.1)"),
    #{realm := Realm} = ours(Config),
    Users = #{<<"alice">> => {key, stun_model:key("alice", Realm, "wonderland")}},
    turn_kit:with_server(#{users => Users}, fun(Server) ->
        Wrong = challenged(open(Server, #{password => <<"guess">>})),
        Right = challenged(open(Server, #{password => <<"wonderland">>})),
        [?assertEqual(challenge(Server), names(expect(401, call(Client, allocate, [udp()],
                                                                #{algorithm => Algorithm}))))
         || {Client, Algorithm} <- [{Wrong, md5}, {Wrong, sha256}, {Right, sha256}]],
        success(call(Right, allocate, [udp()], #{algorithm => md5}))
    end).

-spec s30_sha256_decides(turn_kit:config()) -> _.
s30_sha256_decides(Config) ->
    doc("with both, MESSAGE-INTEGRITY-SHA256 decides (RFC 8489 9.2.4)"),
    #{key := Key} = Client = challenged(open(server(Config))),
    success(call(Client, allocate, [udp()],
                 #{key => Key, before => [{sign, sha1, <<"wrong">>}], hash => sha256})),
    expect(401, call(Client, refresh, [], #{before => [{sign, sha1, Key}], hash => sha256,
                                            key => <<"wrong">>})).

-spec s31_stale_nonce(turn_kit:config()) -> _.
s31_stale_nonce(Config) ->
    doc("a nonce that is not ours: 438 with REALM and a nonce that works (RFC 8489 9.2.4)"),
    Server = server(Config),
    #{nonce := Nonce} = Client = challenged(open(Server)),
    Last = byte_size(Nonce) - 1,
    Forged = [<<"x">>, <<"obMatJos2AAAA">>, binary:part(Nonce, 0, Last), <<Nonce/binary, "A">>,
              patch(Nonce, Last, <<(flip(binary:at(Nonce, Last)))>>),
              patch(Nonce, 13, <<(flip(binary:at(Nonce, 13)))>>),
              patch(Nonce, 12, <<"C">>), binary:copy(<<"n">>, 763), <<16#C3, 16#A9, 0, 255>>,
              <<"f//499k954d6OL34oL9FSTvy64sA">>],
    [begin
         Answer = turn_kit:counted(Server, stale_nonces, fun() ->
             expect(438, call(Client, Method, [udp()], #{nonce => Bad, hash => Hash}))
         end),
         ?assertEqual(challenge(Server), names(Answer) -- [message_integrity,
                                                           message_integrity_sha256]),
         ?assertEqual(maps:get(realm, Server), get(realm, Answer)),
         Fresh = get(nonce, Answer),
         expect(437, call(Client, refresh, [], #{nonce => Fresh}))
     end || Bad <- Forged, {Method, Hash} <- [{allocate, sha1}, {refresh, sha256}]].

flip($A) -> $B;
flip(_) -> $A.

-spec s32_success_is_signed(turn_kit:config()) -> _.
s32_success_is_signed(Config) ->
    doc("what answers a signed request is signed, without REALM, NONCE, USERNAME: where no "
        "algorithm was chosen by MESSAGE-INTEGRITY, whatever the request's was (RFC 8489 9.2.4)"),
    Server = server(Config),
    [begin
         Client = challenged(open(Server)),
         Answers = [call(Client, refresh, [], #{hash => Hash}),
                    call(Client, allocate, [udp()], #{hash => Hash}),
                    call(Client, refresh, [], #{hash => Hash})],
         [begin
              ?assertMatch(#{integrity := sha1}, A),
              ?assertEqual([], [N || N <- [realm, nonce, username], get(N, A) =/= undefined])
          end || A <- Answers]
     end || Hash <- [sha1, sha256]].

-spec s32_algorithms_are_answered_by_sha256(turn_kit:config()) -> _.
s32_algorithms_are_answered_by_sha256(Config) ->
    doc("where an algorithm was chosen, MD5 too, by MESSAGE-INTEGRITY-SHA256 and nothing else "
        "(RFC 8489 9.2.4)"),
    Server = ours(Config),
    [begin
         Client = challenged(open(Server)),
         Options = #{algorithm => Algorithm, hash => Hash, fingerprint => Hash =:= sha1},
         [begin
              Answer = expect_code(Code, call(Client, Method, Items, Options)),
              Given = names(Answer),
              ?assert(lists:member(message_integrity_sha256, Given)),
              ?assertEqual([], [N || N <- [message_integrity, realm, nonce, username, userhash,
                                           password_algorithms], lists:member(N, Given)])
          end || {Method, Items, Code} <- [{refresh, [], 437}, {allocate, [], 400},
                                           {allocate, [udp(), {16#7FFF, <<>>}], 420},
                                           {allocate, [udp()], success}, {refresh, [], success}]]
     end || Algorithm <- [md5, sha256], Hash <- [sha1, sha256]].

expect_code(success, Answer) -> success(Answer);
expect_code(Code, Answer) -> expect(Code, Answer).

%% ----------------------------------------------------------------------------- 14: attributes

-spec s36_binding_is_open(turn_kit:config()) -> _.
s36_binding_is_open(Config) ->
    doc("Binding needs no credentials and no FINGERPRINT, and ignores them (RFC 8489 12)"),
    Client = challenged(open(server(Config))),
    [begin
         Answer = success(ask(Client, Request)),
         ?assertEqual([xor_mapped_address], names(Answer) -- [fingerprint])
     end || Request <- [request(binding, []), request(binding, [fingerprint]),
                        signed(Client, binding, []),
                        signed(Client, binding, [], #{key => <<"wrong">>}),
                        signed(Client, binding, [], #{nonce => <<"stale">>, fingerprint => true}),
                        signed(Client, binding, [], #{user => undefined})]],
    ?assertEqual(success, code(ask(Client, request(binding, [{software, <<"client">>}])))).

-spec s36_rfc3489_off(turn_kit:config()) -> _.
s36_rfc3489_off(Config) ->
    doc("a Binding request of RFC 3489, without the cookie, is dropped by default "
        "(RFC 8489 12)"),
    Server = server(Config),
    [dropped(open(Server, Options), bad_cookie, classic(16#0001, <<>>))
     || Options <- [#{}, #{family => v6}]].

-spec s36_rfc3489_on(turn_kit:config()) -> _.
s36_rfc3489_on(_Config) ->
    doc("where the key allows it, such a request is answered with MAPPED-ADDRESS and nothing "
        "else; others are answered as ever (RFC 8489 12, RFC 3489 8.1)"),
    ChangeRequest = <<16#0003:16, 4:16, 0:32>>,
    turn_kit:with_server(#{rfc3489_compatibility => true}, fun(Server) ->
        [begin
             #{here := {Ip, Port}} = Client = open(Server, Options),
             <<_:32, Id:16/binary, _/binary>> = Request = classic(16#0001, Attributes),
             send(Client, Request),
             Address = list_to_binary([<<N:Bits>> || N <- tuple_to_list(Ip)]),
             Value = <<0, Family, Port:16, Address/binary>>,
             Size = byte_size(Value),
             ?assertEqual(<<16#0101:16, (4 + Size):16, Id/binary, 16#0001:16, Size:16,
                            Value/binary>>, turn_kit:next(Client)),
             fence(Client)
         end || {Options, Family, Bits} <- [{#{}, 1, 8}, {#{family => v6}, 2, 16}],
                Attributes <- [<<>>, ChangeRequest]]
    end).

-spec s36_rfc3489_binding_only(turn_kit:config()) -> _.
s36_rfc3489_binding_only(_Config) ->
    doc("nothing else without the cookie: other methods and classes and what is not quite a "
        "message are dropped (RFC 8489 12, RFC 8656 5)"),
    turn_kit:with_server(#{rfc3489_compatibility => true}, fun(Server) ->
        Client = open(Server),
        Good = classic(16#0001, <<>>),
        [dropped(Client, bad_cookie, Bytes)
         || Bytes <- [classic(Type, <<>>) || Type <- [16#0002, 16#0003, 16#0004, 16#0008, 16#0011,
                                                      16#0101, 16#0111]]],
        [dropped(Client, Reason, Bytes)
         || {Reason, Bytes} <- [{too_short, binary:part(Good, 0, 19)},
                                {bad_cookie, <<Good/binary, 0:32>>},
                                {bad_cookie, patch(Good, 2, <<4:16>>)}]]
    end).

%% A message of RFC 3489: 16 bytes of transaction id where the cookie is now.
classic(Type, Attributes) ->
    <<Type:16, (byte_size(Attributes)):16, 0, (crypto:strong_rand_bytes(15))/binary,
      Attributes/binary>>.

-spec s37_padding_ignored(turn_kit:config()) -> _.
s37_padding_ignored(Config) ->
    doc("the bytes of padding may be anything (RFC 8489 14)"),
    #{realm := Realm, nonce := Nonce, key := Key} = Client = challenged(open(server(Config))),
    Txid = crypto:strong_rand_bytes(12),
    Items = [udp(), {pad, 16#20, {software, <<"odd">>}}, {pad, 255, {username, <<"alice">>}},
             {pad, 16#20, {realm, Realm}}, {pad, 1, {nonce, Nonce}}, {sign, sha1, Key}],
    success(ask(Client, stun_model:encode(#{class => request, method => allocate,
                                            transaction_id => Txid, attributes => Items,
                                            fingerprint => true}))).

-spec s37_first_duplicate_counts(turn_kit:config()) -> _.
s37_first_duplicate_counts(Config) ->
    doc("of an attribute that comes twice the first counts (RFC 8489 14)"),
    Client = challenged(open(server(Config))),
    Answer = success(allocate(Client, [{lifetime, 1200}, {lifetime, 1800}])),
    ?assertEqual(1200, get(lifetime, Answer)),
    Again = success(call(Client, refresh, [{lifetime, 1500}, {lifetime, 0}])),
    ?assertEqual(1500, get(lifetime, Again)).

-spec s38_reserved_byte_ignored(turn_kit:config()) -> _.
s38_reserved_byte_ignored(Config) ->
    doc("the first byte of an address is ignored (RFC 8489 14.1, 14.2)"),
    Client = allocated(server(Config)),
    #{address := {_, Port}} = Peer = peer(),
    Raw = <<16#FF, 1, (Port bxor 16#2112):16, (16#7F000001 bxor ?COOKIE):32>>,
    success(call(Client, create_permission, [{xor_peer_address, {raw, Raw}}])),
    peer_same(Client, Peer),
    turn_kit:send_indication(Client, [{xor_peer_address, {raw, Raw}}, {data, <<"hi">>}]),
    ?assertMatch({_, <<"hi">>}, peer_next(Peer)).

-spec s39_long_usernames(turn_kit:config()) -> _.
s39_long_usernames(Config) ->
    doc("a USERNAME may have up to 763 bytes (RFC 8489 14.3)"),
    Server = server(Config),
    [begin
         User = binary:copy(<<"u">>, Size),
         success(allocate(challenged(open(Server, #{user => User}))))
     end || Size <- [1, 2, 3, 508, 509, 762, 763]].

-spec s40_userhash(turn_kit:config()) -> _.
s40_userhash(_Config) ->
    doc("USERHASH, SHA-256 of user:realm, in place of USERNAME (RFC 8489 14.4, 9.2.4)"),
    turn_kit:with_server(users_only(), fun(#{name := Name} = Server) ->
        [begin
             Client = challenged(open(Server, #{user => User})),
             success(call(Client, allocate, [udp()], Options#{anonymous => true})),
             ?assertMatch([#{user := User}], meerkat:allocations(Name)),
             %% It is the same user by another name.
             success(call(Client, refresh, [], Options)),
             success(call(Client, refresh, [{lifetime, 0}], Options#{anonymous => true})),
             expect(437, call(Client, refresh, [], Options#{anonymous => true}))
         end || User <- [<<"alice">>, <<"bob">>],
                Options <- [#{}, #{hash => sha256}, #{algorithm => md5}, #{algorithm => sha256}]],
        [begin
             Client = challenged(open(Server, #{user => User, password => <<"guess">>})),
             ?assertEqual(challenge(Server),
                          names(expect(401, call(Client, allocate, [udp()],
                                                 #{anonymous => true, algorithm => sha256}))))
         end || User <- [<<"alice">>, <<"mallory">>]]
    end).

-spec s40_userhash_of_another_length(turn_kit:config()) -> _.
s40_userhash_of_another_length(Config) ->
    doc("a USERHASH has 32 bytes, or it is none: 400 (RFC 8489 14.4)"),
    #{realm := Realm} = Client = challenged(open(ours(Config))),
    Hash = stun_model:userhash(<<"alice">>, Realm),
    [?assertEqual([error_code],
                  names(expect(400, call(Client, allocate, [{userhash, {raw, Given}}, udp()],
                                         #{user => undefined}))))
     || Given <- [<<>>, binary:part(Hash, 0, 31), <<Hash/binary, 0>>, <<Hash/binary, 0:256>>]],
    %% USERNAME decides where both are, whatever the other says.
    [success(call(Client, Method, [{userhash, {raw, Given}}, udp()]))
     || {Method, Given} <- [{allocate, stun_model:userhash(<<"bob">>, Realm)},
                            {refresh, <<0:256>>}]].

-spec s40_no_userhash_for_the_secret(turn_kit:config()) -> _.
s40_no_userhash_for_the_secret(Config) ->
    doc("a name the secret lets in cannot be told from its hash: 401, and nobody is asked for one "
        "(RFC 8489 9.2.4)"),
    Server = ours(Config),
    Client = challenged(open(Server, #{user => <<"anybody">>})),
    expect(401, call(Client, allocate, [udp()], #{anonymous => true})),
    success(allocate(Client)).

-spec s41_integrity_before_fingerprint(turn_kit:config()) -> _.
s41_integrity_before_fingerprint(Config) ->
    doc("integrity counts a length that ends with itself, whatever follows (RFC 8489 14.5)"),
    Client = challenged(open(server(Config))),
    success(call(Client, allocate, [udp()], #{fingerprint => true})),
    success(call(Client, refresh, [], #{fingerprint => true, hash => sha256})),
    #{key := Key} = Client,
    success(call(Client, refresh, [], #{trailing => [{sign, sha256, Key}], fingerprint => true})).

-spec s42_truncated_sha256(turn_kit:config()) -> _.
s42_truncated_sha256(Config) ->
    doc("a truncated MESSAGE-INTEGRITY-SHA256 is no proof: TURN does not allow it "
        "(RFC 8489 14.6)"),
    #{realm := Realm, nonce := Nonce, key := Key} = Client = challenged(open(server(Config))),
    [begin
         Request = request(allocate, [udp(), {username, <<"alice">>}, {realm, Realm},
                                      {nonce, Nonce}, {sign, sha256, Key, Size}]),
         expect([400, 401], ask(Client, Request))
     end || Size <- [0, 4, 16, 20, 28]],
    Sha256 = stun_model:key(sha256, <<"alice">>, Realm, <<"wonderland">>),
    [begin
         Algorithms = [{password_algorithms, Offered}, {password_algorithm, {2, <<>>}}],
         Request = request(allocate, [udp(), {username, <<"alice">>}, {realm, Realm},
                                      {nonce, Nonce}] ++ Algorithms
                                     ++ [{sign, sha256, Sha256, Size}]),
         expect([400, 401], ask(Client, Request))
     end || Offered <- [maps:get(offered, Client)], Offered =/= [], Size <- [0, 16, 20, 28]].

-spec s43_error_code_bits(turn_kit:config()) -> _.
s43_error_code_bits(Config) ->
    doc("ERROR-CODE: 21 zero bits, class, number, short UTF-8 (RFC 8489 14.8)"),
    Client = challenged(open(server(Config))),
    Answers = [{401, ask(Client, request(allocate, [udp()]))},
               {420, ask(Client, request(binding, [{16#7FFF, <<>>}]))},
               {437, call(Client, refresh, [])},
               {400, call(Client, allocate, [])},
               {442, call(Client, allocate, [{requested_transport, 6}])}],
    [begin
         #{bytes := Bytes} = expect(Code, Answer),
         Class = Code div 100,
         Number = Code rem 100,
         {At, _} = binary:match(Bytes, <<16#0009:16>>),
         <<_:At/binary, _:16, Size:16, Value:Size/binary, _/binary>> = Bytes,
         ?assertMatch(<<0:21, Class:3, Number, _/binary>>, Value),
         ?assert(Size =< 4 + 509)
     end || {Code, Answer} <- Answers].

-spec s44_realm_and_nonce(turn_kit:config()) -> _.
s44_realm_and_nonce(Config) ->
    doc("REALM and NONCE have 1 to 127 characters that need no quoting (RFC 8489 14.9, 14.10)"),
    Client = open(server(Config)),
    Challenge = expect(401, ask(Client, request(refresh, []))),
    Stale = expect(438, call(challenged(Client), refresh, [], #{nonce => <<"old">>})),
    [begin
         [Value] = get_all(Name, Answer),
         ?assert(byte_size(Value) > 0 andalso byte_size(Value) < 128),
         ?assertMatch({match, _}, re:run(Value, "^[!#-\\[\\]-~ ]+$"))
     end || Answer <- [Challenge, Stale], Name <- [realm, nonce]].

-spec s45_algorithms_on_the_wire(turn_kit:config()) -> _.
s45_algorithms_on_the_wire(Config) ->
    doc("PASSWORD-ALGORITHMS: SHA-256 (2), then MD5 (1), neither with parameters; what has some, "
        "or is cut short, is not what was offered (RFC 8489 14.11, 14.12, 18.5.1)"),
    Client = challenged(open(ours(Config))),
    Offer = <<16#8002:16, 8:16, 2:16, 0:16, 1:16, 0:16>>,
    [?assertMatch({_, 12}, binary:match(Bytes, Offer))
     || #{bytes := Bytes} <- [expect(401, ask(Client, request(allocate, [udp()]))),
                              expect(438, call(Client, allocate, [], #{nonce => <<"old">>})),
                              expect(401, call(Client, allocate, [], #{key => <<"wrong">>}))]],
    [expect(400, call(Client, allocate, [udp()],
                      #{hash => sha256, before => [{password_algorithms, {raw, List}},
                                                   {password_algorithm, {raw, One}}]}))
     || {List, One} <- [{<<2:16, 0:16, 1:16, 0:16>>, <<1:16, 1:16, 0:32>>},
                        {<<2:16, 0:16, 1:16, 0:16>>, <<1:16, 1:16>>},
                        {<<2:16, 0:16, 1:16>>, <<1:16, 0:16>>},
                        {<<2:16, 0:16, 1:16, 0:16, 0:16>>, <<1:16, 0:16>>},
                        {<<2:16, 4:16, 0:32, 1:16, 0:16>>, <<1:16, 0:16>>}]],
    success(call(Client, allocate, [udp()], #{algorithm => md5})).

-spec s46_unknown_attributes_list(turn_kit:config()) -> _.
s46_unknown_attributes_list(Config) ->
    doc("UNKNOWN-ATTRIBUTES: its length is that of the list, padding is not a type "
        "(RFC 8489 14.13)"),
    Client = open(server(Config)),
    [begin
         Types = lists:seq(16#7F00, 16#7EFF + N),
         Request = request(binding, [{T, <<>>} || T <- Types]),
         #{bytes := Bytes} = Answer = expect(420, ask(Client, Request)),
         ?assertEqual(Types, get(unknown_attributes, Answer)),
         Size = 2 * N,
         {At, _} = binary:match(Bytes, <<16#000A:16, Size:16>>),
         ?assertEqual(0, At rem 4)
     end || N <- [1, 2, 3, 4]].

-spec s47_binding_has_no_state(turn_kit:config()) -> _.
s47_binding_has_no_state(Config) ->
    doc("Binding is one datagram each way and nothing remembered: whichever server of an anycast "
        "address gets it says the same (RFC 8489 15)"),
    Server = server(Config),
    turn_kit:with_server(#{}, fun(#{listeners := [Other | _]}) ->
        #{here := {Ip, Port}} = Client = open(Server),
        Request = request(binding, [fingerprint]),
        #{bytes := Bytes} = ask(Client, Request),
        ?assertMatch(#{bytes := Bytes}, ask(Client#{to := Other}, Request)),
        ?assertEqual({Ip, Port}, maps:get(here, Client))
    end).

-spec s48_md5_for_legacy_only(turn_kit:config()) -> _.
s48_md5_for_legacy_only(_Config) ->
    doc("MD5 is for those who know nothing else, and can be done without (RFC 8489 16, 18.5.1.1)"),
    turn_kit:with_server(#{require_sha256 => true}, fun(Server) ->
        Client = challenged(open(Server)),
        ?assertMatch(#{offered := [{2, <<>>} | _]}, Client),
        [?assertEqual(challenge(Server),
                      names(expect(401, call(Client, allocate, [udp()], Options))))
         || Options <- [#{}, #{hash => sha256}, #{algorithm => md5}]],
        success(call(Client, allocate, [udp()], #{algorithm => sha256}))
    end).
