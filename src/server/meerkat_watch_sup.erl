%% The processes of meerkat_watch, one for each watch. One that dies is not started anew: whoever
%% watched asks again.
-module(meerkat_watch_sup).
-behaviour(supervisor).

-export([start_link/1, start_watch/4]).
-export([init/1]).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, Name) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec start_watch(Name :: atom(), Id :: binary(), meerkat_watchers:who(),
                  Seconds :: pos_integer()) -> {ok, pid()} | {error, term()}.
start_watch(Name, Id, Who, Seconds) ->
    case supervisor:start_child(meerkat_roles:find(Name, watch_sup), [Id, Who, Seconds]) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    ok = meerkat_roles:take(Name, watch_sup),
    {ok, {#{strategy => simple_one_for_one, intensity => 1, period => 1},
          [#{id => watch,
             start => {meerkat_watch, start_link, [Name]},
             restart => temporary,
             shutdown => brutal_kill}]}}.
