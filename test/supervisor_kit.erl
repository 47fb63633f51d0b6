%% A supervisor of whatever children a case wants, linked to it.
-module(supervisor_kit).
-behaviour(supervisor).

-export([start/1]).
-export([init/1]).

-spec start([supervisor:child_spec()]) -> {ok, pid()} | {error, term()}.
start(Children) ->
    supervisor:start_link(?MODULE, Children).

-spec init([supervisor:child_spec()]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Children) ->
    {ok, {#{strategy => one_for_one}, Children}}.
