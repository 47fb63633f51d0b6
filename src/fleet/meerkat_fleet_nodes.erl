%% Which nodes the key `fleet` means: those it names, and of a DNS name the one at each address. A
%% node's name is made of the part before the `@`, which all have in common, and an address.
-module(meerkat_fleet_nodes).

-export([wanted/1, addresses/1, find/2]).

%% More than that many of a name are not looked at.
-define(NODES_MAX, 1000).

%% The others that are meant, without this node itself. Asks DNS, and waits for it. A name that DNS
%% does not know, or not now, stands for nobody.
-spec wanted([binary()]) -> [node()].
wanted(Members) ->
    Names = lists:append([names(Member) || Member <- Members]),
    [Node || Node <- lists:usort(lists:sublist(Names, ?NODES_MAX)), Node =/= node()].

names(<<"connected">>) ->
    [];
names(Name) ->
    case binary:match(Name, <<"@">>) of
        nomatch -> at_addresses(binary_to_list(Name));
        _ -> [binary_to_atom(Name)]
    end.

%% A node that is called by an address of one family speaks to no other one.
at_addresses(Host) ->
    [Own, OwnHost] = string:split(atom_to_list(node()), "@"),
    Families = case inet:parse_strict_address(OwnHost) of
        {ok, Ip} -> [family(Ip)];
        {error, _} -> [inet, inet6]
    end,
    [list_to_atom(Own ++ "@" ++ inet:ntoa(Ip)) || Ip <- resolved(Host, Families)].

family(Ip) when tuple_size(Ip) =:= 4 -> inet;
family(_Ip) -> inet6.

resolved(Host, Families) ->
    [Ip || Family <- Families, {ok, Ips} <- [inet:getaddrs(Host, Family)], Ip <- Ips].

%% Where the others are, and this node too, if it is among them. Asks DNS.
-spec addresses([binary()]) -> [inet:ip_address()].
addresses(Members) ->
    lists:append([resolved(binary_to_list(lists:last(binary:split(Member, <<"@">>))),
                           [inet, inet6])
                  || Member <- Members]).

%% Of these the one that a person means: by its whole name, or by the part before or behind the `@`
%% where no other has the same.
-spec find(Text :: binary(), [node()]) -> {ok, node()} | {error, none | [node(), ...]}.
find(Text, Nodes) ->
    Parts = [{Node, [Whole | binary:split(Whole, <<"@">>)]}
             || Node <- Nodes, Whole <- [atom_to_binary(Node)]],
    case [Node || {Node, [Whole | _]} <- Parts, Whole =:= Text]
        ++ [Node || {Node, Known} <- Parts, lists:member(Text, tl(Known))] of
        [Node] -> {ok, Node};
        [] -> {error, none};
        [Node | _] = Several ->
            case atom_to_binary(Node) of
                Text -> {ok, Node};
                _ -> {error, Several}
            end
    end.
