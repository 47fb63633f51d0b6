%% What the relay may answer without asking, and what it has answered so. A grant is sent to it
%% before an answer of success. Until the epoch ends the relay then answers requests of that session
%% that are signed with the same key, have the same USERNAME, REALM and so on, and would succeed.
%% What it did is kept in a table until the allocation's process needs it; the process is not woken.
%%
%% The relay notes it in a journal (meerkat_journal), and nobody here is woken for that either: the
%% relay's owner reads it before whatever the relay says, now and then, and when somebody asks for
%% what there is.
-module(meerkat_grants).

-export([epoch/1, resume/2, withdraw/1, told/1, message/1]).
-export([give/4]).
-export([journal/1, no_journal/1, read/1, await/1]).
-export([heard/2, take/2, has_ended/2, forget/2]).

-export_type([epoch/0, given/0, granted/0]).

-type epoch() :: non_neg_integer().
%% What the relay was given last for a session.
-type given() :: none | {epoch(), Listener :: non_neg_integer(), Names :: <<_:256>>}.
%% What it answered, as in ctl.def, and when it said so (milliseconds, monotonic).
-type granted() :: {AtMs :: integer(), Fields :: map()}.

%%% Epochs. Each grant holds for one epoch. Whatever may change an answer (a reload, a drain, a user
%%% that is removed) ends it, and the next request of each session comes here again. The number is
%%% read before the settings are, so that no grant made by old settings has the new number.

-spec epoch(Name :: atom()) -> epoch().
epoch(Name) ->
    meerkat_store:get(Name, ?MODULE, epoch, 0).

%% Grants of another VM, up to that epoch, are in the relay: what is granted here bears a newer
%% number.
-spec resume(Name :: atom(), epoch()) -> ok.
resume(Name, Epoch) ->
    meerkat_store:put(Name, ?MODULE, epoch, Epoch + 1).

%% From when this returns no request is answered by what was decided before. A relay that cannot be
%% told now is told as soon as it can; one that is being started begins with the new number.
-spec withdraw(Name :: atom()) -> ok.
withdraw(Name) ->
    _ = meerkat_store:count(Name, ?MODULE, epoch),
    told(Name).

%% The relay has the epoch when this returns, and knows whether somebody watches.
-spec told(Name :: atom()) -> ok.
told(Name) ->
    Message = message(Name),
    case meerkat_relay:call(Name, Message) of
        {error, busy} -> meerkat_relay:tell(Name, Message);
        _ -> ok
    end.

%% The epoch, as a relay is told it; and whether it tells of each answer at once.
-spec message(Name :: atom()) -> meerkat_ctl:message().
message(Name) ->
    #{software := Software} = meerkat_registry:settings(Name),
    {grants, #{epoch => epoch(Name),
               software => case Software of undefined -> <<>>; Text -> Text end,
               prompt => min(1, meerkat_watchers:count(Name))}}.

%%% Giving

%% For a request of a session that is answered with success: the command that lets the relay answer
%% the next one, unless it may already, or nobody may.
-spec give(Name :: atom(), Session :: non_neg_integer(), meerkat_request:job(), given()) ->
    {meerkat_ctl:message(), given()} | none.
