%% A coturn configuration (turnserver.conf) as one of ours: text in, text and notes out. What
%% becomes of each line is said: the key it is here, or why there is none. Pure; the result is for
%% `meerkatctl config check`. How turnserver reads a line is meerkat_import_lines'.
-module(meerkat_import).

-export([import/1]).
%% For meerkat_import_table.
-export([kinds/0]).
-export_type([import/0, setting/0, kinds/0]).

-import(meerkat_import_lines, [all/2, last/2]).

%% `notes` is what the operator should know; `lines` what became of every line with a key.
-type import() :: #{configuration := unicode:chardata(),
                    notes := [meerkat_import_lines:note()],
                    lines := [{pos_integer(), Key :: binary(), Became :: unicode:chardata()}]}.
%% A key of ours, its value in libconfig syntax, the lines it comes from.
-type setting() :: {Key :: atom(), iodata(), [pos_integer()]}.

%% Their keys by what becomes of them: `same` is one of ours, value and all; `composed` are put
%% together; `anyway` says what is so here in any case; `without` has no counterpart, and why.
-type kinds() :: #{same := #{binary() => atom()}, composed := [binary()], anyway := [binary()],
                   without := [{[binary()], Why :: string()}]}.

%% One of theirs that is one of ours, value and all.
-define(SAME, #{
    <<"listening-port">> => listen_port,
    <<"min-port">> => min_port,
    <<"max-port">> => max_port,
    <<"realm">> => realm,
    <<"user-quota">> => user_quota,
    <<"total-quota">> => total_quota,
    <<"max-bps">> => max_bps,
    <<"bps-capacity">> => bps_capacity,
    <<"max-allocate-lifetime">> => max_lifetime,
    <<"mobility">> => mobility,
    <<"userdb">> => userdb,
    <<"db">> => userdb,
    <<"psql-userdb">> => psql_userdb,
    <<"sql-userdb">> => psql_userdb,
    <<"mysql-userdb">> => mysql_userdb,
    <<"redis-userdb">> => redis_userdb,
    <<"redis-statsdb">> => redis_statsdb,
    <<"rfc5780">> => rfc5780,
    <<"rfc3489-compatibility">> => rfc3489_compatibility,
    <<"rfc5766-channel-numbers">> => rfc5766_channel_numbers,
    <<"unauthorized-ratelimit-rps">> => unauthenticated_rate
}).
%% Put together from several lines, here and in the modules beside.
-define(COMPOSED, [
    <<"listening-ip">>, <<"relay-ip">>, <<"external-ip">>, <<"alt-listening-port">>,
    <<"aux-server">>, <<"user">>, <<"static-auth-secret">>, <<"use-auth-secret">>,
    <<"lt-cred-mech">>, <<"allowed-peer-ip">>, <<"denied-peer-ip">>, <<"allow-loopback-peers">>,
    <<"stale-nonce">>, <<"alternate-server">>, <<"udp-alternate-server">>, <<"relay-threads">>,
    <<"verbose">>, <<"Verbose">>, <<"software-attribute">>, <<"sock-buf-size">>, <<"prometheus">>,
    <<"prometheus-port">>, <<"prometheus-address">>
]).
%% Switches that say what is so here in any case.
-define(ANYWAY, [
    <<"fingerprint">>, <<"no-cli">>, <<"no-dtls">>, <<"no-tcp-relay">>, <<"no-multicast-peers">>,
    <<"no-loopback-peers">>, <<"no-tlsv1">>, <<"no-tlsv1_1">>, <<"no-software-attribute">>,
    <<"no-rfc5780">>, <<"stateless-nonce">>,
    <<"no-stun-backward-compatibility">>, <<"response-origin-only-with-rfc5780">>,
    <<"drop-invalid-packets">>, <<"unauthorized-ratelimit">>, <<"udp-recvmmsg">>,
    <<"no-web-admin">>, <<"simple-log">>, <<"new-log-timestamp">>, <<"no-stdout-log">>
]).
%% Those whose value turnserver does not look at: they are on even where it says "off".
-define(ON_ANYWAY, [<<"rfc5780">>, <<"use-auth-secret">>, <<"prometheus">>]).
%% Why there is nothing here for the keys of a kind.
-define(WITHOUT, [
    {[<<"dh-file">>, <<"dh566">>, <<"dh1066">>, <<"dh2066">>, <<"ec-curve-name">>],
     ": keys are agreed upon by X25519, P-256 or P-384, and nothing is set for it"},
    {[<<"alt-tls-listening-port">>], ": RFC 5780 is for UDP here"},
    {[<<"dtls">>], ": set `dtls_enabled = true` beside `tls_cert`; DTLS is off otherwise"},
    {[<<"raw-public-keys">>], ": keys come in certificates"},
    {[<<"secure-stun">>], ": Binding requests are answered without credentials"},
    {[<<"mongo-userdb">>],
     ": what is in such a database does not come over; `turnadmin -l` lists its users, for `users` "
     "or `meerkatctl users add`, and `turnadmin -S` its secrets, for `secret`"},
    {[<<"no-auth">>], ": nobody comes in without credentials here"},
    {[<<"server-relay">>], ": nothing is relayed without a permission"},
    {[<<"stun-only">>],
     ": TURN is served too; without `users` and with `secret = ()` nobody relays"},
    {[<<"no-udp-relay">>], ": UDP is what is relayed here"},
    {[<<"log-file">>, <<"syslog">>, <<"syslog-facility">>],
     ": the log goes to stderr, from where systemd or Docker have it"},
    {[<<"daemon">>, <<"pidfile">>, <<"proc-user">>, <<"proc-group">>],
     ": that is for whoever starts the server (docs/installing.md)"},
    {[<<"cli">>, <<"cli-ip">>, <<"cli-port">>, <<"cli-password">>, <<"cli-max-output-sessions">>,
      <<"web-admin">>, <<"web-admin-ip">>, <<"web-admin-port">>,
      <<"web-admin-listen-on-workers">>],
     ": meerkatctl is what an operator has here"},
    {[<<"rest-api-separator">>], ": time-limited usernames have a colon here"},
    {[<<"listening-device">>, <<"relay-device">>], ": addresses are named, not devices"},
    {[<<"tcp-proxy-port">>, <<"tcp-use-proxy">>],
     ": `proxy_protocol_from` names the load balancers whose header (PROXY protocol) is expected; "
     "they connect to any TCP or TLS port, this one where `extra_listeners` has it"},
    {[<<"tcp-alternate-server">>, <<"tls-alternate-server">>],
     ": clients are sent to those of `alternate_server`, whatever they came by"}
]).

