%% Owns the port to the relay program: starts it, passes on what it says, and knows who waits for
%% which reply. It decides nothing and never waits once it is up: other processes write their
%% commands to the wire themselves. When the relay dies this process ends, and its supervisor starts
%% the next one. That has every allocation replayed before a new one is made, so that no port is
%% given away.
-module(meerkat_relay_owner).
-behaviour(gen_server).

-export([start_link/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {
    name :: atom(),
    port :: port(),
    os_pid :: pos_integer() | none,
    silent = 0 :: non_neg_integer(),                    % questions since it last said something
    stalled = 0 :: non_neg_integer(),                   % answers in a row that said a thread was
    hung = none :: none | string(),                     % why it is killed
    wire :: meerkat_wire:wire(),
    route :: meerkat_relay_dispatch:route(),
    begun :: binary(),                                  % of a frame whose rest is yet to come
    early :: [binary()],                                % frames that came before we were up
    io_backend = none :: none | 1 | 2,                  % what moves packets, once it was told
    calls = #{} :: #{meerkat_ctl:ref() => gen_server:from()},
    replay = none :: pid() | none,                      % at work
    asking :: reference(),                              % the timer of `ask`
    inherits = false :: boolean(),                      % it reads nothing before LIVE
    upgrade = none :: upgrade(),
    retired :: [Listener :: pos_integer()],             % open for the replay
    later = [] :: [meerkat_request:job()],              % what waits for its end, latest first
    ref :: meerkat_ctl:ref()
}).

%% Who wants to hear of it, if anybody, and since when: the relay retires, its successor starts, and
%% then is asked to read, when it has so much.
-type upgrade() :: none
                 | {retiring, meerkat_ctl:ref(), gen_server:from(), Began :: integer()}
                 | {starting, gen_server:from(), Began :: integer()}
                 | {taking, meerkat_ctl:ref(), meerkat_replay:outcome(), gen_server:from() | none,
                    Began :: integer()}.

%% Together less than a supervisor waits for its child.
-define(STOP_MS, 3000).
-define(KILL_MS, 1000).
%% The relay is asked for its counters every ASK_MS, to see whether it answers. It hangs when it has
%% said nothing after SILENT questions, or when STALLED answers in a row say that one of its threads
%% stands still. Both are counted and not timed: while the machine sleeps, nobody asks either.
-define(ASK_MS, 2000).
-define(SILENT, 5).
-define(STALLED, 2).
%% Words; as in meerkat_request.
-define(HEAP, 32768).

%% Returns once every listener is bound. Error: {shutdown, Sentence}.
-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, [{spawn_opt, [{min_heap_size, ?HEAP}]}]).

-spec init(atom()) -> {ok, #state{}, {continue, {replay, [pid()]}}} | {stop, {shutdown, string()}}.
init(Name) ->
    _ = process_flag(trap_exit, true),
    _ = process_flag(message_queue_data, off_heap),
    ok = meerkat_restarts:found(Name),
    Settings = meerkat_registry:settings(Name),
    case meerkat_relay_start:start(Name, Settings) of
        {ok, Started} -> up(Name, Started);
        {error, Sentence} -> ok = meerkat_upgrade:failed(Name), down(Name, Sentence)
    end.

%% From here on others find this process. A reload that came earlier could not tell it.
up(Name, #{port := Port, os_pid := OsPid, wire := Wire, early := Early, begun := Begun, ref := Ref,
           retired := Retired, adopted := Adopted, inherits := Inherits, settings := Settings}) ->
    ok = meerkat_roles:take(Name, replaying),
    ok = meerkat_roles:give(Name, port, Port),
    ok = meerkat_roles:give(Name, wire, Wire),
    ok = meerkat_roles:take(Name, relay),
    Route = #{name => Name, wire => Wire, requests => meerkat_request_sup:size(),
              request_code => meerkat_relay:code(request),
              granted_code => meerkat_relay:code(granted)},
    case meerkat_registry:settings(Name) of
        Settings ->
            ok = meerkat_drain:resume(Name),
            Inherits orelse meerkat_upgrade:failed(Name),
            {ok, #state{name = Name, port = Port, os_pid = OsPid, wire = Wire, route = Route,
                        early = Early, asking = ask_later(), inherits = Inherits,
                        begun = Begun, ref = Ref, retired = Retired},
             {continue, {replay, to_replay(Name, Adopted)}}};
        _ ->
            down(Name, "the configuration changed while the relay was starting")
    end.

