%% A TURN client as raw as a suite needs it: bytes out, bytes in, every answer checked for what no
%% answer may lack. Also starts and stops servers and plays the peer. Knows the wire through
%% stun_model only, and the server through meerkat's public API and its sockets.
%%
%% Nothing here waits for silence: that a datagram was dropped is shown by a later one, sent on the
%% same way, being answered first. Time-outs only end a test that has failed.
-module(turn_kit).

-include_lib("stdlib/include/assert.hrl").

-export([cases/1, doc/1, eventually/1, eventually/2]).
-export([relay_kind/0, config/0, start_server/0, start_server/1, stop_server/1, with_server/2,
         free_ports/1, free_tcp_port/0]).
-export([kill_relay/1]).
-export([is_foreign/1, counter/2, counted/3, counted/4, no_drops/0]).
-export([open/1, open/2, close/1, send/2, next/1, ask/2, ask/3, await/2, fence/1]).
-export([silent/2, dropped/3, alive/1]).
-export([request/2, request/3, challenged/1, signed/3, signed/4, call/3, call/4]).
-export([allocated/1, allocated/2, allocated/3, allocate/1, allocate/2, allocate_soon/2,
         delete/1]).
-export([permit/2, bind/3, send_to/3, send_indication/2, channel/3, data/1]).
-export([peer/0, peer/1, peer/2, peer_send/3, peer_next/1, peer_same/2, from_peer/2, unheard/4]).
-export([get/2, get_all/2, code/1, names/1, success/1, expect/2, patch/3]).

-export_type([config/0, server/0, client/0, answer/0, peer/0]).

-define(TIMEOUT, 30000).
-define(V6_LOOPBACK, {0, 0, 0, 0, 0, 0, 0, 1}).

%% What Common Test hands to a case.
-type config() :: [{atom(), term()}].
%% A running server. `listeners`: where it listens, in the order of its configuration.
-type server() :: #{name := atom(), foreign := boolean(), realm := binary(), secret := binary(),
                    ip := inet:ip_address(), port := inet:port_number(),
                    listeners := [stun_model:address()], users := #{binary() => binary()}}.
%% A client: a socket, and after challenged/1 what it may sign with; after allocated/1 also
%% `relayed` (v4 or the only one), `answer`.
-type client() :: #{socket := gen_udp:socket() | pid(), server := server(),
                    to := stun_model:address(),
                    here := stun_model:address(), user := binary(), password := binary(),
                    realm => binary(), nonce => binary(), key => binary(),
                    offered => [{0..65535, binary()}],
                    relayed => stun_model:address(), answer => answer()}.
%% A decoded answer; `bytes` are those received.
-type answer() :: #{class := success | error, method := stun_model:method(), bytes := binary(),
                    transaction_id := <<_:96>>, attributes := [stun_model:item()], atom() => _}.
-type peer() :: #{socket := gen_udp:socket(), address := stun_model:address()}.

%% ----------------------------------------------------------------------------------- suites

%% The cases of a suite: whatever it exports with one argument under the name of a row, such as
%% s14_... or x38_..., in the order of the rows.
-spec cases(module()) -> [atom()].
cases(Suite) ->
    Rows = [{list_to_integer(N), F}
            || {F, 1} <- Suite:module_info(exports),
               {match, [N]} <- [re:run(atom_to_list(F), "^[a-z]([0-9]+)_",
                                       [{capture, all_but_first, list}])]],
    [F || {_, F} <- lists:sort(Rows)].

%% First line of every case: what it shows, and where that is written.
-spec doc(string()) -> ok.
doc(Text) -> ct:comment("~ts", [Text]).

%% Sees that Fun says so sooner or later, where there is no event to wait for.
-spec eventually(fun(() -> boolean())) -> ok.
eventually(Fun) ->
    eventually(Fun, ?TIMEOUT).

%% The same for what may take longer than other things do.
-spec eventually(fun(() -> boolean()), Ms :: pos_integer()) -> ok.
eventually(Fun, Ms) ->
    until(Fun, erlang:monotonic_time(millisecond) + Ms).

