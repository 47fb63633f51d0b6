%% The end that a component connects to (XEP-0114), played for suites, where no server that can be
%% installed does what is meant: as MongooseIM does it, attributes in alphabetical order and single
%% quotes, or as badly as can be. And what suites want to see of a component from inside.
-module(xmpp_component_kit).

-include_lib("stdlib/include/assert.hrl").

-export([listen/0, options/1, options/2, close/1, accept/1, accept/2, opened/1, proven/2]).
-export([hang_up/1]).
-export([send/2, next/1, ask/2, await/2, ended/1]).
-export([up/1, up/2, counted/3, eventually/1]).

-type listener() :: #{socket := gen_tcp:socket(), port := inet:port_number()}.
-type link() :: #{socket := gen_tcp:socket(), stream := term(), open => map()}.

-define(TIMEOUT, 20000).
-define(ID, "3a8f/&amp;").

-spec listen() -> listener().
listen() ->
    {ok, Socket} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}},
                                      {reuseaddr, true}]),
    {ok, Port} = inet:port(Socket),
    #{socket => Socket, port => Port}.

-spec close(listener()) -> ok.
close(#{socket := Socket}) -> gen_tcp:close(Socket).

%% Configuration of a component of these servers (here, or xmpp_servers').
options(Servers) -> options(Servers, #{}).

options(Servers, More) ->
    maps:merge(#{xmpp_host => [{{127, 0, 0, 1}, port(Server)} || Server <- Servers],
                 xmpp_component => <<"turn.localhost">>, xmpp_secret => <<"turnsecret">>,
                 xmpp_rate => 0}, More).

port(#{component := Port}) -> Port;
port(#{port := Port}) -> Port.

%% Waits for a component and takes it in, if its proof is right.
-spec accept(listener()) -> link().
accept(Listener) -> accept(Listener, <<"turnsecret">>).

-spec accept(listener(), Secret :: binary()) -> link().
accept(Listener, Secret) ->
    proven(opened(Listener), Secret).

%% Up to its proof.
-spec opened(listener()) -> link().
opened(#{socket := Listening}) ->
    {ok, Socket} = gen_tcp:accept(Listening, ?TIMEOUT),
    Link = #{socket => Socket, stream => fxml_stream:new(self(), infinity, [no_gen_server])},
    ok = inet:setopts(Socket, [{active, true}]),
    {open, Attributes} = next(Link),
    ok = send(Link, "<?xml version='1.0'?><stream:stream from='turn.localhost' id='" ?ID "' "
                    "xmlns='jabber:component:accept' "
                    "xmlns:stream='http://etherx.jabber.org/streams'>"),
    Link#{open => maps:from_list(Attributes)}.

%% XEP-0114 3: lower-case hex, compared as bytes.
-spec proven(link(), binary()) -> link().
proven(Link, Secret) ->
    Right = list_to_binary([io_lib:format("~2.16.0b", [Byte])
                            || <<Byte>> <= crypto:hash(sha, ["3a8f/&", Secret])]),
    ?assertMatch({element, {xmlel, <<"handshake">>, _, [{xmlcdata, Right}]}}, next(Link)),
    ok = send(Link, "<handshake/>"),
    Link.

-spec hang_up(link()) -> ok.
hang_up(#{socket := Socket}) -> gen_tcp:close(Socket).

-spec send(link(), iodata()) -> ok.
send(#{socket := Socket}, Bytes) -> gen_tcp:send(Socket, Bytes).

%% The next thing the component says.
-spec next(link()) -> {open, list()} | {element, tuple()} | closed.
next(#{socket := Socket, stream := Stream} = Link) ->
    receive
        {xmlstreamstart, _, Attributes} -> {open, Attributes};
        {xmlstreamelement, Element} -> {element, Element};
        {xmlstreamcdata, _} -> next(Link);
        {xmlstreamend, _} -> closed
    after 0 ->
        receive
            {tcp, Socket, Bytes} ->
                _ = fxml_stream:parse(Stream, Bytes),
                next(Link);
            {tcp_closed, Socket} ->
                closed
        after ?TIMEOUT ->
            error(nothing_came)
        end
    end.

%% The first element for which Fits holds.
await(Link, Fits) ->
    case next(Link) of
        {element, Element} ->
            case Fits(Element) of
                true -> Element;
                false -> await(Link, Fits)
            end;
        Other ->
            error(Other)
    end.

%% Sends an IQ of id `q` and returns its answer.
ask(Link, Iq) ->
    ok = send(Link, Iq),
    await(Link, fun(Element) -> xmpp_client_kit:attribute(<<"id">>, Element) =:= {ok, <<"q">>} end).

%% Returns when the component has ended the stream.
ended(Link) ->
    case next(Link) of
        closed -> ok;
        _ -> ended(Link)
    end.

%%% Inside

%% Returns when all of its connections are up.
up(Server) -> up(Server, all).

%% Or so many.
up(#{name := Name}, Number) ->
    eventually(fun() ->
        #{connections := Connections} = meerkat_xmpp:info(Name),
        Up = length([up || up <- maps:values(Connections)]),
        Up =:= case Number of all -> map_size(Connections); _ -> Number end andalso Up > 0
    end).

%% Returns when so many, or more, have been counted.
counted(#{name := Name}, Event, N) ->
    eventually(fun() ->
        #{counts := #{Event := Counted}} = meerkat_xmpp:info(Name),
        Counted >= N
    end).

eventually(Fun) ->
    eventually(Fun, erlang:monotonic_time(millisecond) + 30000).

eventually(Fun, Deadline) ->
    Fun() orelse begin
        ?assert(erlang:monotonic_time(millisecond) < Deadline),
        receive after 20 -> ok end,
        eventually(Fun, Deadline)
    end,
    ok.
