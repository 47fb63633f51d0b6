%% `stream send` and `stream receive`: a video from one XMPP user to another through the relay that
%% their server names. Begin to read here: online/1 is what every application does to get a relayed
%% address, send_video/2 and receive_video/2 are what this one does with it.
%%
%% One process does it all and never waits in the middle: what comes, from XMPP, relay, or clock, it
%% takes from its mailbox. On stdout go lines for people and, once a second, lines for programs:
%% "progress" or, at the end, "result", then KEY=VALUE as often as needed.
-module(stream).

-export([main/0]).

-define(USAGE, "usage: stream send --jid USER@DOMAIN/RESOURCE --to USER@DOMAIN/RESOURCE --server "
               "HOST[:PORT]\n                   --ca FILE [--way messages|jingle] [--fps N] "
               "FILE.h264\n       stream receive --jid USER@DOMAIN/RESOURCE --from USER@DOMAIN "
               "--server HOST[:PORT]\n                   --ca FILE FILE.h264\n\n"
               "The user's password is in the environment: STREAM_PASSWORD.\n").
-define(CLOCK, 90000).                  % of RTP timestamps of video (RFC 6184 8.2.1)
-define(REPORT_MS, 200).
-define(SECOND_MS, 1000).

-spec main() -> no_return().
main() ->
    process_flag(trap_exit, true),
    {ok, _} = application:ensure_all_started(stream),
    try
        run(init:get_plain_arguments()),
        erlang:halt(0)
    catch
        throw:{usage, Sentence} ->
            io:put_chars(standard_error, ["stream: ", Sentence, "\n", ?USAGE]),
            erlang:halt(2);
        throw:Sentence ->
            io:put_chars(standard_error, ["stream: ", Sentence, "\n"]),
            erlang:halt(1)
    end.

