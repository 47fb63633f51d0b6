%% Supervises one server: its tables, its allocations, its request processes, and last the relay,
%% which listens when all the others run. A relay that dies is replaced, and the next one is given
%% the allocations. If relays die again and again the server ends.
-module(meerkat_server_sup).
-behaviour(supervisor).

-export([start_link/3, stop/1]).
-export([init/1]).

%% The configuration comes in a fun, because supervisors print their children's arguments. The fun
%% is called at the first start only: later, the file it reads may be half written. Spec tells one
%% child specification from another: a server that is started again from the same one has the
%% settings it had last, those of a reload included, and the secret that was drawn at its first
%% start.
-spec start_link(Name :: atom(), Spec :: reference(),
                 fun(() -> {ok, map()} | {error, string()})) ->
    {ok, pid()} | {error, term()}.
start_link(Name, Spec, Config) ->
    case prepare(Name, Spec, Config) of
        ok ->
            case supervisor:start_link(?MODULE, Name) of
                {ok, Pid} -> {ok, Pid};
                {error, Reason} -> {error, Reason}
            end;
        {error, Sentence} ->
            {error, {shutdown, Sentence}}
    end.

prepare(Name, Spec, Config) ->
    Kept = meerkat_registry:is_kept(Name, Spec),
    case Kept andalso meerkat_registry:await_end(Name) orelse
            not meerkat_registry:is_running(Name) of
        true when Kept ->
            ok;
        true ->
            first(Name, Spec, Config());
        false ->
            {error, "a server of this name is running"}
    end.

first(Name, Spec, {ok, Config}) ->
    case meerkat_settings:new(Name, Config) of
        {ok, Settings} ->
            ok = meerkat_keeper:watch(Name, Spec),
            meerkat_registry:keep(Name, Spec, Settings);
        {error, Sentence} ->
            {error, Sentence}
    end;
first(_Name, _Spec, {error, Sentence}) ->
    {error, Sentence}.

%% Has its supervisor end it in order, and not start it again; what is kept for its next start is
%% deleted.
-spec stop(Name :: atom()) -> ok.
stop(Name) ->
    [Server | Above] = meerkat_registry:supervisors(Name),
    _ = case [{Sup, Id} || Sup <- Above, is_supervisor(Sup),
                           {Id, Pid, _, _} <- supervisor:which_children(Sup), Pid =:= Server] of
        %% One of many alike.
        [{Sup, undefined}] -> supervisor:terminate_child(Sup, Server);
        [{Sup, Id}] -> supervisor:terminate_child(Sup, Id);
        [] -> exit(Server, shutdown)
    end,
    _ = meerkat_registry:await_end(Name),
    meerkat_registry:drop(Name).

is_supervisor(Sup) ->
    {Module, _, _} = proc_lib:translate_initial_call(Sup),
    lists:member(Module, [supervisor, 'Elixir.DynamicSupervisor']).

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    {Deaths, Seconds} = meerkat_restarts:patience(),
    {ok, {#{strategy => rest_for_one, intensity => Deaths, period => Seconds},
          [#{id => meerkat_registry,
             start => {meerkat_registry, start_link, [Name]}},
           meerkat_beside_lives_sup:child_spec(Name),
           #{id => meerkat_alloc_sup,
             start => {meerkat_alloc_sup, start_link, [Name]},
             type => supervisor},
           #{id => meerkat_request_sup,
             start => {meerkat_request_sup, start_link, [Name]},
             type => supervisor},
           #{id => meerkat_relay_owner,
             start => {meerkat_relay_owner, start_link, [Name]}},
           #{id => meerkat_watch_sup,
             start => {meerkat_watch_sup, start_link, [Name]},
             type => supervisor},
           #{id => meerkat_sampler,
             start => {meerkat_sampler, start_link, [Name]}},
           #{id => meerkat_follow,
             start => {meerkat_follow, start_link, [Name]}},
           #{id => meerkat_certificate_watch,
             start => {meerkat_certificate_watch, start_link, [Name]}},
           #{id => meerkat_database_watch,
             start => {meerkat_database_watch, start_link, [Name]}}]}}.
