#!/usr/bin/env escript
%% Where a fleet of many nodes goes (make fleet-simulation): nodes without relays, that keep count of
%% users as real ones do (meerkat_fleet_counts), with 10,000 allocations each of users with a quota.
%% Messages are handed over at once; how many they are and how large is what is looked at, and what a
%% node has to remember. Prints a row for each number of nodes, as docs/scaling.md has them.
%%
%% Not in it: what the distribution itself needs for its connections, and answers to what operators
%% ask.
-mode(compile).

-define(ALLOCATIONS, 10000).
%% Of an allocation; so many begin and end each second.
-define(LIFE_S, 300).
-define(SECONDS, 3).
-define(QUOTA, 3).

main([Ebin | Sizes]) ->
    true = code:add_patha(Ebin),
    io:format("| nodes | allocations | a node remembers | a node sends, messages/s | and bytes/s "
              "| when one joins or goes, messages | and bytes |~n"
              "|---:|---:|---:|---:|---:|---:|---:|~n"),
    lists:foreach(fun(Size) -> simulate(list_to_integer(Size)) end, Sizes).

simulate(Nodes) ->
    erase(),
    Members = lists:seq(1, Nodes),
    _ = [put(N, meerkat_fleet_counts:members(Members, meerkat_fleet_counts:new(N)))
         || N <- Members],
    %% Each tells of all its users, as when a node joins or goes.
    {Told, ToldBytes} = sum([told_all(N, Nodes) || N <- Members]),
    right(Nodes),
    {Sent, Bytes} = sum([second(S, Nodes) || S <- lists:seq(1, ?SECONDS)]),
    {Places, PlaceBytes} = places(Nodes),
    Remembered = lists:max([erts_debug:flat_size(get(N)) * erlang:system_info(wordsize)
                            || N <- lists:sublist(Members, 10)]),
    io:format("| ~b | ~b | ~s | ~b | ~b | ~b | ~b |~n",
              [Nodes, Nodes * ?ALLOCATIONS, size_of(Remembered),
               round(Sent / ?SECONDS / Nodes + Places),
               round(Bytes / ?SECONDS / Nodes + PlaceBytes),
               Told div Nodes, ToldBytes div Nodes]).

size_of(Bytes) -> io_lib:format("~.1f MB", [Bytes / 1.0e6]).

%% Of which node a user's one allocation is follows from the name.
user(N, I, Nodes) -> {default, <<"user-", (integer_to_binary(I * Nodes + N))/binary>>}.

told_all(N, Nodes) ->
    Counts = lists:foldl(fun(I, C) -> meerkat_fleet_counts:changed(user(N, I, Nodes), C) end,
                         get(N), lists:seq(1, ?ALLOCATIONS)),
    put(N, Counts),
    flushed(N, fun(_) -> 1 end).

%% Keepers know all users, and nobody else does.
right(Nodes) ->
    Kept = lists:sum([meerkat_fleet_counts:kept(get(N)) || N <- lists:seq(1, Nodes)]),
    Kept =:= Nodes * ?ALLOCATIONS orelse error({kept, Kept}).

%% As many new users come as others go.
second(Second, Nodes) ->
    Each = ?ALLOCATIONS div ?LIFE_S,
    sum([begin
             Claimed = sum([claimed(N, user(N, ?ALLOCATIONS * (Second + 1) + I, Nodes))
                            || I <- lists:seq(1, Each)]),
             Gone = [user(N, Each * (Second - 1) + I, Nodes) || I <- lists:seq(1, Each)],
             put(N, lists:foldl(fun meerkat_fleet_counts:changed/2, get(N), Gone)),
             sum([Claimed, flushed(N, fun(User) ->
                 case lists:member(User, Gone) of true -> 0; false -> 1 end
             end)])
         end || N <- lists:seq(1, Nodes)]).

%% Two messages, unless a node is the keeper itself.
claimed(N, User) ->
    {Keeper, Claimed} = meerkat_fleet_counts:claim(User, 1, 0, get(N)),
    put(N, Claimed),
    {ok, Decided} = meerkat_fleet_counts:decide(N, User, 1, ?QUOTA, get(Keeper)),
    put(Keeper, Decided),
    put(N, meerkat_fleet_counts:settled(User, 1, get(N))),
    Asked = {claim, {self(), [alias | make_ref()]}, self(), User, 1, ?QUOTA},
    sum([message(N, Keeper, Asked), message(Keeper, N, {make_ref(), ok})]).

flushed(N, Count) ->
    {Told, Counts} = meerkat_fleet_counts:flush(Count, 0, get(N)),
    put(N, Counts),
    sum([begin
             put(Keeper, meerkat_fleet_counts:told(N, Users, get(Keeper))),
             message(N, Keeper, {told, self(), Users})
         end || {Keeper, Users} <- maps:to_list(Told)]).

message(N, N, _Message) -> {0, 0};
message(_From, _To, Message) -> {1, erlang:external_size({'$gen_cast', Message})}.

%% What meerkat_fleet_load tells: a node of two families and three transports, a hundred times a
%% second at most.
places(Nodes) ->
    Ways = [#{transport => T, realm => <<"example.org">>, at => {Ip, 3478}, hosts => [Ip]}
            || T <- [udp, tcp, tls],
               Ip <- [{203, 0, 113, 5}, {16#2001, 16#db8, 0, 0, 0, 0, 0, 5}]],
    Place = #{node => 'meerkat@203.0.113.5', load => 0.5, ready => true, region => <<"eu">>,
              ways => Ways},
    PerS = (Nodes - 1) / max(1, (Nodes - 1 + 99) div 100),
    {PerS, PerS * erlang:external_size({'$gen_cast', {place, self(), Place}})}.

sum(Pairs) -> lists:foldl(fun({A, B}, {C, D}) -> {A + C, B + D} end, {0, 0}, Pairs).
