%% An embedder's say in what an authenticated user may do: a module of theirs is asked for every
%% request that asks for something. It can only forbid: whatever the configuration refuses stays
%% refused. This is the seam and the one place that crosses it.
%%
%% The module runs in the process that handles the request, and holds up the requests behind it.
-module(meerkat_authorizer).

-include_lib("kernel/include/logger.hrl").

-export([verdict/2]).
-export_type([request/0]).

%% Who wants what. Refresh with which a client gives up is not asked about.
-type request() :: #{
    method := allocate | refresh | create_permission | channel_bind,
    user := binary(),
    client := {inet:ip_address(), inet:port_number()},
    %% Where the client has shown one (key tls_client_ca).
    certificate => meerkat_client_certificate:shown(),
    %% Whom it wants to reach, for create_permission and channel_bind.
    peers := [{inet:ip_address(), inet:port_number()}]
}.

%% The code is the answer's (RFC 8656 18): 403 where nothing else fits. Arg comes from
%% {authorizer, {Module, Arg}}. `{allow, grant}`: this one, and all that this allocation asks for
%% from now on; the relay then answers what the configuration allows without asking (key `grants`).
-callback authorize(request(), Arg :: term()) -> allow | {allow, grant} | {deny, Code :: 400..599}.

%% Without a module everything is allowed, and granted; one that fails forbids, and is logged.
-spec verdict(none | {module(), term()}, map()) -> allow | {allow, grant} | {deny, 400..599}.
verdict(none, _Request) ->
    {allow, grant};
verdict({Module, Arg}, #{message := #{method := Method} = Message} = Request)
  when Method =:= allocate; Method =:= create_permission; Method =:= channel_bind;
       Method =:= refresh ->
    case meerkat_stun:get(lifetime, Message) of
        {ok, 0} when Method =:= refresh ->
            allow;
        _ ->
            Asked = maps:with([user, client, certificate], Request),
            ask(Module, Asked#{method => Method, peers => peers(Message)}, Arg)
    end;
verdict(_, _Request) ->
    allow.

peers(#{attributes := Attributes}) ->
    [Peer || {xor_peer_address, Peer} <- Attributes].

ask(Module, Request, Arg) ->
    try Module:authorize(Request, Arg) of
        allow -> allow;
        {allow, grant} -> {allow, grant};
        {deny, Code} when is_integer(Code), Code >= 400, Code =< 599 -> {deny, Code};
        Other -> failed(Module, "answers ~0tp", [Other])
    catch
        Class:Reason -> failed(Module, "ends with ~ts ~0tp", [Class, Reason])
    end.

failed(Module, What, Args) ->
    ?LOG_ERROR("authorizer ~ts " ++ What ++ "; the request is refused", [Module | Args]),
    {deny, 500}.
