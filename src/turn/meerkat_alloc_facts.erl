%% What others are told of an allocation: administrators and logs (details/2), and who keeps account
%% (facts/1). Pure.
-module(meerkat_alloc_facts).

-include("meerkat_alloc_state.hrl").

-export([protocol/1, details/2, facts/1]).

-type alloc() :: meerkat_alloc_core:alloc().
-type address() :: {inet:ip_address(), inet:port_number()}.

%% What it relays.
-spec protocol(alloc()) -> udp | tcp.
protocol(#alloc{plan = #{protocol := 6}}) -> tcp;
protocol(#alloc{}) -> udp.

%% What an administrator may see: with the time that is left to each permission and channel, and how
%% many peers have been permitted in all (meerkat_alloc_held:view/2).
-spec details(alloc(), Now :: integer()) ->
    #{user := binary(), client := address(), transport := udp | tcp | tls | dtls,
      relayed := [address()], expires_ms := integer(),
      peers := non_neg_integer(),
      permissions := [#{peer := inet:ip_address(), expires_ms := integer()}],
      channels := [#{number := char(), peer := address(), expires_ms := integer()}],
      protocol := udp | tcp,
      %% With peers, of one that relays TCP.
      connections := [map()]}.
details(#alloc{plan = #{user := User}, mobility = Mobility, relayed = Relayed, tcp = Tcp,
               held = Held} = Alloc, Now) ->
    (meerkat_alloc_held:view(Now, meerkat_alloc_held:prune(Now, Held)))#{
        protocol => protocol(Alloc),
        connections => meerkat_alloc_tcp:view(Tcp),
        user => User,
        client => meerkat_alloc_mobility:client(Mobility),
        transport => meerkat_ctl:transport_kind(
            maps:get(transport, meerkat_alloc_mobility:place(Mobility))),
        relayed => [Address || {_, _, Address} <- Relayed]}.

%% What is told of it to who keeps account (meerkat_ledger), but for its age.
-spec facts(alloc()) -> map().
facts(#alloc{plan = #{user := User, lifetime := Lifetime} = Plan, mobility = Mobility,
             relayed = Relayed} = Alloc) ->
    #{client := Client, server := Server, transport := Transport} =
        meerkat_alloc_mobility:place(Mobility),
    #{user => User, realm => maps:get(realm, Plan, default), client => Client, server => Server,
      transport => meerkat_ctl:transport_kind(Transport), protocol => protocol(Alloc),
      lifetime => Lifetime, relayed => [Address || {_, _, Address} <- Relayed]}.
