#!/bin/bash
# Builds, starts and tests Meerkat on other Debians than this one, with their own Erlang, compiler
# and libraries: each in a chroot, with processes and a network of its own. As root, on Debian with a
# package mirror in reach; the first time takes some minutes more, for Debian's packages.
#
#   test/distributions.sh [trixie] [sid]      both without a name
#
# REFRESH=1 makes the chroots anew, SUITES='a_SUITE b_SUITE' names the suites, WRITE=1 puts the
# result into the table of docs/building.md, RESUME=1 runs only what has not passed yet for these very
# sources. One line a check, `ok: ...` or `FAILED: ...` under what was wrong; exit status 1 if any
# failed. Nothing stays behind but _build/distributions.
set -u
cd "$(dirname "$0")/.." || exit 2
root=$PWD
kept=$root/_build/distributions

# Suites that want a network of several hosts, or browsers, XMPP servers and certificate authorities of
# others, run on one Debian: they ask what others do, not what a compiler or a library does.
elsewhere='docs|acme|netns|hosts|interop|browser|pages|demo|mongooseim|mongooseice|doctor_xmpp|credentials|xep0215|bench|release'

suites() { (cd test && ls -1 ./*_SUITE.erl) | sed 's/\.\///; s/\.erl$//' | grep -vE "^($elsewhere)_"; }

# What was seen is kept, for the table and for RESUME: a file for each check that passed in /passed,
# for each that failed in /failed.
check() { # NAME, SECONDS, COMMAND...
    local name=$1 seconds=$2 log status=0
    [ ! -e "/passed/$1" ] || { echo "ok: $1 (before)"; return; }
    shift 2
    log=$(mktemp)
    timeout --kill-after=10 "$seconds" "$@" >"$log" 2>&1 || status=$?
    if [ $status = 0 ]; then
        echo "ok: $name"
        tail -n 1 "$log" >"/passed/${name}"
    else
        tail -n 200 "$log"
        echo "FAILED: $name (status $status)"
        tail -n 1 "$log" >"/failed/${name}"
    fi
    grep -E '^ *([0-9]+ )?(skip|FAILED|FAIL)[ :]' "$log" | tail -n 40 | sed 's/^ */  /'
    rm "$log"
}

# ------------------------------------------------------------------------- within the chroot

version() { dpkg-query -W -f '${Version}' "$1" | sed 's/^[0-9]*://; s/[-+~].*//'; }

versions() {
    echo "OTP $(version erlang-base) | $(version gcc) | $(version liburing-dev) |" \
        "$(version libssl-dev) | $(version libconfig-dev)"
}

# Every C compiler that is there, each apart and with warnings as errors.
compilers() {
    local cc apart said=
    for cc in $(cd /usr/bin && ls -1 gcc-[0-9][0-9] clang-[0-9][0-9]); do
        apart=$PWD/_build/by-$cc
        make -s -j2 -C c_src CC="$cc" BUILD="$apart" PRIV="$apart/priv" programs || return
        rm -r "$apart"
        said="$said${said:+, }$cc"
    done
    echo "$said"
}

# Started as README has it, asked by a client of its own, stopped by a signal.
serves() {
    local server line= output
    output=$(mktemp -u)
    mkfifo "$output"
    LISTEN_IP=127.0.0.1 RELAY_IP=127.0.0.1 STUN_SECRET=secret SECRET_AS_PASSWORD=yes REALM=example.org \
        rel/bin/meerkatctl foreground >"$output" 2>&1 &
    server=$!
    exec 3<"$output"
    rm "$output"
    while read -r line <&3; do
        echo "$line"
        [[ $line != *"relaying from"* ]] || break
    done
    cat <&3 &
    [[ $line == *"relaying from"* ]] && rel/bin/meerkatctl status && rel/bin/meerkatctl check &&
        kill -TERM $server && wait $server
}

# .ci/check, with the numbers at the end.
checks() {
    local log status
    log=$(mktemp)
    .ci/check | tee "$log"
    status=${PIPESTATUS[0]}
    echo "$(grep -c '^ok: ' "$log") passed, $(grep -c '^FAILED: ' "$log") failed"
    rm "$log"
    return "$status"
}

# What the table says of them: `NAME: ok`, or the numbers where there are any.
result() {
    local name said
    for name in "${names[@]}"; do
        if [ -e "/passed/$name" ]; then
            said=$(grep -xE '[0-9]+ passed, [0-9]+ failed|(, |(gcc|clang)-[0-9]+)+' \
                "/passed/$name") || said=ok
        elif [ -e "/failed/$name" ]; then
            said=$(grep -xE '[0-9]+ passed, [0-9]+ failed' "/failed/$name") || said=failed
        else
            said="not run"
        fi
        printf '%s%s: %s' "${sep-}" "$name" "$said"
        local sep='; '
    done
}

names=("builds without a warning" "a server serves" "C programs" "checks" "C by every compiler"
    "suites")

# What any machine has: an address besides loopback, of each family, and a way out, which leads
# nowhere. No name server is at its end either: a name that is not in /etc/hosts is unknown at once.
network() {
    mount --bind /dev/null /etc/resolv.conf
    ip link set lo up
    ip link add eth0 type veth peer name out
    ip address add 192.0.2.2/24 broadcast + dev eth0
    ip address add fd00::2/64 dev eth0 nodad
    ip link set eth0 up
    ip link set out up
    ip route add default via 192.0.2.1
    ip route add default via fd00::1
}

within() { # SUITES...
    export LC_ALL=C.UTF-8 HOME=/root CI=true WERROR=1
    network
    mkdir -p /passed
    rm -rf /failed
    mkdir /failed
    check "${names[0]}" 900 rebar3 compile
    check "${names[1]}" 120 "$BASH" "$0" --serves
    check "${names[2]}" 900 test/run.sh unit
    # These need the processors, the suites mostly wait.
    {
        check "${names[3]}" 2400 "$BASH" "$0" --checks
        check "${names[4]}" 2400 "$BASH" "$0" --compilers
    } &
    check "${names[5]}" 5400 test/run.sh dealt "$@"
    wait
    result >/result
    [ -z "$(ls /failed)" ]
}

case ${1-} in
    --serves) serves; exit ;;
    --checks) checks; exit ;;
    --compilers) compilers; exit ;;
    --versions) versions; exit ;;
    --within) shift; within "$@"; exit ;;
