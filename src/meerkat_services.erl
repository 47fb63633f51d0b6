%% Where clients find a server's STUN and TURN: what it is bound to, as they are told.
-module(meerkat_services).

-export([addresses/1]).

%% The addresses of listeners that take credentials made from the server's own secret: a realm that
%% the configuration has by itself takes credentials of its own.
-spec addresses(Name :: atom()) -> [{inet:ip_address(), inet:port_number()}].
addresses(Name) ->
    #{relays := Relays} = meerkat_registry:settings(Name),
    lists:usort([{Ip, Port} || {Local, Port} <- bound_for_all(Name), Ip <- told(Local, Relays)]).

bound_for_all(Name) ->
    #{realms := Realms} = Settings = meerkat_registry:settings(Name),
    case meerkat_registry:note(Name, listening) of
        none -> [];
        Bound -> [Address || {Id, Address} <- maps:to_list(Bound),
                             meerkat_settings:owner(maps:get(Id, Realms), Settings) =:= default]
    end.

%% A wildcard, or the address relayed from, is at the address clients are told; any other at itself.
told(Local, Relays) ->
    Told = [Advertised || #{local := Ip, advertised := Advertised} <- Relays,
                          Ip =:= Local orelse is_wildcard(Local) andalso size(Ip) =:= size(Local)],
    case {Told, is_wildcard(Local)} of
        {[], false} -> [Local];
        _ -> Told
    end.

is_wildcard(Ip) ->
    lists:all(fun(Part) -> Part =:= 0 end, tuple_to_list(Ip)).
