%% What clients over TCP and TLS cost Meerkat and Debian's coturn: rounds that alternate, medians of
%% them, and how many times as good. `make bench-streams`; stream_load.c makes the load.
-module(bench_streams).

-export([main/1]).

-type outcome() :: #{binary() => number()}.

-define(SERVERS, [ours_streams, coturn_streams]).
-define(TRIES, 5).
-define(PATIENCE_MS, 3000).
-define(PATH_SERVERS, [ours_path, coturn_path]).

%% Row, title, figure, which is better, servers, and how one round of a server is made.
rows(Seconds) ->
    S = ["--seconds", float_to_list(Seconds, [{decimals, 1}])],
    Packets = fun(Args) -> fun(Server) -> load(["packets" | S ++ Args], Server, pids) end end,
    PerCpu = <<"packets_per_cpu_s">>,
    [{Id, Title, PerCpu, more, ?SERVERS, Packets(Args)}
     || {Id, Title, Args} <-
            [{list_to_atom(lists:concat([Name, "_", Way, "_", Burst])),
              lists:concat([string:uppercase(Name), ", ", Words, ", ", Payload, " B, ", Bursts]),
              [T || T <- ["--tls"], Name =:= "tls"]
                  ++ ["--direction", Way, "--burst", integer_to_list(Burst),
                      "--payload", integer_to_list(Payload), "--flows", integer_to_list(Flows)]}
             || Name <- ["tls", "tcp"], {Way, Words} <- [{"down", "to clients"},
                                                         {"up", "from clients"}],
                {Burst, Payload, Flows, Bursts} <- [{1, 160, 200, "singles"},
                                                    {16, 1000, 50, "bursts of 16"}]]]
        ++ [{udp_down_16, "UDP, to clients, 1000 B, bursts of 16", PerCpu, more, ?SERVERS,
             fun(Server) -> udp(["--payload", "1000", "--burst", "16", "--flows", "50",
                                 "--direction", "down", "--rate", "0"] , S, Server) end},
            {idle_tls, "user memory of an idle TLS connection", <<"rss_bytes_per_connection">>,
             less, ?SERVERS, fun(Server) -> load(["idle", "--tls", "--flows", "2000"], Server,
                                                 relay) end},
            {idle_tcp, "user memory of an idle TCP connection", <<"rss_bytes_per_connection">>,
             less, ?SERVERS, fun(Server) -> load(["idle", "--flows", "2000"], Server, relay) end},
            {handshakes, "TLS connections with a Binding", <<"handshakes_per_cpu_s">>, more,
             ?SERVERS, fun(Server) -> load(["handshakes", "--tls" | S], Server, pids) end},
            {handshakes_floor, "the same of a loop of OpenSSL alone, in Meerkat's place",
             <<"handshakes_per_cpu_s">>, more, [floor_tls, coturn_streams],
             fun(Server) -> load(["handshakes", "--tls" | S], Server, pids) end},
            {calm, "1,000 UDP flows, 20,000 packets a second, p99 in us", <<"p99_us">>, less,
             ?SERVERS, fun(Server) -> udp(calm(), S, Server) end},
            {storm, "the same while 200 TLS handshakes a second arrive", <<"p99_us">>, less,
             ?SERVERS, fun(Server) -> storm(S, Server) end}]
        ++ [{Id, Title, Figure, Better, ?PATH_SERVERS, fun(Server) -> film(Seconds, Server) end}
            || {Id, Title, Figure, Better} <-
                   [{video_age, "video over TCP, 40 ms round trip, 1 % loss: queue age p99 in ms",
                     <<"queue_p99_ms">>, less},
                    {video_frames, "the same: frames that come whole, of 30 a second",
                     <<"frames_whole">>, more}]].

calm() ->
    ["--flows", "1000", "--payload", "160", "--direction", "both", "--rate", "20000"].

%%% A run

