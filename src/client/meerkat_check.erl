%% Is that TURN server usable from here? Walks through everything a client does, on two
%% allocations that send to each other, and says which step failed and why; a STUN server is asked
%% for a Binding only. It works with any server: it knows only what meerkat_client shows, and
%% nothing of a server in this VM. meerkat_check_command is the command, meerkat_check_words has the
%% texts.
-module(meerkat_check).

%% API.
-export([run/1]).
-export([procedure/1]).
-export([rest_credentials/3]).

%% As in meerkat_client:options(), but for these. `report` is called with each step as it finishes.
%% `family` of the relayed addresses; default: the server's choice.
-type options() :: #{server := unicode:chardata() | {inet:ip_address() | string(),
                                                     inet:port_number()},
                     transport => meerkat_client_socket:transport(),
                     username => unicode:chardata(),
                     password => unicode:chardata(),
                     family => inet | inet6,
                     report => fun((step()) -> term()),
                     rto => pos_integer(), rc => pos_integer(), rm => pos_integer(),
                     ti => pos_integer(),
                     cacertfile => file:name_all(), fingerprint => unicode:chardata(),
                     insecure => boolean()}.

%% `ms`: how long it took. `detail`: what was learnt; on error the reason in words. `hint`: what to
%% do about it.
-type step() :: #{name := name(), ms := float(), result := ok | {error, term()},
                  detail := unicode:chardata(), hint => unicode:chardata()}.
-type name() :: connect | binding | allocate | permission | indications | channel
              | channel_data | refresh | release.
-export_type([options/0, step/0, name/0]).

%% What a step hands on. `other` is the second allocation or, when the server relays to no relayed
%% address, a socket of our own.
-record(check, {options :: options(),
                server :: unicode:chardata(),
                this :: undefined | end_point(),
                other :: undefined | end_point()}).

-type end_point() :: {client, pid(), undefined | meerkat_client:address()}
                   | {socket, gen_udp:socket(), Reflexive :: meerkat_client:address()}.

