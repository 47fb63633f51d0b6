%% What a module has to remember of a server for longer than any of its processes lives, until the
%% server ends. Each module has keys of its own: Owner is always ?MODULE (.ci/check), so nobody
%% reads or writes what is another's but by the functions of that module.
-module(meerkat_store).

-export([put/4, put_lasting/4, count/3, get/3, get/4, all/2, delete/3]).
%% For meerkat_registry.
-export([lasting/1, forget/1]).

-export_type([row/0]).

-type row() :: {{owner(), Key :: term()}, Value :: term()}.

-type owner() :: module().

-spec put(Name :: atom(), owner(), Key :: term(), Value :: term()) -> ok.
put(Name, Owner, Key, Value) ->
    true = ets:insert(table(Name), {{Owner, Key}, Value}),
    ok.

%% The next server from the same specification (meerkat_registry:keep/3) has it too, whatever this
%% one's tables end by: it is kept outside of them at once. For what seldom changes.
-spec put_lasting(Name :: atom(), owner(), Key :: term(), Value :: term()) -> ok.
put_lasting(Name, Owner, Key, Value) ->
    ok = persistent_term:put({?MODULE, Name, Owner, Key}, Value),
    put(Name, Owner, Key, Value).

%% One more than it was, which is 0 at first.
-spec count(Name :: atom(), owner(), Key :: term()) -> pos_integer().
count(Name, Owner, Key) ->
    ets:update_counter(table(Name), {Owner, Key}, {2, 1}, {{Owner, Key}, 0}).

-spec get(Name :: atom(), owner(), Key :: term()) -> Value :: term() | none.
get(Name, Owner, Key) ->
    get(Name, Owner, Key, none).

-spec get(Name :: atom(), owner(), Key :: term(), Default) -> Value :: term() | Default.
get(Name, Owner, Key, Default) ->
    case ets:lookup(table(Name), {Owner, Key}) of
        [{_, Value}] -> Value;
        [] -> Default
    end.

-spec all(Name :: atom(), owner()) -> [{Key :: term(), Value :: term()}].
all(Name, Owner) ->
    ets:select(table(Name), [{{{Owner, '$1'}, '$2'}, [], [{{'$1', '$2'}}]}]).

-spec delete(Name :: atom(), owner(), Key :: term()) -> ok.
delete(Name, Owner, Key) ->
    _ = persistent_term:erase({?MODULE, Name, Owner, Key}),
    true = ets:delete(table(Name), {Owner, Key}),
    ok.

%% What servers of that name have kept for the next one.
-spec lasting(Name :: atom()) -> [row()].
lasting(Name) ->
    [{{Owner, Key}, Value}
     || {{?MODULE, N, Owner, Key}, Value} <- persistent_term:get(), N =:= Name].

-spec forget(Name :: atom()) -> ok.
forget(Name) ->
    lists:foreach(fun({{Owner, Key}, _}) ->
        persistent_term:erase({?MODULE, Name, Owner, Key})
    end, lasting(Name)).

table(Name) ->
    meerkat_registry:table(Name, store).
