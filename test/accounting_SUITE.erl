%% Accounting: who used how much, told to a file and to a web server that is another program
%% (test/interop/accounting.py), which is killed and stopped. Whatever happens to it, to the disk
%% or to processes of ours, no record is lost but those that are counted, and no allocation waits.
-module(accounting_SUITE).

-include_lib("stdlib/include/assert.hrl").

-import(turn_kit, [doc/1, eventually/1, with_server/2, kill_relay/1, close/1, allocated/1, delete/1,
                   permit/2, send_to/3, peer/0, peer_send/3, peer_next/1, data/1]).

-export([all/0, suite/0, init_per_testcase/2]).
-export([records_say_what_the_page_says/1, queries_of_the_page/1,
         a_web_server_that_is_stopped_and_killed/1, a_web_server_that_is_wrong/1,
         the_next_server_sends_what_is_left/1, a_full_spool_counts_what_is_lost/1,
         a_spool_that_is_away/1, a_file_that_is_moved_away/1, nobody_waits_for_accounting/1,
         processes_that_crash/1, a_relay_that_dies/1, reloads_begin_and_end_it/1,
         spools_after_crashes/1, settings_that_cannot_be/1]).

-define(TOKEN, "s3same-s3same").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [records_say_what_the_page_says, queries_of_the_page,
     a_web_server_that_is_stopped_and_killed, a_web_server_that_is_wrong,
     the_next_server_sends_what_is_left, a_full_spool_counts_what_is_lost,
     a_spool_that_is_away, a_file_that_is_moved_away, nobody_waits_for_accounting,
     processes_that_crash, a_relay_that_dies, reloads_begin_and_end_it,
     spools_after_crashes, settings_that_cannot_be].

init_per_testcase(Case, Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Case),
    ok = filelib:ensure_path(Dir),
    [{dir, Dir} | Config].

%% ------------------------------------------------------------------------------------- records

records_say_what_the_page_says(Config) ->
    doc("each field of each type of record is in the page's table, and says what is true"),
    Session = with_server(to_file(Config, #{accounting_interval => 1}), fun(Server) ->
        {#{socket := Socket, here := Here, to := To, relayed := Relayed} = Client, Peer} =
            talking(Server),
        ok = relayed_both_ways(Client, Peer, 100, 60),
        %% So much is in a record while it lives.
        ok = eventually(fun() ->
            [] =/= [R || #{<<"type">> := <<"interim">>, <<"client_bytes">> := 100,
                           <<"peer_bytes">> := 60} = R <- records(Config)]
        end),
        _ = delete(Client),
        [#{<<"type">> := <<"on">>}, Start | Interim] = All = stopped(Config, 1),
        Stop = lists:last(Interim),
        ?assertMatch(#{<<"user">> := <<"alice">>, <<"username">> := <<"alice">>,
                       <<"realm">> := <<"example.org">>, <<"transport">> := <<"udp">>,
                       <<"protocol">> := <<"udp">>, <<"client_packets">> := 0,
                       <<"dropped">> := 0, <<"type">> := <<"start">>}, Start),
        ?assertEqual({text(Here), text(To), [text(Relayed)]},
                     {maps:get(<<"client">>, Start), maps:get(<<"listener">>, Start),
                      maps:get(<<"relayed">>, Start)}),
        ?assertMatch(#{<<"client_packets">> := 1, <<"client_bytes">> := 100,
                       <<"peer_packets">> := 1, <<"peer_bytes">> := 60,
                       <<"reason">> := <<"deleted">>, <<"type">> := <<"stop">>}, Stop),
        Durations = [maps:get(<<"duration">>, R) || R <- tl(All)],
        ?assertEqual(lists:sort(Durations), Durations),
        ?assert(maps:get(<<"duration">>, Stop) > 0.5),
        ?assertEqual([maps:get(<<"start_time">>, Start)],
                     lists:usort([maps:get(<<"start_time">>, R) || R <- tl(All)])),
        [Id] = lists:usort([maps:get(<<"session_id">>, R) || R <- tl(All)]),
        ok = gen_udp:close(Socket),
        Id
    end),
    [_ | _] = All = records(Config),
    #{<<"type">> := <<"off">>, <<"instance">> := Instance} = lists:last(All),
    ?assertMatch({0, _}, binary:match(Session, Instance)),
    Fields = lists:usort(lists:append([maps:keys(R) || R <- All])),
    {match, Rows} = re:run(page(), "^\\| (`[^|]*`) \\|", [global, multiline,
                                                          {capture, all_but_first, binary}]),
    {match, Told} = re:run([R || [R] <- Rows], "`([a-z_]+)`", [global,
                                                                {capture, all_but_first, binary}]),
    %% Nothing was lost here.
    ?assertEqual(lists:usort(lists:append(Told)) -- [<<"count">>], Fields),
    ?assertEqual(length(All), length(lists:usort([maps:get(<<"record">>, R) || R <- All]))).

