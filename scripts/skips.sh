#!/usr/bin/env bash
# Counts the tests that said why they cannot run here ("SKIP: reason" in what they print). In CI a reason that
# names a package of Debian or install-deps.sh is a failure: there the machine should have it.
# Usage: skips.sh [JUNIT.XML of cargo nextest]
set -euo pipefail
cd "$(dirname "$0")/.."
profile="${NEXTEST_PROFILE:-default}"
report="${1:-target/nextest/$profile/junit.xml}"
reasons=$(grep -o 'SKIP: .*' "$report" | sed 's/&quot;/"/g; s/&apos;/\x27/g; s/&lt;/</g; s/&gt;/>/g; s/&amp;/\&/g; s/]]>.*//' | sort | uniq -c) || true
if [ -z "$reasons" ]; then
    echo "skips: none"
    exit 0
fi
echo "skips: $(awk '{ sum += $1 } END { print sum }' <<<"$reasons") tests cannot run here:"
echo "$reasons"
if [ "$profile" = ci ] && lacking=$(grep -E 'Debian|install-deps|is not installed' <<<"$reasons"); then
    echo "skips: this machine should have what these need:" >&2
    echo "$lacking" >&2
    exit 1
fi
