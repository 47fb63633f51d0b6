%% Databases: the behaviour of a module for one kind of them, and the list of kinds. A connection
%% belongs to one process, which asks one thing at a time (meerkat_database_connection). Callers use
%% a pool of connections (meerkat_database_pool). meerkat_database_sql knows coturn's tables.
-module(meerkat_database).

-export([backend/1, ask/2, change/2, list/2, query/3, commands/2,
         describe/1, text_key/1, key_text/1, limits/0]).

-export_type([peers/0, backend/0, options/0, connection/0, question/0, answer/0, keys/0, change/0,
              listing/0, value/0, result/0, failure/0]).

%% The module, and what it connects by, in a fun because of the password in there.
-type backend() :: {module(), fun(() -> options())}.
%% As meerkat_config_database reads it from a key; what an embedder gave, else.
-type options() :: term().
%% A module that is asked, and what it is asked with. Those that speak SQL leave it to
%% meerkat_database_sql.
-type connection() :: {module(), term()}.
%% A realm is the name that clients are told.
-type question() :: {user, Realm :: binary(), Name :: binary()}
                  | {user, Realm :: binary(), Name :: binary(), inet:ip_address()}
                  | {secrets, Realm :: binary()}.
%% What proves a user: keys as RFC 8489 9.2.2 makes them, or the password they are made of.
-type keys() :: #{md5 => <<_:128>>, sha256 => <<_:256>>, password => binary()}.
-type answer() :: {user, keys() | none} | {secrets, [binary()]}.
-type change() :: {add_user, Realm :: binary(), Name :: binary(), keys()}
                | {remove_user, Realm :: binary(), Name :: binary()}
                | {add_secret | remove_secret, Realm :: binary(), Secret :: binary()}
                | {add_peer | remove_peer, peers(), Realm :: binary(), Range :: binary()}
                | {set_option, Realm :: binary(), Option :: binary(), Value :: binary()}
                | {unset_option, Realm :: binary(), Option :: binary()}.
%% `realms`: those of which anything is there; <<>> is that of no realm.
-type listing() :: realms | {users, Realm :: binary(), Max :: pos_integer()}
                 | {secrets, Realm :: binary()}
                 | {peers, peers(), Realm :: binary()}
                 | {option, Realm :: binary(), Option :: binary()}.
%% Peers that are allowed, or denied. Those of realm <<>> count for all realms.
-type peers() :: allowed | denied.
-type value() :: binary() | integer() | null.
%% Rows of texts, or how many rows were changed.
-type result() :: {rows, [[binary() | null]]} | {changed, non_neg_integer()}.
%% A sentence without a password.
-type failure() :: {error, unicode:chardata()}.

%% Connects the calling process, which is linked to the connection and dies with it. It may block;
%% the pool kills the process if it takes too long.
-callback connect(options()) -> {ok, connection()} | failure().
%% Names the database for people, without its password.
-callback describe(options()) -> unicode:chardata().

%% Called with what connect/1 has returned. After an error the connection is good for another
%% question; if the connection is lost, it exits.
%% `MaxAgeS`: how long it says that its answer is good, where it says so.
-callback ask(question(), Connection :: term()) ->
    {ok, answer()} | {ok, answer(), MaxAgeS :: non_neg_integer()} | failure().
%% `none`: there was nothing to remove.
-callback change(change(), Connection :: term()) -> ok | none | failure().
%% The names of users, in order; secrets; ranges of addresses; the value of an option, if it is set.
-callback list(listing(), Connection :: term()) -> {ok, [binary()]} | failure().
%% A statement of the database's own kind. In SQL its values are $1, $2, ..., each once and in
%% this order; they are never pasted into it.
-callback query(Statement :: iodata(), [value()], Connection :: term()) ->
    {ok, result()} | failure().
%% Commands of Redis, each with its words, one after the other without waiting in between. The error
%% is the first one.
-callback commands([[binary(), ...]], Connection :: term()) -> {ok, done} | failure().
-optional_callbacks([ask/2, change/2, list/2, query/3, commands/2]).

%% The backend for what the configuration says. An embedder gives a fun that sends a statement of
%% SQL by a pool of its own, or a module of this behaviour.
-spec backend(meerkat_database_sql:query() | {module(), options()} | map()) -> backend().
backend(Query) when is_function(Query, 2) -> {meerkat_database_given, fun() -> Query end};
backend({Module, Options}) -> {Module, fun() -> Options end};
backend(#{kind := Kind} = Options) -> {module(Kind), fun() -> Options end}.

module(sqlite) -> meerkat_database_sqlite;
module(postgresql) -> meerkat_database_postgresql;
module(mysql) -> meerkat_database_mysql;
module(redis) -> meerkat_database_redis;
module(ldap) -> meerkat_database_ldap;
module(http) -> meerkat_database_http.

%%% For jobs of a pool

-spec ask(question(), connection()) ->
    {ok, answer()} | {ok, answer(), MaxAgeS :: non_neg_integer()} | failure().
ask(Question, {Module, Connection}) ->
    Module:ask(Question, Connection).

-spec change(change(), connection()) -> ok | none | failure().
change(Change, {Module, Connection}) ->
    able(Module, change, [Change, Connection]).

-spec list(listing(), connection()) -> {ok, [binary()]} | failure().
list(Listing, {Module, Connection}) ->
    able(Module, list, [Listing, Connection]).

-spec query(Statement :: iodata(), [value()], connection()) -> {ok, result()} | failure().
query(Statement, Values, {Module, Connection}) ->
    able(Module, query, [Statement, Values, Connection]).

-spec commands([[binary(), ...]], connection()) -> {ok, done} | failure().
commands(Commands, {Module, Connection}) ->
    able(Module, commands, [Commands, Connection]).

able(Module, Function, Args) ->
    case erlang:function_exported(Module, Function, length(Args)) of
        true -> apply(Module, Function, Args);
        false -> {error, "it can be asked about a user by its name, and nothing else"}
    end.

-spec describe(backend()) -> unicode:chardata().
describe({Module, Options}) ->
    Module:describe(Options()).

%% The limits that a realm may have, each with the name of its key: coturn's, then ours, which
%% coturn does not ask for.
-spec limits() -> [{Key :: atom(), Option :: binary()}].
limits() ->
    [{user_quota, <<"user-quota">>}, {total_quota, <<"total-quota">>}, {max_bps, <<"max-bps">>},
     {max_pps, <<"max-pps">>}, {new_peers_rate, <<"new-peers-rate">>}].

%% A key as coturn's tables have it, hexadecimal text, which a column of fixed width pads.
-spec text_key(binary()) -> {md5, <<_:128>>} | {sha256, <<_:256>>} | error.
text_key(Text) ->
    try binary:decode_hex(iolist_to_binary(string:trim(Text))) of
        <<_:128>> = Key -> {md5, Key};
        <<_:256>> = Key -> {sha256, Key};
        _ -> error
    catch
        error:_ -> error
    end.

-spec key_text(binary()) -> binary().
key_text(Key) -> string:lowercase(binary:encode_hex(Key)).
