%% meerkat_stun as a module of Erlang: what its terms look like at their edges, what it refuses and
%% how, what it does with the longest datagrams, and that its library loads, reloads and is refused
%% when it is another's. That the codec is right is for rfc5769_SUITE and prop_SUITE.
-module(stun_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([every_kind/1, every_method/1, first_counts/1, malformed/1, unknown/1, signatures/1,
         encode_refuses/1, arguments/1, secrets/1, sub_binaries/1, longest/1, most_attributes/1,
         longest_list/1, ids/1, channels/1, reload/1, foreign_library/1]).

-define(ID, <<"twelve bytes">>).

-spec all() -> [atom()].
all() ->
    [every_kind, every_method, first_counts, malformed, unknown, signatures, encode_refuses,
     arguments, secrets, sub_binaries, longest, most_attributes, longest_list, ids, channels,
     reload, foreign_library].

-spec init_per_suite([tuple()]) -> [tuple()].
init_per_suite(Config) -> Config.

-spec end_per_suite([tuple()]) -> ok.
end_per_suite(_Config) -> ok.

%%% Terms

-spec every_kind([tuple()]) -> ok.
every_kind(_Config) ->
    doc("a value of every kind, at its edges, there and back"),
    V4 = {{255, 0, 2, 1}, 0},
    V6 = {{16#2001, 16#db8, 0, 0, 0, 0, 0, 16#ffff}, 65535},
    Attributes =
        [{username, <<"u">>}, {username, binary:copy(<<255>>, 763)}, {data, <<>>},
         {dont_fragment, true}, {even_port, true}, {even_port, false},
         {requested_transport, 0}, {requested_transport, 255}, {requested_address_family, 2},
         {response_port, 0}, {response_port, 65535}, {channel_number, 16#4fff},
         {lifetime, 0}, {lifetime, 16#ffffffff},
         {reservation_token, 0}, {reservation_token, 16#ffffffffffffffff},
         {mapped_address, V4}, {alternate_server, V6},
         {xor_peer_address, V4}, {xor_relayed_address, V6},
         {error_code, {300, <<>>}}, {error_code, {699, binary:copy(<<"x">>, 763)}},
         {address_error_code, {1, 440, <<>>}}, {address_error_code, {2, 508, <<"no">>}},
         {icmp, {255, 255, 16#ffffffff}}, {icmp, {0, 0, 0}},
         {unknown_attributes, []}, {unknown_attributes, [0, 65535, 3]},
         {password_algorithm, {65535, <<>>}}, {password_algorithm, {1, <<"abc">>}},
         {password_algorithms, [{2, <<>>}, {1, <<"abcde">>}, {2, <<>>}]},
         {16#c000, <<>>}, {16#ffff, <<"odd">>}],
    ?assertEqual({ok, (message(Attributes))#{unknown => [], malformed => [], integrity => none,
                                             fingerprint => false}},
                 meerkat_stun:decode(meerkat_stun:encode(message(Attributes)))),
    [?assertMatch({ok, #{attributes := [One]}},
                  meerkat_stun:decode(meerkat_stun:encode(message([One])))) || One <- Attributes],
    ok.

-spec every_method([tuple()]) -> ok.
every_method(_Config) ->
    doc("classes and methods, by name and by number (RFC 8489 5)"),
    Named = [{binding, 1}, {allocate, 3}, {refresh, 4}, {send, 6}, {data, 7},
             {create_permission, 8}, {channel_bind, 9}, {connect, 10}, {connection_bind, 11},
             {connection_attempt, 12}],
    [begin
         M = (message([]))#{class => Class, method => Method},
         <<0:2, H:5, C1:1, I:3, C0:1, L:4, 0:16, _/binary>> = Packet = meerkat_stun:encode(M),
         ?assertEqual({Class, Number}, {class(C1 * 2 + C0), H * 128 + I * 16 + L}),
         Name = proplists:get_value(Number, [{N, A} || {A, N} <- Named], Number),
         ?assertMatch({ok, #{class := Class, method := Name}}, meerkat_stun:decode(Packet))
     end || Class <- [request, indication, success, error],
            {Method, Number} <- Named ++ [{N, N} || N <- [0, 1, 2, 12, 13, 127, 128, 4095]]],
    ok.

class(N) -> element(N + 1, {request, indication, success, error}).

-spec first_counts([tuple()]) -> ok.
first_counts(_Config) ->
    doc("the first duplicate counts (RFC 8489 14, X57)"),
    A = {{192, 0, 2, 1}, 1},
    B = {{192, 0, 2, 2}, 2},
    {ok, M} = meerkat_stun:decode(
                meerkat_stun:encode(message([{xor_peer_address, A}, {lifetime, 1}, {9999, <<"x">>},
                                             {xor_peer_address, B}, {lifetime, 2}]))),
    ?assertEqual({ok, A}, meerkat_stun:get(xor_peer_address, M)),
    ?assertEqual([A, B], meerkat_stun:get_all(xor_peer_address, M)),
    ?assertEqual({ok, 1}, meerkat_stun:get(lifetime, M)),
    ?assertEqual({ok, <<"x">>}, meerkat_stun:get(9999, M)),
    ?assertEqual(error, meerkat_stun:get(realm, M)),
    ?assertEqual([], meerkat_stun:get_all(realm, M)).

-spec malformed([tuple()]) -> ok.
malformed(_Config) ->
    doc("a value of the wrong shape is named and left out (X52, X53)"),
    Wrong = [{lifetime, 16#000d, <<1, 2, 3>>}, {username, 16#0006, <<>>},
             {xor_peer_address, 16#0012, <<0, 3, 0:48>>},
             {xor_peer_address, 16#0012, <<0, 2, 0:48>>},
             {xor_mapped_address, 16#0020, <<0, 1, 0:144>>},
             {error_code, 16#0009, <<0, 0, 2, 99>>}, {error_code, 16#0009, <<0, 0, 4, 100>>},
             {address_error_code, 16#8001, <<3, 0, 4, 40>>},
             {unknown_attributes, 16#000a, <<1, 2, 3>>},
             {password_algorithm, 16#001d, <<1:16, 0:16, 2:16, 0:16>>},
             {password_algorithms, 16#8002, <<1:16, 1:16>>}, {icmp, 16#8004, <<0:56>>},
             {message_integrity, 16#0008, <<0:152>>}],
    Packet = meerkat_stun:encode(message([{priority, 7}
                                          | [{Code, Value} || {_, Code, Value} <- Wrong]])),
    {ok, #{attributes := Attributes, malformed := Malformed, unknown := Unknown}} =
        meerkat_stun:decode(Packet),
    ?assertEqual([Name || {Name, _, _} <- Wrong], Malformed),
    ?assertEqual([{priority, 7}], Attributes),
    ?assertEqual([], Unknown).

-spec unknown([tuple()]) -> ok.
unknown(_Config) ->
    doc("unknown comprehension-required types, each once, at most 16 (RFC 8489 14, X27, X56)"),
    Unknown = fun(Codes) ->
                  {ok, #{unknown := List, attributes := Attributes}} =
                      meerkat_stun:decode(meerkat_stun:encode(message([{C, <<>>} || C <- Codes]))),
                  ?assertEqual(length(Codes), length(Attributes)),
                  List
              end,
    ?assertEqual([16#7fff, 2], Unknown([16#7fff, 16#8fff, 2, 16#7fff, 16#ffff])),
    ?assertEqual(lists:seq(16#7000, 16#700f), Unknown(lists:seq(16#7000, 16#7100))).

-spec signatures([tuple()]) -> ok.
signatures(_Config) ->
    doc("what is signed is verified, and which signature decides (RFC 8489 9.2.4)"),
    M = message([{username, <<"u">>}]),
    [begin
         Packet = meerkat_stun:encode(M#{integrity => {Hash, Key}, fingerprint => Fingerprint}),
         ?assertMatch({ok, #{integrity := Hash, fingerprint := Fingerprint,
                             attributes := [{username, <<"u">>}]}}, meerkat_stun:decode(Packet)),
         ?assertEqual(ok, meerkat_stun:verify(Packet, Key)),
         ?assertEqual({error, bad_integrity}, meerkat_stun:verify(Packet, <<Key/binary, 1>>))
     end || Hash <- [sha1, sha256], Fingerprint <- [true, false],
            Key <- [<<>>, <<"k">>, binary:copy(<<"k">>, 64), binary:copy(<<"k">>, 65)]],
    ?assertEqual({error, no_integrity}, meerkat_stun:verify(meerkat_stun:encode(M), <<"k">>)),
    ?assertEqual({error, too_short}, meerkat_stun:verify(<<>>, <<"k">>)),
    %% What decode/1 says of signatures is no order to sign.
    {ok, Decoded} = meerkat_stun:decode(meerkat_stun:encode(M#{integrity => {sha1, <<"k">>}})),
    ?assertMatch({ok, #{integrity := none}}, meerkat_stun:decode(meerkat_stun:encode(Decoded))),
    %% Both: the stronger decides, right or wrong.
    Sha1 = meerkat_stun:encode(M#{integrity => {sha1, <<"k">>}}),
    Both = append(Sha1, 16#001c, fun(Covered) -> crypto:mac(hmac, sha256, <<"k">>, Covered) end),
    ?assertMatch({ok, #{integrity := both}}, meerkat_stun:decode(Both)),
    ?assertEqual(ok, meerkat_stun:verify(Both, <<"k">>)),
    Wrong = append(Sha1, 16#001c, fun(_) -> <<0:256>> end),
    ?assertEqual({error, bad_integrity}, meerkat_stun:verify(Wrong, <<"k">>)),
    Truncated = append(Sha1, 16#001c, fun(_) -> <<0:128>> end),
    ?assertEqual({error, bad_integrity}, meerkat_stun:verify(Truncated, <<"k">>)).

%% Appends an attribute of which the value is made from what stands before it.
append(<<Type:16, _:16, Rest/binary>>, Code, Fun) ->
    Size = byte_size(Fun(<<>>)),
    Packet = <<Type:16, (byte_size(Rest) - 16 + 4 + Size):16, Rest/binary>>,
    <<Packet/binary, Code:16, Size:16, (Fun(Packet))/binary>>.

%%% Refusals

-spec encode_refuses([tuple()]) -> ok.
encode_refuses(_Config) ->
    doc("encode/1 exits with badarg on every wrong shape"),
    Good = message([{username, <<"u">>}]),
    Attributes =
        [x, [x], [{username}], [{username, <<"u">>} | x], [{nobody, 1}], [{"username", <<"u">>}],
         [{-1, <<>>}], [{65536, <<>>}], [{16#7000, x}], [{16#7000, <<1:1>>}],
         [{username, <<>>}], [{username, "u"}], [{username, <<1:7>>}],
         [{username, binary:copy(<<"u">>, 764)}], [{userhash, <<0:248>>}],
         [{dont_fragment, false}], [{dont_fragment, <<>>}], [{even_port, 1}],
         [{requested_transport, 256}], [{requested_transport, -1}], [{requested_transport, 1.0}],
         [{response_port, 65536}], [{channel_number, 65536}], [{lifetime, 1 bsl 32}],
         [{reservation_token, 1 bsl 64}], [{reservation_token, <<0:64>>}],
         [{xor_peer_address, {192, 0, 2, 1}}], [{xor_peer_address, {{192, 0, 2}, 1}}],
         [{xor_peer_address, {{192, 0, 2, 256}, 1}}], [{xor_peer_address, {{192, 0, 2, -1}, 1}}],
         [{xor_peer_address, {{192, 0, 2, 1}, 65536}}], [{xor_peer_address, {any, 1}}],
         [{mapped_address, {{0, 0, 0, 0, 0, 0, 0, 65536}, 1}}], [{mapped_address, undefined}],
         [{error_code, {299, <<>>}}], [{error_code, {700, <<>>}}], [{error_code, 400}],
         [{error_code, {400, "no"}}], [{error_code, {400, binary:copy(<<"x">>, 764)}}],
         [{address_error_code, {0, 440, <<>>}}], [{address_error_code, {3, 440, <<>>}}],
         [{address_error_code, {440, <<>>}}],
         [{icmp, {256, 0, 0}}], [{icmp, {0, 256, 0}}], [{icmp, {0, 0, 1 bsl 32}}], [{icmp, {0, 0}}],
         [{unknown_attributes, [65536]}], [{unknown_attributes, [1 | 2]}],
         [{unknown_attributes, x}],
         [{password_algorithm, {65536, <<>>}}], [{password_algorithm, [{1, <<>>}]}],
         [{password_algorithm, {1, x}}], [{password_algorithms, []}],
         [{password_algorithms, {1, <<>>}}], [{password_algorithms, [{1, <<>>} | x]}],
         [{fingerprint, 1}], [{message_integrity, <<0:160>>}],
         [{message_integrity_sha256, <<0:256>>}]],
    Messages =
        [x, [], #{}, maps:remove(class, Good), maps:remove(method, Good),
         maps:remove(transaction_id, Good), maps:remove(attributes, Good),
         Good#{class => response}, Good#{method => nothing}, Good#{method => 4096},
         Good#{method => -1}, Good#{transaction_id => <<0:88>>}, Good#{transaction_id => 1},
         Good#{fingerprint => yes}, Good#{integrity => {md5, <<"k">>}},
         Good#{integrity => {sha1, "k"}}, Good#{integrity => {sha1}}, Good#{integrity => <<"k">>}
         | [Good#{attributes => A} || A <- Attributes]],
    [?assertError(badarg, meerkat_stun:encode(M), M) || M <- Messages],
    ok.

-spec arguments([tuple()]) -> ok.
arguments(_Config) ->
    doc("the other functions exit with badarg on what is not bytes"),
    [?assertError(badarg, meerkat_stun:decode(X)) || X <- [x, [], "abc", <<1:1>>, 1]],
    [?assertError(badarg, meerkat_stun:verify(X, <<"k">>)) || X <- [x, [], <<1:1>>]],
    [?assertError(badarg, meerkat_stun:verify(<<0:160>>, X)) || X <- [x, [], <<1:1>>]],
    ?assertError(badarg, meerkat_stun:key(sha1, <<>>, <<>>, <<>>)),
    ?assertError(badarg, meerkat_stun:key(x, <<>>, <<>>)),
    ?assertError(badarg, meerkat_stun:key(<<>>, <<>>, [x])),
    ?assertError(badarg, meerkat_stun:userhash(<<>>, 1)).

-spec secrets([tuple()]) -> ok.
secrets(_Config) ->
    doc("no stack trace carries a key or a password"),
    Secret = <<"do not print me">>,
    [try
         Fun(),
         ct:fail(no_error)
     catch
         error:badarg:Stack ->
             ?assertEqual(nomatch, string:find(io_lib:format("~0tp", [Stack]), Secret))
     end || Fun <- [fun() -> meerkat_stun:encode((message(x))#{integrity => {sha1, Secret}}) end,
                    fun() -> meerkat_stun:verify(x, Secret) end,
                    fun() -> meerkat_stun:key(x, <<>>, Secret) end,
                    fun() -> meerkat_stun:key(nothing, <<>>, <<>>, Secret) end]],
    ok.

%%% Size

-spec sub_binaries([tuple()]) -> ok.
sub_binaries(_Config) ->
    doc("bytes are parts of the packet, also where the packet is a part itself"),
    Packet = meerkat_stun:encode(message([{data, binary:copy(<<"payload">>, 100)}])),
    Outer = <<"before", Packet/binary, "behind">>,
    Inner = binary:part(Outer, 6, byte_size(Packet)),
    {ok, M} = meerkat_stun:decode(Inner),
    {ok, Data} = meerkat_stun:get(data, M),
    ?assertEqual(binary:copy(<<"payload">>, 100), Data),
    ?assertEqual(binary:referenced_byte_size(Inner), binary:referenced_byte_size(Data)),
    ?assertEqual({ok, M}, meerkat_stun:decode(binary:copy(Packet))).

-spec longest([tuple()]) -> ok.
longest(_Config) ->
    doc("messages of every length around the sizes that matter, up to 65532 bytes and no longer"),
    [begin
         Data = binary:copy(<<Size>>, Size),
         Packet = meerkat_stun:encode(message([{data, Data}])),
         ?assertEqual(24 + (Size + 3) div 4 * 4, byte_size(Packet)),
         ?assertMatch({ok, #{attributes := [{data, Data}]}}, meerkat_stun:decode(Packet))
     end || Size <- lists:seq(2016, 2032) ++ [30000, 65507, 65508]],
    [?assertError(badarg, meerkat_stun:encode(message([{data, binary:copy(<<0>>, Size)}])))
     || Size <- [65509, 65532, 65533, 1000000]],
    Signed = (message([{data, binary:copy(<<0>>, 65508 - 24 - 8)}]))#{integrity => {sha1, <<"k">>},
                                                                      fingerprint => true},
    Packet = meerkat_stun:encode(Signed),
    ?assertEqual(65532, byte_size(Packet)),
    ?assertEqual(ok, meerkat_stun:verify(Packet, <<"k">>)),
    %% A length field of 65516 is well-formed, but the whole no longer fits what a view can hold.
    ?assertEqual({error, bad_length},
                 meerkat_stun:decode(<<1:16, 65516:16, 16#2112a442:32, ?ID/binary, 16#8fff:16,
                                       65512:16, 0:(8 * 65512)>>)).

-spec most_attributes([tuple()]) -> ok.
most_attributes(_Config) ->
    doc("16 378 attributes are read and written (X58)"),
    Count = (65532 - 20) div 4,
    Attributes = lists:duplicate(Count, {16#7abc, <<>>}),
    Packet = meerkat_stun:encode(message(Attributes)),
    ?assertEqual(65532, byte_size(Packet)),
    ?assertMatch({ok, #{attributes := Attributes, unknown := [16#7abc]}},
                 meerkat_stun:decode(Packet)),
    ?assertError(badarg, meerkat_stun:encode(message([{16#7abc, <<>>} | Attributes]))).

-spec longest_list([tuple()]) -> ok.
longest_list(_Config) ->
    doc("lists inside values are bounded by the message as well"),
    Types = lists:duplicate(32754, 3),
    ?assertMatch({ok, #{attributes := [{unknown_attributes, Types}]}},
                 meerkat_stun:decode(meerkat_stun:encode(message([{unknown_attributes, Types}])))),
    ?assertError(badarg, meerkat_stun:encode(message([{unknown_attributes, [3, 3 | Types]}]))),
    Algorithms = lists:duplicate(16377, {1, <<>>}),
    ?assertMatch({ok, #{attributes := [{password_algorithms, Algorithms}]}},
                 meerkat_stun:decode(
                   meerkat_stun:encode(message([{password_algorithms, Algorithms}])))),
    ?assertError(badarg, meerkat_stun:encode(
                           message([{password_algorithms, [{1, <<>>} | Algorithms]}]))).

-spec ids([tuple()]) -> ok.
ids(_Config) ->
    doc("transaction ids are 12 bytes and do not repeat"),
    Ids = [meerkat_stun:transaction_id() || _ <- lists:seq(1, 1000)],
    ?assertEqual([12], lists:usort([byte_size(Id) || Id <- Ids])),
    ?assertEqual(1000, length(lists:usort(Ids))).

-spec channels([tuple()]) -> ok.
channels(_Config) ->
    doc("ChannelData (RFC 8656 12.4)"),
    ?assertEqual(<<16#40, 1, 0, 5, "hello">>,
                 meerkat_stun:encode_channel(16#4001, ["he", <<"llo">>])),
    ?assertEqual({ok, 16#4001, <<"hello">>},
                 meerkat_stun:decode_channel(<<16#40, 1, 0, 5, "hello", 0, 0, 0>>)),
    ?assertEqual({ok, 16#4000, <<>>}, meerkat_stun:decode_channel(<<16#40, 0, 0, 0>>)),
    [?assertEqual({error, bad_channel}, meerkat_stun:decode_channel(Bad))
     || Bad <- [<<>>, <<16#40, 0, 0>>, <<16#40, 0, 0, 1>>, <<16#40, 0, 0, 9, "12345678">>]],
    Longest = binary:copy(<<0>>, 65535),
    ?assertEqual({ok, 16#4000, Longest},
                 meerkat_stun:decode_channel(meerkat_stun:encode_channel(16#4000, Longest))),
    [?assertError(badarg, meerkat_stun:encode_channel(Number, Payload))
     || {Number, Payload} <- [{-1, <<>>}, {65536, <<>>}, {x, <<>>}, {16#4000, x},
                              {16#4000, [Longest, 0]}]],
    ok.

%%% The library

-spec reload([tuple()]) -> ok.
reload(_Config) ->
    doc("the module can be loaded anew, and purged, while it is used"),
    elsewhere(fun() ->
        Packet = meerkat_stun:encode(message([{lifetime, 600}])),
        Again = fun() ->
                    {module, meerkat_stun} = code:load_file(meerkat_stun),
                    _ = code:purge(meerkat_stun),
                    ?assertMatch({ok, #{attributes := [{lifetime, 600}]}},
                                 meerkat_stun:decode(Packet)),
                    ?assertEqual(Packet, meerkat_stun:encode(message([{lifetime, 600}])))
                end,
        lists:foreach(fun(_) -> Again() end, lists:seq(1, 10))
    end).

-spec foreign_library([tuple()]) -> ok.
foreign_library(_Config) ->
    doc("a module that expects another ABI is refused; the one there stays"),
    elsewhere(fun() ->
        Packet = meerkat_stun:encode(message([])),
        Path = code:which(meerkat_stun),
        {ok, {meerkat_stun, [{abstract_code, {raw_abstract_v1, Forms}}]}} =
            beam_lib:chunks(Path, [abstract_code]),
        {ok, meerkat_stun, Other} = compile:forms([other_abi(Form) || Form <- Forms]),
        ?assertEqual({error, on_load_failure},
                     code:load_binary(meerkat_stun, Path, Other)),
        ?assertMatch({ok, _}, meerkat_stun:decode(Packet)),
        %% The same detour with the right number is taken.
        {ok, meerkat_stun, Same} = compile:forms(Forms),
        ?assertEqual({module, meerkat_stun}, code:load_binary(meerkat_stun, Path, Same))
    end).

%% init/0 with a number one higher.
other_abi({function, Anno, init, 0, Clauses}) ->
    {function, Anno, init, 0, higher(Clauses)};
other_abi(Form) ->
    Form.

higher({integer, Anno, N}) -> {integer, Anno, N + 1};
higher(Tuple) when is_tuple(Tuple) -> list_to_tuple(higher(tuple_to_list(Tuple)));
higher(List) when is_list(List) -> lists:map(fun higher/1, List);
higher(Term) -> Term.

%% In a node of its own, for the module is in use in this one.
elsewhere(Fun) ->
    {ok, Peer, _} = peer:start_link(#{connection => standard_io,
                                      args => ["-pa" | code:get_path()]}),
    ok = peer:call(Peer, erlang, apply, [fun() -> Fun(), ok end, []], 60000),
    peer:stop(Peer).

%%% Material

message(Attributes) ->
    #{class => request, method => allocate, transaction_id => ?ID, attributes => Attributes}.

doc(Text) -> ct:comment("~ts", [Text]).
