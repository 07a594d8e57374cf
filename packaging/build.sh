#!/usr/bin/env bash
# Makes what others install, in packaging/out: a tarball with a binary, a Debian package of it, and their checksums.
#
#   packaging/build.sh                    a static binary (musl), optimised: minutes
#   packaging/build.sh --binary FILE      of a binary that was built before
set -euo pipefail
cd "$(dirname "$0")/.."

binary=""
case "${1:-}" in
    "") ;;
    --binary) binary=${2:?--binary needs a file} ;;
    *) echo "usage: packaging/build.sh [--binary FILE]" >&2; exit 64 ;;
esac

needs() { # needs PROGRAM PACKAGE
    command -v "$1" >/dev/null && return
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq "$2"
    else
        echo "$1 is needed: install the package $2, then run this again." >&2
        exit 1
    fi
}

needs dpkg-deb dpkg
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
machine=$(uname -m)
if [ -z "$binary" ]; then
    target=$machine-unknown-linux-musl
    needs musl-gcc musl-tools
    rustup target list --installed | grep -qx "$target" || rustup target add "$target"
    cargo build --locked --release --target "$target"
    binary=${CARGO_TARGET_DIR:-target}/$target/release/fleetform
fi

out=packaging/out
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$out" && mkdir -p "$out"

# The tarball: one folder with the binary, its completions and what to read.
name=fleetform-$version-$machine-linux
folder=$work/$name
mkdir -p "$folder/completions"
install -m 755 "$binary" "$folder/fleetform"
strip "$folder/fleetform" 2>/dev/null || true
install -m 644 LICENSE README.md CHANGELOG.md "$folder"
for shell in bash zsh fish; do "$folder/fleetform" completions "$shell" > "$folder/completions/$shell"; done
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner -czf "$out/$name.tar.gz" "$name"

# The Debian package.
root=$work/deb
install -D -m 755 "$folder/fleetform" "$root/usr/bin/fleetform"
install -D -m 644 "$folder/completions/bash" "$root/usr/share/bash-completion/completions/fleetform"
install -D -m 644 "$folder/completions/zsh" "$root/usr/share/zsh/vendor-completions/_fleetform"
install -D -m 644 "$folder/completions/fish" "$root/usr/share/fish/vendor_completions.d/fleetform.fish"
install -D -m 644 LICENSE "$root/usr/share/doc/fleetform/copyright"
install -D -m 644 README.md "$root/usr/share/doc/fleetform/README.md"
install -D -m 644 -t "$root/usr/share/doc/fleetform/docs" docs/*.md
mkdir -p "$root/usr/lib/systemd/system"
sed 's|/usr/local/bin/fleetform|/usr/bin/fleetform|' docs/watch/fleetform-watch.service \
    > "$root/usr/lib/systemd/system/fleetform-watch.service"
architecture=$(dpkg --print-architecture)
mkdir -p "$root/DEBIAN"
cat > "$root/DEBIAN/control" <<CONTROL
Package: fleetform
Version: $version
Architecture: $architecture
Maintainer: fleetform <fleetform@localhost>
Depends: git (>= 1:2.31)
Recommends: ca-certificates
Installed-Size: $(du -sk "$root" | cut -f1)
Section: admin
Priority: optional
Description: bulk work on fleets of connected devices through pull requests
 Jobs and device imports are YAML files in a git repository. fleetform plans
 what a change would do, does it in batches, and commits what happened.
CONTROL
dpkg-deb --root-owner-group --build "$root" "$out/fleetform_${version}_$architecture.deb" >/dev/null

(cd "$out" && sha256sum ./* > SHA256SUMS)
ls -l "$out"
