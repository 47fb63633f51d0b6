%% Limits of realms in a database (coturn's table turn_realm_option), as meerkat_database_watch has
%% them read. They go before those of the configuration, and count for allocations that are made
%% from then on. Of the server's own realm total-quota is the whole server's, as the key is.
-module(meerkat_database_realms).

-include_lib("kernel/include/logger.hrl").

-export([look/1, list/1, set/3, remove/2]).

-export_type([realm/0]).

%% By the names of the keys.
-type limits() :: #{meerkat_config_group:stored() => non_neg_integer()}.
-type realm() :: #{realm := binary(),
                   meerkat_config_group:stored() := null | non_neg_integer()}.

%% Reads the table and puts the limits in force. The error says which rows are wrong; the others are
%% in force.
-spec look(Name :: atom()) -> ok | {error, unicode:chardata()}.
look(Name) ->
    case read(Name) of
        {ok, Rows} ->
            Read = [{Row, value(Row)} || Row <- Rows],
            Limits = lists:foldl(fun limited/2, #{}, [{Realm, Key, Number} || {{Realm, Key, _},
                                                                   {ok, Number}} <- Read]),
            case {put_in_force(Name, Limits), [Row || {Row, error} <- Read]} of
                {ok, []} -> ok;
                {ok, Wrong} -> {error, ["no limit is made of ",
                                        lists:join(", ", [described(Row) || Row <- Wrong])]};
                {{error, Sentence}, _} -> {error, Sentence}
            end;
        {error, Why} ->
            {error, ["the limits that were there before stay in force: ", Why]}
    end.

limited({Realm, Key, Number}, Limits) ->
    Limits#{Realm => (maps:get(Realm, Limits, #{}))#{Key => Number}}.

%% By the rules for the key itself.
value({_Realm, Key, Text}) ->
    #{Key := Type} = meerkat_config_group:types(realms),
    case meerkat_config_value:parse_text(Type, Text) of
        {ok, Number} -> {ok, Number};
        {error, _} -> error
    end.

described({Realm, Key, Text}) ->
    {_, Option} = lists:keyfind(Key, 1, meerkat_database:limits()),
    [Option, " = ", meerkat_config_value:quote(Text), " of realm ",
     meerkat_config_value:quote(Realm)].

put_in_force(Name, Limits) ->
    case meerkat_database_watch:change(Name, stored_realms, Limits) of
        changed -> ?LOG_NOTICE("limits of ~b realms of the database are in force",
                               [map_size(Limits)]);
        same -> ok;
        {error, Sentence} -> {error, Sentence}
    end.

names(Name) ->
    #{config := Config} = meerkat_registry:settings(Name),
    #{realm := Own, realms := Realms} = Config(),
    [Own | [Realm || #{name := Realm} <- Realms]].

read(Name) ->
    Wanted = [{Realm, Key, Option}
              || Realm <- names(Name), {Key, Option} <- meerkat_database:limits()],
    meerkat_database_watch:asked(Name, fun(Connection) -> all(Connection, Wanted, []) end).

all(Connection, [{Realm, Key, Option} | Wanted], Found) ->
    case meerkat_database:list({option, Realm, Option}, Connection) of
        {ok, Values} -> all(Connection, Wanted, [{Realm, Key, Value} || Value <- Values] ++ Found);
        {error, Why} -> {error, Why}
    end;
all(_Connection, [], Found) ->
    {ok, Found}.

%%% For operators

%% The realms of this server, with what the database says of them; null where it says nothing.
-spec list(Name :: atom()) -> {ok, [realm()]} | {error, unicode:chardata()}.
list(Name) ->
    case read(Name) of
        {ok, Rows} ->
            Numbers = [{Realm, Key, Number} || {Realm, Key, _} = Row <- Rows,
                                               {ok, Number} <- [value(Row)]],
            Limits = lists:foldl(fun limited/2, #{}, Numbers),
            Nothing = maps:from_list([{Key, null} || {Key, _} <- meerkat_database:limits()]),
            {ok, [maps:merge(Nothing#{realm => Realm}, maps:get(Realm, Limits, #{}))
                  || Realm <- names(Name)]};
        {error, Why} ->
            {error, Why}
    end.

%% Sets these limits of a realm, and leaves its others.
-spec set(Name :: atom(), Realm :: default | binary(), limits()) ->
    {ok, #{kept := binary()}} | {error, unicode:chardata()}.
set(Name, Realm, Limits) ->
    changed(Name, Realm, fun(Told) ->
        [{set_option, Told, Option, integer_to_binary(Number)}
         || {Key, Option} <- meerkat_database:limits(), #{Key := Number} <- [Limits]]
    end).

%% Removes the realm's limits from the database: those of the configuration count again.
-spec remove(Name :: atom(), Realm :: default | binary()) ->
    {ok, #{kept := binary()}} | {error, unicode:chardata()}.
remove(Name, Realm) ->
    changed(Name, Realm, fun(Told) ->
        [{unset_option, Told, Option} || {_, Option} <- meerkat_database:limits()]
    end).

changed(Name, Realm, Changes) ->
    #{config := Config} = meerkat_registry:settings(Name),
    #{realm := Own} = Known = Config(),
    case meerkat_users:owner(Realm, Known) of
        {ok, default} -> made(Name, Changes(Own));
        {ok, Other} -> made(Name, Changes(Other));
        {error, Sentence} -> {error, Sentence}
    end.

made(Name, Changes) ->
    case meerkat_database_watch:asked(Name, fun(Connection) -> each(Connection, Changes) end) of
        ok ->
            _ = look(Name),
            #{database := Where} = meerkat_lookups:info(Name),
            {ok, #{kept => Where}};
        {error, Why} ->
            {error, ["not all has changed: ", Why]}
    end.

each(Connection, [Change | Changes]) ->
    case meerkat_database:change(Change, Connection) of
        {error, Why} -> {error, Why};
        Done when Done =:= ok; Done =:= none -> each(Connection, Changes)
    end;
each(_Connection, []) ->
    ok.
