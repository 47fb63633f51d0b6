%% The addresses of a turnserver.conf: where it listens, where it relays from, what clients are
%% told, and what follows from one key for another. Pure.
-module(meerkat_import_addresses).

-export([settings/1]).

-import(meerkat_import_lines, [all/2, last/2, uncommented/1]).

-spec settings([meerkat_import_lines:entry()]) ->
    {[meerkat_import:setting()], [meerkat_import_lines:note()]}.
settings(Entries) ->
    {Listening, Notes1} = ips(<<"listening-ip">>, Entries),
    {Named, Notes2} = ips(<<"relay-ip">>, Entries),
    {External, Notes3} = external(Entries),
    {Extra, Notes4} = extra(Entries),
    Relaying = relaying_ips(Named, Listening),
    {Relays, Notes5} = relaying(Relaying, External),
    {listening(Listening, discovery(Entries)) ++ alternate_port(discovery(Entries), Entries)
         ++ Relays ++ Extra,
     Notes1 ++ Notes2 ++ Notes3 ++ Notes4 ++ Notes5}.

ips(Key, Entries) ->
    Read = [{Line, Text, ip(Text)} || {Line, Text} <- all(Key, Entries)],
    {unique([{Line, Ip} || {Line, _, {ok, Ip}} <- Read]),
     [{Line, [Key, " is \"", meerkat_text:escape(Text), "\"; only an IP address can be here"]}
      || {Line, Text, error} <- Read]
         ++ [{Line, behind(Key)} || {Line, Text, {ok, _}} <- Read, uncommented(Text) =/= Text]}.

ip(Text) ->
    case meerkat_config_value:parse_text(listen_address, uncommented(Text)) of
        {ok, Ip} when is_tuple(Ip) -> {ok, Ip};
        _ -> error
    end.

behind(Key) ->
    [Key, ": turnserver does not read an address with something behind it; here the address "
          "counts"].

unique([{Line, Ip} | Rest]) -> [{Line, Ip} | unique([R || {_, Other} = R <- Rest, Other =/= Ip])];
unique([]) -> [].

%% PUBLIC/PRIVATE as often as wanted; of PUBLIC alone the first counts.
external(Entries) ->
    Read = [{Line, Text, meerkat_config_value:parse_text(relay_ip, uncommented(Text))}
            || {Line, Text} <- all(<<"external-ip">>, Entries)],
    Good = [{Line, Ip} || {Line, _, {ok, Ip}} <- Read],
    {Alone, Pairs} = lists:partition(fun({_, Ip}) -> tuple_size(Ip) > 2 end, Good),
    {lists:sort(Pairs ++ lists:sublist(Alone, 1)),
     [{Line, ["external-ip is \"", meerkat_text:escape(Text), "\"; only PUBLIC or PUBLIC/PRIVATE "
              "addresses can be here"]} || {Line, Text, {error, _}} <- Read]
         ++ [{Line, "external-ip without a private address comes twice; turnserver takes the first"}
             || {Line, _} <- lists:nthtail(min(1, length(Alone)), Alone)]
         ++ [{Line, behind("external-ip")} || {Line, Text, {ok, _}} <- Read,
                                              uncommented(Text) =/= Text]}.

%%% Listening

discovery(Entries) ->
    case last(<<"rfc5780">>, Entries) of
        {ok, _, Value} -> meerkat_import_lines:switch(Value) =:= on;
        none -> false
    end.

%% Of two addresses of a family RFC 5780 takes the second for the alternate one.
listening([], _) ->
    [];
listening(Ips, false) ->
    [ips_setting(listen_ip, Ips)];
listening(Ips, true) ->
    Firsts = [hd(Of) || Of <- [of_family(4, Ips), of_family(8, Ips)], Of =/= []],
    Seconds = [Second || [_, Second | _] <- [of_family(4, Ips), of_family(8, Ips)]],
    [ips_setting(listen_ip, Firsts)] ++ [ips_setting(alternate_listen_ip, Seconds)
                                         || Seconds =/= []].

ips_setting(Key, Ips) ->
    {Key, meerkat_config_value:libconfig_list([meerkat_text:ip(Ip) || {_, Ip} <- Ips]),
     [L || {L, _} <- Ips]}.

