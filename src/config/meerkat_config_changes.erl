%% In which keys one configuration differs from another, for who puts it in force and for the log.
%% Of what is secret it says that it changed, never what it was or is. Pure.
-module(meerkat_config_changes).

-export([between/2, text/1]).
-export_type([change/0]).

%% A key of the schema, or of one group of the key `realms` where `realm` names that. Either both
%% values, as `config show` has them, and the text for people (null: a realm has none of its own);
%% or, of what is secret or has many parts, a note.
-type change() :: #{key := atom(), realm => binary(), was := meerkat_json:value(),
                    is := meerkat_json:value(), text := binary()}
                | #{key := atom(), realm => binary(), note := binary()}.

%% Names that a note has of each kind.
-define(NAMES_MAX, 8).

%% In the order of the schema. Both are maps as meerkat_settings has them, whole and prepared.
-spec between(Old :: map(), New :: map()) -> [change()].
between(Old, New) ->
    lists:append([of_key(Row, Old, New) || Row <- meerkat_config_schema:rows()])
        ++ added(Old, New) ++ callbacks(Old, New).

of_key(#{key := realms}, #{realms := Old}, #{realms := New}) ->
    realms(Old, New);
of_key(#{key := users}, #{users := Old}, #{users := New}) ->
    users(#{key => users}, Old, New);
of_key(#{key := Key} = Row, Old, New) ->
    case {shown(Row, Old), shown(Row, New)} of
        {Same, Same} -> [#{key => Key, note => <<"changed">>} || is_unseen(Row, Old, New)];
        {none, _} -> [#{key => Key, note => <<"changed">>}];
        {_, none} -> [#{key => Key, note => <<"changed">>}];
        {Was, Is} -> [change(#{key => Key}, Was, Is)]
    end.

change(Change, #{value := Was, text := Before}, #{value := Is, text := After}) ->
    Change#{was => Was, is => Is, text => <<Before/binary, " -> ", After/binary>>}.

%% A difference that the texts of both values do not show: of a secret, of a certificate that was
%% renewed, or of what only a map made by hand has. Where several keys were made into one value, it
%% is told under the first of them.
is_unseen(#{key := Key, gets := Gets}, Old, New) ->
    case [Made || {made, Made} <- Gets] of
        [] -> maps:get(Key, Old) =/= maps:get(Key, New);
        Mades -> lists:any(fun(Made) -> is_unseen_of(Made, Key, Old, New) end, Mades)
    end.

is_unseen_of(Made, Key, Old, New) ->
    [#{key := First} | _] = Rows = meerkat_config_schema:made(Made),
    Key =:= First andalso maps:get(Made, Old) =/= maps:get(Made, New)
        andalso lists:all(fun(Row) -> shown(Row, Old) =:= shown(Row, New) end, Rows).

%% As it was read; of a map that was made by hand, what is in there.
shown(#{key := Key, type := Type}, Config) ->
    Read = [maps:with([value, text], Setting)
            || #{key := K} = Setting <- maps:get(settings, Config, []),
               K =:= Key, not is_map_key(realm, Setting)],
    case {Read, Config} of
        {[Shown], _} -> Shown;
        {[], #{Key := Value}} -> meerkat_config_json:shown(Type, Value);
        {[], _} -> none
    end.

added(Old, New) ->
    {Before, After} = {maps:get(added_users, Old, #{}), maps:get(added_users, New, #{})},
    lists:append([users(in_realm(Realm, #{key => users_file}), maps:get(Realm, Before, #{}),
                        maps:get(Realm, After, #{}))
                  || Realm <- lists:usort(maps:keys(Before) ++ maps:keys(After))]).

in_realm(default, Change) -> Change;
in_realm(Realm, Change) -> Change#{realm => Realm}.

%% Modules of an embedder.
callbacks(Old, New) ->
    [#{key => Key, note => <<"changed">>}
     || Key <- [authenticator, authorizer, events, database],
        maps:get(Key, Old, none) =/= maps:get(Key, New, none)].

users(_Change, Same, Same) ->
    [];
users(Change, Old, New) ->
    Both = maps:keys(maps:with(maps:keys(Old), New)),
    Changed = [User || User <- Both, maps:get(User, Old) =/= maps:get(User, New)],
    Parts = [{"added", maps:keys(New) -- Both}, {"removed", maps:keys(Old) -- Both},
             {"another password or key of", Changed}],
    Note = lists:join("; ", [[What, " ", names(Users)] || {What, [_ | _] = Users} <- Parts]),
    [Change#{note => unicode:characters_to_binary(Note)}].

names(Names) ->
    {Some, More} = lists:split(min(?NAMES_MAX, length(Names)), lists:sort(Names)),
    [lists:join(", ", [meerkat_config_value:quote(Name) || Name <- Some]),
     [[" and ", integer_to_list(length(More)), " more"] || More =/= []]].

realms(Old, New) ->
    Groups = fun(Realms) -> maps:from_list([{Name, R} || #{name := Name} = R <- Realms]) end,
    {Before, After} = {Groups(Old), Groups(New)},
    lists:append([realm(Name, maps:get(Name, Before, none), maps:get(Name, After, none))
                  || Name <- lists:usort(maps:keys(Before) ++ maps:keys(After))]).

realm(Name, none, _) -> [#{key => realms, realm => Name, note => <<"added">>}];
realm(Name, _, none) -> [#{key => realms, realm => Name, note => <<"removed">>}];
realm(Name, Old, New) ->
    lists:append([field(Field, Type, #{key => key(Field), realm => Name}, Old, New)
                  || {Field, Type} <- lists:sort(maps:to_list(types()))]).

%% By the names that they have in a map.
types() ->
    #{secret := Secret} = Types = meerkat_config_group:types(realms),
    (maps:without([name, secret], Types))#{secrets => Secret}.

key(secrets) -> secret;
key(Field) -> Field.

field(users, _Type, Change, Old, New) ->
    users(Change, maps:get(users, Old, #{}), maps:get(users, New, #{}));
field(Field, Type, Change, Old, New) ->
    case {maps:find(Field, Old), maps:find(Field, New)} of
        {Same, Same} -> [];
        {Was, Is} -> [told(Change, rendered(Type, Was), rendered(Type, Is))]
    end.

told(Change, Same, Same) -> Change#{note => <<"changed">>};
told(Change, Was, Is) -> change(Change, Was, Is).

rendered(_Type, error) -> #{value => null, text => <<"that of the server">>};
rendered(Type, {ok, Value}) -> meerkat_config_json:shown(Type, Value).

%% One of them for a line of text.
-spec text(change()) -> unicode:chardata().
text(#{realm := Realm} = Change) ->
    ["realm ", meerkat_config_value:quote(Realm), ": ", text(maps:remove(realm, Change))];
text(#{key := Key, text := Text}) ->
    [atom_to_binary(Key), ": ", Text];
text(#{key := Key, note := Note}) ->
    [atom_to_binary(Key), ": ", Note].
