%% The addresses of this machine, as far as a server that chooses one needs them. It asks the
%% kernel and sends no packet; it knows nothing of the configuration.
-module(meerkat_host).

-export([route/1, first/1, bindable/1, listenable/3, on_link/1]).

-type family() :: inet | inet6.

%% The address packets to strangers leave from: that of the default route. Connecting a UDP socket
%% makes the kernel choose it; the target is of a documentation network (RFC 5737, RFC 3849).
-spec route(family()) -> {ok, inet:ip_address()} | none.
route(Family) ->
    case gen_udp:open(0, [Family]) of
        {ok, Socket} ->
            Chosen = connected(Socket, stranger(Family)),
            ok = gen_udp:close(Socket),
            Chosen;
        {error, _} ->
            none
    end.

connected(Socket, Stranger) ->
    case gen_udp:connect(Socket, Stranger, 9) of
        ok ->
            {ok, {Ip, _Port}} = inet:sockname(Socket),
            useful([Ip]);
        {error, _} ->
            none
    end.

stranger(inet) -> {198, 51, 100, 1};
stranger(inet6) -> {16#2001, 16#db8, 0, 0, 0, 0, 0, 1}.

%% The first address of an interface that is not the loopback one.
-spec first(family()) -> {ok, inet:ip_address()} | none.
first(Family) ->
    {ok, Interfaces} = inet:getifaddrs(),
    Size = size_of(Family),
    useful([Ip || {_, Options} <- Interfaces, {addr, Ip} <- Options, tuple_size(Ip) =:= Size]).

size_of(inet) -> 4;
size_of(inet6) -> 8.

useful(Ips) ->
    case lists:filter(fun is_useful/1, Ips) of
        [Ip | _] -> {ok, Ip};
        [] -> none
    end.

is_useful(Ip) ->
    not lists:member(meerkat_policy:kind(Ip), [loopback, link_local, metadata]).

%% Whether a socket can have this address: then it is ours, whatever the interfaces are called.
-spec bindable(inet:ip_address()) -> boolean().
bindable(Ip) ->
    Family = case tuple_size(Ip) of 4 -> inet; 8 -> inet6 end,
    case gen_udp:open(0, [Family, {ip, Ip}]) of
        {ok, Socket} -> gen_udp:close(Socket) =:= ok;
        {error, _} -> false
    end.

%% Whether one could listen there, where nothing of ours does. What this process may not, the relay
%% program maybe may: that is no reason.
-spec listenable(Transport :: string(), inet:ip_address(), inet:port_number()) ->
    true | {false, inet:posix()}.
listenable(Transport, Ip, Port) ->
    Family = case tuple_size(Ip) of 4 -> inet; 8 -> inet6 end,
    Options = [Family, {ip, Ip}] ++ [{ipv6_v6only, true} || Family =:= inet6],
    Opened = case Transport of
        "udp" -> gen_udp:open(Port, Options);
        _ -> gen_tcp:listen(Port, [{reuseaddr, true} | Options])
    end,
    case Opened of
        {ok, Socket} -> inet:close(Socket) =:= ok;
        {error, eacces} -> true;
        {error, Reason} -> {false, Reason}
    end.

%% Whether it is in a network of one of this machine's interfaces. Then this machine or a neighbour
%% has it, and it is not the address that a NAT has for us.
-spec on_link(inet:ip_address()) -> boolean().
on_link(Ip) ->
    {ok, Interfaces} = inet:getifaddrs(),
    lists:any(fun({_, Options}) -> is_on_link(Ip, Options) end, Interfaces).

%% An address is followed by its netmask.
is_on_link(Ip, [{addr, Own}, {netmask, Mask} | Options]) ->
    (meerkat_policy:kind(Own) =/= loopback andalso tuple_size(Own) =:= tuple_size(Ip)
        andalso masked(Own, Mask) =:= masked(Ip, Mask))
        orelse is_on_link(Ip, Options);
is_on_link(Ip, [_ | Options]) ->
    is_on_link(Ip, Options);
is_on_link(_Ip, []) ->
    false.

masked(Ip, Mask) ->
    [Part band Bits || {Part, Bits} <- lists:zip(tuple_to_list(Ip), tuple_to_list(Mask))].
