#!/bin/bash
# Runs the tests, in the steps named, and ends with the line `N passed, N failed`; the exit status is 0
# only if none failed and some passed. What counts as one: a check of .ci/check, a C test program, a
# fuzzer, a case of Common Test. Without a name all steps run, four lanes of them side by side, for
# most suites mostly wait. Which suite runs where is written in test/data/suites.txt.
#
#   check           format, cross references, types, who may include what, generated files
#   unit            the C test programs
#   ct [SUITE...]   the Common Test suites (no more steps after this one)
#   dealt SUITE...  the same in three lanes, which takes a third of the time (no more steps either)
#   epoll           those of them that test what moves packets, which then is epoll
#   instructions    of our own code for each packet, against bench/instructions.txt (callgrind)
#   fuzz            each fuzzer for FUZZ_SECONDS (15), two at a time
#   asan, tsan      the C test programs and the suites marked so, C built with that sanitizer
set -u
cd "$(dirname "$0")/.." || exit 2
root=$PWD
build=$root/_build/c
logs=$root/_build/test-logs
results=$logs/results
reasons=$logs/reasons
table=$root/test/data/suites.txt
rm -rf "$logs"
mkdir -p "$logs"
: >"$results"

say() { printf '\n== %s\n' "$*"; }
passed() { echo "pass $*" >>"$results"; }
failed() { echo "FAIL $*" | tee -a "$results"; }

names() {
    for file in "$root"/test/c/"$1"/*.c; do basename "$file" .c; done
}

# Sanitizers write a report for each process here instead of to its stderr; one is a failure,
# whatever the process's own exit status was. Each sanitizer has names of its own, for both may run at
# a time.
export ASAN_OPTIONS="log_path=$logs/report-asan:detect_leaks=1"
export UBSAN_OPTIONS="log_path=$logs/report-asan:print_stacktrace=1"
export TSAN_OPTIONS="log_path=$logs/report-tsan:second_deadlock_stack=1"

no_reports() { # VARIANT
    local report status=0
    for report in "$logs/report-$1".*; do
        [ -e "$report" ] || continue
        cat "$report"
        mv "$report" "$logs/seen-${report##*/}"
        status=1
    done
    return $status
}

# ThreadSanitizer of gcc 12 cannot live with much randomness in addresses; without it, it can.
without_randomness() {
    if setarch "$(uname -m)" -R true 2>/dev/null; then
        setarch "$(uname -m)" -R "$@"
    else
        "$@"
    fi
}

units() { # VARIANT
    say "C test programs ($1)"
    local name targets=()
    for name in $(names unit); do targets+=("../_build/c/$1/unit/$name"); done
    if ! make -s -k -j2 -C c_src VARIANT="$1" "${targets[@]}"; then
        failed "C test programs ($1): build"
    fi
    for name in $(names unit); do
        [ -x "$build/$1/unit/$name" ] || continue
        # Where `make unit` of c_src runs them: some read files.
        if (cd c_src && without_randomness timeout 120 "$build/$1/unit/$name") && no_reports "$1"; then
            passed "$name ($1)"
        else
            failed "$name ($1)"
        fi
    done
}

fuzz_one() { # NAME
    local log=$logs/fuzz-$1 found=$logs/corpus-$1 seeds=$root/test/c/fuzz/corpus/$1
    mkdir -p "$found"
    [ -d "$seeds" ] || seeds=
    # Reports of a fuzzer belong to its own log.
    if env -u ASAN_OPTIONS -u UBSAN_OPTIONS "$build/fuzz/fuzz_$1" -timeout=10 -rss_limit_mb=2048 \
        -max_total_time="${FUZZ_SECONDS:-15}" -artifact_prefix="$logs/crash-$1-" \
        "$found" $seeds >"$log" 2>&1; then
        tail -n 1 "$log" | sed "s/^/$1: /"
        passed "fuzz $1"
    else
        tail -n 40 "$log"
        failed "fuzz $1 ($logs/crash-$1-*)"
    fi
}

