%% Where the client of an allocation is, where it may be about to go, and the tickets it goes with
%% (RFC 8016 3.2). Pure. A ticket has an ordinal: the one given out last is good, once; the one
%% before it shows that a request is a retransmission.
-module(meerkat_alloc_mobility).

-export([new/2, place/1, client/1, next/1]).
-export([is_good/2, is_here/2, is_again/3, spend/4, arrived/2]).
-export([first_ticket/2, ticket/2]).
-export([kept/2, adopted/5]).

-export_type([mobility/0, kept/0]).

-type address() :: {inet:ip_address(), inet:port_number()}.
-type place() :: meerkat_alloc_core:place().
%% Milliseconds of a monotonic clock.
-type now() :: integer().

-record(mobility, {
    place :: place(),
    next = none :: none | place(),              % where the client may go
    good = 0 :: meerkat_ticket:ordinal(),
    key = none :: none | meerkat_ticket:key(),  % what tickets are made with
    resumed = none :: none | resumed()
}).
-opaque mobility() :: #mobility{}.

%% What a retransmission of the last request that moved the client looks like, and for how long.
-type resumed() :: {meerkat_ticket:ordinal(), Client :: address(), meerkat_stun:transaction_id(),
                    Until :: now()}.

-define(RESUMED_MS, 40000).         % RFC 8016 3.2.2: at least 30 s; RFC 8489 6.2.1: 39.5 s

%% `none`: without a key there are no tickets.
-spec new(place(), none | meerkat_ticket:key()) -> mobility().
new(Place, Key) ->
    #mobility{place = Place, key = Key}.

%% The 5-tuple in use.
-spec place(mobility()) -> place().
place(#mobility{place = Place}) ->
    Place.

-spec client(mobility()) -> address().
client(#mobility{place = #{client := Client}}) ->
    Client.

%% The 5-tuple that is in use as soon as the client has spoken from there.
-spec next(mobility()) -> none | place().
next(#mobility{next = Next}) ->
    Next.

-spec is_good(meerkat_ticket:ordinal(), mobility()) -> boolean().
is_good(Ticket, #mobility{good = Good}) ->
    Ticket =:= Good.

%% Does the client come from where it is, or may be, already?
-spec is_here(place(), mobility()) -> boolean().
is_here(#{client := Client}, #mobility{place = #{client := Here}, next = Next}) ->
    Client =:= Here orelse Next =/= none andalso Client =:= maps:get(client, Next).

%% Is this the request that moved the client last, once more?
-spec is_again(meerkat_alloc_request:request(), now(), mobility()) -> boolean().
is_again(_Request, _Now, #mobility{resumed = none}) ->
    false;
is_again(#{message := #{transaction_id := Id}, move := #{ticket := Ticket, place := Place}}, Now,
         #mobility{resumed = {Spent, Client, Of, Until}}) ->
    #{client := From} = Place,
    {Ticket, From, Id} =:= {Spent, Client, Of} andalso Now < Until.

%% The ticket that was shown is spent, and the client may go there. Also where it might have gone
%% until now, which it is not to go to any more.
-spec spend(place(), meerkat_stun:transaction_id(), now(), mobility()) ->
    {Left :: none | place(), mobility()}.
spend(#{client := Client} = Place, Id, Now, #mobility{good = Spent, next = Left} = Mobility) ->
    {Left, Mobility#mobility{next = Place,
                             good = (Spent + 1) band 16#ffff,
                             resumed = {Spent, Client, Id, Now + ?RESUMED_MS}}}.

%% The relay says that the client has spoken from an address. The place it has left, if that is
%% where it was expected.
-spec arrived(address(), mobility()) -> {Left :: place(), mobility()} | elsewhere.
arrived(Client, #mobility{place = Left, next = #{client := Client} = Next} = Mobility) ->
    {Left, Mobility#mobility{place = Next, next = none}};
arrived(_Client, #mobility{}) ->
    elsewhere.

%% Both by the key there was when the allocation began: a reload may have taken mobility away
%% since, and the same transaction is answered the same.
-spec first_ticket(Session :: non_neg_integer(), mobility()) -> binary().
first_ticket(Session, #mobility{key = Key}) ->
    meerkat_ticket:seal(Session, 0, Key).

-spec ticket(Session :: non_neg_integer(), mobility()) -> binary().
ticket(Session, #mobility{good = Good, key = Key}) ->
    meerkat_ticket:seal(Session, Good, Key).

%%% For another VM, which has another clock: how long is left

-type kept() :: {meerkat_ticket:ordinal(), none | resumed()}.

-spec kept(now(), mobility()) -> kept().
kept(Now, #mobility{good = Good, resumed = {Spent, Client, Id, Until}}) when Until > Now ->
    {Good, {Spent, Client, Id, Until - Now}};
kept(_Now, #mobility{good = Good}) ->
    {Good, none}.

%% The places come from the relay's commands.
-spec adopted(kept(), place(), Next :: none | place(), none | meerkat_ticket:key(), now()) ->
    mobility().
adopted({Good, Resumed}, Place, Next, Key, Now) ->
    #mobility{place = Place, next = Next, good = Good, key = Key,
              resumed = case Resumed of
                  none -> none;
                  {Spent, Client, Id, Left} -> {Spent, Client, Id, Now + Left}
              end}.
