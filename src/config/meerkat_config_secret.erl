%% Secrets that lie in files, as Docker and systemd hand them over: NAME_FILE in place of the
%% variable NAME, KEY_file in place of a file's key. Reads them and says what is wrong, never what
%% is in them.
-module(meerkat_config_secret).

-import(meerkat_config_origin, [at/1]).

-export([keys/0, variables/0, key/1, variable/1]).
-export([environment/1, leaves/1]).

%% How many lines there may be; or the fields of the list of groups that it is.
-type field() :: {Field :: binary(), one | several | [field()]}.
-export_type([field/0]).
-type leaves() :: #{Key :: binary() => [meerkat_config_value:leaf(), ...]}.

%% More is no secret but a mistake.
-define(SIZE_MAX, 65536).

%% The keys whose value may lie in a file.
-spec keys() -> [binary()].
keys() ->
    [atom_to_binary(Key) || #{key := Key} <- secrets()].

%% The keys, with how many secrets such a file may have; and the lists of groups that have secrets.
fields() ->
    lists:append([field(atom_to_binary(Key), Type)
                  || #{key := Key, type := Type} <- meerkat_config_schema:rows()]).

field(Key, secret) -> [{Key, one}];
field(Key, {database, Kind}) when Kind =/= sqlite -> [{Key, one}];
field(Key, {list, secret}) -> [{Key, several}];
field(Key, Type) when Type =:= users; Type =:= realms ->
    [{Key, meerkat_config_group:secret_fields(Type)}];
field(_, _) -> [].

%% The variables whose value may.
-spec variables() -> [binary()].
variables() ->
    [<<"TURN_PASSWORD">> | lists:append([Names || #{env := Names} <- secrets()])].

secrets() ->
    [Row || #{type := Type} = Row <- meerkat_config_schema:rows(), is_secret(Type)].

is_secret({database, Kind}) -> Kind =/= sqlite;
is_secret(Type) -> Type =:= secret orelse Type =:= {list, secret}.

%% The variable, and the key, that name the file.
-spec variable(Name :: binary()) -> binary().
variable(Name) -> <<Name/binary, "_FILE">>.

-spec key(Key :: binary()) -> binary().
key(Key) -> <<Key/binary, "_file">>.

%% The environment with the lines of such files as values of their variables: {lines, [Line]}.
-spec environment(#{binary() => binary()}) ->
    {#{binary() => binary() | {lines, binary(), [binary(), ...]}}, [unicode:chardata()]}.
environment(Env) ->
    lists:foldl(
        fun(Name, {Found, Mistakes}) ->
            case {Env, variable(Name)} of
                {#{Name := _}, Variable} when is_map_key(Variable, Env) ->
                    Both = [Name, " and ", Variable, " are both set; one must be left out"],
                    {Found, Mistakes ++ [Both]};
                {_, Variable} when is_map_key(Variable, Env) ->
                    case lines(maps:get(Variable, Env)) of
                        {ok, Lines} -> {Found#{Name => {lines, Variable, Lines}}, Mistakes};
                        {error, Why} -> {Found, Mistakes ++ [[Variable, Why]]}
                    end;
                _ ->
                    {Found, Mistakes}
            end
        end,
        {Env, []},
        variables()
    ).

%% What a file has below KEY_file, as if it stood below KEY. A relative name starts where the file
%% is that has it.
-spec leaves(leaves()) -> {leaves(), [{meerkat_config_value:place(), unicode:chardata()}]}.
leaves(Leaves) ->
    leaves(fields(), Leaves).

leaves(Keys, Leaves) ->
    lists:foldl(fun in_place/2, {Leaves, []}, Keys).

%% The same for fields of a list of groups.
groups(Fields, Leaves) ->
    {InGroups, Others} = lists:partition(fun({Path, _, _}) -> is_member(Path) end, Leaves),
    Groups = maps:groups_from_list(fun({[Index | _], _, _}) -> Index end, InGroups),
    Read = [{Index, leaves(Fields, by_field(Group))} || {Index, Group} <- maps:to_list(Groups)],
    {Others ++ [{[Index, Field | Path], Value, Place}
                || {Index, {Group, _}} <- Read, {Field, Found} <- maps:to_list(Group),
                   {Path, Value, Place} <- Found],
     lists:append([Mistakes || {_, {_, Mistakes}} <- Read])}.

is_member([_, Name | _]) -> is_binary(Name);
is_member(_) -> false.

by_field(Group) ->
    maps:groups_from_list(fun({[_, Field | _], _, _}) -> Field end,
                          fun({[_, _ | Path], Value, Place}) -> {Path, Value, Place} end, Group).

in_place({Key, [_ | _] = Within}, {Leaves, Mistakes}) when is_map_key(Key, Leaves) ->
    case groups(Within, maps:get(Key, Leaves)) of
        {Filled, []} -> {Leaves#{Key := Filled}, Mistakes};
        %% The key is left out: mistakes in groups that lack a secret would only follow from this
        %% one.
        {_, More} -> {maps:remove(Key, Leaves), Mistakes ++ More}
    end;
in_place({Key, Lines}, {Leaves, Mistakes}) when is_atom(Lines) ->
    Name = key(Key),
    case maps:take(Name, Leaves) of
        {[{Path, Value, Place} | _], Rest} ->
            case read(Key, Lines, Path, Value, Place, Rest) of
                {ok, Found} -> {Rest#{Key => Found}, Mistakes};
                {error, Why} -> {Rest, Mistakes ++ [{Place, [at(Place), ": ", Name, Why]}]}
            end;
        error ->
            {Leaves, Mistakes}
    end;
in_place(_, Done) ->
    Done.

read(Key, _, _, _, _, Rest) when is_map_key(Key, Rest) ->
    {error, [" and ", Key, " are both set; one must be left out"]};
read(_, Wanted, [], File, Place, _) when is_binary(File), File =/= <<>> ->
    case {Wanted, lines(filename:absname(File, filename:dirname(maps:get(file, Place))))} of
        {_, {ok, [Line]}} -> {ok, [{[], Line, Place}]};
        {several, {ok, Lines}} -> {ok, [{[N], L, Place} || {N, L} <- numbered(Lines)]};
        {one, {ok, [_ | _]}} -> {error, [names(File), ", which has several lines; one is wanted"]};
        {_, {error, Why}} -> {error, Why}
    end;
read(_, _, _, _, _, _) ->
    {error, " must be the name of a file"}.

numbered(Lines) ->
    lists:zip(lists:seq(0, length(Lines) - 1), Lines).

%% One secret a line; empty lines are none, nor are they wanted at the end. A byte order mark is an
%% editor's and nobody's secret.
lines(File) ->
    case contents(File) of
        {ok, <<B:16, _/binary>>} when B =:= 16#fffe; B =:= 16#feff ->
            {error, [names(File), ", which is in UTF-16; UTF-8 is wanted"]};
        {ok, <<16#efbbbf:24, Bytes/binary>>} ->
            lines(File, Bytes);
        {ok, Bytes} ->
            lines(File, Bytes);
        {error, Why} ->
            {error, [names(File), ", which cannot be read: ", Why]}
    end.

lines(File, Bytes) ->
    Lines = binary:split(Bytes, [<<"\r\n">>, <<"\n">>], [global]),
    case [Line || Line <- Lines, re:run(Line, "\\S") =/= nomatch] of
        [_ | _] = Secrets -> {ok, Secrets};
        [] -> {error, [names(File), ", which is empty"]}
    end.

%% Not one byte more than is wanted: it may be a device.
contents(File) ->
    try file:open(File, [read, raw, binary]) of
        {ok, Device} ->
            Read = file:read(Device, ?SIZE_MAX + 1),
            ok = file:close(Device),
            case Read of
                {ok, Bytes} when byte_size(Bytes) =< ?SIZE_MAX -> {ok, Bytes};
                {ok, _} -> {error, "it has more than 65536 bytes"};
                eof -> {ok, <<>>};
                {error, Reason} -> {error, file:format_error(Reason)}
            end;
        {error, Reason} ->
            {error, file:format_error(Reason)}
    catch
        %% A name with a NUL in it.
        error:_ -> {error, file:format_error(einval)}
    end.

names(File) ->
    [" names ", meerkat_config_value:quote(iolist_to_binary(File))].
