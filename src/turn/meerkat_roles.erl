%% Which process of a server does what: a table from role to process, in which each enters itself.
%% A process that died stands in it until the next one of its role, and whoever sends to it or calls
%% it finds out. Reading asks nobody.
-module(meerkat_roles).

-export([take/2, give/3, leave/2, find/2]).

-export_type([role/0]).

%%   relay        meerkat_relay_owner; port, wire: the relay program's, of the same life
%%   replaying    the owner too, while a replay goes on
%%   request      of the processes of meerkat_request the one of that number
%%   follower     meerkat_follow
%%   lookups      meerkat_lookups
%%   watch_sup    meerkat_watch_sup
%%   sampler      meerkat_sampler
%%   beside       meerkat_beside_sup; what stands there has roles of its own
-type role() :: relay | port | wire | replaying | {request, non_neg_integer()} | quota | alloc_sup
              | lookups | follower | watch_sup | sampler | beside | http_sup | history | xmpp
              | account | account_sinks | fleet | fleet_seeker | fleet_quota | fleet_load.

%% The caller has that role from here on.
-spec take(Name :: atom(), role()) -> ok.
take(Name, Role) ->
    give(Name, Role, self()).

-spec give(Name :: atom(), role(), pid() | port()) -> ok.
give(Name, Role, Process) ->
    true = ets:insert(meerkat_registry:table(Name, roles), {Role, Process}),
    ok.

%% Nobody has it any more.
-spec leave(Name :: atom(), role()) -> ok.
leave(Name, Role) ->
    true = ets:delete(meerkat_registry:table(Name, roles), Role),
    ok.

%% badarg if there is no server of that name.
-spec find(Name :: atom(), role()) -> pid() | port() | none.
find(Name, Role) ->
    case ets:lookup(meerkat_registry:table(Name, roles), Role) of
        [{_, Process}] -> Process;
        [] -> none
    end.
