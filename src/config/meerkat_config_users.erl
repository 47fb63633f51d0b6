%% The file of the key `users_file`: users that were added while a server ran, in the form of the
%% key `users`. Reads and writes the file only; which users there are meerkat_users knows.
-module(meerkat_config_users).

-export([read/1, write/2]).

-export_type([users/0, added/0, proof/0]).

-type users() :: #{binary() => proof()}.
%% Those of each realm.
-type added() :: #{meerkat_config_group:realm() => users()}.
-type proof() :: {password, binary()} | {key, <<_:128>>}.

%% The users in a file, none if it is not there. Errors are sentences that name file and line.
-spec read(binary()) -> {ok, added()} | {error, [unicode:chardata(), ...]}.
read(File) ->
    case filelib:is_file(File) andalso meerkat_conf_nif:read(File) of
        false -> {ok, #{}};
        {ok, Leaves} -> parsed(File, Leaves);
        {error, {Name, 0, Reason}} -> {error, [[Name, ": ", Reason]]};
        {error, {Name, Line, Reason}} -> {error, [at(Name, Line, Reason)]}
    end.

parsed(_File, []) ->
    {ok, #{}};
parsed(_File, [{[<<"users">>], empty_list, _}]) ->
    {ok, #{}};
parsed(_File, Leaves) ->
    case [Leaf || {[Key | _], _, _} = Leaf <- Leaves, Key =/= <<"users">>] of
        [{_, _, #{file := Name, line := Line}} | _] ->
            {error, [at(Name, Line, "a users_file has the key users and no other")]};
        [] ->
            Groups = [{Path, Value, Place} || {[_ | Path], Value, Place} <- Leaves],
            case meerkat_config_value:parse_leaves(added_users, Groups) of
                {ok, Users} ->
                    {ok, Users};
                {error, Failures} ->
                    {error, [at(Name, Line, ["users is ", Shown, "; it must be ", Allowed])
                             || {{Shown, Allowed}, #{file := Name, line := Line}} <- Failures]}
            end
    end.

at(Name, Line, Sentence) ->
    [Name, $:, integer_to_list(Line), ": ", Sentence].

%% Whole or not at all, and readable by nobody else from its first byte on.
-spec write(binary(), added()) -> ok | {error, Reason :: string()}.
write(File, Added) ->
    meerkat_private_file:write(File, rendered(Added)).

rendered(Added) ->
    ["# Users added by `meerkatctl users add`; written anew at each change.\n"
     "users = (",
     lists:join(",", [["\n    { name = ", meerkat_config_value:libconfig(User), "; ",
                       rendered_proof(Proof), "; ", rendered_realm(Realm), "}"]
                      || {Realm, Users} <- lists:sort(maps:to_list(Added)),
                         {User, Proof} <- lists:sort(maps:to_list(Users))]),
     "\n);\n"].

rendered_realm(default) -> "";
rendered_realm(Realm) -> ["realm = ", meerkat_config_value:libconfig(Realm), "; "].

rendered_proof({password, Password}) -> ["password = ", meerkat_config_value:libconfig(Password)];
rendered_proof({key, Key}) -> ["key = \"", binary:encode_hex(Key), $"].
