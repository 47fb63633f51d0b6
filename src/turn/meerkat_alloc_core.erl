%% An allocation as RFC 8656 describes it, without a process, a clock or a socket: events and the
%% time in, state and effects out. Requests arrive authenticated. Whether ports are free and peers
%% permitted only the relay knows; until it has said so, no further request may be handed in.
-module(meerkat_alloc_core).

-include("meerkat_alloc_state.hrl").

-export([new/4, handle/3, foretold/1, release/1]).

-export_type([alloc/0, limits/0, event/0, effect/0, response/0, place/0, ending/0]).
-export_type([awaiting/0, relayed/0, counters/0]).

-import(meerkat_alloc_request, [owner/1, refused/1, unknown_attributes/1, unknown/1, lifetime/2,
                                within/2, malformed_fault/2, first_of/1, get/3, family/1,
                                number/1]).

-type address() :: {inet:ip_address(), inet:port_number()}.
-type family() :: 4 | 6.
-type plan() :: meerkat_alloc_admit:plan().
%% Milliseconds of a monotonic clock.
-type now() :: integer().

%% What the configuration allows. Pools are the addresses relayed from: the relay's number for each
%% and the IP it has on this host; a family without one is not there. Lifetimes in seconds.
-type limits() :: #{default_lifetime := pos_integer(),
                    max_lifetime := pos_integer(),
                    max_peers := pos_integer(),
                    %% New peers of an allocation per second; 0 is no limit.
                    new_peers => non_neg_integer(),
                    channel_max := 16#4fff | 16#7fff,
                    pools := #{family() => [{Pool :: pos_integer(), inet:ip_address()}, ...]},
                    %% TCP relayed (RFC 6062) where it is allowed.
                    tcp => meerkat_alloc_tcp:limits(),
                    %% Mobility (RFC 8016) where it is allowed.
                    tickets => meerkat_ticket:key(),
                    _ => _}.

%% Where the request came in.
-type place() :: #{listener := non_neg_integer(), transport := byte(), client := address(),
                   server := address(), _ => _}.

-type event() ::
    %% From the client. Never while a reply is awaited. With the limits that hold now.
    {request, meerkat_alloc_request:request()}
    %% From the relay: replies, SESSION_GONE, SESSION_STATS, SESSION_MOVED, DISCONNECTED; and
    %% CONNECTED, with in_use and limits as in meerkat_alloc_request:request().
    | {relay, meerkat_ctl:ref(), meerkat_ctl:message()}
    %% An administrator ends it, or a newer one of its user that takes its place. As requests: never
    %% while a reply is awaited.
    | {disconnect, admin | replaced}
    %% A reply did not come in time.
    | relay_silent
    %% The relay has died. Replies that are awaited will not come.
    | relay_down
    %% Another relay is up, with addresses, listeners and peer rules, but without this allocation.
    | relay_up
    %% All allocations that are replayed have their addresses there.
    | relay_whole
    %% The time of `later` is over.
    | again.

%% Everything an allocation can do to the world.
-type effect() ::
    %% A command whose outcome does not matter.
    {tell, meerkat_ctl:message()}
    %% A command whose reply decides; no request until it is there.
    | {ask, meerkat_ctl:ref(), meerkat_ctl:message()}
    %% To the request last handed in; `none` leaves the client without an answer. Every request
    %% earns exactly one of these.
    | {answer, response() | none}
    %% In place of that: its answer comes later, and others may be handed in meanwhile.
    | {defer, Peer :: address()}
    %% To the request that was deferred for that peer.
    | {late, Peer :: address(), response()}
    %% Nobody asked for it: ConnectionAttempt.
    | {indicate, connection_attempt, attributes()}
    %% ConnectionBind may name this connection from here on, or not any more.
    | {await, meerkat_alloc_tcp:connection()}
    | {unawait, meerkat_alloc_tcp:connection()}
    %% So many connections with peers there are now.
    | {connections, non_neg_integer()}
    %% From here on requests of this 5-tuple too are ours.
    | {meet, place()}
    %% From here on this 5-tuple is free for another allocation.
    | {part, place()}
    %% From here on all of them are, tickets name nothing, and another may have the place.
    | forget
    %% The same where the place was given back when the relay told of the end (meerkat_grants).
    | forgotten
    %% This user, and no other, may redeem the token for a port of that family.
    | {hold, Token :: pos_integer(), family()}
    %% Nobody may any more.
    | {release, Token :: pos_integer()}
    %% The event `again`, so many milliseconds from now.
    | {later, Ms :: pos_integer()}
    %% What became of relay_up: its addresses are there again, and relay_whole is awaited; the relay
    %% has all of it again; its time was over; it cannot be had.
    | {replayed, there | ok | over | lost}
    | {log, logger:level(), io:format(), [term()]}
    %% The end; the last effect.
    | {stop, ending()}.

