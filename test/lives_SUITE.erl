%% What ends and what begins again, and what it knows then: servers side by side, one of an
%% embedder, what stands beside a server, processes that are killed or whose code is replaced. What
%% becomes of clients when a relay dies is supervision_SUITE's.
-module(lives_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([a_server_that_gives_up_takes_no_other_along/1,
         helpers_that_die_take_no_server_along/1,
         the_only_server_takes_its_application_along/1,
         drained_in_one_life_is_drained_in_the_next/1,
         the_end_of_a_drain_in_a_foreign_tree/1,
         a_foreign_tree_reads_its_configuration_once/1,
         nothing_is_kept_without_who_would_start_it/1,
         what_lasts_outlives_the_tables/1,
         http_comes_back_with_the_tables/1, http_comes_back_when_it_was_killed/1,
         a_user_is_found_without_asking_others/1, killed_allocations_leave_no_row/1,
         settings_leave_no_copies_in_allocations/1,
         code_may_be_loaded_twice/1, systemd_hears_of_life_while_a_relay_is_replaced/1,
         revoked_for_as_long_as_leeway_lets_in/1, a_node_ends_that_nobody_reads/1]).
%% An embedder's supervisor, and a helper.
-export([init/1, start_helper/0]).

-import(turn_kit, [doc/1, eventually/1, with_server/2, allocated/1, allocated/3, call/3]).

-define(TIMEOUT, 20000).

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info, F =/= init]).

suite() -> [{timetrap, {minutes, 1}}].

init_per_testcase(_Case, Config) ->
    _ = application:stop(meerkat),
    {ok, _} = application:ensure_all_started(meerkat),
    Config.

end_per_testcase(_Case, _Config) ->
    application:stop(meerkat).

%%% Whose end is whose

