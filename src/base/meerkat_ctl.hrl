%% Made from c_src/ctl/ctl.def and c_src/ctl/counters.def by `make gen`; change those.
%% The frame protocol as terms, and as clauses of the functions of meerkat_ctl.

-define(CTL_MAGIC, 16#4d4b5254).
-define(CTL_VERSION, 1).
-define(CTL_TABLE_HASH, 16#c6400efe7e3f4002).

%% {Name, Code, Way, [{Field, Type}]}
-define(CTL_MESSAGES, [
    {hello, 16#01, r2e, [
        {magic, u32},
        {version, u16},
        {table_hash, u64},
        {cpus, u16},
        {build, bytes}]},
    {reply, 16#02, r2e, [
        {command, u8},
        {status, status},
        {session, u64},
        {detail, bytes}]},
    {config, 16#10, e2r, [
        {workers, u16},
        {sessions_max, u32},
        {peers_max, u32},
        {credits, u32},
        {nonce_lifetime_s, u32},
        {nonce_features, u32},
        {nonce_key, bytes},
        {channel_max, u16},
        {receive_buffer, u32},
        {unauthenticated_rate, u32},
        {unauthenticated_burst, u32},
        {bytes_per_s, u64},
        {rfc3489, u8},
        {io_backend, u8},
        {send_buffer, u32}]},
    {io, 16#1a, r2e, [
        {io_backend, u8},
        {receive_buffer, u32},
        {send_buffer, u32},
        {detail, bytes}]},
    {listen, 16#11, e2r, [
        {listener, u32},
        {transport, u8},
        {local, addr},
        {other, addr},
        {realm, bytes}]},
    {listening, 16#12, r2e, [
        {listener, u32},
        {status, status},
        {local, addr},
        {detail, bytes}]},
    {unlisten, 16#13, e2r, [
        {listener, u32}]},
    {relay_address, 16#14, e2r, [
        {pool, u32},
        {local, addr},
        {advertised, addr},
        {min_port, u16},
        {max_port, u16},
        {awaited, u8}]},
    {pool_close, 16#18, e2r, [
        {pool, u32}]},
    {tune, 16#19, e2r, [
        {nonce_lifetime_s, u32},
        {nonce_features, u32},
        {channel_max, u16},
        {rfc3489, u8},
        {unauthenticated_rate, u32},
        {unauthenticated_burst, u32},
        {receive_buffer, u32},
        {send_buffer, u32}]},
    {policy, 16#15, e2r, [
        {rules, bytes},
        {guarded, bytes}]},
    {host, 16#1b, r2e, [
        {known, u8},
        {pools, bytes},
        {listeners, bytes},
        {detail, bytes}]},
    {bucket, 16#16, e2r, [
        {bucket, u32},
        {bytes_per_s, u64}]},
    {stop, 16#17, e2r, []},
    {request, 16#20, r2e, [
        {flow, u64},
        {listener, u32},
        {transport, u8},
        {client, addr},
        {server, addr},
        {session, u64},
        {packet, bytes}]},
    {answer, 16#21, e2r, [
        {flow, u64},
        {failed, u8},
        {packet, bytes}]},
    {answer_if, 16#22, e2r, [
        {flow, u64},
        {packet, bytes}]},
    {alloc_create, 16#30, e2r, [
        {session, u64},
        {listener, u32},
        {transport, u8},
        {client, addr},
        {server, addr},
        {pool_v4, u32},
        {pool_v6, u32},
        {port_v4, u16},
        {port_v6, u16},
        {even, u8},
        {token, u64},
        {lifetime_ms, u32},
        {bytes_per_s, u64},
        {bucket, u32}]},
    {alloc_created, 16#31, r2e, [
        {session, u64},
        {status, status},
        {relayed_v4, addr},
        {relayed_v6, addr},
        {pool_v4, u32},
        {pool_v6, u32},
        {status_v4, status},
        {status_v6, status},
        {token, u64},
        {detail, bytes}]},
    {alloc_refresh, 16#32, e2r, [
        {session, u64},
        {family, u8},
        {lifetime_ms, u32}]},
    {alloc_delete, 16#33, e2r, [
        {session, u64}]},
    {permit, 16#34, e2r, [
        {session, u64},
        {lifetime_ms, u32},
        {peers, bytes}]},
    {channel, 16#35, e2r, [
        {session, u64},
        {number, u16},
        {peer, addr},
        {lifetime_ms, u32},
        {permission_ms, u32}]},
    {alloc_move, 16#37, e2r, [
        {session, u64},
        {listener, u32},
        {transport, u8},
        {client, addr},
        {server, addr}]},
    {session_moved, 16#38, r2e, [
        {session, u64},
        {client, addr}]},
    {session_gone, 16#36, r2e, [
        {session, u64},
        {reason, u8},
        {client_packets, u64},
        {client_bytes, u64},
        {peer_packets, u64},
        {peer_bytes, u64},
        {dropped, u64},
        {no_channel, u64},
        {bad_channel, u64},
        {bad_indication, u64},
        {no_permission, u64},
        {forbidden_peer, u64},
        {peer_family, u64},
        {truncated, u64},
        {over_bandwidth, u64}]},
    {stats, 16#40, e2r, []},
    {stats_reply, 16#41, r2e, [
        {workers, u16},
        {io_backend, u8},
        {sessions, u32},
        {peers, u32},
        {requests, u32},
        {mail_in, u32},
        {mail_out, u32},
        {ports_free, u32},
        {turn_age_ms, u32},
        {pools, bytes},
        {counters, bytes}]},
    {session_info, 16#42, e2r, [
        {session, u64}]},
    {session_stats, 16#43, r2e, [
        {session, u64},
        {client_packets, u64},
        {client_bytes, u64},
        {peer_packets, u64},
        {peer_bytes, u64},
        {dropped, u64},
        {no_channel, u64},
        {bad_channel, u64},
        {bad_indication, u64},
        {no_permission, u64},
        {forbidden_peer, u64},
        {peer_family, u64},
        {truncated, u64},
        {over_bandwidth, u64}]},
    {sessions, 16#44, e2r, [
        {from, u64}]},
    {session_rows, 16#45, r2e, [
        {next, u64},
        {rows, bytes}]}
]).

