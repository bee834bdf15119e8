#!/usr/bin/env bash
# Counts the tests that said why they cannot run here ("SKIP: reason" in what they print), and fails for a
# reason that scripts/skips.allowed does not name: a machine that lacks what install-deps.sh installs, or a
# test that gave up.
# Usage: skips.sh [JUNIT.XML of cargo nextest]
set -euo pipefail
cd "$(dirname "$0")/.."
report="${1:-target/nextest/${NEXTEST_PROFILE:-default}/junit.xml}"
reasons=$(grep -o 'SKIP: .*' "$report" | sed 's/&quot;/"/g; s/&apos;/'"'"'/g; s/&lt;/</g; s/&gt;/>/g; s/&amp;/\&/g; s/\]\]>.*//' | sort | uniq -c) || true
if [ -z "$reasons" ]; then
    echo "skipped: none"
    exit 0
fi
echo "skipped: $(awk '{ sum += $1 } END { print sum }' <<<"$reasons") tests cannot run here:"
echo "$reasons"
unknown=$(grep -vEf <(grep -v '^#' scripts/skips.allowed) <<<"$reasons") || true
[ -z "$unknown" ] || { echo "not in scripts/skips.allowed:" >&2; echo "$unknown" >&2; exit 1; }
