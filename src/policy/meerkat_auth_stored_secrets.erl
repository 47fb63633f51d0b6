%% Time-limited credentials by the secrets of a realm that a database has, as meerkat_auth_rest by
%% those of the configuration. Other names are not asked about here.
-module(meerkat_auth_stored_secrets).
-behaviour(meerkat_auth).

-export([init/1, candidates/3, why/3]).

-record(stored, {realm :: binary(), config :: map(), look :: meerkat_auth_stored:state()}).

-spec init(map()) -> {ok, fun(() -> #stored{})} | ignore.
init(#{realm := Realm} = Config) ->
    case meerkat_auth_stored:new(Config) of
        {ok, Look} ->
            Rest = maps:with([credential_leeway, credential_sha256, credential_name_first,
                              token_keys, jwt_audience, jwt_issuer, jwt_required], Config),
            Stored = #stored{realm = Realm, config = Rest, look = Look},
            {ok, fun() -> Stored end};
        ignore ->
            ignore
    end;
init(#{}) ->
    ignore.

-spec candidates(binary(), integer(), fun(() -> #stored{})) -> meerkat_auth:verdict().
candidates(User, NowS, State) ->
    #stored{realm = Realm, config = Config, look = Look} = State(),
    Leeway = maps:get(credential_leeway, Config, 0),
    case meerkat_auth_rest:expiry(User, meerkat_auth_rest:order(Config)) of
        {ok, Expiry} when Expiry + Leeway >= NowS ->
            Question = {secrets, Realm},
            By = fun(Secrets) -> made(Secrets, User, NowS, Config) end,
            verdict(Question, meerkat_auth_stored:look(Look, Question), By);
        _ ->
            {also, []}
    end.

verdict(_Question, {fresh, {secrets, Secrets}}, By) -> By(Secrets);
verdict(Question, {old, {secrets, Secrets}}, By) ->
    {look_up, Question, By(Secrets), told(By, By(Secrets))};
%% There may be other secrets since. A request that fits none of these is not refused, for it may
%% fit one of those: it gets no answer (`unavailable`).
verdict(Question, {stale, {secrets, Secrets}}, By) ->
    {_, Known} = By(Secrets),
    {look_up, Question, {also, []}, told(By, {unavailable, Known})};
verdict(Question, unknown, By) ->
    {look_up, Question, {also, []}, told(By, {unavailable, []})}.

%% The verdict once the database has answered, or with `error`, when it did not.
told(By, Otherwise) ->
    fun({ok, Answer}) ->
            {secrets, Secrets} = Answer(),
            By(Secrets);
       (error) ->
            Otherwise
    end.

made([], _User, _NowS, _Config) ->
    {also, []};
made(Secrets, User, NowS, Config) ->
    {ok, Rest} = meerkat_auth_rest:init(Config#{secrets => Secrets}),
    meerkat_auth_rest:candidates(User, NowS, Rest).

%% Only whether the password was wrong: the backend that refuses in the end says more.
-spec why(binary(), integer(), fun(() -> #stored{})) -> wrong_password | unknown.
why(User, NowS, State) ->
    case candidates(User, NowS, State) of
        {also, [_ | _]} -> wrong_password;
        {look_up, _, {also, [_ | _]}, _} -> wrong_password;
        _ -> unknown
    end.
