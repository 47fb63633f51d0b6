%% What the relay program is told of settings: the messages that make it have what they say, at its
%% start and at each reload.
-module(meerkat_relay_setup).

-export([config/1, relay_address/1, policy/1, streams/1, front/1, certificates/2, listen/1]).
-export([tune/1]).
-export([complaint/2]).

%% There is one set of certificates.
-define(CERTIFICATES, 1).

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

%% For connections of clients.
-spec streams(meerkat_settings:settings()) -> meerkat_ctl:message().
streams(#{streams := Streams}) ->
    {streams, Streams}.

%% Proxies before us and web servers behind. Names of our own come as those without web server.
-spec front(meerkat_settings:settings()) -> meerkat_ctl:message().
front(#{front := #{proxies := Proxies, datagrams := Datagrams, backends := Backends,
                   names := Names, tells := Tells}}) ->
    Rows = [{Name, undefined} || Backends =/= [], Name <- Names] ++ Backends,
    {front, #{proxies => meerkat_policy:encode_networks(Proxies),
              datagrams => flag(Datagrams),
              names => << <<(web_row(Row))/binary>> || Row <- Rows >>,
              tells => flag(Tells)}}.

web_row({any, Address}) -> web_row({<<>>, Address});
web_row({Name, Address}) ->
    <<(byte_size(Name)), Name/binary, (meerkat_ctl:encode_peers([Address]))/binary>>.

flag(true) -> 1;
flag(false) -> 0.

%% None where there are no certificates. Those that have been in force are taken even if they are
%% over by now: their clients may see to that, and all others are to be served.
-spec certificates(new | in_force, meerkat_settings:settings()) -> [meerkat_ctl:message()].
certificates(_, #{certificates := #{shown := []}}) ->
    [];
certificates(Were, #{certificates := #{pairs := Pairs, secret := Secret, clients := Clients}}) ->
    Packed = << <<(sized(Chain))/binary, (sized(Key))/binary>>
                || #{chain := Chain, key := Key} <- Pairs() >>,
    #{authorities := Authorities, required := Required} = Clients,
    InForce = case Were of new -> 0; in_force -> 1 end,
    [{certificates, #{certificates => ?CERTIFICATES, in_force => InForce, secret => Secret(),
                      pairs => Packed, required => flag(Required),
                      clients => << <<(sized(Pem))/binary>> || #{pem := Pem} <- Authorities >>}}].

sized(Pem) -> <<(byte_size(Pem)):32, Pem/binary>>.

%% What the relay says against a certificate, with the files that it is about.
-spec complaint(Reply :: map(), meerkat_settings:settings()) -> unicode:chardata().
complaint(#{pair := Pair, detail := Detail},
          #{certificates := #{shown := Shown, clients := #{authorities := Authorities}}})
  when Pair >= length(Shown), Pair < length(Shown) + length(Authorities) ->
    #{file := File} = lists:nth(Pair - length(Shown) + 1, Authorities),
    ["tls_client_ca ", File, ": ", meerkat_text:escape(Detail)];
complaint(#{pair := Pair, detail := Detail}, #{certificates := #{shown := Shown}}) ->
    #{file := Chain, key_file := Key} = lists:nth(min(Pair + 1, length(Shown)), Shown),
    ["tls_cert ", Chain, ", tls_key ", Key, ": ", meerkat_text:escape(Detail)].

-spec listen(meerkat_settings:listener()) -> meerkat_ctl:message().
listen(#{id := Id, certificates := Certificates} = Listener) ->
    {listen, (maps:with([transport, local, other, realm], Listener))#{
        listener => Id,
        certificates => case Certificates of none -> 0; _ -> ?CERTIFICATES end}}.

%% What of config/1 may change while it runs.
-spec tune(meerkat_settings:settings()) -> meerkat_ctl:message().
tune(#{relay_config := Config}) ->
    {tune, maps:with([nonce_lifetime_s, nonce_features, channel_max, rfc3489,
                      unauthenticated_rate, unauthenticated_burst, receive_buffer,
                      send_buffer, shortcuts], Config)}.
