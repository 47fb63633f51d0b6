%% Who is told when services change (XEP-0215 3.4): those who asked for them and whose presence we
%% have. Their number is bounded: beyond it clients are answered, but not told of changes. Pure.
-module(meerkat_xmpp_watchers).

-export([new/0, asked/4, present/4, gone/2, lost/2, all/1, count/1]).
-export_type([watchers/0, watcher/0, type/0]).

%% What was asked for: services of a type, or all.
-type type() :: all | binary().
%% The full JID, the name of ours that it knows us by, the connection it is reached by.
-type watcher() :: #{jid := binary(), as := binary(), via := term(), types := [type()]}.

%% Clients that are present, at most. Of those that have asked and are not present, two generations
%% of so many are kept, and the older one is forgotten when the newer one is full.
-define(MAX, 10000).

-record(watchers, {
    present = #{} :: #{binary() => watcher()},
    watching = 0 :: non_neg_integer(),          % of these, who asked
    young = #{} :: #{binary() => [type()]},
    old = #{} :: #{binary() => [type()]}
}).
-opaque watchers() :: #watchers{}.

-spec new() -> watchers().
new() -> #watchers{}.

%% Jid has asked As for services of a type.
-spec asked(Jid :: binary(), As :: binary(), type(), watchers()) -> watchers().
asked(Jid, As, Type, #watchers{present = Present} = Book) ->
    case Present of
        #{Jid := #{types := Types} = Watcher} ->
            Told = Watcher#{as := As, types := with(Type, Types)},
            changed(Watcher, Told, Book#watchers{present = Present#{Jid := Told}});
        #{} ->
            {Before, Rest} = taken(Jid, Book),
            kept(Jid, with(Type, Before), Rest)
    end.

with(all, _Types) -> [all];
with(_Type, [all]) -> [all];
with(Type, Types) -> lists:usort([Type | Types]).

taken(Jid, #watchers{young = Young, old = Old} = Book) ->
    {maps:get(Jid, Young, maps:get(Jid, Old, [])),
     Book#watchers{young = maps:remove(Jid, Young), old = maps:remove(Jid, Old)}}.

kept(Jid, Types, #watchers{young = Young} = Book) when map_size(Young) < ?MAX ->
    Book#watchers{young = Young#{Jid => Types}};
kept(Jid, Types, #watchers{young = Young} = Book) ->
    Book#watchers{young = #{Jid => Types}, old = Young}.

%% Jid has sent its presence to As, by the connection Via.
-spec present(Jid :: binary(), As :: binary(), Via :: term(), watchers()) ->
    {ok | full, watchers()}.
present(Jid, As, Via, #watchers{present = Present} = Book) ->
    case Present of
        #{Jid := Watcher} ->
            {ok, Book#watchers{present = Present#{Jid := Watcher#{as := As, via := Via}}}};
        #{} when map_size(Present) < ?MAX ->
            {Types, Rest} = taken(Jid, Book),
            Watcher = #{jid => Jid, as => As, via => Via, types => Types},
            {ok, changed(none, Watcher, Rest#watchers{present = Present#{Jid => Watcher}})};
        #{} ->
            {full, Book}
    end.

-spec gone(Jid :: binary(), watchers()) -> watchers().
gone(Jid, #watchers{present = Present} = Book) ->
    {_, Rest} = taken(Jid, Book),
    changed(maps:get(Jid, Present, none), none, Rest#watchers{present = maps:remove(Jid, Present)}).

%% A connection has ended: forgets those who watched by it, for we would not hear when they leave.
-spec lost(Via :: term(), watchers()) -> watchers().
lost(Via, #watchers{present = Present} = Book) ->
    Left = Book#watchers{present = maps:filter(fun(_, #{via := By}) -> By =/= Via end, Present)},
    Left#watchers{watching = length(all(Left))}.

changed(Before, After, #watchers{watching = N} = Book) ->
    Book#watchers{watching = N - watches(Before) + watches(After)}.

watches(#{types := [_ | _]}) -> 1;
watches(_) -> 0.

-spec all(watchers()) -> [watcher()].
all(#watchers{present = Present}) ->
    [Watcher || #{types := [_ | _]} = Watcher <- maps:values(Present)].

%% How many all/1 are. Kept, for it is asked after each stanza.
-spec count(watchers()) -> non_neg_integer().
count(#watchers{watching = N}) -> N.
