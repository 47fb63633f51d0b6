%% Certificates that clients show over TLS and DTLS: who is asked for one, who is refused, who an
%% embedder's modules and the key tls_client_user take the client for, and what a reload changes.
-module(client_certificate_SUITE).
-behaviour(meerkat_authenticator).
-behaviour(meerkat_authorizer).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([required/1, optional/1, over_dtls/1, openssl_shows_one/1, authenticator_is_told/1,
         who_comes_back_by_a_ticket/1, user_is_in_the_certificate/1, subject_is_written/1,
         another_authority/1, bad_files/1, files_that_change/1, keys/1]).
-export([password/4, authorize/2]).

-import(turn_kit, [doc/1, open/2, challenged/1, allocate/1, allocated/3, permit/2, code/1,
                   counted/3, with_server/2, eventually/1]).

all() ->
    [required, optional, over_dtls, openssl_shows_one, authenticator_is_told,
     who_comes_back_by_a_ticket, user_is_in_the_certificate, subject_is_written,
     another_authority, bad_files, files_that_change, keys].

suite() -> [{timetrap, {seconds, 60}}].

init_per_suite(Config) ->
    os:getenv("MEERKAT_TEST_TARGET") =:= false orelse throw({skip, "asks for certificates"}),
    Dir = proplists:get_value(priv_dir, Config),
    Ca = certificate_kit:authority(Dir),
    Alice = certificate_kit:client(Ca, "/O=Example, Inc./CN=alice",
                                   "email:alice@example.org,URI:turn://alice,DNS:a.example.org"),
    [{dir, Dir}, {ca, Ca}, {alice, Alice}, {server, stream_kit:certificate(Dir, ec, "turn")}
     | Config].

end_per_suite(_Config) -> ok.

get(Key, Config) -> proplists:get_value(Key, Config).

%%% Servers and clients

%% Asks for certificates that these pairs have issued.
asking(Config, Authorities, More) ->
    maps:merge((stream_kit:config([get(server, Config)]))#{
        client_authorities => [authority(A) || A <- Authorities]}, More).

