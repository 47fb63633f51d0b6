%% The HTTP listener of a server: OTP's httpd with nothing of it but the parsing. Each connection
%% carries one request, GET or HEAD, without a body, and has seconds for it. What is answered is
%% meerkat_http_api's; here are limits and the headers that every answer has.
-module(meerkat_http).

-include_lib("kernel/include/logger.hrl").

-export([start_link/2, address/1, bound/2, forget/2, try_address/1]).
%% httpd calls these.
-export([do/1, response_default_headers/0]).

%% httpd.hrl of inets, which need not be there to build this; http_SUITE compares the two.
-record(init_data, {peername :: {inet:port_number(), string()},
                    sockname :: {inet:port_number(), string()},
                    resolve :: string()}).
-record(mod, {init_data :: #init_data{},
              data = [] :: [term()],
              socket_type = ip_comm :: atom(),
              socket :: term(),
              config_db :: ets:table(),
              method :: string(),
              absolute_uri = [] :: string(),
              request_uri :: string(),
              http_version :: string(),
              request_line :: string(),
              parsed_header = [] :: [{string(), string()}],
              entity_body :: term(),
              connection :: boolean()}).

-type address() :: {inet:ip_address(), inet:port_number()}.

-define(MAX_CLIENTS, 100).
-define(MAX_URI, 2048).
-define(MAX_HEADERS, 8192).
%% A request that is not here after so many seconds, or comes at less than so many bytes per
%% second after the first three, is not waited for.
-define(PATIENCE_S, 10).
-define(BYTES_PER_S, 100).
-define(BIND_AGAIN, 60).
-define(BIND_AGAIN_MS, 100).

%% Listens at Wanted, of the key http_listen, when this returns. {shutdown, Sentence} if that cannot
%% be.
-spec start_link(Name :: atom(), Wanted :: address()) ->
    {ok, pid()} | {error, {shutdown, string()}}.
start_link(Name, Wanted) ->
    {Address, Tries} = case bound(Name, Wanted) of
        none -> {Wanted, 0};
        Before -> {Before, ?BIND_AGAIN}
    end,
    case listen(Name, Address, Tries) of
        {ok, Pid, Bound} ->
            ok = meerkat_store:put(Name, ?MODULE, Wanted, Bound),
            #{http := #{token := Token}} = meerkat_registry:settings(Name),
            ?LOG_NOTICE("serving HTTP on http://~ts/~ts",
                        [meerkat_text:address(Bound),
                         case Token() of
                             undefined -> ", without /credentials: http_token is not set";
                             _ -> ""
                         end]),
            {ok, Pid};
        {error, {_, Sentence}} ->
            {error, {shutdown, Sentence}}
    end.

%% Where a server serves HTTP, if it does.
-spec address(Name :: atom()) -> address() | none.
address(Name) ->
    #{http := #{listen := Wanted}} = meerkat_registry:settings(Name),
    bound(Name, Wanted).

%% Where it listens, or did, as the key http_listen wanted it; the system may have chosen the port.
-spec bound(Name :: atom(), Wanted :: address() | undefined) -> address() | none.
bound(Name, Wanted) ->
    meerkat_store:get(Name, ?MODULE, Wanted).

%% The next one there begins afresh.
-spec forget(Name :: atom(), Wanted :: address()) -> ok.
forget(Name, Wanted) ->
    meerkat_store:delete(Name, ?MODULE, Wanted).

%% Could one listen here? Why not is a reason and a sentence.
-spec try_address(address()) -> ok | {error, {inet:posix() | no_inets, string()}}.
try_address({Ip, Port} = Address) ->
    Options = [family(Ip), {ip, Ip}, {reuseaddr, true}],
    case {code:ensure_loaded(httpd), gen_tcp:listen(Port, Options)} of
        {{module, _}, {ok, Probe}} ->
            gen_tcp:close(Probe);
        {{module, _}, {error, Reason}} ->
            {error, {Reason, cannot(Address, inet:format_error(Reason))}};
        {{error, _}, _} ->
            {error, {no_inets, cannot(Address, "it needs the Erlang application inets (Debian: "
                                               "erlang-inets)")}}
    end.

cannot(Address, Why) ->
    lists:flatten(["cannot serve HTTP on ", meerkat_text:address(Address), ": ", Why]).

