%% coturn's tables, whatever database they are in, and one of our own beside them. Who sends the
%% statements is a fun; parameters are $1, $2, ... in their order, each once.
-module(meerkat_database_sql).

-export([connection/1, connection/2, ask/2, change/2, list/2, query/3, schema/0, prepared/0]).

-export_type([query/0]).

%% What sends a statement. An embedder may give one of its own.
-type query() :: fun((Statement :: iodata(), [meerkat_database:value()]) ->
                         {ok, meerkat_database:result()} | meerkat_database:failure()).
%% `has_own`: a statement that tells whether our own table is there. The answer is kept in the
%% dictionary of the connection's process; while there is none it is asked again now and then.
-record(sql, {query :: query(), has_own :: string()}).

%% As coturn's schema.sql has them, those that are asked here.
-define(SCHEMA, [
    "CREATE TABLE IF NOT EXISTS turnusers_lt (realm varchar(127) default '', name varchar(512), "
    "hmackey char(128), PRIMARY KEY (realm,name))",
    "CREATE TABLE IF NOT EXISTS turn_secret (realm varchar(127) default '', value varchar(256), "
    "primary key (realm,value))",
    "CREATE TABLE IF NOT EXISTS allowed_peer_ip (realm varchar(127) default '', "
    "ip_range varchar(256), primary key (realm,ip_range))",
    "CREATE TABLE IF NOT EXISTS denied_peer_ip (realm varchar(127) default '', "
    "ip_range varchar(256), primary key (realm,ip_range))",
    "CREATE TABLE IF NOT EXISTS turn_origin_to_realm (origin varchar(127), realm varchar(127), "
    "primary key (origin))",
    "CREATE TABLE IF NOT EXISTS turn_realm_option (realm varchar(127) default '', "
    "opt varchar(32), value varchar(128), primary key (realm,opt))",
    "CREATE TABLE IF NOT EXISTS oauth_key (kid varchar(128), ikm_key varchar(256), "
    "timestamp bigint default 0, lifetime integer default 0, as_rs_alg varchar(64) default '', "
    "realm varchar(127), primary key (kid))",
    "CREATE TABLE IF NOT EXISTS admin_user (name varchar(32), realm varchar(127), "
    "password varchar(127), primary key (name))"]).
%% Ours.
-define(OWN,
    "CREATE TABLE IF NOT EXISTS meerkat_user_key (realm varchar(127) default '', "
    "name varchar(512), hmackey char(128), sha256key char(64), PRIMARY KEY (realm,name))").

-define(HAS_OWN,
    "SELECT count(*) FROM information_schema.tables WHERE table_name='meerkat_user_key'").
-define(LOOK_AGAIN_MS, 5000).
-define(WITH_REALM, ["turnusers_lt", "turn_secret", "allowed_peer_ip", "denied_peer_ip",
                     "turn_realm_option"]).
-define(USER, "SELECT name, hmackey FROM turnusers_lt WHERE realm=$1 AND name=$2").
%% A key of SHA-256 counts only with the hmackey that it was written with: a program that knows only
%% hmackey may have changed it since.
-define(USER_AND_OWN,
    "SELECT u.name, u.hmackey, k.sha256key FROM turnusers_lt u LEFT JOIN meerkat_user_key k "
    "ON k.realm=u.realm AND k.name=u.name AND k.hmackey=u.hmackey "
    "WHERE u.realm=$1 AND u.name=$2").
-define(SECRETS, "SELECT value FROM turn_secret WHERE realm=$1").
-define(USERS, "SELECT name FROM turnusers_lt WHERE realm=$1 ORDER BY name LIMIT ~b").
-define(ADD_USER, "INSERT INTO turnusers_lt (hmackey,realm,name) VALUES ($1,$2,$3)").
-define(CHANGE_USER, "UPDATE turnusers_lt SET hmackey=$1 WHERE realm=$2 AND name=$3").
-define(REMOVE_USER, "DELETE FROM turnusers_lt WHERE realm=$1 AND name=$2").
-define(ADD_OWN, "INSERT INTO meerkat_user_key (realm,name,hmackey,sha256key) "
                 "VALUES ($1,$2,$3,$4)").
-define(REMOVE_OWN, "DELETE FROM meerkat_user_key WHERE realm=$1 AND name=$2").
-define(ADD_SECRET, "INSERT INTO turn_secret (realm,value) VALUES ($1,$2)").
-define(REMOVE_SECRET, "DELETE FROM turn_secret WHERE realm=$1 AND value=$2").

