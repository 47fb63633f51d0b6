%% The client's side of the long-term credential mechanism (RFC 8489 9.2): what a challenge teaches,
%% how requests are signed with it, which answers are to be believed. Pure; knows neither
%% transactions nor allocations.
-module(meerkat_client_auth).

-export([learn/3, realm/1, sign/2, trusts/3]).
-export_type([auth/0, secret/1]).

%% A secret travels in a fun, which no crash report prints.
-type secret(Type) :: fun(() -> Type).

%% `attributes' go into every signed request.
-record(auth, {realm :: binary(),
               attributes :: [{atom(), term()}],
               integrity :: secret({sha1 | sha256, Key :: binary()})}).

-opaque auth() :: #auth{}.

%% The challenge's realm, nonce and algorithms, made into what signs the next requests: copies, as
%% they outlive the packet they came in.
-spec learn(meerkat_stun:message(), User :: binary(), Password :: secret(binary())) ->
          {ok, auth()} | {error, bid_down | no_algorithm | {bad_response, challenge}}.
learn(Message, User, Password) ->
    case {meerkat_stun:get(realm, Message), meerkat_stun:get(nonce, Message), bid_down(Message)} of
        {_, _, true} ->
            {error, bid_down};
        {{ok, Realm0}, {ok, Nonce0}, false} ->
            Realm = binary:copy(Realm0),
            Nonce = binary:copy(Nonce0),
            Identity = case features(Nonce) of
                           #{anonymity := true} -> {userhash, meerkat_stun:userhash(User, Realm)};
                           _ -> {username, User}
                       end,
            Attributes = [Identity, {realm, Realm}, {nonce, Nonce}],
            case meerkat_stun:get(password_algorithms, Message) of
                error ->
                    Key = meerkat_stun:key(User, Realm, Password()),
                    {ok, #auth{realm = Realm, attributes = Attributes,
                               integrity = fun() -> {sha1, Key} end}};
                {ok, Offered} ->
                    learn_algorithm(Offered, Attributes, Realm, User, Password)
            end;
        _ ->
            {error, {bad_response, challenge}}
    end.

%% The first algorithm we know; from here on only MESSAGE-INTEGRITY-SHA256 (RFC 8489 9.2.5, 18.5).
learn_algorithm(Offered, Attributes, Realm, User, Password) ->
    case [{Name, One} || {Number, <<>>} = One <- Offered, {N, Name} <- [{1, md5}, {2, sha256}],
                         N =:= Number] of
        [{Name, Chosen} | _] ->
            Key = meerkat_stun:key(Name, User, Realm, Password()),
            {ok, #auth{realm = Realm, integrity = fun() -> {sha256, Key} end,
                       attributes = Attributes ++ [{password_algorithms, Offered},
                                                   {password_algorithm, Chosen}]}};
        [] ->
            {error, no_algorithm}
    end.

%% The realm that the challenge named.
-spec realm(auth()) -> binary().
realm(#auth{realm = Realm}) ->
    Realm.

%% The request with what proves who we are; as it is when nothing has been learnt.
-spec sign(map(), none | auth()) -> map().
sign(Request, none) ->
    Request;
sign(#{attributes := Attributes} = Request, #auth{attributes = Signed, integrity = Integrity}) ->
    Request#{attributes := Attributes ++ Signed, integrity => Integrity()}.

%% Whether an answer to a request that was signed so is the server's. It must be signed; only a
%% challenge cannot be, because the server may lack the key (RFC 8489 9.2.5). An unsigned request
%% has no key to check its answer with, a 400 among them: discarding that too would show as silence
%% what is a misunderstanding.
-spec trusts(meerkat_stun:message(), Packet :: binary(), none | auth()) -> boolean().
trusts(_, _, none) ->
    true;
trusts(Message, Packet, #auth{integrity = Integrity}) ->
    is_challenge(Message) orelse
        begin
            {_, Key} = Integrity(),
            meerkat_stun:verify(Packet, Key) =:= ok andalso not bid_down(Message)
        end.

is_challenge(#{class := error} = Message) ->
    case meerkat_stun:get(error_code, Message) of
        {ok, {Code, _}} -> Code =:= 401 orelse Code =:= 438;
        error -> false
    end;
is_challenge(_) ->
    false.

%% The nonce promises algorithms which somebody has taken out of the message (RFC 8489 9.2.1).
bid_down(Message) ->
    case meerkat_stun:get(nonce, Message) of
        {ok, Nonce} ->
            maps:get(algorithms, features(Nonce), false)
                andalso meerkat_stun:get(password_algorithms, Message) =:= error;
        error ->
            false
    end.

%% The nonce cookie's security features (RFC 8489 9.2, 18.1; by erratum 6290 bit 0 is the last one).
features(<<"obMatJos2", Encoded:4/binary, _/binary>>) ->
    try base64:decode(Encoded) of
        <<_:22, Anonymity:1, Algorithms:1>> ->
            #{algorithms => Algorithms =:= 1, anonymity => Anonymity =:= 1};
        _ ->
            #{}
    catch
        error:_ -> #{}
    end;
features(_) ->
    #{}.
