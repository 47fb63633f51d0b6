%% The HTTP listener of a server. It bounds its connections: MAX_OF_A_SOURCE of one source, and
%% MAX_CONNECTIONS in all. A new connection beyond a bound is accepted, and another one is closed:
%% if the source has reached its bound, one of the same source, else one of the source that has
%% most. Of that source's connections the oldest that has not sent its request yet is closed, or, if
%% all have, the oldest. So nobody can keep others from /health and /ready, and a client that sends
%% its request at once is not closed.
-module(meerkat_http).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/2, address/1, bound/2, forget/2, try_address/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export([accept/2]).    % by its full name, so that the code may be replaced

-type address() :: {inet:ip_address(), inet:port_number()}.
-type source() :: meerkat_prefix:source().

-record(connection, {
    number :: pos_integer(),        % in the order they came
    source :: source(),
    asked = false :: boolean()      % its request is here
}).
-record(state, {
    name :: atom(),
    socket :: gen_tcp:socket(),
    last = 0 :: non_neg_integer(),
    connections = #{} :: #{pid() => #connection{}}
}).

-define(MAX_CONNECTIONS, 256).
-define(MAX_OF_A_SOURCE, 64).
-define(SEND_MS, 5000).
-define(ACCEPT_MS, 1000).
-define(AGAIN_MS, 100).
-define(BIND_AGAIN, 60).
-define(BIND_AGAIN_MS, 100).

%% Listens at Wanted, the value of http_listen, when this returns. The error is {shutdown,
%% Sentence}.
-spec start_link(Name :: atom(), Wanted :: address()) ->
    {ok, pid()} | {error, {shutdown, string()}}.
start_link(Name, Wanted) ->
    case gen_server:start_link(?MODULE, {Name, Wanted}, []) of
        {ok, Pid} -> {ok, Pid};
        {error, {shutdown, Sentence}} -> {error, {shutdown, Sentence}}
    end.

%% Where a server serves HTTP, if it does.
-spec address(Name :: atom()) -> address() | none.
address(Name) ->
    #{http := #{listen := Wanted}} = meerkat_registry:settings(Name),
    bound(Name, Wanted).

%% Where it listens, or listened, for this value of http_listen; with port 0, at the port that the
%% system has chosen.
-spec bound(Name :: atom(), Wanted :: address() | undefined) -> address() | none.
bound(Name, Wanted) ->
    meerkat_store:get(Name, ?MODULE, Wanted).

%% Forgets where it listened: a listener that is started for the same value later does not try to
%% have the same port again.
-spec forget(Name :: atom(), Wanted :: address()) -> ok.
forget(Name, Wanted) ->
    meerkat_store:delete(Name, ?MODULE, Wanted).

%% Can this address be listened on? The error is a reason and a sentence.
-spec try_address(address()) -> ok | {error, {inet:posix(), string()}}.
try_address(Address) ->
    case listen(Address) of
        {ok, Probe} -> gen_tcp:close(Probe);
        {error, Why} -> {error, Why}
    end.

