%% Decides what a component does about a stanza. In: the stanza, the services and settings, and the
%% watchers; out: the watchers as they are now, and actions. Pure: meerkat_xmpp sends, counts and
%% runs commands. Senders whose domain is not allowed are told nothing, and results and errors get
%% no reply.
-module(meerkat_xmpp_core).

-export([handle/4, hostile/2, push/3]).
-export_type([env/0, action/0]).

-type env() :: #{component := binary(),
                 %% MongooseIM's is_subdomain: the name is the first part of ours.
                 is_subdomain := boolean(),
                 %% Who may ask; none: the domain above the name that is asked.
                 domains := [binary()],
                 %% Bare JIDs.
                 admins := [binary()],
                 services := [meerkat_xmpp_extdisco:service()],
                 mint := meerkat_xmpp_extdisco:mint(),
                 %% Has this bare JID asked too often?
                 too_many := fun((binary()) -> boolean())}.
-type action() :: {send, meerkat_xmpp_xml:element()}
                | {run, Iq :: meerkat_xmpp_xml:element(), Node :: binary(),
                   meerkat_admin:question(), Admin :: binary()}
                | {count, meerkat_xmpp_counts:event()}.

-define(INFO, <<"http://jabber.org/protocol/disco#info">>).
-define(ITEMS, <<"http://jabber.org/protocol/disco#items">>).
-define(PING, <<"urn:xmpp:ping">>).
-define(EXTDISCO, <<"urn:xmpp:extdisco:2">>).
-define(COMMANDS, <<"http://jabber.org/protocol/commands">>).

%% A stanza that came by the connection Via.
-spec handle(meerkat_xmpp_xml:element(), Via :: term(), env(), meerkat_xmpp_watchers:watchers()) ->
    {[action()], meerkat_xmpp_watchers:watchers()}.
handle(Stanza, Via, Env, Watchers) ->
    case parties(Stanza, Env) of
        {ok, From, To} ->
            case {meerkat_xmpp_xml:name(Stanza), meerkat_xmpp_xml:attr(<<"type">>, Stanza)} of
                {<<"iq">>, Type} -> iq(Type, Stanza, From, To, Env, Watchers);
                {<<"presence">>, Type} -> presence(Type, From, To, Via, Env, Watchers);
                {<<"message">>, _} -> {[], Watchers};
                _ -> {[{count, malformed}], Watchers}
            end;
        error ->
            {[{count, malformed}], Watchers}
    end.

