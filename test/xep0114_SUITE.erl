%% XEP-0114: how a component connects and comes back, to ejabberd and prosody and to what behaves as
%% MongooseIM, and that nothing of this is ever in the way of who relays: servers that are killed,
%% secrets that are wrong, stanzas that are meant to hurt. Section numbers are of XEP-0114.
-module(xep0114_SUITE).

-include_lib("stdlib/include/assert.hrl").

-import(turn_kit, [doc/1, with_server/2, allocated/1, permit/2, peer/0, send_to/3, peer_next/1,
                   success/1]).
-import(xmpp_component_kit, [listen/0, options/1, options/2, accept/1, opened/1, proven/2, next/1,
                             ask/2, await/2, ended/1, hang_up/1, up/1, up/2, counted/3,
                             eventually/1]).
-import(xmpp_client_kit, [attribute/2, child/2]).

-export([all/0, suite/0]).
-export([connects_ejabberd/1, connects_prosody/1, connects_wrong_secret/1,
         connects_several_at_once/1, connects_as_mongooseim/1, connects_is_subdomain/1,
         connects_conflict/1, connects_once_by_a_name/1, connects_wrong_from/1,
         connects_after_a_kill_under_load/1, connects_silence/1, connects_never_answers/1,
         connects_backoff/1, connects_proof/1, connects_reload/1,
         connects_and_ends_by_reload/1, x_large/1, x_huge/1, x_deep/1,
         x_laughs/1, x_not_ours/1, x_flood/1, x_answers_are_not_answered/1,
         x_component_crashes/1, x_not_configured/1, x_secret_is_not_shown/1,
         x_crash_reports_show_no_stanza/1, x_crashes_print_no_password/1,
         x_reload_after_a_crash/1]).
-export([log/2]).

-define(SERVICES, "<services xmlns='urn:xmpp:extdisco:2'/>").
-define(ALICE, " from='alice@localhost/x' to='turn.localhost'").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [F || {F, 1} <- ?MODULE:module_info(exports),
          re:run(atom_to_list(F), "^(connects|x)_") =/= nomatch].

