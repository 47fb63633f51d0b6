%% Files that nobody else may read: users with their passwords, a key.
-module(meerkat_private_file).

-export([write/2]).

%% Writes such a file: either the whole content is there afterwards or the file is as it was. At no
%% moment can anybody else read it.
-spec write(binary(), iodata()) -> ok | {error, Reason :: string()}.
write(File, Content) ->
    Temporary = <<File/binary, ".new">>,
    _ = file:delete(Temporary),
    Steps = [fun() -> file:write_file(Temporary, <<>>, [exclusive]) end,
             fun() -> file:change_mode(Temporary, 8#600) end,
             fun() -> file:write_file(Temporary, Content, [sync]) end,
             fun() -> file:rename(Temporary, File) end],
    case done(Steps) of
        ok ->
            ok;
        {error, Reason} ->
            _ = file:delete(Temporary),
            {error, file:format_error(Reason)}
    end.

done([Step | Steps]) ->
    case Step() of
        ok -> done(Steps);
        {error, Reason} -> {error, Reason}
    end;
done([]) ->
    ok.
