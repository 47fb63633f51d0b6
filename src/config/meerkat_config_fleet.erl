%% What must hold of the keys of a fleet in a node of Meerkat's own. An embedder's nodes are
%% connected by the application, which needs none of it. Pure.
-module(meerkat_config_fleet).

-import(meerkat_config_origin, [named/2]).

-export([mistakes/1, warnings/1]).

%% What there must be with `fleet`, and how one gets it.
-define(NEEDED,
        [{fleet_secret, "what all its nodes have in common (`openssl rand -hex 32` makes one)"},
         {fleet_cert, "a certificate of the fleet's own authority, which this node shows"},
         {fleet_key, "the key of fleet_cert"},
         {fleet_ca, "the certificate of that authority"}]).

%% Sentences, each naming the keys, where they come from and what would help.
-spec mistakes(meerkat_config_origin:resolved()) -> [unicode:chardata()].
mistakes(#{fleet := {[], _}}) ->
    [];
mistakes(#{fleet := {Members, _}} = Resolved) ->
    Fleet = named(fleet, Resolved),
    [[Fleet, " is set, but ", atom_to_list(Key), " is not: ", What, "; docs/fleet.md has the whole"]
     || {Key, What} <- ?NEEDED, element(1, maps:get(Key, Resolved)) =:= undefined]
        ++ [[Fleet, " has ", meerkat_config_value:quote(Member), ", ", Why]
            || Member <- Members, Why <- not_ours(Member)].

not_ours(<<"connected">>) ->
    ["which is for servers embedded in the nodes of a cluster; nobody connects this node to others "
     "but itself: it needs a DNS name, or addresses"];
not_ours(Member) ->
    case binary:split(Member, <<"@">>) of
        [_] -> [];
        [<<"meerkat">>, Host] ->
            ["which is the node of a name; this one is called by an address, and so are the "
             "others: a name stands alone"
             || {error, _} <- [inet:parse_strict_address(binary_to_list(Host))]];
        _ -> ["but nodes of this kind are called meerkat@ADDRESS"]
    end.

%% Keys that do nothing by themselves.
-spec warnings(meerkat_config_origin:resolved()) -> [unicode:chardata()].
warnings(#{fleet := {[], _}} = Resolved) ->
    [[named(Key, Resolved), " is set, which does nothing without fleet"]
     || Key <- [fleet_ip, fleet_secret, fleet_cert, fleet_key, fleet_ca],
        element(1, maps:get(Key, Resolved)) =/= undefined];
warnings(#{}) ->
    [].
