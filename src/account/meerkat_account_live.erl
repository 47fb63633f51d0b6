%% The allocations that live, each with what it has relayed so far: the sum over all relay programs
%% that it had, and never less than was recorded before. A table of meerkat_account's process.
-module(meerkat_account_live).

-export([new/0, size/1, enter/5, count/6, leave/4, missing/3, all/2]).

-export_type([live/0]).

-type live() :: ets:table().
-type session() :: non_neg_integer().
-type counters() :: #{atom() => non_neg_integer()}.
%% What tells one relay program from another.
-type relay() :: term().
-type ms() :: integer().
%% `Start`: when it began, by the wall clock.
-type told() :: {session(), Start :: integer(), meerkat_ledger:facts(), counters()}.

-record(row, {
    session :: session(),
    facts :: meerkat_ledger:facts(),
    began :: ms(),
    start :: integer(),                 % the same by the wall clock, as it was first told
    recorded :: ms(),                   % when there was a record of it last
    relay :: relay(),
    before = #{} :: counters(),         % of the relays before that one
    total = #{} :: counters(),
    is_missing = false :: boolean()
}).

-spec new() -> live().
new() -> ets:new(?MODULE, [{keypos, #row.session}]).

-spec size(live()) -> non_neg_integer().
size(Live) -> ets:info(Live, size).

-spec enter(session(), meerkat_ledger:facts(), relay(), ms(), live()) -> new | known.
enter(Session, #{age_ms := Age} = Facts, Relay, Now, Live) ->
    Row = #row{session = Session, facts = Facts, began = Now - Age, start = start(Facts),
               recorded = Now, relay = Relay},
    case ets:insert_new(Live, Row) of
        true -> new;
        false -> known
    end.

%% What this relay has counted. Says what is known of it where its last record is older than Due.
-spec count(session(), counters(), relay(), Due :: ms() | never, ms(), live()) ->
    unknown | counted | {due, Start :: integer(), meerkat_ledger:facts(), counters()}.
count(Session, Counters, Relay, Due, Now, Live) ->
    case ets:lookup(Live, Session) of
        [] ->
            unknown;
        [Row] ->
            #row{before = Before, total = Total} = There = at(Relay, Row),
            Counted = There#row{total = most(sum(Before, Counters), Total)},
            case Due =/= never andalso Counted#row.recorded =< Due of
                true ->
                    true = ets:insert(Live, Counted#row{recorded = Now}),
                    {due, Counted#row.start, facts(Now, Counted), Counted#row.total};
                false ->
                    true = ets:insert(Live, Counted),
                    counted
            end
    end.

at(Relay, #row{relay = Relay} = Row) -> Row;
at(Relay, #row{total = Total} = Row) -> Row#row{relay = Relay, before = Total}.

%% When it began, by the wall clock, and all it has relayed, of what it says itself and what is
%% known.
-spec leave(session(), counters(), meerkat_ledger:facts(), live()) -> {integer(), counters()}.
leave(Session, Counters, Facts, Live) ->
    case ets:take(Live, Session) of
        [#row{total = Total, start = Start}] -> {Start, most(Counters, Total)};
        [] -> {start(Facts), Counters}
    end.

start(#{told_ms := Told, age_ms := Age}) -> Told - Age.

%% Those that were not there when looked for twice in a row, and forgets them. Twice, because an
%% allocation that ends is gone a moment before its process says so.
-spec missing(IsThere :: fun((session()) -> boolean()), ms(), live()) ->
    [told()].
missing(IsThere, Now, Live) ->
    Missing = ets:foldl(fun(#row{session = Session} = Row, Rows) ->
        case IsThere(Session) of true -> Rows; false -> [Row | Rows] end
    end, [], Live),
    {Again, First} = lists:partition(fun(#row{is_missing = Was}) -> Was end, Missing),
    true = ets:insert(Live, [Row#row{is_missing = true} || Row <- First]),
    lists:foreach(fun(#row{session = Session}) -> true = ets:delete(Live, Session) end, Again),
    [told(Now, Row) || Row <- Again].

-spec all(ms(), live()) -> [told()].
all(Now, Live) ->
    [told(Now, Row) || Row <- ets:tab2list(Live)].

told(Now, #row{session = Session, start = Start, total = Total} = Row) ->
    {Session, Start, facts(Now, Row), Total}.

facts(Now, #row{facts = Facts, began = Began}) ->
    Facts#{age_ms := Now - Began, told_ms := meerkat_clock:wall_ms()}.

sum(A, B) -> both(fun erlang:'+'/2, A, B).
most(A, B) -> both(fun erlang:max/2, A, B).

both(Fun, A, B) ->
    maps:map(fun(Key, N) -> Fun(N, maps:get(Key, B, 0)) end,
             maps:merge(maps:map(fun(_, _) -> 0 end, B), A)).
