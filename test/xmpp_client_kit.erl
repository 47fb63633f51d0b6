%% As much of an XMPP client as a suite needs (RFC 6120 over plain TCP): logs in with PLAIN, asks,
%% and tells what came. Stanzas go out as bytes and come in as fast_xml's #xmlel{} terms.
-module(xmpp_client_kit).

-export([login/2, login/3, close/1, jid/1, send/2, ask/2, next/1, await/2]).
-export([services/1, services/2, credentials/2, child/2, attribute/2, attributes/1]).

-export_type([client/0, element/0]).

-type client() :: #{socket := gen_tcp:socket(), parser := pid(), jid := binary(),
                    domain := binary()}.
-type element() :: {xmlel, Name :: binary(), [{binary(), binary()}], [term()]}.

-define(TIMEOUT, 30000).
-define(EXTDISCO, "urn:xmpp:extdisco:2").

-spec login(xmpp_servers:server(), User :: binary()) -> client().
login(#{users := Users} = Server, User) ->
    login(Server, User, maps:get(User, Users)).

%% Logs in, binds a resource that the server chooses. No presence is sent.
-spec login(xmpp_servers:server(), User :: binary(), Password :: binary()) -> client().
login(#{ip := Ip, c2s := Port, domain := Domain}, User, Password) ->
    {ok, _} = application:ensure_all_started(fast_xml),
    {ok, Socket} = gen_tcp:connect(Ip, Port, [binary, {active, false}]),
    Caller = self(),
    Parser = spawn_link(fun() -> parse(Socket, Caller, new()) end),
    ok = gen_tcp:controlling_process(Socket, Parser),
    Client = #{socket => Socket, parser => Parser, jid => <<>>, domain => Domain},
    Proof = base64:encode(<<0, User/binary, 0, Password/binary>>),
    {xmlel, <<"stream:features">>, _, _} = open(Client),
    ok = send(Client, ["<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>", Proof,
                       "</auth>"]),
    {xmlel, <<"success">>, _, _} = next(Client),
    Parser ! restart,
    {xmlel, <<"stream:features">>, _, _} = open(Client),
    Bound = ask(Client, "<iq type='set' id='bind'>"
                        "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"),
    {ok, Bind} = child(<<"bind">>, Bound),
    {ok, {xmlel, _, _, [{xmlcdata, Jid}]}} = child(<<"jid">>, Bind),
    Client#{jid := Jid}.

%% The stream begins, for the first time or after authentication; its features are the next element.
open(#{parser := Parser, domain := Domain} = Client) ->
    ok = send(Client, ["<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org"
                       "/streams' version='1.0' to='", Domain, "'>"]),
    receive {Parser, {start, _}} -> ok after ?TIMEOUT -> error(no_stream) end,
    next(Client).

-spec close(client()) -> ok.
close(#{parser := Parser}) ->
    Monitor = erlang:monitor(process, Parser),
    Parser ! close,
    receive {'DOWN', Monitor, process, Parser, _} -> ok end.

%% The full JID.
-spec jid(client()) -> binary().
jid(#{jid := Jid}) -> Jid.

-spec send(client(), iodata()) -> ok.
send(#{socket := Socket}, Bytes) -> ok = gen_tcp:send(Socket, Bytes).

%% Sends an IQ, which has an id, and returns what answers it; what else comes meanwhile is dropped.
-spec ask(client(), iodata()) -> element().
ask(Client, Iq) ->
    {xmlel, <<"iq">>, _, _} = Asked = fxml_stream:parse_element(iolist_to_binary(Iq)),
    {ok, Id} = attribute(<<"id">>, Asked),
    ok = send(Client, Iq),
    await(Client, fun(Element) ->
        attribute(<<"id">>, Element) =:= {ok, Id}
            andalso lists:member(attribute(<<"type">>, Element),
                                 [{ok, <<"result">>}, {ok, <<"error">>}])
    end).

%% The next stanza, or other child of the stream; closed when the stream has ended.
-spec next(client()) -> element() | closed.
next(#{parser := Parser}) ->
    receive
        {Parser, {element, Element}} -> Element;
        {Parser, closed} -> closed
    after ?TIMEOUT ->
        error(nothing_came)
    end.

%% The first for which Fits holds; those before it are dropped.
-spec await(client(), fun((element()) -> boolean())) -> element().
await(Client, Fits) ->
    case next(Client) of
        closed -> error(closed);
        Element -> case Fits(Element) of
            true -> Element;
            false -> await(Client, Fits)
        end
    end.

%%% XEP-0215

%% What the user's own server tells: the attributes of each service.
-spec services(client()) -> [#{binary() => binary()}].
services(#{domain := Domain} = Client) -> services(Client, Domain).

-spec services(client(), To :: binary()) -> [#{binary() => binary()}].
services(Client, To) ->
    Answer = ask(Client, ["<iq type='get' id='", id(), "' to='", To, "'>"
                          "<services xmlns='" ?EXTDISCO "'/></iq>"]),
    {ok, <<"result">>} = attribute(<<"type">>, Answer),
    {ok, Services} = child(<<"services">>, Answer),
    told(Services).

%% Asks for the credentials of one service, given as services/1 told it. ejabberd 23.01 answers
%% with another root than it should.
-spec credentials(client(), #{binary() => binary()}) -> [#{binary() => binary()}].
credentials(#{domain := Domain} = Client, #{<<"host">> := Host, <<"type">> := Type}) ->
    Answer = ask(Client, ["<iq type='get' id='", id(), "' to='", Domain, "'>"
                          "<credentials xmlns='" ?EXTDISCO "'><service host='", Host, "' type='",
                          Type, "'/></credentials></iq>"]),
    {ok, <<"result">>} = attribute(<<"type">>, Answer),
    {xmlel, _, _, [Root | _]} = Answer,
    told(Root).

told({xmlel, _, _, Children}) ->
    [attributes(Service) || {xmlel, <<"service">>, _, _} = Service <- Children].

id() -> integer_to_binary(erlang:unique_integer([positive])).

%%% Elements

-spec child(binary(), element()) -> {ok, element()} | error.
child(Name, {xmlel, _, _, Children}) ->
    case [Child || {xmlel, Of, _, _} = Child <- Children, Of =:= Name] of
        [First | _] -> {ok, First};
        [] -> error
    end.

-spec attribute(binary(), element()) -> {ok, binary()} | error.
attribute(Name, Element) -> maps:find(Name, attributes(Element)).

-spec attributes(element()) -> #{binary() => binary()}.
attributes({xmlel, _, Attributes, _}) -> maps:from_list(Attributes).

%%% What comes, in a process of its own: the parser sends there

new() -> fxml_stream:new(self()).

parse(Socket, Caller, Stream) ->
    ok = inet:setopts(Socket, [{active, once}]),
    parsing(Socket, Caller, Stream).

parsing(Socket, Caller, Stream) ->
    receive
        restart ->
            _ = fxml_stream:close(Stream),
            parsing(Socket, Caller, new());
        close ->
            gen_tcp:close(Socket);
        {tcp, Socket, Bytes} ->
            parse(Socket, Caller, fxml_stream:parse(Stream, Bytes));
        {tcp_closed, Socket} ->
            Caller ! {self(), closed};
        {'$gen_event', {xmlstreamstart, _, Attributes}} ->
            Caller ! {self(), {start, Attributes}},
            parsing(Socket, Caller, Stream);
        {'$gen_event', {xmlstreamelement, Element}} ->
            Caller ! {self(), {element, Element}},
            parsing(Socket, Caller, Stream);
        {'$gen_event', {xmlstreamend, _}} ->
            parsing(Socket, Caller, Stream);
        {'$gen_event', {xmlstreamerror, Why}} ->
            exit({not_xml, Why})
    end.
