%% XML elements of XMPP as the library fast_xml has them, {xmlel, Name, Attributes, Children}: built
%% and taken apart. Pure but for encode/1, which calls the library. The tuple is written out, so
%% that nothing of the library is needed to build this.
-module(meerkat_xmpp_xml).

-export([el/2, el/3, text/1, name/1, attr/2, attr/3, ns/1, children/1, child/2]).
-export([result/2, failure/2, is_deeper/2, encode/1]).
-export_type([element/0, condition/0]).

-type element() :: {xmlel, Name :: binary(), [{binary(), binary()}],
                    [element() | {xmlcdata, binary()}]}.
%% RFC 6120 8.3.
-type condition() :: {Type :: cancel | modify | auth | wait, Condition :: binary()}.

-define(STANZAS, <<"urn:ietf:params:xml:ns:xmpp-stanzas">>).

-spec el(binary(), [{binary(), binary()}]) -> element().
el(Name, Attributes) -> el(Name, Attributes, []).

-spec el(binary(), [{binary(), binary()}], [element() | {xmlcdata, binary()}]) -> element().
el(Name, Attributes, Children) -> {xmlel, Name, Attributes, Children}.

-spec name(element()) -> binary().
name({xmlel, Name, _, _}) -> Name.

-spec attr(binary(), element()) -> binary() | undefined.
attr(Name, Element) -> attr(Name, Element, undefined).

-spec attr(binary(), element(), Default) -> binary() | Default.
attr(Name, {xmlel, _, Attributes, _}, Default) ->
    case lists:keyfind(Name, 1, Attributes) of
        {_, Value} -> Value;
        false -> Default
    end.

-spec ns(element()) -> binary().
ns(Element) -> attr(<<"xmlns">>, Element, <<>>).

%% Elements only: what is between them (white space) does not count.
-spec children(element()) -> [element()].
children({xmlel, _, _, Children}) -> [Child || {xmlel, _, _, _} = Child <- Children].

-spec child(binary(), element()) -> {ok, element()} | error.
child(Name, Element) ->
    case lists:keyfind(Name, 2, children(Element)) of
        false -> error;
        Child -> {ok, Child}
    end.

%% The text right below an element.
-spec text(element()) -> binary().
text({xmlel, _, _, Children}) -> << <<Text/binary>> || {xmlcdata, Text} <- Children >>.

%% The answer to an IQ.
-spec result(element(), [element()]) -> element().
result(Iq, Children) -> answer(Iq, <<"result">>, Children).

-spec failure(element(), condition()) -> element().
failure(Iq, {Type, Condition}) ->
    answer(Iq, <<"error">>,
           [el(<<"error">>, [{<<"type">>, atom_to_binary(Type)}],
               [el(Condition, [{<<"xmlns">>, ?STANZAS}])])]).

answer({xmlel, Name, _, _} = Stanza, Type, Children) ->
    Back = [{To, Value} || {To, From} <- [{<<"to">>, <<"from">>}, {<<"from">>, <<"to">>},
                                          {<<"id">>, <<"id">>}],
                           Value <- [attr(From, Stanza)], Value =/= undefined],
    el(Name, [{<<"type">>, Type} | Back], Children).

%% Are there elements in elements more than Max deep?
-spec is_deeper(element() | {xmlcdata, binary()}, non_neg_integer()) -> boolean().
is_deeper({xmlel, _, _, _}, 0) -> true;
is_deeper({xmlel, _, _, Children}, Max) ->
    lists:any(fun(Child) -> is_deeper(Child, Max - 1) end, Children);
is_deeper(_, _) -> false.

-spec encode(element()) -> binary().
encode(Element) -> fxml:element_to_binary(Element).
