%% Between Erlang and the relay program. In the group `bridge` the program is a bridge to the test,
%% which speaks the relay's part itself, frame by frame; in the group `program` it is the real one,
%% and dies in several ways.
-module(relay_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(MISMATCH, {error_code, {437, <<"Allocation Mismatch">>}}).
-define(NOT_YOURS, {error_code, {441, <<"Wrong Credentials">>}}).
-define(NO_ROOM, {error_code, {508, <<"Insufficient Capacity">>}}).
-define(FORBIDDEN, {error_code, {403, <<"Forbidden">>}}).
-define(UDP, 1). % of ctl.def
-define(TIMEOUT, 20000).
-define(REALM, <<"example.org">>).
-define(SECRET, <<"s3cret">>).
-define(NONCE, <<"obMatJos2AAABnonce">>).
-define(CLIENT, {{192, 0, 2, 9}, 40000}).
-define(SERVER, {{203, 0, 113, 1}, 3478}).
-define(RELAY, {203, 0, 113, 5}).
-define(FLOW, 16#0300000000000001).
-define(WORKER, 3).

all() ->
    [{group, bridge}, {group, waiting}, {group, program}].

%% Those of `waiting` speak by a bridge too; they wait for what is late, and do it side by side. Not
%% so who compares rules for peers: in these are the listeners of all servers.
groups() ->
    [{waiting, [parallel], [
        half_of_any_may_fail, allocate_refresh_delete, other_user_441, relay_silent,
        relay_slow_to_close, every_request_one_answer]},
     {bridge, [], [
        hello_other_table, hello_older, hello_newer, hello_of_something_else, silent_exit,
        setup_in_order, config_refused, relay_address_refused, listen_refused,
        restart_keeps_ports, malformed_frame, frame_of_the_wrong_way, garbage_answered_empty,
        wrong_password_401, missing_credentials_400, session_belongs_to_worker,
        retransmission_while_making, requests_wait_for_the_relay, fingerprint_only_if_asked,
        software_if_configured, sha256_for_sha256, no_allocation_437, allocate_after_delete,
        late_request_finds_new_allocation, expired_session, killed_allocation_is_ended,
        crashed_allocation_is_ended, bandwidth_is_told, reload_refused_by_the_relay,
        reload_tells_the_relay, relay_slow, token_is_its_users,
        token_ends_with_its_allocation, forbidden_peer_403, next_bridge_is_told_all,
        gone_with_the_bridge, stats, one_line_for_an_allocation, what_the_system_refused_is_told,
        forbidden_peer_logged, strangers_text_escaped, crash_prints_no_secret]},
     {program, [], [
        binding_answered, program_missing, program_is_something_else, port_taken,
        address_not_ours, unknown_key, two_of_a_name, application_not_running, listeners_told,
        credentials, killed_program_comes_back, nonce_outlives_the_program,
        killed_owner_ends_program, stopped_server_ends_program,
        stopped_server_frees_its_ports, crash_loop_ends_server,
        relay_dead, relay_busy, relay_stopped,
        embedded, autostart_off, autostart_on, autostart_with_mistakes]}].

init_per_suite(Config) ->
    Level = maps:get(level, logger:get_primary_config()),
    ok = logger:set_primary_config(level, critical),
    {ok, Started} = application:ensure_all_started(meerkat),
    [{log_level, Level}, {started, Started} | Config].

end_per_suite(Config) ->
    [ok = application:stop(App) || App <- lists:reverse(proplists:get_value(started, Config))],
    logger:set_primary_config(level, proplists:get_value(log_level, Config)).

%% Every case has a server name of its own, and leaves nothing running.
init_per_testcase(Case, Config) ->
    [{name, Case} | Config].

end_per_testcase(Case, _Config) ->
    _ = meerkat:stop_server(Case),
    ok.

%%% Start

hello_other_table(Config) ->
    Sentence = refused_hello(Config, {meerkat_ctl:version(), meerkat_ctl:table_hash() bxor 1}),
    [?assertNotEqual(nomatch, string:find(Sentence, Part), Sentence)
     || Part <- ["different builds", hex(meerkat_ctl:table_hash()),
                 hex(meerkat_ctl:table_hash() bxor 1)]].

hello_older(Config) ->
    Sentence = refused_hello(Config, {meerkat_ctl:version() - 1, 0}),
    ?assertNotEqual(nomatch, re:run(Sentence, "relay program .* is the older side")).

hello_newer(Config) ->
    Sentence = refused_hello(Config, {meerkat_ctl:version() + 1, 0}),
    ?assertNotEqual(nomatch, re:run(Sentence, "Erlang is the older side")).

hello_of_something_else(Config) ->
    Bridge = start(Config, #{}),
    send_raw(Bridge, <<"GET / HTTP/1.1\r\n">>),
    {error, Sentence} = started(Bridge),
    ?assertNotEqual(nomatch, re:run(Sentence, "is not a Meerkat relay")).

silent_exit(Config) ->
    Bridge = start(Config, #{}),
    ok = gen_tcp:close(socket(Bridge)),
    {error, Sentence} = started(Bridge),
    ?assertNotEqual(nomatch, re:run(Sentence, "the relay program ended: exit status 7")).

%% CONFIG first, LISTEN last.
setup_in_order(Config) ->
    Bridge = start(Config, #{rfc5766_channel_numbers => true, max_allocations => 100,
                             max_permissions => 5, nonce_lifetime => 1800, workers => 4}),
    hello(Bridge),
    {Ref, {config, Given}} = command(Bridge),
    ?assertMatch(#{workers := 4, sessions_max := 100, peers_max := 500, nonce_lifetime_s := 1800,
                   nonce_features := 1, channel_max := 16#7fff}, Given),
    ?assertEqual(32, byte_size(maps:get(nonce_key, Given))),
    reply(Bridge, Ref, ok),
    {Ref2, {relay_address, Address}} = command(Bridge),
    ?assertEqual(#{pool => 1, local => {{127, 0, 0, 1}, 0}, advertised => {?RELAY, 0},
                   min_port => 50000, max_port => 50999, awaited => 0}, Address),
    reply(Bridge, Ref2, ok),
    {Ref3, {policy, #{rules := Rules}}} = command(Bridge),
    ?assertEqual(0, byte_size(Rules) rem 22),
    reply(Bridge, Ref3, ok),
    {Ref4, {streams, #{queue_ms := 100, per_source := 256}}} = command(Bridge),
    reply(Bridge, Ref4, ok),
    {Ref5, {front, #{proxies := <<>>, names := <<>>}}} = command(Bridge),
    reply(Bridge, Ref5, ok),
    {Ref6, {grants, #{software := <<>>}}} = command(Bridge),
    reply(Bridge, Ref6, ok),
    {Ref7, {journal, #{path := <<"/proc/", _/binary>>}}} = command(Bridge),
    reply(Bridge, Ref7, ok),
    {Ref8, {listen, Listen}} = command(Bridge),
    ?assertMatch(#{transport := ?UDP, certificates := 0, local := {{127, 0, 0, 1}, 0},
                   realm := ?REALM}, Listen),
    listening(Bridge, Ref8, Listen, {{127, 0, 0, 1}, 3478}),
    ?assertMatch({ok, _}, started(Bridge)).

config_refused(Config) ->
    Bridge = start(Config, #{}),
    hello(Bridge),
    {Ref, {config, _}} = command(Bridge),
    reply(Bridge, Ref, failed, <<"Cannot allocate memory">>),
    {error, Sentence} = started(Bridge),
    ?assertNotEqual(nomatch, re:run(Sentence, "the relay does not start: Cannot allocate")).

relay_address_refused(Config) ->
    Bridge = start(Config, #{}),
    hello(Bridge),
    {Ref, {config, _}} = command(Bridge),
    reply(Bridge, Ref, ok),
    {Ref2, {relay_address, _}} = command(Bridge),
    reply(Bridge, Ref2, failed, <<"no such address">>),
    {error, Sentence} = started(Bridge),
    ?assertNotEqual(nomatch, re:run(Sentence, "cannot relay from 127.0.0.1: no such address")).

listen_refused(Config) ->
    Bridge = start(Config, #{}),
    until_listen(Bridge),
    {Ref, {listen, Listen}} = command(Bridge),
    tell(Bridge, Ref, {listening, #{listener => maps:get(listener, Listen), status => failed,
                                    local => undefined, detail => <<"Address already in use">>}}),
    {error, Sentence} = started(Bridge),
    ?assertNotEqual(nomatch,
                    re:run(Sentence, "cannot listen on udp 127.0.0.1:0: Address already in use")).

%% A machine without IPv6 can listen on `any`.
half_of_any_may_fail(Config) ->
    Bridge = start(Config, #{listeners => [#{transport => udp, ip => any, port => 3478}]}),
    until_listen(Bridge),
    {Ref4, {listen, #{local := {{0, 0, 0, 0}, 3478}} = Listen4}} = command(Bridge),
    listening(Bridge, Ref4, Listen4, {{0, 0, 0, 0}, 3478}),
    {Ref6, {listen, #{local := {{0, 0, 0, 0, 0, 0, 0, 0}, 3478}} = Listen6}} = command(Bridge),
    tell(Bridge, Ref6, {listening, #{listener => maps:get(listener, Listen6), status => failed,
                                     local => undefined, detail => <<"no IPv6">>}}),
    ?assertMatch({ok, _}, started(Bridge)),
    ?assertEqual([{{0, 0, 0, 0}, 3478}], maps:get(listeners, info(Config))).

%% The port the system chose is asked for again, and asked for until it is free.
restart_keeps_ports(Config) ->
    Bridge = serving(Config, #{}),
    ok = gen_tcp:close(socket(Bridge)),
    Again = accepted(Bridge),
    until_listen(Again),
    {Ref, {listen, #{local := {{127, 0, 0, 1}, 3478}} = Listen}} = command(Again),
    tell(Again, Ref, {listening, #{listener => maps:get(listener, Listen), status => failed,
                                   local => undefined, detail => <<"Address already in use">>}}),
    {Ref2, {listen, #{local := {{127, 0, 0, 1}, 3478}} = Listen}} = command(Again),
    listening(Again, Ref2, Listen, {{127, 0, 0, 1}, 3478}),
    _ = asked(Again, ?FLOW, refresh, [], #{}),
    ?assertMatch(#{class := error}, answer(Again, ?FLOW)).

%% Nobody tries to resynchronise: another relay is started.
malformed_frame(Config) ->
    Bridge = serving(Config, #{}),
    send_raw(Bridge, <<16#31, 0:24, 0:32, 1, 2, 3>>),
    served(accepted(Bridge)).

frame_of_the_wrong_way(Config) ->
    Bridge = serving(Config, #{}),
    tell(Bridge, 0, {stats, #{}}),
    served(accepted(Bridge)).

%%% Requests

garbage_answered_empty(Config) ->
    Bridge = serving(Config, #{}),
    request(Bridge, ?FLOW, <<"this is not STUN">>, #{}),
    ?assertEqual(empty, answer(Bridge, ?FLOW)).

%% RFC 8489 9.2.4: REALM and a nonce that is good, no USERNAME, unsigned; X21: nothing else.
wrong_password_401(Config) ->
    Bridge = serving(Config, #{software => <<"Meerkat">>}),
    _ = asked(Bridge, ?FLOW, refresh, [], #{password => <<"wrong">>}),
    ?assertMatch(#{class := error, method := refresh, integrity := none, fingerprint := false,
                   attributes := [{error_code, {401, <<>>}}, {realm, ?REALM}, {nonce, ?NONCE},
                                   {password_algorithms, [{2, <<>>}, {1, <<>>}]}]},
                 answer(Bridge, ?FLOW)).

missing_credentials_400(Config) ->
    Bridge = serving(Config, #{}),
    Packet = meerkat_stun:encode(#{class => request, method => refresh, transaction_id => <<1:96>>,
                                   attributes => [{username, <<"alice">>}],
                                   integrity => {sha1, <<"key">>}}),
    request(Bridge, ?FLOW, Packet, #{}),
    ?assertMatch(#{attributes := [{error_code, {400, <<>>}}], integrity := none},
                 answer(Bridge, ?FLOW)).

allocate_refresh_delete(Config) ->
    Bridge = serving(Config, #{}),
    Key = asked(Bridge, ?FLOW, allocate, [{requested_transport, 17}], #{}),
    {Ref, {alloc_create, Create}} = command(Bridge),
    #{session := Session} = Create,
    ?assertMatch(#{client := ?CLIENT, server := ?SERVER, listener := 1, transport := ?UDP,
                   pool_v4 := 1, pool_v6 := 0, port_v4 := 0, port_v6 := 0, token := 0,
                   lifetime_ms := 600000},
                 Create),
    created(Bridge, Ref, Session, #{}),
    {Packet, Answer} = answer_bytes(Bridge, ?FLOW),
    ?assertMatch(#{class := success, method := allocate, integrity := sha1, fingerprint := false,
                   attributes := [{xor_relayed_address, {?RELAY, 50000}}, {lifetime, 600},
                                  {xor_mapped_address, ?CLIENT}]}, Answer),
    ?assertEqual(ok, meerkat_stun:verify(Packet, Key)),
    [{Session, Pid}] = meerkat_alloc_table:sessions(name(Config)),
    ?assertMatch({ok, #{user := <<"alice">>, session := Session, relayed := [{?RELAY, 50000}]}},
                 meerkat_alloc:info(Pid)),
    _ = asked(Bridge, ?FLOW + 1, refresh, [{lifetime, 1200}], #{session => Session}),
    {Ref2, {alloc_refresh, #{session := Session, family := 0, lifetime_ms := 1200000}}} =
        command(Bridge),
    replied(Bridge, Ref2, Session, ok),
    ?assertMatch(#{class := success, attributes := [{lifetime, 1200}]},
                 answer(Bridge, ?FLOW + 1)),
    _ = asked(Bridge, ?FLOW + 2, refresh, [{lifetime, 0}], #{session => Session}),
    {0, {alloc_delete, #{session := Session}}} = command(Bridge),
    ?assertMatch(#{class := success, attributes := [{lifetime, 0}]}, answer(Bridge, ?FLOW + 2)),
    gone(Bridge, Session, 0),
    over(Pid),
    ?assertEqual(0, maps:get(allocations, info(Config))).

session_belongs_to_worker(Config) ->
    Bridge = serving(Config, #{}),
    Sessions = [begin
                    Flow = Worker bsl 56 + 1,
                    _ = asked(Bridge, Flow, allocate, [{requested_transport, 17}],
                              #{client => {{192, 0, 2, 1}, 1000 + Worker}}),
                    {_, {alloc_create, #{session := Session}}} = command(Bridge),
                    ?assertEqual(Worker, meerkat_ctl:worker(Session)),
                    Session
                end || Worker <- [0, 1, 255]],
    ?assertEqual(3, length(lists:usort(Sessions))).

%% X70: one allocation, the same bytes twice.
retransmission_while_making(Config) ->
    Bridge = serving(Config, #{}),
    Options = #{transaction_id => <<5:96>>},
    _ = asked(Bridge, ?FLOW, allocate, [{requested_transport, 17}], Options),
    {Ref, {alloc_create, #{session := Session}}} = command(Bridge),
    _ = asked(Bridge, ?FLOW + 1, allocate, [{requested_transport, 17}], Options),
    created(Bridge, Ref, Session, #{}),
    {Packet, #{class := success}} = answer_bytes(Bridge, ?FLOW),
    ?assertMatch({Packet, _}, answer_bytes(Bridge, ?FLOW + 1)).

requests_wait_for_the_relay(Config) ->
    Bridge = serving(Config, #{}),
    Session = allocated(Bridge),
    _ = asked(Bridge, ?FLOW + 1, create_permission, [peer({8, 8, 8, 8})], #{}),
    _ = asked(Bridge, ?FLOW + 2, create_permission, [peer({9, 9, 9, 9})], #{}),
    {Ref, {permit, #{peers := First}}} = command(Bridge),
    ?assertEqual([{{8, 8, 8, 8}, 0}], meerkat_ctl:peers(First)),
    replied(Bridge, Ref, Session, ok),
    ?assertMatch(#{class := success, attributes := []}, answer(Bridge, ?FLOW + 1)),
    {Ref2, {permit, #{peers := Second}}} = command(Bridge),
    ?assertEqual([{{9, 9, 9, 9}, 0}], meerkat_ctl:peers(Second)),
    replied(Bridge, Ref2, Session, full),
    ?assertMatch(#{attributes := [?NO_ROOM]}, answer(Bridge, ?FLOW + 2)).

fingerprint_only_if_asked(Config) ->
    Bridge = serving(Config, #{}),
    _ = asked(Bridge, ?FLOW, refresh, [], #{fingerprint => true}),
    ?assertMatch(#{fingerprint := true, integrity := sha1}, answer(Bridge, ?FLOW)),
    _ = asked(Bridge, ?FLOW + 1, refresh, [], #{fingerprint => true, password => <<"wrong">>}),
    ?assertMatch(#{fingerprint := true, integrity := none}, answer(Bridge, ?FLOW + 1)).

software_if_configured(Config) ->
    Bridge = serving(Config, #{software => <<"Meerkat">>}),
    _ = asked(Bridge, ?FLOW, refresh, [], #{}),
    ?assertMatch(#{attributes := [?MISMATCH, {software, <<"Meerkat">>}]},
                 answer(Bridge, ?FLOW)).

sha256_for_sha256(Config) ->
    Bridge = serving(Config, #{}),
    Algorithms = [{password_algorithms, [{2, <<>>}, {1, <<>>}]}, {password_algorithm, {1, <<>>}}],
    Key = asked(Bridge, ?FLOW, refresh, Algorithms, #{integrity => sha256}),
    {Packet, Answer} = answer_bytes(Bridge, ?FLOW),
    ?assertMatch(#{integrity := sha256}, Answer),
    ?assertEqual(ok, meerkat_stun:verify(Packet, Key)).

%% X40.
other_user_441(Config) ->
    Bridge = serving(Config, #{}),
    _ = allocated(Bridge),
    Key = asked(Bridge, ?FLOW + 1, refresh, [{lifetime, 0}], #{user => <<"bob">>}),
    {Packet, Answer} = answer_bytes(Bridge, ?FLOW + 1),
    ?assertMatch(#{attributes := [?NOT_YOURS]}, Answer),
    ?assertEqual(ok, meerkat_stun:verify(Packet, Key)),
    ?assertMatch([#{user := <<"alice">>}], meerkat:allocations(name(Config))).

no_allocation_437(Config) ->
    Bridge = serving(Config, #{}),
    [begin
         _ = asked(Bridge, ?FLOW + N, Method, [], #{}),
         ?assertMatch(#{attributes := [?MISMATCH], integrity := sha1},
                      answer(Bridge, ?FLOW + N))
     end || {N, Method} <- [{1, refresh}, {2, create_permission}, {3, channel_bind}]].

%% The 5-tuple is free before the relay has reported the end of what was there.
allocate_after_delete(Config) ->
    Bridge = serving(Config, #{}),
    Old = allocated(Bridge),
    _ = asked(Bridge, ?FLOW + 1, refresh, [{lifetime, 0}], #{session => Old}),
    {0, {alloc_delete, #{session := Old}}} = command(Bridge),
    ?assertMatch(#{class := success}, answer(Bridge, ?FLOW + 1)),
    _ = asked(Bridge, ?FLOW + 2, refresh, [], #{}),
    ?assertMatch(#{attributes := [?MISMATCH]}, answer(Bridge, ?FLOW + 2)),
    New = allocated(Bridge, ?FLOW + 3, #{transaction_id => <<9:96>>}),
    ?assertNotEqual(Old, New),
    gone(Bridge, Old, 0),
    _ = asked(Bridge, ?FLOW + 4, refresh, [], #{session => New}),
    ?assertMatch({_, {alloc_refresh, #{session := New}}}, command(Bridge)).

%% A request that waited in an allocation when that ended finds whoever has the 5-tuple then.
late_request_finds_new_allocation(Config) ->
    Bridge = serving(Config, #{}),
    Session = allocated(Bridge),
    _ = asked(Bridge, ?FLOW + 1, refresh, [], #{session => Session}),
    {_, {alloc_refresh, _}} = command(Bridge),
    _ = asked(Bridge, ?FLOW + 2, allocate, [{requested_transport, 17}],
              #{session => Session, transaction_id => <<9:96>>}),
    gone(Bridge, Session, 1),
    ?assertMatch(#{attributes := [?MISMATCH]}, answer(Bridge, ?FLOW + 1)),
    %% What the relay said of the 5-tuple when the request came is no longer so.
    {0, {alloc_delete, #{session := Session}}} = command(Bridge),
    {Ref, {alloc_create, #{session := New}}} = command(Bridge),
    created(Bridge, Ref, New, #{}),
    ?assertMatch(#{class := success}, answer(Bridge, ?FLOW + 2)).

expired_session(Config) ->
    Bridge = serving(Config, #{}),
    Session = allocated(Bridge),
    [{Session, Pid}] = meerkat_alloc_table:sessions(name(Config)),
    gone(Bridge, Session, 1),
    over(Pid),
    _ = asked(Bridge, ?FLOW + 1, refresh, [], #{}),
    ?assertMatch(#{attributes := [?MISMATCH]}, answer(Bridge, ?FLOW + 1)).

%% No reply: the client gets none either, and the session is given up.
relay_silent(Config) ->
    Bridge = serving(Config, #{}),
    Session = allocated(Bridge),
    _ = asked(Bridge, ?FLOW + 1, create_permission, [peer({8, 8, 8, 8})], #{}),
    {_, {permit, _}} = command(Bridge),
    ?assertEqual({0, {alloc_delete, #{session => Session}}}, command(Bridge)),
    ?assertEqual(empty, answer(Bridge, ?FLOW + 1)),
    _ = asked(Bridge, ?FLOW + 2, refresh, [], #{}),
    ?assertMatch(#{attributes := [?MISMATCH]}, answer(Bridge, ?FLOW + 2)).

killed_allocation_is_ended(Config) ->
    Bridge = serving(Config, #{}),
    Session = allocated(Bridge),
    [{Session, Pid}] = meerkat_alloc_table:sessions(name(Config)),
    kill(Pid),
    ?assertEqual({0, {alloc_delete, #{session => Session}}}, command(Bridge)),
    %% Whether the relay has heard it by then, a request cannot know.
    _ = asked(Bridge, ?FLOW + 1, refresh, [], #{session => Session}),
    ?assertEqual({0, {alloc_delete, #{session => Session}}}, command(Bridge)),
    ?assertMatch(#{attributes := [?MISMATCH]}, answer(Bridge, ?FLOW + 1)).

%% X83: what an allocation, its user and all together may relay is in the frames.
bandwidth_is_told(Config) ->
    Bridge = serving(Config, #{max_bps => 1001, user_bps => 1002, bps_capacity => 1003}),
    _ = asked(Bridge, ?FLOW, allocate, [{requested_transport, 17}], #{}),
    {0, {bucket, #{bucket := Bucket, bytes_per_s := 1002}}} = any_command(Bridge),
    {Ref, {alloc_create, #{session := Session, bucket := Bucket, bytes_per_s := 1001}}} =
        any_command(Bridge),
    created(Bridge, Ref, Session, #{}),
    #{class := success} = answer(Bridge, ?FLOW),
    ?assert(Bucket > 0),
    Other = {{192, 0, 2, 1}, 1000},
    _ = asked(Bridge, ?FLOW + 1, allocate, [{requested_transport, 17}], #{client => Other}),
    {0, {bucket, #{bucket := Bucket}}} = any_command(Bridge),
    {_, {alloc_create, #{bucket := Bucket}}} = any_command(Bridge).

%% A relay that refuses new rules keeps the server as it was.
reload_refused_by_the_relay(Config) ->
    Bridge = serving(Config, #{}),
    Before = meerkat_registry:settings(name(Config)),
    Reload = reload(Config, #{software => <<"new">>}),
    withdrawn(Bridge),
    {Ref, {policy, _}} = command(Bridge),
    reply(Bridge, Ref, refused, <<"too many">>),
    withdrawn(Bridge),
    ?assertEqual({error, "the peer rules are refused: too many (refused); nothing has changed"},
                 reloaded(Reload)),
    ?assertEqual(Before, meerkat_registry:settings(name(Config))).

%% The bandwidths that are shared change for those who have them.
reload_tells_the_relay(Config) ->
    Bridge = serving(Config, #{}),
    _ = allocated(Bridge),
    Reload = reload(Config, #{user_bps => 7000, bps_capacity => 9000,
                              denied_peers => [{{8, 8, 8, 8}, 32}]}),
    withdrawn(Bridge),
    {Ref, {policy, #{rules := Rules}}} = any_command(Bridge),
    ?assertMatch({_, _}, binary:match(Rules, <<0, 128, 0:80, 16#ffff:16, 8, 8, 8, 8>>)),
    reply(Bridge, Ref, ok),
    {0, {bucket, #{bucket := 0, bytes_per_s := 9000}}} = any_command(Bridge),
    {0, {bucket, #{bucket := Bucket, bytes_per_s := 7000}}} = any_command(Bridge),
    ?assert(Bucket > 0),
    ?assertEqual(ok, reloaded(Reload)).

%% A command that is not answered in time may still be done: what comes behind it undoes that, and
%% nothing new is in force.
relay_slow(Config) ->
    Bridge = serving(Config, #{}),
    Before = meerkat_registry:settings(name(Config)),
    Old = meerkat_relay_setup:policy(Before),
    ?assertEqual({error, slow}, meerkat_relay:call(name(Config), {stats, #{}})),
    {_, {stats, _}} = any_command(Bridge),
    Reload = reload(Config, #{denied_peers => [{{8, 8, 8, 8}, 32}]}),
    withdrawn(Bridge),
    {Ref, {policy, New}} = any_command(Bridge),
    ?assertNotEqual(Old, {policy, New}),
    ?assertEqual({0, Old}, any_command(Bridge)),
    withdrawn(Bridge),
    {error, Sentence} = reloaded(Reload),
    ?assertNotEqual(nomatch, string:find(Sentence, "does not answer in time"), Sentence),
    ?assertEqual(Before, meerkat_registry:settings(name(Config))),
    %% Too late for anybody; the next one is as good as ever.
    reply(Bridge, Ref, ok),
    Again = reload(Config, #{denied_peers => [{{8, 8, 8, 8}, 32}]}),
    withdrawn(Bridge),
    {Ref2, {policy, New}} = any_command(Bridge),
    reply(Bridge, Ref2, ok),
    ?assertEqual(ok, reloaded(Again)).

%% Everything new is in force by then.
relay_slow_to_close(Config) ->
    Bridge = serving(Config, #{}),
    Listener = #{transport => udp, ip => {127, 0, 0, 1}, port => 3479},
    Reload = reload(Config, #{listeners => [Listener]}),
    withdrawn(Bridge),
    {Ref, {policy, _}} = any_command(Bridge),
    reply(Bridge, Ref, ok),
    {Ref2, {listen, Listen}} = any_command(Bridge),
    listening(Bridge, Ref2, Listen, {{127, 0, 0, 1}, 3479}),
    {_, {unlisten, _}} = any_command(Bridge),
    Lines = log_kit:logged(fun() -> ?assertEqual(ok, reloaded(Reload)) end),
    ?assertMatch([_], [L || L <- Lines, string:find(L, "closes when it does") =/= nomatch]),
    ?assertEqual(#{maps:get(listener, Listen) => {{127, 0, 0, 1}, 3479}},
                 meerkat_listening:bound(name(Config))).

reload(Config, Overrides) ->
    #{config := Running} = meerkat_registry:settings(name(Config)),
    Self = self(),
    spawn_link(fun() ->
        Self ! {self(), meerkat:reload(name(Config), maps:merge(Running(), Overrides))}
    end).

%% Whatever the relay was granted before.
withdrawn(Bridge) ->
    {Ref, {grants, _}} = any_command(Bridge),
    reply(Bridge, Ref, ok).

reloaded(Pid) ->
    receive {Pid, Result} -> Result after ?TIMEOUT -> error(no_end_of_reload) end.

%% A fault of ours, here a relayed address that was never asked for.
crashed_allocation_is_ended(Config) ->
    Bridge = serving(Config, #{}),
    _ = asked(Bridge, ?FLOW, allocate, [{requested_transport, 17}], #{}),
    {Ref, {alloc_create, #{session := Session}}} = command(Bridge),
    created(Bridge, Ref, Session, #{relayed_v4 => undefined}),
    ?assertEqual({0, {alloc_delete, #{session => Session}}}, command(Bridge)),
    ?assertEqual(empty, answer(Bridge, ?FLOW)).

%% X74, K14.
token_is_its_users(Config) ->
    Bridge = serving(Config, #{}),
    Token = 16#1122334455667788,
    _ = asked(Bridge, ?FLOW, allocate, [{requested_transport, 17}, {even_port, true}], #{}),
    {Ref, {alloc_create, #{session := Session, even := 2}}} = command(Bridge),
    created(Bridge, Ref, Session, #{token => Token}),
    #{attributes := Attributes} = answer(Bridge, ?FLOW),
    ?assertEqual(Token, proplists:get_value(reservation_token, Attributes)),
    Redeem = [{requested_transport, 17}, {reservation_token, Token}],
    Other = #{client => {{192, 0, 2, 10}, 5000}},
    _ = asked(Bridge, ?FLOW + 1, allocate, Redeem, Other#{user => <<"bob">>}),
    ?assertMatch(#{attributes := [?NO_ROOM]}, answer(Bridge, ?FLOW + 1)),
    _ = asked(Bridge, ?FLOW + 2, allocate, Redeem, Other),
    {Ref2, {alloc_create, #{session := Second, token := Token, pool_v4 := 1}}} = command(Bridge),
    created(Bridge, Ref2, Second, #{relayed_v4 => {?RELAY, 50001}}),
    ?assertMatch(#{class := success}, answer(Bridge, ?FLOW + 2)),
    _ = asked(Bridge, ?FLOW + 3, allocate, Redeem, #{client => {{192, 0, 2, 11}, 5000}}),
    ?assertMatch(#{attributes := [?NO_ROOM]}, answer(Bridge, ?FLOW + 3)).

%% K15.
token_ends_with_its_allocation(Config) ->
    Bridge = serving(Config, #{}),
    _ = asked(Bridge, ?FLOW, allocate, [{requested_transport, 17}, {even_port, true}], #{}),
    {Ref, {alloc_create, #{session := Session}}} = command(Bridge),
    created(Bridge, Ref, Session, #{token => 7}),
    #{class := success} = answer(Bridge, ?FLOW),
    [{Session, Pid}] = meerkat_alloc_table:sessions(name(Config)),
    gone(Bridge, Session, 1),
    over(Pid),
    _ = asked(Bridge, ?FLOW + 1, allocate, [{requested_transport, 17}, {reservation_token, 7}],
              #{client => {{192, 0, 2, 10}, 5000}}),
    ?assertMatch(#{attributes := [?NO_ROOM]}, answer(Bridge, ?FLOW + 1)).

forbidden_peer_403(Config) ->
    Bridge = serving(Config, #{}),
    Session = allocated(Bridge),
    _ = asked(Bridge, ?FLOW + 1, channel_bind, [{channel_number, 16#4000}, peer({10, 0, 0, 1})],
              #{}),
    {Ref, {channel, #{number := 16#4000, peer := {{10, 0, 0, 1}, 5000}}}} = command(Bridge),
    replied(Bridge, Ref, Session, forbidden, <<"10.0.0.0/8">>),
    ?assertMatch(#{attributes := [?FORBIDDEN]}, answer(Bridge, ?FLOW + 1)).

%% Credits: whatever is asked, by whomever, one ANSWER each, for its flow.
every_request_one_answer(Config) ->
    Bridge = serving(Config, #{failed_authentication_rate => 0}),
    Flows = lists:seq(1, 400),
    [request_of_some_kind(Bridge, Flow) || Flow <- Flows],
    Answered = [begin
                    {0, {answer, #{flow := Flow}}} = command(Bridge),
                    Flow
                end || _ <- Flows],
    ?assertEqual(Flows, lists:sort(Answered)),
    #{answers := Answers} = info(Config),
    ?assertEqual(400, lists:sum(maps:values(Answers))),
    ?assertMatch(#{none := 100, 401 := 100, 437 := 100, 442 := 100}, Answers).

request_of_some_kind(Bridge, Flow) ->
    Client = #{client => {{192, 0, 2, Flow rem 7}, Flow}},
    case Flow rem 4 of
        0 -> request(Bridge, Flow, crypto:strong_rand_bytes(Flow rem 50), Client);
        1 -> asked(Bridge, Flow, refresh, [], Client#{password => <<"wrong">>});
        2 -> asked(Bridge, Flow, channel_bind, [], Client);
        3 -> asked(Bridge, Flow, allocate, [{requested_transport, 6}], Client)
    end.

%% Everything under the number it had; the bandwidth of users before, listeners first.
next_bridge_is_told_all(Config) ->
    Bridge = serving(Config, #{user_bps => 5000}),
    Session = allocated(Bridge),
    _ = asked(Bridge, ?FLOW + 1, channel_bind, [{channel_number, 16#4000}, peer({8, 8, 8, 8})],
              #{session => Session}),
    {Ref, {channel, _}} = command(Bridge),
    replied(Bridge, Ref, Session, ok),
    #{class := success} = answer(Bridge, ?FLOW + 1),
    ok = gen_tcp:close(socket(Bridge)),
    Again = accepted(Bridge),
    hello(Again),
    {Ref1, {config, _}} = any_command(Again),
    reply(Again, Ref1, ok),
    {Ref2, {relay_address, _}} = any_command(Again),
    reply(Again, Ref2, ok),
    {0, {bucket, #{bucket := Bucket, bytes_per_s := 5000}}} = any_command(Again),
    {Ref3, {policy, _}} = any_command(Again),
    reply(Again, Ref3, ok),
    {Streams, {streams, _}} = any_command(Again),
    reply(Again, Streams, ok),
    {Front, {front, _}} = any_command(Again),
    reply(Again, Front, ok),
    {Grants, {grants, _}} = any_command(Again),
    reply(Again, Grants, ok),
    {Journal, {journal, _}} = any_command(Again),
    reply(Again, Journal, ok),
    {Ref4, {listen, Listen}} = any_command(Again),
    listening(Again, Ref4, Listen, {{127, 0, 0, 1}, 3478}),
    {Ref5, {alloc_create, #{session := Session, bucket := Bucket, port_v4 := 50000}}} =
        any_command(Again),
    created(Again, Ref5, Session, #{}),
    {0, {channel, #{session := Session, number := 16#4000, peer := {{8, 8, 8, 8}, 5000},
                    lifetime_ms := Channel, permission_ms := Permission}}} = any_command(Again),
    ?assert(Channel > Permission andalso Permission =< 300000),
    _ = asked(Again, ?FLOW + 2, refresh, [], #{session => Session}),
    ?assertMatch({_, {alloc_refresh, #{session := Session}}}, command(Again)).

%% What was being made, and what was being ended, is not made again.
gone_with_the_bridge(Config) ->
    Bridge = serving(Config, #{}),
    Other = #{client => {{192, 0, 2, 10}, 5000}},
    Ending = allocated(Bridge),
    _ = asked(Bridge, ?FLOW + 1, refresh, [{lifetime, 0}], #{session => Ending}),
    {0, {alloc_delete, _}} = command(Bridge),
    #{class := success} = answer(Bridge, ?FLOW + 1),
    _ = asked(Bridge, ?FLOW + 2, allocate, [{requested_transport, 17}], Other),
    {_, {alloc_create, _}} = command(Bridge),
    Pids = [Pid || {_, Pid} <- meerkat_alloc_table:sessions(name(Config))],
    ok = gen_tcp:close(socket(Bridge)),
    Again = accepted(Bridge),
    served(Again),
    [over(Pid) || Pid <- Pids],
    _ = asked(Again, ?FLOW, refresh, [], Other),
    ?assertMatch(#{attributes := [?MISMATCH]}, answer(Again, ?FLOW)).

stats(Config) ->
    Bridge = serving(Config, #{}),
    Self = self(),
    Asker = spawn_link(fun() -> Self ! {self(), info(Config)} end),
    {Ref, {stats, _}} = command(Bridge),
    Counters = << <<N:64>> || N <- lists:seq(1, length(meerkat_ctl:counters())) >>,
    tell(Bridge, Ref, {stats_reply, #{workers => 2, io_backend => 2, sessions => 3, peers => 4,
                                      requests => 6, mail_in => 7, mail_out => 8, stalled_ms => 9,
                                      ports_free => 5,
                                      connections => 9, dtls_sessions => 13,
                                      handshakes => 10, queued => 11,
                                      queue_age_us => 12,
                                      pools => <<1:32, 2:32, 9:32, 3:32>>,
                                      counters => Counters}}),
    receive
        {Asker, Info} ->
            #{relay := {ok, Stats}} = Info,
            ?assertMatch(#{workers := 2, io_backend := epoll, sessions := 3, peers := 4,
                           ports_free := 5, requests := 6, mail_in := 7, mail_out := 8,
                           connections := 9, handshakes := 10, queued := 11, queue_age_us := 12,
                           pools := #{1 := 2, 9 := 3},
                           counters := #{client_packets := 1, client_bytes := 2}}, Stats)
    end.

%%% What is logged

one_line_for_an_allocation(Config) ->
    Lines = log_kit:logged(fun() ->
        Bridge = serving(Config, #{}),
        Session = allocated(Bridge),
        [{Session, Pid}] = meerkat_alloc_table:sessions(name(Config)),
        gone(Bridge, Session, 1),
        over(Pid)
    end),
    [Line] = [L || L <- Lines, string:prefix(L, "allocation ") =/= nomatch],
    [?assertNotEqual(nomatch, string:find(Line, Part), {Line, Part})
     || Part <- ["expired", "user alice", "client 192.0.2.9:40000", "relayed 203.0.113.5:50000",
                 "from client 1 packets 2 bytes", "from peers 3 packets 4 bytes", "dropped 5"]].

%% Each in its own line, and what would help once a minute.
what_the_system_refused_is_told(Config) ->
    Why = <<"Too many open files">>,
    Lines = log_kit:logged(fun() ->
        Bridge = serving(Config, #{}),
        [begin
             _ = asked(Bridge, Flow, allocate, [{requested_transport, 17}], #{}),
             {Ref, {alloc_create, #{session := Session}}} = command(Bridge),
             [{Session, Pid}] = meerkat_alloc_table:sessions(name(Config)),
             created(Bridge, Ref, Session, #{status => failed, status_v4 => failed,
                                             relayed_v4 => undefined, detail => Why}),
             #{class := error} = answer(Bridge, Flow),
             over(Pid)
         end || Flow <- [?FLOW, ?FLOW + 1, ?FLOW + 2]]
    end),
    ?assertMatch([_, _, _], [L || L <- Lines,
                                  string:prefix(L, "no allocation (failed: Too many open files): ")
                                      =/= nomatch]),
    [Hint] = [L || L <- Lines, string:prefix(L, "no allocation: ") =/= nomatch],
    [?assertNotEqual(nomatch, string:find(Hint, Part))
     || Part <- ["Too many open files", "LimitNOFILE="]],
    %% The line after the next minute counts those that had none.
    Shortages = meerkat_shortage:new(),
    ?assertEqual([{log, 0}, leave_out, leave_out, {log, 2}, leave_out],
                 [meerkat_shortage:verdict(Shortages, Ms)
                  || Ms <- [-5, 0, 59000, 60000, 61000]]).

%% K29.
forbidden_peer_logged(Config) ->
    Lines = log_kit:logged(fun() -> forbidden_peer_403(Config) end),
    ?assertMatch([_], [L || L <- Lines, string:find(L, "403") =/= nomatch,
                            string:find(L, "10.0.0.0/8") =/= nomatch,
                            string:find(L, "10.0.0.1:5000") =/= nomatch]).

%% X46.
strangers_text_escaped(Config) ->
    Lines = log_kit:logged(fun() ->
        Bridge = serving(Config, #{}),
        Session = allocated(Bridge, ?FLOW, #{user => <<"%n%s\r\n\e[2J", 0, 255>>}),
        [{Session, Pid}] = meerkat_alloc_table:sessions(name(Config)),
        gone(Bridge, Session, 1),
        over(Pid)
    end),
    [Line] = [L || L <- Lines, string:prefix(L, "allocation ") =/= nomatch],
    ?assertNotEqual(nomatch, string:find(Line, "user %n%s\\x0d\\x0a\\x1b[2J\\x00\\xff,")),
    ?assert(lists:all(fun(C) -> C >= 32 end, Line)).

%% A crash prints state, mailbox and what was in hand: no key and no secret among it.
crash_prints_no_secret(Config) ->
    Lines = log_kit:logged(fun() ->
        Bridge = serving(Config, #{}),
        _ = asked(Bridge, ?FLOW, allocate, [{requested_transport, 17}], #{}),
        {Ref, {alloc_create, #{session := Session}}} = command(Bridge),
        [{Session, Pid}] = meerkat_alloc_table:sessions(name(Config)),
        created(Bridge, Ref, Session, #{relayed_v4 => undefined}),
        over(Pid)
    end),
    Crash = lists:append(Lines),
    [?assertNotEqual(nomatch, string:find(Crash, Part))
     || Part <- ["State machine", "crasher:", "alice"]],
    Key = meerkat_stun:key(<<"alice">>, ?REALM, ?SECRET),
    [?assertEqual(nomatch, string:find(Crash, Secret))
     || Secret <- [binary_to_list(?SECRET), inner(io_lib:format("~w", [?SECRET])),
                   inner(io_lib:format("~w", [Key]))]].

%% <<1,2,3>> without its brackets: it may be part of a longer one.
inner(Text) ->
    string:trim(lists:flatten(Text), both, "<>").

%%% The real program

binding_answered(Config) ->
    Port = real(Config, #{}),
    ?assertMatch(#{class := success}, binding(Port)).

program_missing(Config) ->
    {error, Sentence} = meerkat:start_server(name(Config),
                                             config(#{relay_program => "/nonexistent/relay"})),
    ?assertNotEqual(nomatch, re:run(Sentence, "/nonexistent/relay cannot be started: no such")).

program_is_something_else(Config) ->
    {error, Sentence} = meerkat:start_server(name(Config), config(#{relay_program => "/bin/true"})),
    ?assertNotEqual(nomatch, re:run(Sentence, "the relay program ended: exit status 0")).

port_taken(Config) ->
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    {error, Sentence} = meerkat:start_server(name(Config), real_config(#{
        listeners => [#{transport => udp, ip => {127, 0, 0, 1}, port => Port}]})),
    ok = gen_udp:close(Socket),
    Expected = io_lib:format("cannot listen on udp 127.0.0.1:~b: Address already in use", [Port]),
    ?assertEqual(lists:flatten(Expected), Sentence).

address_not_ours(Config) ->
    {error, Sentence} = meerkat:start_server(name(Config), real_config(#{
        relays => [#{local => {192, 0, 2, 1}, advertised => {192, 0, 2, 1}, min_port => 50000,
                     max_port => 50010}]})),
    ?assertNotEqual(nomatch, re:run(Sentence, "cannot relay from 192.0.2.1")).

unknown_key(Config) ->
    [begin
         {error, Sentence} = meerkat:start_server(name(Config), real_config(#{Key => Value})),
         ?assertNotEqual(nomatch, string:find(Sentence, atom_to_list(Key)))
     end || {Key, Value} <- [{relam, <<"r">>}, {realm, "text"}, {secrets, <<"s">>},
                             {workers, 1000}, {listeners, [{udp, 3478}]},
                             {allowed_peers, [{{10, 0, 0, 0}, 33}]}]].

two_of_a_name(Config) ->
    _ = real(Config, #{}),
    ?assertEqual({error, "a server of this name is running"},
                 meerkat:start_server(name(Config), real_config(#{}))).

application_not_running(Config) ->
    ok = application:stop(meerkat),
    ?assertEqual({error, "the application meerkat is not running"},
                 meerkat:start_server(name(Config), real_config(#{}))),
    ok = application:start(meerkat).

listeners_told(Config) ->
    Port = real(Config, #{}),
    ?assertMatch(#{listeners := [{{127, 0, 0, 1}, Port}], own_kinds := [loopback],
                   relays := [#{local := {127, 0, 0, 1}, advertised := {127, 0, 0, 1}}],
                   allocations := 0, relay := {ok, #{workers := 1, ports_free := 100}}},
                 info(Config)).

credentials(Config) ->
    Port = real(Config, #{}),
    Name = name(Config),
    #{username := User, password := Password, ttl := 60, uris := Uris} =
        meerkat:credentials(Name, <<"alice">>, 60),
    Text = integer_to_binary(Port),
    ?assertEqual([<<"stun:127.0.0.1:", Text/binary>>,
                  <<"turn:127.0.0.1:", Text/binary, "?transport=udp">>], Uris),
    ?assertMatch({ok, _}, meerkat_auth_rest:expiry(User, expiry)),
    ?assertEqual(meerkat_auth_rest:password(?SECRET, User), Password),
    ?assertError(badarg, meerkat:credentials(Name, binary:copy(<<"x">>, 500), 60)).

%% The supervisor starts another, and it listens where its predecessor did.
killed_program_comes_back(Config) ->
    Port = real(Config, #{}),
    {Owner, OsPid} = program(Config),
    {Client, Pid} = real_allocation(Config, Port),
    kill_program(OsPid),
    {NewOwner, NewOsPid} = restarted(Config, Owner),
    ?assertNotEqual({Owner, OsPid}, {NewOwner, NewOsPid}),
    ?assertMatch(#{listeners := [{_, Port}], allocations := 1}, info(Config)),
    ?assertMatch({ok, _}, meerkat_alloc:info(Pid)),
    ?assertMatch(#{class := success}, binding(Port)),
    ok = gen_udp:close(Client).

%% K6: the key that nonces are made with is the server's, not the program's.
nonce_outlives_the_program(Config) ->
    Port = real(Config, #{}),
    {Owner, OsPid} = program(Config),
    {ok, Client} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}]),
    Nonce = nonce(Client, Port),
    kill_program(OsPid),
    _ = restarted(Config, Owner),
    ?assertMatch(#{class := success},
                 exchange(Client, Port, signed(allocate, [{requested_transport, 17}], Nonce))),
    ok = gen_udp:close(Client).

%% No relaying without a governor: end of file is the end.
killed_owner_ends_program(Config) ->
    Port = real(Config, #{}),
    {Owner, OsPid} = program(Config),
    End = end_of(OsPid),
    true = exit(Owner, kill),
    await_end(End),
    _ = restarted(Config, Owner),
    ?assertMatch(#{class := success}, binding(Port)).

stopped_server_ends_program(Config) ->
    _ = real(Config, #{}),
    {_, OsPid} = program(Config),
    End = end_of(OsPid),
    ok = meerkat:stop_server(name(Config)),
    await_end(End),
    ?assertNot(meerkat_registry:is_running(name(Config))),
    ?assertEqual({error, not_found}, meerkat:stop_server(name(Config))).

%% Listeners and relayed ports: whoever starts next gets the same ones.
stopped_server_frees_its_ports(Config) ->
    Fixed = turn_kit:free_ports(2),
    [begin
         Listeners = [#{transport => udp, ip => {127, 0, 0, 1}, port => Fixed}],
         Fixed = real(Config, #{listeners => Listeners}),
         ?assertMatch(#{class := success}, binding(Fixed)),
         ok = meerkat:stop_server(name(Config)),
         {ok, Socket} = gen_udp:open(Fixed, [{ip, {127, 0, 0, 1}}]),
         ok = gen_udp:close(Socket)
     end || _ <- lists:seq(1, 10)].

%% A program that dies again and again takes the server along.
crash_loop_ends_server(Config) ->
    Flag = process_flag(trap_exit, true),
    {ok, Sup} = meerkat_server_sup:start_link(name(Config), make_ref(),
                                              fun() -> {ok, real_config(#{})} end),
    ok = kill_until(Sup, Config),
    true = process_flag(trap_exit, Flag),
    ?assertNot(meerkat_registry:is_running(name(Config))).

kill_until(Sup, Config) ->
    Monitor = monitor(process, Sup),
    Owner = meerkat_roles:find(name(Config), relay),
    _ = is_pid(Owner) andalso exit(Owner, kill),
    try supervisor:which_children(Sup) of
        _ -> kill_until(Sup, Config)
    catch
        exit:_ ->
            receive {'DOWN', Monitor, process, Sup, _} -> ok end,
            receive {'EXIT', Sup, Reason} -> ?assertEqual(shutdown, Reason) end
    end.

%% Gone before it replied, and not there yet: the next one begins with the settings in force.
relay_dead(Config) ->
    _ = real(Config, #{}),
    {Owner, OsPid} = program(Config),
    ok = process_kit:hold(OsPid),
    Asker = asker(name(Config)),
    ok = kill_program(OsPid),
    ?assertEqual({error, dead}, asked(Asker)),
    {Next, _} = restarted(Config, Owner),
    Sup = meerkat_sup:server(name(Config)),
    ok = sys:suspend(Sup),
    ok = kill(Next),
    ?assertEqual({error, dead}, meerkat_relay:call(name(Config), {stats, #{}})),
    ?assertEqual(ok, meerkat:reload(name(Config), real_config(#{software => <<"new">>}))),
    ok = sys:resume(Sup),
    _ = restarted(Config, Next),
    ?assertMatch({ok, _}, meerkat_relay:call(name(Config), {stats, #{}})),
    ?assertMatch(#{software := <<"new">>}, meerkat_registry:settings(name(Config))).

%% Returns when the question is on its way.
asker(Name) ->
    Self = self(),
    Asker = spawn_link(fun() -> Self ! {self(), meerkat_relay:call(Name, {stats, #{}})} end),
    turn_kit:eventually(fun() -> process_info(Asker, status) =:= {status, waiting} end),
    Asker.

asked(Asker) ->
    receive {Asker, Answer} -> Answer after ?TIMEOUT -> error(no_answer) end.

%% It reads nothing, and what was sent before fills the pipe.
relay_busy(Config) ->
    Name = name(Config),
    _ = real(Config, #{}),
    {_, OsPid} = program(Config),
    Before = meerkat_registry:settings(Name),
    Policy = meerkat_relay_setup:policy(Before),
    Port = meerkat_roles:find(Name, port),
    ok = process_kit:hold(OsPid),
    _ = [ok = meerkat_relay:command(meerkat_roles:find(Name, wire), 0, Policy)
         || _ <- lists:seq(1, 1000)],
    turn_kit:eventually(fun() ->
        {queue_size, N} = erlang:port_info(Port, queue_size),
        N > 8192
    end),
    ?assertEqual({error, busy}, meerkat_relay:call(Name, {stats, #{}})),
    ?assertMatch(#{relay := {error, busy}}, info(Config)),
    ?assertEqual({error, "the relay program is busy; nothing has changed"},
                 meerkat:reload(Name, real_config(#{denied_peers => [{{8, 8, 8, 8}, 32}]}))),
    ?assertEqual(Before, meerkat_registry:settings(Name)),
    ok = process_kit:let_go(OsPid),
    turn_kit:eventually(fun() -> element(1, meerkat_relay:call(Name, {stats, #{}})) =:= ok end),
    %% What waited for it may fill the pipe once more.
    turn_kit:eventually(fun() ->
        meerkat:reload(Name, real_config(#{denied_peers => [{{8, 8, 8, 8}, 32}]})) =:= ok
    end).

%% There never was one of that name, or is none any more.
relay_stopped(Config) ->
    ?assertEqual({error, stopped}, meerkat_relay:call(nobody_of_that_name, {stats, #{}})),
    ?assertEqual({error, relay_down}, meerkat_relay:stats(nobody_of_that_name)),
    ?assertEqual(ok, meerkat_relay:tell(nobody_of_that_name, {stats, #{}})),
    _ = real(Config, #{}),
    ?assertMatch({ok, _}, meerkat_relay:call(name(Config), {stats, #{}})),
    ok = meerkat:stop_server(name(Config)),
    ?assertEqual({error, stopped}, meerkat_relay:call(name(Config), {stats, #{}})).

%% child_spec/2 in somebody else's tree.
embedded(Config) ->
    Flag = process_flag(trap_exit, true),
    {ok, Sup} = supervisor:start_link(?MODULE, meerkat:child_spec(name(Config), real_config(#{}))),
    #{listeners := [{_, Port}]} = info(Config),
    ?assertMatch(#{class := success}, binding(Port)),
    exit(Sup, shutdown),
    receive {'EXIT', Sup, shutdown} -> ok end,
    true = process_flag(trap_exit, Flag),
    ?assertNot(meerkat_registry:is_running(name(Config))).

%% An embedder's supervisor.
init(ChildSpec) ->
    {ok, {#{}, [ChildSpec]}}.

autostart_off(_Config) ->
    ?assertEqual(undefined, application:get_env(meerkat, autostart)),
    ?assertEqual([], [C || {{meerkat, _}, _, _, _} = C <- supervisor:which_children(meerkat_sup)]).

autostart_on(Config) ->
    ok = restarted_with(Config, "listen_ip = \"127.0.0.1\"; listen_port = 0;\n"
                                "relay_ip = \"127.0.0.1\"; secret = \"s3cret\";\n"),
    #{listeners := [{{127, 0, 0, 1}, Port}]} = meerkat:info(default),
    ?assertMatch(#{class := success}, binding(Port)),
    ok = restarted_without(),
    ?assertNot(meerkat_registry:is_running(default)).

autostart_with_mistakes(Config) ->
    ?assertMatch({error, {configuration, _}}, restarted_with(Config, "listen_prt = 0;\n")),
    ok = restarted_without().

restarted_with(Config, Text) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "meerkat.cfg"),
    ok = file:write_file(File, Text),
    ok = application:stop(meerkat),
    ok = application:set_env([{meerkat, [{autostart, true}, {config_file, File}]}]),
    application:start(meerkat).

restarted_without() ->
    _ = application:stop(meerkat),
    ok = application:unset_env(meerkat, autostart),
    ok = application:unset_env(meerkat, config_file),
    ok = logger:unset_application_level(meerkat),
    application:start(meerkat).

%%% The bridge: an escript between the frames and a TCP connection to the test

start(Config, Overrides) ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {packet, 4}, {active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listen),
    Program = filename:join(proplists:get_value(priv_dir, Config),
                            atom_to_list(name(Config)) ++ "_relay"),
    ok = file:write_file(Program, bridge(Port)),
    ok = file:change_mode(Program, 8#755),
    Self = self(),
    Starter = spawn_link(fun() ->
        %% What it would answer by itself is not its own to show here.
        Played = #{relay_program => Program, grants => false},
        Result = meerkat:start_server(name(Config), config(maps:merge(Overrides, Played))),
        Self ! {self(), Result}
    end),
    accepted(#{listen => Listen, starter => Starter}).

accepted(#{listen := Listen} = Bridge) ->
    {ok, Socket} = gen_tcp:accept(Listen, ?TIMEOUT),
    {ok, Pid} = gen_tcp:recv(Socket, 0, ?TIMEOUT),
    Bridge#{socket => Socket, pid => binary_to_integer(Pid)}.

bridge(Port) ->
    io_lib:format(
        "#!/usr/bin/env escript\n"
        "%%! -noinput\n"
        "main(_) ->\n"
        "    process_flag(trap_exit, true),\n"
        "    {ok, S} = gen_tcp:connect({127,0,0,1}, ~b, [binary, {packet, 4}]),\n"
        "    ok = gen_tcp:send(S, os:getpid()),\n"
        "    loop(S, open_port({fd, 3, 4}, [{packet, 4}, binary])).\n"
        "loop(S, P) ->\n"
        "    receive\n"
        "        {P, {data, <<~b, _/binary>>}} -> halt(0);\n"
        "        {P, {data, D}} -> ok = gen_tcp:send(S, D), loop(S, P);\n"
        "        {tcp, S, D} -> true = port_command(P, D), loop(S, P);\n"
        "        {tcp_closed, S} -> halt(7);\n"
        "        {'EXIT', P, _} -> halt(0)\n"
        "    end.\n", [Port, stop_code()]).

stop_code() ->
    {stop, Code, _, _} = lists:keyfind(stop, 1, meerkat_ctl:messages()),
    Code.

started(#{starter := Starter}) ->
    receive {Starter, Result} -> Result
    after ?TIMEOUT -> error(not_started)
    end.

socket(#{socket := Socket}) -> Socket.

send_raw(#{socket := Socket}, Bytes) ->
    ok = gen_tcp:send(Socket, Bytes).

tell(Bridge, Ref, Message) ->
    send_raw(Bridge, meerkat_ctl:encode(Ref, Message)).

%% But for BUCKET, which comes before every ALLOC_CREATE; any_command/1 leaves it in. Both leave out
%% the question whether the relay lives, which comes every other second.
command(Bridge) ->
    case any_command(Bridge) of
        {0, {bucket, _}} -> command(Bridge);
        {Ref, {answer_if, Promise}} ->
            _ = put({promise, Ref}, Promise),
            command(Bridge);
        Command -> Command
    end.

any_command(#{socket := Socket} = Bridge) ->
    {ok, Frame} = gen_tcp:recv(Socket, 0, ?TIMEOUT),
    case meerkat_ctl:decode(Frame) of
        {ok, 0, {stats, _}} -> any_command(Bridge);
        {ok, Ref, Message} -> {Ref, Message}
    end.

hello(Bridge) ->
    hello(Bridge, meerkat_ctl:version(), meerkat_ctl:table_hash()).

hello(#{pid := Pid} = Bridge, Version, Hash) ->
    tell(Bridge, 0, {hello, #{magic => meerkat_ctl:magic(), version => Version, table_hash => Hash,
                              cpus => 1, build => <<"bridge">>, pid => Pid, kept => 0}}).

refused_hello(Config, {Version, Hash}) ->
    Bridge = start(Config, #{}),
    hello(Bridge, Version, Hash),
    {error, Sentence} = started(Bridge),
    Sentence.

reply(Bridge, Ref, Status) ->
    reply(Bridge, Ref, Status, <<>>).

reply(Bridge, Ref, Status, Detail) ->
    keep_promise(Ref, Status),
    tell(Bridge, Ref, {reply, #{command => 0, status => Status, session => 0, detail => Detail}}).

replied(Bridge, Ref, Session, Status) ->
    replied(Bridge, Ref, Session, Status, <<>>).

replied(Bridge, Ref, Session, Status, Detail) ->
    keep_promise(Ref, Status),
    tell(Bridge, Ref, {reply, #{command => 0, status => Status, session => Session,
                                detail => Detail}}).

%% As the relay does: what came as an answer_if is the answer once the command behind it is done.
keep_promise(Ref, Status) ->
    case erase({promise, Ref}) of
        #{flow := Flow, packet := Packet} when Status =:= ok -> put({kept, Flow}, Packet);
        _ -> ok
    end.

listening(Bridge, Ref, #{listener := Id}, Local) ->
    tell(Bridge, Ref, {listening, #{listener => Id, status => ok, local => Local, detail => <<>>}}).

until_listen(Bridge) ->
    hello(Bridge),
    [begin
         {Ref, {Name, _}} = command(Bridge),
         reply(Bridge, Ref, ok)
     end || Name <- [config, relay_address, policy, streams, front, grants, journal]].

served(Bridge) ->
    until_listen(Bridge),
    {Ref, {listen, Listen}} = command(Bridge),
    listening(Bridge, Ref, Listen, {{127, 0, 0, 1}, 3478}).

serving(Config, Overrides) ->
    Bridge = start(Config, Overrides),
    served(Bridge),
    {ok, _} = started(Bridge),
    Bridge.

%% A REQUEST frame. Options: client, session.
request(Bridge, Flow, Packet, Options) ->
    tell(Bridge, 0, {request, #{flow => Flow, listener => 1, transport => ?UDP,
                                client => maps:get(client, Options, ?CLIENT), server => ?SERVER,
                                session => maps:get(session, Options, 0), certificate => <<>>,
                                packet => Packet}}).

%% One that is signed; returns the key. More options: user, password, integrity, fingerprint,
%% transaction_id.
asked(Bridge, Flow, Method, Attributes, Options) ->
    User = maps:get(user, Options, <<"alice">>),
    Key = meerkat_stun:key(User, ?REALM, maps:get(password, Options, ?SECRET)),
    Message = #{class => request, method => Method,
                transaction_id => maps:get(transaction_id, Options, <<Flow:96>>),
                attributes => Attributes ++ [{username, User}, {realm, ?REALM}, {nonce, ?NONCE}],
                integrity => {maps:get(integrity, Options, sha1), Key}},
    Packet = case Options of
        #{fingerprint := true} -> meerkat_stun:encode(Message#{fingerprint => true});
        #{} -> meerkat_stun:encode(Message)
    end,
    request(Bridge, Flow, Packet, Options),
    Key.

answer(Bridge, Flow) ->
    case answer_bytes(Bridge, Flow) of
        {<<>>, empty} -> empty;
        {_, Message} -> Message
    end.

answer_bytes(Bridge, Flow) ->
    Answer = case erase({kept, Flow}) of
        undefined -> command(Bridge);
        Kept -> {0, {answer, #{flow => Flow, failed => 0, packet => Kept}}}
    end,
    case Answer of
        {0, {answer, #{flow := Flow, packet := <<>>}}} ->
            {<<>>, empty};
        {0, {answer, #{flow := Flow, packet := Packet}}} ->
            {ok, Message} = meerkat_stun:decode(Packet),
            {Packet, Message}
    end.

created(Bridge, Ref, Session, Fields) ->
    tell(Bridge, Ref, {alloc_created,
                       maps:merge(#{session => Session, status => ok,
                                    relayed_v4 => {?RELAY, 50000}, relayed_v6 => undefined,
                                    pool_v4 => 1, pool_v6 => 0,
                                    status_v4 => ok, status_v6 => ok, token => 0,
                                    detail => <<>>}, Fields)}).

allocated(Bridge) ->
    allocated(Bridge, ?FLOW, #{}).

allocated(Bridge, Flow, Options) ->
    _ = asked(Bridge, Flow, allocate, [{requested_transport, 17}], Options),
    {Ref, {alloc_create, #{session := Session}}} = command(Bridge),
    created(Bridge, Ref, Session, #{}),
    #{class := success} = answer(Bridge, Flow),
    Session.

gone(Bridge, Session, Reason) ->
    Counted = (turn_kit:no_drops())#{client_packets => 1, client_bytes => 2, peer_packets => 3,
                                     peer_bytes => 4, dropped => 5},
    tell(Bridge, 0, {session_gone, Counted#{session => Session, reason => Reason}}).

peer(Ip) ->
    {xor_peer_address, {Ip, 5000}}.

over(Pid) ->
    Monitor = monitor(process, Pid),
    receive {'DOWN', Monitor, process, Pid, _} -> ok
    after ?TIMEOUT -> error({still_there, Pid})
    end.

kill(Pid) ->
    true = exit(Pid, kill),
    over(Pid).

%%% The real program

name(Config) -> proplists:get_value(name, Config).

info(Config) -> meerkat:info(name(Config)).

config(Overrides) ->
    maps:merge(#{realm => ?REALM, secrets => [?SECRET], secret_as_password => true, workers => 1,
                 listeners => [#{transport => udp, ip => {127, 0, 0, 1}, port => 0}],
                 relays => [#{local => {127, 0, 0, 1}, advertised => ?RELAY, min_port => 50000,
                              max_port => 50999}]}, Overrides).

real_config(Overrides) ->
    Config = config(#{relays => [#{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1},
                                   min_port => 60900, max_port => 60999}]}),
    maps:merge(maps:merge(Config, turn_kit:relay_kind()), Overrides).

real(Config, Overrides) ->
    {ok, _} = meerkat:start_server(name(Config), real_config(Overrides)),
    #{listeners := [{_, Port}]} = info(Config),
    Port.

program(Config) ->
    Owner = meerkat_roles:find(name(Config), relay),
    {links, Links} = process_info(Owner, links),
    [Port] = [L || L <- Links, is_port(L)],
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    {Owner, OsPid}.

%% Restarting happens inside the supervisor, which answers when it is done.
restarted(Config, Owner) ->
    case meerkat_roles:find(name(Config), relay) of
        Owner ->
            _ = supervisor:which_children(meerkat_sup:server(name(Config))),
            restarted(Config, Owner);
        _ ->
            program(Config)
    end.

kill_program(OsPid) ->
    [] = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    ok.

%% A port that ends when that process does.
end_of(OsPid) ->
    Tail = os:find_executable("tail"),
    open_port({spawn_executable, Tail},
              [exit_status, {args, ["--pid=" ++ integer_to_list(OsPid), "-s", "0.05", "-f",
                                    "/dev/null"]}]).

await_end(Port) ->
    receive {Port, {exit_status, _}} -> ok
    after ?TIMEOUT -> error(still_running)
    end.

real_allocation(Config, Port) ->
    {ok, Client} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}]),
    Nonce = nonce(Client, Port),
    #{class := success} =
        exchange(Client, Port, signed(allocate, [{requested_transport, 17}], Nonce)),
    [{_, Pid}] = meerkat_alloc_table:sessions(name(Config)),
    {Client, Pid}.

nonce(Client, Port) ->
    Challenge = exchange(Client, Port,
                         meerkat_stun:encode(#{class => request, method => allocate,
                                               transaction_id => meerkat_stun:transaction_id(),
                                               attributes => []})),
    {ok, Nonce} = meerkat_stun:get(nonce, Challenge),
    Nonce.

signed(Method, Attributes, Nonce) ->
    Key = meerkat_stun:key(<<"alice">>, ?REALM, ?SECRET),
    meerkat_stun:encode(#{class => request, method => Method,
                          transaction_id => meerkat_stun:transaction_id(),
                          attributes => Attributes ++ [{username, <<"alice">>}, {realm, ?REALM},
                                                       {nonce, Nonce}],
                          integrity => {sha1, Key}}).

exchange(Client, Port, Packet) ->
    ok = gen_udp:send(Client, {127, 0, 0, 1}, Port, Packet),
    receive
        {udp, Client, {127, 0, 0, 1}, Port, Answer} ->
            {ok, Message} = meerkat_stun:decode(Answer),
            Message
    after ?TIMEOUT -> error(no_answer)
    end.

binding(Port) ->
    {ok, Client} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}]),
    Answer = exchange(Client, Port,
                      meerkat_stun:encode(#{class => request, method => binding,
                                            transaction_id => meerkat_stun:transaction_id(),
                                            attributes => []})),
    ok = gen_udp:close(Client),
    Answer.

hex(Number) ->
    lists:flatten(io_lib:format("~16.16.0b", [Number])).
