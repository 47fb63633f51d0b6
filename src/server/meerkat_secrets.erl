%% The secrets that time-limited credentials are made from: those of the configuration, and those of
%% a database, which can be added and removed while the server runs. All secrets of a realm are good
%% at the same time. So one can be replaced without a gap: add the new one, give it to whoever makes
%% credentials, and remove the old one when the last credentials made from it have expired. Errors
%% are sentences.
-module(meerkat_secrets).

-export([list/2, add/3, remove/3]).

-export_type([secret/0]).

%% `id`: the beginning of its SHA-256, to name a secret without showing it.
-type secret() :: #{id := binary(), realm := binary(), from := configuration | database,
                    characters := non_neg_integer()}.

%% Bytes of one that is made here.
-define(DRAWN_BYTES, 32).
-define(ID_DIGITS, 12).
%% As coturn's tables have them.
-define(SECRET_MAX, 256).

%% Of a realm, as clients are told it, or of all.
-spec list(Name :: atom(), all | binary()) -> {ok, [secret()]} | {error, unicode:chardata()}.
list(Name, Realm) ->
    case owners(Name, Realm) of
        {ok, Owners} -> list_all(Name, Owners, []);
        {error, Sentence} -> {error, Sentence}
    end.

list_all(Name, [{Owner, Realm} | Owners], Found) ->
    case in_database(Name, Realm) of
        {ok, Stored} ->
            Here = [secret(Secret, Realm, configuration) || Secret <- configured(Name, Owner)],
            There = [secret(Secret, Realm, database) || Secret <- Stored],
            list_all(Name, Owners, [Here ++ lists:sort(There) | Found]);
        {error, Sentence} ->
            {error, Sentence}
    end;
list_all(_Name, [], Found) ->
    {ok, lists:append(lists:reverse(Found))}.

in_database(Name, Realm) ->
    case meerkat_database_users:is_there(Name) of
        true -> meerkat_database_users:secrets(Name, Realm);
        false -> {ok, []}
    end.

secret(Secret, Realm, From) ->
    #{id => id(Secret), realm => Realm, from => From, characters => byte_size(Secret)}.

id(Secret) ->
    binary:part(meerkat_database:key_text(crypto:hash(sha256, Secret)), 0, ?ID_DIGITS).

%% A secret that was drawn because none was configured is not listed: nobody else knows it.
configured(Name, Owner) ->
    #{is_drawn := IsDrawn} = Settings = meerkat_registry:settings(Name),
    #{secrets := Secrets} = meerkat_settings:tenant(Owner, Settings),
    case IsDrawn andalso Owner =:= default of
        true -> [];
        false -> Secrets()
    end.

%% Adds a secret to a realm, in the database: this one, or for `drawn` one that is made here, which
%% the answer has in it.
-spec add(Name :: atom(), Realm :: default | binary(), drawn | binary()) ->
    {ok, #{id := binary(), kept := binary(), secret => binary()}} | {error, unicode:chardata()}.
add(Name, Realm, drawn) ->
    Secret = base64:encode(crypto:strong_rand_bytes(?DRAWN_BYTES)),
    case add(Name, Realm, Secret) of
        {ok, Added} -> {ok, Added#{secret => Secret}};
        {error, Sentence} -> {error, Sentence}
    end;
add(_Name, _Realm, Secret) when byte_size(Secret) > ?SECRET_MAX; Secret =:= <<>> ->
    {error, "a secret has 1 to 256 characters"};
add(Name, Realm, Secret) ->
    changed(Name, Realm, fun(Told) ->
        case meerkat_database_users:add_secret(Name, Told, Secret) of
            {ok, Where} -> {ok, #{id => id(Secret), kept => Where}};
            {error, Sentence} -> {error, Sentence}
        end
    end).

%% Removes the secret with this id: credentials made from it are refused from now on. Allocations
%% cannot be refreshed with them, and end at their expiry.
-spec remove(Name :: atom(), Realm :: default | binary(), Id :: binary()) ->
    {ok, #{id := binary(), kept := binary()}} | {error, unicode:chardata()}.
remove(Name, Realm, Id) ->
    changed(Name, Realm, fun(Told) ->
        case meerkat_database_users:secrets(Name, Told) of
            {ok, Secrets} -> remove_one(Name, Told, Id, [S || S <- Secrets, id(S) =:= Id]);
            {error, Sentence} -> {error, Sentence}
        end
    end).

remove_one(Name, Realm, Id, [Secret]) ->
    case meerkat_database_users:remove_secret(Name, Realm, Secret) of
        {ok, Where} -> {ok, #{id => Id, kept => Where}};
        {error, Sentence} -> {error, Sentence}
    end;
remove_one(_Name, Realm, Id, _) ->
    {error, ["the database has no secret ", meerkat_config_value:quote(Id), " of realm ",
             meerkat_config_value:quote(Realm), "; `meerkatctl secrets` lists them"]}.

changed(Name, Realm, Fun) ->
    case {meerkat_database_users:is_there(Name), owners(Name, Realm)} of
        {false, _} ->
            {error, "no database is configured, which would keep it (key userdb and others); "
                    "secrets of the configuration are changed there"};
        {true, {ok, [{_Owner, Told}]}} -> Fun(Told);
        {true, {error, Sentence}} -> {error, Sentence}
    end.

%% With the names that clients are told.
owners(Name, Realm) ->
    #{config := Config} = meerkat_registry:settings(Name),
    #{realm := Own, realms := Realms} = Known = Config(),
    case Realm of
        all -> {ok, [{default, Own} | [{Other, Other} || #{name := Other} <- Realms]]};
        _ ->
            case meerkat_users:owner(Realm, Known) of
                {ok, default} -> {ok, [{default, Own}]};
                {ok, Other} -> {ok, [{Other, Other}]};
                {error, Sentence} -> {error, Sentence}
            end
    end.
