%% Quotas over a fleet (meerkat_fleet_counts), with nodes and a network made here: messages from
%% node to node arrive in order, as late as they please, or never where the fleet is cut.
%%
%% While all nodes are connected no user has more than the quota, however late anything is. While
%% they are cut into parts no user has more than that in each part: with k parts the error is at
%% most k - 1 quotas. When they are joined again and have told each other, nobody gets more before
%% what is too much is gone. And once all is told, keepers know what is.
-module(prop_fleet).

-export([prop_quota/0, prop_newer_wins/0]).

-define(FORALL(Var, Type, Property), proper:forall(Type, fun(Var) -> Property end)).

-import(proper_types, [frequency/1, oneof/1, list/1]).

-define(MAX, 3).
-define(NODES, [1, 2, 3, 4]).
-define(USERS, [alice, bob]).

-record(world, {
    nodes :: #{pos_integer() => meerkat_fleet_counts:counts()},
    %% What each has in truth.
    has = #{} :: #{{pos_integer(), atom()} => pos_integer()},
    parts = [?NODES] :: [[pos_integer()]],
    %% In order.
    mail = #{} :: #{{From :: pos_integer(), To :: pos_integer()} => [term()]},
    %% Beyond the quota.
    then = refuse :: refuse | replace,
    %% What nobody may have more of; it is more than the quota after a cut.
    most = #{} :: #{atom() => pos_integer()}
}).

-spec prop_quota() -> proper:test().
prop_quota() ->
    ?FORALL({Before, Cut, Meanwhile, After}, {steps(), cut(), steps(), steps()},
        try
            Whole = run(Before, new()),
            Apart = run(Meanwhile, regrouped(Cut, Whole)),
            _ = settled(run(After, regrouped([?NODES], Apart))),
            true
        catch
            error:{badmatch, _}:Where ->
                ct:pal("~tp", [hd(Where)]),
                false
        end).

%% Where a new allocation ends the oldest ones: whatever was late, once all is told nobody has more
%% than the quota, nor less than it where nobody has freed any.
-spec prop_newer_wins() -> proper:test().
prop_newer_wins() ->
    ?FORALL(Steps, steps(),
        begin
            World = settled(run(Steps, (new())#world{then = replace})),
            Asked = fun(User) -> length([1 || {allocate, _, Of} <- Steps, Of =:= User]) end,
            Freed = fun(User) -> lists:any(fun({free, _, Of}) -> Of =:= User;
                                              (_) -> false
                                           end, Steps) end,
            lists:all(fun(User) ->
                Has = total(User, ?NODES, World),
                Has =< ?MAX andalso (Freed(User) orelse Has =:= min(?MAX, Asked(User)))
            end, ?USERS)
        end).

steps() ->
    list(frequency([{6, {allocate, oneof(?NODES), oneof(?USERS)}},
                    {3, {free, oneof(?NODES), oneof(?USERS)}},
                    {2, {flush, oneof(?NODES)}},
                    {8, {deliver, oneof(?NODES), oneof(?NODES)}}])).

cut() ->
    oneof([[[1, 2], [3, 4]], [[1], [2, 3, 4]], [[1, 2], [3], [4]], [[1], [2], [3], [4]]]).

new() ->
    #world{nodes = maps:from_list(
        [{N, meerkat_fleet_counts:members(?NODES, meerkat_fleet_counts:new(N))} || N <- ?NODES])}.

run(Steps, World) ->
    lists:foldl(fun(Step, Before) -> right(step(Step, Before)) end, World, Steps).

