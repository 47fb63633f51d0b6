%% Two servers that differ in nothing but whether packets between their clients may take shortcuts
%% are spoken over alike. A property for PropEr; shortcuts_SUITE runs it.
-module(prop_shortcuts).

-export([prop_same/2]).

-define(FORALL(Var, Type, Property), proper:forall(Type, fun(Var) -> Property end)).

-import(proper_types, [range/2, oneof/1, frequency/1, list/1]).

-define(NUMBERS, [16#4000, 16#4001, 16#4002]).
%% Each packet is delivered, or dropped under one of these.
-define(REASONS, [no_channel, bad_channel, bad_indication, no_permission, forbidden_peer,
                  peer_family, no_allocation]).

-spec prop_same(turn_kit:server(), turn_kit:server()) -> proper:test().
prop_same(With, Without) ->
    ?FORALL({Families, Deeds}, {oneof([[], [{requested_address_family, 2}]]), list(deed())},
            begin
                [One, Other] = Two = [couple(Server, Families) || Server <- [With, Without]],
                Same = lists:all(fun(Deed) -> done(Deed, One) =:= done(Deed, Other) end,
                                 start() ++ Deeds)
                    andalso held(One) =:= held(Other),
                _ = [begin turn_kit:delete(Client), turn_kit:close(Client) end
                     || {A, B} <- Two, Client <- [A, B]],
                Same
            end).

couple(Server, Families) ->
    {turn_kit:allocated(Server, Families), turn_kit:allocated(Server, Families)}.

%% Most are about a couple that is joined, and what it does then.
start() ->
    [{bind, a, 16#4000}, {bind, b, 16#4001}, {say, a, {channel, 16#4000}, 8},
     {say, b, {channel, 16#4001}, 8}].

deed() ->
    frequency([{12, {say, side(), way(), size()}},
               {1, {bind, side(), oneof([16#3fff, 16#5000 | ?NUMBERS])}},
               {1, {permit, side(), oneof([other, {127, 0, 0, 9}, {169, 254, 0, 1}])}},
               {1, {refresh, side(), oneof([1, 600, 1200])}}]).

side() -> oneof([a, b]).

way() ->
    frequency([{6, {channel, oneof(?NUMBERS)}}, {3, send}, {1, send_whole}, {1, send_nothing}]).

size() -> frequency([{1, 0}, {4, range(1, 200)}, {2, range(900, 1400)}]).

%% ------------------------------------------------------------------------------ what is done

done({say, Side, Way, Size}, Couple) ->
    {From, To} = of_side(Side, Couple),
    said(From, To, message(Way, To, crypto:strong_rand_bytes(Size)));
done({bind, Side, Number}, Couple) ->
    {From, #{relayed := Peer}} = of_side(Side, Couple),
    turn_kit:code(turn_kit:bind(From, Number, Peer));
done({permit, Side, other}, Couple) ->
    {From, #{relayed := Peer}} = of_side(Side, Couple),
    turn_kit:code(turn_kit:permit(From, [Peer]));
done({permit, Side, Ip}, Couple) ->
    {From, _To} = of_side(Side, Couple),
    turn_kit:code(turn_kit:permit(From, [{Ip, 0}]));
done({refresh, Side, Lifetime}, Couple) ->
    {From, _To} = of_side(Side, Couple),
    Answer = turn_kit:call(From, refresh, [{lifetime, Lifetime}]),
    {turn_kit:code(Answer), turn_kit:get(lifetime, Answer)}.

of_side(a, {A, B}) -> {A, B};
of_side(b, {A, B}) -> {B, A}.

message({channel, Number}, _To, Data) ->
    {Data, iolist_to_binary(stun_model:encode_channel(Number, Data))};
message(send, #{relayed := Peer}, Data) ->
    {Data, indication([{xor_peer_address, Peer}, {data, Data}])};
message(send_whole, #{relayed := Peer}, Data) ->
    {Data, indication([{xor_peer_address, Peer}, {dont_fragment, true}, {data, Data}])};
message(send_nothing, #{relayed := Peer}, Data) ->
    {Data, indication([{xor_peer_address, Peer}])}.

indication(Items) -> turn_kit:request(indication, send, Items).

%% What the other heard, or why it did not: whichever happens is awaited.
said(#{server := Server} = From, #{socket := Socket} = To, {Data, Bytes}) ->
    Before = drops(Server),
    ok = turn_kit:send(From, Bytes),
    turn_kit:eventually(fun() ->
        {messages, Messages} = process_info(self(), messages),
        [M || {udp, S, _, _, _} = M <- Messages, S =:= Socket] =/= []
            orelse drops(Server) =/= Before
    end),
    case {drops(Server), Before} of
        {Same, Same} -> heard(turn_kit:next(To), From, Data);
        {After, _} -> [{Reason, N - M}
                       || {{Reason, N}, {_, M}} <- lists:zip(After, Before), N =/= M]
    end.

drops(#{name := Name}) ->
    #{relay := {ok, #{counters := Counters}}} = meerkat:info(Name),
    [{Reason, maps:get(Reason, Counters)} || Reason <- ?REASONS].

heard(<<0:2, _/bitstring>> = Bytes, #{relayed := Peer}, Data) ->
    {ok, #{method := data, attributes := Attributes}} = stun_model:decode(Bytes),
    {indication, lists:sort(Attributes) =:= [{data, Data}, {xor_peer_address, Peer}]};
heard(<<Number:16, Length:16, Rest/binary>>, _From, Data) ->
    {Number, Length, Rest =:= Data}.

%% ------------------------------------------------------------------------ what is left of it

%% Ports and times differ.
held({A, B}) ->
    [begin
         Details = details(Client),
         {maps:with([user, client_packets, client_bytes, peer_packets, peer_bytes, dropped, drops,
                     peers], Details),
          [Ip || #{peer := Ip} <- maps:get(permissions, Details)],
          [{Number, Ip} || #{number := Number, peer := {Ip, _}} <- maps:get(channels, Details)]}
     end || Client <- [A, B]].

details(#{server := #{name := Name}, here := Here}) ->
    [#{session := Session}] = [A || #{client := C} = A <- meerkat:allocations(Name), C =:= Here],
    {ok, Details} = meerkat:allocation(Name, Session),
    Details.
