%% The connections with peers of an allocation that relays TCP (RFC 6062), as Erlang knows them:
%% those that a client has asked for, those that wait for a client to take them up, those that are
%% taken up. Pure; whether a peer is permitted and can be reached only the relay knows.
-module(meerkat_alloc_tcp).

-import(meerkat_alloc_request, [refused/1, unknown_attributes/1, unknown/1, malformed_fault/2,
                                first_of/1, get/3, ip_family/1]).

-export([none/0, limits/2, connect/5, connected/3, join_fault/3, joined/2, disconnected/2,
         has_peer/2, count/1, view/1]).
-export([adopted/1, waiting/1]).

-export_type([tcp/0, limits/0, connection/0]).

%% At a time: connections of an allocation, and of a user's allocations together (0: no limit). The
%% lowest port of a peer that a client may be connected with.
-type limits() :: #{connections := pos_integer(),
                    user := non_neg_integer(),
                    min_port := inet:port_number()}.
-type address() :: {inet:ip_address(), inet:port_number()}.
%% CONNECTION-ID.
-type connection() :: 1..16#ffffffff.

-record(tcp, {
    connecting = #{} :: #{address() => true},
    made = #{} :: #{connection() => {address(), waiting | joined}}
}).
-opaque tcp() :: #tcp{}.

-spec none() -> tcp().
none() ->
    #tcp{}.

