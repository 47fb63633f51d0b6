%% Time-limited credentials made from the shared secret ("TURN REST API",
%% draft-uberti-behave-turn-rest-00): the username is `expiry` or `expiry:anything`, expiry in
%% Unix seconds; the password is base64(HMAC-SHA1(secret, username)), or with SHA-256 where the
%% configuration says so. MongooseIM, ejabberd, prosody and coturn speak it. The expiry is looked
%% at with every request, so an allocation outlives its credentials by one lifetime at most, and not
%% at all where it is to end with them.
-module(meerkat_auth_rest).
-behaviour(meerkat_auth).

-export([init/1, candidates/3, why/3]).
-export([credentials/4, password/2, password/3, expiry/1, name/1]).

-export_type([state/0]).

%% 19 digits may pass it, 20 always do.
-define(MAX_EXPIRY, 16#7fffffffffffffff).

-record(rest, {
    secrets :: [binary(), ...],
    leeway :: non_neg_integer(),            % seconds that whoever makes them may be behind us
    digests :: [sha | sha256, ...]
}).
-opaque state() :: fun(() -> #rest{}).

%% Keys `secrets`, `credential_leeway`, `credential_sha256`.
-spec init(map()) -> {ok, state()} | ignore.
init(#{secrets := [_ | _] = Secrets} = Config) ->
    Rest = #rest{secrets = Secrets,
                 leeway = maps:get(credential_leeway, Config, 0),
                 digests = [sha | [sha256 || maps:get(credential_sha256, Config, false)]]},
    {ok, fun() -> Rest end};
init(#{}) ->
    ignore.

-spec candidates(binary(), integer(), state()) -> meerkat_auth:verdict().
candidates(User, NowS, State) ->
    #rest{secrets = Secrets, leeway = Leeway, digests = Digests} = State(),
    case expiry(User) of
        {ok, Expiry} when Expiry + Leeway >= NowS ->
            {also, [{password, password(Digest, Secret, User), Expiry + Leeway}
                    || Secret <- Secrets, Digest <- Digests]};
        _ ->
            {also, []}
    end.

-spec why(binary(), integer(), state()) ->
    {foreign, pos_integer()} | {expired, pos_integer()} | no_expiry.
why(User, NowS, State) ->
    #rest{secrets = Secrets, leeway = Leeway} = State(),
    case expiry(User) of
        {ok, Expiry} when Expiry + Leeway >= NowS -> {foreign, length(Secrets)};
        {ok, Expiry} -> {expired, NowS - Expiry};
        error -> no_expiry
    end.

%% Username and password for User, good for TtlS seconds from NowS (Unix time).
-spec credentials(Secret :: binary(), User :: binary(), TtlS :: pos_integer(),
                  NowS :: integer()) -> {Username :: binary(), Password :: binary()}.
credentials(Secret, User, TtlS, NowS) ->
    Username = <<(integer_to_binary(NowS + TtlS))/binary, $:, User/binary>>,
    {Username, password(Secret, Username)}.

-spec password(Secret :: binary(), Username :: binary()) -> binary().
password(Secret, Username) ->
    password(sha, Secret, Username).

-spec password(sha | sha256, Secret :: binary(), Username :: binary()) -> binary().
password(Digest, Secret, Username) ->
    base64:encode(crypto:mac(hmac, Digest, Secret, Username)).

%% What stands behind the expiry of a time-limited username: a name, nothing, or this is none.
-spec name(Username :: binary()) -> {ok, binary()} | none | error.
name(Username) ->
    case split(Username, 0, 0) of
        {_Expiry, <<>>} -> none;
        {_Expiry, Name} -> {ok, Name};
        error -> error
    end.

%% The expiry a username begins with: digits only, up to its end or its first colon.
-spec expiry(Username :: binary()) -> {ok, 0..?MAX_EXPIRY} | error.
expiry(Username) ->
    case split(Username, 0, 0) of
        {Expiry, _Name} -> {ok, Expiry};
        error -> error
    end.

%% The number and what stands behind its colon. By hand: binary:split/2 costs its caller a whole
%% time slice, however short the name is, and every request comes by here.
split(<<D, Rest/binary>>, N, Digits) when D >= $0, D =< $9, Digits < 19 ->
    split(Rest, N * 10 + D - $0, Digits + 1);
split(Rest, N, Digits) when Digits > 0, N =< ?MAX_EXPIRY ->
    case Rest of
        <<>> -> {N, <<>>};
        <<$:, Name/binary>> -> {N, Name};
        _ -> error
    end;
split(_Rest, _N, _Digits) ->
    error.
