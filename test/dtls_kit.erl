%% What tests of DTLS need besides stream_kit: datagrams as they are on the wire, a network that
%% loses and swaps them, and OpenSSL's client.
-module(dtls_kit).

-export([hello/0, hello/1, record/3, openssl/1]).
-export([network/2, way/1, to/1, rule/2, stop/1]).

-type network() :: pid().
-type address() :: {inet:ip_address(), inet:port_number()}.
%% What becomes of the Nth datagram of a direction: it passes, is lost, or waits for the next one
%% and comes behind it.
-type rule() :: fun((up | down, N :: pos_integer(), binary()) -> pass | lose | swap).

%% A ClientHello without cookie, with a random of its own.
-spec hello() -> binary().
hello() -> hello(<<>>).

-spec hello(Cookie :: binary()) -> binary().
hello(Cookie) ->
    Body = <<16#fefd:16, (crypto:strong_rand_bytes(32))/binary, 0, (byte_size(Cookie)),
             Cookie/binary, 2:16, 16#c02b:16, 1, 0>>,
    Length = byte_size(Body),
    record(22, 0, <<1, Length:24, 0:16, 0:24, Length:24, Body/binary>>).

-spec record(Type :: byte(), Epoch :: char(), binary()) -> binary().
record(Type, Epoch, Body) ->
    <<Type, 16#fefd:16, Epoch:16, 77:48, (byte_size(Body)):16, Body/binary>>.

%% What `openssl s_client` says with these arguments.
-spec openssl(iodata()) -> string().
openssl(Arguments) ->
    os:cmd(unicode:characters_to_list(
               ["timeout 30 openssl s_client ", Arguments, " 2>&1 </dev/null"])).

%% ------------------------------------------------------------------------------------- network

%% Between one client and a server: the server sees one address, whoever sends. The client's side is
%% at to/1.
-spec network(address(), rule()) -> network().
network(Server, Rule) ->
    Owner = self(),
    Pid = spawn_link(fun() ->
        %% Room for a burst: nothing is lost but what the rule loses.
        Options = [binary, {active, true}, {ip, {127, 0, 0, 1}}, {recbuf, 1_000_000}],
        {ok, Front} = gen_udp:open(0, Options),
        {ok, Back} = gen_udp:open(0, Options),
        {ok, To} = inet:sockname(Front),
        {ok, SeenAs} = inet:sockname(Back),
        Owner ! {self(), #{to => To, here => SeenAs}},
        pass(#{front => Front, back => Back, server => Server, rule => Rule,
               client => none, up => 0, down => 0, held => #{}})
    end),
    receive {Pid, Way} -> put({?MODULE, Pid}, Way), Pid end.

%% Options of turn_kit:open/2 for a client that comes through it.
-spec way(network()) -> #{to := address(), here := address()}.
way(Network) -> get({?MODULE, Network}).

-spec to(network()) -> address().
to(Network) -> maps:get(to, way(Network)).

%% Another rule from now on; datagrams are counted anew.
-spec rule(network(), rule()) -> ok.
rule(Network, Rule) -> call(Network, {rule, Rule}).

-spec stop(network()) -> ok.
stop(Network) ->
    unlink(Network),
    call(Network, stop).

call(Network, What) ->
    Network ! {What, self()},
    receive {Network, Result} -> Result end.

pass(#{front := Front, back := Back} = S) ->
    receive
        {udp, Front, Ip, Port, Packet} -> pass(one(up, Packet, S#{client := {Ip, Port}}));
        {udp, Back, _, _, Packet} -> pass(one(down, Packet, S));
        {{rule, Rule}, From} ->
            From ! {self(), ok},
            pass(S#{rule := Rule, up := 0, down := 0, held := #{}});
        {stop, From} -> From ! {self(), ok}
    end.

one(Way, Packet, #{rule := Rule, held := Held} = S) ->
    N = maps:get(Way, S) + 1,
    case Rule(Way, N, Packet) of
        lose -> S#{Way := N};
        swap when not is_map_key(Way, Held) -> S#{Way := N, held := Held#{Way => Packet}};
        _ ->
            [send(Way, P, S) || P <- [Packet | [H || #{Way := H} <- [Held]]]],
            S#{Way := N, held := maps:remove(Way, Held)}
    end.

send(up, Packet, #{back := Back, server := Server}) -> gen_udp:send(Back, Server, Packet);
send(down, _, #{client := none}) -> ok;
send(down, Packet, #{front := Front, client := Client}) -> gen_udp:send(Front, Client, Packet).
