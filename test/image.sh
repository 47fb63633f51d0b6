#!/bin/bash
# Builds the Dockerfile as it is and starts the image's own entry point in a chroot, in a network of
# its own: with MongooseICE's command line, with ours, and where io_uring is refused as Docker's
# default seccomp profile does. As root, on Debian with a package mirror in reach; takes some
# minutes, most of them for Debian's packages. One line a check; exit status 1 if any failed.
set -u
cd "$(dirname "$0")/.." || exit 2
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=${STORAGE_DRIVER-vfs}
base=docker.io/library/debian:bookworm-slim
work=$(mktemp -d)
space=meerkat-image-$$
failed=0
container=
server=

cleanup() {
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null
    ip netns pids "$space" 2>/dev/null | xargs -r kill -KILL 2>/dev/null
    ip netns delete "$space" 2>/dev/null
    [ -z "$container" ] || buildah rm "$container" >/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

check() { # NAME, COMMAND...
    local name=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        echo "ok: $name"
    else
        echo "FAILED: $name"
        cat "$work/said"
        failed=1
    fi
}

for tool in buildah curl debootstrap ip jq; do
    command -v $tool >/dev/null || packages+=" ${tool/#ip/iproute2}"
done
if [ -n "${packages-}" ]; then
    echo "Installing$packages"
    # shellcheck disable=SC2086 # a list of names
    { apt-get update -q && apt-get install -y -q --no-install-recommends $packages; } \
        >"$work/apt" 2>&1 || { cat "$work/apt"; exit 2; }
fi

# Where no registry can be reached, what the Dockerfile begins with is made here.
if [ -z "$(buildah images -q $base 2>/dev/null)" ] && ! buildah pull -q $base >/dev/null 2>&1; then
    echo "Making $base"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 /debian/)
    debootstrap --variant=minbase bookworm "$work/base" "$mirror" >"$work/log" 2>&1 ||
        { tail "$work/log"; exit 2; }
    scratch=$(buildah from scratch)
    buildah add -q "$scratch" "$work/base" / >/dev/null
    buildah commit -q "$scratch" $base >/dev/null
    buildah rm "$scratch" >/dev/null
    rm -rf "$work/base"
fi

# Its steps are told, for they take minutes; all it says is kept.
echo "Building the image"
buildah bud --pull-never --isolation chroot --format docker -t meerkat . 2>&1 |
    tee "$work/build" | sed -u -n 's/^\(\[.*\] \)\?STEP/  step/p' | cut -c1-100
[ "${PIPESTATUS[0]}" = 0 ] ||
    { tail -n 40 "$work/build"; echo "FAILED: the image is built"; exit 1; }
echo "ok: the image is built"
container=$(buildah from --pull-never localhost/meerkat)
root=$(buildah mount "$container")
buildah inspect --type image localhost/meerkat | jq .Docker.config >"$work/config"
mapfile -t environment < <(jq -r '.Env[]' "$work/config")
mapfile -t entrypoint < <(jq -r '(.Entrypoint + .Cmd)[]' "$work/config")
mapfile -t health < <(jq -r '.Healthcheck.Test[1:][]' "$work/config")
user=$(chroot "$root" id -u "$(jq -r .User "$work/config")")
# As every container has it: erl_call asks for this name.
echo '127.0.0.1 localhost' >"$root/etc/hosts"
echo "the image adds $(jq -n "$(du -sm "$root/opt/meerkat" | cut -f1)") MB to Debian's"

ip netns add "$space"
ip -n "$space" link set lo up
ip -n "$space" address add 203.0.113.5/32 dev lo

# As a registry would have it.
pushed() {
    buildah push -q localhost/meerkat "oci:$work/pushed:$version" &&
        jq -e --arg version "$version" '.manifests[0].annotations |
            .["org.opencontainers.image.ref.name"] == $version' "$work/pushed/index.json"
}
version=$(sed -n 's/.*{vsn, "\(.*\)"}.*/\1/p' src/meerkat.app.src)
check "its label is the version" \
    jq -e --arg version "$version" '.Labels["org.opencontainers.image.version"] == $version' "$work/config"
check "it can be pushed" pushed

# In the image, as its user, with its variables and ours. With read_only set nothing can be written but
# the tmpfs that docker run --read-only --tmpfs /run/meerkat gives; with NO_ERLANG=yes none can start.
read_only=
inside() { # VARIABLE=VALUE... COMMAND...
    local given=()
    while [[ $1 == *=* ]]; do given+=("$1"); shift; done
    [ -z "$read_only" ] || given+=("READ_ONLY=yes")
    ip netns exec "$space" unshare --mount --fork --kill-child sh -c '
        case " $* " in *" READ_ONLY=yes "*)
            mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" &&
                mount --bind "$1.run" "$1/run/meerkat" || exit 2 ;;
        esac
        case " $* " in *" NO_ERLANG=yes "*)
            for erl in "$1"/opt/meerkat/erts-*/bin/erlexec; do
                mount --bind /dev/null "$erl" || exit 2
            done ;;
        esac
        mount -t proc proc "$1/proc" && mount --bind /dev "$1/dev" || exit 2
        user=$2 root=$1; shift 2
        exec chroot --userspec "$user:$user" "$root" "$@"' - "$root" "$user" \
        env -i --default-signal "${environment[@]}" "${given[@]}" "$@"
}

