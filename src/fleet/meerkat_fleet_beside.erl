%% The fleet as a meerkat_beside: a server is a member of one while the key `fleet` says so. A node
%% that was started for none can be of none.
-module(meerkat_fleet_beside).
-behaviour(meerkat_beside).

-export([child_specs/2, try_out/2, commit/1, changed/1, revoked/3, info/1, metrics/0]).

-spec child_specs(Name :: atom(), meerkat_settings:settings()) -> [supervisor:child_spec()].
child_specs(Name, Settings) ->
    meerkat_fleet_sup:child_specs(Name, Settings).

-spec try_out(meerkat_settings:settings(), meerkat_settings:settings()) ->
    ok | {error, unicode:chardata()}.
try_out(#{fleet := [_ | _]}, _Old) ->
    case meerkat_fleet_dist:may_join() of
        true -> ok;
        false -> {error, "this node was started without fleet, and the others cannot reach it: "
                         "nothing was changed; stop it and start it anew"}
    end;
try_out(#{fleet := []}, _Old) ->
    ok.

-spec commit(Name :: atom()) -> ok.
commit(Name) ->
    meerkat_fleet_sup:settle(Name).

%% The others are told at once where it is drained.
-spec changed(Name :: atom()) -> ok.
changed(Name) ->
    meerkat_fleet_load:again(Name).

-spec revoked(Name :: atom(), User :: binary(), Until :: integer()) -> ok.
revoked(Name, User, Until) ->
    meerkat_fleet:revoked(Name, User, Until).

%% meerkat_fleet:info/1 tells its members, and `unclaimed` what nobody answered of claims
%% (meerkat_elsewhere); none where there is no fleet.
-spec info(Name :: atom()) -> #{fleet := map() | none}.
info(Name) ->
    #{fleet => case meerkat_fleet:info(Name) of
        none -> none;
        Fleet -> Fleet#{unclaimed => meerkat_elsewhere:unanswered(Name)}
    end}.

-spec metrics() -> [meerkat_beside:row()].
metrics() ->
    [{"fleet_members", gauge, [],
      "nodes that form a fleet with this one, itself among them (fleet)",
      of_fleet(fun(#{members := Members}) -> length(Members) end, 1)},
     {"fleet_missing", gauge, [], "nodes that the key fleet names and that are not there",
      of_fleet(fun(#{missing := Missing}) -> length(Missing) end, 0)},
     {"fleet_unanswered_total", counter, [],
      "questions to other nodes of the fleet that were not answered in time",
      of_fleet(fun(#{unanswered := N}) -> N end, 0)},
     {"fleet_quota_unanswered_total", counter, [],
      "new allocations that the node's own counts let in, for the keeper of the user's count did "
      "not answer in time",
      of_fleet(fun(#{unclaimed := N}) -> N end, 0)}].

of_fleet(Find, Alone) ->
    fun(#{fleet := none}) -> [{[], Alone}]; (#{fleet := Fleet}) -> [{[], Find(Fleet)}] end.
