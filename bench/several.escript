#!/usr/bin/env escript
%%! -env ERL_CRASH_DUMP_BYTES 0 +sbwt none +sbwtdcpu none +sbwtdio none +MHsmbcs 64 +MHlmbcs 256
%% Servers of ours in one VM, one for each configuration file, each with a relay program of its own:
%% together they hold more allocations than one process may have sockets. The VM's options are those
%% of rel/bin/meerkatctl. They serve until killed.
%%
%%     several.escript FILE...
main(Files) ->
    Bench = filename:dirname(filename:absname(escript:script_name())),
    Dirs = filelib:wildcard(filename:join(Bench, "../_build/default/lib/*/ebin")),
    ok = code:add_pathsa(Dirs),
    ok = logger:set_primary_config(level, warning),
    {ok, _} = application:ensure_all_started(meerkat),
    _ = [start(list_to_atom(filename:basename(File, ".cfg")), File) || File <- Files],
    timer:sleep(infinity).

start(Name, File) ->
    case meerkat_config:load(#{file => File, env => []}) of
        {ok, Config, _} ->
            case meerkat:start_server(Name, Config) of
                {ok, _} -> ok;
                {error, Reason} -> give_up(File, meerkat:format_error(Reason))
            end;
        {error, Mistakes} ->
            give_up(File, lists:join("; ", Mistakes))
    end.

give_up(File, Why) ->
    io:format(standard_error, "~ts: ~ts~n", [File, Why]),
    halt(1).
