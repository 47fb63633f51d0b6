#!/usr/bin/env escript
%%! -env ERL_CRASH_DUMP_BYTES 0 +sbwt none +sbwtdcpu none +sbwtdio none
%% A server, an allocation that relays a paced stream both ways, and a million Allocates without
%% credentials from a hundred thousand tuples: what does the flood cost, and who feels it?
%%
%%     flood.escript FLOOD-PROGRAM RATE
%%
%% Run by `make flood`. The server is a real one on loopback in this node, its relay program a
%% process of its own; so are the flood and, for the stream, the client and its peer.
-mode(compile).

-define(COUNT, 1000000).
-define(TUPLES, 100000).
-define(PACED_MS, 2).
-define(PAYLOAD, 172).
-define(LOOPBACK, {127, 0, 0, 1}).

main([Flood, Rate]) ->
    Root = filename:dirname(filename:dirname(filename:absname(escript:script_name()))),
    [code:add_patha(D) || D <- filelib:wildcard(filename:join(Root, "_build/default/lib/*/ebin"))],
    logger:set_primary_config(level, warning),
    {ok, _} = application:ensure_all_started(meerkat),
    {ok, _} = meerkat:start_server(flood, config()),
    #{listeners := [{_, Port}]} = meerkat:info(flood),
    Stream = spawn_link(fun() -> stream(Port) end),
    Watch = spawn_link(fun() -> watch(0) end),
    %% A first stretch, so that no code of this script is loaded while it measures.
    "" = os:cmd("true"),
    _ = figures(),
    timer:sleep(1000),
    Before = figures(),
    Output = os:cmd(lists:join(" ", [Flood, "127.0.0.1", integer_to_list(Port),
                                     integer_to_list(?COUNT), integer_to_list(?TUPLES), Rate])),
    %% What is under way may still arrive: the stream goes on for a second.
    timer:sleep(1000),
    After = figures(),
    Queue = ask(Watch, longest),
    Figures = ask(Stream, stop),
    report(string:trim(Output), Rate, Before, After, Queue, Figures),
    ok = meerkat:stop_server(flood).

config() ->
    #{realm => <<"example.org">>, users => #{<<"alice">> => {password, <<"wonderland">>}},
      listeners => [#{transport => udp, ip => ?LOOPBACK, port => 0}],
      relays => [#{local => ?LOOPBACK, advertised => ?LOOPBACK, min_port => 49152,
                   max_port => 65535}]}.

%%% The stream: from the client through the relay to its peer, and all the way back

