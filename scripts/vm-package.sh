#!/bin/bash
# One of the "tests" in the second machine of test-vm.sh: floe's Debian package in the hands of dpkg and systemd. It is installed,
# reloaded, killed, upgraded under a running container and removed. Ends as a test program does.
# Usage: package FILTER …   run where "package" contains FILTER, or that is "systemd" or empty
case "$1" in "" | systemd | server) ;; *) case package in *"$1"*) ;; *) echo "test result: ok. 0 passed"; exit ;; esac ;; esac
passed=0

# Does it hold, within ten seconds?
holds() {
    local what=$1
    shift
    for _ in $(seq 100); do
        if "$@" >/tmp/said 2>&1; then
            echo "test package::$what ... ok"
            passed=$((passed + 1))
            return
        fi
        sleep 0.1
    done
    echo "test package::$what ... FAILED"
    cat /tmp/said
    journalctl -u floe.service --no-pager 2>/dev/null | tail -30
    systemctl status floe.service --no-pager 2>&1 | tail -20
    echo "test result: FAILED. $passed passed; 1 failed"
    exit 1
}
not() { ! "$@"; }
main_pid() { systemctl show -P MainPID floe.service; }
same() { [ "$1" = "$2" ]; }
is_another() { [ "$(main_pid)" -gt 0 ] && [ "$(main_pid)" != "$1" ] && systemctl is-active floe.service; }
runs() { floe ps --no-trunc | grep "$1" && kill -0 "$2"; }
logged() { journalctl -u floe.service --no-pager | grep "$1"; }

# What was left out of the machine for its size.
mkdir -p /var/lib/dpkg/{info,updates,triggers}
touch /var/lib/dpkg/{status,available}

holds it_is_installed dpkg -i --force-depends /floe-0.1.0.deb
holds the_engine_runs systemctl is-active floe.service
holds it_starts_with_the_machine systemctl is-enabled floe.service
holds it_has_manual_pages test -s /usr/share/man/man1/floe-serve.1.gz
holds it_has_completions grep -q floe /usr/share/bash-completion/completions/floe
tar -C / -cf /tmp/image.tar usr/bin/busybox
holds an_image_is_made floe import /tmp/image.tar packaged:1
holds a_container_starts floe run -d --network none --name packaged packaged:1 /usr/bin/busybox sleep 4242
container=$(grep -la "424[2]" /proc/[0-9]*/cmdline | head -1 | cut -d/ -f3)
before=$(main_pid)
holds it_is_reloaded systemctl reload floe.service
holds a_reload_keeps_its_process same "$before" "$(main_pid)"
kill -9 "$before"
holds a_killed_engine_comes_again is_another "$before"
holds its_container_runs_on runs packaged "$container"
before=$(main_pid)
echo "# mine" >>/etc/floe/floe.toml
holds it_is_upgraded dpkg -i --force-depends --force-confold /floe-0.2.0.deb
holds the_new_engine_runs is_another "$before"
holds the_container_outlives_the_upgrade runs packaged "$container"
holds the_operators_configuration_stays grep -q "# mine" /etc/floe/floe.toml
holds the_container_is_removed floe rm -f packaged
holds the_image_is_removed floe rmi packaged:1
holds it_is_removed dpkg -r floe
holds the_engine_is_gone not systemctl is-active floe.service
holds nothing_of_it_runs not grep -l "^floe" /proc/[0-9]*/comm
holds it_is_purged dpkg -P floe
holds its_configuration_is_gone not test -e /etc/floe
# What its pods were in, and is empty.
systemctl stop floe.slice
echo "test result: ok. $passed passed; 0 failed"
