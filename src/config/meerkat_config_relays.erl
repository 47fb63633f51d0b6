%% The addresses to relay from, made of the keys relay_ip and relays and of what this machine has:
%% what is bound, what clients are told, which ports. Asks the machine through functions it is
%% given; binds nothing.
-module(meerkat_config_relays).

-import(meerkat_config_origin, [at/1, named/2]).

-export([relays/2, overlapping/1, shown/1, most/0]).
-export_type([relay/0]).

%% `local` is bound, `advertised` is what clients are told; they differ behind a 1:1 NAT. One that
%% is `awaited` need not be there: relay_ip follows what this machine has.
-type relay() :: #{
    local := inet:ip_address(),
    advertised := inet:ip_address(),
    min_port := inet:port_number(),
    max_port := inet:port_number(),
    awaited => boolean(),
    _ => _
}.

%% How many there may be at a time. The relay program has room for four times as many, for those
%% that a reload has taken away but that allocations still use.
-spec most() -> pos_integer().
most() -> meerkat_ctl:limit(pools_max) div 4.

%% Each with its key, relay_ip or relays. Without either key: the address of the IPv4 default route,
%% and of the IPv6 one where there is one; none where this machine has no address yet.
-spec relays(meerkat_config_origin:resolved(), meerkat_config:host()) ->
    {ok, [relay()], Warnings :: [unicode:chardata()]} | {error, [unicode:chardata(), ...]}.
relays(Resolved, Host) ->
    Found = named_ones(Resolved, Host) ++ [{R, []} || R <- groups(Resolved)],
    Relays = [Relay || {Relay, _} <- Found],
    Warnings = lists:append([W || {_, W} <- Found]) ++ nowhere(Relays) ++ only_ipv6(Relays)
        ++ lone_ports(Relays, Resolved),
    case no_range(Relays) ++ clashes(Relays, Resolved) ++ too_many(Relays, Resolved) of
        [] -> {ok, Relays, Warnings};
        Mistakes -> {error, Mistakes}
    end.