authority(#{certificate := File}) -> #{pem => read(File), file => list_to_binary(File)}.

read(File) ->
    {ok, Content} = file:read_file(File),
    Content.

showing(none) -> [];
showing(#{certificate := File, key := Key}) -> [{certfile, File}, {keyfile, Key}].

to(#{name := Name}) ->
    #{tls_listeners := [To | _]} = meerkat:info(Name),
    To.

%% An allocation by TLS.
welcome(Server, Pair, Options) ->
    turn_kit:close(allocated(Server, [], options(Pair, Options))).

options(Pair, #{tls := Tls} = Options) ->
    maps:merge(#{transport => tls}, Options#{tls := Tls ++ showing(Pair)});
options(Pair, Options) ->
    options(Pair, Options#{tls => []}).

%% With TLS 1.3 the client is done before the server has looked at its certificate.
refused(Server, Counter, Pair) ->
    [counted(Server, Counter, fun() ->
         case stream_kit:open(tls, to(Server), #{tls => [{versions, [Version]} | showing(Pair)],
                                                 error => true}) of
             {error, _} -> ok;
             Connection -> stream_kit:closed(Connection)
         end
     end) || Version <- ['tlsv1.2', 'tlsv1.3']].

%%% Who is asked, and who is refused

required(Config) ->
    doc("tls_client_verify = required: none is refused, and so is one of nobody known, one that "
        "is over, one for servers alone, one that is too long; plain TCP is asked for none"),
    Stranger = certificate_kit:client(certificate_kit:authority(get(dir, Config)), "/CN=alice",
                                      "DNS:a"),
    Long = certificate_kit:client(get(ca, Config), "/CN=alice",
                                  lists:flatten(lists:join($,, [["DNS:", integer_to_list(N),
                                                                 lists:duplicate(40, $x)]
                                                                || N <- lists:seq(1, 100)]))),
    with_server(asking(Config, [get(ca, Config)], #{}), fun(Server) ->
        refused(Server, handshakes_no_certificate, none),
        [refused(Server, handshakes_bad_certificate, Bad)
         || Bad <- [Stranger, certificate_kit:expired(get(ca, Config), "DNS:a"), Long]],
        [welcome(Server, get(alice, Config), #{tls => [{versions, [V]}]})
         || V <- ['tlsv1.2', 'tlsv1.3']],
        turn_kit:close(allocated(Server, [], #{transport => tcp}))
    end).

optional(Config) ->
    doc("tls_client_verify = optional: none will do, one of nobody known will not"),
    Stranger = certificate_kit:self_signed(get(dir, Config), "DNS:a"),
    with_server(asking(Config, [get(ca, Config)], #{tls_client_verify => optional}),
                fun(Server) ->
        welcome(Server, none, #{}),
        welcome(Server, get(alice, Config), #{}),
        refused(Server, handshakes_bad_certificate, Stranger)
    end).

over_dtls(Config) ->
    doc("clients over DTLS are asked as those over TLS are"),
    Asking = asking(Config, [get(ca, Config)], #{authenticator => {?MODULE, self()}}),
    with_server(Asking, fun(#{name := Name} = Server) ->
        welcome(Server, get(alice, Config), #{transport => dtls}),
        ?assertMatch(#{transport := dtls, certificate := #{common_name := <<"alice">>}}, told()),
        #{dtls_listeners := [To | _]} = meerkat:info(Name),
        counted(Server, handshakes_no_certificate, fun() ->
            {error, _} = stream_kit:open(dtls, To, #{error => true})
        end)
    end).

openssl_shows_one(Config) ->
    doc("`openssl s_client -cert` is told which authorities are known, and is welcome"),
    #{certificate := File, key := Key} = get(alice, Config),
    with_server(asking(Config, [get(ca, Config)], #{}), fun(Server) ->
        {Ip, Port} = to(Server),
        Said = counted(Server, handshakes, fun() ->
            os:cmd(["timeout 30 openssl s_client -connect ", inet:ntoa(Ip), $:,
                    integer_to_list(Port), " -cert ", File, " -key ", Key, " </dev/null 2>&1"])
        end),
        %% Newer versions write names without blanks.
        Packed = lists:append(string:replace(Said, " = ", "=", all)),
        [?assertNotEqual({Said, nomatch}, {Said, string:find(Packed, Part)})
         || Part <- ["Acceptable client certificate CA names", "CN=An authority"]]
    end).

%%% Who the client is taken for

%% Tells the case what it was told.
password(<<"alice">>, _Realm, Asker, Case) ->
    Case ! {told, Asker},
    {ok, {password, <<"wonderland">>}};
password(_User, _Realm, _Asker, _Case) ->
    error.

authorize(Request, Case) ->
    Case ! {told, Request},
    allow.

told() ->
    receive {told, What} -> What end.

authenticator_is_told(Config) ->
    doc("an embedder's authenticator and authorizer are told subject and names of the certificate, "
        "and where the client is"),
    Asking = asking(Config, [get(ca, Config)],
                    #{tls_client_verify => optional, authenticator => {?MODULE, self()},
                      authorizer => {?MODULE, self()}}),
    with_server(Asking, fun(Server) ->
        #{here := Here} = Client = allocated(Server, [], options(get(alice, Config), #{})),
        #{client := Here, transport := tls, certificate := Shown} = told(),
        ?assertMatch(#{subject := <<"CN=alice,O=Example\\, Inc.">>, common_name := <<"alice">>,
                       names := [{email, <<"alice@example.org">>}, {uri, <<"turn://alice">>},
                                 {dns, <<"a.example.org">>}]}, Shown),
        #{der := Der} = Shown,
        ?assertEqual([{'Certificate', Der, not_encrypted}],
                     public_key:pem_decode(read(maps:get(certificate, get(alice, Config))))),
        ?assertMatch(#{method := allocate, certificate := Shown}, told()),
        turn_kit:close(Client),
        [begin
             #{here := There} = Other = allocated(Server, [], Options),
             ?assertEqual(#{client => There, transport => maps:get(transport, Options, udp)},
                          told()),
             ?assertNot(is_map_key(certificate, told())),
             turn_kit:close(Other)
         end || Options <- [#{transport => tls}, #{transport => tcp}, #{}]]
    end).

who_comes_back_by_a_ticket(Config) ->
    doc("a session that is resumed has the certificate it began with, at each server that asks for "
        "the same; one that asks for another takes no such ticket"),
    Other = certificate_kit:authority(get(dir, Config)),
    Asking = fun(Authorities) ->
        asking(Config, Authorities, #{authenticator => {?MODULE, self()}})
    end,
    Tickets = [{versions, ['tlsv1.3']}, {session_tickets, manual}],
    with_server(Asking([get(ca, Config)]), fun(Server) ->
        with_server(Asking([get(ca, Config)]), fun(Same) ->
            with_server(Asking([get(ca, Config), Other]), fun(Foreign) ->
                {Ip, Port} = to(Server),
                {ok, Socket} = ssl:connect(Ip, Port, [{verify, verify_none}, {log_level, none}
                                                      | Tickets ++ showing(get(alice, Config))]),
                Ticket = receive {ssl, session_ticket, T} -> T end,
                ssl:close(Socket),
                %% No certificate is shown: without the one of the ticket it would be refused.
                Back = [{use_ticket, [Ticket]} | Tickets],
                [begin
                     welcome(To, none, #{tls => Back}),
                     ?assertMatch(#{certificate := #{common_name := <<"alice">>}}, told())
                 end || To <- [Server, Same]],
                counted(Foreign, handshakes_no_certificate, fun() ->
                    Gone = stream_kit:open(tls, to(Foreign), #{tls => Back, error => true}),
                    _ = is_pid(Gone) andalso stream_kit:closed(Gone)
                end)
            end)
        end)
    end).

user_is_in_the_certificate(Config) ->
    doc("tls_client_user: who has shown a certificate has the name in it, and no other; who has "
        "shown none may have any"),
    Code = fun(Server, User, Pair) ->
        {Name, Password} = case User of
            {limited, Of} -> meerkat_auth_rest:credentials(<<"s3cret">>, Of, 60,
                                                           meerkat_clock:wall_s());
            _ -> {User, <<"s3cret">>}
        end,
        Client = challenged(open(Server, options(Pair, #{user => Name, password => Password}))),
        Answer = code(allocate(Client)),
        turn_kit:close(Client),
        Answer
    end,
    Alice = get(alice, Config),
    [with_server(asking(Config, [get(ca, Config)], #{tls_client_verify => optional, users => #{},
                                                     tls_client_user => Rule}), fun(Server) ->
         [?assertEqual({User, success}, {User, Code(Server, User, Alice)}) || User <- Good],
         [?assertEqual({User, 403}, {User, Code(Server, User, Alice)}) || User <- Bad],
         [?assertEqual({User, success}, {User, Code(Server, User, none)}) || User <- Bad]
     end) || {Rule, Good, Bad} <-
                 [{any, [<<"alice">>, <<"bob">>], []},
                  {cn, [<<"alice">>, {limited, <<"alice">>}],
                   [<<"bob">>, <<"alice@example.org">>, {limited, <<"bob">>},
                    {limited, <<>>}]},
                  {san, [<<"alice@example.org">>, <<"a.example.org">>, <<"turn://alice">>],
                   [<<"alice">>, {limited, <<"alice">>}]}]].

subject_is_written(_Config) ->
    doc("subjects are written as RFC 4514 has it; what is no certificate has none"),
    ?assertEqual(#{der => <<"none">>}, meerkat_client_certificate:described(<<"none">>)),
    ?assertNot(meerkat_client_certificate:may_be(<<"alice">>, expiry, cn, #{der => <<"none">>})).

%%% Reload

reloaded(#{name := Name}, Change) ->
    Now = meerkat_settings:config(meerkat_registry:settings(Name)),
    meerkat:reload(Name, maps:merge(Now, Change)).

another_authority(Config) ->
    doc("after a reload others are welcome; connections go on with what they have shown"),
    Ca = certificate_kit:authority(get(dir, Config)),
    Bob = certificate_kit:client(Ca, "/CN=bob", "DNS:b"),
    with_server(asking(Config, [get(ca, Config)], #{tls_client_user => cn}), fun(Server) ->
        Client = allocated(Server, [], options(get(alice, Config), #{})),
        ok = reloaded(Server, #{client_authorities => [authority(Ca)]}),
        welcome(Server, Bob, #{user => <<"bob">>}),
        refused(Server, handshakes_bad_certificate, get(alice, Config)),
        #{class := success} = permit(Client, [{{127, 0, 0, 1}, 9}]),
        turn_kit:close(Client),
        ok = reloaded(Server, #{client_authorities => []}),
        welcome(Server, none, #{})
    end).

bad_files(Config) ->
    doc("a bad file is refused with its name, and those before stay in force"),
    #{pem := Pem, file := File} = Good = authority(get(ca, Config)),
    Bad = fun(Content) -> #{pem => Content, file => <<"/etc/bad.pem">>} end,
    with_server(asking(Config, [get(ca, Config)], #{}), fun(Server) ->
        [begin
             {error, Said} = reloaded(Server, #{client_authorities => [Good, Bad(Content)]}),
             ?assertNotEqual({Said, nomatch},
                             {Said, string:find(Said, "tls_client_ca /etc/bad.pem: " ++ Why)})
         end || {Content, Why} <-
                    [{<<"none">>, "no certificate in PEM is there"},
                     {<<Pem/binary, (binary:part(Pem, 0, 200))/binary>>,
                      "a certificate behind the first cannot be read"},
                     {read(maps:get(certificate, get(alice, Config))),
                      "the certificate of alice is not that of an authority"},
                     {read(maps:get(certificate,
                                    certificate_kit:expired(get(ca, Config), "DNS:a"))),
                      "the certificate of server expired on 2020"}]],
        ?assertEqual([File], [F || #{file := F} <- maps:get(client_authorities,
                                                           config(Server))]),
        welcome(Server, get(alice, Config), #{})
    end).

config(#{name := Name}) -> meerkat_settings:config(meerkat_registry:settings(Name)).

files_that_change(Config) ->
    doc("what is in the files of tls_client_ca is noticed, bad or good"),
    File = filename:join(get(dir, Config), "clients.pem"),
    Ca = certificate_kit:authority(get(dir, Config)),
    Copy = fun(#{certificate := From}) -> {ok, _} = file:copy(From, File) end,
    Copy(get(ca, Config)),
    Followed = (authority(#{certificate => File}))#{followed => true},
    with_server((asking(Config, [], #{}))#{client_authorities => [Followed]},
                fun(#{name := Name} = Server) ->
        welcome(Server, get(alice, Config), #{}),
        ends_are_told(Server, File),
        ok = file:write_file(File, "none"),
        eventually(fun() ->
            Why = maps:get(certificates_refused, meerkat:status(Name)),
            is_binary(Why) andalso string:find(Why, File) =/= nomatch
        end),
        welcome(Server, get(alice, Config), #{}),
        Copy(Ca),
        Bob = certificate_kit:client(Ca, "/CN=bob", "DNS:b"),
        eventually(fun() ->
            case stream_kit:open(tls, to(Server), #{tls => [{versions, ['tlsv1.2']}
                                                            | showing(Bob)], error => true}) of
                {error, _} -> false;
                Connection -> stream_kit:close(Connection), true
            end
        end),
        refused(Server, handshakes_bad_certificate, get(alice, Config))
    end).

%%% Keys

keys(Config) ->
    doc("the keys and their variables; what cannot be is told with key and file"),
    #{chain_file := Chain, key_file := Key} = get(server, Config),
    #{certificate := Ca} = get(ca, Config),
    Tls = [{"TLS_CERT", binary_to_list(Chain)}, {"TLS_KEY", binary_to_list(Key)},
           {"STUN_SECRET", "s"}],
    Load = fun(Env) -> meerkat_config:load(#{file => none, env => Env}) end,
    {ok, Loaded, _} = Load([{"TLS_CLIENT_CA", Ca}, {"TLS_CLIENT_VERIFY", "optional"},
                            {"TLS_CLIENT_USER", "cn"} | Tls]),
    ?assertMatch(#{tls_client_verify := optional, tls_client_user := cn}, Loaded),
    ?assertEqual([(authority(#{certificate => Ca}))#{followed => true}],
                 maps:get(client_authorities, Loaded)),
    Many = [["/nowhere/", integer_to_list(N)] || N <- lists:seq(1, 17)],
    [begin
         {error, Mistakes} = Load(Env),
         Said = lists:flatten(io_lib:format("~ts", [lists:join("; ", Mistakes)])),
         [?assertNotEqual({Said, nomatch}, {Said, string:find(Said, Part)}) || Part <- Parts]
     end || {Env, Parts} <-
                [{[{"TLS_CLIENT_CA", "/nowhere/ca.pem"} | Tls],
                  ["TLS_CLIENT_CA", "\"/nowhere/ca.pem\" cannot be read: no such file"]},
                 {[{"TLS_CLIENT_CA", Ca}, {"STUN_SECRET", "s"}],
                  ["TLS_CLIENT_CA", "no TLS without a certificate"]},
                 {[{"TLS_CLIENT_CA", lists:flatten(lists:join($,, Many))} | Tls],
                  ["names 17 files; at most 16"]}]],
    {ok, _, Warnings} = Load([{"TLS_CLIENT_USER", "cn"} | Tls]),
    ?assertNotEqual(nomatch, string:find(io_lib:format("~ts", [Warnings]),
                                         "does nothing without tls_client_ca")).

%% Who vouches for clients has an end too, which status, metrics and doctor tell.
ends_are_told(#{name := Name} = Server, File) ->
    Status = meerkat:status(Name),
    #{client_authorities := [#{file := Told, not_after := End, days_left := Days}]} = Status,
    ?assertEqual(unicode:characters_to_binary(File), Told),
    ?assertEqual(Days, meerkat_certificate:days_left(End)),
    ?assert(Days > 0),
    ?assertNotEqual(nomatch, string:find(meerkat_show:status(Status), Told)),
    Page = iolist_to_binary(meerkat_metrics:text(meerkat_metrics:snapshot(Name))),
    ?assertNotEqual(nomatch, binary:match(Page, iolist_to_binary(
        ["meerkat_tls_client_authority_expiry_timestamp_seconds{file=\"", File, "\"} ",
         integer_to_list(End)]))),
    Said = [unicode:characters_to_list(Text)
            || Found <- [meerkat_doctor_certificates:examine(Status),
                         meerkat_doctor_certificates:examine(config(Server))],
               {_, Text, _} <- Found, string:find(Text, Told) =/= nomatch],
    ?assertMatch([Same, Same], Said),
    ?assertMatch([{error, _, _}],
                 meerkat_doctor_certificates:examine(#{client_authorities => [
                     #{file => Told, days_left => -1}]})).
