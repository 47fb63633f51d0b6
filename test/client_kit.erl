%% `meerkatctl check` for suites: what it exits with and what it prints.
-module(client_kit).

-export([check/1, words/1]).

%% Runs the command, and returns its exit code and what it printed, errors included.
-spec check([string()]) -> {0 | 1 | 2, string()}.
check(Args) ->
    Device = spawn_link(fun() -> device([]) end),
    Code = meerkat_check_command:main(Args, #{}, Device, Device),
    Device ! {printed, self()},
    receive {printed, Device, Output} -> {Code, Output} end.

%% An output device that keeps everything.
device(Kept) ->
    receive
        {io_request, From, Ref, {put_chars, unicode, Text}} ->
            From ! {io_reply, Ref, ok},
            device([Kept, Text]);
        {printed, To} ->
            To ! {printed, self(), words(Kept)}
    end.

-spec words(unicode:chardata()) -> string().
words(Chardata) -> unicode:characters_to_list(Chardata).
