%% Addresses of XMPP (RFC 7622), prepared by the library stringprep as the servers do it, so that
%% two spellings of one user are one user here too.
-module(meerkat_xmpp_jid).

-export([parse/1, parent/1]).
-export_type([jid/0]).

%% Without a local part or a resource these are empty. `bare` and `full` are their text.
-type jid() :: #{local := binary(), domain := binary(), resource := binary(),
                 bare := binary(), full := binary()}.

-define(PART_MAX, 1023).

-spec parse(binary() | undefined) -> {ok, jid()} | error.
parse(undefined) ->
    error;
parse(Text) when byte_size(Text) =< 3 * ?PART_MAX + 2 ->
    {Bare, Resource} = case binary:split(Text, <<"/">>) of
        [B, R] -> {B, {some, R}};
        [B] -> {B, none}
    end,
    {Local, Domain} = case binary:split(Bare, <<"@">>) of
        [L, D] -> {{some, L}, D};
        [D] -> {none, D}
    end,
    jid(part(fun stringprep:nodeprep/1, Local), part(fun stringprep:nameprep/1, {some, Domain}),
        part(fun stringprep:resourceprep/1, Resource));
parse(_TooLong) ->
    error.

part(_Prepare, none) ->
    <<>>;
part(Prepare, {some, Text}) ->
    case Prepare(Text) of
        Part when is_binary(Part), Part =/= <<>>, byte_size(Part) =< ?PART_MAX -> Part;
        _ -> error
    end.

jid(Local, Domain, Resource) when is_binary(Local), is_binary(Domain), is_binary(Resource) ->
    case re:run(Domain, "[\\s@/\\x00-\\x1f]") of
        nomatch ->
            Bare = case Local of <<>> -> Domain; _ -> <<Local/binary, $@, Domain/binary>> end,
            Full = case Resource of <<>> -> Bare; _ -> <<Bare/binary, $/, Resource/binary>> end,
            {ok, #{local => Local, domain => Domain, resource => Resource, bare => Bare,
                   full => Full}};
        _ ->
            error
    end;
jid(_, _, _) ->
    error.

%% The domain that one stands below: of turn.example.com it is example.com.
-spec parent(Domain :: binary()) -> binary() | none.
parent(Domain) ->
    case binary:split(Domain, <<".">>) of
        [_, Parent] -> Parent;
        [_] -> none
    end.
