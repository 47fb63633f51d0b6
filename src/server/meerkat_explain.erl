%% Explains an allocation in sentences: what its client did, how far it came, and the likely cause
%% why it came no farther. It goes by what is recorded of every allocation: its state, counters and
%% refusals; and of one that is watched, what was seen of its packets. Pure but for explain/2.
-module(meerkat_explain).

-export([explain/2, sentences/2]).

-export_type([explanation/0, cause/0]).

%% `causes`, likeliest first, are for programs; `sentences` for people.
-type explanation() :: #{session := non_neg_integer() | null, causes := [cause()],
                         sentences := [binary()]}.
%% works: both sides are heard. no_allocation: of a user there is none; revoked: and why.
%% idle: it has asked for no peer. refused: the last request was. silent: it sends nothing.
%% unheard: nothing comes back: a firewall, or nobody there. wrong_relay_address: peers cannot reach
%% what clients are told. no_permission: peers speak that it has not permitted.
%% no_channel: it speaks on numbers that are not bound. forbidden_peer, over_...: drops.
%% hairpin: its peer is relayed here too. tcp: it comes over TCP. expired: its credentials have.
-type cause() :: works | no_allocation | revoked | idle | refused | silent | unheard
               | wrong_relay_address | no_permission | no_channel | forbidden_peer
               | over_bandwidth | over_packet_rate | hairpin | tcp | expired | media.

%% Of one, by its ID; or of a user's, oldest first, and of one without any.
-spec explain(Name :: atom(), meerkat_sessions:id() | {user, binary()}) ->
    {ok, [explanation(), ...]} | {error, not_found}.
explain(Name, {user, User}) ->
    case meerkat_alloc_table:sessions_of(Name, User) of
        [] ->
            {ok, [none(Name, User)]};
        Sessions ->
            {ok, [Explained || {Session, _} <- lists:sort(Sessions),
                               {ok, [Explained]} <- [explain(Name, Session)]]}
    end;
explain(Name, Id) ->
    case meerkat_sessions:seen(Name, Id, 0) of
        {ok, #{session := Session} = Details} ->
            {ok, [(sentences(Details, facts(Name)))#{session => Session}]};
        {error, not_found} ->
            {error, not_found}
    end.

none(Name, User) ->
    {Causes, More} = case meerkat_revoked:is_revoked(Name, User) of
        true -> {[revoked], <<"Its credentials were revoked: its requests are answered 401.">>};
        false ->
            {[], <<"Of allocations that have ended nothing is kept, and requests that were refused "
                   "are lines of the log. `meerkatctl watch --user` shows what comes next.">>}
    end,
    #{session => null, causes => [no_allocation | Causes],
      sentences => [text(["User ", meerkat_text:escape(User), " has no allocation."]), More]}.

facts(Name) ->
    #{relays := Relays} = meerkat_status:info(Name),
    #{usernames := Order} = meerkat_registry:settings(Name),
    #{relayed_here => [Ip || #{local := Local, advertised := Told} <- Relays, Ip <- [Local, Told]],
      order => Order, now_s => meerkat_clock:wall_s()}.

%% Of meerkat_sessions:seen/3, and what is to be known of the server.
-spec sentences(Details :: map(), #{relayed_here := [inet:ip_address()], now_s := integer(),
                                    order := meerkat_auth_rest:order()}) ->
    #{causes := [cause()], sentences := [binary()]}.
sentences(Details, Facts) ->
    Found = lists:append([Ask(Details, Facts) || Ask <- [fun refused/2, fun stopped/2, fun drops/2,
                                                        fun hairpin/2, fun media/2, fun expired/2,
                                                        fun transport/2]]),
    #{causes => [Cause || {Cause, _} <- Found],
      sentences => [text(Sentence) || Sentence <- [made(Details) | [S || {_, S} <- Found]]]}.

made(#{user := User, client := Client, transport := Transport, relayed := Relayed,
       age_ms := Age}) ->
    ["Client ", meerkat_text:address(Client), " of user ", meerkat_text:escape(User),
     " allocated ", lists:join(" and ", [meerkat_text:address(A) || A <- Relayed]), " over ",
     string:uppercase(atom_to_list(Transport)), ", ", integer_to_list(Age div 1000), " s ago."].

