%% The commands of rel/bin/meerkatctl: asks a server that runs here, or reads a configuration. It
%% changes nothing by itself. meerkat_cli_options parses the command line, and meerkat_show formats
%% answers.
-module(meerkat_cli).

-export([main/1, run/1]).

-export_type([status/0]).

%% Exit status. 0: done. 1: it failed, or what was looked for is wrong. 2: the command line is
%% wrong; nothing was asked, and the usage is on stderr. 3: no server was started here by this user.
-type status() :: 0 | 1 | 2 | 3.

%% What a shell says of a program whose reader is gone (128 + SIGPIPE).
-define(NO_READER, 141).

%% Seconds that credentials drawn for a check are good for.
-define(CHECK_TTL, 600).

%% Runs a command and ends the node.
-spec main([string()]) -> no_return().
main(Args) ->
    %% What a person is to know is printed here. From OTP 27 on the runtime would also log that the
    %% reader of our output has ended.
    ok = logger:set_primary_config(level, critical),
    ok = meerkat_env:speak_utf8(),
    try run([meerkat_env:argument(Arg) || Arg <- Args]) of
        Status -> halt(Status)
    catch
        %% The reader of our output has ended, `| head` say. The second form comes from another
        %% process of ours.
        error:terminated -> halt(?NO_READER);
        error:{terminated, _} -> halt(?NO_READER)
    end.