serve() { # VARIABLE=VALUE...
    : >"$work/stdout"
    inside "$@" ${wrapper-} "${entrypoint[@]}" >"$work/stdout" 2>"$work/stderr" &
    server=$!
    for _ in $(seq 300); do
        grep -q "packets move by" "$work/stdout" && return
        kill -0 $server 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/stdout" "$work/stderr"
    return 1
}

node() { pgrep -u "$user" -x beam.smp | head -n 1; }

stopped() {
    kill -TERM "$(node)" && wait $server
    local status=$?
    server=
    return $status
}

nothing_on_stderr() { [ ! -s "$work/stderr" ] || { cat "$work/stderr"; return 1; }; }
only_log_lines() { ! grep -vE '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+ [a-z]+: ' "$work/stdout"; }
not_root() { [ "$user" != 0 ] && [ -n "$(node)" ]; }
no_secret() { ! grep -q "very_secret" "$work/stdout"; }
one_line_on_io_uring() {
    cat "$work/stdout"
    [ "$(grep -c "io_uring" "$work/stdout")" = 1 ] && grep -q "epoll" "$work/stdout"
}
usable() { inside meerkatctl check turn:203.0.113.5:3478 --user "$1" --password "$2"; }
usable_by_secret() { inside meerkatctl check turn:203.0.113.5:3478 --secret "$1"; }

check "MongooseICE's command line starts it" serve MONGOOSEICE_UDP_RELAY_IP=203.0.113.5 \
    MONGOOSEICE_STUN_SECRET=very_secret MONGOOSEICE_UDP_REALM=myrelay
check "it is not root's" not_root
check "MongooseICE's credentials are good" usable ignored very_secret
check "HEALTHCHECK finds it well" inside "${health[@]}"
check "and starts no Erlang for that" inside NO_ERLANG=yes "${health[@]}"
check "where meerkatctl needs one" eval '! inside NO_ERLANG=yes meerkatctl status'
check "logs are on stdout" nothing_on_stderr
check "and nothing else is" only_log_lines
check "the secret is not in them" no_secret
check "SIGTERM ends it with status 0" stopped
check "HEALTHCHECK finds none" eval '! inside "${health[@]}"'

check "RELAY_IP, STUN_SECRET and REALM start it" serve RELAY_IP=203.0.113.5 \
    STUN_SECRET=very_secret REALM=myrelay
check "its credentials are good" usable_by_secret very_secret
check "SIGTERM ends it with status 0" stopped

# Every page there is, as the code routes them.
pages() {
    sed -n 's/^route(<<"\(.*\)">>).*/\1/p' src/http/meerkat_http_api.erl
}
page_answers() { # PATH
    local code wanted=200
    # Without a token there are no credentials.
    [ "$1" = /credentials ] && wanted=404
    code=$(ip netns exec "$space" curl -s -o "$work/page" -w '%{http_code}' "http://127.0.0.1:9641$1")
    [ "$code" = $wanted ] && [ -s "$work/page" ] || { echo "$code"; cat "$work/page"; return 1; }
}
check "with HTTP_LISTEN it starts" serve RELAY_IP=203.0.113.5 HTTP_LISTEN=9641
[ "$(pages | wc -l)" -gt 5 ] || { echo "FAILED: the pages are known"; failed=1; }
for page in $(pages); do check "it answers for $page" page_answers "$page"; done
check "SIGTERM ends it with status 0" stopped

# Whatever database a key may name, its library is there; and users in one come in.
libraries() {
    inside meerkat eval '[meerkat_libraries:for_database(Kind)
        || Kind <- [sqlite, postgresql, mysql, redis]].' | tee "$work/libraries"
    [ "$(tr -d ' \n' <"$work/libraries")" = "[ok,ok,ok,ok]" ]
}
user_added() { inside meerkatctl users add alice --password wonderland; }
check "with users in a database it starts" serve RELAY_IP=203.0.113.5 REALM=myrelay \
    USERDB=/var/lib/meerkat/turndb
check "the libraries for all databases are there" libraries
check "a user is added" user_added
check "its credentials are good" usable alice wonderland
check "SIGTERM ends it with status 0" stopped

# docker run --read-only --tmpfs /run/meerkat:mode=700,uid=9000
mkdir -m 700 "$root.run" && chown "$user" "$root.run"
read_only=yes
check "read-only it starts" serve RELAY_IP=203.0.113.5 STUN_SECRET=very_secret
check "nothing can be written" eval '! inside touch /var/lib/meerkat/x'
check "its credentials are good" usable_by_secret very_secret
check "SIGTERM ends it with status 0" stopped
read_only=
rm -rf "$root.run"

# What Docker's default profile does: io_uring's system calls answer EPERM.
mkdir "$work/bin"
if gcc -static -o "$root/run/meerkat/refuse" test/c/tools/refuse.c; then
    wrapper="/run/meerkat/refuse io_uring EPERM" check "without io_uring it starts" \
        serve RELAY_IP=203.0.113.5 STUN_SECRET=very_secret
    check "it says so in one line" one_line_on_io_uring
    check "its credentials are good" usable_by_secret very_secret
    check "SIGTERM ends it with status 0" stopped
else
    echo "FAILED: the seccomp wrapper is built"
    failed=1
fi
exit $failed
