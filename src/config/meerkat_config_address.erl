%% Values that are addresses: of this server, of those it sends clients to, of networks and peers.
%% Part of meerkat_config_value.
-module(meerkat_config_address).

-export([text/2, is_value/2, networks_max/0, allowed/1, render/2]).
-export_type([type/0]).

%% The values: an IP address, of listen_address also the atom any, of relay_ip also {Advertised,
%% Bound}; of network {Ip, Bits}; of peer that, or {Ip, {First, Last}} with ports; of server and
%% http_address {Ip, Port}; of xmpp_server {Name or Ip, Port or the atom default}.
-type type() :: listen_address | relay_address | own_address | relay_ip | network | peer | server
              | http_address | xmpp_server.

-define(HOST, "(?:\\[([0-9a-fA-F:.]+)\\]|([0-9.]+))").
-define(PORT, "([0-9]{1,5})").

-spec text(type(), binary()) -> {ok, meerkat_config_value:value()} | error.
text(listen_address, <<"any">>) ->
    {ok, any};
text(listen_address, Text) ->
    address(Text, fun(_) -> true end);
text(Type, Text) when Type =:= relay_address; Type =:= own_address ->
    address(Text, fun relayable/1);
text(relay_ip, Text) ->
    relay_ip(binary:split(Text, <<"/">>));
text(network, Text) ->
    network(string:split(Text, "/"));
text(peer, Text) ->
    peer(parts(Text, ?HOST ":" ?PORT "(?:-" ?PORT ")?"), Text);
text(server, Text) ->
    server(parts(Text, ?HOST ":" ?PORT));
text(http_address, Text) ->
    http_address(parts(Text, "(?:" ?HOST ":)?" ?PORT));
text(xmpp_server, Text) ->
    xmpp_server(parts(Text, "(?:\\[([0-9a-fA-F:.]+)\\]|([A-Za-z0-9._-]+))(?::" ?PORT ")?")).

parts(Text, Pattern) ->
    re:run(Text, "^" ++ Pattern ++ "$", [dollar_endonly, {capture, all_but_first, binary}]).

