#!/usr/bin/env bash
# Builds static binaries with the Rust that is here, and an image of them; no image is pulled. Its name is IMAGE, or dhtd.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=$(uname -m)-unknown-linux-musl
if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] && ! rustup target add "$target"; then
    echo "error: Rust can't build for $target here: rustup target add $target" >&2
    exit 69
fi
if ! type -P musl-gcc >/dev/null; then
    echo "error: musl-gcc is missing (Debian package musl-tools)" >&2
    exit 69
fi
cargo build --release --locked --target "$target" --bin dhtd --bin dhtctl
mkdir -p target/docker
for binary in dhtd dhtctl; do
    # Names stay, for backtraces; lines of code would treble the size.
    strip --strip-debug -o "target/docker/$binary" "${CARGO_TARGET_DIR:-target}/$target/release/$binary"
done
docker build --file deploy/docker/Dockerfile --target prebuilt --tag "${IMAGE:-dhtd}" \
    --build-arg VERSION="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)" \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" .
