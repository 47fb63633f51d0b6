#!/bin/bash
# Two homes, each behind a symmetric NAT, and on the internet between them two servers. The homes
# have no network in common, and no address of one means anything in the other.
#
#     alice               nata              core              natb               bob
#   ┌─────────────┐  ┌─────────────┐  ┌───────────────┐  ┌─────────────┐  ┌─────────────┐
#   │ 192.168.1.2 ├──┤ 12.0.0.2    ├──┤ a           b ├──┤ 13.0.0.2    ├──┤ 10.0.0.2    │
#   └─────────────┘  └─────────────┘  │ x           r │  └─────────────┘  └─────────────┘
#                                     └─┬───────────┬─┘
#                             xmpp ┌────┴─────┐┌────┴─────┐ relay
#                                  │ 11.0.1.2 ││ 11.0.2.2 │
#                                  └──────────┘└──────────┘
#
# A NAT gives each destination another port, by chance, and lets in only what answers. Rules that
# concern what one NAT sends to the other are added to the core's chain cut.
#
#   homes.sh up|down NAME-PID      makes or removes those rooms, each called NAME-PID-ROOM
. "$(dirname "$0")/common.sh"

[ "$command" = up ] || { remove "$prefix"; exit 0; }

nat() { # ROOM OUTSIDE
    setting "$1" ipv4/ip_forward 1
    in_room "$1" nft -f - <<RULES
table ip nat {
    chain postrouting {
        type nat hook postrouting priority 100;
        oifname "$2" masquerade random,fully-random
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        iifname != "$2" accept
        ct state established,related accept
    }
}
RULES
}

make_rooms alice nata core natb bob xmpp relay
cable alice home nata home
cable nata net core a
cable natb net core b
cable bob home natb home
cable xmpp net core x
cable relay net core r
address alice home 192.168.1.2/24
address nata home 192.168.1.1/24
address nata net 12.0.0.2/24
address core a 12.0.0.1/24
address core b 13.0.0.1/24
address natb net 13.0.0.2/24
address natb home 10.0.0.1/24
address bob home 10.0.0.2/24
address core x 11.0.1.1/24
address xmpp net 11.0.1.2/24
address core r 11.0.2.1/24
address relay net 11.0.2.2/24
route alice default via 192.168.1.1
route nata default via 12.0.0.1
route natb default via 13.0.0.1
route bob default via 10.0.0.1
route xmpp default via 11.0.1.1
route relay default via 11.0.2.1
nat nata net
nat natb net
setting core ipv4/ip_forward 1
in_room core nft -f - <<'RULES'
table ip direct {
    counter cut { }
    chain cut { }
    chain forward {
        type filter hook forward priority 0;
        iifname . oifname { "a" . "b", "b" . "a" } jump cut
    }
}
RULES
