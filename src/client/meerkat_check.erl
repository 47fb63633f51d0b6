%% Is that TURN server usable from here? Walks through everything a client does, on two
%% allocations that send to each other, and says where it ends and why. The judge of any server,
%% ours or not: it knows only what meerkat_client shows, and nothing of a server in this VM.
-module(meerkat_check).

%% API.
-export([main/1, usage/0]).
-export([main/3]).
-export([run/1]).
-export([format_step/1]).
-export([format_summary/2]).
-export([rest_credentials/3]).

%% `server` as in meerkat_client:options(). `report` is called with each step as it finishes.
%% `family` of the relayed addresses; default: the server's choice. Times as in meerkat_client.
-type options() :: #{server := unicode:chardata() | {inet:ip_address() | string(),
                                                     inet:port_number()},
                     username => unicode:chardata(),
                     password => unicode:chardata(),
                     family => inet | inet6,
                     report => fun((step()) -> term()),
                     rto => pos_integer(), rc => pos_integer(), rm => pos_integer()}.

%% `ms`: how long it took. `detail`: what was learnt; on error the reason in words. `hint`: what to
%% do about it.
-type step() :: #{name := name(), ms := float(), result := ok | {error, term()},
                  detail := unicode:chardata(), hint => unicode:chardata()}.
-type name() :: binding | allocate | permission | indications | channel | channel_data | refresh
              | release.
-export_type([options/0, step/0, name/0]).

%% What a step hands on. `other` is the second allocation or, when the server relays to no relayed
%% address, a socket of our own.
-record(check, {options :: options(),
                server = "the server" :: unicode:chardata(),
                this :: undefined | end_point(),
                other :: undefined | end_point()}).

-type end_point() :: {client, pid(), undefined | meerkat_client:address()}
                   | {socket, gen_udp:socket(), Reflexive :: meerkat_client:address()}.

