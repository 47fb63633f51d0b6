%% What a client's errors mean, in words for those who run the application, and addresses as they
%% are written. meerkat_client has them for others. Pure.
-module(meerkat_client_words).

-export([format_error/2]).
-export([format_address/1]).

%% What stands in {error, _} or {lost, _}; `Server` is what the server is called.
-spec format_error(meerkat_client:error() | meerkat_client_core:lost(),
                   Server :: unicode:chardata()) -> unicode:chardata().
format_error({allocation, Reason}, Server) ->
    ["the allocation is lost: ", format_error(Reason, Server)];
format_error({permissions, Ips, Reason}, Server) ->
    ["the permission for ", lists:join(", ", [inet:ntoa(Ip) || Ip <- Ips]), " is lost: ",
     format_error(Reason, Server)];
format_error({channel, Peer, Reason}, Server) ->
    ["the channel to ", format_address(Peer), " is lost: ", format_error(Reason, Server)];
format_error({Code, Phrase}, Server) when is_integer(Code), is_binary(Phrase) ->
    Words = case lists:keyfind(Code, 1, error_codes()) of
                {_, Known} -> Known;
                false -> [Server, " refuses"]
            end,
    [integer_to_list(Code), [[" (", printable(Phrase), ")"] || Phrase =/= <<>>], ": ", Words];
format_error(timeout, Server) ->
    ["no answer from ", Server, ": a firewall, the wrong port, or the server is down"];
format_error(econnrefused, Server) ->
    ["nothing listens at ", Server, ": the wrong port, or the server is down"];
format_error(enetunreach, Server) ->
    ["this machine has no route to ", Server];
format_error(ehostunreach, Server) ->
    ["the network cannot deliver to the host of ", Server];
format_error(eperm, Server) ->
    ["a firewall on this machine forbids packets to ", Server];
format_error(nxdomain, _) ->
    "no such name";
format_error(bad_integrity, Server) ->
    ["what came back was not signed by ", Server, " with this password"];
format_error(bid_down, Server) ->
    [Server, " offers stronger password algorithms, but somebody on the way removes them"];
format_error(no_algorithm, Server) ->
    [Server, " offers no password algorithm that is known here"];
format_error(no_credentials, Server) ->
    [Server, " asks for a username and password, and none were given"];
format_error(no_allocation, _) ->
    "there is no allocation";
format_error(already_allocated, _) ->
    "there is an allocation already";
format_error(no_channels, _) ->
    "all 4096 channel numbers are taken";
format_error(expired, _) ->
    "it expired before it could be renewed";
format_error(closed, _) ->
    "the client is closed";
format_error({unknown_attributes, Types}, Server) ->
    [Server, " answers with attributes that are not understood: ",
     lists:join(", ", [io_lib:format("0x~4.16.0b", [Type]) || Type <- Types])];
format_error({bad_response, What}, Server) ->
    ["the answer of ", Server, " to ", atom_to_list(What), " lacks what it must have"];
format_error({unresolved, Host, nxdomain}, _) ->
    ["there is no host called ", Host];
format_error({unresolved, Host, timeout}, _) ->
    ["the name ", Host, " cannot be looked up: no resolver answers"];
format_error({unresolved, Host, Reason}, _) ->
    ["the name ", Host, " cannot be looked up: ", inet:format_error(Reason)];
format_error({bad_uri, Uri, Problem}, _) ->
    ["\"", Uri, "\" is no STUN or TURN URI: ", meerkat_client_uri:format_problem(Problem),
     ". Allowed: ", meerkat_client_uri:allowed()];
format_error({unsupported_uri, Uri, Transport}, _) ->
    ["\"", Uri, "\" asks for ", Transport,
     ", but this client speaks over UDP, TCP, TLS and DTLS only"];
format_error({only_for_tls, Name}, _) ->
    ["the option ", atom_to_list(Name), " is for TLS, which this server is not asked for: turns:"];
