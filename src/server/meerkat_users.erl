%% Users that come and go while a server runs, beside those of its configuration. They are kept in
%% the file of the key `users_file`, in the form of the key `users`, or until the server ends where
%% there is none. A change is a reload of its own: it is in force with the next request, or not at
%% all.
-module(meerkat_users).

-export([list/1, add/3, remove/2]).
-export([read/1]).

-include_lib("kernel/include/file.hrl").

-type users() :: #{binary() => proof()}.
-type proof() :: {password, binary()} | {key, <<_:128>>}.
%% Where a change is kept: in that file, or until the server ends.
-type kept() :: {file, binary()} | memory.

-export_type([users/0, proof/0, kept/0]).

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
-spec add(Name :: atom(), User :: binary(), proof()) -> {ok, kept()} | {error, string()}.
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
        {error, {Shown, Allowed}, _} ->
            {error, lists:flatten(io_lib:format("this is ~ts; it must be ~ts", [Shown, Allowed]))}
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
        {ok, {File, Added, Before}} -> kept(Name, write(File, Added), File, Before);
        {error, Sentence} -> {error, Sentence}
    end.

kept(_Name, ok, File, _Before) ->
    {ok, {file, File}};
kept(Name, {error, Reason}, File, Before) ->
    Back = fun(Config) -> {ok, Config#{added_users => Before}, ok} end,
    _ = meerkat_reload:change(Name, Back),
    {error, lists:flatten(io_lib:format("nothing has changed: ~ts: ~ts", [File, Reason]))}.

%%% The file

%% The users in a file, none if it is not there. Errors are sentences that name file and line.
-spec read(binary()) -> {ok, users()} | {error, unicode:chardata()}.
read(File) ->
    case filelib:is_file(File) andalso meerkat_conf_nif:read(File) of
        false -> {ok, #{}};
        {ok, Leaves} -> parsed(File, Leaves);
        {error, {Name, 0, Reason}} -> {error, [Name, ": ", Reason]};
        {error, {Name, Line, Reason}} -> {error, at(Name, Line, Reason)}
    end.

parsed(_File, []) ->
    {ok, #{}};
parsed(_File, [{[<<"users">>], empty_list, _}]) ->
    {ok, #{}};
parsed(_File, Leaves) ->
    case [Leaf || {[Key | _], _, _} = Leaf <- Leaves, Key =/= <<"users">>] of
        [{_, _, #{file := Name, line := Line}} | _] ->
            {error, at(Name, Line, "a users_file has the key users and no other")};
        [] ->
            Groups = [{Path, Value, Place} || {[_ | Path], Value, Place} <- Leaves],
            case meerkat_config_value:parse_leaves(users, Groups) of
                {ok, Users} ->
                    {ok, Users};
                {error, {Shown, Allowed}, #{file := Name, line := Line}} ->
                    {error, at(Name, Line, ["users is ", Shown, "; it must be ", Allowed])}
            end
    end.

at(Name, Line, Sentence) ->
    [Name, $:, integer_to_list(Line), ": ", Sentence].

%% Whole or not at all, and readable by nobody else from its first byte on.
write(File, Users) ->
    Temporary = <<File/binary, ".new">>,
    _ = file:delete(Temporary),
    Steps = [fun() -> file:write_file(Temporary, <<>>, [exclusive]) end,
             fun() -> file:change_mode(Temporary, 8#600) end,
             fun() -> file:write_file(Temporary, rendered(Users), [sync]) end,
             fun() -> file:rename(Temporary, File) end],
    case done(Steps) of
        ok ->
            ok;
        {error, Reason} ->
            _ = file:delete(Temporary),
            {error, file:format_error(Reason)}
    end.

done([Step | Steps]) ->
    case Step() of
        ok -> done(Steps);
        {error, Reason} -> {error, Reason}
    end;
done([]) ->
    ok.

rendered(Users) ->
    ["# Users added by `meerkatctl users add`; written anew at each change.\n"
     "users = (",
     lists:join(",", [["\n    { name = ", meerkat_config_value:libconfig(User), "; ",
                       rendered_proof(Proof), "; }"]
                      || {User, Proof} <- lists:sort(maps:to_list(Users))]),
     "\n);\n"].

rendered_proof({password, Password}) -> ["password = ", meerkat_config_value:libconfig(Password)];
rendered_proof({key, Key}) -> ["key = \"", binary:encode_hex(Key), $"].
