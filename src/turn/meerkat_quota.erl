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
%%   {{user, Key}, N, Bucket}      Bucket: what the relay calls the user's bandwidth
%%   {{source, Prefix}, N}         {{realm, Owner}, N}         {total, N}
%%
%% And, which only grow: {{taken, Owner}, N}, places taken, and {{refused, Owner}, N}.
%%
%% Key and Prefix are pairs of their realm's owner (meerkat_settings:owner/2) and what they are.
-module(meerkat_quota).
-behaviour(gen_server).

-export([start_link/1, take/3, adopt/4, hold/3, release/2, ended/2, none_held/1, count/2]).
-export([buckets/1, rates/2, rate/3]).
-export([user_key/2, person/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([limits/0, counted/0, person/0, of_realm/0]).

%% What the configuration allows; 0 is no limit.
-type limits() :: #{user := non_neg_integer(),
                    source := non_neg_integer(),
                    total := pos_integer()}.
-type counted() :: {user, of_realm()} | {source, of_realm()}
                 | {realm | taken | refused, meerkat_settings:owner()}
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
    monitor = none :: none | reference(),
    until = none :: none | integer()    % a token's: when the relay has let go of the port, in ms
}).
-record(state, {
    name :: atom(),
    free = [] :: [pos_integer()],       % buckets that had a user
    next = 1 :: pos_integer(),          % and the first that had none
    held = queue:new() :: queue:queue({Until :: integer(), Token :: pos_integer()})
}).

%% The relay holds a port for 30 s (port.h) from a moment before Erlang hears of it.
-define(HELD_MS, 30000).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% A place for the allocation of the calling process, and another where a port is to be reserved
%% with it; and the bucket its user's bandwidth comes from. Or the code of the answer and the keys
%% that set the bound. 486 says that this client has too many, 508 that all have (RFC 8656 7.2, 19).
%% An allocation that redeems a token takes over its place, even where the relay then refuses: a
%% token is spent once it has been shown.
-spec take(Name :: atom(), session(), meerkat_alloc_admit:plan()) ->
    {ok, Bucket :: pos_integer()} | {error, 486 | 508, Keys :: string()}.
