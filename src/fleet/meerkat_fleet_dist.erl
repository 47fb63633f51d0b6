%% How a node of Meerkat's own is reached by the others of its fleet: Erlang's distribution over
%% TLS, at one address and one port, for who shows a certificate of the fleet's own authority. It is
%% a protocol of the distribution (-proto_dist meerkat_fleet, see rel/bin/environment) that OTP's
%% inet_tls_dist does the work of. In a node that is in no fleet it listens to nobody and connects
%% to nobody. What runs on this machine only (bin/meerkat) has a port of its own (meerkat_epmd).
%%
%% Nodes of a fleet may do anything to each other, so a certificate is not held against the name of
%% a node: who has one is a node of the fleet.
-module(meerkat_fleet_dist).

-export([prepare/1, is_listening/0, may_join/0, own/0, any_name/2]).
%% What net_kernel calls.
-export([childspecs/0, listen/2, accept/1, accept_connection/5, setup/5, close/1, select/1,
         address/0, is_node_name/1]).

%% Given to meerkat_epmd in place of the node's name, which says that this is not the port for who
%% is on this machine.
-define(LISTENER, meerkat_fleet).
%% Of PBKDF2, for who may guess at the secret: about a tenth of a second, once at the start.
-define(ROUNDS, 200000).

-type own() :: #{node := node(), ip := inet:ip_address(), port := inet:port_number()}.
-export_type([own/0]).

