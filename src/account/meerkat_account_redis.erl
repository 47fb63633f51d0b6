%% Accounting records to Redis as coturn tells it of allocations (redis_statsdb), so that programs
%% that listen to coturn understand them:
%%
%%   turn/realm/REALM/user/USERNAME/allocation/ID/status     a key while it lives, and a channel
%%   .../traffic  .../traffic/peer                           channels: since the last time
%%   .../total_traffic  .../total_traffic/peer               channels, when it has ended
%%
%% Each key expires by itself unless it is prolonged, so a server that was killed leaves none
%% behind.
-module(meerkat_account_redis).
-behaviour(meerkat_account_sink).

-export([settings/1, open/1, deliver/2, close/1, missing/1]).

-type settings() :: {meerkat_account_database:settings(), IntervalS :: non_neg_integer()}.
-type command() :: [binary(), ...].
%% What was told of an allocation last.
-type told() :: #{Session :: binary() => counters()}.
-type counters() :: #{binary() => non_neg_integer()}.
-record(redis, {pool :: pid(), keep_s :: none | pos_integer()}).

-define(MISSED, 3).                 % records after which an allocation is not there any more
-define(COUNTERS, [<<"client_packets">>, <<"client_bytes">>, <<"peer_packets">>,
                   <<"peer_bytes">>]).

-spec settings(map()) -> none | settings().
settings(#{redis := none}) -> none;
settings(#{redis := Redis, interval := Interval}) -> {Redis, Interval}.

-spec open(settings()) -> {ok, #redis{}} | {error, unicode:chardata()}.
open({Redis, Interval}) ->
    case meerkat_account_database:open(Redis) of
        {ok, Pool} -> {ok, #redis{pool = Pool, keep_s = keep_s(Interval)}};
        {error, Why} -> {error, Why}
    end.

%% Without interim records nothing prolongs a key, so it does not expire.
keep_s(0) -> none;
keep_s(Interval) -> ?MISSED * Interval.

%% What was told is known to the process of the sink, which outlives a connection.
-spec deliver([binary(), ...], #redis{}) -> {ok, #redis{}} | {error, unicode:chardata()}.
deliver(Lines, #redis{pool = Pool, keep_s = KeepS} = Redis) ->
    {Commands, Told} = lists:mapfoldl(fun(Line, Before) ->
        {ok, Record} = meerkat_json:decode(Line),
        commands(Record, KeepS, Before)
    end, told(), Lines),
    Job = fun(Db) -> meerkat_database:commands(lists:append(Commands), Db) end,
    case meerkat_account_database:do(Job, Pool) of
        {ok, _} ->
            _ = put(?MODULE, Told),
            {ok, Redis};
        {error, Why} ->
            {error, Why}
    end.

told() ->
    case get(?MODULE) of undefined -> #{}; Told -> Told end.

-spec commands(map(), none | pos_integer(), told()) -> {[command()], told()}.
commands(#{<<"type">> := <<"on">>}, _KeepS, _Told) ->
    %% All that a server before has told of is over.
    {[], #{}};
commands(#{<<"session_id">> := Session, <<"type">> := Type} = Record, KeepS, Told) ->
    Total = maps:with(?COUNTERS, Record),
    Since = maps:map(fun(Key, N) -> N - maps:get(Key, maps:get(Session, Told, #{}), 0) end, Total),
    Name = name(Record),
    case Type of
        <<"start">> ->
            {status(Name, <<"new">>, Record, KeepS), Told#{Session => Total}};
        <<"interim">> ->
            {status(Name, <<"refreshed">>, Record, KeepS) ++ traffic(Name, <<"traffic">>, Since),
             Told#{Session => Total}};
        <<"stop">> ->
            Status = channel(Name, <<"status">>),
            {traffic(Name, <<"traffic">>, Since)
                 ++ [[<<"DEL">>, Status], [<<"PUBLISH">>, Status, <<"deleted">>]]
                 ++ traffic(Name, <<"total_traffic">>, Total),
             maps:remove(Session, Told)}
    end;
%% `off`, and `lost`, for which coturn has no words.
commands(_Record, _KeepS, Told) ->
    {[], Told}.

%% coturn's id is a number of 18 digits, which it gives anew with each start.
name(#{<<"session_id">> := Session, <<"username">> := Username, <<"realm">> := Realm}) ->
    <<Number:64, _/binary>> = crypto:hash(sha256, Session),
    Id = io_lib:format("~18..0b", [Number rem 1000000000000000000]),
    ["turn/realm/", Realm, "/user/", Username, "/allocation/", Id, $/].

channel(Name, What) -> iolist_to_binary([Name, What]).

status(Name, Word, #{<<"lifetime">> := Lifetime, <<"transport">> := Transport,
                     <<"listener">> := Local, <<"client">> := Remote}, KeepS) ->
    {Type, Tls} = transport(Transport),
    Value = iolist_to_binary([Word, " lifetime=", integer_to_binary(Lifetime), ", type=", Type,
                              ", local=", Local, ", remote=", Remote, ", ssl=", Tls, ", cipher=",
                              Tls]),
    Status = channel(Name, <<"status">>),
    [[<<"SET">>, Status, Value | [Part || KeepS =/= none,
                                          Part <- [<<"EX">>, integer_to_binary(KeepS)]]],
     [<<"PUBLISH">>, Status, Value]].

%% Which version of TLS it is, and by which cipher, is known to the relay alone.
transport(<<"udp">>) -> {"UDP", "NONE"};
transport(<<"tcp">>) -> {"TCP", "NONE"};
transport(<<"tls">>) -> {"TLS/TCP", "UNKNOWN"};
transport(<<"dtls">>) -> {"DTLS/UDP", "UNKNOWN"}.

%% What was received from the client and sent to it; the same of peers.
traffic(Name, What, #{<<"client_packets">> := ClientPackets, <<"client_bytes">> := ClientBytes,
                      <<"peer_packets">> := PeerPackets, <<"peer_bytes">> := PeerBytes}) ->
    Client = {ClientPackets, ClientBytes},
    Peer = {PeerPackets, PeerBytes},
    [[<<"PUBLISH">>, channel(Name, What), counted(Client, Peer)],
     [<<"PUBLISH">>, channel(Name, <<What/binary, "/peer">>), counted(Peer, Client)]].

counted({RcvP, RcvB}, {SentP, SentB}) ->
    iolist_to_binary(io_lib:format("rcvp=~b, rcvb=~b, sentp=~b, sentb=~b",
                                   [RcvP, RcvB, SentP, SentB])).

-spec close(#redis{}) -> ok.
close(#redis{pool = Pool}) ->
    meerkat_account_database:close(Pool).

-spec missing(settings()) -> [string()].
missing({Redis, _Interval}) ->
    meerkat_account_database:missing(Redis).
