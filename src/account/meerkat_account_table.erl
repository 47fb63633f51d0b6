%% The table of accounting records (docs/accounting.md): its columns, the statement that makes it,
%% and those that put records there. A record that is there already stays as it is. Pure.
-module(meerkat_account_table).

-export([create/1, look/0, insert/2]).

-type kind() :: sqlite | postgresql | mysql.
%% As meerkat_json reads a line of meerkat_account_record.
-type fields() :: #{binary() => term()}.

-define(TABLE, "meerkat_accounting").
-define(ROWS, 100).                 % that one statement puts there

%% A column is called as the field that it has, but for `user`, which is a word of SQL. The time of
%% day is UTC, and not of a type that is shown in another zone.
columns() ->
    [{"record", {text, 64}}, {"type", {text, 16}}, {"time", time}, {"host", {text, 255}},
     {"server", {text, 255}}, {"session_id", {text, 64}}, {"user_id", {text, 512}},
     {"username", {text, 512}}, {"realm", {text, 255}}, {"client", {text, 64}},
     {"transport", {text, 8}}, {"listener", {text, 64}}, {"relayed", {text, 128}},
     {"protocol", {text, 8}}, {"start_time", time}, {"lifetime", integer}, {"duration", seconds},
     {"client_packets", integer}, {"client_bytes", integer}, {"peer_packets", integer},
     {"peer_bytes", integer}, {"dropped", integer}, {"reason", {text, 32}},
     {"instance", {text, 64}}, {"count", integer}].

field("user_id") -> <<"user">>;
field(Column) -> list_to_binary(Column).

%% Statements, to be sent one after the other where the table is not there.
-spec create(kind()) -> [iodata()].
create(Kind) ->
    [["CREATE TABLE " ?TABLE " (",
      lists:join(", ", [[Column, $\s, type(Type, Kind)] || {Column, Type} <- columns()]),
      ", PRIMARY KEY (record))", options(Kind)],
     "CREATE INDEX " ?TABLE "_time ON " ?TABLE " (time)"].

type({text, Most}, _Kind) -> ["varchar(", integer_to_list(Most), ")"];
type(integer, _Kind) -> "bigint";
type(seconds, _Kind) -> "double precision";
%% MySQL's `timestamp` is shown in another zone, and changes by itself.
type(time, mysql) -> "datetime(3)";
type(time, _Kind) -> "timestamp(3)".

options(mysql) -> " CHARACTER SET utf8mb4";
options(_Kind) -> "".

%% Fails where there is none.
-spec look() -> iodata().
look() ->
    "SELECT record FROM " ?TABLE " WHERE record=''".

%% Statements with their values.
-spec insert(kind(), [fields(), ...]) -> [{iodata(), [meerkat_database:value()]}].
insert(Kind, Records) when length(Records) > ?ROWS ->
    {Some, Others} = lists:split(?ROWS, Records),
    insert(Kind, Some) ++ insert(Kind, Others);
insert(Kind, Records) ->
    Width = length(columns()),
    Rows = [[$(, lists:join($,, [[$$, integer_to_list(N * Width + I)]
                                 || I <- lists:seq(1, Width)]), $)]
            || N <- lists:seq(0, length(Records) - 1)],
    [{["INSERT INTO " ?TABLE " (", lists:join($,, [Column || {Column, _} <- columns()]),
       ") VALUES ", lists:join($,, Rows), known(Kind)],
      [value(Type, maps:get(field(Column), Record, null))
       || Record <- Records, {Column, Type} <- columns()]}].

known(mysql) -> " ON DUPLICATE KEY UPDATE record=record";
known(_Kind) -> " ON CONFLICT (record) DO NOTHING".

value(_Type, null) -> null;
value({text, Most}, List) when is_list(List) -> text(iolist_to_binary(lists:join($\s, List)), Most);
value({text, Most}, Text) -> text(Text, Most);
value(integer, Number) -> Number;
value(seconds, Number) -> iolist_to_binary(io_lib:format("~p", [Number]));
%% RFC 3339 without its T and its Z, which not every database takes.
value(time, <<Day:10/binary, "T", Time:12/binary, "Z">>) -> <<Day/binary, $\s, Time/binary>>.

%% No longer than the column, and without NUL, which PostgreSQL has in no text: a record that is
%% refused would hold up all that come after it.
text(Text, Most) ->
    string:slice(binary:replace(Text, <<0>>, <<16#fffd/utf8>>, [global]), 0, Most).
