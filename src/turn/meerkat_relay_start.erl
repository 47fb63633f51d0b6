%% The start of a relay program: opens the port, agrees on the protocol, tells it the configuration
%% and has it listen, one command after another. Called by the process that owns the port from then
%% on (meerkat_relay_owner). Whatever goes wrong ends the start with one sentence for the operator.
-module(meerkat_relay_start).

-include_lib("kernel/include/logger.hrl").

-export([start/2, next/1, ended/1]).

-export_type([started/0]).

%% What the owner goes on with. `retired`: listeners that are there for the replay only. `early`:
%% frames that came meanwhile and are nobody's reply; `begun`: the part there is of the one after
%% them.
-type started() :: #{port := port(), os_pid := pos_integer() | none, wire := meerkat_wire:wire(),
                     early := [binary()], begun := binary(), ref := meerkat_ctl:ref(),
                     retired := [Listener :: pos_integer()]}.

-record(start, {
    port :: port(),
    os_pid :: pos_integer() | none,
    wire :: meerkat_wire:wire(),
    begun = <<>> :: binary(),
    early = [] :: [binary()],
    ref :: meerkat_ctl:ref()                            % of the next command
}).

%% For a relay under a sanitizer; a healthy one takes milliseconds.
-define(START_MS, 20000).
%% Refs from here on are the owner's; those of allocations are small.
-define(FIRST_REF, 16#80000000).
%% After a crash the kernel may still be tearing down the sockets of the relay before.
-define(BIND_AGAIN, 600).
-define(BIND_AGAIN_MS, 5).

%% Returns once every listener is bound; where, meerkat_listening knows. After an error the program
%% has ended.
-spec start(Name :: atom(), meerkat_settings:settings()) -> {ok, started()} | {error, string()}.
start(Name, Settings) ->
    case open(Name, Settings) of
        {ok, Opened} -> start(Name, Opened, Settings);
        {error, Sentence} -> {error, Sentence}
    end.

start(Name, #start{port = Port, os_pid = OsPid} = Opened, Settings) ->
    try
        Ready = configure(Name, introduce(Opened, Settings), Settings),
        {Retired, Listening} = listen_retired(Name, listen(Name, Ready, Settings), Settings),
        #start{wire = Wire, early = Early, begun = Begun, ref = Ref} = Listening,
        {ok, #{port => Port, os_pid => OsPid, wire => Wire, early => Early, begun => Begun,
               ref => Ref, retired => Retired}}
    catch
        throw:{sentence, Format, Args} ->
            _ = erlang:port_info(Port) =/= undefined andalso meerkat_relay_program:kill(OsPid),
            {error, sentence(Format, Args)}
    end.

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
    throw({sentence, Format, Args}).

sentence(Format, Args) ->
    lists:flatten(io_lib:format(Format, Args)).

%%% The program

open(Name, Settings) ->
    case meerkat_relay_program:path(Settings) of
        {error, Sentence} -> {error, Sentence};
        Program -> opened(Program, meerkat_relay_program:start(Name, Program))
    end.

opened(_Program, {ok, Port, OsPid}) ->
    {ok, #start{port = Port, os_pid = OsPid, wire = meerkat_wire:start_link(Port),
                ref = ?FIRST_REF}};
opened(Program, {error, Reason}) ->
    {error, sentence("the relay program ~ts cannot be started: ~ts",
                     [Program, file:format_error(Reason)])}.

%% Only the part of HELLO that every version has is read before the versions agree.
introduce(State, Settings) ->
    Program = meerkat_relay_program:path(Settings),
    Hello = meerkat_relay:code(hello),
    Magic = meerkat_ctl:magic(),
    case frame(State, any) of
        {<<Hello, 0:24, 0:32, Magic:32, Version:16, Hash:64, _/binary>>, Next} ->
            Ours = {meerkat_ctl:version(), meerkat_ctl:table_hash()},
            agree({Version, Hash}, Ours, Program),
            Next;
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

configure(Name, State0, #{relays := Relays, retired := Retired} = Settings) ->
    State1 = told(State0, meerkat_relay_setup:config(Settings), "the relay does not start"),
    %% An address that was there before may come back: a relay that starts without it is no failure.
    Served = map_size(meerkat_listening:bound(Name)) > 0,
    Wanted = [case Served of true -> R#{awaited => true}; false -> R end || R <- Relays],
    State2 = lists:foldl(fun relay_address/2, State1, Wanted),
    State3 = lists:foldl(fun retired/2, State2, Retired),
    ok = meerkat_quota:none_held(Name),
    %% Of those whose allocations will be replayed.
    _ = [meerkat_relay:command(State3#start.wire, 0, Bucket)
         || Bucket <- meerkat_quota:rates(Name, Settings)],
    State4 = told(State3, meerkat_relay_setup:policy(Settings), "the peer rules are refused"),
    State5 = told(State4, meerkat_relay_setup:streams(Settings), "connections are refused"),
    State6 = told(State5, meerkat_relay_setup:front(Settings), "proxies or names are refused"),
    State7 = told(State6, meerkat_grants:message(Name), "grants are refused"),
    Were = case Served of true -> in_force; false -> new end,
    lists:foldl(fun(Message, State) -> certificates(Message, Settings, State) end, State7,
                meerkat_relay_setup:certificates(Were, Settings)).

certificates(Message, Settings, State) ->
    case ask(State, Message) of
        {{certified, #{status := ok}}, Next} -> Next;
        {{certified, Refused}, _} -> fail("~ts", [meerkat_relay_setup:complaint(Refused, Settings)])
    end.

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

%% The frame with this ref, or the first one there is.
frame(#start{early = Early} = State, Wanted) ->
    case lists:splitwith(fun(Frame) -> not is_wanted(Wanted, Frame) end, Early) of
        {Before, [Frame | Behind]} -> {Frame, State#start{early = Before ++ Behind}};
        {_, []} -> frame(more(State), Wanted)
    end.

is_wanted(any, _Frame) -> true;
is_wanted(Ref, <<_:32, Ref:32, _/binary>>) -> true;
is_wanted(_Ref, _Frame) -> false.

more(#start{port = Port, begun = Begun, early = Early} = State) ->
    receive
        {Port, {data, Bytes}} ->
            {Frames, Next} = meerkat_wire:split(Begun, Bytes),
            State#start{begun = Next, early = Early ++ Frames};
        {Port, {exit_status, Status}} -> fail("~ts", [ended({exit_status, Status})]);
        {'EXIT', Port, Reason} -> fail("~ts", [ended({port, Reason})])
    after ?START_MS ->
        fail("the relay program says nothing for ~b s", [?START_MS div 1000])
    end.
