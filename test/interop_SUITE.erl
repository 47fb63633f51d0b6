%% Clients that others wrote, against a server of ours: coturn's turnutils_uclient, aioice, libnice,
%% and two RTCPeerConnections in Chromium. The programs of test/interop do the work and judge it;
%% their own exit status and last line decide.
-module(interop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1]).
%% For whoever has a page to show to Chromium, or other programs of that directory.
-export([npm_ci/0, npm_ci/1, browser/2, browser/3, run/3, nice/1]).
-export([uclient_send/1, uclient_channel/1, uclient_channel_one_socket/1, uclient_padded/1,
         uclient_large/1, uclient_ipv6_client/1, uclient_ipv6_relay/1, uclient_between_clients/1,
         uclient_rest_credentials/1, uclient_without_permission_relays_nothing/1,
         uclient_strict_channel_numbers/1, uclient_mobility/1, uclient_mobility_ipv6/1,
         natdiscovery/1, stunclient/1, uclient_disconnecting_channel/1,
         uclient_sends_between_clients/1, uclient_dont_fragment/1, uclient_extra_requests/1,
         uclient_negative/1, uclient_disconnecting_send/1, uclient_hasty/1, uclient_malformed/1,
         aioice_relay/1, nice_relay/1, browser_relay/1, a_wrong_password_fails/1]).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [{group, Name} || {Name, _, _} <- groups()].

%% These programs wait most of their time: a few of them run side by side, the longest together.
groups() ->
    [{at_a_time_1, [parallel], [uclient_disconnecting_send, uclient_disconnecting_channel,
                                uclient_without_permission_relays_nothing, uclient_malformed,
                                uclient_mobility, uclient_mobility_ipv6]},
     {at_a_time_2, [parallel], [browser_relay, uclient_dont_fragment, uclient_extra_requests,
                                uclient_padded, uclient_hasty, uclient_negative]},
     {at_a_time_3, [parallel], [uclient_ipv6_relay, uclient_between_clients, uclient_channel,
                                uclient_rest_credentials, uclient_channel_one_socket,
                                uclient_sends_between_clients]},
     {at_a_time_4, [parallel], [uclient_ipv6_client, uclient_send, uclient_large,
                                uclient_strict_channel_numbers, nice_relay, natdiscovery]},
     {at_a_time_5, [parallel], [stunclient, aioice_relay, a_wrong_password_fails]}].

