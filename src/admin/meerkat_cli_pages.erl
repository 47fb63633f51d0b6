%% What is made of the table of meerkatctl's commands for other programs: completion for bash and
%% zsh, and the manual page. `make gen` writes them into rel/share. Pure.
-module(meerkat_cli_pages).

-export([bash/0, zsh/0, man/0]).

-define(MADE, "Made by `make gen` from src/admin/meerkat_cli_options.erl.").

%% ------------------------------------------------------------------------------------- completion

-spec bash() -> unicode:chardata().
bash() ->
    ["# Completion of meerkatctl for bash. ", ?MADE, "\n"
     "_meerkatctl() {\n"
     "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
     "    local command= words= i\n"
     "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
     "        case ${COMP_WORDS[i]} in\n"
     "            -s | --socket) i=$((i + 1)) ;;\n"
     "            -*) ;;\n"
     "            *) command=${COMP_WORDS[i]}; break ;;\n"
     "        esac\n"
     "    done\n"
     "    if [ \"$before\" = -s ] || [ \"$before\" = --socket ]; then\n"
     "        compopt -o default\n"
     "        return\n"
     "    elif [ -z \"$command\" ]; then\n"
     "        words='", spaced(names() ++ ["--version" | everywhere()]), "'\n"
     "    else\n"
     "        case \"$command $before\" in\n",
     [["            '", Name, " ", Option, "') words='", spaced(Words), "' ;;\n"]
      || {Name, _, Options} <- commands(), {Option, Words, _} <- Options, Words =/= []],
     [["            '", Name, " ", Option, "') ", files(Kind), " ;;\n"]
      || {Name, _, Options} <- commands(), {Option, [], Kind} <- Options, Kind =/= flag],
     "            'config check' | 'config show' | import\\ *) compopt -o default; return ;;\n"
     "            help\\ *) words='", spaced(names()), "' ;;\n"
     "            *)\n"
     "                case $command in\n",
     [["                    ", Name, ") words='",
       spaced(Words ++ [Option || {Option, _, _} <- Options] ++ everywhere()), "' ;;\n"]
      || {Name, Words, Options} <- commands()],
     "                esac ;;\n"
     "        esac\n"
     "    fi\n"
     "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
     "}\n"
     "complete -F _meerkatctl meerkatctl\n"].

files(file) -> "compopt -o default; return";
files(_) -> "return".

-spec zsh() -> unicode:chardata().
zsh() ->
    ["#compdef meerkatctl\n"
     "# Completion of meerkatctl for zsh. ", ?MADE, "\n"
     "_meerkatctl() {\n"
     "    local -a commands\n"
     "    commands=(\n",
     [["        '", Name, ":", zsh_text(first_line(Help)), "'\n"]
      || {Name, _, _, _, Help} <- meerkat_cli_options:rows()],
     "    )\n"
     "    if (( CURRENT == 2 )); then\n"
     "        _describe 'command' commands\n"
     "        return\n"
     "    fi\n"
     "    case $words[2] in\n",
     [["        ", Name, ")\n            _arguments '--json[one JSON value on one line]'"
       " \\\n                '-s[ask the server at this socket]:file:_files'",
       [[" \\\n                '", Option, "[", zsh_text(What), "]",
         zsh_value(Words, Kind), "'"]
        || {Option, Words, Kind, What} <- Options],
       case Positional of
           [] -> "";
           _ -> [" \\\n                '2:argument:(", spaced(Positional), ")'"]
       end,
       " \\\n                '*:file:_files' ;;\n"]
      || {Name, Positional, Options} <- commands_with_help(), Name =/= "help"],
     "        help) _describe 'command' commands ;;\n"
     "    esac\n"
     "}\n"
     "_meerkatctl \"$@\"\n"].

zsh_value(_, flag) -> "";
zsh_value(_, file) -> ":file:_files";
zsh_value([], _) -> ":value:";
zsh_value(Words, _) -> [":value:(", spaced(Words), ")"].

