%% Servers that end while others ask them: whoever asks hears that there is no server, and nothing
%% else.
-module(ending_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([asking_what_ends/1, asking_what_is_not_there/1]).

all() -> [asking_what_ends, asking_what_is_not_there].

suite() -> [{timetrap, {minutes, 2}}].

-define(ROUNDS, 5).

%% All that meerkat lets ask of a server, and what may be said where there is none.
questions(Name) ->
    [{is_ready, fun() -> meerkat:is_ready(Name) end},
     {status, fun() -> meerkat:status(Name) end},
     {info, fun() -> meerkat:info(Name) end},
     {allocations, fun() -> meerkat:allocations(Name) end},
     {allocation, fun() -> meerkat:allocation(Name, "0-1") end},
     {disconnect, fun() -> meerkat:disconnect(Name, {user, <<"x">>}) end},
     {users, fun() -> meerkat:users(Name) end},
     {credentials, fun() -> meerkat:credentials(Name, <<"x">>) end},
     {revoke, fun() -> meerkat:revoke(Name, <<"x">>, 60) end},
     {undrain, fun() -> meerkat:undrain(Name) end}].

asking_what_ends(_) ->
    [begin
         #{name := Name} = Server = turn_kit:start_server(#{workers => 1}),
         Askers = [spawn_monitor(fun() -> exit({heard, What, ask(Ask, Test)}) end)
                   || Test <- [self()], {What, Ask} <- questions(Name)],
         %% Each has been answered once.
         [receive {answered, Pid} -> ok end || {Pid, _} <- Askers],
         ok = turn_kit:stop_server(Server),
         [receive {'DOWN', Monitor, process, _, {heard, What, Last}} ->
              ?assertEqual({What, last(What)}, {What, Last})
          end || {_, Monitor} <- Askers]
     end || _ <- lists:seq(1, ?ROUNDS)].

last(is_ready) -> false;
last(_) -> {error, badarg}.

%% Asks until it hears that there is none.
ask(Ask, Test) ->
    _ = Ask(),
    Test ! {answered, self()},
    again(Ask).

again(Ask) ->
    try Ask() of
        false -> false;
        _ -> again(Ask)
    catch
        Class:Reason -> {Class, Reason}
    end.

asking_what_is_not_there(_) ->
    ?assertNot(meerkat:is_ready(nobody)),
    [?assertError(badarg, Ask()) || {What, Ask} <- questions(nobody), What =/= is_ready].
