%% The servers under test: how each is started, on one CPU and with the same user, and which
%% processes its work is charged to. Knows nothing of what is measured.
-module(bench_servers).

-export([table/0, title/1, colour/1, missing/1, hosts/1, start/2, stop/1, info/1, is_alive/1,
         version/1, credentials/0, leash/2]).
-export_type([id/0, server/0]).

-type id() :: ours | ours_epoll | ours_limits | ours_lists | ours_long | ours_six |
              coturn | coturn_gso | p1 | floor | floor_batches | floor_tls | ours_streams |
              coturn_streams | ours_path | coturn_path.
-opaque server() :: #{id := id(), port := inet:port_number(), leash := port(), log := string(),
                      pids := [string()], relay := [string()]}.

%% CPU that servers have for themselves; the generator has CPU 0.
-define(CPU, "1").
%% Below the ephemeral ports, which clients' sockets take.
-define(MIN_PORT, "10000").
-define(MAX_PORT, "32767").
-define(USER, "bench").
-define(PASSWORD, "bench-password").
-define(REALM, "bench").
%% Milliseconds a server may take to answer its first Binding request.
-define(PATIENCE, 20000).
-define(ASK_EACH, 100).

%% Id, title, colour of its bars.
-spec table() -> [{id(), string(), string()}].
table() ->
    [{ours, "Meerkat", "#2f6f4e"},
     {ours_epoll, "Meerkat, epoll", "#8fc1a5"},
     {coturn, "coturn", "#c0562f"},
     {coturn_gso, "coturn, multiplex and GSO", "#e3a587"},
     {floor, "floor", "#8a8a8a"},
     {floor_batches, "floor, in batches", "#bdbdbd"},
     {p1, "Erlang stun", "#8d5aa8"},
     {ours_limits, "Meerkat, bandwidth limits", "#2f6f4e"},
     {ours_lists, "Meerkat, lists", "#2f6f4e"},
     {ours_long, "Meerkat, without shortcuts", "#8fc1a5"},
     {ours_six, "Meerkat, six servers in one VM", "#2f6f4e"}].

-spec title(id()) -> string().
title(Id) ->
    {Id, Title, _} = lists:keyfind(Id, 1, table()),
    Title.

-spec colour(id()) -> string().
colour(Id) ->
    {Id, _, Colour} = lists:keyfind(Id, 1, table()),
    Colour.

%% User and password that every server knows.
-spec credentials() -> {string(), string()}.
credentials() ->
    {?USER, ?PASSWORD}.

%% What keeps a server from being measured here, in a sentence.
-spec missing(id()) -> none | string().
missing(coturn) ->
    case os:find_executable(turnserver(coturn)) of
        false -> "not installed; `apt-get install coturn` does it";
        _ -> none
    end;
missing(coturn_gso) ->
    Program = turnserver(coturn_gso),
    case os:find_executable(Program) of
        false ->
            Program ++ " is not there";
        _ ->
            %% 4.6 prints its options for one that it does not know, later ones for --help too.
            case string:find(os:cmd("'" ++ Program ++ "' --help 2>&1"), "--udp-gso") of
                nomatch ->
                    "this coturn has no --multiplex-peer and --udp-gso, which came with 4.12";
                _ -> none
            end
    end;
missing(p1) ->
    case code:which(stun_listener) of
        non_existing -> "not installed; `apt-get install erlang-p1-stun` does it";
        _ -> none
    end;
missing(_) ->
    none.

-spec version(id()) -> string().
version(Coturn) when Coturn =:= coturn; Coturn =:= coturn_gso ->
    Said = os:cmd("'" ++ turnserver(Coturn) ++ "' --version 2>/dev/null"),
    lists:last(string:lexemes(Said, "\n"));
version(p1) ->
    File = filename:join(filename:dirname(code:which(stun_listener)), "stun.app"),
    {ok, [{application, stun, Keys}]} = file:consult(File),
    {vsn, Version} = lists:keyfind(vsn, 1, Keys),
    Version;
version(ours) ->
    _ = application:load(meerkat),
    {ok, Version} = application:get_key(meerkat, vsn),
    Commit = string:trim(os:cmd("git -C " ++ bench:root() ++
                                    " rev-parse --short HEAD 2>/dev/null")),
    case Commit of
        "" -> Version;
        _ -> Version ++ " (" ++ Commit ++ ")"
    end;