%% Stanzas hold credentials: none is in what a crash prints, wherever they are just then.
x_crash_reports_show_no_stanza(_Config) ->
    Stanza = {send, [{xmlel, <<"iq">>, [{<<"password">>, <<"pa55word">>}], []}]},
    Status = #{state => open, data => {some, Stanza}, queue => [{cast, Stanza}, {info, Stanza}],
               postponed => [{cast, Stanza}], log => [{in, Stanza}], timeouts => {1, [{t, Stanza}]},
               reason => {error, {badmatch, Stanza},
                          [{lists, foo, [Stanza], [{error_info, #{cause => Stanza}}]}]}},
    Shown = meerkat_xmpp_conn:format_status(Status),
    ?assertEqual(lists:sort(maps:keys(Status)), lists:sort(maps:keys(Shown))),
    ?assertEqual(nomatch, re:run(io_lib:format("~tp", [Shown]), "pa55word")),
    ?assertMatch(#{state := open, queue := [{cast, _}, {info, _}],
                   reason := {error, badmatch, [{lists, foo, 1, []}]}}, Shown).

%% Both reports of a crash, of a connection and of their keeper: no argument of a function_clause,
%% no state, no last message, no mail.
x_crashes_print_no_password(_Config) ->
    Password = "pa55word",
    %% No stanza has such an element, so that no clause of the library fits.
    Bad = {xmlel, <<"iq">>, [{<<"password">>, list_to_binary(Password)}], {Password}},
    Lines = log_kit:logged(fun() ->
        with_link(fun(#{name := Name} = Server, Listener) ->
            _ = told(accept(Listener)),
            ok = up(Server),
            Keeper = meerkat_roles:find(Name, xmpp),
            Conn = connection(Keeper),
            Monitor = monitor(process, Conn),
            true = erlang:suspend_process(Conn),
            ok = meerkat_xmpp_conn:send(Conn, [Bad]),
            Conn ! {tcp, none, Password},
            true = erlang:resume_process(Conn),
            receive {'DOWN', Monitor, process, Conn, _} -> ok end,
            _ = accept(Listener),
            ok = up(Server),
            KeeperMonitor = monitor(process, Keeper),
            ?assertExit(_, meerkat_xmpp:hostile(Keeper, too_large, {Bad})),
            receive {'DOWN', KeeperMonitor, process, Keeper, _} -> ok end
        end)
    end),
    Printed = lists:append(Lines),
    [?assertMatch({_, [_ | _]}, {Part, string:find(Printed, Part)})
     || Part <- ["State machine", "Generic server", "crasher:"]],
    [?assertEqual({Secret, nomatch}, {Secret, string:find(Printed, Secret)})
     || Secret <- [Password, lists:flatten(lists:join($,, [integer_to_list(C)
                                                           || C <- Password]))]].

%% A component of a server that is played here.
with_link(Fun) -> with_link(#{}, Fun).

with_link(More, Fun) ->
    Listener = listen(),
    with_server(options([Listener], More), fun(Server) -> Fun(Server, Listener) end).

asking(Child) -> ["<iq type='get' id='q'" ?ALICE ">", Child, "</iq>"].

type(Iq) -> element(2, attribute(<<"type">>, Iq)).

told(Link) ->
    {ok, {xmlel, _, _, Services}} = child(<<"services">>, ask(Link, asking(?SERVICES))),
    Services.

%% Lines of the log while Fun runs.
logged(Fun) ->
    Handler = list_to_atom(?MODULE_STRING ++ integer_to_list(erlang:unique_integer([positive]))),
    ok = logger:add_handler(Handler, ?MODULE, #{config => #{to => self()}}),
    try Fun() after logger:remove_handler(Handler) end.

log(#{level := Level, msg := {Format, Args}}, #{config := #{to := To}}) when is_list(Args) ->
    To ! {log, Level, lists:flatten(io_lib:format(Format, Args))};
log(_, _) ->
    ok.

%% The level of the first line that has this in it.
line(Pattern) ->
    receive
        {log, Level, Line} ->
            case re:run(Line, Pattern) of
                {match, _} -> Level;
                nomatch -> line(Pattern)
            end
    after 20000 ->
        error({no_line, Pattern})
    end.

%% Data of the client arrives at its peer.
relays(Client, Peer, Text) ->
    ok = send_to(Client, Peer, Text),
    ?assertMatch({_, Text}, peer_next(Peer)).

%%% Connections

connects_ejabberd(_Config) ->
    doc("ejabberd takes it in by the secret it knows (3)"),
    real(ejabberd).

connects_prosody(_Config) ->
    doc("prosody takes it in by the secret it knows (3)"),
    real(prosody).

real(Kind) ->
    Xmpp = xmpp_servers:start(Kind),
    try
        with_server(options([Xmpp]), fun(Server) -> ok = up(Server) end)
    after
        xmpp_servers:stop(Xmpp)
    end.

connects_wrong_secret(_Config) ->
    doc("refused: the log says which key may be wrong, and the server serves (3)"),
    [begin
         Xmpp = xmpp_servers:start(Kind),
         try
             logged(fun() ->
                 with_server(options([Xmpp], #{xmpp_secret => <<"wrong">>}), fun(Server) ->
                     ?assertEqual(warning, line("not-authorized.*xmpp_secret")),
                     _ = allocated(Server)
                 end)
             end)
         after
             xmpp_servers:stop(Xmpp)
         end
     end || Kind <- [ejabberd, prosody]].

connects_several_at_once(_Config) ->
    doc("a connection to each node of a cluster, answered by the one that asks"),
    [A, B] = Listeners = [listen(), listen()],
    with_server(options(Listeners), fun(Server) ->
        [LinkA, LinkB] = [accept(L) || L <- [A, B]],
        ok = up(Server, 2),
        ?assertMatch([_ | _], told(LinkB)),
        ?assertMatch([_ | _], told(LinkA)),
        ok = hang_up(LinkA),
        ?assertMatch([_ | _], told(LinkB)),
        _ = accept(A),
        ok = up(Server, 2)
    end).

connects_as_mongooseim(_Config) ->
    doc("attributes in any order, either quote, entities in the id, lower-case proof (3)"),
    with_link(fun(Server, Listener) ->
        #{open := Open} = Link = opened(Listener),
        ?assertMatch(#{<<"xmlns">> := <<"jabber:component:accept">>,
                       <<"to">> := <<"turn.localhost">>,
                       <<"xmlns:stream">> := <<"http://etherx.jabber.org/streams">>}, Open),
        ?assertNot(is_map_key(<<"is_subdomain">>, Open)),
        _ = proven(Link, <<"turnsecret">>),
        ok = up(Server),
        ok = xmpp_component_kit:send(Link, "<iq from=\"alice@localhost/x\" id='q' "
            "to='turn.localhost' type='get' xml:lang='en'>\n " ?SERVICES "\n</iq>"),
        Iq = await(Link, fun(E) -> attribute(<<"id">>, E) =:= {ok, <<"q">>} end),
        ?assertEqual({<<"result">>, {ok, <<"turn.localhost">>}, {ok, <<"alice@localhost/x">>}},
                     {type(Iq), attribute(<<"from">>, Iq), attribute(<<"to">>, Iq)})
    end).

connects_is_subdomain(_Config) ->
    doc("MongooseIM's is_subdomain: a name below each domain, each for its own users"),
    with_link(#{xmpp_component => <<"turn">>, xmpp_is_subdomain => true}, fun(_Server, Listener) ->
        #{open := Open} = Link = accept(Listener),
        ?assertMatch(#{<<"to">> := <<"turn">>, <<"is_subdomain">> := <<"true">>}, Open),
        Ask = fun(From, To) ->
            Iq = ask(Link, ["<iq type='get' id='q' from='", From, "' to='", To, "'>" ?SERVICES
                            "</iq>"]),
            {type(Iq), attribute(<<"from">>, Iq)}
        end,
        ?assertEqual({<<"result">>, {ok, <<"turn.a.example">>}},
                     Ask("alice@a.example/x", "turn.a.example")),
        ?assertEqual({<<"result">>, {ok, <<"turn.b.example">>}},
                     Ask("bob@b.example/x", "turn.b.example")),
        ?assertEqual({<<"error">>, {ok, <<"turn.b.example">>}},
                     Ask("alice@a.example/x", "turn.b.example"))
    end).

connects_conflict(_Config) ->
    doc("another has the name, or takes it (kick_old): an error for the operator, a long wait"),
    Error = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
            "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>Replaced by new connection</text>"
            "</stream:error></stream:stream>",
    logged(fun() ->
        with_link(fun(Server, Listener) ->
            Link = accept(Listener),
            ok = up(Server),
            ok = xmpp_component_kit:send(Link, Error),
            ?assertEqual(error, line("conflict \\(Replaced by new connection\\).*xmpp_component"
                                     ".*again in [0-9]{3}")),
            _ = allocated(Server)
        end)
    end).

connects_once_by_a_name(_Config) ->
    doc("prosody refuses the second of a name, and the first is not disturbed"),
    Xmpp = xmpp_servers:start(prosody),
    try
        logged(fun() ->
            with_server(options([Xmpp]), fun(First) ->
                ok = up(First),
                with_server(options([Xmpp]), fun(_Second) ->
                    ?assertEqual(error, line("conflict")),
                    ok = up(First)
                end)
            end)
        end)
    after
        xmpp_servers:stop(Xmpp)
    end.

connects_wrong_from(_Config) ->
    doc("MongooseIM's IQ error for a stanza it does not like leaves the stream as it is"),
    with_link(fun(Server, Listener) ->
        Link = accept(Listener),
        ok = xmpp_component_kit:send(Link, "<iq type='error' id='push-1' from='localhost' "
            "to='turn.localhost'><error type='modify'><bad-request "
            "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"),
        ?assertMatch([_ | _], told(Link)),
        ok = up(Server)
    end).

connects_after_a_kill_under_load(_Config) ->
    doc("the XMPP server is killed and comes back while ten allocations relay without a pause: "
        "nothing is lost, nothing ends, and the component is back by itself"),
    [begin
         Xmpp = xmpp_servers:start(Kind),
         with_server(options([Xmpp]), fun(#{name := Name} = Server) ->
             ok = up(Server),
             Streams = [streaming(Server) || _ <- lists:seq(1, 10)],
             ok = xmpp_servers:kill(Xmpp),
             ok = counted(Server, lost, 1),
             Again = xmpp_servers:again(Xmpp),
             ok = up(Server),
             ?assertEqual(10, length(meerkat:allocations(Name))),
             [?assert(relayed(Stream) > 1) || Stream <- Streams],
             ?assertMatch(#{relay_restarts := 0}, meerkat:info(Name)),
             ok = xmpp_servers:stop(Again)
         end)
     end || Kind <- [ejabberd, prosody]].

%% A process that relays, a datagram after the other, and fails with the first that is lost.
streaming(Server) ->
    Suite = self(),
    Stream = spawn_link(fun() ->
                            Client = allocated(Server),
                            Peer = peer(),
                            _ = success(permit(Client, [Peer])),
                            ok = relays(Client, Peer, <<"0">>),
                            Suite ! {self(), relays},
                            stream(Client, Peer, 1)
                        end),
    receive {Stream, relays} -> Stream end.

stream(Client, Peer, N) ->
    receive
        {From, enough} -> From ! {self(), N}
    after 1 ->
        ok = relays(Client, Peer, integer_to_binary(N)),
        stream(Client, Peer, N + 1)
    end.

relayed(Stream) ->
    Stream ! {self(), enough},
    receive {Stream, N} -> N end.

connects_silence(_Config) ->
    doc("a server that says nothing is asked; an error is an answer, silence is an end"),
    with_link(#{xmpp_ping_interval => 1}, fun(Server, Listener) ->
        Link = accept(Listener),
        Ping = fun() -> await(Link, fun(Iq) -> child(<<"ping">>, Iq) =/= error end) end,
        Iq = Ping(),
        ?assertEqual({ok, <<"localhost">>}, attribute(<<"to">>, Iq)),
        ?assertEqual({ok, <<"turn.localhost">>}, attribute(<<"from">>, Iq)),
        ok = xmpp_component_kit:send(Link, "<iq type='error' id='ping' from='localhost' "
                                           "to='turn.localhost'/>"),
        _ = Ping(),
        ok = ended(Link),
        ok = counted(Server, lost, 1),
        _ = accept(Listener),
        ok = up(Server)
    end).

connects_never_answers(_Config) ->
    doc("a server that does not open its stream is left and tried again; no one waits for it"),
    with_link(fun(Server, #{socket := Listening}) ->
        {ok, Mute} = gen_tcp:accept(Listening, 20000),
        _ = allocated(Server),
        {ok, _} = gen_tcp:recv(Mute, 0, 20000),
        Closed = fun Closed() ->
            case gen_tcp:recv(Mute, 0, 30000) of
                {ok, _} -> Closed();
                {error, Reason} -> Reason
            end
        end,
        ?assertEqual(closed, Closed()),
        {ok, _} = gen_tcp:accept(Listening, 20000)
    end).

connects_backoff(_Config) ->
    doc("each try waits up to twice as long as the one before, at most a minute, at least half"),
    [begin
         Most = meerkat_xmpp_conn:backoff(Failed, 1.0),
         ?assertEqual(min(60000, 500 bsl min(Failed, 16)), Most),
         ?assertEqual(Most div 2, meerkat_xmpp_conn:backoff(Failed, 0.0))
     end || Failed <- [0, 1, 2, 6, 7, 100, 1000000]].

connects_proof(_Config) ->
    doc("an id and a secret, digested elsewhere (3)"),
    ?assertEqual(<<"e503e00742c3e2d5d483892dd83644fc41ca6075">>,
                 meerkat_xmpp_conn:proof(<<"3697F9A2">>, <<"test">>)).

connects_reload(_Config) ->
    doc("other names of the component are for the next connection, which is made at once"),
    with_link(fun(#{name := Name}, Listener) ->
        Link = accept(Listener),
        {ok, _} = meerkat_reload:change(Name, fun(Config) ->
            {ok, Config#{xmpp_component => <<"relay.localhost">>}, done}
        end),
        ok = ended(Link),
        #{open := Open} = accept(Listener),
        ?assertMatch(#{<<"to">> := <<"relay.localhost">>}, Open)
    end).

connects_and_ends_by_reload(_Config) ->
    doc("xmpp_host set, left out and set again while allocations live"),
    #{port := Port} = Listener = listen(),
    with_server(options([Listener], #{xmpp_host => []}), fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        Reload = fun(Hosts) ->
            {ok, _} = meerkat_reload:change(Name, fun(Config) ->
                {ok, Config#{xmpp_host => Hosts}, done}
            end)
        end,
        ?assertEqual(none, meerkat_xmpp:info(Name)),
        [begin
             Reload([{{127, 0, 0, 1}, Port}]),
             Link = accept(Listener),
             ok = up(Server),
             ?assertMatch([_ | _], told(Link)),
             Reload([]),
             ok = ended(Link),
             ?assertEqual(none, meerkat_xmpp:info(Name))
         end || _ <- [once, again]],
        Peer = peer(),
        _ = success(permit(Client, [Peer])),
        relays(Client, Peer, <<"all along">>)
    end).

%%% Stanzas that are meant to hurt

x_large(_Config) ->
    doc("a stanza of 100 KiB is refused and counted; the stream goes on"),
    with_link(fun(Server, Listener) ->
        Link = accept(Listener),
        Iq = ask(Link, asking([?SERVICES, "<x>", lists:duplicate(100000, $x), "</x>"])),
        ?assertEqual(<<"error">>, type(Iq)),
        ok = counted(Server, too_large, 1),
        ?assertMatch([_ | _], told(Link))
    end).

x_huge(_Config) ->
    doc("one of 2 MiB, which no server lets through, costs that server its stream"),
    with_link(fun(Server, Listener) ->
        Link = accept(Listener),
        _ = xmpp_component_kit:send(Link, asking(["<x>", lists:duplicate(2097152, $x), "</x>"])),
        ok = counted(Server, too_large, 1),
        ?assertMatch([_ | _], told(accept(Listener))),
        _ = allocated(Server)
    end).

x_deep(_Config) ->
    doc("elements in elements, 5000 deep: counted, refused, forgotten"),
    with_link(fun(Server, Listener) ->
        Link = accept(Listener),
        Iq = ask(Link, asking([lists:duplicate(5000, "<a>"), lists:duplicate(5000, "</a>")])),
        ?assertEqual(<<"error">>, type(Iq)),
        ok = counted(Server, too_deep, 1),
        ?assertMatch([_ | _], told(Link))
    end).

x_laughs(_Config) ->
    doc("a document type, and with it entities that grow: no stream"),
    Laughs = ["<?xml version='1.0'?><!DOCTYPE l [<!ENTITY a 'ha'>",
              [["<!ENTITY ", N + 1, " '", lists:duplicate(10, ["&", N, ";"]), "'>"]
               || N <- lists:seq($a, $i)],
              "]><stream:stream xmlns='jabber:component:accept' "
              "xmlns:stream='http://etherx.jabber.org/streams' id='&j;'>"],
    with_link(fun(Server, #{socket := Listening} = Listener) ->
        {ok, Socket} = gen_tcp:accept(Listening, 20000),
        ok = gen_tcp:send(Socket, Laughs),
        ok = counted(Server, not_xml, 1),
        Link = accept(Listener),
        ok = xmpp_component_kit:send(Link, asking("<x>&j;</x>")),
        ok = counted(Server, not_xml, 2),
        ?assertMatch([_ | _], told(accept(Listener)))
    end).

x_not_ours(_Config) ->
    doc("without sender, to somebody else, from an address that is none, no type: counted"),
    with_link(fun(Server, Listener) ->
        Link = accept(Listener),
        Iqs = ["<iq type='get' id='1' to='turn.localhost'>" ?SERVICES "</iq>",
               "<iq type='get' id='2' from='a@localhost/x' to='other.localhost'>" ?SERVICES "</iq>",
               "<iq type='get' id='3' from='@/' to='turn.localhost'>" ?SERVICES "</iq>",
               ["<iq type='get' id='4' from='a@", lists:duplicate(2000, $b),
                "' to='turn.localhost'>" ?SERVICES "</iq>"],
               "<iq id='5'" ?ALICE ">" ?SERVICES "</iq>",
               "<iq type='get'" ?ALICE ">" ?SERVICES "</iq>",
               "<iq type='what' id='7'" ?ALICE ">" ?SERVICES "</iq>"],
        ok = xmpp_component_kit:send(Link, Iqs),
        ok = counted(Server, malformed, length(Iqs)),
        %% None of them had an answer.
        ok = xmpp_component_kit:send(Link, asking(?SERVICES)),
        {element, Iq} = next(Link),
        ?assertEqual({ok, <<"q">>}, attribute(<<"id">>, Iq))
    end).

x_flood(_Config) ->
    doc("more than 1000 stanzas a second, of ever other users: the rest are not looked at"),
    with_link(fun(Server, Listener) ->
        Link = accept(Listener),
        Stanzas = iolist_to_binary(
                    [["<presence from='u", integer_to_list(N), "@localhost/", integer_to_list(M),
                      "' to='turn.localhost'/>"] || N <- lists:seq(1, 10), M <- lists:seq(1, 100)]),
        %% As long as it takes: on a slow machine it is longer until a second has too many.
        ok = eventually(fun() ->
            ok = xmpp_component_kit:send(Link, Stanzas),
            #{counts := #{flood := Flood}} = meerkat_xmpp:info(maps:get(name, Server)),
            Flood > 0
        end),
        _ = allocated(Server),
        ok = eventually(fun() ->
            ok = xmpp_component_kit:send(Link, asking("<ping xmlns='urn:xmpp:ping'/>")),
            #{counts := #{answered := Answered}} = meerkat_xmpp:info(maps:get(name, Server)),
            Answered > 0
        end)
    end).

x_answers_are_not_answered(_Config) ->
    doc("results, errors and messages come to nothing: no loop with anybody"),
    with_link(fun(_Server, Listener) ->
        Link = accept(Listener),
        ok = xmpp_component_kit:send(Link,
            ["<iq type='result' id='1'" ?ALICE "/>", "<iq type='error' id='2'" ?ALICE "/>",
             "<message" ?ALICE "><body>hi</body></message>", "<presence" ?ALICE "/>",
             "<presence type='probe'" ?ALICE "/>", asking("<ping xmlns='urn:xmpp:ping'/>")]),
        {element, Iq} = next(Link),
        ?assertEqual({ok, <<"q">>}, attribute(<<"id">>, Iq))
    end).

%% The only one of that keeper.
connection(Keeper) ->
    {links, Links} = process_info(Keeper, links),
    [Conn] = [P || P <- Links, is_pid(P), {dictionary, Values} <- [process_info(P, dictionary)],
                   {'$initial_call', {meerkat_xmpp_conn, _, _}} <- Values],
    Conn.

x_component_crashes(_Config) ->
    doc("its processes are killed: they come back, and no allocation and no relay notices"),
    with_link(fun(#{name := Name} = Server, Listener) ->
        _ = accept(Listener),
        ok = up(Server),
        _ = allocated(Server),
        Keeper = meerkat_roles:find(Name, xmpp),
        Conn = connection(Keeper),
        true = exit(Conn, kill),
        _ = accept(Listener),
        ok = up(Server),
        true = exit(Keeper, kill),
        ?assertMatch([_ | _], told(accept(Listener))),
        ?assertMatch([_], meerkat:allocations(Name)),
        ?assertMatch(#{relay_restarts := 0}, meerkat:info(Name))
    end).

x_reload_after_a_crash(_Config) ->
    doc("a connection that crashed comes back, also where a reload changed what the component says "
        "before it did"),
    Listener = listen(),
    with_server(options([Listener], #{xmpp_ttl => 3600}), fun(#{name := Name} = Server) ->
        _ = accept(Listener),
        ok = up(Server),
        #{config := Config} = meerkat_registry:settings(Name),
        Keeper = meerkat_roles:find(Name, xmpp),
        Conn = connection(Keeper),
        true = exit(Conn, kill),
        eventually(fun() -> map_size(maps:get(connections, meerkat_xmpp:info(Name))) =:= 0 end),
        ok = meerkat:reload(Name, (Config())#{xmpp_ttl => 7200}),
        ?assertMatch([_ | _], told(accept(Listener))),
        ok = up(Server)
    end).

x_not_configured(_Config) ->
    doc("without xmpp_host there is no component; with it the other keys must be there"),
    with_server(#{}, fun(#{name := Name}) -> ?assertEqual(none, meerkat_xmpp:info(Name)) end),
    {error, Mistakes} = meerkat_config:load(#{env => [{"XMPP_HOST", "a, [::1]:5347"}]}),
    [?assert(lists:any(fun(M) -> re:run(M, Key ++ " is not") =/= nomatch end, Mistakes))
     || Key <- ["xmpp_component", "xmpp_secret"]],
    {error, [Bad]} = meerkat_config:load(#{env => [{"XMPP_HOST", "1.2.3:5"}]}),
    ?assertMatch({match, _}, re:run(Bad, "XMPP_HOST is \"1.2.3:5\"; it must be a name or an IP")),
    {ok, Config, _} = meerkat_config:load(#{env => [{"XMPP_HOST", "a,[::1]:5347"},
        {"XMPP_COMPONENT", "Turn.Example.Com"}, {"XMPP_SECRET", "s"},
        {"XMPP_DOMAINS", "example.com,example.org"}]}),
    ?assertMatch(#{xmpp_host := [{<<"a">>, default}, {{0, 0, 0, 0, 0, 0, 0, 1}, 5347}],
                   xmpp_component := <<"turn.example.com">>,
                   xmpp_domains := [<<"example.com">>, <<"example.org">>]}, Config).

x_secret_is_not_shown(Config) ->
    doc("it may lie in a file, and nobody is shown it"),
    File = filename:join(proplists:get_value(priv_dir, Config), "xmpp_secret"),
    ok = file:write_file(File, "hush-hush\n"),
    {ok, Loaded, _} = meerkat_config:load(#{env => [{"XMPP_SECRET_FILE", File}]}),
    ?assertMatch(#{xmpp_secret := <<"hush-hush">>}, Loaded),
    ?assertMatch([#{value := <<"(not shown)">>, text := <<"(not shown)">>}],
                 [Shown || #{key := xmpp_secret} = Shown <- meerkat_config:effective(Loaded)]),
    with_link(#{xmpp_secret => <<"hush-hush">>}, fun(#{name := Name}, Listener) ->
        _ = proven(opened(Listener), <<"hush-hush">>),
        Keeper = meerkat_roles:find(Name, xmpp),
        {links, Links} = process_info(Keeper, links),
        [?assertEqual(nomatch, string:find(io_lib:format("~p", [sys:get_state(P)]), "hush"))
         || P <- [Keeper | [L || L <- Links, is_pid(L)]]],
        %% What a crash prints of a connection, whatever was on its way then.
        [Data | _] = [D || L <- Links, is_pid(L), {S, D} <- [sys:get_state(L)], is_atom(S)],
        Event = {cast, {send, [<<"hush-hush">>]}},
        Printed = meerkat_xmpp_conn:format_status(#{state => up, data => Data, queue => [Event],
                                                    postponed => [Event], log => [{in, Event}],
                                                    reason => badarg}),
        ?assertEqual(nomatch, string:find(io_lib:format("~p", [Printed]), "hush")),
        ?assertMatch(#{state := up, queue := [{cast, _}], reason := badarg}, Printed)
    end).
