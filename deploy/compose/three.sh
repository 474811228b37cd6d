#!/usr/bin/env bash
# Of three peers one departs, is taken away with its data, and a new one comes in its place.
source "$(dirname "$0")/common"

say "three peers, two copies of each key"
quietly compose up -d
await "three peers are one ring" is_whole 3 0 2
for peer in peer1 peer2 peer3; do
    quietly at $peer health
done

say "$DOCUMENTS documents"
load 1 "$DOCUMENTS"
await "there are two copies of each" is_whole 3 "$DOCUMENTS" 2
remember
latency

say "peer3 departs: it hands over what it has, and is removed with its volume"
begun=$EPOCHREALTIME
quietly at peer1 depart peer3:7400 --yes
echo "it has departed after $(seconds "$begun") s"
quietly compose rm --stop --force peer3
quietly docker volume rm "${project}_peer3"
await "there are two copies of each again" is_whole 2 "$DOCUMENTS" 2
moved
verify_documents "$DOCUMENTS"
latency

say "peer3 is added again, as a new peer"
remember
quietly compose up -d peer3
await "there are two copies of each, on three peers" is_whole 3 "$DOCUMENTS" 2
moved
verify_documents "$DOCUMENTS"
latency