%% A relay that was taken over has them all.
to_replay(_Name, true) -> [];
to_replay(Name, false) -> [Pid || {_Session, Pid} <- meerkat_alloc_table:sessions(Name)].

down(Name, Sentence) ->
    ok = meerkat_restarts:died(Name, Sentence),
    {stop, {shutdown, Sentence}}.

%% Requests come in meanwhile; those for allocations wait in their processes.
-spec handle_continue({replay, [pid()]}, #state{}) ->
    {noreply, #state{}} | {stop, term(), #state{}}.
handle_continue({replay, Pids}, #state{wire = Wire, early = Early} = State) ->
    heard(Early, now_us(), State#state{replay = meerkat_replay:start_link(Wire, Pids), early = []}).

-spec handle_call(read | upgrade | {call, meerkat_ctl:message()}, gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, ok | {error, busy | dead | string()}, #state{}}.
handle_call(read, _From, #state{name = Name} = State) ->
    _ = meerkat_grants:read(Name),
    {reply, ok, State};
handle_call(upgrade, From, #state{replay = none, upgrade = none, ref = Ref} = State) ->
    _ = meerkat_relay:command(State#state.wire, Ref, {retire, #{}}),
    Upgrade = {retiring, Ref, From, meerkat_clock:now_ms()},
    {noreply, State#state{ref = meerkat_relay_start:next(Ref), upgrade = Upgrade}};
handle_call(upgrade, _From, State) ->
    {reply, {error, "the relay is being replaced, or replayed, just now"}, State};
handle_call({call, Message}, From, #state{port = Port, ref = Ref, calls = Calls} = State) ->
    case meerkat_wire:send_at_once(Port, meerkat_ctl:encode(Ref, Message)) of
        ok ->
            Next = meerkat_relay_start:next(Ref),
            {noreply, State#state{ref = Next, calls = Calls#{Ref => From}}};
        busy -> {reply, {error, busy}, State};
        closed -> {reply, {error, dead}, State}     % how it ended is said by what comes next
    end.

-spec handle_cast({tell, meerkat_ctl:message()}, #state{}) -> {noreply, #state{}}.
handle_cast({tell, Message}, #state{wire = Wire} = State) ->
    _ = meerkat_relay:command(Wire, 0, Message),
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
%% What was noted is older than what is said, or does not matter to it.
handle_info({Port, {data, Bytes}}, #state{name = Name, port = Port, begun = Begun} = State) ->
    {Frames, Next} = meerkat_wire:split(Begun, Bytes),
    case meerkat_grants:read(Name) of
        ok -> heard(Frames, now_us(), State#state{begun = Next, silent = 0});
        malformed -> stop("the relay program noted what is no note", State)
    end;
handle_info({Port, {exit_status, _}}, #state{port = Port, hung = [_ | _] = Why} = State) ->
    stop(Why, State);
handle_info({Port, {exit_status, Status}}, #state{port = Port} = State) ->
    stop(meerkat_relay_start:ended({exit_status, Status}), State);
handle_info(ask, #state{hung = [_ | _]} = State) ->
    {noreply, State};
handle_info(ask, #state{silent = ?SILENT} = State) ->
    {noreply, kill("it has not answered for ~b s", [?SILENT * ?ASK_MS div 1000], State)};
handle_info(ask, #state{name = Name, port = Port, silent = Silent} = State) ->
    _ = meerkat_grants:read(Name),
    %% If it cannot be written that is as good as no answer: the relay does not read.
    _ = meerkat_wire:send_at_once(Port, meerkat_ctl:encode(0, {stats, #{}})),
    {noreply, State#state{silent = Silent + 1, asking = ask_later()}};
handle_info({'EXIT', Port, _}, #state{port = Port, hung = [_ | _] = Why} = State) ->
    stop(Why, State);       % what was written to it came too late
handle_info({'EXIT', Port, Reason}, #state{port = Port} = State) ->
    stop(meerkat_relay_start:ended({port, Reason}), State);
handle_info({later, Job}, #state{replay = none} = State) ->
    ok = meerkat_request:again(Job),
    {noreply, State};
handle_info({later, Job}, #state{later = Later} = State) ->
    {noreply, State#state{later = [Job | Later]}};
handle_info({replay_over, Pid, Outcome}, #state{name = Name, replay = Pid} = State) ->
    _ = [meerkat_relay:command(State#state.wire, 0, {unlisten, #{listener => Id}})
         || Id <- State#state.retired],
    ok = meerkat_restarts:over(Name, Outcome),
    ok = meerkat_roles:leave(Name, replaying),
    ok = lists:foreach(fun meerkat_request:again/1, lists:reverse(State#state.later)),
    {noreply, live(Outcome, State#state{replay = none, later = []})};
handle_info({'EXIT', _Pid, normal}, State) ->
    {noreply, State};       % of the replay, whose word came before
handle_info({'EXIT', _Parent, Reason}, State) ->
    {stop, Reason, State};
handle_info(_Other, State) ->
    {noreply, State}.

%% In order: when this returns every port is free for whoever starts next. One whose port is closed
%% already is seen to its end by the next start (meerkat_relay_program).
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{port = Port, os_pid = OsPid, wire = Wire, ref = Ref}) ->
    case erlang:port_info(Port) =:= undefined
            orelse meerkat_relay:command(Wire, Ref, {stop, #{}}) =:= closed
            orelse meerkat_relay_program:await_exit(Port, ?STOP_MS) of
        true ->
            ok;
        false ->
            ok = meerkat_relay_program:kill(OsPid),
            _ = meerkat_relay_program:await_exit(Port, ?KILL_MS),
            ok
    end.

%% The supervisor starts another.
stop(Sentence, #state{name = Name} = State) ->
    _ = meerkat_grants:read(Name),
    ok = meerkat_restarts:died(Name, Sentence),
    {stop, {shutdown, Sentence}, State}.

%%% Whether it lives

ask_later() ->
    erlang:send_after(?ASK_MS, self(), ask).

%% Its exit comes, and ends this process.
kill(Why, Args, #state{os_pid = OsPid} = State) ->
    ok = meerkat_relay_program:kill(OsPid),
    State#state{hung = lists:flatten(io_lib:format("the relay program hangs: " ++ Why
                                                   ++ ", and was killed", Args))}.

%% A thread that moves packets may stand still while the one that talks to us does not.
alive(_Stats, #state{hung = [_ | _]} = State) ->
    State;
alive(#{stalled_ms := Ms} = Stats, #state{stalled = Before} = State) ->
    case meerkat_relay:is_stalled(Stats) of
        false ->
            State#state{stalled = 0};
        true when Before + 1 < ?STALLED ->
            State#state{stalled = Before + 1};
        true ->
            kill("one of its threads has stood still for ~b s", [Ms div 1000], State)
    end.

%%% What it says

heard([Frame | Frames], Now, #state{route = Route} = State) ->
    case meerkat_relay_dispatch:frame(Frame, Now, Route) of
        done -> heard(Frames, Now, State);
        {io, Io} -> heard(Frames, Now, reported(Io, State));
        {reply, Ref, {retired, _}} -> retired(Ref, State);
        {reply, 0, {stats_reply, Stats}} -> heard(Frames, Now, alive(Stats, State));
        {reply, Ref, Message} -> heard(Frames, Now, replied(Ref, Message, State));
        {stop, Sentence} -> stop(Sentence, State)
    end;
heard([], _Now, State) ->
    {noreply, State}.

reported(#{io_backend := Backend} = Io, #state{name = Name, io_backend = Before} = State) ->
    ok = meerkat_relay_report:io(Io, Before, meerkat_registry:settings(Name)),
    State#state{io_backend = Backend}.

%% Another program takes the place of the one that has said its last word, in this process: nothing
%% of what clients and peers send is read meanwhile, so nobody waits for it but in the kernel.
retired(Ref, #state{name = Name, port = Port, wire = Wire, calls = Calls,
                    upgrade = {retiring, Ref, From, Began}} = State) ->
    ok = meerkat_upgrade:retired(Name),
    true = unlink(Wire),
    true = exit(Wire, kill),
    _ = [gen_server:reply(Caller, {error, dead}) || Caller <- maps:values(Calls)],
    _ = erlang:cancel_timer(State#state.asking),
    true = unlink(Port),
    _ = catch port_close(Port),
    ok = forget(Port),
    case meerkat_relay_start:start(Name, meerkat_registry:settings(Name)) of
        {ok, Started} ->
            case up(Name, Started) of
                {ok, Up, Continue} ->
                    {noreply, Up#state{upgrade = {starting, From, Began}}, Continue};
                {stop, Reason} ->
                    {stop, Reason, State}
            end;
        %% The one before waits still: the next start tries once more.
        {error, Sentence} ->
            stop("the relay was not replaced: " ++ Sentence, State)
    end.

%% What it had said still, and what was asked of it.
forget(Port) ->
    receive
        {Port, _} -> forget(Port);
        {'EXIT', Port, _} -> forget(Port);
        ask -> forget(Port)
    after 0 ->
        ok
    end.

%% All is there that will be: it may read. One that was to take over from a program that has died is
%% new, and reads already.
live(Outcome, #state{inherits = false, upgrade = {starting, From, _}} = State) ->
    gen_server:reply(From, {error, meerkat_upgrade:begun_anew(Outcome)}),
    State#state{upgrade = none};
live(_Outcome, #state{inherits = false} = State) ->
    State;
live(Outcome, #state{wire = Wire, ref = Ref, upgrade = Upgrade} = State) ->
    _ = meerkat_relay:command(Wire, Ref, {live, #{}}),
    {From, Began} = case Upgrade of
        {starting, Caller, Since} -> {Caller, Since};
        none -> {none, meerkat_clock:now_ms()}
    end,
    State#state{ref = meerkat_relay_start:next(Ref), inherits = false,
                upgrade = {taking, Ref, Outcome, From, Began}}.

%% To whoever waits for it here, or to the session's process.
replied(Ref, {reply, #{detail := Detail}}, #state{upgrade = {retiring, Ref, From, _}} = State) ->
    gen_server:reply(From, {error, binary_to_list(Detail)}),
    State#state{upgrade = none};
replied(Ref, {taken, Taken}, #state{name = Name,
                                    upgrade = {taking, Ref, Outcome, From, Began}} = State) ->
    Figures = meerkat_upgrade:taken(Name, Taken, Outcome, meerkat_clock:now_ms() - Began),
    _ = From =/= none andalso gen_server:reply(From, {ok, Figures}),
    State#state{upgrade = none};
replied(Ref, {_, Fields} = Message, #state{name = Name, calls = Calls} = State) ->
    case Calls of
        #{Ref := From} ->
            gen_server:reply(From, {ok, Fields}),
            State#state{calls = maps:remove(Ref, Calls)};
        #{} ->
            case meerkat_alloc_table:pid(Name, maps:get(session, Fields, 0)) of
                none -> State;
                Pid -> Pid ! {relay, Ref, Message}, State
            end
    end.

now_us() ->
    erlang:monotonic_time(microsecond).
