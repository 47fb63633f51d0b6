%% A client of an XMPP server, for finding out which TURN servers that tells its users. It logs in
%% (RFC 6120), with STARTTLS if that is offered and SCRAM or PLAIN, and asks (XEP-0215): one
%% question at a time, in the calling process. No password is sent in clear to another machine.
-module(meerkat_xmpp_user).

-export([login/1, services/1, credentials/2, close/1]).

-export_type([options/0, user/0, service/0]).

%% `host` and `port` of the server, which need not be the JID's domain. `cacert`: a PEM file of who
%% is trusted to vouch for the server; without it the system's list.
-type options() :: #{host := string(), port := inet:port_number(), jid := binary(),
                     password := binary(), cacert => file:name_all()}.
%% The attributes of XEP-0215 1.0.0, as told.
-type service() :: #{binary() => binary()}.

%% The first byte of a record (RFC 8446 5.1) with which a server answers what is no TLS.
-define(TLS_ALERT, 21).

-record(user, {
    transport = gen_tcp :: gen_tcp | ssl,
    socket :: gen_tcp:socket() | ssl:sslsocket(),
    stream :: meerkat_xmpp_stream:stream() | undefined,
    events = [] :: [meerkat_xmpp_stream:event()],
    name :: binary(),
    domain :: binary(),
    jid :: binary(),
    mechanism = <<>> :: binary(),
    asked = 0 :: non_neg_integer()
}).
-opaque user() :: #user{}.

-define(TIMEOUT, 10000).
-define(TLS, <<"urn:ietf:params:xml:ns:xmpp-tls">>).
-define(SASL, <<"urn:ietf:params:xml:ns:xmpp-sasl">>).
-define(BIND, <<"urn:ietf:params:xml:ns:xmpp-bind">>).
-define(SESSION, <<"urn:ietf:params:xml:ns:xmpp-session">>).
-define(EXTDISCO, <<"urn:xmpp:extdisco:2">>).
%% A server that asks for more iterations than this is refused (RFC 5802 5.1): it would cost too
%% much time.
-define(ITERATIONS_MAX, 1000000).

