%% Configuration files in libconfig's language as a list of settings, each with its place: the
%% reader of c_src/conf as a NIF. Knows no key, no type and no default; that is
%% meerkat_config_schema's business.
-module(meerkat_conf_nif).

-export([read/1, read_string/1]).

-export_type([setting/0, path/0, value/0, place/0, fault/0]).

-on_load(init/0).
-nifs([read_nif/1, read_string/1]).

%% Raised whenever arguments or results of the native functions change; also in
%% c_src/nif/conf_nif.c. A library of another number is refused.
-define(ABI, 1).

-type setting() :: {path(), value(), place()}.
%% From the root to the setting: names of a group's members, and indexes from 0 in lists and
%% arrays: `listeners = ( { port = 3478; } );' has the one path
%% `[<<"listeners">>, 0, <<"port">>]'.
-type path() :: [binary() | non_neg_integer(), ...].
%% Strings are the bytes of the file, escapes undone; integers have 64 bits. A group, list or
%% array appears in the paths of what is in it, and as a value only if nothing is.
-type value() :: integer() | float() | boolean() | binary() | empty_group | empty_list.
%% Lines count from 1; 0 is for what others put in a file's place. The line of a string that ends a
%% list may be the one after it.
-type place() :: #{file := binary(), line := non_neg_integer()}.
%% Line 0 stands for the file as a whole: it is not there, not readable, or too long.
-type fault() :: {File :: binary(), Line :: non_neg_integer(), Reason :: binary()}.

%% @doc The settings of a file and of those it includes, in the order of the text.
%%
%% A line that begins with `@include "name"' stands for that file, or for the files `*.conf' and
%% `*.cfg' of that directory in byte order; a relative name starts at the directory of the file
%% that includes it. Limits: 1 MiB in all, 256 files, 8 levels of includes, 32 of nesting.
%% Exits with badarg when the name holds a NUL or passes 1023 bytes.
-spec read(file:name_all()) -> {ok, [setting()]} | {error, fault()}.
read(Name) when is_binary(Name) ->
    read_nif(Name);
read(Name) ->
    case unicode:characters_to_binary(filename:flatten(Name), unicode,
                                      file:native_name_encoding()) of
        Bytes when is_binary(Bytes) -> read_nif(Bytes);
        _ -> error(badarg)
    end.

%% @doc The same from text, which goes by the name of `string' in places and faults. It may not
%% include files.
-spec read_string(iodata()) -> {ok, [setting()]} | {error, fault()}.
read_string(_Text) ->
    erlang:nif_error(not_loaded).

-spec read_nif(binary()) -> {ok, [setting()]} | {error, fault()}.
read_nif(_Name) ->
    erlang:nif_error(not_loaded).

%%% Loading

init() ->
    erlang:load_nif(filename:join(priv(), "meerkat_conf_nif"), ?ABI).

%% Where the application is, or beside the directory this module was loaded from.
priv() ->
    case code:priv_dir(meerkat) of
        {error, bad_name} ->
            filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
        Dir ->
            Dir
    end.
