%% The reading end of a journal (c_src/base/journal.h) as a NIF: memory in which another program
%% notes what it does, without waking this one. Notes outlive the program that made them. Knows
%% nothing of what they say.
-module(meerkat_journal).

-export([make/1, read/1, taken/1, is_taken/1]).

-export_type([journal/0]).

-on_load(init/0).
-nifs([make/1, read/1, taken/1, is_taken/1]).

%% Raised whenever arguments or results of the native functions change; also in
%% c_src/nif/journal_nif.c. A library of another number is refused.
-define(ABI, 1).

%% Its memory goes with the last term that names it.
-type journal() :: reference().

%% @doc An empty journal of so many rings, and the path by which a program of the same user opens
%% it, for as long as it is there; or why there is none.
-spec make(Rings :: pos_integer()) -> {ok, journal(), Path :: binary()} | {error, binary()}.
make(_Rings) ->
    erlang:nif_error(not_loaded).

%% @doc What was noted since the last time, those of one ring in their order, each with its age in
%% milliseconds. `malformed': there is something that cannot be a note.
%%
%% For one process at a time.
-spec read(journal()) -> [{AgeMs :: non_neg_integer(), Note :: binary()}] | malformed.
read(_Journal) ->
    erlang:nif_error(not_loaded).

%% @doc Whatever read/1 returned has been dealt with.
-spec taken(journal()) -> ok.
taken(_Journal) ->
    erlang:nif_error(not_loaded).

%% @doc Has all that was noted been dealt with? For any process.
-spec is_taken(journal()) -> boolean().
is_taken(_Journal) ->
    erlang:nif_error(not_loaded).

%%% Loading

init() ->
    erlang:load_nif(filename:join(priv(), "meerkat_journal_nif"), ?ABI).

%% Where the application is, or beside the directory this module was loaded from.
priv() ->
    case code:priv_dir(meerkat) of
        {error, bad_name} ->
            filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
        Dir ->
            Dir
    end.
