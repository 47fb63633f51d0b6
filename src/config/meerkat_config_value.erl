%% The types of configuration values: how each is read from an environment variable or from a
%% file, what it allows in words, how it is shown. Pure; knows no key, no file name, no machine.
%% What is secret is never part of an error or of a rendering.
-module(meerkat_config_value).

-export([parse_text/2, parse_leaves/2, is_value/2, widened/1]).
-export([allowed/1, render/2, quote/1, libconfig/1, libconfig_list/1]).
-export_type([type/0, value/0, leaf/0, place/0, failure/0]).

-type type() ::
    boolean
    | boolean_or_auto
    | {integer, Min :: integer(), Max :: integer()}
    | {choice, [{Spelling :: binary(), Value :: atom()}]}
    | {text, MaxCharacters :: pos_integer()}
    %% As RFC 8265 4.2 (OpaqueString) prepares it, like a password; the bytes are those of the
    %% prepared text.
    | {opaque_string, MaxBytes :: pos_integer()}
    | password
    | secret
    | domain
    | jid
    | fleet_member
    | key
    | {list, type()}
    | meerkat_config_address:type()
    | meerkat_config_web:type()
    | meerkat_config_database:type()
    | meerkat_config_group:type().
%% boolean(), `auto`, integer(), an atom of the choice, binary(), or a list of values. The values of
%% another module's types are told of there.
-type value() :: term().
%% What meerkat_conf_nif:read/1 found below a key: the rest of its path, its value, its place.
-type leaf() :: {meerkat_conf_nif:path() | [], meerkat_conf_nif:value(), place()}.
-type place() :: meerkat_conf_nif:place().
%% What was wrong, as it may be shown; what would have been right.
-type failure() :: {Shown :: unicode:chardata(), Allowed :: unicode:chardata()}.

%% Elements of a list that are named where they are wrong.
-define(SHOWN, 8).

-define(IS_GROUPS(Type),
        (Type =:= users orelse Type =:= added_users orelse Type =:= listeners
             orelse Type =:= relays orelse Type =:= realms)).

-define(IS_ADDRESS(Type),
        (Type =:= listen_address orelse Type =:= relay_address orelse Type =:= own_address
             orelse Type =:= relay_ip orelse Type =:= network orelse Type =:= peer
             orelse Type =:= server
             orelse Type =:= http_address orelse Type =:= xmpp_server)).

-define(IS_WEB(Type), (Type =:= server_name orelse Type =:= web_server orelse Type =:= url)).

%% A value as the environment gives it. Lists are separated by commas, but for secrets, which may
%% contain one.
-spec parse_text(type(), binary()) -> {ok, value()} | {error, failure()}.
parse_text({list, secret}, Text) ->
    {ok, [Text]};
parse_text(Type, Text) when Type =:= secret; Type =:= password ->
    scalar(Type, Text);
parse_text({list, Type}, Text) ->
    elements(Type, [scalar(Type, trim(Part)) || Part <- binary:split(Text, <<",">>, [global])]);
parse_text(Type, Text) ->
    scalar(Type, trim(Text)).

trim(Text) ->
    re:replace(Text, "^\\s+|\\s+$", "", [global, {return, binary}]).

%% A value as a file gives it: the scalars found below its key. All that failed, each with its
%% place.
-spec parse_leaves(type(), [leaf(), ...]) ->
    {ok, value()} | {error, [{failure(), place()}, ...]}.
parse_leaves({list, _}, [{[], empty_list, _}]) ->
    {ok, []};
parse_leaves(Type, Leaves) when ?IS_GROUPS(Type) ->
    meerkat_config_group:parse(Type, Leaves);
parse_leaves({list, Type} = List, Leaves) ->
    Parsed = [case element_path(Path) of
                  true -> place(scalar(Type, Value), Place);
                  false -> {error, [{{<<"a group">>, allowed(List)}, Place}]}
              end || {Path, Value, Place} <- Leaves],
    case lists:append([Failures || {error, Failures} <- Parsed]) of
        [] ->
            [{_, _, First} | _] = Leaves,
            place(whole(Type, [Value || {ok, Value} <- Parsed]), First);
        Failures ->
            {error, Failures}
    end;
