%% Starts meerkat_beside_sup again when it was killed, or when the server's tables are made anew.
%% When it is killed again and again this supervisor ends normally, and the relay goes on without
%% HTTP, XMPP and accounting.
-module(meerkat_beside_lives_sup).
-behaviour(supervisor).

-export([child_spec/1, start_link/1]).
-export([init/1]).

-define(DEATHS, 5).
-define(SECONDS, 60).

%% The child of a server's supervisor. It is transient: when it ends normally it is not started
%% again and the server goes on; when it is ended with the tables it is started with the next ones.
-spec child_spec(Name :: atom()) -> supervisor:child_spec().
child_spec(Name) ->
    #{id => ?MODULE,
      start => {?MODULE, start_link, [Name]},
      restart => transient,
      type => supervisor}.

%% Error: {shutdown, Sentence} somewhere in the reason.
-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case supervisor:start_link(?MODULE, Name) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    {ok, {#{strategy => one_for_one, intensity => ?DEATHS, period => ?SECONDS},
          [meerkat_beside_sup:child_spec(Name)]}}.
