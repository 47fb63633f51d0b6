#!/bin/bash
# Does what docs/start-operator.md and docs/start-embedder.md say on a bare Debian, in chroots of each
# suite named (bookworm and trixie without a name): the package, the release, the sources, each with the
# commands of the page and then `meerkatctl check`; an application in Erlang and one in Elixir. As root, on Debian with a package mirror in reach; the first time takes some
# minutes for each. One line a check; exit status 1 if any failed. ROUTES='release sources' names the
# ways that are gone. With WRITE=1 the page's table gets what came out. What is made lies in
# _build/packages, as test/packages.sh has it.
#
#   test/newcomer.sh [SUITE...]
set -u
cd "$(dirname "$0")/.." || exit 2
kept=$PWD/_build/packages
operator=docs/start-operator.md
embedder=docs/start-embedder.md
mkdir -p "$kept"
. test/chroots.bash

# Both are built where compilers are; whoever installs them has none.
package_built() {
    sources "$build"
    test/chroot.sh run "$build" /meerkat/rel/deb /packages
}
release_built() {
    sources "$build"
    test/chroot.sh run "$build" /meerkat/rel/pack /packages
}

# The page has Debian 12's names; it says what they are on 13.
here() {
    case $suite in
        trixie) sed 's/debian12/debian13/; s/libconfig9/libconfig11/; s/libssl3 /libssl3t64 /' ;;
        *) cat ;;
    esac
}
commands() { page "$operator" "$1" | here; }

package_route() {
    check "the package is built" package_built || return
    fresh
    cp "$build"/packages/meerkat_*.deb "$clean/root/" || return
    local command
    while IFS= read -r command; do
        check "$command" inside sh -c "cd /root && $(unasked "$command")" || return
    done < <(commands "A Debian package")
    check "it serves, and check says so" serves
}

# What needs Debian's mirror comes first; then it is by itself.
release_route() {
    check "the release is built" release_built || return
    fresh
    cp "$build"/packages/meerkat-*.tar.gz "$clean/root/" || return
    local command script=
    while IFS= read -r command; do
        case $command in
            apt-get*) check "$command" inside sh -c "$(unasked "$command")" || return ;;
            *) script+="$command"$'\n' ;;
        esac
    done < <(commands "A release")
    [ -n "$script" ] || { check "the page has commands" false; return; }
    check "${script//$'\n'/; }" alone sh -euc "cd /root
        $script
        /opt/meerkat-*/bin/meerkat stop"
}

# `make run` installs what it needs and then serves, so it is run twice: until it serves, and alone.
sources_route() {
    fresh
    sources "$clean"
    local command
    while IFS= read -r command; do
        case $command in
            "make run")
                check "$command, until it serves" inside sh -euc "cd /meerkat; $serving" || return
                check "$command, and check says so" alone sh -euc "cd /meerkat; $serving" ;;
            *) check "$command" inside sh -c "$(unasked "$command")" || return ;;
        esac
    done < <(commands "The sources")
}
# It ends when it is drained; whoever sits before it has Ctrl-C.
serving='
    make run >/run.log 2>&1 &
    server=$!
    tail -f -n +1 --pid=$server /run.log | sed "/is serving/q"
    rel/bin/meerkatctl check || { cat /run.log; exit 1; }
    rel/bin/meerkatctl drain
    wait $server'

# In one shell, for the page's commands go on where the last ones were; apt asks nothing.
embedder_route() {
    fresh
    sources "$clean"
    mkdir "$clean/work" && mv "$clean/meerkat" "$clean/work/" || return
    local language script
    script=$(page "$embedder" "What it takes" | unasked_all)
    for language in Erlang Elixir; do
        script+=$'\n'"cd /work"$'\n'$(page "$embedder" $language | unasked_all)
        check "an application in $language" inside bash -exuc "$script" || return
        grep -q ':alice' "$kept/$suite.said" || { check "it has credentials" false; return; }
        script=
    done
}
unasked_all() {
    local command
    while IFS= read -r command; do unasked "$command"; done
}

route() { # NAME
    local before=$failed
    failed=0
    "${1}_route"
    [ $failed = 0 ] && came[$1]=ok || came[$1]=failed
    failed=$((failed | before))
}

# The row of this suite; ways that were not gone keep what they had.
written() {
    awk -F' *[|] *' -v suite="$suite" -v today="$(date -u +%F)" \
        -v came="${came[package]-} ${came[release]-} ${came[sources]-} ${came[embedder]-}" '
        index($2, suite " ") == 1 && NF > 6 {
            split(came, new, " ")
            printf "| %s |", $2
            for (i = 1; i <= 4; i++) printf " %s |", new[i] == "" || new[i] == "-" ? $(i + 2) : new[i]
            printf " %s |\n", today
            next
        }
        { print }' "$operator" >"$kept/$suite.page" && cp "$kept/$suite.page" "$operator"
}

[ "$(id -u)" = 0 ] || { echo "only root may make a chroot" >&2; exit 2; }
for suite in ${*:-bookworm trixie}; do
    chroots "$kept" || continue
    declare -A came=([package]=- [release]=- [sources]=- [embedder]=-)
    for name in ${ROUTES:-package release sources embedder}; do route "$name"; done
    [ -z "${WRITE-}" ] || written
done
exit $failed