format_error({no_certificates, File}, _) ->
    ["no certificates can be read from ", File, ", which must be a PEM file"];
format_error(no_ssl, _) ->
    "TLS needs Erlang's ssl (Debian: erlang-ssl)";
format_error(connection_closed, Server) ->
    [Server, " closed the connection"];
format_error(econnreset, Server) ->
    [Server, " broke the connection off"];
format_error({not_stun, <<"HTTP/", _/binary>>}, Server) ->
    ["what answers at ", Server, " is a web server"];
format_error({not_stun, <<21, 3, _/binary>>}, Server) ->
    [Server, " takes nothing but TLS at this port"];
format_error({not_stun, Begins}, Server) ->
    ["what answers at ", Server, " is no STUN or TURN server; it says \"",
     meerkat_text:escape(binary:part(Begins, 0, min(40, byte_size(Begins)))), "\""];
format_error({tls, closed}, Server) ->
    [Server, " closed the connection during the TLS handshake"];
format_error({tls, timeout}, Server) ->
    [Server, " takes connections but does not answer the TLS handshake"];
format_error({tls, no_tls}, Server) ->
    [Server, " does not speak TLS at this port"];
format_error({tls, {certificate, Fault}}, Server) ->
    [Server, " cannot be trusted: ", meerkat_tls_client:format_fault(Fault)];
format_error({tls, {alert, Alert}}, Server) ->
    ["TLS with ", Server, " failed: ", string:replace(atom_to_list(Alert), "_", " ", all)];
format_error({tls, {other, Said}}, Server) ->
    ["TLS with ", Server, " failed: ", Said];
format_error({bad_option, fingerprint}, _) ->
    "a fingerprint is the SHA-256 of the server's certificate: 64 hexadecimal digits";
format_error({bad_option, insecure}, _) ->
    "insecure takes any certificate: it is true or false, and true not beside what says which "
    "certificate is the server's";
format_error({bad_option, Name}, _) ->
    ["the option ", atom_to_list(Name), " is missing, unknown or has a value it cannot have"];
format_error(Posix, _) when is_atom(Posix) ->
    inet:format_error(Posix).

%% "192.0.2.1:3478", "[2001:db8::1]:3478".
-spec format_address(meerkat_client:address()) -> string().
format_address({Ip, Port}) when tuple_size(Ip) =:= 8 ->
    "[" ++ inet:ntoa(Ip) ++ "]:" ++ integer_to_list(Port);
format_address({Ip, Port}) ->
    inet:ntoa(Ip) ++ ":" ++ integer_to_list(Port).

%% RFC 8489 14.8, RFC 8656 19, RFC 8016 5, said to whoever has to mend it.
error_codes() ->
    [{300, "the server sends us on to another, which does not work"},
     {400, "the server takes our request for malformed"},
     {401, "wrong username or password"},
     {403, "the server forbids this peer address"},
     {405, "the server does not allow an allocation to move"},
     {420, "the server does not know an attribute of our request"},
     {437, "the server knows no allocation of ours, or one we do not know"},
     {438, "the server calls its own fresh nonce stale; its clock may jump"},
     {440, "the server has no relay address of this family"},
     {441, "these are not the credentials the allocation was made with"},
     {442, "the server does not relay over this transport"},
     {443, "the peer's address family is not that of the relayed address"},
     {446, "there is a connection to this peer already"},
     {447, "the server cannot reach the peer"},
     {486, "this user has as many allocations as the server allows"},
     {500, "the server has failed; its log may say why"},
     {508, "the server has no room: no free relay port, or a limit is reached"}].

%% A phrase comes off the wire: no control characters, and not the 763 bytes it may have.
printable(Phrase) ->
    [C || C <- lists:sublist(text(Phrase), 120), C >= $\s, C < 127 orelse C >= 160].

text(Binary) ->
    case unicode:characters_to_list(Binary) of
        Text when is_list(Text) -> Text;
        _ -> binary_to_list(Binary)
    end.


