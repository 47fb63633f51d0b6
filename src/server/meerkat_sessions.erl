%% The allocations of a server for an operator: lists, filtered and sorted, with what each has
%% relayed; the details of one; and ending them. The callers decide who may ask.
-module(meerkat_sessions).

-export([list/2, details/2, seen/3, disconnect/2, disconnect_older/3, page/3]).

-export_type([filter/0, id/0, who/0, counters/0]).

%% user: as the client gave it, or what stands behind the expiry of a time-limited one.
%% peer: one that has a permission, or with a port a channel. sort: by bytes relayed, most first; by
%% age, oldest first; by user. limit: so many at most.
-type filter() :: #{user => binary(),
                    peer => inet:ip_address() | {inet:ip_address(), inet:port_number()},
                    sort => bytes | age | user,
                    limit => pos_integer()}.
%% A number as lists have it, or its text: "1-37".
-type id() :: non_neg_integer() | binary() | string().
-type who() :: id() | {user, binary()}.
-type session() :: non_neg_integer().
%% What came from the client and was relayed, what came from peers and was, what was dropped.
-type counters() :: #{client_packets | client_bytes | peer_packets | peer_bytes | dropped =>
                          non_neg_integer()}.

%% So many sessions at most are asked for one by one; a page of the relay's rows has as many.
-define(FEW, 64).

