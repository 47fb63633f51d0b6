%% The metrics of a running server, gathered at one moment, in Prometheus' text format. The text,
%% docs/monitoring.md and the tests are made from one table of metrics. No metric names a user, a
%% client or a peer, and gathering asks no allocation's process.
-module(meerkat_metrics).

-export([snapshot/1, text/1, families/0, markdown/0]).
-export_type([snapshot/0, family/0]).

%% `relay` without what only the relay program knows, when it does not answer.
%% What becomes of a request that gets no response (meerkat_answers:outcome/0).
-define(UNANSWERED, [none, throttled, unavailable]).

-type snapshot() :: #{
    relay := {ok, map()} | {error, relay_down | busy},
    allocations := non_neg_integer(),
    allocations_max := non_neg_integer(),
    realms := [realm()],
    draining := boolean(),
    not_ready := [meerkat_health:reason()],
    certificates := [map()],
    certificates_refused := boolean(),
    client_authorities := [map()],
    answers := #{{meerkat_answers:method(), meerkat_answers:outcome()} => non_neg_integer()},
    durations := #{meerkat_answers:method() => meerkat_answers:durations()},
    sampled := meerkat_sampler:info(),
    database := none | map(),
    pools := [pool()],
    restarts := #{restarts | gap_ms | gap_total_ms | replayed | lost => non_neg_integer()},
    survival := meerkat_survival:counts(),
    upgrades := meerkat_upgrade:counts(),
    peer_connections := non_neg_integer(),
    queues := #{relay | request => non_neg_integer()},
    processes := #{erlang | relay => meerkat_proc:usage()},
    vm := #{atom() => term()},
    build := #{version := binary(), otp := binary(), io_backend := binary()},
    %% And what HTTP and XMPP tell of themselves (meerkat_beside:info/1).
    _ => _
}.
%% A relay address and its ports; how many are free is not known without the relay program.
-type pool() :: #{pool := pos_integer(), address := inet:ip_address(), total := pos_integer(),
                  free => non_neg_integer()}.
%% A realm of the configuration, or those beyond the first hundred together.
-type realm() :: #{realm := binary(), allocations := non_neg_integer(), max := non_neg_integer(),
                   made := non_neg_integer(), refused := non_neg_integer(),
                   replaced := non_neg_integer(),
                   unauthenticated := non_neg_integer()}.
-type family() :: #{name := binary(), type := counter | gauge | histogram, labels := [atom()],
                    help := binary()}.
-type sample() :: {Labels :: [{atom(), unicode:chardata()}], Value :: number()}.

%% Realms that have samples of their own.
-define(REALMS_MAX, 100).

%%% The table

