%% Whoever is refused, and whoever runs the server, hears why: each refusal has a line in the log,
%% at notice where a key would help, and then not without end; the answer has the phrase of its code
%% where it is signed; an allocation tells of those it earned.
-module(refusal_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([every_refusal_has_a_line/1, hints_name_keys_there_are/1, notices_come_to_an_end/1,
         a_site_behind_one_address_is_told/1, a_closed_port_is_told/1,
         strangers_take_no_line_of_users/1,
         phrases_only_where_signed/1, every_code_has_a_phrase/1,
         an_allocation_tells_its_refusals/1, the_last_are_kept/1, quotas_name_their_key/1,
         a_line_stays_one/1]).
-export([authorize/2]).

-import(turn_kit, [open/1, open/2, ask/2, send/2, request/2, challenged/1, signed/3, call/3, call/4,
                   allocated/1, allocate/1, allocate/2, delete/1, permit/2, bind/3, peer/0, get/2,
                   success/1, expect/2, with_server/2]).

-define(V4, [#{local => {127, 0, 0, 1}, advertised => {127, 0, 0, 1}, min_port => 49152,
               max_port => 65535}]).

all() ->
    [every_refusal_has_a_line, hints_name_keys_there_are, notices_come_to_an_end,
     a_site_behind_one_address_is_told, a_closed_port_is_told, strangers_take_no_line_of_users,
     phrases_only_where_signed, every_code_has_a_phrase,
     an_allocation_tells_its_refusals, the_last_are_kept, quotas_name_their_key, a_line_stays_one].

suite() -> [{timetrap, {seconds, 90}}].

%%% On the wire

