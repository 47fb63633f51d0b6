%% Since when this VM has had its relay: since the relay's start, or since it took over another VM's
%% relay. Kept in meerkat_store, which outlives relays.
-module(meerkat_survival).

-include_lib("kernel/include/logger.hrl").

-export([began/1, adopted/3, counts/1, since/1]).

-export_type([counts/0]).

%% Since the server started: relays taken over, with their allocations; those that were lost; for
%% how long nobody governed before, and how long taking over took.
-type counts() :: #{adoptions := non_neg_integer(),
                    adopted := non_neg_integer(),
                    lost := non_neg_integer(),
                    gap_ms := non_neg_integer(),
                    took_ms := non_neg_integer()}.

%% A new relay is governed.
-spec began(Name :: atom()) -> ok.
began(Name) ->
    meerkat_store:put(Name, ?MODULE, since, meerkat_clock:wall_s()).

%% Another VM's relay is. Both times are in milliseconds; the gap ends where taking over does.
-spec adopted(Name :: atom(), {GapMs :: non_neg_integer(), TookMs :: non_neg_integer()},
              meerkat_adoption:outcome()) -> ok.
adopted(Name, {Gap, Took}, #{adopted := Adopted, lost := Lost}) ->
    ?LOG_NOTICE("the relay of the Erlang before was taken over with ~b allocations, ~b lost: it "
                "was without Erlang for ~b ms, taking over took ~b ms of them",
                [Adopted, Lost, Gap, Took]),
    #{adoptions := N, adopted := Before, lost := LostBefore} = counts(Name),
    ok = meerkat_store:put(Name, ?MODULE, counts,
                           #{adoptions => N + 1, adopted => Before + Adopted,
                             lost => LostBefore + Lost, gap_ms => Gap, took_ms => Took}),
    began(Name).

-spec counts(Name :: atom()) -> counts().
counts(Name) ->
    meerkat_store:get(Name, ?MODULE, counts,
                      #{adoptions => 0, adopted => 0, lost => 0, gap_ms => 0, took_ms => 0}).

%% Seconds of Unix time; `none` before the first relay.
-spec since(Name :: atom()) -> integer() | none.
since(Name) ->
    meerkat_store:get(Name, ?MODULE, since).
