%% An allocation with a history, whose relay dies, and another relay that takes what time it likes
%% over each step of the way back. Properties for PropEr. No process, no relay: meerkat_alloc_core
%% is handed its events, and what it wants told to a relay is encoded as meerkat_relay would.
-module(prop_replay).

-export([prop_replay_at_any_time/0]).

-define(FORALL(Var, Type, Property), proper:forall(Type, fun(Var) -> Property end)).

-import(proper_types, [range/2, oneof/1, list/1]).

-define(CLIENT, {{192, 0, 2, 9}, 4000}).
-define(V4, {203, 0, 113, 5}).
-define(V6, {16#2001, 16#db8, 0, 0, 0, 0, 0, 5}).
-define(PEERS, [{198, 51, 100, 1}, {198, 51, 100, 2}, {16#2001, 16#db8, 0, 0, 0, 0, 0, 9}]).
-define(SESSION, 5).

%% Whatever has ended when a relay is told of it, and whenever that is: each command can be encoded,
%% and the allocation is there again or over, but not lost.
-spec prop_replay_at_any_time() -> proper:test().
prop_replay_at_any_time() ->
    ?FORALL({Families, History, Steps}, {oneof([1, 2]), list({pause(), request()}),
                                         {pause(), pause(), pause()}},
            begin
                {Then, Alloc} = lists:foldl(fun asked/2, made(Families), History),
                replayed(Steps, Then, Alloc)
            end).

%% Whole seconds meet the ends of what lasts whole seconds.
pause() ->
    oneof([0, 1, range(0, 400000),
           oneof([N * 1000 || N <- [60, 120, 179, 180, 299, 300, 600, 900]])]).

request() ->
    oneof([{create_permission, oneof(?PEERS)},
           {channel_bind, range(16#4000, 16#4002), oneof(?PEERS)},
           {refresh, oneof([none, 1, 2]), oneof([600, 900, 1200])}]).

made(Families) ->
    Asked = message(allocate, [{requested_transport, 17}
                               | [{additional_address_family, 2} || Families =:= 2]]),
    {create, Plan} = meerkat_alloc_admit:admit(request_of(Asked), limits()),
    {Alloc, [{ask, Ref, _}]} = meerkat_alloc_core:new(Plan, ?SESSION, place(), limits()),
    {Made, _} = meerkat_alloc_core:handle({relay, Ref, created(Families)}, 0, Alloc),
    {0, {Families, Made}}.

%% The relay would have ended it meanwhile, or has one of its families and answers ok.
asked({Pause, Request}, {Now0, {Families, Alloc0}}) ->
    Now = Now0 + Pause,
    Event = {request, (request_of(message(Request)))#{limits => limits()}},
    case meerkat_alloc_core:handle(Event, Now, Alloc0) of
        {Alloc, [{ask, Ref, Command}]} ->
            _ = iolist_size(meerkat_ctl:encode(Ref, Command)),
            {Next, _} = meerkat_alloc_core:handle({relay, Ref, ok()}, Now, Alloc),
            {Now, {Families, Next}};
        {Alloc, [{answer, _}]} ->
            {Now, {Families, Alloc}}
    end.

replayed({BeforeUp, BeforeThere, BeforeWhole}, Then, {Families, Alloc0}) ->
    Up = Then + BeforeUp,
    {Down, []} = meerkat_alloc_core:handle(relay_down, Then, Alloc0),
    case meerkat_alloc_core:handle(relay_up, Up, Down) of
        {_, [{replayed, over} | _]} ->
            true;
        {Asked, [{ask, Ref, Create}]} ->
            _ = iolist_size(meerkat_ctl:encode(Ref, Create)),
            There = Up + BeforeThere,
            {Waits, [{replayed, there}]} =
                meerkat_alloc_core:handle({relay, Ref, created(Families)}, There, Asked),
            {_, Effects} = meerkat_alloc_core:handle(relay_whole, There + BeforeWhole, Waits),
            _ = [iolist_size(meerkat_ctl:encode(0, Command)) || {tell, Command} <- Effects],
            {replayed, ok} =:= lists:last(Effects)
    end.

message({create_permission, Ip}) ->
    message(create_permission, [{xor_peer_address, {Ip, 0}}]);
message({channel_bind, Number, Ip}) ->
    message(channel_bind, [{channel_number, Number}, {xor_peer_address, {Ip, 5000}}]);
message({refresh, none, Lifetime}) ->
    message(refresh, [{lifetime, Lifetime}]);
message({refresh, Family, Lifetime}) ->
    message(refresh, [{lifetime, Lifetime}, {requested_address_family, Family}]).

message(Method, Attributes) ->
    #{class => request, method => Method, transaction_id => <<0:96>>, attributes => Attributes,
      unknown => [], malformed => [], integrity => sha1, fingerprint => false}.

request_of(Message) ->
    #{message => Message, user => <<"alice">>, client => ?CLIENT}.

place() ->
    #{listener => 1, transport => 1, client => ?CLIENT, server => {?V4, 3478}}.

created(Families) ->
    {alloc_created, #{session => ?SESSION, status => ok, token => 0,
                      relayed_v4 => {?V4, 50000}, pool_v4 => 1, status_v4 => ok,
                      relayed_v6 => case Families of 2 -> {?V6, 50000}; 1 -> undefined end,
                      pool_v6 => Families - 1, status_v6 => ok}}.

ok() ->
    {reply, #{command => 0, status => ok, session => ?SESSION, detail => <<>>}}.

limits() ->
    #{default_lifetime => 600, max_lifetime => 3600, max_peers => 4, channel_max => 16#4fff,
      pools => #{4 => [{1, ?V4}], 6 => [{1, ?V6}]}}.
