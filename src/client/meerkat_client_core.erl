%% The protocol half of the client: which request to send, what an answer means, when to send it
%% again and what to renew before it expires (RFC 8489, RFC 8656). Pure: a state and an event go
%% in, a state and effects come out. It knows no socket, no process and no clock; a timer is an
%% effect now and an event later.
-module(meerkat_client_core).

-export([new/1]).
-export([handle/2]).
-export([info/1]).
-export([signing/1]).

-type address() :: {inet:ip_address(), inet:port_number()}.

%% `movable`: whether another local port may be taken when the server mistakes us for somebody
%% else. `rto` in ms, `rc` and `rm` as in RFC 8489 6.2.1. `ti`: messages travel on a stream, which
%% loses none, so a request is sent once and has so many ms for its answer (6.2.2).
-type config() :: #{server := address(),
                    username => binary(),
                    password => secret(binary()),
                    family => inet | inet6,
                    movable => boolean(),
                    rto => pos_integer(),
                    rc => pos_integer(),
                    rm => pos_integer(),
                    ti => pos_integer()}.

-type allocate_options() :: meerkat_client_allocation:options().

-type call() :: binding
              | {allocate, allocate_options()}
              | {permit, [inet:ip_address()]}
              | {bind_channel, address()}
              | {connect, address()}
              | {refresh, default | non_neg_integer()}
              | release.

-type timer() :: {retransmit, <<_:96>>} | refresh | expire | permissions
               | {channel, meerkat_client_allocation:channel()}.

-type event() :: {call, From :: term(), call()}
               | {send, address(), iodata()}
               | {datagram, binary()}           % from the server, nobody else
               | {timeout, timer()}
               | {unreachable, inet:posix()}    % a hard ICMP error, or no route
               | {disconnected, error()}        % a stream has ended, or none could be had
               | close.                         % the last event there will be

%% `connect` leaves the socket for a fresh one towards the address; what follows in the list goes
%% out on the new one. So does what is to be transmitted after a stream has ended. `start_timer`
%% replaces a running timer of that name.
-type effect() :: {transmit, iodata()}
                | {reply, From :: term(), term()}
                | {owner, owner_event()}
                | {start_timer, timer(), Ms :: non_neg_integer()}
                | {stop_timer, timer()}
                | {connect, address()}.

