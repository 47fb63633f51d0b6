%% The example application examples/browser, in Chromium and on prosody, against a server of ours.
%% test/interop/browser/xmpp_call.mjs does what its users do, and judges it.
-module(browser_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([two_users_call_each_other/1, relay_is_a_component/1, not_our_secret/1,
         what_servers_tell/1]).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [two_users_call_each_other, relay_is_a_component, not_our_secret, what_servers_tell].

init_per_suite(Config) ->
    {0, _} = interop_SUITE:npm_ci(),
    {0, _} = interop_SUITE:npm_ci("examples/browser"),
    Config.

end_per_suite(_Config) -> ok.

two_users_call_each_other(Config) ->
    turn_kit:doc("relay to relay with credentials of XEP-0215, video decoded on both sides; "
                 "nothing is held when they have hung up"),
    with_server(fun(#{secret := Secret} = Server) -> ok = run(Config, "call", Server, Secret) end).

relay_is_a_component(Config) ->
    turn_kit:doc("the same where the XMPP server knows no secret, and the relay tells of itself as "
                 "its component (XEP-0114, XEP-0215)"),
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Component = #{xmpp_host => [{{127, 0, 0, 1}, Port}], xmpp_component => <<"turn.localhost">>,
                  xmpp_secret => <<"turnsecret">>},
    with_server(Component, fun(#{secret := Secret} = Server) ->
        ok = run(Config, "component", Server, Secret, [integer_to_list(Port)])
    end).

not_our_secret(Config) ->
    turn_kit:doc("with credentials that the relay does not take nothing rings on, and why is said"),
    with_server(fun(Server) -> ok = run(Config, "refused", Server, <<"not ours">>) end).

what_servers_tell(Config) ->
    turn_kit:doc("credentials with the services or on demand, of the domain or a component of it "
                 "(XEP-0215 3), as servers other than prosody answer"),
    with_server(fun(#{secret := Secret} = Server) ->
        ok = run(Config, "services", Server, Secret)
    end).

with_server(Fun) -> with_server(#{}, Fun).

with_server(More, Fun) -> turn_kit:with_server(More#{http_listen => {{127, 0, 0, 1}, 0}}, Fun).

run(Config, Act, Server, Secret) -> run(Config, Act, Server, Secret, []).

run(Config, Act, #{ip := Ip, port := Port} = Server, Secret, More) ->
    Dir = proplists:get_value(priv_dir, Config),
    {Status, Output} =
        interop_SUITE:browser("xmpp_call.mjs", [Act, inet:ntoa(Ip), integer_to_list(Port),
                                                binary_to_list(Secret), http_kit:url(Server), Dir
                                                | More]),
    [ct:log("<a href=\"file://~ts\">~ts</a>", [Picture, Picture])
     || Picture <- filelib:wildcard(filename:join(Dir, "*.png"))],
    ?assertEqual({0, match}, {Status, re:run(Output, "xmpp call: ok", [{capture, none}])}),
    ok.
