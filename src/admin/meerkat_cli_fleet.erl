%% The command `meerkatctl fleet`: from what was typed to the question. Pure.
-module(meerkat_cli_fleet).

-export([question/3, status/1]).

%% For a client to hear soon of a node that is gone.
-define(DNS_TTL, 60).

%% error: that makes no sense, and the usage says what would.
-spec question(Verb :: string(), Args :: [string()], Options :: #{atom() => term()}) ->
    {ok, meerkat_fleet_admin:question()} | error.
question("status", [], Options) ->
    asked([status], [], Options);
question("allocations", [], Options) ->
    Taken = [user, peer, sort, limit],
    asked([allocations, maps:with(Taken, Options)], Taken, Options);
question("disconnect", [], #{user := User} = Options) ->
    asked([disconnect, {user, User}], [user], Options);
question("revoke", [User], Options) ->
    asked([revoke, text(User) | [Ttl || #{ttl := Ttl} <- [Options]]], [ttl], Options);
question("drain", [Node], Options) ->
    Taken = [deadline, stay],
    asked([drain, text(Node), maps:with(Taken, Options)], Taken, Options);
question("undrain", [Node], Options) ->
    asked([undrain, text(Node)], [], Options);
question("dns", [Domain], Options) ->
    asked([dns, text(Domain), maps:get(ttl, Options, ?DNS_TTL)], [ttl], Options);
question("loglevel", Level, Options) ->
    asked([loglevel | [text(Word) || Word <- Level]], [], Options);
question(_Verb, _Args, _Options) ->
    error.

%% An option of another verb is a mistake.
asked(Question, Taken, Options) ->
    case maps:keys(maps:without([json, socket | Taken], Options)) of
        [] -> {ok, {fleet, Question}};
        _ -> error
    end.

text(Word) -> unicode:characters_to_binary(Word).

%% 1 where a node did not answer, or is not ready: for probes, like that of `status`.
-spec status(map()) -> 0 | 1.
status(#{silent := [_ | _]}) -> 1;
status(#{nodes := Nodes}) ->
    case lists:all(fun(#{ready := Ready}) -> Ready end, Nodes) of true -> 0; false -> 1 end;
status(#{}) -> 0.