-spec init({atom(), address()}) -> {ok, #state{}} | {stop, {shutdown, string()}}.
init({Name, Wanted}) ->
    _ = process_flag(trap_exit, true),
    %% The socket of a listener that was killed may hold the address for a moment.
    {Address, Tries} = case bound(Name, Wanted) of
        none -> {Wanted, 0};
        Before -> {Before, ?BIND_AGAIN}
    end,
    case listen(Address, Tries) of
        {ok, Socket} ->
            {ok, Port} = inet:port(Socket),
            Bound = setelement(2, Address, Port),
            ok = meerkat_store:put(Name, ?MODULE, Wanted, Bound),
            told(Name, Bound),
            Self = self(),
            _ = spawn_link(fun() -> accept(Socket, Self) end),
            {ok, #state{name = Name, socket = Socket}};
        {error, {_, Sentence}} ->
            {stop, {shutdown, Sentence}}
    end.

told(Name, Address) ->
    #{http := #{token := Token}} = meerkat_registry:settings(Name),
    ?LOG_NOTICE("serving HTTP on http://~ts/~ts",
                [meerkat_text:address(Address),
                 case Token() of
                     undefined -> ", without /credentials: http_token is not set";
                     _ -> ""
                 end]).

listen(Address, Tries) ->
    case listen(Address) of
        {error, _} when Tries > 0 ->
            receive after ?BIND_AGAIN_MS -> ok end,
            listen(Address, Tries - 1);
        Outcome ->
            Outcome
    end.

listen({Ip, Port} = Address) ->
    Options = [binary, family(Ip), {ip, Ip}, {active, false}, {reuseaddr, true}, {nodelay, true},
               {backlog, ?MAX_CONNECTIONS}, {send_timeout, ?SEND_MS}, {send_timeout_close, true}],
    case gen_tcp:listen(Port, Options) of
        {ok, Socket} ->
            {ok, Socket};
        {error, Reason} ->
            Sentence = ["cannot serve HTTP on ", meerkat_text:address(Address), ": ",
                        inet:format_error(Reason)],
            {error, {Reason, lists:flatten(Sentence)}}
    end.

family(Ip) when tuple_size(Ip) =:= 4 -> inet;
family(_Ip) -> inet6.

%%% Connections

%% Accepts the next connection when this one has its process. Connections that come faster wait in
%% the kernel.
-spec accept(gen_tcp:socket(), Listener :: pid()) -> ok.
accept(Socket, Listener) ->
    case gen_tcp:accept(Socket, ?ACCEPT_MS) of
        {ok, Connection} ->
            ok = case inet:peername(Connection) of
                {ok, {Ip, _}} ->
                    {ok, Pid} = gen_server:call(Listener, {place, Connection, Ip}, infinity),
                    hand_over(Connection, Pid);
                {error, _} ->
                    gen_tcp:close(Connection)
            end,
            ?MODULE:accept(Socket, Listener);
        {error, closed} ->
            ok;
        {error, timeout} ->
            ?MODULE:accept(Socket, Listener);
        {error, _Passing} ->    % no descriptor, or the client is gone already
            receive after ?AGAIN_MS -> ?MODULE:accept(Socket, Listener) end
    end.

%% Its process may have been ended by now, to make room.
hand_over(Connection, Pid) ->
    case gen_tcp:controlling_process(Connection, Pid) of
        ok ->
            Pid ! {serve, Connection},
            ok;
        {error, _} ->
            gen_tcp:close(Connection)
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, {ok, pid()}, #state{}}.
handle_call({place, Socket, Peer}, _From, #state{name = Name, last = Last} = State) ->
    Ip = as_ipv4(Peer),
    Source = meerkat_prefix:source(Ip),
    #state{connections = Others} = make_room(Source, State),
    Self = self(),
    Asked = fun(Pid) -> gen_server:cast(Self, {asked, Pid}) end,
    Pid = meerkat_http_conn:start_link(Name, Socket, Ip, Asked),
    Connection = #connection{number = Last + 1, source = Source},
    {reply, {ok, Pid}, State#state{last = Last + 1, connections = Others#{Pid => Connection}}}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({asked, Pid}, #state{connections = Connections} = State) ->
    case Connections of
        #{Pid := Connection} ->
            Asked = Connections#{Pid := Connection#connection{asked = true}},
            {noreply, State#state{connections = Asked}};
        #{} ->
            {noreply, State}
    end;
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({'EXIT', Pid, Reason}, #state{connections = Connections} = State) ->
    case Connections of
        #{Pid := _} -> {noreply, State#state{connections = maps:remove(Pid, Connections)}};
        #{} when Reason =:= killed; Reason =:= normal -> {noreply, State};
        #{} -> {stop, Reason, State}
    end;
handle_info(_Other, State) ->
    {noreply, State}.

%% Requests that have come are still answered; other connections are closed.
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{socket = Socket, connections = Connections}) ->
    ok = gen_tcp:close(Socket),
    maps:foreach(fun(Pid, #connection{asked = Asked}) ->
        true = unlink(Pid),
        Asked orelse exit(Pid, kill)
    end, Connections).

%% A socket for both families shows IPv4 addresses as IPv6 ones.
as_ipv4({0, 0, 0, 0, 0, 16#ffff, High, Low}) ->
    {High bsr 8, High band 255, Low bsr 8, Low band 255};
as_ipv4(Ip) ->
    Ip.

make_room(Source, #state{connections = Connections} = State) ->
    Counts = maps:fold(fun(_, #connection{source = S}, Counts) ->
        maps:update_with(S, fun(N) -> N + 1 end, 1, Counts)
    end, #{}, Connections),
    case maps:get(Source, Counts, 0) of
        Many when Many >= ?MAX_OF_A_SOURCE -> give_way(Source, State);
        _ when map_size(Connections) >= ?MAX_CONNECTIONS -> give_way(greediest(Counts), State);
        _ -> State
    end.

greediest(Counts) ->
    {_, Source} = lists:max([{N, S} || {S, N} <- maps:to_list(Counts)]),
    Source.

%% Closes a connection of this source: one that has not sent its request rather than one that has,
%% and of these the oldest.
give_way(Source, #state{connections = Connections} = State) ->
    {_, _, Pid} = lists:min([{Asked, Number, Pid}
                             || {Pid, #connection{source = S, number = Number, asked = Asked}}
                                    <- maps:to_list(Connections),
                                S =:= Source]),
    true = exit(Pid, kill),
    State#state{connections = maps:remove(Pid, Connections)}.
