%% One connection of a component to one XMPP server (XEP-0114): connects, proves the secret, carries
%% stanzas, and pings a silent server. When it ends it connects again after a while, a little later
%% each time. meerkat_xmpp handles the stanzas.
%%
%%   connecting -> opening -> proving -> up
%%        ^                               |  any of them fails
%%        +----------- waiting <----------+
-module(meerkat_xmpp_conn).
-behaviour(gen_statem).

-include_lib("kernel/include/logger.hrl").

-export([start_link/4, send/2, text/1]).
-export([backoff/2, proof/2]).
-export([init/1, callback_mode/0, handle_event/4, format_status/1]).

-define(CONNECT_MS, 5000).
%% To the end of the handshake.
-define(OPEN_MS, 10000).
-define(SEND_MS, 10000).
-define(BACKOFF_MS, 500).
-define(BACKOFF_MAX_MS, 60000).
%% After a connection that lasted this long the next wait is short again.
-define(STEADY_MS, 10000).
%% Another component has our name. Without a long wait the two would evict each other all the time.
-define(CONFLICT_MS, 300000).

-record(data, {
    keeper :: pid(),
    name :: atom(),
    server :: {binary() | inet:ip_address(), inet:port_number()},
    xmpp :: map(),
    socket = none :: none | gen_tcp:socket(),
    stream = none :: none | meerkat_xmpp_stream:stream(),
    tries = 0 :: non_neg_integer(),
    since = 0 :: integer()
}).

%% To Server, by the settings of the component. Returns at once; connects in its own time.
-spec start_link(Keeper :: pid(), Name :: atom(),
                 Server :: {binary() | inet:ip_address(), inet:port_number()}, Xmpp :: map()) ->
    {ok, pid()} | {error, term()}.
