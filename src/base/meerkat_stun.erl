%% STUN and TURN messages as Erlang terms: the codec of c_src/stun as a NIF. Pure but for
%% transaction_id/0: no process, no state. Knows the wire (RFC 8489, RFC 8656), not what a server
%% or a client does with it.
%%
%% Byte strings in a decoded message are sub-binaries of the packet. Whoever keeps one longer than
%% the packet should keep binary:copy/1 of it.
-module(meerkat_stun).

-export([decode/1, encode/1, verify/2]).
-export([get/2, get_all/2]).
-export([key/3, key/4, userhash/2, transaction_id/0]).
-export([decode_channel/1, encode_channel/2]).

-export_type([message/0, attribute/0, attribute_name/0, value/0, address/0, class/0, method/0,
              transaction_id/0, decode_error/0]).

-on_load(init/0).
-nifs([decode/1, encode_nif/1, verify_nif/2, key_nif/4, userhash/2, transaction_id/0]).

%% Raised whenever arguments or results of the native functions change; also in
%% c_src/nif/stun_nif.c. A library of another number is refused.
-define(ABI, 1).

-type class() :: request | indication | success | error.
%% A number stands for a method that has no name here.
-type method() :: binding | allocate | refresh | send | data | create_permission | channel_bind
                | connect | connection_bind | connection_attempt | 0..16#fff.
