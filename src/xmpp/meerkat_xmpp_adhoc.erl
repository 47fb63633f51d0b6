%% Ad-hoc commands (XEP-0050) of administrators: which there are, the form (XEP-0004) of each, and
%% how an answer looks. meerkat_admin does what they ask for; the caller has checked that the sender
%% is an administrator. A command has one stage, so nothing is kept between two stanzas. Pure.
-module(meerkat_xmpp_adhoc).

-export([commands/0, is_command/1, request/1, answer/3]).
-export_type([outcome/0]).

-type outcome() :: {reply, meerkat_xmpp_xml:element()}
                 | {run, Node :: binary(), meerkat_admin:question()}
                 | {error, meerkat_xmpp_xml:condition()}.

-define(NS, <<"http://jabber.org/protocol/commands">>).
-define(FORM, <<"jabber:x:data">>).
%% Rows of a list at most: more would not fit a chat client's window, or be too large a stanza.
-define(ROWS_MAX, 100).

%% Node, name, and the fields of its form: variable, type, label, whether it has to be there.
-spec rows() -> [{binary(), binary(), [{binary(), binary(), binary(), boolean()}]}].
rows() ->
    User = {<<"user">>, <<"text-single">>, <<"User (bare JID)">>, true},
    [{<<"status">>, <<"How the server is">>, []},
     {<<"allocations">>, <<"A user's allocations">>, [User]},
     {<<"disconnect">>, <<"End a user's allocations">>,
      [User, {<<"revoke">>, <<"boolean">>, <<"The credentials too">>, false}]},
     {<<"drain">>, <<"Take no more allocations">>, []},
     {<<"undrain">>, <<"Take allocations again">>, []}].

-spec commands() -> [{Node :: binary(), Name :: binary()}].
commands() -> [{Node, Name} || {Node, Name, _} <- rows()].

-spec is_command(Node :: binary()) -> boolean().
is_command(Node) -> lists:keymember(Node, 1, rows()).

%% What is to be done about a <command/>.
-spec request(meerkat_xmpp_xml:element()) -> outcome().
request(Command) ->
    Node = meerkat_xmpp_xml:attr(<<"node">>, Command, <<>>),
    Action = meerkat_xmpp_xml:attr(<<"action">>, Command, <<"execute">>),
    case {lists:keyfind(Node, 1, rows()), Action} of
        {false, _} ->
            {error, {cancel, <<"item-not-found">>}};
        {_, <<"cancel">>} ->
            {reply, command(Node, Command, <<"canceled">>, [])};
        {{_, _, []}, _} when Action =:= <<"execute">>; Action =:= <<"complete">> ->
            {run, Node, question(Node, #{})};
        {{_, Name, Fields}, _} when Action =:= <<"execute">>; Action =:= <<"complete">> ->
            filled(Node, Command, Name, Fields);
        _ ->
            {error, {modify, <<"bad-request">>}}
    end.

filled(Node, Command, Name, Fields) ->
    case submitted(Command) of
        none ->
            Actions = meerkat_xmpp_xml:el(<<"actions">>, [{<<"execute">>, <<"complete">>}],
                                          [meerkat_xmpp_xml:el(<<"complete">>, [])]),
            {reply, command(Node, Command, <<"executing">>, [Actions, form(Name, Fields)])};
        Values ->
            case [Var || {Var, _, _, true} <- Fields, maps:get(Var, Values, <<>>) =:= <<>>] of
                [] -> {run, Node, question(Node, Values)};
                [_ | _] -> {error, {modify, <<"bad-request">>}}
            end
    end.

%% The values of a form that was sent in.
submitted(Command) ->
    case [X || {xmlel, <<"x">>, _, _} = X <- meerkat_xmpp_xml:children(Command),
               meerkat_xmpp_xml:ns(X) =:= ?FORM,
               meerkat_xmpp_xml:attr(<<"type">>, X) =:= <<"submit">>] of
        [X | _] ->
            maps:from_list([{meerkat_xmpp_xml:attr(<<"var">>, Field, <<>>),
                             meerkat_xmpp_xml:text(Value)}
                            || {xmlel, <<"field">>, _, _} = Field <- meerkat_xmpp_xml:children(X),
                               {ok, Value} <- [meerkat_xmpp_xml:child(<<"value">>, Field)]]);
        [] ->
            none
    end.

question(<<"status">>, _) -> {status, []};
question(<<"allocations">>, #{<<"user">> := User}) ->
    {allocations, [#{user => User, limit => ?ROWS_MAX}]};
question(<<"disconnect">>, #{<<"user">> := User} = Values) ->
    case maps:get(<<"revoke">>, Values, <<"0">>) of
        Yes when Yes =:= <<"1">>; Yes =:= <<"true">> -> {revoke, [User]};
        _ -> {disconnect, [{user, User}]}
    end;
question(<<"drain">>, _) -> {drain, [#{stay => true}]};
question(<<"undrain">>, _) -> {undrain, []}.

form(Name, Fields) ->
    meerkat_xmpp_xml:el(<<"x">>, [{<<"xmlns">>, ?FORM}, {<<"type">>, <<"form">>}],
        [meerkat_xmpp_xml:el(<<"title">>, [], [{xmlcdata, Name}])
         | [field(Field) || Field <- Fields]]).

field({Var, Type, Label, Required}) ->
    meerkat_xmpp_xml:el(<<"field">>,
        [{<<"var">>, Var}, {<<"type">>, Type}, {<<"label">>, Label}],
        [meerkat_xmpp_xml:el(<<"required">>, []) || Required]).

%% The answer to the IQ: what the command has returned.
-spec answer(Node :: binary(), Command :: meerkat_xmpp_xml:element(),
             {ok, term()} | {error, binary()}) -> meerkat_xmpp_xml:element().
answer(Node, Command, {ok, Result}) ->
    Text = unicode:characters_to_binary(text(Node, Result)),
    Lines = [meerkat_xmpp_xml:el(<<"value">>, [], [{xmlcdata, Line}])
             || Line <- binary:split(Text, <<"\n">>, [global, trim])],
    Form = meerkat_xmpp_xml:el(<<"x">>, [{<<"xmlns">>, ?FORM}, {<<"type">>, <<"result">>}],
        [meerkat_xmpp_xml:el(<<"field">>,
             [{<<"var">>, Node}, {<<"type">>, <<"text-multi">>}], Lines)]),
    command(Node, Command, <<"completed">>, [Form]);
answer(Node, Command, {error, Sentence}) ->
    Note = meerkat_xmpp_xml:el(<<"note">>, [{<<"type">>, <<"error">>}], [{xmlcdata, Sentence}]),
    command(Node, Command, <<"completed">>, [Note]).

text(<<"status">>, Status) -> meerkat_show:status(Status);
text(<<"allocations">>, Page) -> meerkat_show:allocations(Page);
text(<<"disconnect">>, N) -> [meerkat_text:allocations(N), " ended"];
text(<<"drain">>, N) -> ["draining; ", meerkat_text:allocations(N), " there"];
text(<<"undrain">>, done) -> "taking allocations again".

command(Node, Command, Status, Children) ->
    Session = meerkat_xmpp_xml:attr(<<"sessionid">>, Command, Node),
    meerkat_xmpp_xml:el(<<"command">>,
        [{<<"xmlns">>, ?NS}, {<<"node">>, Node}, {<<"sessionid">>, Session},
         {<<"status">>, Status}], Children).