a_server_that_gives_up_takes_no_other_along(_Config) ->
    doc("a server whose relays die and die is over after its third life; another of the same "
        "application knows nothing of it, and the name is free"),
    {ok, _} = meerkat:start_server(bad, config()),
    {ok, Good} = meerkat:start_server(good, config()),
    ok = kill_until_over(bad),
    ?assertEqual(Good, meerkat_sup:server(good)),
    ?assertMatch(#{relay := {ok, _}}, meerkat:info(good)),
    ?assertEqual({error, not_found}, meerkat:stop_server(bad)),
    eventually(fun() -> persistent_term:get({meerkat_registry, bad}, none) =:= none end),
    {ok, _} = meerkat:start_server(bad, config()),
    ok.

%% All of its lives.
kill_until_over(Name) ->
    case lists:keymember({meerkat, Name}, 1, supervisor:which_children(meerkat_sup)) of
        true ->
            Sup = meerkat_sup:server(Name),
            _ = is_pid(Sup) andalso exit(Sup, kill),
            kill_until_over(Name);
        false ->
            ok
    end.

helpers_that_die_take_no_server_along(_Config) ->
    doc("the socket for meerkatctl or the way to systemd dies again and again: the server "
        "serves on"),
    {ok, Server} = meerkat:start_server(?FUNCTION_NAME, config()),
    ok = meerkat_sup:start_helpers([#{id => helper, start => {?MODULE, start_helper, []}}]),
    {_, Sup, _, _} = lists:keyfind(helpers, 1, supervisor:which_children(meerkat_sup)),
    Monitor = monitor(process, Sup),
    ok = kill_children(Sup, Monitor),
    ?assertEqual(Server, meerkat_sup:server(?FUNCTION_NAME)),
    ?assertMatch(#{relay := {ok, _}}, meerkat:info(?FUNCTION_NAME)).

kill_children(Sup, Monitor) ->
    try supervisor:which_children(Sup) of
        [{_, Pid, _, _}] ->
            _ = is_pid(Pid) andalso exit(Pid, kill),
            kill_children(Sup, Monitor)
    catch
        exit:_ -> receive {'DOWN', Monitor, _, _, shutdown} -> ok end
    end.

start_helper() ->
    {ok, proc_lib:spawn_link(fun() -> receive stop -> ok end end)}.

the_only_server_takes_its_application_along(_Config) ->
    doc("a node that is there for one server ends with it"),
    {ok, _} = meerkat:start_only_server(?FUNCTION_NAME, config()),
    Monitor = monitor(process, meerkat_sup),
    try kill_until_over(?FUNCTION_NAME) catch exit:_ -> ok end,
    receive {'DOWN', Monitor, process, _, shutdown} -> ok
    after ?TIMEOUT -> error(still_there)
    end.

%%% What the next life knows

drained_in_one_life_is_drained_in_the_next(_Config) ->
    doc("a drained server that is started anew stays drained, and the end that was promised comes"),
    Name = ?FUNCTION_NAME,
    {ok, Sup} = meerkat:start_server(Name, config()),
    Client = allocated(server(Name)),
    ok = meerkat:drain(Name, 3600),
    true = exit(Sup, kill),
    %% With its allocations gone there is nothing to wait for.
    eventually(fun() -> not meerkat_registry:is_running(Name)
                            andalso meerkat_sup:server(Name) =:= none end),
    ?assertEqual({error, not_found}, meerkat:stop_server(Name)),
    ok = gen_udp:close(maps:get(socket, Client)).

the_end_of_a_drain_in_a_foreign_tree(_Config) ->
    doc("drain/2 ends an embedded server when its last allocation is gone, as its supervisor "
        "would; nothing of it is kept, and it may be started again"),
    Name = ?FUNCTION_NAME,
    Tree = tree(options(Name)),
    ok = meerkat:drain(Name, infinity),
    eventually(fun() -> not meerkat_registry:is_running(Name) end),
    eventually(fun() -> persistent_term:get({meerkat_registry, Name}, none) =:= none end),
    ?assertMatch([{_, undefined, _, _}], supervisor:which_children(Tree)),
    {ok, _} = supervisor:restart_child(Tree, {meerkat, Name}),
    ?assertNot(meerkat_drain:is_draining(Name)),
    ok = stop(Tree).

a_foreign_tree_reads_its_configuration_once(Config) ->
    doc("a users_file that is half written is no reason for a server not to be started anew"),
    Name = ?FUNCTION_NAME,
    File = filename:join(proplists:get_value(priv_dir, Config), "users.cfg"),
    ok = file:write_file(File, "users = ( { name = \"alice\"; password = \"w\"; } );\n"),
    Tree = tree((options(Name))#{users_file => File}),
    ok = file:write_file(File, "users = ( { name = \"ali"),
    [{_, Server, _, _}] = supervisor:which_children(Tree),
    true = exit(Server, kill),
    eventually(fun() -> is_serving(Name) end),
    ?assertMatch([{_, New, _, _}] when New =/= Server, supervisor:which_children(Tree)),
    ok = stop(Tree).

nothing_is_kept_without_who_would_start_it(_Config) ->
    doc("settings, secrets among them, go with the supervisor that would start the server anew"),
    Name = ?FUNCTION_NAME,
    Tree = tree(options(Name)),
    ?assertNotEqual(none, persistent_term:get({meerkat_registry, Name}, none)),
    ok = stop(Tree),
    eventually(fun() -> persistent_term:get({meerkat_registry, Name}, none) =:= none end).

%%% What stands beside

what_lasts_outlives_the_tables(_Config) ->
    doc("the process that owns the tables is killed alone: the server is drained as it was, and "
        "listens at the port that the system had given it; another specification knows nothing"),
    Name = ?FUNCTION_NAME,
    {ok, _} = meerkat:start_server(Name, config()),
    Bound = meerkat_listening:bound(Name),
    ok = meerkat:drain(Name),
    Was = owner(Name),
    true = exit(Was, kill),
    eventually(fun() -> owner(Name) =/= Was andalso is_serving(Name) end),
    ?assertMatch(#{draining := true}, meerkat:info(Name)),
    ?assertEqual(Bound, meerkat_listening:bound(Name)),
    ok = meerkat:stop_server(Name),
    ?assertEqual([], meerkat_store:lasting(Name)),
    {ok, _} = meerkat:start_server(Name, config()),
    ?assertMatch(#{draining := false}, meerkat:info(Name)).

http_comes_back_with_the_tables(_Config) ->
    doc("the process that owns the tables is killed: HTTP is there again, as the relay is"),
    with_http(?FUNCTION_NAME, fun(Name) ->
        Was = owner(Name),
        true = exit(Was, kill),
        eventually(fun() -> owner(Name) =/= Was andalso is_serving(Name) end),
        eventually(fun() -> is_http(Name) end)
    end).

http_comes_back_when_it_was_killed(_Config) ->
    doc("what stands beside is killed: it comes back, and no allocation notices"),
    with_http(?FUNCTION_NAME, fun(Name) ->
        Client = allocated(server(Name)),
        Was = meerkat_roles:find(Name, beside),
        true = exit(Was, kill),
        eventually(fun() -> meerkat_roles:find(Name, beside) =/= Was andalso is_http(Name) end),
        ?assertMatch(#{relay_restarts := 0, allocations := 1}, meerkat:info(Name)),
        turn_kit:success(call(Client, refresh, []))
    end).

with_http(Name, Fun) ->
    Listen = {{127, 0, 0, 1}, turn_kit:free_tcp_port()},
    {ok, _} = meerkat:start_server(Name, (config())#{http_listen => Listen}),
    eventually(fun() -> is_http(Name) end),
    Fun(Name).

is_http(Name) ->
    #{http := #{listen := {Ip, Port}}} = meerkat_registry:settings(Name),
    case gen_tcp:connect(Ip, Port, [binary, {active, false}]) of
        {ok, Socket} ->
            ok = gen_tcp:send(Socket, "GET /health HTTP/1.1\r\nHost: here\r\n\r\n"),
            Answer = gen_tcp:recv(Socket, 12, ?TIMEOUT),
            ok = gen_tcp:close(Socket),
            Answer =:= {ok, <<"HTTP/1.1 200">>};
        {error, _} ->
            false
    end.

%%% Rows and processes

a_user_is_found_without_asking_others(_Config) ->
    doc("allocations of one user, sorted by user, and their end: no other process is asked, so "
        "none is woken"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        _ = allocated(Server, [], #{user => <<"alice">>}),
        [{_, Alice}] = meerkat_alloc_table:sessions(Name),
        _ = allocated(Server, [], #{user => <<"bob">>}),
        [{_, Bob}] = meerkat_alloc_table:sessions_of(Name, <<"bob">>),
        ok = sys:suspend(Alice),
        {1, [#{user := <<"bob">>}]} = meerkat_sessions:list(Name, #{user => <<"bob">>}),
        ?assertEqual({0, []}, meerkat_sessions:list(Name, #{user => <<"carol">>})),
        ok = sys:resume(Alice),
        ok = sys:suspend(Bob),
        {2, [#{user := <<"alice">>}]} = meerkat_sessions:list(Name, #{sort => user, limit => 1}),
        ?assertEqual(1, meerkat_sessions:disconnect(Name, {user, <<"alice">>})),
        ok = sys:resume(Bob)
    end).

settings_leave_no_copies_in_allocations(_Config) ->
    doc("no part of the settings is kept by allocations: each would get a copy of it when a user "
        "is added, for what processes refer to is copied when it is replaced"),
    with_server(#{max_bps => 1000000, mobility => true}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        _ = turn_kit:success(turn_kit:permit(Client, [turn_kit:peer()])),
        [{_, Pid}] = meerkat_alloc_table:sessions(Name),
        #{limits := Limits} = Settings = meerkat_registry:settings(Name),
        Kept = maps_in(Settings),
        ?assert(lists:member(Limits, Kept)),
        ?assertEqual([], [Map || Map <- maps_in(sys:get_state(Pid)), lists:member(Map, Kept)])
    end).

%% Of two members or more: fewer may be equal by chance.
maps_in(Map) when is_map(Map) ->
    [Map || map_size(Map) > 1] ++ lists:flatmap(fun maps_in/1, maps:values(Map));
maps_in([Head | Tail]) -> maps_in(Head) ++ maps_in(Tail);
maps_in(Tuple) when is_tuple(Tuple) -> maps_in(tuple_to_list(Tuple));
maps_in(_) -> [].

killed_allocations_leave_no_row(_Config) ->
    doc("the row of an allocation whose process was killed goes with it, not with the next "
        "request"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        _ = allocated(Server),
        [{_, Pid}] = meerkat_alloc_table:sessions(Name),
        true = exit(Pid, kill),
        eventually(fun() -> meerkat_alloc_table:count(Name) =:= 0 end)
    end).

code_may_be_loaded_twice(_Config) ->
    doc("no process of a quiet server is killed when its code is replaced, and replaced again"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        Wire = meerkat_roles:find(Name, wire),
        Asleep = {current_function, {erlang, hibernate, 3}},
        eventually(fun() -> process_info(Wire, current_function) =:= Asleep end),
        [begin
             _ = code:purge(meerkat_wire),
             {module, _} = code:load_file(meerkat_wire)
         end || _ <- [1, 2, 3]],
        turn_kit:success(call(Client, refresh, [])),
        ?assertEqual(Wire, meerkat_roles:find(Name, wire)),
        ?assertMatch(#{relay_restarts := 0}, meerkat:info(Name))
    end).

%%% What systemd hears

systemd_hears_of_life_while_a_relay_is_replaced(_Config) ->
    doc("a relay that died is being replaced: there are signs of life; one that hangs has none, "
        "and they are back a moment after it is"),
    %% The name of a socket must be short.
    Path = "/tmp/meerkat_notify_" ++ os:getpid(),
    {ok, Socket} = gen_udp:open(0, [{ifaddr, {local, Path}}, local, binary, {active, false}]),
    true = os:putenv("NOTIFY_SOCKET", Path),
    true = os:putenv("WATCHDOG_USEC", "600000"),
    {ok, Sup} = meerkat:start_server(?FUNCTION_NAME, config()),
    ok = meerkat_sup:start_helpers([meerkat_systemd:child_spec(?FUNCTION_NAME)]),
    ok = told(Socket, <<"READY=1">>),
    ok = told(Socket, <<"WATCHDOG=1">>),
    {ok, OsPid} = meerkat_relay:os_pid(?FUNCTION_NAME),
    ok = sys:suspend(Sup),
    [] = os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
    eventually(fun() -> meerkat_relay:call(?FUNCTION_NAME, {stats, #{}}) =:= {error, dead} end),
    [ok = told(Socket, <<"WATCHDOG=1">>) || _ <- lists:seq(1, 20)],
    ok = sys:resume(Sup),
    eventually(fun() -> is_serving(?FUNCTION_NAME) end),
    {ok, Next} = meerkat_relay:os_pid(?FUNCTION_NAME),
    ok = process_kit:hold(Next),
    ok = quiet(Socket),
    ok = process_kit:let_go(Next),
    ok = told(Socket, <<"WATCHDOG=1">>),
    true = os:unsetenv("NOTIFY_SOCKET"),
    true = os:unsetenv("WATCHDOG_USEC"),
    ok = gen_udp:close(Socket),
    ok = file:delete(Path).

told(Socket, Prefix) ->
    {ok, {_, _, Text}} = gen_udp:recv(Socket, 0, ?TIMEOUT),
    ?assertEqual(Prefix, binary:part(Text, 0, byte_size(Prefix))),
    ok.

%% For longer than the time between two signs.
quiet(Socket) ->
    case gen_udp:recv(Socket, 0, 1000) of
        {ok, _} -> quiet(Socket);
        {error, timeout} -> ok
    end.

%%% Revocation

revoked_for_as_long_as_leeway_lets_in(_Config) ->
    doc("credentials that a leeway may still let in after their end stay revoked when others are"),
    with_server(#{}, fun(#{name := Name}) ->
        ok = meerkat_revoked:revoke(Name, <<"alice">>, 1),
        Expiry = erlang:system_time(second) + 1,
        Username = <<(integer_to_binary(Expiry))/binary, ":alice">>,
        ?assert(meerkat_revoked:is_revoked(Name, Username)),
        eventually(fun() -> erlang:system_time(second) > Expiry + 1 end),
        ok = meerkat_revoked:revoke(Name, <<"bob">>, 60),
        ?assert(meerkat_revoked:is_revoked(Name, Username))
    end).

%%% The end of a node

a_node_ends_that_nobody_reads(Config) ->
    doc("stderr is a pipe that is full, and nobody reads it: the node ends all the same"),
    Fifo = filename:join(proplists:get_value(priv_dir, Config), "stderr"),
    [] = os:cmd("mkfifo " ++ Fifo),
    Paths = lists:append([" -pa " ++ filename:dirname(code:which(M)) || M <- [meerkat, jiffy]]),
    Eval = "ok = meerkat_log:start(#{log_level => debug, secrets => []}), "
           "standard_error ! {io_request, self(), make_ref(), "
           "{put_chars, unicode, lists:duplicate(300000, $x)}}, "
           "meerkat_drain:end_node().",
    %% A reader that reads nothing keeps it open. It is full before the node starts.
    Command = "sleep 60 < " ++ Fifo ++ " > /dev/null & "
        "dd if=/dev/zero of=" ++ Fifo ++ " bs=4096 oflag=nonblock 2> /dev/null; "
        "exec erl -noshell" ++ Paths ++ " -eval '" ++ Eval ++ "' 2> " ++ Fifo,
    Port = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", Command]}, exit_status]),
    receive {Port, {exit_status, Status}} -> ?assertEqual(0, Status)
    after 40000 -> error(still_there)
    end.

%%% Servers and trees

config() ->
    #{realm => <<"example.org">>, secrets => [<<"s3cret">>],
      secret_as_password => true, workers => 1,
      users => #{<<"alice">> => {password, <<"wonderland">>}},
      listeners => [#{transport => udp, ip => {127, 0, 0, 1}, port => turn_kit:free_ports(1)}],
      relays => [#{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1}, min_port => 49152,
                   max_port => 65535}]}.

%% As clients of turn_kit want to know it.
server(Name) ->
    #{listeners := [{Ip, Port}] = Bound} = meerkat:info(Name),
    #{name => Name, foreign => false, realm => <<"example.org">>, secret => <<"s3cret">>, ip => Ip,
      port => Port, listeners => Bound, users => #{<<"alice">> => <<"wonderland">>}}.

options(Name) ->
    #{name => Name, listen_ip => "127.0.0.1", listen_port => 0, relay_ip => {127, 0, 0, 1},
      secret => "secret"}.

tree(Options) ->
    {ok, Tree} = supervisor:start_link(?MODULE, Options),
    true = unlink(Tree),
    Tree.

init(Options) ->
    {ok, {#{strategy => one_for_one}, [meerkat:child_spec(Options)]}}.

stop(Tree) ->
    Monitor = monitor(process, Tree),
    true = exit(Tree, shutdown),
    receive {'DOWN', Monitor, process, Tree, _} -> ok end.

owner(Name) ->
    case persistent_term:get({meerkat, Name}, none) of
        #{owner := Owner} -> Owner;
        none -> none
    end.

is_serving(Name) ->
    try meerkat:info(Name) of
        #{relay := Relay} -> element(1, Relay) =:= ok
    catch
        error:badarg -> false
    end.