%% Somebody waits for the result, so it is tried for a shorter time than RFC 8489 has: requests at
%% 0, 0.5, 1.5 and 3.5 s, and after 6.5 s without an answer the step has failed.
-define(TIMES, #{rto => 500, rc => 4, rm => 6, ti => 6500}).
%% UDP may lose the payload; it is sent that often.
-define(PAYLOAD_TRIES, 5).
-define(PAYLOAD_WAIT_MS, 600).

%% ----------------------------------------------------------------------------------------- API

%% Runs the check and returns the steps in the order they were tried; the first that fails is the
%% last, but allocations are given back in any case. Takes no message from the caller's mailbox.
-spec run(options()) -> {ok | error, [step()]}.
run(Options) ->
    Caller = self(),
    {Pid, Monitor} = spawn_monitor(
        fun() ->
                _ = process_flag(trap_exit, true),
                Caller ! {self(), steps(Options)}
        end),
    receive
        {Pid, Result} ->
            true = demonitor(Monitor, [flush]),
            Result;
        {'DOWN', Monitor, process, Pid, Reason} ->
            error(Reason)
    end.

%% Time-limited credentials from a shared secret, as servers with the TURN REST scheme verify them:
%% the password is the signed user name, which begins with the Unix time it ends at.
-spec rest_credentials(Secret, Name :: string(), TtlSeconds :: pos_integer()) ->
          {Username :: binary(), Password :: binary()} when Secret :: unicode:chardata().
rest_credentials(Secret, Name, Ttl) ->
    Username = unicode:characters_to_binary(
        [integer_to_list(meerkat_clock:wall_s() + Ttl), ":", Name]),
    %% A secret is bytes; they need not be text.
    Key = case is_binary(Secret) of
        true -> Secret;
        false -> unicode:characters_to_binary(Secret)
    end,
    {Username, base64:encode(crypto:mac(hmac, sha, Key, Username))}.

%% ----------------------------------------------------------------------------------- procedure

%% The steps for that server, in the order of a client's life.
-spec procedure(options()) -> [name()].
procedure(Options) ->
    [Name || {Name, _} <- functions(Options)].

%% Each takes what the one before hands on.
functions(Options) ->
    Connect = [{connect, fun connect/1} || is_connection(Options)],
    Turn = [{allocate, fun allocate/1},
            {permission, fun permission/1},
            {indications, fun(Check) -> exchange(indication, Check) end},
            {channel, fun channel/1},
            {channel_data, fun(Check) -> exchange(channel, Check) end},
            {refresh, fun refresh/1},
            {release, fun release/1}],
    Connect ++ [{binding, fun binding/1}] ++ [Step || is_turn(Options), Step <- Turn].

is_turn(#{server := {_, _}}) ->
    true;
is_turn(#{server := Server}) ->
    case meerkat_client_uri:parse(Server) of
        {ok, #{scheme := Scheme}} -> Scheme =:= turn orelse Scheme =:= turns;
        {error, _} -> true
    end.

is_connection(Options) ->
    case transport(Options) of
        {ok, Transport} -> meerkat_client_socket:is_connection(Transport);
        {error, _} -> false
    end.

transport(#{server := {_, _}} = Options) ->
    {ok, maps:get(transport, Options, udp)};
transport(#{server := Server}) ->
    case meerkat_client_uri:parse(Server) of
        {ok, Uri} -> meerkat_client_uri:transport(Uri);
        {error, _} = Failed -> Failed
    end.

steps(Options) ->
    Report = maps:get(report, Options, fun(_) -> ok end),
    steps(functions(Options), Report,
          #check{options = Options, server = meerkat_check_words:server(Options)}, []).

steps([], _, Check, Done) ->
    ok = close(Check),
    {ok, lists:reverse(Done)};
steps([{Name, Try} | Rest], Report, Check, Done) ->
    Start = erlang:monotonic_time(microsecond),
    Outcome = Try(Check),
    Step = step(Name, Outcome, Check, (erlang:monotonic_time(microsecond) - Start) / 1000),
    _ = Report(Step),
    case Outcome of
        {ok, _, Next} ->
            steps(Rest, Report, Next, [Step | Done]);
        {error, _, Next} ->
            ok = close(Next),
            {error, lists:reverse([Step | Done])}
    end.

step(Name, {ok, Detail, _}, _, Ms) ->
    #{name => Name, ms => Ms, result => ok, detail => Detail};
step(Name, {error, Reason, #check{server = Server}}, #check{options = Options}, Ms) ->
    Step = #{name => Name, ms => Ms, result => {error, Reason},
             detail => meerkat_check_words:reason(Reason, Server)},
    Way = #{stream => is_connection(Options), dtls => transport(Options) =:= {ok, dtls}},
    case meerkat_check_words:hint(Name, Reason, maps:merge(Options, Way)) of
        none -> Step;
        Hint -> Step#{hint => Hint}
    end.

connect(Check) ->
    case started(Check) of
        {ok, #{transport := Transport} = Info, Next} ->
            {ok, meerkat_check_words:connection(Transport, Info), Next};
        Failed ->
            Failed
    end.

%% Over UDP there is nothing to connect.
binding(#check{this = undefined} = Check) ->
    case started(Check) of
        {ok, _, Next} -> binding(Next);
        Failed -> Failed
    end;
binding(#check{this = {client, Client, _}} = Check) ->
    case meerkat_client:binding(Client) of
        {ok, Mapped} -> {ok, ["seen as ", meerkat_client:format_address(Mapped)], Check};
        {error, Reason} -> {error, Reason, Check}
    end.

started(#check{options = Options} = Check) ->
    case start(Options) of
        {ok, Client} ->
            #{server := Server} = Info = meerkat_client:info(Client),
            {ok, Info, Check#check{server = meerkat_client:format_address(Server),
                                   this = {client, Client, undefined}}};
        {error, Reason} ->
            {error, Reason, Check}
    end.

start(Options) ->
    meerkat_client:start_link(
        maps:merge(?TIMES, maps:without([report], Options))).

allocate(#check{this = {client, A, _}} = Check) ->
    case meerkat_client:allocate(A) of
        {ok, #{relayed := RelayedA, lifetime := Lifetime}} ->
            #{server := Server} = meerkat_client:info(A),
            Now = meerkat_client:format_address(Server),
            Next = Check#check{this = {client, A, RelayedA}, server = Now},
            allocate_twice(Lifetime, sent_on(Check, Now), Next);
        {error, Reason} ->
            {error, Reason, Check}
    end.

%% The client follows a redirection by itself. It is told here, for the relayed address is then
%% another server's.
sent_on(#check{server = Asked}, Now) ->
    case unicode:characters_to_binary(Asked) =:= unicode:characters_to_binary(Now) of
        true -> "";
        false -> ["sent on to ", Now, " (300), "]
    end.

allocate_twice(Lifetime, SentOn, #check{options = Options} = Next) ->
    case start(Options) of
        {ok, B} -> allocate_other(B, Lifetime, SentOn, Next);
        {error, Reason} -> {error, Reason, Next}
    end.

allocate_other(B, Lifetime, SentOn, #check{this = {client, _, RelayedA}} = Check) ->
    case meerkat_client:allocate(B) of
        {ok, #{relayed := RelayedB}} ->
            {ok, [SentOn, "relayed at ", meerkat_client:format_address(RelayedA), " and ",
                  meerkat_client:format_address(RelayedB), " for ", seconds(Lifetime)],
             Check#check{other = {client, B, RelayedB}}};
        {error, Reason} ->
            {error, Reason, Check#check{other = {client, B, undefined}}}
    end.

permission(#check{this = This, other = Other} = Check) ->
    case both([fun() -> permit(This, Other) end, fun() -> permit(Other, This) end]) of
        {ok, _} -> {ok, "from relay to relay", Check};
        {error, {403, _}} -> permission_outside(Check);
        {error, Reason} -> {error, Reason, Check}
    end.

%% Some servers relay to no address of their own. Then we are the peer, where the server sees us;
%% the second allocation has no part in it any more.
permission_outside(#check{this = {client, A, _} = This, other = {client, B, _}} = Check) ->
    Info = meerkat_client:info(A),
    ok = meerkat_client:close(B),
    case peer_socket(Info) of
        {ok, {socket, _, Reflexive} = Other} ->
            Next = Check#check{other = Other},
            case permit(This, Other) of
                ok ->
                    {ok, ["the server forbids its own relay addresses as peers (403), so the peer "
                          "is a socket here, at ", meerkat_client:format_address(Reflexive)], Next};
                {error, Reason} ->
                    {error, {outside, Reflexive, Reason}, Next}
            end;
        {error, Reason} ->
            {error, Reason, Check#check{other = undefined}}
    end.

permit({client, Client, _}, Peer) ->
    meerkat_client:permit(Client, address(Peer));
permit({socket, _, _}, _) ->
    ok.

channel(#check{this = This, other = Other} = Check) ->
    case both([fun() -> bind(This, Other) end, fun() -> bind(Other, This) end]) of
        {ok, Numbers} ->
            {ok, ["channel ", lists:join(" and ", [io_lib:format("0x~4.16.0b", [N])
                                                   || N <- Numbers, N =/= none])], Check};
        {error, Reason} ->
            {error, Reason, Check}
    end.

bind({client, Client, _}, Peer) ->
    meerkat_client:bind_channel(Client, address(Peer));
bind({socket, _, _}, _) ->
    {ok, none}.

%% A socket of ours speaks first: its packet opens the NAT it may stand behind.
exchange(Via, #check{this = This, other = Other} = Check) ->
    case both([fun() -> deliver(Other, This, Via) end, fun() -> deliver(This, Other, Via) end]) of
        {ok, Sizes} -> {ok, ["2 x ", integer_to_list(hd(Sizes)), " bytes"], Check};
        {error, Reason} -> {error, Reason, Check}
    end.

refresh(#check{this = {client, Client, _}} = Check) ->
    case meerkat_client:refresh(Client) of
        {ok, Lifetime} -> {ok, ["for ", seconds(Lifetime)], Check};
        {error, Reason} -> {error, Reason, Check}
    end.

release(#check{this = This, other = Other} = Check) ->
    case both([fun() -> give_back(This) end, fun() -> give_back(Other) end]) of
        {ok, _} -> {ok, "", Check};
        {error, Reason} -> {error, Reason, Check}
    end.

give_back({client, Client, _}) -> meerkat_client:release(Client);
give_back({socket, _, _}) -> ok.

%% Both in turn, or the first error.
both([First, Second]) ->
    case First() of
        {error, _} = Failed -> Failed;
        One ->
            case Second() of
                {error, _} = Failed -> Failed;
                Two -> {ok, [Value || {ok, Value} <- [One, Two]]}
            end
    end.

close(#check{this = This, other = Other}) ->
    lists:foreach(fun({client, Client, _}) -> ok = meerkat_client:close(Client);
                     ({socket, Socket, _}) -> ok = gen_udp:close(Socket);
                     (undefined) -> ok
                  end, [This, Other]).

address({client, _, Relayed}) -> Relayed;
address({socket, _, Reflexive}) -> Reflexive.

%% ------------------------------------------------------------------------------------- payload

%% Random, so that nothing an earlier try left under way counts; as long as a packet of speech. Not
%% from crypto, whose loading would show as the server's time.
deliver(From, To, Via) ->
    deliver(From, To, Via, rand:bytes(160), ?PAYLOAD_TRIES).

deliver(From, To, _, _, 0) ->
    {error, {payload_lost, element(1, From), element(1, To)}};
deliver(From, To, Via, Payload, Tries) ->
    ok = send(From, address(To), Payload),
    case arrived(To, Payload) of
        {ok, Way} when Way =:= Via; Way =:= socket -> {ok, byte_size(Payload)};
        {ok, Other} -> {error, {came_by, Other}};
        timeout -> deliver(From, To, Via, Payload, Tries - 1);
        {error, _} = Failed -> Failed
    end.

send({client, Client, _}, Peer, Payload) ->
    meerkat_client:send(Client, Peer, Payload);
send({socket, Socket, _}, {Ip, Port}, Payload) ->
    _ = gen_udp:send(Socket, Ip, Port, Payload),
    ok.

arrived({client, Client, _}, Payload) ->
    receive
        {meerkat_client, Client, {data, _, Payload, Via}} -> {ok, Via};
        {meerkat_client, Client, {lost, {allocation, Reason}}} -> {error, Reason}
    after ?PAYLOAD_WAIT_MS -> timeout
    end;
arrived({socket, Socket, _}, Payload) ->
    receive
        {udp, Socket, _, _, Payload} -> {ok, socket}
    after ?PAYLOAD_WAIT_MS -> timeout
    end.

%% A socket that is open to everybody, and where the server sees it. meerkat_client has none: its
%% socket speaks with the server alone. A server that is reached by TCP may not answer by UDP; then
%% the socket's own address is taken, which is right where there is no NAT.
peer_socket(#{transport := Transport, local := {Ip, _} = Local, mapped := Mapped,
              server := Server}) ->
    Family = case tuple_size(Ip) of
                 4 -> [inet];
                 8 -> [inet6, {ipv6_v6only, true}]
             end,
    case gen_udp:open(0, [binary, {active, true} | Family]) of
        {ok, Socket} when Transport =/= udp, Local =:= Mapped ->
            {ok, Port} = inet:port(Socket),
            {ok, {socket, Socket, {Ip, Port}}};
        {ok, Socket} ->
            reflexive(Socket, Server, maps:get(rc, ?TIMES));
        {error, _} = Failed ->
            Failed
    end.

reflexive(Socket, _, 0) ->
    ok = gen_udp:close(Socket),
    {error, timeout};
reflexive(Socket, {Ip, Port} = Server, Tries) ->
    Id = meerkat_stun:transaction_id(),
    Request = meerkat_stun:encode(#{class => request, method => binding, transaction_id => Id,
                                    attributes => []}),
    _ = gen_udp:send(Socket, Ip, Port, Request),
    receive
        {udp, Socket, Ip, Port, Packet} ->
            case meerkat_stun:decode(Packet) of
                {ok, #{class := success, transaction_id := Id} = Answer} ->
                    {ok, Mapped} = meerkat_stun:get(xor_mapped_address, Answer),
                    {ok, {socket, Socket, Mapped}};
                _ ->
                    reflexive(Socket, Server, Tries - 1)
            end
    after maps:get(rto, ?TIMES) ->
        reflexive(Socket, Server, Tries - 1)
    end.

seconds(Seconds) -> [integer_to_list(Seconds), " s"].
