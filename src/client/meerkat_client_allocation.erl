%% What the client knows of its allocation: the addresses, how long it lives, whom it has permitted
%% and which channels it has bound (RFC 8656 7 to 12). Pure; what is sent for that, and when, is
%% meerkat_client_core's.
%%
%% A permission and a channel are asked for before they are granted, and data may overtake the
%% answer: what is asked for counts when something is received, what is granted when it is sent.
-module(meerkat_client_allocation).

-export([attributes/1, new/4, lifetime/2, want/2, wanted/1, view/1]).
-export([ask/2, grant/2, withdraw/2, is_permitted/2, installed/1, stop_renewing/1]).
-export([channel/2, number/2, bind/2, unbind/2, peer/2, numbers/1]).

-export_type([allocation/0, options/0, channel/0]).

-type address() :: {inet:ip_address(), inet:port_number()}.
-type channel() :: 16#4000..16#4fff.

-type options() :: #{transport => udp | tcp,
                     lifetime => non_neg_integer(),
                     family => inet | inet6,
                     even_port => even | reserve,
                     reservation_token => non_neg_integer(),
                     dont_fragment => boolean()}.

%% Numbers are never given to another peer while the allocation lives, so nothing has to wait out
%% the five minutes of RFC 8656 12. `peers` holds every number ever asked for, `bound` those that
%% may be sent on. `renewing`: the timer runs that renews all permissions together.
-record(allocation, {relayed :: address(),
                     mapped :: address(),
                     lifetime :: pos_integer(),
                     wanted :: default | pos_integer(),
                     permissions = #{} :: #{inet:ip_address() => asked | installed},
                     renewing = false :: boolean(),
                     peers = #{} :: #{channel() => address()},
                     numbers = #{} :: #{address() => channel()},
                     bound = #{} :: #{address() => channel()}}).
-opaque allocation() :: #allocation{}.

%% Protocol numbers, of what is relayed.
-define(UDP, 17).
-define(TCP, 6).
-define(CHANNEL_MIN, 16#4000).
-define(CHANNEL_MAX, 16#4fff).

%% What an Allocate asks for (RFC 8656 7.1, RFC 6062 4.1).
-spec attributes(options()) -> [{atom(), term()}].
attributes(Options) ->
    Relayed = case Options of
                  #{transport := tcp} -> ?TCP;
                  #{} -> ?UDP
              end,
    [{requested_transport, Relayed}
     | lists:append([attribute(Option) || Option <- maps:to_list(Options)])].

attribute({transport, _}) -> [];
attribute({lifetime, Seconds}) -> [{lifetime, Seconds}];
attribute({family, inet}) -> [{requested_address_family, 1}];
attribute({family, inet6}) -> [{requested_address_family, 2}];
attribute({even_port, Kind}) -> [{even_port, Kind =:= reserve}];
attribute({reservation_token, Token}) -> [{reservation_token, Token}];
attribute({dont_fragment, true}) -> [{dont_fragment, true}];
attribute({dont_fragment, false}) -> [].

%% `Wanted`: the lifetime asked for, now and each time it is renewed.
-spec new(Relayed :: address(), Mapped :: address(), Lifetime :: pos_integer(),
          Wanted :: default | pos_integer()) -> allocation().
new(Relayed, Mapped, Lifetime, Wanted) ->
    #allocation{relayed = Relayed, mapped = Mapped, lifetime = Lifetime, wanted = Wanted}.

%% What the server has granted.
-spec lifetime(pos_integer(), allocation()) -> allocation().
lifetime(Seconds, A) ->
    A#allocation{lifetime = Seconds}.

-spec want(default | pos_integer(), allocation()) -> allocation().
want(Lifetime, A) ->
    A#allocation{wanted = Lifetime}.

-spec wanted(allocation()) -> default | pos_integer().
wanted(#allocation{wanted = Wanted}) ->
    Wanted.

-spec view(allocation()) -> #{relayed := address(), mapped := address(), lifetime := pos_integer(),
                              permissions := [inet:ip_address()],
                              channels := #{address() => channel()}}.
view(#allocation{relayed = Relayed, mapped = Mapped, lifetime = Lifetime, bound = Bound} = A) ->
    #{relayed => Relayed, mapped => Mapped, lifetime => Lifetime, channels => Bound,
      permissions => installed(A)}.

%% --------------------------------------------------------------------------------- permissions

%% Also which of the addresses are new, to be withdrawn if the server refuses them.
-spec ask([inet:ip_address()], allocation()) -> {New :: [inet:ip_address()], allocation()}.
ask(Ips, #allocation{permissions = Permissions} = A) ->
    New = [Ip || Ip <- Ips, not is_map_key(Ip, Permissions)],
    Asked = maps:from_list([{Ip, asked} || Ip <- New]),
    {New, A#allocation{permissions = maps:merge(Permissions, Asked)}}.

%% Also whether these are the first, so that the timer that renews them all has to be started.
-spec grant([inet:ip_address()], allocation()) -> {First :: boolean(), allocation()}.
grant(Ips, #allocation{permissions = Permissions, renewing = Renewing} = A) ->
    Installed = maps:from_list([{Ip, installed} || Ip <- Ips]),
    {not Renewing,
     A#allocation{permissions = maps:merge(Permissions, Installed), renewing = true}}.

-spec withdraw([inet:ip_address()], allocation()) -> allocation().
withdraw(Ips, #allocation{permissions = Permissions} = A) ->
    A#allocation{permissions = maps:without(Ips, Permissions)}.

%% May something from there be heard?
-spec is_permitted(inet:ip_address(), allocation()) -> boolean().
is_permitted(Ip, #allocation{permissions = Permissions}) ->
    is_map_key(Ip, Permissions).

%% The permissions there are.
-spec installed(allocation()) -> [inet:ip_address()].
installed(#allocation{permissions = Permissions}) ->
    [Ip || {Ip, installed} <- maps:to_list(Permissions)].

%% The timer has found nothing to renew, and is not started again.
-spec stop_renewing(allocation()) -> allocation().
stop_renewing(A) ->
    A#allocation{renewing = false}.

%% ------------------------------------------------------------------------------------ channels

%% The channel on which a peer may be sent to.
-spec channel(address(), allocation()) -> {ok, channel()} | none.
channel(Peer, #allocation{bound = Bound}) ->
    case Bound of
        #{Peer := Number} -> {ok, Number};
        #{} -> none
    end.

%% The number a channel to the peer is asked for under: the one it had, or the next.
-spec number(address(), allocation()) -> {channel(), allocation()} | no_channels.
number(Peer, #allocation{numbers = Numbers, peers = Peers} = A) ->
    case Numbers of
        #{Peer := Number} ->
            {Number, A};
        #{} when ?CHANNEL_MIN + map_size(Numbers) > ?CHANNEL_MAX ->
            no_channels;
        #{} ->
            Number = ?CHANNEL_MIN + map_size(Numbers),
            {Number, A#allocation{peers = Peers#{Number => Peer},
                                  numbers = Numbers#{Peer => Number}}}
    end.

-spec bind(channel(), allocation()) -> allocation().
bind(Number, #allocation{peers = Peers, bound = Bound} = A) ->
    A#allocation{bound = Bound#{maps:get(Number, Peers) => Number}}.

-spec unbind(channel(), allocation()) -> allocation().
unbind(Number, #allocation{peers = Peers, bound = Bound} = A) ->
    A#allocation{bound = maps:remove(maps:get(Number, Peers), Bound)}.

%% Whom a channel is, or was asked to be, bound to.
-spec peer(Number :: 0..65535, allocation()) -> {ok, address()} | none.
peer(Number, #allocation{peers = Peers}) ->
    case Peers of
        #{Number := Peer} -> {ok, Peer};
        #{} -> none
    end.

%% Of the channels that are bound.
-spec numbers(allocation()) -> [channel()].
numbers(#allocation{bound = Bound}) ->
    maps:values(Bound).
