%% How log lines look: one line each on stderr, control characters spelled out, configured secrets
%% struck out wherever they turn up. It decides nothing about what is logged.
-module(meerkat_log).

-export([start/2, change/2, flush/0, format/2]).

%% A secret shorter than this would strike out half of every line.
-define(SHORTEST_STRUCK_OUT, 4).

%% Sends the log of this node to stderr in our format, from Level on. Nothing is printed by the
%% handler that was there before.
-spec start(logger:level(), Secrets :: [binary()]) -> ok.
start(Level, Secrets) ->
    _ = logger:remove_handler(default),
    ok = logger:add_handler(default, logger_std_h, #{
        config => #{type => standard_error},
        filters => [{progress, {fun logger_filters:progress/2, stop}}],
        formatter => {?MODULE, #{secrets => [S || S <- Secrets, long_enough(S)]}}
    }),
    logger:set_primary_config(level, Level).

%% Another level, and other secrets; those that were are struck out as before.
-spec change(logger:level(), Secrets :: [binary()]) -> ok.
change(Level, Secrets) ->
    {ok, #{formatter := {_, #{secrets := Known}}}} = logger:get_handler_config(default),
    Fresh = [S || S <- Secrets, long_enough(S), not lists:member(S, Known)],
    ok = logger:update_formatter_config(default, secrets, Fresh ++ Known),
    logger:set_primary_config(level, Level).

%% Returns once every line logged before it is on stderr.
-spec flush() -> ok.
flush() ->
    logger_std_h:filesync(default).

long_enough(Secret) ->
    byte_size(Secret) >= ?SHORTEST_STRUCK_OUT.

%% logger's formatter callback.
-spec format(logger:log_event(), #{secrets := [binary()]}) -> unicode:chardata().
format(Event, #{secrets := Secrets}) ->
    Line = logger_formatter:format(Event, #{
        single_line => true,
        depth => 30,
        chars_limit => 4096,
        template => [time, " ", level, ": ", {session, ["session=", session, " "], []}, msg]
    }),
    [escape(unicode:characters_to_list(strike_out(Secrets, Line))), $\n].

strike_out(Secrets, Line) ->
    lists:foldl(
        fun(Secret, Text) -> string:replace(Text, Secret, "***", all) end,
        unicode:characters_to_binary(Line),
        [Secret || Secret <- Secrets, is_list(unicode:characters_to_list(Secret))]
    ).

escape([C | Rest]) when C < 32; C >= 127, C < 160; C =:= 16#2028; C =:= 16#2029 ->
    [io_lib:format("\\x~2.16.0b", [C]) | escape(Rest)];
escape([C | Rest]) ->
    [C | escape(Rest)];
escape([]) ->
    [].
