%% A server that takes no more allocations: those it has go on, and new ones are sent elsewhere
%% (300, RFC 8489 10) or refused (508). Only requests with good credentials come this far, and
%% the answer is signed: nobody else can send a client away.
-module(meerkat_drain).

-export([drain/1, undrain/1, redirect/2, is_draining/1, verdict/2]).

-type address() :: {inet:ip_address(), inet:port_number()}.

%% From here on new allocations go to the servers of the key `alternate_server`, or nowhere.
-spec drain(Name :: atom()) -> ok.
drain(Name) ->
    meerkat_registry:put_note(Name, drain, configured).

%% Or to these.
-spec redirect(Name :: atom(), [address(), ...]) -> ok | {error, own_address}.
redirect(Name, Servers) ->
    case lists:any(fun(Server) -> is_own(Server, Name) end, Servers) of
        true -> {error, own_address};
        false -> meerkat_registry:put_note(Name, drain, {to, Servers})
    end.

-spec undrain(Name :: atom()) -> ok.
undrain(Name) ->
    meerkat_registry:put_note(Name, drain, none).

-spec is_draining(Name :: atom()) -> boolean().
is_draining(Name) ->
    meerkat_registry:note(Name, drain) =/= none.

%% What becomes of an Allocate that could be one more allocation.
-spec verdict(Name :: atom(), meerkat_alloc_core:place()) ->
    go_on | {answer, meerkat_alloc_core:response()}.
verdict(Name, Place) ->
    case meerkat_registry:note(Name, drain) of
        none ->
            go_on;
        configured ->
            #{alternate_server := Servers} = meerkat_registry:settings(Name),
            {answer, elsewhere(Servers, Name, Place)};
        {to, Servers} ->
            {answer, elsewhere(Servers, Name, Place)}
    end.

%% One of the client's own family first, there must be one, then one of the other. Clients are
%% spread over the servers, each always to the same, and never back to where they asked.
elsewhere(Servers, Name, #{client := {Ip, _} = Client, server := Asked}) ->
    Others = [S || S <- Servers, S =/= Asked, not is_own(S, Name)],
    {Same, Other} = lists:partition(fun({To, _}) -> size(To) =:= size(Ip) end, Others),
    case Same of
        [] -> {error, 508, []};
        _ -> {error, 300, [{alternate_server, one_of(Of, Client)} || Of <- [Same, Other],
                                                                     Of =/= []]}
    end.

one_of(Servers, Client) ->
    lists:nth(1 + erlang:phash2(Client, length(Servers)), Servers).

%% RFC 8489 10 knows of no server that sends to itself: a listener, by the address it is bound to
%% or that clients are told.
is_own({Ip, Port} = Server, Name) ->
    Bound = case meerkat_registry:note(Name, listening) of
        none -> [];
        Listening -> maps:values(Listening)
    end,
    #{relays := Relays} = meerkat_registry:settings(Name),
    Told = lists:append([[Local, Advertised]
                         || #{local := Local, advertised := Advertised} <- Relays]),
    lists:member(Server, Bound)
        orelse lists:member(Ip, Told) andalso lists:keymember(Port, 2, Bound).
