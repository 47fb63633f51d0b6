%% Time-limited credentials made from the shared secret ("TURN REST API",
%% draft-uberti-behave-turn-rest-00): the username is `expiry` or `expiry:anything`, expiry in
%% Unix seconds; the password is base64(HMAC-SHA1(secret, username)). MongooseIM, ejabberd,
%% prosody and coturn speak it. The expiry is looked at with every request, so an allocation
%% outlives its credentials by one lifetime at most.
-module(meerkat_auth_rest).
-behaviour(meerkat_auth).

-export([init/1, candidates/3, why/3]).
-export([credentials/4, password/2, expiry/1]).

%% 19 digits may pass it, 20 always do.
-define(MAX_EXPIRY, 16#7fffffffffffffff).

-spec init(map()) -> {ok, fun(() -> [binary(), ...])} | ignore.
init(#{secrets := [_ | _] = Secrets}) -> {ok, fun() -> Secrets end};
init(#{}) -> ignore.

-spec candidates(binary(), integer(), fun(() -> [binary()])) -> meerkat_auth:verdict().
candidates(User, NowS, Secrets) ->
    case expiry(User) of
        {ok, Expiry} when Expiry >= NowS ->
            {also, [{password, password(Secret, User)} || Secret <- Secrets()]};
        _ ->
            {also, []}
    end.

%% Names that have no time are of no concern here.
-spec why(binary(), integer(), fun(() -> [binary()])) ->
    wrong_password | {expired, pos_integer()} | unknown.
why(User, NowS, _Secrets) ->
    case expiry(User) of
        {ok, Expiry} when Expiry >= NowS -> wrong_password;
        {ok, Expiry} -> {expired, NowS - Expiry};
        error -> unknown
    end.

%% Username and password for User, good for TtlS seconds from NowS (Unix time).
-spec credentials(Secret :: binary(), User :: binary(), TtlS :: pos_integer(),
                  NowS :: integer()) -> {Username :: binary(), Password :: binary()}.
credentials(Secret, User, TtlS, NowS) ->
    Username = <<(integer_to_binary(NowS + TtlS))/binary, $:, User/binary>>,
    {Username, password(Secret, Username)}.

-spec password(Secret :: binary(), Username :: binary()) -> binary().
password(Secret, Username) ->
    base64:encode(crypto:mac(hmac, sha, Secret, Username)).

%% The expiry a username begins with: digits only, up to its end or its first colon.
-spec expiry(Username :: binary()) -> {ok, 0..?MAX_EXPIRY} | error.
expiry(Username) ->
    [Digits | _] = binary:split(Username, <<":">>),
    case byte_size(Digits) of
        Size when Size > 0, Size < 20 -> expiry(Digits, 0);
        _ -> error
    end.

expiry(<<D, Digits/binary>>, N) when D >= $0, D =< $9 -> expiry(Digits, N * 10 + D - $0);
expiry(<<>>, N) when N =< ?MAX_EXPIRY -> {ok, N};
expiry(_Digits, _N) -> error.
