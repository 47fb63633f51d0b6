%% HTTP as raw as hostile tests need it: bytes out, an answer in, one connection each.
-module(http_kit).

-export([get/2, get/3, ask/3, ask/4, raw/2, url/1, metrics/1, comes/1]).
-export_type([answer/0]).

-type answer() :: #{code := 100..599, headers := #{binary() => binary()}, body := binary()}.

%% Only ends a test that has failed.
-define(TIMEOUT, 20000).

-spec get(turn_kit:server(), iodata()) -> answer().
get(Server, Path) -> get(Server, Path, []).

-spec get(turn_kit:server(), iodata(), [{iodata(), iodata()}]) -> answer().
get(Server, Path, Headers) -> ask(Server, "GET", Path, Headers).

-spec ask(turn_kit:server(), iodata(), iodata()) -> answer().
ask(Server, Method, Path) -> ask(Server, Method, Path, []).

-spec ask(turn_kit:server(), iodata(), iodata(), [{iodata(), iodata()}]) -> answer().
ask(Server, Method, Path, Headers) ->
    Lines = [[Name, ": ", Value, "\r\n"] || {Name, Value} <- [{"Host", "here"} | Headers]],
    answer(raw(Server, [Method, " ", Path, " HTTP/1.1\r\n", Lines, "\r\n"])).

%% All that comes back until the server closes the connection, which it does after each answer.
-spec raw(turn_kit:server(), iodata()) -> binary().
raw(#{name := Name}, Bytes) ->
    {Ip, Port} = meerkat_http:address(Name),
    {ok, Socket} = gen_tcp:connect(Ip, Port, [binary, {active, false}]),
    _ = gen_tcp:send(Socket, Bytes),
    rest(Socket, <<>>).

rest(Socket, Before) ->
    case gen_tcp:recv(Socket, 0, ?TIMEOUT) of
        {ok, More} -> rest(Socket, <<Before/binary, More/binary>>);
        {error, Reason} when Reason =:= closed; Reason =:= econnreset -> Before
    end.

answer(Bytes) ->
    [Head, Body] = binary:split(Bytes, <<"\r\n\r\n">>),
    [<<"HTTP/1.1 ", Code:3/binary, " ", _/binary>> | Lines] =
        binary:split(Head, <<"\r\n">>, [global]),
    Headers = [{string:lowercase(Name), string:trim(Value)}
               || Line <- Lines, [Name, Value] <- [binary:split(Line, <<":">>)]],
    #{code => binary_to_integer(Code), headers => maps:from_list(Headers), body => Body}.

-spec url(turn_kit:server()) -> string().
url(#{name := Name}) ->
    "http://" ++ meerkat_text:address(meerkat_http:address(Name)).

%% What /metrics says.
-spec metrics(turn_kit:server()) -> exposition:families().
metrics(Server) ->
    #{code := 200, body := Body,
      headers := #{<<"content-type">> := <<"text/plain; version=0.0.4", _/binary>>}} =
        get(Server, "/metrics"),
    exposition:parse(Body).

%% Asks until there is another answer than not_yet; the suite's time trap is the bound.
-spec comes(fun(() -> not_yet | Answer)) -> Answer.
comes(Ask) ->
    case Ask() of
        not_yet ->
            receive after 20 -> ok end,
            comes(Ask);
        Answer ->
            Answer
    end.