-type transaction_id() :: <<_:96>>.
%% A name of c_src/stun/attrs.def.
-type attribute_name() :: atom().
-type address() :: {inet:ip_address(), inet:port_number()}.
%% How attrs.def classes attributes, and the value each kind has in Erlang:
%%
%%   BYTES                              binary()
%%   FLAG                               true
%%   EVEN                               boolean(), the R bit of EVEN-PORT
%%   U8 U8RFFU3 U16 U16RFFU U32 U64     non_neg_integer(): requested_transport 17,
%%                                      requested_address_family 1 | 2, lifetime in seconds,
%%                                      channel_number, reservation_token (a U64), ...
%%   ADDR XADDR                         address(), XOR already undone
%%   ERROR                              {300..699, Reason :: binary()}
%%   ADDRERR                            {Family :: 1..2, 300..699, Reason :: binary()}
%%   ICMP                               {Type :: byte(), Code :: byte(), Data :: 0..16#ffffffff}
%%   TYPES                              [0..65535]
%%   ALG                                {Algorithm :: 0..65535, Parameters :: binary()}
%%   ALGS                               a list of those, not empty
-type value() :: binary() | boolean() | non_neg_integer() | address()
               | {300..699, binary()} | {1..2, 300..699, binary()}
               | {byte(), byte(), 0..16#ffffffff}
               | [0..65535] | {0..65535, binary()} | [{0..65535, binary()}].
%% An attribute that attrs.def does not know is its code and its bytes.
-type attribute() :: {attribute_name(), value()} | {0..65535, binary()}.
%% decode/1 gives every key; encode/1 wants the first four.
%%
%%   attributes     in wire order, and only those that count: nothing behind the signature
%%                  (RFC 8489 9, 14.5). Duplicates are there; the first one counts, see get/2.
%%                  message_integrity, message_integrity_sha256 and fingerprint are never there.
%%   unknown        comprehension-required types that nobody here knows (RFC 8489 14), each once,
%%                  at most 16: what an error 420 lists. Decoded only.
%%   malformed      names of attributes whose value has the wrong size or shape, in wire order;
%%                  they are not in `attributes'. Decoded only.
%%   integrity      decoded: which signatures are there, right or wrong: ask verify/2.
%%                  Encoded: {sha1 | sha256, Key} signs, anything that decode/1 says does not.
%%   fingerprint    decoded: there is one, and it is right. Encoded: true adds one.
-type message() :: #{class := class(),
                     method := method(),
                     transaction_id := transaction_id(),
                     attributes := [attribute()],
                     unknown => [0..16#7fff],
                     malformed => [attribute_name()],
                     integrity => none | sha1 | sha256 | both | {sha1 | sha256, Key :: binary()},
                     fingerprint => boolean()}.
%% Of several faults the first in this order.
-type decode_error() :: too_short          % fewer than 20 bytes
                      | not_stun           % the two top bits are not zero
                      | bad_cookie         % the magic cookie is missing (RFC 3489, or chance)
                      | bad_length         % not the packet's, no multiple of 4, or beyond 65532
                      | bad_attribute      % an attribute passes the end
                      | bad_fingerprint.   % wrong, of the wrong size, or not last

%% @doc A packet as a message (RFC 8489 5, 14), or why it is none.
%%
%% Never fails on bytes; exits with badarg on anything but a binary. A FINGERPRINT has been
%% checked, a signature has not.
-spec decode(Packet :: binary()) -> {ok, message()} | {error, decode_error()}.
decode(_Packet) ->
    erlang:nif_error(not_loaded).

%% @doc A message as a packet: attributes in their order, then the signature, then FINGERPRINT.
%%
%% Padding and reserved bits are zero. Exits with badarg on an unknown name, a value of the wrong
%% shape or size for its kind, and when the whole would pass 65532 bytes. What {@link decode/1}
%% gave encodes again, without its signatures.
-spec encode(message()) -> binary().
encode(Message) ->
    checked(encode_nif(Message)).

%% @doc Is the packet signed with this key (RFC 8489 14.5, 14.6)?
%%
%% MESSAGE-INTEGRITY-SHA256 decides when present (RFC 8489 9.2.4), else MESSAGE-INTEGRITY. A
%% signature of the wrong length, also a truncated one, is bad_integrity. Takes the same time
%% wherever digests differ.
-spec verify(Packet :: binary(), Key :: binary()) ->
    ok | {error, no_integrity | bad_integrity | decode_error()}.
verify(Packet, Key) ->
    checked(verify_nif(Packet, Key)).

%% @doc The first attribute of that name, which is the one that counts (RFC 8489 14).
%%
%% If the first on the wire was malformed, this may be a later one: look at `malformed' first
%% where that matters.
-spec get(attribute_name() | 0..65535, message()) -> {ok, value()} | error.
get(Name, #{attributes := Attributes}) ->
    case lists:keyfind(Name, 1, Attributes) of
        {Name, Value} -> {ok, Value};
        false -> error
    end.

%% @doc All attributes of that name, for those that may come several times (XOR-PEER-ADDRESS in
%% CreatePermission, RFC 8656 9.1).
-spec get_all(attribute_name() | 0..65535, message()) -> [value()].
get_all(Name, #{attributes := Attributes}) ->
    [Value || {N, Value} <- Attributes, N =:= Name].

%% @doc The long-term key of RFC 8489 9.2.2: MD5 of user:realm:password.
%%
%% OpaqueString (RFC 8265) is for the caller to apply, where it wants it.
-spec key(User :: iodata(), Realm :: iodata(), Password :: iodata()) -> <<_:128>>.
key(User, Realm, Password) ->
    key(md5, User, Realm, Password).

%% @doc The same by either password algorithm (RFC 8489 18.5.1): 16 or 32 bytes.
-spec key(md5 | sha256, User :: iodata(), Realm :: iodata(), Password :: iodata()) -> binary().
key(Algorithm, User, Realm, Password) ->
    checked(key_nif(Algorithm, User, Realm, Password)).

%% @doc USERHASH (RFC 8489 14.4): SHA-256 of user:realm.
-spec userhash(User :: iodata(), Realm :: iodata()) -> <<_:256>>.
userhash(_User, _Realm) ->
    erlang:nif_error(not_loaded).

%% @doc A fresh transaction id, from the system's generator (RFC 8489 5).
-spec transaction_id() -> transaction_id().
transaction_id() ->
    erlang:nif_error(not_loaded).

%% @doc Number and payload of a ChannelData message (RFC 8656 12.4).
%%
%% Bytes behind the claimed length are padding. Whether the number is one a channel may have is
%% for the caller.
-spec decode_channel(binary()) -> {ok, 0..65535, Payload :: binary()} | {error, bad_channel}.
decode_channel(<<Number:16, Length:16, Payload:Length/binary, _Padding/binary>>) ->
    {ok, Number, Payload};
decode_channel(Packet) when is_binary(Packet) ->
    {error, bad_channel}.

%% @doc A ChannelData message without padding, as over UDP. Exits with badarg when the payload
%% passes 65535 bytes.
-spec encode_channel(0..65535, Payload :: iodata()) -> binary().
encode_channel(Number, Payload) when Number >= 0, Number =< 65535 ->
    case iolist_to_binary(Payload) of
        Bytes when byte_size(Bytes) =< 65535 ->
            <<Number:16, (byte_size(Bytes)):16, Bytes/binary>>;
        _ ->
            error(badarg)
    end;
encode_channel(_Number, _Payload) ->
    error(badarg).

%%% Native functions

%% An error raised here names no arguments; one raised by a NIF would take keys and passwords along
%% into crash reports.
checked(badarg) -> error(badarg);
checked(Result) -> Result.

-spec encode_nif(message()) -> binary() | badarg.
encode_nif(_Message) ->
    erlang:nif_error(not_loaded).

-spec verify_nif(binary(), binary()) ->
    ok | {error, no_integrity | bad_integrity | decode_error()} | badarg.
verify_nif(_Packet, _Key) ->
    erlang:nif_error(not_loaded).

-spec key_nif(md5 | sha256, iodata(), iodata(), iodata()) -> binary() | badarg.
key_nif(_Algorithm, _User, _Realm, _Password) ->
    erlang:nif_error(not_loaded).

%%% Loading

init() ->
    erlang:load_nif(filename:join(priv(), "meerkat_stun_nif"), ?ABI).

%% Where the application is, or beside the directory this module was loaded from.
priv() ->
    case code:priv_dir(meerkat) of
        {error, bad_name} ->
            filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
        Dir ->
            Dir
    end.
