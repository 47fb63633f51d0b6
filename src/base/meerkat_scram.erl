%% The client's side of SCRAM (RFC 5802, RFC 7677), without channel binding. Pure, but for the nonce
%% it draws. It shows a server that we know the password without telling it, and expects the same.
-module(meerkat_scram).

-export([mechanisms/0, first/3, first/4, final/3]).

-export_type([state/0]).

-record(scram, {digest :: sha | sha256, password :: binary(), nonce :: binary(),
                bare :: binary()}).
-opaque state() :: fun(() -> #scram{}).

%% Names of SASL, the stronger first.
-spec mechanisms() -> [binary()].
mechanisms() -> [<<"SCRAM-SHA-256">>, <<"SCRAM-SHA-1">>].

%% The message to begin with.
-spec first(Mechanism :: binary(), User :: binary(), Password :: binary()) ->
    {Message :: binary(), state()}.
first(Mechanism, User, Password) ->
    first(Mechanism, User, Password, base64:encode(crypto:strong_rand_bytes(18))).

%% The same with a nonce of the caller's.
-spec first(binary(), binary(), binary(), Nonce :: binary()) -> {binary(), state()}.
first(Mechanism, User, Password, Nonce) ->
    Bare = <<"n=", (escaped(User))/binary, ",r=", Nonce/binary>>,
    Scram = #scram{digest = digest(Mechanism), password = prepared(Password), nonce = Nonce,
                   bare = Bare},
    {<<"n,,", Bare/binary>>, fun() -> Scram end}.

digest(<<"SCRAM-SHA-256">>) -> sha256;
digest(<<"SCRAM-SHA-1">>) -> sha.

%% RFC 5802 5.1: a comma and an equals sign have meanings.
escaped(Name) ->
    Equals = binary:replace(Name, <<"=">>, <<"=3D">>, [global]),
    binary:replace(Equals, <<",">>, <<"=2C">>, [global]).

%% Enough of SASLprep for passwords that people have (RFC 4013 2.2).
prepared(Password) ->
    case unicode:characters_to_nfkc_binary(Password) of
        Prepared when is_binary(Prepared) -> Prepared;
        _ -> Password
    end.

%% The answer to the server's first message, and what its last one must be; error when that makes
%% no sense: a nonce that does not begin with ours, or more than Max iterations.
-spec final(ServerFirst :: binary(), Max :: pos_integer(), state()) ->
    {ok, Message :: binary(), Expected :: binary()} | error.
final(ServerFirst, Max, State) ->
    #scram{nonce = Ours} = Scram = State(),
    Size = byte_size(Ours),
    try challenge(ServerFirst) of
        {<<Ours:Size/binary, _, _/binary>> = Nonce, Salt, Count} when Count > 0, Count =< Max ->
            proven(ServerFirst, Nonce, Salt, Count, Scram);
        _ ->
            error
    catch
        error:_ -> error
    end.

challenge(ServerFirst) ->
    [<<"r=", Nonce/binary>>, <<"s=", Salt/binary>>, <<"i=", Count/binary>> | _] =
        binary:split(ServerFirst, <<",">>, [global]),
    {Nonce, base64:decode(Salt), binary_to_integer(Count)}.

%% RFC 5802 3.
proven(ServerFirst, Nonce, Salt, Count, Scram) ->
    #scram{digest = Digest, password = Password, bare = Bare} = Scram,
    Salted = crypto:pbkdf2_hmac(Digest, Password, Salt, Count, digest_size(Digest)),
    ClientKey = crypto:mac(hmac, Digest, Salted, <<"Client Key">>),
    ServerKey = crypto:mac(hmac, Digest, Salted, <<"Server Key">>),
    Without = <<"c=biws,r=", Nonce/binary>>,
    Said = [Bare, ",", ServerFirst, ",", Without],
    Signature = crypto:mac(hmac, Digest, crypto:hash(Digest, ClientKey), Said),
    Proof = base64:encode(crypto:exor(ClientKey, Signature)),
    {ok, <<Without/binary, ",p=", Proof/binary>>,
     <<"v=", (base64:encode(crypto:mac(hmac, Digest, ServerKey, Said)))/binary>>}.

digest_size(Digest) -> byte_size(crypto:hash(Digest, <<>>)).
