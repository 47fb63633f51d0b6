%% What a look at an allocation (meerkat_look) says of its media: figures of an interval, and in one
%% sentence which side is bad. Loss between us and the receiver cannot be seen here. Pure.
-module(meerkat_media).

-export([intervals/3, verdict/2, loss/1]).

-export_type([interval/0, trouble/0, verdict/0]).

%% Of one source between two looks. loss: a share of what was sent, 0.0 to 1.0, before us.
-type interval() :: #{from := client | peer, peer := {inet:ip_address(), inet:port_number()},
                      ssrc := non_neg_integer(), payload_type := byte(),
                      packets := non_neg_integer(),
                      packets_per_s := non_neg_integer(), bits_per_s := non_neg_integer(),
                      lost := non_neg_integer(), loss := float(), late := non_neg_integer(),
                      jitter_us := non_neg_integer() | null, rtcp := non_neg_integer()}.
-type trouble() :: {loss | late | jitter | silence | one_way | ice | dtls | dropped,
                    client | peer | relay}.
-type verdict() :: #{bad := [trouble()], text := binary()}.

%% Fewer packets of a source than this are not judged.
-define(PACKETS_MIN, 50).
-define(LOSS_BAD, 0.01).
-define(LATE_BAD, 0.01).
-define(JITTER_BAD_US, 30000).
-define(SILENCE_BAD_MS, 3000).
%% So long an answer may take.
-define(ANSWER_MS, 3000).

