%% How the node of an installed Meerkat is found without epmd (-epmd_module, see rel/vm.args): its
%% port is a line in the file `node` of the run directory, which only the server's user can enter.
%% So no daemon is started or left behind, and no open port tells strangers of the node. The
%% functions are those of OTP's erl_epmd that the distribution calls.
-module(meerkat_epmd).

-include_lib("kernel/include/logger.hrl").

-export([start_node/0]).
-export([start_link/0, register_node/2, register_node/3, listen_port_please/2, address_please/3,
         port_please/2, port_please/3, names/1]).

-define(NODE, 'meerkat@127.0.0.1').
-define(FILE_NAME, "node").
%% Of the distribution's protocol, as OTP 23 and newer speak it.
-define(PROTOCOL, 6).

%% Starts the distribution, if the node was started with this module for it. To be called before
%% meerkatctl's socket is opened (register_node/3 looks at that). If it fails the server runs all
%% the same.
-spec start_node() -> ok.
start_node() ->
    Found = init:get_argument(epmd_module) =:= {ok, [[atom_to_list(?MODULE)]]}
        andalso net_kernel:start(?NODE, #{name_domain => longnames}),
    case Found of
        {error, Reason} ->
            ?LOG_WARNING("stop, ping and remote_console cannot reach this node: ~0tp", [Reason]);
        _ ->
            ok
    end.

%% There is no process.
-spec start_link() -> ignore.
start_link() ->
    ignore.

%% Writes the port down, unless another server has its socket in the run directory: then that one's
%% node stays the one that is found. The random number tells this node from others of its name.
-spec register_node(Name :: term(), inet:port_number()) -> {ok, Creation :: pos_integer()}.
register_node(Name, Port) ->
    register_node(Name, Port, inet).

-spec register_node(Name :: term(), inet:port_number(), Driver :: term()) ->
    {ok, Creation :: pos_integer()}.
register_node(_Name, Port, _Driver) ->
    _ = meerkat_admin_socket:is_taken(directory()) orelse write(Port),
    {ok, 3 + rand:uniform(16#7fffffff)}.

%% Any that is free.
-spec listen_port_please(Name :: term(), Host :: term()) -> {ok, 0}.
listen_port_please(_Name, _Host) ->
    {ok, 0}.

-spec address_please(Name :: term(), Host :: term(), Family :: term()) ->
    {ok, inet:ip_address()}.
address_please(_Name, _Host, _Family) ->
    {ok, {127, 0, 0, 1}}.

-spec port_please(Name :: term(), Host :: term()) ->
    {port, inet:port_number(), Protocol :: pos_integer()} | noport.
port_please(Name, Host) ->
    port_please(Name, Host, infinity).

-spec port_please(Name :: term(), Host :: term(), timeout()) ->
    {port, inet:port_number(), Protocol :: pos_integer()} | noport.
port_please(_Name, _Host, _Timeout) ->
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

file() ->
    filename:join(directory(), ?FILE_NAME).

%% By renaming a file, so that a reader finds the old port or the new one, and never a part.
write(Port) ->
    New = file() ++ ".new",
    ok = file:write_file(New, [integer_to_list(Port), $\n]),
    file:rename(New, file()).

read() ->
    {ok, Text} = file:read_file(file()),
    {Port, _} = string:to_integer(Text),
    true = is_integer(Port),
    Port.
