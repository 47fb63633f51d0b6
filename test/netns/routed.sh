#!/bin/bash
# A server with two interfaces between its clients and the rest of the world.
#
#     client                       server                        target
#   ┌─────────────────┐         ┌───────────────────────┐        ┌────────────────────┐
#   │ 11.0.0.2    c ──┼─────────┼─ s 11.0.0.1  11.0.0.3 │        │                    │
#   │ 2a0a:1::2       │         │    2a0a:1::1  ..:3    │        │                    │
#   │ 2002:b00:2::2   │         │    fe80::1            │        │                    │
#   │ 2001:0:b00:2::2 │         │    12.0.0.1  r ───────┼────────┼─ t 12.0.0.2        │
#   │ fe80::2         │         │    2a0a:2::1          │        │    2a0a:2::2       │
#   └─────────────────┘         └───────────────────────┘        └────────────────────┘
#
# The server's default routes lead to the target, so that whatever it can be talked into sending
# to a private or special address comes by there. Teredo and 6to4 lie behind the client. All these
# addresses pass for public ones: nothing is allowed because the relay is of its kind.
#
#   routed.sh up|down NAME-PID      makes or removes NAME-PID-client, -server and -target
. "$(dirname "$0")/common.sh"

[ "$command" = up ] || { remove "$prefix"; exit 0; }
make_rooms client server target
cable client c server s
cable server r target t
address client c 11.0.0.2/24 2a0a:1::2/64 2002:b00:2::2/64 2001:0:b00:2::2/64 fe80::2/64
address server s 11.0.0.1/24 11.0.0.3/24 2a0a:1::1/64 2a0a:1::3/64 fe80::1/64
address server r 12.0.0.1/24 2a0a:2::1/64
address target t 12.0.0.2/24 2a0a:2::2/64
route client default via 11.0.0.1
route client default via 2a0a:1::1 src 2a0a:1::2
route server default via 12.0.0.2
route server default via 2a0a:2::2
route server 2002::/16 via 2a0a:1::2
route server 2001::/32 via 2a0a:1::2
route target default via 12.0.0.1
route target default via 2a0a:2::1