%% Debian's uclient chooses channel numbers up to 0x7FFF (K12).
init_per_suite(Config) ->
    [{server, turn_kit:start_server(#{rfc5766_channel_numbers => true})} | Config].

end_per_suite(Config) ->
    turn_kit:stop_server(server(Config)).

server(Config) -> proplists:get_value(server, Config).

uclient_send(Config) -> uclient(Config, "send", []).

%% Two allocations a client, the second at the odd port held by the first (EVEN-PORT).
uclient_channel(Config) -> uclient(Config, "channel", []).

uclient_channel_one_socket(Config) -> uclient(Config, "channel", ["-c"]).

%% ChannelData padded to four bytes, as pjnath sends it over UDP.
uclient_padded(Config) -> uclient(Config, "channel", ["-c", "-D"]).

uclient_large(Config) -> uclient(Config, "channel", ["-c", "-l", "1400", "-n", "100", "-z", "5"]).

uclient_ipv6_client(Config) -> uclient("::1", Config, "channel", ["-c"]).

uclient_ipv6_relay(Config) -> uclient(Config, "channel", ["-c", "-x", "-e", "::1"]).

uclient_between_clients(Config) -> uclient(Config, "channel", ["-y", "-c"]).

%% With RTCP: two allocations a client.
uclient_sends_between_clients(Config) -> uclient(Config, "send", ["-y"]).

uclient_dont_fragment(Config) ->
    [uclient(Config, Mode, ["-c", "-g"]) || Mode <- ["send", "channel"]].

%% Permissions and channels for peers it has no use for, some of a family it did not ask for.
uclient_extra_requests(Config) ->
    [uclient(Config, Mode, ["-c", "-G"]) || Mode <- ["send", "channel"]].

%% Wrong channel numbers and ports on the way, which it wants refused.
uclient_negative(Config) -> uclient(Config, "send", ["-N"]).

%% Leaves its sockets at random and comes again, and loses what was on its way by then.
uclient_disconnecting_send(Config) -> uclient_disconnecting("send", Config).

uclient_disconnecting_channel(Config) -> uclient_disconnecting("channel", Config).

uclient_disconnecting(Mode, Config) ->
    unharmed(Config, fun(Server) ->
        ends(run_uclient("127.0.0.1", Server, Mode, ["-c", "-B"]))
    end).

%% Allocates and runs, many times, without ever looking back.
uclient_hasty(Config) ->
    unharmed(Config, fun(Server) ->
        ends(run_uclient("127.0.0.1", Server, "channel", ["-O", "-G", "-m", "10"]))
    end).

%% By itself, with everything lost or nothing.
ends({_, Output}) -> ?assertEqual(nomatch, re:run(Output, "no end after")).

%% Its requests have bytes changed at random. Those that are no STUN any more are not answered, and
%% since it sends the same bytes until they are, it may not come to an end by itself.
uclient_malformed(Config) ->
    unharmed(Config, fun(Server) ->
        [run_uclient("127.0.0.1", Server, Mode, ["-c", "-R"], [{"LIMIT", "5"}])
         || Mode <- ["send", "channel"]]
    end).

%% The relay that was there before still serves, and loses nothing.
unharmed(Config, Fun) ->
    #{name := Name} = Server = server(Config),
    Relay = meerkat_roles:find(Name, relay),
    _ = Fun(Server),
    uclient(Config, "channel", ["-c"]),
    ?assertEqual(Relay, meerkat_roles:find(Name, relay)).

%% username = expiry:name, password = HMAC of it, made by uclient from the secret.
uclient_rest_credentials(Config) ->
    #{secret := Secret} = server(Config),
    uclient(Config, "channel", ["-c", "-W", binary_to_list(Secret)]).

%% Without permissions all must be lost, and the harness must say so.
uclient_without_permission_relays_nothing(Config) ->
    {Status, Output} = run_uclient("127.0.0.1", server(Config), "send", ["-I", "-c"]),
    ?assertEqual(1, Status),
    ?assertMatch({match, _}, re:run(Output, "FAILED")).

%% A server that keeps to RFC 8656 refuses the numbers that this client likes; it says 400.
uclient_strict_channel_numbers(_Config) ->
    turn_kit:with_server(#{}, fun(Server) ->
        Runs = [run_uclient("127.0.0.1", Server, "channel", ["-c"]) || _ <- lists:seq(1, 4)],
        ?assert(lists:any(fun({Status, Output}) ->
                              Status =:= 1 andalso re:run(Output, "error 400") =/= nomatch
                          end, Runs))
    end).

%% It moves to another socket in the middle of a run, and not one message may be lost.
uclient_mobility(_Config) -> uclient_moves("127.0.0.1").

uclient_mobility_ipv6(_Config) -> uclient_moves("::1").

uclient_moves(Host) ->
    Settings = #{rfc5766_channel_numbers => true, mobility => true},
    turn_kit:with_server(Settings, fun(Server) ->
        [begin
             counted_moves(Server, fun() ->
                 {Status, Output} = run_uclient(Host, Server, Mode, ["-M", "-c"]),
                 ?assertEqual({0, match}, {Status, re:run(Output, "lost 0", [{capture, none}])})
             end)
         end || Mode <- ["channel", "send"]]
    end).

counted_moves(Server, Run) ->
    Before = turn_kit:counter(Server, moves),
    Run(),
    ?assert(turn_kit:counter(Server, moves) > Before).

%% coturn's discovery sees the loopback for what it is: no NAT.
natdiscovery(_Config) ->
    discoverable(fun(Port) ->
        [begin
             {Status, Output} = exec(os:find_executable("turnutils_natdiscovery"),
                                     Options ++ ["-p", Port, "-L", "127.0.0.1", "127.0.0.1"]),
             ?assertEqual(0, Status),
             [?assertMatch({{match, _}, _}, {re:run(Output, Line), Line})
              || Line <- ["NAT with Endpoint Independent Mapping!",
                          "NAT with Endpoint Independent Filtering!"]]
         end || Options <- [["-m", "-f"], ["-m", "-f", "-P"]]]
    end).

stunclient(_Config) ->
    discoverable(fun(Port) ->
        {Status, Output} = exec(os:find_executable("turnutils_stunclient"),
                                ["-f", "-p", Port, "-L", "127.0.0.1", "127.0.0.1"]),
        ?assertEqual(0, Status),
        [?assertMatch({{match, _}, _}, {re:run(Output, Line), Line})
         || Line <- ["RFC 5780 response", "Other addr: : 127.0.0.2:"]]
    end).

%% Runs Fun with the first port of a server that has what RFC 5780 asks for.
discoverable(Fun) ->
    Port = turn_kit:free_ports(2),
    Listeners = [#{transport => udp, ip => {127, 0, 0, Ip}, port => P,
                   other => {{127, 0, 0, 3 - Ip}, 2 * Port + 1 - P}}
                 || Ip <- [1, 2], P <- [Port, Port + 1]],
    turn_kit:with_server(#{listeners => Listeners}, fun(_) -> Fun(integer_to_list(Port)) end).

aioice_relay(Config) ->
    #{ip := Ip, port := Port, users := Users} = server(Config),
    {Status, Output} = run("aioice_relay.py", [inet:ntoa(Ip), integer_to_list(Port), "alice",
                                               maps:get(<<"alice">>, Users)]),
    ?assertEqual({0, match}, {Status, re:run(Output, "aioice relay: ok", [{capture, none}])}).

%% Two agents of libnice; afterwards both have given their allocations back.
nice_relay(Config) ->
    Nice = nice(Config),
    turn_kit:with_server(#{}, fun(#{name := Name, ip := Ip, port := Port, users := Users}) ->
        Args = [inet:ntoa(Ip), integer_to_list(Port), "alice"],
        {Status, Output} = Nice(Args ++ [maps:get(<<"alice">>, Users)]),
        ?assertEqual({0, match}, {Status, re:run(Output, "nice relay: ok", [{capture, none}])}),
        ?assertMatch(#{allocations := 0, answers := #{success := Answers}} when Answers > 0,
                     meerkat:info(Name)),
        {1, Refused} = Nice(Args ++ ["not hers"]),
        ?assertMatch({match, _}, re:run(Refused, "got no allocation"))
    end).

browser_relay(Config) ->
    #{ip := Ip, port := Port, users := Users} = server(Config),
    {0, _} = npm_ci(),
    {Status, Output} = browser("relay_call.mjs", [inet:ntoa(Ip), integer_to_list(Port), "alice",
                                                  maps:get(<<"alice">>, Users)]),
    ?assertEqual(0, Status),
    ?assertMatch({match, _}, re:run(Output, "frames decoded [0-9]+, local relay")).

a_wrong_password_fails(Config) ->
    #{ip := Ip, port := Port} = server(Config),
    Args = [inet:ntoa(Ip), integer_to_list(Port), "alice", "not hers"],
    {1, _} = run("uclient.sh", Args ++ ["send"]),
    {1, Output} = run("aioice_relay.py", Args),
    ?assertMatch({match, _}, re:run(Output, "401")).

%%% Running them

uclient(Config, Mode, Options) -> uclient("127.0.0.1", Config, Mode, Options).

uclient(Host, Config, Mode, Options) ->
    {Status, Output} = run_uclient(Host, server(Config), Mode, Options),
    ?assertEqual(0, Status),
    ?assertMatch({match, _}, re:run(Output, "uclient " ++ Mode ++ ": sent [1-9][0-9]* .*lost 0")).

run_uclient(Host, Server, Mode, Options) -> run_uclient(Host, Server, Mode, Options, []).

run_uclient(Host, #{listeners := Listeners, users := Users}, Mode, Options, Env) ->
    {ok, Ip} = inet:parse_address(Host),
    {Ip, Port} = lists:keyfind(Ip, 1, Listeners),
    exec(path(["uclient.sh"]), [Host, integer_to_list(Port), "alice", maps:get(<<"alice">>, Users),
                                Mode | Options], Env).

%% Runs a program of test/interop/browser; npm_ci/0 first.
browser(Program, Args) -> browser(Program, Args, []).

browser(Program, Args, Env) ->
    exec(os:find_executable("node"), [path(["browser", Program]) | Args], Env).

npm_ci() -> npm_ci("test/interop/browser").

%% The packages that the lock file of this directory of the project names, unless they are there: a
%% suite that runs beside this one may want them too, and use them already.
npm_ci(Dir) ->
    Install = "cd \"$1\" || exit; [ node_modules/.package-lock.json -nt package-lock.json ] || "
        "exec npm ci --silent --no-audit --no-fund",
    Directory = filename:join(root(), Dir),
    exec(os:find_executable("flock"), [filename:join(Directory, "package-lock.json"),
                                       "sh", "-c", Install, "npm_ci", Directory]).

run(Program, Args) -> run(Program, Args, []).

run(Program, Args, Env) -> exec(path([Program]), Args, Env).

%% Two agents of libnice, compiled.
nice(Config) ->
    Program = filename:join(proplists:get_value(priv_dir, Config), "nice_relay"),
    Flags = string:lexemes(os:cmd("pkg-config --cflags --libs nice"), " \n"),
    {0, _} = exec(os:find_executable("cc"), ["-o", Program, path(["nice_relay.c"]) | Flags]),
    fun(Args) -> exec(Program, Args) end.

path(Parts) -> filename:join([root(), "test", "interop" | Parts]).

root() -> filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."]).

exec(Program, Args) -> exec(Program, Args, []).

exec(Program, Args, Env) ->
    Port = open_port({spawn_executable, Program},
                     [{args, Args}, {env, Env}, exit_status, binary, stderr_to_stdout, hide]),
    {Status, Output} = collect(Port, []),
    ct:log("~ts ~p~nstatus ~b~n~ts", [Program, Args, Status, Output]),
    {Status, Output}.

collect(Port, Acc) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Acc, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Acc)}
    end.
