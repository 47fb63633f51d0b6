%% The commands of rel/bin/meerkatctl. It knows how to ask a server that runs here, how to read a
%% configuration and how to say what came of it; it changes nothing by itself.
-module(meerkat_cli).

-export([main/1, run/1]).

%% Seconds that credentials drawn for a check, or printed, are good for.
-define(CHECK_TTL, 600).
-define(PRINTED_TTL, 86400).

%% Runs a command and ends the node: 0 done, 1 it failed, 2 the command makes no sense.
-spec main([string()]) -> no_return().
main(Args) ->
    halt(run(Args)).

%% Runs a command and says how to exit.
-spec run([string()]) -> 0 | 1 | 2.
run(["check" | Args]) ->
    meerkat_check:main(check(Args));
run(["config", "check", File]) ->
    %% The file by itself, whatever this shell's environment says.
    case meerkat_config:load(#{file => File, env => []}) of
        {ok, _, _} ->
            io:format("~ts: good~n", [File]),
            0;
        {error, Mistakes} ->
            mistakes(Mistakes)
    end;
run(["config", "show"]) ->
    show(#{});
run(["config", "show", File]) ->
    show(#{file => File});
run(["credentials"]) ->
    run(["credentials", "guest"]);
run(["credentials", User]) ->
    case meerkat_admin_socket:call({credentials, [text(User), ?PRINTED_TTL]}) of
        {ok, Credentials} ->
            io:put_chars(meerkat_boot:credentials(Credentials)),
            0;
        {error, Reason} ->
            failed(Reason)
    end;
run(["info"]) ->
    case meerkat_admin_socket:call({info, []}) of
        {ok, Info} ->
            io:format("~tp~n", [Info]),
            0;
        {error, Reason} ->
            failed(Reason)
    end;
run(["reload"]) ->
    case meerkat_admin_socket:call({reload, []}) of
        {ok, Warnings} ->
            _ = [io:format(standard_error, "warning: ~ts~n", [Warning]) || Warning <- Warnings],
            0;
        {error, Reason} ->
            failed(Reason)
    end;
run(["drain"]) ->
    told({drain, []});
run(["drain", Servers]) ->
    told({redirect, [text(Servers)]});
run(["undrain"]) ->
    told({undrain, []});
run([Help]) when Help =:= "help"; Help =:= "--help"; Help =:= "-h" ->
    io:put_chars(usage()),
    0;
run(_) ->
    io:put_chars(standard_error, usage()),
    2.

usage() ->
    "usage: meerkatctl COMMAND\n"
    "\n"
    "  foreground [-c FILE]       start a server here; Ctrl-C stops it\n"
    "  check [URI] [OPTIONS]      does a TURN server work from here? Without URI: the one that\n"
    "                             was started here. check --help tells the options\n"
    "  credentials [USER]         credentials for a day from the server started here\n"
    "  info                       what the server started here is doing\n"
    "  reload                     read file and environment again; what cannot change while the\n"
    "                             server runs is named, and then nothing changes\n"
    "  drain [IP:PORT[,...]]      no new allocations; send clients to the key alternate_server,\n"
    "                             or to these servers\n"
    "  undrain                    take allocations again\n"
    "  config check FILE          what is wrong with a configuration file\n"
    "  config show [FILE]         what each key comes to, and whence\n".

told(Question) ->
    case meerkat_admin_socket:call(Question) of
        {ok, done} -> 0;
        {error, Reason} -> failed(Reason)
    end.

%% Without a URI the server that was started here is meant, if there is one; what is then not given
%% it is asked for.
check(Args) ->
    Question = {credentials, [<<"check">>, ?CHECK_TTL]},
    case names_server(Args) orelse meerkat_admin_socket:call(Question) of
        {ok, #{uris := Uris} = Credentials} ->
            [uri(Uris) | credentials(Args, Credentials)];
        _ ->
            Args
    end.

names_server(["--help" | _]) -> true;
names_server(["-h" | _]) -> true;
names_server(["--" ++ _, _ | Rest]) -> names_server(Rest);
names_server(["--" ++ _]) -> false;
names_server([_ | _]) -> true;
names_server([]) -> false.

uri(Uris) ->
    [Turn | _] = [Uri || Uri <- Uris, string:prefix(Uri, "turn:") =/= nomatch],
    unicode:characters_to_list(Turn).

credentials(Args, #{username := User, password := Password}) ->
    case [Option || Option <- ["--user", "--secret"], lists:member(Option, Args)] of
        [] ->
            ["--user", unicode:characters_to_list(User),
                "--password", unicode:characters_to_list(Password) | Args];
        _ ->
            Args
    end.

show(Options) ->
    case meerkat_config:load(Options) of
        {ok, Config, Warnings} ->
            _ = [io:format("~-24s ~-32ts ~ts~n", [atom_to_list(Key), Value, Origin])
                || {Key, Value, Origin} <- meerkat_config:effective(Config)],
            _ = [io:format(standard_error, "warning: ~ts~n", [Warning]) || Warning <- Warnings],
            0;
        {error, Mistakes} ->
            mistakes(Mistakes)
    end.

mistakes(Mistakes) ->
    _ = [io:format(standard_error, "~ts~n", [Mistake]) || Mistake <- Mistakes],
    1.

failed(no_server) ->
    failed(<<"no server was started here by this user; `make run` starts one">>);
failed(Sentence) ->
    io:format(standard_error, "~ts~n", [Sentence]),
    1.

text(Arg) ->
    unicode:characters_to_binary(Arg).
