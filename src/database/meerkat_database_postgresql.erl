%% PostgreSQL, by the library p1_pgsql. Statements that requests need are prepared; all others are
%% parsed with each use. Values are bound.
-module(meerkat_database_postgresql).
-behaviour(meerkat_database).

-export([connect/1, describe/1]).

-define(CONNECT_MS, 3000).

-spec describe(map()) -> unicode:chardata().
describe(#{host := Host, port := Port}) ->
    ["PostgreSQL at ", meerkat_text:escape(Host), $:, integer_to_list(Port)].

-spec connect(map()) -> {ok, meerkat_database:connection()} | meerkat_database:failure().
connect(Options) ->
    case meerkat_database_tls:options(Options) of
        none -> connect(Options, []);
        {ok, Tls} -> connect(Options, [{transport, ssl} | Tls]);
        {error, Why} -> {error, Why}
    end.

%% What the library does not know are options of TLS.
connect(#{host := Host, port := Port, user := User, database := Database} = Options, Tls) ->
    Password = maps:get(password, Options, <<>>),
    Given = [{host, host(Host)}, {port, Port}, {as_binary, true},
             {user, binary_to_list(User)}, {password, binary_to_list(Password)},
             {database, binary_to_list(Database)}, {connect_timeout, ?CONNECT_MS} | Tls],
    %% Passwords are prepared by it where the server asks for SCRAM.
    _ = application:ensure_all_started(stringprep),
    %% connect/1 of the library makes a process that would outlive this one.
    case pgsql_proto:start_link(Given) of
        {ok, Db} ->
            %% Its state begins with these options, and is printed where the process fails.
            _ = sys:replace_state(Db, fun(State) -> setelement(2, State, []) end),
            {ok, meerkat_database_sql:connection(sender(Db, prepared(Db)))};
        {error, Reason} ->
            {error, [meerkat_database_words:lost(Reason),
                     ["; SCRAM needs the library xmpp (Debian: erlang-p1-xmpp)"
                      || code:which(scram) =:= non_existing]]}
    end.

%% One that begins so is where a Unix socket is.
host(<<"/", _/binary>> = Path) -> binary_to_list(Path);
host(Host) -> binary_to_list(Host).

%% Without one of the tables a statement cannot be prepared; it fails when it is used.
prepared(Db) ->
    Numbered = lists:zip(lists:seq(1, length(meerkat_database_sql:prepared())),
                         meerkat_database_sql:prepared()),
    maps:from_list([{Statement, Name} || {N, Statement} <- Numbered,
                                         Name <- ["meerkat_" ++ integer_to_list(N)],
                                         element(1, pgsql:prepare(Db, Name, Statement)) =:= ok]).

sender(Db, Prepared) ->
    fun(Statement, Values) when is_map_key(Statement, Prepared) ->
            sent(Db, maps:get(Statement, Prepared), Values);
       (Statement, Values) ->
            case pgsql:prepare(Db, "", binary_to_list(iolist_to_binary(Statement))) of
                {error, Fields} -> {error, meerkat_database_words:of_server(Fields)};
                _ -> sent(Db, "", Values)
            end
    end.

%% Every type of column can be read from text. The library sends a binary as what the type is in
%% the server's memory, a list as text.
sent(Db, Name, Values) ->
    case pgsql:execute(Db, Name, [bound(Value) || Value <- Values]) of
        %% What changes no rows, as CREATE TABLE.
        {ok, {nyi, _}} -> {ok, {changed, 0}};
        {ok, {_Command, Rows}} when is_list(Rows) ->
            {ok, {rows, [[Value || {_Type, Value} <- Row] || Row <- Rows]}};
        {ok, {_Command, N}} when is_integer(N) -> {ok, {changed, N}};
        {error, Fields} -> {error, meerkat_database_words:of_server(Fields)}
    end.

bound(Text) when is_binary(Text) -> binary_to_list(Text);
bound(NumberOrNull) -> NumberOrNull.
