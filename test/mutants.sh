#!/bin/bash
# Faults put into the relay's granted path one by one (test/data/mutants.txt), each of which the
# tests of grants must find: the property, which compares with a server whose relay asks for every
# request, or the case that the table names, or the unit test (unit/NAME). One line for each; exit
# status 1 where one is not found.
#
#   test/mutants.sh [WORDS...]      only those with one of them in their name
set -u
cd "$(dirname "$0")/.." || exit 2
table=test/data/mutants.txt
build=$PWD/_build/mutants
words=("${@-}")
survived=0

rm -rf "$build/c_src" && mkdir -p "$build" && cp -rp c_src "$build/c_src" || exit 2
# Objects of the last run may have a fault in them.
sed -n 's/^file //p' "$table" | while read -r file; do touch "$build/c_src/$file"; done

relay() { make -s -j2 -C "$build/c_src" BUILD="$build/c" PRIV="$build/priv" relay >"$build/make.log" 2>&1; }

unit() { # NAME
    make -s -j2 -C "$build/c_src" BUILD="$build/c" PRIV="$build/priv" TEST="$PWD/test/c" \
        "$build/c/release/unit/$1" >"$build/make.log" 2>&1 || { cat "$build/make.log"; exit 2; }
    "$build/c/release/unit/$1" >"$build/unit.log" 2>&1
}

found() { # CASE
    case $1 in unit/*) ! unit "${1#unit/}"; return ;; esac
    MEERKAT_RELAY_PROGRAM=$build/priv/meerkat_relay \
        rebar3 ct --suite test/grants_SUITE --case "$1" --logdir "$build/logs" >"$build/ct.log" 2>&1
    [ $? -ne 0 ] && grep -q 'Failed 1 test' "$build/ct.log"
}

is_wanted() { # NAME
    local word
    for word in "${words[@]}"; do [[ $1 == *$word* ]] && return 0; done
    return 1
}

# NAME CASE FILE OLD NEW: the file has OLD exactly once.
mutant() {
    local name=$1 case=$2 file=$build/c_src/$3
    is_wanted "$name" || return 0
    OLD=$4 NEW=$5 perl -0pi -e '$n = () = /\Q$ENV{OLD}\E/g; s/\Q$ENV{OLD}\E/$ENV{NEW}/;
        END { exit($n == 1 ? 0 : 1) }' "$file" || { echo "no such place: $name"; survived=1; return; }
    if ! relay; then
        echo "does not compile: $name"
        survived=1
    elif found "$case"; then
        echo "found by $case: $name"
    else
        echo "NOT FOUND by $case: $name"
        survived=1
    fi
    cp -p "c_src/$3" "$file" && touch "$file"
}

relay || { cat "$build/make.log"; exit 2; }
for case in same_as_without unit/granted; do
    if found $case; then
        cat "$build"/*.log
        echo "$case fails without any fault"
        exit 2
    fi
done
name= case= file= old=
while IFS= read -r line <&3; do
    case $line in
    '' | '#'*) ;;
    'file '*) file=${line#file } ;;
    '- '*) old=${line#- } ;;
    '+ '*) mutant "$name" "$case" "$file" "$old" "${line#+ }" ;;
    *' | '*) name=${line%% | *} case=${line##* | } ;;
    *) name=$line case=same_as_without ;;
    esac
done 3<$table
exit $survived
