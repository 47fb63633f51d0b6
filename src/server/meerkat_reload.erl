%% Gives a running server another configuration: all of it, or nothing. The relay makes its tables
%% at its start, by workers and max_allocations for instance: a configuration that has another value
%% of such a key is refused. Allocations live on under the new rules.
-module(meerkat_reload).

-include_lib("kernel/include/logger.hrl").

-export([reload/2, try_out/2, change/2]).

%% What the relay is asked to do, what undoes it, and how a refusal is told.
-type step() :: {meerkat_ctl:message(), Undo :: [meerkat_ctl:message()],
                 {Complaint :: unicode:chardata() | fun((Reply :: map()) -> unicode:chardata()),
                  needed | optional}}.

%% Returns what has changed. The error is a sentence. Reloads of one server wait for each other.
-spec reload(Name :: atom(), meerkat:config()) ->
    {ok, [meerkat_config_changes:change()]} | {error, string()}.
reload(Name, Config) ->
    %% Only within this node.
    global:trans({{?MODULE, Name}, self()}, fun() -> renew(Name, Config) end, [node()]).

%% What would change, or why reload/2 would fail, as far as that can be known without doing it: new
%% listen addresses are tried, but what the relay would refuse is not known.
-spec try_out(Name :: atom(), meerkat:config()) ->
    {ok, [meerkat_config_changes:change()]} | {error, string()}.
try_out(Name, Config) ->
    Old = meerkat_registry:settings(Name),
    case meerkat_settings:renew(Config, Old) of
        {ok, New} ->
            case cannot(New, Old) of
                [] -> {ok, changes(New, Old)};
                Sentences -> {error, lists:flatten(lists:join("\n", Sentences))}
            end;
        {error, Sentence} ->
            {error, Sentence}
    end.

cannot(New, Old) ->
    [Sentence || {error, Sentence} <- [meerkat_beside:try_out(New, Old)
                                       | [free(L) || L <- fresh(New, Old)]]].

