%% The events of meerkat_watch as lines for a person. What a client may have chosen is escaped,
%% because a terminal obeys control characters. Pure.
-module(meerkat_watch_words).

-export([line/1, stream/1]).

%% One line, with its end.
-spec line(meerkat_watch:event()) -> unicode:chardata().
line(#{at := At} = Event) ->
    [clock(At), "  ", [[meerkat_text:session(Session), "  "] || #{session := Session} <- [Event],
                                                               Session > 0],
     words(Event), $\n].

clock(Ms) ->
    Text = calendar:system_time_to_rfc3339(Ms, [{unit, millisecond}, {offset, "Z"}]),
    lists:sublist(Text, 12, 12).

words(#{event := watching, allocations := []}) ->
    "watching; there is no allocation yet";
words(#{event := watching, allocations := Sessions}) ->
    ["watching ", meerkat_text:allocations(length(Sessions))];
words(#{event := asked, method := Method, outcome := Outcome} = Event) ->
    [method(Method), asked_for(Event), ": ", outcome(Outcome),
     [[", ", meerkat_text:printable(Why)] || #{why := Why} <- [Event]],
     [" (by the relay, within its grant)" || #{answered_by := relay} <- [Event]],
     [[", client ", meerkat_text:address(Client)] || #{client := Client} <- [Event]]];
words(#{event := allocated, user := User, client := Client, relayed := Relayed} = Event) ->
    [case Event of #{found := true} -> "allocation of user "; #{} -> "allocated: user " end,
     meerkat_text:escape(User), ", client ", meerkat_text:address(Client), ", relayed ",
     lists:join(", ", [meerkat_text:address(Address) || Address <- Relayed])];
words(#{event := moved, client := Client, before := Before}) ->
    ["the client speaks from ", meerkat_text:address(Client), ", no more from ",
     meerkat_text:address(Before)];
words(#{event := ended, reason := Reason}) ->
    ["ended (", atom_to_list(Reason), ")"];
words(#{event := permission, peer := Ip, gone := true}) ->
    ["permission for ", meerkat_text:ip(Ip), " is over"];
words(#{event := permission, peer := Ip, expires_ms := Ms}) ->
    ["permission for ", meerkat_text:ip(Ip), ", ", seconds(Ms), " left"];
words(#{event := channel, number := Number, peer := Peer, gone := true}) ->
    [channel(Number), " to ", meerkat_text:address(Peer), " is over"];
words(#{event := channel, number := Number, peer := Peer, expires_ms := Ms}) ->
    [channel(Number), " to ", meerkat_text:address(Peer), ", ", seconds(Ms), " left"];
words(#{event := flow, protocols := Protocols} = Event) ->
    ["first packet ", way(Event), ": ",
     lists:join(", ", [protocol(Protocol) || Protocol <- Protocols])];
words(#{event := ice, what := What} = Event) ->
    [case What of check -> "ICE check "; answer -> "ICE check answered "; error ->
         "ICE check answered with an error " end, way(Event)];
words(#{event := dtls, what := What} = Event) ->
    ["DTLS ", dtls(What), " ", way(Event)];
words(#{event := drop, reason := Reason, count := Count} = Event) ->
    [integer_to_list(Count), " dropped: ", help(Reason),
     [[", the last one of peer ", meerkat_text:address(Peer)] || #{peer := Peer} <- [Event]],
     [[", the last one on ", channel(Number)] || #{channel := Number} <- [Event]]];
words(#{event := rate, client_packets := Up, client_bytes := UpBytes, peer_packets := Down,
        peer_bytes := DownBytes}) ->
    io_lib:format("a second: ~b packets, ~ts from the client; ~b packets, ~ts from peers",
                  [Up, bits(UpBytes * 8), Down, bits(DownBytes * 8)]);
words(#{event := media, packets_per_s := Packets, bits_per_s := Bits, loss := Loss, late := Late,
        jitter_us := Jitter} = Event) ->
    [source(Event), io_lib:format(": ~b packets/s, ~ts, ~.1f % lost before us, ",
                                  [Packets, bits(Bits), Loss * 100]), jitter(Jitter),
     [[", ", integer_to_list(Late), " out of order"] || Late > 0]];
words(#{event := unseen, reason := Reason}) ->
    ["its packets are not looked at: ", case Reason of
        full -> "so many allocations are already";
        refused -> "it relays TCP";
        gone -> "it has just ended";
        _ -> "the relay program does not answer"
    end];
words(#{event := verdict, text := Text}) ->
    Text;
words(#{event := missed, count := Count}) ->
    [integer_to_list(Count), " events were not fetched in time and are lost"];
words(#{event := over, reason := time}) ->
    "the time is over";
words(#{event := over, reason := allocation}) ->
    "the allocation is over".

%% One source since the look began, for `meerkatctl allocation`.
-spec stream(meerkat_look:stream()) -> unicode:chardata().
stream(#{packets := Packets, lost := Lost, late := Late, bursts := Bursts,
         longest_burst := Longest, jitter_us := Jitter, silences := Silences,
         longest_silence_ms := Silence} = Stream) ->
    [source(Stream), io_lib:format(": ~b packets, ~b lost before us (~.1f %), ",
                                   [Packets, Lost, meerkat_media:loss(Stream) * 100]),
     jitter(Jitter),
     [[", ", integer_to_list(Late), " out of order"] || Late > 0],
     [io_lib:format(", ~b bursts of loss, ~b at most", [Bursts, Longest]) || Bursts > 0],
     [io_lib:format(", silent ~b times, ~.1f s at most", [Silences, Silence / 1000])
      || Silences > 0]].

source(#{from := From, peer := Peer, ssrc := Ssrc, payload_type := Type}) ->
    [case From of client -> ["client to ", meerkat_text:address(Peer)];
                  peer -> ["peer ", meerkat_text:address(Peer)] end,
     io_lib:format(", SSRC 0x~8.16.0b, type ~b", [Ssrc, Type])].

jitter(null) -> "jitter not known";
jitter(Us) -> io_lib:format("jitter ~.1f ms", [Us / 1000]).

method(Method) ->
    [[string:titlecase(Part)] || Part <- string:lexemes(atom_to_list(Method), "_")].

asked_for(Event) ->
    [[[" ", channel(Number)] || #{channel := Number} <- [Event]],
     [[" for ", lists:join(", ", [meerkat_text:address(Peer) || Peer <- lists:sublist(Peers, 4)])]
      || #{peers := [_ | _] = Peers} <- [Event]],
     [[", lifetime ", integer_to_list(Seconds), " s"] || #{lifetime_s := Seconds} <- [Event]]].

outcome(success) -> "success";
outcome(throttled) -> "no answer";
outcome(unavailable) -> "no answer";
outcome(Code) ->
    string:trim([integer_to_list(Code), " ", meerkat_refusal:phrase(Code)]).

way(#{from := client, peer := Peer}) -> ["from the client to peer ", meerkat_text:address(Peer)];
way(#{from := peer, peer := Peer}) -> ["from peer ", meerkat_text:address(Peer)].

protocol(stun) -> "STUN";
protocol(dtls) -> "DTLS";
protocol(rtp) -> "RTP";
protocol(rtcp) -> "RTCP";
protocol(other) -> "of no protocol that is known here".

dtls(client_hello) -> "ClientHello";
dtls(server_hello) -> "ServerHello";
dtls(finished) -> "end of the handshake";
dtls(alert) -> "alert";
dtls(data) -> "data".

help(Reason) ->
    hd([Help || {Name, drop, Help} <- meerkat_ctl:counters(), Name =:= Reason]).

channel(Number) -> io_lib:format("channel 0x~4.16.0b", [Number]).

seconds(Ms) -> [integer_to_list(max(0, Ms) div 1000), " s"].

bits(N) when N < 1000 -> io_lib:format("~b bit/s", [N]);
bits(N) when N < 1000000 -> io_lib:format("~.1f kbit/s", [N / 1000]);
bits(N) -> io_lib:format("~.1f Mbit/s", [N / 1000000]).
