%% The bytes between Erlang and the relay: frames one after another, each behind its length in four
%% bytes. Frames that leave are collected by a process of their own, which hands the port whatever
%% has come together since it did so last: one system call, and one waking of the relay, for many.
%% It knows no message and decides nothing.
-module(meerkat_wire).

-export([start_link/1, send/2, send_at_once/2, split/2]).
%% Internal: its loop, by its full name, so that code can be loaded twice below it.
-export([loop/1]).

-export_type([wire/0]).

%% A port and the process that writes to it.
-type wire() :: pid().

%% Messages in one piece at most; the pipe holds 64 KiB, and most of them are short.
-define(MOST, 256).

%% Asleep it holds no code that may be replaced.
-define(IDLE_MS, 1000).

%% Words, for many writes between two collections.
-define(HEAP, 16384).

%% It ends with the caller, or when the port does.
-spec start_link(port()) -> wire().
start_link(Port) ->
    spawn_opt(?MODULE, loop, [Port],
              [link, {message_queue_data, off_heap}, {min_heap_size, ?HEAP}]).

%% Sends what meerkat_ctl:encode/2 made, one or several frames with nobody else's between them. The
%% frames of one process keep their order. Nobody but the wire itself waits while the relay is
%% behind. `closed`: that port is no more.
-spec send(wire(), [iodata(), ...]) -> ok | closed.
send(Wire, Frames) ->
    case is_process_alive(Wire) of
        true ->
            Wire ! {frames, iolist_to_binary([framed(Frame) || Frame <- Frames])},
            ok;
        false ->
            closed
    end.

%% The same past the wire, for the port's owner, who empties the pipe the other way and must not
%% wait. `busy`: nothing was sent, for the relay is behind.
-spec send_at_once(port(), iodata()) -> ok | busy | closed.
send_at_once(Port, Frame) ->
    try erlang:port_command(Port, framed(Frame), [nosuspend]) of
        true -> ok;
        false -> busy
    catch
        error:badarg -> closed
    end.

framed(Frame) ->
    [<<(iolist_size(Frame)):32>>, Frame].

%% The whole frames in what has come, parts of it, and the beginning of the next one.
-spec split(Begun :: binary(), Bytes :: binary()) -> {[binary()], Begun :: binary()}.
split(<<>>, Bytes) -> frames(Bytes, []);
split(Begun, Bytes) -> frames(<<Begun/binary, Bytes/binary>>, []).

frames(<<Length:32, Frame:Length/binary, Rest/binary>>, Frames) -> frames(Rest, [Frame | Frames]);
frames(Rest, Frames) -> {lists:reverse(Frames), Rest}.

-spec loop(port()) -> ok.
loop(Port) ->
    receive
        {frames, Frames} ->
            try erlang:port_command(Port, [Frames | waiting(?MOST - 1)]) of
                true -> ?MODULE:loop(Port)
            catch
                error:badarg -> ok      % closed
            end
    after ?IDLE_MS ->
        erlang:hibernate(?MODULE, loop, [Port])
    end.

waiting(0) ->
    [];
waiting(N) ->
    receive
        {frames, Frames} -> [Frames | waiting(N - 1)]
    after 0 ->
        []
    end.
