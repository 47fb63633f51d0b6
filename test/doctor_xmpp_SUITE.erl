%% `meerkatctl doctor --xmpp`: what ejabberd and prosody, running for real, tell a user leads to a
%% server that takes it, and where it does not, that is said. MongooseIM's GraphQL interface is
%% played by a small HTTP server that answers as that does.
-module(doctor_xmpp_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([scram_vectors/1, scram_of_a_server_that_makes_no_sense/1, users_of_real_servers/1,
         password_in_clear/1, over_tls/1, certificate_of_nobody_we_know/1, wrong_password/1,
         wrong_secret/1, nothing_told/1, nobody_there/1, no_xmpp_server/1, direct_tls_is_named/1,
         graphql/1,
         graphql_in_clear/1, graphql_refusals/1, as_a_command/1, json_stands_alone/1,
         command_makes_no_sense/1]).

-import(turn_kit, [doc/1, with_server/2]).

-define(SECRET, <<"sharedsecret">>).
-define(CLOSED, 9).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [scram_vectors, scram_of_a_server_that_makes_no_sense, users_of_real_servers,
     password_in_clear, over_tls, certificate_of_nobody_we_know, wrong_password, wrong_secret,
     nothing_told, nobody_there, no_xmpp_server, direct_tls_is_named,
     graphql, graphql_in_clear, graphql_refusals,
     as_a_command, json_stands_alone, command_makes_no_sense].

init_per_testcase(_, Config) -> ctl_kit:prepare(Config).

end_per_testcase(_, Config) -> ctl_kit:clean(Config).

%%% SCRAM

scram_vectors(_) ->
    doc("RFC 5802 5 and RFC 7677 3"),
    [begin
         {First, State} = meerkat_scram:first(Mechanism, <<"user">>, <<"pencil">>, Nonce),
         ?assertEqual(<<"n,,n=user,r=", Nonce/binary>>, First),
         ?assertEqual({ok, Response, Verifier}, meerkat_scram:final(Challenge, 4096, State))
     end || {Mechanism, Nonce, Challenge, Response, Verifier} <- [
        {<<"SCRAM-SHA-1">>, <<"fyko+d2lbbFgONRv9qkxdawL">>,
         <<"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096">>,
         <<"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,"
           "p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=">>,
         <<"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=">>},
        {<<"SCRAM-SHA-256">>, <<"rOprNGfwEbeRWgbNEkqO">>,
         <<"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
           "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096">>,
         <<"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
           "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=">>,
         <<"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=">>}]].

%% Somebody else's nonce, too much work, none, and what is no challenge.
scram_of_a_server_that_makes_no_sense(_) ->
    {<<"n,,n=a=2Cb=3Dc,r=abc">>, State} =
        meerkat_scram:first(<<"SCRAM-SHA-1">>, <<"a,b=c">>, <<"pw">>, <<"abc">>),
    [?assertEqual(error, meerkat_scram:final(Challenge, 4096, State), Challenge)
     || Challenge <- [<<"r=abd1,s=QSXC,i=4096">>, <<"r=abc,s=QSXC,i=4096">>,
                      <<"r=abc1,s=QSXC,i=4097">>, <<"r=abc1,s=QSXC,i=0">>,
                      <<"r=abc1,s=QSXC,i=x">>, <<"r=abc1,s=*,i=1">>, <<"m=x,r=abc1,s=QSXC,i=1">>,
                      <<"r=abc1">>, <<>>]].

%%% Servers

users_of_real_servers(_) ->
    [with_both(Kind, #{}, fun(_, Xmpp) ->
         [Asked, Stun, Turn] = examined(Xmpp, #{}),
         ?assertMatch({#{verdict := ok}, match},
                      {Asked, said(Asked, "^logged in to 127\\.0\\.0\\.1:[0-9]+ as "
                                          "alice@localhost with SCRAM-SHA-(1|256), without TLS$")}),
         ?assertMatch({#{verdict := ok}, match}, {Stun, said(Stun, "^stun:127.*/udp: sees us as")}),
         ?assertMatch({#{verdict := ok}, match},
                      {Turn, said(Turn, "^turn:127\\.0\\.0\\.1:[0-9]+/udp as [0-9]+[:0-9a-f]*, "
                                        "until 20.*Z: All 8 steps passed")})
     end) || Kind <- [ejabberd, prosody]].

password_in_clear(_) ->
    doc("PLAIN without TLS is for a server on this machine alone"),
    Extra = "VirtualHost \"localhost\"\n"
            "disable_sasl_mechanisms = { \"SCRAM-SHA-1\", \"SCRAM-SHA-256\" }\n",
    with_both(prosody, #{extra => Extra}, fun(_, Xmpp) ->
        [#{verdict := ok} = Asked | _] = examined(Xmpp, #{}),
        ?assertEqual(match, said(Asked, "with PLAIN, without TLS$"))
    end).

over_tls(Config) ->
    doc("STARTTLS, where the certificate is good for the JID's domain"),
    Pem = certificate(Config),
    [with_both(Kind, #{tls => Pem}, fun(_, Xmpp) ->
         Found = examined(Xmpp, #{cacert => Pem}),
         ?assertMatch([#{verdict := ok}, #{verdict := ok}, #{verdict := ok}], Found),
         ?assertEqual(match, said(hd(Found), " over TLS$"))
     end) || Kind <- [ejabberd, prosody]].

certificate_of_nobody_we_know(Config) ->
    doc("no password is sent to who only says that it is the server, nor to who has a certificate "
        "that we know under another name"),
    [Unknown, Foreign] = [certificate(Name, Config) || Name <- ["localhost", "example.com"]],
    [with_both(ejabberd, #{tls => Pem}, fun(_, Xmpp) ->
         [#{verdict := error} = Asked] = examined(Xmpp, Options),
         ?assertEqual(match, said(Asked, "^TLS with localhost: "))
     end) || {Pem, Options} <- [{Unknown, #{}}, {Foreign, #{cacert => Foreign}},
                                {Unknown, #{cacert => <<"/nowhere">>}}]].

wrong_password(_) ->
    [with_both(Kind, #{}, fun(_, Xmpp) ->
         [#{verdict := error} = Asked] = examined(Xmpp, #{password => <<"no">>}),
         ?assertEqual(match, said(Asked, "^the server does not let alice@localhost in: "
                                         "not-authorized"))
     end) || Kind <- [ejabberd, prosody]].

wrong_secret(_) ->
    doc("the XMPP server's is another than ours: found at Allocate"),
    with_both(prosody, #{secret => <<"theirs">>}, fun(_, Xmpp) ->
        ?assertMatch([#{verdict := ok}, #{verdict := ok},
                      #{verdict := error, name := service, remedy := _}], examined(Xmpp, #{})),
        Turn = lists:last(examined(Xmpp, #{})),
        ?assertEqual(match, said(Turn, "Allocate twice failed.*401"))
    end).

nothing_told(_) ->
    doc("without the module the server says what it does not know"),
    [begin
         Xmpp = xmpp_servers:start(Kind),
         [#{verdict := error, remedy := _} = Asked] = examined(Xmpp, #{}),
         ok = xmpp_servers:kill(Xmpp),
         ?assertMatch({_, match}, {Asked, said(Asked, "XEP-0215\\) the server answers "
                                                      "service-unavailable")})
     end || Kind <- [ejabberd, prosody]].

nobody_there(_) ->
    [Asked] = meerkat_doctor_xmpp:examine(#{xmpp => <<"127.0.0.1:9">>, jid => <<"a@b">>,
                                            password => <<"x">>}),
    ?assertEqual(match, said(Asked, "^no connection to 127.0.0.1:9: connection refused$")),
    [Strange] = meerkat_doctor_xmpp:examine(#{xmpp => <<"127.0.0.1:9">>, password => <<"x">>,
                                              jid => <<"a@b'><evil/>">>}),
    ?assertEqual(match, said(Strange, "^a JID is user@domain")).

no_xmpp_server(_) ->
    with_http(fun(_) -> {400, "no"} end, fun(Port) ->
        Server = iolist_to_binary(["127.0.0.1:", integer_to_list(Port)]),
        [#{verdict := error} = Asked] =
            meerkat_doctor_xmpp:examine(#{xmpp => Server, jid => <<"a@b">>, password => <<"x">>}),
        ?assertEqual(match, said(Asked, "^(what answers there is no XMPP server|the server has "
                                        "closed the connection)$"))
    end).

%% A port of direct TLS answers what is no TLS with an alert (RFC 8446 6).
direct_tls_is_named(_) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Port} = inet:port(Listener),
    _ = spawn_link(fun() ->
        {ok, Socket} = gen_tcp:accept(Listener),
        {ok, _} = gen_tcp:recv(Socket, 0),
        ok = gen_tcp:send(Socket, <<21, 3, 3, 2:16, 2, 10>>),
        {error, closed} = gen_tcp:recv(Socket, 0)
    end),
    Server = iolist_to_binary(["127.0.0.1:", integer_to_list(Port)]),
    [#{verdict := error} = Asked] =
        meerkat_doctor_xmpp:examine(#{xmpp => Server, jid => <<"a@b">>, password => <<"x">>}),
    ?assertEqual(match, said(Asked, "^what answers there speaks TLS from its first byte on")),
    ok = gen_tcp:close(Listener).

%%% MongooseIM's GraphQL interface

graphql(_) ->
    doc("services as MongooseIM gives them: null for what is not set, seconds for the end"),
    with_server(#{secrets => [?SECRET]}, fun(#{port := Turn}) ->
        Expiry = erlang:system_time(second) + 3600,
        User = <<(integer_to_binary(Expiry))/binary, ":localhost">>,
        Common = #{host => <<"127.0.0.1">>, port => Turn, transport => <<"udp">>},
        Answer = fun(Request) ->
            Encoded = base64:encode("admin:secret"),
            ?assertEqual({ok, <<"Basic ", Encoded/binary>>}, header("Authorization", Request)),
            {ok, #{<<"query">> := Query}} = meerkat_json:decode(body(Request)),
            ?assertNotEqual(nomatch, string:find(Query, "getServices(domain: \"localhost\")")),
            Null = #{username => null, password => null, expires => null},
            Services = [maps:merge(Common#{type => <<"stun">>}, Null),
                        Common#{type => <<"turn">>, username => User, expires => Expiry,
                                password => meerkat_auth_rest:password(?SECRET, User)},
                        #{type => <<"ftp">>, host => <<"127.0.0.1">>, port => null,
                          transport => null, username => null, password => null,
                          expires => null}],
            {200, meerkat_json:encode(#{data => #{externalServices =>
                                                      #{getServices => Services}}})}
        end,
        with_http(Answer, fun(Port) ->
            Found = graphql_asked(Port),
            ?assertMatch([#{verdict := ok}, #{verdict := ok}, #{verdict := ok},
                          #{verdict := unknown}], Found),
            ?assertEqual(match, said(lists:nth(3, Found), ":localhost, until 20.*Z: All 8 steps"))
        end)
    end).

graphql_in_clear(_) ->
    doc("http to a host that is not this one: the password was shown, and that is said"),
    Lookup = proplists:get_value(lookup, inet:get_rc(), [native]),
    ok = inet_db:add_host({127, 0, 0, 1}, ["chat.example.com"]),
    ok = inet_db:set_lookup([file | Lookup -- [file]]),
    try
        Answer = "{\"data\":{\"externalServices\":{\"getServices\":[]}}}",
        with_http(fun(_) -> {200, Answer} end, fun(Port) ->
            ?assertMatch([#{verdict := ok}, #{name := password, verdict := warning, remedy := _},
                          #{name := services, verdict := error}],
                         graphql_asked("chat.example.com", Port)),
            ?assertMatch([#{verdict := ok}, #{name := services}], graphql_asked("127.0.0.1", Port))
        end)
    after
        ok = inet_db:set_lookup(Lookup),
        ok = inet_db:del_host({127, 0, 0, 1})
    end.

graphql_refusals(_) ->
    Refusal = fun(Status, Body) ->
        with_http(fun(_) -> {Status, Body} end, fun(Port) ->
            [#{verdict := error, text := Text, remedy := _}] = graphql_asked(Port),
            Text
        end)
    end,
    Unknown = "{\"errors\":[{\"extensions\":{\"code\":\"domain_not_found\"},\"message\":"
              "\"Given domain does not exist\",\"path\":[\"externalServices\",\"getServices\"]}],"
              "\"data\":null}",
    ?assertMatch({match, _}, re:run(Refusal(200, Unknown),
                                    "Given domain does not exist \\(domain_not_found\\)$")),
    ?assertMatch({match, _}, re:run(Refusal(401, "{}"), "refuses this user and password$")),
    ?assertMatch({match, _}, re:run(Refusal(200, "<html>"), "status 200 and nothing that")),
    [#{text := None}] = graphql_asked(?CLOSED),
    ?assertMatch({match, _}, re:run(None, "^no answer from http.*: connection refused$")),
    [#{text := Url}] = meerkat_doctor_xmpp:examine(#{graphql => <<"localhost">>, user => <<"u">>,
                                                     password => <<"p">>, domain => <<"d">>}),
    ?assertMatch({match, _}, re:run(Url, "^--graphql must be a URL")).

graphql_asked(Port) -> graphql_asked("127.0.0.1", Port).

graphql_asked(Host, Port) ->
    Url = iolist_to_binary(["http://", Host, ":", integer_to_list(Port), "/api/graphql"]),
    meerkat_doctor_xmpp:examine(#{graphql => Url, user => <<"admin">>, password => <<"secret">>,
                                  domain => <<"localhost">>}).

%%% meerkatctl

as_a_command(Config) ->
    doc("findings as doctor has them, exit code 0; 1 where one is an error; a password on stdin"),
    with_both(ejabberd, #{}, fun(_, #{c2s := Port} = Xmpp) ->
        Doctor = ["doctor", "--xmpp", "127.0.0.1:" ++ integer_to_list(Port),
                  "--jid", "alice@localhost"],
        {0, Text} = ctl_kit:fed(Config, "alicepw", Doctor),
        ?assertMatch({match, _}, re:run(Text, "  ok +service +turn:127.*All 8 steps passed.*"
                                              "0 errors, 0 warnings", [dotall])),
        {1, Findings} = ctl_kit:json(Config, Doctor ++ ["--password", "wrong"]),
        ?assertMatch([#{<<"verdict">> := <<"error">>, <<"name">> := <<"asked">>}], Findings),
        ?assertEqual(nomatch, string:find(xmpp_servers:log(Xmpp), "crash"))
    end).

json_stands_alone(Config) ->
    doc("OTP has a notice for each handshake that fails; with --json there is one line and no "
        "other, on either output"),
    Pem = certificate(Config),
    {ok, _} = application:ensure_all_started(ssl),
    {ok, Listener} = ssl:listen(0, [{ip, {127, 0, 0, 1}}, {certfile, Pem ++ ".crt"},
                                    {keyfile, Pem ++ ".key"}, {log_level, none}]),
    {ok, {_, Port}} = ssl:sockname(Listener),
    Server = spawn_link(fun() -> refused_handshakes(Listener) end),
    At = "localhost:" ++ integer_to_list(Port),
    [begin
         {1, Printed} = ctl_kit:run(Config, ["doctor", "--json", "--password", "x" | Args]),
         [Line] = string:lexemes(Printed, "\n"),
         {ok, [#{<<"verdict">> := <<"error">>}]} =
             meerkat_json:decode(unicode:characters_to_binary(Line))
     end || Args <- [["--graphql", "https://" ++ At ++ "/", "--user", "u", "--domain", "localhost"],
                     ["--xmpp", At, "--jid", "a@localhost"]]],
    true = unlink(Server),
    true = exit(Server, kill),
    ok = ssl:close(Listener).

refused_handshakes(Listener) ->
    {ok, Socket} = ssl:transport_accept(Listener),
    {error, _} = ssl:handshake(Socket, 20000),
    refused_handshakes(Listener).

command_makes_no_sense(Config) ->
    [?assertEqual({2, Said ++ "\n"}, ctl_kit:run(Config, ["doctor" | Args] ++ ["--password", "x"]))
     || {Args, Said} <- [{["--xmpp", "localhost"], "--xmpp needs --jid"},
                         {["--graphql", "http://localhost/", "--user", "u"],
                          "--graphql needs --domain"},
                         {["--graphql", "http://localhost/", "--xmpp", "localhost"],
                          "--xmpp or --graphql, not both"}]].

%%% Tools

with_both(Kind, Options, Fun) ->
    with_server(#{secrets => [?SECRET]}, fun(#{port := Port} = Server) ->
        Xmpp = xmpp_servers:start(Kind, Options#{services => {{127, 0, 0, 1}, Port}}),
        try Fun(Server, Xmpp) after xmpp_servers:kill(Xmpp) end
    end).

examined(#{c2s := Port}, Options) ->
    Server = iolist_to_binary(["127.0.0.1:", integer_to_list(Port)]),
    meerkat_doctor_xmpp:examine(maps:merge(#{xmpp => Server, jid => <<"alice@localhost">>,
                                             password => <<"alicepw">>}, Options)).

said(#{text := Text}, Pattern) ->
    re:run(Text, Pattern, [unicode, {capture, none}]).

%% Good for a name, and its own witness.
certificate(Config) -> certificate("localhost", Config).

certificate(Name, Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), Name ++ ".pem"),
    Printed = os:cmd("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=" ++ Name ++ " "
                     "-addext subjectAltName=DNS:" ++ Name ++ " -keyout " ++ File ++ ".key -out "
                     ++ File ++ ".crt && cat " ++ File ++ ".crt " ++ File ++ ".key > " ++ File),
    filelib:file_size(File) > 0 orelse error({openssl, Printed}),
    File.

%% Answers requests by Answer until Fun is done.
with_http(Answer, Fun) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Port} = inet:port(Listener),
    Pid = spawn_link(fun() -> serve(Listener, Answer) end),
    try Fun(Port)
    after
        true = unlink(Pid),
        exit(Pid, kill),
        ok = gen_tcp:close(Listener)
    end.

serve(Listener, Answer) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    {Status, Body} = Answer(request(Socket, <<>>)),
    ok = gen_tcp:send(Socket, ["HTTP/1.1 ", integer_to_list(Status), " Status\r\ncontent-type: "
                               "application/json\r\nconnection: close\r\ncontent-length: ",
                               integer_to_list(iolist_size(Body)), "\r\n\r\n", Body]),
    ok = gen_tcp:close(Socket),
    serve(Listener, Answer).

%% Head and body as they came; what is no HTTP ends with its first packet.
request(Socket, Read) ->
    {ok, More} = gen_tcp:recv(Socket, 0, 10000),
    All = <<Read/binary, More/binary>>,
    case header("Content-Length", All) of
        {ok, Length} ->
            case byte_size(body(All)) >= binary_to_integer(Length) of
                true -> All;
                false -> request(Socket, All)
            end;
        error ->
            All
    end.

body(Request) ->
    [_, Body] = binary:split(<<Request/binary, "\r\n\r\n">>, <<"\r\n\r\n">>),
    string:trim(Body, trailing, "\r\n").

header(Name, Request) ->
    case re:run(Request, "^" ++ Name ++ ": *([^\r\n]+)",
                [multiline, caseless, {newline, any}, {capture, all_but_first, binary}]) of
        {match, [Value]} -> {ok, Value};
        nomatch -> error
    end.
