%% The fleet that a server belongs to: servers of one name on nodes that are connected, each told of
%% in a group of `pg`. It asks all of them at once, and keeps them at one about who was revoked or
%% disconnected. docs/design/fleet.md has the whole way.
%%
%% In a shell the server of a node of its own is `default`: meerkat_fleet:status(default).
-module(meerkat_fleet).
-behaviour(gen_server).

%% For programs, as meerkat:status/1 and the others are for one node.
-export([status/1, allocations/2, disconnect/2, revoke/3, drain/3, undrain/2, loglevel/2]).
-export_type([told/1]).
%% For what stands beside it here.
-export([scope/1, start_link/1, forget/1, wanted/2, revoked/3, info/1, ask/4, disconnect/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% The group of a scope; there is one.
-define(GROUP, members).
%% How often it is looked who is there.
-define(LOOK_MS, 1000).
%% For all answers together.
-define(ANSWER_MS, 5000).
%% Rows of each node, where the caller sets no limit.
-define(ROWS, 1000).
%% For how long it is remembered that a user was disconnected.
-define(ENDED_MS, 3600000).

%% What each node answered, and those that did not: named ones that are not there, too.
-type told(Answer) :: #{answers := [{node(), Answer}], silent := [node()]}.
-type who() :: meerkat_audit:who().

-record(state, {
    name :: atom(),
    wanted = [] :: [node()],
    %% The others, each with its monitor.
    members = #{} :: #{pid() => reference()},
    %% Users that were disconnected, and when (Unix time in ms).
    ended = #{} :: #{User :: binary() => At :: integer()}
}).

%%% For programs

%% meerkat:status/1 of each node. badarg where the server is in no fleet, as with all of these.
-spec status(Name :: atom()) -> told({ok, map()} | {error, binary()}).
status(Name) ->
    ask(Name, all, {status, []}, node).

%% The allocations of all nodes that a filter lets through (meerkat_sessions): of each node how many
%% there are and the first of them, 1,000 where the filter has no limit.
-spec allocations(Name :: atom(), meerkat_sessions:filter()) ->
    told({ok, #{total := non_neg_integer(), allocations := [map()]}} | {error, binary()}).
allocations(Name, Filter) ->
    ask(Name, all, {allocations, [maps:merge(#{limit => ?ROWS}, Filter)]}, node).

%% Ends a user's allocations everywhere; nodes that are away do it when they are back, within an
%% hour.
-spec disconnect(Name :: atom(), {user, binary()}) ->
    told({ok, non_neg_integer()} | {error, binary()}).
disconnect(Name, Whom) ->
    disconnect(Name, Whom, node).

%% meerkat:revoke/3 everywhere; nodes that are away hear of it when they are back.
-spec revoke(Name :: atom(), User :: binary(), TtlS :: pos_integer()) ->
    told({ok, non_neg_integer()} | {error, binary()}).
revoke(Name, User, TtlS) when is_binary(User), is_integer(TtlS), TtlS > 0 ->
    ask(Name, all, {revoke, [User, TtlS]}, node).

%% meerkat:drain/1 on one node; Options as meerkat_admin's: deadline, stay, to.
-spec drain(Name :: atom(), node(), map()) -> told({ok, non_neg_integer()} | {error, binary()}).
drain(Name, Node, Options) ->
    ask(Name, Node, {drain, [Options]}, node).

-spec undrain(Name :: atom(), node()) -> told({ok, done} | {error, binary()}).
undrain(Name, Node) ->
    ask(Name, Node, {undrain, []}, node).

%% meerkat:loglevel/1 everywhere.
-spec loglevel(Name :: atom(), logger:level()) -> told({ok, logger:level()} | {error, binary()}).
loglevel(Name, Level) ->
    ask(Name, all, {loglevel, [atom_to_binary(Level)]}, node).

%% The same for somebody who is told of in the log.
-spec disconnect(Name :: atom(), {user, binary()}, who()) ->
    told({ok, non_neg_integer()} | {error, binary()}).
disconnect(Name, {user, User}, Who) ->
    At = meerkat_clock:wall_ms(),
    Told = ask(Name, all, {disconnect, [{user, User}]}, Who),
    ok = gen_server:cast(process(Name), {ended, User, At}),
    Told.

%%% For what stands beside it

%% Of pg. Scopes are per name: servers of different names on one node are in different fleets.
-spec scope(Name :: atom()) -> atom().
scope(Name) ->
    list_to_atom("meerkat_fleet_" ++ atom_to_list(Name)).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% The server is in no fleet any more.
-spec forget(Name :: atom()) -> ok.
forget(Name) ->
    ok = meerkat_roles:leave(Name, fleet),
    ok = meerkat_roles:leave(Name, fleet_seeker),
    meerkat_store:delete(Name, ?MODULE, unanswered).

%% The others that are meant to be in it.
-spec wanted(Name :: atom(), [node()]) -> ok.
wanted(Name, Nodes) ->
    gen_server:cast(process(Name), {wanted, Nodes}).

%% A user was revoked here: the others are to do it too. Nothing where there is no fleet.
-spec revoked(Name :: atom(), User :: binary(), Until :: integer()) -> ok.
revoked(Name, User, Until) ->
    case meerkat_roles:find(Name, fleet) of
        none -> ok;
        Pid -> gen_server:cast(Pid, {revoked, User, Until})
    end.

%% Members:
%%   members     the nodes that are there, this one too
%%   missing     those that are named and not there
%%   unanswered  questions of this node that another left without an answer
%% none where the server is in no fleet, or that is just being started again.
-spec info(Name :: atom()) -> #{members | missing => [node()], unanswered => non_neg_integer()}
                              | none.
info(Name) ->
    try gen_server:call(process(Name), info) of
        Info -> Info#{unanswered => meerkat_store:get(Name, ?MODULE, unanswered, 0)}
    catch
        error:badarg -> none;
        exit:_ -> none
    end.

%% A question of meerkat_admin's to one node or to all. Who it is that asks is told to each.
-spec ask(Name :: atom(), all | node(), meerkat_admin:question(), who()) ->
    told(meerkat_admin:answer()).
ask(Name, Whom, Question, Who) ->
    #{missing := Missing} = gen_server:call(process(Name), info),
    Meant = [Pid || Pid <- members(Name), Whom =:= all orelse node(Pid) =:= Whom],
    Asked = [{node(Pid), gen_server:send_request(Pid, {ask, Question, Who})} || Pid <- Meant],
    Deadline = erlang:monotonic_time(millisecond) + ?ANSWER_MS,
    Heard = [{Node, answer(Request, Deadline)} || {Node, Request} <- Asked],
    Silent = [Node || {Node, none} <- Heard],
    _ = [meerkat_store:count(Name, ?MODULE, unanswered) || _ <- Silent],
    Away = case Whom of
        all -> Missing;
        Node -> [Node || Meant =:= []]
    end,
    #{answers => lists:keysort(1, [{N, Answer} || {N, Answer} <- Heard, Answer =/= none]),
      silent => lists:usort(Silent ++ Away)}.

answer(Request, Deadline) ->
    Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
    case gen_server:receive_response(Request, Left) of
        {reply, Answer} -> Answer;
        _ -> none
    end.

members(Name) ->
    pg:get_members(scope(Name), ?GROUP).

%% badarg where the server is in no fleet.
process(Name) ->
    case meerkat_roles:find(Name, fleet) of
        none -> error(badarg, [Name]);
        Pid -> Pid
    end.

%%% gen_server

-spec init(atom()) -> {ok, #state{}}.
init(Name) ->
    ok = meerkat_roles:take(Name, fleet),
    ok = pg:join(scope(Name), ?GROUP, self()),
    self() ! look,
    {ok, #state{name = Name}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call(info, _From, #state{members = Members, wanted = Wanted} = State) ->
    There = lists:usort([node() | [node(Pid) || Pid <- maps:keys(Members)]]),
    {reply, #{members => There, missing => Wanted -- There}, State};
handle_call({ask, Question, Who}, {Asker, _} = From, #state{name = Name} = State) ->
    _ = spawn(fun() -> answered(Question, Name, whose(Who, node(Asker)), From) end),
    {noreply, State};
handle_call(_Request, _From, State) ->
    {noreply, State}.

%% One who asks from elsewhere is told with the node.
whose(Who, Node) when Node =:= node() -> Who;
whose(Who, Node) -> {fleet, Node, Who}.

%% What is done once the answer is on its way may end this node.
answered(Question, Name, Who, From) ->
    case meerkat_admin:handle(Question, Name, Who) of
        {ok, Answer, Then} ->
            gen_server:reply(From, {ok, Answer}),
            Then();
        Answer ->
            gen_server:reply(From, Answer)
    end.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({wanted, Nodes}, State) ->
    {noreply, State#state{wanted = Nodes}};
handle_cast({ended, User, At}, #state{ended = Ended} = State) ->
    ok = tell({known, #{}, #{User => At}}, State),
    {noreply, State#state{ended = later(User, At, Ended)}};
handle_cast({revoked, User, Until}, State) ->
    ok = tell({known, #{User => Until}, #{}}, State),
    {noreply, State};
handle_cast({known, Revoked, Ended}, #state{name = Name, ended = Before} = State) ->
    New = maps:filter(fun(User, At) -> maps:get(User, Before, At - 1) < At end, Ended),
    _ = [spawn(fun() -> caught_up(Name, Revoked, New) end)
         || map_size(Revoked) + map_size(New) > 0],
    {noreply, State#state{ended = maps:merge(Before, New)}};
handle_cast(_Request, State) ->
    {noreply, State}.

tell(What, #state{members = Members}) ->
    lists:foreach(fun(Pid) -> gen_server:cast(Pid, What) end, maps:keys(Members)).

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(look, State) ->
    _ = erlang:send_after(?LOOK_MS, self(), look),
    {noreply, looked(State)};
handle_info({'DOWN', Monitor, process, Pid, _}, #state{members = Members} = State) ->
    {noreply, case Members of
        #{Pid := Monitor} -> State#state{members = maps:remove(Pid, Members)};
        #{} -> State
    end};
handle_info(_Other, State) ->
    {noreply, State}.

%% Who joins is told what is in force, and tells it in turn when it sees this one.
looked(#state{name = Name, members = Members, ended = Ended} = State) ->
    New = [Pid || Pid <- members(Name), Pid =/= self(), not is_map_key(Pid, Members)],
    Since = meerkat_clock:wall_ms() - ?ENDED_MS,
    Kept = maps:filter(fun(_, At) -> At > Since end, Ended),
    _ = [gen_server:cast(Pid, {known, meerkat_revoked:all(Name), Kept}) || Pid <- New],
    Monitors = maps:from_list([{Pid, erlang:monitor(process, Pid)} || Pid <- New]),
    State#state{ended = Kept, members = maps:merge(Members, Monitors)}.

later(User, At, Ended) ->
    Ended#{User => max(At, maps:get(User, Ended, At))}.

%% In a process of its own: allocations are waited for. Those that began after a user was
%% disconnected are not meant.
caught_up(Name, Revoked, Ended) ->
    lists:foreach(fun(User) -> meerkat_sessions:disconnect(Name, {user, User}) end,
                  meerkat_revoked:take(Name, Revoked)),
    Now = meerkat_clock:wall_ms(),
    maps:foreach(fun(User, At) ->
        meerkat_sessions:disconnect_older(Name, User, max(0, Now - At))
    end, Ended).
