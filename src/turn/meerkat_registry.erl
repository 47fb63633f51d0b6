%% Who is who in one server: its settings, and tables from 5-tuple and session id to processes.
%% This process owns the tables and does nothing else, so that nothing can happen to them; reading
%% and writing is done by whoever calls, without it.
-module(meerkat_registry).
-behaviour(gen_server).

-export([start_link/1, keep/3, is_kept/2, kept/1, await_end/1, drop/1]).
-export([settings/1, replace/2, is_running/1, count/1, sessions/1, quota/1]).
-export([five_tuple/1, enter/4, claim/4, forget/3, leave/3, bury/2, find/2, pid/2]).
-export([hold/4, release/2, holder/2]).
-export([put_note/3, note/2, notes/2, drop_note/2, answers/1]).
-export([init/1, handle_call/3, handle_cast/2, terminate/2]).

-export_type([five_tuple/0, key/0]).

%% Transport, client and server address, packed.
-type five_tuple() :: binary().
-type session() :: non_neg_integer().
%% What requests name an allocation by: a 5-tuple, or in a mobility ticket the session.
-type key() :: five_tuple() | session().

%% Notes that the next server from the same specification begins with: where it listens, what it
%% was started with, whether it is draining.
-define(LASTING, [listening, options, drain]).
%% A supervisor that was killed has children for a moment.
-define(END_MS, 5000).

%% With the settings that are kept for Name.
-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% Settings that outlive the server and all its processes, until drop/1: whoever starts it anew
%% from the same Spec finds those that were in force last, and listens where it did. There is no
%% server of that name when this is called.
-spec keep(Name :: atom(), Spec :: reference(), meerkat_settings:settings()) -> ok.
keep(Name, Spec, Settings) ->
    persistent_term:put({?MODULE, Name}, #{spec => Spec, settings => Settings, notes => []}).

-spec is_kept(Name :: atom(), Spec :: reference()) -> boolean().
is_kept(Name, Spec) ->
    case persistent_term:get({?MODULE, Name}, none) of
        #{spec := Spec} -> true;
        _ -> false
    end.

-spec kept(Name :: atom()) -> meerkat_settings:settings().
kept(Name) ->
    maps:get(settings, persistent_term:get({?MODULE, Name})).

%% Returns when the tables of a server that was killed are gone; or `false` where they do not go.
-spec await_end(Name :: atom()) -> boolean().
await_end(Name) ->
    case persistent_term:get({meerkat, Name}, none) of
        #{owner := Owner} ->
            Monitor = erlang:monitor(process, Owner),
            receive
                {'DOWN', Monitor, process, Owner, _} -> true
            after ?END_MS ->
                true = erlang:demonitor(Monitor, [flush]),
                false
            end;
        none ->
            true
    end.

-spec drop(Name :: atom()) -> ok.
drop(Name) ->
    _ = persistent_term:erase({?MODULE, Name}),
    ok.

%% The settings of a running server; badarg if there is none of that name.
-spec settings(Name :: atom()) -> meerkat_settings:settings().
settings(Name) ->
    maps:get(settings, here(Name)).

%% Other settings, seen by everybody from the next look on.
-spec replace(Name :: atom(), meerkat_settings:settings()) -> ok.
replace(Name, Settings) ->
    #{owner := Owner} = here(Name),
    gen_server:call(Owner, {settings, fun() -> Settings end}).

-spec is_running(Name :: atom()) -> boolean().
is_running(Name) ->
    case persistent_term:get({meerkat, Name}, none) of
        #{owner := Owner} -> is_process_alive(Owner);
        none -> false
    end.

%% Allocations there are, those coming and going included.
-spec count(Name :: atom()) -> non_neg_integer().
count(Name) ->
    ets:info(maps:get(sessions, here(Name)), size).

-spec sessions(Name :: atom()) -> [{session(), pid()}].
sessions(Name) ->
    ets:tab2list(maps:get(sessions, here(Name))).

%% The table of meerkat_quota.
-spec quota(Name :: atom()) -> ets:table().
quota(Name) ->
    maps:get(quota, here(Name)).

%% RFC 8656 2: the 5-tuple as the server sees it.
-spec five_tuple(meerkat_alloc_core:place()) -> five_tuple().
five_tuple(#{transport := Transport, client := {ClientIp, ClientPort},
             server := {ServerIp, ServerPort}}) ->
    <<Transport, ClientPort:16, ServerPort:16, (ip(ClientIp))/binary, (ip(ServerIp))/binary>>.

ip({A, B, C, D}) -> <<A, B, C, D>>;
ip({A, B, C, D, E, F, G, H}) -> <<A:16, B:16, C:16, D:16, E:16, F:16, G:16, H:16>>.

%% The allocation's process is Pid from here on.
-spec enter(Name :: atom(), five_tuple(), session(), pid()) -> ok.
enter(Name, FiveTuple, Session, Pid) ->
    #{sessions := Sessions, tuples := Tuples} = here(Name),
    true = ets:insert(Sessions, {Session, Pid}),
    true = ets:insert(Tuples, {FiveTuple, Session, Pid}),
    ok.

%% By this key too, unless it is another's.
-spec claim(Name :: atom(), key(), session(), pid()) -> ok.
claim(Name, Key, Session, Pid) ->
    _ = ets:insert_new(maps:get(tuples, here(Name)), {Key, Session, Pid}),
    ok.

