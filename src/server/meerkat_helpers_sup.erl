%% Supervises what a node of Meerkat's own has beside its server: the socket for meerkatctl, and the
%% messages to systemd. They are restarted many times before they are given up, and the server goes
%% on without them.
-module(meerkat_helpers_sup).
-behaviour(supervisor).

-export([start_link/1]).
-export([init/1]).

-define(DEATHS, 20).
-define(SECONDS, 60).

-spec start_link([supervisor:child_spec()]) -> {ok, pid()} | {error, term()}.
start_link(Helpers) ->
    case supervisor:start_link(?MODULE, Helpers) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec init([supervisor:child_spec()]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Helpers) ->
    {ok, {#{strategy => one_for_one, intensity => ?DEATHS, period => ?SECONDS}, Helpers}}.
