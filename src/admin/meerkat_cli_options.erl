%% The command line of meerkatctl: the commands, their arguments and options, and what is wrong with
%% what was typed. It runs none of them. Pure.
-module(meerkat_cli_options).

-export([parse/1, usage/1]).
%% For meerkat_cli_pages.
-export([rows/0, levels/0, dashed/1]).

-export_type([parsed/0]).

%% Positional arguments as typed, options by name without dashes, `json` where it was given.
-type parsed() :: #{command := string(), args := [string()], options := #{atom() => value()}}.
-type value() :: true | binary() | non_neg_integer() | infinity | tuple() | atom().
-type type() :: flag | text | seconds | time | positive | number | peer | servers
              | {choice, [atom()]}.
%% As in meerkat_admin.
-define(LEVELS, [debug, info, notice, warning, error, critical, alert, emergency]).
%% Which server is meant; it may stand before a command or behind it.
-define(IS_SOCKET(Option), (Option =:= "-s" orelse Option =:= "--socket")).
%% Of the command check: one whose next word belongs to it.
-define(HAS_VALUE(Option),
        (hd(Option) =:= $- andalso Option =/= "--json" andalso Option =/= "--insecure")).

%% Command, how many arguments it takes, how they are written, its options, what it does.
-type row() :: {Name :: string(), Arguments :: {Min :: 0..1, Max :: 0..2}, Written :: string(),
                [{Option :: atom(), type(), Written :: string(), Help :: string()}],
                Help :: string()}.

