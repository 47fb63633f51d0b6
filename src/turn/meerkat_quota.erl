%% How many allocations there are: by user, by source address, in all; and whether there may be
%% one more. An allocation's process takes a place before the relay is asked for anything, and
%% gives it back when the allocation is gone; one that dies without is found out by a monitor.
%%
%% The rows are in a table of meerkat_registry's, so none is lost with this process. It writes
%% them alone; counts are made from the places, and anew when it starts.
%%
%%   {{session, Id}, #place{}}     the places
%%   {{user, Key}, N, Bucket}      Bucket: what the relay calls the user's bandwidth
%%   {{source, Prefix}, N}         {{realm, Owner}, N}         {total, N}
%%
%% Key and Prefix are pairs of their realm's owner (meerkat_settings:owner/2) and what they are.
-module(meerkat_quota).
-behaviour(gen_server).

-export([start_link/1, take/3, release/2, count/2, buckets/1, rates/2, rate/3]).
-export([user_key/2, person/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([limits/0, counted/0, person/0, of_realm/0]).

%% What the configuration allows; 0 is no limit.
-type limits() :: #{user := non_neg_integer(),
                    source := non_neg_integer(),
                    total := pos_integer()}.
-type counted() :: {user, of_realm()} | {source, of_realm()} | {realm, meerkat_settings:owner()}
                 | total.
%% A user's name; who has none is known by a source address.
-type person() :: binary() | {source, binary()}.
%% Realms count for themselves.
-type of_realm() :: {meerkat_settings:owner(), person()}.
-type session() :: non_neg_integer().

-record(place, {
    pid :: pid(),
    user :: of_realm(),
    source :: of_realm(),
    bucket :: pos_integer()
}).
-record(state, {
    name :: atom(),
    monitors = #{} :: #{reference() => session(), session() => reference()},
    free = [] :: [pos_integer()],       % buckets that had a user
    next = 1 :: pos_integer()           % and the first that had none
}).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% A place for the allocation of the calling process, and the bucket its user's bandwidth comes
%% from; or the code of the answer and the keys that set the bound. 486 says that this client has
%% too many, 508 that all have (RFC 8656 7.2, 19).
-spec take(Name :: atom(), session(), meerkat_alloc_core:plan()) ->
    {ok, Bucket :: pos_integer()} | {error, 486 | 508, Keys :: string()}.
take(Name, Session, #{user := User, realm := Realm, client := {Ip, _}}) ->
    #{usernames := Order} = meerkat_registry:settings(Name),
    Source = {Realm, meerkat_prefix:source(Ip)},
    gen_server:call(process(Name), {take, Session, {Realm, person(User, Ip, Order)}, Source}).

%% Gives it back, if it is still held. When this returns another may take it.
-spec release(Name :: atom(), session()) -> ok.
release(Name, Session) ->
    try
        gen_server:call(process(Name), {release, Session})
    catch
        %% It is being started again, and learns of the caller's end by itself.
        exit:_ -> ok
    end.

process(Name) ->
    meerkat_roles:find(Name, quota).

%% Places held.
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
    [told(Name, Bucket, Rate)
     || {Bucket, Owner} <- buckets(Name),
        #{bandwidth := #{user := Rate}} <- [meerkat_settings:tenant(Owner, Settings)]].

%% What it is to be told of one that is taken: nothing, as long as no user has ever had a limit that
%% could have been left there.
-spec rate(Name :: atom(), Bucket :: pos_integer(), BytesPerS :: non_neg_integer()) ->
    [meerkat_ctl:message()].
rate(Name, Bucket, 0) ->
    [told(Name, Bucket, 0) || meerkat_store:get(Name, ?MODULE, rates) =:= told];
rate(Name, Bucket, Rate) ->
    [told(Name, Bucket, Rate)].

told(Name, Bucket, Rate) ->
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
    Places = [{Session, Place} || {{session, Session}, Place} <- ets:tab2list(Table)],
    _ = ets:select_delete(Table, [{{{user, '_'}, '_', '_'}, [], [true]},
                                  {{{source, '_'}, '_'}, [], [true]},
                                  {{{realm, '_'}, '_'}, [], [true]},
                                  {{total, '_'}, [], [true]}]),
    _ = [add(Table, Place) || {_, Place} <- Places],
    Used = lists:usort([Bucket || {_, #place{bucket = Bucket}} <- Places]),
    Next = lists:max([0 | Used]) + 1,
    State = lists:foldl(fun({Session, #place{pid = Pid}}, S) -> watch(Session, Pid, S) end,
                        #state{name = Name, next = Next, free = lists:seq(1, Next - 1) -- Used},
                        Places),
    ok = meerkat_roles:take(Name, quota),
    {ok, State}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({take, Session, User, Source}, {Pid, _}, #state{name = Name} = State) ->
    Table = meerkat_registry:table(Name, quota),
    case refusal(Table, User, Source, meerkat_registry:settings(Name)) of
        none ->
            {Bucket, Next} = bucket(Table, User, State),
            Place = #place{pid = Pid, user = User, source = Source, bucket = Bucket},
            true = ets:insert(Table, {{session, Session}, Place}),
            ok = add(Table, Place),
            {reply, {ok, Bucket}, watch(Session, Pid, Next)};
        {Code, Keys} ->
            {reply, {error, Code, Keys}, State}
    end;
handle_call({release, Session}, _From, State) ->
    {_, Next} = give_back(Session, State),
    {reply, ok, Next}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% What is left in the relay of an allocation whose process was killed ends too: it would be one
%% more than was counted.
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', Monitor, process, _, _},
            #state{name = Name, monitors = Monitors} = State) ->
    #{Monitor := Session} = Monitors,
    {_Place, Next} = give_back(Session, State),
    ok = meerkat_alloc_table:bury(Name, Session),
    ok = meerkat_connections:bury(Name, Session),
    Wire = meerkat_roles:find(Name, wire),
    _ = meerkat_relay:command(Wire, 0, {alloc_delete, #{session => Session}}),
    {noreply, Next};
handle_info(_Other, State) ->
    {noreply, State}.

%%% Places

%% What a realm allows of its own, and what the server allows in all.
refusal(Table, {Realm, _} = User, Source, #{quota := #{total := Total}} = Settings) ->
    #{quota := #{user := OfUser, source := OfSource, total := OfRealm}} =
        meerkat_settings:tenant(Realm, Settings),
    Bounds = [{{user, User}, OfUser, 486, "user_quota"},
              {{source, Source}, OfSource, 486, "max_allocations_per_address"},
              {{realm, Realm}, OfRealm, 508, "total_quota"},
              {total, Total, 508, "total_quota and max_allocations"}],
    Full = [{Code, Keys} || {Key, Max, Code, Keys} <- Bounds,
                            Max > 0, counted(Table, Key) >= Max],
    case Full of
        [] -> none;
        [First | _] -> First
    end.

counted(Table, Key) ->
    case ets:lookup(Table, Key) of
        [Row] -> element(2, Row);
        [] -> 0
    end.

add(Table, #place{user = {Realm, _} = User, source = Source, bucket = Bucket}) ->
    _ = ets:update_counter(Table, {realm, Realm}, 1, {{realm, Realm}, 0}),
    _ = ets:update_counter(Table, {user, User}, 1, {{user, User}, 0, Bucket}),
    _ = ets:update_counter(Table, {source, Source}, 1, {{source, Source}, 0}),
    _ = ets:update_counter(Table, total, 1, {total, 0}),
    ok.

give_back(Session, #state{name = Name} = State) ->
    Table = meerkat_registry:table(Name, quota),
    case ets:take(Table, {session, Session}) of
        [{_, #place{user = {Realm, _} = User, source = Source, bucket = Bucket} = Place}] ->
            _ = remove(Table, {realm, Realm}),
            Free = [Bucket || remove(Table, {user, User}) =:= 0],
            _ = remove(Table, {source, Source}),
            _ = remove(Table, total),
            Next = unwatch(Session, State),
            {Place, Next#state{free = Free ++ Next#state.free}};
        [] ->
            {none, State}
    end.

remove(Table, Key) ->
    Left = ets:update_counter(Table, Key, -1),
    _ = Left =:= 0 andalso ets:delete(Table, Key),
    Left.

%% As many users have allocations as there are allocations at most, so there always is one.
bucket(Table, User, #state{free = Free, next = New} = State) ->
    case {ets:lookup(Table, {user, User}), Free} of
        {[{_, _, Bucket}], _} -> {Bucket, State};
        {[], [Bucket | Rest]} -> {Bucket, State#state{free = Rest}};
        {[], []} -> {New, State#state{next = New + 1}}
    end.

watch(Session, Pid, #state{monitors = Monitors} = State) ->
    Monitor = erlang:monitor(process, Pid),
    State#state{monitors = Monitors#{Monitor => Session, Session => Monitor}}.

unwatch(Session, #state{monitors = Monitors} = State) ->
    #{Session := Monitor} = Monitors,
    true = erlang:demonitor(Monitor, [flush]),
    State#state{monitors = maps:without([Session, Monitor], Monitors)}.
