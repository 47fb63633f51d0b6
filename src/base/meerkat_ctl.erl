%% Frames between Erlang and the relay: terms to bytes and back, by the table that `make gen`
%% derives from c_src/ctl/ctl.def. Pure: knows no port, keeps no state, and has no idea what a
%% message does. A frame here is what {packet, 4} delimits, without its length.
-module(meerkat_ctl).

-export([encode/2, decode/1, peers/1, encode_peers/1]).
-export([worker/1, way/1, transport/1, transport_kind/1, transport_name/1]).
-export([magic/0, version/0, table_hash/0, messages/0, statuses/0, limit/1, counters/0,
         session_counters/0, session_drops/0, hint/1]).

-export_type([message/0, ref/0, address/0, status/0, way/0, type/0, counter/0]).

-include("meerkat_ctl.hrl").

%% Name and fields of a row of ctl.def, in lower case: {alloc_delete, #{session => 1}}.
%%   u8 u16 u32 u64   non_neg_integer()
%%   addr             address()
%%   status           status()
%%   bytes            binary(); encode/2 takes iodata()
-type message() :: {Name :: atom(), Fields :: #{atom() => term()}}.
%% A command's number, repeated in its reply; 0 in events.
-type ref() :: 0..16#ffffffff.
-type address() :: undefined | {inet:ip_address(), inet:port_number()}.
-type status() :: ok | gone | full | conflict | forbidden | family | no_ports | bad_token
                | failed | refused.
%% To the relay, to Erlang, from one relay to the next.
-type way() :: e2r | r2e | r2r.
-type type() :: u8 | u16 | u32 | u64 | addr | status | bytes.
-type counter() :: {Name :: atom(), counter | drop, Help :: string()}.

%% A frame. Exits with badarg unless the message is in the table and each of its fields is there,
%% in range, and no other.
-spec encode(ref(), message()) -> iodata().
encode(Ref, {Name, Fields}) when is_integer(Ref), Ref >= 0, Ref =< 16#ffffffff, is_map(Fields) ->
    put_fields(Name, Ref, Fields);
encode(_Ref, _Message) ->
    error(badarg).

%% The message in a frame. Binaries in it are parts of Frame: copy those that outlive it.
-spec decode(binary()) -> {ok, ref(), message()} | {error, malformed | unknown_code}.
decode(<<Code, 0:24, Ref:32, Fields/binary>>) ->
    case get_fields(Code, Fields) of
        {_Name, _Fields} = Message -> {ok, Ref, Message};
        error -> {error, wrong(Code)}
    end;
decode(Frame) when is_binary(Frame) ->
    {error, malformed}.

wrong(Code) ->
    case lists:keymember(Code, 2, ?CTL_MESSAGES) of
        true -> malformed;
        false -> unknown_code
    end.

%% The addresses in the field `peers` of permit; badarg if it holds anything else.
-spec peers(binary()) -> [address()].
peers(<<>>) ->
    [];
peers(Binary) ->
    case get_addr(Binary) of
        {Address, Rest} -> [Address | peers(Rest)];
        error -> error(badarg)
    end.

%% That field; badarg if one is no address.
-spec encode_peers([address()]) -> binary().
encode_peers(Addresses) ->
    << <<(put_addr(Address))/binary>> || Address <- Addresses >>.

%% The worker that a flow or a session belongs to.
-spec worker(FlowOrSession :: 0..16#ffffffffffffffff) -> 0..255.
worker(Id) when is_integer(Id), Id >= 0, Id =< 16#ffffffffffffffff ->
    Id bsr 56.

%% Which way a message travels; badarg if there is none of that name.
-spec way(Name :: atom()) -> way().
way(Name) ->
    case lists:keyfind(Name, 1, ?CTL_MESSAGES) of
        {Name, _Code, Way, _Types} -> Way;
        false -> error(badarg)
    end.

%% What fields called transport hold for that one; badarg if there is none of that name.
-spec transport(Name :: atom()) -> byte().
transport(Name) ->
    case lists:keyfind(Name, 1, ?CTL_TRANSPORTS) of
        {Name, Code} -> Code;
        false -> error(badarg)
    end.

%% The name of that one.
-spec transport_kind(byte()) -> udp | tcp | tls | dtls.
transport_kind(Code) ->
    {Name, Code} = lists:keyfind(Code, 2, ?CTL_TRANSPORTS),
    Name.

-spec transport_name(byte()) -> string().
transport_name(Code) ->
    atom_to_list(transport_kind(Code)).

%% What helps against a reason for which a peer is forbidden; none for what is no such reason.
-spec hint(Reason :: binary()) -> binary() | none.
hint(Reason) ->
    case lists:keyfind(Reason, 1, ?CTL_REASONS) of
        {_, Hint} -> Hint;
        false -> none
    end.

%% What the relay's HELLO must say.
-spec magic() -> non_neg_integer().
magic() -> ?CTL_MAGIC.

-spec version() -> pos_integer().
version() -> ?CTL_VERSION.

-spec table_hash() -> non_neg_integer().
table_hash() -> ?CTL_TABLE_HASH.

%% The tables, in the order of their files; that of counters/0 is the order of stats_reply.
-spec messages() -> [{Name :: atom(), Code :: byte(), way(), [{Field :: atom(), type()}]}].
messages() -> ?CTL_MESSAGES.

%% What both sides keep to, by its name in ctl.def.
-spec limit(atom()) -> pos_integer().
limit(Name) -> maps:get(Name, ?CTL_LIMITS).

-spec statuses() -> [{status(), non_neg_integer()}].
statuses() -> ?CTL_STATUSES.

-spec counters() -> [counter()].
counters() -> ?CTL_COUNTERS.

%% What session_stats counts, in its order.
-spec session_counters() -> [atom()].
session_counters() ->
    {_, _, _, [{session, _} | Fields]} = lists:keyfind(session_stats, 1, messages()),
    [Name || {Name, u64} <- Fields].

%% Why a session drops, as session_stats and session_gone count it: names of counters/0.
-spec session_drops() -> [atom()].
session_drops() ->
    {_, _, _, Fields} = lists:keyfind(session_gone, 1, messages()),
    [{dropped, _} | Reasons] = lists:dropwhile(fun({Name, _}) -> Name =/= dropped end, Fields),
    [Name || {Name, _} <- Reasons].

%%% Fields. A clause for each message is in the table, so that a frame is made, and taken apart, in
%%% one piece.

?CTL_PUT_FIELDS;
put_fields(_Name, _Ref, _Fields) ->
    error(badarg).

?CTL_GET_FIELDS;
get_fields(_Code, _Binary) ->
    error.

-define(U8(V), ?CTL_UINT(V, 8)).
-define(U16(V), ?CTL_UINT(V, 16)).

put_addr({{A, B, C, D}, Port}) when ?U8(A), ?U8(B), ?U8(C), ?U8(D), ?U16(Port) ->
    <<4, Port:16, A, B, C, D>>;
put_addr({{A, B, C, D, E, F, G, H}, Port})
  when ?U16(A), ?U16(B), ?U16(C), ?U16(D), ?U16(E), ?U16(F), ?U16(G), ?U16(H), ?U16(Port) ->
    <<6, Port:16, A:16, B:16, C:16, D:16, E:16, F:16, G:16, H:16>>;
put_addr(undefined) ->
    <<0>>;
put_addr(_) ->
    error(badarg).

put_status(Status) ->
    case lists:keyfind(Status, 1, ?CTL_STATUSES) of
        {Status, Code} -> <<Code:16>>;
        false -> error(badarg)
    end.

put_size(Bytes) ->
    case iolist_size(Bytes) of
        Size when Size =< 16#ffffffff -> Size;
        _ -> error(badarg)
    end.

get_addr(<<4, Port:16, A, B, C, D, Rest/binary>>) ->
    {{{A, B, C, D}, Port}, Rest};
get_addr(<<6, Port:16, A:16, B:16, C:16, D:16, E:16, F:16, G:16, H:16, Rest/binary>>) ->
    {{{A, B, C, D, E, F, G, H}, Port}, Rest};
get_addr(<<0, Rest/binary>>) ->
    {undefined, Rest};
get_addr(_Binary) ->
    error.

get_status(<<Code:16, Rest/binary>>) ->
    case lists:keyfind(Code, 2, ?CTL_STATUSES) of
        {Status, Code} -> {Status, Rest};
        false -> error
    end;
get_status(_Binary) ->
    error.
