%% What a receiver does with packets as they come: puts them in order, gives up on what stays away,
%% and hands out the pictures that can be shown. After a loss nothing is shown until a picture comes
%% that needs no other: what decoders would make of the ones between is smeared. Pure; the caller
%% brings the time.
-module(stream_jitter).

-export([new/0, take/3, flush/1, info/1]).

-export_type([state/0]).

%% How long others wait for a packet that is missing, and how many of them.
-define(PATIENCE_MS, 80).
-define(HELD_MAX, 256).

-record(state, {next :: undefined | integer(),          % the number that is handed on next
                held = #{} :: #{integer() => {stream_rtp:packet(), Ms :: integer()}},
                timestamp :: undefined | integer(),     % of the picture that is being put together
                nals = [] :: [stream_rtp:nal()],        % of it, the latest first
                part = none :: none | binary(),         % of a NAL unit, from its beginning
                broken = true :: boolean(),             % waiting for a picture that needs no other
                last_ms :: undefined | integer(),
                received = 0, lost = 0, shown = 0, skipped = 0,
                silence_ms = 0 :: non_neg_integer()}).  % the longest

-opaque state() :: #state{}.

-spec new() -> state().
new() -> #state{}.

%% The pictures that are complete now, as the bytes a decoder takes.
-spec take(stream_rtp:packet(), NowMs :: integer(), state()) -> {iodata(), state()}.
take(#{seq := Seq} = Packet, Now, #state{next = undefined} = S) ->
    take(Packet, Now, S#state{next = Seq + 16#10000});
take(#{seq := Seq} = Packet, Now, S0) ->
    S = heard(Now, S0),
    case extend(Seq, S) of
        N when N >= S#state.next, not is_map_key(N, S#state.held) ->
            Held = (S#state.held)#{N => {Packet, Now}},
            hand_on(Now, S#state{held = Held, received = S#state.received + 1}, []);
        _ -> {[], S}                                    % twice, or later than we waited
    end.

heard(Now, #state{last_ms = undefined} = S) -> S#state{last_ms = Now};
heard(Now, #state{last_ms = Last, silence_ms = Longest} = S) ->
    S#state{last_ms = Now, silence_ms = max(Longest, Now - Last)}.

%% Sequence numbers have 16 bits and start anywhere; the nearest to the expected one is meant.
extend(Seq, #state{next = Next}) ->
    <<Distance:16/signed>> = <<(Seq - Next):16>>,
    Next + Distance.

%% No more will come: what is held is handed on.
-spec flush(state()) -> {iodata(), state()}.
flush(S) -> hand_on(infinity, S, []).

-spec info(state()) -> #{atom() => non_neg_integer()}.
info(#state{next = Next} = S) ->
    #{received => S#state.received, lost => S#state.lost, shown => S#state.shown,
      skipped => S#state.skipped, silence_ms => S#state.silence_ms,
      highest => case Next of undefined -> 0; _ -> Next - 1 end}.

hand_on(_, #state{held = Held} = S, Shown) when map_size(Held) =:= 0 ->
    {lists:reverse(Shown), S};
hand_on(Now, #state{next = Next, held = Held} = S, Shown) ->
    case maps:take(Next, Held) of
        {{Packet, _}, Rest} ->
            {Picture, S1} = packet(Packet, S#state{held = Rest, next = Next + 1}),
            hand_on(Now, S1, [Picture | Shown]);
        error ->
            First = lists:min(maps:keys(Held)),
            {_, Since} = map_get(First, Held),
            case Now =:= infinity orelse Now - Since > ?PATIENCE_MS
                orelse map_size(Held) > ?HELD_MAX of
                true -> hand_on(Now, gap(First, S), Shown);
                false -> {lists:reverse(Shown), S}
            end
    end.

gap(First, #state{next = Next, lost = Lost} = S) ->
    S#state{next = First, lost = Lost + First - Next, broken = true, nals = [], part = none}.

packet(#{timestamp := Timestamp} = Packet, #state{timestamp = Other} = S)
  when Timestamp =/= Other ->
    packet(Packet, S#state{timestamp = Timestamp, nals = [], part = none});
packet(#{payload := Payload, marker := Marker}, S0) ->
    S = add(stream_rtp:payload(Payload), S0),
    case Marker of
        true -> picture(lists:reverse(S#state.nals), S#state{nals = []});
        false -> {[], S}
    end.

add({whole, Nals}, S) -> S#state{nals = lists:reverse(Nals, S#state.nals), part = none};
add({first, Part}, S) -> S#state{part = Part};
add({_, _}, #state{part = none} = S) -> S;
add({middle, More}, #state{part = Part} = S) -> S#state{part = <<Part/binary, More/binary>>};
add({last, More}, #state{part = Part, nals = Nals} = S) ->
    S#state{part = none, nals = [<<Part/binary, More/binary>> | Nals]};
add(error, S) -> S#state{broken = true}.

picture([], S) ->
    {[], S};
picture(Nals, #state{broken = Broken} = S) ->
    case not Broken orelse starts_anew(Nals) of
        true -> {stream_rtp:to_bytes(Nals), S#state{broken = false, shown = S#state.shown + 1}};
        false -> {[], S#state{skipped = S#state.skipped + 1}}
    end.

%% Begins with what such pictures begin with (a delimiter or the sequence's parameters: so the
%% beginning is there) and needs no other.
starts_anew([First | _] = Nals) ->
    lists:member(stream_rtp:type(First), [7, 9])
        andalso lists:any(fun(Nal) -> stream_rtp:type(Nal) =:= 5 end, Nals).
