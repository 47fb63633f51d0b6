%% What accounting counts of itself, for metrics and status. Kept in meerkat_store: it outlives the
%% processes, and reading asks nobody. Each key has one process that writes it.
-module(meerkat_account_counts).

-export([set/3, add/3, get/2, forget/1, forget_sink/2, info/1]).

-export_type([key/0]).

%%   {records, Type}         records made
%%   lost                    of those that never came into the spool
%%   bytes, next             of the spool, and its next record
%%   trouble                 why nothing can be written there now; a sentence, or `none`
%%   {at, Sink}              the next record that a sink is to have
%%   {delivered | failures | lost, Sink}
%%   {trouble, Sink}         why it takes none now; a sentence, or `none`
-type key() :: {records, atom()} | lost | bytes | next | trouble
             | {at | delivered | failures | lost | trouble, Sink :: atom()}.

-spec set(Name :: atom(), key(), term()) -> ok.
set(Name, Key, Value) ->
    meerkat_store:put(Name, ?MODULE, Key, Value).

-spec add(Name :: atom(), key(), non_neg_integer()) -> ok.
add(Name, Key, N) ->
    set(Name, Key, get(Name, Key) + N).

-spec get(Name :: atom(), key()) -> term().
get(Name, Key) ->
    meerkat_store:get(Name, ?MODULE, Key, 0).

-spec forget(Name :: atom()) -> ok.
forget(Name) ->
    lists:foreach(fun({Key, _}) -> ok = meerkat_store:delete(Name, ?MODULE, Key) end,
                  meerkat_store:all(Name, ?MODULE)).

-spec forget_sink(Name :: atom(), Sink :: string()) -> ok.
forget_sink(Name, Sink) ->
    lists:foreach(fun(Key) -> ok = meerkat_store:delete(Name, ?MODULE, Key) end,
                  [Key || {{_, Of} = Key, _} <- meerkat_store:all(Name, ?MODULE),
                          atom_to_list(Of) =:= Sink]).

%% records: made, by type; lost: before they came into the spool; bytes and trouble: of the spool;
%% sinks: each with delivered, waiting, failures, lost and trouble.
-spec info(Name :: atom()) ->
    #{records := #{atom() => non_neg_integer()}, lost := non_neg_integer(),
      bytes := non_neg_integer(), trouble := none | binary(), sinks := #{atom() => map()}}.
info(Name) ->
    All = maps:from_list(meerkat_store:all(Name, ?MODULE)),
    Next = maps:get(next, All, 1),
    #{records => maps:from_list([{Type, N} || {{records, Type}, N} <- maps:to_list(All)]),
      lost => maps:get(lost, All, 0),
      bytes => maps:get(bytes, All, 0),
      trouble => maps:get(trouble, All, none),
      sinks => maps:from_list([{Sink, sink(Sink, Next - At, All)}
                               || {{at, Sink}, At} <- maps:to_list(All)])}.

sink(Sink, Waiting, All) ->
    maps:from_list([{waiting, max(0, Waiting)},
                    {trouble, maps:get({trouble, Sink}, All, none)}
                    | [{Key, maps:get({Key, Sink}, All, 0)}
                       || Key <- [delivered, failures, lost]]]).
