#!/usr/bin/env bash
# Installs dhtd as a systemd service, or takes it away again. What is there already and the same is left alone: it can be
# run again and again. It starts nothing.
set -euo pipefail

usage() {
    cat <<END
usage: install.sh [--prefix DIR] [--root DIR] [--binaries DIR] [--dry-run] [uninstall]

  --prefix DIR     binaries go to DIR/bin (default /usr/local)
  --root DIR       put everything below DIR, for packages (default: this machine)
  --binaries DIR   where dhtd and dhtctl were built (default: target/release)
  --dry-run        only say what would be done
  uninstall        remove binaries and units; settings and data stay, and it says where

Units go to /etc/systemd/system, settings to /etc/dhtd/dhtd.toml, which is never overwritten.
END
}

fail() {
    echo "error: $1" >&2
    exit "${2:-1}"
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
prefix=/usr/local
root=""
binaries=$here/../../target/release
dry=""
action=install
while [ $# -gt 0 ]; do
    case $1 in
    --prefix | --root | --binaries)
        [ $# -gt 1 ] || fail "$1 takes a folder" 2
        declare "${1#--}=${2%/}"
        shift
        ;;
    --dry-run) dry=yes ;;
    uninstall) action=uninstall ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
    shift
done
[[ $prefix == /* ]] || fail "--prefix must begin with /" 2
units=$root/etc/systemd/system
settings=$root/etc/dhtd/dhtd.toml

# run COMMAND...: says it, and does it unless this is only to be shown.
run() {
    echo "+ $*"
    [ -n "$dry" ] || "$@"
}

# put SOURCE TARGET MODE: a copy, unless it is there already.
put() {
    if cmp -s "$1" "$2" && [ "$(stat -c %a "$2")" = "$3" ]; then
        echo "  $2 is up to date"
    else
        run install -D -m "$3" "$1" "$2"
    fi
}

# Has systemd read the units again, if it is this machine's and runs.
reload() {
    if [ -z "$root" ] && [ -d /run/systemd/system ]; then
        run systemctl daemon-reload
    fi
}

install_all() {
    local unit
    scratch=$(mktemp -d)
    trap 'rm -r "$scratch"' EXIT
    for binary in dhtd dhtctl; do
        [ -x "$binaries/$binary" ] || fail "$binaries/$binary is not there: cargo build --release, or say --binaries DIR"
    done
    for binary in dhtd dhtctl; do
        put "$binaries/$binary" "$root$prefix/bin/$binary" 755
    done
    for unit in dhtd.service dhtd@.service; do
        sed "s|/usr/local/bin/|$prefix/bin/|" "$here/$unit" >"$scratch/$unit"
        put "$scratch/$unit" "$units/$unit" 644
    done
    if [ -e "$settings" ]; then
        echo "  $settings is yours and stays as it is"
    else
        run install -D -m 644 "$here/../dhtd.toml" "$settings"
    fi
    reload
    cat <<END
Installed. Next: say in $settings how the peer gets into a ring (bootstrap or join), then
  systemctl enable --now dhtd
END
}

uninstall_all() {
    local file
    if [ -z "$root" ] && [ -d /run/systemd/system ]; then
        run systemctl disable --now dhtd.service 'dhtd@*.service'
    fi
    for file in "$root$prefix/bin/dhtd" "$root$prefix/bin/dhtctl" "$units/dhtd.service" "$units/dhtd@.service"; do
        if [ -e "$file" ]; then
            run rm "$file"
        else
            echo "  $file is not there"
        fi
    done
    reload
    echo "Removed. Settings ($root/etc/dhtd) and data ($root/var/lib/dhtd*) are kept; to hand the data over first, dhtctl depart."
}

"${action}_all"
