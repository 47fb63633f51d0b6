%% Servers as an operator has them, for suites: started by rel/bin/meerkatctl in a process of their
%% own, asked by its commands, ended by signals. What they print is the suites' to judge.
-module(ctl_kit).

-include_lib("stdlib/include/assert.hrl").

-export([prepare/1, clean/1, socket/1, end_relay/1, relay/1]).
-export([start/2, start/3, stop/2, signal/2, ended/1, until/2]).
-export([run/2, run/3, fed/3, json/2]).
-export([line/2, port/1, turn/1]).

-type config() :: [{atom(), term()}].
-type server() :: port().

%% A place for the server's socket. Names of sockets are short; those of Common Test's directories
%% are not.
-spec prepare(config()) -> config().
prepare(Config) ->
    Unique = integer_to_list(erlang:unique_integer([positive])),
    Dir = filename:join("/tmp", lists:join("-", ["meerkat", os:getpid(), Unique])),
    [{run_dir, lists:flatten(Dir)} | Config].

-spec clean(config()) -> ok.
clean(Config) ->
    Dir = proplists:get_value(run_dir, Config),
    ok = end_relay(Dir),
    _ = file:del_dir_r(Dir),
    ok.

%% One that outlives a node which was killed.
-spec end_relay(file:filename()) -> ok.
end_relay(RunDir) ->
    case relay(RunDir) of
        none -> ok;
        Pid -> _ = os:cmd("kill -KILL " ++ Pid), ok
    end.

%% The relay program that a node there has, or left.
-spec relay(file:filename()) -> string() | none.
relay(RunDir) ->
    case file:read_file(filename:join(RunDir, "relay-default.sock.lock")) of
        {ok, <<_, _/binary>> = Line} ->
            Pid = binary_to_list(hd(binary:split(Line, <<"\n">>))),
            case file:read_file(["/proc/", Pid, "/stat"]) of
                {ok, Stat} when Stat =/= <<>> ->
                    case re:run(Stat, "\\) [ZX] ") of
                        nomatch -> Pid;
                        _ -> none       % it has ended, and nobody has asked how
                    end;
                {error, _} ->
                    none
            end;
        _ ->
            none
    end.

-spec socket(config()) -> file:filename().
socket(Config) ->
    filename:join(proplists:get_value(run_dir, Config), "admin.sock").

%% A server on a port of the system's choice, once it serves, and what it printed until then. Its
%% secret is hunter2, and the password of any user.
-spec start(config(), [{string(), string()}]) -> {server(), Printed :: string()}.
start(Config, Env) ->
    start(Config, ["foreground"], Env).

-spec start(config(), [string()], [{string(), string()}]) -> {server(), Printed :: string()}.
start(Config, Args, Env) ->
    Secret = [{"STUN_SECRET", "hunter2"}, {"SECRET_AS_PASSWORD", "true"}],
    Port = command(Config, Args, Secret ++ Env),
    {Port, until(Port, "stop it +Ctrl-C\n\n")}.

%% What the server prints until the pattern is in it.
-spec until(server(), Pattern :: string()) -> string().
until(Port, Pattern) ->
    until(Port, Pattern, <<>>).

until(Port, Pattern, Read) ->
    case re:run(Read, Pattern) of
        {match, _} ->
            unicode:characters_to_list(Read);
        nomatch ->
            receive
                {Port, {data, Data}} -> until(Port, Pattern, <<Read/binary, Data/binary>>);
                {Port, {exit_status, Status}} -> error({ended, Status, Read})
            end
    end.

%% Sees it end with status 0; the rest of what it printed.
-spec stop(server(), Signal :: string()) -> string().
stop(Port, Signal) ->
    ok = signal(Port, Signal),
    ended(Port).

-spec signal(server(), string()) -> ok.
signal(Port, Signal) ->
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    "" = os:cmd(lists:flatten(["kill -", Signal, " ", integer_to_list(Pid)])),
    ok.

-spec ended(server()) -> string().
ended(Port) ->
    {Status, Printed} = collect(Port, <<>>),
    ?assertEqual({0, Printed}, {Status, Printed}),
    Printed.

collect(Port, Read) ->
    receive
        {Port, {data, Data}} -> collect(Port, <<Read/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, unicode:characters_to_list(Read)}
    end.

%% A command: its exit status and what it printed on both outputs.
-spec run(config(), [string()]) -> {non_neg_integer(), string()}.
run(Config, Args) ->
    run(Config, Args, []).

-spec run(config(), [string()], [{string(), string() | false}]) -> {non_neg_integer(), string()}.
run(Config, Args, Env) ->
    collect(command(Config, Args, Env), <<>>).

%% With a line on its stdin.
-spec fed(config(), Line :: string(), [string()]) -> {non_neg_integer(), string()}.
fed(Config, Line, Args) ->
    Port = command(Config, Args, []),
    true = port_command(Port, [Line, $\n]),
    collect(Port, <<>>).

%% With --json, and read.
-spec json(config(), [string()]) -> {non_neg_integer(), term()}.
json(Config, Args) ->
    {Status, Printed} = run(Config, Args ++ ["--json"]),
    Lines = [Value || Line <- string:lexemes(Printed, "\n"),
                      {ok, Value} <- [meerkat_json:decode(unicode:characters_to_binary(Line))]],
    ?assertMatch({[_], _}, {Lines, Printed}),
    {Status, hd(Lines)}.

%% Nothing of this machine's configuration gets through but what a case sets.
command(Config, Args, Env) ->
    Unset = [{binary_to_list(Name), false}
             || Name <- [<<"CONFIG_FILE">> | meerkat_config_schema:environment()]],
    Set = [{"LISTEN_IP", "127.0.0.1"}, {"LISTEN_PORT", "0"}, {"RELAY_IP", "127.0.0.1"},
           {"MEERKAT_RUN_DIR", proplists:get_value(run_dir, Config)}, {"REBAR_PROFILE", "test"}],
    All = maps:to_list(maps:from_list(Unset ++ Set ++ Env)),
    Root = filename:join([code:lib_dir(meerkat), "..", "..", "..", ".."]),
    Program = filename:join([Root, "rel", "bin", "meerkatctl"]),
    %% Whoever runs the tests in the background may have told them to ignore signals.
    [First | Words] = inside(proplists:get_value(netns, Config))
        ++ ["env", "--default-signal", Program | Args],
    open_port({spawn_executable, os:find_executable(First)},
              [{args, Words}, {env, All}, binary, exit_status, stderr_to_stdout]).

%% In a network namespace of that name, if the case has one.
inside(undefined) -> [];
inside(Name) -> ["ip", "netns", "exec", Name].

%% What stands behind a word of the block.
-spec line(string(), string()) -> string().
line(Word, Block) ->
    {match, [Text]} = re:run(Block, "^  " ++ Word ++ " +(.*)$",
                             [multiline, unicode, {capture, all_but_first, list}]),
    Text.

-spec port(Uri :: string()) -> inet:port_number().
port(Uri) ->
    {match, [Port]} = re:run(Uri, ":([0-9]+)\\?", [{capture, all_but_first, list}]),
    list_to_integer(Port).

%% It, for the clients of turn_kit.
-spec turn(Block :: string()) -> turn_kit:server().
turn(Block) ->
    Address = {{127, 0, 0, 1}, port(line("TURN", Block))},
    #{name => foreign, foreign => true, realm => <<"udp.localhost.local">>,
      secret => <<"hunter2">>, ip => element(1, Address), port => element(2, Address),
      listeners => [Address], users => #{}}.
