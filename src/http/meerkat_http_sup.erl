%% Supervises HTTP for one server, if http_listen is set: the last hour's history and the listener.
%% If they fail too often, the server goes on without them. A reload that changes the address opens
%% the new one before it closes the old one.
-module(meerkat_http_sup).
-behaviour(supervisor).

-include_lib("kernel/include/logger.hrl").

-export([child_specs/2, start_link/1, can_open/2, open/3, close/1, undo/1]).
-export([init/1]).

-export_type([opening/0]).

%% A port that we have closed is free only a moment later, so opening it is tried again, AGAIN_MS
%% apart: OURS times for a port that our own listener may have had, BACK times for one that it had.
-define(AGAIN_MS, 10).
-define(OURS, 50).
-define(BACK, 300).

-type address() :: undefined | {inet:ip_address(), inet:port_number()}.
%% A change of address from Old to New. Over: both are the same port and cannot be open at the same
%% time, so Old is closed already.
-opaque opening() :: same | {Name :: atom(), New :: address(), Old :: address(), Over :: boolean()}.

%% The child of meerkat_beside_sup, or none.
-spec child_specs(Name :: atom(), meerkat_settings:settings()) -> [supervisor:child_spec()].
child_specs(_Name, #{http := #{listen := undefined}}) ->
    [];
child_specs(Name, #{http := _}) ->
    [child_spec(Name)].

child_spec(Name) ->
    #{id => ?MODULE,
      start => {?MODULE, start_link, [Name]},
      restart => temporary,
      type => supervisor}.

%% Listens when this returns. Error: {shutdown, Sentence} somewhere in the reason.
-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, Name) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    ok = meerkat_roles:take(Name, http_sup),
    #{http := #{listen := Listen}} = meerkat_registry:settings(Name),
    {ok, {#{strategy => one_for_one, intensity => 5, period => 60},
          [#{id => meerkat_history, start => {meerkat_history, start_link, [Name]}},
           listener(Name, Listen)]}}.

listener(Name, Listen) ->
    #{id => {meerkat_http, Listen}, start => {meerkat_http, start_link, [Name, Listen]}}.

%%% Another address

%% Whether open/3 would find the address free. The port of Old counts as free.
-spec can_open(New :: address(), Old :: address()) -> ok | {error, unicode:chardata()}.
can_open(New, Old) ->
    case New =:= undefined orelse is_port_of(Old, New) orelse meerkat_http:try_address(New) of
        {error, {_, Sentence}} -> {error, Sentence};
        _ -> ok
    end.

%% Serves HTTP at New, by the settings in force, beside Old. Afterwards close/1 closes Old, or
%% undo/1 closes New. The error is a sentence, and then nothing has changed.
-spec open(Name :: atom(), New :: address(), Old :: address()) ->
    {ok, opening()} | {error, unicode:chardata()}.
open(_Name, undefined, undefined) ->
    {ok, same};
open(Name, undefined, Old) ->
    {ok, {Name, undefined, Old, false}};
open(Name, Same, Same) ->
    _ = [warn(start(Name, Same)) || not is_pid(running(Name))],
    {ok, same};
open(Name, New, Old) ->
    case start(Name, New) of
        ok -> {ok, {Name, New, Old, false}};
        {error, {eaddrinuse, _}} = Error -> in_place(is_port_of(Old, New), Name, New, Old, Error);
        {error, {_, Sentence}} -> {error, Sentence}
    end.

%% Both are the same port, and one of them is a wildcard, say. If only our own listener at Old is in
%% the way, closing it frees the port; if New still cannot be opened, Old is opened again.
in_place(true, Name, New, Old, _Error) ->
    ok = stop(Name, Old),
    case start(Name, New, ?OURS) of
        ok ->
            {ok, {Name, New, Old, true}};
        {error, {_, Sentence}} ->
            ok = back(Name, Old),
            {error, Sentence}
    end;
in_place(false, _Name, _New, _Old, {error, {_, Sentence}}) ->
    {error, Sentence}.

is_port_of({_, Port}, {_, Port}) -> true;
is_port_of(_, _) -> false.

-spec close(opening()) -> ok.
close(same) ->
    ok;
close({Name, undefined, Old, false}) ->
    ok = meerkat_beside_sup:stop_child(Name, ?MODULE),
    _ = [ok = meerkat_roles:leave(Name, Role) || Role <- [http_sup, history]],
    ended(Name, Old);
close({_Name, _New, undefined, false}) ->
    ok;
close({Name, _New, Old, false}) ->
    stop(Name, Old);
close({_Name, _New, _Old, true}) ->
    ok.

-spec undo(opening()) -> ok.
undo(same) ->
    ok;
undo({_Name, undefined, _Old, false}) ->
    ok;
undo({Name, New, undefined, false}) ->
    close({Name, undefined, New, false});
undo({Name, New, Old, Over}) ->
    ok = stop(Name, New),
    _ = [ok = back(Name, Old) || Over],
    ok.

back(Name, Old) -> warn(start(Name, Old, ?BACK)).

%% Starts a listener, and its supervisor if that does not run. The address is tried first, because a
%% supervisor whose child cannot start logs a long report.
start(Name, Listen) -> start(Name, Listen, 0).

start(Name, Listen, Tries) ->
    case {meerkat_http:try_address(Listen), running(Name)} of
        {{error, {eaddrinuse, _}}, _} when Tries > 0 ->
            receive after ?AGAIN_MS -> ok end,
            start(Name, Listen, Tries - 1);
        {{error, Why}, _} -> {error, Why};
        {ok, none} -> started(meerkat_beside_sup:start_child(Name, child_spec(Name)));
        {ok, Sup} -> started(supervisor:start_child(Sup, listener(Name, Listen)))
    end.

started(ok) -> ok;
started({ok, _Pid}) -> ok;
started({error, {already_started, _Pid}}) -> ok;
started({error, Reason}) -> {error, {other, meerkat:format_error(Reason)}}.

stop(Name, Listen) ->
    Id = {meerkat_http, Listen},
    case running(Name) of
        none ->
            ok;
        Sup ->
            _ = supervisor:terminate_child(Sup, Id),
            _ = supervisor:delete_child(Sup, Id),
            ended(Name, Listen)
    end.

ended(Name, Listen) ->
    _ = [?LOG_NOTICE("no longer serving HTTP on ~ts", [meerkat_text:address(Bound)])
         || Bound <- [meerkat_http:bound(Name, Listen)], Bound =/= none],
    meerkat_http:forget(Name, Listen).

running(Name) ->
    case meerkat_roles:find(Name, http_sup) of
        none -> none;
        Pid -> case is_process_alive(Pid) of true -> Pid; false -> none end
    end.

warn(ok) -> ok;
warn({error, {_, Sentence}}) -> ?LOG_WARNING("~ts", [Sentence]).
