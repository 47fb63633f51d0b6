%% The types of configuration values: how each is read from an environment variable or from a
%% file, what it allows in words, how it is shown. Pure; knows no key, no file name, no machine.
%% What is secret is never part of an error or of a rendering.
-module(meerkat_config_value).

-export([parse_text/2, parse_leaves/2, is_value/2, widened/1, networks_max/0]).
-export([allowed/1, render/2, quote/1, libconfig/1]).
-export_type([type/0, value/0, leaf/0, place/0, failure/0]).

-type type() ::
    boolean
    | boolean_or_auto
    | {integer, Min :: integer(), Max :: integer()}
    | {choice, [{Spelling :: binary(), Value :: atom()}]}
    | {text, MaxCharacters :: pos_integer()}
    %% As RFC 8265 4.2 (OpaqueString) prepares it, like a password; the bytes are those of the
    %% prepared text.
    | {opaque_string, MaxBytes :: pos_integer()}
    | password
    | secret
    | listen_address
    | relay_address
    | relay_ip
    | network
    | peer
    | server
    | http_address
    | xmpp_server
    | domain
    | jid
    | key
    | {list, type()}
    | meerkat_config_web:type()
    | meerkat_config_database:type()
    | meerkat_config_group:type().
%% boolean(), `auto`, integer(), an atom of the choice, binary(), `any` or an address,
%% {address, bits},
%% {address, port}, a list of these; an xmpp_server is {name or address, port or `default`}; a
%% relay_ip is an address or {advertised, bound}; groups are told of in meerkat_config_group, names
%% and web servers in meerkat_config_web.
-type value() :: term().
%% What meerkat_conf_nif:read/1 found below a key: the rest of its path, its value, its place.
-type leaf() :: {meerkat_conf_nif:path() | [], meerkat_conf_nif:value(), place()}.
-type place() :: meerkat_conf_nif:place().
%% What was wrong, as it may be shown; what would have been right.
-type failure() :: {Shown :: unicode:chardata(), Allowed :: unicode:chardata()}.

%% Elements of a list that are named where they are wrong.
-define(SHOWN, 8).

-define(IS_GROUPS(Type),
        (Type =:= users orelse Type =:= added_users orelse Type =:= listeners
             orelse Type =:= relays orelse Type =:= realms)).

-define(IS_WEB(Type), (Type =:= server_name orelse Type =:= web_server orelse Type =:= url)).

%% A value as the environment gives it. Lists are separated by commas, but for secrets, which may
%% contain one.
-spec parse_text(type(), binary()) -> {ok, value()} | {error, failure()}.
parse_text({list, secret}, Text) ->
    {ok, [Text]};
parse_text(Type, Text) when Type =:= secret; Type =:= password ->
    scalar(Type, Text);
parse_text({list, Type}, Text) ->
    elements(Type, [scalar(Type, trim(Part)) || Part <- binary:split(Text, <<",">>, [global])]);
parse_text(Type, Text) ->
    scalar(Type, trim(Text)).

trim(Text) ->
    re:replace(Text, "^\\s+|\\s+$", "", [global, {return, binary}]).

%% A value as a file gives it: the scalars found below its key. All that failed, each with its
%% place.
-spec parse_leaves(type(), [leaf(), ...]) ->
    {ok, value()} | {error, [{failure(), place()}, ...]}.
parse_leaves({list, _}, [{[], empty_list, _}]) ->
    {ok, []};
parse_leaves(Type, Leaves) when ?IS_GROUPS(Type) ->
    meerkat_config_group:parse(Type, Leaves);
parse_leaves({list, Type} = List, Leaves) ->
    Parsed = [case element_path(Path) of
                  true -> place(scalar(Type, Value), Place);
                  false -> {error, [{{<<"a group">>, allowed(List)}, Place}]}
              end || {Path, Value, Place} <- Leaves],
    case lists:append([Failures || {error, Failures} <- Parsed]) of
        [] ->
            [{_, _, First} | _] = Leaves,
            place(whole(Type, [Value || {ok, Value} <- Parsed]), First);
        Failures ->
            {error, Failures}
    end;
