%% Top of the application: the servers started with meerkat:start_server/2, side by side. One that
%% has given up on its relay is started once more without its allocations, which may have been the
%% reason, and once more; then the application ends.
-module(meerkat_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    {ok, {#{strategy => one_for_one, intensity => 2, period => 600}, []}}.
