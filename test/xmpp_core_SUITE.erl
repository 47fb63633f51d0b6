%% The pure parts of the component by themselves: the book of who hears of changes and its bounds,
%% what is a change, addresses; and revoked credentials, up to the time they are.
-module(xmpp_core_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([book_is_of_both/1, book_is_bounded/1, book_of_a_lost_connection/1, changes_of_services/1,
         addresses_are_prepared/1, no_credentials_no_turn/1, revoked_up_to_a_time/1,
         pushes_have_ids_of_their_own/1, watchers_cost_no_more_when_they_are_many/1]).

-define(B, meerkat_xmpp_watchers).

all() ->
    [book_is_of_both, book_is_bounded, book_of_a_lost_connection, changes_of_services,
     addresses_are_prepared, no_credentials_no_turn, revoked_up_to_a_time,
     pushes_have_ids_of_their_own, watchers_cost_no_more_when_they_are_many].

init_per_suite(Config) ->
    ?assertEqual([], meerkat_libraries:missing_for_xmpp()),
    Config.

end_per_suite(_Config) -> ok.

jid(N) -> <<"u", (integer_to_binary(N))/binary, "@localhost/x">>.

%% XEP-0215 3.4: asked, in whichever order, and present.
book_is_of_both(_Config) ->
    Asked = ?B:asked(<<"a">>, <<"us">>, <<"turn">>, ?B:new()),
    ?assertEqual([], ?B:all(Asked)),
    {ok, Both} = ?B:present(<<"a">>, <<"us">>, via, Asked),
    ?assertEqual([#{jid => <<"a">>, as => <<"us">>, via => via, types => [<<"turn">>]}],
                 ?B:all(Both)),
    {ok, Present} = ?B:present(<<"a">>, <<"us">>, via, ?B:new()),
    ?assertEqual([], ?B:all(Present)),
    ?assertMatch([#{types := [all]}],
                 ?B:all(?B:asked(<<"a">>, <<"us">>, <<"stun">>,
                                 ?B:asked(<<"a">>, <<"us">>, all, Present)))),
    ?assertEqual([], ?B:all(?B:gone(<<"a">>, Both))).

book_is_bounded(_Config) ->
    Full = lists:foldl(fun(N, Book) ->
        {ok, Next} = ?B:present(jid(N), <<"us">>, via, ?B:asked(jid(N), <<"us">>, all, Book)),
        Next
    end, ?B:new(), lists:seq(1, 10000)),
    ?assertEqual(10000, ?B:count(Full)),
    ?assertMatch({full, Full}, ?B:present(jid(10001), <<"us">>, via, Full)),
    ?assertMatch({ok, _}, ?B:present(jid(1), <<"us">>, other, Full)),
    %% Who asks and never comes is forgotten.
    Many = lists:foldl(fun(N, Book) -> ?B:asked(jid(N), <<"us">>, all, Book) end, ?B:new(),
                       lists:seq(1, 100000)),
    ?assert(erts_debug:flat_size(Many) < 20001 * 64),
    {ok, First} = ?B:present(jid(1), <<"us">>, via, Many),
    ?assertEqual(0, ?B:count(First)),
    {ok, Last} = ?B:present(jid(100000), <<"us">>, via, Many),
    ?assertEqual(1, ?B:count(Last)).

book_of_a_lost_connection(_Config) ->
    Book = lists:foldl(fun({N, Via}, Book) ->
        {ok, Next} = ?B:present(jid(N), <<"us">>, Via, ?B:asked(jid(N), <<"us">>, all, Book)),
        Next
    end, ?B:new(), [{1, a}, {2, b}, {3, a}]),
    Left = jid(2),
    ?assertMatch([#{jid := Left}], ?B:all(?B:lost(a, Book))).

changes_of_services(_Config) ->
    [Stun, Turn] = Services = meerkat_xmpp_extdisco:services([way()]),
    Ip6 = {16#2001, 16#db8, 0, 0, 0, 0, 0, 1},
    [Stun6, Turn6] = meerkat_xmpp_extdisco:services([(way())#{host := Ip6}]),
    ?assertMatch(#{host := <<"2001:db8::1">>}, Stun6),
    Changes = fun meerkat_xmpp_extdisco:changes/2,
    ?assertEqual([], Changes({Services, s}, {Services, s})),
    ?assertEqual([{add, Stun}, {add, Turn}], Changes({[], s}, {Services, s})),
    ?assertEqual([{delete, Stun}, {delete, Turn}], Changes({Services, s}, {[], t})),
    ?assertEqual([{modify, Turn}], Changes({Services, s}, {Services, t})),
    ?assertEqual([{delete, Stun}, {add, Turn6}], Changes({[Stun], s}, {[Turn6], t})).

addresses_are_prepared(_Config) ->
    {ok, Jid} = meerkat_xmpp_jid:parse(<<"Alice@LOCALHOST/Phone/2">>),
    ?assertEqual(#{local => <<"alice">>, domain => <<"localhost">>, resource => <<"Phone/2">>,
                   bare => <<"alice@localhost">>, full => <<"alice@localhost/Phone/2">>}, Jid),
    ?assertMatch({ok, #{local := <<>>, bare := <<"localhost">>}},
                 meerkat_xmpp_jid:parse(<<"localhost">>)),
    [?assertEqual({Text, error}, {Text, meerkat_xmpp_jid:parse(Text)})
     || Text <- [undefined, <<>>, <<"@localhost">>, <<"a@">>, <<"a@b/">>, <<"a b@c">>, <<255>>,
                 <<"a@b@c">>, <<"a@b c">>, binary:copy(<<"a">>, 1024)]].

%% Who can have no credentials (a name too long to be a USERNAME) is told of stun alone.
no_credentials_no_turn(_Config) ->
    Services = meerkat_xmpp_extdisco:services([way()]),
    Ask = fun(Name, Children) ->
        meerkat_xmpp_extdisco:answer(meerkat_xmpp_xml:el(Name, [], Children), <<"a@b">>, Services,
                                     fun(_) -> none end)
    end,
    {ok, {xmlel, _, _, [Told]}, all} = Ask(<<"services">>, []),
    ?assertEqual(<<"stun">>, meerkat_xmpp_xml:attr(<<"type">>, Told)),
    Turn = meerkat_xmpp_xml:el(<<"service">>, [{<<"host">>, <<"192.0.2.1">>},
                                               {<<"type">>, <<"turn">>}]),
    ?assertEqual({error, {cancel, <<"item-not-found">>}}, Ask(<<"credentials">>, [Turn])).

%% The same change told to the same client twice is two questions.
pushes_have_ids_of_their_own(_Config) ->
    Watchers0 = meerkat_xmpp_watchers:asked(<<"a@b/c">>, <<"t.b">>, <<"stun">>,
                                            meerkat_xmpp_watchers:new()),
    {ok, Watchers} = meerkat_xmpp_watchers:present(<<"a@b/c">>, <<"t.b">>, here, Watchers0),
    [Stun | _] = meerkat_xmpp_extdisco:services([way()]),
    Ids = [meerkat_xmpp_xml:attr(<<"id">>, Iq)
           || _ <- [1, 2], {here, Iq} <- meerkat_xmpp_core:push([{add, Stun}],
                                                                #{mint => fun(_) -> none end},
                                                                Watchers)],
    ?assertMatch([<<"push-", _/binary>>, <<"push-", _/binary>>], Ids),
    ?assertEqual(2, length(lists:usort(Ids))).

watchers_cost_no_more_when_they_are_many(_Config) ->
    turn_kit:doc("how many watch is known without counting them, and is right whoever comes "
                 "and goes"),
    Watch = fun(N, Book) ->
        {ok, Next} = ?B:present(jid(N), <<"us">>, N rem 3, ?B:asked(jid(N), <<"us">>, all, Book)),
        Next
    end,
    Few = lists:foldl(Watch, ?B:new(), [1, 2]),
    Many = lists:foldl(Watch, Few, lists:seq(1, 9000)),
    Cost = fun(Book) ->
        {reductions, Before} = process_info(self(), reductions),
        _ = ?B:count(Book),
        {reductions, After} = process_info(self(), reductions),
        After - Before
    end,
    ?assert(Cost(Many) < Cost(Few) + 100),
    {ok, Unasked} = ?B:present(<<"late">>, <<"us">>, 1, Many),
    [?assertEqual(length(?B:all(Book)), ?B:count(Book))
     || Book <- [Few, Many, Unasked, ?B:asked(<<"late">>, <<"us">>, all, Unasked),
                 ?B:gone(jid(1), Many), ?B:gone(<<"late">>, Unasked), ?B:gone(<<"nobody">>, Many),
                 ?B:lost(1, Unasked)]].

revoked_up_to_a_time(_Config) ->
    turn_kit:with_server(#{}, fun(#{name := Name}) ->
        Now = erlang:system_time(second),
        Username = fun(Expiry, User) -> <<(integer_to_binary(Expiry))/binary, $:, User/binary>> end,
        {ok, 0} = meerkat:revoke(Name, <<"a@b">>, 600),
        Is = fun(Expiry, User) -> meerkat_revoked:is_revoked(Name, Username(Expiry, User)) end,
        ?assert(Is(Now + 599, <<"a@b">>)),
        ?assertNot(Is(Now + 100000, <<"a@b">>)),
        ?assertNot(Is(Now + 599, <<"c@b">>)),
        ?assertNot(meerkat_revoked:is_revoked(Name, <<"a@b">>)),
        %% By the leeway some that ended before are still good; their rows are needed as long.
        _ = [ok = meerkat_store:put(Name, meerkat_revoked, User, Now - Ago)
             || {User, Ago} <- [{<<"d@b">>, 3500}, {<<"e@b">>, 3700}]],
        {ok, 0} = meerkat:revoke(Name, <<"f@b">>, 600),
        ?assertEqual([true, false], [Is(Now - 3900, User) || User <- [<<"d@b">>, <<"e@b">>]]),
        %% A shorter time does not let in again who is out for longer.
        {ok, 0} = meerkat:revoke(Name, <<"a@b">>, 1),
        ?assert(Is(Now + 599, <<"a@b">>)),
        _ = [ok = meerkat_store:put(Name, meerkat_revoked, jid(N), Now + 600)
             || N <- lists:seq(4, 9999)],
        {ok, 0} = meerkat:revoke(Name, jid(10000), 600),
        ?assertEqual({error, full}, meerkat:revoke(Name, <<"one more">>, 600)),
        ?assertEqual({ok, 0}, meerkat:revoke(Name, jid(4), 600))
    end).

%% A listener, as clients are told of it.
way() -> #{transport => udp, host => {192, 0, 2, 1}, port => 3478}.
