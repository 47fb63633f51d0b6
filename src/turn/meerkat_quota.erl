%% How many allocations there are: by user, by source address, in all; and whether there may be
%% one more. An allocation's process takes a place before the relay is asked for anything, and
%% gives it back when the allocation is gone; the place of one that died is freed by a monitor.
%% A port that the relay holds for a reservation token has a place too: the allocation that asks for
%% it (EVEN-PORT) takes two, and the token has the second until it is redeemed or over.
%%
%% The rows are in a table of meerkat_registry's, so none is lost with this process. It writes
%% them alone; counts are made from the places, and anew when it starts.
%%
%%   {{session, Id}, #place{}}     the places of allocations
%%   {{token, Token}, #place{}}    and of ports held in reserve
%%   {{ending, Id}, #place{}}      given back for a newer one; its process has yet to end it
%%   {{user, Key}, N, Bucket}      Bucket: what the relay calls the user's bandwidth
%%   {{source, Prefix}, N}         {{realm, Owner}, N}         {total, N}
%%
%% And, which only grow: {{taken, Owner}, N}, places taken, {{refused, Owner}, N}, and
%% {{replaced, Owner}, N}, allocations that a newer one of their user has ended.
%%
%% Key and Prefix are pairs of their realm's owner (meerkat_settings:owner/2) and what they are.
-module(meerkat_quota).
-behaviour(gen_server).

-export([start_link/1, take/3, adopt/5, hold/3, release/2, ended/2, none_held/1, count/2,
         users/1, lose/3]).
-export([buckets/1, rates/2, rate/3]).
-export([user_key/2, person/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([limits/0, counted/0, person/0, of_realm/0]).

%% What the configuration allows; 0 is no limit.
-type limits() :: #{user := non_neg_integer(),
                    %% Beyond that: whether the user's oldest one ends for the new one.
                    replaces := boolean(),
                    source := non_neg_integer(),
                    total := pos_integer()}.
-type counted() :: {user, of_realm()} | {source, of_realm()}
                 | {realm | taken | refused | replaced, meerkat_settings:owner()}
                 | total.
%% A user's name; who has none is known by a source address.
-type person() :: binary() | {source, binary()}.
%% Realms count for themselves.
-type of_realm() :: {meerkat_settings:owner(), person()}.
-type session() :: non_neg_integer().

-record(place, {
    pid :: pid() | none,
    user :: of_realm(),
    source :: of_realm(),
    bucket :: pos_integer(),
    weight :: 1..2,             % for how many it counts
    quota = none :: none | non_neg_integer(),   % its user's own, in place of user_quota
    monitor = none :: none | reference(),
    since = 0 :: integer(),     % when it was taken, in ms
    until = none :: none | integer()    % a token's: when the relay has let go of the port, in ms
}).
-record(state, {
    name :: atom(),
    free = [] :: [pos_integer()],       % buckets that had a user
    next = 1 :: pos_integer(),          % and the first that had none
    held = queue:new() :: queue:queue({Until :: integer(), Token :: pos_integer()}),
    %% {User, Since, Session} of each allocation, from when that is first asked for.
    order = none :: none | ets:table()
}).

%% The relay holds a port for 30 s (port.h) from a moment before Erlang hears of it.
-define(HELD_MS, 30000).
%% Words, as in meerkat_request: all allocations pass here.
-define(HEAP, 16384).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, [{spawn_opt, [{min_heap_size, ?HEAP}]}]).

%% A place for the allocation of the calling process, and another where a port is to be reserved
%% with it; and the bucket its user's bandwidth comes from. Or the code of the answer and the keys
%% that set the bound. 486 says that this client has too many, 508 that all have (RFC 8656 7.2, 19);
%% `here`, that another node of a fleet may have room.
%% An allocation that redeems a token takes over its place, even where the relay then refuses: a
%% token is spent once it has been shown.
-spec take(Name :: atom(), session(), meerkat_alloc_admit:plan()) ->
    {ok, Bucket :: pos_integer()} | {error, 486 | 508, Keys :: string(), here | everywhere}.
take(Name, Session, #{even := Even, token := Token} = Plan) ->
    Wanted = (place(Name, Plan))#place{weight = case Even of 2 -> 2; _ -> 1 end},
    Take = fun() -> gen_server:call(process(Name), {take, Session, Wanted, Token}) end,
    case fleet_wide(Name, Wanted, Token) of
        none -> Take();
        Bound -> take_of_all(Name, Wanted, Bound, Take)
    end.

%% The bound that holds over all nodes of a fleet, where the user may have one more by what is here.
%% A token brings its place along.
fleet_wide(Name, #place{user = {Realm, _} = User}, 0) ->
    Settings = meerkat_registry:settings(Name),
    case meerkat_settings:tenant(Realm, Settings) of
        #{quota := #{user := Max, replaces := true}} when Max > 0 ->
            {replace, Max};
        #{quota := #{user := Max, replaces := false}} when Max > 0 ->
            case count(Name, {user, User}) < Max of
                true -> {refuse, Max};
                false -> none
            end;
        #{} ->
            none
    end;
fleet_wide(_Name, _Wanted, _Token) ->
    none.

take_of_all(Name, #place{user = User, weight = Weight}, Bound, Take) ->
    Claim = meerkat_elsewhere:claim(Name, User, Weight, Bound),
    try Claim of
        full ->
            ok = gen_server:cast(process(Name), {refused, User}),
            {error, 486, "user_quota", everywhere};
        _ ->
            Take()
    after
        Claim =:= alone orelse meerkat_elsewhere:settled(Name, User, Weight)
    end.

place(Name, #{user := User, realm := Realm, client := {Ip, _}} = Plan) ->
    #{usernames := Order} = meerkat_registry:settings(Name),
    #place{pid = self(), since = meerkat_clock:now_ms(), user = {Realm, person(User, Ip, Order)},
           quota = maps:get(user_quota, maps:get(own, Plan, #{}), none),
           source = {Realm, meerkat_prefix:source(Ip)}, bucket = 1, weight = 1}.

%% The place that the allocation had in another VM, where it had begun at Since (in milliseconds of
%% meerkat_clock:now_ms/0), whatever is allowed by now.
-spec adopt(Name :: atom(), session(), meerkat_alloc_admit:plan(), Bucket :: pos_integer(),
            Since :: integer()) -> ok.
adopt(Name, Session, Plan, Bucket, Since) ->
    Place = (place(Name, Plan))#place{bucket = Bucket, since = Since},
    gen_server:call(process(Name), {adopt, Session, Place}).

%% The second place of the allocation is its reservation token's from now on, for as long as the
%% relay holds the port: however soon the allocation ends.
-spec hold(Name :: atom(), session(), Token :: pos_integer()) -> ok.
hold(Name, Session, Token) ->
    told(Name, {hold, Session, Token}).

%% Gives it back, if it is still held. When this returns another may take it.
-spec release(Name :: atom(), session()) -> ok.
release(Name, Session) ->
    told(Name, {release, Session}).

%% The same without waiting. It is done before any take/3 that the caller causes after this.
-spec ended(Name :: atom(), session()) -> ok.
ended(Name, Session) ->
    gen_server:cast(process(Name), {release, Session}).

%% A relay has been started that holds no port for anybody.
-spec none_held(Name :: atom()) -> ok.
none_held(Name) ->
    told(Name, none_held).

told(Name, Request) ->
    try
        gen_server:call(process(Name), Request)
    catch
        %% It may be restarting just now. It monitors the caller and ends reservations by their
        %% time, so nothing is lost where this message is.
        exit:_ -> ok
    end.

process(Name) ->
    meerkat_roles:find(Name, quota).

%% Places held; those taken and refused since the start.
-spec count(Name :: atom(), counted()) -> non_neg_integer().
count(Name, Key) ->
    counted(meerkat_registry:table(Name, quota), Key).

%% The user has newer ones on another node: so many of the oldest here end for them.
-spec lose(Name :: atom(), of_realm(), pos_integer()) -> ok.
lose(Name, User, N) ->
    gen_server:cast(process(Name), {lose, User, N}).

%% Who has any.
-spec users(Name :: atom()) -> [of_realm()].
users(Name) ->
    ets:select(meerkat_registry:table(Name, quota), [{{{user, '$1'}, '_', '_'}, [], ['$1']}]).

%% The buckets in use, and whose realm's users have them.
-spec buckets(Name :: atom()) -> [{pos_integer(), meerkat_settings:owner()}].
buckets(Name) ->
    ets:select(meerkat_registry:table(Name, quota),
               [{{{user, {'$1', '_'}}, '_', '$2'}, [], [{{'$2', '$1'}}]}]).

%% What the relay is to be told of them where settings, or it itself, are new.
-spec rates(Name :: atom(), meerkat_settings:settings()) -> [meerkat_ctl:message()].
rates(Name, Settings) ->
    [bucket_rate(Name, Bucket, Rate)
     || {Bucket, Owner} <- buckets(Name),
        #{bandwidth := #{user := Rate}} <- [meerkat_settings:tenant(Owner, Settings)]].

%% What it is to be told of one that is taken: nothing, as long as no user has ever had a limit that
%% could have been left there.
-spec rate(Name :: atom(), Bucket :: pos_integer(), BytesPerS :: non_neg_integer()) ->
    [meerkat_ctl:message()].
rate(Name, Bucket, 0) ->
    [bucket_rate(Name, Bucket, 0) || meerkat_store:get(Name, ?MODULE, rates) =:= told];
rate(Name, Bucket, Rate) ->
    [bucket_rate(Name, Bucket, Rate)].

bucket_rate(Name, Bucket, Rate) ->
    _ = Rate > 0 andalso meerkat_store:put(Name, ?MODULE, rates, told),
    {bucket, #{bucket => Bucket, bytes_per_s => Rate}}.

%% Who a username counts for. A time-limited one is another at every fetch: what stands behind its
%% expiry is the user. Where nothing does, it stands for itself, and counts for its source address.
-spec user_key(User :: binary(), meerkat_auth_rest:order()) -> binary().
user_key(User, Order) ->
    case meerkat_auth_rest:name(User, Order) of
        {ok, Name} -> Name;
        _ -> User
    end.

%% Whose a request or an allocation is, by whichever credentials of theirs; where these have no
%% name, the source address is who it is.
-spec person(User :: binary(), inet:ip_address(), meerkat_auth_rest:order()) -> person().
person(User, Ip, Order) ->
    case meerkat_auth_rest:name(User, Order) of
        {ok, Name} -> Name;
        none -> {source, meerkat_prefix:source(Ip)};
        error -> User
    end.

%%% gen_server

-spec init(atom()) -> {ok, #state{}}.
init(Name) ->
    Table = meerkat_registry:table(Name, quota),
    {Ending, Places} = lists:partition(fun({{Kind, _}, _}) -> Kind =:= ending end,
                                       [Row || {_, #place{}} = Row <- ets:tab2list(Table)]),
    _ = ets:select_delete(Table, [{{{user, '_'}, '_', '_'}, [], [true]},
                                  {{{source, '_'}, '_'}, [], [true]},
                                  {{{realm, '_'}, '_'}, [], [true]},
                                  {{total, '_'}, [], [true]}]),
    _ = [add(Table, Place) || {_, Place} <- Places],
    Used = lists:usort([Bucket || {_, #place{bucket = Bucket}} <- Places]),
    Next = lists:max([0 | Used]) + 1,
    Held = lists:sort([{Until, Token} || {{token, Token}, #place{until = Until}} <- Places]),
    true = ets:insert(Table, [{Holder, watch(Session, Place)}
                              || {{Kind, Session} = Holder, Place} <- Ending ++ Places,
                                 Kind =/= token]),
    State = #state{name = Name, next = Next, free = lists:seq(1, Next - 1) -- Used},
    ok = meerkat_roles:take(Name, quota),
    {ok, lists:foldl(fun expect_end/2, State, Held)}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({take, Session, #place{user = User} = Wanted, Token}, _From,
            #state{name = Name} = State) ->
    State0 = held(State),
    Table = meerkat_registry:table(Name, quota),
    Redeemed = [Place || Token =/= 0, {_, Place} <- ets:lookup(Table, {token, Token})],
    case admitted(Table, Wanted, Redeemed, State0) of
        {none, State1} ->
            {Bucket, State2} = bucket(Table, User, State1),
            ok = enter(Table, Session, Wanted#place{bucket = Bucket}, State2),
            ok = grow(Table, taken, User),
            {reply, {ok, Bucket}, token_back(Token, State2)};
        {{Code, Keys, Where}, State1} ->
            ok = grow(Table, refused, User),
            {reply, {error, Code, Keys, Where}, State1}
    end;
handle_call({adopt, Session, Place}, _From, #state{name = Name} = State) ->
    Table = meerkat_registry:table(Name, quota),
    ok = enter(Table, Session, Place, State),
    {reply, ok, used(Place#place.bucket, State)};
handle_call({hold, Session, Token}, _From, #state{name = Name} = State) ->
    Table = meerkat_registry:table(Name, quota),
    Until = meerkat_clock:now_ms() + ?HELD_MS,
    Next = case ets:lookup(Table, {session, Session}) ++ ets:lookup(Table, {ending, Session}) of
        [{{Kind, _} = Holder, #place{weight = 2, user = User} = Place}] ->
            {Bucket, State1} = bucket(Table, User, State),
            Held = Place#place{pid = none, monitor = none, bucket = Bucket, weight = 1,
                               until = Until},
            true = ets:insert(Table, [{Holder, Place#place{weight = 1}}, {{token, Token}, Held}]),
            %% Of one that is ending both places were given back.
            _ = Kind =:= ending andalso add(Table, Held),
            ok = meerkat_elsewhere:changed(Name, User),
            State1;
        _ ->
            State
    end,
    {reply, ok, expect_end({Until, Token}, Next)};
handle_call(none_held, _From, State) ->
    Tokens = [Token || {_, Token} <- queue:to_list(State#state.held)],
    {reply, ok, lists:foldl(fun token_back/2, State#state{held = queue:new()}, Tokens)};
handle_call({release, Session}, _From, State) ->
    {reply, ok, given_back(Session, State)}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({release, Session}, State) ->
    {noreply, given_back(Session, State)};
handle_cast({refused, User}, #state{name = Name} = State) ->
    ok = grow(meerkat_registry:table(Name, quota), refused, User),
    {noreply, State};
handle_cast({lose, User, N}, #state{name = Name} = State) ->
    Table = meerkat_registry:table(Name, quota),
    #state{order = Order} = Ordered = ordered(Table, State),
    {noreply, lists:foldl(fun replace/2, Ordered, oldest(Table, User, N, first(User), Order))};
handle_cast(_Request, State) ->
    {noreply, State}.

%% What is left in the relay of an allocation whose process was killed ends too: it would be one
%% more than was counted.
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({{'DOWN', Session}, _Monitor, process, _, _}, #state{name = Name} = State) ->
    Next = given_back(Session, State),
    ok = meerkat_alloc_table:bury(Name, Session),
    ok = meerkat_connections:bury(Name, Session),
    Wire = meerkat_roles:find(Name, wire),
    _ = meerkat_relay:command(Wire, 0, {alloc_delete, #{session => Session}}),
    {noreply, Next};
handle_info(look, State) ->
    {noreply, held(State)};
handle_info(_Other, State) ->
    {noreply, State}.

%%% Places

%% Why there is no place, if there is none; the user's oldest allocations may have to end for it.
admitted(Table, #place{user = {Realm, _}} = Wanted, Redeemed, #state{name = Name} = State) ->
    Settings = meerkat_registry:settings(Name),
    case refusal(Table, Wanted, Redeemed, Settings) of
        {486, "user_quota", _} = Refusal ->
            case meerkat_settings:tenant(Realm, Settings) of
                #{quota := #{replaces := true, user := Max}} ->
                    instead_of_older(Table, Wanted, Redeemed, of_user(Wanted, Max),
                                     ordered(Table, State));
                #{} ->
                    {Refusal, State}
            end;
        Refusal ->
            {Refusal, State}
    end.

%% As many end as it takes: more than one where a reload has made the bound lower.
instead_of_older(Table, #place{user = User, weight = Weight} = Wanted, Redeemed, Max,
                 #state{name = Name, order = Order} = State) ->
    Excess = with_one_more(Table, {user, User}, Weight, Redeemed) - Max,
    Older = oldest(Table, User, Excess, first(User), Order),
    Free = [Place || {_, Place} <- Older] ++ Redeemed,
    case refusal(Table, Wanted, Free, meerkat_registry:settings(Name)) of
        none -> {none, lists:foldl(fun replace/2, State, Older)};
        Refusal -> {Refusal, State}
    end.

%% No time is as early as this one.
first(User) ->
    {User, -(1 bsl 63), 0}.

oldest(Table, User, Excess, After, Order) when Excess > 0 ->
    case ets:next(Order, After) of
        {User, _, Session} = Next ->
            [{_, #place{weight = Weight}} = Row] = ets:lookup(Table, {session, Session}),
            [Row | oldest(Table, User, Excess - Weight, Next, Order)];
        _ ->
            []
    end;
oldest(_Table, _User, _Excess, _After, _Order) ->
    [].

%% The place is free at once, for nobody waits until the relay has ended the allocation. Its process
%% is watched until it has.
replace({{session, Session}, #place{pid = Pid, user = User} = Place},
        #state{name = Name} = State) ->
    Table = meerkat_registry:table(Name, quota),
    ok = meerkat_alloc_sup:replaced(Pid),
    ok = grow(Table, replaced, User),
    true = ets:insert(Table, {{ending, Session}, Place}),
    true = ets:delete(Table, {session, Session}),
    left(Session, Place, State).

enter(Table, Session, #place{user = User, since = Since} = Place,
      #state{name = Name, order = Order}) ->
    true = ets:insert(Table, {{session, Session}, watch(Session, Place)}),
    _ = Order =/= none andalso ets:insert(Order, {{User, Since, Session}}),
    ok = add(Table, Place),
    meerkat_elsewhere:changed(Name, User).

%% Few servers need it, so it is made for the first who does.
ordered(Table, #state{order = none} = State) ->
    Order = ets:new(?MODULE, [ordered_set]),
    true = ets:insert(Order, [{{User, Since, Session}}
                              || {{session, Session}, #place{user = User, since = Since}}
                                     <- ets:tab2list(Table)]),
    State#state{order = Order};
ordered(_Table, State) ->
    State.

%% What a realm allows of its own, and what the server allows in all. Places that are given back for
%% the one that is wanted do not count beside it: what is redeemed is the same port.
refusal(Table, #place{user = {Realm, _} = User, source = Source, weight = Weight} = Wanted,
        Free, #{name := Name, quota := #{total := Total}} = Settings) ->
    #{quota := #{user := OfUser, source := OfSource, total := OfRealm}} =
        meerkat_settings:tenant(Realm, Settings),
    WhereOfRealm = case Realm of default -> here; _ -> everywhere end,
    Bounds = [{{user, User}, of_user(Wanted, OfUser), 0, {486, "user_quota", everywhere}},
              {{source, Source}, OfSource, 0, {486, "max_allocations_per_address", everywhere}},
              {{realm, Realm}, OfRealm, meerkat_elsewhere:realm(Name, Realm),
               {508, "total_quota", WhereOfRealm}},
              {total, Total, 0, {508, "total_quota and max_allocations", here}}],
    Full = [Refusal
            || {Key, Max, Elsewhere, Refusal} <- Bounds, Max > 0,
               with_one_more(Table, Key, Weight, Free) + Elsewhere > Max],
    case Full of
        [] -> none;
        [First | _] -> First
    end.

of_user(#place{quota = none}, OfAll) -> OfAll;
of_user(#place{quota = Own}, _OfAll) -> Own.

with_one_more(Table, Key, Weight, Free) ->
    Given = lists:sum([W || #place{weight = W} = Place <- Free, lists:member(Key, keys(Place))]),
    counted(Table, Key) - Given + Weight.

%% Everything it counts for.
keys(#place{user = {Realm, _} = User, source = Source}) ->
    [{user, User}, {source, Source}, {realm, Realm}, total].

counted(Table, Key) ->
    case ets:lookup(Table, Key) of
        [Row] -> element(2, Row);
        [] -> 0
    end.

grow(Table, What, {Realm, _}) ->
    _ = ets:update_counter(Table, {What, Realm}, 1, {{What, Realm}, 0}),
    ok.

add(Table, #place{bucket = Bucket, weight = Weight} = Place) ->
    lists:foreach(fun(Key) ->
        _ = ets:update_counter(Table, Key, Weight, fresh(Key, Bucket))
    end, keys(Place)).

fresh({user, _} = Key, Bucket) -> {Key, 0, Bucket};
fresh(Key, _Bucket) -> {Key, 0}.

given_back(Session, #state{name = Name} = State) ->
    Table = meerkat_registry:table(Name, quota),
    case ets:take(Table, {session, Session}) of
        [{_, Place}] ->
            ok = unwatch(Place),
            left(Session, Place, State);
        [] ->
            _ = [ok = unwatch(Place) || {_, Place} <- ets:take(Table, {ending, Session})],
            State
    end.

left(Session, #place{user = User, since = Since} = Place, #state{order = Order} = State) ->
    _ = Order =/= none andalso ets:delete(Order, {User, Since, Session}),
    free(Place, State).

%% The bucket is free with the last of its user's places.
free(#place{user = User, bucket = Bucket, weight = Weight} = Place,
     #state{name = Name, free = Free} = State) ->
    Table = meerkat_registry:table(Name, quota),
    Left = [{Key, remove(Table, Key, Weight)} || Key <- keys(Place)],
    ok = meerkat_elsewhere:changed(Name, User),
    Unused = [Bucket || lists:member({{user, User}, 0}, Left)],
    State#state{free = Unused ++ Free}.

remove(Table, Key, Weight) ->
    Left = ets:update_counter(Table, Key, -Weight),
    _ = Left =:= 0 andalso ets:delete(Table, Key),
    Left.

%% As many users have allocations as there are allocations at most, so there always is one.
bucket(Table, User, #state{free = Free, next = New} = State) ->
    case {ets:lookup(Table, {user, User}), Free} of
        {[{_, _, Bucket}], _} -> {Bucket, State};
        {[], [Bucket | Rest]} -> {Bucket, State#state{free = Rest}};
        {[], []} -> {New, State#state{next = New + 1}}
    end.

%% The relay knows the bucket by that number already.
used(Bucket, #state{next = Next, free = Free} = State) when Bucket >= Next ->
    State#state{free = lists:seq(Next, Bucket - 1) ++ Free, next = Bucket + 1};
used(Bucket, #state{free = Free} = State) ->
    State#state{free = lists:delete(Bucket, Free)}.

%% The word that its process is gone says which allocation it was.
watch(Session, #place{pid = Pid} = Place) ->
    Place#place{monitor = erlang:monitor(process, Pid, [{tag, {'DOWN', Session}}])}.

unwatch(#place{monitor = none}) ->
    ok;
unwatch(#place{monitor = Monitor}) ->
    true = erlang:demonitor(Monitor, [flush]),
    ok.

%%% Ports held in reserve

expect_end({Until, _} = Held, #state{held = Before} = State) ->
    _ = erlang:send_after(max(0, Until - meerkat_clock:now_ms()), self(), look),
    State#state{held = queue:in(Held, Before)}.

%% Without those the relay holds no longer. All are held equally long, so they end in order.
held(#state{held = Held} = State) ->
    Now = meerkat_clock:now_ms(),
    case queue:peek(Held) of
        {value, {Until, Token}} when Until =< Now ->
            held(token_back(Token, State#state{held = queue:drop(Held)}));
        _ ->
            State
    end.

token_back(0, State) ->
    State;
token_back(Token, #state{name = Name} = State) ->
    case ets:take(meerkat_registry:table(Name, quota), {token, Token}) of
        [{_, Place}] -> free(Place, State);
        [] -> State
    end.
