%% While an embedder's authenticator is unavailable: whoever has an allocation is known by the key
%% it was made with, so that calls go on; nobody else is let in by it.
-module(unavailable_SUITE).
-behaviour(meerkat_authenticator).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([calls_go_on/1, moves_go_on/1, others_get_no_answer/1, another_key_gets_no_answer/1,
         revoked_is_revoked/1, the_authorizer_is_asked/1, what_expired_is_not_kept/1,
         realms_stay_strict/1, the_key_is_not_printed/1, keys_are_of_whom_it_knows/1]).
-export([password/3, authorize/2]).

-import(turn_kit, [open/2, send/2, challenged/1, signed/3, signed/4, call/3, call/4, allocated/3,
                   allocate/1, permit/2, bind/3, peer/0, get/2, success/1, expect/2, eventually/1,
                   fence/1, with_server/2]).

%% Only names with a time can be revoked.
-define(REVOCABLE, <<"4102444800:carol">>).

all() ->
    [calls_go_on, moves_go_on, others_get_no_answer, another_key_gets_no_answer,
     revoked_is_revoked, the_authorizer_is_asked, what_expired_is_not_kept, realms_stay_strict,
     the_key_is_not_printed, keys_are_of_whom_it_knows].

suite() -> [{timetrap, {seconds, 60}}].

%%% The authenticator: one user, and a switch.

password(<<"carol">>, _Realm, Switch) -> told(Switch, {ok, {password, <<"sesame">>}});
password(?REVOCABLE, _Realm, Switch) -> told(Switch, {ok, {password, <<"sesame">>}});
password(_User, _Realm, Switch) -> told(Switch, error).

told(Switch, Known) ->
    case atomics:get(Switch, 1) of
        0 -> Known;
        1 -> unavailable
    end.

