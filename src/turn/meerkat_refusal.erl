%% What there is to say of a refusal: to the client the phrase of its code, to the operator why, and
%% which key would help; and the last ones of an allocation. Pure. The cause is told from the code
%% and the request; what only others know, they say (cause/0).
-module(meerkat_refusal).

-export([phrase/1, of_request/4, line/2, remember/3, remembered/2]).

-export_type([cause/0, refusal/0, memory/0]).

%% What the request does not tell. The relay's reply; the keys of the quota that is used up; a
%% server that takes no new allocations; an authorizer that said no; a client that has shown a
%% certificate in another name (tls_client_user).
-type cause() :: none
               | {relay, meerkat_ctl:status(), Detail :: binary()}
               | {quota, Keys :: string()}
               | drained
               | authorizer
               | certificate.

%% A line at notice, where an operator can do something about it, else at debug. `why` is to be read
%% behind the code: "486 for more allocations than user_quota allows".
-type level() :: notice | debug.
-type refusal() :: #{code := 300..699, method := atom(), level := level(), why := binary()}.
%% The last ones, newest first, each with how often it came in a row, and when last.
-type memory() :: [{refusal(), Times :: pos_integer(), LastMs :: integer()}].

-define(REMEMBERED, 5).

-import(meerkat_alloc_request, [unknown/1, has/2, get/3, family/1]).

%% As RFC 8489 14.8, RFC 8656 19 and RFC 8016 4 name them. Only signed answers have one: what
%% anybody may ask for in another's name is kept short (threat X21).
-spec phrase(Code :: 300..699) -> binary().
phrase(300) -> <<"Try Alternate">>;
phrase(400) -> <<"Bad Request">>;
phrase(401) -> <<"Unauthenticated">>;
phrase(403) -> <<"Forbidden">>;
phrase(405) -> <<"Mobility Forbidden">>;
phrase(420) -> <<"Unknown Attribute">>;
phrase(437) -> <<"Allocation Mismatch">>;
phrase(438) -> <<"Stale Nonce">>;
phrase(440) -> <<"Address Family not Supported">>;
phrase(441) -> <<"Wrong Credentials">>;
phrase(442) -> <<"Unsupported Transport Protocol">>;
phrase(443) -> <<"Peer Address Family Mismatch">>;
phrase(446) -> <<"Connection Already Exists">>;
phrase(447) -> <<"Connection Timeout or Failure">>;
phrase(486) -> <<"Allocation Quota Reached">>;
phrase(500) -> <<"Server Error">>;
phrase(508) -> <<"Insufficient Capacity">>;
phrase(_) -> <<>>.

-spec of_request(Code :: 300..699, meerkat_alloc_request:request(), cause(),
                 meerkat_alloc_core:limits()) -> refusal().