parse_leaves(Type, [{[], Value, Place}]) ->
    place(scalar(Type, Value), Place);
parse_leaves(Type, [{_, _, Place} | _]) ->
    {error, [{{<<"a list or a group">>, allowed(Type)}, Place}]}.

element_path([]) -> true;
element_path([Index]) -> is_integer(Index);
element_path(_) -> false.

place({ok, Value}, _) -> {ok, Value};
place({error, Failure}, Place) -> {error, [{Failure, Place}]}.

%% Of a text all elements that are wrong, as far as a line has room for them.
elements(Type, Parsed) ->
    case [Failure || {error, Failure} <- Parsed] of
        [{_, Allowed} | _] = Failures ->
            {Some, More} = lists:split(min(?SHOWN, length(Failures)), Failures),
            {error, {[lists:join(<<", ">>, [Shown || {Shown, _} <- Some]),
                      [[<<" and ">>, integer_to_binary(length(More)), <<" more">>]
                       || More =/= []]], Allowed}};
        [] ->
            whole(Type, [Value || {ok, Value} <- Parsed])
    end.

%% What holds for a list as a whole, once each element is known to be right.
whole(relay_address, Ips) ->
    case {[Ip || Ip <- Ips, tuple_size(Ip) =:= 4], [Ip || Ip <- Ips, tuple_size(Ip) =:= 8]} of
        {[_, _ | _], _} -> {error, two_of_a_family(Ips)};
        {_, [_, _ | _]} -> {error, two_of_a_family(Ips)};
        {V4, V6} -> {ok, V4 ++ V6}
    end;
whole(listen_address, [_, _ | _] = Ips) ->
    case lists:member(any, Ips) of
        true -> {error, {render({list, listen_address}, Ips), allowed({list, listen_address})}};
        false -> {ok, unique(Ips)}
    end;
whole(Type, Values) when ?IS_WEB(Type) ->
    case meerkat_config_web:is_value({list, Type}, unique(Values)) of
        true -> {ok, unique(Values)};
        false -> {error, {render({list, Type}, Values), allowed({list, Type})}}
    end;
whole(_, Values) ->
    {ok, unique(Values)}.

two_of_a_family(Ips) ->
    {render({list, relay_address}, Ips), <<"at most one IPv4 and one IPv6 address">>}.

unique([]) -> [];
unique([Value | Rest]) -> [Value | unique([Other || Other <- Rest, Other =/= Value])].

%% A scalar of a file, or a text: numbers and booleans may also be written as text.
scalar(boolean, Value) when is_boolean(Value) -> {ok, Value};
scalar(boolean, 1) -> {ok, true};
scalar(boolean, 0) -> {ok, false};
scalar(boolean_or_auto, Value) when is_boolean(Value); Value =:= 1; Value =:= 0 ->
    scalar(boolean, Value);
scalar({integer, _, _} = Type, Value) when is_integer(Value) ->
    case is_value(Type, Value) of
        true -> {ok, Value};
        false -> {error, {show(Type, Value), allowed(Type)}}
    end;
scalar(http_address, Port) when is_integer(Port) ->
    scalar(http_address, integer_to_binary(Port));
scalar(Type, Text) when is_binary(Text) ->
    %% The functions of `string` below take nothing but UTF-8; a secret is just bytes.
    Readable = Type =:= secret orelse is_list(unicode:characters_to_list(Text)),
    case Readable andalso text(Type, Text) of
        {ok, Value} -> {ok, Value};
        _ -> {error, {show(Type, Text), allowed(Type)}}
    end;
scalar(Type, Value) ->
    {error, {show(Type, Value), allowed(Type)}}.

text(boolean, Text) ->
    Spellings = [
        {<<"true">>, true}, {<<"1">>, true}, {<<"yes">>, true},
        {<<"false">>, false}, {<<"0">>, false}, {<<"no">>, false}
    ],
    text({choice, Spellings}, Text);