%% All there is to type.
-spec rows() -> [row()].
rows() ->
    [{"foreground", {0, 0}, "",
      %% For completion, help and the manual page; meerkat_boot reads them.
      [{c, text, "FILE", "with this configuration"},
       {'self-signed', flag, "", "make a certificate for TLS, for trying out"}],
      "start a server here; Ctrl-C stops it, SIGTERM drains it first"},
     {"version", {0, 0}, "", [], "Meerkat's, and Erlang's"},
     {"status", {0, 0}, "", [], "how the server is; also an exit code for probes"},
     {"check", {0, 1}, "[URI]",
      %% For completion and the manual page; meerkat_check_command reads them.
      [{user, text, "NAME", "long-term credentials, with --password"},
       {password, text, "PASSWORD", "the password of --user"},
       {secret, text, "SECRET", "the server's shared secret, to make credentials from"},
       {family, {choice, ['4', '6']}, "4|6", "of the relayed addresses"},
       {cacert, text, "FILE", "certificates (PEM) that vouch for the server's"},
       {fingerprint, text, "SHA256", "the fingerprint of the server's certificate"},
       {insecure, flag, "", "any certificate will do"}],
      "does a TURN or STUN server work from here? Without URI: the one started here"},
     {"allocations", {0, 0}, "",
      [{user, text, "NAME", "of this user alone; of a time-limited name, what is behind the time"},
       {peer, peer, "IP[:PORT]", "that may reach this peer (with a port: by a channel)"},
       {sort, {choice, [age, bytes, user]}, "bytes|age|user", "most bytes first, or oldest first"},
       {limit, positive, "N", "the first N of them"}],
      "the allocations there are"},
     {"allocation", {1, 1}, "ID", [], "one of them in detail"},
     {"watch", {0, 1}, "[ID]",
      [{user, text, "NAME", "all allocations of this user, also those that begin meanwhile"},
       {client, peer, "IP[:PORT]", "likewise of the client at this address"},
       {seconds, time, "TIME", "for so long; a minute without it, an hour at most"}],
      "what happens to an allocation, a user or a client, as it happens, and how\n"
      "media comes here; reads headers of packets meanwhile"},
     {"capture", {1, 1}, "ID",
      [{o, text, "FILE", "where it goes; - is standard output, for Wireshark behind a pipe"},
       {seconds, time, "TIME", "for so long; a minute without it, an hour at most"},
       {'max-bytes', positive, "N", "up to so many bytes; 64 MiB without it"},
       {payload, flag, "", "all of each packet; without it headers only"}],
      "what an allocation relays, on both sides, and its requests and answers, as\n"
      "a pcapng file that Wireshark reads"},
     {"explain", {0, 1}, "[ID]",
      [{user, text, "NAME", "all allocations of this user, or why there is none"}],
      "what the client of an allocation did, where that stopped, the likely cause"},
     {"disconnect", {0, 1}, "[ID]",
      [{user, text, "NAME", "all allocations of this user"}],
      "end an allocation; its client may make a new one"},
     {"revoke", {1, 1}, "USER",
      [{ttl, time, "TIME", "how long credentials are made for; without it xmpp_ttl, or a day"}],
      "end a user's allocations and the time-limited credentials there are"},
     {"credentials", {0, 1}, "[USER]",
      [{ttl, time, "TIME", "good for so long: seconds, or 90s, 30m, 12h, 7d; a day without"},
       {realm, text, "REALM", "from the secret of this realm, for its listeners"}],
      "time-limited credentials from the server's secret"},
     {"users", {0, 2}, "[list | add NAME | remove NAME]",
      [{password, text, "PASSWORD", "for add; without it, it is asked for or read from stdin"},
       {key, text, "HEX", "for add, in its place: MD5(name:realm:password)"},
       {realm, text, "REALM", "of this realm; without it all, for add and remove the server's"}],
      "users with a password of their own"},
     {"secrets", {0, 2}, "[list | add | remove ID]",
      [{secret, text, "SECRET", "for add; without it the server makes one and tells it"},
       {realm, text, "REALM", "of this realm; without it all, for add and remove the server's"}],
      "the secrets that time-limited credentials are made from; all of them\n"
      "count, and a database keeps those that are added"},
     {"peers", {0, 2}, "[list | add RANGE | remove RANGE]",
      [{allowed, flag, "", "with add and remove: peers that may be reached"},
       {denied, flag, "", "with add and remove: peers that may not"},
       {realm, text, "REALM", "of this realm; without it of all"}],
      "peers that a database allows and denies; RANGE is an address, a\n"
      "network or FIRST-LAST"},
     {"realms", {0, 1}, "[list | set | remove]",
      [{'user-quota', number, "N", "with set: allocations of one user"},
       {'total-quota', number, "N", "with set: allocations in all"},
       {'max-bps', number, "N", "with set: bytes per second of one allocation"},
       {'max-pps', number, "N", "with set: packets per second of one allocation"},
       {'new-peers-rate', number, "N", "with set: new peers per second of one allocation"},
       {realm, text, "REALM", "for set and remove; without it the server's"}],
      "limits that a database has for realms, before those of the\n"
      "configuration; 0 is no limit"},
     {"drain", {0, 1}, "[IP:PORT[,...]]",
      [{deadline, seconds, "TIME", "end after this time whatever is left; without it: when empty"},
       {stay, flag, "", "do not end; undrain takes allocations again"}],
      "no new allocations, and an end when the last is gone; clients are\n"
      "sent to the key alternate_server or to these servers"},
     {"undrain", {0, 0}, "", [], "take allocations again"},
     {"upgrade", {0, 0}, "", [],
      "replace the relay program by the one that is installed now, while\n"
      "calls go on; UDP clients lose no packet"},
     {"reload", {0, 0}, "",
      [{'dry-run', flag, "", "say what would change or what is wrong, and change nothing"}],
      "read file and environment again and say what has changed; all of it\n"
      "or, with a reason, nothing"},
     {"fleet", {1, 2},
      "status | allocations | disconnect | revoke USER | drain NODE | undrain NODE | "
      "loglevel [LEVEL] | dns DOMAIN",
      [{user, text, "NAME", "with allocations and disconnect: this user's, on all nodes"},
       {peer, peer, "IP[:PORT]", "with allocations: as of `allocations`"},
       {sort, {choice, [age, bytes, user]}, "bytes|age|user", "with allocations: as there"},
       {limit, positive, "N", "with allocations: the first N; without it 1,000 of each node"},
       {ttl, time, "TIME", "with revoke: as of `revoke`; with dns: of the records (60 s)"},
       {deadline, seconds, "TIME", "with drain: end after this time whatever is left"},
       {stay, flag, "", "with drain: do not end; undrain takes allocations again"}],
      "the same of all nodes of a fleet, or of one of them by its name; dns\n"
      "prints records for a zone, weighted by what is free"},
     {"loglevel", {0, 1}, "[LEVEL]", [], "the least severe lines that are logged, or another"},
     {"doctor", {0, 0}, "",
      [{stun, text, "IP[:PORT]", "ask this STUN server which address we have out there"},
       {file, text, "FILE", "with this configuration, where no server runs"},
       {xmpp, text, "HOST[:PORT]", "instead: try the TURN servers this XMPP server tells a user"},
       {jid, text, "USER@DOMAIN", "with --xmpp: that user"},
       {graphql, text, "URL", "the same by MongooseIM's GraphQL interface for administrators"},
       {user, text, "NAME", "with --graphql: who may ask there"},
       {domain, text, "DOMAIN", "with --graphql: whose users are meant"},
       {password, text, "PASSWORD", "of either; without it, it is asked for or read from stdin"},
       {cacert, text, "FILE", "certificates (PEM) that vouch for that server, for TLS"}],
      "what of this machine could trouble a server, and what helps; with\n"
      "--xmpp: whether an XMPP server's users get TURN that works"},
     {"config", {1, 2}, "check FILE | show [FILE]",
      [{realm, text, "REALM", "with show: what counts in this realm"}],
      "what is wrong with a file; the value of each key and where it is from"},
     {"import", {1, 1}, "turnserver.conf | DATABASE",
      [{into, text, "DATABASE", "users, secrets, peers and limits of the first database go there"}],
      "coturn's configuration as one of ours; what has no counterpart is listed; or a database"},
     {"info", {0, 0}, "", [], "all counters, as Erlang has them"},
     {"help", {0, 1}, "[COMMAND]", [], "this, or more on a command"}].