fuzz() {
    say "Fuzzers, ${FUZZ_SECONDS:-15} s each"
    make -s -j2 -C c_src fuzzers || { failed "fuzzers: build"; return; }
    local name
    for name in $(names fuzz); do
        while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
        fuzz_one "$name" &
    done
    wait
}

# Counts by what rebar3 says at the end; skipped for want of something is not passed, and skipped
# because a suite could not be prepared has failed.
# PROFILE names a build of their own for those that run beside others; RUN_BY is what runs them.
common_test() { # TITLE, SUITES...
    local as=${PROFILE:+as $PROFILE} title=$1 name=${1// /-} log status
    log=$logs/ct-${name:0:100}
    shift
    say "Common Test: $title"
    # shellcheck disable=SC2086 # words, or none
    ${RUN_BY-} rebar3 $as ct ${1:+--suite="$(IFS=,; echo "$*")"} 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    awk -v title="$title" -v status="$status" -v reasons="$reasons" '
        { gsub(/\033\[[0-9;]*m/, "") }
        /^%%% .* ==> .*: FAILED/ {
            sub(/^%%% /, ""); sub(/: FAILED.*/, ""); name[++named] = $0; reading = 1
            next
        }
        # What rebar3 says of it goes on to an empty line.
        reading && /^$/ { reading = 0 }
        reading { sub(/^%%% [^>]*> ?/, ""); reason[named] = reason[named] " " $0 }
        /^All [0-9]+ tests passed/ { pass = $2 }
        match($0, /Passed [0-9]+ tests/) { split(substr($0, RSTART, RLENGTH), w, " "); pass = w[2] }
        match($0, /Failed [0-9]+ tests/) { split(substr($0, RSTART, RLENGTH), w, " "); fail = w[2] }
        match($0, /Skipped [0-9]+ \([0-9]+, [0-9]+\)/) {
            split(substr($0, RSTART, RLENGTH), w, /[ (),]+/); skip = w[3]; fail += w[4]
        }
        END {
            if (status != 0 && fail == 0) fail = 1
            for (i = 0; i < pass; i++) print "pass " title
            for (i = 1; i <= fail; i++) print "FAIL " title ": " (i in name ? name[i] : "see above")
            for (i = 0; i < skip; i++) print "skip " title ": see above"
            for (i = 1; i <= named; i++) {
                gsub(/  +/, " ", reason[i])
                print name[i] ":" substr(reason[i], 1, 400) >>reasons
            }
        }' "$log" >>"$results"
}

# The suites marked so, with a relay built with a sanitizer. It is the program itself and no script
# that starts it, for relays tell each other apart by their files.
sanitized_suites() { # VARIANT
    local run_by=
    make -s -j2 -C c_src VARIANT="$1" relay || { failed "relay ($1): build"; return; }
    [ "$1" = tsan ] && run_by=without_randomness
    export MEERKAT_RELAY_PROGRAM=$build/$1/meerkat_relay
    # shellcheck disable=SC2046 # names
    RUN_BY=$run_by common_test "servers with $1" $(suites sanitizers)
    unset MEERKAT_RELAY_PROGRAM
    if no_reports "$1"; then passed "no report ($1)"; else failed "reports of the relay ($1)"; fi
}

# What moves packets is io_uring in the other steps, and half of the sanitized suites. The C test
# programs try both by themselves.
on_epoll() { # SUITES...
    export IO_BACKEND=epoll
    common_test "on epoll" "$@"
    unset IO_BACKEND
}

# The suites with one of these marks, or all.
suites() { # [MARK...]
    awk -v marks=" $* " '
        /^[^#]/ {
            if (marks ~ /^ *$/) { print $1; next }
            for (i = 3; i <= NF; i++) if (index(marks, " " $i " ")) { print $1; next }
        }' "$table"
}

# The suites of one of so many lanes: the longest first, each to the lane that has least to do by then.
part() { # NUMBER, LANES, SUITES...
    local number=$1 lanes=$2
    shift 2
    printf '%s\n' "$@" | awk 'NR == FNR { if (!/^#/) seconds[$1] = $2; next }
                               { print seconds[$1] + 0, $1 }' "$table" - | sort -k1,1nr -k2 |
        awk -v number="$number" -v lanes="$lanes" '{
            least = 1
            for (lane = 2; lane <= lanes; lane++) if (busy[lane] < busy[least]) least = lane
            busy[least] += $1
            if (least == number) print $2
        }'
}

# Every suite has its row, and every row its suite.
placed() {
    local strays
    strays=$(cd test && comm -3 <(printf '%s\n' *_SUITE.erl | sed 's/\.erl$//' | sort) <(suites | sort))
    if [ -n "$strays" ]; then
        failed "suites without a row in test/data/suites.txt, or rows without a suite:" $strays
    fi
}

instructions() {
    say "Instructions for each packet"
    if test/instructions.sh; then passed instructions; else failed instructions; fi
}

check() {
    say "Checks"
    .ci/check | tee "$logs/check"
    sed -n 's/^ok: /pass /p; s/^FAILED: /FAIL /p' "$logs/check" >>"$results"
}

step() { # NAME
    case $1 in
        check) check ;;
        unit) units release ;;
        asan) units "$1"; IO_BACKEND=io_uring sanitized_suites "$1" ;;
        tsan) units "$1"; IO_BACKEND=epoll sanitized_suites "$1" ;;
        epoll) on_epoll $(suites epoll) ;;
        instructions) instructions ;;
        fuzz) fuzz ;;
        *) echo "test/run.sh: no step called $1" >&2; exit 2 ;;
    esac
}

