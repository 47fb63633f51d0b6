%% The fleet as a meerkat_beside: a server is a member of one while the key `fleet` says so. Nothing
%% of it can fail a reload.
-module(meerkat_fleet_beside).
-behaviour(meerkat_beside).

-export([child_specs/2, try_out/2, prepare/3, commit/1, rollback/1, changed/1, revoked/3, info/1,
         metrics/0]).

-type prepared() :: Name :: atom().

-spec child_specs(Name :: atom(), meerkat_settings:settings()) -> [supervisor:child_spec()].
child_specs(Name, Settings) ->
    meerkat_fleet_sup:child_specs(Name, Settings).

-spec try_out(meerkat_settings:settings(), meerkat_settings:settings()) -> ok.
try_out(_New, _Old) ->
    ok.

-spec prepare(Name :: atom(), meerkat_settings:settings(), meerkat_settings:settings()) ->
    {ok, prepared()}.
prepare(Name, _New, _Old) ->
    {ok, Name}.

-spec commit(prepared()) -> ok.
commit(Name) ->
    meerkat_fleet_sup:settle(Name).

-spec rollback(prepared()) -> ok.
rollback(_Name) ->
    ok.

-spec changed(Name :: atom()) -> ok.
changed(_Name) ->
    ok.

-spec revoked(Name :: atom(), User :: binary(), Until :: integer()) -> ok.
revoked(Name, User, Until) ->
    meerkat_fleet:revoked(Name, User, Until).

%% meerkat_fleet:info/1 tells its members; none where there is no fleet.
-spec info(Name :: atom()) -> #{fleet := map() | none}.
info(Name) ->
    #{fleet => meerkat_fleet:info(Name)}.

-spec metrics() -> [meerkat_beside:row()].
metrics() ->
    [{"fleet_members", gauge, [],
      "nodes that form a fleet with this one, itself among them (fleet)",
      of_fleet(fun(#{members := Members}) -> length(Members) end, 1)},
     {"fleet_missing", gauge, [], "nodes that the key fleet names and that are not there",
      of_fleet(fun(#{missing := Missing}) -> length(Missing) end, 0)},
     {"fleet_unanswered_total", counter, [],
      "questions to other nodes of the fleet that were not answered in time",
      of_fleet(fun(#{unanswered := N}) -> N end, 0)}].

of_fleet(Find, Alone) ->
    fun(#{fleet := none}) -> [{[], Alone}]; (#{fleet := Fleet}) -> [{[], Find(Fleet)}] end.
