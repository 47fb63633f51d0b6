%% Which peers a relay may reach: threats X01-X18 against the rules as the relay gets them.
%% The verdict is computed here a second time, from the encoded bytes alone.
-module(policy_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([denied_by_default/1, metadata_services_denied/1, v4_in_v6_denied/1, public_allowed/1,
         unassigned_v6_denied/1, allowed_peers_lift_defaults/1, allowed_before_denied/1,
         denied_peers_deny_public/1, never_beats_allow/1, own_kind_allowed/1,
         own_kind_is_not_metadata/1, loopback6_by_name/1, ranges_compare_as_integers/1,
         prefix_host_bits_ignored/1, encoding/1, kinds/1, tunnels/1,
         all_of_ipv6_is_not_ipv4/1,
         own_address_opened_by_its_name/1, never_is_not_opened_by_its_name/1,
         every_reason_has_a_hint/1]).

-define(LOOPBACK6, {0, 0, 0, 0, 0, 0, 0, 1}).

all() ->
    [denied_by_default, metadata_services_denied, v4_in_v6_denied, public_allowed,
     unassigned_v6_denied, allowed_peers_lift_defaults, allowed_before_denied,
     denied_peers_deny_public, never_beats_allow, own_kind_allowed, own_kind_is_not_metadata,
     loopback6_by_name, ranges_compare_as_integers, prefix_host_bits_ignored, encoding, kinds,
     tunnels, all_of_ipv6_is_not_ipv4, own_address_opened_by_its_name,
     never_is_not_opened_by_its_name, every_reason_has_a_hint].

%% "Deny by default": first, middle and last address of every network (X01 X02 X03 X07 X08).
denied_by_default(_) ->
    Rules = rules(#{}),
    [?assertMatch({deny, _}, verdict(Ip, Rules), {Network, Ip})
     || Network <- ["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
                    "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
                    "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
                    "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
                    "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64",
                    "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
                    "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"],
        Ip <- ends_and_middle(Network)].

%% X06.
metadata_services_denied(_) ->
    Rules = rules(#{}),
    [?assertMatch({deny, _}, verdict(ip(Ip), Rules), Ip)
     || Ip <- ["169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200",
               "fd00:ec2::254", "fd20:ce::254"]].

%% X04: an IPv4 address inside an IPv6 one, each way a prefix can tell.
v4_in_v6_denied(_) ->
    Rules = rules(#{allowed_peers => [{{0, 0, 0, 0, 0, 0, 0, 0}, 0}]}),
    [?assertMatch({deny, _}, verdict(ip(Prefix ++ V4), Rules), {Prefix, V4})
     || Prefix <- ["::", "::ffff:0:", "64:ff9b::", "64:ff9b:1::"],
        V4 <- ["127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "8.8.8.8"]],
    [?assertMatch({deny, _}, verdict(ip(Ip), Rules), Ip)
     || Ip <- ["2002:7f00:1::1", "2002:a00:1::", "2001:0:7f00:1::", "2001::80ff:fffe"]].

%% ::/0 opens and closes IPv6 alone, as the relay reads it and as meerkat_policy does.
all_of_ipv6_is_not_ipv4(_) ->
    All = [{{0, 0, 0, 0, 0, 0, 0, 0}, 0}],
    Of = fun(Ip, Rules) ->
        {Verdict, _} = verdict(ip(Ip), Rules),
        Verdict
    end,
    Opened = rules(#{allowed_peers => All}),
    ?assertEqual([deny, deny, allow, allow, allow],
                 [Of(Ip, Opened) || Ip <- ["10.0.0.1", "127.0.0.1", "8.8.8.8", "fc00::1",
                                           "2a00::1"]]),
    Closed = rules(#{denied_peers => All}),
    ?assertEqual([allow, deny], [Of(Ip, Closed) || Ip <- ["8.8.8.8", "2a00::1"]]).

public_allowed(_) ->
    Rules = rules(#{}),
    [?assertMatch({allow, _}, verdict(ip(Ip), Rules), Ip)
     || Ip <- ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
               "126.255.255.255", "128.0.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0",
               "192.167.255.255", "198.17.255.255", "198.20.0.0", "223.255.255.255",
               "168.63.129.15", "168.63.129.17", "2000::", "2001:200::1", "2001:4860:4860::8888",
               "2003::1", "2a00::1", "3ffe:ffff::1"]].

%% Addresses nobody has been given are not public.
unassigned_v6_denied(_) ->
    Rules = rules(#{}),
    [?assertMatch({deny, _}, verdict(ip(Ip), Rules), Ip)
     || Ip <- ["1::", "400::1", "4000::1", "8000::1", "e000::1", "1fff:ffff::"]].

allowed_peers_lift_defaults(_) ->
    Rules = rules(#{allowed_peers => [network("10.1.0.0/16"), network("fd12::/16")]}),
    ?assertMatch({allow, _}, verdict(ip("10.1.2.3"), Rules)),
    ?assertMatch({deny, _}, verdict(ip("10.2.0.0"), Rules)),
    ?assertMatch({allow, _}, verdict(ip("fd12::1"), Rules)),
    ?assertMatch({deny, _}, verdict(ip("fd13::1"), Rules)).

allowed_before_denied(_) ->
    Rules = rules(#{allowed_peers => [network("8.8.8.0/24")],
                    denied_peers => [network("8.0.0.0/8")]}),
    ?assertMatch({allow, _}, verdict(ip("8.8.8.8"), Rules)),
    ?assertMatch({deny, {{8, 0, 0, 0}, 8}}, meerkat_policy:check(ip("8.8.9.1"), Rules)).

denied_peers_deny_public(_) ->
    Rules = rules(#{denied_peers => [network("0.0.0.0/0"), network("::/0")]}),
    ?assertMatch({deny, _}, verdict(ip("8.8.8.8"), Rules)),
    ?assertMatch({deny, _}, verdict(ip("2a00::1"), Rules)).

%% X18: 0/8, ::, multicast, Teredo and 6to4 stay closed whatever is allowed.
never_beats_allow(_) ->
    Rules = rules(#{allowed_peers => [network("0.0.0.0/0"), network("::/0")]}),
    [?assertMatch({never, _}, meerkat_policy:check(ip(Ip), Rules), Ip)
     || Ip <- ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.250", "240.0.0.1",
               "255.255.255.255", "192.88.99.1", "::", "::2", "::7f00:1", "ff02::1",
               "2001:0:1::", "2002:1::"]],
    ?assertMatch({allow, _}, verdict(ip("127.0.0.1"), Rules)),
    ?assertMatch({allow, _}, verdict(?LOOPBACK6, Rules)),
    ?assertMatch({allow, _}, verdict(ip("fd00:ec2::254"), Rules)).

own_kind_allowed(_) ->
    Loopback = rules(#{relays => [relay("127.0.0.1")]}),
    [?assertMatch({allow, _}, verdict(ip(Ip), Loopback), Ip)
     || Ip <- ["127.0.0.1", "127.255.255.254", "::1", "8.8.8.8"]],
    [?assertMatch({deny, _}, verdict(ip(Ip), Loopback), Ip)
     || Ip <- ["10.0.0.1", "169.254.1.1", "fd00::1", "::", "::2", "0.0.0.0"]],
    Private = rules(#{relays => [relay("10.0.0.1")]}),
    [?assertMatch({allow, _}, verdict(ip(Ip), Private), Ip)
     || Ip <- ["10.9.9.9", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd00::1"]],
    [?assertMatch({deny, _}, verdict(ip(Ip), Private), Ip)
     || Ip <- ["127.0.0.1", "::1", "169.254.1.1", "fe80::1"]],
    Both = rules(#{relays => [relay("8.8.8.8"), relay("::1")]}),
    ?assertMatch({allow, _}, verdict(ip("127.0.0.1"), Both)),
    ?assertMatch({deny, _}, verdict(ip("10.0.0.1"), Both)).

%% A relay on a private or link-local address is no way to the metadata service (X06).
own_kind_is_not_metadata(_) ->
    Rules = rules(#{relays => [relay("169.254.1.1"), relay("fd00::1")]}),
    [?assertMatch({deny, _}, verdict(ip(Ip), Rules), Ip)
     || Ip <- ["169.254.169.254", "100.100.100.200", "fd00:ec2::254"]],
    ?assertMatch({allow, _}, verdict(ip("169.254.1.2"), Rules)).

%% ::1 lies in ::/96, which nothing opens; it alone can be named.
loopback6_by_name(_) ->
    ?assertMatch({deny, _}, verdict(?LOOPBACK6, rules(#{}))),
    ?assertMatch({allow, _}, verdict(?LOOPBACK6, rules(#{allowed_peers => [{?LOOPBACK6, 128}]}))),
    ?assertMatch({deny, _},
                 verdict(?LOOPBACK6, rules(#{denied_peers => [{?LOOPBACK6, 128}],
                                             relays => [relay("::1")]}))).

%% X05: a comparison byte by byte lets 2a0f:1::1:fffe through.
ranges_compare_as_integers(_) ->
    Rules = rules(#{denied_peers => [network("2a0f:1::1:0/112"), network("2a0f:1::2:0/120")]}),
    ?assertMatch({deny, _}, verdict(ip("2a0f:1::1:fffe"), Rules)),
    ?assertMatch({deny, _}, verdict(ip("2a0f:1::2:ff"), Rules)),
    ?assertMatch({allow, _}, verdict(ip("2a0f:1::2:100"), Rules)).

prefix_host_bits_ignored(_) ->
    Rules = rules(#{denied_peers => [{{8, 8, 8, 8}, 8}]}),
    ?assertMatch({deny, _}, verdict(ip("8.1.1.1"), Rules)).

%% ctl.def: u8 verdict, u8 bits, 16 bytes of prefix, u16 first and u16 last port.
encoding(_) ->
    ?assertEqual(<<1, 104, 0:80, 16#ffff:16, 10, 0, 0, 0, 0:16, 65535:16>>,
                 meerkat_policy:encode([{allow, {{10, 1, 2, 3}, 8}}])),
    ?assertEqual(<<2, 16, 16#2002:16, 0:112, 0:16, 65535:16, 0, 0, 0:128, 0:16, 65535:16>>,
                 meerkat_policy:encode([{never, {ip("2002::"), 16}}, {deny, {ip("::"), 0}}])),
    ?assertEqual(<<3, 128, 0:80, 16#ffff:16, 203, 0, 113, 5, 10000:16, 20000:16>>,
                 meerkat_policy:encode([{open, {{203, 0, 113, 5}, {10000, 20000}}}])),
    Rules = meerkat_policy:rules(config(#{})),
    ?assertEqual(22 * length(Rules), byte_size(meerkat_policy:encode(Rules))).

own_address_opened_by_its_name(_) ->
    Named = {ip("203.0.113.5"), 32},
    Ports = {ip("203.0.113.6"), {10000, 20000}},
    Rules = rules(#{allowed_peers => [network("203.0.113.0/24"), Named, Ports]}),
    %% The wide network opens nothing, and does not stand before what does.
    ?assertEqual({open, Named}, meerkat_policy:check(ip("203.0.113.5"), Rules)),
    ?assertEqual({open, Ports}, meerkat_policy:check(ip("203.0.113.6"), Rules)),
    ?assertMatch({allow, {_, 24}}, meerkat_policy:check(ip("203.0.113.7"), Rules)),
    Loopback = rules(#{allowed_peers => [{?LOOPBACK6, {53, 53}}]}),
    ?assertMatch([{open, {?LOOPBACK6, {53, 53}}}, {deny, {?LOOPBACK6, 128}} | _], Loopback).

never_is_not_opened_by_its_name(_) ->
    Rules = rules(#{allowed_peers => [{ip(Ip), 32} || Ip <- ["224.0.0.1", "0.0.0.0"]]
                        ++ [{ip("ff02::1"), {1, 65535}}, {ip("2002::1"), 128}]}),
    [?assertMatch({never, _}, meerkat_policy:check(ip(Ip), Rules), Ip)
     || Ip <- ["224.0.0.1", "0.0.0.0", "ff02::1", "2002::1"]].

every_reason_has_a_hint(_) ->
    [?assertNotEqual(none, meerkat_ctl:hint(Reason), Reason)
     || Reason <- [<<"an address of this host">>, <<"a broadcast address of this host">>,
                   <<"no rule allows it">>]],
    ?assertMatch("nothing opens it" ++ _, meerkat_policy:hint(<<"224.0.0.0/4">>)),
    ?assertMatch("an entry of allowed_peers" ++ _, meerkat_policy:hint(<<"10.0.0.0/8">>)).

kinds(_) ->
    [?assertEqual(Kind, meerkat_policy:kind(ip(Ip)), Ip)
     || {Ip, Kind} <- [{"10.0.0.1", private}, {"100.64.0.1", private}, {"fd00::1", private},
                       {"127.0.0.1", loopback}, {"::1", loopback}, {"169.254.1.1", link_local},
                       {"fe80::1", link_local}, {"203.0.113.7", documentation},
                       {"3fff::1", documentation}, {"198.19.0.1", benchmark},
                       {"169.254.169.254", metadata}, {"8.8.8.8", public}, {"2a00::1", public}]].

%% X12: sources that may not allocate.
tunnels(_) ->
    [?assert(meerkat_policy:is_tunnel(ip(Ip)), Ip) || Ip <- ["2001:0:1::", "2002:1::"]],
    [?assertNot(meerkat_policy:is_tunnel(ip(Ip)), Ip) || Ip <- ["2001:1::", "2003::", "1.1.1.1"]].

%%% Helpers

config(Config) ->
    maps:merge(#{allowed_peers => [], denied_peers => [], relays => [relay("8.8.4.4")]}, Config).

rules(Config) ->
    meerkat_policy:rules(config(Config)).

relay(Ip) ->
    #{local => ip(Ip), advertised => ip(Ip), min_port => 49152, max_port => 65535}.

%% What the relay would say: by the bytes; asserted to be what check/2 says.
verdict(Ip, Rules) ->
    <<Number:128>> = bytes(Ip),
    Verdict = apply_rules(Number, meerkat_policy:encode(Rules)),
    {Said, Network} = meerkat_policy:check(Ip, Rules),
    ?assertEqual(Verdict, case Said of never -> deny; open -> allow; _ -> Said end, Ip),
    {Verdict, Network}.

%% As c_src/relay/policy.c reads them: but for that of no bits, a rule is for one family.
apply_rules(Number, <<Verdict, Bits, Prefix:128, _Ports:32, Rest/binary>>) ->
    Shift = 128 - Bits,
    case Number bsr Shift =:= Prefix bsr Shift
        andalso (Bits =:= 0 orelse (Number bsr 32 =:= 16#ffff) =:= (Bits >= 96 andalso
                                                                   Prefix bsr 32 =:= 16#ffff)) of
        true when Verdict =:= 1; Verdict =:= 3 -> allow;
        true -> deny;
        false -> apply_rules(Number, Rest)
    end;
apply_rules(_Number, <<>>) ->
    deny.

bytes(Ip) when tuple_size(Ip) =:= 4 ->
    <<0:80, 16#ffff:16, (list_to_binary(tuple_to_list(Ip)))/binary>>;
bytes(Ip) ->
    << <<Group:16>> || Group <- tuple_to_list(Ip) >>.

ip(Text) ->
    {ok, Ip} = inet:parse_address(Text),
    Ip.

network(Text) ->
    [Ip, Bits] = string:split(Text, "/"),
    {ip(Ip), list_to_integer(Bits)}.

ends_and_middle(Text) ->
    {Ip, Bits} = network(Text),
    Width = tuple_size(Ip) * case tuple_size(Ip) of 4 -> 8; 8 -> 16 end,
    Unit = Width div tuple_size(Ip),
    <<First:Width>> = << <<Group:Unit>> || Group <- tuple_to_list(Ip) >>,
    Last = First bor (1 bsl (Width - Bits) - 1),
    [list_to_tuple([G || <<G:Unit>> <= <<N:Width>>]) || N <- [First, (First + Last) div 2, Last]].
