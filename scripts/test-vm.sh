#!/usr/bin/env bash
# `make test-vm`: the runtime's and supervisor's own tests on cgroup v2, in a virtual machine with
# Debian's kernel. The machine has nothing but busybox, the static programs and the test programs,
# in memory; it leaves nothing on the host but a kernel below target/vm. A second machine has
# Debian's systemd as well (vm-systemd.sh).
# Usage: test-vm.sh                      both machines, one after the other
#        test-vm.sh [--systemd] FILTER   one; only tests whose name, with its module's, contains FILTER ("" is all)
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
    scripts/test-vm.sh ""
    exec scripts/test-vm.sh --systemd
fi
machine=
if [ "$1" = --systemd ]; then
    machine=systemd
    shift
fi
filter="${1:-}"
work=target/vm
# Where a change lands, one test of many that depended on the machine's load is named and tried once more.
tries=1
[ "${NEXTEST_PROFILE:-}" != ci ] || tries=2
# Hardware acceleration where there is any, or else software.
accel="-accel tcg,thread=multi -cpu max"
mkdir -p $work
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# Debian's kernel, unpacked and not installed, and the modules that the tests (and criu) need of it.
modules="overlay inet_diag tcp_diag udp_diag raw_diag unix_diag af_packet_diag netlink_diag tun \
    veth nfnetlink libcrc32c nf_tables nf_defrag_ipv6 nf_defrag_ipv4 nf_conntrack nf_conntrack_netlink"
if [ ! -e $work/vmlinuz ] || [ ! -e $work/modules ]; then
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
    [ -n "$package" ] || { echo "apt knows no linux-image-cloud-amd64: run apt-get update" >&2; exit 1; }
    echo "fetching $package"
    (cd "$root" && apt-get download -qq "$package" 2>/dev/null && dpkg -x "$package"_*.deb kernel)
    mkdir -p $work/modules
    for module in $modules; do
        find "$root/kernel" -name "$module.ko" -exec cp {} $work/modules/ \;
    done
    cp "$root"/kernel/boot/vmlinuz-* $work/vmlinuz
    rm -rf "${root:?}"/*
fi

# Builds the test programs of packages; prints the name of each, as `floe-runtime-suite`, and its path.
test_programs() {
    cargo test --locked --no-run --message-format json-render-diagnostics "$@" |
        sed -n '/"profile":{[^}]*"test":true}/s,.*/crates/\([^#"]*\)#.*"target":{[^}]*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*,\1-\2 \3,p'
}

if [ -n "$machine" ]; then
    source scripts/vm-systemd.sh
    exit
fi

# The test programs, and what they drive, under the names that they were built with.
packages="-p runtime -p supervisor -p floe-runtime"
cargo build --locked -p floe-runtime --bins
test_programs $packages >"$root/programs"
mkdir -p "$root"/{bin,tests,proc,sys,dev,tmp,etc,root,run,new}
cp /bin/busybox "$root/bin/busybox"
# The shell of hooks (busybox goes by the name that it is called by); criu, and what it calls; what
# loads AppArmor's profiles and maps users' ids.
for program in /bin/dash /usr/sbin/criu /usr/bin/tar /usr/bin/gzip /sbin/apparmor_parser /usr/bin/newuidmap \
    /usr/bin/newgidmap; do
    for file in $program $(ldd $program | grep -o '/[^ ]*'); do
        install -D "$file" "$root$file"
    done
done
chmod u+s "$root"/usr/bin/new?idmap
cp -r $work/modules "$root/modules"
while read -r name program; do
    strip --strip-debug -o "$root/tests/$name" "$program"
done <"$root/programs"
# Beside the test programs' directory, as cargo lays them out.
mkdir "$root/examples"
strip --strip-debug -o "$root/examples/floe-supervise" "$(find target -path '*/debug/examples/floe-supervise' -type f | head -1)"
# The one that cargo built with the tests, not musl's of `make test`.
driven="target/$(rustc -vV | sed -n 's/^host: //p')/debug/floe-runtime"
mkdir -p "$root$PWD/$(dirname "$driven")"
strip --strip-debug -o "$root$PWD/$driven" "$driven"
# Records of former builds, which the supervisor's tests read where the sources are.
mkdir -p "$root$PWD/crates/supervisor"
cp -r crates/supervisor/golden "$root$PWD/crates/supervisor/golden"
rm "$root/programs"

cat >"$root/init" <<'INIT'
#!/bin/busybox sh
# The root of a kernel's first file system cannot be pivoted away: go on in a tmpfs.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/bin/busybox --install -s /bin
ln -sf dash /bin/sh
if [ ! -e /moved ]; then
    mount -t tmpfs -o mode=755 none /new
    for each in /*; do
        [ $each = /new ] || cp -a $each /new/
    done
    touch /new/moved
    exec switch_root /new /init
fi
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t securityfs none /sys/kernel/security
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 pts /dev/pts
mount -t tmpfs shm /dev/shm
chmod 1777 /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
for module in MODULES; do
    insmod /modules/$module.ko
done
# criu stops a network with iptables, which are not here, unless it is told otherwise.
mkdir -p /etc/criu
echo "network-lock nftables" >/etc/criu/default.conf
ip link set lo up
hostname vm
echo "root:x:0:0:root:/root:/bin/sh" >/etc/passwd
echo "root:x:0:" >/etc/group
touch /etc/subuid /etc/subgid
echo "vm: $(uname -r), cgroup v2 with: $(cat /sys/fs/cgroup/cgroup.controllers)"
. /vm-tests.sh
# Skipped: they need engines that are not there, or kill thousands of processes one after the other.
run_tests 1800 TRIES "FILTER" --skip engines:: --skip crash::
left=$(find /sys/fs/cgroup -mindepth 1 -type d | wc -l)
[ "$left" -eq 0 ] || { echo "vm: cgroups left behind:"; find /sys/fs/cgroup -mindepth 1 -type d; failed=$((failed + 1)); }
echo "vm: $passed tests passed, $failed test programs failed"
poweroff -f
INIT
sed -i "s/MODULES/$modules/; s/FILTER/$filter/; s/TRIES/$tries/" "$root/init"
cp scripts/vm-tests.sh "$root/"
chmod 755 "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >$work/initramfs

timeout 3000 qemu-system-x86_64 $accel -smp 2 -m 3072 -nodefaults -no-reboot -display none \
    -serial stdio -kernel $work/vmlinuz -initrd $work/initramfs \
    -append "console=ttyS0 quiet panic=-1 rdinit=/init random.trust_cpu=on no_timer_check" </dev/null | tee $work/log | sed -u 's/\r$//'
rm -f $work/initramfs
grep -q '^vm: [1-9][0-9]* tests passed, 0 test programs failed' $work/log
