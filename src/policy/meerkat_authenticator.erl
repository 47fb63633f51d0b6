%% Users of an embedder's own: a module of theirs is asked for the password of a name, before
%% everything the configuration knows. This is the seam, and what makes a backend of that module.
%%
%% The module runs in the process that handles the request, and holds up the requests behind it: it
%% must answer from memory or in some milliseconds. One that fails is unavailable, and is logged.
-module(meerkat_authenticator).
-behaviour(meerkat_auth).

-include_lib("kernel/include/logger.hrl").

-export([init/1, asked_by/2, candidates/3, why/3]).

%% The password of User of Realm, in clear or as MD5(user:realm:password); `error`: not a user of
%% mine, let the configuration's users and secrets decide; `unavailable`: I cannot tell now, the
%% database is away for instance: whom the configuration does not let in either gets no answer, and
%% sends the request again for half a minute and more. Meanwhile who has an allocation that was
%% made by a password from here is known by its key, so that calls go on. Arg comes from
%% {authenticator, {Module, Arg}}.
-callback password(User :: binary(), Realm :: binary(), Arg :: term()) ->
    {ok, {password, binary()} | {key, <<_:128>>}} | error | unavailable.

%% The same, of a module that wants to know who asks: where from, and with which certificate (key
%% tls_client_ca). A module has the one or the other; with both, this one is asked.
-callback password(User :: binary(), Realm :: binary(), meerkat_auth:asker(), Arg :: term()) ->
    {ok, {password, binary()} | {key, <<_:128>>}} | error | unavailable.
-optional_callbacks([password/3, password/4]).

%% `asker`: nobody in particular, where the module does not want to know.
-record(state, {module :: module(), arg :: term(), realm :: binary(),
                asker = none :: none | meerkat_auth:asker(),
                dummy :: meerkat_auth:candidate()}).
-type state() :: fun(() -> #state{}).

-spec init(map()) -> {ok, state()} | ignore.
init(#{authenticator := {Module, Arg}, realm := Realm}) ->
    State = #state{module = Module, arg = Arg, realm = Realm,
                   dummy = {password, base64:encode(crypto:strong_rand_bytes(24))}},
    {ok, fun() -> State end};
init(#{}) ->
    ignore.

-spec asked_by(meerkat_auth:asker(), state()) -> state().
asked_by(Asker, GetState) ->
    #state{module = Module} = State = GetState(),
    case code:ensure_loaded(Module) =:= {module, Module}
        andalso erlang:function_exported(Module, password, 4) of
        true -> fun() -> State#state{asker = Asker} end;
        false -> GetState
    end.

-spec candidates(binary(), integer(), state()) -> meerkat_auth:verdict().
candidates(User, _NowS, State) ->
    #state{dummy = Dummy} = Known = State(),
    case ask(User, Known) of
        {ok, Candidate} -> {asked, [Candidate]};
        error -> {also, [Dummy]};
        unavailable -> {unavailable, [Dummy]}
    end.

-spec why(binary(), integer(), state()) -> wrong_password | unknown.
why(User, _NowS, State) ->
    case ask(User, State()) of
        {ok, _} -> wrong_password;
        _ -> unknown
    end.

%% Neither what was asked nor what was answered is logged: it may hold a password.
ask(User, #state{module = Module} = State) ->
    try ask(Module, User, State) of
        {ok, {password, Password}} = Known when is_binary(Password) -> Known;
        {ok, {key, <<_:128>>}} = Known -> Known;
        error -> error;
        unavailable -> unavailable;
        _ -> failed(Module, "answers what is no password", [])
    catch
        Class:_ -> failed(Module, "ends with ~ts", [Class])
    end.

ask(Module, User, #state{asker = none, arg = Arg, realm = Realm}) ->
    Module:password(User, Realm, Arg);
ask(Module, User, #state{asker = Asker, arg = Arg, realm = Realm}) ->
    Module:password(User, Realm, Asker, Arg).

failed(Module, What, Args) ->
    ?LOG_ERROR("authenticator ~ts " ++ What ++ "; whom nothing else lets in gets no "
               "answer", [Module | Args]),
    unavailable.
