#!/usr/bin/env bash
# `make deb`: a Debian package of what is built: the programs, the unit, manual pages, completions, documents and a
# configuration. Printed last is its path, target/deb/floe_VERSION_ARCH.deb.
# Usage: deb.sh [PROGRAMS [VERSION]]
#   PROGRAMS  the directory that has floe and floe-runtime; not said: the release build
#   VERSION   of the package; not said: the programs'
set -euo pipefail
cd "$(dirname "$0")/.."
programs=${1:-target/$(rustc -vV | sed -n 's/^host: //p')/release}
version=${2:-$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)}
arch=$(dpkg --print-architecture)
out=target/deb
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

install -D -m 755 -t "$root/usr/bin" "$programs/floe" "$programs/floe-runtime"
install -D -m 644 -t "$root/lib/systemd/system" packaging/floe.service packaging/floe-restart.service
install -D -m 644 packaging/floe.toml "$root/etc/floe/floe.toml"
install -d "$root/etc/floe/floe.toml.d"
documents=$root/usr/share/doc/floe
install -D -m 644 -t "$documents" README.md docs/*.md
install -D -m 644 LICENSE "$documents/copyright"
gzip -9n <CHANGELOG.md >"$documents/changelog.gz"
"$programs/floe" man "$root/usr/share/man/man1"
gzip -9n "$root"/usr/share/man/man1/*.1
"$programs/floe" completion bash | install -D -m 644 /dev/stdin "$root/usr/share/bash-completion/completions/floe"
"$programs/floe" completion zsh | install -D -m 644 /dev/stdin "$root/usr/share/zsh/vendor-completions/_floe"
"$programs/floe" completion fish | install -D -m 644 /dev/stdin "$root/usr/share/fish/vendor_completions.d/floe.fish"

install -d "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<CONTROL
Package: floe
Version: $version
Architecture: $arch
Maintainer: The floe authors <floe@localhost>
Section: admin
Priority: optional
Installed-Size: $(du -sk --exclude DEBIAN "$root" | cut -f1)
Depends: libc6 (>= 2.36)
Recommends: ca-certificates
Suggests: apparmor, containernetworking-plugins, criu
Description: container engine of a Kubernetes node, and for people
 The CRI engine that kubelet uses, an OCI runtime with runc's command line, and
 commands for images, pods and containers.
CONTROL
echo /etc/floe/floe.toml >"$root/DEBIAN/conffiles"
# The engine is started anew by an upgrade, and stopped by a removal; its pods run on through both.
cat >"$root/DEBIAN/postinst" <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if [ -z "$2" ]; then
        systemctl enable --now floe.service
    else
        systemctl try-restart floe.service
    fi
fi
SCRIPT
cat >"$root/DEBIAN/prerm" <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now floe.service floe-restart.service
fi
SCRIPT
cat >"$root/DEBIAN/postrm" <<'SCRIPT'
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
# Images, containers and logs are the operator's, and may be in use: they stay.
if [ "$1" = purge ]; then
    rmdir --ignore-fail-on-non-empty /etc/floe/floe.toml.d /etc/floe 2>/dev/null || true
    [ ! -e /var/lib/floe ] || echo "floe: images and containers stay in /var/lib/floe, logs in /var/log/floe"
fi
SCRIPT
chmod 755 "$root"/DEBIAN/post* "$root/DEBIAN/prerm"

mkdir -p $out
dpkg-deb --root-owner-group --build "$root" "$out/floe_${version}_$arch.deb" >/dev/null
echo "$out/floe_${version}_$arch.deb"
