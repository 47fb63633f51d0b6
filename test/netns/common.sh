# What the labs of this directory share; they source it with their name and arguments in place.
# Namespaces are called PREFIX-ROOM, and PREFIX ends in the process id of whoever wants the lab:
# what a killed run has left behind is known by that, and removed by the next.
set -eu

command=${1-} prefix=${2-}
case "$command $prefix" in
    up\ ?*-[0-9]* | down\ ?*-[0-9]*) ;;
    *) echo "usage: ${0##*/} up|down NAME-PID" >&2; exit 2 ;;
esac

in_room() { ip netns exec "$prefix-$1" "${@:2}"; }

setting() { # ROOM NAME VALUE
    in_room "$1" tee "/proc/sys/net/$2" <<<"$3" >/dev/null
}

remove() { # PREFIX
    local room
    for room in $(ip netns list | sed -n "s/^\($1-[a-z]*\).*/\1/p"); do
        ip netns del "$room"
    done
}

remove_left_over() {
    local found
    for found in $(ip netns list | sed -n "s/^\(${prefix%-*}-[0-9]*\)-.*/\1/p" | sort -u); do
        kill -0 "${found##*-}" 2>/dev/null || remove "$found"
    done
}

# Rooms whose IPv6 addresses serve at once, and which take packets whatever way they came.
make_rooms() { # ROOM...
    local room
    remove_left_over
    for room; do
        ip netns add "$prefix-$room"
        setting "$room" ipv6/conf/all/accept_dad 0
        setting "$room" ipv6/conf/default/accept_dad 0
        setting "$room" ipv4/conf/all/rp_filter 0
        setting "$room" ipv4/conf/default/rp_filter 0
        ip -n "$prefix-$room" link set dev lo up
    done
}

cable() { # ROOM INTERFACE ROOM INTERFACE
    ip -n "$prefix-$1" link add name "$2" type veth peer name "$4" netns "$prefix-$3"
    ip -n "$prefix-$1" link set dev "$2" up
    ip -n "$prefix-$3" link set dev "$4" up
}

address() { # ROOM INTERFACE ADDRESS/BITS...
    local room=$1 interface=$2 each
    shift 2
    for each; do
        case "$each" in
            *:*) ip -n "$prefix-$room" address add "$each" dev "$interface" nodad ;;
            *) ip -n "$prefix-$room" address add "$each" broadcast + dev "$interface" ;;
        esac
    done
}

route() { # ROOM ip-route's words...
    ip -n "$prefix-$1" route add "${@:2}"
}
