#!/bin/bash
# A server behind a 1:1 NAT: 13.0.0.1 is its public address, and no address of its machine.
#
#     outside                      router                         server
#   ┌─────────────────┐         ┌────────────────────────┐       ┌───────────────┐
#   │ 11.0.0.2    o ──┼─────────┼─ p 11.0.0.1            │       │               │
#   │ 11.0.0.7        │         │    13.0.0.1 ⇄ 10.9.0.1 │       │               │
#   │                 │         │    10.9.0.254  i ──────┼───────┼─ s 10.9.0.1   │
#   └─────────────────┘         └────────────────────────┘       └───────────────┘
#
# What comes for 13.0.0.1 is sent to 10.9.0.1, port by port, and what 10.9.0.1 sends out goes as
# 13.0.0.1. The router does not send back inside what comes from there (no hairpinning): two
# clients of the server must reach each other without it.
#
#   nat.sh up|down NAME-PID      makes or removes NAME-PID-outside, -router and -server
. "$(dirname "$0")/common.sh"

[ "$command" = up ] || { remove "$prefix"; exit 0; }
make_rooms outside router server
cable outside o router p
cable router i server s
address outside o 11.0.0.2/24 11.0.0.7/24
address router p 11.0.0.1/24
address router i 10.9.0.254/24
address server s 10.9.0.1/24
route outside default via 11.0.0.1
route server default via 10.9.0.254
setting router ipv4/ip_forward 1
in_room router nft -f - <<'RULES'
table ip nat {
    chain prerouting {
        type nat hook prerouting priority -100;
        iifname "p" ip daddr 13.0.0.1 dnat to 10.9.0.1
    }
    chain postrouting {
        type nat hook postrouting priority 100;
        oifname "p" ip saddr 10.9.0.1 snat to 13.0.0.1
    }
}
RULES
