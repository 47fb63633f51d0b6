%% What the relay answers by itself within a grant (meerkat_grants), as the allocation sees it:
%% whether it may, and what has become of the allocation where it did. Pure.
-module(meerkat_alloc_granted).

-include("meerkat_alloc_state.hrl").

-export([is_grantable/1, granted/2]).

-type alloc() :: meerkat_alloc_core:alloc().

%% May the relay answer requests by itself? Not where TCP is relayed: what it may do are channels
%% and addresses of datagrams. Not while a port is reserved: nobody may redeem it any more once the
%% client has the answer that all is over, and that is for us to see to.
-spec is_grantable(alloc()) -> boolean().
is_grantable(#alloc{token = Token} = Alloc) ->
    meerkat_alloc_facts:protocol(Alloc) =:= udp andalso Token =:= 0.

%% What the relay has answered by itself, oldest first; before any event that goes by what there is.
%% With a Refresh that ends it the 5-tuple is free, and SESSION_GONE is awaited.
-spec granted([meerkat_grants:granted()], alloc()) -> {alloc(), [meerkat_alloc_core:effect()]}.
granted(Granted, Alloc) ->
    lists:foldl(fun({At, Fields}, {Before, Effects}) ->
        {After, More} = granted(Fields, At, Before),
        {counted(Fields, At, After), Effects ++ More}
    end, {Alloc, []}, Granted).

granted(_Fields, _At, #alloc{awaiting = deleted} = Alloc) ->
    {Alloc, []};
granted(#{method := 4, lifetime_s := 0}, _At, #alloc{awaiting = Awaiting} = Alloc) ->
    %% The request it has in hand was answered along with a command whose reply does not come.
    {Alloc#alloc{awaiting = deleted},
     [{answer, none} || is_tuple(Awaiting), element(1, Awaiting) =/= replay]
         ++ [forgotten | meerkat_alloc_core:release(Alloc)]};
granted(Fields, At, #alloc{held = Held} = Alloc) ->
    {(outdated(Fields, Alloc))#alloc{held = meerkat_alloc_held:granted(Fields, At, Held)}, []}.

%% The relay does nothing by itself while it has a request for us: a Refresh whose reply is still
%% awaited was done before this one.
outdated(#{method := 4}, #alloc{awaiting = {refresh, _, Lifetime, Ticket}} = Alloc) ->
    Alloc#alloc{awaiting = {refresh, [], Lifetime, Ticket}};
outdated(_Fields, Alloc) ->
    Alloc.

%% What it had counted by then, lest it die with the relay.
counted(#{counters := <<>>}, _At, Alloc) ->
    Alloc;
counted(#{counters := Counters}, At, Alloc) ->
    Seen = maps:from_list(nonzero(meerkat_ctl:session_counters(), Counters)),
    Alloc#alloc{seen = Seen, asked = At}.

nonzero([_ | Names], <<0:64, Counters/binary>>) -> nonzero(Names, Counters);
nonzero([Name | Names], <<N:64, Counters/binary>>) -> [{Name, N} | nonzero(Names, Counters)];
nonzero([], <<>>) -> [].
