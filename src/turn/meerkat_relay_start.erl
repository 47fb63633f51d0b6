%% The start of a relay program: opens the port, agrees on the protocol, tells it the configuration
%% and has it listen, one command after another. Called by the process that owns the port from then
%% on (meerkat_relay_owner). Whatever goes wrong ends the start with one sentence for the operator.
-module(meerkat_relay_start).

-include_lib("kernel/include/logger.hrl").

-export([start/2, next/1, ended/1]).

-export_type([started/0]).

%% What the owner goes on with. `retired`: listeners that are there for the replay only. `early`:
%% frames that came meanwhile and are nobody's reply; `begun`: the part there is of the one after
%% them. `adopted`: another VM had it, and its allocations are here. `inherits`: it
%% has the sockets of another program, and reads them after LIVE. `settings`: those in force,
%% which are made anew then.
-type started() :: #{port := port(), os_pid := pos_integer() | none, wire := meerkat_wire:wire(),
                     early := [binary()], begun := binary(), ref := meerkat_ctl:ref(),
                     retired := [Listener :: pos_integer()], adopted := boolean(),
                     inherits := boolean(),
                     settings := meerkat_settings:settings()}.

-record(start, {
    port :: port(),
    os_pid :: pos_integer() | none,
    wire :: meerkat_wire:wire(),
    socket :: file:filename() | none,                   % where another VM finds it
    began :: integer(),                                 % this start
    begun = <<>> :: binary(),
    unread = [] :: [binary()],                          % frames that have come
    early = [] :: [binary()],                           % those before them, latest first
    name :: atom(),
    granted = none :: none | byte(),                    % the code of GRANTED, where some may come
    ref :: meerkat_ctl:ref()                            % of the next command
}).

