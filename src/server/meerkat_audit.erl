%% Logs what operators do to a server, by whichever way they do it: one line for each action, with
%% who did it, what it was and what came of it. In JSON the parts are members of an event. The lines
%% are written whatever the level of the log is (meerkat_log). Looking leaves no line, and no line
%% has a secret in it.
-module(meerkat_audit).

-export([by/3, ends/1]).
-export_type([who/0, deed/0]).

-include_lib("kernel/include/logger.hrl").

%% Who did it, and so by which way. `node`: a process of this node by itself, or a shell in it.
-type who() :: {meerkatctl, meerkat_unix:peer() | unknown}
             | {signal, sighup | sigterm | sigquit}
             | {xmpp, Jid :: binary()}
             | {http, inet:ip_address()}
             | {command, string()}
             %% Of another node of the fleet, and who it was there.
             | {fleet, node(), who()}
             | node.
%% What it is, as meerkat_admin names its verbs, and with what; none of it secret.
-type deed() :: {Action :: atom(), #{atom() => term()}}.

%% Runs Fun, which does the deed, and logs what came of it. Deeds that Fun does in turn are part of
%% this one and are not logged by themselves. For `none` Fun is run, and nothing is logged.
-spec by(who(), deed() | none, fun(() -> Answer)) -> Answer.
by(_Who, none, Fun) ->
    Fun();
by(Who, Deed, Fun) ->
    case put(?MODULE, inside) of
        inside -> Fun();
        undefined -> outermost(Who, Deed, Fun)
    end.

outermost(Who, Deed, Fun) ->
    try Fun() of
        Answer ->
            ok = tell(Who, Deed, outcome(Deed, Answer)),
            Answer
    catch
        Class:Reason:Stack ->
            ok = tell(Who, Deed, {failed, #{}, "it failed"}),
            erlang:raise(Class, Reason, Stack)
    after
        erase(?MODULE)
    end.

%% Logs that the node is ended at once: there will be no outcome to log.
-spec ends(who()) -> ok.
ends(Who) ->
    tell(Who, {stop, #{}}, {ok, #{}, "the server ends"}).

tell(Who, {Action, Details}, {Outcome, Came, Words}) ->
    {Way, By} = who(Who),
    ?LOG_NOTICE(maps:merge(maps:merge(Details, Came),
                           #{event => audit, action => Action, way => Way, by => text(By),
                             outcome => Outcome, detail => text(Words)}),
                #{report_cb => fun meerkat_log:sentence/1}).

text(Words) -> unicode:characters_to_binary(Words).

%%% Who

who({meerkatctl, unknown}) -> {meerkatctl, "somebody"};
who({meerkatctl, Peer}) -> {meerkatctl, meerkat_unix:describe(Peer)};
who({signal, Signal}) -> {signal, string:uppercase(atom_to_list(Signal))};
who({xmpp, Jid}) -> {xmpp, meerkat_text:escape(Jid)};
who({http, Ip}) -> {http, meerkat_text:ip(Ip)};
who({command, Name}) -> {command, Name};
who({fleet, Node, Who}) ->
    {Way, By} = who(Who),
    {Way, [By, " at ", atom_to_list(Node)]};
who(node) -> {erlang, of_node(node(group_leader()))}.

%% A shell by -remsh has its terminal at another node.
of_node(Here) when Here =:= node() ->
    case process_info(self(), registered_name) of
        {registered_name, Name} -> ["process ", atom_to_list(Name)];
        _ -> ["process ", pid_to_list(self())]
    end;
of_node(Elsewhere) ->
    ["a shell of ", atom_to_list(Elsewhere)].

%%% What came of it: whether it was done, more members, and words.

outcome(_Deed, {error, Reason}) ->
    {refused, #{}, refusal(Reason)};
outcome(Deed, {ok, Result, _Then}) ->
    outcome(Deed, {ok, Result});
outcome({reload, _}, {ok, #{changes := Changes}}) ->
    changed([meerkat_config_changes:text(Change) || Change <- Changes]);
outcome({drain, _}, {ok, N}) when is_integer(N) ->
    {ok, #{allocations => N}, [meerkat_text:allocations(N), " left"]};
outcome({upgrade, _}, {ok, #{allocations := N, lost := Lost, gap_ms := Ms} = Figures}) ->
    {ok, maps:with([allocations, lost, sockets, gap_ms], Figures),
     io_lib:format("~ts go on, ~b lost, nothing read for ~.1f ms",
                   [meerkat_text:allocations(N), Lost, Ms])};
outcome({_Ends, _}, {ok, N}) when is_integer(N) ->
    {ok, #{ended => N}, [meerkat_text:allocations(N), " ended"]};
outcome({disconnect, _}, 0) ->
    {refused, #{}, "there is no such allocation"};
outcome({disconnect, _} = Deed, N) when is_integer(N) ->
    outcome(Deed, {ok, N});
outcome({_, _}, {ok, {file, File}}) ->
    {ok, #{}, ["done, and kept in ", File]};
outcome({_, _}, {ok, {database, Where}}) ->
    {ok, #{}, ["done, and kept in ", Where]};
outcome({_, _}, {ok, memory}) ->
    {ok, #{}, "done, until the server ends"};
outcome({_, _}, {ok, #{kept := Where} = Done}) when map_size(Done) =:= 1 ->
    {ok, #{}, ["done, and kept in ", Where]};
outcome({Secret, _}, {ok, #{id := Id, kept := Where}})
  when Secret =:= add_secret; Secret =:= remove_secret ->
    {ok, #{id => Id}, ["done, and kept in ", Where]};
outcome({credentials, _}, {ok, _Credentials}) ->
    {ok, #{}, "made"};
outcome(_Deed, _Done) ->
    {ok, #{}, "done"}.

changed([]) -> {ok, #{changes => []}, "nothing has changed"};
changed(Changes) -> {ok, #{changes => [text(C) || C <- Changes]}, lists:join(", ", Changes)}.

refusal({_What, Sentence}) when is_binary(Sentence) -> Sentence;
refusal(Sentence) when is_binary(Sentence) -> Sentence;
refusal([C | _] = Sentence) when is_integer(C) -> Sentence;
refusal(Reason) -> io_lib:format("~tp", [Reason]).
