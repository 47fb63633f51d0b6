%% How a directory that is asked by LDAP is named in the configuration: words like
%% `host=ldap.example.com base='ou=people,dc=example,dc=com' password_attribute=turnPassword`. Pure.
-module(meerkat_config_ldap).

-export([text/1, is_value/1, allowed/0, render/1]).

-export_type([connection/0]).

%% `base`: the entry below which users are. `name`, `realm`, `password_attribute`, `key_attribute`
%% and `sha256_attribute` are names of attributes. `where`: an attribute and its value, which an
%% entry needs to be a user's. `binddn` and `password`: as whom the server asks.
-type connection() :: #{kind := ldap, host := binary(), port := inet:port_number(),
                        tls := starttls | ldaps | no, ca_file => binary(),
                        base := binary(), name := binary(), realm => binary(),
                        where => {Attribute :: binary(), Value :: binary()},
                        password_attribute => binary(), key_attribute => binary(),
                        sha256_attribute => binary(),
                        binddn => binary(), password => binary()}.

%% Passwords come over this connection in clear, so it is encrypted unless somebody says no.
-define(DEFAULTS, #{kind => ldap, host => <<"localhost">>, tls => starttls, name => <<"uid">>}).

-spec text(binary()) -> {ok, connection()} | error.
text(Text) ->
    case meerkat_config_words:pairs(Text) of
        {ok, Pairs} -> whole([field(Name, Value) || {Name, Value} <- Pairs]);
        error -> error
    end.

field(<<"host">>, <<_, _/binary>> = Host) -> {host, Host};
field(<<"port">>, Text) ->
    case string:to_integer(Text) of
        {Port, <<>>} when Port > 0, Port < 65536 -> {port, Port};
        _ -> error
    end;
field(<<"tls">>, <<"starttls">>) -> {tls, starttls};
field(<<"tls">>, <<"ldaps">>) -> {tls, ldaps};
field(<<"tls">>, <<"no">>) -> {tls, no};
field(<<"ca_file">>, <<_, _/binary>> = File) -> {ca_file, File};
field(<<"base">>, Base) -> {base, Base};
field(<<"where">>, Text) ->
    case binary:split(Text, <<"=">>) of
        [Attribute, <<_, _/binary>> = Value] -> named(where, Attribute, {Attribute, Value});
        _ -> error
    end;
field(<<"binddn">>, <<_, _/binary>> = Dn) -> {binddn, Dn};
field(<<"password">>, <<_, _/binary>> = Password) -> {password, Password};
field(<<"name">>, Attribute) -> named(name, Attribute, Attribute);
field(<<"realm">>, Attribute) -> named(realm, Attribute, Attribute);
field(<<"password_attribute">>, Attribute) -> named(password_attribute, Attribute, Attribute);
field(<<"key_attribute">>, Attribute) -> named(key_attribute, Attribute, Attribute);
field(<<"sha256_attribute">>, Attribute) -> named(sha256_attribute, Attribute, Attribute);
field(_, _) -> error.

%% RFC 4512 1.4: a name, or numbers.
named(Key, Attribute, Value) ->
    Name = "^[A-Za-z0-9][A-Za-z0-9.-]{0,127}$",
    case re:run(Attribute, Name, [{capture, none}, dollar_endonly]) of
        match -> {Key, Value};
        nomatch -> error
    end.

whole(Fields) ->
    case lists:member(error, Fields) of
        true -> error;
        false -> complete(maps:merge(?DEFAULTS, maps:from_list(Fields)))
    end.

%% Without a password a bind would succeed whatever the name is (RFC 4513 5.1.2).
complete(#{base := _} = All) ->
    Proofs = map_size(maps:with([password_attribute, key_attribute], All)),
    Binds = map_size(maps:with([binddn, password], All)),
    case Proofs > 0 andalso Binds =/= 1 of
        true -> {ok, maps:merge(#{port => port(All)}, All)};
        false -> error
    end;
complete(#{}) ->
    error.

port(#{tls := ldaps}) -> 636;
port(#{}) -> 389.

-spec is_value(term()) -> boolean().
is_value(#{kind := ldap, host := Host, port := Port, tls := Tls, base := Base, name := Name}) ->
    is_binary(Host) andalso is_integer(Port) andalso is_atom(Tls) andalso is_binary(Base)
        andalso is_binary(Name);
is_value(_) ->
    false.

-spec allowed() -> unicode:chardata().
allowed() ->
    <<"words like host=ldap.example.com base='ou=people,dc=example,dc=com' "
      "password_attribute=turnPassword, or key_attribute=..., with "
      "binddn='cn=turn,dc=example,dc=com' and password=... where the directory asks for them, and "
      "tls=starttls, ldaps or no">>.

%% Which one it is; as whom it is asked, without the password.
-spec render(connection()) -> unicode:chardata().
render(#{host := Host, port := Port, tls := Tls, base := Base} = Connection) ->
    [case Tls of ldaps -> "ldaps://"; _ -> "ldap://" end,
     [[meerkat_text:escape(Dn), ":(not shown)@"] || #{binddn := Dn} <- [Connection]],
     meerkat_text:escape(Host), $:, integer_to_binary(Port), $/, meerkat_text:escape(Base)].
