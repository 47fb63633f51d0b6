%% What Linux tells of a running process in /proc, as far as an operator wants it in a graph: CPU,
%% memory, open files. It works for any process.
-module(meerkat_proc).

-export([usage/1]).
-export_type([usage/0]).

-include_lib("kernel/include/file.hrl").

%% Keys are missing where the system does not say. cpu_ms: user and system together since the
%% start; rss: resident bytes; fds, fds_max: open files and the (soft) limit; started: Unix
%% seconds.
-type usage() :: #{cpu_ms => non_neg_integer(), rss => non_neg_integer(),
                   fds => non_neg_integer(), fds_max => pos_integer(), started => pos_integer()}.

%% Ticks per second that /proc counts time in (USER_HZ): 100 on all machines we are built for.
-define(HZ, 100).

-spec usage(OsPid :: non_neg_integer()) -> usage().
usage(OsPid) ->
    Dir = "/proc/" ++ integer_to_list(OsPid) ++ "/",
    maps:from_list(stat(read(Dir ++ "stat"))
                   ++ number(rss, read(Dir ++ "status"), "^VmRSS:\\s+([0-9]+) kB", 1024)
                   ++ number(fds_max, read(Dir ++ "limits"), "^Max open files +([0-9]+)", 1)
                   ++ fds(Dir ++ "fd")).

%% Without /proc, or without leave to look.
read(Path) ->
    case file:read_file(Path) of
        {ok, Text} -> Text;
        {error, _} -> <<>>
    end.

%% The name in parentheses may hold anything; fields are counted from its end (proc(5)).
stat(Text) ->
    case string:split(Text, ") ", trailing) of
        [_, Rest] ->
            Fields = list_to_tuple(binary:split(Rest, <<" ">>, [global])),
            [User, System, Started] =
                [binary_to_integer(element(N - 2, Fields)) || N <- [14, 15, 22]],
            [{cpu_ms, (User + System) * 1000 div ?HZ}
             | number(started, read("/proc/stat"), "^btime ([0-9]+)", 1, Started div ?HZ)];
        _ ->
            []
    end.

number(Key, Text, Pattern, Unit) -> number(Key, Text, Pattern, Unit, 0).

number(Key, Text, Pattern, Unit, Plus) ->
    case re:run(Text, Pattern, [multiline, {capture, all_but_first, binary}]) of
        {match, [Digits]} -> [{Key, binary_to_integer(Digits) * Unit + Plus}];
        nomatch -> []
    end.

%% The size of the directory is the number of open files since Linux 6.2; counting a hundred
%% thousand of them is no thing to do every few seconds.
fds(Dir) ->
    case file:read_file_info(Dir, [raw]) of
        {ok, #file_info{size = N}} when N > 0 -> [{fds, N}];
        _ -> []
    end.
