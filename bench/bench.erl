%% `make bench`: takes the rows of the plan one after the other, starts the servers they need and
%% lets the rounds alternate between them: first round of all, second round of all. What it found
%% is kept in results.term beside the generator's CSV files; bench_report tells it.
-module(bench).

-export([main/1, root/0, build_dir/0]).
-export_type([results/0, sample/0]).

-type sample() :: #{row := atom(), server := bench_servers:id() | generator, round := integer(),
                    figures := bench_run:figures()}.
%% notes: what was left out, and why.
-type results() :: #{machine := [{string(), iodata()}], versions := [{atom(), string()}],
                     stolen := float(), seconds := integer(), is_quick := boolean(),
                     samples := [sample()], notes := [string()]}.

-record(run, {rows :: [bench_plan:row()], times :: fun(), directory :: file:filename(),
              files :: file:filename(), live = #{} :: #{atom() => bench_servers:server()},
              broken = [] :: [atom()], samples = [] :: [sample()], notes = [] :: [string()]}).

-define(USAGE, "usage: bench.escript [--quick] [--only NAME[,NAME...]] [--write] [--report]\n").
%% Seconds that are not counted, before those that are.
-define(WARMUP, "0.3").
%% The share of the rate without loss at which latency is compared.
-define(LATENCY_SHARE, 0.7).

%% Where the repository is, and where programs and figures are put.
-spec root() -> file:filename().
root() ->
    filename:dirname(filename:dirname(build_dir())).

-spec build_dir() -> file:filename().
build_dir() ->
    filename:dirname(filename:dirname(filename:absname(code:which(?MODULE)))).

