%% Values that name web servers: where TLS connections go which are not for this server, by the
%% names that clients ask for (SNI), and URLs that we ask ourselves. Part of meerkat_config_value.
-module(meerkat_config_web).

-export([text/2, is_value/2, allowed/1, render/2]).
-export_type([type/0, backend/0]).

-type type() :: server_name | web_server | url.
%% For one name, in small letters, or for any other.
-type backend() :: {binary() | any, {inet:ip_address(), inet:port_number()}}.

%% What a NAME of SNI has at most.
-define(NAME_MAX, 255).

-define(URL_MAX, 2000).
-define(NAME, "(?:\\*\\.)?[A-Za-z0-9_-]+(?:\\.[A-Za-z0-9_-]+)*").

-spec text(type(), binary()) -> {ok, binary() | backend()} | error.
text(server_name, Text) ->
    name(Text);
text(url, Text) ->
    case is_value(url, Text) of true -> {ok, Text}; false -> error end;
text(web_server, Text) ->
    case binary:split(Text, <<"=">>) of
        [Address] -> backend({ok, any}, Address);
        [Name, Address] -> backend(name(Name), Address)
    end.

%% One that we connect to: it may be loopback. Its address is written out, and so is its port.
backend({ok, Name}, Text) ->
    HasAddress = binary:match(Text, <<":">>) =/= nomatch,
    case HasAddress andalso meerkat_config_address:text(http_address, Text) of
        {ok, {_Ip, Port} = Address} when Port > 0 -> {ok, {Name, Address}};
        _ -> error
    end;
backend(error, _Text) ->
    error.

name(Text) ->
    case byte_size(Text) =< ?NAME_MAX andalso re:run(Text, "^" ?NAME "$", [dollar_endonly]) of
        {match, _} -> {ok, string:lowercase(Text)};
        _ -> error
    end.

%% A list of them has as many as the relay has room for.
-spec is_value(type() | {list, type()}, term()) -> boolean().
is_value(server_name, Name) ->
    is_binary(Name) andalso name(Name) =:= {ok, Name};
is_value(url, Text) ->
    is_binary(Text) andalso byte_size(Text) =< ?URL_MAX andalso is_url(uri_string:parse(Text));
is_value(web_server, {Name, {Ip, Port}}) ->
    (Name =:= any orelse is_value(server_name, Name)) andalso inet:is_ip_address(Ip)
        andalso is_integer(Port) andalso Port > 0 andalso Port < 65536;
is_value({list, Type}, Values) ->
    %% Names of ours and of web servers share the room.
    is_list(Values) andalso length(Values) =< meerkat_ctl:limit(web_names_max) div 2
        andalso lists:all(fun(Value) -> is_value(Type, Value) end, Values)
        andalso no_name_twice([case V of {Name, _} -> Name; _ -> V end || V <- Values]);
is_value(_, _) ->
    false.

%% Who asks is told by a key of its own: a URL is shown in logs.
is_url(#{scheme := Scheme, host := Host} = Url) ->
    lists:member(Scheme, [<<"http">>, <<"https">>]) andalso Host =/= <<>>
        andalso not is_map_key(userinfo, Url) andalso not is_map_key(fragment, Url);
is_url(_) ->
    false.

no_name_twice(Names) ->
    length(lists:usort(Names)) =:= length(Names).

-spec allowed(type() | {list, type()}) -> unicode:chardata().
allowed({list, server_name}) ->
    most(<<"names like turn.example.com or *.example.com">>);
allowed({list, web_server}) ->
    most(<<"an address with a port, if wanted with a name before it: 127.0.0.1:8443, "
           "www.example.com=10.0.0.7:443, *.example.com=[2001:db8::7]:443; each name once, and at "
           "most once none">>);
allowed(server_name) ->
    <<"a name like turn.example.com, or *.example.com for any one label">>;
allowed(url) ->
    <<"a URL like https://www.example.com/path or http://127.0.0.1:8080/, without user or "
      "password">>;
allowed(web_server) ->
    <<"an IP address and a port, if wanted with a name before it, like 127.0.0.1:8443 or "
      "www.example.com=10.0.0.7:443">>.

most(What) ->
    [What, io_lib:format(" (in a file a list of texts, in the environment separated by commas, at "
                         "most ~b)", [meerkat_ctl:limit(web_names_max) div 2])].

-spec render(type(), binary() | backend()) -> unicode:chardata().
render(server_name, Name) -> Name;
render(url, Url) -> Url;
render(web_server, {any, Address}) -> meerkat_text:address(Address);
render(web_server, {Name, Address}) -> [Name, $=, meerkat_text:address(Address)].
