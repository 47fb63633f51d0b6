%% Tokens as usernames: a JSON Web Token (RFC 7519) that somebody else has signed says who a client
%% is and until when. Its password is made as that of a time-limited username (meerkat_auth_rest),
%% so any client can use it, and a token is looked at closely only for who knows the secret.
%%
%% A key is good for one algorithm, which the key decides and never the token. Signatures are
%% checked by the library jose.
-module(meerkat_auth_token).

-export([keys/1, is_keys/1, claims/1, judge/3]).

-export_type([key/0, rules/0]).

%% `id`: the kid by which tokens may name it. In a fun, for it may be a secret.
-opaque key() :: #{id := none | binary(), algorithm := binary(), jwk := fun(() -> tuple())}.
%% What tokens must say; `undefined`: anything.
-type rules() :: #{keys := [key(), ...], audience := undefined | binary(),
                   issuer := undefined | binary(), leeway := non_neg_integer()}.

%% Of a username that the relay takes (attrs.def); RFC 8489 14.3 allows 508 bytes.
-define(TOKEN_MAX, 763).
-define(USER_MAX, 255).
-define(KEYS_MAX, 64).
-define(SECRET_MIN, 32).                % bytes, of one for HS256 (RFC 7518 3.2)
-define(MODULUS_MIN, 2048).             % bits (RFC 7518 3.3)

%% Keys of a file: public keys in PEM, or a JSON Web Key, or a set of them (RFC 7517). The error is
%% the end of a sentence.
-spec keys(Content :: binary()) -> {ok, [key(), ...]} | {error, unicode:chardata()}.
keys(Content) ->
    _ = application:ensure_all_started(jose),
    case code:ensure_loaded(jose_jws) of
        {error, _} ->
            {error, "needs the Erlang library jose: the Debian package erlang-jose has it, or jose "
                    "on hex"};
        {module, _} ->
            case string:find(Content, "-----BEGIN ") of
                nomatch -> of_json(meerkat_json:decode(Content));
                _ -> of_pem(binary:split(Content, <<"-----BEGIN ">>, [global]))
            end
    end.

of_pem([_ | Parts]) ->
    all([of_part(<<"-----BEGIN ", Part/binary>>) || Part <- Parts]).

of_part(Part) ->
    try jose_jwk:to_map(jose_jwk:from_pem(Part)) of
        {_, Map} -> key(Map)
    catch
        _:_ -> {error, "has a part that is no public key"}
    end.

