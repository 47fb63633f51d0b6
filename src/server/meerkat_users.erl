%% Users that come and go while a server runs, beside those of its configuration. They are kept in
%% the file of the key `users_file` (meerkat_config_users), or until the server ends where there is
%% none. A change is a reload of its own: it is in force with the next request, or not at
%% all.
-module(meerkat_users).

-export([list/1, add/3, remove/2]).

%% Where a change is kept: in that file, or until the server ends.
-type kept() :: {file, binary()} | memory.

-export_type([kept/0]).

%% Those there are, by name. `from`: the configuration, or here.
-spec list(Name :: atom()) ->
    [#{name := binary(), from := configuration | added, proof := password | key,
       allocations := non_neg_integer()}].
list(Name) ->
    #{users := Configured} = Config = config(Name),
    Added = maps:without(maps:keys(Configured), added(Config)),
    lists:sort([row(Name, User, Proof, configuration) || {User, Proof} <- maps:to_list(Configured)]
               ++ [row(Name, User, Proof, added) || {User, Proof} <- maps:to_list(Added)]).

row(Name, User, {Proof, _}, From) ->
    #{usernames := Order} = meerkat_registry:settings(Name),
    Key = meerkat_quota:user_key(User, Order),
    #{name => User, from => From, proof => Proof,
      allocations => meerkat_quota:count(Name, {user, {default, Key}})}.

%% Adds a user, or gives one that was added another password. Errors are sentences.
-spec add(Name :: atom(), User :: binary(), meerkat_config_users:proof()) ->
    {ok, kept()} | {error, string()}.
add(Name, User, Proof) ->
    change(Name, fun(#{users := Configured} = Config) ->
        case {is_map_key(User, Configured), checked(User, Proof)} of
            {true, _} -> {error, "this user is in the configuration; change it there"};
            {false, {ok, New}} -> {ok, maps:merge(added(Config), New)};
            {false, {error, Sentence}} -> {error, Sentence}
        end
    end).

%% By the rules of a file, so that a file can keep it.
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

%% Takes one away that was added; its allocations end when they would have, at the latest.
-spec remove(Name :: atom(), User :: binary()) -> {ok, kept()} | {error, string()}.
remove(Name, User) ->
    change(Name, fun(#{users := Configured} = Config) ->
        case {added(Config), Configured} of
            {#{User := _} = Added, _} -> {ok, maps:remove(User, Added)};
            {_, #{User := _}} -> {error, "this user is in the configuration; remove it there"};
            {_, _} -> {error, "there is no user of this name"}
        end
    end).

config(Name) ->
    #{config := Config} = meerkat_registry:settings(Name),
    Config().

added(Config) ->
    maps:get(added_users, Config, #{}).

%% In force and kept, or neither. Changes of users wait for each other, a reload may come between.
change(Name, Fun) ->
    global:trans({{?MODULE, Name}, self()}, fun() -> changed(Name, Fun) end, [node()]).

changed(Name, Fun) ->
    Put = fun(#{users_file := File} = Config) ->
        case Fun(Config) of
            {ok, Added} -> {ok, Config#{added_users => Added}, {File, Added, added(Config)}};
            {error, Sentence} -> {error, Sentence}
        end
    end,
    case meerkat_reload:change(Name, Put) of
        {ok, {undefined, _, _}} -> {ok, memory};
        {ok, {File, Added, Before}} ->
            kept(Name, meerkat_config_users:write(File, Added), File, Before);
        {error, Sentence} -> {error, Sentence}
    end.

kept(_Name, ok, File, _Before) ->
    {ok, {file, File}};
kept(Name, {error, Reason}, File, Before) ->
    Back = fun(Config) -> {ok, Config#{added_users => Before}, ok} end,
    _ = meerkat_reload:change(Name, Back),
    {error, lists:flatten(io_lib:format("nothing has changed: ~ts: ~ts", [File, Reason]))}.
