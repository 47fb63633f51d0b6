#!/bin/bash
# Relays through a TURN server with coturn's turnutils_uclient, which exchanges
# messages with turnutils_peer, and passes only when not one of them was lost.
#
#   uclient.sh HOST PORT USER PASSWORD send|channel [more uclient options]
#
# "send" uses Send and Data indications, "channel" ChannelData.  Options at the
# end reach turnutils_uclient after ours and override them, as "-t" (TCP to the
# server), "-c" (no RTCP), "-D", "-y" or "-x -e ::1" (IPv6 relay).
# RUNS=N repeats the run; LIMIT=SECONDS bounds each one (default 60).
#
# The exit status of turnutils_uclient is 0 even when all is lost, hence its
# output decides.  A counting tap before the peer must have seen every byte, so
# that a server which only reflects messages to its client does not pass.
set -u

if [ $# -lt 5 ]; then
    echo "usage: ${0##*/} HOST PORT USER PASSWORD send|channel [uclient options]" >&2
    exit 2
fi
host=$1 port=$2 user=$3 password=$4 mode=$5
shift 5
case $mode in
    send) mode_flags=(-s) ;;
    channel) mode_flags=() ;;
    *) echo "uclient: MODE is send or channel, not $mode" >&2; exit 2 ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d) || exit 1
peer="" tap="" client=""

stop() {
    [ -n "$1" ] && kill "$1" 2>/dev/null
    [ -n "$1" ] && wait "$1" 2>/dev/null
}
cleanup() {
    stop "$client"
    stop "$tap"
    stop "$peer"
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    [ -s "$dir/uclient" ] && tail -n 8 "$dir/uclient" >&2
    echo "uclient $mode: FAILED: $*" >&2
    exit 1
}

udp_owners() { ss -Hlunp "( sport = :$1 or sport = :$(($1 + 1)) )"; }

# turnutils_peer shares a port without complaint, so a pair counts as ours only
# when both sockets are there and nobody else's.
start_peer() {
    local owners
    for _ in {1..20}; do
        peer_port=$((20000 + RANDOM % 5000 * 2))
        [ -z "$(udp_owners $peer_port)" ] || continue
        turnutils_peer -L 127.0.0.1 -p $peer_port >"$dir/peer" 2>&1 &
        peer=$!
        for _ in {1..50}; do
            owners=$(udp_owners $peer_port)
            [ "$(grep -c "pid=$peer," <<<"$owners")" -ge 2 ] && break
            sleep 0.05
        done
        if [ "$(grep -c "pid=$peer," <<<"$owners")" = 2 ] && [ "$(wc -l <<<"$owners")" = 2 ]; then
            return
        fi
        stop "$peer"
        peer=
    done
    fail "turnutils_peer found no free port pair"
}

start_tap() {
    /usr/bin/python3 "$here/counting_tap.py" "$peer_port" >"$dir/tap" 2>&1 &
    tap=$!
    for _ in {1..100}; do
        tap_port=$(sed -n 's/^port \([0-9]\+\)$/\1/p' "$dir/tap")
        [ -n "$tap_port" ] && return
        sleep 0.05
    done
    fail "the counting tap did not start: $(tail -n 1 "$dir/tap")"
}

# The one line of the output which matches, with its figures only.
figures() {
    local found
    found=$(sed -n -E "s/^.*$1.*\$/$2/p" "$dir/uclient")
    [ -n "$found" ] && [ "$(wc -l <<<"$found")" = 1 ] || return 1
    echo "$found"
}

run() {
    local status sent received lost dropped reached words
    start_peer
    start_tap

    timeout -k 5 "${LIMIT:-60}" turnutils_uclient -u "$user" -w "$password" -p "$port" \
        -n 100 -m 2 -l 170 -z 5 -e 127.0.0.1 -r "$tap_port" -X "${mode_flags[@]}" "$@" "$host" \
        >"$dir/uclient" 2>&1 &
    client=$!
    wait "$client"
    status=$?
    client=
    [ $status = 124 ] && fail "no end after ${LIMIT:-60} seconds"
    [ $status = 0 ] || fail "turnutils_uclient ended with status $status: $(tail -n 1 "$dir/uclient")"

    words=$(figures 'start_mclient: tot_send_bytes ~ ([0-9]+), tot_recv_bytes ~ ([0-9]+)' '\1 \2') ||
        fail "turnutils_uclient reported no byte totals"
    read -r sent received <<<"$words"
    words=$(figures 'Total lost packets (-?[0-9]+) .*total send dropped (-?[0-9]+) .*' '\1 \2') ||
        fail "turnutils_uclient reported no losses, not even none"
    read -r lost dropped <<<"$words"
    stop "$tap"
    tap=
    reached=$(sed -n -E 's/^datagrams [0-9]+ bytes ([0-9]+) sources [0-9]+$/\1/p' "$dir/tap")
    stop "$peer"
    peer=

    [ "$sent" -gt 0 ] || fail "nothing was sent"
    [ "$sent" = "$received" ] || fail "sent $sent bytes but received $received"
    [ "$lost" = 0 ] || fail "$lost packets were lost"
    [ "$dropped" = 0 ] || fail "$dropped packets could not be sent"
    # Between two clients (-y, and -T and -P, which imply it) no peer takes part.
    case " $* " in
        *" -y "*|*" -T "*|*" -P "*) ;;
        *) [ "$reached" = "$sent" ] || fail "sent $sent bytes but ${reached:-none} reached the peer" ;;
    esac
    echo "uclient $mode: sent $sent received $received lost $lost"
}

runs=${RUNS:-1}
[[ $runs =~ ^[1-9][0-9]*$ ]] || fail "RUNS must be a positive number"
for ((i = 0; i < runs; i++)); do
    run "$@"
done
