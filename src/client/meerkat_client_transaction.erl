%% One request of the client, from sending it to its answer: when it is sent again (RFC 8489 6.2),
%% which answers are believed, and what a refusal for want of a good signature is answered with
%% (9.2.5). Pure; what a request is for is its owner's affair (meerkat_client_core).
-module(meerkat_client_transaction).

-export([pace/1, new/3, send/3, send_again/2, encode/4, answered/4]).
-export([purpose/1, sends/1, is_reconnected/1, redirected/2, reconnected/1]).

-export_type([transaction/1, id/0, pace/0, credentials/0, failure/0]).

-type id() :: <<_:96>>.
-type auth() :: meerkat_client_auth:auth().
-type credentials() :: none | {User :: binary(), Password :: meerkat_client_auth:secret(binary())}.
%% RFC 8489 6.2.1: the first wait, how often it is sent, and how many times the first wait the last
%% one is.
-type pace() :: {RtoMs :: pos_integer(), Rc :: pos_integer(), Rm :: pos_integer()}.
-type failure() :: {300..699, binary()}          % what the server answered
                 | timeout | bad_integrity | bid_down | no_credentials | no_algorithm
                 | {unknown_attributes, [0..65535]}
                 | {bad_response, atom()}.

%% `auth` is what its packet was signed with; `stale` and `new_realm` say that the one more try of
%% 9.2.5 is used up; `distrusted`, that an answer failed its integrity check; `reconnected`, that
%% the one more try on another connection is used up.
-record(transaction, {method :: atom(),
                      attributes :: [{atom(), term()}],
                      purpose :: term(),
                      packet = <<>> :: binary(),
                      auth = none :: none | auth(),
                      sends = 1 :: pos_integer(),
                      challenged = false :: boolean(),
                      new_realm = false :: boolean(),
                      stale = false :: boolean(),
                      distrusted = false :: boolean(),
                      reconnected = false :: boolean()}).
-opaque transaction(Purpose) :: #transaction{purpose :: Purpose}.

-define(RTO, 500).
-define(RC, 7).
-define(RM, 16).

%% As it was configured. A stream loses nothing, so there a request is sent once and has `ti` ms for
%% its answer (RFC 8489 6.2.2).
-spec pace(#{ti => pos_integer(), rto => pos_integer(), rc => pos_integer(), rm => pos_integer(),
             _ => _}) -> pace().
