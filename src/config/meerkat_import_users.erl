%% Who may allocate according to a turnserver.conf: secrets, users, and a note where users are in a
%% database. Pure. No note has a password or a secret in it.
-module(meerkat_import_users).

-export([settings/1]).

-import(meerkat_import_lines, [all/2, last/2]).

%% A shared secret there is the only way in, whatever users there are beside it.
-spec settings([meerkat_import_lines:entry()]) ->
    {[meerkat_import:setting()], [meerkat_import_lines:note()]}.
settings(Entries) ->
    {Secrets, Empty} = secrets(Entries),
    Users = all(<<"user">>, Entries),
    Database = in_database(Entries),
    case {Secrets, on(<<"use-auth-secret">>, Entries), Users} of
        {[_ | _], _, _} ->
            {[{secret, meerkat_config_value:libconfig_list([Secret || {_, Secret} <- Secrets]),
               [Line || {Line, _} <- Secrets]},
              {credential_name_first, "true", []}],
             Empty ++ comments(Secrets) ++ beside_secret(Users)};
        {[], [Line | _], _} when Database ->
            {[{secret, "()", [Line]}], Empty ++ beside_secret(Users)};
        {[], [Line | _], _} ->
            {[], [{Line, "use-auth-secret without static-auth-secret: secrets in such a database "
                         "are not known here; without `secret` one is drawn at each start"}]
                 ++ Empty ++ beside_secret(Users)};
        {[], [], [_ | _]} ->
            {Settings, Notes} = users(Users, Entries),
            {[{secret, "()", []} | Settings], Empty ++ Notes};
        {[], [], []} ->
            {Settings, Notes} = nobody(Database, on(<<"lt-cred-mech">>, Entries), Entries),
            {Settings, Empty ++ Notes}
    end.

%% One that is read here as well.
in_database(Entries) ->
    [] =/= [Key || {_, Key, _} <- Entries,
                   lists:member(Key, [<<"userdb">>, <<"db">>, <<"psql-userdb">>,
                                      <<"sql-userdb">>, <<"mysql-userdb">>,
                                      <<"redis-userdb">>])].

on(Key, Entries) ->
    [Line || {ok, Line, Value} <- [last(Key, Entries)],
             meerkat_import_lines:switch(Value) =:= on].

secrets(Entries) ->
    {Empty, Secrets} = lists:partition(fun({_, Secret}) -> Secret =:= <<>> end,
                                       all(<<"static-auth-secret">>, Entries)),
    {Secrets, [{Line, "static-auth-secret is empty"} || {Line, _} <- Empty]}.

comments(Secrets) ->
    [{Line, "static-auth-secret: to turnserver, and so here, what begins with # is part of the "
            "secret and no comment"}
     || {Line, Secret} <- Secrets, meerkat_import_lines:comment(Secret) =/= none].

beside_secret(Users) ->
    [{Line, "user: turnserver lets no user in by a password of its own where there is a shared "
            "secret, and nor does this; in `users` it would be let in here"} || {Line, _} <- Users].

%% In a file without users they are in a database; in one that asks for none anybody comes in.
nobody(true, [Line | _], _) ->
    {[{secret, "()", [Line]}], []};
nobody(false, [Line | _], _) ->
    {[{secret, "()", [Line]}],
     [{Line, "lt-cred-mech without a user or a database: until there are some, by `users` or "
             "`meerkatctl users add`, nobody is let in"}]};
nobody(_, [], Entries) ->
    {[], [{0, "turnserver lets anybody relay with this file; here nobody is let in without "
              "credentials, and without `secret` one is drawn at each start"}
          || Entries =/= [], on(<<"no-auth">>, Entries) =:= []]}.

users(Found, Entries) ->
    Read = [{Line, user(binary:split(Text, <<":">>))} || {Line, Text} <- Found],
    %% As there the last of a name counts.
    Good = [{Line, User} || {Line, {ok, User}} <- Read],
    Kept = [Last || {_, {Name, _, _}} = Last <- Good, Last =:= last_of(Name, Good)],
    Groups = [["\n    { name = ", quoted(Name), "; ", Field, " = ", quoted(Proof), "; }"]
              || {_, {Name, Field, Proof}} <- Kept],
    {[{users, ["(", lists:join(",", Groups), "\n)"], [Line || {Line, _} <- Kept]}
      || Kept =/= []],
     [{Line, Why} || {Line, {error, Why}} <- Read]
         ++ [{Line, "user: this name comes again; the last counts"} || {Line, _} <- Good -- Kept]
         ++ [{Line, "user: to turnserver, and so here, what begins with # is part of the password "
                    "and no comment"}
             || {Line, {_, _, Proof}} <- Kept, meerkat_import_lines:comment(Proof) =/= none]
         ++ [{Line, "user: its key was made with a realm, and this file has none; set `realm` to "
                    "that one, or the key fits nobody"}
             || last(<<"realm">>, Entries) =:= none, {Line, {_, "key", _}} <- Kept]}.

last_of(Name, Users) ->
    lists:last([User || {_, {Other, _, _}} = User <- Users, Other =:= Name]).

user([Name, Text]) when Name =/= <<>>, Text =/= <<>> ->
    proven(Name, re:replace(Text, "^[ \\t]+", "", [{return, binary}]));
user(_) ->
    {error, "user is not NAME:PASSWORD or NAME:0xKEY"}.

proven(Name, <<"0x", Key/binary>>) ->
    case re:run(Key, "^[0-9A-Fa-f]{32}$", [dollar_endonly]) of
        {match, _} -> allowed(Name, "key", Key);
        nomatch -> {error, "user has a key (0x) that is not 32 hexadecimal digits"}
    end;
proven(Name, Password) ->
    allowed(Name, "password", Password).

allowed(Name, Field, Proof) ->
    Type = case Field of "key" -> key; _ -> password end,
    case {meerkat_config_value:parse_text({opaque_string, 508}, Name),
          meerkat_config_value:parse_text(Type, Proof)} of
        {{ok, _}, {ok, _}} -> {ok, {Name, Field, Proof}};
        _ -> {error, "user has a name or a password that RFC 8265 (OpaqueString) disallows"}
    end.

quoted(Text) -> meerkat_config_value:libconfig(Text).
