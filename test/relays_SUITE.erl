%% Several addresses to relay from, as clients and peers see them: which one a client gets, what it
%% is told, what becomes of it when the ports of one are used up.
-module(relays_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([two_addresses_with_ports_of_their_own/1, full_in_one_then_the_other/1,
         t22_508_when_all_are_full/1, the_address_the_client_came_to/1,
         both_families_at_a_time/1, even_ports_in_any/1, reserved_port_of_its_address/1,
         each_is_advertised_by_itself/1,
         peers_by_the_address_they_are_told/1, one_address_with_two_ranges/1,
         what_the_server_tells_of_them/1]).

-import(turn_kit, [doc/1, open/2, challenged/1, allocated/1, allocated/2, allocated/3, allocate/1,
                   bind/3, channel/3, get/2, success/1, expect/2, with_server/2]).

%% This suite's own: a single port can be had only where nobody else is.
-define(A, {127, 0, 77, 1}).
-define(B, {127, 0, 77, 2}).
-define(V6, {0, 0, 0, 0, 0, 0, 0, 1}).
%% What nobody has, for clients are only told it.
-define(TOLD_A, {203, 0, 113, 1}).
-define(TOLD_B, {203, 0, 113, 2}).

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

suite() -> [{timetrap, {seconds, 60}}].

relay(Ip, Told, Min, Max) ->
    #{local => Ip, advertised => Told, min_port => Min, max_port => Max}.

relay(Ip, Min, Max) -> relay(Ip, Ip, Min, Max).

fresh(Server) -> challenged(open(Server, #{})).

relayed(Server) ->
    #{relayed := Relayed} = allocated(Server),
    Relayed.

two_addresses_with_ports_of_their_own(_Config) ->
    doc("each address hands out ports of its own range and no others; both are used"),
    with_server(#{listeners => [#{transport => udp, ip => {127, 0, 77, 3}, port => 0}],
                  relays => [relay(?A, 50000, 50009), relay(?B, 51000, 51009)]}, fun(Server) ->
        Relayed = [relayed(Server) || _ <- lists:seq(1, 20)],
        ?assertEqual([{?A, Port} || Port <- lists:seq(50000, 50009)]
                         ++ [{?B, Port} || Port <- lists:seq(51000, 51009)], lists:sort(Relayed))
    end).

%% The listener's own address comes first, see the_address_the_client_came_to/1.
full_in_one_then_the_other(_Config) ->
    doc("an address without a port left: the next one, and back when one is free again"),
    with_server(#{listeners => [#{transport => udp, ip => ?A, port => 0}],
                  relays => [relay(?A, 50000, 50001), relay(?B, 51000, 51001)]}, fun(Server) ->
        [First, _] = [allocated(Server) || _ <- [1, 2]],
        [{?B, _}, {?B, _}] = [relayed(Server) || _ <- [1, 2]],
        #{relayed := {?A, Port}} = First,
        turn_kit:delete(First),
        Again = turn_kit:allocate_soon(fresh(Server), []),
        ?assertEqual({?A, Port}, get(xor_relayed_address, success(Again)))
    end).

t22_508_when_all_are_full(_Config) ->
    doc("508 only when no address has a port (RFC 8656 7.2)"),
    with_server(#{relays => [relay(?A, 50000, 50000), relay(?B, 51000, 51000)]}, fun(Server) ->
        ?assertEqual([{?A, 50000}, {?B, 51000}], lists:sort([relayed(Server) || _ <- [1, 2]])),
        Late = fresh(Server),
        expect(508, allocate(Late))
    end).

the_address_the_client_came_to(_Config) ->
    doc("a client is relayed from the address it sends to, where that relays"),
    Listeners = [#{transport => udp, ip => Ip, port => 0} || Ip <- [?B, ?A, {127, 0, 77, 3}]],
    with_server(#{listeners => Listeners,
                  relays => [relay(?A, 50000, 50009), relay(?B, 51000, 51009)]},
                fun(#{listeners := [ToB, ToA, _]} = Server) ->
        [begin
             #{relayed := {Ip, _}} = allocated(Server, [], #{to => To}),
             ?assertEqual(Wanted, Ip)
         end || {To, Wanted} <- [{ToA, ?A}, {ToB, ?B}, {ToA, ?A}, {ToB, ?B}]]
    end).

both_families_at_a_time(_Config) ->
    doc("ADDITIONAL-ADDRESS-FAMILY: an address of each family, from whichever has one"),
    with_server(#{relays => [relay(?A, 50000, 50000), relay(?V6, 50000, 50001),
                             relay(?B, 51000, 51000)]}, fun(Server) ->
        Both = fun() ->
            #{answer := Answer} = allocated(Server, [{additional_address_family, 2}]),
            lists:sort([Ip || {Ip, _} <- turn_kit:get_all(xor_relayed_address, Answer)])
        end,
        ?assertEqual([[?A, ?V6], [?B, ?V6]], [Both(), Both()])
    end).

