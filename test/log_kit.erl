%% What the application and OTP log while something runs, line by line, for suites that ask.
-module(log_kit).

-export([logged/1, logged/2]).
-export([log/2]).

%% The lines that Fun's time brought, from info on or from another level, each formatted as it would
%% be written.
-spec logged(fun(() -> term())) -> [string()].
logged(Fun) -> logged(info, Fun).

-spec logged(logger:level(), fun(() -> term())) -> [string()].
logged(From, Fun) ->
    Level = maps:get(level, logger:get_primary_config()),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}}),
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
log(Event, #{config := #{to := Pid}}) ->
    Line = logger_formatter:format(Event, #{single_line => true, template => [msg]}),
    Pid ! {log, unicode:characters_to_list(Line)},
    ok.
