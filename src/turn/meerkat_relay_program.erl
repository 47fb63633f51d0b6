%% The relay program as a process of the system: started, and seen to its end. One that does not end
%% when it is told to, or when nobody owns its port any more, is killed: it would keep the ports
%% that the next one needs. Knows no message; what is said to it is for others.
-module(meerkat_relay_program).

-include_lib("kernel/include/logger.hrl").
-include_lib("kernel/include/file.hrl").

-export([speaks/1]).
-export([path/1, start/4, is/2, os_pid/1, running/2, kill/1, await_exit/2]).

%% What the system calls it, and when it started, for numbers are given again.
-type id() :: {OsPid :: pos_integer(), Started :: term()}.

%% How long a program whose port is closed may take to end, and how often that is looked at.
-define(END_MS, 1000).
-define(LOOK_MS, 5).
-define(SPEAK_MS, 5000).

-spec path(meerkat_settings:settings()) -> file:name_all() | {error, string()}.
path(#{relay_program := default}) ->
    case code:priv_dir(meerkat) of
        {error, bad_name} ->
            {error, "the relay program is not there: no priv directory"};
        Dir ->
            filename:join(Dir, "meerkat_relay")
    end;
path(#{relay_program := Program}) ->
    Program.

%% Its port, which the caller owns. The one before is gone when this returns. Socket: another VM
%% finds it by that, so it may be there already; who it is then is/2 is told. Replaces: it takes
%% over from the one before, which ends when it has.
-spec start(Name :: atom(), file:name_all(), Socket :: file:filename() | none,
            Replaces :: boolean()) ->
    {ok, port(), OsPid :: pos_integer() | none} | {error, Reason :: term()}.
start(Name, Program, Socket, Replaces) ->
    Replaces orelse end_before(Name, Socket),
    Args = case {Socket, Replaces} of
        {none, false} -> [];
        {_, false} -> ["--survive", Socket];
        {_, true} -> ["--replace", Socket]
    end,
    %% It has no use for secrets, and parses what comes from the network.
    Unset = [{binary_to_list(Variable), false}
             || Variable <- meerkat_config_secret:variables()],
    try open_port({spawn_executable, Program},
                  [stream, binary, exit_status, nouse_stdio, {args, Args}, {env, Unset}]) of
        Port ->
            OsPid = case erlang:port_info(Port, os_pid) of
                {os_pid, Pid} -> Pid;
                undefined -> none       % it has ended
            end,
            _ = OsPid =/= none andalso is(Name, OsPid),
            {ok, Port, OsPid}
    catch
        error:Reason -> {error, Reason}
    end.

%% What that program speaks: the first line that it has to say of its protocol.
-spec speaks(file:name_all()) -> {ok, binary()} | error.
speaks(Program) ->
    try open_port({spawn_executable, Program},
                  [{line, 256}, binary, exit_status, {args, ["--dump-protocol"]}]) of
        Port -> first_line(Port, none)
    catch
        error:_ -> error
    end.

first_line(Port, Line) ->
    receive
        {Port, {data, {eol, First}}} when Line =:= none -> first_line(Port, First);
        {Port, {data, _}} -> first_line(Port, Line);
        {Port, {exit_status, 0}} when Line =/= none -> {ok, Line};
        {Port, {exit_status, _}} -> error
    after ?SPEAK_MS ->
        true = port_close(Port),
        error
    end.

%% Remembers the process that the program's HELLO named.
-spec is(Name :: atom(), OsPid :: pos_integer()) -> ok.
is(Name, OsPid) ->
    meerkat_store:put_lasting(Name, ?MODULE, last, {OsPid, started(OsPid)}).

%% The one there was last.
-spec os_pid(Name :: atom()) -> pos_integer() | none.
os_pid(Name) ->
    case meerkat_store:get(Name, ?MODULE, last) of
        {OsPid, _} -> OsPid;
        none -> none
    end.

%% The file that such a process runs, and whether that is not what is there for these settings now.
-spec running(OsPid :: pos_integer(), meerkat_settings:settings()) ->
    #{program := binary() | null, outdated := boolean()}.
running(OsPid, Settings) ->
    Exe = "/proc/" ++ integer_to_list(OsPid) ++ "/exe",
    Program = case file:read_link_all(Exe) of
        {ok, Path} -> unicode:characters_to_binary(Path);
        {error, _} -> null
    end,
    #{program => Program, outdated => is_other(identity(Exe), path(Settings))}.

is_other(none, _Installed) -> false;
is_other(_Running, {error, _}) -> false;
is_other(Running, Installed) ->
    case identity(Installed) of
        none -> false;
        Identity -> Identity =/= Running
    end.

%% What tells files apart, of whatever a name leads to.
identity(File) ->
    case file:read_file_info(File, [raw]) of
        {ok, #file_info{major_device = Device, inode = Inode}} -> {Device, Inode};
        {error, _} -> none
    end.

%% At once. To be called only while its port is open: the system has not given its number to another
%% process then.
-spec kill(OsPid :: pos_integer() | none) -> ok.
kill(none) ->
    ok;
kill(OsPid) ->
    _ = os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
    ok.

%% For the owner of its port: has it ended by itself within so many milliseconds?
-spec await_exit(port(), Ms :: non_neg_integer()) -> boolean().
await_exit(Port, Ms) ->
    receive
        {Port, {exit_status, _}} -> true;
        {'EXIT', Port, _} -> true
    after Ms ->
        false
    end.

%% The owner of the one before was killed, maybe, and could not see it to its end. One that outlives
%% its Erlang does not end by itself.
end_before(Name, Socket) ->
    case meerkat_store:get(Name, ?MODULE, last) of
        none -> ok;
        Id when Socket =:= none -> ended(Id, ?END_MS);
        Id -> ended(Id, 0)
    end.

ended({OsPid, _} = Id, Ms) when Ms =< 0 ->
    case is_there(Id) of
        true ->
            ?LOG_WARNING("the relay program before, process ~b, did not end: it is killed",
                         [OsPid]),
            ok = kill(OsPid);
        false ->
            ok
    end;
ended(Id, Ms) ->
    case is_there(Id) of
        true ->
            receive after ?LOOK_MS -> ok end,
            ended(Id, Ms - ?LOOK_MS);
        false ->
            ok
    end.

-spec is_there(id()) -> boolean().
is_there({OsPid, Started}) ->
    started(OsPid) =:= Started andalso Started =/= none.

started(OsPid) ->
    maps:get(started, meerkat_proc:usage(OsPid), none).