even_ports_in_any(_Config) ->
    doc("EVEN-PORT finds the address that still has an even port, or a pair"),
    with_server(#{relays => [relay(?A, 50001, 50001), relay(?B, 51001, 51003)]}, fun(Server) ->
        #{relayed := Pair} = allocated(Server, [{even_port, true}]),
        ?assertEqual({?B, 51002}, Pair),
        ?assertEqual([{?A, 50001}, {?B, 51001}], [relayed(Server) || _ <- [1, 2]])
    end).

reserved_port_of_its_address(_Config) ->
    doc("RESERVATION-TOKEN: the next port of the same address, however many there are"),
    with_server(#{listeners => [#{transport => udp, ip => {127, 0, 77, 3}, port => 0}],
                  relays => [relay(?A, ?TOLD_A, 50000, 50099), relay(?B, ?TOLD_B, 51000, 51099)]},
                fun(Server) ->
        [begin
             #{relayed := {Ip, Port}, answer := Answer} = allocated(Server, [{even_port, true}]),
             #{relayed := Second} =
                 allocated(Server, [{reservation_token, get(reservation_token, Answer)}]),
             ?assertEqual({Ip, Port + 1}, Second)
         end || _ <- lists:seq(1, 10)]
    end).

each_is_advertised_by_itself(_Config) ->
    doc("1:1 NAT: clients are told what belongs to the address that is bound"),
    with_server(#{listeners => [#{transport => udp, ip => {127, 0, 77, 3}, port => 0}],
                  relays => [relay(?A, ?TOLD_A, 50000, 50004), relay(?B, ?TOLD_B, 51000, 51004)]},
                fun(Server) ->
        Relayed = [relayed(Server) || _ <- lists:seq(1, 10)],
        ?assertEqual([?TOLD_A, ?TOLD_B], lists:usort([Ip || {Ip, _} <- Relayed])),
        [?assertEqual(Port < 51000, Ip =:= ?TOLD_A) || {Ip, Port} <- Relayed]
    end).

peers_by_the_address_they_are_told(_Config) ->
    doc("two clients relayed from two addresses behind NAT meet by what they were told"),
    with_server(#{relays => [relay(?A, ?TOLD_A, 50000, 50000), relay(?B, ?TOLD_B, 51000, 51000)],
                  allowed_peers => [{{127, 0, 0, 0}, 8}, {{203, 0, 113, 0}, 24}]}, fun(Server) ->
        [#{relayed := OfOne} = One, #{relayed := OfTwo} = Two] =
            [allocated(Server) || _ <- [1, 2]],
        ?assertEqual([{?TOLD_A, 50000}, {?TOLD_B, 51000}], lists:sort([OfOne, OfTwo])),
        success(bind(One, 16#4000, OfTwo)),
        success(bind(Two, 16#4001, OfOne)),
        channel(One, 16#4000, <<"over">>),
        ?assertEqual(<<16#4001:16, 4:16, "over">>, turn_kit:next(Two)),
        channel(Two, 16#4001, <<"back">>),
        ?assertEqual(<<16#4000:16, 4:16, "back">>, turn_kit:next(One))
    end).

one_address_with_two_ranges(_Config) ->
    doc("one address told under two names, each with ports of its own: allocations of both meet"),
    with_server(#{relays => [relay(?A, ?TOLD_A, 50000, 50000), relay(?A, ?TOLD_B, 51000, 51000)],
                  allowed_peers => [{{127, 0, 0, 0}, 8}, {{203, 0, 113, 0}, 24}]}, fun(Server) ->
        [#{relayed := OfOne} = One, #{relayed := OfTwo} = Two] =
            [allocated(Server) || _ <- [1, 2]],
        ?assertEqual([{?TOLD_A, 50000}, {?TOLD_B, 51000}], lists:sort([OfOne, OfTwo])),
        success(bind(One, 16#4000, OfTwo)),
        success(bind(Two, 16#4001, OfOne)),
        channel(One, 16#4000, <<"over">>),
        ?assertEqual(<<16#4001:16, 4:16, "over">>, turn_kit:next(Two))
    end).

what_the_server_tells_of_them(_Config) ->
    doc("info has each of them, and every one is in the URIs of credentials for a wildcard"),
    Relays = [relay(?A, ?TOLD_A, 50000, 50009), relay(?B, ?TOLD_B, 51000, 51009)],
    with_server(#{listeners => [#{transport => udp, ip => any, port => 0}], relays => Relays},
                fun(#{name := Name, port := Port}) ->
        ?assertMatch(#{relays := Relays, relay := {ok, #{ports_free := 20}}}, meerkat:info(Name)),
        #{uris := Uris} = meerkat:credentials(Name, <<"a">>),
        [?assert(lists:member(iolist_to_binary(["turn:", inet:ntoa(Ip), $:,
                                                integer_to_list(Port), "?transport=udp"]), Uris))
         || Ip <- [?TOLD_A, ?TOLD_B]]
    end).