parse_leaves(Type, [{[], Value, Place}]) ->
    place(scalar(Type, Value), Place);
parse_leaves(Type, [{_, _, Place} | _]) ->
    {error, [{{<<"a list or a group">>, allowed(Type)}, Place}]}.

element_path([]) -> true;
element_path([Index]) -> is_integer(Index);
element_path(_) -> false.

place({ok, Value}, _) -> {ok, Value};
place({error, Failure}, Place) -> {error, [{Failure, Place}]}.

%% Of a text all elements that are wrong, as far as a line has room for them.
elements(Type, Parsed) ->
    case [Failure || {error, Failure} <- Parsed] of
        [{_, Allowed} | _] = Failures ->
            {Some, More} = lists:split(min(?SHOWN, length(Failures)), Failures),
            {error, {[lists:join(<<", ">>, [Shown || {Shown, _} <- Some]),
                      [[<<" and ">>, integer_to_binary(length(More)), <<" more">>]
                       || More =/= []]], Allowed}};
        [] ->
            whole(Type, [Value || {ok, Value} <- Parsed])
    end.

%% What holds for a list as a whole, once each element is known to be right.
whole(relay_address, Ips) ->
    case {[Ip || Ip <- Ips, tuple_size(Ip) =:= 4], [Ip || Ip <- Ips, tuple_size(Ip) =:= 8]} of
        {[_, _ | _], _} -> {error, two_of_a_family(Ips)};
        {_, [_, _ | _]} -> {error, two_of_a_family(Ips)};
        {V4, V6} -> {ok, V4 ++ V6}
    end;
whole(listen_address, [_, _ | _] = Ips) ->
    case lists:member(any, Ips) of
        true -> {error, {render({list, listen_address}, Ips), allowed({list, listen_address})}};
        false -> {ok, unique(Ips)}
    end;
whole(Type, Values) when ?IS_WEB(Type) ->
    case meerkat_config_web:is_value({list, Type}, unique(Values)) of
        true -> {ok, unique(Values)};
        false -> {error, {render({list, Type}, Values), allowed({list, Type})}}
    end;
whole(_, Values) ->
    {ok, unique(Values)}.

two_of_a_family(Ips) ->
    {render({list, relay_address}, Ips), <<"at most one IPv4 and one IPv6 address">>}.

unique([]) -> [];
unique([Value | Rest]) -> [Value | unique([Other || Other <- Rest, Other =/= Value])].

%% A scalar of a file, or a text: numbers and booleans may also be written as text.
scalar(boolean, Value) when is_boolean(Value) -> {ok, Value};
scalar(boolean, 1) -> {ok, true};
scalar(boolean, 0) -> {ok, false};
scalar(boolean_or_auto, Value) when is_boolean(Value); Value =:= 1; Value =:= 0 ->
    scalar(boolean, Value);
scalar({integer, _, _} = Type, Value) when is_integer(Value) ->
    case is_value(Type, Value) of
        true -> {ok, Value};
        false -> {error, {show(Type, Value), allowed(Type)}}
    end;
scalar(http_address, Port) when is_integer(Port) ->
    scalar(http_address, integer_to_binary(Port));
scalar(Type, Text) when is_binary(Text) ->
    %% The functions of `string` below take nothing but UTF-8; a secret is just bytes.
    Readable = Type =:= secret orelse is_list(unicode:characters_to_list(Text)),
    case Readable andalso text(Type, Text) of
        {ok, Value} -> {ok, Value};
        _ -> {error, {show(Type, Text), allowed(Type)}}
    end;
scalar(Type, Value) ->
    {error, {show(Type, Value), allowed(Type)}}.

