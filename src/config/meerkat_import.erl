%% A coturn configuration (turnserver.conf) as one of ours: text in, text and notes out. What has no
%% counterpart is listed, never passed over. Pure; the result is for `meerkatctl config check`.
-module(meerkat_import).

-export([import/1]).
-export_type([note/0]).

%% A line of what was read, and what became of it that the operator should know.
-type note() :: {Line :: pos_integer(), unicode:chardata()}.

-type entry() :: {Line :: pos_integer(), Key :: binary(), Value :: binary()}.
%% A key of ours, its value in libconfig syntax, the lines it comes from.
-type setting() :: {Key :: atom(), iodata(), [pos_integer()]}.

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
    <<"rfc5780">> => rfc5780,
    <<"alt-listening-port">> => alternate_listen_port,
    <<"rfc3489-compatibility">> => rfc3489_compatibility,
    <<"rfc5766-channel-numbers">> => rfc5766_channel_numbers,
    <<"relay-threads">> => workers,
    <<"unauthorized-ratelimit-rps">> => unauthenticated_rate
}).
%% Put together from several lines, below.
-define(COMPOSED, [
    <<"listening-ip">>, <<"relay-ip">>, <<"external-ip">>, <<"user">>, <<"static-auth-secret">>,
    <<"use-auth-secret">>, <<"lt-cred-mech">>, <<"allowed-peer-ip">>, <<"denied-peer-ip">>,
    <<"allow-loopback-peers">>, <<"stale-nonce">>, <<"alternate-server">>, <<"verbose">>,
    <<"Verbose">>, <<"software-attribute">>, <<"sock-buf-size">>, <<"prometheus">>,
    <<"prometheus-port">>, <<"prometheus-address">>
]).
%% What they say is so here in any case.
-define(ANYWAY, [
    <<"fingerprint">>, <<"no-cli">>, <<"no-tls">>, <<"no-dtls">>, <<"no-tcp">>, <<"no-tcp-relay">>,
    <<"no-multicast-peers">>, <<"no-loopback-peers">>, <<"no-tlsv1">>, <<"no-tlsv1_1">>,
    <<"no-tlsv1_2">>, <<"no-software-attribute">>, <<"no-rfc5780">>, <<"stateless-nonce">>,
    <<"no-stun-backward-compatibility">>, <<"response-origin-only-with-rfc5780">>,
    <<"drop-invalid-packets">>, <<"unauthorized-ratelimit">>, <<"udp-recvmmsg">>,
    <<"no-web-admin">>, <<"simple-log">>, <<"new-log-timestamp">>, <<"no-stdout-log">>
]).

%% The file of ours, in UTF-8, and what it does not say, by line.
-spec import(Text :: binary()) -> {unicode:chardata(), [note()]}.
import(Text) ->
    {Entries, Unread} = entries(Text),
    {Same, NotSame} = same(Entries),
    Parts = [Part(Entries) || Part <- [
        fun addresses/1, fun secrets/1, fun users/1, fun peers/1, fun nonces/1, fun elsewhere/1,
        fun others/1]],
    Settings = Same ++ lists:append([S || {S, _} <- Parts]),
    Notes = lists:sort(Unread ++ NotSame ++ lists:append([N || {_, N} <- Parts])
                           ++ without_counterpart(Entries)),
    {text(Settings, Notes), Notes}.

%%% Lines

%% key=value, or a key by itself; # begins a comment where a line does.
entries(Text) ->
    Lines = binary:split(Text, [<<"\r\n">>, <<"\n">>], [global]),
    Numbered = lists:zip(lists:seq(1, length(Lines)), [string:trim(Line) || Line <- utf8(Lines)]),
    lists:foldr(
        fun
            ({_, <<>>}, Acc) ->
                Acc;
            ({_, <<"#", _/binary>>}, Acc) ->
                Acc;
            ({N, Line}, {Entries, Unread}) ->
                [Key | Rest] = [string:trim(Part) || Part <- binary:split(Line, <<"=">>)],
                case re:run(Key, "^-{0,2}([A-Za-z0-9_-]+)$", [{capture, all_but_first, binary}]) of
                    {match, [Name]} -> {[{N, Name, iolist_to_binary(Rest)} | Entries], Unread};
                    nomatch -> {Entries, [{N, "this is no line of a turnserver.conf"} | Unread]}
                end
        end,
        {[], []},
        Numbered
    ).

