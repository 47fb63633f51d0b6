%% One server: its tables, its allocations, its request processes, and last the relay, which
%% listens once all before it stands. A dead relay ends allocations (they watch its port) and
%% is replaced; one that dies again and again takes the server down.
-module(meerkat_server_sup).
-behaviour(supervisor).

-export([start_link/2]).
-export([init/1]).

%% The configuration comes in a fun, for supervisors print their children's arguments.
-spec start_link(Name :: atom(), fun(() -> map())) -> {ok, pid()} | {error, term()}.
start_link(Name, Config) ->
    case meerkat_settings:new(Name, Config()) of
        {ok, Settings} ->
            case supervisor:start_link(?MODULE, {Name, fun() -> Settings end}) of
                {ok, Pid} -> {ok, Pid};
                {error, Reason} -> {error, Reason}
            end;
        {error, Sentence} ->
            {error, {shutdown, Sentence}}
    end.

-spec init({atom(), fun(() -> meerkat_settings:settings())}) ->
    {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init({Name, Settings}) ->
    {ok, {#{strategy => rest_for_one, intensity => 5, period => 10},
          [#{id => meerkat_registry,
             start => {meerkat_registry, start_link, [Name, Settings]}}]
          ++ meerkat_http_sup:child_specs(Name, Settings()) ++
          [#{id => meerkat_alloc_sup,
             start => {meerkat_alloc_sup, start_link, [Name]},
             type => supervisor},
           #{id => meerkat_request_sup,
             start => {meerkat_request_sup, start_link, [Name]},
             type => supervisor},
           #{id => meerkat_relay,
             start => {meerkat_relay, start_link, [Name]}}]}}.
