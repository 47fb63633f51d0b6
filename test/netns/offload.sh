#!/bin/bash
# A server with two interfaces, a client at the one and a peer at the other. What the two send has
# whole checksums, as it has on a wire: the kernel's own path takes nothing else.
#
#     client                    server                       peer
#   ┌──────────────┐         ┌─────────────────────┐       ┌──────────────┐
#   │ 11.0.0.2  c ─┼─────────┼─ s 11.0.0.1         │       │              │
#   │ 2a0a:1::2    │         │    2a0a:1::1        │       │              │
#   │              │         │    12.0.0.1  r ─────┼───────┼─ p 12.0.0.2  │
#   │              │         │    2a0a:2::1        │       │    2a0a:2::2 │
#   └──────────────┘         └─────────────────────┘       └──────────────┘
#
#   offload.sh up|down NAME-PID      makes or removes NAME-PID-client, -server and -peer
. "$(dirname "$0")/common.sh"

[ "$command" = up ] || { remove "$prefix"; exit 0; }
make_rooms client server peer
cable client c server s
cable server r peer p
in_room client ethtool -K c tx off >/dev/null
in_room peer ethtool -K p tx off >/dev/null
address client c 11.0.0.2/24 2a0a:1::2/64
address server s 11.0.0.1/24 2a0a:1::1/64
address server r 12.0.0.1/24 2a0a:2::1/64
address peer p 12.0.0.2/24 2a0a:2::2/64
route client default via 11.0.0.1
route client default via 2a0a:1::1
route peer default via 12.0.0.1
route peer default via 2a0a:2::1
