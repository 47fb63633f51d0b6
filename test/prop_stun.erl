%% The codec in C held against the model in Erlang, both ways: what one writes the other reads, what
%% one refuses the other refuses, with the same words. Properties for PropEr; prop_SUITE runs them.
%%
%% No PropEr header is needed: two macros are all that is wanted of it.
-module(prop_stun).

-export([prop_encode/0, prop_decode/0, prop_mutated/0, prop_noise/0, prop_verify/0, prop_keys/0,
         prop_channel/0]).
%% For other properties: attributes, and what happens to bytes on their way.
-export([good/0, mutation/0, mutate/2]).

-define(FORALL(Var, Type, Property), proper:forall(Type, fun(Var) -> Property end)).
-define(LET(Var, Type, Result), proper_types:bind(Type, fun(Var) -> Result end, false)).

-import(proper_types, [range/2, oneof/1, frequency/1, list/1, boolean/0, binary/1]).

%% Whatever can be said in the types of meerkat_stun is encoded to the same bytes by both, and read
%% back as it was said.
-spec prop_encode() -> proper:test().
prop_encode() ->
    ?FORALL(M, message(),
            begin
                Bytes = meerkat_stun:encode(M),
                same(stun_model:encode(M), Bytes)
                    andalso same({ok, read_back(M)}, meerkat_stun:decode(Bytes))
            end).

