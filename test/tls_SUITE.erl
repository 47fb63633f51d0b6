%% TLS as a client finds it: versions, ciphers and certificates, what is refused and under which
%% name it is counted, and what a reload does to certificates. What travels inside is in
%% stream_SUITE. Named after the rows of the threat table where there is one.
-module(tls_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2]).
-export([s7_suites/1, x95_versions/1, x95_ciphers/1, x96_renegotiation/1, x97_tickets/1,
         x97_no_early_data/1, x99_alpn/1]).
-export([by_name/1, ecdsa_and_rsa/1, shares_the_port_of_tcp/1, plain_on_the_port_of_tls/1,
         distrust_is_counted/1, close_notify/1, reload/1, bad_pair_at_reload/1, bad_pair_at_start/1,
         files/1, turnutils_tcp/1, turnutils_tls/1,
         turnutils_tls_to_the_port_of_tcp/1, idle_memory/1]).

-import(turn_kit, [doc/1, open/2, request/2, allocated/3, permit/2, send_to/3, peer/0, peer_next/1,
                   fence/1, success/1, counted/3, with_server/2, eventually/1]).

-spec all() -> [term()].
all() ->
    turn_kit:cases(?MODULE)
        ++ [by_name, ecdsa_and_rsa, shares_the_port_of_tcp, plain_on_the_port_of_tls,
            distrust_is_counted, close_notify, reload, bad_pair_at_reload, bad_pair_at_start, files,
            {group, turnutils}, idle_memory].

%% coturn's client waits most of its time.
-spec groups() -> [tuple()].
groups() ->
    [{turnutils, [parallel], [turnutils_tcp, turnutils_tls, turnutils_tls_to_the_port_of_tcp]}].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "speaks UDP to others"}),
    Dir = proplists:get_value(priv_dir, Config),
    Ec = stream_kit:certificate(Dir, ec, "turn.example.org"),
    Rsa = stream_kit:certificate(Dir, rsa, "turn.example.org"),
    Other = stream_kit:certificate(Dir, ec, "*.example.net"),
    Settings = stream_kit:config([Ec, Rsa, Other]),
    [{settings, Settings}, {dir, Dir}, {server, turn_kit:start_server(Settings)} | Config].

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(Config) -> turn_kit:stop_server(server(Config)).

-spec init_per_group(turnutils, turn_kit:config()) -> turn_kit:config().
init_per_group(turnutils, Config) ->
    Settings = #{listeners => [#{transport => T, ip => {127, 0, 0, 1}, port => 0}
                               || T <- [udp, tcp, tls]],
                 certificates => certificates(Config), rfc5766_channel_numbers => true},
    [{for_turnutils, turn_kit:start_server(Settings)} | Config].

-spec end_per_group(turnutils, turn_kit:config()) -> _.
end_per_group(turnutils, Config) ->
    turn_kit:stop_server(proplists:get_value(for_turnutils, Config)).

server(Config) -> proplists:get_value(server, Config).
settings(Config) -> proplists:get_value(settings, Config).
dir(Config) -> proplists:get_value(dir, Config).
certificates(Config) -> maps:get(certificates, settings(Config)).

