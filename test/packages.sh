#!/bin/bash
# Builds the Debian package in a chroot of each suite named (bookworm and trixie without a name), and does
# in a clean one what docs/upgrading.md says: installs, upgrades, goes back, saves, removes, purges. As
# root, on Debian with a package mirror in reach; the first time takes some minutes, for Debian's packages.
# One line a check; exit status 1 if any failed. What is made lies in _build/packages.
#
#   test/packages.sh [SUITE...]
set -u
cd "$(dirname "$0")/.." || exit 2
kept=$PWD/_build/packages
mkdir -p "$kept"
failed=0
needed=$(sed -n '/^Build-Depends:/,/^[A-Z].*:/{s/^Build-Depends://; /^[A-Z].*:/d; s/(.*)//; s/,//g; s/debhelper-compat/debhelper/; p}' debian/control)

check() { # NAME, COMMAND...
    local name=$1
    shift
    if "$@" >"$kept/said" 2>&1; then
        echo "ok: $suite: $name"
    else
        tail -n 30 "$kept/said"
        echo "FAILED: $suite: $name"
        failed=1
    fi
}

# Two versions of one package: what changes is the number.
built() { # VERSION
    rm -rf "$build/meerkat"
    mkdir "$build/meerkat"
    git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$build/meerkat"
    test/chroot.sh run "$build" env VERSION="$1" /meerkat/rel/deb /packages
}

# Its own commands, from the page: what is indented below the heading, in order.
page() { # HEADING
    awk -v heading="## $1" '$0 == heading { on = 1; next } /^## / { on = 0 }
                            on && /^    / { print substr($0, 5) }' docs/upgrading.md
}

inside() { # COMMAND...
    test/chroot.sh run "$clean" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"
}

# As the unit does: its user, its variables, its command, in a network of its own. There is no systemd
# here to do it.
serves() {
    unshare --net sh -c 'ip link set lo up && exec "$@"' - test/chroot.sh run "$clean" sh -euc '
        install -d -o meerkat -g meerkat -m 700 /run/meerkat /var/lib/meerkat
        start=$(cat /usr/lib/systemd/system/meerkat.service | sed -n "s/^ExecStart=//p")
        setpriv --reuid meerkat --regid meerkat --clear-groups env -i PATH=/usr/bin:/bin \
            CONFIG_FILE=/etc/meerkat/meerkat.cfg MEERKAT_RUN_DIR=/run/meerkat \
            RELAY_IP=127.0.0.1 LISTEN_IP=127.0.0.1 $start &
        server=$!
        until [ "$(meerkat ping 2>/dev/null)" = pong ]; do kill -0 $server; sleep 0.1; done
        meerkatctl status
        meerkatctl check
        kill -TERM $server
        wait $server'
}

completes() {
    inside bash -euc '. /usr/share/bash-completion/completions/meerkatctl
        COMP_WORDS=(meerkatctl dra) COMP_CWORD=1; _meerkatctl; [ "${COMPREPLY[*]}" = drain ]
        COMP_WORDS=(meerkatctl allocations --sort b) COMP_CWORD=3; _meerkatctl; [ "${COMPREPLY[*]}" = bytes ]'
}

installed() { [ "$(inside dpkg-query -W -f '${Version}' meerkat)" = "$1" ]; }
configuration_is() { [ "$(cat "$clean/etc/meerkat/meerkat.cfg")" = "$1" ]; }
nothing_left() {
    local path
    for path in etc/meerkat var/lib/meerkat usr/lib/meerkat usr/bin/meerkat usr/bin/meerkatctl; do
        [ ! -e "$clean/$path" ] || { echo "$path is there"; return 1; }
    done
    ! grep -q '^meerkat:' "$clean/etc/passwd"
}

tried() {
    base=$kept/$suite-base build=$kept/$suite clean=$kept/$suite-clean
    check "a chroot" test/chroot.sh "$suite" "$base"
    [ -d "$build" ] || cp -a "$base" "$build"
    # shellcheck disable=SC2086 # a list of names
    check "what the build needs" test/chroot.sh "$suite" "$build" build-essential $needed
    rm -rf "$build/packages"
    mkdir -p "$build/packages"
    check "the package is built" built 0.1.0
    check "and another version" built 0.2.0
    rm -rf --one-file-system "$clean"
    cp -a "$base" "$clean"
    cp "$build"/packages/meerkat_*.deb "$clean/root/" || { echo "FAILED: $suite: no package"; failed=1; return; }
    inside apt-get update -q >/dev/null 2>&1

    local command mine='realm = "mine.example"; users_file = "/var/lib/meerkat/users.cfg";'
    while IFS= read -r command; do
        check "$command" inside sh -c "cd /root && ${command/apt-get /apt-get -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold }"
        case $command in
            *install*allow-downgrades*)
                check "the old one is back" installed 0.1.0
                check "the configuration is mine" configuration_is "$mine" ;;
            *install*0.1.0*)
                check "the configuration is nobody's but its user's" \
                    inside sh -c '[ "$(stat -c "%U %G %a" /etc/meerkat/meerkat.cfg)" = "root meerkat 640" ]'
                check "it serves" serves
                check "bash completes its commands" completes
                check "manual pages and zsh's completion are there" inside sh -c \
                    'ls /usr/share/zsh/vendor-completions/_meerkatctl; dpkg -L meerkat | grep -c "man1/meerkat.*gz" | grep -qx 2'
                echo "$mine" >"$clean/etc/meerkat/meerkat.cfg" ;;
            *install*0.2.0*)
                check "the new one is there" installed 0.2.0
                check "the configuration is mine" configuration_is "$mine"
                check "it serves" serves ;;
            *'tar -c'*) rm -rf "$clean/etc/meerkat" "$clean/var/lib/meerkat" ;;
            *'tar -x'*) check "the configuration is back" configuration_is "$mine" ;;
            *remove*) check "the configuration stays" configuration_is "$mine" ;;
            *purge*) check "nothing is left" nothing_left ;;
        esac
    done < <(page "The Debian package")
}

[ "$(id -u)" = 0 ] || { echo "only root may make a chroot" >&2; exit 2; }
for suite in ${*:-bookworm trixie}; do tried; done
exit $failed
