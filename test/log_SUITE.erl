%% What a server logs: a line for the end of each allocation, for people or for programs, with
%% nothing in it that a stranger could use against who reads it, and no secret.
-module(log_SUITE).

-include_lib("stdlib/include/assert.hrl").

-import(ctl_kit, [start/2, stop/2, run/2, line/2, turn/1]).
-import(turn_kit, [allocated/3, delete/1, peer/0, success/1]).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([a_line_for_an_allocation/1, an_object_for_an_allocation/1, every_line_is_an_object/1,
         x46_hostile_names/1, format_changes_by_reload/1, secrets_are_in_neither_form/1,
         the_start_of_an_allocation_is_told_who_asks/1, reports_of_others_are_lines_too/1,
         the_journal_is_told_how_severe_a_line_is/1]).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

init_per_testcase(_, Config) ->
    ctl_kit:prepare(Config).

end_per_testcase(_, Config) ->
    ctl_kit:clean(Config).

a_line_for_an_allocation(Config) ->
    {Server, Block} = start(Config, []),
    relay_and_end(Block, <<"bob">>),
    [Line] = ended(stop(Server, "TERM")),
    ?assertMatch({match, _}, re:run(Line, "^20[0-9-]+T[0-9:.]+[+-][0-9:]+ info: "
                                          "session=[0-9]+-[0-9]+ allocation deleted: user bob, "
                                          "client 127.0.0.1:[0-9]+, "
                                          "relayed 127.0.0.1:[0-9]+, peers 1, lived [0-9.]+ s, "
                                          "from client 1 packets 5 bytes, from peers 0 packets 0 "
                                          "bytes, dropped 1 \\(no_channel 1\\)$")).

%% systemd says which device and inode its end of stderr has. A time is the journal's own matter.
the_journal_is_told_how_severe_a_line_is(Config) ->
    Root = filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."]),
    Log = filename:join(proplists:get_value(priv_dir, Config), "journal"),
    Line = "export JOURNAL_STREAM=$(: >\"$0\" && stat -c %d:%i \"$0\"); "
        "exec \"$1\" foreground 2>\"$0\"",
    [begin
         Port = open_port({spawn_executable, "/bin/sh"},
                          [{args, ["-c", Line, Log, filename:join([Root, "rel/bin/meerkatctl"])]},
                           {env, [{"LISTEN_IP", "127.0.0.1"}, {"LISTEN_PORT", "0"},
                                  {"RELAY_IP", "127.0.0.1"}, {"REBAR_PROFILE", "test"},
                                  {"LOG_FORMAT", Format},
                                  {"MEERKAT_RUN_DIR", proplists:get_value(run_dir, Config)}]},
                           binary, exit_status]),
         _ = ctl_kit:until(Port, "stop it +Ctrl-C\n\n"),
         _ = stop(Port, "TERM"),
         {ok, Text} = file:read_file(Log),
         Lines = string:lexemes(Text, "\n"),
         ?assertEqual([], [L || L <- Lines, re:run(L, "^<[0-7]>") =:= nomatch]),
         [?assertMatch({match, _}, re:run(Text, Pattern, [multiline]), {Pattern, Text})
          || Pattern <- Patterns]
     end || {Format, Patterns} <- [{"human", ["^<4>warning: no secret", "^<5>notice: listening"]},
                                   {"json", ["^<4>\\{\"time\":.*\"level\":\"warning\"",
                                             "^<5>\\{\"time\":.*listening"]}]].

the_start_of_an_allocation_is_told_who_asks(Config) ->
    {Server, Block} = start(Config, [{"LOG_FORMAT", "json"}, {"LOG_LEVEL", "debug"}]),
    relay_and_end(Block, <<"bob">>),
    Objects = objects(stop(Server, "TERM")),
    [#{<<"session">> := Session} = Begin] =
        [Object || #{<<"event">> := <<"allocation_started">>} = Object <- Objects],
    ?assertMatch(#{<<"level">> := <<"debug">>, <<"user">> := <<"bob">>,
                   <<"client">> := <<"127.0.0.1:", _/binary>>,
                   <<"relayed">> := [<<"127.0.0.1:", _/binary>>],
                   <<"msg">> := <<"allocation started: user bob, client 127", _/binary>>}, Begin),
    ?assertMatch([_], [ok || #{<<"event">> := <<"allocation_ended">>, <<"session">> := Same}
                                 <- Objects, Same =:= Session]).

an_object_for_an_allocation(Config) ->
    {Server, Block} = start(Config, [{"LOG_FORMAT", "json"}]),
    relay_and_end(Block, <<"bob">>),
    [End] = [Object || #{<<"event">> := <<"allocation_ended">>} = Object
                           <- objects(stop(Server, "TERM"))],
    ?assertMatch(#{<<"level">> := <<"info">>, <<"user">> := <<"bob">>,
                   <<"reason">> := <<"deleted">>, <<"client">> := <<"127.0.0.1:", _/binary>>,
                   <<"relayed">> := [<<"127.0.0.1:", _/binary>>], <<"peers">> := 1,
                   <<"client_packets">> := 1, <<"client_bytes">> := 5, <<"peer_packets">> := 0,
                   <<"peer_bytes">> := 0, <<"dropped">> := 1, <<"no_channel">> := 1,
                   <<"duration_ms">> := _, <<"session">> := _,
                   <<"msg">> := <<"allocation deleted: user bob", _/binary>>}, End),
    #{<<"time">> := Time} = End,
    ?assert(is_integer(calendar:rfc3339_to_system_time(binary_to_list(Time)))).

