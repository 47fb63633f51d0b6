%% Starts a server of the application again when it has ended because its relay died again and
%% again: without its allocations, which may have been the cause, and at most twice within ten
%% minutes. Each server has a supervisor like this.
-module(meerkat_lives_sup).
-behaviour(supervisor).

-export([start_link/1, server/1]).
-export([init/1]).

-define(LIVES, 2).
-define(SECONDS, 600).

%% Of the server of this child specification.
-spec start_link(supervisor:child_spec()) -> {ok, pid()} | {error, term()}.
start_link(Server) ->
    case supervisor:start_link(?MODULE, Server) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% The server's own supervisor, while it lives.
-spec server(pid()) -> pid() | none.
server(Lives) ->
    try supervisor:which_children(Lives) of
        [{_, Pid, _, _}] when is_pid(Pid) -> Pid;
        _ -> none
    catch
        exit:_ -> none          % the last one is over
    end.

-spec init(supervisor:child_spec()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Server) ->
    {ok, {#{strategy => one_for_one, intensity => ?LIVES, period => ?SECONDS}, [Server]}}.
