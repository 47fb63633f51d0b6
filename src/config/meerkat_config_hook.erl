%% How a web server that is asked about users is named in the configuration: a URL, or words like
%% `url=https://hooks.example.com/turn token=... address=no`. Pure.
-module(meerkat_config_hook).

-export([text/1, is_value/1, allowed/0, render/1]).

-export_type([connection/0]).

%% `token`: what it is shown. `address`: whether it is told where a client is, and asked for each
%% address anew.
-type connection() :: #{kind := http, url := binary(), token => binary(), ca_file => binary(),
                        address := boolean()}.

-spec text(binary()) -> {ok, connection()} | error.
text(<<"http", _/binary>> = Url) ->
    whole([field(<<"url">>, Url)]);
text(Text) ->
    case meerkat_config_words:pairs(Text) of
        {ok, Pairs} -> whole([field(Name, Value) || {Name, Value} <- Pairs]);
        error -> error
    end.

field(<<"url">>, Url) ->
    case is_url(Url) of
        true -> {url, Url};
        false -> error
    end;
%% Of printable characters, as a header needs it.
field(<<"token">>, Token) ->
    case is_printable(Token) of
        true -> {token, Token};
        false -> error
    end;
field(<<"ca_file">>, <<_, _/binary>> = File) -> {ca_file, File};
field(<<"address">>, <<"yes">>) -> {address, true};
field(<<"address">>, <<"no">>) -> {address, false};
field(_, _) -> error.

is_url(Text) ->
    case uri_string:parse(Text) of
        #{scheme := Scheme, host := <<_, _/binary>>} = Uri
          when Scheme =:= <<"http">>; Scheme =:= <<"https">> ->
            not is_map_key(userinfo, Uri) andalso not is_map_key(fragment, Uri)
                andalso is_printable(Text);
        _ ->
            false
    end.

is_printable(Text) ->
    re:run(Text, "^[!-~]{1,1023}$", [{capture, none}, dollar_endonly]) =:= match.

whole(Fields) ->
    case {lists:member(error, Fields), maps:from_list([Field || {_, _} = Field <- Fields])} of
        {false, #{url := _} = All} -> {ok, maps:merge(#{kind => http, address => true}, All)};
        {_, _} -> error
    end.

-spec is_value(term()) -> boolean().
is_value(#{kind := http, url := Url, address := Address}) ->
    is_binary(Url) andalso is_url(Url) andalso is_boolean(Address);
is_value(_) ->
    false.

-spec allowed() -> unicode:chardata().
allowed() ->
    <<"a URL like https://hooks.example.com/turn, or words like url=https://hooks.example.com/turn "
      "token=..., with address=yes or no, and ca_file=...">>.

-spec render(connection()) -> unicode:chardata().
render(#{url := Url}) -> meerkat_text:escape(Url).
