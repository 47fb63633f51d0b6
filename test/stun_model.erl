%% The wire formats of STUN and TURN once more, written from the RFCs in plain bit syntax: what the
%% suites build their packets with and judge answers by, and what prop_stun holds the NIF against.
%% Knows nothing of meerkat_stun and shares no line or table with it; speed is no concern here.
%%
%% RFC 8489 (STUN), RFC 8656 (TURN), with attributes of RFC 5780, 7982, 8016 and 8445.
-module(stun_model).

-export([encode/1, decode/1, verify/2]).
-export([table/0, codes/1, padding/1]).
-export([key/3, key/4, userhash/2, crc/1]).
-export([encode_channel/2, decode_channel/1]).

-export_type([message/0, item/0, value/0, kind/0, class/0, method/0, address/0]).

-define(COOKIE, 16#2112A442).
-define(MI, 16#0008).
-define(MI256, 16#001C).
-define(FINGERPRINT, 16#8028).

-type class() :: request | indication | success | error.
-type method() :: atom() | 0..16#FFF.
-type address() :: {inet:ip_address(), inet:port_number()}.
-type kind() :: bytes | flag | u8 | u8rffu3 | u16 | u16rffu | u32 | u64 | even | addr | xaddr
              | error | addrerr | icmp | types | alg | algs.
-type value() :: binary() | boolean() | non_neg_integer() | address()
               | {100..699, binary()} | {1..2, 100..699, binary()}
               | {byte(), byte(), non_neg_integer()}
               | [0..65535] | {0..65535, binary()} | [{0..65535, binary()}].
%% What a message is made of, in wire order:
%%   {Name, Value}                a known attribute of that name
%%   {Name, {raw, Bytes}}         the same, its value as given, right or wrong
%%   {Code, Bytes}                any attribute
%%   {pad, Byte, Item}            the item before with its padding filled with Byte
%%   {sign, sha1 | sha256, Key}   the integrity of everything before it
%%   {sign, sha256, Key, Length}  truncated to Length bytes
%%   fingerprint                  the checksum of everything before it
%%   {bytes, Bytes}               no attribute at all, only bytes
-type item() :: {atom(), value() | {raw, binary()}} | {0..65535, binary()}
              | {pad, byte(), item()} | {sign, sha1 | sha256, binary()}
              | {sign, sha256, binary(), 0..32} | fingerprint | {bytes, binary()}.
-type message() :: #{class := class(), method := method(), transaction_id := <<_:96>>,
                     attributes := [item()],
                     integrity => none | sha1 | sha256 | both | {sha1 | sha256, binary()},
                     fingerprint => boolean(), unknown => [0..65535], malformed => [atom()]}.

%% ------------------------------------------------------------------------------------ table

%% {Name, Code, Kind, Smallest, Largest}: sizes of the value in bytes.
-spec table() -> [{atom(), 0..65535, kind(), 0..65535, 0..65535}].
table() ->
    [{mapped_address, 16#0001, addr, 8, 20},              % RFC 8489 14.1
     {change_request, 16#0003, u32, 4, 4},                % RFC 5780 7.2
     {username, 16#0006, bytes, 1, 763},                  % RFC 8489 14.3
     {message_integrity, ?MI, bytes, 20, 20},             % RFC 8489 14.5
     {error_code, 16#0009, error, 4, 767},                % RFC 8489 14.8
     {unknown_attributes, 16#000A, types, 0, 65532},      % RFC 8489 14.13
     {channel_number, 16#000C, u16rffu, 4, 4},            % RFC 8656 18.1
     {lifetime, 16#000D, u32, 4, 4},                      % RFC 8656 18.2
     {xor_peer_address, 16#0012, xaddr, 8, 20},           % RFC 8656 18.3
     {data, 16#0013, bytes, 0, 65532},                    % RFC 8656 18.4
     {realm, 16#0014, bytes, 1, 763},                     % RFC 8489 14.9
     {nonce, 16#0015, bytes, 1, 763},                     % RFC 8489 14.10
     {xor_relayed_address, 16#0016, xaddr, 8, 20},        % RFC 8656 18.5
     {requested_address_family, 16#0017, u8rffu3, 4, 4},  % RFC 8656 18.6
     {even_port, 16#0018, even, 1, 1},                    % RFC 8656 18.7
     {requested_transport, 16#0019, u8rffu3, 4, 4},       % RFC 8656 18.8
     {dont_fragment, 16#001A, flag, 0, 0},                % RFC 8656 18.9
     {message_integrity_sha256, ?MI256, bytes, 16, 32},   % RFC 8489 14.6
     {password_algorithm, 16#001D, alg, 4, 65532},        % RFC 8489 14.12
     {userhash, 16#001E, bytes, 32, 32},                  % RFC 8489 14.4
     {xor_mapped_address, 16#0020, xaddr, 8, 20},         % RFC 8489 14.2
     {reservation_token, 16#0022, u64, 8, 8},             % RFC 8656 18.10
     {connection_id, 16#002A, u32, 4, 4},                 % RFC 6062 6.2.1
     {priority, 16#0024, u32, 4, 4},                      % RFC 8445 16.1
     {use_candidate, 16#0025, flag, 0, 0},                % RFC 8445 16.1
     {padding, 16#0026, bytes, 0, 65532},                 % RFC 5780 7.6
     {response_port, 16#0027, u16, 2, 4},                 % RFC 5780 7.5
     {additional_address_family, 16#8000, u8rffu3, 4, 4}, % RFC 8656 18.11
     {address_error_code, 16#8001, addrerr, 4, 767},      % RFC 8656 18.12
     {password_algorithms, 16#8002, algs, 4, 65532},      % RFC 8489 14.11
     {alternate_domain, 16#8003, bytes, 0, 255},          % RFC 8489 14.16
     {icmp, 16#8004, icmp, 8, 8},                         % RFC 8656 18.13
     {software, 16#8022, bytes, 0, 763},                  % RFC 8489 14.14
     {alternate_server, 16#8023, addr, 8, 20},            % RFC 8489 14.15
     {transaction_transmit_counter, 16#8025, bytes, 4, 4}, % RFC 7982 3.1
     {fingerprint, ?FINGERPRINT, u32, 4, 4},              % RFC 8489 14.7
     {ice_controlled, 16#8029, u64, 8, 8},                % RFC 8445 16.1
     {ice_controlling, 16#802A, u64, 8, 8},               % RFC 8445 16.1
     {response_origin, 16#802B, addr, 8, 20},             % RFC 5780 7.3
     {other_address, 16#802C, addr, 8, 20},               % RFC 5780 7.4
     {mobility_ticket, 16#8030, bytes, 0, 763}].          % RFC 8016 3.5

methods() ->
    [{binding, 16#001}, {allocate, 16#003}, {refresh, 16#004}, {send, 16#006}, {data, 16#007},
     {create_permission, 16#008}, {channel_bind, 16#009}, {connect, 16#00A},
     {connection_bind, 16#00B}, {connection_attempt, 16#00C}].

%% ----------------------------------------------------------------------------------- encode

%% `integrity => {Hash, Key}` and `fingerprint => true` put the signature and the checksum last;
%% items of the same meaning put them anywhere.
-spec encode(message()) -> binary().
encode(#{class := Class, method := Method, transaction_id := Txid, attributes := Items} = M) ->
    Last = case M of
               #{integrity := {Hash, Key}} -> [{sign, Hash, Key}];
               #{} -> []
           end ++ [fingerprint || maps:get(fingerprint, M, false)],
    Head = type(Class, Method),
    Body = lists:foldl(fun(Item, Before) -> add(Item, Head, Txid, Before) end, <<>>,
                       Items ++ Last),
    <<Head:16, (byte_size(Body)):16, ?COOKIE:32, Txid/binary, Body/binary>>.

type(Class, Name) when is_atom(Name) ->
    {Name, Method} = lists:keyfind(Name, 1, methods()),
    type(Class, Method);
type(Class, Method) ->
    <<High:5, Middle:3, Low:4>> = <<Method:12>>,
    <<C1:1, C0:1>> = <<(class_bits(Class)):2>>,
    <<Type:16>> = <<0:2, High:5, C1:1, Middle:3, C0:1, Low:4>>,
    Type.

class_bits(request) -> 0;
class_bits(indication) -> 1;
class_bits(success) -> 2;
class_bits(error) -> 3.

add({sign, Hash, Key}, Head, Txid, Before) ->
    add({sign, Hash, Key, digest_size(Hash)}, Head, Txid, Before);
add({sign, Hash, Key, Size}, Head, Txid, Before) ->
    Code = case Hash of sha1 -> ?MI; sha256 -> ?MI256 end,
    Length = byte_size(Before) + 4 + Size,
    Signed = <<Head:16, Length:16, ?COOKIE:32, Txid/binary, Before/binary>>,
    <<Before/binary, (tlv(Code, crypto:macN(hmac, hash(Hash), Key, Signed, Size), 0))/binary>>;
add(fingerprint, Head, Txid, Before) ->
    Length = byte_size(Before) + 8,
    Crc = crc(<<Head:16, Length:16, ?COOKIE:32, Txid/binary, Before/binary>>),
    <<Before/binary, (tlv(?FINGERPRINT, <<Crc:32>>, 0))/binary>>;
add({bytes, Bytes}, _Head, _Txid, Before) ->
    <<Before/binary, Bytes/binary>>;
add({pad, Byte, Item}, _Head, Txid, Before) ->
    <<Before/binary, (attribute(Item, Txid, Byte))/binary>>;
add(Item, _Head, Txid, Before) ->
    <<Before/binary, (attribute(Item, Txid, 0))/binary>>.

hash(sha1) -> sha;
hash(sha256) -> sha256.

digest_size(sha1) -> 20;
digest_size(sha256) -> 32.

attribute({Name, Value}, Txid, Pad) when is_atom(Name) ->
    {Name, Code, Kind, _, _} = lists:keyfind(Name, 1, table()),
    case Value of
        {raw, Bytes} -> tlv(Code, Bytes, Pad);
        _ -> tlv(Code, value(Kind, Value, Txid), Pad)
    end;
attribute({Code, Bytes}, _Txid, Pad) ->
    tlv(Code, Bytes, Pad).

tlv(Code, Bytes, Pad) ->
    Size = byte_size(Bytes),
    <<Code:16, Size:16, Bytes/binary, (binary:copy(<<Pad>>, pad(Size)))/binary>>.

pad(Size) -> (4 - Size rem 4) rem 4.

value(bytes, Bytes, _) -> Bytes;
value(flag, true, _) -> <<>>;
value(u8, N, _) -> <<N>>;
value(u8rffu3, N, _) -> <<N, 0:24>>;
value(u16, N, _) -> <<N:16>>;
value(u16rffu, N, _) -> <<N:16, 0:16>>;
value(u32, N, _) -> <<N:32>>;
value(u64, N, _) -> <<N:64>>;
value(even, true, _) -> <<16#80>>;
value(even, false, _) -> <<0>>;
value(addr, {Ip, Port}, _) -> <<0, (family(Ip)), Port:16, (ip_bytes(Ip))/binary>>;
value(xaddr, {Ip, Port}, Txid) ->
    Bytes = ip_bytes(Ip),
    Mask = binary:part(<<?COOKIE:32, Txid/binary>>, 0, byte_size(Bytes)),
    <<0, (family(Ip)), (Port bxor (?COOKIE bsr 16)):16, (crypto:exor(Bytes, Mask))/binary>>;
value(error, {Code, Reason}, _) ->
    <<0:21, (Code div 100):3, (Code rem 100), Reason/binary>>;
value(addrerr, {Family, Code, Reason}, _) ->
    <<Family, 0:13, (Code div 100):3, (Code rem 100), Reason/binary>>;
value(icmp, {Type, Code, Data}, _) -> <<0:16, Type, Code, Data:32>>;
value(types, Types, _) -> << <<T:16>> || T <- Types >>;
value(alg, {Algorithm, Parameters}, _) -> tlv(Algorithm, Parameters, 0);
value(algs, List, _) -> << <<(tlv(A, P, 0))/binary>> || {A, P} <- List >>.

family({_, _, _, _}) -> 1;
family({_, _, _, _, _, _, _, _}) -> 2.

ip_bytes({A, B, C, D}) -> <<A, B, C, D>>;
ip_bytes({A, B, C, D, E, F, G, H}) -> <<A:16, B:16, C:16, D:16, E:16, F:16, G:16, H:16>>.

%% ----------------------------------------------------------------------------------- decode

%% What the bytes say, with the rules of RFC 8489 5, 7, 9 and 14 applied: only the attributes that
%% count are listed, and FINGERPRINT, if there is one, has been found last and right.
-spec decode(binary()) ->
    {ok, message()}
    | {error, too_short | not_stun | bad_cookie | bad_length | bad_attribute | bad_fingerprint}.
decode(Packet) when byte_size(Packet) < 20 ->
    {error, too_short};
decode(<<Top:2, _/bits>>) when Top =/= 0 ->
    {error, not_stun};
decode(<<_:32, Cookie:32, _/binary>>) when Cookie =/= ?COOKIE ->
    {error, bad_cookie};
decode(<<_:16, Length:16, _:16/binary, Body/binary>>)
  when Length =/= byte_size(Body); Length rem 4 =/= 0 ->
    {error, bad_length};
decode(<<0:2, High:5, C1:1, Middle:3, C0:1, Low:4, _:48, Txid:12/binary, Body/binary>> = Packet) ->
    case walk(Body, 20) of
        {ok, All} ->
            case fingerprint(Packet, All) of
                bad -> {error, bad_fingerprint};
                Fingerprint ->
                    <<Method:12>> = <<High:5, Middle:3, Low:4>>,
                    Class = element(C1 * 2 + C0 + 1, {request, indication, success, error}),
                    M = #{class => Class, method => method_name(Method), transaction_id => Txid,
                          fingerprint => Fingerprint},
                    {ok, read(counting(All), M)}
            end;
        error -> {error, bad_attribute}
    end.

method_name(Method) ->
    case lists:keyfind(Method, 2, methods()) of
        {Name, _} -> Name;
        false -> Method
    end.

%% [{Code, Value, Offset of the attribute's header}], or error when one passes the end.
walk(<<>>, _) ->
    {ok, []};
walk(<<Code:16, Size:16, Rest/binary>>, Offset) ->
    Pad = pad(Size),
    case Rest of
        <<Value:Size/binary, _:Pad/binary, More/binary>> ->
            case walk(More, Offset + 4 + Size + Pad) of
                {ok, Others} -> {ok, [{Code, Value, Offset} | Others]};
                error -> error
            end;
        _ -> error
    end;
walk(_, _) ->
    error.

fingerprint(Packet, All) ->
    case lists:dropwhile(fun({Code, _, _}) -> Code =/= ?FINGERPRINT end, All) of
        [] -> false;
        [{_, <<Crc:32>>, Offset}] -> Crc =:= crc(binary:part(Packet, 0, Offset)) orelse bad;
        _ -> bad
    end.

%% RFC 8489 9: what stands behind the integrity does not count, but for the stronger one and the
%% checksum.
counting([{?MI, _, _} = A | Rest]) ->
    [A | counting([R || {C, _, _} = R <- Rest, C =:= ?MI256 orelse C =:= ?FINGERPRINT])];
counting([{?MI256, _, _} = A | Rest]) ->
    [A | [R || {?FINGERPRINT, _, _} = R <- Rest]];
counting([A | Rest]) -> [A | counting(Rest)];
counting([]) -> [].

read(Counting, #{transaction_id := Txid} = M) ->
    Read = [{Code, read_one(Code, Value, Txid)} || {Code, Value, _} <- Counting],
    Has = fun(Code) -> lists:keymember(Code, 1, Counting) end,
    Integrity = case {Has(?MI), Has(?MI256)} of
                    {false, false} -> none;
                    {true, false} -> sha1;
                    {false, true} -> sha256;
                    {true, true} -> both
                end,
    Apart = [message_integrity, message_integrity_sha256, fingerprint],
    M#{integrity => Integrity,
       attributes => [A || {_, {value, {Name, _} = A}} <- Read, not lists:member(Name, Apart)],
       malformed => [Name || {_, {malformed, Name}} <- Read],
       unknown => first_of_each([Code || {Code, {value, {Code, _}}} <- Read, Code < 16#8000])}.

%% What a 420 lists: each type once, and not more than 16.
first_of_each(Codes) ->
    lists:sublist(distinct(Codes), 16).

distinct([Code | Others]) -> [Code | distinct([C || C <- Others, C =/= Code])];
distinct([]) -> [].

read_one(Code, Value, Txid) ->
    case lists:keyfind(Code, 2, table()) of
        {Name, _, Kind, Min, Max} when byte_size(Value) >= Min, byte_size(Value) =< Max ->
            case meaning(Kind, Value, Txid) of
                {ok, Meaning} -> {value, {Name, Meaning}};
                error -> {malformed, Name}
            end;
        {Name, _, _, _, _} -> {malformed, Name};
        false -> {value, {Code, Value}}
    end.

meaning(bytes, Bytes, _) -> {ok, Bytes};
meaning(flag, <<>>, _) -> {ok, true};
meaning(u8, <<N>>, _) -> {ok, N};
meaning(u8rffu3, <<N, _:24>>, _) -> {ok, N};
meaning(u16, <<N:16, _/binary>>, _) -> {ok, N};
meaning(u16rffu, <<N:16, _:16>>, _) -> {ok, N};
meaning(u32, <<N:32>>, _) -> {ok, N};
meaning(u64, <<N:64>>, _) -> {ok, N};
meaning(even, <<R:1, _:7>>, _) -> {ok, R =:= 1};
meaning(addr, <<_, 1, Port:16, Ip:4/binary>>, _) -> {ok, {ip(Ip), Port}};
meaning(addr, <<_, 2, Port:16, Ip:16/binary>>, _) -> {ok, {ip(Ip), Port}};
meaning(xaddr, <<_, Family, Port:16, Ip/binary>>, Txid)
  when Family =:= 1, byte_size(Ip) =:= 4; Family =:= 2, byte_size(Ip) =:= 16 ->
    Mask = binary:part(<<?COOKIE:32, Txid/binary>>, 0, byte_size(Ip)),
    {ok, {ip(crypto:exor(Ip, Mask)), Port bxor (?COOKIE bsr 16)}};
meaning(error, <<_:21, Class:3, Number, Reason/binary>>, _)
  when Class >= 3, Class =< 6, Number =< 99 ->
    {ok, {Class * 100 + Number, Reason}};
meaning(addrerr, <<Family, _:13, Class:3, Number, Reason/binary>>, _)
  when Family >= 1, Family =< 2, Class >= 3, Class =< 6, Number =< 99 ->
    {ok, {Family, Class * 100 + Number, Reason}};
meaning(icmp, <<_:16, Type, Code, Data:32>>, _) -> {ok, {Type, Code, Data}};
meaning(types, Bytes, _) when byte_size(Bytes) rem 2 =:= 0 ->
    {ok, [T || <<T:16>> <= Bytes]};
meaning(alg, Bytes, _) ->
    case algorithms(Bytes) of
        {ok, [One]} -> {ok, One};
        _ -> error
    end;
meaning(algs, Bytes, _) -> algorithms(Bytes);
meaning(_, _, _) -> error.

ip(<<A, B, C, D>>) -> {A, B, C, D};
ip(<<A:16, B:16, C:16, D:16, E:16, F:16, G:16, H:16>>) -> {A, B, C, D, E, F, G, H}.

%% RFC 8489 14.11: the parameters are padded like attributes.
algorithms(Bytes) ->
    case walk(Bytes, 0) of
        {ok, List} -> {ok, [{Algorithm, Parameters} || {Algorithm, Parameters, _} <- List]};
        error -> error
    end.

%% The codes of all attributes on the wire, in order, whether they count or not.
-spec codes(binary()) -> [0..65535].
codes(<<_:20/binary, Body/binary>>) ->
    {ok, All} = walk(Body, 20),
    [Code || {Code, _, _} <- All].

%% All padding bytes of the message, one after the other.
-spec padding(binary()) -> binary().
padding(<<_:20/binary, Body/binary>> = Packet) ->
    {ok, All} = walk(Body, 20),
    << <<(binary:part(Packet, Offset + 4 + byte_size(V), pad(byte_size(V))))/binary>>
       || {_, V, Offset} <- All >>.

%% -------------------------------------------------------------------------------- integrity

%% RFC 8489 9.2.4: MESSAGE-INTEGRITY-SHA256 decides when present (in full: TURN does not truncate),
%% else MESSAGE-INTEGRITY.
-spec verify(binary(), binary()) -> ok | {error, atom()}.
verify(Packet, Key) ->
    case decode(Packet) of
        {ok, _} ->
            <<_:20/binary, Body/binary>> = Packet,
            {ok, All} = walk(Body, 20),
            Counting = counting(All),
            case {lists:keyfind(?MI256, 1, Counting), lists:keyfind(?MI, 1, Counting)} of
                {false, false} -> {error, no_integrity};
                {false, Sha1} -> compare(sha1, Key, Packet, Sha1);
                {Sha256, _} -> compare(sha256, Key, Packet, Sha256)
            end;
        Error -> Error
    end.

compare(Hash, Key, <<Type:16, _:16, _/binary>> = Packet, {_, Digest, Offset}) ->
    Size = digest_size(Hash),
    Length = Offset + 4 + Size - 20,
    Signed = <<Type:16, Length:16, (binary:part(Packet, 4, Offset - 4))/binary>>,
    case crypto:mac(hmac, hash(Hash), Key, Signed) of
        Digest -> ok;
        _ -> {error, bad_integrity}
    end.

%% The long-term key of RFC 8489 9.2.2 and its younger sibling of 18.5.1.2.
-spec key(iodata(), iodata(), iodata()) -> <<_:128>>.
key(User, Realm, Password) -> key(md5, User, Realm, Password).

-spec key(md5 | sha256, iodata(), iodata(), iodata()) -> binary().
key(Hash, User, Realm, Password) -> crypto:hash(Hash, [User, $:, Realm, $:, Password]).

%% RFC 8489 14.4.
-spec userhash(iodata(), iodata()) -> <<_:256>>.
userhash(User, Realm) -> crypto:hash(sha256, [User, $:, Realm]).

%% RFC 8489 14.7, over a message whose header already counts the FINGERPRINT.
-spec crc(binary()) -> 0..16#FFFFFFFF.
crc(Bytes) -> erlang:crc32(Bytes) bxor 16#5354554E.

%% ------------------------------------------------------------------------------ ChannelData

%% RFC 8656 12.4, unpadded as over UDP.
-spec encode_channel(0..65535, iodata()) -> binary().
encode_channel(Number, Data) ->
    <<Number:16, (iolist_size(Data)):16, (iolist_to_binary(Data))/binary>>.

%% RFC 8656 12.6: bytes behind the claimed length are padding.
-spec decode_channel(binary()) -> {ok, 0..65535, binary()} | {error, bad_channel}.
decode_channel(<<Number:16, Size:16, Data:Size/binary, _/binary>>) -> {ok, Number, Data};
decode_channel(_) -> {error, bad_channel}.
