%% Reads the file of the key jwt_keys: at the start and with each reload.
-module(meerkat_config_tokens).

-import(meerkat_config_origin, [named/2]).

-export([read/1, mistakes/1, warnings/1]).

%% Errors are sentences that name key and file.
-spec read(meerkat_config_origin:resolved()) ->
    {ok, #{token_keys := [meerkat_auth_token:key()]}} | {error, [unicode:chardata(), ...]}.
read(#{jwt_keys := {undefined, _}}) ->
    {ok, #{token_keys => []}};
read(#{jwt_keys := {File, _}} = Resolved) ->
    case keys(file:read_file(File)) of
        {ok, Keys} ->
            {ok, #{token_keys => Keys}};
        {error, Why} ->
            {error, [[named(jwt_keys, Resolved), ": \"", meerkat_text:printable(File), "\" ", Why]]}
    end.

keys({ok, Content}) -> meerkat_auth_token:keys(Content);
keys({error, Reason}) -> {error, ["cannot be read: ", file:format_error(Reason)]}.

%% What makes no sense together.
-spec mistakes(meerkat_config_origin:resolved()) -> [unicode:chardata()].
mistakes(#{jwt_required := {true, _}, secret_as_password := {true, _}} = Resolved) ->
    [[named(jwt_required, Resolved), " is true, but ", named(secret_as_password, Resolved),
      " is true: the secret would let in any username"]];
mistakes(_) ->
    [].

%% What is of no use by itself.
-spec warnings(meerkat_config_origin:resolved()) -> [unicode:chardata()].
warnings(#{jwt_keys := {undefined, _}} = Resolved) ->
    [[named(Key, Resolved), " does nothing without jwt_keys"]
     || Key <- [jwt_audience, jwt_issuer], #{Key := {<<_, _/binary>>, _}} <- [Resolved]]
    ++ [[named(jwt_required, Resolved), " is true and jwt_keys is not set: no time-limited "
         "username is let in"] || {true, _} <- [maps:get(jwt_required, Resolved)]];
warnings(_) ->
    [].