%% An IP literal; `inet` also takes octal, hexadecimal and scoped ones, which nobody means.
address(Text, Fits) ->
    String = unicode:characters_to_list(Text),
    case inet:parse_strict_address(String) of
        {ok, {0, 0, 0, 0, 0, 16#ffff, A, B}} ->
            fits({A bsr 8, A band 255, B bsr 8, B band 255}, Fits);
        {ok, Ip} when tuple_size(Ip) =:= 4 ->
            case inet:ntoa(Ip) of
                String -> fits(Ip, Fits);
                _ -> error
            end;
        {ok, Ip} ->
            case lists:member($%, String) of
                true -> error;
                false -> fits(Ip, Fits)
            end;
        _ ->
            error
    end.

fits(Ip, Fits) ->
    case Fits(Ip) of
        true -> {ok, Ip};
        false -> error
    end.

%% No wildcard, multicast, broadcast or link-local address can be told to a client.
relayable({A, _, _, _}) -> A =/= 0 andalso A < 224;
relayable({0, 0, 0, 0, 0, 0, 0, 0}) -> false;
relayable({A, _, _, _, _, _, _, _}) -> A < 16#fe80 orelse (A >= 16#fec0 andalso A < 16#ff00).

%% Advertised and bound, as coturn's external-ip has them.
relay_ip([Address]) ->
    address(Address, fun relayable/1);
relay_ip([Advertised, Local]) ->
    case {address(Advertised, fun relayable/1), address(Local, fun relayable/1)} of
        {{ok, Ip}, {ok, Ip}} -> {ok, Ip};
        {{ok, A}, {ok, B}} when tuple_size(A) =:= tuple_size(B) -> {ok, {A, B}};
        _ -> error
    end.

network([Address]) ->
    case address(Address, fun(_) -> true end) of
        {ok, Ip} -> {ok, {Ip, width(Ip)}};
        error -> error
    end;
network([Address, Length]) ->
    case {address(Address, fun(_) -> true end), string:to_integer(Length)} of
        {{ok, Ip}, {Bits, <<>>}} when is_integer(Bits), Bits >= 0 ->
            case Bits =< width(Ip) andalso host_bits(Ip, Bits) =:= 0 of
                true -> {ok, {Ip, Bits}};
                false -> error
            end;
        _ ->
            error
    end.

%% A network as above, or an address with a port or a range of them.
peer({match, [V6, V4, Port]}, Text) ->
    peer({match, [V6, V4, Port, Port]}, Text);
peer({match, [V6, V4, First, Last]}, _) ->
    Size = case V4 of <<>> -> 8; _ -> 4 end,
    case {address(<<V6/binary, V4/binary>>, fun(Ip) -> tuple_size(Ip) =:= Size end),
          binary_to_integer(First), binary_to_integer(Last)} of
        {{ok, Ip}, A, B} when A > 0, A =< B, B < 65536 -> {ok, {Ip, {A, B}}};
        _ -> error
    end;
peer(nomatch, Text) ->
    text(network, Text).

%% The brackets are for IPv6 and for nothing else.
server({match, [V6, V4, Port]}) ->
    Size = case V4 of <<>> -> 8; _ -> 4 end,
    Fits = fun(Ip) -> tuple_size(Ip) =:= Size andalso relayable(Ip) end,
    case {address(<<V6/binary, V4/binary>>, Fits), binary_to_integer(Port)} of
        {{ok, Ip}, Number} when Number > 0, Number < 65536 -> {ok, {Ip, Number}};
        _ -> error
    end;
server(nomatch) ->
    error.

%% Without an address only this machine gets in.
http_address({match, [<<>>, <<>>, Port]}) ->
    http_address({match, [<<>>, <<"127.0.0.1">>, Port]});
http_address({match, [V6, V4, Port]}) ->
    case {address(<<V6/binary, V4/binary>>, fun(Ip) -> tuple_size(Ip) =:= 8 orelse V6 =:= <<>> end),
          binary_to_integer(Port)} of
        {{ok, Ip}, Number} when Number < 65536 -> {ok, {Ip, Number}};
        _ -> error
    end;
http_address(nomatch) ->
    error.

%% A name is taken as it is; digits and dots are an address or nothing.
xmpp_server({match, [V6, Name]}) ->
    xmpp_server({match, [V6, Name, <<>>]});
xmpp_server({match, [V6, Name, Port]}) ->
    case {xmpp_host(V6, Name), Port =/= <<>> andalso binary_to_integer(Port)} of
        {error, _} -> error;
        {{ok, Host}, false} -> {ok, {Host, default}};
        {{ok, Host}, Number} when Number > 0, Number < 65536 -> {ok, {Host, Number}};
        _ -> error
    end;
xmpp_server(nomatch) ->
    error.

xmpp_host(<<>>, Name) ->
    case re:run(Name, "^[0-9.]+$") of
        {match, _} -> address(Name, fun(_) -> true end);
        nomatch -> {ok, Name}
    end;
xmpp_host(V6, <<>>) ->
    address(V6, fun(Ip) -> tuple_size(Ip) =:= 8 end).

width(Ip) when tuple_size(Ip) =:= 4 -> 32;
width(_) -> 128.

host_bits(Ip, Bits) ->
    Width = width(Ip),
    Part = Width div tuple_size(Ip),
    Number = lists:foldl(fun(N, Acc) -> (Acc bsl Part) bor N end, 0, tuple_to_list(Ip)),
    Number band ((1 bsl (Width - Bits)) - 1).

%% Could this be a value of that type? Of networks there are as many as a relay has room for.
-spec is_value(type() | {list, type()}, term()) -> boolean().
is_value(listen_address, Ip) -> Ip =:= any orelse inet:is_ip_address(Ip);
is_value(own_address, Ip) -> inet:is_ip_address(Ip);
is_value(network, {Ip, Bits}) ->
    inet:is_ip_address(Ip) andalso is_between(0, Bits, width(Ip));
is_value(server, {Ip, Port}) -> inet:is_ip_address(Ip) andalso is_between(1, Port, 65535);
is_value(http_address, {Ip, Port}) -> inet:is_ip_address(Ip) andalso is_between(0, Port, 65535);
is_value(xmpp_server, {Host, Port}) ->
    (is_binary(Host) orelse inet:is_ip_address(Host))
        andalso (Port =:= default orelse is_between(0, Port, 65535));
is_value(peer, {Ip, {First, Last}}) ->
    inet:is_ip_address(Ip) andalso is_between(1, First, Last)
        andalso is_between(First, Last, 65535);
is_value(peer, Network) -> is_value(network, Network);
is_value({list, Type}, Networks) when Type =:= network; Type =:= peer ->
    is_list(Networks) andalso length(Networks) =< networks_max()
        andalso lists:all(fun(Network) -> is_value(Type, Network) end, Networks);
is_value({list, Type}, Values) ->
    is_list(Values) andalso lists:all(fun(Value) -> is_value(Type, Value) end, Values);
is_value(_Type, _Value) -> false.

is_between(Min, N, Max) ->
    is_integer(N) andalso N >= Min andalso N =< Max.

%% Of the rules a relay takes; ours and the other list's are as many again.
-spec networks_max() -> pos_integer().
networks_max() -> meerkat_ctl:limit(rules_max) div 4.

%% What a type takes, as the end of a sentence that begins "it must be".
-spec allowed(type() | {list, type()}) -> unicode:chardata().
allowed({list, listen_address}) ->
    <<"any, or IP addresses (in a file a list of texts, in the environment separated by commas)">>;
allowed({list, relay_address}) ->
    <<"one IPv4 address, one IPv6 address or both (in a file a list of texts, in the environment "
      "separated by a comma)">>;
allowed({list, own_address}) ->
    <<"IP addresses of this machine (in a file a list of texts, in the environment separated by "
      "commas)">>;
allowed({list, relay_ip}) ->
    <<"IP addresses, or pairs ADVERTISED/BOUND of them (in a file a list of texts, in the "
      "environment separated by commas)">>;
allowed({list, network}) ->
    <<"networks like 10.0.0.0/8 (in a file a list of texts, in the environment separated by "
      "commas)">>;
allowed({list, peer}) ->
    <<"networks like 10.0.0.0/8, or addresses, if wanted with ports, like 203.0.113.5:10000-20000 "
      "(in a file a list of texts, in the environment separated by commas)">>;
allowed({list, server}) ->
    <<"addresses with ports like 192.0.2.7:3478 or [2001:db8::7]:3478 (in a file a list of texts, "
      "in the environment separated by commas)">>;
allowed({list, xmpp_server}) ->
    <<"names or IP addresses, if wanted with a port: xmpp.example.com, 192.0.2.7:8888, "
      "[2001:db8::7]:8888 (in a file a list of texts, in the environment separated by commas)">>;
allowed(listen_address) ->
    <<"an IP address like 192.0.2.7 or 2001:db8::7 (no name), or any">>;
allowed(relay_address) ->
    <<"an IP address like 192.0.2.7 or 2001:db8::7 that clients and peers can reach: no name, "
      "wildcard, multicast or link-local address">>;
allowed(own_address) ->
    <<"an IP address of this machine like 10.0.0.1 or fd00::1: no name, wildcard, multicast or "
      "link-local address">>;
allowed(relay_ip) ->
    <<"an IP address like 192.0.2.7 or 2001:db8::7 that clients and peers can reach, or two of one "
      "family like 192.0.2.7/10.0.0.7, the advertised one first: no name, wildcard, multicast or "
      "link-local address">>;
allowed(server) ->
    <<"an IP address that clients can reach and a port, like 192.0.2.7:3478 or "
      "[2001:db8::7]:3478">>;
allowed(http_address) ->
    <<"a port, which only this machine reaches, or an IP address and a port, like 9641, "
      "192.0.2.7:9641 or [::]:9641">>;
allowed(xmpp_server) ->
    <<"a name or an IP address, if wanted with a port, like xmpp.example.com, 192.0.2.7:8888 or "
      "[2001:db8::7]:8888">>;
allowed(peer) ->
    <<"a network like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7, its host bits zero, or ports of one "
      "address like 192.0.2.7:10000, 192.0.2.7:10000-20000 or [2001:db8::7]:10000">>;
allowed(network) ->
    <<"a network like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7, its host bits zero">>.

%% A value as text for people.
-spec render(type(), meerkat_config_value:value()) -> unicode:chardata().
render(relay_ip, {Advertised, Local}) ->
    [meerkat_text:ip(Advertised), $/, meerkat_text:ip(Local)];
render(network, Network) -> meerkat_text:network(Network);
render(peer, Peer) -> meerkat_text:network(Peer);
render(http_address, Address) -> meerkat_text:address(Address);
render(server, Address) -> meerkat_text:address(Address);
render(xmpp_server, {Host, default}) when is_binary(Host) -> Host;
render(xmpp_server, {Host, default}) -> meerkat_text:ip(Host);
render(xmpp_server, {Host, Port}) when is_binary(Host) -> [Host, $:, integer_to_binary(Port)];
render(xmpp_server, Address) -> meerkat_text:address(Address);
render(_, Ip) -> meerkat_text:ip(Ip).
