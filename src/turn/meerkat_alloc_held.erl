%% What an allocation holds, each part until a time of its own: relayed addresses by family,
%% permissions and channels. The relay keeps the same and forgets by itself; this is what a new one
%% is given, and what a request is judged by. Pure.
-module(meerkat_alloc_held).

-import(meerkat_alloc_request, [refused/1, first_of/1, ip_family/1]).

-export([none/0, relayed/2, families/1, last/1, has/2, extend/3, drop/2, prune/2]).
-export([permission_fault/3, permit/3, channel_fault/4, bind/4, granted/3, paced/4]).
-export([view/2, commands/3, adopted/3, peers/1]).

-export_type([held/0]).

-type address() :: {inet:ip_address(), inet:port_number()}.
-type family() :: 4 | 6.
%% Milliseconds of a monotonic clock.
-type now() :: integer().

-record(held, {
    expires = #{} :: #{family() => now()},      % families alive
    permissions = #{} :: #{inet:ip_address() => now()},
    channels = #{} :: #{char() => {address(), now()}},
    peers = 0 :: non_neg_integer(),             % how often a permission was new
    %% Until when the time of peers so far lasts, each of which takes its part of a second.
    paced = none :: none | number()
}).
-opaque held() :: #held{}.

-define(CHANNEL_MIN, 16#4000).

-spec none() -> held().
none() ->
    #held{}.

%%% Families. Each relayed address of a dual allocation has a deadline of its own.

-spec relayed([family()], Until :: now()) -> held().
relayed(Families, Until) ->
    extend(Families, Until, #held{}).

-spec extend([family()], Until :: now(), held()) -> held().
extend(Families, Until, #held{expires = Expires} = Held) ->
    Held#held{expires = maps:merge(Expires, maps:from_list([{F, Until} || F <- Families]))}.

%% Those that live.
-spec families(held()) -> [family()].
families(#held{expires = Expires}) ->
    maps:keys(Expires).

-spec has(family(), held()) -> boolean().
has(Family, #held{expires = Expires}) ->
    is_map_key(Family, Expires).

%% When all of it is over.
-spec last(held()) -> now().
last(#held{expires = Expires}) ->
    lists:max(maps:values(Expires)).

%% One address of a dual allocation is gone, with its permissions and channels and no others
%% (RFC 8656 8.1).
-spec drop([family()], held()) -> held().
drop([], Held) ->
    Held;
drop(Families, #held{permissions = Permissions, channels = Channels} = Held) ->
    Stays = fun(Ip) -> not lists:member(ip_family(Ip), Families) end,
    Held#held{expires = maps:without(Families, Held#held.expires),
              permissions = maps:filter(fun(Ip, _) -> Stays(Ip) end, Permissions),
              channels = maps:filter(fun(_, {{Ip, _}, _}) -> Stays(Ip) end, Channels)}.

%% Drops what has expired: the relay has dropped it by itself. The last family stays: its end is the
%% allocation's, of which the relay tells (SESSION_GONE).
-spec prune(now(), held()) -> held().
prune(Now, #held{expires = Expires, permissions = Permissions, channels = Channels} = Held) ->
    IsOver = fun(Until) -> Until =< Now end,
    case lists:any(IsOver, maps:values(Expires))
        orelse lists:any(IsOver, maps:values(Permissions))
        orelse lists:any(fun({_, Until}) -> IsOver(Until) end, maps:values(Channels)) of
        true -> prune_some(Now, Held);
        false -> Held
    end.

prune_some(Now, #held{expires = Expires} = Held0) ->
    Last = last(Held0),
    #held{permissions = Permissions, channels = Channels} = Held =
        drop([F || {F, Until} <- maps:to_list(Expires), Until =< Now, Until < Last], Held0),
    Held#held{permissions = maps:filter(fun(_, Until) -> Until > Now end, Permissions),
              channels = maps:filter(fun(_, {_, Until}) -> Until > Now end, Channels)}.

%%% Permissions (RFC 8656 10.2): all peers of a request or none

%% Why these may not be permitted, as the answer; `false` if they may.
-spec permission_fault([inet:ip_address()], Max :: pos_integer(), held()) ->
    false | meerkat_alloc_core:response().
permission_fault([], _Max, _Held) ->
    refused(400);
permission_fault(Ips, Max, #held{permissions = Permissions} = Held) ->
    Fresh = [Ip || Ip <- Ips, not is_map_key(Ip, Permissions)],
    first_of([
        {not lists:all(fun(Ip) -> has(ip_family(Ip), Held) end, Ips), refused(443)},
        {Fresh =/= [] andalso map_size(Permissions) + length(Fresh) > Max, refused(508)}
    ]).

-spec permit([inet:ip_address()], now(), held()) -> held().
permit(Ips, Now, #held{permissions = Permissions, peers = Peers} = Held) ->
    Until = Now + meerkat_alloc_commands:permission_ms(),
    All = lists:foldl(fun(Ip, P) -> P#{Ip => Until} end, Permissions, Ips),
    Held#held{permissions = All, peers = Peers + map_size(All) - map_size(Permissions)}.

%% So many new peers a second, and this many times as many at once.
-define(AT_ONCE, 4).

-spec paced([inet:ip_address()], PerSecond :: pos_integer(), now(), held()) ->
    {ok, held()} | too_fast.
paced(Ips, PerSecond, Now, #held{paced = Before} = Held) ->
    case length([Ip || Ip <- Ips, not is_known(Ip, Held)]) of
        0 ->
            {ok, Held};
        Fresh ->
            From = case Before of none -> Now; _ -> max(Before, Now) end,
            Until = From + Fresh * 1000 / PerSecond,
            case Until - Now =< ?AT_ONCE * 1000 of
                true -> {ok, Held#held{paced = Until}};
                false -> too_fast
            end
    end.

%% A channel may outlive its permission.
is_known(Ip, #held{permissions = Permissions, channels = Channels}) ->
    is_map_key(Ip, Permissions)
        orelse lists:any(fun({{Bound, _}, _}) -> Bound =:= Ip end, maps:values(Channels)).

%%% Channels (RFC 8656 12.2)

-spec channel_fault(char() | none, address() | none, meerkat_alloc_core:limits(), held()) ->
    false | meerkat_alloc_core:response().
channel_fault(Number, Peer, _Limits, _Held) when Number =:= none; Peer =:= none ->
    refused(400);
channel_fault(Number, {Ip, Port} = Peer, #{channel_max := Last, max_peers := Max},
              #held{channels = Channels} = Held) ->
    first_of([
        {Number < ?CHANNEL_MIN orelse Number > Last, refused(400)},
        {Port =:= 0, refused(400)},
        {is_conflict(Number, Peer, Channels), refused(400)},
        {not has(ip_family(Ip), Held), refused(443)},
        {not is_map_key(Number, Channels) andalso map_size(Channels) >= Max, refused(508)}
    ]).

%% Bound to another peer, or the peer to another number.
is_conflict(Number, Peer, Channels) ->
    case Channels of
        #{Number := {Peer, _}} -> false;
        #{Number := _} -> true;
        #{} -> lists:keymember(Peer, 1, maps:values(Channels))
    end.

%% A permission comes with it.
-spec bind(char(), address(), now(), held()) -> held().
bind(Number, {Ip, _} = Peer, Now, #held{channels = Channels} = Held) ->
    Until = Now + meerkat_alloc_commands:channel_ms(),
    permit([Ip], Now, Held#held{channels = Channels#{Number => {Peer, Until}}}).

%%% Grants

%% What the relay has answered by itself at that time (GRANTED of ctl.def).
-spec granted(Fields :: map(), At :: now(), held()) -> held().
granted(#{method := 4, lifetime_s := Lifetime}, At, Held) ->
    extend(families(Held), At + Lifetime * 1000, Held);
granted(#{method := 8, peers := Peers, fresh := Fresh}, At, #held{peers = Before} = Held) ->
    Ips = [Ip || {Ip, _} <- meerkat_ctl:peers(Peers)],
    (permit(Ips, At, Held))#held{peers = Before + Fresh};
granted(#{method := 9, number := Number, peers := Peers, fresh := Fresh}, At,
        #held{peers = Before} = Held) ->
    [Peer] = meerkat_ctl:peers(Peers),
    (bind(Number, Peer, At, Held))#held{peers = Before + Fresh}.

%%% What there is to tell of it

%% What is left of each, in milliseconds, and how many peers have been permitted in all, one that
%% was again after its permission ended counted again.
-spec view(now(), held()) ->
    #{expires_ms := integer(), peers := non_neg_integer(),
      permissions := [#{peer := inet:ip_address(), expires_ms := integer()}],
      channels := [#{number := char(), peer := address(), expires_ms := integer()}]}.
view(Now, #held{expires = Expires, permissions = Permissions, channels = Channels,
                peers = Peers}) ->
    #{expires_ms => lists:max([0 | [Until - Now || Until <- maps:values(Expires)]]),
      peers => Peers,
      permissions => [#{peer => Ip, expires_ms => Until - Now}
                      || {Ip, Until} <- lists:sort(maps:to_list(Permissions))],
      channels => [#{number => Number, peer => Peer, expires_ms => Until - Now}
                   || {Number, {Peer, Until}} <- lists:sort(maps:to_list(Channels))]}.

%% The commands that give a new relay what is left, where it has the addresses already. Held is what
%% prune/2 left of it at that time: the relay can be told no lifetime that is over.
-spec commands(Session :: non_neg_integer(), now(), held()) -> [meerkat_ctl:message()].
commands(Session, Now, Held) ->
    refreshes(Session, Now, Held) ++ channels(Session, Now, Held)
        ++ permissions(Session, Now, Held).

%% The address of a dual allocation that ends before the other.
refreshes(Session, Now, #held{expires = Expires} = Held) ->
    Last = last(Held),
    [meerkat_alloc_commands:refresh(Session, Family, Until - Now)
     || {Family, Until} <- maps:to_list(Expires), Until < Last].

%% A channel may outlive its permission.
channels(Session, Now, #held{channels = Channels, permissions = Permissions}) ->
    [meerkat_alloc_commands:channel(Session, Number, Peer, Until - Now,
                                    maps:get(Ip, Permissions, Now) - Now)
     || {Number, {{Ip, _} = Peer, Until}} <- maps:to_list(Channels)].

%% One command each: where a peer is forbidden by now, the whole command is refused.
permissions(Session, Now, #held{channels = Channels, permissions = Permissions}) ->
    Bound = [Ip || {{Ip, _}, _} <- maps:values(Channels)],
    [meerkat_alloc_commands:permit(Session, [Ip], Until - Now)
     || {Ip, Until} <- maps:to_list(maps:without(Bound, Permissions))].

%% The other way round: what a relay has, by the commands that would give it to another one.
-spec adopted([meerkat_ctl:message()], Peers :: non_neg_integer(), now()) -> held().
adopted(Commands, Peers, Now) ->
    lists:foldl(fun(Command, Held) -> adopt(Command, Now, Held) end, #held{peers = Peers},
                Commands).

adopt({alloc_create, #{pool_v4 := V4, pool_v6 := V6, lifetime_ms := Ms}}, Now, Held) ->
    extend([Family || {Family, Pool} <- [{4, V4}, {6, V6}], Pool =/= 0], Now + Ms, Held);
adopt({alloc_refresh, #{family := Family, lifetime_ms := Ms}}, Now, Held) ->
    extend([Family], Now + Ms, Held);
adopt({channel, #{number := Number, peer := {Ip, _} = Peer, lifetime_ms := Ms,
                  permission_ms := PermissionMs}}, Now, #held{channels = Channels} = Held) ->
    Bound = Held#held{channels = Channels#{Number => {Peer, Now + Ms}}},
    case PermissionMs of
        0 -> Bound;
        _ -> permitted(Ip, Now + PermissionMs, Bound)
    end;
adopt({permit, #{peers := Peers, lifetime_ms := Ms}}, Now, Held) ->
    lists:foldl(fun({Ip, _}, H) -> permitted(Ip, Now + Ms, H) end, Held, meerkat_ctl:peers(Peers));
adopt(_Other, _Now, Held) ->
    Held.

permitted(Ip, Until, #held{permissions = Permissions} = Held) ->
    Held#held{permissions = Permissions#{Ip => Until}}.

%% How often a peer was new, in all.
-spec peers(held()) -> non_neg_integer().
peers(#held{peers = Peers}) ->
    Peers.