%% A stanza that was too large or too deep to be parsed: an IQ is answered with an error.
-spec hostile(meerkat_xmpp_xml:element(), env()) -> [action()].
hostile(Envelope, Env) ->
    case {parties(Envelope, Env), asks(Envelope)} of
        {{ok, #{bare := Bare}, _}, true} ->
            [{send, meerkat_xmpp_xml:failure(Envelope, {modify, <<"not-acceptable">>})}
             || not (maps:get(too_many, Env))(Bare)];
        _ ->
            []
    end.

asks(Stanza) ->
    meerkat_xmpp_xml:name(Stanza) =:= <<"iq">>
        andalso meerkat_xmpp_xml:attr(<<"id">>, Stanza) =/= undefined
        andalso lists:member(meerkat_xmpp_xml:attr(<<"type">>, Stanza), [<<"get">>, <<"set">>]).

%% The server must set `from`. A stanza without it is dropped, like one that is not to us.
parties(Stanza, Env) ->
    case {meerkat_xmpp_jid:parse(meerkat_xmpp_xml:attr(<<"from">>, Stanza)),
          meerkat_xmpp_jid:parse(meerkat_xmpp_xml:attr(<<"to">>, Stanza))} of
        {{ok, From}, {ok, #{domain := Domain} = To}} ->
            case is_ours(Domain, Env) of
                true -> {ok, From, To};
                false -> error
            end;
        _ ->
            error
    end.

is_ours(Domain, #{is_subdomain := false, component := Name}) ->
    Domain =:= Name;
is_ours(Domain, #{is_subdomain := true, component := Name}) ->
    case binary:split(Domain, <<".">>) of
        [Name, _] -> true;
        _ -> false
    end.

is_allowed(#{domain := Domain}, #{domain := Ours}, #{domains := []}) ->
    Domain =:= meerkat_xmpp_jid:parent(Ours);
is_allowed(#{domain := Domain}, _To, #{domains := Domains}) ->
    lists:member(Domain, Domains).

is_admin(#{bare := Bare}, #{admins := Admins}) ->
    lists:member(Bare, Admins).

%%% IQ

iq(<<"error">>, _Iq, #{full := Full}, _To, _Env, Watchers) ->
    %% The client that we pushed to is gone.
    {[], meerkat_xmpp_watchers:gone(Full, Watchers)};
iq(Type, Iq, From, To, Env, Watchers) when Type =:= <<"get">>; Type =:= <<"set">> ->
    #{too_many := TooMany} = Env,
    #{bare := Bare} = From,
    case {asks(Iq), is_allowed(From, To, Env)} of
        {false, _} -> {[{count, malformed}], Watchers};
        {true, Allowed} ->
            case {TooMany(Bare), Allowed} of
                {true, _} -> failure(Iq, {wait, <<"resource-constraint">>}, throttled, Watchers);
                {_, false} -> failure(Iq, {auth, <<"forbidden">>}, forbidden, Watchers);
                {false, true} -> question(Type, Iq, From, To, Env, Watchers)
            end
    end;
iq(<<"result">>, _Iq, _From, _To, _Env, Watchers) ->
    {[], Watchers};
iq(_Type, _Iq, _From, _To, _Env, Watchers) ->
    {[{count, malformed}], Watchers}.

question(Type, Iq, From, #{local := <<>>, resource := <<>>} = To, Env, Watchers) ->
    case meerkat_xmpp_xml:children(Iq) of
        [Child] ->
            Ns = meerkat_xmpp_xml:ns(Child),
            question({Type, Ns, meerkat_xmpp_xml:name(Child)}, Child, Iq, From, To, Env, Watchers);
        _ ->
            failure(Iq, {modify, <<"bad-request">>}, bad_request, Watchers)
    end;
question(_Type, Iq, _From, _To, _Env, Watchers) ->
    failure(Iq, {cancel, <<"service-unavailable">>}, bad_request, Watchers).

question({<<"get">>, ?INFO, <<"query">>}, Query, Iq, From, _To, Env, Watchers) ->
    Node = meerkat_xmpp_xml:attr(<<"node">>, Query, <<>>),
    answered(Iq, info(Node, is_admin(From, Env)), Watchers);
question({<<"get">>, ?ITEMS, <<"query">>}, Query, Iq, From, To, Env, Watchers) ->
    Node = meerkat_xmpp_xml:attr(<<"node">>, Query, <<>>),
    answered(Iq, items(Node, To, is_admin(From, Env)), Watchers);
question({<<"get">>, ?PING, <<"ping">>}, _Ping, Iq, _From, _To, _Env, Watchers) ->
    {[{count, answered}, {send, meerkat_xmpp_xml:result(Iq, [])}], Watchers};
question({<<"get">>, ?EXTDISCO, _}, Child, Iq, From, To, Env, Watchers) ->
    #{services := Services, mint := Mint} = Env,
    #{bare := Bare, full := Full} = From,
    case meerkat_xmpp_extdisco:answer(Child, Bare, Services, Mint) of
        {ok, Answer, none} -> answered(Iq, {ok, Answer}, Watchers);
        {ok, Answer, Type} ->
            Known = meerkat_xmpp_watchers:asked(Full, maps:get(domain, To), Type, Watchers),
            answered(Iq, {ok, Answer}, Known);
        {error, Condition} -> failure(Iq, Condition, bad_request, Watchers)
    end;
question({<<"set">>, ?EXTDISCO, _}, _Child, Iq, _From, _To, _Env, Watchers) ->
    failure(Iq, {cancel, <<"not-allowed">>}, bad_request, Watchers);
question({<<"set">>, ?COMMANDS, <<"command">>}, Command, Iq, From, _To, Env, Watchers) ->
    case is_admin(From, Env) andalso meerkat_xmpp_adhoc:request(Command) of
        false -> failure(Iq, {auth, <<"forbidden">>}, forbidden, Watchers);
        {reply, Reply} -> answered(Iq, {ok, Reply}, Watchers);
        {error, Condition} -> failure(Iq, Condition, bad_request, Watchers);
        {run, Node, Question} ->
            {[{count, answered}, {run, Iq, Node, Question, maps:get(bare, From)}], Watchers}
    end;
question(_Unknown, _Child, Iq, _From, _To, _Env, Watchers) ->
    failure(Iq, {cancel, <<"service-unavailable">>}, bad_request, Watchers).

answered(Iq, {ok, Child}, Watchers) ->
    {[{count, answered}, {send, meerkat_xmpp_xml:result(Iq, [Child])}], Watchers};
answered(Iq, {error, Condition}, Watchers) ->
    failure(Iq, Condition, bad_request, Watchers).

failure(Iq, Condition, Event, Watchers) ->
    {[{count, Event}, {send, meerkat_xmpp_xml:failure(Iq, Condition)}], Watchers}.

%%% XEP-0030

info(<<>>, IsAdmin) ->
    {ok, info([], identity(<<"component">>, <<"generic">>, <<"Meerkat">>),
              [?INFO, ?ITEMS, ?PING, ?EXTDISCO] ++ [?COMMANDS || IsAdmin])};
info(?COMMANDS, true) ->
    {ok, info([{<<"node">>, ?COMMANDS}],
              identity(<<"automation">>, <<"command-list">>, <<"Commands">>), [?ITEMS])};
info(Node, IsAdmin) ->
    case IsAdmin andalso lists:keyfind(Node, 1, meerkat_xmpp_adhoc:commands()) of
        false ->
            {error, {cancel, <<"item-not-found">>}};
        {_, Name} ->
            {ok, info([{<<"node">>, Node}],
                      identity(<<"automation">>, <<"command-node">>, Name),
                      [?COMMANDS, <<"jabber:x:data">>])}
    end.

info(Node, Identity, Features) ->
    meerkat_xmpp_xml:el(<<"query">>, [{<<"xmlns">>, ?INFO} | Node],
        [Identity | [meerkat_xmpp_xml:el(<<"feature">>, [{<<"var">>, Feature}])
                     || Feature <- Features]]).

identity(Category, Type, Name) ->
    meerkat_xmpp_xml:el(<<"identity">>,
                        [{<<"category">>, Category}, {<<"type">>, Type}, {<<"name">>, Name}]).

items(<<>>, _To, _IsAdmin) ->
    {ok, meerkat_xmpp_xml:el(<<"query">>, [{<<"xmlns">>, ?ITEMS}])};
items(?COMMANDS, #{domain := Domain}, true) ->
    {ok, meerkat_xmpp_xml:el(<<"query">>, [{<<"xmlns">>, ?ITEMS}, {<<"node">>, ?COMMANDS}],
        [meerkat_xmpp_xml:el(<<"item">>,
             [{<<"jid">>, Domain}, {<<"node">>, Node}, {<<"name">>, Name}])
         || {Node, Name} <- meerkat_xmpp_adhoc:commands()])};
items(Node, _To, true) ->
    case meerkat_xmpp_adhoc:is_command(Node) of
        true -> {ok, meerkat_xmpp_xml:el(<<"query">>,
                                         [{<<"xmlns">>, ?ITEMS}, {<<"node">>, Node}])};
        false -> {error, {cancel, <<"item-not-found">>}}
    end;
items(_Node, _To, false) ->
    {error, {cancel, <<"item-not-found">>}}.

%%% Presence

presence(undefined, #{resource := Resource, full := Full} = From, #{domain := As} = To, Via, Env,
         Watchers) when Resource =/= <<>> ->
    case is_allowed(From, To, Env) of
        false ->
            {[{count, forbidden}], Watchers};
        true ->
            case meerkat_xmpp_watchers:present(Full, As, Via, Watchers) of
                {ok, Known} -> {[], Known};
                {full, Same} -> {[{count, watchers_full}], Same}
            end
    end;
presence(Type, #{full := Full}, _To, _Via, _Env, Watchers)
  when Type =:= <<"unavailable">>; Type =:= <<"error">> ->
    {[], meerkat_xmpp_watchers:gone(Full, Watchers)};
presence(<<"subscribe">>, #{bare := Bare}, #{domain := As}, _Via, _Env, Watchers) ->
    %% We are in nobody's roster: a subscription is refused.
    {[{send, meerkat_xmpp_xml:el(<<"presence">>, [{<<"from">>, As}, {<<"to">>, Bare},
                                                  {<<"type">>, <<"unsubscribed">>}])}], Watchers};
presence(_Type, _From, _To, _Via, _Env, Watchers) ->
    {[], Watchers}.

%%% Push

%% What is sent to those who watch, each by the connection it is reached by.
-spec push([meerkat_xmpp_extdisco:change()], env(), meerkat_xmpp_watchers:watchers()) ->
    [{Via :: term(), meerkat_xmpp_xml:element()}].
push(Changes, #{mint := Mint}, Watchers) ->
    [{Via, meerkat_xmpp_xml:el(<<"iq">>,
         [{<<"type">>, <<"set">>}, {<<"from">>, As}, {<<"to">>, Jid}, {<<"id">>, id()}],
         [Services])}
     || #{jid := Jid, as := As, via := Via, types := Types} <- meerkat_xmpp_watchers:all(Watchers),
        Type <- Types,
        {ok, #{bare := Bare}} <- [meerkat_xmpp_jid:parse(Jid)],
        {ok, Services} <- [meerkat_xmpp_extdisco:push(Changes, Type, Bare, Mint)]].

%% Never the same twice (RFC 6120 8.1.3). An answer is matched by its sender.
id() ->
    <<"push-", (integer_to_binary(erlang:unique_integer([positive])))/binary>>.
