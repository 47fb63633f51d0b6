%% What is known of an allocation. meerkat_alloc_core changes it, and meerkat_alloc_granted by what
%% the relay has answered; meerkat_alloc_restore makes it anew; meerkat_alloc_facts reads it. Nobody
%% else looks into it.

%% No part of the configuration: what holds for a request comes with it. A process that refers to
%% settings gets a copy of them whenever others take their place.
-record(alloc, {
    session :: non_neg_integer(),
    plan :: meerkat_alloc_admit:plan(),
    mobility :: meerkat_alloc_mobility:mobility(),
    relayed = [] :: [meerkat_alloc_core:relayed()],     % as the client was told
    token = 0 :: non_neg_integer(),             % reserved for a second allocation
    held = meerkat_alloc_held:none() :: meerkat_alloc_held:held(),
    tcp = meerkat_alloc_tcp:none() :: meerkat_alloc_tcp:tcp(),
    ended_by = deleted :: deleted | admin | replaced,
    asked = 0 :: integer(),                         % when for what it has counted
    before = #{} :: meerkat_alloc_core:counters(),  % counted by relays that are no more
    seen = #{} :: meerkat_alloc_core:counters(),    % by this one, when it was last asked
    ref = 0 :: meerkat_ctl:ref(),
    awaiting = none :: meerkat_alloc_core:awaiting()
}).
