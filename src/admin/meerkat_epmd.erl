%% How the node of an installed Meerkat is found without epmd (-epmd_module, see
%% rel/bin/environment): its port and its name are lines in the file `node` of the run directory,
%% which only the server's user can enter. The nodes of its fleet, if it is in one, connect to the
%% port that they all use (meerkat_fleet_dist). So no daemon is started or left behind, and no open
%% port tells strangers of the node. The functions are those of OTP's erl_epmd that the distribution
%% calls.
-module(meerkat_epmd).

-include_lib("kernel/include/logger.hrl").

-export([start_node/1]).
-export([start_link/0, register_node/2, register_node/3, listen_port_please/2, address_please/3,
         port_please/2, port_please/3, names/1]).

-define(NODE, 'meerkat@127.0.0.1').
-define(FILE_NAME, "node").
-define(COOKIE, ".erlang.cookie").
%% What meerkat_fleet_dist calls itself here.
-define(IN_FLEET, meerkat_fleet).
%% Of the distribution's protocol, as OTP 23 and newer speak it.
-define(PROTOCOL, 6).

%% Starts the distribution: for what runs on this machine, if the node was started for that
%% (bin/meerkat), and for the other nodes of its fleet, if the configuration names one. To be called
%% before meerkatctl's socket is opened (register_node/3 looks at that). If the first fails the
%% server runs all the same; without the second it is not to be started.
-spec start_node(meerkat_config:config()) -> ok | {error, unicode:chardata()}.
start_node(Config) ->
    case meerkat_fleet_dist:prepare(Config) of
        none -> start_alone(is_found_here());
        {ok, Node, Cookie} -> start_in_fleet(Node, Cookie);
        {error, Sentence} -> {error, Sentence}
    end.

start_alone(false) ->
    ok;
start_alone(true) ->
    case net_kernel:start(?NODE, #{name_domain => longnames}) of
        {ok, _} ->
            ok;
        {error, Reason} ->
            ?LOG_WARNING("stop, ping and remote_console cannot reach this node: ~0tp", [Reason])
    end.

%% What runs on this machine reads the cookie of the run directory, which is HOME.
start_in_fleet(Node, Cookie) ->
    _ = is_found_here() andalso filelib:is_dir(directory())
        andalso write(?COOKIE, 8#400, atom_to_list(Cookie)),
    Started = net_kernel:start(Node, #{name_domain => longnames}),
    case meerkat_fleet_dist:is_listening() of
        true ->
            true = erlang:set_cookie(Cookie),
            ok;
        false ->
            #{ip := Ip, port := Port} = meerkat_fleet_dist:own(),
            {error, ["fleet: cannot listen on ", meerkat_text:address({Ip, Port}),
                     [[": ", io_lib:format("~0tp", [Reason])] || {error, Reason} <- [Started]]]}
    end.

%% Not so where meerkatctl has started it (make run).
is_found_here() ->
    init:get_argument(proto_dist) =:= {ok, [["inet_tcp", "meerkat_fleet"]]}.

%% There is no process.
-spec start_link() -> ignore.
start_link() ->
    ignore.

%% Writes port and name down, unless another server has its socket in the run directory: then that
%% one's node stays the one that is found. The random number tells this node from others of its
%% name.
-spec register_node(Name :: term(), inet:port_number()) -> {ok, Creation :: pos_integer()}.
register_node(Name, Port) ->
    register_node(Name, Port, inet).

-spec register_node(Name :: term(), inet:port_number(), Driver :: term()) ->
    {ok, Creation :: pos_integer()}.
register_node(Name, Port, _Driver) ->
    _ = Name =:= ?IN_FLEET orelse meerkat_admin_socket:is_taken(directory())
        orelse write(?FILE_NAME, 8#600, io_lib:format("~b~n~s~n", [Port, name()])),
    {ok, 3 + rand:uniform(16#7fffffff)}.

name() ->
    case meerkat_fleet_dist:own() of
        none -> ?NODE;
        #{node := Node} -> Node
    end.

%% Any that is free, but for the fleet.
-spec listen_port_please(Name :: term(), Host :: term()) -> {ok, inet:port_number()}.
listen_port_please(?IN_FLEET, _Host) ->
    #{port := Port} = meerkat_fleet_dist:own(),
    {ok, Port};
listen_port_please(_Name, _Host) ->
    {ok, 0}.

%% In a node of a fleet that of another one's name; else this machine's.
-spec address_please(Name :: term(), Host :: string(), Family :: inet | inet6) ->
    {ok, inet:ip_address()} | {error, term()}.
address_please(_Name, Host, Family) ->
    case meerkat_fleet_dist:own() of
        none -> {ok, {127, 0, 0, 1}};
        #{} -> inet:getaddr(Host, Family)
    end.

-spec port_please(Name :: term(), Host :: term()) ->
    {port, inet:port_number(), Protocol :: pos_integer()} | noport.
port_please(Name, Host) ->
    port_please(Name, Host, infinity).

-spec port_please(Name :: term(), Host :: term(), timeout()) ->
    {port, inet:port_number(), Protocol :: pos_integer()} | noport.
port_please(_Name, _Host, _Timeout) ->
    case meerkat_fleet_dist:own() of
        #{port := Port} -> {port, Port, ?PROTOCOL};
        none -> port_here()
    end.

port_here() ->
    try
        {port, read(), ?PROTOCOL}
    catch
        error:_ -> noport
    end.

-spec names(Host :: term()) -> {error, address}.
names(_Host) ->
    {error, address}.

directory() ->
    os:getenv("MEERKAT_RUN_DIR", "/nonexistent").

%% By renaming a file, so that a reader finds the old text or the new one, and never a part.
write(FileName, Mode, Text) ->
    File = filename:join(directory(), FileName),
    New = File ++ ".new",
    _ = file:delete(New),
    ok = file:write_file(New, Text),
    ok = file:change_mode(New, Mode),
    file:rename(New, File).

read() ->
    {ok, Text} = file:read_file(filename:join(directory(), ?FILE_NAME)),
    {Port, _} = string:to_integer(Text),
    true = is_integer(Port),
    Port.
