%% Examines this machine for what could trouble a server. Each check has a verdict, a sentence and,
%% if something can be done, a remedy. It changes nothing. If a server runs here its limits and
%% ports are examined, else those that it would have.
-module(meerkat_doctor).

-export([examine/1, format/1]).

-export_type([finding/0, verdict/0]).

%% error: a server will not serve so. warning: it may, but not for everybody, or not for long.
%% unknown: it cannot be seen from here.
-type verdict() :: ok | warning | error | unknown.
-type finding() :: #{name := atom(), verdict := verdict(), text := binary(), remedy => binary()}.

%% stun: a STUN server, "HOST[:PORT]", to ask for our public address. file: the configuration, if no
%% server runs. ask: a fun that asks a server, if not the one that runs here. socket: the server at
%% that socket is examined, and must answer.
-type options() :: #{
    stun => binary(),
    file => binary(),
    socket => file:filename(),
    ask => fun((meerkat_admin:question()) -> meerkat_admin:answer() | {error, no_server})
}.
%% What the checks go by: the configuration in force, what is bound by whom.
-record(case_, {
    config :: map(),
    running :: boolean(),
    bound = #{} :: #{udp | tcp | tls => [{inet:ip_address(), inet:port_number()}]},
    pid = "self" :: string(),           % whose limits count
    program :: file:filename_all(),
    options :: options()
}).

%% The checks, in the order in which a packet meets what they examine.
-spec examine(options()) -> [finding()].
examine(Options) ->
    case patient(Options) of
        {ok, First, Case} -> lists:uniq([First | lists:append([Check(Case) || Check <- checks()])]);
        {error, First} -> [First]
    end.

checks() ->
    [fun addresses/1, fun listening/1, fun certificates/1, fun database/1, fun http/1,
     fun ports/1, fun port_range/1, fun firewall/1, fun conntrack/1, fun outside/1,
     fun descriptors/1, fun memlock/1, fun buffers/1, fun io/1, fun offload/1,
     fun clock/1, fun beside/1, fun accounting/1].

