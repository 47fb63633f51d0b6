%% Writes and reads JSON, by a library: OTP's own from OTP 27 on, jiffy before. All JSON is written
%% and read here, so that no other module depends on which library it is.
-module(meerkat_json).

-export([encode/1, encode_ascii/1, decode/1, plain/1]).
-export_type([value/0]).

%% Objects are maps, or lists in a tuple where the order of their members matters to a reader; text
%% is UTF-8; atoms other than these three are text too.
-type value() ::
    null | true | false | atom() | number() | binary() | [value()]
    | #{atom() | binary() => value()} | {[{atom() | binary(), value()}]}.

%% One line without a line break, as UTF-8. Text that is not UTF-8 keeps what of it is.
-spec encode(value()) -> binary().
encode(Value) ->
    to_json(Value, utf8).

%% The same in ASCII alone: every tool reads it, and nothing in it controls a terminal.
-spec encode_ascii(value()) -> binary().
encode_ascii(Value) ->
    to_json(Value, ascii).

%% Objects come back as maps with binary keys.
-spec decode(iodata()) -> {ok, value()} | error.
decode(Text) ->
    try {ok, from_json(Text)} catch _:_ -> error end.

-if(?OTP_RELEASE >= 27).

to_json(Value, Text) ->
    iolist_to_binary(json:encode(Value, fun(Part, Encode) -> part(Part, Encode, Text) end)).

%% Objects whose members have an order, and text that may not be UTF-8; all else is json's.
part({Members}, Encode, _Text) -> json:encode_key_value_list(Members, Encode);
part(Part, _Encode, ascii) when is_binary(Part) -> json:encode_binary_escape_all(utf8(Part));
part(Part, _Encode, utf8) when is_binary(Part) -> json:encode_binary(utf8(Part));
part(Part, Encode, _Text) -> json:encode_value(Part, Encode).

%% What is not UTF-8 becomes U+FFFD, as jiffy has it: one for a character that is cut short.
utf8(Text) ->
    case unicode:characters_to_binary(Text) of
        Good when is_binary(Good) -> Good;
        {_, Good, <<_, Rest/binary>>} ->
            <<Good/binary, 16#FFFD/utf8, (utf8(continued(Rest)))/binary>>
    end.

continued(<<2#10:2, _:6, Rest/binary>>) -> continued(Rest);
continued(Rest) -> Rest.

from_json(Text) ->
    json:decode(iolist_to_binary(Text)).

-else.

to_json(Value, utf8) -> iolist_to_binary(jiffy:encode(Value, [force_utf8]));
to_json(Value, ascii) -> iolist_to_binary(jiffy:encode(Value, [force_utf8, uescape])).

from_json(Text) ->
    jiffy:decode(Text, [return_maps]).

-endif.

%% What the public interface returns, as JSON has it: addresses, networks and sessions are text as
%% people write it, `undefined` is null, keys of maps are names. Other tuples are lists.
-spec plain(term()) -> value().
plain(undefined) -> null;
plain(Map) when is_map(Map) ->
    maps:from_list([{name(Key), plain(Key, Value)} || {Key, Value} <- maps:to_list(Map)]);
plain(List) when is_list(List) -> [plain(Value) || Value <- List];
plain(Tuple) when is_tuple(Tuple) -> tuple(Tuple, inet:is_ip_address(Tuple));
plain(Value) -> Value.

plain(session, Session) when is_integer(Session) ->
    list_to_binary(meerkat_text:session(Session));
plain(_Key, Value) ->
    plain(Value).

name(Key) when is_integer(Key) -> integer_to_binary(Key);
name(Key) when is_atom(Key); is_binary(Key) -> Key;
name(Key) -> iolist_to_binary(io_lib:format("~tp", [Key])).

tuple(Ip, true) ->
    list_to_binary(meerkat_text:ip(Ip));
tuple({Ip, Port} = Address, false) when is_integer(Port), is_tuple(Ip) ->
    list_to_binary(meerkat_text:address(Address));
tuple(Tuple, false) ->
    [plain(Value) || Value <- tuple_to_list(Tuple)].
