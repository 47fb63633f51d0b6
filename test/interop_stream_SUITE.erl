%% Clients that others wrote, over TCP and TLS: Chromium, Firefox, aioice, libnice, coturn's
%% turnutils_uclient. The programs of test/interop do the work and judge it. Each is to trust an
%% authority of this suite, as it would that of the world.
-module(interop_stream_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([chromium_tcp/1, chromium_tls/1, firefox_tcp/1, firefox_tls/1, aioice_tcp/1, aioice_tls/1,
         nice_tcp/1, uclient_tcp/1, strangers_are_not_trusted/1]).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, side_by_side}].

%% They wait most of their time.
groups() ->
    [{side_by_side, [parallel],
      [chromium_tcp, chromium_tls, firefox_tcp, firefox_tls, aioice_tcp, aioice_tls, nice_tcp,
       uclient_tcp, strangers_are_not_trusted]}].

init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "speaks UDP to others"}),
    {0, _} = interop_SUITE:npm_ci(),
    Authority = certificate_kit:authority(proplists:get_value(priv_dir, Config)),
    #{certificate := Chain, key := Key} =
        certificate_kit:issued(Authority, "DNS:localhost,IP:127.0.0.1"),
    [{ok, ChainPem}, {ok, KeyPem}] = [file:read_file(File) || File <- [Chain, Key]],
    Settings = stream_kit:config([#{chain => ChainPem, key => KeyPem,
                                    chain_file => list_to_binary(Chain),
                                    key_file => list_to_binary(Key)}]),
    %% Debian's uclient chooses channel numbers up to 0x7FFF (K12).
    [{server, turn_kit:start_server(Settings#{rfc5766_channel_numbers => true})},
     {authority, maps:get(certificate, Authority)} | Config].

end_per_suite(Config) ->
    turn_kit:stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).
authority(Config) -> proplists:get_value(authority, Config).

%% Where that transport is, as arguments of the programs, and whose credentials.
arguments(Transport, Config) ->
    #{name := Name, users := Users} = server(Config),
    Key = case Transport of "tcp" -> tcp_listeners; "tls" -> tls_listeners end,
    {_, Port} = lists:keyfind({127, 0, 0, 1}, 1, maps:get(Key, meerkat:info(Name))),
    ["127.0.0.1", integer_to_list(Port), "alice", maps:get(<<"alice">>, Users)].

chromium_tcp(Config) -> browser("chromium", "tcp", "127.0.0.1", Config).
chromium_tls(Config) -> browser("chromium", "tls", "127.0.0.1", Config).
firefox_tcp(Config) -> browser("firefox", "tcp", "127.0.0.1", Config).
%% Firefox takes no address for turns:, be it in the certificate.
firefox_tls(Config) -> browser("firefox", "tls", "localhost", Config).

%% Relay to relay alone, messages both ways, video decoded.
browser(Browser, Transport, Host, Config) ->
    [_ | Args] = arguments(Transport, Config),
    {Status, Output} = call(Browser, [Host | Args] ++ [Transport | [authority(Config)
                                                                    || Transport =:= "tls"]]),
    ?assertEqual({0, match}, {Status, re:run(Output, "frames decoded [0-9]+, local relay",
                                             [{capture, none}])}).

call(Browser, Args) ->
    interop_SUITE:browser("relay_call.mjs", Args, [{"BROWSER", Browser}]).

%% None of them says so: without somebody to vouch for the server there is no connection.
strangers_are_not_trusted(Config) ->
    {1, Said} = call("chromium", arguments("tls", Config) ++ ["tls"]),
    ?assertMatch({match, _}, re:run(Said, "gathered no relay candidate")),
    {1, Refused} = interop_SUITE:run("aioice_relay.py", arguments("tls", Config) ++ ["tls"], []),
    ?assertMatch({match, _}, re:run(Refused, "certificate verify failed|CertificateVerif")).

aioice_tcp(Config) -> aioice("tcp", [], Config).
aioice_tls(Config) -> aioice("tls", [{"SSL_CERT_FILE", authority(Config)}], Config).

aioice(Transport, Env, Config) ->
    {Status, Output} = interop_SUITE:run("aioice_relay.py",
                                         arguments(Transport, Config) ++ [Transport], Env),
    ?assertEqual({0, match}, {Status, re:run(Output, "aioice relay: ok", [{capture, none}])}).

%% It has no TLS of its own: what it calls so is plain TCP, or Google's, which is none.
nice_tcp(Config) ->
    {Status, Output} = (interop_SUITE:nice(Config))(arguments("tcp", Config) ++ ["tcp"]),
    ?assertEqual({0, match}, {Status, re:run(Output, "nice relay: ok", [{capture, none}])}).

%% Over TLS it takes all that is in a record for one message: tls_SUITE has how far it comes.
uclient_tcp(Config) ->
    [begin
         {Status, Output} = interop_SUITE:run("uclient.sh",
                                              arguments("tcp", Config) ++ [Mode, "-t"], []),
         ?assertEqual({0, match}, {Status, re:run(Output, "sent [1-9][0-9]* .*lost 0",
                                                  [{capture, none}])})
     end || Mode <- ["send", "channel"]].
