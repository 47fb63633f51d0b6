%% What is in the certificate that a client over TLS or DTLS has shown. The relay program has
%% checked that an authority in tls_client_ca issued it. An embedder's modules are told of it, and
%% with the key tls_client_user its names are the only ones that the client may use.
-module(meerkat_client_certificate).

-export([described/1, may_be/4]).
-export_type([shown/0, rule/0]).

%% `subject` as RFC 4514 writes it, the last part first: CN=alice,O=Example. `names` are the
%% alternative names. All but `der` is missing where Erlang cannot read it.
-type shown() :: #{der := binary(),
                   subject => binary(),
                   common_name => binary(),
                   names => [meerkat_certificate:alternative()]}.
%% Which user names its client may use: any, its common name, or one of its alternative names.
-type rule() :: any | cn | san.

-define(COMMON_NAME, {2, 5, 4, 3}).

%% RFC 4514 3, and the two that people put there besides.
-define(SHORT, #{?COMMON_NAME => "CN", {2, 5, 4, 7} => "L", {2, 5, 4, 8} => "ST",
                 {2, 5, 4, 10} => "O", {2, 5, 4, 11} => "OU", {2, 5, 4, 6} => "C",
                 {2, 5, 4, 9} => "STREET", {0, 9, 2342, 19200300, 100, 1, 25} => "DC",
                 {0, 9, 2342, 19200300, 100, 1, 1} => "UID", {2, 5, 4, 5} => "serialNumber",
                 {1, 2, 840, 113549, 1, 9, 1} => "emailAddress"}).

-spec described(Der :: binary()) -> shown().
described(Der) ->
    try public_key:pkix_decode_cert(Der, otp) of
        Decoded ->
            {rdnSequence, Rdns} = element(7, element(2, Decoded)),
            Named = [Name || [{_, ?COMMON_NAME, Value}] <- lists:reverse(Rdns),
                             Name <- [text(Value)]],
            Known = #{der => Der, subject => subject(Rdns),
                      names => meerkat_certificate:alternatives(Decoded)},
            maps:merge(Known, maps:from_list([{common_name, hd(Named)} || Named =/= []]))
    catch
        error:_ -> #{der => Der}    % public_key tells of bad DER by all kinds of errors
    end.

%% May a client that has shown it use that name? Of a time-limited username `expiry:name` the name
%% is compared; an expiry alone is nobody's name, and may not be used.
-spec may_be(User :: binary(), meerkat_auth_rest:order(), rule(), shown()) -> boolean().
may_be(_User, _Order, any, _Shown) ->
    true;
may_be(User, Order, Rule, Shown) ->
    case meerkat_auth_rest:name(User, Order) of
        {ok, Name} -> lists:member(Name, names(Rule, Shown));
        error -> lists:member(User, names(Rule, Shown));
        none -> false
    end.

names(cn, #{common_name := Name}) -> [Name];
names(san, #{names := Names}) -> [Name || {_, Name} <- Names, is_binary(Name)];
names(_, _) -> [].

%%% The subject

subject(Rdns) ->
    iolist_to_binary(lists:join($,, [lists:join($+, [part(P) || P <- Rdn])
                                     || Rdn <- lists:reverse(Rdns)])).

part({_, Type, Value}) ->
    Name = case ?SHORT of
        #{Type := Short} -> Short;
        #{} -> lists:join($., [integer_to_list(N) || N <- tuple_to_list(Type)])
    end,
    [Name, $=, escaped(text(Value))].

%% A directory string is of several kinds; some attributes are of one only.
text({_Kind, Text}) -> text(Text);
text(Text) when is_list(Text); is_binary(Text) ->
    case unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> <<>>
    end;
text(_) -> <<>>.

%% RFC 4514 2.4.
escaped(<<C, Rest/binary>>) when C =:= $\s; C =:= $# -> [$\\, C | escaped_rest(Rest)];
escaped(Text) -> escaped_rest(Text).

escaped_rest(<<$\s>>) -> "\\ ";
escaped_rest(<<0, Rest/binary>>) -> ["\\00" | escaped_rest(Rest)];
escaped_rest(<<C, Rest/binary>>) ->
    case lists:member(C, ",+\"\\<>;") of
        true -> [$\\, C | escaped_rest(Rest)];
        false -> [C | escaped_rest(Rest)]
    end;
escaped_rest(<<>>) -> [].