%% The queries of the page, by jq, over months, over records that come twice.
queries_of_the_page(Config) ->
    doc("traffic per user and month, and who is on, as docs/accounting.md asks jq"),
    Line = fun(Time, Session, User, Type, Bytes) ->
        [meerkat_json:encode(#{time => Time, session_id => Session, user => User, type => Type,
                               client => <<"c">>, duration => 1,
                               client_bytes => Bytes, peer_bytes => 2 * Bytes}), $\n]
    end,
    Twice = Line(<<"2026-10-31T23:59:00Z">>, <<"1">>, <<"alice">>, <<"interim">>, 1000),
    File = filename:join(dir(Config), "accounting.jsonl"),
    ok = file:write_file(File, [
        "{\"type\":\"on\"}\n",
        Line(<<"2026-10-31T23:00:00Z">>, <<"1">>, <<"alice">>, <<"start">>, 0), Twice, Twice,
        Line(<<"2026-10-31T23:00:00Z">>, <<"2">>, <<"bob">>, <<"start">>, 0),
        Line(<<"2026-11-01T00:10:00Z">>, <<"1">>, <<"alice">>, <<"stop">>, 1500),
        Line(<<"2026-11-02T00:10:00Z">>, <<"3">>, <<"alice">>, <<"stop">>, 7)]),
    [Months, Now] = [Text || #{language := "sh", text := Text}
                                 <- docs_kit:blocks("docs/accounting.md")],
    ?assertEqual(["2026-10\talice\t3000", "2026-10\tbob\t0", "2026-11\talice\t1521"],
                 lists:sort(lines(run(Config, Months)))),
    ?assertEqual(["bob\tc\t1\t0\t0"], lines(run(Config, Now))).

run(Config, Command) ->
    os:cmd(["cd ", dir(Config), " && ", Command]).

lines(Text) -> string:lexemes(Text, "\n").

%% ---------------------------------------------------------------------------------- web servers

