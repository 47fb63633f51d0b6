%% The ports of this machine that no client may send to, whatever is allowed: those where this node
%% itself listens. The relay knows its own listeners. Whether clients reach other programs of this
%% machine depends on `allowed_peers`.
-module(meerkat_guarded).

-export([ports/1]).

-define(EPMD_PORT, 4369).

%% HTTP, epmd, and every TCP port that this node listens on, distribution and what an embedder
%% serves included; of each no more than the relay keeps. A wildcard address means each of ours.
-spec ports(meerkat_settings:settings()) -> [{inet:ip_address(), inet:port_number()}].
ports(#{http := #{listen := Http}}) ->
    Named = [Http || Http =/= undefined] ++ [{{0, 0, 0, 0}, epmd_port()}],
    Found = [Address || Port <- erlang:ports(), {ok, Address} <- [listening(Port)]],
    lists:sublist(Named ++ lists:usort(Found) -- Named, meerkat_ctl:limit(guarded_max)).

epmd_port() ->
    case string:to_integer(os:getenv("ERL_EPMD_PORT", "")) of
        {Port, ""} when is_integer(Port), Port > 0, Port < 65536 -> Port;
        _ -> ?EPMD_PORT
    end.

listening(Port) ->
    case erlang:port_info(Port, name) of
        {name, "tcp_inet"} -> bound(Port, prim_inet:getstatus(Port));
        _ -> none
    end.

bound(Port, {ok, Status}) ->
    case lists:member(listen, Status) andalso inet:sockname(Port) of
        {ok, {Ip, Number}} when is_tuple(Ip) -> {ok, {Ip, Number}};
        _ -> none
    end;
bound(_Port, {error, _}) ->
    none.
