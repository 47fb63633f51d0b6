%% Is a server alive, and would it take one more allocation? For /health, /ready and the metrics. It
%% changes nothing.
-module(meerkat_health).

-export([alive/1, not_ready/1, not_ready/2]).
-export_type([reason/0]).

-type reason() :: relay_down | relay_stalled | not_listening | draining | no_room | no_ports
                | meerkat_addresses:reason().

%% Does the relay program answer, and move packets? One that is too busy to answer is alive.
-spec alive(Name :: atom()) -> boolean().
alive(Name) ->
    case meerkat_relay:stats(Name) of
        {ok, Stats} -> not meerkat_relay:is_stalled(Stats);
        {error, busy} -> true;
        {error, relay_down} -> false
    end.

%% Why it would take no more allocations; [] if it would.
-spec not_ready(Name :: atom()) -> [reason()].
not_ready(Name) ->
    #{quota := #{total := Most}} = meerkat_registry:settings(Name),
    not_ready(Name, #{relay => meerkat_relay:stats(Name),
                      allocations => meerkat_alloc_table:count(Name),
                      allocations_max => Most,
                      draining => meerkat_drain:is_draining(Name)}).

%% The same, by a snapshot that the caller has.
-spec not_ready(Name :: atom(), #{relay := _, allocations := _, allocations_max := _,
                                  draining := _}) -> [reason()].
not_ready(Name, #{relay := Relay, allocations := N, allocations_max := Most,
                  draining := Draining}) ->
    [relay_down || Relay =:= {error, relay_down}]
        ++ [relay_stalled || {ok, Stats} <- [Relay], meerkat_relay:is_stalled(Stats)]
        ++ [not_listening || map_size(meerkat_listening:bound(Name)) =:= 0]
        ++ [draining || Draining]
        ++ [no_room || N >= Most]
        ++ [no_ports || {ok, #{ports_free := 0}} <- [Relay]]
        ++ meerkat_addresses:missing(Name).
