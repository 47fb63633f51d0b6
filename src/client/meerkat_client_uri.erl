%% A STUN or TURN URI (RFC 7064, RFC 7065) to what it names, strictly: whatever the grammar does not
%% allow is refused with the reason. It resolves no names and knows no client; that a transport can
%% be spelled does not mean that somebody can speak it.
-module(meerkat_client_uri).

-export([parse/1]).
-export([transport/1]).
-export([format_problem/1]).
-export([allowed/0]).

-type uri() :: #{scheme := turn | turns | stun | stuns,
                 host := inet:ip_address() | string(),
                 port := inet:port_number(),
                 transport := default | udp | tcp | string()}.
-type problem() :: not_text | scheme | slashes | userinfo | empty_host | ipv4 | ipv6 | host
                 | port | query | stun_query | transport.
-export_type([uri/0, problem/0]).

-define(PORT, 3478).
-define(TLS_PORT, 5349).

%% "turn:HOST[:PORT][?transport=NAME]" to its parts (RFC 7065 3.1), or "stun:HOST[:PORT]" (RFC 7064
%% 3.1). An absent or empty port is the scheme's own (3.2), an absent transport is `default`. Scheme
%% and transport are read without regard to case; a name stays as it was written, an address becomes
%% a tuple. Of the host names RFC 3986 permits, those that DNS can hold are taken: letters, digits,
%% "-", "_" and dots.
-spec parse(unicode:chardata()) -> {ok, uri()} | {error, {bad_uri, unicode:chardata(), problem()}}.
parse(Uri) ->
    try unicode:characters_to_list(Uri) of
        Text when is_list(Text) ->
            try {ok, scheme(Text)}
            catch throw:{problem, Problem} -> {error, {bad_uri, Text, Problem}}
            end;
        _ ->
            {error, {bad_uri, "", not_text}}
    catch
        error:badarg -> {error, {bad_uri, "", not_text}}
    end.