%% Keys for another use than signing are in such sets too.
of_json({ok, #{<<"keys">> := [_ | _] = Keys}}) when length(Keys) =< ?KEYS_MAX ->
    case [Key || Key <- Keys, not is_map(Key) orelse is_for_signatures(Key)] of
        [] -> {error, "has no key for signatures"};
        Good -> all([key(Key) || Key <- Good])
    end;
of_json({ok, #{<<"kty">> := _} = Key}) ->
    all([key(Key)]);
of_json(_) ->
    {error, "is neither a public key in PEM nor a JSON Web Key, nor a set of 1 to 64 of them"}.

is_for_signatures(#{<<"use">> := Use}) -> Use =:= <<"sig">>;
is_for_signatures(#{<<"key_ops">> := Uses}) when is_list(Uses) ->
    lists:member(<<"verify">>, Uses) orelse lists:member(<<"sign">>, Uses);
is_for_signatures(#{}) -> true.

all(Read) ->
    case [Why || {error, Why} <- Read] of
        [] -> {ok, [Key || {ok, Key} <- Read]};
        [Why | _] -> {error, Why}
    end.

key(#{<<"kty">> := Kty, <<"d">> := _}) when Kty =/= <<"oct">> ->
    {error, "has a private key; the public one is enough, and belongs here"};
key(#{<<"kty">> := <<"oct">>, <<"k">> := Text} = Map) ->
    case byte_size(base64(Text)) >= ?SECRET_MIN of
        true -> read(Map, [<<"HS256">>, <<"HS384">>, <<"HS512">>]);
        false -> {error, "has a secret of fewer than 32 bytes"}
    end;
key(#{<<"kty">> := <<"RSA">>, <<"n">> := Text} = Map) ->
    case 8 * byte_size(base64(Text)) >= ?MODULUS_MIN of
        true -> read(Map, [<<"RS256">>, <<"RS384">>, <<"RS512">>, <<"PS256">>, <<"PS384">>,
                           <<"PS512">>]);
        false -> {error, "has an RSA key of fewer than 2048 bits"}
    end;
key(#{<<"kty">> := <<"EC">>, <<"crv">> := <<"P-256">>} = Map) -> read(Map, [<<"ES256">>]);
key(#{<<"kty">> := <<"EC">>, <<"crv">> := <<"P-384">>} = Map) -> read(Map, [<<"ES384">>]);
key(#{<<"kty">> := <<"OKP">>, <<"crv">> := <<"Ed25519">>} = Map) -> read(Map, [<<"EdDSA">>]);
key(_) ->
    {error, "has a key that is none of RSA, EC (P-256, P-384), OKP (Ed25519) and oct"}.

%% The first algorithm, unless the key says another that such keys have.
read(Map, [First | _] = Algorithms) ->
    case maps:get(<<"alg">>, Map, First) of
        Algorithm ->
            case lists:member(Algorithm, Algorithms) of
                true -> made(Map, Algorithm);
                false -> {error, ["has a key whose \"alg\" is none of ",
                                  lists:join(", ", Algorithms)]}
            end
    end.

made(Map, Algorithm) ->
    try jose_jwk:from_map(Map) of
        Jwk ->
            Id = case Map of #{<<"kid">> := Kid} when is_binary(Kid) -> Kid; #{} -> none end,
            {ok, #{id => Id, algorithm => Algorithm, jwk => fun() -> Jwk end}}
    catch
        _:_ -> {error, "has a key that is broken"}
    end.

-spec is_keys(term()) -> boolean().
is_keys(Keys) when is_list(Keys), length(Keys) =< ?KEYS_MAX ->
    lists:all(fun(#{id := _, algorithm := _, jwk := Jwk}) -> is_function(Jwk, 0);
                 (_) -> false
              end, Keys);
is_keys(_) ->
    false.

%% Who a token speaks of and until when, as it says itself: nobody has looked at its signature.
-spec claims(Username :: binary()) -> {ok, {Expiry :: non_neg_integer(), binary()}} | error.
claims(Token) ->
    case claimed(Token) of
        {ok, #{<<"sub">> := <<_, _/binary>> = User, <<"exp">> := Expiry}}
          when byte_size(User) =< ?USER_MAX, is_number(Expiry), Expiry >= 0, Expiry < 1 bsl 53 ->
            {ok, {trunc(Expiry), User}};
        _ ->
            error
    end.

%% All tokens begin so, for they begin with `{"`.
claimed(<<"eyJ", _/binary>> = Token) when byte_size(Token) =< ?TOKEN_MAX ->
    case binary:split(Token, <<".">>, [global]) of
        [_Header, Payload, _Signature] -> decoded(base64(Payload));
        _ -> error
    end;
claimed(_) ->
    error.

decoded(error) ->
    error;
decoded(Json) ->
    case meerkat_json:decode(Json) of
        {ok, #{} = Claims} -> {ok, Claims};
        _ -> error
    end.

base64(Text) when is_binary(Text) ->
    try jose_base64url:decode(Text) of
        {ok, Bytes} -> Bytes;
        _ -> error
    catch
        _:_ -> error
    end;
base64(_) ->
    error.

%% Whether a token is good at NowS; else why not, as the end of a sentence about it.
-spec judge(Token :: binary(), NowS :: integer(), rules()) -> ok | {error, unicode:chardata()}.
judge(Token, NowS, #{keys := Keys} = Rules) ->
    case {claimed(Token), header(Token)} of
        {{ok, Claims}, {ok, Header}} ->
            case [Key || Key <- Keys, is_meant(Key, Header)] of
                [] -> {error, ["names no key and algorithm that jwt_keys has: ", named(Header)]};
                Meant -> signed(Token, Meant, Claims, NowS, Rules)
            end;
        _ ->
            {error, "cannot be read"}
    end.

header(Token) ->
    [Header | _] = binary:split(Token, <<".">>),
    decoded(base64(Header)).

%% What is said to be critical (RFC 7515 4.1.11) would have to be known; nothing of it is.
is_meant(_Key, #{<<"crit">> := _}) -> false;
is_meant(#{algorithm := Algorithm, id := Id}, #{<<"alg">> := Algorithm} = Header) ->
    case Header of
        #{<<"kid">> := Kid} -> Id =:= none orelse Id =:= Kid;
        #{} -> true
    end;
is_meant(_Key, _Header) -> false.

named(Header) ->
    [[Name, $\s, meerkat_text:escape(Text), $\s]
     || Name <- [<<"alg">>, <<"kid">>], #{Name := Text} <- [Header], is_binary(Text)].

signed(Token, Keys, Claims, NowS, Rules) ->
    case lists:any(fun(Key) -> is_signed(Token, Key) end, Keys) of
        true -> says(Claims, NowS, Rules);
        false -> {error, "was signed by none of jwt_keys"}
    end.

is_signed(Token, #{algorithm := Algorithm, jwk := Jwk}) ->
    try jose_jws:verify_strict(Jwk(), [Algorithm], Token) of
        {IsSigned, _, _} -> IsSigned
    catch
        _:_ -> false
    end.

says(Claims, NowS, #{audience := Audience, issuer := Issuer, leeway := Leeway}) ->
    Checks = [{is_number(maps:get(<<"exp">>, Claims, none))
                   andalso maps:get(<<"exp">>, Claims) + Leeway >= NowS, "has expired"},
              {is_in_force(maps:get(<<"nbf">>, Claims, 0), NowS + Leeway),
               "is not in force yet (nbf)"},
              {is_for(Audience, maps:get(<<"aud">>, Claims, [])),
               "is for others than jwt_audience (aud)"},
              {Issuer =:= undefined orelse maps:get(<<"iss">>, Claims, none) =:= Issuer,
               "is from another than jwt_issuer (iss)"}],
    case [Why || {false, Why} <- Checks] of
        [] -> ok;
        [Why | _] -> {error, Why}
    end.

is_in_force(From, NowS) -> is_number(From) andalso From =< NowS.

is_for(undefined, _Claimed) -> true;
is_for(Audience, Claimed) when is_list(Claimed) -> lists:member(Audience, Claimed);
is_for(Audience, Claimed) -> Claimed =:= Audience.
