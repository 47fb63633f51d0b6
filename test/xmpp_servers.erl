%% ejabberd and prosody of Debian, started for real: each in a directory of its own, on loopback, on
%% ports found free, without a node name, so several live side by side. A server dies with whoever
%% stops it, with its holder, and with this VM, however that ends. Knows nothing of Meerkat.
-module(xmpp_servers).

-export([start/1, start/2, again/1, stop/1, kill/1, log/1]).

-export_type([server/0, options/0, kind/0]).

-type kind() :: ejabberd | prosody.
%% `domain` (localhost); `users`: alice, bob and carol with passwords alicepw, bobpw and carolpw;
%% `components`: turn.DOMAIN with turnsecret; `services`: what is told by XEP-0215, a stun and a
%% turn service each a host and a port, none without; `secret` (sharedsecret) and `ttl`, seconds
%% (3600; prosody may be told a time in the past), of the turn one's credentials. `extra`: more of
%% the server's own configuration: for ejabberd a file in YAML that is included, for prosody Lua
%% before the components, which may begin with the VirtualHost itself. `tls`: a PEM file with
%% certificate and key; clients must encrypt then (STARTTLS), and without it they cannot.
-type options() :: #{domain => binary(), users => #{binary() => binary()},
                     components => #{binary() => binary()},
                     services => none | {inet:ip_address() | string(), inet:port_number()},
                     secret => binary(), ttl => integer(), extra => iodata(),
                     tls => none | file:filename()}.
%% Where clients and components connect; `dir` has configuration, data and log.
-type server() :: #{kind := kind(), ip := inet:ip4_address(), c2s := inet:port_number(),
                    component := inet:port_number(), domain := binary(),
                    users := #{binary() => binary()}, components := #{binary() => binary()},
                    dir := file:filename(), holder := pid(), options := options()}.

-define(IP, {127, 0, 0, 1}).
-define(START_MS, 60000).
-define(STOP_MS, 10000).

-spec start(kind()) -> server().
start(Kind) -> start(Kind, #{}).

%% Returns when clients and components can connect.
-spec start(kind(), options()) -> server().
start(Kind, Given) ->
    Domain = maps:get(domain, Given, <<"localhost">>),
    Users = maps:from_list([{User, <<User/binary, "pw">>}
                            || User <- [<<"alice">>, <<"bob">>, <<"carol">>]]),
    Options = maps:merge(#{domain => Domain, users => Users, services => none,
                           components => #{<<"turn.", Domain/binary>> => <<"turnsecret">>},
                           secret => <<"sharedsecret">>, ttl => 3600, extra => "", tls => none},
                         Given),
    Dir = directory(Kind),
    C2s = free_port(),
    Server = (maps:with([domain, users, components], Options))#{
        kind => Kind, ip => ?IP, c2s => C2s, component => free_port_but(C2s), dir => Dir,
        options => Options},
    ok = configure(Server),
    run(Server).

%% The same, ports and data and all, after stop/1 or kill/1.
-spec again(server()) -> server().
again(Server) -> run(Server).

%% As its operator does: streams are told (system-shutdown). Returns when it is gone.
-spec stop(server()) -> ok.
stop(Server) -> signal(Server, "TERM").

%% At once, as when the machine loses power; connections are closed by the kernel.
-spec kill(server()) -> ok.
kill(Server) -> signal(Server, "KILL").

%% What it logged and printed so far.
-spec log(server()) -> binary().
log(#{dir := Dir}) ->
    iolist_to_binary([Bytes || File <- filelib:wildcard(filename:join(Dir, "*.log")),
                               {ok, Bytes} <- [file:read_file(File)]]).

%%% Processes

run(#{c2s := C2s, component := Component} = Server) ->
    {Program, Arguments, Environment} = command(Server),
    _ = file:delete(ready(Server)),
    Caller = self(),
    %% Not linked: Common Test prepares a suite in a process that ends before the suite begins.
    Holder = spawn(fun() -> hold(Caller, Program, Arguments, Environment, Server) end),
    Monitor = erlang:monitor(process, Holder),
    receive
        {Holder, running} -> true = erlang:demonitor(Monitor, [flush]);
        {'DOWN', Monitor, process, Holder, Why} -> error({not_started, Why, log(Server)})
    end,
    Started = Server#{holder => Holder},
    Deadline = erlang:monotonic_time(millisecond) + ?START_MS,
    ok = until(fun() -> is_ready(Started) end, Deadline, Started),
    _ = [ok = until(fun() -> accepts(Port) end, Deadline, Started) || Port <- [C2s, Component]],
    Started.

%% The child is killed when the pipe to the shell before it closes: the port belongs to this
%% process, and the pipe to this VM.
hold(Caller, Program, Arguments, Environment, #{dir := Dir}) ->
    Watch = "exec 3<&0 2>/dev/null; log=$1; shift; "
            "\"$@\" </dev/null 3<&- >>\"$log\" 2>&1 & child=$!; "
            "echo $child; (read -r _ <&3; kill -KILL $child) >/dev/null 2>&1 & watch=$!; "
            "wait $child; kill $watch",
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", Watch, "sh", filename:join(Dir, "output.log"), Program
                              | Arguments]},
                      {env, Environment}, {cd, Dir}, {line, 80}, exit_status, binary]),
    receive
        {Port, {data, {eol, Pid}}} ->
            Caller ! {self(), running},
            held(Port, binary_to_list(Pid), [])
    end.

