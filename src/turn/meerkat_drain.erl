%% A server that takes no more allocations: those it has go on, and new ones are sent elsewhere
%% (300, RFC 8489 10) or refused (508). Only requests with good credentials come this far, and
%% the answer is signed: nobody else can send a client away. What is to happen once the last
%% allocation is gone is the caller's to say (meerkat_drain_end waits for it).
-module(meerkat_drain).

-export([drain/1, undrain/1, redirect/2, is_draining/1, verdict/2, full/2]).
-export([end_after/4, resume/1, ending/1, end_node/0, end_node_now/1, is_node_ending/0]).

%% How long a node that ends waits until its log is read.
-define(LAST_WORDS_MS, 3000).

-type address() :: {inet:ip_address(), inet:port_number()}.

%% From here on new allocations go to the servers of the key `alternate_server`, or without that to
%% other nodes of the fleet, or nowhere.
-spec drain(Name :: atom()) -> ok.
drain(Name) ->
    noted(Name, configured).

%% Or to these.
-spec redirect(Name :: atom(), [address(), ...]) -> ok | {error, own_address}.
redirect(Name, Servers) ->
    case lists:any(fun(Server) -> is_own(Server, Name) end, Servers) of
        true -> {error, own_address};
        false -> noted(Name, {to, Servers})
    end.

%% Takes allocations again, and calls off whatever end was awaited.
-spec undrain(Name :: atom()) -> ok.
undrain(Name) ->
    ok = call_off(Name),
    noted(Name, none).

noted(Name, Drain) ->
    ok = meerkat_store:put_lasting(Name, ?MODULE, drain, Drain),
    meerkat_beside:changed(Name).

%% Calls Then, once, when the server has no allocation left, or Seconds from now. One that is
%% awaited already is called off. A server that is started anew meanwhile is still awaited.
-spec end_after(Name :: atom(), Seconds :: non_neg_integer() | infinity,
                By :: operator | signal, Then :: meerkat_drain_end:then()) -> ok.
end_after(Name, Seconds, By, Then) ->
    ok = call_off(Name),
    Until = case Seconds of
        infinity -> infinity;
        _ -> erlang:monotonic_time(millisecond) + Seconds * 1000
    end,
    await(Name, Until, By, Then).

await(Name, Until, By, Then) ->
    Pid = meerkat_drain_end:start(Name, left(Until), Then),
    meerkat_store:put_lasting(Name, ?MODULE, ending, {Pid, Until, By, Then}).

%% For a relay that has come up, maybe of a new life of the server: whoever waited for the end of
%% the life before has ended with it.
-spec resume(Name :: atom()) -> ok.
resume(Name) ->
    case meerkat_store:get(Name, ?MODULE, ending) of
        none ->
            ok;
        {Pid, Until, By, Then} ->
            case is_process_alive(Pid) of
                true -> ok;
                false -> await(Name, Until, By, Then)
            end
    end.

call_off(Name) ->
    case meerkat_store:get(Name, ?MODULE, ending) of
        none -> ok;
        {Pid, _, _, _} -> meerkat_drain_end:stop(Pid)
    end,
    meerkat_store:delete(Name, ?MODULE, ending).

left(infinity) -> infinity;
left(Until) -> max(0, Until - erlang:monotonic_time(millisecond)).

%% Seconds until the end that is awaited, and whose wish it is.
-spec ending(Name :: atom()) -> none | {Seconds :: non_neg_integer() | infinity,
                                        By :: operator | signal}.
ending(Name) ->
    case meerkat_store:get(Name, ?MODULE, ending) of
        none ->
            none;
        {_, infinity, By, _} ->
            {infinity, By};
        {_, Until, By, _} ->
            {left(Until) div 1000, By}
    end.

%% Ends a node that is Meerkat's own, in order: the servers, then what they have said, then the
%% node. init:stop/0 would wait for ever for a reader of stderr who reads no more.
-spec end_node() -> ok.
end_node() ->
    _ = spawn(fun end_in_order/0),
    ok.

-spec end_in_order() -> no_return().
end_in_order() ->
    %% Not one of the application's processes, which end with it.
    true = group_leader(whereis(init), self()),
    ok = persistent_term:put({?MODULE, ending}, true),
    _ = application:stop(meerkat),
    ok = said(erlang:monotonic_time(millisecond) + ?LAST_WORDS_MS),
    halt(0, [{flush, false}]).

%% The end of the servers is not reported as a fault then.
-spec is_node_ending() -> boolean().
is_node_ending() ->
    persistent_term:get({?MODULE, ending}, false) orelse element(1, init:get_status()) =:= stopping.

%% Returns once every line of the log has left this node, or when it is too late.
said(Until) ->
    Last = self(),
    _ = spawn(fun() -> _ = logger_std_h:filesync(default), Last ! logged end),
    receive
        logged -> written(Until)
    after ?LAST_WORDS_MS ->
        ok
    end.

