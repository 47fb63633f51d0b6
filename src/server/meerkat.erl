%% The public interface: starts, changes, asks and stops servers. A server runs under the
%% application (start_server/2), or in an embedder's supervision tree (child_spec/1, child_spec/2).
%%
%% In a shell the server of a node of its own is called `default`, and most functions know it
%% without a name: meerkat:status(), meerkat:allocations(#{user => <<"alice">>}).
-module(meerkat).

-export([child_spec/1, start_link/1, start_link/2, configuration/1]).
-export([child_spec/2, start_server/2, start_only_server/2, stop_server/1, reload/2,
         format_error/1]).
-export([upgrade/0, upgrade/1]).
-export([drain/0, drain/1, drain/2, drained/1, undrain/0, undrain/1, redirect/2, is_ready/0,
         is_ready/1]).
-export([status/0, status/1, info/1]).
-export([allocations/0, allocations/1, allocations/2, allocation/1, allocation/2]).
-export([watch/2, watch/3, watched/2, unwatch/2, explain/2]).
-export([capture/3, captured/2, uncapture/2]).
-export([disconnect/1, disconnect/2, revoke/2, revoke/3]).
-export([users/0, users/1, add_user/3, add_user/4, remove_user/2, remove_user/3]).
-export([credentials/1, credentials/2, credentials/3]).
-export([loglevel/0, loglevel/1]).

-export_type([name/0, options/0, config/0, error/0]).

%% A server's name: free to choose, one server of a name at a time.
-type name() :: atom().
%% The keys of docs/configuration.md with values as a programmer writes them, text as binaries or
%% strings and addresses as in inet; and, besides:
%%   name           the server's, default `default`
%%   authenticator  {Module, Arg}: users of one's own (meerkat_authenticator)
%%   authorizer     {Module, Arg}: a say in what users may do (meerkat_authorizer)
%%   events         {Module, Arg}: hears what happens (meerkat_events)
%%   run_dir        a directory that only this user can enter; with the key survive the relay
%%                  program outlives this node, and the next one takes it over from there
-type options() :: meerkat_config_terms:terms() | #{atom() => term()} | [{atom(), term()}].
%% As configuration/1 and meerkat_config:load/1 make it; keys left out take their defaults
%% (docs/configuration.md).
-type config() :: map().
%% For format_error/1.
-type error() :: term().

-include_lib("kernel/include/logger.hrl").

-define(DEFAULT, default).
%% Credentials made here without another time are good for a day.
-define(TTL_S, 86400).

%% A server in a supervision tree of one's own:
%%
%%   supervisor:start_link(..., [meerkat:child_spec(#{relay_ip => "203.0.113.5",
%%                                                    secret => "change me"})])
%%
%% in Elixir {:meerkat, relay_ip: "203.0.113.5", secret: "change me"}. The application meerkat must
%% be running; neither its environment nor the process's is looked at. The start fails with
%% {shutdown, Sentence} somewhere in the reason: a key unknown or with a wrong value, a listener
%% that cannot be bound.
-spec child_spec(options()) -> supervisor:child_spec().
child_spec(Options) ->
    Given = to_map(Options),
    %% In a fun, for supervisors print their children's arguments.
    #{id => {meerkat, name(Given)},
      start => {?MODULE, start_link, [make_ref(), fun() -> Given end]},
      type => supervisor}.

%% The same by hand, linked to the caller.
-spec start_link(options()) -> {ok, pid()} | {error, error()}.
start_link(Options) ->
    start_link(make_ref(), fun() -> Options end).

%% Internal, for child_spec/1.
-spec start_link(reference(), fun(() -> options())) -> {ok, pid()} | {error, error()}.
start_link(Spec, Options) ->
    Given = to_map(Options()),
    meerkat_server_sup:start_link(name(Given), Spec, fun() -> configuration(Given) end).

