%% Drops that the relay tells of now and then (notice.c), for an operator can do something: lines
%% with `notice` that name who it was and the key that helps. They are as limited as other lines
%% about a source are (meerkat_refusal_log).
-module(meerkat_relay_notice).

-export([over_rate/2, closed_port/2]).

%% A source that asks more than its share is not answered, and nobody there learns why. It may be a
%% whole site behind one address.
-spec over_rate(Name :: atom(), #{client := meerkat_ctl:address(), failures := 0 | 1,
                                  dropped := pos_integer()}) -> ok.
over_rate(Name, #{client := {Ip, _} = Client, failures := Failures, dropped := Dropped}) ->
    write(Name, Ip, #{}, fun() ->
        io_lib:format("no answer to ~ts: ~ts; ~b datagrams of this and other sources were dropped "
                      "for that since the last time. Where many clients share one address, raise "
                      "unauthenticated_rate (UNAUTHENTICATED_RATE) and unauthenticated_burst",
                      [meerkat_text:address(Client), over(Failures), Dropped])
    end).

over(0) -> "its address has used up its share of answers without credentials";
over(1) -> "its address has sent too many requests with wrong credentials".

%% A client has permission for an address, and sends to a port of it that stays closed: a service
%% beside this server, perhaps, that allowed_peers does not name.
-spec closed_port(Name :: atom(), #{session := non_neg_integer(), peer := meerkat_ctl:address(),
                                    dropped := pos_integer(), why := binary()}) -> ok.
closed_port(Name, #{session := Session, peer := {Ip, _} = Peer, dropped := Dropped, why := Why}) ->
    write(Name, Ip, #{session => Session}, fun() ->
        io_lib:format("nothing is sent to peer ~ts, ~ts; ~ts (~b datagrams were dropped for such "
                      "reasons since the last time)",
                      [meerkat_text:address(Peer), meerkat_text:escape(Why),
                       meerkat_policy:hint(Why), Dropped])
    end).

write(Name, Ip, Meta, Line) ->
    #{notices := Notices} = meerkat_registry:settings(Name),
    meerkat_refusal_log:write(Notices, Ip, Meta, Line).
