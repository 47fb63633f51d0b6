%% Which peers a relay may be used to reach, as rules for the relay to apply: first match decides.
%% Pure: knows addresses and configuration, neither users nor sessions. The relay itself refuses
%% its own listeners, port 0 and whatever needs more than a prefix to tell.
-module(meerkat_policy).

-export([rules/1, encode/1, encode_networks/1, check/2]).
-export([kind/1, own_kinds/1, is_tunnel/1, hint/1]).

-export_type([prefix/0, peer/0, rule/0, kind/0]).

%% Bits count from the left of the address in its own family.
-type prefix() :: {inet:ip_address(), Bits :: 0..128}.
%% A network, or some ports of an address.
-type peer() :: prefix() | {inet:ip_address(), {inet:port_number(), inet:port_number()}}.
%% `never` is a denial that nothing in the configuration can lift; `open` allows an address even
%% where it is one of the relay's own host.
-type rule() :: {allow | deny | never | open, peer()}.
%% What an address that is not public is for.
-type kind() :: metadata | loopback | private | link_local | documentation | benchmark | reserved.

%% Never a peer, whatever is allowed (RFC 8656 21.4; threats X03, X04, X08, X12, X18).
-define(NEVER, [
    {{0, 0, 0, 0}, 8},                      % "this network": Linux routes it to localhost
    {{224, 0, 0, 0}, 4},                    % multicast
    {{240, 0, 0, 0}, 4},                    % reserved, and the broadcast address
    {{192, 88, 99, 0}, 24},                 % 6to4 relay anycast
    {{0, 0, 0, 0, 0, 0, 0, 0}, 96},         % unspecified, IPv4-compatible (::1 goes before it)
    {{0, 0, 0, 0, 16#ffff, 0, 0, 0}, 96},   % IPv4-translated (SIIT)
    {{16#64, 16#ff9b, 0, 0, 0, 0, 0, 0}, 96},   % NAT64
    {{16#64, 16#ff9b, 1, 0, 0, 0, 0, 0}, 48},   % NAT64, local use
    {{16#2001, 0, 0, 0, 0, 0, 0, 0}, 32},   % Teredo
    {{16#2002, 0, 0, 0, 0, 0, 0, 0}, 16},   % 6to4
    {{16#ff00, 0, 0, 0, 0, 0, 0, 0}, 8}     % multicast
]).

%% Denied unless allowed by name, or of the relay's own kind. Metadata services stand first: they
%% hide in networks of other kinds (X06).
-define(DENIED, [
    {metadata, {{169, 254, 169, 254}, 32}},
    {metadata, {{169, 254, 170, 2}, 32}},
    {metadata, {{168, 63, 129, 16}, 32}},
    {metadata, {{100, 100, 100, 200}, 32}},
    {metadata, {{16#fd00, 16#ec2, 0, 0, 0, 0, 0, 16#254}, 128}},
    {metadata, {{16#fd20, 16#ce, 0, 0, 0, 0, 0, 16#254}, 128}},
    {loopback, {{127, 0, 0, 0}, 8}},
    {loopback, {{0, 0, 0, 0, 0, 0, 0, 1}, 128}},
    {private, {{10, 0, 0, 0}, 8}},
    {private, {{100, 64, 0, 0}, 10}},
    {private, {{172, 16, 0, 0}, 12}},
    {private, {{192, 168, 0, 0}, 16}},
    {private, {{16#fc00, 0, 0, 0, 0, 0, 0, 0}, 7}},
    {link_local, {{169, 254, 0, 0}, 16}},
    {link_local, {{16#fe80, 0, 0, 0, 0, 0, 0, 0}, 10}},
    {documentation, {{192, 0, 2, 0}, 24}},
    {documentation, {{198, 51, 100, 0}, 24}},
    {documentation, {{203, 0, 113, 0}, 24}},
    {documentation, {{16#2001, 16#db8, 0, 0, 0, 0, 0, 0}, 32}},
    {documentation, {{16#3fff, 0, 0, 0, 0, 0, 0, 0}, 20}},
    {benchmark, {{198, 18, 0, 0}, 15}},
    {benchmark, {{16#2001, 2, 0, 0, 0, 0, 0, 0}, 48}},
    {reserved, {{192, 0, 0, 0}, 24}},
    {reserved, {{16#2001, 0, 0, 0, 0, 0, 0, 0}, 23}},
    {reserved, {{16#100, 0, 0, 0, 0, 0, 0, 0}, 64}},
    {reserved, {{16#100, 0, 0, 1, 0, 0, 0, 0}, 64}},
    {reserved, {{16#5f00, 0, 0, 0, 0, 0, 0, 0}, 16}},
    {reserved, {{16#fec0, 0, 0, 0, 0, 0, 0, 0}, 10}}
]).

%% What is left: all of IPv4, the global unicast addresses of IPv6, and nothing else.
-define(REST, [
    {allow, {{0, 0, 0, 0}, 0}},
    {allow, {{16#2000, 0, 0, 0, 0, 0, 0, 0}, 3}},
    {deny, {{0, 0, 0, 0, 0, 0, 0, 0}, 0}}
]).

-define(LOOPBACK6, {0, 0, 0, 0, 0, 0, 0, 1}).

%% The rules of an instance, in order of precedence: never, allowed_peers, denied_peers, what is
%% denied by default, the rest. Of the networks denied by default those of the kinds that
%% own_kinds/1 names are allowed instead. What allowed_peers names by itself, not by a network
%% around it, comes first and is open; no denial can come between.
-spec rules(#{allowed_peers := [peer()], denied_peers := [prefix()], relays := [map()],
              _ => _}) -> [rule()].
rules(#{allowed_peers := Allowed, denied_peers := Denied, relays := Relays}) ->
    Own = own_kinds(Relays),
    {Named, Networks} = lists:partition(fun is_one_address/1, Allowed),
    {Loopback, Open} = lists:partition(fun({Ip, _}) -> Ip =:= ?LOOPBACK6 end, Named),
    Soft = [{allow, P} || Given <- Networks, P <- of_one_family(Given)]
        ++ [{deny, P} || Given <- Denied, P <- of_one_family(Given)]
        ++ [{verdict(Kind, Own), P} || {Kind, P} <- ?DENIED]
        ++ ?REST,
    %% ::1 lies in ::/96: its verdict is looked up here and stands before that network.
    {OfLoopback, _} = check(?LOOPBACK6, Soft),
    [{open, P} || P <- Loopback] ++ [{OfLoopback, {?LOOPBACK6, 128}}]
        ++ [{never, P} || P <- ?NEVER] ++ [{open, P} || P <- Open] ++ Soft.

is_one_address({_Ip, {_First, _Last}}) -> true;
is_one_address({Ip, Bits}) -> host(Ip) =:= {Ip, Bits}.

%% To the relay ::/0 is every address there is; whoever writes it means those of IPv6.
of_one_family({{0, 0, 0, 0, 0, 0, 0, 0} = Ip, 0}) ->
    [{Ip, 1}, {{16#8000, 0, 0, 0, 0, 0, 0, 0}, 1}];
of_one_family(Prefix) ->
    [Prefix].

verdict(Kind, Own) ->
    case lists:member(Kind, Own) of
        true -> allow;
        false -> deny
    end.

%% The field `rules` of the POLICY frame, 22 bytes a rule (ctl.def).
-spec encode([rule()]) -> binary().
encode(Rules) ->
    << <<(encode_rule(Rule))/binary>> || Rule <- Rules >>.

%% Networks alone, as FRONT of ctl.def has them.
-spec encode_networks([prefix()]) -> binary().
encode_networks(Networks) ->
    << <<Bits, Number:128>> || Network <- Networks, {Number, Bits} <- [canonical(Network)] >>.

encode_rule({Verdict, Peer}) ->
    {Number, Bits} = canonical(Peer),
    {First, Last} = ports(Peer),
    <<(verdict_code(Verdict)), Bits, Number:128, First:16, Last:16>>.

ports({_Ip, {First, Last}}) -> {First, Last};
ports({_Ip, _Bits}) -> {0, 65535}.

verdict_code(deny) -> 0;
verdict_code(allow) -> 1;
verdict_code(never) -> 2;
verdict_code(open) -> 3.

%% The verdict on an address, of whose ports some at least are meant, and the rule that decided.
-spec check(inet:ip_address(), [rule()]) -> {allow | deny | never | open, peer()}.
check(Ip, Rules) ->
    {Number, 128} = canonical(host(Ip)),
    first_match(Number, Rules).

first_match(Number, [{Verdict, Prefix} | Rules]) ->
    case contains(Prefix, Number) of
        true -> {Verdict, Prefix};
        false -> first_match(Number, Rules)
    end;
first_match(_Number, []) ->
    {deny, {{0, 0, 0, 0, 0, 0, 0, 0}, 0}}.

%% Which kind of network an address belongs to.
-spec kind(inet:ip_address()) -> kind() | public.
kind(Ip) ->
    {Number, 128} = canonical(host(Ip)),
    case [Kind || {Kind, Prefix} <- ?DENIED, contains(Prefix, Number)] of
        [Kind | _] -> Kind;
        [] -> public
    end.

%% The kinds that the advertised addresses belong to: a relay on a private or loopback address may
%% reach addresses of its own kind. Metadata services stay forbidden in any case.
-spec own_kinds([#{advertised := inet:ip_address(), _ => _}]) -> [kind()].
own_kinds(Relays) ->
    lists:usort([Kind || #{advertised := Ip} <- Relays, Kind <- [kind(Ip)],
                         Kind =/= public, Kind =/= metadata]).

%% What would let clients reach a peer that the relay forbids, by the reason it gives: a row of the
%% table of reasons (ctl.def), or the network of a rule.
-spec hint(Reason :: binary()) -> unicode:chardata().
hint(Reason) ->
    case meerkat_ctl:hint(Reason) of
        none -> of_rule(binary_to_list(Reason));
        Hint -> Hint
    end.

of_rule(Network) ->
    case lists:member(Network, [meerkat_text:network(Never) || Never <- ?NEVER]) of
        true -> "nothing opens it: such addresses lead elsewhere than they say";
        false -> "an entry of allowed_peers that holds it opens it"
    end.

%% Teredo and 6to4 sources may not allocate (RFC 8656 21.4, threat X12).
-spec is_tunnel(inet:ip_address()) -> boolean().
is_tunnel({16#2001, 0, _, _, _, _, _, _}) -> true;
is_tunnel({16#2002, _, _, _, _, _, _, _}) -> true;
is_tunnel(_Ip) -> false.

%%% 128-bit numbers (X05: compare integers, never bytes)

host(Ip) when tuple_size(Ip) =:= 4 -> {Ip, 32};
host(Ip) when tuple_size(Ip) =:= 8 -> {Ip, 128}.

%% As the relay has it: an IPv6 network has no IPv4 address in it, but for ::/0.
contains(Prefix, Number) ->
    {Network, Bits} = canonical(Prefix),
    Shift = 128 - Bits,
    Number bsr Shift =:= Network bsr Shift
        andalso (Bits =:= 0 orelse Bits >= 96 orelse Number bsr 32 =/= 16#ffff).

%% IPv4 stands as ::ffff:a.b.c.d; bits beyond the prefix are cleared.
canonical({Ip, {_First, _Last}}) ->
    canonical(host(Ip));
canonical({{A, B, C, D}, Bits}) when Bits >= 0, Bits =< 32 ->
    <<Number:128>> = <<0:80, 16#ffff:16, A, B, C, D>>,
    {mask(Number, 96 + Bits), 96 + Bits};
canonical({Ip, Bits}) when tuple_size(Ip) =:= 8, Bits >= 0, Bits =< 128 ->
    <<Number:128>> = << <<Group:16>> || Group <- tuple_to_list(Ip) >>,
    {mask(Number, Bits), Bits}.

mask(Number, Bits) ->
    Shift = 128 - Bits,
    (Number bsr Shift) bsl Shift.
