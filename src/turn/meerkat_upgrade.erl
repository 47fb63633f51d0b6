%% The relay program is replaced while calls go on (docs/design/upgrade.md): asked for here, done by
%% who owns the relay. What came of it is kept in meerkat_store, which outlives relays.
-module(meerkat_upgrade).

-include_lib("kernel/include/logger.hrl").

-export([run/1, retired/1, is_retired/1, failed/1, begun_anew/1, taken/4, counts/1]).

-export_type([figures/0, counts/0]).

%% Allocations that go on and those that are lost; sockets that the new program has from the old
%% one, connections of clients among them, and others that nobody asked for; for how long nothing
%% was read, and how long all of it took; the new program and its process.
-type figures() :: #{allocations | lost | sockets | connections | closed | took_ms | pid
                     := non_neg_integer(),
                     gap_ms := float(), program := binary()}.
%% Since the server started; the gap is the last one's.
-type counts() :: #{replacements := non_neg_integer(), lost := non_neg_integer(),
                    gap_ms := number()}.

%% All of it.
-define(RUN_MS, 60000).

%% Replaces the relay program by the one that is there now, be it another or the same.
-spec run(Name :: atom()) -> {ok, figures()} | {error, string()}.
run(Name) ->
    Program = meerkat_relay_program:path(meerkat_registry:settings(Name)),
    case is_possible(Name, Program) of
        ok -> ask(Name, meerkat_roles:find(Name, relay));
        {error, Sentence} -> {error, Sentence}
    end.

ask(_Name, none) ->
    {error, "there is no relay now; ask again when there is"};
ask(Name, Owner) ->
    try gen_server:call(Owner, upgrade, ?RUN_MS) of
        {ok, Figures} -> {ok, Figures#{pid => meerkat_relay_program:os_pid(Name)}};
        {error, Sentence} -> {error, Sentence}
    catch
        exit:{timeout, _} -> {error, "it is not done yet; the log will say what comes of it"};
        exit:_ -> {error, "it did not succeed; the log says why, and the relay is started again"}
    end.

%% Nothing is touched for a program that could not take over.
is_possible(_Name, {error, Sentence}) ->
    {error, Sentence};
is_possible(Name, Program) ->
    case meerkat_keep:is_wanted(Name) of
        false -> {error, "the relay ends with this Erlang, so it cannot be replaced under calls: "
                         "that takes `survive` and a run directory"};
        true -> understands(Program, meerkat_relay_program:speaks(Program))
    end.

understands(_Program, {ok, <<"version ", _/binary>> = Theirs}) ->
    Ours = iolist_to_binary(io_lib:format("version ~b hash ~16.16.0b",
                                          [meerkat_ctl:version(), meerkat_ctl:table_hash()])),
    case Theirs of
        Ours -> ok;
        _ -> {error, "the relay program is of another release than this Erlang: restart the node, "
                     "and the new one takes the calls over with its own relay program"}
    end;
understands(Program, _) ->
    {error, lists:flatten(io_lib:format("~ts is not a relay program that runs here", [Program]))}.

%%% By the relay's owner

%% The program there was waits for another one to take over.
-spec retired(Name :: atom()) -> ok.
retired(Name) ->
    meerkat_store:put(Name, ?MODULE, retired, true).

-spec is_retired(Name :: atom()) -> boolean().
is_retired(Name) ->
    meerkat_store:get(Name, ?MODULE, retired, false).

%% No other could: the next relay is started as after a death.
-spec failed(Name :: atom()) -> ok.
failed(Name) ->
    meerkat_store:put(Name, ?MODULE, retired, false).

%% The program before ended without having handed over anything.
-spec begun_anew(meerkat_replay:outcome()) -> string().
begun_anew(#{ok := Allocations, lost := Lost}) ->
    lists:flatten(io_lib:format(
        "the relay program ended before another had taken over, and one was started as after its "
        "death: ~b allocations were made again, ~b are lost", [Allocations, Lost])).

%% Another one reads, and has all allocations that it will have.
-spec taken(Name :: atom(), Taken :: map(), meerkat_replay:outcome(),
            TookMs :: non_neg_integer()) -> figures().
taken(Name, #{gap_us := Us, listeners := Listeners, relayed := Relayed, closed := Closed,
              connections := Connections},
      #{ok := Allocations, lost := Lost}, Took) ->
    ok = failed(Name),
    #{replacements := N, lost := Before} = counts(Name),
    ok = meerkat_store:put(Name, ?MODULE, counts,
                           #{replacements => N + 1, lost => Before + Lost, gap_ms => Us / 1000}),
    {ok, Version} = application:get_key(meerkat, vsn),
    Sockets = Listeners + Relayed + Connections,
    ?LOG_NOTICE("another relay program has taken over: ~b allocations go on, ~b are lost; it has "
                "~b sockets of the one before, ~b of them clients' connections, closed ~b that "
                "nobody asked for, and read nothing for ~.1f ms; release ~ts",
                [Allocations, Lost, Sockets, Connections, Closed, Us / 1000, Version]),
    #{allocations => Allocations, lost => Lost, sockets => Sockets, connections => Connections,
      closed => Closed,
      gap_ms => Us / 1000, took_ms => Took,
      program => unicode:characters_to_binary(
                     meerkat_relay_program:path(meerkat_registry:settings(Name)))}.

-spec counts(Name :: atom()) -> counts().
counts(Name) ->
    meerkat_store:get(Name, ?MODULE, counts, #{replacements => 0, lost => 0, gap_ms => 0}).