%% {Status, Code}
-define(CTL_STATUSES, [
    {ok, 0},
    {gone, 1},
    {full, 2},
    {conflict, 3},
    {forbidden, 4},
    {family, 5},
    {no_ports, 6},
    {bad_token, 7},
    {failed, 8},
    {refused, 9}
]).

%% {Transport, Code}
-define(CTL_TRANSPORTS, [
    {udp, 1}
]).

%% What both sides keep to.
-define(CTL_LIMITS, #{
    workers_max => 255,
    listeners_max => 32,
    realm_bytes_max => 127,
    pools_max => 256,
    rules_max => 4096,
    guarded_max => 64,
    promise_bytes_max => 512
}).

%% {Reason, Hint}
-define(CTL_REASONS, [
    {<<"an address of this host">>,
        <<"allowed_peers opens it where an entry names this very address, as IP:PORT-PORT or IP">>},
    {<<"a port of this host where nobody relays">>,
        <<"allowed_peers opens it where an entry names this very address, as IP:PORT-PORT or IP">>},
    {<<"ports that this server uses itself">>,
        <<"nothing opens what this server listens on; a service has to use another port">>},
    {<<"the client's own relayed address">>,
        <<"nothing opens it: what a client sends there would come back to it">>},
    {<<"a port that no entry of allowed_peers holds">>,
        <<"an entry of allowed_peers that names this address and this port opens it">>},
    {<<"a broadcast address of this host">>,
        <<"nothing opens a broadcast address">>},
    {<<"IPv4 said as IPv6, ::ffff:0:0/96">>,
        <<"nothing opens it: an IPv4 peer needs an IPv4 relayed address (REQUESTED-ADDRESS-FAMILY)">>},
    {<<"no rule allows it">>,
        <<"an entry of allowed_peers that holds it opens it">>},
    {<<"the addresses of this host are not known">>,
        <<"the log says why the kernel does not tell them; nobody is relayed to meanwhile">>}
]).

%% {Name, counter | drop, Help}, in the order of stats_reply
-define(CTL_COUNTERS, [
    {client_packets, counter,
        "datagrams received from clients"},
    {client_bytes, counter,
        "bytes of datagrams received from clients"},
    {client_sent_packets, counter,
        "datagrams sent to clients"},
    {client_sent_bytes, counter,
        "bytes of datagrams sent to clients"},
    {peer_packets, counter,
        "datagrams received from peers on relayed addresses"},
    {peer_bytes, counter,
        "bytes of datagrams received from peers"},
    {peer_sent_packets, counter,
        "datagrams sent to peers"},
    {peer_sent_bytes, counter,
        "bytes of datagrams sent to peers"},
    {bindings, counter,
        "Binding requests answered"},
    {challenges, counter,
        "requests answered 401 for want of MESSAGE-INTEGRITY"},
    {stale_nonces, counter,
        "requests answered 438"},
    {bad_requests, counter,
        "requests answered 400 or 420 without asking Erlang"},
    {requests, counter,
        "requests handed to Erlang"},
    {answers, counter,
        "answers from Erlang sent to clients"},
    {sessions_created, counter,
        "allocations made"},
    {sessions_expired, counter,
        "allocations ended by their deadline"},
    {moves, counter,
        "allocations that took a new 5-tuple (RFC 8016)"},
    {icmp_errors, counter,
        "ICMP errors received for datagrams sent to peers"},
    {gso_runs, counter,
        "runs of several datagrams given to the kernel as one (UDP_SEGMENT)"},
    {gso_datagrams, counter,
        "datagrams sent in such runs"},
    {gso_refused, counter,
        "such runs that the kernel refused; their datagrams were sent singly"},
    {gro_runs, counter,
        "runs of several datagrams received as one (UDP_GRO)"},
    {gro_datagrams, counter,
        "datagrams received in such runs"},
    {too_short, drop,
        "datagram shorter than any message"},
    {source_port_zero, drop,
        "datagram of a client from port 0, where nobody can be answered"},
    {not_stun, drop,
        "the first byte is of no protocol that is served"},
    {bad_cookie, drop,
        "STUN without the magic cookie (RFC 3489, or not STUN at all)"},
    {bad_length, drop,
        "length field does not fit the datagram"},
    {bad_attribute, drop,
        "an attribute that ends beyond the message"},
    {bad_fingerprint, drop,
        "FINGERPRINT present and wrong, or not last"},
    {unknown_method, drop,
        "method unknown, or not one a client may use with this class"},
    {response_class, drop,
        "a response; the relay asks no client anything"},
    {unknown_attribute, drop,
        "indication with an unknown comprehension-required attribute"},
    {no_allocation, drop,
        "Send or ChannelData from a client without allocation"},
    {no_channel, drop,
        "ChannelData on a number that is not bound"},
    {bad_channel, drop,
        "ChannelData shorter than it claims, or number out of range"},
    {bad_indication, drop,
        "Send without XOR-PEER-ADDRESS or DATA, or with them malformed"},
    {no_permission, drop,
        "no live permission for the peer"},
    {forbidden_peer, drop,
        "peer denied by policy"},
    {peer_family, drop,
        "peer of a family this allocation does not relay"},
    {truncated, drop,
        "datagram longer than the receive buffer, or than one with a header more may be"},
    {over_bandwidth, drop,
        "datagram beyond the bandwidth limit of its allocation, user or server"},
    {erlang_behind, drop,
        "request not taken, for too many wait for Erlang already (the client sends it again)"},
    {request_too_long, drop,
        "request of more than 4096 bytes"},
    {late_answer, drop,
        "answer from Erlang to a request that was given up meanwhile"},
    {over_rate, drop,
        "answer to a stranger, or request after too many with wrong credentials: the source's share is used up"},
    {relayed_source, drop,
        "Allocate from a relayed address of this server"},
    {carry_full, drop,
        "payload of a client that moved, for which the way to its worker had no room"},
    {send_failed, drop,
        "the kernel refused to send, or the way to the client is gone"},
    {receive_queue_full, drop,
        "datagram for which the socket's receive buffer had no room, or an empty one to a listener"},
    {no_buffers, drop,
        "receive buffers ran out, and the receive was started again"}
]).

