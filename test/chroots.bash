# For scripts that try Meerkat in chroots; read by them (`. test/chroots.bash`) in the checkout's root.
# They say where they keep things (kept), and for each suite what its chroots are: base, build, clean.
failed=0
needed=$(sed -n '/^Build-Depends:/,/^[A-Z].*:/{s/^Build-Depends://; /^[A-Z].*:/d; s/(.*)//; s/,//g; s/debhelper-compat/debhelper/; p}' debian/control)

check() { # NAME, COMMAND...
    local name=$1
    shift
    if "$@" >"$kept/$suite.said" 2>&1; then
        echo "ok: $suite: $name"
    else
        tail -n 30 "$kept/$suite.said"
        echo "FAILED: $suite: $name"
        failed=1
        return 1
    fi
}

# A Debian with nothing in it, and one with what the build needs.
chroots() { # DIRECTORY, for those of this suite
    base=$1/$suite-base build=$1/$suite clean=$1/$suite-clean
    check "a chroot" test/chroot.sh "$suite" "$base" || return
    [ -d "$build" ] || cp -a "$base" "$build"
    # shellcheck disable=SC2086 # a list of names
    check "what the build needs" test/chroot.sh "$suite" "$build" build-essential $needed || return
    rm -rf "$build/packages"
    mkdir -p "$build/packages"
}

# What git knows here, as /meerkat.
sources() { # CHROOT
    rm -rf "$1/meerkat"
    mkdir "$1/meerkat"
    git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$1/meerkat"
}

# A clean one in place of what was left of the last; Debian's lists of packages are in it.
fresh() {
    rm -rf --one-file-system "$clean"
    cp -a "$base" "$clean"
    inside apt-get update -q >/dev/null 2>&1
}

inside() { # COMMAND...
    test/chroot.sh run "$clean" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"
}

# With a network of its own, in which only it is.
alone() { # COMMAND...
    local script='ip link set lo up && ip link add eth0 type veth peer name eth1 &&
        ip addr add 192.0.2.2/24 brd + dev eth0 && ip link set eth0 up && ip link set eth1 up &&
        ip route add default via 192.0.2.1 && exec "$@"'
    unshare --net sh -c "$script" - test/chroot.sh run "$clean" "$@"
}

# Its own commands, from a page: the blocks for a shell below the heading, in order.
page() { # FILE, HEADING
    awk -v heading="## $2" '$0 == heading { on = 1; next } /^## / { on = 0 }
                            /^```/ { code = /^```sh/; next } on && code' "$1"
}

# As it is run where nobody answers its questions.
unasked() { # COMMAND
    echo "${1/apt-get /apt-get -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold }"
}

# As the unit does: its user, its variables, its command. There is no systemd here to do it.
serves() {
    alone sh -euc '
        install -d -o meerkat -g meerkat -m 700 /run/meerkat /var/lib/meerkat
        start=$(sed -n "s/^ExecStart=//p" /usr/lib/systemd/system/meerkat.service)
        setpriv --reuid meerkat --regid meerkat --clear-groups env -i PATH=/usr/bin:/bin \
            CONFIG_FILE=/etc/meerkat/meerkat.cfg MEERKAT_RUN_DIR=/run/meerkat $start &
        server=$!
        until [ "$(meerkat ping 2>/dev/null)" = pong ]; do kill -0 $server; sleep 0.1; done
        meerkatctl status
        meerkatctl check
        kill -TERM $server
        wait $server'
}
