%% Tells systemd the state of the service: ready when its server runs, alive as long as the relay
%% program answers, stopping. Only if systemd asks for it (Type=notify); see sd_notify(3). systemd
%% decides whether and when to start the service again.
-module(meerkat_systemd).
-behaviour(gen_server).

-export([child_spec/1, start_link/1, draining/1]).
%% Internal: a process that exits with what it found out.
-export([say_alive/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% What ending takes at most once a server is drained, in seconds.
-define(TO_END_S, 30).

-record(state, {
    server :: atom(),
    socket :: gen_udp:socket(),
    to :: binary(),
    every :: pos_integer() | infinity,                  % milliseconds between signs of life
    asking = none :: none | {pid(), reference()}        % whether there may be one
}).

%% At most, before the next question where the last one had no good answer.
-define(AGAIN_MS, 1000).

%% To be started once Server serves.
-spec child_spec(Server :: atom()) -> supervisor:child_spec().
child_spec(Server) ->
    #{id => ?MODULE, start => {?MODULE, start_link, [Server]}}.

%% `ignore` without systemd, or where its socket cannot be spoken to.
-spec start_link(Server :: atom()) -> {ok, pid()} | ignore.
start_link(Server) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Server, []).

%% Tells systemd that ending will take so many seconds and a little more, which may be longer than
%% the unit's TimeoutStopSec.
-spec draining(Seconds :: non_neg_integer()) -> ok.
draining(Seconds) ->
    gen_server:cast(?MODULE, {draining, Seconds}).

-spec init(atom()) -> {ok, #state{}} | ignore.
init(Server) ->
    case {os:getenv("NOTIFY_SOCKET", ""), gen_udp:open(0, [local, binary])} of
        {[First | _] = Path, {ok, Socket}} when First =:= $/; First =:= $@ ->
            _ = process_flag(trap_exit, true),
            State = #state{server = Server, socket = Socket, to = address(Path), every = every()},
            notify(State, ["READY=1\nSTATUS=serving\nMAINPID=", os:getpid()]),
            ok = ask_in(State#state.every),
            {ok, State};
        {_, {ok, Socket}} ->
            ok = gen_udp:close(Socket),
            ignore;
        {_, {error, _}} ->
            ignore
    end.

%% A name of the abstract namespace is written with @ for its leading zero.
address([$@ | Name]) -> iolist_to_binary([0, Name]);
address(Path) -> unicode:characters_to_binary(Path).

%% Six times as often as systemd wants it: if one question to the relay gets no answer for its 5 s
%% (meerkat_relay), the next ones are still in time.
every() ->
    case string:to_integer(os:getenv("WATCHDOG_USEC", "")) of
        {Microseconds, []} when Microseconds > 6000 -> Microseconds div 6000;
        _ -> infinity
    end.

ask_in(infinity) ->
    ok;
ask_in(Ms) ->
    _ = erlang:send_after(Ms, self(), ask),
    ok.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({draining, Seconds}, State) ->
    Longest = integer_to_list((Seconds + ?TO_END_S) * 1000000),
    notify(State, ["STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=", Longest]),
    {noreply, State};
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(ask, #state{server = Server} = State) ->
    {noreply, State#state{asking = spawn_monitor(?MODULE, say_alive, [Server])}};
handle_info({'DOWN', Monitor, process, Pid, Answer},
            #state{asking = {Pid, Monitor}, every = Every} = State) ->
    case Answer of
        true -> notify(State, "WATCHDOG=1"), ask_in(Every);
        _ -> ask_in(min(Every, ?AGAIN_MS))
    end,
    {noreply, State#state{asking = none}};
handle_info(_Other, State) ->
    {noreply, State}.

%% Asks the relay, and exits with whether it is alive. A relay that died counts as alive too: it is
%% being replaced, and its supervisor gives up when that happens too often. One that hangs does not.
-spec say_alive(atom()) -> no_return().
say_alive(Server) ->
    exit(is_alive(Server)).

is_alive(Server) ->
    case meerkat_relay:call(Server, {stats, #{}}) of
        {ok, Stats} -> not meerkat_relay:is_stalled(Stats);
        {error, dead} -> true;
        {error, _} -> false
    end.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, State) ->
    notify(State, "STOPPING=1").

%% If systemd does not listen the message is dropped.
notify(#state{socket = Socket, to = To}, Text) ->
    _ = gen_udp:send(Socket, {local, To}, 0, Text),
    ok.
