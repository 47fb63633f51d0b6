%% One server: its tables, its allocations, its request processes, and last the relay, which
%% listens once all before it stands. A dead relay is replaced, and the next one is given the
%% allocations; one that dies again and again takes the server down.
-module(meerkat_server_sup).
-behaviour(supervisor).

-export([start_link/3]).
-export([init/1]).

%% The configuration comes in a fun, for supervisors print their children's arguments. Spec tells
%% one child specification from another: who starts a server anew from the same one gets it with
%% the settings it had last, be they of a reload or drawn at its first start.
-spec start_link(Name :: atom(), Spec :: reference(), fun(() -> map())) ->
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
            case meerkat_settings:new(Name, Config()) of
                {ok, Settings} -> meerkat_registry:keep(Name, Spec, Settings);
                {error, Sentence} -> {error, Sentence}
            end;
        false ->
            {error, "a server of this name is running"}
    end.

-spec init(atom()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Name) ->
    {Deaths, Seconds} = meerkat_restarts:patience(),
    {ok, {#{strategy => rest_for_one, intensity => Deaths, period => Seconds},
          [#{id => meerkat_registry,
             start => {meerkat_registry, start_link, [Name]}},
           meerkat_beside_sup:child_spec(Name),
           #{id => meerkat_alloc_sup,
             start => {meerkat_alloc_sup, start_link, [Name]},
             type => supervisor},
           #{id => meerkat_request_sup,
             start => {meerkat_request_sup, start_link, [Name]},
             type => supervisor},
           #{id => meerkat_relay_owner,
             start => {meerkat_relay_owner, start_link, [Name]}},
           #{id => meerkat_follow,
             start => {meerkat_follow, start_link, [Name]}}]}}.
