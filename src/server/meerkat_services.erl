%% Where clients find a server's STUN and TURN: what it is bound to, as they are told.
-module(meerkat_services).

-export([addresses/1, addresses/2, uris/2]).
-export_type([uris/0]).

%% By RFC 7064 and RFC 7065.
-type uris() :: #{stun := [binary()], turn := [binary()]}.

%% The addresses of listeners that take credentials made from the server's own secret: a realm that
%% the configuration has by itself takes credentials of its own.
-spec addresses(Name :: atom()) -> [{inet:ip_address(), inet:port_number()}].
addresses(Name) -> addresses(Name, all).

%% Those of the listeners of one realm, or `all` of addresses/1.
-spec addresses(Name :: atom(), Realm :: binary() | all) ->
    [{inet:ip_address(), inet:port_number()}].
addresses(Name, Realm) ->
    #{relays := Relays} = meerkat_registry:settings(Name),
    lists:usort([{Ip, Port} || {Local, Port} <- bound(Name, Realm), Ip <- told(Local, Relays)]).

%% The same as URIs.
-spec uris(Name :: atom(), Realm :: binary() | all) -> uris().
uris(Name, Realm) ->
    Addresses = addresses(Name, Realm),
    #{stun => [uri("stun:", Address, "") || Address <- Addresses],
      turn => [uri("turn:", Address, "?transport=udp") || Address <- Addresses]}.

uri(Scheme, Address, Query) ->
    iolist_to_binary([Scheme, meerkat_text:address(Address), Query]).

bound(Name, Wanted) ->
    #{realms := Realms} = Settings = meerkat_registry:settings(Name),
    [Address || {Id, Address} <- maps:to_list(meerkat_listening:bound(Name)),
                is_wanted(Wanted, maps:get(Id, Realms), Settings)].

is_wanted(all, Realm, Settings) -> meerkat_settings:owner(Realm, Settings) =:= default;
is_wanted(Wanted, Realm, _Settings) -> Wanted =:= Realm.

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
