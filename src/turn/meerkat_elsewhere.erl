%% Other nodes of a fleet: allocations there, as far as quotas hold over all of it, and where
%% clients may go. It asks and finds nobody: who does has the role `fleet_quota`, and puts here what
%% was told (src/fleet). A server that is alone has nobody in it, and counts for itself.
-module(meerkat_elsewhere).

-export([claim/4, settled/3, changed/2, realm/2, put_realms/2, unanswered/1]).
-export([places/1, put_places/2]).

-export_type([place/0, way/0, bound/0]).

%% A node as it tells of itself. `load`: of what it may have, how much it has; 1.0 is full. It takes
%% clients if it is `ready`.
-type place() :: #{node := node(), load := float(), ready := boolean(),
                   region := undefined | binary(), ways := [way()]}.
%% One way in. The hosts are names and addresses that clients are told, the first one best.
-type way() :: #{transport := udp | tcp | tls | dtls, realm := binary(),
                 at := {inet:ip_address(), inet:port_number()},
                 hosts := [inet:ip_address() | binary()]}.

%% Nobody is kept waiting longer: then the node's own counts decide.
-define(ANSWER_MS, 500).

%% So many of a user's in all; beyond that a new one is refused, or others' oldest end for it.
-type bound() :: {refuse | replace, Max :: pos_integer()}.

%% May the user have so many more? Whatever the answer, settled/3 has to follow once they are
%% counted here or will not be. `alone` where nobody is asked.
-spec claim(Name :: atom(), meerkat_quota:of_realm(), Weight :: pos_integer(), bound()) ->
    ok | full | alone.
claim(Name, User, Weight, Bound) ->
    case meerkat_roles:find(Name, fleet_quota) of
        none ->
            alone;
        Pid ->
            try
                gen_server:call(Pid, {claim, User, Weight, Bound}, ?ANSWER_MS)
            catch
                exit:_ ->
                    _ = meerkat_store:count(Name, ?MODULE, unanswered),
                    ok
            end
    end.

-spec settled(Name :: atom(), meerkat_quota:of_realm(), Weight :: pos_integer()) -> ok.
settled(Name, User, Weight) ->
    tell(Name, {settled, User, Weight}).

%% This node has another number of them.
-spec changed(Name :: atom(), meerkat_quota:of_realm()) -> ok.
changed(Name, User) ->
    tell(Name, {changed, User}).

tell(Name, What) ->
    case meerkat_roles:find(Name, fleet_quota) of
        none -> ok;
        Pid -> gen_server:cast(Pid, What)
    end.

%% How many a realm has on the other nodes, as they have told last. The server's own realm has its
%% total_quota on each.
-spec realm(Name :: atom(), meerkat_settings:owner()) -> non_neg_integer().
realm(_Name, default) ->
    0;
realm(Name, Realm) ->
    maps:get(Realm, meerkat_store:get(Name, ?MODULE, realms, #{}), 0).

-spec put_realms(Name :: atom(), #{meerkat_settings:owner() => non_neg_integer()}) -> ok.
put_realms(Name, Realms) ->
    meerkat_store:put(Name, ?MODULE, realms, Realms).

%% Claims that nobody answered in time.
-spec unanswered(Name :: atom()) -> non_neg_integer().
unanswered(Name) ->
    meerkat_store:get(Name, ?MODULE, unanswered, 0).

%% The other nodes that are there, the least loaded first.
-spec places(Name :: atom()) -> [place()].
places(Name) ->
    meerkat_store:get(Name, ?MODULE, places, []).

-spec put_places(Name :: atom(), [place()]) -> ok.
put_places(Name, Places) ->
    Order = fun(#{load := A, node := N}, #{load := B, node := M}) -> {A, N} =< {B, M} end,
    meerkat_store:put(Name, ?MODULE, places, lists:sort(Order, Places)).
