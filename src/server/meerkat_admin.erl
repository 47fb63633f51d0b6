%% What an administrator may ask of a running server: the verbs, their arguments and answers.
%% meerkat_admin_socket carries questions and answers.
-module(meerkat_admin).

-export([handle/3, loaded/2, is_deed/1]).
-export_type([question/0, answer/0]).

-type question() :: {Verb :: atom(), Args :: [term()]}.
%% The error is a sentence for the person who asked.
-type answer() :: {ok, term()} | {error, binary()}.

-define(LEVELS, [debug, info, notice, warning, error, critical, alert, emergency]).

%% {ping, []}                  #{version, os_pid}: a binary, a number
%% {credentials, [User, Options]}   meerkat_credentials:asked/3
%% {service, []}               meerkat_services:uris/2 of the server's own realm, or, if that has no
%%                             listener, of another one
%% {info, []}, {status, []}    meerkat:info/1, meerkat:status/1, with the server's name as text
%% {config, []}, {config, [Realm]}   meerkat_config:effective/1, effective/2 of what is in force
%% {doctor, []}                what meerkat_doctor wants to know of the server
%% {allocations, [Filter]}     #{total, allocations}: meerkat_sessions:list/2
%% {allocation, [Id]}          meerkat:allocation/2
%% {watch, [Who, Options]}     meerkat:watch/3: #{watch := Id}; Who as there, an id as text
%% {capture, [Id, Options]}    meerkat:capture/3: #{capture := Id}
%% {captured, [Id]}            meerkat:captured/2
%% {uncapture, [Id]}           meerkat:uncapture/2
%% {explain, [Who]}            meerkat:explain/2; Who an id as text, or {user, User}
%% {watched, [Id]}             meerkat:watched/2: #{events, state}
%% {unwatch, [Id]}             meerkat:unwatch/2; done
%% {disconnect, [Who]}         meerkat:disconnect/2; none is an error
%% {revoke, [User]}, {revoke, [User, Ttl]}   meerkat:revoke/2, revoke/3
%% {users, []}, {users, [Realm]}   meerkat_users:all/1, list/2
%% {add_user, [User, Proof, Realm]}, {remove_user, [User, Realm]}   where that is kept; Realm is one
%%                             of the key `realms`, or `default`
%% {secrets, []}, {secrets, [Realm]}   meerkat_secrets:list/2
%% {add_secret, [Secret, Realm]}   meerkat_secrets:add/3; the server draws one where it is `drawn`
%% {remove_secret, [Id, Realm]}   meerkat_secrets:remove/3
%% {peers, []}                 meerkat_database_peers:list/1
%% {add_peer, [Kind, Range, Realm]}, {remove_peer, [Kind, Range, Realm]}   that module's add/4 and
%%                             remove/4; Kind is `allowed` or `denied`, Realm a name or `default`
%% {realms, []}                meerkat_database_realms:list/1
%% {set_realm, [Realm, Limits]}, {remove_realm, [Realm]}   that module's set/3 and remove/2
%% {loglevel, []}, {loglevel, [Level]}   the level, Level as text
%% {reload, []}                meerkat_reload:reload/2 with what file and environment say now:
%%                             #{changes, warnings}
%% {reload, [dry_run]}         the same of what would come of it, and nothing is done
%% {drain, [Options]}          meerkat:drain/1 or, with `to` (servers as text, separated by commas),
%%                             meerkat:redirect/2; unless `stay`, the node ends when it is empty
%%                             or after `deadline` seconds; how many allocations there are
%% {undrain, []}               meerkat:undrain/1; done
%% {upgrade, []}               meerkat:upgrade/1
%%
%% What changes something is logged, with Who did it (meerkat_audit). If the answer has a fun, the
%% caller sends the answer and then calls it.
-spec handle(question(), Server :: atom(), meerkat_audit:who()) ->
    answer() | {ok, term(), fun(() -> term())}.
handle(Question, Server, Who) ->
    meerkat_audit:by(Who, deed(Question), fun() -> handle(Question, Server) end).

%% Does the question change something? Otherwise it only looks.
-spec is_deed(question()) -> boolean().
is_deed(Question) ->
    deed(Question) =/= none.

