%% Configuration values that are lists of groups: ( { port = 3479; realm = "a"; }, { ... } ). Which
%% fields a group has, what it becomes, how it is shown. Pure, like meerkat_config_value, which
%% reads the fields; what must hold between groups and other keys is for others.
-module(meerkat_config_group).

-export([parse/2, allowed/1, render/2, secret_fields/1, types/1, stored/0]).
-export_type([type/0, user/0, realm/0, stored/0]).

%% users      a map of name => user()
%% added_users  what a users_file has: a map of realm() => what `users` is
%% listeners  a list of #{port, ip, place} and, as given, realm
%% relays     a list of #{local, place} and, as given, advertised, min_port, max_port
%% realms     a list of #{name, place} and, as given, the keys that a realm may have of its own,
%%            with the values these have
-type type() :: users | added_users | listeners | relays | realms.
%% One of the key `realms`; the server's own is `default`.
-type realm() :: default | binary().
-type user() :: {password, binary()} | {key, <<_:128>>}.
%% Fields of a realm that a database may have too.
-type stored() :: user_quota | total_quota | max_bps | max_pps | new_peers_rate.

-spec stored() -> [stored()].
stored() -> [user_quota, total_quota, max_bps, max_pps, new_peers_rate].

%% Field, its type, whether a group must have it.
fields(users) ->
    [
        {<<"name">>, {opaque_string, 508}, required},
        {<<"password">>, password, optional},
        {<<"key">>, key, optional}
    ];
fields(added_users) ->
    fields(users)
        ++ [{<<"realm">>, {opaque_string, meerkat_ctl:limit(realm_bytes_max)}, optional}];
fields(listeners) ->
    [
        {<<"port">>, {integer, 0, 65535}, required},
        {<<"ip">>, listen_address, optional},
        {<<"realm">>, {opaque_string, meerkat_ctl:limit(realm_bytes_max)}, optional}
    ];
fields(relays) ->
    [
        {<<"ip">>, relay_address, required},
        {<<"advertised">>, relay_address, optional},
        {<<"min_port">>, {integer, 1, 65535}, optional},
        {<<"max_port">>, {integer, 1, 65535}, optional}
    ];
fields(realms) ->
    [
        {<<"name">>, {opaque_string, meerkat_ctl:limit(realm_bytes_max)}, required},
        {<<"secret">>, {list, secret}, optional},
        {<<"users">>, users, optional},
        {<<"total_quota">>, {integer, 0, 131072}, optional},
        {<<"user_quota">>, {integer, 0, 131072}, optional},
        {<<"user_quota_replaces">>, boolean, optional},
        {<<"new_peers_rate">>, {integer, 0, 10000}, optional},
        {<<"max_allocations_per_address">>, {integer, 0, 131072}, optional},
        {<<"max_bps">>, {integer, 0, 1000000000000}, optional},
        {<<"max_pps">>, {integer, 0, 100000000}, optional},
        {<<"user_bps">>, {integer, 0, 1000000000000}, optional},
        {<<"default_lifetime">>, {integer, 60, 86400}, optional},
        {<<"max_lifetime">>, {integer, 600, 86400}, optional}
    ].

%% Fields and their types.
-spec types(type()) -> #{Field :: atom() => meerkat_config_value:type()}.
types(Type) ->
    maps:from_list([{binary_to_atom(Field), FieldType} || {Field, FieldType, _} <- fields(Type)]).

%% Of those the secret ones, which may lie in files.
-spec secret_fields(type()) -> [meerkat_config_secret:field()].
secret_fields(Type) ->
    lists:append([secret_field(Field, FieldType) || {Field, FieldType, _} <- fields(Type)]).

secret_field(Field, users) -> [{Field, secret_fields(users)}];
secret_field(Field, {list, secret}) -> [{Field, several}];
secret_field(Field, Type) when Type =:= password; Type =:= key -> [{Field, one}];
secret_field(_, _) -> [].

