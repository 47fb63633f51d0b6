%% Allocations that another VM left in the relay get their processes: the relay tells each as the
%% commands that would make it, which is what a replay sends it (meerkat_alloc_restore). Knows no
%% port; how the relay is asked is the caller's (meerkat_relay_start).
-module(meerkat_adoption).

-include_lib("kernel/include/logger.hrl").

-export([all/5]).

-export_type([outcome/0]).

%% `lost`: what cannot be understood, and is ended.
-type outcome() :: #{adopted | lost := non_neg_integer()}.
%% Asks, and gives the reply with what it goes on with.
-type ask(State) :: fun((State, meerkat_ctl:message()) -> {meerkat_ctl:message(), State}).

%% All processes are there when this returns, asleep.
-spec all(Name :: atom(), Workers :: non_neg_integer(), meerkat_wire:wire(), ask(State), State) ->
    {outcome(), State}.
all(Name, Workers, Wire, Ask, State) ->
    lists:foldl(fun(Worker, Before) -> of_worker(Worker bsl 56, Name, Wire, Ask, Before) end,
                {#{adopted => 0, lost => 0}, State}, lists:seq(0, Workers - 1)).

of_worker(From, Name, Wire, Ask, {Outcome, State}) ->
    {{state, #{next := Next, frames := Frames}}, Asked} = Ask(State, {states, #{from => From}}),
    Told = lists:foldl(fun(Session, Counts) -> one(Session, Name, Wire, Counts) end, Outcome,
                       sessions(Frames)),
    case Next of
        0 -> {Told, Asked};
        _ -> of_worker(Next, Name, Wire, Ask, {Told, Asked})
    end.

%% Each begins with ALLOC_CREATE and ends with its note.
sessions(Frames) ->
    {Sessions, []} = lists:foldr(fun
        ({alloc_create, _} = Create, {Sessions, More}) -> {[[Create | More] | Sessions], []};
        (Command, {Sessions, More}) -> {Sessions, [Command | More]}
    end, {[], []}, commands(Frames)),
    Sessions.

commands(<<Length:32, Frame:Length/binary, More/binary>>) ->
    {ok, _, Command} = meerkat_ctl:decode(Frame),
    [Command | commands(More)];
commands(<<>>) ->
    [].

one([{alloc_create, #{session := Session}} | _] = Commands, Name, Wire, Counts) ->
    {note, #{note := Note}} = lists:last(Commands),
    case process(Name, Session, Wire, Commands, meerkat_alloc_note:read(Note)) of
        {ok, _Pid} ->
            counted(adopted, Counts);
        {error, Why} ->
            ?LOG_WARNING("an allocation is ended, for it cannot be taken over: ~tp", [Why],
                         #{session => Session}),
            _ = meerkat_relay:command(Wire, 0, meerkat_alloc_commands:delete(Session)),
            counted(lost, Counts)
    end.

process(_Name, _Session, _Wire, _Commands, error) ->
    {error, "another release wrote its note"};
process(Name, Session, Wire, Commands, {ok, Kept, Began}) ->
    meerkat_alloc_sup:adopt(Name, Session, {Wire, Commands, Kept, Began}).

counted(What, Counts) ->
    maps:update_with(What, fun(N) -> N + 1 end, Counts).