version(_) ->
    "".

%% Starts a server on a free port of 127.0.0.1 and ::1, or several at once on the same port of
%% addresses of their own, and waits until it answers. Its files are in Dir, which is there. When
%% the caller dies the server does.
-spec start(id(), file:filename()) -> {ok, server()} | {error, string()}.
start(Id, Dir) ->
    UdpPort = free_port(),
    Log = filename:join(Dir, atom_to_list(Id) ++ ".log"),
    Command = command(Id, integer_to_list(UdpPort), Dir),
    Leash = leash(["taskset", "-c", ?CPU | Command],
                  [{"BENCH_LOG", Log}, {"MEERKAT_RUN_DIR", Dir}]),
    case await_all(Leash, hosts(Id), UdpPort, deadline()) of
        ok ->
            {os_pid, Pid} = erlang:port_info(Leash, os_pid),
            Pids = descendants(integer_to_list(Pid)),
            Relay = [P || P <- Pids, comm(P) =:= "meerkat_relay"],
            {ok, #{id => Id, port => UdpPort, leash => Leash, log => Log, pids => Pids,
                   relay => Relay}};
        {error, Reason} ->
            close(Leash),
            {error, Reason ++ tail(Log)}
    end.

%% Returns when the server and all it started are gone.
-spec stop(server()) -> ok.
stop(#{leash := Leash, pids := Pids}) ->
    close(Leash),
    wait_gone(Pids, deadline()).

%% pids: all processes of the server. relay: those that move packets, where that is not all.
-spec info(server()) -> #{port := inet:port_number(), pids := [string()], relay := [string()]}.
info(Server) ->
    maps:with([port, pids, relay], Server).

-spec is_alive(server()) -> boolean().
is_alive(#{pids := Pids}) ->
    lists:all(fun is_running/1, Pids).

%% The IPv4 addresses that it listens on. Each allocation is a socket and a process may have 20,000
%% of them here, so no server can hold 100,000: six can.
-spec hosts(id()) -> [string(), ...].
hosts(ours_six) -> ["127.0.0." ++ integer_to_list(N) || N <- lists:seq(1, 6)];
hosts(Path) when Path =:= ours_path; Path =:= coturn_path -> ["10.77.0.1"];
hosts(_) -> ["127.0.0.1"].

%% Runs a command that ends when the caller does or closes the port (leash.c). Its output goes where
%% the variable BENCH_LOG says, otherwise to the caller as data of the port.
-spec leash([string()], [{string(), string()}]) -> port().
leash(Command, Env) ->
    Leash = filename:join(bench:build_dir(), "leash"),
    {Program, Args} =
        case lists:keyfind("BENCH_LOG", 1, Env) of
            false -> {Leash, Command};
            _ -> {"/bin/sh", ["-c", "exec \"$0\" \"$@\" >\"$BENCH_LOG\" 2>&1", Leash | Command]}
        end,
    open_port({spawn_executable, Program},
              [{args, Args}, {env, Env}, exit_status, binary, stderr_to_stdout]).

%%% Commands

command(coturn, Port, Dir) ->
    coturn(coturn, Port, Dir);
command(coturn_gso, Port, Dir) ->
    coturn(coturn_gso, Port, Dir) ++ ["--multiplex-peer", "--udp-gso"];
command(Coturn, Port, Dir) when Coturn =:= coturn_streams; Coturn =:= coturn_path ->
    {Certificate, Key} = certificate(Dir),
    coturn(Coturn, Port, Dir, lists:append([["-L", Ip, "-E", Ip] || Ip <- hosts(Coturn)]))
        ++ ["--cert", Certificate, "--pkey", Key];
command(p1, Port, _) ->
    [filename:join([bench:root(), "bench", "p1_stun.escript"]), Port, ?USER, ?PASSWORD, ?MIN_PORT,
     ?MAX_PORT];
command(floor, Port, _) ->
    [filename:join(bench:build_dir(), "floor"), Port];
command(floor_tls, Port, Dir) ->
    {Certificate, Key} = certificate(Dir),
    [filename:join(bench:build_dir(), "floor_tls"), Port, Certificate, Key];
command(floor_batches, Port, Dir) ->
    command(floor, Port, Dir) ++ ["batches"];
command(ours_six, Port, Dir) ->
    Files = [file(Dir, "ours_six_" ++ Ip, configuration(Port, [Ip]))
             || Ip <- hosts(ours_six)],
    [filename:join([bench:root(), "bench", "several.escript"]) | Files];
command(Ours, Port, Dir) when Ours =:= ours_streams; Ours =:= ours_path ->
    {Certificate, Key} = certificate(Dir),
    foreground(file(Dir, atom_to_list(Ours),
                    [configuration(Port, hosts(Ours)),
                     "tls_cert = \"", Certificate, "\";\ntls_key = \"", Key, "\";\n"
                     "tls_port = 0;\ntcp_connections_per_address = 16384;\n"
                     "allowed_peers = ( \"127.0.0.1\", \"10.77.0.1\" );\n"]));
command(Ours, Port, Dir) ->
    foreground(file(Dir, atom_to_list(Ours), ours(Ours, Port))).

foreground(File) ->
    [filename:join([bench:root(), "rel", "bin", "meerkatctl"]), "foreground", "-c", File].

%% The one that is installed; another may be named for what that one cannot do.
turnserver(coturn_gso) -> os:getenv("COTURN_GSO", turnserver(coturn));
turnserver(_) -> "turnserver".

coturn(Id, Port, Dir) ->
    coturn(Id, Port, Dir, ["--no-tls" | lists:append([[Option, Ip] || Option <- ["-L", "-E"],
                                                      Ip <- ["127.0.0.1", "::1"]])]).

coturn(Id, Port, Dir, More) ->
    [turnserver(Id), "-n", "--lt-cred-mech", "-u", ?USER ":" ?PASSWORD, "-r", ?REALM,
     "--allow-loopback-peers", "--no-cli", "--no-dtls", "-m", "1", "-p", Port,
     "--min-port", ?MIN_PORT, "--max-port", ?MAX_PORT, "--no-stdout-log", "--log-file", "/dev/null",
     "--simple-log", "--pidfile", filename:join(Dir, atom_to_list(Id) ++ ".pid"),
     "--userdb", filename:join(Dir, atom_to_list(Id) ++ ".db") | More].

%% Both have the same: ECDSA P-256.
certificate(Dir) ->
    [Certificate, Key] = Files = [filename:join(Dir, Name) || Name <- ["cert.pem", "key.pem"]],
    _ = filelib:is_file(Key) orelse
        os:cmd("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 "
               "-subj /CN=bench -out " ++ lists:flatten(lists:join(" -keyout ", Files))),
    {Certificate, Key}.

%% Our configuration file.
ours(ours, Port) ->
    configuration(Port, ["127.0.0.1", "::1"]);
ours(ours_epoll, Port) ->
    [configuration(Port, ["127.0.0.1", "::1"], "epoll")];
%% Limits that nothing reaches: what counting up to them costs.
ours(ours_limits, Port) ->
    [ours(ours, Port), "max_bps = 100000000000;\nuser_bps = 100000000000;\n"
     "bps_capacity = 100000000000;\n"];
%% What goes from one of its clients to another takes two hops, as in other servers.
ours(ours_long, Port) ->
    [ours(ours, Port), "shortcuts = false;\n"];
%% 200 networks that no peer is in.
ours(ours_lists, Port) ->
    [ours(ours, Port), "denied_peers = ( ", networks(198, 18), " );\n"
     "allowed_peers = ( ", networks(198, 19), " );\n"].

configuration(Port, Ips) ->
    configuration(Port, Ips, "io_uring").

configuration(Port, Ips, Backend) ->
    Addresses = lists:join(", ", [["\"", Ip, "\""] || Ip <- Ips]),
    ["listen_ip = ( ", Addresses, " );\n"
     "listen_port = ", Port, ";\n"
     "relay_ip = ( ", Addresses, " );\n"
     "min_port = " ?MIN_PORT ";\nmax_port = " ?MAX_PORT ";\n"
     "users = ( { name = \"" ?USER "\"; password = \"" ?PASSWORD "\"; } );\n"
     "realm = \"" ?REALM "\";\n"
     "workers = 1;\n"
     "max_allocations = 22000;\n"
     "io_backend = \"", Backend, "\";\n"
     "unauthenticated_rate = 0;\n"
     "drain_deadline = 0;\n"
     "survive = 0;\n"
     "log_level = \"warning\";\n"].

%% Writes a configuration; its name.
file(Dir, Name, Text) ->
    File = filename:join(Dir, Name ++ ".cfg"),
    ok = file:write_file(File, Text),
    File.

networks(A, B) ->
    lists:join(", ", [io_lib:format("\"~b.~b.~b.0/24\"", [A, B, C]) || C <- lists:seq(1, 100)]).

%%% Waiting

deadline() ->
    erlang:monotonic_time(millisecond) + ?PATIENCE.

free_port() ->
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_udp:close(Socket),
    Port.

await_all(_, [], _, _) ->
    ok;
await_all(Leash, [Host | Hosts], UdpPort, Deadline) ->
    {ok, Ip} = inet:parse_address(Host),
    {ok, Socket} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {active, true}]),
    Answer = await(Leash, Socket, {Ip, UdpPort}, Deadline),
    ok = gen_udp:close(Socket),
    case Answer of
        ok -> await_all(Leash, Hosts, UdpPort, Deadline);
        {error, _} -> Answer
    end.

