%% XEP-0215 as a component: what users of ejabberd and prosody are told, and that it works on the
%% relay; what they are told later; who is told nothing. XEP-0030, and XEP-0050 for administrators,
%% by the same way. Each case with both servers; section numbers are of XEP-0215 but where named.
-module(xep0215_SUITE).

-include_lib("stdlib/include/assert.hrl").

-import(turn_kit, [doc/1, with_server/2, open/2, challenged/1,
                   call/3, code/1]).
-import(xmpp_component_kit, [options/2, up/1, counted/3, eventually/1]).
-import(xmpp_client_kit, [login/2, ask/2, send/2, await/2, attribute/2, attributes/1, child/2]).

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2]).
-export([services_all/1, services_credentials_allocate/1, services_of_a_type/1, services_fresh/1,
         credentials_of_one/1, credentials_port/1, credentials_several/1, credentials_unknown/1,
         credentials_bad_requests/1,
         errors_set_not_allowed/1, errors_forbidden/1, errors_too_many/1, push_secret_rotates/1,
         push_a_listener_appears/1, push_drained/1, push_only_with_presence/1, push_only_its_type/1,
         xep0030_info/1, xep0030_items/1, xep0050_list/1, xep0050_status/1,
         xep0050_disconnect/1, xep0050_revoke/1, xep0050_drain/1, xep0050_forbidden/1,
         xep0050_form/1]).

-define(TURN, "turn.localhost").
-define(EXTDISCO, "urn:xmpp:extdisco:2").
-define(COMMANDS, "http://jabber.org/protocol/commands").

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, ejabberd}, {group, prosody}].

groups() ->
    Cases = [F || {F, 1} <- ?MODULE:module_info(exports),
                  re:run(atom_to_list(F), "^(services|credentials|push|errors|xep[0-9]+)_")
                      =/= nomatch],
    [{ejabberd, [], Cases}, {prosody, [], Cases}].

init_per_group(Kind, Config) -> [{xmpp, xmpp_servers:start(Kind)} | Config].

end_per_group(_Kind, Config) -> xmpp_servers:stop(proplists:get_value(xmpp, Config)).