%% Each part by itself keeps to the quota, or to what it had when it came to be.
right(#world{then = replace} = World) ->
    World;
right(#world{parts = Parts, most = Most} = World) ->
    [true = (total(User, Part, World) =< maps:get({User, Part}, Most, ?MAX))
     || User <- ?USERS, Part <- Parts],
    World.

total(User, Part, #world{has = Has}) ->
    lists:sum([maps:get({N, User}, Has, 0) || N <- Part]).

%% A claim is made, as meerkat_quota does, by who may have one more by what this node has.
step({allocate, N, User}, #world{then = Then} = World) ->
    case Then =:= replace orelse has(N, User, World) < ?MAX of
        true ->
            {Keeper, Counts} = meerkat_fleet_counts:claim(User, 1, 0, node(N, World)),
            send(N, Keeper, {claim, N, User}, put_node(N, Counts, World));
        false ->
            World
    end;
step({free, N, User}, World) ->
    case has(N, User, World) of
        0 -> World;
        Count -> changed(N, User, put_has(N, User, Count - 1, World))
    end;
step({flush, N}, World) ->
    {Told, Counts} = meerkat_fleet_counts:flush(fun(User) -> has(N, User, World) end, 0,
                                                node(N, World)),
    maps:fold(fun(Keeper, Users, W) -> send(N, Keeper, {told, N, Users}, W) end,
              put_node(N, Counts, World), Told);
step({deliver, From, To}, #world{mail = Mail} = World) ->
    case Mail of
        #{{From, To} := [Message | Later]} ->
            received(To, Message, World#world{mail = Mail#{{From, To} := Later}});
        #{} ->
            World
    end.

received(Keeper, {claim, N, User}, #world{then = replace} = World) ->
    {Losses, Counts} = meerkat_fleet_counts:make_room(N, User, 1, ?MAX, node(Keeper, World)),
    lists:foldl(fun({Loser, Loss}, W) -> send(Keeper, Loser, {lose, User, Loss}, W) end,
                send(Keeper, N, {ok, User}, put_node(Keeper, Counts, World)), Losses);
received(N, {lose, User, Loss}, World) ->
    changed(N, User, put_has(N, User, max(0, has(N, User, World) - Loss), World));
received(Keeper, {claim, N, User}, World) ->
    {Answer, Counts} = meerkat_fleet_counts:decide(N, User, 1, ?MAX, node(Keeper, World)),
    send(Keeper, N, {Answer, User}, put_node(Keeper, Counts, World));
received(N, {ok, User}, World) ->
    send(N, N, {settled, User}, case has(N, User, World) of
        %% Its own count refuses what was claimed before another took the last place.
        Count when Count < ?MAX -> put_has(N, User, Count + 1, World);
        _ -> World
    end);
received(N, {full, User}, World) ->
    send(N, N, {settled, User}, World);
received(N, {settled, User}, World) ->
    put_node(N, meerkat_fleet_counts:settled(User, 1, node(N, World)), World);
received(Keeper, {told, N, Users}, World) ->
    put_node(Keeper, meerkat_fleet_counts:told(N, Users, node(Keeper, World)), World).

%% Nobody hears of those beyond, and who was waited for is asked no more. All have told who they are
%% connected with by then what they have.
regrouped(Parts, World) ->
    #world{nodes = Nodes} = Before = settled(World),
    Members = maps:map(fun(N, Counts) ->
        [Part] = [P || P <- Parts, lists:member(N, P)],
        lists:foldl(fun meerkat_fleet_counts:changed/2,
                    meerkat_fleet_counts:members(Part, Counts), ?USERS)
    end, Nodes),
    Most = [{{User, Part}, max(?MAX, total(User, Part, Before))} || User <- ?USERS, Part <- Parts],
    settled(Before#world{parts = Parts, nodes = Members, most = maps:from_list(Most)}).

%% All that is to be told is told, and answers are followed by what they change.
settled(World) ->
    known(quiet(World)).

quiet(World) ->
    Flushed = lists:foldl(fun(N, W) -> step({flush, N}, W) end, delivered(World), ?NODES),
    case delivered(Flushed) of
        World -> World;
        Next -> quiet(Next)
    end.

delivered(#world{mail = Mail} = World) ->
    case [Pair || {Pair, [_ | _]} <- maps:to_list(Mail)] of
        [] -> World#world{mail = #{}};
        [{From, To} | _] -> delivered(right(step({deliver, From, To}, World)))
    end.

known(#world{parts = Parts} = World) ->
    [true = (total(User, Part, World)
                 =:= meerkat_fleet_counts:total(User, node(keeper(User, Part, World), World)))
     || Part <- Parts, User <- ?USERS],
    World.

keeper(User, [N | _], World) ->
    meerkat_fleet_counts:keeper(User, node(N, World)).

send(From, To, Message, #world{parts = Parts, mail = Mail} = World) ->
    Together = lists:any(fun(Part) -> [] =:= [From, To] -- Part orelse From =:= To end, Parts),
    case Together of
        true ->
            Before = maps:get({From, To}, Mail, []),
            World#world{mail = Mail#{{From, To} => Before ++ [Message]}};
        false ->
            World
    end.

node(N, #world{nodes = Nodes}) -> maps:get(N, Nodes).

put_node(N, Counts, #world{nodes = Nodes} = World) -> World#world{nodes = Nodes#{N := Counts}}.

has(N, User, #world{has = Has}) -> maps:get({N, User}, Has, 0).

put_has(N, User, 0, #world{has = Has} = World) -> World#world{has = maps:remove({N, User}, Has)};
put_has(N, User, Count, #world{has = Has} = World) -> World#world{has = Has#{{N, User} => Count}}.

changed(N, User, World) ->
    put_node(N, meerkat_fleet_counts:changed(User, node(N, World)), World).
