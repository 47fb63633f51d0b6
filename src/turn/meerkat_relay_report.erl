%% What the log gets to hear of a relay program that has started: where it listens and relays, what
%% moves packets, and whether the kernel gave the buffers that were asked for.
-module(meerkat_relay_report).

-include_lib("kernel/include/logger.hrl").

-export([start/2, io/3, offload/1]).

%% The lines of a start, one for each address.
-spec start(meerkat_listening:bound(), meerkat_settings:settings()) -> ok.
start(Bound, #{listeners := Listeners, relays := Relays, own_kinds := Kinds}) ->
    _ = [?LOG_NOTICE("listening on ~ts ~ts", [meerkat_ctl:transport_name(Transport),
                                               meerkat_text:address(maps:get(Id, Bound))])
         || #{id := Id, transport := Transport} <- Listeners, is_map_key(Id, Bound)],
    _ = [?LOG_NOTICE("relaying from ~ts, ports ~b-~b~ts",
                     [meerkat_text:ip(Local), Min, Max,
                      [[", told to clients as ", meerkat_text:ip(Advertised)]
                       || Advertised =/= Local]])
         || #{local := Local, advertised := Advertised, min_port := Min, max_port := Max}
                <- Relays],
    _ = [?LOG_NOTICE("peers on ~ts addresses are allowed, for the relay's own address is one",
                     [Kind])
         || Kind <- Kinds],
    ok.

%% What the relay said about moving packets (ctl.def, IO), and what it had said before: what moves
%% them is told once, buffers that are too small each time.
-spec io(Io :: map(), Before :: none | 1 | 2, meerkat_settings:settings()) -> ok.
io(#{io_backend := Backend} = Io, Before, #{relay_config := Asked}) ->
    Before =:= Backend orelse backend(Io),
    buffers(Io, Asked).

%% One line says what moves packets and, where that was not the first choice, why.
backend(#{io_backend := Backend, detail := <<>>}) ->
    ?LOG_NOTICE("packets move by ~ts", [meerkat_relay:io_backend(Backend)]);
backend(#{io_backend := Backend, detail := Why}) ->
    ?LOG_NOTICE("packets move by ~ts: io_uring is refused (~ts)",
                [meerkat_relay:io_backend(Backend), meerkat_text:escape(Why)]).

%% What became of `offload` (ctl.def, OFFLOAD).
-spec offload(#{offload := 0 | 2 | 3, detail := binary()}) -> ok.
offload(#{offload := 0, detail := Why}) ->
    ?LOG_WARNING("offload: packets move by sockets alone, for nothing could be attached: ~ts",
                 [meerkat_text:escape(Why)]);
offload(#{offload := _, detail := Where}) ->
    ?LOG_NOTICE("offload: busy channels are relayed in the kernel, on ~ts",
                [meerkat_text:escape(Where)]).

%% One warning for both. The buffers asked for are the default, if nobody said otherwise.
buffers(Granted, Asked) ->
    Short = [{Key, Limit, maps:get(Key, Granted), maps:get(Key, Asked)}
             || {Key, Limit} <- [{receive_buffer, "rmem_max"}, {send_buffer, "wmem_max"}],
                maps:get(Key, Granted) < maps:get(Key, Asked)],
    Cut = [io_lib:format("~ts is ~b bytes instead of ~b", [Key, Got, Wanted])
           || {Key, _, Got, Wanted} <- Short],
    Remedy = [io_lib:format(" net.core.~ts=~b", [Limit, Wanted]) || {_, Limit, _, Wanted} <- Short],
    Short =:= [] orelse
        ?LOG_WARNING("the kernel cuts socket buffers: ~ts; sysctl -w~ts allows what is configured",
                     [lists:join(", ", Cut), Remedy]),
    ok.
