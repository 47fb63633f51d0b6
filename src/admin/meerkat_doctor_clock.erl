%% Is this machine's clock right? Time-limited credentials depend on it. No time server is asked,
%% but the program that keeps the clock: chrony, which knows how far off it is; else systemd; else
%% the kernel, by way of the relay program. The first one that knows is believed, and named.
-module(meerkat_doctor_clock).

-export([examine/1, step/1]).

%% Seconds that the clock may be off: more matters to credentials.
-define(OFF_S, 1.0).
%% Seconds that chronyc or timedatectl may take.
-define(PATIENCE_S, "3").

-type state() :: {kept | not_kept | {off, Seconds :: float(), Way :: string()}, Asked :: string()}.

-spec examine(RelayProgram :: file:filename_all()) -> meerkat_doctor:finding().
examine(Program) ->
    first([fun chrony/0, fun systemd/0, fun() -> kernel(Program) end]).

first([Ask | Others]) ->
    case Ask() of
        unknown -> first(Others);
        State -> finding(State)
    end;
first([]) ->
    #{name => clock, verdict => unknown,
      text => <<"whether the clock is right cannot be seen here: neither chronyc nor timedatectl "
                "nor the kernel tells">>,
      remedy => <<"in a container that is its host's affair">>}.

-spec finding(state()) -> meerkat_doctor:finding().
finding({{off, Seconds, Way}, Asked}) when Seconds < ?OFF_S ->
    told(ok, ["the clock is kept by a time server, ", seconds(Seconds), " s ", Way], Asked);
finding({{off, Seconds, Way}, Asked}) ->
    warned(["the clock is ", seconds(Seconds), " s ", Way, ": credentials end too ",
            case Way of "fast" -> "early"; _ -> "late" end],
           "chronyc makestep sets it at once, and a server that runs goes by the new time", Asked);
finding({kept, Asked}) ->
    told(ok, "the clock is kept by a time server", Asked);
finding({not_kept, Asked}) ->
    warned("the clock is not kept by a time server: credentials end too early or too late",
           "timedatectl set-ntp true, or chrony; in a container that is its host's affair", Asked).

%% Of a server that runs: how far the machine's clock was set since it began, as
%% meerkat_clock:step_s/1 tells.
-spec step(Seconds :: float()) -> [meerkat_doctor:finding()].
step(Seconds) when abs(Seconds) < ?OFF_S ->
    [];
step(Seconds) ->
    Way = case Seconds > 0 of true -> "ahead"; false -> "back" end,
    Text = ["the clock was set ", way_s(abs(Seconds)), " s ", Way, " since this server began: it "
            "goes by the new time, and credentials that were made by the old one may end too ",
            case Way of "ahead" -> "early"; _ -> "late" end],
    [#{name => clock_step, verdict => warning, text => iolist_to_binary(Text),
       remedy => <<"new credentials are right; a time server keeps the clock from being set">>}].

way_s(Seconds) -> io_lib:format("~.1f", [Seconds]).

seconds(Seconds) -> io_lib:format("~.6f", [Seconds]).

told(Verdict, Text, Asked) ->
    #{name => clock, verdict => Verdict, text => iolist_to_binary([Text, " (", Asked, ")"])}.

warned(Text, Remedy, Asked) ->
    (told(warning, Text, Asked))#{remedy => iolist_to_binary(Remedy)}.

%%% Who is asked

-spec chrony() -> state() | unknown.
chrony() ->
    Said = said("chronyc -n tracking"),
    Leap = found("^Leap status +: (.+)$", Said),
    Offset = found("^System time +: ([0-9]+\\.[0-9]+) seconds (fast|slow) of NTP time", Said),
    case {Leap, Offset} of
        {["Not synchronised"], _} -> {not_kept, "chronyc tracking"};
        {[_], [Seconds, Way]} -> {{off, list_to_float(Seconds), Way}, "chronyc tracking"};
        {_, _} -> unknown
    end.

-spec systemd() -> state() | unknown.
systemd() ->
    case string:trim(said("timedatectl show -p NTPSynchronized --value")) of
        "yes" -> {kept, "timedatectl"};
        "no" -> {not_kept, "timedatectl"};
        _ -> unknown
    end.

%% A program that keeps the clock right tells the kernel so; the kernel believes it for some hours
%% (adjtimex(2)).
-spec kernel(file:filename_all()) -> state() | unknown.
kernel(Program) ->
    Quoted = ["'", string:replace(Program, "'", "'\\''", all), "'"],
    case meerkat_json:decode(unicode:characters_to_binary(said([Quoted, " --clock"]))) of
        {ok, #{<<"synchronized">> := true}} -> {kept, "the kernel"};
        {ok, #{<<"synchronized">> := false}} -> {not_kept, "the kernel"};
        _ -> unknown
    end.

said(Command) ->
    os:cmd(unicode:characters_to_list(["PATH=$PATH:/usr/sbin:/sbin LC_ALL=C timeout " ?PATIENCE_S
                                       " ", Command, " 2>/dev/null </dev/null"])).

found(Pattern, Text) ->
    case re:run(Text, Pattern, [multiline, {capture, all_but_first, list}]) of
        {match, Parts} -> Parts;
        nomatch -> []
    end.
