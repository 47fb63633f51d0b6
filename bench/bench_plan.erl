%% What is measured, as data: rows of work, the servers each is given to, how often and for how
%% long; and what is required of the figures. Runs nothing.
-module(bench_plan).

-export([rows/0, select/2, requirements/0, times/1]).
-export_type([row/0, kind/0, requirement/0]).

%% packets: the generator's mode traffic, rounds alternate between the servers.
%% latency: the same at a share of the rate that the first server takes without loss.
%% allocations, keepalives, binding, challenge, memory: its modes of these names and idle. sink: the
%% generator by itself.
-type kind() :: packets | latency | allocations | keepalives | binding | challenge | memory | sink.
%% part: the heading it stands under and a name that ONLY knows. args: of the generator; hosts:
%% where it finds the server, or servers.
-type row() :: #{id := atom(), part := atom(), kind := kind(), title := string(),
                 args := [string()], hosts := [string()], servers := [bench_servers:id()],
                 is_key := boolean()}.
%% Of a row's figure, ours to theirs (there, or in the row `against'): at least, or at most, so many
%% times.
-type requirement() :: #{title := string(), row := atom(), against => atom(), figure := atom(),
                         of_server := bench_servers:id(), to := bench_servers:id() | number(),
                         bound := at_least | at_most, factor := number()}.

-define(FIELD, [ours, ours_epoll, coturn, coturn_gso, floor]).
-define(ALL, ?FIELD ++ [p1]).
-define(REAL, [ours, ours_epoll, coturn, coturn_gso, p1]).

