%% Long-term credentials (RFC 8489 9.2): does a request's MESSAGE-INTEGRITY fit a password that
%% one of the backends knows? The nonce has been checked by then (the relay does); what the
%% request wants, and whether this user may have it, is for others.
%%
%% Passwords and keys live inside funs, here and in the backends, so that no crash report, log
%% line or shell prints one.
-module(meerkat_auth).

-export([new/1, asked_by/2, authenticate/4, authenticate/5, algorithms/1, name/1, why/3]).

-export_type([auth/0, asker/0, identity/0, candidate/0, verdict/0, seal/0, proof/0, grant/0,
              question/0, answer/0, limits/0]).

%% What a username's password may be: in clear, or as the key MD5(user:realm:password), or as keys
%% by algorithm; in clear and good up to and including a second of Unix time.
-type candidate() :: {password, binary()} | {key, <<_:128>>}
                   | {keys, #{md5 => <<_:128>>, sha256 => <<_:256>>}}
                   | {password, binary(), UntilS :: integer()}
                   %% Whether the user is let in by it is seen to once it fits.
                   | {judged, candidate(), IsGood :: fun(() -> boolean())}
                   %% With limits of this user's own.
                   | {limited, candidate(), limits()}.
%% By the names of the keys whose values they are in place of.
-type limits() :: #{user_quota | max_bps | max_pps => non_neg_integer()}.
%% `only`: no other backend has a say on this username. `asked`: the same, of one that may be
%% unavailable when it is asked again.
%% `unavailable`: this backend cannot tell now; others may know the user.
%% `look_up`: there is something to ask that takes time. What is known before counts where it lets
%% the user in; else what the answer is judged to be, or that there was none.
-type verdict() :: judged() | {look_up, question(), Before :: judged(),
                               After :: fun((answer()) -> judged())}.
-type judged() :: {only | asked | also | unavailable, [candidate()]}.
%% What a database is asked for, and what it says (meerkat_auth_stored).
%% With an address, where it may make a difference who asks.
-type question() :: {user, Realm :: binary(), Name :: binary()}
                  | {user, Realm :: binary(), Name :: binary(), inet:ip_address()}
                  | {secrets, Realm :: binary()}.
-type answer() :: {ok, fun(() -> meerkat_auth_stored:answer())} | error.
%% A message, signed with the key and the algorithm of the request it answers, as bytes.
-type seal() :: fun((meerkat_stun:message()) -> binary()).
%% Is a request signed with the key that another was signed with? Then its answer is to be.
-type proof() :: fun((Packet :: binary(), meerkat_stun:message()) -> {ok, seal()} | error).
%% Who asked: the username as sent (for USERHASH, the one it stands for). `left`: seconds that its
%% credentials are good for, where allocations are to end with them. `proof`: where whoever knows
%% the user may be unavailable next time. `own`: limits of this user.
-type identity() :: #{user := binary(), seal := seal(), grant := grant(), left => pos_integer(),
                      proof => proof(), own => limits()}.
%% How a request like this one can be known again without asking here, as GRANT of ctl.def has it.
-type grant() :: fun(() -> #{key := binary(), names := <<_:256>>, sha256 := 0 | 1,
                             until_s := non_neg_integer(), ends := 0 | 1}).

%% Who asks, and how he has come. `certificate`: where the client has shown one.
-type asker() :: #{client := {inet:ip_address(), inet:port_number()},
                   transport := udp | tcp | tls | dtls,
                   certificate => meerkat_client_certificate:shown()}.

