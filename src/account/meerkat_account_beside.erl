%% Accounting as a meerkat_beside: it begins and ends where keys say where records go. A reload that
%% names a spool or a library that cannot be had is refused.
-module(meerkat_account_beside).
-behaviour(meerkat_beside).

-export([child_specs/2, try_out/2, prepare/3, commit/1, info/1, metrics/0]).

-type prepared() :: Name :: atom().

-spec child_specs(Name :: atom(), meerkat_settings:settings()) -> [supervisor:child_spec()].
child_specs(Name, Settings) ->
    meerkat_account_sup:child_specs(Name, Settings).

-spec try_out(meerkat_settings:settings(), meerkat_settings:settings()) ->
    ok | {error, unicode:chardata()}.
try_out(New, Old) ->
    case {map_size(meerkat_account_sink:wanted(New)), map_size(meerkat_account_sink:wanted(Old))} of
        {0, _} -> ok;
        {_, 0} -> meerkat_account:can_keep(New);
        {_, _} -> meerkat_account:can_keep(New, Old)
    end.

-spec prepare(Name :: atom(), meerkat_settings:settings(), meerkat_settings:settings()) ->
    {ok, prepared()} | {error, unicode:chardata()}.
prepare(Name, New, Old) ->
    case try_out(New, Old) of
        ok -> {ok, Name};
        {error, Sentence} -> {error, [Sentence, "; nothing has changed"]}
    end.

-spec commit(prepared()) -> ok.
commit(Name) ->
    meerkat_account_sup:settle(Name).

%% meerkat_account_counts:info/1 tells its members; none where no account is kept.
-spec info(Name :: atom()) -> #{accounting := map() | none}.
info(Name) ->
    #{accounting => case map_size(meerkat_account_sink:wanted(meerkat_registry:settings(Name))) of
        0 -> none;
        _ -> meerkat_account_counts:info(Name)
    end}.

-spec metrics() -> [meerkat_beside:row()].
metrics() ->
    [{"accounting_records_total", counter, [type],
      "accounting records made, by type: start, interim, stop, on, off, lost",
      of_all(fun(#{records := Records}) ->
          [{[{type, atom_to_binary(Type)}], N} || {Type, N} <- lists:sort(maps:to_list(Records))]
      end)},
     {"accounting_lost_total", counter, [sink],
      "accounting records that are lost: to a sink, for the spool was full before it took them; "
      "spool, for they could not be written there",
      fun(#{accounting := none}) -> [{[{sink, "spool"}], 0}];
         (#{accounting := #{lost := Lost} = All}) ->
              [{[{sink, "spool"}], Lost} | of_sinks(lost, All)]
      end},
     {"accounting_delivered_total", counter, [sink], "accounting records that a sink has taken",
      of_all(fun(All) -> of_sinks(delivered, All) end)},
     {"accounting_failures_total", counter, [sink], "times that a sink did not take records",
      of_all(fun(All) -> of_sinks(failures, All) end)},
     {"accounting_waiting", gauge, [sink], "accounting records that wait for a sink to take them",
      of_all(fun(All) -> of_sinks(waiting, All) end)},
     {"accounting_spool_bytes", gauge, [],
      "bytes of accounting records on disk (accounting_spool)",
      of_all(fun(#{bytes := Bytes}) -> [{[], Bytes}] end)}].

of_all(Find) ->
    fun(#{accounting := none}) -> []; (#{accounting := All}) -> Find(All) end.

of_sinks(Key, #{sinks := Sinks}) ->
    [{[{sink, atom_to_binary(Sink)}], maps:get(Key, Of)}
     || {Sink, Of} <- lists:sort(maps:to_list(Sinks))].
