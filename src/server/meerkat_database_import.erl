%% `meerkatctl import DATABASE --into DATABASE`: what coturn's database has is carried over into
%% another. No server need run.
-module(meerkat_database_import).

-export([copy/2, shown/1]).

-define(FORM, "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME, "
              "mysql://USER:PASSWORD@HOST/NAME or redis://:PASSWORD@HOST/NUMBER").

%% The error is a sentence.
-spec copy(From :: binary(), Into :: binary()) ->
    {ok, meerkat_database_copy:copied()} | {error, unicode:chardata()}.
copy(From, Into) ->
    case {connection("the database to read", From), connection("--into", Into)} of
        {{ok, Same}, {ok, Same}} ->
            {error, "both are the same database"};
        {{ok, Source}, {ok, Target}} ->
            copied(Source, Target);
        {Read, Also} ->
            hd([Mistake || {error, _} = Mistake <- [Read, Also]])
    end.

%% One that is not there would be made, empty.
copied(#{kind := sqlite, file := File} = Source, Target) ->
    case filelib:is_regular(File) of
        true -> from(Source, Target);
        false -> {error, [meerkat_text:printable(File), ": no such file"]}
    end;
copied(Source, Target) ->
    from(Source, Target).

from(Source, Target) ->
    case meerkat_database_copy:copy(Source, Target) of
        {ok, #{refused := Refused, into := Into} = Copied} ->
            {ok, Copied#{refused := [line(Sentence) || Sentence <- Refused], into := line(Into)}};
        {error, Why} ->
            {error, ["not all was carried over: ", Why]}
    end.

line(Text) -> meerkat_text:printable(unicode:characters_to_binary(Text)).

%% What was given is not said again where it is wrong: there may be a password in it.
connection(What, Text) ->
    case given(Text) of
        {ok, Uri} -> read(What, meerkat_config_database:uri(Uri));
        {error, Why} -> {error, [What, ": ", Why]}
    end.

%% `@FILE`: a password need not stand in a command, which others on this machine can see.
given(<<"@", File/binary>>) ->
    case file:read_file(File) of
        {ok, Text} -> {ok, string:trim(Text)};
        {error, Reason} -> {error, [meerkat_text:printable(File), ": ", file:format_error(Reason)]}
    end;
given(Text) ->
    {ok, Text}.

read(What, error) ->
    {error, [What, " must be a URI: " ?FORM "; or @FILE, where FILE has it"]};
read(_What, {ok, #{kind := Kind} = Connection}) ->
    case meerkat_libraries:for_database(Kind) of
        ok ->
            {ok, Connection};
        {missing, {App, _, _} = Library} ->
            {error, ["the Erlang library ", atom_to_list(App), " is missing; ",
                     meerkat_libraries:remedy(Library)]}
    end.

-spec shown(meerkat_database_copy:copied()) -> unicode:chardata().
shown(#{realms := Realms, users := Users, secrets := Secrets, peers := Peers, limits := Limits,
        into := Into}) ->
    io_lib:format("carried over into ~ts: ~b users, ~b secrets, ~b ranges of peers and ~b limits "
                  "of ~b realms~n", [Into, Users, Secrets, Peers, Limits, Realms]).
