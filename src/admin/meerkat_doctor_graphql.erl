%% MongooseIM's GraphQL interface for administrators (6.6 and later), as far as asking which
%% external services it tells the users of a domain of. What its answers look like is known here
%% only.
-module(meerkat_doctor_graphql).

-export([services/1]).

-define(TIMEOUT, 10000).

%% The services as XEP-0215 has them, all values text; or what went wrong, as a sentence.
-spec services(#{graphql := binary(), user := binary(), password := binary(), domain := binary(),
                 _ => _}) ->
    {ok, [meerkat_xmpp_user:service()]} | {error, unicode:chardata()}.
services(#{graphql := Url, domain := Domain} = Options) ->
    case uri_string:parse(Url) of
        #{scheme := Scheme, host := Host} when Scheme =:= <<"http">>; Scheme =:= <<"https">> ->
            case meerkat_tls_client:is_there() of
                true ->
                    Name = unicode:characters_to_list(Host),
                    asked(post(Url, Name, question(Domain), Options), Url);
                false ->
                    {error, "this needs Erlang's ssl (Debian: erlang-ssl)"}
            end;
        _ ->
            {error, ["--graphql must be a URL like http://localhost:5551/api/graphql, not ", Url]}
    end.

%% A string is written in GraphQL as in JSON: no text of the command line becomes part of the
%% question itself.
question(Domain) ->
    Literal = meerkat_json:encode(Domain),
    meerkat_json:encode(
        #{query => <<"mutation { externalServices { getServices(domain: ", Literal/binary, ") "
                     "{ host port transport type username password expires } } }">>}).

post(Url, Host, Body, #{user := User, password := Password} = Options) ->
    {ok, _} = application:ensure_all_started(inets),
    Basic = base64:encode_to_string(<<User/binary, $:, Password/binary>>),
    Request = {unicode:characters_to_list(Url), [{"authorization", "Basic " ++ Basic}],
               "application/json", iolist_to_binary(Body)},
    httpc:request(post, Request,
                  [{timeout, ?TIMEOUT}, {connect_timeout, ?TIMEOUT}, {autoredirect, false},
                   {ssl, meerkat_tls_client:options(Host, Options)}],
                  [{body_format, binary}]).

asked({ok, {{_, 401, _}, _, _}}, Url) ->
    {error, [Url, " refuses this user and password"]};
asked({ok, {{_, Status, _}, _, Body}}, Url) ->
    case meerkat_json:decode(Body) of
        {ok, #{<<"errors">> := [#{<<"message">> := Message} = Error | _]}} ->
            {error, [Url, " answers: ", meerkat_text:escape(Message), code(Error)]};
        {ok, #{<<"data">> := #{<<"externalServices">> := #{<<"getServices">> := Services}}}}
          when is_list(Services) ->
            {ok, [service(Service) || Service <- Services]};
        _ ->
            {error, [Url, " answers with status ", integer_to_list(Status),
                     " and nothing that MongooseIM would say"]}
    end;
asked({error, Reason}, Url) ->
    {error, ["no answer from ", Url, ": ", words(Reason)]}.

code(#{<<"extensions">> := #{<<"code">> := Code}}) when is_binary(Code) ->
    [" (", meerkat_text:escape(Code), ")"];
code(_) ->
    "".

words({failed_connect, Details}) ->
    case lists:keyfind(inet, 1, Details) of
        {inet, _, Reason} when is_atom(Reason) -> inet:format_error(Reason);
        {inet, _, Reason} -> meerkat_tls_client:reason(Reason);
        false -> "it cannot be reached"
    end;
words(timeout) ->
    "it takes too long";
words(Reason) ->
    io_lib:format("~0tp", [Reason]).

%% What is not set is null; times and ports are numbers.
service(Service) ->
    maps:from_list([{Key, text(Key, Value)} || {Key, Value} <- maps:to_list(Service),
                                               Value =/= null]).

text(<<"expires">>, Seconds) when is_integer(Seconds) ->
    list_to_binary(calendar:system_time_to_rfc3339(Seconds, [{offset, "Z"}]));
text(<<"type">>, Type) -> string:lowercase(Type);
text(<<"transport">>, Transport) -> string:lowercase(Transport);
text(_Key, Number) when is_integer(Number) -> integer_to_binary(Number);
text(_Key, Text) -> Text.