-spec rows() -> [row()].
rows() ->
    [key(singles, "1,000 flows, 160 B, singles", load(1000, 160, 1)),
     %% Compared with it, so that nothing is between.
     (row(ipv6, ipv6, "IPv6: 1,000 flows, 160 B, singles",
          load(1000, 160, 1) ++ ["--peer", "::1", "--family", "6"]))#{hosts := ["[::1]"]},
     row(ipv6, mixed, "IPv4 clients, IPv6 peers: 1,000 flows, 160 B, singles",
         load(1000, 160, 1) ++ ["--peer", "::1", "--family", "6"]),
     key(burst4, "100 flows, 1,100 B, bursts of 4", load(100, 1100, 4) ++ ["--gso"]),
     key(burst16, "100 flows, 1,200 B, bursts of 16", load(100, 1200, 16) ++ ["--gso"]),
     key(burst4_joined, "100 flows, 1,100 B, bursts of 4, received with UDP GRO",
         load(100, 1100, 4) ++ ["--gso", "--gro"]),
     key(burst16_joined, "100 flows, 1,200 B, bursts of 16, received with UDP GRO",
         load(100, 1200, 16) ++ ["--gso", "--gro"]),

     row(packets, flows_100, "100 flows, 160 B, singles", load(100, 160, 1)),
     row(packets, flows_10000, "10,000 flows, 160 B, singles", load(10000, 160, 1)),
     row(packets, singles_1200, "1,000 flows, 1,200 B, singles", load(1000, 1200, 1)),
     row(packets, burst4_160, "1,000 flows, 160 B, bursts of 4", load(1000, 160, 4) ++ ["--gso"]),
     row(packets, burst4_apart, "100 flows, 1,100 B, 4 in a row, each sent by itself",
         load(100, 1100, 4)),
     row(packets, burst16_apart, "100 flows, 1,200 B, 16 in a row, each sent by itself",
         load(100, 1200, 16)),
     row(packets, up, "1,000 flows, 160 B, only from clients", direction("up")),
     row(packets, down, "1,000 flows, 160 B, only from peers", direction("down")),
     all(row(packets, indications, "1,000 flows, 160 B, Send and Data",
             load(1000, 160, 1) ++ ["--method", "send"])),

     row(paced, rate_1k, "1,000 flows, 160 B, 1,000 a second", rate("1000")),
     row(paced, rate_5k, "1,000 flows, 160 B, 5,000 a second", rate("5000")),
     all(row(paced, rate_20k, "1,000 flows, 160 B, 20,000 a second", rate("20000"))),
     all(row(paced, rate_80k, "1,000 flows, 160 B, 80,000 a second", rate("80000"))),
     row(paced, rate_200k, "1,000 flows, 160 B, 200,000 a second", rate("200000")),
     all(row(paced, audio, "W1: 100 calls, 160 B, 50 a second each way", ["--workload", "W1"])),
     all(row(paced, video, "W2: 100 streams, 1,100 B, 8 to a frame, 30 frames a second each way",
             ["--workload", "W2", "--gso"])),
     row(packets, hot, "W3: one flow, 1,200 B, bursts of 16",
         load(1, 1200, 16) ++ ["--gso"]),

     %% Both clients of each call are this server's: by rate, and as much as each can.
     relayed(relayed_paced, "500 calls between its clients, 160 B, singles, 20,000 a second",
             ["--flows", "1000", "--payload", "160", "--rate", "20000"]),
     relayed(relayed, "500 calls between its clients, 160 B, singles",
             ["--flows", "1000", "--payload", "160", "--rate", "0"]),
     relayed(relayed_burst16, "50 calls between its clients, 1,200 B, bursts of 16",
             ["--flows", "100", "--payload", "1200", "--burst", "16", "--gso", "--rate", "0"]),

     (row(limits, limits_singles, "1,000 flows, 160 B, singles", load(1000, 160, 1)))
         #{servers := [ours, ours_limits, ours_lists]},
     (row(limits, limits_burst16, "100 flows, 1,200 B, bursts of 16",
          load(100, 1200, 16) ++ ["--gso"]))#{servers := [ours, ours_limits, ours_lists]},

     (row(latency, latency,
          "1,000 flows, 160 B, singles, at 70 % of what coturn takes without loss",
          ["--flows", "1000", "--payload", "160", "--direction", "both"]))
         #{kind := latency, servers := [coturn, ours, ours_epoll, coturn_gso, floor, p1],
           is_key := true},

     allocations(allocations_10, "10 requests under way", "10"),
     allocations(allocations_1000, "1,000 requests under way", "1000"),

     keepalives(keepalives_10, "10 requests under way", "10"),
     keepalives(keepalives_1000, "1,000 requests under way", "1000"),

     strangers(binding, "Binding, 100 requests under way"),
     strangers(challenge, "Allocate without credentials, answered with 401, 100 under way"),

     memory(memory, "from 1,000 to 10,000 idle allocations", "1000,10000", ?REAL),
     six(memory(memory_100000, "from 10,000 to 100,000 idle allocations", "10000,100000",
                [ours_six])),

     sink(sink_1, "160 B, singles", ["--payload", "160"]),
     sink(sink_4, "1,100 B, bursts of 4", ["--payload", "1100", "--burst", "4", "--gso"]),
     sink(sink_16, "1,200 B, bursts of 16", ["--payload", "1200", "--burst", "16", "--gso"])].

row(Part, Id, Title, Args) ->
    #{id => Id, part => Part, kind => packets, title => Title, args => Args,
      hosts => ["127.0.0.1"], servers => ?FIELD, is_key => false}.

key(Id, Title, Args) ->
    (all(row(packets, Id, Title, Args)))#{is_key := true}.

all(Row) ->
    Row#{servers := ?ALL}.

allocations(Id, Title, InFlight) ->
    (row(allocations, Id, Title, ["--in-flight", InFlight]))
        #{kind := allocations, servers := ?REAL}.

relayed(Id, Title, Args) ->
    (row(relayed, Id, Title, ["--pairs", "--direction", "up" | Args]))
        #{servers := [ours, ours_epoll, ours_long, coturn, floor, floor_batches]}.

%% Of 2,000 allocations, each after all others.
keepalives(Id, Title, InFlight) ->
    (row(keepalives, Id, Title, ["--in-flight", InFlight, "--flows", "2000"]))
        #{kind := keepalives, servers := ?REAL}.

%% What the generator's mode of that name asks, from anybody.
strangers(Kind, Title) ->
    (row(strangers, Kind, Title, ["--in-flight", "100"]))#{kind := Kind, servers := ?REAL}.

