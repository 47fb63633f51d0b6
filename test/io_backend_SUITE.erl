%% What moves packets, and who says so: io_uring where it is allowed, epoll where it is not, and one
%% line in the log; and what the kernel makes of the socket buffers that are asked for. The real
%% relay program, started by one that has the kernel refuse it something (test/c/tools/refuse.c).
-module(io_backend_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([allowed/1, forced_epoll/1, refused_by_a_profile/1, refused_by_an_old_kernel/1,
         refused_for_want_of_memory/1, a_ring_for_one_worker_only/1, demanded_and_refused/1,
         demanded_and_allowed/1,
         probe_tells/1, buffers_cut/1, buffers_granted/1, a_full_receive_buffer_is_counted/1,
         no_memory_that_both_have/1,
         what_is_not_sent_is_not_relayed/1, what_is_too_long_for_its_header/1]).

-import(turn_kit, [doc/1, allocated/1, channel/3, bind/3, success/1, data/1, permit/2, peer/0,
                   peer_next/1, peer_send/3, send_to/3, stop_server/1]).

all() ->
    [allowed, forced_epoll, refused_by_a_profile, refused_by_an_old_kernel,
     refused_for_want_of_memory, a_ring_for_one_worker_only, demanded_and_refused,
     demanded_and_allowed, probe_tells,
     buffers_cut, buffers_granted, a_full_receive_buffer_is_counted, no_memory_that_both_have,
     what_is_not_sent_is_not_relayed, what_is_too_long_for_its_header].

suite() -> [{timetrap, {seconds, 60}}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(meerkat),
    Refuse = filename:join(proplists:get_value(priv_dir, Config), "refuse"),
    Source = filename:join([root(), "test", "c", "tools", "refuse.c"]),
    "" = os:cmd(lists:join(" ", ["cc", "-o", Refuse, Source])),
    [{refuse, Refuse} | Config].

end_per_suite(_Config) -> ok.

root() ->
    {match, [Root]} = re:run(code:lib_dir(meerkat), "^(.*?)/_build/", [{capture, [1], list}]),
    Root.

allowed(_Config) ->
    doc("without a word about it, and where it is allowed, packets move by io_uring"),
    [Line] = served(#{io_backend => auto}, io_uring),
    ?assertEqual("packets move by io_uring", Line).

forced_epoll(_Config) ->
    doc("io_backend = epoll is obeyed, and no refusal is spoken of"),
    [Line] = served(#{io_backend => epoll}, epoll),
    ?assertEqual("packets move by epoll", Line).

refused_by_a_profile(Config) ->
    doc("EPERM, as Docker's default profile answers: epoll, and the line says who refuses"),
    [Line] = served(#{io_backend => auto, relay_program => without(Config, "io_uring EPERM")},
                    epoll),
    ?assertMatch({match, _}, re:run(Line, "^packets move by epoll: io_uring is refused "
                                          "\\(EPERM: a seccomp profile")).

refused_by_an_old_kernel(Config) ->
    doc("ENOSYS: likewise, with its own reason"),
    [Line] = served(#{io_backend => auto, relay_program => without(Config, "io_uring ENOSYS")},
                    epoll),
    ?assertMatch({match, _}, re:run(Line, "refused \\(ENOSYS: the kernel is built without it")).

refused_for_want_of_memory(Config) ->
    doc("ENOMEM: the limit of locked memory is named"),
    [Line] = served(#{io_backend => auto, relay_program => without(Config, "io_uring ENOMEM")},
                    epoll),
    ?assertMatch({match, _}, re:run(Line, "refused \\(ENOMEM: .*LimitMEMLOCK")).

a_ring_for_one_worker_only(Config) ->
    doc("one ring can be tried, and not every worker can have one: epoll, for all of them"),
    Short = without(Config, "io_uring_after:2 ENOMEM"),
    [Line] = served(#{io_backend => auto, workers => 2, relay_program => Short}, epoll),
    ?assertMatch({match, _}, re:run(Line, "refused \\(ENOMEM: .*LimitMEMLOCK")),
    {error, Sentence} = meerkat:start_server(
        ?FUNCTION_NAME, config(#{io_backend => io_uring, workers => 2, relay_program => Short})),
    ?assertMatch({match, _}, re:run(Sentence, "does not start: io_uring is refused \\(ENOMEM: ")).

demanded_and_refused(Config) ->
    doc("io_backend = io_uring, and it is refused: the server does not start, and says why"),
    {error, Sentence} = meerkat:start_server(
        ?FUNCTION_NAME, config(#{io_backend => io_uring,
                                 relay_program => without(Config, "io_uring EPERM")})),
    ?assertMatch({match, _}, re:run(Sentence, "does not start: io_uring is refused \\(EPERM: ")).

demanded_and_allowed(_Config) ->
    [Line] = served(#{io_backend => io_uring}, io_uring),
    ?assertEqual("packets move by io_uring", Line).

probe_tells(Config) ->
    doc("the relay program tells by itself what it may use, for who looks for what is wrong"),
    #{<<"io_backend">> := <<"io_uring">>,
      <<"io_uring">> := #{<<"available">> := true, <<"errno">> := 0, <<"reason">> := <<>>},
      <<"udp_gso">> := Gso, <<"udp_gro">> := Gro, <<"kernel">> := Kernel} = probe(program()),
    ?assert(is_boolean(Gso) andalso is_boolean(Gro)),
    ?assertEqual(string:trim(os:cmd("uname -r")), binary_to_list(Kernel)),
    #{<<"io_backend">> := <<"epoll">>,
      <<"io_uring">> := #{<<"available">> := false, <<"errno">> := 1,
                          <<"reason">> := <<"EPERM: ", _/binary>>}} =
        probe(without(Config, "io_uring EPERM")).

probe(Program) ->
    {ok, Map} = meerkat_json:decode(list_to_binary(os:cmd(Program ++ " --probe"))),
    Map.

buffers_cut(Config) ->
    doc("the kernel grants less than is configured: one warning names the limits and the remedy"),
    Lines = logged(#{relay_program => without(Config, "buffers EPERM"),
                     receive_buffer => 1 bsl 30, send_buffer => (1 bsl 30) - 1}, epoll_or_uring),
    [Line] = [L || L <- Lines, string:find(L, "net.core") =/= nomatch],
    ?assertMatch({match, _}, re:run(Line, "receive_buffer is \\d+ bytes instead of 1073741824, "
                                          "send_buffer is \\d+ bytes instead of 1073741823; "
                                          "sysctl -w net.core.rmem_max=1073741824 "
                                          "net.core.wmem_max=1073741823 ")).

buffers_granted(Config) ->
    doc("what fits needs no word"),
    Lines = logged(#{relay_program => without(Config, "buffers EPERM"),
                     receive_buffer => 100000, send_buffer => 100000}, epoll_or_uring),
    ?assertEqual([], [L || L <- Lines, string:find(L, "buffer") =/= nomatch]).

a_full_receive_buffer_is_counted(_Config) ->
    doc("what a socket's buffer had no room for is a drop like any other, on both backends"),
    [turn_kit:with_server(#{receive_buffer => 4096, io_backend => Backend}, fun(Server) ->
         Client = #{relayed := Relayed} = allocated(Server),
         Peer = peer(),
         success(permit(Client, [Peer])),
         Send = fun() -> peer_send(Peer, Relayed, <<0:8000>>) end,
         stopped(Server, fun() -> [Send() || _ <- lists:seq(1, 100)] end),
         %% The kernel tells with the next datagram that there is room for.
         counted_some(Server, receive_queue_full, Send)
     end) || Backend <- [io_uring, epoll]].

no_memory_that_both_have(Config) ->
    doc("where there is none, what the relay answers within grants goes by the pipe, and a line "
        "says so"),
    Program = without(Config, "fallocate EPERM"),
    Lines = log_kit:logged(fun() -> turn_kit:with_server(#{relay_program => Program}, fun(Server) ->
        #{name := Name} = Server,
        Client = allocated(Server),
        Granted = turn_kit:counter(Server, granted),
        success(bind(Client, 16#4001, peer())),
        ?assertEqual(Granted + 1, turn_kit:counter(Server, granted)),
        ?assertMatch([#{channels := [#{number := 16#4001}]}], meerkat:allocations(Name))
    end) end),
    ?assertMatch([_], [L || L <- Lines, string:find(L, "no memory that both programs have: "
                                                       "Operation not permitted") =/= nomatch]).

what_is_not_sent_is_not_relayed(_Config) ->
    doc("what the kernel refuses to send, alone and in a run, counts as dropped by the server and "
        "by its allocation, and not as relayed, on both backends"),
    [turn_kit:with_server(#{io_backend => Backend}, fun(#{name := Name} = Server) ->
         Client = allocated(Server),
         Nowhere = {{11, 0, 0, 9}, 9},      % from a loopback address
         Peer = peer(),
         success(permit(Client, [Nowhere, Peer])),
         Sent = turn_kit:counter(Server, peer_sent_packets),
         [#{session := Session}] = meerkat:allocations(Name),
         [send_to(Client, Nowhere, <<0:800>>) || _ <- lists:seq(1, 20)],
         %% The server's counters are not asked for meanwhile: what one of them has told it does not
         %% take back, and what is sent counts until it is known to be refused.
         turn_kit:eventually(fun() ->
             {ok, #{dropped := Dropped}} = meerkat:allocation(Name, Session),
             Dropped =:= 20
         end),
         send_to(Client, Peer, <<"this is">>),
         {_, <<"this is">>} = peer_next(Peer),
         ?assertEqual({20, Sent + 1}, {turn_kit:counter(Server, send_failed),
                                       turn_kit:counter(Server, peer_sent_packets)}),
         ?assertMatch({ok, #{client_packets := 1, client_bytes := 7, dropped := 20,
                             drops := #{send_failed := 20}}}, meerkat:allocation(Name, Session))
     end) || Backend <- [io_uring, epoll]].

what_is_too_long_for_its_header(_Config) ->
    doc("a peer's datagram that no Data indication or ChannelData can hold is dropped whole, and "
        "the next one relayed, on both backends"),
    [turn_kit:with_server(#{io_backend => Backend}, fun(#{name := Name} = Server) ->
         Client = #{relayed := Relayed} = allocated(Server),
         [Bound, Permitted] = [peer(), peer()],
         success(bind(Client, 16#4001, Bound)),
         success(permit(Client, [Permitted])),
         [turn_kit:counted(Server, truncated, fun() ->
              peer_send(Peer, Relayed, <<0:(8 * Size)>>)
          end) || {Peer, Size} <- [{Bound, 65504}, {Permitted, 65485}, {Permitted, 65507}]],
         peer_send(Permitted, Relayed, <<"next">>),
         {_, <<"next">>} = data(Client),
         [#{session := Session}] = meerkat:allocations(Name),
         ?assertMatch({ok, #{peer_packets := 1, peer_bytes := 4, drops := #{truncated := 3}}},
                      meerkat:allocation(Name, Session))
     end) || Backend <- [io_uring, epoll]].

%% Runs Fun while the relay program stands still.
stopped(#{name := Name}, Fun) ->
    {os_pid, Pid} = erlang:port_info(meerkat_roles:find(Name, port), os_pid),
    ok = process_kit:hold(Pid),
    try Fun() after process_kit:let_go(Pid) end.

%% Repeats Fun until the counter is no longer 0.
counted_some(Server, Counter, Fun) ->
    Fun(),
    case turn_kit:counter(Server, Counter) of
        0 -> counted_some(Server, Counter, Fun);
        N -> ?assert(N < 100)
    end.

%% ------------------------------------------------------------------------------------- helpers

%% The lines that tell what moves packets, of a server that relayed both ways by it.
served(Overrides, Backend) ->
    [L || L <- logged(Overrides, Backend), string:find(L, "packets move") =/= nomatch].

logged(Overrides, Backend) ->
    log_kit:logged(fun() ->
        #{name := Name} = Server = turn_kit:start_server(Overrides),
        #{relay := {ok, #{io_backend := Is}}} = meerkat:info(Name),
        ?assert(Backend =:= epoll_or_uring orelse Backend =:= Is),
        relays(Server),
        ok = stop_server(Server)
    end).

relays(Server) ->
    Peer = #{address := From} = peer(),
    Client = #{relayed := Relayed} = allocated(Server),
    success(bind(Client, 16#4001, Peer)),
    channel(Client, 16#4001, <<"there">>),
    ?assertEqual({Relayed, <<"there">>}, peer_next(Peer)),
    peer_send(Peer, Relayed, <<"back">>),
    ?assertEqual(<<16#4001:16, 4:16, "back">>, turn_kit:next(Client)),
    Other = #{address := OtherFrom} = peer(),
    success(permit(Client, [Other])),
    send_to(Client, Other, <<"there too">>),
    ?assertEqual({Relayed, <<"there too">>}, peer_next(Other)),
    peer_send(Other, Relayed, <<"and back">>),
    ?assertEqual({OtherFrom, <<"and back">>}, data(Client)),
    ?assertNotEqual(From, OtherFrom).

%% As turn_kit has it, but started by the case itself.
config(Overrides) ->
    Ip = {127, 0, 0, 1},
    maps:merge(#{secrets => [<<"s3cret">>], secret_as_password => true,
                 listeners => [#{transport => udp, ip => Ip, port => 0}],
                 relays => [#{local => Ip, advertised => Ip, min_port => 49152,
                              max_port => 65535}]}, Overrides).

program() ->
    case os:getenv("MEERKAT_RELAY_PROGRAM") of
        false -> filename:join(code:priv_dir(meerkat), "meerkat_relay");
        Program -> Program
    end.

%% A program that is the relay, refused What.
without(Config, What) ->
    Script = filename:join(proplists:get_value(priv_dir, Config),
                           ["relay_without_" | string:replace(What, " ", "_")]),
    ok = file:write_file(Script, ["#!/bin/sh\nexec '", proplists:get_value(refuse, Config), "' ",
                                  What, " '", program(), "' \"$@\"\n"]),
    ok = file:change_mode(Script, 8#755),
    Script.
