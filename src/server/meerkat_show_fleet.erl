%% What a fleet answered (meerkat_fleet_admin) as text for a person, as meerkat_show has it for one
%% server.
-module(meerkat_show_fleet).

-export([show/3]).

-spec show(Verb :: string(), Answer :: map(), Options :: #{atom() => term()}) ->
    unicode:chardata().
show("status", #{nodes := Nodes} = Answer, _Options) ->
    [meerkat_show:table([["NODE", "VERSION", "UP", "ALLOCATIONS", "CONDITION"]
                         | [line(Node) || Node <- Nodes]]),
     silent(Answer)];
show("allocations", #{allocations := []} = Answer, _Options) ->
    ["no allocations\n", silent(Answer)];
show("allocations", Answer, _Options) ->
    [meerkat_show:allocations(Answer), silent(Answer)];
show("disconnect", #{ended := N} = Answer, _Options) ->
    [meerkat_show:disconnected(N), silent(Answer)];
show("revoke", #{ended := N} = Answer, _Options) ->
    [meerkat_show:revoked(N), silent(Answer)];
show("drain", #{node := Node, allocations := N}, Options) ->
    [Node, ": ", meerkat_show:drain(N, maps:with([deadline, stay], Options))];
show("undrain", #{node := Node}, _Options) ->
    [Node, ": allocations are taken again\n"];
show("dns", #{records := Records}, _Options) ->
    [io_lib:format("~ts ~b IN ~ts ~ts~n", [Name, Ttl, Type, Data])
     || #{name := Name, ttl := Ttl, type := Type, data := Data} <- Records];
show("loglevel", #{levels := Levels} = Answer, _Options) ->
    [meerkat_show:table([["NODE", "LEVEL"]
                         | [[Node, atom_to_list(Level)]
                            || #{node := Node, level := Level} <- Levels]]),
     silent(Answer)].

line(#{node := Node, version := Version, uptime_s := Uptime, allocations := N,
       max_allocations := Max} = Status) ->
    [Node, Version, meerkat_show:span(Uptime * 1000), io_lib:format("~b of ~b", [N, Max]),
     meerkat_show:condition(Status)].

%% Last, where a person looks last.
silent(#{silent := []}) ->
    [];
silent(#{silent := Nodes}) ->
    ["no answer from ", lists:join(", ", Nodes), $\n].
