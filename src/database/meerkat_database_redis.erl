%% Redis with coturn's keys, by the library eredis. Commands are arrays of words, so no value is
%% ever taken for another part of one.
%%
%%   turn/realm/REALM/user/NAME/key         the key of a user, as `hmackey` of coturn's tables
%%   turn/realm/REALM/user/NAME/sha256key   our own: that key again, and the one for SHA-256
%%   turn/realm/REALM/secret                a set of secrets
%%   turn/realm/REALM/allowed-peer-ip       sets of ranges of addresses, of no realm too
%%   turn/realm/REALM/denied-peer-ip
%%   turn/realm/REALM/OPTION                a number: max-bps, total-quota, user-quota
-module(meerkat_database_redis).
-behaviour(meerkat_database).

-export([connect/1, describe/1, ask/2, change/2, list/2, query/3, commands/2]).

-define(CONNECT_MS, 3000).
%% More keys than any has.
-define(ALL, 1000000000).
%% The pool gives up sooner.
-define(QUERY_MS, 60000).

-spec describe(map()) -> unicode:chardata().
describe(#{host := Host, port := Port, database := Database}) ->
    ["Redis at ", meerkat_text:escape(Host), $:, integer_to_list(Port), $/, Database].

-spec connect(map()) -> {ok, meerkat_database:connection()} | meerkat_database:failure().
connect(#{host := Host, port := Port, database := Database} = Options) ->
    Password = binary_to_list(maps:get(password, Options, <<>>)),
    case eredis_client:start_link(binary_to_list(Host), Port, binary_to_integer(Database),
                                  Password, no_reconnect, ?CONNECT_MS) of
        {ok, Client} ->
            %% Its state has the password, and would be printed where it fails.
            _ = sys:replace_state(Client, fun(State) -> setelement(4, State, <<>>) end),
            %% The library's process ends with reason normal when the server closes the connection.
            _ = erlang:monitor(process, Client),
            {ok, {?MODULE, Client}};
        {error, Reason} ->
            {error, why(Reason)}
    end.

why({authentication_error, Reason}) when is_binary(Reason) -> meerkat_text:printable(Reason);
why({select_error, Reason}) when is_binary(Reason) -> meerkat_text:printable(Reason);
why(Reason) -> meerkat_database_words:lost(Reason).

-spec ask(meerkat_database:question(), pid()) ->
    {ok, meerkat_database:answer()} | meerkat_database:failure().
ask({user, Realm, Name}, Client) ->
    case sent(Client, [<<"MGET">>, key(Realm, Name), sha256key(Realm, Name)]) of
        {ok, [Key, Own]} -> {ok, {user, keys(Key, Own)}};
        {error, Why} -> {error, Why}
    end;
ask({secrets, Realm}, Client) ->
    case sent(Client, [<<"SMEMBERS">>, secrets(Realm)]) of
        {ok, Secrets} -> {ok, {secrets, [Secret || Secret <- Secrets, Secret =/= <<>>]}};
        {error, Why} -> {error, Why}
    end.

%% A key of SHA-256 counts only with the MD5 key that it was written with: a program that knows only
%% that key may have changed it since.
keys(undefined, _Own) ->
    none;
keys(Key, Own) ->
    case meerkat_database:text_key(Key) of
        {md5, Md5} -> maps:merge(#{md5 => Md5}, own(Key, Own));
        _ -> none
    end.

own(Key, Own) when is_binary(Own) ->
    case binary:split(Own, <<" ">>) of
        [Key, Text] -> maps:from_list([Known || {sha256, _} = Known
                                                    <- [meerkat_database:text_key(Text)]]);
        _ -> #{}
    end;
own(_Key, undefined) ->
    #{}.

-spec change(meerkat_database:change(), pid()) -> ok | none | meerkat_database:failure().
change({add_user, Realm, Name, #{md5 := Md5} = Keys}, Client) ->
    Hex = meerkat_database:key_text(Md5),
    Own = [[sha256key(Realm, Name), <<Hex/binary, " ", (meerkat_database:key_text(Sha256))/binary>>]
           || #{sha256 := Sha256} <- [Keys]],
    done(sent(Client, [<<"MSET">>, key(Realm, Name), Hex | lists:append(Own)]));
change({remove_user, Realm, Name}, Client) ->
    case sent(Client, [<<"DEL">>, key(Realm, Name)]) of
        {ok, <<"0">>} -> none;
        {ok, _} -> done(sent(Client, [<<"DEL">>, sha256key(Realm, Name)]));
        {error, Why} -> {error, Why}
    end;
change({add_secret, Realm, Secret}, Client) -> added(secrets(Realm), Secret, Client);
change({remove_secret, Realm, Secret}, Client) -> removed(secrets(Realm), Secret, Client);
change({add_peer, Kind, Realm, Range}, Client) -> added(peers(Kind, Realm), Range, Client);
change({remove_peer, Kind, Realm, Range}, Client) -> removed(peers(Kind, Realm), Range, Client);
change({set_option, Realm, Option, Value}, Client) ->
    done(sent(Client, [<<"SET">>, option(Realm, Option), Value]));
change({unset_option, Realm, Option}, Client) ->
    case sent(Client, [<<"DEL">>, option(Realm, Option)]) of
        {ok, <<"0">>} -> none;
        {ok, _} -> ok;
        {error, Why} -> {error, Why}
    end.

added(Set, Member, Client) -> done(sent(Client, [<<"SADD">>, Set, Member])).

removed(Set, Member, Client) ->
    case sent(Client, [<<"SREM">>, Set, Member]) of
        {ok, <<"0">>} -> none;
        {ok, _} -> ok;
        {error, Why} -> {error, Why}
    end.

done({ok, _}) -> ok;
done({error, Why}) -> {error, Why}.

%% With SCAN, some keys at a time: KEYS would block the database for all others.
-spec list(meerkat_database:listing(), pid()) -> {ok, [binary()]} | meerkat_database:failure().
list(realms, Client) ->
    case scan(Client, <<"0">>, {0, 0}, <<"turn/realm/*">>, ?ALL, []) of
        {ok, Keys} -> {ok, lists:usort(lists:append([realm_of(Key) || Key <- Keys]))};
        {error, Why} -> {error, Why}
    end;
list({users, Realm, Max}, Client) ->
    [Before, After] = binary:split(key(Realm, <<0>>), <<0>>),
    scan(Client, <<"0">>, {byte_size(Before), byte_size(After)},
         <<(literally(Before))/binary, "*", After/binary>>, Max, []);
list({secrets, Realm}, Client) ->
    sent(Client, [<<"SMEMBERS">>, secrets(Realm)]);
list({peers, Kind, Realm}, Client) ->
    sent(Client, [<<"SMEMBERS">>, peers(Kind, Realm)]);
list({option, Realm, Option}, Client) ->
    case sent(Client, [<<"GET">>, option(Realm, Option)]) of
        {ok, undefined} -> {ok, []};
        {ok, Value} -> {ok, [Value]};
        {error, Why} -> {error, Why}
    end.

%% Of a key that is read here.
realm_of(Key) ->
    Options = [Option || {_, Option} <- meerkat_database:limits()],
    Ends = lists:join($|, [<<"user/.*/key">>, <<"secret">>, <<"allowed-peer-ip">>,
                           <<"denied-peer-ip">> | Options]),
    case re:run(Key, ["^turn/realm/(.*?)/(?:", Ends, ")$"],
                [dotall, dollar_endonly, {capture, all_but_first, binary}]) of
        {match, [Realm]} -> [Realm];
        nomatch -> []
    end.

scan(Client, Cursor, {Before, After} = Around, Pattern, Max, Found) ->
    case sent(Client, [<<"SCAN">>, Cursor, <<"MATCH">>, Pattern, <<"COUNT">>, <<"1000">>]) of
        {ok, [Next, Keys]} ->
            Names = [binary:part(Key, Before, byte_size(Key) - Before - After) || Key <- Keys],
            case {Next, Names ++ Found} of
                {<<"0">>, All} -> {ok, lists:sublist(lists:usort(All), Max)};
                {_, Some} when length(Some) >= Max -> {ok, lists:sublist(lists:usort(Some), Max)};
                {_, Some} -> scan(Client, Next, Around, Pattern, Max, Some)
            end;
        {error, Why} ->
            {error, Why}
    end.

%% A pattern that fits this text only.
literally(Text) -> re:replace(Text, "[][*?\\\\^]", "\\\\&", [global, {return, binary}]).

%% A command, by its name and its words.
-spec query(iodata(), [meerkat_database:value()], pid()) ->
    {ok, meerkat_database:result()} | meerkat_database:failure().
query(Command, Values, Client) ->
    case sent(Client, [iolist_to_binary(Command) | [word(Value) || Value <- Values]]) of
        {ok, undefined} -> {ok, {rows, []}};
        {ok, Texts} when is_list(Texts) -> {ok, {rows, [[text(Text)] || Text <- Texts]}};
        {ok, Text} -> {ok, {rows, [[Text]]}};
        {error, Why} -> {error, Why}
    end.

-spec commands([[binary(), ...]], pid()) -> {ok, done} | meerkat_database:failure().
commands([], _Client) ->
    {ok, done};
commands(Commands, Client) ->
    case eredis:qp(Client, Commands, ?QUERY_MS) of
        Answers when is_list(Answers) ->
            hd([{error, meerkat_text:printable(Why)} || {error, Why} <- Answers] ++ [{ok, done}]);
        {error, Lost} ->
            exit({no_connection, meerkat_database_words:lost(Lost)})
    end.

word(null) -> <<>>;
word(Number) when is_integer(Number) -> integer_to_binary(Number);
word(Text) -> Text.

text(undefined) -> null;
text(Text) -> Text.

sent(Client, Words) ->
    case eredis:q(Client, Words, ?QUERY_MS) of
        {ok, Answer} -> {ok, Answer};
        {error, Why} when is_binary(Why) -> {error, meerkat_text:printable(Why)};
        {error, Lost} -> exit({no_connection, meerkat_database_words:lost(Lost)})
    end.

key(Realm, Name) -> of_user(Realm, Name, <<"/key">>).

sha256key(Realm, Name) -> of_user(Realm, Name, <<"/sha256key">>).

of_user(Realm, Name, What) -> <<"turn/realm/", Realm/binary, "/user/", Name/binary, What/binary>>.

secrets(Realm) -> <<"turn/realm/", Realm/binary, "/secret">>.

option(Realm, Option) -> <<"turn/realm/", Realm/binary, "/", Option/binary>>.

peers(allowed, Realm) -> <<"turn/realm/", Realm/binary, "/allowed-peer-ip">>;
peers(denied, Realm) -> <<"turn/realm/", Realm/binary, "/denied-peer-ip">>.
