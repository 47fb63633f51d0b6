%% What a database says of users and secrets, for requests that do not wait: a request is put aside
%% until there is an answer, or its time is up, and comes back to the process that took it in. What
%% was answered is remembered for a while (cache_lifetime), and for longer while the database does
%% not answer (cache_grace). Who asks what is meerkat_request's, what it means
%% meerkat_auth_stored's.
%%
%% The table is a table of meerkat_registry, and any process reads it. It has what is remembered,
%% and the requests put aside: whatever becomes of this process, the next one sends them back.
-module(meerkat_lookups).
-behaviour(gen_server).
-behaviour(meerkat_auth_stored).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, look/2, ask/3, forget/2, changed/1, call/2, info/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([outcome/0]).

%% An answer in a fun, for there are keys in it; or why there is none, a sentence.
-type outcome() :: {ok, fun(() -> meerkat_database:answer())} | {error, unicode:chardata()}.

%% A client sends a request again for 39.5 s, the first times after 0.5, 1.5 and 3.5 s.
-define(DEADLINE_MS, 3000).
%% Where something is known that is too old.
-define(STALE_MS, 500).
%% Requests that may be put aside; the relay has more credits than these.
-define(ASIDE_MAX, 256).
%% What is younger is not asked for again because of a signature that does not fit.
-define(SETTLED_MS, 5000).
-define(WARN_EVERY_MS, 10000).
%% For those who ask by hand.
-define(CALL_MS, 10000).

%% Times in milliseconds of the monotonic clock.
-record(entry, {question :: meerkat_auth:question() | term(),
                answer :: fun(() -> meerkat_database:answer()) | '_',
                is_unknown :: boolean() | '_',
                asked :: integer() | '_',
                refresh :: integer() | '_',          % from when on it is worth asking again
                fresh :: integer() | '_',            % until when it counts by itself
                good :: integer() | '_' | '$1'}).    % until when it counts at all
%% How often what has come of questions, of the server.
-record(kept, {key = counts :: counts, counts :: meerkat_lookup_counts:counts()}).
%% A request put aside.
-record(aside, {ref :: {aside, reference()} | '_', from :: pid() | '_', request :: term()}).
-record(state, {name :: atom(), table :: ets:table(), counts :: meerkat_lookup_counts:counts(),
                given = none :: none | fun(() -> term()),
                pool = none :: none | pid(), size = 0 :: non_neg_integer(),
                away = none :: none | unicode:chardata(),
                %% Who waits for each question that is being asked, since when.
                pending = #{} :: #{meerkat_auth:question() => {Us :: integer(), [reference()]}},
                aside = #{} :: #{reference() => {Timer :: reference(), meerkat_auth:question()}},
                unknown = 0 :: non_neg_integer(),    % entries of users who are not there
                warned = none :: none | integer()}).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% What is remembered.