%% The new listeners at addresses where we do not listen yet.
fresh(#{listeners := Listeners}, #{listeners := Before}) ->
    Open = [{Transport, Port} || #{transport := Transport, local := {_, Port}} <- Before],
    [L || #{transport := Transport, local := {_, Port}, optional := false} = L <- Listeners,
          not lists:member({Transport, Port}, Open)].

free(#{transport := Code, local := {Ip, Port} = Local}) ->
    Transport = meerkat_ctl:transport_name(Code),
    case meerkat_host:listenable(Transport, Ip, Port) of
        true -> ok;
        {false, Reason} -> {error, ["cannot listen on ", Transport, " ",
                                    meerkat_text:address(Local), ": ", inet:format_error(Reason)]}
    end.

changes(#{config := New}, #{config := Old}) ->
    meerkat_config_changes:between(Old(), New()).

%% A reload with the configuration that Fun makes of the present one; no other reload comes between.
%% The caller gets Fun's Result, or Why Fun wants no change.
-spec change(Name :: atom(), fun((meerkat:config()) -> {ok, meerkat:config(), Result} |
                                                       {error, Why})) ->
    {ok, Result} | {error, string() | Why}.
change(Name, Fun) ->
    global:trans({{?MODULE, Name}, self()}, fun() -> renewed(Name, Fun) end, [node()]).

renewed(Name, Fun) ->
    case Fun(meerkat_settings:config(meerkat_registry:settings(Name))) of
        {ok, Config, Result} ->
            case renew(Name, Config) of
                {ok, _Changes} -> {ok, Result};
                {error, Sentence} -> {error, Sentence}
            end;
        {error, Sentence} ->
            {error, Sentence}
    end.

renew(Name, Config) ->
    Old = in_use(Name, meerkat_registry:settings(Name)),
    case meerkat_settings:renew(Config, with_places(Name, Old)) of
        {ok, New} ->
            case put_in_force(Name, New, Old) of
                ok -> {ok, changes(New, Old)};
                {error, Sentence} -> {error, Sentence}
            end;
        {error, Sentence} ->
            {error, Sentence}
    end.

%% The settings without the retired addresses that the relay has closed, because the last allocation
%% there has ended.
in_use(Name, #{retired := [_ | _] = Retired} = Settings) ->
    case meerkat_relay:stats(Name) of
        {ok, #{pools := Known}} ->
            Settings#{retired := [R || #{pool := Pool} = R <- Retired, is_map_key(Pool, Known)]};
        {error, _} ->
            Settings
    end;
in_use(_Name, Settings) ->
    Settings.

%% The settings with the address that each listener has got, of present and of retired ones.
with_places(Name, #{listeners := Listeners, retired_listeners := Retired} = Settings) ->
    Places = maps:merge(meerkat_listening:retired(Name), meerkat_listening:bound(Name)),
    At = fun(#{id := Id} = L) ->
        case Places of
            #{Id := Place} -> L#{at => Place};
            #{} -> L
        end
    end,
    Settings#{listeners := lists:map(At, Listeners), retired_listeners := lists:map(At, Retired)}.

%% The settings are put in force first, so that a relay that is just being started uses them. Then
%% HTTP and XMPP prepare (meerkat_beside), and a running relay is told step by step. If it refuses
%% a step, the steps before it are undone and the old settings are put back. What has to be closed
%% is closed last: that cannot fail, and it cannot be undone.
put_in_force(Name, New, Old) ->
    ok = replace(Name, New),
    case meerkat_beside:prepare(Name, New, Old) of
        {ok, Beside} -> settled(take(Name, steps(New, Old), []), Name, New, Old, Beside);
        {error, Sentence} -> refused(Name, Old, Sentence)
    end.

settled({error, Sentence}, Name, _New, Old, Beside) ->
    ok = meerkat_beside:rollback(Beside),
    refused(Name, Old, Sentence);
settled(stopped, _Name, _New, _Old, _Beside) ->
    {error, "the server was stopped meanwhile"};
settled(Taken, Name, New, Old, Beside) ->
    ok = follow(Name, New, Old, Taken),
    ok = meerkat_beside:commit(Beside),
    ok = meerkat_lookups:changed(Name),
    meerkat_beside:changed(Name).

refused(Name, Old, Sentence) ->
    ok = replace(Name, Old),
    {error, lists:flatten(Sentence)}.

%% After this no request is answered by the settings before, by Erlang or by the relay's grants.
replace(Name, Settings) ->
    ok = meerkat_registry:replace(Name, Settings),
    ok = meerkat_keep:renewed(Name),
    meerkat_grants:withdraw(Name).

follow(Name, New, Old, {ok, Replies}) ->
    Closed = closed(New, Old),
    lists:foreach(fun(Message) -> close(Name, Message) end, Closed),
    rates(Name, New),
    note(Name, Replies, Closed, New, Old);
follow(Name, New, Old, dead) ->
    %% The next relay begins with the new settings.
    Gone = [Id || {unlisten, #{listener := Id}} <- closed(New, Old)],
    meerkat_listening:retire(Name, maps:with(Gone, meerkat_listening:bound(Name))).

%% Everything else is in force by now. The relay cannot refuse this; it may only do it late.
close(Name, Message) ->
    case meerkat_relay:call(Name, Message) of
        {error, busy} -> late(meerkat_relay:tell(Name, Message));
        {error, slow} -> late(ok);
        {error, Gone} when Gone =:= dead; Gone =:= stopped -> ok;
        {ok, _Reply} -> ok
    end.

late(ok) ->
    ?LOG_WARNING("the relay program does not answer: what is no longer configured it closes when "
                 "it does").

%%% Steps

-spec steps(meerkat_settings:settings(), meerkat_settings:settings()) -> [step()].
steps(New, Old) ->
    relay_steps(New, Old) ++ tune_steps(New, Old) ++ policy_steps(New, Old)
        ++ stream_steps(New, Old) ++ front_steps(New, Old) ++ certificate_steps(New, Old)
        ++ listener_steps(New, Old).

relay_steps(#{relays := Relays}, #{relays := Before}) ->
    [{meerkat_relay_setup:relay_address(Relay), [{pool_close, #{pool => Pool}}],
      {["cannot relay from ", meerkat_text:ip(Local)], needed}}
     || #{pool := Pool, local := Local} = Relay <- Relays, not lists:member(Relay, Before)].

tune_steps(New, Old) ->
    {Tune, Back} = {meerkat_relay_setup:tune(New), meerkat_relay_setup:tune(Old)},
    [{Tune, [Back], {"the relay does not take the new values", needed}} || Tune =/= Back].

policy_steps(New, Old) ->
    [{meerkat_relay_setup:policy(New), [meerkat_relay_setup:policy(Old)],
      {"the peer rules are refused", needed}}].

stream_steps(New, Old) ->
    {Streams, Back} = {meerkat_relay_setup:streams(New), meerkat_relay_setup:streams(Old)},
    [{Streams, [Back], {"the relay does not take the new values", needed}} || Streams =/= Back].

front_steps(New, Old) ->
    {Front, Back} = {meerkat_relay_setup:front(New), meerkat_relay_setup:front(Old)},
    [{Front, [Back], {"the relay does not take the new values", needed}} || Front =/= Back].

%% The relay uses them for a listener when it gets that listener's LISTEN again. listener_steps/2
%% sends it, because other certificates make it another listener (meerkat_settings).
certificate_steps(New, Old) ->
    Is = fun(#{certificates := #{pairs := Pairs, secret := Secret, clients := Clients}}) ->
        {Pairs(), Secret(), Clients}
    end,
    [{Message, meerkat_relay_setup:certificates(in_force, Old),
      {fun(Reply) -> meerkat_relay_setup:complaint(Reply, New) end, needed}}
     || Is(New) =/= Is(Old),
        Message <- meerkat_relay_setup:certificates(new, New)].

listener_steps(#{listeners := Listeners}, #{listeners := Before} = Old) ->
    [{meerkat_relay_setup:listen(L), back(L, Before, Old),
      {["cannot listen on ", meerkat_ctl:transport_name(Transport), " ",
        meerkat_text:address(Local)],
       case Optional of true -> optional; false -> needed end}}
     || #{transport := Transport, local := Local, optional := Optional} = L <- Listeners,
        not lists:member(L, Before)].

back(#{id := Id}, Before, Old) ->
    case [L || #{id := Same} = L <- Before, Same =:= Id] of
        [Listener] ->
            meerkat_relay_setup:certificates(in_force, Old)
                ++ [meerkat_relay_setup:listen(Listener)];
        [] ->
            [{unlisten, #{listener => Id}}]
    end.

%% What closes listeners and relay addresses that the new settings do not have.
closed(#{listeners := Listeners, relays := Relays},
       #{listeners := Before, relays := RelaysBefore}) ->
    [{unlisten, #{listener => Id}}
     || #{id := Id} <- Before, [] =:= [L || #{id := Same} = L <- Listeners, Same =:= Id]]
        ++ [{pool_close, #{pool => Pool}}
            || #{pool := Pool} = Relay <- RelaysBefore, not lists:member(Relay, Relays)].

%% Has the relay do the steps, and returns its replies. If it refuses one, those before it are
%% undone and a sentence says why. `dead` or `stopped` if there is no relay.
-spec take(Name :: atom(), [step()], Done :: list()) ->
    {ok, [{meerkat_ctl:message(), map()}]} | {error, unicode:chardata()} | dead | stopped.
take(_Name, [], Done) ->
    {ok, [Reply || {_, Reply} <- Done]};
take(Name, [{Message, Back, {Complaint, Need}} | Steps], Done) ->
    case meerkat_relay:call(Name, Message) of
        {ok, #{status := ok} = Reply} ->
            take(Name, Steps, [{Back, {Message, Reply}} | Done]);
        {ok, #{detail := Detail}} when Need =:= optional ->
            ?LOG_WARNING("~ts: ~ts", [Complaint, meerkat_text:escape(Detail)]),
            take(Name, Steps, Done);
        {ok, Refused} ->
            ok = undo(Name, undoing(Done)),
            {error, [told(Complaint, Refused), "; nothing has changed"]};
        {error, busy} ->
            ok = tell_all(Name, undoing(Done)),
            {error, "the relay program is busy; nothing has changed"};
        {error, slow} ->
            %% The relay may still do this step; then it does what undoes it afterwards.
            ok = tell_all(Name, Back ++ undoing(Done)),
            {error, "the relay program does not answer in time; the configuration before stays in "
                    "force"};
        {error, Gone} ->
            Gone
    end.

told(Complaint, Refused) when is_function(Complaint) ->
    Complaint(Refused);
told(Complaint, #{status := Status, detail := Detail}) ->
    io_lib:format("~ts: ~ts (~ts)", [Complaint, meerkat_text:escape(Detail), Status]).

%% Latest first.
undoing(Done) ->
    lists:append([Back || {Back, _} <- Done]).

%% A relay that is busy gets the rest as messages that nobody waits for.
undo(Name, [Undo | Undoing]) ->
    case meerkat_relay:call(Name, Undo) of
        {error, busy} -> tell_all(Name, [Undo | Undoing]);
        {error, slow} -> tell_all(Name, Undoing);
        {error, Gone} when Gone =:= dead; Gone =:= stopped -> ok;
        {ok, _Reply} -> undo(Name, Undoing)
    end;
undo(_Name, []) ->
    ok.

%%% Afterwards

%% Bucket 0 is that of all allocations.
rates(Name, #{bandwidth := #{total := OfAll}} = Settings) ->
    OfAllocations = {bucket, #{bucket => 0, bytes_per_s => OfAll}},
    tell_all(Name, [OfAllocations | meerkat_quota:rates(Name, Settings)]).

tell_all(Name, Messages) ->
    lists:foreach(fun(Message) -> ok = meerkat_relay:tell(Name, Message) end, Messages).

%% Where we listen now.
note(Name, Replies, Closed, #{listeners := Listeners} = _New, #{listeners := Old}) ->
    Transports = maps:from_list([{Id, meerkat_ctl:transport_name(Transport)}
                                 || #{id := Id, transport := Transport} <- Old ++ Listeners]),
    Opened = maps:from_list([{Id, Address} || {{listen, #{listener := Id}}, #{local := Address}}
                                                  <- Replies]),
    Gone = [Id || {unlisten, #{listener := Id}} <- Closed],
    Before = meerkat_listening:bound(Name),
    _ = [?LOG_NOTICE("listening on ~ts ~ts", [maps:get(Id, Transports),
                                               meerkat_text:address(Address)])
         || {Id, Address} <- maps:to_list(Opened), not is_map_key(Id, Before)],
    _ = [?LOG_NOTICE("no longer listening on ~ts ~ts",
                     [maps:get(Id, Transports), meerkat_text:address(maps:get(Id, Before))])
         || Id <- Gone, is_map_key(Id, Before)],
    ok = meerkat_listening:retire(Name, maps:with(Gone, Before)),
    meerkat_listening:set(Name, maps:without(Gone, maps:merge(Before, Opened))).
