%% Who may come in: long-term credentials (RFC 8489 9.2) from each backend, with the vectors of the
%% RFCs and passwords as MongooseIM, ejabberd and prosody make them.
-module(auth_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(REALM, <<"turn1.localhost">>).
-define(NONCE, <<"obMatJos2AAAAnonce">>).

all() ->
    [keys_of_mongooseice, key_of_rfc8489_9_2_2, rest_passwords, rest_expiry_grammar,
     rest_credentials_made_and_taken, rest_expired_401, rest_checked_at_every_request,
     rest_strange_names_401, rest_several_secrets, rest_needs_its_own_password,
     rest_leeway, rest_sha256, rest_left, rest_name_first, refusals_are_told, refusals_do_not_flood,
     secret_is_password_of_any_user, secret_is_no_password_unless_it_is_said_to_be,
     several_secrets, secret_of_any_realm, strict_realm,
     users_password, users_key, users_key_is_no_sha256_key, user_has_only_its_own_password,
     user_beside_secret, nobody_configured, wrong_password_401, unknown_user_costs_the_same,
     unknown_userhash_costs_the_same, empty_username_is_nobody, rfc5769_2_4, rfc8489_b_1,
     rfc8489_b_1_other_bits, userhash_of_a_listeners_realm, username_beside_userhash,
     sha256_decides, sha1_response_for_sha256_without_algorithm, sha256_response_for_algorithms,
     sha1_response_for_legacy_request, password_algorithm_sha256, password_algorithm_unknown_400,
     algorithms_as_offered_or_400, algorithms_with_parameters_400, no_algorithms_mean_md5,
     sha256_for_every_backend, sha256_required, nothing_to_sign_with_400, sealed_is_verified,
     nothing_secret_is_printed, reasons_for_a_log, reasons_of_strangers_are_escaped,
     failures_are_limited, failures_are_forgiven, failures_of_others, failures_without_limit,
     failures_take_no_memory, opaque_strings, opaque_strings_refused, opaque_strings_in_context,
     opaque_strings_stay].

%%% Keys and passwords

%% Keys of a deployment of MongooseICE: MD5(username ":" REALM as sent ":" secret).
keys_of_mongooseice(_) ->
    [?assertEqual(Key, meerkat_stun:key(User, Realm, Secret))
     || {User, Realm, Secret, Key} <- [
            {<<"user">>, <<"turn1.localhost">>, <<"abc">>,
             <<16#d6b9a8a470737a9f70827c1237b45381:128>>},
            {<<"user">>, <<"foo">>, <<"abc">>,
             <<16#cb71cce9d36f81a328d52c47deb9e936:128>>},
            {<<"ignored">>, <<"myrelay">>, <<"secret">>,
             <<16#64486993ca44fe870e4568ba2abe5ba3:128>>},
            {<<"username">>, <<"udp.localhost.local">>, <<"very_secret">>,
             <<16#6bb824d9cdeaecd013c53cb2e380c419:128>>}]].

key_of_rfc8489_9_2_2(_) ->
    ?assertEqual(<<16#8493fbc53ba582fb4c044c456bdc40eb:128>>,
                 meerkat_stun:key(<<"user">>, <<"realm">>, <<"pass">>)).

%% As MongooseIM checks itself; then ejabberd's, prosody's and other shapes of the name.
rest_passwords(_) ->
    [?assertEqual(Password, meerkat_auth_rest:password(Secret, User), User)
     || {Secret, User, Password} <- [
            {<<"my shared secret">>, <<"100:dummy_user">>, <<"aBGRg1t/TGlc9+gkWObW2Li97Ew=">>},
            {<<"secret123">>, <<"10000:dummy_user@example.org">>,
             <<"CKDrp61KWUnSXKusLAMKmL0qcQo=">>},
            {<<"super#secret">>, <<"1772853308:example.org">>,
             <<"+THIMe4fdg70xzgyfQe1sXwl8ys=">>},
            {<<"super#secret">>, <<"5318549598:example.org">>,
             <<"D8j9h+xPoWi8AL7Q5AfGywcRy10=">>},
            {<<"sharedsecret">>, <<"1795190888:alice@localhost">>,
             <<"tYUn+DlWjcA93uBAl3X5pEtpSu0=">>},
            {<<"sharedsecret">>, <<"1795190888">>, <<"sOwQ6TV8OeMoV+ddSTdFE+EkBcw=">>},
            {<<"sharedsecret">>, <<"1795190888:relay">>, <<"vAwj34gFvt4blmEoQ22NRhzFTMc=">>},
            {<<"sharedsecret">>, <<"1795190888:0123456789abcdef">>,
             <<"nDhpUveH+2Zo30M0y9UnKvY67Tc=">>},
            {<<"sharedsecret">>, <<"1795190888:åsa@exämple.org"/utf8>>,
             <<"G1O/VXxwnIkzqRWUU3Wm2I4BcNs=">>}]].

%% X44: strictly decimal, 64 bits, ends at the first colon or with the name.
rest_expiry_grammar(_) ->
    [?assertEqual({ok, Expiry}, meerkat_auth_rest:expiry(User, expiry), User)
     || {User, Expiry} <- [{<<"1795190888">>, 1795190888},
                           {<<"1795190888:">>, 1795190888},
                           {<<"1795190888:a:b@c/d">>, 1795190888},
                           {<<"5318549598:example.org">>, 5318549598},
                           {<<"0:x">>, 0},
                           {<<"9223372036854775807">>, 16#7fffffffffffffff}]],
    [?assertEqual(error, meerkat_auth_rest:expiry(User, expiry), User)
     || User <- [<<>>, <<":">>, <<":alice">>, <<"alice">>, <<"-1:u">>, <<"+1:u">>, <<"1e9:u">>,
                 <<" 1795190888:u">>, <<"1795190888 :u">>, <<"0x10:u">>, <<"17951908.8:u">>,
                 <<"9223372036854775808">>, <<"18446744073709551615:u">>,
                 <<"99999999999999999999:u">>, <<"00000000001795190888:u">>,
                 <<"1795190888\n">>]].

%%% Time-limited credentials

rest_credentials_made_and_taken(_) ->
    {User, Password} = fresh(<<"s3cret">>, <<"alice">>, 60),
    ?assertEqual({ok, User}, authenticated(User, Password, #{secrets => [<<"s3cret">>]})).

rest_expired_401(_) ->
    [begin
         {User, Password} = fresh(<<"s3cret">>, <<"alice">>, Ttl),
         ?assertEqual({error, 401}, authenticated(User, Password, #{secrets => [<<"s3cret">>]}))
     end || Ttl <- [-1, -3600]].

%% The same signed request, once the time has come.
rest_checked_at_every_request(_) ->
    Secret = <<"s3cret">>,
    {User, Password} = meerkat_auth_rest:credentials(Secret, <<"alice">>, 100, 1000),
    {ok, State} = meerkat_auth_rest:init(#{secrets => [Secret]}),
    [?assertEqual({also, Expected}, meerkat_auth_rest:candidates(User, Now, State), Now)
     || {Now, Expected} <- [{1000, [{password, Password, 1100}]},
                            {1100, [{password, Password, 1100}]},
                            {1101, []}, {1 bsl 40, []}]].

rest_strange_names_401(_) ->
    [?assertEqual({error, 401},
                  authenticated(User, meerkat_auth_rest:password(<<"s3cret">>, User),
                                #{secrets => [<<"s3cret">>]}), User)
     || User <- [<<"-1:u">>, <<"1e9:u">>, <<"99999999999999999999:u">>, <<"alice">>,
                 <<" 4000000000:u">>]].

rest_several_secrets(_) ->
    [begin
         {User, Password} = fresh(Secret, <<"alice">>, 60),
         ?assertEqual(Outcome, outcome(User, Password, #{secrets => [<<"new">>, <<"old">>]}))
     end || {Secret, Outcome} <- [{<<"new">>, ok}, {<<"old">>, ok}, {<<"older">>, 401}]].

rest_needs_its_own_password(_) ->
    {User, _} = fresh(<<"s3cret">>, <<"alice">>, 60),
    {_, Other} = fresh(<<"s3cret">>, <<"bob">>, 60),
    ?assertEqual(401, outcome(User, Other, #{secrets => [<<"s3cret">>]})).

%% To the second, and told by it how long they expired ago.
rest_leeway(_) ->
    {User, Password} = meerkat_auth_rest:credentials(<<"s3cret">>, <<"alice">>, 100, 1000),
    {ok, State} = meerkat_auth_rest:init(#{secrets => [<<"s3cret">>], credential_leeway => 30}),
    [?assertEqual({also, Expected}, meerkat_auth_rest:candidates(User, Now, State), Now)
     || {Now, Expected} <- [{1000, [{password, Password, 1130}]},
                            {1130, [{password, Password, 1130}]}, {1131, []}]],
    ?assertEqual({expired, 31}, meerkat_auth_rest:why(User, 1131, State)).

%% Passwords computed by openssl, see rest_passwords.
rest_sha256(_) ->
    [?assertEqual(Password, meerkat_auth_rest:password(sha256, <<"sharedsecret">>, User))
     || {User, Password} <- [{<<"1795190888">>, <<"PjgCC6pSMGsoigWVV1yOSVIurgCPWm4dyrIZHjpQYGA=">>},
                             {<<"1795190888:0123456789abcdef">>,
                              <<"A1qLMZK8A9YfoPCMzirKYISNND0teLTGPR39npkLin8=">>}]],
    {User, Sha1} = fresh(<<"s3cret">>, <<"alice">>, 60),
    Sha256 = meerkat_auth_rest:password(sha256, <<"s3cret">>, User),
    Config = #{secrets => [<<"old">>, <<"s3cret">>]},
    [?assertEqual(Outcome, outcome(User, Password, Config#{credential_sha256 => Flag}))
     || {Password, Flag, Outcome} <- [{Sha1, false, ok}, {Sha256, false, 401},
                                      {Sha1, true, ok}, {Sha256, true, ok}]].

%% In the order `name:expiry` where that is configured, and in the usual one there too; what is in
%% the usual order is never read in the other.
rest_name_first(_) ->
    Secret = <<"s3cret">>,
    Until = integer_to_binary(erlang:system_time(second) + 60),
    Both = #{secrets => [Secret], credential_name_first => true},
    Signed = fun(User, Config) ->
        outcome(User, meerkat_auth_rest:password(Secret, User), Config)
    end,
    NameFirst = <<"alice:", Until/binary>>,
    ?assertEqual({ok, 401}, {Signed(NameFirst, Both), Signed(NameFirst, #{secrets => [Secret]})}),
    [?assertEqual({User, ok}, {User, Signed(User, Both)})
     || User <- [<<Until/binary, ":alice">>, Until, <<"a@b/c d:", Until/binary>>]],
    [?assertEqual({User, 401}, {User, Signed(User, Both)})
     || User <- [<<"alice:1000">>, <<"1000:", Until/binary>>, <<":", Until/binary>>,
                 <<"alice:", Until/binary, ":">>, <<"alice:", Until/binary, "x">>, <<"alice:">>,
                 <<"alice">>, <<"a:b:", Until/binary>>]],
    {ok, State} = meerkat_auth_rest:init(#{secrets => [Secret]}),
    ?assertEqual(name_first, meerkat_auth_rest:why(NameFirst, 1000, State)),
    ?assertEqual([<<"alice">>, <<"alice">>, NameFirst],
                 [meerkat_quota:user_key(User, Order)
                  || {User, Order} <- [{NameFirst, either}, {<<"1:alice">>, either},
                                       {NameFirst, expiry}]]).

%% Only where allocations are to end with the credentials; never nothing, and with the leeway.
rest_left(_) ->
    Left = fun(Ttl, Config) ->
        {User, Password} = fresh(<<"s3cret">>, <<"alice">>, Ttl),
        {ok, Identity} = identify(sign(#{}, User, Password),
                                  auth(Config#{secrets => [<<"s3cret">>]})),
        maps:get(left, Identity, none)
    end,
    ?assertEqual(none, Left(60, #{})),
    Ending = #{expire_with_credentials => true, credential_leeway => 100},
    ?assert(lists:member(Left(60, Ending), [160, 159, 158])),
    ?assert(lists:member(Left(-98, Ending), [2, 1])),
    {ok, Secret} = identify(sign(#{}, <<"alice">>, <<"s3cret">>),
                            auth(Ending#{secrets => [<<"s3cret">>]})),
    ?assertNot(is_map_key(left, Secret)).

%%% How often the log tells, by a clock of ours

%% A source: five times, and once a minute; what was left out is counted.
refusals_are_told(_) ->
    Refusals = meerkat_refusal_log:new(),
    Told = fun(Us) -> meerkat_refusal_log:verdict(Refusals, {192, 0, 2, 1}, Us) end,
    Second = 1000000,
    [?assertEqual({log, 0}, Told(Second)) || _ <- lists:seq(1, 5)],
    [?assertEqual(leave_out, Told(Second)) || _ <- lists:seq(1, 7)],
    ?assertEqual(leave_out, Told(61 * Second - 1)),
    ?assertEqual({log, 8}, Told(61 * Second)),
    ?assertEqual(leave_out, Told(61 * Second)),
    ?assertEqual({log, 1}, Told(10000 * Second)).

%% From however many addresses: ten, and two in a second.
refusals_do_not_flood(_) ->
    Refusals = meerkat_refusal_log:new(),
    Told = fun(Us) ->
        length([told || A <- lists:seq(0, 39), B <- lists:seq(1, 250),
                        {log, _} <- [meerkat_refusal_log:verdict(Refusals, {192, 0, A, B}, Us)]])
    end,
    ?assertEqual(10, Told(1000000)),
    ?assertEqual(2, Told(2000000)),
    %% Of a /64 the addresses are one source.
    V6 = meerkat_refusal_log:new(),
    ?assertEqual(5, length([told || N <- lists:seq(1, 9),
                                    {log, _} <- [meerkat_refusal_log:verdict(
                                        V6, {16#2001, 16#db8, 0, 0, 0, 0, 0, N}, 0)]])).

%%% The shared secret (K1, K2)

secret_is_password_of_any_user(_) ->
    [?assertEqual({ok, User}, authenticated(User, <<"abc">>, #{secrets => [<<"abc">>]}))
     || User <- [<<"user">>, <<"ignored">>, <<"åsa"/utf8>>, <<0, 255>>, <<"100:expired">>,
                 binary:copy(<<"x">>, 508)]].

%% It signs credentials all the same.
secret_is_no_password_unless_it_is_said_to_be(_) ->
    Now = erlang:system_time(second),
    {Name, Password} = meerkat_auth_rest:credentials(<<"abc">>, <<"bob">>, 100, Now),
    [begin
         Config = #{secrets => [<<"abc">>], secret_as_password => No},
         ?assertEqual([401, 401, ok], [outcome(<<"user">>, <<"abc">>, Config),
                                       outcome(Name, <<"abc">>, Config),
                                       outcome(Name, Password, Config)])
     end || No <- [false, auto]].

several_secrets(_) ->
    Config = #{secrets => [<<"new">>, <<"old">>]},
    ?assertEqual([ok, ok, 401],
                 [outcome(<<"u">>, Password, Config)
                  || Password <- [<<"new">>, <<"old">>, <<"x">>]]).

%% K1: hashed with the REALM that was sent, compared with none.
secret_of_any_realm(_) ->
    Config = #{secrets => [<<"abc">>]},
    [?assertEqual({ok, <<"user">>},
                  authenticate(sign(#{realm => Realm}, <<"user">>, <<"abc">>), Config))
     || Realm <- [?REALM, <<"foo">>, <<"é"/utf8>>]].

strict_realm(_) ->
    Config = #{secrets => [<<"abc">>], strict_realm => true},
    ?assertEqual({ok, <<"user">>}, authenticate(sign(#{}, <<"user">>, <<"abc">>), Config)),
    ?assertEqual({error, 401}, authenticate(sign(#{realm => <<"foo">>}, <<"user">>, <<"abc">>),
                                            Config)).

%%% Static users

users_password(_) ->
    Config = #{users => #{<<"alice">> => {password, <<"wonderland">>}}},
    ?assertEqual(ok, outcome(<<"alice">>, <<"wonderland">>, Config)),
    ?assertEqual(401, outcome(<<"alice">>, <<"wonder">>, Config)),
    ?assertEqual(401, outcome(<<"bob">>, <<"wonderland">>, Config)).

users_key(_) ->
    Key = meerkat_stun:key(<<"alice">>, ?REALM, <<"wonderland">>),
    Config = #{users => #{<<"alice">> => {key, Key}}},
    ?assertEqual(ok, outcome(<<"alice">>, <<"wonderland">>, Config)),
    ?assertEqual(401, outcome(<<"alice">>, <<"wonder">>, Config)).

users_key_is_no_sha256_key(_) ->
    Key = meerkat_stun:key(<<"alice">>, ?REALM, <<"wonderland">>),
    Config = #{users => #{<<"alice">> => {key, Key}}},
    [?assertEqual({error, 401}, authenticate(sign(#{attributes => [{password_algorithm, {2, <<>>}}],
                                                    integrity => {sha256, K}},
                                                  <<"alice">>, <<>>), Config))
     || K <- [Key, meerkat_stun:key(sha256, <<"alice">>, ?REALM, <<"wonderland">>)]].

user_has_only_its_own_password(_) ->
    Config = #{users => #{<<"alice">> => {password, <<"wonderland">>}}, secrets => [<<"abc">>]},
    ?assertEqual(ok, outcome(<<"alice">>, <<"wonderland">>, Config)),
    ?assertEqual(401, outcome(<<"alice">>, <<"abc">>, Config)).

user_beside_secret(_) ->
    Config = #{users => #{<<"alice">> => {password, <<"wonderland">>}}, secrets => [<<"abc">>]},
    ?assertEqual(ok, outcome(<<"bob">>, <<"abc">>, Config)),
    {User, Password} = fresh(<<"abc">>, <<"alice">>, 60),
    ?assertEqual(ok, outcome(User, Password, Config)).

nobody_configured(_) ->
    ?assertEqual(401, outcome(<<"alice">>, <<"abc">>, #{secrets => [], users => #{}})).

wrong_password_401(_) ->
    ?assertEqual({error, 401}, authenticated(<<"u">>, <<"no">>, #{secrets => [<<"abc">>]})).

%%% No oracle (X34, X35)

%% As many signatures are computed for a name that is there as for one that is not.
unknown_user_costs_the_same(_) ->
    [begin
         Auth = auth(Config),
         Costs = [cost(sign(#{}, User, <<"wrong">>), Auth) || User <- [<<"alice">>, <<"mallory">>]],
         ?assertMatch([N, N] when N > 0, Costs, Config)
     end || Secrets <- [[], [<<"abc">>], [<<"abc">>, <<"def">>]],
            Known <- [{password, <<"wonderland">>}, {key, <<0:128>>}],
            Config <- [#{users => #{<<"alice">> => Known}, secrets => Secrets}]].

unknown_userhash_costs_the_same(_) ->
    Auth = auth(#{users => #{<<"alice">> => {password, <<"wonderland">>}}, secrets => [<<"abc">>]}),
    Costs = [cost(sign(#{user => {userhash, meerkat_stun:userhash(User, ?REALM)}}, User,
                       <<"wrong">>), Auth)
             || User <- [<<"alice">>, <<"mallory">>]],
    ?assertMatch([N, N] when N > 0, Costs).

%% The name that stands for no name must not open by the secret.
empty_username_is_nobody(_) ->
    Request = sign(#{user => {userhash, <<0:256>>}}, <<>>, <<"abc">>),
    ?assertEqual({error, 401}, authenticate(Request, #{secrets => [<<"abc">>]})).

%%% Vectors

rfc5769_2_4(_) ->
    Config = #{users => #{<<"マトリックス"/utf8>> => {password, <<"TheMatrIX">>}}},
    ?assertEqual({ok, <<"マトリックス"/utf8>>}, authenticate(vector("5769-2.4"), Config)),
    ?assertEqual({ok, <<"マトリックス"/utf8>>},
                 authenticate(vector("5769-2.4"), #{secrets => [<<"TheMatrIX">>]})).

%% USERHASH, PASSWORD-ALGORITHM SHA-256, MESSAGE-INTEGRITY-SHA256; as corrected by erratum 6268.
rfc8489_b_1(_) ->
    Config = #{users => #{<<"マトリックス"/utf8>> => {password, <<"TheMatrIX">>}},
               realm => <<"example.org">>},
    ?assertEqual({ok, <<"マトリックス"/utf8>>}, authenticate(vector("8489-B.1"), Config)).

rfc8489_b_1_other_bits(_) ->
    Config = #{users => #{<<"マトリックス"/utf8>> => {password, <<"TheMatrIX">>}},
               realm => <<"example.org">>},
    Packet = vector("8489-B.1"),
    Size = byte_size(Packet) - 1,
    <<Most:Size/binary, Last>> = Packet,
    ?assertEqual({error, 401}, authenticate(<<Most/binary, (Last bxor 1)>>, Config)).

%%% USERHASH (RFC 8489 9.2, X42)

userhash_of_a_listeners_realm(_) ->
    Config = #{users => #{<<"alice">> => {password, <<"wonderland">>}}, realm => <<"one">>,
               listeners => [#{transport => udp, ip => any, port => 0},
                             #{transport => udp, ip => any, port => 0, realm => <<"two">>}]},
    [?assertEqual(Outcome, authenticate(
         sign(#{realm => Realm, user => {userhash, meerkat_stun:userhash(<<"alice">>, Realm)}},
              <<"alice">>, <<"wonderland">>), Config))
     || {Realm, Outcome} <- [{<<"one">>, {ok, <<"alice">>}}, {<<"two">>, {ok, <<"alice">>}},
                             {<<"three">>, {error, 401}}]].

username_beside_userhash(_) ->
    Config = #{users => #{<<"alice">> => {password, <<"wonderland">>},
                          <<"bob">> => {password, <<"builder">>}}},
    Hash = {userhash, meerkat_stun:userhash(<<"alice">>, ?REALM)},
    ?assertEqual({ok, <<"bob">>},
                 authenticate(sign(#{attributes => [Hash]}, <<"bob">>, <<"builder">>), Config)).

%%% Algorithms (RFC 8489 9.2.4)

%% X43: where both are there, SHA-1 is not looked at.
sha256_decides(_) ->
    Config = #{secrets => [<<"abc">>]},
    Good = meerkat_stun:key(<<"u">>, ?REALM, <<"abc">>),
    Bad = <<0:128>>,
    [?assertEqual(Outcome, authenticate(both(Sha1, Sha256), Config))
     || {Sha1, Sha256, Outcome} <- [{Good, Good, {ok, <<"u">>}}, {Bad, Good, {ok, <<"u">>}},
                                    {Good, Bad, {error, 401}}]].

%% S32: a request that names no algorithm was processed as MD5, and "in that case, the
%% MESSAGE-INTEGRITY attribute MUST be used", whatever its own was.
sha1_response_for_sha256_without_algorithm(_) ->
    Key = meerkat_stun:key(<<"u">>, ?REALM, <<"abc">>),
    [?assertEqual(sha1, signed_as(Packet, #{secrets => [<<"abc">>]}))
     || Packet <- [sign(#{integrity => {sha256, Key}}, <<"u">>, <<"abc">>), both(Key, Key)]].

sha256_response_for_algorithms(_) ->
    [?assertEqual(sha256, signed_as(sign(#{attributes => Attributes}, <<"u">>, <<"abc">>),
                                    #{secrets => [<<"abc">>]}))
     || Attributes <- [[{password_algorithm, {1, <<>>}}],
                       [{password_algorithms, [{2, <<>>}, {1, <<>>}]},
                        {password_algorithm, {1, <<>>}}]]].

sha1_response_for_legacy_request(_) ->
    ?assertEqual(sha1, signed_as(sign(#{}, <<"u">>, <<"abc">>), #{secrets => [<<"abc">>]})).

password_algorithm_sha256(_) ->
    Key = meerkat_stun:key(sha256, <<"u">>, ?REALM, <<"abc">>),
    Request = sign(#{attributes => [{password_algorithm, {2, <<>>}}], integrity => {sha256, Key}},
                   <<"u">>, <<"abc">>),
    ?assertEqual({ok, <<"u">>}, authenticate(Request, #{secrets => [<<"abc">>]})),
    ?assertEqual(sha256, signed_as(Request, #{secrets => [<<"abc">>]})).

password_algorithm_unknown_400(_) ->
    Request = sign(#{attributes => [{password_algorithm, {7, <<>>}}]}, <<"u">>, <<"abc">>),
    ?assertEqual({error, 400}, authenticate(Request, #{secrets => [<<"abc">>]})).

-define(OFFER, [{2, <<>>}, {1, <<>>}]).

%% S27, X41: both attributes, the list as it was sent, the choice in it. A bid-down is a 400, and
%% comes before a look at who asks.
algorithms_as_offered_or_400(_) ->
    Config = #{secrets => [<<"abc">>], password_algorithms => true},
    [begin
         Algorithm = case One of {2, _} -> sha256; _ -> md5 end,
         Key = meerkat_stun:key(Algorithm, User, ?REALM, <<"abc">>),
         Attributes = [{password_algorithms, All} || All =/= none]
             ++ [{password_algorithm, One} || One =/= none],
         Request = sign(#{attributes => Attributes, integrity => {Hash, Key}}, User, <<>>),
         Expected = case Outcome of ok -> {ok, User}; _ -> {error, Outcome} end,
         ?assertEqual({All, One, Expected}, {All, One, authenticate(Request, Config)})
     end || {All, One, Outcome} <- [{?OFFER, {2, <<>>}, ok}, {?OFFER, {1, <<>>}, ok},
                                    {none, none, ok},
                                    {?OFFER, none, 400}, {none, {1, <<>>}, 400},
                                    {none, {2, <<>>}, 400}, {?OFFER, {3, <<>>}, 400},
                                    {?OFFER, {2, <<"p">>}, 400},
                                    {lists:reverse(?OFFER), {2, <<>>}, 400},
                                    {[{2, <<>>}], {2, <<>>}, 400}, {[{1, <<>>}], {1, <<>>}, 400},
                                    {?OFFER ++ [{3, <<>>}], {3, <<>>}, 400},
                                    {?OFFER ++ [{1, <<>>}], {1, <<>>}, 400},
                                    {[{2, <<"p">>}, {1, <<>>}], {1, <<>>}, 400}],
            User <- [<<"u">>, <<255>>],
            Hash <- [sha1, sha256]].

%% S45: a value of the wrong shape is no value, and no reason to go on as if there were none.
algorithms_with_parameters_400(_) ->
    Key = meerkat_stun:key(<<"u">>, ?REALM, <<"abc">>),
    [?assertEqual({error, 400},
                  authenticate(sign(#{attributes => [{Code, Value}], integrity => {sha256, Key}},
                                    <<"u">>, <<"abc">>),
                               #{secrets => [<<"abc">>], password_algorithms => Offered}))
     || Offered <- [true, false],
        {Code, Value} <- [{16#001d, <<1:16, 1:16>>}, {16#001d, <<1:16, 0:16, 1:16, 0:16>>},
                          {16#001d, <<1:16>>}, {16#8002, <<2:16, 0:16, 1:16>>},
                          {16#8002, <<>>}, {16#8002, <<2:16, 9:16, 0:32>>}]].

%% S26.
no_algorithms_mean_md5(_) ->
    Config = #{secrets => [<<"abc">>], password_algorithms => true},
    ?assertEqual({ok, <<"u">>}, authenticated(<<"u">>, <<"abc">>, Config)),
    Key = meerkat_stun:key(sha256, <<"u">>, ?REALM, <<"abc">>),
    ?assertEqual({error, 401},
                 authenticate(sign(#{integrity => {sha256, Key}}, <<"u">>, <<>>), Config)).

sha256_for_every_backend(_) ->
    {Rest, Password} = fresh(<<"abc">>, <<"bob">>, 60),
    Config = #{secrets => [<<"abc">>], users => #{<<"alice">> => {password, <<"wonderland">>}},
               password_algorithms => true},
    [?assertEqual({ok, User}, authenticate(sha256_signed(User, Proof), Config))
     || {User, Proof} <- [{<<"alice">>, <<"wonderland">>}, {Rest, Password}, {<<"u">>, <<"abc">>}]].

sha256_signed(User, Password) ->
    Key = meerkat_stun:key(sha256, User, ?REALM, Password),
    sign(#{attributes => [{password_algorithms, ?OFFER}, {password_algorithm, {2, <<>>}}],
           integrity => {sha256, Key}}, User, Password).

%% X41: whoever wants it can do without MD5.
sha256_required(_) ->
    Config = #{secrets => [<<"abc">>], password_algorithms => true, require_sha256 => true},
    Md5 = sign(#{attributes => [{password_algorithms, ?OFFER}, {password_algorithm, {1, <<>>}}]},
               <<"u">>, <<"abc">>),
    [?assertEqual({error, 401}, authenticate(Request, Config))
     || Request <- [sign(#{}, <<"u">>, <<"abc">>), Md5]],
    ?assertEqual({ok, <<"u">>}, authenticate(sha256_signed(<<"u">>, <<"abc">>), Config)).

%% The relay refuses these before; should it not, they earn the same here.
nothing_to_sign_with_400(_) ->
    Config = #{secrets => [<<"abc">>]},
    ?assertEqual({error, 400}, authenticate(sign(#{user => none}, <<"u">>, <<"abc">>), Config)),
    ?assertEqual({error, 400}, authenticate(sign(#{realm => none}, <<"u">>, <<"abc">>), Config)),
    ?assertEqual({error, 401}, authenticate(sign(#{integrity => none}, <<"u">>, <<"abc">>),
                                            Config)).

sealed_is_verified(_) ->
    Auth = auth(#{secrets => [<<"abc">>]}),
    {ok, #{seal := Seal}} = identify(sign(#{}, <<"u">>, <<"abc">>), Auth),
    Sealed = Seal(#{class => success, method => refresh, transaction_id => <<1:96>>,
                    attributes => [{lifetime, 600}], fingerprint => true}),
    ?assertEqual(ok, meerkat_stun:verify(Sealed, meerkat_stun:key(<<"u">>, ?REALM, <<"abc">>))),
    ?assertMatch({ok, #{fingerprint := true}}, meerkat_stun:decode(Sealed)).

%% X46: whatever is printed of it, in a shell or a crash report, no secret or key is in it.
nothing_secret_is_printed(_) ->
    Secret = <<"s3cret">>,
    Auth = auth(#{secrets => [Secret], users => #{<<"alice">> => {password, Secret}}}),
    {ok, Identity} = identify(sign(#{}, <<"u">>, Secret), Auth),
    {ok, Settings} = meerkat_settings:new(server, #{secrets => [Secret], listeners => [],
                                                    users => #{<<"alice">> => {password, Secret}}}),
    [?assertEqual(nomatch, string:find(io_lib:format("~p", [Term]), Needle))
     || Term <- [Auth, Identity, Settings, meerkat:child_spec(server, #{secrets => [Secret]})],
        Needle <- ["s3cret", io_lib:format("~w", [Secret]),
                   io_lib:format("~p", [meerkat_stun:key(<<"u">>, ?REALM, Secret)])]].

%%% Reasons, for those who may know

reasons_for_a_log(_) ->
    Now = erlang:system_time(second),
    Key = meerkat_stun:key(<<"kay">>, ?REALM, <<"wonderland">>),
    Users = #{users => #{<<"alice">> => {password, <<"wonderland">>}, <<"kay">> => {key, Key}},
              password_algorithms => true},
    Secret = Users#{secrets => [<<"abc">>]},
    Expired = <<(integer_to_binary(Now - 100))/binary, ":bob">>,
    Valid = <<(integer_to_binary(Now + 100))/binary, ":bob">>,
    Hash = {userhash, crypto:strong_rand_bytes(32)},
    [begin
         Said = lists:flatten(io_lib:format("~ts", [why(Request, Config)])),
         ?assertMatch({Said, {match, _}}, {Said, re:run(Said, Pattern)})
     end || {Request, Config, Pattern} <- [
        {sign(#{}, <<"alice">>, <<"no">>), Users, "^wrong password of user \"alice\"$"},
        {sign(#{}, <<"alice">>, <<"no">>), Secret, "^wrong password of user \"alice\"$"},
        {sign(#{}, <<"mallory">>, <<"no">>), Users, "^there is no user \"mallory\"$"},
        {sign(#{}, <<"mallory">>, <<"no">>), Secret,
         "^wrong password of user \"mallory\", a name that begins with no expiry$"},
        {sign(#{}, <<"mallory">>, <<"no">>), Secret#{secret_as_password => auto},
         "^there is no user \"mallory\": the name begins with no expiry, and the secret is no "
         "password unless secret_as_password is true$"},
        {sign(#{}, Valid, <<"no">>), Secret,
         "^wrong password of user \"[0-9]+:bob\": it was not made with the secret$"},
        {sign(#{}, Valid, <<"no">>), #{secrets => [<<"a">>, <<"b">>]},
         "^wrong password of user \"[0-9]+:bob\": it was made with none of the 2 secrets$"},
        {sign(#{}, Expired, <<"no">>), Secret,
         "^the credentials of \"[0-9]+:bob\" expired 1[0-9][0-9] s ago$"},
        {sha256_signed(<<"kay">>, <<"wonderland">>), Users,
         "^user \"kay\" is known by an MD5 key, which SHA-256 cannot use$"},
        {sign(#{}, <<"kay">>, <<"no">>), Users, "^wrong password of user \"kay\"$"},
        {sign(#{user => Hash}, <<"alice">>, <<"no">>), Secret,
         "^nobody is known by that USERHASH$"},
        {sign(#{}, <<"alice">>, <<"wonderland">>), Users#{require_sha256 => true},
         "^it uses MD5 where SHA-256 is required$"},
        {sign(#{realm => <<"foo">>}, <<"alice">>, <<"wonderland">>), Users#{strict_realm => true},
         "^realm \"foo\" is not ours$"},
        {sign(#{attributes => [{password_algorithms, ?OFFER}]}, <<"alice">>, <<"wonderland">>),
         Users, "^its password algorithms are not those it was offered$"},
        {sign(#{user => none}, <<"alice">>, <<"no">>), Users, "^it names no user$"},
        {sign(#{realm => none}, <<"alice">>, <<"no">>), Users, "^it has no REALM$"}]].

%% X46: one line, whatever a name is made of.
reasons_of_strangers_are_escaped(_) ->
    [begin
         Said = io_lib:format("~ts", [why(sign(#{realm => Text}, Text, <<"s3cret">>), Config)]),
         ?assertEqual(nomatch, re:run(Said, "[\\x00-\\x1f\\x7f]")),
         ?assertEqual(nomatch, string:find(Said, "s3cret"))
     end || Text <- [<<"a\r\nb">>, <<"a\0b">>, <<"\e[31m">>, <<255, 254>>, <<"%n%s~p">>],
            Config <- [#{secrets => [<<"s3cret2">>]}, #{strict_realm => true},
                       #{users => #{<<"x">> => {password, <<"s3cret">>}}}]].

why(Packet, Config) ->
    {ok, Message} = meerkat_stun:decode(Packet),
    meerkat_auth:why(Message, ?REALM, auth(Config)).

%%% How often one may be wrong (X36), by a clock of ours

-define(S, 1000000).

failures_are_limited(_) ->
    Failures = meerkat_auth_failures:new(10),
    Ip = {192, 0, 2, 1},
    ?assertEqual(20, fail_until_refused(Failures, Ip, <<"alice">>, 5 * ?S)),
    ?assertEqual(0, fail_until_refused(Failures, Ip, <<"alice">>, 5 * ?S)).

%% One more every tenth of a second, and never more than the burst.
failures_are_forgiven(_) ->
    Failures = meerkat_auth_failures:new(10),
    Ip = {192, 0, 2, 1},
    _ = fail_until_refused(Failures, Ip, <<"alice">>, ?S),
    ?assertEqual(0, fail_until_refused(Failures, Ip, <<"alice">>, ?S + 99999)),
    ?assertEqual(1, fail_until_refused(Failures, Ip, <<"alice">>, ?S + 100000)),
    ?assertEqual(9, fail_until_refused(Failures, Ip, <<"alice">>, 2 * ?S)),
    ?assertEqual(20, fail_until_refused(Failures, Ip, <<"alice">>, 1000 * ?S)).

failures_of_others(_) ->
    Failures = meerkat_auth_failures:new(10),
    V6 = {16#2001, 16#db8, 1, 2, 3, 4, 5, 6},
    _ = [fail_until_refused(Failures, Ip, <<"alice">>, 0) || Ip <- [{192, 0, 2, 1}, V6]],
    %% A /64 is one source, as an IPv4 address is.
    [?assertEqual(true, meerkat_auth_failures:too_many(Failures, Ip, <<"alice">>, 0))
     || Ip <- [{192, 0, 2, 1}, V6, {16#2001, 16#db8, 1, 2, 7, 7, 7, 7}]],
    %% By chance two of them may share a bucket; all of them do not.
    Others = [{{192, 0, 2, 2}, <<"alice">>}, {{192, 0, 2, 1}, <<"bob">>},
              {{16#2001, 16#db8, 1, 3, 3, 4, 5, 6}, <<"alice">>}, {{192, 0, 3, 1}, <<"alice">>}],
    ?assert(lists:any(fun({Ip, User}) ->
                          not meerkat_auth_failures:too_many(Failures, Ip, User, 0)
                      end, Others)).

failures_without_limit(_) ->
    Failures = meerkat_auth_failures:new(0),
    [ok = meerkat_auth_failures:count(Failures, {192, 0, 2, 1}, <<"u">>, 0)
     || _ <- lists:seq(1, 1000)],
    ?assertEqual(false, meerkat_auth_failures:too_many(Failures, {192, 0, 2, 1}, <<"u">>, 0)).

%% 100,000 names later it is as large as it was.
failures_take_no_memory(_) ->
    Failures = meerkat_auth_failures:new(10),
    Size = erts_debug:flat_size(Failures),
    [ok = meerkat_auth_failures:count(Failures, {10, 0, 0, N rem 256}, <<N:32>>, N)
     || N <- lists:seq(1, 100000)],
    ?assertEqual(Size, erts_debug:flat_size(Failures)).

fail_until_refused(Failures, Ip, User, Now) ->
    case meerkat_auth_failures:too_many(Failures, Ip, User, Now) of
        true -> 0;
        false ->
            ok = meerkat_auth_failures:count(Failures, Ip, User, Now),
            1 + fail_until_refused(Failures, Ip, User, Now)
    end.

%%% OpaqueString (RFC 8265 4.2), the examples of its 4.3 first

opaque_strings(_) ->
    [?assertEqual({ok, Prepared}, meerkat_opaque_string:prepare(Text), Text)
     || {Text, Prepared} <- [
            {<<"correct horse battery staple">>, <<"correct horse battery staple">>},
            {<<"Correct Horse Battery Staple">>, <<"Correct Horse Battery Staple">>},
            {<<"πßå"/utf8>>, <<"πßå"/utf8>>},
            {<<"Jack of \x{2666}s"/utf8>>, <<"Jack of \x{2666}s"/utf8>>},
            {<<"foo\x{1680}bar"/utf8>>, <<"foo bar">>},
            {<<"a\x{a0}\x{2003}\x{202f}\x{3000}b"/utf8>>, <<"a    b">>},
            {<<"e\x{301}"/utf8>>, <<"\x{e9}"/utf8>>},
            {<<"\x{212b}"/utf8>>, <<"\x{c5}"/utf8>>},
            {<<"\x{ff21}\x{fb01}\x{2168}"/utf8>>, <<"\x{ff21}\x{fb01}\x{2168}"/utf8>>},
            {<<"マトリックス"/utf8>>, <<"マトリックス"/utf8>>},
            {<<"TheMatrIX">>, <<"TheMatrIX">>}, {<<" ~!\"\\">>, <<" ~!\"\\">>}]].

opaque_strings_refused(_) ->
    [?assertEqual(error, meerkat_opaque_string:prepare(Text), Text)
     || Text <- [<<>>, <<"my cat is a \x{9}by"/utf8>>, <<"a\n">>, <<0>>, <<127>>,
                 <<"\x{85}"/utf8>>, <<"a\x{ad}b"/utf8>>, <<"\x{200b}"/utf8>>,
                 <<"\x{feff}a"/utf8>>, <<"\x{2028}"/utf8>>, <<"\x{378}"/utf8>>,
                 <<"\x{e000}"/utf8>>, <<"\x{fdd0}"/utf8>>, <<"\x{10fffd}"/utf8>>,
                 <<"\x{115f}"/utf8>>, <<"\x{1100}\x{1161}"/utf8>>, <<"\x{640}"/utf8>>,
                 <<"\x{fe0f}"/utf8>>, <<"\x{e0100}"/utf8>>, <<"\x{3164}"/utf8>>,
                 <<255>>, <<"a", 16#c3>>, <<16#ed, 16#a0, 16#80>>]].

%% RFC 5892 A.
opaque_strings_in_context(_) ->
    [?assertEqual(Allowed, meerkat_opaque_string:prepare(Text) =:= {ok, Text}, Text)
     || {Text, Allowed} <- [
            {<<"\x{915}\x{94d}\x{200d}"/utf8>>, true}, {<<"a\x{200d}b"/utf8>>, false},
            {<<"\x{915}\x{94d}\x{200c}\x{937}"/utf8>>, true}, {<<"a\x{200c}b"/utf8>>, false},
            {<<"\x{645}\x{6cc}\x{200c}\x{62e}"/utf8>>, true},
            {<<"\x{6cc}\x{200c}"/utf8>>, false},
            {<<"l\x{b7}l"/utf8>>, true}, {<<"a\x{b7}l"/utf8>>, false},
            {<<"l\x{b7}"/utf8>>, false}, {<<"\x{375}\x{3b1}"/utf8>>, true},
            {<<"\x{375}a"/utf8>>, false}, {<<"\x{5d0}\x{5f3}"/utf8>>, true},
            {<<"a\x{5f4}"/utf8>>, false}, {<<"\x{30a2}\x{30fb}b"/utf8>>, true},
            {<<"a\x{30fb}b"/utf8>>, false}, {<<"\x{661}\x{662}"/utf8>>, true},
            {<<"\x{661}x\x{6f1}"/utf8>>, false}, {<<"\x{6f1}x\x{661}"/utf8>>, false}]].

%% What is prepared stays as it is, whatever the characters; and it is never an error of ours.
opaque_strings_stay(_) ->
    [case meerkat_opaque_string:prepare(Text) of
         {ok, Prepared} -> ?assertEqual({ok, Prepared}, meerkat_opaque_string:prepare(Prepared));
         error -> ok
     end || C <- lists:seq(1, 16#30000, 7), C < 16#d800 orelse C > 16#dfff,
            Text <- [<<"a", C/utf8, "b">>]].

%%% Helpers

auth(Config) ->
    meerkat_auth:new(maps:merge(#{secrets => [], secret_as_password => true, users => #{},
                                  realm => ?REALM}, Config)).

identify(Packet, Auth) ->
    {ok, Message} = meerkat_stun:decode(Packet),
    meerkat_auth:authenticate(Packet, Message, ?REALM, Auth).

authenticate(Packet, Config) ->
    case identify(Packet, auth(Config)) of
        {ok, #{user := User}} -> {ok, User};
        {error, Code} -> {error, Code}
    end.

authenticated(User, Password, Config) ->
    authenticate(sign(#{}, User, Password), Config).

outcome(User, Password, Config) ->
    case authenticated(User, Password, Config) of
        {ok, User} -> ok;
        {error, Code} -> Code
    end.

fresh(Secret, User, Ttl) ->
    meerkat_auth_rest:credentials(Secret, User, Ttl, erlang:system_time(second)).

%% A Refresh request. Options: realm, user (another attribute than USERNAME, or none), attributes
%% (more of them), integrity ({Algorithm, Key}, or none).
sign(Options, User, Password) ->
    Realm = maps:get(realm, Options, ?REALM),
    Key = meerkat_stun:key(User, case Realm of none -> ?REALM; _ -> Realm end, Password),
    Named = [A || A <- [maps:get(user, Options, {username, User})], A =/= none],
    Attributes = maps:get(attributes, Options, []) ++ Named
        ++ [{realm, R} || R <- [Realm], R =/= none] ++ [{nonce, ?NONCE}],
    Message = #{class => request, method => refresh, transaction_id => <<7:96>>,
                attributes => Attributes},
    case maps:get(integrity, Options, {sha1, Key}) of
        none -> meerkat_stun:encode(Message);
        Integrity -> meerkat_stun:encode(Message#{integrity => Integrity})
    end.

%% Both integrities, each with a key of its own: the second is appended by hand, over the first.
both(Sha1Key, Sha256Key) ->
    <<Type:16, Length:16, Rest/binary>> = sign(#{integrity => {sha1, Sha1Key}}, <<"u">>, <<"abc">>),
    Signed = <<Type:16, (Length + 36):16, Rest/binary>>,
    Mac = crypto:mac(hmac, sha256, Sha256Key, Signed),
    <<Signed/binary, 16#001c:16, 32:16, Mac/binary>>.

signed_as(Packet, Config) ->
    {ok, #{seal := Seal}} = identify(Packet, auth(Config)),
    {ok, #{integrity := Integrity}} = meerkat_stun:decode(
        Seal(#{class => success, method => refresh, transaction_id => <<1:96>>, attributes => []})),
    Integrity.

%% How many keys are tried on a request.
cost(Packet, Auth) ->
    Self = self(),
    Pid = spawn_link(fun() ->
        receive go -> ok end,
        {error, 401} = identify(Packet, Auth),
        Self ! {self(), done}
    end),
    1 = erlang:trace_pattern({meerkat_stun, verify, 2}, true, [global]),
    1 = erlang:trace(Pid, true, [call]),
    Pid ! go,
    receive {Pid, done} -> ok end,
    Ref = erlang:trace_delivered(Pid),
    receive {trace_delivered, Pid, Ref} -> ok end,
    _ = erlang:trace_pattern({meerkat_stun, verify, 2}, false, [global]),
    calls(Pid, 0).

calls(Pid, N) ->
    receive {trace, Pid, call, {meerkat_stun, verify, _}} -> calls(Pid, N + 1)
    after 0 -> N
    end.

%% RFC 5769 2.4, and RFC 8489 B.1 with erratum 6268.
vector("5769-2.4") ->
    binary:decode_hex(<<
        "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b9"
        "00000015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d"
        "706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666">>);
vector("8489-B.1") ->
    binary:decode_hex(<<
        "000100902112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c6780417da0f2481"
        "9415569e60b205c46e41407f1704001500296f624d61744a6f733241414143662f2f3439396b39353464"
        "364f4c33346f4c394653547679363473410000000014000b6578616d706c652e6f726700001d00040002"
        "0000001c0020b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65">>).
