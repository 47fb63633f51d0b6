%% Users from a database. Another module reads it and remembers what it said; it is given by its
%% name in the configuration (callback look/2). Nothing here waits for it: where the answer is not
%% there yet, the verdict is a question (look_up) and what to do with its answer.
-module(meerkat_auth_stored).
-behaviour(meerkat_auth).

-export([init/1, asked_by/2, candidates/3, why/3]).
-export([new/1, look/2]).

-export_type([state/0, known/0, answer/0]).

%% What is known of a question. `fresh`: it need not be asked again. `old`: it was good a moment
%% ago, and is worth asking again if it does not fit. `stale`: good only where there is no answer.
-type known() :: {fresh | old | stale, answer()} | unknown.
-type answer() :: {user, none | #{md5 => <<_:128>>, sha256 => <<_:256>>, password => binary(),
                                  limits => meerkat_auth:limits()}}
                | {secrets, [binary()]}.

-callback look(Arg :: term(), meerkat_auth:question()) -> known().

%% `address`: of the client, where that is part of the question.
-record(stored, {module :: module(), arg :: term(), realm :: binary(),
                 address = no :: no | unknown | inet:ip_address(),
                 dummy :: meerkat_auth:candidate()}).
-opaque state() :: fun(() -> #stored{}).

%% Longer than in any table of coturn's.
-define(NAME_MAX, 512).

%% Keys `lookups`, the module and what it is asked with, `realm`, and `lookups_by_address`: whether
%% it is asked for each client address anew.
-spec init(map()) -> {ok, state()} | ignore.
init(Config) -> new(Config).

-spec new(map()) -> {ok, state()} | ignore.
new(#{lookups := {Module, Arg}, realm := Realm} = Config) ->
    Address = case Config of #{lookups_by_address := true} -> unknown; #{} -> no end,
    State = #stored{module = Module, arg = Arg, realm = Realm, address = Address,
                    dummy = {password, base64:encode(crypto:strong_rand_bytes(24))}},
    {ok, fun() -> State end};
new(#{}) ->
    ignore.

-spec asked_by(meerkat_auth:asker(), state()) -> state().
asked_by(#{client := {Ip, _}}, State) ->
    case State() of
        #stored{address = no} -> State;
        #stored{} = Stored -> fun() -> Stored#stored{address = Ip} end
    end.

-spec candidates(binary(), integer(), state()) -> meerkat_auth:verdict().
candidates(User, _NowS, State) ->
    #stored{dummy = Dummy} = Stored = State(),
    case is_name(User) of
        true ->
            Question = question(User, Stored),
            verdict(Question, look(State, Question), Dummy);
        false ->
            {also, [Dummy]}
    end.

question(User, #stored{realm = Realm, address = Ip}) when is_tuple(Ip) -> {user, Realm, User, Ip};
question(User, #stored{realm = Realm}) -> {user, Realm, User}.

verdict(_Question, {fresh, {user, Keys}}, Dummy) -> judged(Keys, Dummy);
verdict(Question, {old, {user, Keys}}, Dummy) ->
    Before = judged(Keys, Dummy),
    {look_up, Question, Before, told(Before, Dummy)};
%% The key may have been changed since. A request that fits it is let in; one that does not is not
%% refused, for it may fit the new key: it gets no answer (`unavailable`).
verdict(Question, {stale, {user, Keys}}, Dummy) ->
    {_, Known} = judged(Keys, Dummy),
    {look_up, Question, {also, [Dummy]}, told({unavailable, Known}, Dummy)};
verdict(Question, unknown, Dummy) ->
    {look_up, Question, {also, [Dummy]}, told({unavailable, [Dummy]}, Dummy)}.

%% The verdict once the database has answered, or with `error`, when it did not.
told(Otherwise, Dummy) ->
    fun({ok, Answer}) ->
            {user, Keys} = Answer(),
            judged(Keys, Dummy);
       (error) ->
            Otherwise
    end.

judged(none, Dummy) -> {also, [Dummy]};
judged(#{limits := Limits} = User, Dummy) ->
    {asked, [Candidate]} = judged(maps:remove(limits, User), Dummy),
    {asked, [{limited, Candidate, Limits}]};
judged(#{password := Password}, _Dummy) -> {asked, [{password, Password}]};
judged(Keys, _Dummy) -> {asked, [{keys, Keys}]}.

%% Is it worth asking for? No name in a table is longer, has control characters or is not UTF-8.
is_name(User) ->
    byte_size(User) =< ?NAME_MAX andalso
        case unicode:characters_to_list(User) of
            Characters when is_list(Characters) ->
                lists:all(fun(C) -> C >= 32 andalso C =/= 127 end, Characters);
            _ -> false
        end.

%% What is known of a question, for a user or for the secrets of a realm.
-spec look(state(), meerkat_auth:question()) -> known().
look(State, Question) ->
    #stored{module = Module, arg = Arg} = State(),
    Module:look(Arg, Question).

-spec why(binary(), integer(), state()) -> wrong_password | unknown.
why(User, NowS, State) ->
    case candidates(User, NowS, State) of
        {asked, _} -> wrong_password;
        {look_up, _, {asked, _}, _} -> wrong_password;
        _ -> unknown
    end.
