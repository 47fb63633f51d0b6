%% What serves HTTP for one server, where http_listen is set: an hour of history and the listener.
%% Stands beside what relays. When it cannot be kept alive the server goes on without it.
-module(meerkat_http_sup).
-behaviour(supervisor).

-export([child_specs/2, start_link/1]).
-export([init/1]).

%% The child of a server's supervisor, or none. Temporary, so that neither a relay that dies takes
%% it along nor it the relay.
-spec child_specs(Name :: atom(), meerkat_settings:settings()) -> [supervisor:child_spec()].
child_specs(_Name, #{http := #{listen := undefined}}) ->
    [];
child_specs(Name, #{http := _}) ->
    [#{id => ?MODULE,
       start => {?MODULE, start_link, [Name]},
       restart => temporary,
       type => supervisor}].

%% Listens when this returns. Error: {shutdown, Sentence} somewhere in the reason.
-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, Name) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    {ok, {#{strategy => one_for_one, intensity => 5, period => 60},
          [#{id => meerkat_history, start => {meerkat_history, start_link, [Name]}},
           #{id => meerkat_http, start => {meerkat_http, start_link, [Name]},
             type => supervisor}]}}.
