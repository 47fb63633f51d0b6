%% Looks again and again at the files that certificates came from, and puts new certificates in
%% force, as a reload would. It reads the files, so it makes no difference how they are changed:
%% written over, renamed, or reached through a symbolic link that points elsewhere now. If what they
%% have is bad, the certificates before stay in force: that is logged once, and refused/1 says why
%% for as long as it is so.
-module(meerkat_certificate_watch).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, refused/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(LOOK_MS, 2000).
%% A certificate and its key are written one after the other: a change is put in force only if the
%% files are still the same after this time.
-define(SETTLE_MS, 500).
%% A bad certificate may become good without a change of the files, if it is not valid yet: it is
%% tried again this often.
-define(AGAIN_MS, 300000).

%% `seen`: a hash of what the files had at the last look, where that is not in force. `refused`: the
%% same of what was turned down, and when.
-record(state, {
    name :: atom(),
    seen = none :: none | binary(),
    refused = none :: none | {binary(), AtMs :: integer()}
}).

%% Beside the relay, and started after it.
-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% Why what is in the files now is not in force, if it is not: a sentence.
-spec refused(Name :: atom()) -> binary() | none.
refused(Name) ->
    meerkat_store:get(Name, ?MODULE, refused).

-spec init(atom()) -> {ok, #state{}}.
init(Name) ->
    look_in(?LOOK_MS),
    {ok, #state{name = Name}}.

look_in(Ms) -> erlang:send_after(Ms, self(), look).

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) -> {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) -> {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(look, #state{name = Name} = State) ->
    Config = meerkat_settings:config(meerkat_registry:settings(Name)),
    {WaitMs, Next} = looked(again(Config), State),
    look_in(WaitMs),
    {noreply, Next};
handle_info(_Other, State) ->
    {noreply, State}.

again(#{certificates := _} = Config) -> meerkat_config_certificates:again(Config);
again(#{}) -> same.

looked(same, #state{name = Name} = State) ->
    ok = meerkat_store:delete(Name, ?MODULE, refused),
    {?LOOK_MS, State#state{seen = none, refused = none}};
looked(Found, #state{seen = Seen, refused = Refused} = State) ->
    case {crypto:hash(sha256, term_to_binary(Found)), Refused} of
        {Seen, {Seen, AtMs}} -> {?LOOK_MS, try_later(Found, AtMs + ?AGAIN_MS, State)};
        {Seen, _} -> {?LOOK_MS, take(Found, State)};
        {New, _} -> {?SETTLE_MS, State#state{seen = New}}
    end.

try_later(Found, WhenMs, State) ->
    case meerkat_clock:now_ms() < WhenMs of
        true -> State;
        false -> take(Found, State)
    end.

take({error, Mistakes}, State) ->
    refuse(lists:join("; ", Mistakes), State);
take({ok, _}, #state{name = Name} = State) ->
    case meerkat_reload:change(Name, fun changed/1) of
        {ok, Files} ->
            ?LOG_NOTICE("certificates have changed and are in force: ~ts",
                        [lists:join(", ", Files)]),
            State#state{refused = none};
        {error, same} ->
            State;
        {error, [Mistake | _] = Mistakes} when not is_integer(Mistake) ->
            refuse(lists:join("; ", Mistakes), State);
        {error, Sentence} ->
            refuse(Sentence, State)
    end.

%% The files are read again, because a reload may have put them in force meanwhile.
changed(Config) ->
    case again(Config) of
        {ok, #{certificates := Certificates, client_authorities := Authorities} = Now} ->
            {ok, maps:merge(Config, Now), [File || #{chain_file := File} <- Certificates]
                                              ++ [File || #{file := File} <- Authorities]};
        same -> {error, same};
        {error, Mistakes} -> {error, Mistakes}
    end.

refuse(Sentence, #state{name = Name, seen = Seen} = State) ->
    Text = unicode:characters_to_binary(Sentence),
    _ = [?LOG_ERROR("certificates have changed, and those before stay in force: ~ts", [Text])
         || refused(Name) =/= Text],
    ok = meerkat_store:put(Name, ?MODULE, refused, Text),
    State#state{refused = {Seen, meerkat_clock:now_ms()}}.
