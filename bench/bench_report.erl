%% What a run found: as text, in docs/performance.md between its markers, and as plots. Measures
%% nothing; says only what is in the results.
-module(bench_report).

-export([text/1, write/1, short/1]).

-define(BEGIN, <<"<!-- made by make bench: begin -->">>).
-define(END, <<"<!-- made by make bench: end -->">>).

%% A figure with three digits that count.
-spec short(number()) -> iodata().
short(N) when N == 0 -> "0";
short(N) when abs(N) >= 10000000 -> [short(N / 1000000), " M"];
short(N) when abs(N) >= 100000 -> [short(N / 1000), " k"];
short(N) when abs(N) >= 100 -> integer_to_list(round(N));
short(N) when abs(N) >= 10 -> io_lib:format("~.1f", [float(N)]);
short(N) -> io_lib:format("~.2f", [float(N)]).

%% All of it, in Markdown.
-spec text(bench:results()) -> unicode:chardata().
text(#{samples := Samples} = Results) ->
    Rows = [Row || #{id := Id} = Row <- bench_plan:rows(), of_row(Id, Samples) =/= []],
    [machine(Results), requirements(Samples), packets(Rows, Samples), latency(Rows, Samples),
     allocations(Rows, Samples), keepalives(Rows, Samples), strangers(Rows, Samples),
     memory(Rows, Samples), sinks(Rows, Samples), every_figure(Rows, Samples)].

%% Puts the text between the markers of docs/performance.md and the plots beside it.
-spec write(bench:results()) -> ok.
write(Results) ->
    Docs = filename:join(bench:root(), "docs"),
    File = filename:join(Docs, "performance.md"),
    Plots = [{Name, Plot} || {Name, Plot = #{groups := [_ | _]}} <- plots(Results)],
    ok = filelib:ensure_dir(filename:join([Docs, "performance", "x"])),
    _ = [ok = file:write_file(filename:join([Docs, "performance", Name ++ ".svg"]),
                              unicode:characters_to_binary(bench_svg:bars(Plot)))
         || {Name, Plot} <- Plots],
    Text = unicode:characters_to_binary(
             [text(Results), "## Plots\n\n",
              [["![", Title, "](performance/", Name, ".svg)\n\n"]
               || {Name, #{title := Title}} <- Plots]]),
    {ok, Old} = file:read_file(File),
    [Before, Rest] = binary:split(Old, ?BEGIN),
    [_, After] = binary:split(Rest, ?END),
    ok = file:write_file(File, [Before, ?BEGIN, "\n\n", Text, ?END, After]),
    io:format("~ts is written~n", [File]).

%%% Samples

of_row(Id, Samples) ->
    [S || #{row := Row} = S <- Samples, Row =:= Id].

%% The figures of a server in a row, each with its round.
figures(Row, Server, Name, Samples) ->
    [{Round, Figure} || #{row := R, server := S, round := Round, figures := #{Name := Figure}}
                            <- Samples, R =:= Row, S =:= Server].

values(Row, Server, Name, Samples) ->
    [V || {_, V} <- figures(Row, Server, Name, Samples)].

median(Row, Server, Name, Samples) ->
    case values(Row, Server, Name, Samples) of
        [] -> none;
        Values -> bench_stats:median(Values)
    end.

ratio({RowA, A}, {RowB, B}, Name, Samples) ->
    case {figures(RowA, A, Name, Samples), figures(RowB, B, Name, Samples)} of
        {[_ | _] = Ours, [_ | _] = Theirs} -> bench_stats:ratio(Ours, Theirs);
        _ -> none
    end.

%%% Tables

table(Header, Rows) ->
    ["| ", lists:join(" | ", Header), " |\n|", ["---|" || _ <- Header], "\n",
     [["| ", lists:join(" | ", Cells), " |\n"] || Cells <- Rows], "\n"].

machine(#{machine := Machine, versions := Versions, stolen := Stolen, seconds := Seconds,
          is_quick := IsQuick, notes := Notes}) ->
    More = [{bench_servers:title(Id), Version} || {Id, Version} <- Versions]
        ++ [{"Stolen by the hypervisor", io_lib:format("~.2f % of the time", [100 * Stolen])},
            {"The run", [io_lib:format("~b minutes", [max(1, round(Seconds / 60))]),
                         case IsQuick of true -> ", a quick one"; false -> "" end]}],
    ["## Where and when\n\n", table(["", ""], [[Name, Value] || {Name, Value} <- Machine ++ More]),
     [["- ", Note, "\n"] || Note <- Notes], ["\n" || Notes =/= []]].

requirements(Samples) ->
    Checked = [requirement(R, Samples) || R <- bench_plan:requirements()],
    case [Cells || Cells <- Checked, Cells =/= none] of
        [] -> [];
        Rows -> ["## What is required\n\n",
                 "Ratios of the medians; in brackets the least and the greatest of a round.\n\n",
                 table(["", "wanted", "measured", ""], Rows)]
    end.

requirement(#{title := Title, row := Row, figure := Name, of_server := Server, to := To,
              bound := Bound, factor := Factor} = Requirement, Samples) ->
    case found(Row, Server, maps:get(against, Requirement, Row), To, Name, Samples) of
        none ->
            none;
        {Value, Spread} ->
            IsMet = case Bound of at_least -> Value >= Factor; at_most -> Value =< Factor end,
            Sign = case Bound of at_least -> "≥ "; at_most -> "≤ " end,
            [Title, [Sign, io_lib:format("~p", [Factor])],
             [short(Value), Spread], case IsMet of true -> "met"; false -> "**missed**" end]
    end.

found(Row, Server, _, To, Name, Samples) when is_number(To) ->
    case median(Row, Server, Name, Samples) of
        none -> none;
        Value -> {Value / To, ""}
    end;
found(Row, Server, Against, To, Name, Samples) ->
    case ratio({Row, Server}, {Against, To}, Name, Samples) of
        none -> none;
        {Ratio, Least, Greatest} -> {Ratio, ["  (", short(Least), " to ", short(Greatest), ")"]}
    end.

packets(Rows, Samples) ->
    [[["## ", heading(Part), "\n\n", packets_table(InPart, Samples)]
      || InPart <- [[R || #{part := P, kind := packets} = R <- Rows, P =:= Part]], InPart =/= []]
     || Part <- [packets, paced, relayed, ipv6, limits]].

heading(packets) -> "Packets per CPU-second";
heading(paced) -> "At a fixed rate";
heading(relayed) -> "Between two clients of one server";
heading(ipv6) -> "IPv6";
heading(limits) -> "Limits and lists".

packets_table(Rows, Samples) ->
    Servers = present(Rows, Samples),
    ["Thousands of packets per CPU-second, and nanoseconds of CPU for a packet.\n\n",
     table(["" | [bench_servers:title(S) || S <- Servers]],
           [[Title | [cost(Id, S, Samples) || S <- Servers]]
            || #{id := Id, title := Title} <- Rows])].

present(Rows, Samples) ->
    [S || {S, _, _} <- bench_servers:table(),
          lists:any(fun(#{id := Id}) -> [x || #{row := R, server := Of} <- Samples, R =:= Id,
                                              Of =:= S] =/= [] end, Rows)].

cost(Id, Server, Samples) ->
    case {median(Id, Server, per_cpu, Samples), median(Id, Server, ns, Samples)} of
        {none, _} -> "–";
        {PerCpu, Ns} -> io_lib:format("~b k, ~b ns", [round(PerCpu / 1000), round(Ns)])
    end.

latency(Rows, Samples) ->
    several("## Latency\n\nMicroseconds from when a packet was due to when it arrived; all servers "
            "at the same rate.\n\n",
            [latency, rate_20k, rate_80k], [{"50 %", p50}, {"99 %", p99}, {"99.9 %", p999},
                                            {"most", max}, {"lost %", loss}], Rows, Samples).

allocations(Rows, Samples) ->
    several("## Allocations\n\nAllocate with its 401, ChannelBind, Refresh and delete, each "
            "request signed: cycles.\n\n",
            [allocations_10, allocations_1000],
            [{"a second", rate}, {"per CPU-second", per_cpu}, {"Allocate 50 %, µs", p50},
             {"Allocate 99 %, µs", p99}, {"failed", failed}], Rows, Samples).

keepalives(Rows, Samples) ->
    several("## Keepalives\n\nCreatePermission, ChannelBind and Refresh of 2,000 allocations that "
            "have all of it, each request signed: what calls that go on ask for.\n\n",
            [keepalives_10, keepalives_1000],
            [{"requests a second", requests}, {"per CPU-second", requests_per_cpu},
             {"Refresh 50 %, µs", refresh_p50}, {"Refresh 99 %, µs", refresh_p99},
             {"failed", failed}], Rows, Samples).

strangers(Rows, Samples) ->
    Columns = [{"requests a second", requests}, {"per CPU-second", requests_per_cpu}],
    Of = fun(Id, P50, P99) ->
        several([], [Id], Columns ++ [{"50 %, µs", P50}, {"99 %, µs", P99}, {"failed", failed}],
                Rows, Samples)
    end,
    case [Of(binding, binding_p50, binding_p99), Of(challenge, challenge_p50, challenge_p99)] of
        [[], []] -> [];
        Tables -> ["## What anybody may ask\n\nWithout credentials, and without end.\n\n", Tables]
    end.

memory(Rows, Samples) ->
    several("## Memory\n\nBytes for each idle allocation with a channel: the slope between two "
            "numbers of them, in a new server that has relayed for two seconds.\n\n",
            [memory, memory_100000],
            [{"allocations", most}, {"resident", rss}, {"proportional", pss},
             {"of that the relay program", relay_rss},
             {"of that the BEAM", beam_rss}, {"in the kernel", kernel},
             {"of that sockets", sockets}, {"CPU while idle, %", idle_cpu},
             {"resident more than before, when all are deleted", left}], Rows, Samples).

several(Heading, Ids, Columns, Rows, Samples) ->
    case [Row || #{id := Id} = Row <- Rows, lists:member(Id, Ids)] of
        [] -> [];
        Wanted -> [Heading, [one(Row, Columns, Samples) || Row <- Wanted]]
    end.

one(#{id := Id, title := Title} = Row, Columns, Samples) ->
    [Title, ":\n\n",
     table(["" | [Name || {Name, _} <- Columns]],
           [[bench_servers:title(S) | [cell(Id, S, Name, Samples) || {_, Name} <- Columns]]
            || S <- present([Row], Samples)])].

cell(Id, Server, Name, Samples) ->
    case median(Id, Server, Name, Samples) of
        none -> "–";
        Value -> short(Value)
    end.

sinks(Rows, Samples) ->
    case [Row || #{kind := sink} = Row <- Rows] of
        [] -> [];
        Sinks -> ["## The generator's own ceiling\n\n"
                  "It sends to itself, with no server between.\n\n",
                  table(["", "packets a second", "ns of its CPU each"],
                        [[Title, cell(Id, generator, delivered, Samples),
                          cell(Id, generator, own_ns, Samples)]
                         || #{id := Id, title := Title} <- Sinks])]
    end.

every_figure(Rows, Samples) ->
    Lines = [spread(Row, S, Samples) || #{kind := Kind} = Row <- Rows,
                                        lists:member(Kind, [packets, latency]),
                                        S <- present([Row], Samples)],
    case Lines of
        [] -> [];
        _ -> ["## Every median and its spread\n\n",
              table(["", "server", "rounds", "ns a packet", "quartiles", "delivered a second",
                     "lost %", "out of order", "server's CPU %"], Lines)]
    end.

spread(#{id := Id, title := Title}, Server, Samples) ->
    Ns = values(Id, Server, ns, Samples),
    {Low, High} = bench_stats:quartiles([0 || Ns =:= []] ++ Ns),
    [Title, bench_servers:title(Server), integer_to_list(length(Ns)), cell(Id, Server, ns, Samples),
     [short(Low), " to ", short(High)], cell(Id, Server, delivered, Samples),
     cell(Id, Server, loss, Samples), cell(Id, Server, reordered, Samples),
     cell(Id, Server, busy, Samples)].

%%% Plots

plots(#{samples := Samples}) ->
    Rows = bench_plan:rows(),
    [{"packets", plot("Packets per CPU-second", "thousands of packets", linear,
                      groups([R || #{kind := packets, part := P} = R <- Rows, P =:= packets],
                             per_cpu, 1.0e-3, Samples))},
     {"paced", plot("CPU time of a packet at a fixed rate", "ns for each packet", linear,
                    groups([R || #{part := paced} = R <- Rows], ns, 1.0, Samples))},
     {"latency", plot("Latency at 70 % of what coturn takes without loss", "µs, by powers of ten",
                      log, percentiles(latency, Samples))},
     {"allocations", plot("Allocations per CPU-second", "cycles per CPU-second", linear,
                          groups([R || #{kind := allocations} = R <- Rows], per_cpu, 1.0,
                                 Samples))},
     {"keepalives", plot("Keepalives per CPU-second", "requests per CPU-second", linear,
                         groups([R || #{kind := keepalives} = R <- Rows], requests_per_cpu, 1.0,
                                Samples))},
     {"strangers", plot("Requests without credentials per CPU-second",
                        "requests per CPU-second", linear,
                        groups([R || #{part := strangers} = R <- Rows], requests_per_cpu, 1.0,
                               Samples))},
     {"relayed", plot("Between two clients of one server", "ns for each packet", linear,
                      groups([R || #{part := relayed} = R <- Rows], ns, 1.0, Samples))},
     {"memory", plot("Resident memory of an idle allocation", "KiB for each", linear,
                     groups([R || #{id := memory} = R <- Rows], rss, 1 / 1024, Samples))}].

plot(Title, Unit, Scale, Groups) ->
    #{title => Title, unit => Unit, scale => Scale, series => bench_servers:table(),
      groups => Groups}.

groups(Rows, Name, Factor, Samples) ->
    [{Title, Bars} || #{id := Id, title := Title} <- Rows,
                      Bars <- [bars(Id, Name, Factor, Samples)], Bars =/= []].

bars(Id, Name, Factor, Samples) ->
    [{Server, Factor * bench_stats:median(Values), Factor * Low, Factor * High}
     || {Server, _, _} <- bench_servers:table(),
        [_ | _] = Values <- [values(Id, Server, Name, Samples)],
        {Low, High} <- [bench_stats:quartiles(Values)]].

percentiles(Id, Samples) ->
    [{Title, Bars} || {Title, Name} <- [{"50 %", p50}, {"99 %", p99}, {"99.9 %", p999}],
                      Bars <- [bars(Id, Name, 1.0, Samples)], Bars =/= []].
