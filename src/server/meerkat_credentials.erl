%% Makes time-limited credentials (draft-uberti-behave-turn-rest-00) from the first secret of a
%% realm, with the URIs where they are good, and both as browsers want them. meerkat:credentials/3,
%% meerkatctl and HTTP all get them here.
-module(meerkat_credentials).

-export([make/3, asked/3, told/1]).

-export_type([credentials/0, options/0]).

%% What they are: `ttl` in seconds; `uris` by RFC 7064 and 7065; `iceServers` as RTCPeerConnection
%% takes them.
-type credentials() :: #{username := binary(), password := binary(), ttl := pos_integer(),
                         uris := [binary()],
                         iceServers := [#{urls := [binary()], username => binary(),
                                          credential => binary()}]}.
%% ttl: seconds, a day without. realm: one that a listener has, or the configuration under
%% `realms`; without it the server's own. region: the one whose nodes of a fleet are listed first;
%% without it this node's.
-type options() :: #{ttl => pos_integer(), realm | region => binary()}.

-define(TTL_S, 86400).
%% The longest time for which asked/3 makes credentials.
-define(TTL_MAX, 30 * 86400).
%% USERNAME has at most 508 bytes (RFC 8489 14.3), the time before the name among them.
-define(USER_MAX, 479).

%% The sentence says what is wrong.
-spec make(Name :: atom(), User :: binary(), options()) ->
    {ok, credentials()} | {error, {user | realm | no_secret, binary()}}.
make(_Name, User, _Options) when byte_size(User) > ?USER_MAX ->
    {error, {user, <<"this user is too long for a USERNAME">>}};
make(Name, User, Options) ->
    Settings = meerkat_registry:settings(Name),
    case realm(Options, Settings) of
        {ok, Realm, Secrets} -> made(Name, User, Options, Realm, Secrets());
        {error, Why} -> {error, Why}
    end.

made(_Name, _User, _Options, all, []) ->
    {error, {no_secret, <<"this server has no shared secret that credentials are made from">>}};
made(_Name, _User, _Options, Realm, []) ->
    {error, {no_secret, sentence(["the realm ", quoted(Realm), " has no shared secret that "
                                  "credentials are made from"])}};
made(Name, User, Options, Realm, [Secret | _]) ->
    Ttl = maps:get(ttl, Options, ?TTL_S),
    {Username, Password} =
        meerkat_auth_rest:credentials(Secret, User, Ttl, meerkat_clock:wall_s()),
    Region = maps:get(region, Options, own),
    #{stun := Stun, turn := Turn} = meerkat_services:uris_of_fleet(Name, Realm, Region),
    {ok, #{username => Username, password => Password, ttl => Ttl, uris => Stun ++ Turn,
           iceServers => [#{urls => Stun} || Stun =/= []]
               ++ [#{urls => Turn, username => Username, credential => Password}
                   || Turn =/= []]}}.

%% Which listeners, and the secrets that open them.
realm(#{realm := Realm}, #{listeners := Listeners, tenants := Tenants} = Settings) ->
    Known = lists:usort([Of || #{realm := Of} <- Listeners] ++ maps:keys(Tenants)),
    case lists:member(Realm, Known) of
        true ->
            #{secrets := Secrets} =
                meerkat_settings:tenant(meerkat_settings:owner(Realm, Settings), Settings),
            {ok, Realm, Secrets};
        false ->
            Names = lists:join(", ", [quoted(Name) || Name <- Known]),
            {error, {realm, sentence(["there is no realm ", quoted(Realm), "; there is ", Names])}}
    end;
realm(#{}, #{secrets := Secrets}) ->
    {ok, all, Secrets}.

quoted(Text) -> [$", meerkat_text:escape(Text), $"].

sentence(Text) -> unicode:characters_to_binary(Text).

%% What was asked for, for the log (meerkat_audit).
-spec told(options()) -> #{ttl_s := integer(), realm => binary()}.
told(Options) ->
    maps:merge(#{ttl_s => maps:get(ttl, Options, ?TTL_S)}, maps:with([realm], Options)).

%% make/3 for a question by HTTP or meerkatctl, whose names and times are held to bounds.
-spec asked(Name :: atom(), User :: binary(), #{ttl => integer(), realm | region => binary()}) ->
    {ok, credentials()} | {error, {user | ttl | realm | no_secret, binary()}}.
asked(Name, User, Options) ->
    Ttl = maps:get(ttl, Options, ?TTL_S),
    case {is_user(User), Ttl >= 1 andalso Ttl =< ?TTL_MAX} of
        {true, true} ->
            make(Name, User, Options);
        {false, _} ->
            {error, {user, <<"a user has 1 to 128 bytes, none of them a colon or a control "
                             "character">>}};
        {true, false} ->
            {error, {ttl, sentence(io_lib:format("a lifetime has 1 to ~b seconds", [?TTL_MAX]))}}
    end.

is_user(User) ->
    re:run(User, "^[^:\\x00-\\x1f]{1,128}$", [dollar_endonly]) =/= nomatch.
