%% Follows the addresses of this machine, for configurations that do not name the addresses to relay
%% from (relay_ip). Whenever the relay says that addresses have changed, the addresses to relay from
%% are found anew, and put in force as by a reload.
-module(meerkat_follow).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Changes come several at a time: an address, its routes, those of the other family.
-define(SETTLE_MS, 300).
%% The relay does not tell of changed routes. A default route that leaves from another address is
%% found by looking this often.
-define(LOOK_MS, 60000).

-record(state, {name :: atom(), timer :: reference(), is_soon = true :: boolean()}).

%% Beside the relay, and started after it.
-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

-spec init(atom()) -> {ok, #state{}}.
init(Name) ->
    ok = meerkat_addresses:follow(Name),
    %% Something may have changed between reading the configuration and now.
    {ok, #state{name = Name, timer = look_in(?SETTLE_MS)}}.

look_in(Ms) -> erlang:start_timer(Ms, self(), look).

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) -> {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) -> {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(host_changed, #state{is_soon = false, timer = Timer} = State) ->
    _ = erlang:cancel_timer(Timer),
    {noreply, State#state{timer = look_in(?SETTLE_MS), is_soon = true}};
handle_info({timeout, Timer, look}, #state{timer = Timer, name = Name} = State) ->
    ok = look(Name),
    {noreply, State#state{timer = look_in(?LOOK_MS), is_soon = false}};
handle_info(_Other, State) ->
    {noreply, State}.

look(Name) ->
    case meerkat_reload:change(Name, fun again/1) of
        {ok, {Relays, Warnings}} ->
            _ = [?LOG_WARNING("~ts", [Warning]) || Warning <- Warnings],
            ?LOG_NOTICE("this machine's addresses have changed: relaying from ~ts",
                        [meerkat_config_relays:shown(Relays)]);
        {error, same} ->
            ok;
        {error, Sentence} ->
            ?LOG_ERROR("this machine's addresses have changed, and relaying does not follow: ~ts",
                       [Sentence])
    end.

again(Config) ->
    case meerkat_config:again(Config) of
        {ok, #{relays := Relays} = Now, Warnings} -> {ok, Now, {Relays, Warnings}};
        same -> {error, same}
    end.