%% What the distribution is to be started with: the name of this node and its cookie. The options of
%% TLS are written where -ssl_dist_optfile says, which is read when the distribution starts.
-spec prepare(map()) -> {ok, node(), Cookie :: atom()} | none | {error, unicode:chardata()}.
prepare(#{fleet := [_ | _], fleet_secret := Secret, fleet_port := Port} = Config) ->
    case {ip(Config), unusable(Config)} of
        {{ok, Ip}, []} ->
            Node = list_to_atom("meerkat@" ++ inet:ntoa(Ip)),
            ok = persistent_term:put(?MODULE, #{node => Node, ip => Ip, port => Port}),
            ok = write(options_file(), options(Config)),
            {ok, Node, cookie(Secret)};
        {{error, Sentence}, _} ->
            {error, Sentence};
        {_, [Sentence | _]} ->
            {error, Sentence}
    end;
prepare(#{}) ->
    none.

%% This node as the others know it; none in a node that is in no fleet by this way.
-spec own() -> own() | none.
own() ->
    persistent_term:get(?MODULE, none).

%% Does it listen to the others? Only then is it of use to them.
-spec is_listening() -> boolean().
is_listening() ->
    persistent_term:get({?MODULE, listening}, false).

%% An embedder's node is reached as its application wants it; one of ours by this, if at all.
-spec may_join() -> boolean().
may_join() ->
    not is_a_protocol() orelse is_listening().

is_a_protocol() ->
    case init:get_argument(proto_dist) of
        {ok, Given} -> lists:member("meerkat_fleet", lists:append(Given));
        error -> false
    end.

%%% What the configuration says

%% Where the key fleet_ip does not say it, it is that one of the fleet's addresses which this
%% machine has.
ip(#{fleet_ip := Ip}) when Ip =/= undefined ->
    {ok, Ip};
ip(#{fleet := Members}) ->
    case [Ip || Ip <- meerkat_fleet_nodes:addresses(Members), meerkat_host:bindable(Ip)] of
        [Ip | _] -> {ok, Ip};
        [] -> {error, ["fleet: no address of ", lists:join(", ", Members), " is one of this "
                       "machine's; fleet_ip names the one at which the others reach it"]}
    end.

%% The sentences say what is wrong with files that are named. ssl would say it at each connection.
unusable(#{fleet_cert := Certificate, fleet_key := Key, fleet_ca := Authorities}) ->
    lists:append([unusable(fleet_cert, Certificate, fun is_certificate/1, "a certificate"),
                  unusable(fleet_key, Key, fun is_key/1, "a private key without passphrase"),
                  unusable(fleet_ca, Authorities, fun is_certificate/1, "a certificate")]).

unusable(Key, File, IsWanted, What) ->
    case file:read_file(File) of
        {ok, Pem} ->
            [[atom_to_list(Key), ": ", File, " has no ", string:prefix(What, "a "), " in PEM"]
             || not lists:any(IsWanted, entries(Pem))];
        {error, Reason} ->
            [[atom_to_list(Key), ": ", File, ": ", file:format_error(Reason)]]
    end.

entries(Pem) ->
    try public_key:pem_decode(Pem) catch error:_ -> [] end.

is_certificate({Kind, _, _}) -> Kind =:= 'Certificate'.

is_key({Kind, _, Cipher}) ->
    Cipher =:= not_encrypted
        andalso lists:member(Kind, ['PrivateKeyInfo', 'ECPrivateKey', 'RSAPrivateKey']).

%% Each side shows a certificate, and takes none that the authority has not issued.
options(#{fleet_cert := Certificate, fleet_key := Key, fleet_ca := Authorities}) ->
    Both = [{certfile, binary_to_list(Certificate)},
            {keyfile, binary_to_list(Key)},
            {cacertfile, binary_to_list(Authorities)},
            {verify, verify_peer},
            {versions, ['tlsv1.3', 'tlsv1.2']}],
    [{server, [{fail_if_no_peer_cert, true} | Both]},
     {client, [{customize_hostname_check, [{match_fun, fun ?MODULE:any_name/2}]} | Both]}].

%% Whatever a certificate is for: see above.
-spec any_name(term(), term()) -> true.
any_name(_Wanted, _Shown) -> true.

%% On this machine only this protects the node, from other users.
cookie(Secret) ->
    Cookie = crypto:pbkdf2_hmac(sha256, Secret, <<"meerkat fleet cookie">>, ?ROUNDS, 32),
    list_to_atom(binary_to_list(base64:encode(Cookie))).

options_file() ->
    {ok, [[File]]} = init:get_argument(ssl_dist_optfile),
    File.

%% What is there already, for the directory may be open to all, is left alone.
write(File, Options) ->
    {ok, Device} = file:open(File, [write, exclusive]),
    ok = file:write(Device, io_lib:format("~tp.~n", [Options])),
    ok = file:close(Device).

%%% What net_kernel calls

%% It asks for these before it starts. The options are read by then.
-spec childspecs() -> {ok, [supervisor:child_spec() | tuple()]}.
childspecs() ->
    case own() of
        none -> {ok, []};
        #{} -> inet_tls_dist:childspecs()
    end.

%% A listener that nobody can connect to stands for none: net_kernel would say that this is a fault.
-spec listen(Name :: atom(), Host :: string()) -> {ok, tuple()} | {error, term()}.
listen(_Name, Host) ->
    case own() of
        none ->
            {ok, {none, nowhere(Host), 4}};
        #{ip := Ip} ->
            _ = file:delete(options_file()),
            Local = application:get_env(kernel, inet_dist_use_interface),
            ok = application:set_env(kernel, inet_dist_use_interface, Ip),
            Listening = (tls(Ip)):listen(?LISTENER, Host),
            ok = put_back(Local),
            ok = persistent_term:put({?MODULE, listening}, element(1, Listening) =:= ok),
            Listening
    end.

%% As kernel's net_address.hrl has it: address, host, protocol, family.
nowhere(Host) ->
    {net_address, undefined, Host, ?LISTENER, none}.

put_back({ok, Ip}) -> application:set_env(kernel, inet_dist_use_interface, Ip);
put_back(undefined) -> application:unset_env(kernel, inet_dist_use_interface).

-spec accept(Listener :: none | term()) -> pid().
accept(none) ->
    spawn_link(timer, sleep, [infinity]);
accept(Listener) ->
    (tls()):accept(Listener).

-spec accept_connection(pid(), term(), node(), list(), term()) -> pid().
accept_connection(Acceptor, Socket, Node, Allowed, Time) ->
    (tls()):accept_connection(Acceptor, Socket, Node, Allowed, Time).

-spec setup(node(), term(), node(), longnames | shortnames, term()) -> pid().
setup(Node, Type, Own, Names, Time) ->
    (tls()):setup(Node, Type, Own, Names, Time).

-spec close(none | term()) -> ok | term().
close(none) -> ok;
close(Listener) -> (tls()):close(Listener).

%% Every other node is one of the fleet.
-spec select(node()) -> boolean().
select(Node) ->
    own() =/= none andalso (tls()):select(Node).

-spec address() -> tuple().
address() ->
    case own() of
        none -> nowhere(undefined);
        #{} -> (tls()):address()
    end.

-spec is_node_name(node()) -> boolean().
is_node_name(Node) ->
    inet_tls_dist:is_node_name(atom_to_list(Node)).

tls() ->
    #{ip := Ip} = own(),
    tls(Ip).

tls(Ip) when tuple_size(Ip) =:= 4 -> inet_tls_dist;
tls(_Ip) -> inet6_tls_dist.
