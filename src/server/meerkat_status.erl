%% The state of a server for people, probes and pages. It only reads.
-module(meerkat_status).

-export([info/1, status/1, certificates/1, client_authorities/1, is_ready/1]).

%% meerkat:info/1 tells its members.
-spec info(Name :: atom()) -> map().
info(Name) ->
    #{relays := Relays, own_kinds := Kinds} = meerkat_registry:settings(Name),
    #{xmpp := Xmpp, accounting := Accounting} = meerkat_beside:info(Name),
    Stats = meerkat_relay:stats(Name),  % before what it has answered is counted
    #{restarts := Restarts, gap_ms := Gap, gap_total_ms := GapTotal, replayed := Replayed,
      lost := Lost} = meerkat_restarts:counts(Name),
    #{listeners => meerkat_listening:bound(Name, udp),
      tcp_listeners => meerkat_listening:bound(Name, tcp),
      tls_listeners => meerkat_listening:bound(Name, tls),
      dtls_listeners => meerkat_listening:bound(Name, dtls),
      relay_restarts => Restarts,
      relay_gap_ms => Gap,
      relay_gap_total_ms => GapTotal,
      relay_replayed => Replayed,
      relay_lost => Lost,
      certificates => certificates(Name),
      relays => [maps:with([local, advertised, min_port, max_port], Relay) || Relay <- Relays],
      own_kinds => Kinds,
      allocations => meerkat_alloc_table:count(Name),
      draining => meerkat_drain:is_draining(Name),
      answers => meerkat_answers:outcomes(meerkat_registry:answers(Name)),
      xmpp => Xmpp,
      accounting => Accounting,
      relay => Stats}.

%% meerkat:status/1. Members:
%%   server, version, otp, os_pid, uptime_s (of the node)
%%   ready         would an Allocate be welcome? not_ready: why not (meerkat_health)
%%   draining      and ends_in_s where an end is awaited: seconds, or `infinity`
%%   listeners, tcp_listeners, tls_listeners, dtls_listeners, relays    as in meerkat:info/1
%%   certificates  those that TLS clients are shown: file, names, self_signed, fingerprint
%%                 (SHA-256), not_after (Unix time), days_left
%%   client_authorities   files with those who vouch for certificates of clients: file, and of the
%%                 first of them to end not_after, days_left
%%   certificates_refused   why what is in their files now is not in force, or null
%%   database      that users are looked up in: name, connections, waiting (requests put aside),
%%                 cached (users and secrets remembered), away (why it does not answer, or null);
%%                 null where none is configured
%%   http          where HTTP is served, `undefined` if it is not
%%   accounting    as in meerkat:info/1, with `undefined` for `none`
%%   allocations   how many there are; max_allocations: how many there may be
%%   relay_restarts   as in meerkat:info/1
%%   governed_since   Unix time at which this node started its relay program, or took it over
%%   adopted       allocations that it took over with it from the node before, or null if it started
%%                 it
%%   relay_pid     the relay program's process, or null; relay_program: the file that it runs, or
%%                 null
%%   relay_outdated   another file is there by now, which meerkat:upgrade/1 would have take over
%%   relay_replacements   times that another program took over while calls went on, since the start
%%   relay         up | down; the rest is only there when it is up:
%%   connections   of clients over TCP and TLS, open; dtls_sessions: of those over DTLS
%%   peer_connections   with peers over TCP (RFC 6062), those that are being made included
%%   spliced       connections passed through to web servers (https_backend), open
%%   proxied       connections so far whose client a proxy has told (proxy_protocol_from)
%%   workers, io_backend, ports_free, traffic (packets and bytes by direction), drops (by reason,
%%   those that were)
%%   answers       as in meerkat:info/1, those that were
-spec status(Name :: atom()) -> map().
status(Name) ->
    #{relay := Relay, answers := Answers, accounting := Accounting} = Info = info(Name),
    {ok, Version} = application:get_key(meerkat, vsn),
    {Uptime, _} = erlang:statistics(wall_clock),
    #{quota := #{total := Max}} = meerkat_registry:settings(Name),
    NotReady = meerkat_health:not_ready(Name),
    #{http := Http} = meerkat_beside:info(Name),
    Survival = meerkat_survival:counts(Name),
    Common = maps:with([listeners, tcp_listeners, tls_listeners, dtls_listeners, certificates,
                        relays, allocations, draining, relay_restarts], Info),
    maps:merge(maps:merge(relay(Relay), program(Name)), Common#{
        server => Name,
        version => list_to_binary(Version),
        otp => list_to_binary(erlang:system_info(otp_release)),
        os_pid => list_to_integer(os:getpid()),
        uptime_s => Uptime div 1000,
        governed_since => case meerkat_survival:since(Name) of none -> null; Since -> Since end,
        adopted => case Survival of
            #{adoptions := 0} -> null;
            #{adopted := Adopted} -> Adopted
        end,
        ready => NotReady =:= [],
        not_ready => NotReady,
        database => meerkat_database_metrics:status(Name),
        http => Http,
        accounting => accounting(Accounting),
        peer_connections => meerkat_connections:total(Name),
        client_authorities => client_authorities(Name),
        certificates_refused => case meerkat_certificate_watch:refused(Name) of
            none -> null;
            Why -> Why
        end,
        ends_in_s => case meerkat_drain:ending(Name) of none -> null; {Seconds, _} -> Seconds end,
        max_allocations => Max,
        answers => maps:filter(fun(_, N) -> N > 0 end, Answers)}).

