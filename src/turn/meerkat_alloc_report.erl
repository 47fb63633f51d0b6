%% What is told of the life of an allocation: one line of the log at its end (RFC 8656 21.3.2), as a
%% report of which meerkat_log makes a line or an object, and one at its start for who looks for it;
%% events for who embeds the server (meerkat_events) and who watches (meerkat_watchers); what is
%% used to who keeps account (meerkat_ledger). Neither costs anything where nobody wants it.
-module(meerkat_alloc_report).

-include_lib("kernel/include/logger.hrl").

-export([began/1, lives/1, ended/2]).

-export_type([subject/0]).

%% Of whom, and since when, in milliseconds of meerkat_clock:now_ms/0.
-type subject() :: {Name :: atom(), Session :: non_neg_integer(), meerkat_alloc_core:alloc(),
                    Started :: integer()}.

-spec began(subject()) -> ok.
began({Name, Session, _Core, _Started} = Subject) ->
    ?LOG_DEBUG((maps:remove(session, metadata(Subject)))#{event => allocation_started},
               log_metadata(Session)),
    ok = meerkat_ledger:tell(Name, fun() -> {began, Session, facts(Subject)} end),
    ok = watched(Subject, fun() -> (metadata(Subject))#{event => allocated} end),
    meerkat_events:tell(Name, [meerkat, allocation, start], fun() ->
        {#{system_time => meerkat_clock:wall()}, metadata(Subject)}
    end).

%% For the account of one that lives. One that has no address yet has not begun.
-spec lives(subject()) -> ok.
lives({Name, Session, _Core, _Started} = Subject) ->
    case facts(Subject) of
        #{relayed := []} -> ok;
        Facts -> meerkat_ledger:tell(Name, fun() -> {lives, Session, Facts} end)
    end.

-spec ended(meerkat_alloc_core:ending(), subject()) -> ok.
ended({never_made, Status, Detail}, {Name, _, _, _} = Subject) when Detail =/= <<>> ->
    #{shortages := Shortages} = meerkat_registry:settings(Name),
    ok = meerkat_shortage:told(Shortages, Detail),
    log(info, allocation_failed, Status, #{detail => Detail}, Subject);
ended({never_made, Status, <<>>}, Subject) ->
    log(info, allocation_failed, Status, #{}, Subject);
ended({not_replayed, Status}, {Name, Session, _, _} = Subject) ->
    ok = meerkat_ledger:tell(Name, fun() -> {ended, Session, lost, #{}, facts(Subject)} end),
    ok = watched(Subject, fun() -> #{event => ended, session => Session, reason => lost} end),
    log(warning, allocation_lost, Status, #{}, Subject);
ended({Reason, Counters}, Subject) ->
    ended(Reason, Counters, Subject);
ended(Reason, Subject) ->
    ended(Reason, #{}, Subject).

ended(Reason, Counters, {Name, Session, _Core, Started} = Subject) ->
    ok = meerkat_ledger:tell(Name, fun() -> {ended, Session, Reason, Counters, facts(Subject)} end),
    ok = watched(Subject, fun() -> #{event => ended, session => Session, reason => Reason} end),
    ok = meerkat_events:tell(Name, [meerkat, allocation, stop], fun() ->
        Ms = meerkat_clock:now_ms() - Started,
        Used = maps:with([client_packets, client_bytes, peer_packets, peer_bytes, dropped],
                         Counters),
        {Used#{duration => erlang:convert_time_unit(Ms, millisecond, native)},
         (metadata(Subject))#{reason => Reason}}
    end),
    log(info, allocation_ended, Reason, Counters, Subject).

%% Whoever watches its user or client did not know its session before.
watched({Name, Session, Core, _Started}, Event) ->
    #{user := User, client := Client} = meerkat_alloc_facts:facts(Core),
    meerkat_watchers:tell(Name, #{session => Session, user => User, client => Client}, Event).

%% Whatever goes into the line is looked for only where it is written.
log(Level, Event, Reason, Counters, {_Name, Session, Core, Started}) ->
    case logger:allow(Level, ?MODULE) of
        true ->
            Now = meerkat_clock:now_ms(),
            Details = maps:with([user, client, relayed, peers],
                                meerkat_alloc_facts:details(Core, Now)),
            Report = maps:merge(Counters, Details),
            ?LOG(Level, Report#{event => Event, reason => Reason, duration_ms => Now - Started},
                 log_metadata(Session));
        false ->
            ok
    end.

log_metadata(Session) ->
    #{session => Session, report_cb => fun meerkat_log:sentence/1}.

facts({_Name, _Session, Core, Started}) ->
    (meerkat_alloc_facts:facts(Core))#{age_ms => meerkat_clock:now_ms() - Started,
                                       told_ms => meerkat_clock:wall_ms()}.

metadata({_Name, Session, Core, _Started}) ->
    Details = meerkat_alloc_facts:details(Core, meerkat_clock:now_ms()),
    (maps:with([user, client, relayed], Details))#{session => Session}.