-spec look(Name :: atom(), meerkat_auth:question()) -> meerkat_auth_stored:known().
look(Name, Question) ->
    Table = meerkat_registry:table(Name, lookups),
    Now = now_ms(),
    case ets:lookup(Table, Question) of
        [#entry{good = Good}] when Now >= Good ->
            unknown;
        [#entry{fresh = Fresh, answer = Answer}] when Now >= Fresh ->
            {stale, Answer()};
        [#entry{asked = Asked, answer = Answer} = Entry] ->
            ok = refresh(Name, Table, Now, Entry),
            {case Now - Asked > ?SETTLED_MS of true -> old; false -> fresh end, Answer()};
        [] ->
            unknown
    end.

%% Asks again in the background, once, before what is remembered has become stale.
refresh(Name, Table, Now, #entry{question = Question, refresh = Refresh, fresh = Fresh})
  when Now >= Refresh ->
    _ = ets:update_element(Table, Question, {#entry.refresh, Fresh}),
    cast(Name, {refresh, Question});
refresh(_Name, _Table, _Now, _Entry) ->
    ok.

%% Puts Request aside. The caller gets {looked_up, Request, outcome()}, within 3 s.
-spec ask(Name :: atom(), meerkat_auth:question(), Request :: term()) -> ok.
ask(Name, Question, Request) ->
    Ref = make_ref(),
    Aside = #aside{ref = {aside, Ref}, from = self(), request = Request},
    true = ets:insert(meerkat_registry:table(Name, lookups), Aside),
    cast(Name, {ask, Ref, Question}).

%% Forgets a user that we have changed: the database is asked when the user comes next.
-spec forget(Name :: atom(), meerkat_auth:question()) -> ok.
forget(Name, Question) ->
    cast(Name, {forget, Question}).

%% Other settings are in force.
-spec changed(Name :: atom()) -> ok.
changed(Name) ->
    cast(Name, changed).

%% For who may wait: does a job with a connection of the pool.
-spec call(Name :: atom(), meerkat_database_connection:job(Result)) ->
    {ok, Result} | {error, unicode:chardata()} | none.
call(Name, Job) ->
    case ask_process(Name, pool) of
        Pool when is_pid(Pool) ->
            case meerkat_database_pool:call(Pool, Job, ?CALL_MS) of
                {ok, Result} -> {ok, Result};
                {error, Refusal} -> {error, ["the database: ", meerkat_database_pool:lost(Refusal)]}
            end;
        none ->
            none
    end.

%% For metrics and status; `none` where no database is configured. `away` says why it does not
%% answer.
-spec info(Name :: atom()) -> none | #{database := binary(), away := none | binary(),
                                       connections := non_neg_integer(), size := pos_integer(),
                                       aside := non_neg_integer(), cached := non_neg_integer(),
                                       counts := #{atom() => non_neg_integer()}}.
info(Name) ->
    ask_process(Name, info).

cast(Name, Message) ->
    case meerkat_roles:find(Name, lookups) of
        none -> ok;
        Pid -> gen_server:cast(Pid, Message)
    end.

%% It may be started anew just now.
ask_process(Name, Question) ->
    case meerkat_roles:find(Name, lookups) of
        none ->
            none;
        Pid ->
            try
                gen_server:call(Pid, Question)
            catch
                exit:{Reason, _} when Reason =/= timeout -> none
            end
    end.

%%% gen_server

-spec init(atom()) -> {ok, #state{}}.
init(Name) ->
    Table = meerkat_registry:table(Name, lookups),
    ok = meerkat_roles:take(Name, lookups),
    State = settled(#state{name = Name, table = Table, counts = counts(Table),
                           unknown = count_unknown(Table)}),
    _ = [send_back(Ref, {error, "the process that asks the database was started anew"}, State)
         || #aside{ref = {aside, Ref}} <- ets:match_object(Table, #aside{_ = '_'})],
    {ok, State}.

%% Of the server, not of one life of this process.
counts(Table) ->
    _ = ets:insert_new(Table, #kept{counts = meerkat_lookup_counts:new()}),
    ets:lookup_element(Table, counts, #kept.counts).

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(pool, _From, #state{pool = Pool} = State) ->
    {reply, Pool, State};
handle_call(info, _From, #state{pool = none} = State) ->
    {reply, none, State};
handle_call(info, _From, #state{given = Given, pool = Pool, table = Table, aside = Aside,
                                counts = Counts} = State) ->
    #{up := Up, size := Size, away := Away} = meerkat_database_pool:status(Pool),
    Described = meerkat_database:describe(meerkat_database:backend(Given())),
    {reply, #{database => unicode:characters_to_binary(Described),
              away => case Away of none -> none; _ -> unicode:characters_to_binary(Away) end,
              connections => Up, size => Size, aside => map_size(Aside),
              cached => ets:info(Table, size) - 1 - map_size(Aside),
              counts => meerkat_lookup_counts:all(Counts)}, State};
handle_call(_Request, _From, State) ->
    {reply, none, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({ask, Ref, Question}, State) ->
    {noreply, put_aside(Ref, Question, State)};
handle_cast({refresh, Question}, #state{pool = Pool} = State) when Pool =/= none ->
    {noreply, asked(Question, [], State)};
handle_cast({forget, Question}, State) ->
    {noreply, forgotten(Question, State)};
handle_cast(changed, State) ->
    {noreply, settled(State)};
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({{answer, Pool, Question}, Result}, #state{pool = Pool} = State) ->
    {noreply, answered(Question, Result, State)};
handle_info({timeout, _Timer, {aside, Ref}}, #state{aside = Aside} = State) ->
    case maps:take(Ref, Aside) of
        {_, Rest} ->
            ok = send_back(Ref, {error, "the database did not answer in time"}, State),
            {noreply, State#state{aside = Rest}};
        error ->
            {noreply, State}
    end;
handle_info({database, Pool, {away, Why}}, #state{pool = Pool} = State) ->
    ?LOG_ERROR("the database does not answer: ~ts; users who are known come in, others get no "
               "answer", [Why]),
    {noreply, State#state{away = Why}};
handle_info({database, Pool, up}, #state{pool = Pool} = State) ->
    ?LOG_NOTICE("the database answers again"),
    {noreply, State#state{away = none}};
handle_info(_Other, State) ->
    {noreply, State}.

%%% The database

%% By the settings in force. Another database knows others.
settled(#state{name = Name, given = Given, pool = Pool, size = Size} = State) ->
    #{database := New, lookups := #{pool := NewSize}} = meerkat_registry:settings(Name),
    case {is_same(Given, New), Size =:= NewSize} of
        {true, true} -> State;
        {true, false} -> opened(New, NewSize, closed(Pool, State));
        {false, _} -> opened(New, NewSize, emptied(closed(Pool, State)))
    end.

is_same(none, none) -> true;
is_same(One, Other) when One =/= none, Other =/= none -> One() =:= Other();
is_same(_, _) -> false.

closed(none, State) ->
    State;
closed(Pool, #state{pending = Pending} = State) ->
    true = unlink(Pool),
    true = exit(Pool, shutdown),
    Why = {error, "the configuration has changed"},
    maps:fold(fun(Question, {_, Refs}, Left) -> sent_back(Question, Refs, Why, Left) end,
              State#state{pool = none, away = none}, Pending).

opened(none, Size, State) ->
    State#state{given = none, size = Size};
opened(Given, Size, State) ->
    Backend = meerkat_database:backend(Given()),
    {ok, Pool} = meerkat_database_pool:start_link(Backend, #{size => Size, waiting => ?ASIDE_MAX,
                                                             tell => self()}),
    ?LOG_NOTICE("users are looked up in ~ts", [meerkat_database:describe(Backend)]),
    State#state{given = Given, size = Size, pool = Pool}.

emptied(#state{table = Table} = State) ->
    true = ets:match_delete(Table, #entry{_ = '_'}),
    State#state{unknown = 0}.

%%% Questions

put_aside(Ref, _Question, #state{pool = none} = State) ->
    ok = send_back(Ref, {error, "no database is configured"}, State),
    State;
put_aside(Ref, _Question, #state{aside = Aside, counts = Counts} = State)
  when map_size(Aside) >= ?ASIDE_MAX ->
    ok = meerkat_lookup_counts:count(Counts, busy),
    ok = send_back(Ref, {error, "too many requests wait for the database"}, State),
    State;
put_aside(Ref, Question, #state{aside = Aside, table = Table} = State) ->
    Now = now_ms(),
    Patience = case ets:lookup(Table, Question) of
        [#entry{good = Good}] when Now < Good -> ?STALE_MS;
        _ -> ?DEADLINE_MS
    end,
    Timer = erlang:start_timer(Patience, self(), {aside, Ref}),
    asked(Question, [Ref], State#state{aside = Aside#{Ref => {Timer, Question}}}).

%% One question at a time for each key.
asked(Question, Refs, #state{pending = Pending, pool = Pool} = State) ->
    Since = case Pending of
        #{Question := {Us, Others}} ->
            {Us, Refs ++ Others};
        #{} ->
            Job = fun(Connection) -> meerkat_database:ask(Question, Connection) end,
            ok = meerkat_database_pool:run(Pool, {answer, Pool, Question}, Job, ?DEADLINE_MS),
            {erlang:monotonic_time(microsecond), Refs}
    end,
    State#state{pending = Pending#{Question => Since}}.

answered(Question, Result, #state{pending = Pending, counts = Counts} = State) ->
    #{Question := {Since, Refs}} = Pending,
    {Kind, Outcome} = outcome(Result),
    ok = meerkat_lookup_counts:count(Counts, Kind),
    ok = meerkat_lookup_counts:took(Counts, erlang:monotonic_time(microsecond) - Since),
    sent_back(Question, Refs, Outcome, learned(Question, Result, warned(Kind, Outcome, State))).

outcome({ok, {ok, Answer}}) -> {kind(Answer), {ok, fun() -> Answer end}};
outcome({ok, {ok, Answer, _MaxAge}}) -> outcome({ok, {ok, Answer}});
outcome({ok, {error, Why}}) -> {failed, {error, ["the database cannot tell: ", Why]}};
outcome({error, {away, Why}}) -> {away, {error, ["the database does not answer: ", Why]}};
outcome({error, slow}) -> {slow, {error, "the database did not answer in time"}};
outcome({error, busy}) -> {busy, {error, "too many questions wait for the database"}}.

kind({user, none}) -> unknown;
kind(_) -> found.

%% That it is away is told once, and of each request in the line of its refusal.
warned(failed, {error, Why}, #state{warned = Last} = State) ->
    Now = now_ms(),
    case Last =:= none orelse Now - Last >= ?WARN_EVERY_MS of
        true ->
            ?LOG_WARNING("~ts", [Why]),
            State#state{warned = Now};
        false ->
            State
    end;
warned(_Kind, _Outcome, State) ->
    State.

sent_back(Question, Refs, Outcome, #state{pending = Pending} = State) ->
    lists:foldl(fun(Ref, #state{aside = Aside} = Left) ->
        case maps:take(Ref, Aside) of
            {{Timer, _}, Rest} ->
                _ = erlang:cancel_timer(Timer),
                ok = send_back(Ref, Outcome, Left),
                Left#state{aside = Rest};
            error ->
                Left
        end
    end, State#state{pending = maps:remove(Question, Pending)}, Refs).

send_back(Ref, Outcome, #state{table = Table}) ->
    [#aside{from = From, request = Request}] = ets:take(Table, {aside, Ref}),
    From ! {looked_up, Request, Outcome},
    ok.

%%% What is remembered

learned(Question, {ok, {ok, Answer}}, #state{name = Name} = State) ->
    #{lookups := #{lifetime_s := Lifetime, unknown_s := UnknownLifetime}} =
        meerkat_registry:settings(Name),
    Seconds = case kind(Answer) of unknown -> UnknownLifetime; _ -> Lifetime end,
    learned(Question, {ok, {ok, Answer, Seconds}}, State);
learned(Question, {ok, {ok, Answer, Seconds}}, #state{name = Name, table = Table} = State0) ->
    #{lookups := #{grace_s := Grace, size := Size}} = meerkat_registry:settings(Name),
    IsUnknown = kind(Answer) =:= unknown,
    #state{unknown = Unknown} = State = room(IsUnknown, Size, replaced(Question, State0)),
    Now = now_ms(),
    Fresh = 1000 * Seconds,
    Entry = #entry{question = Question, answer = fun() -> Answer end, is_unknown = IsUnknown,
                   asked = Now, fresh = Now + Fresh,
                   refresh = Now + case IsUnknown of true -> Fresh; false -> Fresh * 3 div 4 end,
                   good = Now + case IsUnknown of true -> Fresh; false -> Fresh + 1000 * Grace end},
    true = ets:insert(Table, Entry),
    State#state{unknown = Unknown + number(IsUnknown)};
learned(_Question, _Result, State) ->
    State.

%% What is known stays in the table until something else takes its place.
replaced(Question, #state{table = Table, unknown = Unknown} = State) ->
    case ets:lookup(Table, Question) of
        [#entry{is_unknown = IsUnknown}] -> State#state{unknown = Unknown - number(IsUnknown)};
        [] -> State
    end.

forgotten(Question, #state{table = Table} = State) ->
    Replaced = replaced(Question, State),
    true = ets:delete(Table, Question),
    Replaced.

number(true) -> 1;
number(false) -> 0.

%% Names that are unknown have a tenth of the table at most, so that made-up names drive out no
%% users. Where the table is full, what has expired is removed first, then anything.
room(true, Size, #state{unknown = Unknown, table = Table} = State) when Unknown >= Size div 10 ->
    _ = ets:match_delete(Table, #entry{is_unknown = true, _ = '_'}),
    State#state{unknown = 0};
room(false, Size, #state{unknown = Unknown, table = Table, aside = Aside} = State) ->
    case ets:info(Table, size) - map_size(Aside) - Unknown >= Size - Size div 10 of
        true ->
            ok = make_room(Table),
            State#state{unknown = count_unknown(Table)};
        false ->
            State
    end;
room(true, _Size, State) ->
    State.

%% Some at a time, so that not each answer looks through all of them.
make_room(Table) ->
    Now = now_ms(),
    Over = [{#entry{good = '$1', _ = '_'}, [{'=<', '$1', Now}], [true]}],
    case ets:select_delete(Table, Over) of
        0 ->
            Some = [{#entry{question = Users, is_unknown = false, _ = '_'}, [], ['$_']}
                    || Users <- [{user, '_', '_'}, {user, '_', '_', '_'}]],
            case ets:select(Table, Some, 100) of
                {Entries, _} ->
                    lists:foreach(fun(#entry{question = Question}) ->
                        true = ets:delete(Table, Question)
                    end, Entries);
                '$end_of_table' ->
                    ok
            end;
        _ ->
            ok
    end.

count_unknown(Table) ->
    ets:select_count(Table, [{#entry{is_unknown = true, _ = '_'}, [], [true]}]).

now_ms() -> erlang:monotonic_time(millisecond).