take(Name, Session, #{even := Even, token := Token} = Plan) ->
    Wanted = (place(Name, Plan))#place{weight = case Even of 2 -> 2; _ -> 1 end},
    gen_server:call(process(Name), {take, Session, Wanted, Token}).

place(Name, #{user := User, realm := Realm, client := {Ip, _}}) ->
    #{usernames := Order} = meerkat_registry:settings(Name),
    #place{pid = self(), user = {Realm, person(User, Ip, Order)},
           source = {Realm, meerkat_prefix:source(Ip)}, bucket = 1, weight = 1}.

%% The place that the allocation had in another VM, whatever is allowed by now.
-spec adopt(Name :: atom(), session(), meerkat_alloc_admit:plan(), Bucket :: pos_integer()) -> ok.
adopt(Name, Session, Plan, Bucket) ->
    gen_server:call(process(Name), {adopt, Session, (place(Name, Plan))#place{bucket = Bucket}}).

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
        %% time, so
%% nothing is lost where this message is.
        exit:_ -> ok
    end.

process(Name) ->
    meerkat_roles:find(Name, quota).

%% Places held; those taken and refused since the start.
-spec count(Name :: atom(), counted()) -> non_neg_integer().
count(Name, Key) ->
    counted(meerkat_registry:table(Name, quota), Key).

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
    Places = [Row || {{Kind, _}, #place{}} = Row <- ets:tab2list(Table),
                     Kind =:= session orelse Kind =:= token],
    _ = ets:select_delete(Table, [{{{user, '_'}, '_', '_'}, [], [true]},
                                  {{{source, '_'}, '_'}, [], [true]},
                                  {{{realm, '_'}, '_'}, [], [true]},
                                  {{total, '_'}, [], [true]}]),
    _ = [add(Table, Place) || {_, Place} <- Places],
    Used = lists:usort([Bucket || {_, #place{bucket = Bucket}} <- Places]),
    Next = lists:max([0 | Used]) + 1,
    Held = lists:sort([{Until, Token} || {{token, Token}, #place{until = Until}} <- Places]),
    true = ets:insert(Table, [{{session, Session}, watch(Session, Place)}
                              || {{session, Session}, Place} <- Places]),
    State = #state{name = Name, next = Next, free = lists:seq(1, Next - 1) -- Used},
    ok = meerkat_roles:take(Name, quota),
    {ok, lists:foldl(fun expect_end/2, State, Held)}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({take, Session, Wanted, Token}, _From, #state{name = Name} = State) ->
    State0 = held(State),
    Table = meerkat_registry:table(Name, quota),
    Redeemed = [Place || Token =/= 0, {_, Place} <- ets:lookup(Table, {token, Token})],
    case refusal(Table, Wanted, Redeemed, meerkat_registry:settings(Name)) of
        none ->
            {Bucket, State1} = bucket(Table, Wanted#place.user, State0),
            Place = watch(Session, Wanted#place{bucket = Bucket}),
            true = ets:insert(Table, {{session, Session}, Place}),
            ok = add(Table, Place),
            ok = grow(Table, taken, Wanted#place.user),
            {reply, {ok, Bucket}, token_back(Token, State1)};
        {Code, Keys} ->
            ok = grow(Table, refused, Wanted#place.user),
            {reply, {error, Code, Keys}, State0}
    end;
handle_call({adopt, Session, Place}, _From, #state{name = Name} = State) ->
    Table = meerkat_registry:table(Name, quota),
    true = ets:insert(Table, {{session, Session}, watch(Session, Place)}),
    ok = add(Table, Place),
    {reply, ok, used(Place#place.bucket, State)};
handle_call({hold, Session, Token}, _From, #state{name = Name} = State) ->
    Table = meerkat_registry:table(Name, quota),
    Until = meerkat_clock:now_ms() + ?HELD_MS,
    _ = [true = ets:insert(Table, [{{session, Session}, Place#place{weight = 1}},
                                   {{token, Token}, Place#place{pid = none, monitor = none,
                                                                weight = 1, until = Until}}])
         || {_, #place{weight = 2} = Place} <- ets:lookup(Table, {session, Session})],
    {reply, ok, expect_end({Until, Token}, State)};
handle_call(none_held, _From, State) ->
    Tokens = [Token || {_, Token} <- queue:to_list(State#state.held)],
    {reply, ok, lists:foldl(fun token_back/2, State#state{held = queue:new()}, Tokens)};
handle_call({release, Session}, _From, State) ->
    {reply, ok, given_back(Session, State)}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({release, Session}, State) ->
    {noreply, given_back(Session, State)};
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

%% What a realm allows of its own, and what the server allows in all. What is redeemed is the same
%% port, so it does not count beside the one that is wanted.
refusal(Table, #place{user = {Realm, _} = User, source = Source, weight = Weight}, Redeemed,
        #{quota := #{total := Total}} = Settings) ->
    #{quota := #{user := OfUser, source := OfSource, total := OfRealm}} =
        meerkat_settings:tenant(Realm, Settings),
    Bounds = [{{user, User}, OfUser, 486, "user_quota"},
              {{source, Source}, OfSource, 486, "max_allocations_per_address"},
              {{realm, Realm}, OfRealm, 508, "total_quota"},
              {total, Total, 508, "total_quota and max_allocations"}],
    Full = [{Code, Keys}
            || {Key, Max, Code, Keys} <- Bounds, Max > 0,
               Given <- [length([P || P <- Redeemed, lists:member(Key, keys(P))])],
               counted(Table, Key) - Given + Weight > Max],
    case Full of
        [] -> none;
        [First | _] -> First
    end.

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

given_back(Session, State) ->
    give_back({session, Session}, State).

%% The bucket is free with the last of its user's places.
give_back(Holder, #state{name = Name, free = Free} = State) ->
    Table = meerkat_registry:table(Name, quota),
    case ets:take(Table, Holder) of
        [{_, #place{user = User, bucket = Bucket, weight = Weight} = Place}] ->
            ok = unwatch(Place),
            Left = [{Key, remove(Table, Key, Weight)} || Key <- keys(Place)],
            Unused = [Bucket || lists:member({{user, User}, 0}, Left)],
            State#state{free = Unused ++ Free};
        [] ->
            State
    end.

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
token_back(Token, State) ->
    give_back({token, Token}, State).
