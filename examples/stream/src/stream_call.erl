%% How two users agree on a call: each tells the other its relayed address over XMPP. Two ways: in
%% plain messages that a person can read, and as a Jingle session (XEP-0166) whose ICE-UDP transport
%% (XEP-0176) has a candidate of type relay. There are no connectivity checks: a relay's address
%% needs none to be reached, and we offer nothing else. Media is none of this module's business.
-module(stream_call).

-export([call/4, await/4, is_over/2, hang_up/2]).

-export_type([call/0, addresses/0, way/0]).

-include("stream.hrl").

-type way() :: messages | jingle.
%% `relayed` is where data is to be sent. `mapped` is the NAT's idea of the socket that speaks to
%% the relay, `direct` that of another that only tries whether there is a direct way, if any does.
-type addresses() :: #{relayed | mapped := meerkat_client:address(),
                       direct => meerkat_client:address()}.
-type call() :: #{xmpp := pid(), way := way(), peer := binary(), sid := binary()}.

-define(JINGLE, <<"urn:xmpp:jingle:1">>).
-define(RTP, <<"urn:xmpp:jingle:apps:rtp:1">>).
-define(ICE, <<"urn:xmpp:jingle:transports:ice-udp:1">>).
-define(PATIENCE, 20000).

%% Calls a user (a JID with its resource) and waits for the answer.
-spec call(pid(), way(), binary(), addresses()) ->
          {ok, call(), addresses()} | {error, unicode:chardata()}.
call(Xmpp, Way, Peer, Ours) ->
    Call = #{xmpp => Xmpp, way => Way, peer => Peer, sid => token()},
    case offer(Call, Ours) of
        ok -> answered(Call);
        {error, Condition} -> {error, [Peer, " cannot be called: ", Condition]}
    end.

