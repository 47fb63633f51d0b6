%% The published test vectors: RFC 5769 2.1 to 2.4, and RFC 8489 B.1 as its erratum 6268 corrects it
%% and as it is printed. Read, verified and, where the vector pads as the codec does, written again
%% byte for byte, by the NIF. Knows no server and no socket.
-module(rfc5769_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([request/1, ipv4_response/1, ipv6_response/1, long_term/1, sha256/1, printed/1, keys/1,
         written_long_term/1, written_sha256/1, written_short_term/1, cut/1, flipped/1,
         foreign_key/1, appended/1]).

-define(SHORT_TERM, <<"VOkJxbRl1RmTxUk/WvJxBt">>).
-define(USER, <<"マトリックス"/utf8>>).
-define(REALM, <<"example.org">>).
-define(PASSWORD, <<"TheMatrIX">>).
-define(SHORT_TERM_ID, <<16#b7e7a701bc34d686fa87dfae:96>>).
-define(LONG_TERM_ID, <<16#78ad3433c6ad72c029da412e:96>>).

-type config() :: [{vectors, #{binary() => binary()}} | {atom(), term()}].

-spec all() -> [atom()].
all() ->
    [request, ipv4_response, ipv6_response, long_term, sha256, printed, keys, written_long_term,
     written_sha256, written_short_term, cut, flipped, foreign_key, appended].

-spec init_per_suite(config()) -> config().
init_per_suite(Config) ->
    {ok, Text} = file:read_file(find("test/data/stun_vectors.txt",
                                     proplists:get_value(data_dir, Config))),
    Lines = [Line || Line <- binary:split(Text, <<"\n">>, [global, trim_all]),
                     binary:first(Line) =/= $#],
    Vectors = [{Name, binary:decode_hex(Hex)}
               || Line <- Lines, [Name, Hex] <- [binary:split(Line, <<" ">>)]],
    [{vectors, maps:from_list(Vectors)} | Config].

-spec end_per_suite(config()) -> ok.
end_per_suite(_Config) -> ok.

%%% Read

-spec request(config()) -> ok.
request(Config) ->
    doc("sample request (RFC 5769 2.1)"),
    Packet = vector(<<"rfc5769-2.1">>, Config),
    ?assertEqual({ok, #{class => request, method => binding, transaction_id => ?SHORT_TERM_ID,
                        attributes => [{software, <<"STUN test client">>},
                                       {priority, 16#6e0001ff},
                                       {ice_controlled, 16#932ff9b151263b36},
                                       {username, <<"evtj:h6vY">>}],
                        unknown => [], malformed => [], integrity => sha1, fingerprint => true}},
                 meerkat_stun:decode(Packet)),
    ?assertEqual(ok, meerkat_stun:verify(Packet, ?SHORT_TERM)).

-spec ipv4_response(config()) -> ok.
ipv4_response(Config) ->
    doc("sample IPv4 response (RFC 5769 2.2)"),
    Packet = vector(<<"rfc5769-2.2">>, Config),
    ?assertEqual({ok, response({192, 0, 2, 1})}, meerkat_stun:decode(Packet)),
    ?assertEqual(ok, meerkat_stun:verify(Packet, ?SHORT_TERM)).

-spec ipv6_response(config()) -> ok.
ipv6_response(Config) ->
    doc("sample IPv6 response (RFC 5769 2.3)"),
    Packet = vector(<<"rfc5769-2.3">>, Config),
    {ok, Ip} = inet:parse_address("2001:db8:1234:5678:11:2233:4455:6677"),
    ?assertEqual({ok, response(Ip)}, meerkat_stun:decode(Packet)),
    ?assertEqual(ok, meerkat_stun:verify(Packet, ?SHORT_TERM)).

response(Ip) ->
    #{class => success, method => binding, transaction_id => ?SHORT_TERM_ID,
      attributes => [{software, <<"test vector">>}, {xor_mapped_address, {Ip, 32853}}],
      unknown => [], malformed => [], integrity => sha1, fingerprint => true}.

-spec long_term(config()) -> ok.
long_term(Config) ->
    doc("sample request with long-term authentication (RFC 5769 2.4)"),
    Packet = vector(<<"rfc5769-2.4">>, Config),
    Expected = (long_term_request())#{unknown => [], malformed => [], integrity => sha1,
                                      fingerprint => false},
    ?assertEqual({ok, Expected}, meerkat_stun:decode(Packet)),
    ?assertEqual(ok, meerkat_stun:verify(Packet, md5_key())).

-spec sha256(config()) -> ok.
sha256(Config) ->
    doc("USERHASH and MESSAGE-INTEGRITY-SHA256 (RFC 8489 B.1, erratum 6268)"),
    Packet = vector(<<"rfc8489-B.1">>, Config),
    Expected = (sha256_request())#{unknown => [], malformed => [], integrity => sha256,
                                   fingerprint => false},
    ?assertEqual({ok, Expected}, meerkat_stun:decode(Packet)),
    ?assertEqual(ok, meerkat_stun:verify(Packet, sha256_key())).

-spec printed(config()) -> ok.
printed(Config) ->
    doc("RFC 8489 B.1 as printed has a wrong length, and with the right one a wrong signature"),
    <<Type:16, _:16, Rest/binary>> = Packet = vector(<<"rfc8489-B.1-printed">>, Config),
    ?assertEqual({error, bad_length}, meerkat_stun:decode(Packet)),
    ?assertEqual({error, bad_length}, meerkat_stun:verify(Packet, sha256_key())),
    Mended = <<Type:16, (byte_size(Packet) - 20):16, Rest/binary>>,
    ?assertMatch({ok, #{integrity := sha256}}, meerkat_stun:decode(Mended)),
    ?assertEqual({error, bad_integrity}, meerkat_stun:verify(Mended, sha256_key())),
    ?assertEqual({error, bad_integrity}, meerkat_stun:verify(Mended, md5_key())).

-spec keys(config()) -> ok.
keys(_Config) ->
    doc("keys and user hash of the long-term vectors (RFC 8489 9.2.2, 14.4, 18.5.1)"),
    ?assertEqual(<<16#e8ca7ad59d5eb0518e312911d2dab2a9:128>>, md5_key()),
    ?assertEqual(md5_key(), meerkat_stun:key(md5, [?USER], "example.org", ?PASSWORD)),
    ?assertEqual(<<16#dd295a613b9058c3c23d6dc7165bda072304d989c9d0af3a8c7e184b4f9bb4a1:256>>,
                 sha256_key()),
    ?assertEqual(<<16#4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704:256>>,
                 meerkat_stun:userhash(?USER, ?REALM)).

%%% Written

-spec written_long_term(config()) -> ok.
written_long_term(Config) ->
    doc("RFC 5769 2.4 byte for byte"),
    ?assertEqual(vector(<<"rfc5769-2.4">>, Config),
                 meerkat_stun:encode((long_term_request())#{integrity => {sha1, md5_key()}})).

-spec written_sha256(config()) -> ok.
written_sha256(Config) ->
    doc("RFC 8489 B.1 byte for byte"),
    ?assertEqual(vector(<<"rfc8489-B.1">>, Config),
                 meerkat_stun:encode((sha256_request())#{integrity => {sha256, sha256_key()}})).

-spec written_short_term(config()) -> ok.
written_short_term(Config) ->
    doc("RFC 5769 2.1 to 2.3 pad with blanks where we pad with zero (RFC 8489 14): the same but "
        "for padding, and what covers it"),
    [begin
         Packet = vector(Name, Config),
         {ok, Message} = meerkat_stun:decode(Packet),
         Again = meerkat_stun:encode(Message#{integrity => {sha1, ?SHORT_TERM}}),
         ?assertEqual({ok, Message}, meerkat_stun:decode(Again)),
         ?assertEqual(ok, meerkat_stun:verify(Again, ?SHORT_TERM)),
         %% Behind the padded text lie MESSAGE-INTEGRITY's 20 bytes and FINGERPRINT's 4.
         Text = byte_size(Packet) - 8 - 24,
         ?assertEqual(unpadded(binary:part(Packet, 0, Text)), binary:part(Again, 0, Text)),
         ?assertNotEqual(Packet, Again)
     end || Name <- [<<"rfc5769-2.1">>, <<"rfc5769-2.2">>, <<"rfc5769-2.3">>]],
    ok.

%% The text with its attributes' padding set to zero.
unpadded(<<Header:20/binary, Body/binary>>) ->
    <<Header/binary, (unpadded_attributes(Body))/binary>>.

unpadded_attributes(<<>>) ->
    <<>>;
unpadded_attributes(<<Type:16, Length:16, Rest/binary>>) ->
    Pad = -Length band 3,
    <<Value:Length/binary, _:Pad/binary, More/binary>> = Rest,
    <<Type:16, Length:16, Value/binary, 0:(8 * Pad), (unpadded_attributes(More))/binary>>.

%%% Changed

-spec cut(config()) -> ok.
cut(Config) ->
    doc("no prefix of a vector is a message"),
    [?assertMatch({error, _}, meerkat_stun:decode(binary:part(Packet, 0, Size)))
     || {Packet, _} <- signed(Config), Size <- lists:seq(0, byte_size(Packet) - 1)],
    ok.

-spec flipped(config()) -> ok.
flipped(Config) ->
    doc("every flipped bit is noticed; but in the type of FINGERPRINT, which only hides it"),
    [begin
         <<Before:Bit/bits, Value:1, After/bits>> = Packet,
         Changed = <<Before/bits, (1 - Value):1, After/bits>>,
         {ok, #{fingerprint := Fingerprint}} = meerkat_stun:decode(Packet),
         InType = Fingerprint andalso Bit div 16 =:= (byte_size(Packet) - 8) div 2,
         case meerkat_stun:verify(Changed, Key) of
             ok -> ?assertMatch({true, {ok, #{fingerprint := false}}},
                                {InType, meerkat_stun:decode(Changed)});
             {error, _} -> ?assertNot(InType)
         end
     end || {Packet, Key} <- signed(Config), Bit <- lists:seq(0, bit_size(Packet) - 1)],
    ok.

-spec foreign_key(config()) -> ok.
foreign_key(Config) ->
    doc("a key opens its own vector and no other"),
    Signed = signed(Config),
    [?assertEqual({Packet, case Key of Own -> ok; _ -> {error, bad_integrity} end},
                  {Packet, meerkat_stun:verify(Packet, Key)})
     || {Packet, Own} <- Signed, Key <- [<<>>, <<0>> | [K || {_, K} <- Signed]]],
    ok.

-spec appended(config()) -> ok.
appended(Config) ->
    doc("what is appended behind the signature changes nothing (RFC 8489 14.5)"),
    Packet = vector(<<"rfc5769-2.4">>, Config),
    <<Type:16, Length:16, Rest/binary>> = Packet,
    Evil = <<16#000d:16, 4:16, 0:32, 16#7fff:16, 0:16>>,
    Longer = <<Type:16, (Length + byte_size(Evil)):16, Rest/binary, Evil/binary>>,
    ?assertEqual(meerkat_stun:decode(Packet), meerkat_stun:decode(Longer)),
    ?assertEqual(ok, meerkat_stun:verify(Longer, md5_key())).

%%% Material

signed(Config) ->
    [{vector(Name, Config), Key}
     || {Name, Key} <- [{<<"rfc5769-2.1">>, ?SHORT_TERM}, {<<"rfc5769-2.2">>, ?SHORT_TERM},
                        {<<"rfc5769-2.3">>, ?SHORT_TERM}, {<<"rfc5769-2.4">>, md5_key()},
                        {<<"rfc8489-B.1">>, sha256_key()}]].

long_term_request() ->
    #{class => request, method => binding, transaction_id => ?LONG_TERM_ID,
      attributes => [{username, ?USER}, {nonce, <<"f//499k954d6OL34oL9FSTvy64sA">>},
                     {realm, ?REALM}]}.

sha256_request() ->
    #{class => request, method => binding, transaction_id => ?LONG_TERM_ID,
      attributes => [{userhash, meerkat_stun:userhash(?USER, ?REALM)},
                     {nonce, <<"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA">>},
                     {realm, ?REALM}, {password_algorithm, {2, <<>>}}]}.

md5_key() -> meerkat_stun:key(?USER, ?REALM, ?PASSWORD).

sha256_key() -> meerkat_stun:key(sha256, ?USER, ?REALM, ?PASSWORD).

vector(Name, Config) ->
    maps:get(Name, proplists:get_value(vectors, Config)).

%% The file of that name in the nearest directory above Dir that has it.
find(Name, Dir) ->
    File = filename:join(Dir, Name),
    case filelib:is_regular(File) of
        true -> File;
        false when Dir =/= "/" -> find(Name, filename:dirname(Dir))
    end.

doc(Text) -> ct:comment("~ts", [Text]).
