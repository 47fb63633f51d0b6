%% Starts the application. It opens no socket unless its environment has `autostart`; then it
%% serves what configuration file and environment say. A node of its own is started by meerkat_boot.
-module(meerkat_app).
-behaviour(application).

-include_lib("kernel/include/logger.hrl").

-export([start/2, stop/1]).

%% Application environment: {autostart, false | true}, default false; {config_file, Path}, default
%% what CONFIG_FILE of the process environment says. The server's name is `default`.
-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case meerkat_sup:start_link() of
        {ok, Sup} ->
            case autostart(application:get_env(meerkat, autostart, false)) of
                ok -> {ok, Sup};
                {error, Reason} -> {error, Reason}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

-spec stop(term()) -> ok.
stop(_State) ->
    ok.

autostart(false) ->
    ok;
autostart(true) ->
    case meerkat_config:load(options()) of
        {ok, #{log_level := Level} = Config, Warnings} ->
            ok = logger:set_application_level(meerkat, Level),
            _ = [?LOG_WARNING("~ts", [Warning]) || Warning <- Warnings],
            _ = [?LOG_NOTICE("~ts", [Line]) || Line <- meerkat_config:what_secret_opens(Config)],
            started(meerkat:start_only_server(default, Config));
        {error, Mistakes} ->
            _ = [?LOG_ERROR("~ts", [Mistake]) || Mistake <- Mistakes],
            {error, configuration}
    end.

options() ->
    case application:get_env(meerkat, config_file) of
        {ok, File} -> #{file => File};
        undefined -> #{}
    end.

started({ok, _Pid}) ->
    ok;
started({error, Sentence}) ->
    ?LOG_ERROR("~tp", [Sentence]),
    {error, Sentence}.