too_many(Relays, Resolved) ->
    case length(Relays) > most() of
        true ->
            Keys = lists:usort([Key || #{key := Key} <- Relays]),
            [[lists:join(" and ", [named(Key, Resolved) || Key <- Keys]),
              io_lib:format(" make ~b addresses to relay from; at most ~b can be",
                            [length(Relays), most()])]];
        false ->
            []
    end.

named_ones(#{relay_ip := {auto, _}, relays := {[_ | _], _}}, _Host) ->
    [];
named_ones(#{relay_ip := {auto, _}} = Resolved, #{route := Route, first := First}) ->
    [{relay(Ip, Ip, Resolved), unreachable(Ip)}
     || {ok, Ip} <- [either(Route, First, inet), Route(inet6)]];
named_ones(#{relay_ip := {Ips, _}} = Resolved, Host) ->
    [chosen(Ip, Resolved, Host) || Ip <- Ips].

relay(Local, Advertised, #{min_port := {Min, _}, max_port := {Max, _}}) ->
    #{key => relay_ip, local => Local, advertised => Advertised, min_port => Min, max_port => Max,
      awaited => true}.

groups(#{relays := {Groups, _}, min_port := {Min, _}, max_port := {Max, _}}) ->
    [maps:merge(#{key => relays, advertised => Local, min_port => Min, max_port => Max}, Group)
     || #{local := Local} = Group <- Groups].

%% An address that this machine does not have is either the outer one of a 1:1 NAT, then the address
%% of the default route is bound; or it is one that the machine will have, then nothing else is
%% bound in its place.
chosen({Advertised, Local}, Resolved, _Host) ->
    {relay(Local, Advertised, Resolved), []};
chosen(Ip, Resolved, #{bindable := Bindable} = Host) ->
    case Bindable(Ip) orelse behind_nat(Ip, Host) of
        true ->
            {relay(Ip, Ip, Resolved), []};
        {ok, Local} ->
            Told = [": relaying from ", meerkat_text:ip(Local), " and telling clients ",
                    meerkat_text:ip(Ip)],
            {relay(Local, Ip, Resolved), [[absent(Ip, Resolved), Told]]};
        none ->
            Awaited = " yet: nothing is relayed from there until it is one. Behind a 1:1 NAT "
                "write ADVERTISED/BOUND",
            {relay(Ip, Ip, Resolved), [[absent(Ip, Resolved), Awaited]]}
    end.

absent(Ip, Resolved) ->
    [named(relay_ip, Resolved), " is ", meerkat_text:ip(Ip),
     ", which is no address of this machine"].

%% The address to bind for one that is a NAT's. An address of a network that this machine is in is
%% no NAT's, nor is a public one where the machine has a public one itself.
behind_nat(Ip, #{route := Route, first := First} = Host) ->
    OnLink = maps:get(on_link, Host, fun(_) -> false end),
    case either(Route, First, family(Ip)) of
        {ok, Local} ->
            BothPublic = meerkat_policy:kind(Local) =:= public
                andalso meerkat_policy:kind(Ip) =:= public,
            case BothPublic orelse OnLink(Ip) of
                true -> none;
                false -> {ok, Local}
            end;
        none ->
            none
    end.

family(Ip) when tuple_size(Ip) =:= 4 -> inet;
family(_Ip) -> inet6.

either(Route, First, Family) ->
    case Route(Family) of
        {ok, Ip} -> {ok, Ip};
        none -> First(Family)
    end.

unreachable(Ip) ->
    case meerkat_policy:kind(Ip) of
        public ->
            [];
        Kind ->
            [[
                "relaying from ", meerkat_text:ip(Ip), ", a ", kind(Kind), " address that clients "
                "elsewhere cannot reach; RELAY_IP or the key relay_ip sets another"
            ]]
    end.

kind(link_local) -> "link-local";
kind(Kind) -> atom_to_list(Kind).

nowhere([]) ->
    ["this machine has no address to relay from yet; it is looked for again whenever its addresses "
     "change, or RELAY_IP or the key relay_ip names one that will come"];
nowhere(_) ->
    [].

%% RFC 8656 7.2: whoever names no family means IPv4, and browsers name none.
only_ipv6(Relays) ->
    case lists:usort([family(Ip) || #{advertised := Ip} <- Relays]) of
        [inet6] ->
            ["there is no IPv4 address to relay from: clients that ask for no address family, as "
             "browsers do, mean IPv4 and are answered 440"];
        _ ->
            []
    end.

%% Pairs that cannot both be: they have ports in common, and either the address that is bound or the
%% one that clients are told.
-spec overlapping([relay()]) -> [{relay(), relay()}].
overlapping([Relay | Relays]) ->
    [{Relay, Other} || Other <- Relays, is_shared(Relay, Other)] ++ overlapping(Relays);
overlapping([]) ->
    [].

is_shared(#{local := Local, advertised := Advertised, min_port := Min, max_port := Max},
          #{local := OtherLocal, advertised := OtherAdvertised, min_port := OtherMin,
            max_port := OtherMax}) ->
    (Local =:= OtherLocal orelse Advertised =:= OtherAdvertised)
        andalso Min =< OtherMax andalso OtherMin =< Max.

%% Whether the keys min_port and max_port are in order is checked in meerkat_config_rules.
no_range(Relays) ->
    [
        io_lib:format(
            "~ts: relays has min_port ~b and max_port ~b; the first must not be the larger",
            [at(Place), Min, Max]
        )
     || #{place := Place, min_port := Min, max_port := Max} <- Relays, Min > Max
    ].

clashes(Relays, Resolved) ->
    [
        [
            origin(Relay, Resolved), " has ", shown([Relay]), " and ", origin(Other, Resolved),
            " has ", shown([Other]), ", and both have ports ",
            integer_to_list(max(min_port(Relay), min_port(Other))), " to ",
            integer_to_list(min(max_port(Relay), max_port(Other))), ": of one address, bound or "
            "told to clients, no port can be relayed from twice"
        ]
     || {Relay, Other} <- overlapping(Relays)
    ].

min_port(#{min_port := Port}) -> Port.
max_port(#{max_port := Port}) -> Port.

origin(#{place := Place}, _) -> [at(Place), ": relays"];
origin(#{key := Key}, Resolved) -> named(Key, Resolved).

lone_ports(Relays, Resolved) ->
    [
        [
            origin(Relay, Resolved), ": there is one port of ", shown([Relay]), " alone, so no "
            "client can reserve the next one (EVEN-PORT)"
        ]
     || #{min_port := Port, max_port := Port} = Relay <- Relays
    ].

%% As the operator may read them.
-spec shown([relay()]) -> unicode:chardata().
shown([]) ->
    <<"none">>;
shown(Relays) ->
    lists:join(", ", [shown_one(Relay) || Relay <- Relays]).

shown_one(#{local := Ip, advertised := Ip}) ->
    meerkat_text:ip(Ip);
shown_one(#{local := Local, advertised := Advertised}) ->
    [meerkat_text:ip(Advertised), " (bound: ", meerkat_text:ip(Local), ")"].
