%% Looks at an allocation by the relay (LOOK of ctl.def): with which peers what is exchanged, and
%% how the media of each source arrives here. The relay reads headers only; what is counted begins
%% with the first look, and ends by itself when nobody looks again in time.
-module(meerkat_look).

-export([look/3, read/1]).

-export_type([seen/0, flow/0, side/0, stream/0, drop/0]).

-type address() :: {inet:ip_address(), inet:port_number()}.
%% `first_ms` and `last_ms` are times ago; null: never.
-type side() :: #{first_ms := non_neg_integer(), last_ms := non_neg_integer(),
                  bytes := non_neg_integer(),
                  stun := non_neg_integer(), dtls := non_neg_integer(), rtp := non_neg_integer(),
                  rtcp := non_neg_integer(), other := non_neg_integer(),
                  ice_requests := non_neg_integer(), ice_answers := non_neg_integer(),
                  ice_errors := non_neg_integer(),
                  dtls_said := [client_hello | server_hello | finished | alert | data]}.
%% client, peer: what came from there; `null` where nothing has.
-type flow() :: #{peer := address(), client := side() | null, from_peer := side() | null}.
%% One source of RTP. `lost`: before it came to us. jitter_us is as RFC 3550 6.4.1 has it, null
%% while the rate of the source's clock is not known.
-type stream() :: #{from := client | peer, peer := address(), ssrc := non_neg_integer(),
                    payload_type := byte(), clock_rate := non_neg_integer(),
                    packets := non_neg_integer(), bytes := non_neg_integer(),
                    lost := non_neg_integer(), late := non_neg_integer(),
                    twice := non_neg_integer(), bursts := non_neg_integer(),
                    longest_burst := non_neg_integer(), jitter_us := non_neg_integer() | null,
                    jitter_max_us := non_neg_integer() | null, silences := non_neg_integer(),
                    silent_ms := non_neg_integer(), longest_silence_ms := non_neg_integer(),
                    restarts := non_neg_integer(), rtcp := non_neg_integer(),
                    first_ms := non_neg_integer(), last_ms := non_neg_integer()}.
%% The last packet dropped for a reason, by the peer or the channel it named.
-type drop() :: #{reason := atom(), last_ms := non_neg_integer(), peer := address() | null,
                  channel := char() | null}.
-type seen() :: #{looking_ms := non_neg_integer(), missed := non_neg_integer(),
                  flows := [flow()], streams := [stream()], drops := [drop()]}.

-define(NEVER, 16#ffffffff).
-define(DTLS, [{1, client_hello}, {2, server_hello}, {4, finished}, {8, alert}, {16, data}]).

%% What was seen so far; the first look begins it. It goes on for LifetimeMs without another one.
%% 0: what others have begun to look at, and nothing is begun. full: so many are looked at already.
%% refused: it relays TCP (RFC 6062), or nobody looks.
-spec look(Name :: atom(), Session :: non_neg_integer(), LifetimeMs :: non_neg_integer()) ->
    {ok, seen()} | {error, gone | full | refused | meerkat_relay:failure()}.
look(Name, Session, LifetimeMs) ->
    case meerkat_relay:call(Name, {look, #{session => Session, lifetime_ms => LifetimeMs}}) of
        {ok, #{flows := _} = Fields} -> {ok, read(Fields)};
        {ok, #{status := Status}} -> {error, Status};
        {error, Failure} -> {error, Failure}
    end.

%% The rows of LOOKED. Pure.
-spec read(#{looking_ms := non_neg_integer(), missed := non_neg_integer(), flows := binary(),
             streams := binary(), drops := binary(), _ => _}) -> seen().
read(#{looking_ms := Looking, missed := Missed, flows := FlowRows, streams := StreamRows,
       drops := DropRows}) ->
    Flows = [#{peer => address(Family, Port, Ip), client => side(Client), from_peer => side(Peer)}
             || <<Family, Port:16, Ip:16/binary, Client:69/binary, Peer:69/binary>> <= FlowRows],
    Peers = list_to_tuple([Peer || #{peer := Peer} <- Flows]),
    #{looking_ms => Looking, missed => Missed, flows => Flows,
      streams => [stream(Row, Peers) || <<Row:95/binary>> <= StreamRows],
      drops => [#{reason => lists:nth(Reason + 1, meerkat_ctl:session_drops()), last_ms => Last,
                  channel => null_if(0, Channel), peer => address(Family, Port, Ip)}
                || <<Reason, Last:32, Channel:16, Family, Port:16, Ip:16/binary>> <= DropRows]}.

side(<<?NEVER:32, _/binary>>) ->
    null;
side(<<First:32, Last:32, Bytes:64, Stun:64, Dtls:64, Rtp:64, Rtcp:64, Other:64, Requests:32,
       Answers:32, Errors:32, Said>>) ->
    #{first_ms => First, last_ms => Last, bytes => Bytes, stun => Stun, dtls => Dtls, rtp => Rtp,
      rtcp => Rtcp, other => Other, ice_requests => Requests, ice_answers => Answers,
      ice_errors => Errors, dtls_said => [Name || {Bit, Name} <- ?DTLS, Said band Bit =/= 0]}.

stream(<<From, Flow, Type, Ssrc:32, Rate:32, Packets:64, Bytes:64, Lost:64, Late:64, Twice:64,
         Bursts:32, Longest:32, Jitter:32, JitterMax:32, Silences:32, Silent:32, LongestSilence:32,
         Restarts:32, Rtcp:32, First:32, Last:32>>, Peers) ->
    Known = fun(Us) -> case Rate of 0 -> null; _ -> Us end end,
    #{from => case From of 0 -> client; 1 -> peer end, peer => element(Flow + 1, Peers),
      ssrc => Ssrc, payload_type => Type, clock_rate => Rate, packets => Packets, bytes => Bytes,
      lost => Lost, late => Late, twice => Twice, bursts => Bursts, longest_burst => Longest,
      jitter_us => Known(Jitter), jitter_max_us => Known(JitterMax), silences => Silences,
      silent_ms => Silent, longest_silence_ms => LongestSilence, restarts => Restarts,
      rtcp => Rtcp, first_ms => First, last_ms => Last}.

address(0, _Port, _Ip) -> null;
address(4, Port, <<_:96, A, B, C, D>>) -> {{A, B, C, D}, Port};
address(6, Port, Ip) -> {list_to_tuple([Part || <<Part:16>> <= Ip]), Port}.

null_if(Value, Value) -> null;
null_if(_, Value) -> Value.
