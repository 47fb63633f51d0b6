%% Whether a request may begin an allocation: the checks of RFC 8656 7.2 that need nothing but the
%% request and the limits. Pure; what the relay has to find out, and everything about an allocation
%% that is there, is meerkat_alloc_core's.
-module(meerkat_alloc_admit).

-export([admit/2, is_stream/1]).

-export_type([plan/0]).

-import(meerkat_alloc_request, [refused/1, unknown_attributes/1, unknown/1, lifetime/2, within/2,
                                malformed_fault/2, first_of/1, has/2, get/3, family/1]).

%% An Allocate request that may become an allocation.
-type plan() :: #{user := binary(),
                  realm := default | binary(),
                  client := {inet:ip_address(), inet:port_number()},
                  transaction_id := <<_:96>>,
                  families := [4 | 6],
                  address_errors := [{Family :: 1 | 2, Code :: 440 | 508}],
                  additional := boolean(),
                  even := 0 | 1 | 2,
                  token := non_neg_integer(),
                  mobile := boolean(),
                  lifetime := pos_integer(),
                  own => meerkat_auth:limits(),
                  %% As ctl.def has them in ALLOC_CREATE.
                  protocol := 17 | 6,
                  connections_max := non_neg_integer(),
                  bytes_per_s => non_neg_integer(),
                  packets_per_s => non_neg_integer(),
                  bucket => pos_integer()}.

%% What is relayed, by its number in IP.
-define(UDP, 17).
-define(TCP, 6).

%% Only an Allocate that passes RFC 8656 7.2 may have one; everything else is answered here.
-spec admit(meerkat_alloc_request:request(), meerkat_alloc_core:limits()) ->
    {create, plan()} | {answer, meerkat_alloc_core:response()}.
