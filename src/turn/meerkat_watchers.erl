%% Who watches which allocations of a server (meerkat_watch), and telling them what is asked and
%% answered. Where nobody watches, telling costs one look into a table for each request that comes
%% to Erlang.
-module(meerkat_watchers).

-export([enter/4, leave/2, count/1, tell/3, asked/4]).

-export_type([who/0, about/0, told/0]).

-type address() :: {inet:ip_address(), inet:port_number()}.
-type who() :: {session, non_neg_integer()} | {user, binary()}
             | {client, inet:ip_address() | address()}.
%% Whom something concerns, as far as it is known. A session of 0 is none.
-type about() :: #{session => non_neg_integer(), user => binary(), client => address()}.
%% As meerkat_watch tells it on.
-type told() :: #{event := atom(), atom() => term()}.

%% The caller hears {told, told()} of whom it watches, and of these sessions, from here on. Again
%% with others: of those.
-spec enter(Name :: atom(), who(), [non_neg_integer()], pid()) -> ok.
enter(Name, Who, Sessions, Pid) ->
    meerkat_store:put(Name, ?MODULE, watchers,
                      lists:keystore(Pid, 1, watchers(Name), {Pid, Who, Sessions})).

-spec leave(Name :: atom(), pid()) -> ok.
leave(Name, Pid) ->
    meerkat_store:put(Name, ?MODULE, watchers, lists:keydelete(Pid, 1, watchers(Name))).

-spec count(Name :: atom()) -> non_neg_integer().
count(Name) ->
    length(watchers(Name)).

watchers(Name) ->
    meerkat_store:get(Name, ?MODULE, watchers, []).

%% The event is only made where somebody watches whom it is about.
-spec tell(Name :: atom(), about(), fun(() -> told())) -> ok.
tell(Name, About, Event) ->
    case watchers(Name) of
        [] -> ok;
        Watchers -> tell_those([Pid || {Pid, Who, Sessions} <- Watchers,
                                       is_meant(Name, About, Who, Sessions)], Event)
    end.

tell_those([], _Event) ->
    ok;
tell_those(Pids, Event) ->
    Told = Event(),
    lists:foreach(fun(Pid) -> Pid ! {told, Told} end, Pids).

is_meant(Name, About, Who, Sessions) ->
    lists:member(maps:get(session, About, 0), Sessions) orelse is_who(Name, About, Who).

is_who(_Name, #{session := Session}, {session, Session}) -> true;
is_who(_Name, #{user := User}, {user, User}) -> true;
is_who(Name, #{user := User}, {user, Key}) ->
    #{usernames := Order} = meerkat_registry:settings(Name),
    meerkat_quota:user_key(User, Order) =:= Key;
is_who(_Name, #{client := Client}, {client, Client}) -> true;
is_who(_Name, #{client := {Ip, _}}, {client, Ip}) -> true;
is_who(_Name, _About, _Who) -> false.

%% A request and what it was answered: `success`, the code of an error, or why there was no answer.
%% By whom: Erlang, or the relay within a grant.
-spec asked(Name :: atom(), about(), fun(() -> map()), {erlang | relay, Outcome :: term()}) -> ok.
asked(Name, About, Request, {By, Outcome}) ->
    tell(Name, About, fun() ->
        maps:merge(maps:merge(About, Request()),
                   #{event => asked, outcome => Outcome, answered_by => By})
    end).
