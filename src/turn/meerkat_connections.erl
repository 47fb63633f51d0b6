%% The connections with peers over TCP (RFC 6062) of all allocations: whose a CONNECTION-ID is, and
%% how many each user has. An allocation's process writes its own rows; the rows of a process that
%% was killed are deleted by who finds that out.
%%
%%   {Id, Session, Pid}              one that waits for a ConnectionBind
%%   {{session, Session}, User, N}   N > 0
%%   {{user, User}, N}               of all their sessions
-module(meerkat_connections).

-export([enter/4, leave/3, find/2, set/4, counted/2, total/1, bury/2]).

-type session() :: non_neg_integer().
-type user() :: meerkat_quota:of_realm().

%% The connection waits from here on; `taken` where another has that number.
-spec enter(Name :: atom(), meerkat_alloc_tcp:connection(), session(), pid()) -> ok | taken.
enter(Name, Id, Session, Pid) ->
    case ets:insert_new(table(Name), {Id, Session, Pid}) of
        true -> ok;
        false -> taken
    end.

%% It waits no longer.
-spec leave(Name :: atom(), meerkat_alloc_tcp:connection(), session()) -> ok.
leave(Name, Id, Session) ->
    true = ets:match_delete(table(Name), {Id, Session, '_'}),
    ok.

%% Whose it is that waits under this number.
-spec find(Name :: atom(), non_neg_integer()) -> {session(), pid()} | none.
find(Name, Id) ->
    case ets:lookup(table(Name), Id) of
        [{_, Session, Pid}] -> {Session, Pid};
        [] -> none
    end.

%% So many connections of every kind the session has now. Two sessions of a user that begin one at
%% the same moment may both have seen the same number of them.
-spec set(Name :: atom(), session(), user(), non_neg_integer()) -> ok.
set(Name, Session, User, N) ->
    Table = table(Name),
    Before = case ets:lookup(Table, {session, Session}) of
        [{_, _, Counted}] -> Counted;
        [] -> 0
    end,
    _ = case N of
        0 -> ets:delete(Table, {session, Session});
        _ -> ets:insert(Table, {{session, Session}, User, N})
    end,
    add(Table, User, N - Before).

add(_Table, _User, 0) ->
    ok;
add(Table, User, More) ->
    case ets:update_counter(Table, {user, User}, More, {{user, User}, 0}) of
        0 -> true = ets:match_delete(Table, {{user, User}, 0}), ok;
        _ -> ok
    end.

-spec counted(Name :: atom(), user()) -> non_neg_integer().
counted(Name, User) ->
    case ets:lookup(table(Name), {user, User}) of
        [{_, N}] -> N;
        [] -> 0
    end.

-spec total(Name :: atom()) -> non_neg_integer().
total(Name) ->
    lists:sum(ets:select(table(Name), [{{{session, '_'}, '_', '$1'}, [], ['$1']}])).

%% Nothing of that session is left. Its process is gone.
-spec bury(Name :: atom(), session()) -> ok.
bury(Name, Session) ->
    Table = table(Name),
    true = ets:match_delete(Table, {'_', Session, '_'}),
    case ets:lookup(Table, {session, Session}) of
        [{_, User, _}] -> set(Name, Session, User, 0);
        [] -> ok
    end.

table(Name) ->
    meerkat_registry:table(Name, connections).
