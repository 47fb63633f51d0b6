%% Which servers there are, each with the settings it goes by and the tables of its modules. This
%% process owns the tables and does nothing else, so that nothing can happen to them; reading and
%% writing is done by whoever calls, without it. What is in a table, the module that it is for says:
%% meerkat_alloc_table (sessions, tuples), meerkat_roles, meerkat_store, meerkat_quota,
%% meerkat_grants, meerkat_connections, meerkat_lookups.
-module(meerkat_registry).
-behaviour(gen_server).

-export([start_link/1, keep/3, is_kept/2, await_end/1, drop/1, drop/2]).
-export([settings/1, replace/2, is_running/1, while_running/2, table/2, answers/1, supervisors/1,
         clock_offset/1]).
-export([init/1, handle_call/3, handle_cast/2, terminate/2]).

-export_type([table/0]).

-type table() :: sessions | tuples | roles | store | quota | granted | connections | lookups.

%% A supervisor that was killed has children for a moment.
-define(END_MS, 5000).

%% With the settings that are kept for Name.
-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% Settings that outlive the server and all its processes, until drop/1: whoever starts it anew
%% from the same Spec finds those that were in force last, and what meerkat_store was to let last.
%% There is no server of that name when this is called.
-spec keep(Name :: atom(), Spec :: reference(), meerkat_settings:settings()) -> ok.
keep(Name, Spec, Settings) ->
    ok = meerkat_store:forget(Name),
    persistent_term:put({?MODULE, Name}, #{spec => Spec, settings => Settings}).

-spec is_kept(Name :: atom(), Spec :: reference()) -> boolean().
is_kept(Name, Spec) ->
    case persistent_term:get({?MODULE, Name}, none) of
        #{spec := Spec} -> true;
        _ -> false
    end.

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
    meerkat_store:forget(Name).

%% Unless another specification's are kept by now.
-spec drop(Name :: atom(), Spec :: reference()) -> ok.
drop(Name, Spec) ->
    case is_kept(Name, Spec) of
        true -> drop(Name);
        false -> ok
    end.

%% The settings of a running server; badarg if there is none of that name.
-spec settings(Name :: atom()) -> meerkat_settings:settings().
settings(Name) ->
    #{owner := _} = here(Name),
    maps:get(settings, persistent_term:get({?MODULE, Name})).

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

%% What Fun says of a server; `stopped` where there is none of that name, or where it ends while Fun
%% asks it: then tables and processes are gone, one after the other, and asking any of them fails.
-spec while_running(Name :: atom(), fun(() -> Said)) -> {ok, Said} | stopped.
while_running(Name, Fun) ->
    try
        {ok, Fun()}
    catch
        Class:Reason:Stack ->
            case is_running(Name) of
                true -> erlang:raise(Class, Reason, Stack);
                false -> stopped
            end
    end.

%% badarg if there is no server of that name.
-spec table(Name :: atom(), table()) -> ets:table().
table(Name, Table) ->
    maps:get(Table, here(Name)).

%% How requests ended.
-spec answers(Name :: atom()) -> meerkat_answers:answers().
answers(Name) ->
    maps:get(answers, here(Name)).

%% The server's own supervisor, and the one above it.
-spec supervisors(Name :: atom()) -> [pid() | atom()].
supervisors(Name) ->
    lists:sublist(maps:get(ancestors, here(Name)), 2).

%% That of the machine's clock when the server began.
-spec clock_offset(Name :: atom()) -> meerkat_clock:offset().
clock_offset(Name) ->
    maps:get(clock_offset, here(Name)).

here(Name) ->
    persistent_term:get({meerkat, Name}).

%% gen_server.

-spec init(atom()) -> {ok, atom()} | {stop, term()}.
init(Name) ->
    _ = process_flag(trap_exit, true),
    case is_running(Name) of
        true -> {stop, {shutdown, "a server of this name is running"}};
        false ->
            Options = [public, {read_concurrency, true}, {write_concurrency, true}],
            Store = ets:new(meerkat_store, Options),
            true = ets:insert(Store, meerkat_store:lasting(Name)),
            persistent_term:put({meerkat, Name},
                                #{owner => self(),
                                  clock_offset => meerkat_clock:offset(),
                                  ancestors => get('$ancestors'),
                                  sessions => ets:new(meerkat_sessions, Options),
                                  tuples => ets:new(meerkat_tuples, Options),
                                  roles => ets:new(meerkat_roles, Options),
                                  store => Store,
                                  quota => ets:new(meerkat_quota, Options),
                                  granted => ets:new(meerkat_grants, [duplicate_bag | Options]),
                                  connections => ets:new(meerkat_connections, Options),
                                  lookups => ets:new(meerkat_lookups, [{keypos, 2} | Options]),
                                  answers => meerkat_answers:new()}),
            {ok, Name}
    end.

-spec handle_call(term(), gen_server:from(), atom()) -> {reply, ok, atom()}.
handle_call({settings, Settings}, _From, Name) ->
    Kept = persistent_term:get({?MODULE, Name}),
    %% One term for the running server and the next: each that is replaced has all processes looked
    %% through for the one before.
    ok = persistent_term:put({?MODULE, Name}, Kept#{settings := Settings()}),
    {reply, ok, Name};
handle_call(_Request, _From, Name) ->
    {reply, ok, Name}.

-spec handle_cast(term(), atom()) -> {noreply, atom()}.
handle_cast(_Request, Name) ->
    {noreply, Name}.

-spec terminate(term(), atom()) -> ok.
terminate(_Reason, Name) ->
    _ = persistent_term:erase({meerkat, Name}),
    ok.
