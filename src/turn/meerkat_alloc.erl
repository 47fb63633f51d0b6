%% The process around one meerkat_alloc_core: carries out its effects and keeps its timers. However
%% it ends, the relay is told to end the session, and the request being handled is answered or
%% dropped.
%%
%%   beginning  waits for the Allocate that it was started for, and for a place (meerkat_quota)
%%   awaiting   a command is with the relay, or soon will be again; requests wait
%%   serving    nothing to do until a request comes: asleep
%%   leaving    the 5-tuple is free; SESSION_GONE is due, or only what came late is left to do
-module(meerkat_alloc).
-behaviour(gen_statem).

-include_lib("kernel/include/logger.hrl").

-export([start_link/2, start_link/3]).
-export([info/1, infos/1, account/1, disconnect/1, replay/3, whole/3]).
-export([callback_mode/0, init/1, terminate/3]).
-export([beginning/3, awaiting/3, serving/3, leaving/3]).
%% Internal: where a process begins.
-export([await/2]).

-record(data, {
    name :: atom(),
    session :: non_neg_integer(),
    keys :: [meerkat_alloc_table:key()],           % by which requests find us
    wire :: meerkat_wire:wire(),
    core :: meerkat_alloc_core:alloc(),
    replayer = none :: pid() | none,            % who waits to hear of it
    job :: meerkat_request:job() | undefined,   % the request in hand
    %% Those that are answered later: Connects, by their peers.
    deferred = #{} :: #{{inet:ip_address(), inet:port_number()} => meerkat_request:job()},
    user :: meerkat_quota:of_realm(),           % whose connections with peers are counted
    %% What the relay has to answer it with, and since when, in microseconds.
    promised = none :: {meerkat_alloc_core:response(), integer()} | none,
    said = none :: meerkat_refusal:cause(),     % by the relay, to the request in hand
    refusals = [] :: meerkat_refusal:memory(),
    given = none :: meerkat_grants:given(),     % to the relay there is now
    awaited = [] :: [gen_statem:from()],        % who waits for the end
    %% The answer to the request in hand, where it is sent only when the session has ended.
    parting = none :: none | meerkat_alloc_core:response(),
    proof = none :: none | meerkat_auth:proof(),    % of the request it was made by
    started :: integer(),
    over = false :: boolean()                   % the core has said stop
}).

-export_type([adopted/0]).

%% Before there is an allocation: with the Allocate, once it is there.
-type beginning() :: {Name :: atom(), Session :: non_neg_integer()}
                   | {Name :: atom(), Session :: non_neg_integer(), meerkat_request:job()}.

%% The wire to the relay, the commands that would make the allocation there, its note, and when it
%% began.
-type adopted() :: {meerkat_wire:wire(), [meerkat_ctl:message(), ...], meerkat_alloc_restore:kept(),
                    Began :: integer()}.

%% A relay that takes longer is stuck; the client has retransmitted five times by then.
-define(REPLY_MS, 5000).
%% Long enough for the requests that follow an Allocate, also where the server is busy.
-define(HIBERNATE_MS, 250).

%% The process of an allocation to be. There is nothing that could fail before
%% meerkat_alloc_sup:allocate/3, so the supervisor, which all of them pass, need not wait for it.
-spec start_link(Name :: atom(), Session :: non_neg_integer()) -> {ok, pid()}.
start_link(Name, Session) ->
    {ok, proc_lib:spawn_link(?MODULE, await, [Name, Session])}.

%% The process of an allocation that the relay has and another VM has made (meerkat_adoption).
-spec start_link(Name :: atom(), Session :: non_neg_integer(), adopted()) ->
    {ok, pid()} | {error, term()}.
start_link(Name, Session, Adopted) ->
    gen_statem:start_link(?MODULE, {adopted, Name, Session, Adopted},
                          [{hibernate_after, ?HIBERNATE_MS}]).

%% meerkat_alloc_facts:details/2 of a process found in meerkat_registry, its session, age_ms and
%% refusals (meerkat_refusal:remembered/2).
-spec info(pid()) -> {ok, map()} | {error, gone}.
info(Pid) ->
    case infos([Pid]) of
        [Info] -> {ok, Info};
        [] -> {error, gone}
    end.

%% The same of many, in order, without those that are gone. All are asked before one is waited for.
-spec infos([pid()]) -> [map()].
infos(Pids) ->
    Requests = [gen_statem:send_request(Pid, info) || Pid <- Pids],
    [Info || Request <- Requests,
             {reply, Info} <- [gen_statem:receive_response(Request, ?REPLY_MS)]].

