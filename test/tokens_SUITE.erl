%% Tokens as usernames (jwt_keys): by each kind of key, in PEM and as a set; what strangers make of
%% tokens; whom they count for; and files of keys that are no good.
-module(tokens_SUITE).

-include_lib("stdlib/include/assert.hrl").

-import(turn_kit, [doc/1, open/2, challenged/1, allocate/1, allocated/3, expect/2, with_server/2]).

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([every_kind_of_key/1, nothing_hostile_comes_in/1, others_come_in_beside/1,
         a_token_counts_for_its_user/1, allocations_end_with_tokens/1, keys_are_replaced/1,
         keys_of_no_use/1, nothing_of_a_key_is_shown/1]).

-define(SECRET, <<"s3cret-of-passwords">>).
%% As attrs.def has it.
-define(USERNAME_MAX, 763).
-define(AUDIENCE, <<"turn.example.org">>).
-define(ISSUER, <<"https://login.example.org">>).

all() ->
    [every_kind_of_key, nothing_hostile_comes_in, others_come_in_beside,
     a_token_counts_for_its_user, allocations_end_with_tokens, keys_are_replaced, keys_of_no_use,
     nothing_of_a_key_is_shown].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(jose),
    Keys = #{rsa => jose_jwk:generate_key({rsa, 2048}),
             ec => jose_jwk:generate_key({ec, <<"P-256">>}),
             ec384 => jose_jwk:generate_key({ec, <<"P-384">>}),
             ed => jose_jwk:generate_key({okp, 'Ed25519'}),
             oct => jose_jwk:from_oct(crypto:strong_rand_bytes(32))},
    [{keys, Keys} | Config].

end_per_suite(_Config) -> ok.

key(Name, Config) -> maps:get(Name, proplists:get_value(keys, Config)).

%% ------------------------------------------------------------------------------------- tokens

good() ->
    #{<<"sub">> => <<"alice">>, <<"exp">> => erlang:system_time(second) + 600,
      <<"aud">> => ?AUDIENCE, <<"iss">> => ?ISSUER}.