-type response() :: {success, attributes()} | {error, 300 | 400..599, attributes()}.
-type attributes() :: [{meerkat_stun:attribute_name(), term()}].
%% Why it is over, with the counters of all relays it had, as far as they are known. `never_made`:
%% the relay could not make it. `not_replayed`: the new one could not make it again.
-type ending() :: {deleted | expired | socket_error | closed | admin | replaced, Counters :: map()}
                | relay_down | relay_silent | {not_replayed, meerkat_ctl:status()}
                | {never_made, meerkat_ctl:status(), Detail :: binary()}.

-type awaiting() :: none
                  | create
                  | {refresh, [family()], Lifetime :: non_neg_integer(), ticket | none}
                  | {move, [family()], Lifetime :: non_neg_integer(), place(),
                     meerkat_stun:transaction_id()}
                  | {permit, [inet:ip_address()]}
                  | {bind, Number :: char(), Peer :: address()}
                  | {join, meerkat_alloc_tcp:connection()}
                  | {replay, TryUntil :: now()}
                  | whole
                  | deleted.

%% Its inside is meerkat_alloc_state.hrl.
-type alloc() :: #alloc{}.

-type relayed() :: {family(), Pool :: pos_integer(), address()}.

%% As in session_gone.
-type counters() :: #{atom() => non_neg_integer()}.

%% The kernel keeps the sockets of a program that was killed until it has torn down its rings:
%% measured 4 ms, with 10,000 of them 60.
-define(REPLAY_MS, 3000).
-define(AGAIN_MS, 10).
%% A client that refreshes all the time does not have its counters asked for each time.
-define(ASK_MS, 10000).
-define(ANY_POOL, 16#ffffffff).     % ctl.def, ALLOC_CREATE

%%% The life of one

%% Starts making the allocation that meerkat_alloc_admit allowed, under a session id of its
%% worker's.
-spec new(plan(), Session :: non_neg_integer(), place(), limits()) -> {alloc(), [effect()]}.
new(Plan, Session, Place, Limits) ->
    #{families := Families, even := Even, token := Token, lifetime := Lifetime} = Plan,
    Mobility = meerkat_alloc_mobility:new(Place, maps:get(tickets, Limits, none)),
    Alloc = #alloc{session = Session, plan = Plan, mobility = Mobility},
    Create = meerkat_alloc_commands:create(Session, Plan, Place, #{
        pool_v4 => pool(4, Families, Place, Limits),
        pool_v6 => pool(6, Families, Place, Limits),
        port_v4 => 0,
        port_v6 => 0,
        even => Even,
        token => Token,
        lifetime_ms => Lifetime * 1000}),
    ask(Create, create, Alloc).

