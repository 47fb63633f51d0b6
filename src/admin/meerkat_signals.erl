%% What signals do in a node of Meerkat's own. Draining the server and ending the node are
%% meerkat_drain's.
%%
%%   SIGTERM   drain, then end: no new allocations, and the end when the last is gone or after the
%%             key drain_deadline; the second one ends at once
%%   SIGUSR2   a SIGTERM that the shell in front of the node got and passes on (rel/bin/meerkatctl).
%%             A SIGTERM to the process group reaches both, and counts once
%%   SIGHUP    read file and environment again, as `meerkatctl reload` does
%%   SIGQUIT   end at once, in order; Ctrl-C becomes this one (rel/bin/meerkatctl)
-module(meerkat_signals).
-behaviour(gen_event).

-include_lib("kernel/include/logger.hrl").

-export([take_over/1]).
-export([init/1, handle_event/2, handle_call/2]).

%% How many times the node was told to end, by SIGTERM and by SIGUSR2.
-record(state, {name :: atom(),
                sigterm = 0 :: non_neg_integer(),
                sigusr2 = 0 :: non_neg_integer()}).

%% From here on signals are for the server Name. Called again it changes nothing.
-spec take_over(Name :: atom()) -> ok.
take_over(Name) ->
    _ = [ok = os:set_signal(Signal, handle) || Signal <- [sigterm, sigusr2, sigquit, sighup]],
    case lists:member(?MODULE, gen_event:which_handlers(erl_signal_server)) of
        true ->
            ok;
        false ->
            gen_event:swap_handler(erl_signal_server, {erl_signal_handler, []}, {?MODULE, Name})
    end.

-spec init({atom(), term()}) -> {ok, #state{}}.
init({Name, _Before}) ->
    {ok, #state{name = Name}}.

-spec handle_event(term(), #state{}) -> {ok, #state{}}.
handle_event(sigterm, #state{sigterm = N} = State) ->
    {ok, terminate(State, State#state{sigterm = N + 1})};
handle_event(sigusr2, #state{sigusr2 = N} = State) ->
    {ok, terminate(State, State#state{sigusr2 = N + 1})};
handle_event(sigquit, #state{name = Name} = State) ->
    ok = end_now(sigquit, Name),
    {ok, State};
handle_event(sighup, #state{name = Name} = State) ->
    %% In a process of its own: the next signal need not wait.
    _ = proc_lib:spawn(fun() -> reload(Name) end),
    {ok, State};
handle_event(_Other, State) ->
    {ok, State}.

-spec handle_call(term(), #state{}) -> {ok, ok, #state{}}.
handle_call(_Request, State) ->
    {ok, ok, State}.

%% The larger of the two counts says how often we were told to end: a signal to the process group
%% comes by both ways.
terminate(Before, #state{name = Name} = Now) ->
    _ = wishes(Now) > wishes(Before) andalso terminate(Name),
    Now.

wishes(#state{sigterm = Straight, sigusr2 = Forwarded}) ->
    max(Straight, Forwarded).

reload(Name) ->
    case meerkat_admin:handle({reload, []}, Name, {signal, sighup}) of
        {ok, #{warnings := Warnings}} ->
            _ = [?LOG_WARNING("~ts", [Warning]) || Warning <- Warnings],
            ?LOG_NOTICE("SIGHUP: the configuration was read again and is in force");
        {error, Sentences} ->
            _ = [?LOG_ERROR("SIGHUP: ~ts", [Sentence])
                 || Sentence <- string:split(Sentences, "\n", all)],
            ?LOG_ERROR("SIGHUP: the configuration is as it was")
    end.

%% The first signal drains, also if an operator has begun that: from then on the key's deadline
%% counts. If a signal has begun it, the node is ended at once.
terminate(Name) ->
    case meerkat_registry:is_running(Name) andalso meerkat_drain:ending(Name) of
        none -> begin_drain(Name);
        {_, operator} -> begin_drain(Name);
        _ -> end_now(sigterm, Name)
    end.

end_now(Signal, Name) ->
    ok = meerkat_audit:ends({signal, Signal}),
    meerkat_drain:end_node_now(Name).

begin_drain(Name) ->
    #{config := Config} = meerkat_registry:settings(Name),
    #{drain_deadline := Seconds} = Config(),
    ?LOG_NOTICE("SIGTERM: draining ~ts for at most ~b s; the next one ends at once",
                [meerkat_text:allocations(meerkat_alloc_table:count(Name)), Seconds]),
    _ = meerkat_audit:by({signal, sigterm}, {drain, #{deadline_s => Seconds}}, fun() ->
        %% One that was told where to send clients goes on doing so.
        _ = meerkat_drain:is_draining(Name) orelse meerkat_drain:drain(Name),
        {ok, meerkat_alloc_table:count(Name)}
    end),
    ok = meerkat_systemd:draining(Seconds),
    meerkat_drain:end_after(Name, Seconds, signal, {meerkat_drain, end_node, []}).
