%% Writes the accounting records of one server's allocations. It is told of each allocation that
%% begins or ends (meerkat_ledger), and asks the relay now and then what the others have relayed. It
%% appends the records to the spool, from where sinks read them. Nobody waits for this process, and
%% it waits only for the disk and the relay.
-module(meerkat_account).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([child_spec/1, start_link/1, settle/1, began/2, passed/3, can_keep/1, can_keep/2,
         context/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {
    name :: atom(),
    dir :: file:filename_all(),
    spool :: meerkat_account_spool:spool(),
    sinks = #{} :: #{meerkat_account_sink:id() => Settings :: term()},
    passed = #{} :: #{meerkat_account_sink:id() => meerkat_account_spool:place()},
    live :: meerkat_account_live:live(),
    %% Lines that are not in the spool yet, newest first; and how many records were lost before
    %% them.
    pending = [] :: [binary()],
    count = 0 :: non_neg_integer(),
    lost = 0 :: non_neg_integer(),
    records = 0 :: non_neg_integer(),           % made by this process
    id :: binary(),                             % before their numbers
    blocked = none :: none | reference(),       % the disk takes nothing until then
    unsynced = none :: none | reference(),
    %% Processes of allocations that existed when this process began, and that were not asked yet.
    unasked :: [pid()],
    round :: reference()
}).

-define(FLUSH, 500).                % lines that are written at once, at least
-define(PENDING_MAX, 20000).
-define(AGAIN_MS, 1000).
-define(SYNC_MS, 1000).
-define(LAST_MS, 60000).
-define(ASK, 200).                  % allocations that are asked at once
-define(ASK_MS, 50).
-define(ROUNDS, 4).                 % in accounting_interval
-define(ROUND_MS, 15000).           % where there are no records in between

%% At the end of a server it writes a record for each allocation that is left.
-spec child_spec(Name :: atom()) -> supervisor:child_spec().
child_spec(Name) ->
    #{id => ?MODULE, start => {?MODULE, start_link, [Name]}, shutdown => ?LAST_MS}.

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% Other settings are in force.
-spec settle(Name :: atom()) -> ok.
settle(Name) ->
    cast(Name, settle).

%% A sink has begun, or begins again: it hears up to where records are written.
-spec began(Name :: atom(), Sink :: pid()) -> ok.
began(Name, Sink) ->
    cast(Name, {began, Sink}).

%% A sink is to have this record next.
-spec passed(Name :: atom(), meerkat_account_sink:id(), meerkat_account_spool:place()) -> ok.
passed(Name, Sink, Next) ->
    cast(Name, {passed, Sink, Next}).

cast(Name, Message) ->
    case meerkat_roles:find(Name, account) of
        none -> ok;
        Pid -> gen_server:cast(Pid, Message)
    end.

%% Whether a server that goes by the old settings can go by the new ones.
-spec can_keep(meerkat_settings:settings(), meerkat_settings:settings()) ->
    ok | {error, unicode:chardata()}.
can_keep(New, Old) ->
    case {directory(New), directory(Old)} of
        {Same, Same} -> can_keep(New);
        {_, Dir} -> {error, ["accounting_spool cannot change while records are kept in ", Dir,
                             ": stop the server and start it anew"]}
    end.

%% Whether these settings can be gone by; the error is a sentence.
-spec can_keep(meerkat_settings:settings()) -> ok | {error, unicode:chardata()}.
can_keep(Settings) ->
    case {meerkat_account_sink:missing(Settings), directory(Settings)} of
        {[_ | _] = Packages, _} ->
            {error, ["accounting needs Erlang libraries that are missing; Debian packages have "
                     "them: ", lists:join(" ", Packages)]};
        {[], none} ->
            {error, "accounting_spool must say where accounting records are to be kept: neither "
                    "STATE_DIRECTORY nor XDG_STATE_HOME nor HOME is set"};
        {[], Dir} ->
            case filelib:ensure_path(Dir) of
                ok -> try_writing(Dir);
                {error, Reason} -> unusable(Dir, Reason)
            end
    end.

try_writing(Dir) ->
    Try = filename:join(Dir, "try"),
    case file:write_file(Try, <<>>) of
        ok -> file:delete(Try);
        {error, Reason} -> unusable(Dir, Reason)
    end.

unusable(Dir, Reason) ->
    {error, ["accounting_spool: ", Dir, ": ", file:format_error(Reason)]}.

%% Each server of a node has a directory of its own.
directory(#{name := Name, accounting := #{spool := undefined}}) ->
    case meerkat_env:state_file(<<"accounting">>) of
        none -> none;
        Dir -> filename:join(Dir, atom_to_binary(Name))
    end;
directory(#{accounting := #{spool := Dir}}) ->
    Dir.

%% What every record of a server says, for one with this id, which may be made of the run's.
-spec context(Name :: atom(), Id :: binary() | fun((Instance :: binary()) -> iodata())) ->
    meerkat_account_record:context().
context(Name, Id) when is_function(Id, 1) ->
    context(Name, iolist_to_binary(Id(instance(Name))));
context(Name, Id) ->
    #{config := Config, usernames := Order} = meerkat_registry:settings(Name),
    {ok, Host} = inet:gethostname(),
    #{id => Id, instance => instance(Name), server => Name, host => list_to_binary(Host),
      now_ms => meerkat_clock:wall_ms(), realm => maps:get(realm, Config()), usernames => Order}.

%% Of this run of the server.
instance(Name) ->
    case meerkat_store:get(Name, ?MODULE, instance) of
        none ->
            Fresh = unique(),
            ok = meerkat_store:put(Name, ?MODULE, instance, Fresh),
            Fresh;
        Known ->
            Known
    end.

%% Grows with time, and is unique even if all servers of a fleet begin at the same moment.
unique() ->
    <<Drawn:32>> = crypto:strong_rand_bytes(4),
    iolist_to_binary(io_lib:format("~11.16.0b~8.16.0b", [meerkat_clock:wall_ms(), Drawn])).

%%% gen_server

-spec init(atom()) -> {ok, #state{}, {continue, begin_account}} | {stop, term()}.
init(Name) ->
    _ = process_flag(trap_exit, true),
    #{accounting := #{spool_bytes := Max}} = Settings = meerkat_registry:settings(Name),
    case can_keep(Settings) of
        ok ->
            Dir = directory(Settings),
            case meerkat_account_spool:open(Dir, Max) of
                {ok, Spool} -> {ok, begun(Name, Dir, Spool), {continue, begin_account}};
                {error, Sentence} -> {stop, {shutdown, lists:flatten(text(Sentence))}}
            end;
        {error, Sentence} ->
            {stop, {shutdown, text(Sentence)}}
    end.

text(Sentence) -> unicode:characters_to_list(Sentence).

begun(Name, Dir, Spool) ->
    ok = meerkat_roles:take(Name, account),
    ok = meerkat_ledger:keep(Name),
    IsNew = meerkat_store:get(Name, ?MODULE, instance) =:= none,
    Pids = [Pid || {_, Pid} <- meerkat_alloc_table:sessions(Name)],
    State = #state{name = Name, dir = Dir, spool = Spool, live = meerkat_account_live:new(),
                   id = unique(), unasked = Pids, round = round_in(0)},
    _ = Pids =/= [] andalso erlang:send_after(0, self(), ask),
    case IsNew of
        true -> record(on, State);
        false -> State
    end.

-spec handle_continue(begin_account, #state{}) -> {noreply, #state{}, timeout()}.
handle_continue(begin_account, #state{name = Name, spool = Spool} = State) ->
    %% Those of a process before this one may live.
    ok = meerkat_account_counts:set(Name, bytes, meerkat_account_spool:bytes(Spool)),
    ok = meerkat_account_counts:set(Name, trouble, none),
    then(flushed(settled(State))).

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, ok, #state{}, timeout()}.
handle_call(_Request, _From, State) ->
    {noreply, Next, Timeout} = then(State),
    {reply, ok, Next, Timeout}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}, timeout()}.
handle_cast(settle, State) ->
    then(settled(resized(State)));
handle_cast({began, Sink}, #state{spool = Spool} = State) ->
    ok = meerkat_account_sink:written(Sink, meerkat_account_spool:next(Spool)),
    then(State);
handle_cast({passed, Sink, Next}, #state{passed = Passed, sinks = Sinks} = State) ->
    Now = Passed#{Sink => Next},
    %% Files of the spool are deleted only after all sinks have said which record they need next.
    Spool = case [S || S <- maps:keys(Sinks), not is_map_key(S, Now)] of
        [] -> meerkat_account_spool:trim(lists:min(maps:values(Now)), State#state.spool);
        _ -> State#state.spool
    end,
    then(counted(State#state{passed = Now, spool = Spool})).

-spec handle_info(term(), #state{}) -> {noreply, #state{}, timeout()}.
handle_info({ledger, Event}, #state{name = Name} = State) ->
    ok = meerkat_ledger:taken(Name),
    then(heard(Event, State));
handle_info(timeout, State) ->
    then(flushed(State));
handle_info(ask, State) ->
    then(asked(State));
handle_info({timeout, Round, round}, #state{round = Round} = State) ->
    then(round_begins(State));
handle_info({timeout, Round, {page, Worker, From}}, #state{round = Round} = State) ->
    then(page(Worker, From, State));
handle_info({timeout, Timer, again}, #state{blocked = Timer} = State) ->
    then(flushed(State#state{blocked = none}));
handle_info({timeout, Timer, sync}, #state{unsynced = Timer, spool = Spool} = State) ->
    _ = meerkat_account_spool:sync(Spool),
    then(State#state{unsynced = none});
handle_info(_Other, State) ->
    then(State).

%% Pending lines are written when no message waits, or when there are FLUSH of them.
then(#state{blocked = none, count = Count} = State) when Count >= ?FLUSH ->
    then(flushed(State));
then(#state{blocked = none, count = Count} = State) when Count > 0 ->
    {noreply, State, 0};
then(State) ->
    {noreply, State, infinity}.

%% When the server ends, or a reload ends accounting, a record is written for each allocation that
%% is left, because nobody will hear of its end. When this process is only restarted none is.
-spec terminate(term(), #state{}) -> ok.
terminate(shutdown, #state{name = Name} = State) ->
    Spool = case is_alive(meerkat_roles:find(Name, account_sinks)) of
        true -> ended(State);
        false -> (flushed(State))#state.spool       % and begins again
    end,
    meerkat_account_spool:close(Spool);
terminate(_Reason, State) ->
    #state{spool = Spool} = flushed(State),
    meerkat_account_spool:close(Spool).

ended(#state{name = Name, live = Live} = State0) ->
    Reason = case is_alive(meerkat_roles:find(Name, alloc_sup)) of
        true -> accounting_off;
        false -> server_stop
    end,
    Now = meerkat_clock:now_ms(),
    State = lists:foldl(fun({Session, Start, Facts, Counters}, S) ->
        record({stop, Facts, Session, Start, Counters, Reason}, S)
    end, told(State0), meerkat_account_live:all(Now, Live)),
    #state{spool = Spool} = flushed((record(off, State))#state{blocked = none}),
    ok = meerkat_store:delete(Name, ?MODULE, instance),
    Spool.

is_alive(Pid) -> is_pid(Pid) andalso is_process_alive(Pid).

%% Handles the messages of allocations that are in the mailbox.
told(#state{name = Name} = State) ->
    receive
        {ledger, Event} ->
            ok = meerkat_ledger:taken(Name),
            told(heard(Event, State))
    after 0 ->
        State
    end.

%%% What is heard

heard({began, Session, #{told_ms := Told, age_ms := Age} = Facts}, #state{live = Live} = State) ->
    case meerkat_account_live:enter(Session, Facts, relay(State), meerkat_clock:now_ms(), Live) of
        new -> record({start, Facts, Session, Told - Age, #{}, none}, State);
        known -> State
    end;
heard({lives, Session, Facts}, #state{live = Live} = State) ->
    _ = meerkat_account_live:enter(Session, Facts, relay(State), meerkat_clock:now_ms(), Live),
    State;
heard({ended, Session, Reason, Counters, Facts}, #state{live = Live} = State) ->
    {Start, Most} = meerkat_account_live:leave(Session, Counters, Facts, Live),
    record({stop, Facts, Session, Start, Most, Reason}, State).

%% A relay program is known by its port.
relay(#state{name = Name}) -> meerkat_roles:find(Name, port).

%% They answer when they can (meerkat_ledger), some at a time.
asked(#state{unasked = Pids} = State) ->
    {Some, Others} = lists:split(min(?ASK, length(Pids)), Pids),
    lists:foreach(fun meerkat_alloc:account/1, Some),
    _ = Others =/= [] andalso erlang:send_after(?ASK_MS, self(), ask),
    State#state{unasked = Others}.

%%% Rounds

interval_ms(#state{name = Name}) ->
    #{accounting := #{interval := Seconds}} = meerkat_registry:settings(Name),
    Seconds * 1000.

round_ms(State) ->
    case interval_ms(State) of
        0 -> ?ROUND_MS;
        Ms -> max(1, Ms div ?ROUNDS)
    end.

round_in(Ms) -> erlang:start_timer(Ms, self(), round).

round_begins(State) ->
    page(0, 0, State).

%% If the relay died meanwhile, another one may have answered: then the page is not used.
page(Worker, From, #state{name = Name} = State) ->
    Relay = relay(State),
    case meerkat_sessions:page(Name, Worker, From) of
        {ok, Rows, Next} ->
            case relay(State) of
                Relay -> paged(Next, length(Rows), counted(Rows, Relay, State));
                _Another -> round_ends(State)
            end;
        {error, _} ->
            round_ends(State)
    end.

counted(Rows, Relay, #state{live = Live} = State) ->
    Now = meerkat_clock:now_ms(),
    Due = case interval_ms(State) of
        0 -> never;
        Ms -> Now - Ms + round_ms(State) div 2
    end,
    lists:foldl(fun({Session, Counters}, S) ->
        case meerkat_account_live:count(Session, Counters, Relay, Due, Now, Live) of
            {due, Start, Facts, Total} ->
                record({interim, Facts, Session, Start, Total, none}, S);
            _ -> S
        end
    end, State, Rows).

%% A round takes about half of its time for its pages.
paged(done, _Rows, State) ->
    round_ends(State);
paged({Worker, From}, Rows, #state{live = Live} = State) ->
    Pause = round_ms(State) * Rows div (2 * max(1, meerkat_account_live:size(Live))),
    State#state{round = erlang:start_timer(Pause, self(), {page, Worker, From})}.

%% An allocation that is gone without a message of its process: the process was killed.
round_ends(#state{name = Name, live = Live} = State) ->
    Now = meerkat_clock:now_ms(),
    Gone = meerkat_account_live:missing(
        fun(Session) -> meerkat_alloc_table:pid(Name, Session) =/= none end, Now, Live),
    Ended = lists:foldl(fun({Session, Start, Facts, Counters}, S) ->
        record({stop, Facts, Session, Start, Counters, unknown}, S)
    end, State, Gone),
    Ended#state{round = round_in(round_ms(State))}.

%%% Records

record(About, #state{name = Name, records = N, id = Id, pending = Pending,
                     count = Count} = State) ->
    Type = case About of _ when is_atom(About) -> About; _ -> element(1, About) end,
    Context = context(Name, iolist_to_binary([Id, $-, integer_to_list(N + 1)])),
    ok = meerkat_account_counts:add(Name, {records, Type}, 1),
    bounded(State#state{records = N + 1, count = Count + 1,
                        pending = [meerkat_account_record:line(About, Context) | Pending]}).

bounded(#state{count = Count, pending = Pending, lost = Lost} = State)
  when Count >= 2 * ?PENDING_MAX ->
    State#state{pending = lists:sublist(Pending, ?PENDING_MAX), count = ?PENDING_MAX,
                lost = Lost + Count - ?PENDING_MAX};
bounded(State) ->
    State.

%% The record of lost ones comes before the pending lines, because the oldest lines are dropped
%% first.
flushed(#state{blocked = none} = State0) ->
    #state{pending = Pending, spool = Spool} = State = with_losses(State0),
    case Pending of
        [] ->
            State;
        _ ->
            case meerkat_account_spool:append(lists:reverse(Pending), Spool) of
                {ok, Written} -> written(State#state{spool = Written, pending = [], count = 0});
                {error, Reason, Same} -> blocked(Reason, State#state{spool = Same})
            end
    end;
flushed(State) ->
    State.

with_losses(#state{name = Name, lost = Lost} = State) ->
    case Lost + meerkat_ledger:untold(Name) of
        0 ->
            State;
        N ->
            ?LOG_ERROR("accounting: ~b records are lost: they could not be written to the spool",
                       [N]),
            ok = meerkat_account_counts:add(Name, lost, N),
            #state{pending = [Line | Newest]} = First =
                record({lost, N}, State#state{lost = 0}),
            First#state{pending = Newest ++ [Line]}
    end.

written(#state{name = Name, dir = Dir, spool = Spool} = State) ->
    _ = meerkat_account_counts:get(Name, trouble) =/= none andalso
        ?LOG_NOTICE("accounting: records can be kept in ~ts again", [Dir]),
    ok = meerkat_account_counts:set(Name, trouble, none),
    Next = meerkat_account_spool:next(Spool),
    lists:foreach(fun(Pid) -> ok = meerkat_account_sink:written(Pid, Next) end,
                  [Pid || {_, Pid} <- sinks(Name), is_pid(Pid)]),
    counted(sync_soon(State)).

sync_soon(#state{unsynced = none} = State) ->
    State#state{unsynced = erlang:start_timer(?SYNC_MS, self(), sync)};
sync_soon(State) ->
    State.

blocked(Reason, #state{name = Name, dir = Dir} = State) ->
    Sentence = unicode:characters_to_binary(["records cannot be kept in ", Dir, ": ",
                                             file:format_error(Reason)]),
    _ = meerkat_account_counts:get(Name, trouble) =:= none andalso
        ?LOG_ERROR("accounting: ~ts; they wait in memory, up to ~b", [Sentence, ?PENDING_MAX]),
    ok = meerkat_account_counts:set(Name, trouble, Sentence),
    State#state{blocked = erlang:start_timer(?AGAIN_MS, self(), again)}.

counted(#state{name = Name, spool = Spool} = State) ->
    ok = meerkat_account_counts:set(Name, bytes, meerkat_account_spool:bytes(Spool)),
    ok = meerkat_account_counts:set(Name, next, meerkat_account_spool:next(Spool)),
    State.

%%% Settings

resized(#state{name = Name, spool = Spool} = State) ->
    #{accounting := #{spool_bytes := Max}} = meerkat_registry:settings(Name),
    State#state{spool = meerkat_account_spool:resize(Max, Spool)}.

%% Starts and stops sinks as the settings say, and restarts those whose settings have changed.
settled(#state{name = Name, dir = Dir, spool = Spool, sinks = Before} = State) ->
    Wanted = meerkat_account_sink:wanted(meerkat_registry:settings(Name)),
    Sup = meerkat_roles:find(Name, account_sinks),
    Kept = [Id || {Id, Of} <- maps:to_list(Wanted), maps:find(Id, Before) =:= {ok, Of}],
    lists:foreach(fun({Id, _}) ->
        ok = supervisor:terminate_child(Sup, Id),
        ok = supervisor:delete_child(Sup, Id)
    end, [Sink || {Id, _} = Sink <- sinks(Name), not lists:member(Id, Kept)]),
    Next = meerkat_account_spool:next(Spool),
    ok = forget_others(maps:keys(Wanted), State),
    lists:foreach(fun(Id) ->
        {ok, _} = supervisor:start_child(Sup, meerkat_account_sink:child_spec(Name, Id, Dir, Next))
    end, maps:keys(Wanted) -- Kept),
    counted(State#state{sinks = Wanted, passed = maps:with(Kept, State#state.passed)}).

%% A sink was taken out of the configuration: records that wait for it are dropped, and the log says
%% how many.
forget_others(Ids, #state{name = Name, dir = Dir, spool = Spool}) ->
    Next = meerkat_account_spool:next(Spool),
    lists:foreach(fun(Sink) ->
        _ = [?LOG_WARNING("accounting: ~ts is not configured any more: it does not get the ~b "
                          "records that wait for it", [Sink, Next - At])
             || {ok, At} <- [meerkat_account_spool:cursor(Dir, Sink)], At < Next],
        ok = meerkat_account_spool:forget_cursor(Dir, Sink),
        ok = meerkat_account_counts:forget_sink(Name, Sink)
    end, meerkat_account_spool:cursors(Dir) -- [atom_to_list(Id) || Id <- Ids]).

%% Those that run, or are being started again.
sinks(Name) ->
    Sup = meerkat_roles:find(Name, account_sinks),
    [{Id, Pid} || is_alive(Sup), {Id, Pid, _, _} <- supervisor:which_children(Sup)].
