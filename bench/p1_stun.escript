#!/usr/bin/env escript
%%! -env ERL_CRASH_DUMP_BYTES 0 +sbwt none +sbwtdcpu none +sbwtdio none
%% The TURN server of the `stun` library that eturnal is built on (Debian: erlang-p1-stun), on
%% loopback, with one user: the Erlang side of the field that `make bench` measures.
%%
%%     p1_stun.escript PORT USER PASSWORD MIN_PORT MAX_PORT
%%
%% Busy waiting is off, which is the better figure for it. It serves until it is killed.
main([Port, User, Password, MinPort, MaxPort]) ->
    ok = logger:set_primary_config(level, error),
    {ok, _} = application:ensure_all_started(stun),
    Users = #{list_to_binary(User) => list_to_binary(Password)},
    Options = [use_turn, {auth_type, user}, {auth_realm, <<"bench">>},
               {auth_fun, fun(Name, _Realm) -> maps:get(Name, Users, <<>>) end},
               {turn_ipv4_address, {127, 0, 0, 1}}, {turn_ipv6_address, {0, 0, 0, 0, 0, 0, 0, 1}},
               {turn_min_port, list_to_integer(MinPort)},
               {turn_max_port, list_to_integer(MaxPort)},
               {turn_max_permissions, infinity}, {shaper, none}],
    [ok = stun_listener:add_listener(Ip, list_to_integer(Port), udp, Options)
     || Ip <- [{127, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 1}]],
    timer:sleep(infinity).