utf8(Lines) ->
    [case unicode:characters_to_list(Line) of
         Chars when is_list(Chars) -> Line;
         _ -> unicode:characters_to_binary(Line, latin1)
     end || Line <- Lines].

-spec all(binary(), [entry()]) -> [{pos_integer(), binary()}].
all(Key, Entries) ->
    [{Line, Value} || {Line, Name, Value} <- Entries, Name =:= Key].

is_on(Key, Entries) ->
    [Line || {Line, Value} <- all(Key, Entries),
             not lists:member(Value, [<<"0">>, <<"no">>, <<"false">>])].

%%% One line, one key. Of a key that is given twice the first counts, as there.

same(Entries) ->
    Found = [{Line, Key, Value} || {Line, Key, Value} <- Entries, is_map_key(Key, ?SAME)],
    lists:foldl(
        fun({Line, Key, Value}, {Settings, Notes}) ->
            Ours = maps:get(Key, ?SAME),
            case {lists:keymember(Ours, 1, Settings), scalar(Ours, Value)} of
                {true, _} -> {Settings, Notes ++ [{Line, [Key, " comes twice; the first counts"]}]};
                {_, {ok, Text}} -> {Settings ++ [{Ours, Text, [Line]}], Notes};
                {_, {error, Why}} -> {Settings, Notes ++ [{Line, [Key, Why]}]}
            end
        end,
        {[], []},
        Found
    ).

