#!/usr/bin/env escript
%%! +Bd -env ERL_CRASH_DUMP_BYTES 0 +sbwt none +sbwtdcpu none +sbwtdio none
%% Runs bench_streams.erl; see README.md.
%%
%%     streams.escript [--quick] [--only ROW[,ROW...]]
main(Args) ->
    Root = filename:dirname(filename:dirname(filename:absname(escript:script_name()))),
    [code:add_patha(Dir) || Dir <- [filename:join(Root, "_build/bench/ebin")
                                    | filelib:wildcard(filename:join(Root, "_build/default/lib/*/ebin"))]],
    bench_streams:main(Args).
