# In a machine of test-vm.sh: runs the programs in /tests, and says how each went. Its init sources this, in busybox's
# shell or in bash.

# run_tests SECONDS TRIES ARGUMENTS...: each program with ARGUMENTS, for SECONDS at most. With two TRIES, a few tests
# that fail are named and tried once more, as nextest does where a change lands. Sets $passed and $failed.
run_tests() {
    limit=$1
    tries=$2
    shift 2
    passed=0
    failed=0
    for test in /tests/*; do
        name=$(basename "$test")
        echo "vm: running $name"
        timeout "$limit" "$test" "$@" --test-threads 2 --show-output >/tmp/out 2>&1
        code=$?
        line=$(grep '^test result:' /tmp/out | tail -1)
        passed=$((passed + $(echo "$line" | sed -n 's/.* \([0-9]*\) passed.*/\1/p;t;s/.*/0/p')))
        echo "vm: $name: ${line:-no result} (exit code $code)"
        if [ $code -ne 0 ]; then
            cat /tmp/out
            again=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' /tmp/out)
            for one in $again; do
                echo "vm: $name: FAILED $one"
            done
            if [ "$tries" -gt 1 ] && try_again $again; then
                echo "vm: $name: flaky, each passed at its second try"
            else
                failed=$((failed + 1))
            fi
        fi
        grep '^SKIP' /tmp/out | sort | uniq -c | sed "s/^ */vm: $name: /"
    done
}

# try_again NAMES...: do they pass? More than three are no accident, and none is a program that did not end.
try_again() {
    [ $# -ge 1 ] && [ $# -le 3 ] || return 1
    timeout "$limit" "$test" "$@" --exact --test-threads 1 --show-output >/tmp/again 2>&1 && return
    cat /tmp/again
    return 1
}
