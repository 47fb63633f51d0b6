%% HTTP as text: the head of a request, taken apart by the runtime's own parser
%% (erlang:decode_packet/3), and an answer put together. Pure. GET and HEAD need no body, so a
%% request that announces one is refused.
-module(meerkat_http_message).

-export([request/1, response/4]).

%% Header names in lower case.
-type head() :: #{method := string(), target := binary(), headers := [{string(), string()}]}.

-define(MAX_TARGET, 2048).
-define(MAX_LINE, (?MAX_TARGET + 64)).
-define(MAX_HEADERS, 8192).

%% Parses what has come so far. `more`: the head of the request is not complete yet. error: the
%% request is to be answered with this code and sentence.
-spec request(binary()) -> {ok, head()} | more | {error, 400..599, Sentence :: string()}.
request(Bytes) ->
    case erlang:decode_packet(http_bin, Bytes, []) of
        {ok, {http_request, Method, Target, Version}, Rest} ->
            line(text(Method), target(Target), Version, Rest);
        {ok, _NoRequest, _Rest} ->
            {error, 400, "this is no HTTP request"};
        {more, _} when byte_size(Bytes) > ?MAX_LINE ->
            {error, 414, "too long"};
        {more, _} ->
            more;
        {error, _} ->
            {error, 400, "this is no HTTP request"}
    end.

line(_Method, Target, _Version, _Rest) when byte_size(Target) > ?MAX_TARGET ->
    {error, 414, "too long"};
line(Method, Target, {1, Minor}, Rest) when Minor =:= 0; Minor =:= 1 ->
    case headers(Rest, Rest, []) of
        {ok, Headers} -> checked(#{method => Method, target => Target, headers => Headers}, Minor);
        Other -> Other
    end;
line(_Method, _Target, _Version, _Rest) ->
    {error, 505, "HTTP/1.1 only"}.

headers(All, Rest, _Headers) when byte_size(All) - byte_size(Rest) > ?MAX_HEADERS ->
    {error, 413, "too many headers"};
headers(All, Rest, Headers) ->
    case erlang:decode_packet(httph_bin, Rest, []) of
        {ok, {http_header, _, Name, _, Value}, More} ->
            headers(All, More, [{string:lowercase(text(Name)), text(Value)} | Headers]);
        {ok, http_eoh, _Body} ->
            {ok, lists:reverse(Headers)};
        {ok, _NoHeader, _More} ->
            {error, 400, "this is no header"};
        {more, _} when byte_size(All) > ?MAX_HEADERS ->
            {error, 413, "too many headers"};
        {more, _} ->
            more;
        {error, _} ->
            {error, 400, "this is no header"}
    end.

checked(#{headers := Headers} = Head, Minor) ->
    Has = fun(Name) -> lists:keymember(Name, 1, Headers) end,
    Lengths = [Value || {"content-length", Value} <- Headers, string:trim(Value) =/= "0"],
    Faults = [{Minor =:= 1 andalso not Has("host"), 400, "the header Host is missing"},
              {Has("transfer-encoding"), 413, "a request with a body is not accepted"},
              {not lists:all(fun is_number_text/1, Lengths), 400, "Content-Length is a number"},
              {Lengths =/= [], 413, "a request with a body is not accepted"},
              {Has("expect"), 417, "Expect is not supported"}],
    case [{error, Code, Sentence} || {true, Code, Sentence} <- Faults] of
        [] -> {ok, Head};
        [First | _] -> First
    end.

is_number_text(Text) ->
    Text =/= [] andalso lists:all(fun(C) -> C >= $0 andalso C =< $9 end, Text).

%% As the client wrote it; of a request to a proxy, what is behind the host.
target({abs_path, Path}) -> Path;
target({absoluteURI, _Scheme, _Host, _Port, Path}) -> Path;
target({scheme, Scheme, Rest}) -> <<Scheme/binary, $:, Rest/binary>>;
target('*') -> <<"*">>;
target(Other) -> Other.

text(Atom) when is_atom(Atom) -> atom_to_list(Atom);
text(Bytes) -> binary_to_list(Bytes).

%% The whole answer; the connection ends with it. The answer to a HEAD has the length of the body
%% and not the body.
-spec response(100..599, [{atom() | string(), iodata()}], Body :: binary(), Method :: string()) ->
    iodata().
response(Code, Headers, Body, Method) ->
    Own = [{"date", now_text()}, {"connection", "close"},
           {"content-length", integer_to_list(byte_size(Body))}],
    [io_lib:format("HTTP/1.1 ~b ~s\r\n", [Code, phrase(Code)]),
     [[name(Name), ": ", Value, "\r\n"] || {Name, Value} <- Own ++ Headers], "\r\n",
     [Body || Method =/= "HEAD"]].

name(content_type) -> "content-type";
name(Name) -> Name.

%% RFC 9110 5.6.7.
now_text() ->
    {{Year, Month, Day} = Date, {Hour, Minute, Second}} =
        calendar:system_time_to_universal_time(meerkat_clock:wall_s(), second),
    io_lib:format("~s, ~2..0b ~s ~4..0b ~2..0b:~2..0b:~2..0b GMT",
                  [element(calendar:day_of_the_week(Date),
                           {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}), Day,
                   element(Month, {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}), Year,
                   Hour, Minute, Second]).

phrase(200) -> "OK";
phrase(400) -> "Bad Request";
phrase(401) -> "Unauthorized";
phrase(404) -> "Not Found";
phrase(405) -> "Method Not Allowed";
phrase(408) -> "Request Timeout";
phrase(413) -> "Content Too Large";
phrase(414) -> "URI Too Long";
phrase(417) -> "Expectation Failed";
phrase(429) -> "Too Many Requests";
phrase(500) -> "Internal Server Error";
phrase(503) -> "Service Unavailable";
phrase(505) -> "HTTP Version Not Supported";
phrase(_) -> "".
