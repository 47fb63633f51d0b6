%% What metrics and `status` tell of the database that users are looked up in.
-module(meerkat_database_metrics).

-export([rows/0, status/1]).

-spec rows() -> [meerkat_beside:row()].
rows() ->
    [{"database_up", gauge, [], "whether the database that users are looked up in answers",
      the(fun(#{away := Away}) -> case Away of none -> 1; _ -> 0 end end)},
     {"database_connections", gauge, [], "connections to it (database_pool)",
      the(fun(#{connections := N}) -> N end)},
     {"database_requests_waiting", gauge, [], "requests put aside until it has answered",
      the(fun(#{aside := N}) -> N end)},
     {"database_cache_entries", gauge, [], "users and secrets remembered (cache_size)",
      the(fun(#{cached := N}) -> N end)},
     {"database_lookups_total", counter, [result],
      "questions to it: " ++ lists:append(lists:join("; ", [atom_to_list(Kind) ++ ", " ++ What
                                           || {Kind, What} <- meerkat_lookup_counts:help()])),
      each(fun(#{counts := Counts}) ->
          [{[{result, atom_to_binary(Kind)}], maps:get(Kind, Counts)}
           || {Kind, _} <- meerkat_lookup_counts:help()]
      end)},
     {"database_lookup_seconds_total", counter, [], "time that these questions took",
      the(fun(#{counts := #{took_us := Us}}) -> Us / 1000000 end)}].

%% Nothing where no database is configured.
each(Samples) ->
    fun(#{database := none}) -> []; (#{database := Info}) -> Samples(Info) end.

the(Value) ->
    each(fun(Info) -> [{[], Value(Info)}] end).

%% The member `database` of meerkat:status/1; null where none is configured.
-spec status(Name :: atom()) -> null | map().
status(Name) ->
    case meerkat_lookups:info(Name) of
        none ->
            null;
        #{database := Database, away := Away, connections := Connections, aside := Aside,
          cached := Cached} ->
            #{name => Database, connections => Connections, waiting => Aside, cached => Cached,
              away => case Away of none -> null; _ -> Away end}
    end.
