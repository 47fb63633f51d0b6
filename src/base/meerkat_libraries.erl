%% Erlang libraries that are only needed for some keys of the configuration, and may be missing: a
%% Debian package each. They load code in C, so one that can be found may still not work: each is
%% tried.
-module(meerkat_libraries).

-export([missing_for_xmpp/0, for_database/1, remedy/1]).

-export_type([library/0]).

%% Its application, its Debian package and its name on hex; what OTP has is not on hex.
-type library() :: {App :: atom(), Package :: string(), Hex :: string() | none}.

%% The Debian packages of the libraries for XMPP that are not there, or do not work.
-spec missing_for_xmpp() -> [string()].
missing_for_xmpp() ->
    [Package || {Package, App, Use} <- [{"erlang-p1-xml", fast_xml, fun try_xml/0},
                                        {"erlang-p1-stringprep", stringprep, fun try_stringprep/0}],
                not works(App, Use)].

%% Whether the library that reads such a database is there.
-spec for_database(atom()) -> ok | {missing, library()}.
for_database(Kind) ->
    {App, Module, Package, Hex} = database(Kind),
    case code:ensure_loaded(Module) of
        {module, _} -> started(App);
        {error, _} -> {missing, {App, Package, Hex}}
    end.

database(sqlite) -> {sqlite3, sqlite3, "erlang-p1-sqlite3", "sqlite3"};
database(postgresql) -> {p1_pgsql, pgsql, "erlang-p1-pgsql", "p1_pgsql"};
database(mysql) -> {p1_mysql, p1_mysql_conn, "erlang-p1-mysql", "p1_mysql"};
database(redis) -> {eredis, eredis_client, "erlang-redis-client", "eredis"};
database(ldap) -> {eldap, eldap, "erlang-eldap", none};
database(http) -> {inets, httpc, "erlang-inets", none}.

%% Not all of them are applications that run.
started(App) ->
    _ = application:ensure_all_started(App),
    ok.

%% What helps where it is missing.
-spec remedy(library()) -> unicode:chardata().
remedy({_App, Package, none}) -> ["the Debian package ", Package, " has it"];
remedy({_App, Package, Hex}) ->
    ["the Debian package ", Package, " has it, or ", Hex, " on hex"].

%% No boot file starts them.
works(App, Use) ->
    try
        _ = application:ensure_all_started(App),
        Use()
    catch
        error:_ -> false
    end.

try_xml() ->
    Stream = fxml_stream:new(self()),
    _ = fxml_stream:close(Stream),
    is_binary(fxml:element_to_binary({xmlel, <<"a">>, [], []})).

try_stringprep() ->
    is_binary(stringprep:nodeprep(<<"a">>)).