address(#{name := Name}) ->
    #{tls_listeners := [To | _]} = meerkat:info(Name),
    To.

%% A connection with these options of ssl:connect/3, or why there is none.
connect(Server, Tls) -> stream_kit:open(tls, address(Server), #{tls => Tls, error => true}).

connected(Server, Tls) ->
    Connection = connect(Server, Tls),
    true = is_pid(Connection),
    Info = stream_kit:info(Connection),
    answers(Connection),
    stream_kit:close(Connection),
    Info.

%% A Binding request and its answer.
answers(Connection) ->
    <<_:64, Txid:12/binary, _/binary>> = Binding = request(binding, []),
    ok = stream_kit:send(Connection, Binding),
    receive {udp, Connection, _, _, <<_:64, Txid:12/binary, _/binary>>} -> ok end.

refused(Server, Counter, Tls) ->
    counted(Server, Counter, fun() -> ?assertMatch({error, _}, connect(Server, Tls)) end).

der(#{chain := Pem}) ->
    [{'Certificate', Der, not_encrypted} | _] = public_key:pem_decode(Pem),
    Der.

openssl(Arguments) ->
    os:cmd(["timeout 30 openssl s_client ", Arguments, " 2>&1 </dev/null"]).

%% What it says until that is in it and the line is whole. Its input stays open meanwhile.
openssl_until(Word, Arguments) ->
    Command = lists:flatten(["timeout 30 openssl s_client ", Arguments]),
    Port = open_port({spawn, Command}, [stderr_to_stdout, exit_status]),
    Said = said_until(Port, Word ++ ".*\n", ""),
    true = port_close(Port),
    Said.

said_until(Port, Pattern, Said) ->
    case re:run(Said, Pattern, [{capture, none}]) of
        match -> Said;
        nomatch ->
            receive
                {Port, {data, More}} -> said_until(Port, Pattern, Said ++ More);
                {Port, {exit_status, _}} -> error({ended, Said})
            end
    end.

to({Ip, Port}) -> [" -connect ", inet:ntoa(Ip), ":", integer_to_list(Port), " "].

%%% Rows

-spec s7_suites(turn_kit:config()) -> _.
s7_suites(Config) ->
    doc("AES-128-GCM with forward secrecy, in both versions (RFC 8489 6.2.3)"),
    [begin
         #{protocol := Version, cipher := #{cipher := Cipher, key_exchange := Exchange}} =
             connected(server(Config), [{versions, [Version]}]),
         ?assertEqual(aes_128_gcm, Cipher),
         ?assert(lists:member(Exchange, [any, ecdhe_ecdsa, ecdhe_rsa]))
     end || Version <- ['tlsv1.2', 'tlsv1.3']],
    %% Without a curve of ECDSA the other certificate, and the suite that the RFC names.
    Rsa = #{key_exchange => ecdhe_rsa, cipher => aes_128_gcm, mac => aead, prf => sha256},
    ?assertMatch(#{cipher := #{key_exchange := ecdhe_rsa}},
                 connected(server(Config), [{versions, ['tlsv1.2']}, {ciphers, [Rsa]}])).

-spec x95_versions(turn_kit:config()) -> _.
x95_versions(Config) ->
    doc("nothing older than TLS 1.2 (X95)"),
    [counted(server(Config), handshakes_version, fun() ->
         Said = openssl([to(address(server(Config))), "-cipher ALL:@SECLEVEL=0 ", Version]),
         ?assertNotEqual({Said, nomatch}, {Said, string:find(Said, "Cipher is (NONE)")})
     end) || Version <- ["-tls1", "-tls1_1"]].

-spec x95_ciphers(turn_kit:config()) -> _.
x95_ciphers(Config) ->
    doc("no cipher without forward secrecy or authentication (X95)"),
    [counted(server(Config), handshakes_cipher, fun() ->
         Said = openssl([to(address(server(Config))), "-tls1_2 -cipher ", Cipher, ":@SECLEVEL=0"]),
         ?assertNotEqual({Said, nomatch}, {Said, string:find(Said, "Cipher is (NONE)")})
     end) || Cipher <- ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA",
                        "DHE-RSA-AES128-GCM-SHA256", "NULL", "aNULL"]].

-spec x96_renegotiation(turn_kit:config()) -> _.
x96_renegotiation(Config) ->
    doc("a client may not renegotiate (X96)"),
    {Ip, Port} = address(server(Config)),
    {ok, Socket} = ssl:connect(Ip, Port, [binary, {active, false}, {verify, verify_none},
                                          {versions, ['tlsv1.2']}, {log_level, none}], 10000),
    ?assertMatch({error, _}, ssl:renegotiate(Socket)),
    ssl:close(Socket),
    turn_kit:alive(server(Config)).

-spec x97_tickets(turn_kit:config()) -> _.
x97_tickets(Config) ->
    doc("tickets are good at every server of the secret, and at no other (X97)"),
    #{secret := Secret} = server(Config),
    File = filename:join(dir(Config), "ticket"),
    Resumed = fun(To, Version) ->
        Said = openssl([to(To), Version, " -sess_in ", File]),
        string:find(Said, "Reused, ") =/= nomatch
    end,
    with_server((settings(Config))#{secrets => [Secret]}, fun(Same) ->
        with_server((settings(Config))#{secrets => [<<"another">>]}, fun(Foreign) ->
            [begin
                 %% TLS 1.3 sends it behind the handshake; openssl writes it when it has come.
                 _ = os:cmd(["(sleep 0.5) | timeout 30 openssl s_client ",
                             to(address(server(Config))), Version, " -sess_out ", File, " 2>&1"]),
                 ?assert(Resumed(address(server(Config)), Version)),
                 ?assert(Resumed(address(Same), Version)),
                 ?assertNot(Resumed(address(Foreign), Version))
             end || Version <- [" -tls1_2", " -tls1_3"]]
        end)
    end).

-spec x97_no_early_data(turn_kit:config()) -> _.
x97_no_early_data(Config) ->
    doc("no early data is offered: an Allocate could be played again (X97)"),
    %% It tells when a ticket has come, which is behind the handshake.
    Said = openssl_until("Max Early Data:", [to(address(server(Config))), " -tls1_3"]),
    ?assertNotEqual({Said, nomatch}, {Said, string:find(Said, "Max Early Data: 0\n")}).

-spec x99_alpn(turn_kit:config()) -> _.
x99_alpn(Config) ->
    doc("ALPN is answered where one of ours is asked for; other protocols alone are refused (X99)"),
    Alpn = fun(Names) -> [{alpn_advertised_protocols, Names}] end,
    [?assertMatch(#{alpn := Name}, connected(server(Config), Alpn([<<"h2">>, Name])))
     || Name <- [<<"stun.turn">>, <<"stun.nat-discovery">>]],
    ?assertMatch(#{alpn := none}, connected(server(Config), [])),
    refused(server(Config), handshakes_alpn, Alpn([<<"h2">>, <<"http/1.1">>])).

%%% Certificates

-spec by_name(turn_kit:config()) -> _.
by_name(Config) ->
    doc("the certificate of the name the client asks for, or the first"),
    [Ec, _Rsa, Other] = certificates(Config),
    Shown = fun(Name) ->
        #{certificate := Der} = connected(server(Config), [{server_name_indication, Name}]),
        Der
    end,
    ?assertEqual(der(Ec), Shown("turn.example.org")),
    ?assertEqual(der(Other), Shown("relay.example.net")),
    ?assertEqual(der(Ec), Shown("nobody.example")),
    ?assertEqual(der(Ec), Shown(disable)).

-spec ecdsa_and_rsa(turn_kit:config()) -> _.
ecdsa_and_rsa(Config) ->
    doc("for one name an ECDSA and an RSA certificate: the client chooses"),
    [Ec, Rsa, _Other] = certificates(Config),
    Shown = fun(Algorithms) ->
        #{certificate := Der} = connected(server(Config),
                                          [{versions, ['tlsv1.3']}, {signature_algs, Algorithms},
                                           {server_name_indication, "turn.example.org"}]),
        Der
    end,
    ?assertEqual(der(Ec), Shown([ecdsa_secp256r1_sha256])),
    ?assertEqual(der(Rsa), Shown([rsa_pss_rsae_sha256])).

-spec shares_the_port_of_tcp(turn_kit:config()) -> _.
shares_the_port_of_tcp(Config) ->
    doc("a TCP listener takes TLS too: the first byte tells"),
    #{name := Name} = server(Config),
    #{tcp_listeners := [To | _]} = meerkat:info(Name),
    [begin
         Client = allocated(server(Config), [], #{transport => Transport, to => To}),
         fence(Client),
         turn_kit:close(Client)
     end || Transport <- [tcp, tls]].

-spec plain_on_the_port_of_tls(turn_kit:config()) -> _.
plain_on_the_port_of_tls(Config) ->
    doc("a TLS listener takes nothing else"),
    counted(server(Config), connections_bad, fun() ->
        Connection = stream_kit:open(tcp, address(server(Config)), #{}),
        _ = stream_kit:raw(Connection, request(binding, [])),
        stream_kit:closed(Connection)
    end).

-spec distrust_is_counted(turn_kit:config()) -> _.
distrust_is_counted(Config) ->
    doc("a client that does not trust the certificate says so, and that is counted"),
    #{chain_file := Other} = lists:last(certificates(Config)),
    [refused(server(Config), handshakes_refused,
             [{verify, verify_peer}, {cacertfile, binary_to_list(Other)}, {versions, [V]}])
     || V <- ['tlsv1.2', 'tlsv1.3']].

-spec close_notify(turn_kit:config()) -> _.
close_notify(Config) ->
    doc("the end is said before the connection ends"),
    {Ip, Port} = address(server(Config)),
    {ok, Socket} = ssl:connect(Ip, Port, [binary, {active, false}, {verify, verify_none},
                                          {log_level, none}], 10000),
    ok = ssl:shutdown(Socket, write),
    ?assertEqual({error, closed}, ssl:recv(Socket, 0, 10000)),
    ssl:close(Socket).

%%% Reload

replaced(Name, Certificates) ->
    Now = meerkat_settings:config(meerkat_registry:settings(Name)),
    meerkat:reload(Name, Now#{certificates := Certificates}).

-spec reload(turn_kit:config()) -> _.
reload(Config) ->
    doc("a reload shows new clients another certificate; connections go on with theirs"),
    [Ec | _] = certificates(Config),
    New = stream_kit:certificate(dir(Config), ec, "turn.example.org"),
    with_server((settings(Config))#{certificates := [Ec]}, fun(#{name := Name} = Server) ->
        Client = #{relayed := Relayed} = allocated(Server, [], #{transport => tls}),
        Peer = peer(),
        success(permit(Client, [Peer])),
        ok = replaced(Name, [New]),
        ?assertMatch(#{certificate := Der} when Der =/= <<>>, connected(Server, [])),
        #{certificate := Shown} = connected(Server, []),
        ?assertEqual(der(New), Shown),
        send_to(Client, Peer, <<"as before">>),
        ?assertEqual({Relayed, <<"as before">>}, peer_next(Peer)),
        fence(Client),
        turn_kit:close(Client)
    end).

-spec bad_pair_at_reload(turn_kit:config()) -> _.
bad_pair_at_reload(Config) ->
    doc("a bad pair is refused with the file named, and the one before stays in force"),
    [Ec, Rsa | _] = certificates(Config),
    with_server((settings(Config))#{certificates := [Ec]}, fun(#{name := Name} = Server) ->
        Mixed = Rsa#{key := maps:get(key, Ec), key_file := maps:get(key_file, Ec)},
        [begin
             {error, Sentence} = replaced(Name, Bad),
             [?assertNotEqual({Sentence, nomatch}, {Sentence, string:find(Sentence, Part)})
              || Part <- [binary_to_list(maps:get(chain_file, lists:last(Bad))), Why]],
             #{certificate := Shown} = connected(Server, []),
             ?assertEqual(der(Ec), Shown)
         end || {Bad, Why} <- [{[Mixed], "the key is not that of the certificate"},
                               {[Ec, Mixed], "the key is not that of the certificate"},
                               {[Ec#{chain := <<"none">>}], "no certificate in PEM is there"}]]
    end).

-spec bad_pair_at_start(turn_kit:config()) -> _.
bad_pair_at_start(Config) ->
    doc("with a bad pair the server does not start, and says why"),
    [Ec | _] = certificates(Config),
    Bad = [Ec#{key := <<"none">>}],
    ?assertError({badmatch, {error, "tls_cert " ++ _}},
                 with_server((settings(Config))#{certificates := Bad}, fun(_) -> ok end)).

-spec files(turn_kit:config()) -> _.
files(Config) ->
    doc("tls_cert and tls_key name files, as many of one as of the other, that can be read"),
    [Ec, Rsa | _] = certificates(Config),
    Files = fun(Key, Of) -> lists:join(",", [maps:get(Key, C) || C <- Of]) end,
    Load = fun(Certs, Keys) ->
        meerkat_config:load(#{file => none, env => [{"TLS_CERT", Certs}, {"TLS_KEY", Keys},
                                                    {"STUN_SECRET", "s"}]})
    end,
    {ok, Loaded, _} = Load(Files(chain_file, [Ec, Rsa]), Files(key_file, [Ec, Rsa])),
    ?assertEqual([C#{followed => true} || C <- [Ec, Rsa]], maps:get(certificates, Loaded)),
    ?assertEqual([#{transport => udp, ip => any, port => 3478},
                  #{transport => tcp, ip => any, port => 3478},
                  #{transport => tls, ip => any, port => 5349}], maps:get(listeners, Loaded)),
    {error, [Unequal]} = Load(Files(chain_file, [Ec, Rsa]), Files(key_file, [Ec])),
    ?assertEqual("TLS_CERT names 2 files and TLS_KEY names 1; each certificate "
                 "needs its key", lists:flatten(Unequal)),
    {error, [Missing]} = Load("/nowhere/a.pem", Files(key_file, [Ec])),
    ?assertNotEqual(nomatch,
                    string:find(Missing, "\"/nowhere/a.pem\" cannot be read: no such file")).

%%% Others

-spec turnutils_tcp(turn_kit:config()) -> _.
turnutils_tcp(Config) ->
    doc("coturn's client over TCP: nothing is lost"),
    turnutils(Config, tcp_listeners, "-t", 40).

-spec turnutils_tls(turn_kit:config()) -> _.
turnutils_tls(Config) ->
    doc("coturn's client over TLS: of a record it reads one message, others are lost"),
    turnutils(Config, tls_listeners, "-t -S", 30).

-spec turnutils_tls_to_the_port_of_tcp(turn_kit:config()) -> _.
turnutils_tls_to_the_port_of_tcp(Config) ->
    doc("the same where TCP and TLS share a port"),
    turnutils(Config, tcp_listeners, "-t -S", 30).

turnutils(Config, Listeners, Options, Least) ->
    #{name := Name} = proplists:get_value(for_turnutils, Config),
    #{Listeners := [{_, Port}]} = meerkat:info(Name),
    %% So long between messages that two of them hardly meet in one record.
    Said = os:cmd(io_lib:format("timeout 60 turnutils_uclient ~ts -p ~b -u alice -w wonderland "
                                "-c -m 1 -n 20 -z 200 -l 171 -y 127.0.0.1 2>&1",
                                [Options, Port])),
    ?assertMatch({match, _}, re:run(Said, "tot_send_msgs=40, tot_recv_msgs=[0-9]+\n")),
    {match, All} = re:run(Said, "tot_recv_msgs=([0-9]+)\n",
                          [global, {capture, all_but_first, list}]),
    [Received] = lists:last(All),
    ?assert(list_to_integer(Received) >= Least).

-spec idle_memory(turn_kit:config()) -> _.
idle_memory(Config) ->
    doc("an idle TLS connection costs at most 24 KB of user memory, a TCP one 2 KB"),
    with_server((settings(Config))#{workers => 1, tcp_connections_per_address => 4096},
                fun(#{name := Name} = Server) ->
        {ok, Pid} = meerkat_relay:os_pid(Name),
        [begin
             Warm = [spoken(Server, Transport) || _ <- lists:seq(1, 20)],
             Before = resident(Pid),
             N = 100,
             Idle = [spoken(Server, Transport) || _ <- lists:seq(1, N)],
             Each = (resident(Pid) - Before) div N,
             ct:pal("an idle ~p connection: ~b bytes", [Transport, Each]),
             ?assert(is_sanitized() orelse Each =< Most),
             [turn_kit:close(C) || C <- Warm ++ Idle],
             eventually(fun() ->
                 {ok, #{connections := Left}} = meerkat_relay:stats(Name),
                 Left =:= 0
             end)
         end || {Transport, Most} <- [{tcp, 2048}, {tls, 24 * 1024}]]
    end).

spoken(Server, Transport) ->
    Client = open(Server, #{transport => Transport}),
    fence(Client),
    Client.

%% A sanitizer keeps memory of its own.
is_sanitized() -> os:getenv("MEERKAT_RELAY_PROGRAM") =/= false.

resident(Pid) ->
    {ok, Status} = file:read_file(io_lib:format("/proc/~b/status", [Pid])),
    {match, [Kb]} = re:run(Status, "RssAnon:\\s+([0-9]+)", [{capture, all_but_first, list}]),
    list_to_integer(Kb) * 1024.
