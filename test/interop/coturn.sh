#!/bin/bash
# Starts Debian's coturn on loopback: the server this harness was first proven
# against, and a peer to compare with.  Runs in the foreground; its files live
# in a directory of its own, which goes away with it.
#
#   coturn.sh PORT [more turnserver options]
#
# Credentials come from the environment: TURN_USER and TURN_PASSWORD (default
# tester / secret), or TURN_SECRET for REST credentials instead.  TURN_REALM is
# the realm (default example.test).
set -u

[ $# -ge 1 ] || { echo "usage: ${0##*/} PORT [turnserver options]" >&2; exit 2; }
port=$1
shift

if [ -n "${TURN_SECRET:-}" ]; then
    auth=(--use-auth-secret "--static-auth-secret=$TURN_SECRET")
else
    auth=(--lt-cred-mech "--user=${TURN_USER:-tester}:${TURN_PASSWORD:-secret}")
fi

addresses=(--listening-ip=127.0.0.1 --relay-ip=127.0.0.1)
if [ "$(cat /proc/sys/net/ipv6/conf/lo/disable_ipv6 2>/dev/null)" = 0 ]; then
    addresses+=(--listening-ip=::1 --relay-ip=::1)
fi

if [ -n "$(ss -Hlntu "sport = :$port")" ]; then
    echo "coturn: port $port is taken" >&2
    exit 1
fi

server=
dir=$(mktemp -d) || exit 1
cleanup() {
    [ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server"
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# -n: without it the system's own configuration file would be read as well.
turnserver -n --listening-port="$port" "${addresses[@]}" \
    --realm="${TURN_REALM:-example.test}" "${auth[@]}" \
    --allow-loopback-peers --no-cli --no-tls --no-dtls --no-rfc5780 \
    --userdb="$dir/turndb" --pidfile="$dir/pid" \
    --log-file=stdout --simple-log "$@" &
server=$!

# Both transports must answer before anyone is told that we are ready.
until ss -Hlunp "sport = :$port" | grep -q "pid=$server," &&
      ss -Hltnp "sport = :$port" | grep -q "pid=$server,"; do
    if ! kill -0 "$server" 2>/dev/null; then
        echo "coturn: turnserver did not start" >&2
        exit 1
    fi
    sleep 0.1
done
echo "coturn: ready on port $port"
wait "$server"
