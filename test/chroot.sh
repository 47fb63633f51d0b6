#!/bin/bash
# Makes a Debian in DIRECTORY with what PACKAGES there are beyond the least, or uses what was made there
# before: SUITE is bookworm, trixie, sid... As root, with Debian's mirror in reach.
#
#   test/chroot.sh SUITE DIRECTORY [PACKAGE...]
#   test/chroot.sh run DIRECTORY COMMAND...     a command in it, with /proc, /dev and our network
set -eu

run_in() { # DIRECTORY, COMMAND...
    exec unshare --mount --fork --kill-child sh -c '
        root=$1
        shift
        mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" &&
            exec chroot "$root" "$@"' - "$@"
}

mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$'
}

[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
if [ "$1" = run ]; then
    shift
    run_in "$@"
fi
suite=$1 root=$2
shift 2
# Whole or not at all: a debootstrap that was interrupted is begun anew.
if [ ! -e "$root" ]; then
    command -v debootstrap >/dev/null || apt-get install -y -q --no-install-recommends debootstrap
    rm -rf "$root.new"
    debootstrap --variant=minbase "$suite" "$root.new" "$(mirror)"
    # What is lost with the machine is made anew: no package waits for the disk.
    echo force-unsafe-io >"$root.new/etc/dpkg/dpkg.cfg.d/scratch"
    # Nothing is started there.
    printf '#!/bin/sh\nexit 101\n' >"$root.new/usr/sbin/policy-rc.d"
    chmod 755 "$root.new/usr/sbin/policy-rc.d"
    echo '127.0.0.1 localhost' >"$root.new/etc/hosts"
    mv "$root.new" "$root"
fi
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
cp /etc/apt/apt.conf.d/*proxy* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
if [ $# -gt 0 ]; then
    (run_in "$root" env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get update -q && apt-get install -y -q --no-install-recommends "$@"' - "$@")
fi
