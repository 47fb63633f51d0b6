%% An XMPP user who is online: one connection, encrypted (RFC 6120 5) or none, authenticated with
%% PLAIN inside it. Asks the server for relays (XEP-0215), carries stanzas, and knows nothing of
%% what they are for. Stanzas are fast_xml's #xmlel{}.
-module(stream_xmpp).
-behaviour(gen_server).

-export([start_link/1, services/1, ask/4, send/2, stop/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include("stream.hrl").

%% `jid` with a resource; `server` is where the domain is served, `ca` a file with the certificates
%% that are trusted to say so.
-type options() :: #{jid := binary(), password := binary(),
                     server := {inet:ip_address() | string(), inet:port_number()},
                     ca := file:name_all()}.
-type service() :: #{type := binary(), host := binary(), port => inet:port_number(),
                     transport => binary(), username => binary(), password => binary()}.

-export_type([options/0, service/0]).

-define(CLIENT, <<"jabber:client">>).
-define(STREAMS, <<"http://etherx.jabber.org/streams">>).
-define(TLS, <<"urn:ietf:params:xml:ns:xmpp-tls">>).
-define(SASL, <<"urn:ietf:params:xml:ns:xmpp-sasl">>).
-define(BIND, <<"urn:ietf:params:xml:ns:xmpp-bind">>).
-define(SESSION, <<"urn:ietf:params:xml:ns:xmpp-session">>).
-define(STANZAS, <<"urn:ietf:params:xml:ns:xmpp-stanzas">>).
-define(EXTDISCO, <<"urn:xmpp:extdisco:2">>).
-define(TIMEOUT, 10000).
-define(STANZA_MAX, 65536).