%% Of the sources from which something came, or is missing, between two looks Ms apart.
-spec intervals(meerkat_look:seen(), meerkat_look:seen(), Ms :: pos_integer()) -> [interval()].
intervals(#{streams := Before}, #{streams := Now}, Ms) ->
    Known = maps:from_list([{key(Stream), Stream} || Stream <- Before]),
    [interval(maps:get(key(Stream), Known, none), Stream, Ms)
     || #{packets := Packets} = Stream <- Now,
        Packets > counted(packets, maps:get(key(Stream), Known, none))].

key(#{from := From, peer := Peer, ssrc := Ssrc}) -> {From, Peer, Ssrc}.

interval(Before, Stream, Ms) ->
    Since = fun(Key) -> max(0, maps:get(Key, Stream) - counted(Key, Before)) end,
    Packets = Since(packets),
    Lost = Since(lost),
    (maps:with([from, peer, ssrc, payload_type, jitter_us], Stream))#{
        packets => Packets, packets_per_s => round(Packets * 1000 / Ms),
        bits_per_s => round(Since(bytes) * 8000 / Ms),
        lost => Lost, loss => share(Lost, Packets + Lost), late => Since(late),
        rtcp => Since(rtcp)}.

counted(_Key, none) -> 0;
counted(Key, Before) -> maps:get(Key, Before).

share(_N, 0) -> 0.0;
share(N, All) -> N / All.

%% The share of a source's packets that were lost before us, since the look began.
-spec loss(meerkat_look:stream()) -> float().
loss(#{lost := Lost, packets := Packets}) -> share(Lost, Packets + Lost).

%% What is bad, and the sentence; none while too few packets have come to judge.
-spec verdict(meerkat_look:seen(), Details :: map()) -> none | verdict().
verdict(#{streams := Streams, flows := Flows}, Details) ->
    Enough = [Stream || #{packets := Packets, lost := Lost} = Stream <- Streams,
                        Packets + Lost >= ?PACKETS_MIN],
    Found = lists:append([of_loss(Enough), of_late(Enough), of_jitter(Enough), of_silence(Enough),
                          of_flows(Flows), of_drops(Details)]),
    case {Found, Enough} of
        {[], []} -> none;
        {[], _} -> #{bad => [], text => <<"media comes to us well from both sides; what is lost "
                                          "behind us is not seen here">>};
        _ -> #{bad => [Trouble || {Trouble, _} <- Found],
               text => unicode:characters_to_binary(
                   lists:join("; ", [Sentence || {_, Sentence} <- Found]))}
    end.

%% The worst source of a side stands for it.
worst(Rate, Bad, Streams) ->
    [{From, Stream}
     || From <- [client, peer],
        {Value, Stream} <- [lists:last([{0, none} | lists:keysort(1, [{Rate(S), S} || S <- Streams,
                                                       maps:get(from, S) =:= From])])],
        Value >= Bad].

of_loss(Streams) ->
    [{{loss, From},
      [percent(loss(S)), " of ", whose(From, S), " packets are lost before they reach us (",
       integer_to_list(maps:get(lost, S)), " of ",
       integer_to_list(maps:get(lost, S) + maps:get(packets, S)), ", at most ",
       integer_to_list(maps:get(longest_burst, S)), " in a row)"]}
     || {From, S} <- worst(fun loss/1, ?LOSS_BAD, Streams)].

of_late(Streams) ->
    Late = fun(#{late := Late, packets := Packets}) -> share(Late, Packets) end,
    [{{late, From}, [percent(Late(S)), " of ", whose(From, S),
                     " packets come behind later ones"]}
     || {From, S} <- worst(Late, ?LATE_BAD, Streams)].

of_jitter(Streams) ->
    Jitter = fun(#{jitter_us := null}) -> 0; (#{jitter_us := Us}) -> Us end,
    [{{jitter, From}, [whose(From, S), " packets come unevenly: jitter ",
                       io_lib:format("~.1f ms", [Jitter(S) / 1000])]}
     || {From, S} <- worst(Jitter, ?JITTER_BAD_US, Streams)].

%% Of a side of which nothing comes any more.
of_silence(Streams) ->
    [{{silence, From}, ["nothing has come from ", side(From, hd(Of)), " for ",
                        integer_to_list(Quiet div 1000), " s"]}
     || From <- [client, peer],
        [_ | _] = Of <- [[S || #{from := F} = S <- Streams, F =:= From]],
        Quiet <- [lists:min([Last || #{last_ms := Last} <- Of])], Quiet >= ?SILENCE_BAD_MS].

%% Who speaks and is not answered. A flow of an allocation that has another one which works is one
%% of the pairs that ICE tries in vain.
of_flows(Flows) ->
    case [Flow || #{client := #{}, from_peer := #{}} = Flow <- Flows] of
        [_ | _] = Both -> lists:append([of_dtls(Flow) || Flow <- Both]);
        [] -> lists:append([of_one_way(Flow) || Flow <- lists:sublist(Flows, 3)])
    end.

of_one_way(#{peer := Peer, client := #{first_ms := First} = Side, from_peer := null})
  when First >= ?ANSWER_MS ->
    What = case Side of
        #{ice_requests := N} when N > 0 -> {ice, "no ICE check of the client's is answered by "};
        _ -> {one_way, "the client sends, and nothing comes from "}
    end,
    [{{element(1, What), peer}, [element(2, What), "peer ", meerkat_text:address(Peer)]}];
of_one_way(#{peer := Peer, client := null, from_peer := #{first_ms := First}})
  when First >= ?ANSWER_MS ->
    [{{one_way, client}, ["peer ", meerkat_text:address(Peer),
                          " sends, and the client sends nothing there"]}];
of_one_way(_Flow) ->
    [].

of_dtls(#{peer := Peer, client := #{dtls_said := Client, first_ms := First},
          from_peer := #{dtls_said := FromPeer}}) when First >= ?ANSWER_MS ->
    Hello = fun(Said) -> lists:member(client_hello, Said) end,
    case {Hello(Client), Hello(FromPeer)} of
        {true, _} when FromPeer =:= [] ->
            [{{dtls, peer}, ["the client's DTLS handshake is not answered by peer ",
                             meerkat_text:address(Peer)]}];
        {_, true} when Client =:= [] ->
            [{{dtls, client}, ["the DTLS handshake of peer ", meerkat_text:address(Peer),
                               " is not answered by the client"]}];
        _ -> []
    end;
of_dtls(_Flow) ->
    [].

%% One in a hundred, that we dropped ourselves.
of_drops(#{dropped := Dropped, drops := Drops, client_packets := FromClient,
           peer_packets := FromPeer})
  when Dropped * 100 > FromClient + FromPeer, Dropped > ?PACKETS_MIN ->
    {Reason, Count} = lists:last(lists:keysort(2, maps:to_list(Drops))),
    [{{dropped, relay}, ["the relay dropped ", integer_to_list(Count), " packets: ",
                         help(Reason)]}];
of_drops(_Details) ->
    [].

help(Reason) ->
    hd([Help || {Name, drop, Help} <- meerkat_ctl:counters(), Name =:= Reason]
       ++ [atom_to_list(Reason)]).

percent(Share) -> io_lib:format("~.1f %", [Share * 100]).

whose(client, _Stream) -> "the client's";
whose(peer, #{peer := Peer}) -> ["peer ", meerkat_text:address(Peer), "'s"].

side(client, _Stream) -> "the client";
side(peer, #{peer := Peer}) -> ["peer ", meerkat_text:address(Peer)].