signed(Key, Algorithm, Claims) -> signed(Key, Algorithm, #{}, Claims).

signed(Key, Algorithm, Header, Claims) ->
    {_, Token} = jose_jws:compact(jose_jws:sign(Key, meerkat_json:encode(Claims),
                                                Header#{<<"alg">> => Algorithm})),
    Token.

%% The three parts, put together by hand.
compact(Header, Claims, Signature) ->
    Part = fun(Json) -> jose_base64url:encode(meerkat_json:encode(Json)) end,
    iolist_to_binary([Part(Header), $., Part(Claims), $., jose_base64url:encode(Signature)]).

as(Token) ->
    #{user => Token, password => meerkat_auth_rest:password(?SECRET, Token)}.

pem(Key) ->
    {_, Pem} = jose_jwk:to_pem(jose_jwk:to_public(Key)),
    Pem.

json(Key) -> meerkat_json:encode(map(Key)).

map(Key) ->
    {_, Map} = jose_jwk:to_map(Key),
    Map.

public(Key) -> map(jose_jwk:to_public(Key)).

set(Maps) -> meerkat_json:encode(#{keys => Maps}).

%% As the file of jwt_keys has it.
by(Content, More) ->
    {ok, Keys} = meerkat_auth_token:keys(Content),
    maps:merge(#{secrets => [?SECRET], secret_as_password => false, token_keys => Keys,
                 jwt_audience => ?AUDIENCE, jwt_issuer => ?ISSUER}, More).

refused(Server, Who) -> expect(401, allocate(challenged(open(Server, Who)))).

%% -------------------------------------------------------------------------------------- cases

every_kind_of_key(Config) ->
    doc("RSA and EC in PEM, a set with each kind by its kid, a secret: the password is REST's"),
    [Rsa, Ec, Ec384, Ed, Oct] = [key(Name, Config) || Name <- [rsa, ec, ec384, ed, oct]],
    Set = set([(public(Rsa))#{<<"kid">> => <<"r">>, <<"alg">> => <<"PS256">>},
               (public(Ed))#{<<"kid">> => <<"e">>}, public(Ec384),
               (public(Ec))#{<<"kid">> => <<"other use">>, <<"use">> => <<"enc">>}]),
    lists:foreach(fun({Content, Tokens}) ->
        with_server(by(Content, #{}), fun(Server) ->
            [_ = allocated(Server, [], as(Token)) || Token <- Tokens]
        end)
    end, [{pem(Rsa), [signed(Rsa, <<"RS256">>, good())]},
          {iolist_to_binary([pem(Rsa), pem(Ec)]),
           [signed(Rsa, <<"RS256">>, good()), signed(Ec, <<"ES256">>, good())]},
          {json(Oct), [signed(Oct, <<"HS256">>, good())]},
          {Set, [signed(Rsa, <<"PS256">>, #{<<"kid">> => <<"r">>}, good()),
                 signed(Ed, <<"EdDSA">>, #{<<"kid">> => <<"e">>}, good()),
                 signed(Ec384, <<"ES384">>, (good())#{<<"aud">> => [<<"x">>, ?AUDIENCE],
                                                      <<"nbf">> => 1})]}]).

nothing_hostile_comes_in(Config) ->
    doc("no algorithm, another's algorithm, a time that is over, others' tokens, what is huge"),
    [Rsa, Ec, Oct] = [key(Name, Config) || Name <- [rsa, ec, oct]],
    Public = pem(Rsa),
    %% Whoever takes the algorithm of the token takes the public key for a secret.
    Confused = [signed(jose_jwk:from_oct(Bytes), <<"HS256">>, good())
                || Bytes <- [Public, string:trim(Public), json(jose_jwk:to_public(Rsa))]],
    Now = erlang:system_time(second),
    Right = signed(Rsa, <<"RS256">>, good()),
    [Header, Claims, Signature] = binary:split(Right, <<".">>, [global]),
    Of = fun(Changed) -> signed(Rsa, <<"RS256">>, Changed) end,
    Hostile = Confused ++
        [compact(#{alg => Name}, good(), <<>>) || Name <- [none, <<"None">>, <<"nOnE">>, null, 1]]
        ++ [compact(#{typ => 'JWT'}, good(), <<"x">>),
            Of((good())#{<<"exp">> => Now - 1}),
            Of((good())#{<<"exp">> => integer_to_binary(Now + 600)}),
            Of((good())#{<<"exp">> => 1.0e300}),
            Of(maps:remove(<<"exp">>, good())),
            Of((good())#{<<"nbf">> => Now + 600}),
            Of((good())#{<<"aud">> => <<"another">>}),
            Of((good())#{<<"aud">> => [[?AUDIENCE]]}),
            Of(maps:remove(<<"aud">>, good())),
            Of((good())#{<<"iss">> => <<"https://evil.example.org">>}),
            Of(maps:remove(<<"iss">>, good())),
            Of(maps:remove(<<"sub">>, good())),
            Of((good())#{<<"sub">> => #{}}),
            Of((good())#{<<"sub">> => <<>>}),
            Of((good())#{<<"sub">> => binary:copy(<<"n">>, 256)}),
            Of((good())#{<<"more">> => binary:copy(<<"n">>, 3000)}),
            signed(Ec, <<"ES256">>, good()),
            signed(Oct, <<"HS256">>, good()),
            signed(Rsa, <<"RS512">>, good()),
            signed(Rsa, <<"RS256">>, #{<<"crit">> => [<<"exp">>]}, good()),
            <<Header/binary, ".", Claims/binary, ".">>,
            <<Header/binary, ".", Claims/binary>>,
            <<Right/binary, ".", Signature/binary>>,
            <<Header/binary, ".", Claims/binary, ".!!", Signature/binary>>,
            compact(#{alg => 'RS256'}, (good())#{<<"sub">> => <<"mallory">>},
                    element(2, jose_base64url:decode(Signature))),
            <<"eyJ..">>, <<"eyJhbGciOiJub25lIn0.e30.">>,
            <<"eyJ", (binary:copy(<<"[">>, 300))/binary, ".x.y">>],
    with_server(by(Public, #{}), fun(Server) ->
        _ = allocated(Server, [], as(Right)),
        %% What is too long for a USERNAME is no good request at all.
        lists:foreach(fun(Token) ->
            Code = case byte_size(Token) > ?USERNAME_MAX of true -> 400; false -> 401 end,
            _ = expect(Code, allocate(challenged(open(Server, as(Token)))))
        end, Hostile),
        %% A token is nothing without the password, nor by the secret itself.
        [refused(Server, #{user => Right, password => Password})
         || Password <- [<<"another">>, ?SECRET, <<>>]],
        _ = allocated(Server, [], as(Right))
    end),
    %% The log says what is wrong.
    Auth = meerkat_auth:new((by(Public, #{}))#{realm => <<"example.org">>}),
    lists:foreach(fun({Token, Words}) ->
        Message = #{class => request, method => allocate, malformed => [],
                    attributes => [{username, Token}, {realm, <<"example.org">>}]},
        Why = unicode:characters_to_list(meerkat_auth:why(Message, <<"example.org">>, Auth)),
        ?assertNotEqual(nomatch, string:find(Why, Words), {Why, Words})
    end, [{Of((good())#{<<"exp">> => Now - 1}), "has expired"},
          {Of((good())#{<<"aud">> => <<"another">>}), "jwt_audience"},
          {Of(maps:remove(<<"iss">>, good())), "jwt_issuer"},
          {Of((good())#{<<"nbf">> => Now + 600}), "not in force yet"},
          {hd(Confused), "alg HS256"},
          {signed(Ec, <<"ES256">>, good()), "alg ES256"},
          {compact(#{alg => 'RS256'}, good(), <<"x">>), "signed by none of jwt_keys"},
          {Right, "not made with the secret"}]).

others_come_in_beside(Config) ->
    doc("time-limited usernames come in as ever, unless tokens are required; users always do"),
    Rsa = key(rsa, Config),
    {User, Password} = meerkat_auth_rest:credentials(?SECRET, <<"bob">>, 600,
                                                     erlang:system_time(second)),
    Users = #{<<"carol">> => {password, <<"sesame">>}},
    [with_server(by(pem(Rsa), #{users => Users, jwt_required => Required}), fun(Server) ->
         _ = allocated(Server, [], as(signed(Rsa, <<"RS256">>, good()))),
         _ = allocated(Server, [], #{user => <<"carol">>, password => <<"sesame">>}),
         _ = case Required of
             false -> allocated(Server, [], #{user => User, password => Password});
             true -> refused(Server, #{user => User, password => Password})
         end
     end) || Required <- [false, true]].

a_token_counts_for_its_user(Config) ->
    doc("two tokens of one user are one user: quotas, revocation, and what is shown"),
    Rsa = key(rsa, Config),
    Token = fun(Sub, Id) ->
        as(signed(Rsa, <<"RS256">>, (good())#{<<"sub">> => Sub, <<"jti">> => Id}))
    end,
    with_server(by(pem(Rsa), #{user_quota => 2}), fun(#{name := Name} = Server) ->
        _ = allocated(Server, [], Token(<<"alice">>, 1)),
        _ = allocated(Server, [], Token(<<"alice">>, 2)),
        expect(486, allocate(challenged(open(Server, Token(<<"alice">>, 3))))),
        _ = allocated(Server, [], Token(<<"bob">>, 1)),
        #{usernames := Order} = meerkat_registry:settings(Name),
        #{user := User} = Token(<<"alice">>, 1),
        ?assertEqual(<<"alice">>, meerkat_quota:user_key(User, Order))
    end).

allocations_end_with_tokens(Config) ->
    doc("with expire_with_credentials an allocation lives no longer than its token"),
    Rsa = key(rsa, Config),
    with_server(by(pem(Rsa), #{expire_with_credentials => true}), fun(Server) ->
        Claims = (good())#{<<"exp">> => erlang:system_time(second) + 60},
        #{answer := Answer} = allocated(Server, [], as(signed(Rsa, <<"RS256">>, Claims))),
        Lifetime = turn_kit:get(lifetime, Answer),
        ?assert(Lifetime > 0 andalso Lifetime =< 60)
    end).

keys_are_replaced(Config) ->
    doc("a reload reads the file again: the new key counts, the old one no more"),
    [Rsa, Ec] = [key(Name, Config) || Name <- [rsa, ec]],
    File = filename:join(proplists:get_value(priv_dir, Config), "keys"),
    Load = fun(Content) ->
        ok = file:write_file(File, Content),
        {ok, #{token_keys := Keys}, _} =
            meerkat_config:load(#{file => none, env => [{"JWT_KEYS", File}]}),
        #{token_keys => Keys}
    end,
    with_server(by(pem(Rsa), Load(pem(Rsa))), fun(#{name := Name} = Server) ->
        _ = allocated(Server, [], as(signed(Rsa, <<"RS256">>, good()))),
        #{config := Running} = meerkat_registry:settings(Name),
        ok = meerkat:reload(Name, maps:merge(Running(), Load(set([public(Ec)])))),
        _ = allocated(Server, [], as(signed(Ec, <<"ES256">>, good()))),
        refused(Server, as(signed(Rsa, <<"RS256">>, good())))
    end).

keys_of_no_use(Config) ->
    doc("what cannot be a key, or should not be here, is named with its file"),
    Rsa = key(rsa, Config),
    {_, Private} = jose_jwk:to_pem(Rsa),
    Short = map(jose_jwk:from_oct(<<"too short">>)),
    Weak = public(jose_jwk:generate_key({rsa, 1024})),
    File = filename:join(proplists:get_value(priv_dir, Config), "bad keys"),
    lists:foreach(fun({Content, Words}) ->
        ok = file:write_file(File, Content),
        {error, [Sentence]} = meerkat_config:load(#{file => none, env => [{"JWT_KEYS", File}]}),
        Text = unicode:characters_to_list(Sentence),
        [?assertNotEqual(nomatch, string:find(Text, Part), Text)
         || Part <- ["JWT_KEYS", "bad keys", Words]]
    end, [{Private, "private key"}, {json(Rsa), "private key"},
          {meerkat_json:encode(Short), "fewer than 32 bytes"},
          {set([Weak]), "fewer than 2048 bits"},
          {set([(public(Rsa))#{<<"alg">> => <<"HS256">>}]), "\"alg\" is none of"},
          {set([(public(Rsa))#{<<"use">> => <<"enc">>}]), "no key for signatures"},
          {set([#{kty => 'EC', crv => 'secp256k1'}]), "none of RSA, EC"},
          {set([]), "neither"}, {<<>>, "neither"}, {<<"{">>, "neither"},
          {<<"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n">>, "no public key"}]),
    {error, [Missing]} =
        meerkat_config:load(#{file => none, env => [{"JWT_KEYS", "/nowhere/keys"}]}),
    ?assertNotEqual(nomatch, string:find(Missing, "cannot be read")),
    {error, [Both]} = meerkat_config:load(#{file => none, env => [
        {"JWT_REQUIRED", "true"}, {"SECRET_AS_PASSWORD", "true"}, {"JWT_KEYS", ""}]}),
    ?assertNotEqual(nomatch, string:find(Both, "any username")).

nothing_of_a_key_is_shown(Config) ->
    doc("a secret that signs tokens is printed by nothing"),
    Oct = key(oct, Config),
    {ok, Keys} = meerkat_auth_token:keys(json(Oct)),
    #{<<"k">> := Text} = map(Oct),
    {ok, Bytes} = jose_base64url:decode(Text),
    Printed = unicode:characters_to_binary(io_lib:format("~p ~w", [Keys, Keys])),
    [?assertEqual(nomatch, binary:match(Printed, Part)) || Part <- [Text, Bytes]].
