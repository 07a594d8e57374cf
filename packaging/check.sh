#!/usr/bin/env bash
# Checks what packaging/build.sh has made: checksums, the files of the package, and that the binary runs a fleet.
set -euo pipefail
cd "$(dirname "$0")/out"

sha256sum --quiet --check SHA256SUMS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tar -C "$work" -xzf fleetform-*.tar.gz
mkdir "$work/deb" && dpkg-deb --extract fleetform_*.deb "$work/deb"
for file in usr/bin/fleetform usr/share/bash-completion/completions/fleetform usr/share/doc/fleetform/README.md \
    usr/lib/systemd/system/fleetform-watch.service; do
    test -s "$work/deb/$file" || { echo "the package lacks $file" >&2; exit 1; }
done
cmp "$work"/fleetform-*/fleetform "$work/deb/usr/bin/fleetform"
dpkg-deb --field fleetform_*.deb Depends | grep -q git

cd "$work"
export XDG_CONFIG_HOME=$work/config
./deb/usr/bin/fleetform quickstart my-fleet >/dev/null 2>&1
./deb/usr/bin/fleetform -C my-fleet job show dim-hall-a --json | grep -q '"completed":350'
if ldd deb/usr/bin/fleetform 2>&1 | grep -qE 'not a dynamic executable|statically linked'; then
    echo "the binary is static and runs"
else
    echo "the binary runs; it is not static"
fi
