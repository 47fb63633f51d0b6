%% What operators do to users and secrets in a database. A change counts at once in this server;
%% other servers with the same database see it when they ask the database again. Realms are the
%% names that clients are told. Errors are sentences.
-module(meerkat_database_users).

-export([is_there/1, list/2, add/4, remove/3, secrets/2, add_secret/3, remove_secret/3]).

%% As many as a person may want to read.
-define(USERS_MAX, 10000).

-spec is_there(Name :: atom()) -> boolean().
is_there(Name) ->
    #{database := Database} = meerkat_registry:settings(Name),
    Database =/= none.

%% The names of its users, the first 10,000.
-spec list(Name :: atom(), Realm :: binary()) -> {ok, [binary()]} | {error, unicode:chardata()}.
list(Name, Realm) -> asked(Name, {users, Realm, ?USERS_MAX}).

%% A password is made into keys: the one of coturn's tables, and where database_sha256 is set the
%% one for SHA-256.
-spec add(Name :: atom(), Realm :: binary(), User :: binary(), meerkat_config_users:proof()) ->
    {ok, Where :: binary()} | {error, unicode:chardata()}.
add(Name, Realm, User, Proof) ->
    #{config := Config} = meerkat_registry:settings(Name),
    #{database_sha256 := Sha256} = Config(),
    case Proof of
        {key, _} when Sha256 ->
            {error, "database_sha256 is true: the user needs a password, for a key is of MD5"};
        {key, Key} ->
            changed(Name, {add_user, Realm, User, #{md5 => Key}}, {user, Realm, User});
        {password, Password} ->
            Keys = maps:from_list([{Digest, meerkat_stun:key(Digest, User, Realm, Password)}
                                   || Digest <- [md5 | [sha256 || Sha256]]]),
            changed(Name, {add_user, Realm, User, Keys}, {user, Realm, User})
    end.

%% The user's allocations cannot be refreshed any more, and end at their expiry.
-spec remove(Name :: atom(), Realm :: binary(), User :: binary()) ->
    {ok, Where :: binary()} | {error, unicode:chardata()}.
remove(Name, Realm, User) ->
    changed(Name, {remove_user, Realm, User}, {user, Realm, User}).

%% Those of a realm.
-spec secrets(Name :: atom(), Realm :: binary()) ->
    {ok, [binary()]} | {error, unicode:chardata()}.
secrets(Name, Realm) -> asked(Name, {secrets, Realm}).

%% One more, which counts beside those there are.
-spec add_secret(Name :: atom(), Realm :: binary(), Secret :: binary()) ->
    {ok, Where :: binary()} | {error, unicode:chardata()}.
add_secret(Name, Realm, Secret) ->
    changed(Name, {add_secret, Realm, Secret}, {secrets, Realm}).

%% Credentials made from it let nobody in from now on.
-spec remove_secret(Name :: atom(), Realm :: binary(), Secret :: binary()) ->
    {ok, Where :: binary()} | {error, unicode:chardata()}.
remove_secret(Name, Realm, Secret) ->
    changed(Name, {remove_secret, Realm, Secret}, {secrets, Realm}).

asked(Name, Listing) ->
    said(meerkat_lookups:call(Name, fun(Connection) ->
        meerkat_database:list(Listing, Connection)
    end)).

said({ok, Said}) -> Said;
said({error, Why}) -> {error, Why};
said(none) -> {error, "no database is configured"}.

what({secrets, _}) -> "secret";
what({user, _, _}) -> "user".

%% Drops what is remembered of the database: the answers in Erlang, and the grants in the relay.
changed(Name, Change, Question) ->
    case said(meerkat_lookups:call(Name, fun(Connection) ->
             meerkat_database:change(Change, Connection)
         end)) of
        ok ->
            ok = meerkat_lookups:forget(Name, Question),
            ok = meerkat_grants:withdraw(Name),
            #{database := Where} = meerkat_lookups:info(Name),
            {ok, Where};
        none ->
            {error, ["there is no such ", what(Question), " in the database"]};
        {error, Why} ->
            {error, ["nothing has changed: ", Why]}
    end.