-define(CTL_UINT(V, Bits), is_integer(V), V >= 0, V < 1 bsl Bits).

%% put_fields(Name, Ref, Fields) -> iodata()
-define(CTL_PUT_FIELDS,
put_fields(hello, Ref, #{magic := V_magic,
        version := V_version,
        table_hash := V_table_hash,
        cpus := V_cpus,
        build := V_build} = M) when map_size(M) =:= 5,
        ?CTL_UINT(V_magic, 32),
        ?CTL_UINT(V_version, 16),
        ?CTL_UINT(V_table_hash, 64),
        ?CTL_UINT(V_cpus, 16) ->
    [<<16#01, 0:24, Ref:32,
        V_magic:32,
        V_version:16,
        V_table_hash:64,
        V_cpus:16,
        (put_size(V_build)):32>>, V_build];
put_fields(reply, Ref, #{command := V_command,
        status := V_status,
        session := V_session,
        detail := V_detail} = M) when map_size(M) =:= 4,
        ?CTL_UINT(V_command, 8),
        ?CTL_UINT(V_session, 64) ->
    [<<16#02, 0:24, Ref:32,
        V_command:8,
        (put_status(V_status))/binary,
        V_session:64,
        (put_size(V_detail)):32>>, V_detail];
put_fields(config, Ref, #{workers := V_workers,
        sessions_max := V_sessions_max,
        peers_max := V_peers_max,
        credits := V_credits,
        nonce_lifetime_s := V_nonce_lifetime_s,
        nonce_features := V_nonce_features,
        nonce_key := V_nonce_key,
        channel_max := V_channel_max,
        receive_buffer := V_receive_buffer,
        unauthenticated_rate := V_unauthenticated_rate,
        unauthenticated_burst := V_unauthenticated_burst,
        bytes_per_s := V_bytes_per_s,
        rfc3489 := V_rfc3489,
        io_backend := V_io_backend,
        send_buffer := V_send_buffer} = M) when map_size(M) =:= 15,
        ?CTL_UINT(V_workers, 16),
        ?CTL_UINT(V_sessions_max, 32),
        ?CTL_UINT(V_peers_max, 32),
        ?CTL_UINT(V_credits, 32),
        ?CTL_UINT(V_nonce_lifetime_s, 32),
        ?CTL_UINT(V_nonce_features, 32),
        ?CTL_UINT(V_channel_max, 16),
        ?CTL_UINT(V_receive_buffer, 32),
        ?CTL_UINT(V_unauthenticated_rate, 32),
        ?CTL_UINT(V_unauthenticated_burst, 32),
        ?CTL_UINT(V_bytes_per_s, 64),
        ?CTL_UINT(V_rfc3489, 8),
        ?CTL_UINT(V_io_backend, 8),
        ?CTL_UINT(V_send_buffer, 32) ->
    [<<16#10, 0:24, Ref:32,
        V_workers:16,
        V_sessions_max:32,
        V_peers_max:32,
        V_credits:32,
        V_nonce_lifetime_s:32,
        V_nonce_features:32,
        (put_size(V_nonce_key)):32>>, V_nonce_key, <<V_channel_max:16,
        V_receive_buffer:32,
        V_unauthenticated_rate:32,
        V_unauthenticated_burst:32,
        V_bytes_per_s:64,
        V_rfc3489:8,
        V_io_backend:8,
        V_send_buffer:32>>];
put_fields(io, Ref, #{io_backend := V_io_backend,
        receive_buffer := V_receive_buffer,
        send_buffer := V_send_buffer,
        detail := V_detail} = M) when map_size(M) =:= 4,
        ?CTL_UINT(V_io_backend, 8),
        ?CTL_UINT(V_receive_buffer, 32),
        ?CTL_UINT(V_send_buffer, 32) ->
    [<<16#1a, 0:24, Ref:32,
        V_io_backend:8,
        V_receive_buffer:32,
        V_send_buffer:32,
        (put_size(V_detail)):32>>, V_detail];
put_fields(listen, Ref, #{listener := V_listener,
        transport := V_transport,
        local := V_local,
        other := V_other,
        realm := V_realm} = M) when map_size(M) =:= 5,
        ?CTL_UINT(V_listener, 32),
        ?CTL_UINT(V_transport, 8) ->
    [<<16#11, 0:24, Ref:32,
        V_listener:32,
        V_transport:8,
        (put_addr(V_local))/binary,
        (put_addr(V_other))/binary,
        (put_size(V_realm)):32>>, V_realm];
put_fields(listening, Ref, #{listener := V_listener,
        status := V_status,
        local := V_local,
        detail := V_detail} = M) when map_size(M) =:= 4,
        ?CTL_UINT(V_listener, 32) ->
    [<<16#12, 0:24, Ref:32,
        V_listener:32,
        (put_status(V_status))/binary,
        (put_addr(V_local))/binary,
        (put_size(V_detail)):32>>, V_detail];
put_fields(unlisten, Ref, #{listener := V_listener} = M) when map_size(M) =:= 1,
        ?CTL_UINT(V_listener, 32) ->
    [<<16#13, 0:24, Ref:32,
        V_listener:32>>];
put_fields(relay_address, Ref, #{pool := V_pool,
        local := V_local,
        advertised := V_advertised,
        min_port := V_min_port,
        max_port := V_max_port,
        awaited := V_awaited} = M) when map_size(M) =:= 6,
        ?CTL_UINT(V_pool, 32),
        ?CTL_UINT(V_min_port, 16),
        ?CTL_UINT(V_max_port, 16),
        ?CTL_UINT(V_awaited, 8) ->
    [<<16#14, 0:24, Ref:32,
        V_pool:32,
        (put_addr(V_local))/binary,
        (put_addr(V_advertised))/binary,
        V_min_port:16,
        V_max_port:16,
        V_awaited:8>>];