%% The process tells meerkat_ledger of its allocation as one that had begun before.
-spec account(pid()) -> ok.
account(Pid) ->
    Pid ! account,
    ok.

%% Ends the allocations, and how many there were; their clients are not told and find 437 at their
%% next request. They are over when this returns. All are asked before one is waited for.
-spec disconnect([pid()]) -> non_neg_integer().
disconnect(Pids) ->
    Requests = [gen_statem:send_request(Pid, disconnect) || Pid <- Pids],
    length([ok || Request <- Requests,
                  {reply, ok} <- [gen_statem:receive_response(Request, ?REPLY_MS)]]).

%% The wire to another relay: what the allocation had in the one before it is to have there. The
%% caller hears {replayed, Pid, there | over | lost}, unless Pid ends.
-spec replay(pid(), meerkat_wire:wire(), Caller :: pid()) -> ok.
replay(Pid, Wire, Caller) ->
    Pid ! {replay, Wire, Caller},
    ok.

%% Of those that said there: all the others are there too, so requests may come, and peers. The
%% caller hears {replayed, Pid, ok}, unless Pid ends.
-spec whole(pid(), meerkat_wire:wire(), Caller :: pid()) -> ok.
whole(Pid, Wire, Caller) ->
    Pid ! {whole, Wire, Caller},
    ok.

-spec callback_mode() -> gen_statem:callback_mode_result().
callback_mode() ->
    state_functions.

