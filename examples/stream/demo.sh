#!/bin/bash
# A video from Alice to Bob, both behind symmetric NATs, through Meerkat: an XMPP server, the relay
# and both homes on this machine, in network namespaces of its own (test/netns/homes.sh). What
# stands in the way of a direct connection is cut on purpose, and the relay's program killed, while
# the film runs; at the end stands what became of it. With tcp or tls both homes get no UDP out at
# all; the relay lives then, for connections end with it. Needs root. Ctrl-C ends all of it.
#
#   demo.sh [--seconds N] [--transport udp|tcp|tls] [--way messages|jingle] [--keep DIR]
#
# DIR, kept at the end, has the film as sent and as received, all logs, and `result`: lines of
# NAME=NUMBER.
set -eu

seconds=25 transport=udp way=messages keep=
usage() {
    echo "usage: demo.sh [--seconds N] [--transport udp|tcp|tls] [--way messages|jingle] [--keep DIR]" >&2
    exit 2
}
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case "$1" in
        --seconds) seconds=$2 ;;
        --transport) transport=$2 ;;
        --way) way=$2 ;;
        --keep) keep=$2 ;;
        *) usage ;;
    esac
    shift 2
done
case "$transport" in udp | tcp | tls) ;; *) usage ;; esac
case "$seconds $way" in *[!0-9]*" "* | " "*) usage ;; *" messages" | *" jingle") ;; *) usage ;; esac
[ "$seconds" -ge 4 ] || { echo "demo.sh: less than 4 seconds show nothing" >&2; exit 2; }

[ "$(id -u)" = 0 ] || {
    echo "The demo makes network namespaces, which only root may. Try: sudo make demo" >&2
    exit 2
}

here=$(dirname "$(readlink -f -- "${BASH_SOURCE[0]}")")
root=$(readlink -f "$here/../..")
ctl=$root/rel/bin/meerkatctl
"$root/.ci/deps" demo
built=_build/${REBAR_PROFILE:-default}/lib
for needed in "$root/$built/meerkat/ebin" "$here/$built/stream/ebin"; do
    [ -d "$needed" ] || { echo "demo.sh: nothing is built here yet; run make demo" >&2; exit 1; }
done

readonly fps=25 keyframes=8 domain=demo.example password=sesame
readonly xmpp=11.0.1.2 relay=11.0.2.2
rooms=demo-$$
dir=$(mktemp -d)
secret=$(openssl rand -hex 16)
jobs=()

# -------------------------------------------------------------------------------------- manners

say() { printf '%s\n' "$*"; }

in_room() { ip netns exec "$rooms-$1" "${@:2}"; }

# ROOM LOG COMMAND...: its process is the last one of `jobs`.
start() {
    in_room "$1" "${@:3}" >"$dir/$2" 2>&1 &
    jobs+=($!)
}

alive() { kill -0 "$1" 2>/dev/null; }