run(["send" | Args]) ->
    send(options(Args, #{"transport" => "udp", "way" => "messages", "fps" => "25"}));
run(["receive" | Args]) ->
    receive_(options(Args, #{"transport" => "udp"}));
run(_) ->
    throw({usage, "send or receive?"}).

options(["--" ++ Name, Value | More], Options) -> options(More, Options#{Name => Value});
options([File], Options) -> Options#{"file" => File};
options(_, _) -> throw({usage, "one file, please"}).

option(Name, Options) ->
    case Options of
        #{Name := Value} -> unicode:characters_to_binary(Value);
        _ -> throw({usage, ["--", Name, " is missing"]})
    end.

%% ---------------------------------------------------------------------------- getting a relay

%% Logs in, asks for a relay, allocates: `ours` is what the other side has to be told.
online(Options) ->
    Transport = transport(Options),
    Xmpp = ok(stream_xmpp:start_link(#{jid => option("jid", Options), password => password(),
                                       server => server(option("server", Options)),
                                       ca => option("ca", Options)})),
    #{host := Host} = Relay = relay(Transport, ok(stream_xmpp:services(Xmpp))),
    Trusted = maps:from_list([{cacertfile, option("ca", Options)} || Transport =:= tls]),
    Turn = turn(meerkat_client:start_link(
                  (maps:merge(maps:with([username, password], Relay), Trusted))
                  #{server => {binary_to_list(Host), port(Transport, Relay)},
                    transport => Transport})),
    #{relayed := Relayed, mapped := Mapped, server := At} = turn(meerkat_client:allocate(Turn)),
    say("online as ~ts; relayed address ~s, behind ~s",
        [option("jid", Options), meerkat_client:format_address(Relayed),
         meerkat_client:format_address(Mapped)]),
    direct_way(Transport, At, #{xmpp => Xmpp, turn => Turn,
                                ours => #{relayed => Relayed, mapped => Mapped}}).

%% Who has to speak TCP to the relay gets no UDP through to anybody.
direct_way(udp, At, #{ours := Ours} = S) ->
    {Socket, Direct} = ok(stream_direct:open(At)),
    S#{direct => Socket, probes => 0, direct_received => 0, ours := Ours#{direct => Direct}};
direct_way(_, _, S) ->
    S.

transport(#{"transport" := "udp"}) -> udp;
transport(#{"transport" := "tcp"}) -> tcp;
transport(#{"transport" := "tls"}) -> tls;
transport(_) -> throw({usage, "--transport is udp, tcp or tls"}).

%% XEP-0215 knows TLS as the type `turns`, over TCP.
relay(Transport, Services) ->
    {Type, Over} = case Transport of
                       udp -> {<<"turn">>, <<"udp">>};
                       tcp -> {<<"turn">>, <<"tcp">>};
                       tls -> {<<"turns">>, <<"tcp">>}
                   end,
    case [S || #{type := T} = S <- Services, T =:= Type,
               maps:get(transport, S, Over) =:= Over] of
        [Relay | _] -> Relay;
        [] -> throw(["the XMPP server names no TURN server for ", atom_to_list(Transport)])
    end.

port(tls, Relay) -> maps:get(port, Relay, 5349);
port(_, Relay) -> maps:get(port, Relay, 3478).

password() ->
    case os:getenv("STREAM_PASSWORD") of
        false -> throw({usage, "STREAM_PASSWORD is not set"});
        Password -> unicode:characters_to_binary(Password)
    end.

server(Text) ->
    case string:split(Text, ":", trailing) of
        [Host, Port] -> {binary_to_list(Host), binary_to_integer(Port)};
        [Host] -> {binary_to_list(Host), 5222}
    end.

%% Opens the way to the other side: their relayed address, from ours.
reach(#{turn := Turn}, #{relayed := Peer}) ->
    _ = turn(meerkat_client:bind_channel(Turn, Peer)),
    ok.

connect(S, Call, #{relayed := Peer} = Theirs) ->
    say("in a call with ~ts at ~s, by ~s",
        [maps:get(peer, Call), meerkat_client:format_address(Peer), maps:get(way, Call)]),
    S#{call => Call, peer => Peer, theirs => Theirs, next_second => now_ms() + ?SECOND_MS}.

leave(#{xmpp := Xmpp, turn := Turn} = S) ->
    _ = meerkat_client:release(Turn),
    ok = meerkat_client:close(Turn),
    _ = [ok = stream_direct:close(Direct) || #{direct := Direct} <- [S]],
    ok = stream_xmpp:stop(Xmpp).

%% ------------------------------------------------------------------------------------- sending

send(#{"file" := File} = Options) ->
    Frames = stream_rtp:access_units(ok(file:read_file(File), File)),
    Frames =/= [] orelse throw([File, " is no H.264 byte stream"]),
    #{xmpp := Xmpp, ours := Ours} = S = online(Options),
    {Call, Theirs} = ok(stream_call:call(Xmpp, way(Options), option("to", Options), Ours)),
    ok = reach(S, Theirs),
    send_video(Frames, connect(S, Call, Theirs), binary_to_integer(option("fps", Options))).

way(#{"way" := "messages"}) -> messages;
way(#{"way" := "jingle"}) -> jingle;
way(_) -> throw({usage, "--way is messages or jingle"}).

send_video(Frames, S0, Fps) ->
    <<Seq:16, Ssrc:32>> = crypto:strong_rand_bytes(6),
    S = S0#{fps => Fps, seq => Seq, ssrc => Ssrc, start => now_ms(), frames => 0, packets => 0,
            reports => 0, reported => #{lost => 0, highest => 0}},
    Last = all_heard(lists:foldl(fun send_frame/2, S, Frames)),
    _ = stream_call:hang_up(maps:get(call, Last), "that was the film"),
    tell("result", sent(Last)),
    leave(Last).

send_frame(Nals, #{frames := N, fps := Fps, start := Start, seq := Seq, ssrc := Ssrc,
                   packets := Sent} = S0) ->
    #{turn := Turn, peer := Peer} = S = until(Start + N * 1000 div Fps, S0),
    Packets = stream_rtp:packets(Nals, N * ?CLOCK div Fps, Seq, Ssrc),
    [ok = meerkat_client:send(Turn, Peer, Packet) || Packet <- Packets],
    S#{frames := N + 1, seq := Seq + length(Packets), packets := Sent + length(Packets)}.

%% The last packets are on their way still: a report of them is awaited, but not for ever.
all_heard(S) -> all_heard(now_ms() + ?SECOND_MS, S).

all_heard(Deadline, #{seq := Seq, reported := #{highest := Highest}} = S) ->
    case (Seq - 1 - Highest) band 16#ffff =:= 0 orelse now_ms() >= Deadline of
        true -> S;
        false -> all_heard(Deadline, until(min(Deadline, now_ms() + ?REPORT_MS), S))
    end.

sent(#{frames := Frames, packets := Packets, reports := Reports, reported := Reported} = S) ->
    [{frames_sent, Frames}, {packets_sent, Packets}, {reports_received, Reports},
     {reported_lost, maps:get(lost, Reported)} | direct(S)].

%% ----------------------------------------------------------------------------------- receiving

receive_(#{"file" := Name} = Options) ->
    File = ok(file:open(Name, [raw, binary, write, delayed_write]), Name),
    #{xmpp := Xmpp, ours := Ours} = S = online(Options),
    say("waiting for a call of ~ts", [option("from", Options)]),
    Reach = fun(Theirs) -> reach(S, Theirs) end,
    {Call, Theirs} = ok(stream_call:await(Xmpp, option("from", Options), Ours, Reach)),
    receive_video(connect(S, Call, Theirs), File).

receive_video(S0, File) ->
    <<Ssrc:32>> = crypto:strong_rand_bytes(4),
    S = receive_all(S0#{file => File, jitter => stream_jitter:new(), ssrc => Ssrc, reports => 0,
                        next_report => now_ms() + ?REPORT_MS}),
    {Pictures, Jitter} = stream_jitter:flush(maps:get(jitter, S)),
    ok = file:write(File, Pictures),
    ok = file:close(File),
    tell("result", received(S#{jitter := Jitter})),
    leave(S).

receive_all(#{over := true} = S) -> S;
receive_all(#{next_report := At} = S) ->
    case now_ms() >= At of
        true -> receive_all(report(S#{next_report := At + ?REPORT_MS}));
        false -> receive_all(once(At, S))
    end.

report(#{source := Source, turn := Turn, peer := Peer, ssrc := Ssrc, jitter := Jitter,
         reports := Sent} = S) ->
    #{lost := Lost, highest := Highest} = stream_jitter:info(Jitter),
    ok = meerkat_client:send(Turn, Peer, stream_rtp:report(Ssrc, Source, Lost, Highest)),
    S#{reports := Sent + 1};
report(S) ->
    S.

received(#{jitter := Jitter, reports := Reports} = S) ->
    #{received := Packets, lost := Lost, shown := Shown, skipped := Skipped,
      silence_ms := Silence} = stream_jitter:info(Jitter),
    [{packets_received, Packets}, {packets_missed, Lost}, {frames_written, Shown},
     {frames_skipped, Skipped}, {longest_silence_ms, Silence}, {reports_sent, Reports}
     | direct(S)].

%% ---------------------------------------------------------------------------------- what comes

%% Takes what comes until then.
until(Deadline, S0) ->
    case now_ms() >= Deadline of
        true -> S0;
        false -> until(Deadline, once(Deadline, S0))
    end.

%% Takes one thing, if it comes in time; each second tells how it stands.
once(Deadline, #{next_second := Second} = S0) ->
    S = receive
            Message -> came(Message, S0)
        after max(0, min(Deadline, Second) - now_ms()) -> S0
        end,
    case now_ms() >= Second of
        true -> second(S#{next_second := Second + ?SECOND_MS});
        false -> S
    end.

came({meerkat_client, Turn, {data, Peer, Data, _}}, #{turn := Turn, peer := Peer} = S) ->
    media(Data, S);
came({meerkat_client, Turn, {lost, Reason}}, #{turn := Turn}) ->
    throw(meerkat_client:format_error(Reason));
came({meerkat_client, Turn, {closed, _}}, #{turn := Turn}) ->
    throw("the socket to the relay is gone");
came({xmpp, Xmpp, Stanza}, #{xmpp := Xmpp, call := Call} = S) ->
    case stream_call:is_over(Call, Stanza) of
        true -> S#{over => true};
        false -> S
    end;
came({udp, Socket, _, _, _}, #{direct := Socket, direct_received := N} = S) ->
    S#{direct_received := N + 1};
came({'EXIT', Xmpp, _}, #{xmpp := Xmpp}) ->
    throw("the XMPP server hung up");
came(_, S) ->
    S.

%% Each side knows what it expects: the receiver packets, the sender reports of them.
media(Data, #{jitter := Jitter0, file := File} = S) ->
    case stream_rtp:parse(Data) of
        {ok, #{ssrc := Ssrc} = Packet} ->
            {Pictures, Jitter} = stream_jitter:take(Packet, now_ms(), Jitter0),
            ok = file:write(File, Pictures),
            S#{jitter := Jitter, source => Ssrc};
        error -> S
    end;
media(Data, #{reports := N} = S) ->
    case stream_rtp:parse_report(Data) of
        {ok, Reported} -> S#{reports := N + 1, reported := Reported};
        error -> S
    end.

second(S0) ->
    S = try_directly(S0),
    tell("progress", case S of #{jitter := _} -> received(S); _ -> sent(S) end),
    S.

try_directly(#{direct := Socket, theirs := #{direct := Direct}, probes := N} = S) ->
    ok = stream_direct:probe(Socket, Direct),
    S#{probes := N + 1};
try_directly(S) ->
    S.

direct(#{probes := Sent, direct_received := Received}) ->
    [{direct_sent, Sent}, {direct_received, Received}];
direct(_) ->
    [].

%% ------------------------------------------------------------------------------------ telling

say(Format, Args) -> io:format(Format ++ "~n", Args).

tell(What, Pairs) -> io:format("~s~s~n", [What, [io_lib:format(" ~s=~b", [K, V])
                                                 || {K, V} <- Pairs]]).

ok({ok, Value}) -> Value;
ok({ok, A, B}) -> {A, B};
ok({error, Sentence}) -> throw(Sentence).

ok({ok, Value}, _) -> Value;
ok({error, Reason}, File) -> throw([File, ": ", file:format_error(Reason)]).

turn({ok, Value}) -> Value;
turn({error, Reason}) -> throw(meerkat_client:format_error(Reason, "the relay")).

now_ms() -> erlang:monotonic_time(millisecond).
