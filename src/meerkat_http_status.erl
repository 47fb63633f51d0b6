%% A snapshot as the status page wants it: /status.json, which names no user, client or peer.
%% Pure but for the history and what the server listens on.
-module(meerkat_http_status).

-export([status/3]).

%% Keys as in the metrics, where they have a name there. `history`: meerkat_history:sample(), the
%% last of them of this moment.
-spec status(Name :: atom(), meerkat_metrics:snapshot(), UnixS :: integer()) ->
    meerkat_json:value().
status(Name, Snapshot, Now) ->
    #{relay := Relay, allocations := Allocations, allocations_max := Most, draining := Draining,
      not_ready := Reasons, answers := Answers, durations := Durations, pools := Pools,
      restarts := Restarts, processes := Processes, build := Build} = Snapshot,
    Counters = case Relay of
        {ok, #{counters := Known}} -> Known;
        {error, _} -> #{}
    end,
    #{time => Now,
      build => Build,
      ready => Reasons =:= [],
      reasons => Reasons,
      draining => Draining,
      relay_up => element(1, Relay) =:= ok,
      relay_restarts => Restarts,
      listeners => listeners(Name),
      allocations => Allocations,
      allocations_max => Most,
      permissions => stat(peers, Relay),
      ports => [port(Pool) || Pool <- Pools],
      counters => maps:without(drops(), Counters),
      dropped => maps:with(drops(), Counters),
      help => maps:from_list([{Drop, list_to_binary(Help)}
                              || {Drop, drop, Help} <- meerkat_ctl:counters()]),
      responses => [#{method => Method, code => Outcome, count => N}
                    || {{Method, Outcome}, N} <- lists:sort(maps:to_list(Answers)), N > 0],
      durations => maps:map(fun(_, D) -> duration(D) end, Durations),
      processes => Processes,
      history => meerkat_history:samples(Name) ++ [meerkat_history:sample(Snapshot, Now)]}.

drops() -> [Name || {Name, drop, _} <- meerkat_ctl:counters()].

stat(Key, {ok, Stats}) -> maps:get(Key, Stats);
stat(_Key, {error, _}) -> null.

listeners(Name) ->
    case meerkat_registry:note(Name, listening) of
        none -> [];
        Bound -> [list_to_binary(["udp ", meerkat_text:address(Address)])
                  || {_, Address} <- lists:sort(maps:to_list(Bound))]
    end.

port(#{address := Ip, total := Total} = Pool) ->
    #{address => list_to_binary(meerkat_text:ip(Ip)), total => Total,
      free => maps:get(free, Pool, null)}.

duration(#{buckets := Buckets, count := Count, sum_us := Sum}) ->
    #{buckets => [[Us, N] || {Us, N} <- Buckets], count => Count, sum_us => Sum}.
