%% Where clients find a server's STUN and TURN: its listeners, at the addresses that clients are
%% told.
-module(meerkat_services).

-export([services/1, services/2, uris/2]).
-export([of_fleet/2, uris_of_fleet/3, place/1]).
-export_type([service/0, uris/0]).

%% In the order that clients should try them.
-define(TRANSPORTS, [udp, tcp, tls, dtls]).

%% One way to come in. `tls`: TLS over TCP.
-type service() :: #{transport := udp | tcp | tls | dtls, host := inet:ip_address() | binary(),
                     port := inet:port_number()}.

%% By RFC 7064 and RFC 7065; `turn` has turn: and turns:.
-type uris() :: #{stun := [binary()], turn := [binary()]}.

%% Those of listeners that take credentials made from the server's own secret: a realm that the
%% configuration has by itself takes credentials of its own.
-spec services(Name :: atom()) -> [service()].
services(Name) -> services(Name, all).

%% Those of the listeners of one realm, or `all` of services/1, in the order clients should try
%% them: UDP, which serves media best, then TCP, and TLS for who is let out by nothing else.
-spec services(Name :: atom(), Realm :: binary() | all) -> [service()].
services(Name, Realm) ->
    Settings = meerkat_registry:settings(Name),
    Listeners = open_listeners(Name, Realm, Settings),
    [#{transport => Transport, host => Host, port => Port}
     || Transport <- ?TRANSPORTS,
        {Host, Port} <- lists:usort([Place || Listener <- of_transport(Transport, Listeners),
                                              Place <- places(Transport, Listener, Settings)])].

%% The same as URIs. STUN is listed for UDP only: that is what clients want a mapped address for.
-spec uris(Name :: atom(), Realm :: binary() | all) -> uris().
uris(Name, Realm) ->
    as_uris(services(Name, Realm)).

as_uris(Services) ->
    #{stun => [uri("stun:", S, "") || #{transport := udp} = S <- Services],
      turn => [turn_uri(S) || S <- Services]}.

