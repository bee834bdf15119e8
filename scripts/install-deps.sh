#!/usr/bin/env bash
# Installs what a make target needs and the machine lacks: Debian packages (as root), cargo-nextest.
# Usage: install-deps.sh build|nextest|peers|vm
set -euo pipefail

# build: a C compiler for bundled SQLite and zstd; what tests and quickstart drive.
build="gcc libc6-dev make busybox-static e2fsprogs xz-utils bzip2 uidmap docker-registry containernetworking-plugins iproute2 nftables skopeo umoci gnupg openssl"
# peers: what the benchmarks compare with.
peers="runc crun containerd podman conmon golang-github-containers-common valgrind strace"
# vm: the machines that cgroup v2, criu and systemd are tested in; their kernel is unpacked from its package.
vm="qemu-system-x86 cpio binutils criu debootstrap apparmor"

install() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    echo "installing: ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || { echo "run as root, or install these packages first" >&2; exit 1; }
    # No services of packages may start: tests bring their own.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
        trap "rm -f $policy" EXIT
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

case "${1:-}" in
    build) install $build ;;
    peers) install $build $peers ;;
    vm) install $build $vm && apt-get update -qq ;;
    nextest) cargo nextest --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-nextest ;;
    *) echo "usage: $0 build|nextest|peers|vm" >&2; exit 2 ;;
esac