put_fields(pool_close, Ref, #{pool := V_pool} = M) when map_size(M) =:= 1,
        ?CTL_UINT(V_pool, 32) ->
    [<<16#18, 0:24, Ref:32,
        V_pool:32>>];
put_fields(tune, Ref, #{nonce_lifetime_s := V_nonce_lifetime_s,
        nonce_features := V_nonce_features,
        channel_max := V_channel_max,
        rfc3489 := V_rfc3489,
        unauthenticated_rate := V_unauthenticated_rate,
        unauthenticated_burst := V_unauthenticated_burst,
        receive_buffer := V_receive_buffer,
        send_buffer := V_send_buffer} = M) when map_size(M) =:= 8,
        ?CTL_UINT(V_nonce_lifetime_s, 32),
        ?CTL_UINT(V_nonce_features, 32),
        ?CTL_UINT(V_channel_max, 16),
        ?CTL_UINT(V_rfc3489, 8),
        ?CTL_UINT(V_unauthenticated_rate, 32),
        ?CTL_UINT(V_unauthenticated_burst, 32),
        ?CTL_UINT(V_receive_buffer, 32),
        ?CTL_UINT(V_send_buffer, 32) ->
    [<<16#19, 0:24, Ref:32,
        V_nonce_lifetime_s:32,
        V_nonce_features:32,
        V_channel_max:16,
        V_rfc3489:8,
        V_unauthenticated_rate:32,
        V_unauthenticated_burst:32,
        V_receive_buffer:32,
        V_send_buffer:32>>];
put_fields(policy, Ref, #{rules := V_rules,
        guarded := V_guarded} = M) when map_size(M) =:= 2 ->
    [<<16#15, 0:24, Ref:32,
        (put_size(V_rules)):32>>, V_rules, <<(put_size(V_guarded)):32>>, V_guarded];
put_fields(host, Ref, #{known := V_known,
        pools := V_pools,
        listeners := V_listeners,
        detail := V_detail} = M) when map_size(M) =:= 4,
        ?CTL_UINT(V_known, 8) ->
    [<<16#1b, 0:24, Ref:32,
        V_known:8,
        (put_size(V_pools)):32>>, V_pools, <<(put_size(V_listeners)):32>>, V_listeners, <<(put_size(V_detail)):32>>, V_detail];
put_fields(bucket, Ref, #{bucket := V_bucket,
        bytes_per_s := V_bytes_per_s} = M) when map_size(M) =:= 2,
        ?CTL_UINT(V_bucket, 32),
        ?CTL_UINT(V_bytes_per_s, 64) ->
    [<<16#16, 0:24, Ref:32,
        V_bucket:32,
        V_bytes_per_s:64>>];
put_fields(stop, Ref, #{} = M) when map_size(M) =:= 0 ->
    [<<16#17, 0:24, Ref:32>>];
put_fields(request, Ref, #{flow := V_flow,
        listener := V_listener,
        transport := V_transport,
        client := V_client,
        server := V_server,
        session := V_session,
        packet := V_packet} = M) when map_size(M) =:= 7,
        ?CTL_UINT(V_flow, 64),
        ?CTL_UINT(V_listener, 32),
        ?CTL_UINT(V_transport, 8),
        ?CTL_UINT(V_session, 64) ->
    [<<16#20, 0:24, Ref:32,
        V_flow:64,
        V_listener:32,
        V_transport:8,
        (put_addr(V_client))/binary,
        (put_addr(V_server))/binary,
        V_session:64,
        (put_size(V_packet)):32>>, V_packet];
put_fields(answer, Ref, #{flow := V_flow,
        failed := V_failed,
        packet := V_packet} = M) when map_size(M) =:= 3,
        ?CTL_UINT(V_flow, 64),
        ?CTL_UINT(V_failed, 8) ->
    [<<16#21, 0:24, Ref:32,
        V_flow:64,
        V_failed:8,
        (put_size(V_packet)):32>>, V_packet];
put_fields(answer_if, Ref, #{flow := V_flow,
        packet := V_packet} = M) when map_size(M) =:= 2,
        ?CTL_UINT(V_flow, 64) ->
    [<<16#22, 0:24, Ref:32,
        V_flow:64,
        (put_size(V_packet)):32>>, V_packet];
put_fields(alloc_create, Ref, #{session := V_session,
        listener := V_listener,
        transport := V_transport,
        client := V_client,
        server := V_server,
        pool_v4 := V_pool_v4,
        pool_v6 := V_pool_v6,
        port_v4 := V_port_v4,
        port_v6 := V_port_v6,
        even := V_even,
        token := V_token,
        lifetime_ms := V_lifetime_ms,
        bytes_per_s := V_bytes_per_s,
        bucket := V_bucket} = M) when map_size(M) =:= 14,
        ?CTL_UINT(V_session, 64),
        ?CTL_UINT(V_listener, 32),
        ?CTL_UINT(V_transport, 8),
        ?CTL_UINT(V_pool_v4, 32),
        ?CTL_UINT(V_pool_v6, 32),
        ?CTL_UINT(V_port_v4, 16),
        ?CTL_UINT(V_port_v6, 16),
        ?CTL_UINT(V_even, 8),
        ?CTL_UINT(V_token, 64),
        ?CTL_UINT(V_lifetime_ms, 32),
        ?CTL_UINT(V_bytes_per_s, 64),
        ?CTL_UINT(V_bucket, 32) ->
    [<<16#30, 0:24, Ref:32,
        V_session:64,
        V_listener:32,
        V_transport:8,
        (put_addr(V_client))/binary,
        (put_addr(V_server))/binary,
        V_pool_v4:32,
        V_pool_v6:32,
        V_port_v4:16,
        V_port_v6:16,
        V_even:8,
        V_token:64,
        V_lifetime_ms:32,
        V_bytes_per_s:64,
        V_bucket:32>>];
