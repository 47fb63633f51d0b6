%% Supervises the component of XMPP servers (XEP-0114), if xmpp_host is set. The relay goes on when
%% the component dies, and the component when the relay dies. If it dies too often the server goes
%% on without it.
-module(meerkat_xmpp_sup).
-behaviour(supervisor).

-include_lib("kernel/include/logger.hrl").

-export([child_specs/2, start_link/1, settle/1]).
-export([init/1]).

%% The child of meerkat_beside_sup, or none.
-spec child_specs(Name :: atom(), meerkat_settings:settings()) -> [supervisor:child_spec()].
child_specs(_Name, #{xmpp := none}) ->
    [];
child_specs(Name, #{xmpp := #{}}) ->
    [child_spec(Name)].

child_spec(Name) ->
    #{id => ?MODULE,
      start => {?MODULE, start_link, [Name]},
      restart => temporary,
      type => supervisor}.

%% Other settings are in force: starts or ends the component if they ask for that. A component that
%% stays is told of them by meerkat_xmpp:changed/1.
-spec settle(Name :: atom()) -> ok.
settle(Name) ->
    case meerkat_registry:settings(Name) of
        #{xmpp := none} ->
            ok = meerkat_beside_sup:stop_child(Name, ?MODULE),
            meerkat_xmpp:forget(Name);
        #{xmpp := #{}} ->
            _ = [?LOG_ERROR("no XMPP component: ~ts",
                            [meerkat:format_error(Reason)])
                 || {error, Reason} <- [meerkat_beside_sup:start_child(Name, child_spec(Name))]],
            ok
    end.

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, Name) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% meerkat_xmpp itself starts failed connections again; restarts here are for faults in our code.
-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    {ok, {#{strategy => one_for_one, intensity => 20, period => 60},
          [#{id => meerkat_xmpp, start => {meerkat_xmpp, start_link, [Name]}}]}}.
