%% What happens, told to whoever embeds a server: to a module of theirs, and to the handlers of the
%% library telemetry where that is loaded. Names, measurements and metadata are of its kind.
%%
%%   [meerkat, allocation, start]        system_time               session, user, client, relayed
%%   [meerkat, allocation, stop]         duration, client_packets, the same, and reason
%%                                       client_bytes, peer_packets,
%%                                       peer_bytes, dropped
%%   [meerkat, authentication, failure]  count                     client, code
%%
%% Metadata has `server` in each. Durations are in native units of time. Handlers run in the process
%% the event is of: one that fails is logged and harms nothing, one that is slow delays it.
-module(meerkat_events).

-include_lib("kernel/include/logger.hrl").

-export([tell/3]).
-export_type([event/0]).

-type event() :: [atom(), ...].

%% Arg comes from {events, {Module, Arg}}.
-callback handle_event(event(), Measurements :: map(), Metadata :: map(), Arg :: term()) -> term().

%% Tells an event of the server Name; of what is asked only where somebody listens.
-spec tell(Name :: atom(), event(), fun(() -> {Measurements :: map(), Metadata :: map()})) -> ok.
tell(Name, Event, About) ->
    Listeners = listeners(Name),
    Listeners =:= [] orelse tell_all(Listeners, Name, Event, About()),
    ok.

listeners(Name) ->
    Telemetry = [telemetry || erlang:function_exported(telemetry, execute, 3)],
    case meerkat_registry:settings(Name) of
        #{events := {_, _} = Listener} -> [Listener | Telemetry];
        #{} -> Telemetry
    end.

tell_all(Listeners, Name, Event, {Measurements, Metadata0}) ->
    Metadata = Metadata0#{server => Name},
    lists:foreach(fun
        ({Module, Arg}) ->
            guarded(Module, fun() -> Module:handle_event(Event, Measurements, Metadata, Arg) end);
        (telemetry) ->
            guarded(telemetry, fun() -> execute(telemetry, Event, Measurements, Metadata) end)
    end, Listeners).

%% By name in a variable: nobody has to have it.
execute(Telemetry, Event, Measurements, Metadata) ->
    Telemetry:execute(Event, Measurements, Metadata).

guarded(Module, Tell) ->
    try
        _ = Tell(),
        ok
    catch
        Class:Reason ->
            ?LOG_ERROR("~ts failed to handle an event: ~ts ~0tp", [Module, Class, Reason])
    end.