authorize(#{peers := [{_, 99}]}, none) -> {deny, 403};
authorize(_, none) -> allow.

carol() -> #{user => <<"carol">>, password => <<"sesame">>}.

with_switch(Fun) -> with_switch(#{}, Fun).

with_switch(More, Fun) ->
    Switch = atomics:new(1, []),
    with_server(More#{authenticator => {?MODULE, Switch}}, fun(Server) ->
        Fun(Server, fun() -> atomics:put(Switch, 1, 1) end)
    end).

%% Sends what gets no answer: shown by what is counted as left without one, and by the socket, which
%% has nothing but the answer to what was sent next.
unanswered(#{server := #{name := Name}} = Client, Bytes) ->
    Left = fun() -> #{answers := #{unavailable := N}} = meerkat:info(Name), N end,
    Before = Left(),
    ok = send(Client, Bytes),
    eventually(fun() -> Left() > Before end),
    ?assertEqual(Before + 1, Left()),
    %% A signed one would not be answered either.
    fence(maps:remove(key, Client)).

%%% Cases

calls_go_on(_) ->
    with_switch(fun(Server, Off) ->
        Client = allocated(Server, [], carol()),
        Off(),
        #{address := Address} = peer(),
        _ = success(permit(Client, [Address])),
        _ = success(bind(Client, 16#4000, Address)),
        _ = success(call(Client, refresh, [])),
        %% Refused is refused, and signed.
        _ = expect(437, allocate(Client)),
        _ = success(call(Client, refresh, [{lifetime, 0}])),
        %% It is nobody's any more.
        unanswered(Client, signed(Client, refresh, []))
    end).

moves_go_on(_) ->
    with_switch(#{mobility => true}, fun(Server, Off) ->
        Client = allocated(Server, [{mobility_ticket, <<>>}], carol()),
        Ticket = get(mobility_ticket, maps:get(answer, Client)),
        Moved = challenged(open(Server, carol())),
        Off(),
        _ = success(call(Moved, refresh, [{mobility_ticket, Ticket}])),
        ok
    end).

others_get_no_answer(_) ->
    with_switch(fun(Server, Off) ->
        Client = allocated(Server, [], carol()),
        Fresh = challenged(open(Server, carol())),
        Off(),
        %% Without an allocation, and by another name on the allocation's 5-tuple.
        unanswered(Fresh, signed(Fresh, allocate, [{requested_transport, 17}])),
        unanswered(Client, signed(Client, refresh, [], #{user => <<"dave">>})),
        unanswered(Client, signed(Client, refresh, [],
                                  #{user => <<"dave">>, key => maps:get(key, Client)})),
        _ = success(call(Client, refresh, []))
    end).

another_key_gets_no_answer(_) ->
    with_switch(fun(Server, Off) ->
        Client = allocated(Server, [], carol()),
        Off(),
        unanswered(Client, signed(Client, refresh, [], #{key => <<"another">>})),
        %% By SHA-256 it would be another key of the same password.
        unanswered(Client, signed(Client, refresh, [], #{algorithm => sha256})),
        _ = success(call(Client, refresh, []))
    end).

%% Told without ending the allocation, as a revocation does that comes a moment before its end.
revoked_is_revoked(_) ->
    with_switch(fun(#{name := Name} = Server, Off) ->
        Client = allocated(Server, [], #{user => ?REVOCABLE, password => <<"sesame">>}),
        Off(),
        _ = success(call(Client, refresh, [])),
        ok = meerkat_revoked:revoke(Name, <<"carol">>, 4102444800),
        _ = expect(401, call(Client, refresh, []))
    end).

the_authorizer_is_asked(_) ->
    with_switch(#{authorizer => {?MODULE, none}}, fun(Server, Off) ->
        Client = allocated(Server, [], carol()),
        Off(),
        _ = expect(403, bind(Client, 16#4000, {{127, 0, 0, 1}, 99})),
        _ = success(bind(Client, 16#4000, {{127, 0, 0, 1}, 98}))
    end).

%% Time-limited credentials have an end also while the authenticator is away.
what_expired_is_not_kept(_) ->
    with_switch(#{credential_leeway => 0}, fun(#{secret := Secret} = Server, Off) ->
        End = meerkat_clock:wall_s() + 2,
        User = <<(integer_to_binary(End))/binary, ":eve">>,
        Password = base64:encode(crypto:mac(hmac, sha, Secret, User)),
        Client = allocated(Server, [], #{user => User, password => Password}),
        Off(),
        _ = success(call(Client, refresh, [])),
        eventually(fun() -> meerkat_clock:wall_s() > End + 1 end),
        unanswered(Client, signed(Client, refresh, []))
    end).

realms_stay_strict(_) ->
    with_switch(fun(#{name := Name} = Server, Off) ->
        Client = allocated(Server, [], carol()),
        Off(),
        #{} = meerkat:info(Name),
        Key = stun_model:key(<<"carol">>, <<"elsewhere">>, <<"sesame">>),
        unanswered(Client, signed(Client, refresh, [], #{realm => <<"elsewhere">>, key => Key}))
    end),
    with_switch(#{strict_realm => true}, fun(Server, Off) ->
        Client = allocated(Server, [], carol()),
        Off(),
        #{key := Key} = Client,
        _ = expect(401, call(Client, refresh, [], #{realm => <<"elsewhere">>, key => Key})),
        _ = success(call(Client, refresh, []))
    end).

the_key_is_not_printed(_) ->
    with_switch(fun(#{name := Name} = Server, _Off) ->
        #{key := Key} = allocated(Server, [], carol()),
        [{_, Pid}] = meerkat_alloc_table:sessions(Name),
        State = sys:get_state(Pid),
        Printed = lists:flatten(io_lib:format("~w~n~p", [State, State])),
        Bytes = lists:flatten(lists:join($,, [integer_to_list(B) || <<B>> <= Key])),
        [?assertEqual(nomatch, string:find(Printed, Secret)) || Secret <- [Bytes, "sesame"]]
    end).

%% Of users of the configuration nothing is kept: it is there to be asked.
keys_are_of_whom_it_knows(_) ->
    with_switch(fun(#{secret := Secret}, _Off) ->
        Auth = meerkat_auth:new(#{secrets => [Secret], secret_as_password => true, users => #{},
                                  realm => <<"r">>,
                                  authenticator => {?MODULE, atomics:new(1, [])}}),
        Proof = fun(User, Password) ->
            Message = #{class => request, method => refresh, transaction_id => <<1:96>>,
                        attributes => [{username, User}, {realm, <<"r">>}]},
            Key = meerkat_stun:key(md5, User, <<"r">>, Password),
            Packet = meerkat_stun:encode(Message#{integrity => {sha1, Key}}),
            {ok, Decoded} = meerkat_stun:decode(Packet),
            {ok, Identity} = meerkat_auth:authenticate(Packet, Decoded, <<"r">>, Auth),
            is_map_key(proof, Identity)
        end,
        ?assert(Proof(<<"carol">>, <<"sesame">>)),
        ?assertNot(Proof(<<"eve">>, Secret))
    end).