-spec parse([string()]) -> {ok, parsed()} | {help, string()} | {error, unicode:chardata()}.
parse([]) ->
    {error, usage()};
parse([Option, Path | Args]) when ?IS_SOCKET(Option) ->
    case parse(Args) of
        {ok, #{options := Options} = Parsed} -> {ok, Parsed#{options := Options#{socket => Path}}};
        Other -> Other
    end;
parse(["--json" | Args]) ->
    case parse(Args) of
        {ok, #{options := Options} = Parsed} -> {ok, Parsed#{options := Options#{json => true}}};
        Other -> Other
    end;
parse([Help]) when Help =:= "help"; Help =:= "--help"; Help =:= "-h" ->
    {help, usage()};
parse(["help", Command | _]) ->
    case lists:keyfind(Command, 1, rows()) of
        false -> unknown(Command);
        Row -> {help, help(Row)}
    end;
parse(["--version" | Args]) ->
    parse(["version" | Args]);
parse(["check" | Args]) ->
    %% It has words of its own.
    {Words, Options} = check(Args, []),
    {ok, #{command => "check", args => Words, options => Options}};
parse([Command | Args]) ->
    case lists:keyfind(Command, 1, rows()) of
        false -> unknown(Command);
        Row -> parse(Args, Row, [], #{})
    end.

%% Its words but for the socket, which may stand among them too.
check([Option, Path | Args], Words) when ?IS_SOCKET(Option) ->
    {lists:reverse(Words, Args), #{socket => Path}};
check([Option, Value | Args], Words) when ?HAS_VALUE(Option) ->
    check(Args, [Value, Option | Words]);
check([Word | Args], Words) ->
    check(Args, [Word | Words]);
check([], Words) ->
    {lists:reverse(Words), #{}}.

unknown(Command) ->
    Names = [list_to_binary(Name) || {Name, _, _, _, _} <- rows()],
    Meant = case meerkat_spelling:nearest(unicode:characters_to_binary(Command), Names) of
        {ok, Near} -> ["; did you mean ", Near, "?\n"];
        error -> "; `meerkatctl help` lists those there are\n"
    end,
    {error, ["there is no command \"", Command, "\"", Meant]}.

parse([Help | _], Row, _, _) when Help =:= "--help"; Help =:= "-h" ->
    {help, help(Row)};
parse(["--json" | Args], Row, Given, Options) ->
    parse(Args, Row, Given, Options#{json => true});
parse([Option, Path | Args], Row, Given, Options) when ?IS_SOCKET(Option) ->
    parse(Args, Row, Given, Options#{socket => Path});
parse([[$-, Letter] = Option | Args], {_, _, _, Known, _} = Row, Given, Options)
  when Letter =/= $- ->
    case [{Key, Type} || {Key, Type, _, _} <- Known, atom_to_list(Key) =:= [Letter]] of
        [{Key, _}] when is_map_key(Key, Options) ->
            {error, [Option, " is given twice\n"]};
        [{Key, Type}] -> option(Key, Type, Option, Args, Row, Given, Options);
        [] -> parse(Args, Row, [Option | Given], Options)
    end;
parse(["--" ++ _ = Option | Args], Row, Given, Options) ->
    case string:split(Option, "=") of
        [Long, Value] -> long([Long, Value | Args], Row, Given, Options);
        [Long] -> long([Long | Args], Row, Given, Options)
    end;
parse([Arg | Args], Row, Given, Options) ->
    parse(Args, Row, [Arg | Given], Options);
parse([], {Command, {Min, Max}, _, _, _} = Row, Given, Options) ->
    case length(Given) of
        N when N >= Min, N =< Max ->
            case [Wrong || Arg <- Given, {error, Wrong} <- [argument(Command, Arg)]] of
                [] -> {ok, #{command => Command, args => lists:reverse(Given), options => Options}};
                [Wrong | _] -> {error, Wrong}
            end;
        _ ->
            {error, help(Row)}
    end.

long(["--" ++ Name = Option | Args], {Command, _, _, Known, _} = Row, Given, Options) ->
    case [{Key, Type} || {Key, Type, _, _} <- Known, atom_to_list(Key) =:= Name] of
        [{Key, _}] when is_map_key(Key, Options) ->
            {error, [Option, " is given twice\n"]};
        [{Key, flag}] ->
            parse(Args, Row, Given, Options#{Key => true});
        [{Key, Type}] ->
            option(Key, Type, Option, Args, Row, Given, Options);
        [] ->
            {error, [Command, " has no option ", Option, "\n\n", help(Row)]}
    end.

option(_Key, _Type, Option, [], _Row, _Given, _Options) ->
    {error, [Option, " needs a value\n"]};
option(Key, Type, Option, [Text | Args], Row, Given, Options) ->
    case value(Type, Text) of
        {ok, Value} -> parse(Args, Row, Given, Options#{Key => Value});
        {error, Allowed} -> {error, [Option, " is \"", Text, "\"; it must be ", Allowed, "\n"]}
    end.

-spec levels() -> type().
levels() ->
    {choice, ?LEVELS}.

%% What an argument must be, where that is known without asking anybody.
argument("loglevel", Level) -> argument("a log level", levels(), Level);
argument("drain", Servers) -> argument("where clients are sent", servers, Servers);
argument(_Command, Text) -> {ok, Text}.

argument(What, Type, Text) ->
    case value(Type, Text) of
        {ok, Value} -> {ok, Value};
        {error, Allowed} -> {error, [What, " is \"", Text, "\"; it must be ", Allowed, "\n"]}
    end.

value(text, "") ->
    {error, "text that is not empty"};
value(text, Text) ->
    {ok, unicode:characters_to_binary(Text)};
value(number, Text) ->
    try list_to_integer(Text) of
        N when N >= 0 -> {ok, N};
        _ -> {error, "a number"}
    catch
        error:badarg -> {error, "a number"}
    end;
value(positive, Text) ->
    try list_to_integer(Text) of
        N when N > 0 -> {ok, N};
        _ -> {error, "a number above 0"}
    catch
        error:badarg -> {error, "a number above 0"}
    end;
value({choice, Words}, Text) ->
    case [Word || Word <- Words, atom_to_list(Word) =:= Text] of
        [Word] -> {ok, Word};
        [] -> {error, ["one of ", lists:join(", ", [atom_to_list(Word) || Word <- Words])]}
    end;
value(seconds, Text) ->
    case re:run(Text, "^([0-9]{1,9})([smhd]?)$",
                [dollar_endonly, {capture, all_but_first, list}]) of
        {match, [Digits, Unit]} -> {ok, list_to_integer(Digits) * unit(Unit)};
        nomatch -> {error, "seconds, or a time like 90s, 30m, 12h, 7d"}
    end;
value(time, Text) ->
    case value(seconds, Text) of
        {ok, Seconds} when Seconds > 0 -> {ok, Seconds};
        _ -> {error, "a time above 0: seconds, or like 90s, 30m, 12h, 7d"}
    end;
value(servers, Text) ->
    case address(Text) of
        {ok, Servers} -> {ok, Servers};
        {error, {_, Allowed}} -> {error, Allowed}
    end;
value(peer, Text) ->
    case {inet:parse_strict_address(Text), address(Text)} of
        {{ok, Ip}, _} -> {ok, Ip};
        {_, {ok, [Address]}} -> {ok, Address};
        _ -> {error, "an IP address, if wanted with a port: 192.0.2.1:80, [2001:db8::1]:80"}
    end.

address(Text) ->
    meerkat_config_value:parse_text({list, server}, unicode:characters_to_binary(Text)).

unit("") -> 1;
unit("s") -> 1;
unit("m") -> 60;
unit("h") -> 3600;
unit("d") -> 86400.

%% Of one command.
-spec usage(Command :: string()) -> unicode:chardata().
usage(Command) ->
    help(lists:keyfind(Command, 1, rows())).

-spec usage() -> unicode:chardata().
usage() ->
    ["usage: meerkatctl COMMAND [OPTIONS] [--json]\n\n",
     [summary(Row) || Row <- rows()],
     "\n`-s SOCKET` asks the server that listens there, maybe one embedded in another program;\n"
     "without it the one that was started here is asked.\n"
     "\n`meerkatctl help COMMAND` tells the options. Exit codes: 0 done, 1 it failed or something\n"
     "is wrong, 2 the command makes no sense and nothing was asked, 3 no server was started here\n"
     "by this user.\n"].

summary({Name, _, Written, _, Help}) ->
    [Line | Lines] = string:split(Help, "\n", all),
    Command = string:trim([Name, " ", Written]),
    First = case string:length(Command) < 25 of
        true -> io_lib:format("  ~-25ts ~ts~n", [Command, Line]);
        false -> io_lib:format("  ~ts~n~28ts~ts~n", [Command, "", Line])
    end,
    [First, [io_lib:format("~28ts~ts~n", ["", More]) || More <- Lines]].

help({"check", _, _, _, _}) ->
    meerkat_check_command:usage();
help({Name, _, Written, Options, Help}) ->
    ["usage: meerkatctl ", string:trim([Name, " ", Written]),
     [[" [", dashed(Key), [[" ", Value] || Value =/= ""], "]"]
      || {Key, _, Value, _} <- Options],
     " [--json]\n\n", Help, "\n", [$\n || Options =/= []],
     [io_lib:format("  ~-22ts ~ts~n", [string:trim([dashed(Key), " ", Value]), What])
      || {Key, _, Value, What} <- Options]].

%% As an option is typed: a letter has one dash.
-spec dashed(atom()) -> string().
dashed(Key) ->
    case atom_to_list(Key) of
        [_] = Letter -> "-" ++ Letter;
        Name -> "--" ++ Name
    end.
