%% The allocations of a server as an operator looks for them: filtered, sorted, with what they have
%% relayed, one of them in detail; and how they are ended by hand. Who may ask is decided elsewhere.
-module(meerkat_sessions).

-export([list/2, details/2, disconnect/2]).

-export_type([filter/0, id/0, who/0]).

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

%% How many match, and those of them the limit lets in. Each is what meerkat_alloc:info/1 says and
%% client_packets, client_bytes, peer_packets, peer_bytes and dropped, which are left out for one
%% that began or ended just now. Asks the relay for many at a time, and no process that need not be.
-spec list(Name :: atom(), filter()) -> {Total :: non_neg_integer(), [map()]}.
list(Name, Filter) ->
    Traffic = traffic(Name),
    Sessions = [{Session, Pid, maps:get(Session, Traffic, #{})}
                || {Session, Pid} <- meerkat_alloc_table:sessions(Name)],
    Sort = maps:get(sort, Filter, age),
    case is_map_key(user, Filter) orelse is_map_key(peer, Filter) orelse Sort =:= user of
        true ->
            #{usernames := Order} = meerkat_registry:settings(Name),
            Rows = [Row || Row <- rows(Sessions), matches(Row, Filter, Order)],
            {length(Rows), limit(Filter, lists:sort(order(Sort, Order), Rows))};
        false ->
            Least = [Counted#{session => Session, pid => Pid}
                     || {Session, Pid, Counted} <- Sessions],
            Shown = limit(Filter, lists:sort(order(Sort, expiry), Least)),
            {length(Sessions), rows([{S, Pid, maps:without([session, pid], Row)}
                                     || #{session := S, pid := Pid} = Row <- Shown])}
    end.

rows(Sessions) ->
    Counted = maps:from_list([{Session, Counters} || {Session, _, Counters} <- Sessions]),
    [maps:merge(Info, maps:get(Session, Counted))
     || #{session := Session} = Info <- meerkat_alloc:infos([Pid || {_, Pid, _} <- Sessions])].

limit(#{limit := Limit}, Rows) -> lists:sublist(Rows, Limit);
limit(#{}, Rows) -> Rows.

%% Numbers grow with time, over all workers.
order(age, _) -> by(fun(#{session := Session}) -> Session band 16#ffffffffffffff end);
order(bytes, _) -> by(fun(Row) -> -relayed(Row) end);
order(user, Order) -> by(fun(#{user := User}) -> meerkat_quota:user_key(User, Order) end).

relayed(Row) -> maps:get(client_bytes, Row, 0) + maps:get(peer_bytes, Row, 0).

by(Key) ->
    fun(A, B) -> Key(A) =< Key(B) end.

matches(Row, Filter, Order) ->
    is_of(Row, Filter, Order) andalso is_for(Row, Filter).

is_of(#{user := User}, #{user := Wanted}, Order) ->
    User =:= Wanted orelse meerkat_quota:user_key(User, Order) =:= Wanted;
is_of(_Row, _Filter, _Order) ->
    true.

is_for(#{channels := Channels}, #{peer := {Ip, Port} = Peer}) when is_integer(Port), is_tuple(Ip) ->
    lists:any(fun(#{peer := Bound}) -> Bound =:= Peer end, Channels);
is_for(#{permissions := Permissions, channels := Channels}, #{peer := Ip}) ->
    lists:any(fun(#{peer := Permitted}) -> Permitted =:= Ip end, Permissions)
        orelse lists:any(fun(#{peer := {Bound, _}}) -> Bound =:= Ip end, Channels);
is_for(_Row, _Filter) ->
    true.

%% What the relay has counted of each session. One worker after the other, until there is no more.
traffic(Name) ->
    maps:from_list(traffic(Name, 0, 0)).

traffic(Name, Worker, From) ->
    case meerkat_relay:call(Name, {sessions, #{from => From}}) of
        {ok, #{next := 0, rows := Rows}} when Worker < 255 ->
            counted(Rows) ++ traffic(Name, Worker + 1, (Worker + 1) bsl 56);
        {ok, #{next := Next, rows := Rows}} when Next > 0 ->
            counted(Rows) ++ traffic(Name, Worker, Next);
        {ok, #{rows := Rows}} ->
            counted(Rows);
        _NoMoreWorkersOrNoRelay ->
            []
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
                {ok, Info} -> {ok, maps:merge(Info, stats(Name, Session))};
                {error, gone} -> {error, not_found}
            end;
        {error, not_found} ->
            {error, not_found}
    end.

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

%% Ends one, or all of a user as filter() knows users; how many. Clients are not told.
-spec disconnect(Name :: atom(), who()) -> non_neg_integer().
disconnect(Name, {user, User}) ->
    {_, Rows} = list(Name, #{user => User}),
    lists:sum([disconnect(Name, Session) || #{session := Session} <- Rows]);
disconnect(Name, Id) ->
    case find(Name, Id) of
        {ok, _, Pid} -> length([ok || meerkat_alloc:disconnect(Pid) =:= ok]);
        {error, not_found} -> 0
    end.
