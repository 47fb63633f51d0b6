%% What the libraries for databases fail with, in words for a log. Their terms are not printed:
%% there may be a password in them.
-module(meerkat_database_words).

-export([lost/1, of_server/1]).

%% Why there is no connection, by whatever a library exited with.
-spec lost(term()) -> unicode:chardata().
lost(Reason) ->
    case first(fun known/1, Reason, 6) of
        {ok, Sentence} -> Sentence;
        none -> "the connection ended"
    end.

known(Posix) when is_atom(Posix) ->
    case inet:format_error(Posix) of
        "unknown POSIX error" ++ _ -> none;
        "" -> none;
        _ when Posix =:= closed; Posix =:= tcp_closed -> {ok, "the server closed the connection"};
        Words when Posix =:= timeout -> {ok, ["no answer in time (", Words, ")"]};
        Words -> {ok, Words}
    end;
known({tls_alert, {unknown_ca, _}}) ->
    {ok, "nobody whom this machine trusts vouches for its certificate"};
known({tls_alert, {_, Said}}) ->
    {ok, ["TLS failed: ", meerkat_text:printable(unicode:characters_to_binary(Said))]};
known({starttls, denied}) ->
    {ok, "it takes no TLS"};
known([{Key, _} | _] = Fields) when Key =:= severity; is_integer(Key) ->
    {ok, of_server(Fields)};
known(_) ->
    none.

%% The outermost part of a term that is known.
first(Known, Term, Depth) ->
    case Known(Term) of
        {ok, Sentence} -> {ok, Sentence};
        none when Depth > 0, is_tuple(Term) ->
            hd([Found || Part <- tuple_to_list(Term),
                         {ok, _} = Found <- [first(Known, Part, Depth - 1)]] ++ [none]);
        none -> none
    end.

%% The message of an error that a server of PostgreSQL sent.
-spec of_server([{atom() | integer(), term()}]) -> unicode:chardata().
of_server(Fields) ->
    case lists:keyfind(message, 1, Fields) of
        {_, Message} -> meerkat_text:printable(iolist_to_binary(Message));
        false -> "the server refused"
    end.
