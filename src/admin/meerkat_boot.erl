%% Starts a node of Meerkat's own: reads the configuration, sets up the log, starts the one server
%% and opens the socket for meerkatctl. In the foreground it also prints to stdout what a person
%% needs to use the server; log lines go to stderr. Embedders use meerkat:child_spec/1 instead.
-module(meerkat_boot).

-export([start/0, serve/0, stop/0, restart/0, credentials/1]).

-define(SERVER, default).
%% Who the printed credentials are for, and for how many seconds.
-define(USER, <<"guest">>).
-define(TTL, 86400).
%% EX_CONFIG of sysexits.h, by which systemd knows it too.
-define(BAD_CONFIGURATION, 78).
%% EX_TEMPFAIL.
-define(TO_BE_STARTED, 75).

%% Called by `erl -s meerkat_boot -extra [-c FILE] [--self-signed]`. Ends the node with status 1
%% when the server cannot be started, 2 when the arguments make no sense; a sentence on stderr says
%% why.
-spec start() -> ok.
start() ->
    ok = serve(options(init:get_plain_arguments()), 1),
    try
        io:put_chars(banner(credentials()))
    catch
        %% A server serves also when nobody reads its stdout.
        error:terminated -> ok
    end.

%% The same for a service (rel/bin/meerkat): without arguments, and without the banner. The exit
%% status of a wrong configuration is one of its own, so that systemd does not start it again.
-spec serve() -> ok.
serve() ->
    serve(#{}, ?BAD_CONFIGURATION).

%% Ends the node at once, in order, as rel/bin/meerkat is asked to.
-spec stop() -> ok.
stop() ->
    ok = meerkat_audit:ends({command, "meerkat stop"}),
    meerkat_drain:end_node().

%% Ends the node at once and leaves its relay program to the next node, for `meerkat restart`. After
%% this exit status systemd starts the service again.
-spec restart() -> ok | {error, string()}.
restart() ->
    #{survive := Seconds} = meerkat_registry:settings(?SERVER),
    case meerkat_keep:is_wanted(?SERVER) andalso Seconds > 0 of
        true ->
            ok = meerkat_audit:ends({command, "meerkat restart"}),
            _ = meerkat_log:flush(),
            halt(?TO_BE_STARTED, [{flush, false}]);
        false ->
            {error, "its relay program would end with it: see the key survive"}
    end.

serve(Given, IfBad) ->
    Options = Given#{own_node => true},
    %% Not as a permanent application: watch/0 says more clearly why it has ended.
    {ok, _} = application:ensure_all_started(meerkat),
    ok = meerkat_env:speak_utf8(),
    case meerkat_config:load(Options) of
        {ok, Config, Warnings} -> serve(Options, Config, Warnings);
        {error, Mistakes} -> give_up(IfBad, Mistakes)
    end.

options([]) ->
    #{};
options(["-c", File | More]) ->
    (options(More))#{file => File};
%% It is set as the variable, so that a reload, which reads the environment again, finds it too.
options(["--self-signed" | More]) ->
    true = os:putenv("TLS_SELF_SIGNED", "true"),
    options(More);
options(_) ->
    give_up(2, ["usage: meerkatctl foreground [-c FILE] [--self-signed]"]).

serve(Options, Given, Warnings) ->
    ok = meerkat_log:start(Given),
    Config = with_run_dir(meerkat_admin_socket:directory(), Given),
    _ = [logger:warning("~ts", [Warning]) || Warning <- Warnings],
    _ = [logger:notice("~ts", [Sentence]) || Sentence <- meerkat_config:what_secret_opens(Config)],
    case meerkat_epmd:start_node(Config) of
        ok -> start_server(Options, Config);
        {error, Sentence} -> not_started(Sentence)
    end.

start_server(Options, Config) ->
    Start = fun() -> meerkat:start_only_server(?SERVER, Config) end,
    case meerkat_log:without_start_errors(Start) of
        {ok, _} ->
            ok = meerkat_admin:loaded(?SERVER, Options),
            ok = meerkat_signals:take_over(?SERVER),
            _ = spawn(fun watch/0),
            ok = meerkat_sup:start_helpers(admin_socket() ++ [meerkat_systemd:child_spec(?SERVER)]),
            _ = meerkat_log:flush(),
            ok;
        {error, Reason} ->
            not_started(meerkat:format_error(Reason))
    end.

%% The run directory is where the next node finds the relay program. If there is none,
%% admin_socket/0 logs why.
with_run_dir({ok, Directory}, Config) -> Config#{run_dir => Directory};
with_run_dir({error, _}, Config) -> Config.

%% Says why on stderr, once: as a line of the log, unless the level keeps errors out of it.
-spec not_started(unicode:chardata()) -> no_return().
not_started(Sentence) ->
    case logger:allow(error, ?MODULE) of
        true ->
            ok = logger:error("~ts", [Sentence]),
            _ = meerkat_log:flush(),
            halt(1);
        false ->
            give_up(1, [Sentence])
    end.

%% Ends the node when its server has ended, unless the node is ending anyway.
watch() ->
    Monitor = erlang:monitor(process, meerkat_sup),
    receive {'DOWN', Monitor, process, _, _} -> ok end,
    case meerkat_drain:is_node_ending() of
        true ->
            ok;
        false ->
            _ = meerkat_log:flush(),
            give_up(1, ["the server has given up; the lines before this one say why"])
    end.

-spec give_up(1 | 2 | ?BAD_CONFIGURATION, [unicode:chardata()]) -> no_return().
give_up(Status, Sentences) ->
    _ = [io:format(standard_error, "~ts~n", [Sentence]) || Sentence <- Sentences],
    halt(Status).

%% Without a directory for the socket the server runs all the same, but meerkatctl cannot ask it.
admin_socket() ->
    case meerkat_admin_socket:directory() of
        {ok, Directory} ->
            [meerkat_admin_socket:child_spec(Directory, ?SERVER)];
        {error, Sentence} ->
            logger:warning("meerkatctl cannot ask this server: ~ts", [Sentence]),
            []
    end.

%% Credentials for the banner. If users are configured and no secret, there are none: the users have
%% passwords, and nobody has asked for the secret that was drawn.
credentials() ->
    #{is_drawn := IsDrawn} = meerkat_registry:settings(?SERVER),
    case IsDrawn andalso own_users() of
        [_ | _] -> {error, {no_secret, <<>>}};
        _ -> meerkat_credentials:make(?SERVER, ?USER, #{ttl => ?TTL})
    end.

%% Those of the server's own realm.
own_users() ->
    #{config := Config} = meerkat_registry:settings(?SERVER),
    #{realm := Realm} = Config(),
    users_of(Realm).

%% Without those of a database: there may be many, and it may not answer.
users_of(Realm) ->
    [User || #{realm := Of} = User <- meerkat_users:list(?SERVER), Of =:= Realm].

%% Without a secret no credentials can be made, and the banner shows the users instead.
banner(Made) ->
    {ok, Version} = application:get_key(meerkat, vsn),
    Command = os:getenv("MEERKATCTL", "meerkatctl"),
    {Who, Tests} = told(Made, Command),
    ["\nMeerkat ", Version, " is serving.\n\n", Who, realms(), pages(), "\n", Tests,
     "  stop it     Ctrl-C\n\n"].

%% A line for each other realm: its first URI, and who may use it.
realms() ->
    #{tenants := Tenants} = meerkat_registry:settings(?SERVER),
    [realm(Realm, Tenant) || {Realm, Tenant} <- lists:sort(maps:to_list(Tenants))].

realm(Realm, #{secrets := Secrets}) ->
    #{turn := Turn} = meerkat_services:uris(?SERVER, Realm),
    Users = users_of(Realm),
    ["  realm       ", meerkat_config_value:quote(Realm), ": ",
     case Turn of
         [] -> "no listener";
         [Uri | _] -> Uri
     end,
     [", credentials from its secret" || Secrets() =/= []],
     [[", users ", names(Users)] || Users =/= []], "\n"].

pages() ->
    case meerkat_http:address(?SERVER) of
        none ->
            [];
        Address ->
            Url = ["http://", meerkat_text:address(Address)],
            ["  status      ", Url, "/\n  try it      ", Url, "/ice\n"]
    end.

told({ok, #{username := User, password := Password, uris := Uris} = Credentials}, Command) ->
    {[credentials(Credentials), certificates(meerkat_status:certificates(?SERVER))],
     tests(of_kind("turn", Uris), Command, [" --user '", User, "' --password '", Password, "'"],
           "")};
told({error, {no_secret, _}}, Command) ->
    #{stun := Stun, turn := Turn} = meerkat_services:uris(?SERVER, all),
    Users = own_users(),
    Who = [" --user ", login(Users), " --password PASSWORD"],
    {[uris(Stun, Turn), "  users       ", users(Users), "\n",
      certificates(meerkat_status:certificates(?SERVER))], tests(Turn, Command, Who, Who)}.

%% Clients can recognise a self-signed certificate only by its fingerprint.
certificates(Certificates) ->
    [["  certificate self-signed, ", File, "\n"
      "  fingerprint ", Fingerprint, "\n"]
     || #{self_signed := true, file := File, fingerprint := Fingerprint} <- Certificates].

%% Commands that test the server: none if clients cannot be told an address; and one for TLS if the
%% certificate is self-signed, with its fingerprint.
tests([Turn | _] = All, Command, Afar, Here) ->
    ["  test it     ", Command, " check", Here, "\n"
     "  from afar   ", Command, " check '", Turn, "'", Afar, "\n",
     [["  by TLS      ", Command, " check '", Turns, "'", Afar, " --fingerprint ", Fingerprint,
       "\n"]
      || [Turns | _] <- [of_kind("turns:", All)],
         #{self_signed := true, fingerprint := Fingerprint}
             <- meerkat_status:certificates(?SERVER)]];
tests([], _Command, _Afar, _Here) ->
    "  test it     no listener has an address that clients could be told for these credentials\n".

users([]) ->
    case meerkat_lookups:info(?SERVER) of
        none -> "none, and no secret: `meerkatctl users add NAME` lets somebody in";
        #{database := Database} -> ["as in ", Database]
    end;
users(Users) ->
    [names(Users), ", each with a password of their own"].

%% The user for a command line. A name with a quotation mark in it would need more than quotes.
login([#{name := Name} | _]) ->
    case binary:match(Name, <<"'">>) of
        nomatch -> [$', meerkat_text:escape(Name), $'];
        _ -> "NAME"
    end;
login([]) ->
    "NAME".

names(Users) ->
    {Some, More} = lists:split(min(3, length(Users)), [Name || #{name := Name} <- Users]),
    [lists:join(", ", [meerkat_text:escape(Name) || Name <- Some]),
     [io_lib:format(" and ~b more", [length(More)]) || More =/= []]].

%% Credentials as a person may paste them: URIs, user, password, and RTCPeerConnection's iceServers.
-spec credentials(meerkat_credentials:credentials()) -> unicode:chardata().
credentials(#{username := User, password := Password, ttl := Ttl, uris := Uris,
              iceServers := Servers}) ->
    [
        uris(of_kind("stun", Uris), of_kind("turn", Uris)),
        "  username    ", User, "\n",
        "  password    ", Password, "\n",
        "  until       ", until(Ttl), "\n",
        "  iceServers  ", meerkat_json:encode([in_order(Server) || Server <- Servers]), "\n"
    ].

uris(Stun, Turn) ->
    [[["  STUN        ", Uri, "\n"] || Uri <- Stun],
     [["  TURN        ", Uri, "\n"] || Uri <- Turn]].

of_kind(Scheme, Uris) ->
    [Uri || Uri <- Uris, string:prefix(Uri, Scheme) =/= nomatch].

until(Ttl) ->
    End = meerkat_clock:wall_s() + Ttl,
    calendar:system_time_to_rfc3339(End, [{offset, "Z"}]).

%% As people know it.
in_order(Server) ->
    {[{Key, maps:get(Key, Server)} || Key <- [urls, username, credential],
                                      is_map_key(Key, Server)]}.
