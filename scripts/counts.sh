#!/usr/bin/env bash
# Counts the instructions of the hot paths (callgrind, release build) and compares them with docs/counts.tsv: a
# change of more than 3 % either way fails with the table. What is meant is accepted by `scripts/counts.sh --accept`,
# and the new file is part of the change. The counts are those of a compiler and a C library, which the file names,
# and hardly of a machine: valgrind shows every program the same processor, as long as the real one has AVX2.
# Usage: counts.sh [--accept], after `make counts` has built the example
set -euo pipefail
cd "$(dirname "$0")/.."
kept=docs/counts.tsv
limit=3
host=$(rustc -vV | sed -n 's/^host: //p')
program=target/$host/release/examples/counts
[ -x "$program" ] || { echo "counts: $program is not built: make counts" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
made_with="# $host, $(rustc --version | cut -d' ' -f1,2), glibc $(getconf GNU_LIBC_VERSION | cut -d' ' -f2)"

# Instructions of a verb: of doing its work twice less those of doing it once. Of three runs the least counts:
# where a list grows by being moved depends on what lies behind it, now and then for 3 %.
count() {
    local said number least again run counted=()
    for again in "" again; do
        least=
        for run in 1 2 3; do
            mkdir "$scratch/state"
            "$program" samples "$scratch/state"
            # A fixed environment, and a directory whose name is always as long: both are parsed.
            said=$(env -i PATH=/usr/bin:/bin valgrind --tool=callgrind --callgrind-out-file=/dev/null \
                "$program" "$1" "$scratch/state" $again 2>&1) || { echo "$said" >&2; exit 1; }
            rm -r "$scratch/state"
            number=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$said")
            : "${number:?"$said"}"
            if [ -z "$least" ] || [ "$number" -lt "$least" ]; then least=$number; fi
        done
        counted+=("$least")
    done
    echo $((counted[1] - counted[0]))
}

echo "$made_with" >"$scratch/counts.tsv"
for verb in parse seccomp spec create list; do
    counted=$(count $verb)
    printf '%s\t%s\n' "$verb" "$counted"
done >>"$scratch/counts.tsv"

if [ "${1:-}" = --accept ]; then
    cp "$scratch/counts.tsv" $kept
    echo "counts: written to $kept"
    exit
fi
if ! grep -q "^# $host," $kept; then
    echo "counts: not compared: $kept has those of another machine's kind ($(head -1 $kept))"
    exit
fi
awk -F '\t' -v limit=$limit '
    /^#/ { next }
    NR == FNR { old[$1] = $2; next }
    {
        change = old[$1] ? ($2 - old[$1]) * 100 / old[$1] : 100
        bad = change > limit || change < -limit
        failed += bad
        printf "counts: %-8s %12d %12d %+7.2f %%%s\n", $1, old[$1], $2, change, bad ? "  <--" : ""
    }
    END { exit failed > 0 }' $kept "$scratch/counts.tsv" || {
    echo "counts: instructions kept, now, and the change; more than $limit % is to be meant: scripts/counts.sh --accept" >&2
    grep -qxF "$made_with" $kept || echo "counts: those kept were made with $(head -1 $kept), these with $made_with" >&2
    exit 1
}
