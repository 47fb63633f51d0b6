%% Time-limited credentials that an operator has ended before their time: a user, and a time up to
%% which credentials of that user are no good. Those made later expire later, so they are. A table
%% of bounded size, lost with the server; it knows nothing of passwords.
-module(meerkat_revoked).

-export([revoke/3, is_revoked/2]).

-define(USERS_MAX, 10000).
%% The most that the key credential_leeway may be.
-define(LEEWAY_MAX, 3600).

%% Credentials of User, as quotas know users (meerkat_quota:user_key/2), that expire within TtlS
%% seconds are refused from here on, in every realm: all of them, where none is made for longer.
-spec revoke(Name :: atom(), User :: binary(), TtlS :: pos_integer()) -> ok | {error, full}.
revoke(Name, User, TtlS) ->
    Now = meerkat_clock:wall_s(),
    %% Kept for as long as a leeway could let in credentials that ended then.
    {Over, Live} = lists:partition(fun({_, Until}) -> Until + ?LEEWAY_MAX < Now end,
                                   meerkat_store:all(Name, ?MODULE)),
    ok = lists:foreach(fun({Other, _}) -> meerkat_store:delete(Name, ?MODULE, Other) end,
                       Over),
    case lists:keyfind(User, 1, Live) of
        {_, Until} -> put(Name, User, max(Until, Now + TtlS));
        false when length(Live) < ?USERS_MAX -> put(Name, User, Now + TtlS);
        false -> {error, full}
    end.

%% Nobody is answered any more by what was decided before.
put(Name, User, Until) ->
    ok = meerkat_store:put(Name, ?MODULE, User, Until),
    meerkat_grants:withdraw(Name).

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
