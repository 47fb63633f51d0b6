%% A node that is Meerkat's own: reads the configuration, sets up the log, starts the one server and
%% opens the socket for meerkatctl. In the foreground it also prints what a person needs to use the
%% server; log lines go to stderr, this to stdout. Embedders have meerkat:child_spec/2.
-module(meerkat_boot).

-export([start/0, serve/1, credentials/1]).

-define(SERVER, default).
%% Who the printed credentials are for, and for how many seconds.
-define(USER, <<"guest">>).
-define(TTL, 86400).

%% Called by `erl -s meerkat_boot -extra [-c FILE]`. Ends the node with status 1 when the server
%% cannot be started, 2 when the arguments make no sense; a sentence on stderr says why.
-spec start() -> ok.
start() ->
    Options = options(init:get_plain_arguments()),
    %% Not permanent: watch/0 has better words for its end.
    {ok, _} = application:ensure_all_started(meerkat),
    ok = serve(Options),
    io:put_chars(banner(meerkat:credentials(?SERVER, ?USER, ?TTL))).

%% The same without the banner, for a release, whose application meerkat calls it (meerkat_app).
%% Options are meerkat_config:load/1's. Ends the node with status 1 where start/0 does.
-spec serve(#{file => file:name_all()}) -> ok.
serve(Options) ->
    case meerkat_config:load(Options) of
        {ok, Config, Warnings} -> serve(Options, Config, Warnings);
        {error, Mistakes} -> give_up(1, Mistakes)
    end.

options([]) ->
    #{};
options(["-c", File]) ->
    #{file => File};
options(_) ->
    give_up(2, ["usage: meerkatctl foreground [-c FILE]"]).

serve(Options, Config, Warnings) ->
    ok = meerkat_log:start(Config),
    _ = [logger:warning("~ts", [Warning]) || Warning <- Warnings],
    case meerkat:start_server(?SERVER, Config) of
        {ok, _} ->
            ok = meerkat_admin:loaded(?SERVER, Options),
            ok = meerkat_signals:take_over(?SERVER),
            _ = spawn(fun watch/0),
            open_admin_socket(),
            {ok, _} = supervisor:start_child(meerkat_sup, meerkat_systemd:child_spec(?SERVER)),
            meerkat_log:flush();
        {error, Reason} ->
            ok = meerkat_log:flush(),
            give_up(1, [meerkat:format_error(Reason)])
    end.

%% The node is the server's: it ends with it, unless it is ending anyway.
watch() ->
    Monitor = erlang:monitor(process, meerkat_sup),
    receive {'DOWN', Monitor, process, _, _} -> ok end,
    case init:get_status() of
        {stopping, _} ->
            ok;
        _ ->
            ok = meerkat_log:flush(),
            give_up(1, ["the server has given up; the lines before this one say why"])
    end.

-spec give_up(1 | 2, [unicode:chardata()]) -> no_return().
give_up(Status, Sentences) ->
    _ = [io:format(standard_error, "~ts~n", [Sentence]) || Sentence <- Sentences],
    halt(Status).

%% The server serves without it; only meerkatctl cannot ask it then.
open_admin_socket() ->
    case meerkat_admin_socket:directory() of
        {ok, Directory} ->
            Spec = meerkat_admin_socket:child_spec(Directory, ?SERVER),
            {ok, _} = supervisor:start_child(meerkat_sup, Spec),
            ok;
        {error, Sentence} ->
            logger:warning("meerkatctl cannot ask this server: ~ts", [Sentence])
    end.

banner(#{username := User, password := Password, uris := Uris} = Credentials) ->
    {ok, Version} = application:get_key(meerkat, vsn),
    Command = os:getenv("MEERKATCTL", "meerkatctl"),
    [Turn | _] = of_kind("turn:", Uris),
    [
        "\nMeerkat ", Version, " is serving.\n\n",
        credentials(Credentials),
        "\n"
        "  test it     ", Command, " check\n"
        "  from afar   ", Command, " check '", Turn, "' --user '", User, "' --password '", Password,
        "'\n"
        "  stop it     Ctrl-C\n\n"
    ].

%% Credentials as a person may paste them: URIs, user, password, and RTCPeerConnection's iceServers.
-spec credentials(meerkat_credentials:credentials()) -> unicode:chardata().
credentials(#{username := User, password := Password, ttl := Ttl, uris := Uris,
              iceServers := Servers}) ->
    Stun = of_kind("stun:", Uris),
    Turn = of_kind("turn:", Uris),
    [
        [["  STUN        ", Uri, "\n"] || Uri <- Stun],
        [["  TURN        ", Uri, "\n"] || Uri <- Turn],
        "  username    ", User, "\n",
        "  password    ", Password, "\n",
        "  until       ", until(Ttl), "\n",
        "  iceServers  ", meerkat_json:encode([in_order(Server) || Server <- Servers]), "\n"
    ].

of_kind(Scheme, Uris) ->
    [Uri || Uri <- Uris, string:prefix(Uri, Scheme) =/= nomatch].

until(Ttl) ->
    End = erlang:system_time(second) + Ttl,
    calendar:system_time_to_rfc3339(End, [{offset, "Z"}]).

%% As people know it.
in_order(Server) ->
    {[{Key, maps:get(Key, Server)} || Key <- [urls, username, credential],
                                      is_map_key(Key, Server)]}.