%% Name without its prefix, type, labels, help, and how to find the samples in a snapshot. The
%% counters of the relay program come from its own table.
rows() ->
    [{"up", gauge, [], "whether the relay program answers",
      fun(#{relay := Relay}) -> flag(is_tuple(Relay) andalso element(1, Relay) =:= ok) end},
     {"ready", gauge, [], "whether the server takes new allocations, as /ready says",
      fun(#{not_ready := Reasons}) -> flag(Reasons =:= []) end},
     {"draining", gauge, [], "whether it was told to take no more allocations",
      fun(#{draining := Draining}) -> flag(Draining) end},
     {"build_info", gauge, [version, otp, io_backend], "always 1; the labels say what is running",
      fun(#{build := Build}) -> [{[{K, maps:get(K, Build)} || K <- [version, otp, io_backend]], 1}]
      end},
     {"tls_certificate_expiry_timestamp_seconds", gauge, [file, name],
      "Unix time at which a certificate that TLS clients are shown is over, or one that vouches "
      "for it; name: the first that it is for",
      fun(#{certificates := Certificates}) ->
          [{[{file, File}, {name, case Names of [] -> ""; [First | _] -> First end}], End}
           || #{file := File, names := Names, not_after := End} <- Certificates]
      end},
     {"tls_client_authority_expiry_timestamp_seconds", gauge, [file],
      "Unix time at which a file of tls_client_ca has the first certificate that is over",
      fun(#{client_authorities := Authorities}) ->
          [{[{file, File}], End} || #{file := File, not_after := End} <- Authorities]
      end},
     {"tls_certificates_refused", gauge, [],
      "whether the files of tls_cert and tls_key have changed and could not be taken: those before "
      "are in force",
      fun(#{certificates_refused := Refused}) -> flag(Refused) end},
     {"allocations", gauge, [], "allocations that exist",
      fun(#{allocations := N}) -> one(N) end},
     {"allocations_max", gauge, [], "most allocations that can exist (max_allocations)",
      fun(#{allocations_max := N}) -> one(N) end},
     {"realm_allocations", gauge, [realm],
      "allocations of a realm; realms beyond the first hundred together, without a name",
      realms(allocations)},
     {"realm_allocations_max", gauge, [realm],
      "most allocations that a realm can have (total_quota); the server's where it has no bound",
      realms(max)},
     {"realm_allocations_total", counter, [realm], "allocations begun in a realm", realms(made)},
     {"realm_allocations_refused_total", counter, [realm],
      "allocations of a realm refused for a quota, of it, of its users or of their addresses",
      realms(refused)},
     {"realm_allocations_replaced_total", counter, [realm],
      "allocations of a realm ended by a newer one of their user (user_quota_replaces)",
      realms(replaced)},
     {"realm_unauthenticated_total", counter, [realm],
      "requests of a realm whose user is unknown, or whose credentials are wrong, over or revoked "
      "(401)",
      realms(unauthenticated)},
     {"responses_total", counter, [method, code],
      "responses to requests with credentials, good or not, by STUN error code or success; other: "
      "a code of an authorizer's own",
      fun(#{answers := Answers}) ->
          [{[{method, atom_to_binary(Method)}, {code, code(Outcome)}], N}
           || {{Method, Outcome}, N} <- sorted(Answers), not lists:member(Outcome, ?UNANSWERED)]
      end},
     {"unanswered_requests_total", counter, [reason],
      "requests with credentials that got no response: throttled (failed_authentication_rate was "
      "used up), unavailable (neither the database nor the authenticator could tell who it is), "
      "none (a fault of the server or of its relay program)",
      fun(#{answers := Answers}) ->
          [{[{reason, atom_to_binary(Reason)}],
            lists:sum([N || {{_, Outcome}, N} <- sorted(Answers), Outcome =:= Reason])}
           || Reason <- ?UNANSWERED]
      end},
     {"request_duration_seconds", histogram, [method],
      "time from a request's arrival in Erlang to its response or its end",
      fun(#{durations := Durations}) ->
          [{[{method, atom_to_binary(Method)}], Duration}
           || {Method, Duration} <- sorted(Durations)]
      end},
     {"media_sampled_allocations", gauge, [],
      "allocations that are looked at as a sample (media_sample)",
      fun(#{sampled := #{allocations := Allocations}}) -> [{[], Allocations}] end},
     {"media_loss_ratio", histogram, [from],
      "share of the packets of a source of RTP that were lost before they reached the server, in "
      "ten seconds, of the allocations in the sample",
      media(loss)},
     {"media_late_ratio", histogram, [from],
      "share of them that came out of order", media(late)},
     {"media_jitter_seconds", histogram, [from],
      "their jitter (RFC 3550 6.4.1)", media(jitter)},
     {"received_packets_total", counter, [side], "datagrams received from clients and from peers",
      traffic([{"client", client_packets}, {"peer", peer_packets}])},
     {"received_bytes_total", counter, [side], "bytes of datagrams received",
      traffic([{"client", client_bytes}, {"peer", peer_bytes}])},
     {"sent_packets_total", counter, [side], "datagrams sent to clients and to peers",
      traffic([{"client", client_sent_packets}, {"peer", peer_sent_packets}])},
     {"sent_bytes_total", counter, [side], "bytes of datagrams sent",
      traffic([{"client", client_sent_bytes}, {"peer", peer_sent_bytes}])},
     {"dropped_packets_total", counter, [reason],
      "packets that went no further, by reason (docs/protocol.md tells each)",
      fun(Snapshot) ->
          [{[{reason, atom_to_binary(Name)}], N}
           || {Name, drop, _} <- meerkat_ctl:counters(),
              {ok, N} <- [counted(Name, Snapshot)]]
      end}]
    ++ [{metric(Name) ++ "_total", counter, [], Help,
         fun(Snapshot) -> [{[], N} || {ok, N} <- [counted(Name, Snapshot)]] end}
        || {Name, counter, Help} <- meerkat_ctl:counters(), not is_traffic(Name)]
    ++
    [{"dtls_sessions_open", gauge, [],
      "DTLS sessions of clients, with those whose handshake is under way", stat(dtls_sessions)},
     {"permissions", gauge, [], "permissions that exist", stat(peers)},
     {"peer_connections", gauge, [],
      "connections with peers over TCP (RFC 6062), those that are being made included",
      fun(#{peer_connections := N}) -> one(N) end},
     {"ports", gauge, [pool, address, family], "ports of a relay address",
      fun(#{pools := Pools}) -> [{pool(Pool), Total} || #{total := Total} = Pool <- Pools] end},
     {"ports_free", gauge, [pool, address, family], "ports of a relay address that are free",
      fun(#{pools := Pools}) -> [{pool(Pool), Free} || #{free := Free} = Pool <- Pools] end},
     {"relay_workers", gauge, [], "worker threads of the relay program", stat(workers)},
     {"relay_restarts_total", counter, [],
      "times that the relay program died and was started again",
      fun(#{restarts := #{restarts := N}}) -> one(N) end},
     {"relay_gap_seconds", gauge, [],
      "time from its last death until all allocations were there again",
      fun(#{restarts := #{gap_ms := Ms}}) -> one(Ms / 1000) end},
     {"relay_away_seconds_total", counter, [], "sum of these times",
      fun(#{restarts := #{gap_total_ms := Ms}}) -> one(Ms / 1000) end},
     {"relay_replayed_allocations_total", counter, [outcome],
      "allocations that existed when it died: ok, the next relay program has it; lost, it has not",
      fun(#{restarts := #{replayed := Replayed, lost := Lost}}) ->
          [{[{outcome, "ok"}], Replayed}, {[{outcome, "lost"}], Lost}]
      end},
     {"relay_adoptions_total", counter, [],
      "relay programs that another Erlang left and this one took over (survive)",
      fun(#{survival := #{adoptions := N}}) -> one(N) end},
     {"relay_adopted_allocations_total", counter, [outcome],
      "allocations that they had: ok, they go on here; lost, they could not be understood",
      fun(#{survival := #{adopted := Adopted, lost := Lost}}) ->
          [{[{outcome, "ok"}], Adopted}, {[{outcome, "lost"}], Lost}]
      end},
     {"relay_ungoverned_seconds", gauge, [],
      "time that the last of them was without Erlang, until it was taken over",
      fun(#{survival := #{gap_ms := Ms}}) -> one(Ms / 1000) end},
     {"relay_adoption_seconds", gauge, [], "time that taking it over took",
      fun(#{survival := #{took_ms := Ms}}) -> one(Ms / 1000) end},
     {"relay_replacements_total", counter, [],
      "relay programs that took over from another while calls went on",
      fun(#{upgrades := #{replacements := N}}) -> one(N) end},
     {"relay_replacement_lost_allocations_total", counter, [],
      "allocations that ended with that: those of clients over TLS and DTLS",
      fun(#{upgrades := #{lost := N}}) -> one(N) end},
     {"relay_replacement_gap_seconds", gauge, [],
      "time for which nothing was read when it was done last; what a socket's buffer had no "
      "room for meanwhile is among the drops receive_queue_full",
      fun(#{upgrades := #{gap_ms := Ms}}) -> one(Ms / 1000) end}]
    ++ meerkat_database_metrics:rows() ++ meerkat_beside:metrics() ++
    [{"requests_waiting", gauge, [],
      "requests that the relay has passed to Erlang and that are not answered yet",
      stat(requests)},
     {"mailbox_bytes", gauge, [way],
      "bytes waiting in the relay: in, for its workers; out, from them to Erlang",
      fun(Snapshot) ->
          [{[{way, Way}], N} || {Way, Key} <- [{"in", mail_in}, {"out", mail_out}],
                                {[], N} <- (stat(Key))(Snapshot)]
      end},
     {"erlang_queue_length", gauge, [process],
      "messages waiting for the Erlang processes that handle requests: relay, and all of request",
      fun(#{queues := Queues}) ->
          [{[{process, atom_to_binary(Process)}], N} || {Process, N} <- sorted(Queues)]
      end}]
    ++
    [{"process_cpu_seconds_total", counter, [program], "CPU time, user and system",
      process(cpu_ms, fun(Ms) -> Ms / 1000 end)},
     {"process_resident_memory_bytes", gauge, [program], "resident memory",
      process(rss, fun(N) -> N end)},
     {"process_open_fds", gauge, [program], "open files, sockets among them",
      process(fds, fun(N) -> N end)},
     {"process_max_fds", gauge, [program], "most files that it may have open",
      process(fds_max, fun(N) -> N end)},
     {"process_start_time_seconds", gauge, [program], "Unix time at which it was started",
      process(started, fun(N) -> N end)},
     {"erlang_vm_memory_bytes", gauge, [kind], "memory of the Erlang VM, by what it is used for",
      fun(#{vm := #{memory := Memory}}) ->
          [{[{kind, atom_to_binary(Kind)}], N} || {Kind, N} <- sorted(Memory)]
      end},
     {"erlang_vm_processes", gauge, [], "Erlang processes", vm(process_count)},
     {"erlang_vm_process_limit", gauge, [], "most Erlang processes there can be",
      vm(process_limit)},
     {"erlang_vm_run_queue_length", gauge, [],
      "Erlang processes that are ready to run and wait for a scheduler",
      vm(run_queue)},
     {"erlang_vm_reductions_total", counter, [], "work done, in reductions", vm(reductions)},
     {"erlang_vm_garbage_collections_total", counter, [], "garbage collections",
      vm(garbage_collections)}].

%% What has a prefix of its own is called so by every exporter.
name("process_" ++ _ = Name) -> Name;
name("erlang_vm_" ++ _ = Name) -> Name;
name(Name) -> "meerkat_" ++ Name.

%% RFC words: the relay calls allocations sessions.
metric(sessions_created) -> "allocations_created";
metric(sessions_expired) -> "allocations_expired";
metric(Name) -> atom_to_list(Name).

is_traffic(Name) ->
    lists:member(Name, [client_packets, client_bytes, client_sent_packets, client_sent_bytes,
                        peer_packets, peer_bytes, peer_sent_packets, peer_sent_bytes]).

traffic(Sides) ->
    fun(Snapshot) ->
        [{[{side, Side}], N} || {Side, Name} <- Sides, {ok, N} <- [counted(Name, Snapshot)]]
    end.

counted(Name, #{relay := {ok, #{counters := Counters}}}) -> maps:find(Name, Counters);
counted(_Name, _Snapshot) -> error.

realms(Key) ->
    fun(#{realms := Realms}) ->
        [{[{realm, Realm}], N} || #{realm := Realm, Key := N} <- Realms]
    end.

stat(Key) ->
    fun(#{relay := {ok, #{Key := N}}}) -> one(N); (_) -> [] end.

vm(Key) ->
    fun(#{vm := #{Key := N}}) -> one(N) end.

process(Key, Convert) ->
    fun(#{processes := Processes}) ->
        [{[{program, atom_to_binary(Program)}], Convert(Value)}
         || {Program, #{Key := Value}} <- sorted(Processes)]
    end.

pool(#{pool := Pool, address := Ip}) ->
    [{pool, integer_to_list(Pool)}, {address, meerkat_text:ip(Ip)},
     {family, case size(Ip) of 4 -> "ipv4"; 8 -> "ipv6" end}].

code(Code) when is_integer(Code) -> integer_to_list(Code);
code(Outcome) -> atom_to_list(Outcome).        % success, other

one(Value) -> [{[], Value}].

flag(true) -> one(1);
flag(false) -> one(0).

sorted(Map) -> lists:sort(maps:to_list(Map)).

%% Every metric there can be, in the order of the text.
-spec families() -> [family()].
families() ->
    [#{name => list_to_binary(name(Name)), type => Type, labels => Labels,
       help => list_to_binary(Help)}
     || {Name, Type, Labels, Help, _} <- rows()].

%% From the client or from a peer.
media(What) ->
    fun(#{sampled := #{histograms := Histograms}}) ->
        [{[{from, atom_to_binary(From)}], Histogram}
         || {{Of, From}, Histogram} <- sorted(Histograms), Of =:= What]
    end.

%%% The text

%% Version 0.0.4 of the format. A family without a sample is left out.
-spec text(snapshot()) -> iodata().
text(Snapshot) ->
    [family(name(Name), Type, Help, Samples)
     || {Name, Type, _Labels, Help, Find} <- rows(), Samples <- [Find(Snapshot)], Samples =/= []].

family(Name, Type, Help, Samples) ->
    [["# HELP ", Name, " ", help(Help), "\n# TYPE ", Name, " ", atom_to_list(Type), "\n"]
     | [sample(Type, Name, Sample) || Sample <- Samples]].

%% What is counted in millionths (meerkat_histogram) is told in whole ones.
-spec sample(atom(), string(), sample() | {list(), meerkat_histogram:read()}) -> iodata().
sample(histogram, Name, {Labels, #{buckets := Buckets, count := Count, sum := Sum}}) ->
    [[line(Name ++ "_bucket", Labels ++ [{le, value(Bound / 1000000)}], N)
      || {Bound, N} <- Buckets],
     line(Name ++ "_bucket", Labels ++ [{le, "+Inf"}], Count),
     line(Name ++ "_sum", Labels, Sum / 1000000),
     line(Name ++ "_count", Labels, Count)];
sample(_Type, Name, {Labels, Value}) ->
    line(Name, Labels, Value).

line(Name, Labels, Value) ->
    [Name, labels(Labels), " ", value(Value), "\n"].

labels([]) ->
    "";
labels(Labels) ->
    ["{", lists:join(",", [[atom_to_list(Label), "=\"", escape(Value), "\""]
                           || {Label, Value} <- Labels]), "}"].

value(N) when is_integer(N) -> integer_to_list(N);
value(F) -> float_to_binary(F, [{decimals, 6}, compact]).

escape(Value) ->
    [case C of $\\ -> "\\\\"; $" -> "\\\""; $\n -> "\\n"; _ -> <<C/utf8>> end
     || C <- unicode:characters_to_list(Value)].

help(Help) ->
    [case C of $\\ -> "\\\\"; $\n -> "\\n"; _ -> C end || C <- Help].

%%% The moment

%% badarg if there is no server of that name.
-spec snapshot(Name :: atom()) -> snapshot().
snapshot(Name) ->
    #{relays := Relays, quota := #{total := Most}} = Settings = meerkat_registry:settings(Name),
    Relay = meerkat_relay:stats(Name),
    Info = #{relay => Relay, allocations => meerkat_alloc_table:count(Name),
             allocations_max => Most, draining => meerkat_drain:is_draining(Name)},
    Answers = meerkat_registry:answers(Name),
    Beside = meerkat_beside:info(Name),
    maps:merge(Beside, Info#{
          realms => realms(Name, Settings),
          not_ready => meerkat_health:not_ready(Name, Info),
          certificates => meerkat_status:certificates(Name),
          certificates_refused => meerkat_certificate_watch:refused(Name) =/= none,
          client_authorities => meerkat_status:client_authorities(Name),
          answers => meerkat_answers:by_method(Answers),
          durations => meerkat_answers:durations(Answers),
          sampled => meerkat_sampler:info(Name),
          database => meerkat_lookups:info(Name),
          pools => [pool(R, Relay) || R <- Relays],
          restarts => meerkat_restarts:counts(Name),
          survival => meerkat_survival:counts(Name),
          upgrades => meerkat_upgrade:counts(Name),
          peer_connections => meerkat_connections:total(Name),
          queues => #{relay => waiting([meerkat_roles:find(Name, relay),
                                         meerkat_roles:find(Name, wire)]),
                      request => waiting([meerkat_roles:find(Name, {request, N})
                                          || N <- lists:seq(0, meerkat_request_sup:size() - 1)])},
          processes => processes(meerkat_relay:os_pid(Name)),
          vm => virtual_machine(),
          build => build(Relay)}).

%% The server's own realm first, then those of the key `realms`. Operators name them, not clients,
%% so they may be labels; beyond REALMS_MAX they are counted together.
realms(Name, #{tenants := Tenants, config := Config, quota := #{total := Most}}) ->
    #{realm := Own} = Config(),
    Others = [{Realm, Realm, Total} || {Realm, #{quota := #{total := Total}}}
                                           <- lists:sort(maps:to_list(Tenants))],
    All = [realm(Name, Realm) || Realm <- [{Own, default, Most} | Others]],
    {Some, More} = lists:split(min(?REALMS_MAX, length(All)), All),
    Some ++ [lists:foldl(fun together/2, First#{realm := <<>>}, Rest) || [First | Rest] <- [More]].

realm(Name, {Realm, Owner, Max}) ->
    #{realm => Realm, max => Max,
      allocations => meerkat_quota:count(Name, {realm, Owner}),
      made => meerkat_quota:count(Name, {taken, Owner}),
      refused => meerkat_quota:count(Name, {refused, Owner}),
      replaced => meerkat_quota:count(Name, {replaced, Owner}),
      unauthenticated => meerkat_request:unauthenticated(Name, Owner)}.

together(Realm, Sum) ->
    maps:map(fun(realm, None) -> None; (Key, N) -> N + maps:get(Key, Realm) end, Sum).

pool(#{pool := Pool, advertised := Ip, min_port := Min, max_port := Max}, Relay) ->
    Known = #{pool => Pool, address => Ip, total => Max - Min + 1},
    case Relay of
        {ok, #{pools := #{Pool := Free}}} -> Known#{free => Free};
        _ -> Known
    end.

waiting(Pids) ->
    lists:sum([N || Pid <- Pids, is_pid(Pid),
                    {message_queue_len, N} <- [process_info(Pid, message_queue_len)]]).

processes(Relay) ->
    Erlang = #{erlang => meerkat_proc:usage(list_to_integer(os:getpid()))},
    case Relay of
        {ok, Pid} -> Erlang#{relay => meerkat_proc:usage(Pid)};
        none -> Erlang
    end.

virtual_machine() ->
    {Reductions, _} = erlang:statistics(reductions),
    {Collections, _, _} = erlang:statistics(garbage_collection),
    #{memory => maps:with([processes, system, atom, binary, code, ets],
                          maps:from_list(erlang:memory())),
      process_count => erlang:system_info(process_count),
      process_limit => erlang:system_info(process_limit),
      run_queue => erlang:statistics(run_queue),
      reductions => Reductions,
      garbage_collections => Collections}.

build(Relay) ->
    Version = case application:get_key(meerkat, vsn) of
        {ok, Vsn} -> list_to_binary(Vsn);
        undefined -> <<"unknown">>
    end,
    Backend = case Relay of
        {ok, #{io_backend := Known}} -> atom_to_binary(Known);
        {error, _} -> <<"unknown">>
    end,
    #{version => Version, otp => list_to_binary(erlang:system_info(otp_release)),
      io_backend => Backend}.

%%% The page

%% The table of docs/monitoring.md.
-spec markdown() -> unicode:chardata().
markdown() ->
    ["| Metric | Type | Labels | |\n|---|---|---|---|\n",
     [["| `", Name, "` | ", atom_to_list(Type), " | ",
       lists:join(", ", [["`", atom_to_list(Label), "`"] || Label <- Labels]),
       " | ", Help, " |\n"]
      || #{name := Name, type := Type, labels := Labels, help := Help} <- families()]].