%% What it asks for (RFC 7065 3.2, RFC 7064 3.2): without a word of its own UDP, or TLS over TCP
%% where the scheme wants TLS; DTLS where it wants that over UDP. A name nobody here knows is an
%% error.
-spec transport(uri()) -> {ok, udp | tcp | tls | dtls} | {error, string()}.
transport(#{scheme := Scheme, transport := Transport}) ->
    case {Scheme =:= turns orelse Scheme =:= stuns, Transport} of
        {false, default} -> {ok, udp};
        {false, udp} -> {ok, udp};
        {false, tcp} -> {ok, tcp};
        {true, default} -> {ok, tls};
        {true, tcp} -> {ok, tls};
        {true, udp} -> {ok, dtls};
        {_, Other} -> {error, Other}
    end.

%% What is wrong with the URI, as half a sentence.
-spec format_problem(problem()) -> string().
format_problem(not_text) -> "it is not text";
format_problem(scheme) -> "it must begin with turn:, turns:, stun: or stuns:";
format_problem(slashes) -> "no // follows the scheme";
format_problem(userinfo) -> "user name and password are not part of it";
format_problem(empty_host) -> "the host is missing";
format_problem(ipv4) -> "the host is neither an IPv4 address nor a name";
format_problem(ipv6) -> "an IPv6 address stands in brackets and has no zone: [2001:db8::1]";
format_problem(host) -> "the host has characters that names do not have";
format_problem(port) -> "the port must be a number from 1 to 65535";
format_problem(query) -> "after ? only transport=NAME may follow";
format_problem(stun_query) -> "nothing follows the port of stun: and stuns:";
format_problem(transport) -> "the transport must be a word such as udp".

%% What may be written, for messages.
-spec allowed() -> string().
allowed() ->
    "turn:HOST[:PORT][?transport=udp or tcp], turns:HOST[:PORT] for TLS, "
    "turns:HOST[:PORT]?transport=udp for DTLS, stun:HOST[:PORT], "
    "stuns:HOST[:PORT]; HOST a name, an IPv4 address or an [IPv6 address]".

scheme(Text) ->
    case lists:splitwith(fun(C) -> C =/= $: end, Text) of
        {Scheme, [$: | Rest]} ->
            case string:lowercase(Scheme) of
                "turn" -> rest(Rest, uri(turn, ?PORT));
                "turns" -> rest(Rest, uri(turns, ?TLS_PORT));
                "stun" -> rest(Rest, uri(stun, ?PORT));
                "stuns" -> rest(Rest, uri(stuns, ?TLS_PORT));
                _ -> problem(scheme)
            end;
        _ ->
            problem(scheme)
    end.

uri(Scheme, Port) ->
    #{scheme => Scheme, port => Port, transport => default}.

rest("//" ++ _, _) ->
    problem(slashes);
rest(Text, Uri) ->
    {Server, Query} = lists:splitwith(fun(C) -> C =/= $? end, Text),
    lists:member($@, Server) andalso problem(userinfo),
    {Host, Port} = host(Server),
    query(Query, port(Port, Uri#{host => Host})).

host("[" ++ Text) ->
    case lists:splitwith(fun(C) -> C =/= $] end, Text) of
        {Address, "]" ++ Port} ->
            %% inet would also take a zone ("%eth0"), which RFC 3986 3.2.2 has no room for.
            lists:member($%, Address) andalso problem(ipv6),
            case inet:parse_ipv6strict_address(Address) of
                {ok, Ip} -> {Ip, Port};
                {error, _} -> problem(ipv6)
            end;
        _ ->
            problem(ipv6)
    end;
host(Text) ->
    {Host, Port} = lists:splitwith(fun(C) -> C =/= $: end, Text),
    %% A second colon: an IPv6 address without brackets, unless it cannot be one.
    length([C || C <- Port, C =:= $:]) > 1 andalso
        problem(case lists:all(fun hex_or_colon/1, Text) of
                    true -> ipv6;
                    false -> port
                end),
    {name(Host), Port}.

%% Digits and dots are an address or a mistake, never a name: "10.0.0" would otherwise be asked
%% for in DNS, or be taken for 10.0.0.0 by an obliging resolver.
name("") ->
    problem(empty_host);
name(Host) ->
    case lists:all(fun(C) -> digit(C) orelse C =:= $. end, Host) of
        true ->
            case inet:parse_ipv4strict_address(Host) of
                {ok, Ip} -> Ip;
                {error, _} -> problem(ipv4)
            end;
        false ->
            lists:all(fun name_char/1, Host) orelse problem(host),
            Host
    end.

port("", Uri) -> Uri;
port(":", Uri) -> Uri;
port(":" ++ Digits, Uri) ->
    lists:all(fun digit/1, Digits) orelse problem(port),
    case list_to_integer(Digits) of
        Port when Port >= 1, Port =< 65535 -> Uri#{port := Port};
        _ -> problem(port)
    end;
port(_, _) -> problem(port).

query("", Uri) ->
    Uri;
query(_, #{scheme := Scheme}) when Scheme =:= stun; Scheme =:= stuns ->
    problem(stun_query);
query("?transport=" ++ [_ | _] = Query, Uri) ->
    Transport = lists:nthtail(length("?transport="), Query),
    lists:all(fun transport_char/1, Transport) orelse problem(transport),
    Uri#{transport := case string:lowercase(Transport) of
                          "udp" -> udp;
                          "tcp" -> tcp;
                          Other -> Other
                      end};
query("?transport=", _) ->
    problem(transport);
query(_, _) ->
    problem(query).

digit(C) -> C >= $0 andalso C =< $9.
alpha(C) -> (C >= $a andalso C =< $z) orelse (C >= $A andalso C =< $Z).
hex_or_colon(C) -> digit(C) orelse lists:member(C, "abcdefABCDEF:").
name_char(C) -> alpha(C) orelse digit(C) orelse lists:member(C, "-_.").
transport_char(C) -> alpha(C) orelse digit(C) orelse lists:member(C, "-._~").

-spec problem(problem()) -> no_return().
problem(Problem) -> throw({problem, Problem}).
