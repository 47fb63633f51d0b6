%% What a module has to remember of a server for longer than any of its processes lives, until the
%% server ends. Each module has keys of its own: Owner is always ?MODULE (.ci/check), so nobody
%% reads or writes what is another's but by the functions of that module.
-module(meerkat_store).

-export([put/4, put_lasting/4, count/3, get/3, get/4, all/2, delete/3]).

-type owner() :: module().

-spec put(Name :: atom(), owner(), Key :: term(), Value :: term()) -> ok.
put(Name, Owner, Key, Value) ->
    put_row(Name, {{Owner, Key}, Value, passing}).

%% The next server from the same specification (meerkat_registry:keep/3) has it too.
-spec put_lasting(Name :: atom(), owner(), Key :: term(), Value :: term()) -> ok.
put_lasting(Name, Owner, Key, Value) ->
    put_row(Name, {{Owner, Key}, Value, lasting}).

%% One more than it was, which is 0 at first.
-spec count(Name :: atom(), owner(), Key :: term()) -> pos_integer().
count(Name, Owner, Key) ->
    ets:update_counter(table(Name), {Owner, Key}, {2, 1}, {{Owner, Key}, 0, passing}).

put_row(Name, Row) ->
    true = ets:insert(table(Name), Row),
    ok.

-spec get(Name :: atom(), owner(), Key :: term()) -> Value :: term() | none.
get(Name, Owner, Key) ->
    get(Name, Owner, Key, none).

-spec get(Name :: atom(), owner(), Key :: term(), Default) -> Value :: term() | Default.
get(Name, Owner, Key, Default) ->
    case ets:lookup(table(Name), {Owner, Key}) of
        [{_, Value, _}] -> Value;
        [] -> Default
    end.

-spec all(Name :: atom(), owner()) -> [{Key :: term(), Value :: term()}].
all(Name, Owner) ->
    ets:select(table(Name), [{{{Owner, '$1'}, '$2', '_'}, [], [{{'$1', '$2'}}]}]).

-spec delete(Name :: atom(), owner(), Key :: term()) -> ok.
delete(Name, Owner, Key) ->
    true = ets:delete(table(Name), {Owner, Key}),
    ok.

table(Name) ->
    meerkat_registry:table(Name, store).