-spec deed(question()) -> meerkat_audit:deed() | none.
deed({reload, []}) -> {reload, #{}};
deed({drain, [#{} = Options]}) ->
    Names = #{to => to, deadline => deadline_s, stay => stay},
    {drain, maps:from_list([{maps:get(Key, Names), Value}
                            || {Key, Value} <- maps:to_list(Options), is_map_key(Key, Names)])};
deed({undrain, []}) -> {undrain, #{}};
deed({upgrade, []}) -> {upgrade, #{}};
deed({capture, [Id, #{} = Options]}) ->
    {capture, maps:merge(#{id => Id}, meerkat_capture:told(Options))};
deed({disconnect, [{user, User}]}) -> {disconnect, #{user => User}};
deed({disconnect, [Id]}) when is_binary(Id) -> {disconnect, #{id => Id}};
deed({revoke, [User]}) -> {revoke, #{user => User}};
deed({revoke, [User, Ttl]}) -> {revoke, #{user => User, ttl_s => Ttl}};
deed({add_user, [User, {Proof, _}, Realm]}) ->
    {add_user, in_realm(Realm, #{user => User, proof => Proof})};
deed({remove_user, [User, Realm]}) -> {remove_user, in_realm(Realm, #{user => User})};
deed({add_secret, [_, Realm]}) -> {add_secret, in_realm(Realm, #{})};
deed({remove_secret, [Id, Realm]}) -> {remove_secret, in_realm(Realm, #{id => Id})};
deed({Change, [Kind, Range, Realm]}) when Change =:= add_peer; Change =:= remove_peer ->
    {Change, in_realm(Realm, #{kind => Kind, range => Range})};
deed({set_realm, [Realm, #{} = Limits]}) ->
    {set_realm, in_realm(Realm, maps:with(meerkat_config_group:stored(), Limits))};
deed({remove_realm, [Realm]}) -> {remove_realm, in_realm(Realm, #{})};
deed({loglevel, [Level]}) -> {loglevel, #{log_level => Level}};
deed({credentials, [User, #{} = Options]}) ->
    {credentials, maps:merge(#{user => User}, meerkat_credentials:told(Options))};
deed(_) -> none.

in_realm(default, Details) -> Details;
in_realm(Realm, Details) -> Details#{realm => Realm}.

handle({ping, []}, _) ->
    {ok, Version} = application:get_key(meerkat, vsn),
    {ok, #{version => list_to_binary(Version), os_pid => list_to_integer(os:getpid())}};
handle({credentials, [User, #{} = Options]}, Server) when is_binary(User) ->
    case meerkat_credentials:asked(Server, User, Options) of
        {ok, Credentials} -> {ok, Credentials};
        {error, {_What, Sentence}} -> {error, Sentence}
    end;
handle({service, []}, Server) ->
    {ok, service(Server)};
handle({info, []}, Server) ->
    {ok, meerkat:info(Server)};
handle({status, []}, Server) ->
    {ok, (meerkat:status(Server))#{server := atom_to_binary(Server)}};
handle({config, []}, Server) ->
    {ok, meerkat_config:effective(meerkat_settings:config(meerkat_registry:settings(Server)))};
handle({config, [Realm]}, Server) when is_binary(Realm) ->
    meerkat_config:effective(meerkat_settings:config(meerkat_registry:settings(Server)), Realm);
handle({doctor, []}, Server) ->
    {ok, doctor(Server)};
handle({allocations, [Filter]}, Server) when is_map(Filter) ->
    {Total, Rows} = meerkat_sessions:list(Server, Filter),
    {ok, #{total => Total, allocations => Rows}};
handle({allocation, [Id]}, Server) when is_binary(Id) ->
    case meerkat:allocation(Server, Id) of
        {ok, Details} -> {ok, Details};
        {error, not_found} -> {error, no_such(Id)}
    end;
handle({watch, [Who, #{} = Options]}, Server) ->
    case meerkat:watch(Server, Who, Options) of
        {ok, Id} -> {ok, #{watch => Id}};
        {error, not_found} -> {error, no_such(Who)};
        {error, too_many} -> {error, <<"so many watches as there may be go on already; one ends "
                                       "by itself when its time is over">>};
        {error, seconds} -> {error, <<"a watch lasts from 1 to 3600 seconds">>}
    end;
handle({capture, [Id, #{file := _} = Options]}, Server) when is_binary(Id) ->
    case meerkat:capture(Server, Id, Options) of
        {ok, Capture} -> {ok, #{capture => Capture}};
        {error, not_found} -> {error, no_such(Id)};
        {error, Refusal} -> {error, meerkat_capture:words(Refusal)}
    end;
handle({captured, [Id]}, Server) when is_binary(Id) ->
    capture(meerkat:captured(Server, Id));
handle({uncapture, [Id]}, Server) when is_binary(Id) ->
    capture(meerkat:uncapture(Server, Id));
handle({explain, [Who]}, Server) ->
    case meerkat:explain(Server, Who) of
        {ok, Explanations} -> {ok, #{explanations => Explanations}};
        {error, not_found} -> {error, no_such(Who)}
    end;
handle({watched, [Id]}, Server) when is_binary(Id) ->
    case meerkat:watched(Server, Id) of
        {ok, Events, State} -> {ok, #{events => Events, state => State}};
        {error, not_found} -> {error, <<"this watch is over">>}
    end;
handle({unwatch, [Id]}, Server) when is_binary(Id) ->
    ok = meerkat:unwatch(Server, Id),
    {ok, done};
handle({disconnect, [Who]}, Server) ->
    case {meerkat:disconnect(Server, Who), Who} of
        {0, {user, User}} -> {error, <<"no allocation of user ", (escaped(User))/binary>>};
        {0, Id} -> {error, no_such(Id)};
        {N, _} -> {ok, N}
    end;
handle({revoke, [User]}, Server) when is_binary(User) ->
    revoked(meerkat:revoke(Server, User));
handle({revoke, [User, Ttl]}, Server) when is_binary(User), is_integer(Ttl), Ttl > 0 ->
    revoked(meerkat:revoke(Server, User, Ttl));
handle({users, []}, Server) ->
    sentence(meerkat_users:all(Server));
handle({users, [Realm]}, Server) when is_binary(Realm) ->
    sentence(meerkat_users:list(Server, Realm));
handle({add_user, [User, Proof, Realm]}, Server) ->
    sentence(meerkat:add_user(Server, User, Proof, Realm));
handle({remove_user, [User, Realm]}, Server) ->
    sentence(meerkat:remove_user(Server, User, Realm));
handle({secrets, []}, Server) ->
    sentence(meerkat_secrets:list(Server, all));
handle({secrets, [Realm]}, Server) when is_binary(Realm) ->
    sentence(meerkat_secrets:list(Server, Realm));
handle({add_secret, [Secret, Realm]}, Server) ->
    sentence(meerkat_secrets:add(Server, Realm, Secret));
handle({remove_secret, [Id, Realm]}, Server) ->
    sentence(meerkat_secrets:remove(Server, Realm, Id));
handle({peers, []}, Server) ->
    sentence(meerkat_database_peers:list(Server));
handle({add_peer, [Kind, Range, Realm]}, Server) ->
    sentence(meerkat_database_peers:add(Server, Kind, of_realm(Realm), Range));
handle({remove_peer, [Kind, Range, Realm]}, Server) ->
    sentence(meerkat_database_peers:remove(Server, Kind, of_realm(Realm), Range));
handle({realms, []}, Server) ->
    sentence(meerkat_database_realms:list(Server));
handle({set_realm, [Realm, #{} = Limits]}, Server) ->
    sentence(meerkat_database_realms:set(Server, Realm, Limits));
handle({remove_realm, [Realm]}, Server) ->
    sentence(meerkat_database_realms:remove(Server, Realm));
handle({loglevel, []}, Server) ->
    {ok, case is_own_node(Server) of
        true -> meerkat:loglevel();
        false -> meerkat_log:application_level()
    end};
handle({loglevel, [Text]}, Server) ->
    case [Level || Level <- ?LEVELS, atom_to_binary(Level) =:= Text] of
        [Level] ->
            ok = case is_own_node(Server) of
                true -> meerkat:loglevel(Level);
                false -> meerkat_log:set_application_level(Level)
            end,
            {ok, Level};
        [] ->
            Levels = lists:join(", ", [atom_to_list(Level) || Level <- ?LEVELS]),
            {error, iolist_to_binary(["a log level is one of ", Levels])}
    end;
handle({reload, How}, Server) when How =:= []; How =:= [dry_run] ->
    case meerkat_store:get(Server, ?MODULE, loaded) of
        none -> {error, <<"this server was not started from a file or the environment">>};
        Options -> reload(How, Server, meerkat_config:load(Options))
    end;
handle({drain, [#{} = Options]}, Server) ->
    drain(Server, Options);
handle({upgrade, []}, Server) ->
    sentence(meerkat_upgrade:run(Server));
handle({undrain, []}, Server) ->
    ok = meerkat:undrain(Server),
    {ok, done};
handle(_, _) ->
    {error, <<"the server does not know this question; is it older than meerkatctl?">>}.

of_realm(default) -> <<>>;
of_realm(Realm) -> Realm.

service(Server) ->
    #{listeners := Listeners} = meerkat_registry:settings(Server),
    Realms = [all | lists:usort([Realm || #{realm := Realm} <- Listeners])],
    Found = [Uris || Realm <- Realms, #{turn := [_ | _]} = Uris
                                          <- [meerkat_services:uris(Server, Realm)]],
    hd(Found ++ [#{stun => [], turn => []}]).

%% Is this node Meerkat's own? In an embedder's node the level of the log may not be set, and the
%% node is not ended.
is_own_node(Server) ->
    meerkat_store:get(Server, ?MODULE, loaded) =/= none.

%% Remembers the options by which the configuration was loaded: {reload, []} loads it by them again.
%% Only meerkat_boot calls this, in a node of Meerkat's own.
-spec loaded(Server :: atom(), meerkat_config:options()) -> ok.
loaded(Server, Options) ->
    meerkat_store:put_lasting(Server, ?MODULE, loaded, Options).

%% What meerkatctl needs to examine the machine (meerkat_doctor), without secrets. The process
%% number is the relay program's, because its limits (open files, memory) are what counts.
doctor(Server) ->
    #{config := Config, relay_program := Program} = meerkat_registry:settings(Server),
    #{listeners := Udp, tcp_listeners := Tcp, tls_listeners := Tls} = meerkat:info(Server),
    Status = meerkat:status(Server),
    Pid = case meerkat_relay:os_pid(Server) of
        {ok, Number} -> integer_to_binary(Number);
        none -> list_to_binary(os:getpid())
    end,
    Asked = [max_allocations, relays, receive_buffer, send_buffer, io_backend, offload,
             https_backend, proxy_protocol_from, tcp_relay],
    (maps:merge(maps:with(Asked, Config()),
                maps:with([certificates, client_authorities, certificates_refused, database,
                           accounting], Status)))#{
        listening => #{udp => Udp, tcp => Tcp, tls => Tls},
        clock_step_s => meerkat_clock:step_s(meerkat_registry:clock_offset(Server)),
        relay_pid => Pid,
        relay_program => case Program of
            default -> filename:join(code:priv_dir(meerkat), "meerkat_relay");
            _ -> Program
        end}.

reload(How, Server, {ok, Config, Warnings}) ->
    case reloaded(How, Server, Config) of
        {ok, Changes} ->
            {ok, #{changes => Changes,
                   warnings => [unicode:characters_to_binary(Warning) || Warning <- Warnings]}};
        {error, Sentence} ->
            {error, unicode:characters_to_binary(meerkat:format_error(Sentence))}
    end;
reload(_How, _Server, {error, Mistakes}) ->
    {error, unicode:characters_to_binary(lists:join("\n", Mistakes))}.

reloaded([dry_run], Server, Config) ->
    meerkat_reload:try_out(Server, Config);
reloaded([], Server, Config) ->
    case meerkat_reload:reload(Server, Config) of
        {ok, Changes} ->
            ok = meerkat_log:change(Config),
            {ok, Changes};
        {error, Sentence} ->
            {error, Sentence}
    end.

drain(Server, #{to := Text} = Options) ->
    case meerkat_config_value:parse_text({list, server}, Text) of
        {ok, Servers} ->
            case meerkat:redirect(Server, Servers) of
                ok -> drained(Server, Options);
                {error, own_address} -> {error, <<"that is an address of this server itself">>}
            end;
        {error, {Shown, Allowed}} ->
            {error, iolist_to_binary([Shown, " must be ", Allowed])}
    end;
drain(Server, Options) ->
    ok = meerkat:drain(Server),
    drained(Server, Options).

drained(Server, #{stay := true}) ->
    {ok, meerkat_alloc_table:count(Server)};
drained(Server, Options) ->
    Deadline = maps:get(deadline, Options, infinity),
    End = case is_own_node(Server) of
        true -> {meerkat_drain, end_node, []};
        false -> {meerkat, drained, [Server]}
    end,
    {ok, meerkat_alloc_table:count(Server), fun() ->
        meerkat_drain:end_after(Server, Deadline, operator, End)
    end}.

capture({ok, State}) -> {ok, State};
capture({error, not_found}) -> {error, <<"this capture is over">>}.

revoked({ok, N}) -> {ok, N};
revoked({error, full}) -> {error, <<"too many users are revoked already">>}.

no_such(Id) when is_binary(Id) -> <<"there is no allocation ", (escaped(Id))/binary>>;
no_such(_) -> <<"there is no such allocation">>.

escaped(Text) ->
    unicode:characters_to_binary(meerkat_text:escape(Text)).

sentence({ok, Result}) -> {ok, Result};
sentence({error, Sentence}) -> {error, unicode:characters_to_binary(Sentence)}.
