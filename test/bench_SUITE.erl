%% The load generator of bench/ against real servers: does it tell the truth? What it says was lost
%% the server has dropped, what it allocates is gone when it ends, and its exit status says what
%% happened. Its figures of time and CPU are nobody's to assert.
-module(bench_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([all_is_delivered/1, bursts_are_delivered/1, both_families/1, sockets_are_shared/1,
         pairs_talk/1,
         servers_take_turns/1, loss_is_counted/1, lost_within_reason/1, wrong_password/1,
         nobody_there/1, refused_peer/1, quota_reached/1, allocations_are_prolonged/1,
         interrupted_it_cleans_up/1, allocations_are_counted/1, some_cycles_fail/1,
         strangers_are_counted/1,
         memory_is_looked_at/1, search_ends_below_the_limit/1, needs_no_server/1,
         csv_is_the_table/1, csv_of_other_columns/1, server_is_found/1, bad_options/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    Not = [module_info, init_per_suite, end_per_suite],
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), not lists:member(F, Not)]).

%% Built as users build it, in a directory of its own.
init_per_suite(Config) ->
    Root = filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."]),
    Build = filename:join(filename:absname(Root), "_build/bench"),
    {0, _} = command(os:find_executable("make"),
                     ["-s", "-C", filename:join(Root, "bench"), "BUILD=" ++ Build,
                      "meerkat_bench"]),
    [{program, filename:join(Build, "meerkat_bench")} | Config].

end_per_suite(_) -> ok.

%%% Traffic

all_is_delivered(Config) ->
    with_server(Config, #{}, fun(Server, Run) ->
        [begin
             {0, Report} = Run(["--direction", Direction, "--method", Method, "--flows", "5",
                                "--channels", Channels, "--rate", "1000", "--duration", "0.5"]),
             ?assertMatch(#{"offered" := "500", "delivered" := "500", "lost" := "0",
                            "duplicated" := "0", "damaged" := "0", "failed" := "0",
                            "allocated" := "5", "direction" := Direction}, Report),
             emptied(Server)
         end || Direction <- ["up", "down", "both", "echo"],
                {Method, Channels} <- [{"channel", "1"}, {"send", "1"}, {"channel", "3"},
                                       {"send", "2"}]]
    end).

%% Sizes that need padding in an indication, and runs joined on the way out and in.
bursts_are_delivered(Config) ->
    with_server(Config, #{}, fun(_, Run) ->
        [begin
             {0, Report} = Run(["--direction", "both", "--burst", "16", "--payload", Payload,
                                "--method", Method, "--rate", "3200", "--duration", "0.5",
                                "--flows", "3"] ++ Joined),
             ?assertMatch(#{"offered" := "1600", "delivered" := "1600", "damaged" := "0",
                            "reordered" := "0"}, Report)
         end || Joined <- [[], ["--gso"], ["--gro"], ["--gso", "--gro"]],
                {Method, Payload} <- [{"channel", "1200"}, {"send", "1101"}, {"channel", "24"}]]
    end).

