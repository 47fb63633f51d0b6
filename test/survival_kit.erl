%% Servers in nodes of their own, which are killed while clients and peers of this one talk through
%% them, and started again; and those clients.
-module(survival_kit).

-include_lib("stdlib/include/assert.hrl").

-export([run_dir/1, lock/1, start/2, start/3, start_node/0, in/4, kill/1, stop/1, relay/1, lives/1,
         descriptors/1, listeners/1, first/1, first/2, next_to/3, again/2, again/3, counter/2,
         ports_free/1, allocations/1, bound/1, both_ways/2, over_tcp/3, talk/1, talk_over_tcp/1,
         hush/1, insist/3, busy/1, finish/1, dir/1, end_dir/1]).
%% In the node that is killed.
-export([serve/2, reload/2, told/2, log/2]).

-export_type([server/0]).

-import(turn_kit, [open/1, challenged/1, signed/3, call/3, allocated/1, bind/3, channel/3, peer/0,
                   peer_send/3, peer_next/1, get/2, success/1, send/2]).

%% As turn_kit has it, with its node, that one's process and, where the suite knows it, its relay.
-type server() :: map().

-define(CHANNEL, 16#4000).

%% Each case has a run directory of its own.
-spec dir(turn_kit:config()) -> turn_kit:config().
dir(Config) ->
    Dir = string:trim(os:cmd("mktemp -d /tmp/survival.XXXXXX")),
    [{run_dir, Dir} | Config].

%% A relay that a failed case leaves behind would go on for a while.
-spec end_dir(turn_kit:config()) -> _.
end_dir(Config) ->
    ok = ctl_kit:end_relay(run_dir(Config)),
    file:del_dir_r(run_dir(Config)).

-spec run_dir(turn_kit:config()) -> file:filename().
run_dir(Config) -> proplists:get_value(run_dir, Config).

-spec lock(file:filename()) -> file:filename().
lock(Dir) -> filename:join(Dir, "relay-default.sock.lock").

%% A node with a server, as turn_kit:start_server/1 has one; its listener is where the one before
%% had it, if there was one.
-spec start(turn_kit:config(), map()) -> server().
start(Config, Overrides) ->
    start(Config, Overrides, []).

%% The same, with code of these folders before that of all others.
-spec start(turn_kit:config(), map(), [file:filename()]) -> server().
start(Config, Overrides, Folders) ->
    {ok, Node, _} = start_node(),
    ok = peer:call(Node, code, add_pathsa, [Folders]),
    OsPid = peer:call(Node, os, getpid, []),
    Own = #{run_dir => run_dir(Config), survive => 60},
    try peer:call(Node, ?MODULE, serve, [default, maps:merge(Own, Overrides)], 60000) of
        Server -> Server#{node => Node, os_pid => OsPid}
    catch
        Class:Reason:Stack ->
            ok = peer:stop(Node),
            erlang:raise(Class, Reason, Stack)
    end.

-spec start_node() -> {ok, pid(), node()}.
start_node() ->
    peer:start_link(#{connection => standard_io, wait_boot => 60000,
                      args => ["-pa" | code:get_path()]}).