%% Ends the node: 0 done, 1 something was to be measured and nothing could be, 2 wrong usage.
-spec main([string()]) -> no_return().
main(Args) ->
    ok = io:setopts([{encoding, unicode}]),
    case options(Args, #{is_quick => false, only => [], writes => false, runs => true}) of
        {ok, #{runs := false}} -> report_again();
        {ok, #{is_quick := IsQuick, only := Only} = Options} ->
            case bench_plan:select(IsQuick, Only) of
                {ok, Rows} -> run(Rows, Options);
                {error, Sentence} -> give_up(2, Sentence)
            end;
        error -> give_up(2, ?USAGE)
    end.

options([], Options) -> {ok, Options};
options(["--quick" | Args], Options) -> options(Args, Options#{is_quick := true});
options(["--only", Names | Args], Options) ->
    options(Args, Options#{only := string:lexemes(Names, ", ")});
options(["--write" | Args], Options) -> options(Args, Options#{writes := true});
options(["--report" | Args], Options) -> options(Args, Options#{runs := false});
options(_, _) -> error.

-spec give_up(1 | 2, unicode:chardata()) -> no_return().
give_up(Status, Sentence) ->
    io:format(standard_error, "bench: ~ts~n", [string:trim(Sentence)]),
    halt(Status).

report_again() ->
    case file:consult(results_file()) of
        {ok, [Results]} ->
            bench_report:write(Results),
            halt(0);
        {error, Reason} ->
            give_up(1, ["no run to report: ", file:format_error(Reason)])
    end.

results_file() ->
    filename:join(build_dir(), "results.term").

%%% A run

run(Rows, #{is_quick := IsQuick, writes := Writes}) ->
    bench_machine:cpus() >= 2 orelse
        give_up(1, "needs two CPUs: one for the server, one for the generator"),
    Files = new_directory("figures"),
    Machine = bench_machine:describe(),
    Started = erlang:monotonic_time(second),
    Stolen = bench_machine:stolen(),
    Run = without_missing(#run{rows = Rows, times = bench_plan:times(IsQuick), files = Files,
                               directory = new_directory("servers")}),
    Done = stop_all(lists:foldl(fun row/2, Run, Rows)),
    Results = #{machine => Machine, versions => versions(),
                stolen => bench_machine:stolen_since(Stolen), is_quick => IsQuick,
                seconds => erlang:monotonic_time(second) - Started,
                samples => lists:reverse(Done#run.samples),
                notes => lists:reverse(Done#run.notes)},
    ok = file:write_file(results_file(), io_lib:format("~tp.~n", [Results]), [{encoding, utf8}]),
    io:put_chars(bench_report:text(Results)),
    Writes andalso bench_report:write(Results),
    halt(case Done#run.samples of [] -> 1; _ -> 0 end).

%% Servers' configurations and sockets are private to us; what was there is of an earlier run.
new_directory(Name) ->
    Dir = filename:join(build_dir(), Name),
    _ = file:del_dir_r(Dir),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = file:change_mode(Dir, 8#700),
    Dir.

versions() ->
    [{Id, bench_servers:version(Id)} || Id <- [ours, coturn, coturn_gso, p1],
                                        bench_servers:missing(Id) =:= none].

without_missing(#run{rows = Rows} = Run) ->
    Wanted = lists:usort([Id || #{servers := Ids} <- Rows, Id <- Ids, Id =/= generator]),
    lists:foldl(fun(Id, R) ->
                    case bench_servers:missing(Id) of
                        none -> R;
                        Sentence -> leave_out(Id, Sentence, R)
                    end
                end, Run, Wanted).

leave_out(Id, Sentence, #run{broken = Broken} = Run) ->
    note([bench_servers:title(Id), " is left out: ", Sentence], Run#run{broken = [Id | Broken]}).

note(Text, #run{notes = Notes} = Run) ->
    Note = unicode:characters_to_list(Text),
    io:format(standard_error, "~ts~n", [Note]),
    Run#run{notes = [Note | Notes]}.

%%% A row: rounds that alternate

row(#{kind := Kind, servers := Servers} = Row, #run{broken = Broken, times = Times} = Run) ->
    #{rounds := Rounds, discarded := Discarded} = Times(Row),
    Present = Servers -- Broken,
    {Ready, Run1} = prepare(Kind, Row, Present, stop_unneeded(stay(Row), Run)),
    case Ready of
        none ->
            Run1;
        _ ->
            Turns = [{Round, Id} || Round <- lists:seq(1 - Discarded, Rounds), Id <- Present],
            lists:foldl(fun(Turn, R) -> turn(Turn, Ready, R) end, Run1, Turns)
    end.

%% Memory is measured with nothing else on the machine.
stay(#{kind := memory}) -> [];
stay(#{servers := Servers}) -> Servers.

%% What the rates of the row depend on; the row to measure, or none.
prepare(_, _, [], Run) ->
    {none, Run};
prepare(latency, #{args := Args} = Row, [First | _], Run) ->
    case turn_figures(First, Row#{args := Args ++ ["--rate", "50000"]}, "search", 0, Run) of
        {{ok, #{loss_free := Rate}}, Run1} ->
            Share = integer_to_list(round(?LATENCY_SHARE * Rate)),
            Note = [bench_servers:title(First), " takes ", integer_to_list(round(Rate)),
                    " packets a second without loss; latency is compared at ", Share],
            {Row#{args := Args ++ ["--rate", Share]}, note(Note, Run1)};
        {_, Run1} ->
            {none, note("latency: no rate without loss was found", Run1)}
    end;
prepare(_, Row, _, Run) ->
    {Row, Run}.

turn({Round, Id}, #{id := RowId, kind := Kind} = Row, #run{broken = Broken} = Run) ->
    case lists:member(Id, Broken) of
        true ->
            Run;
        false ->
            case turn_figures(Id, Row, mode(Kind), Round, Run) of
                {{ok, Figures}, Run1} when Round > 0 ->
                    Sample = #{row => RowId, server => Id, round => Round, figures => Figures},
                    tell(Row, Sample, Run1#run{samples = [Sample | Run1#run.samples]});
                {{ok, _}, Run1} ->
                    Run1;
                {{error, Sentence}, Run1} ->
                    note([atom_to_list(RowId), ", ", title(Id), ": ", Sentence], Run1)
            end
    end.

mode(packets) -> "traffic";
mode(latency) -> "traffic";
mode(allocations) -> "allocations";
mode(keepalives) -> "keepalives";
mode(binding) -> "binding";
mode(challenge) -> "challenge";
mode(memory) -> "idle";
mode(sink) -> "sink".

title(generator) -> "generator";
title(Id) -> bench_servers:title(Id).

tell(#{title := Title}, #{server := Id, round := Round, figures := Figures}, Run) ->
    io:format(standard_error, "~ts, round ~b, ~ts:~ts~n",
              [Title, Round, title(Id),
               [io_lib:format(" ~ts ~ts", [Name, bench_report:short(maps:get(Name, Figures))])
                || Name <- [per_cpu, requests_per_cpu, ns, delivered, rate, p99, rss],
                   is_map_key(Name, Figures)]]),
    Run.

%%% One measurement

turn_figures(generator, Row, Mode, Round, Run) ->
    {bench_run:measure(job(Mode, Row, generator, none, [], Round, Run)), Run};
turn_figures(Id, #{kind := memory} = Row, Mode, Round, Run) ->
    {memory(Id, Row, Mode, Round, Run), Run};
turn_figures(Id, Row, Mode, Round, Run) ->
    case running(Id, Run) of
        {ok, Server, Run1} ->
            #{port := Port, pids := Pids} = bench_servers:info(Server),
            Answer = bench_run:measure(job(Mode, Row, Id, Port, Pids, Round, Run1)),
            case bench_servers:is_alive(Server) of
                true -> {Answer, Run1};
                false -> {{error, "it died meanwhile"}, Run1}
            end;
        {error, Run1} ->
            {{error, "it is left out"}, Run1}
    end.

job(Mode, #{id := RowId, args := Args, hosts := Hosts} = Row, Id, Port, Pids, Round,
    #run{times = Times, files = Files}) ->
    #{seconds := Seconds} = Times(Row),
    Duration = io_lib:format("~.1f", [Seconds]),
    #{mode => Mode, hosts => Hosts, port => Port, pids => Pids,
      args => Args ++ length_of(Mode, lists:flatten(Duration)),
      file => filename:join(Files, Mode ++ ".csv"),
      label => lists:flatten(io_lib:format("~s/~s/~b", [RowId, Id, Round]))}.

length_of("search", _) -> ["--trial", "2", "--confirm", "2", "--warmup", ?WARMUP];
length_of(_, Duration) -> ["--duration", Duration, "--warmup", ?WARMUP].

%% Memory is that of a new server.
memory(Id, Row, Mode, Round, #run{directory = Dir} = Run) ->
    case bench_servers:start(Id, Dir) of
        {ok, Server} ->
            #{port := Port, pids := Pids, relay := Relay} = bench_servers:info(Server),
            Answer = warm(job(Mode, apart(Relay, Row), Id, Port, Pids, Round, Run)),
            ok = bench_servers:stop(Server),
            Answer;
        {error, _} = Error ->
            Error
    end.

%% What moves packets is looked at by itself, too.
apart([], Row) -> Row;
apart(Relay, #{args := Args} = Row) ->
    Row#{args := Args ++ ["--part-pid", lists:flatten(lists:join(",", Relay))]}.

%% Some traffic first: what a server's buffers take when they are first used is no part of what an
%% allocation takes.
warm(#{file := File} = Job) ->
    Warming = Job#{mode := "traffic", file := filename:join(filename:dirname(File), "warming.csv"),
                   args := ["--flows", "100", "--payload", "1200", "--direction", "both",
                            "--rate", "100000", "--duration", "2", "--warmup", "0"]},
    case bench_run:measure(Warming) of
        {ok, _} -> bench_run:measure(Job);
        {error, _} = Error -> Error
    end.

%%% Servers, which stay from row to row

running(Id, #run{live = Live, directory = Dir} = Run) ->
    case Live of
        #{Id := Server} ->
            case bench_servers:is_alive(Server) of
                true ->
                    {ok, Server, Run};
                false ->
                    ok = bench_servers:stop(Server),
                    running(Id, note([bench_servers:title(Id), " died and is started again"],
                                     Run#run{live = maps:remove(Id, Live)}))
            end;
        _ ->
            case bench_servers:start(Id, Dir) of
                {ok, Server} -> {ok, Server, Run#run{live = Live#{Id => Server}}};
                {error, Sentence} -> {error, leave_out(Id, Sentence, Run)}
            end
    end.

stop_unneeded(Needed, #run{live = Live} = Run) ->
    Others = maps:without(Needed, Live),
    _ = [ok = bench_servers:stop(Server) || Server <- maps:values(Others)],
    Run#run{live = maps:with(Needed, Live)}.

stop_all(Run) ->
    stop_unneeded([], Run).
