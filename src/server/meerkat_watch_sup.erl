%% The processes of meerkat_watch and of meerkat_capture, one for each watch or capture. One that
%% dies is not started anew: whoever watched asks again.
-module(meerkat_watch_sup).
-behaviour(supervisor).

-export([start_link/1, start_one/3]).
-export([init/1]).
%% Internal: of a child specification.
-export([start_child/3]).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, Name) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% A process of Module, by its start_link with the server's name and these arguments; none where
%% that says so.
-spec start_one(Name :: atom(), module(), [term()]) -> {ok, pid()} | none.
start_one(Name, Module, Args) ->
    case supervisor:start_child(meerkat_roles:find(Name, watch_sup), [Module, Args]) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {ok, undefined} -> none
    end.

-spec start_child(Name :: atom(), module(), [term()]) -> {ok, pid()} | ignore | {error, term()}.
start_child(Name, Module, Args) ->
    apply(Module, start_link, [Name | Args]).

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    ok = meerkat_roles:take(Name, watch_sup),
    {ok, {#{strategy => simple_one_for_one, intensity => 1, period => 1},
          [#{id => watch,
             start => {?MODULE, start_child, [Name]},
             restart => temporary,
             shutdown => 1000}]}}.
