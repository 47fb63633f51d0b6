%% Certificates over time: files that change under a running server, what is bad in them, those that
%% end, and the one that a server makes for itself. What a client is shown of them is tls_SUITE's.
-module(certificates_SUITE).

-include_lib("stdlib/include/assert.hrl").

-import(turn_kit, [doc/1, with_server/2, eventually/1]).

-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2, init_per_testcase/2,
         end_per_testcase/2]).
-export([files_written_over/1, links_that_move/1, bad_files_leave_the_old/1, refused_is_told/1,
         days_left_are_told/1, over_in_force_stays/1, self_signed_is_kept/1,
         self_signed_without_a_directory/1, self_signed_follows_addresses/1,
         self_signed_beside_another/1]).

-spec all() -> [tuple()].
all() -> [{group, files}, {group, self_signed}].

%% Files are looked at every other second: most of the time goes by waiting for that. Where a
%% certificate of our own making is kept is in the environment, of which there is one.
-spec groups() -> [tuple()].
groups() ->
    [{files, [parallel],
      [files_written_over, links_that_move, bad_files_leave_the_old, refused_is_told,
       days_left_are_told, over_in_force_stays]},
     {self_signed, [],
      [self_signed_is_kept, self_signed_without_a_directory, self_signed_follows_addresses,
       self_signed_beside_another]}].

-spec suite() -> [tuple()].
suite() -> [{timetrap, {seconds, 60}}].

-spec init_per_group(atom(), turn_kit:config()) -> turn_kit:config().
init_per_group(Group, Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "speaks UDP to others"}),
    [{group, Group} | Config].

-spec end_per_group(atom(), turn_kit:config()) -> _.
end_per_group(_, _Config) -> ok.

-spec init_per_testcase(atom(), turn_kit:config()) -> turn_kit:config().
init_per_testcase(Case, Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Case),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    State = [{state_directory, keep_state_in(Dir)}
             || proplists:get_value(group, Config) =:= self_signed],
    [{dir, Dir}, {authority, certificate_kit:authority(Dir)}] ++ State ++ Config.

%% Where it was kept before.
keep_state_in(Dir) ->
    Before = os:getenv("STATE_DIRECTORY"),
    true = os:putenv("STATE_DIRECTORY", Dir),
    Before.

-spec end_per_testcase(atom(), turn_kit:config()) -> _.
end_per_testcase(_, Config) ->
    case proplists:lookup(state_directory, Config) of
        none -> ok;
        {_, false} -> os:unsetenv("STATE_DIRECTORY");
        {_, Before} -> os:putenv("STATE_DIRECTORY", Before)
    end.

dir(Config) -> proplists:get_value(dir, Config).
in(Config, Name) -> filename:join(dir(Config), Name).

-define(NAMES, "DNS:turn.example.org,DNS:b.example.org").

authority(Config) -> proplists:get_value(authority, Config).

issued(Config) -> certificate_kit:issued(authority(Config), ?NAMES).
issued(Config, Days) -> certificate_kit:issued(authority(Config), ?NAMES, Days).
expired(Config) -> certificate_kit:expired(authority(Config), ?NAMES).

%% As a configuration read from these files has it.
loaded(Chain, Key) ->
    {ok, #{certificates := Certificates}, _} =
        meerkat_config:load(#{file => none, env => [{"TLS_CERT", Chain}, {"TLS_KEY", Key},
                                                    {"STUN_SECRET", "s"}]}),
    stream_kit:config(Certificates).

