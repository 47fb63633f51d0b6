%% What makes one server a member of a fleet, where the key `fleet` is set. If it cannot be kept
%% alive the server goes on alone.
-module(meerkat_fleet_sup).
-behaviour(supervisor).

-include_lib("kernel/include/logger.hrl").

-export([child_specs/2, settle/1, start_link/1]).
-export([init/1]).

%% The child of meerkat_beside_sup, or none.
-spec child_specs(Name :: atom(), meerkat_settings:settings()) -> [supervisor:child_spec()].
child_specs(_Name, #{fleet := []}) ->
    [];
child_specs(Name, #{fleet := [_ | _]}) ->
    [#{id => ?MODULE,
       start => {?MODULE, start_link, [Name]},
       restart => temporary,
       type => supervisor}].

%% Other settings are in force: the server joins, leaves, or looks for others.
-spec settle(Name :: atom()) -> ok.
settle(Name) ->
    case child_specs(Name, meerkat_registry:settings(Name)) of
        [] ->
            ok = meerkat_beside_sup:stop_child(Name, ?MODULE),
            ok = meerkat_fleet_quota:forget(Name),
            ok = meerkat_fleet_load:forget(Name),
            meerkat_fleet:forget(Name);
        [Spec] ->
            _ = [?LOG_ERROR("no fleet: ~ts", [meerkat:format_error(Reason)])
                 || {error, Reason} <- [meerkat_beside_sup:start_child(Name, Spec)]],
            ok = meerkat_fleet_quota:again(Name),
            ok = meerkat_fleet_load:again(Name),
            meerkat_fleet_seeker:seek(Name)
    end.

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, Name) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% The group is left with the process that joined it; who joins anew tells of itself again.
-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    {ok, {#{strategy => rest_for_one, intensity => 20, period => 60},
          [#{id => pg, start => {pg, start_link, [meerkat_fleet:scope(Name)]}},
           #{id => meerkat_fleet, start => {meerkat_fleet, start_link, [Name]}},
           #{id => meerkat_fleet_quota, start => {meerkat_fleet_quota, start_link, [Name]}},
           #{id => meerkat_fleet_load, start => {meerkat_fleet_load, start_link, [Name]}},
           #{id => meerkat_fleet_seeker, start => {meerkat_fleet_seeker, start_link, [Name]}}]}}.