read_back(#{attributes := Attributes} = M) ->
    M#{attributes := Attributes,
       integrity => case M of #{integrity := {Hash, _}} -> Hash; #{} -> none end,
       fingerprint => maps:get(fingerprint, M, false),
       unknown => unknown([C || {C, _} <- Attributes, is_integer(C), C < 16#8000]),
       malformed => []}.

unknown([Code | Others]) -> [Code | unknown([C || C <- Others, C =/= Code])];
unknown([]) -> [].

%% Messages right and wrong, as the model composes them, are read alike.
-spec prop_decode() -> proper:test().
prop_decode() ->
    ?FORALL(M, composed(), read_alike(stun_model:encode(M))).

%% So are messages some of whose bytes were changed, cut or doubled on the way.
-spec prop_mutated() -> proper:test().
prop_mutated() ->
    ?FORALL({M, Mutations}, {composed(), list(mutation())},
            read_alike(lists:foldl(fun mutate/2, stun_model:encode(M), Mutations))).

%% And so is noise, with and without the look of a header.
-spec prop_noise() -> proper:test().
prop_noise() ->
    ?FORALL(Bytes, oneof([bytes(0, 64), header(bytes(0, 64)),
                          header(?LET(L, list(tlv()), iolist_to_binary(L)))]),
            read_alike(Bytes)).

%% Both say the same of every signature: right, of another key, cut, or over changed bytes.
-spec prop_verify() -> proper:test().
prop_verify() ->
    ?FORALL({M, Key, Mutations},
            {composed(), key(), frequency([{3, []}, {1, list(mutation())}])},
            begin
                Bytes = lists:foldl(fun mutate/2, stun_model:encode(M), Mutations),
                same(stun_model:verify(Bytes, Key), meerkat_stun:verify(Bytes, Key))
            end).

%% Keys and hashes of credentials.
-spec prop_keys() -> proper:test().
prop_keys() ->
    ?FORALL({User, Realm, Password}, {bytes(0, 80), bytes(0, 80), bytes(0, 80)},
            same(stun_model:key(User, Realm, Password), meerkat_stun:key(User, Realm, Password))
            andalso lists:all(fun(Hash) ->
                                  same(stun_model:key(Hash, User, Realm, Password),
                                       meerkat_stun:key(Hash, User, Realm, Password))
                              end, [md5, sha256])
            andalso same(stun_model:userhash(User, Realm), meerkat_stun:userhash(User, Realm))).

%% ChannelData.
-spec prop_channel() -> proper:test().
prop_channel() ->
    ?FORALL({Number, Data, Bytes}, {range(16#4000, 16#7FFF), bytes(0, 100), bytes(0, 12)},
            same(stun_model:encode_channel(Number, Data),
                 iolist_to_binary(meerkat_stun:encode_channel(Number, Data)))
            andalso same({ok, Number, Data},
                         meerkat_stun:decode_channel(<<Number:16, (byte_size(Data)):16,
                                                       Data/binary, Bytes/binary>>))
            andalso same(stun_model:decode_channel(Bytes), meerkat_stun:decode_channel(Bytes))).

%% A difference is printed where PropEr prints its counterexample.
same(Same, Same) -> true;
same(Model, Nif) ->
    io:format("model  ~P~nnif    ~P~n", [Model, 80, Nif, 80]),
    false.

read_alike(Bytes) -> same(stun_model:decode(Bytes), meerkat_stun:decode(Bytes)).

%% ------------------------------------------------------------------------------- generators

message() ->
    ?LET({Class, Method, Txid, Attributes, End},
         {class(), method(), binary(12), list(good()), ending()},
         maps:merge(#{class => Class, method => Method, transaction_id => Txid,
                      attributes => Attributes}, End)).

ending() ->
    ?LET({Hash, Key, Fingerprint}, {oneof([none, sha1, sha256]), key(), oneof([none, true])},
         maps:from_list([{integrity, {Hash, Key}} || Hash =/= none]
                        ++ [{fingerprint, true} || Fingerprint =:= true])).

%% A message of anything the model can put into one.
composed() ->
    ?LET({Class, Method, Txid, Items, End},
         {class(), method(), binary(12), list(item()), ending()},
         maps:merge(#{class => Class, method => Method, transaction_id => Txid,
                      attributes => Items}, End)).

class() -> oneof([request, indication, success, error]).

method() ->
    oneof([binding, allocate, refresh, send, data, create_permission, channel_bind, connect,
           connection_bind, connection_attempt, 0, 2, 5, 16#D, 16#7F, 16#80, 16#FFF]).

%% Few keys, so that verify/2 meets the right one often.
key() -> oneof([<<"key">>, <<>>, binary:copy(<<"k">>, 16), binary:copy(<<"long">>, 40)]).

item() ->
    frequency([{8, good()},
               {3, ?LET({{Name, _, _, _, _}, Bytes}, {row(), sized()}, {Name, {raw, Bytes}})},
               {2, ?LET({Pad, Item}, {range(0, 255), good()}, {pad, Pad, Item})},
               {1, ?LET({Hash, Key}, {oneof([sha1, sha256]), key()}, {sign, Hash, Key})},
               {1, ?LET({Key, Size}, {key(), range(0, 32)}, {sign, sha256, Key, Size})},
               {1, fingerprint}]).

row() -> oneof(stun_model:table()).

%% Values of sizes near those that attributes have.
sized() -> ?LET(Size, oneof([range(0, 24), 31, 32, 33, 763, 764]), binary(Size)).

%% A right attribute, known or not.
-spec good() -> proper_types:type().
good() ->
    Apart = [message_integrity, message_integrity_sha256, fingerprint],
    Known = [Row || {Name, _, _, _, _} = Row <- stun_model:table(), not lists:member(Name, Apart)],
    frequency([{8, ?LET({Name, _, Kind, Min, Max}, oneof(Known),
                        ?LET(Value, value(Kind, Min, Max), {Name, Value}))},
               {1, ?LET({Code, Value}, {unknown_code(), bytes(0, 9)}, {Code, Value})}]).

unknown_code() -> oneof([0, 2, 16#0B, 16#1B, 16#2B, 16#7FFF, 16#8005, 16#C000, 16#FFFF]).

value(bytes, Min, Max) -> oneof([bytes(Min, min(Max, Min + 40)), bytes(Min, min(Max, 763))]);
value(flag, _, _) -> true;
value(u8, _, _) -> range(0, 255);
value(u8rffu3, _, _) -> range(0, 255);
value(u16, _, _) -> range(0, 65535);
value(u16rffu, _, _) -> range(0, 65535);
value(u32, _, _) -> unsigned(32);
value(u64, _, _) -> unsigned(64);
value(even, _, _) -> boolean();
value(addr, _, _) -> address();
value(xaddr, _, _) -> address();
value(error, _, _) -> {error_code(), bytes(0, 60)};
value(addrerr, _, _) -> {range(1, 2), error_code(), bytes(0, 60)};
value(icmp, _, _) -> {range(0, 255), range(0, 255), unsigned(32)};
value(types, _, _) -> list(range(0, 65535));
value(alg, _, _) -> algorithm();
value(algs, _, _) -> ?LET({One, More}, {algorithm(), list(algorithm())}, [One | More]).

unsigned(Bits) ->
    oneof([0, 1, 600, (1 bsl Bits) - 1,
           ?LET(B, binary(Bits div 8), binary:decode_unsigned(B))]).

error_code() -> ?LET({Class, Number}, {range(3, 6), range(0, 99)}, Class * 100 + Number).

algorithm() -> {oneof([0, 1, 2, 16#FFFF]), bytes(0, 9)}.

address() ->
    {oneof([?LET(B, binary(4), list_to_tuple(binary_to_list(B))),
            ?LET(B, binary(16), list_to_tuple([W || <<W:16>> <= B]))]),
     range(0, 65535)}.

bytes(Min, Max) -> ?LET(Size, range(Min, Max), binary(Size)).

%% A header before a body, its length right more often than not.
header(Body) ->
    ?LET({Type, Bytes, Wrong, Txid},
         {range(0, 16#4FFF), Body, frequency([{5, 0}, {1, range(-4, 4)}]), binary(12)},
         <<Type:16, (byte_size(Bytes) + Wrong):16, 16#2112A442:32, Txid/binary, Bytes/binary>>).

tlv() ->
    ?LET({Code, Value, Wrong},
         {oneof([unknown_code() | [C || {_, C, _, _, _} <- stun_model:table()]]), bytes(0, 36),
          frequency([{9, 0}, {1, range(0, 70)}])},
         <<Code:16, (byte_size(Value) + Wrong):16, Value/binary,
           0:(8 * ((4 - byte_size(Value) rem 4) rem 4))>>).

%% -------------------------------------------------------------------------------- mutations

%% Where: a number that is taken modulo the size of what it hits.
-spec mutation() -> proper_types:type().
mutation() ->
    {oneof([flip, set, cut, double, grow, attribute_length]), range(0, 4000), range(0, 255)}.

-spec mutate({atom(), non_neg_integer(), byte()}, binary()) -> binary().
mutate(_, <<>>) -> <<>>;
mutate({flip, Where, Bit}, Bytes) ->
    change(Bytes, Where, fun(B) -> B bxor (1 bsl (Bit rem 8)) end);
mutate({set, Where, Byte}, Bytes) ->
    change(Bytes, Where, fun(_) -> Byte end);
mutate({cut, Where, _}, Bytes) ->
    relength(binary:part(Bytes, 0, Where rem byte_size(Bytes)));
mutate({double, Where, _}, Bytes) ->
    At = 4 * ((Where rem byte_size(Bytes)) div 4),
    relength(<<Bytes/binary, (binary:part(Bytes, At, byte_size(Bytes) - At))/binary>>);
mutate({grow, _, Byte}, Bytes) ->
    relength(<<Bytes/binary, Byte, Byte, Byte, Byte>>);
mutate({attribute_length, Where, Byte}, Bytes) ->
    change(Bytes, 4 * (Where div 4) + 3, fun(_) -> Byte end).

change(Bytes, Where, Fun) ->
    At = Where rem byte_size(Bytes),
    <<Before:At/binary, Byte, After/binary>> = Bytes,
    <<Before/binary, (Fun(Byte)), After/binary>>.

%% With a header that says how long it is now, so that the mutation gets past that check.
relength(<<Type:16, _:16, Rest/binary>>) when byte_size(Rest) >= 16 ->
    <<Type:16, (byte_size(Rest) - 16):16, Rest/binary>>;
relength(Bytes) -> Bytes.