admit(#{message := #{method := Method} = Message} = Request, Limits) ->
    case {unknown(Message), Method} of
        {[_ | _] = Unknown, _} ->
            {answer, unknown_attributes(Unknown)};
        {[], allocate} ->
            case allocate_fault(Request, Limits) of
                none -> {create, plan(Request, within(Request, Limits))};
                Response -> {answer, Response}
            end;
        %% RFC 6062 5.4: its CONNECTION-ID is missing, or nobody's.
        {[], connection_bind} ->
            {answer, refused(400)};
        {[], _} ->
            {answer, first_fault([fun() -> ticket_fault(Message, Limits) end,
                                  fun() -> refused(437) end])}
    end.

%% The checks of RFC 8656 7.2 in its order, by its numbers; the rest is the relay's to find out.
%% DONT-FRAGMENT (4) is fine: the relay can set DF.
allocate_fault(#{message := Message, client := {Ip, _}} = Request, Limits) ->
    first_fault([
        fun() -> transport_fault(Request, Message, Limits) end,             % 3
        fun() -> malformed_fault(allocate, Message) end,
        fun() -> mobility_fault(Message, Limits) end,                       % RFC 8016 3.1.2
        fun() -> token_fault(Request, Message) end,                         % 5
        fun() -> family_fault(Message, Limits) end,                         % 6-9
        fun() -> meerkat_policy:is_tunnel(Ip) andalso refused(403) end      % 21.4
    ]).

first_fault([Check | Checks]) ->
    case Check() of
        false -> first_fault(Checks);
        Response -> Response
    end;
first_fault([]) ->
    none.

transport_fault(Request, Message, Limits) ->
    case meerkat_stun:get(requested_transport, Message) of
        {ok, ?UDP} -> false;
        {ok, ?TCP} when is_map_key(tcp, Limits) -> tcp_fault(Request, Message);
        {ok, _} -> refused(442);
        error -> refused(400)
    end.

%% RFC 6062 5.1: the client is connected over TCP, with TLS perhaps, and asks for nothing that
%% belongs to datagrams. There is one relayed address, and no move of its client's.
tcp_fault(#{transport := Transport}, Message) ->
    first_of([
        {not is_stream(Transport), refused(400)},
        {lists:any(fun(Name) -> has(Name, Message) end,
                   [dont_fragment, even_port, reservation_token, additional_address_family]),
         refused(400)},
        {has(mobility_ticket, Message), refused(405)}
    ]).

%% TCP, or TLS on it, by the relay's number.
-spec is_stream(byte()) -> boolean().
is_stream(Transport) ->
    lists:member(Transport, [meerkat_ctl:transport(tcp), meerkat_ctl:transport(tls)]).

mobility_fault(Message, Limits) ->
    case meerkat_stun:get(mobility_ticket, Message) of
        error -> false;
        {ok, <<>>} -> not is_map_key(tickets, Limits) andalso refused(405);
        {ok, _} -> refused(400)
    end.

%% RFC 8016 3.2.2, of a Refresh whose ticket names no allocation.
ticket_fault(#{method := refresh} = Message, Limits) ->
    case {meerkat_stun:get(mobility_ticket, Message), Limits} of
        {error, _} -> false;
        {{ok, Ticket}, #{tickets := Key}} ->
            meerkat_ticket:open(Ticket, Key) =:= {error, forged} andalso refused(400);
        {{ok, _}, #{}} -> refused(405)
    end;
ticket_fault(_Message, _Limits) ->
    false.

token_fault(Request, Message) ->
    Alone = not lists:any(fun(Name) -> has(Name, Message) end,
                          [even_port, requested_address_family, additional_address_family]),
    case {meerkat_stun:get(reservation_token, Message), Request} of
        {error, _} -> false;
        {{ok, _}, _} when not Alone -> refused(400);
        {{ok, _}, #{held := {Holder, _}}} ->
            Holder =/= meerkat_alloc_request:holder(Request) andalso refused(508);
        {{ok, _}, _} -> refused(508)
    end.

family_fault(Message, #{pools := Pools}) ->
    Requested = meerkat_stun:get(requested_address_family, Message),
    Additional = meerkat_stun:get(additional_address_family, Message),
    case {Requested, Additional, meerkat_stun:get(even_port, Message)} of
        {{ok, _}, {ok, _}, _} ->
            refused(400);
        {{ok, Number}, error, _} ->
            not is_map_key(family(Number), Pools) andalso refused(440);
        {error, {ok, Number}, Even} when Number =/= 2; Even =:= {ok, true} ->
            refused(400);
        {error, {ok, 2}, _} ->
            %% Whoever wants both is content with one (9).
            map_size(Pools) =:= 0 andalso refused(440);
        {error, _, _} ->
            %% A token brings its family along.
            not (is_map_key(4, Pools) orelse has(reservation_token, Message))
                andalso refused(440)
    end.

plan(#{message := Message, user := User, client := Client} = Request, Limits) ->
    Additional = has(additional_address_family, Message),
    {Families, Errors} = families(Request, Additional, Limits),
    (maps:with([own], Request))#{
      user => User,
      realm => maps:get(realm, Request, default),
      client => Client,
      transaction_id => binary:copy(maps:get(transaction_id, Message)),
      families => Families,
      address_errors => Errors,
      additional => Additional,
      even => case meerkat_stun:get(even_port, Message) of
                  error -> 0;
                  {ok, false} -> 1;
                  {ok, true} -> 2
              end,
      token => get(reservation_token, Message, 0),
      mobile => has(mobility_ticket, Message),
      protocol => get(requested_transport, Message, ?UDP),
      connections_max => case Limits of
                             #{tcp := #{connections := Max}} -> Max;
                             #{} -> 0
                         end,
      lifetime => lifetime(Message, Limits)}.

families(_Request, true, #{pools := #{4 := _, 6 := _}}) -> {[4, 6], []};
families(_Request, true, #{pools := #{4 := _}}) -> {[4], [{2, 440}]};
families(_Request, true, #{pools := #{6 := _}}) -> {[6], [{1, 440}]};
families(#{held := {_, Family}}, false, _Limits) -> {[Family], []};
families(#{message := Message}, false, _Limits) ->
    {[family(get(requested_address_family, Message, 1))], []}.
