%% Supervises HTTP, the XMPP component and the accounting of a server (meerkat_beside), as far as
%% they are configured. A reload starts and ends its children. They are temporary, and this
%% supervisor has a supervisor of its own (meerkat_beside_lives_sup). So the relay goes on when they
%% die, and they go on when the relay dies.
-module(meerkat_beside_sup).
-behaviour(supervisor).

-export([child_spec/1, start_link/1, start_child/2, stop_child/2]).
-export([init/1]).

%% The child of meerkat_beside_lives_sup.
-spec child_spec(Name :: atom()) -> supervisor:child_spec().
child_spec(Name) ->
    #{id => ?MODULE,
      start => {?MODULE, start_link, [Name]},
      type => supervisor}.

%% Error: {shutdown, Sentence} somewhere in the reason.
-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, Name) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% Starts the child, unless it runs.
-spec start_child(Name :: atom(), supervisor:child_spec()) -> ok | {error, term()}.
start_child(Name, Spec) ->
    try supervisor:start_child(meerkat_roles:find(Name, beside), Spec) of
        {ok, _Pid} -> ok;
        {error, {already_started, _Pid}} -> ok;
        {error, Reason} -> {error, Reason}
    catch
        exit:{noproc, _} ->
            {error, {shutdown, "what serves HTTP and XMPP was killed; the server must be started "
                               "anew"}}
    end.

-spec stop_child(Name :: atom(), Id :: module()) -> ok.
stop_child(Name, Id) ->
    try supervisor:terminate_child(meerkat_roles:find(Name, beside), Id) of
        ok -> ok;
        {error, not_found} -> ok
    catch
        exit:{noproc, _} -> ok
    end.

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    ok = meerkat_roles:take(Name, beside),
    {ok, {#{strategy => one_for_one},
          meerkat_beside:child_specs(Name, meerkat_registry:settings(Name))}}.
