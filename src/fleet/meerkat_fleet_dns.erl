%% The records that a DNS zone may have for a fleet, as nodes tell of themselves now: SRV, whose
%% weight is what a node has free, and the addresses. Browsers ask for addresses alone; what weighs
%% those is the DNS provider's. Pure.
-module(meerkat_fleet_dns).

-export([records/3]).

-export_type([record/0]).

%% As in a zone file; the names end with a dot.
-type record() :: #{name := binary(), ttl := pos_integer(), type := binary(), data := binary()}.

%% For the name of a domain. Nodes that take no allocations have none.
-spec records(Domain :: binary(), TtlS :: pos_integer(), [meerkat_elsewhere:place()]) -> [record()].
records(Domain, Ttl, Places) ->
    Zone = <<(string:trim(Domain, trailing, "."))/binary, ".">>,
    Rows = lists:append([row(Service, Way, weight(Load), Zone)
                         || #{ready := true, load := Load, ways := Ways} <- Places, Way <- Ways,
                            Service <- services(Way)]),
    [#{name => Name, ttl => Ttl, type => Type, data => Data}
     || {Name, Type, Data} <- lists:usort(Rows)].

%% RFC 5389 9, RFC 5928 3.
services(#{transport := udp}) -> [<<"_stun._udp.">>, <<"_turn._udp.">>];
services(#{transport := tcp}) -> [<<"_turn._tcp.">>];
services(#{transport := tls}) -> [<<"_turns._tcp.">>];
services(#{transport := dtls}) -> [<<"_turns._udp.">>].

%% RFC 2782: 0 is for where there is nothing to choose.
weight(Load) -> max(1, round(100 * (1 - Load))).

row(Service, #{at := {Ip, Port}, hosts := [Host | _]}, Weight, Zone) ->
    {Target, Address} = target(Host, Ip, Zone),
    [{<<Service/binary, Zone/binary>>, <<"SRV">>,
      iolist_to_binary(io_lib:format("10 ~b ~b ~s", [Weight, Port, Target]))} | Address].

%% A certificate's name, whose address is in a zone already; else a name made from the address.
target(Host, _Ip, _Zone) when is_binary(Host) ->
    {<<Host/binary, ".">>, []};
target(_Host, Ip, Zone) ->
    Text = iolist_to_binary(inet:ntoa(Ip)),
    Label = binary:replace(Text, [<<".">>, <<":">>], <<"-">>, [global]),
    %% No label may begin or end with a hyphen.
    Name = <<"ip-", Label/binary, "-x.", Zone/binary>>,
    {Name, [{Name, type(Ip), Text}]}.

type(Ip) when tuple_size(Ip) =:= 4 -> <<"A">>;
type(_Ip) -> <<"AAAA">>.