-define(OPTION, "SELECT value FROM turn_realm_option WHERE realm=$1 AND opt=$2").
-define(ADD_OPTION, "INSERT INTO turn_realm_option (realm,opt,value) VALUES ($1,$2,$3)").
-define(CHANGE_OPTION, "UPDATE turn_realm_option SET value=$1 WHERE realm=$2 AND opt=$3").
-define(REMOVE_OPTION, "DELETE FROM turn_realm_option WHERE realm=$1 AND opt=$2").

%% Statements that make what is not there.
-spec schema() -> [string()].
schema() -> ?SCHEMA ++ [?OWN].

%% Those that are asked for requests: a driver may prepare them.
-spec prepared() -> [string()].
prepared() -> [?USER, ?USER_AND_OWN, ?SECRETS, ?HAS_OWN].

-spec connection(query()) -> meerkat_database:connection().
connection(Query) -> connection(Query, ?HAS_OWN).

%% Where tables are listed elsewhere.
-spec connection(query(), HasOwn :: string()) -> meerkat_database:connection().
connection(Query, HasOwn) -> {?MODULE, #sql{query = Query, has_own = HasOwn}}.

has_own(#sql{query = Query, has_own = Statement}) ->
    Now = erlang:monotonic_time(millisecond),
    case get(?MODULE) of
        true -> true;
        {false, AtMs} when Now - AtMs < ?LOOK_AGAIN_MS -> false;
        _ -> seen(Query(Statement, []), Now)
    end.

seen({ok, {rows, [[Count]]}}, _Now) when Count =/= <<"0">> ->
    _ = put(?MODULE, true),
    true;
seen(_, Now) ->
    _ = put(?MODULE, {false, Now}),
    false.

-spec query(iodata(), [meerkat_database:value()], #sql{}) ->
    {ok, meerkat_database:result()} | meerkat_database:failure().
query(Statement, Values, #sql{query = Query}) ->
    Query(Statement, Values).

-spec ask(meerkat_database:question(), #sql{}) ->
    {ok, meerkat_database:answer()} | meerkat_database:failure().
ask({user, Realm, Name}, #sql{query = Query} = Sql) ->
    Statement = case has_own(Sql) of true -> ?USER_AND_OWN; false -> ?USER end,
    case Query(Statement, [Realm, Name]) of
        {ok, {rows, Rows}} ->
            %% A database may take names for the same that differ in case; their keys differ.
            {ok, {user, keys([Keys || [Same | Keys] <- Rows, Same =:= Name])}};
        {error, Why} -> {error, Why}
    end;
ask({secrets, Realm}, #sql{query = Query}) ->
    case Query(?SECRETS, [Realm]) of
        {ok, {rows, Rows}} -> {ok, {secrets, [Secret || [Secret] <- Rows, Secret =/= <<>>]}};
        {error, Why} -> {error, Why}
    end.

%% A row without a key that can be one is nobody's.
keys([Texts | _]) ->
    case maps:from_list([Key || Text <- Texts, is_binary(Text),
                                {_, _} = Key <- [meerkat_database:text_key(Text)]]) of
        #{md5 := _} = Keys -> Keys;
        #{} -> none
    end;
keys([]) ->
    none.

%% No statement that puts one row in place of another is the same in all databases. Our own row
%% comes first: it counts once the other is there.
-spec change(meerkat_database:change(), #sql{}) ->
    ok | none | meerkat_database:failure().
change({add_user, Realm, Name, #{md5 := Md5} = Keys}, #sql{query = Query} = Sql) ->
    case names(Query, Realm, Name) of
        {ok, IsThere} ->
            Hex = meerkat_database:key_text(Md5),
            Statement = case IsThere of true -> ?CHANGE_USER; false -> ?ADD_USER end,
            all(Query, own(Realm, Name, Hex, Keys, Sql) ++ [{Statement, [Hex, Realm, Name]}]);
        {error, Why} ->
            {error, Why}
    end;
change({remove_user, Realm, Name}, #sql{query = Query} = Sql) ->
    case names(Query, Realm, Name) of
        {ok, true} ->
            all(Query, [{?REMOVE_USER, [Realm, Name]}
                        | [{?REMOVE_OWN, [Realm, Name]} || has_own(Sql)]]);
        {ok, false} -> none;
        {error, Why} -> {error, Why}
    end;
change({add_secret, Realm, Secret}, Sql) ->
    added({secrets, Realm}, Secret, {?ADD_SECRET, [Realm, Secret]}, Sql);
change({remove_secret, Realm, Secret}, Sql) ->
    removed({secrets, Realm}, Secret, {?REMOVE_SECRET, [Realm, Secret]}, Sql);
change({add_peer, Kind, Realm, Range}, Sql) ->
    added({peers, Kind, Realm}, Range, {add_peer(Kind), [Realm, Range]}, Sql);
change({remove_peer, Kind, Realm, Range}, Sql) ->
    removed({peers, Kind, Realm}, Range, {remove_peer(Kind), [Realm, Range]}, Sql);
change({set_option, Realm, Option, Value}, #sql{query = Query} = Sql) ->
    case list({option, Realm, Option}, Sql) of
        {ok, []} -> all(Query, [{?ADD_OPTION, [Realm, Option, Value]}]);
        {ok, _} -> all(Query, [{?CHANGE_OPTION, [Value, Realm, Option]}]);
        {error, Why} -> {error, Why}
    end;
change({unset_option, Realm, Option}, #sql{query = Query} = Sql) ->
    case list({option, Realm, Option}, Sql) of
        {ok, []} -> none;
        {ok, _} -> all(Query, [{?REMOVE_OPTION, [Realm, Option]}]);
        {error, Why} -> {error, Why}
    end.

added(Listing, Member, Statement, #sql{query = Query} = Sql) ->
    case has(Listing, Member, Sql) of
        {ok, true} -> ok;
        {ok, false} -> all(Query, [Statement]);
        {error, Why} -> {error, Why}
    end.

removed(Listing, Member, Statement, #sql{query = Query} = Sql) ->
    case has(Listing, Member, Sql) of
        {ok, true} -> all(Query, [Statement]);
        {ok, false} -> none;
        {error, Why} -> {error, Why}
    end.

has(Listing, Member, Sql) ->
    case list(Listing, Sql) of
        {ok, Members} -> {ok, lists:member(Member, Members)};
        {error, Why} -> {error, Why}
    end.

add_peer(allowed) -> "INSERT INTO allowed_peer_ip (realm,ip_range) VALUES ($1,$2)";
add_peer(denied) -> "INSERT INTO denied_peer_ip (realm,ip_range) VALUES ($1,$2)".

remove_peer(allowed) -> "DELETE FROM allowed_peer_ip WHERE realm=$1 AND ip_range=$2";
remove_peer(denied) -> "DELETE FROM denied_peer_ip WHERE realm=$1 AND ip_range=$2".

peers(allowed) -> "SELECT ip_range FROM allowed_peer_ip WHERE realm=$1";
peers(denied) -> "SELECT ip_range FROM denied_peer_ip WHERE realm=$1".

own(Realm, Name, Hex, #{sha256 := Sha256}, Sql) ->
    HasOwn = has_own(Sql),
    %% From here on it is there.
    _ = erase(?MODULE),
    [{?OWN, []} || not HasOwn]
        ++ [{?REMOVE_OWN, [Realm, Name]},
            {?ADD_OWN, [Realm, Name, Hex, meerkat_database:key_text(Sha256)]}];
own(_Realm, _Name, _Hex, #{}, _Sql) ->
    [].

%% Is there such a user? Where a database takes another name for the same, for it differs in case,
%% that one stays.
names(Query, Realm, Name) ->
    case Query(?USER, [Realm, Name]) of
        {ok, {rows, Rows}} ->
            case [Other || [Other | _] <- Rows, Other =/= Name] of
                [] -> {ok, Rows =/= []};
                [Other | _] -> {error, ["to this database, it is the name of ",
                                        meerkat_text:escape(Other)]}
            end;
        {error, Why} ->
            {error, Why}
    end.

all(Query, [{Statement, Values} | Statements]) ->
    case Query(Statement, Values) of
        {ok, _} -> all(Query, Statements);
        {error, Why} -> {error, Why}
    end;
all(_Query, []) ->
    ok.

-spec list(meerkat_database:listing(), #sql{}) ->
    {ok, [binary()]} | meerkat_database:failure().
list(realms, #sql{query = Query}) ->
    firsts(Query(lists:join(" UNION ", ["SELECT realm FROM " ++ Table || Table <- ?WITH_REALM]),
                 []));
list({users, Realm, Max}, #sql{query = Query}) ->
    firsts(Query(io_lib:format(?USERS, [Max]), [Realm]));
list({secrets, Realm}, #sql{query = Query}) ->
    firsts(Query(?SECRETS, [Realm]));
list({peers, Kind, Realm}, #sql{query = Query}) ->
    firsts(Query(peers(Kind), [Realm]));
list({option, Realm, Option}, #sql{query = Query}) ->
    firsts(Query(?OPTION, [Realm, Option])).

firsts({ok, {rows, Rows}}) -> {ok, [First || [First | _] <- Rows, First =/= null]};
firsts({error, Why}) -> {error, Why}.