text(boolean_or_auto, Text) ->
    case string:lowercase(Text) of
        <<"auto">> -> {ok, auto};
        _ -> text(boolean, Text)
    end;
text({integer, _, _} = Type, Text) ->
    case string:to_integer(Text) of
        {N, <<>>} when is_integer(N) -> judged(Type, N);
        _ -> error
    end;
text({choice, Choices}, Text) ->
    case lists:keyfind(string:lowercase(Text), 1, Choices) of
        {_, Value} -> {ok, Value};
        false -> error
    end;
text({text, Max}, Text) ->
    judged({text, Max}, Text);
text({opaque_string, Max}, Text) ->
    case text({text, Max}, Text) of
        {ok, Text} -> prepared({opaque_string, Max}, meerkat_opaque_string:prepare(Text));
        error -> error
    end;
text(password, Text) ->
    meerkat_opaque_string:prepare(Text);
text(secret, Text) when Text =/= <<>> ->
    {ok, Text};
text(listen_address, <<"any">>) ->
    {ok, any};
text(listen_address, Text) ->
    address(Text, fun(_) -> true end);
text(relay_address, Text) ->
    address(Text, fun relayable/1);
text(relay_ip, Text) ->
    relay_ip(binary:split(Text, <<"/">>));
text(network, Text) ->
    network(string:split(Text, "/"));
text(peer, Text) ->
    peer(re:run(Text, "^(?:\\[([0-9a-fA-F:.]+)\\]|([0-9.]+)):([0-9]{1,5})(?:-([0-9]{1,5}))?$",
                [dollar_endonly, {capture, all_but_first, binary}]), Text);
text(server, Text) ->
    server(re:run(Text, "^(?:\\[([0-9a-fA-F:.]+)\\]|([0-9.]+)):([0-9]{1,5})$",
                  [dollar_endonly, {capture, all_but_first, binary}]));
text(http_address, Text) ->
    http_address(re:run(Text, "^(?:(?:\\[([0-9a-fA-F:.]+)\\]|([0-9.]+)):)?([0-9]{1,5})$",
                        [dollar_endonly, {capture, all_but_first, binary}]));
text(xmpp_server, Text) ->
    xmpp_server(re:run(Text, "^(?:\\[([0-9a-fA-F:.]+)\\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?$",
                       [dollar_endonly, {capture, all_but_first, binary}]));
text(web_server, Text) ->
    web_server(meerkat_config_web:text(web_server, Text));
text(Type, Text) when ?IS_WEB(Type) ->
    meerkat_config_web:text(Type, Text);
text({database, Kind}, Text) ->
    meerkat_config_database:text(Kind, Text);
text(domain, Text) ->
    named(Text, "^[^\\s@/.\\x00-\\x1f][^\\s@/\\x00-\\x1f]*$");
text(jid, Text) ->
    named(Text, "^[^\\s@/\\x00-\\x1f]+@[^\\s@/\\x00-\\x1f]+$");
text(key, <<Hex:32/binary>>) ->
    case re:run(Hex, "^[0-9a-fA-F]{32}$") of
        {match, _} -> {ok, <<(binary_to_integer(Hex, 16)):128>>};
        nomatch -> error
    end;
text(_, _) ->
    error.

judged(Type, Value) ->
    case is_value(Type, Value) of
        true -> {ok, Value};
        false -> error
    end.

prepared(Type, {ok, Text}) -> judged(Type, Text);
prepared(_Type, error) -> error.

%% What RFC 8489 14.9 keeps out of a REALM, and 14.14 does well to keep out of SOFTWARE.
unquotable(C) ->
    C < 32 orelse C =:= 127 orelse C =:= $" orelse C =:= $\\.

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

