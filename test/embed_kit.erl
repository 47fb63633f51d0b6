%% Builds applications that use Meerkat, and runs them.
-module(embed_kit).

-export([mix/3, mix/4, mix/5, run/4]).

%% What the Mix application in Dir prints, which depends on the Meerkat in Meerkat; what it builds
%% lies in Scratch.
-spec mix(file:filename(), file:filename(), file:filename()) -> binary().
mix(Dir, Meerkat, Scratch) ->
    mix(Dir, Meerkat, Scratch, ["run", "-r", "relay_a_packet.exs", "-r", "documented.exs"]).

%% What mix prints when asked for something else.
-spec mix(file:filename(), file:filename(), file:filename(), [string()]) -> binary().
mix(Dir, Meerkat, Scratch, Args) ->
    mix(Dir, Meerkat, Scratch, Args, []).

%% The same with more in the environment.
-spec mix(file:filename(), file:filename(), file:filename(), [string()],
          [{string(), string()}]) -> binary().
mix(Dir, Meerkat, Scratch, Args, Env) ->
    run("mix", Args, Dir,
        Env ++ [{"MIX_REBAR3", os:find_executable("rebar3")}, {"MIX_ENV", "prod"},
         {"MIX_HOME", filename:join(Scratch, "mix")},
         {"MIX_BUILD_PATH", filename:join(Scratch, "mix_build")}, {"MEERKAT_PATH", Meerkat}]).

%% What a program prints that ends with status 0.
-spec run(string(), [string()], file:filename(), [{string(), string() | false}]) -> binary().
run(Program, Args, Dir, Env) ->
    Port = open_port({spawn_executable, os:find_executable(Program)},
                     [{args, Args}, {env, [{"LC_ALL", "C.UTF-8"} | Env]}, binary, exit_status,
                      stderr_to_stdout, {cd, Dir}]),
    {Status, Text} = ended(Port, <<>>),
    ct:log("~ts ~tp: ~tp~n~ts", [Program, Args, Status, Text]),
    Status =:= 0 orelse error({Program, Args, Status, Text}),
    Text.

ended(Port, Read) ->
    receive
        {Port, {data, Data}} -> ended(Port, <<Read/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Read}
    end.
