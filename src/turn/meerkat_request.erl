%% Where a request goes: decode, authenticate, then to the allocation of its 5-tuple, or to a new
%% one, or back with an error. A process of a fixed pool; all requests of a client pass the same
%% one. It keeps nothing between requests.
-module(meerkat_request).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/2, answer/3, answer/4, promise/3, answered/4, again/1]).
-export([later/2, late/4, indication/2]).
-export([judged/3, unauthenticated/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([job/0, unproven/0]).

%% An authenticated request on its way to an answer: exactly one call of answer/3 or answer/4.
-type job() :: #{wire := meerkat_wire:wire(),
                 flow := non_neg_integer(),
                 %% Of its frame, on the monotonic clock, in microseconds.
                 arrived := integer(),
                 %% The process that took it in.
                 from := pid(),
                 place := meerkat_alloc_core:place(),
                 %% The session the relay has for this 5-tuple, 0 for none.
                 session := non_neg_integer(),
                 request := meerkat_alloc_request:request(),
                 seal := meerkat_auth:seal(),
                 %% Where the relay may answer what comes next by itself.
                 grant => meerkat_auth:grant(),
                 %% Of what was asked before it was authenticated.
                 epoch => meerkat_grants:epoch(),
                 %% Where the allocation that is made may have to judge by the key itself.
                 proof => meerkat_auth:proof()}.
%% A request whose user could not be looked up, because the authenticator does not answer. It goes
%% to the allocation it names, which may know the key; `why` is logged where it does not.
-type unproven() :: #{packet := binary(), why := fun(() -> unicode:chardata()), _ => _}.

%% Words, for some hundred requests between two collections: nothing lives longer than one of them.
-define(HEAP, 32768).

-spec start_link(Name :: atom(), N :: non_neg_integer()) -> {ok, pid()} | {error, term()}.
start_link(Name, N) ->
    gen_server:start_link(?MODULE, {Name, N}, [{spawn_opt, [{min_heap_size, ?HEAP}]}]).

%% Sends the signed response and returns the request's credit; `none` does only the latter.
%% SOFTWARE goes out only where it is configured, FINGERPRINT only where the request had one.
-spec answer(Name :: atom(), job(), meerkat_alloc_core:response() | none) -> ok.
answer(Name, Job, none) ->
    send(Name, Job, none, <<>>);
answer(Name, Job, Response) ->
    _ = answer(Name, Job, Response, none),
    ok.

%% The same, and what was written to the log of it, if it is a refusal, by what only the caller
%% knows of its cause.
-spec answer(Name :: atom(), job(), meerkat_alloc_core:response(), meerkat_refusal:cause()) ->
    none | meerkat_refusal:refusal().
answer(Name, Job, Response, Cause) ->
    {_, Outcome, _} = class(Response),
    Refusal = refused(Name, Job, Outcome, Cause),
    ok = send(Name, Job, Outcome, sealed(Name, Job, Response)),
    ok = watched(Name, Job, Outcome, Refusal),
    Refusal.

%% For who watches whom it came from (meerkat_watchers).
watched(Name, #{request := #{message := Message} = Request} = Job, Outcome, Refusal) ->
    About = maps:merge(maps:with([user, client], Request), maps:with([session], Job)),
    meerkat_watchers:asked(Name, About, fun() ->
        maps:merge(asked(Message), why(Refusal))
    end, {erlang, Outcome}).

why(none) -> #{};
why(#{why := Why}) -> #{why => Why}.

%% What a reader wants to know of a request.
asked(#{method := Method, attributes := Attributes}) ->
    Channel = [{channel, Number} || {channel_number, Number} <- Attributes],
    Lifetime = [{lifetime_s, Seconds} || {lifetime, Seconds} <- Attributes],
    (maps:from_list(Channel ++ Lifetime))#{
        method => Method, peers => [Peer || {xor_peer_address, Peer} <- Attributes]}.

refused(_Name, _Job, success, _Cause) ->
    none;
refused(Name, #{request := #{realm := Owner, client := {Ip, _}} = Request} = Job, Code, Cause) ->
    #{denials := Denials} = Settings = meerkat_registry:settings(Name),
    #{limits := Limits} = meerkat_settings:tenant(Owner, Settings),
    #{level := Level} = Refusal = meerkat_refusal:of_request(Code, Request, Cause, Limits),
    Meta = maps:filter(fun(session, Session) -> Session > 0 end, maps:with([session], Job)),
    case Level of
        notice ->
            ok = meerkat_refusal_log:write(Denials, Ip, Meta, fun() ->
                meerkat_refusal:line(Refusal, Request)
            end);
        debug ->
            ?LOG_DEBUG("~ts", [meerkat_refusal:line(Refusal, Request)], Meta)
    end,
    Refusal.

%% The same response as an ANSWER_IF: the relay sends it when it has done what goes with it. `none`
%% where it is longer than such a message may be.
-spec promise(Name :: atom(), job(), meerkat_alloc_core:response()) ->
    meerkat_ctl:message() | none.
promise(Name, #{flow := Flow} = Job, Response) ->
    Packet = sealed(Name, Job, Response),
    case byte_size(Packet) =< meerkat_ctl:limit(promise_bytes_max) of
        true -> {answer_if, #{flow => Flow, packet => Packet}};
        false -> none
    end.

%% A promise was kept that was made at this time, in microseconds as in `arrived`.
-spec answered(Name :: atom(), job(), meerkat_alloc_core:response(), MadeUs :: integer()) -> ok.
answered(Name, #{arrived := Arrived} = Job, Response, MadeUs) ->
    {_, Outcome, _} = class(Response),
    ok = meerkat_answers:count(meerkat_registry:answers(Name), method(Job), Outcome,
                               MadeUs - Arrived),
    watched(Name, Job, Outcome, none).

%% It will be answered by late/4; its credit is given back now.
-spec later(Name :: atom(), job()) -> ok.
later(_Name, #{wire := Wire, flow := Flow}) ->
    _ = meerkat_relay:command(Wire, 0, {answer, #{flow => Flow, failed => 0, packet => <<>>}}),
    ok.

%% The signed response to such a one, which the caller has sent, and what was written of a refusal
%% as by answer/4.
-spec late(Name :: atom(), job(), meerkat_alloc_core:response(), meerkat_refusal:cause()) ->
    {none | meerkat_refusal:refusal(), binary()}.
late(Name, #{arrived := Arrived} = Job, Response, Cause) ->
    {_, Outcome, _} = class(Response),
    Us = erlang:monotonic_time(microsecond) - Arrived,
    meerkat_answers:count(meerkat_registry:answers(Name), method(Job), Outcome, Us),
    Refusal = refused(Name, Job, Outcome, Cause),
    ok = watched(Name, Job, Outcome, Refusal),
    {Refusal, sealed(Name, Job, Response)}.

%% What nobody asked for; RFC 8489 9.2 has no integrity for it.
-spec indication(Method :: atom(), meerkat_stun:attributes()) -> binary().
indication(Method, Attributes) ->
    meerkat_stun:encode(#{class => indication, method => Method,
                          transaction_id => crypto:strong_rand_bytes(12),
                          attributes => Attributes}).

sealed(Name, #{request := #{message := Asked}, seal := Seal}, Response) ->
    {Class, _, Attributes} = class(Response),
    Software = case meerkat_registry:settings(Name) of
        #{software := undefined} -> [];
        #{software := Text} -> [{software, Text}]
    end,
    Seal(response(Class, Asked, Attributes ++ Software)).

%% Takes up a request anew that reached an allocation which has just ended.
-spec again(job()) -> ok.
again(#{from := From} = Job) ->
    From ! {again, Job},
    ok.

%% Of the process of an allocation made by User with that proof: whoever signs with the same key is
%% who made it. The request goes on from where it came from.
-spec judged(unproven(), User :: binary(), none | meerkat_auth:proof()) -> ok.
judged(#{from := From} = Unproven, User, Proof) ->
    From ! {judged, Unproven, seal(Unproven, User, Proof), User},
    ok.

seal(_Unproven, _User, none) ->
    error;
seal(#{packet := Packet, request := #{message := Message}}, User, Proof) ->
    case meerkat_auth:name(Message) of
        {username, Other} when Other =/= User -> error;
        _ -> Proof(Packet, Message)
    end.

%%% gen_server

-spec init({atom(), non_neg_integer()}) -> {ok, atom()}.
init({Name, N}) ->
    ok = meerkat_roles:take(Name, {request, N}),
    {ok, Name}.

-spec handle_call(term(), gen_server:from(), atom()) -> {reply, ok, atom()}.
handle_call(_Request, _From, Name) ->
    {reply, ok, Name}.

-spec handle_cast(term(), atom()) -> {noreply, atom()}.
handle_cast(_Request, Name) ->
    {noreply, Name}.

%% Where a fault of ours makes a request crash, its client gets no answer, and other requests go on.
-spec handle_info(term(), atom()) -> {noreply, atom()}.
handle_info({request, Wire, <<_:64, Flow:64, _/binary>> = Frame, Arrived}, Name) ->
    Asker = #{wire => Wire, flow => Flow, arrived => Arrived},
    try
        {ok, 0, {request, Fields}} = meerkat_ctl:decode(Frame),
        take(Name, Asker, Fields)
    catch
        Class:Reason:Stack ->
            complain(Class, Reason, Stack),
            send(Name, Asker, none, <<>>)
    end,
    {noreply, Name};
handle_info({looked_up, Unknown, Outcome}, Name) ->
    attempt(Name, maps:get(asker, Unknown), fun() -> take_again(Name, Unknown, Outcome) end);
handle_info({again, Job}, Name) ->
    attempt(Name, Job, fun() -> route(Name, Job) end);
handle_info({judged, Unproven, Seal, User}, Name) ->
    attempt(Name, Unproven, fun() -> proven(Name, Unproven, Seal, User) end);
handle_info(_Other, Name) ->
    {noreply, Name}.

attempt(Name, Job, Fun) ->
    try
        Fun()
    catch
        Class:Reason:Stack ->
            complain(Class, Reason, Stack),
            answer(Name, Job, none)
    end,
    {noreply, Name}.

%% Where it happened, but not with which arguments: they may be passwords.
complain(Class, Reason, Stack) ->
    Where = [{M, F, A, proplists:get_value(line, Info)}
             || {M, F, A, Info} <- lists:sublist(meerkat_crash:stack(Stack), 8)],
    ?LOG_ERROR("a request was left without an answer: ~tp ~tp in ~tp",
               [Class, meerkat_crash:reason(Reason), Where]).

%%% The way of a request

take(Name, Asker, #{packet := Packet, client := {Ip, _} = Client} = Fields) ->
    {ok, Message} = meerkat_stun:decode(Packet),
    #{failures := Failures} = meerkat_registry:settings(Name),
    User = user(Message),
    case meerkat_auth_failures:too_many(Failures, Ip, User, meerkat_auth_failures:now_us()) of
        false ->
            take(Name, Asker, Fields, Message);
        true ->
            ?LOG_DEBUG("a request of \"~ts\" from ~ts was not checked: too many failed",
                       [meerkat_text:escape(User), meerkat_text:address(Client)]),
            ok = not_served(Name, Client, Message, throttled, fun() ->
                "for too many with wrong credentials came before"
            end),
            send(Name, Asker#{request => #{message => Message}}, throttled, <<>>)
    end.

take(Name, Asker, Fields, Message) ->
    judge(Name, #{asker => Asker, fields => Fields, message => Message, asked => #{}}).

%% Its user is as the request has it: nobody has proved to be that.
not_served(Name, Client, Message, Outcome, Why) ->
    meerkat_watchers:asked(Name, #{client => Client, user => user(Message)}, fun() ->
        (asked(Message))#{why => unicode:characters_to_binary(Why())}
    end, {erlang, Outcome}).

%% Back from meerkat_lookups, with the database's answer or without one.
take_again(Name, #{asking := Question, asked := Asked} = Unknown, Outcome) ->
    judge(Name, Unknown#{asked := Asked#{Question => Outcome}}).

judge(Name, #{asker := Asker0, fields := Fields, message := Message, asked := Asked} = Unknown) ->
    #{packet := Packet, listener := Listener} = Fields,
    Asker = Asker0#{epoch => meerkat_grants:epoch(Name)},
    #{realms := #{Listener := Realm}} = Settings = meerkat_registry:settings(Name),
    Owner = meerkat_settings:owner(Realm, Settings),
    #{auth := Auth} = meerkat_settings:tenant(Owner, Settings),
    Client = client(Fields),
    Shown = maps:with([certificate], Client),
    case authenticated(Name, Packet, Message, Realm, Asked, meerkat_auth:asked_by(Client, Auth)) of
        {ok, Identity} ->
            Known = maps:merge(Identity#{realm => Owner}, Shown),
            admitted(Name, job(Name, Asker, Fields, Message, Known));
        {look_up, Question} ->
            look_up(Name, Question, [Outcome || {error, _} = Outcome <- maps:values(Asked)],
                    Unknown);
        {error, unavailable, Why} ->
            Known = Shown#{user => user(Message), realm => Owner},
            unproven(Name, (job(Name, Asker, Fields, Message, Known))#{
                packet => Packet, why => Why});
        {error, Code, Why} ->
            refuse(Name, Asker, Fields, Message, Code, Why)
    end.

%% A request waits for one question at most: where that got no answer, no other is asked.
look_up(Name, Question, [], Unknown) ->
    meerkat_lookups:ask(Name, Question, Unknown#{asking => Question});
look_up(Name, Question, [Outcome | _], Unknown) ->
    take_again(Name, Unknown#{asking => Question}, Outcome).

%% Requests of a realm that came with credentials and were answered with 401.
-spec unauthenticated(Name :: atom(), meerkat_settings:owner()) -> non_neg_integer().
unauthenticated(Name, Owner) ->
    meerkat_store:get(Name, ?MODULE, {unauthenticated, Owner}, 0).

client(#{client := Client, transport := Transport, certificate := Der}) ->
    Asker = #{client => Client, transport => meerkat_ctl:transport_kind(Transport)},
    case Der of
        <<>> -> Asker;
        _ -> Asker#{certificate => meerkat_client_certificate:described(Der)}
    end.

%% The user is unknown, or the request is not one that can be authenticated.
refuse(Name, Asker, #{client := {Ip, _} = Client, listener := Listener}, Message, Code, Why) ->
    #{failures := Failures, refusals := Refusals, realms := #{Listener := Realm}} = Settings =
        meerkat_registry:settings(Name),
    Owner = meerkat_settings:owner(Realm, Settings),
    #{auth := Auth} = meerkat_settings:tenant(Owner, Settings),
    ok = meerkat_refusal_log:refused(Refusals, Code, Client, Why),
    _ = Code =:= 401 andalso meerkat_store:count(Name, ?MODULE, {unauthenticated, Owner}),
    Code =:= 401 andalso meerkat_auth_failures:count(Failures, Ip, user(Message),
                                                     meerkat_auth_failures:now_us()),
    ok = meerkat_events:tell(Name, [meerkat, authentication, failure], fun() ->
        {#{count => 1}, #{client => Client, code => Code}}
    end),
    ok = not_served(Name, Client, Message, Code, Why),
    Challenge = challenge(Code, Message, Realm, meerkat_auth:algorithms(Auth)),
    send(Name, Asker#{request => #{message => Message}}, Code,
         meerkat_stun:encode(response(error, Message, Challenge))).

%% A client that has an allocation may be recognised by its process, which has the key the
%% allocation was made with.
unproven(Name, #{place := Place, request := #{message := Message}} = Unproven) ->
    FiveTuple = meerkat_alloc_table:five_tuple(Place),
    Found = case ticket(Name, Message) of
        {ok, Session, _Number} -> meerkat_alloc_table:find(Name, Session);
        _ -> meerkat_alloc_table:find(Name, FiveTuple)
    end,
    case Found of
        {_Session, Pid} ->
            Pid ! {unproven, Unproven},
            ok;
        none ->
            proven(Name, Unproven, error, <<>>)
    end.

proven(Name, #{request := #{client := {Ip, _} = Client, message := Message}, why := Why} = Unproven,
       error, _User) ->
    #{refusals := Refusals, failures := Failures} = meerkat_registry:settings(Name),
    %% A wrong guess counts as a failure also while the authenticator is unavailable.
    ok = meerkat_auth_failures:count(Failures, Ip, user(Message), meerkat_auth_failures:now_us()),
    ok = meerkat_refusal_log:refused(Refusals, unavailable, Client, Why),
    ok = not_served(Name, Client, Message, unavailable, Why),
    send(Name, Unproven, unavailable, <<>>);
proven(Name, #{place := Place, request := Request} = Unproven, {ok, Seal}, User) ->
    #{message := Message} = Request,
    case revoked(Name, #{user => User}) of
        {ok, _} ->
            Job = maps:without([packet, why], Unproven),
            admitted(Name, Job#{seal => Seal, request := Request#{user := User}});
        {error, Code, Why} ->
            refuse(Name, Unproven, Place, Message, Code, Why)
    end.

%% What is good and was revoked is answered as what is not. Whoever cannot be looked up now is not
%% answered at all: its client asks again for half a minute and more, and takes a 401 for final.
authenticated(Name, Packet, Message, Realm, Asked, Auth) ->
    Answers = maps:map(fun(_, {ok, Answer}) -> {ok, Answer}; (_, {error, _}) -> error end, Asked),
    case meerkat_auth:authenticate(Packet, Message, Realm, Answers, Auth) of
        {ok, Identity} ->
            revoked(Name, Identity);
        {look_up, Question} ->
            {look_up, Question};
        {error, unavailable} ->
            {error, unavailable, fun() ->
                [unavailable(maps:values(Asked)), " about user \"",
                 meerkat_text:escape(user(Message)), $"]
            end};
        {error, Code} ->
            {error, Code, fun() -> meerkat_auth:why(Message, Realm, Auth) end}
    end.

unavailable(Outcomes) ->
    hd([[Why, "; it was asked"] || {error, Why} <- Outcomes]
       ++ ["the authenticator could not tell"]).

revoked(Name, #{user := User} = Identity) ->
    case meerkat_revoked:is_revoked(Name, User) of
        false ->
            {ok, Identity};
        true ->
            {error, 401, fun() ->
                ["the credentials of \"", meerkat_text:escape(User), "\" were revoked"]
            end}
    end.

%% As the request has it: a name, or the hash of one.
user(Message) ->
    case meerkat_auth:name(Message) of
        {_, User} -> User;
        error -> <<>>
    end.

job(Name, Asker, #{client := {Ip, _} = Client, session := Session} = Fields, Message,
    #{user := User, realm := Owner} = Identity) ->
    #{usernames := Order} = meerkat_registry:settings(Name),
    Asked = #{message => Message, user => User, realm => Owner, client => Client,
              transport => maps:get(transport, Fields),
              person => meerkat_quota:person(User, Ip, Order)},
    Request = maps:merge(Asked, maps:with([left, own, certificate], Identity)),
    #{listener := Listener, transport := Transport, server := Server} = Fields,
    Given = maps:merge(Asker, maps:with([seal, proof, grant], Identity)),
    Given#{from => self(),
           place => #{listener => Listener, transport => Transport, client => Client,
                      server => Server},
           session => Session,
           request => held(Name, Request)}.

held(Name, #{message := Message} = Request) ->
    case meerkat_stun:get(reservation_token, Message) of
        {ok, Token} ->
            case meerkat_reservations:holder(Name, Token) of
                none -> Request;
                Holder -> Request#{held => Holder}
            end;
        error ->
            Request
    end.

%% Who has shown a certificate may have to use the name in it. An embedder may forbid what the
%% configuration would allow.
admitted(Name, #{request := #{user := User} = Request} = Job) ->
    #{usernames := Order, tls_client_user := Rule} = meerkat_registry:settings(Name),
    case Request of
        #{certificate := Shown} ->
            case meerkat_client_certificate:may_be(User, Order, Rule, Shown) of
                true ->
                    authorized(Name, Job);
                false ->
                    _ = answer(Name, Job, {error, 403, []}, certificate),
                    ok
            end;
        #{} ->
            authorized(Name, Job)
    end.

authorized(Name, #{request := Request} = Job) ->
    #{authorizer := Authorizer, grants := Grants} = meerkat_registry:settings(Name),
    case meerkat_authorizer:verdict(Authorizer, Request) of
        {allow, grant} when Grants -> route(Name, Job);
        {allow, grant} -> route(Name, maps:remove(grant, Job));
        allow -> route(Name, maps:remove(grant, Job));
        {deny, Code} ->
            _ = answer(Name, Job, {error, Code, []}, authorizer),
            ok
    end.

route(Name, #{place := Place, request := #{message := Message}} = Job) ->
    Found = meerkat_alloc_table:find(Name, meerkat_alloc_table:five_tuple(Place)),
    case {ticket(Name, Message), Found} of
        {none, none} when map_get(method, Message) =:= connection_bind ->
            join(Name, Job);
        {none, {_Session, Pid}} ->
            Pid ! {request, Job},
            ok;
        {none, none} ->
            forsake(Name, Job),
            admit(Name, Job);
        {Ticket, _} ->
            resume(Name, Ticket, Found, Job)
    end.

%% RFC 6062 5.4: a ConnectionBind is for the allocation whose connection it names.
join(Name, #{flow := Flow, request := #{message := Message} = Request} = Job) ->
    Id = case meerkat_stun:get(connection_id, Message) of
        {ok, Number} -> Number;
        error -> 0
    end,
    case meerkat_connections:find(Name, Id) of
        {_Session, Pid} ->
            Pid ! {request, Job#{request := Request#{join => #{connection => Id, flow => Flow}}}},
            ok;
        none ->
            admit(Name, Job)
    end.

%% RFC 8016 3.2.2: a Refresh with a ticket is for the allocation that the ticket names.
ticket(Name, #{method := refresh} = Message) ->
    #{limits := Limits} = meerkat_registry:settings(Name),
    case {meerkat_stun:get(mobility_ticket, Message), Limits} of
        {error, _} -> none;
        {{ok, Ticket}, #{tickets := Key}} -> meerkat_ticket:open(Ticket, Key);
        {{ok, _}, #{}} -> {error, forbidden}
    end;
ticket(_Name, _Message) ->
    none.

resume(Name, {ok, Session, _} = Ticket, {Other, Pid}, Job) when Other =/= Session ->
    case meerkat_grants:has_ended(Name, Other) of
        %% Its process frees the 5-tuple before it looks at any request, and sends this one back.
        true ->
            Pid ! {request, Job},
            ok;
        false ->
            move(Name, Ticket, true, Job)
    end;
resume(Name, {ok, _, _} = Ticket, _Found, Job) ->
    move(Name, Ticket, false, Job);
resume(Name, {error, _}, _Found, Job) ->
    admit(Name, Job).

%% Taken: another allocation has the 5-tuple.
move(Name, {ok, Session, Number}, Taken, #{place := Place, request := Request} = Job) ->
    case meerkat_alloc_table:find(Name, Session) of
        {Session, Pid} ->
            Move = #{ticket => Number, place => Place, taken => Taken},
            Pid ! {request, Job#{request := Request#{move => Move}}},
            ok;
        none ->
            admit(Name, Job)
    end.

%% A session of the relay's that no process governs, for its own was killed, is ended. One whose
%% end is under way is told twice, which does no harm. One that lives has left this 5-tuple, or
%% has not come to it.
forsake(_Name, #{session := 0}) ->
    ok;
forsake(Name, #{session := Session, wire := Wire}) ->
    case meerkat_alloc_table:find(Name, Session) of
        {Session, _} ->
            ok;
        none ->
            _ = meerkat_relay:command(Wire, 0, {alloc_delete, #{session => Session}}),
            ok
    end.

admit(Name, #{request := #{realm := Owner} = Request} = Job) ->
    #{limits := Limits} = meerkat_settings:tenant(Owner, meerkat_registry:settings(Name)),
    case meerkat_alloc_admit:admit(Request, Limits) of
        {create, Plan} -> create(Name, Plan, Job);
        {answer, Response} -> answer(Name, Job, Response)
    end.

create(Name, Plan, #{place := Place} = Job) ->
    case meerkat_drain:verdict(Name, Place) of
        go_on -> meerkat_relay:admits(Name, Job) andalso start(Name, Plan, Job);
        {answer, Response} ->
            _ = answer(Name, Job, Response, drained),
            ok
    end.

%% The process is known by its 5-tuple before it has begun, so that the same request, sent again,
%% finds it. Nobody waits until it has begun.
start(Name, Plan, #{flow := Flow, place := Place} = Job) ->
    Session = session(Name, Flow),
    case meerkat_alloc_sup:start_alloc(Name, Session) of
        {ok, Pid} ->
            FiveTuple = meerkat_alloc_table:five_tuple(Place),
            ok = meerkat_alloc_table:expect(Name, FiveTuple, Session, Pid),
            meerkat_alloc_sup:allocate(Pid, Plan, Job);
        {error, Reason} ->
            error({no_process, Reason})
    end.

%% The worker's number, then how many VMs have had the relay before, then a number that this VM
%% never gives twice.
session(Name, Flow) ->
    #{life := Life} = meerkat_registry:settings(Name),
    <<Session:64>> = <<(meerkat_ctl:worker(Flow)), Life:16,
                       (erlang:unique_integer([positive, monotonic])):40>>,
    Session.

%%% Responses

%% RFC 8489 9.2.4: a 401 comes with REALM, a nonce that is good (the request's own is, the relay has
%% seen to it) and the algorithms on offer. Nothing that is not signed says what we are.
challenge(401, Message, Realm, Algorithms) ->
    [{error_code, {401, <<>>}}, {realm, Realm}]
        ++ [{nonce, Nonce} || {ok, Nonce} <- [meerkat_stun:get(nonce, Message)]]
        ++ [{password_algorithms, Algorithms} || Algorithms =/= []];
challenge(Code, _Message, _Realm, _Algorithms) ->
    [{error_code, {Code, <<>>}}].

class({success, Attributes}) -> {success, success, Attributes};
class({error, Code, Attributes}) ->
    {error, Code, [{error_code, {Code, meerkat_refusal:phrase(Code)}} | Attributes]}.

response(Class, #{method := Method, transaction_id := Id, fingerprint := Fingerprint},
         Attributes) ->
    Response = #{class => Class, method => Method, transaction_id => Id,
                 attributes => Attributes},
    case Fingerprint of
        true -> Response#{fingerprint => true};
        false -> Response
    end.

%% When the relay that asked is gone there is nobody to answer.
send(Name, #{wire := Wire, flow := Flow, arrived := Arrived} = Asker, Outcome, Packet) ->
    Us = erlang:monotonic_time(microsecond) - Arrived,
    %% Counted before it is sent, so that a client that has its answer finds it in the metrics.
    ok = meerkat_answers:count(meerkat_registry:answers(Name), method(Asker), Outcome, Us),
    Answer = #{flow => Flow, failed => failed(Outcome), packet => Packet},
    _ = meerkat_relay:command(Wire, 0, {answer, Answer}),
    ok.

%% Does the source pay for it?
failed(401) -> 1;
failed(throttled) -> 1;
failed(_) -> 0.

method(#{request := #{message := #{method := Method}}}) -> Method;
method(#{}) -> other.
