%% The two questions of meerkat_doctor that need more than reading: which address a STUN server
%% sees, and what the relay program says of this kernel.
-module(meerkat_doctor_net).

-export([mapped/2, probe/1, offload/1]).

-define(STUN_PORT, 3478).
%% Milliseconds after each of the requests.
-define(WAITS, [500, 1000, 2000]).

%% A Binding request from Local to Server, "HOST[:PORT]": the address in the answer.
-spec mapped(Local :: inet:ip_address(), Server :: binary()) ->
    {ok, {inet:ip_address(), inet:port_number()}} | {error, unicode:chardata()}.
mapped(Local, Server) ->
    case target(unicode:characters_to_list(Server)) of
        {ok, Address} -> ask(Local, Address);
        {error, Sentence} -> {error, Sentence}
    end.

target(Server) ->
    case string:split(Server, ":", trailing) of
        [Host, Port] -> target(Host, Port);
        [Host] -> target(Host, integer_to_list(?STUN_PORT))
    end.

target(Host, Digits) ->
    case {inet:getaddr(Host, inet), string:to_integer(Digits)} of
        {{ok, Ip}, {Port, ""}} when Port > 0, Port < 65536 -> {ok, {Ip, Port}};
        {{error, Reason}, _} -> {error, inet:format_error(Reason)};
        {_, _} -> {error, "a port is a number from 1 to 65535"}
    end.

ask(Local, Address) ->
    case gen_udp:open(0, [binary, inet, {ip, Local}, {active, false}]) of
        {ok, Socket} ->
            Id = crypto:strong_rand_bytes(12),
            Request = meerkat_stun:encode(#{class => request, method => binding,
                                            transaction_id => Id, attributes => []}),
            Answer = exchange(Socket, Address, Request, Id, ?WAITS),
            ok = gen_udp:close(Socket),
            Answer;
        {error, Reason} ->
            {error, inet:format_error(Reason)}
    end.

exchange(_Socket, _Address, _Request, _Id, []) ->
    {error, "no answer"};
exchange(Socket, {Ip, Port} = Address, Request, Id, [Wait | Waits]) ->
    case gen_udp:send(Socket, Ip, Port, Request) of
        ok ->
            case gen_udp:recv(Socket, 0, Wait) of
                {ok, {_, _, Bytes}} -> answered(Bytes, Id);
                {error, timeout} -> exchange(Socket, Address, Request, Id, Waits);
                {error, Reason} -> {error, inet:format_error(Reason)}
            end;
        {error, Reason} ->
            {error, inet:format_error(Reason)}
    end.

answered(Bytes, Id) ->
    case meerkat_stun:decode(Bytes) of
        {ok, #{class := success, transaction_id := Id} = Message} ->
            case meerkat_stun:get(xor_mapped_address, Message) of
                {ok, Mapped} -> {ok, Mapped};
                error -> {error, "an answer without XOR-MAPPED-ADDRESS"}
            end;
        _ ->
            {error, "what came back is no answer"}
    end.

%% What `meerkat_relay --probe` says of io_uring. If it is refused the relay uses epoll, so that is
%% a warning only.
-spec probe(file:filename_all()) -> [meerkat_doctor:finding()].
probe(Program) ->
    case meerkat_json:decode(said(Program, "--probe")) of
        {ok, #{<<"io_uring">> := #{<<"available">> := Available} = Uring} = Probe} ->
            [probed(Available, Uring, Probe)];
        _ ->
            [#{name => io_uring, verdict => unknown,
               text => <<"the relay program does not tell whether io_uring is there">>}]
    end.

probed(true, _Uring, Probe) ->
    #{name => io_uring, verdict => ok,
      text => iolist_to_binary(["io_uring can be used (Linux ", kernel(Probe), ")"])};
probed(false, #{<<"reason">> := Reason}, Probe) ->
    #{name => io_uring, verdict => warning,
      text => iolist_to_binary(["io_uring is refused (Linux ", kernel(Probe),
                                "): ", meerkat_text:escape(Reason)]),
      remedy => <<"a seccomp profile that has io_uring, kernel.io_uring_disabled = 0; or leave it: "
                  "epoll serves in its place">>}.

said(Program, Option) ->
    Quoted = ["'", string:replace(Program, "'", "'\\''", all), "' "],
    unicode:characters_to_binary(os:cmd(unicode:characters_to_list([Quoted, Option, " 2>&1"]))).

%% Its word on what each interface could do for the key offload (`meerkat_relay --offload`): tried
%% with the rights of whoever asks, which may be more or less than the server's.
-spec offload(file:filename_all()) -> [meerkat_doctor:finding()].
offload(Program) ->
    [offloads(Said) || Line <- string:lexemes(said(Program, "--offload"), "\n"),
                       {ok, #{<<"interface">> := _} = Said} <- [meerkat_json:decode(Line)]].

offloads(#{<<"interface">> := Interface, <<"offload">> := How}) when is_binary(How) ->
    #{name => offload, verdict => ok,
      text => iolist_to_binary(["packets that come by ", meerkat_text:escape(Interface),
                                " could be relayed in the kernel, by ", How])};
offloads(#{<<"interface">> := Interface, <<"reason">> := Why}) ->
    #{name => offload, verdict => warning,
      text => iolist_to_binary(["packets that come by ", meerkat_text:escape(Interface),
                                " cannot be relayed in the kernel: ", meerkat_text:escape(Why)]),
      remedy => <<"CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and libbpf.so.1; or offload = \"off\": "
                  "sockets serve">>}.

kernel(#{<<"kernel">> := Kernel}) -> meerkat_text:escape(Kernel);
kernel(#{}) -> "unknown".
