%% One watch: what happens to an allocation, or to all of a user or a client, as events in order. A
%% process of its own asks once a second what has changed, hears in between what was asked and
%% answered (meerkat_watchers), and keeps the events until they are fetched. It has an end: after
%% the time that was asked for, or when nobody fetches any more. Its memory is bounded: of what is
%% not fetched in time the oldest goes, and an event says how many.
-module(meerkat_watch).
-behaviour(gen_server).

-export([start/3, events/2, stop/2]).
-export([start_link/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([who/0, options/0, id/0, event/0]).

-type who() :: meerkat_sessions:id() | {user, binary()}
             | {client, inet:ip_address() | {inet:ip_address(), inet:port_number()}}.
%% seconds: for how long, an hour at most; a minute without.
-type options() :: #{seconds => pos_integer()}.
-type id() :: binary().
%% Each has `at`, Unix time in milliseconds, and `event`:
%%   watching   the beginning: allocations, those there are
%%   asked      a request, and what it was answered: method, outcome (success, the code of an
%%              error, unavailable, throttled), why, peers, channel, lifetime_s; answered_by erlang
%%              or relay (within a grant)
%%   allocated  an allocation began: user, client, relayed; found: it was there before
%%   moved      its client speaks from another address: client
%%   ended      it is over: reason
%%   permission, channel   what there is now, and expires_ms; gone: what there is no more
%%   flow       the first packet from the client or from a peer: from, peer, protocol
%%   ice, dtls  the first of their kind in that direction: from, peer, what
%%   drop       packets dropped since the last event: reason, count, the last one's peer or channel
%%   rate       of the last second, where something was relayed: client_packets, client_bytes,
%%              peer_packets, peer_bytes; dropped
%%   media      of the last second, a source of RTP: meerkat_media:interval()
%%   unseen     the relay does not look at its packets: reason full (it looks at so many already),
%%              refused (it relays TCP), or that of meerkat_relay:failure()
%%   verdict    which side is bad, where that has changed: text, bad
%%   missed     events that were lost, for nobody fetched them: count
%%   over       the last one: reason
%% and `session`, where it is about an allocation.
-type event() :: #{at := integer(), event := atom(), atom() => term()}.

-define(WATCHES_MAX, 16).
-define(SECONDS, 60).
-define(SECONDS_MAX, 3600).
-define(EVERY_MS, 1000).
%% Of a user's or a client's allocations so many are watched.
-define(SESSIONS_MAX, 16).
-define(EVENTS_MAX, 2000).
%% So long nobody may fetch, and the relay looks on without being asked.
-define(PATIENCE_MS, 15000).
-define(LOOK_MS, 15000).
%% Events wait for each other so long, for whoever fetches.
-define(FETCH_MS, 1000).
%% A relay that is slow to answer holds the watch up.
-define(ANSWER_MS, 30000).

-record(state, {name :: atom(),
                id :: id(),
                who :: meerkat_watchers:who(),
                ends :: integer(),
                fetched :: integer(),
                %% Of a client: what there was at the beginning. Of what comes we are told.
                found = [] :: [non_neg_integer()],
                seen = #{} :: #{non_neg_integer() => meerkat_watch_changes:seen()},
                events = queue:new() :: queue:queue(event()),
                kept = 0 :: non_neg_integer(),          % so many
                missed = 0 :: non_neg_integer(),
                waiting = none :: none | {gen_server:from(), reference()},
                is_over = false :: boolean()}).

%% Begins a watch. Where nothing is there yet of a user or a client, what comes is watched.
-spec start(Name :: atom(), who(), options()) ->
    {ok, id()} | {error, not_found | too_many | seconds}.
start(Name, Who, Options) ->
    Seconds = maps:get(seconds, Options, ?SECONDS),
    case whom(Name, Who) of
        _ when not is_integer(Seconds); Seconds < 1; Seconds > ?SECONDS_MAX -> {error, seconds};
        none -> {error, not_found};
        Whom ->
            case meerkat_watchers:count(Name) < ?WATCHES_MAX of
                true ->
                    Id = binary:encode_hex(crypto:strong_rand_bytes(8)),
                    {ok, _} = meerkat_watch_sup:start_one(Name, ?MODULE, [Id, Whom, Seconds]),
                    {ok, Id};
                false ->
                    {error, too_many}
            end
    end.

whom(_Name, {user, User}) -> {user, User};
whom(_Name, {client, Client}) -> {client, Client};
whom(Name, Id) ->
    case meerkat_sessions:details(Name, Id) of
        {ok, #{session := Session}} -> {session, Session};
        {error, not_found} -> none
    end.

%% What has come since the last time, or up to a second later; `over`: there is no more.
-spec events(Name :: atom(), id()) -> {ok, [event()], going | over} | {error, not_found}.
events(Name, Id) ->
    case meerkat_store:get(Name, ?MODULE, {watch, Id}) of
        none -> {error, not_found};
        Pid -> try gen_server:call(Pid, events, ?ANSWER_MS) catch exit:_ -> {error, not_found} end
    end.

-spec stop(Name :: atom(), id()) -> ok.
stop(Name, Id) ->
    case meerkat_store:get(Name, ?MODULE, {watch, Id}) of
        none -> ok;
        Pid -> try gen_server:stop(Pid) catch exit:_ -> ok end
    end.

%%% gen_server

-spec start_link(Name :: atom(), id(), meerkat_watchers:who(), Seconds :: pos_integer()) ->
    {ok, pid()} | {error, term()}.
start_link(Name, Id, Who, Seconds) ->
    case gen_server:start_link(?MODULE, {Name, Id, Who, Seconds}, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec init({atom(), id(), meerkat_watchers:who(), pos_integer()}) -> {ok, #state{}}.
init({Name, Id, Who, Seconds}) ->
    ok = meerkat_watchers:enter(Name, Who, [], self()),
    ok = meerkat_grants:told(Name),
    ok = meerkat_store:put(Name, ?MODULE, {watch, Id}, self()),
    self() ! look,
    Now = meerkat_clock:now_ms(),
    State = #state{name = Name, id = Id, who = Who, ends = Now + Seconds * 1000, fetched = Now},
    Found = case Who of
        {client, Client} -> meerkat_alloc_table:sessions_at(Name, Client);
        _ -> sessions(State)
    end,
    {ok, add([#{event => watching, allocations => Found}], State#state{found = Found})}.

-spec handle_call(events, gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, term(), #state{}} | {stop, normal, term(), #state{}}.
handle_call(events, From, State0) ->
    #state{events = Events} = State = (given(State0))#state{fetched = meerkat_clock:now_ms()},
    case queue:is_empty(Events) andalso not State#state.is_over of
        true ->
            Timer = erlang:start_timer(?FETCH_MS, self(), fetch),
            {noreply, State#state{waiting = {From, Timer}}};
        false ->
            fetched(From, State)
    end.

fetched(From, State) ->
    {Reply, Left} = taken(State),
    case Left of
        #state{is_over = true} -> {stop, normal, Reply, Left};
        #state{} -> gen_server:reply(From, Reply), {noreply, Left}
    end.

taken(#state{events = Events, missed = Missed, is_over = IsOver} = State) ->
    Lost = [event(#{event => missed, count => Missed}) || Missed > 0],
    {{ok, Lost ++ queue:to_list(Events), case IsOver of true -> over; false -> going end},
     State#state{events = queue:new(), kept = 0, missed = 0}}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info(look, State) ->
    looked(State);
%% From here on the relay is to look, from the first packet.
handle_info({told, #{event := allocated, session := Session}}, State) ->
    go_on(look(Session, new, State));
handle_info({told, #{event := ended, session := Session} = Told}, #state{seen = Seen} = State) ->
    Left = maps:remove(Session, Seen),
    go_on(over_with_it(Left, add([Told], State#state{seen = Left})));
handle_info({told, Told}, State) ->
    go_on(add([Told], State));
handle_info({timeout, Timer, fetch}, #state{waiting = {From, Timer}} = State) ->
    {Reply, Left} = taken(State),
    gen_server:reply(From, Reply),
    {noreply, Left#state{waiting = none}};
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{name = Name, id = Id}) ->
    ok = meerkat_watchers:leave(Name, self()),
    ok = meerkat_relay:tell(Name, meerkat_grants:message(Name)),
    meerkat_store:delete(Name, ?MODULE, {watch, Id}).

%% Whoever waits gets what there is; with the last of it this process ends.
go_on(State) ->
    case given(State) of
        #state{is_over = true, waiting = none} = Over ->
            case queue:is_empty(Over#state.events) of
                true -> {stop, normal, Over};
                false -> {noreply, Over}
            end;
        Going ->
            {noreply, Going}
    end.

given(#state{waiting = {From, Timer}} = State) ->
    _ = erlang:cancel_timer(Timer),
    {Reply, Left} = taken(State),
    gen_server:reply(From, Reply),
    Left#state{waiting = none};
given(State) ->
    State.

looked(#state{ends = Ends, fetched = Fetched} = State) ->
    Now = meerkat_clock:now_ms(),
    if
        Now - Fetched > ?PATIENCE_MS -> {stop, normal, State};
        State#state.is_over -> again(State);
        Now >= Ends -> again(ended(time, State));
        true -> again(over_with_it(State#state.seen, look_at_all(State)))
    end.

again(State) ->
    _ = erlang:send_after(?EVERY_MS, self(), look),
    go_on(State).

ended(_Reason, #state{is_over = true} = State) ->
    State;
ended(Reason, State) ->
    add([#{event => over, reason => Reason}], State#state{is_over = true}).

%% The watch of one allocation ends with it: when we were told, or where nobody will tell, after two
%% looks in vain.
over_with_it(Before, #state{who = {session, _}, seen = Seen} = State)
  when map_size(Before) =:= 0, map_size(Seen) =:= 0 ->
    ended(allocation, State);
over_with_it(_Before, State) ->
    State.

look_at_all(#state{seen = Before} = State) ->
    Found = sessions(State),
    Gone = maps:keys(Before) -- Found,
    New = Found -- maps:keys(Before),
    lists:foldl(fun(Session, S) -> look(Session, found, S) end,
                State#state{seen = maps:without(Gone, Before)},
                (Found -- New) ++ lists:sublist(New, max(0, ?SESSIONS_MAX - length(Found -- New)))).

sessions(#state{name = Name, who = {session, Session}}) ->
    [Session || meerkat_alloc_table:pid(Name, Session) =/= none];
sessions(#state{name = Name, who = {user, User}}) ->
    lists:sort([Session || {Session, _} <- meerkat_alloc_table:sessions_of(Name, User)]);
sessions(#state{name = Name, who = {client, _}, found = Found, seen = Seen}) ->
    [Session || Session <- lists:usort(Found ++ maps:keys(Seen)),
                meerkat_alloc_table:pid(Name, Session) =/= none].

%% Is: whether it was there before, or began just now.
look(Session, Is, #state{name = Name, seen = Seen, who = Who} = State) ->
    case meerkat_sessions:details(Name, Session) of
        {ok, Details} ->
            Looked = meerkat_look:look(Name, Session, ?LOOK_MS),
            {Events, Now} = meerkat_watch_changes:between(maps:get(Session, Seen, none), Details,
                                                          Looked, meerkat_clock:now_ms()),
            New = Seen#{Session => Now},
            is_map_key(Session, Seen) orelse
                meerkat_watchers:enter(Name, Who, maps:keys(New), self()),
            add([begun(Event#{session => Session}, Is) || Event <- Events],
                State#state{seen = New});
        {error, not_found} ->
            State
    end.

begun(#{event := allocated} = Event, Is) -> Event#{found => Is =:= found};
begun(Event, _Is) -> Event.

add(Events, State) ->
    lists:foldl(fun(Event, S) -> added(event(Event), S) end, State, Events).

added(Event, #state{events = Queue, kept = ?EVENTS_MAX, missed = Missed} = State) ->
    State#state{events = queue:in(Event, queue:drop(Queue)), missed = Missed + 1};
added(Event, #state{events = Queue, kept = Kept} = State) ->
    State#state{events = queue:in(Event, Queue), kept = Kept + 1}.

event(Event) ->
    Event#{at => meerkat_clock:wall_ms()}.
