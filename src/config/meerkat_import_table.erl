%% What becomes of each key of a turnserver.conf, as the table of docs/coturn.md. The keys are
%% meerkat_import's; what is put together from several lines is told here. Pure.
-module(meerkat_import_table).

-export([composed/0, markdown/0]).

%% The keys of ours that a composed one of theirs goes into, and what else there is to say.
-spec composed() -> #{binary() => {[atom()], string()}}.
composed() ->
    #{<<"listening-ip">> => {[listen_ip, alternate_listen_ip],
                             "with `rfc5780` a second address of a family becomes "
                             "`alternate_listen_ip`"},
      <<"relay-ip">> => {[relay_ip], "without it, what `listening-ip` names"},
      <<"external-ip">> => {[relay_ip], "`PUBLIC/PRIVATE`: clients are told PUBLIC, relayed is "
                                        "from PRIVATE"},
      <<"alt-listening-port">> => {[alternate_listen_port], "with `rfc5780`"},
      <<"aux-server">> => {[extra_listeners], ""},
      <<"user">> => {[users], "name and password, or name and key (`0x…`); left out beside a "
                              "shared secret, as turnserver lets none of them in then"},
      <<"static-auth-secret">> => {[secret, credential_name_first],
                                   "several are several secrets; turnserver takes `name:expiry` "
                                   "too, so this does"},
      <<"use-auth-secret">> => {[secret], "with a database that is read here, `secret = ()`"},
      <<"lt-cred-mech">> => {[users, secret], "`secret = ()` says that only users come in"},
      <<"allowed-peer-ip">> => {[allowed_peers], "a range becomes networks"},
      <<"denied-peer-ip">> => {[denied_peers], "a range becomes networks"},
      <<"allow-loopback-peers">> => {[allowed_peers], "127.0.0.0/8 and ::1"},
      <<"stale-nonce">> => {[nonce_lifetime], "without a number 600; 0 cannot be had"},
      <<"alternate-server">> => {[alternate_server], "clients are sent there while this server is "
                                                     "drained, not always"},
      <<"udp-alternate-server">> => {[alternate_server], "the same"},
      <<"relay-threads">> => {[workers], "0 becomes 1"},
      <<"verbose">> => {[log_level], "`debug`"},
      <<"Verbose">> => {[log_level], "`debug`"},
      <<"software-attribute">> => {[software], "`Meerkat`"},
      <<"sock-buf-size">> => {[receive_buffer, send_buffer], ""},
      <<"prometheus">> => {[http_listen], "port 9641 on all addresses, as there"},
      <<"prometheus-port">> => {[http_listen], ""},
      <<"prometheus-address">> => {[http_listen], ""}}.

%% Without the line that only an installed page has a use for.
-spec markdown() -> unicode:chardata().
markdown() ->
    #{same := Same, composed := Composed, anyway := Anyway, without := Without} =
        meerkat_import:kinds(),
    ["| coturn | here | |\n|---|---|---|\n",
     lists:sort(
         [row(Theirs, [Ours], "") || {Theirs, Ours} <- maps:to_list(Same)]
         ++ [row(Theirs, Ours, Remark)
             || Theirs <- Composed, {Ours, Remark} <- [maps:get(Theirs, composed())]]),
     lists:sort([row(Theirs, [], "so in any case") || Theirs <- Anyway]),
     lists:append([lists:sort([row(Theirs, [], why(Why)) || Theirs <- Keys])
                   || {Keys, Why} <- Without])].

row(Theirs, Ours, Remark) ->
    Shown = case Ours of
        [] -> "–";
        _ -> lists:join(", ", [["`", atom_to_list(Key), "`"] || Key <- Ours])
    end,
    ["| `", Theirs, "` | ", Shown, " | ", Remark, " |\n"].

why(": " ++ Why) -> Why.
