#!/usr/bin/env bash
# Installs what a make target needs and the machine lacks: Debian packages (as root), the compiler of
# rust-toolchain.toml with musl for floe-runtime, cargo-nextest, cargo-deny.
# Usage: install-deps.sh toolchain|build|nextest|deny|counts|peers|vm
set -euo pipefail
cd "$(dirname "$0")/.."

# build: a C compiler for bundled SQLite and zstd; what tests and quickstart drive.
build="gcc libc6-dev make busybox-static e2fsprogs xz-utils bzip2 uidmap docker-registry containernetworking-plugins iproute2 nftables skopeo umoci gnupg openssl"
# peers: what the benchmarks compare with.
peers="runc crun containerd podman conmon golang-github-containers-common valgrind strace"
# vm: the machines that cgroup v2, criu and systemd are tested in; their kernel is unpacked from its package.
vm="qemu-system-x86 cpio binutils criu debootstrap apparmor docker-registry runc crun containerd"

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

# The compiler that rust-toolchain.toml names. Where the machine has that version under another name
# ("stable"), it gets this one as well; otherwise rustup fetches it.
toolchain() {
    rustc --version >/dev/null 2>&1 || compiler
    musl
}

compiler() {
    local wanted default
    wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    default=$(cd / && rustc --print sysroot 2>/dev/null) || true
    if [ -n "$default" ] && [ "$("$default/bin/rustc" --version | cut -d' ' -f2)" = "$wanted" ]; then
        rustup toolchain link "$wanted" "$default"
    else
        rustup toolchain install --profile minimal --component rustfmt --component clippy "$wanted"
    fi
}

# What floe-runtime ships for (scripts/runtime.sh). Not in rust-toolchain.toml: a machine that cannot reach
# rustup's server could then build nothing at all. FLOE_MUSL=no keeps it from being fetched; where it could
# not be, it is not tried again for a day.
musl() {
    local sysroot host target tried=target/no-musl
    sysroot=$(rustc --print sysroot)
    host=$(rustc -vV | sed -n 's/^host: //p')
    target=${host%-gnu}-musl
    if [ -d "$sysroot/lib/rustlib/$target/lib" ] || [ "${FLOE_MUSL:-}" = no ]; then return; fi
    [ -z "$(find $tried -mmin -1440 2>/dev/null)" ] || return 0
    echo "installing: Rust's $target (FLOE_MUSL=no does without)"
    # A toolchain that was linked under another name has targets under its own.
    local toolchain
    toolchain=$(basename "$(realpath "$sysroot")")
    timeout 180 rustup target add --toolchain "$toolchain" "$target" >/dev/null 2>&1 && return
    mkdir -p target && touch $tried
    echo "Rust's $target could not be installed within 3 minutes: floe-runtime is built as floe is"
}

case "${1:-}" in
    toolchain) toolchain ;;
    deny) cargo deny --version >/dev/null 2>&1 || cargo install --quiet --locked --debug cargo-deny ;;
    build) install $build ;;
    counts) install $build valgrind ;;
    peers) install $build $peers ;;
    vm) install $build $vm && apt-get update -qq ;;
    nextest) cargo nextest --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-nextest ;;
    *) echo "usage: $0 toolchain|build|nextest|deny|counts|peers|vm" >&2; exit 2 ;;
esac
