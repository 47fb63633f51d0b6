%% Where a server listens: the address that each listener got, by its number. A port that the system
%% chose is bound again by the next relay program, and by the next server of the specification.
-module(meerkat_listening).

-export([bound/1, bound/2, set/2, retire/2, retired/1]).

-export_type([bound/0]).

-type bound() :: #{Listener :: pos_integer() => {inet:ip_address(), inet:port_number()}}.

%% None before the first relay program listens.
-spec bound(Name :: atom()) -> bound().
bound(Name) ->
    meerkat_store:get(Name, ?MODULE, bound, #{}).

%% The addresses of one transport, in the order of their listeners.
-spec bound(Name :: atom(), udp | tcp | tls | dtls) -> [{inet:ip_address(), inet:port_number()}].
bound(Name, Transport) ->
    Code = meerkat_ctl:transport(Transport),
    #{listeners := Listeners} = meerkat_registry:settings(Name),
    Bound = bound(Name),
    [maps:get(Id, Bound) || #{id := Id, transport := T} <- Listeners, T =:= Code,
                            is_map_key(Id, Bound)].

-spec set(Name :: atom(), bound()) -> ok.
set(Name, Bound) ->
    meerkat_store:put_lasting(Name, ?MODULE, bound, Bound).

%% Those at these addresses are no longer configured; allocations made through them may go on.
-spec retire(Name :: atom(), bound()) -> ok.
retire(Name, Gone) ->
    meerkat_store:put_lasting(Name, ?MODULE, retired, maps:merge(retired(Name), Gone)).

%% Where listeners were that are no more, and some of them are again.
-spec retired(Name :: atom()) -> bound().
retired(Name) ->
    meerkat_store:get(Name, ?MODULE, retired, #{}).
