%% The answers of meerkat_admin's verbs as text for a person, on meerkatctl's terminal or in a chat
%% (XEP-0050). It only formats what it is given. What a client may have chosen is escaped here,
%% because a terminal obeys control characters.
-module(meerkat_show).

-export([status/1, allocations/1, allocation/1, users/1, secrets/1, secret/1]).
-export([peers/1, realms/1, stored/1]).
-export([drain/2, disconnected/1, revoked/1, upgraded/1]).
-export([explanations/1, settings/1, changes/2]).
-export([kept/1, kept_text/1]).
%% For meerkat_show_fleet.
-export([table/1, span/1, condition/1]).

%% Characters of a name in a table.
-define(NAME_MAX, 40).
%% Where the column of values begins; after a longer key it begins later.
-define(KEY_WIDTH, 28).
-define(VALUE_WIDTH, 32).

-spec status(map()) -> unicode:chardata().
status(#{version := Version, otp := Otp, os_pid := Pid, uptime_s := Uptime} = Status) ->
    [io_lib:format("Meerkat ~ts (OTP ~ts), process ~b, up ~ts: ~ts~n",
                   [Version, Otp, Pid, span(Uptime * 1000), condition(Status)]),
     [row("listening", [Transport, address(A)])
      || {Transport, Key} <- [{"udp ", listeners}, {"tcp ", tcp_listeners},
                              {"tls ", tls_listeners}, {"dtls ", dtls_listeners}],
         A <- maps:get(Key, Status, [])],
     [row("certificate", certificate(C)) || C <- maps:get(certificates, Status, [])],
     [row("for clients", certificate(A#{names => []}))
      || A <- maps:get(client_authorities, Status, [])],
     [row("not taken", meerkat_text:printable(Why)) || #{certificates_refused := Why} <- [Status],
                                                    is_binary(Why)],
     [row("relaying", relay(Relay)) || Relay <- maps:get(relays, Status)],
     [row("asked at", Socket) || #{socket := Socket} <- [Status]],
     [row("packets by", atom_to_list(Backend)) || #{io_backend := Backend} <- [Status]],
     [row("users from", database(Database)) || #{database := #{} = Database} <- [Status]],
     [row("http", ["http://", address(Http), "/"]) || #{http := {_, _} = Http} <- [Status]],
     row("allocations", io_lib:format("~b of ~b", [maps:get(allocations, Status),
                                                   maps:get(max_allocations, Status)])),
     [row("to peers", [integer_to_list(N), " connections over TCP"])
      || #{peer_connections := N} <- [Status], N > 0],
     [row("to web servers", [integer_to_list(N), " connections passed through"])
      || #{spliced := N} <- [Status], N > 0],
     [row("from proxies", [integer_to_list(N), " connections so far"])
      || #{proxied := N} <- [Status], N > 0],
     [row("relay died", [integer_to_list(N), " times, and was replaced"])
      || #{relay_restarts := N} <- [Status], N > 0],
     [row("relay", [io_lib:format("process ~b", [RelayPid]),
                    [[", ", meerkat_text:printable(Program)] || is_binary(Program)],
                    [io_lib:format(", replaced ~b times under calls", [N]) || N > 0]])
      || #{relay_pid := RelayPid, relay_program := Program, relay_replacements := N} <- [Status],
         is_integer(RelayPid)],
     [row("newer relay", "is installed; meerkatctl upgrade has it take over")
      || #{relay_outdated := true} <- [Status]],
     [row("taken over", [calendar:system_time_to_rfc3339(Since, [{offset, "Z"}]),
                         io_lib:format(", with ~b allocations of the node before", [N])])
      || #{governed_since := Since, adopted := N} <- [Status], is_integer(N)],
     traffic_rows(Status),
     [row("accounting", [atom_to_list(Id), ": ", sink(Sink)])
      || #{accounting := #{sinks := Sinks}} <- [Status],
         {Id, Sink} <- lists:sort(maps:to_list(Sinks))],
     [row("not accounted", [integer_to_list(N), " records that could not be kept"])
      || #{accounting := #{lost := N}} <- [Status], N > 0],
     [row("accounting", meerkat_text:printable(Why))
      || #{accounting := #{trouble := Why}} <- [Status], is_binary(Why)],
     [row("answers", tally(Answers)) || #{answers := Answers} <- [Status], Answers =/= #{}]].

sink(#{delivered := Delivered, waiting := Waiting, lost := Lost, trouble := Trouble}) ->
    [io_lib:format("~b records taken, ~b waiting", [Delivered, Waiting]),
     [io_lib:format(", ~b lost", [Lost]) || Lost > 0],
     [["; ", meerkat_text:printable(Trouble)] || is_binary(Trouble)]].

database(#{name := Name, away := null, connections := N}) ->
    [meerkat_text:printable(Name), io_lib:format(", ~b connections", [N])];
database(#{name := Name, away := Why}) ->
    [meerkat_text:printable(Name), ", which does not answer: ", meerkat_text:printable(Why)].

%% What a person calls it.
-spec condition(map()) -> unicode:chardata().
condition(#{relay := down}) -> "the relay program is down";
condition(#{draining := true, ends_in_s := null}) -> "draining";
condition(#{draining := true, ends_in_s := infinity}) -> "draining, ends when empty";
condition(#{draining := true, ends_in_s := Seconds}) ->
    ["draining, ends in ", span(Seconds * 1000), " or when empty"];
condition(#{ready := true}) -> "ready";
condition(#{not_ready := Reasons}) ->
    case lists:keyfind(true, 1, [{lists:member(Reason, Reasons), Text}
                                 || {Reason, Text} <- not_ready()]) of
        {true, Text} -> ["not ready: ", Text];
        false -> "full"
    end.

not_ready() ->
    [{host_unknown, "the kernel does not tell this machine's addresses"},
     {no_address, "this machine does not have the address that clients are told"},
     {not_listening, "not listening yet"}].

relay(#{local := Local, advertised := Advertised, min_port := Min, max_port := Max}) ->
    [meerkat_text:ip(Local), io_lib:format(", ports ~b-~b", [Min, Max]),
     [[", told to clients as ", meerkat_text:ip(Advertised)] || Advertised =/= Local]].

%% For whom and for how long; several names are in the file.
certificate(#{file := File, names := Names} = Certificate) ->
    [[[lists:join(", ", lists:sublist(Names, 3)), [", ..." || length(Names) > 3], ": "]
      || Names =/= []],
     [[days(Days), ", "] || #{days_left := Days} <- [Certificate]], meerkat_text:printable(File)].

days(Days) when Days < 0 -> "over";
days(1) -> "1 day left";
days(Days) -> io_lib:format("~b days left", [Days]).

traffic_rows(#{traffic := T, drops := Drops, ports_free := Free}) ->
    Row = fun(Packets, Bytes) -> packets(maps:get(Packets, T), maps:get(Bytes, T)) end,
    [row("ports free", integer_to_list(Free)),
     row("from clients", Row(client_packets, client_bytes)),
     row("to clients", Row(client_sent_packets, client_sent_bytes)),
     row("from peers", Row(peer_packets, peer_bytes)),
     row("to peers", Row(peer_sent_packets, peer_sent_bytes)),
     [row("dropped", tally(Drops)) || Drops =/= #{}]];
traffic_rows(#{}) ->
    [].

tally(Counts) ->
    lists:join(", ", [io_lib:format("~tp ~b", [Name, N])
                      || {Name, N} <- lists:sort(maps:to_list(Counts))]).

-spec allocations(#{total := non_neg_integer(), allocations := [map()], _ => _}) ->
    unicode:chardata().
allocations(#{total := 0}) ->
    "no allocations\n";
allocations(#{total := Total, allocations := Rows}) ->
    Head = ["ID", "USER", "CLIENT", "BY", "RELAYED", "AGE", "LEFT", "FROM CLIENT", "FROM PEERS",
            "DROPPED"],
    %% Of a fleet each has its node.
    Nodes = [["NODE" || #{node := _} <- lists:sublist(Rows, 1)]
             | [[Node || #{node := Node} <- [Row]] || Row <- Rows]],
    [table(lists:zipwith(fun(Node, Line) -> Node ++ Line end, Nodes,
                         [Head | [line(Row) || Row <- Rows]])),
     [io_lib:format("~b of ~b~n", [length(Rows), Total]) || length(Rows) < Total]].

line(#{session := Session, user := User, client := Client, transport := Transport,
       relayed := Relayed, age_ms := Age, expires_ms := Left} = Row) ->
    [meerkat_text:session(Session), name(User), address(Client), atom_to_list(Transport),
     lists:join(" ", [address(A) || A <- Relayed]), span(Age), span(Left),
     bytes(maps:get(client_bytes, Row, 0)), bytes(maps:get(peer_bytes, Row, 0)),
     integer_to_list(maps:get(dropped, Row, 0))].

-spec allocation(map()) -> unicode:chardata().
allocation(#{session := Session, user := User, client := Client, transport := Transport,
             relayed := Relayed, age_ms := Age,
             expires_ms := Left, permissions := Permissions, channels := Channels,
             refusals := Refusals} = Info) ->
    ["allocation ", meerkat_text:session(Session), $\n,
     row("user", meerkat_text:escape(User)),
     row("client", [address(Client), " by ", atom_to_list(Transport)]),
     [row("relayed", [address(A), [", TCP" || maps:get(protocol, Info, udp) =:= tcp]])
      || A <- Relayed],
     row("age", span(Age)),
     row("ends in", span(Left)),
     counted(Info),
     [row("shortcuts", io_lib:format("to ~b of its peers", [N]))
      || #{shortcuts := N} <- [Info], N > 0],
     [row("permission", [meerkat_text:ip(Ip), ", ", span(Ms), " left"])
      || #{peer := Ip, expires_ms := Ms} <- Permissions],
     [row("channel", io_lib:format("0x~4.16.0b to ~ts, ~ts left",
                                   [Number, address(Peer), span(Ms)]))
      || #{number := Number, peer := Peer, expires_ms := Ms} <- Channels],
     [row("connection", connection(Connection)) || Connection <- maps:get(connections, Info, [])],
     media(Info),
     [row("refused", io_lib:format("~ts ago~ts: ~b to ~ts, ~ts",
                                   [span(Ms), times(Times), Code, Method, Why]))
      || #{code := Code, method := Method, why := Why, times := Times, age_ms := Ms}
             <- Refusals]].

%% Of one that is watched.
media(#{media := #{looking_ms := Ms, streams := Streams}, verdict := Verdict}) ->
    [row("looked at", ["for ", span(Ms)]),
     [row("media", meerkat_watch_words:stream(Stream)) || Stream <- Streams],
     [row("verdict", Verdict) || is_binary(Verdict)]];
media(#{}) ->
    [].

%% With a peer over TCP (RFC 6062).
connection(#{peer := Peer, state := connecting}) ->
    ["to ", address(Peer), ", not made yet"];
connection(#{peer := Peer, state := waiting}) ->
    ["to ", address(Peer), ", waits for its client"];
connection(#{peer := Peer, state := joined} = Connection) ->
    ["to ", address(Peer), ", ", bytes(maps:get(client_bytes, Connection, 0)), " from the client, ",
     bytes(maps:get(peer_bytes, Connection, 0)), " from the peer"].

times(1) -> "";
times(N) -> [", ", integer_to_list(N), " times"].

counted(#{client_packets := ClientPackets, client_bytes := ClientBytes,
          peer_packets := PeerPackets, peer_bytes := PeerBytes, dropped := Dropped,
          drops := Drops}) ->
    [row("from client", packets(ClientPackets, ClientBytes)),
     row("from peers", packets(PeerPackets, PeerBytes)),
     row("dropped", [integer_to_list(Dropped), [[": ", tally(Drops)] || Drops =/= #{}]])];
counted(#{}) ->
    [].

-spec explanations(#{explanations := [meerkat_explain:explanation(), ...]}) ->
    unicode:chardata().
explanations(#{explanations := Explanations}) ->
    lists:join($\n, [[[["allocation ", meerkat_text:session(Session), $\n]
                      || is_integer(Session)], [["  ", Sentence, $\n] || Sentence <- Sentences]]
                     || #{session := Session, sentences := Sentences} <- Explanations]).

-spec users([map()]) -> unicode:chardata().
users([]) ->
    "no users; the secret lets in whoever it was shared with\n";
users(Users) ->
    table([["USER", "REALM", "FROM", "PROOF", "ALLOCATIONS"]
           | [[name(Name), name(Realm), atom_to_list(From), atom_to_list(Proof),
               integer_to_list(N)]
              || #{name := Name, realm := Realm, from := From, proof := Proof,
                   allocations := N} <- Users]]).

-spec secrets([meerkat_secrets:secret()]) -> unicode:chardata().
secrets([]) ->
    "no secrets\n";
secrets(Secrets) ->
    table([["ID", "REALM", "FROM", "CHARACTERS"]
           | [[binary_to_list(Id), name(Realm), atom_to_list(From), integer_to_list(N)]
              || #{id := Id, realm := Realm, from := From, characters := N} <- Secrets]]).

%% One that was added or removed; one that was drawn is told once.
-spec secret(map()) -> unicode:chardata().
secret(#{id := Id, kept := Where} = Changed) ->
    ["secret ", Id, ": done, and kept in ", Where, $\n,
     [[Secret, $\n] || #{secret := Secret} <- [Changed]]].

-spec peers([meerkat_database_peers:peer()]) -> unicode:chardata().
peers([]) ->
    "the database allows and denies no peers by itself\n";
peers(Peers) ->
    table([["PEERS", "ARE", "REALM", "IN FORCE"]
           | [[name(Range), atom_to_list(Kind), case Realm of <<>> -> "all"; _ -> name(Realm) end,
               case InForce of true -> "yes"; false -> "no" end]
              || #{range := Range, kind := Kind, realm := Realm, in_force := InForce} <- Peers]]).

-spec realms([meerkat_database_realms:realm()]) -> unicode:chardata().
realms(Realms) ->
    table([["REALM", "USER QUOTA", "TOTAL QUOTA", "BYTES/S", "PACKETS/S", "NEW PEERS/S"]
           | [[name(Realm) | [case maps:get(Limit, Limits) of
                                  null -> "-";
                                  N -> integer_to_list(N)
                              end || Limit <- meerkat_config_group:stored()]]
              || #{realm := Realm} = Limits <- Realms]]).

%% Where something was put that is nobody's secret.
-spec stored(#{kept := binary()}) -> unicode:chardata().
stored(#{kept := Where}) -> kept_text({database, Where}).

%% How many allocations there are, and what was asked for.
-spec drain(non_neg_integer(), map()) -> unicode:chardata().
drain(0, Wanted) when not is_map_key(stay, Wanted) ->
    "no allocation is left: the server ends\n";
drain(Count, Wanted) ->
    io_lib:format("~ts left; no new ones. ~ts~n", [meerkat_text:allocations(Count), then(Wanted)]).

then(#{stay := true}) -> "The server stays; undrain takes allocations again";
then(#{deadline := Seconds}) ->
    ["The server ends when they have, or in ", span(Seconds * 1000)];
then(#{}) -> "The server ends when they have".

-spec upgraded(meerkat_upgrade:figures()) -> unicode:chardata().
upgraded(#{allocations := N, lost := Lost, sockets := Sockets, connections := Connections,
           closed := Closed, gap_ms := Gap, took_ms := Took, pid := Pid, program := Program}) ->
    io_lib:format("~ts is the relay now, process ~b, after ~b ms: ~ts go on, ~b lost.~n"
                  "It has ~b sockets of the one before, ~b of them clients' connections, and "
                  "closed ~b that nobody asked for; nothing was read for ~.1f ms.~n",
                  [Program, Pid, Took, meerkat_text:allocations(N), Lost, Sockets, Connections,
                   Closed, Gap]).

-spec revoked(non_neg_integer()) -> unicode:chardata().
revoked(N) ->
    [meerkat_text:allocations(N), " ended, and the credentials there were\n"].

-spec disconnected(pos_integer()) -> unicode:chardata().
disconnected(N) ->
    [meerkat_text:allocations(N), " ended\n"].

%% Key, value and origin each; those of a realm below its name.
-spec settings([meerkat_config:setting()]) -> unicode:chardata().
settings(Settings) ->
    settings(Settings, none).

settings([#{realm := Realm} = Setting | Settings], Realm) ->
    [setting("  ", Setting) | settings(Settings, Realm)];
settings([#{realm := Realm} | _] = Settings, _Before) ->
    ["realm ", meerkat_config_value:quote(Realm), ":\n" | settings(Settings, Realm)];
settings([Setting | Settings], none) ->
    [setting("", Setting) | settings(Settings, none)];
settings([], _) ->
    [].

setting(Indent, #{key := Key, text := Text, origin := Origin}) ->
    io_lib:format("~ts ~ts ~ts~n", [string:pad(Indent ++ atom_to_list(Key), ?KEY_WIDTH),
                                     string:pad(Text, ?VALUE_WIDTH), Origin]).

%% Of a reload; one that was only tried says so.
-spec changes([meerkat_config_changes:change()], [dry_run]) -> unicode:chardata().
changes([], []) -> "nothing has changed\n";
changes([], [dry_run]) -> "nothing would change\n";
changes(Changes, How) ->
    [[[meerkat_config_changes:text(Change), $\n] || Change <- Changes],
     ["a dry run: nothing was changed\n" || How =:= [dry_run]]].

%% Where a change of users is kept.
-spec kept(meerkat_users:kept()) -> #{kept := binary() | null}.
kept({database, Where}) -> #{kept => Where};
kept({file, File}) -> #{kept => File};
kept(memory) -> #{kept => null}.

-spec kept_text(meerkat_users:kept()) -> unicode:chardata().
kept_text({database, Where}) -> ["done, and kept in ", Where, $\n];
kept_text({file, File}) -> ["done, and kept in ", File, $\n];
kept_text(memory) -> "done, until the server ends: the key users_file would keep it\n".

%%% Parts

row(Name, Value) ->
    io_lib:format("  ~-13ts ~ts~n", [Name, Value]).

%% Rows of the same length, the first with the heads of columns.
-spec table([[unicode:chardata()], ...]) -> unicode:chardata().
table(Rows) ->
    Texts = [[unicode:characters_to_list(Cell) || Cell <- Row] || Row <- Rows],
    Widths = lists:foldl(fun(Row, Most) -> lists:zipwith(fun widest/2, Row, Most) end,
                         [0 || _ <- hd(Rows)], Texts),
    [[string:trim(lists:join("  ", lists:zipwith(fun padded/2, Row, Widths)), trailing), $\n]
     || Row <- Texts].

widest(Cell, Most) -> max(string:length(Cell), Most).

padded(Cell, Width) -> string:pad(Cell, Width).

name(Name) ->
    Escaped = unicode:characters_to_list(meerkat_text:escape(Name)),
    case string:length(Escaped) > ?NAME_MAX of
        true -> [string:slice(Escaped, 0, ?NAME_MAX - 1), "…"];
        false -> Escaped
    end.

address(Address) -> meerkat_text:address(Address).

packets(Packets, Bytes) ->
    [integer_to_list(Packets), " packets, ", bytes(Bytes)].

bytes(N) when N < 1000 -> [integer_to_list(N), " B"];
bytes(N) -> bytes(N / 1000, ["kB", "MB", "GB", "TB"]).

bytes(N, [Unit | Units]) when N < 1000; Units =:= [] -> io_lib:format("~.1f ~ts", [N, Unit]);
bytes(N, [_ | Units]) -> bytes(N / 1000, Units).

%% The two largest parts of a time.
-spec span(Ms :: integer()) -> unicode:chardata().
span(Ms) ->
    Seconds = Ms div 1000,
    Parts = [{Seconds div 86400, "d"}, {Seconds div 3600 rem 24, "h"},
             {Seconds div 60 rem 60, "m"}, {Seconds rem 60, "s"}],
    case lists:dropwhile(fun({N, _}) -> N =:= 0 end, Parts) of
        [] -> "0s";
        [{N, Unit}] -> [integer_to_list(N), Unit];
        [{N, Unit}, {More, Next} | _] ->
            [integer_to_list(N), Unit, io_lib:format("~2..0b~ts", [More, Next])]
    end.