-record(auth, {
    backends :: [{module(), term()}],
    told :: boolean(),              % does it make a difference to one of them who asks?
    strict_realm :: boolean(),
    %% What our challenges offer; none: nothing.
    algorithms :: [meerkat_stun:value()],
    require_sha256 :: boolean(),
    expire_with_credentials :: boolean(),
    dummy :: candidate()
}).
-opaque auth() :: fun(() -> #auth{}).

%% `ignore`: nothing is configured for this backend.
-callback init(Config :: map()) -> {ok, State :: term()} | ignore.
%% What the password of User may be at NowS, Unix time in seconds. The number of candidates must
%% not tell a user that exists from one that does not (threat X34): invent one if need be.
-callback candidates(User :: binary(), NowS :: integer(), State :: term()) -> verdict().
%% The state of one to whom it makes a difference who asks.
-callback asked_by(asker(), State) -> State when State :: term().
%% The username behind a USERHASH (RFC 8489 14.4).
-callback username(UserHash :: <<_:256>>, State :: term()) -> {ok, binary()} | error.
%% For a log: what is to be said of a user whose signature fits nothing.
-callback why(User :: binary(), NowS :: integer(), State :: term()) ->
    wrong_password | {expired, AgoS :: pos_integer()} | {foreign, Secrets :: pos_integer()}
    | name_first | no_expiry | signs_only | unknown | {token, unicode:chardata()}.
-optional_callbacks([asked_by/2, username/2]).

%% Stands for the name behind an unknown USERHASH: nobody has it, for USERNAME is never empty.
-define(NOBODY, <<>>).

%% An embedder's users come first, then static ones: theirs is the only password of their name.
%% Secrets of a database are asked for before its users: one answer is good for all names.
-define(BACKENDS, [meerkat_authenticator, meerkat_auth_users, meerkat_auth_stored_secrets,
                   meerkat_auth_stored, meerkat_auth_rest, meerkat_auth_secret]).

%% A key that SHA-256 cannot use.
-define(IS_MD5_ONLY(Proof),
        (element(1, Proof) =:= key orelse
             (element(1, Proof) =:= keys andalso not is_map_key(sha256, element(2, Proof))))).

%% Seconds after which an embedder's module is asked about a user again at the latest.
-define(ASK_AGAIN_S, 600).

%% SHA-256 before MD5: the order we like them in (RFC 8489 9.2.4). As in challenge.c of the relay.
-define(ALGORITHMS, [{2, <<>>}, {1, <<>>}]).

%% The pipeline for an instance's configuration: keys `secrets`, `secret_as_password`, `users`,
%% `realm`, `listeners` (for their realms), `strict_realm`, `password_algorithms` (offer them?),
%% `require_sha256`, `expire_with_credentials`, and those of meerkat_auth_rest.
-spec new(map()) -> auth().
new(Config) ->
    Backends = [{Backend, State} || Backend <- ?BACKENDS, {ok, State} <- [Backend:init(Config)]],
    Auth = #auth{backends = Backends,
                 told = lists:any(fun({Backend, _}) -> is_told(Backend) end, Backends),
                 strict_realm = maps:get(strict_realm, Config, false),
                 algorithms = case maps:get(password_algorithms, Config, false) of
                     true -> ?ALGORITHMS;
                     false -> []
                 end,
                 require_sha256 = maps:get(require_sha256, Config, false),
                 expire_with_credentials = maps:get(expire_with_credentials, Config, false),
                 dummy = dummy()},
    fun() -> Auth end.

%% The same for a request of that client's.
-spec asked_by(asker(), auth()) -> auth().
asked_by(Asker, GetAuth) ->
    case GetAuth() of
        #auth{told = false} ->
            GetAuth;
        #auth{backends = Backends} = Auth ->
            Told = Auth#auth{backends = [{Backend, asked_by(Backend, Asker, State)}
                                         || {Backend, State} <- Backends]},
            fun() -> Told end
    end.

asked_by(Backend, Asker, State) ->
    case is_told(Backend) of
        true -> Backend:asked_by(Asker, State);
        false -> State
    end.

is_told(Backend) ->
    erlang:function_exported(Backend, asked_by, 2).

%% A password nobody has.
dummy() ->
    {password, base64:encode(crypto:strong_rand_bytes(24))}.