%% It comes from where the client may be next, not from where it is.
give(_Name, _Session, #{request := #{move := _}}, _Given) ->
    none;
give(Name, Session, #{grant := Grant, epoch := Epoch, place := #{listener := Listener},
                      request := #{realm := Owner}}, Given) ->
    #{names := Names} = Granted = Grant(),
    case {Epoch, Listener, Names} of
        Given -> none;
        New -> {grant(Session, New, Granted, limits(Name, Owner)), New}
    end;
give(_Name, _Session, _Job, _Given) ->
    none.

limits(Name, Owner) ->
    #{limits := Limits} = meerkat_settings:tenant(Owner, meerkat_registry:settings(Name)),
    Limits.

grant(Session, {Epoch, Listener, _Names}, Granted,
      #{default_lifetime := Default, max_lifetime := Max} = Limits) ->
    {grant, Granted#{session => Session, epoch => Epoch, listener => Listener,
                     default_s => Default, max_s => Max, max_peers => peers(Limits)}}.

%% Where it matters how soon a peer comes after others, all of them are judged here.
peers(#{new_peers := N}) when N > 0 -> 0;
peers(#{max_peers := Peers}) -> Peers.

%%% What was answered

%% For a relay that is being started: a journal of its own, after the one before was read to its
%% end. Without one it sends what it would note.
-spec journal(Name :: atom()) -> {ok, meerkat_ctl:message()} | {error, binary()}.
journal(Name) ->
    %% One that is malformed has ended the relay before.
    _ = read(Name),
    case meerkat_journal:make(meerkat_ctl:limit(workers_max)) of
        {ok, Journal, Path} ->
            ok = meerkat_store:put(Name, ?MODULE, journal, Journal),
            {ok, {journal, #{path => Path}}};
        {error, Why} ->
            ok = no_journal(Name),
            {error, Why}
    end.

%% The relay cannot open it.
-spec no_journal(Name :: atom()) -> ok.
no_journal(Name) ->
    meerkat_store:delete(Name, ?MODULE, journal).

%% By the relay's owner alone: what was noted is in the table when this returns.
-spec read(Name :: atom()) -> ok | malformed.
read(Name) ->
    case meerkat_store:get(Name, ?MODULE, journal) of
        none -> ok;
        Journal -> noted(Name, Journal, meerkat_journal:read(Journal))
    end.

noted(_Name, _Journal, []) ->
    ok;
noted(_Name, _Journal, malformed) ->
    malformed;
noted(Name, Journal, Notes) ->
    Now = meerkat_clock:now_ms(),
    ok = lists:foreach(fun({AgeMs, Frame}) -> heard(Name, Now - AgeMs, Frame) end, Notes),
    meerkat_journal:taken(Journal).

%% By any other process: whatever the relay has answered by now is in the table when this returns.
-spec await(Name :: atom()) -> ok.
await(Name) ->
    case meerkat_store:get(Name, ?MODULE, journal) of
        none ->
            ok;
        Journal ->
            case meerkat_journal:is_taken(Journal) of
                true -> ok;
                false -> meerkat_relay:read(Name)
            end
    end.

%% A GRANTED frame from the pipe, by whoever reads that.
-spec heard(Name :: atom(), Frame :: binary()) -> ok.
heard(Name, Frame) ->
    heard(Name, meerkat_clock:now_ms(), binary:copy(Frame)).

%% Frames of one session are kept in their order.
heard(Name, AtMs,
      <<_:64, Session:64, Method, Us:32, Due, _Number:16, Lifetime:32, _/binary>> = Frame) ->
    ok = meerkat_answers:count(meerkat_registry:answers(Name), method(Method), success, Us),
    %% Before anybody finds what came of it.
    ok = meerkat_watchers:asked(Name, #{session => Session}, fun() -> asked(Frame) end,
                                {relay, success}),
    true = ets:insert(meerkat_registry:table(Name, granted), {Session, AtMs, Frame}),
    %% The allocation has ended with this Refresh: what the next frame asks for finds its place
    %% free.
    _ = is_end(Method, Lifetime) andalso meerkat_quota:ended(Name, Session),
    %% The process deletes its frames after it has left the table of sessions. So either this sees
    %% that it has left, or it sees this frame.
    case meerkat_alloc_table:pid(Name, Session) of
        none -> forget(Name, Session);
        Pid when Due =:= 1 -> Pid ! granted, ok;
        _ -> ok
    end.

%% For who watches.
asked(Frame) ->
    {ok, 0, {granted, #{method := Method, number := Number, lifetime_s := Lifetime,
                        peers := Peers}}} = meerkat_ctl:decode(Frame),
    Asked = #{method => method(Method), peers => meerkat_ctl:peers(Peers)},
    case method(Method) of
        refresh -> Asked#{lifetime_s => Lifetime};
        channel_bind -> Asked#{channel => Number};
        create_permission -> Asked
    end.

method(4) -> refresh;
method(8) -> create_permission;
method(9) -> channel_bind.

%% All that came since the last time, oldest first; it is the caller's from now on.
-spec take(Name :: atom(), Session :: non_neg_integer()) -> [granted()].
take(Name, Session) ->
    [granted(Row) || Row <- ets:take(meerkat_registry:table(Name, granted), Session)].

granted({_Session, AtMs, Frame}) ->
    {ok, 0, {granted, Fields}} = meerkat_ctl:decode(Frame),
    {AtMs, Fields}.

%% Has the relay answered the Refresh that ends it, and its process not taken that up yet?
-spec has_ended(Name :: atom(), Session :: non_neg_integer()) -> boolean().
has_ended(Name, Session) ->
    lists:any(fun is_end/1, ets:lookup(meerkat_registry:table(Name, granted), Session)).

is_end({_Session, _AtMs, <<_:64, _:64, Method, _:32, _, _:16, Lifetime:32, _/binary>>}) ->
    is_end(Method, Lifetime).

is_end(Method, LifetimeS) -> method(Method) =:= refresh andalso LifetimeS =:= 0.

%% The allocation is over.
-spec forget(Name :: atom(), Session :: non_neg_integer()) -> ok.
forget(Name, Session) ->
    true = ets:delete(meerkat_registry:table(Name, granted), Session),
    ok.
