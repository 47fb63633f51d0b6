%% One connection of HTTP: a request, an answer, and the end. The request must be here within
%% seconds, and the answer read. meerkat_http_api makes the answer; all answers, errors too, have
%% some headers in common, which are added here.
-module(meerkat_http_conn).

-include_lib("kernel/include/logger.hrl").

-export([start_link/4]).

%% From the connection's beginning until the request is whole.
-define(REQUEST_MS, 5000).
%% After the answer, whatever the client still sends is read for a moment. Where bytes are left
%% unread when the socket is closed, the kernel resets the connection, and the client may lose the
%% answer.
-define(REST_MS, 1000).
-define(REST_BYTES, 1048576).

%% Serves Socket, once it has been given to the process. Asked is called as soon as the request is
%% whole.
-spec start_link(Name :: atom(), gen_tcp:socket(), inet:ip_address(),
                 Asked :: fun((pid()) -> ok)) -> pid().
start_link(Name, Socket, Peer, Asked) ->
    spawn_link(fun() ->
        %% A token may be in the request.
        meerkat_crash:without_values(fun() ->
            receive {serve, Socket} -> serve(Name, Socket, Peer, Asked) end
        end)
    end).

serve(Name, Socket, Peer, Asked) ->
    Deadline = meerkat_clock:now_ms() + ?REQUEST_MS,
    case received(Socket, <<>>, Deadline) of
        {ok, #{method := Method} = Head} ->
            ok = Asked(self()),
            {Code, Headers, Body} = answer(Name, Head, Peer),
            send(Socket, Code, Headers, Body, Method);
        {error, Code, Sentence} ->
            send(Socket, Code, [{content_type, "text/plain; charset=utf-8"}],
                 list_to_binary([Sentence, "\n"]), "GET");
        closed ->
            ok
    end,
    gen_tcp:close(Socket).

%% With each piece that comes the head is parsed from its beginning again. That is bounded, because
%% meerkat_http_message refuses a head that is too long.
received(Socket, Before, Deadline) ->
    case gen_tcp:recv(Socket, 0, max(0, Deadline - meerkat_clock:now_ms())) of
        {ok, More} ->
            Bytes = <<Before/binary, More/binary>>,
            case meerkat_http_message:request(Bytes) of
                more -> received(Socket, Bytes, Deadline);
                Outcome -> Outcome
            end;
        {error, timeout} when Before =/= <<>> ->
            {error, 408, "the request did not come in time"};
        {error, _} ->
            closed
    end.

send(Socket, Code, Headers, Body, Method) ->
    Answer = meerkat_http_message:response(Code, Headers ++ common_headers(), Body, Method),
    case gen_tcp:send(Socket, Answer) of
        ok ->
            _ = gen_tcp:shutdown(Socket, write),
            read_rest(Socket, ?REST_BYTES, meerkat_clock:now_ms() + ?REST_MS);
        {error, _} ->
            ok
    end.

read_rest(Socket, Bytes, Deadline) when Bytes > 0 ->
    case gen_tcp:recv(Socket, 0, max(0, Deadline - meerkat_clock:now_ms())) of
        {ok, Rest} -> read_rest(Socket, Bytes - byte_size(Rest), Deadline);
        {error, _} -> ok
    end;
read_rest(_Socket, _Bytes, _Deadline) ->
    ok.

common_headers() ->
    [{"cache-control", "no-store"},
     {"x-content-type-options", "nosniff"},
     {"x-frame-options", "DENY"},
     {"referrer-policy", "no-referrer"},
     {"content-security-policy",
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
      "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}].

%% Where our own code fails, the client is told 500. The log has the path of the request and not its
%% query, which may have a token.
answer(Name, #{method := Method, target := Target, headers := Headers}, Peer) ->
    {Path, Query} = split(Target),
    Request = #{method => Method, path => Path, query => Query, headers => Headers, peer => Peer},
    try
        meerkat_http_api:handle(Name, Request)
    catch
        Class:Reason:Stack ->
            complain(Path, Class, Reason, Stack),
            {500, [{content_type, "text/plain"}], <<"something is wrong here\n">>}
    end.

complain(Path, Class, Reason, Stack) ->
    Where = [{M, F, proplists:get_value(line, Info)} || {M, F, _, Info} <- lists:sublist(Stack, 8)],
    ?LOG_ERROR("no answer to an HTTP request for ~ts: ~tp ~tp in ~tp",
               [meerkat_text:escape(Path), Class, meerkat_crash:reason(Reason), Where]).

%% A query that cannot be parsed counts as empty. Bytes of the path are taken as Latin-1: our pages
%% have ASCII names.
split(Target) ->
    case string:split(unicode:characters_to_binary(Target, latin1), "?") of
        [Path] -> {Path, []};
        [Path, Text] ->
            case uri_string:dissect_query(Text) of
                Query when is_list(Query) -> {Path, [Pair || {_, V} = Pair <- Query, is_binary(V)]};
                {error, _, _} -> {Path, []}
            end
    end.