%% As our table has it. A key without a value is a switch that is on.
scalar(Ours, Value) ->
    {ok, #{type := Type}} = meerkat_config_schema:find(atom_to_binary(Ours)),
    Text = case {Type, Value} of {boolean, <<>>} -> <<"true">>; _ -> Value end,
    case meerkat_config_value:parse_text(Type, Text) of
        {ok, Parsed} when is_integer(Parsed) -> {ok, integer_to_binary(Parsed)};
        {ok, Parsed} when is_boolean(Parsed) -> {ok, atom_to_binary(Parsed)};
        {ok, Parsed} -> {ok, quoted(Parsed)};
        {error, {Shown, Allowed}} -> {error, [" is ", Shown, "; it must be ", Allowed]}
    end.

%%% Addresses

addresses(Entries) ->
    {Listening, Notes1} = ips(<<"listening-ip">>, Entries),
    {Relaying, Notes2} = ips(<<"relay-ip">>, Entries),
    {External, Notes3} = external(Entries),
    {listening(Listening, is_on(<<"rfc5780">>, Entries)) ++ relaying(Relaying, External),
     Notes1 ++ Notes2 ++ Notes3}.

ips(Key, Entries) ->
    Read = [{Line, Text, meerkat_config_value:parse_text(listen_address, Text)}
            || {Line, Text} <- all(Key, Entries)],
    {[{Line, Ip} || {Line, _, {ok, Ip}} <- Read, Ip =/= any],
     [{Line, [Key, " is \"", meerkat_text:escape(Text), "\"; only an IP address can be here"]}
      || {Line, Text, Parsed} <- Read, Parsed =:= {ok, any} orelse element(1, Parsed) =:= error]}.

external(Entries) ->
    Read = [{Line, Text, meerkat_config_value:parse_text(relay_ip, Text)}
            || {Line, Text} <- all(<<"external-ip">>, Entries)],
    {[{Line, Ip} || {Line, _, {ok, Ip}} <- Read],
     [{Line, ["external-ip is \"", meerkat_text:escape(Text), "\"; only PUBLIC or PUBLIC/PRIVATE "
              "addresses can be here"]} || {Line, Text, {error, _}} <- Read]}.

%% Of two addresses of a family RFC 5780 takes the second for the alternate one.
listening([], _) ->
    [];
listening(Ips, []) ->
    [{listen_ip, texts([meerkat_text:ip(Ip) || {_, Ip} <- Ips]), lines(Ips)}];
listening(Ips, _) ->
    Firsts = [hd(Of) || Of <- [of_family(4, Ips), of_family(8, Ips)], Of =/= []],
    Seconds = [Second || [_, Second | _] <- [of_family(4, Ips), of_family(8, Ips)]],
    [{listen_ip, texts([meerkat_text:ip(Ip) || {_, Ip} <- Firsts]), lines(Firsts)}]
        ++ [{alternate_listen_ip, texts([meerkat_text:ip(Ip) || {_, Ip} <- Seconds]),
             lines(Seconds)} || Seconds =/= []].

of_family(Size, Ips) ->
    [{Line, Ip} || {Line, Ip} <- Ips, tuple_size(Ip) =:= Size].

relaying([], []) ->
    [];
relaying(Relaying, External) ->
    Pairs = [Pair || {_, {_, _} = Pair} <- External],
    Alone = [Ip || {_, Ip} <- External, tuple_size(Ip) > 2],
    Named = [told(Ip, Pairs, [A || A <- Alone, tuple_size(A) =:= tuple_size(Ip)],
                  length(of_family(tuple_size(Ip), Relaying))) || {_, Ip} <- Relaying],
    Rest = case Relaying of [] -> Pairs ++ Alone; _ -> [] end,
    [{relay_ip, texts([meerkat_config_value:render(relay_ip, R) || R <- Named ++ Rest]),
      lists:sort(lines(Relaying) ++ lines(External))}].

%% What stands before the slash is told for what stands behind it, or for the only one there is.
told(Ip, Pairs, Alone, Siblings) ->
    case {[Told || {Told, Bound} <- Pairs, Bound =:= Ip], Alone} of
        {[Told | _], _} -> {Told, Ip};
        {[], [Told]} when Siblings =:= 1, Told =/= Ip -> {Told, Ip};
        {[], _} -> Ip
    end.

%%% Who may come in

%% Without a secret there is none: then users alone come in, or nobody.
secrets(Entries) ->
    {Empty, Secrets} = lists:partition(fun({_, Secret}) -> Secret =:= <<>> end,
                                       all(<<"static-auth-secret">>, Entries)),
    {Settings, Notes} = secrets(Secrets, Entries),
    {Settings, Notes ++ [{Line, "static-auth-secret is empty"} || {Line, _} <- Empty]}.

secrets(Secrets, Entries) ->
    case {Secrets, is_on(<<"use-auth-secret">>, Entries)} of
        {[_ | _], _} ->
            {[{secret, texts([Secret || {_, Secret} <- Secrets]), lines(Secrets)}], []};
        {[], [Line | _]} ->
            {[], [{Line, "use-auth-secret without static-auth-secret: secrets in a database are "
                         "not known here; without `secret` one is drawn at each start"}]};
        {[], []} ->
            {[{secret, "()", []} || all(<<"user">>, Entries) =/= []], []}
    end.

users(Entries) ->
    Read = [{Line, user(binary:split(Text, <<":">>))} || {Line, Text} <- all(<<"user">>, Entries)],
    Users = [{Line, User} || {Line, {ok, User}} <- Read],
    Notes = [{Line, Why} || {Line, {error, Why}} <- Read],
    Groups = [["\n    { name = ", quoted(Name), "; ", Field, " = ", quoted(Proof), "; }"]
              || {_, {Name, Field, Proof}} <- Users],
    {[{users, ["(", lists:join(",", Groups), "\n)"], lines(Users)} || Users =/= []], Notes}.

user([Name, <<"0x", Key:32/binary>> = Proof]) ->
    case re:run(Key, "^[0-9A-Fa-f]{32}$") of
        {match, _} -> user(Name, "key", Key);
        nomatch -> user(Name, "password", Proof)
    end;
user([Name, Password]) ->
    user(Name, "password", Password);
user(_) ->
    {error, "user is not NAME:PASSWORD or NAME:0xKEY"}.

user(Name, Field, Proof) ->
    Type = case Field of "key" -> key; _ -> password end,
    case {meerkat_config_value:parse_text({opaque_string, 508}, Name),
          meerkat_config_value:parse_text(Type, Proof)} of
        {{ok, _}, {ok, _}} -> {ok, {Name, Field, Proof}};
        _ -> {error, "user has a name or a password that RFC 8265 (OpaqueString) disallows"}
    end.

%%% Peers

peers(Entries) ->
    {Allowed, Notes1} = networks(<<"allowed-peer-ip">>, Entries),
    {Denied, Notes2} = networks(<<"denied-peer-ip">>, Entries),
    Loopback = [{Line, Network} || [Line | _] <- [is_on(<<"allow-loopback-peers">>, Entries)],
                                   Network <- ["127.0.0.0/8", "::1"]],
    {[{Key, texts([Network || {_, Network} <- Those]), lists:usort(lines(Those))}
      || {Key, Those} <- [{allowed_peers, Allowed ++ Loopback}, {denied_peers, Denied}],
         Those =/= []], Notes1 ++ Notes2}.

networks(Key, Entries) ->
    Read = [{Line, Text, range(binary:split(Text, <<"-">>))} || {Line, Text} <- all(Key, Entries)],
    {[{Line, meerkat_text:network(Network)} || {Line, _, {ok, Networks}} <- Read,
                                               Network <- Networks],
     [{Line, [Key, " is \"", meerkat_text:escape(Text), "\"; an address, a network or FIRST-LAST "
              "can be here"]} || {Line, Text, error} <- Read]}.

range([First, Last]) ->
    case [meerkat_config_value:parse_text(listen_address, Ip) || Ip <- [First, Last]] of
        [{ok, A}, {ok, B}] when tuple_size(A) =:= tuple_size(B) ->
            Width = case tuple_size(A) of 4 -> 32; 8 -> 128 end,
            covering(number(A), number(B), Width);
        _ ->
            error
    end;
range([Network]) ->
    case meerkat_config_value:parse_text(network, Network) of
        {ok, Parsed} -> {ok, [Parsed]};
        {error, _} -> error
    end.

covering(First, Last, Width) when First =< Last -> {ok, cover(First, Last, Width)};
covering(_, _, _) -> error.

%% The fewest networks: each time the largest that begins here and does not reach too far.
cover(First, Last, _) when First > Last ->
    [];
cover(First, Last, Width) ->
    Bits = largest(First, Last, 0, Width),
    [{address(First, Width), Width - Bits} | cover(First + (1 bsl Bits), Last, Width)].

largest(First, Last, Bits, Width) ->
    Next = Bits + 1,
    case Next =< Width andalso First band ((1 bsl Next) - 1) =:= 0
        andalso First + (1 bsl Next) - 1 =< Last of
        true -> largest(First, Last, Next, Width);
        false -> Bits
    end.

number(Ip) ->
    Part = case tuple_size(Ip) of 4 -> 8; 8 -> 16 end,
    lists:foldl(fun(N, Acc) -> (Acc bsl Part) bor N end, 0, tuple_to_list(Ip)).

address(Number, 32) -> list_to_tuple([B || <<B>> <= <<Number:32>>]);
address(Number, 128) -> list_to_tuple([P || <<P:16>> <= <<Number:128>>]).

%%% The rest

%% 600 s when there is no number; 0 is for ever.
nonces(Entries) ->
    case all(<<"stale-nonce">>, Entries) of
        [{Line, <<>>} | _] ->
            {[{nonce_lifetime, "600", [Line]}], []};
        [{Line, <<"0">>} | _] ->
            {[], [{Line, "stale-nonce is 0: a nonce that is good for ever is not to be had"}]};
        [{Line, Text} | _] ->
            case scalar(nonce_lifetime, Text) of
                {ok, Seconds} -> {[{nonce_lifetime, Seconds, [Line]}], []};
                {error, Why} -> {[], [{Line, ["stale-nonce", Why]}]}
            end;
        [] ->
            {[], []}
    end.

elsewhere(Entries) ->
    Read = [{Line, server(Text)} || {Line, Text} <- all(<<"alternate-server">>, Entries)],
    Good = [{Line, Server} || {Line, {ok, Server}} <- Read],
    {[{alternate_server, texts([meerkat_text:address(Server) || {_, Server} <- Good]), lines(Good)}
      || Good =/= []],
     [{Line, "alternate-server: clients are sent there while this server is drained, not always"}
      || {Line, _} <- Good]
         ++ [{Line, "alternate-server is not an IP address with a port"}
             || {Line, error} <- Read]}.

%% Their port is 3478 unless it is said.
server(Text) ->
    case [Server || Tried <- [Text, [Text, ":3478"], ["[", Text, "]:3478"]],
                    {ok, Server} <- [meerkat_config_value:parse_text(
                                         server, iolist_to_binary(Tried))]] of
        [Server | _] -> {ok, Server};
        [] -> error
    end.

others(Entries) ->
    Buffers = [{Line, scalar(receive_buffer, Text), Text}
               || {Line, Text} <- all(<<"sock-buf-size">>, Entries)],
    {[{log_level, "\"debug\"", [Line]}
      || [Line | _] <- [is_on(<<"verbose">>, Entries) ++ is_on(<<"Verbose">>, Entries)]]
     ++ [{software, "\"Meerkat\"", [Line]} || [Line | _] <- [is_on(<<"software-attribute">>,
                                                                   Entries)]]
     ++ [{Key, Bytes, [Line]} || [{Line, {ok, Bytes}, _} | _] <- [Buffers],
                                 Key <- [receive_buffer, send_buffer]]
     ++ metrics(Entries),
     [{Line, ["sock-buf-size", Why]} || {Line, {error, Why}, _} <- Buffers]}.

metrics(Entries) ->
    First = fun(Key, Default) ->
        hd([Value || {_, Value} <- all(Key, Entries)] ++ [Default])
    end,
    Address = First(<<"prometheus-address">>, <<"127.0.0.1">>),
    Shown = case binary:match(Address, <<":">>) of
        nomatch -> Address;
        _ -> ["[", Address, "]"]
    end,
    [{http_listen, quoted(iolist_to_binary([Shown, ":", First(<<"prometheus-port">>, <<"9641">>)])),
      [Line]} || [Line | _] <- [is_on(<<"prometheus">>, Entries)]].

without_counterpart(Entries) ->
    Known = maps:keys(?SAME) ++ ?COMPOSED ++ ?ANYWAY,
    [{Line, [Key, why(Key)]} || {Line, Key, _} <- Entries, not lists:member(Key, Known)].

why(<<"no-auth">>) -> ": nobody comes in without credentials here";
why(<<"tls-listening-port">>) -> ": TLS and DTLS are not served";
why(<<"cert">>) -> ": TLS and DTLS are not served";
why(<<"pkey">>) -> ": TLS and DTLS are not served";
why(<<"server-relay">>) -> ": nothing is relayed without a permission";
why(_) -> " has no counterpart".

%%% Our text

-spec text([setting()], [note()]) -> unicode:chardata().
text(Settings, Notes) ->
    [
        "# Made by `meerkatctl import` from a turnserver.conf; numbers are lines of that file.\n"
        "# Other than there: clients may not reach private networks unless allowed_peers has\n"
        "# them, and `secret` is also the password of any username.\n",
        [io_lib:format("# ~b: ~ts~n", [Line, Note]) || {Line, Note} <- Notes],
        "\n",
        [setting(Key, Settings) || #{key := Key} <- meerkat_config_schema:rows()]
    ].

setting(Key, Settings) ->
    [
        [atom_to_binary(Key), " = ", Value, ";",
         [["   # ", lists:join(", ", [integer_to_list(L) || L <- Lines])] || Lines =/= []], "\n"]
     || {Name, Value, Lines} <- Settings, Name =:= Key
    ].

lines(Found) ->
    [Line || {Line, _} <- Found].

texts(Texts) ->
    ["( ", lists:join(", ", [quoted(unicode:characters_to_binary(Text)) || Text <- Texts]), " )"].

%% libconfig's quoting; the bytes are UTF-8 and stay it.
quoted(Text) ->
    Inside = << <<(escaped(Byte))/binary>> || <<Byte>> <= Text >>,
    <<$", Inside/binary, $">>.

escaped($") -> <<"\\\"">>;
escaped($\\) -> <<"\\\\">>;
escaped(C) when C < 32; C =:= 127 -> iolist_to_binary(io_lib:format("\\x~2.16.0b", [C]));
escaped(C) -> <<C>>.
