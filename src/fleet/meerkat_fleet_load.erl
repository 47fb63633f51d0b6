%% Tells the other nodes of a fleet how full this one is and where clients come in, and keeps what
%% they told (meerkat_elsewhere): clients are sent to them from here where this one is full or
%% drained, and told of them besides this one. What a node has not told for a while is forgotten.
-module(meerkat_fleet_load).
-behaviour(gen_server).

-export([start_link/1, again/1, forget/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(GROUP, load).
%% In a fleet of up to a hundred nodes; in a larger one so many times slower, that a node hears a
%% hundred times a second at most.
-define(TELL_MS, 1000).
-define(TOLD_PER_S, 100).
%% Times that, until a node that says nothing is nowhere to send clients to.
-define(SILENT, 5).

-record(state, {
    name :: atom(),
    timer :: reference(),
    %% And when that was, in ms.
    heard = #{} :: #{pid() => {At :: integer(), meerkat_elsewhere:place()}}
}).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% Settings, or whether the server takes allocations, may be others than they were.
-spec again(Name :: atom()) -> ok.
again(Name) ->
    case meerkat_roles:find(Name, fleet_load) of
        none -> ok;
        Pid -> gen_server:cast(Pid, again)
    end.

%% The server is in no fleet any more.
-spec forget(Name :: atom()) -> ok.
forget(Name) ->
    ok = meerkat_roles:leave(Name, fleet_load),
    meerkat_elsewhere:put_places(Name, []).

-spec init(atom()) -> {ok, #state{}}.
init(Name) ->
    ok = pg:join(meerkat_fleet:scope(Name), ?GROUP, self()),
    ok = meerkat_elsewhere:put_places(Name, []),
    ok = meerkat_roles:take(Name, fleet_load),
    {ok, #state{name = Name, timer = erlang:send_after(0, self(), tell)}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({place, Pid, Place}, #state{heard = Heard} = State) ->
    {noreply, known(State#state{heard = Heard#{Pid => {meerkat_clock:now_ms(), Place}}})};
handle_cast(again, State) ->
    {noreply, told(State)};
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(tell, State) ->
    {noreply, known(told(State))};
handle_info(_Other, State) ->
    {noreply, State}.

told(#state{name = Name, timer = Timer} = State) ->
    _ = erlang:cancel_timer(Timer),
    Others = pg:get_members(meerkat_fleet:scope(Name), ?GROUP) -- [self()],
    Place = meerkat_services:place(Name),
    lists:foreach(fun(Pid) -> gen_server:cast(Pid, {place, self(), Place}) end, Others),
    State#state{timer = erlang:send_after(every(length(Others)), self(), tell)}.

every(Others) ->
    ?TELL_MS * max(1, (Others + ?TOLD_PER_S - 1) div ?TOLD_PER_S).

%% Without those that are gone, or hang.
known(#state{name = Name, heard = Heard} = State) ->
    There = pg:get_members(meerkat_fleet:scope(Name), ?GROUP),
    Since = meerkat_clock:now_ms() - ?SILENT * every(length(There)),
    Known = maps:filter(fun(_, {At, _}) -> At >= Since end, maps:with(There, Heard)),
    ok = meerkat_elsewhere:put_places(Name, [Place || {_, Place} <- maps:values(Known)]),
    State#state{heard = Known}.
