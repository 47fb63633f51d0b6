%% Requests right, wrong, changed on their way and signed again, fed to the processes that take and
%% answer them: meerkat_request, meerkat_alloc and what is between. Properties for PropEr.
%%
%% The relay is played by the caller, who stands where the wire to it would be. It hands on only
%% what the relay program would (a request, readable, with credentials and integrity), carries out
%% what it is told to, and refuses what a case wants refused.
-module(prop_request).

-export([start/0, stop/1, prop_answered/1]).

-define(FORALL(Var, Type, Property), proper:forall(Type, fun(Var) -> Property end)).
-define(LET(Var, Type, Result), proper_types:bind(Type, fun(Var) -> Result end, false)).

-import(proper_types, [range/2, oneof/1, frequency/1, list/1]).

-define(NAME, prop_request).
-define(REALM, <<"example.org">>).
-define(TIMEOUT, 30000).
-define(USERS, #{<<"alice">> => <<"wonderland">>, <<"bob">> => <<"builder">>}).

-type fixture() :: [pid()].

%% A server without the process that owns a relay; the caller owns it.
-spec start() -> fixture().
start() ->
    Relays = [#{local => Ip, advertised => Ip, min_port => 50000, max_port => 60000}
              || Ip <- [{127, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 1}]],
    {ok, Settings} = meerkat_settings:new(?NAME, #{
        realm => ?REALM, users => maps:map(fun(_, P) -> {password, P} end, ?USERS),
        listeners => [#{transport => udp, ip => {127, 0, 0, 1}, port => 3478}],
        relays => Relays, mobility => true, failed_authentication_rate => 0}),
    ok = meerkat_registry:keep(?NAME, make_ref(), Settings),
    [begin {ok, Pid} = Start(), Pid end
     || Start <- [fun() -> meerkat_registry:start_link(?NAME) end,
                  fun() -> meerkat_alloc_sup:start_link(?NAME) end,
                  fun() -> meerkat_request_sup:start_link(?NAME) end]].

-spec stop(fixture()) -> ok.
stop(Pids) ->
    lists:foreach(fun(Pid) ->
                      true = unlink(Pid),
                      Monitor = monitor(process, Pid),
                      true = exit(Pid, shutdown),
                      receive {'DOWN', Monitor, _, _, _} -> ok end
                  end, lists:reverse(Pids)),
    meerkat_registry:drop(?NAME).

%% Every request earns exactly one answer: readable, of its transaction, signed with the key of
%% whoever signed the request unless it may not be; and nobody is refused as unknown whose
%% signature is right. In the end the relay and the server have the same allocations.
-spec prop_answered(fixture()) -> proper:test().
prop_answered(_) ->
    ?FORALL(Requests, list(request()),
            begin
                Relay = lists:foldl(fun send/2, #{sessions => #{}, fault => none}, Requests),
                ended(Relay)
            end).

%% --------------------------------------------------------------------------------- one request

send(_, #{fault := Fault} = Relay) when Fault =/= none -> Relay;
send({Who, Method, Hash, Items, Mutations, Mood, Client}, Relay) ->
    {User, Password, Known} = Who,
    Plain = Mutations =:= [] andalso not lists:any(fun is_of_credentials/1, Items),
    Key = stun_model:key(User, ?REALM, Password),
    Packet = packet(Method, Hash, Key, Items ++ credentials(User), Mutations),
    case handed_on(Packet) of
        false -> Relay;
        true ->
            Flow = erlang:unique_integer([positive]),
            Address = {{192, 0, 2, 1}, 4000 + Client},
            Frame = iolist_to_binary(meerkat_ctl:encode(0, {request, #{
                flow => Flow, listener => 1, transport => meerkat_ctl:transport(udp),
                client => Address,
                server => {{127, 0, 0, 1}, 3478}, session => session(Address, Relay),
                certificate => <<>>,
                packet => Packet}})),
            meerkat_roles:find(?NAME, {request, erlang:phash2(Address,
                                                                 meerkat_request_sup:size())})
                ! {request, self(), Frame, erlang:monotonic_time(microsecond)},
            serve(Flow, fun(Answer) -> judge(Packet, Answer, Key, Known, Plain) end,
                  Relay#{mood => Mood})
    end.

session(Address, #{sessions := Sessions}) ->
    case [Session || {Session, Client} <- maps:to_list(Sessions), Client =:= Address] of
        [Session | _] -> Session;
        [] -> 0
    end.

%% Whatever the attributes have become, the message around them is whole and signed.
packet(Method, Hash, Key, Items, Mutations) ->
    Message = #{class => request, method => Method, attributes => Items,
                transaction_id => crypto:strong_rand_bytes(12)},
    <<_:20/binary, Attributes/binary>> = stun_model:encode(Message),
    Changed = lists:foldl(fun prop_stun:mutate/2, Attributes, Mutations),
    Whole = binary:part(Changed, 0, byte_size(Changed) div 4 * 4),
    stun_model:encode(Message#{attributes := [{bytes, Whole}, {sign, Hash, Key}]}).

is_of_credentials({Name, _}) ->
    lists:member(Name, [username, userhash, realm, nonce, password_algorithm,
                        password_algorithms]).

credentials(User) ->
    [{username, User}, {realm, ?REALM}, {nonce, <<"obMatJos2AAAA">>}].

%% What the relay program lets pass (challenge.c): the rest never gets here.
handed_on(Packet) ->
    case meerkat_stun:decode(Packet) of
        {ok, #{class := request, method := Method, integrity := Integrity} = Message}
          when Integrity =/= none ->
            Has = fun(Name) -> meerkat_stun:get(Name, Message) =/= error end,
            byte_size(Packet) =< 4096
                andalso lists:member(Method, [allocate, refresh, create_permission, channel_bind])
                andalso (Has(username) orelse Has(userhash)) andalso Has(realm)
                andalso Has(nonce);
        _ -> false
    end.

judge(Asked, Bytes, Key, Known, Plain) ->
    <<Type:16, _:48, Txid:12/binary, _/binary>> = Asked,
    <<AnswerType:16, _/binary>> = Bytes,
    {ok, #{class := Class, transaction_id := Txid, malformed := [], unknown := [],
           integrity := Integrity, attributes := Attributes} = Answer} = stun_model:decode(Bytes),
    {Type, _} = {AnswerType band 16#3EEF, Answer},
    Code = case proplists:get_value(error_code, Attributes) of
        undefined -> success;
        {Number, _} -> Number
    end,
    Holds = [Class =:= case Code of success -> success; _ -> error end,
             Integrity =/= none orelse lists:member(Code, [400, 401, 438]),
             %% With credentials as they should be: whether somebody is known depends on nothing
             %% else, and he can check what he is told (SHA-1, for no algorithm was spoken of).
             not Plain orelse (Code =:= 401) =:= not Known,
             not Plain orelse not Known orelse Integrity =:= sha1
                 andalso stun_model:verify(Bytes, Key) =:= ok],
    {[], _} = {[false || false <- Holds], Answer},
    none.

%% ----------------------------------------------------------------------------------- the relay

%% Until the request's answer is there. Whatever else is answered was answered before.
serve(Flow, Judge, Relay) ->
    receive
        {frames, Bytes} ->
            {Frames, <<>>} = meerkat_wire:split(<<>>, Bytes),
            case hear([meerkat_ctl:decode(Frame) || Frame <- Frames], Flow, Judge, Relay) of
                {answered, Next} -> Next;
                {unanswered, Next} -> serve(Flow, Judge, Next)
            end
    after ?TIMEOUT -> Relay#{fault := no_answer}
    end.

hear([{ok, 0, {answer, #{flow := Flow, packet := Packet}}}], Flow, Judge, Relay) ->
    {answered, judged(Judge, Packet, Relay)};
hear([{ok, 0, {answer, _}}], _Flow, _Judge, Relay) ->
    {answered, Relay#{fault := answered_twice}};
%% Kept only where the command behind it is carried out.
hear([{ok, Ref, {answer_if, #{flow := Flow, packet := Packet}}}, {ok, Ref, Command}], Flow, Judge,
     #{mood := Mood} = Relay) ->
    Next = carry_out(Ref, Command, Relay),
    case Mood of
        ok -> {answered, judged(Judge, Packet, Next)};
        _ -> {unanswered, Next}
    end;
hear([{ok, Ref, Command}], _Flow, _Judge, Relay) ->
    {unanswered, carry_out(Ref, Command, Relay)}.

judged(Judge, Packet, Relay) ->
    try Judge(Packet) of
        none -> Relay
    catch
        _:Reason:Stack -> Relay#{fault := {Reason, Stack}}
    end.

carry_out(Ref, {alloc_create, #{session := Session, client := Client} = Fields},
          #{mood := Mood, sessions := Sessions} = Relay) ->
    Port = 50000 + erlang:unique_integer([positive]) rem 10000,
    Bound = fun(0, _) -> undefined; (_, Ip) -> {Ip, Port} end,
    Created = #{session => Session, status => Mood, status_v4 => ok, status_v6 => ok,
                detail => <<>>,
                relayed_v4 => Bound(maps:get(pool_v4, Fields), {127, 0, 0, 1}),
                relayed_v6 => Bound(maps:get(pool_v6, Fields), {0, 0, 0, 0, 0, 0, 0, 1}),
                pool_v4 => 1, pool_v6 => 2,
                token => case maps:get(even, Fields) of 2 -> Port; _ -> 0 end},
    case Mood of
        ok ->
            tell(Session, Ref, {alloc_created, Created}),
            Relay#{sessions := Sessions#{Session => Client}};
        _ ->
            tell(Session, Ref, {alloc_created, Created#{relayed_v4 := undefined, token := 0,
                                                        relayed_v6 := undefined}}),
            Relay
    end;
carry_out(_Ref, {alloc_delete, #{session := Session}}, Relay) -> gone(Session, 0, Relay);
carry_out(Ref, {alloc_refresh, #{session := Session}}, Relay) -> reply(Session, Ref, Relay);
carry_out(Ref, {permit, #{session := Session}}, Relay) -> reply(Session, Ref, Relay);
carry_out(Ref, {channel, #{session := Session}}, Relay) -> reply(Session, Ref, Relay);
carry_out(Ref, {alloc_move, #{session := Session}}, Relay) -> reply(Session, Ref, Relay);
carry_out(0, {_Other, _}, Relay) -> Relay.

reply(Session, Ref, #{mood := Mood} = Relay) ->
    tell(Session, Ref, {reply, #{command => 0, status => Mood, session => Session,
                                 detail => <<"10.0.0.0/8">>}}),
    case Mood of
        gone -> gone(Session, 1, Relay);
        _ -> Relay
    end.

gone(Session, Reason, #{sessions := Sessions} = Relay) ->
    Counted = (turn_kit:no_drops())#{client_packets => 0, client_bytes => 0, peer_packets => 0,
                                     peer_bytes => 0},
    tell(Session, 0, {session_gone, Counted#{session => Session, reason => Reason}}),
    Relay#{sessions := maps:remove(Session, Sessions)}.

tell(Session, Ref, Message) ->
    case meerkat_alloc_table:pid(?NAME, Session) of
        none -> ok;
        Pid -> Pid ! {relay, Ref, Message}, ok
    end.

%% Ends what is left, so that the next case begins with nothing.
ended(#{fault := none, sessions := Sessions} = Relay) ->
    Running = [{Session, Pid, monitor(process, Pid)}
               || {Session, Pid} <- meerkat_alloc_table:sessions(?NAME)],
    Governed = [Session || {Session, Pid, _} <- Running, is_governed(Pid)],
    _ = [gone(Session, 1, Relay) || Session <- maps:keys(Sessions)],
    _ = [receive {'DOWN', Monitor, _, _, _} -> ok end || {_, _, Monitor} <- Running],
    Both = {lists:sort(Governed), lists:sort(maps:keys(Sessions))},
    element(1, Both) =:= element(2, Both) orelse fault({left_over, Both});
ended(#{fault := Fault}) -> fault(Fault).

%% One whose end is under way may still be listed.
is_governed(Pid) ->
    case meerkat_alloc:info(Pid) of
        {ok, _} -> true;
        {error, gone} -> false
    end.

fault(Fault) ->
    io:format("~tP~n", [Fault, 80]),
    false.

%% ------------------------------------------------------------------------------- generators

request() ->
    {who(), method(), oneof([sha1, sha256]), ?LET(Items, list(item()), lists:sublist(Items, 8)),
     frequency([{3, []}, {1, list(prop_stun:mutation())}]), mood(), range(1, 2)}.

%% Who signs, and whether the server knows him.
who() ->
    frequency([{6, {<<"alice">>, <<"wonderland">>, true}}, {2, {<<"bob">>, <<"builder">>, true}},
               {1, {<<"alice">>, <<"not hers">>, false}}, {1, {<<"eve">>, <<>>, false}}]).

method() ->
    frequency([{3, allocate}, {2, refresh}, {2, create_permission}, {2, channel_bind}]).

%% What the relay replies to commands.
mood() ->
    frequency([{6, ok}, {1, oneof([gone, full, conflict, forbidden, family, no_ports, bad_token,
                                   failed])}]).

item() ->
    frequency([{4, {requested_transport, 17}},
               {1, {requested_transport, range(0, 255)}},
               {2, {lifetime, oneof([0, 1, 600, 4000])}},
               {2, {requested_address_family, range(0, 3)}},
               {1, {additional_address_family, range(0, 3)}},
               {1, {even_port, oneof([true, false])}},
               {1, {reservation_token, range(0, 20)}},
               {1, {mobility_ticket, oneof([<<>>, <<"forged">>])}},
               {3, {channel_number, oneof([16#4000, 16#4001, range(0, 16#FFFF)])}},
               {4, {xor_peer_address, {oneof([{8, 8, 8, 8}, {10, 0, 0, 1},
                                              {16#2600, 0, 0, 0, 0, 0, 0, 1}]),
                                       range(0, 3)}}},
               {3, ?LET(Item, prop_stun:good(), Item)}]).
