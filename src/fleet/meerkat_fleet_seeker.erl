%% Connects to the nodes that the key `fleet` names, now and every ten seconds. It waits for DNS and
%% for nodes that do not answer, and nobody waits for it.
-module(meerkat_fleet_seeker).
-behaviour(gen_server).

-export([start_link/1, seek/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(AGAIN_MS, 10000).

-record(state, {name :: atom(), timer :: reference()}).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% The key may have another value by now.
-spec seek(Name :: atom()) -> ok.
seek(Name) ->
    case meerkat_roles:find(Name, fleet_seeker) of
        none -> ok;
        Pid -> gen_server:cast(Pid, seek)
    end.

-spec init(atom()) -> {ok, #state{}}.
init(Name) ->
    ok = meerkat_roles:take(Name, fleet_seeker),
    {ok, #state{name = Name, timer = erlang:send_after(0, self(), seek)}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

-spec handle_cast(seek, #state{}) -> {noreply, #state{}}.
handle_cast(seek, State) ->
    {noreply, sought(State)}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(seek, State) ->
    {noreply, sought(State)};
handle_info(_Other, State) ->
    {noreply, State}.

sought(#state{name = Name, timer = Timer} = State) ->
    _ = erlang:cancel_timer(Timer),
    #{fleet := Members} = meerkat_registry:settings(Name),
    Wanted = meerkat_fleet_nodes:wanted(Members),
    ok = meerkat_fleet:wanted(Name, Wanted),
    lists:foreach(fun(Node) -> net_kernel:connect_node(Node) end, Wanted -- nodes()),
    State#state{timer = erlang:send_after(?AGAIN_MS, self(), seek)}.
