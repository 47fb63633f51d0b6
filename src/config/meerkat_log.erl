%% How log lines look: one each on stderr, for people or as a JSON object, control characters
%% spelled out, configured secrets struck out wherever they turn up. It decides nothing about what
%% is logged.
%%
%% A line whose parts a program may want is logged as a report: a map with an `event`, and
%% sentence/1 as its report_cb. In JSON its parts are members of their own.
-module(meerkat_log).

-include_lib("kernel/include/file.hrl").

-export([start/1, change/1, level/0, set_level/1, application_level/0, set_application_level/1,
         flush/0, format/2, sentence/1,
         without_start_errors/1]).
%% Filters of logger.
-export([in_short/2, no_start_error/2]).

-export_type([format/0]).

-type format() :: human | json.
%% The keys of meerkat_config that count here.
-type config() :: #{log_level := logger:level(), log_format => format(), secrets := [binary()],
                    http_token => undefined | binary(), _ => _}.

%% A secret shorter than this would strike out half of every line.
-define(SHORTEST_STRUCK_OUT, 4).
-define(LINE_MAX, 4096).

%% Sends the log of this node to stderr in our format, from log_level on. Nothing is printed by the
%% handler that was there before.
-spec start(config()) -> ok.
start(#{log_level := Level} = Config) ->
    _ = logger:remove_handler(default),
    ok = told_always(),
    ok = logger:add_handler(default, logger_std_h, #{
        config => #{type => standard_error},
        filters => [{progress, {fun logger_filters:progress/2, stop}},
                    {in_short, {fun ?MODULE:in_short/2, []}}],
        formatter => {?MODULE, #{secrets => secrets(Config), journal => is_journal(),
                                 format => maps:get(log_format, Config, human)}}
    }),
    set_level(Level).

%% What an operator does is logged whatever the level is, for the level is his to set.
told_always() ->
    logger:set_module_level(meerkat_audit, notice).

