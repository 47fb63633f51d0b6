%% Proxies for suites: headers of the PROXY protocol as bytes, a proxy of datagrams, and HAProxy and
%% nginx as they come from Debian, each with a configuration of the suite's.
-module(proxy_kit).

-include_lib("stdlib/include/assert.hrl").

-export([v1/2, v2/3, v2/4, local/0, unknown/0, sum/1]).
-export([udp/1, udp/2, address/1, restart/1, stop/1]).
-export([haproxy/2, nginx/3, end_program/1, snippet/3]).

-type address() :: {inet:ip_address(), inet:port_number()}.

-define(SIGNATURE, 16#0d, 16#0a, 16#0d, 16#0a, 0, 16#0d, 16#0a, "QUIT", 16#0a).
-define(TIMEOUT, 30000).

%%% Headers

-spec v1(Client :: address(), Server :: address()) -> binary().
v1({Ip, Port}, {To, ToPort}) ->
    Family = case tuple_size(Ip) of 4 -> "TCP4"; 8 -> "TCP6" end,
    iolist_to_binary(io_lib:format("PROXY ~s ~s ~s ~b ~b\r\n", [Family, inet:ntoa(Ip),
                                                                inet:ntoa(To), Port, ToPort])).

-spec v2(tcp | udp, Client :: address(), Server :: address()) -> binary().
v2(Protocol, Client, Server) -> v2(Protocol, Client, Server, <<>>).

%% With what comes behind the addresses.
-spec v2(tcp | udp, address(), address(), Tlvs :: binary()) -> binary().
v2(Protocol, {Ip, Port}, {To, ToPort}, Tlvs) ->
    Family = case tuple_size(Ip) of 4 -> 1; 8 -> 2 end,
    Body = <<(bytes(Ip))/binary, (bytes(To))/binary, Port:16, ToPort:16, Tlvs/binary>>,
    Code = case Protocol of tcp -> 1; udp -> 2 end,
    <<?SIGNATURE, 16#21, Family:4, Code:4, (byte_size(Body)):16, Body/binary>>.

bytes({A, B, C, D}) -> <<A, B, C, D>>;
bytes(Ip) -> << <<Part:16>> || Part <- tuple_to_list(Ip) >>.

-spec local() -> binary().
local() -> <<?SIGNATURE, 16#20, 0, 0:16>>.

-spec unknown() -> binary().
unknown() -> <<"PROXY UNKNOWN\r\n">>.

%% The header with a checksum behind all that is there.
-spec sum(binary()) -> binary().
sum(<<Start:14/binary, Size:16, Body/binary>>) ->
    Zero = <<Start/binary, (Size + 7):16, Body/binary, 3, 4:16, 0:32>>,
    <<(binary:part(Zero, 0, byte_size(Zero) - 4))/binary, (crc32c(Zero)):32>>.

%% Bit by bit, as the polynomial says.
crc32c(Bytes) -> crc32c(Bytes, 16#ffffffff) bxor 16#ffffffff.

crc32c(<<Byte, Rest/binary>>, Crc) ->
    crc32c(Rest, lists:foldl(fun(_, C) when C band 1 =:= 1 -> (C bsr 1) bxor 16#82f63b78;
                                (_, C) -> C bsr 1
                             end, Crc bxor Byte, lists:seq(1, 8)));
crc32c(<<>>, Crc) -> Crc.

%%% Datagrams: a port of its own for each client, a header before each datagram, answers as they are

-spec udp(Server :: address()) -> pid().
udp(Server) -> udp(Server, fun(Here, There) -> v2(udp, Here, There) end).

%% Header(Client, Proxy): what is put before a datagram.
-spec udp(address(), fun((address(), address()) -> binary())) -> pid().
udp(Server, Header) ->
    Owner = self(),
    {Pid, _} = spawn_monitor(fun() ->
        _ = monitor(process, Owner),
        {ok, Socket} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {active, true},
                                        {recbuf, 1 bsl 20}]),
        {ok, Here} = inet:sockname(Socket),
        udp_loop(#{socket => Socket, here => Here, server => Server, header => Header,
                   clients => #{}})
    end),
    Pid.

udp_loop(#{socket := Socket, here := Here, header := Header, server := {Ip, Port}} = S) ->
    receive
        {udp, Socket, FromIp, FromPort, Bytes} ->
            Client = {FromIp, FromPort},
            {Out, Next} = port_of(Client, S),
            ok = gen_udp:send(Out, Ip, Port, [Header(Client, Here), Bytes]),
            udp_loop(Next);
        {udp, Out, Ip, Port, Bytes} ->
            case [C || {C, O} <- maps:to_list(maps:get(clients, S)), O =:= Out] of
                [{ToIp, ToPort}] -> ok = gen_udp:send(Socket, ToIp, ToPort, Bytes);
                [] -> ok
            end,
            udp_loop(S);
        {address, From} -> From ! {self(), Here}, udp_loop(S);
        {restart, From} ->
            _ = [gen_udp:close(Out) || Out <- maps:values(maps:get(clients, S))],
            From ! {self(), ok},
            udp_loop(S#{clients := #{}});
        {'DOWN', _, process, _, _} -> ok;
        stop -> ok
    end.

port_of(Client, #{clients := Clients} = S) ->
    case Clients of
        #{Client := Out} -> {Out, S};
        #{} ->
            {ok, Out} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {active, true},
                                         {recbuf, 1 bsl 20}]),
            {Out, S#{clients := Clients#{Client => Out}}}
    end.

%% Where clients send to.
-spec address(pid()) -> address().
address(Pid) -> call(Pid, address).

%% It forgets its clients, and gives them other ports from here on.
-spec restart(pid()) -> ok.
restart(Pid) -> call(Pid, restart).

call(Pid, What) ->
    Pid ! {What, self()},
    receive {Pid, Answer} -> Answer after ?TIMEOUT -> error(no_reply) end.

-spec stop(pid()) -> ok.
stop(Pid) -> Pid ! stop, ok.

%%% Programs of others

%% In Dir; returns once its ports are open.
-spec haproxy(file:filename(), iodata()) -> port().
haproxy(Dir, Config) ->
    File = filename:join(Dir, "haproxy.cfg"),
    ok = file:write_file(File, Config),
    program("haproxy", ["-db", "-f", File], ports(Config, "bind [0-9.]+:([0-9]+)")).

%% Streams: what stands in `stream { }`; Webs: in `http { }`.
-spec nginx(file:filename(), Streams :: iodata(), Webs :: iodata()) -> port().
nginx(Dir, Streams, Webs) ->
    File = filename:join(Dir, "nginx.conf"),
    Temporary = [[Key, "_temp_path ", Dir, "/", Key, "; "]
                 || Key <- ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]],
    Config = ["load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
              "daemon off; master_process off; pid ", Dir, "/nginx.pid; error_log stderr;\n"
              "events { }\n"
              "stream {\n", Streams, "}\n"
              "http { access_log off; ", Temporary, "\n", Webs, "}\n"],
    ok = file:write_file(File, Config),
    program("nginx", ["-p", Dir, "-e", "stderr", "-c", File],
            ports([Streams, Webs], "listen [0-9.]+:([0-9]+)")).

ports(Config, Pattern) ->
    {match, Ports} = re:run(Config, Pattern, [global, {capture, all_but_first, list}]),
    [list_to_integer(Port) || [Port] <- Ports].

program(Name, Arguments, Ports) ->
    Program = case os:find_executable(Name, os:getenv("PATH") ++ ":/usr/sbin") of
        false -> throw({skip, Name ++ " is not installed"});
        Found -> Found
    end,
    Port = open_port({spawn_executable, Program},
                     [{args, Arguments}, binary, exit_status, stderr_to_stdout]),
    turn_kit:eventually(fun() -> is_up(Port, Ports) end),
    Port.

is_up(Program, Ports) ->
    receive {Program, {exit_status, _} = Ended} -> error({Ended, said(Program)}) after 0 -> ok end,
    lists:all(fun(Port) ->
        case gen_tcp:connect({127, 0, 0, 1}, Port, []) of
            {ok, Socket} -> ok =:= gen_tcp:close(Socket);
            {error, _} -> false
        end
    end, Ports).

said(Program) -> receive {Program, {data, Said}} -> Said after 0 -> nothing end.

%% The block of docs/proxies.md that begins with that line, with other addresses, ports and files
%% in it: each must be there.
-spec snippet(turn_kit:config(), First :: string(), [{string(), iodata()}]) -> iodata().
snippet(Config, First, Others) ->
    {ok, Page} = file:read_file(page(proplists:get_value(data_dir, Config))),
    {match, [Block]} = re:run(Page, ["\n```[^\n]*\n(\\Q", First, "\\E\n.*?\n)```\n"],
                              [dotall, {capture, all_but_first, binary}]),
    lists:foldl(fun({Theirs, Ours}, Text) ->
        ?assertNotEqual({Theirs, nomatch}, {Theirs, string:find(Text, Theirs)}),
        unicode:characters_to_binary(string:replace(Text, Theirs, Ours, all))
    end, Block, Others).

page("/") -> throw({skip, "docs/proxies.md is not there"});
page(Dir) ->
    File = filename:join(Dir, "docs/proxies.md"),
    case filelib:is_regular(File) of
        true -> File;
        false -> page(filename:dirname(Dir))
    end.

-spec end_program(port()) -> ok.
end_program(Program) ->
    {os_pid, Pid} = erlang:port_info(Program, os_pid),
    _ = os:cmd("kill " ++ integer_to_list(Pid)),
    receive {Program, {exit_status, _}} -> ok after ?TIMEOUT -> error(does_not_end) end.