put_fields(alloc_created, Ref, #{session := V_session,
        status := V_status,
        relayed_v4 := V_relayed_v4,
        relayed_v6 := V_relayed_v6,
        pool_v4 := V_pool_v4,
        pool_v6 := V_pool_v6,
        status_v4 := V_status_v4,
        status_v6 := V_status_v6,
        token := V_token,
        detail := V_detail} = M) when map_size(M) =:= 10,
        ?CTL_UINT(V_session, 64),
        ?CTL_UINT(V_pool_v4, 32),
        ?CTL_UINT(V_pool_v6, 32),
        ?CTL_UINT(V_token, 64) ->
    [<<16#31, 0:24, Ref:32,
        V_session:64,
        (put_status(V_status))/binary,
        (put_addr(V_relayed_v4))/binary,
        (put_addr(V_relayed_v6))/binary,
        V_pool_v4:32,
        V_pool_v6:32,
        (put_status(V_status_v4))/binary,
        (put_status(V_status_v6))/binary,
        V_token:64,
        (put_size(V_detail)):32>>, V_detail];
put_fields(alloc_refresh, Ref, #{session := V_session,
        family := V_family,
        lifetime_ms := V_lifetime_ms} = M) when map_size(M) =:= 3,
        ?CTL_UINT(V_session, 64),
        ?CTL_UINT(V_family, 8),
        ?CTL_UINT(V_lifetime_ms, 32) ->
    [<<16#32, 0:24, Ref:32,
        V_session:64,
        V_family:8,
        V_lifetime_ms:32>>];
put_fields(alloc_delete, Ref, #{session := V_session} = M) when map_size(M) =:= 1,
        ?CTL_UINT(V_session, 64) ->
    [<<16#33, 0:24, Ref:32,
        V_session:64>>];
put_fields(permit, Ref, #{session := V_session,
        lifetime_ms := V_lifetime_ms,
        peers := V_peers} = M) when map_size(M) =:= 3,
        ?CTL_UINT(V_session, 64),
        ?CTL_UINT(V_lifetime_ms, 32) ->
    [<<16#34, 0:24, Ref:32,
        V_session:64,
        V_lifetime_ms:32,
        (put_size(V_peers)):32>>, V_peers];
put_fields(channel, Ref, #{session := V_session,
        number := V_number,
        peer := V_peer,
        lifetime_ms := V_lifetime_ms,
        permission_ms := V_permission_ms} = M) when map_size(M) =:= 5,
        ?CTL_UINT(V_session, 64),
        ?CTL_UINT(V_number, 16),
        ?CTL_UINT(V_lifetime_ms, 32),
        ?CTL_UINT(V_permission_ms, 32) ->
    [<<16#35, 0:24, Ref:32,
        V_session:64,
        V_number:16,
        (put_addr(V_peer))/binary,
        V_lifetime_ms:32,
        V_permission_ms:32>>];
put_fields(alloc_move, Ref, #{session := V_session,
        listener := V_listener,
        transport := V_transport,
        client := V_client,
        server := V_server} = M) when map_size(M) =:= 5,
        ?CTL_UINT(V_session, 64),
        ?CTL_UINT(V_listener, 32),
        ?CTL_UINT(V_transport, 8) ->
    [<<16#37, 0:24, Ref:32,
        V_session:64,
        V_listener:32,
        V_transport:8,
        (put_addr(V_client))/binary,
        (put_addr(V_server))/binary>>];
put_fields(session_moved, Ref, #{session := V_session,
        client := V_client} = M) when map_size(M) =:= 2,
        ?CTL_UINT(V_session, 64) ->
    [<<16#38, 0:24, Ref:32,
        V_session:64,
        (put_addr(V_client))/binary>>];
put_fields(session_gone, Ref, #{session := V_session,
        reason := V_reason,
        client_packets := V_client_packets,
        client_bytes := V_client_bytes,
        peer_packets := V_peer_packets,
        peer_bytes := V_peer_bytes,
        dropped := V_dropped,
        no_channel := V_no_channel,
        bad_channel := V_bad_channel,
        bad_indication := V_bad_indication,
        no_permission := V_no_permission,
        forbidden_peer := V_forbidden_peer,
        peer_family := V_peer_family,
        truncated := V_truncated,
        over_bandwidth := V_over_bandwidth} = M) when map_size(M) =:= 15,
        ?CTL_UINT(V_session, 64),
        ?CTL_UINT(V_reason, 8),
        ?CTL_UINT(V_client_packets, 64),
        ?CTL_UINT(V_client_bytes, 64),
        ?CTL_UINT(V_peer_packets, 64),
        ?CTL_UINT(V_peer_bytes, 64),
        ?CTL_UINT(V_dropped, 64),
        ?CTL_UINT(V_no_channel, 64),
        ?CTL_UINT(V_bad_channel, 64),
        ?CTL_UINT(V_bad_indication, 64),
        ?CTL_UINT(V_no_permission, 64),
        ?CTL_UINT(V_forbidden_peer, 64),
        ?CTL_UINT(V_peer_family, 64),
        ?CTL_UINT(V_truncated, 64),
        ?CTL_UINT(V_over_bandwidth, 64) ->
    [<<16#36, 0:24, Ref:32,
        V_session:64,
        V_reason:8,
        V_client_packets:64,
        V_client_bytes:64,
        V_peer_packets:64,
        V_peer_bytes:64,
        V_dropped:64,
        V_no_channel:64,
        V_bad_channel:64,
        V_bad_indication:64,
        V_no_permission:64,
        V_forbidden_peer:64,
        V_peer_family:64,
        V_truncated:64,
        V_over_bandwidth:64>>];
