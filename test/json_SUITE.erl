%% JSON out and in says the same with each library that meerkat_json may be built on.
-module(json_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([values_are_written/1, members_keep_their_order/1, text_that_is_not_utf8/1,
         ascii_alone/1, comes_back/1, what_is_no_json/1, terms_of_ours/1]).

-import(turn_kit, [doc/1]).

all() ->
    lists:sort([F || {F, 1} <- ?MODULE:module_info(exports), F =/= module_info]).

values_are_written(_Config) ->
    doc("numbers, atoms, text, lists and maps"),
    Written = [{null, "null"}, {true, "true"}, {false, "false"}, {ok, "\"ok\""}, {12, "12"},
               {-1.5, "-1.5"}, {1 bsl 70, "1180591620717411303424"}, {<<>>, "\"\""}, {[], "[]"},
               {[1, [2]], "[1,[2]]"}, {#{}, "{}"},
               {#{a => #{<<"b">> => null}}, "{\"a\":{\"b\":null}}"},
               {<<"/ \" \\ \n \t", 1, 127>>, "\"/ \\\" \\\\ \\n \\t\\u0001\d\""},
               {<<"\x{e9}\x{1f600}"/utf8>>, "\"\x{e9}\x{1f600}\""}],
    [?assertEqual({Value, Text}, {Value, unicode:characters_to_list(meerkat_json:encode(Value))})
     || {Value, Text} <- Written].

members_keep_their_order(_Config) ->
    doc("members in a tuple come in the order they have there, within others too"),
    ?assertEqual(<<"{\"z\":1,\"a\":[{\"y\":2,\"b\":null}]}">>,
                 meerkat_json:encode({[{z, 1}, {<<"a">>, [{[{y, 2}, {b, null}]}]}]})),
    ?assertEqual(<<"{}">>, meerkat_json:encode({[]})).

text_that_is_not_utf8(_Config) ->
    doc("what is not UTF-8 becomes U+FFFD, in values and in keys, and the rest is kept"),
    [begin
         ?assertEqual({ok, Kept}, meerkat_json:decode(meerkat_json:encode(Text))),
         ?assertEqual({ok, #{Kept => [Kept]}},
                      meerkat_json:decode(meerkat_json:encode_ascii(#{Text => [Text]})))
     end || {Text, Kept} <- [{<<"a", 255, "b">>, <<"a\x{fffd}b"/utf8>>},
                             {<<"ab", 16#e2, 16#82>>, <<"ab\x{fffd}"/utf8>>},
                             {<<16#e2, 16#82, "b">>, <<"\x{fffd}b"/utf8>>},
                             {<<"\x{e9}"/utf8, 16#c3>>, <<"\x{e9}\x{fffd}"/utf8>>}]].

ascii_alone(_Config) ->
    doc("nothing but ASCII, where a terminal may read along"),
    ?assertEqual("\"\\u00e9\\ud83d\\ude00\\u0085\"",
                 string:lowercase(binary_to_list(
                     meerkat_json:encode_ascii(<<"\x{e9}\x{1f600}\x{85}"/utf8>>)))).

comes_back(_Config) ->
    doc("what is written is read as it was, objects as maps with binary keys"),
    Value = #{<<"a">> => [1, 2.5, null, true, <<"\x{20ac}"/utf8>>], <<"b">> => #{<<"c">> => []}},
    ?assertEqual({ok, Value}, meerkat_json:decode(meerkat_json:encode(Value))),
    ?assertEqual({ok, Value}, meerkat_json:decode([meerkat_json:encode_ascii(Value), " \n"])).

what_is_no_json(_Config) ->
    doc("what is no JSON, or more than one value, is an error"),
    [?assertEqual({Text, error}, {Text, meerkat_json:decode(Text)})
     || Text <- ["", "{", "{a:1}", "[1,]", "1 2", "nul", "\"", <<"\"", 255, "\"">>, "\"\\ud800\""]].

terms_of_ours(_Config) ->
    doc("addresses and sessions are text, undefined is null"),
    ?assertEqual(#{client => <<"192.0.2.1:5">>, peer => null, <<"3">> => <<"::1">>},
                 meerkat_json:plain(#{client => {{192, 0, 2, 1}, 5}, peer => undefined,
                                      3 => {0, 0, 0, 0, 0, 0, 0, 1}})).
