#!/usr/bin/env escript
%%! -env ERL_CRASH_DUMP_BYTES 0
%% What it costs that Erlang is killed, and that a relay program is: calls go on under meerkat_bench
%% meanwhile. Prints a line for each.
%%
%%     survival.escript [GONE_S] [ALLOCATIONS]
%%
%% GONE_S: seconds without Erlang (5). ALLOCATIONS: of the second part (10000).
-mode(compile).

-define(RELAY_PORT, 3478).

main([]) -> main(["5", "10000"]);
main([Gone]) -> main([Gone, "10000"]);
main([Gone, Many]) ->
    Bench = filename:dirname(filename:absname(escript:script_name())),
    put(bench, Bench),
    ok = code:add_pathsa(filelib:wildcard(filename:join(Bench, "../_build/default/lib/*/ebin"))),
    {GoneS, N} = {list_to_integer(Gone), list_to_integer(Many)},
    calls(GoneS),
    killed(GoneS, N),
    relay_killed(N).

%% 50 calls at 50 packets a second each way.
calls(GoneS) ->
    with_servers(fun(Start) ->
        Node = Start(),
        Load = load(50, 50 * 2 * 50, 2 * GoneS + 10),
        await(Node, 50),
        kill(Node),
        timer:sleep(GoneS * 1000),
        Next = Start(),
        Counts = call(Next, meerkat_survival, counts, [default]),
        io:format("50 calls, Erlang gone: ~p~n~ts~n", [Counts, ended(Load)]),
        stop(Next)
    end).

%% Taken over: how long that took, and what the node has by then.
killed(GoneS, N) ->
    with_servers(fun(Start) ->
        Node = Start(),
        Load = load(N, N, 2 * GoneS + 40),
        await(Node, N),
        Before = memory(Node),
        kill(Node),
        timer:sleep(GoneS * 1000),
        Next = Start(),
        Counts = call(Next, meerkat_survival, counts, [default]),
        io:format("~b allocations, Erlang gone: ~p~nmemory of Erlang before and after, MB: ~p ~p~n"
                  "~ts~n", [N, Counts, Before, memory(Next), ended(Load)]),
        stop(Next)
    end).

%% Replayed by its node.
relay_killed(N) ->
    with_servers(fun(Start) ->
        Node = Start(),
        Load = load(N, N, 40),
        await(Node, N),
        {ok, Pid} = call(Node, meerkat_relay, os_pid, [default]),
        _ = os:cmd("kill -KILL " ++ integer_to_list(Pid)),
        Info = until(fun() ->
            case call(Node, meerkat, info, [default]) of
                #{relay_restarts := 1} = Told -> {ok, Told};
                _ -> again
            end
        end),
        io:format("~b allocations, relay killed: ~p~n~ts~n",
                  [N, maps:with([relay_gap_ms, relay_replayed, relay_lost], Info), ended(Load)]),
        stop(Node)
    end).

with_servers(Fun) ->
    Dir = string:trim(os:cmd("mktemp -d")),
    try
        Fun(fun() -> start(Dir) end)
    after
        file:del_dir_r(Dir)
    end.

start(Dir) ->
    {ok, Node, _} = peer:start(#{connection => standard_io, args => ["-pa" | code:get_path()]}),
    Ip = {127, 0, 0, 1},
    {ok, _} = call(Node, application, ensure_all_started, [meerkat]),
    ok = call(Node, logger, set_primary_config, [level, warning]),
    {ok, _} = call(Node, meerkat, start_server, [default, #{
        listeners => [#{transport => udp, ip => Ip, port => ?RELAY_PORT}],
        relays => [#{local => Ip, advertised => Ip, min_port => 20000, max_port => 65000}],
        users => #{<<"bench">> => {password, <<"bench">>}}, secrets => [], realm => <<"bench">>,
        allowed_peers => [{{127, 0, 0, 0}, 8}], max_allocations => 22000, workers => 1,
        unauthenticated_rate => 0, failed_authentication_rate => 0, max_allocations_per_address => 0,
        run_dir => Dir, survive => 60}]),
    Node.

call(Node, M, F, A) -> peer:call(Node, M, F, A, 60000).

kill(Node) ->
    Pid = call(Node, os, getpid, []),
    unlink(Node),
    os:cmd("kill -KILL " ++ Pid).

stop(Node) ->
    ok = call(Node, meerkat, stop_server, [default]),
    peer:stop(Node).

memory(Node) -> call(Node, erlang, memory, [total]) div 1000000.

await(Node, N) ->
    until(fun() ->
        case call(Node, meerkat_alloc_table, count, [default]) of
            N -> {ok, N};
            _ -> again
        end
    end),
    timer:sleep(2000).

until(Fun) ->
    case Fun() of
        {ok, Result} -> Result;
        again -> timer:sleep(50), until(Fun)
    end.

load(Flows, Rate, Seconds) ->
    Program = filename:join(get(bench), "../_build/bench/meerkat_bench"),
    open_port({spawn_executable, Program},
              [{args, ["traffic", "turn:127.0.0.1:" ++ integer_to_list(?RELAY_PORT), "--user", "bench",
                       "--password", "bench", "--flows", integer_to_list(Flows), "--direction",
                       "both", "--rate", integer_to_list(Rate), "--duration",
                       integer_to_list(Seconds), "--keep", "4"]},
               binary, exit_status, stderr_to_stdout]).

ended(Port) -> ended(Port, <<>>).

ended(Port, Read) ->
    receive
        {Port, {data, Data}} -> ended(Port, <<Read/binary, Data/binary>>);
        {Port, {exit_status, _}} -> Read
    end.