put_fields(stats, Ref, #{} = M) when map_size(M) =:= 0 ->
    [<<16#40, 0:24, Ref:32>>];
put_fields(stats_reply, Ref, #{workers := V_workers,
        io_backend := V_io_backend,
        sessions := V_sessions,
        peers := V_peers,
        requests := V_requests,
        mail_in := V_mail_in,
        mail_out := V_mail_out,
        ports_free := V_ports_free,
        turn_age_ms := V_turn_age_ms,
        pools := V_pools,
        counters := V_counters} = M) when map_size(M) =:= 11,
        ?CTL_UINT(V_workers, 16),
        ?CTL_UINT(V_io_backend, 8),
        ?CTL_UINT(V_sessions, 32),
        ?CTL_UINT(V_peers, 32),
        ?CTL_UINT(V_requests, 32),
        ?CTL_UINT(V_mail_in, 32),
        ?CTL_UINT(V_mail_out, 32),
        ?CTL_UINT(V_ports_free, 32),
        ?CTL_UINT(V_turn_age_ms, 32) ->
    [<<16#41, 0:24, Ref:32,
        V_workers:16,
        V_io_backend:8,
        V_sessions:32,
        V_peers:32,
        V_requests:32,
        V_mail_in:32,
        V_mail_out:32,
        V_ports_free:32,
        V_turn_age_ms:32,
        (put_size(V_pools)):32>>, V_pools, <<(put_size(V_counters)):32>>, V_counters];
put_fields(session_info, Ref, #{session := V_session} = M) when map_size(M) =:= 1,
        ?CTL_UINT(V_session, 64) ->
    [<<16#42, 0:24, Ref:32,
        V_session:64>>];
put_fields(session_stats, Ref, #{session := V_session,
        client_packets := V_client_packets,
        client_bytes := V_client_bytes,
        peer_packets := V_peer_packets,
        peer_bytes := V_peer_bytes,
        dropped := V_dropped,
        no_channel := V_no_channel,
        bad_channel := V_bad_channel,
        bad_indication := V_bad_indication,
        no_permission := V_no_permission,
        forbidden_peer := V_forbidden_peer,
        peer_family := V_peer_family,
        truncated := V_truncated,
        over_bandwidth := V_over_bandwidth} = M) when map_size(M) =:= 14,
        ?CTL_UINT(V_session, 64),
        ?CTL_UINT(V_client_packets, 64),
        ?CTL_UINT(V_client_bytes, 64),
        ?CTL_UINT(V_peer_packets, 64),
        ?CTL_UINT(V_peer_bytes, 64),
        ?CTL_UINT(V_dropped, 64),
        ?CTL_UINT(V_no_channel, 64),
        ?CTL_UINT(V_bad_channel, 64),
        ?CTL_UINT(V_bad_indication, 64),
        ?CTL_UINT(V_no_permission, 64),
        ?CTL_UINT(V_forbidden_peer, 64),
        ?CTL_UINT(V_peer_family, 64),
        ?CTL_UINT(V_truncated, 64),
        ?CTL_UINT(V_over_bandwidth, 64) ->
    [<<16#43, 0:24, Ref:32,
        V_session:64,
        V_client_packets:64,
        V_client_bytes:64,
        V_peer_packets:64,
        V_peer_bytes:64,
        V_dropped:64,
        V_no_channel:64,
        V_bad_channel:64,
        V_bad_indication:64,
        V_no_permission:64,
        V_forbidden_peer:64,
        V_peer_family:64,
        V_truncated:64,
        V_over_bandwidth:64>>];
put_fields(sessions, Ref, #{from := V_from} = M) when map_size(M) =:= 1,
        ?CTL_UINT(V_from, 64) ->
    [<<16#44, 0:24, Ref:32,
        V_from:64>>];
put_fields(session_rows, Ref, #{next := V_next,
        rows := V_rows} = M) when map_size(M) =:= 2,
        ?CTL_UINT(V_next, 64) ->
    [<<16#45, 0:24, Ref:32,
        V_next:64,
        (put_size(V_rows)):32>>, V_rows]
).

%% get_fields(Code, Binary) -> {Name, Fields} | error
-define(CTL_GET_FIELDS,
get_fields(16#01, <<V_magic:32,
        V_version:16,
        V_table_hash:64,
        V_cpus:16,
        L_build:32, V_build:L_build/binary>>) ->
    {hello, #{magic => V_magic,
        version => V_version,
        table_hash => V_table_hash,
        cpus => V_cpus,
        build => V_build}};
get_fields(16#02, <<V_command:8,
        Rest_status/binary>>) ->
    case get_status(Rest_status) of {V_status, <<V_session:64,
        L_detail:32, V_detail:L_detail/binary>>} ->
    {reply, #{command => V_command,
        status => V_status,
        session => V_session,
        detail => V_detail}};
    _ -> error end;
get_fields(16#10, <<V_workers:16,
        V_sessions_max:32,
        V_peers_max:32,
        V_credits:32,
        V_nonce_lifetime_s:32,
        V_nonce_features:32,
        L_nonce_key:32, V_nonce_key:L_nonce_key/binary,
        V_channel_max:16,
        V_receive_buffer:32,
        V_unauthenticated_rate:32,
        V_unauthenticated_burst:32,
        V_bytes_per_s:64,
        V_rfc3489:8,
        V_io_backend:8,
        V_send_buffer:32>>) ->
    {config, #{workers => V_workers,
        sessions_max => V_sessions_max,
        peers_max => V_peers_max,
        credits => V_credits,
        nonce_lifetime_s => V_nonce_lifetime_s,
        nonce_features => V_nonce_features,
        nonce_key => V_nonce_key,
        channel_max => V_channel_max,
        receive_buffer => V_receive_buffer,
        unauthenticated_rate => V_unauthenticated_rate,
        unauthenticated_burst => V_unauthenticated_burst,
        bytes_per_s => V_bytes_per_s,
        rfc3489 => V_rfc3489,
        io_backend => V_io_backend,
        send_buffer => V_send_buffer}};
