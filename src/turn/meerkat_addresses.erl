%% Whether this machine has the addresses that clients are told: the relay looks, and says so at its
%% start and whenever they change (`host` in ctl.def). Here it becomes a line in the log, a reason
%% not to be ready, and word for whoever follows the change (meerkat_follow).
-module(meerkat_addresses).

-include_lib("kernel/include/logger.hrl").

-export([heard/2, follow/1, missing/1]).

-export_type([reason/0]).

%% `host_unknown`: the kernel does not tell its addresses, so nobody is relayed to. `no_address`:
%% none of a family's relay addresses is one of this machine, or no listener's.
-type reason() :: host_unknown | no_address.

%% What the relay says.
-spec heard(Name :: atom(), Fields :: map()) -> ok.
heard(Name, #{known := Known, pools := Pools, listeners := Listeners, detail := Detail}) ->
    Now = #{known => Known =:= 1, pools => ids(Pools), listeners => ids(Listeners)},
    Before = state(Name),
    report_host(Before, Now, Detail),
    #{relays := Relays, listeners := Listening} = meerkat_registry:settings(Name),
    report(maps:get(pools, Before), maps:get(pools, Now),
           [{Pool, meerkat_text:ip(Local)} || #{pool := Pool, local := Local} <- Relays],
           "nothing is relayed from there", "relaying from there"),
    report(maps:get(listeners, Before), maps:get(listeners, Now),
           [{Id, meerkat_text:ip(Ip)} || #{id := Id, local := {Ip, _}} <- Listening],
           "no client arrives there", "clients arrive there"),
    ok = meerkat_store:put(Name, ?MODULE, host, Now),
    case meerkat_roles:find(Name, follower) of
        none -> ok;
        Follower -> Follower ! host_changed, ok
    end.

ids(Bytes) -> [Id || <<Id:32>> <= Bytes].

state(Name) ->
    meerkat_store:get(Name, ?MODULE, host, #{known => true, pools => [], listeners => []}).

report_host(#{known := Same}, #{known := Same}, _Detail) ->
    ok;
report_host(_Before, #{known := true}, _Detail) ->
    ?LOG_NOTICE("the kernel tells this machine's addresses again: peers are reached as before");
report_host(_Before, #{known := false}, Detail) ->
    ?LOG_ERROR("the kernel does not tell this machine's addresses (~ts): no peer is permitted "
               "until it does; netlink (AF_NETLINK) must be allowed",
               [meerkat_text:escape(Detail)]).

report(Before, Now, Known, WhatIsNot, WhatIs) ->
    _ = [?LOG_WARNING("~ts is no address of this machine now: ~ts until it is", [Ip, WhatIsNot])
         || {Id, Ip} <- Known, lists:member(Id, Now), not lists:member(Id, Before)],
    _ = [?LOG_NOTICE("~ts is an address of this machine again: ~ts", [Ip, WhatIs])
         || {Id, Ip} <- Known, lists:member(Id, Before), not lists:member(Id, Now)],
    ok.

%% The calling process gets `host_changed` after each change.
-spec follow(Name :: atom()) -> ok.
follow(Name) ->
    meerkat_roles:take(Name, follower).

%% Why clients cannot be served at what they are told; nothing where they can.
-spec missing(Name :: atom()) -> [reason()].
missing(Name) ->
    #{relays := Relays, listeners := Listeners} = meerkat_registry:settings(Name),
    #{known := Known, pools := Pools, listeners := Away} = state(Name),
    Relayed = maps:groups_from_list(fun(#{local := Ip}) -> tuple_size(Ip) end,
                                    fun(#{pool := Pool}) -> Pool end, Relays),
    IsGone = Relays =:= []
        orelse lists:any(fun(Family) -> Family -- Pools =:= [] end, maps:values(Relayed))
        orelse [Id || #{id := Id} <- Listeners] -- Away =:= [],
    [host_unknown || not Known] ++ [no_address || IsGone].
