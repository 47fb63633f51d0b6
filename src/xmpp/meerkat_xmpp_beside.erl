%% The component of XMPP servers as a meerkat_beside. It never refuses a reload: a server goes on
%% without it, and it starts, ends or takes new settings after they are in force.
-module(meerkat_xmpp_beside).
-behaviour(meerkat_beside).

-export([child_specs/2, commit/1, changed/1, info/1, metrics/0]).

-spec child_specs(Name :: atom(), meerkat_settings:settings()) -> [supervisor:child_spec()].
child_specs(Name, Settings) ->
    meerkat_xmpp_sup:child_specs(Name, Settings).

-spec commit(Name :: atom()) -> ok.
commit(Name) ->
    meerkat_xmpp_sup:settle(Name).

-spec changed(Name :: atom()) -> ok.
changed(Name) ->
    meerkat_xmpp:changed(Name).

%% meerkat_xmpp:info/1 tells its members; none where no component is configured.
-spec info(Name :: atom()) -> #{xmpp := map() | none}.
info(Name) ->
    #{xmpp => meerkat_xmpp:info(Name)}.

-spec metrics() -> [meerkat_beside:row()].
metrics() ->
    [{"xmpp_connections", gauge, [state],
      "connections of the component to XMPP servers, by state",
      fun(#{xmpp := Xmpp}) ->
          States = case Xmpp of none -> []; #{connections := Of} -> maps:values(Of) end,
          [{[{state, atom_to_binary(State)}], length([S || S <- States, S =:= State])}
           || State <- [connecting, up]]
      end},
     {"xmpp_events_total", counter, [event],
      "what the component did or refused: "
      ++ lists:append(lists:join("; ", [atom_to_list(Event) ++ ", " ++ What
                                        || {Event, What} <- meerkat_xmpp_counts:help()])),
      fun(#{xmpp := Xmpp}) ->
          Counts = case Xmpp of none -> #{}; #{counts := Counted} -> Counted end,
          [{[{event, atom_to_binary(Event)}], maps:get(Event, Counts, 0)}
           || {Event, _} <- meerkat_xmpp_counts:help()]
      end}].
