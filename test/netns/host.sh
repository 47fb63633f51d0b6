#!/bin/bash
# A machine whose addresses are a case's own to make, and a client beside it.
#
#     client                      server
#   ┌───────────────┐         ┌─────────────────────────┐
#   │ 11.0.0.2   c ─┼─────────┼─ s  11.0.0.1  11.0.0.3  │
#   │ 2a0a:1::2     │         │     2a0a:1::1           │
#   │            w ─┼─────────┼─ r  what the case adds  │
#   └───────────────┘         └─────────────────────────┘
#
# All these addresses pass for public ones. The server's default routes lead to the client.
#
#   host.sh up|down NAME-PID      makes or removes NAME-PID-client and -server
. "$(dirname "$0")/common.sh"

[ "$command" = up ] || { remove "$prefix"; exit 0; }
make_rooms client server
cable client c server s
cable client w server r
address client c 11.0.0.2/24 2a0a:1::2/64
address server s 11.0.0.1/24 11.0.0.3/24 2a0a:1::1/64
route client default via 11.0.0.1
route client default via 2a0a:1::1 src 2a0a:1::2
route server default via 11.0.0.2
route server default via 2a0a:1::2
