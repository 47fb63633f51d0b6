#!/usr/bin/env escript
%%! +pc unicode -env ERL_CRASH_DUMP_BYTES 0 +sbwt none +sbwtdcpu none +sbwtdio none
%% A server, an allocation that relays a paced stream both ways, and a million Allocates without
%% credentials from a hundred thousand tuples: what does the flood cost, and who feels it?
%%
%%     flood.escript FLOOD-PROGRAM RATE
%%     flood.escript FLOOD-PROGRAM RATE SECONDS
%%
%% With SECONDS: floods of other kinds, one after the other, on each backend and each for so long,
%% through the one worker that the stream goes through.
%%
%% Run by `make flood` and `make floods`. The server is a real one on loopback in this node, its relay
%% program a process of its own; so are the flood and, for the stream, the client and its peer.
-mode(compile).

-define(COUNT, 1000000).
-define(TUPLES, 100000).
-define(PACED_MS, 2).
-define(PAYLOAD, 172).
-define(LOOPBACK, {127, 0, 0, 1}).

main([Flood, Rate, Seconds]) ->
    start(),
    io:format("| flood | backend | a second | us of the relay for each | its system calls for each "
              "| stream lost, to the peer | and back | Allocates of others answered at once "
              "| not taken |~n"
              "|---|---|---|---|---|---|---|---|---|~n"),
    [kind(Kind, Backend, Flood, list_to_integer(Rate), list_to_integer(Seconds))
     || Kind <- [none, 'Send', 'Send with DONT-FRAGMENT', 'Send to who cannot be reached',
                 'empty datagrams', 'one good nonce, wrong key'],
        Backend <- [io_uring, epoll]],
    ok;
main([Flood, Rate]) ->
    start(),
    strangers(Flood, Rate).

start() ->
    Root = filename:dirname(filename:dirname(filename:absname(escript:script_name()))),
    [code:add_patha(D) || D <- filelib:wildcard(filename:join(Root, "_build/default/lib/*/ebin"))],
    logger:set_primary_config(level, warning),
    {ok, _} = application:ensure_all_started(meerkat),
    ok.

%%% Strangers

strangers(Flood, Rate) ->
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

%%% Floods by kind

kind(Kind, Backend, Flood, Rate, Seconds) ->
    {ok, _} = meerkat:start_server(flood, (config())#{workers => 1, io_backend => Backend}),
    #{listeners := [{_, Port} | _]} = meerkat:info(flood),
    {From, Payload, Held} = flooder(Kind, Port),
    Stream = spawn_link(fun() -> stream(Port) end),
    timer:sleep(500),
    {Cpu0, Before} = {cpu_us(), figures()},
    {_, Calls0} = counted(["sleep ", integer_to_list(Seconds)]),
    %% What the stream costs by itself, in as long.
    {Cpu1, Us} = {cpu_us(), erlang:monotonic_time(microsecond)},
    Others = spawn_link(fun() -> others(Port, {0, 0}) end),
    {Sent, Calls1} = case Kind of
        none -> timer:sleep(1000 * Seconds), {0, none};
        _ -> sent(Flood, Port, From, Rate, Rate * Seconds, Payload)
    end,
    Took = erlang:monotonic_time(microsecond) - Us,
    Cpu2 = cpu_us(),
    After = figures(),
    #{sent := Streamed, at_peer := AtPeer, back := Back} = ask(Stream, stop),
    {Answered, Tried} = ask(Others, stop),
    Longer = Took / (1.0e6 * Seconds),
    Each = case Sent of 0 -> 0.0; _ -> max(0.0, Cpu2 - Cpu1 - (Cpu1 - Cpu0) * Longer) / Sent end,
    Calls = case is_integer(Calls0) andalso is_integer(Calls1) of
        true -> io_lib:format("~.2f", [(Calls1 - Calls0 * Longer) / Sent]);
        false -> "–"
    end,
    io:format("| ~ts | ~ts | ~b | ~.2f | ~ts | ~b of ~b | ~b | ~b of ~b | ~ts |~n",
              [Kind, Backend, round(Sent * 1.0e6 / Took), Each, Calls, Streamed - AtPeer, Streamed,
               AtPeer - Back, Answered, Tried, not_taken(Before, After)]),
    ok = Held(),
    ok = meerkat:stop_server(flood).

%% Clients at another address, one after the other: who sends each request once gets an allocation?
others(Port, {Answered, Tried}) ->
    receive
        {From, stop} -> From ! {self(), {Answered, Tried}}
    after 50 ->
        {ok, Client} = meerkat_client:start_link(#{server => {?LOOPBACK, Port}, rc => 1, rm => 1,
                                                   local => {127, 0, 0, 2},
                                                   username => "alice", password => "wonderland"}),
        Now = case meerkat_client:allocate(Client) of
            {ok, _} -> {Answered + 1, Tried + 1};
            {error, _} -> {Answered, Tried + 1}
        end,
        ok = meerkat_client:close(Client),
        others(Port, Now)
    end.