%% A session, and in words how it was made. The error is a sentence.
-spec login(options()) -> {ok, user(), How :: unicode:chardata()} | {error, unicode:chardata()}.
login(#{jid := Jid} = Options) ->
    Library = application:ensure_all_started(fast_xml),
    case {re:run(Jid, "^([^@/\\s<>&'\"]+)@([^@/\\s<>&'\"]+)$", [{capture, [1, 2], binary}]),
          Library} of
        {{match, [Name, Domain]}, {ok, _}} ->
            connect(Options, #user{socket = undefined, name = Name, domain = Domain, jid = Jid});
        {nomatch, _} ->
            {error, ["a JID is user@domain, not ", meerkat_text:escape(Jid)]};
        {_, {error, _}} ->
            {error, "this needs the library fast_xml (Debian: erlang-p1-xml)"}
    end.

%% All that the user's own server tells of.
-spec services(user()) -> {ok, [service()]} | {error, unicode:chardata()}.
services(User) ->
    asked(User, fun() -> {xmlel, <<"services">>, [{<<"xmlns">>, ?EXTDISCO}], []} end).

%% The same service with credentials, for one that came without (XEP-0215 3.3).
-spec credentials(user(), service()) -> {ok, [service()]} | {error, unicode:chardata()}.
credentials(User, Service) ->
    asked(User, fun() ->
        Named = maps:to_list(maps:with([<<"host">>, <<"type">>, <<"port">>], Service)),
        {xmlel, <<"credentials">>, [{<<"xmlns">>, ?EXTDISCO}],
         [{xmlel, <<"service">>, Named, []}]}
    end).

-spec close(user()) -> ok.
close(#user{stream = Stream} = User) ->
    _ = send(User, meerkat_xmpp_stream:closing()),
    _ = Stream =:= undefined orelse meerkat_xmpp_stream:close(Stream),
    shut(User).

shut(#user{socket = undefined}) -> ok;
shut(#user{transport = Transport, socket = Socket}) -> _ = Transport:close(Socket), ok.

%%% Logging in

connect(#{host := Host, port := Port} = Options, User) ->
    case tcp(Host, Port) of
        {ok, Socket} ->
            Connected = User#user{socket = Socket},
            try
                {Session, Encrypted} = logged_in(Options, Connected),
                How = ["logged in to ", Host, ":", integer_to_list(Port), " as ", User#user.jid,
                       " with ", Session#user.mechanism,
                       case Encrypted of true -> " over TLS"; false -> ", without TLS" end],
                {ok, Session, How}
            catch
                throw:{failed, Sentence} ->
                    ok = shut(Connected),
                    {error, Sentence}
            end;
        {error, Reason} ->
            {error, ["no connection to ", Host, ":", integer_to_list(Port), ": ",
                     inet:format_error(Reason)]}
    end.

tcp(Host, Port) ->
    Options = [binary, {active, false}, {send_timeout, ?TIMEOUT}],
    case inet:parse_address(Host) of
        {ok, Ip} ->
            gen_tcp:connect(Ip, Port, [family(Ip) | Options], ?TIMEOUT);
        {error, _} ->
            case gen_tcp:connect(Host, Port, [inet | Options], ?TIMEOUT) of
                {ok, Socket} -> {ok, Socket};
                {error, _} -> gen_tcp:connect(Host, Port, [inet6 | Options], ?TIMEOUT)
            end
    end.

family(Ip) when tuple_size(Ip) =:= 4 -> inet;
family(_Ip) -> inet6.

logged_in(Options, User0) ->
    {Offered, User1} = begun(User0),
    case meerkat_xmpp_xml:child(<<"starttls">>, Offered) of
        {ok, _} ->
            {Features, User2} = begun(encrypt(Options, User1)),
            {bound(authenticated(Options, Features, true, User2)), true};
        error ->
            {bound(authenticated(Options, Offered, is_here(User1), User1)), false}
    end.

%% Is the server on this machine? Then nobody in between can read a password.
is_here(#user{socket = Socket}) ->
    case inet:peername(Socket) of
        {ok, {Ip, _}} -> meerkat_policy:kind(Ip) =:= loopback;
        _ -> false
    end.

%% A stream, for the first time or over what has just been agreed on, and its features.
begun(#user{stream = Old, domain = Domain} = User0) ->
    _ = Old =:= undefined orelse meerkat_xmpp_stream:close(Old),
    User = User0#user{stream = meerkat_xmpp_stream:new(), events = []},
    ok = sent(User, ["<?xml version='1.0'?><stream:stream xmlns='jabber:client' "
                     "xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='",
                     Domain, "'>"]),
    case event(User) of
        {{open, _}, Open} -> element(User, Open, <<"stream:features">>);
        {_, _} -> failed("what answers there is no XMPP server")
    end.

element(_, User, Name) ->
    case stanza(User) of
        {{xmlel, Name, _, _} = Element, Next} -> {Element, Next};
        {{xmlel, Other, _, _}, _} -> failed(["the server sends <", Other, "> in place of <", Name,
                                             ">"])
    end.

encrypt(Options, #user{domain = Domain} = User0) ->
    ok = tell(User0, {xmlel, <<"starttls">>, [{<<"xmlns">>, ?TLS}], []}),
    {_, #user{socket = Socket} = User} = element(User0, User0, <<"proceed">>),
    meerkat_tls_client:is_there() orelse failed("this needs Erlang's ssl (Debian: erlang-ssl)"),
    Name = unicode:characters_to_list(Domain),
    Tls = meerkat_tls_client:options(Name, Options),
    case ssl:connect(Socket, Tls, ?TIMEOUT) of
        {ok, Encrypted} -> User#user{transport = ssl, socket = Encrypted};
        {error, Reason} -> failed(["TLS with ", Name, ": ", meerkat_tls_client:reason(Reason)])
    end.

authenticated(#{password := Password}, Features, MayShow, User) ->
    Offered = case meerkat_xmpp_xml:child(<<"mechanisms">>, Features) of
        {ok, All} -> [meerkat_xmpp_xml:text(One) || One <- meerkat_xmpp_xml:children(All)];
        error -> []
    end,
    Ours = meerkat_scram:mechanisms() ++ [<<"PLAIN">> || MayShow],
    case [Mechanism || Mechanism <- Ours, lists:member(Mechanism, Offered)] of
        [<<"PLAIN">> | _] ->
            plain(Password, User#user{mechanism = <<"PLAIN">>});
        [Mechanism | _] ->
            scram(Password, User#user{mechanism = Mechanism});
        [] when Offered =:= [<<"PLAIN">>] ->
            failed("the server offers no TLS and wants the password in clear; it is not sent");
        [] ->
            failed(["the server offers no way to log in that is known here, but ",
                    lists:join(", ", Offered)])
    end.

plain(Password, #user{name = Name} = User) ->
    ok = auth(User, <<0, Name/binary, 0, Password/binary>>),
    {_, Next} = success(User),
    begun(Next).

scram(Password, #user{name = Name, mechanism = Mechanism} = User0) ->
    {First, State} = meerkat_scram:first(Mechanism, Name, Password),
    ok = auth(User0, First),
    {Challenge, User1} = answer(User0, <<"challenge">>),
    Final = case meerkat_scram:final(Challenge, ?ITERATIONS_MAX, State) of
        {ok, Bytes, Expected} -> {Bytes, Expected};
        error -> failed("the server's challenge makes no sense")
    end,
    {Response, Proof} = Final,
    ok = tell(User1, {xmlel, <<"response">>, [{<<"xmlns">>, ?SASL}],
                      [{xmlcdata, base64:encode(Response)}]}),
    case success(User1) of
        {Proof, User2} -> begun(User2);
        {_, _} -> failed("the server does not know the password itself: it is somebody else")
    end.

auth(#user{mechanism = Mechanism} = User, Bytes) ->
    tell(User, {xmlel, <<"auth">>, [{<<"xmlns">>, ?SASL}, {<<"mechanism">>, Mechanism}],
                [{xmlcdata, base64:encode(Bytes)}]}).

success(User) -> answer(User, <<"success">>).

answer(#user{jid = Jid} = User, Name) ->
    case stanza(User) of
        {{xmlel, Name, _, _} = Element, Next} ->
            try {base64:decode(meerkat_xmpp_xml:text(Element)), Next}
            catch error:_ -> failed("the server's answer is not in base64")
            end;
        {{xmlel, <<"failure">>, _, _} = Failure, _} ->
            failed(["the server does not let ", Jid, " in: ", condition(Failure)]);
        {{xmlel, Other, _, _}, _} ->
            failed(["the server answers <", Other, "> to a login"])
    end.

%% Older servers want a session as well (RFC 3921 3).
bound({Features, User0}) ->
    {_, User1} = demand(User0, {xmlel, <<"bind">>, [{<<"xmlns">>, ?BIND}], []}),
    case meerkat_xmpp_xml:child(<<"session">>, Features) of
        {ok, Session} ->
            case meerkat_xmpp_xml:child(<<"optional">>, Session) of
                {ok, _} -> User1;
                error -> element(2, demand(User1, {xmlel, <<"session">>,
                                                   [{<<"xmlns">>, ?SESSION}], []}))
            end;
        error ->
            User1
    end.

demand(User, Child) ->
    case iq(<<"set">>, [], Child, User) of
        {{ok, Answer}, Next} -> {Answer, Next};
        {{error, Condition}, _} -> failed(["the server refuses to begin a session: ", Condition])
    end.

%%% Asking

asked(#user{domain = Domain} = User, Question) ->
    try iq(<<"get">>, [{<<"to">>, Domain}], Question(), User) of
        {{ok, Answer}, _} ->
            %% ejabberd 23.01 answers one question with the other's element.
            {ok, [maps:from_list(Attributes)
                  || Root <- meerkat_xmpp_xml:children(Answer),
                     {xmlel, <<"service">>, Attributes, _} <- meerkat_xmpp_xml:children(Root)]};
        {{error, Condition}, _} ->
            {error, ["the server answers ", Condition]}
    catch
        throw:{failed, Sentence} -> {error, Sentence}
    end.

%% Ids are drawn: an answer from before cannot be taken for one.
iq(Type, To, Child, User) ->
    Id = base64:encode(crypto:strong_rand_bytes(9)),
    ok = tell(User, {xmlel, <<"iq">>, [{<<"type">>, Type}, {<<"id">>, Id} | To], [Child]}),
    answer_to(Id, User).

answer_to(Id, User) ->
    {Stanza, Next} = stanza(User),
    case {meerkat_xmpp_xml:name(Stanza), meerkat_xmpp_xml:attr(<<"id">>, Stanza),
          meerkat_xmpp_xml:attr(<<"type">>, Stanza)} of
        {<<"iq">>, Id, <<"result">>} -> {{ok, Stanza}, Next};
        {<<"iq">>, Id, <<"error">>} ->
            case meerkat_xmpp_xml:child(<<"error">>, Stanza) of
                {ok, Error} -> {{error, condition(Error)}, Next};
                error -> {{error, "an error without a reason"}, Next}
            end;
        _ -> answer_to(Id, Next)
    end.

%% The first element is the condition, a text may follow (RFC 6120 8.3.2).
condition(Error) ->
    case meerkat_xmpp_xml:children(Error) of
        [Condition | _] ->
            Text = case meerkat_xmpp_xml:child(<<"text">>, Error) of
                {ok, Said} -> [" (", meerkat_text:escape(meerkat_xmpp_xml:text(Said)), ")"];
                error -> ""
            end,
            [meerkat_text:escape(meerkat_xmpp_xml:name(Condition)), Text];
        [] ->
            "no reason given"
    end.

%%% The stream

tell(User, Element) -> sent(User, meerkat_xmpp_xml:encode(Element)).

sent(User, Bytes) ->
    case send(User, Bytes) of
        ok -> ok;
        {error, _} -> failed("the server has closed the connection")
    end.

send(#user{transport = Transport, socket = Socket}, Bytes) ->
    Transport:send(Socket, Bytes).

stanza(User) ->
    case event(User) of
        {{stanza, {xmlel, <<"stream:error">>, _, _} = Error}, _} ->
            failed(["the server ends the stream: ", condition(Error)]);
        {{stanza, Element}, Next} -> {Element, Next};
        {{hostile, _, _}, Next} -> stanza(Next);
        {close, _} -> failed("the server has closed the stream");
        {{open, _}, Next} -> stanza(Next)
    end.

event(#user{events = [Event | Rest]} = User) ->
    {Event, User#user{events = Rest}};
event(#user{transport = Transport, socket = Socket, stream = Stream} = User) ->
    case Transport:recv(Socket, 0, ?TIMEOUT) of
        {ok, <<?TLS_ALERT, 3, _/binary>>} when Transport =:= gen_tcp ->
            failed("what answers there speaks TLS from its first byte on (direct TLS); this needs "
                   "the port where TLS is begun by STARTTLS, 5222 with most servers");
        {ok, Bytes} ->
            case meerkat_xmpp_stream:feed(Bytes, Stream) of
                {ok, Events, Next} -> event(User#user{events = Events, stream = Next});
                {error, _, _} -> failed("what answers there is no XMPP server")
            end;
        {error, timeout} -> failed("the server says nothing");
        {error, _} -> failed("the server has closed the connection")
    end.

-spec failed(unicode:chardata()) -> no_return().
failed(Sentence) ->
    throw({failed, Sentence}).