%% One that we connect to: it may be loopback.
web_server({ok, {Name, Address}}) ->
    case text(http_address, Address) of
        {ok, {Ip, Port}} when Port > 0 ->
            case binary:match(Address, <<":">>) of
                nomatch -> error;
                _ -> {ok, {Name, {Ip, Port}}}
            end;
        _ -> error
    end;
web_server(error) ->
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

%% Names of XMPP, in lower case; what else prepares them the libraries for XMPP know.
named(Text, Pattern) ->
    case byte_size(Text) < 1024 andalso re:run(Text, Pattern, [dollar_endonly, unicode]) of
        {match, _} -> {ok, unicode:characters_to_binary(string:lowercase(Text))};
        _ -> error
    end.

width(Ip) when tuple_size(Ip) =:= 4 -> 32;
width(_) -> 128.

host_bits(Ip, Bits) ->
    Width = width(Ip),
    Part = Width div tuple_size(Ip),
    Number = lists:foldl(fun(N, Acc) -> (Acc bsl Part) bor N end, 0, tuple_to_list(Ip)),
    Number band ((1 bsl (Width - Bits)) - 1).

%% Could this be a value of that type, however it was come by?
-spec is_value(type(), term()) -> boolean().
is_value(boolean, Value) -> is_boolean(Value);
is_value(boolean_or_auto, Value) -> is_boolean(Value) orelse Value =:= auto;
is_value({integer, Min, Max}, Value) -> is_integer(Value) andalso Value >= Min andalso Value =< Max;
is_value({choice, Choices}, Value) -> lists:keymember(Value, 2, Choices);
is_value({text, Max}, Text) ->
    Chars = is_binary(Text) andalso unicode:characters_to_list(Text),
    is_list(Chars) andalso Chars =/= [] andalso length(Chars) =< Max
        andalso not lists:any(fun unquotable/1, Chars);
is_value({opaque_string, Max}, Text) ->
    is_value(password, Text) andalso byte_size(Text) =< Max;
is_value(password, Text) -> is_binary(Text) andalso meerkat_opaque_string:prepare(Text) =/= error;
is_value(secret, Text) -> is_binary(Text) andalso Text =/= <<>>;
is_value(key, Key) -> is_binary(Key) andalso byte_size(Key) =:= 16;
is_value(listen_address, Ip) -> Ip =:= any orelse inet:is_ip_address(Ip);
is_value(network, {Ip, Bits}) ->
    inet:is_ip_address(Ip) andalso is_value({integer, 0, width(Ip)}, Bits);
is_value(server, {Ip, Port}) -> inet:is_ip_address(Ip) andalso is_value({integer, 1, 65535}, Port);
is_value(http_address, {Ip, Port}) ->
    inet:is_ip_address(Ip) andalso is_value({integer, 0, 65535}, Port);
is_value(xmpp_server, {Host, Port}) ->
    (is_binary(Host) orelse inet:is_ip_address(Host))
        andalso (Port =:= default orelse is_value({integer, 0, 65535}, Port));
is_value(Name, Text) when Name =:= domain; Name =:= jid -> is_binary(Text) andalso Text =/= <<>>;
is_value({database, Kind}, Value) -> meerkat_config_database:is_value(Kind, Value);
is_value(peer, {Ip, {First, Last}}) ->
    inet:is_ip_address(Ip) andalso is_value({integer, 1, Last}, First)
        andalso is_value({integer, First, 65535}, Last);
is_value(peer, Network) -> is_value(network, Network);
is_value({list, Type}, Networks) when Type =:= network; Type =:= peer ->
    is_list(Networks) andalso length(Networks) =< networks_max()
        andalso lists:all(fun(Network) -> is_value(Type, Network) end, Networks);
is_value({list, Type}, Values) when ?IS_WEB(Type) ->
    meerkat_config_web:is_value({list, Type}, Values);
is_value(Type, Value) when ?IS_WEB(Type) ->
    meerkat_config_web:is_value(Type, Value);
is_value({list, Type}, Values) ->
    is_list(Values) andalso lists:all(fun(Value) -> is_value(Type, Value) end, Values);
