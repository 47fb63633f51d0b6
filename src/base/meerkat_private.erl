%% Directories that nobody else can enter: sockets are in them that open the server.
-module(meerkat_private).

-export([make/1, is_ours/1]).

-include_lib("kernel/include/file.hrl").

%% Makes it where it is missing. The error is a sentence.
-spec make(file:filename_all()) -> ok | {error, unicode:chardata()}.
make(Dir) ->
    case file:make_dir(Dir) of
        ok ->
            _ = file:change_mode(Dir, 8#700),
            is_ours(Dir);
        {error, eexist} ->
            is_ours(Dir);
        {error, Reason} ->
            {error, [Dir, ": ", file:format_error(Reason)]}
    end.

%% Ours, no link, and closed to everybody else: in /tmp somebody may have been there before us.
-spec is_ours(file:filename_all()) -> ok | {error, unicode:chardata()}.
is_ours(Dir) ->
    Uid = meerkat_unix:uid(),
    case file:read_link_info(Dir) of
        {ok, #file_info{type = directory, uid = Uid, mode = Mode}} when Mode band 8#077 =:= 0 ->
            ok;
        {ok, _} ->
            Owner = integer_to_list(Uid),
            {error, [Dir, " must be a directory of user ", Owner, " with mode 0700"]};
        {error, Reason} ->
            {error, [Dir, ": ", file:format_error(Reason)]}
    end.
