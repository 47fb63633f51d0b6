%% Capturing an allocation (docs/design/seeing.md): Wireshark reads what was relayed, on both sides,
%% and what was asked and answered; payload is in the file only where it was asked for; a capture
%% has an end and a bound; and a person captures by meerkatctl, which leaves a line in the log. Each
%% block of the file is in test/c/unit/capture.c.
-module(capture_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/file.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([wireshark_reads_it/1, headers_only/1, of_other_transports/1, by_meerkatctl/1, has_bounds/1,
         ends_with_its_allocation/1]).

-import(turn_kit, [doc/1, allocated/1, allocated/3, delete/1, permit/2, bind/3, channel/3, data/1,
                   send_to/3, peer/0, peer/1, peer_send/3, peer_next/1, call/3, next/1, success/1,
                   start_server/1, stop_server/1]).

-define(CHANNEL, 16#4001).
-define(SPOKEN, <<"a word that was spoken">>).

-spec all() -> [atom()].
all() ->
    [wireshark_reads_it, headers_only, of_other_transports, by_meerkatctl, has_bounds,
     ends_with_its_allocation].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    Listeners = [#{transport => Transport, ip => Ip, port => 0}
                 || {Transport, Ip} <- [{udp, {127, 0, 0, 1}}, {udp, {0, 0, 0, 0, 0, 0, 0, 1}},
                                        {tcp, {127, 0, 0, 1}}]],
    [{server, start_server(#{listeners => Listeners})} | Config].

-spec end_per_suite(turn_kit:config()) -> term().
end_per_suite(Config) -> stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).

%% ------------------------------------------------------------------------------------- helpers

file(Config, Name) -> filename:join(proplists:get_value(priv_dir, Config), Name).

capture(#{name := Name}, Session, Options) ->
    {ok, Id} = meerkat:capture(Name, Session, Options),
    Id.

%% All that was captured is in the file.
over(#{name := Name}, Id) ->
    {ok, #{state := over, whole := true, missed := 0} = State} = meerkat:uncapture(Name, Id),
    State.

session(#{name := Name}, #{relayed := Relayed}) ->
    [Session] = [S || #{session := S, relayed := [R]} <- meerkat:allocations(Name), R =:= Relayed],
    Session.

rtp(Sequence) ->
    <<2:2, 0:6, 0:8, Sequence:16, (Sequence * 160):32, 16#a11ce:32, ?SPOKEN/binary>>.

%% By a channel and by indications, both ways; one packet is answered before the next is sent.
speaks(#{relayed := Relayed} = Client, Bound, Other) ->
    success(bind(Client, ?CHANNEL, Bound)),
    success(permit(Client, [Other])),
    channel(Client, ?CHANNEL, rtp(1)),
    {Relayed, _} = peer_next(Bound),
    peer_send(Bound, Relayed, rtp(2)),
    _ = next(Client),
    send_to(Client, Other, rtp(3)),
    {Relayed, _} = peer_next(Other),
    peer_send(Other, Relayed, check()),
    _ = data(Client),
    ok.

%% A check of ICE.
check() -> turn_kit:request(binding, [{username, <<"over:there">>}]).

%% What tshark says of each packet: fields, separated. Ports of media are named to it, as a person
%% does who knows them.
tshark(File, Server, Peers, Fields) ->
    Ports = [io_lib:format(" -d udp.port==~b,~s", [Port, As])
             || {Port, As} <- [{Server, "stun"} | Peers]],
    Names = [[" -e ", Field] || Field <- Fields],
    Said = os:cmd(lists:flatten(["tshark -n -r ", File, Ports,
                                 " --enable-heuristic rtp_stun -T fields -E 'separator=|'", Names,
                                 " 2>&1"])),
    [string:split(Line, "|", all) || Line <- string:lexemes(Said, "\n"),
                                     string:find(Line, "Running as user") =:= nomatch].

%% --------------------------------------------------------------------------------------- cases

-spec wireshark_reads_it(turn_kit:config()) -> term().
wireshark_reads_it(Config) ->
    ok = doc("tshark reads requests and answers, ChannelData, Send and Data indications and RTP in "
             "them, on the client's side and on the peers', with their addresses as comments"),
    _ = os:find_executable("tshark") =/= false orelse throw({skip, "needs tshark"}),
    #{port := Port} = Server = server(Config),
    #{relayed := {_, RelayedPort}, here := {_, ClientPort}} = Client = allocated(Server),
    [#{address := {_, PeerPort}} = Bound, #{address := {_, OtherPort}} = Other] =
        [peer(), peer({127, 0, 0, 2})],
    File = file(Config, "read.pcapng"),
    Id = capture(Server, session(Server, Client), #{file => File}),
    success(call(Client, refresh, [])),
    ok = speaks(Client, Bound, Other),
    #{packets := Packets, bytes := Bytes} = over(Server, Id),
    ?assertEqual(Bytes + 40, filelib:file_size(File)),
    Rows = tshark(File, Port, [{PeerPort, "rtp"}, {OtherPort, "rtp"}],
                  ["frame.interface_name", "udp.srcport", "udp.dstport", "frame.protocols",
                   "stun.type", "stun.channel", "rtp.seq", "rtp.ssrc", "frame.comment",
                   "frame.p2p_dir"]),
    ct:log("~p", [Rows]),
    ?assertEqual(Packets, length(Rows)),
    [C, S, R, P, O] = [integer_to_list(N) || N <- [ClientPort, Port, RelayedPort, PeerPort,
                                                   OtherPort]],
    In = [Row || ["client", From, To | Row] <- Rows, From =:= C, To =:= S],
    Out = [Row || ["client", From, To | Row] <- Rows, From =:= S, To =:= C],
    %% Refresh, ChannelBind, CreatePermission and their answers.
    [?assertMatch([_ | _], [x || [_, Type | _] <- Side, Type =:= Wanted])
     || {Side, Types} <- [{In, ["0x0004", "0x0009", "0x0008"]},
                          {Out, ["0x0104", "0x0109", "0x0108"]}],
        Wanted <- Types],
    ByChannel = "peer 127.0.0.1:" ++ P ++ " by channel 0x4001",
    ?assertMatch([["0x4001", "1", "0x000a11ce", "from the client, for " ++ _ | _]],
                 [Row || [Protocols, _ | [_, "1" | _] = Row] <- In,
                         string:find(Protocols, "stun:rtp") =/= nomatch,
                         string:find(lists:nth(4, Row), ByChannel) =/= nomatch]),
    ?assertMatch([["0x4001", "2", "0x000a11ce", "to the client, of " ++ _ | _]],
                 [Row || [_, _ | [_, "2" | _] = Row] <- Out]),
    %% Wireshark reads no RTP of an attribute that is cut.
    ?assertMatch([["from the client, for peer 127.0.0.2:" ++ O | _]],
                 [Comment || [_, "0x0016", _, _, _ | Comment] <- In]),
    ?assertMatch([["to the client, of peer 127.0.0.2:" ++ O | _]],
                 [Comment || [_, "0x0017", _, _, _ | Comment] <- Out]),
    %% The peers' side.
    ToPeers = [{To, Seq} || ["peers", From, To, _, _, _, Seq | _] <- Rows, From =:= R],
    FromPeers = [{From, Seq} || ["peers", From, To, _, _, _, Seq | _] <- Rows, To =:= R],
    ?assertEqual([{P, "1"}, {O, "3"}], ToPeers),
    ?assertMatch([{P, "2"}, {O, _}], FromPeers),
    [?assertMatch({match, _}, re:run(Comment, "the peer, relayed at 127.0.0.1:" ++ R))
     || ["peers", _, _, _, _, _, _, _, Comment | _] <- Rows],
    ok = delete(Client).

-spec headers_only(turn_kit:config()) -> term().
headers_only(Config) ->
    ok = doc("What is said is in the file only where `payload` asks for it; the file is readable "
             "by nobody else"),
    Server = server(Config),
    [begin
         Client = allocated(Server),
         File = file(Config, atom_to_list(Payload) ++ ".pcapng"),
         Id = capture(Server, session(Server, Client), #{file => File, payload => Payload}),
         ok = speaks(Client, peer(), peer({127, 0, 0, 2})),
         _ = over(Server, Id),
         {ok, Bytes} = file:read_file(File),
         %% Three datagrams, on both sides each.
         ?assertEqual(case Payload of true -> 6; false -> 0 end,
                      length(binary:matches(Bytes, ?SPOKEN))),
         {ok, #file_info{mode = Mode}} = file:read_file_info(File),
         ?assertEqual(8#600, Mode band 8#777),
         ok = delete(Client)
     end || Payload <- [false, true]].

-spec of_other_transports(turn_kit:config()) -> term().
of_other_transports(Config) ->
    ok = doc("What comes over TCP, and over IPv6, is captured as if it had been UDP, and says so"),
    Server = server(Config),
    [begin
         Client = allocated(Server, Items, Options),
         File = file(Config, Name),
         Id = capture(Server, session(Server, Client), #{file => File}),
         Peer = peer(Ip),
         success(bind(Client, ?CHANNEL, Peer)),
         channel(Client, ?CHANNEL, rtp(1)),
         _ = peer_next(Peer),
         #{packets := 4} = over(Server, Id), % with a request and its answer
         {ok, Bytes} = file:read_file(File),
         ?assertMatch([_, _ | _], binary:matches(Bytes, Said)),
         turn_kit:close(Client)
     end || {Name, Items, Options, Ip, Said} <-
                [{"tcp.pcapng", [], #{transport => tcp}, {127, 0, 0, 1}, <<"over TCP; ">>},
                 {"v6.pcapng", [{requested_address_family, 2}], #{family => v6},
                  {0, 0, 0, 0, 0, 0, 0, 1}, <<"[::1]:">>}]].

-spec by_meerkatctl(turn_kit:config()) -> term().
by_meerkatctl(Config) ->
    ok = doc("meerkatctl capture ID -o FILE writes the file where it was asked to, says how much "
             "that is, leaves nothing beside the socket, and the log says who did it"),
    #{name := Name} = Server = server(Config),
    %% The name of a socket is short.
    Directory = "/tmp/meerkat-capture-" ++ os:getpid(),
    {ok, Socket} = meerkat_admin_socket:start_link(Directory, Name),
    Client = allocated(Server),
    Ctl = fun(Args) ->
        meerkat_cli:run(["-s", filename:join(Directory, "admin.sock"), "capture" | Args])
    end,
    Id = meerkat_text:session(session(Server, Client)),
    File = file(Config, "ctl.pcapng"),
    Test = self(),
    Run = fun() -> Test ! {status, Ctl([Id, "-o", File, "--seconds", "1"])} end,
    Lines = log_kit:logged(notice, fun() ->
        _ = spawn_link(Run),
        turn_kit:eventually(fun() -> filelib:wildcard("capture-*", Directory) =/= [] end),
        turn_kit:eventually(fun() ->
            success(call(Client, refresh, [])),
            filelib:file_size(File) > 1000
        end),
        receive {status, Status} -> ?assertEqual(0, Status) end
    end),
    Deed = "by meerkatctl: capture",
    ?assertMatch([_], [Line || Line <- Lines, string:find(Line, Deed) =/= nomatch,
                               string:find(Line, Id) =/= nomatch]),
    ?assertEqual(["admin.sock"], filelib:wildcard("*", Directory)),
    {ok, Bytes} = file:read_file(File),
    Before = byte_size(Bytes) - 40,
    ?assertMatch(<<16#0A0D0D0A:32, _:(Before - 4)/binary, 5:32, 40:32, _/binary>>, Bytes),
    ?assertEqual(1, Ctl(["9-9", "-o", File])),
    ?assertEqual(1, Ctl([Id, "-o", "/nowhere/x"])),
    ?assertEqual(2, Ctl([Id])),
    unlink(Socket),
    ok = gen_server:stop(Socket),
    ok = file:del_dir_r(Directory),
    ok = delete(Client).

-spec has_bounds(turn_kit:config()) -> term().
has_bounds(Config) ->
    ok = doc("Four captures at a time, of an hour and of the size that was asked for at most, into "
             "a file that is not there yet"),
    #{name := Name} = Server = server(Config),
    Clients = [First | _] = [allocated(Server) || _ <- lists:seq(1, 5)],
    Session = session(Server, First),
    Begin = fun(S, Options) -> meerkat:capture(Name, S, Options) end,
    File = file(Config, "bounds.pcapng"),
    ok = file:write_file(File, "mine"),
    [?assertEqual({Options, {error, Refusal}}, {Options, Begin(Session, Options)})
     || {Options, Refusal} <- [{#{file => File}, {file, eexist}},
                               {#{file => "x"}, {file, relative}},
                               {#{file => "/nowhere/x"}, {file, enoent}},
                               {#{file => File, seconds => 3601}, seconds},
                               {#{file => File, max_bytes => 10}, max_bytes}]],
    ?assertEqual({ok, <<"mine">>}, file:read_file(File)),
    ?assertEqual({error, not_found}, Begin(<<"9-9">>, #{file => file(Config, "none")})),
    Ids = [capture(Server, session(Server, Client),
                   #{file => file(Config, "many" ++ integer_to_list(N)), max_bytes => 5000})
           || {N, Client} <- lists:enumerate(lists:droplast(Clients))],
    ?assertEqual({error, too_many}, Begin(session(Server, lists:last(Clients)),
                                          #{file => file(Config, "more")})),
    ?assertMatch({error, <<"so many captures", _/binary>>},
                 meerkat_admin:handle({capture, [list_to_binary(meerkat_text:session(Session)),
                                                 #{file => file(Config, "more")}]}, Name, node)),
    [success(call(First, refresh, [])) || _ <- lists:seq(1, 40)],
    ?assertMatch({over, size, true}, ended(Name, hd(Ids))),
    ?assert(filelib:file_size(file(Config, "many1")) =< 5000),
    [_ = over(Server, Id) || Id <- tl(Ids)],
    ?assertEqual({error, not_found}, meerkat:captured(Name, hd(Ids))),
    _ = [ok = delete(Client) || Client <- Clients].

%% As it says by itself.
ended(Name, Id) ->
    case meerkat:captured(Name, Id) of
        {ok, #{state := going}} -> ended(Name, Id);
        {ok, #{state := over, reason := Reason, whole := IsWhole}} -> {over, Reason, IsWhole}
    end.

-spec ends_with_its_allocation(turn_kit:config()) -> term().
ends_with_its_allocation(Config) ->
    ok = doc("A capture ends with the allocation it is of, and its file is whole"),
    #{name := Name} = Server = server(Config),
    Client = allocated(Server),
    Id = capture(Server, session(Server, Client), #{file => file(Config, "ended.pcapng")}),
    ok = delete(Client),
    ?assertEqual({over, allocation, true}, ended(Name, Id)).
