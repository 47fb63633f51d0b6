%% How a database is named in the configuration: as coturn has it (`host=... dbname=...`), or as a
%% URI. Passwords are part of the value, and of nothing that is shown. Pure.
-module(meerkat_config_database).

-export([text/2, is_value/2, allowed/1, render/1]).
-export([keys/0, account_keys/0, chosen/1, passwords/1, uri/1]).

-export_type([kind/0, type/0, connection/0]).

%% `sql`: any of the first three.
-type kind() :: sqlite | postgresql | mysql | redis | sql | ldap | http.
-type type() :: {database, kind()}.
%% As PostgreSQL names them: `require` encrypts and looks at no certificate.
-type sslmode() :: disable | require | verify_ca | verify_full.
-type connection() :: #{kind := sqlite, file := binary()}
                    | #{kind := postgresql | mysql | redis, host := binary(),
                        port := inet:port_number(), user => binary(), password => binary(),
                        database => binary(), sslmode => sslmode(), sslrootcert => binary()}
                    | meerkat_config_ldap:connection() | meerkat_config_hook:connection().

%% The keys for users, each for one kind of database.
-spec keys() -> [{Key :: atom(), kind()}].
keys() ->
    [{userdb, sqlite}, {psql_userdb, postgresql}, {mysql_userdb, mysql}, {redis_userdb, redis},
     {ldap_userdb, ldap}, {http_userdb, http}].

%% Those for accounting records.
-spec account_keys() -> [{Key :: atom(), kind()}].
account_keys() ->
    [{accounting_database, sql}, {redis_statsdb, redis}].

