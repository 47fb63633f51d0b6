%% Looks at one allocation in so many (the key media_sample), and counts how media comes to us: of
%% each source of RTP, each ten seconds, the share that was lost or came out of order, and its
%% jitter (docs/design/seeing.md). Which allocations those are goes by their numbers alone. Nothing
%% is kept of a single one but its last look.
-module(meerkat_sampler).
-behaviour(gen_server).

-export([start_link/1, info/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([info/0]).

%% allocations: those that are looked at now. The histograms are in millionths, by whose media it
%% is; none while the server starts.
-type info() :: #{allocations := non_neg_integer(),
                  histograms := #{{loss | late | jitter, client | peer} =>
                                      meerkat_histogram:read()}}.

-define(EVERY_MS, 10000).
%% Of a look that is not renewed.
-define(LOOK_MS, 25000).
%% Of more than these none is looked at.
-define(SAMPLES_MAX, 256).
%% Fewer packets of a source say nothing.
-define(PACKETS_MIN, 50).

-define(SHARES, [1000, 5000, 10000, 20000, 50000, 100000, 200000, 500000]).
-define(JITTERS, [1000, 2500, 5000, 10000, 20000, 30000, 50000, 100000, 200000, 500000]).
%% In the order of their counters.
-define(ROWS, [{{What, From}, Bounds} || {What, Bounds} <- [{loss, ?SHARES}, {late, ?SHARES},
                                                            {jitter, ?JITTERS}],
                                         From <- [client, peer]]).

-record(state, {name :: atom(),
                seen = #{} :: #{non_neg_integer() => meerkat_look:seen()}}).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case gen_server:start_link(?MODULE, Name, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

-spec info(Name :: atom()) -> info().
info(Name) ->
    #{allocations => meerkat_store:get(Name, ?MODULE, allocations, 0),
      histograms => maps:from_list([{Key, meerkat_histogram:read(Counters, Before, Bounds)}
                                    || Counters <- [counters(Name)], Counters =/= none,
                                       {Key, Before, Bounds} <- places()])}.

%% Each with the number of the counters before it.
places() ->
    {Places, _} = lists:mapfoldl(fun({Key, Bounds}, Before) ->
        {{Key, Before, Bounds}, Before + meerkat_histogram:width(Bounds)}
    end, 0, ?ROWS),
    Places.

counters(Name) ->
    meerkat_store:get(Name, ?MODULE, counters).

%%% gen_server

%% The counters live as long as the server does, whatever becomes of this process.
-spec init(atom()) -> {ok, #state{}}.
init(Name) ->
    _ = counters(Name) =/= none orelse begin
        Width = lists:sum([meerkat_histogram:width(Bounds) || {_, Bounds} <- ?ROWS]),
        meerkat_store:put(Name, ?MODULE, counters, counters:new(Width, []))
    end,
    ok = meerkat_roles:take(Name, sampler),
    {ok, _} = timer:send_interval(?EVERY_MS, look),
    ok = meerkat_store:put(Name, ?MODULE, allocations, 0),
    {ok, #state{name = Name}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, ok, #state{}}.
handle_call(_Request, _From, State) ->
    {reply, ok, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(look | term(), #state{}) -> {noreply, #state{}}.
handle_info(look, #state{name = Name, seen = Before} = State) ->
    #{media_sample := OneIn} = meerkat_registry:settings(Name),
    Seen = maps:from_list([{Session, Look} || Session <- sampled(Name, OneIn, Before),
                                              {ok, Look} <- [meerkat_look:look(Name, Session,
                                                                               ?LOOK_MS)]]),
    Seen =:= #{} orelse count_all(counters(Name), Before, Seen),
    ok = meerkat_store:put(Name, ?MODULE, allocations, map_size(Seen)),
    {noreply, State#state{seen = Seen}};
handle_info(_Other, State) ->
    {noreply, State}.

%% Those that are looked at already go before others.
sampled(_Name, 0, _Before) ->
    [];
sampled(Name, OneIn, Before) ->
    All = [Session || {Session, _} <- meerkat_alloc_table:sessions(Name),
                      erlang:phash2(Session) rem OneIn =:= 0],
    {Old, New} = lists:partition(fun(Session) -> is_map_key(Session, Before) end, All),
    lists:sublist(Old ++ New, ?SAMPLES_MAX).

count_all(Counters, Before, Seen) ->
    Places = maps:from_list([{Key, {First, Bounds}} || {Key, First, Bounds} <- places()]),
    [count(Counters, Places, Interval)
     || {Session, Now} <- maps:to_list(Seen),
        #{Session := Then} <- [Before],
        Interval <- meerkat_media:intervals(Then, Now, ?EVERY_MS)].

count(Counters, Places, #{from := From, packets := Packets, lost := Lost, late := Late,
                          jitter_us := Jitter}) when Packets + Lost >= ?PACKETS_MIN ->
    All = Packets + Lost,
    [begin
         #{{What, From} := {First, Bounds}} = Places,
         ok = meerkat_histogram:add(Counters, First, Bounds, Value)
     end || {What, Value} <- [{loss, Lost * 1000000 div All}, {late, Late * 1000000 div All},
                              {jitter, Jitter}], is_integer(Value)];
count(_Counters, _Places, _TooLittle) ->
    [].