%% From IPv4 and IPv6 clients to peers of the other family and their own.
both_families(Config) ->
    with_server(Config, #{}, fun(#{listeners := Listeners} = Server, _) ->
        [begin
             {0, Report} = run(Config, Server, Listener,
                               ["--family", Family, "--peer", Peer, "--direction", "both",
                                "--flows", "2", "--rate", "400", "--duration", "0.5"]),
             ?assertMatch(#{"offered" := "200", "delivered" := "200"}, Report)
         end || Listener <- Listeners, {Family, Peer} <- [{"4", "127.0.0.1"}, {"6", "::1"}]]
    end).

sockets_are_shared(Config) ->
    with_server(Config, #{}, fun(_, Run) ->
        {0, Report} = Run(["--direction", "both", "--flows", "300", "--clients", "2", "--rate",
                           "1000", "--duration", "0.5"]),
        ?assertMatch(#{"allocated" := "300", "offered" := "500", "delivered" := "500"}, Report)
    end).

%% Both ends of each call are the server's: by shortcuts and over both relayed addresses.
pairs_talk(Config) ->
    [with_server(Config, #{shortcuts => Shortcuts}, fun(Server, Run) ->
         [begin
              {0, Report} = Run(["--pairs", "--method", Method, "--flows", "6", "--rate", "600",
                                 "--duration", "0.5"]),
              ?assertMatch(#{"allocated" := "6", "offered" := "300", "delivered" := "300",
                             "pairs" := "1"}, Report)
          end || Method <- ["channel", "send"]],
         ?assertEqual(Shortcuts, turn_kit:counter(Server, shortcut_packets) > 300)
     end) || Shortcuts <- [true, false]].

%% With sockets of their own and shared ones.
servers_take_turns(Config) ->
    with_server(Config, #{}, fun(#{listeners := [_, Other | _]} = First, Run) ->
        turn_kit:with_server(#{}, fun(#{listeners := [To | _]} = Second) ->
            [begin
                 {0, Report} = Run([uri(To), "--flows", "6", "--direction", "both", "--rate",
                                    "600", "--duration", "0.5" | Shared]),
                 ?assertMatch(#{"allocated" := "6", "offered" := "300", "delivered" := "300"},
                              Report)
             end || Shared <- [[], ["--clients", "2"]]],
            ?assertEqual([6, 6], [turn_kit:counter(S, sessions_created) || S <- [First, Second]]),
            {2, Output} = output(Config, ["idle", uri(To), uri(Other), "--user", "u", "--password",
                                          "p", "--clients", "2"]),
            contains("--clients is for servers on 127.0.0.0/8", Output)
        end)
    end).

%% What the server says it dropped for bandwidth is what is missing.
loss_is_counted(Config) ->
    with_server(Config, #{max_bps => 20000}, fun(Server, Run) ->
        {1, Report} = Run(["--flows", "1", "--direction", "up", "--rate", "1000", "--warmup", "0",
                           "--payload", "200", "--duration", "1"]),
        [Offered, Delivered, Lost] = [list_to_integer(maps:get(K, Report))
                                      || K <- ["offered", "delivered", "lost"]],
        ?assertEqual(1000, Offered),
        ?assert(Lost > 0 andalso Delivered > 0),
        ?assertEqual(Offered, Delivered + Lost),
        ?assertEqual(Lost, turn_kit:counter(Server, over_bandwidth))
    end).

lost_within_reason(Config) ->
    with_server(Config, #{max_bps => 20000}, fun(_, Run) ->
        {0, #{"lost" := Lost}} = Run(["--flows", "1", "--rate", "1000", "--payload", "200",
                                      "--duration", "1", "--max-loss", "100"]),
        ?assert(list_to_integer(Lost) > 0)
    end).

wrong_password(Config) ->
    with_server(Config, #{}, fun(#{listeners := [To | _]}, _) ->
        [begin
             {3, Output} = output(Config, Mode ++ [uri(To), "--user", "alice", "--password",
                                                   "looking-glass", "--duration", "0.5"]),
             contains("401 Unauthenticated: wrong credentials", Output),
             contains("no allocation could be made", Output)
         end || Mode <- [[], ["allocations"], ["search"]]]
    end).

nobody_there(Config) ->
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, To} = inet:sockname(Socket),
    ok = gen_udp:close(Socket),
    {3, Output} = output(Config, [uri(To), "--user", "alice", "--password", "wonderland"]),
    contains("unreachable: nobody listens there", Output).

refused_peer(Config) ->
    with_server(Config, #{allowed_peers => [], denied_peers => [{{127, 0, 0, 0}, 8}]},
                fun(Server, _) ->
        #{listeners := [To | _]} = Server,
        {3, Output} = output(Config, [uri(To), "--user", "alice", "--password", "wonderland"]),
        contains("403 Forbidden", Output),
        contains("no channel or permission could be made", Output),
        emptied(Server)
    end).

%% Those that got one carry traffic; that others did not is told.
quota_reached(Config) ->
    with_server(Config, #{user_quota => 4}, fun(Server, Run) ->
        {1, Report} = Run(["--flows", "10", "--rate", "400", "--duration", "0.5"]),
        ?assertMatch(#{"allocated" := "4", "failed" := "6", "offered" := "200",
                       "delivered" := "200"}, Report),
        emptied(Server)
    end).

