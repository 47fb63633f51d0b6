%% Whose a request is and what it asks an allocation for, read from its attributes, and the refusals
%% that go with them. Pure; knows no allocation.
-module(meerkat_alloc_request).

-export([owner/1, holder/1]).
-export([refused/1, unknown_attributes/1, unknown/1, lifetime/2, within/2, malformed_fault/2,
         first_of/1, has/2, get/3, family/1, number/1, ip_family/1]).

-export_type([request/0, owner/0, holder/0]).

-type address() :: {inet:ip_address(), inet:port_number()}.
-type family() :: 4 | 6.
-type message() :: meerkat_stun:message().
-type response() :: meerkat_alloc_core:response().

-type owner() :: {default | Realm :: binary(), User :: binary()}.
-type holder() :: {default | Realm :: binary(), meerkat_quota:person()}.
%% `realm`: where realms have users of their own, whose this one is (meerkat_settings:owner/2).
%% `left`: seconds after which the allocation is to end, for its user's credentials do.
%% `own`: limits of its user in place of the configuration's, for a new allocation.
%% `person`: whose it is, by whichever credentials. `held`: who reserved the port behind the
%% request's RESERVATION-TOKEN, and its family. `move`: the request names its allocation by a
%% ticket. `transport`: how it came, as the relay numbers them. `in_use`: connections over TCP that
%% its user has with peers. `join`: it names its allocation by such a connection. `limits`: what
%% the configuration allows now, for who has an allocation.
-type request() :: #{message := meerkat_stun:message(),
                     user := binary(),
                     client := address(),
                     realm => default | binary(),
                     person => meerkat_quota:person(),
                     left => pos_integer(),
                     own => meerkat_auth:limits(),
                     limits => meerkat_alloc_core:limits(),
                     held => {holder(), family()},
                     transport => byte(),
                     in_use => non_neg_integer(),
                     join => join(),
                     move => move()}.

%% The connection with a peer that a ConnectionBind is about, and where its answer goes.
-type join() :: #{connection := meerkat_alloc_tcp:connection(), flow := non_neg_integer()}.

%% Where the ticket's holder is, and whether that 5-tuple belongs to another allocation.
-type move() :: #{ticket := meerkat_ticket:ordinal(), place := meerkat_alloc_core:place(),
                  taken := boolean()}.

%% Whose a request or an allocation is: users of different realms may have one name.
-spec owner(request() | meerkat_alloc_admit:plan()) -> owner().
owner(#{user := User} = Request) ->
    {maps:get(realm, Request, default), User}.

%% Who may redeem what a request reserved: the person, with these credentials or fresher ones.
-spec holder(request()) -> holder().
holder(#{user := User} = Request) ->
    {maps:get(realm, Request, default), maps:get(person, Request, User)}.

-spec refused(Code :: 300..699) -> response().
refused(Code) ->
    {error, Code, []}.

%% RFC 8489 6.3.1.
-spec unknown_attributes([0..65535]) -> response().
unknown_attributes(Types) ->
    {error, 420, [{unknown_attributes, Types}]}.

%% Comprehension-required types that a TURN server does not comprehend: those nobody here knows,
%% and those of RFC 5780 and of ICE that the codec can read (X26, X56).
-spec unknown(message()) -> [0..65535].
unknown(#{attributes := Attributes} = Message) ->
    Foreign = [Type || {Name, _} <- Attributes, Type <- foreign(Name)],
    maps:get(unknown, Message, []) ++ lists:usort(Foreign).

foreign(change_request) -> [16#0003];
foreign(priority) -> [16#0024];
foreign(use_candidate) -> [16#0025];
foreign(padding) -> [16#0026];
foreign(response_port) -> [16#0027];
foreign(_Name) -> [].

%% The desired lifetime of RFC 8656 7.2 and 8.2, seconds; less only where credentials end sooner.
-spec lifetime(message(), meerkat_alloc_core:limits()) -> non_neg_integer().
lifetime(Message, #{default_lifetime := Default, max_lifetime := Max} = Limits) ->
    Desired = max(Default, min(get(lifetime, Message, Default), Max)),
    min(Desired, maps:get(left, Limits, Desired)).

%% What this request may ask for.
-spec within(meerkat_alloc_request:request(), meerkat_alloc_core:limits()) ->
    meerkat_alloc_core:limits().
within(#{left := Left}, Limits) -> Limits#{left => Left};
within(_Request, Limits) -> Limits.

%% The response of the first check that is true; `false` where none is.
-spec first_of([{boolean(), response()}]) -> false | response().
first_of([{true, Response} | _]) -> Response;
first_of([{false, _} | Checks]) -> first_of(Checks);
first_of([]) -> false.

%% A value of the wrong size or shape, in an attribute that the method reads (X52, X53).
-spec malformed_fault(Method :: atom(), message()) -> false | response().
malformed_fault(_Method, #{malformed := []}) ->
    false;
malformed_fault(Method, Message) ->
    lists:any(fun(Name) -> is_malformed(Name, Message) end, reads(Method)) andalso refused(400).

reads(allocate) ->
    [requested_transport, dont_fragment, lifetime, requested_address_family,
     additional_address_family, even_port, reservation_token];
reads(refresh) ->
    [lifetime, requested_address_family];
reads(create_permission) ->
    [xor_peer_address];
reads(channel_bind) ->
    [channel_number, xor_peer_address];
reads(connect) ->
    [xor_peer_address];
reads(connection_bind) ->
    [connection_id];
reads(_) ->
    [].

is_malformed(Name, Message) ->
    lists:member(Name, maps:get(malformed, Message, [])).

-spec has(Attribute :: atom(), message()) -> boolean().
has(Name, Message) ->
    meerkat_stun:get(Name, Message) =/= error.

-spec get(Attribute :: atom(), message(), Default) -> meerkat_stun:value() | Default.
get(Name, Message, Default) ->
    case meerkat_stun:get(Name, Message) of
        {ok, Value} -> Value;
        error -> Default
    end.

%% Families as RFC 8656 18.6 numbers them, and as we do.
-spec family(byte()) -> 4 | 6 | none.
family(1) -> 4;
family(2) -> 6;
family(_) -> none.

-spec number(4 | 6) -> 1 | 2.
number(4) -> 1;
number(6) -> 2.

-spec ip_family(inet:ip_address()) -> 4 | 6.
ip_family(Ip) when tuple_size(Ip) =:= 4 -> 4;
ip_family(_Ip) -> 6.
