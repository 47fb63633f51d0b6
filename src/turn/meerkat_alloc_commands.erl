%% The commands of ctl.def that an allocation gives the relay, with the times of RFC 8656. Pure.
-module(meerkat_alloc_commands).

-export([create/4, refresh/3, move/2, delete/1, stats/1, permit/3, channel/5]).
-export([connect/2, join/3, disconnect/2]).
-export([permission_ms/0, channel_ms/0]).

-type session() :: non_neg_integer().
-type address() :: {inet:ip_address(), inet:port_number()}.

%% How long a permission lasts: MUST be 300 s (RFC 8656 9).
-spec permission_ms() -> pos_integer().
permission_ms() -> meerkat_ctl:limit(permission_ms).

%% How long a channel is bound: 10 minutes (RFC 8656 12).
-spec channel_ms() -> pos_integer().
channel_ms() -> meerkat_ctl:limit(channel_ms).

%% Fields: pools and ports by family, even, token, lifetime_ms.
-spec create(session(), meerkat_alloc_admit:plan(), meerkat_alloc_core:place(), Fields :: map()) ->
    meerkat_ctl:message().
create(Session, Plan, Place, Fields) ->
    {alloc_create, maps:merge(Fields, (at(Place))#{
        session => Session,
        bytes_per_s => maps:get(bytes_per_s, Plan, 0),
        packets_per_s => maps:get(packets_per_s, Plan, 0),
        protocol => maps:get(protocol, Plan, 17),
        connections_max => maps:get(connections_max, Plan, 0),
        bucket => maps:get(bucket, Plan, 0)})}.

at(Place) ->
    maps:with([listener, transport, client, server], Place).

%% `all` are the families there are.
-spec refresh(session(), 4 | 6 | all, LifetimeMs :: non_neg_integer()) -> meerkat_ctl:message().
refresh(Session, Family, LifetimeMs) ->
    {alloc_refresh, #{session => Session,
                      family => case Family of all -> 0; _ -> Family end,
                      lifetime_ms => LifetimeMs}}.

-spec move(session(), meerkat_alloc_core:place()) -> meerkat_ctl:message().
move(Session, Place) ->
    {alloc_move, (at(Place))#{session => Session}}.

-spec delete(session()) -> meerkat_ctl:message().
delete(Session) ->
    {alloc_delete, #{session => Session}}.

%% What it has counted.
-spec stats(session()) -> meerkat_ctl:message().
stats(Session) ->
    {session_info, #{session => Session}}.

%% All of them or none.
-spec permit(session(), [inet:ip_address()], LifetimeMs :: non_neg_integer()) ->
    meerkat_ctl:message().
permit(Session, Ips, LifetimeMs) ->
    {permit, #{session => Session,
               lifetime_ms => LifetimeMs,
               peers => meerkat_ctl:encode_peers([{Ip, 0} || Ip <- Ips])}}.

%% With the permission that comes with it.
-spec channel(session(), Number :: char(), address(), LifetimeMs :: non_neg_integer(),
              PermissionMs :: non_neg_integer()) -> meerkat_ctl:message().
channel(Session, Number, Peer, LifetimeMs, PermissionMs) ->
    {channel, #{session => Session, number => Number, peer => Peer,
                lifetime_ms => LifetimeMs, permission_ms => PermissionMs}}.

-spec connect(session(), address()) -> meerkat_ctl:message().
connect(Session, Peer) ->
    {connect, #{session => Session, peer => Peer}}.

%% Flow: of the ConnectionBind.
-spec join(session(), meerkat_alloc_tcp:connection(), Flow :: non_neg_integer()) ->
    meerkat_ctl:message().
join(Session, Connection, Flow) ->
    {join, #{flow => Flow, session => Session, connection => Connection}}.

-spec disconnect(session(), meerkat_alloc_tcp:connection()) -> meerkat_ctl:message().
disconnect(Session, Connection) ->
    {disconnect, #{session => Session, connection => Connection}}.
