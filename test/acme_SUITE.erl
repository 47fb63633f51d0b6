%% Certificates of an ACME authority (RFC 8555), got as docs/certificates.md tells: certbot lays
%% down the answer to the challenge, our HTTP serves it, and what certbot renews is in force by
%% itself. The authority is pebble, on this machine.
-module(acme_SUITE).

-include_lib("stdlib/include/assert.hrl").

-import(turn_kit, [doc/1, with_server/2, eventually/1]).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([certbot_gets_and_renews/1, nothing_else_is_served/1]).

-define(NAME, "turn.example.org").

-spec all() -> [atom()].
all() -> [certbot_gets_and_renews, nothing_else_is_served].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 120}}].

-spec init_per_suite(turn_kit:config()) -> turn_kit:config().
init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "speaks UDP to others"}),
    Config.

-spec end_per_suite(turn_kit:config()) -> _.
end_per_suite(_Config) -> ok.

in(Config, Name) -> filename:join(proplists:get_value(priv_dir, Config), Name).

settings(Config) ->
    #{http_listen => {{127, 0, 0, 1}, 0},
      acme_webroot => unicode:characters_to_binary(in(Config, "webroot"))}.

%%% The authority

program(Name, Arguments, Env) ->
    Path = os:find_executable(Name),
    true = is_list(Path),
    Port = open_port({spawn_executable, Path},
                     [{args, Arguments}, {env, Env}, exit_status, stderr_to_stdout, binary]),
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    {Port, Pid}.

ended({Port, Pid}) ->
    _ = os:cmd("kill " ++ integer_to_list(Pid)),
    receive {Port, {exit_status, _}} -> ok end.

said({Port, _} = Program, Pattern, Before) ->
    receive
        {Port, {data, Data}} ->
            Read = <<Before/binary, Data/binary>>,
            case re:run(Read, Pattern) of
                {match, _} -> ok;
                nomatch -> said(Program, Pattern, Read)
            end;
        {Port, {exit_status, Status}} -> error({ended, Status, Before})
    end.

%% That validates at this port, and finds every name at this machine.
with_authority(Config, HttpPort, Fun) ->
    [Dns, Acme, Manage] = [turn_kit:free_ports(1) || _ <- [1, 2, 3]],
    At = fun(Port) -> "127.0.0.1:" ++ integer_to_list(Port) end,
    Own = certificate_kit:self_signed(proplists:get_value(priv_dir, Config),
                                      "DNS:localhost,IP:127.0.0.1"),
    ok = file:write_file(in(Config, "pebble.json"), meerkat_json:encode(
        #{pebble => #{listenAddress => list_to_binary(At(Acme)),
                      managementListenAddress => list_to_binary(At(Manage)),
                      certificate => list_to_binary(maps:get(certificate, Own)),
                      privateKey => list_to_binary(maps:get(key, Own)),
                      httpPort => HttpPort, tlsPort => 5001}})),
    Names = program("pebble-challtestsrv",
                    ["-dns01", At(Dns), "-http01", "", "-https01", "", "-tlsalpn01", "",
                     "-management", "127.0.0.1:0", "-defaultIPv6", "", "-defaultIPv4", "127.0.0.1"],
                    []),
    try
        Pebble = program("pebble", ["-config", in(Config, "pebble.json"), "-dnsserver", At(Dns)],
                         [{"PEBBLE_VA_NOSLEEP", "1"}, {"PEBBLE_WFE_NONCEREJECT", "0"}]),
        try
            ok = said(Pebble, "ACME directory available", <<>>),
            Fun("https://" ++ At(Acme) ++ "/dir")
        after ended(Pebble)
        end
    after ended(Names)
    end.

certbot(Config, Directory, Arguments) ->
    Own = [[" --", Kind, "-dir ", in(Config, "certbot/" ++ Kind)]
           || Kind <- ["config", "work", "logs"]],
    Said = os:cmd(["certbot ", Arguments, " --non-interactive --no-verify-ssl --server ", Directory,
                   Own, " 2>&1; echo ended $?"]),
    ?assertMatch({match, _}, re:run(Said, "ended 0\n$"), Said).

%%% Cases

-spec certbot_gets_and_renews(turn_kit:config()) -> _.
certbot_gets_and_renews(Config) ->
    doc("certbot gets a certificate by the challenge served here; what it renews is in force"),
    ok = filelib:ensure_dir(in(Config, "webroot/x")),
    Live = fun(Name) -> in(Config, ["certbot/config/live/" ?NAME "/", Name]) end,
    with_server(settings(Config), fun(#{name := Name}) ->
        {_, HttpPort} = meerkat_http:address(Name),
        with_authority(Config, HttpPort, fun(Directory) ->
            certbot(Config, Directory,
                    ["certonly --webroot -w ", in(Config, "webroot"), " -d " ?NAME
                     " --agree-tos --register-unsafely-without-email --key-type ecdsa"]),
            {ok, #{certificates := Certificates}, _} =
                meerkat_config:load(#{file => none, env => [{"TLS_CERT", Live("fullchain.pem")},
                                                            {"TLS_KEY", Live("privkey.pem")},
                                                            {"STUN_SECRET", "s"}]}),
            Now = meerkat_settings:config(meerkat_registry:settings(Name)),
            #{listeners := Listeners} = stream_kit:config(Certificates),
            ok = meerkat:reload(Name, Now#{certificates => Certificates, listeners := Listeners}),
            [#{names := [<<?NAME>>], fingerprint := First}] = shown(Name),
            certbot(Config, Directory, "renew --force-renewal --no-random-sleep-on-renew"),
            eventually(fun() ->
                [#{fingerprint := Second}] = shown(Name),
                Second =/= First
            end)
        end)
    end).

shown(Name) -> maps:get(certificates, meerkat:status(Name)).

-spec nothing_else_is_served(turn_kit:config()) -> _.
nothing_else_is_served(Config) ->
    doc("challenges are files of their directory and nothing else: no way out, no link, no "
        "directory, nothing large"),
    Challenges = in(Config, "webroot/.well-known/acme-challenge"),
    Put = fun(Name, Content) ->
        File = filename:join(Challenges, Name),
        ok = filelib:ensure_dir(File),
        ok = file:write_file(File, Content)
    end,
    Put("good-Token_1", "good-Token_1.authorization"),
    Put("large", binary:copy(<<"x">>, 2000)),
    Put("below/inside", "x"),
    Put("../outside", "x"),
    Put("dotted.txt", "x"),
    ok = file:make_symlink(in(Config, "webroot/.well-known/outside"),
                           filename:join(Challenges, "link")),
    Ask = fun(Server, Token) ->
        maps:with([code, body], http_kit:get(Server, ["/.well-known/acme-challenge/", Token]))
    end,
    with_server(settings(Config), fun(Server) ->
        ?assertEqual(#{code => 200, body => <<"good-Token_1.authorization">>},
                     Ask(Server, "good-Token_1")),
        [?assertMatch({Token, #{code := 404}}, {Token, Ask(Server, Token)})
         || Token <- ["", "none", "large", "below", "below/inside", "../outside", "..%2foutside",
                      "%2e%2e/outside", "dotted.txt", "link", "good-Token_1/", "good-Token_1%00",
                      ".", "..", "a%5c..%5coutside"]]
    end),
    with_server(maps:remove(acme_webroot, settings(Config)), fun(Server) ->
        ?assertMatch(#{code := 404}, Ask(Server, "good-Token_1"))
    end).