# Lines of a lane come under its name.
lane() { # NAME, COMMAND...
    "${@:2}" 2>&1 | sed -u "s/^/$1: /"
}

fast_relay() { make -s -j2 -C c_src VARIANT=fast relay; }

# What suites of several lanes would build or install in the same place; servers in a process of their
# own are those of the profile `test` in each lane.
shared() {
    say "What the suites share"
    fast_relay && make -s -C bench meerkat_bench && rebar3 as test compile ||
        failed "what the suites share: build"
}

# Suites in lanes with a build each.
side_by_side() { # LANES, SUITES...
    local number lanes=$1 builds=("" second epoll) of
    shift
    for ((number = 1; number <= lanes; number++)); do
        mapfile -t of < <(part "$number" "$lanes" "$@")
        [ ${#of[@]} = 0 ] || PROFILE=${builds[number - 1]} lane "part $number" \
            common_test "part $number" "${of[@]}" &
    done
}

dealt() { # SUITES...
    fast_relay || failed "what the suites share: build"
    side_by_side 3 "$@"
    wait
}

# The compilers and the fuzzers leave the processors to whoever waits for packets.
steady() { # STEPS...
    local name
    renice -n 10 -p $BASHPID >/dev/null
    for name; do step "$name"; done
}

epoll_then_tsan() {
    step epoll
    steady tsan
}

everything() {
    step check
    placed
    shared
    # shellcheck disable=SC2046 # names
    side_by_side 2 $(comm -23 <(suites | sort) <(suites alone | sort))
    PROFILE=epoll lane epoll epoll_then_tsan &
    PROFILE=sanitized lane C steady unit instructions asan fuzz &
    wait
    lane alone common_test alone $(suites alone)
}

if [ $# = 0 ]; then
    everything
fi
while [ $# -gt 0 ]; do
    name=$1
    shift
    case $name in
        ct) common_test "${*:-all suites}" "$@"; break ;;
        dealt) dealt "$@"; break ;;
    esac
    step "$name"
done

say "Result"
# Why, next to what: of a run elsewhere often no more is kept than its end.
cat "$reasons" 2>/dev/null
grep -E '^(FAIL|skip)' "$results" | sort | uniq -c
pass=$(grep -c '^pass' "$results")
fail=$(grep -c '^FAIL' "$results")
echo "$pass passed, $fail failed"
[ "$fail" = 0 ] && [ "$pass" != 0 ]