%% Ports tell nobody when what waits in them is written.
written(Until) ->
    Waiting = [Port || Port <- erlang:ports(),
                       {queue_size, N} <- [erlang:port_info(Port, queue_size)], N > 0],
    case erlang:monotonic_time(millisecond) < Until of
        true when Waiting =/= [] -> receive after 20 -> written(Until) end;
        _ -> ok
    end.

%% The same, whatever end was awaited.
-spec end_node_now(Name :: atom()) -> ok.
end_node_now(Name) ->
    _ = meerkat_registry:is_running(Name) andalso call_off(Name),
    end_node().

-spec is_draining(Name :: atom()) -> boolean().
is_draining(Name) ->
    meerkat_store:get(Name, ?MODULE, drain) =/= none.

%% Whether an Allocate may begin an allocation, or is sent elsewhere or refused.
-spec verdict(Name :: atom(), meerkat_alloc_core:place()) ->
    go_on | {answer, meerkat_alloc_core:response()}.
verdict(Name, #{server := {Ip, _}} = Place) ->
    #{alternate_server := Servers, anycast_ip := Anycast} = meerkat_registry:settings(Name),
    case meerkat_store:get(Name, ?MODULE, drain) of
        none ->
            case lists:member(Ip, Anycast) of
                true -> own_address(Name, Place);
                false -> go_on
            end;
        configured when Servers =:= [] -> {answer, in_fleet(Name, Place)};
        configured -> {answer, elsewhere(Servers, Name, Place)};
        {to, Given} -> {answer, elsewhere(Given, Name, Place)}
    end.

%% The answer to an Allocate that there is no room for here.
-spec full(Name :: atom(), meerkat_alloc_core:place()) -> meerkat_alloc_core:response().
full(Name, Place) ->
    in_fleet(Name, Place).

%% RFC 8155 7.1: at an anycast address nothing may begin, for the next packet may reach another
%% server. Whoever asks there is sent to this one's own address; without one, it has to do.
own_address(Name, #{listener := Listener, transport := Transport, client := {Ip, _}}) ->
    #{listeners := Listeners, realms := #{Listener := Realm}, anycast_ip := Anycast} =
        meerkat_registry:settings(Name),
    Bound = meerkat_listening:bound(Name),
    case [{To, Port} || #{id := Id, transport := Of, realm := R} <- Listeners, Of =:= Transport,
                        R =:= Realm, {To, Port} <- [maps:get(Id, Bound, {any, 0})],
                        is_tuple(To), size(To) =:= size(Ip), not lists:member(To, Anycast)] of
        [To | _] -> {answer, {error, 300, [{alternate_server, To}]}};
        [] -> go_on
    end.

%% One of the client's own family first, there must be one, then one of the other. Clients are
%% spread over the servers, each always to the same, and never back to where they asked.
elsewhere(Servers, Name, #{client := {Ip, _} = Client, server := Asked}) ->
    Others = [S || S <- Servers, S =/= Asked, not is_own(S, Name)],
    {Same, Other} = lists:partition(fun({To, _}) -> size(To) =:= size(Ip) end, Others),
    case Same of
        [] -> {error, 508, []};
        _ -> {error, 300, [{alternate_server, one_of(Of, Client)} || Of <- [Same, Other],
                                                                     Of =/= []]}
    end.

one_of(Servers, Client) ->
    lists:nth(1 + erlang:phash2(Client, length(Servers)), Servers).

%% A node of the fleet that has room and listens by the same transport, in the client's family and
%% realm: of two that the client's address picks the less loaded one, or all would go to the same
%% until that has told of it. Over TLS the client needs the name that the certificate there has.
in_fleet(Name, #{listener := Listener, transport := Transport, client := {Ip, _} = Client}) ->
    #{realms := #{Listener := Realm}} = meerkat_registry:settings(Name),
    Fits = fun(#{transport := Of, realm := R, at := {To, _}}) ->
        meerkat_ctl:transport(Of) =:= Transport andalso R =:= Realm andalso size(To) =:= size(Ip)
    end,
    case [{Load, Way} || #{load := Load, ready := true, ways := All}
                             <- meerkat_elsewhere:places(Name), Load < 1.0,
                         Way <- lists:sublist(lists:filter(Fits, All), 1)] of
        [] ->
            {error, 508, []};
        Ways ->
            {_, #{at := At, hosts := Hosts}} =
                min(one_of(Ways, {Client, 1}), one_of(Ways, {Client, 2})),
            {error, 300, [{alternate_server, At}
                          | [{alternate_domain, hd(Hosts)} || is_binary(hd(Hosts))]]}
    end.

%% RFC 8489 10 knows of no server that sends to itself: a listener, by the address it is bound to
%% or that clients are told.
is_own({Ip, Port} = Server, Name) ->
    Bound = maps:values(meerkat_listening:bound(Name)),
    #{relays := Relays} = meerkat_registry:settings(Name),
    Told = lists:append([[Local, Advertised]
                         || #{local := Local, advertised := Advertised} <- Relays]),
    lists:member(Server, Bound)
        orelse lists:member(Ip, Told) andalso lists:keymember(Port, 2, Bound).
