%% Peers that a database allows and denies (coturn's tables allowed_peer_ip and denied_peer_ip).
%% meerkat_database_watch has them read. Permissions for peers that are denied now end. The rules
%% are the whole server's: a row of a realm that denies counts in all realms; a row of a realm that
%% allows counts only if the server has no other realm.
-module(meerkat_database_peers).

-include_lib("kernel/include/logger.hrl").

-export([look/1, list/1, add/4, remove/4]).

-export_type([peer/0]).

%% `range`: as it is written there. `realm`: <<>> for all. `in_force`: whether it is a rule.
-type peer() :: #{range := binary(), kind := meerkat_database:peers(), realm := binary(),
                  in_force := boolean()}.

%% Reads the tables and puts the rules in force. The error says which rows are wrong; the others are
%% in force.
-spec look(Name :: atom()) -> ok | {error, unicode:chardata()}.
look(Name) ->
    case list(Name) of
        {ok, Peers} ->
            Wrong = [Peer || #{in_force := false} = Peer <- Peers],
            case put_in_force(Name, rules(allowed, Peers), rules(denied, Peers)) of
                ok when Wrong =:= [] -> ok;
                ok -> {error, not_in_force(Wrong)};
                {error, Sentence} -> {error, Sentence}
            end;
        {error, Why} ->
            {error, ["those that were there before stay in force: ", Why]}
    end.

not_in_force(Wrong) ->
    {Some, More} = lists:split(min(3, length(Wrong)), Wrong),
    ["no rules are made of ", lists:join(", ", [described(Peer) || Peer <- Some]),
     [[" and ", integer_to_list(length(More)), " more"] || More =/= []]].

described(#{range := Range, kind := Kind, realm := Realm}) ->
    [meerkat_config_value:quote(Range), " (", atom_to_list(Kind),
     [[", realm ", meerkat_config_value:quote(Realm)] || Realm =/= <<>>], ")"].

rules(Kind, Peers) ->
    lists:usort([Network || #{kind := K, range := Range, in_force := true} <- Peers, K =:= Kind,
                            {ok, Networks} <- [meerkat_import_peers:range(Range)],
                            Network <- Networks]).

put_in_force(Name, Allowed, Denied) ->
    Max = meerkat_config_address:networks_max(),
    case max(length(Allowed), length(Denied)) > Max of
        true ->
            {error, ["there are more than ", integer_to_list(Max), " networks; those that were "
                     "there before stay in force"]};
        false ->
            changed(Name, #{allowed => Allowed, denied => Denied})
    end.

changed(Name, #{allowed := Allowed, denied := Denied} = Peers) ->
    case meerkat_database_watch:change(Name, stored_peers, Peers) of
        changed ->
            ?LOG_NOTICE("peers of the database are in force: ~b networks allowed, ~b denied",
                        [length(Allowed), length(Denied)]);
        same ->
            ok;
        {error, Sentence} ->
            {error, Sentence}
    end.

%%% For operators

%% All there are of realms of this server, and of none.
-spec list(Name :: atom()) -> {ok, [peer()]} | {error, unicode:chardata()}.
list(Name) ->
    #{config := Config} = meerkat_registry:settings(Name),
    #{realm := Own, realms := Realms} = Config(),
    Named = [Own | [Realm || #{name := Realm} <- Realms]],
    Job = fun(Connection) -> all(Connection, [<<>> | Named]) end,
    case meerkat_database_watch:asked(Name, Job) of
        {ok, Rows} ->
            {ok, [#{range => Range, kind => Kind, realm => Realm,
                    in_force => is_range(Range) andalso is_for_all(Kind, Realm, Named)}
                  || {Kind, Realm, Range} <- lists:sort(Rows)]};
        {error, Why} ->
            {error, Why}
    end.

is_range(Range) -> is_tuple(meerkat_import_peers:range(Range)).

is_for_all(allowed, Realm, Named) -> Realm =:= <<>> orelse Named =:= [Realm];
is_for_all(denied, _Realm, _Named) -> true.

all(Connection, Realms) ->
    all(Connection, [{Kind, Realm} || Kind <- [allowed, denied], Realm <- Realms], []).

all(Connection, [{Kind, Realm} | Rest], Found) ->
    case meerkat_database:list({peers, Kind, Realm}, Connection) of
        {ok, Ranges} ->
            all(Connection, Rest, [{Kind, Realm, Range} || Range <- Ranges] ++ Found);
        {error, Why} ->
            {error, Why}
    end;
all(_Connection, [], Found) ->
    {ok, Found}.

%% Puts the range into the database and in force, or does neither. With realm <<>> it is for all.
-spec add(Name :: atom(), meerkat_database:peers(), Realm :: binary(), Range :: binary()) ->
    {ok, #{kept := binary()}} | {error, unicode:chardata()}.
add(Name, Kind, Realm, Range) ->
    case is_range(Range) of
        true -> change(Name, {add_peer, Kind, Realm, Range});
        false -> {error, [meerkat_config_value:quote(Range),
                          " is no address, network or FIRST-LAST"]}
    end.

-spec remove(Name :: atom(), meerkat_database:peers(), Realm :: binary(), Range :: binary()) ->
    {ok, #{kept := binary()}} | {error, unicode:chardata()}.
remove(Name, Kind, Realm, Range) ->
    change(Name, {remove_peer, Kind, Realm, Range}).

change(Name, {_, Kind, Realm, Range} = Change) ->
    Job = fun(Connection) -> meerkat_database:change(Change, Connection) end,
    case is_realm(Name, Realm) of
        ok ->
            case meerkat_database_watch:asked(Name, Job) of
                ok -> settled(Name);
                none -> {error, ["the database has no ",
                                 described(#{range => Range, kind => Kind, realm => Realm})]};
                {error, Why} -> {error, ["nothing has changed: ", Why]}
            end;
        {error, Sentence} ->
            {error, Sentence}
    end.

is_realm(_Name, <<>>) -> ok;
is_realm(Name, Realm) ->
    #{config := Config} = meerkat_registry:settings(Name),
    case meerkat_users:owner(Realm, Config()) of
        {ok, _} -> ok;
        {error, Sentence} -> {error, Sentence}
    end.

settled(Name) ->
    _ = look(Name),
    #{database := Where} = meerkat_lookups:info(Name),
    {ok, #{kept => Where}}.
