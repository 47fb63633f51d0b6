%% Allocations that the system refused the relay, for want of descriptors or memory or because an
%% address is gone: an operator can do something, so each kind of it is in the log with `warning`,
%% once a minute at most, with what would help. Every single one has a line of its own at `info`
%% (meerkat_alloc_report).
%%
%% Any process may tell; two that do so at a time may write one line more.
-module(meerkat_shortage).

-include_lib("kernel/include/logger.hrl").

-export([new/0, told/2, verdict/2]).

-export_type([shortages/0]).

-define(INTERVAL_MS, 60000).

%% When the next line may be written, in milliseconds, and how many were left out since the last.
-opaque shortages() :: atomics:atomics_ref().

-spec new() -> shortages().
new() ->
    atomics:new(2, []).

%% The relay made no allocation; Detail is the system's error.
-spec told(shortages(), Detail :: binary()) -> ok.
told(Shortages, Detail) ->
    case verdict(Shortages, meerkat_clock:now_ms()) of
        {log, LeftOut} ->
            ?LOG_WARNING("no allocation: the system refused a port: ~ts (~ts)~ts",
                         [meerkat_text:escape(Detail), hint(Detail), left_out(LeftOut)]);
        leave_out ->
            ok
    end.

%% Does this one get a line, and how many did not since the last? Takes the line.
-spec verdict(shortages(), NowMs :: integer()) -> {log, LeftOut :: non_neg_integer()} | leave_out.
verdict(Shortages, NowMs) ->
    %% A fresh one has zeros, and monotonic time may be negative.
    case atomics:get(Shortages, 1) of
        Next when Next =/= 0, NowMs < Next ->
            ok = atomics:add(Shortages, 2, 1),
            leave_out;
        _ ->
            ok = atomics:put(Shortages, 1, NowMs + ?INTERVAL_MS),
            {log, atomics:exchange(Shortages, 2, 0)}
    end.

hint(<<"Too many open files", _/binary>>) ->
    "raise the limit of descriptors: LimitNOFILE= of systemd, --ulimit nofile= of docker, "
    "ulimit -Hn of a shell";
hint(<<"Cannot assign requested address">>) ->
    "an address to relay from is no longer one of this host: see RELAY_IP";
hint(_) ->
    "meerkatctl doctor looks for the reason".

left_out(0) -> "";
left_out(N) -> io_lib:format("; ~b more allocations were refused since the last such line", [N]).
