%% What the application and OTP log while something runs, line by line, for suites that ask.
-module(log_kit).

-export([logged/1, logged/2, written/1]).
-export([log/2]).

%% The lines that Fun's time brought, from info on or from another level, each formatted as it would
%% be written.
-spec logged(fun(() -> term())) -> [string()].
logged(Fun) -> logged(info, Fun).

-spec logged(logger:level(), fun(() -> term())) -> [string()].
logged(From, Fun) ->
    logged(From, fun message/1, Fun).

%% The same from debug on, as an operator reads them: with their level, without the time.
-spec written(fun(() -> term())) -> [string()].
written(Fun) ->
    logged(debug, fun line/1, Fun).

logged(From, Format, Fun) ->
    Level = maps:get(level, logger:get_primary_config()),
    Filters = [{progress, {fun logger_filters:progress/2, stop}}],
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self(), format => Format},
                                                filters => Filters}),
    ok = logger:set_primary_config(level, From),
    try
        _ = Fun(),
        lines()
    after
        ok = logger:set_primary_config(level, Level),
        ok = logger:remove_handler(?MODULE)
    end.

lines() ->
    receive {log, Line} -> [Line | lines()]
    after 0 -> []
    end.

%% logger's handler callback, called in the process that logs.
-spec log(logger:log_event(), map()) -> ok.
log(Event, #{config := #{to := Pid, format := Format}}) ->
    Pid ! {log, unicode:characters_to_list(Format(Event))},
    ok.

message(Event) ->
    logger_formatter:format(Event, #{single_line => true, template => [msg]}).

%% The journal has a number in place of the time.
line(Event) ->
    [_Priority, Line] = string:split(meerkat_log:format(Event, #{secrets => [], format => human,
                                                                 journal => true}), ">"),
    string:trim(Line).
