%% The protocol half of the client: which request to send, what an answer means, when to send it
%% again and what to renew before it expires (RFC 8489, RFC 8656). Pure: a state and an event go
%% in, a state and effects come out. It knows no socket, no process and no clock; a timer is an
%% effect now and an event later.
-module(meerkat_client_core).

-export([new/1]).
-export([handle/2]).
-export([info/1]).

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

-type allocate_options() :: #{lifetime => non_neg_integer(),
                              family => inet | inet6,
                              even_port => even | reserve,
                              reservation_token => non_neg_integer(),
                              dont_fragment => boolean()}.

-type call() :: binding
              | {allocate, allocate_options()}
              | {permit, [inet:ip_address()]}
              | {bind_channel, address()}
              | {refresh, default | non_neg_integer()}
              | release.

-type timer() :: {retransmit, <<_:96>>} | refresh | expire | permissions
               | {channel, 16#4000..16#4fff}.

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
                     | {lost, lost()}.
-type lost() :: {allocation, error()}
              | {permissions, [inet:ip_address()], error()}
              | {channel, address(), error()}.

-type error() :: {300..699, binary()}            % what the server answered
               | timeout | bad_integrity | bid_down | no_credentials | no_allocation
               | already_allocated | no_channels | expired | no_algorithm
               | {unknown_attributes, [0..65535]}
               | {bad_response, atom()}
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
                 | {channel, self | {from, term()}, Number :: 16#4000..16#4fff,
                    New :: [inet:ip_address()]}.

%% A request under way. `auth` is what its packet was signed with; `stale` and `new_realm` say that
%% the one more try of 9.2.5 is used up; `distrusted`, that an answer failed its integrity check;
%% `reconnected`, that the one more try on another connection is.
-record(tx, {method :: atom(),
             attributes :: [{atom(), term()}],
             purpose :: purpose(),
             packet = <<>> :: binary(),
             auth = none :: none | meerkat_client_auth:auth(),
             sends = 1 :: pos_integer(),
             challenged = false :: boolean(),
             new_realm = false :: boolean(),
             stale = false :: boolean(),
             distrusted = false :: boolean(),
             reconnected = false :: boolean()}).

%% Numbers are never given to another peer while the allocation lives, so nothing has to wait out
%% the five minutes of RFC 8656 12. `peers` holds every number ever asked for, because the server
%% may use it before its answer to the ChannelBind arrives; `bound` those we may send on. In the
%% same way an address is `asked` for before its permission is `installed`. `renewing`: the timer
%% runs that renews all permissions together.
-record(allocation, {relayed :: address(),
                     mapped :: address(),
                     lifetime :: pos_integer(),
                     wanted :: default | pos_integer(),
                     permissions = #{} :: #{inet:ip_address() => asked | installed},
                     renewing = false :: boolean(),
                     peers = #{} :: #{16#4000..16#4fff => address()},
                     numbers = #{} :: #{address() => 16#4000..16#4fff},
                     bound = #{} :: #{address() => 16#4000..16#4fff}}).

-record(core, {server :: address(),
               username :: undefined | binary(),
               password :: undefined | secret(binary()),
               family :: undefined | inet | inet6,
               movable :: boolean(),
               rto :: pos_integer(),
               rc :: pos_integer(),
               rm :: pos_integer(),
               auth = none :: none | meerkat_client_auth:auth(),
               allocation = none :: none | pending | #allocation{},
               transactions = #{} :: #{<<_:96>> => #tx{}},
               ignored = 0 :: non_neg_integer()}).

-opaque state() :: #core{}.

%% RFC 8489 6.2.1.
-define(RTO, 500).
-define(RC, 7).
-define(RM, 16).
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
-define(CHANNEL_MIN, 16#4000).
-define(CHANNEL_MAX, 16#4fff).
-define(UDP, 17).
%% A server that starts again is deaf for a moment, and each packet sent meanwhile comes back as an
%% ICMP error. What keeps the allocation alive is sent so often, over 3.5 s, before one counts.
-define(SENDS_SPARED, 4).

%% ----------------------------------------------------------------------------------------- API

%% A client that has not spoken yet. `username` and `password` in the form they are signed in.
-spec new(config()) -> state().
new(#{server := Server} = Config) ->
    {Rto, Rc, Rm} = case Config of
                        #{ti := Ti} -> {Ti, 1, 1};
                        #{} -> {maps:get(rto, Config, ?RTO), maps:get(rc, Config, ?RC),
                                maps:get(rm, Config, ?RM)}
                    end,
    #core{server = Server,
          username = maps:get(username, Config, undefined),
          password = maps:get(password, Config, undefined),
          family = maps:get(family, Config, undefined),
          movable = maps:get(movable, Config, true),
          rto = Rto, rc = Rc, rm = Rm}.

%% The one function that moves the client on. Effects are to be carried out in order.
-spec handle(event(), state()) -> {state(), [effect()]}.
handle({send, Peer, Payload}, #core{allocation = #allocation{bound = Bound}} = S) ->
    case Bound of
        #{Peer := Number} -> {S, [{transmit, meerkat_stun:encode_channel(Number, Payload)}]};
        #{} -> {S, [{transmit, send_indication(Peer, Payload)}]}
    end;
handle({send, _, _}, S) ->
    {ignored(S), []};
handle({datagram, <<1:2, _/bits>> = Packet}, S) ->
    channel_data(meerkat_stun:decode_channel(Packet), S);
handle({datagram, Packet}, S) ->
    case meerkat_stun:decode(Packet) of
        {ok, #{class := indication, method := data} = Message} ->
            data_indication(Message, S);
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
                         channels => #{address() => 16#4000..16#4fff}}.
info(#core{server = Server, ignored = Ignored, allocation = Allocation}) ->
    Always = #{server => Server, ignored => Ignored},
    case Allocation of
        #allocation{relayed = Relayed, mapped = Mapped, lifetime = Lifetime, bound = Bound,
                    permissions = Permissions} ->
            Always#{relayed => Relayed, mapped => Mapped, lifetime => Lifetime, channels => Bound,
                    permissions => [Ip || {Ip, installed} <- maps:to_list(Permissions)]};
        _ ->
            Always
    end.

%% --------------------------------------------------------------------------------------- calls

call(binding, From, S) ->
    request(binding, [], {binding, From}, S);
call({allocate, Options0}, From, #core{allocation = none} = S) ->
    Options = with_family(Options0, S),
    request(allocate, allocate_attributes(Options), {allocate, From, Options, 0, false},
            S#core{allocation = pending});
call({allocate, _}, From, S) ->
    {S, [{reply, From, {error, already_allocated}}]};
call({permit, []}, From, #core{allocation = #allocation{}} = S) ->
    {S, [{reply, From, ok}]};
call({permit, Ips}, From, #core{allocation = #allocation{}} = S) ->
    permit(Ips, {from, From}, S);
call({bind_channel, Peer}, From, #core{allocation = #allocation{} = A} = S) ->
    bind_channel(Peer, From, A, S);
call({refresh, 0}, From, S) ->
    call(release, From, S);
call({refresh, Lifetime}, From, #core{allocation = #allocation{wanted = Wanted} = A} = S) ->
    New = case Lifetime of
              default -> Wanted;
              _ -> Lifetime
          end,
    refresh({from, From}, S#core{allocation = A#allocation{wanted = New}});
call(release, From, #core{allocation = #allocation{}} = S0) ->
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

allocate_attributes(Options) ->
    [{requested_transport, ?UDP} | lists:append([allocate_attribute(Option)
                                                 || Option <- maps:to_list(Options)])].

allocate_attribute({lifetime, Seconds}) -> [{lifetime, Seconds}];
allocate_attribute({family, inet}) -> [{requested_address_family, 1}];
allocate_attribute({family, inet6}) -> [{requested_address_family, 2}];
allocate_attribute({even_port, Kind}) -> [{even_port, Kind =:= reserve}];
allocate_attribute({reservation_token, Token}) -> [{reservation_token, Token}];
allocate_attribute({dont_fragment, true}) -> [{dont_fragment, true}];
allocate_attribute({dont_fragment, false}) -> [].

permit(Ips, Who, S0) ->
    {New, S} = ask(Ips, S0),
    request(create_permission, [{xor_peer_address, {Ip, 0}} || Ip <- Ips],
            {permit, Who, Ips, New}, S).

%% Which of the addresses are new. They count as permitted at once: data may overtake the answer.
ask(Ips, #core{allocation = #allocation{permissions = Permissions} = A} = S) ->
    New = [Ip || Ip <- Ips, not is_map_key(Ip, Permissions)],
    Asked = maps:from_list([{Ip, asked} || Ip <- New]),
    {New, S#core{allocation = A#allocation{permissions = maps:merge(Permissions, Asked)}}}.

bind_channel(Peer, From, #allocation{bound = Bound, numbers = Numbers} = A, S) ->
    case {Bound, Numbers} of
        {#{Peer := Number}, _} ->
            {S, [{reply, From, {ok, Number}}]};
        {_, #{Peer := Number}} ->
            bind({from, From}, Number, Peer, S);
        _ when ?CHANNEL_MIN + map_size(Numbers) > ?CHANNEL_MAX ->
            {S, [{reply, From, {error, no_channels}}]};
        _ ->
            Number = ?CHANNEL_MIN + map_size(Numbers),
            Peers = (A#allocation.peers)#{Number => Peer},
            bind({from, From}, Number, Peer,
                 S#core{allocation = A#allocation{peers = Peers,
                                                  numbers = Numbers#{Peer => Number}}})
    end.

bind(Who, Number, {Ip, _} = Peer, S0) ->
    {New, S} = ask([Ip], S0),
    request(channel_bind, [{channel_number, Number}, {xor_peer_address, Peer}],
            {channel, Who, Number, New}, S).

refresh(Who, #core{allocation = #allocation{wanted = Wanted}} = S) ->
    Attributes = case Wanted of
                     default -> [];
                     Seconds -> [{lifetime, Seconds}]
                 end,
    request(refresh, Attributes, {refresh, Who}, S).

%% Sent once and not waited for: a server that misses it lets the allocation expire. One asked for
%% a moment ago may exist already.
goodbye(#core{allocation = none}) ->
    [];
goodbye(#core{auth = Auth}) ->
    [{transmit, encode(meerkat_stun:transaction_id(), refresh, [{lifetime, 0}], Auth)}].

%% -------------------------------------------------------------------------------- transactions

request(Method, Attributes, Purpose, S) ->
    start(#tx{method = Method, attributes = Attributes, purpose = Purpose}, S).

start(Tx0, #core{auth = Auth0, transactions = All} = S) ->
    Id = meerkat_stun:transaction_id(),
    Auth = case Tx0 of
               #tx{method = binding, challenged = false} -> none;  % RFC 8489 13: no need to
               _ -> Auth0
           end,
    Packet = encode(Id, Tx0#tx.method, Tx0#tx.attributes, Auth),
    Tx = Tx0#tx{packet = Packet, auth = Auth, sends = 1, distrusted = false},
    {S#core{transactions = All#{Id => Tx}},
     [{transmit, Packet}, {start_timer, {retransmit, Id}, wait(1, S)}]}.

encode(Id, Method, Attributes, Auth) ->
    meerkat_stun:encode(
      meerkat_client_auth:sign(#{class => request, method => Method, transaction_id => Id,
                                 attributes => Attributes}, Auth)).

%% How long to wait after the Sends-th time (RFC 8489 6.2.1).
wait(Sends, #core{rto = Rto, rc = Rc, rm = Rm}) when Sends >= Rc -> Rto * Rm;
wait(Sends, #core{rto = Rto}) -> Rto bsl (Sends - 1).

%% Takes the transaction out, then acts on its outcome.
finish(Id, Result, #core{transactions = All} = S0) ->
    {#tx{purpose = Purpose}, Rest} = maps:take(Id, All),
    {S, Effects} = done(Purpose, Result, S0#core{transactions = Rest}),
    {S, [{stop_timer, {retransmit, Id}} | Effects]}.

%% The same request once more, as a new transaction.
again(Id, Tx, #core{transactions = All} = S0) ->
    {S, Effects} = start(Tx, S0#core{transactions = maps:remove(Id, All)}),
    {S, [{stop_timer, {retransmit, Id}} | Effects]}.

%% ------------------------------------------------------------------------------------ incoming

response(#{transaction_id := Id, method := Method} = Message, Packet,
         #core{transactions = All} = S) ->
    case All of
        #{Id := #tx{method = Method} = Tx} ->
            case meerkat_client_auth:trusts(Message, Packet, Tx#tx.auth) of
                true -> judge(Message, Id, Tx, S);
                false -> {ignored(S#core{transactions = All#{Id := Tx#tx{distrusted = true}}}), []}
            end;
        #{} ->
            {ignored(S), []}
    end.

judge(#{unknown := [_ | _] = Types}, Id, _, S) ->
    finish(Id, {error, {unknown_attributes, Types}}, S);
judge(#{class := success} = Message, Id, _, S) ->
    finish(Id, {ok, Message}, S);
judge(Message, Id, #tx{method = Method} = Tx, S) ->
    case meerkat_stun:get(error_code, Message) of
        {ok, {401, _} = Error} -> unauthenticated(Message, Error, Id, Tx, S);
        {ok, {438, _} = Error} -> stale(Message, Error, Id, Tx, S);
        {ok, {300, _} = Error} when Method =:= allocate -> redirect(Message, Error, Id, Tx, S);
        {ok, Error} -> finish(Id, {error, Error}, S);
        error -> finish(Id, {error, {bad_response, Method}}, S)
    end.

%% Only from addresses we asked to hear, here and below (RFC 8656 11.4, 11.6, 12.6).
channel_data({ok, Number, Payload}, #core{allocation = #allocation{} = A} = S) ->
    case A#allocation.peers of
        #{Number := {Ip, _} = Peer} when is_map_key(Ip, A#allocation.permissions) ->
            {S, [{owner, {data, Peer, Payload, channel}}]};
        #{} ->
            {ignored(S), []}
    end;
channel_data(_, S) ->
    {ignored(S), []}.

data_indication(#{unknown := []} = Message, #core{allocation = #allocation{} = A} = S) ->
    case {meerkat_stun:get(xor_peer_address, Message), meerkat_stun:get(data, Message),
          meerkat_stun:get(icmp, Message)} of
        {{ok, {Ip, _} = Peer}, Data, Icmp} when is_map_key(Ip, A#allocation.permissions) ->
            case {Data, Icmp} of
                {{ok, Payload}, _} -> {S, [{owner, {data, Peer, Payload, indication}}]};
                {error, {ok, Error}} -> {S, [{owner, {icmp, Peer, Error}}]};
                {error, error} -> {ignored(S), []}
            end;
        _ ->
            {ignored(S), []}
    end;
data_indication(_, S) ->
    {ignored(S), []}.

send_indication(Peer, Payload) ->
    meerkat_stun:encode(#{class => indication, method => send,
                          transaction_id => meerkat_stun:transaction_id(),
                          attributes => [{xor_peer_address, Peer},
                                         {data, iolist_to_binary(Payload)}]}).

%% ------------------------------------------------------------------ the long-term mechanism 9.2

%% A second refusal under the same realm is final: nothing would be different (RFC 8489 9.2.5).
unauthenticated(_, _, Id, _, #core{username = undefined} = S) ->
    finish(Id, {error, no_credentials}, S);
unauthenticated(Message, Error, Id, #tx{auth = Auth, new_realm = Tried} = Tx, S) ->
    case {learn(Message, S), Auth} of
        {{error, _} = Failed, none} ->
            finish(Id, Failed, S);
        {{ok, New}, none} ->
            again(Id, Tx#tx{challenged = true}, S#core{auth = New});
        {{ok, New}, _} when not Tried ->
            case meerkat_client_auth:realm(New) =:= meerkat_client_auth:realm(Auth) of
                true -> finish(Id, {error, Error}, S);
                false -> again(Id, Tx#tx{new_realm = true}, S#core{auth = New})
            end;
        _ ->
            finish(Id, {error, Error}, S)
    end.

%% One more try with the new nonce; a server that calls that stale too would do so for ever.
stale(Message, _, Id, #tx{auth = Auth, stale = false} = Tx, S) when Auth =/= none ->
    case learn(Message, S) of
        {ok, New} -> again(Id, Tx#tx{stale = true}, S#core{auth = New});
        Failed -> finish(Id, Failed, S)
    end;
stale(_, Error, Id, _, S) ->
    finish(Id, {error, Error}, S).

learn(Message, #core{username = User, password = Password}) ->
    meerkat_client_auth:learn(Message, User, Password).

%% ------------------------------------------------------------------------------------ outcomes

%% Followed once, and only to an address of the family in use (RFC 8489 10).
redirect(Message, Error, Id,
         #tx{purpose = {allocate, From, Options, Moves, false}} = Tx,
         #core{server = {Ip, _}} = S) ->
    case [A || {I, Port} = A <- meerkat_stun:get_all(alternate_server, Message),
               tuple_size(I) =:= tuple_size(Ip), Port > 0] of
        [Server | _] ->
            move(Server, Id, Tx#tx{purpose = {allocate, From, Options, Moves, true}}, S);
        [] ->
            finish(Id, {error, Error}, S)
    end;
redirect(_, Error, Id, _, S) ->
    finish(Id, {error, Error}, S).

%% A nonce is for one client address: the new socket begins with an unsigned request again.
move(Server, Id, Tx, S0) ->
    {S, Effects} = again(Id, Tx#tx{challenged = false, new_realm = false, stale = false},
                         S0#core{server = Server, auth = none}),
    {S, [{connect, Server} | Effects]}.

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
    %% Our address was another client's, whose allocation still stands; the next port is not.
    {S, Effects} = request(allocate, allocate_attributes(Options),
                           {allocate, From, Options, Moves + 1, Redirected},
                           S0#core{auth = none}),
    {S, [{connect, Server} | Effects]};
done({allocate, From, _, _, _}, Failed, S) ->
    {S#core{allocation = none}, [{reply, From, Failed}]};
done({refresh, Who}, {ok, Message}, #core{allocation = #allocation{} = A} = S) ->
    case meerkat_stun:get(lifetime, Message) of
        {ok, Lifetime} when Lifetime > 0 ->
            {S#core{allocation = A#allocation{lifetime = Lifetime}},
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
done({channel, Who, Number, _}, {ok, _}, #core{allocation = #allocation{} = A} = S0) ->
    #allocation{peers = #{Number := {Ip, _} = Peer}, bound = Bound} = A,
    Now = A#allocation{bound = Bound#{Peer => Number}},
    {S, Timer} = installed([Ip], S0#core{allocation = Now}),
    {S, [{start_timer, {channel, Number}, ?CHANNEL_MS} | Timer] ++ answer(Who, {ok, Number})};
done({channel, self, Number, _}, {error, Reason},
     #core{allocation = #allocation{} = A} = S) ->
    #allocation{peers = #{Number := Peer}, bound = Bound} = A,
    {S#core{allocation = A#allocation{bound = maps:remove(Peer, Bound)}},
     [{owner, {lost, {channel, Peer, Reason}}}]};
done({channel, {from, From}, _, New}, Failed, S) ->
    {withdraw(New, S), [{reply, From, Failed}]}.

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
            S = S0#core{allocation = #allocation{relayed = Relayed, mapped = Mapped,
                                                 lifetime = Lifetime, wanted = Wanted}},
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

installed(Ips, #core{allocation = #allocation{permissions = Old, renewing = Renewing} = A} = S) ->
    Permissions = maps:merge(Old, maps:from_list([{Ip, installed} || Ip <- Ips])),
    Timer = [{start_timer, permissions, ?PERMISSIONS_MS} || not Renewing],
    {S#core{allocation = A#allocation{permissions = Permissions, renewing = true}}, Timer}.

withdraw(Ips, #core{allocation = #allocation{permissions = Permissions} = A} = S) ->
    S#core{allocation = A#allocation{permissions = maps:without(Ips, Permissions)}}.

lose(Reason, Effects, S0) ->
    {S, Forgotten} = forget(S0),
    {S, Effects ++ Forgotten ++ [{owner, {lost, {allocation, Reason}}}]}.

%% The allocation is no more, and with it its timers and what was being asked about it.
forget(#core{allocation = #allocation{bound = Bound}, transactions = All} = S) ->
    Over = maps:filter(fun(_, #tx{purpose = Purpose}) ->
                               lists:member(element(1, Purpose), [refresh, permit, channel])
                       end, All),
    Timers = [refresh, expire, permissions] ++ [{channel, N} || N <- maps:values(Bound)]
        ++ [{retransmit, Id} || Id <- maps:keys(Over)],
    Answers = [answer(element(2, Purpose), {error, no_allocation})
               || #tx{purpose = Purpose} <- maps:values(Over)],
    {S#core{allocation = none, transactions = maps:without(maps:keys(Over), All)},
     [{stop_timer, Timer} || Timer <- Timers] ++ lists:append(Answers)}.

%% ---------------------------------------------------------------------------------------- time

timeout({retransmit, Id}, #core{transactions = All, rc = Rc} = S) ->
    case All of
        #{Id := #tx{sends = Sends, packet = Packet} = Tx} when Sends < Rc ->
            {S#core{transactions = All#{Id := Tx#tx{sends = Sends + 1}}},
             [{transmit, Packet}, {start_timer, {retransmit, Id}, wait(Sends + 1, S)}]};
        #{Id := #tx{distrusted = true}} ->
            finish(Id, {error, bad_integrity}, S);
        #{Id := _} ->
            finish(Id, {error, timeout}, S)
    end;
timeout(refresh, S) ->
    renew(S);
timeout(expire, S) ->
    lose(expired, [], S);
timeout(permissions, #core{allocation = #allocation{} = A} = S) ->
    case [Ip || {Ip, installed} <- maps:to_list(A#allocation.permissions)] of
        [] ->
            {S#core{allocation = A#allocation{renewing = false}}, []};
        Ips ->
            renew_permissions(Ips, S, [{start_timer, permissions, ?PERMISSIONS_MS}])
    end;
timeout({channel, Number}, #core{allocation = #allocation{peers = Peers}} = S) ->
    bind(self, Number, maps:get(Number, Peers), S).

renew_permissions([], S, Effects) ->
    {S, Effects};
renew_permissions(Ips, S0, Effects) ->
    {Some, Rest} = lists:split(min(?PERMISSIONS_PER_REQUEST, length(Ips)), Ips),
    {S, More} = permit(Some, self, S0),
    renew_permissions(Rest, S, Effects ++ More).

%% Refreshes unless that is being done.
renew(#core{transactions = All} = S) ->
    case [self || #tx{purpose = {refresh, self}} <- maps:values(All)] of
        [] -> refresh(self, S);
        _ -> {S, []}
    end.

%% Every transaction that somebody waits for has failed (RFC 8489 6.2.1). Whether the allocation
%% has too, only asking can tell, and asking again: the error may be about one old packet, and the
%% server back in a moment.
unreachable(Reason, #core{transactions = All} = S0) ->
    {S1, Failed} = lists:foldl(fun(Id, Acc) -> fail(Id, Reason, Acc) end, {S0, []},
                               [Id || {Id, Tx} <- maps:to_list(All), not spared(Tx)]),
    case S1 of
        #core{allocation = #allocation{}} ->
            {S2, Asked} = renew(S1),
            {S2, Failed ++ Asked};
        _ ->
            {S1, Failed}
    end.

spared(#tx{sends = Sends, purpose = Purpose}) ->
    Sends < ?SENDS_SPARED andalso element(2, Purpose) =:= self.

%% The server ends an allocation with the connection it came by (RFC 8656 3.1), and answers nothing
%% of what was asked on it. It may have closed what was idle just when it was asked something: what
%% needs no allocation is asked once more, on another connection.
disconnected(Reason, #core{transactions = All} = S0) ->
    {Again, Failed} = lists:partition(fun({_, Tx}) -> may_be_asked_again(Reason, Tx) end,
                                      maps:to_list(All)),
    {S1, Answers} = lists:foldl(fun({Id, _}, Acc) -> fail(Id, Reason, Acc) end, {S0, []}, Failed),
    {S2, Lost} = case S1 of
                     #core{allocation = #allocation{}} -> lose(Reason, Answers, S1);
                     _ -> {S1, Answers}
                 end,
    lists:foldl(fun({Id, Tx}, {S, Effects}) ->
                        {Next, More} = again(Id, Tx#tx{reconnected = true}, S),
                        {Next, Effects ++ More}
                end, {S2, Lost}, Again).

may_be_asked_again(Reason, #tx{purpose = Purpose, reconnected = false}) ->
    lists:member(Reason, [connection_closed, econnreset, epipe])
        andalso lists:member(element(1, Purpose), [binding, allocate]);
may_be_asked_again(_, _) ->
    false.

%% An earlier failure may have taken the transaction along.
fail(Id, Reason, {#core{transactions = All} = S0, Effects}) when is_map_key(Id, All) ->
    {S, More} = finish(Id, {error, Reason}, S0),
    {S, Effects ++ More};
fail(_, _, Acc) ->
    Acc.

ignored(#core{ignored = Ignored} = S) ->
    S#core{ignored = Ignored + 1}.
