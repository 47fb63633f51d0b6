%% Which process has which allocation: by session id, and by the keys that requests name it by. The
%% tables are meerkat_registry's; reading and writing is done by whoever calls.
-module(meerkat_alloc_table).

-export([count/1, sessions/1, server_ports/1]).
-export([sessions_of/2, sessions_at/2, users/1]).
-export([five_tuple/1, expect/4, enter/5, claim/4, forget/3, leave/3, bury/2, find/2, pid/2]).

-export_type([five_tuple/0, key/0]).

%% Transport, client and server address, packed.
-type five_tuple() :: binary().
-type session() :: non_neg_integer().
%% What requests name an allocation by: a 5-tuple, or in a mobility ticket the session.
-type key() :: five_tuple() | session().

%% Allocations there are, those coming and going included.
-spec count(Name :: atom()) -> non_neg_integer().
count(Name) ->
    ets:info(meerkat_registry:table(Name, sessions), size).

-spec sessions(Name :: atom()) -> [{session(), pid()}].
sessions(Name) ->
    ets:select(meerkat_registry:table(Name, sessions),
               [{{'$1', '$2', '_', '_'}, [], [{{'$1', '$2'}}]}]).

%% Those of one user: by the whole name, or by what stands behind its expiry
%% (meerkat_quota:user_key/1). Asks no process.
-spec sessions_of(Name :: atom(), User :: binary()) -> [{session(), pid()}].
sessions_of(Name, User) ->
    Match = [{{'$1', '$2', User, '_'}, [], [{{'$1', '$2'}}]},
             {{'$1', '$2', '_', User}, [], [{{'$1', '$2'}}]}],
    ets:select(meerkat_registry:table(Name, sessions), Match).

%% Those of the clients at an address, of one port or of all. Reads the whole table.
-spec sessions_at(Name :: atom(), inet:ip_address() | {inet:ip_address(), inet:port_number()}) ->
    [session()].
sessions_at(Name, {Ip, Port}) when is_tuple(Ip) -> sessions_at(Name, ip(Ip), [Port]);
sessions_at(Name, Ip) -> sessions_at(Name, ip(Ip), any).

sessions_at(Name, Ip, Ports) ->
    Size = byte_size(Ip),
    lists:usort(ets:foldl(fun
        ({<<_, Port:16, _:16, Client:Size/binary, _:Size/binary>>, Session, _}, Found)
          when Client =:= Ip ->
            [Session || Ports =:= any orelse lists:member(Port, Ports)] ++ Found;
        (_Other, Found) ->
            Found
    end, [], meerkat_registry:table(Name, tuples))).

%% Each session with what stands behind the expiry of its user's name.
-spec users(Name :: atom()) -> #{session() => binary()}.
users(Name) ->
    maps:from_list(ets:select(meerkat_registry:table(Name, sessions),
                              [{{'$1', '_', '$2', '_'}, [], [{{'$1', '$2'}}]}])).

%% The ports of ours that clients with an allocation came to.
-spec server_ports(Name :: atom()) -> [inet:port_number()].
server_ports(Name) ->
    Ports = ets:foldl(fun
        ({<<_, _:16, Port:16, _/binary>>, _, _}, Ports) -> Ports#{Port => true};
        (_ByTicket, Ports) -> Ports
    end, #{}, meerkat_registry:table(Name, tuples)),
    maps:keys(Ports).

%% RFC 8656 2: the 5-tuple as the server sees it.
-spec five_tuple(meerkat_alloc_core:place()) -> five_tuple().
five_tuple(#{transport := Transport, client := {ClientIp, ClientPort},
             server := {ServerIp, ServerPort}}) ->
    <<Transport, ClientPort:16, ServerPort:16, (ip(ClientIp))/binary, (ip(ServerIp))/binary>>.

ip({A, B, C, D}) -> <<A, B, C, D>>;
ip({A, B, C, D, E, F, G, H}) -> <<A:16, B:16, C:16, D:16, E:16, F:16, G:16, H:16>>.

%% Requests of that 5-tuple are for Pid, which is about to make an allocation.
-spec expect(Name :: atom(), five_tuple(), session(), pid()) -> ok.
expect(Name, FiveTuple, Session, Pid) ->
    true = ets:insert(meerkat_registry:table(Name, tuples), {FiveTuple, Session, Pid}),
    ok.

%% The allocation of User has its process in Pid from here on.
-spec enter(Name :: atom(), five_tuple(), session(), User :: binary(), pid()) -> ok.
enter(Name, FiveTuple, Session, User, Pid) ->
    #{usernames := Order} = meerkat_registry:settings(Name),
    true = ets:insert(meerkat_registry:table(Name, sessions),
                      {Session, Pid, meerkat_quota:user_key(User, Order), User}),
    true = ets:insert(meerkat_registry:table(Name, tuples), {FiveTuple, Session, Pid}),
    ok.

%% By this key too, unless it is another's.
-spec claim(Name :: atom(), key(), session(), pid()) -> ok.
claim(Name, Key, Session, Pid) ->
    _ = ets:insert_new(meerkat_registry:table(Name, tuples), {Key, Session, Pid}),
    ok.

%% The key is free, unless it is another session's by now; the session is still known.
-spec forget(Name :: atom(), key(), session()) -> ok.
forget(Name, Key, Session) ->
    Tuples = meerkat_registry:table(Name, tuples),
    case ets:lookup(Tuples, Key) of
        [{_, Session, _} = Row] ->
            true = ets:delete_object(Tuples, Row),
            ok;
        _ ->
            ok
    end.

-spec leave(Name :: atom(), key(), session()) -> ok.
leave(Name, Key, Session) ->
    true = ets:delete(meerkat_registry:table(Name, sessions), Session),
    forget(Name, Key, Session).

%% All rows of a session whose process was killed; whoever knew the keys is gone.
-spec bury(Name :: atom(), session()) -> ok.
bury(Name, Session) ->
    true = ets:delete(meerkat_registry:table(Name, sessions), Session),
    true = ets:match_delete(meerkat_registry:table(Name, tuples), {'_', Session, '_'}),
    ok.

%% Who has the key. The rows of a process that was killed are deleted here.
-spec find(Name :: atom(), key()) -> {session(), pid()} | none.
find(Name, Key) ->
    Tuples = meerkat_registry:table(Name, tuples),
    case ets:lookup(Tuples, Key) of
        [{_, Session, Pid} = Row] ->
            case is_process_alive(Pid) andalso ets:lookup(Tuples, Key) of
                [Row] ->
                    {Session, Pid};
                false ->
                    ok = leave(Name, Key, Session),
                    none;
                %% The process says that it is alive when it comes to it; it left meanwhile.
                _ ->
                    find(Name, Key)
            end;
        [] ->
            none
    end.

-spec pid(Name :: atom(), session()) -> pid() | none.
pid(Name, Session) ->
    case ets:lookup(meerkat_registry:table(Name, sessions), Session) of
        [{_, Pid, _, _}] -> Pid;
        [] -> none
    end.