%% A Binding request now and then, until one is answered.
await(Leash, Socket, To, Deadline) ->
    Late = erlang:monotonic_time(millisecond) > Deadline,
    _ = gen_udp:send(Socket, To,
                     <<1:16, 0:16, 16#2112a442:32, (crypto:strong_rand_bytes(12))/binary>>),
    receive
        {udp, Socket, _, _, <<1:16, _/binary>>} -> ok;
        {udp, Socket, _, _, <<257:16, _/binary>>} -> ok;
        {Leash, {exit_status, Status}} ->
            {error, "it ended with status " ++ integer_to_list(Status)}
    after ?ASK_EACH ->
        case Late of
            true -> {error, "it does not answer"};
            false -> await(Leash, Socket, To, Deadline)
        end
    end.

close(Leash) ->
    true = (catch port_close(Leash)) =:= true orelse erlang:port_info(Leash) =:= undefined,
    ok.

wait_gone(Pids, Deadline) ->
    Late = erlang:monotonic_time(millisecond) > Deadline,
    case lists:any(fun is_running/1, Pids) of
        true when Late -> error({still_there, Pids});
        true -> receive after 20 -> wait_gone(Pids, Deadline) end;
        false -> ok
    end.

tail(Log) ->
    case file:read_file(Log) of
        {ok, Text} when Text =/= <<>> ->
            Lines = [L || L <- string:split(Text, "\n", all), L =/= <<>>],
            ": " ++ unicode:characters_to_list(lists:last(["" | Lines]));
        _ ->
            ""
    end.

%%% /proc

is_running(Pid) ->
    case stat(Pid) of
        {_, "Z", _} -> false;
        {_, _, _} -> true;
        gone -> false
    end.

comm(Pid) ->
    case stat(Pid) of
        {Comm, _, _} -> Comm;
        gone -> ""
    end.

%% Name, state, parent.
stat(Pid) ->
    case file:read_file(filename:join(["/proc", Pid, "stat"])) of
        {ok, Line} ->
            {match, [Comm, State, Parent]} =
                re:run(Line, "^[0-9]+ \\((.*)\\) (.) ([0-9]+) ",
                       [{capture, all_but_first, list}, dotall]),
            {Comm, State, Parent};
        {error, _} ->
            gone
    end.

descendants(Root) ->
    {ok, Names} = file:list_dir("/proc"),
    Parents = [{Pid, Parent} || Pid = [C | _] <- Names, C >= $0, C =< $9,
                                {_, _, Parent} <- [stat(Pid)]],
    below([Root], Parents).

below([], _) ->
    [];
below(Roots, Parents) ->
    Children = [Pid || {Pid, Parent} <- Parents, lists:member(Parent, Roots)],
    Children ++ below(Children, Parents).