-spec kinds() -> kinds().
kinds() ->
    #{same => ?SAME, composed => ?COMPOSED, anyway => ?ANYWAY, without => ?WITHOUT}.

-spec import(Text :: binary()) -> import().
import(Text) ->
    {Entries, Unread} = meerkat_import_lines:read(Text),
    {Same, NotSame} = same(Entries),
    Parts = [Part(Entries) || Part <- [
        fun meerkat_import_addresses:settings/1, fun meerkat_import_users:settings/1,
        fun meerkat_import_transports:settings/1, fun peers/1, fun nonces/1, fun elsewhere/1,
        fun threads/1, fun others/1]],
    Settings = Same ++ lists:append([S || {S, _} <- Parts]),
    Notes = lists:usort(Unread ++ NotSame ++ lists:append([N || {_, N} <- Parts])
                            ++ switches(Entries) ++ without_counterpart(Entries)),
    Became = [{Line, Key, became(Line, Key, Settings, Notes)} || {Line, Key, _} <- Entries],
    #{configuration => text(Settings, Notes, Became), notes => Notes, lines => Became}.

became(Line, Key, Settings, Notes) ->
    Keys = [atom_to_binary(Ours) || {Ours, _, Lines} <- Settings, lists:member(Line, Lines)],
    case {Keys, lists:keymember(Line, 1, Notes), lists:member(Key, ?ANYWAY)} of
        {[_ | _], _, _} -> lists:join(", ", lists:usort(Keys));
        {[], true, _} -> "nothing, see the note";
        {[], false, true} -> "nothing: it is so in any case";
        {[], false, false} -> "nothing: there is no need"
    end.

%%% One line, one key. Of a key that is given twice the last counts, as there.

same(Entries) ->
    Keys = [Key || Key <- lists:usort([Key || {_, Key, _} <- Entries]), is_map_key(Key, ?SAME)],
    Read = [{Key, Line, Value, scalar(maps:get(Key, ?SAME), Value)}
            || Key <- Keys, {ok, Line, Value} <- [last(Key, Entries)]],
    {[{maps:get(Key, ?SAME), Text, [Line]} || {Key, Line, _, {ok, Text}} <- Read],
     [{Line, [Key, Why]} || {Key, Line, _, {error, Why}} <- Read]
         ++ [{Line, [Key, " comes again; the last counts"]}
             || Key <- Keys, {Line, _} <- lists:droplast(all(Key, Entries))]
         ++ [{Line, kept(Key, Comment)}
             || {<<"realm">> = Key, Line, Value, {ok, _}} <- Read,
                {ok, Comment} <- [meerkat_import_lines:comment(Value)]]}.

kept(Key, Comment) ->
    [Key, ": to turnserver, and so here, \"", meerkat_text:escape(Comment),
     "\" is part of the text and no comment"].

