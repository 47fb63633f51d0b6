%% One run of the generator (meerkat_bench): its command line, the row that it adds to its CSV file,
%% and the figures in that row. Knows the generator's columns; nobody else does.
-module(bench_run).

-export([measure/1]).
-export_type([job/0, figures/0]).

%% file: of CSV. label: its first column. seconds: measured, where the kind has a duration. pids:
%% whose work counts. args: what else the generator is told.
-type job() :: #{mode := string(), hosts := [string()], port := inet:port_number() | none,
                 args := [string()], pids := [string()], file := file:filename(),
                 label := string()}.
-type figures() :: #{atom() => number()}.

%% Milliseconds after which a generator counts as hung.
-define(PATIENCE, 600000).

%% The figures of a run, by names of our own; those the generator does not have are left out.
-spec measure(job()) -> {ok, figures()} | {error, string()}.
measure(#{file := File} = Job) ->
    Before = rows(File),
    Port = bench_servers:leash(command(Job), []),
    Timer = erlang:send_after(?PATIENCE, self(), {hung, Port}),
    {Status, Output} = await(Port, []),
    _ = erlang:cancel_timer(Timer),
    case rows(File) of
        [Header | Rows] when length(Rows) >= length(Before) ->
            {ok, figures(maps:from_list(lists:zip(Header, lists:last(Rows))))};
        _ ->
            {error, failure(Status, Output)}
    end.

command(#{mode := Mode, hosts := Hosts, port := Port, args := Args, pids := Pids, file := File,
          label := Label}) ->
    {User, Password} = bench_servers:credentials(),
    Server =
        case Port of
            none ->
                [];
            _ ->
                ["turn:" ++ Host ++ ":" ++ integer_to_list(Port) || Host <- Hosts] ++
                    ["--user", User, "--password", Password, "--server-pid",
                     lists:flatten(lists:join(",", Pids))]
        end,
    [filename:join(bench:build_dir(), "meerkat_bench"), Mode] ++ Server ++
        ["--cpu", "0", "--quiet", "--max-loss", "100", "--csv", File, "--label", Label | Args].

await(Port, Output) ->
    receive
        {Port, {data, Data}} -> await(Port, [Output, Data]);
        {Port, {exit_status, Status}} -> {Status, Output};
        {hung, Port} ->
            true = port_close(Port),
            {hung, Output}
    end.

failure(hung, _) ->
    "the generator does not end";
failure(Status, Output) ->
    Lines = string:lexemes(unicode:characters_to_list(iolist_to_binary(Output)), "\n"),
    lists:flatten(io_lib:format("the generator ended with status ~b: ~ts",
                                [Status, lists:last(["it said nothing" | Lines])])).

%% Header and rows; [] where there is no file yet. Labels have no comma.
rows(File) ->
    case file:read_file(File) of
        {ok, Text} -> [binary:split(L, <<",">>, [global]) || L <- lines(Text)];
        {error, enoent} -> []
    end.

lines(Text) ->
    [L || L <- binary:split(Text, <<"\n">>, [global]), L =/= <<>>].

%%% Columns

figures(Csv) ->
    Numbers = maps:from_list([{Name, N} || {Name, Text} <- maps:to_list(Csv),
                                           {ok, N} <- [number(Text)]]),
    Named = [{Name, maps:get(Column, Numbers)} || {Name, Column} <- columns(),
                                                  is_map_key(Column, Numbers)],
    maps:from_list(Named ++ derived(Numbers)).

%% Our name, the generator's column. Names that two have are of different modes.
columns() ->
    [{per_cpu, <<"packets_per_cpu_s">>}, {ns, <<"server_ns_per_packet">>},
     {own_ns, <<"generator_ns_per_packet">>},
     {loss, <<"loss_percent">>}, {reordered, <<"reordered">>}, {p50, <<"p50_us">>},
     {p99, <<"p99_us">>}, {p999, <<"p999_us">>}, {max, <<"max_us">>},
     {loss_free, <<"max_rate_pps">>}, {failed, <<"failed">>},
     {rate, <<"allocations_per_s">>}, {per_cpu, <<"allocations_per_cpu_s">>},
     {requests, <<"operations_per_s">>}, {requests_per_cpu, <<"operations_per_cpu_s">>},
     {binding_p50, <<"binding_p50_us">>}, {binding_p99, <<"binding_p99_us">>},
     {challenge_p50, <<"challenge_p50_us">>}, {challenge_p99, <<"challenge_p99_us">>},
     {refresh_p50, <<"refresh_p50_us">>}, {refresh_p99, <<"refresh_p99_us">>},
     {p50, <<"allocate_p50_us">>}, {p99, <<"allocate_p99_us">>},
     {most, <<"allocated_2">>}, {rss, <<"rss_bytes_per_allocation">>},
     {relay_rss, <<"part_bytes_per_allocation">>},
     {pss, <<"pss_bytes_per_allocation">>}, {kernel, <<"kernel_bytes_per_allocation">>},
     {sockets, <<"socket_bytes_per_allocation">>}, {idle_cpu, <<"server_cpu_percent">>}].

%% Packets a second that arrived while it was measured, without those that were still queued then;
%% per cent of a CPU that the server was at work; bytes it has more than before the first
%% allocation when the last is gone.
derived(Numbers) ->
    [{delivered, Relayed / Seconds}
     || #{<<"relayed">> := Relayed, <<"seconds">> := Seconds} <- [Numbers], Seconds > 0]
        ++ [{busy, 100 * Cpu / Seconds}
            || #{<<"server_cpu_s">> := Cpu, <<"seconds">> := Seconds} <- [Numbers], Seconds > 0]
        ++ [{beam_rss, Rss - Part}
            || #{<<"rss_bytes_per_allocation">> := Rss,
                 <<"part_bytes_per_allocation">> := Part} <- [Numbers]]
        ++ [{left, 1024 * (After - Before)}
            || #{<<"rss_kb_after">> := After, <<"rss_kb_0">> := Before} <- [Numbers]].

number(Text) ->
    case {string:to_float(Text), string:to_integer(Text)} of
        {{Float, <<>>}, _} -> {ok, Float};
        {_, {Whole, <<>>}} -> {ok, Whole};
        _ -> none
    end.
