# The second machine of test-vm.sh, which sources this: Debian's systemd as init, in memory, for the
# tests of the systemd manager, of the runtime and of the engine: once on cgroup v2 and once on v1 with v2
# beside it ("hybrid").
# What is sourced finds in $work the kernel, in $root an empty directory, in $filter which tests, in $tries how often.

# Debian's systemd and D-Bus, without what nobody reads in a machine.
debian=$work/debian
if [ ! -e $work/debian.ready ]; then
    echo "fetching Debian's systemd"
    rm -rf $debian
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    debootstrap --variant=minbase --include=systemd-sysv,dbus,libpam-systemd,dbus-user-session \
        "$release" $debian >$work/debootstrap.log 2>&1 || { tail $work/debootstrap.log >&2; exit 1; }
    rm -rf $debian/var/cache/apt $debian/var/lib/{apt,dpkg} $debian/dev/*
    rm -rf $debian/usr/share/{doc,man,locale,info,zoneinfo,perl5,i18n,bash-completion}
    rm -rf $debian/usr/lib/x86_64-linux-gnu/{gconv,perl-base}
    touch $work/debian.ready
fi

cargo build --locked -p floe-runtime --bins
packages="-p runtime -p floe-runtime"
[ "$filter" != server ] || packages="-p runtime --lib"
test_programs $packages >"$root/programs"
mkdir -p "$root"/{bin,new,debian/tests}
# The engine with its own tests, which look for it above the directory that they are in, and for a registry.
case "$filter" in "" | server | package | systemd_checkpoint) engine=yes ;; *) engine= ;; esac
if [ -n "$engine" ]; then
    # As `make test` builds them.
    cargo build --locked --workspace --bins
    suite=$(cargo test --locked --no-run --workspace --test suite --message-format json-render-diagnostics |
        sed -n '/crates\/server#/s/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
    strip --strip-debug -o "$root/debian/tests/server-suite" "$suite"
    for program in floe floe-runtime; do
        built="target/$(rustc -vV | sed -n 's/^host: //p')/debug/$program"
        strip --strip-debug -o "$root/debian/$program" "$built"
    done
    install -D /usr/bin/docker-registry "$root/debian/usr/bin/docker-registry"
    # The package, in two versions, and what is to be seen of them.
    for version in 0.1.0 0.2.0; do
        cp "$(scripts/deb.sh "$root/debian" $version)" "$root/debian/floe-$version.deb"
    done
    install -m 755 scripts/vm-package.sh "$root/debian/tests/package"
fi
cp /bin/busybox "$root/bin/busybox"
cp -a $debian/. "$root/debian/"
cp /bin/busybox "$root/debian/usr/bin/busybox"
# criu, for checkpoints of what systemd made; it stops a network with nftables.
install -D /dev/stdin "$root/debian/etc/criu/default.conf" <<<"network-lock nftables"
# apparmor_parser loads the profile of the engine's containers, as the kernel has AppArmor. The OCI programs and
# the shim are handlers of the engine's pods.
for program in /usr/sbin/criu /sbin/apparmor_parser /usr/sbin/runc /usr/bin/crun /usr/bin/containerd-shim-runc-v2; do
    for file in $program $(ldd $program | grep -o '/[^ ]*'); do
        [ -e "$root/debian$file" ] || install -D "$file" "$root/debian$file"
    done
done
cp -r $work/modules "$root/debian/modules"
while read -r name program; do
    # What needs systemd, and what it is made of.
    case "$name" in
    floe-runtime-suite | runtime-runtime) strip --strip-debug -o "$root/debian/tests/$name" "$program" ;;
    esac
done <"$root/programs"
rm "$root/programs"
# Only what belongs to systemd: the first machine runs the rest.
only=systemd
case "$filter" in "" | server) ;; *) only=$filter ;; esac
# The one that cargo built with the tests, not musl's of `make test`.
driven="target/$(rustc -vV | sed -n 's/^host: //p')/debug/floe-runtime"
mkdir -p "$root/debian$PWD/$(dirname "$driven")"
strip --strip-debug -o "$root/debian$PWD/$driven" "$driven"

cat >"$root/init" <<'INIT'
#!/bin/busybox sh
# The root of a kernel's first file system cannot be pivoted away: go on in a tmpfs.
/bin/busybox mount -t tmpfs -o mode=755 none /new
/bin/busybox cp -a /debian/. /new/
exec /bin/busybox switch_root /new /sbin/init
INIT

# The tests are a service; what it ends with does not matter, for it says so itself.
cat >"$root/debian/etc/systemd/system/tests.target" <<'UNIT'
[Unit]
Requires=basic.target tests.service
After=basic.target
AllowIsolate=yes
UNIT
cat >"$root/debian/etc/systemd/system/tests.service" <<'UNIT'
[Unit]
Wants=dbus.socket systemd-logind.service
After=dbus.socket systemd-logind.service
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/tests.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity
UNIT
cat >"$root/debian/tests.sh" <<'TESTS'
#!/bin/bash
# Units that nobody of ours made, to see what is left behind.
units() { systemctl list-units --all --plain --no-legend --type scope,slice | awk '{ print $1 }' | sort; }
hierarchies=$(findmnt -rno FSTYPE -t cgroup,cgroup2 | sort | uniq -c | tr -s ' \n' ' ')
echo "vm: $(uname -r), systemd $(systemctl --version | sed -n 's/^systemd \([0-9]*\).*/\1/p'), hierarchies:$hierarchies"
for module in MODULES; do
    busybox insmod /modules/$module.ko