text(boolean, Text) ->
    Spellings = [
        {<<"true">>, true}, {<<"1">>, true}, {<<"yes">>, true},
        {<<"false">>, false}, {<<"0">>, false}, {<<"no">>, false}
    ],
    text({choice, Spellings}, Text);
text(boolean_or_auto, Text) ->
    case string:lowercase(Text) of
        <<"auto">> -> {ok, auto};
        _ -> text(boolean, Text)
    end;
text({integer, _, _} = Type, Text) ->
    case string:to_integer(Text) of
        {N, <<>>} when is_integer(N) -> judged(Type, N);
        _ -> error
    end;
text({choice, Choices}, Text) ->
    case lists:keyfind(string:lowercase(Text), 1, Choices) of
        {_, Value} -> {ok, Value};
        false -> error
    end;
text({text, Max}, Text) ->
    judged({text, Max}, Text);
text({opaque_string, Max}, Text) ->
    case text({text, Max}, Text) of
        {ok, Text} -> prepared({opaque_string, Max}, meerkat_opaque_string:prepare(Text));
        error -> error
    end;
text(password, Text) ->
    meerkat_opaque_string:prepare(Text);
text(secret, Text) when Text =/= <<>> ->
    {ok, Text};
text(Type, Text) when ?IS_ADDRESS(Type) ->
    meerkat_config_address:text(Type, Text);
text(Type, Text) when ?IS_WEB(Type) ->
    meerkat_config_web:text(Type, Text);
text({database, Kind}, Text) ->
    meerkat_config_database:text(Kind, Text);
text(domain, Text) ->
    named(Text, "^[^\\s@/.\\x00-\\x1f][^\\s@/\\x00-\\x1f]*$");
text(fleet_member, Text) ->
    named(Text, "^(?:[A-Za-z0-9_-]+@)?[A-Za-z0-9_:-]+(?:\\.[A-Za-z0-9_-]+)*$");
text(jid, Text) ->
    named(Text, "^[^\\s@/\\x00-\\x1f]+@[^\\s@/\\x00-\\x1f]+$");
text(key, <<Hex:32/binary>>) ->
    case re:run(Hex, "^[0-9a-fA-F]{32}$") of
        {match, _} -> {ok, <<(binary_to_integer(Hex, 16)):128>>};
        nomatch -> error
    end;
text(_, _) ->
    error.

judged(Type, Value) ->
    case is_value(Type, Value) of
        true -> {ok, Value};
        false -> error
    end.

prepared(Type, {ok, Text}) -> judged(Type, Text);
prepared(_Type, error) -> error.

%% What RFC 8489 14.9 keeps out of a REALM, and 14.14 does well to keep out of SOFTWARE.
unquotable(C) ->
    C < 32 orelse C =:= 127 orelse C =:= $" orelse C =:= $\\.

%% Names of XMPP, in lower case; what else prepares them the libraries for XMPP know.
named(Text, Pattern) ->
    case byte_size(Text) < 1024 andalso re:run(Text, Pattern, [dollar_endonly, unicode]) of
        {match, _} -> {ok, unicode:characters_to_binary(string:lowercase(Text))};
        _ -> error
    end.

%% Could this be a value of that type, however it was come by?
-spec is_value(type(), term()) -> boolean().
is_value(boolean, Value) -> is_boolean(Value);
is_value(boolean_or_auto, Value) -> is_boolean(Value) orelse Value =:= auto;
is_value({integer, Min, Max}, Value) -> is_integer(Value) andalso Value >= Min andalso Value =< Max;
is_value({choice, Choices}, Value) -> lists:keymember(Value, 2, Choices);
is_value({text, Max}, Text) ->
    Chars = is_binary(Text) andalso unicode:characters_to_list(Text),
    is_list(Chars) andalso Chars =/= [] andalso length(Chars) =< Max
        andalso not lists:any(fun unquotable/1, Chars);
is_value({opaque_string, Max}, Text) ->
    is_value(password, Text) andalso byte_size(Text) =< Max;