%% Each is asked for at one server, and its line is there before the answer is.
every_refusal_has_a_line(_) ->
    with_server(#{max_permissions => 2, relays => ?V4, user_quota => 1,
                  authorizer => {?MODULE, none}}, fun(Server) ->
        Client = allocated(Server),
        #{address := Peer} = peer(),
        _ = success(permit(Client, [Peer])),
        Bob = challenged(open(Server, #{user => <<"bob">>, password => <<"builder">>})),
        [refused(Code, Pattern, Ask)
         || {Code, Pattern, Ask} <-
                [{400, "it names no peer", fun() -> permit(Client, []) end},
                 {400, "channel 0x1234, which is no channel", fun() ->
                      bind(Client, 16#1234, Peer) end},
                 {400, "channel 0x5001, which rfc5766_channel_numbers", fun() ->
                      bind(Client, 16#5001, Peer) end},
                 {400, "wrong size or shape: LIFETIME", fun() ->
                      call(Client, refresh, [{lifetime_raw(), <<1>>}]) end},
                 {400, "no REQUESTED-TRANSPORT", fun() -> call(Bob, allocate, []) end},
                 {403, "peer 10\\.1\\.2\\.3 \\(10\\.0\\.0\\.0/8; an entry of allowed_peers",
                  fun() -> permit(Client, [{{10, 1, 2, 3}, 0}]) end},
                 {403, "peer 10\\.1\\.2\\.3:99 \\(10\\.0\\.0\\.0/8; an entry of allowed_peers",
                  fun() -> bind(Client, 16#4000, {{10, 1, 2, 3}, 99}) end},
                 {405, "the key mobility", fun() ->
                      allocate(Bob, [{mobility_ticket(), <<>>}]) end},
                 {420, "nobody here knows: 0x7fff", fun() ->
                      call(Client, refresh, [{16#7fff, <<>>}]) end},
                 {437, "5-tuple has an allocation", fun() -> allocate(Client) end},
                 {437, "5-tuple has no allocation", fun() -> call(Bob, refresh, []) end},
                 {440, "no IPv6 address is relayed from, which relay_ip and relays",
                  fun() -> allocate(Bob, [{requested_address_family, 2}]) end},
                 {441, "another user's", fun() ->
                      call(Client, refresh, [], #{user => <<"bob">>,
                                                  key => maps:get(key, Bob)}) end},
                 {442, "transport 6", fun() ->
                      call(Bob, allocate, [{requested_transport, 6}]) end},
                 {443, "family of which the allocation has no address", fun() ->
                      permit(Client, [{{0, 0, 0, 0, 0, 0, 0, 1}, 9}]) end},
                 {486, "more allocations than user_quota", fun() ->
                      allocate(challenged(open(Server))) end},
                 {508, "more peers than max_permissions", fun() ->
                      permit(Client, [{{127, 0, 0, N}, 9} || N <- [2, 3]]) end},
                 {508, "reservation is over", fun() ->
                      allocate(Bob, [{reservation_token, 1}]) end},
                 {404, "authorizer says so", fun() ->
                      bind(Client, 16#4004, {{127, 0, 0, 1}, 404}) end}]],
        ok = meerkat:redirect(maps:get(name, Server), [{{127, 0, 0, 9}, 3478}]),
        refused(300, "no new allocations, and others do", fun() -> allocate(Bob) end),
        ok = meerkat:drain(maps:get(name, Server)),
        refused(508, "no new allocations, and no other", fun() -> allocate(Bob) end)
    end).

lifetime_raw() -> 16#000d.

mobility_ticket() -> 16#8030.

%% Of the authorizer: what else says 404?
authorize(#{peers := [{_, 404}]}, none) -> {deny, 404};
authorize(_, none) -> allow.

%% The answer, and the one line of that code; user and client are in it.
refused(Code, Pattern, Ask) ->
    Lines = log_kit:logged(debug, fun() -> expect(Code, Ask()) end),
    Start = integer_to_list(Code) ++ " for ",
    ?assertMatch({_, [_]}, {{Code, Lines}, [L || L <- Lines, string:prefix(L, Start) =/= nomatch]}),
    [Line] = [L || L <- Lines, string:prefix(L, Start) =/= nomatch],
    [?assertMatch({_, {match, _}}, {Line, re:run(Line, Part)})
     || Part <- [Pattern, " of user (alice|bob), client 127\\.0\\.0\\.1:[0-9]+"]].

notices_come_to_an_end(_) ->
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        Lines = log_kit:logged(fun() ->
            [expect(403, permit(Client, [{{10, 1, 2, N}, 0}])) || N <- lists:seq(1, 20)]
        end),
        Told = [L || L <- Lines, string:prefix(L, "403 for peer") =/= nomatch],
        ?assert(length(Told) >= 5, Told),
        ?assert(length(Told) < 8, Told)
    end).

a_site_behind_one_address_is_told(_) ->
    [with_server(#{unauthenticated_rate => 1, unauthenticated_burst => 5, workers => 1},
                 fun(Server) ->
         Client = challenged(open(Server, #{user => <<"alice">>, password => <<"wrong">>})),
         Lines = log_kit:logged(notice, fun() ->
             asks_until_told(fun() -> send(Client, Request(Client)) end)
         end),
         ?assertMatch([_], [L || L <- Lines, re:run(L, Pattern) =/= nomatch], Lines)
     end)
     || {Why, Request} <-
            [{"has used up its share of answers without credentials",
              fun(_) -> request(allocate, []) end},
             {"has sent too many requests with wrong credentials",
              fun(Client) -> signed(Client, refresh, []) end}],
        Pattern <- ["^no answer to 127\\.0\\.0\\.1:[0-9]+: its address " ++ Why
                    ++ "; [1-9][0-9]* datagrams .* raise unauthenticated_rate "
                       "\\(UNAUTHENTICATED_RATE\\)"]].

%% Whether credentials were wrong the relay hears after the request has been answered.
asks_until_told(Ask) ->
    _ = [Ask() || _ <- lists:seq(1, 20)],
    receive
        {log, "no answer to " ++ _ = Line} -> self() ! {log, Line}
    after 20 ->
        asks_until_told(Ask)
    end.

a_closed_port_is_told(_) ->
    with_server(#{workers => 1}, fun(#{port := Port} = Server) ->
        Client = allocated(Server),
        Own = {{127, 0, 0, 1}, Port},
        _ = success(permit(Client, [Own])),
        Lines = log_kit:logged(notice, fun() ->
            turn_kit:send_to(Client, #{address => Own}, <<"never">>),
            receive {log, "nothing is sent to peer " ++ _ = Line} -> self() ! {log, Line} end
        end),
        ?assertMatch([_], [L || L <- Lines,
                                re:run(L, "^nothing is sent to peer 127\\.0\\.0\\.1:[0-9]+, ports "
                                          "that this server uses itself; .* \\(1 datagrams")
                                    =/= nomatch], Lines)
    end).

strangers_take_no_line_of_users(_) ->
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        Stranger = challenged(open(Server, #{user => <<"alice">>, password => <<"wrong">>})),
        Lines = log_kit:logged(fun() ->
            [expect(401, call(Stranger, refresh, [])) || _ <- lists:seq(1, 20)],
            expect(403, permit(Client, [{{10, 1, 2, 3}, 0}]))
        end),
        ?assertMatch([_], [L || L <- Lines, string:prefix(L, "403 for peer") =/= nomatch])
    end).

phrases_only_where_signed(_) ->
    with_server(#{}, fun(Server) ->
        Client = allocated(Server),
        ?assertEqual({437, <<"Allocation Mismatch">>},
                     get(error_code, expect(437, allocate(Client)))),
        ?assertEqual({403, <<"Forbidden">>},
                     get(error_code, expect(403, permit(Client, [{{10, 1, 2, 3}, 0}])))),
        ?assertEqual({401, <<>>}, get(error_code, ask(Client, request(allocate, [])))),
        Stranger = challenged(open(Server, #{user => <<"alice">>, password => <<"wrong">>})),
        ?assertEqual({401, <<>>}, get(error_code, expect(401, call(Stranger, refresh, []))))
    end).

an_allocation_tells_its_refusals(_) ->
    with_server(#{}, fun(#{name := Name} = Server) ->
        Client = allocated(Server),
        [{Session, _}] = meerkat_alloc_table:sessions(Name),
        Told = fun() ->
            {ok, #{refusals := Refusals} = Info} = meerkat:allocation(Name, Session),
            {Refusals, unicode:characters_to_list(meerkat_show:allocation(Info))}
        end,
        {[], Nothing} = Told(),
        ?assertEqual(nomatch, string:find(Nothing, "refused")),
        [expect(403, permit(Client, [{{10, 1, 2, 3}, 0}])) || _ <- [1, 2]],
        expect(400, bind(Client, 16#5001, {{127, 0, 0, 1}, 9})),
        {Refusals, Text} = Told(),
        ?assertMatch([#{code := 400, method := channel_bind, times := 1, age_ms := _},
                      #{code := 403, method := create_permission, times := 2, age_ms := _}],
                     Refusals),
        [?assertMatch({_, {match, _}}, {Text, re:run(Text, Line)})
         || Line <- ["refused +0s ago: 400 to channel_bind, .*rfc5766_channel_numbers",
                     "refused +[0-9]+s ago, 2 times: 403 to create_permission, .*allowed_peers"]],
        ok = delete(Client)
    end).

quotas_name_their_key(_) ->
    [with_server(#{Key => 1}, fun(Server) ->
        _ = allocated(Server),
        refused(Code, "more allocations than .*" ++ atom_to_list(Key), fun() ->
            allocate(challenged(open(Server, User)))
        end)
     end)
     || {Key, Code, User} <- [{user_quota, 486, #{}}, {max_allocations_per_address, 486, bob()},
                              {total_quota, 508, bob()}]].

bob() -> #{user => <<"bob">>, password => <<"builder">>}.

%%% What is said, without a server

-define(LIMITS, #{channel_max => 16#4fff, max_peers => 10, pools => #{}, default_lifetime => 600,
                  max_lifetime => 3600}).

said(Code, Method, Attributes, Cause) ->
    meerkat_refusal:of_request(Code, asked(Method, Attributes, <<"alice">>), Cause, ?LIMITS).

asked(Method, Attributes, User) ->
    #{message => #{class => request, method => Method, transaction_id => <<1:96>>,
                   attributes => Attributes, malformed => [], unknown => []},
      user => User, realm => default, client => {{192, 0, 2, 9}, 40000}}.

%% At notice is what an operator can do something about: by a key, which its line names, or by
%% seeing to the machine. A word with an underscore is one.
hints_name_keys_there_are(_) ->
    Statuses = [Name || {Name, _} <- meerkat_ctl:statuses(), Name =/= ok],
    Causes = [none, drained, authorizer, {quota, "total_quota and max_allocations"}]
        ++ [{relay, Status, <<>>} || Status <- Statuses],
    Said = [said(Code, Method, Attributes, Cause)
            || Code <- [300, 400, 403, 405, 420, 437, 440, 441, 442, 443, 486, 500, 508],
               Method <- [allocate, refresh, create_permission, channel_bind, binding],
               Attributes <- [[], [{channel_number, 16#5000}]],
               Cause <- Causes],
    Hints = lists:usort([{Why, keys(Why)} || #{level := notice, why := Why} <- Said,
                                             string:find(Why, "the relay says ") =:= nomatch]),
    ?assert(length(Hints) > 5, Hints),
    [begin
         ?assertNotEqual({Why, []}, {Why, Keys}),
         [?assertMatch({Key, {ok, _}}, {Key, meerkat_config_schema:find(Key)}) || Key <- Keys]
     end || {Why, Keys} <- Hints].

keys(Why) ->
    case re:run(Why, "the key ([a-z]+)|[a-z0-9]+(?:_[a-z0-9]+)+",
                [global, {capture, all, binary}]) of
        {match, Found} -> [lists:last(Words) || Words <- Found];
        nomatch -> []
    end.

every_code_has_a_phrase(_) ->
    %% RFC 8489 14.8, RFC 8656 19, RFC 8016 4.
    [?assertNotEqual({Code, <<>>}, {Code, meerkat_refusal:phrase(Code)})
     || Code <- maps:keys(meerkat_answers:outcomes(meerkat_answers:new())), is_integer(Code)],
    ?assertEqual(<<>>, meerkat_refusal:phrase(404)).

the_last_are_kept(_) ->
    Refusals = [said(403, create_permission, [{xor_peer_address, {{10, 0, 0, N}, 0}}], none)
                || N <- lists:seq(1, 9)],
    {_, Memory} = lists:foldl(fun(Refusal, {Now, Before}) ->
        {Now + 10, meerkat_refusal:remember(Refusal, Now, Before)}
    end, {0, []}, Refusals),
    Told = meerkat_refusal:remembered(Memory, 100),
    ?assertEqual([20, 30, 40, 50, 60], [Age || #{age_ms := Age} <- Told]),
    ?assertMatch([#{why := <<"for peer 10.0.0.9">>} | _], Told).

%% Whatever a client puts into its request.
a_line_stays_one(_) ->
    Peers = [{xor_peer_address, {{10, 0, N div 256, N rem 256}, 0}} || N <- lists:seq(1, 300)],
    Request = asked(create_permission, Peers, <<"a\r\n\e[2J", 0, 255>>),
    Refusal = meerkat_refusal:of_request(403, Request, {relay, forbidden, <<"a\nb">>}, ?LIMITS),
    Line = unicode:characters_to_list(meerkat_refusal:line(Refusal, Request)),
    ?assert(lists:all(fun(C) -> C >= 32 end, Line), Line),
    ?assert(length(Line) < 400, Line),
    ?assertNotEqual(nomatch, string:find(Line, "and 292 more")).
