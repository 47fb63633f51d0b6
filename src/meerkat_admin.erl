%% What an administrator may ask of a running server: the verbs, their arguments and answers. How
%% a question travels is for others (meerkat_admin_socket).
-module(meerkat_admin).

-export([handle/2]).
-export_type([question/0, answer/0]).

-type question() :: {Verb :: atom(), Args :: [term()]}.
%% The error is a sentence for the person who asked.
-type answer() :: {ok, term()} | {error, binary()}.

%% Longest life of credentials that may be asked for, in seconds.
-define(TTL_MAX, 30 * 86400).

%% {ping, []}                  #{version, os_pid}: binaries
%% {credentials, [User, Ttl]}  meerkat:credentials/3; User a binary without ':', Ttl in seconds
%% {info, []}                  meerkat:info/1
%% {reload, []}                meerkat:reload/2 with what file and environment say now; warnings
%% {drain, []}, {undrain, []}  meerkat:drain/1, meerkat:undrain/1; done
%% {redirect, [Servers]}       meerkat:redirect/2; Servers as text, separated by commas; done
-spec handle(question(), Server :: atom()) -> answer().
handle({ping, []}, _) ->
    {ok, Version} = application:get_key(meerkat, vsn),
    {ok, #{version => list_to_binary(Version), os_pid => list_to_binary(os:getpid())}};
handle({credentials, [User, Ttl]}, Server) when is_binary(User), is_integer(Ttl) ->
    case {is_user(User), Ttl >= 1 andalso Ttl =< ?TTL_MAX} of
        {true, true} ->
            {ok, meerkat:credentials(Server, User, Ttl)};
        {false, _} ->
            {error, <<"a user has 1 to 128 bytes, none of them a colon or a control character">>};
        {true, false} ->
            {error, iolist_to_binary(io_lib:format("a lifetime has 1 to ~b seconds", [?TTL_MAX]))}
    end;
handle({info, []}, Server) ->
    {ok, meerkat:info(Server)};
handle({reload, []}, Server) ->
    case meerkat_registry:note(Server, options) of
        none -> {error, <<"this server was not started from a file or the environment">>};
        Options -> reload(Server, meerkat_config:load(Options))
    end;
handle({drain, []}, Server) ->
    ok = meerkat:drain(Server),
    {ok, done};
handle({undrain, []}, Server) ->
    ok = meerkat:undrain(Server),
    {ok, done};
handle({redirect, [Text]}, Server) when is_binary(Text) ->
    case meerkat_config_value:parse_text({list, server}, Text) of
        {ok, Servers} -> redirected(meerkat:redirect(Server, Servers));
        {error, {Shown, Allowed}} -> {error, iolist_to_binary([Shown, " must be ", Allowed])}
    end;
handle(_, _) ->
    {error, <<"the server does not know this question; is it older than meerkatctl?">>}.

reload(Server, {ok, Config, Warnings}) ->
    case meerkat:reload(Server, Config) of
        ok ->
            ok = meerkat_log:change(Config),
            {ok, [unicode:characters_to_binary(Warning) || Warning <- Warnings]};
        {error, Sentence} ->
            {error, unicode:characters_to_binary(meerkat:format_error(Sentence))}
    end;
reload(_Server, {error, Mistakes}) ->
    {error, unicode:characters_to_binary(lists:join("\n", Mistakes))}.

redirected(ok) -> {ok, done};
redirected({error, own_address}) -> {error, <<"that is an address of this server itself">>}.

is_user(User) ->
    re:run(User, "^[^:\\x00-\\x1f]{1,128}$", [dollar_endonly]) =/= nomatch.