%% Quotes, colons and brackets end something there.
zsh_text(Text) ->
    lists:flatmap(fun($') -> "'\\''";
                     ($:) -> "\\:";
                     ($[) -> "\\[";
                     ($]) -> "\\]";
                     (C) -> [C]
                  end, unicode:characters_to_list(Text)).

%% ------------------------------------------------------------------------------------ manual page

-spec man() -> unicode:chardata().
man() ->
    [".\\\" ", ?MADE, "\n"
     ".TH MEERKATCTL 1 \"\" Meerkat \"User commands\"\n"
     ".SH NAME\nmeerkatctl \\- ask and steer a Meerkat STUN/TURN server\n"
     ".SH SYNOPSIS\n.B meerkatctl\n.I COMMAND\n.RI [ OPTIONS ]\n.RB [ \\-\\-json ]\n"
     ".SH DESCRIPTION\n"
     "Asks the server that was started on this machine by the same user, over a unix socket;\n"
     "root also that of a service. With\n.B \\-\\-json\nthe answer is one JSON value on one line.\n"
     "With\n.BI \\-s \" SOCKET\"\nit asks the server that listens there, which "
     "may be embedded in another program.\n"
     ".SH COMMANDS\n",
     [man_command(Row) || Row <- meerkat_cli_options:rows()],
     ".SH EXIT STATUS\n"
     ".TP\n0\ndone; for status: its relay program runs; for check and doctor: nothing is wrong\n"
     ".TP\n1\nit failed, or what was looked for is wrong\n"
     ".TP\n2\nthe command makes no sense, and nothing was asked\n"
     ".TP\n3\nno server was started here by this user\n"
     ".SH ENVIRONMENT\n"
     ".TP\n.B MEERKAT_RUN_DIR\nthe directory of the server's socket, instead of\n"
     ".IR $XDG_RUNTIME_DIR/meerkat ,\n.I /run/meerkat\nor\n.IR /tmp/meerkat\\-UID .\n"
     ".TP\n.B CONFIG_FILE\nthe configuration file\n"
     ".SH FILES\n.TP\n.I /etc/meerkat/meerkat.cfg\n"
     "read where nothing else is named and no file lies in the release's own etc/\n"
     ".SH SEE ALSO\n.BR meerkat (1)\n"].

man_command({Name, _, Written, Options, Help}) ->
    [".TP\n", roff(["\\fB", Name, "\\fR ", Written]), "\n", roff(unwrapped(Help)), "\n",
     [".RS\n.TP\n" || Options =/= []],
     lists:join(".TP\n", [[roff(["\\fB", meerkat_cli_options:dashed(Key), "\\fR ", Value]), "\n",
                           roff(What), "\n"] || {Key, _, Value, What} <- Options]),
     [".RE\n" || Options =/= []]].

%% A dash there is a hyphen unless told otherwise.
roff(Text) ->
    re:replace(unicode:characters_to_list(Text), "-", "\\\\-", [global, unicode, {return, list}]).

unwrapped(Help) ->
    lists:join(" ", string:split(Help, "\n", all)).

first_line(Help) ->
    hd(string:split(Help, "\n")).

%% ------------------------------------------------------------------------------------- the table

names() ->
    [Name || {Name, _, _, _, _} <- meerkat_cli_options:rows()].

%% What each takes: words, and options with their words or what else they want.
commands() ->
    [{Name, Words, [{Option, Values, Kind} || {Option, Values, Kind, _} <- Options]}
     || {Name, Words, Options} <- commands_with_help()].

commands_with_help() ->
    [{Name, positional(Name, Written),
      [{meerkat_cli_options:dashed(Key), values(Type), kind(Key, Type), What}
       || {Key, Type, _, What} <- Options]}
     || {Name, _, Written, Options, _} <- meerkat_cli_options:rows()].

%% Small letters are typed as they stand.
positional("loglevel", _Written) ->
    values(meerkat_cli_options:levels());
positional(_Name, Written) ->
    [Word || Word <- string:lexemes(Written, " []|"),
             re:run(Word, "^[a-z]+$", [{capture, none}]) =:= match].

values({choice, Words}) -> [atom_to_list(Word) || Word <- Words];
values(_) -> [].

kind(_, flag) -> flag;
kind(Key, _) when Key =:= c; Key =:= file; Key =:= cacert -> file;
kind(_, _) -> value.

%% What every command takes.
everywhere() -> ["--json", "-s"].

spaced(Words) ->
    lists:join(" ", Words).
