%% The processes requests go through: a fixed number of them, for they are many enough when every
%% scheduler has one, and too many can then never wait. And the one that counts allocations, and the
%% one that asks the database: each may be started anew without the others.
-module(meerkat_request_sup).
-behaviour(supervisor).

-export([start_link/1, size/0]).
-export([init/1]).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, Name) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec size() -> pos_integer().
size() ->
    erlang:system_info(schedulers).

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10},
          [#{id => quota, start => {meerkat_quota, start_link, [Name]}},
           #{id => lookups, start => {meerkat_lookups, start_link, [Name]}}]
              ++ [#{id => N, start => {meerkat_request, start_link, [Name, N]}}
                  || N <- lists:seq(0, size() - 1)]}}.