%% A person waits: silence after requests at 0, 0.5, 1.5 and 3.5 s counts as silence after 6.5 s.
-define(TIMES, #{rto => 500, rc => 4, rm => 6}).
%% UDP may lose the payload; it is sent that often.
-define(PAYLOAD_TRIES, 5).
-define(PAYLOAD_WAIT_MS, 600).
-define(CREDENTIALS_TTL, 600).

%% ----------------------------------------------------------------------------------------- API

%% The command: prints each step and a summary, and says how to exit. 0: all went well. 1: a step
%% failed. 2: the arguments make no sense, which is said on standard error.
-spec main([string()]) -> 0 | 1 | 2.
main(Args) ->
    main(Args, standard_io, standard_error).

%% The same on other devices than the standard ones.
-spec main([string()], io:device(), io:device()) -> 0 | 1 | 2.
main(Args, Out, Err) ->
    try options(arguments(Args, #{})) of
        help ->
            ok = io:put_chars(Out, usage()),
            0;
        #{json := true} = Options ->
            {Result, Steps} = run(maps:remove(json, Options)),
            ok = io:put_chars(Out, [meerkat_json:encode(as_json(Result, Steps)), $\n]),
            case Result of
                ok -> 0;
                error -> 1
            end;
        Options ->
            ok = io:put_chars(Out, [heading(Options), $\n]),
            Report = fun(Step) -> ok = io:put_chars(Out, [format_step(Step), $\n]) end,
            {Result, Steps} = run(Options#{report => Report}),
            ok = io:put_chars(Out, [format_summary(Result, Steps), $\n]),
            case Result of
                ok -> 0;
                error -> 1
            end
    catch
        throw:{usage, Problem} ->
            ok = io:put_chars(Err, ["check: ", Problem, "\nMore: --help\n"]),
            2
    end.

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

as_json(Result, Steps) ->
    #{usable => Result =:= ok,
      steps => [maps:from_list([{name, Name}, {ms, Ms}, {ok, StepResult =:= ok},
                                {detail, unicode:characters_to_binary(Detail)}]
                               ++ [{hint, unicode:characters_to_binary(Hint)}
                                   || #{hint := Hint} <- [Step]])
                || #{name := Name, ms := Ms, result := StepResult, detail := Detail} = Step
                       <- Steps]}.

%% One line, and a second one when there is a hint.
-spec format_step(step()) -> unicode:chardata().
format_step(#{name := Name, ms := Ms, result := Result, detail := Detail} = Step) ->
    Word = case Result of
               ok -> "ok";
               {error, _} -> "FAILED"
           end,
    Line = io_lib:format("  ~-26ts~-7ts~8.1f ms  ~ts", [title(Name), Word, Ms, Detail]),
    case Step of
        #{hint := Hint} -> [Line, io_lib:format("~n~48tsHint: ~ts", ["", Hint])];
        #{} -> Line
    end.

%% One line for all of them.
-spec format_summary(ok | error, [step()]) -> unicode:chardata().
format_summary(ok, Steps) ->
    io_lib:format("All ~w steps passed in ~.1f ms: the server is usable from here.",
                  [length(Steps), lists:sum([Ms || #{ms := Ms} <- Steps])]);
format_summary(error, Steps) ->
    [Failed] = [title(Name) || #{name := Name, result := {error, _}} <- Steps],
    Tried = [Name || #{name := Name} <- Steps],
    Rest = [title(Name) || {Name, _} <- procedure(), not lists:member(Name, Tried)],
    io_lib:format("~ts failed.~ts",
                  [Failed, [[" Not tried: ", lists:join(", ", Rest), "."] || Rest =/= []]]).

%% Time-limited credentials from a shared secret, as servers with the TURN REST scheme verify them:
%% the password is the signed user name, which begins with the Unix time it ends at.
-spec rest_credentials(Secret, Name :: string(), TtlSeconds :: pos_integer()) ->
          {Username :: binary(), Password :: binary()} when Secret :: unicode:chardata().
rest_credentials(Secret, Name, Ttl) ->
    Username = unicode:characters_to_binary(
        [integer_to_list(meerkat_clock:wall_s() + Ttl), ":", Name]),
    %% A secret is bytes, be they text or not.
    Key = case is_binary(Secret) of
        true -> Secret;
        false -> unicode:characters_to_binary(Secret)
    end,
    {Username, base64:encode(crypto:mac(hmac, sha, Key, Username))}.

%% ----------------------------------------------------------------------------------- procedure

%% In the order of a client's life. Each takes what the one before hands on.
procedure() ->
    [{binding, fun binding/1},
     {allocate, fun allocate/1},
     {permission, fun permission/1},
     {indications, fun(Check) -> exchange(indication, Check) end},
     {channel, fun channel/1},
     {channel_data, fun(Check) -> exchange(channel, Check) end},
     {refresh, fun refresh/1},
     {release, fun release/1}].

title(binding) -> "Binding";
title(allocate) -> "Allocate twice";
title(permission) -> "CreatePermission";
title(indications) -> "Indications both ways";
title(channel) -> "ChannelBind";
title(channel_data) -> "ChannelData both ways";
title(refresh) -> "Refresh";
title(release) -> "Release".

steps(Options) ->
    Report = maps:get(report, Options, fun(_) -> ok end),
    steps(procedure(), Report, #check{options = Options}, []).

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
    Step = #{name => Name, ms => Ms, result => {error, Reason}, detail => words(Reason, Server)},
    case hint(Name, Reason, Options) of
        none -> Step;
        Hint -> Step#{hint => Hint}
    end.

binding(#check{options = Options} = Check) ->
    case start(Options) of
        {ok, Client} ->
            #{server := Server} = meerkat_client:info(Client),
            Next = Check#check{server = meerkat_client:format_address(Server),
                               this = {client, Client, undefined}},
            case meerkat_client:binding(Client) of
                {ok, Mapped} ->
                    {ok, ["seen as ", meerkat_client:format_address(Mapped)], Next};
                {error, Reason} ->
                    {error, Reason, Next}
            end;
        {error, Reason} ->
            {error, Reason, Check}
    end.

start(Options) ->
    meerkat_client:start_link(
        maps:merge(?TIMES, maps:with([server, username, password, family, rto, rc, rm], Options))).

allocate(#check{this = {client, A, _}, options = Options} = Check) ->
    case meerkat_client:allocate(A) of
        {ok, #{relayed := RelayedA, lifetime := Lifetime}} ->
            Next = Check#check{this = {client, A, RelayedA}},
            case start(Options) of
                {ok, B} ->
                    allocate_other(B, Lifetime, Next);
                {error, Reason} ->
                    {error, Reason, Next}
            end;
        {error, Reason} ->
            {error, Reason, Check}
    end.

allocate_other(B, Lifetime, #check{this = {client, _, RelayedA}} = Check) ->
    case meerkat_client:allocate(B) of
        {ok, #{relayed := RelayedB}} ->
            {ok, ["relayed at ", meerkat_client:format_address(RelayedA), " and ",
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
    #{server := Server} = meerkat_client:info(A),
    ok = meerkat_client:close(B),
    case peer_socket(Server) of
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
%% socket speaks with the server alone.
peer_socket({Ip, _} = Server) ->
    Family = case tuple_size(Ip) of
                 4 -> [inet];
                 8 -> [inet6, {ipv6_v6only, true}]
             end,
    case gen_udp:open(0, [binary, {active, true} | Family]) of
        {ok, Socket} -> reflexive(Socket, Server, maps:get(rc, ?TIMES));
        {error, _} = Failed -> Failed
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

%% --------------------------------------------------------------------------------------- words

seconds(Seconds) -> [integer_to_list(Seconds), " s"].

words({outside, Reflexive, Reason}, Server) ->
    ["neither the server's relay addresses nor ", meerkat_client:format_address(Reflexive),
     " here may be peers: ", meerkat_client:format_error(Reason, Server)];
words({payload_lost, client, client}, _) ->
    "the payload did not arrive from relay to relay";
words({payload_lost, client, socket}, _) ->
    "the payload did not arrive from the relay at the socket here";
words({payload_lost, socket, client}, _) ->
    "the payload did not arrive from the socket here through the relay";
words({came_by, indication}, _) ->
    "the payload came in an indication, although a channel is bound";
words({came_by, channel}, _) ->
    "the payload came on a channel, although none is bound";
words(Reason, Server) ->
    meerkat_client:format_error(Reason, Server).

%% What to do about it, where that is known.
hint(_, no_credentials, _) ->
    "give --user and --password, or the server's shared secret by --secret";
hint(_, {401, _}, #{username := User}) ->
    case string:take(unicode:characters_to_list(User), lists:seq($0, $9)) of
        {[_ | _], ":" ++ _} ->
            "is the secret the server's, and do the clocks of both machines agree?";
        _ ->
            "user and password must be those of the server's realm"
    end;
hint(binding, timeout, _) ->
    "is UDP to this port open, in every firewall on the way and in the container's ports?";
hint(allocate, {508, _}, _) ->
    "look at the server's port range and its limits";
hint(permission, {outside, _, {403, _}}, _) ->
    "on a loopback or private network the server must allow these peer addresses first; its "
    "log says what forbids them and what would help";
hint(_, {payload_lost, client, client}, _) ->
    "the server must reach its own relay address: look at its relay IP, its NAT (does it send back "
    "to itself?) and the relay port range in its firewall";
hint(_, {payload_lost, socket, client}, _) ->
    "is the relay port range open in the server's firewall, and its relay IP the right one?";
hint(_, {payload_lost, client, socket}, _) ->
    "packets from the server's relay ports do not reach this machine: most NATs and firewalls stop "
    "them, so this alone does not prove the server wrong";
hint(_, {came_by, indication}, _) ->
    "the server sends from another address than the relayed one it announces: look at its relay IP";
hint(_, {440, _}, _) ->
    "give the server a relay IP of this family, or ask for the other: --family 4 or 6; browsers "
    "ask for none, which means IPv4";
hint(_, _, _) ->
    none.

heading(#{server := Server} = Options) ->
    Name = case Server of
               {Ip, Port} -> meerkat_client:format_address({Ip, Port});
               Uri -> Uri
           end,
    [Name, [[" as ", User] || {username, User} <- maps:to_list(Options)]].

%% ----------------------------------------------------------------------------------- arguments

%% What --help prints.
-spec usage() -> string().
usage() ->
    "usage: meerkatctl check [turn:HOST[:PORT]] [--user NAME --password PASSWORD |\n"
    "                        --secret SECRET] [--family 4|6]\n"
    "\n"
    "Checks step by step that the TURN server works from here.\n"
    "\n"
    "  turn:HOST[:PORT]   the server; an IPv6 address in brackets: turn:[::1]:3478.\n"
    "                     Default: RELAY_IP and LISTEN_PORT of the environment, else\n"
    "                     127.0.0.1 and 3478\n"
    "  --user, --password long-term credentials\n"
    "  --secret           the server's shared secret, from which credentials for ten\n"
    "                     minutes are made. Default: STUN_SECRET of the environment\n"
    "  --family           of the relayed addresses. Default: the server's choice\n"
    "  --json             the steps as one JSON object\n"
    "\n"
    "Exit code: 0 all steps passed, 1 a step failed, 2 wrong arguments.\n".

arguments([], Given) ->
    Given;
arguments([Help | _], _) when Help =:= "--help"; Help =:= "-h" ->
    help;
arguments(["--json" | Rest], Given) ->
    arguments(Rest, Given#{json => true});
arguments(["--" ++ Name = Option | Rest], Given) ->
    {Key, Check} = case Name of
                       "user" -> {user, fun(Value) -> Value end};
                       "password" -> {password, fun(Value) -> Value end};
                       "secret" -> {secret, fun(Value) -> Value end};
                       "family" -> {family, fun family/1};
                       _ -> wrong(["there is no option ", Option])
                   end,
    is_map_key(Key, Given) andalso wrong([Option, " is given twice"]),
    case Rest of
        [] -> wrong([Option, " needs a value"]);
        ["" | _] -> wrong([Option, " needs a value that is not empty"]);
        [Value | More] -> arguments(More, Given#{Key => Check(Value)})
    end;
arguments([_ | _], #{server := _}) ->
    wrong("one server at a time");
arguments([Uri | Rest], Given) ->
    case meerkat_client_uri:parse(Uri) of
        {ok, #{scheme := turn, transport := Transport}} when Transport =:= default;
                                                             Transport =:= udp ->
            arguments(Rest, Given#{server => Uri});
        {ok, _} ->
            wrong(["\"", Uri, "\" cannot be checked, only TURN over UDP can: ",
                   meerkat_client_uri:allowed()]);
        {error, Reason} ->
            wrong(meerkat_client:format_error(Reason))
    end.

family("4") -> inet;
family("6") -> inet6;
family(Other) -> wrong(["--family is 4 or 6, not \"", Other, "\""]).

options(help) ->
    help;
options(Given) ->
    maps:merge(maps:merge(server(Given), maps:with([family, json], Given)), credentials(Given)).

server(#{server := Server}) ->
    #{server => Server};
server(_) ->
    #{server => {environment_ip(), environment_port()}}.

environment_ip() ->
    case environment(["RELAY_IP", "MONGOOSEICE_UDP_RELAY_IP"]) of
        false -> {127, 0, 0, 1};
        {Name, Value} ->
            Text = unicode:characters_to_list(Value),
            case inet:parse_strict_address(Text) of
                {ok, Ip} -> Ip;
                {error, _} -> wrong([Name, "=", Text, " is no IP address; or name the server: ",
                                     meerkat_client_uri:allowed()])
            end
    end.

environment_port() ->
    case environment(["LISTEN_PORT", "MONGOOSEICE_UDP_PORT"]) of
        false -> 3478;
        {Name, Text} ->
            case string:to_integer(Text) of
                {Port, <<>>} when Port >= 1, Port =< 65535 -> Port;
                _ -> wrong([Name, "=", Text, " is no port from 1 to 65535"])
            end
    end.

credentials(#{secret := _} = Given) when is_map_key(user, Given); is_map_key(password, Given) ->
    wrong("either --user and --password, or --secret");
credentials(#{user := User, password := Password}) ->
    #{username => User, password => Password};
credentials(#{user := _}) ->
    wrong("--user needs --password");
credentials(#{password := _}) ->
    wrong("--password needs --user");
credentials(#{secret := Secret}) ->
    from_secret(Secret);
credentials(_) ->
    case environment(["STUN_SECRET", "MONGOOSEICE_STUN_SECRET"]) of
        {_, Secret} -> from_secret(Secret);
        false -> #{}
    end.

from_secret(Secret) ->
    {Username, Password} = rest_credentials(Secret, "check", ?CREDENTIALS_TTL),
    #{username => Username, password => Password}.

%% The first of these variables that is set to something.
environment([]) -> false;
environment([Name | More]) ->
    case meerkat_env:get(Name) of
        none -> environment(More);
        {ok, Value} -> {Name, Value}
    end.

-spec wrong(unicode:chardata()) -> no_return().
wrong(Problem) -> throw({usage, Problem}).
