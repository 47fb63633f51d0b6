%% Tries whether two clients could do without a relay: a socket of its own asks a STUN server for
%% the address its NAT gives it, and sends to the one that the other side's NAT gave theirs. Where
%% a NAT chooses another port for each destination, as here, nothing ever arrives.
-module(stream_direct).

-export([open/1, probe/2, close/1]).

-define(PROBE, <<"is there a direct way?">>).

%% Answers the socket, whose owner gets {udp, Socket, Ip, Port, _} should a probe arrive, and its
%% address outside (RFC 8489 3).
-spec open(meerkat_client:address()) ->
          {ok, gen_udp:socket(), meerkat_client:address()} | {error, unicode:chardata()}.
open({Ip, _} = Server) ->
    Family = case tuple_size(Ip) of 4 -> inet; 8 -> inet6 end,
    {ok, Socket} = gen_udp:open(0, [binary, Family]),
    Id = meerkat_stun:transaction_id(),
    Request = meerkat_stun:encode(#{class => request, method => binding,
                                    transaction_id => Id, attributes => []}),
    mapped(Socket, Server, Request, Id, [500, 1000, 2000, 4000]).

mapped(Socket, _, _, _, []) ->
    close(Socket),
    {error, "the STUN server does not answer"};
mapped(Socket, {Ip, Port} = Server, Request, Id, [Patience | More]) ->
    ok = gen_udp:send(Socket, Ip, Port, Request),
    receive
        {udp, Socket, Ip, Port, Packet} ->
            {ok, #{transaction_id := Id} = Answer} = meerkat_stun:decode(Packet),
            {ok, Address} = meerkat_stun:get(xor_mapped_address, Answer),
            {ok, Socket, Address}
    after Patience ->
        mapped(Socket, Server, Request, Id, More)
    end.

%% Never fails: that it does not arrive is what is expected.
-spec probe(gen_udp:socket(), meerkat_client:address()) -> ok.
probe(Socket, {Ip, Port}) ->
    _ = gen_udp:send(Socket, Ip, Port, ?PROBE),
    ok.

-spec close(gen_udp:socket()) -> ok.
close(Socket) -> gen_udp:close(Socket).
