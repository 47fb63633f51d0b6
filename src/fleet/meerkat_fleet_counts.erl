%% How many allocations users have in a whole fleet, as one node sees it. Of each user one node is
%% the keeper, by the user's name and who is a member: it is told by the others how many they have,
%% and asked before there is one more. All of it is soft: a keeper that is new knows nothing until
%% it is told. Pure; meerkat_fleet_quota is the process, and a simulation of many nodes uses the
%% same.
-module(meerkat_fleet_counts).

-export([new/1, members/2, keeper/2]).
-export([claim/4, settled/3, changed/2, flush/3]).
-export([decide/5, make_room/5, told/3, total/2, kept/1]).

-export_type([counts/0]).

%% Whoever is a member: a process, or what stands for it.
-type id() :: term().
-type user() :: meerkat_quota:of_realm() | term().

-record(counts, {
    self :: id(),
    %% In one order on all nodes.
    members :: tuple(),
    %% As keeper: who has how many. Nobody has none.
    kept = #{} :: #{user() => [{id(), pos_integer()}]},
    %% Of this node: claims that may or may not be places by now, and since when (ms).
    claims = #{} :: #{user() => {N :: pos_integer(), SinceMs :: integer()}},
    %% Users whose keeper does not know yet how many this node has.
    dirty = #{} :: #{user() => true}
}).
-opaque counts() :: #counts{}.

%% Who made a claim and died is not waited for longer than this.
-define(CLAIM_MS, 10000).

%% A node by itself.
-spec new(id()) -> counts().
new(Self) ->
    #counts{self = Self, members = {Self}}.

%% Who is there, this node too, in an order that is the same on all nodes. What those had that are
%% gone is forgotten, and whatever this node is not the keeper of any more; each has to tell the
%% keepers anew (changed/2).
-spec members([id(), ...], counts()) -> counts().
members(Members, #counts{self = Self, kept = Kept} = Counts) ->
    Next = Counts#counts{members = list_to_tuple(Members)},
    There = maps:from_keys(Members, true),
    Next#counts{kept = maps:filtermap(fun(User, Had) ->
        case keeper(User, Next) =:= Self andalso [Of || {Id, _} = Of <- Had, is_map_key(Id, There)]
        of
            [_ | _] = Left -> {true, Left};
            _ -> false
        end
    end, Kept)}.

-spec keeper(user(), counts()) -> id().
keeper(User, #counts{members = Members}) ->
    element(1 + erlang:phash2(User, tuple_size(Members)), Members).

%%% A node that has allocations

%% One is about to be made: its keeper is to be asked (decide/5).
-spec claim(user(), Weight :: pos_integer(), NowMs :: integer(), counts()) -> {id(), counts()}.
claim(User, Weight, Now, #counts{claims = Claims} = Counts) ->
    {N, _} = maps:get(User, Claims, {0, Now}),
    {keeper(User, Counts), Counts#counts{claims = Claims#{User => {N + Weight, Now}}}}.

%% It has been made, or not.
-spec settled(user(), Weight :: pos_integer(), counts()) -> counts().
settled(User, Weight, #counts{claims = Claims} = Counts) ->
    changed(User, Counts#counts{claims = case Claims of
        #{User := {N, Since}} when N > Weight -> Claims#{User := {N - Weight, Since}};
        #{} -> maps:remove(User, Claims)
    end}).

-spec changed(user(), counts()) -> counts().
changed(User, #counts{dirty = Dirty} = Counts) ->
    Counts#counts{dirty = Dirty#{User => true}}.

%% What there is to tell whom: of each user that changed how many this node has, claims among them.
-spec flush(fun((user()) -> non_neg_integer()), NowMs :: integer(), counts()) ->
    {#{id() => #{user() => non_neg_integer()}}, counts()}.
flush(Count, Now, #counts{dirty = Dirty, claims = Claims} = Counts) ->
    Live = maps:filter(fun(_, {_, Since}) -> Since + ?CLAIM_MS > Now end, Claims),
    Told = maps:fold(fun(User, true, All) ->
        {Claimed, _} = maps:get(User, Live, {0, Now}),
        Keeper = keeper(User, Counts),
        All#{Keeper => (maps:get(Keeper, All, #{}))#{User => Count(User) + Claimed}}
    end, #{}, Dirty),
    Forgotten = maps:map(fun(_, _) -> true end, maps:without(maps:keys(Live), Claims)),
    {Told, Counts#counts{claims = Live, dirty = Forgotten}}.

%%% A keeper

%% May that node have so many more? Then it has them from here on, until it tells otherwise.
-spec decide(id(), user(), Weight :: pos_integer(), Max :: pos_integer(), counts()) ->
    {ok | full, counts()}.
decide(Node, User, Weight, Max, #counts{kept = Kept} = Counts) ->
    Has = maps:get(User, Kept, []),
    case sum(Has) + Weight =< Max of
        true ->
            Next = put(Node, of_node(Node, Has) + Weight, Has),
            {ok, Counts#counts{kept = Kept#{User => Next}}};
        false ->
            {full, Counts}
    end.

%% It may, and others lose as many as are then too many: which ones, and how many each. A node ends
%% what it has beyond the bound itself, so no node counts for more.
-spec make_room(id(), user(), Weight :: pos_integer(), Max :: pos_integer(), counts()) ->
    {[{id(), pos_integer()}], counts()}.
make_room(Node, User, Weight, Max, #counts{kept = Kept} = Counts) ->
    Has = maps:get(User, Kept, []),
    Own = min(Max, of_node(Node, Has) + Weight),
    Others = [{Other, min(Max, N)} || {Other, N} <- Has, Other =/= Node],
    Losses = losses(sum(Others) + Own - Max, Others),
    Left = lists:foldl(fun({Other, N}, Of) -> put(Other, of_node(Other, Of) - N, Of) end,
                       [{Node, Own} | Others], Losses),
    {Losses, Counts#counts{kept = Kept#{User => Left}}}.

losses(Excess, [{Node, N} | Others]) when Excess > 0 ->
    Loss = min(N, Excess),
    [{Node, Loss} | losses(Excess - Loss, Others)];
losses(_Excess, _Others) ->
    [].

%% How many that node has.
-spec told(id(), #{user() => non_neg_integer()}, counts()) -> counts().
told(Node, Told, #counts{kept = Kept} = Counts) ->
    Counts#counts{kept = maps:fold(fun(User, N, All) ->
        case put(Node, N, maps:get(User, All, [])) of
            [] -> maps:remove(User, All);
            Has -> All#{User => Has}
        end
    end, Kept, Told)}.

%% As the keeper knows it.
-spec total(user(), counts()) -> non_neg_integer().
total(User, #counts{kept = Kept}) ->
    sum(maps:get(User, Kept, [])).

%% Of how many users this node is the keeper.
-spec kept(counts()) -> non_neg_integer().
kept(#counts{kept = Kept}) ->
    map_size(Kept).

sum(Has) -> lists:sum([N || {_, N} <- Has]).

of_node(Node, Has) -> proplists:get_value(Node, Has, 0).

put(Node, 0, Has) -> lists:keydelete(Node, 1, Has);
put(Node, N, Has) -> lists:keystore(Node, 1, Has, {Node, N}).