start_link(Keeper, Name, Server, Xmpp) ->
    case gen_statem:start_link(?MODULE, fun() -> {Keeper, Name, Server, Xmpp} end, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

%% Sends stanzas if the connection is up; otherwise they are dropped.
-spec send(pid(), [meerkat_xmpp_xml:element()]) -> ok.
send(Pid, Stanzas) -> gen_statem:cast(Pid, {send, Stanzas}).

%% A server as people write it.
-spec text({binary() | inet:ip_address(), inet:port_number()}) -> binary().
text({Host, Port}) when is_binary(Host) -> <<Host/binary, $:, (integer_to_binary(Port))/binary>>;
text(Address) -> list_to_binary(meerkat_text:address(Address)).

%% Milliseconds until the try after so many that failed: doubled each time, up to a minute, and
%% anything between half of that and all of it, so that many do not come at once. Random is from
%% 0.0 to 1.0.
-spec backoff(Failed :: non_neg_integer(), Random :: float()) -> pos_integer().
backoff(Failed, Random) ->
    Most = min(?BACKOFF_MAX_MS, ?BACKOFF_MS bsl min(Failed, 16)),
    Most div 2 + round(Random * (Most div 2)).

%% XEP-0114 3: in lower case, for that is how it is compared.
-spec proof(Id :: binary(), Secret :: binary()) -> binary().
proof(Id, Secret) ->
    string:lowercase(binary:encode_hex(crypto:hash(sha, [Id, Secret]))).

-spec callback_mode() -> handle_event_function.
callback_mode() -> handle_event_function.

-spec init(fun(() -> tuple())) -> gen_statem:init_result(connecting).
init(Given) ->
    {Keeper, Name, Server, Xmpp} = Given(),
    {ok, connecting, #data{keeper = Keeper, name = Name, server = Server, xmpp = Xmpp},
     {next_event, internal, connect}}.

%% A crash report shows no stanza, neither in state, event, messages nor reason: they hold
%% credentials.
-spec format_status(gen_statem:format_status()) -> gen_statem:format_status().
format_status(#{data := #data{server = Server, tries = Tries}} = Status) ->
    (meerkat_crash:status(Status))#{data := {Server, Tries}};
format_status(Status) ->
    meerkat_crash:status(Status).

-spec handle_event(gen_statem:event_type(), term(), atom(), #data{}) ->
    gen_statem:event_handler_result(atom()).
handle_event(Type, Event, State, Data) ->
    meerkat_crash:without_values(fun() -> event(State, Type, Event, Data) end).

event(connecting, Type, Event, Data) -> connecting(Type, Event, Data);
event(opening, Type, Event, Data) -> opening(Type, Event, Data);
event(proving, Type, Event, Data) -> proving(Type, Event, Data);
event(up, Type, Event, Data) -> up(Type, Event, Data);
event(waiting, Type, Event, Data) -> waiting(Type, Event, Data).

%%% States

connecting(internal, connect, Data) ->
    #data{xmpp = #{component := Component, is_subdomain := Sub}} = Data,
    case connect(Data#data.server) of
        {ok, Socket} ->
            Open = Data#data{socket = Socket, stream = meerkat_xmpp_stream:new()},
            case gen_tcp:send(Socket, meerkat_xmpp_stream:header(Component, Sub)) of
                ok ->
                    ok = inet:setopts(Socket, [{active, once}]),
                    {next_state, opening, Open, {{timeout, open}, ?OPEN_MS, late}};
                {error, Reason} ->
                    failed(inet:format_error(Reason), Open)
            end;
        {error, Reason} ->
            failed(inet:format_error(Reason), Data)
    end;
connecting(_, _, _Data) ->
    keep_state_and_data.

opening(internal, {open, Attributes}, #data{xmpp = #{secret := Secret}} = Data) ->
    case lists:keyfind(<<"id">>, 1, Attributes) of
        {_, Id} ->
            Proof = meerkat_xmpp_xml:el(<<"handshake">>, [], [{xmlcdata, proof(Id, Secret())}]),
            sent([Proof], proving, Data);
        false ->
            %% prosody: it does not know our name, and says so in what follows.
            keep_state_and_data
    end;
opening(Type, Event, Data) ->
    common(opening, Type, Event, Data).

proving(internal, {stanza, {xmlel, <<"handshake">>, _, _}}, Data) ->
    #data{keeper = Keeper, server = Server, xmpp = #{component := Component}} = Data,
    ok = meerkat_xmpp:up(Keeper),
    ?LOG_NOTICE("XMPP component ~ts is connected to ~ts", [Component, text(Server)]),
    {next_state, up, Data#data{since = erlang:monotonic_time(millisecond)},
     [{{timeout, open}, infinity, late}, quiet(Data)]};
proving(Type, Event, Data) ->
    common(proving, Type, Event, Data).

up(internal, {stanza, {xmlel, Name, _, _} = Stanza}, #data{keeper = Keeper} = Data)
  when Name =:= <<"iq">>; Name =:= <<"presence">>; Name =:= <<"message">> ->
    sent(meerkat_xmpp:stanza(Keeper, Stanza), up, Data);
up(internal, {hostile, Why, Envelope}, #data{keeper = Keeper} = Data) ->
    sent(meerkat_xmpp:hostile(Keeper, Why, Envelope), up, Data);
up(cast, {send, Stanzas}, Data) ->
    sent(Stanzas, up, Data);
up({timeout, quiet}, ping, #data{xmpp = #{ping_s := Seconds}} = Data) ->
    {Bytes, Next} = case pings(Data) of
        [] -> {<<" ">>, ping};
        Pings -> {[meerkat_xmpp_xml:encode(Ping) || Ping <- Pings], silent}
    end,
    case gen_tcp:send(Data#data.socket, Bytes) of
        ok -> {keep_state_and_data, [{{timeout, quiet}, Seconds * 1000, Next}]};
        {error, Reason} -> failed(inet:format_error(Reason), Data)
    end;
up({timeout, quiet}, silent, Data) ->
    failed("it says nothing, nor does it answer", Data);
up(Type, Event, Data) ->
    common(up, Type, Event, Data).

waiting(state_timeout, again, Data) ->
    {next_state, connecting, Data, {next_event, internal, connect}};
waiting(_, _, _Data) ->
    keep_state_and_data.

%%% What may happen in all of them

common(State, info, {tcp, Socket, Bytes}, #data{socket = Socket, stream = Stream} = Data) ->
    Heard = [quiet(Data) || State =:= up],
    case meerkat_xmpp_stream:feed(Bytes, Stream) of
        {ok, Events, Next} ->
            %% More is read when all this is done.
            Actions = [{next_event, internal, Event} || Event <- Events],
            {keep_state, Data#data{stream = Next},
             Heard ++ Actions ++ [{next_event, internal, more}]};
        {error, Fault, Events} ->
            Actions = [{next_event, internal, Event} || Event <- Events],
            {keep_state_and_data, Actions ++ [{next_event, internal, {fault, Fault}}]}
    end;
common(_State, internal, more, #data{socket = Socket} = Data) ->
    case inet:setopts(Socket, [{active, once}]) of
        ok -> keep_state_and_data;
        {error, Reason} -> failed(inet:format_error(Reason), Data)
    end;
common(_State, internal, {fault, too_large}, Data) ->
    ok = meerkat_xmpp:count(Data#data.keeper, too_large),
    failed("it sent a stanza of more than 1 MiB; let it refuse those of its users (docs/xmpp.md)",
           Data);
common(_State, internal, {fault, not_xml}, Data) ->
    ok = meerkat_xmpp:count(Data#data.keeper, not_xml),
    failed("it sent what is not XML, or XML with a document type", Data);
common(_State, internal, {stanza, {xmlel, <<"stream:error">>, _, _} = Error}, Data) ->
    refused(Error, Data);
common(_State, internal, close, Data) ->
    failed("it ended the stream", Data);
common(_State, info, {tcp_closed, Socket}, #data{socket = Socket} = Data) ->
    failed("the connection was closed", Data);
common(_State, info, {tcp_error, Socket, Reason}, #data{socket = Socket} = Data) ->
    failed(inet:format_error(Reason), Data);
common(_State, {timeout, open}, late, Data) ->
    failed("it does not answer as XEP-0114 has it", Data);
common(_State, _Type, _Event, _Data) ->
    keep_state_and_data.

%% RFC 6120 4.9: the first child says what it is, another may say so in words.
refused(Error, Data) ->
    Children = meerkat_xmpp_xml:children(Error),
    Conditions = [Name || {xmlel, Name, _, _} <- Children, Name =/= <<"text">>],
    Words = [[" (", meerkat_text:escape(meerkat_xmpp_xml:text(Text)), ")"]
             || {xmlel, <<"text">>, _, _} = Text <- Children],
    case Conditions of
        [<<"conflict">> | _] ->
            failed(["conflict", Words, ": another component has the name "
                    "xmpp_component, or is it another Meerkat? Each needs a name of its own"],
                   ?CONFLICT_MS, error, Data);
        [<<"not-authorized">> | _] ->
            failed(["not-authorized", Words, ": it does not know xmpp_component, or by another "
                    "secret than xmpp_secret"], Data);
        [Condition | _] ->
            failed(["it ended the stream: ", meerkat_text:escape(Condition), Words], Data);
        [] ->
            failed("it ended the stream", Data)
    end.

failed(Why, #data{tries = Tries} = Data) ->
    %% One line for each series of failures; the others are for who looks for them.
    failed(Why, none, case Tries of 0 -> warning; _ -> info end, Data).

failed(Why, Wait, Level, #data{server = Server, tries = Tries, since = Since} = Data) ->
    ok = closed(Data),
    Steady = Since =/= 0 andalso erlang:monotonic_time(millisecond) - Since > ?STEADY_MS,
    Failed = if Steady -> 0; true -> Tries end,
    Ms = case Wait of
        none -> backoff(Failed, rand:uniform());
        _ -> Wait div 2 + rand:uniform(Wait)
    end,
    ?LOG(case Steady of true when Level =:= info -> warning; _ -> Level end,
         "no XMPP component at ~ts: ~ts; again in ~ts",
         [text(Server), Why, meerkat_text:duration(Ms)]),
    {next_state, waiting, Data#data{socket = none, stream = none, since = 0, tries = Failed + 1},
     [{{timeout, quiet}, infinity, silent}, {{timeout, open}, infinity, late},
      {state_timeout, Ms, again}]}.

closed(#data{socket = none}) ->
    ok;
closed(#data{keeper = Keeper, socket = Socket, stream = Stream, since = Since}) ->
    _ = gen_tcp:send(Socket, meerkat_xmpp_stream:closing()),
    ok = gen_tcp:close(Socket),
    ok = meerkat_xmpp_stream:close(Stream),
    case Since of
        0 -> ok;
        _ ->
            ok = meerkat_xmpp:count(Keeper, lost),
            meerkat_xmpp:down(Keeper)
    end.

%%% Sending

sent([], State, Data) ->
    {next_state, State, Data, []};
sent(Stanzas, State, #data{socket = Socket} = Data) ->
    case gen_tcp:send(Socket, [meerkat_xmpp_xml:encode(Stanza) || Stanza <- Stanzas]) of
        ok -> {next_state, State, Data, []};
        {error, Reason} -> failed(inet:format_error(Reason), Data)
    end.

%% Any answer shows that the server lives, an error too. Without a domain to ping white space is
%% sent; if the connection is dead, sending the second one fails.
pings(#data{xmpp = #{component := Component, is_subdomain := Sub, domains := Domains}}) ->
    Hosts = case Domains of
        [] -> [Parent || Parent <- [meerkat_xmpp_jid:parent(Component)], Parent =/= none];
        _ -> Domains
    end,
    From = fun(Host) when Sub -> <<Component/binary, $., Host/binary>>; (_) -> Component end,
    [meerkat_xmpp_xml:el(<<"iq">>,
         [{<<"type">>, <<"get">>}, {<<"id">>, <<"ping">>}, {<<"from">>, From(Host)},
          {<<"to">>, Host}],
         [meerkat_xmpp_xml:el(<<"ping">>, [{<<"xmlns">>, <<"urn:xmpp:ping">>}])])
     || Host <- lists:sublist(Hosts, 1)].

quiet(#data{xmpp = #{ping_s := Seconds}}) -> {{timeout, quiet}, Seconds * 1000, ping}.

%%% Connecting

connect({Host, Port}) ->
    Options = [binary, {packet, raw}, {active, false}, {nodelay, true}, {keepalive, true},
               {send_timeout, ?SEND_MS}, {send_timeout_close, true}, {buffer, 16384}],
    case Host of
        Name when is_binary(Name) -> named(binary_to_list(Name), Port, Options, [inet, inet6]);
        Ip -> gen_tcp:connect(Ip, Port, Options, ?CONNECT_MS)
    end.

named(Name, Port, Options, [Family | Families]) ->
    case gen_tcp:connect(Name, Port, [Family | Options], ?CONNECT_MS) of
        {error, _} when Families =/= [] -> named(Name, Port, Options, Families);
        Outcome -> Outcome
    end.