offer(#{way := messages} = Call, Ours) -> tell(Call, ["call ", words(Ours)]);
offer(#{way := jingle} = Call, Ours) -> session(Call, <<"session-initiate">>, content(Ours)).

answered(#{xmpp := Xmpp, peer := Peer} = Call) ->
    receive
        {xmpp, Xmpp, Stanza} ->
            case {from(Stanza), read(Stanza)} of
                {Peer, {answer, _, _, Theirs}} -> acknowledge(Xmpp, Stanza), {ok, Call, Theirs};
                {Peer, {failed, Condition}} ->
                    {error, [Peer, " cannot be called: ", Condition]};
                _ -> acknowledge(Xmpp, Stanza), answered(Call)
            end
    after ?PATIENCE -> {error, [Peer, " does not answer"]}
    end.

%% Waits for a call of that user (a bare JID), by whatever way, and answers it. Others get none.
%% Reach opens our way to their addresses before they hear of the answer: what they send at once
%% would be lost where the relay does not let it in yet.
-spec await(pid(), binary(), addresses(), Reach :: fun((addresses()) -> ok)) ->
          {ok, call(), addresses()} | {error, iodata()}.
await(Xmpp, User, Ours, Reach) ->
    receive
        {xmpp, Xmpp, Stanza} ->
            Peer = from(Stanza),
            Allowed = hd(binary:split(Peer, <<"/">>)) =:= User,
            acknowledge(Xmpp, Stanza),
            case read(Stanza) of
                {call, Way, Sid, Theirs} when Allowed ->
                    Call = #{xmpp => Xmpp, way => Way, peer => Peer, sid => Sid},
                    ok = Reach(Theirs),
                    case answer(Call, Ours) of
                        ok -> {ok, Call, Theirs};
                        {error, Condition} -> {error, [Peer, " is gone: ", Condition]}
                    end;
                _ -> await(Xmpp, User, Ours, Reach)
            end;
        {'EXIT', Xmpp, {shutdown, Sentence}} ->
            {error, Sentence}
    end.

answer(#{way := messages} = Call, Ours) -> tell(Call, ["answer ", words(Ours)]);
answer(#{way := jingle} = Call, Ours) -> session(Call, <<"session-accept">>, content(Ours)).

%% Whether this stanza of theirs ends the call.
-spec is_over(call(), #xmlel{}) -> boolean().
is_over(#{xmpp := Xmpp, peer := Peer, sid := Sid}, Stanza) ->
    acknowledge(Xmpp, Stanza),
    from(Stanza) =:= Peer andalso lists:member(read(Stanza), [stop, {stop, Sid}]).

-spec hang_up(call(), unicode:chardata()) -> ok | {error, binary()}.
hang_up(#{way := messages} = Call, _) ->
    tell(Call, "stop");
hang_up(#{way := jingle} = Call, Why) ->
    session(Call, <<"session-terminate">>,
            el(<<"reason">>, [], [el(<<"success">>, [], []),
                                  el(<<"text">>, [], [{xmlcdata, Why}])])).

%% ------------------------------------------------------------------------------- what they say

read(#xmlel{name = <<"message">>} = Message) ->
    case {fxml:get_tag_attr_s(<<"type">>, Message),
          string:lexemes(fxml:get_subtag_cdata(Message, <<"body">>), " ")} of
        {<<"error">>, _} -> {failed, <<"nobody is there">>};
        {_, [<<"call">> | Words]} -> said(call, <<>>, Words);
        {_, [<<"answer">> | Words]} -> said(answer, <<>>, Words);
        {_, [<<"stop">> | _]} -> stop;
        _ -> nothing
    end;
read(#xmlel{name = <<"iq">>} = Iq) ->
    case fxml:get_subtag_with_xmlns(Iq, <<"jingle">>, ?JINGLE) of
        false -> nothing;
        Jingle -> jingle(fxml:get_tag_attr_s(<<"action">>, Jingle),
                         fxml:get_tag_attr_s(<<"sid">>, Jingle), Jingle)
    end.

said(What, Sid, Words) ->
    Known = #{<<"relayed">> => relayed, <<"mapped">> => mapped, <<"direct">> => direct},
    Pairs = [{map_get(Name, Known), address(Text)}
             || Word <- Words, [Name, Text] <- [binary:split(Word, <<"=">>)],
                is_map_key(Name, Known)],
    complete(What, messages, Sid, addresses(Pairs)).

jingle(<<"session-initiate">>, Sid, Jingle) -> candidates(call, Sid, Jingle);
jingle(<<"session-accept">>, Sid, Jingle) -> candidates(answer, Sid, Jingle);
jingle(<<"session-terminate">>, Sid, _) -> {stop, Sid};
jingle(_, _, _) -> nothing.

candidates(What, Sid, Jingle) ->
    Transport = fxml:get_path_s(Jingle, [{elem, <<"content">>}, {elem, <<"transport">>}]),
    Found = [candidate(fxml:get_tag_attr_s(<<"type">>, El), El)
             || #xmlel{} <- [Transport], El <- fxml:get_subtags(Transport, <<"candidate">>)],
    complete(What, jingle, Sid, addresses(lists:append(Found))).

candidate(<<"relay">>, El) ->
    [{relayed, address(<<"ip">>, <<"port">>, El)},
     {mapped, address(<<"rel-addr">>, <<"rel-port">>, El)}];
candidate(<<"srflx">>, El) -> [{direct, address(<<"ip">>, <<"port">>, El)}];
candidate(_, _) -> [].

%% Those that are addresses.
addresses(Pairs) -> maps:from_list([Pair || {_, {_, _}} = Pair <- Pairs]).

complete(What, Way, Sid, #{relayed := {_, _}, mapped := {_, _}} = Theirs) ->
    {What, Way, Sid, Theirs};
complete(_, _, _, _) ->
    nothing.

%% ----------------------------------------------------------------------------------- what we say

words(Ours) ->
    lists:join(" ", [[atom_to_list(Name), "=", meerkat_client:format_address(map_get(Name, Ours))]
                     || Name <- [relayed, mapped, direct], is_map_key(Name, Ours)]).

tell(#{xmpp := Xmpp, peer := Peer}, Text) ->
    stream_xmpp:send(Xmpp, el(<<"message">>, [{<<"to">>, Peer}, {<<"type">>, <<"normal">>}],
                              [el(<<"body">>, [], [{xmlcdata, iolist_to_binary(Text)}])])).

session(#{xmpp := Xmpp, peer := Peer, sid := Sid}, Action, Child) ->
    Jingle = el(<<"jingle">>, [{<<"xmlns">>, ?JINGLE}, {<<"action">>, Action}, {<<"sid">>, Sid}],
                [Child]),
    case stream_xmpp:ask(Xmpp, Peer, <<"set">>, Jingle) of
        {ok, _} -> ok;
        {error, _} = Error -> Error
    end.

%% One video of H.264, as RFC 6184 and XEP-0167 describe it.
content(#{relayed := Relayed, mapped := Mapped} = Ours) ->
    Codec = el(<<"payload-type">>, [{<<"id">>, <<"96">>}, {<<"name">>, <<"H264">>},
                                    {<<"clockrate">>, <<"90000">>}],
               [el(<<"parameter">>, [{<<"name">>, <<"packetization-mode">>},
                                     {<<"value">>, <<"1">>}], [])]),
    Candidates = [candidate(<<"relay">>, <<"1">>, <<"16777215">>, Relayed, Mapped)
                  | [candidate(<<"srflx">>, <<"2">>, <<"1694498815">>, Direct, Direct)
                     || #{direct := Direct} <- [Ours]]],
    el(<<"content">>, [{<<"creator">>, <<"initiator">>}, {<<"name">>, <<"video">>}],
       [el(<<"description">>, [{<<"xmlns">>, ?RTP}, {<<"media">>, <<"video">>}],
           [Codec, el(<<"rtcp-mux">>, [], [])]),
        el(<<"transport">>, [{<<"xmlns">>, ?ICE}, {<<"ufrag">>, token()}, {<<"pwd">>, password()}],
           Candidates)]).

candidate(Type, Foundation, Priority, {Ip, Port}, {BaseIp, BasePort}) ->
    el(<<"candidate">>, [{<<"component">>, <<"1">>}, {<<"foundation">>, Foundation},
                         {<<"generation">>, <<"0">>}, {<<"id">>, token()}, {<<"ip">>, text(Ip)},
                         {<<"network">>, <<"0">>}, {<<"port">>, integer_to_binary(Port)},
                         {<<"priority">>, Priority}, {<<"protocol">>, <<"udp">>},
                         {<<"rel-addr">>, text(BaseIp)},
                         {<<"rel-port">>, integer_to_binary(BasePort)}, {<<"type">>, Type}], []).

%% A Jingle iq has its result at once, whatever is thought of it (XEP-0166 6.2).
acknowledge(Xmpp, #xmlel{name = <<"iq">>} = Iq) ->
    stream_xmpp:send(Xmpp, el(<<"iq">>, [{<<"type">>, <<"result">>}, {<<"to">>, from(Iq)},
                                         {<<"id">>, fxml:get_tag_attr_s(<<"id">>, Iq)}], []));
acknowledge(_, _) ->
    ok.

from(Stanza) -> fxml:get_tag_attr_s(<<"from">>, Stanza).

%% 203.0.113.5:50000 or [2001:db8::5]:50000.
address(Text) ->
    case string:split(Text, ":", trailing) of
        [Ip, Port] -> address(string:trim(Ip, both, "[]"), Port);
        _ -> none
    end.

address(Ip, Port) ->
    case {inet:parse_strict_address(binary_to_list(Ip)), string:to_integer(Port)} of
        {{ok, Address}, {Number, <<>>}} when Number > 0, Number < 65536 -> {Address, Number};
        _ -> none
    end.

address(Ip, Port, El) -> address(fxml:get_tag_attr_s(Ip, El), fxml:get_tag_attr_s(Port, El)).

text(Ip) -> list_to_binary(inet:ntoa(Ip)).

%% RFC 8839 5.4 wants 4 characters of an ice-ufrag and 22 of an ice-pwd.
token() -> binary:encode_hex(crypto:strong_rand_bytes(6)).

password() -> binary:encode_hex(crypto:strong_rand_bytes(12)).

el(Name, Attrs, Children) -> #xmlel{name = Name, attrs = Attrs, children = Children}.
