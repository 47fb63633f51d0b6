%% Time-limited credentials made from the shared secret ("TURN REST API",
%% draft-uberti-behave-turn-rest-00): the username is `expiry` or `expiry:anything`, expiry in
%% Unix seconds, or `name:expiry` too where the configuration says so; the password is
%% base64(HMAC-SHA1(secret, username)), or with SHA-256 where the configuration says so.
%% MongooseIM, ejabberd, prosody and coturn speak it. A token may stand in place of the username
%% (meerkat_auth_token). The expiry is looked at with every request, so an allocation outlives its
%% credentials by one lifetime at most, and not at all where it is to end with them.
-module(meerkat_auth_rest).
-behaviour(meerkat_auth).

-export([init/1, candidates/3, why/3]).
-export([credentials/4, password/2, password/3, order/1, expiry/2, name/2]).

-export_type([state/0, order/0]).

%% What may come first in a time-limited username, and whether it may be a token.
-type order() :: expiry | either | {tokens, expiry | either}.

%% 19 digits may pass it, 20 always do.
-define(MAX_EXPIRY, 16#7fffffffffffffff).

-record(rest, {
    secrets :: [binary(), ...],
    leeway :: non_neg_integer(),            % seconds that whoever makes them may be behind us
    digests :: [sha | sha256, ...],
    signs_only :: boolean(),                % whether the secret is no password besides
    order :: order(),
    tokens :: none | meerkat_auth_token:rules(),
    tokens_only :: boolean()
}).
-opaque state() :: fun(() -> #rest{}).

%% Keys `secrets`, `secret_as_password`, `credential_leeway`, `credential_sha256`,
%% `credential_name_first`, `token_keys`, `jwt_audience`, `jwt_issuer`, `jwt_required`.
-spec init(map()) -> {ok, state()} | ignore.
init(#{secrets := [_ | _] = Secrets} = Config) ->
    Rest = #rest{secrets = Secrets,
                 leeway = maps:get(credential_leeway, Config, 0),
                 digests = [sha | [sha256 || maps:get(credential_sha256, Config, false)]],
                 signs_only = maps:get(secret_as_password, Config, auto) =/= true,
                 order = order(Config),
                 tokens = tokens(Config),
                 tokens_only = maps:get(jwt_required, Config, false)},
    {ok, fun() -> Rest end};
init(#{}) ->
    ignore.

tokens(#{token_keys := [_ | _] = Keys} = Config) ->
    #{keys => Keys, audience => maps:get(jwt_audience, Config, undefined),
      issuer => maps:get(jwt_issuer, Config, undefined),
      leeway => maps:get(credential_leeway, Config, 0)};
tokens(#{}) ->
    none.

-spec candidates(binary(), integer(), state()) -> meerkat_auth:verdict().
candidates(User, NowS, State) ->
    #rest{secrets = Secrets, leeway = Leeway, digests = Digests, order = Order} = Rest = State(),
    case expiry(User, Order) of
        {ok, Expiry} when Expiry + Leeway >= NowS ->
            {also, [judged(User, NowS, {password, password(Digest, Secret, User), Expiry + Leeway},
                           Rest)
                    || is_accepted(User, Rest), Secret <- Secrets, Digest <- Digests]};
        _ ->
            {also, []}
    end.

is_accepted(User, #rest{tokens_only = Only, tokens = Tokens}) ->
    not Only orelse is_token(User, Tokens).

is_token(User, Tokens) ->
    Tokens =/= none andalso meerkat_auth_token:claims(User) =/= error.

%% What a token says counts once the password is right and its signature as well.
judged(User, NowS, Password, #rest{tokens = Tokens}) ->
    case is_token(User, Tokens) of
        true ->
            {judged, Password, fun() -> meerkat_auth_token:judge(User, NowS, Tokens) =:= ok end};
        false ->
            Password
    end.

-spec why(binary(), integer(), state()) ->
    {foreign, pos_integer()} | {expired, pos_integer()} | name_first | no_expiry | signs_only
    | {token, unicode:chardata()}.
why(User, NowS, State) ->
    #rest{tokens = Tokens} = Rest = State(),
    case {is_accepted(User, Rest), is_token(User, Tokens)} of
        {false, _} -> {token, "is no token, and jwt_required is true"};
        {true, true} -> why_token(meerkat_auth_token:judge(User, NowS, Tokens), Rest);
        {true, false} -> why_name(User, NowS, Rest)
    end.

why_token({error, Why}, _Rest) -> {token, ["is a token that ", Why]};
why_token(ok, #rest{secrets = Secrets}) -> {foreign, length(Secrets)}.

why_name(User, NowS, Rest) ->
    #rest{secrets = Secrets, leeway = Leeway, order = Order, signs_only = SignsOnly} = Rest,
    case {expiry(User, Order), expiry(User, either)} of
        {{ok, Expiry}, _} when Expiry + Leeway >= NowS -> {foreign, length(Secrets)};
        {{ok, Expiry}, _} -> {expired, NowS - Expiry};
        {error, {ok, _}} -> name_first;
        {error, error} when SignsOnly -> signs_only;
        {error, error} -> no_expiry
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

%% What the keys `credential_name_first` and `token_keys` come to.
-spec order(map()) -> order().
order(#{token_keys := [_ | _]} = Config) -> {tokens, order(maps:remove(token_keys, Config))};
order(#{credential_name_first := true}) -> either;
order(#{}) -> expiry.

%% The name in a time-limited username: a name, nothing, or this is none.
-spec name(Username :: binary(), order()) -> {ok, binary()} | none | error.
name(Username, Order) ->
    case split(Username, Order) of
        {_Expiry, <<>>} -> none;
        {_Expiry, Name} -> {ok, Name};
        error -> error
    end.

%% The expiry in it: digits only, from its beginning up to its end or its first colon; with `either`
%% also from its first colon to its end.
-spec expiry(Username :: binary(), order()) -> {ok, 0..?MAX_EXPIRY} | error.
expiry(Username, Order) ->
    case split(Username, Order) of
        {Expiry, _Name} -> {ok, Expiry};
        error -> error
    end.

%% Expiry and name. What begins with an expiry is never taken for a name.
split(Username, {tokens, Order}) ->
    case meerkat_auth_token:claims(Username) of
        {ok, Split} -> Split;
        error -> split(Username, Order)
    end;
split(Username, Order) ->
    case split(Username, 0, 0) of
        error when Order =:= either -> name_first(Username, 0);
        Split -> Split
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

%% A name up to the first colon, and behind it nothing but a number.
name_first(Username, Bytes) ->
    case Username of
        <<Name:Bytes/binary, $:, Number/binary>> when Bytes > 0 ->
            case is_number_only(Number) andalso split(Number, 0, 0) of
                {Expiry, <<>>} -> {Expiry, Name};
                _ -> error
            end;
        <<_:Bytes/binary, C, _/binary>> when C =/= $: ->
            name_first(Username, Bytes + 1);
        _ ->
            error
    end.

is_number_only(<<D, Rest/binary>>) when D >= $0, D =< $9 -> is_number_only(Rest);
is_number_only(Rest) -> Rest =:= <<>>.