%% What holds for an allocation made by that plan. A reload may have taken TCP away since: what the
%% allocation may have it keeps.
-spec limits(meerkat_alloc_core:limits(), meerkat_alloc_admit:plan()) -> limits().
limits(#{tcp := Limits}, _Plan) -> Limits;
limits(#{}, #{connections_max := Max}) -> #{connections => Max, user => 0, min_port => 1}.

%% Connect (RFC 6062 5.2): the peer that is to be connected with a relayed address of that family,
%% or the answer.
-spec connect(meerkat_alloc_request:request(), IsOwner :: boolean(), 4 | 6, limits(), tcp()) ->
    {ok, address(), tcp()} | meerkat_alloc_core:response().
connect(#{message := Message} = Request, IsOwner, Family, Limits, Tcp) ->
    Peer = get(xor_peer_address, Message, none),
    Fault = peer_fault(Peer, Family, maps:get(in_use, Request, 0), Limits, Tcp),
    case first_of([
        {not IsOwner, refused(441)},
        {unknown(Message) =/= [], unknown_attributes(unknown(Message))},
        {malformed_fault(connect, Message) =/= false, refused(400)},
        {Fault =/= false, Fault}
    ]) of
        false -> {ok, Peer, connecting(Peer, Tcp)};
        Response -> Response
    end.

connecting(Peer, #tcp{connecting = Connecting} = Tcp) ->
    Tcp#tcp{connecting = Connecting#{Peer => true}}.

peer_fault(none, _Family, _InUse, _Limits, _Tcp) ->
    refused(400);
peer_fault({Ip, Port} = Peer, Family, InUse, #{min_port := Least} = Limits, Tcp) ->
    first_of([
        {Port =:= 0, refused(400)},
        {ip_family(Ip) =/= Family, refused(443)},
        {is_peer(Peer, Tcp), refused(446)},
        {Port < Least, refused(403)},
        {is_full(Limits, Tcp), refused(508)},
        {is_over(InUse, Limits), refused(486)}
    ]).

is_peer(Peer, #tcp{connecting = Connecting, made = Made}) ->
    is_map_key(Peer, Connecting) orelse lists:keymember(Peer, 1, maps:values(Made)).

is_full(#{connections := Max}, Tcp) ->
    count(Tcp) >= Max.

is_over(_InUse, #{user := 0}) -> false;
is_over(InUse, #{user := Max}) -> InUse >= Max.

%% CONNECTED. `answer`: what the client asked for is answered. `attempt`: it is to hear of a peer
%% that came. `refuse`: there are too many of those.
-spec connected(Fields :: map(), Limits :: limits(), tcp()) ->
    {answer, address(), meerkat_alloc_core:response(), tcp()}
    | {attempt, connection(), address(), tcp()}
    | {refuse, connection()}.
connected(#{incoming := 0, peer := Peer, status := Status, connection := Id}, _Limits,
          #tcp{connecting = Connecting} = Tcp0) ->
    Tcp = Tcp0#tcp{connecting = maps:remove(Peer, Connecting)},
    case Status of
        ok -> {answer, Peer, {success, [{connection_id, Id}]}, made(Id, Peer, Tcp)};
        _ -> {answer, Peer, refused(code(Status)), Tcp}
    end;
connected(#{incoming := 1, peer := Peer, connection := Id, in_use := InUse}, Limits, Tcp) ->
    case is_full(Limits, Tcp) orelse is_over(InUse, Limits) of
        true -> {refuse, Id};
        false -> {attempt, Id, Peer, made(Id, Peer, Tcp)}
    end.

made(Id, Peer, #tcp{made = Made} = Tcp) ->
    Tcp#tcp{made = Made#{Id => {Peer, waiting}}}.

%% Whether a peer refused or did not answer makes no difference in what the client is told (threat
%% X100).
code(gone) -> 437;
code(family) -> 443;
code(forbidden) -> 403;
code(conflict) -> 446;
code(full) -> 508;
code(_) -> 447.

%% ConnectionBind (RFC 6062 5.4), whose connection is named in the request: why it cannot be had, as
%% the answer. Only one that waits can be had, and once. Anybody but the owner is answered as if
%% there were no such connection.
-spec join_fault(meerkat_alloc_request:request(), IsOwner :: boolean(), tcp()) ->
    false | meerkat_alloc_core:response().
join_fault(#{message := Message, transport := Transport, join := #{connection := Id}}, IsOwner,
           #tcp{made = Made}) ->
    first_of([
        {unknown(Message) =/= [], unknown_attributes(unknown(Message))},
        {not meerkat_alloc_admit:is_stream(Transport), refused(400)},
        {not IsOwner, refused(400)},
        {case Made of #{Id := {_, waiting}} -> false; #{} -> true end, refused(400)}
    ]).

-spec joined(connection(), tcp()) -> tcp().
joined(Id, #tcp{made = Made} = Tcp) ->
    case Made of
        #{Id := {Peer, _}} -> Tcp#tcp{made = Made#{Id := {Peer, joined}}};
        #{} -> Tcp          % it is over already
    end.

-spec disconnected(connection(), tcp()) -> tcp().
disconnected(Id, #tcp{made = Made} = Tcp) ->
    Tcp#tcp{made = maps:remove(Id, Made)}.

%% Is there a connection with that peer, or is one being made?
-spec has_peer(inet:ip_address(), tcp()) -> boolean().
has_peer(Ip, Tcp) ->
    lists:any(fun(#{peer := {Other, _Port}}) -> Other =:= Ip end, view(Tcp)).

%% All of them.
-spec count(tcp()) -> non_neg_integer().
count(#tcp{connecting = Connecting, made = Made}) ->
    map_size(Connecting) + map_size(Made).

-spec view(tcp()) ->
    [#{connection := connection() | none, peer := address(),
       state := connecting | waiting | joined}].
view(#tcp{connecting = Connecting, made = Made}) ->
    [#{connection => Id, peer => Peer, state => State}
     || {Id, {Peer, State}} <- lists:sort(maps:to_list(Made))]
        ++ [#{connection => none, peer => Peer, state => connecting}
            || Peer <- lists:sort(maps:keys(Connecting))].

%% Those that another VM left in the relay, by its commands (STATE of ctl.def). A client that had
%% asked for one and has had no answer asks again.
-spec adopted([meerkat_ctl:message()]) -> tcp().
adopted(Commands) ->
    Made = maps:from_list([{Id, {Peer, waiting}}
                           || {connected, #{connection := Id, peer := Peer}} <- Commands]),
    lists:foldl(fun joined/2, #tcp{made = Made},
                [Id || {join, #{connection := Id}} <- Commands]).

%% Those that a ConnectionBind may name.
-spec waiting(tcp()) -> [connection()].
waiting(#tcp{made = Made}) ->
    [Id || {Id, {_, waiting}} <- maps:to_list(Made)].
