%% Crash reports that show no value: where it happened and what kind of fault it was, but no
%% argument, no state and no message, for these may hold passwords. There are two reports of a
%% crash: that of the behaviour (status/1), and that of proc_lib, which prints the exception and the
%% messages in the mailbox (without_values/1).
-module(meerkat_crash).

-export([without_values/1, reason/1, stack/1, status/1]).

%% The value of Fun. An exception of Fun is raised again without values. The calling process ends by
%% that, so the messages in its mailbox are dropped first: the report would print them.
-spec without_values(fun(() -> Value)) -> Value.
without_values(Fun) ->
    try
        Fun()
    catch
        Class:Reason:Stack ->
            ok = let_mail_go(),
            erlang:raise(Class, reason(Reason), stack(Stack))
    end.

let_mail_go() ->
    receive _ -> let_mail_go() after 0 -> ok end.

%% The kind of fault, whatever was raised.
-spec reason(term()) -> atom().
reason(Reason) when is_atom(Reason) -> Reason;
reason(Reason) when is_tuple(Reason), tuple_size(Reason) > 0, is_atom(element(1, Reason)) ->
    element(1, Reason);
reason(_) -> not_shown.

%% With arities in place of arguments.
-spec stack(erlang:stacktrace()) -> erlang:stacktrace().
stack(Stack) ->
    [without_arguments(At) || At <- Stack].

without_arguments({Module, Function, Arguments, Where}) when is_list(Arguments) ->
    {Module, Function, length(Arguments), proplists:delete(error_info, Where)};
without_arguments(At) ->
    At.

%% For format_status/1 of gen_server and gen_statem: the name of a state stays, and the kinds of
%% events.
-spec status(Status) -> Status when Status :: map().
status(Status) ->
    maps:map(fun
        (state, State) when is_atom(State) -> State;
        (reason, {Class, Reason, Stack}) when is_list(Stack) ->
            {Class, reason(Reason), stack(Stack)};
        (reason, Reason) -> reason(Reason);
        (queue, Events) -> [kind(Event) || Event <- Events];
        (postponed, Events) -> [kind(Event) || Event <- Events];
        (log, _) -> [];
        (_, _) -> not_shown
    end, Status).

kind({Type, _Content}) when is_atom(Type) -> {Type, not_shown};
kind(_) -> {event, not_shown}.
