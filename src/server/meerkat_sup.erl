%% Top of the application. Its children are the servers started with meerkat:start_server/2, each
%% under a supervisor of its own (meerkat_lives_sup), and meerkat_helpers_sup. None of them ends
%% another when it gives up; except a server of meerkat:start_only_server/2, which ends the
%% application.
-module(meerkat_sup).
-behaviour(supervisor).

-export([start_link/0, start_server/3, stop_server/1, server/1, start_helpers/1]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% `only`: the application ends when this server has given up. The pid is the server's supervisor.
-spec start_server(Name :: atom(), supervisor:child_spec(), only | one_of_many) ->
    {ok, pid()} | {error, term()}.
start_server(Name, Server, Kind) ->
    Spec = #{id => {meerkat, Name},
             start => {meerkat_lives_sup, start_link, [Server]},
             restart => temporary,
             significant => Kind =:= only,
             type => supervisor},
    case supervisor:start_child(?MODULE, Spec) of
        {ok, Lives} -> started(meerkat_lives_sup:server(Lives));
        {error, Reason} -> {error, Reason}
    end.

started(none) -> {error, {shutdown, "the server has ended already"}};
started(Server) -> {ok, Server}.

-spec stop_server(Name :: atom()) -> ok | {error, not_found}.
stop_server(Name) ->
    supervisor:terminate_child(?MODULE, {meerkat, Name}).

%% The supervisor of a server that was started here.
-spec server(Name :: atom()) -> pid() | none.
server(Name) ->
    case lists:keyfind({meerkat, Name}, 1, supervisor:which_children(?MODULE)) of
        {_, Lives, _, _} when is_pid(Lives) -> meerkat_lives_sup:server(Lives);
        _ -> none
    end.

%% Starts them beside the servers, which go on without them if they die too often.
-spec start_helpers([supervisor:child_spec()]) -> ok.
start_helpers(Helpers) ->
    {ok, _} = supervisor:start_child(?MODULE, #{id => helpers,
                                                start => {meerkat_helpers_sup, start_link,
                                                          [Helpers]},
                                                restart => temporary,
                                                type => supervisor}),
    ok.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    {ok, {#{strategy => one_for_one, auto_shutdown => any_significant}, []}}.