%% Where a child could not be started and its reason is a sentence, that sentence is logged, once,
%% and not the report of each supervisor above it.
-spec in_short(logger:log_event(), term()) -> logger:filter_return().
in_short(#{msg := {report, #{label := {supervisor, start_error}, report := Report}}} = Event, _) ->
    case proplists:get_value(reason, Report) of
        {shutdown, {failed_to_start_child, _, _}} -> stop;
        {shutdown, [C | _] = Sentence} when is_integer(C) -> Event#{msg := {"~ts", [Sentence]}};
        _ -> ignore
    end;
%% That a node ends in order was said by whoever told it to.
in_short(#{msg := {report, #{label := {application_controller, exit}, report := Report}}}, _) ->
    case proplists:get_value(exited, Report) of
        stopped -> stop;
        _ -> ignore
    end;
in_short(_Event, _) ->
    ignore.

%% Runs Fun without reports of supervisors on what could not be started, for the caller tells of it.
%% What is restarted later is reported.
-spec without_start_errors(fun(() -> Result)) -> Result.
without_start_errors(Fun) ->
    ok = logger:add_primary_filter(?MODULE, {fun ?MODULE:no_start_error/2, none}),
    try Fun() after ok = logger:remove_primary_filter(?MODULE) end.

-spec no_start_error(logger:log_event(), none) -> logger:filter_return().
no_start_error(#{msg := {report, #{label := {supervisor, start_error}}}}, none) -> stop;
no_start_error(_Event, none) -> ignore.

%% Another level, form and other secrets. Secrets of before are still struck out.
-spec change(config()) -> ok.
change(#{log_level := Level} = Config) ->
    {ok, #{formatter := {_, #{secrets := Known}}}} = logger:get_handler_config(default),
    Fresh = [S || S <- secrets(Config), not lists:member(S, Known)],
    ok = logger:update_formatter_config(default, #{secrets => Fresh ++ Known,
                                                   format => maps:get(log_format, Config, human)}),
    set_level(Level).

%% The least severe lines that are logged.
-spec level() -> logger:level() | all | none.
level() ->
    maps:get(level, logger:get_primary_config()).

-spec set_level(logger:level()) -> ok.
set_level(Level) ->
    logger:set_primary_config(level, Level).

%% The same of Meerkat's lines alone, in a node whose log is somebody else's.
-spec application_level() -> logger:level() | all | none.
application_level() ->
    case logger:get_module_level(meerkat) of
        [{meerkat, Level}] -> Level;
        [] -> level()
    end.

-spec set_application_level(logger:level()) -> ok.
set_application_level(Level) ->
    ok = logger:set_application_level(meerkat, Level),
    told_always().

%% Returns once every line logged before it is on stderr.
-spec flush() -> ok | {error, term()}.
flush() ->
    logger_std_h:filesync(default).

%% All that is struck out, secrets of realms too.
secrets(#{secrets := Secrets} = Config) ->
    OfRealms = [S || #{secrets := Those} <- maps:get(realms, Config, []), S <- Those],
    Others = [maps:get(Key, Config, undefined)
              || Key <- [http_token, xmpp_secret, accounting_token]],
    Databases = meerkat_config_database:passwords(Config),
    [S || S <- Others ++ Secrets ++ OfRealms ++ Databases,
          is_binary(S), byte_size(S) >= ?SHORTEST_STRUCK_OUT].

%% Whether stderr is systemd's journal, which names itself by device and inode (systemd.exec(5)).
is_journal() ->
    case {os:getenv("JOURNAL_STREAM", ""), file:read_file_info("/proc/self/fd/2")} of
        {[_ | _] = Named, {ok, #file_info{major_device = Device, inode = Inode}}} ->
            Named =:= integer_to_list(Device) ++ ":" ++ integer_to_list(Inode);
        _ ->
            false
    end.

%% logger's formatter callback. The journal takes how severe a line is from its beginning, and has a
%% time of its own.
-spec format(logger:log_event(),
             #{secrets := [binary()], format => format(), journal => boolean()}) ->
    unicode:chardata().
format(#{level := Level} = Event, #{journal := true} = Options) ->
    [$<, $0 + priority(Level), $> | formatted(Event, Options)];
format(Event, Options) ->
    formatted(Event, Options).

formatted(Event, #{secrets := Secrets, format := json}) ->
    [object(Event, Secrets), $\n];
formatted(Event, #{secrets := Secrets} = Options) ->
    Time = [[time, " "] || not maps:get(journal, Options, false)],
    Line = line(lists:append(Time) ++ [level, ": ", {session, ["session=", session, " "], []}, msg],
                named(Event), Secrets),
    [escape(unicode:characters_to_list(Line)), $\n].

%% As syslog(3) numbers them.
priority(Level) ->
    #{Level := Number} = #{emergency => 0, alert => 1, critical => 2, error => 3, warning => 4,
                           notice => 5, info => 6, debug => 7},
    Number.

%% Secrets are struck out before the lines of a message are joined, for one may have several lines.
line(Template, Event, Secrets) ->
    Text = logger_formatter:format(Event, #{single_line => false, depth => 30,
                                            chars_limit => ?LINE_MAX, template => Template}),
    Struck = unicode:characters_to_binary(string:trim(strike_out(Secrets, Text))),
    re:replace(Struck, ",?\\r?\\n\\s*", ", ", [global, unicode, {return, binary}]).

named(#{meta := #{session := Session} = Meta} = Event) when is_integer(Session) ->
    Event#{meta := Meta#{session := meerkat_text:session(Session)}};
named(Event) ->
    Event.

strike_out(Secrets, Line) ->
    lists:foldl(
        fun(Secret, Text) -> string:replace(Text, Secret, "***", all) end,
        unicode:characters_to_binary(Line),
        [Secret || Secret <- Secrets, is_list(unicode:characters_to_list(Secret))]
    ).

escape([C | Rest]) when C < 32; C >= 127, C < 160; C >= 16#2028, C =< 16#202e;
                         C >= 16#2066, C =< 16#2069 ->
    [io_lib:format("\\x~2.16.0b", [C]) | escape(Rest)];
escape([C | Rest]) ->
    [C | escape(Rest)];
escape([]) ->
    [].

%%% JSON. Secrets are struck out before the encoding could hide them from us.

object(#{level := Level, meta := #{time := Time} = Meta} = Event, Secrets) ->
    Members = [
        {time, list_to_binary(calendar:system_time_to_rfc3339(Time, [{unit, microsecond},
                                                                     {offset, "Z"}]))},
        {level, Level},
        {msg, line([msg], Event, Secrets)}
    ],
    Session = [{session, list_to_binary(meerkat_text:session(S))}
               || #{session := S} <- [Meta], is_integer(S)],
    meerkat_json:encode_ascii({Members ++ Session ++ parts(Event, Secrets)}).

parts(#{msg := {report, #{event := _} = Report}}, Secrets) ->
    [{Name, part(Value, Secrets)} || {Name, Value} <- lists:sort(maps:to_list(Report))];
parts(_Event, _Secrets) ->
    [].

part(Value, _Secrets) when is_atom(Value); is_number(Value) -> Value;
part({_, Port} = Address, _Secrets) when is_integer(Port) ->
    list_to_binary(meerkat_text:address(Address));
part(Values, Secrets) when is_list(Values) -> [part(Value, Secrets) || Value <- Values];
part(Text, Secrets) when is_binary(Text) -> whole(strike_out(Secrets, readable(Text)));
part(Other, Secrets) -> whole(strike_out(Secrets, io_lib:format("~0tP", [Other, 30]))).

%% What a client sent need not be UTF-8.
readable(Text) ->
    case unicode:characters_to_binary(Text) of
        Text -> Text;
        _ -> unicode:characters_to_binary(meerkat_text:escape(Text))
    end.

whole(Text) ->
    unicode:characters_to_binary(Text).

%%% Reports as sentences

%% For report_cb: the reports there are.
-spec sentence(logger:report()) -> {io:format(), [term()]}.
sentence(#{event := allocation_started, user := User, client := Client, relayed := Relayed}) ->
    {"allocation started: ~ts", [parties(User, Client, Relayed)]};
sentence(#{event := allocation_ended, reason := Reason} = Report) ->
    {"allocation ~ts: ~ts~ts~ts", [ended(Reason), who(Report), traffic(Report), drops(Report)]};
sentence(#{event := allocation_failed, reason := Reason, detail := Detail} = Report) ->
    {"no allocation (~ts: ~ts): ~ts", [Reason, meerkat_text:escape(Detail), who(Report)]};
sentence(#{event := allocation_failed, reason := Reason} = Report) ->
    {"no allocation (~ts): ~ts", [Reason, who(Report)]};
sentence(#{event := audit, way := Way, by := By, outcome := Outcome, detail := Detail} = Report) ->
    {"audit: ~ts~ts: ~ts: ~ts~ts",
     [By, way(Way), deed(Report), [[atom_to_list(Outcome), ": "] || Outcome =/= ok], Detail]};
sentence(#{event := allocation_lost, reason := Reason} = Report) ->
    {"allocation lost with its relay, the next cannot make it again (~ts): ~ts",
     [Reason, who(Report)]}.

way(meerkatctl) -> " by meerkatctl";
way(xmpp) -> " by XMPP";
way(http) -> " by HTTP";
way(_) -> "".

%% What was done, and with what, in the order of this list.
deed(#{action := Action} = Report) ->
    [verb(Action), [with(Name, maps:get(Name, Report))
                    || Name <- [id, user, range, kind, realm, user_quota, total_quota,
                                max_bps, max_pps, new_peers_rate, proof, log_level, to, ttl_s,
                                deadline_s, stay],
                       is_map_key(Name, Report)]].

verb(add_user) -> "add";
verb(remove_user) -> "remove";
verb(add_secret) -> "add secret";
verb(remove_secret) -> "remove secret";
verb(add_peer) -> "add peers";
verb(remove_peer) -> "remove peers";
verb(set_realm) -> "set limits";
verb(remove_realm) -> "remove limits";
verb(credentials) -> "credentials for";
verb(Action) -> atom_to_list(Action).

with(id, Id) -> [" ", meerkat_text:escape(Id)];
with(user, User) -> [" user ", meerkat_text:escape(User)];
with(range, Range) -> [" ", meerkat_text:escape(Range)];
with(kind, Kind) -> [" (", atom_to_list(Kind), ")"];
with(Limit, N) when Limit =:= user_quota; Limit =:= total_quota; Limit =:= max_bps;
                    Limit =:= max_pps; Limit =:= new_peers_rate ->
    [" ", atom_to_list(Limit), " ", integer_to_list(N)];
with(realm, Realm) -> [" of realm ", meerkat_text:escape(Realm)];
with(proof, Proof) -> [" with a ", atom_to_list(Proof)];
with(log_level, Level) -> [" ", meerkat_text:escape(Level)];
with(to, Servers) -> [" to ", meerkat_text:escape(Servers)];
with(ttl_s, N) -> [" (", integer_to_list(N), " s)"];
with(deadline_s, N) -> [" within ", integer_to_list(N), " s"];
with(stay, true) -> " and stay".

ended(Reason) when Reason =:= deleted; Reason =:= expired; Reason =:= socket_error ->
    atom_to_list(Reason);
ended(Reason) ->
    ["ended (", atom_to_list(Reason), ")"].

who(#{user := User, client := Client, relayed := Relayed, peers := Peers,
      duration_ms := Duration}) ->
    [parties(User, Client, Relayed), [[", peers ", integer_to_list(Peers)] || Peers > 0],
     ", lived ", meerkat_text:duration(Duration)].

parties(User, Client, Relayed) ->
    ["user ", meerkat_text:escape(User), ", client ", meerkat_text:address(Client),
     [[", relayed ", meerkat_text:address(Address)] || Address <- Relayed]].

traffic(#{client_packets := ClientPackets, client_bytes := ClientBytes,
          peer_packets := PeerPackets, peer_bytes := PeerBytes, dropped := Dropped}) ->
    io_lib:format(", from client ~b packets ~b bytes, from peers ~b packets ~b bytes, dropped ~b",
                  [ClientPackets, ClientBytes, PeerPackets, PeerBytes, Dropped]);
traffic(#{}) ->
    "".

drops(Report) ->
    Reasons = [[atom_to_list(Name), " ", integer_to_list(N)]
               || Name <- meerkat_ctl:session_drops(), #{Name := N} <- [Report], N > 0],
    [[" (", lists:join(", ", Reasons), ")"] || Reasons =/= []].