-record(state, {owner :: pid(),
                domain :: binary(),
                send :: fun((iodata()) -> ok | {error, term()}),
                recv :: fun(() -> {ok, binary()} | {error, term()}),
                socket :: gen_tcp:socket() | ssl:sslsocket(),
                parser :: term(),
                asked = #{} :: #{binary() => gen_server:from()}}).

%% Logs in and tells that we are there. The caller gets {xmpp, Pid, Stanza} for each message, and
%% for each iq that wants something done; the latter has to be answered. An error is a sentence.
-spec start_link(options()) -> {ok, pid()} | {error, unicode:chardata()}.
start_link(Options) ->
    case gen_server:start_link(?MODULE, {self(), Options}, []) of
        {ok, Pid} -> {ok, Pid};
        {error, {shutdown, Sentence}} -> {error, Sentence}
    end.

%% The services that the user's server knows (XEP-0215 3.1), in its order.
-spec services(pid()) -> {ok, [service()]} | {error, unicode:chardata()}.
services(Pid) ->
    case ask(Pid, server, <<"get">>, el(<<"services">>, [{<<"xmlns">>, ?EXTDISCO}], [])) of
        {ok, Iq} ->
            {ok, [service(El) || El <- fxml:get_subtags(fxml:get_subtag(Iq, <<"services">>),
                                                        <<"service">>)]};
        {error, Condition} ->
            {error, ["the XMPP server names no relays: ", Condition]}
    end.

service(#xmlel{attrs = Attrs}) ->
    Known = #{<<"type">> => type, <<"host">> => host, <<"transport">> => transport,
              <<"username">> => username, <<"password">> => password},
    Texts = maps:from_list([{map_get(Name, Known), Value}
                            || {Name, Value} <- Attrs, is_map_key(Name, Known)]),
    case lists:keyfind(<<"port">>, 1, Attrs) of
        {_, Port} -> Texts#{port => binary_to_integer(Port)};
        false -> Texts
    end.

%% An iq and its answer; `server` is the user's own. The error is what the other side
%% calls it, such as <<"service-unavailable">>, or says that there is no answer.
-spec ask(pid(), binary() | server, binary(), #xmlel{}) -> {ok, #xmlel{}} | {error, binary()}.
ask(Pid, To, Type, Child) ->
    try gen_server:call(Pid, {ask, To, Type, Child}, ?TIMEOUT) of
        Answer ->
            case fxml:get_tag_attr_s(<<"type">>, Answer) of
                <<"result">> -> {ok, Answer};
                _ -> {error, condition(Answer)}
            end
    catch
        exit:{timeout, _} -> {error, <<"no answer">>};
        exit:_ -> {error, <<"the XMPP server hung up">>}
    end.

condition(Stanza) ->
    case fxml:get_subtag(Stanza, <<"error">>) of
        #xmlel{children = Children} ->
            hd([Name || #xmlel{name = Name} <- Children] ++ [<<"unknown error">>]);
        false -> <<"unknown error">>
    end.

-spec send(pid(), #xmlel{}) -> ok.
send(Pid, Stanza) -> gen_server:cast(Pid, {send, Stanza}).

-spec stop(pid()) -> ok.
stop(Pid) -> gen_server:call(Pid, stop).

%% --------------------------------------------------------------------------------------- login

-spec init({pid(), options()}) -> {ok, #state{}} | {stop, {shutdown, unicode:chardata()}}.
init({Owner, #{jid := Jid, server := {Host, Port}} = Options}) ->
    try
        [Bare, Resource] = binary:split(Jid, <<"/">>),
        [User, Domain] = binary:split(Bare, <<"@">>),
        Tcp = connected(gen_tcp:connect(Host, Port, [binary, {active, false}], ?TIMEOUT)),
        S0 = encrypted(over_tcp(#state{owner = Owner, domain = Domain, socket = Tcp}), Options),
        S1 = bound(Resource, authenticated(User, map_get(password, Options), S0)),
        ok = ssl:setopts(S1#state.socket, [{active, true}]),
        ok = write(el(<<"presence">>, [], []), S1),
        {ok, S1}
    catch
        throw:Sentence -> {stop, {shutdown, Sentence}}
    end.

connected({ok, Socket}) -> Socket;
connected({error, Reason}) -> throw(["no XMPP server there: ", inet:format_error(Reason)]).

over_tcp(#state{socket = Tcp} = S) ->
    S#state{send = fun(Data) -> gen_tcp:send(Tcp, Data) end,
            recv = fun() -> gen_tcp:recv(Tcp, 0, ?TIMEOUT) end}.

encrypted(S0, #{ca := Ca}) ->
    {_, S} = opened(S0),
    ok = write(el(<<"starttls">>, [{<<"xmlns">>, ?TLS}], []), S),
    {#xmlel{name = Name}, S1} = next(S),
    Name =:= <<"proceed">> orelse throw("the XMPP server will not encrypt"),
    Verify = [{verify, verify_peer}, {cacertfile, Ca},
              {server_name_indication, binary_to_list(S#state.domain)},
              {customize_hostname_check,
               [{match_fun, public_key:pkix_verify_hostname_match_fun(https)}]}],
    case ssl:connect(S1#state.socket, Verify, ?TIMEOUT) of
        {ok, Tls} -> over_tls(S1#state{socket = Tls});
        {error, Reason} -> throw(["the XMPP server is not who it says: ",
                                  ssl:format_error(Reason)])
    end.

over_tls(#state{socket = Tls} = S) ->
    S#state{send = fun(Data) -> ssl:send(Tls, Data) end,
            recv = fun() -> ssl:recv(Tls, 0, ?TIMEOUT) end}.

authenticated(User, Password, S0) ->
    {_, S} = opened(S0),
    Plain = base64:encode(<<0, User/binary, 0, Password/binary>>),
    ok = write(el(<<"auth">>, [{<<"xmlns">>, ?SASL}, {<<"mechanism">>, <<"PLAIN">>}],
                  [{xmlcdata, Plain}]), S),
    case next(S) of
        {#xmlel{name = <<"success">>}, S1} -> S1;
        _ -> throw("the XMPP server does not know this user and password")
    end.

bound(Resource, S0) ->
    {Features, S} = opened(S0),
    Wanted = el(<<"resource">>, [], [{xmlcdata, Resource}]),
    in_session(Features, granted(el(<<"bind">>, [{<<"xmlns">>, ?BIND}], [Wanted]),
                                 "no resource for us: ", S)).

%% RFC 3921 3, which servers of today still announce; MongooseIM serves nobody who has not asked.
in_session(Features, S) ->
    case fxml:get_subtag_with_xmlns(Features, <<"session">>, ?SESSION) of
        false -> S;
        _ -> granted(el(<<"session">>, [{<<"xmlns">>, ?SESSION}], []), "no session for us: ", S)
    end.

%% Asked of the server while nothing else is.
granted(#xmlel{name = Name} = Wanted, Otherwise, S0) ->
    ok = write(el(<<"iq">>, [{<<"type">>, <<"set">>}, {<<"id">>, Name}], [Wanted]), S0),
    {Answer, S} = next(S0),
    case fxml:get_tag_attr_s(<<"type">>, Answer) of
        <<"result">> -> S;
        _ -> throw([Otherwise, condition(Answer)])
    end.

%% A stream begins anew with each layer; behind its header the server says what it offers, which
%% this returns.
opened(#state{domain = Domain} = S) ->
    ok = (S#state.send)(["<?xml version='1.0'?><stream:stream to='", fxml:crypt(Domain),
                         "' xmlns='", ?CLIENT, "' xmlns:stream='", ?STREAMS,
                         "' version='1.0'>"]),
    case next(S#state{parser = fxml_stream:new(self(), ?STANZA_MAX)}) of
        {#xmlel{name = <<"stream:features">>} = Features, S1} -> {Features, S1};
        _ -> throw("the XMPP server will not talk to us")
    end.

%% The next element, while nobody else is served.
next(#state{parser = Parser} = S) ->
    receive
        {'$gen_event', {xmlstreamelement, El}} -> {El, S};
        {'$gen_event', {xmlstreamstart, _, _}} -> next(S);
        {'$gen_event', _} -> throw("the XMPP server ended the stream")
    after 0 ->
        case (S#state.recv)() of
            {ok, Data} -> next(S#state{parser = fxml_stream:parse(Parser, Data)});
            {error, _} -> throw("the XMPP server hung up")
        end
    end.

%% ------------------------------------------------------------------------------------- service

-spec handle_call(term(), gen_server:from(), #state{}) ->
          {noreply, #state{}} | {stop, normal, ok, #state{}}.
handle_call({ask, server, Type, Child}, From, #state{domain = Domain} = S) ->
    handle_call({ask, Domain, Type, Child}, From, S);
handle_call({ask, To, Type, Child}, From, #state{asked = Asked} = S) ->
    Id = integer_to_binary(erlang:unique_integer([positive])),
    ok = write(el(<<"iq">>, [{<<"to">>, To}, {<<"type">>, Type}, {<<"id">>, Id}], [Child]), S),
    {noreply, S#state{asked = Asked#{Id => From}}};
handle_call(stop, _, S) ->
    _ = (S#state.send)("</stream:stream>"),
    _ = ssl:close(S#state.socket),
    {stop, normal, ok, S}.

-spec handle_cast({send, #xmlel{}}, #state{}) -> {noreply, #state{}}.
handle_cast({send, Stanza}, S) ->
    ok = write(Stanza, S),
    {noreply, S}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({ssl, _, Data}, S) ->
    {noreply, S#state{parser = fxml_stream:parse(S#state.parser, Data)}};
handle_info({'$gen_event', {xmlstreamelement, El}}, S) ->
    {noreply, stanza(El#xmlel.name, fxml:get_tag_attr_s(<<"type">>, El), El, S)};
handle_info({'$gen_event', {xmlstreamstart, _, _}}, S) ->
    {noreply, S};
handle_info(_, S) ->                                    % the end of the stream or of the connection
    {stop, {shutdown, "the XMPP server hung up"}, S}.

stanza(<<"iq">>, Type, El, #state{asked = Asked} = S)
  when Type =:= <<"result">>; Type =:= <<"error">> ->
    case maps:take(fxml:get_tag_attr_s(<<"id">>, El), Asked) of
        {From, Rest} -> gen_server:reply(From, El), S#state{asked = Rest};
        error -> S
    end;
stanza(<<"iq">>, <<"get">>, El, S) ->
    Refused = el(<<"error">>, [{<<"type">>, <<"cancel">>}],
                 [el(<<"service-unavailable">>, [{<<"xmlns">>, ?STANZAS}], [])]),
    ok = write(el(<<"iq">>, [{<<"type">>, <<"error">>}, {<<"to">>, from(El)},
                             {<<"id">>, fxml:get_tag_attr_s(<<"id">>, El)}], [Refused]), S),
    S;
stanza(Name, _, El, S) when Name =:= <<"iq">>; Name =:= <<"message">> ->
    S#state.owner ! {xmpp, self(), El},
    S;
stanza(_, _, _, S) ->
    S.

from(El) -> fxml:get_tag_attr_s(<<"from">>, El).

write(El, S) -> (S#state.send)(fxml:element_to_binary(El)).

el(Name, Attrs, Children) -> #xmlel{name = Name, attrs = Attrs, children = Children}.
