%% Two servers that differ in nothing but whether the relay may answer by itself are asked the same.
%% A property for PropEr.
-module(prop_grants).

-export([prop_same/2]).

-define(FORALL(Var, Type, Property), proper:forall(Type, fun(Var) -> Property end)).
-define(LET(Var, Type, Result), proper_types:bind(Type, fun(Var) -> Result end, false)).

-import(proper_types, [range/2, oneof/1, frequency/1, list/1]).

-spec prop_same(turn_kit:server(), turn_kit:server()) -> proper:test().
prop_same(With, Without) ->
    ?FORALL({Families, Requests}, {oneof([[], [{additional_address_family, 2}]]), list(request())},
            begin
                Two = [turn_kit:allocated(Server, Families) || Server <- [With, Without]],
                Same = lists:all(fun(Request) -> is_same(Request, Two) end, Requests)
                    andalso has_same(Two)
                    andalso is_same({refresh, [{lifetime, 0}], #{}}, Two)
                    andalso is_same({refresh, [], #{}}, Two),
                _ = [turn_kit:close(Client) || Client <- Two],
                Same
            end).

%% The same bytes ask, the nonce aside, and the same bytes answer.
is_same({Method, Items, Options}, Two) ->
    Txid = crypto:strong_rand_bytes(12),
    [A, B] = [begin
                  Request = turn_kit:signed(Client, Method, Items,
                                            Options#{transaction_id => Txid}),
                  #{bytes := Bytes} = turn_kit:ask(Client, Request),
                  Bytes
              end || Client <- Two],
    without_nonce(A) =:= without_nonce(B).

%% Only what is not signed has one.
without_nonce(Bytes) ->
    {ok, #{attributes := Attributes}} = stun_model:decode(Bytes),
    case lists:keymember(nonce, 1, Attributes) of
        true -> lists:keydelete(nonce, 1, Attributes);
        false -> Bytes
    end.

has_same(Two) ->
    [A, B] = [held(Client) || Client <- Two],
    same(A, B).

held(#{server := #{name := Name}, here := Here}) ->
    [#{session := Session}] = [A || #{client := C} = A <- meerkat:allocations(Name), C =:= Here],
    {ok, Details} = meerkat:allocation(Name, Session),
    maps:with([user, peers, expires_ms, permissions, channels], Details).

%% Times differ by as long as the requests took, some seconds on a slow machine.
same(#{expires_ms := A} = One, #{expires_ms := B} = Other) ->
    abs(A - B) < 30000 andalso same(maps:remove(expires_ms, One), maps:remove(expires_ms, Other));
same(#{} = One, #{} = Other) ->
    maps:keys(One) =:= maps:keys(Other)
        andalso lists:all(fun(Key) -> same(maps:get(Key, One), maps:get(Key, Other)) end,
                          maps:keys(One));
same([One | Ones], [Other | Others]) -> same(One, Other) andalso same(Ones, Others);
same(One, Other) -> One =:= Other.

%% ----------------------------------------------------------------------------------- requests

%% Most would succeed. Nothing ends the allocation, for then there is nothing left to compare.
request() ->
    ?LET({{Method, Items}, More, Options}, {asked(), more(), options()},
         {Method, Items ++ More, Options}).

asked() ->
    frequency([
        {4, ?LET(Items, list_of(4, {xor_peer_address, peer()}), {create_permission, Items})},
        {4, ?LET({Number, Peer}, {number(), peer()},
                 {channel_bind, [{channel_number, Number}, {xor_peer_address, Peer}]})},
        {3, ?LET(Lifetime, oneof([1, 599, 600, 601, 1200, 1800, 1801, 4294967295]),
                 {refresh, [{lifetime, Lifetime}]})},
        {1, {refresh, []}},
        {1, {create_permission, []}},
        {1, {channel_bind, oneof([[], [{channel_number, 16#4001}],
                                  [{xor_peer_address, {{127, 0, 0, 1}, 9}}]])}},
        {1, {refresh, [{bytes, <<16#000d:16, 2:16, 1, 2, 0, 0>>}]}},
        {1, {create_permission, [{bytes, <<16#0012:16, 4:16, 0, 1, 0, 0>>}]}}]).

list_of(Most, Type) ->
    ?LET(N, range(1, Most), [Type || _ <- lists:seq(1, N)]).

number() ->
    frequency([{8, range(16#4000, 16#4004)}, {1, oneof([0, 16#3fff, 16#5000, 16#7fff, 16#ffff])}]).

peer() ->
    ?LET({Ip, Port}, {frequency([{8, {127, 0, 0, range(1, 4)}}, {1, {169, 254, 0, 1}},
                                 {1, {192, 0, 2, 1}}, {2, {0, 0, 0, 0, 0, 0, 0, 1}}]),
                      frequency([{5, range(9, 11)}, {1, 0}])},
         {Ip, Port}).

more() ->
    frequency([{30, []},
               {1, [{requested_address_family, 1}]},
               {1, [{requested_address_family, 2}]},
               {1, [{software, <<"a client">>}]},
               {1, [{16#7f00, <<"who?">>}]},
               {1, [{16#c001, <<"whatever">>}]},
               {1, [{priority, 7}]},
               {1, [{dont_fragment, true}]},
               {1, [{lifetime, 900}]}]).

options() ->
    frequency([{30, #{}}, {10, #{fingerprint => true}}, {1, #{hash => sha256}},
               {1, #{key => <<0:128>>}}, {1, #{algorithm => sha256}},
               {1, #{trailing => [{lifetime, 900}]}}]).