%% What was killed at this address may be in the way for a while yet: its port, its name, and
%% connections that httpd waits for.
listen(Name, Address, Tries) ->
    case tried(Name, Address) of
        {error, _} when Tries > 0 ->
            receive after ?BIND_AGAIN_MS -> ok end,
            listen(Name, Address, Tries - 1);
        Outcome ->
            Outcome
    end.

%% httpd says at length what is wrong with an address that is taken, so this is tried before it is.
tried(Name, Address) ->
    case try_address(Address) of
        ok -> httpd(Name, Address);
        {error, Why} -> {error, Why}
    end.

httpd(Name, {Ip, Port} = Address) ->
    case inets:start(httpd, options(Name, Ip, Port), stand_alone) of
        {ok, Pid} ->
            [{{httpd_instance_sup, _, Bound, _}, _, _, _}] = supervisor:which_children(Pid),
            {ok, Pid, {Ip, Bound}};
        {error, Reason} ->
            {error, {httpd, cannot(Address, io_lib:format("~tp", [Reason]))}}
    end.

%% The two directories httpd insists on; no module of it looks there.
options(Name, Ip, Port) ->
    [{bind_address, Ip}, {port, Port}, {ipfamily, family(Ip)},
     {server_name, "meerkat"}, {server_root, "/"}, {document_root, "/"},
     {modules, [?MODULE]}, {customize, ?MODULE}, {server_tokens, none},
     {max_clients, ?MAX_CLIENTS}, {max_uri_size, ?MAX_URI}, {max_header_size, ?MAX_HEADERS},
     {max_body_size, 1}, {max_content_length, 1},
     {keep_alive, false},
     {minimum_bytes_per_second, ?BYTES_PER_S},
     {meerkat, Name}].

family(Ip) when tuple_size(Ip) =:= 4 -> inet;
family(_Ip) -> inet6.

%% For each answer, httpd's own errors too.
-spec response_default_headers() -> [{string(), string()}].
response_default_headers() ->
    [{"cache-control", "no-store"},
     {"x-content-type-options", "nosniff"},
     {"x-frame-options", "DENY"},
     {"referrer-policy", "no-referrer"},
     {"content-security-policy",
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
      "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}].

%% One request. A fault of ours costs its client an answer, and the log gets no more of the request
%% than where it went: a query may hold a token.
-spec do(#mod{}) -> {break, [{response, {response, [{atom(), term()}], iodata()}}]}.
do(#mod{method = Method, parsed_header = Headers, config_db = Db,
        request_uri = Uri, init_data = #init_data{peername = {_, Peer}}}) ->
    {Path, Query} = split(Uri),
    Request = #{method => Method, path => Path, query => Query, headers => Headers,
                peer => ip(Peer)},
    {Code, More, Body} =
        try
            meerkat_http_api:handle(httpd_util:lookup(Db, meerkat), Request)
        catch
            Class:Reason:Stack ->
                complain(Path, Class, Reason, Stack),
                {500, [{content_type, "text/plain"}], <<"something is wrong here\n">>}
        end,
    Sent = case Method of "HEAD" -> <<>>; _ -> Body end,
    Head = [{code, Code}, {content_length, integer_to_list(byte_size(Body))} | More],
    {break, [{response, {response, Head, Sent}}]}.

complain(Path, Class, Reason, Stack) ->
    Where = [{M, F, proplists:get_value(line, Info)} || {M, F, _, Info} <- lists:sublist(Stack, 8)],
    ?LOG_ERROR("no answer to an HTTP request for ~ts: ~tp ~tp in ~tp",
               [meerkat_text:escape(Path), Class, meerkat_crash:reason(Reason), Where]).

%% A query that cannot be read counts as an empty one.
split(Uri) ->
    case string:split(unicode:characters_to_binary(Uri, latin1), "?") of
        [Path] -> {Path, []};
        [Path, Text] ->
            case uri_string:dissect_query(Text) of
                Query when is_list(Query) -> {Path, [Pair || {_, V} = Pair <- Query, is_binary(V)]};
                {error, _, _} -> {Path, []}
            end
    end.

ip(Peer) ->
    case inet:parse_address(Peer) of
        {ok, Ip} -> Ip;
        {error, _} -> {0, 0, 0, 0}
    end.
