%% TLS as a client, to a server that is known by name or address. Its certificate must be valid for
%% that, and issued by an authority of the system's list or of a file. Where it is not, this module
%% says in words why.
-module(meerkat_tls_client).

-export([is_there/0, options/2, reason/1]).
-export([format_fault/1]).

-export_type([fault/0, given/0]).

%% `cacert`: a PEM file in place of the system's list. `report`: is called by ssl's process with
%% what is wrong with a certificate, before the connection ends for it.
-type given() :: #{cacert => file:name_all(), report => fun((fault()) -> term()), _ => _}.

%% What is wrong with the server's certificate, or with one of its issuers'.
-type fault() :: {expired, calendar:datetime()} | {not_yet_valid, calendar:datetime()}
               | {wrong_name, Host :: unicode:chardata(), [Name :: unicode:chardata()]}
               | self_signed | unknown_issuer
               | {fingerprint, unicode:chardata()}    % the one it has instead
               | {bad_cert, term()}.

%% Starts Erlang's ssl, which is a package of its own.
-spec is_there() -> boolean().
is_there() ->
    element(1, application:ensure_all_started(ssl)) =:= ok.

%% For ssl:connect, or httpc. An address is not told to the server (RFC 6066 3), but its certificate
%% must have it.
-spec options(Host :: string() | inet:ip_address(), given()) -> [ssl:tls_client_option()].
options(Host, Given) ->
    {Name, Reference} = case Host of
                            Ip when is_tuple(Ip) -> {disable, {ip, Ip}};
                            _ -> {Host, {dns_id, Host}}
                        end,
    {Trusted, Known} = trusted(Given),
    %% What goes wrong is in the result; OTP's notice would stand between a command's words.
    [{log_level, none},
     {verify, verify_peer}, {depth, 8}, {server_name_indication, Name},
     {customize_hostname_check, [{match_fun, match_fun()}]},
     {verify_fun, {fun judged/3, {Reference, Known, maps:get(report, Given, fun(_) -> ok end)}}}
     | Trusted].

%% A certificate that stands in the file itself is good too, though nobody but itself vouches for
%% it: ssl would refuse that.
trusted(#{cacert := File}) ->
    Known = [Der || {ok, Pem} <- [file:read_file(File)],
                    {'Certificate', Der, not_encrypted} <- public_key:pem_decode(Pem)],
    {[{cacertfile, File}], Known};
trusted(#{}) ->
    try {[{cacerts, public_key:cacerts_get()}], []}
    catch error:_ -> {[{cacerts, []}], []}
    end.

%% The name is looked at here too: ssl looks at no addresses, and of a certificate that only itself
%% vouches for at nothing more.
judged(Certificate, {bad_cert, selfsigned_peer} = Fault, {Reference, Known, _} = State) ->
    Der = public_key:pkix_encode('OTPCertificate', Certificate, otp),
    case lists:member(Der, Known) of
        true -> named(Certificate, Reference, State);
        false -> refused(Fault, Certificate, State)
    end;
judged(Certificate, {bad_cert, _} = Fault, State) -> refused(Fault, Certificate, State);
judged(_Certificate, {extension, _}, State) -> {unknown, State};
judged(Certificate, valid_peer, {{ip, _} = Reference, _, _} = State) ->
    named(Certificate, Reference, State);
judged(_Certificate, _Valid, State) -> {valid, State}.

named(Certificate, Reference, State) ->
    case public_key:pkix_verify_hostname(Certificate, [Reference], [{match_fun, match_fun()}]) of
        true -> {valid, State};
        false -> refused({bad_cert, hostname_check_failed}, Certificate, State)
    end.

match_fun() -> public_key:pkix_verify_hostname_match_fun(https).

refused(Fault, Certificate, {Reference, _, Report}) ->
    _ = Report(fault(Fault, Certificate, Reference)),
    {fail, Fault}.

fault({bad_cert, cert_expired} = Fault, Certificate, _) ->
    Now = calendar:system_time_to_universal_time(meerkat_clock:wall_s(), second),
    case meerkat_certificate:validity(Certificate) of
        {_, End} when End =/= unknown, End < Now -> {expired, End};
        {Begin, _} when Begin =/= unknown, Begin > Now -> {not_yet_valid, Begin};
        _ -> Fault
    end;
fault({bad_cert, hostname_check_failed}, Certificate, {Kind, Host}) ->
    Shown = case Kind of ip -> inet:ntoa(Host); dns_id -> Host end,
    {wrong_name, Shown, [meerkat_certificate:format_name(Name)
                         || Name <- meerkat_certificate:names(Certificate)]};
fault({bad_cert, selfsigned_peer}, _, _) -> self_signed;
fault({bad_cert, unknown_ca}, _, _) -> unknown_issuer;
fault(Fault, _, _) -> Fault.

%% What ssl says went wrong, in words.
-spec reason(term()) -> unicode:chardata().
reason({tls_alert, {_, Said}}) -> string:trim(Said);
reason({options, {cacertfile, File, _}}) -> ["no certificates can be read from ", File];
reason(Reason) -> io_lib:format("~0tp", [Reason]).

%% What is wrong with a certificate, to follow a word for whose it is.
-spec format_fault(fault()) -> unicode:chardata().
format_fault({expired, When}) ->
    ["the certificate expired on ", date(When)];
format_fault({not_yet_valid, When}) ->
    ["the certificate is valid only from ", date(When), "; is this machine's clock right?"];
format_fault({wrong_name, Host, []}) ->
    ["the certificate has no name at all, so none that is ", Host];
format_fault({wrong_name, Host, Names}) ->
    {Some, More} = lists:split(min(5, length(Names)), Names),
    ["the certificate is for ", lists:join(", ", Some), [", ..." || More =/= []], " and not for ",
     Host];
format_fault(self_signed) ->
    "the certificate is self-signed: nobody else vouches for it";
format_fault(unknown_issuer) ->
    "nobody whom this machine trusts vouches for the certificate, or the server does not send the "
    "certificates between";
format_fault({fingerprint, Actual}) ->
    ["the certificate is another than expected; its SHA-256 fingerprint is ", Actual];
format_fault({bad_cert, Why}) ->
    ["the certificate is refused: ", io_lib:format("~0tp", [Why])].

date({Date, Time}) ->
    {{Y, Mo, D}, {H, M, S}} = {Date, Time},
    io_lib:format("~4..0b-~2..0b-~2..0b ~2..0b:~2..0b:~2..0b UTC", [Y, Mo, D, H, M, S]).
