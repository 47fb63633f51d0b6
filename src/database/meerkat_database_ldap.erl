%% A directory, asked by LDAP with OTP's eldap. An attribute of a user's entry has the password, or
%% the key that is made of it, and we must be able to read it: clients never send the password, only
%% a MESSAGE-INTEGRITY made with it, so we cannot bind as the user instead. Filters are terms and
%% not text, so a name in them is always a value. The directory is only read.
-module(meerkat_database_ldap).
-behaviour(meerkat_database).

-export([connect/1, describe/1, ask/2, list/2]).

-define(CONNECT_MS, 3000).
%% The pool gives up sooner.
-define(ANSWER_MS, 60000).
%% Entries of names that differ in case only, for all of them come.
-define(ALIKE_MAX, 100).

%% What is wrong with the server's certificate, told by the process that looks at it.
-define(FAULT, '$meerkat_database_ldap_fault').

%% The key of the connection in the dictionary of its process. Directories close idle connections:
%% then it is made anew, at most once for a question.
-define(HANDLE, '$meerkat_database_ldap_handle').

%% The options in a fun, because of the password in there.
-type directory() :: fun(() -> map()).

-spec describe(map()) -> unicode:chardata().
describe(#{host := Host, port := Port, base := Base}) ->
    ["LDAP at ", meerkat_text:escape(Host), $:, integer_to_list(Port), " below ",
     meerkat_text:escape(Base)].

-spec connect(map()) -> {ok, meerkat_database:connection()} | meerkat_database:failure().
connect(Options) ->
    case open(Options) of
        ok -> {ok, {?MODULE, fun() -> Options end}};
        {error, Why} -> {error, Why}
    end.

open(#{tls := Tls} = Options) ->
    case Tls =:= no orelse meerkat_tls_client:is_there() of
        true -> opened(eldap:open([host(Options)], given(Options)), Options);
        false -> {error, "tls needs Erlang's ssl (Debian: erlang-ssl)"}
    end.

host(#{host := Host}) -> binary_to_list(Host).

given(#{port := Port, tls := Tls} = Options) ->
    [{port, Port}, {timeout, ?CONNECT_MS},
     {tcpopts, meerkat_database_address:family(host(Options))}]
        ++ case Tls of
               ldaps -> [{ssl, true}, {sslopts, tls(Options)}];
               _ -> []
           end.

tls(Options) ->
    Host = host(Options),
    Reference = case inet:parse_strict_address(Host) of {ok, Ip} -> Ip; {error, _} -> Host end,
    Asker = self(),
    Report = fun(Fault) -> Asker ! {?FAULT, Fault} end,
    Authority = maps:from_list([{cacert, File} || #{ca_file := File} <- [Options]]),
    meerkat_tls_client:options(Reference, Authority#{report => Report}).

opened({ok, Handle}, #{tls := starttls} = Options) ->
    case eldap:start_tls(Handle, tls(Options), ?CONNECT_MS) of
        ok -> bound(Handle, Options);
        {error, {response, _}} -> closed(Handle, "it knows no StartTLS");
        {error, Reason} -> closed(Handle, tls_failed(Reason))
    end;
opened({ok, Handle}, Options) ->
    bound(Handle, Options);
opened({error, _}, Options) ->
    {error, unreachable(Options)}.

tls_failed(Reason) ->
    receive {?FAULT, Fault} -> meerkat_tls_client:format_fault(Fault)
    after 0 -> ["TLS failed: ", meerkat_database_words:lost(Reason)]
    end.

%% eldap does not say why it could not connect.
unreachable(#{port := Port} = Options) ->
    Host = host(Options),
    case gen_tcp:connect(Host, Port, meerkat_database_address:family(Host), ?CONNECT_MS) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            tls_failed(no_tls);
        {error, Reason} ->
            meerkat_database_words:lost(Reason)
    end.

closed(Handle, Why) ->
    _ = eldap:close(Handle),
    {error, Why}.

bound(Handle, #{binddn := Dn, password := Password}) ->
    case eldap:simple_bind(Handle, bytes(Dn), bytes(Password)) of
        ok -> kept(Handle);
        {error, invalidCredentials} -> closed(Handle, "it knows no binddn with this password");
        {error, Reason} -> closed(Handle, said(Reason))
    end;
bound(Handle, #{}) ->
    kept(Handle).

kept(Handle) ->
    _ = put(?HANDLE, Handle),
    ok.

%%% Questions

-spec ask(meerkat_database:question(), directory()) ->
    {ok, meerkat_database:answer()} | meerkat_database:failure().
ask({user, Realm, Name}, Directory) ->
    #{name := Attribute} = Options = Directory(),
    Filter = [equal(Attribute, Name) | users(Realm, Options)],
    case found(Filter, attributes(Options), ?ALIKE_MAX, Options) of
        {ok, Entries} ->
            %% Names that differ in case or blanks are the same to a directory; their keys differ.
            Same = [Entry || Entry <- Entries, lists:member(Name, values(Attribute, Entry))],
            user(Same, Options);
        {error, Why} ->
            {error, Why}
    end;
%% Secrets of time-limited credentials are no user's.
ask({secrets, _Realm}, _Directory) ->
    {ok, {secrets, []}}.

attributes(Options) ->
    [Attribute || Key <- [name, password_attribute, key_attribute, sha256_attribute],
                  #{Key := Attribute} <- [Options]].

users(Realm, Options) ->
    [equal(Attribute, Realm) || #{realm := Attribute} <- [Options]]
        ++ [equal(Attribute, Value) || #{where := {Attribute, Value}} <- [Options]].

equal(Attribute, Value) -> eldap:equalityMatch(bytes(Attribute), bytes(Value)).

user([], _Options) ->
    {ok, {user, none}};
user([Entry], Options) ->
    case keys(Entry, Options) of
        {error, Why} -> {error, Why};
        Keys -> {ok, {user, Keys}}
    end;
user([_ | _] = Entries, _Options) ->
    {error, ["there are ", integer_to_list(length(Entries)), " entries of one user's name"]}.

%% If the entry has both, the key is used and not the password.
keys(Entry, Options) ->
    Of = fun(Key) -> [Value || #{Key := Attribute} <- [Options],
                               Value <- values(Attribute, Entry)] end,
    Keys = [Key || Which <- [key_attribute, sha256_attribute], Text <- Of(Which),
                   {_, _} = Key <- [meerkat_database:text_key(Text)]],
    case maps:from_list(Keys) of
        #{md5 := _} = Known -> Known;
        #{} -> password(Of(password_attribute), Options)
    end.

%% RFC 3112 and what servers do: a value may begin with the name of a hash, {SSHA}.
password([], _Options) ->
    none;
password(Values, #{password_attribute := Attribute}) ->
    case [Clear || Value <- Values, Clear <- [clear(Value)], Clear =/= hash] of
        [Password] ->
            #{password => Password};
        [] ->
            {error, [meerkat_text:escape(Attribute), " of a user has a hash of the password, with "
                     "which no request can be proven; it takes the password itself, or "
                     "key_attribute"]};
        [_ | _] ->
            {error, [meerkat_text:escape(Attribute), " of a user has several values"]}
    end.

clear(<<"{", _/binary>> = Value) ->
    case re:run(Value, "^{([A-Za-z0-9/._-]+)}(.*)$",
                [{capture, all_but_first, binary}, dotall, dollar_endonly]) of
        {match, [Scheme, Rest]} ->
            case string:lowercase(Scheme) of
                Plain when Plain =:= <<"clear">>; Plain =:= <<"cleartext">> -> Rest;
                _ -> hash
            end;
        nomatch ->
            Value
    end;
clear(Value) ->
    Value.

%% The names of users, as many as the directory gives.
-spec list(meerkat_database:listing(), directory()) ->
    {ok, [binary()]} | meerkat_database:failure().
list({users, Realm, Max}, Directory) ->
    #{name := Attribute} = Options = Directory(),
    Filter = [eldap:present(bytes(Attribute)) | users(Realm, Options)],
    case found(Filter, [Attribute], Max, Options) of
        {ok, Entries} ->
            Names = [Name || Entry <- Entries, Name <- values(Attribute, Entry)],
            {ok, lists:sublist(lists:usort(Names), Max)};
        {error, Why} ->
            {error, Why}
    end.

%%% The connection

found(Filter, Attributes, Max, #{base := Base} = Options) ->
    Search = [{base, bytes(Base)}, {filter, eldap:'and'(Filter)}, {size_limit, Max},
              {attributes, [bytes(Attribute) || Attribute <- Attributes]},
              {deref, eldap:neverDerefAliases()}, {timeout, ?ANSWER_MS div 1000}],
    case searched(Search) of
        lost ->
            case open(Options) of
                ok -> again(searched(Search));
                {error, Why} -> exit({no_connection, Why})
            end;
        Result ->
            Result
    end.

again(lost) -> exit({no_connection, "the connection ended"});
again(Result) -> Result.

searched(Search) ->
    Handle = get(?HANDLE),
    case is_process_alive(Handle) andalso eldap:search(Handle, Search) of
        {ok, {referral, _}} -> {error, "it refers to another server, which is not asked"};
        %% An #eldap_search_result{}, which has its entries first.
        {ok, Result} -> {ok, element(2, Result)};
        {error, noSuchObject} -> {error, "there is no entry as base says"};
        {error, Code} when is_atom(Code), Code =/= ldap_closed, Code =/= timeout ->
            {error, said(Code)};
        _ -> lost
    end.

%% A result of RFC 4511 4.1.9, or what has become of the connection.
said(Code) when is_atom(Code) -> ["it says ", atom_to_list(Code)];
said(Reason) -> meerkat_database_words:lost(Reason).

%% Of an #eldap_entry{}. Names of attributes differ in case, and may have options behind them.
values(Attribute, Entry) ->
    Name = string:lowercase(Attribute),
    [iolist_to_binary(Value) || {Given, Values} <- element(3, Entry),
                                hd(binary:split(lowercase(Given), <<";">>)) =:= Name,
                                Value <- Values].

lowercase(Text) -> string:lowercase(iolist_to_binary(Text)).

bytes(Text) -> binary_to_list(Text).