pace(#{ti := Ti}) ->
    {Ti, 1, 1};
pace(Config) ->
    {maps:get(rto, Config, ?RTO), maps:get(rc, Config, ?RC), maps:get(rm, Config, ?RM)}.

-spec new(Method :: atom(), [{atom(), term()}], Purpose) -> transaction(Purpose).
new(Method, Attributes, Purpose) ->
    #transaction{method = Method, attributes = Attributes, purpose = Purpose}.

%% Signed with what was learnt last, under an id of its own. Binding needs no signature unless the
%% server asks for one (RFC 8489 13).
-spec send(none | auth(), pace(), transaction(Purpose)) ->
    {id(), Packet :: binary(), WaitMs :: pos_integer(), transaction(Purpose)}.
send(Auth0, Pace, #transaction{method = Method, attributes = Attributes} = T) ->
    Id = meerkat_stun:transaction_id(),
    Auth = case T of
               #transaction{method = binding, challenged = false} -> none;
               #transaction{} -> Auth0
           end,
    Packet = encode(Id, Method, Attributes, Auth),
    {Id, Packet, wait(1, Pace),
     T#transaction{packet = Packet, auth = Auth, sends = 1, distrusted = false}}.

-spec encode(id(), Method :: atom(), [{atom(), term()}], none | auth()) -> binary().
encode(Id, Method, Attributes, Auth) ->
    meerkat_stun:encode(
      meerkat_client_auth:sign(#{class => request, method => Method, transaction_id => Id,
                                 attributes => Attributes}, Auth)).

%% Its wait is over: the same packet once more, or the end.
-spec send_again(pace(), transaction(Purpose)) ->
    {send, Packet :: binary(), WaitMs :: pos_integer(), transaction(Purpose)}
    | {error, timeout | bad_integrity}.
send_again({_, Rc, _} = Pace, #transaction{sends = Sends, packet = Packet} = T) when Sends < Rc ->
    {send, Packet, wait(Sends + 1, Pace), T#transaction{sends = Sends + 1}};
send_again(_, #transaction{distrusted = true}) ->
    {error, bad_integrity};
send_again(_, #transaction{}) ->
    {error, timeout}.

%% How long to wait after the Sends-th time.
wait(Sends, {Rto, Rc, Rm}) when Sends >= Rc -> Rto * Rm;
wait(Sends, {Rto, _, _}) -> Rto bsl (Sends - 1).

%% What an answer with its id means: nothing (`ignored`), the outcome, or that it is to be sent once
%% more, as a new transaction, with what its answer has taught.
-spec answered(meerkat_stun:message(), Packet :: binary(), credentials(), transaction(Purpose)) ->
    ignored
    | {ignored, transaction(Purpose)}
    | {ok, meerkat_stun:message()}
    | {error, failure()}
    | {again, auth(), transaction(Purpose)}.
answered(#{method := Method} = Message, Packet, Credentials,
         #transaction{method = Method, auth = Auth} = T) ->
    case meerkat_client_auth:trusts(Message, Packet, Auth) of
        true -> judge(Message, Credentials, T);
        false -> {ignored, T#transaction{distrusted = true}}
    end;
answered(_, _, _, _) ->
    ignored.

judge(#{unknown := [_ | _] = Types}, _, _) ->
    {error, {unknown_attributes, Types}};
judge(#{class := success} = Message, _, _) ->
    {ok, Message};
judge(Message, Credentials, #transaction{method = Method} = T) ->
    case meerkat_stun:get(error_code, Message) of
        {ok, {401, _} = Error} -> unauthenticated(Message, Error, Credentials, T);
        {ok, {438, _} = Error} -> stale(Message, Error, Credentials, T);
        {ok, Error} -> {error, Error};
        error -> {error, {bad_response, Method}}
    end.

%% A second refusal under the same realm is final: nothing would be different.
unauthenticated(_, _, none, _) ->
    {error, no_credentials};
unauthenticated(Message, Error, Credentials, #transaction{auth = Auth, new_realm = Tried} = T) ->
    case {learn(Message, Credentials), Auth} of
        {{error, _} = Failed, none} ->
            Failed;
        {{ok, New}, none} ->
            {again, New, T#transaction{challenged = true}};
        {{ok, New}, _} when not Tried ->
            case meerkat_client_auth:realm(New) =:= meerkat_client_auth:realm(Auth) of
                true -> {error, Error};
                false -> {again, New, T#transaction{new_realm = true}}
            end;
        _ ->
            {error, Error}
    end.

%% One more try with the new nonce; a server that calls that stale too would do so for ever.
stale(Message, _, Credentials, #transaction{auth = Auth, stale = false} = T) when Auth =/= none ->
    case learn(Message, Credentials) of
        {ok, New} -> {again, New, T#transaction{stale = true}};
        Failed -> Failed
    end;
stale(_, Error, _, _) ->
    {error, Error}.

learn(Message, {User, Password}) ->
    meerkat_client_auth:learn(Message, User, Password).

-spec purpose(transaction(Purpose)) -> Purpose.
purpose(#transaction{purpose = Purpose}) ->
    Purpose.

%% How often it has been sent.
-spec sends(transaction(_)) -> pos_integer().
sends(#transaction{sends = Sends}) ->
    Sends.

%% To another server, where nothing has been tried yet. A nonce is for one client address, and the
%% new socket has another: it begins with an unsigned request again.
-spec redirected(Purpose, transaction(Purpose)) -> transaction(Purpose).
redirected(Purpose, T) ->
    T#transaction{purpose = Purpose, challenged = false, new_realm = false, stale = false}.

-spec reconnected(transaction(Purpose)) -> transaction(Purpose).
reconnected(T) ->
    T#transaction{reconnected = true}.

-spec is_reconnected(transaction(_)) -> boolean().
is_reconnected(#transaction{reconnected = Reconnected}) ->
    Reconnected.
