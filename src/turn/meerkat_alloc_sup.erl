%% Allocations, one process each. One that dies is not started anew: what it knew is gone, and its
%% client allocates again.
-module(meerkat_alloc_sup).
-behaviour(supervisor).

-export([start_link/1, start_alloc/4, adopt/3]).
-export([init/1]).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, Name) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% Starts the process that makes the allocation of Plan and answers the Allocate in Job; where
%% there may be no more of them, it does no more than answer.
-spec start_alloc(Name :: atom(), Session :: non_neg_integer(), meerkat_alloc_admit:plan(),
                  meerkat_request:job()) -> ok | {error, term()}.
start_alloc(Name, Session, Plan, Job) ->
    case supervisor:start_child(meerkat_roles:find(Name, alloc_sup), [Session, Plan, Job]) of
        {ok, _PidOrUndefined} -> ok;
        {error, Reason} -> {error, Reason}
    end.

%% Starts the process of one that is in the relay already.
-spec adopt(Name :: atom(), Session :: non_neg_integer(), meerkat_alloc:adopted()) ->
    {ok, pid()} | {error, term()}.
adopt(Name, Session, Adopted) ->
    case supervisor:start_child(meerkat_roles:find(Name, alloc_sup), [Session, Adopted]) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    ok = meerkat_roles:take(Name, alloc_sup),
    {ok, {#{strategy => simple_one_for_one, intensity => 1, period => 1},
          [#{id => alloc,
             start => {meerkat_alloc, start_link, [Name]},
             restart => temporary,
             shutdown => brutal_kill}]}}.
