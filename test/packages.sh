#!/bin/bash
# Builds the Debian package in a chroot of each suite named (bookworm and trixie without a name), and does
# in a clean one what docs/upgrading.md says: installs, upgrades, goes back, saves, removes, purges. As
# root, on Debian with a package mirror in reach; the first time takes some minutes, for Debian's packages.
# One line a check; exit status 1 if any failed. With WRITE=1 the page gets the day, where all suites were
# tried and nothing failed. What is made lies in _build/packages.
#
#   test/packages.sh [SUITE...]
set -u
cd "$(dirname "$0")/.." || exit 2
kept=$PWD/_build/packages
mkdir -p "$kept"
. test/chroots.bash

# Two versions of one package: what changes is the number.
built() { # VERSION
    sources "$build"
    test/chroot.sh run "$build" env VERSION="$1" /meerkat/rel/deb /packages
}

completes() {
    inside bash -euc '. /usr/share/bash-completion/completions/meerkatctl
        COMP_WORDS=(meerkatctl dra) COMP_CWORD=1; _meerkatctl; [ "${COMPREPLY[*]}" = drain ]
        COMP_WORDS=(meerkatctl allocations --sort b) COMP_CWORD=3; _meerkatctl; [ "${COMPREPLY[*]}" = bytes ]
        COMP_WORDS=(meerkatctl -s /run/a/admin.sock dra) COMP_CWORD=3; _meerkatctl; [ "${COMPREPLY[*]}" = drain ]
        COMP_WORDS=(meerkatctl foreground --sel) COMP_CWORD=2; _meerkatctl; [ "${COMPREPLY[*]}" = --self-signed ]
        COMP_WORDS=(meerkatctl reload --d) COMP_CWORD=2; _meerkatctl; [ "${COMPREPLY[*]}" = --dry-run ]'
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
    chroots "$kept" || return
    check "the package is built" built 0.1.0
    check "and another version" built 0.2.0
    fresh
    cp "$build"/packages/meerkat_*.deb "$clean/root/" || { echo "FAILED: $suite: no package"; failed=1; return; }

    local command mine='realm = "mine.example"; users_file = "/var/lib/meerkat/users.cfg";'
    while IFS= read -r command; do
        check "$command" inside sh -c "cd /root && $(unasked "$command")"
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
    done < <(page docs/upgrading.md "The Debian package")
}

[ "$(id -u)" = 0 ] || { echo "only root may make a chroot" >&2; exit 2; }
for suite in ${*:-bookworm trixie}; do tried; done
if [ -n "${WRITE-}" ] && [ $# = 0 ] && [ $failed = 0 ]; then
    sed -i "s/(last on [0-9-]*,/(last on $(date -u +%F),/" docs/upgrading.md
fi
exit $failed
