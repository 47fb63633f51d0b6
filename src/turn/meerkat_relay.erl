%% Owns the port to the relay program: starts it, tells it the configuration, and hands what it
%% says to whom it concerns. It decides nothing and never waits once it is up: commands are given
%% to the wire by whoever has one, and a relay that dies takes this process along. The next one has
%% every allocation replayed before the first new one is made, so that no port is given away.
-module(meerkat_relay).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, command/3, command/4, call/2, stats/1, admits/2]).
-export([relay_address/1, listen_message/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {
    name :: atom(),
    port :: port(),
    wire :: meerkat_wire:wire(),
    begun = <<>> :: binary(),                           % of a frame whose rest is yet to come
    io_backend = none :: none | 1 | 2,                  % what moves packets, once it was told
    early = [] :: [binary()],                           % frames that came before we were up
    requests :: pos_integer(),                          % processes to choose from
    request_code = code(request) :: byte(),
    calls = #{} :: #{meerkat_ctl:ref() => gen_server:from()},
    replay = none :: pid() | none,                      % at work
    later = [] :: [meerkat_request:job()],              % what waits for its end, latest first
    ref :: meerkat_ctl:ref()
}).

%% For a relay under a sanitizer; a healthy one takes milliseconds.
-define(START_MS, 20000).
-define(CALL_MS, 5000).
%% Less than a supervisor waits for its child.
-define(STOP_MS, 3000).
%% Refs from here on are this process's own; those of allocations are small.
-define(FIRST_REF, 16#80000000).
%% After a crash the kernel may still be tearing down the sockets of the relay before.
-define(BIND_AGAIN, 600).
-define(BIND_AGAIN_MS, 5).

%% Words; as in meerkat_request.
-define(HEAP, 32768).

%% Returns once every listener is bound. Error: {shutdown, Sentence}.
-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, [{spawn_opt, [{min_heap_size, ?HEAP}]}]).

%% Sends a command. `closed`: the relay at the end of this wire is gone, and with it all that the
%% command could have meant.
-spec command(meerkat_wire:wire(), meerkat_ctl:ref(), meerkat_ctl:message()) -> ok | closed.
command(Wire, Ref, Message) ->
    meerkat_wire:send(Wire, [meerkat_ctl:encode(Ref, Message)]).

%% The same, with an answer_if that belongs to it.
-spec command(meerkat_wire:wire(), meerkat_ctl:ref(), meerkat_ctl:message(),
              meerkat_ctl:message()) -> ok | closed.
command(Wire, Ref, Message, {answer_if, _} = AnswerIf) ->
    meerkat_wire:send(Wire, [meerkat_ctl:encode(Ref, AnswerIf), meerkat_ctl:encode(Ref, Message)]).

%% The relay's counters and tables: workers, what moves packets, sessions, peers (permissions),
%% requests it waits for our answer to, bytes of mail on its way, ports free (in all, and by pool),
%% counters by name.
-spec stats(Name :: atom()) ->
    {ok, #{workers := non_neg_integer(), io_backend := io_uring | epoll,
           sessions := non_neg_integer(), peers := non_neg_integer(), requests := non_neg_integer(),
           mail_in := non_neg_integer(), mail_out := non_neg_integer(),
           ports_free := non_neg_integer(), pools := #{pos_integer() => non_neg_integer()},
           counters := #{atom() => non_neg_integer()}}}
    | {error, relay_down | busy}.
stats(Name) ->
    case call(Name, {stats, #{}}) of
        {ok, Stats} -> {ok, named_counters(Stats)};
        {error, Reason} -> {error, Reason}
    end.

%% A command and the fields of its reply.
-spec call(Name :: atom(), meerkat_ctl:message()) -> {ok, map()} | {error, relay_down | busy}.
call(Name, Message) ->
    try
        gen_server:call(meerkat_registry:note(Name, relay), {call, Message}, ?CALL_MS)
    catch
        exit:_ -> {error, relay_down}
    end.

%% May there be new allocations now? If not, the job is taken up again when there may: one could
%% get the port of another that is not replayed yet.
-spec admits(Name :: atom(), meerkat_request:job()) -> boolean().
admits(Name, Job) ->
    case meerkat_registry:note(Name, replaying) of
        Pid when is_pid(Pid) ->
            Pid ! {later, Job},
            false;
        none ->
            true
    end.

named_counters(#{io_backend := Backend, counters := Values, pools := Pools} = Stats) ->
    Names = [Name || {Name, _, _} <- meerkat_ctl:counters()],
    Stats#{io_backend := io_backend(Backend),
           pools := maps:from_list([{Pool, Free} || <<Pool:32, Free:32>> <= Pools]),
           counters := maps:from_list(lists:zip(Names, [V || <<V:64>> <= Values]))}.

io_backend(1) -> io_uring;
io_backend(2) -> epoll.

code(Name) ->
    {_, Code, _, _} = lists:keyfind(Name, 1, meerkat_ctl:messages()),
    Code.

%%% Start. Whatever goes wrong ends it with one sentence for the operator.

-spec init(atom()) -> {ok, #state{}, {continue, replay}} | {stop, {shutdown, string()}}.
init(Name) ->
    _ = process_flag(trap_exit, true),
    _ = process_flag(message_queue_data, off_heap),
    ok = meerkat_restarts:found(Name),
    Settings = meerkat_registry:settings(Name),
    try
        State = introduce(open(Name, Settings), Settings),
        Ready = listen(configure(State, Settings), Settings),
        ok = meerkat_registry:put_note(Name, replaying, self()),
        ok = meerkat_registry:put_note(Name, port, Ready#state.port),
        ok = meerkat_registry:put_note(Name, wire, Ready#state.wire),
        ok = meerkat_registry:put_note(Name, relay, self()),
        {ok, reloaded(Ready, Settings), {continue, replay}}
    catch
        throw:{sentence, Format, Args} ->
            Sentence = lists:flatten(io_lib:format(Format, Args)),
            ok = meerkat_restarts:died(Name, Sentence),
            {stop, {shutdown, Sentence}}
    end.

-spec fail(io:format(), [term()]) -> no_return().
fail(Format, Args) ->
    throw({sentence, Format, Args}).

open(Name, Settings) ->
    Program = program(Settings),
    Options = [stream, binary, exit_status, nouse_stdio, {args, []}],
    try open_port({spawn_executable, Program}, Options) of
        Port -> #state{name = Name, port = Port, wire = meerkat_wire:start_link(Port),
                       ref = ?FIRST_REF, requests = meerkat_request_sup:size()}
    catch
        error:Reason -> fail("the relay program ~ts cannot be started: ~ts",
                             [Program, file:format_error(Reason)])
    end.

program(#{relay_program := default}) ->
    case code:priv_dir(meerkat) of
        {error, bad_name} -> fail("the relay program is not there: no priv directory", []);
        Dir -> filename:join(Dir, "meerkat_relay")
    end;
program(#{relay_program := Program}) ->
    Program.

%% Only the part of HELLO that every version has is read before the versions agree.
introduce(#state{port = Port} = State, Settings) ->
    Hello = code(hello),
    Magic = meerkat_ctl:magic(),
    case frame(State, any) of
        {<<Hello, 0:24, 0:32, Magic:32, Version:16, Hash:64, _/binary>>, Next} ->
            Ours = {meerkat_ctl:version(), meerkat_ctl:table_hash()},
            agree({Version, Hash}, Ours, program(Settings)),
            Next;
        _ ->
            true = port_close(Port),
            fail("~ts is not a Meerkat relay: it does not begin with HELLO", [program(Settings)])
    end.

agree(Both, Both, _Program) ->
    ok;
agree({Same, Theirs}, {Same, Ours}, Program) ->
    fail("relay program and Erlang are of different builds: ~ts has protocol table ~16.16.0b, "
         "Erlang ~16.16.0b; build both from one tree", [Program, Theirs, Ours]);
agree({Theirs, _}, {Ours, _}, Program) when Theirs < Ours ->
    fail("the relay program ~ts is the older side: it speaks protocol version ~b, Erlang ~b",
         [Program, Theirs, Ours]);
agree({Theirs, _}, {Ours, _}, Program) ->
    fail("Erlang is the older side: it speaks protocol version ~b, the relay program ~ts ~b",
         [Ours, Program, Theirs]).

configure(State0, #{relay_config := Config, nonce_key := NonceKey, rules := Rules,
                    relays := Relays, retired := Retired} = Settings) ->
    State1 = told(State0, {config, Config#{nonce_key => NonceKey()}}, "the relay does not start"),
    State2 = lists:foldl(fun relay_address/2, State1, Relays),
    State3 = lists:foldl(fun retired/2, State2, Retired),
    %% Of those whose allocations will be replayed.
    _ = [command(State3#state.wire, 0, Bucket)
         || Bucket <- meerkat_quota:rates(State3#state.name, Settings)],
    told(State3, {policy, #{rules => meerkat_policy:encode(Rules)}}, "the peer rules are refused").

%% For allocations that are there still; an address that is gone from the host is no reason to fail.
retired(#{pool := Pool} = Relay, State) ->
    {_, Next} = ask(State, relay_address(Relay)),
    {_, Last} = ask(Next, {pool_close, #{pool => Pool}}),
    Last.

relay_address(#{local := Local} = Relay, State) ->
    told(State, relay_address(Relay), ["cannot relay from ", meerkat_text:ip(Local)]).

%% What the relay is told of an address to relay from.
-spec relay_address(meerkat_settings:relay()) -> meerkat_ctl:message().
relay_address(#{pool := Pool, local := Local, advertised := Advertised, min_port := Min,
                max_port := Max}) ->
    {relay_address, #{pool => Pool, local => {Local, 0}, advertised => {Advertised, 0},
                      min_port => Min, max_port => Max}}.

%% And of a listener.
-spec listen_message(meerkat_settings:listener()) -> meerkat_ctl:message().
listen_message(#{id := Id} = Listener) ->
    {listen, (maps:with([transport, local, other, realm], Listener))#{listener => Id}}.

told(State, Message, Complaint) ->
    case ask(State, Message) of
        {{reply, #{status := ok}}, Next} ->
            Next;
        {{reply, #{status := Status, detail := Detail}}, _} ->
            fail("~ts: ~ts (~ts)", [Complaint, meerkat_text:escape(Detail), Status])
    end.

%% A reload that came while we were busy found nobody to tell.
reloaded(#state{name = Name} = State, Settings) ->
    case meerkat_registry:settings(Name) of
        Settings -> State;
        _ -> fail("the configuration changed while the relay was starting", [])
    end.

%% Last, when all that stands behind a listener is there.
listen(#state{name = Name} = State0, #{listeners := Listeners} = Settings) ->
    Before = case meerkat_registry:note(Name, listening) of
        none -> #{};
        Addresses -> Addresses
    end,
    {Bound, State} = lists:foldl(
        fun(#{id := Id, local := Wanted} = Listener, {Bound, State}) ->
            Local = maps:get(Id, Before, Wanted),
            Tries = case Before of #{Id := _} -> ?BIND_AGAIN; #{} -> 0 end,
            bind(Listener#{local := Local}, Tries, Bound, State)
        end, {#{}, State0}, Listeners),
    ok = meerkat_registry:put_note(Name, listening, Bound),
    ok = meerkat_beside:changed(Name),
    report(Bound, Settings),
    State.

bind(#{id := Id, local := Local} = Listener, Tries, Bound, State) ->
    case ask(State, listen_message(Listener)) of
        {{listening, #{status := ok, local := Address}}, Next} ->
            {Bound#{Id => Address}, Next};
        {_, Next} when Tries > 0 ->
            receive after ?BIND_AGAIN_MS -> ok end,
            bind(Listener, Tries - 1, Bound, Next);
        {{listening, #{detail := Detail}}, Next} ->
            Complaint = [meerkat_text:address(Local), meerkat_text:escape(Detail)],
            maps:get(optional, Listener) orelse fail("cannot listen on udp ~ts: ~ts", Complaint),
            ?LOG_WARNING("not listening on udp ~ts: ~ts", Complaint),
            {Bound, Next}
    end.

report(Bound, #{relays := Relays, own_kinds := Kinds}) ->
    _ = [?LOG_NOTICE("listening on udp ~ts", [meerkat_text:address(Address)])
         || {_, Address} <- lists:sort(maps:to_list(Bound))],
    _ = [?LOG_NOTICE("relaying from ~ts, ports ~b-~b~ts",
                     [meerkat_text:ip(Local), Min, Max,
                      [[", told to clients as ", meerkat_text:ip(Advertised)]
                       || Advertised =/= Local]])
         || #{local := Local, advertised := Advertised, min_port := Min, max_port := Max}
                <- Relays],
    _ = [?LOG_NOTICE("peers on ~ts addresses are allowed, for the relay's own address is one",
                     [Kind])
         || Kind <- Kinds],
    ok.

%% A command and its reply. What comes in between is kept for when we are up.
ask(#state{wire = Wire, ref = Ref} = State, Message) ->
    closed =/= command(Wire, Ref, Message) orelse fail("the relay program has ended", []),
    {Frame, Next} = frame(State, Ref),
    {ok, Ref, Reply} = meerkat_ctl:decode(Frame),
    {Reply, Next#state{ref = next(Ref)}}.

%% The frame with this ref, or the first one there is.
frame(#state{early = Early} = State, Wanted) ->
    case lists:splitwith(fun(Frame) -> not is_wanted(Wanted, Frame) end, Early) of
        {Before, [Frame | Behind]} -> {Frame, State#state{early = Before ++ Behind}};
        {_, []} -> frame(more(State), Wanted)
    end.

is_wanted(any, _Frame) -> true;
is_wanted(Ref, <<_:32, Ref:32, _/binary>>) -> true;
is_wanted(_Ref, _Frame) -> false.

more(#state{port = Port, begun = Begun, early = Early} = State) ->
    receive
        {Port, {data, Bytes}} ->
            {Frames, Next} = meerkat_wire:split(Begun, Bytes),
            State#state{begun = Next, early = Early ++ Frames};
        {Port, {exit_status, Status}} -> fail("the relay program ended: ~ts", [status(Status)]);
        {'EXIT', Port, Reason} -> fail("the relay program ended: ~tp", [Reason])
    after ?START_MS ->
        fail("the relay program says nothing for ~b s", [?START_MS div 1000])
    end.

status(Status) when Status > 128 -> io_lib:format("killed by signal ~b", [Status - 128]);
status(Status) -> io_lib:format("exit status ~b", [Status]).

next(16#ffffffff) -> ?FIRST_REF;
next(Ref) -> Ref + 1.

%%% Life

%% Requests come in meanwhile; those for allocations wait in their processes.
-spec handle_continue(replay, #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_continue(replay, #state{name = Name, wire = Wire, early = Early} = State) ->
    Pids = [Pid || {_Session, Pid} <- meerkat_registry:sessions(Name)],
    heard(Early, now_us(), State#state{replay = meerkat_replay:start_link(Wire, Pids), early = []}).

-spec handle_call({call, meerkat_ctl:message()}, gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, {error, busy}, #state{}}.
handle_call({call, Message}, From, #state{port = Port, ref = Ref, calls = Calls} = State) ->
    %% This process alone must not be suspended: it is the one that empties the pipe.
    Frame = meerkat_wire:framed(meerkat_ctl:encode(Ref, Message)),
    case erlang:port_command(Port, Frame, [nosuspend]) of
        true -> {noreply, State#state{ref = next(Ref), calls = Calls#{Ref => From}}};
        false -> {reply, {error, busy}, State}
    end.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({Port, {data, Bytes}}, #state{port = Port, begun = Begun} = State) ->
    {Frames, Next} = meerkat_wire:split(Begun, Bytes),
    heard(Frames, now_us(), State#state{begun = Next});
handle_info({Port, {exit_status, Status}}, #state{port = Port} = State) ->
    stop("the relay program ended: ~ts", [status(Status)], State);
handle_info({'EXIT', Port, Reason}, #state{port = Port} = State) ->
    stop("the relay program ended: ~tp", [Reason], State);
handle_info({later, Job}, #state{replay = none} = State) ->
    ok = meerkat_request:again(Job),
    {noreply, State};
handle_info({later, Job}, #state{later = Later} = State) ->
    {noreply, State#state{later = [Job | Later]}};
handle_info({replay_over, Pid, Outcome}, #state{name = Name, replay = Pid} = State) ->
    ok = meerkat_restarts:over(Name, Outcome),
    ok = meerkat_registry:put_note(Name, replaying, none),
    ok = lists:foreach(fun meerkat_request:again/1, lists:reverse(State#state.later)),
    {noreply, State#state{replay = none, later = []}};
handle_info({'EXIT', _Pid, normal}, State) ->
    {noreply, State};       % of the replay, whose word came before
handle_info({'EXIT', _Parent, Reason}, State) ->
    {stop, Reason, State};
handle_info(_Other, State) ->
    {noreply, State}.

%% In order: when this returns every port is free for whoever starts next.
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{port = Port, wire = Wire, ref = Ref}) ->
    case command(Wire, Ref, {stop, #{}}) of
        closed -> ok;
        ok -> await_exit(Port)
    end.

await_exit(Port) ->
    receive
        {Port, {exit_status, _}} -> ok;
        {'EXIT', Port, _} -> ok
    after ?STOP_MS ->
        %% It sees the end of file, if it sees anything.
        _ = catch port_close(Port),
        ok
    end.

%% The supervisor starts another.
stop(Format, Args, #state{name = Name} = State) ->
    Sentence = lists:flatten(io_lib:format(Format, Args)),
    ok = meerkat_restarts:died(Name, Sentence),
    {stop, {shutdown, Sentence}, State}.

heard([Frame | Frames], Now, State) ->
    case hear(Frame, Now, State) of
        {stop, _, _} = Stop -> Stop;
        Next -> heard(Frames, Now, Next)
    end;
heard([], _Now, State) ->
    {noreply, State}.

hear(<<Code, _:56, _Flow:64, _Listener:32, _Transport, Family, Rest/binary>> = Frame, Now,
     #state{request_code = Code} = State) ->
    request(client(Family, Rest), Frame, Now, State),
    State;
hear(Frame, _Now, State) ->
    case meerkat_ctl:decode(Frame) of
        {ok, Ref, {Name, _} = Message} ->
            case meerkat_ctl:way(Name) of
                r2e -> deliver(Ref, Message, State);
                e2r -> stop("the relay program sent ~ts, which is for it to hear", [Name], State)
            end;
        {error, Reason} ->
            stop("the relay program sent a frame that is not in the protocol: ~ts", [Reason],
                 State)
    end.

%% Requests of one client go to one process, so that they stay in order.
request(Client, Frame, Now, #state{name = Name, wire = Wire, requests = N}) ->
    case meerkat_registry:note(Name, {request, erlang:phash2(Client, N)}) of
        none -> ok;
        Pid -> Pid ! {request, Wire, Frame, Now}, ok
    end.

now_us() ->
    erlang:monotonic_time(microsecond).

client(4, <<Client:6/binary, _/binary>>) -> Client;
client(6, <<Client:18/binary, _/binary>>) -> Client;
client(_, _) -> <<>>.

deliver(_Ref, {io, #{io_backend := Backend} = Io}, #state{name = Name} = State) ->
    #{relay_config := Asked} = meerkat_registry:settings(Name),
    State#state.io_backend =:= Backend orelse report_io(Io),
    report_buffers(Io, Asked),
    State#state{io_backend = Backend};
%% Of commands that nobody waits for.
deliver(0, {reply, _}, State) ->
    State;
deliver(Ref, {_, Fields} = Message, #state{name = Name, calls = Calls} = State) ->
    case Calls of
        #{Ref := From} ->
            gen_server:reply(From, {ok, Fields}),
            State#state{calls = maps:remove(Ref, Calls)};
        #{} ->
            case meerkat_registry:pid(Name, maps:get(session, Fields, 0)) of
                none -> State;
                Pid -> Pid ! {relay, Ref, Message}, State
            end
    end.

%% One line says what moves packets and, where that was not the first choice, why.
report_io(#{io_backend := Backend, detail := <<>>}) ->
    ?LOG_NOTICE("packets move by ~ts", [io_backend(Backend)]);
report_io(#{io_backend := Backend, detail := Why}) ->
    ?LOG_NOTICE("packets move by ~ts: io_uring is refused (~ts)",
                [io_backend(Backend), meerkat_text:escape(Why)]).

%% One warning for both. The buffers asked for are the default, if nobody said otherwise.
report_buffers(Granted, Asked) ->
    Short = [{Key, Limit, maps:get(Key, Granted), maps:get(Key, Asked)}
             || {Key, Limit} <- [{receive_buffer, "rmem_max"}, {send_buffer, "wmem_max"}],
                maps:get(Key, Granted) < maps:get(Key, Asked)],
    Cut = [io_lib:format("~ts is ~b bytes instead of ~b", [Key, Got, Wanted])
           || {Key, _, Got, Wanted} <- Short],
    Remedy = [io_lib:format(" net.core.~ts=~b", [Limit, Wanted]) || {_, Limit, _, Wanted} <- Short],
    Short =:= [] orelse
        ?LOG_WARNING("the kernel cuts socket buffers: ~ts; sysctl -w~ts allows what is configured",
                     [lists:join(", ", Cut), Remedy]),
    ok.