-spec init({adopted, Name :: atom(), Session :: non_neg_integer(), adopted()}) ->
    {ok, serving, #data{}, [gen_statem:action()]}.
init({adopted, Name, Session, Adopted}) ->
    {ok, serving, adopted(Name, Session, Adopted), [hibernate]}.

-spec await(Name :: atom(), Session :: non_neg_integer()) -> no_return().
await(Name, Session) ->
    gen_statem:enter_loop(?MODULE, [{hibernate_after, ?HIBERNATE_MS}], beginning, {Name, Session},
                          [{state_timeout, ?REPLY_MS, forgotten}]).

%% The Allocate is in the data while a place is asked for, so that it is answered whatever happens.
-spec beginning(gen_statem:event_type(), term(), beginning()) ->
    gen_statem:event_handler_result(atom()).
beginning(info, {allocate, Plan, Job}, {Name, Session}) ->
    {keep_state, {Name, Session, Job}, [{next_event, internal, {take, Plan}}]};
beginning(internal, {take, Plan}, {Name, Session, Job}) ->
    case meerkat_quota:take(Name, Session, Plan) of
        {ok, Bucket} -> begin_with(Plan#{bucket => Bucket}, Job, Name, Session);
        {error, Code, Keys, Where} -> refuse(Code, Keys, Where, Job, Name, Session)
    end;
%% Whoever started it was killed before it could say what for.
beginning(state_timeout, forgotten, {_Name, _Session}) ->
    stop;
beginning(_Type, _Event, _Data) ->
    {keep_state_and_data, postpone}.

%% Without a place no allocation is made, and there is nothing to monitor.
refuse(Code, Keys, Where, #{place := Place} = Job, Name, Session) ->
    ok = meerkat_alloc_table:forget(Name, five_tuple(Place), Session),
    Response = case Where of
        here -> meerkat_drain:full(Name, Place);
        everywhere -> {error, Code, []}
    end,
    _ = meerkat_request:answer(Name, Job, Response, {quota, Keys}),
    send_back_all(),
    {stop, normal, {Name, Session}}.

begin_with(#{bucket := Bucket, mobile := Mobile, realm := Realm, user := User} = Plan,
           #{wire := Wire, place := Place} = Job, Name, Session) ->
    FiveTuple = five_tuple(Place),
    ok = meerkat_alloc_table:enter(Name, FiveTuple, Session, User, self()),
    %% A ticket names the session, so that it is found from another address too.
    Keys = [FiveTuple | [Session || Mobile]],
    _ = Mobile andalso meerkat_alloc_table:claim(Name, Session, Session, self()),
    #{limits := Limits,
      bandwidth := #{allocation := OfOne, packets := Packets, user := OfUser}} =
        meerkat_settings:tenant(Realm, meerkat_registry:settings(Name)),
    Own = maps:get(own, Plan, #{}),
    Within = Plan#{bytes_per_s => maps:get(max_bps, Own, OfOne),
                   packets_per_s => maps:get(max_pps, Own, Packets)},
    {Core, Effects} = meerkat_alloc_core:new(Within, Session, Place, Limits),
    Rate = [{tell, Message} || Message <- meerkat_quota:rate(Name, Bucket, OfUser)],
    Data = #data{name = Name, session = Session, keys = Keys, wire = Wire, core = Core,
                 user = meerkat_alloc_request:holder(maps:get(request, Job)),
                 job = maps:remove(proof, Job), proof = maps:get(proof, Job, none),
                 started = meerkat_clock:now_ms()},
    run(beginning, Rate ++ Effects, Data).

adopted(Name, Session, {Wire, Commands, {Plan, _, _, _, _} = Kept, Began}) ->
    #{realm := Realm, user := User, mobile := Mobile, bucket := Bucket, client := {Ip, _}} = Plan,
    #{usernames := Order} = Settings = meerkat_registry:settings(Name),
    #{limits := Limits} = meerkat_settings:tenant(Realm, Settings),
    Now = meerkat_clock:now_ms(),
    Tickets = maps:get(tickets, Limits, none),
    Core = meerkat_alloc_restore:adopted(Session, Kept, Commands, Tickets, Now),
    Started = Now - (wall_ms() - Began),
    ok = meerkat_quota:adopt(Name, Session, Plan, Bucket, Started),
    [FiveTuple | Next] = [five_tuple(Place) || Place <- meerkat_alloc_restore:places(Core)],
    ok = meerkat_alloc_table:enter(Name, FiveTuple, Session, User, self()),
    Others = Next ++ [Session || Mobile],
    _ = [meerkat_alloc_table:claim(Name, Key, Session, self()) || Key <- Others],
    Data = #data{name = Name, session = Session, keys = [FiveTuple | Others], wire = Wire,
                 core = Core, user = {Realm, meerkat_quota:person(User, Ip, Order)},
                 started = Started},
    {Waiting, Count} = meerkat_alloc_restore:waiting(Core),
    lists:foldl(fun effect/2, Data,
                [{connections, Count} || Count > 0] ++ [{await, Id} || Id <- Waiting]).

wall_ms() ->
    erlang:convert_time_unit(meerkat_clock:wall(), native, millisecond).

-spec awaiting(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
awaiting(info, {request, _}, _Data) ->
    {keep_state_and_data, postpone};
awaiting({call, _}, disconnect, _Data) ->
    {keep_state_and_data, postpone};
awaiting(cast, replaced, _Data) ->
    {keep_state_and_data, postpone};
%% The relay may have sent the answer, and the client have it, before its reply is here.
awaiting({call, _}, info, #data{promised = {_, _}}) ->
    {keep_state_and_data, postpone};
awaiting(state_timeout, silent, #data{wire = Wire} = Data) ->
    %% A relay that is dead says nothing either.
    case is_process_alive(Wire) of
        false -> step(awaiting, relay_down, Data);
        true -> step(awaiting, relay_silent, Data)
    end;
awaiting(state_timeout, again, Data) ->
    step(awaiting, again, Data);
awaiting(info, {whole, Wire, Caller}, #data{wire = Wire} = Data) ->
    step(awaiting, relay_whole, Data#data{replayer = Caller});
awaiting(Type, Event, Data) ->
    common(awaiting, Type, Event, Data).

-spec serving(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
serving(info, {request, #{request := Request} = Job}, Data0) ->
    Data = caught_up(Data0),
    case is_ours(Job, Data) of
        true ->
            step(serving, {request, limited(in_use(Request, Data), Data)}, Data#data{job = Job});
        false ->
            ok = meerkat_request:again(Job),
            stay(serving, Data, [])
    end;
serving({call, From}, disconnect, Data) ->
    end_now(admin, Data#data{awaited = [From]});
serving(cast, replaced, Data) ->
    end_now(replaced, Data);
serving(Type, Event, Data) ->
    common(serving, Type, Event, Data).

%% Its client may have ended it just before.
end_now(By, #data{name = Name} = Data) ->
    ok = meerkat_grants:await(Name),
    case caught_up(Data) of
        #data{keys = []} = Ended -> stay(serving, Ended, []);
        Alive -> step(serving, {disconnect, By}, Alive)
    end.

%% Requests that were on their way here are sent back, to find the process that has the 5-tuple now.
-spec leaving(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
leaving(info, {request, Job}, _Data) ->
    ok = meerkat_request:again(Job),
    keep_state_and_data;
leaving(info, {unproven, Unproven}, _Data) ->
    ok = meerkat_request:judged(Unproven, <<>>, none),
    keep_state_and_data;
leaving(state_timeout, over, _Data) ->
    send_back_all(),
    stop;
leaving(state_timeout, silent, Data) ->
    step(leaving, relay_silent, Data);
leaving(_Type, _Event, #data{over = true}) ->
    keep_state_and_data;
leaving(Type, Event, Data) ->
    common(leaving, Type, Event, Data).

%% A request may have been on its way here when its client left the 5-tuple.
is_ours(_Job, #data{keys = []}) -> false;
is_ours(#{request := #{move := _}}, _Data) -> true;
is_ours(#{request := #{join := _}}, _Data) -> true;
is_ours(#{place := Place}, Data) -> lists:member(five_tuple(Place), Data#data.keys).

five_tuple(Place) -> meerkat_alloc_table:five_tuple(Place).

%% `granted`: the relay has answered requests by itself.
common(State, info, granted, Data) ->
    stay(State, caught_up(Data), []);
common(_State, info, account, Data) ->
    ok = meerkat_alloc_report:lives(subject(Data)),
    keep_state_and_data;
common(State, info, {relay, Ref, {session_gone, _} = Message}, Data) ->
    step(State, {relay, Ref, Message}, (caught_up(Data))#data{said = none});
common(State, info, {relay, _Ref, {connected, Fields}}, Data) ->
    step(State, {relay, 0, {connected, limited(in_use(Fields, Data), Data)}},
         Data#data{said = said(Fields)});
common(State, info, {relay, Ref, Message}, Data) ->
    step(State, {relay, Ref, Message}, Data#data{said = said(Message)});
common(State, info, {closed, Wire}, #data{wire = Wire} = Data) ->
    step(State, relay_down, Data);
common(State, info, {replay, Wire, Caller}, Data) ->
    #data{core = Core0} = Data0 = caught_up(Data#data{given = none}),
    Now = meerkat_clock:now_ms(),
    {Core1, Down} = meerkat_alloc_core:handle(relay_down, Now, Core0),
    Data1 = lists:foldl(fun effect/2,
                        Data0#data{core = Core1, replayer = Caller}, Down),
    case Data1 of
        #data{over = true} -> run(State, [], Data1);
        #data{} -> step(State, relay_up, Data1#data{wire = Wire})
    end;
%% The authenticator cannot be asked now, so the key of the allocation decides.
common(_State, info, {unproven, Unproven}, #data{core = Core, proof = Proof}) ->
    #{user := User} = meerkat_alloc_facts:details(Core, meerkat_clock:now_ms()),
    ok = meerkat_request:judged(Unproven, User, Proof),
    keep_state_and_data;
common(State, {call, From}, info, #data{name = Name} = Data0) ->
    ok = meerkat_grants:await(Name),
    #data{core = Core, session = Session} = Data = caught_up(Data0),
    Now = meerkat_clock:now_ms(),
    Details = meerkat_alloc_facts:details(Core, Now),
    Info = Details#{session => Session, age_ms => Now - Data#data.started,
                    refusals => meerkat_refusal:remembered(Data#data.refusals, Now)},
    stay(State, Data, [{reply, From, Info}]);
%% It is ending already: the caller hears when it has.
common(_State, {call, From}, disconnect, #data{awaited = Awaited} = Data) ->
    {keep_state, Data#data{awaited = [From | Awaited]}};
common(_State, _Type, _Event, _Data) ->
    keep_state_and_data.

%% Takes up what the relay has answered by itself. Not while a reply is awaited, for that is older;
%% only where the reply will not come any more.
caught_up(#data{name = Name, session = Session, core = Core0} = Data) ->
    case meerkat_grants:take(Name, Session) of
        [] ->
            Data;
        Granted ->
            {Core, Effects} = meerkat_alloc_granted:granted(Granted, Core0),
            lists:foldl(fun effect/2, Data#data{core = Core}, Effects)
    end.

%% The state stays as it is, unless a Refresh that the relay answered has ended the allocation.
stay(State, #data{keys = []} = Data, Actions) when State =/= leaving ->
    {next_state, leaving, Data, [{state_timeout, ?REPLY_MS, silent} | Actions]};
stay(_State, Data, Actions) ->
    {keep_state, Data, Actions}.

%% How many connections with peers the user has, for who wants one more.
in_use(#{message := #{method := Method}} = Request, _Data) when Method =/= connect ->
    Request;
in_use(Asking, #data{name = Name, user = User}) ->
    Asking#{in_use => meerkat_connections:counted(Name, User)}.

%% With what the configuration allows at this moment.
limited(Asking, #data{name = Name, user = {Realm, _Person}}) ->
    #{limits := Limits} = meerkat_settings:tenant(Realm, meerkat_registry:settings(Name)),
    Asking#{limits => Limits}.

said({reply, #{status := Status, detail := Detail}}) -> {relay, Status, Detail};
said(#{incoming := 0, status := Status, detail := Detail}) -> {relay, Status, Detail};
said({alloc_created, #{status := Status}}) -> {relay, Status, <<>>};
said(_Message) -> none.

%%% Effects

step(State, Event, #data{core = Core0} = Data) ->
    {Core, Effects} = meerkat_alloc_core:handle(Event, meerkat_clock:now_ms(), Core0),
    run(State, Effects, Data#data{core = Core}).

run(State, Effects, Data0) ->
    Data = lists:foldl(fun effect/2, Data0, Effects),
    case next(State, Effects) of
        _ when Data#data.over -> {next_state, leaving, Data, [{state_timeout, 0, over}]};
        State -> {keep_state, Data};
        {awaiting, Ms, Event} -> {next_state, awaiting, Data, {state_timeout, Ms, Event}};
        serving -> {next_state, serving, Data};
        leaving -> {next_state, leaving, Data, {state_timeout, ?REPLY_MS, silent}}
    end.

%% Requests wait for the others that are replayed (meerkat_replay): a peer may be another's relayed
%% address, which the relay permits only when it is there.
next(State, Effects) ->
    Has = fun(Tag) -> lists:keymember(Tag, 1, Effects) end,
    case {Has(ask), lists:keyfind(later, 1, Effects), lists:member(forget, Effects)} of
        {true, _, _} -> {awaiting, ?REPLY_MS, silent};
        {_, {later, Ms}, _} -> {awaiting, Ms, again};
        {_, _, true} -> leaving;
        _ ->
            case {Has(answer) orelse Has(defer), lists:keyfind(replayed, 1, Effects)} of
                {_, {replayed, there}} -> {awaiting, infinity, none};
                {false, false} -> State;
                _ -> serving
            end
    end.

effect({tell, Message}, #data{wire = Wire} = Data) ->
    _ = meerkat_relay:command(Wire, 0, Message),
    Data;
effect({ask, Ref, Message}, #data{core = Core} = Data) ->
    case meerkat_alloc_core:foretold(Core) of
        none -> asked(Ref, Message, Data);
        Response -> asked(Ref, Message, Response, Data)
    end;
effect({later, _Ms}, Data) ->
    Data;
effect({replayed, Outcome}, #data{replayer = Replayer} = Data) ->
    _ = Outcome =:= ok andalso note(Data),
    Replayer ! {replayed, self(), Outcome},
    Data#data{replayer = none};
effect({answer, Response}, #data{name = Name, job = Job, promised = {Response, Us}} = Data) ->
    ok = meerkat_request:answered(Name, Job, Response, Us),
    Data#data{job = undefined, promised = none, said = none};
effect({answer, none}, #data{name = Name, job = Job} = Data) ->
    ok = meerkat_request:answer(Name, Job, none),
    Data#data{job = undefined, promised = none, said = none};
%% The client that has moved came in by another worker than the one that ends the session: it is to
%% hear of the end when that has come, for until then its requests from the old address may be
%% answered within a grant.
effect({answer, Response}, #data{keys = [], session = Session, job = #{flow := Flow}} = Data) ->
    case meerkat_ctl:worker(Flow) =:= meerkat_ctl:worker(Session) of
        true -> answered(Response, Data);
        false -> Data#data{parting = Response}
    end;
effect({answer, Response}, Data) ->
    answered(Response, Data);
effect({defer, Peer}, #data{name = Name, job = Job, deferred = Deferred} = Data) ->
    ok = meerkat_request:later(Name, Job),
    Data#data{job = undefined, deferred = Deferred#{Peer => Job}};
effect({late, Peer, Response}, #data{deferred = Deferred} = Data) ->
    case maps:take(Peer, Deferred) of
        {Job, Others} -> late(Job, Response, Data#data{deferred = Others});
        error -> Data       % it had no process then
    end;
effect({indicate, Method, Attributes}, #data{wire = Wire, session = Session} = Data) ->
    Packet = meerkat_request:indication(Method, Attributes),
    _ = meerkat_relay:command(Wire, 0, {tell, #{session => Session, packet => Packet}}),
    Data;
effect({await, Id}, #data{name = Name, wire = Wire, session = Session} = Data) ->
    %% Another allocation has this number by chance, so nobody could name the connection: it is
    %% closed.
    _ = meerkat_connections:enter(Name, Id, Session, self()) =:= taken
        andalso meerkat_relay:command(Wire, 0, meerkat_alloc_commands:disconnect(Session, Id)),
    Data;
effect({unawait, Id}, #data{name = Name, session = Session} = Data) ->
    ok = meerkat_connections:leave(Name, Id, Session),
    Data;
effect({connections, N}, #data{name = Name, session = Session, user = User} = Data) ->
    ok = meerkat_connections:set(Name, Session, User, N),
    Data;
effect({meet, Place}, #data{name = Name, keys = Keys, session = Session} = Data) ->
    ok = meerkat_alloc_table:claim(Name, five_tuple(Place), Session, self()),
    Data#data{keys = [five_tuple(Place) | Keys]};
effect({part, Place}, #data{name = Name, keys = Keys, session = Session} = Data) ->
    ok = meerkat_alloc_table:forget(Name, five_tuple(Place), Session),
    Data#data{keys = lists:delete(five_tuple(Place), Keys)};
effect(forget, #data{name = Name, session = Session} = Data) ->
    ok = forget(Data),
    ok = meerkat_quota:release(Name, Session),
    Data#data{keys = []};
effect(forgotten, Data) ->
    ok = forget(Data),
    Data#data{keys = []};
effect({hold, Token, Family}, #data{name = Name, session = Session, job = Job} = Data) ->
    #{request := Request} = Job,
    ok = meerkat_quota:hold(Name, Session, Token),
    ok = meerkat_reservations:hold(Name, Token, meerkat_alloc_request:holder(Request), Family),
    Data;
effect({release, Token}, #data{name = Name} = Data) ->
    ok = meerkat_reservations:release(Name, Token),
    Data;
effect({log, Level, Format, Args}, Data) ->
    ?LOG(Level, Format, Args, #{session => Data#data.session}),
    Data;
effect({stop, Ending}, #data{parting = Response} = Data) when Response =/= none ->
    effect({stop, Ending}, answered(Response, Data#data{parting = none}));
effect({stop, Ending}, #data{awaited = Awaited} = Data) ->
    ok = leave(Data),
    ok = meerkat_alloc_report:ended(Ending, subject(Data)),
    ok = lists:foreach(fun(From) -> gen_statem:reply(From, ok) end, Awaited),
    Data#data{over = true, awaited = []}.

%% The grant goes before the answer, so that the relay can answer the client's next request.
give({success, _}, #data{keys = [_ | _], core = Core} = Data) ->
    case meerkat_alloc_granted:is_grantable(Core) of
        true -> granted(Data);
        false -> Data
    end;
give(_Response, Data) ->
    Data.

granted(#data{name = Name, session = Session, job = Job, given = Before} = Data) ->
    case meerkat_grants:give(Name, Session, Job, Before) of
        none -> Data;
        {Message, Given} -> effect({tell, Message}, Data#data{given = Given})
    end.

late(Job, Response, #data{name = Name, wire = Wire, session = Session, said = Said} = Data) ->
    {Refusal, Packet} = meerkat_request:late(Name, Job, Response, Said),
    _ = meerkat_relay:command(Wire, 0, {tell, #{session => Session, packet => Packet}}),
    remember(Refusal, Data#data{said = none}).

answered(Response, #data{name = Name, job = Job, said = Said} = Data0) ->
    _ = [begun(Data0) || is_made(Response, Job)],
    Data = give(Response, Data0),
    Refusal = meerkat_request:answer(Name, Job, Response, Said),
    remember(Refusal, Data#data{job = undefined, promised = none, said = none}).

%% Is this the answer that tells the client it has an allocation?
is_made({success, _}, #{request := #{message := #{method := allocate}}}) -> true;
is_made(_Response, _Job) -> false.

begun(Data) ->
    ok = note(Data),
    meerkat_alloc_report:began(subject(Data)).

remember(none, Data) ->
    Data;
remember(Refusal, #data{refusals = Before} = Data) ->
    Data#data{refusals = meerkat_refusal:remember(Refusal, meerkat_clock:now_ms(), Before)}.

asked(Ref, Message, #data{wire = Wire} = Data) ->
    _ = spends_ticket(Message, Data) andalso note(Data),
    sent(meerkat_relay:command(Wire, Ref, Message), Data).

%% The answer goes along with the command where both are for one worker: the request of a client
%% that has moved came in by another. A join is for the worker of the request.
asked(Ref, {Command, _} = Message, Response, #data{name = Name, session = Session, wire = Wire,
                                                   job = #{flow := Flow} = Job} = Data) ->
    IsThere = Command =:= join orelse meerkat_ctl:worker(Flow) =:= meerkat_ctl:worker(Session),
    Promise = case IsThere of
        true -> meerkat_request:promise(Name, Job, Response);
        false -> none
    end,
    case Promise of
        none -> asked(Ref, Message, Data);
        _ ->
            Given = give(Response, Data),
            _ = spends_ticket(Message, Data) andalso note(Data),
            sent(meerkat_relay:command(Wire, Ref, Message, Promise),
                 Given#data{promised = {Response, erlang:monotonic_time(microsecond)}})
    end.

%% The Refresh behind the move: its answer brings the next ticket.
spends_ticket({alloc_refresh, _}, #data{job = #{request := #{move := _}}}) -> true;
spends_ticket(_Message, _Data) -> false.

%% For another VM, before the client is told of it.
note(#data{name = Name, session = Session, wire = Wire, core = Core, started = Started}) ->
    case meerkat_keep:is_wanted(Name) of
        true ->
            Now = meerkat_clock:now_ms(),
            Message = meerkat_alloc_note:message(Session, meerkat_alloc_restore:kept(Now, Core),
                                                 wall_ms() - (Now - Started)),
            _ = meerkat_relay:command(Wire, 0, Message),
            ok;
        false ->
            ok
    end.

sent(ok, Data) ->
    Data;
sent(closed, #data{wire = Wire} = Data) ->
    self() ! {closed, Wire},
    Data.

forget(#data{name = Name, keys = Keys, session = Session}) ->
    lists:foreach(fun(Key) -> ok = meerkat_alloc_table:forget(Name, Key, Session) end, Keys).

%% Of whom meerkat_alloc_report tells.
subject(#data{name = Name, session = Session, core = Core, started = Started}) ->
    {Name, Session, Core, Started}.

leave(#data{name = Name, session = Session, core = Core} = Data) ->
    ok = forget(Data),
    %% Whoever relays datagrams has none, and looking for them means looking through all.
    _ = meerkat_alloc_facts:protocol(Core) =:= tcp andalso meerkat_connections:bury(Name, Session),
    ok = meerkat_alloc_table:leave(Name, Session, Session),
    meerkat_grants:forget(Name, Session).

send_back_all() ->
    receive
        {request, Job} ->
            ok = meerkat_request:again(Job),
            send_back_all();
        {unproven, Unproven} ->
            ok = meerkat_request:judged(Unproven, <<>>, none),
            send_back_all()
    after 0 ->
        ok
    end.

%% Only after a crash there is something left to do here.
-spec terminate(term(), atom(), #data{} | beginning()) -> ok.
terminate(_Reason, beginning, {_Name, _Session}) ->
    ok;
terminate(_Reason, beginning, {Name, Session, #{place := Place} = Job}) ->
    ok = meerkat_alloc_table:forget(Name, five_tuple(Place), Session),
    ok = meerkat_alloc_table:leave(Name, Session, Session),
    ok = meerkat_quota:release(Name, Session),
    ok = meerkat_request:answer(Name, Job, none),
    send_back_all();
terminate(_Reason, _State, #data{over = true}) ->
    ok;
terminate(_Reason, _State, #data{name = Name, job = Job, session = Session, wire = Wire} = Data) ->
    _ = meerkat_relay:command(Wire, 0, {alloc_delete, #{session => Session}}),
    ok = leave(Data),
    ok = meerkat_quota:release(Name, Session),
    _ = Job =/= undefined andalso meerkat_request:answer(Name, Job, none),
    send_back_all().
