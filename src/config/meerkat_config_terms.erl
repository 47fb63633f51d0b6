%% A configuration in Erlang terms, for who embeds a server: the keys of the file, their values as a
%% programmer writes them. It becomes what the reader of files makes of a file, so that every check
%% and every sentence is the same.
-module(meerkat_config_terms).

-export([scalars/1]).
-export_type([terms/0, value/0]).

-type terms() :: #{atom() => value()} | [{atom(), value()}].
%% Text is a binary or a string; an address an address, or one with a port; a group a map or a list
%% of pairs; several of something are a list.
-type value() ::
    integer() | float() | boolean() | atom() | binary() | string()
    | inet:ip_address() | {inet:ip_address(), inet:port_number()}
    | terms() | [value()].

%% What stands for a file's name in sentences.
-define(PLACE, #{file => <<"options">>, line => 0}).

%% As meerkat_conf_nif:read/1. badarg for a term that is nothing of value().
-spec scalars(terms()) -> [meerkat_conf_nif:setting()].
scalars(Terms) ->
    {group, Members} = kind(Terms),
    members([], Members).

members(Path, Members) ->
    lists:append([value(Path ++ [atom_to_binary(Key)], Value) || {Key, Value} <- Members]).

value(Path, Value) ->
    case kind(Value) of
        {scalar, Scalar} -> [{Path, Scalar, ?PLACE}];
        {group, []} -> [{Path, empty_group, ?PLACE}];
        {group, Members} -> members(Path, Members);
        {list, []} -> [{Path, empty_list, ?PLACE}];
        {list, Elements} ->
            Numbered = lists:zip(lists:seq(0, length(Elements) - 1), Elements),
            lists:append([value(Path ++ [Index], Element) || {Index, Element} <- Numbered])
    end.

kind(Value) when is_number(Value); is_boolean(Value); is_binary(Value) ->
    {scalar, Value};
kind(Value) when is_atom(Value) ->
    {scalar, atom_to_binary(Value)};
kind(Value) when is_map(Value) ->
    {group, lists:sort(maps:to_list(Value))};
kind(Value) when is_tuple(Value) ->
    {scalar, iolist_to_binary(address(Value))};
kind([]) ->
    {list, []};
kind(Value) when is_list(Value) ->
    case {io_lib:printable_unicode_list(Value), lists:all(fun is_member/1, Value)} of
        {true, _} -> {scalar, unicode:characters_to_binary(Value)};
        {false, true} -> {group, Value};
        {false, false} -> {list, Value}
    end;
kind(_) ->
    error(badarg).

is_member({Key, _}) -> is_atom(Key);
is_member(_) -> false.

address({Ip, Port}) when is_tuple(Ip), is_integer(Port) ->
    inet:is_ip_address(Ip) orelse error(badarg),
    meerkat_text:address({Ip, Port});
address(Ip) ->
    inet:is_ip_address(Ip) orelse error(badarg),
    meerkat_text:ip(Ip).
