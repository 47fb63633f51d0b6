%% `meerkatctl capture`: has the server capture an allocation, and writes what it captures into the
%% file that was named, as it comes. The server writes a file of its own, beside its socket, where
%% both of us can go whatever else the service may see of the disk; it is removed with the capture.
-module(meerkat_cli_capture).

-export([run/3, show/2]).

-type call() :: fun((meerkat_admin:question()) ->
                        {meerkat_admin:answer() | {error, no_server},
                         meerkat_admin_socket:asked() | none}).

%% `-' is standard output. How it was in the end.
-spec run(Allocation :: binary(), Options :: #{o := binary(), atom() => term()}, call()) ->
    {ok, meerkat_capture:state()} | {error, no_server | unicode:chardata()}.
run(Allocation, Options, Call) ->
    case Call({ping, []}) of
        {{ok, _}, #{socket := Socket}} ->
            Name = ["capture-", binary:encode_hex(crypto:strong_rand_bytes(8)), ".pcapng"],
            Spool = filename:join(filename:dirname(Socket), unicode:characters_to_list(Name)),
            run(Allocation, Spool, Options, Call);
        {{error, Reason}, _} ->
            {error, Reason}
    end.

run(Allocation, Spool, #{o := File} = Options, Call) ->
    Most = maps:from_list([{max_bytes, Bytes} || #{'max-bytes' := Bytes} <- [Options]]),
    Wanted = maps:merge(maps:with([seconds, payload], Options), Most),
    case Call({capture, [Allocation, Wanted#{file => Spool, passing => true}]}) of
        {{ok, #{capture := Id}}, _} ->
            {ok, Input} = file:open(Spool, [read, raw, binary]),
            Result = into(File, Id, Input, Call),
            _ = file:close(Input),
            Result;
        {{error, Reason}, _} ->
            {error, Reason}
    end.

%% What is there under that name is replaced only by a capture that goes on.
into(File, Id, Input, Call) ->
    case opened(File) of
        {ok, Output} ->
            closed(Output, followed(Id, Input, Output, Call));
        {error, Posix} ->
            _ = Call({uncapture, [Id]}),
            {error, ["cannot write ", File, ": ", file:format_error(Posix)]}
    end.

%% It is asked for once a second, and what has come until then is written.
followed(Id, Input, Output, Call) ->
    {Answer, _} = Call({captured, [Id]}),
    case {Answer, copied(Input, Output)} of
        {{ok, #{state := going}}, ok} ->
            followed(Id, Input, Output, Call);
        {_, {error, Posix}} ->
            _ = Call({uncapture, [Id]}),
            {error, ["the file cannot be written: ", file:format_error(Posix)]};
        {Over, ok} ->
            Over
    end.

copied(Input, Output) ->
    case file:read(Input, 65536) of
        {ok, Bytes} ->
            case file:write(Output, Bytes) of
                ok -> copied(Input, Output);
                {error, Posix} -> {error, Posix}
            end;
        eof -> ok;
        {error, Posix} -> {error, Posix}
    end.

%%% Where it goes

%% For nobody else to read: it has names of users, and addresses.
opened(<<"-">>) ->
    ok = io:setopts(standard_io, [{encoding, latin1}]),
    {ok, standard_io};
opened(File) ->
    case file:open(File, [write, raw, binary]) of
        {ok, Device} ->
            _ = file:change_mode(File, 8#600),
            {ok, Device};
        {error, Posix} -> {error, Posix}
    end.

closed(standard_io, Result) ->
    Result;
closed(Device, Result) ->
    case {file:close(Device), Result} of
        {{error, Posix}, {ok, _}} ->
            {error, ["the file cannot be written: ", file:format_error(Posix)]};
        _ -> Result
    end.

%% For people.
-spec show(meerkat_capture:state(), File :: binary()) -> unicode:chardata().
show(#{packets := Packets, missed := Missed, bytes := Bytes, reason := Reason} = State, File) ->
    [io_lib:format("~ts: ~b packets, ~b bytes; ", [File, Packets, Bytes]), why(Reason), $\n,
     [io_lib:format("~b packets were relayed and are missing: the file was written too slowly~n",
                    [Missed]) || Missed > 0],
     ["the file has no proper end, and its last packets may be missing\n"
      || not maps:get(whole, State)]].

why(time) -> "the time is over";
why(stopped) -> "it was ended";
why(allocation) -> "the allocation has ended";
why(size) -> "the file has the size that was asked for";
why(relay) -> "the relay program was replaced, or has ended";
why({file, Posix}) -> ["the server could not write its file: ", file:format_error(Posix)].
