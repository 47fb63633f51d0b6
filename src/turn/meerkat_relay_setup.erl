%% What the relay program is told of settings: the messages that make it have what they say, at its
%% start and at each reload.
-module(meerkat_relay_setup).

-export([config/1, relay_address/1, policy/1, listen/1, tune/1]).

%% What it makes its tables by; the first message there is.
-spec config(meerkat_settings:settings()) -> meerkat_ctl:message().
config(#{relay_config := Config, nonce_key := NonceKey}) ->
    {config, Config#{nonce_key => NonceKey()}}.

%% An address to relay from.
-spec relay_address(meerkat_settings:relay()) -> meerkat_ctl:message().
relay_address(#{pool := Pool, local := Local, advertised := Advertised, min_port := Min,
                max_port := Max} = Relay) ->
    Awaited = case Relay of #{awaited := true} -> 1; _ -> 0 end,
    {relay_address, #{pool => Pool, local => {Local, 0}, advertised => {Advertised, 0},
                      min_port => Min, max_port => Max, awaited => Awaited}}.

%% The rules for peers, all of them, and what this node listens on.
-spec policy(meerkat_settings:settings()) -> meerkat_ctl:message().
policy(#{rules := Rules} = Settings) ->
    {policy, #{rules => meerkat_policy:encode(Rules),
               guarded => meerkat_ctl:encode_peers(meerkat_guarded:ports(Settings))}}.

-spec listen(meerkat_settings:listener()) -> meerkat_ctl:message().
listen(#{id := Id} = Listener) ->
    {listen, (maps:with([transport, local, other, realm], Listener))#{listener => Id}}.

%% What of config/1 may change while it runs.
-spec tune(meerkat_settings:settings()) -> meerkat_ctl:message().
tune(#{relay_config := Config}) ->
    {tune, maps:with([nonce_lifetime_s, nonce_features, channel_max, rfc3489,
                      unauthenticated_rate, unauthenticated_burst, receive_buffer,
                      send_buffer], Config)}.
