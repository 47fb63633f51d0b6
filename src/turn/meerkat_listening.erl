%% Where a server listens: the address that each listener got, by its number. A port that the system
%% chose is bound again by the next relay program, and by the next server of the specification.
-module(meerkat_listening).

-export([bound/1, set/2]).

-export_type([bound/0]).

-type bound() :: #{Listener :: pos_integer() => {inet:ip_address(), inet:port_number()}}.

%% None before the first relay program listens.
-spec bound(Name :: atom()) -> bound().
bound(Name) ->
    meerkat_store:get(Name, ?MODULE, bound, #{}).

-spec set(Name :: atom(), bound()) -> ok.
set(Name, Bound) ->
    meerkat_store:put_lasting(Name, ?MODULE, bound, Bound).
