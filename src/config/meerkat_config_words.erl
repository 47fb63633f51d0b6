%% Words of a value that says several things, as coturn's connection strings are written:
%% NAME=VALUE, separated by spaces. Pure.
-module(meerkat_config_words).

-export([pairs/1]).

%% The names and their values, in order; `error`: it is not written so. A value with spaces stands
%% in quotation marks, where the character behind a backslash is taken as it is.
-spec pairs(binary()) -> {ok, [{Name :: binary(), Value :: binary()}, ...]} | error.
pairs(Text) ->
    Pair = "\\s*([a-z_]+)=(?:'((?:[^'\\\\]|\\\\.)*)'|([^\\s']\\S*)?)(?=\\s|$)",
    case re:run(Text, ["^(?:", Pair, ")+\\s*$"], [{capture, none}, dollar_endonly]) of
        match ->
            {match, Found} = re:run(Text, Pair, [global, {capture, [1, 2, 3], binary}]),
            {ok, [{Name, value(Quoted, Plain)} || [Name, Quoted, Plain] <- Found]};
        nomatch ->
            error
    end.

value(Quoted, Plain) ->
    Meant = re:replace(Quoted, "\\\\(.)", "\\1", [global, {return, binary}]),
    <<Meant/binary, Plain/binary>>.