%% From the first to the last; on stderr, while what is for people is on stdout.
every_line_is_an_object(Config) ->
    {Server, Block} = start(Config, [{"LOG_FORMAT", "json"}, {"LOG_LEVEL", "debug"}]),
    {1, _} = run(Config, ["check", line("TURN", Block), "--user", "a", "--password", "b"]),
    Before = [L || "{" ++ _ = L <- lines(Block)],
    After = lines(stop(Server, "TERM")),
    [?assertMatch({_, {ok, #{<<"time">> := _, <<"level">> := _, <<"msg">> := _}}},
                  {L, meerkat_json:decode(L)}) || L <- Before ++ After],
    ?assert(length(Before) >= 3),
    ?assert(length(After) >= 2).

%% One line, nothing that a terminal obeys, and in JSON the name itself.
x46_hostile_names(Config) ->
    Hostile = <<"x\nnotice: root\e[2J\r\t", 127, 16#c2, 16#9b, "\x{202e}\x{2028}"/utf8,
                (binary:copy(<<"y">>, 460))/binary>>,
    {Server, Block} = start(Config, []),
    relay_and_end(Block, Hostile),
    Text = stop(Server, "TERM"),
    ?assertEqual([], [C || C <- Text, C < 32 andalso C =/= $\n orelse C > 126]),
    [Line] = ended(Text),
    ?assertMatch({match, _}, re:run(Line, "user x\\\\x0anotice: root\\\\x1b\\[2J\\\\x0d\\\\x09")),
    ?assert(length(Line) < 600),

    {Json, JsonBlock} = start(Config, [{"LOG_FORMAT", "json"}]),
    relay_and_end(JsonBlock, Hostile),
    Objects = stop(Json, "TERM"),
    ?assertEqual([], [C || C <- Objects, C < 32 andalso C =/= $\n orelse C > 127]),
    ?assertMatch([_], [ok || #{<<"user">> := User} <- objects(Objects), User =:= Hostile]),
    %% What is no UTF-8 is spelled out.
    {Bytes, BytesBlock} = start(Config, [{"LOG_FORMAT", "json"}]),
    relay_and_end(BytesBlock, <<"b", 255, 0>>),
    ?assertMatch([_], [ok || #{<<"user">> := <<"b\\xff\\x00">>} <- objects(stop(Bytes, "TERM"))]).

format_changes_by_reload(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "log.cfg"),
    ok = file:write_file(File, "log_format = \"human\";\n"),
    {Server, Block} = start(Config, [{"CONFIG_FILE", File}]),
    ok = file:write_file(File, "log_format = \"json\";\n"),
    {0, _} = run(Config, ["reload"]),
    relay_and_end(Block, <<"bob">>),
    ?assertMatch([_], [ok || #{<<"event">> := <<"allocation_ended">>}
                                 <- objects(stop(Server, "TERM"))]).

%% Whatever JSON would make of its characters.
secrets_are_in_neither_form(_) ->
    Secrets = [<<"hunter2">>, <<"qu\"ote\\d\nsecret">>, <<"s\x{e9}cret"/utf8>>],
    [begin
         Event = #{level => error, msg => Msg, meta => #{time => 0, session => 5}},
         Line = unicode:characters_to_binary(
                    meerkat_log:format(Event, #{secrets => Secrets, format => Format})),
         ?assertEqual({Line, nomatch}, {Line, re:run(Line, "hunter2|ote|cret")}),
         Format =:= human orelse ?assertMatch({ok, #{}}, meerkat_json:decode(Line))
     end || Format <- [human, json],
            Secret <- Secrets,
            Msg <- [{"~ts", [Secret]}, {string, ["it is ", Secret, "."]},
                    {report, #{event => allocation_ended, reason => expired, user => Secret,
                               client => {{127, 0, 0, 1}, 1}, relayed => [], peers => 0,
                               duration_ms => 1}}],
            %% What ~tp makes of odd characters is not the secret any more.
            element(1, Msg) =/= report orelse Secret =:= <<"hunter2">>].

reports_of_others_are_lines_too(_) ->
    [begin
         Event = #{level => error, msg => {report, Report}, meta => #{time => 0}},
         Line = unicode:characters_to_binary(
                    meerkat_log:format(Event, #{secrets => [], format => json})),
         ?assertMatch({ok, #{<<"msg">> := _}}, meerkat_json:decode(Line)),
         ?assertMatch([_, <<>>], binary:split(Line, <<"\n">>, [global]))
     end || Report <- [#{label => {supervisor, child_terminated}, report => [{a, self()}]},
                       [{key, "a\nb"}, {pid, self()}],
                       #{event => unheard_of, what => {self(), make_ref()}}]].

%% An allocation that sends five bytes to a peer and six on a channel that is not bound.
relay_and_end(Block, User) ->
    Client = allocated(turn(Block), [], #{user => User}),
    Peer = peer(),
    _ = success(turn_kit:bind(Client, 16#4000, Peer)),
    ok = turn_kit:channel(Client, 16#4000, <<"12345">>),
    {_, <<"12345">>} = turn_kit:peer_next(Peer),
    ok = turn_kit:channel(Client, 16#4001, <<"nobody">>),
    ok = turn_kit:fence(Client),
    ok = delete(Client).

ended(Text) ->
    [Line || Line <- lines(Text), string:find(Line, "allocation deleted") =/= nomatch].

lines(Text) ->
    string:lexemes(Text, "\n").

objects(Text) ->
    [Object || Line <- lines(Text), {ok, Object} <- [meerkat_json:decode(Line)]].
