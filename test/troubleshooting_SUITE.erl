%% docs/troubleshooting.md: each symptom is caused, and what the page says of the client and of the
%% log is what it is answered and what is written. Lines of the log in other pages are among these.
-module(troubleshooting_SUITE).
-behaviour(meerkat_authenticator).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([every_symptom_is_told/1]).
-export([password/3]).

-import(turn_kit, [open/1, open/2, challenged/1, call/3, allocated/1, allocate/1, delete/1,
                   permit/2, bind/3, peer/0, expect/2, kill_relay/1, with_server/2]).

-define(PAGE, "docs/troubleshooting.md").
-define(BOB, #{user => <<"bob">>, password => <<"builder">>}).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [every_symptom_is_told].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(meerkat),
    Config.

end_per_suite(_) -> application:stop(meerkat).

%% One after the other; what is missing of all of them is told at once.
every_symptom_is_told(Config) ->
    Written = [{Heading, caused(Config, Cause)} || {Heading, Cause} <- symptoms()],
    Blocks = [Block || Page <- docs_kit:pages(),
                       #{language := "log"} = Block <- docs_kit:blocks(Page)],
    ?assert(length(Blocks) >= 15),
    Missing = [{docs_kit:place(Page, N), Shown, Lines}
               || #{page := Page, line := N, text := Text} <- Blocks,
                  Lines <- [lines(Page, docs_kit:heading(Page, N), Written)],
                  Shown <- string:lexemes(Text, "\n"),
                  not lists:any(fun(Line) -> docs_kit:told(names(Shown), names(Line)) end, Lines)],
    [ct:log("~ts: ~ts~nwas not written; this was:~n~ts", [Place, Shown, lists:join("\n", Lines)])
     || {Place, Shown, Lines} <- Missing],
    ?assertEqual([], [{Place, unicode:characters_to_binary(Shown)}
                      || {Place, Shown, _} <- Missing]),
    %% Each is on the page.
    ?assertEqual([], [Heading || {Heading, _} <- symptoms()]
                     -- [docs_kit:heading(?PAGE, N) || #{page := ?PAGE, line := N} <- Blocks]).

%% What this node wrote meanwhile, and what another did.
caused(Config, Cause) ->
    Lines = log_kit:written(fun() -> self() ! {elsewhere, Cause(Config)} end),
    receive {elsewhere, More} -> Lines ++ [Line || [C | _] = Line <- More, is_integer(C)] end.

%% What was written under the heading of a block; for other pages, all of it.
lines(?PAGE, Heading, Written) -> lists:append([L || {H, L} <- Written, H =:= Heading]);
lines(_, _, Written) -> lists:append([L || {_, L} <- Written]).

%% Addresses, IDs and the names of users are the reader's.
names(Line) ->
    lists:foldl(fun({Pattern, By}, Now) ->
                    re:replace(Now, Pattern, By, [global, unicode, {return, list}])
                end, Line,
                [{"user (alice|bob|[0-9]+:[a-z@.]+)", "user USER"},
                 {"\"[0-9]+:[a-z@.]+\"", "\"USER\""},
                 {"[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+(:[0-9]+)?", "ADDRESS"},
                 {"/[^ :]*/(?=meerkat\\.cfg)", ""}]).

%%% Symptoms, by their heading; what has a code in it is answered with that code

symptoms() ->
    [{"401, the credentials have expired", fun(_) ->
          refused(401, #{}, fun(Server) ->
              User = iolist_to_binary([integer_to_list(now_s() - 312), ":alice"]),
              allocate(challenged(open(Server, #{user => User, password => made(Server, User)})))
          end)
      end},
     {"401, the secret is another", fun(_) ->
          refused(401, #{}, fun(Server) ->
              User = iolist_to_binary([integer_to_list(now_s() + 312), ":alice"]),
              allocate(challenged(open(Server, #{user => User, password => <<"wrong">>})))
          end)
      end},
     {"401, there is no such user", fun(_) ->
          refused(401, #{secrets => []}, fun(Server) ->
              allocate(challenged(open(Server, #{user => <<"carol">>, password => <<"c">>})))
          end)
      end},
     {"403, a peer may not be reached", fun(_) ->
          refused(403, #{}, fun(Server) -> permit(allocated(Server), [{{10, 1, 2, 3}, 0}]) end)
      end},
     {"400, the channel number is too high", fun(_) ->
          #{address := Peer} = peer(),
          refused(400, #{}, fun(Server) -> bind(allocated(Server), 16#5001, Peer) end)
      end},
     {"437, there is no allocation", fun(_) ->
          refused(437, #{}, fun(Server) ->
              Client = allocated(Server),
              #{address := Peer} = peer(),
              _ = turn_kit:success(permit(Client, [Peer])),
              ok = delete(Client),
              call(Client, refresh, [])
          end)
      end},
     {"441, the allocation is another user's", fun(_) ->
          refused(441, #{}, fun(Server) ->
              #{key := Key} = challenged(open(Server, ?BOB)),
              turn_kit:call(allocated(Server), refresh, [], #{user => <<"bob">>, key => Key})
          end)
      end},
     {"486, the user has too many allocations", fun(_) ->
          refused(486, #{user_quota => 1}, fun(Server) ->
              _ = allocated(Server),
              allocate(challenged(open(Server)))
          end)
      end},
     {"508, the server is full", fun(_) ->
          refused(508, #{total_quota => 1}, fun(Server) ->
              _ = allocated(Server),
              allocate(challenged(open(Server, ?BOB)))
          end)
      end},
     {"508, the server is draining", fun(_) ->
          refused(508, #{}, fun(#{name := Name} = Server) ->
              %% One that is there, or the server would end.
              _ = allocated(Server),
              _ = meerkat:drain(Name),
              allocate(challenged(open(Server, ?BOB)))
          end)
      end},
     {"The client gets no answer", fun(_) ->
          with_server(#{authenticator => {?MODULE, none}},
                      fun unanswered/1)
      end},
     {"The database does not answer", fun(_) ->
          Redis = #{kind => redis, host => <<"127.0.0.1">>, port => turn_kit:free_ports(1),
                    password => <<"p">>, database => <<"0">>},
          with_server(#{redis_userdb => Redis}, fun(#{name := Name} = Server) ->
              turn_kit:eventually(fun() ->
                  maps:get(away, meerkat_lookups:info(Name)) =/= none
              end),
              unanswered(Server)
          end)
      end},
     {"There is an allocation, but no media", fun(Config) ->
          Host = #{route => fun(inet) -> {ok, {192, 168, 1, 5}}; (inet6) -> none end,
                   first => fun(_) -> none end, bindable => fun(_) -> true end},
          File = file(Config, "secret = \"hunter2\";\n"),
          {ok, _, Warnings} = meerkat_config:load(#{file => File, env => [], host => Host}),
          %% As meerkat_boot logs them.
          [logger:warning("~ts", [Warning]) || Warning <- Warnings],
          []
      end},
     {"The server does not start", fun(Config) ->
          Mistaken = file(Config, "realm = \"example.org\";\nuser_qouta = 3;\n"),
          {ok, Taken} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
          {ok, Port} = inet:port(Taken),
          not_started(Config, ["-c", Mistaken], [])
              ++ not_started(Config, [], [{"LISTEN_PORT", integer_to_list(Port)}])
      end},
     {"The relay program ended", fun(_) ->
          with_server(#{}, fun(#{name := Name} = Server) ->
              _ = allocated(Server),
              ok = kill_relay(Server),
              turn_kit:eventually(fun() -> maps:get(relay_restarts, meerkat:info(Name)) =:= 1 end),
              []
          end)
      end},
     {"The node was killed", fun(Config) ->
          Place = ctl_kit:prepare(Config),
          {First, _} = ctl_kit:start(Place, [{"SURVIVE", "60"}]),
          {0, #{<<"os_pid">> := Node}} = ctl_kit:json(Place, ["status"]),
          "" = os:cmd("kill -KILL " ++ integer_to_list(Node)),
          %% What it wrote to stays open as long as its relay program lives.
          true = port_close(First),
          {Next, Said} = ctl_kit:start(Place, [{"SURVIVE", "60"}]),
          _ = ctl_kit:stop(Next, "TERM"),
          ok = ctl_kit:clean(Place),
          without_time(Said)
      end},
     {"Accounting records wait", fun(Config) ->
          Url = ["http://127.0.0.1:", integer_to_list(turn_kit:free_ports(1)), "/records"],
          Spool = filename:join(proplists:get_value(priv_dir, Config), "spool"),
          with_server(#{accounting_url => iolist_to_binary(Url),
                        accounting_spool => list_to_binary(Spool)}, fun(#{name := Name}) ->
              turn_kit:eventually(fun() ->
                  #{accounting := #{sinks := #{http := #{failures := N}}}} = meerkat:info(Name),
                  N > 0
              end),
              []
          end)
      end},
     {"HTTP says 401", fun(_) ->
          with_server(#{http_listen => {{127, 0, 0, 1}, 0}, http_token => <<"a token">>},
                      fun(Server) ->
              #{code := 401} = http_kit:get(Server, "/credentials",
                                            [{"Authorization", "Bearer another"}]),
              []
          end)
      end}].

refused(Code, Config, Ask) ->
    with_server(Config, fun(Server) -> _ = expect(Code, Ask(Server)), [] end).

%% A request that nobody can tell about.
unanswered(#{name := Name} = Server) ->
    Client = challenged(open(Server, #{user => <<"carol">>, password => <<"c">>})),
    turn_kit:send(Client, turn_kit:signed(Client, allocate, [{requested_transport, 17}])),
    turn_kit:eventually(fun() ->
        #{answers := #{unavailable := N}} = meerkat:info(Name),
        N > 0
    end),
    [].

file(Config, Text) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "meerkat.cfg"),
    ok = file:write_file(File, Text),
    File.

%% What a server prints that does not start, without the time.
not_started(Config, Args, Env) ->
    Place = ctl_kit:prepare(Config),
    {1, Said} = ctl_kit:run(Place, ["foreground" | Args], Env),
    ok = ctl_kit:clean(Place),
    without_time(Said).

without_time(Said) ->
    [re:replace(Line, "^[-0-9T:.+]+ ", "", [unicode, {return, list}])
     || Line <- string:lexemes(Said, "\n")].

now_s() -> erlang:system_time(second).

made(#{secret := Secret}, User) -> base64:encode(crypto:mac(hmac, sha, Secret, User)).

password(_User, _Realm, none) -> error(the_database_is_away).
