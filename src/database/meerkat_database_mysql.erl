%% MySQL and MariaDB, by the library p1_mysql. Before 1.0.22 it knows no values beside a statement,
%% so each is sent as a literal of hexadecimal digits: nothing in it can end it.
-module(meerkat_database_mysql).
-behaviour(meerkat_database).

-export([connect/1, describe/1]).

-define(CONNECT_MS, 3000).
%% Where Debian and most others have the system's list.
-define(AUTHORITIES, <<"/etc/ssl/certs/ca-certificates.crt">>).
%% The pool gives up sooner.
-define(QUERY_MS, 60000).

-spec describe(map()) -> unicode:chardata().
describe(#{host := Host, port := Port}) ->
    ["MySQL at ", meerkat_text:escape(Host), $:, integer_to_list(Port)].

%% The library tells why it failed by its log alone, in words that have no password in them.
-spec connect(map()) -> {ok, meerkat_database:connection()} | meerkat_database:failure().
connect(Options) ->
    case meerkat_database_tls:options(Options) of
        none -> connect(Options, []);
        {ok, Tls} -> connect(Options, [ssl_required | known(Tls, Options)]);
        {error, Why} -> {error, Why}
    end.

%% The library passes on these of the options of TLS, and no function: so the certificate has to
%% name the server's address.
known(Tls, Options) ->
    [Option || {verify, _} = Option <- Tls]
        ++ [{cacertfile, maps:get(sslrootcert, Options, ?AUTHORITIES)}].

connect(#{host := Host, port := Port, user := User, database := Database} = Options, Tls) ->
    Self = self(),
    Ref = make_ref(),
    Log = fun(error, Format, Args) -> Self ! {Ref, Format, Args}, ok; (_, _, _) -> ok end,
    Password = maps:get(password, Options, <<>>),
    case p1_mysql_conn:start_link(binary_to_list(Host), Port, binary_to_list(User),
                                  binary_to_list(Password), binary_to_list(Database),
                                  ?CONNECT_MS, Log, Tls) of
        {ok, Db} ->
            %% The library's process ends with reason normal when the server closes the connection.
            _ = erlang:monitor(process, Db),
            Query = fun(Statement, Values) -> sent(Db, Statement, Values) end,
            case Query("SET NAMES utf8mb4", []) of
                {ok, _} -> {ok, meerkat_database_sql:connection(Query)};
                {error, Why} -> {error, Why}
            end;
        {error, _} ->
            {error, why(Ref)}
    end.

%% The first line is nearest to the cause.
why(Ref) ->
    receive
        {Ref, Format, Args} ->
            Line = unicode:characters_to_binary(io_lib:format(Format, Args)),
            string:trim(string:replace(meerkat_text:printable(Line), "p1_mysql_conn: ", ""))
    after 0 ->
        "the connection ended"
    end.

sent(Db, Statement, Values) ->
    Text = filled(unicode:characters_to_binary(Statement), Values),
    Options = [{timeout, ?QUERY_MS}, {result_type, binary}],
    case p1_mysql_conn:squery(Db, Text, self(), Options) of
        {data, Result} -> {ok, {rows, p1_mysql:get_result_rows(Result)}};
        {updated, Result} -> {ok, {changed, p1_mysql:get_result_affected_rows(Result)}};
        {error, Result} -> failed(p1_mysql:get_result_reason(Result))
    end.

failed("p1_mysql_recv: socket was closed") ->
    exit({no_connection, "the server closed the connection"});
failed(Reason) ->
    case message(Reason) of
        %% The value has characters that the column cannot have, so there is no such row.
        "Illegal mix of collations" ++ _ -> {ok, {rows, []}};
        Words -> {error, meerkat_text:printable(iolist_to_binary(Words))}
    end.

%% Before the words of an error stands its number.
message([$#, _, _, _, _, _ | Words]) -> Words;
message(Words) -> Words.

%% $1, $2, ... in a statement of ours, none of which has a dollar sign for anything else.
filled(Statement, Values) ->
    [First | Parts] = binary:split(Statement, <<"$">>, [global]),
    Numbered = list_to_tuple(Values),
    iolist_to_binary([First | [[literal(element(N, Numbered)), Rest]
                               || Part <- Parts, {N, Rest} <- [string:to_integer(Part)]]]).

literal(null) -> "NULL";
literal(Number) when is_integer(Number) -> integer_to_binary(Number);
literal(Text) -> ["_utf8mb4 X'", binary:encode_hex(Text), $'].
