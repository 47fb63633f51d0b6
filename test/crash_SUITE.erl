%% Faults of ours: what is told of them, and that they cost nobody else anything.
-module(crash_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([any_reason_of_a_request_is_told/1, kinds_of_reasons/1, exceptions_without_values/1,
         registered_names_are_told/1]).

all() ->
    [any_reason_of_a_request_is_told, kinds_of_reasons, exceptions_without_values,
     registered_names_are_told].

%% Whatever was raised: the process of the pool lives on, its client is left without an answer.
any_reason_of_a_request_is_told(_) ->
    turn_kit:with_server(#{}, fun(#{name := Name}) ->
        [begin
             #{answers := #{none := Before}} = meerkat:info(Name),
             Lines = log_kit:logged(fun() ->
                 {noreply, Name} = meerkat_request:handle_info({again, job(Name, Reason)}, Name)
             end),
             ?assertMatch({Reason, [_]}, {Reason, [L || L <- Lines,
                 string:find(L, "a request was left without an answer: error") =/= nomatch]}),
             ?assertEqual(nomatch, string:find(lists:append(Lines), "pa55word")),
             ?assertMatch(#{answers := #{none := N}} when N =:= Before + 1, meerkat:info(Name))
         end || Reason <- ["pa55word", <<"pa55word">>, {}, {"pa55word"}, #{a => "pa55word"}, 1,
                           badarg, {badmatch, "pa55word"}]]
    end).

%% One that is answered 437, whose answer cannot be signed.
job(Name, Reason) ->
    Place = #{listener => 1, transport => 1, client => {{192, 0, 2, 1}, 5},
              server => {{192, 0, 2, 2}, 6}},
    #{wire => meerkat_roles:find(Name, wire), flow => 1, from => self(), place => Place,
      arrived => erlang:monotonic_time(microsecond), session => 0,
      request => #{user => <<"alice">>, realm => default, client => {{192, 0, 2, 1}, 5},
                   message => #{class => request, method => refresh, attributes => [],
                                transaction_id => <<1:96>>, malformed => [], unknown => [],
                                fingerprint => false}},
      seal => fun(_) -> error(Reason) end}.

kinds_of_reasons(_) ->
    [?assertEqual(Kind, meerkat_crash:reason(Reason))
     || {Kind, Reason} <- [{badarg, badarg}, {badmatch, {badmatch, "x"}}, {noproc, {noproc, f}},
                           {not_shown, "x"}, {not_shown, <<"x">>}, {not_shown, {}},
                           {not_shown, {"x"}}, {not_shown, #{}}, {not_shown, 1}]].

%% What the compiler would warn of where it stood.
no_binary() -> {"pa55word"}.

exceptions_without_values(_) ->
    self() ! "pa55word",
    try
        meerkat_crash:without_values(fun() -> binary_to_list(no_binary()) end)
    catch
        error:badarg:Stack ->
            ?assertEqual(nomatch, string:find(lists:flatten(io_lib:format("~p", [Stack])),
                                              "pa55word"))
    end,
    receive Mail -> error({left, Mail}) after 0 -> ok end,
    ?assertEqual(5, meerkat_crash:without_values(fun() -> 5 end)).

%% What our modules register is in the application's file, for releases go by it.
registered_names_are_told(_) ->
    _ = application:load(meerkat),
    {ok, Told} = application:get_key(meerkat, registered),
    {ok, Modules} = application:get_key(meerkat, modules),
    Registering = [M || M <- Modules, {ok, {_, [{abstract_code, {_, Code}}]}} <-
                            [beam_lib:chunks(code:which(M), [abstract_code])],
                        registers(Code)],
    ?assert(length(Registering) > 1, Registering),
    ?assertEqual([], Registering -- Told).

%% {local, Name} handed to a start function, or register/2.
registers(Code) ->
    Text = lists:flatten([erl_pp:form(Form) || Form <- Code, element(1, Form) =:= function]),
    re:run(Text, "start_link\\(\\s*\\{local,|[^a-z_]register\\(") =/= nomatch.