stream(Port) ->
    {ok, Peer} = gen_udp:open(0, [binary, {ip, ?LOOPBACK}, {active, true},
                                  {recbuf, 1 bsl 22}]),
    {ok, PeerPort} = inet:port(Peer),
    {ok, Client} = meerkat_client:start_link(#{server => {?LOOPBACK, Port},
                                               username => "alice", password => "wonderland"}),
    {ok, _} = meerkat_client:allocate(Client),
    To = {?LOOPBACK, PeerPort},
    {ok, _} = meerkat_client:bind_channel(Client, To),
    {ok, _} = timer:send_interval(?PACED_MS, beat),
    stream(Client, Peer, To, #{sent => 0, at_peer => 0, back => 0}).

stream(Client, Peer, To, #{sent := Sent, at_peer := AtPeer, back := Back} = N) ->
    receive
        beat ->
            ok = meerkat_client:send(Client, To, <<Sent:(8 * ?PAYLOAD)>>),
            stream(Client, Peer, To, N#{sent := Sent + 1});
        {udp, Peer, Ip, Port, Payload} ->
            ok = gen_udp:send(Peer, Ip, Port, Payload),
            stream(Client, Peer, To, N#{at_peer := AtPeer + 1});
        {meerkat_client, Client, {data, _, _, _}} ->
            stream(Client, Peer, To, N#{back := Back + 1});
        {meerkat_client, Client, Other} ->
            error(Other);
        {From, stop} ->
            From ! {self(), last(Client, Peer, N)}
    end.

%% Nothing is sent any more; what is under way has half a second.
last(Client, Peer, #{at_peer := AtPeer, back := Back} = N) ->
    receive
        {udp, Peer, Ip, Port, Payload} ->
            ok = gen_udp:send(Peer, Ip, Port, Payload),
            last(Client, Peer, N#{at_peer := AtPeer + 1});
        {meerkat_client, Client, {data, _, _, _}} ->
            last(Client, Peer, N#{back := Back + 1})
    after 500 ->
        N
    end.

ask(Pid, What) ->
    Pid ! {self(), What},
    receive {Pid, Answer} -> Answer end.

%%% What it costs

%% The longest queue of the processes that a flood could reach, looked at each millisecond.
watch(Longest) ->
    Names = [relay | [{request, N} || N <- lists:seq(0, meerkat_request_sup:size() - 1)]],
    Lengths = [Length || Name <- Names,
                         {message_queue_len, Length} <-
                             [process_info(meerkat_registry:note(flood, Name),
                                           message_queue_len)]],
    receive
        {From, longest} -> From ! {self(), Longest}
    after 1 ->
        watch(lists:max([Longest | Lengths]))
    end.

figures() ->
    #{relay := {ok, #{counters := Counters}}} = meerkat:info(flood),
    #{rss => rss(), atoms => erlang:system_info(atom_count), beam => erlang:memory(total),
      counters => Counters, kernel_drops => kernel_drops()}.

%% kB, as the kernel says.
rss() ->
    Pid = relay_pid(),
    {ok, Status} = file:read_file("/proc/" ++ Pid ++ "/status"),
    {match, [Kb]} = re:run(Status, "VmRSS:\\s+([0-9]+)", [{capture, all_but_first, list}]),
    list_to_integer(Kb).

relay_pid() ->
    [Pid] = [integer_to_list(OsPid)
             || Port <- erlang:ports(), {name, Name} <- [erlang:port_info(Port, name)],
                filename:basename(Name) =:= "meerkat_relay",
                {os_pid, OsPid} <- [erlang:port_info(Port, os_pid)]],
    Pid.

%% Datagrams that found the receive buffer of a UDP socket full, of the whole host.
kernel_drops() ->
    {ok, Snmp} = file:read_file("/proc/net/snmp"),
    [Names, Values] = [string:lexemes(L, " ") || <<"Udp:", L/binary>> <- string:split(Snmp, "\n",
                                                                                      all)],
    {_, Drops} = lists:keyfind(<<"RcvbufErrors">>, 1, lists:zip(Names, Values)),
    binary_to_integer(Drops).

report(Output, Rate, Before, After, Queue, #{sent := Sent, at_peer := AtPeer, back := Back}) ->
    Delta = fun(Key) -> maps:get(Key, After) - maps:get(Key, Before) end,
    #{counters := Then} = Before,
    #{counters := Now} = After,
    Counter = fun(Name) -> maps:get(Name, Now) - maps:get(Name, Then) end,
    Answered = Counter(challenges) - Counter(over_rate),
    io:format("flood             ~ts (~b tuples, rate ~ts)~n", [Output, ?TUPLES, Rate]),
    io:format("relay memory      ~b kB before, ~b kB after: ~.2f MB more~n",
              [maps:get(rss, Before), maps:get(rss, After), Delta(rss) / 1024]),
    io:format("BEAM memory       ~.2f MB more~n", [Delta(beam) / 1048576]),
    io:format("longest queue     ~b messages (relay and request processes)~n", [Queue]),
    io:format("atoms             ~b before, ~b after~n",
              [maps:get(atoms, Before), maps:get(atoms, After)]),
    io:format("requests seen     ~b, answered ~b~n", [Counter(challenges), Answered]),
    io:format("full buffers      ~b datagrams dropped by the kernel~n", [Delta(kernel_drops)]),
    [io:format("drop ~-12ts ~b~n", [Name, Counter(Name)])
     || {Name, drop, _} <- meerkat_ctl:counters(), Counter(Name) > 0],
    io:format("stream            ~b sent, ~b at the peer (~b lost), ~b back (~b lost)~n",
              [Sent, AtPeer, Sent - AtPeer, Back, AtPeer - Back]).
