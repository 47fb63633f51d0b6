%% Meerkat inside somebody else's node: in their supervision tree, several servers side by side,
%% with users, permissions and events of theirs; from Erlang, and as a Mix dependency from Elixir.
-module(embed_SUITE).
-behaviour(supervisor).
-behaviour(meerkat_authenticator).
-behaviour(meerkat_authorizer).
-behaviour(meerkat_events).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([application_opens_no_socket/1, stands_in_a_foreign_tree/1, several_servers_in_one_node/1,
         options_are_checked_like_a_file/1, options_take_what_programmers_write/1,
         comes_back_in_a_foreign_tree/1, users_of_ones_own/1, own_users_may_fail/1,
         own_users_may_be_unavailable/1,
         every_code_of_ones_own_is_answered/1,
         permissions_of_ones_own/1, own_permissions_may_fail/1, events_tell_what_happens/1,
         events_may_fail/1, documented_events_are_told/1, telemetry_hears_if_it_is_there/1,
         mix_dependency_relays_a_packet/1, mix_release_relays_a_packet/1,
         example_hands_out_ice_servers/1]).
-export([init/1, password/3, authorize/2, handle_event/4]).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports),
                     not lists:member(F, [module_info, init])]).

init_per_testcase(_, Config) ->
    %% Whatever a suite before this one left there.
    _ = application:stop(meerkat),
    {ok, _} = application:ensure_all_started(meerkat),
    Config.

end_per_testcase(_, _) ->
    application:stop(meerkat).

%%% The tree

application_opens_no_socket(_) ->
    ?assertEqual([], supervisor:which_children(meerkat_sup)),
    ?assertEqual([], [P || P <- erlang:ports(), {name, Name} <- [erlang:port_info(P, name)],
                           string:find(Name, "meerkat_relay") =/= nomatch]).

stands_in_a_foreign_tree(_) ->
    Tree = tree([options(a)]),
    relays(a, credentials(a)),
    stop(Tree),
    ?assertError(badarg, meerkat:info(a)).

several_servers_in_one_node(_) ->
    Tree = tree([options(a), options(b)]),
    [relays(Name, credentials(Name)) || Name <- [a, b]],
    ?assertNotEqual(uri(credentials(a)), uri(credentials(b))),
    %% What one lets in the other does not know.
    {error, {401, _}} = allocate(uri(credentials(b)), credentials(a)),
    stop(Tree).

comes_back_in_a_foreign_tree(_) ->
    Tree = tree([options(a)]),
    [{_, Server, _, _}] = supervisor:which_children(Tree),
    Watch = erlang:monitor(process, Server),
    ok = gen_server:stop(Server, shutdown, 10000),
    receive {'DOWN', Watch, process, _, _} -> ok end,
    ok = poll(fun() ->
        [{_, New, _, _}] = supervisor:which_children(Tree),
        true = is_pid(New) andalso New =/= Server,
        ok
    end),
    relays(a, credentials(a)),
    stop(Tree).

%%% Options

