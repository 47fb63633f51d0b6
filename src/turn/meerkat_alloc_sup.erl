%% Allocations, one process each. One that dies is not started again: what it knew is gone, and its
%% client allocates again. What those who start and count them tell a process is here too, and not
%% in meerkat_alloc, which calls them.
-module(meerkat_alloc_sup).
-behaviour(supervisor).

-export([start_link/1, start_alloc/2, allocate/3, adopt/3, replaced/1]).
-export([init/1]).

%% Words, as in meerkat_request: all allocations pass here.
-define(HEAP, 16384).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, Name) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% Starts the process of an allocation to be, which waits for allocate/3.
-spec start_alloc(Name :: atom(), Session :: non_neg_integer()) -> {ok, pid()} | {error, term()}.
start_alloc(Name, Session) ->
    started(supervisor:start_child(meerkat_roles:find(Name, alloc_sup), [Session])).

%% The process makes the allocation of Plan and answers the Allocate in Job; if its user or the
%% server may have no more, it only answers.
-spec allocate(pid(), meerkat_alloc_admit:plan(), meerkat_request:job()) -> ok.
allocate(Pid, Plan, Job) ->
    Pid ! {allocate, Plan, Job},
    ok.

%% The process ends its allocation, whose place a newer one of its user has got. Nobody waits for
%% that.
-spec replaced(pid()) -> ok.
replaced(Pid) ->
    gen_statem:cast(Pid, replaced).

%% Starts the process of one that is in the relay already.
-spec adopt(Name :: atom(), Session :: non_neg_integer(), meerkat_alloc:adopted()) ->
    {ok, pid()} | {error, term()}.
adopt(Name, Session, Adopted) ->
    started(supervisor:start_child(meerkat_roles:find(Name, alloc_sup), [Session, Adopted])).

started({ok, Pid}) when is_pid(Pid) -> {ok, Pid};
started({error, Reason}) -> {error, Reason}.

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    ok = meerkat_roles:take(Name, alloc_sup),
    _ = process_flag(min_heap_size, ?HEAP),
    {ok, {#{strategy => simple_one_for_one, intensity => 1, period => 1},
          [#{id => alloc,
             start => {meerkat_alloc, start_link, [Name]},
             restart => temporary,
             shutdown => brutal_kill}]}}.
