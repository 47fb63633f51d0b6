#!/bin/bash
# Builds the relay, and the one Erlang module that knows its protocol, as another release has them:
# with one message more and one field more in what a relay hands to the next, so that the table of
# the protocol is another.
#
#   test/another_build.sh DIR     leaves DIR/priv/meerkat_relay and DIR/ebin/meerkat_ctl.beam
set -eu
cd "$(dirname "$0")/.."
dir=$1
mkdir -p "$dir/src/base" "$dir/docs" "$dir/ebin" "$dir/priv"
cp -R c_src "$dir"
cp src/base/meerkat_ctl.erl "$dir/src/base"

# The row of LEFT is followed by the new message; SOCKET gets the field behind its last.
sed -i -e 's/F(u8, crowded) F(u32, silent_ms),/F(u8, crowded) F(u32, silent_ms) F(bytes, added),/' \
    -e 's/^MSG(SOCKET, /MSG(ADDED, added, 0x5f, R2R,\n    F(u32, n) F(bytes, text),\n    "nothing")\n&/' \
    "$dir/c_src/ctl/ctl.def"
# It is said, before what other builds know.
sed -i 's/^    survival_put_kept(c, h);/    handed_put(h, \&(struct ctl_frame){.code = CTL_ADDED,\n        .u.added = {.n = 7, .text = ctl_bytes_of("more", 4)}});\n&/' \
    "$dir/c_src/relay/control/retiring.c"
grep -q CTL_ADDED "$dir/c_src/relay/control/retiring.c"
grep -q 'F(bytes, added)' "$dir/c_src/ctl/ctl.def"

make -s -j2 -C "$dir/c_src" BUILD=../_build CFLAGS=-O0 HARDEN= gen ../priv/meerkat_relay
erlc -o "$dir/ebin" "$dir/src/base/meerkat_ctl.erl"
