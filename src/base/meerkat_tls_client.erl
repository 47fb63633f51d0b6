%% How we speak TLS to a server that we know by name: its certificate must be good for that name, by
%% the system's list of who may vouch for it or by a file.
-module(meerkat_tls_client).

-export([is_there/0, options/2, reason/1]).

%% Starts Erlang's ssl, which is a package of its own.
-spec is_there() -> boolean().
is_there() ->
    element(1, application:ensure_all_started(ssl)) =:= ok.

%% For ssl:connect, or httpc. `cacert`: a PEM file in place of the system's list.
-spec options(Name :: string(), #{cacert => file:name_all(), _ => _}) -> [ssl:tls_client_option()].
options(Name, Given) ->
    %% What goes wrong is in the result; OTP's notice would stand between a command's words.
    [{log_level, none},
     {verify, verify_peer}, {depth, 8}, {server_name_indication, Name},
     {customize_hostname_check, [{match_fun, public_key:pkix_verify_hostname_match_fun(https)}]}
     | trusted(Name, Given)].

%% A certificate that stands in the file itself is good too, though nobody but itself vouches for
%% it: ssl would refuse that.
trusted(Name, #{cacert := File}) ->
    Known = [Der || {ok, Pem} <- [file:read_file(File)],
                    {'Certificate', Der, not_encrypted} <- public_key:pem_decode(Pem)],
    [{cacertfile, File}, {verify_fun, {fun judged/3, {Name, Known}}}];
trusted(_Name, #{}) ->
    try [{cacerts, public_key:cacerts_get()}]
    catch error:_ -> [{cacerts, []}]
    end.

%% The name is looked at here too: of such a certificate ssl looks at nothing more.
judged(Certificate, {bad_cert, selfsigned_peer} = Fault, {Name, Known} = State) ->
    Der = public_key:pkix_encode('OTPCertificate', Certificate, otp),
    case lists:member(Der, Known) andalso
         public_key:pkix_verify_hostname(Certificate, [{dns_id, Name}]) of
        true -> {valid, State};
        false -> {fail, Fault}
    end;
judged(_Certificate, {bad_cert, _} = Fault, _State) -> {fail, Fault};
judged(_Certificate, {extension, _}, State) -> {unknown, State};
judged(_Certificate, _Valid, State) -> {valid, State}.

%% What ssl says went wrong, in words.
-spec reason(term()) -> unicode:chardata().
reason({tls_alert, {_, Said}}) -> string:trim(Said);
reason({options, {cacertfile, File, _}}) -> ["no certificates can be read from ", File];
reason(Reason) -> io_lib:format("~0tp", [Reason]).
