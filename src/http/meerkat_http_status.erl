%% /status.json: what `meerkatctl status --json` says, and what the status page shows besides. No
%% user, client or peer is named in it.
-module(meerkat_http_status).

-export([status/3]).

%% Members besides those of meerkat_status:status/1:
%%   time          Unix seconds
%%   not_ready     why not, meerkat_health:reason()
%%   uris          of its listeners, as clients are told them
%%   permissions   there are; null without the relay program
%%   pools         relay addresses: address, ports in all, and free (null likewise)
%%   responses     method, code and count of those that were
%%   durations     by method: [microseconds, so many took at most that], count, sum_us
%%   fleet         each node: name, region, load in percent, and whether it takes allocations
%%                 (ready), takes none (draining), has told nothing yet (silent) or is not there
%%                 (missing); null in a server that is in no fleet
%%   processes     meerkat_proc:usage() of `erlang` and `relay`
%%   drop_help     what each reason for a drop means
%%   history       meerkat_history:sample(), the last of them of this moment
-spec status(Name :: atom(), meerkat_metrics:snapshot(), UnixS :: integer()) ->
    meerkat_json:value().
status(Name, Snapshot, Now) ->
    #{relay := Relay, not_ready := Reasons, answers := Answers, durations := Durations,
      pools := Pools, processes := Processes, fleet := Fleet} = Snapshot,
    #{stun := Stun, turn := Turn} = meerkat_services:uris(Name, all),
    maps:merge(meerkat_json:plain(meerkat_status:status(Name)), #{
        time => Now,
        not_ready => Reasons,
        uris => Stun ++ Turn,
        permissions => stat(peers, Relay),
        pools => [pool(Pool) || Pool <- Pools],
        fleet => fleet(Fleet, Name),
        responses => [#{method => Method, code => Outcome, count => N}
                      || {{Method, Outcome}, N} <- lists:sort(maps:to_list(Answers)), N > 0],
        durations => maps:map(fun(_, Duration) -> duration(Duration) end, Durations),
        processes => Processes,
        drop_help => maps:from_list([{Drop, list_to_binary(Help)}
                                     || {Drop, drop, Help} <- meerkat_ctl:counters()]),
        history => meerkat_history:samples(Name) ++ [meerkat_history:sample(Snapshot, Now)]}).

stat(Key, {ok, Stats}) -> maps:get(Key, Stats);
stat(_Key, {error, _}) -> null.

pool(#{address := Ip, total := Total} = Pool) ->
    #{address => list_to_binary(meerkat_text:ip(Ip)), ports => Total,
      free => maps:get(free, Pool, null)}.

fleet(none, _Name) ->
    null;
fleet(#{members := Members, missing := Missing}, Name) ->
    Told = maps:from_list([{Node, Place}
                           || #{node := Node} = Place <- meerkat_elsewhere:places(Name)]),
    Places = Told#{node() => meerkat_services:place(Name)},
    [of_node(Node, maps:get(Node, Places, silent)) || Node <- Members]
        ++ [of_node(Node, missing) || Node <- Missing].

of_node(Node, #{ready := Ready, load := Load, region := Region}) ->
    #{node => atom_to_binary(Node), load => round(100 * Load),
      region => case Region of undefined -> null; _ -> Region end,
      state => case Ready of true -> ready; false -> draining end};
of_node(Node, State) ->
    #{node => atom_to_binary(Node), load => null, region => null, state => State}.

duration(#{buckets := Buckets, count := Count, sum := Sum}) ->
    #{buckets => [[Us, N] || {Us, N} <- Buckets], count => Count, sum_us => Sum}.
