%% Accounting records on disk until every sink has taken them: one log of lines in a directory. One
%% process appends; others read what they are told has been appended. Nothing here knows what a
%% line says.
%%
%% Records are numbered from 1, without a gap. A file holds the lines of some of them and is named
%% by the number of the first. Beside them lies for each reader a file with its cursor: the number
%% of the record it is to have next.
-module(meerkat_account_spool).

-export([open/2, append/2, sync/1, close/1, next/1, bytes/1, resize/2, trim/2]).
-export([reader/2, read/3, cursor/2, keep_cursor/3, cursors/1, forget_cursor/2]).

-export_type([spool/0, reader/0, place/0]).

%% The number of a record.
-type place() :: pos_integer().
-record(spool, {
    dir :: file:filename_all(),
    lock :: gen_tcp:socket() | undefined,
    max :: pos_integer(),                       % bytes of all files together
    full = [] :: [{place(), Bytes :: pos_integer()}],     % files before the last, oldest first
    first :: place(),                          % of the last file
    bytes :: non_neg_integer(),                 % in it
    next :: place(),
    fd :: file:fd()
}).
-opaque spool() :: #spool{}.
%% Where a reader is: the next record, and where in which file it begins.
-record(reader, {dir :: file:filename_all(), next :: place(), file = none :: none | place(),
                 offset = 0 :: non_neg_integer()}).
-opaque reader() :: #reader{}.

-define(FILES, 16).                     % that a full spool has, about
-define(FILE_MIN, 65536).
-define(FILE_MAX, 4194304).
-define(READ_BYTES, 1048576).
-define(SUFFIX, ".jsonl").
-define(CURSOR, ".cursor").

%%% Writing

