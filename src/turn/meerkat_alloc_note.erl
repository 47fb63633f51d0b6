%% What the relay keeps of an allocation for another VM besides what it works with itself: bytes
%% that only this module reads (NOTE of ctl.def). Pure.
-module(meerkat_alloc_note).

-export([message/3, read/1]).

%% When it began, by the clock that is the same in every VM: milliseconds of Unix time.
-type began() :: integer().

-define(FORMAT, 1).
%% Of a plan, in this order: their names are not repeated in each note.
-define(PLAN, [user, realm, client, transaction_id, families, address_errors, additional, even,
               token, mobile, lifetime, protocol, connections_max, bytes_per_s, bucket,
               packets_per_s]).

-spec message(Session :: non_neg_integer(), meerkat_alloc_restore:kept(), began()) ->
    meerkat_ctl:message().
message(Session, {Plan, Relayed, Before, Peers, Moves}, Began) ->
    Values = [maps:get(Key, Plan, undefined) || Key <- ?PLAN],
    Note = {?FORMAT, Values, Relayed, Before, Peers, Moves, Began},
    {note, #{session => Session, note => term_to_binary(Note)}}.

%% `error`: another release wrote it, which we do not understand.
-spec read(Note :: binary()) -> {ok, meerkat_alloc_restore:kept(), began()} | error.
read(Note) ->
    try binary_to_term(Note, [safe]) of
        {?FORMAT, Values, Relayed, Before, Peers, Moves, Began}
          when length(Values) =:= length(?PLAN) ->
            Plan = maps:filter(fun(_Key, Value) -> Value =/= undefined end,
                               maps:from_list(lists:zip(?PLAN, Values))),
            {ok, {Plan, Relayed, Before, Peers, Moves}, Began};
        _ ->
            error
    catch
        error:badarg -> error
    end.
