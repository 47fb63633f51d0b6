%% Users from the configuration, each with a password or the key made of it. For their names
%% nothing else counts, the shared secret neither.
-module(meerkat_auth_users).
-behaviour(meerkat_auth).

-export([init/1, candidates/3, username/2, why/3]).

-export_type([state/0]).

-record(users, {
    all :: #{binary() => meerkat_auth:candidate()},
    hashes :: #{<<_:256>> => binary()},
    dummy :: meerkat_auth:candidate()
}).
-opaque state() :: fun(() -> #users{}).

-spec init(map()) -> {ok, state()} | ignore.
init(#{users := Users} = Config) when map_size(Users) > 0 ->
    State = #users{all = Users,
                   hashes = maps:from_list([{meerkat_stun:userhash(User, Realm), User}
                                            || User <- maps:keys(Users),
                                               Realm <- realms(Config)]),
                   dummy = {password, base64:encode(crypto:strong_rand_bytes(24))}},
    {ok, fun() -> State end};
init(#{}) ->
    ignore.

%% A listener may have a realm of its own; a client hashes with the one it was sent.
realms(Config) ->
    Listeners = maps:get(listeners, Config, []),
    lists:usort([maps:get(realm, From) || From <- [Config | Listeners], is_map_key(realm, From)]).

-spec candidates(binary(), integer(), state()) -> meerkat_auth:verdict().
candidates(User, _NowS, State) ->
    case State() of
        #users{all = #{User := Candidate}} -> {only, [Candidate]};
        #users{dummy = Dummy} -> {also, [Dummy]}
    end.

-spec username(<<_:256>>, state()) -> {ok, binary()} | error.
username(Hash, State) ->
    #users{hashes = Hashes} = State(),
    maps:find(Hash, Hashes).

-spec why(binary(), integer(), state()) -> wrong_password | unknown.
why(User, _NowS, State) ->
    case State() of
        #users{all = #{User := _}} -> wrong_password;
        #users{} -> unknown
    end.