done
# A user with a manager of his own.
useradd --uid 1000 --create-home vm
loginctl enable-linger vm
for _ in $(seq 100); do
    [ -S /run/user/1000/bus ] && break
    sleep 0.2
done
units >/run/before
. /vm-tests.sh
run_tests 2000 TRIES "ONLY"
[ -S /run/user/1000/bus ] || { echo "vm: the user's manager does not run"; failed=$((failed + 1)); }
units >/run/after
left=$(comm -13 /run/before /run/after)
[ -z "$left" ] || { echo "vm: units left behind:" $left; failed=$((failed + 1)); }
echo "vm: $passed tests passed, $failed test programs failed"
TESTS
sed -i "s/MODULES/$modules/; s/ONLY/$only/; s/TRIES/$tries/" "$root/debian/tests.sh"
cp scripts/vm-tests.sh "$root/debian/"
chmod 755 "$root/init" "$root/debian/tests.sh"
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >$work/initramfs

# Nothing but the tests waits for a machine that is never used again.
slow="systemd-random-seed.service systemd-update-utmp.service systemd-journal-flush.service
    systemd-tmpfiles-setup.service systemd-sysctl.service systemd-networkd.service
    systemd-timesyncd.service systemd-binfmt.service systemd-firstboot.service"
masked=$(printf ' systemd.mask=%s' $slow)
# boot NAME UNIFIED: one machine; a machine waits more than it computes, so both run at the same time.
boot() {
    timeout 2400 qemu-system-x86_64 $accel -smp 2 -m 2560 -nodefaults -no-reboot -display none \
        -serial stdio -kernel $work/vmlinuz -initrd $work/initramfs \
        -append "console=ttyS0 quiet panic=-1 rdinit=/init random.trust_cpu=on no_timer_check systemd.unit=tests.target \
systemd.show_status=0 systemd.unified_cgroup_hierarchy=$2$masked" </dev/null |
        tee "$work/log-$1" | sed -u "s/\r$//; s/^/$1: /"
    grep -q '^vm: [1-9][0-9]* tests passed, 0 test programs failed' "$work/log-$1"
}
boot v2 1 &
v2=$!
boot v1 0 || failed=yes
wait $v2 || failed=yes
rm -f $work/initramfs
[ -z "${failed:-}" ]