until(Fun, Deadline) ->
    case Fun() of
        true ->
            ok;
        false ->
            erlang:monotonic_time(millisecond) < Deadline orelse error(never),
            receive after 5 -> until(Fun, Deadline) end
    end.

%% ---------------------------------------------------------------------------------- servers

-spec start_server() -> server().
start_server() -> start_server(#{}).

%% A server on 127.0.0.1 and ::1, ports chosen by the system, relaying on both, with loopback peers
%% allowed; Overrides replace keys of its configuration; `name` is the server's.
-spec start_server(map()) -> server().
start_server(Overrides) ->
    case os:getenv("MEERKAT_TEST_TARGET") of
        false -> start_meerkat(maps:merge(config(), Overrides));
        Target when Overrides =:= #{} -> foreign(Target);
        _ -> throw({skip, "needs a configuration of its own"})
    end.

%% What start_server/1 begins with. A relay program built otherwise (sanitizers) and what moves
%% packets come in by the environment.
-spec config() -> map().
config() ->
    Relays = [#{local => Ip, advertised => Ip, min_port => 49152, max_port => 65535}
              || Ip <- [{127, 0, 0, 1}, ?V6_LOOPBACK]],
    Listeners = [#{transport => udp, ip => Ip, port => 0}
                 || Ip <- [{127, 0, 0, 1}, ?V6_LOOPBACK]],
    Config = #{realm => <<"example.org">>, secrets => [<<"s3cret">>],
               secret_as_password => true,
               users => maps:map(fun(_, P) -> {password, P} end, users()),
               listeners => Listeners, relays => Relays, workers => 2,
               allowed_peers => [{{127, 0, 0, 0}, 8}, {?V6_LOOPBACK, 128}],
               %% All clients of a suite share one address; quota_SUITE has the default.
               unauthenticated_rate => 0, failed_authentication_rate => 0},
    maps:merge(Config, relay_kind()).

%% What the environment says of the relay program, as a configuration has it.
-spec relay_kind() -> map().
relay_kind() ->
    maps:from_list([{relay_program, Program} || Program <- env("MEERKAT_RELAY_PROGRAM")]
                   ++ [{io_backend, list_to_atom(Backend)} || Backend <- env("IO_BACKEND")]).

env(Name) -> [Value || Value <- [os:getenv(Name)], Value =/= false].

users() -> #{<<"alice">> => <<"wonderland">>, <<"bob">> => <<"builder">>}.

start_meerkat(#{realm := Realm, secrets := Secrets, users := Users} = Config) ->
    [Secret | _] = Secrets ++ [<<"none is set">>],
    {ok, _} = application:ensure_all_started(meerkat),
    Own = list_to_atom("turn_kit_" ++ integer_to_list(erlang:unique_integer([positive]))),
    Name = maps:get(name, Config, Own),
    {ok, _} = meerkat:start_server(Name, maps:remove(name, Config)),
    #{listeners := [{Ip, Port} | _] = Bound} = meerkat:info(Name),
    #{name => Name, foreign => false, realm => Realm, secret => Secret, ip => Ip, port => Port,
      listeners => Bound, users => maps:merge(users(), known(Users))}.

known(Users) -> maps:from_list([{User, P} || {User, {password, P}} <- maps:to_list(Users)]).

%% Another server, to debug the suites themselves: host:port, both loopback addresses.
foreign(Target) ->
    [Host, Port] = string:split(Target, ":", trailing),
    {ok, Ip} = inet:parse_address(Host),
    P = list_to_integer(Port),
    #{name => foreign, foreign => true, realm => <<"example.org">>, secret => <<"s3cret">>,
      ip => Ip, port => P, listeners => [{Ip, P}, {?V6_LOOPBACK, P}], users => users()}.

