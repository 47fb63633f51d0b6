%% What has become of an allocation between two looks at it, as events of meerkat_watch. Pure.
-module(meerkat_watch_changes).

-export([between/4]).

-export_type([seen/0]).

%% meerkat_sessions:details/2; meerkat_look:look/3, or why the relay does not look; when, and what
%% was bad then.
-type seen() :: #{details := map(), looked := none | meerkat_look:seen(),
                  unseen := none | atom(), at := integer(),
                  verdict := none | [meerkat_media:trouble()]}.

-spec between(none | seen(), Details :: map(), {ok, meerkat_look:seen()} | {error, term()},
              NowMs :: integer()) -> {[map()], seen()}.
between(none, Details, Looked, Now) ->
    First = maps:with([user, client, relayed, transport, age_ms, expires_ms], Details),
    Empty = #{details => #{permissions => [], channels => [], drops => #{},
                           client => maps:get(client, Details)},
              looked => none, unseen => none, at => Now, verdict => none},
    {Events, Seen} = between(Empty, Details, Looked, Now),
    {[First#{event => allocated} | Events], Seen};
between(#{details := Before, looked := Last, unseen := UnseenBefore, at := At,
          verdict := Verdict}, Details, Answer, Now) ->
    {Looked, Unseen} = case Answer of
        {ok, Seen} -> {Seen, none};
        {error, Why} -> {none, Why}
    end,
    LookedBefore = same_look(Last, Looked),
    {Verdicts, NewVerdict} = verdict(Verdict, Details, Looked),
    {moved(Before, Details) ++ permissions(Before, Details) ++ channels(Before, Details)
         ++ flows(LookedBefore, Looked) ++ drops(Before, Details, Looked)
         ++ rate(Before, Details, Now - At) ++ media(LookedBefore, Looked, Now - At) ++ Verdicts
         ++ [#{event => unseen, reason => Unseen} || Unseen =/= none, Unseen =/= UnseenBefore],
     #{details => Details, looked => Looked, unseen => Unseen, at => Now,
       verdict => NewVerdict}}.

%% A look that began after the last one counts from 0: another relay program has the session.
same_look(#{looking_ms := Before}, #{looking_ms := Now}) when Now < Before -> none;
same_look(Last, _Looked) -> Last.

moved(#{client := Client}, #{client := Client}) -> [];
moved(#{client := Before}, #{client := Client}) ->
    [#{event => moved, client => Client, before => Before}].

%% Those that are new or gone; what is only renewed was asked for, which is an event by itself.
permissions(#{permissions := Before}, #{permissions := Now}) ->
    [Permission#{event => permission} || #{peer := Peer} = Permission <- Now -- Before,
                                         not has(peer, Peer, Before)]
        ++ [#{event => permission, peer => Peer, gone => true}
            || #{peer := Peer} <- Before, not has(peer, Peer, Now)].

channels(#{channels := Before}, #{channels := Now}) ->
    [Channel#{event => channel} || #{number := Number} = Channel <- Now,
                                   not has(number, Number, Before)]
        ++ [#{event => channel, number => Number, peer => Peer, gone => true}
            || #{number := Number, peer := Peer} <- Before, not has(number, Number, Now)].

has(Key, Value, Rows) ->
    lists:any(fun(Row) -> maps:get(Key, Row) =:= Value end, Rows).

%%% Flows

flows(_Before, none) ->
    [];
flows(Before, #{flows := Flows}) ->
    Known = case Before of
        none -> #{};
        #{flows := Rows} -> maps:from_list([{Peer, Row} || #{peer := Peer} = Row <- Rows])
    end,
    lists:append([sides(Peer, maps:get(Peer, Known, #{client => null, from_peer => null}), Flow)
                  || #{peer := Peer} = Flow <- Flows]).

sides(Peer, Before, Flow) ->
    side(client, Peer, maps:get(client, Before), maps:get(client, Flow))
        ++ side(peer, Peer, maps:get(from_peer, Before), maps:get(from_peer, Flow)).

side(_From, _Peer, _Before, null) ->
    [];
side(From, Peer, Before, Now) ->
    About = #{from => From, peer => Peer},
    [About#{event => flow, protocols => protocols(Now), ms_ago => maps:get(first_ms, Now)}
     || Before =:= null]
        ++ [About#{event => ice, what => What}
            || {Key, What} <- [{ice_requests, check}, {ice_answers, answer}, {ice_errors, error}],
               is_first(Key, Before, Now)]
        ++ [About#{event => dtls, what => What}
            || What <- maps:get(dtls_said, Now) -- said(Before)].

said(null) -> [];
said(#{dtls_said := Said}) -> Said.

is_first(Key, null, Now) -> maps:get(Key, Now) > 0;
is_first(Key, Before, Now) -> maps:get(Key, Now) > 0 andalso maps:get(Key, Before) =:= 0.

protocols(Side) ->
    [Name || Name <- [stun, dtls, rtp, rtcp, other], maps:get(Name, Side) > 0].

%%% Drops and rates

drops(#{drops := Before}, #{drops := Now}, Looked) ->
    Last = case Looked of
        none -> #{};
        #{drops := Rows} -> maps:from_list([{Reason, maps:with([peer, channel], Row)}
                                            || #{reason := Reason} = Row <- Rows])
    end,
    [maps:merge(#{event => drop, reason => Reason, count => Count - maps:get(Reason, Before, 0)},
                maps:filter(fun(_, Value) -> Value =/= null end, maps:get(Reason, Last, #{})))
     || {Reason, Count} <- lists:sort(maps:to_list(Now)), Count > maps:get(Reason, Before, 0)];
drops(_Before, _Now, _Looked) ->
    [].

%% A second has passed, or a little more.
rate(#{client_packets := _} = Before, #{client_packets := _} = Now, Ms) when Ms > 0 ->
    Counted = maps:from_list([{Key, per_s(maps:get(Key, Now) - maps:get(Key, Before), Ms)}
                              || Key <- [client_packets, client_bytes, peer_packets, peer_bytes,
                                         dropped]]),
    [Counted#{event => rate} || lists:any(fun(N) -> N > 0 end, maps:values(Counted))];
rate(_Before, _Now, _Ms) ->
    [].

per_s(N, Ms) -> max(0, round(N * 1000 / Ms)).

%%% Media

media(Before, Now, Ms) when Before =/= none, Now =/= none, Ms > 0 ->
    [Interval#{event => media} || Interval <- meerkat_media:intervals(Before, Now, Ms)];
media(_Before, _Now, _Ms) ->
    [].

verdict(Before, Details, Looked) when Looked =/= none ->
    case meerkat_media:verdict(Looked, Details) of
        none -> {[], Before};
        #{bad := Bad} = Verdict ->
            {[Verdict#{event => verdict} || Bad =/= Before], Bad}
    end;
verdict(Before, _Details, none) ->
    {[], Before}.