%% As our table has it.
scalar(Ours, Value) ->
    {ok, #{type := Type}} = meerkat_config_schema:find(atom_to_binary(Ours)),
    Text = case {Type, meerkat_import_lines:switch(Value)} of
        {boolean, on} -> <<"true">>;
        {boolean, off} -> <<"false">>;
        {{integer, _, _}, _} -> meerkat_import_lines:number(Value);
        _ -> Value
    end,
    case meerkat_config_value:parse_text(Type, Text) of
        {ok, Parsed} when is_integer(Parsed) -> {ok, integer_to_binary(Parsed)};
        {ok, Parsed} when is_boolean(Parsed) -> {ok, atom_to_binary(Parsed)};
        {ok, Parsed} when is_map(Parsed) -> {ok, quoted(Value)};
        {ok, Parsed} -> {ok, quoted(Parsed)};
        {error, {Shown, Allowed}} -> {error, [" is ", Shown, "; it must be ", Allowed]}
    end.

is_on(Key, Entries) ->
    [Line || {ok, Line, Value} <- [last(Key, Entries)],
             meerkat_import_lines:switch(Value) =:= on].

%% What is said of switches as such.
switches(Entries) ->
    Off = [{Line, Key} || {Line, Key, Value} <- Entries,
                          meerkat_import_lines:switch(Value) =:= off],
    [{Line, [Key, " is off there; here it is so in any case"]}
     || {Line, Key} <- Off, lists:member(Key, ?ANYWAY)]
        ++ [{Line, [Key, ": turnserver takes this for on, whatever stands behind it; here it is "
                    "off, as it says"]} || {Line, Key} <- Off, lists:member(Key, ?ON_ANYWAY)].

%%% Peers

peers(Entries) ->
    {Allowed, Notes1} = meerkat_import_peers:networks(<<"allowed-peer-ip">>, Entries),
    {Denied, Notes2} = meerkat_import_peers:networks(<<"denied-peer-ip">>, Entries),
    Loopback = [{Line, Network} || Line <- is_on(<<"allow-loopback-peers">>, Entries),
                                   Network <- ["127.0.0.0/8", "::1"]],
    {[{Key, meerkat_config_value:libconfig_list([Network || {_, Network} <- Those]),
      lists:usort([L || {L, _} <- Those])}
      || {Key, Those} <- [{allowed_peers, Allowed ++ Loopback}, {denied_peers, Denied}],
         Those =/= []], Notes1 ++ Notes2}.

%%% The rest

%% 600 s when there is no number; 0 is for ever.
nonces(Entries) ->
    case last(<<"stale-nonce">>, Entries) of
        {ok, Line, <<>>} ->
            {[{nonce_lifetime, "600", [Line]}], []};
        {ok, Line, Text} ->
            case {meerkat_import_lines:number(Text), scalar(nonce_lifetime, Text)} of
                {<<"0">>, _} ->
                    {[], [{Line, "stale-nonce is 0: a nonce that is good for ever is not to be "
                                 "had"}]};
                {_, {ok, Seconds}} -> {[{nonce_lifetime, Seconds, [Line]}], []};
                {_, {error, Why}} -> {[], [{Line, ["stale-nonce", Why]}]}
            end;
        none ->
            {[], []}
    end.

elsewhere(Entries) ->
    Read = [{Line, Key, server(meerkat_import_lines:uncommented(Text))}
            || Key <- [<<"alternate-server">>, <<"udp-alternate-server">>],
               {Line, Text} <- all(Key, Entries)],
    Good = [{Line, Key, Server} || {Line, Key, {ok, Server}} <- Read],
    Servers = [meerkat_text:address(Server) || {_, _, Server} <- Good],
    {[{alternate_server, meerkat_config_value:libconfig_list(Servers),
       [Line || {Line, _, _} <- Good]} || Good =/= []],
     [{Line, [Key, ": clients are sent there while this server is drained, not always"]}
      || {Line, Key, _} <- Good]
         ++ [{Line, [Key, " is not an IP address with a port"]} || {Line, Key, error} <- Read]}.

%% Their port is 3478 unless it is said.
server(Text) ->
    case [Server || Tried <- [Text, [Text, ":3478"], ["[", Text, "]:3478"]],
                    {ok, Server} <- [meerkat_config_value:parse_text(
                                         server, iolist_to_binary(Tried))]] of
        [Server | _] -> {ok, Server};
        [] -> error
    end.

%% None there is the one thread that is there anyway.
threads(Entries) ->
    {ok, #{type := {integer, _, Max}}} = meerkat_config_schema:find(<<"workers">>),
    case last(<<"relay-threads">>, Entries) of
        {ok, Line, Text} ->
            case string:to_integer(meerkat_import_lines:number(Text)) of
                {N, <<>>} when is_integer(N), N > Max ->
                    {[{workers, integer_to_binary(Max), [Line]}],
                     [{Line, io_lib:format("relay-threads is ~b; there are ~b at most",
                                           [N, Max])}]};
                {N, <<>>} when is_integer(N) ->
                    {[{workers, integer_to_binary(max(1, N)), [Line]}], []};
                _ ->
                    {[], [{Line, ["relay-threads", element(2, scalar(workers, Text))]}]}
            end;
        none ->
            {[], []}
    end.

others(Entries) ->
    Buffers = [{Line, scalar(receive_buffer, Text)}
               || {ok, Line, Text} <- [last(<<"sock-buf-size">>, Entries)]],
    {Metrics, Notes} = metrics(Entries),
    {[{log_level, "\"debug\"", Lines}
      || [_ | _] = Lines <- [is_on(<<"verbose">>, Entries) ++ is_on(<<"Verbose">>, Entries)]]
     ++ [{software, "\"Meerkat\"", [Line]} || Line <- is_on(<<"software-attribute">>, Entries)]
     ++ [{Key, Bytes, [Line]} || {Line, {ok, Bytes}} <- Buffers,
                                 Key <- [receive_buffer, send_buffer]]
     ++ Metrics,
     [{Line, ["sock-buf-size", Why]} || {Line, {error, Why}} <- Buffers] ++ Notes}.

%% On all addresses unless one is said.
metrics(Entries) ->
    Said = fun(Key, Default) ->
        case last(Key, Entries) of
            {ok, Line, Value} -> {[Line], meerkat_import_lines:uncommented(Value)};
            none -> {[], Default}
        end
    end,
    {Line2, Address} = Said(<<"prometheus-address">>, <<"0.0.0.0">>),
    {Line3, Port} = Said(<<"prometheus-port">>, <<"9641">>),
    Shown = case binary:match(Address, <<":">>) of
        nomatch -> Address;
        _ -> ["[", Address, "]"]
    end,
    case is_on(<<"prometheus">>, Entries) of
        [] ->
            {[], []};
        Line1 ->
            Lines = Line1 ++ Line2 ++ Line3,
            Listen = iolist_to_binary([Shown, ":", Port]),
            case meerkat_config_value:parse_text(http_address, Listen) of
                {ok, _} ->
                    {[{http_listen, quoted(Listen), Lines}],
                     [{hd(Line1), "prometheus: turnserver shows its metrics on all addresses of "
                                  "the machine unless prometheus-address says one, and so does "
                                  "this"} || Line2 =:= []]};
                {error, {Is, Allowed}} ->
                    {[], [{hd(Lines), ["prometheus is at ", Is, "; it must be ", Allowed]}]}
            end
    end.

without_counterpart(Entries) ->
    Known = maps:keys(?SAME) ++ ?COMPOSED ++ ?ANYWAY ++ meerkat_import_transports:keys(),
    [{Line, [Key, why(Key)]} || {Line, Key, _} <- Entries, not lists:member(Key, Known)].

why(Key) ->
    case [Why || {Keys, Why} <- ?WITHOUT, lists:member(Key, Keys)] of
        [Why] -> Why;
        [] -> " has no counterpart"
    end.

%%% Our text

-spec text([setting()], [meerkat_import_lines:note()],
           [{pos_integer(), binary(), unicode:chardata()}]) -> unicode:chardata().
text(Settings, Notes, Became) ->
    [
        "# Made by `meerkatctl import` from a turnserver.conf; numbers are lines of that file.\n"
        "# Other than there: clients may not reach private networks unless allowed_peers has\n"
        "# them, and channel numbers above 0x4FFF, which older clients choose, are refused unless\n"
        "# rfc5766_channel_numbers is set; TCP is relayed to peers (RFC 6062), which is on there\n"
        "# without no-tcp-relay, if tcp_relay is set.\n",
        [["# ", place(Line), Note, "\n"] || {Line, Note} <- Notes],
        [["# ", place(Line), Key, " becomes ", What, "\n"]
         || {Line, Key, "nothing: " ++ _ = What} <- Became],
        "\n",
        [setting(Key, Settings) || #{key := Key} <- meerkat_config_schema:rows()]
    ].

place(0) -> "";
place(Line) -> [integer_to_list(Line), ": "].

setting(Key, Settings) ->
    [
        [atom_to_binary(Key), " = ", Value, ";",
         [["   # ", lists:join(", ", [integer_to_list(L) || L <- Lines])] || Lines =/= []], "\n"]
     || {Name, Value, Lines} <- Settings, Name =:= Key
    ].

quoted(Text) -> meerkat_config_value:libconfig(Text).
