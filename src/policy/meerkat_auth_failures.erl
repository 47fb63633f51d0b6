%% How often may a source be wrong about a username? Each pair of source prefix (IPv4 /32, IPv6 /64)
%% and name has a budget of failures (threat X36). When it is spent, requests of this pair are not
%% even checked until it has grown again; the same name from elsewhere, and other names from there,
%% are not affected. The table has a fixed size and is indexed by a keyed hash: pairs that collide
%% share a budget, and no name is stored.
%%
%% Any process may ask and count; two that do so at a time may let one more pass.
-module(meerkat_auth_failures).

-export([new/1, too_many/4, count/4, now_us/0]).

-export_type([failures/0]).

%% 128 KiB.
-define(BUCKETS, 16384).
-define(LATEST, (?BUCKETS + 1)).
%% Failures at once, as seconds of the rate.
-define(BURST_S, 2).

%% Per bucket the time at which it will be empty again (GCRA); behind them the latest of these.
-record(failures, {
    buckets :: atomics:atomics_ref(),
    key :: binary(),
    step :: pos_integer(),                     % microseconds a failure costs
    most :: pos_integer()                      % microseconds a bucket holds
}).
-opaque failures() :: #failures{} | none.

%% Failures per second; 0 for no limit.
-spec new(PerSecond :: non_neg_integer()) -> failures().
new(0) ->
    none;
new(PerSecond) ->
    #failures{buckets = atomics:new(?LATEST, []),
              key = crypto:strong_rand_bytes(16),
              step = max(1, 1000000 div PerSecond),
              most = ?BURST_S * PerSecond * max(1, 1000000 div PerSecond)}.

%% Has this source no failure left to make with this name, or its USERHASH?
-spec too_many(failures(), inet:ip_address(), Name :: binary(), NowUs :: non_neg_integer()) ->
    boolean().
too_many(none, _Ip, _Name, _NowUs) ->
    false;
too_many(Failures, Ip, Name, NowUs) ->
    %% Most of the time nobody's budget is spent, and nothing need be hashed.
    is_full(?LATEST, Failures, NowUs)
        andalso is_full(bucket(Failures, Ip, Name), Failures, NowUs).

is_full(Bucket, #failures{buckets = Buckets, step = Step, most = Most}, NowUs) ->
    atomics:get(Buckets, Bucket) + Step > NowUs + Most.

-spec count(failures(), inet:ip_address(), Name :: binary(), NowUs :: non_neg_integer()) -> ok.
count(none, _Ip, _Name, _NowUs) ->
    ok;
count(#failures{buckets = Buckets} = Failures, Ip, Name, NowUs) ->
    Bucket = bucket(Failures, Ip, Name),
    add(Failures, Bucket, atomics:get(Buckets, Bucket), NowUs).

add(#failures{buckets = Buckets, step = Step} = Failures, Bucket, Old, NowUs) ->
    Until = max(Old, NowUs) + Step,
    case atomics:compare_exchange(Buckets, Bucket, Old, Until) of
        ok -> latest(Buckets, atomics:get(Buckets, ?LATEST), Until);
        Other -> add(Failures, Bucket, Other, NowUs)
    end.

latest(Buckets, Old, Until) when Old < Until ->
    case atomics:compare_exchange(Buckets, ?LATEST, Old, Until) of
        ok -> ok;
        Other -> latest(Buckets, Other, Until)
    end;
latest(_Buckets, _Old, _Until) ->
    ok.

%% The length keeps a short prefix and a long name apart from a long prefix and a short name.
bucket(#failures{key = Key}, Ip, Name) ->
    Source = meerkat_prefix:source(Ip),
    <<Hash:64, _/binary>> =
        crypto:mac(hmac, sha256, Key, [<<(byte_size(Source))>>, Source, Name]),
    Hash rem ?BUCKETS + 1.

%% Microseconds since this VM started.
-spec now_us() -> non_neg_integer().
now_us() ->
    Native = erlang:monotonic_time() - erlang:system_info(start_time),
    erlang:convert_time_unit(Native, native, microsecond).
