%% Tells systemd how the service is: ready when its server stands, alive as long as the relay
%% program answers, stopping. Only where systemd asked for it (Type=notify); see sd_notify(3). It
%% decides nothing: whether and when to start again is systemd's.
-module(meerkat_systemd).
-behaviour(gen_server).

-export([child_spec/1, start_link/1, draining/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% What ending takes at most once a server is drained, in seconds.
-define(TO_END_S, 30).

-record(state, {
    server :: atom(),
    socket :: gen_udp:socket(),
    to :: binary(),
    every :: pos_integer() | infinity                   % milliseconds between signs of life
}).

%% To be started once Server serves.
-spec child_spec(Server :: atom()) -> supervisor:child_spec().
child_spec(Server) ->
    #{id => ?MODULE, start => {?MODULE, start_link, [Server]}}.

%% `ignore` without systemd, or where its socket cannot be spoken to.
-spec start_link(Server :: atom()) -> {ok, pid()} | ignore.
start_link(Server) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Server, []).

%% It will take so many seconds to end, and some: longer than the unit's TimeoutStopSec, perhaps.
-spec draining(Seconds :: non_neg_integer()) -> ok.
draining(Seconds) ->
    gen_server:cast(?MODULE, {draining, Seconds}).

-spec init(atom()) -> {ok, #state{}, timeout()} | ignore.
init(Server) ->
    case {os:getenv("NOTIFY_SOCKET", ""), gen_udp:open(0, [local, binary])} of
        {[First | _] = Path, {ok, Socket}} when First =:= $/; First =:= $@ ->
            _ = process_flag(trap_exit, true),
            State = #state{server = Server, socket = Socket, to = address(Path), every = every()},
            notify(State, ["READY=1\nSTATUS=serving\nMAINPID=", os:getpid()]),
            {ok, State, State#state.every};
        {_, {ok, Socket}} ->
            ok = gen_udp:close(Socket),
            ignore;
        {_, {error, _}} ->
            ignore
    end.

%% A name of the abstract namespace is written with @ for its leading zero.
address([$@ | Name]) -> iolist_to_binary([0, Name]);
address(Path) -> unicode:characters_to_binary(Path).

%% Twice as often as it must be.
every() ->
    case string:to_integer(os:getenv("WATCHDOG_USEC", "")) of
        {Microseconds, []} when Microseconds > 2000 -> Microseconds div 2000;
        _ -> infinity
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}, timeout()}.
handle_call(_Request, _From, State) ->
    {noreply, State, State#state.every}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}, timeout()}.
handle_cast({draining, Seconds}, State) ->
    Longest = integer_to_list((Seconds + ?TO_END_S) * 1000000),
    notify(State, ["STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=", Longest]),
    {noreply, State, State#state.every};
handle_cast(_Request, State) ->
    {noreply, State, State#state.every}.

%% A relay that is being started again says nothing for a moment, one that hangs says nothing more.
-spec handle_info(term(), #state{}) -> {noreply, #state{}, timeout()}.
handle_info(timeout, #state{server = Server} = State) ->
    _ = [notify(State, "WATCHDOG=1") || {ok, _} <- [meerkat_relay:stats(Server)]],
    {noreply, State, State#state.every};
handle_info(_Other, State) ->
    {noreply, State, State#state.every}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, State) ->
    notify(State, "STOPPING=1").

%% Nobody there is nobody's trouble.
notify(#state{socket = Socket, to = To}, Text) ->
    _ = gen_udp:send(Socket, {local, To}, 0, Text),
    ok.
