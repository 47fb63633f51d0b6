%% Delivers accounting records from the spool to one place, in batches and in order. A batch that is
%% not taken is tried again, each time later, up to half a minute. A module of this behaviour knows
%% the place; its calls may take long, because nobody waits for this process.
-module(meerkat_account_sink).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([wanted/1, missing/1, child_spec/4, start_link/4, written/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([id/0]).

-type id() :: file | http | database | redis.
%% The settings of the sink that is called so, or `none` where it is not wanted.
-callback settings(Accounting :: map()) -> none | term().
%% Called again, with the settings, after any failure.
-callback open(Settings :: term()) -> {ok, Open :: term()} | {error, unicode:chardata()}.
%% ok: all lines are taken. Error: some may have been taken, and all will be sent again. It is the
%% end of a sentence.
-callback deliver([binary(), ...], Open :: term()) ->
    {ok, Open :: term()} | {error, unicode:chardata()}.
-callback close(Open :: term()) -> term().
%% What it cannot do without by these settings, as a Debian package, where that is not there.
-callback missing(Settings :: term()) -> [string()].

-record(state, {
    name :: atom(),
    id :: id(),
    module :: module(),
    dir :: file:filename_all(),
    reader :: meerkat_account_spool:reader(),
    at :: meerkat_account_spool:place(),
    written :: meerkat_account_spool:place(),  % the record that is to be written next
    open = none :: none | {open, term()},
    tries = 0 :: non_neg_integer(),             % that have failed since one did not
    timer = none :: none | reference()
}).

-define(BATCH, 500).
-define(LAST_MS, 3000).             % for what is left at the end of a server, and for the end
-define(AGAIN_MS, 1000).
-define(AGAIN_MAX_MS, 30000).

-define(SINKS, [{file, meerkat_account_file}, {http, meerkat_account_http},
                {database, meerkat_account_sql}, {redis, meerkat_account_redis}]).

%% The sinks that these settings ask for, each with what it goes by.
-spec wanted(meerkat_settings:settings()) -> #{id() => term()}.
wanted(#{accounting := Accounting}) ->
    maps:from_list([{Id, Settings} || {Id, Module} <- ?SINKS,
                                      Settings <- [Module:settings(Accounting)],
                                      Settings =/= none]).

%% Packages that sinks need which the settings ask for.
-spec missing(meerkat_settings:settings()) -> [string()].
missing(Settings) ->
    lists:usort(lists:append([(module(Id)):missing(Of)
                              || {Id, Of} <- maps:to_list(wanted(Settings))])).

module(Id) ->
    {Id, Module} = lists:keyfind(Id, 1, ?SINKS),
    Module.

%% One that has no cursor in Dir begins at record First. A place that does not answer is not waited
%% for longer than this at the end.
-spec child_spec(Name :: atom(), id(), file:filename_all(), First) -> supervisor:child_spec()
              when First :: meerkat_account_spool:place().
child_spec(Name, Id, Dir, First) ->
    #{id => Id, start => {?MODULE, start_link, [Name, Id, Dir, First]}, shutdown => ?LAST_MS}.

-spec start_link(Name :: atom(), id(), file:filename_all(), First) ->
    {ok, pid()} | {error, term()} when First :: meerkat_account_spool:place().
start_link(Name, Id, Dir, First) ->
    gen_server:start_link(?MODULE, {Name, Id, Dir, First}, []).

%% All before this record is written.
-spec written(pid(), meerkat_account_spool:place()) -> ok.
written(Pid, Next) ->
    Pid ! {written, Next},
    ok.

-spec init({atom(), id(), file:filename_all(), meerkat_account_spool:place()}) ->
    {ok, #state{}, {continue, more}}.
init({Name, Id, Dir, First}) ->
    _ = process_flag(trap_exit, true),
    At = case meerkat_account_spool:cursor(Dir, atom_to_list(Id)) of
        {ok, Kept} -> Kept;
        none -> First
    end,
    lists:foreach(fun(Key) -> ok = meerkat_account_counts:add(Name, {Key, Id}, 0) end,
                  [delivered, failures, lost]),
    ok = meerkat_account:began(Name, self()),
    {ok, passed(At, #state{name = Name, id = Id, module = module(Id), dir = Dir, at = At,
                           written = At, reader = meerkat_account_spool:reader(Dir, At)}),
     {continue, more}}.

-spec handle_continue(more, #state{}) ->
    {noreply, #state{}} | {noreply, #state{}, {continue, more}}.
handle_continue(more, State) ->
    more(State).

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, ok, #state{}}.
handle_call(_Request, _From, State) ->
    {reply, ok, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {noreply, #state{}, {continue, more}}.
handle_info({written, Next}, #state{timer = none} = State) ->
    {noreply, State#state{written = Next}, {continue, more}};
handle_info({written, Next}, State) ->
    {noreply, State#state{written = Next}};
handle_info({timeout, Timer, again}, #state{timer = Timer} = State) ->
    {noreply, State#state{timer = none}, {continue, more}};
handle_info(_Other, State) ->
    {noreply, State}.

%% The server ends, and its last records have just been written. If the place takes none now, the
%% next server delivers them.
-spec terminate(term(), #state{}) -> ok.
terminate(shutdown, #state{tries = 0} = State) ->
    Last = receive {written, Next} -> State#state{written = Next} after 0 -> State end,
    _ = closed(rest(Last, erlang:monotonic_time(millisecond) + ?LAST_MS)),
    ok;
terminate(_Reason, State) ->
    _ = closed(State),
    ok.

rest(State, Deadline) ->
    case erlang:monotonic_time(millisecond) < Deadline andalso more(State) of
        {noreply, Next, {continue, more}} -> rest(Next, Deadline);
        {noreply, Next} -> Next;
        false -> State
    end.

%%% Its work

more(#state{open = none} = State) ->
    case opened(State) of
        {ok, Open} -> more(State#state{open = {open, Open}});
        {error, Why} -> failed(Why, State)
    end;
more(#state{reader = Reader, written = Written} = State) ->
    case meerkat_account_spool:read(Reader, Written, ?BATCH) of
        done -> {noreply, State};
        {ok, Lines, Next} -> deliver(Lines, Next, State);
        {lost, N, Next} -> deliver_loss(N, Next, State);
        {error, Reason} -> failed(["the spool cannot be read: ", file:format_error(Reason)], State)
    end.

opened(#state{name = Name, id = Id, module = Module}) ->
    case wanted(meerkat_registry:settings(Name)) of
        #{Id := Settings} -> Module:open(Settings);
        #{} -> {error, "it is not configured any more"}
    end.

deliver(Lines, Next, #state{name = Name, id = Id, module = Module, at = At,
                            open = {open, Open}} = State) ->
    case Module:deliver(Lines, Open) of
        {ok, Still} ->
            ok = meerkat_account_counts:add(Name, {delivered, Id}, length(Lines)),
            Taken = taken(State#state{open = {open, Still}, reader = Next}),
            {noreply, passed(At + length(Lines), Taken), {continue, more}};
        {error, Why} ->
            failed(Why, closed(State))
    end.

%% Records that are not in the spool any more: one that says how many is delivered in their place.
deliver_loss(N, Next, #state{name = Name, id = Id, module = Module, at = At,
                             open = {open, Open}} = State) ->
    %% Of another server, or of another run, it is another record.
    Of = fun(Run) -> [Run, $-, atom_to_list(Id), $-, integer_to_list(At)] end,
    Context = meerkat_account:context(Name, Of),
    case Module:deliver([meerkat_account_record:line({lost, N}, Context)], Open) of
        {ok, Still} ->
            ?LOG_ERROR("accounting: ~b records are lost to ~s: there was no room for more in the "
                       "spool (accounting_spool_bytes)", [N, Id]),
            ok = meerkat_account_counts:add(Name, {lost, Id}, N),
            Taken = taken(State#state{open = {open, Still}, reader = Next}),
            {noreply, passed(At + N, Taken), {continue, more}};
        {error, Why} ->
            failed(Why, closed(State))
    end.

closed(#state{open = {open, Open}, module = Module} = State) ->
    _ = Module:close(Open),
    State#state{open = none};
closed(State) ->
    State.

passed(At, #state{name = Name, id = Id, dir = Dir} = State) ->
    _ = meerkat_account_spool:keep_cursor(Dir, atom_to_list(Id), At),
    ok = meerkat_account_counts:set(Name, {at, Id}, At),
    ok = meerkat_account:passed(Name, Id, At),
    State#state{at = At}.

taken(#state{tries = 0} = State) ->
    State;
taken(#state{name = Name, id = Id} = State) ->
    ?LOG_NOTICE("accounting: ~s takes records again", [Id]),
    ok = meerkat_account_counts:set(Name, {trouble, Id}, none),
    State#state{tries = 0}.

failed(Why, #state{name = Name, id = Id, tries = Tries, at = At, written = Written} = State) ->
    Sentence = unicode:characters_to_binary(Why),
    _ = Tries =:= 0 andalso
        ?LOG_WARNING("accounting: ~s takes no records: ~ts; ~b wait in the spool",
                     [Id, Sentence, Written - At]),
    ok = meerkat_account_counts:add(Name, {failures, Id}, 1),
    ok = meerkat_account_counts:set(Name, {trouble, Id}, Sentence),
    Ms = min(?AGAIN_MAX_MS, ?AGAIN_MS bsl min(Tries, 8)),
    {noreply, State#state{tries = Tries + 1, timer = erlang:start_timer(Ms, self(), again)}}.