of_family(Size, Ips) ->
    [{Line, Ip} || {Line, Ip} <- Ips, tuple_size(Ip) =:= Size].

%% Without a number, or with 0, it is the one above listening-port.
alternate_port(false, _) ->
    [];
alternate_port(true, Entries) ->
    case {port(<<"alt-listening-port">>, Entries), port(<<"listening-port">>, Entries)} of
        {[{Line, Port}], _} -> [{alternate_listen_port, integer_to_binary(Port), [Line]}];
        {[], [{Line, Port}]} -> [{alternate_listen_port, integer_to_binary(Port + 1), [Line]}];
        {[], []} -> []
    end.

port(Key, Entries) ->
    [{Line, Port} || {ok, Line, Value} <- [last(Key, Entries)],
                     {Port, _} <- [string:to_integer(Value)],
                     is_integer(Port), Port > 0, Port < 65535].

%% More to listen on, each an address with a port.
extra(Entries) ->
    Read = [{Line, meerkat_config_value:parse_text(server, uncommented(Text))}
            || {Line, Text} <- all(<<"aux-server">>, Entries)],
    Good = [{Line, Server} || {Line, {ok, Server}} <- Read],
    Groups = [["{ port = ", integer_to_list(Port), "; ip = \"", meerkat_text:ip(Ip), "\"; }"]
              || {_, {Ip, Port}} <- Good],
    {[{extra_listeners, ["( ", lists:join(", ", Groups), " )"], [Line || {Line, _} <- Good]}
      || Good =/= []],
     [{Line, "aux-server is not an IP address with a port"} || {Line, {error, _}} <- Read]}.

%%% Relaying

%% Where no address to relay from is said, it is those that are listened on.
relaying_ips([], Listening) -> [{Line, Ip} || {Line, Ip} <- Listening, not is_wildcard(Ip)];
relaying_ips(Named, _) -> Named.

is_wildcard(Ip) ->
    lists:all(fun(Part) -> Part =:= 0 end, tuple_to_list(Ip)).

relaying([], []) ->
    {[], []};
relaying(Relaying, External) ->
    Pairs = [Pair || {_, {_, _} = Pair} <- External],
    Alone = [Ip || {_, Ip} <- External, tuple_size(Ip) > 2],
    Told = [told(Ip, Pairs, Alone) || {_, Ip} <- Relaying],
    Rest = case Relaying of [] -> Pairs ++ Alone; _ -> [] end,
    Texts = [meerkat_config_value:render(relay_ip, R) || R <- Told ++ Rest],
    {[{relay_ip, meerkat_config_value:libconfig_list(Texts),
       lists:usort([Line || {Line, _} <- Relaying ++ External])}],
     shared(Told, External) ++ unused(Relaying, External)}.

%% What stands before the slash is told for what stands behind it; what stands alone for every
%% other address of its family but loopback.
told(Ip, Pairs, Alone) ->
    case [Told || {Told, Bound} <- Pairs, Bound =:= Ip]
        ++ [Told || Told <- Alone, tuple_size(Told) =:= tuple_size(Ip), Told =/= Ip,
                    not is_loopback(Ip)] of
        [Told | _] -> {Told, Ip};
        [] -> Ip
    end.

is_loopback({127, _, _, _}) -> true;
is_loopback(Ip) -> Ip =:= {0, 0, 0, 0, 0, 0, 0, 1}.

%% Two bound addresses behind one are a NAT that keeps them apart by their ports.
shared(Told, External) ->
    Twice = [Ip || {Ip, _} <- Told] -- lists:usort([Ip || {Ip, _} <- Told]),
    [{Line, "external-ip is told for several relay addresses: relay ports must be divided among "
            "them by `relays`, each with min_port and max_port"}
     || {Line, Ip} <- External, lists:member(Ip, Twice)].

unused(Relaying, External) ->
    [{Line, ["external-ip: ", meerkat_text:ip(Bound), " is no address that is relayed from, so ",
             meerkat_text:ip(Told), " is told to nobody"]}
     || Relaying =/= [], {Line, {Told, Bound}} <- External,
        not lists:keymember(Bound, 2, Relaying)].