%% How many match, and the first of them up to the limit. Each is what meerkat_alloc:info/1 says,
%% with client_packets, client_bytes, peer_packets, peer_bytes and dropped; these are left out for
%% an allocation that began or ended just now. The relay is asked for many at a time. Of the
%% processes only those of the allocations that are returned are asked; all, to filter by a peer.
-spec list(Name :: atom(), filter()) -> {Total :: non_neg_integer(), [map()]}.
list(Name, Filter) ->
    Those = those(Name, Filter),
    Traffic = traffic(Name, Those),
    Sessions = [{Session, Pid, maps:get(Session, Traffic, #{})} || {Session, Pid} <- Those],
    Sort = maps:get(sort, Filter, age),
    Users = case Sort of user -> meerkat_alloc_table:users(Name); _ -> #{} end,
    case Filter of
        #{peer := _} ->
            Rows = [Row#{key => maps:get(Session, Users, <<>>)}
                    || #{session := Session} = Row <- rows(Sessions), is_for(Row, Filter)],
            {length(Rows), [maps:remove(key, Row) || Row <- limit(Filter, sorted(Sort, Rows))]};
        #{} ->
            Least = [Counted#{session => Session, pid => Pid, key => maps:get(Session, Users, <<>>)}
                     || {Session, Pid, Counted} <- Sessions],
            Shown = limit(Filter, sorted(Sort, Least)),
            {length(Sessions), rows([{S, Pid, maps:without([session, pid, key], Row)}
                                     || #{session := S, pid := Pid} = Row <- Shown])}
    end.

those(Name, #{user := User}) -> meerkat_alloc_table:sessions_of(Name, User);
those(Name, #{}) -> meerkat_alloc_table:sessions(Name).

rows(Sessions) ->
    Counted = maps:from_list([{Session, Counters} || {Session, _, Counters} <- Sessions]),
    [maps:merge(Info, maps:get(Session, Counted))
     || #{session := Session} = Info <- meerkat_alloc:infos([Pid || {_, Pid, _} <- Sessions])].

limit(#{limit := Limit}, Rows) -> lists:sublist(Rows, Limit);
limit(#{}, Rows) -> Rows.

%% Each key is made once; among equals the oldest comes first.
sorted(Sort, Rows) ->
    [Row || {_, Row} <- lists:keysort(1, [{{key(Sort, Row), key(age, Row)}, Row} || Row <- Rows])].

%% Numbers grow with time, over all workers.
key(age, #{session := Session}) -> Session band 16#ffffffffffffff;
key(bytes, Row) -> -relayed(Row);
key(user, #{key := Key}) -> Key.

relayed(Row) -> maps:get(client_bytes, Row, 0) + maps:get(peer_bytes, Row, 0).

is_for(#{channels := Channels, connections := Connections}, #{peer := {Ip, Port} = Peer})
  when is_integer(Port), is_tuple(Ip) ->
    lists:any(fun(#{peer := Bound}) -> Bound =:= Peer end, Channels ++ Connections);
is_for(#{permissions := Permissions, channels := Channels}, #{peer := Ip}) ->
    lists:any(fun(#{peer := Permitted}) -> Permitted =:= Ip end, Permissions)
        orelse lists:any(fun(#{peer := {Bound, _}}) -> Bound =:= Ip end, Channels);
is_for(_Row, _Filter) ->
    true.

%% What the relay has counted of these sessions: of each by itself where they are few, else of all
%% there are, one worker after the other, until there is no more.
traffic(Name, Sessions) when length(Sessions) =< ?FEW ->
    maps:from_list([{Session, maps:with([client_packets, client_bytes, peer_packets, peer_bytes,
                                         dropped], stats(Name, Session))}
                    || {Session, _} <- Sessions]);
traffic(Name, _Sessions) ->
    maps:from_list(traffic(Name, 0, 0)).

traffic(Name, Worker, From) ->
    case page(Name, Worker, From) of
        {ok, Rows, {NextWorker, Next}} -> Rows ++ traffic(Name, NextWorker, Next);
        {ok, Rows, done} -> Rows;
        {error, _} -> []
    end.

%% What a worker has counted of some of its sessions, and where to go on, which may be another
%% worker. Begins at 0, 0.
-spec page(Name :: atom(), Worker :: byte(), From :: non_neg_integer()) ->
    {ok, [{session(), counters()}], done | {Worker :: byte(), From :: non_neg_integer()}}
    | {error, meerkat_relay:failure()}.
page(Name, Worker, From) ->
    case meerkat_relay:call(Name, {sessions, #{from => From}}) of
        {ok, #{next := 0, rows := Rows}} when Worker < 255 ->
            {ok, counted(Rows), {Worker + 1, (Worker + 1) bsl 56}};
        {ok, #{next := 0, rows := Rows}} ->
            {ok, counted(Rows), done};
        {ok, #{next := Next, rows := Rows}} ->
            {ok, counted(Rows), {Worker, Next}};
        {ok, _NoSuchWorker} ->
            {ok, [], done};
        {error, Failure} ->
            {error, Failure}
    end.

counted(Rows) ->
    [{Session, #{client_packets => ClientPackets, client_bytes => ClientBytes,
                 peer_packets => PeerPackets, peer_bytes => PeerBytes, dropped => Dropped}}
     || <<Session:64, ClientPackets:64, ClientBytes:64, PeerPackets:64, PeerBytes:64,
          Dropped:64>> <= Rows].

%% One of them, with `drops`: how many for each reason there was (counters.def).
-spec details(Name :: atom(), id()) -> {ok, map()} | {error, not_found}.
details(Name, Id) ->
    case find(Name, Id) of
        {ok, Session, Pid} ->
            case meerkat_alloc:info(Pid) of
                {ok, Info} -> {ok, with_stats(Info, stats(Name, Session))};
                {error, gone} -> {error, not_found}
            end;
        {error, not_found} ->
            {error, not_found}
    end.

%% The same with `media` and `verdict`: what the relay has seen of its packets since somebody looks,
%% and what that means. It goes on looking for LookMs; 0: both are there only where others look.
-spec seen(Name :: atom(), id(), LookMs :: non_neg_integer()) -> {ok, map()} | {error, not_found}.
seen(Name, Id, LookMs) ->
    case details(Name, Id) of
        {ok, #{session := Session} = Details} ->
            {ok, maps:merge(Details, media(meerkat_look:look(Name, Session, LookMs), Details))};
        {error, not_found} ->
            {error, not_found}
    end.

media({ok, #{streams := Streams, flows := Flows, looking_ms := Ms} = Seen}, Details) ->
    Verdict = case meerkat_media:verdict(Seen, Details) of
        none -> null;
        #{text := Text} -> Text
    end,
    #{media => #{looking_ms => Ms, streams => Streams, flows => Flows}, verdict => Verdict};
media(_NotLookedAt, _Details) ->
    #{}.

%% Of connections with peers the process knows with whom, the relay how much went by them.
with_stats(#{connections := Connections} = Info, Stats) ->
    Bytes = maps:from_list([{Id, #{client_bytes => FromClient, peer_bytes => FromPeer}}
                            || <<Id:32, FromClient:64, FromPeer:64>>
                                   <= maps:get(connections, Stats, <<>>)]),
    maps:merge(Info, Stats#{connections => [maps:merge(C, maps:get(Id, Bytes, #{}))
                                            || #{connection := Id} = C <- Connections]}).

stats(Name, Session) ->
    case meerkat_relay:call(Name, {session_info, #{session => Session}}) of
        {ok, #{client_packets := _} = Stats} ->
            Reasons = meerkat_ctl:session_drops(),
            Drops = maps:filter(fun(_, N) -> N > 0 end, maps:with(Reasons, Stats)),
            (maps:without([session | Reasons], Stats))#{drops => Drops};
        _ ->
            #{}
    end.

-spec find(Name :: atom(), id()) -> {ok, Session :: non_neg_integer(), pid()} | {error, not_found}.
find(Name, Id) ->
    case number(Id) of
        error ->
            {error, not_found};
        Session ->
            case meerkat_alloc_table:pid(Name, Session) of
                none -> {error, not_found};
                Pid -> {ok, Session, Pid}
            end
    end.

number(Id) when is_integer(Id) ->
    Id;
number(Id) ->
    case re:run(Id, "^([0-9]{1,3})-([0-9]{1,17})$", [dollar_endonly,
                                                     {capture, all_but_first, list}]) of
        {match, [Worker, Number]} -> list_to_integer(Worker) bsl 56 bor list_to_integer(Number);
        nomatch -> plain(unicode:characters_to_list(Id))
    end.

plain(Digits) ->
    try list_to_integer(Digits) catch error:badarg -> error end.

%% Ends one, or all of a user (as in filter()), and returns how many. Clients are not told.
-spec disconnect(Name :: atom(), who()) -> non_neg_integer().
disconnect(Name, {user, User}) ->
    meerkat_alloc:disconnect([Pid || {_, Pid} <- meerkat_alloc_table:sessions_of(Name, User)]);
disconnect(Name, Id) ->
    case find(Name, Id) of
        {ok, _, Pid} -> meerkat_alloc:disconnect([Pid]);
        {error, not_found} -> 0
    end.

%% Ends those of a user that are older than so many milliseconds; how many.
-spec disconnect_older(Name :: atom(), User :: binary(), AgeMs :: non_neg_integer()) ->
    non_neg_integer().
disconnect_older(Name, User, AgeMs) ->
    Those = maps:from_list(meerkat_alloc_table:sessions_of(Name, User)),
    Infos = meerkat_alloc:infos(maps:values(Those)),
    meerkat_alloc:disconnect([maps:get(Session, Those)
                              || #{session := Session, age_ms := Age} <- Infos, Age >= AgeMs]).
