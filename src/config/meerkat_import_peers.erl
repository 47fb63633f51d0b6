%% The peer rules of a turnserver.conf as networks of ours: each range as the fewest that hold it
%% and nothing else. Pure.
-module(meerkat_import_peers).

-export([networks/2, range/1]).

-define(IS_MAPPED(Ip), (element(1, Ip) =:= 0 andalso element(2, Ip) =:= 0
                        andalso element(3, Ip) =:= 0 andalso element(4, Ip) =:= 0
                        andalso element(5, Ip) =:= 0 andalso element(6, Ip) =:= 16#ffff)).

%% The networks of all lines of a key; and the lines that have none.
-spec networks(Key :: binary(), [meerkat_import_lines:entry()]) ->
    {[{pos_integer(), unicode:chardata()}], [meerkat_import_lines:note()]}.
networks(Key, Entries) ->
    Read = [{Line, Text, range(meerkat_import_lines:uncommented(Text))}
            || {Line, Text} <- meerkat_import_lines:all(Key, Entries)],
    {[{Line, meerkat_text:network(Network)} || {Line, _, {ok, Networks}} <- Read,
                                               Network <- Networks],
     [{Line, [Key, note(Result, Text)]} || {Line, Text, Result} <- Read, is_atom(Result)]
         ++ [{Line, [Key, "=", meerkat_text:ip(Ip), alone()]}
             || Key =:= <<"allowed-peer-ip">>, {Line, _, {ok, [{Ip, Bits}]}} <- Read,
                Bits =:= (case tuple_size(Ip) of 4 -> 32; 8 -> 128 end)]}.

%% By its own name an address of this machine is opened too (meerkat_policy).
alone() ->
    ": one address by its own name is open also where it is an address of this machine, but for "
    "ports that this server uses itself; ADDRESS:FIRST-LAST opens these ports alone".

note(mapped, _) ->
    ": no peer is reached by an IPv4-mapped IPv6 address (::ffff:0:0/96) here, whatever the rules "
    "say; IPv4 peers are not meant by this line";
note(error, Text) ->
    [" is \"", meerkat_text:escape(Text), "\"; an address, a network or FIRST-LAST can be here"].

%% What coturn takes for peers: an address, FIRST-LAST, or a network. `mapped`: there are none here.
-spec range(binary()) -> {ok, [meerkat_policy:prefix()]} | mapped | error.
range(Text) ->
    between(binary:split(Text, <<"-">>)).

between([First, Last]) ->
    case {ip(First), ip(Last)} of
        {{ok, A}, {ok, B}} when tuple_size(A) =:= 8, tuple_size(B) =:= 8,
                                ?IS_MAPPED(A), ?IS_MAPPED(B) ->
            mapped;
        {{ok, A}, {ok, B}} when tuple_size(A) =:= tuple_size(B) ->
            Width = case tuple_size(A) of 4 -> 32; 8 -> 128 end,
            covering(number(A), number(B), Width);
        _ ->
            error
    end;
between([Network]) ->
    case {ip(hd(binary:split(Network, <<"/">>))),
          meerkat_config_value:parse_text(network, Network)} of
        {{ok, Ip}, _} when tuple_size(Ip) =:= 8, ?IS_MAPPED(Ip) -> mapped;
        {_, {ok, Parsed}} -> {ok, [Parsed]};
        {_, {error, _}} -> error
    end.

%% As it is written: the types of our own keys take a mapped address for the one in it.
ip(Text) ->
    case unicode:characters_to_list(string:trim(Text)) of
        Chars when is_list(Chars) -> inet:parse_strict_address(Chars);
        _ -> error
    end.

covering(First, Last, Width) when First =< Last ->
    {ok, [Network || Network <- cover(First, Last, Width), not is_within_mapped(Network)]};
covering(_, _, _) ->
    error.

is_within_mapped({Ip, Bits}) ->
    Bits >= 96 andalso tuple_size(Ip) =:= 8 andalso ?IS_MAPPED(Ip).

%% The fewest networks: each time the largest that begins here and does not reach too far.
cover(First, Last, _) when First > Last ->
    [];
cover(First, Last, Width) ->
    Bits = largest(First, Last, 0, Width),
    [{address(First, Width), Width - Bits} | cover(First + (1 bsl Bits), Last, Width)].

largest(First, Last, Bits, Width) ->
    Next = Bits + 1,
    case Next =< Width andalso First band ((1 bsl Next) - 1) =:= 0
        andalso First + (1 bsl Next) - 1 =< Last of
        true -> largest(First, Last, Next, Width);
        false -> Bits
    end.

number(Ip) ->
    Part = case tuple_size(Ip) of 4 -> 8; 8 -> 16 end,
    lists:foldl(fun(N, Acc) -> (Acc bsl Part) bor N end, 0, tuple_to_list(Ip)).

address(Number, 32) -> list_to_tuple([B || <<B>> <= <<Number:32>>]);
address(Number, 128) -> list_to_tuple([P || <<P:16>> <= <<Number:128>>]).