held(Port, Pid, Waiting) ->
    receive
        {signal, From, Signal} ->
            _ = os:cmd("kill -" ++ Signal ++ " " ++ Pid),
            held(Port, Pid, [From | Waiting]);
        {Port, {exit_status, _}} ->
            _ = [From ! {self(), gone} || From <- Waiting],
            ok
    end.

signal(#{holder := Holder} = Server, Signal) ->
    Monitor = erlang:monitor(process, Holder),
    Holder ! {signal, self(), Signal},
    receive
        {Holder, gone} -> true = erlang:demonitor(Monitor, [flush]), ok;
        {'DOWN', Monitor, process, Holder, _} -> ok
    after ?STOP_MS ->
        true = erlang:demonitor(Monitor, [flush]),
        case Signal of
            "KILL" -> error({not_killed, log(Server)});
            _ -> kill(Server)
        end
    end.

%% There is no event to await: a server does not tell when its ports are open.
until(Holds, Deadline, #{holder := Holder} = Server) ->
    Late = erlang:monotonic_time(millisecond) > Deadline,
    case Holds() of
        true ->
            ok;
        false when Late ->
            Holder ! {signal, self(), "KILL"},
            error({not_up, log(Server)});
        false ->
            is_process_alive(Holder) orelse error({ended, log(Server)}),
            timer:sleep(20),
            until(Holds, Deadline, Server)
    end.

accepts(Port) ->
    case gen_tcp:connect(?IP, Port, []) of
        {ok, Socket} -> gen_tcp:close(Socket) =:= ok;
        {error, _} -> false
    end.

%% Where ejabberd says that it knows its users.
ready(#{dir := Dir}) -> filename:join(Dir, "ready").

is_ready(#{kind := ejabberd} = Server) -> filelib:is_file(ready(Server));
is_ready(#{kind := prosody}) -> true.

%%% Files

%% Below the directory we are in: within Common Test, that of its logs.
directory(Kind) ->
    Name = lists:concat(["meerkat-", Kind, "-", os:getpid(), "-",
                         erlang:unique_integer([positive])]),
    Dir = filename:absname(Name),
    ok = filelib:ensure_dir(filename:join([Dir, "data", "x"])),
    Dir.

free_port() ->
    Port = 20000 + rand:uniform(12000),
    case gen_tcp:listen(Port, [{ip, ?IP}]) of
        {ok, Socket} -> ok = gen_tcp:close(Socket), Port;
        {error, _} -> free_port()
    end.

free_port_but(Other) ->
    case free_port() of
        Other -> free_port_but(Other);
        Port -> Port
    end.

configure(#{kind := ejabberd, dir := Dir, options := #{extra := Extra}} = Server) ->
    ok = file:write_file(filename:join(Dir, "extra.yml"), Extra),
    file:write_file(filename:join(Dir, "ejabberd.yml"), ejabberd(Server));
configure(#{kind := prosody, dir := Dir, users := Users, domain := Domain} = Server) ->
    File = filename:join(Dir, "prosody.cfg.lua"),
    ok = file:write_file(File, prosody(Server)),
    %% It registers into files, no server needed.
    _ = [os:cmd(lists:flatten(io_lib:format("prosodyctl --config ~ts register ~ts ~ts ~ts",
                                            [File, Name, Domain, Password])))
         || {Name, Password} <- maps:to_list(Users)],
    ok.

%% Without access_rules ejabberd's mod_stun_disco answers forbidden.
ejabberd(#{c2s := C2s, component := Component, domain := Domain, components := Components,
           options := Options}) ->
    ["hosts: [", Domain, "]\n"
     "auth_method: [internal]\n"
     "loglevel: info\n"
     "listen:\n"
     "  - {port: ", integer_to_list(C2s), ", ip: \"127.0.0.1\", module: ejabberd_c2s, ",
     ejabberd_tls(Options), "}\n"
     "  - port: ", integer_to_list(Component), "\n"
     "    ip: \"127.0.0.1\"\n"
     "    module: ejabberd_service\n"
     "    access: all\n"
     "    shaper: fast\n"
     "    hosts:\n",
     [["      \"", Name, "\": {password: \"", Password, "\"}\n"]
      || {Name, Password} <- maps:to_list(Components)],
     "shaper: {fast: 1000000}\n"
     "acl: {local: {user_regexp: \"\"}}\n"
     "access_rules: {local: {allow: local}}\n"
     "modules:\n"
     "  mod_disco: {}\n"
     "  mod_roster: {}\n",
     ejabberd_services(Options),
     ["include_config_file: [extra.yml]\n" || not is_empty(Options)],
     [["certfiles: [\"", File, "\"]\n"] || #{tls := File} <- [Options], File =/= none]].

ejabberd_tls(#{tls := none}) -> "starttls: false";
ejabberd_tls(#{}) -> "starttls: true, starttls_required: true".

ejabberd_services(#{services := none}) ->
    "";
ejabberd_services(#{services := {Host, Port}, secret := Secret, ttl := Ttl}) ->
    ["  mod_stun_disco:\n"
     "    secret: \"", Secret, "\"\n"
     "    credentials_lifetime: ", integer_to_list(Ttl), " seconds\n"
     "    offer_local_services: false\n"
     "    services:\n",
     [["      - {host: \"", host(Host), "\", port: ", integer_to_list(Port), ", type: ", Type,
       ", transport: udp}\n"] || Type <- ["stun", "turn"]]].

prosody(#{c2s := C2s, component := Component, domain := Domain, components := Components,
          dir := Dir, options := #{extra := Extra} = Options}) ->
    ["pidfile = \"", Dir, "/prosody.pid\"; data_path = \"", Dir, "/data\"\n"
     "run_as_root = true\n"
     "log = { info = \"", Dir, "/prosody.log\" }\n"
     "interfaces = { \"127.0.0.1\" }; component_interfaces = { \"127.0.0.1\" }\n"
     "c2s_ports = { ", integer_to_list(C2s), " }\n"
     "component_ports = { ", integer_to_list(Component), " }\n"
     "modules_enabled = { \"roster\", \"saslauth\", \"disco\"",
     [", \"turn_external\"" || maps:get(services, Options) =/= none],
     [", \"tls\"" || maps:get(tls, Options) =/= none], " }\n",
     prosody_tls(Options),
     "authentication = \"internal_plain\"\n",
     prosody_services(Options),
     [["VirtualHost \"", Domain, "\"\n"] || string:find(Extra, "VirtualHost") =:= nomatch],
     Extra, "\n",
     [["Component \"", Name, "\"\n    component_secret = \"", Password, "\"\n"]
      || {Name, Password} <- maps:to_list(Components)]].

prosody_tls(#{tls := none}) ->
    "modules_disabled = { \"s2s\", \"tls\" }\n"
    "allow_unencrypted_plain_auth = true; c2s_require_encryption = false\n";
prosody_tls(#{tls := File}) ->
    ["modules_disabled = { \"s2s\" }\n"
     "c2s_require_encryption = true; "
     "ssl = { certificate = \"", File, "\"; key = \"", File, "\" }\n"].

prosody_services(#{services := none}) ->
    "";
prosody_services(#{services := {Host, Port}, secret := Secret, ttl := Ttl}) ->
    ["turn_external_host = \"", host(Host), "\"; turn_external_port = ", integer_to_list(Port),
     "\nturn_external_secret = \"", Secret, "\"; turn_external_ttl = ", integer_to_list(Ttl), "\n"].

host(Ip) when is_tuple(Ip) -> inet:ntoa(Ip);
host(Name) -> Name.

is_empty(#{extra := Extra}) -> iolist_size(Extra) =:= 0.

command(#{kind := prosody, dir := Dir}) ->
    {os:find_executable("prosody"), ["-F", "--config", filename:join(Dir, "prosody.cfg.lua")], []};
command(#{kind := ejabberd, dir := Dir, domain := Domain, users := Users}) ->
    Data = filename:join(Dir, "data"),
    Known = [io_lib:format("ejabberd_auth:try_register(~p, ~p, ~p), ", [Name, Domain, Password])
             || {Name, Password} <- maps:to_list(Users)],
    {os:find_executable("erl"),
     ["-noinput", "-mnesia", "dir", lists:flatten(io_lib:format("~p", [Data])), "-s", "ejabberd",
      "-eval", lists:flatten([Known, "file:write_file(\"ready\", \"\")."])],
     [{"EJABBERD_CONFIG_PATH", filename:join(Dir, "ejabberd.yml")}, {"SPOOL_DIR", Data},
      {"EJABBERD_LOG_PATH", filename:join(Dir, "ejabberd.log")}, {"ERL_LIBS", ejabberd_libs()},
      {"ERL_FLAGS", false}, {"ERL_AFLAGS", false}, {"ERL_ZFLAGS", false},
      {"ERL_CRASH_DUMP_SECONDS", "0"}]}.

%% Debian keeps it outside of Erlang's own libraries.
ejabberd_libs() ->
    [App | _] = lists:append([filelib:wildcard(Place ++ "ejabberd-*/ebin/ejabberd.app")
                              || Place <- ["/usr/lib/*/", "/usr/lib/", "/usr/lib/erlang/lib/"]]),
    filename:dirname(filename:dirname(filename:dirname(App))).
