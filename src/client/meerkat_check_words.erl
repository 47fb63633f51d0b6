%% A check in words: what each step found, why one failed, and what to do about it. Pure.
-module(meerkat_check_words).

-export([heading/1, about/1, server/1]).
-export([format_step/1]).
-export([format_summary/3]).
-export([connection/2]).
-export([reason/2]).
-export([hint/3]).

%% Whom it is about.
-spec heading(meerkat_check:options()) -> unicode:chardata().
heading(#{server := Server} = Options) ->
    Name = case Server of
               {_, _} -> server(Options);
               Uri -> Uri
           end,
    [Name, [[" as ", User] || {username, User} <- maps:to_list(Options)]].

%% Of a server on this machine: whose it is, and what keeps it from taking allocations.
-spec about(meerkat_check_command:about()) -> [unicode:chardata()].
about(#{socket := Socket, owner := Owner, os_pid := Pid} = About) ->
    [io_lib:format("  the server of ~ts, process ~b, asked by ~ts", [Owner, Pid, Socket])]
        ++ ["  it was told to drain: it refuses allocations or sends them to other servers; "
            "`meerkatctl undrain` takes them again" || #{draining := true} <- [About]];
about(#{}) ->
    [].

%% What the server is called while its address is not known.
-spec server(meerkat_check:options()) -> unicode:chardata().
server(#{server := {Ip, Port}}) when is_tuple(Ip) ->
    meerkat_client_words:format_address({Ip, Port});
server(#{server := {Host, Port}}) ->
    [Host, $:, integer_to_list(Port)];
server(#{server := Uri}) ->
    case meerkat_client_uri:parse(Uri) of
        {ok, #{host := Host, port := Port}} -> server(#{server => {Host, Port}});
        {error, _} -> "the server"
    end.

%% One line, and a second one when there is a hint.
-spec format_step(meerkat_check:step()) -> unicode:chardata().
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
-spec format_summary(ok | error, [meerkat_check:step()], meerkat_check:options()) ->
          unicode:chardata().
format_summary(ok, Steps, _) ->
    Passed = case Steps of
        [#{name := Name}] -> [title(Name), " passed"];
        _ -> ["All ", integer_to_list(length(Steps)), " steps passed"]
    end,
    io_lib:format("~ts in ~.1f ms: the server is usable from here.",
                  [Passed, lists:sum([Ms || #{ms := Ms} <- Steps])]);
format_summary(error, Steps, Options) ->
    [Failed] = [title(Name) || #{name := Name, result := {error, _}} <- Steps],
    Tried = [Name || #{name := Name} <- Steps],
    Rest = [title(Name) || Name <- meerkat_check:procedure(Options),
                           not lists:member(Name, Tried)],
    io_lib:format("~ts failed.~ts",
                  [Failed, [[" Not tried: ", lists:join(", ", Rest), "."] || Rest =/= []]]).

title(connect) -> "Connect";
title(binding) -> "Binding";
title(allocate) -> "Allocate twice";
title(permission) -> "CreatePermission";
title(indications) -> "Indications both ways";
title(channel) -> "ChannelBind";
title(channel_data) -> "ChannelData both ways";
title(refresh) -> "Refresh";
title(release) -> "Release".


%% What was connected.
-spec connection(meerkat_client_socket:transport(), map()) -> unicode:chardata().
connection(Transport, Info) ->
    From = [[" from ", meerkat_client_words:format_address(Local)]
            || #{local := Local} <- [Info]],
    case {Transport, Info} of
        {_, #{tls := Version}} -> ["by ", tls(Version), From];
        _ -> ["by ", string:uppercase(atom_to_list(Transport)), From]
    end.

tls('tlsv1.3') -> "TLS 1.3";
tls('tlsv1.2') -> "TLS 1.2";
tls('dtlsv1.2') -> "DTLS 1.2";
tls(Other) -> atom_to_list(Other).

%% Why a step failed.
-spec reason(term(), Server :: unicode:chardata()) -> unicode:chardata().
reason({outside, Reflexive, Reason}, Server) ->
    ["neither the server's relay addresses nor ", meerkat_client:format_address(Reflexive),
     " here may be peers: ", meerkat_client:format_error(Reason, Server)];
reason({payload_lost, client, client}, _) ->
    "the payload did not arrive from relay to relay";
reason({payload_lost, client, socket}, _) ->
    "the payload did not arrive from the relay at the socket here";
reason({payload_lost, socket, client}, _) ->
    "the payload did not arrive from the socket here through the relay";
reason({came_by, indication}, _) ->
    "the payload came in an indication, although a channel is bound";
reason({came_by, channel}, _) ->
    "the payload came on a channel, although none is bound";
reason(Reason, Server) ->
    meerkat_client:format_error(Reason, Server).

%% What to do about it, where that is known.
-spec hint(atom(), term(), map()) -> unicode:chardata() | none.
hint(_, no_credentials, _) ->
    "give --user and --password, or the server's shared secret by --secret";
hint(_, {401, _}, #{username := User}) ->
    case string:take(unicode:characters_to_list(User), lists:seq($0, $9)) of
        {[_ | _], ":" ++ _} ->
            "is the secret the server's, and do the clocks of both machines agree?";
        _ ->
            "user and password must be those of the server's realm"
    end;
hint(connect, {tls, {certificate, Fault}}, #{dtls := true}) ->
    certificate(Fault);
hint(connect, _, #{dtls := true}) ->
    "is dtls_enabled true there, and UDP to this port open, in every firewall on the way and in "
    "the container's ports?";
hint(connect, timeout, _) ->
    "is TCP to this port open, in every firewall on the way and in the container's ports?";
hint(connect, econnrefused, _) ->
    "does the server listen there for TCP or TLS, and is the port open in the container's ports?";
hint(_, {tls, {certificate, Fault}}, _) ->
    certificate(Fault);
hint(_, {tls, _}, _) ->
    "if this port takes TCP without TLS, it is turn:HOST:PORT?transport=tcp";
hint(_, {not_stun, <<21, 3, _/binary>>}, _) ->
    "with TLS it is turns:HOST:PORT";
hint(binding, connection_closed, _) ->
    "does this port take TLS only? Then it is turns:HOST:PORT";
hint(_, {not_stun, _}, _) ->
    "is it the right port, and is what stands in front of the server set up to pass TURN on?";
hint(binding, timeout, #{stream := true}) ->
    "something takes connections there, but does it speak STUN?";
hint(binding, timeout, _) ->
    "is UDP to this port open, in every firewall on the way and in the container's ports?";
hint(allocate, {508, _}, _) ->
    "does the server drain? Otherwise look at its port range and its limits";
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

certificate({expired, _}) ->
    "renew it, and have the server read it again";
certificate({wrong_name, _, [_ | _]}) ->
    "ask for the server by a name that its certificate has";
certificate(Fault) when Fault =:= self_signed; Fault =:= unknown_issuer ->
    "--cacert FILE takes a file with who vouches for it, --fingerprint SHA256 this one "
    "certificate, --insecure any";
certificate({fingerprint, _}) ->
    "has the server a new certificate? If not, somebody else answers in its place";
certificate(_) ->
    none.