esac

# ------------------------------------------------------------------------- around it

# A command in a chroot, at /meerkat. Whatever it starts ends with it, and what is mounted goes. Its
# root is a mount of its own: `ip netns` wants one.
inside() { # CHROOT, [--net], COMMAND...
    local base=$1 net=
    shift
    [ "$1" != --net ] || { net=$1; shift; }
    # shellcheck disable=SC2016,SC2086 # for the inner shell; an option or nothing
    unshare --mount --pid $net --fork --kill-child sh -c '
        mount --bind "$1" "$1" && mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" &&
            mount -t tmpfs -o mode=1777 tmpfs "$1/tmp" && mount -t tmpfs tmpfs "$1/run" || exit
        base=$1
        shift
        exec chroot "$base" sh -c "cd /meerkat && exec \"\$@\"" - "$@"' - "$base" "$@"
}

# A Debian with what Meerkat wants, by `.ci/deps`, which is so tried too. What is not whole has
# another name.
made() { # NAME
    local base=$kept/$1 mirror
    [ -z "${REFRESH-}" ] || rm -rf --one-file-system "$base"
    if [ ! -d "$base" ]; then
        echo "Making a chroot of $1"
        rm -rf --one-file-system "$base.new"
        mkdir -p "$kept"
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
            grep -m1 /debian/)
        debootstrap --variant=minbase "$1" "$base.new" "$mirror" >"$kept/$1.log" 2>&1 ||
            { tail "$kept/$1.log"; return 1; }
        mv "$base.new" "$base"
    fi
    cp /etc/resolv.conf "$base/etc/"
    # How the mirror is reached, and how old its lists may be, is as apt is told here.
    apt-config dump | grep -E '^Acquire::(https?::|Check-)' >"$base/etc/apt/apt.conf.d/99around-it"
    unpacked "$base"
    inside "$base" .ci/deps elsewhere &&
        inside "$base" sh -c 'apt-cache search --names-only "^(gcc-1[2-9]|clang)$" | cut -d " " -f 1 |
            DEBIAN_FRONTEND=noninteractive xargs apt-get install -y -q --no-install-recommends' \
            >"$kept/$1.compilers" 2>&1 &&
        inside "$base" apt-get clean
}

sources() { git ls-files -z --cached --others --exclude-standard; }

# The sources, once: what was built from these very ones may be used again.
unpacked() { # CHROOT
    local base=$1 these
    these=$({ sources | xargs -0 sha1sum 2>/dev/null; echo "${SUITES-}"; } | sha1sum)
    [ -z "${RESUME-}" ] || [ "$these" != "$(cat "$base/sources" 2>/dev/null)" ] || return 0
    # What dialyzer knows of OTP took it minutes; it sees by itself what of that is old.
    mkdir -p "$base/plt"
    mv "$base"/meerkat/_build/default/rebar3_*_plt "$base/plt" 2>/dev/null
    rm -rf --one-file-system "$base/meerkat" "$base/passed"
    mkdir -p "$base/meerkat/_build/default"
    mv "$base"/plt/* "$base/meerkat/_build/default" 2>/dev/null
    sources | tar --create --null --files-from=- --ignore-failed-read 2>/dev/null |
        tar --extract --directory "$base/meerkat"
    echo "$these" >"$base/sources"
}

# Puts a row in the place of the one that begins as it does.
written() { # NAME, ROW
    awk -v name="| $1 |" -v row="$2" 'index($0, name) == 1 { print row; next } { print }' \
        docs/building.md >"$kept/page" && cp "$kept/page" docs/building.md
}

[ "$(id -u)" = 0 ] || { echo "only root may make a chroot" >&2; exit 2; }
command -v debootstrap >/dev/null || {
    apt-get install -y -q --no-install-recommends debootstrap >/dev/null || exit 2
}
status=0
for name in ${*:-trixie sid}; do
    base=$kept/$name
    made "$name" || { echo "FAILED: $name has what it needs"; status=1; continue; }
    echo "== $name: $(inside "$base" test/distributions.sh --versions)"
    rm -f "$base/result"
    # shellcheck disable=SC2046 # a list of names
    inside "$base" --net test/distributions.sh --within ${SUITES:-$(suites)} || status=1
    result=$(cat "$base/result")${SUITES:+ ($SUITES)}
    row="| $name | $(inside "$base" test/distributions.sh --versions) | $(date +%F) | $result |"
    echo "$row"
    [ -z "${WRITE-}" ] || written "$name" "$row"
done
exit $status
