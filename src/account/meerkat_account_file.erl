%% Accounting records as lines of a file (accounting_file). If the file is renamed or deleted, to
%% rotate it, the next records go to a new file of that name.
-module(meerkat_account_file).
-behaviour(meerkat_account_sink).

-include_lib("kernel/include/file.hrl").

-export([settings/1, open/1, deliver/2, close/1, missing/1]).

-record(file, {path :: binary(), fd :: file:fd(), inode :: inode(),
               size :: none | non_neg_integer()}).     % of a regular file
-type inode() :: {non_neg_integer(), non_neg_integer()} | none.

-spec settings(map()) -> none | binary().
settings(#{file := undefined}) -> none;
settings(#{file := Path}) -> Path.

-spec open(binary()) -> {ok, #file{}} | {error, unicode:chardata()}.
open(Path) ->
    case filelib:ensure_dir(Path) of
        ok -> opened(Path, file:open(Path, [append, raw, binary]));
        {error, Reason} -> failed(Path, Reason)
    end.

opened(Path, {ok, Fd}) ->
    {Inode, Size} = found(Path),
    {ok, #file{path = Path, fd = Fd, inode = Inode, size = Size}};
opened(Path, {error, Reason}) ->
    failed(Path, Reason).

failed(Path, Reason) ->
    {error, [Path, ": ", file:format_error(Reason)]}.

%% The file under that name. One that is no regular file (a pipe, a terminal) is not replaced.
found(Path) ->
    case file:read_file_info(Path, [raw]) of
        {ok, #file_info{type = regular, size = Size, major_device = Device, inode = Inode}} ->
            {{Device, Inode}, Size};
        _ ->
            {none, none}
    end.

-spec deliver([binary(), ...], #file{}) -> {ok, #file{}} | {error, unicode:chardata()}.
deliver(Lines, #file{path = Path, inode = Inode} = File) ->
    case found(Path) of
        {Inode, Size} when Inode =/= none -> write(Lines, File#file{size = Size});
        {none, _} when Inode =:= none -> write(Lines, File);
        _ ->
            _ = close(File),
            case open(Path) of
                {ok, Fresh} -> write(Lines, Fresh);
                {error, Why} -> {error, Why}
            end
    end.

%% If a write fails in the middle the file is cut to its former length, so that no half line stays.
write(Lines, #file{path = Path, fd = Fd, size = Size} = File) ->
    case file:write(Fd, [[Line, $\n] || Line <- Lines]) of
        ok ->
            {ok, File};
        {error, Reason} ->
            _ = Size =/= none andalso file:position(Fd, Size) =/= error andalso file:truncate(Fd),
            failed(Path, Reason)
    end.

-spec close(#file{}) -> ok | {error, term()}.
close(#file{fd = Fd}) ->
    file:close(Fd).

-spec missing(binary()) -> [].
missing(_Path) -> [].