%% Where there are several: the address that the client came to, while it has ports; else the relay
%% takes the one with most ports free.
pool(Family, Families, #{server := {Ip, _}}, #{pools := Pools}) ->
    case {lists:member(Family, Families), Pools} of
        {true, #{Family := [{Only, _}]}} ->
            Only;
        {true, #{Family := Those}} ->
            hd([Pool || {Pool, Local} <- Those, Local =:= Ip] ++ [?ANY_POOL]);
        _ ->
            0
    end.

-spec handle(event(), now(), alloc()) -> {alloc(), [effect()]}.
handle({request, Request}, Now, #alloc{awaiting = none} = Alloc) ->
    request(Request, Now, prune(Now, Alloc));
handle({relay, Ref, {alloc_created, Created}}, Now, #alloc{awaiting = create, ref = Ref} = Alloc) ->
    created(Created, Now, Alloc#alloc{awaiting = none});
handle({relay, Ref, {alloc_created, #{status := Status}}}, Now,
       #alloc{awaiting = {replay, Until}, ref = Ref} = Alloc) ->
    recreated(Status, Until, Now, Alloc);
handle({relay, _Ref, {connected, Fields}}, _Now, Alloc) ->
    connected(Fields, Alloc);
handle({relay, _Ref, {disconnected, #{connection := Id}}}, _Now, #alloc{tcp = Tcp0} = Alloc) ->
    Tcp = meerkat_alloc_tcp:disconnected(Id, Tcp0),
    {Alloc#alloc{tcp = Tcp}, [{unawait, Id}, connections(Tcp)]};
handle({relay, _Ref, {session_gone, _}} = Gone, Now, #alloc{awaiting = whole} = Alloc) ->
    handle(Gone, Now, Alloc#alloc{awaiting = none});
handle(relay_whole, Now, #alloc{awaiting = whole} = Alloc) ->
    whole(Now, prune(Now, Alloc#alloc{awaiting = none}));
handle({relay, _Ref, {reply, _}}, _Now, #alloc{awaiting = {replay, _}} = Alloc) ->
    {Alloc, []};
handle({relay, Ref, {reply, #{status := Status, detail := Detail}}}, Now,
       #alloc{awaiting = Awaiting, ref = Ref} = Alloc)
  when Awaiting =/= none, Awaiting =/= deleted, Awaiting =/= whole ->
    reply(Awaiting, Status, Detail, Now, Alloc#alloc{awaiting = none});
handle({disconnect, By}, _Now, #alloc{awaiting = none} = Alloc) ->
    {Alloc#alloc{awaiting = deleted, ended_by = By}, [delete(Alloc), forget] ++ release(Alloc)};
handle({relay, _Ref, {session_moved, #{client := Client}}}, _Now, Alloc) ->
    arrived(Client, Alloc);
handle({relay, _Ref, {session_gone, Gone}}, _Now, Alloc) ->
    Counters = sum(maps:without([session, reason], Gone), Alloc#alloc.before),
    stop(refused(437), [], {gone_reason(maps:get(reason, Gone), Alloc), Counters}, Alloc);
handle({relay, _Ref, {session_stats, Stats}}, _Now, Alloc) ->
    Counted = maps:without([session, connections, shortcuts], Stats),
    Seen = maps:filter(fun(_Name, N) -> N > 0 end, Counted),
    {Alloc#alloc{seen = Seen}, []};
handle({relay, _Ref, _Late}, _Now, Alloc) ->
    {Alloc, []};
handle(relay_silent, _Now, #alloc{awaiting = deleted, before = Before} = Alloc) ->
    stop(none, [], {Alloc#alloc.ended_by, Before}, Alloc);
handle(relay_silent, _Now, #alloc{awaiting = {replay, _}} = Alloc) ->
    stop(none, [delete(Alloc), {replayed, lost}], relay_silent, Alloc#alloc{awaiting = none});
handle(relay_silent, _Now, Alloc) ->
    stop(none, [delete(Alloc)], relay_silent, Alloc);
handle(relay_down, Now, #alloc{before = Before, seen = Seen} = Alloc) ->
    relay_down(Now, Alloc#alloc{before = sum(Seen, Before), seen = #{}, asked = Now});
handle(relay_up, Now, #alloc{awaiting = none} = Alloc) ->
    replay(Now + ?REPLAY_MS, Now, prune(Now, Alloc));
handle(again, Now, #alloc{awaiting = {replay, Until}} = Alloc) ->
    replay(Until, Now, prune(Now, Alloc));
handle(again, _Now, Alloc) ->
    {Alloc, []}.

%% The answer to the request being handled, for the case that the relay does what it was asked last.
%% `none` where only its reply tells.
-spec foretold(alloc()) -> response() | none.
foretold(#alloc{awaiting = {refresh, _, Lifetime, Ticket}} = Alloc) ->
    refresh_success(Lifetime, Ticket, Alloc);
foretold(#alloc{awaiting = {permit, _}}) -> {success, []};
foretold(#alloc{awaiting = {bind, _, _}}) -> {success, []};
foretold(#alloc{awaiting = {join, _}}) -> {success, []};
foretold(#alloc{}) -> none.

gone_reason(0, #alloc{ended_by = By}) -> By;
gone_reason(1, _Alloc) -> expired;
gone_reason(2, _Alloc) -> socket_error;
gone_reason(3, _Alloc) -> closed.

%%% Requests

request(#{move := _} = Request, Now, Alloc) ->
    resume(Request, Now, Alloc);
request(#{join := _} = Request, _Now, Alloc) ->
    join(Request, Alloc);
request(#{message := #{method := connect}} = Request, Now,
        #alloc{plan = #{protocol := 6}} = Alloc) ->
    paced(connect(Request, Alloc), Request, Now, Alloc);
request(#{message := #{method := Method}} = Request, Now, #alloc{plan = Plan} = Alloc) ->
    case owner(Request) =:= owner(Plan) of
        true -> paced(owned(Method, Request, Alloc), Request, Now, Alloc);
        %% RFC 8656 7.2, 2: the 5-tuple is in use, whoever asks; a client may try another port.
        false when Method =:= allocate -> {Alloc, [{answer, refused(437)}]};
        false -> {Alloc, [{answer, refused(441)}]}
    end.

%% What was decided, unless it would be a new peer too soon after others: then nothing is done.
paced({#alloc{held = Held} = Alloc, Effects}, #{limits := #{new_peers := N}}, Now,
      #alloc{tcp = Tcp} = Before) when N > 0 ->
    Ips = [Ip || Ip <- wanted(Alloc, Effects), not meerkat_alloc_tcp:has_peer(Ip, Tcp)],
    case meerkat_alloc_held:paced(Ips, N, Now, Held) of
        {ok, Paced} -> {Alloc#alloc{held = Paced}, Effects};
        too_fast -> {Before, [{answer, refused(508)}]}
    end;
paced(Decided, _Request, _Now, _Before) ->
    Decided.

%% The peers that the relay is asked for.
wanted(#alloc{awaiting = {permit, Ips}}, _Effects) -> Ips;
wanted(#alloc{awaiting = {bind, _Number, {Ip, _Port}}}, _Effects) -> [Ip];
wanted(#alloc{}, Effects) -> [Ip || {defer, {Ip, _Port}} <- Effects].

owned(Method, #{message := Message, limits := Limits} = Request, Alloc) ->
    case {unknown(Message), malformed_fault(Method, Message)} of
        {[_ | _] = Unknown, _} -> {Alloc, [{answer, unknown_attributes(Unknown)}]};
        {[], false} -> method(Method, Message, within(Request, Limits), Alloc);
        %% A second Allocate earns 437 whatever it says (K9).
        {[], _} when Method =:= allocate -> method(Method, Message, Limits, Alloc);
        {[], Response} -> {Alloc, [{answer, Response}]}
    end.

%% Allocate again: the same transaction is answered the same, byte for byte (RFC 8656 7.2).
method(allocate, #{transaction_id := Id}, _, #alloc{plan = #{transaction_id := Id}} = Alloc) ->
    {Alloc, [{answer, allocated(Alloc)}]};
method(allocate, _Message, _Limits, Alloc) ->
    {Alloc, [{answer, refused(437)}]};
method(refresh, Message, Limits, Alloc) ->
    case refreshed(Message, Limits, Alloc) of
        none -> {Alloc, [{answer, refused(443)}]};
        all_over -> delete_all(Alloc);
        {Families, Lifetime} -> refresh(Families, Lifetime, none, Alloc)
    end;
method(create_permission, Message, #{max_peers := Max}, #alloc{held = Held} = Alloc) ->
    Peers = meerkat_stun:get_all(xor_peer_address, Message),
    Ips = lists:usort([Ip || {Ip, _Port} <- Peers]),
    case meerkat_alloc_held:permission_fault(Ips, Max, Held) of
        false -> permit(Ips, Alloc);
        Response -> {Alloc, [{answer, Response}]}
    end;
%% RFC 6062 has none.
method(channel_bind, _Message, _Limits, #alloc{plan = #{protocol := 6}} = Alloc) ->
    {Alloc, [{answer, refused(400)}]};
method(channel_bind, Message, Limits, #alloc{held = Held} = Alloc) ->
    Number = get(channel_number, Message, none),
    Peer = get(xor_peer_address, Message, none),
    case meerkat_alloc_held:channel_fault(Number, Peer, Limits, Held) of
        false -> bind(Number, Peer, Alloc);
        Response -> {Alloc, [{answer, Response}]}
    end;
method(_Method, _Message, _Limits, Alloc) ->
    {Alloc, [{answer, refused(400)}]}.

%%% Allocate

created(#{status := ok, token := Token} = Created, Now, #alloc{plan = Plan0} = Alloc0) ->
    [_ | _] = Bound =
        [{Family, maps:get(Pool, Created), Address}
         || {Family, Pool, Field} <- [{4, pool_v4, relayed_v4}, {6, pool_v6, relayed_v6}],
            {_, _} = Address <- [maps:get(Field, Created)]],
    #{lifetime := Lifetime, token := Redeemed} = Plan = address_errors(Bound, Plan0),
    Alloc = Alloc0#alloc{
        plan = Plan,
        relayed = Bound,
        token = Token,
        asked = Now,
        held = meerkat_alloc_held:relayed([Family || {Family, _, _} <- Bound],
                                          Now + Lifetime * 1000)},
    %% Held before the answer tells of it: a client may redeem at once.
    {Alloc, [{hold, Token, Family} || Token =/= 0, [{Family, _, _}] <- [Bound]]
         ++ [{release, Redeemed} || Redeemed =/= 0]
         ++ [{answer, allocated(Alloc)}]};
created(#{status := Status, detail := Detail}, _Now,
        #alloc{plan = #{token := Token}} = Alloc) ->
    Response = case Status of
        conflict -> refused(437);
        _ -> refused(508)
    end,
    Useless = [{release, Token} || Status =:= bad_token],
    stop(Response, Useless, {never_made, Status, Detail}, Alloc#alloc{awaiting = create}).

%% Of two addresses wanted the relay may have found one (RFC 8656 7.2, 9).
address_errors(Bound, #{additional := true, families := Families} = Plan) ->
    Missing = [{number(F), 508} || F <- Families, not lists:keymember(F, 1, Bound)],
    Plan#{address_errors := maps:get(address_errors, Plan) ++ Missing};
address_errors(_Bound, Plan) ->
    Plan.

%% K21: these attributes and no others, but for what was asked for.
allocated(#alloc{session = Session, plan = Plan, relayed = Relayed, token = Token,
                 mobility = Mobility}) ->
    #{lifetime := Lifetime, client := Client, address_errors := Errors, mobile := Mobile} = Plan,
    {success, [{xor_relayed_address, Address} || {_, _, Address} <- Relayed]
           ++ [{lifetime, Lifetime}]
           ++ [{reservation_token, Token} || Token =/= 0]
           ++ [{mobility_ticket, meerkat_alloc_mobility:first_ticket(Session, Mobility)} || Mobile]
           ++ [{xor_mapped_address, Client}]
           ++ [{address_error_code, {Family, Code, <<>>}} || {Family, Code} <- Errors]}.

%%% Refresh (RFC 8656 8.2)

%% Of the addresses that live, those a request is about and for how long.
refreshed(Message, Limits, #alloc{held = Held}) ->
    Alive = meerkat_alloc_held:families(Held),
    Meant = case meerkat_stun:get(requested_address_family, Message) of
        error -> Alive;
        {ok, Number} -> [F || F <- Alive, F =:= family(Number)]
    end,
    case {Meant, meerkat_stun:get(lifetime, Message)} of
        {[], _} -> none;
        {Alive, {ok, 0}} -> all_over;
        {_, {ok, 0}} -> {Meant, 0};
        {_, _} -> {Meant, lifetime(Message, Limits)}
    end.

%% `ticket`: the answer brings the one that is good now.
refresh(Families, Lifetime, Ticket, #alloc{session = Session, held = Held} = Alloc) ->
    Which = case {Families, meerkat_alloc_held:families(Held)} of
        {[Family], [_, _]} -> Family;
        _ -> all
    end,
    Command = meerkat_alloc_commands:refresh(Session, Which, Lifetime * 1000),
    ask(Command, {refresh, Families, Lifetime, Ticket}, Alloc).

refresh_success(Lifetime, none, _Alloc) ->
    {success, [{lifetime, Lifetime}]};
refresh_success(Lifetime, ticket, #alloc{session = Session, mobility = Mobility}) ->
    {success, [{lifetime, Lifetime},
               {mobility_ticket, meerkat_alloc_mobility:ticket(Session, Mobility)}]}.

%% Awaits SESSION_GONE, which brings the counters; the 5-tuple is free at once.
delete_all(Alloc) ->
    {Alloc#alloc{awaiting = deleted},
     [delete(Alloc), forget] ++ release(Alloc) ++ [{answer, {success, [{lifetime, 0}]}}]}.

%%% Refresh with a ticket (RFC 8016 3.2.2). One move is pending at a time: the relay keeps the old
%%% 5-tuple until the client has spoken from the new one.

resume(#{message := Message, limits := Limits, move := Move} = Request, Now, Alloc) ->
    #{ticket := Ticket, place := Place, taken := Taken} = Move,
    #alloc{plan = Plan, mobility = Mobility} = Alloc,
    Again = meerkat_alloc_mobility:is_again(Request, Now, Mobility),
    Fault = first_of([
        {unknown(Message) =/= [], unknown_attributes(unknown(Message))},
        {malformed_fault(refresh, Message) =/= false, refused(400)},
        {not Again andalso not meerkat_alloc_mobility:is_good(Ticket, Mobility), refused(400)},
        {not Again andalso meerkat_alloc_mobility:is_here(Place, Mobility), refused(400)},
        {owner(Request) =/= owner(Plan), refused(441)},
        {Taken, refused(437)}
    ]),
    case {Fault, refreshed(Message, within(Request, Limits), Alloc)} of
        {false, none} -> {Alloc, [{answer, refused(443)}]};
        {false, all_over} -> delete_all(Alloc);
        {false, {Families, Lifetime}} when Again -> refresh(Families, Lifetime, ticket, Alloc);
        {false, {Families, Lifetime}} -> move(Families, Lifetime, Place, Message, Alloc);
        {Response, _} -> {Alloc, [{answer, Response}]}
    end.

%% Requests from the new 5-tuple reach this allocation from now on, before the relay has replied.
move(Families, Lifetime, Place, #{transaction_id := Id}, #alloc{session = Session} = Alloc0) ->
    Command = meerkat_alloc_commands:move(Session, Place),
    {Alloc, Effects} = ask(Command, {move, Families, Lifetime, Place, binary:copy(Id)}, Alloc0),
    {Alloc, [{meet, Place} | Effects]}.

%% The relay expects the client at the new place, and at none that it was to move to before.
moved(Families, Lifetime, Place, Id, Now, #alloc{mobility = Mobility0} = Alloc0) ->
    {Left, Mobility} = meerkat_alloc_mobility:spend(Place, Id, Now, Mobility0),
    {Alloc, Effects} = refresh(Families, Lifetime, ticket, Alloc0#alloc{mobility = Mobility}),
    {Alloc, [{part, Left} || Left =/= none] ++ Effects}.

%% The client has spoken from where it was to go.
arrived(Client, #alloc{mobility = Mobility0} = Alloc) ->
    case meerkat_alloc_mobility:arrived(Client, Mobility0) of
        elsewhere ->
            {Alloc, []};
        {#{client := Before} = Left, Mobility} ->
            {Alloc#alloc{mobility = Mobility},
             [{part, Left}, {log, info, "allocation moved: client ~ts, before ~ts",
                             [meerkat_text:address(Client), meerkat_text:address(Before)]}]}
    end.

%%% CreatePermission (RFC 8656 10.2): all of its peers or none

permit(Ips, #alloc{session = Session} = Alloc) ->
    Command = meerkat_alloc_commands:permit(Session, Ips, meerkat_alloc_commands:permission_ms()),
    ask(Command, {permit, Ips}, Alloc).

%%% ChannelBind (RFC 8656 12.2)

bind(Number, Peer, #alloc{session = Session} = Alloc) ->
    Command = meerkat_alloc_commands:channel(Session, Number, Peer,
                                             meerkat_alloc_commands:channel_ms(),
                                             meerkat_alloc_commands:permission_ms()),
    ask(Command, {bind, Number, Peer}, Alloc).

%%% Connections with peers over TCP (RFC 6062)

connect(Request, #alloc{plan = Plan, held = Held, tcp = Tcp0} = Alloc) ->
    [Family | _] = meerkat_alloc_held:families(Held),
    IsOwner = owner(Request) =:= owner(Plan),
    case meerkat_alloc_tcp:connect(Request, IsOwner, Family, tcp_limits(Request, Alloc), Tcp0) of
        {ok, Peer, Tcp} ->
            Command = meerkat_alloc_commands:connect(Alloc#alloc.session, Peer),
            {Alloc#alloc{tcp = Tcp}, [connections(Tcp), {defer, Peer}, {tell, Command}]};
        Response ->
            {Alloc, [{answer, Response}]}
    end.

tcp_limits(#{limits := Limits}, #alloc{plan = Plan}) ->
    meerkat_alloc_tcp:limits(Limits, Plan).

connected(Fields, #alloc{session = Session, tcp = Tcp0} = Alloc) ->
    case meerkat_alloc_tcp:connected(Fields, tcp_limits(Fields, Alloc), Tcp0) of
        {answer, Peer, Response, Tcp} ->
            Await = [{await, Id} || {success, [{connection_id, Id}]} <- [Response]],
            {Alloc#alloc{tcp = Tcp}, Await ++ [connections(Tcp), {late, Peer, Response}]};
        {attempt, Id, Peer, Tcp} ->
            Attributes = [{xor_peer_address, Peer}, {connection_id, Id}],
            {Alloc#alloc{tcp = Tcp}, [{await, Id}, connections(Tcp),
                                      {indicate, connection_attempt, Attributes}]};
        {refuse, Id} ->
            {Alloc, [{tell, meerkat_alloc_commands:disconnect(Session, Id)}]}
    end.

connections(Tcp) ->
    {connections, meerkat_alloc_tcp:count(Tcp)}.

%% Its connections with peers were another relay's.
forsaken(Tcp) ->
    [{unawait, Id} || Id <- meerkat_alloc_tcp:waiting(Tcp)]
        ++ [connections(meerkat_alloc_tcp:none()) || meerkat_alloc_tcp:count(Tcp) > 0].

join(#{join := #{connection := Id, flow := Flow}} = Request,
     #alloc{plan = Plan, session = Session, tcp = Tcp} = Alloc) ->
    case meerkat_alloc_tcp:join_fault(Request, owner(Request) =:= owner(Plan), Tcp) of
        false -> ask(meerkat_alloc_commands:join(Session, Id, Flow), {join, Id}, Alloc);
        Response -> {Alloc, [{answer, Response}]}
    end.

%%% What the relay replied

reply({refresh, Families, 0, Ticket}, ok, _Detail, _Now, #alloc{held = Held} = Alloc) ->
    Dropped = Alloc#alloc{held = meerkat_alloc_held:drop(Families, Held)},
    {Dropped, [{answer, refresh_success(0, Ticket, Alloc)}]};
reply({refresh, Families, Lifetime, Ticket}, ok, _Detail, Now, #alloc{held = Held} = Alloc) ->
    Extended = meerkat_alloc_held:extend(Families, Now + Lifetime * 1000, Held),
    {Refreshed, Ask} = ask_counters(Now, Alloc#alloc{held = Extended}),
    {Refreshed, [{answer, refresh_success(Lifetime, Ticket, Alloc)} | Ask]};
reply({move, Families, Lifetime, Place, Id}, ok, _Detail, Now, Alloc) ->
    moved(Families, Lifetime, Place, Id, Now, Alloc);
reply({move, _, _, Place, _}, Status, _Detail, _Now, Alloc) when Status =/= gone ->
    {Alloc, [{part, Place}, {answer, refused(case Status of conflict -> 437; _ -> 500 end)}]};
reply({permit, Ips}, ok, _Detail, Now, #alloc{held = Held} = Alloc) ->
    {Alloc#alloc{held = meerkat_alloc_held:permit(Ips, Now, Held)}, [{answer, {success, []}}]};
reply({bind, Number, Peer}, ok, _Detail, Now, #alloc{held = Held} = Alloc) ->
    {Alloc#alloc{held = meerkat_alloc_held:bind(Number, Peer, Now, Held)},
     [{answer, {success, []}}]};
reply({join, Id}, ok, _Detail, _Now, #alloc{tcp = Tcp} = Alloc) ->
    {Alloc#alloc{tcp = meerkat_alloc_tcp:joined(Id, Tcp)},
     [{unawait, Id}, {answer, {success, []}}]};
%% It has just ended, or its client has.
reply({join, _Id}, gone, _Detail, _Now, Alloc) ->
    {Alloc, [{answer, refused(400)}]};
reply(create, Status, _Detail, Now, Alloc) ->
    created(#{status => Status}, Now, Alloc);
reply(_Awaiting, gone, _Detail, _Now, Alloc) ->
    %% It has just ended; SESSION_GONE says how.
    {Alloc#alloc{awaiting = deleted}, [forget] ++ release(Alloc) ++ [{answer, refused(437)}]};
reply(Awaiting, forbidden, _Detail, _Now, Alloc)
  when element(1, Awaiting) =:= permit; element(1, Awaiting) =:= bind ->
    {Alloc, [{answer, refused(403)}]};
reply(_Awaiting, full, _Detail, _Now, Alloc) ->
    {Alloc, [{answer, refused(508)}]};
reply(_Awaiting, family, _Detail, _Now, Alloc) ->
    {Alloc, [{answer, refused(443)}]};
reply(_Awaiting, conflict, _Detail, _Now, Alloc) ->
    {Alloc, [{answer, refused(400)}]};
reply(Awaiting, Status, Detail, _Now, Alloc) ->
    {Alloc, [{log, warning, "relay refused ~tp: ~ts, ~ts",
              [Awaiting, Status, meerkat_text:escape(Detail)]},
             {answer, refused(500)}]}.

%% Asks for what has been counted by now: if the relay dies, its counters are lost.
ask_counters(Now, #alloc{asked = Asked, session = Session} = Alloc) when Now - Asked >= ?ASK_MS ->
    {Alloc#alloc{asked = Now}, [{tell, meerkat_alloc_commands:stats(Session)}]};
ask_counters(_Now, Alloc) ->
    {Alloc, []}.

%%% The relay dies, and another takes its place. What clients and peers hold stays: the relayed
%%% address, and the rest for the time it had left. A port reserved for a second allocation does
%%% not: it is held for 30 s, and a client that is refused asks without its token.

relay_down(Now, #alloc{awaiting = Awaiting} = Alloc0) ->
    Released = release(Alloc0),
    Alloc = Alloc0#alloc{awaiting = none, token = 0},
    case Awaiting of
        none -> {Alloc, Released};
        {replay, _} -> {Alloc, Released};
        whole -> {Alloc, Released};
        create -> stop(none, [], relay_down, Alloc0);
        deleted -> stop(none, [], {Alloc#alloc.ended_by, Alloc#alloc.before}, Alloc0);
        %% The client will show the same ticket again.
        {move, _, _, Place, _} -> {Alloc, Released ++ [{part, Place}, {answer, none}]};
        _ ->
            %% The relay may have done it and sent the answer before it died, so it counts as done.
            {Done, _} = reply(Awaiting, ok, <<>>, Now, Alloc),
            {Done, Released ++ [{answer, none}]}
    end.

%% The relay makes it again as a whole or not at all.
replay(Until, Now, #alloc{before = Before} = Alloc) ->
    case meerkat_alloc_restore:create(Now, Alloc) of
        over -> stop(none, [{replayed, over}], {expired, Before}, Alloc#alloc{awaiting = none});
        Command -> ask(Command, {replay, Until}, Alloc)
    end.

recreated(ok, _Until, _Now, #alloc{tcp = Tcp} = Alloc) ->
    {Alloc#alloc{awaiting = whole, tcp = meerkat_alloc_tcp:none()},
     forsaken(Tcp) ++ [{replayed, there}]};
%% Only a port may become free a moment later.
recreated(no_ports, Until, Now, Alloc) when Now < Until ->
    {Alloc, [{later, ?AGAIN_MS}]};
recreated(Status, _Until, _Now, Alloc) ->
    stop(none, [{replayed, lost}], {not_replayed, Status}, Alloc#alloc{awaiting = none}).

%% The rest of its state. What has ended since the address was asked for is left out.
whole(Now, Alloc) ->
    Commands = meerkat_alloc_restore:commands(Now, Alloc),
    {Alloc, [{tell, Command} || Command <- Commands] ++ [{replayed, ok}]}.

sum(Counters, Others) when map_size(Others) =:= 0 ->
    Counters;
sum(Counters, Others) ->
    maps:fold(fun(Name, N, Sum) -> maps:update_with(Name, fun(M) -> M + N end, N, Sum) end,
              Counters, Others).

%%% Effects

ask(Command, Awaiting, #alloc{ref = Last} = Alloc) ->
    Ref = Last + 1,
    {Alloc#alloc{ref = Ref, awaiting = Awaiting}, [{ask, Ref, Command}]}.

delete(#alloc{session = Session}) ->
    {tell, meerkat_alloc_commands:delete(Session)}.

%% What becomes of the port that it holds for a second allocation.
-spec release(alloc()) -> [effect()].
release(#alloc{token = 0}) -> [];
release(#alloc{token = Token}) -> [{release, Token}].

%% The end. A request still unanswered gets Response. After delete_all/1 the 5-tuple may already
%% be somebody else's.
stop(_Response, Effects, Ending, #alloc{awaiting = deleted} = Alloc) ->
    {Alloc, Effects ++ [{stop, Ending}]};
stop(Response, Effects, Ending, #alloc{awaiting = Awaiting} = Alloc) ->
    {Alloc, Effects ++ [forget] ++ release(Alloc)
         ++ [{answer, Response} || Awaiting =/= none] ++ [{stop, Ending}]}.

%% Drops what has expired: the relay has dropped it by itself.
prune(Now, #alloc{held = Held} = Alloc) ->
    Alloc#alloc{held = meerkat_alloc_held:prune(Now, Held)}.