options_are_checked_like_a_file(_) ->
    {error, Unknown} = meerkat:configuration((options(a))#{listen_prot => 1}),
    ?assertEqual("options: there is no key \"listen_prot\"; did you mean listen_port?", Unknown),
    {error, Wrong} = meerkat:configuration((options(a))#{min_port => 70000}),
    ?assertMatch({match, _}, re:run(Wrong, "^options: min_port is 70000; it must be")),
    {error, {{shutdown, {failed_to_start_child, _, {shutdown, Sentence}}}, _}} =
        start_tree([(options(a))#{listen_prot => 1}]),
    ?assertEqual(Unknown, Sentence),
    ?assertError(badarg, meerkat:configuration(#{realm => self()})).

options_take_what_programmers_write(_) ->
    {ok, Config} = meerkat:configuration([{relay_ip, {127, 0, 0, 1}}, {listen_ip, "127.0.0.1"},
                                          {alternate_server, [{{192, 0, 2, 7}, 3478}]},
                                          {secret, [<<"one">>, "two"]}, {log_level, notice},
                                          {users, [#{name => "alice", password => <<"w">>},
                                                   [{name, "bob"}, {password, "b"}]]}]),
    ?assertMatch(#{alternate_server := [{{192, 0, 2, 7}, 3478}], secrets := [<<"one">>, <<"two">>],
                   log_level := notice,
                   users := #{<<"alice">> := {password, <<"w">>},
                              <<"bob">> := {password, <<"b">>}}}, Config).

%%% Modules of one's own

users_of_ones_own(_) ->
    Tree = tree([(options(a))#{authenticator => {?MODULE, #{<<"carol">> => <<"sesame">>}}}]),
    Uri = uri(credentials(a)),
    {ok, _} = allocate(Uri, #{username => <<"carol">>, password => <<"sesame">>}),
    {error, {401, _}} = allocate(Uri, #{username => <<"carol">>, password => <<"secret of a">>}),
    %% Whom it does not know the configuration may.
    {ok, _} = allocate(Uri, credentials(a)),
    stop(Tree).

own_users_may_fail(_) ->
    Tree = tree([(options(a))#{authenticator => {?MODULE, crash}}]),
    {ok, _} = allocate(uri(credentials(a)), credentials(a)),
    stop(Tree).

%% 401 is final for clients; where nobody can tell there is no answer, and they ask again.
own_users_may_be_unavailable(_) ->
    [begin
         Tree = tree([(options(a))#{authenticator => {?MODULE, How}}]),
         Uri = uri(credentials(a)),
         Soon = #{username => <<"carol">>, password => <<"sesame">>, rto => 20, rc => 2, rm => 2},
         unavailable_until_asked(2, Uri, Soon),
         %% Whom the configuration knows it lets in.
         {ok, _} = allocate(Uri, credentials(a)),
         stop(Tree)
     end || How <- [unavailable, crash]].

permissions_of_ones_own(_) ->
    Forbid = fun(#{method := create_permission, peers := [{{127, 0, 0, 9}, _}]}) -> {deny, 403};
                (#{method := allocate, user := <<"mallory">>}) -> {deny, 486};
                (#{method := _, user := _, client := {{127, 0, 0, 1}, _}}) -> allow
             end,
    Tree = tree([(options(a))#{authorizer => {?MODULE, Forbid}}]),
    Uri = uri(credentials(a)),
    {error, {486, _}} = allocate(Uri, #{username => <<"mallory">>, password => <<"secret of a">>}),
    {ok, Client} = allocate(Uri, credentials(a)),
    {error, {403, _}} = meerkat_client:permit(Client, {127, 0, 0, 9}),
    ok = meerkat_client:permit(Client, {127, 0, 0, 8}),
    ok = meerkat_client:release(Client),
    stop(Tree).

%% Whatever code it is: the client gets it, and it is counted.
every_code_of_ones_own_is_answered(_) ->
    Codes = [400, 403, 404, 429, 486, 499, 503, 599],
    Deny = fun(#{user := User}) -> {deny, binary_to_integer(User)} end,
    Tree = tree([(options(a))#{authorizer => {?MODULE, Deny}}]),
    Uri = uri(meerkat:credentials(a, <<"alice">>)),
    [?assertMatch({Code, {error, {Code, _}}},
                  {Code, allocate(Uri, #{username => integer_to_binary(Code),
                                         password => <<"secret of a">>})})
     || Code <- Codes],
    ?assertMatch(#{400 := 1, 403 := 1, 486 := 1, other := 5}, maps:get(answers, meerkat:info(a))),
    stop(Tree).

own_permissions_may_fail(_) ->
    Tree = tree([(options(a))#{authorizer => {?MODULE, fun(_) -> error(oops) end}}]),
    {error, {500, _}} = allocate(uri(credentials(a)), credentials(a)),
    stop(Tree).

events_tell_what_happens(_) ->
    Tree = tree([(options(a))#{events => {?MODULE, self()}}]),
    {Uri, #{username := User} = Good} = {uri(credentials(a)), credentials(a)},
    {error, {401, _}} = allocate(Uri, Good#{password => <<"wrong">>}),
    {_, #{client := {{127, 0, 0, 1}, _}, code := 401, server := a}} =
        told([meerkat, authentication, failure]),
    {ok, Client} = allocate(Uri, Good),
    #{relayed := Relayed} = meerkat_client:info(Client),
    {#{system_time := _}, #{session := Session, user := User, relayed := Told}} =
        told([meerkat, allocation, start]),
    ?assertEqual([Relayed], Told),
    {ok, Other} = allocate(Uri, Good),
    #{relayed := AtOther} = meerkat_client:info(Other),
    ok = meerkat_client:permit(Client, AtOther),
    ok = meerkat_client:permit(Other, Relayed),
    ok = meerkat_client:send(Other, Relayed, "hello"),
    receive {meerkat_client, Client, {data, AtOther, <<"hello">>, _}} -> ok end,
    ok = meerkat_client:release(Client),
    {Measured, #{session := Session, reason := deleted}} = told([meerkat, allocation, stop]),
    ?assertMatch(#{client_packets := 0, client_bytes := 0, peer_packets := 1, peer_bytes := 5,
                   dropped := 0, duration := Duration} when Duration >= 0, Measured),
    stop(Tree).

events_may_fail(_) ->
    Tree = tree([(options(a))#{events => {?MODULE, crash}}]),
    relays(a, credentials(a)),
    stop(Tree).

%% Names, measurements and metadata in docs/embedding.md are those that handlers get, and there are
%% no others.
documented_events_are_told(_) ->
    {ok, Page} = file:read_file(filename:join(root(), "docs/embedding.md")),
    {match, Rows} = re:run(Page, "^\\| `\\[(.*)\\]` \\| (.*) \\| (.*) \\|$",
                           [global, multiline, {capture, all_but_first, list}]),
    Table = lists:sort([{names(Event, ", "), lists:sort(names(Measured, "`, ")),
                         lists:sort(names(Meta, "`, "))} || [Event, Measured, Meta] <- Rows]),
    Tree = tree([(options(a))#{events => {?MODULE, self()}}]),
    {Uri, Good} = {uri(credentials(a)), credentials(a)},
    {error, {401, _}} = allocate(Uri, Good#{password => <<"wrong">>}),
    {ok, Client} = allocate(Uri, Good),
    ok = meerkat_client:release(Client),
    ?assertEqual(Table, [{Event, lists:sort(maps:keys(Measured)), lists:sort(maps:keys(Meta))}
                         || {Event, _, _} <- Table, {Measured, Meta} <- [told(Event)]]),
    stop(Tree),
    Said = os:cmd("grep -rhoE '\\[meerkat, [a-z]+, [a-z]+\\],' " ++ filename:join(root(), "src")),
    ?assertEqual([Event || {Event, _, _} <- Table],
                 lists:usort([names(string:trim(Line, both, "[],"), ", ")
                              || Line <- string:lexemes(Said, "\n")])).

names(Text, Separators) -> [list_to_atom(Word) || Word <- string:lexemes(Text, Separators)].

%% A module of that name and shape is all that is asked for.
telemetry_hears_if_it_is_there(_) ->
    Source = ["-module(telemetry).", "-export([execute/3]).",
              "execute(Event, M, Meta) -> the_test ! {event, Event, M, Meta}, ok."],
    Forms = [begin {ok, Tokens, _} = erl_scan:string(Line),
                   {ok, Form} = erl_parse:parse_form(Tokens), Form end || Line <- Source],
    {ok, telemetry, Beam} = compile:forms(Forms),
    {module, telemetry} = code:load_binary(telemetry, "telemetry.erl", Beam),
    true = register(the_test, self()),
    try
        Tree = tree([options(a)]),
        {ok, Client} = allocate(uri(credentials(a)), credentials(a)),
        {_, #{server := a}} = told([meerkat, allocation, start]),
        ok = meerkat_client:release(Client),
        {_, #{reason := deleted}} = told([meerkat, allocation, stop]),
        stop(Tree)
    after
        code:purge(telemetry),
        code:delete(telemetry)
    end.

%%% Elixir

mix_dependency_relays_a_packet(Config) ->
    Text = mix(Config, ["run", "-r", "relay_a_packet.exs", "-r", "documented.exs"]),
    ?assertMatch({match, _}, re:run(Text, "relayed: through the relay\n")),
    ?assertMatch({match, _}, re:run(Text, "documented: A server in a supervision tree")).

%% As it is deployed: with an Erlang of its own, away from the checkout, in a path with a space.
mix_release_relays_a_packet(Config) ->
    Release = filename:join(proplists:get_value(priv_dir, Config), "a release"),
    _ = mix(Config, ["release", "--path", Release]),
    Script = filename:join([root(), "test", "embed_mix", "relay_a_packet.exs"]),
    Code = "{:ok, _} = Application.ensure_all_started(:embed_mix); Code.eval_file(\"" ++ Script
        ++ "\")",
    Text = embed_kit:run(filename:join(Release, "bin/embed_mix"), ["eval", Code], Release, []),
    ?assertMatch({match, _}, re:run(Text, "relayed: through the relay\n")).

%% examples/elixir, with what was built for the others. By itself: MIX_REBAR3=... mix run --no-halt.
%% Asks until the server has heard of it as often: a client that gives up this soon may have been
%% heard once, or not at all.
unavailable_until_asked(Times, Uri, Client) ->
    {error, timeout} = allocate(Uri, Client),
    #{answers := #{unavailable := N, 401 := Refused}} = meerkat:info(a),
    ?assertEqual(0, Refused),
    N >= Times orelse unavailable_until_asked(Times, Uri, Client).

example_hands_out_ice_servers(Config) ->
    Script = filename:join([root(), "test", "data", "ask_for_ice_servers.exs"]),
    Text = embed_kit:mix(filename:join([root(), "examples", "elixir"]), root(),
                         proplists:get_value(priv_dir, Config), ["run", "-r", Script],
                         [{"PORT", "0"}, {"TURN_PORT", "0"}, {"RELAY_IP", "127.0.0.1"}]),
    ?assertMatch({match, _}, re:run(Text, "allocated for: alice\n")).

root() ->
    filename:absname(filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."])).

mix(Config, Args) ->
    embed_kit:mix(filename:join([root(), "test", "embed_mix"]), root(),
                  proplists:get_value(priv_dir, Config), Args).

%%% Callbacks

password(_User, _Realm, unavailable) ->
    unavailable;
password(User, _Realm, Users) when is_map(Users) ->
    case Users of
        #{User := Password} -> {ok, {password, Password}};
        #{} -> error
    end.

authorize(Request, Rule) ->
    Rule(Request).

handle_event(Event, Measurements, Metadata, Pid) when is_pid(Pid) ->
    Pid ! {event, Event, Measurements, Metadata}.

told(Event) ->
    receive {event, Event, Measurements, Metadata} -> {Measurements, Metadata} end.

%%% Servers and clients

options(Name) ->
    maps:merge(#{name => Name, listen_ip => "127.0.0.1", listen_port => 0,
                 relay_ip => {127, 0, 0, 1}, secret => "secret of " ++ atom_to_list(Name),
                 secret_as_password => true},
               maps:with([io_backend], turn_kit:relay_kind())).

tree(Servers) ->
    {ok, Tree} = start_tree(Servers),
    Tree.

start_tree(Servers) ->
    Starter = self(),
    %% Not linked to the case, which must see how a start fails.
    {Pid, Watch} = spawn_monitor(fun() ->
        _ = process_flag(trap_exit, true),
        Case = erlang:monitor(process, Starter),
        Starter ! {self(), supervisor:start_link(?MODULE, Servers)},
        receive
            stop -> ok;
            {'DOWN', Case, process, _, _} -> ok
        end
    end),
    receive
        {Pid, {ok, Tree}} -> _ = put(Tree, Pid), _ = erlang:demonitor(Watch), {ok, Tree};
        {Pid, {error, Reason}} -> Pid ! stop, {error, {Reason, tree}}
    end.

stop(Tree) ->
    Watch = erlang:monitor(process, Tree),
    get(Tree) ! stop,
    receive {'DOWN', Watch, process, Tree, _} -> ok end.

init(Servers) ->
    {ok, {#{strategy => one_for_one}, [meerkat:child_spec(Server) || Server <- Servers]}}.

credentials(Name) ->
    meerkat:credentials(Name, <<"alice">>).

uri(#{uris := Uris}) ->
    hd([Uri || <<"turn:", _/binary>> = Uri <- Uris]).

allocate(Uri, Credentials) ->
    {ok, Client} = meerkat_client:start_link((maps:with([username, password, rto, rc, rm],
                                                        Credentials))#{
                                                 server => Uri}),
    case meerkat_client:allocate(Client) of
        {ok, _} -> {ok, Client};
        {error, Reason} -> ok = meerkat_client:close(Client), {error, Reason}
    end.

%% From an allocation to another.
relays(_Name, Credentials) ->
    {ok, A} = allocate(uri(Credentials), Credentials),
    {ok, B} = allocate(uri(Credentials), Credentials),
    #{relayed := AtA} = meerkat_client:info(A),
    #{relayed := AtB} = meerkat_client:info(B),
    ok = meerkat_client:permit(A, AtB),
    ok = meerkat_client:permit(B, AtA),
    ok = meerkat_client:send(B, AtA, "ping"),
    receive {meerkat_client, A, {data, AtB, <<"ping">>, _}} -> ok end,
    [ok = meerkat_client:release(Client) || Client <- [A, B]].

poll(Check) ->
    poll(Check, 100).

poll(Check, Tries) ->
    try Check() catch _:_ when Tries > 1 -> receive after 50 -> poll(Check, Tries - 1) end end.
