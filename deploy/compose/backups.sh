#!/usr/bin/env bash
# Of five peers with three copies of each key one dies without a word. Reads and writes go on, the ring makes new copies,
# and when the peer is restored it takes in what it has missed.
source "$(dirname "$0")/common"

# Reads documents one after the other until the file $scratch/stop is there. How long each took goes to $scratch/reads; one
# that fails ends it.
read_on() {
    local i=0 begun
    until [ -e "$scratch/stop" ]; do
        i=$((i % DOCUMENTS + 1))
        begun=$EPOCHREALTIME
        here query "document-$i" >/dev/null || return 1
        echo "$(seconds "$begun")"
    done >"$scratch/reads"
}

say "five peers, three copies of each key"
quietly compose up -d
await "five peers are one ring" is_whole 5 0 3

say "$DOCUMENTS documents"
load 1 "$DOCUMENTS"
await "there are three copies of each" is_whole 5 "$DOCUMENTS" 3
remember
latency

say "peer4 is killed while documents are read and written"
more=$((DOCUMENTS + DOCUMENTS / 4))
read_on &
reader=$!
quietly compose kill -s SIGKILL peer4
load $((DOCUMENTS + 1)) "$more"
await "there are three copies of each, on four peers" is_whole 4 "$more" 3
touch "$scratch/stop"
wait "$reader" || {
    echo "error: a document could not be read" >&2
    exit 1
}
sort -n "$scratch/reads" | awk '{ t[NR] = $1 } END { printf "meanwhile %d reads, none failed: median %.0f ms, slowest %.0f ms\n", NR, t[int((NR + 1) / 2)] * 1000, t[NR] * 1000 }'
moved
verify_documents "$more"
latency

say "peer4 is restored, and synchronised"
remember
quietly compose start peer4
await "peer4 serves" at peer4 health
await "there are three copies of each, on five peers" is_whole 5 "$more" 3
moved
verify_documents "$more"
latency
