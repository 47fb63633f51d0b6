#!/bin/bash
# Counts the instructions of our own code for each packet, of every kind and on both backends
# (test/c/replay, callgrind), and compares them with bench/instructions.txt: more than 2 % off, in
# either direction, fails. Libraries and the kernel are not counted.
#
#   test/instructions.sh            compare
#   test/instructions.sh accept     write what was counted into bench/instructions.txt
#
# Compilers differ by more than that: under another one than the file names nothing is compared.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
kept=$root/bench/instructions.txt
replay=$root/_build/c/release/replay
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

make -s -C c_src ../_build/c/release/replay

# Of one dump: backend, kind, and the program's own instructions by datagram.
own() { # BACKEND, DUMP
    awk -v backend="$1" -v program="$replay" '
        /^desc: Trigger: Client Request: / { kind = $5; datagrams = $6 }
        /^ob=/ { ours = $0 == "ob=" program }
        /^calls=/ { getline; next }
        /^[0-9]/ && ours { sum += $2 }
        END { if (kind != "") printf "%-9s %-22s %8.1f\n", backend, kind, sum / datagrams }' "$2"
}

for backend in io_uring epoll; do
    (cd "$scratch" && valgrind --tool=callgrind --collect-atstart=no --compress-strings=no \
        --compress-pos=no --callgrind-out-file="$backend" "$replay" "$backend" >"$backend.log" 2>&1) ||
        { cat "$scratch/$backend.log"; exit 1; }
    for dump in $(ls "$scratch/$backend".[0-9]* | sort -t. -k3 -n); do
        own "$backend" "$dump"
    done
done >"$scratch/counted"

compiler="# $(${CC:-gcc} --version | head -n 1), $(uname -m)"
if [ "${1-}" = accept ]; then
    { echo "# Instructions of our own code for each datagram; made by \`make instructions\`."
      echo "$compiler"
      cat "$scratch/counted"; } >"$kept"
    echo "wrote bench/instructions.txt"
elif ! grep -qxF "$compiler" "$kept"; then
    echo "counted with another compiler than bench/instructions.txt names: not compared"
else
    awk 'FNR == NR { if ($0 !~ /^#/) old[$1 " " $2] = $3; next }
         { name = $1 " " $2; seen[name] = 1; now = $3; was = old[name]
           if (was == "") { printf "%s: %s, which is new\n", name, now; wrong = 1 }
           else if (now > was * 1.02 || now < was * 0.98) {
               printf "%s: %s instructions, was %s (%+.1f %%)\n", name, now, was,
                      (now / was - 1) * 100
               wrong = 1 } }
         END { for (name in old) if (!(name in seen)) { print name ": gone"; wrong = 1 }
               if (wrong) print "if that is as it should be: make instructions"
               exit wrong }' "$kept" "$scratch/counted"
fi
