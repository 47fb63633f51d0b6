%% Every database_refresh seconds, has the rules in a database read: peers that it allows and denies
%% (meerkat_database_peers), limits of realms (meerkat_database_realms). Changes are put in force as
%% by a reload. While the database does not answer, what it said last stays in force. What is wrong
%% in it is logged once.
-module(meerkat_database_watch).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, has_rules/1, asked/2, change/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% `told`: what was wrong at the last look, by what was looked at.
-record(state, {name :: atom(), told = #{} :: #{module() => unicode:chardata()}}).

-define(LOOKED_AT, [{meerkat_database_peers, "peers"}, {meerkat_database_realms, "realms"}]).

%% Beside the relay, and started after it.
-spec start_link(Name :: atom()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

-spec init(atom()) -> {ok, #state{}}.
init(Name) ->
    self() ! look,
    {ok, #state{name = Name}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) -> {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) -> {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(look, #state{name = Name} = State) ->
    #{lookups := #{refresh_s := Seconds}} = meerkat_registry:settings(Name),
    Next = case has_rules(Name) of
        true -> lists:foldl(fun look/2, State, ?LOOKED_AT);
        false -> State#state{told = #{}}
    end,
    _ = erlang:send_after(Seconds * 1000, self(), look),
    {noreply, Next};
handle_info(_Other, State) ->
    {noreply, State}.

%% Does the database have such tables? Directories (LDAP), web servers and an embedder's module have
%% none.
-spec has_rules(Name :: atom()) -> boolean().
has_rules(Name) ->
    #{config := Config} = meerkat_registry:settings(Name),
    case meerkat_config_database:chosen(Config()) of
        #{kind := Kind} -> not lists:member(Kind, [ldap, http]);
        Query -> is_function(Query)
    end.

look({Module, What}, #state{name = Name, told = Told} = State) ->
    case Module:look(Name) of
        ok ->
            State#state{told = maps:remove(Module, Told)};
        {error, Sentence} ->
            Text = unicode:characters_to_binary(Sentence),
            _ = [?LOG_WARNING("~ts of the database: ~ts", [What, Text])
                 || Text =/= maps:get(Module, Told, none)],
            State#state{told = Told#{Module => Text}}
    end.

%% Runs a job with a connection to the database, and waits for its result.
-spec asked(Name :: atom(),
            meerkat_database_connection:job({ok, Result} | ok | none | {error, Why})) ->
    {ok, Result} | ok | none | {error, Why | unicode:chardata()}.
asked(Name, Job) ->
    case meerkat_database_users:is_there(Name) andalso has_rules(Name) of
        true ->
            case meerkat_lookups:call(Name, Job) of
                {ok, Result} -> Result;
                {error, Why} -> {error, Why};
                none -> {error, "no database is configured"}
            end;
        false ->
            {error, "no database is configured that has this; it is in the configuration"}
    end.

%% Puts in force what the database says, as a member of the configuration. Says whether it differs
%% from what was in force.
-spec change(Name :: atom(), Key :: stored_peers | stored_realms, map()) ->
    changed | same | {error, unicode:chardata()}.
change(Name, Key, Value) ->
    Change = fun(Config) ->
        case maps:get(Key, Config, nothing(Key)) of
            Value -> {error, same};
            _ -> {ok, Config#{Key => Value}, changed}
        end
    end,
    case meerkat_reload:change(Name, Change) of
        {ok, changed} -> changed;
        {error, same} -> same;
        {error, Sentence} -> {error, Sentence}
    end.

nothing(stored_peers) -> #{allowed => [], denied => []};
nothing(stored_realms) -> #{}.