a_web_server_that_is_stopped_and_killed(Config) ->
    doc("stopped, then killed, while allocations come and go: each record arrives, in order"),
    Consumer = consumer(Config, 0),
    with_server(to_web(Config, Consumer, #{}), fun(Server) ->
        ok = allocations(Server, 20),
        _ = stopped(Config, 20),
        ok = process_kit:hold(maps:get(pid, Consumer)),
        %% Each is answered: turn_kit waits for that.
        ok = allocations(Server, 20),
        ok = killed(Consumer),
        ok = allocations(Server, 20),
        ok = eventually(fun() ->
            #{trouble := Why, failures := Failures, waiting := Waiting} = sink(Server, http),
            is_binary(Why) andalso Failures > 0 andalso Waiting >= 80
        end),
        #{name := Name} = Server,
        {ok, Shown} = asked(Name, status),
        ?assertMatch({match, _}, re:run(meerkat_show:status(Shown),
                                        "accounting +http: .* waiting; [^\n]+")),
        ?assertMatch([#{verdict := warning, text := <<"http takes no records", _/binary>>}],
                     findings(Name)),
        Again = consumer(Config, maps:get(port, Consumer)),
        _ = stopped(Config, 60),
        ok = eventually(fun() -> maps:get(waiting, sink(Server, http)) =:= 0 end),
        ?assertMatch(#{trouble := none, lost := 0, delivered := 121}, sink(Server, http)),
        ?assertMatch([#{verdict := ok}], findings(Name)),
        ok = killed(Again)
    end),
    complete(records(Config), 60).

findings(Name) ->
    {ok, Case} = asked(Name, doctor),
    meerkat_doctor_accounting:findings(Case).

asked(Name, Verb) ->
    meerkat_admin:handle({Verb, []}, Name, signal).

a_web_server_that_is_wrong(Config) ->
    doc("https with an authority of its own; who cannot be trusted, or refuses, is told as such"),
    Authority = certificate_kit:authority(dir(Config)),
    #{certificate := Certificate, key := Key} =
        certificate_kit:issued(Authority, "IP:127.0.0.1"),
    Consumer = consumer(Config, 0, [Certificate, Key]),
    Ca = list_to_binary(maps:get(certificate, Authority)),
    Options = (to_web(Config, Consumer, #{}))#{accounting_url => url("https", Consumer)},
    with_server(Options, fun(#{name := Name} = Server) ->
        Trouble = fun(Pattern) ->
            eventually(fun() ->
                Why = maps:get(trouble, sink(Server, http)),
                is_binary(Why) andalso re:run(Why, Pattern) =/= nomatch
            end)
        end,
        ok = allocations(Server, 1),
        ok = Trouble("nobody we trust vouches"),
        Other = fun(More) ->
            Config1 = maps:merge(maps:merge(running(Name), Options), More),
            ok = meerkat:reload(Name, Config1)
        end,
        _ = Other(#{accounting_ca_file => Ca, accounting_token => <<"another-token">>}),
        ok = Trouble("status 403"),
        ?assertEqual([], records(Config)),
        _ = Other(#{accounting_ca_file => Ca}),
        _ = stopped(Config, 1),
        %% The token is nowhere to be read.
        ?assertEqual(nomatch, string:find(io_lib:format("~tp", [{meerkat:info(Name),
                                                                 meerkat:status(Name)}]), ?TOKEN))
    end),
    ok = killed(Consumer),
    complete(records(Config), 1).

the_next_server_sends_what_is_left(Config) ->
    doc("a web server that is away from the start; the server ends; the next one has all of it"),
    Consumer = consumer(Config, 0),
    ok = killed(Consumer),
    with_server(to_web(Config, Consumer, #{}), fun(Server) ->
        ok = allocations(Server, 10),
        _ = allocated(Server)
    end),
    Again = consumer(Config, maps:get(port, Consumer)),
    with_server(to_web(Config, Consumer, #{}), fun(_Server) ->
        _ = stopped(Config, 11)
    end),
    ok = killed(Again),
    All = records(Config),
    ?assertEqual([<<"on">>, <<"off">>, <<"on">>, <<"off">>],
                 [T || #{<<"type">> := T} <- All, T =:= <<"on">> orelse T =:= <<"off">>]),
    ?assertMatch([_], [R || #{<<"reason">> := <<"server_stop">>} = R <- All]),
    complete(All, 11).

%% --------------------------------------------------------------------------------------- spool

a_full_spool_counts_what_is_lost(Config) ->
    doc("beyond accounting_spool_bytes the oldest go: records taken and lost are those made"),
    Consumer = consumer(Config, 0),
    ok = killed(Consumer),
    Options = to_web(Config, Consumer, #{accounting_spool_bytes => 1048576}),
    with_server(Options, fun(#{name := Name} = Server) ->
        Keeper = meerkat_roles:find(Name, account),
        Facts = facts(),
        %% As many as a server makes in a while.
        lists:foreach(fun(N) ->
            ok = meerkat_ledger:tell(Name, fun() -> {began, N, Facts} end),
            ok = meerkat_ledger:tell(Name, fun() -> {ended, N, deleted, #{}, Facts} end)
        end, lists:seq(1, 1500)),
        _ = sys:get_state(Keeper),
        #{accounting := #{bytes := Bytes}} = meerkat:info(Name),
        ?assert(Bytes =< 1048576 andalso Bytes > 900000),
        Lines = log_kit:logged(warning, fun() ->
            _ = consumer(Config, maps:get(port, Consumer)),
            ok = eventually(fun() -> maps:get(waiting, sink(Server, http)) =:= 0 end)
        end),
        #{delivered := Delivered, lost := Lost} = sink(Server, http),
        ?assertEqual(3001, Delivered + Lost),
        ?assert(Lost > 500),
        [_] = [L || L <- Lines, string:find(L, [integer_to_list(Lost), " records are lost to http"])
                                    =/= nomatch],
        [#{<<"type">> := <<"lost">>, <<"count">> := Lost} | Rest] = records(Config),
        ?assertEqual(Delivered, length(Rest)),
        Text = meerkat_metrics:text(meerkat_metrics:snapshot(Name)),
        Metric = ["meerkat_accounting_lost_total{sink=\"http\"} ", integer_to_list(Lost)],
        ?assertNotEqual(nomatch, string:find(iolist_to_binary(Text), Metric)),
        ?assertMatch([#{verdict := warning}], findings(Name))
    end).

facts() ->
    #{user => <<"alice">>, realm => default, client => {{127, 0, 0, 1}, 1}, age_ms => 0,
      server => {{127, 0, 0, 1}, 2}, transport => udp, protocol => udp, told_ms => 0,
      lifetime => 600,
      relayed => [{{127, 0, 0, 1}, 3}]}.

a_spool_that_is_away(Config) ->
    doc("a directory that cannot be written: records wait in memory, and are written when it can"),
    Dir = spool(Config),
    with_server(to_file(Config, #{accounting_spool_bytes => 1048576}), fun(#{name := Name}) ->
        Away = filename:join(dir(Config), "away"),
        ok = file:rename(Dir, Away),
        Lines = log_kit:logged(warning, fun() ->
            lists:foreach(fun(N) ->
                ok = meerkat_ledger:tell(Name, fun() -> {began, N, facts()} end),
                ok = meerkat_ledger:tell(Name, fun() -> {ended, N, deleted, #{}, facts()} end)
            end, lists:seq(1, 300)),
            ok = eventually(fun() ->
                #{accounting := #{trouble := Why}} = meerkat:info(Name),
                is_binary(Why)
            end)
        end),
        ?assertMatch([#{verdict := error} | _],
                     [F || #{verdict := V} = F <- findings(Name), V =/= ok]),
        ?assertMatch([_ | _], [L || L <- Lines, string:find(L, "records cannot be kept in")
                                                    =/= nomatch]),
        ok = file:rename(Away, Dir),
        _ = stopped(Config, 300),
        #{accounting := #{lost := 0, trouble := none, sinks := #{file := #{lost := 0}}}} =
            meerkat:info(Name)
    end),
    complete(records(Config), 300).

%% What a crash or a power cut leaves: half a line, a cursor of nothing, one that is ahead.
spools_after_crashes(Config) ->
    doc("a spool goes on where whole lines end; a cursor that is broken begins with the oldest"),
    Dir = dir(Config),
    {ok, New} = meerkat_account_spool:open(Dir, 1048576),
    ?assertMatch({error, _}, meerkat_account_spool:open(Dir, 1048576)),
    {ok, Three} = meerkat_account_spool:append([<<"1">>, <<"2">>, <<"3">>], New),
    ok = meerkat_account_spool:keep_cursor(Dir, "good", 3),
    ok = meerkat_account_spool:keep_cursor(Dir, "ahead", 9),
    ok = meerkat_account_spool:close(Three),
    [File] = filelib:wildcard(filename:join(Dir, "*.jsonl")),
    ok = file:write_file(File, <<"half a li">>, [append]),
    ok = file:write_file(filename:join(Dir, "empty.cursor"), <<>>),
    ok = file:write_file(filename:join(Dir, "zeros.cursor"), <<0, 0, 0>>),
    {ok, Again} = meerkat_account_spool:open(Dir, 1048576),
    ?assertEqual(4, meerkat_account_spool:next(Again)),
    ?assertEqual([{"ahead", {ok, 4}}, {"empty", {ok, 1}}, {"good", {ok, 3}}, {"zeros", {ok, 1}}],
                 [{Reader, meerkat_account_spool:cursor(Dir, Reader)}
                  || Reader <- lists:sort(meerkat_account_spool:cursors(Dir))]),
    {ok, Four} = meerkat_account_spool:append([<<"4">>], Again),
    Reader = meerkat_account_spool:reader(Dir, 2),
    {ok, [<<"2">>, <<"3">>], Next} = meerkat_account_spool:read(Reader, 5, 2),
    {ok, [<<"4">>], Last} = meerkat_account_spool:read(Next, 5, 2),
    done = meerkat_account_spool:read(Last, 5, 2),
    %% Files of 64 KiB: what all have read is removed, what is too much too, and told as lost.
    Long = binary:copy(<<"x">>, 16000),
    Many = lists:foldl(fun(_, Spool) ->
        {ok, More} = meerkat_account_spool:append([Long], Spool),
        More
    end, Four, lists:seq(5, 104)),
    ?assert(meerkat_account_spool:bytes(Many) =< 1048576),
    {lost, Lost, After} = meerkat_account_spool:read(Last, 105, 500),
    {ok, [Long | _], _} = meerkat_account_spool:read(After, 105, 500),
    ?assert(Lost > 30 andalso Lost < 100),
    Trimmed = meerkat_account_spool:trim(105, Many),
    ?assertMatch([_], filelib:wildcard(filename:join(Dir, "*.jsonl"))),
    ok = meerkat_account_spool:close(Trimmed).

%% ---------------------------------------------------------------------------------------- files

a_file_that_is_moved_away(Config) ->
    doc("the next record makes a new one; one that cannot be written keeps nothing back"),
    File = binary_to_list(file(Config)),
    with_server(to_file(Config, #{}), fun(#{name := Name} = Server) ->
        ok = allocations(Server, 3),
        _ = stopped(Config, 3),
        ok = file:rename(File, File ++ ".1"),
        ok = allocations(Server, 2),
        _ = stopped(Config, 2),
        %% As a disk that is full has it.
        Options = maps:merge(running(Name), to_file(Config, #{})),
        ok = meerkat:reload(Name, Options#{accounting_file => <<"/dev/full">>}),
        ok = allocations(Server, 4),
        ok = eventually(fun() ->
            maps:get(trouble, sink(Server, file)) =:= <<"/dev/full: no space left on device">>
        end),
        ok = meerkat:reload(Name, Options),
        _ = stopped(Config, 6)
    end),
    {ok, First} = file:read_file(File ++ ".1"),
    complete(decoded(First) ++ records(Config), 9).

%% ------------------------------------------------------------------------------ faults of ours

nobody_waits_for_accounting(Config) ->
    doc("its process stands still: allocations are made, refreshed and deleted all the same"),
    with_server(to_file(Config, #{}), fun(#{name := Name} = Server) ->
        Keeper = meerkat_roles:find(Name, account),
        ok = sys:suspend(Keeper),
        ok = allocations(Server, 100),
        ?assertEqual([<<"on">>], [T || #{<<"type">> := T} <- records(Config)]),
        ok = sys:resume(Keeper),
        _ = stopped(Config, 100)
    end),
    complete(records(Config), 100).

processes_that_crash(Config) ->
    doc("of accounting: an allocation outlives them, its end tells all it has relayed"),
    with_server(to_file(Config, #{accounting_interval => 1}), fun(#{name := Name} = Server) ->
        {Client, Peer} = talking(Server),
        ok = relayed_both_ways(Client, Peer, 100, 60),
        Sinks = meerkat_roles:find(Name, account_sinks),
        [{file, Sink, _, _}] = supervisor:which_children(Sinks),
        ok = crashed(Sink),
        ok = allocations(Server, 1),
        _ = stopped(Config, 1),
        Keeper = meerkat_roles:find(Name, account),
        ok = crashed(Keeper),
        ok = eventually(fun() ->
            meerkat_roles:find(Name, account) =/= Keeper
                andalso is_process_alive(meerkat_roles:find(Name, account))
        end),
        ok = relayed_both_ways(Client, Peer, 7, 8),
        _ = delete(Client),
        _ = stopped(Config, 2),
        #{accounting := #{lost := Lost}} = meerkat:info(Name),
        Stops = [R || #{<<"type">> := <<"stop">>} = R <- records(Config)],
        ?assertMatch(#{<<"client_bytes">> := 107, <<"peer_bytes">> := 68}, lists:last(Stops)),
        ?assertEqual(0, Lost)
    end),
    complete(records(Config), 2).

crashed(Pid) ->
    Monitor = monitor(process, Pid),
    true = exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> ok end.

a_relay_that_dies(Config) ->
    doc("counters go on over relay programs, and never get smaller"),
    with_server(to_file(Config, #{accounting_interval => 1}), fun(Server) ->
        {Client, Peer} = talking(Server),
        ok = relayed_both_ways(Client, Peer, 100, 60),
        ok = eventually(fun() ->
            [] =/= [R || #{<<"client_bytes">> := 100} = R <- records(Config)]
        end),
        ok = kill_relay(Server),
        #{name := Name} = Server,
        ok = eventually(fun() -> maps:get(relay_replayed, meerkat:info(Name)) =:= 1 end),
        ok = relayed_both_ways(Client, Peer, 7, 8),
        ok = eventually(fun() ->
            [] =/= [R || #{<<"client_bytes">> := 107} = R <- records(Config)]
        end),
        _ = delete(Client),
        All = [{C, P} || #{<<"client_bytes">> := C, <<"peer_bytes">> := P} <- stopped(Config, 1)],
        ?assertEqual({107, 68}, lists:last(All)),
        ?assertEqual(lists:sort(All), All)
    end).

reloads_begin_and_end_it(Config) ->
    doc("allocations that live then: told from there on, and told that nobody will hear more"),
    with_server(#{}, fun(#{name := Name} = Server) ->
        {Client, Peer} = talking(Server),
        #{accounting := none} = meerkat:info(Name),
        Options = running(Name),
        More = to_file(Config, #{accounting_interval => 1}),
        ok = meerkat:reload(Name, maps:merge(Options, More)),
        ok = relayed_both_ways(Client, Peer, 100, 60),
        ok = eventually(fun() ->
            [] =/= [R || #{<<"client_bytes">> := 100} = R <- records(Config)]
        end),
        ok = meerkat:reload(Name, Options),
        ?assertMatch([#{<<"type">> := <<"on">>},
                      #{<<"type">> := <<"stop">>, <<"reason">> := <<"accounting_off">>,
                        <<"client_bytes">> := 100, <<"peer_bytes">> := 60},
                      #{<<"type">> := <<"off">>}],
                     [R || #{<<"type">> := T} = R <- records(Config), T =/= <<"interim">>]),
        #{accounting := none} = meerkat:info(Name),
        none = meerkat_roles:find(Name, account),
        ok = relayed_both_ways(Client, Peer, 1, 1)
    end).

settings_that_cannot_be(Config) ->
    doc("a spool that cannot be made, or that another server has, is refused with a sentence"),
    Blocked = filename:join(dir(Config), "file"),
    ok = file:write_file(Blocked, <<>>),
    Options = to_file(Config, #{accounting_spool => list_to_binary(Blocked)}),
    {error, Reason} = meerkat:start_server(accounting_blocked, maps:merge(minimal(), Options)),
    ?assertMatch({match, _}, re:run(meerkat:format_error(Reason), "accounting_spool: .*file")),
    with_server(#{}, fun(#{name := Name}) ->
        {error, Sentence} = meerkat:reload(Name, maps:merge(running(Name), Options)),
        ?assertMatch({match, _}, re:run(meerkat:format_error(Sentence),
                                        "accounting_spool: .*; nothing has changed"))
    end).

%% --------------------------------------------------------------------------------------- pieces

dir(Config) -> proplists:get_value(dir, Config).
file(Config) -> list_to_binary(filename:join(dir(Config), "accounting.jsonl")).
spool(Config) -> filename:join(dir(Config), "spool").

to_file(Config, More) ->
    maps:merge(#{accounting_file => file(Config),
                 accounting_spool => list_to_binary(spool(Config))}, More).

to_web(Config, Consumer, More) ->
    maps:merge(#{accounting_url => url("http", Consumer), accounting_token => <<?TOKEN>>,
                 accounting_spool => list_to_binary(spool(Config))}, More).

url(Scheme, #{port := Port}) ->
    iolist_to_binary([Scheme, "://127.0.0.1:", integer_to_list(Port), "/records"]).

%% The configuration that a server runs with.
running(Name) ->
    #{config := Config} = meerkat_registry:settings(Name),
    Config().

minimal() ->
    #{realm => <<"example.org">>, secrets => [<<"s3cret">>],
      listeners => [#{transport => udp, ip => {127, 0, 0, 1}, port => 0}],
      relays => [#{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1}, min_port => 49152,
                   max_port => 65535}]}.

page() ->
    {ok, Page} = file:read_file(filename:join(docs_kit:root(), "docs/accounting.md")),
    Page.

text(Address) -> unicode:characters_to_binary(meerkat_text:address(Address)).

%% What has come so far; each line must be JSON.
records(Config) ->
    case file:read_file(file(Config)) of
        {ok, Content} -> decoded(Content);
        {error, enoent} -> []
    end.

decoded(Content) ->
    %% The last line may be on its way.
    Whole = lists:droplast(binary:split(Content, <<"\n">>, [global])),
    [begin {ok, Record} = meerkat_json:decode(Line), Record end || Line <- Whole].

%% All records, when so many allocations have ended.
stopped(Config, N) ->
    ok = eventually(fun() ->
        N =< length(lists:usort([S || #{<<"type">> := <<"stop">>, <<"session_id">> := S}
                                          <- records(Config)]))
    end),
    records(Config).

%% Each allocation has one start before one end, though records may have come twice; those of one
%% run come in the order in which they were made.
complete(All, N) ->
    Once = lists:uniq(fun(#{<<"record">> := Id}) -> Id end, All),
    Of = fun(Type) -> [S || #{<<"type">> := T, <<"session_id">> := S} <- Once, T =:= Type] end,
    ?assertEqual(N, length(Of(<<"stop">>))),
    ?assertEqual(lists:sort(Of(<<"start">>)), lists:sort(Of(<<"stop">>))),
    [?assertEqual([<<"start">>, <<"stop">>],
                  [T || #{<<"type">> := T, <<"session_id">> := S} <- Once, S =:= Session,
                        T =/= <<"interim">>])
     || Session <- lists:sublist(Of(<<"start">>), 20)],
    ?assertEqual([], [R || #{<<"type">> := <<"lost">>} = R <- Once]),
    Numbers = [begin
                   [Run, Number] = binary:split(Id, <<"-">>),
                   {Run, binary_to_integer(Number)}
               end || #{<<"record">> := Id} <- Once],
    ?assertEqual(lists:sort(Numbers), Numbers).

sink(#{name := Name}, Id) ->
    #{accounting := #{sinks := #{Id := Sink}}} = meerkat:info(Name),
    Sink.

%% So many are made and deleted, one by one.
allocations(Server, N) ->
    lists:foreach(fun(_) ->
        Client = allocated(Server),
        _ = delete(Client),
        close(Client)
    end, lists:seq(1, N)).

talking(Server) ->
    Client = allocated(Server),
    Peer = #{address := Address} = peer(),
    _ = permit(Client, [Address]),
    {Client, Peer}.

relayed_both_ways(#{relayed := Relayed} = Client, #{address := Address} = Peer, Out, In) ->
    ok = send_to(Client, Address, binary:copy(<<"o">>, Out)),
    {_, _} = peer_next(Peer),
    ok = peer_send(Peer, Relayed, binary:copy(<<"i">>, In)),
    _ = data(Client),
    ok.

%% -------------------------------------------------------------------------------- the consumer

consumer(Config, Port) -> consumer(Config, Port, []).

consumer(Config, Port, More) ->
    Program = filename:join(docs_kit:root(), "test/interop/accounting.py"),
    Opened = open_port({spawn_executable, os:find_executable("python3")},
                       [{args, [Program, file(Config), integer_to_list(Port), ?TOKEN | More]},
                        {line, 80}, exit_status]),
    {os_pid, Pid} = erlang:port_info(Opened, os_pid),
    receive {Opened, {data, {eol, Line}}} ->
        #{program => Opened, pid => Pid, port => list_to_integer(Line)}
    end.

killed(#{program := Program, pid := Pid}) ->
    [] = os:cmd("kill -KILL " ++ integer_to_list(Pid)),
    receive {Program, {exit_status, _}} -> ok end.