%% The key is free, unless it is another session's by now; the session is still known.
-spec forget(Name :: atom(), key(), session()) -> ok.
forget(Name, Key, Session) ->
    Tuples = maps:get(tuples, here(Name)),
    case ets:lookup(Tuples, Key) of
        [{_, Session, _} = Row] ->
            true = ets:delete_object(Tuples, Row),
            ok;
        _ ->
            ok
    end.

-spec leave(Name :: atom(), key(), session()) -> ok.
leave(Name, Key, Session) ->
    true = ets:delete(maps:get(sessions, here(Name)), Session),
    forget(Name, Key, Session).

%% All rows of a session whose process was killed; whoever knew the keys is gone.
-spec bury(Name :: atom(), session()) -> ok.
bury(Name, Session) ->
    #{sessions := Sessions, tuples := Tuples} = here(Name),
    true = ets:delete(Sessions, Session),
    true = ets:match_delete(Tuples, {'_', Session, '_'}),
    ok.

%% A process that was killed leaves its rows behind: they end here, if nobody was sooner.
-spec find(Name :: atom(), key()) -> {session(), pid()} | none.
find(Name, Key) ->
    case ets:lookup(maps:get(tuples, here(Name)), Key) of
        [{_, Session, Pid}] ->
            case is_process_alive(Pid) of
                true ->
                    {Session, Pid};
                false ->
                    ok = leave(Name, Key, Session),
                    none
            end;
        [] ->
            none
    end.

-spec pid(Name :: atom(), session()) -> pid() | none.
pid(Name, Session) ->
    case ets:lookup(maps:get(sessions, here(Name)), Session) of
        [{_, Pid}] -> Pid;
        [] -> none
    end.

%% Reservation tokens: who may redeem one, and for which family. How long, the relay knows.
-spec hold(Name :: atom(), Token :: pos_integer(), meerkat_alloc_core:owner(), 4 | 6) -> ok.
hold(Name, Token, Owner, Family) ->
    put_note(Name, {token, Token}, {Owner, Family}).

-spec release(Name :: atom(), Token :: pos_integer()) -> ok.
release(Name, Token) ->
    drop_note(Name, {token, Token}).

-spec holder(Name :: atom(), Token :: non_neg_integer()) ->
    {meerkat_alloc_core:owner(), 4 | 6} | none.
holder(Name, Token) ->
    note(Name, {token, Token}).

%% What the processes of a server tell each other: where they are, which addresses were bound.
-spec put_note(Name :: atom(), Key :: term(), Value :: term()) -> ok.
put_note(Name, Key, Value) ->
    true = ets:insert(maps:get(notes, here(Name)), {Key, Value}),
    ok.

-spec note(Name :: atom(), Key :: term()) -> Value :: term() | none.
note(Name, Key) ->
    case ets:lookup(maps:get(notes, here(Name)), Key) of
        [{_, Value}] -> Value;
        [] -> none
    end.

%% Those whose key is {Kind, Key}.
-spec notes(Name :: atom(), Kind :: atom()) -> [{Key :: term(), Value :: term()}].
notes(Name, Kind) ->
    ets:select(maps:get(notes, here(Name)), [{{{Kind, '$1'}, '$2'}, [], [{{'$1', '$2'}}]}]).

-spec drop_note(Name :: atom(), Key :: term()) -> ok.
drop_note(Name, Key) ->
    true = ets:delete(maps:get(notes, here(Name)), Key),
    ok.

%% How requests ended.
-spec answers(Name :: atom()) -> meerkat_answers:answers().
answers(Name) ->
    maps:get(answers, here(Name)).

here(Name) ->
    persistent_term:get({meerkat, Name}).

%% gen_server.

-spec init(atom()) -> {ok, atom()} | {stop, term()}.
init(Name) ->
    _ = process_flag(trap_exit, true),
    case is_running(Name) of
        true -> {stop, {shutdown, "a server of this name is running"}};
        false ->
            #{settings := Settings, notes := Notes} = persistent_term:get({?MODULE, Name}),
            Options = [public, {read_concurrency, true}, {write_concurrency, true}],
            persistent_term:put({meerkat, Name},
                                #{settings => Settings,
                                  owner => self(),
                                  sessions => ets:new(meerkat_sessions, Options),
                                  tuples => ets:new(meerkat_tuples, Options),
                                  notes => ets:new(meerkat_notes, Options),
                                  quota => ets:new(meerkat_quota, Options),
                                  answers => meerkat_answers:new()}),
            _ = [ok = put_note(Name, Key, Value) || {Key, Value} <- Notes],
            {ok, Name}
    end.

-spec handle_call(term(), gen_server:from(), atom()) -> {reply, ok, atom()}.
handle_call({settings, Settings}, _From, Name) ->
    Kept = persistent_term:get({?MODULE, Name}),
    ok = persistent_term:put({?MODULE, Name}, Kept#{settings := Settings()}),
    ok = persistent_term:put({meerkat, Name}, (here(Name))#{settings := Settings()}),
    {reply, ok, Name};
handle_call(_Request, _From, Name) ->
    {reply, ok, Name}.

-spec handle_cast(term(), atom()) -> {noreply, atom()}.
handle_cast(_Request, Name) ->
    {noreply, Name}.

-spec terminate(term(), atom()) -> ok.
terminate(_Reason, Name) ->
    case persistent_term:get({?MODULE, Name}, none) of
        none -> ok;
        Kept ->
            Notes = [{Key, note(Name, Key)} || Key <- ?LASTING],
            persistent_term:put({?MODULE, Name}, Kept#{notes := Notes})
    end,
    _ = persistent_term:erase({meerkat, Name}),
    ok.
