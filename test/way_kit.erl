%% A way that media takes, and which is bad: a process between whoever sends and where that goes.
%% The kernel's own (netem) is not in every kernel; this one also knows exactly what it has done.
-module(way_kit).

-export([open/3, over/1, is_media/1]).
-export_type([way/0, verdict/0]).

-type way() :: pid().
-type verdict() :: pass | lose | {hold, Ms :: pos_integer()}.

%% Datagrams to its port go on to To, each source's from a socket of its own, unless Judge says
%% otherwise; whatever comes back passes. Judge has a state of its own.
-spec open(To :: {inet:ip_address(), inet:port_number()},
           fun((binary(), State) -> {verdict(), State}), State) -> {way(), inet:port_number()}.
open(To, Judge, State) ->
    Test = self(),
    Pid = spawn_link(fun() ->
        {ok, Near} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {active, true},
                                      {recbuf, 1 bsl 20}]),
        {ok, Port} = inet:port(Near),
        Test ! {way, self(), Port},
        carry(#{near => Near, to => To, far => #{}, sources => #{}}, Judge, State)
    end),
    receive {way, Pid, Port} -> {Pid, Port} end.

%% Judge's state. It goes on, as what sends may do.
-spec over(way()) -> State :: term().
over(Way) ->
    Way ! {over, self()},
    receive {over, Way, State} -> State end.

carry(#{near := Near, far := Far} = Sockets, Judge, State0) ->
    receive
        {udp, Near, Ip, Port, Data} ->
            {Verdict, State} = Judge(Data, State0),
            carry(judged(Verdict, {Ip, Port}, Data, Sockets), Judge, State);
        {udp, Socket, _, _, Data} ->
            #{Socket := {Ip, Port}} = Far,
            _ = gen_udp:send(Near, Ip, Port, Data),
            carry(Sockets, Judge, State0);
        {held, From, Data} ->
            carry(judged(pass, From, Data, Sockets), Judge, State0);
        {over, Test} ->
            Test ! {over, self(), State0},
            carry(Sockets, Judge, State0)
    end.

judged(lose, _From, _Data, Sockets) ->
    Sockets;
judged({hold, Ms}, From, Data, Sockets) ->
    _ = erlang:send_after(Ms, self(), {held, From, Data}),
    Sockets;
judged(pass, From, Data, #{to := {Ip, Port}} = Sockets0) ->
    {Socket, Sockets} = far(From, Sockets0),
    _ = gen_udp:send(Socket, Ip, Port, Data),
    Sockets.

far(From, #{sources := Sources, far := Far} = Sockets) ->
    case Sources of
        #{From := Socket} -> {Socket, Sockets};
        #{} ->
            {ok, Socket} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {active, true},
                                            {recbuf, 1 bsl 20}]),
            {Socket, Sockets#{sources := Sources#{From => Socket}, far := Far#{Socket => From}}}
    end.

%% RTP and not RTCP (RFC 5761 4), bare or in ChannelData.
-spec is_media(binary()) -> {true, Ssrc :: non_neg_integer()} | false.
is_media(<<1:2, _:14, _:16, Inner/binary>>) -> is_media(Inner);
is_media(<<2:2, _:6, Type, _:16, _:32, Ssrc:32, _/binary>>) when Type < 192; Type > 223 ->
    {true, Ssrc};
is_media(_) -> false.
