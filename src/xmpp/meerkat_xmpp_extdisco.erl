%% External Service Discovery (XEP-0215): which services a user is told, with which credentials, and
%% which changes of them are pushed. Pure: the caller gives the services, and a fun that makes
%% credentials.
-module(meerkat_xmpp_extdisco).

-export([services/1, answer/4, changes/2, push/4]).
-export_type([service/0, mint/0, change/0]).

%% `turns` is TURN over TLS, or over DTLS by UDP.
-type service() :: #{type := stun | turn | turns, transport := udp | tcp, host := binary(),
                     port := inet:port_number()}.
%% Fresh credentials for a bare JID; none where there can be none.
-type mint() :: fun((BareJid :: binary()) ->
    {ok, #{username := binary(), password := binary(), expires_s := integer()}} | none).
-type change() :: {add | delete | modify, service()}.

-define(NS, <<"urn:xmpp:extdisco:2">>).
%% Services that may be asked for in one <credentials/>.
-define(ASKED_MAX, 16).

%% STUN by UDP and TURN by all there is, in the order clients should try them.
-spec services([#{transport := udp | tcp | tls | dtls, host := inet:ip_address() | binary(),
                  port := inet:port_number()}]) -> [service()].
services(Ways) ->
    [service(stun, udp, Way) || #{transport := udp} = Way <- Ways]
        ++ [case Way of
                #{transport := tls} -> service(turns, tcp, Way);
                #{transport := dtls} -> service(turns, udp, Way);
                #{transport := Transport} -> service(turn, Transport, Way)
            end || Way <- Ways].

service(Type, Transport, #{host := Host, port := Port}) ->
    #{type => Type, transport => Transport, port => Port,
      host => case Host of
                  Name when is_binary(Name) -> Name;
                  Ip -> list_to_binary(meerkat_text:ip(Ip))
              end}.

%% What a request of a bare JID is answered: the child of the result, and the type of services that
%% it was about where there is one to watch.
-spec answer(Request :: meerkat_xmpp_xml:element(), Bare :: binary(), [service()], mint()) ->
    {ok, meerkat_xmpp_xml:element(), meerkat_xmpp_watchers:type() | none}
    | {error, meerkat_xmpp_xml:condition()}.
answer({xmlel, <<"services">>, _, _} = Request, Bare, Services, Mint) ->
    Type = meerkat_xmpp_xml:attr(<<"type">>, Request, all),
    Told = told([S || S <- Services, is_of(Type, S)], Bare, Mint),
    {ok, root(<<"services">>, Type, Told), watched(Type)};
answer({xmlel, <<"credentials">>, _, _} = Request, Bare, Services, Mint) ->
    Children = meerkat_xmpp_xml:children(Request),
    case [wanted(Child) || Child <- Children] of
        Wanted when Wanted =:= []; length(Wanted) > ?ASKED_MAX ->
            {error, {modify, <<"bad-request">>}};
        Wanted ->
            case lists:member(error, Wanted) of
                true -> {error, {modify, <<"bad-request">>}};
                false -> credentials(Wanted, Bare, Services, Mint)
            end
    end;
answer(_Request, _Bare, _Services, _Mint) ->
    {error, {modify, <<"bad-request">>}}.

credentials(Wanted, Bare, Services, Mint) ->
    Found = [S || S <- Services, lists:any(fun(W) -> fits(W, S) end, Wanted)],
    Unknown = [W || W <- Wanted, not lists:any(fun(S) -> fits(W, S) end, Services)],
    case {Unknown, told(Found, Bare, Mint)} of
        {[], [_ | _] = Told} -> {ok, root(<<"credentials">>, all, Told), none};
        _ -> {error, {cancel, <<"item-not-found">>}}
    end.

%% Host and type must be there; a port is one.
wanted({xmlel, <<"service">>, _, _} = Service) ->
    Get = fun(Key) -> meerkat_xmpp_xml:attr(Key, Service) end,
    case {Get(<<"host">>), Get(<<"type">>), Get(<<"port">>)} of
        {Host, Type, undefined} when is_binary(Host), is_binary(Type) -> {Host, Type, any};
        {Host, Type, Port} when is_binary(Host), is_binary(Type) ->
            case re:run(Port, "^[0-9]{1,5}$", [dollar_endonly]) of
                {match, _} -> {Host, Type, binary_to_integer(Port)};
                nomatch -> error
            end;
        _ -> error
    end;
wanted(_Other) ->
    error.

fits({Host, Type, Port}, #{host := Host, port := Here} = Service) ->
    is_of(Type, Service) andalso (Port =:= any orelse Port =:= Here);
fits(_Wanted, _Service) ->
    false.

is_of(all, _) -> true;
is_of(Type, #{type := Is}) -> Type =:= atom_to_binary(Is).

%% There will never be services of other types, so nobody watches them.
watched(Type) ->
    case lists:member(Type, [all, <<"stun">>, <<"turn">>, <<"turns">>]) of
        true -> Type;
        false -> none
    end.

root(Name, all, Children) ->
    meerkat_xmpp_xml:el(Name, [{<<"xmlns">>, ?NS}], Children);
root(Name, Type, Children) ->
    meerkat_xmpp_xml:el(Name, [{<<"xmlns">>, ?NS}, {<<"type">>, Type}], Children).

%% One pair of credentials is good for all services. A user for whom none can be made is not told
%% the services that need them.
told(Services, Bare, Mint) ->
    Credentials = credentials(Services, Bare, Mint),
    [element_of(S, Credentials, []) || S <- Services, usable(S, Credentials)].

credentials(Services, Bare, Mint) ->
    case [S || S <- Services, is_restricted(S)] of
        [] -> none;
        [_ | _] -> Mint(Bare)
    end.

usable(Service, none) -> not is_restricted(Service);
usable(_, _) -> true.

is_restricted(#{type := Type}) -> Type =/= stun.

element_of(#{type := Type, host := Host, port := Port, transport := Transport} = Service,
           Credentials, Action) ->
    meerkat_xmpp_xml:el(<<"service">>,
        [{<<"type">>, atom_to_binary(Type)}, {<<"host">>, Host},
         {<<"port">>, integer_to_binary(Port)}, {<<"transport">>, atom_to_binary(Transport)}]
        ++ access(Service, Credentials) ++ Action).

access(#{type := stun}, _) ->
    [];
access(_, {ok, #{username := User, password := Password, expires_s := Expires}}) ->
    [{<<"restricted">>, <<"1">>}, {<<"username">>, User}, {<<"password">>, Password},
     {<<"expires">>, list_to_binary(calendar:system_time_to_rfc3339(Expires, [{offset, "Z"}]))}];
access(_, none) ->
    [{<<"restricted">>, <<"1">>}].

%% Which services were added, removed or modified. Services with credentials are modified when the
%% secret is another one (XEP-0215 3.4).
-spec changes({[service()], Secret :: term()}, {[service()], Secret :: term()}) -> [change()].
changes({Before, OldSecret}, {Now, NewSecret}) ->
    [{delete, S} || S <- Before, not lists:member(S, Now)]
        ++ [{add, S} || S <- Now, not lists:member(S, Before)]
        ++ [{modify, S} || S <- Now, is_restricted(S), lists:member(S, Before),
                           OldSecret =/= NewSecret].

%% The child of the IQ that tells a bare JID of changes to services of a type; none if there are
%% none it has to know of.
-spec push([change()], meerkat_xmpp_watchers:type(), Bare :: binary(), mint()) ->
    {ok, meerkat_xmpp_xml:element()} | none.
push(Changes, Type, Bare, Mint) ->
    Concerned = [Change || {_, S} = Change <- Changes, is_of(Type, S)],
    Credentials = credentials([S || {Action, S} <- Concerned, Action =/= delete], Bare, Mint),
    case [element_of(S, case Action of delete -> none; _ -> Credentials end,
                  [{<<"action">>, atom_to_binary(Action)}])
          || {Action, S} <- Concerned, Action =:= delete orelse usable(S, Credentials)] of
        [] -> none;
        Told -> {ok, root(<<"services">>, Type, Told)}
    end.
