%% The last hour of a server in samples, for the status page: what it held and moved, every ten
%% seconds, in a queue that does not grow. For a longer time there are the metrics.
-module(meerkat_history).
-behaviour(gen_server).

-export([start_link/1, samples/1, sample/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([sample/0]).

%% Unix seconds, allocations, and counters of the relay program so far: bytes received from and
%% sent to clients and peers, packets received, packets dropped. They begin at 0 anew with a new
%% relay program; `null` in their place while there was none.
-type sample() :: [integer() | null].

-define(EVERY_MS, 10000).
%% How often to look while there is no relay program, for its return to be in the samples soon.
-define(SOON_MS, 1000).
-define(KEPT, 361).

-record(state, {name :: atom(), samples = queue:new() :: queue:queue(sample())}).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case gen_server:start_link(?MODULE, Name, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% Oldest first; none where nothing is kept.
-spec samples(Name :: atom()) -> [sample()].
samples(Name) ->
    case meerkat_roles:find(Name, history) of
        none -> [];
        Pid -> try gen_server:call(Pid, samples) catch exit:_ -> [] end
    end.

%% What would be kept of this moment.
-spec sample(meerkat_metrics:snapshot(), UnixS :: integer()) -> sample().
sample(#{allocations := Allocations, relay := {ok, #{counters := Counters}}}, Now) ->
    Sum = fun(Names) -> lists:sum([maps:get(Name, Counters) || Name <- Names]) end,
    [Now, Allocations]
        ++ [maps:get(Name, Counters) || Name <- [client_bytes, client_sent_bytes, peer_bytes,
                                                 peer_sent_bytes]]
        ++ [Sum([client_packets, peer_packets]),
            Sum([Name || {Name, drop, _} <- meerkat_ctl:counters()])];
sample(#{allocations := Allocations}, Now) ->
    [Now, Allocations, null, null, null, null, null, null].

-spec init(atom()) -> {ok, #state{}, {continue, sample}}.
init(Name) ->
    ok = meerkat_roles:take(Name, history),
    {ok, #state{name = Name}, {continue, sample}}.

-spec handle_continue(sample, #state{}) -> {noreply, #state{}}.
handle_continue(sample, #state{name = Name, samples = Samples} = State) ->
    Sample = sample(meerkat_metrics:snapshot(Name), meerkat_clock:wall_s()),
    Wait = case is_blank(Sample) of true -> ?SOON_MS; false -> ?EVERY_MS end,
    _ = erlang:send_after(Wait, self(), sample),
    {noreply, State#state{samples = kept(Sample, Samples)}}.

%% Of a time without a relay program one sample is kept, and none of the time before the first one.
kept(Sample, Samples) ->
    case is_blank(Sample) andalso (queue:is_empty(Samples) orelse is_blank(queue:last(Samples))) of
        true -> Samples;
        false -> bounded(queue:in(Sample, Samples))
    end.

is_blank([_Time, _Allocations | Counters]) -> lists:member(null, Counters).

bounded(Samples) ->
    case queue:len(Samples) > ?KEPT of
        true -> queue:drop(Samples);
        false -> Samples
    end.

-spec handle_call(samples, gen_server:from(), #state{}) -> {reply, [sample()], #state{}}.
handle_call(samples, _From, #state{samples = Samples} = State) ->
    {reply, queue:to_list(Samples), State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) ->
    {noreply, #state{}} | {noreply, #state{}, {continue, sample}}.
handle_info(sample, State) ->
    {noreply, State, {continue, sample}};
handle_info(_Other, State) ->
    {noreply, State}.
