%% Tells whoever keeps account of a server's allocations that one began or ended. Nobody waits for
%% the account: what begins or ends sends a message and goes on. What waits to be taken is counted,
%% and beyond a bound nothing more is sent: it is counted as untold.
-module(meerkat_ledger).

-export([keep/1, close/1, tell/2, taken/1, untold/1]).

-export_type([event/0, facts/0]).

%% What is true of an allocation for as long as it lives, but for the client's address (RFC 8016).
%% `realm`: as meerkat_settings:owner/2 has it; `lifetime`: seconds that it was given when it began;
%% `age_ms`: since it began; `told_ms`: wall clock, as this is told.
-type facts() :: #{user := binary(), realm := default | binary(),
                   client := address(), server := address(),
                   transport := udp | tcp | tls | dtls, protocol := udp | tcp,
                   relayed := [address(), ...], lifetime := pos_integer(),
                   age_ms := non_neg_integer(), told_ms := integer()}.
-type address() :: {inet:ip_address(), inet:port_number()}.
-type session() :: non_neg_integer().
%% `lives`: one that had begun before anybody kept account, and was asked (meerkat_alloc:account/1).
-type event() :: {began | lives, session(), facts()}
               | {ended, session(), Reason :: atom(), Counters :: #{atom() => non_neg_integer()},
                  facts()}.

-define(WAITING_MAX, 100000).
-define(WAITING, 1).
-define(UNTOLD, 2).

%% The caller keeps the account from here on, in place of whoever did: it hears {ledger, event()},
%% and says taken/1 of each. What another has not taken it took along.
-spec keep(Name :: atom()) -> ok.
keep(Name) ->
    Counts = counters:new(2, [atomics]),
    Left = case meerkat_store:get(Name, ?MODULE, keeper) of
        none -> 0;
        {_, Before} -> counters:get(Before, ?WAITING)
    end,
    ok = counters:put(Counts, ?UNTOLD, untold(Name) + Left),
    meerkat_store:put(Name, ?MODULE, keeper, {self(), Counts}).

%% Nobody keeps account any more.
-spec close(Name :: atom()) -> ok.
close(Name) ->
    meerkat_store:delete(Name, ?MODULE, keeper).

%% The event is only made where somebody keeps account.
-spec tell(Name :: atom(), fun(() -> event())) -> ok.
tell(Name, Event) ->
    case meerkat_store:get(Name, ?MODULE, keeper) of
        none ->
            ok;
        {Keeper, Counts} ->
            case counters:get(Counts, ?WAITING) < ?WAITING_MAX andalso is_process_alive(Keeper) of
                true ->
                    ok = counters:add(Counts, ?WAITING, 1),
                    Keeper ! {ledger, Event()},
                    ok;
                false ->
                    counters:add(Counts, ?UNTOLD, 1)
            end
    end.

%% The keeper has received one.
-spec taken(Name :: atom()) -> ok.
taken(Name) ->
    {_, Counts} = meerkat_store:get(Name, ?MODULE, keeper),
    counters:sub(Counts, ?WAITING, 1).

%% How many there were that no keeper heard of, while there was meant to be one, since this was
%% asked last.
-spec untold(Name :: atom()) -> non_neg_integer().
untold(Name) ->
    case meerkat_store:get(Name, ?MODULE, keeper) of
        none ->
            0;
        {_, Counts} ->
            N = counters:get(Counts, ?UNTOLD),
            ok = counters:sub(Counts, ?UNTOLD, N),
            N
    end.
