%% Users of this machine, as the kernel and /etc/passwd know them: who this process is, and who is
%% at the other end of a unix socket.
-module(meerkat_unix).

-export([uid/0, user/1, peer/1, describe/1]).
-export_type([peer/0]).

%% `login`: who logged in, where the audit subsystem of the kernel knows it and it is another user:
%% it stays what it was through su and sudo.
-type peer() :: #{uid := non_neg_integer(), pid := non_neg_integer(),
                  login => non_neg_integer()}.

%% SO_PEERCRED of SOL_SOCKET (socket(7)), a number of each architecture's own.
-define(SOL_SOCKET, 1).
-define(PEERCRED, [{"powerpc", 21}, {"mips", 18}, {"alpha", 18}]).
-define(PEERCRED_OF_OTHERS, 17).
-define(NO_LOGIN, 16#ffffffff).

-include_lib("kernel/include/file.hrl").

%% That of this process.
-spec uid() -> non_neg_integer().
uid() ->
    {ok, #file_info{uid = Uid}} = file:read_file_info("/proc/self"),
    Uid.

%% Who connected; the kernel vouches for it.
-spec peer(gen_tcp:socket()) -> {ok, peer()} | unknown.
peer(Socket) ->
    case inet:getopts(Socket, [{raw, ?SOL_SOCKET, peercred(), 12}]) of
        {ok, [{raw, _, _, <<Pid:32/native, Uid:32/native, _Gid:32/native>>}]} ->
            {ok, maps:merge(#{uid => Uid, pid => Pid}, login(Pid, Uid))};
        _ ->
            unknown
    end.

peercred() ->
    Machine = erlang:system_info(system_architecture),
    hd([Number || {Prefix, Number} <- ?PEERCRED, lists:prefix(Prefix, Machine)]
       ++ [?PEERCRED_OF_OTHERS]).

login(Pid, Uid) ->
    case file:read_file(["/proc/", integer_to_list(Pid), "/loginuid"]) of
        {ok, Text} ->
            maps:from_list([{login, Login} || {Login, _} <- [string:to_integer(Text)],
                                              is_integer(Login), Login =/= ?NO_LOGIN,
                                              Login =/= Uid]);
        {error, _} ->
            #{}
    end.

%% For a line of text: "root (uid 0, process 4711, logged in as alice)".
-spec describe(peer()) -> unicode:chardata().
describe(#{uid := Uid, pid := Pid} = Peer) ->
    Number = integer_to_list(Uid),
    Known = [["uid ", Number] || name(Uid) =/= none]
        ++ [["process ", integer_to_list(Pid)] || Pid > 0]
        ++ [["logged in as ", user(Login)] || #{login := Login} <- [Peer]],
    [user(Uid), [[" (", lists:join(", ", Known), ")"] || Known =/= []]].

%% Its name, where it has one.
-spec user(Uid :: non_neg_integer()) -> unicode:chardata().
user(Uid) ->
    case name(Uid) of
        none -> ["uid ", integer_to_list(Uid)];
        Name -> meerkat_text:escape(Name)
    end.

name(Uid) ->
    Number = integer_to_binary(Uid),
    case file:read_file("/etc/passwd") of
        {ok, Text} ->
            hd([Name || Line <- binary:split(Text, <<"\n">>, [global]),
                        [Name, _, Of | _] <- [binary:split(Line, <<":">>, [global])],
                        Of =:= Number] ++ [none]);
        {error, _} ->
            none
    end.
