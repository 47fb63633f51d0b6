%% What the page of one call (priv/www/call.html) asks for: the allocations there are, or one of
%% them with how its media comes to us. Asking for one is looking at it (docs/design/seeing.md), for
%% as long as somebody asks again. Only who has the token comes here.
-module(meerkat_http_call).

-export([answer/2]).

%% Of a look that is not asked for again.
-define(LOOK_MS, 5000).
%% So many are listed, those that relayed most.
-define(LISTED, 50).

%% `id` is that of an allocation; without it they are listed.
-spec answer(Name :: atom(), Query :: [{binary(), binary()}]) -> {ok, map()} | {error, binary()}.
answer(Name, Query) ->
    case proplists:get_value(<<"id">>, Query) of
        undefined -> {ok, listed(meerkat_sessions:list(Name, #{sort => bytes, limit => ?LISTED}))};
        Id -> looked(meerkat_sessions:seen(Name, Id, ?LOOK_MS))
    end.

listed({Total, Rows}) ->
    #{total => Total,
      allocations => [#{allocation => id(Session), user => User, client => address(Client),
                        bytes => maps:get(client_bytes, Row, 0) + maps:get(peer_bytes, Row, 0)}
                      || #{session := Session, user := User, client := Client} = Row <- Rows]}.

looked({error, not_found}) ->
    {error, <<"there is no such allocation">>};
looked({ok, #{session := Session, user := User, client := Client, relayed := Relayed,
              age_ms := Age} = Details}) ->
    Counted = maps:merge(#{client_packets => 0, client_bytes => 0, peer_packets => 0,
                           peer_bytes => 0, drops => #{}}, Details),
    Told = maps:with([client_packets, client_bytes, peer_packets, peer_bytes, drops], Counted),
    {ok, maps:merge(Told, (media(Details))#{
        allocation => id(Session), user => User, client => address(Client),
        relayed => [address(Address) || Address <- Relayed], age_ms => Age,
        time_ms => meerkat_clock:wall_ms()})}.

media(#{media := #{looking_ms := Ms, streams := Streams}, verdict := Verdict}) ->
    #{looking_ms => Ms, verdict => Verdict, unseen => null,
      streams => [stream(Stream) || Stream <- Streams]};
media(_NotLookedAt) ->
    #{looking_ms => 0, verdict => null, streams => [],
      unseen => <<"nothing is seen of its media: it relays TCP, or so many are looked at "
                  "already">>}.

stream(#{peer := Peer} = Stream) ->
    (maps:with([from, ssrc, payload_type, packets, bytes, lost, late, jitter_us], Stream))#{
        peer => address(Peer)}.

id(Session) -> list_to_binary(meerkat_text:session(Session)).

address(Address) -> unicode:characters_to_binary(meerkat_text:address(Address)).