is_value(password, Text) -> is_binary(Text) andalso meerkat_opaque_string:prepare(Text) =/= error;
is_value(secret, Text) -> is_binary(Text) andalso Text =/= <<>>;
is_value(key, Key) -> is_binary(Key) andalso byte_size(Key) =:= 16;
is_value(Name, Text) when Name =:= domain; Name =:= jid; Name =:= fleet_member ->
    is_binary(Text) andalso Text =/= <<>>;
is_value({database, Kind}, Value) -> meerkat_config_database:is_value(Kind, Value);
is_value({list, Type}, Values) when ?IS_ADDRESS(Type) ->
    meerkat_config_address:is_value({list, Type}, Values);
is_value(Type, Value) when ?IS_ADDRESS(Type) ->
    meerkat_config_address:is_value(Type, Value);
is_value({list, Type}, Values) when ?IS_WEB(Type) ->
    meerkat_config_web:is_value({list, Type}, Values);
is_value(Type, Value) when ?IS_WEB(Type) ->
    meerkat_config_web:is_value(Type, Value);
is_value({list, Type}, Values) ->
    is_list(Values) andalso lists:all(fun(Value) -> is_value(Type, Value) end, Values);
is_value(users, Users) ->
    is_map(Users) andalso lists:all(fun is_user/1, maps:to_list(Users));
is_value(_Type, _Value) -> false.

is_user({Name, {Proof, Value}}) when Proof =:= password; Proof =:= key ->
    Types = meerkat_config_group:types(users),
    is_value(maps:get(name, Types), Name) andalso is_value(maps:get(Proof, Types), Value);
is_user(_) ->
    false.

