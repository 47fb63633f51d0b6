%% The unix socket by which meerkatctl asks the server on its machine; only the server's own user
%% can reach it. Both ends are here. meerkat_admin has the questions and answers.
%%
%% One question per connection: {packet, 4}, a meerkat_admin:question() in external term format,
%% then the answer likewise.
%%
%% A node of Meerkat's own opens one by itself (meerkat_boot). An embedder starts one as another
%% child beside the server, and tells meerkatctl where it is:
%% `meerkatctl -s /run/app/calls/admin.sock status`.
%%
%%   [meerkat:child_spec(#{name => calls, ...}),
%%    meerkat_admin_socket:child_spec("/run/app/calls", calls)]
-module(meerkat_admin_socket).
-behaviour(gen_server).

%% API.
-export([child_spec/2, start_link/2, call/1, call/3, directory/0, is_taken/1]).
-export_type([place/0, asked/0]).
%% Internal: its loop, by its full name, so that code can be loaded twice below it.
-export([accept/2]).
%% gen_server.
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-include_lib("kernel/include/file.hrl").

-define(FILE_NAME, "admin.sock").
-define(QUESTION_MAX, 65536).
%% An answer has some hundred bytes for each allocation.
-define(ANSWER_MAX, 16#10000000).
%% Milliseconds that either end waits for the other to connect or to ask; and that meerkatctl waits
%% for an answer, which takes long where there are a hundred thousand allocations.
-define(PATIENCE, 5000).
-define(ANSWER_MS, 60000).
%% Milliseconds until the next try to accept when there was no free descriptor.
-define(AGAIN_MS, 100).
%% sun_path of Linux has 108 bytes, the last of them zero.
-define(PATH_MAX, 107).

-type question() :: meerkat_admin:question() | meerkat_fleet_admin:question().
%% Which server is meant: whatever runs here, or who listens on this socket.
-type place() :: anywhere | {socket, file:filename()}.
%% Which server was asked: its socket, and the user who owns the directory. is_expected: a server
%% that this user starts here now would have that socket; otherwise another one may have been meant.
-type asked() :: #{socket := file:filename(), uid := non_neg_integer(), is_expected := boolean()}.

-record(state, {path :: file:filename(), socket :: gen_tcp:socket()}).

%% Answers for Server on the socket admin.sock in Directory. The directory is made if it is missing;
%% nobody else may be able to enter it.
-spec child_spec(Directory :: file:filename(), Server :: atom()) -> supervisor:child_spec().
child_spec(Directory, Server) ->
    #{id => {?MODULE, Server}, start => {?MODULE, start_link, [Directory, Server]}}.

%% `ignore`, after a line in the log, when another server answers there already or no socket can be
%% made: the server serves without.
-spec start_link(Directory :: file:filename(), Server :: atom()) -> {ok, pid()} | ignore.
start_link(Directory, Server) ->
    gen_server:start_link(?MODULE, {Directory, Server}, []).

%% Asks the server that runs on this machine under this user, wherever its socket is; root also
%% another user's, a service's for instance.
-spec call(question()) -> meerkat_admin:answer() | {error, no_server}.
call(Question) ->
    {Answer, _} = call(anywhere, Question, fun(_) -> ok end),
    Answer.

%% Asks the server of Place, and returns which one that was. Tell is called with that too, before
%% anything is asked.
-spec call(place(), question(), Tell :: fun((asked()) -> term())) ->
    {meerkat_admin:answer() | {error, no_server}, asked() | none}.
call(Place, Question, Tell) ->
    call_first(paths(Place), Place, term_to_binary(Question), Tell).

call_first([Path | Paths], Place, Question, Tell) ->
    case ask(Path, Question, fun() -> Tell(asked(Path, Place)) end) of
        {ok, Bytes} -> {answered(Bytes), asked(Path, Place)};
        {error, timeout} -> {{error, <<"the server does not answer">>}, asked(Path, Place)};
        {error, closed} ->
            {{error, <<"the server ended the connection without an answer: it ends, or its log "
                       "says why">>}, asked(Path, Place)};
        {error, no_server} -> call_first(Paths, Place, Question, Tell)
    end;
call_first([], _Place, _Question, _Tell) ->
    {{error, no_server}, none}.

paths({socket, Path}) ->
    [Path];
paths(anywhere) ->
    {Ours, Others} = lists:partition(fun(Dir) -> meerkat_private:is_ours(Dir) =:= ok end,
                                     directories()),
    [filename:join(Dir, ?FILE_NAME) || Dir <- Ours ++ [D || D <- Others, is_for_root(D)]].

asked(Path, Place) ->
    {ok, #file_info{uid = Uid}} = file:read_file_info(filename:dirname(Path)),
    First = filename:join(hd(directories()), ?FILE_NAME),
    #{socket => Path, uid => Uid,
      is_expected => Place =/= anywhere orelse Path =:= First andalso Uid =:= meerkat_unix:uid()}.

%% Root may ask a service of less privilege. What that sends can create no atoms here: it is decoded
%% into atoms of our own modules only.
answered(Bytes) ->
    try
        binary_to_term(Bytes, [safe])
    catch
        error:badarg ->
            _ = application:load(meerkat),
            {ok, Modules} = application:get_key(meerkat, modules),
            _ = [code:ensure_loaded(Module) || Module <- Modules],
            try
                binary_to_term(Bytes, [safe])
            catch
                error:badarg ->
                    {error, <<"the server answers what this meerkatctl does not understand">>}
            end
    end.

%% No server listens at a path that is too long for a socket.
ask(Path, _Question, _Tell) when length(Path) > ?PATH_MAX ->
    {error, no_server};
ask(Path, Question, Tell) ->
    Options = [binary, {packet, 4}, {packet_size, ?ANSWER_MAX}, {active, false}],
    case gen_tcp:connect({local, Path}, 0, Options, ?PATIENCE) of
        {ok, Socket} ->
            _ = Tell(),
            Answer = asked_and_heard(Socket, Question),
            ok = gen_tcp:close(Socket),
            Answer;
        {error, timeout} ->
            {error, timeout};
        {error, _} ->
            {error, no_server}
    end.

%% Any error but a timeout means that the server has closed the connection.
asked_and_heard(Socket, Question) ->
    case gen_tcp:send(Socket, Question) of
        ok ->
            case gen_tcp:recv(Socket, 0, ?ANSWER_MS) of
                {ok, Bytes} -> {ok, Bytes};
                {error, timeout} -> {error, timeout};
                {error, _} -> {error, closed}
            end;
        {error, _} ->
            {error, closed}
    end.

%% Where a server started now puts its socket: $MEERKAT_RUN_DIR, else $XDG_RUNTIME_DIR/meerkat,
%% else /run/meerkat, else /tmp/meerkat-<uid>; the first that is there, or can be made, and that
%% nobody else can enter. MEERKAT_RUN_DIR, when set, is the only one.
-spec directory() -> {ok, file:filename()} | {error, unicode:chardata()}.
directory() ->
    directory(directories(), []).

%% Whether a server answers on its socket there.
-spec is_taken(Directory :: file:filename()) -> boolean().
is_taken(Directory) ->
    answers(filename:join(Directory, ?FILE_NAME)).

answers(Path) ->
    case gen_tcp:connect({local, Path}, 0, [binary, {active, false}], ?PATIENCE) of
        {ok, Other} -> gen_tcp:close(Other) =:= ok;
        {error, _} -> false
    end.

directory([Dir | Dirs], _) ->
    case meerkat_private:make(Dir) of
        ok -> {ok, Dir};
        {error, Sentence} -> directory(Dirs, Sentence)
    end;
directory([], Sentence) ->
    {error, Sentence}.

directories() ->
    case {set("MEERKAT_RUN_DIR"), set("XDG_RUNTIME_DIR")} of
        {{ok, Dir}, _} -> [Dir];
        {none, {ok, Dir}} -> [filename:join(Dir, "meerkat") | everybodys()];
        {none, none} -> everybodys()
    end.

everybodys() ->
    ["/run/meerkat", private_directory()].

private_directory() ->
    "/tmp/meerkat-" ++ integer_to_list(meerkat_unix:uid()).

set(Name) ->
    case os:getenv(Name, "") of
        "" -> none;
        Value -> {ok, Value}
    end.

%% May root ask a server there? Only if the directory is closed to everybody but its owner, and is
%% not in /tmp, where anybody may make one of that name.
is_for_root(Dir) ->
    Dir =/= private_directory() andalso meerkat_unix:uid() =:= 0 andalso
        case file:read_link_info(Dir) of
            {ok, #file_info{type = directory, mode = Mode}} -> Mode band 8#077 =:= 0;
            _ -> false
        end.

%%
%% gen_server.
%%

-spec init({file:filename(), atom()}) -> {ok, #state{}} | ignore.
init({Directory, Server}) ->
    _ = process_flag(trap_exit, true),
    %% These modules have the atoms of all questions. A question with other atoms is not decoded.
    _ = [{module, _} = code:ensure_loaded(M)
         || M <- [meerkat_admin, meerkat_sessions, meerkat_watch, meerkat_capture,
                   meerkat_fleet_admin]],
    Path = filename:join(Directory, ?FILE_NAME),
    case listen(meerkat_private:make(Directory), Path) of
        {ok, Socket} ->
            %% So that a listing shows it. Nobody else can enter the directory anyway.
            _ = file:change_mode(Path, 8#600),
            _ = spawn_link(fun() -> accept(Socket, Server) end),
            {ok, #state{path = Path, socket = Socket}};
        {error, Sentence} ->
            logger:warning("meerkatctl cannot ask this server: ~ts", [Sentence]),
            ignore
    end.

listen({error, Sentence}, _Path) ->
    {error, Sentence};
listen(ok, Path) when length(Path) > ?PATH_MAX ->
    {error, [Path, " is too long for the name of a socket"]};
listen(ok, Path) ->
    Framing = [binary, {packet, 4}, {packet_size, ?QUESTION_MAX}, {active, false}],
    Options = [{ip, {local, Path}} | Framing],
    case gen_tcp:listen(0, Options) of
        {ok, Socket} -> {ok, Socket};
        {error, eaddrinuse} -> replace(Path, Options);
        {error, Reason} -> {error, [Path, ": ", inet:format_error(Reason)]}
    end.

%% If nobody answers at the path, its file was left by a server that was killed: it is replaced.
replace(Path, Options) ->
    case answers(Path) of
        true ->
            {error, ["another server answers at ", Path, "; MEERKAT_RUN_DIR sets another place"]};
        false ->
            _ = file:delete(Path),
            case gen_tcp:listen(0, Options) of
                {ok, Socket} -> {ok, Socket};
                {error, Reason} -> {error, [Path, ": ", inet:format_error(Reason)]}
            end
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_, _, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {stop, term(), #state{}} | {noreply, #state{}}.
handle_info({'EXIT', _, Reason}, State) ->
    {stop, Reason, State};
handle_info(_, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_, #state{path = Path, socket = Socket}) ->
    ok = gen_tcp:close(Socket),
    _ = file:delete(Path),
    ok.

%% Each question is answered by a process of its own, so that a slow one delays no other, and a
%% crash ends nothing else.
-spec accept(gen_tcp:socket(), atom()) -> no_return().
accept(Socket, Server) ->
    case gen_tcp:accept(Socket, ?PATIENCE) of
        {ok, Connection} ->
            Pid = proc_lib:spawn(fun() -> receive accepted -> answer(Connection, Server) end end),
            ok = gen_tcp:controlling_process(Connection, Pid),
            Pid ! accepted,
            ?MODULE:accept(Socket, Server);
        {error, timeout} ->
            ?MODULE:accept(Socket, Server);
        {error, Passing} when Passing =:= emfile; Passing =:= enfile; Passing =:= econnaborted ->
            receive after ?AGAIN_MS -> ?MODULE:accept(Socket, Server) end;
        {error, Reason} ->
            exit(Reason)
    end.

answer(Connection, Server) ->
    case gen_tcp:recv(Connection, 0, ?PATIENCE) of
        {ok, Bytes} ->
            %% A password may be in it.
            Answered = meerkat_crash:without_values(fun() ->
                handle(binary_to_term(Bytes, [safe]), Server, {meerkatctl, peer(Connection)})
            end),
            {Answer, Then} = case Answered of
                {ok, Result, Fun} -> {{ok, Result}, Fun};
                Other -> {Other, fun() -> ok end}
            end,
            _ = gen_tcp:send(Connection, term_to_binary(Answer)),
            ok = gen_tcp:close(Connection),
            Then();
        {error, _} ->
            gen_tcp:close(Connection)
    end.

%% An embedded server may be stopped and started again while its socket stays.
handle(Question, Server, Who) ->
    case meerkat_registry:is_running(Server) of
        true -> answer(Question, Server, Who);
        false -> {error, unicode:characters_to_binary(io_lib:format("the server ~tp does not run",
                                                                    [Server]))}
    end.

answer({fleet, _} = Question, Server, Who) -> meerkat_fleet_admin:handle(Question, Server, Who);
answer(Question, Server, Who) -> meerkat_admin:handle(Question, Server, Who).

peer(Connection) ->
    case meerkat_unix:peer(Connection) of
        {ok, Peer} -> Peer;
        unknown -> unknown
    end.
