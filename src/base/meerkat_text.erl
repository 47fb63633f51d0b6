%% Text for logs: addresses, networks, and what strangers sent. Pure. Whatever comes from the
%% network passes escape/1 first: it can then neither begin another line of the log nor control the
%% terminal that shows it.
-module(meerkat_text).

-export([escape/1, printable/1, ip/1, address/1, network/1, duration/1, session/1, allocations/1]).

%% Bytes of a stranger's text that a log shows; USERNAME may have 763.
-define(SHOWN, 128).

%% Printable UTF-8 as it is, everything else (control characters, broken UTF-8, line separators,
%% what turns the direction of writing, the backslash) as \xHH per byte. Cut after 128 bytes.
-spec escape(binary()) -> unicode:chardata().
escape(Text) when byte_size(Text) > ?SHOWN ->
    [escape_all(binary:part(Text, 0, ?SHOWN)), "..."];
escape(Text) ->
    escape_all(Text).

%% A whole text, uncut, with its lines and backslashes: what another program has put into words.
-spec printable(binary()) -> unicode:chardata().
printable(Text) ->
    [case Part of
         <<C>> when C =:= $\n; C =:= $\\ -> C;
         _ -> escape_all(Part)
     end || Part <- re:split(Text, "([\n\\\\])")].

-spec ip(inet:ip_address()) -> string().
ip(Ip) ->
    inet:ntoa(Ip).

%% "192.0.2.1:80", "[2001:db8::1]:80", "none".
-spec address(meerkat_ctl:address()) -> string().
address(undefined) ->
    "none";
address({Ip, Port}) when tuple_size(Ip) =:= 4 ->
    inet:ntoa(Ip) ++ ":" ++ integer_to_list(Port);
address({Ip, Port}) ->
    "[" ++ inet:ntoa(Ip) ++ "]:" ++ integer_to_list(Port).

%% "10.0.0.0/8".
%% Some ports of an address: "203.0.113.5:10000-20000".
-spec network({inet:ip_address(), 0..128 | {inet:port_number(), inet:port_number()}}) -> string().
network({Ip, {Port, Port}}) ->
    lists:flatten(address({Ip, Port}));
network({Ip, {First, Last}}) ->
    network({Ip, {First, First}}) ++ "-" ++ integer_to_list(Last);
network({Ip, Bits}) ->
    inet:ntoa(Ip) ++ "/" ++ integer_to_list(Bits).

%% A session as people read and type it: "1-37", its worker and its number there.
-spec session(non_neg_integer()) -> string().
session(Session) ->
    lists:flatten(io_lib:format("~b-~b", [Session bsr 56, Session band 16#ffffffffffffff])).

%% "1 allocation", "2 allocations".
-spec allocations(non_neg_integer()) -> string().
allocations(1) -> "1 allocation";
allocations(N) -> integer_to_list(N) ++ " allocations".

%% Milliseconds as "12.345 s".
-spec duration(non_neg_integer()) -> string().
duration(Ms) ->
    lists:flatten(io_lib:format("~b.~3..0b s", [Ms div 1000, Ms rem 1000])).

escape_all(<<C/utf8, Rest/binary>>) when C >= 16#20, C =/= $\\, C < 16#7f;
                                         C >= 16#a0, C < 16#2028;
                                         C > 16#202e, C < 16#2066; C > 16#2069 ->
    [C | escape_all(Rest)];
escape_all(<<Byte, Rest/binary>>) ->
    [io_lib:format("\\x~2.16.0b", [Byte]) | escape_all(Rest)];
escape_all(<<>>) ->
    [].