%% Long runs, made short: nonces grow stale meanwhile.
allocations_are_prolonged(Config) ->
    with_server(Config, #{nonce_lifetime => 1}, fun(_, Run) ->
        [begin
             {0, Report} = Run(["--flows", "4", "--rate", "400", "--duration", "2.5", "--keep",
                                "0.5", "--method", Method]),
             ?assertMatch(#{"delivered" := "1000", "lost" := "0"}, Report),
             ?assert(list_to_integer(maps:get("refreshed", Report)) >= 8)
         end || Method <- ["channel", "send"]]
    end).

%% Ctrl-C ends a run early, in order: with a report, and nothing left behind.
interrupted_it_cleans_up(Config) ->
    with_server(Config, #{}, fun(#{listeners := [To | _]} = Server, _) ->
        [begin
             Port = spawn_program(Config, Mode ++ [uri(To), "--user", "alice", "--password",
                                                   "wonderland", "--duration", "600"] ++ More),
             {os_pid, Pid} = erlang:port_info(Port, os_pid),
             until(fun() -> allocations(Server) >= Least end),
             "" = os:cmd("kill -INT " ++ integer_to_list(Pid)),
             {1, Output} = collect(Port, []),
             contains("mode ", Output),
             emptied(Server)
         end || {Mode, More, Least} <- [{[], ["--flows", "10"], 10},
                                        {["allocations"], ["--in-flight", "2"], 1},
                                        {["idle"], ["--flows", "10,20"], 10}]]
    end).

%%% Allocations

allocations_are_counted(Config) ->
    with_server(Config, #{}, fun(#{name := Name} = Server, Run) ->
        {0, Report} = Run(["allocations", "--count", "300", "--in-flight", "10"]),
        ?assertMatch(#{"cycles" := "300", "allocations" := "300", "failed" := "0",
                       "answers" := Answers, "retransmitted" := Again}
                         when Answers =:= "1500" orelse Again =/= "0", Report),
        emptied(Server),
        #{answers := Outcomes} = meerkat:info(Name),
        ct:log("~p", [Outcomes])
    end).

some_cycles_fail(Config) ->
    with_server(Config, #{user_quota => 3}, fun(Server, Run) ->
        {1, Report} = Run(["allocations", "--count", "100", "--in-flight", "20"]),
        #{"cycles" := "100", "failed" := Failed} = Report,
        ?assert(list_to_integer(Failed) > 0),
        emptied(Server)
    end).

%% Nobody's Binding and nobody's Allocate: the server counts as many answers of each as are told.
strangers_are_counted(Config) ->
    with_server(Config, #{unauthenticated_rate => 0}, fun(Server, Run) ->
        [begin
             Before = turn_kit:counter(Server, Counter),
             {0, Report} = Run([Mode, "--count", "300", "--in-flight", "10"]),
             ?assertMatch(#{"cycles" := "300", "failed" := "0"}, Report),
             Told = list_to_integer(maps:get("answers", Report)),
             Again = list_to_integer(maps:get("retransmitted", Report)),
             Counted = turn_kit:counter(Server, Counter) - Before,
             ?assert(Told =:= 300 andalso Counted >= 300 andalso Counted =< 300 + Again)
         end || {Mode, Counter} <- [{"binding", bindings}, {"challenge", challenges}]]
    end).

memory_is_looked_at(Config) ->
    with_server(Config, #{}, fun(Server, Run) ->
        {0, Report} = Run(["idle", "--flows", "50,100", "--duration", "0.1", "--server-pid",
                                   os:getpid() ++ ",1", "--part-pid", os:getpid()]),
        ?assertMatch(#{"allocated_0" := "0", "allocated_1" := "50", "allocated_2" := "100",
                       "allocated_after" := "0"}, Report),
        [Part, All] = [list_to_integer(maps:get(K, Report)) || K <- ["part_kb_1", "rss_kb_1"]],
        ?assert(Part > 0 andalso Part < All),
        [?assert(list_to_integer(maps:get(K, Report)) > 0) || K <- ["rss_kb_0", "kernel_kb_2"]],
        emptied(Server)
    end).

%%% The search, and the sink

%% The limit is the server's: 100 packets of 200 bytes a second, and some seconds' worth at once,
%% which short trials can use up.
search_ends_below_the_limit(Config) ->
    with_server(Config, #{max_bps => 20000}, fun(_, Run) ->
        {0, Report} = Run(["search", "--flows", "1", "--payload", "200", "--rate", "100", "--trial",
                           "0.5", "--warmup", "1", "--confirm", "0", "--duration", "0.5",
                           "--max-loss", "100"]),
        Max = list_to_integer(maps:get("max_rate_pps", Report)),
        ?assert(Max >= 50 andalso Max =< 400)
    end).