%% In that node.
-spec serve(atom(), map()) -> turn_kit:server().
serve(Name, Overrides) ->
    {ok, _} = application:ensure_all_started(meerkat),
    ok = logger:set_primary_config(level, notice),
    ok = logger:remove_handler(default),
    ok = logger:add_handler(told, ?MODULE, #{}),
    Lines = ets:new(told, [named_table, public, ordered_set, {heir, whereis(init), none}]),
    _ = spawn(fun() -> true = ets:give_away(Lines, self(), none) end),
    turn_kit:start_server(Overrides#{name => Name}).

%% Likewise; Overrides are of what serve/2 has, too.
-spec reload(atom(), map()) -> ok | {error, term()}.
reload(Name, Overrides) -> meerkat:reload(Name, maps:merge(turn_kit:config(), Overrides)).

-spec log(logger:log_event(), term()) -> _.
log(#{msg := {string, Line}}, _) -> ets:insert(told, {erlang:monotonic_time(), Line});
log(#{msg := {report, _}}, _) -> ok;
log(#{msg := {Format, Args}}, _) ->
    ets:insert(told, {erlang:monotonic_time(), io_lib:format(Format, Args)}).

%% Whether a line of its log matches.
-spec told(ets:table(), string()) -> boolean().
told(Lines, Pattern) ->
    lists:any(fun({_, Line}) -> re:run(Line, Pattern) =/= nomatch end, ets:tab2list(Lines)).

-spec in(server(), module(), atom(), [term()]) -> term().
in(#{node := Node}, Module, Function, Args) -> peer:call(Node, Module, Function, Args, 60000).

%% Returns when its relay knows: the node's process here ends with its stderr, which the relay
%% leaves then. One that is held up knows nothing.
-spec kill(server()) -> ok.
kill(#{node := Node, os_pid := OsPid} = Server) ->
    Monitor = monitor(process, Node),
    unlink(Node),
    [] = os:cmd("kill -KILL " ++ OsPid),
    case [held || #{relay := Relay} <- [Server], process_kit:is_held(Relay)] of
        [held] -> turn_kit:eventually(fun() -> not lives(list_to_integer(OsPid)) end);
        [] -> receive {'DOWN', Monitor, process, Node, _} -> ok end
    end.

%% In order.
-spec stop(server()) -> ok.
stop(#{node := Node} = Server) ->
    ok = in(Server, meerkat, stop_server, [default]),
    peer:stop(Node).

-spec relay(server()) -> pos_integer().
relay(Server) ->
    {ok, Pid} = in(Server, meerkat_relay, os_pid, [default]),
    Pid.

%% Of the program, while nobody may be there who knows it.
-spec lives(pos_integer()) -> boolean().
lives(Pid) ->
    case file:read_file("/proc/" ++ integer_to_list(Pid) ++ "/stat") of
        {ok, Stat} -> re:run(Stat, "\\) [ZX] ") =:= nomatch;
        {error, _} -> false
    end.

-spec descriptors(pos_integer()) -> non_neg_integer().
descriptors(Pid) ->
    {ok, Names} = file:list_dir("/proc/" ++ integer_to_list(Pid) ++ "/fd"),
    length(Names).

-spec listeners(server()) -> [map()].
listeners(#{port := Port}) -> listeners_at(Port).

listeners_at(Port) ->
    [#{transport => Transport, ip => Ip, port => Port}
     || Ip <- [{127, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 1}], Transport <- [udp, tcp]].

%% A server on a port that the next one can name too.
-spec first(turn_kit:config()) -> server().
first(Config) -> first(Config, #{}).

-spec first(turn_kit:config(), map()) -> server().
first(Config, Overrides) ->
    Listeners = listeners_at(turn_kit:free_ports(1)),
    Server = start(Config, maps:merge(#{listeners => Listeners}, Overrides)),
    Server#{relay => relay(Server)}.

-spec next_to(turn_kit:config(), server(), map()) -> map().
next_to(Config, Server, Overrides) ->
    maps:merge(#{run_dir => run_dir(Config), survive => 60, listeners => listeners(Server)},
               Overrides).

%% The next node, at the same place, with the relay of the one before.
-spec again(turn_kit:config(), server()) -> server().
again(Config, Server) -> again(Config, Server, #{}).

-spec again(turn_kit:config(), server(), map()) -> server().
again(Config, #{relay := Relay} = Server, Overrides) ->
    Next = start(Config, next_to(Config, Server, Overrides)),
    ?assertEqual(Relay, relay(Next)),
    Next#{relay => Relay}.

-spec counter(server(), atom()) -> non_neg_integer().
counter(Server, Name) ->
    {ok, #{counters := #{Name := N}}} = in(Server, meerkat_relay, stats, [default]),
    N.

-spec ports_free(server()) -> non_neg_integer().
ports_free(Server) ->
    {ok, #{ports_free := N}} = in(Server, meerkat_relay, stats, [default]),
    N.

-spec allocations(server()) -> [{list(), list(), list()}].
allocations(Server) ->
    lists:sort([{Relayed, lists:sort([Ip || #{peer := Ip} <- Permissions]),
                 lists:sort([{Number, Peer} || #{number := Number, peer := Peer} <- Channels])}
                || #{relayed := Relayed, permissions := Permissions, channels := Channels}
                       <- in(Server, meerkat, allocations, [default])]).

%%% Calls

-define(EVERY_MS, 10).

-spec bound(server()) -> {Client :: map(), Peer :: map()}.
bound(Server) ->
    {Client, Peer} = {allocated(Server), peer()},
    success(bind(Client, ?CHANNEL, Peer)),
    {Client, Peer}.

%% Both ways, now.
-spec both_ways(map(), map()) -> ok.
both_ways(#{relayed := Relayed} = Client, Peer) ->
    {There, Back} = {crypto:strong_rand_bytes(8), crypto:strong_rand_bytes(8)},
    channel(Client, ?CHANNEL, There),
    ?assertEqual({Relayed, There}, peer_next(Peer)),
    peer_send(Peer, Relayed, Back),
    ?assertEqual({ok, ?CHANNEL, Back}, stun_model:decode_channel(next_data(Client))).

%% A request that was sent again may be answered twice.
next_data(#{socket := Socket}) ->
    receive
        {udp, Socket, _, _, <<1:2, _/bitstring>> = Data} -> Data
    after 5000 ->
        ct:fail(no_data)
    end.

%% A client over TCP with an allocation of that protocol. Options are those of stream_kit.
-spec over_tcp(server(), 6 | 17, map()) -> map().
over_tcp(#{ip := Ip, port := Port, users := #{<<"alice">> := Password}} = Server, Protocol,
         Options) ->
    Socket = stream_kit:open(tcp, {Ip, Port}, Options),
    Client = challenged(#{socket => Socket, server => Server, to => {Ip, Port},
                          here => stream_kit:here(Socket), user => <<"alice">>,
                          password => Password}),
    Answer = success(call(Client, allocate, [{requested_transport, Protocol}])),
    Client#{answer => Answer, relayed => get(xor_relayed_address, Answer)}.

%% A process with a client on a channel, and its peer: sends numbers both ways until it is hushed.
-spec talk(server()) -> pid().
talk(Server) -> talks(fun() -> bound(Server) end).

-spec talk_over_tcp(server()) -> pid().
talk_over_tcp(Server) ->
    talks(fun() ->
        {Client, Peer} = {over_tcp(Server, 17, #{}), peer()},
        success(bind(Client, ?CHANNEL, Peer)),
        {Client, Peer}
    end).

talks(Bound) ->
    Own = self(),
    Talker = spawn_link(fun() ->
        {Client, Peer} = Bound(),
        Own ! {talks, self()},
        talking(Client, Peer, 0, #{})
    end),
    receive {talks, Talker} -> Talker end.

talking(#{relayed := Relayed} = Client, Peer, N, Came) ->
    channel(Client, ?CHANNEL, <<"to peer", N:32>>),
    peer_send(Peer, Relayed, <<"to client", N:32>>),
    gathered(Client, Peer, N + 1, Came, erlang:monotonic_time(millisecond) + ?EVERY_MS).

gathered(Client, Peer, N, Came, Until) ->
    receive
        {udp, _, _, _, Packet} -> gathered(Client, Peer, N, came(Packet, Came), Until);
        {hush, From} -> From ! {hushed, self(), N, 2 * N - map_size(rest(2 * N, Came))}
    after max(0, Until - erlang:monotonic_time(millisecond)) ->
        talking(Client, Peer, N, Came)
    end.

%% What is on its way still.
rest(All, Came) when map_size(Came) =:= All ->
    Came;
rest(All, Came) ->
    receive
        {udp, _, _, _, Packet} -> rest(All, came(Packet, Came))
    after 3000 ->
        Came
    end.

came(<<?CHANNEL:16, 13:16, "to client", N:32, _/binary>>, Came) -> Came#{{client, N} => true};
came(<<"to peer", N:32>>, Came) -> Came#{{peer, N} => true}.

%% Nothing was lost.
-spec hush(pid()) -> ok.
hush(Talker) ->
    Talker ! {hush, self()},
    receive {hushed, Talker, N, Lost} -> ?assertEqual({N, 0}, {N, Lost}) end.

%% A request that is sent again until it is answered, as clients do.
-spec insist(map(), atom(), list()) -> map().
insist(Client, Method, Items) ->
    Request = signed(Client, Method, Items),
    <<_:64, Id:12/binary, _/binary>> = Request,
    insist(Client, Request, Id, 300).

insist(#{socket := Socket} = Client, Request, Id, Left) when Left > 0 ->
    send(Client, Request),
    receive
        {udp, Socket, _, _, <<0:2, _:62, Id:12/binary, _/binary>> = Answer} ->
            {ok, Message} = stun_model:decode(Answer),
            Message
    after 100 ->
        insist(Client, Request, Id, Left - 1)
    end.

%% A process with a client that allocates, refreshes, permits, binds and ends as it comes, until it
%% is told to end; then it says whether it was told that it has an allocation, and has tried that.
-spec busy(server()) -> pid().
busy(Server) ->
    Own = self(),
    Pid = spawn_link(fun() ->
        Client = challenged(open(Server)),
        Own ! {busy, self()},
        busily(Client, peer(), none)
    end),
    receive {busy, Pid} -> Pid end.

busily(Client, Peer, Has) ->
    receive
        {finish, From} -> From ! {finished, self(), finished(Client, Peer, Has)}
    after rand:uniform(20) ->
        busily(Client, Peer, did(rand:uniform(6), Client, Peer, Has))
    end.

did(_, Client, _Peer, none) ->
    case insist(Client, allocate, [{requested_transport, 17}]) of
        #{class := success} = Answer -> {get(xor_relayed_address, Answer), unbound};
        Refused -> 437 = turn_kit:code(Refused), none   % the one of an earlier answer that is lost
    end;
did(1, Client, _Peer, _Has) ->
    _ = insist(Client, refresh, [{lifetime, 0}]),
    none;
did(N, Client, Peer, {Relayed, _}) when N < 4 ->
    success(insist(Client, channel_bind, [{channel_number, ?CHANNEL},
                                          {xor_peer_address, maps:get(address, Peer)}])),
    {Relayed, bound};
did(4, Client, Peer, Has) ->
    success(insist(Client, create_permission, [{xor_peer_address, maps:get(address, Peer)}])),
    Has;
did(_, Client, _Peer, Has) ->
    success(insist(Client, refresh, [])),
    Has.

finished(_Client, _Peer, none) -> none;
finished(Client, Peer, {Relayed, Bound}) ->
    _ = Bound =:= bound andalso both_ways(Client#{relayed => Relayed}, Peer),
    {Relayed, Bound}.

%% The relayed addresses that clients were told of.
-spec finish([pid()]) -> [term()].
finish(Pids) ->
    _ = [Pid ! {finish, self()} || Pid <- Pids],
    lists:sort([Relayed || Pid <- Pids,
                           {Relayed, _} <- [receive {finished, Pid, Has} -> Has end]]).
