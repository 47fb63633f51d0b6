%% H.264 as RTP packets. Takes a byte stream (ITU-T H.264 annex B) apart into the units a decoder
%% takes at once, cuts those into packets (RFC 3550, RFC 6184: single NAL units and FU-A), and
%% reads and writes receiver reports. Pure; what came in order or not at all is for stream_jitter.
-module(stream_rtp).

-export([access_units/1, packets/4, parse/1, payload/1, to_bytes/1, type/1]).
-export([report/4, parse_report/1]).

-export_type([nal/0, packet/0]).

%% A NAL unit without its start code.
-type nal() :: binary().
-type packet() :: #{seq := 0..16#ffff, timestamp := 0..16#ffffffff, marker := boolean(),
                    ssrc := 0..16#ffffffff, payload := binary()}.

%% The dynamic payload type both sides agree on (RFC 3551 6).
-define(PAYLOAD_TYPE, 96).
-define(RECEIVER_REPORT, 201).
%% Of an RTP payload: with all headers of RTP, TURN, UDP and IPv6 it passes wherever 1280 bytes do.
-define(PAYLOAD_MAX, 1100).
%% NAL unit types of RFC 6184 that carry others or parts of them.
-define(STAP_A, 24).
-define(FU_A, 28).

%% The pictures of a stream, each with the parameter sets and messages that stand before it.
-spec access_units(binary()) -> [[nal(), ...]].
access_units(Stream) ->
    [_ | Units] = binary:split(Stream, <<0, 0, 1>>, [global]),
    group([without_zeros(Unit) || Unit <- Units, Unit =/= <<>>], [], false).

%% What ends with zeros is followed by a start code of four bytes.
without_zeros(Nal) ->
    case binary:last(Nal) of
        0 -> without_zeros(binary:part(Nal, 0, byte_size(Nal) - 1));
        _ -> Nal
    end.

%% H.264 7.4.1.2.3, for what encoders of our days write: the first slice of a picture says that it
%% begins with macroblock 0, and everything that is no slice belongs to the picture behind it.
group([], [], _) -> [];
group([], Unit, _) -> [lists:reverse(Unit)];
group([Nal | Nals], Unit, HasPicture) ->
    IsSlice = lists:member(type(Nal), [1, 5]),
    case HasPicture andalso (not IsSlice orelse is_first_slice(Nal)) of
        true -> [lists:reverse(Unit) | group(Nals, [Nal], IsSlice)];
        false -> group(Nals, [Nal | Unit], HasPicture orelse IsSlice)
    end.

is_first_slice(<<_, IsMacroblock0:1, _/bitstring>>) -> IsMacroblock0 =:= 1.

%% 1 is a slice, 5 one of a picture that needs no other, 7 the parameters of a sequence.
-spec type(nal()) -> 0..31.
type(<<_:3, Type:5, _/binary>>) -> Type.

%% The inverse of access_units/1 for one of them.
-spec to_bytes([nal()]) -> iodata().
to_bytes(Nals) -> [[<<0, 0, 0, 1>>, Nal] || Nal <- Nals].

%% The packets of one access unit, the first with that sequence number. The last has the marker.
-spec packets([nal(), ...], Timestamp :: non_neg_integer(), Seq :: non_neg_integer(),
              Ssrc :: 0..16#ffffffff) -> [binary(), ...].
packets(Nals, Timestamp, Seq, Ssrc) ->
    Payloads = lists:flatmap(fun split/1, Nals),
    Numbered = lists:zip(lists:seq(Seq, Seq + length(Payloads) - 1), Payloads),
    {Last, _} = lists:last(Numbered),
    [<<2:2, 0:6, (marker(N =:= Last)):1, ?PAYLOAD_TYPE:7, N:16, Timestamp:32, Ssrc:32,
       Payload/binary>> || {N, Payload} <- Numbered].

marker(true) -> 1;
marker(false) -> 0.

split(Nal) when byte_size(Nal) =< ?PAYLOAD_MAX -> [Nal];
split(<<Importance:3, Type:5, Body/binary>>) -> fragments(Importance, Type, 1, Body).

fragments(Importance, Type, Start, <<Part:(?PAYLOAD_MAX - 2)/binary, More/binary>>)
  when More =/= <<>> ->
    [<<Importance:3, ?FU_A:5, Start:1, 0:1, 0:1, Type:5, Part/binary>>
     | fragments(Importance, Type, 0, More)];
fragments(Importance, Type, Start, Part) ->
    [<<Importance:3, ?FU_A:5, Start:1, 1:1, 0:1, Type:5, Part/binary>>].

-spec parse(binary()) -> {ok, packet()} | error.
parse(<<2:2, 0:2, Sources:4, Marker:1, ?PAYLOAD_TYPE:7, Seq:16, Timestamp:32, Ssrc:32,
        _:Sources/binary-unit:32, Payload/binary>>) when Payload =/= <<>> ->
    {ok, #{seq => Seq, timestamp => Timestamp, marker => Marker =:= 1, ssrc => Ssrc,
           payload => Payload}};
parse(_) ->
    error.

%% What a payload is: whole NAL units, or the first, a middle, or the last part of one.
-spec payload(binary()) -> {whole, [nal()]} | {first | middle | last, binary()} | error.
payload(<<Importance:3, ?FU_A:5, 1:1, 0:1, _:1, Type:5, Part/binary>>) ->
    {first, <<Importance:3, Type:5, Part/binary>>};
payload(<<_:3, ?FU_A:5, 0:1, 0:1, _:6, Part/binary>>) -> {middle, Part};
payload(<<_:3, ?FU_A:5, 0:1, 1:1, _:6, Part/binary>>) -> {last, Part};
payload(<<_:3, ?STAP_A:5, Units/binary>>) -> {whole, [Nal || <<L:16, Nal:L/binary>> <= Units]};
payload(<<_:3, Type:5, _/binary>> = Nal) when Type > 0, Type < ?STAP_A -> {whole, [Nal]};
payload(_) -> error.

%% A receiver report (RFC 3550 6.4.2) without jitter and times; it shares the way with RTP, the
%% other way round (RFC 5761).
-spec report(Own :: 0..16#ffffffff, Reported :: 0..16#ffffffff, Lost :: non_neg_integer(),
             Highest :: non_neg_integer()) -> binary().
report(Own, Reported, Lost, Highest) ->
    <<2:2, 0:1, 1:5, ?RECEIVER_REPORT, 7:16, Own:32, Reported:32, 0:8,
      (min(Lost, 16#7fffff)):24, Highest:32, 0:32, 0:32, 0:32>>.

-spec parse_report(binary()) -> {ok, #{lost := non_neg_integer(), highest := non_neg_integer()}}
                              | error.
parse_report(<<2:2, _:6, ?RECEIVER_REPORT, 7:16, _:32, _:32, _:8, Lost:24, Highest:32,
               _/binary>>) ->
    {ok, #{lost => Lost, highest => Highest}};
parse_report(_) ->
    error.
