%% Deletes what is kept of a server for its next start (meerkat_registry:keep/3), secrets among it,
%% once the supervisor that would start it has ended. There is one process for each child
%% specification, which hibernates until then.
-module(meerkat_keeper).

-export([watch/2]).
-export([asleep/3]).

%% For the supervisor that starts the server.
-spec watch(Name :: atom(), Spec :: reference()) -> ok.
watch(Name, Spec) ->
    Parent = self(),
    _ = proc_lib:spawn(fun() ->
        Monitor = erlang:monitor(process, Parent),
        proc_lib:hibernate(?MODULE, asleep, [Name, Spec, Monitor])
    end),
    ok.

%% Woken by its one message.
-spec asleep(Name :: atom(), Spec :: reference(), reference()) -> ok.
asleep(Name, Spec, Monitor) ->
    receive
        {'DOWN', Monitor, process, _, _} ->
            _ = meerkat_registry:await_end(Name),
            meerkat_registry:drop(Name, Spec)
    end.
