#!/bin/bash
# Runs the commands of a page on a machine of their own: with a network, processes and mounts that end
# with it, in which the addresses and names that pages use for the reader's server are this machine's,
# in the checkout, of which nothing is changed. It needs root, or a kernel that lets anybody have
# namespaces; exit status 77 where neither is so.
#
#   test/docs_page.sh STEPS     a directory with N.serves (a server), N.runs (beside one) and N.alone
#                               (beside none), in order; N.output and N.status are written there
set -u
root=$(cd "$(dirname "$0")/.." && pwd -P)

if [ "${2-}" != inside ]; then
    alone=(unshare --net --mount --pid --fork --kill-child --mount-proc)
    "${alone[@]}" true 2>/dev/null || alone+=(--map-root-user)
    "${alone[@]}" true || exit 77
    # Nothing of the reader's machine gets through.
    exec "${alone[@]}" env -i PATH="$root/rel/bin:$PATH" HOME=/mnt/home LC_ALL=C.UTF-8 TERM=dumb \
        XDG_RUNTIME_DIR=/mnt/run REBAR_PROFILE=test bash "$0" "$(readlink -f "$1")" inside
fi
steps=/mnt/steps

# What is written lies in memory, but for the steps.
machine() { # STEPS
    mount -t tmpfs none /mnt && mkdir -m 700 /mnt/{home,run,steps,upper,work} &&
        mount --bind "$1" $steps || return
    mount -t overlay none -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" "$root" &&
        cd "$root" && cp test/data/docs/* . || return
    ip link set lo up && ip link add eth0 type veth peer name eth1 &&
        ip addr add 192.0.2.2/24 brd + dev eth0 && ip addr add 203.0.113.5/24 brd + dev eth0 &&
        ip link set eth0 up && ip link set eth1 up && ip route add default via 192.0.2.1 || return
    { cat /etc/hosts; echo "203.0.113.5 turn.example.org"; } >/mnt/hosts &&
        mount --bind /mnt/hosts /etc/hosts
}

# Until it says that it serves. It is a group of processes: make, shells, the node, the relay.
set -m
serve() { # STEP, COMMANDS
    stop
    : >"$1.output"
    bash -eu "$2" >"$1.output" 2>&1 &
    server=$!
    tail -f -n +1 --pid=$server "$1.output" 2>/dev/null | grep -q -m1 'stop it *Ctrl-C'
    kill -0 $server 2>/dev/null || { wait $server; server=; return 1; }
    serving=("$@")
}
# SIGQUIT does not drain. The next one needs the ports, so all of the group must be gone.
stop() {
    local group process
    for group in ${holder-} ${server-}; do
        for process in $(pgrep -g "$group" && kill -QUIT -- "-$group"); do
            tail -s 0.1 -f --pid="$process" /dev/null
        done
    done
    holder= server=
} 2>/dev/null

# Where a page starts none itself, one with a secret and with what its commands ask for.
ordinary() {
    echo 'export STUN_SECRET=hunter2 HTTP_LISTEN=9641 HTTP_TOKEN=TOKEN USERS_FILE=/mnt/home/users.cfg
        exec meerkatctl foreground' >/mnt/ordinary
    serve /mnt/ordinary /mnt/ordinary
}
is_there() {
    kill -0 "${server:-none}" 2>/dev/null && return
    [ -z "${serving-}" ] && { ordinary; return; }
    serve "${serving[@]}"
}

# One of alice's, whose number stands in place of the page's.
allocation() {
    if ! kill -0 "${holder:-none}" 2>/dev/null || ! number >/dev/null; then
        mkfifo /mnt/held 2>/dev/null
        meerkatctl credentials alice --json | erl -noshell -pa _build/test/lib/meerkat/ebin \
            -pa _build/test/lib/meerkat/test -s docs_program hold >/mnt/held &
        holder=$!
        read -r _ </mnt/held
    fi
    held=$(number)
}
number() { meerkatctl allocations --user alice --json | grep -o '"session":"[^"]*"' | cut -d'"' -f4 | grep -m1 .; }

run() { # STEP, COMMANDS
    local commands=$2
    if grep -q 'meerkatctl\|curl' "$commands"; then is_there || return; fi
    if grep -q '1-37' "$commands"; then
        allocation || return
    fi
    sed "s/1-37/${held-}/g" "$commands" >/mnt/commands
    yes 'a password' | head -n 50 >/mnt/typed
    timeout -k 5 120 bash -eu -o pipefail -c 'trap "echo \"line \$LINENO ended with \$?\"" ERR
        set -E; . /mnt/commands' <"/mnt/typed" >"$1.output" 2>&1
}

said=$(machine "$1" 2>&1) || { echo "$said"; exit 77; }
cd "$root" || exit
status=0
for step in $(cd "$steps" && printf '%s\n' *.serves *.runs *.alone | sort -n); do
    [ -e "$steps/$step" ] || continue
    number=$steps/${step%.*}
    case $step in
        *.serves) serve "$number" "$number.serves" ;;
        *.runs) run "$number" "$number.runs" ;;
        *.alone) stop; run "$number" "$number.alone" ;;
    esac
    echo $? >"$number.status"
    [ "$(cat "$number.status")" = 0 ] || status=1
done
stop
exit $status
