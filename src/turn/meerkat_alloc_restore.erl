%% Makes an allocation anew where one side has lost it. A relay that was started in place of a dead
%% one is given commands that make it again (create/2, then commands/2). A VM that was started in
%% place of a dead one is told these commands by the relay that went on. What the relay does not
%% work with itself it keeps as a note (NOTE of ctl.def) and gives back (kept/2, adopted/5). Pure.
-module(meerkat_alloc_restore).

-include("meerkat_alloc_state.hrl").

-export([create/2, commands/2]).
-export([kept/2, adopted/5, places/1, waiting/1]).

-export_type([kept/0]).

-type alloc() :: meerkat_alloc_core:alloc().
-type place() :: meerkat_alloc_core:place().
%% Milliseconds of a monotonic clock.
-type now() :: integer().

%%% To another relay. What clients and peers hold stays: the relayed address, and the rest for the
%%% time it had left.

%% Its addresses; `over` where their time is.
-spec create(now(), alloc()) -> meerkat_ctl:message() | over.
create(Now, #alloc{session = Session, plan = Plan, mobility = Mobility, held = Held} = Alloc) ->
    case meerkat_alloc_held:last(Held) of
        Last when Last =< Now ->
            over;
        Last ->
            {Pool4, Port4} = relayed_from(4, Alloc),
            {Pool6, Port6} = relayed_from(6, Alloc),
            meerkat_alloc_commands:create(Session, Plan, meerkat_alloc_mobility:place(Mobility), #{
                pool_v4 => Pool4, pool_v6 => Pool6, port_v4 => Port4, port_v6 => Port6,
                even => 0, token => 0, lifetime_ms => Last - Now})
    end.

relayed_from(Family, #alloc{held = Held, relayed = Relayed}) ->
    case {meerkat_alloc_held:has(Family, Held), lists:keyfind(Family, 1, Relayed)} of
        {true, {Family, Pool, {_, Port}}} -> {Pool, Port};
        _ -> {0, 0}
    end.

%% The rest, once the addresses of all that are replayed are there.
-spec commands(now(), alloc()) -> [meerkat_ctl:message()].
commands(Now, #alloc{session = Session, held = Held, mobility = Mobility}) ->
    Next = meerkat_alloc_mobility:next(Mobility),
    meerkat_alloc_held:commands(Session, Now, Held)
        ++ [meerkat_alloc_commands:move(Session, Next) || Next =/= none].

%%% To another VM

-type kept() :: {meerkat_alloc_admit:plan(), [meerkat_alloc_core:relayed()],
                 meerkat_alloc_core:counters(), Peers :: non_neg_integer(),
                 meerkat_alloc_mobility:kept()}.

-spec kept(now(), alloc()) -> kept().
kept(Now, #alloc{plan = Plan, relayed = Relayed, before = Before, held = Held,
                 mobility = Mobility}) ->
    {Plan, Relayed, Before, meerkat_alloc_held:peers(Held),
     meerkat_alloc_mobility:kept(Now, Mobility)}.

-spec adopted(Session :: non_neg_integer(), kept(), [meerkat_ctl:message(), ...],
              Key :: none | meerkat_ticket:key(), now()) -> alloc().
adopted(Session, {Plan, Relayed, Before, Peers, Moves}, Commands, Key, Now) ->
    [Place | Next] = [maps:with([listener, transport, client, server], At)
                      || {Command, At} <- Commands,
                         Command =:= alloc_create orelse Command =:= alloc_move],
    Mobility = meerkat_alloc_mobility:adopted(Moves, Place, hd(Next ++ [none]), Key, Now),
    #alloc{session = Session, plan = Plan, relayed = Relayed, before = Before, asked = Now,
           mobility = Mobility, tcp = meerkat_alloc_tcp:adopted(Commands),
           held = meerkat_alloc_held:adopted(Commands, Peers, Now)}.

%% Where its client is, and where it may go.
-spec places(alloc()) -> [place(), ...].
places(#alloc{mobility = Mobility}) ->
    Next = meerkat_alloc_mobility:next(Mobility),
    [meerkat_alloc_mobility:place(Mobility) | [Next || Next =/= none]].

%% Its connections with peers: those that a ConnectionBind may name, and how many there are in all.
-spec waiting(alloc()) -> {[meerkat_alloc_tcp:connection()], non_neg_integer()}.
waiting(#alloc{tcp = Tcp}) ->
    {meerkat_alloc_tcp:waiting(Tcp), meerkat_alloc_tcp:count(Tcp)}.
