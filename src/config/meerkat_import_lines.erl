%% A turnserver.conf as turnserver reads it: a key, what parts it from its value, quotes, comments,
%% numbers and switches. Pure; it knows which texts are lines, and no key.
%%
%% A line is KEY, then any mix of blanks and equals signs, then the value up to the end of the line.
%% # begins a comment only where a line begins. A value in quotes is what is in them. A number is
%% the digits a value begins with; what stands behind them does not matter to turnserver. A switch
%% is on without a value.
-module(meerkat_import_lines).

-export([read/1, all/2, last/2, number/1, switch/1, uncommented/1, comment/1]).
-export_type([entry/0, note/0]).

-type entry() :: {Line :: pos_integer(), Key :: binary(), Value :: binary()}.
%% A line and what the operator should know of it; 0 stands for the file as a whole.
-type note() :: {Line :: non_neg_integer(), unicode:chardata()}.

%% turnserver's buffer; it takes what is longer for two lines.
-define(LINE_MAX, 1023).
-define(BOM, 16#ef, 16#bb, 16#bf).

%% The keys in the order of the file, and the lines that have none.
-spec read(Text :: binary()) -> {[entry()], [note()]}.
read(<<?BOM, Text/binary>>) ->
    {Entries, Notes} = read(Text),
    {Entries, [{1, "turnserver does not know the key of this line, for a byte order mark stands "
                   "before it; it is left out here"} || {1, _, _} <- Entries] ++ Notes};
read(Text) ->
    Lines = binary:split(Text, <<"\n">>, [global]),
    Read = [{N, line(Line)} || {N, Line} <- lists:zip(lists:seq(1, length(Lines)), Lines)],
    {[{N, Key, Value} || {N, {_, Key, Value}} <- Read],
     [{N, Why} || {N, {error, Why}} <- Read]
         ++ [{N, [Key, " is not in UTF-8; it was read as Latin-1"]}
             || {N, {latin1, Key, _}} <- Read]}.

line(Line) when byte_size(Line) > ?LINE_MAX ->
    {error, "this is longer than 1023 bytes, which turnserver takes for two lines"};
line(Line) ->
    case re:replace(Line, "^[ \\t]+|\\s+$", "", [global, {return, binary}]) of
        <<>> -> none;
        <<"#", _/binary>> -> none;
        Trimmed -> parted(re:run(Trimmed, "^([A-Za-z0-9_-]+)(?:[ =\\t]+(.*))?$",
                                 [{capture, all_but_first, binary}, dotall]))
    end.

parted({match, [<<"-", _/binary>> | _]}) ->
    {error, "turnserver knows no keys with dashes before them in a file, and passes this one over"};
parted({match, [Key]}) ->
    {entry, Key, <<>>};
parted({match, [Key, Value]}) ->
    Bare = unquoted(Value),
    case unicode:characters_to_list(Bare) of
        Chars when is_list(Chars) -> {entry, Key, Bare};
        _ -> {latin1, Key, unicode:characters_to_binary(Bare, latin1)}
    end;
parted(nomatch) ->
    {error, "this is no line of a turnserver.conf"}.

%% A quotation mark at the end goes only where one stood at the beginning.
unquoted(<<$", Value/binary>>) ->
    Bare = re:replace(Value, "\\s+$", "", [{return, binary}]),
    case byte_size(Bare) > 0 andalso binary:last(Bare) of
        $" -> binary:part(Bare, 0, byte_size(Bare) - 1);
        _ -> Bare
    end;
unquoted(Value) ->
    Value.

-spec all(Key :: binary(), [entry()]) -> [{pos_integer(), binary()}].
all(Key, Entries) ->
    [{Line, Value} || {Line, Name, Value} <- Entries, Name =:= Key].

%% Of a key that stands there more than once the last counts.
-spec last(Key :: binary(), [entry()]) -> {ok, pos_integer(), binary()} | none.
last(Key, Entries) ->
    case all(Key, Entries) of
        [] ->
            none;
        Found ->
            {Line, Value} = lists:last(Found),
            {ok, Line, Value}
    end.

%% The number a value begins with, as text; the value itself where it begins with none.
-spec number(Value :: binary()) -> binary().
number(Value) ->
    case re:run(Value, "^\\s*([-+]?[0-9]+)", [{capture, all_but_first, binary}]) of
        {match, [Digits]} -> Digits;
        nomatch -> Value
    end.

%% turnserver looks at the first letter only, and does not start where it is another one.
-spec switch(Value :: binary()) -> on | off | error.
switch(Value) ->
    case uncommented(Value) of
        <<>> -> on;
        <<C, _/binary>> when C =:= $0; C =:= $n; C =:= $N; C =:= $f; C =:= $F -> off;
        <<C, _/binary>> when C >= $1, C =< $9; C =:= $y; C =:= $Y; C =:= $t; C =:= $T -> on;
        Word ->
            case string:lowercase(Word) of
                <<"off">> -> off;
                <<"on">> -> on;
                _ -> error
            end
    end.

%% A value without the comment and the semicolon that people write behind it.
-spec uncommented(Value :: binary()) -> binary().
uncommented(Value) ->
    re:replace(Value, "(?:^|\\s+)#.*$|\\s*;\\s*$|\\s+$", "", [global, dotall, {return, binary}]).

%% Does a text end in what looks like a comment? To turnserver it is part of the text.
-spec comment(Value :: binary()) -> {ok, binary()} | none.
comment(Value) ->
    case re:run(Value, "\\s(#.*)$", [{capture, all_but_first, binary}, dotall]) of
        {match, [Comment]} -> {ok, Comment};
        nomatch -> none
    end.