turn_uri(#{transport := udp} = Service) -> uri("turn:", Service, "?transport=udp");
turn_uri(#{transport := tcp} = Service) -> uri("turn:", Service, "?transport=tcp");
turn_uri(#{transport := tls} = Service) -> uri("turns:", Service, "?transport=tcp");
turn_uri(#{transport := dtls} = Service) -> uri("turns:", Service, "?transport=udp").

uri(Scheme, #{host := Host, port := Port}, Query) when is_binary(Host) ->
    iolist_to_binary([Scheme, Host, $:, integer_to_binary(Port), Query]);
uri(Scheme, #{host := Ip, port := Port}, Query) ->
    iolist_to_binary([Scheme, meerkat_text:address({Ip, Port}), Query]).

%%% Of a fleet

%% Where clients may come in that ask this node, in the order they should try, of nodes that take
%% allocations: those of this one's region first, then the least loaded, and this one where it is
%% not fuller than another. As many nodes as the key fleet_services says. A server that is in no
%% fleet tells of itself.
-spec of_fleet(Name :: atom(), Realm :: binary() | all) -> [service()].
of_fleet(Name, Realm) ->
    of_fleet(Name, Realm, own).

%% The same as URIs, for a client who is known to be in a region.
-spec uris_of_fleet(Name :: atom(), Realm :: binary() | all, Region :: binary() | own) -> uris().
uris_of_fleet(Name, Realm, Region) ->
    as_uris(of_fleet(Name, Realm, Region)).

of_fleet(Name, Realm, Region) ->
    case {meerkat_elsewhere:places(Name), Region} of
        {[], _} ->
            services(Name, Realm);
        {Others, own} ->
            #{fleet_region := Own} = meerkat_registry:settings(Name),
            of_nodes(Name, Realm, Own, Others);
        {Others, _} ->
            of_nodes(Name, Realm, Region, Others)
    end.

of_nodes(Name, Realm, Region, Others) ->
    #{fleet_services := Nodes} = Settings = meerkat_registry:settings(Name),
    All = [place(Name) | Others],
    Some = case [Place || #{ready := true} = Place <- All] of [] -> All; Ready -> Ready end,
    Sorted = lists:sort([{rank(Place, Region), services_at(Place, Name, Realm, Settings)}
                         || Place <- Some]),
    unique(lists:append(lists:sublist([Services || {_, [_ | _] = Services} <- Sorted], Nodes))).

%% Loads are told apart by tenths: small differences should change no list.
rank(#{node := Node, region := Of, load := Load}, Region) ->
    {Of =/= Region, trunc(Load * 10), Node =/= node(), Node}.

services_at(#{node := Node}, Name, Realm, _Settings) when Node =:= node() ->
    services(Name, Realm);
services_at(#{ways := Ways}, _Name, Realm, Settings) ->
    [#{transport => Transport, host => Host, port => Port}
     || Transport <- ?TRANSPORTS,
        #{transport := Of, realm := In, at := {_, Port}, hosts := Hosts} <- Ways,
        Of =:= Transport, is_wanted(Realm, In, Settings), Host <- Hosts].

%% Nodes may have one name.
unique([Service | Services]) -> [Service | unique([S || S <- Services, S =/= Service])];
unique([]) -> [].

%% What other nodes are told of this one: how full it is, and each way in, but for addresses that
%% are not its own alone.
-spec place(Name :: atom()) -> meerkat_elsewhere:place().
place(Name) ->
    #{quota := #{total := Max}, fleet_region := Region} = meerkat_registry:settings(Name),
    #{node => node(), region => Region,
      load => meerkat_quota:count(Name, total) / Max,
      ready => not meerkat_drain:is_draining(Name),
      ways => ways(Name)}.

ways(Name) ->
    #{relays := Relays, anycast_ip := Anycast} = Settings = meerkat_registry:settings(Name),
    Listeners = open_listeners(Name, Settings),
    [#{transport => Transport, realm => Realm, at => {Ip, Port},
       hosts => hosts(Transport, Ip, Settings)}
     || Transport <- ?TRANSPORTS,
        #{bound := {Local, Port}, realm := Realm} <- of_transport(Transport, Listeners),
        Ip <- told(Local, Relays), not lists:member(Ip, Anycast), not lists:member(Local, Anycast)].

hosts(Secure, Ip, #{certificates := #{shown := Shown}}) when Secure =:= tls; Secure =:= dtls ->
    case lists:usort([Name || #{names := Names} <- Shown, {dns, Name} <- Names,
                              binary:first(Name) =/= $*]) of
        [] -> [Ip];
        Names -> Names
    end;
hosts(_Transport, Ip, _Settings) ->
    [Ip].

%%% Listeners

open_listeners(Name, Realm, Settings) ->
    [Listener || #{realm := Of} = Listener <- open_listeners(Name, Settings),
                 is_wanted(Realm, Of, Settings)].

%% Those that are bound, with the address they got.
open_listeners(Name, #{listeners := Listeners}) ->
    Bound = meerkat_listening:bound(Name),
    [Listener#{bound => maps:get(Id, Bound)}
     || #{id := Id} = Listener <- Listeners, is_map_key(Id, Bound)].

%% A listener for TCP takes TLS too where it has a certificate, and one for UDP takes DTLS. Clients
%% are told so where no listener is for that alone.
of_transport(tls, Listeners) -> alone_or_beside(tls, tcp, Listeners);
of_transport(dtls, Listeners) -> alone_or_beside(dtls, udp, Listeners);
of_transport(Transport, Listeners) -> with_code(Transport, Listeners).

alone_or_beside(Secure, Plain, Listeners) ->
    case with_code(Secure, Listeners) of
        [] -> [L || #{certificates := Shown} = L <- with_code(Plain, Listeners), Shown =/= none];
        Alone -> Alone
    end.

with_code(Transport, Listeners) ->
    Code = meerkat_ctl:transport(Transport),
    [L || #{transport := Of} = L <- Listeners, Of =:= Code].

%% A client by TLS refuses the server unless the certificate names the host that the URI has.
places(Secure, #{bound := {Local, Port}}, #{relays := Relays, certificates := #{shown := Shown}})
  when Secure =:= tls; Secure =:= dtls ->
    Addresses = told(Local, Relays),
    Names = lists:append([Of || #{names := Of} <- Shown]),
    case [Name || {dns, Name} <- Names, binary:first(Name) =/= $*]
        ++ [Ip || {ip, Ip} <- Names, lists:member(Ip, Addresses)] of
        [] -> [{Ip, Port} || Ip <- Addresses];
        Hosts -> [{Host, Port} || Host <- Hosts]
    end;
places(_Transport, #{bound := {Local, Port}}, #{relays := Relays}) ->
    [{Ip, Port} || Ip <- told(Local, Relays)].

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