program(Name) ->
    #{replacements := N} = meerkat_upgrade:counts(Name),
    Running = case meerkat_relay:os_pid(Name) of
        {ok, OsPid} ->
            #{program := Program, outdated := IsOutdated} =
                meerkat_relay_program:running(OsPid, meerkat_registry:settings(Name)),
            #{relay_pid => OsPid, relay_program => Program, relay_outdated => IsOutdated};
        none ->
            #{relay_pid => null, relay_program => null, relay_outdated => false}
    end,
    Running#{relay_replacements => N}.

accounting(none) ->
    undefined;
accounting(#{sinks := Sinks} = Accounting) ->
    (troubled(Accounting))#{sinks := maps:map(fun(_, Sink) -> troubled(Sink) end, Sinks)}.

troubled(#{trouble := none} = Of) -> Of#{trouble := undefined};
troubled(Of) -> Of.

%% What TLS clients are shown. Without not_after Erlang cannot read the certificate.
-spec certificates(Name :: atom()) -> [map()].
certificates(Name) ->
    #{certificates := #{shown := Shown}} = meerkat_registry:settings(Name),
    [certificate(Certificate) || Certificate <- Shown].

%% Who vouches for certificates of clients, by file. Without not_after Erlang cannot read it.
-spec client_authorities(Name :: atom()) -> [map()].
client_authorities(Name) ->
    #{certificates := #{vouching := Vouching}} = meerkat_registry:settings(Name),
    [authority(Authority) || Authority <- Vouching].

authority(#{not_after := End} = Authority) ->
    Authority#{days_left => meerkat_certificate:days_left(End)};
authority(Authority) ->
    Authority.

certificate(#{file := File, self_signed := IsSelfSigned, names := Names} = Shown) ->
    Known = #{file => File, self_signed => IsSelfSigned,
              names => [unicode:characters_to_binary(meerkat_certificate:format_name(N))
                        || N <- Names]},
    case Shown of
        #{not_after := End, fingerprint := Fingerprint} ->
            Known#{not_after => End, fingerprint => list_to_binary(Fingerprint),
                   days_left => meerkat_certificate:days_left(End)};
        #{} ->
            Known
    end.

relay({ok, #{counters := Counters} = Stats}) ->
    Drops = [Counter || {Counter, drop, _} <- meerkat_ctl:counters()],
    (maps:with([workers, ports_free, io_backend, connections, dtls_sessions], Stats))#{
        relay => up,
        spliced => maps:get(spliced, Counters) - maps:get(splices_closed, Counters),
        proxied => maps:get(proxied, Counters),
        traffic => maps:with([client_packets, client_bytes, client_sent_packets, client_sent_bytes,
                              peer_packets, peer_bytes, peer_sent_packets, peer_sent_bytes],
                             Counters),
        drops => maps:filter(fun(_, N) -> N > 0 end, maps:with(Drops, Counters))};
relay({error, _}) ->
    #{relay => down}.

%% meerkat_health tells why not.
-spec is_ready(Name :: atom()) -> boolean().
is_ready(Name) ->
    try
        meerkat_registry:is_running(Name) andalso meerkat_health:not_ready(Name) =:= []
    catch
        %% It ended between the two.
        error:badarg -> false
    end.
