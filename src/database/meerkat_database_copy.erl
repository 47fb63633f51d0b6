%% What coturn's tables, or keys in Redis, have, carried over into another database: users with
%% their keys, secrets, peers and limits, of all realms. Nothing is removed there; a user that is
%% there already gets the key that comes.
-module(meerkat_database_copy).

-export([copy/2]).

-export_type([copied/0]).

%% How many of each are there now, and what did not come over: sentences without a key or a secret.
-type copied() :: #{realms | users | secrets | peers | limits := non_neg_integer(),
                    refused := [unicode:chardata()], into := unicode:chardata()}.

-define(CALL_MS, 60000).
%% What one job does: its connection is given up where it takes longer than a call may.
-define(AT_ONCE, 200).
-define(USERS_MAX, 100000000).

-spec copy(From :: meerkat_config_database:connection(),
           Into :: meerkat_config_database:connection()) ->
    {ok, copied()} | {error, unicode:chardata()}.
copy(From, Into) ->
    Before = process_flag(trap_exit, true),
    [Source, Target] = [opened(Connection) || Connection <- [From, Into]],
    try
        carried(Source, Target)
    catch
        throw:{failed, Where, Why} -> {error, [Where, ": ", Why]}
    after
        lists:foreach(fun({Pool, _}) -> ok = closed(Pool) end, [Source, Target]),
        true = process_flag(trap_exit, Before)
    end.

%% With what it is called.
opened(Connection) ->
    Backend = meerkat_database:backend(Connection),
    {ok, Pool} = meerkat_database_pool:start_link(Backend, #{size => 1, waiting => 1}),
    {Pool, meerkat_database:describe(Backend)}.

closed(Pool) ->
    true = exit(Pool, shutdown),
    receive {'EXIT', Pool, _} -> ok end.

%% A job's answer, or an end of all with the reason.
asked({Pool, Where}, Job) ->
    case meerkat_database_pool:call(Pool, Job, ?CALL_MS) of
        {ok, {ok, Answer}} -> Answer;
        {ok, {error, Why}} -> throw({failed, Where, Why});
        {error, Refusal} -> throw({failed, Where, meerkat_database_pool:lost(Refusal)})
    end.

list(Source, Listing) ->
    asked(Source, fun(Db) -> meerkat_database:list(Listing, Db) end).

carried(Source, {_, Where} = Target) ->
    Realms = list(Source, realms),
    Nothing = #{realms => length(Realms), users => 0, secrets => 0, peers => 0, limits => 0,
                refused => [], into => Where},
    All = lists:foldl(fun(Realm, Sum) -> realm(Realm, Source, Target, Sum) end, Nothing, Realms),
    {ok, maps:update_with(refused, fun lists:reverse/1, All)}.

realm(Realm, Source, Target, Sum) ->
    Users = fun(Names) -> users(Realm, Names, Source) end,
    Secrets = [{{add_secret, Realm, Secret}, "a secret"}
               || Secret <- list(Source, {secrets, Realm}), Secret =/= <<>>],
    Peers = [{{add_peer, Kind, Realm, Range}, ["peers ", meerkat_text:printable(Range)]}
             || Kind <- [allowed, denied], Range <- list(Source, {peers, Kind, Realm})],
    Limits = [{{set_option, Realm, Option, Value}, ["limit ", Option]}
              || {_, Option} <- meerkat_database:limits(),
                 Value <- list(Source, {option, Realm, Option})],
    lists:foldl(fun({Kind, Changes}, So) -> made(Kind, Realm, Changes, Target, So) end,
                in_parts(list(Source, {users, Realm, ?USERS_MAX}), fun(Names, So) ->
                    made(users, Realm, Users(Names), Target, So)
                end, Sum),
                [{secrets, Secrets}, {peers, Peers}, {limits, Limits}]).

in_parts([], _Fun, Sum) ->
    Sum;
in_parts(Names, Fun, Sum) ->
    {Some, Others} = lists:split(min(?AT_ONCE, length(Names)), Names),
    in_parts(Others, Fun, Fun(Some, Sum)).

users(Realm, Names, Source) ->
    Keys = asked(Source, fun(Db) -> all(Names, fun(Name) ->
        case meerkat_database:ask({user, Realm, Name}, Db) of
            {ok, {user, Found}} -> {ok, Found};
            {error, Why} -> {error, Why}
        end
    end, []) end),
    [{case Found of
          none -> none;
          _ -> {add_user, Realm, Name, Found}
      end, ["user ", meerkat_text:escape(Name)]} || {Name, Found} <- lists:zip(Names, Keys)].

all([One | Others], Fun, Done) ->
    case Fun(One) of
        {ok, Answer} -> all(Others, Fun, [Answer | Done]);
        {error, Why} -> {error, Why}
    end;
all([], _Fun, Done) ->
    {ok, lists:reverse(Done)}.

%% What the target does not take is told, and the others go on.
made(Kind, Realm, Changes, Target, #{refused := Refused} = Sum) ->
    Outcomes = asked(Target, fun(Db) ->
        {ok, [{What, outcome(Change, Db)} || {Change, What} <- Changes]}
    end),
    Wrong = [[What, " of realm ", meerkat_text:escape(Realm), ": ", Why]
             || {What, {error, Why}} <- Outcomes],
    #{Kind := Before} = Sum,
    Sum#{Kind := Before + length(Outcomes) - length(Wrong),
         refused := lists:reverse(Wrong, Refused)}.

outcome(none, _Db) -> {error, "there is no key in its row"};
outcome(Change, Db) ->
    case meerkat_database:change(Change, Db) of
        {error, Why} -> {error, Why};
        _ -> ok
    end.