-spec main([string()]) -> no_return().
main(Args) ->
    {Rounds, Seconds} = case lists:member("--quick", Args) of
        true -> {3, 1.0};
        false -> {5, 3.0}
    end,
    Only = case lists:dropwhile(fun(A) -> A =/= "--only" end, Args) of
        [_, Names | _] -> [list_to_atom(N) || N <- string:lexemes(Names, ",")];
        _ -> []
    end,
    Dir = filename:join(bench:build_dir(), "streams"),
    _ = file:del_dir_r(Dir),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = file:change_mode(Dir, 8#700),
    io:format("| | Meerkat | coturn | times as good |~n|---|---|---|---|~n"),
    _ = [row(Row, Rounds, Dir) || Row <- rows(Seconds),
                                  Only =:= [] orelse lists:member(element(1, Row), Only)],
    halt(0).

row({Id, Title, Figure, Better, Servers, Measure}, Rounds, Dir) ->
    Path = [path() || Servers =:= ?PATH_SERVERS],
    Medians = medians(Servers, Measure, Figure, Rounds, Dir, Id),
    _ = [begin ended(P), os:cmd("ip netns del bench-far") end || P <- Path],
    [Ours, Theirs] = Medians,
    Ratio = case Better of more -> Ours / max(Theirs, 0.001); less -> Theirs / max(Ours, 0.001) end,
    io:format("| ~ts | ~ts | ~ts | ~.2f |~n", [Title, short(Ours), short(Theirs), Ratio]).

medians(Servers, Measure, Figure, Rounds, Dir, Id) ->
    Live = [{Server, running(Server, Dir)} || Server <- Servers, not is_fresh(Id)],
    Values = [{Server, measured(Server, Live, Measure, Figure, Dir, Id)}
              || _ <- lists:seq(1, Rounds), Server <- Servers],
    _ = [ok = bench_servers:stop(Running) || {_, Running} <- Live],
    [median([V || {S, V} <- Values, S =:= Server]) || Server <- Servers].

%% Memory is that of a new server.
is_fresh(Id) -> lists:member(Id, [idle_tls, idle_tcp]).

measured(Server, Live, Measure, Figure, Dir, Id) ->
    Running = case Live of [] -> running(Server, Dir); _ -> proplists:get_value(Server, Live) end,
    #{Figure := Value} = Measure({Server, bench_servers:info(Running)}),
    _ = [ok = bench_servers:stop(Running) || Live =:= []],
    io:format(standard_error, "~ts, ~ts: ~ts~n", [Id, Server, short(Value)]),
    Value.

running(Server, Dir) -> running(Server, Dir, ?TRIES).

%% A port that is free for UDP may be taken for TCP: then another one.
running(Server, Dir, Tries) ->
    case bench_servers:start(Server, Dir) of
        {ok, Running} ->
            #{port := Port} = bench_servers:info(Running),
            {ok, Ip} = inet:parse_address(hd(bench_servers:hosts(Server))),
            case listening(Ip, Port, erlang:monotonic_time(millisecond) + ?PATIENCE_MS) of
                true ->
                    Running;
                false when Tries > 1 ->
                    ok = bench_servers:stop(Running),
                    running(Server, Dir, Tries - 1)
            end;
        {error, _} when Tries > 1 ->
            running(Server, Dir, Tries - 1)
    end.

%% It answers over UDP by now; TCP may come a moment later.
listening(Ip, Port, Deadline) ->
    case gen_tcp:connect(Ip, Port, []) of
        {ok, Socket} ->
            gen_tcp:close(Socket) =:= ok;
        {error, econnrefused} ->
            erlang:monotonic_time(millisecond) < Deadline andalso
                receive after 20 -> listening(Ip, Port, Deadline) end
    end.

median(Values) -> lists:nth((length(Values) + 1) div 2, lists:sort(Values)).

short(Value) when Value >= 1000 -> integer_to_list(round(Value));
short(Value) -> io_lib:format("~.1f", [float(Value)]).

%%% The generators

load(Args, {Id, #{port := Port} = Info}, Whose) ->
    said(run("stream_load", Args ++ ["--cpu", "0", "--server", at(Id, Port), "--server-pid",
                                     pids(Whose, Info)])).

%% Memory is looked at where it is held for connections: in the relay program, where there is one.
pids(relay, #{relay := [_ | _] = Relay}) -> pids(Relay);
pids(_, #{pids := Pids}) -> pids(Pids).

pids(Pids) -> lists:flatten(lists:join(",", Pids)).

at(Id, Port) -> hd(bench_servers:hosts(Id)) ++ ":" ++ integer_to_list(Port).

udp(Args, Duration, {Id, #{port := Port, pids := Pids}}) ->
    {User, Password} = bench_servers:credentials(),
    ["--seconds", Seconds] = Duration,
    said(run("meerkat_bench", ["traffic", "turn:" ++ at(Id, Port), "--user", User, "--password",
                               Password, "--server-pid", pids(Pids), "--cpu", "0", "--quiet",
                               "--max-loss", "100", "--duration", Seconds, "--warmup", "0.5"
                               | Args])).

storm(Duration, {Id, #{port := Port}} = Server) ->
    Storm = start("stream_load", ["handshakes", "--tls", "--rate", "200", "--seconds", "600",
                                  "--server", at(Id, Port)]),
    try udp(calm(), Duration, Server) after ended(Storm) end.

film(Seconds, Server) ->
    Long = float_to_list(max(10.0, 5 * Seconds), [{decimals, 1}]),
    load(["video", "--seconds", Long, "--netns", "bench-far"], Server, pids).

%% Two namespaces, 20 ms and 1 % between them each way.
path() ->
    _ = os:cmd("ip netns del bench-far; ip netns add bench-far"),
    Path = ready(?TRIES),
    "" = os:cmd("ip addr add 10.77.0.1/24 dev path0 && ip link set path0 up && "
                "ip -n bench-far addr add 10.77.0.2/24 dev path0 && "
                "ip -n bench-far link set path0 up && ip -n bench-far link set lo up"),
    Path.

%% The device of the one before may be there for a moment yet.
ready(Tries) ->
    Path = start("path", ["bench-far", "20", "1"]),
    receive
        {Path, {data, <<"ready", _/binary>>}} -> Path;
        {Path, {exit_status, _}} when Tries > 1 -> receive after 200 -> ready(Tries - 1) end
    end.

start(Program, Args) ->
    bench_servers:leash([filename:join(bench:build_dir(), Program) | Args], []).

ended(Port) ->
    true = port_close(Port),
    ok.

run(Program, Args) -> output(start(Program, Args), []).

output(Port, Said) ->
    receive
        {Port, {data, Data}} -> output(Port, [Said, Data]);
        {Port, {exit_status, _}} -> iolist_to_binary(Said)
    end.

%% Lines of a name and a figure.
-spec said(binary()) -> outcome().
said(Text) ->
    Found = [{Name, number(Value)}
             || Line <- binary:split(Text, <<"\n">>, [global, trim_all]),
                {match, [Name, Value]} <- [re:run(Line, "^([a-z0-9_]+) +([0-9.]+)$",
                                                  [{capture, all_but_first, binary}])]],
    Found =/= [] orelse error({no_figures, Text}),
    maps:from_list(Found).

number(Text) ->
    case binary:match(Text, <<".">>) of
        nomatch -> binary_to_integer(Text);
        _ -> binary_to_float(Text)
    end.
