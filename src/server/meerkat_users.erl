%% Users that are added and removed while a server runs, beside those of its configuration. They are
%% kept in the database if one is configured (meerkat_database_users), else in the file of the key
%% `users_file` (meerkat_config_users), else in memory until the server ends. Without a database
%% each change is a reload: it is in force for the next request, or nothing has changed.
-module(meerkat_users).

-export([list/1, list/2, all/1, add/4, remove/3, owner/2]).

%% Where a change is kept: in a database, described; in that file; or until the server ends.
-type kept() :: {database, binary()} | {file, binary()} | memory.

-export_type([kept/0, user/0]).

-define(CONFIGURED, "this user is in the configuration; change it there").

%% `from`: the configuration, or here. `realm`: as clients are told it; one of the key `realms` that
%% has no users in the configuration shares those of the server, who are not among its own.
-type user() :: #{name := binary(), realm := binary(), from := configuration | added | database,
                  proof := password | key, allocations := non_neg_integer()}.

%% All users by name: of the server's realm first, then of each of the key `realms`. Users of a
%% database are not among them: there may be many, and the database may not answer.
-spec list(Name :: atom()) -> [user()].
list(Name) ->
    Config = config(Name),
    lists:append([of_realm(Name, Owner, Config) || Owner <- owners(Config)]).

%% The same with those of a database. The error is a sentence.
-spec all(Name :: atom()) -> {ok, [user()]} | {error, string()}.
all(Name) ->
    Config = config(Name),
    all(Name, owners(Config), Config, []).

all(Name, [Owner | Owners], Config, Found) ->
    case with_database(Name, Owner, Config) of
        {ok, Users} -> all(Name, Owners, Config, [Users | Found]);
        {error, Sentence} -> {error, Sentence}
    end;
all(_Name, [], _Config, Found) ->
    {ok, lists:append(lists:reverse(Found))}.

%% Those of one realm.
-spec list(Name :: atom(), Realm :: binary()) -> {ok, [user()]} | {error, string()}.
list(Name, Realm) ->
    Config = config(Name),
    case owner(Realm, Config) of
        {ok, Owner} -> with_database(Name, Owner, Config);
        {error, Sentence} -> {error, Sentence}
    end.

