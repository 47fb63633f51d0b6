%% The deaths of a server's relay programs: how many, how long the server was without one, what
%% became of the allocations; and a line in the log for each, with one more when they are too many.
%% Whether there is another relay the supervisor decides.
%%
%% Kept in meerkat_store, which outlives relays.
-module(meerkat_restarts).

-export([patience/0, died/2, found/1, over/2, counts/1]).

-export_type([counts/0]).

%% Since the server started. The gap is the time from a death to the last allocation replayed: of
%% the last time, and of all. Only allocations that lived count as lost.
-type counts() :: #{restarts := non_neg_integer(),
                    gap_ms := non_neg_integer(),
                    gap_total_ms := non_neg_integer(),
                    replayed := non_neg_integer(),
                    lost := non_neg_integer()}.

-include_lib("kernel/include/logger.hrl").

-define(DEATHS, 5).
-define(SECONDS, 60).

%% So many deaths of the relay within so many seconds meerkat_server_sup mends by a restart; the
%% next one ends the server.
-spec patience() -> {Deaths :: pos_integer(), Seconds :: pos_integer()}.
patience() ->
    {?DEATHS, ?SECONDS}.

%% A relay that served has ended, or one that was to take its place; Why is a sentence.
-spec died(Name :: atom(), Why :: string()) -> ok.
died(Name, Why) ->
    case meerkat_roles:find(Name, port) of
        none -> ok;     % the server has never served, and whoever starts it hears why
        _ -> died(Name, Why, meerkat_clock:now_ms())
    end.

died(Name, Why, Now) ->
    ?LOG_WARNING("~ts; ~b allocations wait for the next one",
                 [Why, meerkat_alloc_table:count(Name)]),
    _ = meerkat_store:get(Name, ?MODULE, died) =:= none andalso
        meerkat_store:put(Name, ?MODULE, died, Now),
    {Most, Seconds} = patience(),
    Deaths = [Now | [At || At <- deaths(Name), Now - At < Seconds * 1000]],
    ok = meerkat_store:put(Name, ?MODULE, deaths, Deaths),
    case length(Deaths) > Most of
        true -> ?LOG_ERROR("the server ~ts gives up and ends with all its allocations: ~b relay "
                           "programs have died within ~b s, the last one so: ~ts",
                           [Name, length(Deaths), Seconds, Why]);
        false -> ok
    end.

deaths(Name) ->
    meerkat_store:get(Name, ?MODULE, deaths, []).

%% Before another relay starts: was there one whose process was killed before it could say so?
-spec found(Name :: atom()) -> ok.
found(Name) ->
    case meerkat_store:get(Name, ?MODULE, died) of
        none -> died(Name, "the relay program ended: the process that owned it is gone");
        _ -> ok
    end.

%% Another relay serves, and has all the allocations it will have.
-spec over(Name :: atom(), meerkat_replay:outcome()) -> ok.
over(Name, #{ok := Replayed, lost := Lost}) ->
    case meerkat_store:get(Name, ?MODULE, died) of
        none ->
            ok;     % the first
        Died ->
            Gap = meerkat_clock:now_ms() - Died,
            ?LOG_WARNING("the relay is back after ~b ms: ~b allocations replayed, ~b lost",
                         [Gap, Replayed, Lost]),
            Before = counts(Name),
            ok = meerkat_store:put(Name, ?MODULE, counts, #{
                restarts => maps:get(restarts, Before) + 1,
                gap_ms => Gap,
                gap_total_ms => maps:get(gap_total_ms, Before) + Gap,
                replayed => maps:get(replayed, Before) + Replayed,
                lost => maps:get(lost, Before) + Lost}),
            meerkat_store:delete(Name, ?MODULE, died)
    end.

-spec counts(Name :: atom()) -> counts().
counts(Name) ->
    meerkat_store:get(Name, ?MODULE, counts,
                      #{restarts => 0, gap_ms => 0, gap_total_ms => 0, replayed => 0, lost => 0}).