get_fields(16#1a, <<V_io_backend:8,
        V_receive_buffer:32,
        V_send_buffer:32,
        L_detail:32, V_detail:L_detail/binary>>) ->
    {io, #{io_backend => V_io_backend,
        receive_buffer => V_receive_buffer,
        send_buffer => V_send_buffer,
        detail => V_detail}};
get_fields(16#11, <<V_listener:32,
        V_transport:8,
        Rest_local/binary>>) ->
    case get_addr(Rest_local) of {V_local, <<Rest_other/binary>>} ->
    case get_addr(Rest_other) of {V_other, <<L_realm:32, V_realm:L_realm/binary>>} ->
    {listen, #{listener => V_listener,
        transport => V_transport,
        local => V_local,
        other => V_other,
        realm => V_realm}};
    _ -> error end;
    _ -> error end;
get_fields(16#12, <<V_listener:32,
        Rest_status/binary>>) ->
    case get_status(Rest_status) of {V_status, <<Rest_local/binary>>} ->
    case get_addr(Rest_local) of {V_local, <<L_detail:32, V_detail:L_detail/binary>>} ->
    {listening, #{listener => V_listener,
        status => V_status,
        local => V_local,
        detail => V_detail}};
    _ -> error end;
    _ -> error end;
get_fields(16#13, <<V_listener:32>>) ->
    {unlisten, #{listener => V_listener}};
get_fields(16#14, <<V_pool:32,
        Rest_local/binary>>) ->
    case get_addr(Rest_local) of {V_local, <<Rest_advertised/binary>>} ->
    case get_addr(Rest_advertised) of {V_advertised, <<V_min_port:16,
        V_max_port:16,
        V_awaited:8>>} ->
    {relay_address, #{pool => V_pool,
        local => V_local,
        advertised => V_advertised,
        min_port => V_min_port,
        max_port => V_max_port,
        awaited => V_awaited}};
    _ -> error end;
    _ -> error end;
get_fields(16#18, <<V_pool:32>>) ->
    {pool_close, #{pool => V_pool}};
get_fields(16#19, <<V_nonce_lifetime_s:32,
        V_nonce_features:32,
        V_channel_max:16,
        V_rfc3489:8,
        V_unauthenticated_rate:32,
        V_unauthenticated_burst:32,
        V_receive_buffer:32,
        V_send_buffer:32>>) ->
    {tune, #{nonce_lifetime_s => V_nonce_lifetime_s,
        nonce_features => V_nonce_features,
        channel_max => V_channel_max,
        rfc3489 => V_rfc3489,
        unauthenticated_rate => V_unauthenticated_rate,
        unauthenticated_burst => V_unauthenticated_burst,
        receive_buffer => V_receive_buffer,
        send_buffer => V_send_buffer}};
get_fields(16#15, <<L_rules:32, V_rules:L_rules/binary,
        L_guarded:32, V_guarded:L_guarded/binary>>) ->
    {policy, #{rules => V_rules,
        guarded => V_guarded}};
get_fields(16#1b, <<V_known:8,
        L_pools:32, V_pools:L_pools/binary,
        L_listeners:32, V_listeners:L_listeners/binary,
        L_detail:32, V_detail:L_detail/binary>>) ->
    {host, #{known => V_known,
        pools => V_pools,
        listeners => V_listeners,
        detail => V_detail}};
get_fields(16#16, <<V_bucket:32,
        V_bytes_per_s:64>>) ->
    {bucket, #{bucket => V_bucket,
        bytes_per_s => V_bytes_per_s}};
get_fields(16#17, <<>>) ->
    {stop, #{}};
get_fields(16#20, <<V_flow:64,
        V_listener:32,
        V_transport:8,
        Rest_client/binary>>) ->
    case get_addr(Rest_client) of {V_client, <<Rest_server/binary>>} ->
    case get_addr(Rest_server) of {V_server, <<V_session:64,
        L_packet:32, V_packet:L_packet/binary>>} ->
    {request, #{flow => V_flow,
        listener => V_listener,
        transport => V_transport,
        client => V_client,
        server => V_server,
        session => V_session,
        packet => V_packet}};
    _ -> error end;
    _ -> error end;
get_fields(16#21, <<V_flow:64,
        V_failed:8,
        L_packet:32, V_packet:L_packet/binary>>) ->
    {answer, #{flow => V_flow,
        failed => V_failed,
        packet => V_packet}};
get_fields(16#22, <<V_flow:64,
        L_packet:32, V_packet:L_packet/binary>>) ->
    {answer_if, #{flow => V_flow,
        packet => V_packet}};
get_fields(16#30, <<V_session:64,
        V_listener:32,
        V_transport:8,
        Rest_client/binary>>) ->
    case get_addr(Rest_client) of {V_client, <<Rest_server/binary>>} ->
    case get_addr(Rest_server) of {V_server, <<V_pool_v4:32,
        V_pool_v6:32,
        V_port_v4:16,
        V_port_v6:16,
        V_even:8,
        V_token:64,
        V_lifetime_ms:32,
        V_bytes_per_s:64,
        V_bucket:32>>} ->
    {alloc_create, #{session => V_session,
        listener => V_listener,
        transport => V_transport,
        client => V_client,
        server => V_server,
        pool_v4 => V_pool_v4,
        pool_v6 => V_pool_v6,
        port_v4 => V_port_v4,
        port_v6 => V_port_v6,
        even => V_even,
        token => V_token,
        lifetime_ms => V_lifetime_ms,
        bytes_per_s => V_bytes_per_s,
        bucket => V_bucket}};
    _ -> error end;
    _ -> error end;
