%% Parses the bytes of an XMPP server into stanzas (RFC 6120 4) with fast_xml, which accepts no
%% document type, and so no entities. What one stanza may cost is bounded: of one that is larger or
%% deeper than any request to us only the envelope is handed on; a still larger one, which no server
%% lets through, ends the stream.
-module(meerkat_xmpp_stream).

-export([new/0, feed/2, close/1, header/2, closing/0]).
-export_type([stream/0, event/0, fault/0]).

-record(stream, {
    parser :: term(),
    %% Since the last stanza.
    bytes = 0 :: non_neg_integer()
}).
-opaque stream() :: #stream{}.
-type event() :: {open, Attributes :: [{binary(), binary()}]}
               | {stanza, meerkat_xmpp_xml:element()}
               %% It was more than is asked of us; the stream goes on.
               | {hostile, too_large | too_deep, Envelope :: meerkat_xmpp_xml:element()}
               | close.
%% The stream is of no more use.
-type fault() :: too_large | not_xml.

%% Nobody has reason to send us so much, or so deep.
-define(STANZA_MAX, 65536).
-define(DEPTH_MAX, 16).
%% More than servers let users send (ejabberd and prosody: 512 KiB from other servers).
-define(STREAM_MAX, 1048576).
%% The parser counts all bytes of one call to the same stanza, so it is given so many at a time.
-define(SLICE, 4096).

%% The calling process must be the one to feed it.
-spec new() -> stream().
new() ->
    #stream{parser = fxml_stream:new(self(), ?STREAM_MAX, [no_gen_server])}.

-spec close(stream()) -> ok.
close(#stream{parser = Parser}) ->
    _ = fxml_stream:close(Parser),
    ok.

%% What bytes make complete. A fault comes with what was complete before it.
-spec feed(binary(), stream()) -> {ok, [event()], stream()} | {error, fault(), [event()]}.
feed(Bytes, Stream) ->
    feed(Bytes, Stream, []).

feed(<<>>, Stream, Events) ->
    {ok, lists:append(lists:reverse(Events)), Stream};
feed(<<Slice:?SLICE/binary, Rest/binary>>, Stream, Events) when Rest =/= <<>> ->
    sliced(Slice, Rest, Stream, Events);
feed(Slice, Stream, Events) ->
    sliced(Slice, <<>>, Stream, Events).

sliced(Slice, Rest, #stream{parser = Parser, bytes = Before} = Stream, Events) ->
    Next = fxml_stream:parse(Parser, Slice),
    case parsed(Before + byte_size(Slice), []) of
        {ok, Found, Bytes} ->
            feed(Rest, Stream#stream{parser = Next, bytes = Bytes}, [Found | Events]);
        {error, Fault, Found} ->
            {error, Fault, lists:append(lists:reverse(Events, [Found]))}
    end.

%% The parser has sent us all of it by now.
parsed(Bytes, Events) ->
    receive
        {xmlstreamstart, _Name, Attributes} ->
            parsed(0, [{open, Attributes} | Events]);
        {xmlstreamelement, Element} ->
            parsed(0, [judged(Element, Bytes) | Events]);
        {xmlstreamend, _Name} ->
            parsed(0, [close | Events]);
        {xmlstreamcdata, _WhiteSpace} ->
            parsed(Bytes, Events);
        {xmlstreamerror, Reason} ->
            ok = forget(),
            {error, fault(Reason), lists:reverse(Events)}
    after 0 ->
        {ok, lists:reverse(Events), Bytes}
    end.

forget() ->
    receive
        {xmlstreamerror, _} -> forget();
        {xmlstreamcdata, _} -> forget();
        {xmlstreamelement, _} -> forget()
    after 0 ->
        ok
    end.

judged(Element, Bytes) ->
    case {Bytes > ?STANZA_MAX, meerkat_xmpp_xml:is_deeper(Element, ?DEPTH_MAX)} of
        {true, _} -> {hostile, too_large, envelope(Element)};
        {false, true} -> {hostile, too_deep, envelope(Element)};
        {false, false} -> {stanza, Element}
    end.

envelope({xmlel, Name, Attributes, _Children}) -> {xmlel, Name, Attributes, []}.

fault(<<"XML stanza is too big">>) -> too_large;
fault(_) -> not_xml.

%% How XEP-0114 opens a stream. `is_subdomain`: MongooseIM's word, for a name below each of its
%% domains.
-spec header(Component :: binary(), IsSubdomain :: boolean()) -> iodata().
header(Component, IsSubdomain) ->
    Element = meerkat_xmpp_xml:el(<<"stream:stream">>,
        [{<<"xmlns">>, <<"jabber:component:accept">>},
         {<<"xmlns:stream">>, <<"http://etherx.jabber.org/streams">>},
         {<<"to">>, Component}] ++ [{<<"is_subdomain">>, <<"true">>} || IsSubdomain]),
    Text = meerkat_xmpp_xml:encode(Element),
    %% Open, where the library writes an element that is over.
    [<<"<?xml version='1.0'?>">>, binary:part(Text, 0, byte_size(Text) - 2), $>].

-spec closing() -> binary().
closing() -> <<"</stream:stream>">>.
