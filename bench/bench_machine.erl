%% The machine that figures come from, and how quiet it was. Reads /proc and /sys.
-module(bench_machine).

-export([describe/0, cpus/0, files/0, stolen/0, stolen_since/1]).

-spec cpus() -> pos_integer().
cpus() ->
    erlang:system_info(logical_processors_available).

%% Most files a process may open here: its hard limit.
-spec files() -> pos_integer().
files() ->
    Limits = read("/proc/self/limits"),
    case re:run(Limits, "Max open files\\s+\\S+\\s+([0-9]+)", [{capture, all_but_first, list}]) of
        {match, [Hard]} -> list_to_integer(Hard);
        nomatch -> 1 bsl 30
    end.

%% What a report says of it: name and value.
-spec describe() -> [{string(), string()}].
describe() ->
    {{Year, Month, Day}, {Hour, Minute, _}} = calendar:universal_time(),
    [{"Date", io_lib:format("~b-~2..0b-~2..0b ~2..0b:~2..0b UTC",
                            [Year, Month, Day, Hour, Minute])},
     {"CPU", [integer_to_list(cpus()), " × ", cpu_model(), hypervisor()]},
     {"Memory", [integer_to_list(memory_gib()), " GiB"]},
     {"Kernel", string:trim(read("/proc/sys/kernel/osrelease"))},
     {"Mitigations", mitigations()},
     {"Load before", lists:join(" ", lists:sublist(string:lexemes(read("/proc/loadavg"), " "), 3))},
     {"Erlang/OTP", otp()},
     {"Compiler", first_line(os:cmd("gcc --version"))},
     {"Open files", io_lib:format("at most ~b to a process", [files()])}].

cpu_model() ->
    case re:run(read("/proc/cpuinfo"), "model name\\s*: (.*)", [{capture, all_but_first, list}]) of
        {match, [Model]} -> Model;
        nomatch -> string:trim(os:cmd("uname -m"))
    end.

hypervisor() ->
    case re:run(read("/proc/cpuinfo"), "flags.* hypervisor") of
        {match, _} -> ", virtual machine";
        nomatch -> ""
    end.

memory_gib() ->
    {match, [Kb]} = re:run(read("/proc/meminfo"), "MemTotal:\\s+([0-9]+)",
                           [{capture, all_but_first, list}]),
    round(list_to_integer(Kb) / (1 bsl 20)).

%% Those that are at work; what the CPU is not affected by costs nothing.
mitigations() ->
    Files = filelib:wildcard("/sys/devices/system/cpu/vulnerabilities/*"),
    States = [{filename:basename(F), string:trim(read(F))} || F <- Files],
    case [[Name, ": ", string:prefix(State, "Mitigation: ")]
          || {Name, State} <- States, lists:prefix("Mitigation: ", State)] of
        [] -> "none";
        Active -> lists:join(". ", Active)
    end.

otp() ->
    [erlang:system_info(otp_release), ", ERTS ", erlang:system_info(version), " (",
     atom_to_list(erlang:system_info(emu_flavor)), ")"].

first_line(Text) ->
    hd(string:split(Text, "\n")).

%% Time that the hypervisor gave to others, and all time, of all CPUs, in ticks since the start.
-spec stolen() -> {Stolen :: integer(), All :: integer()}.
stolen() ->
    ["cpu" | Fields] = string:lexemes(first_line(read("/proc/stat")), " "),
    Ticks = [list_to_integer(F) || F <- lists:sublist(Fields, 8)],
    {lists:nth(8, Ticks), lists:sum(Ticks)}.

%% As a share of the time since then.
-spec stolen_since({integer(), integer()}) -> float().
stolen_since({Stolen, All}) ->
    {StolenNow, AllNow} = stolen(),
    (StolenNow - Stolen) / max(1, AllNow - All).

read(File) ->
    case file:read_file(File) of
        {ok, Text} -> unicode:characters_to_list(Text);
        {error, _} -> ""
    end.