%% The database of users of a configuration: what an embedder has given, else the first of the keys
%% that is set.
-spec chosen(map()) -> none | fun() | {module(), term()} | connection().
chosen(#{database := Given}) ->
    Given;
chosen(Config) ->
    case [Value || {Key, _} <- keys(), #{Key := #{} = Value} <- [Config]] of
        [First | _] -> First;
        [] -> none
    end.

%% Passwords of databases, which the log strikes out.
-spec passwords(map()) -> [binary()].
passwords(Config) ->
    [Password || {Key, _} <- keys() ++ account_keys(), #{Key := #{} = Connection} <- [Config],
                 Password <- maps:values(maps:with([password, token], Connection))].

%% One with coturn's tables or keys, of whatever kind its URI says; `error` where it is no URI.
-spec uri(binary()) -> {ok, connection()} | error.
uri(Text) ->
    case re:run(Text, "^[a-z0-9]+:", [{capture, none}]) of
        match ->
            hd([Read || Kind <- [sql, redis], {ok, _} = Read <- [text(Kind, Text)]] ++ [error]);
        nomatch ->
            error
    end.

-spec text(kind(), binary()) -> {ok, connection()} | error.
text(sqlite, Text) ->
    file(re:run(Text, "^(?:sqlite3?:(?://)?)?(.+)$", [{capture, all_but_first, binary}]));
text(sql, Text) ->
    case re:run(Text, "^([a-z0-9]+):", [{capture, all_but_first, binary}]) of
        {match, [<<"sqlite", _/binary>>]} -> text(sqlite, Text);
        {match, [Scheme]} ->
            hd([text(Kind, Text) || Kind <- [postgresql, mysql],
                                    lists:member(Scheme, schemes(Kind))] ++ [error]);
        nomatch -> error
    end;
text(ldap, Text) ->
    meerkat_config_ldap:text(Text);
text(http, Text) ->
    meerkat_config_hook:text(Text);
text(Kind, Text) ->
    case re:run(Text, "^[a-z]+://", [{capture, none}]) of
        match -> uri(Kind, uri_string:parse(Text));
        nomatch -> words(Kind, meerkat_config_words:pairs(Text))
    end.

file({match, [File]}) ->
    case byte_size(File) < 1024 andalso not has_control(File) of
        true -> {ok, #{kind => sqlite, file => File}};
        false -> error
    end;
file(nomatch) ->
    error.

has_control(Text) -> re:run(Text, "[\\x00-\\x1f\\x7f]", [{capture, none}]) =:= match.

words(Kind, {ok, Pairs}) ->
    case lists:all(fun({Name, _}) -> lists:member(Name, names(Kind)) end, Pairs) of
        true -> whole(Kind, maps:from_list([{field(Name), Value} || {Name, Value} <- Pairs]));
        false -> error
    end;
words(_Kind, error) ->
    error.

names(Kind) ->
    [<<"dbname">>, <<"user">>, <<"password">>, <<"port">>, <<"connect_timeout">>]
        ++ case Kind of
               postgresql -> [<<"host">>, <<"hostaddr">>, <<"sslmode">>, <<"sslrootcert">>];
               mysql -> [<<"host">>, <<"read_timeout">>, <<"sslmode">>, <<"sslrootcert">>];
               redis -> [<<"ip">>, <<"host">>]
           end.

field(<<"dbname">>) -> database;
field(<<"user">>) -> user;
field(<<"password">>) -> password;
field(<<"port">>) -> port;
field(<<"sslmode">>) -> sslmode;
field(<<"sslrootcert">>) -> sslrootcert;
field(Where) when Where =:= <<"ip">>; Where =:= <<"host">>; Where =:= <<"hostaddr">> -> host;
%% Timeouts too (connect_timeout, ...): how long a look-up may take is decided here.
field(_) -> ignored.

uri(Kind, #{scheme := Scheme, host := Host} = Uri) ->
    Query = uri_string:dissect_query(maps:get(query, Uri, <<>>)),
    case lists:member(Scheme, schemes(Kind)) andalso are_known(Kind, Query) of
        true ->
            {User, Password} = userinfo(maps:get(userinfo, Uri, <<>>)),
            Path = string:trim(maps:get(path, Uri, <<>>), leading, "/"),
            Given = [{host, string:trim(Host, both, "[]")}, {user, User}, {password, Password},
                     {database, decoded(Path)}]
                ++ [{field(Name), Value} || {Name, Value} <- Query]
                ++ [{port, integer_to_binary(Port)} || #{port := Port} <- [Uri],
                                                       is_integer(Port)],
            whole(Kind, maps:from_list([Field || {_, Value} = Field <- Given, Value =/= <<>>]));
        false ->
            error
    end;
uri(_Kind, _) ->
    error.

%% Nothing but how to encrypt stands behind the question mark.
are_known(_Kind, []) -> true;
are_known(Kind, [_ | _] = Query) when Kind =/= redis ->
    lists:all(fun({Name, Value}) ->
        is_binary(Value) andalso lists:member(Name, [<<"sslmode">>, <<"sslrootcert">>])
    end, Query);
are_known(_Kind, _Query) -> false.

schemes(postgresql) -> [<<"postgresql">>, <<"postgres">>];
schemes(mysql) -> [<<"mysql">>, <<"mariadb">>];
schemes(redis) -> [<<"redis">>].

userinfo(Text) ->
    case binary:split(Text, <<":">>) of
        [User, Password] -> {decoded(User), decoded(Password)};
        [User] -> {decoded(User), <<>>}
    end.

decoded(Text) ->
    case uri_string:percent_decode(Text) of
        Decoded when is_binary(Decoded) -> Decoded;
        _ -> Text
    end.

whole(Kind, Fields) ->
    All = maps:merge(defaults(Kind), maps:remove(ignored, Fields)),
    case All of
        #{port := Port} when is_integer(Port) -> whole_of(Kind, All);
        #{port := Text} ->
            case string:to_integer(Text) of
                {Port, <<>>} when Port > 0, Port < 65536 -> whole_of(Kind, All#{port := Port});
                _ -> error
            end
    end.

whole_of(redis, #{database := Database} = All) ->
    case re:run(Database, "^[0-9]{1,5}$", [{capture, none}, dollar_endonly]) of
        match -> {ok, All#{kind => redis}};
        nomatch -> error
    end;
whole_of(Kind, #{sslmode := <<_/binary>> = Given} = All) ->
    case [Mode || {Name, Mode} <- sslmodes(Kind), Name =:= Given] of
        [Mode] -> whole_of(Kind, All#{sslmode := Mode});
        [] -> error
    end;
whole_of(Kind, #{user := _, database := Database} = All) ->
    %% A name of a database is part of a statement of the library for MySQL.
    case re:run(Database, "^[A-Za-z0-9_$.-]+$", [{capture, none}, dollar_endonly]) of
        match -> {ok, All#{kind => Kind}};
        nomatch -> error
    end;
whole_of(_Kind, _) ->
    error.

%% The library for MySQL looks at the name in a certificate whenever it looks at who vouches for it.
sslmodes(postgresql) -> [{<<"verify-ca">>, verify_ca} | sslmodes(mysql)];
sslmodes(mysql) ->
    [{<<"disable">>, disable}, {<<"require">>, require}, {<<"verify-full">>, verify_full}].

defaults(postgresql) -> #{host => <<"localhost">>, port => 5432};
defaults(mysql) -> #{host => <<"localhost">>, port => 3306};
defaults(redis) -> #{host => <<"localhost">>, port => 6379, database => <<"0">>}.

-spec is_value(kind(), term()) -> boolean().
is_value(sql, #{kind := Kind} = Connection)
  when Kind =:= sqlite; Kind =:= postgresql; Kind =:= mysql -> is_value(Kind, Connection);
is_value(ldap, Value) -> meerkat_config_ldap:is_value(Value);
is_value(http, Value) -> meerkat_config_hook:is_value(Value);
is_value(sqlite, #{kind := sqlite, file := File}) -> is_binary(File);
is_value(Kind, #{kind := Kind, host := Host, port := Port}) ->
    is_binary(Host) andalso is_integer(Port);
is_value(_, _) -> false.

-spec allowed(kind()) -> unicode:chardata().
allowed(sqlite) ->
    <<"the name of a file, like /var/lib/turn/turndb or sqlite:///var/lib/turn/turndb">>;
allowed(sql) ->
    <<"postgresql://USER:PASSWORD@HOST:PORT/DATABASE, mysql://USER:PASSWORD@HOST:PORT/DATABASE or "
      "sqlite:///FILE">>;
allowed(ldap) ->
    meerkat_config_ldap:allowed();
allowed(http) ->
    meerkat_config_hook:allowed();
allowed(redis) ->
    <<"words like ip=127.0.0.1 port=6379 dbname=0 password=..., or redis://HOST:PORT/0">>;
allowed(Kind) ->
    [Scheme | _] = schemes(Kind),
    [<<"words like host=127.0.0.1 port=">>, integer_to_binary(maps:get(port, defaults(Kind))),
     <<" dbname=turn user=turn password=..., or ">>, Scheme,
     <<"://USER:PASSWORD@HOST:PORT/DATABASE, with sslmode=">>,
     lists:join(", ", [Mode || {Mode, _} <- sslmodes(Kind)])].

%% Which one it is; what it is opened with is not shown.
-spec render(connection()) -> unicode:chardata().
render(#{kind := sqlite, file := File}) ->
    [$", meerkat_text:escape(File), $"];
render(#{kind := ldap} = Connection) ->
    meerkat_config_ldap:render(Connection);
render(#{kind := http} = Connection) ->
    meerkat_config_hook:render(Connection);
render(#{kind := Kind, host := Host, port := Port} = Connection) ->
    [hd(schemes(Kind)), "://",
     [[meerkat_text:escape(User), [":(not shown)" || is_map_key(password, Connection)], "@"]
      || #{user := User} <- [Connection]],
     meerkat_text:escape(Host), $:, integer_to_binary(Port),
     [[$/, meerkat_text:escape(Database)] || #{database := Database} <- [Connection]]].