%% Options as start_server/2 and reload/2 take them, or everything that is wrong with them in
%% sentences. What is only doubtful is logged.
-spec configuration(options()) -> {ok, config()} | {error, string()}.
configuration(Options) ->
    Given = to_map(Options),
    Apart = [authenticator, authorizer, events, run_dir],
    Keys = maps:merge(#{survive => 0}, maps:without([name | Apart], Given)),
    case meerkat_config:load(#{terms => Keys, env => []}) of
        {ok, #{survive := Seconds}, _} when Seconds > 0, not is_map_key(run_dir, Given) ->
            {error, "survive needs run_dir too: a directory that only this user can enter, where "
                    "the node that is started next finds the relay program"};
        {ok, Config, Warnings} ->
            _ = [?LOG_WARNING("~ts", [Warning]) || Warning <- Warnings],
            {ok, maps:merge(Config, maps:with(Apart, Given))};
        {error, Mistakes} ->
            {error, unicode:characters_to_list(lists:join("; ", Mistakes))}
    end.

to_map(Options) when is_list(Options) -> maps:from_list(Options);
to_map(Options) when is_map(Options) -> Options.

name(Given) -> maps:get(name, Given, ?DEFAULT).

%% The same with a configuration that configuration/1 or meerkat_config:load/1 has made. The start
%% fails with {shutdown, Sentence} somewhere in the reason when a listener cannot be bound, or when
%% the relay program is of another version. The server ends by itself only when its relay program
%% dies again and again. When its supervisor starts it again it has the configuration of its last
%% reload, and the secret that was drawn.
-spec child_spec(name(), config()) -> supervisor:child_spec().
child_spec(Name, Config) ->
    #{id => {meerkat, Name},
      start => {meerkat_server_sup, start_link,
                [Name, make_ref(), fun() -> {ok, Config} end]},
      type => supervisor}.

%% Starts a server under the application, which must be running. It serves when this returns. A
%% server that ends by itself three times within ten minutes is not started again; other servers are
%% not affected.
-spec start_server(name(), config()) -> {ok, pid()} | {error, error()}.
start_server(Name, Config) ->
    start_server(Name, Config, one_of_many).

%% Internal: the server that the application is there for, which ends with it.
-spec start_only_server(name(), config()) -> {ok, pid()} | {error, error()}.
start_only_server(Name, Config) ->
    start_server(Name, Config, only).

start_server(Name, Config, Kind) ->
    try meerkat_sup:start_server(Name, child_spec(Name, Config), Kind) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, sentence(Reason)}
    catch
        exit:{noproc, _} -> {error, "the application meerkat is not running"}
    end.

%% Ends it and all of its allocations.
-spec stop_server(name()) -> ok | {error, not_found}.
stop_server(Name) ->
    case meerkat_sup:stop_server(Name) of
        ok -> meerkat_registry:drop(Name);
        {error, not_found} -> {error, not_found}
    end.

%% Gives a running server another configuration: all of it or nothing, and then the error is a
%% sentence that names the key. Allocations keep what they have, except for peers that are forbidden
%% now. The next request of a user who is gone, or by a secret that is gone, fails.
%% docs/configuration.md tells which keys may change; keys left out take their defaults, but a
%% secret that was drawn stays. badarg if there is no server of that name. When the supervisor
%% starts the server again it has this configuration.
-spec reload(name(), config()) -> ok | {error, error()}.
reload(Name, Config) ->
    Reload = fun() -> meerkat_reload:reload(Name, Config) end,
    case deed(reload, #{}, fun() -> of_running(Name, changes(Reload)) end) of
        {ok, _Changes} -> ok;
        {error, Sentence} -> {error, Sentence}
    end.

changes(Reload) ->
    fun() ->
        case Reload() of
            {ok, Changes} -> {ok, #{changes => Changes}};
            {error, Sentence} -> {error, Sentence}
        end
    end.

%% Takes no more allocations: clients are sent to the servers of the key alternate_server, if there
%% are any. The allocations that exist go on until they end, and the server goes on running.
-spec drain(name()) -> ok.
drain(Name) ->
    deed(drain, #{}, fun() -> of_running(Name, fun() -> meerkat_drain:drain(Name) end) end).

%% The same for the server `default`.
-spec drain() -> ok.
drain() -> drain(?DEFAULT).

%% The same; and the server is stopped when its last allocation has ended, or after so many seconds:
%% as by stop_server/1, or in an embedder's supervision tree as by supervisor:terminate_child/2.
-spec drain(name(), Seconds :: non_neg_integer() | infinity) -> ok.
drain(Name, Seconds) when Seconds =:= infinity; is_integer(Seconds), Seconds >= 0 ->
    deed(drain, maps:from_list([{deadline_s, Seconds} || is_integer(Seconds)]), fun() ->
        ok = drain(Name),
        meerkat_drain:end_after(Name, Seconds, operator, {?MODULE, drained, [Name]})
    end).

%% Internal: called by meerkat_drain_end when the time of drain/2 has come; stops the server.
-spec drained(name()) -> ok.
drained(Name) ->
    case stop_server(Name) of
        ok -> ok;
        {error, not_found} -> meerkat_server_sup:stop(Name)
    end.

%% The same, with these servers in place of the key's. None of them may be this one.
-spec redirect(name(), [{inet:ip_address(), inet:port_number()}, ...]) ->
    ok | {error, own_address}.
redirect(Name, [_ | _] = Servers) ->
    To = iolist_to_binary(lists:join(",", [meerkat_text:address(Server) || Server <- Servers])),
    deed(drain, #{to => To}, fun() ->
        of_running(Name, fun() -> meerkat_drain:redirect(Name, Servers) end)
    end).

%% Takes allocations again, and stays.
-spec undrain(name()) -> ok.
undrain(Name) ->
    deed(undrain, #{}, fun() -> of_running(Name, fun() -> meerkat_drain:undrain(Name) end) end).

%% Replaces the relay program by the one that is installed now, while calls go on: what came of it
%% in figures (meerkat_upgrade), or why it was not begun or did not succeed. Clients over
%% UDP and TCP lose no packet; allocations of those over TLS and DTLS end. It takes a relay that
%% outlives Erlang (`survive`). badarg if there is no server of that name.
-spec upgrade(name()) -> {ok, meerkat_upgrade:figures()} | {error, string()}.
upgrade(Name) ->
    deed(upgrade, #{}, fun() -> of_running(Name, fun() -> meerkat_upgrade:run(Name) end) end).

%% The same for the server `default`.
-spec upgrade() -> {ok, meerkat_upgrade:figures()} | {error, string()}.
upgrade() -> upgrade(?DEFAULT).

%% The same for the server `default`.
-spec undrain() -> ok.
undrain() -> undrain(?DEFAULT).

%% Would an Allocate be welcome? It listens, its relay runs, it is not drained, and there is room.
-spec is_ready(name()) -> boolean().
is_ready(Name) ->
    case meerkat_registry:while_running(Name, fun() -> meerkat_status:is_ready(Name) end) of
        {ok, IsReady} -> IsReady;
        stopped -> false
    end.

%% What is done by a shell or a program in this node is logged like what meerkatctl does.
deed(Action, Details, Fun) ->
    meerkat_audit:by(node, {Action, Details}, Fun).

%% badarg if there is no server of that name, also if it ends while Fun runs.
of_running(Name, Fun) ->
    case meerkat_registry:while_running(Name, Fun) of
        {ok, Said} -> Said;
        stopped -> error(badarg, [Name])
    end.

%% The same of the server `default`.
-spec is_ready() -> boolean().
is_ready() -> is_ready(?DEFAULT).

%% Why a start or a reload failed, as a sentence.
-spec format_error(error()) -> unicode:chardata().
format_error(Error) ->
    case sentence(Error) of
        [C | _] = Sentence when is_integer(C) -> Sentence;
        Reason -> io_lib:format("~tp", [Reason])
    end.

%% The one sentence in the reason a supervisor gives, where there is one.
sentence({shutdown, {failed_to_start_child, _Child, Reason}}) -> sentence(Reason);
sentence({failed_to_start_child, _Child, Reason}) -> sentence(Reason);
sentence({{shutdown, _} = Reason, Child}) when element(1, Child) =:= child -> sentence(Reason);
sentence({shutdown, [C | _] = Sentence}) when is_integer(C) -> Sentence;
sentence({already_started, _Pid}) -> "a server of this name is running";
sentence(Reason) -> Reason.

%% The state of a running server; badarg if there is none of that name.
%%   listeners     UDP addresses as bound; tcp_listeners, tls_listeners, dtls_listeners: the others
%%   certificates  those that TLS clients are shown (meerkat_status:status/1 tells their members)
%%   relays        what is bound, what is told to clients, and the range of ports
%%   own_kinds     kinds of peers allowed because the relay is of that kind itself
%%   allocations   how many there are
%%   draining      whether there will be no more
%%   answers       responses to authenticated requests and 401s, by outcome, since the start;
%%                 `throttled' had none, for failed_authentication_rate was used up, and
%%                 `unavailable' had none, for it was not known who asked
%%   relay_restarts  how many relay programs have died and been replaced since the start
%%   relay_gap_ms  how long the server was without a relay program the last time, until the last
%%                 allocation was replayed; relay_gap_total_ms: all times together
%%   relay_replayed, relay_lost  allocations that the next relay program got, and did not get
%%   xmpp          connections to XMPP servers, how many hear of changes, what was counted; or none
%%   accounting    records: made, by type; lost: before they came into the spool; bytes and
%%                 trouble: of the spool; sinks: by name, each with how many records were delivered,
%%                 are waiting and were lost, how often it failed, and what trouble there is; or
%%                 none
%%   relay         the relay program's tables and counters (c_src/ctl/counters.def), or why not
-spec info(name()) -> #{listeners := [{inet:ip_address(), inet:port_number()}],
                        tcp_listeners := [{inet:ip_address(), inet:port_number()}],
                        tls_listeners := [{inet:ip_address(), inet:port_number()}],
                        certificates := [map()],
                        dtls_listeners := [{inet:ip_address(), inet:port_number()}],
                        relays := [map()],
                        own_kinds := [meerkat_policy:kind()],
                        allocations := non_neg_integer(),
                        draining := boolean(),
                        answers := #{meerkat_answers:outcome() => non_neg_integer()},
                        relay_restarts := non_neg_integer(),
                        relay_gap_ms := non_neg_integer(),
                        relay_gap_total_ms := non_neg_integer(),
                        relay_replayed := non_neg_integer(),
                        relay_lost := non_neg_integer(),
                        xmpp := map() | none,
                        accounting := map() | none,
                        relay := {ok, map()} | {error, relay_down | busy}}.
info(Name) -> of_running(Name, fun() -> meerkat_status:info(Name) end).

%% What an operator looks at first; meerkat_status:status/1 tells its members. badarg if there is no
%% server of that name.
-spec status(name()) -> map().
status(Name) -> of_running(Name, fun() -> meerkat_status:status(Name) end).

%% The same of the server `default`.
-spec status() -> map().
status() -> status(?DEFAULT).

%% The allocations of a running server: session, user, client, relayed addresses, age_ms and
%% expires_ms (the time left), peers, permissions and channels with theirs, and what was relayed and
%% dropped. A filter (meerkat_sessions) in place of the name means the server `default`.
-spec allocations(name() | meerkat_sessions:filter()) -> [map()].
allocations(Filter) when is_map(Filter) -> allocations(?DEFAULT, Filter);
allocations(Name) -> allocations(Name, #{}).

%% Those of the server `default`.
-spec allocations() -> [map()].
allocations() -> allocations(?DEFAULT).

%% Those of a server that a filter lets through (meerkat_sessions): user, peer, sort, limit.
-spec allocations(name(), meerkat_sessions:filter()) -> [map()].
allocations(Name, Filter) ->
    {_Total, Rows} = of_running(Name, fun() -> meerkat_sessions:list(Name, Filter) end),
    Rows.

%% One of them, and `drops`: what it dropped, by reason; `shortcuts`: to how many peers what its
%% client sends takes one (docs/design/shortcuts.md). Of one that is watched, also how media comes
%% to us: `media` and `verdict`.
-spec allocation(name(), meerkat_sessions:id()) -> {ok, map()} | {error, not_found}.
allocation(Name, Id) -> of_running(Name, fun() -> meerkat_sessions:seen(Name, Id, 0) end).

%% One of the server `default`.
-spec allocation(meerkat_sessions:id()) -> {ok, map()} | {error, not_found}.
allocation(Id) -> allocation(?DEFAULT, Id).

%% Watches an allocation, or all of a user or of a client, for so many `seconds` (60; an hour at
%% most): what is asked and answered, permissions, channels, first packets, drops, rates, and how
%% media comes to us. The events are for watched/2 to fetch, which also keeps the watch alive.
%% too_many: sixteen watches at a time are what a server has. The relay reads headers of packets
%% meanwhile (docs/design/seeing.md).
-spec watch(name(), meerkat_watch:who(), meerkat_watch:options()) ->
    {ok, meerkat_watch:id()} | {error, not_found | too_many | seconds}.
watch(Name, Who, Options) -> of_running(Name, fun() -> meerkat_watch:start(Name, Who, Options) end).

%% The same in the server `default`.
-spec watch(meerkat_watch:who(), meerkat_watch:options()) ->
    {ok, meerkat_watch:id()} | {error, not_found | too_many | seconds}.
watch(Who, Options) -> watch(?DEFAULT, Who, Options).

%% The events since the last time, or those of the next second; `over` after the last one. Who does
%% not ask for a quarter of a minute ends the watch.
-spec watched(name(), meerkat_watch:id()) ->
    {ok, [meerkat_watch:event()], going | over} | {error, not_found}.
watched(Name, Id) -> of_running(Name, fun() -> meerkat_watch:events(Name, Id) end).

%% Ends a watch before its time.
-spec unwatch(name(), meerkat_watch:id()) -> ok.
unwatch(Name, Id) -> of_running(Name, fun() -> meerkat_watch:stop(Name, Id) end).

%% What the client of an allocation did, where that stopped and the likely cause, in sentences; of
%% {user, User}: of all there are.
-spec explain(name(), meerkat_sessions:who()) ->
    {ok, [meerkat_explain:explanation(), ...]} | {error, not_found}.
explain(Name, Who) -> of_running(Name, fun() -> meerkat_explain:explain(Name, Who) end).

%% Captures what an allocation relays, on both sides, and its requests and answers, as a pcapng file
%% that Wireshark reads: for so many `seconds` (60; an hour at most), up to `max_bytes` (64 MiB),
%% headers only unless `payload` is true. `file` is the whole path of a file that is not there yet;
%% the relay writes it, for nobody else to read. Who does not ask by captured/2 for a quarter of a
%% minute ends the capture. too_many: four at a time are what a server has.
-spec capture(name(), meerkat_sessions:id(), meerkat_capture:options()) ->
    {ok, meerkat_capture:id()} | {error, meerkat_capture:refusal()}.
capture(Name, Allocation, Options) ->
    deed(capture, maps:merge(whom(Allocation), meerkat_capture:told(Options)), fun() ->
        of_running(Name, fun() -> meerkat_capture:start(Name, Allocation, Options) end)
    end).

%% How it goes on, after up to a second; `over` once, with the reason.
-spec captured(name(), meerkat_capture:id()) -> {ok, meerkat_capture:state()} | {error, not_found}.
captured(Name, Id) -> of_running(Name, fun() -> meerkat_capture:state(Name, Id) end).

%% Ends a capture before its time, and says how it was.
-spec uncapture(name(), meerkat_capture:id()) ->
    {ok, meerkat_capture:state()} | {error, not_found}.
uncapture(Name, Id) -> of_running(Name, fun() -> meerkat_capture:stop(Name, Id) end).

%% Ends an allocation, or all of {user, User}; how many. Clients are not told: their next request
%% is answered 437, and whoever has credentials may allocate again.
-spec disconnect(name(), meerkat_sessions:who()) -> non_neg_integer().
disconnect(Name, Who) ->
    deed(disconnect, whom(Who), fun() ->
        of_running(Name, fun() -> meerkat_sessions:disconnect(Name, Who) end)
    end).

whom({user, User}) -> #{user => User};
whom(Id) when is_integer(Id) -> #{id => list_to_binary(meerkat_text:session(Id))};
whom(Id) -> #{id => unicode:characters_to_binary(io_lib:format("~ts", [Id]))}.

%% The same in the server `default`.
-spec disconnect(meerkat_sessions:who()) -> non_neg_integer().
disconnect(Who) -> disconnect(?DEFAULT, Who).

%% Ends all allocations of a user, returns how many, and revokes the user's time-limited
%% credentials: those that expire within TtlS seconds are answered 401 from now on, until the server
%% ends. TtlS is for how long credentials are made: so all that exist now are revoked, and those
%% that are made later are good. Whoever makes credentials decides whether the user gets new ones.
%% The default is xmpp_ttl where the component makes them, else a day.
-spec revoke(name(), User :: binary()) -> {ok, non_neg_integer()} | {error, full}.
revoke(Name, User) ->
    TtlS = case meerkat_registry:settings(Name) of
        #{xmpp := #{ttl := Ttl}} -> Ttl;
        #{xmpp := none} -> ?TTL_S
    end,
    revoke(Name, User, TtlS).

%% The same where credentials are made for TtlS seconds.
-spec revoke(name(), User :: binary(), TtlS :: pos_integer()) ->
    {ok, non_neg_integer()} | {error, full}.
revoke(Name, User, TtlS) when is_binary(User), is_integer(TtlS), TtlS > 0 ->
    deed(revoke, #{user => User, ttl_s => TtlS}, fun() ->
        case of_running(Name, fun() -> meerkat_revoked:revoke(Name, User, TtlS) end) of
            ok -> {ok, disconnect(Name, {user, User})};
            {error, full} -> {error, full}
        end
    end).

%% The users with a password, of all realms: from the configuration, and those that were added.
-spec users(name()) -> [meerkat_users:user()].
users(Name) -> of_running(Name, fun() -> meerkat_users:list(Name) end).

%% Those of the server `default`.
-spec users() -> [meerkat_users:user()].
users() -> users(?DEFAULT).

%% Adds a user, or gives a user that was added another password. Returns where that is kept.
-spec add_user(name(), User :: binary(), {password, binary()} | {key, <<_:128>>} | binary()) ->
    {ok, meerkat_users:kept()} | {error, error()}.
add_user(Name, User, Proof) ->
    add_user(Name, User, Proof, default).

%% The same in one realm: one of the key `realms`, by its name, or `default`, the server's own.
-spec add_user(name(), User :: binary(), {password, binary()} | {key, <<_:128>>} | binary(),
               Realm :: default | binary()) -> {ok, meerkat_users:kept()} | {error, error()}.
add_user(Name, User, Password, Realm) when is_binary(Password) ->
    add_user(Name, User, {password, Password}, Realm);
add_user(Name, User, {Kind, _} = Proof, Realm) ->
    deed(add_user, (in_realm(Realm))#{user => User, proof => Kind}, fun() ->
        of_running(Name, fun() -> meerkat_users:add(Name, Realm, User, Proof) end)
    end).

in_realm(default) -> #{};
in_realm(Realm) -> #{realm => Realm}.

%% Removes a user that was added. Its allocations cannot be refreshed, and end at their expiry.
-spec remove_user(name(), User :: binary()) -> {ok, meerkat_users:kept()} | {error, error()}.
remove_user(Name, User) ->
    remove_user(Name, User, default).

%% The same in one realm.
-spec remove_user(name(), User :: binary(), Realm :: default | binary()) ->
    {ok, meerkat_users:kept()} | {error, error()}.
remove_user(Name, User, Realm) ->
    deed(remove_user, (in_realm(Realm))#{user => User}, fun() ->
        of_running(Name, fun() -> meerkat_users:remove(Name, Realm, User) end)
    end).

%% The least severe level of which this node logs lines.
-spec loglevel() -> logger:level() | all | none.
loglevel() -> meerkat_log:level().

%% Logs lines of this level and more severe ones, until it is set again or a reload sets it.
-spec loglevel(logger:level()) -> ok.
loglevel(Level) ->
    deed(loglevel, #{log_level => atom_to_binary(Level)},
         fun() -> meerkat_log:set_level(Level) end).

%% Time-limited credentials for User, good for a day.
-spec credentials(name(), User :: binary()) -> meerkat_credentials:credentials().
credentials(Name, User) ->
    credentials(Name, User, #{}).

%% From the server `default`.
-spec credentials(User :: binary()) -> meerkat_credentials:credentials().
credentials(User) ->
    credentials(?DEFAULT, User).

%% Credentials that Name accepts for so many seconds, made of its first secret (REST credentials;
%% what WebRTC clients take), the URIs (RFC 7065) to use them with, and both as iceServers for
%% RTCPeerConnection. Options are a time in seconds, or ttl and realm: those of a realm of the key
%% `realms` are made of its secret. badarg if there is no secret or no such realm, or if the user is
%% too long for a USERNAME (RFC 8489 14.3).
-spec credentials(name(), User :: binary(), pos_integer() | meerkat_credentials:options()) ->
    meerkat_credentials:credentials().
credentials(Name, User, TtlS) when is_integer(TtlS), TtlS > 0 ->
    credentials(Name, User, #{ttl => TtlS});
credentials(Name, User, Options) when is_binary(User), is_map(Options) ->
    case of_running(Name, fun() -> meerkat_credentials:make(Name, User, Options) end) of
        {ok, Credentials} -> Credentials;
        {error, {_What, _Sentence}} -> error(badarg)
    end.
