%% The part of an IP address that stands for one subscriber: an IPv4 address as a whole, the first
%% 64 bits of an IPv6 one, for the subscriber can choose the rest. Quotas, failures
%% of authentication and log lines are counted by it.
-module(meerkat_prefix).

-export([source/1]).
-export_type([source/0]).

%% Four bytes or eight.
-type source() :: binary().

-spec source(inet:ip_address()) -> source().
source({A, B, C, D}) -> <<A, B, C, D>>;
source({A, B, C, D, _, _, _, _}) -> <<A:16, B:16, C:16, D:16>>.