%% Goes on where the last one ended; makes the directory if there is none. The error is a sentence.
-spec open(file:filename_all(), MaxBytes :: pos_integer()) -> {ok, spool()} | {error, iolist()}.
open(Dir, Max) ->
    case filelib:ensure_path(Dir) of
        ok ->
            _ = file:change_mode(Dir, 8#700),
            locked(lock(Dir), Dir, Max);
        {error, Reason} ->
            failed(Dir, Reason)
    end.

failed(Dir, Reason) ->
    {error, ["accounting records cannot be kept in ", Dir, ": ", file:format_error(Reason)]}.

%% Two writers would mix up their records, so the writer has a socket of that name in the abstract
%% namespace. The kernel frees it when the process ends.
lock(Dir) ->
    Hash = binary:encode_hex(crypto:hash(sha256, filename:absname(Dir))),
    gen_tcp:listen(0, [{ifaddr, {local, <<0, "meerkat-accounting-", Hash/binary>>}}]).

locked({error, eaddrinuse}, Dir, _Max) ->
    {error, ["another server keeps its accounting records in ", Dir,
             ": each needs a directory of its own (accounting_spool)"]};
locked({error, Reason}, Dir, _Max) ->
    failed(Dir, Reason);
locked({ok, Lock}, Dir, Max) ->
    case opened(Dir, files(Dir)) of
        {ok, Spool} ->
            ok = mend_cursors(Spool),
            {ok, Spool#spool{lock = Lock, max = Max}};
        {error, Reason} ->
            ok = gen_tcp:close(Lock),
            failed(Dir, Reason)
    end.

opened(Dir, []) ->
    last(Dir, [], 1);
opened(Dir, Files) ->
    Sizes = [{First, filelib:file_size(path(Dir, First))} || First <- Files],
    last(Dir, lists:droplast(Sizes), lists:last(Files)).

%% What a crash has cut short is overwritten by what comes next.
last(Dir, Full, First) ->
    case file:open(path(Dir, First), [read, write, raw, binary]) of
        {ok, Fd} ->
            Content = case file:read_file(path(Dir, First)) of {ok, Read} -> Read; _ -> <<>> end,
            Lines = binary:matches(Content, <<"\n">>),
            Whole = case Lines of [] -> 0; _ -> element(1, lists:last(Lines)) + 1 end,
            _ = cut(Fd, Whole),
            {ok, #spool{dir = Dir, lock = undefined, max = 1, full = Full, first = First,
                        bytes = Whole, next = First + length(Lines), fd = Fd}};
        {error, Reason} ->
            {error, Reason}
    end.

cut(Fd, Bytes) ->
    _ = file:position(Fd, Bytes),
    file:truncate(Fd).

%% All of the lines, each without its line break, or none of them.
-spec append([binary(), ...], spool()) -> {ok, spool()} | {error, file:posix(), spool()}.
append(Lines, #spool{fd = Fd, bytes = Bytes, next = Next} = Spool) ->
    Data = [[Line, $\n] || Line <- Lines],
    Size = iolist_size(Data),
    case Bytes > 0 andalso Bytes + Size > file_max(Spool) of
        true ->
            case another(Spool) of
                {ok, Fresh} -> append(Lines, Fresh);
                {error, Reason} -> {error, Reason, Spool}
            end;
        false ->
            case file:pwrite(Fd, Bytes, Data) of
                ok ->
                    {ok, bounded(Spool#spool{bytes = Bytes + Size, next = Next + length(Lines)})};
                {error, Reason} ->
                    _ = cut(Fd, Bytes),
                    {error, Reason, Spool}
            end
    end.

file_max(#spool{max = Max}) ->
    max(?FILE_MIN, min(?FILE_MAX, Max div ?FILES)).

another(#spool{dir = Dir, full = Full, first = First, bytes = Bytes, next = Next,
               fd = Old} = Spool) ->
    case file:open(path(Dir, Next), [read, write, raw, binary]) of
        {ok, Fd} ->
            _ = file:datasync(Old),
            _ = file:close(Old),
            {ok, Spool#spool{full = Full ++ [{First, Bytes}], first = Next, bytes = 0, fd = Fd}};
        {error, Reason} ->
            {error, Reason}
    end.

%% Without the oldest files that there is no room for.
bounded(#spool{dir = Dir, max = Max, full = [{First, _} | Rest]} = Spool) ->
    case bytes(Spool) > Max of
        true ->
            _ = file:delete(path(Dir, First)),
            bounded(Spool#spool{full = Rest});
        false ->
            Spool
    end;
bounded(Spool) ->
    Spool.

-spec sync(spool()) -> ok | {error, term()}.
sync(#spool{fd = Fd}) ->
    file:datasync(Fd).

-spec close(spool()) -> ok.
close(#spool{fd = Fd, lock = Lock} = Spool) ->
    _ = sync(Spool),
    _ = file:close(Fd),
    gen_tcp:close(Lock).

%% The number of the record that will be appended next.
-spec next(spool()) -> place().
next(#spool{next = Next}) -> Next.

-spec bytes(spool()) -> non_neg_integer().
bytes(#spool{full = Full, bytes = Bytes}) ->
    lists:sum([Bytes | [Size || {_, Size} <- Full]]).

%% Another bound.
-spec resize(MaxBytes :: pos_integer(), spool()) -> spool().
resize(Max, Spool) ->
    bounded(Spool#spool{max = Max}).

%% Deletes the files whose records all come before this one: nobody needs them any more. The last
%% file stays, because its name says the number of the next record.
-spec trim(place(), spool()) -> spool().
trim(Needed, #spool{dir = Dir, full = [{Oldest, _} | Rest], first = Last} = Spool) ->
    Behind = case Rest of [{First, _} | _] -> First; [] -> Last end,
    case Behind =< Needed of
        true ->
            _ = file:delete(path(Dir, Oldest)),
            trim(Needed, Spool#spool{full = Rest});
        false ->
            Spool
    end;
trim(_Needed, Spool) ->
    Spool.

%%% Reading

%% One that has had all before this record.
-spec reader(file:filename_all(), place()) -> reader().
reader(Dir, Next) ->
    #reader{dir = Dir, next = Next}.

%% Lines from the reader's next record on, Most at most, of those before End, the next that is to be
%% appended. Or how many are not there any more.
-spec read(reader(), End :: place(), Most :: pos_integer()) ->
    {ok, [binary(), ...], reader()} | {lost, pos_integer(), reader()} | done
    | {error, file:posix()}.
read(#reader{next = Next}, End, _Most) when Next >= End ->
    done;
read(#reader{file = none} = Reader, End, Most) ->
    case located(Reader) of
        {ok, Found} -> read(Found, End, Most);
        Other -> Other
    end;
read(#reader{next = Next} = Reader, End, Most) ->
    case lines(Reader, min(Most, End - Next)) of
        {ok, [], _} -> beyond(Reader, End, Most);
        {ok, Lines, Bytes} ->
            {ok, Lines, Reader#reader{next = Next + length(Lines),
                                      offset = Reader#reader.offset + Bytes}};
        {error, enoent} -> read(Reader#reader{file = none}, End, Most);
        {error, Reason} -> {error, Reason}
    end.

located(#reader{dir = Dir, next = Next} = Reader) ->
    case lists:splitwith(fun(First) -> First =< Next end, files(Dir)) of
        {[], [Oldest | _]} ->
            {lost, Oldest - Next, Reader#reader{next = Oldest, file = Oldest, offset = 0}};
        {[], []} ->
            {error, enoent};
        {Before, _} ->
            First = lists:last(Before),
            skipped(Next - First, Reader#reader{file = First, offset = 0})
    end.

skipped(0, Reader) ->
    {ok, Reader};
skipped(N, #reader{offset = Offset} = Reader) ->
    case lines(Reader, N) of
        {ok, [], _} -> {ok, Reader};
        {ok, Lines, Bytes} -> skipped(N - length(Lines), Reader#reader{offset = Offset + Bytes});
        {error, Reason} -> {error, Reason}
    end.

%% This file has no more; where the next one does not go on at our record, some were lost.
beyond(#reader{dir = Dir, next = Next, file = File} = Reader, End, Most) ->
    case [First || First <- files(Dir), First > File] of
        [Next | _] -> read(Reader#reader{file = Next, offset = 0}, End, Most);
        [First | _] -> {lost, First - Next, Reader#reader{next = First, file = First, offset = 0}};
        [] -> {lost, End - Next, Reader#reader{next = End, file = none}}
    end.

lines(#reader{dir = Dir, file = First, offset = Offset}, Most) ->
    case file:open(path(Dir, First), [read, raw, binary]) of
        {ok, Fd} ->
            Read = file:pread(Fd, Offset, ?READ_BYTES),
            _ = file:close(Fd),
            case Read of
                {ok, Data} -> whole(Data, Most);
                eof -> {ok, [], 0};
                {error, Reason} -> {error, Reason}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

whole(Data, Most) ->
    Ended = lists:droplast(binary:split(Data, <<"\n">>, [global])),
    Lines = [binary:copy(Line) || Line <- lists:sublist(Ended, Most)],
    {ok, Lines, lists:sum([byte_size(Line) + 1 || Line <- Lines])}.

%%% Cursors

-spec cursor(file:filename_all(), Reader :: string()) -> {ok, place()} | none.
cursor(Dir, Reader) ->
    case file:read_file(cursor_path(Dir, Reader)) of
        {ok, Text} ->
            case re:run(Text, "^([1-9][0-9]*)\\n$", [{capture, all_but_first, binary}]) of
                {match, [Digits]} -> {ok, binary_to_integer(Digits)};
                nomatch -> none
            end;
        {error, _} ->
            none
    end.

%% Written whole or not at all. If it fails, records are read again after a restart.
-spec keep_cursor(file:filename_all(), Reader :: string(), place()) -> ok | {error, term()}.
keep_cursor(Dir, Reader, Next) ->
    Temporary = filename:join(Dir, Reader ++ ".new"),
    case file:write_file(Temporary, [integer_to_binary(Next), $\n]) of
        ok -> file:rename(Temporary, cursor_path(Dir, Reader));
        {error, Reason} -> {error, Reason}
    end.

%% After a power failure a cursor may be lost, or records before it. A reader without a cursor gets
%% all records that are left; one whose cursor is beyond the last record goes on at the next one.
mend_cursors(#spool{dir = Dir, full = Full, first = Last, next = Next}) ->
    Oldest = case Full of [{First, _} | _] -> First; [] -> Last end,
    lists:foreach(fun(Reader) ->
        case cursor(Dir, Reader) of
            {ok, At} when At =< Next -> ok;
            {ok, _} -> keep_cursor(Dir, Reader, Next);
            none -> keep_cursor(Dir, Reader, Oldest)
        end
    end, cursors(Dir)).

%% The readers that have a cursor here.
-spec cursors(file:filename_all()) -> [Reader :: string()].
cursors(Dir) ->
    [filename:basename(Name, ?CURSOR)
     || Name <- filelib:wildcard("*" ?CURSOR, unicode:characters_to_list(Dir))].

%% The reader is of no use any more.
-spec forget_cursor(file:filename_all(), Reader :: string()) -> ok.
forget_cursor(Dir, Reader) ->
    _ = file:delete(cursor_path(Dir, Reader)),
    ok.

cursor_path(Dir, Reader) ->
    filename:join(Dir, Reader ++ ?CURSOR).

%%% Files

%% By their first records, oldest first.
files(Dir) ->
    Names = case file:list_dir(Dir) of {ok, All} -> All; {error, _} -> [] end,
    lists:sort([list_to_integer(Digits)
                || Name <- Names,
                   {match, [Digits]} <- [re:run(Name, "^([0-9]{20})\\.jsonl$",
                                                [{capture, all_but_first, list}])]]).

path(Dir, First) ->
    filename:join(Dir, io_lib:format("~20..0b" ?SUFFIX, [First])).
