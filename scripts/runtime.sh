#!/usr/bin/env bash
# Builds floe-runtime as it ships: for musl where the compiler has that target (install-deps.sh toolchain),
# because each start is then the cheapest (docs/performance.md); otherwise as floe is built. Says which.
# Usage: runtime.sh release|debug|lint
#   release  puts it beside the floe of that build, where floe looks for it
#   debug    prints its path, for the tests (FLOE_TEST_RUNTIME)
#   lint     only checks what is compiled for musl alone
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
    release) options=(--release) ;;
    debug | lint) options=() ;;
    *) echo "usage: $0 release|debug|lint" >&2; exit 2 ;;
esac
cargo=${CARGO:-cargo}
host=$(rustc -vV | sed -n 's/^host: //p')
musl=${host%-gnu}-musl
if [ "$1" = lint ]; then
    [ -d "$(rustc --print sysroot)/lib/rustlib/$musl/lib" ] || { echo "floe-runtime: no $musl to check it for" >&2; exit 0; }
    $cargo clippy --locked -p floe-runtime --target "$musl" -- -D warnings
    exit
fi
if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl/lib" ]; then
    echo "floe-runtime: for $musl, the cheapest start" >&2
    $cargo build --locked -p floe-runtime "${options[@]}" --target "$musl"
    # Cargo's list of its sources goes along: tests refuse what is older than those.
    [ "$1" = debug ] || ln -f "target/$musl/release"/floe-runtime{,.d} "target/$host/release/"
    built=$musl
else
    echo "floe-runtime: for $host, as there is no $musl (rustup target add $musl): each start takes half a millisecond more" >&2
    # For the tests `make test` has built it, with everything else.
    [ "$1" = debug ] || $cargo build --locked -p floe-runtime "${options[@]}"
    built=$host
fi
[ "$1" = release ] || echo "$PWD/target/$built/debug/floe-runtime"