owners(#{realms := Realms}) -> [default | [Realm || #{name := Realm} <- Realms]].

%% A user of the configuration, or one that was added, goes before one of that name in the database.
with_database(Name, Owner, #{realm := Own} = Config) ->
    Here = of_realm(Name, Owner, Config),
    Realm = case Owner of default -> Own; _ -> Owner end,
    case meerkat_database_users:is_there(Name) andalso meerkat_database_users:list(Name, Realm) of
        false ->
            {ok, Here};
        {ok, Users} ->
            Known = [User || #{name := User} <- Here],
            {ok, Here ++ [row(Name, Owner, Realm, User, {key, <<>>}, database)
                          || User <- Users -- Known]};
        {error, Why} ->
            {error, sentence(Why)}
    end.

sentence(Why) -> unicode:characters_to_list(Why).

of_realm(Name, Owner, #{realm := Own} = Config) ->
    Configured = configured(Owner, Config),
    Added = maps:without(maps:keys(Configured), added(Owner, Config)),
    Realm = case Owner of default -> Own; _ -> Owner end,
    All = [{User, Proof, From} || {From, Users} <- [{configuration, Configured}, {added, Added}],
                                  {User, Proof} <- maps:to_list(Users)],
    [row(Name, Owner, Realm, User, Proof, From) || {User, Proof, From} <- lists:sort(All)].

row(Name, Owner, Realm, User, {Proof, _}, From) ->
    #{usernames := Order} = meerkat_registry:settings(Name),
    Key = meerkat_quota:user_key(User, Order),
    #{name => User, realm => Realm, from => From, proof => Proof,
      allocations => meerkat_quota:count(Name, {user, {Owner, Key}})}.

%% Adds a user to a realm, or gives one that was added another password. Errors are sentences.
-spec add(Name :: atom(), Realm :: default | binary(), User :: binary(),
          meerkat_config_users:proof()) -> {ok, kept()} | {error, string()}.
add(Name, Realm, User, Proof) ->
    case meerkat_database_users:is_there(Name) of
        true -> add_there(Name, Realm, User, Proof);
        false -> add_here(Name, Realm, User, Proof)
    end.

add_there(Name, Realm, User, Proof) ->
    Config = config(Name),
    case {owner(Realm, Config), checked(User, Proof)} of
        {{ok, Owner}, {ok, New}} ->
            [{Prepared, Proven}] = maps:to_list(New),
            case is_map_key(Prepared, configured(Owner, Config)) of
                true -> {error, ?CONFIGURED};
                false -> there(meerkat_database_users:add(Name, told(Owner, Config), Prepared,
                                                          Proven))
            end;
        {{error, Sentence}, _} -> {error, Sentence};
        {_, {error, Sentence}} -> {error, Sentence}
    end.

there({ok, Where}) -> {ok, {database, Where}};
there({error, Why}) -> {error, sentence(Why)}.

told(default, #{realm := Own}) -> Own;
told(Realm, _Config) -> Realm.

add_here(Name, Realm, User, Proof) ->
    change(Name, Realm, fun(Configured, Added) ->
        case {is_map_key(User, Configured), checked(User, Proof)} of
            {true, _} -> {error, ?CONFIGURED};
            {false, {ok, New}} -> {ok, maps:merge(Added, New)};
            {false, {error, Sentence}} -> {error, Sentence}
        end
    end).

%% Checks the user by the rules for users_file, so that the file can keep it.
checked(User, Proof) ->
    Place = #{file => <<>>, line => 1},
    {Member, Value} = case Proof of
        {password, Password} -> {<<"password">>, Password};
        {key, Key} -> {<<"key">>, binary:encode_hex(Key)}
    end,
    case meerkat_config_value:parse_leaves(users, [{[0, <<"name">>], User, Place},
                                                   {[0, Member], Value, Place}]) of
        {ok, Users} ->
            {ok, Users};
        {error, Failures} ->
            {error, lists:flatten(lists:join("; ", [io_lib:format("this is ~ts; it must be ~ts",
                                                                  [Shown, Allowed])
                                                    || {{Shown, Allowed}, _} <- Failures]))}
    end.

%% Removes a user that was added. Its allocations cannot be refreshed, and end at their expiry.
-spec remove(Name :: atom(), Realm :: default | binary(), User :: binary()) ->
    {ok, kept()} | {error, string()}.
remove(Name, Realm, User) ->
    Config = config(Name),
    case {meerkat_database_users:is_there(Name), owner(Realm, Config)} of
        {true, {ok, Owner}} ->
            case is_map_key(User, maps:merge(configured(Owner, Config), added(Owner, Config))) of
                true -> remove_here(Name, Realm, User);
                false -> there(meerkat_database_users:remove(Name, told(Owner, Config), User))
            end;
        _ ->
            remove_here(Name, Realm, User)
    end.

remove_here(Name, Realm, User) ->
    change(Name, Realm, fun(Configured, Added) ->
        case {Added, Configured} of
            {#{User := _}, _} -> {ok, maps:remove(User, Added)};
            {_, #{User := _}} -> {error, "this user is in the configuration; remove it there"};
            {_, _} -> {error, "there is no user of this name"}
        end
    end).

config(Name) ->
    #{config := Config} = meerkat_registry:settings(Name),
    Config().

%% By the name that clients are told, or `default`.
-spec owner(default | binary(), map()) ->
    {ok, meerkat_config_group:realm()} | {error, string()}.
owner(default, _Config) ->
    {ok, default};
owner(Realm, #{realm := Realm}) ->
    {ok, default};
owner(Realm, #{realm := Own, realms := Realms}) ->
    Names = [Name || #{name := Name} <- Realms],
    case lists:member(Realm, Names) of
        true ->
            {ok, Realm};
        false ->
            Known = lists:join(", ", [meerkat_config_value:quote(Name) || Name <- [Own | Names]]),
            {error, lists:flatten(["there is no realm ", meerkat_config_value:quote(Realm),
                                   "; there is ", Known])}
    end.

configured(default, #{users := Users}) -> Users;
configured(Realm, #{realms := Realms}) ->
    case [Users || #{name := Name, users := Users} <- Realms, Name =:= Realm] of
        [Users] -> Users;
        [] -> #{}
    end.

added(Owner, Config) ->
    maps:get(Owner, maps:get(added_users, Config, #{}), #{}).

%% A change is kept and in force, or neither. Changes of users wait for each other; a reload may
%% come between them.
change(Name, Realm, Fun) ->
    global:trans({{?MODULE, Name}, self()}, fun() -> changed(Name, Realm, Fun) end, [node()]).

changed(Name, Realm, Fun) ->
    Put = fun(#{users_file := File} = Config) ->
        Before = maps:get(added_users, Config, #{}),
        case users(Realm, Fun, Config) of
            {ok, Added} -> {ok, Config#{added_users => Added}, {File, Added, Before}};
            {error, Sentence} -> {error, Sentence}
        end
    end,
    case meerkat_reload:change(Name, Put) of
        {ok, {undefined, _, _}} -> {ok, memory};
        {ok, {File, Added, Before}} ->
            kept(Name, meerkat_config_users:write(File, Added), File, Before);
        {error, Sentence} -> {error, Sentence}
    end.

%% All that were added, with those of this realm as Fun wants them.
users(Realm, Fun, Config) ->
    case owner(Realm, Config) of
        {ok, Owner} ->
            case Fun(configured(Owner, Config), added(Owner, Config)) of
                {ok, Users} -> {ok, (maps:get(added_users, Config, #{}))#{Owner => Users}};
                {error, Sentence} -> {error, Sentence}
            end;
        {error, Sentence} ->
            {error, Sentence}
    end.

kept(_Name, ok, File, _Before) ->
    {ok, {file, File}};
kept(Name, {error, Reason}, File, Before) ->
    Back = fun(Config) -> {ok, Config#{added_users => Before}, ok} end,
    _ = meerkat_reload:change(Name, Back),
    {error, lists:flatten(io_lib:format("nothing has changed: ~ts: ~ts", [File, Reason]))}.