needs_no_server(Config) ->
    [begin
         {0, Output} = output(Config, ["sink", "--flows", "10", "--rate", "2000", "--duration",
                                       "0.5", "--max-late", "60", "--direction", Direction,
                                       "--quiet"]),
         ?assertMatch(#{"offered" := "1000", "delivered" := "1000"}, table(Output))
     end || Direction <- ["up", "down", "both"]],
    {0, Fast} = output(Config, ["sink", "--rate", "0", "--duration", "0.5", "--burst", "16",
                                "--gso"]),
    #{"delivered" := Delivered} = table(Fast),
    ?assert(list_to_integer(Delivered) > 1000).

%%% What it writes and refuses

%% One header, a row for each run, and in it what stdout says; text is quoted.
csv_is_the_table(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "runs.csv"),
    with_server(Config, #{}, fun(_, Run) ->
        Arguments = ["--flows", "2", "--rate", "200", "--duration", "0.5", "--csv", File],
        {0, First} = Run(Arguments ++ ["--label", "one, \"two\""]),
        {0, Second} = Run(Arguments),
        {ok, Bytes} = file:read_file(File),
        [Header, Row1, Row2] = [string:split(L, ",", all)
                                || L <- string:lexemes(binary_to_list(Bytes), "\n")],
        ?assertEqual(["label", "mode", "server", "flows", "method", "direction", "pairs",
                      "channels", "payload", "burst", "gso", "gro", "allocated", "refreshed",
                      "failed", "rate_pps", "seconds", "offered", "delivered", "lost",
                      "loss_percent",
                      "duplicated", "reordered", "damaged", "late", "skipped", "offered_pps",
                      "delivered_pps", "p50_us", "p90_us", "p99_us", "p999_us", "max_us",
                      "relayed", "server_cpu_s", "packets_per_cpu_s", "server_ns_per_packet",
                      "softirq_s", "steal_s", "generator_cpu_s", "generator_ns_per_packet"],
                     Header),
        ?assertMatch(["\"one", " \"\"two\"\"\"", "traffic" | _], Row1),
        ?assertEqual("one, \"two\"", maps:get("label", First)),
        ?assertEqual(Second, maps:filter(fun(_, V) -> V =/= "" end,
                                         maps:from_list(lists:zip(Header, Row2))))
    end).

csv_of_other_columns(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "others.csv"),
    ok = file:write_file(File, "a,b\n1,2\n"),
    {2, Output} = output(Config, ["sink", "--duration", "0.1", "--warmup", "0", "--csv", File]),
    contains(File ++ " has other columns; nothing was added to it", Output),
    ?assertEqual({ok, <<"a,b\n1,2\n">>}, file:read_file(File)).

%% Whose CPU counts is told by number or by name; a wrong one is no reason for a run without. The
%% name is one that nobody else's process has.
server_is_found(Config) ->
    Name = "mk" ++ os:getpid(),
    Program = filename:join(proplists:get_value(priv_dir, Config), Name),
    {ok, _} = file:copy(filename:join(code:priv_dir(meerkat), "meerkat_relay"), Program),
    ok = file:change_mode(Program, 8#755),
    with_server(Config, #{relay_program => Program}, fun(_, Run) ->
        [begin
             {0, Report} = Run(["allocations", "--count", "200", Key, Value]),
             ?assert(list_to_float(maps:get("server_cpu_s", Report)) > 0)
         end || {Key, Value} <- [{"--server-pid", os:getpid()}, {"--server-name", Name}]]
    end),
    [begin
         {2, Output} = output(Config, ["sink", Key, Value]),
         contains(Key ++ " " ++ Value ++ ": no such process", Output)
     end || {Key, Value} <- [{"--server-pid", "1073741823"}, {"--part-pid", "1073741823"},
                             {"--server-name", "nobody"}]].

bad_options(Config) ->
    Login = ["--user", "u", "--password", "p"],
    Uri = "turn:127.0.0.1:1",
    [begin
         {2, Output} = output(Config, Arguments),
         contains(Why, Output)
     end || {Arguments, Why} <-
                [{[], "a server is missing"},
                 {[Uri], "--user and --password, or --secret, are missing"},
                 {[Uri, "--secret", "s" | Login], "--secret makes name and password"},
                 {["floods", Uri | Login], "floods: no such mode"},
                 {["turn:127.0.0.1:x" | Login], "no such port"},
                 {["turn:127.0.0.1:1?transport=tcp" | Login], "and UDP"},
                 {[Uri, "--payload", "23" | Login],
                  "--payload 23: must be a whole number from 24 to 8192"},
                 {[Uri, "--rate", "fast" | Login], "--rate fast: must be a number from 0"},
                 {[Uri, "--flows", "0" | Login], "--flows 0: must be"},
                 {[Uri, "--flows", "1,2" | Login], "idle wants N1,N2"},
                 {["idle", Uri, "--flows", "5,5" | Login], "N2 being larger"},
                 {[Uri, "--pairs", "--flows", "3" | Login], "with an even number of flows"},
                 {["idle", Uri, "--pairs" | Login], "--pairs has no meaning with idle"},
                 {[Uri, "--direction", "left" | Login],
                  "--direction left: must be one of up down both echo"},
                 {[Uri, "--peer", "host" | Login], "--peer host: no IP"},
                 {[Uri, "--family", "6", "--peer", "127.0.0.1" | Login], "disagree"},
                 {["turn:192.0.2.1:1", "--clients", "2" | Login], "--clients is for servers on"},
                 {[Uri, "--frobnicate" | Login], "--frobnicate: no such option"},
                 {[Uri, "--user"], "--user: a value is missing"},
                 {[Uri, "--server-pid", "1,x" | Login], "must be process ids"}]],
    {0, Help} = output(Config, ["--help"]),
    contains("exit status", Help).

%%% Running it

%% Fun(Server, Run), where Run(Arguments) is its exit status and what its table says.
with_server(Config, Overrides, Fun) ->
    turn_kit:with_server(Overrides, fun(#{listeners := [To | _]} = Server) ->
        Fun(Server, fun(Arguments) -> run(Config, Server, To, Arguments) end)
    end).

run(Config, #{users := #{<<"alice">> := Password}}, To, Arguments) ->
    Warmup = case lists:member("--warmup", Arguments) of
                 true -> [];
                 false -> ["--warmup", "0.1"]
             end,
    %% However late it is: a machine that is busy with other suites must not make it skip.
    {Status, Output} = output(Config, Arguments ++ Warmup ++ ["--max-late", "60"] ++
                                          [uri(To), "--user", "alice", "--password",
                                           binary_to_list(Password)]),
    {Status, table(Output)}.

uri({Ip, Port}) when tuple_size(Ip) =:= 4 ->
    lists:flatten(io_lib:format("turn:~s:~b", [inet:ntoa(Ip), Port]));
uri({Ip, Port}) ->
    lists:flatten(io_lib:format("turn:[~s]:~b", [inet:ntoa(Ip), Port])).

%% Lines of a name and a value.
table(Output) ->
    maps:from_list([{Name, Value}
                    || Line <- string:lexemes(Output, "\n"),
                       {match, [Name, Value]} <-
                           [re:run(Line, "^([a-z0-9_]+)  +(.*)$",
                                   [{capture, all_but_first, list}])]]).

output(Config, Arguments) -> collect(spawn_program(Config, Arguments), []).

spawn_program(Config, Arguments) ->
    spawn_command(proplists:get_value(program, Config), Arguments).

command(Program, Arguments) -> collect(spawn_command(Program, Arguments), []).

spawn_command(Program, Arguments) ->
    open_port({spawn_executable, Program},
              [{args, Arguments}, exit_status, stderr_to_stdout, hide]).

collect(Port, Output) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Output, Data]);
        {Port, {exit_status, Status}} ->
            Text = lists:flatten(Output),
            ct:log("exit ~b~n~ts", [Status, Text]),
            {Status, Text}
    end.

contains(Wanted, Output) ->
    ?assertNotEqual({nomatch, Wanted}, {string:find(Output, Wanted), Wanted}).

%% An answer to the last Refresh may be here before its process is gone.
emptied(Server) -> until(fun() -> allocations(Server) =:= 0 end).

allocations(#{name := Name}) -> maps:get(allocations, meerkat:info(Name)).

until(Fun) ->
    case Fun() of
        true -> ok;
        false -> receive after 20 -> until(Fun) end
    end.
