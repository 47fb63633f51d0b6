%% Messages on a stream: however it is cut, the client finds the same ones, and what is none ends it
%% at the same place. Properties for PropEr; prop_SUITE runs them.
-module(prop_frames).

-export([prop_split/0, prop_refused/0]).

-define(FORALL(Var, Type, Property), proper:forall(Type, fun(Var) -> Property end)).
-define(LET(Var, Type, Result), proper_types:bind(Type, fun(Var) -> Result end, false)).

-import(proper_types, [range/2, oneof/1, frequency/1, list/1, binary/0]).

%% A server speaks STUN first, and then both as it likes. What is sent padded is found without
%% padding, and of the last message, which is cut, as much is kept as has come.
-spec prop_split() -> proper:test().
prop_split() ->
    ?FORALL({First, Messages, Cut, Sizes}, {stun(), list(message()), message(), sizes()},
            begin
                All = [First | Messages],
                Whole = iolist_to_binary([meerkat_client_frames:pad(M) || M <- All]),
                Begun = binary:part(Cut, 0, byte_size(Cut) div 2),
                {ok, Found, S} = taken(pieces(<<Whole/binary, Begun/binary>>, Sizes)),
                0 =:= byte_size(Whole) rem 4 andalso Found =:= All
                    andalso meerkat_client_frames:rest(S) =:= Begun
            end).

%% The messages before what is none are found, in whatever pieces both come.
-spec prop_refused() -> proper:test().
prop_refused() ->
    ?FORALL({Messages, Bad, Sizes}, {list(stun()), nothing(), sizes()},
            begin
                Whole = iolist_to_binary(Messages),
                {error, Found, S} = taken(pieces(<<Whole/binary, Bad/binary>>, Sizes)),
                Rest = meerkat_client_frames:rest(S),
                Found =:= Messages andalso Rest =/= <<>>
                    andalso Rest =:= binary:part(Bad, 0, byte_size(Rest))
            end).

taken(Pieces) -> taken(Pieces, [], meerkat_client_frames:new()).

taken([], Found, S) ->
    {ok, Found, S};
taken([Piece | Pieces], Found, S0) ->
    case meerkat_client_frames:take(Piece, S0) of
        {ok, Frames, S} -> taken(Pieces, Found ++ Frames, S);
        {error, Frames, S} -> {error, Found ++ Frames, S}
    end.

%% In pieces of these sizes, again and again.
pieces(Bytes, Sizes) -> pieces(Bytes, Sizes, Sizes).

pieces(<<>>, _, _) -> [];
pieces(Bytes, [], Sizes) -> pieces(Bytes, Sizes, Sizes);
pieces(Bytes, [Size | More], Sizes) when Size < byte_size(Bytes) ->
    <<Piece:Size/binary, Rest/binary>> = Bytes,
    [Piece | pieces(Rest, More, Sizes)];
pieces(Bytes, _, _) -> [Bytes].

sizes() -> ?LET({Size, Sizes}, {size(), list(size())}, [Size | Sizes]).
size() -> frequency([{3, range(1, 5)}, {2, range(1, 40)}, {1, range(1, 2000)}]).

message() -> frequency([{1, stun()}, {2, channel_data()}]).

stun() ->
    ?LET({Class, Payload}, {oneof([success, error, indication]), binary()},
         meerkat_stun:encode(#{class => Class, method => data, attributes => [{data, Payload}],
                               transaction_id => meerkat_stun:transaction_id()})).

channel_data() ->
    ?LET({Number, Payload}, {range(16#4000, 16#4fff), binary()},
         meerkat_stun:encode_channel(Number, Payload)).

%% Long enough to be told from the beginning of a message.
nothing() ->
    oneof([<<"RTSP/1.0 400 Bad Request">>, <<21, 3, 3, 0, 2, 2, 70, 0>>, <<16#c0, 0, 0, 0>>,
           <<16#01, 16#01, 0, 3, 16#2112a442:32>>, <<16#01, 16#01, 0, 0, 16#2112a443:32>>,
           <<16#5000:16, 0:16>>]).
