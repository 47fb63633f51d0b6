%% What an accounting record says (docs/accounting.md), as one line of JSON. Pure.
-module(meerkat_account_record).

-export([line/2, counters/0]).

-export_type([about/0, context/0]).

%% What a record is about. Counters are all that were counted since the allocation began. `on` and
%% `off`: the accounting of a server begins or ends; `lost`: so many records are missing here.
-type about() :: {start | interim | stop, meerkat_ledger:facts(), session(),
                  Start :: integer(), counters(), Reason :: atom()}
               | on | off | {lost, pos_integer()}.
-type session() :: non_neg_integer().
-type counters() :: #{atom() => non_neg_integer()}.
%% `id` is the record's own; `instance` tells this run of the server from all others.
-type context() :: #{id := binary(), instance := binary(), server := atom(), host := binary(),
                     now_ms := integer(),            % wall clock
                     %% What `default` is called, and what may come first in usernames.
                     realm := binary(), usernames := meerkat_auth_rest:order()}.

-spec counters() -> [atom()].
counters() -> [client_packets, client_bytes, peer_packets, peer_bytes, dropped].

-spec line(about(), context()) -> binary().
line(About, #{id := Id, host := Host, server := Server} = Context) ->
    meerkat_json:encode({[{record, Id}, {type, type(About)}, {time, time(told(About, Context))},
                          {host, Host}, {server, atom_to_binary(Server)}
                          | members(About, Context)]}).

told({_, #{told_ms := Told}, _, _, _, _}, _Context) -> Told;
told(_OnOffOrLost, #{now_ms := Now}) -> Now.

type(About) when is_atom(About) -> About;
type(About) -> element(1, About).

members({Type, Facts, Session, Start, Counters, Reason},
        #{instance := Instance, usernames := Order} = Context) ->
    #{user := Username, realm := Owner, client := Client, server := Server,
      transport := Transport, protocol := Protocol, relayed := Relayed, age_ms := Age,
      lifetime := Lifetime} = Facts,
    [{session_id, iolist_to_binary([Instance, $-, meerkat_text:session(Session)])},
     {user, meerkat_quota:user_key(Username, Order)},
     {username, Username},
     {realm, case Owner of default -> maps:get(realm, Context); _ -> Owner end},
     {client, address(Client)},
     {transport, Transport},
     {listener, address(Server)},
     {relayed, [address(Address) || Address <- Relayed]},
     {protocol, Protocol},
     {start_time, time(Start)},
     {lifetime, Lifetime},
     {duration, Age / 1000}]
    ++ [{Name, maps:get(Name, Counters, 0)} || Name <- counters()]
    ++ [{reason, Reason} || Type =:= stop];
members({lost, N}, #{instance := Instance}) ->
    [{instance, Instance}, {count, N}];
members(_OnOrOff, #{instance := Instance}) ->
    [{instance, Instance}].

address(Address) -> unicode:characters_to_binary(meerkat_text:address(Address)).

%% RFC 3339 in UTC.
time(Ms) ->
    list_to_binary(calendar:system_time_to_rfc3339(Ms, [{unit, millisecond}, {offset, "Z"}])).
