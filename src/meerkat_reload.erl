%% Another configuration for a server that runs: all of it, or none. What the relay was told once
%% at its start (sockets, sizes, realms) stays as it is, so a configuration that wants it otherwise
%% is turned down. Allocations live on under the new rules.
-module(meerkat_reload).

-export([reload/2, change/2]).

%% The error is a sentence. Reloads of one server wait for each other.
-spec reload(Name :: atom(), meerkat:config()) -> ok | {error, string()}.
reload(Name, Config) ->
    %% Only within this node.
    global:trans({{?MODULE, Name}, self()}, fun() -> renew(Name, Config) end, [node()]).

%% The same with what Fun makes of the configuration there is, and no other change in between.
%% Result is for the caller.
-spec change(Name :: atom(), fun((meerkat:config()) -> {ok, meerkat:config(), Result} |
                                                       {error, string()})) ->
    {ok, Result} | {error, string()}.
change(Name, Fun) ->
    global:trans({{?MODULE, Name}, self()}, fun() -> renewed(Name, Fun) end, [node()]).

renewed(Name, Fun) ->
    case Fun(meerkat_settings:config(meerkat_registry:settings(Name))) of
        {ok, Config, Result} ->
            case renew(Name, Config) of
                ok -> {ok, Result};
                {error, Sentence} -> {error, Sentence}
            end;
        {error, Sentence} ->
            {error, Sentence}
    end.

renew(Name, Config) ->
    Old = meerkat_registry:settings(Name),
    case meerkat_settings:renew(Config, Old) of
        {ok, New} -> put_in_force(Name, New, Old);
        {error, Sentence} -> {error, Sentence}
    end.

%% First for everybody, a relay that is just being started included; then for the relay there is,
%% which ends what is forbidden from now on. If it will not, all is as before.
put_in_force(Name, New, Old) ->
    ok = meerkat_registry:replace(Name, New),
    case meerkat_relay:call(Name, policy(New)) of
        {ok, #{status := ok}} ->
            rates(Name, New);
        {error, relay_down} ->
            %% The next one begins with the new settings.
            ok;
        Refusal ->
            ok = meerkat_registry:replace(Name, Old),
            {error, sentence(Refusal)}
    end.

policy(#{rules := Rules}) ->
    {policy, #{rules => meerkat_policy:encode(Rules)}}.

sentence({ok, #{status := Status, detail := Detail}}) ->
    lists:flatten(io_lib:format("the peer rules are refused: ~ts (~ts)",
                                [meerkat_text:escape(Detail), Status]));
sentence({error, busy}) ->
    "the relay program is busy; nothing has changed".

%% Bucket 0 is that of all allocations.
rates(Name, #{bandwidth := #{total := OfAll}} = Settings) ->
    Port = meerkat_registry:note(Name, port),
    OfUsers = [{Bucket, Rate}
               || {Bucket, Owner} <- meerkat_quota:buckets(Name),
                  #{bandwidth := #{user := Rate}} <- [meerkat_settings:tenant(Owner, Settings)]],
    _ = [meerkat_relay:command(Port, 0, {bucket, #{bucket => Bucket, bytes_per_s => Rate}})
         || {Bucket, Rate} <- [{0, OfAll} | OfUsers]],
    ok.