%% The PASSWORD-ALGORITHMS of our challenges; empty: they have none.
-spec algorithms(auth()) -> [{0..65535, binary()}].
algorithms(GetAuth) ->
    (GetAuth())#auth.algorithms.

%% The name a request gives, as it gives it: USERNAME, else USERHASH. When both are there,
%% USERNAME counts.
-spec name(meerkat_stun:message()) -> {username | userhash, binary()} | error.
name(Message) ->
    case {meerkat_stun:get(username, Message), meerkat_stun:get(userhash, Message)} of
        {{ok, User}, _} -> {username, User};
        {error, {ok, Hash}} -> {userhash, Hash};
        {error, error} -> error
    end.

%% Who sent the request (Packet as received, Message as decoded from it), or why not: 400 when it
%% cannot be authenticated as it stands; 401 when the user is unknown or the password wrong, which
%% take the same work; or that a backend cannot tell now. Realm is the
%% listener's; it counts only when realms are strict, otherwise the key is made with the REALM that
%% was sent.
-spec authenticate(Packet :: binary(), meerkat_stun:message(), Realm :: binary(), auth()) ->
    {ok, identity()} | {error, 400 | 401 | unavailable}.
authenticate(Packet, Message, Realm, GetAuth) ->
    case authenticate(Packet, Message, Realm, #{}, GetAuth) of
        {look_up, _Question} -> {error, unavailable};
        Judged -> Judged
    end.

%% The same, where a database may be asked, and has said this for this request. Or what is to be
%% asked before it can be told.
-spec authenticate(Packet :: binary(), meerkat_stun:message(), Realm :: binary(),
                   Asked :: #{question() => answer()}, auth()) ->
    {ok, identity()} | {error, 400 | 401 | unavailable} | {look_up, question()}.
authenticate(Packet, Message, Realm, Asked, GetAuth) ->
    Auth = GetAuth(),
    case {name(Message), meerkat_stun:get(realm, Message), algorithm(Message, Auth)} of
        {{_, _} = Name, {ok, Sent}, {ok, Algorithm}} ->
            Allowed = is_realm(Sent, Realm, Auth) andalso is_strong(Algorithm, Auth),
            judge(Packet, Message, Algorithm, {user(Name, Auth), Sent, Allowed}, Asked, Auth);
        _ ->
            {error, 400}
    end.

judge(Packet, Message, Algorithm, {User, Realm, Allowed}, Asked, Auth) ->
    Now = meerkat_clock:wall_s(),
    Make = fun(Candidate) -> key(Algorithm, User, Realm, Candidate, Auth) end,
    {Known, Questions, Candidates} = candidates(User, Now, Asked, Auth),
    case fitting(Packet, Make, Candidates) of
        {ok, Key, Fitting} when Allowed, User =/= ?NOBODY ->
            {Candidate, Own} = own(Fitting),
            Identity = Own#{user => binary:copy(User), seal => seal(integrity(Message), Key),
                            grant => grant(Message, Key, until(Known, Candidate, Now), Auth)},
            Proof = maps:from_list([{proof, proof(Key, Candidate)} || may_be_away(Known, Auth)]),
            {ok, maps:merge(maps:merge(Identity, Proof), left(Candidate, Now, Auth))};
        error when Questions =/= [], Allowed, User =/= ?NOBODY ->
            {look_up, hd(Questions)};
        error when Known =:= unavailable, Allowed ->
            {error, unavailable};
        _ ->
            {error, 401}
    end.

own({limited, Candidate, Limits}) -> {Candidate, #{own => Limits}};
own(Candidate) -> {Candidate, #{}}.

%% Until when the relay may answer requests of this user by itself, in Unix time; 0: no end. A
%% backend that can be asked anew is asked again after a while: the user may have been removed.
until(_Known, {password, _, Until}, _Now) -> Until;
until(Known, _Candidate, Now) when Known =:= asked; Known =:= unavailable -> Now + ?ASK_AGAIN_S;
until(_Known, _Candidate, _Now) -> 0.

%% Whether the backend that knows the user may be unavailable next time.
may_be_away(asked, _Auth) -> true;
may_be_away(_Known, #auth{backends = Backends}) ->
    lists:keymember(meerkat_auth_stored_secrets, 1, Backends).

-spec grant(meerkat_stun:message(), Key :: binary(), UntilS :: non_neg_integer(), #auth{}) ->
    grant().
grant(Message, Key, Until, #auth{expire_with_credentials = Expire}) ->
    Names = crypto:hash(sha256, [sent(Name, Message)
                                 || Name <- [username, userhash, realm, password_algorithm,
                                             password_algorithms]]),
    Sha256 = case integrity(Message) of sha1 -> 0; sha256 -> 1 end,
    Ends = case Expire andalso Until > 0 of true -> 1; false -> 0 end,
    fun() -> #{key => Key, names => Names, sha256 => Sha256, until_s => Until, ends => Ends} end.

%% As grant.h of the relay says.
sent(Name, Message) ->
    case meerkat_stun:get(Name, Message) of
        {ok, Value} ->
            Bytes = bytes(Value),
            [<<1, (byte_size(Bytes)):16>>, Bytes];
        error ->
            <<0>>
    end.

bytes(Value) when is_binary(Value) -> Value;
bytes({Algorithm, Parameters}) ->
    Padding = -byte_size(Parameters) band 3,
    <<Algorithm:16, (byte_size(Parameters)):16, Parameters/binary, 0:(8 * Padding)>>;
bytes(Algorithms) ->
    << <<(bytes(Algorithm))/binary>> || Algorithm <- Algorithms >>.

%% At least a second: the credentials are good until the end of their last second, and a lifetime of
%% 0 would be no allocation.
left({password, _, Until}, Now, #auth{expire_with_credentials = true}) ->
    #{left => max(1, Until - Now)};
left(_Candidate, _Now, _Auth) ->
    #{}.

is_realm(Sent, Realm, #auth{strict_realm = Strict}) ->
    not Strict orelse Sent =:= Realm.

is_strong(Algorithm, #auth{require_sha256 = Required}) ->
    not Required orelse Algorithm =:= sha256.

%% The first key that fits; a request that fits none has cost making and trying all of them.
fitting(Packet, Make, [Candidate | Candidates]) ->
    Key = Make(Candidate),
    case meerkat_stun:verify(Packet, Key) =:= ok andalso judged(Candidate) of
        {ok, Judged} -> {ok, Key, Judged};
        _ -> fitting(Packet, Make, Candidates)
    end;
fitting(_Packet, _Make, []) ->
    error.

judged({judged, Candidate, IsGood}) ->
    case IsGood() of true -> {ok, Candidate}; false -> error end;
judged(Candidate) ->
    {ok, Candidate}.

%% Once a backend is the only one to decide, the others' candidates are replaced by as many that
%% fit nothing: a name that is known here costs what an unknown one costs.
candidates(User, Now, Asked, #auth{backends = Backends, dummy = Dummy}) ->
    case candidates(Backends, User, Now, Asked, Dummy) of
        {Known, Questions, []} -> {Known, Questions, [Dummy]};
        Found -> Found
    end.

candidates([{Backend, State} | Backends], User, Now, Asked, Dummy) ->
    {{Weight, Own}, Question} = asking(Backend:candidates(User, Now, State), Asked),
    {Known, Questions, Others} = candidates(Backends, User, Now, Asked, Dummy),
    case Weight of
        only -> {all, Question, Own ++ [Dummy || _ <- Others]};
        asked -> {asked, Question, Own ++ [Dummy || _ <- Others]};
        also -> {Known, Question ++ Questions, Own ++ Others};
        unavailable -> {unavailable, Question ++ Questions, Own ++ Others}
    end;
candidates([], _User, _Now, _Asked, _Dummy) ->
    {all, [], []}.

%% What counts now, and what there is to ask.
asking({look_up, Question, Before, After}, Asked) ->
    case Asked of
        #{Question := Answer} -> {After(Answer), []};
        #{} -> {Before, [Question]}
    end;
asking(Judged, _Asked) ->
    {Judged, []}.

key(Algorithm, User, Realm, {password, Password}, _Auth) ->
    meerkat_stun:key(Algorithm, User, Realm, Password);
key(Algorithm, User, Realm, {password, Password, _}, _Auth) ->
    meerkat_stun:key(Algorithm, User, Realm, Password);
key(Algorithm, User, Realm, {Kind, Candidate, _}, Auth) when Kind =:= judged; Kind =:= limited ->
    key(Algorithm, User, Realm, Candidate, Auth);
key(md5, _User, _Realm, {key, Key}, _Auth) ->
    Key;
key(Algorithm, _User, _Realm, {keys, Keys}, _Auth) when is_map_key(Algorithm, Keys) ->
    maps:get(Algorithm, Keys);
key(Algorithm, User, Realm, {keys, _}, #auth{dummy = Dummy} = Auth) ->
    key(Algorithm, User, Realm, Dummy, Auth);
key(sha256, User, Realm, {key, _}, #auth{dummy = Dummy} = Auth) ->
    %% An MD5 key says nothing about the SHA-256 one.
    key(sha256, User, Realm, Dummy, Auth).

user({username, User}, _Auth) -> User;
user({userhash, Hash}, Auth) -> resolve(Hash, Auth#auth.backends).

resolve(Hash, [{Backend, State} | Backends]) ->
    case erlang:function_exported(Backend, username, 2) andalso Backend:username(Hash, State) of
        {ok, User} -> User;
        _ -> resolve(Hash, Backends)
    end;
resolve(_Hash, []) ->
    ?NOBODY.

%% RFC 8489 9.2.4: where algorithms are offered, a request names one of them and repeats the offer,
%% so that nobody in between can have shortened the offer. Or it does neither, and means MD5. Where
%% none are offered, PASSWORD-ALGORITHM counts as it is.
algorithm(#{malformed := Malformed} = Message, #auth{algorithms = Offered}) ->
    One = meerkat_stun:get(password_algorithm, Message),
    All = meerkat_stun:get(password_algorithms, Message),
    case lists:any(fun(Name) -> lists:member(Name, Malformed) end,
                   [password_algorithm, password_algorithms]) of
        true -> error;
        false when Offered =:= [] -> algorithm(One);
        false when One =:= error, All =:= error -> {ok, md5};
        false when All =:= {ok, Offered} -> one_of(Offered, One);
        false -> error
    end.

one_of(Offered, {ok, Algorithm}) ->
    case lists:member(Algorithm, Offered) of
        true -> algorithm({ok, Algorithm});
        false -> error
    end;
one_of(_Offered, error) ->
    error.

algorithm({ok, {1, _}}) -> {ok, md5};
algorithm({ok, {2, _}}) -> {ok, sha256};
algorithm({ok, _}) -> error;
algorithm(error) -> {ok, md5}.

%% RFC 8489 9.2.4: with SHA-256 when the request names a password algorithm, MD5 included; with
%% SHA-1 when it does not, because its sender may not know SHA-256.
integrity(Message) ->
    case {meerkat_stun:get(password_algorithm, Message),
          meerkat_stun:get(password_algorithms, Message)} of
        {error, error} -> sha1;
        _ -> sha256
    end.

-spec seal(sha1 | sha256, binary()) -> seal().
seal(Integrity, Key) ->
    fun(Message) -> meerkat_stun:encode(Message#{integrity => {Integrity, Key}}) end.

%% Credentials that have expired prove nothing any more, though their key still fits.
-spec proof(binary(), candidate()) -> proof().
proof(Key, Candidate) ->
    Until = case Candidate of {password, _, UntilS} -> UntilS; _ -> infinity end,
    fun(Packet, Message) ->
        case meerkat_clock:wall_s() =< Until andalso meerkat_stun:verify(Packet, Key) of
            ok -> {ok, seal(integrity(Message), Key)};
            _ -> error
        end
    end.

%%% Reasons

%% Why authenticate/4 refused this request, in words for a log, which may be read by whoever may
%% know which users there are. No client is told.
-spec why(meerkat_stun:message(), Realm :: binary(), auth()) -> unicode:chardata().
why(Message, Realm, GetAuth) ->
    Auth = GetAuth(),
    case {name(Message), meerkat_stun:get(realm, Message), algorithm(Message, Auth)} of
        {error, _, _} -> "it names no user";
        {_, error, _} -> "it has no REALM";
        {_, _, error} -> "its password algorithms are not those it was offered";
        {Name, {ok, Sent}, {ok, Algorithm}} ->
            case {is_realm(Sent, Realm, Auth), is_strong(Algorithm, Auth)} of
                {false, _} -> ["realm ", quoted(Sent), " is not ours"];
                {_, false} -> "it uses MD5 where SHA-256 is required";
                {true, true} -> why(Algorithm, user(Name, Auth), Auth#auth.backends, none)
            end
    end.

why(_Algorithm, ?NOBODY, _Backends, _Otherwise) ->
    "nobody is known by that USERHASH";
why(Algorithm, User, [{Backend, State} | Backends], Otherwise) ->
    Now = meerkat_clock:wall_s(),
    {Told, _} = asking(Backend:candidates(User, Now, State), #{}),
    case {Backend:why(User, Now, State), Told} of
        {wrong_password, {Weight, [{limited, Proof, _}]}}
          when Weight =/= also, Algorithm =:= sha256, ?IS_MD5_ONLY(Proof) -> md5_only(User);
        {wrong_password, {Weight, [Proof]}} when Weight =/= also, Algorithm =:= sha256,
                                                 ?IS_MD5_ONLY(Proof) ->
            md5_only(User);
        {wrong_password, {Weight, _}} when Weight =/= also -> wrong_password(User);
        {unknown, _} -> why(Algorithm, User, Backends, Otherwise);
        {Reason, _} when Otherwise =:= none -> why(Algorithm, User, Backends, Reason);
        {_, _} -> why(Algorithm, User, Backends, Otherwise)
    end;
why(_Algorithm, User, [], none) ->
    ["there is no user ", quoted(User)];
why(_Algorithm, User, [], wrong_password) ->
    wrong_password(User);
why(_Algorithm, User, [], no_expiry) ->
    [wrong_password(User), ", a name that begins with no expiry"];
why(_Algorithm, User, [], signs_only) ->
    ["there is no user ", quoted(User), ": the name begins with no expiry, and the secret is no "
     "password unless secret_as_password is true"];
why(_Algorithm, User, [], name_first) ->
    [wrong_password(User), ", a name with its expiry behind it, which credential_name_first would "
     "let in"];
why(_Algorithm, User, [], {token, Why}) ->
    ["the username ", quoted(User), " ", Why];
why(_Algorithm, User, [], {foreign, 1}) ->
    ["wrong password of user ", quoted(User), ": it was not made with the secret"];
why(_Algorithm, User, [], {foreign, N}) ->
    ["wrong password of user ", quoted(User), ": it was made with none of the ",
     integer_to_list(N), " secrets"];
why(_Algorithm, User, [], {expired, AgoS}) ->
    ["the credentials of ", quoted(User), " expired ", integer_to_list(AgoS), " s ago"].

md5_only(User) ->
    ["user ", quoted(User), " is known by an MD5 key, which SHA-256 cannot use"].

wrong_password(User) ->
    ["wrong password of user ", quoted(User)].

quoted(Text) ->
    [$", meerkat_text:escape(Text), $"].