-spec stop_server(server()) -> ok.
stop_server(#{foreign := true}) -> ok;
stop_server(#{name := Name}) -> ok = meerkat:stop_server(Name).

%% Runs Fun with a server of its own.
-spec with_server(map(), fun((server()) -> Result)) -> Result.
with_server(Overrides, Fun) ->
    Server = start_server(Overrides),
    try Fun(Server) after stop_server(Server) end.

%% Kills its relay program; returns once that is dead.
-spec kill_relay(server()) -> ok.
kill_relay(#{name := Name}) ->
    Port = meerkat_roles:find(Name, port),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    Monitor = monitor(port, Port),
    [] = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    receive {'DOWN', Monitor, port, Port, _} -> ok
    after ?TIMEOUT -> error(relay_lives)
    end.

%% One outside of what the system hands out by itself: a server that is started on it again does not
%% find a client's connection there, which may be one to that very port.
-spec free_tcp_port() -> inet:port_number().
free_tcp_port() ->
    Port = 26000 + rand:uniform(6000),
    case gen_tcp:listen(Port, [{ip, {127, 0, 0, 1}}]) of
        {ok, Socket} -> ok = gen_tcp:close(Socket), Port;
        {error, eaddrinuse} -> free_tcp_port()
    end.

%% The first of N neighbouring ports, starting at an even one, free on both loopback addresses and
%% outside of what the system hands out by itself.
-spec free_ports(pos_integer()) -> inet:port_number().
free_ports(N) ->
    First = 20000 + 2 * rand:uniform(6000),
    Opened = [gen_udp:open(Port, [{ip, Ip} | [inet6 || tuple_size(Ip) =:= 8]])
              || Port <- lists:seq(First, First + N - 1),
                 Ip <- [{127, 0, 0, 1}, ?V6_LOOPBACK]],
    [gen_udp:close(S) || {ok, S} <- Opened],
    case length([S || {ok, S} <- Opened]) of
        All when All =:= 2 * N -> First;
        _ -> free_ports(N)
    end.

%% Is this not Meerkat, so that what the RFCs leave open may be otherwise?
-spec is_foreign(server()) -> boolean().
is_foreign(#{foreign := Foreign}) -> Foreign.

%% The sum over all workers of a counter named in counters.def.
-spec counter(server(), atom()) -> non_neg_integer().
counter(#{foreign := true}, _) -> 0;
counter(#{name := Name}, Counter) ->
    #{relay := {ok, #{counters := #{Counter := Value}}}} = meerkat:info(Name),
    Value.

%% What the relay says of a session that dropped nothing, as far as drops go.
-spec no_drops() -> #{atom() => 0}.
no_drops() ->
    maps:from_list([{Name, 0} || Name <- [dropped | meerkat_ctl:session_drops()]]).

%% Runs Fun and sees the counter rise by one, or by N, and no further. What was sent to another
%% socket may be counted after Fun is done: the counter is awaited.
-spec counted(server(), atom(), fun(() -> Result)) -> Result.
counted(Server, Counter, Fun) -> counted(Server, Counter, 1, Fun).

-spec counted(server(), atom(), non_neg_integer(), fun(() -> Result)) -> Result.
counted(#{foreign := true}, _, _, Fun) -> Fun();
counted(Server, Counter, N, Fun) ->
    Before = counter(Server, Counter),
    Result = Fun(),
    Deadline = erlang:monotonic_time(millisecond) + ?TIMEOUT,
    ?assertEqual({Counter, N}, {Counter, reached(Server, Counter, Before + N, Deadline) - Before}),
    Result.

reached(Server, Counter, Wanted, Deadline) ->
    case counter(Server, Counter) of
        Value when Value >= Wanted -> Value;
        Value ->
            case erlang:monotonic_time(millisecond) < Deadline of
                true -> receive after 5 -> reached(Server, Counter, Wanted, Deadline) end;
                false -> Value
            end
    end.

%% ---------------------------------------------------------------------------------- clients

-spec open(server()) -> client().
open(Server) -> open(Server, #{}).

%% Options: user; password (default: that of a known user, else the secret); to (a listener's
%% address, default the first one); family (v6: the first listener with an IPv6 address);
%% ip, port (of the client); netns (the file of the network namespace it lives in), device (the
%% interface there, for link-local addresses).
%% transport (tcp, tls, dtls: a connection of stream_kit, which takes these options too); here (what
%% the server takes for its address, where something stands between).
-spec open(server(), map()) -> client().
open(#{name := Name} = Server, #{transport := Transport} = Options) ->
    Key = case Transport of
              tcp -> tcp_listeners;
              tls -> tls_listeners;
              dtls -> dtls_listeners
          end,
    #{Key := Listeners} = meerkat:info(Name),
    opened(Server#{listeners := Listeners}, Options, fun(To, Ip) ->
        Connection = stream_kit:open(Transport, To, maps:merge(#{ip => Ip}, Options)),
        {Connection, maps:get(here, Options, stream_kit:here(Connection))}
    end);
open(Server, Options) ->
    opened(Server, Options, fun(_To, Ip) ->
        Socket = case Options of
                     #{port := Port} -> socket(Ip, Port, Options);
                     #{} -> client_socket(Ip, Options)
                 end,
        {ok, Here} = inet:sockname(Socket),
        {Socket, Here}
    end).

opened(#{listeners := Listeners, users := Users, secret := Secret} = Server, Options, Connect) ->
    [First | _] = case Options of
                      #{to := Given} -> [Given];
                      #{family := v6} -> [L || {Ip, _} = L <- Listeners, tuple_size(Ip) =:= 8];
                      #{} -> Listeners
                  end,
    Ip = maps:get(ip, Options, loopback(First)),
    {Socket, Here} = Connect(First, Ip),
    User = maps:get(user, Options, <<"alice">>),
    Password = maps:get(password, Options, maps:get(User, Users, Secret)),
    #{socket => Socket, server => Server, to => First, here => Here, user => User,
      password => Password}.

loopback({Ip, _}) when tuple_size(Ip) =:= 8 -> ?V6_LOOPBACK;
loopback(_) -> {127, 0, 0, 1}.

%% A port no client had before: the system would give one again whose allocation still lives.
client_socket(Ip, Options) ->
    Port = 10000 + erlang:unique_integer([positive, monotonic]) rem 10000,
    case gen_udp:open(Port, socket_options(Ip, Options)) of
        {ok, Socket} -> Socket;
        {error, eaddrinuse} -> client_socket(Ip, Options)
    end.

socket(Ip, Port, Options) ->
    {ok, Socket} = gen_udp:open(Port, socket_options(Ip, Options)),
    Socket.

socket_options(Ip, Options) ->
    Family = case tuple_size(Ip) of 4 -> inet; 8 -> inet6 end,
    [binary, Family, {ip, Ip}, {active, true}, {recbuf, 1 bsl 20}]
        ++ [{bind_to_device, Device} || #{device := Device} <- [Options]]
        ++ maps:to_list(maps:with([netns], Options)).

-spec close(client() | peer()) -> ok.
close(#{socket := Connection}) when is_pid(Connection) -> stream_kit:close(Connection);
close(#{socket := Socket}) -> gen_udp:close(Socket).

-spec send(client(), iodata()) -> ok.
send(#{socket := Connection}, Bytes) when is_pid(Connection) ->
    stream_kit:send(Connection, Bytes);
send(#{socket := Socket, to := {Ip, Port}}, Bytes) ->
    ok = gen_udp:send(Socket, Ip, Port, Bytes).

%% The next datagram, whatever it is, from where the client sends to (RFC 8489 6.3.1.2).
-spec next(client()) -> binary().
next(#{socket := Socket, to := {Ip, Port}}) ->
    receive
        {udp, Socket, FromIp, FromPort, Bytes} ->
            ?assertEqual({Ip, Port}, {FromIp, FromPort}),
            Bytes
    after ?TIMEOUT -> error(no_answer)
    end.

%% The answer to the transaction, leaving other datagrams where they are.
-spec await(client(), <<_:96>>) -> binary().
await(#{socket := Socket, to := {Ip, Port}}, Txid) ->
    receive
        {udp, Socket, FromIp, FromPort, <<_:64, Txid:12/binary, _/binary>> = Bytes} ->
            ?assertEqual({Ip, Port}, {FromIp, FromPort}),
            Bytes
    after ?TIMEOUT -> error(no_answer)
    end.

%% Sends a request, returns its answer, checked for what is true of every answer.
-spec ask(client(), binary()) -> answer().
ask(Client, Request) -> ask(Client, Request, Request).

%% The same, where the bytes sent are not quite those of Request (whose header is right).
-spec ask(client(), binary(), iodata()) -> answer().
ask(Client, <<_:64, Txid:12/binary, _/binary>> = Request, Sent) ->
    send(Client, Sent),
    checked(Request, await(Client, Txid)).

checked(<<Type:16, _:48, Txid:12/binary, _/binary>>, Bytes) ->
    {ok, #{class := Class} = Answer} = stun_model:decode(Bytes),
    <<AnswerType:16, _/binary>> = Bytes,
    ?assert(lists:member(Class, [success, error])),                      % RFC 8489 6.3.1
    ?assertEqual(Type, AnswerType band 16#3EEF),                         % 6.3.1.1 same method
    ?assertMatch(#{transaction_id := Txid, malformed := [], unknown := []}, Answer),
    ?assertEqual(0, binary:decode_unsigned(<<0, (stun_model:padding(Bytes))/binary>>)), % 14
    ?assert(byte_size(Bytes) =< 548),                                    % 6.1
    ?assertEqual(Class =:= error, get(error_code, Answer) =/= undefined),
    check_error(Answer),
    Answer#{bytes => Bytes}.

%% RFC 8489 14.8-14.10: shapes of what errors carry.
check_error(Answer) ->
    case get(error_code, Answer) of
        undefined -> ok;
        {_, Reason} ->
            Text = unicode:characters_to_list(Reason),
            ?assert(is_list(Text) andalso length(Text) < 128)
    end,
    [?assert(byte_size(V) < 128) || N <- [realm, nonce], V <- get_all(N, Answer)],
    [?assertEqual(nomatch, binary:match(V, [<<"\"">>, <<"\\">>])) || V <- get_all(nonce, Answer)],
    ok.

%% A Binding transaction whose answer must be the very next datagram: nothing else was sent to
%% this client since it last listened. Signed requests wait behind other signed requests, so a
%% client that can sign is fenced by one of those too; it asks for nothing and changes nothing.
-spec fence(client()) -> ok.
fence(Client) ->
    Binding = request(binding, []),
    send(Client, Binding),
    {ok, #{class := success, attributes := [{xor_mapped_address, Here}]}} = first(Client, Binding),
    ?assertEqual(maps:get(here, Client), Here),
    case Client of
        #{key := _} ->
            Nothing = signed(Client, create_permission, []),
            send(Client, Nothing),
            {ok, #{class := error}} = first(Client, Nothing),
            ok;
        #{} -> ok
    end.

first(#{server := Server} = Client, <<_:64, Txid:12/binary, _/binary>>) ->
    Bytes = next(Client),
    case Bytes of
        <<_:64, Txid:12/binary, _/binary>> -> ok;
        _ -> error({not_silent, Bytes})
    end,
    {ok, #{attributes := Attributes} = Answer} = stun_model:decode(Bytes),
    case Server of
        #{foreign := false} -> {ok, Answer};
        #{} -> {ok, Answer#{attributes := [A || {xor_mapped_address, _} = A <- Attributes]}}
    end.

%% Sends what must not be answered.
-spec silent(client(), iodata()) -> ok.
silent(Client, Bytes) ->
    send(Client, Bytes),
    fence(Client).

%% Sends what must be dropped for a reason, and see that it was counted under it.
-spec dropped(client(), atom(), iodata()) -> ok.
dropped(#{server := Server} = Client, Reason, Bytes) ->
    counted(Server, Reason, fun() -> silent(Client, Bytes) end).

%% Does the server answer a stranger?
-spec alive(server()) -> ok.
alive(Server) ->
    Client = open(Server),
    fence(Client),
    close(Client).

%% --------------------------------------------------------------------------------- requests

%% An unsigned request.
-spec request(stun_model:method(), [stun_model:item()]) -> binary().
request(Method, Items) -> request(request, Method, Items).

%% A message of any class, with a random transaction id.
-spec request(stun_model:class(), stun_model:method(), [stun_model:item()]) -> binary().
request(Class, Method, Items) ->
    stun_model:encode(#{class => Class, method => Method, attributes => Items,
                        transaction_id => crypto:strong_rand_bytes(12)}).

%% Learns realm, nonce and password algorithms from a 401 (RFC 8489 9.2.3).
-spec challenged(client()) -> client().
challenged(#{user := User, password := Password} = Client) ->
    Answer = ask(Client, request(allocate, [{requested_transport, 17}])),
    401 = code(Answer),
    Realm = get(realm, Answer),
    Offered = case get(password_algorithms, Answer) of undefined -> []; Some -> Some end,
    Client#{realm => Realm, nonce => get(nonce, Answer), offered => Offered,
            key => stun_model:key(User, Realm, Password)}.

%% A signed request. Options: transaction_id; hash (sha1, sha256); user, realm, nonce (undefined:
%% left out); key; before (items between NONCE and the signature); trailing (items behind it);
%% fingerprint; algorithm (md5, sha256: as a client of RFC 8489 does it that was offered some, the
%% signature SHA-256); anonymous (true: USERHASH in place of USERNAME).
-spec signed(client(), stun_model:method(), [stun_model:item()]) -> binary().
signed(Client, Method, Items) -> signed(Client, Method, Items, #{}).

-spec signed(client(), stun_model:method(), [stun_model:item()], map()) -> binary().
signed(#{password := Password} = Client, Method, Items, Options) ->
    #{user := User, realm := Realm, nonce := Nonce} = Given =
        maps:merge(maps:with([user, realm, nonce], Client), Options),
    Algorithm = maps:get(algorithm, Options, md5),
    Key = case Given of
              #{key := K} -> K;
              #{} when is_binary(User), is_binary(Realm) ->
                  stun_model:key(Algorithm, User, Realm, Password);
              #{} -> maps:get(key, Client)
          end,
    Name = case Options of
               #{anonymous := true} -> {userhash, stun_model:userhash(User, Realm)};
               #{} -> {username, User}
           end,
    Identity = [{N, V} || {N, V} <- [Name, {realm, Realm}, {nonce, Nonce}], V =/= undefined]
        ++ chosen(Client, Options),
    stun_model:encode(#{class => request, method => Method,
                        transaction_id => maps:get(transaction_id, Options,
                                                   crypto:strong_rand_bytes(12)),
                        attributes => Items ++ Identity ++ maps:get(before, Options, [])
                            ++ [{sign, maps:get(hash, Options, hash(Options)), Key}]
                            ++ maps:get(trailing, Options, []),
                        fingerprint => maps:get(fingerprint, Options, false)}).

chosen(#{offered := Offered}, #{algorithm := Algorithm}) ->
    Number = case Algorithm of md5 -> 1; sha256 -> 2 end,
    [{password_algorithms, Offered}, {password_algorithm, {Number, <<>>}}];
chosen(_, _) -> [].

hash(#{algorithm := _}) -> sha256;
hash(#{}) -> sha1.

%% A signed request and its answer, which is signed likewise unless it is a 400, 401 or 438, whose
%% sender may not know the key (RFC 8489 9.2.4).
-spec call(client(), stun_model:method(), [stun_model:item()]) -> answer().
call(Client, Method, Items) -> call(Client, Method, Items, #{}).

-spec call(client(), stun_model:method(), [stun_model:item()], map()) -> answer().
call(#{key := Key} = Client, Method, Items, Options) ->
    Answer = ask(Client, signed(Client, Method, Items, Options)),
    case {Answer, Options} of
        {#{integrity := none}, _} -> ?assert(lists:member(code(Answer), [400, 401, 438]));
        {#{}, #{key := Other}} -> ok = stun_model:verify(maps:get(bytes, Answer), Other);
        {#{}, #{user := _}} -> ok;
        {#{}, #{realm := _}} -> ok;
        {#{}, #{algorithm := Algorithm}} ->
            #{user := User, realm := Realm, password := Password} = Client,
            ?assertMatch(#{integrity := sha256}, Answer),
            ok = stun_model:verify(maps:get(bytes, Answer),
                                   stun_model:key(Algorithm, User, Realm, Password));
        {#{}, #{}} -> ok = stun_model:verify(maps:get(bytes, Answer), Key)
    end,
    Answer.

%% ------------------------------------------------------------------------------------- TURN

-spec allocated(server()) -> client().
allocated(Server) -> allocated(Server, []).

%% A client with an allocation made with these attributes besides REQUESTED-TRANSPORT.
-spec allocated(server(), [stun_model:item()]) -> client().
allocated(Server, Items) -> allocated(Server, Items, #{}).

-spec allocated(server(), [stun_model:item()], map()) -> client().
allocated(Server, Items, Options) ->
    Client = challenged(open(Server, Options)),
    Answer = success(allocate(Client, Items)),
    Client#{answer => Answer, relayed => get(xor_relayed_address, Answer)}.

-spec allocate(client()) -> answer().
allocate(Client) -> allocate(Client, []).

-spec allocate(client(), [stun_model:item()]) -> answer().
allocate(Client, Items) -> call(Client, allocate, [{requested_transport, 17} | Items]).

%% The same where room has just been made: a socket closes a moment after the answer that its
%% allocation is over, and until then it is 508.
-spec allocate_soon(client(), [stun_model:item()]) -> answer().
allocate_soon(Client, Items) ->
    allocate_soon(Client, Items, erlang:monotonic_time(millisecond) + ?TIMEOUT).

allocate_soon(Client, Items, Deadline) ->
    Answer = allocate(Client, Items),
    case code(Answer) =:= 508 andalso erlang:monotonic_time(millisecond) < Deadline of
        true -> allocate_soon(Client, Items, Deadline);
        false -> Answer
    end.

%% Ends the allocation.
-spec delete(client()) -> ok.
delete(Client) ->
    Answer = success(call(Client, refresh, [{lifetime, 0}])),
    ?assertEqual(0, get(lifetime, Answer)).

-spec permit(client(), [peer() | stun_model:address()]) -> answer().
permit(Client, Peers) ->
    call(Client, create_permission, [{xor_peer_address, address(P)} || P <- Peers]).

-spec bind(client(), 0..65535, peer() | stun_model:address()) -> answer().
bind(Client, Number, Peer) ->
    call(Client, channel_bind, [{channel_number, Number}, {xor_peer_address, address(Peer)}]).

address(#{address := Address}) -> Address;
address(Address) -> Address.

-spec send_to(client(), peer() | stun_model:address(), binary()) -> ok.
send_to(Client, Peer, Data) ->
    send_indication(Client, [{xor_peer_address, address(Peer)}, {data, Data}]).

-spec send_indication(client(), [stun_model:item()]) -> ok.
send_indication(Client, Items) -> send(Client, request(indication, send, Items)).

-spec channel(client(), 0..65535, iodata()) -> ok.
channel(Client, Number, Data) -> send(Client, stun_model:encode_channel(Number, Data)).

%% The next datagram, which is a Data indication and nothing more (RFC 8656 11.3).
-spec data(client()) -> {stun_model:address(), binary()}.
data(Client) ->
    Bytes = next(Client),
    {ok, #{class := indication, method := data, attributes := Attributes, integrity := none}} =
        stun_model:decode(Bytes),
    ?assertEqual(0, binary:decode_unsigned(<<0, (stun_model:padding(Bytes))/binary>>)),
    [{data, Data}, {xor_peer_address, From}] = lists:sort(Attributes),
    {From, Data}.

%% ------------------------------------------------------------------------------------ peers

-spec peer() -> peer().
peer() -> peer({127, 0, 0, 1}).

-spec peer(inet:ip_address()) -> peer().
peer(Ip) -> peer(Ip, #{}).

%% Options: netns, as for open/2.
-spec peer(inet:ip_address(), map()) -> peer().
peer(Ip, Options) ->
    Socket = socket(Ip, 0, Options),
    {ok, Address} = inet:sockname(Socket),
    #{socket => Socket, address => Address}.

-spec peer_send(peer(), stun_model:address(), iodata()) -> ok.
peer_send(#{socket := Socket}, {Ip, Port}, Data) -> ok = gen_udp:send(Socket, Ip, Port, Data).

%% The next datagram the peer got, and whom it came from.
-spec peer_next(peer()) -> {stun_model:address(), binary()}.
peer_next(#{socket := Socket}) ->
    receive
        {udp, Socket, Ip, Port, Data} -> {{Ip, Port}, Data}
    after ?TIMEOUT -> error(nothing_relayed)
    end.

%% What becomes of a datagram that the peer sends to the client's relayed address: data,
%% {channel, Number}, or the name of the counter that was counted when it was dropped. Whichever
%% happens is awaited.
-spec from_peer(client(), peer()) -> data | {channel, 0..65535} | atom().
from_peer(#{server := Server, socket := Socket, relayed := Relayed} = Client, Peer) ->
    Mark = crypto:strong_rand_bytes(8),
    Reasons = [no_permission, no_allocation],
    Drops = fun() -> [counter(Server, Reason) || Reason <- Reasons] end,
    Before = Drops(),
    peer_send(Peer, Relayed, Mark),
    eventually(fun() ->
        {messages, Messages} = process_info(self(), messages),
        Drops() =/= Before orelse [M || {udp, S, _, _, _} = M <- Messages, S =:= Socket] =/= []
    end),
    case Drops() of
        Before ->
            arrived(next(Client), Mark);
        After ->
            fence(Client),
            [Reason] = [R || {R, Was, Is} <- lists:zip3(Reasons, Before, After), Is > Was],
            Reason
    end.

arrived(<<16#0017:16, _/binary>> = Data, Mark) ->
    {_, _} = binary:match(Data, Mark),
    data;
arrived(<<Number:16, Length:16, Mark/binary>>, Mark) when Length =:= byte_size(Mark) ->
    {channel, Number}.

%% Sends from a peer without permission to the client's relayed address: the datagram is dropped
%% for that reason, and once it has been the client has got nothing.
-spec unheard(client(), peer(), stun_model:address(), iodata()) -> ok.
unheard(#{server := Server} = Client, Peer, Relayed, Data) ->
    counted(Server, no_permission, fun() -> peer_send(Peer, Relayed, Data) end),
    fence(Client).

%% Sees that the next datagram the peer gets is this one, sent now by the client (which has a
%% permission): whatever the client sent before went nowhere.
-spec peer_same(client(), peer()) -> ok.
peer_same(#{relayed := Relayed} = Client, Peer) ->
    Mark = crypto:strong_rand_bytes(9),
    send_to(Client, Peer, Mark),
    ?assertEqual({Relayed, Mark}, peer_next(Peer)).

%% ---------------------------------------------------------------------------------- answers

%% The first value under the name, or undefined.
-spec get(atom(), answer() | stun_model:message()) -> stun_model:value() | undefined.
get(Name, #{attributes := Attributes}) -> proplists:get_value(Name, Attributes).

-spec get_all(atom(), answer() | stun_model:message()) -> [stun_model:value()].
get_all(Name, #{attributes := Attributes}) -> proplists:get_all_values(Name, Attributes).

%% The number of an error, or success.
-spec code(answer()) -> 300..699 | success.
code(#{class := success}) -> success;
code(Answer) ->
    {Code, _} = get(error_code, Answer),
    Code.

%% The names of all attributes, sorted, integrity and fingerprint among them.
-spec names(answer()) -> [atom() | 0..65535].
names(#{bytes := Bytes}) ->
    Names = maps:from_list([{Code, Name} || {Name, Code, _, _, _} <- stun_model:table()]),
    lists:sort([maps:get(Code, Names, Code) || Code <- stun_model:codes(Bytes)]).

-spec success(answer()) -> answer().
success(#{class := success} = Answer) -> Answer;
success(Answer) -> error({not_success, code(Answer), Answer}).

%% Sees that the answer is an error of this number, or of one of these.
-spec expect(300..699 | [300..699], answer()) -> answer().
expect(Code, Answer) when is_integer(Code) -> expect([Code], Answer);
expect(Codes, Answer) ->
    case lists:member(code(Answer), Codes) of
        true -> Answer;
        false -> error({expected, Codes, got, code(Answer), Answer})
    end.

%% The bytes with those at Offset replaced.
-spec patch(binary(), non_neg_integer(), binary()) -> binary().
patch(Bytes, Offset, New) ->
    After = Offset + byte_size(New),
    <<(binary:part(Bytes, 0, Offset))/binary, New/binary,
      (binary:part(Bytes, After, byte_size(Bytes) - After))/binary>>.
