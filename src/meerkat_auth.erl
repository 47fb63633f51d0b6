%% Long-term credentials (RFC 8489 9.2): does a request's MESSAGE-INTEGRITY fit a password that
%% one of the backends knows? The nonce has been checked by then (the relay does); what the
%% request wants, and whether this user may have it, is for others.
%%
%% Passwords and keys live inside funs, here and in the backends, so that no crash report, log
%% line or shell prints one.
-module(meerkat_auth).

-export([new/1, authenticate/4]).

-export_type([auth/0, identity/0, candidate/0, verdict/0, seal/0]).

%% What a username's password may be: in clear, or as the key MD5(user:realm:password).
-type candidate() :: {password, binary()} | {key, <<_:128>>}.
%% `only`: no other backend has a say on this username.
-type verdict() :: {only | also, [candidate()]}.
%% A message, signed with the key and the algorithm of the request it answers, as bytes.
-type seal() :: fun((meerkat_stun:message()) -> binary()).
%% Who asked: the username as sent (for USERHASH, the one it stands for).
-type identity() :: #{user := binary(), seal := seal()}.

-record(auth, {
    backends :: [{module(), term()}],
    strict_realm :: boolean(),
    dummy :: candidate()
}).
-opaque auth() :: fun(() -> #auth{}).

%% `ignore`: nothing is configured for this backend.
-callback init(Config :: map()) -> {ok, State :: term()} | ignore.
%% What the password of User may be at NowS, Unix time in seconds. The number of candidates must
%% not tell a user that exists from one that does not (threat X34): invent one if need be.
-callback candidates(User :: binary(), NowS :: integer(), State :: term()) -> verdict().
%% The username behind a USERHASH (RFC 8489 14.4).
-callback username(UserHash :: <<_:256>>, State :: term()) -> {ok, binary()} | error.
-optional_callbacks([username/2]).

%% Stands for the name behind an unknown USERHASH: nobody has it, for USERNAME is never empty.
-define(NOBODY, <<>>).

%% Static users come first: theirs is the only password of their name.
-define(BACKENDS, [meerkat_auth_users, meerkat_auth_rest, meerkat_auth_secret]).

%% The pipeline for an instance's configuration: keys `secrets`, `users`, `realm`, `listeners`
%% (for their realms) and `strict_realm`.
-spec new(map()) -> auth().
new(Config) ->
    Auth = #auth{backends = [{Backend, State} || Backend <- ?BACKENDS,
                                                 {ok, State} <- [Backend:init(Config)]],
                 strict_realm = maps:get(strict_realm, Config, false),
                 dummy = dummy()},
    fun() -> Auth end.

%% A password nobody has.
dummy() ->
    {password, base64:encode(crypto:strong_rand_bytes(24))}.

%% Who sent the request (Packet as received, Message as decoded from it), or why not: 400 when it
%% cannot be authenticated as it stands, 401 when its signature fits nothing known, be it for the
%% user or for the password: both do the same work. Realm is the listener's; it counts only when
%% realms are strict, otherwise the key is made with the REALM that was sent. When USERNAME and
%% USERHASH are both there, USERNAME decides.
-spec authenticate(Packet :: binary(), meerkat_stun:message(), Realm :: binary(), auth()) ->
    {ok, identity()} | {error, 400 | 401}.
authenticate(Packet, Message, Realm, GetAuth) ->
    Auth = GetAuth(),
    case {user(Message, Auth), meerkat_stun:get(realm, Message), algorithm(Message)} of
        {{ok, User}, {ok, Sent}, {ok, Algorithm}} ->
            Known = not Auth#auth.strict_realm orelse Sent =:= Realm,
            authenticate(Packet, Message, Algorithm, {User, Sent, Known}, Auth);
        _ ->
            {error, 400}
    end.

authenticate(Packet, Message, Algorithm, {User, Realm, Known}, Auth) ->
    Keys = [key(Algorithm, User, Realm, C, Auth) || C <- candidates(User, Auth)],
    case fitting(Packet, Keys) of
        {ok, Key} when Known, User =/= ?NOBODY ->
            {ok, #{user => binary:copy(User), seal => seal(integrity(Message), Key)}};
        _ ->
            {error, 401}
    end.

%% The first key that fits; a request that fits none has cost one verification for each.
fitting(Packet, [Key | Keys]) ->
    case meerkat_stun:verify(Packet, Key) of
        ok -> {ok, Key};
        {error, _} -> fitting(Packet, Keys)
    end;
fitting(_Packet, []) ->
    error.

%% Once a backend is the only one to decide, the others' candidates are replaced by as many that
%% fit nothing: a name that is known here costs what an unknown one costs.
candidates(User, #auth{backends = Backends, dummy = Dummy}) ->
    case candidates(Backends, User, erlang:system_time(second), Dummy) of
        [] -> [Dummy];
        Candidates -> Candidates
    end.

candidates([{Backend, State} | Backends], User, Now, Dummy) ->
    {Weight, Own} = Backend:candidates(User, Now, State),
    Others = candidates(Backends, User, Now, Dummy),
    case Weight of
        only -> Own ++ [Dummy || _ <- Others];
        also -> Own ++ Others
    end;
candidates([], _User, _Now, _Dummy) ->
    [].

key(Algorithm, User, Realm, {password, Password}, _Auth) ->
    meerkat_stun:key(Algorithm, User, Realm, Password);
key(md5, _User, _Realm, {key, Key}, _Auth) ->
    Key;
key(sha256, User, Realm, {key, _}, #auth{dummy = Dummy} = Auth) ->
    %% An MD5 key says nothing about the SHA-256 one.
    key(sha256, User, Realm, Dummy, Auth).

%% USERNAME, or what USERHASH stands for.
user(Message, Auth) ->
    case {meerkat_stun:get(username, Message), meerkat_stun:get(userhash, Message)} of
        {{ok, User}, _} -> {ok, User};
        {error, {ok, Hash}} -> {ok, resolve(Hash, Auth#auth.backends)};
        {error, error} -> error
    end.

resolve(Hash, [{Backend, State} | Backends]) ->
    case erlang:function_exported(Backend, username, 2) andalso Backend:username(Hash, State) of
        {ok, User} -> User;
        _ -> resolve(Hash, Backends)
    end;
resolve(_Hash, []) ->
    ?NOBODY.

%% RFC 8489 9.2.4: MD5 unless the request names another. We offer no choice in our challenges, so
%% there is no list of ours that PASSWORD-ALGORITHMS could be compared with.
algorithm(Message) ->
    case meerkat_stun:get(password_algorithm, Message) of
        {ok, {1, _}} -> {ok, md5};
        {ok, {2, _}} -> {ok, sha256};
        {ok, _} -> error;
        error -> {ok, md5}
    end.

%% A response is signed as its request was; with SHA-256 also when the request names password
%% algorithms (RFC 8489 9.2.4).
integrity(#{integrity := sha1} = Message) ->
    case {meerkat_stun:get(password_algorithm, Message),
          meerkat_stun:get(password_algorithms, Message)} of
        {error, error} -> sha1;
        _ -> sha256
    end;
integrity(_Message) ->
    sha256.

-spec seal(sha1 | sha256, binary()) -> seal().
seal(Integrity, Key) ->
    fun(Message) -> meerkat_stun:encode(Message#{integrity => {Integrity, Key}}) end.