%% For a relay under a sanitizer; a healthy one takes milliseconds.
-define(START_MS, 20000).
%% How long a program that is to end may take; and how often another is started in place of one that
%% cannot be taken over.
-define(STOP_MS, 3000).
-define(STARTS, 3).
%% Its exit status where another VM has the relay (tether.h).
-define(GOVERNED, 75).
%% Refs from here on are the owner's; those of allocations are small.
-define(FIRST_REF, 16#80000000).
%% After a crash the kernel may still be tearing down the sockets of the relay before.
-define(BIND_AGAIN, 600).
-define(BIND_AGAIN_MS, 5).

%% Returns once every listener is bound; where, meerkat_listening knows. After an error the program
%% has ended, unless it is one that another VM left, which waits for the next.
-spec start(Name :: atom(), meerkat_settings:settings()) -> {ok, started()} | {error, string()}.
start(Name, Settings) ->
    case meerkat_keep:path(Name, Settings) of
        {error, Why} ->
            ?LOG_WARNING("the relay ends with Erlang: ~ts", [Why]),
            start(Name, none, ?STARTS, Settings);
        Socket ->
            start(Name, Socket, ?STARTS, Settings)
    end.

start(Name, Socket, Left, Settings) ->
    case open(Name, Socket, Settings) of
        {ok, Opened} -> again(opened(Name, Opened, Settings), Name, Socket, Left, Settings);
        {error, Sentence} -> {error, Sentence}
    end.

%% One that another VM left may end while it is taken over, or cannot be.
again({again, Sentence}, Name, Socket, Left, Settings) when Left > 1 ->
    ?LOG_WARNING("the relay of the Erlang before is not taken over, and another is started: ~ts",
                 [Sentence]),
    start(Name, Socket, Left - 1, Settings);
again({again, Sentence}, _Name, _Socket, _Left, _Settings) ->
    {error, Sentence};
again(governed, Name, Socket, Left, Settings) ->
    ?LOG_WARNING("another Erlang governs the relay at ~ts; the one of this server ends with its "
                 "Erlang. MEERKAT_RUN_DIR, or run_dir, sets another place", [Socket]),
    start(Name, none, Left, Settings);
again(Result, _Name, _Socket, _Left, _Settings) ->
    Result.

opened(Name, #start{port = Port, os_pid = OsPid, socket = Socket} = Opened, Settings) ->
    try introduce(Name, Opened, Settings) of
        {new, State} -> new(Name, State, Settings);
        {What, State} -> found(What, has_served(Name), Name, State, Settings)
    catch
        throw:{ended, ?GOVERNED} when Socket =/= none ->
            governed;
        throw:Thrown ->
            _ = erlang:port_info(Port) =/= undefined andalso meerkat_relay_program:kill(OsPid),
            {error, thrown(Thrown)}
    end.

%% What a server knows of its own allocations is more than a relay does: that is replayed, into
%% the sockets of the program before or, where that has nobody to take over from it, into new ones.
found(heir, true, Name, State, Settings) ->
    inheriting(new(Name, State, Settings));
found(left, true, _Name, State, _Settings) ->
    ended_for("this server knows its allocations better", State);
found(heir, false, Name, State, Settings) ->
    adopt(fun inherited/3, Name, State, Settings);
found(left, false, Name, State, Settings) ->
    adopt(fun adopted/3, Name, State, Settings).

inheriting({ok, Started}) -> {ok, Started#{inherits := true}};
inheriting({error, Sentence}) -> {error, Sentence}.

has_served(Name) ->
    meerkat_roles:find(Name, port) =/= none.

%% A new program: it is told the whole configuration.
new(Name, #start{port = Port, os_pid = OsPid} = State, Settings) ->
    try
        Ready = configure(Name, State, meerkat_relay_setup:config(Settings), Settings),
        {Retired, Listening} = listen_retired(Name, listen(Name, Ready, Settings), Settings),
        Last = keep(Name, Listening, Settings),
        ok = meerkat_survival:began(Name),
        {ok, (started(Last, Settings))#{retired => Retired, adopted => false, inherits => false}}
    catch
        throw:Thrown ->
            _ = erlang:port_info(Port) =/= undefined andalso meerkat_relay_program:kill(OsPid),
            {error, thrown(Thrown)}
    end.

started(#start{port = Port, os_pid = OsPid, wire = Wire, early = Early, unread = Unread,
               begun = Begun, ref = Ref}, Settings) ->
    #{port => Port, os_pid => OsPid, wire => Wire, early => lists:reverse(Early, Unread),
      begun => Begun, ref => Ref, settings => Settings}.

thrown({ended, Status}) -> ended({exit_status, Status});
thrown({sentence, Sentence}) -> Sentence.

%% The ref after this one.
-spec next(meerkat_ctl:ref()) -> meerkat_ctl:ref().
next(16#ffffffff) -> ?FIRST_REF;
next(Ref) -> Ref + 1.

%% How the program ended, as a sentence.
-spec ended({exit_status, non_neg_integer()} | {port, Reason :: term()}) -> string().
ended({exit_status, Status}) when Status > 128 ->
    sentence("the relay program ended: killed by signal ~b", [Status - 128]);
ended({exit_status, Status}) ->
    sentence("the relay program ended: exit status ~b", [Status]);
ended({port, Reason}) ->
    sentence("the relay program ended: ~tp", [Reason]).

-spec fail(io:format(), [term()]) -> no_return().
fail(Format, Args) ->
    throw({sentence, sentence(Format, Args)}).

sentence(Format, Args) ->
    lists:flatten(io_lib:format(Format, Args)).

%%% The program

open(Name, Socket, Settings) ->
    case meerkat_relay_program:path(Settings) of
        {error, Sentence} -> {error, Sentence};
        Program -> open(Name, Socket, Program, meerkat_clock:now_ms())
    end.

open(Name, Socket, Program, Now) ->
    case meerkat_relay_program:start(Name, Program, Socket, replaces(Name, Socket)) of
        {ok, Port, OsPid} ->
            {ok, #start{port = Port, os_pid = OsPid, wire = meerkat_wire:start_link(Port),
                        socket = Socket, began = Now, name = Name, ref = ?FIRST_REF}};
        {error, Reason} ->
            {error, sentence("the relay program ~ts cannot be started: ~ts",
                             [Program, file:format_error(Reason)])}
    end.

%% Is the program there was waiting for this one?
replaces(Name, Socket) ->
    Socket =/= none andalso meerkat_upgrade:is_retired(Name).

%% Only the part of HELLO that every version has is read before the versions agree. Who it is it
%% says itself: it may be another program's child that is at the end of the port.
introduce(Name, State, Settings) ->
    Program = meerkat_relay_program:path(Settings),
    Hello = meerkat_relay:code(hello),
    Magic = meerkat_ctl:magic(),
    case frame(State, any) of
        {<<Hello, 0:24, 0:32, Magic:32, Version:16, Hash:64, _/binary>> = Frame, Next} ->
            Ours = {meerkat_ctl:version(), meerkat_ctl:table_hash()},
            agree({Version, Hash}, Ours, Program),
            {ok, 0, {hello, #{pid := OsPid, kept := Kept}}} = meerkat_ctl:decode(Frame),
            ok = meerkat_relay_program:is(Name, OsPid),
            Known = Next#start{os_pid = OsPid},
            case Kept of
                0 -> {new, Known};
                1 -> {left, Known#start{granted = meerkat_relay:code(granted)}};
                2 -> {heir, Known}
            end;
        _ ->
            fail("~ts is not a Meerkat relay: it does not begin with HELLO", [Program])
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

%%% The configuration

%% First: CONFIG, or what of it may change.
configure(Name, State0, First, #{relays := Relays} = Settings) ->
    State1 = told(State0, First, "the relay does not start"),
    %% An address that was there before may come back: a relay that starts without it is no failure.
    Served = map_size(meerkat_listening:bound(Name)) > 0,
    Wanted = [case Served of true -> R#{awaited => true}; false -> R end || R <- Relays],
    State2 = lists:foldl(fun relay_address/2, State1, Wanted),
    State3 = case First of
        {config, _} -> lists:foldl(fun retired/2, State2, maps:get(retired, Settings));
        {tune, _} -> State2
    end,
    ok = meerkat_quota:none_held(Name),
    %% Of those whose allocations will be replayed.
    _ = [meerkat_relay:command(State3#start.wire, 0, Bucket)
         || Bucket <- meerkat_quota:rates(Name, Settings)],
    State4 = told(State3, meerkat_relay_setup:policy(Settings), "the peer rules are refused"),
    State5 = told(State4, meerkat_relay_setup:streams(Settings), "connections are refused"),
    State6 = told(State5, meerkat_relay_setup:front(Settings), "proxies or names are refused"),
    State7 = told(State6, meerkat_grants:message(Name), "grants are refused"),
    State8 = journal(Name, State7),
    Were = case Served of true -> in_force; false -> new end,
    lists:foldl(fun(Message, State) -> certificates(Message, Settings, State) end, State8,
                meerkat_relay_setup:certificates(Were, Settings)).

certificates(Message, Settings, State) ->
    case ask(State, Message) of
        {{certified, #{status := ok}}, Next} -> Next;
        {{certified, Refused}, _} -> fail("~ts", [meerkat_relay_setup:complaint(Refused, Settings)])
    end.

%% Without one grants cost more, and mean the same.
journal(Name, State) ->
    case meerkat_grants:journal(Name) of
        {ok, Message} ->
            case ask(State, Message) of
                {{reply, #{status := ok}}, Next} -> Next;
                {{reply, #{detail := Detail}}, Next} -> no_journal(Name, Detail, Next)
            end;
        {error, Why} ->
            no_journal(Name, Why, State)
    end.

no_journal(Name, Why, State) ->
    ok = meerkat_grants:no_journal(Name),
    ?LOG_INFO("the relay tells of each answer within a grant by itself, for there is no memory "
              "that both programs have: ~ts", [meerkat_text:escape(Why)]),
    State.

relay_address(#{local := Local} = Relay, State) ->
    told(State, meerkat_relay_setup:relay_address(Relay),
         ["cannot relay from ", meerkat_text:ip(Local)]).

%% For allocations that are there still; an address that is gone from the host is no reason to fail.
retired(#{pool := Pool} = Relay, State) ->
    {_, Next} = ask(State, meerkat_relay_setup:relay_address(Relay)),
    {_, Last} = ask(Next, {pool_close, #{pool => Pool}}),
    Last.

told(State, Message, Complaint) ->
    case ask(State, Message) of
        {{reply, #{status := ok}}, Next} ->
            Next;
        {{reply, #{status := Status, detail := Detail}}, _} ->
            fail("~ts: ~ts (~ts)", [Complaint, meerkat_text:escape(Detail), Status])
    end.

%% Last: from here on it would outlive this VM.
keep(Name, #start{socket = none} = State, _Settings) ->
    ok = meerkat_keep:wanted(Name, false),
    State;
keep(Name, State, Settings) ->
    ok = meerkat_keep:wanted(Name, true),
    told(State, meerkat_keep:message(Settings), "the relay would end with Erlang").

%%% One that another VM left: first the allocations, with the numbers and keys that they know; then
%%% what the configuration says now, as a reload would; then it may ask.

adopt(How, Name, State, Settings) ->
    try
        How(Name, State, Settings)
    catch
        throw:{refused, Why} ->
            ended_for(Why, State);
        throw:{ended, Status} ->
            {again, ended({exit_status, Status})};
        %% The relay of another VM goes on: it can be taken over once the configuration is right.
        throw:{sentence, Sentence} ->
            {error, Sentence}
    end.

%% LIVE: one that has its sockets from another ends that one, too.
ended_for(Why, #start{port = Port, wire = Wire}) ->
    _ = meerkat_relay:command(Wire, 0, {live, #{}}),
    _ = meerkat_relay:command(Wire, 0, {stop, #{}}),
    _ = meerkat_relay_program:await_exit(Port, ?STOP_MS),
    {again, Why}.

%% Another program's, which has told this one all it had, in words that this one knows: processes
%% are made as at an adoption, and what they have is made anew as after a death, with the sockets
%% there were. A listener that is not configured any more takes its allocations along.
inherited(Name, State0, Wanted) ->
    {{kept, #{workers := Workers, epoch := Epoch, away_ms := Away} = Fields}, State1} =
        ask(State0, {adopt, #{}}),
    {ok, #{settings := #{listeners := Listeners, relays := Relays} = Settings, bound := Bound,
           relays := Before}} = understood(Fields, Wanted),
    ok = meerkat_registry:replace(Name, Settings),
    ok = meerkat_listening:set(Name, maps:with([Id || #{id := Id} <- Listeners], Bound)),
    ok = meerkat_grants:resume(Name, Epoch),
    {Outcome, State2} =
        meerkat_adoption:all(Name, Workers, State1#start.wire, fun ask/2, State1),
    State3 = configure(Name, State2, meerkat_relay_setup:config(Settings), Settings),
    Here = [Pool || #{pool := Pool} <- Relays],
    State4 = lists:foldl(fun retired/2, State3,
                         [R || #{pool := Pool} = R <- Before, not lists:member(Pool, Here)]),
    State5 = keep(Name, listen(Name, State4, Settings), Settings),
    Took = meerkat_clock:now_ms() - State5#start.began,
    ok = meerkat_survival:adopted(Name, {Away + Took, Took}, Outcome),
    {ok, (started(State5, Settings))#{retired => [], adopted => false, inherits => true}}.

adopted(Name, State0, Wanted) ->
    {{kept, #{workers := Workers, epoch := Epoch, away_ms := Away} = Fields}, State1} =
        ask(State0, {adopt, #{}}),
    {ok, #{settings := Settings, bound := Bound} = Kept} = understood(Fields, Wanted),
    ok = meerkat_registry:replace(Name, Settings),
    ok = meerkat_listening:set(Name, Bound),
    ok = meerkat_grants:resume(Name, Epoch),
    {Outcome, State2} =
        meerkat_adoption:all(Name, Workers, State1#start.wire, fun ask/2, State1),
    %% Whatever is opened from here on is known to the VM after this one.
    State3 = configure(Name, keep(Name, State2, Settings), meerkat_relay_setup:tune(Settings),
                       Settings),
    #{bandwidth := #{total := OfAll}} = Settings,
    _ = meerkat_relay:command(State3#start.wire, 0,
                              {bucket, #{bucket => 0, bytes_per_s => OfAll}}),
    State4 = close(Name, listen(Name, State3, Settings), Kept),
    State5 = told(State4, {live, #{}}, "the relay is not taken over"),
    Took = meerkat_clock:now_ms() - State5#start.began,
    ok = meerkat_survival:adopted(Name, {Away + Took, Took}, Outcome),
    {ok, (started(State5, Settings))#{retired => [], adopted => true, inherits => false}}.

understood(Fields, Wanted) ->
    case meerkat_keep:read(Fields, Wanted) of
        {ok, Kept} -> {ok, Kept};
        {error, Why} -> throw({refused, Why})
    end.

%% Listeners and addresses that the other VM had and that are not configured any more.
close(Name, State, #{settings := #{listeners := Listeners, relays := Relays}, bound := Bound,
                     relays := Before}) ->
    Gone = maps:without([Id || #{id := Id} <- Listeners], Bound),
    ok = meerkat_listening:retire(Name, Gone),
    Pools = [Pool || #{pool := Pool} <- Before] -- [Pool || #{pool := Pool} <- Relays],
    lists:foldl(fun(Message, S) -> {_, Next} = ask(S, Message), Next end, State,
                [{unlisten, #{listener => Id}} || Id <- maps:keys(Gone)]
                ++ [{pool_close, #{pool => Pool}} || Pool <- Pools]).

%%% Listeners: last, when all that their clients need is there. A relay that replaces another binds
%%% what that one had bound, also ports that the system had chosen.

listen(Name, State0, #{listeners := Listeners} = Settings) ->
    Before = meerkat_listening:bound(Name),
    {Bound, State} = lists:foldl(
        fun(#{id := Id, local := Wanted} = Listener, {Bound, State}) ->
            Local = maps:get(Id, Before, Wanted),
            Tries = case Before of #{Id := _} -> ?BIND_AGAIN; #{} -> 0 end,
            bind(Listener#{local := Local}, Tries, Bound, State)
        end, {#{}, State0}, Listeners),
    ok = meerkat_listening:set(Name, Bound),
    ok = meerkat_beside:changed(Name),
    ok = meerkat_relay_report:start(Bound, Settings),
    State.

%% Those that a reload took away, where they were, while there are allocations made through them: in
%% the relay an allocation is its listener's. One that cannot be had any more loses its allocations.
listen_retired(Name, State, #{retired_listeners := Listeners}) ->
    Ports = case Listeners of [] -> []; _ -> meerkat_alloc_table:server_ports(Name) end,
    Were = meerkat_listening:retired(Name),
    Needed = [L#{local := maps:get(Id, Were), optional := true}
              || #{id := Id} = L <- Listeners, is_map_key(Id, Were),
                 lists:member(element(2, maps:get(Id, Were)), Ports)],
    {Bound, Next} = lists:foldl(fun(L, {Bound, S}) -> bind(L, ?BIND_AGAIN, Bound, S) end,
                                {#{}, State}, Needed),
    {maps:keys(Bound), Next}.

bind(#{id := Id, transport := Code, local := Local} = Listener, Tries, Bound, State) ->
    case ask(State, meerkat_relay_setup:listen(Listener)) of
        {{listening, #{status := ok, local := Address}}, Next} ->
            {Bound#{Id => Address}, Next};
        {_, Next} when Tries > 0 ->
            receive after ?BIND_AGAIN_MS -> ok end,
            bind(Listener, Tries - 1, Bound, Next);
        {{listening, #{detail := Detail}}, Next} ->
            Complaint = [meerkat_ctl:transport_name(Code), meerkat_text:address(Local),
                         meerkat_text:escape(Detail)],
            maps:get(optional, Listener) orelse fail("cannot listen on ~ts ~ts: ~ts", Complaint),
            ?LOG_WARNING("not listening on ~ts ~ts: ~ts", Complaint),
            {Bound, Next}
    end.

%%% A command and its reply. What comes in between is kept for when the relay is up.

ask(#start{wire = Wire, ref = Ref} = State, Message) ->
    closed =/= meerkat_relay:command(Wire, Ref, Message)
        orelse fail("the relay program has ended", []),
    {Frame, Next} = frame(State, Ref),
    {ok, Ref, Reply} = meerkat_ctl:decode(Frame),
    {Reply, Next#start{ref = next(Ref)}}.

%% The frame with this ref, or the first one there is. Looks at each frame once: from a relay that
%% is taken over many come.
frame(#start{unread = Unread, early = Early} = State, Wanted) ->
    case lists:splitwith(fun(Frame) -> not is_wanted(Wanted, Frame) end, Unread) of
        {Before, [Frame | Behind]} ->
            {Frame, State#start{unread = Behind, early = lists:reverse(Before, Early)}};
        {Before, []} ->
            frame(more(State#start{unread = [], early = lists:reverse(Before, Early)}), Wanted)
    end.

is_wanted(any, _Frame) -> true;
is_wanted(Ref, <<_:32, Ref:32, _/binary>>) -> true;
is_wanted(_Ref, _Frame) -> false.

more(#start{port = Port, begun = Begun} = State) ->
    receive
        {Port, {data, Bytes}} ->
            {Frames, Next} = meerkat_wire:split(Begun, Bytes),
            State#start{begun = Next, unread = [F || F <- Frames, not is_granted(F, State)]};
        {Port, {exit_status, Status}} -> throw({ended, Status});
        {'EXIT', Port, Reason} -> fail("~ts", [ended({port, Reason})])
    after ?START_MS ->
        fail("the relay program says nothing for ~b s", [?START_MS div 1000])
    end.

%% What a relay that is taken over has answered before it told of the session is in what it told.
is_granted(<<Code, _/binary>> = Frame, #start{granted = Code, name = Name}) ->
    ok = meerkat_grants:heard(Name, Frame),
    true;
is_granted(_Frame, _State) ->
    false.