refused(#{refusals := []}, _Facts) ->
    [];
refused(#{refusals := [#{code := Code, method := Method, why := Why, times := Times} | _]},
        _Facts) ->
    [{refused, [atom_to_list(Method), " was answered ", integer_to_list(Code), " ", Why,
                [[", ", integer_to_list(Times), " times"] || Times > 1], "."]}].

%% How far it came.
stopped(#{permissions := [], channels := []}, _Facts) ->
    [{idle, "It has no permission now, so nothing can pass: the client has asked for none, for it "
            "took another way or was never told of peers, or those it had are over."}];
stopped(#{client_packets := 0, peer_packets := 0} = Details, _Facts) ->
    [{silent, ["It may reach ", peers(Details), ", and has sent nothing there."]}];
stopped(#{client_packets := Sent, peer_packets := 0, relayed := [{Ip, _} | _]} = Details,
        _Facts) ->
    Came = dropped(no_permission, Details),
    [{case {Came, meerkat_policy:kind(Ip)} of
          {N, _} when N > 0 -> no_permission;
          {0, public} -> unheard;
          {0, _} -> wrong_relay_address
      end, ["It has sent ", integer_to_list(Sent), " packets to ", peers(Details),
            ", and nothing came back. ", why_nothing(Came, meerkat_policy:kind(Ip), Ip)]}];
stopped(#{client_packets := 0, peer_packets := Came}, _Facts) ->
    [{silent, ["Its peers have sent it ", integer_to_list(Came), " packets, and the client has "
               "answered none of them: they may not reach it, or it took another way."]}];
stopped(#{client_packets := Sent, peer_packets := Came}, _Facts) ->
    [{works, ["Packets pass both ways: ", integer_to_list(Sent), " from the client, ",
              integer_to_list(Came), " from peers."]}];
stopped(_RelayIsDown, _Facts) ->
    [].

why_nothing(Came, _Kind, _Ip) when Came > 0 ->
    ["Packets that may be theirs did come and were dropped: they are from addresses that the "
     "client has not permitted. A peer behind a NAT comes from another address than it knows of."];
why_nothing(0, public, Ip) ->
    ["A firewall between them and ", meerkat_text:ip(Ip), " may drop UDP to the ports that are "
     "relayed from (min_port to max_port), or nobody answers there."];
why_nothing(0, Kind, Ip) ->
    ["Its relayed address is ", string:replace(atom_to_list(Kind), "_", "-"), " (",
     meerkat_text:ip(Ip), "): peers elsewhere cannot reach it. relay_ip sets what clients are "
     "told."].

peers(#{permissions := Permissions, channels := Channels}) ->
    All = lists:usort([meerkat_text:ip(Ip) || #{peer := Ip} <- Permissions]
                      ++ [meerkat_text:ip(Ip) || #{peer := {Ip, _}} <- Channels]),
    lists:join(", ", lists:sublist(All, 4)) ++ [" and others" || length(All) > 4].

drops(Details, _Facts) ->
    [{Reason, [integer_to_list(N), " packets were dropped: ", Why]}
     || {Reason, Why} <- [{no_channel, "the client speaks on channels that are not bound, or are "
                                       "bound no more."},
                          {forbidden_peer, "denied_peers, or what is denied without it, forbids "
                                           "their peer."},
                          {over_bandwidth, "they are beyond a limit of bandwidth."},
                          {over_packet_rate, "they are more per second than max_pps allows."}],
        N <- [dropped(Reason, Details)], N > 0].

dropped(Reason, Details) ->
    maps:get(Reason, maps:get(drops, Details, #{}), 0).

hairpin(#{permissions := Permissions}, #{relayed_here := Ours}) ->
    [{hairpin, "A peer of it is relayed by this server too: both sides of the call come here, and "
               "each needs a permission for the other's relayed address."}
     || lists:any(fun(#{peer := Ip}) -> lists:member(Ip, Ours) end, Permissions)].

media(#{verdict := Verdict}, _Facts) when is_binary(Verdict) ->
    [{media, ["Its media, as it is watched: ", Verdict, "."]}];
media(_NotWatched, _Facts) ->
    [].

expired(#{user := User}, #{order := Order, now_s := Now}) ->
    [{expired, "Its time-limited credentials have expired: what it asks for next is answered 401 "
               "unless a grant still holds, so it ends when its lifetime does."}
     || {ok, Expiry} <- [meerkat_auth_rest:expiry(User, Order)], Expiry =< Now].

transport(#{transport := Transport}, _Facts) when Transport =:= tcp; Transport =:= tls ->
    [{tcp, ["It comes over ", string:uppercase(atom_to_list(Transport)), ": UDP to this server may "
            "be blocked where the client is, and what is lost then holds up what follows."]}];
transport(_Details, _Facts) ->
    [].

text(Sentence) -> unicode:characters_to_binary(Sentence).