%% A component of it, and a user.
with_alice(Config, Fun) -> with_alice(Config, #{}, Fun).

with_alice(Config, More, Fun) ->
    Xmpp = proplists:get_value(xmpp, Config),
    with_server(options([Xmpp], More), fun(Server) ->
        ok = up(Server),
        Alice = login(Xmpp, <<"alice">>),
        try Fun(Server, Alice) after xmpp_client_kit:close(Alice) end
    end).

iq(Type, Child) ->
    ["<iq type='", Type, "' id='", integer_to_list(erlang:unique_integer([positive])),
     "' to='" ?TURN "'>", Child, "</iq>"].

services(Alice) -> xmpp_client_kit:services(Alice, ?TURN).

credentials(Alice, Services) ->
    ask(Alice, iq("get", ["<credentials xmlns='" ?EXTDISCO "'>", Services, "</credentials>"])).

service(Attributes) ->
    ["<service", [[" ", Key, "='", Value, "'"] || {Key, Value} <- Attributes], "/>"].

of_type(Type, Services) -> [S || #{<<"type">> := T} = S <- Services, T =:= Type].

%% The condition of an IQ error.
condition(Iq) ->
    {ok, <<"error">>} = attribute(<<"type">>, Iq),
    {ok, {xmlel, _, _, Children} = Error} = child(<<"error">>, Iq),
    {ok, Type} = attribute(<<"type">>, Error),
    {binary_to_atom(Type), hd([Name || {xmlel, Name, _, _} <- Children])}.

result(Iq, Name) ->
    ?assertEqual({ok, <<"result">>}, attribute(<<"type">>, Iq)),
    {ok, Child} = child(Name, Iq),
    Child.

bare(#{jid := Jid}) -> hd(binary:split(Jid, <<"/">>)).

%% The relay's answer to who allocates with what a service was told with.
allocate(Server, #{<<"username">> := User, <<"password">> := Password}) ->
    Client = challenged(open(Server, #{user => User, password => Password})),
    call(Client, allocate, [{requested_transport, 17}]).

allocates(Server, Service) ->
    ?assertMatch(#{class := success}, allocate(Server, Service)),
    ok.

%%% What is there

services_all(Config) ->
    doc("each listener as stun and turn, turn with credentials that are bound to who asks (3.1)"),
    with_alice(Config, fun(#{listeners := Listeners}, Alice) ->
        Services = services(Alice),
        Expected = lists:sort([{Type, list_to_binary(inet:ntoa(Ip)), integer_to_binary(Port)}
                               || {Ip, Port} <- Listeners, Type <- [<<"stun">>, <<"turn">>]]),
        ?assertEqual(Expected, lists:sort([{Type, Host, Port}
            || #{<<"type">> := Type, <<"host">> := Host, <<"port">> := Port,
                 <<"transport">> := <<"udp">>} <- Services])),
        [?assertEqual([<<"host">>, <<"port">>, <<"transport">>, <<"type">>], maps:keys(Stun))
         || Stun <- of_type(<<"stun">>, Services)],
        Bare = bare(Alice),
        [begin
             #{<<"username">> := User, <<"expires">> := Expires,
               <<"restricted">> := <<"1">>} = Turn,
             [Digits, Bare] = binary:split(User, <<":">>),
             ?assertEqual(binary_to_integer(Digits),
                          calendar:rfc3339_to_system_time(binary_to_list(Expires))),
             ?assertEqual($Z, binary:last(Expires))
         end || Turn <- of_type(<<"turn">>, Services)]
    end).

services_credentials_allocate(Config) ->
    doc("what is told lets in on the relay (3.1)"),
    with_alice(Config, fun(#{name := Name} = Server, Alice) ->
        [Turn | _] = of_type(<<"turn">>, services(Alice)),
        ok = allocates(Server, Turn),
        ?assertMatch([_], meerkat:allocations(Name, #{user => bare(Alice)}))
    end).

services_of_a_type(Config) ->
    doc("a type is echoed and filters; one there is not has no services (3.1)"),
    with_alice(Config, fun(_Server, Alice) ->
        Ask = fun(Type) ->
            Services = result(ask(Alice, iq("get", ["<services xmlns='" ?EXTDISCO "' type='", Type,
                                                    "'/>"])), <<"services">>),
            ?assertEqual({ok, Type}, attribute(<<"type">>, Services)),
            {xmlel, _, _, Children} = Services,
            lists:usort([element(2, attribute(<<"type">>, S)) || S <- Children])
        end,
        ?assertEqual([<<"turn">>], Ask(<<"turn">>)),
        ?assertEqual([<<"stun">>], Ask(<<"stun">>)),
        ?assertEqual([], Ask(<<"ftp">>))
    end).

services_fresh(Config) ->
    doc("credentials live xmpp_ttl from when they are asked for (3.1)"),
    with_alice(Config, #{xmpp_ttl => 600}, fun(_Server, Alice) ->
        Before = erlang:system_time(second),
        [#{<<"expires">> := Expires} | _] = of_type(<<"turn">>, services(Alice)),
        At = calendar:rfc3339_to_system_time(binary_to_list(Expires)),
        ?assert(At >= Before + 600 andalso At =< erlang:system_time(second) + 600)
    end).

credentials_of_one(Config) ->
    doc("credentials of one service (3.2)"),
    with_alice(Config, fun(Server, Alice) ->
        [#{<<"host">> := Host} | _] = of_type(<<"turn">>, services(Alice)),
        Root = result(credentials(Alice, ["\n  ", service([{"host", Host}, {"type", "turn"}]),
                                          "\n"]), <<"credentials">>),
        ?assertEqual({ok, <<?EXTDISCO>>}, attribute(<<"xmlns">>, Root)),
        {xmlel, _, _, [Service]} = Root,
        ok = allocates(Server, attributes(Service))
    end).

credentials_port(Config) ->
    doc("a port is matched (3.2)"),
    with_alice(Config, fun(_Server, Alice) ->
        [#{<<"host">> := Host, <<"port">> := Port} | _] = of_type(<<"turn">>, services(Alice)),
        Ask = fun(P) -> credentials(Alice, service([{"host", Host}, {"type", "turn"},
                                                    {"port", P}])) end,
        {xmlel, _, _, [_]} = result(Ask(Port), <<"credentials">>),
        ?assertEqual({cancel, <<"item-not-found">>}, condition(Ask("1"))),
        ?assertEqual({modify, <<"bad-request">>}, condition(Ask("http")))
    end).

credentials_several(Config) ->
    doc("several services in one request, one pair of credentials (3.2)"),
    with_alice(Config, fun(_Server, Alice) ->
        Turns = of_type(<<"turn">>, services(Alice)),
        ?assertMatch([_, _], Turns),
        Wanted = [service([{"host", Host}, {"type", "turn"}]) || #{<<"host">> := Host} <- Turns],
        {xmlel, _, _, Found} = result(credentials(Alice, Wanted), <<"credentials">>),
        ?assertMatch([_], lists:usort([attribute(<<"password">>, S) || S <- Found])),
        ?assertEqual(2, length(Found))
    end).

credentials_unknown(Config) ->
    doc("a service that is not ours: item-not-found (3.2)"),
    with_alice(Config, fun(_Server, Alice) ->
        Ask = fun(Attributes) -> condition(credentials(Alice, service(Attributes))) end,
        NotFound = {cancel, <<"item-not-found">>},
        ?assertEqual(NotFound, Ask([{"host", "127.0.0.1"}, {"type", "ftp"}])),
        ?assertEqual(NotFound, Ask([{"host", "127.0.0.9"}, {"type", "turn"}]))
    end).

credentials_bad_requests(Config) ->
    doc("host and type must be there, and at least one service (3.2)"),
    with_alice(Config, fun(_Server, Alice) ->
        Bad = {modify, <<"bad-request">>},
        [?assertEqual(Bad, condition(credentials(Alice, Services)))
         || Services <- ["", service([{"host", "127.0.0.1"}]), service([{"type", "turn"}]),
                         "<other/>", [service([{"host", "h"}, {"type", "turn"}])
                                      || _ <- lists:seq(1, 17)]]],
        ?assertEqual(Bad, condition(ask(Alice, iq("get", "<what xmlns='" ?EXTDISCO "'/>"))))
    end).

errors_set_not_allowed(Config) ->
    doc("nobody sets services here; what we do not know is not available (5)"),
    with_alice(Config, fun(_Server, Alice) ->
        ?assertEqual({cancel, <<"not-allowed">>},
                     condition(ask(Alice, iq("set", "<services xmlns='" ?EXTDISCO "'/>")))),
        ?assertEqual({cancel, <<"service-unavailable">>},
                     condition(ask(Alice, iq("get", "<query xmlns='jabber:iq:roster'/>"))))
    end).

errors_forbidden(Config) ->
    doc("only users of allowed domains are told, and be it that there is something (5)"),
    with_alice(Config, #{xmpp_domains => [<<"example.com">>]}, fun(Server, Alice) ->
        [?assertEqual({auth, <<"forbidden">>}, condition(ask(Alice, iq("get", Child))))
         || Child <- ["<services xmlns='" ?EXTDISCO "'/>",
                      "<query xmlns='http://jabber.org/protocol/disco#info'/>"]],
        ok = counted(Server, forbidden, 2)
    end).

errors_too_many(Config) ->
    doc("who asks more often than xmpp_rate is told to wait; others are not affected (5)"),
    Xmpp = proplists:get_value(xmpp, Config),
    with_alice(Config, #{xmpp_rate => 1}, fun(Server, Alice) ->
        Answers = [ask(Alice, iq("get", "<services xmlns='" ?EXTDISCO "'/>"))
                   || _ <- lists:seq(1, 10)],
        [Wait | _] = [Iq || Iq <- Answers, attribute(<<"type">>, Iq) =:= {ok, <<"error">>}],
        ?assertEqual({wait, <<"resource-constraint">>}, condition(Wait)),
        ok = counted(Server, throttled, 1),
        Bob = login(Xmpp, <<"bob">>),
        ?assertMatch([_ | _], services(Bob)),
        ok = xmpp_client_kit:close(Bob)
    end).

%%% What changes

present(#{name := Name}, Alice) ->
    ok = send(Alice, "<presence to='" ?TURN "'/>"),
    eventually(fun() -> maps:get(watchers, meerkat_xmpp:info(Name)) =:= 1 end).

%% The services of the next push.
pushed(Alice) ->
    Iq = await(Alice, fun({xmlel, <<"iq">>, _, _} = Iq) ->
                              attribute(<<"type">>, Iq) =:= {ok, <<"set">>};
                         (_) -> false
                      end),
    {ok, Id} = attribute(<<"id">>, Iq),
    ok = send(Alice, ["<iq type='result' to='" ?TURN "' id='", Id, "'/>"]),
    {ok, {xmlel, _, _, Services}} = child(<<"services">>, Iq),
    [attributes(Service) || Service <- Services].

reloaded(#{name := Name}, Change) ->
    {ok, _} = meerkat_reload:change(Name, fun(Config) ->
        {ok, maps:merge(Config, Change(Config)), done}
    end).

push_secret_rotates(Config) ->
    doc("another secret: turn services are modified, with credentials that are good (3.4)"),
    with_alice(Config, fun(Server, Alice) ->
        [Old | _] = of_type(<<"turn">>, services(Alice)),
        ok = present(Server, Alice),
        _ = reloaded(Server, fun(_) -> #{secrets => [<<"another">>]} end),
        Pushed = pushed(Alice),
        ?assertEqual([{<<"turn">>, <<"modify">>}],
                     lists:usort([{T, A} || #{<<"type">> := T, <<"action">> := A} <- Pushed])),
        ok = allocates(Server, hd(Pushed)),
        ?assertEqual(401, code(allocate(Server, Old)))
    end).

push_a_listener_appears(Config) ->
    doc("a listener more: its services are added (3.4)"),
    with_alice(Config, fun(#{name := Name, listeners := Before} = Server, Alice) ->
        _ = services(Alice),
        ok = present(Server, Alice),
        _ = reloaded(Server, fun(#{listeners := Listeners}) ->
            #{listeners => Listeners ++ [#{transport => udp, ip => {127, 0, 0, 1},
                                           port => turn_kit:free_ports(2)}]}
        end),
        #{listeners := After} = meerkat:info(Name),
        [{_, Port}] = After -- Before,
        Told = integer_to_binary(Port),
        ?assertMatch([#{<<"type">> := <<"stun">>, <<"action">> := <<"add">>, <<"port">> := Told},
                      #{<<"type">> := <<"turn">>, <<"action">> := <<"add">>, <<"port">> := Told,
                        <<"username">> := _}], pushed(Alice))
    end).

push_drained(Config) ->
    doc("a server that takes no more: its services are deleted, and added again (3.4)"),
    with_alice(Config, fun(#{name := Name} = Server, Alice) ->
        All = length(services(Alice)),
        ok = present(Server, Alice),
        ok = meerkat:drain(Name),
        Deleted = pushed(Alice),
        ?assertEqual(All, length([S || #{<<"action">> := <<"delete">>} = S <- Deleted])),
        ?assertEqual([], [S || #{<<"password">> := _} = S <- Deleted]),
        ?assertEqual([], services(Alice)),
        ok = meerkat:undrain(Name),
        ?assertEqual(All, length([S || #{<<"action">> := <<"add">>} = S <- pushed(Alice)]))
    end).

push_only_with_presence(Config) ->
    doc("nobody is told who did not ask, or whose presence we do not have (3.4)"),
    Xmpp = proplists:get_value(xmpp, Config),
    with_alice(Config, fun(#{name := Name} = Server, Alice) ->
        Watchers = fun() -> maps:get(watchers, meerkat_xmpp:info(Name)) end,
        _ = services(Alice),
        Bob = login(Xmpp, <<"bob">>),
        ok = send(Bob, "<presence to='" ?TURN "'/>"),
        ok = present(Server, Alice),
        _ = services(Bob),
        ok = eventually(fun() -> Watchers() =:= 2 end),
        ok = send(Alice, "<presence type='unavailable' to='" ?TURN "'/>"),
        ok = eventually(fun() -> Watchers() =:= 1 end),
        ok = xmpp_client_kit:close(Bob),
        ok = eventually(fun() -> Watchers() =:= 0 end),
        #{counts := #{pushed := Before}} = meerkat_xmpp:info(Name),
        ok = meerkat:drain(Name),
        ?assertEqual([], services(Alice)),
        ?assertMatch(#{counts := #{pushed := Before}}, meerkat_xmpp:info(Name))
    end).

push_only_its_type(Config) ->
    doc("who asked for one type is told of that (3.4)"),
    with_alice(Config, fun(#{name := Name} = Server, Alice) ->
        _ = ask(Alice, iq("get", "<services xmlns='" ?EXTDISCO "' type='stun'/>")),
        ok = present(Server, Alice),
        ok = meerkat:drain(Name),
        ?assertEqual([<<"stun">>], lists:usort([T || #{<<"type">> := T} <- pushed(Alice)]))
    end).

%%% XEP-0030

query(What, Node) ->
    ["<query xmlns='http://jabber.org/protocol/disco#", What, "'",
     [[" node='", Node, "'"] || Node =/= none], "/>"].

features(Iq) ->
    {xmlel, _, _, Children} = result(Iq, <<"query">>),
    [element(2, attribute(<<"var">>, F)) || {xmlel, <<"feature">>, _, _} = F <- Children].

xep0030_info(Config) ->
    doc("what it is and can do; commands are a matter of administrators (XEP-0030 3)"),
    Xmpp = proplists:get_value(xmpp, Config),
    with_alice(Config, #{xmpp_admins => [<<"bob@localhost">>]}, fun(_Server, Alice) ->
        Iq = ask(Alice, iq("get", query("info", none))),
        {ok, Identity} = child(<<"identity">>, result(Iq, <<"query">>)),
        ?assertMatch(#{<<"category">> := <<"component">>, <<"type">> := <<"generic">>},
                     attributes(Identity)),
        ?assert(lists:member(<<?EXTDISCO>>, features(Iq))),
        ?assertNot(lists:member(<<?COMMANDS>>, features(Iq))),
        ?assertEqual({cancel, <<"item-not-found">>},
                     condition(ask(Alice, iq("get", query("info", "nowhere"))))),
        Bob = login(Xmpp, <<"bob">>),
        ?assert(lists:member(<<?COMMANDS>>, features(ask(Bob, iq("get", query("info", none)))))),
        ok = xmpp_client_kit:close(Bob)
    end).

xep0030_items(Config) ->
    doc("it has no items, and is one of its server (XEP-0030 4)"),
    with_alice(Config, fun(_Server, Alice) ->
        {xmlel, _, _, []} = result(ask(Alice, iq("get", query("items", none))), <<"query">>),
        {xmlel, _, _, Items} = result(ask(Alice, "<iq type='get' id='own' to='localhost'><query "
            "xmlns='http://jabber.org/protocol/disco#items'/></iq>"), <<"query">>),
        ?assert(lists:member({ok, <<?TURN>>}, [attribute(<<"jid">>, I) || {xmlel, _, _, _} = I
                                                                              <- Items]))
    end).

%%% XEP-0050

admin() -> #{xmpp_admins => [<<"Alice@localhost">>]}.

command(Node, Fields) ->
    iq("set", ["<command xmlns='" ?COMMANDS "' node='", Node, "' action='execute'>",
               [["<x xmlns='jabber:x:data' type='submit'>",
                 [["<field var='", Var, "'><value>", Value, "</value></field>"]
                  || {Var, Value} <- Fields], "</x>"] || Fields =/= []], "</command>"]).

%% What a command that is completed says, a line each.
said(Iq) ->
    Command = result(Iq, <<"command">>),
    ?assertEqual({ok, <<"completed">>}, attribute(<<"status">>, Command)),
    {ok, X} = child(<<"x">>, Command),
    {ok, {xmlel, _, _, Values}} = child(<<"field">>, X),
    [case Text of [{xmlcdata, Line}] -> Line; [] -> <<>> end
     || {xmlel, <<"value">>, _, Text} <- Values].

xep0050_list(Config) ->
    doc("an administrator sees the commands (XEP-0050 2)"),
    with_alice(Config, admin(), fun(_Server, Alice) ->
        {xmlel, _, _, Items} = result(ask(Alice, iq("get", query("items", ?COMMANDS))),
                                      <<"query">>),
        ?assertEqual([<<"status">>, <<"allocations">>, <<"disconnect">>, <<"drain">>,
                      <<"undrain">>], [element(2, attribute(<<"node">>, I)) || I <- Items]),
        ?assert(lists:member(<<"jabber:x:data">>,
                             features(ask(Alice, iq("get", query("info", "status"))))))
    end).

xep0050_status(Config) ->
    doc("status says what meerkatctl says (XEP-0050 3)"),
    with_alice(Config, admin(), fun(_Server, Alice) ->
        Lines = said(ask(Alice, command("status", []))),
        ?assertMatch({match, _}, re:run(lists:join("\n", Lines), "Meerkat|meerkat"))
    end).

xep0050_form(Config) ->
    doc("a command that needs to know a user asks by a form; it may be called off (XEP-0050 3.4)"),
    with_alice(Config, admin(), fun(_Server, Alice) ->
        Command = result(ask(Alice, command("allocations", [])), <<"command">>),
        ?assertEqual({ok, <<"executing">>}, attribute(<<"status">>, Command)),
        {ok, Session} = attribute(<<"sessionid">>, Command),
        {ok, X} = child(<<"x">>, Command),
        {ok, Field} = child(<<"field">>, X),
        ?assertEqual({ok, <<"user">>}, attribute(<<"var">>, Field)),
        Canceled = ask(Alice, iq("set", ["<command xmlns='" ?COMMANDS "' node='allocations' "
                                         "sessionid='", Session, "' action='cancel'/>"])),
        ?assertEqual({ok, <<"canceled">>},
                     attribute(<<"status">>, result(Canceled, <<"command">>))),
        ?assertEqual({modify, <<"bad-request">>},
                     condition(ask(Alice, command("allocations", [{"other", "x"}])))),
        ?assertEqual({cancel, <<"item-not-found">>},
                     condition(ask(Alice, command("reboot", []))))
    end).

xep0050_disconnect(Config) ->
    doc("a user's allocations, seen and ended; who has credentials may come again"),
    with_alice(Config, admin(), fun(#{name := Name} = Server, Alice) ->
        [Turn | _] = of_type(<<"turn">>, services(Alice)),
        ok = allocates(Server, Turn),
        Fields = [{"user", bare(Alice)}],
        Shown = said(ask(Alice, command("allocations", Fields))),
        ?assertMatch({match, _}, re:run(lists:join("\n", Shown), bare(Alice))),
        ?assertEqual([<<"1 allocation ended">>], said(ask(Alice, command("disconnect", Fields)))),
        ok = eventually(fun() -> meerkat:allocations(Name) =:= [] end),
        ok = allocates(Server, Turn)
    end).

xep0050_revoke(Config) ->
    doc("with revoke the credentials end too, and those that are asked for later do not"),
    with_alice(Config, admin(), fun(#{name := Name} = Server, Alice) ->
        [Turn | _] = of_type(<<"turn">>, services(Alice)),
        ok = allocates(Server, Turn),
        Fields = [{"user", bare(Alice)}, {"revoke", "1"}],
        ?assertEqual([<<"1 allocation ended">>], said(ask(Alice, command("disconnect", Fields)))),
        ok = eventually(fun() -> meerkat:allocations(Name) =:= [] end),
        ?assertEqual(401, code(allocate(Server, Turn))),
        %% They are told apart by the second they end in.
        #{<<"username">> := Old} = Turn,
        ok = eventually(fun() ->
            [#{<<"username">> := New} | _] = of_type(<<"turn">>, services(Alice)),
            New > <<Old/binary, "~">>
        end),
        ok = eventually(fun() ->
            [Later | _] = of_type(<<"turn">>, services(Alice)),
            maps:get(class, allocate(Server, Later)) =:= success
        end)
    end).

xep0050_drain(Config) ->
    doc("drain and undrain"),
    with_alice(Config, admin(), fun(#{name := Name}, Alice) ->
        ?assertMatch([<<"draining", _/binary>>], said(ask(Alice, command("drain", [])))),
        ?assertMatch(#{draining := true}, meerkat:info(Name)),
        ?assertMatch([_], said(ask(Alice, command("undrain", [])))),
        ?assertMatch(#{draining := false}, meerkat:info(Name))
    end).

xep0050_forbidden(Config) ->
    doc("nobody else gives commands, or learns of them (XEP-0050 7)"),
    with_alice(Config, #{xmpp_admins => [<<"bob@localhost">>]}, fun(#{name := Name}, Alice) ->
        ?assertEqual({auth, <<"forbidden">>}, condition(ask(Alice, command("drain", [])))),
        ?assertMatch(#{draining := false}, meerkat:info(Name)),
        ?assertEqual({cancel, <<"item-not-found">>},
                     condition(ask(Alice, iq("get", query("items", ?COMMANDS)))))
    end).