%% What a map made by hand may have in place of what an operator may write: numbers as far as the
%% relay has room for them. Tests want lifetimes of a second, and who embeds a server may know.
-spec widened(type()) -> type().
widened({integer, Min, Max}) ->
    Widths = [16#ff, 16#7fffffff, 16#ffffffff, 16#7fffffffffffffff],
    {integer, min(Min, 1), hd([Width || Width <- Widths, Max =< Width])};
widened({text, _Max}) ->
    {text, 763};
widened(Type) ->
    Type.

%% What a type takes, as the end of a sentence that begins "it must be".
-spec allowed(type()) -> unicode:chardata().
allowed(Type) when ?IS_GROUPS(Type) ->
    meerkat_config_group:allowed(Type);
allowed({list, Type}) when ?IS_ADDRESS(Type) ->
    meerkat_config_address:allowed({list, Type});
allowed(Type) when ?IS_ADDRESS(Type) ->
    meerkat_config_address:allowed(Type);
allowed({list, Type}) when ?IS_WEB(Type) ->
    meerkat_config_web:allowed({list, Type});
allowed(Type) when ?IS_WEB(Type) ->
    meerkat_config_web:allowed(Type);
allowed(boolean) ->
    <<"true, 1 or yes, or false, 0 or no">>;
allowed(boolean_or_auto) ->
    <<"auto, true, 1 or yes, or false, 0 or no">>;
allowed({integer, Min, Max}) ->
    io_lib:format("a whole number from ~b to ~b", [Min, Max]);
allowed({choice, Choices}) ->
    [<<"one of ">> | lists:join(<<", ">>, [Name || {Name, _} <- Choices])];
allowed({text, Max}) ->
    io_lib:format(
        "text of 1 to ~b characters in UTF-8, without control characters, \" or \\", [Max]
    );
allowed({opaque_string, Max}) ->
    io_lib:format(
        "text of 1 to ~b bytes in UTF-8, without control characters, \" or \\, and without what "
        "RFC 8265 (OpaqueString) disallows", [Max]
    );
allowed({list, {text, Max}}) ->
    [allowed({text, Max}), <<" (in a file a list of such texts, in the environment separated by "
                             "commas)">>];
allowed({list, secret}) ->
    <<"text that is not empty, or in a file a list of such texts">>;
allowed(key) ->
    <<"32 hexadecimal digits">>;
allowed(password) ->
    <<"text in UTF-8 that is not empty, without control characters, characters that Unicode has "
      "not assigned and whatever else RFC 8265 (OpaqueString) disallows">>;
allowed(secret) ->
    <<"text that is not empty">>;
allowed({list, domain}) ->
    <<"domains like example.com (in a file a list of texts, in the environment separated by "
      "commas)">>;
allowed({list, fleet_member}) ->
    <<"nodes like app@10.0.0.1, names that DNS has addresses of nodes for, or `connected` (in a "
      "file a list of texts)">>;
allowed({list, jid}) ->
    <<"XMPP addresses like admin@example.com (in a file a list of texts, in the environment "
      "separated by commas)">>;
allowed({database, Kind}) ->
    meerkat_config_database:allowed(Kind);
allowed(domain) ->
    <<"a domain like turn.example.com">>;
allowed(fleet_member) ->
    <<"a node like app@10.0.0.1, a name that DNS has addresses of nodes for, or `connected`">>;
allowed(jid) ->
    <<"an XMPP address without a resource like admin@example.com">>.

%% A value as text for people; secrets are masked.
-spec render(type(), value()) -> unicode:chardata().
render(_, undefined) -> <<"none">>;
render(_, Word) when is_atom(Word) -> atom_to_binary(Word);
render({list, secret}, Secrets) -> io_lib:format("(~b, not shown)", [length(Secrets)]);
render(Type, Groups) when ?IS_GROUPS(Type) -> meerkat_config_group:render(Type, Groups);
render({list, _}, []) -> <<"none">>;
render({list, Type}, Values) -> lists:join(", ", [render(Type, Value) || Value <- Values]);
render(Type, Value) when ?IS_ADDRESS(Type) -> meerkat_config_address:render(Type, Value);
render(Type, Value) when ?IS_WEB(Type) -> meerkat_config_web:render(Type, Value);
render({integer, _, _}, Number) -> integer_to_binary(Number);
render({text, _}, Text) -> quote(Text);
render({opaque_string, _}, Text) -> quote(Text);
render({database, _}, Connection) -> meerkat_config_database:render(Connection);
render(secret, _) -> <<"(not shown)">>;
render(domain, Name) -> Name;
render(fleet_member, Name) -> Name;
render(jid, Jid) -> Jid.

show(Secret, _) when Secret =:= secret; Secret =:= password; Secret =:= key ->
    <<"a value not shown">>;
show({database, Kind}, _) when Kind =/= sqlite ->
    <<"a value not shown">>;
show(_, Text) when is_binary(Text) -> quote(Text);
show(_, empty_list) -> <<"an empty list">>;
show(_, empty_group) -> <<"an empty group">>;
show(_, Value) -> io_lib:format("~tp", [Value]).

%% A text in quotes, fit for one line of a log.
-spec quote(binary()) -> unicode:chardata().
quote(Text) ->
    [$", meerkat_text:escape(Text), $"].

%% A text as a file has it: in libconfig's quotes, in which bytes of UTF-8 stay what they are.
-spec libconfig(binary()) -> binary().
libconfig(Text) ->
    Inside = << <<(escaped(Byte))/binary>> || <<Byte>> <= Text >>,
    <<$", Inside/binary, $">>.

%% A list of texts as a file has it.
-spec libconfig_list([unicode:chardata()]) -> iodata().
libconfig_list(Texts) ->
    Quoted = [libconfig(unicode:characters_to_binary(Text)) || Text <- Texts],
    ["( ", lists:join(", ", Quoted), " )"].

escaped($") -> <<"\\\"">>;
escaped($\\) -> <<"\\\\">>;
escaped(C) when C < 32; C =:= 127 -> iolist_to_binary(io_lib:format("\\x~2.16.0b", [C]));
escaped(C) -> <<C>>.
