%% Examines the TURN servers that an XMPP server tells its users. Asks the server as a user's client
%% does, or MongooseIM's interface for administrators, and then uses each service as a client would.
%% The findings are like meerkat_doctor's. It changes nothing.
-module(meerkat_doctor_xmpp).

-export([examine/1]).

-export_type([options/0]).

%% By a user: `xmpp` is "HOST[:PORT]" of the server; by an administrator: `graphql` is the URL of
%% MongooseIM's interface, `domain` whose services are meant. `cacert`: see meerkat_tls_client.
-type options() :: #{xmpp := binary(), jid := binary(), password := binary(),
                     cacert => file:name_all()}
                 | #{graphql := binary(), user := binary(), password := binary(),
                     domain := binary(), cacert => file:name_all()}.

-define(CLIENTS, 5222).
-define(PORT, 3478).
-define(TLS_PORT, 5349).

-spec examine(options()) -> [meerkat_doctor:finding(), ...].
examine(Options) ->
    case told(Options) of
        {ok, How, Services} ->
            [finding(asked, ok, How) | in_clear(Options) ++ services(Services)];
        {error, Sentence, Remedy} ->
            [finding(asked, error, Sentence, Remedy)]
    end.

%% A warning for a URL with http: the administrator's password is sent in clear. A user's password
%% for XMPP is never sent so.
in_clear(#{graphql := Url}) ->
    case uri_string:parse(Url) of
        #{scheme := <<"http">>, host := Host} ->
            [finding(password, warning, "the password was sent in clear",
                     "https, or ask on the machine that MongooseIM runs on")
             || not is_here(unicode:characters_to_list(Host))];
        #{} ->
            []
    end;
in_clear(#{}) ->
    [].

is_here("localhost") ->
    true;
is_here(Host) ->
    case inet:parse_address(Host) of
        {ok, Ip} -> meerkat_policy:kind(Ip) =:= loopback;
        {error, _} -> false
    end.

told(#{xmpp := Server} = Options) ->
    case address(Server) of
        {ok, Host, Port} ->
            Login = maps:with([jid, password, cacert], Options),
            case meerkat_xmpp_user:login(Login#{host => Host, port => Port}) of
                {ok, User, How} ->
                    try told(How, User) after meerkat_xmpp_user:close(User) end;
                {error, Sentence} ->
                    {error, Sentence, "--xmpp names the server, --jid and the password a user of "
                                      "it; --cacert a file that vouches for its certificate"}
            end;
        error ->
            {error, ["--xmpp must be HOST or HOST:PORT, not ", Server],
             "its port is 5222 as a rule"}
    end;
told(#{graphql := Url} = Options) ->
    case meerkat_doctor_graphql:services(Options) of
        {ok, Services} ->
            {ok, ["asked ", Url], Services};
        {error, Sentence} ->
            {error, Sentence, "[[listen.http.handlers.mongoose_graphql_handler]] of MongooseIM "
                              "has host, path, username and password"}
    end.

told(How, User) ->
    case meerkat_xmpp_user:services(User) of
        {ok, Services} ->
            {ok, How, [completed(Service, User) || Service <- Services]};
        {error, Sentence} ->
            {error, [How, "; asked for services (XEP-0215) ", Sentence],
             "is mod_extdisco, mod_stun_disco or turn_external loaded, and this user allowed to "
             "ask? docs/mongooseim.md"}
    end.

%% Credentials may have to be asked for (XEP-0215 3.3).
completed(#{<<"type">> := <<"turn", _/binary>>} = Service, User)
  when not is_map_key(<<"username">>, Service) ->
    case meerkat_xmpp_user:credentials(User, Service) of
        {ok, [Complete | _]} -> maps:merge(Service, Complete);
        _ -> Service
    end;
completed(Service, _User) ->
    Service.

address(Server) ->
    case re:run(Server, "^(\\[([0-9a-fA-F:.]+)\\]|([^:\\[\\]\\s]+))(:([0-9]{1,5}))?$",
                [{capture, [2, 3, 5], list}]) of
        {match, [V6, Host, Port]} when Port =:= "" -> {ok, V6 ++ Host, ?CLIENTS};
        {match, [V6, Host, Port]} ->
            case list_to_integer(Port) of
                N when N > 0, N < 65536 -> {ok, V6 ++ Host, N};
                _ -> error
            end;
        nomatch -> error
    end.

%%% What it told

services([]) ->
    [finding(services, error, "it tells of no service",
             "docs/mongooseim.md has what to configure")];
services(Services) ->
    Turn = [S || #{<<"type">> := <<"turn">>} = S <- Services],
    [finding(services, warning, "it tells of no TURN service",
             "behind many NATs a call needs one; docs/mongooseim.md has what to configure")
     || Turn =:= []]
        ++ [service(Service) || Service <- Services].

service(#{<<"type">> := Type, <<"host">> := Host} = Service) ->
    Transport = maps:get(<<"transport">>, Service, <<"udp">>),
    Port = port(Type, Service),
    Shown = meerkat_text:escape(<<Type/binary, $:, Host/binary, $:,
                                  (integer_to_binary(Port))/binary, $/, Transport/binary>>),
    try_service(Type, Transport, {unicode:characters_to_list(Host), Port}, Shown, Service);
service(_Service) ->
    finding(service, error, "a service without type or host", "both are required (XEP-0215)").

port(Type, Service) ->
    Usual = case Type of <<"turns">> -> ?TLS_PORT; _ -> ?PORT end,
    try binary_to_integer(maps:get(<<"port">>, Service, <<>>)) of
        N when N > 0, N < 65536 -> N;
        _ -> Usual
    catch
        error:badarg -> Usual
    end.

try_service(<<"stun">>, <<"udp">>, Address, Shown, _Service) ->
    case bound(Address) of
        {ok, Mapped} ->
            finding(service, ok, [Shown, ": sees us as ", meerkat_text:address(Mapped)]);
        {error, Reason} ->
            finding(service, error, [Shown, ": ", meerkat_client:format_error(Reason)],
                    "is it this address, and UDP open to it?")
    end;
try_service(Type, Transport, Address, Shown, Service) ->
    case transport(Type, Transport) of
        {ok, Way} -> try_turn(Way, Address, Shown, Service);
        none -> finding(service, unknown, [Shown, ": only stun by udp, and turn and turns by "
                                           "udp and tcp can be tried from here"])
    end.

%% XEP-0215 has TLS as a type of its own.
transport(<<"turn">>, <<"udp">>) -> {ok, udp};
transport(<<"turn">>, <<"tcp">>) -> {ok, tcp};
transport(<<"turns">>, <<"tcp">>) -> {ok, tls};
transport(<<"turns">>, <<"udp">>) -> {ok, dtls};
transport(_, _) -> none.

try_turn(Transport, Address, Shown, #{<<"username">> := User,
                                      <<"password">> := Password} = Service) ->
    Names = [Shown, " as ", meerkat_text:escape(User), ending(Service)],
    Options = #{server => Address, transport => Transport, username => User, password => Password},
    case meerkat_check:run(Options) of
        {ok, Steps} ->
            finding(service, ok, [Names, ": ",
                                  meerkat_check_words:format_summary(ok, Steps, Options)]);
        {error, Steps} ->
            #{detail := Detail} = Failed = lists:last(Steps),
            finding(service, error, [Names, ": ",
                                     meerkat_check_words:format_summary(error, Steps, Options), " ",
                                     Detail],
                    maps:get(hint, Failed, "the log of the TURN server tells why"))
    end;
try_turn(_Transport, _Address, Shown, _Service) ->
    finding(service, error, [Shown, ": no credentials are told"],
            "the service needs a secret in the XMPP server's configuration").

bound({Host, Port}) ->
    case meerkat_client:start_link(#{server => {Host, Port}, rc => 4, rm => 6}) of
        {ok, Client} ->
            Result = meerkat_client:binding(Client),
            ok = meerkat_client:close(Client),
            Result;
        {error, Reason} ->
            {error, Reason}
    end.

%% As it was told (XEP-0082), beside the time that the username has.
ending(#{<<"expires">> := Expires}) -> [", until ", meerkat_text:escape(Expires)];
ending(#{}) -> "".

finding(Name, Verdict, Text) ->
    #{name => Name, verdict => Verdict, text => unicode:characters_to_binary(Text)}.

finding(Name, Verdict, Text, Remedy) ->
    (finding(Name, Verdict, Text))#{remedy => unicode:characters_to_binary(Remedy)}.
