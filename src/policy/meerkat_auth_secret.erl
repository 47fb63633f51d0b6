%% The shared secret as the password of any username, as MongooseICE has it, where the key
%% `secret_as_password` is true. Several secrets may
%% be good at a time, so that one can be changed without a break.
-module(meerkat_auth_secret).
-behaviour(meerkat_auth).

-export([init/1, candidates/3, why/3]).

-spec init(map()) -> {ok, fun(() -> [binary(), ...])} | ignore.
init(#{secrets := [_ | _] = Secrets, secret_as_password := true}) -> {ok, fun() -> Secrets end};
init(#{}) -> ignore.

-spec candidates(binary(), integer(), fun(() -> [binary()])) -> meerkat_auth:verdict().
candidates(_User, _NowS, Secrets) ->
    {also, [{password, Secret} || Secret <- Secrets()]}.

-spec why(binary(), integer(), fun(() -> [binary()])) -> wrong_password.
why(_User, _NowS, _Secrets) ->
    wrong_password.