# shellcheck disable=SC2317 # called by the trap
clean_up() {
    local status=$? job patience=50
    trap '' INT TERM
    [ ${#jobs[@]} = 0 ] || kill -TERM "${jobs[@]}" 2>/dev/null || true
    for job in "${jobs[@]}"; do
        while alive "$job" && [ $((patience--)) -gt 0 ]; do sleep 0.1; done
    done
    # Only what was started in our own rooms is in there.
    for room in alice bob xmpp relay; do
        ip netns pids "$rooms-$room" 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
    done
    "$root/test/netns/homes.sh" down "$rooms"
    if [ -n "$keep" ]; then
        mkdir -p "$keep" && cp -r "$dir/." "$keep"
    fi
    rm -rf "$dir"
    exit "$status"
}

give_up() { # SENTENCE LOG
    printf '\n%s\n' "$1" >&2
    tail -n 20 "$dir/$2" >&2
    exit 1
}

# Polls for a line of a program's log, as long as the program lives.
await() { # LOG WORDS JOB
    local patience=300
    until grep -qs "$2" "$dir/$1"; do
        alive "$3" || { grep -qs "$2" "$dir/$1" && break; give_up "$1 has ended:" "$1"; }
        [ $((patience--)) -gt 0 ] || give_up "$1 does not say \"$2\":" "$1"
        sleep 0.1
    done
}

value() { # LOG NAME: the latest that a client told
    sed -n "s/^\(progress\|result\) .*\b$2=\([0-9]*\).*/\2/p" "$dir/$1" | tail -n 1
}

# ---------------------------------------------------------------------------------- the servers

make_film() {
    ffmpeg -v error -f lavfi -i "testsrc2=size=640x360:rate=$fps" -t "$seconds" -c:v libx264 \
        -preset veryfast -tune zerolatency -b:v 1M -g $keyframes -keyint_min $keyframes \
        -sc_threshold 0 -pix_fmt yuv420p "$dir/film.h264"
}

# Both clients know who signs; what the server has to show they are told by nobody else.
make_certificates() {
    local new=(openssl req -x509 -newkey rsa:2048 -nodes -days 2)
    "${new[@]}" -subj "/CN=The demo" -keyout "$dir/ca-key.pem" -out "$dir/ca.pem"
    "${new[@]}" -subj "/CN=$domain" -addext "subjectAltName=DNS:$domain,IP:$relay" \
        -addext basicConstraints=critical,CA:FALSE -CA "$dir/ca.pem" -CAkey "$dir/ca-key.pem" \
        -keyout "$dir/key.pem" -out "$dir/cert.pem"
}

start_xmpp() {
    make_certificates 2>/dev/null
    mkdir "$dir/prosody" "$dir/certs"
    cat >"$dir/prosody.cfg.lua" <<CONFIG
pidfile = "$dir/prosody.pid"; data_path = "$dir/prosody"; daemonize = false; run_as_root = true
log = { info = "*console" }
interfaces = { "$xmpp" }; c2s_ports = { 5222 }
modules_enabled = { "roster", "saslauth", "tls", "disco", "external_services" }
modules_disabled = { "s2s" }
c2s_require_encryption = true; authentication = "internal_hashed"
ssl = { key = "$dir/key.pem"; certificate = "$dir/cert.pem" }
external_services = {
    { type = "turn"; transport = "udp"; host = "$relay"; port = 3478; secret = "$secret" };
    { type = "turn"; transport = "tcp"; host = "$relay"; port = 3478; secret = "$secret" };
    { type = "turns"; transport = "tcp"; host = "$relay"; port = 5349; secret = "$secret";
      algorithm = "turn" };
}
VirtualHost "$domain"
CONFIG
    for user in alice bob; do
        prosodyctl --config "$dir/prosody.cfg.lua" register $user $domain $password \
            >"$dir/$user.registered" 2>&1 || give_up "prosody has no $user:" "$user.registered"
    done
    start xmpp xmpp.log prosody --config "$dir/prosody.cfg.lua"
    await xmpp.log "Activated service 'c2s'" "${jobs[-1]}"
}

start_meerkat() {
    export MEERKAT_RUN_DIR=$dir/meerkat
    mkdir -m 700 "$MEERKAT_RUN_DIR"
    start relay relay.log env STUN_SECRET="$secret" RELAY_IP=$relay REALM=$domain \
        TLS_CERT="$dir/cert.pem" TLS_KEY="$dir/key.pem" \
        "$ctl" foreground
    await relay.log "is serving" "${jobs[-1]}"
}

client() { # USER ARGUMENTS...
    STREAM_PASSWORD=$password start "$1" "$1.log" "$here/stream" "$2" --jid "$1@$domain/demo" \
        --server $xmpp --ca "$dir/ca.pem" --transport "$transport" "${@:3}"
}

# ------------------------------------------------------------------------------------ accidents

cut_direct_way() {
    in_room core nft add rule ip direct cut counter name cut drop
}

# Nothing over UDP leaves the homes, wherever it is sent.
cut_udp() {
    in_room core nft add rule ip direct forward iifname '{ "a", "b" }' meta l4proto udp \
        counter name cut drop
}

kill_relay() {
    local pid
    for pid in $(ip netns pids "$rooms-relay"); do
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = meerkat_relay ]; then
            kill -KILL "$pid"
            return
        fi
    done
    give_up "There is no relay program to kill:" relay.log
}

# ------------------------------------------------------------------------------------- the film

topology() {
    cat <<PICTURE

              XMPP server               Meerkat
            prosody $xmpp            $relay
                   │                       │
       ┌───────────┴────── internet ───────┴───────────┐
       │                                               │
  NAT 12.0.0.2           no direct way           NAT 13.0.0.2
       │                                               │
  Alice 192.168.1.2                              Bob 10.0.0.2

  Both NATs are symmetric: another port, by chance, for each destination.
  film.h264 goes as RTP from Alice through her relayed address to Bob's, and becomes received.h264.

PICTURE
    [ "$transport" = udp ] || cat <<PICTURE
  Neither home gets UDP out: both reach Meerkat over ${transport^^}.

PICTURE
}

progress() {
    local sent=$1 bar
    bar=$(printf '%*s' $((sent * 30 / frames)) '' | tr ' ' '#')
    printf '%s[%-30s] %3d of %d frames sent, %s arrived; packets missed: %s%s' "$line" "$bar" \
        "$sent" "$frames" "$(value bob.log frames_written)" "$(value bob.log packets_missed)" "$end"
}

# What happens by the way, as soon as so many frames are sent.
play() {
    local sent=0 told=0 next=cut
    : >"$dir/before.json"
    [ "$transport" = udp ] || next=nothing
    while alive "$alice"; do
        sent=$(value alice.log frames_sent)
        sent=${sent:-0}
        [ "$sent" = "$told" ] || { progress "$sent"; told=$sent; }
        if [ $next = cut ] && [ $((sent * 4)) -ge "$frames" ]; then
            cut_direct_way
            aside "The direct way, of no use so far, is cut."
            next='kill'
        elif [ $next = kill ] && [ $((sent * 2)) -ge "$frames" ]; then
            "$ctl" allocations --json >"$dir/before.json"
            kill_relay
            aside "The relay program is killed (SIGKILL)."
            next=nothing
        fi
        sleep 0.2
    done
    progress "$(value alice.log frames_sent)"
    printf '%s' "$end_of_line"
    [ $next = nothing ] || give_up "The film was over before all had happened:" alice.log
}

aside() { printf '%s%s\n' "$end_of_line" "$1"; }

# ---------------------------------------------------------------------------------- what became

decoded() {
    ffprobe -v quiet -count_frames -select_streams v -show_entries stream=nb_read_frames \
        -of csv=p=0 "$dir/received.h264" | head -n 1
}

# Payload that a client sent through its allocation: what meerkatctl said before the relay died, as
# counters begin anew with each relay program, and what Meerkat says of it when it ends.
relayed() { # ADDRESS OF THE CLIENT'S NAT
    local ended=" allocation deleted: .* client $1:.* from client [0-9]* packets" before after
    before=$(tr '{' '\n' <"$dir/before.json" | grep -F "\"client\":\"$1:" |
        sed -n 's/.*"client_bytes":\([0-9]*\).*/\1/p')
    after=$(sed -n "s/.*$ended \([0-9]*\) bytes.*/\1/p" "$dir/relay.log")
    echo $((${before:-0} + ${after:-0}))
}

found() { sed -n "s/.*$1\([0-9]*\).*/\1/p"; } # WORDS: the number behind them

results() {
    echo pid=$$
    echo frames_sent="$(value alice.log frames_sent)"
    echo frames_received="$(value bob.log frames_written)"
    echo frames_decoded="$(decoded)"
    echo packets_sent="$(value alice.log packets_sent)"
    echo packets_received="$(value bob.log packets_received)"
    echo reports_sent="$(value bob.log reports_sent)"
    echo reports_received="$(value alice.log reports_received)"
    echo relayed_from_alice="$(relayed 12.0.0.2)"
    echo relayed_from_bob="$(relayed 13.0.0.2)"
    echo longest_silence_ms="$(value bob.log longest_silence_ms)"
    echo relay_restarts="$("$ctl" status --json | found '"relay_restarts":')"
    [ "$transport" = udp ] || return 0
    echo direct_tried=$(($(value alice.log direct_sent) + $(value bob.log direct_sent)))
    echo direct_received=$(($(value alice.log direct_received) + $(value bob.log direct_received)))
    echo direct_cut="$(in_room core nft list counter ip direct cut | found 'packets ')"
    echo relay_away_ms="$(found ' the relay is back after ' <"$dir/relay.log")"
}

# shellcheck disable=SC2154 # the names in what results has written
table() {
    local lost=$((frames_sent - frames_decoded)) missed=$((packets_sent - packets_received))
    cat <<TABLE

  Frames sent                 $frames_sent
  Frames decoded by Bob       $frames_decoded
  Video lost                  $lost frames, $((lost * 1000 / fps)) ms
  Packets sent, received      $packets_sent, $packets_received
  Packets lost                $missed
  Bob's reports to Alice      $reports_sent sent, $reports_received received
  Relayed for Alice           $relayed_from_alice bytes, as Meerkat counts
  Relayed for Bob             $relayed_from_bob bytes
  Bob's longest silence       $longest_silence_ms ms
TABLE
    [ "$transport" = udp ] && cat <<TABLE
  Relay program               killed, back after $relay_away_ms ms
  Direct way tried            $direct_tried times, arrived $direct_received, met the cut $direct_cut
TABLE
    echo
}

failed=0
must() { # WHAT CONDITION...
    test "$2" "$3" "$4" || { echo "demo.sh: $1 ($2 $3 $4)" >&2; failed=1; }
}

# shellcheck disable=SC2154
judge() {
    must "all frames were to be sent" "$frames_sent" -eq "$frames"
    must "what arrived was to be decoded" "$frames_decoded" -eq "$frames_received"
    must "less than a second of video was to be lost" $((frames_sent - frames_decoded)) -lt $fps
    must "reports were to come back" "$reports_received" -gt 0
    must "Alice was to use the relay" "$relayed_from_alice" -gt 0
    must "Bob was to use the relay" "$relayed_from_bob" -gt 0
    if [ "$transport" != udp ]; then
        must "the relay program was to live" "$relay_restarts" -eq 0
        return
    fi
    must "a direct way was to be tried" "$direct_tried" -gt 0
    must "there was to be no direct way" "$direct_received" -eq 0
    must "what was cut was to be tried still" "$direct_cut" -gt 0
    must "the relay program was to die once" "$relay_restarts" -eq 1
}

# ------------------------------------------------------------------------------------- the whole

if [ -t 1 ]; then line=$'\r' end='' end_of_line=$'\n'; else line='' end=$'\n' end_of_line=''; fi
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

topology
say "Making a film of $seconds seconds, the networks, and the servers."
make_film
"$root/test/netns/homes.sh" up "$rooms"
start_xmpp
start_meerkat
[ "$transport" = udp ] || cut_udp

client bob receive --from "alice@$domain" "$dir/received.h264"
bob=${jobs[-1]}
await bob.log "waiting for a call" "$bob"
client alice send --to "bob@$domain/demo" --way "$way" --fps $fps "$dir/film.h264"
alice=${jobs[-1]}
await alice.log "in a call" "$alice"
sed 's/^/  Bob:   /; /progress/d' "$dir/bob.log"
sed 's/^/  Alice: /; /progress/d' "$dir/alice.log"
frames=$((seconds * fps))
play
wait "$alice" || give_up "Alice's client failed:" alice.log
wait "$bob" || give_up "Bob's client failed:" bob.log
results >"$dir/result"
# shellcheck disable=SC1091
. "$dir/result"
table
judge
exit $failed
