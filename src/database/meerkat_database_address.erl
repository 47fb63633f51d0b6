%% By which family of addresses a host can be reached, for libraries that try IPv4 alone.
-module(meerkat_database_address).

-export([family/1]).

%% An option for gen_tcp:connect: none where the host has an address of IPv4.
-spec family(Host :: string()) -> [inet6].
family(Host) ->
    [inet6 || {error, _} <- [inet:getaddr(Host, inet)], {ok, _} <- [inet:getaddr(Host, inet6)]].
