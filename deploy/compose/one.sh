#!/usr/bin/env bash
# One peer is filled, stopped and started again: its data is in its volume, and it needs no more than that.
source "$(dirname "$0")/common"

is_healthy() {
    [ "$(docker inspect --format '{{.State.Health.Status}}' "$container")" = healthy ]
}

say "one peer"
quietly compose up -d
await "peer1 serves" at peer1 health
container=$(compose ps -q peer1)
await "Docker finds it healthy" is_healthy

say "$DOCUMENTS documents"
# There is nobody to have a second copy.
load 1 "$DOCUMENTS" --min-durable 1
verify_documents "$DOCUMENTS"
latency

say "stopped by Docker, and started again"
begun=$EPOCHREALTIME
quietly compose stop
echo "stopped after $(seconds "$begun") s"
if [ "$(docker inspect --format '{{.State.ExitCode}}' "$container")" != 0 ]; then
    echo "error: SIGTERM did not end it well" >&2
    exit 1
fi
quietly compose start
await "peer1 serves" at peer1 health
verify_documents "$DOCUMENTS"
latency
