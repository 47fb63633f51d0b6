%% What a client is told at its start, checked and made into what its parts take. Looks names up and
%% reads files; opens nothing.
-module(meerkat_client_start).

-export([prepare/1]).
-export([valid/2]).
-export([check_tls/2]).
-export_type([prepared/0, error/0]).

-type prepared() :: #{core := meerkat_client_core:state(),
                      transport := meerkat_client_socket:transport(),
                      server := meerkat_client:address(),
                      socket := meerkat_client_socket:options()}.

-type error() :: {unresolved, Host :: string(), timeout | inet:posix()}
               | {bad_uri, unicode:chardata(), meerkat_client_uri:problem()}
               | {unsupported_uri, unicode:chardata(), string()}
               | {only_for_tls, atom()}
               | {no_certificates, file:name_all()}
               | {bad_option, atom()}.

%% RFC 8489 6.2.2.
-define(TI, 39_500).
-define(TLS_OPTIONS, [cacertfile, fingerprint, insecure]).

-spec prepare(meerkat_client:options()) -> {ok, prepared()} | {error, error()}.
prepare(Options) ->
    try
        ok = check_options(Options),
        {LocalIp, LocalPort} = local(maps:get(local, Options, any)),
        {Transport, Host, Port} = server(maps:get(server, Options), Options),
        Server = {resolve(Host, LocalIp), Port},
        Tls = tls(Transport, Options),
        Ti = maps:get(ti, Options, ?TI),
        Timing = case meerkat_client_socket:is_stream(Transport) of
                     true -> #{ti => Ti};
                     false -> maps:with([rto, rc, rm], Options)
                 end,
        Config = maps:merge(Timing, maps:with([family], Options)),
        Core = meerkat_client_core:new(
            maps:merge(Config#{server => Server, movable => LocalPort =:= 0},
                       credentials(Options))),
        {ok, #{core => Core, transport => Transport, server => Server,
               socket => Tls#{local => LocalIp, local_port => LocalPort, host => Host, ti => Ti}}}
    catch
        throw:{start, Reason} -> {error, Reason}
    end.

check_options(Options) ->
    Known = [server, transport, username, password, family, local, owner, rto, rc, rm, ti
             | ?TLS_OPTIONS],
    Unknown = maps:keys(maps:without(Known, Options)),
    Missing = [Name || {Name, Other} <- [{server, none}, {username, password},
                                         {password, username}],
                       not is_map_key(Name, Options),
                       Other =:= none orelse is_map_key(Other, Options)],
    Wrong = [Name || {Name, Value} <- maps:to_list(Options), not valid_option(Name, Value)],
    case Unknown ++ Missing ++ Wrong of
        [] -> not_contrary(Options);
        [Name | _] -> throw({start, {bad_option, Name}})
    end.

valid_option(family, V) -> valid(family, V);
valid_option(owner, V) -> is_pid(V);
valid_option(transport, V) -> lists:member(V, [udp, tcp, tls, dtls]);
valid_option(insecure, V) -> is_boolean(V);
valid_option(local, {Ip, Port}) when is_tuple(Ip) ->
    inet:is_ip_address(Ip) andalso is_integer(Port) andalso Port >= 0 andalso Port =< 65535;
valid_option(local, Ip) -> inet:is_ip_address(Ip);
valid_option(Name, V) when Name =:= rto; Name =:= rc; Name =:= rm; Name =:= ti ->
    is_integer(V) andalso V > 0;
valid_option(_, _) -> true.

%% Of the options of an Allocate, and `family`.
-spec valid(atom(), term()) -> boolean().
valid(transport, V) -> V =:= udp orelse V =:= tcp;
valid(lifetime, V) -> is_integer(V) andalso V >= 0 andalso V =< 16#ffffffff;
valid(family, V) -> V =:= inet orelse V =:= inet6;
valid(even_port, V) -> V =:= even orelse V =:= reserve;
valid(reservation_token, V) -> is_integer(V) andalso V >= 0 andalso V =< 16#ffffffffffffffff;
valid(dont_fragment, V) -> is_boolean(V);
valid(_, _) -> false.

local(any) -> {any, 0};
local({Ip, Port}) when is_tuple(Ip) -> {Ip, Port};
local(Ip) -> {Ip, 0}.

%% --------------------------------------------------------------------------------- the server

server({Host, Port}, Options) when is_integer(Port), Port > 0, Port =< 65535 ->
    {maps:get(transport, Options, udp), host(Host), Port};
server({_, _}, _) ->
    throw({start, {bad_option, server}});
server(_, #{transport := _}) ->
    throw({start, {bad_option, transport}});    % a URI says it by itself
server(Uri, _) ->
    case meerkat_client_uri:parse(Uri) of
        {ok, #{host := Host, port := Port} = Parsed} ->
            case meerkat_client_uri:transport(Parsed) of
                {ok, Transport} -> {Transport, Host, Port};
                {error, Other} -> throw({start, {unsupported_uri, Uri, Other}})
            end;
        {error, Reason} ->
            throw({start, Reason})
    end.

host(Host) when is_binary(Host) ->
    case unicode:characters_to_list(Host) of
        Text when is_list(Text) -> host(Text);
        _ -> throw({start, {bad_option, server}})
    end;
%% A text that is an address counts as one: with TLS the certificate must then have the address, not
%% a name.
host(Host) when is_list(Host) ->
    case inet:parse_strict_address(Host) of
        {ok, Ip} -> Ip;
        {error, _} -> Host
    end;
host(Ip) ->
    inet:is_ip_address(Ip) orelse throw({start, {bad_option, server}}),
    Ip.

resolve(Host, Local) when is_list(Host) ->
    resolve_name(Host, families(Local));
resolve(Ip, Local) ->
    lists:member(family(Ip), families(Local)) orelse throw({start, {bad_option, local}}),
    Ip.

resolve_name(Host, [Family | More]) ->
    case inet:getaddr(Host, Family) of
        {ok, Ip} -> Ip;
        {error, _} when More =/= [] -> resolve_name(Host, More);
        {error, Reason} -> throw({start, {unresolved, Host, Reason}})
    end.

families(any) -> [inet, inet6];
families(Ip) -> [family(Ip)].

family(Ip) when tuple_size(Ip) =:= 4 -> inet;
family(_) -> inet6.

%% ----------------------------------------------------------------------------------------- TLS

%% Whether these options for TLS can be used with that transport.
-spec check_tls(meerkat_client_socket:transport(), map()) -> ok | {error, error()}.
check_tls(Transport, Options) ->
    try
        ok = not_contrary(Options),
        _ = tls(Transport, Options),
        ok
    catch
        throw:{start, Reason} -> {error, Reason}
    end.

%% `insecure` beside an option that says how the certificate is to be checked is a mistake.
not_contrary(#{insecure := true} = Options) when is_map_key(cacertfile, Options);
                                                 is_map_key(fingerprint, Options) ->
    throw({start, {bad_option, insecure}});
not_contrary(_) ->
    ok.

%% An option that is there to protect must not be overlooked in silence.
tls(Transport, Options) when Transport =:= tls; Transport =:= dtls ->
    maps:map(fun tls_option/2, maps:with(?TLS_OPTIONS, Options));
tls(_, Options) ->
    case maps:keys(maps:with(?TLS_OPTIONS, Options)) of
        [] -> #{};
        [Name | _] -> throw({start, {only_for_tls, Name}})
    end.

tls_option(cacertfile, File) ->
    Entries = case file:read_file(File) of
                  {ok, Pem} -> public_key:pem_decode(Pem);
                  {error, _} -> []
              end,
    lists:keymember('Certificate', 1, Entries) orelse throw({start, {no_certificates, File}}),
    File;
tls_option(fingerprint, Text) ->
    try binary:decode_hex(unicode:characters_to_binary(string:replace(Text, ":", "", all))) of
        <<_:256>> = Bytes -> meerkat_certificate:format_fingerprint(Bytes);
        _ -> throw({start, {bad_option, fingerprint}})
    catch
        error:_ -> throw({start, {bad_option, fingerprint}})
    end;
tls_option(insecure, Value) ->
    Value.

%% --------------------------------------------------------------------------------- credentials

%% The OpaqueString profile (RFC 8489 9.2.2, RFC 8265 4.2): other spaces become the ASCII one, and
%% characters their composed form.
credentials(#{username := User, password := Password}) ->
    Secret = opaque_string(password, Password),
    #{username => opaque_string(username, User), password => fun() -> Secret end};
credentials(_) ->
    #{}.

opaque_string(Name, Text) ->
    try unicode:characters_to_nfc_list(Text) of
        [_ | _] = Composed -> unicode:characters_to_binary([space(C) || C <- Composed]);
        _ -> throw({start, {bad_option, Name}})
    catch
        error:badarg -> throw({start, {bad_option, Name}})
    end.

space(C) when C =:= 16#a0; C =:= 16#1680; C >= 16#2000, C =< 16#200a; C =:= 16#202f;
              C =:= 16#205f; C =:= 16#3000 -> $\s;
space(C) -> C.