copy(#{certificate := Certificate, key := Key}, {ToCertificate, ToKey}) ->
    {ok, _} = file:copy(Certificate, ToCertificate),
    {ok, _} = file:copy(Key, ToKey).

pair(Config) -> {in(Config, "fullchain.pem"), in(Config, "privkey.pem")}.

%% What a new client is shown, as DER.
shown(#{name := Name}) ->
    #{tls_listeners := [To | _]} = meerkat:info(Name),
    Connection = stream_kit:open(tls, To, #{tls => []}),
    #{certificate := Der} = stream_kit:info(Connection),
    stream_kit:close(Connection),
    Der.

der(#{certificate := File}) -> der(File);
der(File) ->
    {ok, Pem} = file:read_file(File),
    [{_, Der, _} | _] = public_key:pem_decode(Pem),
    Der.

shows(Server, Pair) -> eventually(fun() -> shown(Server) =:= der(Pair) end).

refused(#{name := Name}) -> maps:get(certificates_refused, meerkat:status(Name)).

%%% Files that change

-spec files_written_over(turn_kit:config()) -> _.
files_written_over(Config) ->
    doc("files written over are in force without a word; connections and allocations go on"),
    {First, Second} = {issued(Config), issued(Config)},
    {Chain, Key} = Files = pair(Config),
    _ = copy(First, Files),
    with_server(loaded(Chain, Key), fun(Server) ->
        shows(Server, First),
        Client = turn_kit:allocated(Server, [], #{transport => tls}),
        _ = copy(Second, Files),
        shows(Server, Second),
        turn_kit:fence(Client),
        turn_kit:close(Client)
    end).

-spec links_that_move(turn_kit:config()) -> _.
links_that_move(Config) ->
    doc("symbolic links that point elsewhere: of a file, as certbot's; of the directory above, as "
        "those of a Kubernetes secret"),
    [A, B, C] = Pairs = [issued(Config) || _ <- [1, 2, 3]],
    [begin
         ok = filelib:ensure_dir(in(Config, [Dir, "/x"])),
         copy(Pair, {in(Config, [Dir, "/tls.crt"]), in(Config, [Dir, "/tls.key"])})
     end || {Pair, Dir} <- lists:zip(Pairs, ["a", "b", "c"])],
    Link = fun(To, Name) ->
        _ = file:delete(in(Config, "new")),
        ok = file:make_symlink(To, in(Config, "new")),
        ok = file:rename(in(Config, "new"), in(Config, Name))
    end,
    Link("a", "..data"),
    [ok = file:make_symlink("..data/" ++ Name, in(Config, Name)) || Name <- ["tls.crt", "tls.key"]],
    with_server(loaded(in(Config, "tls.crt"), in(Config, "tls.key")), fun(Server) ->
        shows(Server, A),
        Link("b", "..data"),
        shows(Server, B),
        [Link("c/" ++ Name, Name) || Name <- ["tls.crt", "tls.key"]],
        shows(Server, C)
    end).

-spec bad_files_leave_the_old(turn_kit:config()) -> _.
bad_files_leave_the_old(Config) ->
    doc("half written, mismatched, over, gone: what was in force stays, and the file is named"),
    {First, Second, Over} = {issued(Config), issued(Config), expired(Config)},
    {Chain, Key} = Files = pair(Config),
    _ = copy(First, Files),
    {ok, Whole} = file:read_file(maps:get(certificate, Second)),
    with_server(loaded(Chain, Key), fun(Server) ->
        [begin
             _ = Spoil(),
             eventually(fun() -> is_binary(refused(Server)) andalso
                                     binary:match(refused(Server), Why) =/= nomatch end),
             ?assertNotEqual(nomatch, binary:match(refused(Server), list_to_binary(File))),
             ?assertEqual(der(First), shown(Server))
         end || {Spoil, File, Why} <-
             [{fun() -> file:write_file(Chain, binary:part(Whole, 0, 200)) end, Chain,
               <<"no certificate in PEM">>},
              {fun() -> file:write_file(Chain, Whole) end, Key,
               <<"the key is not that of the certificate">>},
              {fun() -> copy(Over, Files) end, Chain, <<"expired on">>},
              {fun() -> file:delete(Key) end, Key, <<"no such file">>}]],
        _ = copy(Second, Files),
        shows(Server, Second),
        eventually(fun() -> refused(Server) =:= null end)
    end).

-spec refused_is_told(turn_kit:config()) -> _.
refused_is_told(Config) ->
    doc("status, metrics and doctor tell that what is in the files is not in force"),
    {First, Second} = {issued(Config), issued(Config)},
    {Chain, Key} = Files = pair(Config),
    _ = copy(First, Files),
    Settings = (loaded(Chain, Key))#{http_listen => {{127, 0, 0, 1}, 0}},
    with_server(Settings, fun(#{name := Name} = Server) ->
        ?assertEqual(0.0, metric(Server, <<"meerkat_tls_certificates_refused">>)),
        {ok, _} = file:copy(maps:get(key, Second), Key),
        eventually(fun() -> refused(Server) =/= null end),
        ?assertEqual(1.0, metric(Server, <<"meerkat_tls_certificates_refused">>)),
        Text = unicode:characters_to_binary(meerkat_show:status(meerkat:status(Name))),
        ?assertNotEqual(nomatch, binary:match(Text, <<"not taken     tls_cert ">>)),
        {ok, Told} = meerkat_admin:handle({doctor, []}, Name, node),
        ?assertMatch([{ok, _, none}, {error, ["not in force: " | _], _}],
                     meerkat_doctor_certificates:examine(Told))
    end).

metric(Server, Name) ->
    #{Name := #{samples := [{_, _, Value}]}} = http_kit:metrics(Server),
    float(Value).

-spec days_left_are_told(turn_kit:config()) -> _.
days_left_are_told(Config) ->
    doc("status, metrics and doctor tell of each certificate when it is over"),
    {Long, Short} = {issued(Config, 90), issued(Config, 3)},
    Path = fun(Key) -> string:join([maps:get(Key, P) || P <- [Long, Short]], ",") end,
    Settings = (loaded(Path(certificate), Path(key)))#{http_listen => {{127, 0, 0, 1}, 0}},
    with_server(Settings, fun(#{name := Name} = Server) ->
        File = list_to_binary(maps:get(certificate, Short)),
        #{certificates := [First, Second]} = meerkat:status(Name),
        ?assertMatch(#{names := [<<"turn.example.org">>, <<"b.example.org">>],
                       self_signed := false}, First),
        ?assertMatch(#{file := File, days_left := Days} when Days =:= 2; Days =:= 3, Second),
        #{<<"meerkat_tls_certificate_expiry_timestamp_seconds">> := #{samples := Samples}} =
            http_kit:metrics(Server),
        ?assertEqual([maps:get(not_after, C) || C <- [First, Second]],
                     [trunc(End) || {_, _, End} <- Samples]),
        {ok, Told} = meerkat_admin:handle({doctor, []}, Name, node),
        ?assertMatch([{ok, _, none}, {warning, _, _}],
                     meerkat_doctor_certificates:examine(Told))
    end),
    %% As where no server runs.
    ?assertMatch([{ok, _, none}, {warning, _, _}],
                 meerkat_doctor_certificates:examine(Settings)).

-spec over_in_force_stays(turn_kit:config()) -> _.
over_in_force_stays(Config) ->
    doc("a certificate that is over while it is in force costs nobody else the next relay program"),
    {Server, Pair} = with_what_ends_soon(Config, 2),
    #{name := Name} = Server,
    try
        eventually(fun() ->
            [#{not_after := End}] = maps:get(certificates, meerkat:status(Name)),
            os:system_time(second) > End
        end),
        {ok, Pid} = meerkat_relay:os_pid(Name),
        _ = os:cmd("kill -KILL " ++ integer_to_list(Pid)),
        eventually(fun() -> maps:get(relay_restarts, meerkat:info(Name)) =:= 1
                                andalso meerkat_status:is_ready(Name) end),
        turn_kit:alive(Server),
        ?assertEqual(der(Pair), shown(Server)),
        ?assertMatch([{error, _, _}],
                     meerkat_doctor_certificates:examine(meerkat:status(Name)))
    after
        turn_kit:stop_server(Server)
    end.

%% A server with a certificate that is good for so many seconds, or for more if it was over before
%% the server had started.
with_what_ends_soon(Config, Seconds) ->
    #{certificate := Chain, key := Key} = Pair =
        certificate_kit:ending(issued(Config), os:system_time(second) + Seconds),
    try
        {turn_kit:start_server(loaded(Chain, Key)), Pair}
    catch
        error:{badmatch, {error, Why}} ->
            ?assertMatch({match, _}, re:run(io_lib:format("~tp", [Why]), "expired")),
            with_what_ends_soon(Config, 2 * Seconds)
    end.

%%% One of our own making

self_signed() -> (stream_kit:config([]))#{tls_self_signed => true}.

with_tls() ->
    #{listeners := Listeners} = Settings = self_signed(),
    Settings#{listeners := Listeners ++ [#{transport => tls, ip => {127, 0, 0, 1}, port => 0}]}.

-spec self_signed_is_kept(turn_kit:config()) -> _.
self_signed_is_kept(Config) ->
    doc("made once, kept where nobody else reads it, and the same after the next start; a client "
        "that knows its fingerprint finds the server"),
    Made = with_server(with_tls(), fun(#{name := Name} = Server) ->
        [#{fingerprint := Fingerprint, self_signed := true, file := File, names := Names}] =
            maps:get(certificates, meerkat:status(Name)),
        ?assertEqual([<<"127.0.0.1">>, <<"::1">>], lists:sort(Names)),
        ?assertEqual(in(Config, "self-signed.pem"), binary_to_list(File)),
        {ok, Info} = file:read_file_info(File),
        ?assertEqual(8#600, element(8, Info) band 8#777),
        ?assertEqual(der(File), shown(Server)),
        #{tls_listeners := [To | _]} = meerkat:info(Name),
        Uri = ["turns:", meerkat_text:address(To), "?transport=tcp"],
        {ok, Found} = meerkat_client:start_link(#{server => Uri,
                                                  fingerprint => Fingerprint}),
        {ok, _} = meerkat_client:binding(Found),
        ok = meerkat_client:close(Found),
        #{fingerprint => Fingerprint}
    end),
    with_server(with_tls(), fun(#{name := Name}) ->
        ?assertMatch([Same] when map_get(fingerprint, Same) =:= map_get(fingerprint, Made),
                     maps:get(certificates, meerkat:status(Name)))
    end).

-spec self_signed_without_a_directory(turn_kit:config()) -> _.
self_signed_without_a_directory(Config) ->
    doc("where it cannot be kept it is there all the same, until the server ends; reloads keep it"),
    ok = file:write_file(in(Config, "file"), <<>>),
    true = os:putenv("STATE_DIRECTORY", in(Config, "file")),
    with_server(with_tls(), fun(#{name := Name}) ->
        #{certificates := [#{file := <<"(", _/binary>>}] = Before} = meerkat:status(Name),
        Now = meerkat_settings:config(meerkat_registry:settings(Name)),
        ok = meerkat:reload(Name, Now#{certificates := []}),
        ?assertEqual(Before, maps:get(certificates, meerkat:status(Name)))
    end).

-spec self_signed_follows_addresses(turn_kit:config()) -> _.
self_signed_follows_addresses(_Config) ->
    doc("other addresses for clients: another certificate, that has them"),
    with_server(with_tls(), fun(#{name := Name} = Server) ->
        Before = shown(Server),
        #{relays := Relays} = Now = meerkat_settings:config(meerkat_registry:settings(Name)),
        ok = meerkat:reload(Name, Now#{relays := [R#{advertised := {192, 0, 2, 77}}
                                                  || #{local := {127, _, _, _}} = R <- Relays]}),
        #{certificates := [#{names := Names}]} = meerkat:status(Name),
        ?assert(lists:member(<<"192.0.2.77">>, Names)),
        ?assertNotEqual(Before, shown(Server))
    end).

-spec self_signed_beside_another(turn_kit:config()) -> _.
self_signed_beside_another(Config) ->
    doc("tls_self_signed opens the port of TLS as tls_cert does, and beside it is a mistake"),
    #{certificate := Chain, key := Key} = issued(Config),
    Load = fun(Env) -> meerkat_config:load(#{file => none, env => [{"STUN_SECRET", "s"},
                                                    {"TLS_SELF_SIGNED", "true"} | Env]}) end,
    {ok, #{listeners := Listeners, certificates := []}, _} = Load([]),
    ?assert(lists:member(#{transport => tls, ip => any, port => 5349}, Listeners)),
    {error, [Sentence]} = Load([{"TLS_CERT", Chain}, {"TLS_KEY", Key}]),
    ?assertEqual(<<"TLS_SELF_SIGNED is true, and TLS_CERT names a certificate: only one of them "
                   "can be shown">>, iolist_to_binary(Sentence)).
