%% Reservation tokens (RFC 8656 7.2): who may redeem one, and for a port of which family. The relay
%% ends them when their time is over.
-module(meerkat_reservations).

-export([hold/4, release/2, holder/2]).

-spec hold(Name :: atom(), Token :: pos_integer(), meerkat_alloc_request:holder(), 4 | 6) -> ok.
hold(Name, Token, Owner, Family) ->
    meerkat_store:put(Name, ?MODULE, Token, {Owner, Family}).

-spec release(Name :: atom(), Token :: pos_integer()) -> ok.
release(Name, Token) ->
    meerkat_store:delete(Name, ?MODULE, Token).

-spec holder(Name :: atom(), Token :: non_neg_integer()) ->
    {meerkat_alloc_request:holder(), 4 | 6} | none.
holder(Name, Token) ->
    meerkat_store:get(Name, ?MODULE, Token).
