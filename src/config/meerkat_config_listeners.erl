%% What to listen on, made of the keys listen_ip, listen_port, extra_listeners, those of RFC 5780,
%% and the transports there are to be; and what of it cannot be. Asks nothing of the machine.
-module(meerkat_config_listeners).

-import(meerkat_config_origin, [at/1, named/2]).

-export([listeners/1, mistakes/1]).

%% As the server takes them: of each transport in the order of the keys.
-spec listeners(meerkat_config_origin:resolved()) -> [meerkat_config:listener(), ...].
listeners(#{udp_enabled := {Udp, _}, tcp_enabled := {Tcp, _}} = Resolved) ->
    Tcps = [maps:without([other], L) || Tcp, L <- streams(Resolved)],
    Udps = [L || Udp, L <- all(Resolved)],
    of_transport(udp, Udps) ++ of_transport(tcp, Tcps)
        ++ of_transport(tls, beside(Tcps, secure(Resolved)))
        ++ of_transport(dtls, beside(Udps, secure_datagrams(Resolved))).

%% Listeners of TLS or DTLS alone, but for those at an address and port of `Others`, which take it
%% besides.
beside(Others, Listeners) ->
    [L || L <- Listeners, not lists:any(fun(Other) -> is_same(Other, L) end, Others)].

of_transport(Transport, Listeners) ->
    [(maps:without([key, place], L))#{transport => Transport} || L <- Listeners].

%% RFC 5780 is about UDP: its other addresses are of no use for TCP.
streams(Resolved) ->
    all(Resolved#{rfc5780 := {false, default}}).

%% Listeners that take nothing but TLS, or DTLS. Those of TCP take TLS besides, those of UDP DTLS.
secure(#{tls_cert := {[], _}, tls_self_signed := {false, _}}) -> [];
secure(#{listen_ip := {Ips, _}, tls_port := {Port, _}}) -> [#{ip => Ip, port => Port} || Ip <- Ips].

secure_datagrams(#{dtls_enabled := {true, _}} = Resolved) -> secure(Resolved);
secure_datagrams(_) -> [].

all(#{listen_ip := {Ips, _}, listen_port := {Port, _}, extra_listeners := {Extra, _}} = Resolved) ->
    [L#{key => listen_ip} || Ip <- Ips, L <- at_ip(Ip, Port, Resolved)] ++
        [L#{key => extra_listeners} || L <- Extra].

%% One listener, or the four of RFC 5780, each with the one that has the other address and the other
%% port.
at_ip(Ip, Port, #{rfc5780 := {true, _}, alternate_listen_ip := {Others, _}} = Resolved) ->
    {OtherPort, _} = maps:get(alternate_listen_port, Resolved),
    case [Other || Other <- Others, Ip =/= any, tuple_size(Other) =:= tuple_size(Ip)] of
        [Other] ->
            [#{ip => A, port => P, other => {B, Q}}
             || {A, B} <- [{Ip, Other}, {Other, Ip}],
                {P, Q} <- [{Port, OtherPort}, {OtherPort, Port}]];
        [] ->
            [#{ip => Ip, port => Port}]
    end;
at_ip(Ip, Port, _Resolved) ->
    [#{ip => Ip, port => Port}].

%% Sentences, one for each listener that is there twice.
-spec mistakes(meerkat_config_origin:resolved()) -> [unicode:chardata()].
mistakes(Resolved) ->
    case not_discoverable(Resolved) of
        [] -> listening_twice(all(Resolved), Resolved) ++ too_many(all(Resolved), Resolved);
        Mistakes -> Mistakes
    end.

%% What RFC 5780 needs: two addresses of a family, known by name, and two ports.
not_discoverable(#{rfc5780 := {false, _}}) ->
    [];
not_discoverable(#{alternate_listen_ip := {[], _}} = Resolved) ->
    [
        [named(rfc5780, Resolved), " is true, which needs a second address to listen on: "
            "alternate_listen_ip"]
    ];
not_discoverable(#{alternate_listen_ip := {Others, _}} = Resolved) ->
    [Mistake || Other <- Others, Mistake <- no_pair(Other, Resolved)] ++ no_ports(Resolved).

no_pair(Other, #{listen_ip := {Ips, _}} = Resolved) ->
    Shown = [named(alternate_listen_ip, Resolved), " is ", meerkat_text:ip(Other), " and ",
        named(listen_ip, Resolved), " is ",
        meerkat_config_value:render({list, listen_address}, Ips)],
    case [Ip || Ip <- Ips, Ip =/= any, tuple_size(Ip) =:= tuple_size(Other)] of
        [Other] ->
            [[Shown, "; the two must differ"]];
        [Ip] when Ip =/= {0, 0, 0, 0}, Ip =/= {0, 0, 0, 0, 0, 0, 0, 0} ->
            [];
        _ ->
            [[Shown, "; beside it there must be exactly one address of its family, and no "
                "wildcard: clients are told which"]]
    end.

no_ports(#{listen_port := {Port, _}, alternate_listen_port := {Other, _}} = Resolved) ->
    Shown = [named(listen_port, Resolved), " is ", integer_to_list(Port)],
    case Port of
        0 -> [[Shown, ", which rfc5780 cannot do with: clients are told the ports"]];
        Other -> [[Shown, ", and so is ", named(alternate_listen_port, Resolved),
            "; the two must differ"]];
        _ -> []
    end.

%% A wildcard takes the port of every address of its family.
listening_twice([Listener | Others], Resolved) ->
    [
        [
            origin(Other, Resolved), " has ",
            meerkat_config_value:render(listeners, [maps:with([ip, port], Other)]),
            ", which is listened on already",
            [[": ", meerkat_config_value:render(listeners, [maps:with([ip, port], Listener)])]
             || maps:get(ip, Listener) =/= maps:get(ip, Other)]
        ]
     || Other <- Others, is_same(Listener, Other)
    ] ++ listening_twice(Others, Resolved);
listening_twice([], _Resolved) ->
    [].

is_same(#{ip := Ip, port := Port}, #{ip := Other, port := Port}) when Port > 0 ->
    [{A, B} || A <- bound(Ip), B <- bound(Other), tuple_size(A) =:= tuple_size(B),
               A =:= B orelse is_wildcard(A) orelse is_wildcard(B)] =/= [];
is_same(_, _) ->
    false.

bound(any) -> [{0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0, 0}];
bound(Ip) -> [Ip].

is_wildcard(Ip) ->
    lists:all(fun(Part) -> Part =:= 0 end, tuple_to_list(Ip)).

%% A relay has no room for more; `any` is two of them.
too_many(All, Resolved) ->
    Most = meerkat_ctl:limit(listeners_max),
    case lists:sum([length(bound(Ip)) || #{ip := Ip} <- All]) of
        N when N > Most ->
            [
                io_lib:format("~ts: that makes ~b addresses to listen on (any is two); at most "
                              "~b can be", [origin(lists:last(All), Resolved), N, Most])
            ];
        _ ->
            []
    end.

origin(#{place := Place}, _) -> [at(Place), ": extra_listeners"];
origin(#{key := Key}, Resolved) -> named(Key, Resolved).
