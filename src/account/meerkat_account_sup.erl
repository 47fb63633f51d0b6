%% Supervises the accounting of one server, if a key says where records go: the sinks, and after
%% them the process that writes records, which is so ended first and can still give them its last
%% ones. If they fail too often the server goes on without accounting.
-module(meerkat_account_sup).
-behaviour(supervisor).

-include_lib("kernel/include/logger.hrl").

-export([child_specs/2, settle/1, start_link/1, start_sinks/1]).
-export([init/1]).

%% The child of meerkat_beside_sup, or none.
-spec child_specs(Name :: atom(), meerkat_settings:settings()) -> [supervisor:child_spec()].
child_specs(Name, Settings) ->
    [child_spec(Name) || map_size(meerkat_account_sink:wanted(Settings)) > 0].

child_spec(Name) ->
    #{id => ?MODULE,
      start => {?MODULE, start_link, [Name]},
      restart => temporary,
      type => supervisor}.

%% Other settings are in force: accounting begins, ends or goes by them.
-spec settle(Name :: atom()) -> ok.
settle(Name) ->
    case child_specs(Name, meerkat_registry:settings(Name)) of
        [] ->
            ok = meerkat_beside_sup:stop_child(Name, ?MODULE),
            ok = meerkat_roles:leave(Name, account),
            ok = meerkat_ledger:close(Name),
            meerkat_account_counts:forget(Name);
        [Spec] ->
            _ = [?LOG_ERROR("no accounting: ~ts", [meerkat:format_error(Reason)])
                 || {error, Reason} <- [meerkat_beside_sup:start_child(Name, Spec)]],
            meerkat_account:settle(Name)
    end.

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, {all, Name}) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec start_sinks(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_sinks(Name) ->
    case supervisor:start_link(?MODULE, {sinks, Name}) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% Sinks try again by themselves where a place takes nothing; this is for faults of ours.
-spec init({all | sinks, atom()}) ->
    {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init({sinks, Name}) ->
    ok = meerkat_roles:take(Name, account_sinks),
    {ok, {#{strategy => one_for_one, intensity => 20, period => 60}, []}};
init({all, Name}) ->
    {ok, {#{strategy => rest_for_one, intensity => 20, period => 60},
          [#{id => sinks, start => {?MODULE, start_sinks, [Name]}, type => supervisor},
           meerkat_account:child_spec(Name)]}}.
