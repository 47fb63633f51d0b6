%% `meerkatctl check`: the words of a command line to the options of a check, and what it finds to
%% lines or JSON.
-module(meerkat_check_command).

-export([main/1, main/2, main/4]).
-export_type([about/0]).
-export([usage/0]).

-define(CREDENTIALS_TTL, 600).

%% What is known of a server that runs on this machine and was asked for its URI: the socket that it
%% was asked by, whose process it is, and whether it was told to take no more allocations.
-type about() :: #{socket => binary(), owner => binary(), os_pid => pos_integer(),
                   draining => boolean()}.

%% The command: prints each step and a summary, and says how to exit. 0: all went well. 1: a step
%% failed. 2: the arguments make no sense, which is said on standard error.
-spec main([string()]) -> 0 | 1 | 2.
main(Args) ->
    main(Args, #{}).

-spec main([string()], about()) -> 0 | 1 | 2.
main(Args, About) ->
    main(Args, About, standard_io, standard_error).

%% The same on other devices than the standard ones.
-spec main([string()], about(), io:device(), io:device()) -> 0 | 1 | 2.
main(Args, About, Out, Err) ->
    try options(arguments(Args, #{})) of
        help ->
            ok = io:put_chars(Out, usage()),
            0;
        #{json := true} = Options ->
            {Result, Steps} = meerkat_check:run(maps:remove(json, Options)),
            Json = maps:merge(About, as_json(Result, Steps)),
            ok = io:put_chars(Out, [meerkat_json:encode(Json), $\n]),
            status(Result);
        Options ->
            Say = fun(Line) -> ok = io:put_chars(Out, [Line, $\n]) end,
            Say(meerkat_check_words:heading(Options)),
            lists:foreach(Say, meerkat_check_words:about(About)),
            Report = fun(Step) -> Say(meerkat_check_words:format_step(Step)) end,
            {Result, Steps} = meerkat_check:run(Options#{report => Report}),
            Say(meerkat_check_words:format_summary(Result, Steps, Options)),
            status(Result)
    catch
        throw:{usage, Problem} ->
            ok = io:put_chars(Err, ["check: ", Problem, "\nMore: --help\n"]),
            2
    end.

status(ok) -> 0;
status(error) -> 1.

as_json(Result, Steps) ->
    #{usable => Result =:= ok,
      steps => [maps:from_list([{name, Name}, {ms, Ms}, {ok, StepResult =:= ok},
                                {detail, unicode:characters_to_binary(Detail)}]
                               ++ [{hint, unicode:characters_to_binary(Hint)}
                                   || #{hint := Hint} <- [Step]])
                || #{name := Name, ms := Ms, result := StepResult, detail := Detail} = Step
                       <- Steps]}.

%% ----------------------------------------------------------------------------------- arguments

%% What --help prints.
-spec usage() -> string().
usage() ->
    "usage: meerkatctl check [URI] [--user NAME --password PASSWORD | --secret SECRET]\n"
    "                        [--family 4|6] [--cacert FILE] [--fingerprint SHA256]\n"
    "                        [--insecure]\n"
    "\n"
    "Checks step by step that the TURN server works from here.\n"
    "\n"
    "  turn:HOST[:PORT]   the server; an IPv6 address in brackets: turn:[::1]:3478.\n"
    "                     Default: the one that was started here, which is asked for a\n"
    "                     listener and for credentials. Where none was: RELAY_IP and\n"
    "                     LISTEN_PORT of the environment, else 127.0.0.1 and 3478\n"
    "  turn:HOST[:PORT]?transport=tcp\n"
    "                     the same over TCP\n"
    "  turns:HOST[:PORT]  over TLS, on port 5349 if no other is named\n"
    "  turns:HOST[:PORT]?transport=udp\n"
    "                     over DTLS, likewise\n"
    "  stun:HOST[:PORT], stuns:HOST[:PORT]\n"
    "                     Binding only\n"
    "  --user, --password long-term credentials\n"
    "  --secret           the server's shared secret, from which credentials for ten\n"
    "                     minutes are made. Default: STUN_SECRET of the environment\n"
    "  --family           of the relayed addresses. Default: the server's choice\n"
    "  --cacert           a PEM file with certificates that vouch for the server's, in\n"
    "                     place of this machine's list\n"
    "  --fingerprint      the server's certificate is known: its SHA-256 fingerprint, as\n"
    "                     `openssl x509 -fingerprint -sha256` prints it\n"
    "  --insecure         any certificate will do\n"
    "  --json             the steps as one JSON object\n"
    "\n"
    "Exit code: 0 all steps passed, 1 a step failed, 2 wrong arguments.\n".

arguments([], Given) ->
    Given;
arguments([Help | _], _) when Help =:= "--help"; Help =:= "-h" ->
    help;
arguments(["--json" | Rest], Given) ->
    arguments(Rest, Given#{json => true});
arguments(["--insecure" | Rest], Given) ->
    arguments(Rest, Given#{insecure => true});
arguments(["--" ++ Name = Option | Rest], Given) ->
    {Key, Check} = case Name of
                       "user" -> {user, fun(Value) -> Value end};
                       "password" -> {password, fun(Value) -> Value end};
                       "secret" -> {secret, fun(Value) -> Value end};
                       "family" -> {family, fun family/1};
                       "cacert" -> {cacertfile, fun unicode:characters_to_binary/1};
                       "fingerprint" -> {fingerprint, fun(Value) -> Value end};
                       _ -> wrong(["there is no option ", Option])
                   end,
    is_map_key(Key, Given) andalso wrong([Option, " is given twice"]),
    case Rest of
        [] -> wrong([Option, " needs a value"]);
        ["" | _] -> wrong([Option, " needs a value that is not empty"]);
        [Value | More] -> arguments(More, Given#{Key => Check(Value)})
    end;
arguments([_ | _], #{server := _}) ->
    wrong("one server at a time");
arguments([Uri | Rest], Given) ->
    case meerkat_client_uri:parse(Uri) of
        {ok, Parsed} ->
            case meerkat_client_uri:transport(Parsed) of
                {ok, Transport} ->
                    arguments(Rest, Given#{server => Uri, of_uri => Transport});
                {error, Other} ->
                    wrong(meerkat_client:format_error({unsupported_uri, Uri, Other}))
            end;
        {error, Reason} ->
            wrong(meerkat_client:format_error(Reason))
    end.

family("4") -> inet;
family("6") -> inet6;
family(Other) -> wrong(["--family is 4 or 6, not \"", Other, "\""]).

options(help) ->
    help;
options(Given) ->
    Tls = maps:with([cacertfile, fingerprint, insecure], Given),
    case meerkat_client_start:check_tls(maps:get(of_uri, Given, udp), Tls) of
        ok -> ok;
        {error, Reason} -> wrong(meerkat_client:format_error(Reason))
    end,
    maps:merge(maps:merge(server(Given), maps:merge(Tls, maps:with([family, json], Given))),
               credentials(Given)).

server(#{server := Server}) ->
    #{server => Server};
server(_) ->
    #{server => {environment_ip(), environment_port()}}.

environment_ip() ->
    case environment(["RELAY_IP", "MONGOOSEICE_UDP_RELAY_IP"]) of
        false -> {127, 0, 0, 1};
        {Name, Value} ->
            Text = unicode:characters_to_list(Value),
            case inet:parse_strict_address(Text) of
                {ok, Ip} -> Ip;
                {error, _} -> wrong([Name, "=", Text, " is no IP address; or name the server: ",
                                     meerkat_client_uri:allowed()])
            end
    end.

environment_port() ->
    case environment(["LISTEN_PORT", "MONGOOSEICE_UDP_PORT"]) of
        false -> 3478;
        {Name, Text} ->
            case string:to_integer(Text) of
                {Port, <<>>} when Port >= 1, Port =< 65535 -> Port;
                _ -> wrong([Name, "=", Text, " is no port from 1 to 65535"])
            end
    end.

credentials(#{secret := _} = Given) when is_map_key(user, Given); is_map_key(password, Given) ->
    wrong("either --user and --password, or --secret");
credentials(#{user := User, password := Password}) ->
    #{username => User, password => Password};
credentials(#{user := _}) ->
    wrong("--user needs --password");
credentials(#{password := _}) ->
    wrong("--password needs --user");
credentials(#{secret := Secret}) ->
    from_secret(Secret);
credentials(_) ->
    case environment(["STUN_SECRET", "MONGOOSEICE_STUN_SECRET"]) of
        {_, Secret} -> from_secret(Secret);
        false -> #{}
    end.

from_secret(Secret) ->
    {Username, Password} = meerkat_check:rest_credentials(Secret, "check", ?CREDENTIALS_TTL),
    #{username => Username, password => Password}.

%% The first of these variables that is set to something.
environment([]) -> false;
environment([Name | More]) ->
    case meerkat_env:get(Name) of
        none -> environment(More);
        {ok, Value} -> {Name, Value}
    end.

-spec wrong(unicode:chardata()) -> no_return().
wrong(Problem) -> throw({usage, Problem}).
