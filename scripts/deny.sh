#!/usr/bin/env bash
# What may come into the tree (deny.toml): licences, bans and sources from Cargo.lock and what cargo has
# fetched, without the network. Advisories need RustSec's database, which no package ships: they are checked
# where cargo-deny has fetched it before (`cargo deny fetch db`), and otherwise it is said that they are not.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo deny --offline --locked --log-level error check --hide-inclusion-graph bans licenses sources
for database in "${CARGO_HOME:-$HOME/.cargo}"/advisory-db*/*/; do
    if [ -d "$database" ]; then
        exec cargo deny --offline --locked --log-level error check advisories
    fi
done
echo "deny: advisories not checked: RustSec's database is not on this machine (cargo deny fetch db)"