sent(Flood, Port, From, Rate, Count, Payload) ->
    {Output, Calls} = counted(lists:join(" ", [Flood, "127.0.0.1", integer_to_list(Port),
                                               integer_to_list(Count), integer_to_list(From),
                                               integer_to_list(Rate), ["'", hex(Payload), "'"]])),
    {match, [Sent]} = re:run(Output, "^([0-9]+) sent", [multiline, {capture, all_but_first, list}]),
    {list_to_integer(Sent), Calls}.

%% What a command says, and the system calls of the relay program meanwhile; none where there is no
%% perf to count them.
counted(Command) ->
    case os:find_executable("perf") of
        false ->
            {os:cmd(Command), none};
        Perf ->
            Output = os:cmd([Perf, " stat -x, -e raw_syscalls:sys_enter -p ", relay_pid(), " -- ",
                             Command]),
            case re:run(Output, "^([0-9]+),,raw_syscalls", [multiline,
                                                           {capture, all_but_first, list}]) of
                {match, [Calls]} -> {Output, list_to_integer(Calls)};
                nomatch -> {Output, none}
            end
    end.

hex(Bytes) -> [io_lib:format("~2.16.0b", [B]) || <<B>> <= Bytes].

%% The drops there were, by reason.
not_taken(#{counters := Then}, #{counters := Now}) ->
    Drops = [{Name, maps:get(Name, Now) - maps:get(Name, Then)}
             || {Name, drop, _} <- meerkat_ctl:counters()],
    lists:join(", ", [io_lib:format("~ts ~b", [Name, N]) || {Name, N} <- Drops, N > 0]).

%% What one client sends, from which port, and what ends what it needed for that.
flooder(none, _Port) ->
    {1, <<>>, fun() -> ok end};
flooder('empty datagrams', _Port) ->
    {40000, <<>>, fun() -> ok end};
flooder('one good nonce, wrong key', Port) ->
    {ok, Socket} = gen_udp:open(0, [binary, {ip, ?LOOPBACK}, {active, false}]),
    {ok, From} = inet:port(Socket),
    Plain = #{class => request, method => refresh, transaction_id => <<1:96>>, attributes => []},
    ok = gen_udp:send(Socket, ?LOOPBACK, Port, meerkat_stun:encode(Plain)),
    {ok, {_, _, Answer}} = gen_udp:recv(Socket, 0, 5000),
    {ok, Challenge} = meerkat_stun:decode(Answer),
    Asked = [{Name, Value} || Name <- [realm, nonce],
                              {ok, Value} <- [meerkat_stun:get(Name, Challenge)]],
    Signed = Plain#{attributes := [{username, <<"alice">>} | Asked],
                    integrity => {sha1, <<"not the key">>}},
    {From, meerkat_stun:encode(Signed), fun() -> gen_udp:close(Socket) end};
flooder(Kind, Port) ->
    {ok, Sink} = gen_udp:open(0, [binary, {ip, ?LOOPBACK}, {active, false}]),
    {ok, At} = inet:port(Sink),
    {ok, Client} = meerkat_client:start_link(#{server => {?LOOPBACK, Port},
                                               local => ?LOOPBACK,
                                               username => "alice", password => "wonderland"}),
    {ok, _} = meerkat_client:allocate(Client),
    Peer = case Kind of
        'Send to who cannot be reached' -> {{11, 0, 0, 9}, 9};
        _ -> {?LOOPBACK, At}
    end,
    ok = meerkat_client:permit(Client, [element(1, Peer)]),
    #{local := {_, From}} = meerkat_client:info(Client),
    Fragments = [{dont_fragment, true} || Kind =:= 'Send with DONT-FRAGMENT'],
    Send = #{class => indication, method => send, transaction_id => <<2:96>>,
             attributes => [{xor_peer_address, Peer}, {data, <<0:(8 * ?PAYLOAD)>>} | Fragments]},
    {From, meerkat_stun:encode(Send), fun() ->
        ok = meerkat_client:close(Client),
        gen_udp:close(Sink)
    end}.

%% Of the relay program, user and system.
cpu_us() ->
    {ok, Stat} = file:read_file("/proc/" ++ relay_pid() ++ "/stat"),
    [_, Rest] = string:split(Stat, ") "),
    Fields = string:lexemes(Rest, " "),
    lists:sum([binary_to_integer(lists:nth(N, Fields)) || N <- [12, 13]]) * 10000.

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
                             [process_info(meerkat_roles:find(flood, Name),
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
