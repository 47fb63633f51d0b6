%% Time-limited credentials that an operator has ended before their time: a user, and a time up to
%% which credentials of that user are no good. Those made later expire later, so they are. A table
%% of bounded size, lost with the server; it knows nothing of passwords.
-module(meerkat_revoked).

-export([revoke/3, take/2, all/1, is_revoked/2]).

-define(USERS_MAX, 10000).
%% The most that the key credential_leeway may be.
-define(LEEWAY_MAX, 3600).

%% Credentials of User, as quotas know users (meerkat_quota:user_key/2), that expire within TtlS
%% seconds are refused from here on, in every realm: all of them, where none is made for longer.
-spec revoke(Name :: atom(), User :: binary(), TtlS :: pos_integer()) -> ok | {error, full}.
revoke(Name, User, TtlS) ->
    case put(Name, User, meerkat_clock:wall_s() + TtlS, live(Name)) of
        {_NewOrKnown, Until} -> meerkat_beside:revoked(Name, User, Until);
        full -> {error, full}
    end.

%% What another node of the fleet has revoked: those that were not, or not up to that time.
-spec take(Name :: atom(), #{User :: binary() => Until :: integer()}) -> New :: [binary()].
take(Name, Revoked) ->
    Live = live(Name),
    [User || {User, Until} <- maps:to_list(Revoked), {new, _} <- [put(Name, User, Until, Live)]].

%% Who is revoked, and up to which time (Unix).
-spec all(Name :: atom()) -> #{User :: binary() => Until :: integer()}.
all(Name) ->
    maps:from_list(meerkat_store:all(Name, ?MODULE)).

%% Kept for as long as a leeway could let in credentials that ended then.
live(Name) ->
    Now = meerkat_clock:wall_s(),
    {Live, Over} = lists:partition(fun({_, Until}) -> Until + ?LEEWAY_MAX >= Now end,
                                   meerkat_store:all(Name, ?MODULE)),
    ok = lists:foreach(fun({User, _}) -> meerkat_store:delete(Name, ?MODULE, User) end, Over),
    maps:from_list(Live).

%% The later time counts. Nobody is answered any more by what was decided before.
put(Name, User, Until, Live) ->
    case Live of
        #{User := Later} when Later >= Until -> {known, Later};
        #{} when is_map_key(User, Live); map_size(Live) < ?USERS_MAX ->
            ok = meerkat_store:put(Name, ?MODULE, User, Until),
            ok = meerkat_grants:withdraw(Name),
            {new, Until};
        #{} -> full
    end.

%% Is this one of the credentials? Names that have no time are not.
-spec is_revoked(Name :: atom(), Username :: binary()) -> boolean().
is_revoked(Name, Username) ->
    #{usernames := Order} = meerkat_registry:settings(Name),
    case meerkat_auth_rest:expiry(Username, Order) of
        {ok, Expiry} ->
            case meerkat_store:get(Name, ?MODULE, meerkat_quota:user_key(Username, Order)) of
                none -> false;
                Until -> Expiry =< Until
            end;
        error ->
            false
    end.
