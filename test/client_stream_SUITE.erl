%% The client and the check on connections: the core by itself, then servers of a few lines that cut
%% what they send, break off, say something else than STUN, or show certificates that are no good.
%% client_SUITE has the same client against whole servers.
-module(client_stream_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(turn_kit, [doc/1]).
-import(client_kit, [check/1, words/1]).

-define(SERVER, {{192, 0, 2, 1}, 3478}).
-define(MAPPED, {{203, 0, 113, 9}, 40000}).
-define(RELAYED, {{192, 0, 2, 1}, 50000}).
-define(PEER, {{198, 51, 100, 7}, 6000}).

suite() -> [{timetrap, {seconds, 60}}].

all() -> [{group, core}, {group, tcp}, {group, tls}].

groups() ->
    Everywhere = [cut_and_joined, padded, not_stun, check_not_stun, closes_when_asked,
                  closed_and_opened_again, silence, gives_back],
    [{core, [parallel], [asked_once, ends_with_its_connection, asked_again_once]},
     {tcp, [], Everywhere ++ [web_server, tls_only_port, port_without_tls, handshake_hangs]},
     {tls, [], Everywhere ++ [by_name, by_address, own_file, wrong_name, expired, unknown_issuer,
                              self_signed, fingerprint, insecure, told_the_name]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(ssl),
    Dir = proplists:get_value(priv_dir, Config),
    Authority = #{certificate := Ca} = certificate_kit:authority(Dir),
    Issued = certificate_kit:issued(Authority, "DNS:localhost,IP:127.0.0.1"),
    [{dir, Dir}, {authority, Authority}, {ca, Ca}, {issued, Issued} | Config].

end_per_suite(_) -> ok.

init_per_group(Group, Config) -> [{transport, Group} | Config].

end_per_group(_, _) -> ok.

%% ---------------------------------------------------------------------------------------- core

asked_once(_) ->
    doc("a request is sent once, and has 39.5 s, or `ti`, for its answer (RFC8489 6.2.2)"),
    {S, [{transmit, _}, {start_timer, Timer, 39_500}]} = handle({call, me, binding}, new(39_500)),
    ?assertMatch({_, [{stop_timer, Timer}, {reply, me, {error, timeout}}]},
                 handle({timeout, Timer}, S)),
    ?assertMatch({_, [{transmit, _}, {start_timer, _, 7}]}, handle({call, me, binding}, new(7))).

ends_with_its_connection(_) ->
    doc("the allocation is lost at once, what was asked about it fails with the same reason, and "
        "nothing is renewed any more (RFC8656 3.1)"),
    {S0, [{transmit, _} | _]} = handle({call, permit, {permit, [element(1, ?PEER)]}}, allocated()),
    {S1, Effects} = handle({disconnected, connection_closed}, S0),
    ?assert(lists:member({reply, permit, {error, connection_closed}}, Effects)),
    ?assertEqual([{owner, {lost, {allocation, connection_closed}}}],
                 [E || {owner, _} = E <- Effects]),
    [?assert(lists:member({stop_timer, T}, Effects)) || T <- [refresh, expire, permissions]],
    ?assertEqual([], [E || {transmit, _} = E <- Effects]),
    ?assertMatch({_, [{reply, me, {error, no_allocation}}]},
                 handle({call, me, {refresh, default}}, S1)),
    ?assertMatch({_, []}, handle({disconnected, connection_closed}, S1)),
    ?assertMatch({_, []}, handle(close, S1)).

asked_again_once(_) ->
    doc("what needs no allocation is asked once more, on another connection, when one was closed; "
        "not when what came was no STUN, or there is none to be had"),
    {S0, [{transmit, First} | _]} = handle({call, me, {allocate, #{}}}, new(500)),
    {S1, Effects} = handle({disconnected, econnreset}, S0),
    ?assertMatch([{stop_timer, _}, {transmit, _}, {start_timer, _, 500}], Effects),
    [_, {transmit, Second}, _] = Effects,
    ?assertNotEqual(First, Second),
    ?assertMatch({_, [_, {reply, me, {error, connection_closed}}]},
                 handle({disconnected, connection_closed}, S1)),
    [?assertMatch({_, [_, {reply, me, {error, Why}}]}, handle({disconnected, Why}, S0))
     || Why <- [econnrefused, timeout, {not_stun, <<"x">>}, {tls, closed}]],
    {S2, _} = handle({call, me, {permit, [element(1, ?PEER)]}}, allocated()),
    {S3, [{transmit, _} | _]} = handle({call, binding, binding}, S2),
    {_, Mixed} = handle({disconnected, epipe}, S3),
    ?assert(lists:member({reply, me, {error, epipe}}, Mixed)),
    ?assertMatch([_], [E || {transmit, _} = E <- Mixed]).

new(Ti) ->
    meerkat_client_core:new(#{server => ?SERVER, ti => Ti}).

handle(Event, S) -> meerkat_client_core:handle(Event, S).

%% From a server that asks for no credentials.
allocated() ->
    {S0, [{transmit, Request}, _]} = handle({call, me, {allocate, #{}}}, new(39_500)),
    {S, Effects} = handle({datagram, allocated(Request)}, S0),
    ?assertMatch({reply, me, {ok, _}}, lists:last(Effects)),
    S.

%% -------------------------------------------------------------------------------------- streams

cut_and_joined(Config) ->
    doc("answers, indications and ChannelData arrive whole and in order, whether they come byte by "
        "byte, several at once, or with the end of one and the beginning of the next "
        "(RFC8489 6.2.2, RFC8656 12.5)"),
    [with_client(Config, fun(Connection) ->
         Allocate = next(Connection),
         say(Connection, cut(Size, allocated(Allocate))),
         Permit = next(Connection),
         say(Connection, cut(Size, success(Permit, []))),
         Bind = next(Connection),
         say(Connection, cut(Size, iolist_to_binary(
             [success(Bind, [])
              | [[data(P), meerkat_client_frames:pad(meerkat_stun:encode_channel(16#4000, P))]
                 || P <- Payloads]]))),
         ended(Connection)
     end, fun(Client) ->
         {ok, #{relayed := ?RELAYED}} = meerkat_client:allocate(Client),
         ok = meerkat_client:permit(Client, ?PEER),
         {ok, 16#4000} = meerkat_client:bind_channel(Client, ?PEER),
         [receive {meerkat_client, Client, Got} ->
              ?assertEqual({data, ?PEER, P, Via}, Got)
          end || P <- Payloads, Via <- [indication, channel]],
         ?assertMatch(#{ignored := 0, dropped := 0}, meerkat_client:info(Client))
     end) || {Size, Lengths} <- [{1, [0, 1, 2, 3, 4, 5, 160]}, {7, [3, 160, 1200, 0, 1]},
                                 {1000, [1, 65_000, 0, 1200]}, {100_000, [5, 65_000, 3]}],
             Payloads <- [[crypto:strong_rand_bytes(N) || N <- Lengths]]],
    ok.

padded(Config) ->
    doc("ChannelData is padded to four bytes on its way to the server, whatever its length "
        "(RFC8656 12.5)"),
    Payloads = [binary:copy(<<N>>, N) || N <- lists:seq(0, 9)],
    Self = self(),
    with_client(Config, fun(Connection) ->
        say(Connection, allocated(next(Connection))),
        say(Connection, success(next(Connection), [])),
        Size = lists:sum([4 + (byte_size(P) + 3) div 4 * 4 || P <- Payloads]),
        Self ! {took, bytes(Connection, Size)},
        ended(Connection)
    end, fun(Client) ->
        {ok, _} = meerkat_client:allocate(Client),
        {ok, 16#4000} = meerkat_client:bind_channel(Client, ?PEER),
        [ok = meerkat_client:send(Client, ?PEER, P) || P <- Payloads],
        Expected = << <<16#4000:16, N:16, P/binary, 0:(-N band 3)/unit:8>>
                      || P <- Payloads, N <- [byte_size(P)] >>,
        ?assertEqual(Expected, receive {took, Bytes} -> Bytes end)
    end).

not_stun(Config) ->
    doc("what cannot be STUN ends the connection, whether it comes at once or cut; the error shows "
        "its beginning, and what comes after good messages loses the allocation"),
    [with_client(Config, fun(Connection) ->
         _ = next(Connection),
         blurt(Connection, cut(Size, <<"220 mail.example.org ESMTP\r\n">>)),
         ended(Connection)
     end, fun(Client) ->
         {error, {not_stun, Begins}} = meerkat_client:binding(Client),
         Length = min(5, byte_size(Begins)),
         ?assertEqual(Length, binary:longest_common_prefix([Begins, <<"220 m">>]))
     end) || Size <- [100, 1]],
    with_client(Config, fun(Connection) ->
        say(Connection, allocated(next(Connection))),
        say(Connection, <<16#ffffffff:32>>),
        ended(Connection)
    end, fun(Client) ->
        {ok, _} = meerkat_client:allocate(Client),
        receive {meerkat_client, Client, Lost} ->
            ?assertEqual({lost, {allocation, {not_stun, <<16#ffffffff:32>>}}}, Lost)
        end
    end).

check_not_stun(Config) ->
    doc("the check says what it is that answers"),
    with_server(Config, fun(Connection) ->
        _ = next(Connection),
        say(Connection, <<"SSH-2.0-OpenSSH_9.2p1\r\n">>),
        ended(Connection)
    end, fun(Address) ->
        {1, Output} = check([uri(Address, Config) | trust(Config)]),
        ?assertMatch({match, _}, re:run(Output, "Connect +ok .* by T")),
        ?assertMatch({match, _}, re:run(Output, "Binding +FAILED .*is no STUN or TURN server; "
                                        "it says \"SSH-2.0-O.*\n.*Hint: "))
    end).

closes_when_asked(Config) ->
    doc("a server that closes in place of an answer has been asked twice, and that is said"),
    Self = self(),
    with_client(Config, fun(Connection) ->
        Self ! {asked, next(Connection)},
        hang_up(Connection)
    end, fun(Client) ->
        ?assertEqual({error, connection_closed}, meerkat_client:binding(Client)),
        [receive {asked, _} -> ok end || _ <- [1, 2]],
        receive {asked, _} -> error(a_third_time) after 0 -> ok end
    end).

closed_and_opened_again(Config) ->
    doc("after the end of the connection the owner has the loss, and may allocate again"),
    with_client(Config, fun(Connection) ->
        say(Connection, allocated(next(Connection))),
        hang_up(Connection)
    end, fun(Client) ->
        [begin
             {ok, #{relayed := ?RELAYED}} = meerkat_client:allocate(Client),
             receive {meerkat_client, Client, Lost} ->
                 ?assertEqual({lost, {allocation, connection_closed}}, Lost)
             end,
             ok = meerkat_client:send(Client, ?PEER, <<"nobody hears it">>),
             ?assertEqual(#{transport => proplists:get_value(transport, Config)},
                          maps:with([transport, relayed, local], meerkat_client:info(Client)))
         end || _ <- [1, 2, 3]]
    end).

silence(Config) ->
    doc("nothing is sent again, and after `ti` ms there is an error (RFC8489 6.2.2)"),
    Self = self(),
    with_client(Config, #{ti => 2000}, fun(Connection) ->
        _ = next(Connection),
        Self ! {more, ended(Connection)}
    end, fun(Client) ->
        ?assertEqual({error, timeout}, meerkat_client:binding(Client)),
        ok = meerkat_client:close(Client),
        receive {more, More} -> ?assertEqual(<<>>, More) end
    end).

gives_back(Config) ->
    doc("close/1 gives the allocation back on the connection before it ends"),
    Self = self(),
    with_client(Config, fun(Connection) ->
        say(Connection, allocated(next(Connection))),
        Self ! {last, decoded(next(Connection))},
        ended(Connection)
    end, fun(Client) ->
        {ok, _} = meerkat_client:allocate(Client),
        ok = meerkat_client:close(Client),
        receive {last, Last} ->
            ?assertMatch(#{method := refresh, attributes := [{lifetime, 0}]}, Last)
        end,
        receive {meerkat_client, Client, End} -> ?assertEqual({closed, normal}, End) end
    end).

%% ----------------------------------------------------------------------------------- wrong ports

web_server(Config) ->
    doc("HTTP is not taken for the beginning of ChannelData, whose numbers its letters are"),
    with_server(Config, fun(Connection) ->
        _ = next(Connection),
        say(Connection, <<"HTTP/1.1 400 Bad Request\r\n\r\n">>),
        ended(Connection)
    end, fun(Address) ->
        {1, Output} = check([uri(Address, Config)]),
        ?assertMatch({match, _}, re:run(Output, "Binding +FAILED .*is a web server"))
    end).

tls_only_port(Config) ->
    doc("TCP without TLS to a port that takes nothing else"),
    with_server([{transport, tls} | Config], fun(_) -> ok end, fun(Address) ->
        {1, Output} = check([uri(Address, Config)]),
        ?assertMatch({match, _}, re:run(Output, "takes nothing but TLS at this port\n"
                                        ".*Hint: .*turns:"))
    end).

port_without_tls(Config) ->
    doc("TLS to a port without: the server answers in the clear, or hangs up"),
    [with_server([{transport, tcp} | Config], fun(Connection) ->
         _ = bytes(Connection, 0),
         say(Connection, Answer),
         hang_up(Connection)
     end, fun(Address) ->
         {1, Output} = check([uri(Address, [{transport, tls}]), "--insecure"]),
         ?assertMatch({match, _}, re:run(Output, "Connect +FAILED .*" ++ Words ++
                                         ".*\n.*Hint: .*transport=tcp"))
     end) || {Answer, Words} <- [{<<"HTTP/1.1 400 Bad Request\r\n\r\n">>, "does not speak TLS"},
                                 {<<>>, "closed the connection during the TLS handshake"}]],
    ok.

handshake_hangs(Config) ->
    doc("who accepts and says nothing is not waited for longer than `ti`"),
    with_server([{transport, tcp} | Config], fun(Connection) -> ended(Connection) end,
                fun(Address) ->
        {error, Reason} = meerkat_client:start_link(#{server => Address, transport => tls,
                                                      insecure => true, ti => 300}),
        ?assertEqual({tls, timeout}, Reason)
    end).

%% --------------------------------------------------------------------------------- certificates

by_name(Config) ->
    doc("a certificate with the host's name, by somebody who is trusted"),
    connects(Config, issued, #{cacertfile => ca(Config)}, "localhost").

by_address(Config) ->
    doc("a certificate with the host's address (RFC6125, RFC5280 4.2.1.6)"),
    connects(Config, issued, #{cacertfile => ca(Config)}, {127, 0, 0, 1}),
    connects(Config, issued, #{cacertfile => ca(Config)}, <<"127.0.0.1">>).

own_file(Config) ->
    doc("the file may have the server's own certificate; for its names only"),
    #{certificate := File} = Own = certificate_kit:self_signed(dir(Config), "DNS:localhost"),
    connects(Config, Own, #{cacertfile => File}, "localhost"),
    ?assertMatch({wrong_name, "127.0.0.1", _},
                 refused(Config, Own, #{cacertfile => File}, {127, 0, 0, 1})).

wrong_name(Config) ->
    doc("a certificate for others is told with their names"),
    Other = issued(Config, "DNS:a.example.org,DNS:*.b.example.org,IP:192.0.2.7"),
    [begin
         {wrong_name, Shown, Names} = refused(Config, Other, #{cacertfile => ca(Config)}, Host),
         ?assertEqual(["a.example.org", "*.b.example.org", "192.0.2.7"],
                      [words(Name) || Name <- Names])
     end || {Host, Shown} <- [{"localhost", "localhost"}, {{127, 0, 0, 1}, "127.0.0.1"}]],
    checked(Config, Other, ["--cacert", ca(Config)],
            "the certificate is for a.example.org, \\*.b.example.org, 192.0.2.7 and not for "
            "localhost\n.*Hint: .*by a name").

expired(Config) ->
    doc("when it expired is said"),
    Old = expired(Config, "DNS:localhost"),
    ?assertEqual({expired, {{2020, 2, 1}, {0, 0, 0}}},
                 refused(Config, Old, #{cacertfile => ca(Config)}, "localhost")),
    checked(Config, Old, ["--cacert", ca(Config)],
            "the certificate expired on 2020-02-01 00:00:00 UTC\n.*Hint: renew it").

unknown_issuer(Config) ->
    doc("the system's list does not have our authority"),
    ?assertEqual(unknown_issuer, refused(Config, issued, #{}, "localhost")),
    checked(Config, issued, [], "nobody whom this machine trusts.*\n.*Hint: --cacert FILE").

self_signed(Config) ->
    doc("a certificate that nobody vouches for"),
    Own = certificate_kit:self_signed(dir(Config), "DNS:localhost"),
    ?assertEqual(self_signed, refused(Config, Own, #{}, "localhost")),
    ?assertEqual(self_signed, refused(Config, Own, #{cacertfile => ca(Config)}, "localhost")).

fingerprint(Config) ->
    doc("the fingerprint that openssl prints lets that one in, whatever else is wrong with it, and "
        "no other"),
    Old = #{certificate := File} = expired(Config, "DNS:a.example"),
    Said = os:cmd("openssl x509 -noout -fingerprint -sha256 -in " ++ File),
    [_, Fingerprint] = string:lexemes(string:trim(Said), "="),
    connects(Config, Old, #{fingerprint => Fingerprint}, "localhost"),
    connects(Config, Old, #{fingerprint => string:lowercase(string:replace(Fingerprint, ":", "",
                                                                           all))}, "localhost"),
    {fingerprint, Other} = refused(Config, issued, #{fingerprint => Fingerprint}, "localhost"),
    ?assertNotEqual(Fingerprint, Other),
    checked(Config, issued, ["--fingerprint", Fingerprint],
            "is another than expected; its SHA-256 fingerprint is " ++ Other ++ "\n.*Hint: ").

insecure(Config) ->
    doc("any certificate will do, if that is asked for"),
    Old = expired(Config, "DNS:a.example"),
    connects(Config, Old, #{insecure => true}, "localhost"),
    connects(Config, certificate_kit:self_signed(dir(Config), "DNS:b"), #{insecure => true},
             {127, 0, 0, 1}).

told_the_name(Config) ->
    doc("a name is told to the server, an address is not (RFC6066 3)"),
    Self = self(),
    #{certificate := Certificate, key := Key} = proplists:get_value(issued, Config),
    Sni = {sni_fun, fun(Name) ->
                            Self ! {sni, Name},
                            [{certfile, Certificate}, {keyfile, Key}]
                    end},
    with_server([{sni, [Sni]} | Config], fun(Connection) -> ended(Connection) end,
                  fun({_, Port}) ->
        [begin
             {ok, Client} = meerkat_client:start_link(Given#{server => {Host, Port},
                                                             transport => tls}),
             ok = meerkat_client:close(Client),
             ?assertEqual({Host, Told}, {Host, lists:usort(told_names())})
         end || {Host, Told} <- [{"localhost", ["localhost"]}, {{127, 0, 0, 1}, []}],
                Given <- [#{cacertfile => ca(Config)}, #{insecure => true}]]
    end).

told_names() ->
    receive {sni, Name} -> [Name | told_names()] after 0 -> [] end.

connects(Config, Pair, Given, Host) ->
    try_certificate(Config, Pair, fun(Port) ->
        {ok, Client} = meerkat_client:start_link(Given#{server => {Host, Port}, transport => tls}),
        ?assertMatch(#{transport := tls, tls := 'tlsv1.3'}, meerkat_client:info(Client)),
        ?assertEqual({ok, ?MAPPED}, meerkat_client:binding(Client)),
        ok = meerkat_client:close(Client)
    end).

refused(Config, Pair, Given, Host) ->
    try_certificate(Config, Pair, fun(Port) ->
        {error, {tls, {certificate, Fault}}} =
            meerkat_client:start_link(Given#{server => {Host, Port}, transport => tls}),
        Fault
    end).

checked(Config, Pair, Args, Pattern) ->
    try_certificate(Config, Pair, fun(Port) ->
        {1, Output} = check(["turns:localhost:" ++ integer_to_list(Port) | Args]),
        ?assertMatch({_, {match, _}}, {Output, re:run(Output, Pattern)}),
        ?assertMatch({match, _}, re:run(Output, "Connect failed. Not tried: Binding, "))
    end).

try_certificate(Config, issued, Fun) ->
    try_certificate(Config, proplists:get_value(issued, Config), Fun);
try_certificate(Config, Pair, Fun) ->
    with_server([{issued, Pair} | Config], fun(Connection) ->
        %% Who looks at a fingerprint closes only now.
        case asked(Connection) of
            {ok, Request} -> say(Connection, success(Request, [{xor_mapped_address, ?MAPPED}]));
            closed -> ok
        end,
        ended(Connection)
    end, fun({_, Port}) -> Fun(Port) end).

dir(Config) -> proplists:get_value(dir, Config).
ca(Config) -> proplists:get_value(ca, Config).
issued(Config, Names) -> certificate_kit:issued(proplists:get_value(authority, Config), Names).

expired(Config, Names) -> certificate_kit:expired(proplists:get_value(authority, Config), Names).

%% ------------------------------------------------------------------------------------- helpers

%% A server whose connections do as the script says, and a client of it.
with_client(Config, Script, Fun) ->
    with_client(Config, #{}, Script, Fun).

with_client(Config, Options, Script, Fun) ->
    Transport = proplists:get_value(transport, Config),
    Trust = maps:from_list([{cacertfile, ca(Config)} || Transport =:= tls]),
    with_server(Config, Script, fun(Address) ->
        {ok, Client} = meerkat_client:start_link(
            maps:merge(Options#{server => Address, transport => Transport}, Trust)),
        Fun(Client),
        ok = meerkat_client:close(Client)
    end).

%% The server by itself, whose address is handed on. A script that fails takes the case along.
with_server(Config, Script, Fun) ->
    Common = [binary, {active, false}, {nodelay, true}, {reuseaddr, true}, {ip, {127, 0, 0, 1}}],
    Module = case proplists:get_value(transport, Config) of tcp -> gen_tcp; tls -> ssl end,
    {ok, Listener} = Module:listen(0, Common ++ [Option || Module =:= ssl, Option <- tls(Config)]),
    {ok, Address} = case Module of
                        gen_tcp -> inet:sockname(Listener);
                        ssl -> ssl:sockname(Listener)
                    end,
    _ = spawn_link(fun() -> serve(Module, Listener, Script) end),
    try Fun(Address) after Module:close(Listener) end.

tls(Config) ->
    #{certificate := Certificate, key := Key} = proplists:get_value(issued, Config),
    [{certfile, Certificate}, {keyfile, Key}, {log_level, none}
     | proplists:get_value(sni, Config, [])].

%% Who has accepted a connection has another wait for the next.
serve(gen_tcp, Listener, Script) ->
    case gen_tcp:accept(Listener) of
        {ok, Socket} ->
            _ = spawn_link(fun() -> serve(gen_tcp, Listener, Script) end),
            Script({gen_tcp, Socket});
        {error, closed} ->
            ok
    end;
serve(ssl, Listener, Script) ->
    case ssl:transport_accept(Listener) of
        {ok, Begun} ->
            _ = spawn_link(fun() -> serve(ssl, Listener, Script) end),
            case ssl:handshake(Begun) of
                {ok, Socket} -> Script({ssl, Socket});
                {error, _} -> ok    % the client does not trust us, or speaks no TLS
            end;
        {error, closed} ->
            ok
    end.

%% So many bytes, or what there is.
bytes({Module, Socket}, Size) ->
    {ok, Bytes} = Module:recv(Socket, Size),
    Bytes.

asked({Module, Socket}) ->
    case Module:recv(Socket, 20) of
        {ok, Binding} -> {ok, Binding};
        {error, _} -> closed
    end.

%% The next request.
next(Connection) ->
    <<_:16, Length:16, _/bits>> = Header = bytes(Connection, 20),
    case Length of
        0 -> Header;
        _ -> <<Header/binary, (bytes(Connection, Length))/binary>>
    end.

%% All that comes until the client closes.
ended({Module, Socket} = Connection) ->
    case Module:recv(Socket, 0) of
        {ok, Bytes} -> <<Bytes/binary, (ended(Connection))/binary>>;
        {error, _} -> <<>>
    end.

%% Bytes, or pieces of them that travel each by itself.
say({Module, Socket}, Pieces) ->
    [ok = Module:send(Socket, Piece) || Piece <- lists:flatten([Pieces])],
    ok.

%% The same, to a client that may close as soon as it has seen the beginning.
blurt({Module, Socket}, Pieces) ->
    lists:all(fun(Piece) -> Module:send(Socket, Piece) =:= ok end, Pieces).

hang_up({Module, Socket}) -> Module:close(Socket).

cut(Size, Bytes) when byte_size(Bytes) > Size ->
    <<Piece:Size/binary, Rest/binary>> = Bytes,
    [Piece | cut(Size, Rest)];
cut(_, Bytes) -> [Bytes].

uri(Address, Config) ->
    case proplists:get_value(transport, Config) of
        tcp -> "turn:" ++ meerkat_client:format_address(Address) ++ "?transport=tcp";
        tls -> "turns:" ++ meerkat_client:format_address(Address)
    end.

trust(Config) ->
    case proplists:get_value(transport, Config) of
        tcp -> [];
        tls -> ["--cacert", ca(Config)]
    end.

decoded(Packet) ->
    {ok, Message} = meerkat_stun:decode(Packet),
    Message.

success(Request, Attributes) ->
    #{method := Method, transaction_id := Id} = decoded(iolist_to_binary(Request)),
    meerkat_stun:encode(#{class => success, method => Method, transaction_id => Id,
                          attributes => Attributes}).

allocated(Request) ->
    success(Request, [{xor_relayed_address, ?RELAYED}, {xor_mapped_address, ?MAPPED},
                      {lifetime, 600}]).

data(Payload) ->
    meerkat_stun:encode(#{class => indication, method => data,
                          transaction_id => meerkat_stun:transaction_id(),
                          attributes => [{xor_peer_address, ?PEER}, {data, Payload}]}).