%% Runs a command and says how to exit.
-spec run([string()]) -> status().
run(Args) ->
    case meerkat_cli_options:parse(Args) of
        {ok, #{command := Command, args := Given, options := Options}} ->
            run(Command, Given, Options);
        {help, Text} ->
            io:put_chars(Text),
            0;
        {error, Text} ->
            io:put_chars(standard_error, Text),
            2
    end.

run("check", Args, Options) ->
    case check(Args, Options) of
        {ok, All, About} ->
            meerkat_check_command:main(All ++ ["--json" || is_map_key(json, Options)], About);
        {error, no_server} -> nobody(Options);
        {error, Sentence} -> misused(Sentence, Options)
    end;
run("config", ["check", File], Options) ->
    %% The file by itself, whatever this shell's environment says.
    case meerkat_config:load(#{file => text(File), env => [], own_node => true}) of
        {ok, _, Warnings} ->
            _ = warnings(Warnings),
            done(#{file => text(File), mistakes => [], warnings => [text(W) || W <- Warnings]},
                 [File, ": good\n"], Options);
        {error, Mistakes} ->
            mistakes(File, Mistakes, Options)
    end;
run("config", ["show"], Options) ->
    %% What is in force, where something is.
    case call(Options, {config, [Realm || #{realm := Realm} <- [Options]]}) of
        {ok, Effective} -> shown(Effective, Options);
        {error, no_server} when not is_map_key(socket, Options) -> show(#{}, Options);
        {error, no_server} -> nobody(Options);
        {error, Sentence} -> failed(Sentence, Options)
    end;
run("config", ["show", File], Options) ->
    show(#{file => text(File)}, Options);
run("import", [From], #{into := Into} = Options) ->
    case meerkat_database_import:copy(text(From), text(Into)) of
        {ok, #{refused := Refused} = Copied} ->
            _ = [io:format(standard_error, "~ts~n", [Line]) || Line <- Refused],
            _ = done(Copied, meerkat_database_import:shown(Copied), Options),
            case Refused of [] -> 0; _ -> 1 end;
        {error, Sentence} ->
            failed(Sentence, Options)
    end;
run("import", [File], Options) ->
    imported(file:read_file(text(File)), File, Options);
run("status", [], Options) ->
    asked({status, []}, fun meerkat_show:status/1, Options, fun(#{relay := Relay}) ->
        case Relay of up -> 0; down -> 1 end
    end);
run("version", [], Options) ->
    _ = application:load(meerkat),
    {ok, Version} = application:get_key(meerkat, vsn),
    Otp = erlang:system_info(otp_release),
    done(#{version => text(Version), otp => text(Otp)}, ["Meerkat ", Version, " (OTP ", Otp, ")\n"],
         Options);
run("info", [], Options) ->
    asked({info, []}, fun(Info) -> io_lib:format("~tp~n", [Info]) end, Options);
run("allocations", [], Options) ->
    Filter = maps:with([user, peer, sort, limit], Options),
    asked({allocations, [Filter]}, fun meerkat_show:allocations/1, Options);
run("allocation", [Id], Options) ->
    asked({allocation, [text(Id)]}, fun meerkat_show:allocation/1, Options);
run("watch", Ids, Options) ->
    case [text(Id) || Id <- Ids] ++ [{Kind, Who} || Kind <- [user, client],
                                                   #{Kind := Who} <- [Options]] of
        [Who] -> watch(Who, Options);
        _ -> misused("watch needs one of ID, --user NAME and --client IP[:PORT]", Options)
    end;
run("capture", [Id], #{o := File} = Options) ->
    capture(text(Id), File, Options);
run("capture", _, Options) ->
    misused("capture needs ID and -o FILE", Options);
run("explain", [Id], Options) when not is_map_key(user, Options) ->
    asked({explain, [text(Id)]}, fun meerkat_show:explanations/1, Options);
run("explain", [], #{user := User} = Options) ->
    asked({explain, [{user, User}]}, fun meerkat_show:explanations/1, Options);
run("disconnect", [Id], Options) when not is_map_key(user, Options) ->
    disconnect(text(Id), Options);
run("disconnect", [], #{user := User} = Options) ->
    disconnect({user, User}, Options);
run("revoke", [User], Options) ->
    Ttl = [Seconds || #{ttl := Seconds} <- [Options]],
    asked({revoke, [text(User) | Ttl]}, fun meerkat_show:revoked/1, Options);
run("credentials", [], Options) ->
    run("credentials", ["guest"], Options);
run("credentials", [User], Options) ->
    Question = {credentials, [text(User), maps:with([ttl, realm], Options)]},
    asked(Question, fun meerkat_boot:credentials/1, Options);
run("users", [], Options) ->
    run("users", ["list"], Options);
run("users", ["list"], Options) ->
    asked({users, [Realm || #{realm := Realm} <- [Options]]}, fun meerkat_show:users/1, Options);
run("users", ["add", Name], Options) ->
    case proof(Options) of
        {ok, Proof} -> kept({add_user, [text(Name), Proof, realm(Options)]}, Options);
        {error, Sentence} -> misused(Sentence, Options)
    end;
run("users", ["remove", Name], Options) ->
    kept({remove_user, [text(Name), realm(Options)]}, Options);
run("secrets", [], Options) ->
    run("secrets", ["list"], Options);
run("secrets", ["list"], Options) ->
    asked({secrets, [Realm || #{realm := Realm} <- [Options]]}, fun meerkat_show:secrets/1,
          Options);
run("secrets", ["add"], Options) ->
    Secret = maps:get(secret, Options, drawn),
    asked({add_secret, [Secret, realm(Options)]}, fun meerkat_show:secret/1, Options);
run("secrets", ["remove", Id], Options) ->
    asked({remove_secret, [text(Id), realm(Options)]}, fun meerkat_show:secret/1, Options);
run("peers", [], Options) ->
    run("peers", ["list"], Options);
run("peers", ["list"], Options) ->
    asked({peers, []}, fun meerkat_show:peers/1, Options);
run("peers", [Change, Range], Options) when Change =:= "add"; Change =:= "remove" ->
    Verb = case Change of "add" -> add_peer; "remove" -> remove_peer end,
    case maps:keys(maps:with([allowed, denied], Options)) of
        [Kind] -> asked({Verb, [Kind, text(Range), realm(Options)]}, fun meerkat_show:stored/1,
                        Options);
        _ -> misused("--allowed or --denied says which peers these are", Options)
    end;
run("realms", [], Options) ->
    run("realms", ["list"], Options);
run("realms", ["list"], Options) ->
    asked({realms, []}, fun meerkat_show:realms/1, Options);
run("realms", ["set"], Options) ->
    case maps:from_list([{Key, Number} || {Option, Key} <- [{'user-quota', user_quota},
                                                            {'total-quota', total_quota},
                                                            {'max-bps', max_bps},
                                                            {'max-pps', max_pps},
                                                            {'new-peers-rate',
                                                             new_peers_rate}],
                                          #{Option := Number} <- [Options]]) of
        None when None =:= #{} ->
            misused("--user-quota, --total-quota, --max-bps, --max-pps or --new-peers-rate says "
                    "what to set", Options);
        Limits ->
            asked({set_realm, [realm(Options), Limits]}, fun meerkat_show:stored/1, Options)
    end;
run("realms", ["remove"], Options) ->
    asked({remove_realm, [realm(Options)]}, fun meerkat_show:stored/1, Options);
run("drain", To, Options) ->
    Wanted = maps:with([deadline, stay], Options),
    All = maps:merge(Wanted, maps:from_list([{to, text(Servers)} || Servers <- To])),
    asked({drain, [All]}, fun(Count) -> meerkat_show:drain(Count, Wanted) end, Options);
run("undrain", [], Options) ->
    asked({undrain, []}, fun(done) -> "allocations are taken again\n" end, Options);
run("upgrade", [], Options) ->
    asked({upgrade, []}, fun meerkat_show:upgraded/1, Options);
run("reload", [], Options) ->
    How = [dry_run || is_map_key('dry-run', Options)],
    asked({reload, How}, fun(#{changes := Changes, warnings := Warnings}) ->
        _ = warnings(Warnings),
        meerkat_show:changes(Changes, How)
    end, Options);
run("loglevel", Level, Options) ->
    asked({loglevel, [text(Word) || Word <- Level]}, fun(Now) -> [atom_to_list(Now), $\n] end,
          Options);
run("fleet", [Verb | Args], Options) ->
    case meerkat_cli_fleet:question(Verb, Args, Options) of
        {ok, Question} ->
            asked(Question, fun(Answer) -> meerkat_show_fleet:show(Verb, Answer, Options) end,
                  Options, fun meerkat_cli_fleet:status/1);
        error ->
            io:put_chars(standard_error, meerkat_cli_options:usage("fleet")),
            2
    end;
run("doctor", [], Options) ->
    doctor(Options);
run(Command, _Args, _Options) ->
    io:put_chars(standard_error, meerkat_cli_options:usage(Command)),
    2.

%%% Asking and answering

%% Asks the server that is meant. If another one may have been meant, stderr says whose server is
%% asked: the question may end it.
call(Options, Question) ->
    {Answer, _} = call_of(Options, Question),
    Answer.

call_of(Options, Question) ->
    meerkat_admin_socket:call(meant(Options), Question, fun named_where_another_was_meant/1).

named_where_another_was_meant(#{is_expected := true}) ->
    ok;
named_where_another_was_meant(#{socket := Path} = Asked) ->
    io:format(standard_error, "asking the server of ~ts at ~ts~n", [owner(Asked), Path]).

meant(#{socket := Path}) -> {socket, Path};
meant(#{}) -> anywhere.

owner(#{uid := Uid}) -> meerkat_unix:user(Uid).

asked(Question, Show, Options) ->
    asked(Question, Show, Options, fun(_) -> 0 end).

asked(Question, Show, Options, Status) ->
    case call_of(Options, Question) of
        {{ok, Answered}, Asked} ->
            Answer = with_socket(Question, Answered, Asked),
            _ = case Options of
                #{json := true} -> said(members(Question, Answer), none, Options);
                #{} -> said(Answer, Show, Options)
            end,
            Status(Answer);
        {{error, no_server}, _} ->
            nobody(Options);
        {{error, Sentence}, _} ->
            failed(Sentence, Options)
    end.

%% The status has the socket of the server that was asked.
with_socket({status, []}, Status, #{socket := Path}) -> Status#{socket => text(Path)};
with_socket(_Question, Answer, _Asked) -> Answer.

%% JSON output is an object or a list of objects: an answer that is a single word or number becomes
%% a member.
members({drain, _}, Allocations) -> #{allocations => Allocations};
members({undrain, _}, done) -> #{draining => false};
members({disconnect, _}, Allocations) -> #{ended => Allocations};
members({revoke, _}, Allocations) -> #{ended => Allocations};
members({loglevel, _}, Level) -> #{level => Level};
members({reload, How}, #{changes := Changes} = Answer) ->
    Answer#{changes := [maps:remove(text, Change) || Change <- Changes],
            dry_run => How =:= [dry_run]};
members({info, _}, #{relay := {ok, Relay}} = Info) -> Info#{relay := Relay};
members({info, _}, #{relay := {error, Reason}} = Info) -> Info#{relay := #{error => Reason}};
members(_, Answer) -> Answer.

nobody(Options) ->
    _ = failed(no_server(Options), Options),
    3.

%% How one is started: rel/bin/meerkatctl puts the command into the environment.
no_server(#{socket := Path}) ->
    text(["no server answers at ", Path]);
no_server(#{}) ->
    text(["no server was started here by this user; `", os:getenv("MEERKATCTL_START", "make run"),
          "` starts one"]).

said(Answer, _Show, #{json := true}) ->
    io:put_chars([meerkat_json:encode(meerkat_json:plain(Answer)), $\n]);
said(Answer, Show, _Options) ->
    io:put_chars(Show(Answer)).

done(Answer, Text, Options) ->
    _ = said(Answer, fun(_) -> Text end, Options),
    0.

%% With --json the sentence is on stderr too, for people who run scripts.
failed(Sentence, Options) ->
    io:format(standard_error, "~ts~n", [meerkat_text:printable(text(Sentence))]),
    _ = [said(#{error => unicode:characters_to_binary(Sentence)}, none, Options)
         || is_map_key(json, Options)],
    1.

%% Each event as it comes: a line, or with --json an object in a line.
watch(Who, Options) ->
    case call(Options, {watch, [Who, maps:with([seconds], Options)]}) of
        {ok, #{watch := Id}} -> watched(Id, Options);
        {error, no_server} -> nobody(Options);
        {error, Sentence} -> failed(Sentence, Options)
    end.

watched(Id, Options) ->
    case call(Options, {watched, [Id]}) of
        {ok, #{events := Events, state := State}} ->
            _ = [said(Event, fun meerkat_watch_words:line/1, Options) || Event <- Events],
            case State of going -> watched(Id, Options); over -> 0 end;
        {error, no_server} -> nobody(Options);
        {error, Sentence} -> failed(Sentence, Options)
    end.

%% What stands on stdout is the file, where it goes there.
capture(Id, File, Options) ->
    case meerkat_cli_capture:run(Id, Options, fun(Question) -> call_of(Options, Question) end) of
        {ok, State} when File =:= <<"-">> ->
            io:put_chars(standard_error, meerkat_cli_capture:show(State, File)),
            0;
        {ok, State} ->
            done(State, meerkat_cli_capture:show(State, File), Options);
        {error, no_server} -> nobody(Options);
        {error, Sentence} -> failed(Sentence, Options)
    end.

disconnect(Who, Options) ->
    asked({disconnect, [Who]}, fun meerkat_show:disconnected/1, Options).

kept(Question, Options) ->
    case call(Options, Question) of
        {ok, Where} ->
            done(meerkat_show:kept(Where), meerkat_show:kept_text(Where), Options);
        {error, no_server} -> asked({ping, []}, none, Options);
        {error, Sentence} -> failed(Sentence, Options)
    end.

realm(Options) -> maps:get(realm, Options, default).

%% Examines this machine; or, with --xmpp or --graphql, what an XMPP server tells its users.
doctor(Options) ->
    Ways = [{xmpp, [jid]}, {graphql, [user, domain]}],
    case [{Way, Needed} || {Way, Needed} <- Ways, is_map_key(Way, Options)] of
        [] ->
            Asking = maps:with([stun, file, socket], Options),
            Ask = fun(Question) -> call(Options, Question) end,
            examined(meerkat_doctor:examine(Asking#{ask => Ask}), Options);
        [{Way, Needed}] ->
            case Needed -- maps:keys(Options) of
                [] -> doctor(Way, Needed, password(Options), Options);
                [Missing | _] ->
                    misused(["--", atom_to_list(Way), " needs --", atom_to_list(Missing)], Options)
            end;
        _ ->
            misused("--xmpp or --graphql, not both", Options)
    end.

doctor(Way, Needed, {ok, Password}, Options) ->
    Asked = maps:with([Way, cacert | Needed], Options),
    examined(meerkat_doctor_xmpp:examine(Asked#{password => Password}), Options);
doctor(_Way, _Needed, {error, Sentence}, Options) ->
    misused(Sentence, Options).

examined(Findings, Options) ->
    _ = said(Findings, fun meerkat_doctor:format/1, Options),
    case [Name || #{verdict := error, name := Name} <- Findings] of
        [] -> 0;
        _ -> 1
    end.

misused(Sentence, Options) ->
    _ = failed(Sentence, Options),
    2.

proof(#{password := _, key := _}) ->
    {error, <<"--password or --key, not both">>};
proof(#{key := Hex}) ->
    try
        <<_:128>> = Key = binary:decode_hex(Hex),
        {ok, {key, Key}}
    catch
        error:_ -> {error, <<"--key must be 32 hexadecimal digits: MD5(name:realm:password)">>}
    end;
proof(Options) ->
    case password(Options) of
        {ok, Password} -> {ok, {password, Password}};
        {error, Sentence} -> {error, Sentence}
    end.

%% Where none is given it is a line of stdin; rel/bin/meerkatctl asks for it on a terminal.
password(#{password := Password}) ->
    {ok, Password};
password(#{}) ->
    case io:get_line("") of
        Line when is_list(Line) ->
            case string:trim(Line, trailing, "\r\n") of
                "" -> {error, <<"a password must not be empty">>};
                Password -> {ok, text(Password)}
            end;
        _ ->
            {error, <<"no password: --password gives one, or the first line of stdin">>}
    end.

%%% Checking a server

%% The arguments of the check. Without a URI the server that was started here is checked, if there
%% is one, and it is asked for what was not given. The third element is what else it says of itself,
%% for the report.
check(Args, Options) ->
    case names_server(Args) orelse call(Options, {service, []}) of
        {ok, #{turn := [Uri | _]}} -> check(Args, unicode:characters_to_list(Uri), Options);
        {ok, #{turn := []}} -> {error, <<"the server that was started here has no address that "
                                         "clients could be told; name one: turn:HOST:PORT">>};
        {error, no_server} when is_map_key(socket, Options) -> {error, no_server};
        {error, Sentence} when is_binary(Sentence) -> {error, Sentence};
        _ -> {ok, Args, #{}}
    end.

check(Args, Uri, Options) ->
    Given = [Option || Option <- ["--user", "--secret"], lists:member(Option, Args)],
    Ask = fun() -> call(Options, {credentials, [<<"check">>, #{ttl => ?CHECK_TTL}]}) end,
    case Given =/= [] orelse Ask() of
        true ->
            {ok, [Uri | Args], about(Options)};
        {ok, #{username := User, password := Password}} ->
            {ok, [Uri, "--user", unicode:characters_to_list(User),
                  "--password", unicode:characters_to_list(Password) | Args], about(Options)};
        {error, no_server} ->
            {ok, [Uri | Args], #{}};
        {error, Sentence} ->
            {error, <<Sentence/binary, "; --user and --password say who comes in">>}
    end.

%% Whose socket told of it, and whether it is to take allocations at all.
about(Options) ->
    case meerkat_admin_socket:call(meant(Options), {status, []}, fun(_) -> ok end) of
        {{ok, #{os_pid := Pid, draining := Draining}}, #{socket := Path} = Asked} ->
            #{socket => text(Path), owner => text(owner(Asked)), os_pid => Pid,
              draining => Draining};
        _ ->
            #{}
    end.

names_server(["--help" | _]) -> true;
names_server(["-h" | _]) -> true;
names_server(["--json" | Rest]) -> names_server(Rest);
names_server(["--insecure" | Rest]) -> names_server(Rest);
names_server(["--" ++ _, _ | Rest]) -> names_server(Rest);
names_server(["--" ++ _]) -> false;
names_server([_ | _]) -> true;
names_server([]) -> false.

%%% Configuration

show(Load, Options) ->
    case meerkat_config:load(Load) of
        {ok, Config, Warnings} ->
            _ = warnings(Warnings),
            case effective(Config, Options) of
                {ok, Effective} -> shown(Effective, Options);
                {error, Sentence} -> failed(Sentence, Options)
            end;
        {error, Mistakes} ->
            mistakes(maps:get(file, Load, undefined), Mistakes, Options)
    end.

effective(Config, #{realm := Realm}) -> meerkat_config:effective(Config, Realm);
effective(Config, #{}) -> {ok, meerkat_config:effective(Config)}.

shown(Effective, Options) ->
    done([maps:remove(text, Setting) || Setting <- Effective], meerkat_show:settings(Effective),
         Options).

%% Our text to stdout, for a file; what is not in it to stderr, for a person.
imported({ok, Theirs}, File, Options) ->
    #{configuration := Ours, notes := Notes, lines := Lines} = meerkat_import:import(Theirs),
    _ = [io:format(standard_error, "~ts~ts: ~ts~n", [File, place(Line), Note])
         || {Line, Note} <- Notes],
    Answer = #{configuration => text(Ours),
               notes => [#{line => Line, note => text(Note)} || {Line, Note} <- Notes],
               lines => [#{line => Line, key => Key, became => text(Became)}
                         || {Line, Key, Became} <- Lines]},
    done(Answer, [Ours], Options);
imported({error, Reason}, File, Options) ->
    mistakes(File, [[File, ": ", file:format_error(Reason)]], Options).

%% Line 0 is the file as a whole.
place(0) -> "";
place(Line) -> [$:, integer_to_list(Line)].

mistakes(File, Mistakes, Options) ->
    _ = [io:format(standard_error, "~ts~n", [Mistake]) || Mistake <- Mistakes],
    Named = case File of undefined -> null; _ -> text(File) end,
    _ = [said(#{file => Named, mistakes => [text(M) || M <- Mistakes], warnings => []}, none,
              Options) || is_map_key(json, Options)],
    1.

%% On stderr, and nothing else to show.
warnings(Warnings) ->
    _ = [io:format(standard_error, "warning: ~ts~n", [Warning]) || Warning <- Warnings],
    "".

%% The bytes of an argument; also for the name of a file, which Erlang would write by the locale.
text(Arg) ->
    unicode:characters_to_binary(Arg).
