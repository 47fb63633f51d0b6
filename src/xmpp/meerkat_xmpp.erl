%% Meerkat as a component of XMPP servers (XEP-0114): tells users its services with fresh
%% credentials (XEP-0215), and runs commands of administrators (XEP-0050). This process keeps a
%% connection to each server of xmpp_host (meerkat_xmpp_conn). What a stanza asks for is decided in
%% meerkat_xmpp_core; this process does it. Relaying never waits for it: it is only told that
%% something has changed.
-module(meerkat_xmpp).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, changed/1, info/1, forget/1]).
-export([stanza/2, hostile/3, count/2, up/1, down/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).
-export([format_status/1]).

%% Stanzas per second, of all senders together, that are answered.
-define(STANZAS_PER_S, 1000).
%% Commands that run at a time.
-define(COMMANDS_MAX, 4).
%% A connection that crashed is started anew after so long.
-define(AGAIN_MS, 1000).

-record(state, {
    name :: atom(),
    xmpp :: map(),
    counts :: meerkat_xmpp_counts:counts(),
    %% Counts stanzas, by bare JID and all together, to find who sends too many.
    rates :: meerkat_auth_failures:failures(),
    flood :: meerkat_auth_failures:failures(),
    conns = #{} :: #{pid() => {meerkat_config_value:value(), connecting | up}},
    commands = #{} :: #{reference() => {pid(), meerkat_xmpp_xml:element(), binary()}},
    watchers = meerkat_xmpp_watchers:new() :: meerkat_xmpp_watchers:watchers(),
    %% The services, and a digest of the secret, as watchers were told them last.
    told = {[], none} :: {[meerkat_xmpp_extdisco:service()], term()},
    key :: binary()
}).

-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case gen_server:start_link(?MODULE, Name, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% Says that the server's settings, listeners or readiness may have changed. It does not wait, and
%% does nothing if there is no component.
-spec changed(Name :: atom()) -> ok.
changed(Name) ->
    case meerkat_roles:find(Name, xmpp) of
        none -> ok;
        Pid -> gen_server:cast(Pid, changed)
    end.

%% Whether each connection is up, and what was counted since the start; none where no component
%% is configured.
-spec info(Name :: atom()) ->
    #{connections := #{binary() => connecting | up}, watchers := non_neg_integer(),
      counts := #{meerkat_xmpp_counts:event() => non_neg_integer()}} | none.
info(Name) ->
    case meerkat_store:get(Name, ?MODULE, info) of
        none -> none;
        #{connections := Connections, watchers := Watchers, counts := Counts} ->
            #{connections => Connections, watchers => Watchers,
              counts => meerkat_xmpp_counts:all(Counts)}
    end.

%% Deletes the counts of a component that is gone: the next one begins at 0.
-spec forget(Name :: atom()) -> ok.
forget(Name) ->
    ok = meerkat_roles:leave(Name, xmpp),
    meerkat_store:delete(Name, ?MODULE, info).

%%% For connections

%% Handles a stanza and returns the stanzas to send back. The connection waits for them, so it reads
%% no faster than this process works.
-spec stanza(Keeper :: pid(), meerkat_xmpp_xml:element()) -> [meerkat_xmpp_xml:element()].
stanza(Keeper, Stanza) ->
    gen_server:call(Keeper, {stanza, Stanza}, infinity).

-spec hostile(Keeper :: pid(), too_large | too_deep, meerkat_xmpp_xml:element()) ->
    [meerkat_xmpp_xml:element()].
hostile(Keeper, Why, Envelope) ->
    gen_server:call(Keeper, {hostile, Why, Envelope}, infinity).

-spec count(Keeper :: pid(), meerkat_xmpp_counts:event()) -> ok.
count(Keeper, Event) -> gen_server:cast(Keeper, {count, Event}).

-spec up(Keeper :: pid()) -> ok.
up(Keeper) -> gen_server:cast(Keeper, {up, self()}).

-spec down(Keeper :: pid()) -> ok.
down(Keeper) -> gen_server:cast(Keeper, {down, self()}).

%%% gen_server

-spec init(atom()) -> {ok, #state{}, {continue, start}}.
init(Name) ->
    _ = process_flag(trap_exit, true),
    Counts = case meerkat_store:get(Name, ?MODULE, info) of
        none -> meerkat_xmpp_counts:new();
        #{counts := Before} -> Before
    end,
    #{xmpp := #{rate := Rate} = Xmpp} = meerkat_registry:settings(Name),
    State = #state{name = Name, xmpp = Xmpp, counts = Counts,
                   rates = meerkat_auth_failures:new(Rate),
                   flood = meerkat_auth_failures:new(?STANZAS_PER_S),
                   key = crypto:strong_rand_bytes(32)},
    ok = meerkat_roles:take(Name, xmpp),
    {ok, noted(State), {continue, start}}.

-spec handle_continue(start, #state{}) -> {noreply, #state{}}.
handle_continue(start, State) ->
    case meerkat_libraries:missing_for_xmpp() of
        [] ->
            #state{xmpp = Xmpp} = State,
            {noreply, told(connected(State#state{xmpp = prepared(Xmpp)}))};
        Packages ->
            ?LOG_ERROR("no XMPP component: it needs the Debian packages ~ts",
                       [lists:join(" ", lists:usort(Packages))]),
            {noreply, State}
    end.

%% Stanzas hold passwords, theirs and ours.
-spec format_status(gen_server:format_status()) -> gen_server:format_status().
format_status(Status) ->
    meerkat_crash:status(Status).

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, [meerkat_xmpp_xml:element()], #state{}}.
handle_call(Request, From, State) ->
    meerkat_crash:without_values(fun() -> called(Request, From, State) end).

called({stanza, Stanza}, {Via, _}, #state{counts = Counts} = State) ->
    case is_flood(State) of
        true ->
            ok = meerkat_xmpp_counts:count(Counts, flood),
            {reply, [], State};
        false ->
            {Actions, Watchers} =
                meerkat_xmpp_core:handle(Stanza, Via, env(State), State#state.watchers),
            acted(Actions, Via, noted(State#state{watchers = Watchers}, State))
    end;
called({hostile, Why, Envelope}, {Via, _}, #state{counts = Counts} = State) ->
    ok = meerkat_xmpp_counts:count(Counts, Why),
    case is_flood(State) of
        true -> {reply, [], State};
        false -> acted(meerkat_xmpp_core:hostile(Envelope, env(State)), Via, State)
    end.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(changed, #state{name = Name} = State) ->
    case meerkat_registry:settings(Name) of
        #{xmpp := #{} = Xmpp} -> {noreply, told(settled(prepared(Xmpp), State))};
        #{xmpp := none} -> {noreply, State}
    end;
handle_cast({count, Event}, #state{counts = Counts} = State) ->
    ok = meerkat_xmpp_counts:count(Counts, Event),
    {noreply, State};
handle_cast({up, Pid}, #state{conns = Conns} = State) ->
    case Conns of
        #{Pid := {Server, _}} -> {noreply, noted(State#state{conns = Conns#{Pid := {Server, up}}})};
        #{} -> {noreply, State}
    end;
handle_cast({down, Pid}, #state{conns = Conns} = State) ->
    case Conns of
        #{Pid := {Server, _}} ->
            Down = State#state{conns = Conns#{Pid := {Server, connecting}}},
            {noreply, noted(forgotten(Pid, Down))};
        #{} ->
            {noreply, State}
    end.

%% The connection is gone: those who watched by it have to ask again.
forgotten(Pid, #state{watchers = Watchers} = State) ->
    State#state{watchers = meerkat_xmpp_watchers:lost(Pid, Watchers)}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(Message, State) ->
    meerkat_crash:without_values(fun() -> told_by(Message, State) end).

told_by({'EXIT', Pid, _Reason}, #state{conns = Conns, xmpp = Xmpp} = State) ->
    case Conns of
        #{Pid := {Server, _}} ->
            _ = erlang:send_after(?AGAIN_MS, self(), {again, Server, wire(Xmpp)}),
            {noreply, noted(forgotten(Pid, State#state{conns = maps:remove(Pid, Conns)}))};
        #{} ->
            {noreply, State}
    end;
%% Starts a connection again, unless all were started again by other settings meanwhile.
told_by({again, Server, Wire}, #state{xmpp = Xmpp} = State) ->
    case Wire =:= wire(Xmpp) of
        true -> {noreply, connected(Server, State)};
        false -> {noreply, State}
    end;
told_by({Ref, Answer}, #state{commands = Commands} = State) when is_map_key(Ref, Commands) ->
    true = erlang:demonitor(Ref, [flush]),
    {noreply, finished(Ref, Answer, State)};
told_by({'DOWN', Ref, process, _, _}, #state{commands = Commands} = State)
  when is_map_key(Ref, Commands) ->
    {noreply, finished(Ref, {error, <<"the command failed; the log may tell why">>}, State)};
told_by(_Other, State) ->
    {noreply, State}.

%%% Connections

connected(#state{xmpp = #{servers := Servers}} = State) ->
    lists:foldl(fun connected/2, State, Servers).

connected(Server, #state{name = Name, xmpp = Xmpp, conns = Conns} = State) ->
    {ok, Pid} = meerkat_xmpp_conn:start_link(self(), Name, Server, Xmpp),
    noted(State#state{conns = Conns#{Pid => {Server, connecting}}}).

%% After a change of what connections are made by, all connections are started again. Settings that
%% only meerkat_xmpp_core uses need none of that.
settled(#{rate := Rate} = New, #state{xmpp = Old, conns = Conns} = State) ->
    Changed = State#state{xmpp = New, rates = meerkat_auth_failures:new(Rate)},
    case wire(New) =:= wire(Old) of
        true ->
            Changed;
        false ->
            _ = [begin true = unlink(Pid), exit(Pid, shutdown) end || Pid <- maps:keys(Conns)],
            connected(lists:foldl(fun forgotten/2, Changed#state{conns = #{}}, maps:keys(Conns)))
    end.

%% Names as they are compared.
prepared(#{component := Component, domains := Domains, admins := Admins} = Xmpp) ->
    Xmpp#{component := bare(Component), domains := [bare(Domain) || Domain <- Domains],
          admins := [bare(Admin) || Admin <- Admins]}.

bare(Text) ->
    case meerkat_xmpp_jid:parse(Text) of
        {ok, #{bare := Bare}} -> Bare;
        error -> Text
    end.

%% A digest of what connections are made by, to compare: the secret is part of it.
wire(#{secret := Secret} = Xmpp) ->
    Given = maps:with([servers, component, is_subdomain, ping_s], Xmpp),
    crypto:hash(sha256, term_to_binary({Given, Secret()}, [deterministic])).

%% What others see without asking.
noted(State, #state{watchers = Before}) ->
    case State#state.watchers of
        Before -> State;
        _ -> noted(State)
    end.

noted(#state{name = Name, counts = Counts, conns = Conns, watchers = Watchers} = State) ->
    ok = meerkat_store:put(Name, ?MODULE, info,
        #{counts => Counts, watchers => meerkat_xmpp_watchers:count(Watchers),
          connections => maps:from_list([{meerkat_xmpp_conn:text(Server), How}
                                         || {Server, How} <- maps:values(Conns)])}),
    State.

%%% What there is to tell

env(#state{name = Name, xmpp = Xmpp, rates = Rates}) ->
    (maps:with([component, is_subdomain, domains, admins], Xmpp))#{
        services => services(Name),
        mint => mint(Name, Xmpp),
        too_many => fun(Bare) -> spends(Rates, Bare) end}.

%% A server that takes no more allocations has no services but those of other nodes.
services(Name) ->
    case meerkat_drain:is_draining(Name) andalso meerkat_elsewhere:places(Name) of
        [] -> [];
        _ -> meerkat_xmpp_extdisco:services(meerkat_services:of_fleet(Name, all))
    end.

mint(Name, #{ttl := Ttl}) ->
    fun(Bare) ->
        #{secrets := Secrets} = meerkat_registry:settings(Name),
        Now = meerkat_clock:wall_s(),
        case Secrets() of
            [Secret | _] when byte_size(Bare) < 480 ->
                {User, Password} = meerkat_auth_rest:credentials(Secret, Bare, Ttl, Now),
                {ok, #{username => User, password => Password, expires_s => Now + Ttl}};
            _ ->
                none
        end
    end.

spends(Rates, Bare) ->
    Now = meerkat_auth_failures:now_us(),
    case meerkat_auth_failures:too_many(Rates, {0, 0, 0, 0}, Bare, Now) of
        true ->
            true;
        false ->
            ok = meerkat_auth_failures:count(Rates, {0, 0, 0, 0}, Bare, Now),
            false
    end.

is_flood(#state{flood = Flood}) -> spends(Flood, <<>>).

%% Tells the watchers which services have changed.
told(#state{name = Name, told = Before, key = Key, counts = Counts} = State) ->
    #{secrets := Secrets} = meerkat_registry:settings(Name),
    Trace = crypto:mac(hmac, sha256, Key, [S || [S | _] <- [Secrets()]]),
    Now = {services(Name), Trace},
    case meerkat_xmpp_extdisco:changes(Before, Now) of
        [] ->
            ok;
        Changes ->
            _ = [begin
                     ok = meerkat_xmpp_counts:count(Counts, pushed),
                     meerkat_xmpp_conn:send(Via, [Iq])
                 end || {Via, Iq} <- meerkat_xmpp_core:push(Changes, env(State),
                                                            State#state.watchers)],
            ok
    end,
    State#state{told = Now}.

%%% Actions

acted(Actions, Via, #state{counts = Counts} = State) ->
    _ = [ok = meerkat_xmpp_counts:count(Counts, Event) || {count, Event} <- Actions],
    Sent = [Element || {send, Element} <- Actions],
    {Refused, Next} = lists:foldl(
        fun({run, Iq, Node, Question, Admin}, {Replies, S}) ->
            case ran(Via, Iq, Node, Question, Admin, S) of
                {ok, Running} -> {Replies, Running};
                {error, Reply} -> {[Reply | Replies], S}
            end
        end, {[], State}, [Action || Action <- Actions, element(1, Action) =:= run]),
    {reply, Sent ++ Refused, Next}.

%% Commands ask the relay and may wait for it: each in a process of its own.
ran(_Via, Iq, _Node, _Question, _Admin, #state{commands = Commands, counts = Counts})
  when map_size(Commands) >= ?COMMANDS_MAX ->
    ok = meerkat_xmpp_counts:count(Counts, commands_full),
    {error, meerkat_xmpp_xml:failure(Iq, {wait, <<"resource-constraint">>})};
ran(Via, Iq, Node, Question, Admin, #state{name = Name, commands = Commands} = State) ->
    _ = [?LOG_NOTICE("~ts by XMPP: ~ts", [meerkat_text:escape(Admin), Node])
         || not meerkat_admin:is_deed(Question)],
    Keeper = self(),
    {Pid, Ref} = spawn_monitor(fun() ->
        meerkat_crash:without_values(fun() -> command(Keeper, Question, Name, Admin) end)
    end),
    Pid ! {begins, Ref},
    {ok, State#state{commands = Commands#{Ref => {Via, Iq, Node}}}}.

command(Keeper, Question, Name, Admin) ->
    receive
        {begins, Ref} ->
            Answer = case meerkat_admin:handle(Question, Name, {xmpp, Admin}) of
                {ok, Result, Then} -> _ = Then(), {ok, Result};
                Other -> Other
            end,
            Keeper ! {Ref, Answer}
    end.

finished(Ref, Answer, #state{commands = Commands} = State) ->
    {{Via, Iq, Node}, Rest} = maps:take(Ref, Commands),
    [Command] = meerkat_xmpp_xml:children(Iq),
    Reply = meerkat_xmpp_adhoc:answer(Node, Command, Answer),
    ok = meerkat_xmpp_conn:send(Via, [meerkat_xmpp_xml:result(Iq, [Reply])]),
    State#state{commands = Rest}.
