#!/usr/bin/env escript
%%! +Bd -env ERL_CRASH_DUMP_BYTES 0 +sbwt none +sbwtdcpu none +sbwtdio none
%% Runs the measurements; see README.md. +Bd: Ctrl-C ends it at once, and bench/leash.c what it
%% started.
%%
%%     bench.escript [--quick] [--only NAME[,NAME...]] [--write] [--report]
%%
%% --write puts the figures into docs/performance.md and its plots, --report does only that, with
%% the figures of the last run.
main(Args) ->
    Root = filename:dirname(filename:dirname(filename:absname(escript:script_name()))),
    Dirs = filelib:wildcard(filename:join(Root, "_build/default/lib/*/ebin")),
    [code:add_patha(Dir) || Dir <- [filename:join(Root, "_build/bench/ebin") | Dirs]],
    bench:main(Args).
