%% Where a value of the configuration came from, and how that is said to the operator. Knows neither
%% keys nor values.
-module(meerkat_config_origin).

-export([at/1, named/2, text/1]).
-export_type([origin/0, resolved/0]).

-type origin() :: default | mongooseice | {env, binary()} | {file, meerkat_config_value:place()}.
%% One value for each key, before they are put together.
-type resolved() :: #{Key :: atom() => {meerkat_config_value:value(), origin()}}.

%% FILE:LINE.
-spec at(meerkat_config_value:place()) -> unicode:chardata().
at(#{file := File, line := 0}) -> File;
at(#{file := File, line := Line}) -> [File, $:, integer_to_list(Line)].

%% A key as its origin calls it, for the beginning of a sentence.
-spec named(Key :: atom(), resolved()) -> unicode:chardata().
named(Key, Resolved) ->
    case maps:get(Key, Resolved) of
        {_, {env, Name}} -> Name;
        {_, {file, Place}} -> [at(Place), ": ", atom_to_binary(Key)];
        {_, _} -> [atom_to_binary(Key), " (default)"]
    end.

%% The origin by itself.
-spec text(origin()) -> binary().
text(default) -> <<"default">>;
text(mongooseice) -> <<"default beside MONGOOSEICE_ variables">>;
text({env, Name}) -> Name;
text({file, Place}) -> unicode:characters_to_binary(at(Place)).