is_value(users, Users) ->
    is_map(Users) andalso lists:all(fun is_user/1, maps:to_list(Users));
is_value(_Type, _Value) -> false.

is_user({Name, {Proof, Value}}) when Proof =:= password; Proof =:= key ->
    Types = meerkat_config_group:types(users),
    is_value(maps:get(name, Types), Name) andalso is_value(maps:get(Proof, Types), Value);
is_user(_) ->
    false.

%% Of the rules a relay takes; ours and the other list's are as many again.
-spec networks_max() -> pos_integer().
networks_max() -> meerkat_ctl:limit(rules_max) div 4.

%% What a map made by hand may have in place of what an operator may write: numbers as far as the
%% relay has room for them. Tests want lifetimes of a second, and who embeds a server may know.
-spec widened(type()) -> type().
widened({integer, Min, Max}) ->
    Widths = [16#ff, 16#7fffffff, 16#ffffffff, 16#7fffffffffffffff],
    {integer, min(Min, 1), hd([Width || Width <- Widths, Max =< Width])};
widened({text, _Max}) ->
    {text, 763};
widened(Type) ->
    Type.

%% What a type takes, as the end of a sentence that begins "it must be".
-spec allowed(type()) -> unicode:chardata().
allowed(Type) when ?IS_GROUPS(Type) ->
    meerkat_config_group:allowed(Type);
allowed({list, Type}) when ?IS_WEB(Type) ->
    meerkat_config_web:allowed({list, Type});
allowed(Type) when ?IS_WEB(Type) ->
    meerkat_config_web:allowed(Type);
allowed(boolean) ->
    <<"true, 1 or yes, or false, 0 or no">>;
allowed(boolean_or_auto) ->
    <<"auto, true, 1 or yes, or false, 0 or no">>;
allowed({integer, Min, Max}) ->
    io_lib:format("a whole number from ~b to ~b", [Min, Max]);
allowed({choice, Choices}) ->
    [<<"one of ">> | lists:join(<<", ">>, [Name || {Name, _} <- Choices])];
allowed({text, Max}) ->
    io_lib:format(
        "text of 1 to ~b characters in UTF-8, without control characters, \" or \\", [Max]
    );
allowed({opaque_string, Max}) ->
    io_lib:format(
        "text of 1 to ~b bytes in UTF-8, without control characters, \" or \\, and without what "
        "RFC 8265 (OpaqueString) disallows", [Max]
    );
allowed({list, {text, Max}}) ->
    [allowed({text, Max}), <<" (in a file a list of such texts, in the environment separated by "
                             "commas)">>];
allowed({list, secret}) ->
    <<"text that is not empty, or in a file a list of such texts">>;
allowed({list, listen_address}) ->
    <<"any, or IP addresses (in a file a list of texts, in the environment separated by commas)">>;
allowed({list, relay_address}) ->
    <<"one IPv4 address, one IPv6 address or both (in a file a list of texts, in the environment "
      "separated by a comma)">>;
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
allowed(key) ->
    <<"32 hexadecimal digits">>;
allowed(password) ->
    <<"text in UTF-8 that is not empty, without control characters, characters that Unicode has "
      "not assigned and whatever else RFC 8265 (OpaqueString) disallows">>;
allowed(secret) ->
    <<"text that is not empty">>;
allowed(listen_address) ->
    <<"an IP address like 192.0.2.7 or 2001:db8::7 (no name), or any">>;
allowed(relay_address) ->
    <<"an IP address like 192.0.2.7 or 2001:db8::7 that clients and peers can reach: no name, "
      "wildcard, multicast or link-local address">>;
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
allowed({list, xmpp_server}) ->
    <<"names or IP addresses, if wanted with a port: xmpp.example.com, 192.0.2.7:8888, "
      "[2001:db8::7]:8888 (in a file a list of texts, in the environment separated by commas)">>;
allowed({list, domain}) ->
    <<"domains like example.com (in a file a list of texts, in the environment separated by "
      "commas)">>;
allowed({list, jid}) ->
    <<"XMPP addresses like admin@example.com (in a file a list of texts, in the environment "
      "separated by commas)">>;
allowed(xmpp_server) ->
    <<"a name or an IP address, if wanted with a port, like xmpp.example.com, 192.0.2.7:8888 or "
      "[2001:db8::7]:8888">>;
allowed({database, Kind}) ->
    meerkat_config_database:allowed(Kind);
allowed(domain) ->
    <<"a domain like turn.example.com">>;
allowed(jid) ->
    <<"an XMPP address without a resource like admin@example.com">>;
allowed(peer) ->
    <<"a network like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7, its host bits zero, or ports of one "
      "address like 192.0.2.7:10000, 192.0.2.7:10000-20000 or [2001:db8::7]:10000">>;
allowed(network) ->
    <<"a network like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7, its host bits zero">>.

%% A value as text for people; secrets are masked.
-spec render(type(), value()) -> unicode:chardata().
render(_, undefined) -> <<"none">>;
render(_, Word) when is_atom(Word) -> atom_to_binary(Word);
render({list, secret}, Secrets) -> io_lib:format("(~b, not shown)", [length(Secrets)]);
render(Type, Groups) when ?IS_GROUPS(Type) -> meerkat_config_group:render(Type, Groups);
render({list, _}, []) -> <<"none">>;
render({list, Type}, Values) -> lists:join(", ", [render(Type, Value) || Value <- Values]);
render(Type, Value) when ?IS_WEB(Type) -> meerkat_config_web:render(Type, Value);
render({integer, _, _}, Number) -> integer_to_binary(Number);
render({text, _}, Text) -> quote(Text);
render({opaque_string, _}, Text) -> quote(Text);
render(relay_ip, {Advertised, Local}) ->
    [meerkat_text:ip(Advertised), $/, meerkat_text:ip(Local)];
render(network, Network) -> meerkat_text:network(Network);
render(peer, Peer) -> meerkat_text:network(Peer);
render({database, _}, Connection) -> meerkat_config_database:render(Connection);
render(secret, _) -> <<"(not shown)">>;
render(http_address, Address) -> meerkat_text:address(Address);
render(server, Address) -> meerkat_text:address(Address);
render(xmpp_server, {Host, default}) when is_binary(Host) -> Host;
render(xmpp_server, {Host, default}) -> meerkat_text:ip(Host);
render(xmpp_server, {Host, Port}) when is_binary(Host) -> [Host, $:, integer_to_binary(Port)];
render(xmpp_server, Address) -> meerkat_text:address(Address);
render(domain, Name) -> Name;
render(jid, Jid) -> Jid;
render(_, Ip) -> meerkat_text:ip(Ip).

show(Secret, _) when Secret =:= secret; Secret =:= password; Secret =:= key ->
    <<"a value not shown">>;
show({database, Kind}, _) when Kind =/= sqlite ->
    <<"a value not shown">>;
show(_, Text) when is_binary(Text) -> quote(Text);
show(_, empty_list) -> <<"an empty list">>;
show(_, empty_group) -> <<"an empty group">>;
show(_, Value) -> io_lib:format("~tp", [Value]).

%% A text in quotes, fit for one line of a log.
-spec quote(binary()) -> unicode:chardata().
quote(Text) ->
    [$", meerkat_text:escape(Text), $"].

%% A text as a file has it: in libconfig's quotes, in which bytes of UTF-8 stay what they are.
-spec libconfig(binary()) -> binary().
libconfig(Text) ->
    Inside = << <<(escaped(Byte))/binary>> || <<Byte>> <= Text >>,
    <<$", Inside/binary, $">>.

escaped($") -> <<"\\\"">>;
escaped($\\) -> <<"\\\\">>;
escaped(C) when C < 32; C =:= 127 -> iolist_to_binary(io_lib:format("\\x~2.16.0b", [C]));
escaped(C) -> <<C>>.
