%% JSON out and in, by a library. Whoever wants JSON comes here, so that there is one door to it.
-module(meerkat_json).

-export([encode/1, encode_ascii/1, decode/1]).
-export_type([value/0]).

%% Objects are maps, or lists in a tuple where the order of their members matters to a reader; text
%% is UTF-8; atoms other than these three are text too.
-type value() ::
    null | true | false | atom() | number() | binary() | [value()]
    | #{atom() | binary() => value()} | {[{atom() | binary(), value()}]}.

%% One line without a line break, as UTF-8. Text that is not UTF-8 keeps what of it is.
-spec encode(value()) -> binary().
encode(Value) ->
    iolist_to_binary(jiffy:encode(Value, [force_utf8])).

%% The same with nothing but ASCII in it: what no terminal obeys and every tool reads.
-spec encode_ascii(value()) -> binary().
encode_ascii(Value) ->
    iolist_to_binary(jiffy:encode(Value, [force_utf8, uescape])).

%% Objects come back as maps with binary keys.
-spec decode(iodata()) -> {ok, value()} | error.
decode(Text) ->
    try {ok, jiffy:decode(Text, [return_maps])} catch _:_ -> error end.
