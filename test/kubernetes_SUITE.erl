%% The manifests of examples/kubernetes against the server that they are for: a server is started by
%% the configuration that is in them, and asked what probes and Prometheus ask. What one part of
%% them calls another by is there.
-module(kubernetes_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([a_server_starts_by_it/1, parts_find_each_other/1, it_has_time_to_drain/1,
         the_profile_allows_what_a_server_does/1]).

-import(turn_kit, [doc/1]).

-define(DIR, "examples/kubernetes").

all() -> [a_server_starts_by_it, parts_find_each_other, it_has_time_to_drain,
          the_profile_allows_what_a_server_does].

suite() -> [{timetrap, {minutes, 1}}].

a_server_starts_by_it(Config) ->
    doc("the configuration is one for a node of Meerkat's own without a mistake or a warning, with "
        "files where the manifest mounts them; a server by it answers each probe and /metrics at "
        "the port that has the name"),
    {ok, _} = application:ensure_all_started(meerkat),
    {ok, Loaded, Warnings} = loaded(Config, [{"RELAY_IP", "9.9.9.9/127.0.0.1"}]),
    ?assertEqual([], Warnings),
    #{http_listen := {_, Http}, fleet_port := Fleet, listeners := Listeners} = Loaded,
    Ports = [{Transport, Port} || #{transport := Transport, port := Port} <- Listeners],
    ?assertEqual(lists:sort([{<<"http">>, Http}, {<<"fleet">>, Fleet},
                             {<<"turn-udp">>, proplists:get_value(udp, Ports)},
                             {<<"turn-tcp">>, proplists:get_value(tcp, Ports)},
                             {<<"turns">>, proplists:get_value(tls, Ports)}]),
                 lists:sort([{Name, Port} || #{<<"name">> := Name, <<"containerPort">> := Port}
                                                 <- maps:get(<<"ports">>, container())])),
    {ok, Tried, _} = loaded(Config, [{"LISTEN_IP", "127.0.0.1"}, {"LISTEN_PORT", "0"},
                                     {"TLS_PORT", "0"}, {"RELAY_IP", "127.0.0.1"},
                                     {"HTTP_LISTEN", "127.0.0.1:0"}]),
    {ok, _} = meerkat:start_server(?FUNCTION_NAME, Tried#{fleet := []}),
    try
        {_, Port} = meerkat_http:address(?FUNCTION_NAME),
        #{<<"spec">> := #{<<"endpoints">> := [Endpoint]}} = kind(<<"ServiceMonitor">>),
        #{<<"port">> := <<"http">>, <<"path">> := Metrics} = Endpoint,
        Probes = [maps:get(Probe, container())
                  || Probe <- [<<"startupProbe">>, <<"livenessProbe">>, <<"readinessProbe">>]],
        Paths = [Path || #{<<"httpGet">> := #{<<"port">> := <<"http">>, <<"path">> := Path}}
                             <- Probes],
        ?assertEqual(3, length(Paths)),
        _ = [?assertMatch({Path, {ok, {{_, 200, _}, _, _}}},
                          {Path, httpc:request("http://127.0.0.1:" ++ integer_to_list(Port)
                                                   ++ binary_to_list(Path))})
             || Path <- [Metrics | Paths]]
    after
        ok = meerkat:stop_server(?FUNCTION_NAME)
    end.

%% As the container has it: its environment, with the address of a pod, and the file, whose paths
%% lead to files of ours.
loaded(Config, Env) ->
    #{<<"data">> := #{<<"meerkat.cfg">> := Text}} = kind(<<"ConfigMap">>),
    Dir = proplists:get_value(priv_dir, Config),
    #{certificate := Ca} = Authority = certificate_kit:authority(Dir),
    #{certificate := Certificate, key := Key} = certificate_kit:issued(Authority, "DNS:node"),
    Secret = filename:join(Dir, "secret"),
    ok = file:write_file(Secret, "sesame\n"),
    Files = #{"secrets/stun-secret" => Secret, "secrets/fleet-secret" => Secret,
              "tls/tls.crt" => Certificate, "tls/tls.key" => Key, "fleet/tls.crt" => Certificate,
              "fleet/tls.key" => Key, "fleet/ca.crt" => Ca},
    ?assertEqual(lists:sort(maps:keys(Files)), paths(Text)),
    File = filename:join(Dir, "meerkat.cfg"),
    ok = file:write_file(File, maps:fold(fun(Path, Ours, Before) ->
        string:replace(Before, "/etc/meerkat/" ++ Path, Ours, all)
    end, Text, Files)),
    Given = [case Row of
                 #{<<"name">> := <<"CONFIG_FILE">>, <<"value">> := _} -> {"CONFIG_FILE", File};
                 #{<<"name">> := Name, <<"value">> := Value} -> {Name, Value};
                 #{<<"name">> := <<"FLEET_IP">> = Name, <<"valueFrom">> := _} -> {Name, "127.0.0.1"}
             end || Row <- maps:get(<<"env">>, container())],
    meerkat_config:load(#{env => Given ++ Env, own_node => true}).

paths(Text) ->
    {match, Found} = re:run(Text, "\"/etc/meerkat/([^\"]+)\"",
                            [global, {capture, all_but_first, list}]),
    lists:sort(lists:append(Found)).

parts_find_each_other(_) ->
    doc("each path of the configuration lies in a volume that is mounted, each mount has a volume, "
        "and that its map or secret; whoever selects pods or services selects ours"),
    #{<<"data">> := #{<<"meerkat.cfg">> := Text}, <<"metadata">> := #{<<"name">> := Map}} =
        kind(<<"ConfigMap">>),
    Mounts = maps:get(<<"volumeMounts">>, container()),
    At = [binary_to_list(Path) ++ "/" || #{<<"mountPath">> := Path} <- Mounts],
    ?assertEqual([], [Path || Path <- paths(Text),
                              not lists:any(fun(Dir) ->
                                  lists:prefix(Dir, "/etc/meerkat/" ++ Path)
                              end, At)]),
    #{<<"volumes">> := Volumes} = pod(),
    ?assertEqual(lists:sort([Name || #{<<"name">> := Name} <- Mounts]),
                 lists:sort([Name || #{<<"name">> := Name} <- Volumes])),
    ?assertEqual([Map], [Name || #{<<"configMap">> := #{<<"name">> := Name}} <- Volumes]),
    {ok, Readme} = file:read_file(filename:join(docs_kit:root(), ?DIR "/README.md")),
    _ = [?assertMatch({match, _}, re:run(Readme, ["create secret [a-z]+ ", Name, " "]))
         || #{<<"secret">> := #{<<"secretName">> := Name}} <- Volumes],
    #{<<"spec">> := #{<<"template">> := #{<<"metadata">> := #{<<"labels">> := Labels}},
                      <<"selector">> := #{<<"matchLabels">> := Own}}} = kind(<<"DaemonSet">>),
    #{<<"spec">> := #{<<"selector">> := #{<<"matchLabels">> := Budget}}} =
        kind(<<"PodDisruptionBudget">>),
    #{<<"spec">> := #{<<"selector">> := Service}, <<"metadata">> := #{<<"name">> := Fleet,
                                                                      <<"labels">> := OfService}} =
        kind(<<"Service">>),
    #{<<"spec">> := #{<<"selector">> := #{<<"matchLabels">> := Monitored}}} =
        kind(<<"ServiceMonitor">>),
    ?assertEqual([Labels, Labels, Labels, OfService], [Own, Budget, Service, Monitored]),
    ?assertEqual([Fleet], [Value || #{<<"name">> := <<"FLEET">>, <<"value">> := Value}
                                        <- maps:get(<<"env">>, container())]).

it_has_time_to_drain(Config) ->
    doc("the time that a pod is given to end is longer than drain_deadline, or calls would be cut "
        "off before; and preStop is a command that there is"),
    {ok, #{drain_deadline := Deadline}, _} = loaded(Config, []),
    #{<<"terminationGracePeriodSeconds">> := Grace} = pod(),
    ?assert(Grace > Deadline),
    #{<<"lifecycle">> := #{<<"preStop">> := #{<<"exec">> := #{<<"command">> := Command}}}} =
        container(),
    ?assertEqual([<<"meerkatctl">>, <<"drain">>, <<"--stay">>], Command),
    ?assertMatch({match, _}, re:run(meerkat_cli_options:usage("drain"), "--stay")).

the_profile_allows_what_a_server_does(_) ->
    doc("the seccomp profile allows io_uring and every call that the unit of systemd allows, which "
        "release_SUITE has a server serve with, and none that loads or traces another program"),
    {ok, Json} = file:read_file(filename:join(docs_kit:root(), ?DIR "/meerkat-io_uring.json")),
    {ok, #{<<"defaultAction">> := <<"SCMP_ACT_ERRNO">>,
           <<"syscalls">> := [#{<<"action">> := <<"SCMP_ACT_ALLOW">>, <<"names">> := Names}]}} =
        meerkat_json:decode(Json),
    ?assertEqual([], [<<"io_uring_setup">>, <<"io_uring_enter">>, <<"io_uring_register">>,
                      <<"execve">>, <<"clone3">>, <<"sendmmsg">>] -- Names),
    ?assertEqual(Names, lists:usort(Names)),
    _ = [?assertNot(lists:member(Name, Names))
         || Name <- [<<"ptrace">>, <<"mount">>, <<"init_module">>, <<"kexec_load">>, <<"reboot">>]],
    #{<<"securityContext">> := #{<<"seccompProfile">> := #{<<"localhostProfile">> := Profile}}} =
        pod(),
    ?assertEqual(<<"meerkat-io_uring.json">>, Profile).

%%% Manifests

container() ->
    #{<<"containers">> := [Container]} = pod(),
    Container.

pod() ->
    #{<<"spec">> := #{<<"template">> := #{<<"spec">> := Pod}}} = kind(<<"DaemonSet">>),
    Pod.

%% There is one of each.
kind(Kind) ->
    [Manifest] = [M || #{<<"kind">> := Of} = M <- manifests(), Of =:= Kind],
    Manifest.

manifests() ->
    lists:append([manifests(filename:join([docs_kit:root(), ?DIR, File]))
                  || File <- ["meerkat.yaml", "monitoring.yaml"]]).

manifests(File) ->
    Script = "import json, sys, yaml\n"
             "print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))",
    Json = os:cmd("/usr/bin/python3 -c '" ++ Script ++ "' '" ++ File ++ "'"),
    {ok, Manifests} = meerkat_json:decode(unicode:characters_to_binary(Json)),
    Manifests.