memory(Id, Title, Flows, Servers) ->
    (row(memory, Id, Title, ["--flows", Flows]))#{kind := memory, servers := Servers}.

%% The generator may open no more files than a server: its clients share sockets.
six(#{args := Args} = Row) ->
    Row#{args := Args ++ ["--clients", "32"], hosts := bench_servers:hosts(ours_six)}.

sink(Id, Title, Args) ->
    (row(sink, Id, Title, ["--flows", "100", "--direction", "both", "--rate", "0" | Args]))
        #{kind := sink, servers := [generator]}.

%% Both ways, as much as the generator gives.
load(Flows, Payload, Burst) ->
    ["--flows", integer_to_list(Flows), "--payload", integer_to_list(Payload),
     "--burst", integer_to_list(Burst), "--direction", "both", "--rate", "0"].

direction(Direction) ->
    ["--flows", "1000", "--payload", "160", "--direction", Direction, "--rate", "0"].

rate(Pps) ->
    ["--flows", "1000", "--payload", "160", "--direction", "both", "--rate", Pps].

%% The rows of a run: quick ones are what the requirements are about. Only: rows, parts or workloads
%% by name, and then these all; [] is no choice. An unknown name is an error.
-spec select(IsQuick :: boolean(), Only :: [string()]) -> {ok, [row()]} | {error, string()}.
select(IsQuick, []) ->
    {ok, [Row || Row <- rows(), not IsQuick orelse is_quick(Row)]};
select(_, Only) ->
    Known = lists:usort(lists:flatmap(fun names/1, rows())),
    case Only -- Known of
        [] ->
            {ok, [Row || Row <- rows(), names(Row) -- Only =/= names(Row)]};
        [Name | _] ->
            {error, "ONLY=" ++ Name ++ ": must be of " ++ lists:join(" ", Known)}
    end.

names(#{id := Id, part := Part}) ->
    [atom_to_list(Id), atom_to_list(Part) | [W || {W, Ids} <- workloads(), lists:member(Id, Ids)]].

%% The generator's workloads, and the rows that are made of them.
workloads() ->
    [{"W1", [audio]}, {"W2", [video]}, {"W3", [hot]}, {"W4", [singles, flows_10000]},
     {"W5", [indications]}, {"W6", [allocations_10, allocations_1000]},
     {"W7", [memory, memory_100000]}].

is_quick(#{is_key := true}) -> true;
is_quick(#{id := Id}) -> lists:member(Id, [allocations_10, allocations_1000, keepalives_10,
                                         keepalives_1000, binding, challenge, memory,
                                         sink_1]).

%% How many rounds count, how many come before them and do not, and how long each measures.
-spec times(IsQuick :: boolean()) ->
          fun((row()) -> #{rounds := pos_integer(), discarded := 0 | 1, seconds := float()}).
times(true) ->
    fun(#{kind := packets}) -> #{rounds => 2, discarded => 0, seconds => 1.0};
       (_) -> #{rounds => 1, discarded => 0, seconds => 1.0}
    end;
times(false) ->
    fun(#{kind := memory}) -> #{rounds => 1, discarded => 0, seconds => 2.0};
       (#{kind := latency}) -> #{rounds => 7, discarded => 0, seconds => 2.0};
       (#{id := Id}) when Id =:= rate_20k; Id =:= rate_80k ->
            #{rounds => 7, discarded => 0, seconds => 1.0};
       (#{is_key := true}) -> #{rounds => 5, discarded => 1, seconds => 2.0};
       (_) -> #{rounds => 3, discarded => 0, seconds => 1.0}
    end.

-spec requirements() -> [requirement()].
requirements() ->
    [more("singles, 1,000 flows, packets per CPU-second to coturn's", singles, coturn, 1.4),
     more("the same to the floor's", singles, floor, 0.95),
     more("singles from clients only, to the floor's", up, floor, 0.95),
     more("singles from peers only, to the floor's", down, floor, 0.95),
     more("bursts of 4, 1,100 B, to coturn's", burst4, coturn, 2),
     more("bursts of 16, 1,200 B, to coturn's", burst16, coturn, 3.5),
     more("bursts of 4 to receivers that take runs whole (UDP GRO), to coturn's", burst4_joined,
          coturn, 2),
     more("bursts of 16 to such receivers, to coturn's", burst16_joined, coturn, 3.5),
     p99("latency, 99th percentile, to coturn's, at 70 % of what it takes without loss", latency),
     p99("the same at 20,000 a second", rate_20k),
     p99("the same at 80,000 a second", rate_80k),
     #{title => "user memory of an allocation in the relay, bytes", row => memory,
       figure => relay_rss, of_server => ours, to => 1, bound => at_most, factor => 1024},
     #{title => "memory of an allocation, relay and BEAM, to coturn's", row => memory,
       figure => rss, of_server => ours, to => coturn, bound => at_most, factor => 0.333},
     more("allocations per CPU-second, 10 under way, to coturn's", allocations_10, coturn, 1.2),
     more("the same, 1,000 under way", allocations_1000, coturn, 1.5),
     (more("keepalives per CPU-second, 10 under way, to coturn's", keepalives_10, coturn, 3))
         #{figure := requests_per_cpu},
     (more("the same, 1,000 under way", keepalives_1000, coturn, 3))
         #{figure := requests_per_cpu},
     (more("Binding per CPU-second, to coturn's", binding, coturn, 1.5))
         #{figure := requests_per_cpu},
     (more("401 per CPU-second, to coturn's", challenge, coturn, 1.5))
         #{figure := requests_per_cpu},
     more("between two of its clients, singles, 20,000 a second, to coturn's", relayed_paced,
          coturn, 2.5),
     more("the same to its own way over both relayed addresses", relayed_paced, ours_long, 1.8),
     more("the same as much as each can, to coturn's", relayed, coturn, 5),
     more("the same to the floor's, in batches", relayed, floor_batches, 0.9),
     within("cost of a packet, IPv6 to IPv4", ipv6, singles, 1.1),
     within("the same, IPv4 clients and IPv6 peers", mixed, singles, 1.1)]
        ++ [more("packets per CPU-second, " ++ Title ++ ", to " ++ Of, Id, To, 1)
            || #{id := Id, title := Title} <- rows(), {To, Of} <- [{coturn, "coturn's"},
                                                                   {ours_epoll, "epoll's"}],
               lists:member(Id, [rate_1k, rate_5k, rate_20k, rate_80k, rate_200k])]
        ++ [epoll(Title, Id, per_cpu, at_least, 0.9)
            || #{id := Id, title := Title} <- rows(),
               lists:member(Id, [singles, up, down, burst4, burst16, burst4_joined,
                                 burst16_joined])]
        ++ [epoll("allocations, 10 under way", allocations_10, per_cpu, at_least, 0.9),
            epoll("allocations, 1,000 under way", allocations_1000, per_cpu, at_least, 0.9),
            epoll("latency, 99th percentile", latency, p99, at_most, 1.11),
            epoll("memory of an allocation in the relay", memory, relay_rss, at_most, 1.11),
            epoll("memory of an allocation, relay and BEAM", memory, rss, at_most, 1.11)].

more(Title, Row, To, Factor) ->
    #{title => Title, row => Row, figure => per_cpu, of_server => ours, to => To,
      bound => at_least, factor => Factor}.

%% What costs more in another row, so many times at most.
within(Title, Row, Against, Factor) ->
    #{title => Title, row => Row, against => Against, figure => ns, of_server => ours, to => ours,
      bound => at_most, factor => Factor}.

p99(Title, Row) ->
    #{title => Title, row => Row, figure => p99, of_server => ours, to => coturn,
      bound => at_most, factor => 1}.

epoll(Title, Row, Figure, Bound, Factor) ->
    #{title => "epoll to io_uring: " ++ Title, row => Row, figure => Figure,
      of_server => ours_epoll, to => ours, bound => Bound, factor => Factor}.
