%% The same conversation over UDP, TCP and TLS, on streams cut anywhere: the same answers, and the
%% same data both ways, whole and in order. A property for PropEr; prop_SUITE runs it.
-module(prop_talk).

-export([start/1, stop/1, prop_transports_agree/1]).

-define(FORALL(Var, Type, Property), proper:forall(Type, fun(Var) -> Property end)).

-import(proper_types, [range/2, oneof/1, list/1, frequency/1]).

-define(CHANNEL, 16#4000).
-define(UNBOUND, 16#4001).

-type side() :: #{client := turn_kit:client(), peer := turn_kit:peer()}.
-opaque fixture() :: #{server := turn_kit:server(), sides := [side()]}.
-export_type([fixture/0]).

%% A server, and on each transport a client with a permission and a channel for a peer of its own.
-spec start(file:filename()) -> fixture().
start(Dir) ->
    Certificate = stream_kit:certificate(Dir, ec, "turn.example.org"),
    Server = turn_kit:start_server(stream_kit:config([Certificate])),
    #{server => Server, sides => [side(Server, Transport) || Transport <- [udp, tcp, tls]]}.

side(Server, Transport) ->
    Options = case Transport of udp -> #{}; _ -> #{transport => Transport} end,
    Client = turn_kit:allocated(Server, [], Options),
    Peer = turn_kit:peer(),
    _ = turn_kit:success(turn_kit:bind(Client, ?CHANNEL, Peer)),
    #{client => Client, peer => Peer}.

-spec stop(fixture()) -> ok.
stop(#{server := Server, sides := Sides}) ->
    _ = [begin turn_kit:close(Client), turn_kit:close(Peer) end
         || #{client := Client, peer := Peer} <- Sides],
    turn_kit:stop_server(Server).

%% Turns: data, a request behind it, and what the peer sends once that is answered.
-spec prop_transports_agree(fixture()) -> proper:test().
prop_transports_agree(#{sides := Sides}) ->
    ?FORALL({Turns, Sizes}, {list({list(datum()), request(), list(payload())}), list(size())},
            begin
                [Udp | Streams] = [[turn(Turn, Sizes, Side) || Turn <- Turns] || Side <- Sides],
                Udp =:= [sent(Turn) || Turn <- without_answers(Turns, Udp)]
                    andalso lists:all(fun(Seen) -> Seen =:= Udp end, Streams)
            end).

%% What must have arrived, whatever the answers.
without_answers(Turns, Seen) ->
    [{Turn, Answer} || {Turn, {Answer, _, _}} <- lists:zip(Turns, Seen)].

sent({{Data, _Request, Back}, Answer}) ->
    {Answer, [bytes(Payload) || {How, Payload} <- Data, How =/= unbound],
     [{?CHANNEL, bytes(Payload)} || Payload <- Back]}.

%%% What is said

datum() -> {oneof([indication, channel, channel, unbound]), payload()}.

%% Length and content.
payload() -> {frequency([{3, range(0, 8)}, {3, range(0, 200)}, {1, range(900, 1300)}]),
              range(0, 255)}.

bytes({Length, Byte}) -> binary:copy(<<Byte>>, Length).

request() ->
    oneof([binding, refresh, again, {permission, {127, 0, 0, 1}}, {permission, {10, 0, 0, 1}},
           {channel, ?CHANNEL}, {channel, 16#3fff}, {unknown, 16#7ffe}]).

size() -> frequency([{3, range(1, 5)}, {2, range(1, 60)}, {1, range(1, 2000)}]).

%%% How it is done

turn({Data, Request, Back}, Sizes, #{client := Client, peer := Peer} = Side) ->
    <<_:64, Txid:12/binary, _/binary>> = Asked = asked(Request, Side),
    ok = say([said(Datum, Side) || Datum <- Data] ++ [Asked], Sizes, Client),
    {ok, Decoded} = stun_model:decode(turn_kit:await(Client, Txid)),
    There = [element(2, turn_kit:peer_next(Peer)) || {How, _} <- Data, How =/= unbound],
    #{relayed := Relayed} = Client,
    _ = [turn_kit:peer_send(Peer, Relayed, bytes(Payload)) || Payload <- Back],
    {answer(Decoded), There, [heard(turn_kit:next(Client)) || _ <- Back]}.

%% Addresses and nonces differ, what is in an answer does not.
answer(#{class := Class, method := Method, attributes := Attributes} = Answer) ->
    {Class, Method, [Code || {error_code, {Code, _}} <- Attributes],
     [Value || {Name, Value} <- Attributes, lists:member(Name, [lifetime, unknown_attributes])],
     lists:sort([Name || {Name, _} <- Attributes]), maps:get(integrity, Answer)}.

heard(<<Number:16, Length:16, Data:Length/binary, _/binary>>) -> {Number, Data}.

said({indication, Payload}, #{peer := #{address := To}}) ->
    turn_kit:request(indication, send, [{xor_peer_address, To}, {data, bytes(Payload)}]);
said({channel, Payload}, _Side) ->
    iolist_to_binary(stun_model:encode_channel(?CHANNEL, bytes(Payload)));
said({unbound, Payload}, _Side) ->
    iolist_to_binary(stun_model:encode_channel(?UNBOUND, bytes(Payload))).

asked(binding, _Side) -> turn_kit:request(binding, []);
asked(refresh, #{client := C}) -> turn_kit:signed(C, refresh, [{lifetime, 1200}]);
asked(again, #{client := C}) -> turn_kit:signed(C, allocate, [{requested_transport, 17}]);
asked({permission, Ip}, #{client := C}) ->
    turn_kit:signed(C, create_permission, [{xor_peer_address, {Ip, 0}}]);
asked({channel, Number}, #{client := C, peer := #{address := To}}) ->
    turn_kit:signed(C, channel_bind, [{channel_number, Number}, {xor_peer_address, To}]);
asked({unknown, Code}, #{client := C}) ->
    turn_kit:signed(C, refresh, [{Code, <<"what">>}]).

%% Datagrams as they are; on a stream padded, joined, and cut where the sizes say.
say(Messages, Sizes, #{socket := Connection}) when is_pid(Connection) ->
    Bytes = << <<M/binary, 0:(-byte_size(M) band 3)/unit:8>> || M <- Messages >>,
    lists:foreach(fun(Piece) -> ok = stream_kit:raw(Connection, Piece) end,
                  pieces(Bytes, Sizes, Sizes));
say(Messages, _Sizes, Client) ->
    lists:foreach(fun(Message) -> ok = turn_kit:send(Client, Message) end, Messages).

pieces(<<>>, _, _) -> [];
pieces(Bytes, _, []) -> [Bytes];
pieces(Bytes, [], Sizes) -> pieces(Bytes, Sizes, Sizes);
pieces(Bytes, [Size | More], Sizes) when Size < byte_size(Bytes) ->
    <<Piece:Size/binary, Rest/binary>> = Bytes,
    [Piece | pieces(Rest, More, Sizes)];
pieces(Bytes, _, _) -> [Bytes].