-type owner_event() :: {data, address(), binary(), channel | indication}
                     | {icmp, address(), {Type :: byte(), Code :: byte(), Data :: 0..16#ffffffff}}
                     | {attempt, Id :: 0..16#ffffffff, address()}
                     | {lost, lost()}.
-type lost() :: {allocation, error()}
              | {permissions, [inet:ip_address()], error()}
              | {channel, address(), error()}.

-type error() :: meerkat_client_transaction:failure()
               | no_allocation | already_allocated | no_channels | expired
               | meerkat_client_socket:error().

-export_type([address/0, secret/1, config/0, allocate_options/0, call/0, timer/0, event/0, effect/0,
              owner_event/0, lost/0, error/0, state/0]).

-type secret(Type) :: meerkat_client_auth:secret(Type).

-type purpose() :: {binding, From :: term()}
                 | {allocate, From :: term(), allocate_options(), Moves :: non_neg_integer(),
                    Redirected :: boolean()}
                 | {refresh, self | {from, term()}}
                 | {release, From :: term()}
                 | {permit, self | {from, term()}, [inet:ip_address()], New :: [inet:ip_address()]}
                 | {channel, self | {from, term()}, Number :: meerkat_client_allocation:channel(),
                    New :: [inet:ip_address()]}
                 | {connect, {from, From :: term()}}.

-type transaction() :: meerkat_client_transaction:transaction(purpose()).

-record(core, {server :: address(),
               credentials :: meerkat_client_transaction:credentials(),
               family :: undefined | inet | inet6,
               movable :: boolean(),
               pace :: meerkat_client_transaction:pace(),
               auth = none :: none | meerkat_client_auth:auth(),
               allocation = none :: none | pending | {ok, meerkat_client_allocation:allocation()},
               transactions = #{} :: #{meerkat_client_transaction:id() => transaction()},
               ignored = 0 :: non_neg_integer()}).

-opaque state() :: #core{}.

%% A permission lives 300 s and a channel 600 s (RFC 8656 9, 12). What is left between renewing
%% and expiring is longer than a whole transaction takes to fail (39.5 s).
-define(PERMISSIONS_MS, 240_000).
-define(CHANNEL_MS, 540_000).
%% An allocation is renewed a minute before it expires (RFC 8656 8), a short one at half time.
-define(REFRESH_MARGIN_MS, 60_000).
-define(REFRESH_AGAIN_MS, 10_000).
-define(PERMISSIONS_PER_REQUEST, 16).
%% Local ports tried when the server takes ours for another client's (RFC 8656 7.4, 437).
-define(MOVES_MAX, 2).
%% While a server starts again, each packet sent to it comes back as an ICMP error. What keeps the
%% allocation alive is sent this often, over 3.5 s, before such an error counts.
-define(SENDS_SPARED, 4).

%% ----------------------------------------------------------------------------------------- API

%% A client that has sent nothing yet. `username` and `password` as requests are signed with them.
-spec new(config()) -> state().
new(#{server := Server} = Config) ->
    #core{server = Server,
          credentials = credentials(Config),
          family = maps:get(family, Config, undefined),
          movable = maps:get(movable, Config, true),
          pace = meerkat_client_transaction:pace(Config)}.

credentials(#{username := User, password := Password}) -> {User, Password};
credentials(#{}) -> none.

%% The one function that moves the client on. Effects are to be carried out in order.
-spec handle(event(), state()) -> {state(), [effect()]}.
handle({send, Peer, Payload}, #core{allocation = {ok, A}} = S) ->
    case meerkat_client_allocation:channel(Peer, A) of
        {ok, Number} -> {S, [{transmit, meerkat_stun:encode_channel(Number, Payload)}]};
        none -> {S, [{transmit, send_indication(Peer, Payload)}]}
    end;
handle({send, _, _}, S) ->
    {ignored(S), []};
handle({datagram, <<1:2, _/bits>> = Packet}, S) ->
    channel_data(meerkat_stun:decode_channel(Packet), S);
handle({datagram, Packet}, S) ->
    case meerkat_stun:decode(Packet) of
        {ok, #{class := indication, method := data} = Message} ->
            data_indication(Message, S);
        {ok, #{class := indication, method := connection_attempt} = Message} ->
            connection_attempt(Message, S);
        {ok, #{class := Class} = Message} when Class =:= success; Class =:= error ->
            response(Message, Packet, S);
        _ ->
            {ignored(S), []}
    end;
handle({call, From, Call}, S) ->
    call(Call, From, S);
handle({timeout, Timer}, S) ->
    timeout(Timer, S);
handle({unreachable, Reason}, S) ->
    unreachable(Reason, S);
handle({disconnected, Reason}, S) ->
    disconnected(Reason, S);
handle(close, S) ->
    {S, goodbye(S)}.

%% The server in use, the allocation if there is one, and how many datagrams meant nothing.
-spec info(state()) -> #{server := address(), ignored := non_neg_integer(),
                         relayed => address(), mapped => address(), lifetime => pos_integer(),
                         permissions => [inet:ip_address()],
                         channels => #{address() => meerkat_client_allocation:channel()}}.
info(#core{server = Server, ignored = Ignored, allocation = Allocation}) ->
    Always = #{server => Server, ignored => Ignored},
    case Allocation of
        {ok, A} -> maps:merge(Always, meerkat_client_allocation:view(A));
        _ -> Always
    end.

%% What a request on another connection to the same server is signed with, and how long its answer
%% may take.
-spec signing(state()) ->
    {ok, {none | meerkat_client_auth:auth(), meerkat_client_transaction:credentials(),
          meerkat_client_transaction:pace()}}
    | {error, no_allocation}.
signing(#core{allocation = {ok, _}, auth = Auth, credentials = Credentials, pace = Pace}) ->
    {ok, {Auth, Credentials, Pace}};
signing(#core{}) ->
    {error, no_allocation}.

%% --------------------------------------------------------------------------------------- calls

call(binding, From, S) ->
    request(binding, [], {binding, From}, S);
call({allocate, Options0}, From, #core{allocation = none} = S) ->
    Options = with_family(Options0, S),
    request(allocate, meerkat_client_allocation:attributes(Options),
            {allocate, From, Options, 0, false}, S#core{allocation = pending});
call({allocate, _}, From, S) ->
    {S, [{reply, From, {error, already_allocated}}]};
call({permit, []}, From, #core{allocation = {ok, _}} = S) ->
    {S, [{reply, From, ok}]};
call({permit, Ips}, From, #core{allocation = {ok, _}} = S) ->
    permit(Ips, {from, From}, S);
call({bind_channel, Peer}, From, #core{allocation = {ok, A}} = S) ->
    bind_channel(Peer, From, A, S);
call({connect, Peer}, From, #core{allocation = {ok, _}} = S) ->
    request(connect, [{xor_peer_address, Peer}], {connect, {from, From}}, S);
call({refresh, 0}, From, S) ->
    call(release, From, S);
call({refresh, default}, From, #core{allocation = {ok, _}} = S) ->
    refresh({from, From}, S);
call({refresh, Lifetime}, From, #core{allocation = {ok, A}} = S) ->
    refresh({from, From}, S#core{allocation = {ok, meerkat_client_allocation:want(Lifetime, A)}});
call(release, From, #core{allocation = {ok, _}} = S0) ->
    %% Whatever becomes of the request, the caller is done with the allocation.
    {S1, Forgotten} = forget(S0),
    {S2, Sent} = request(refresh, [{lifetime, 0}], {release, From}, S1),
    {S2, Forgotten ++ Sent};
call(_, From, S) ->
    {S, [{reply, From, {error, no_allocation}}]}.

%% Who names no family sends no attribute, and so gets along with servers that do not know it. What
%% a token stands for has its family already (RFC 8656 7.1).
with_family(#{reservation_token := _} = Options, _) -> Options;
with_family(Options, #core{family = undefined}) -> Options;
with_family(Options, #core{family = Family}) -> maps:merge(#{family => Family}, Options).

permit(Ips, Who, S0) ->
    {New, S} = ask(Ips, S0),
    request(create_permission, [{xor_peer_address, {Ip, 0}} || Ip <- Ips],
            {permit, Who, Ips, New}, S).

%% Which of the addresses are new. They count as permitted at once: data may overtake the answer.
ask(Ips, #core{allocation = {ok, A0}} = S) ->
    {New, A} = meerkat_client_allocation:ask(Ips, A0),
    {New, S#core{allocation = {ok, A}}}.

bind_channel(Peer, From, A0, S) ->
    case meerkat_client_allocation:channel(Peer, A0) of
        {ok, Number} ->
            {S, [{reply, From, {ok, Number}}]};
        none ->
            case meerkat_client_allocation:number(Peer, A0) of
                {Number, A} -> bind({from, From}, Number, Peer, S#core{allocation = {ok, A}});
                no_channels -> {S, [{reply, From, {error, no_channels}}]}
            end
    end.

bind(Who, Number, {Ip, _} = Peer, S0) ->
    {New, S} = ask([Ip], S0),
    request(channel_bind, [{channel_number, Number}, {xor_peer_address, Peer}],
            {channel, Who, Number, New}, S).

refresh(Who, #core{allocation = {ok, A}} = S) ->
    Attributes = case meerkat_client_allocation:wanted(A) of
                     default -> [];
                     Seconds -> [{lifetime, Seconds}]
                 end,
    request(refresh, Attributes, {refresh, Who}, S).

%% Sent once and not waited for: a server that misses it lets the allocation expire. One asked for
%% a moment ago may exist already.
goodbye(#core{allocation = none}) ->
    [];
goodbye(#core{auth = Auth}) ->
    [{transmit, meerkat_client_transaction:encode(meerkat_stun:transaction_id(), refresh,
                                                  [{lifetime, 0}], Auth)}].

%% -------------------------------------------------------------------------------- transactions

request(Method, Attributes, Purpose, S) ->
    start(meerkat_client_transaction:new(Method, Attributes, Purpose), S).

start(New, #core{auth = Auth, pace = Pace, transactions = All} = S) ->
    {Id, Packet, Wait, Sent} = meerkat_client_transaction:send(Auth, Pace, New),
    {S#core{transactions = All#{Id => Sent}},
     [{transmit, Packet}, {start_timer, {retransmit, Id}, Wait}]}.

%% Takes the transaction out, then acts on its outcome.
finish(Id, Result, #core{transactions = All} = S0) ->
    {Over, Rest} = maps:take(Id, All),
    Purpose = meerkat_client_transaction:purpose(Over),
    {S, Effects} = done(Purpose, Result, S0#core{transactions = Rest}),
    {S, [{stop_timer, {retransmit, Id}} | Effects]}.

%% The same request once more, as a new transaction.
again(Id, Tx, #core{transactions = All} = S0) ->
    {S, Effects} = start(Tx, S0#core{transactions = maps:remove(Id, All)}),
    {S, [{stop_timer, {retransmit, Id}} | Effects]}.

%% ------------------------------------------------------------------------------------ incoming

response(#{transaction_id := Id} = Message, Packet,
         #core{transactions = All, credentials = Credentials} = S) ->
    case All of
        #{Id := Tx} ->
            Outcome = meerkat_client_transaction:answered(Message, Packet, Credentials, Tx),
            outcome(Outcome, Message, Id, S);
        #{} ->
            {ignored(S), []}
    end.

outcome(ignored, _, _, S) ->
    {ignored(S), []};
outcome({ignored, Tx}, _, Id, #core{transactions = All} = S) ->
    {ignored(S#core{transactions = All#{Id := Tx}}), []};
outcome({again, Auth, Tx}, _, Id, S) ->
    again(Id, Tx, S#core{auth = Auth});
outcome({error, {300, _}} = Redirected, Message, Id, S) ->
    redirect(Redirected, Message, Id, S);
outcome(Result, _, Id, S) ->
    finish(Id, Result, S).

%% Only from addresses we asked to hear, here and below (RFC 8656 11.4, 11.6, 12.6).
channel_data({ok, Number, Payload}, #core{allocation = {ok, A}} = S) ->
    case meerkat_client_allocation:peer(Number, A) of
        {ok, Peer} -> heard(Peer, {data, Peer, Payload, channel}, S);
        none -> {ignored(S), []}
    end;
channel_data(_, S) ->
    {ignored(S), []}.

data_indication(#{unknown := []} = Message, S) ->
    case {meerkat_stun:get(xor_peer_address, Message), meerkat_stun:get(data, Message),
          meerkat_stun:get(icmp, Message)} of
        {{ok, Peer}, {ok, Payload}, _} -> heard(Peer, {data, Peer, Payload, indication}, S);
        {{ok, Peer}, error, {ok, Error}} -> heard(Peer, {icmp, Peer, Error}, S);
        _ -> {ignored(S), []}
    end;
data_indication(_, S) ->
    {ignored(S), []}.

%% A peer has connected (RFC 6062 5.3).
connection_attempt(#{unknown := []} = Message, S) ->
    case {meerkat_stun:get(xor_peer_address, Message), meerkat_stun:get(connection_id, Message)} of
        {{ok, Peer}, {ok, Id}} -> heard(Peer, {attempt, Id, Peer}, S);
        _ -> {ignored(S), []}
    end;
connection_attempt(_, S) ->
    {ignored(S), []}.

heard({Ip, _}, Event, #core{allocation = {ok, A}} = S) ->
    case meerkat_client_allocation:is_permitted(Ip, A) of
        true -> {S, [{owner, Event}]};
        false -> {ignored(S), []}
    end;
heard(_, _, S) ->
    {ignored(S), []}.

send_indication(Peer, Payload) ->
    meerkat_stun:encode(#{class => indication, method => send,
                          transaction_id => meerkat_stun:transaction_id(),
                          attributes => [{xor_peer_address, Peer},
                                         {data, iolist_to_binary(Payload)}]}).

%% ------------------------------------------------------------------------------------ outcomes

%% Followed once, and only to an address of the family in use (RFC 8489 10).
redirect(Redirected, Message, Id, #core{transactions = All, server = {Ip, _}} = S0) ->
    #{Id := Tx} = All,
    Servers = [A || {I, Port} = A <- meerkat_stun:get_all(alternate_server, Message),
                    tuple_size(I) =:= tuple_size(Ip), Port > 0],
    case {meerkat_client_transaction:purpose(Tx), Servers} of
        {{allocate, From, Options, Moves, false}, [Server | _]} ->
            Purpose = {allocate, From, Options, Moves, true},
            {S, Effects} = again(Id, meerkat_client_transaction:redirected(Purpose, Tx),
                                 S0#core{server = Server, auth = none}),
            {S, [{connect, Server} | Effects]};
        _ ->
            finish(Id, Redirected, S0)
    end.

done({binding, From}, {ok, Message}, S) ->
    Mapped = case meerkat_stun:get(xor_mapped_address, Message) of
                 {ok, _} = Found -> Found;
                 error -> meerkat_stun:get(mapped_address, Message)
             end,
    {S, [{reply, From, case Mapped of
                           {ok, _} -> Mapped;
                           error -> {error, {bad_response, binding}}
                       end}]};
done({binding, From}, Failed, S) ->
    {S, [{reply, From, Failed}]};
done({allocate, From, Options, _, _}, {ok, Message}, S) ->
    allocated(From, Options, Message, S);
done({allocate, From, Options, Moves, Redirected}, {error, {437, _}},
     #core{movable = true, server = Server} = S0) when Moves < ?MOVES_MAX ->
    %% Somebody else used our address before, and the server still has that allocation. From another
    %% local port it is tried again.
    {S, Effects} = request(allocate, meerkat_client_allocation:attributes(Options),
                           {allocate, From, Options, Moves + 1, Redirected},
                           S0#core{auth = none}),
    {S, [{connect, Server} | Effects]};
done({allocate, From, _, _, _}, Failed, S) ->
    {S#core{allocation = none}, [{reply, From, Failed}]};
done({refresh, Who}, {ok, Message}, #core{allocation = {ok, A}} = S) ->
    case meerkat_stun:get(lifetime, Message) of
        {ok, Lifetime} when Lifetime > 0 ->
            {S#core{allocation = {ok, meerkat_client_allocation:lifetime(Lifetime, A)}},
             lifetime_timers(Lifetime) ++ answer(Who, {ok, Lifetime})};
        _ ->
            lose({bad_response, refresh}, answer(Who, {error, {bad_response, refresh}}), S)
    end;
done({refresh, Who}, {error, {437, _} = Reason} = Failed, S) ->
    lose(Reason, answer(Who, Failed), S);
done({refresh, {from, From}}, Failed, S) ->
    {S, [{reply, From, Failed}]};
done({refresh, self}, {error, Reason}, S) ->
    refresh_failed(Reason, S);
done({release, From}, Result, S) ->
    %% 437: it was gone already, which is what was asked for (RFC 8656 8.3).
    {S, [{reply, From, case Result of
                           {ok, _} -> ok;
                           {error, {437, _}} -> ok;
                           Failed -> Failed
                       end}]};
done({permit, Who, Ips, _}, {ok, _}, S0) ->
    {S, Timer} = installed(Ips, S0),
    {S, Timer ++ answer(Who, ok)};
done({permit, self, Ips, _}, {error, Reason}, S) ->
    {withdraw(Ips, S), [{owner, {lost, {permissions, Ips, Reason}}}]};
done({permit, {from, From}, _, New}, Failed, S) ->
    {withdraw(New, S), [{reply, From, Failed}]};
done({channel, Who, Number, _}, {ok, _}, #core{allocation = {ok, A}} = S0) ->
    {ok, {Ip, _}} = meerkat_client_allocation:peer(Number, A),
    Bound = meerkat_client_allocation:bind(Number, A),
    {S, Timer} = installed([Ip], S0#core{allocation = {ok, Bound}}),
    {S, [{start_timer, {channel, Number}, ?CHANNEL_MS} | Timer] ++ answer(Who, {ok, Number})};
done({channel, self, Number, _}, {error, Reason}, #core{allocation = {ok, A}} = S) ->
    {ok, Peer} = meerkat_client_allocation:peer(Number, A),
    {S#core{allocation = {ok, meerkat_client_allocation:unbind(Number, A)}},
     [{owner, {lost, {channel, Peer, Reason}}}]};
done({channel, {from, From}, _, New}, Failed, S) ->
    {withdraw(New, S), [{reply, From, Failed}]};
done({connect, {from, From}}, {ok, Message}, S) ->
    {S, [{reply, From, case meerkat_stun:get(connection_id, Message) of
                           {ok, _} = Id -> Id;
                           error -> {error, {bad_response, connect}}
                       end}]};
done({connect, {from, From}}, Failed, S) ->
    {S, [{reply, From, Failed}]}.

answer(self, _) -> [];
answer({from, From}, Result) -> [{reply, From, Result}].

%% An allocation in a family nobody asked for is given back (RFC 8656 7.3).
allocated(From, Options, Message, S0) ->
    case {meerkat_stun:get(xor_relayed_address, Message),
          meerkat_stun:get(xor_mapped_address, Message), meerkat_stun:get(lifetime, Message)} of
        {{ok, Relayed}, {ok, Mapped}, {ok, Lifetime}} when Lifetime > 0 ->
            Wanted = case Options of
                         #{lifetime := Seconds} when Seconds > 0 -> Seconds;
                         #{} -> default
                     end,
            A = meerkat_client_allocation:new(Relayed, Mapped, Lifetime, Wanted),
            S = S0#core{allocation = {ok, A}},
            case of_family(Relayed, Options) of
                true ->
                    Result = allocation(Message, Relayed, Mapped, Lifetime, S),
                    {S, lifetime_timers(Lifetime) ++ [{reply, From, {ok, Result}}]};
                false ->
                    {S#core{allocation = none},
                     goodbye(S) ++ [{reply, From, {error, {bad_response, allocate}}}]}
            end;
        _ ->
            {S0#core{allocation = none}, [{reply, From, {error, {bad_response, allocate}}}]}
    end.

allocation(Message, Relayed, Mapped, Lifetime, #core{server = Server}) ->
    Result = #{server => Server, relayed => Relayed, mapped => Mapped, lifetime => Lifetime},
    case meerkat_stun:get(reservation_token, Message) of
        {ok, Token} -> Result#{reservation_token => Token};
        error -> Result
    end.

of_family({Ip, _}, #{family := inet}) -> tuple_size(Ip) =:= 4;
of_family({Ip, _}, #{family := inet6}) -> tuple_size(Ip) =:= 8;
of_family(_, _) -> true.

lifetime_timers(Seconds) ->
    Ms = min(Seconds * 1000, 16#7fffffff),
    [{start_timer, refresh, max(Ms div 2, Ms - ?REFRESH_MARGIN_MS)}, {start_timer, expire, Ms}].

%% The allocation may be alive as long as it has not expired and nobody has said otherwise.
refresh_failed({Code, _}, S) when Code >= 500, Code < 600 ->
    {S, [{start_timer, refresh, ?REFRESH_AGAIN_MS}]};
refresh_failed(Silence, S) when Silence =:= timeout; Silence =:= bad_integrity ->
    refresh(self, S);
refresh_failed(Reason, S) ->
    lose(Reason, [], S).

installed(Ips, #core{allocation = {ok, A0}} = S) ->
    {First, A} = meerkat_client_allocation:grant(Ips, A0),
    {S#core{allocation = {ok, A}}, [{start_timer, permissions, ?PERMISSIONS_MS} || First]}.

withdraw(Ips, #core{allocation = {ok, A}} = S) ->
    S#core{allocation = {ok, meerkat_client_allocation:withdraw(Ips, A)}}.

lose(Reason, Effects, S0) ->
    {S, Forgotten} = forget(S0),
    {S, Effects ++ Forgotten ++ [{owner, {lost, {allocation, Reason}}}]}.

%% The allocation is no more, and with it its timers and what was being asked about it.
forget(#core{allocation = {ok, A}, transactions = All} = S) ->
    Over = maps:filter(fun(_, Tx) ->
                               Purpose = meerkat_client_transaction:purpose(Tx),
                               lists:member(element(1, Purpose),
                                            [refresh, permit, channel, connect])
                       end, All),
    Timers = [refresh, expire, permissions]
        ++ [{channel, N} || N <- meerkat_client_allocation:numbers(A)]
        ++ [{retransmit, Id} || Id <- maps:keys(Over)],
    Answers = [answer(element(2, meerkat_client_transaction:purpose(Tx)), {error, no_allocation})
               || Tx <- maps:values(Over)],
    {S#core{allocation = none, transactions = maps:without(maps:keys(Over), All)},
     [{stop_timer, Timer} || Timer <- Timers] ++ lists:append(Answers)}.

%% ---------------------------------------------------------------------------------------- time

timeout({retransmit, Id}, #core{transactions = All, pace = Pace} = S) ->
    case meerkat_client_transaction:send_again(Pace, maps:get(Id, All)) of
        {send, Packet, Wait, Tx} ->
            {S#core{transactions = All#{Id := Tx}},
             [{transmit, Packet}, {start_timer, {retransmit, Id}, Wait}]};
        {error, _} = Failed ->
            finish(Id, Failed, S)
    end;
timeout(refresh, S) ->
    renew(S);
timeout(expire, S) ->
    lose(expired, [], S);
timeout(permissions, #core{allocation = {ok, A}} = S) ->
    case meerkat_client_allocation:installed(A) of
        [] ->
            {S#core{allocation = {ok, meerkat_client_allocation:stop_renewing(A)}}, []};
        Ips ->
            renew_permissions(Ips, S, [{start_timer, permissions, ?PERMISSIONS_MS}])
    end;
timeout({channel, Number}, #core{allocation = {ok, A}} = S) ->
    {ok, Peer} = meerkat_client_allocation:peer(Number, A),
    bind(self, Number, Peer, S).

renew_permissions([], S, Effects) ->
    {S, Effects};
renew_permissions(Ips, S0, Effects) ->
    {Some, Rest} = lists:split(min(?PERMISSIONS_PER_REQUEST, length(Ips)), Ips),
    {S, More} = permit(Some, self, S0),
    renew_permissions(Rest, S, Effects ++ More).

%% Refreshes unless that is being done.
renew(#core{transactions = All} = S) ->
    Purposes = [meerkat_client_transaction:purpose(Tx) || Tx <- maps:values(All)],
    case lists:member({refresh, self}, Purposes) of
        false -> refresh(self, S);
        true -> {S, []}
    end.

%% Every transaction that somebody waits for has failed (RFC 8489 6.2.1). Whether the allocation
%% has too, only asking can tell, and asking again: the error may be about one old packet, and the
%% server back in a moment.
unreachable(Reason, #core{transactions = All} = S0) ->
    {S1, Failed} = lists:foldl(fun(Id, Acc) -> fail(Id, Reason, Acc) end, {S0, []},
                               [Id || {Id, Tx} <- maps:to_list(All), not spared(Tx)]),
    case S1 of
        #core{allocation = {ok, _}} ->
            {S2, Asked} = renew(S1),
            {S2, Failed ++ Asked};
        _ ->
            {S1, Failed}
    end.

spared(Tx) ->
    meerkat_client_transaction:sends(Tx) < ?SENDS_SPARED
        andalso element(2, meerkat_client_transaction:purpose(Tx)) =:= self.

%% The server ends an allocation with the connection it came by (RFC 8656 3.1), and answers nothing
%% of what was asked on it. It may have closed what was idle just when it was asked something: what
%% needs no allocation is asked once more, on another connection.
disconnected(Reason, #core{transactions = All} = S0) ->
    {Again, Failed} = lists:partition(fun({_, Tx}) -> may_be_asked_again(Reason, Tx) end,
                                      maps:to_list(All)),
    {S1, Answers} = lists:foldl(fun({Id, _}, Acc) -> fail(Id, Reason, Acc) end, {S0, []}, Failed),
    {S2, Lost} = case S1 of
                     #core{allocation = {ok, _}} -> lose(Reason, Answers, S1);
                     _ -> {S1, Answers}
                 end,
    lists:foldl(fun({Id, Tx}, {S, Effects}) ->
                        {Next, More} = again(Id, meerkat_client_transaction:reconnected(Tx), S),
                        {Next, Effects ++ More}
                end, {S2, Lost}, Again).

may_be_asked_again(Reason, Tx) ->
    not meerkat_client_transaction:is_reconnected(Tx)
        andalso lists:member(Reason, [connection_closed, econnreset, epipe])
        andalso lists:member(element(1, meerkat_client_transaction:purpose(Tx)),
                             [binding, allocate]).

%% An earlier failure may have ended the transaction already.
fail(Id, Reason, {#core{transactions = All} = S0, Effects}) when is_map_key(Id, All) ->
    {S, More} = finish(Id, {error, Reason}, S0),
    {S, Effects ++ More};
fail(_, _, Acc) ->
    Acc.

ignored(#core{ignored = Ignored} = S) ->
    S#core{ignored = Ignored + 1}.
