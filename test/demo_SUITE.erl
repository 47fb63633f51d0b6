%% `make demo` in its short form, and the parts of examples/stream that need no network: what the
%% README promises to whoever tries Meerkat first, or begins an application with ours. IO_BACKEND of
%% the environment reaches the demo's server.
-module(demo_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([video_over_udp/1, video_over_tls/1, says_that_it_needs_root/1,
         refuses_what_makes_no_sense/1, packets_carry_the_whole_film/1,
         packets_may_come_in_any_order/1, loss_costs_up_to_the_next_keyframe/1,
         packets_of_strangers_do_no_harm/1, callee_reaches_before_it_accepts/1,
         iq_without_an_answer/1, session_where_one_is_announced/1]).

-define(KEYFRAMES, 8).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [packets_carry_the_whole_film, packets_may_come_in_any_order,
     loss_costs_up_to_the_next_keyframe, packets_of_strangers_do_no_harm,
     callee_reaches_before_it_accepts, iq_without_an_answer, session_where_one_is_announced,
     says_that_it_needs_root,
     refuses_what_makes_no_sense, video_over_udp, video_over_tls].

%% The demo takes what was built for the tests, as the suites do.
init_per_suite(Config) ->
    true = os:putenv("REBAR_PROFILE", "test"),
    {0, _} = run("cd '" ++ example([]) ++ "' && rebar3 compile"),
    true = code:add_patha(example(["_build", "test", "lib", "stream", "ebin"])),
    File = filename:join(proplists:get_value(priv_dir, Config), "film.h264"),
    {0, _} = run("ffmpeg -v error -f lavfi -i testsrc2=size=320x240:rate=25 -t 2 -c:v libx264 "
                 "-preset veryfast -tune zerolatency -b:v 1M -sc_threshold 0 -g "
                 ++ integer_to_list(?KEYFRAMES) ++ " " ++ File),
    {ok, Film} = file:read_file(File),
    [{film, stream_rtp:access_units(Film)} | Config].

end_per_suite(_) ->
    os:unsetenv("REBAR_PROFILE").

%%% The demo

%% The script judges itself; here stands what it has to have seen.
video_over_udp(Config) ->
    Result = video("udp", "messages", Config),
    #{"direct_received" := 0, "relay_restarts" := 1, "direct_cut" := Cut} = Result,
    ?assert(Cut > 0).

video_over_tls(Config) ->
    #{"relay_restarts" := 0} = video("tls", "jingle", Config).

video(Transport, Way, Config) ->
    Kept = filename:join(proplists:get_value(priv_dir, Config), Transport),
    {0, Said} = run(example(["demo.sh"]) ++ " --seconds 8 --transport " ++ Transport ++ " --way "
                    ++ Way ++ " --keep " ++ Kept),
    ct:log("~ts", [Said]),
    {match, _} = re:run(Said, "Alice: in a call with bob@demo.example/demo at [0-9.:]+, by "
                        ++ Way, [unicode]),
    Result = result(filename:join(Kept, "result")),
    #{"frames_sent" := 200, "frames_decoded" := Decoded, "frames_received" := Decoded} = Result,
    ?assert(Decoded > 200 - 25),
    [?assert(map_get(Name, Result) > 0)
     || Name <- ["reports_received", "relayed_from_alice", "relayed_from_bob"]],
    %% Nothing of it is left.
    Rooms = "demo-" ++ integer_to_list(map_get("pid", Result)) ++ "-",
    ?assertEqual(nomatch, string:find(os:cmd("ip netns list"), Rooms)),
    Result.

result(File) ->
    {ok, Text} = file:read_file(File),
    maps:from_list([begin
                        [Name, Number] = string:split(Line, "="),
                        {binary_to_list(Name), binary_to_integer(Number)}
                    end || Line <- binary:split(Text, <<"\n">>, [global, trim])]).

says_that_it_needs_root(_) ->
    %% By stdin, as a stranger may not read where we stand.
    {2, Said} = run("setpriv --reuid=65534 --clear-groups bash -s <" ++ example(["demo.sh"])),
    ?assertNotEqual(nomatch, string:find(Said, "only root may")).

refuses_what_makes_no_sense(_) ->
    [{2, _} = run(example(["demo.sh "]) ++ Arguments)
     || Arguments <- ["--seconds", "--seconds x", "--seconds 2", "--way pigeon", "--transport sctp",
                     "--sound on"]],
    {1, _} = run(example(["stream"]) ++ " send no-such-film"),
    {2, _} = run(example(["stream"])).

%%% RFC 6184

packets_carry_the_whole_film(Config) ->
    Film = film(Config),
    ?assertEqual(50, length(Film)),
    ?assert(lists:any(fun(Packet) -> byte_size(Packet) > 1000 end, packets(Film))),
    ?assertEqual({Film, #{lost => 0, shown => 50, skipped => 0}}, received(packets(Film))).

packets_may_come_in_any_order(Config) ->
    Film = film(Config),
    Turned = [Packet || Chunk <- chunks(packets(Film)), Packet <- lists:reverse(Chunk)],
    ?assertEqual({Film, #{lost => 0, shown => 50, skipped => 0}},
                 received([hd(packets(Film)) | Turned])).

%% Each packet in turn is lost, with the same outcome as seen from afar: a hole that ends at a
%% picture which needs no other, and nothing in what is left that was not sent so.
loss_costs_up_to_the_next_keyframe(Config) ->
    Film = film(Config),
    Packets = packets(Film),
    Owners = lists:append([lists:duplicate(length(stream_rtp:packets(Nals, 0, 0, 0)), N)
                           || {N, Nals} <- lists:zip(lists:seq(0, 49), Film)]),
    [begin
         {Before, [_ | After]} = lists:split(Nth, Packets),
         Hit = lists:nth(Nth + 1, Owners),
         Next = min(50, (Hit div ?KEYFRAMES + 1) * ?KEYFRAMES),
         Whole = [Nals || {N, Nals} <- lists:zip(lists:seq(0, 49), Film), N < Hit orelse N >= Next],
         {Got, #{lost := 1, shown := Shown}} = received(Before ++ After),
         ?assertEqual({Nth, Whole}, {Nth, Got}),
         ?assertEqual(length(Whole), Shown)
     end || Nth <- lists:seq(1, length(Packets) - 2, 3), lists:nth(Nth + 1, Owners) < 49].

packets_of_strangers_do_no_harm(_) ->
    [begin
         Bytes = crypto:strong_rand_bytes(rand:uniform(60)),
         _ = stream_rtp:parse_report(Bytes),
         _ = received([Bytes, <<16#80, 96, N:16, 0:32, 0:32, Bytes/binary>>])
     end || N <- lists:seq(1, 2000)],
    ?assertEqual(error, stream_rtp:parse(<<>>)),
    ?assertEqual([], stream_rtp:access_units(<<>>)),
    ?assertEqual([], stream_rtp:access_units(<<"no film">>)).

%% What the caller sends when it hears of the answer finds the way open. We are the connection.
callee_reaches_before_it_accepts(_) ->
    Test = self(),
    Ours = #{relayed => {{192, 0, 2, 1}, 1}, mapped => {{192, 0, 2, 2}, 2},
             direct => {{192, 0, 2, 3}, 3}},
    [begin
         Callee = spawn_link(fun() ->
             Reach = fun(#{relayed := Peer}) -> Test ! {reached, Peer}, ok end,
             Test ! {came, stream_call:await(Test, <<"a@b">>, Ours, Reach)}
         end),
         Callee ! {xmpp, Test, fxml_stream:parse_element(Offer)},
         {reached, {{192, 0, 2, 7}, 7}} = told_next(),
         case told_next() of
             {'$gen_call', From, {ask, <<"a@b/c">>, <<"set">>, Jingle}} ->
                 ?assertEqual(<<"session-accept">>, fxml:get_tag_attr_s(<<"action">>, Jingle)),
                 gen_server:reply(From, fxml_stream:parse_element(<<"<iq type='result'/>">>));
             {'$gen_cast', {send, Message}} ->
                 ?assertMatch(<<"answer ", _/binary>>, fxml:get_subtag_cdata(Message, <<"body">>))
         end,
         {came, {ok, #{}, #{}}} = told_next()
     end || Offer <- [<<"<message from='a@b/c'><body>call relayed=192.0.2.7:7 "
                        "mapped=192.0.2.8:8 direct=192.0.2.9:9</body></message>">>,
                      <<"<iq from='a@b/c' type='set' id='1'>"
                        "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' sid='s'>"
                        "<content><transport><candidate type='relay' ip='192.0.2.7' port='7' "
                        "rel-addr='192.0.2.8' rel-port='8'/>"
                        "<candidate type='srflx' ip='192.0.2.9' port='9'/>"
                        "</transport></content></jingle></iq>">>]].

%% But for the result that each iq has at once.
told_next() ->
    receive
        {'$gen_cast', {send, {xmlel, <<"iq">>, _, _}}} -> told_next();
        Message -> Message
    after 30000 -> error(nothing)
    end.

%% Who is asked may be slow, or gone; neither is a crash of who asks.
iq_without_an_answer(_) ->
    Ping = {xmlel, <<"ping">>, [], []},
    Silent = spawn_link(fun() -> receive stop -> ok end end),
    ?assertEqual({error, <<"no answer">>}, stream_xmpp:ask(Silent, server, <<"get">>, Ping)),
    Monitor = monitor(process, Silent),
    Silent ! stop,
    receive {'DOWN', Monitor, process, Silent, _} -> ok end,
    ?assertEqual({error, <<"the XMPP server hung up">>},
                 stream_xmpp:ask(Silent, server, <<"get">>, Ping)).

%% A server as MongooseIM is: it serves nobody who has not asked for the session it announces. One
%% that announces none is not asked.
session_where_one_is_announced(Config) ->
    #{certificate := Ca} = Authority =
        certificate_kit:authority(proplists:get_value(priv_dir, Config)),
    #{certificate := Certificate, key := Key} =
        certificate_kit:issued(Authority, "DNS:demo.example"),
    [{ok, _} = application:ensure_all_started(Needed) || Needed <- [ssl, fast_xml]],
    Tls = [{certfile, Certificate}, {keyfile, Key}],
    [?assertEqual(Wanted, asked_of_a_server(Announced, Ca, Tls))
     || {Announced, Wanted} <-
            [{"", [<<"bind">>]},
             {"<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>",
              [<<"bind">>, <<"session">>]}]].

asked_of_a_server(Announced, Ca, Tls) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Port} = inet:port(Listener),
    Test = self(),
    Server = spawn_link(fun() ->
        Test ! {asked, played(Listener, Tls, Announced)},
        receive stop -> ok end
    end),
    {ok, Xmpp} = stream_xmpp:start_link(#{jid => <<"u@demo.example/r">>, password => <<"p">>,
                                          server => {{127, 0, 0, 1}, Port}, ca => Ca}),
    Asked = receive {asked, Ids} -> Ids end,
    ok = stream_xmpp:stop(Xmpp),
    Server ! stop,
    ok = gen_tcp:close(Listener),
    Asked.

%% The ids of what was asked for before the presence.
played(Listener, Tls, Announced) ->
    {ok, Tcp} = gen_tcp:accept(Listener),
    Plain = fun() -> gen_tcp:recv(Tcp, 0) end,
    _ = heard(Plain, "<stream:stream[^>]*>"),
    ok = gen_tcp:send(Tcp, [header(), features("<starttls xmlns='urn:ietf:params:xml:ns:"
                                               "xmpp-tls'/>")]),
    _ = heard(Plain, "<starttls[^>]*>"),
    ok = gen_tcp:send(Tcp, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
    {ok, Socket} = ssl:handshake(Tcp, Tls),
    Recv = fun() -> ssl:recv(Socket, 0) end,
    _ = heard(Recv, "<stream:stream[^>]*>"),
    ok = ssl:send(Socket, [header(), features("")]),
    _ = heard(Recv, "<auth .*</auth>"),
    ok = ssl:send(Socket, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
    _ = heard(Recv, "<stream:stream[^>]*>"),
    ok = ssl:send(Socket, [header(), features(Announced)]),
    granted(Socket, Recv).

granted(Socket, Recv) ->
    case re:run(heard(Recv, "</iq>|<presence"), "<iq[^>]* id='([a-z]+)'",
                [{capture, all_but_first, binary}]) of
        {match, [Id]} ->
            ok = ssl:send(Socket, ["<iq type='result' id='", Id, "'/>"]),
            [Id | granted(Socket, Recv)];
        nomatch ->
            []
    end.

header() ->
    "<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='1' version='1.0' "
    "from='demo.example' xmlns:stream='http://etherx.jabber.org/streams'>".

features(Children) -> ["<stream:features>", Children, "</stream:features>"].

heard(Recv, Until) -> heard(Recv, Until, <<>>).

heard(Recv, Until, Before) ->
    {ok, Bytes} = Recv(),
    All = <<Before/binary, Bytes/binary>>,
    case re:run(All, Until, [dotall]) of
        {match, _} -> All;
        nomatch -> heard(Recv, Until, All)
    end.

film(Config) -> proplists:get_value(film, Config).

%% Numbers pass the end of their 16 bits on the way.
packets(Film) ->
    {Packets, _} = lists:mapfoldl(fun(Nals, {N, Seq}) ->
                                          Cut = stream_rtp:packets(Nals, N * 3600, Seq, 7),
                                          {Cut, {N + 1, Seq + length(Cut)}}
                                  end, {0, 65500}, Film),
    lists:append(Packets).

chunks([A, B, C | More]) -> [[A, B, C] | chunks(More)];
chunks(Rest) -> [Rest].

%% A packet each 10 ms.
received(Packets) ->
    Take = fun(Packet, {N, Bytes, S0}) ->
                   case stream_rtp:parse(Packet) of
                       {ok, Parsed} ->
                           {More, S} = stream_jitter:take(Parsed, N * 10, S0),
                           {N + 1, [Bytes, More], S};
                       error -> {N + 1, Bytes, S0}
                   end
           end,
    {_, Bytes, S0} = lists:foldl(Take, {0, [], stream_jitter:new()}, Packets),
    {Last, S} = stream_jitter:flush(S0),
    {stream_rtp:access_units(iolist_to_binary([Bytes, Last])),
     maps:with([lost, shown, skipped], stream_jitter:info(S))}.

%%% Programs

example(Parts) ->
    filename:join([code:lib_dir(meerkat), "..", "..", "..", "..", "examples", "stream" | Parts]).

%% Its exit status and all it said.
run(Command) ->
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", Command]}, exit_status, stderr_to_stdout, binary]),
    said(Port, []).

said(Port, Said) ->
    receive
        {Port, {data, Data}} -> said(Port, [Said, Data]);
        {Port, {exit_status, Status}} ->
            {Status, unicode:characters_to_list(iolist_to_binary(Said))}
    end.
