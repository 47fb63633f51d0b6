%% The frame protocol: meerkat_ctl by itself, meerkat_ctl against the C codec, and the files made
%% from ctl.def against what their source makes now. Builds c_src/ctl/gen.c into its own directory;
%% knows no port and no relay.
-module(ctl_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([round_trip/1, truncated/1, trailing/1, reserved/1, unknown_code/1, unknown_family/1,
         unknown_status/1, wrong_field/1, wrong_range/1, wrong_message/1, peers/1, worker/1,
         tables/1]).
-export([fresh_page/1, fresh_header/1, same_samples/1, same_echo/1]).

-define(ROUNDS, 200).

all() ->
    [{group, erlang}, {group, c}].

groups() ->
    [{erlang, [parallel], [round_trip, truncated, trailing, reserved, unknown_code, unknown_family,
                           unknown_status, wrong_field, wrong_range, wrong_message, peers, worker,
                           tables]},
     {c, [], [fresh_page, fresh_header, same_samples, same_echo]}].

init_per_suite(Config) -> Config.

end_per_suite(_Config) -> ok.

init_per_group(c, Config) ->
    Root = root(proplists:get_value(data_dir, Config)),
    Build = filename:join(proplists:get_value(priv_dir, Config), "build"),
    Gen = filename:join([Build, "release", "gen"]),
    {0, _} = run(["env -u MAKEFLAGS -u VARIANT make -s -C ", Root, "/c_src BUILD=", Build,
                  " PRIV=", Build, "/priv ", Gen]),
    [{root, Root}, {gen, Gen} | Config];
init_per_group(erlang, Config) ->
    Config.

end_per_group(_Group, _Config) -> ok.

%%% meerkat_ctl by itself

%% What is encoded decodes to the same message, for every message.
round_trip(_Config) ->
    for_each_message(fun(Ref, Message) ->
        ?assertEqual({ok, Ref, Message}, meerkat_ctl:decode(frame(Ref, Message)))
    end).

%% A frame that ends early is malformed, wherever it ends.
truncated(_Config) ->
    for_each_message(fun(Ref, Message) ->
        Frame = frame(Ref, Message),
        [?assertEqual({error, malformed}, meerkat_ctl:decode(binary:part(Frame, 0, N)))
         || N <- lists:seq(0, byte_size(Frame) - 1)]
    end).

trailing(_Config) ->
    for_each_message(fun(Ref, Message) ->
        Frame = frame(Ref, Message),
        ?assertEqual({error, malformed}, meerkat_ctl:decode(<<Frame/binary, 0>>))
    end).

%% The three zero bytes of the header are zero.
reserved(_Config) ->
    for_each_message(fun(Ref, Message) ->
        <<Code, 0:24, Rest/binary>> = frame(Ref, Message),
        [?assertEqual({error, malformed}, meerkat_ctl:decode(<<Code, Bits:24, Rest/binary>>))
         || Bits <- [1, 16#100, 16#10000]]
    end).

unknown_code(_Config) ->
    Known = [Code || {_, Code, _, _} <- meerkat_ctl:messages()],
    [?assertEqual({error, unknown_code}, meerkat_ctl:decode(<<Code, 0:24, 0:32>>))
     || Code <- lists:seq(0, 255) -- Known].

%% Addresses are of family 0, 4 or 6.
unknown_family(_Config) ->
    [begin
         Frame = frame(1, {listening, #{listener => 1, status => ok, local => undefined,
                                        detail => <<1:160>>}}),
         <<Before:14/binary, 0, After/binary>> = Frame,
         ?assertEqual({error, malformed},
                      meerkat_ctl:decode(<<Before/binary, Family, After/binary>>))
     end || Family <- lists:seq(0, 255) -- [0, 4, 6]].

unknown_status(_Config) ->
    Known = [Code || {_, Code} <- meerkat_ctl:statuses()],
    Frame = fun(Status) -> <<2, 0:24, 7:32, 1, Status:16, 0:64, 0:32>> end,
    [?assertMatch({ok, 7, {reply, #{command := 1}}}, meerkat_ctl:decode(Frame(Status)))
     || Status <- Known],
    [?assertEqual({error, malformed}, meerkat_ctl:decode(Frame(Status)))
     || Status <- [lists:max(Known) + 1, 256, 16#ffff]].

%% Each field must be there, in its type, and no other.
wrong_field(_Config) ->
    for_each_message(fun(Ref, {Name, Fields}) ->
        ?assertError(badarg, frame(Ref, {Name, Fields#{stranger => 1}})),
        [begin
             ?assertError(badarg, frame(Ref, {Name, maps:remove(Field, Fields)})),
             Renamed = maps:put(stranger, 1, maps:remove(Field, Fields)),
             ?assertError(badarg, frame(Ref, {Name, Renamed})),
             ?assertError(badarg, frame(Ref, {Name, Fields#{Field := no_such_value}}))
         end || Field <- maps:keys(Fields)]
    end).

wrong_range(_Config) ->
    Wrong = #{u8 => [-1, 256, 1.0], u16 => [-1, 1 bsl 16, <<1>>], u32 => [-1, 1 bsl 32, "1"],
              u64 => [-1, 1 bsl 64, 0.0], status => [0, unknown, <<"ok">>],
              bytes => [1, [256], [a]],
              addr => [{1, 2, 3, 4}, {{1, 2, 3}, 1}, {{1, 2, 3, 256}, 1}, {{1, 2, 3, 4}, 65536},
                       {{1, 2, 3, -4}, 1}, {{0, 0, 0, 0, 0, 0, 0, 65536}, 1}, none, <<0>>]},
    for_each_message(fun(Ref, {Name, Fields}) ->
        {Name, _, _, Types} = lists:keyfind(Name, 1, meerkat_ctl:messages()),
        [?assertError(badarg, frame(Ref, {Name, Fields#{Field := Value}}))
         || {Field, Type} <- Types, Value <- maps:get(Type, Wrong)]
    end).

wrong_message(_Config) ->
    Stats = {stats, #{}},
    ?assertEqual(<<16#40, 0:24, 16#ffffffff:32>>, frame(16#ffffffff, Stats)),
    [?assertError(badarg, meerkat_ctl:encode(Ref, Stats)) || Ref <- [-1, 1 bsl 32, a, 1.0]],
    [?assertError(badarg, meerkat_ctl:encode(1, Message))
     || Message <- [{no_such_message, #{}}, {<<"stats">>, #{}}, {stats, []}, stats, {stats}]],
    ?assertError(badarg, meerkat_ctl:way(no_such_message)).

peers(_Config) ->
    Seed = seed(),
    {Lists, _} = lists:mapfoldl(fun(N, S) -> random_list(N, fun random_addr/1, S) end, Seed,
                                lists:seq(0, 20)),
    [begin
         Binary = meerkat_ctl:encode_peers(List),
         ?assertEqual(List, meerkat_ctl:peers(Binary)),
         ?assertError(badarg, meerkat_ctl:peers(<<Binary/binary, 4>>)),
         ?assertError(badarg, meerkat_ctl:peers(<<Binary/binary, 5, 1:48>>))
     end || List <- Lists],
    ?assertError(badarg, meerkat_ctl:encode_peers([{1, 2, 3, 4}])).

worker(_Config) ->
    ?assertEqual(0, meerkat_ctl:worker(16#00ffffffffffffff)),
    ?assertEqual(1, meerkat_ctl:worker(16#0100000000000000)),
    ?assertEqual(255, meerkat_ctl:worker(16#ffffffffffffffff)).

%% Names and codes are told apart, and the bounds of the types hold.
tables(_Config) ->
    Messages = meerkat_ctl:messages(),
    unique([Name || {Name, _, _, _} <- Messages]),
    unique([Code || {_, Code, _, _} <- Messages]),
    [unique([Field || {Field, _} <- Types]) || {_, _, _, Types} <- Messages],
    [?assertEqual(Way, meerkat_ctl:way(Name)) || {Name, _, Way, _} <- Messages],
    unique([Name || {Name, _} <- meerkat_ctl:statuses()]),
    unique([Code || {_, Code} <- meerkat_ctl:statuses()]),
    ?assertEqual({ok, 0}, lists:keyfind(ok, 1, meerkat_ctl:statuses())),
    ?assertEqual(1, meerkat_ctl:transport(udp)),
    ?assertError(badarg, meerkat_ctl:transport(carrier_pigeon)),
    unique([Name || {Name, _, _} <- meerkat_ctl:counters()]),
    [?assert(lists:member(Kind, [counter, drop])) || {_, Kind, _} <- meerkat_ctl:counters()],
    ?assertEqual(<<"MKRT">>, <<(meerkat_ctl:magic()):32>>),
    ?assertEqual(1, meerkat_ctl:version()).

unique(List) ->
    ?assertEqual(lists:sort(List), lists:usort(List)).

%%% meerkat_ctl and its sources

fresh_page(Config) ->
    fresh(Config, "protocol", "docs/protocol.md").

fresh_header(Config) ->
    fresh(Config, "hrl", "src/base/meerkat_ctl.hrl").

%% If this fails: make -C c_src gen.
fresh(Config, What, File) ->
    {0, Made} = run([proplists:get_value(gen, Config), " ", What]),
    {ok, Kept} = file:read_file(filename:join(proplists:get_value(root, Config), File)),
    ?assertEqual(Made, Kept).

%% C encodes each message as Erlang does. The values come by the rule in gen.c: fields count from
%% 1 through the whole table, in a byte, and the count says the value.
same_samples(Config) ->
    {0, Output} = run([proplists:get_value(gen, Config), " sample"]),
    Frames = [binary:decode_hex(Line) || Line <- lines(Output)],
    {Samples, _} = lists:mapfoldl(fun sample/2, 1, meerkat_ctl:messages()),
    ?assertEqual([frame(Ref, Message) || {Ref, Message} <- Samples], Frames),
    ?assertEqual([{ok, Ref, Message} || {Ref, Message} <- Samples],
                 [meerkat_ctl:decode(Frame) || Frame <- Frames]).

sample({Name, _Code, _Way, Types}, First) ->
    Numbered = lists:zip(lists:seq(First, First + length(Types) - 1), Types),
    Fields = maps:from_list([{Field, sample_value(Type, N band 255)}
                             || {N, {Field, Type}} <- Numbered]),
    {{repeated(First band 255, 4), {Name, Fields}}, First + length(Types)}.

sample_value(u8, N) -> N;
sample_value(u16, N) -> repeated(N, 2);
sample_value(u32, N) -> repeated(N, 4);
sample_value(u64, N) -> repeated(N, 8);
sample_value(status, N) ->
    Statuses = meerkat_ctl:statuses(),
    {Status, _} = lists:nth(N rem length(Statuses) + 1, Statuses),
    Status;
sample_value(addr, N) when N rem 3 =:= 0 -> undefined;
sample_value(addr, N) when N rem 3 =:= 1 -> {{N, N, N, N}, repeated(N, 2)};
sample_value(addr, N) ->
    {list_to_tuple(lists:duplicate(8, repeated(N, 2))), repeated(N, 2)};
sample_value(bytes, N) -> binary:copy(<<N>>, N rem 7).

repeated(N, Times) ->
    binary:decode_unsigned(binary:copy(<<N>>, Times)).

%% C takes the frames Erlang takes and gives them back unchanged, and refuses those that Erlang
%% refuses: random frames, whole and damaged.
same_echo(Config) ->
    {Frames, _} = lists:mapfoldl(
        fun({Message, damage}, S0) ->
                {{Ref, Random}, S1} = random_message(Message, S0),
                damage(frame(Ref, Random), S1);
           ({Message, whole}, S0) ->
                {{Ref, Random}, S1} = random_message(Message, S0),
                {frame(Ref, Random), S1}
        end, seed(),
        [{Message, How} || Message <- meerkat_ctl:messages(), How <- [whole, damage],
                           _ <- lists:seq(1, ?ROUNDS)]),
    File = filename:join(proplists:get_value(priv_dir, Config), "frames"),
    ok = file:write_file(File, [[binary:encode_hex(Frame), $\n] || Frame <- Frames]),
    {0, Output} = run([proplists:get_value(gen, Config), " echo < ", File]),
    Answers = lines(Output),
    ?assertEqual(length(Frames), length(Answers)),
    Verdicts = lists:zipwith(fun compare/2, Frames, Answers),
    [?assert(lists:member(Verdict, Verdicts)) || Verdict <- [same, malformed, unknown_code]].

compare(Frame, Answer) ->
    case meerkat_ctl:decode(Frame) of
        {ok, Ref, Message} ->
            ?assertEqual(Frame, frame(Ref, Message)),
            ?assertEqual(Frame, binary:decode_hex(Answer)),
            same;
        {error, unknown_code} ->
            ?assertEqual(<<"code">>, Answer),
            unknown_code;
        {error, malformed} ->
            Faults = [<<"short">>, <<"reserved">>, <<"family">>, <<"trailing">>],
            %% To C a status is a number: that alone may be right there and wrong here.
            lists:member(Answer, Faults) orelse
                begin
                    ?assertEqual(Frame, binary:decode_hex(Answer)),
                    {_, _, _, Types} = lists:keyfind(binary:first(Frame), 2,
                                                     meerkat_ctl:messages()),
                    ?assert(lists:keymember(status, 2, Types))
                end,
            malformed
    end.

damage(Frame, S0) ->
    {How, S1} = rand:uniform_s(3, S0),
    {At, S2} = uniform(byte_size(Frame), S1),
    {Byte, S3} = uniform(256, S2),
    <<Before:At/binary, Old, After/binary>> = Frame,
    {case How of
         1 -> Before;
         2 -> <<Before/binary, Byte, Old, After/binary>>;
         3 -> <<Before/binary, Byte, After/binary>>
     end, S3}.

%%% Random messages: the same in every run

seed() ->
    rand:seed_s(exsss, {20, 2, 1}).

for_each_message(Fun) ->
    lists:foldl(
        fun(Message, S0) ->
                lists:foldl(fun(_, S1) ->
                                    {{Ref, Random}, S2} = random_message(Message, S1),
                                    Fun(Ref, Random),
                                    S2
                            end, S0, lists:seq(1, ?ROUNDS))
        end, seed(), meerkat_ctl:messages()),
    ok.

random_message({Name, _Code, _Way, Types}, S0) ->
    {Ref, S1} = random_value(u32, S0),
    {Fields, S2} = lists:mapfoldl(fun({Field, Type}, S) ->
                                          {Value, Next} = random_value(Type, S),
                                          {{Field, Value}, Next}
                                  end, S1, Types),
    {{Ref, {Name, maps:from_list(Fields)}}, S2}.

random_value(u8, S) -> edgy(8, S);
random_value(u16, S) -> edgy(16, S);
random_value(u32, S) -> edgy(32, S);
random_value(u64, S) -> edgy(64, S);
random_value(status, S0) ->
    Statuses = meerkat_ctl:statuses(),
    {N, S1} = rand:uniform_s(length(Statuses), S0),
    {element(1, lists:nth(N, Statuses)), S1};
random_value(addr, S) -> random_addr(S);
random_value(bytes, S0) ->
    {Size, S1} = uniform(40, S0),
    random_bytes(Size, S1).

random_addr(S0) ->
    {Kind, S1} = rand:uniform_s(3, S0),
    {Port, S2} = edgy(16, S1),
    case Kind of
        1 -> {undefined, S2};
        2 -> random_ip(4, 8, Port, S2);
        3 -> random_ip(8, 16, Port, S2)
    end.

random_ip(Parts, Bits, Port, S0) ->
    {IP, S1} = random_list(Parts, fun(S) -> edgy(Bits, S) end, S0),
    {{list_to_tuple(IP), Port}, S1}.

random_bytes(Size, S0) ->
    {List, S1} = random_list(Size, fun(S) -> uniform(256, S) end, S0),
    {list_to_binary(List), S1}.

random_list(Length, Fun, S) ->
    lists:mapfoldl(fun(_, S0) -> Fun(S0) end, S, lists:duplicate(Length, x)).

%% An integer of so many bits; its bounds come up often.
edgy(Bits, S0) ->
    case rand:uniform_s(8, S0) of
        {1, S1} -> {0, S1};
        {2, S1} -> {(1 bsl Bits) - 1, S1};
        {_, S1} -> uniform(1 bsl Bits, S1)
    end.

uniform(Below, S0) ->
    {N, S1} = rand:uniform_s(Below, S0),
    {N - 1, S1}.

%%% Helpers

frame(Ref, Message) ->
    iolist_to_binary(meerkat_ctl:encode(Ref, Message)).

lines(Output) ->
    binary:split(Output, <<"\n">>, [global, trim]).

%% The source tree: tests may run from a copy below it.
root("/") ->
    error(no_source_tree);
root(Dir) ->
    case filelib:is_regular(filename:join(Dir, "c_src/ctl/ctl.def")) of
        true -> Dir;
        false -> root(filename:dirname(Dir))
    end.

run(Command) ->
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", iolist_to_binary(Command)]}, binary, exit_status]),
    collect(Port, []).

collect(Port, Acc) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Acc, Data]);
        {Port, {exit_status, Status}} ->
            ct:log("exit ~p~n~ts", [Status, Acc]),
            {Status, iolist_to_binary(Acc)}
    end.