%% A value as a file gives it: the scalars found below its key. All that failed, each with its
%% place.
-spec parse(type(), [meerkat_config_value:leaf(), ...]) ->
    {ok, meerkat_config_value:value()}
    | {error, [{meerkat_config_value:failure(), meerkat_config_value:place()}, ...]}.
parse(Type, [{[], empty_list, Place}]) ->
    finished(Type, [], Place);
parse(Type, [{_, _, First} | _] = Leaves) ->
    Indexed = maps:groups_from_list(fun index/1, Leaves),
    Parsed = [group(Type, Group) || {_, Group} <- lists:sort(maps:to_list(Indexed))],
    case lists:append([Failures || {error, Failures} <- Parsed]) of
        [] -> finished(Type, [Group || {ok, Group} <- Parsed], First);
        Failures -> {error, Failures}
    end.

index({[Index | _], _, _}) -> Index;
index({[], _, _}) -> none.

group(Type, [{_, _, Place} | _] = Leaves) ->
    Names = [Name || {[_, Name | _], _, _} <- Leaves, is_binary(Name)],
    Strange = [L || {Path, _, _} = L <- Leaves, not is_member(Path)],
    Fields = [field(Type, Name, below(Name, Leaves)) || Name <- in_order(Names)],
    Group = maps:from_list([{binary_to_atom(Name), Value} || {ok, Name, Value} <- Fields]),
    Missing = [F || {F, _, required} <- fields(Type), not lists:member(F, Names)],
    Failures = [{{strange(Path), allowed(Type)}, At} || {Path, _, At} <- Strange]
        ++ lists:append([Failed || {error, Failed} <- Fields])
        ++ [{{[<<"a group without ">>, Field], allowed(Type)}, Place}
            || Strange =:= [], Field <- Missing],
    case Failures of
        [] -> {ok, Group#{place => Place}};
        _ -> {error, Failures}
    end.

%% What it is, and not what it says: it may be meant to be secret.
strange([Name | _]) when is_binary(Name) -> <<"a group that stands in no list">>;
strange(_) -> <<"a value that is no group">>.

is_member([Index, Name | _]) -> is_integer(Index) andalso is_binary(Name);
is_member(_) -> false.

in_order([Name | Names]) -> [Name | in_order([N || N <- Names, N =/= Name])];
in_order([]) -> [].

below(Name, Leaves) ->
    [{Path, Value, Place} || {[_, Field | Path], Value, Place} <- Leaves, Field =:= Name].

field(Type, Name, [{_, _, Place} | _] = Leaves) ->
    case lists:keyfind(Name, 1, fields(Type)) of
        {_, FieldType, _} ->
            case meerkat_config_value:parse_leaves(FieldType, Leaves) of
                {ok, Value} -> {ok, Name, Value};
                {error, Failures} ->
                    {error, [{{where(Name, Shown), where(Name, Allowed)}, At}
                             || {{Shown, Allowed}, At} <- Failures]}
            end;
        false ->
            Quoted = meerkat_config_value:quote(Name),
            {error, [{{[<<"a group with ">>, Quoted], allowed(Type)}, Place}]}
    end.

where(Field, Is) ->
    [<<"a list where ">>, Field, <<" is ">>, Is].

%% What holds for all groups together, and what they become.
finished(Type, Groups, Place) ->
    case [{{Shown, allowed(Type)}, At} || {Shown, At} <- faults(Type, Groups, Place)] of
        [] -> {ok, finish(Type, Groups)};
        Failures -> {error, Failures}
    end.

faults(users, Groups, Place) ->
    without_proof(Groups) ++ twice(Groups, Place);
faults(added_users, Groups, Place) ->
    without_proof(Groups)
        ++ lists:append([twice(Of, Place) || {_, Of} <- maps:to_list(by_realm(Groups))]);
faults(realms, Groups, Place) ->
    twice(Groups, Place);
faults(relays, Groups, _) ->
    [{<<"a group with addresses of two families">>, At}
     || #{ip := Ip, advertised := Told, place := At} <- Groups,
        tuple_size(Ip) =/= tuple_size(Told)];
faults(listeners, _, _) ->
    [].

without_proof(Groups) ->
    [{<<"a group without password and key, or with both">>, At}
     || #{place := At} = Group <- Groups, proof(Group) =:= []].

by_realm(Groups) ->
    maps:groups_from_list(fun(Group) -> maps:get(realm, Group, default) end, Groups).

twice(Groups, Place) ->
    Names = [Name || #{name := Name} <- Groups],
    [{[meerkat_config_value:quote(Name), <<" twice">>], Place}
     || Name <- lists:usort(Names -- lists:usort(Names))].

finish(users, Groups) ->
    maps:from_list([{Name, How} || #{name := Name} = Group <- Groups, How <- proof(Group)]);
finish(added_users, Groups) ->
    maps:map(fun(_Realm, Of) -> finish(users, Of) end, by_realm(Groups));
finish(listeners, Groups) ->
    [maps:merge(#{ip => any}, Group) || Group <- Groups];
finish(realms, Groups) ->
    Groups;
finish(relays, Groups) ->
    [relay(Group) || Group <- Groups].

relay(#{ip := Ip} = Group) ->
    (maps:remove(ip, Group))#{local => Ip}.

proof(#{password := _, key := _}) -> [];
proof(#{password := Password}) -> [{password, Password}];
proof(#{key := Key}) -> [{key, Key}];
proof(#{}) -> [].

%% What a type takes, as the end of a sentence that begins "it must be".
-spec allowed(type()) -> unicode:chardata().
allowed(users) ->
    <<"a list of groups { name = \"...\"; password = \"...\"; } or { name = \"...\"; key = "
      "\"...\"; }, each name once">>;
allowed(added_users) ->
    [allowed(users), <<" in its realm; `realm` may be left out">>];
allowed(listeners) ->
    <<"a list of groups { port = ...; ip = \"...\"; realm = \"...\"; }, ip and realm may be left "
      "out">>;
allowed(relays) ->
    <<"a list of groups { ip = \"...\"; advertised = \"...\"; min_port = ...; max_port = ...; }, "
      "all but ip may be left out, both addresses of one family">>;
allowed(realms) ->
    Names = [Name || {Name, _, _} <- fields(realms), Name =/= <<"name">>],
    [<<"a list of groups { name = \"...\"; }, each name once, with any of these keys: ">>
     | lists:join(<<", ">>, Names)].

%% A value as text for people; secrets are masked.
-spec render(type(), meerkat_config_value:value()) -> unicode:chardata().
render(_, Empty) when Empty =:= []; Empty =:= #{} -> <<"none">>;
render(users, Users) ->
    lists:join(", ", [meerkat_config_value:quote(Name) || Name <- maps:keys(Users)]);
render(listeners, Groups) ->
    lists:join(", ", [listener(Group) || Group <- Groups]);
render(realms, Groups) ->
    lists:join(", ", [meerkat_config_value:quote(Name) || #{name := Name} <- Groups]);
render(relays, Groups) ->
    lists:join(", ", [relay_text(Group) || Group <- Groups]).

listener(#{ip := Ip, port := Port} = Group) ->
    Realm = [[<<" ">>, meerkat_config_value:quote(R)] || #{realm := R} <- [Group]],
    Address = meerkat_config_value:render(listen_address, Ip),
    [Address, <<" port ">>, integer_to_binary(Port), Realm].

relay_text(#{local := Local} = Group) ->
    [meerkat_text:ip(maps:get(advertised, Group, Local)),
     [[" (bound: ", meerkat_text:ip(Local), ")"]
      || #{advertised := Told} <- [Group], Told =/= Local],
     [[<<" from port ">>, integer_to_binary(Port)] || #{min_port := Port} <- [Group]],
     [[<<" to port ">>, integer_to_binary(Port)] || #{max_port := Port} <- [Group]]].