patient(Options) ->
    Ask = maps:get(ask, Options, fun meerkat_admin_socket:call/1),
    case {Ask({doctor, []}), Options} of
        {{ok, #{listening := Bound, relay_pid := Pid, relay_program := Program} = Config}, _} ->
            {ok, finding(server, ok, ["a server runs here, its relay program is process ", Pid]),
             #case_{config = Config, running = true, bound = Bound, pid = binary_to_list(Pid),
                    program = Program, options = Options}};
        {{error, no_server}, #{socket := Path}} ->
            {error, finding(server, error, ["no server answers at ", Path],
                            "without -s the server that was started here is looked at, or the "
                            "machine as one would find it")};
        {{error, no_server}, _} ->
            load(Options);
        {{error, Sentence}, _} ->
            {error, finding(server, error, Sentence)}
    end.

load(Options) ->
    File = maps:with([file], Options),
    case meerkat_config:load(File) of
        {ok, Config, _Warnings} ->
            Program = filename:join(code:priv_dir(meerkat), "meerkat_relay"),
            {ok, finding(server, ok, "no server runs here; this is how one would fare"),
             #case_{config = Config, running = false, options = Options, program = Program}};
        {error, Mistakes} ->
            {error, finding(configuration, error, lists:join("; ", Mistakes),
                            "`meerkatctl config check FILE` checks a file by itself")}
    end.

%% Proxies and web servers between clients and the server.
beside(#case_{config = Config}) ->
    meerkat_doctor_beside:findings(Config).

accounting(#case_{config = Config}) ->
    meerkat_doctor_accounting:findings(Config).

%%% Addresses and ports

addresses(#case_{config = #{relays := []}}) ->
    [finding(address, error, "this machine has no address to relay from",
             "a server waits for one, and serves nobody until then; relay_ip (RELAY_IP) names one "
             "that will come")];
addresses(#case_{config = #{relays := Relays}}) ->
    [address(Relay) || Relay <- Relays] ++ families(Relays).

%% An Allocate that names no family asks for IPv4 (RFC 8656 7.2).
families(Relays) ->
    case [Ip || #{advertised := Ip} <- Relays, tuple_size(Ip) =:= 4] of
        [] ->
            [finding(address, warning,
                     "there is no IPv4 address to relay from: browsers ask for no address family, "
                     "and are answered 440",
                     "relay_ip (RELAY_IP) must name an IPv4 address as well, if browsers are to be "
                     "served")];
        _ ->
            []
    end.

address(#{local := Local, advertised := Advertised}) ->
    Shown = meerkat_text:ip(Local),
    case {meerkat_host:bindable(Local), meerkat_policy:kind(Advertised)} of
        {false, _} ->
            finding(address, error, [Shown, " is no address of this machine"],
                    "a server waits for it and is not ready; else relay_ip (RELAY_IP) must name "
                    "another, or be left out");
        {true, public} when Local =:= Advertised ->
            finding(address, ok, ["relaying from ", Shown, ", a public address"]);
        {true, public} ->
            finding(address, ok, ["relaying from ", Shown, ", told to clients as ",
                                  meerkat_text:ip(Advertised)]);
        {true, Kind} ->
            finding(address, warning,
                    ["clients are told ", meerkat_text:ip(Advertised), ", a ", name(Kind),
                     " address: nobody outside reaches it"],
                    "relay_ip (RELAY_IP) must be the address the world sees, also behind a 1:1 "
                    "NAT; in a lab this is as it should be")
    end.

listening(#case_{running = true, bound = Bound}) ->
    [finding(listening, ok, ["listening on ", atom_to_list(Transport), " ",
                             meerkat_text:address(A)])
     || Transport <- [udp, tcp, tls], A <- maps:get(Transport, Bound, [])];
listening(#case_{config = #{listeners := Listeners}}) ->
    [free(Transport, Ip, Port)
     || #{transport := Transport, ip := Where, port := Port} <- Listeners, Ip <- ips(Where)].

ips(any) -> [{0, 0, 0, 0}];
ips(Ip) -> [Ip].

free(Transport, Ip, Port) ->
    Kind = case Transport of udp -> "udp "; _ -> "tcp " end,
    Shown = [Kind, meerkat_text:address({Ip, Port})],
    case try_open(Transport, Ip, Port) of
        ok ->
            finding(listening, ok, [Shown, " is free"]);
        {error, eaddrinuse} ->
            {Letter, Key} = case Transport of
                udp -> {"u", "listen_port"};
                tcp -> {"t", "listen_port"};
                tls -> {"t", "tls_port"}
            end,
            finding(listening, error, [Shown, " is taken by another program"],
                    ["`ss -", Letter, "lpn sport = :", integer_to_list(Port), "` tells whose it "
                     "is; ", Key, " sets another"]);
        {error, Reason} ->
            finding(listening, error, [Shown, ": ", inet:format_error(Reason)], hint(Reason))
    end.

try_open(udp, Ip, Port) ->
    closed(gen_udp, gen_udp:open(Port, [family(Ip), {ip, Ip}]));
try_open(_Stream, Ip, Port) ->
    closed(gen_tcp, gen_tcp:listen(Port, [family(Ip), {ip, Ip}, {reuseaddr, true}])).

closed(Module, {ok, Socket}) -> Module:close(Socket);
closed(_Module, {error, Reason}) -> {error, Reason}.

family(Ip) when tuple_size(Ip) =:= 4 -> inet;
family(_Ip) -> inet6.

certificates(#case_{config = Config}) ->
    found(certificate, meerkat_doctor_certificates:examine(Config)).

database(#case_{config = Config}) ->
    found(database, meerkat_doctor_database:examine(Config)).

found(Name, Findings) ->
    [case Remedy of
         none -> finding(Name, Verdict, Text);
         _ -> finding(Name, Verdict, Text, Remedy)
     end || {Verdict, Text, Remedy} <- Findings].

hint(eacces) -> "a port below 1024 needs CAP_NET_BIND_SERVICE";
hint(_) -> "listen_ip must be addresses of this machine".

http(#case_{running = false, config = #{http_listen := {_, _} = Listen}}) ->
    case meerkat_http:try_address(Listen) of
        ok ->
            [finding(http, ok, ["tcp ", meerkat_text:address(Listen), " is free for HTTP"])];
        {error, {_, Sentence}} ->
            [finding(http, error, Sentence, "http_listen (HTTP_LISTEN) sets another address")]
    end;
http(#case_{}) ->
    [].

%% Ports of the ranges that other programs have in use. The relay passes over them, one by one.
ports(#case_{running = true}) ->
    [];
ports(#case_{config = #{relays := Relays}}) ->
    Taken = lists:usort(used_ports("/proc/net/udp") ++ used_ports("/proc/net/udp6")),
    [ports(Min, Max, [Port || Port <- Taken, Port >= Min, Port =< Max])
     || #{min_port := Min, max_port := Max} <- Relays].

ports(Min, Max, []) ->
    finding(ports, ok, io_lib:format("udp ports ~b-~b are free", [Min, Max]));
ports(Min, Max, Taken) when length(Taken) > Max - Min ->
    finding(ports, error, io_lib:format("all udp ports ~b-~b are taken", [Min, Max]),
            "min_port and max_port must leave some");
ports(Min, Max, Taken) ->
    finding(ports, ok, io_lib:format("of udp ports ~b-~b other programs have ~b",
                                     [Min, Max, length(Taken)])).

used_ports(File) ->
    [list_to_integer(Port, 16)
     || Line <- lines(File),
        {match, [Port]} <- [re:run(Line, "^ *[0-9]+: [0-9A-F]+:([0-9A-F]{4}) ",
                                   [{capture, all_but_first, list}])]].

port_range(#case_{config = #{relays := Relays, max_allocations := Allocations}}) ->
    System = numbers("/proc/sys/net/ipv4/ip_local_port_range"),
    lists:append([port_range(Min, Max, Allocations, System)
                  || #{min_port := Min, max_port := Max} <- Relays]).

port_range(Min, Max, Allocations, System) ->
    [finding(port_range, warning,
             io_lib:format("~b ports do not hold max_allocations, ~b",
                           [Max - Min + 1, Allocations]),
             "widen min_port and max_port, or give relay addresses more")
     || Max - Min + 1 < Allocations]
        ++ [finding(port_range, ok,
                    io_lib:format("the system draws ports of its own from ~b-~b too, which costs "
                                  "a few; net.ipv4.ip_local_port_range moves it", [Low, High]))
            || [Low, High] <- [System], Low =< Max, High >= Min].

%%% What stands in the way

%% A hint only: what a firewall elsewhere does cannot be seen from here.
firewall(#case_{config = #{relays := Relays}}) ->
    Ranges = lists:usort([io_lib:format("~b-~b", [Min, Max])
                          || #{min_port := Min, max_port := Max} <- Relays]),
    Open = ["the listeners' ports and UDP ", lists:join(", ", Ranges), " must be open here, and in "
            "whatever cloud or router is before this machine"],
    case rules() of
        unknown ->
            [finding(firewall, unknown, "the rules of a firewall here cannot be read", Open)];
        none ->
            [finding(firewall, ok, "no firewall drops by default on this machine")];
        drops ->
            [finding(firewall, warning, "a firewall here drops what it does not know", Open)]
    end.

%% The rules of the input hook; only root may read them.
rules() ->
    case {os:cmd("PATH=$PATH:/usr/sbin:/sbin; nft list ruleset 2>&1"),
          os:cmd("PATH=$PATH:/usr/sbin:/sbin; iptables -S INPUT 2>&1")} of
        {Nft, Tables} ->
            Drops = matches(Nft, "hook input[^}]*policy drop")
                orelse matches(Nft, "hook input[^}]*\\b(drop|reject)\\b")
                orelse matches(Tables, "-P INPUT DROP|-A INPUT .*-j (DROP|REJECT)"),
            Blind = fun(Text) -> matches(Text, "not permitted|denied|must be root|not found") end,
            case {Drops, Blind(Nft) andalso Blind(Tables)} of
                {true, _} -> drops;
                {false, true} -> unknown;
                {false, false} -> none
            end
    end.

matches(Text, Pattern) ->
    re:run(Text, Pattern, [dotall, {capture, none}]) =:= match.

conntrack(#case_{config = #{max_allocations := Allocations}}) ->
    case {numbers("/proc/sys/net/netfilter/nf_conntrack_max"),
          numbers("/proc/sys/net/netfilter/nf_conntrack_count")} of
        {[Max], [Count]} when Count * 10 >= Max * 8; Max < 4 * Allocations ->
            [finding(conntrack, warning,
                     io_lib:format("connection tracking has ~b of ~b entries; allocations and "
                                   "their peers take one each", [Count, Max]),
                     "exempt the server's ports (notrack), or raise "
                     "net.netfilter.nf_conntrack_max")];
        {[Max], [Count]} ->
            [finding(conntrack, ok, io_lib:format("connection tracking has ~b of ~b entries",
                                                  [Count, Max]))];
        _ ->
            [finding(conntrack, ok, "no connection tracking")]
    end.

%% What a STUN server elsewhere sees of a socket on the relayed address.
outside(#case_{options = #{stun := Server}, config = #{relays := Relays}}) ->
    [outside(Server, Relay) || #{local := Local} = Relay <- Relays, tuple_size(Local) =:= 4];
outside(#case_{}) ->
    [finding(nat, unknown, "whether a NAT is before this machine was not asked",
             "--stun HOST asks a STUN server elsewhere")].

outside(Server, #{local := Local, advertised := Advertised}) ->
    case meerkat_doctor_net:mapped(Local, Server) of
        {ok, {Advertised, _}} ->
            finding(nat, ok, ["the world sees ", meerkat_text:ip(Local), " as ",
                              meerkat_text:ip(Advertised), ", as clients are told"]);
        {ok, {Mapped, _}} ->
            finding(nat, error, ["the world sees ", meerkat_text:ip(Local), " as ",
                                 meerkat_text:ip(Mapped), ", but clients are told ",
                                 meerkat_text:ip(Advertised)],
                    ["RELAY_IP=", meerkat_text:ip(Mapped), ", if the NAT keeps ports (1:1)"]);
        {error, Sentence} ->
            finding(nat, warning, [Server, ": ", Sentence],
                    "is UDP allowed to leave, and is it a STUN server?")
    end.

%%% Limits

descriptors(#case_{config = #{max_allocations := Allocations, relays := Relays} = Config,
                   pid = Pid}) ->
    %% A socket for each allocation and family, and some for the program itself. The relay program
    %% raises its soft limit to the hard one, so that is what counts.
    Families = length(lists:usort([tuple_size(Local) || #{local := Local} <- Relays])),
    {Peer, With} = peer_descriptors(Config),
    Need = Allocations * (Families + Peer) + 256,
    case limit(Pid, "Max open files") of
        {ok, Hard} when Hard < Need ->
            [finding(descriptors, warning,
                     io_lib:format("~b descriptors are allowed, max_allocations ~b needs ~b~ts",
                                   [Hard, Allocations, Need, With]),
                     "LimitNOFILE= of systemd, --ulimit nofile= of docker, ulimit -Hn of a shell")];
        {ok, Hard} ->
            [finding(descriptors, ok, io_lib:format("~b descriptors are allowed, ~b needed~ts",
                                                    [Hard, Need, With]))];
        unlimited ->
            [finding(descriptors, ok, "descriptors are not limited")];
        unknown ->
            [finding(descriptors, unknown, "the limit of descriptors cannot be read")]
    end.

%% One peer over TCP for each allocation: a connection to it, and one of the client's for its bytes
%% (RFC 6062). tcp_relay_connections says how many there may be.
peer_descriptors(#{tcp_relay := true}) -> {2, " with one peer over TCP each (tcp_relay)"};
peer_descriptors(_) -> {0, ""}.

memlock(#case_{pid = Pid}) ->
    %% From 5.12 on rings count as memory of their control group.
    case {kernel() >= [5, 12], limit(Pid, "Max locked memory")} of
        {true, _} ->
            [finding(memlock, ok, "locked memory does not limit io_uring on this kernel")];
        {false, {ok, Bytes}} when Bytes < 64 * 1048576 ->
            [finding(memlock, warning, io_lib:format("~b bytes may be locked", [Bytes]),
                     "LimitMEMLOCK=64M of systemd, --ulimit memlock= of docker")];
        {false, unknown} ->
            [finding(memlock, unknown, "the limit of locked memory cannot be read")];
        {false, _} ->
            [finding(memlock, ok, "enough memory may be locked")]
    end.

limit(Pid, Name) ->
    Found = [Hard || Line <- lines("/proc/" ++ Pid ++ "/limits"),
                     {match, [Hard]} <- [re:run(Line, "^" ++ Name ++ " +[^ ]+ +([^ ]+)",
                                                [{capture, all_but_first, list}])]],
    case Found of
        ["unlimited"] -> unlimited;
        [Digits] -> {ok, list_to_integer(Digits)};
        [] -> unknown
    end.

buffers(#case_{config = Config}) ->
    [buffer(Key, maps:get(Key, Config), Limit)
     || {Key, Limit} <- [{receive_buffer, "rmem_max"}, {send_buffer, "wmem_max"}],
        is_map_key(Key, Config)].

buffer(Key, Wanted, Limit) ->
    case numbers("/proc/sys/net/core/" ++ Limit) of
        [Max] when Max < Wanted ->
            finding(Key, warning,
                    io_lib:format("sockets get ~b bytes of ~b: bursts are lost sooner",
                                  [Max, Wanted]),
                    io_lib:format("sysctl -w net.core.~ts=~b, or CAP_NET_ADMIN", [Limit, Wanted]));
        [_] ->
            finding(Key, ok, io_lib:format("sockets get ~b bytes", [Wanted]));
        _ ->
            finding(Key, unknown, ["net.core.", Limit, " cannot be read"])
    end.

%% The relay program is asked: only it can tell what seccomp, a container or the kernel refuse.
io(#case_{program = Program, config = Config}) ->
    Wanted = maps:get(io_backend, Config, auto),
    [demanded(Wanted, Finding) || Finding <- meerkat_doctor_net:probe(Program)].

%% If the configuration demands io_uring, epoll is no way out: the warning becomes an error.
demanded(io_uring, #{verdict := warning} = Finding) ->
    Finding#{verdict := error, remedy := <<"io_backend = \"auto\" falls back to epoll">>};
demanded(_Wanted, Finding) ->
    Finding.

%% Of each interface; where it is not wanted nothing is wrong with one that could not.
offload(#case_{program = Program, config = Config}) ->
    Wanted = maps:get(offload, Config, off) =/= off,
    [case Finding of
         #{verdict := warning} when not Wanted -> maps:remove(remedy, Finding#{verdict := ok});
         _ -> Finding
     end || Finding <- meerkat_doctor_net:offload(Program)].

clock(#case_{program = Program, config = Config}) ->
    [meerkat_doctor_clock:examine(Program)]
        ++ meerkat_doctor_clock:step(maps:get(clock_step_s, Config, 0.0)).

%%% Reading

kernel() ->
    Release = lists:append(lines("/proc/sys/kernel/osrelease")),
    case re:run(Release, "^([0-9]+)\\.([0-9]+)", [{capture, all_but_first, list}]) of
        {match, Parts} -> [list_to_integer(Part) || Part <- Parts];
        nomatch -> [0]
    end.

numbers(File) ->
    [list_to_integer(N) || Line <- lines(File), N <- string:lexemes(Line, " \t")].

lines(File) ->
    case file:read_file(File) of
        {ok, Bytes} -> string:lexemes(binary_to_list(Bytes), "\n");
        {error, _} -> []
    end.

name(Kind) ->
    string:replace(atom_to_list(Kind), "_", "-").

finding(Name, Verdict, Text) ->
    #{name => Name, verdict => Verdict, text => unicode:characters_to_binary(Text)}.

finding(Name, Verdict, Text, Remedy) ->
    (finding(Name, Verdict, Text))#{remedy => unicode:characters_to_binary(Remedy)}.

%% A line each, a second one where there is a remedy, and a last one that sums up.
-spec format([finding()]) -> unicode:chardata().
format(Findings) ->
    Of = fun(Wanted) -> length([V || #{verdict := V} <- Findings, V =:= Wanted]) end,
    [[line(Finding) || Finding <- Findings],
     io_lib:format("~ts, ~ts, ~b cannot be seen from here~n",
                   [several(Of(error), "error"), several(Of(warning), "warning"), Of(unknown)])].

several(1, Word) -> ["1 ", Word];
several(N, Word) -> [integer_to_list(N), " ", Word, "s"].

line(#{name := Name, verdict := Verdict, text := Text} = Finding) ->
    [io_lib:format("  ~-8s~-15ts ~ts~n", [Verdict, name(Name), Text]),
     [io_lib:format("~25ts ~ts~n", ["", Remedy]) || #{remedy := Remedy} <- [Finding]]].