of_request(Code, #{message := #{method := Method}} = Request, Cause, Limits) ->
    {Level, Why} = why(Code, Request, Cause, Limits),
    #{code => Code, method => Method, level => Level, why => unicode:characters_to_binary(Why)}.

%% The line of a log.
-spec line(refusal(), meerkat_alloc_request:request()) -> unicode:chardata().
line(#{code := Code, method := Method, why := Why}, #{user := User, client := Client}) ->
    io_lib:format("~b ~ts: ~ts of user ~ts, client ~ts",
                  [Code, Why, Method, meerkat_text:escape(User), meerkat_text:address(Client)]).

%% One more. What a client asks again and again is one that came often.
-spec remember(refusal(), NowMs :: integer(), memory()) -> memory().
remember(Refusal, NowMs, [{Refusal, Times, _} | Before]) ->
    [{Refusal, Times + 1, NowMs} | Before];
remember(Refusal, NowMs, Before) ->
    [{Refusal, 1, NowMs} | lists:sublist(Before, ?REMEMBERED - 1)].

%% For an administrator.
-spec remembered(memory(), NowMs :: integer()) ->
    [#{code := 300..699, method := atom(), why := binary(), times := pos_integer(),
       age_ms := integer()}].
remembered(Memory, NowMs) ->
    [(maps:remove(level, Refusal))#{times => Times, age_ms => NowMs - LastMs}
     || {Refusal, Times, LastMs} <- Memory].

why(300, _Request, _Cause, _Limits) ->
    {debug, "for this server takes no new allocations, and others do"};
why(Code, _Request, authorizer, _Limits) when Code =/= 500 ->
    {debug, "for the authorizer says so"};
%% One that failed has been told of, with an error.
why(500, _Request, authorizer, _Limits) ->
    {debug, "for the authorizer says so, or failed"};
why(_Code, Request, certificate, _Limits) ->
    Subject = maps:get(subject, maps:get(certificate, Request, #{}), <<"unreadable">>),
    {notice, ["for the name in the client's certificate is another (", meerkat_text:escape(Subject),
              "), and tls_client_user asks for the same"]};
why(_Code, _Request, drained, _Limits) ->
    {debug, "for this server takes no new allocations, and no other of its family does"};
why(_Code, _Request, {quota, Keys}, _Limits) ->
    {notice, ["for more allocations than ", Keys, " allows"]};
why(Code, #{message := #{method := Method} = Message} = Request, Cause, Limits) ->
    said(Code, Method, Message, Cause, Request, Limits).

said(400, channel_bind, Message, _Cause, _Request, #{channel_max := Max}) ->
    bad_channel(get(channel_number, Message, none), Max);
said(400, _Method, #{malformed := [_ | _] = Names}, _Cause, _Request, _Limits) ->
    {debug, ["for attributes of the wrong size or shape: ", listed(Names, fun name/1)]};
said(400, allocate, Message, _Cause, _Request, _Limits) ->
    {debug, case has(requested_transport, Message) of
                true -> "for attributes that exclude each other";
                false -> "for it has no REQUESTED-TRANSPORT"
            end};
said(400, connect, Message, _Cause, _Request, _Limits) ->
    {debug, case has(xor_peer_address, Message) of
                true -> "for its allocation relays UDP, or its peer has no port";
                false -> "for it names no peer"
            end};
said(400, connection_bind, _Message, _Cause, _Request, _Limits) ->
    {debug, "for it names no connection of this user's that waits, or comes over UDP, or over a "
            "connection that has an allocation"};
said(400, create_permission, _Message, _Cause, _Request, _Limits) ->
    {debug, "for it names no peer"};
said(400, refresh, _Message, _Cause, _Request, _Limits) ->
    {debug, "for its mobility ticket is not the one that is good"};
said(400, _Method, _Message, _Cause, _Request, _Limits) ->
    {debug, "for nobody asks this of an allocation"};
said(403, allocate, _Message, _Cause, _Request, _Limits) ->
    {debug, "for a client behind a tunnel of Teredo or 6to4 (RFC 8656 21.4)"};
said(403, _Method, Message, {relay, _, Reason}, _Request, _Limits) ->
    {notice, ["for peer ", peers(Message), " (", meerkat_text:escape(Reason), "; ",
              meerkat_policy:hint(Reason), ")"]};
said(403, connect, Message, _Cause, _Request, _Limits) ->
    {notice, ["for peer ", peers(Message), ", whose port is below tcp_relay_min_port"]};
said(403, _Method, Message, _Cause, _Request, _Limits) ->
    {debug, ["for peer ", peers(Message)]};
said(405, allocate, _Message, _Cause, _Request, #{tickets := _}) ->
    {debug, "for mobility of an allocation that relays TCP"};
said(405, _Method, _Message, _Cause, _Request, _Limits) ->
    {notice, "for mobility, which the key mobility would allow"};
said(420, _Method, Message, _Cause, _Request, _Limits) ->
    {debug, ["for attributes nobody here knows: ", listed(unknown(Message), fun hex/1)]};
said(437, _Method, _Message, {relay, conflict, _}, _Request, _Limits) ->
    {debug, "for the relay has an allocation of this 5-tuple"};
said(437, allocate, _Message, _Cause, _Request, _Limits) ->
    {debug, "for its 5-tuple has an allocation"};
said(437, _Method, _Message, _Cause, #{move := #{taken := true}}, _Limits) ->
    {debug, "for the 5-tuple it moves to has an allocation"};
said(437, _Method, _Message, _Cause, _Request, _Limits) ->
    {debug, "for its 5-tuple has no allocation"};
said(440, _Method, Message, _Cause, _Request, _Limits) ->
    no_family(family(get(requested_address_family, Message, 1)));
said(441, _Method, _Message, _Cause, _Request, _Limits) ->
    {debug, "for the allocation is another user's"};
said(442, _Method, Message, _Cause, _Request, Limits) ->
    not_relayed(get(requested_transport, Message, 0), Limits);
said(443, _Method, _Message, _Cause, _Request, _Limits) ->
    {debug, "for a family of which the allocation has no address"};
said(446, _Method, Message, _Cause, _Request, _Limits) ->
    {debug, ["for there is a connection with peer ", peers(Message)]};
said(447, _Method, Message, {relay, _, Detail}, _Request, _Limits) ->
    {debug, ["for peer ", peers(Message), " (", meerkat_text:escape(Detail), ")"]};
said(486, connect, _Message, _Cause, _Request, _Limits) ->
    {notice, "for more connections with peers than tcp_relay_user_connections allows"};
said(508, connect, _Message, {relay, full, _}, _Request, _Limits) ->
    {notice, "for more connections with peers than tcp_relay_connections allows, or the relay"};
said(508, connect, _Message, _Cause, _Request, Limits) ->
    {notice, ["for more connections with peers than tcp_relay_connections allows" | pace(Limits)]};
said(508, allocate, _Message, {relay, Status, Detail}, Request, _Limits) ->
    not_made(Status, Detail, Request);
said(508, allocate, _Message, _Cause, _Request, _Limits) ->
    {debug, "for its reservation is over, or another user's"};
said(508, _Method, _Message, {relay, full, _}, _Request, _Limits) ->
    {notice, "for the relay's table of permissions is full, which max_allocations and "
             "max_permissions size"};
said(508, _Method, _Message, _Cause, _Request, Limits) ->
    {notice, ["for more peers than max_permissions allows" | pace(Limits)]};
%% The core has warned of it.
said(500, _Method, _Message, {relay, Status, Detail}, _Request, _Limits) ->
    {debug, ["for the relay says ", status(Status, Detail)]};
said(_Code, _Method, _Message, _Cause, _Request, _Limits) ->
    {debug, "for a reason it was not told"}.

pace(Limits) ->
    [", or more new peers per second than new_peers_rate does"
     || maps:get(new_peers, Limits, 0) > 0].

not_relayed(6, _Limits) ->
    {notice, "for transport 6, TCP, which the key tcp_relay would allow"};
not_relayed(Transport, Limits) ->
    {debug, ["for transport ", integer_to_list(Transport), ": relayed is UDP, 17",
             [", and TCP, 6" || is_map_key(tcp, Limits)]]}.

%% The numbers of RFC 5766 are beyond those of RFC 8656.
bad_channel(Number, Max) when is_integer(Number), Number > Max, Number =< 16#7fff ->
    {notice, ["for channel ", hex(Number), ", which rfc5766_channel_numbers would allow"]};
bad_channel(Number, Max) when is_integer(Number), Number >= 16#4000, Number =< Max ->
    {debug, ["for channel ", hex(Number),
             ", which is bound otherwise, or a peer that is, or none"]};
bad_channel(Number, _Max) when is_integer(Number) ->
    {debug, ["for channel ", hex(Number), ", which is no channel's number"]};
bad_channel(none, _Max) ->
    {debug, "for it names no channel"}.

no_family(none) ->
    {debug, "for a family of addresses that there is not"};
no_family(Family) ->
    {notice, ["for no IPv", integer_to_list(Family),
              " address is relayed from, which relay_ip and relays set"]}.

not_made(no_ports, _Detail, _Request) ->
    {notice, "for no relayed port is free, of those that min_port, max_port and relays set"};
not_made(full, _Detail, _Request) ->
    {notice, "for the relay's tables are full, which max_allocations sizes"};
not_made(bad_token, _Detail, _Request) ->
    {debug, "for its reservation is over"};
not_made(Status, Detail, _Request) ->
    {notice, ["for the relay says ", status(Status, Detail)]}.

status(Status, <<>>) -> atom_to_list(Status);
status(Status, Detail) -> [atom_to_list(Status), ", ", meerkat_text:escape(Detail)].

%% A permission is for all ports.
peers(#{method := Method, attributes := Attributes})
  when Method =:= channel_bind; Method =:= connect ->
    listed([Peer || {xor_peer_address, Peer} <- Attributes], fun meerkat_text:address/1);
peers(#{attributes := Attributes}) ->
    listed([Ip || {xor_peer_address, {Ip, _Port}} <- Attributes], fun meerkat_text:ip/1).

%% At most so many of them that the line stays one.
listed(Items, Text) ->
    {Shown, More} = lists:split(min(8, length(Items)), Items),
    [lists:join(", ", [Text(Item) || Item <- Shown]),
     [[" and ", integer_to_list(length(More)), " more"] || More =/= []]].

name(Attribute) ->
    string:replace(string:uppercase(atom_to_list(Attribute)), "_", "-", all).

hex(Number) ->
    io_lib:format("0x~4.16.0b", [Number]).
