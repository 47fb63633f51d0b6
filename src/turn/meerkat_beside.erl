%% What a server has besides its relay: HTTP, the component of XMPP servers, accounting, the fleet.
%% Each is a module of this behaviour and stands in the list below, by which they are called.
%% Nothing here or in the folders that this one may call knows what they do. Another one is a line
%% in that list. A module leaves out what it has nothing to do in.
%%
%% A reload asks all of them to prepare/3 first. If one cannot, or the relay refuses the new
%% settings, those that have prepared are told rollback/1; otherwise commit/1, and at the end
%% changed/1.
-module(meerkat_beside).

-export([child_specs/2, try_out/2, prepare/3, commit/1, rollback/1, changed/1, revoked/3,
         info/1, metrics/0]).
-export_type([prepared/0, row/0]).

-type name() :: atom().
%% A metric as meerkat_metrics has them: name, type, labels, help, and how to find its samples in
%% a snapshot, into which info/1 is merged.
-type row() :: {string(), counter | gauge, [atom()], string(),
                fun((map()) -> [{Labels :: [{atom(), unicode:chardata()}], number()}])}.
-opaque prepared() :: [{module(), term()}].

%% The children that the settings ask for, of meerkat_beside_sup.
-callback child_specs(name(), meerkat_settings:settings()) -> [supervisor:child_spec()].
%% Whether prepare/3 could do what these settings want, as far as that can be known; does nothing.
-callback try_out(New :: meerkat_settings:settings(), Old :: meerkat_settings:settings()) ->
    ok | {error, unicode:chardata()}.
%% Other settings are in force, those before may be again: whatever can fail is done now. The error
%% is a sentence, and then nothing was done. Who leaves this out is asked try_out/2, and has
%% prepared the server's name.
-callback prepare(name(), New :: meerkat_settings:settings(), Old :: meerkat_settings:settings()) ->
    {ok, Prepared :: term()} | {error, unicode:chardata()}.
%% The new settings stay. Must not fail.
-callback commit(Prepared :: term()) -> ok.
%% The old ones do: undoes prepare/3.
-callback rollback(Prepared :: term()) -> ok.
%% Settings, listeners or readiness may be others than before. Must not wait for anybody who might
%% call this, and nobody has to be there.
-callback changed(name()) -> ok.
%% A user's credentials were revoked here, up to that time (Unix). Must not wait either.
-callback revoked(name(), User :: binary(), Until :: integer()) -> ok.
%% What there is to tell of it, under its key.
-callback info(name()) -> #{Key :: atom() => term()}.
-callback metrics() -> [row()].
-optional_callbacks([try_out/2, prepare/3, rollback/1, changed/1, revoked/3]).

-define(MODULES, [meerkat_http_beside, meerkat_xmpp_beside, meerkat_account_beside,
                  meerkat_fleet_beside]).

-spec child_specs(name(), meerkat_settings:settings()) -> [supervisor:child_spec()].
child_specs(Name, Settings) ->
    lists:append([Module:child_specs(Name, Settings) || Module <- ?MODULES]).

-spec try_out(meerkat_settings:settings(), meerkat_settings:settings()) ->
    ok | {error, unicode:chardata()}.
try_out(New, Old) ->
    hd([Error || {error, _} = Error <- [try_out(Module, New, Old) || Module <- ?MODULES]] ++ [ok]).

try_out(Module, New, Old) ->
    asked(Module, try_out, [New, Old]).

%% All of them, or none and a sentence.
-spec prepare(name(), meerkat_settings:settings(), meerkat_settings:settings()) ->
    {ok, prepared()} | {error, unicode:chardata()}.
prepare(Name, New, Old) ->
    prepare(?MODULES, Name, New, Old, []).

prepare([Module | Modules], Name, New, Old, Done) ->
    case prepared(Module, Name, New, Old) of
        {ok, Prepared} ->
            prepare(Modules, Name, New, Old, [{Module, Prepared} | Done]);
        {error, Sentence} ->
            ok = rollback(Done),
            {error, Sentence}
    end;
prepare([], _Name, _New, _Old, Done) ->
    {ok, Done}.

prepared(Module, Name, New, Old) ->
    case asked(Module, prepare, [Name, New, Old]) of
        ok ->
            case try_out(Module, New, Old) of
                ok -> {ok, Name};
                {error, Sentence} -> {error, Sentence}
            end;
        Answer ->
            Answer
    end.

%% Its answer, or ok.
asked(Module, Function, Args) ->
    {module, Module} = code:ensure_loaded(Module),
    case erlang:function_exported(Module, Function, length(Args)) of
        true -> apply(Module, Function, Args);
        false -> ok
    end.

-spec commit(prepared()) -> ok.
commit(Done) ->
    lists:foreach(fun({Module, Prepared}) -> ok = Module:commit(Prepared) end, Done).

%% Latest first.
-spec rollback(prepared()) -> ok.
rollback(Done) ->
    lists:foreach(fun({Module, Prepared}) -> ok = asked(Module, rollback, [Prepared]) end, Done).

-spec changed(name()) -> ok.
changed(Name) ->
    lists:foreach(fun(Module) -> ok = asked(Module, changed, [Name]) end, ?MODULES).

-spec revoked(name(), User :: binary(), Until :: integer()) -> ok.
revoked(Name, User, Until) ->
    lists:foreach(fun(Module) -> ok = asked(Module, revoked, [Name, User, Until]) end, ?MODULES).

-spec info(name()) -> #{atom() => term()}.
info(Name) ->
    lists:foldl(fun(Module, All) -> maps:merge(All, Module:info(Name)) end, #{}, ?MODULES).

-spec metrics() -> [row()].
metrics() ->
    lists:append([Module:metrics() || Module <- ?MODULES]).