get_fields(16#31, <<V_session:64,
        Rest_status/binary>>) ->
    case get_status(Rest_status) of {V_status, <<Rest_relayed_v4/binary>>} ->
    case get_addr(Rest_relayed_v4) of {V_relayed_v4, <<Rest_relayed_v6/binary>>} ->
    case get_addr(Rest_relayed_v6) of {V_relayed_v6, <<V_pool_v4:32,
        V_pool_v6:32,
        Rest_status_v4/binary>>} ->
    case get_status(Rest_status_v4) of {V_status_v4, <<Rest_status_v6/binary>>} ->
    case get_status(Rest_status_v6) of {V_status_v6, <<V_token:64,
        L_detail:32, V_detail:L_detail/binary>>} ->
    {alloc_created, #{session => V_session,
        status => V_status,
        relayed_v4 => V_relayed_v4,
        relayed_v6 => V_relayed_v6,
        pool_v4 => V_pool_v4,
        pool_v6 => V_pool_v6,
        status_v4 => V_status_v4,
        status_v6 => V_status_v6,
        token => V_token,
        detail => V_detail}};
    _ -> error end;
    _ -> error end;
    _ -> error end;
    _ -> error end;
    _ -> error end;
get_fields(16#32, <<V_session:64,
        V_family:8,
        V_lifetime_ms:32>>) ->
    {alloc_refresh, #{session => V_session,
        family => V_family,
        lifetime_ms => V_lifetime_ms}};
get_fields(16#33, <<V_session:64>>) ->
    {alloc_delete, #{session => V_session}};
get_fields(16#34, <<V_session:64,
        V_lifetime_ms:32,
        L_peers:32, V_peers:L_peers/binary>>) ->
    {permit, #{session => V_session,
        lifetime_ms => V_lifetime_ms,
        peers => V_peers}};
get_fields(16#35, <<V_session:64,
        V_number:16,
        Rest_peer/binary>>) ->
    case get_addr(Rest_peer) of {V_peer, <<V_lifetime_ms:32,
        V_permission_ms:32>>} ->
    {channel, #{session => V_session,
        number => V_number,
        peer => V_peer,
        lifetime_ms => V_lifetime_ms,
        permission_ms => V_permission_ms}};
    _ -> error end;
get_fields(16#37, <<V_session:64,
        V_listener:32,
        V_transport:8,
        Rest_client/binary>>) ->
    case get_addr(Rest_client) of {V_client, <<Rest_server/binary>>} ->
    case get_addr(Rest_server) of {V_server, <<>>} ->
    {alloc_move, #{session => V_session,
        listener => V_listener,
        transport => V_transport,
        client => V_client,
        server => V_server}};
    _ -> error end;
    _ -> error end;
get_fields(16#38, <<V_session:64,
        Rest_client/binary>>) ->
    case get_addr(Rest_client) of {V_client, <<>>} ->
    {session_moved, #{session => V_session,
        client => V_client}};
    _ -> error end;
get_fields(16#36, <<V_session:64,
        V_reason:8,
        V_client_packets:64,
        V_client_bytes:64,
        V_peer_packets:64,
        V_peer_bytes:64,
        V_dropped:64,
        V_no_channel:64,
        V_bad_channel:64,
        V_bad_indication:64,
        V_no_permission:64,
        V_forbidden_peer:64,
        V_peer_family:64,
        V_truncated:64,
        V_over_bandwidth:64>>) ->
    {session_gone, #{session => V_session,
        reason => V_reason,
        client_packets => V_client_packets,
        client_bytes => V_client_bytes,
        peer_packets => V_peer_packets,
        peer_bytes => V_peer_bytes,
        dropped => V_dropped,
        no_channel => V_no_channel,
        bad_channel => V_bad_channel,
        bad_indication => V_bad_indication,
        no_permission => V_no_permission,
        forbidden_peer => V_forbidden_peer,
        peer_family => V_peer_family,
        truncated => V_truncated,
        over_bandwidth => V_over_bandwidth}};
get_fields(16#40, <<>>) ->
    {stats, #{}};
get_fields(16#41, <<V_workers:16,
        V_io_backend:8,
        V_sessions:32,
        V_peers:32,
        V_requests:32,
        V_mail_in:32,
        V_mail_out:32,
        V_ports_free:32,
        V_turn_age_ms:32,
        L_pools:32, V_pools:L_pools/binary,
        L_counters:32, V_counters:L_counters/binary>>) ->
    {stats_reply, #{workers => V_workers,
        io_backend => V_io_backend,
        sessions => V_sessions,
        peers => V_peers,
        requests => V_requests,
        mail_in => V_mail_in,
        mail_out => V_mail_out,
        ports_free => V_ports_free,
        turn_age_ms => V_turn_age_ms,
        pools => V_pools,
        counters => V_counters}};
get_fields(16#42, <<V_session:64>>) ->
    {session_info, #{session => V_session}};
get_fields(16#43, <<V_session:64,
        V_client_packets:64,
        V_client_bytes:64,
        V_peer_packets:64,
        V_peer_bytes:64,
        V_dropped:64,
        V_no_channel:64,
        V_bad_channel:64,
        V_bad_indication:64,
        V_no_permission:64,
        V_forbidden_peer:64,
        V_peer_family:64,
        V_truncated:64,
        V_over_bandwidth:64>>) ->
    {session_stats, #{session => V_session,
        client_packets => V_client_packets,
        client_bytes => V_client_bytes,
        peer_packets => V_peer_packets,
        peer_bytes => V_peer_bytes,
        dropped => V_dropped,
        no_channel => V_no_channel,
        bad_channel => V_bad_channel,
        bad_indication => V_bad_indication,
        no_permission => V_no_permission,
        forbidden_peer => V_forbidden_peer,
        peer_family => V_peer_family,
        truncated => V_truncated,
        over_bandwidth => V_over_bandwidth}};
get_fields(16#44, <<V_from:64>>) ->
    {sessions, #{from => V_from}};
get_fields(16#45, <<V_next:64,
        L_rows:32, V_rows:L_rows/binary>>) ->
    {session_rows, #{next => V_next,
        rows => V_rows}}
).
