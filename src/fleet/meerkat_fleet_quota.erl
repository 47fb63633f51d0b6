%% Quotas over a whole fleet. Before a user with a quota has one more allocation the keeper of that
%% user is asked, one of the nodes (meerkat_fleet_counts), and each node tells the keepers once a
%% second how many it has of those that changed; all of them now and then, for whatever was lost. Of
%% realms, which are few, each node tells all others. docs/design/fleet.md has what happens while
%% nodes are cut off.
-module(meerkat_fleet_quota).
-behaviour(gen_server).

-export([start_link/1, again/1, forget/1, total/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(GROUP, quota).
-define(TELL_MS, 1000).
-define(ANSWER_MS, 1000).
%% Times that, until all is told again.
-define(ALL_AFTER, 30).

-record(state, {
    name :: atom(),
    counts :: meerkat_fleet_counts:counts(),
    members :: [pid()],
    %% What the others have of realms, and what they were told.
    realms = #{} :: #{pid() => realms()},
    told = #{} :: realms(),
    rounds = 0 :: non_neg_integer()
}).

-type realms() :: #{meerkat_settings:owner() => non_neg_integer()}.

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% Quotas may be others than they were.
-spec again(Name :: atom()) -> ok.
again(Name) ->
    case meerkat_roles:find(Name, fleet_quota) of
        none -> ok;
        Pid -> gen_server:cast(Pid, again)
    end.

%% The server is in no fleet any more.
-spec forget(Name :: atom()) -> ok.
forget(Name) ->
    ok = meerkat_roles:leave(Name, fleet_quota),
    meerkat_elsewhere:put_realms(Name, #{}).

%% How many a user has on all nodes, as far as whoever keeps count of that user knows; only of users
%% with a quota count is kept. none where it gives no answer, as that of a node that has just gone.
%% badarg where the server is in no fleet.
-spec total(Name :: atom(), meerkat_quota:of_realm()) -> non_neg_integer() | none.
total(Name, User) ->
    case meerkat_roles:find(Name, fleet_quota) of
        none -> error(badarg, [Name, User]);
        Pid -> try gen_server:call(Pid, {total, User}, ?ANSWER_MS) catch exit:_ -> none end
    end.

-spec init(atom()) -> {ok, #state{}}.
init(Name) ->
    ok = pg:join(meerkat_fleet:scope(Name), ?GROUP, self()),
    ok = meerkat_elsewhere:put_realms(Name, #{}),
    ok = meerkat_roles:take(Name, fleet_quota),
    self() ! tell,
    {ok, #state{name = Name, counts = meerkat_fleet_counts:new(self()), members = [self()]}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call({claim, User, Weight, Bound}, From, #state{counts = Counts} = State) ->
    {Keeper, Claimed} = meerkat_fleet_counts:claim(User, Weight, meerkat_clock:now_ms(), Counts),
    ok = gen_server:cast(Keeper, {claim, From, self(), User, Weight, Bound}),
    {noreply, State#state{counts = Claimed}};
handle_call({total, User}, From, #state{counts = Counts} = State) ->
    ok = gen_server:cast(meerkat_fleet_counts:keeper(User, Counts), {total, From, User}),
    {noreply, State};
handle_call(_Request, _From, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({claim, From, Node, User, Weight, {refuse, Max}}, #state{counts = Counts} = State) ->
    {Answer, Next} = meerkat_fleet_counts:decide(Node, User, Weight, Max, Counts),
    ok = gen_server:reply(From, Answer),
    {noreply, State#state{counts = Next}};
handle_cast({claim, From, Node, User, Weight, {replace, Max}}, #state{counts = Counts} = State) ->
    {Losses, Next} = meerkat_fleet_counts:make_room(Node, User, Weight, Max, Counts),
    ok = gen_server:reply(From, ok),
    lists:foreach(fun({Loser, N}) -> gen_server:cast(Loser, {lose, User, N}) end, Losses),
    {noreply, State#state{counts = Next}};
handle_cast({lose, User, N}, #state{name = Name} = State) ->
    ok = meerkat_quota:lose(Name, User, N),
    {noreply, State};
handle_cast({settled, User, Weight}, #state{counts = Counts} = State) ->
    {noreply, State#state{counts = meerkat_fleet_counts:settled(User, Weight, Counts)}};
handle_cast({changed, User}, #state{counts = Counts} = State) ->
    {noreply, State#state{counts = meerkat_fleet_counts:changed(User, Counts)}};
handle_cast({told, Node, Told}, #state{counts = Counts} = State) ->
    {noreply, State#state{counts = meerkat_fleet_counts:told(Node, Told, Counts)}};
handle_cast({realms, Node, Of}, #state{realms = Realms} = State) ->
    {noreply, elsewhere(State#state{realms = Realms#{Node => Of}})};
handle_cast({total, From, User}, #state{counts = Counts} = State) ->
    ok = gen_server:reply(From, meerkat_fleet_counts:total(User, Counts)),
    {noreply, State};
handle_cast(again, State) ->
    {noreply, tell_all(State)};
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(tell, #state{rounds = Rounds} = State) ->
    _ = erlang:send_after(?TELL_MS, self(), tell),
    Looked = looked(State#state{rounds = Rounds + 1}),
    {noreply, told_realms(told(case Rounds rem ?ALL_AFTER of
        0 -> all_changed(Looked);
        _ -> Looked
    end))};
handle_info(_Other, State) ->
    {noreply, State}.

%%% Who is there

%% Others become keepers of users with each node that comes or goes.
looked(#state{name = Name, members = Before, counts = Counts, realms = Realms} = State) ->
    case lists:keysort(2, [{Pid, node(Pid)}
                           || Pid <- pg:get_members(meerkat_fleet:scope(Name), ?GROUP)]) of
        [] ->
            State;
        Placed ->
            case [Pid || {Pid, _} <- Placed] of
                Before ->
                    State;
                Members ->
                    all_changed(elsewhere(State#state{
                        members = Members,
                        counts = meerkat_fleet_counts:members(Members, Counts),
                        realms = maps:with(Members, Realms),
                        told = #{}}))
            end
    end.

%%% What is told

tell_all(State) ->
    told(all_changed(State)).

all_changed(#state{name = Name, counts = Counts} = State) ->
    State#state{counts = lists:foldl(fun meerkat_fleet_counts:changed/2, Counts,
                                     meerkat_quota:users(Name))}.

told(#state{name = Name, counts = Counts} = State) ->
    Settings = meerkat_registry:settings(Name),
    {Told, Next} = meerkat_fleet_counts:flush(fun(User) ->
        meerkat_quota:count(Name, {user, User})
    end, meerkat_clock:now_ms(), Counts),
    maps:foreach(fun(Keeper, Users) -> tell(Keeper, bounded(Users, Settings)) end, Told),
    State#state{counts = Next}.

tell(_Keeper, Users) when map_size(Users) =:= 0 -> ok;
tell(Keeper, Users) -> gen_server:cast(Keeper, {told, self(), Users}).

%% Of users without a quota nobody has to know.
bounded(Users, Settings) ->
    maps:filter(fun({Realm, _}, _) ->
        #{quota := #{user := Max}} = meerkat_settings:tenant(Realm, Settings),
        Max > 0
    end, Users).

told_realms(#state{name = Name, members = Members, told = Told} = State) ->
    #{tenants := Tenants} = meerkat_registry:settings(Name),
    case maps:from_list([{Realm, N} || Realm <- maps:keys(Tenants),
                                       N <- [meerkat_quota:count(Name, {realm, Realm})], N > 0]) of
        Told ->
            State;
        Now ->
            lists:foreach(fun(Pid) -> gen_server:cast(Pid, {realms, self(), Now}) end,
                          Members -- [self()]),
            State#state{told = Now}
    end.

%% The sums, where meerkat_quota looks.
elsewhere(#state{name = Name, realms = Realms} = State) ->
    ok = meerkat_elsewhere:put_realms(Name, maps:fold(fun(_Node, Of, Sums) ->
        maps:merge_with(fun(_, A, B) -> A + B end, Sums, Of)
    end, #{}, Realms)),
    State.
