//! config-linux.md, user namespaces: new ones with id mappings, joined ones, and what the root of a
//! container must not be able to do with them.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use crate::support::Lab;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use serde_json::{Value, json};

const FIRST: u32 = 200_000;

fn map(size: u32) -> Value {
    json!([{ "containerID": 0, "hostID": FIRST, "size": size }])
}

/// A lab whose container has a user namespace of its own with 65536 ids.
fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "type": "user" }));
    lab.config["linux"]["uidMappings"] = map(65536);
    lab.config["linux"]["gidMappings"] = map(65536);
    // The root file system is the container's, as an engine would have made it.
    give(&lab.rootfs(""));
    lab
}

fn give(dir: &std::path::Path) {
    chown(dir, Some(FIRST), Some(FIRST)).unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            give(&path);
        }
    }
}

#[test]
fn root_inside_is_the_mapped_user_outside() {
    needs_host!();
    let mut lab = lab();
    let out = lab.prints(
        "id -u; id -g; cat /proc/self/uid_map; echo x > /tmp/made; ls -ln /tmp | tail -n 1",
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["0", "0"]);
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(words, ["0", "200000", "65536"]);
    assert!(lines[3].contains(" 0        0 "), "{out}");
    assert_eq!(
        std::fs::metadata(lab.rootfs("tmp/made")).unwrap().uid(),
        FIRST
    );
}

#[test]
fn devices_mounts_and_names_are_as_without() {
    needs_host!();
    let mut lab = lab();
    lab.mount(
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    lab.mount(
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    );
    lab.mount("/tmp", "tmpfs", "tmpfs", &["size=1m"]);
    lab.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "9000" });
    lab.config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/sys/firmware"]);
    lab.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    let out = lab.prints(
        "hostname; echo x > /dev/null; head -c 3 /dev/zero | wc -c; cat /proc/sys/net/ipv4/ip_forward \
         /proc/sys/kernel/msgmax; head -c 1 /proc/kcore | wc -c; ls /sys/class/net; echo 1 > /proc/sys/net/ipv4/ip_forward || echo refused",
    );
    assert_eq!(out, "lab\n3\n1\n9000\n0\nlo\nrefused\n");
}

#[test]
fn a_user_of_the_container_is_mapped_and_has_its_groups() {
    needs_host!();
    let mut lab = lab();
    lab.config["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 6] });
    let out = lab.prints("id -u; id -g; id -G; stat -L -c %u /proc/self");
    assert_eq!(out, "1000\n1001\n1001 5 6\n1000\n");
}

#[test]
fn an_exec_joins_the_user_namespace() {
    needs_host!();
    let mut lab = lab();
    lab.sleeper("c");
    let out = lab.call(&[
        "exec",
        "c",
        "sh",
        "-c",
        "id -u; echo $$ > /tmp/p; readlink /proc/self/ns/user; ps | wc -l",
    ]);
    let out = out.ok();
    let inside = std::fs::read_link(format!("/proc/{}/ns/user", lab.pid("c"))).unwrap();
    assert_eq!(out.lines().next(), Some("0"));
    assert_eq!(out.lines().nth(1), inside.to_str());
    let host = std::fs::read_link("/proc/self/ns/user").unwrap();
    assert_ne!(inside, host);
    let as_user = lab.call(&["exec", "--user", "7:8", "c", "id", "-u"]).ok();
    assert_eq!(as_user, "7\n");
    let pids = lab.call(&["ps", "--format", "json", "c"]).ok();
    assert_eq!(pids.trim(), format!("[{}]", lab.pid("c")));
}

#[test]
fn nothing_of_the_host_stays_on_the_root_of_a_bundle_that_cannot_be_reached() {
    needs_host!();
    let mut lab = lab();
    let bundle = lab.rootfs("").parent().unwrap().to_owned();
    std::fs::set_permissions(&bundle, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(lab.rootfs("of-the-image"), "").unwrap();
    lab.sleeper("c");
    // Both find the top of the mount namespace's root.
    let inside = lab.call(&["exec", "c", "sh", "-c", "ls / && ls /.."]).ok();
    assert_eq!(inside.matches("of-the-image").count(), 2, "{inside}");
    let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", lab.pid("c"))).unwrap();
    let roots = table
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some("/"));
    assert_eq!(roots.count(), 1, "{table}");
}

#[test]
fn a_device_that_the_host_has_not_at_that_path_is_refused() {
    needs_host!();
    let mut lab = lab();
    let device =
        |path: &str, minor: u32| json!([{ "path": path, "type": "c", "major": 1, "minor": minor }]);
    lab.config["linux"]["devices"] = device("/dev/zero", 5);
    assert_eq!(lab.prints("head -c 2 /dev/zero | wc -c").trim(), "2");
    // The host's /dev/zero is no /dev/mem.
    lab.config["linux"]["devices"] = device("/dev/zero", 1);
    lab.script("true");
    lab.run().fails("make device /dev/zero: no such device");
}

#[test]
fn a_terminal_belongs_to_the_mapped_user() {
    needs_host!();
    let mut lab = lab();
    lab.config["process"]["terminal"] = json!(true);
    lab.config["process"]["user"] = json!({ "uid": 3, "gid": 3 });
    let out = lab.prints("stat -c %u $(tty)");
    assert_eq!(out.trim(), "3");
}

#[test]
fn namespaces_of_another_container_are_joined_with_its_user_namespace() {
    needs_host!();
    let mut lab = lab();
    lab.sleeper("first");
    let first = lab.pid("first");
    for (kind, file) in [
        ("user", "user"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
    ] {
        lab.namespace(kind, Some(&format!("/proc/{first}/ns/{file}")));
    }
    lab.sleeper("second");
    let second = lab.pid("second");
    for file in ["user", "net", "ipc", "uts", "pid"] {
        let of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
        assert_eq!(of(first), of(second), "{file}");
    }
    let seen = lab
        .call(&["exec", "first", "sh", "-c", "ps | grep -c 'sleep 1000$'"])
        .ok();
    assert_eq!(seen, "2\n");
    assert_eq!(lab.call(&["exec", "second", "id", "-u"]).ok(), "0\n");
    lab.call(&["delete", "--force", "second"]).ok();
    lab.call(&["delete", "--force", "first"]).ok();
}

#[test]
fn a_network_of_the_host_is_joined_before_the_user_namespace_is_made() {
    needs_host!();
    let mut holder = Lab::new();
    holder.sleeper("holder");
    let net = format!("/proc/{}/ns/net", holder.pid("holder"));
    let mut lab = lab();
    lab.namespace("network", Some(&net));
    let inside = lab.prints("readlink /proc/self/ns/net");
    let outside = std::fs::read_link(net).unwrap();
    assert_eq!(Some(inside.trim_end()), outside.to_str());
}

#[test]
fn sources_that_only_the_hosts_root_may_reach_are_bound() {
    needs_host!();
    let mut lab = lab();
    let secret = lab.dir.join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("file"), "told").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let source = secret.join("file");
    lab.mount(
        "/tmp/file",
        "bind",
        source.to_str().unwrap(),
        &["bind", "ro"],
    );
    assert_eq!(lab.prints("cat /tmp/file"), "told");
}

/// Says why a directory cannot be mounted with other ids on this kernel, if it cannot.
fn no_ids(dir: &std::path::Path) -> Option<&'static str> {
    const RAMFS: i64 = 0x8584_58f6;
    const TMPFS: i64 = 0x0102_1994;
    let kind = rustix::fs::statfs(dir).unwrap().f_type;
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap().to_owned();
    let mut numbers = release
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match kind {
        RAMFS => Some("ramfs has no id-mapped mounts"),
        TMPFS if version < (6, 3) => Some("tmpfs has no id-mapped mounts before Linux 6.3"),
        _ => None,
    }
}

#[test]
fn an_idmapped_mount_shows_the_hosts_owner_as_the_containers() {
    needs_host!();
    let mut lab = lab();
    if let Some(reason) = no_ids(&lab.dir) {
        eprintln!("SKIP: {reason}");
        return;
    }
    let data = lab.dir.join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "x").unwrap();
    chown(data.join("file"), Some(1000), Some(1000)).unwrap();
    let source = data.to_str().unwrap().to_owned();
    lab.mount("/tmp", "bind", &source, &["bind", "idmap"]);
    // With the container's own mapping, what is 1000 outside is 1000 inside, and the other way round.
    let out = lab.prints("stat -c '%u %g' /tmp/file; echo y > /tmp/new");
    assert_eq!(out, "1000 1000\n");
    assert_eq!(std::fs::metadata(data.join("new")).unwrap().uid(), 0);
}

#[test]
fn an_idmapped_mount_with_ids_of_its_own_needs_no_user_namespace() {
    needs_host!();
    let mut lab = Lab::new();
    if let Some(reason) = no_ids(&lab.dir) {
        eprintln!("SKIP: {reason}");
        return;
    }
    let data = lab.dir.join("data");
    std::fs::create_dir(&data).unwrap();
    chown(&data, Some(1000), Some(1000)).unwrap();
    let shift = json!([{ "containerID": 1000, "hostID": 4000, "size": 1 }]);
    let mount = json!({ "destination": "/tmp", "type": "bind", "source": data, "options": ["rbind", "ridmap"],
        "uidMappings": shift, "gidMappings": shift });
    lab.config["mounts"].as_array_mut().unwrap().push(mount);
    assert_eq!(lab.prints("stat -c '%u %g' /tmp"), "4000 4000\n");
}

#[test]
fn limits_and_the_oom_score_are_set_with_the_hosts_rights() {
    needs_host!();
    let mut lab = lab();
    lab.config["process"]["oomScoreAdj"] = json!(500);
    lab.config["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    let out = lab.prints("cat /proc/self/oom_score_adj; ulimit -Sn; ulimit -Hn");
    assert_eq!(out, "500\n100\n200\n");
}

#[test]
fn mappings_that_cannot_be_are_refused_by_name() {
    needs_host!();
    let mut lab = lab();
    lab.config["linux"]["uidMappings"] = json!([]);
    lab.run().fails("linux.uidMappings: is missing");
    lab.config["linux"]["uidMappings"] = json!([{ "containerID": 5, "hostID": 5, "size": 1 }]);
    lab.run().fails("linux.uidMappings: does not map id 0");
    lab.config["linux"]["uidMappings"] =
        json!([{ "containerID": 0, "hostID": 4294967295u32, "size": 2 }]);
    lab.run().fails("is no range of ids");
    let twice = json!([{ "containerID": 0, "hostID": 1, "size": 5 }, { "containerID": 3, "hostID": 100, "size": 5 }]);
    lab.config["linux"]["uidMappings"] = twice;
    lab.run()
        .fails("linux.uidMappings: \"0 1 5, 3 100 5\" is refused: Invalid argument");
    lab.config["linux"]["uidMappings"] = map(10);
    lab.namespace("user", None);
    lab.run().fails("linux.uidMappings: needs a user namespace");
    lab.is_clean().unwrap();
}

#[test]
fn the_containers_root_has_no_rights_over_the_host() {
    needs_host!();
    let mut lab = lab();
    lab.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_SYS_MODULE", "CAP_DAC_OVERRIDE"],
        "effective": ["CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_SYS_MODULE", "CAP_DAC_OVERRIDE"],
        "permitted": ["CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_SYS_MODULE", "CAP_DAC_OVERRIDE"],
    });
    let secret = lab.dir.join("secret");
    std::fs::write(&secret, "no").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    lab.mount("/tmp/secret", "bind", secret.to_str().unwrap(), &["bind"]);
    let out = lab.prints(
        "cat /tmp/secret 2>/dev/null || echo unread; mknod /dev/disk b 8 0 2>/dev/null || echo unmade; \
         hostname inside && hostname; echo 1 2>/dev/null > /proc/sys/vm/swappiness || echo unwritten",
    );
    assert_eq!(out, "unread\nunmade\ninside\nunwritten\n");
}

/// A mount of the host with a mount below it, gone in the end.
struct Hosts(std::path::PathBuf);

impl Hosts {
    fn new(lab: &Lab, flags: MountFlags) -> Self {
        let dir = lab.dir.join("hosts");
        std::fs::create_dir(&dir).unwrap();
        mount("tmpfs", &dir, "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
        let below = dir.join("below");
        std::fs::create_dir(&below).unwrap();
        mount("tmpfs", &below, "tmpfs", flags, c"size=64k").unwrap();
        mount_remount(&dir, flags | MountFlags::BIND, c"").unwrap();
        Self(dir)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for place in [self.0.join("below"), self.0.clone()] {
            unmount(place, UnmountFlags::DETACH).unwrap();
        }
    }
}

/// What holds a host's mount together must hold in a container that is root over nothing of the host
/// (mount_namespaces(7), locked flags; runc keeps them so).
#[test]
fn flags_of_the_hosts_mounts_stay_in_a_user_namespace() {
    needs_host!();
    let mut lab = lab();
    let locked = MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOATIME;
    let hosts = Hosts::new(&lab, locked);
    for (place, options) in [
        ("/a", &["bind"][..]),
        ("/b", &["bind", "ro"]),
        ("/c", &["rbind", "nosuid", "rprivate"]),
        ("/d", &["bind", "nodev", "noatime"]),
        ("/e", &["rbind", "rnosuid"]),
        ("/f", &["bind", "nosymfollow", "ro"]),
    ] {
        lab.mount(place, "bind", hosts.path(), options);
    }
    let out = lab.prints("grep -E ' /[a-f](/below)? ' /proc/self/mountinfo | cut -d' ' -f5,6");
    assert_eq!(out.lines().count(), 8, "{out}");
    for line in out.lines() {
        for flag in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
            let (place, flags) = line.split_once(' ').unwrap();
            assert!(
                flags.split(',').any(|one| one == flag),
                "{place} without {flag}: {flags}"
            );
        }
    }
}

#[test]
fn a_flag_of_the_hosts_mount_that_is_to_go_in_a_user_namespace_is_refused() {
    needs_host!();
    let mut lab = lab();
    let locked = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let hosts = Hosts::new(&lab, locked);
    for (options, words) in [
        (&["bind", "rw"][..], "rw: the host's mount is ro"),
        (&["bind", "ro", "suid"], "suid: the host's mount is nosuid"),
        (&["rbind", "dev"], "dev: the host's mount is nodev"),
        (
            &["bind", "exec", "nodev"],
            "exec: the host's mount is noexec",
        ),
        (&["rbind", "rrw"], "rw: the host's mount is ro"),
        (&["bind", "noatime"], "access times stay"),
        (&["bind", "strictatime"], "access times stay"),
    ] {
        lab.mount("/x", "bind", hosts.path(), options);
        lab.run().fails(words);
        lab.config["mounts"].as_array_mut().unwrap().pop();
    }
    // The mount below has what the one above has not.
    mount_remount(&hosts.0, MountFlags::BIND, c"").unwrap();
    lab.mount("/x", "bind", hosts.path(), &["rbind", "rrw"]);
    lab.run().fails("rw: the host's mount is ro");
    lab.config["mounts"].as_array_mut().unwrap().pop();
    lab.mount("/x", "bind", hosts.path(), &["rbind", "rw", "exec"]);
    assert_eq!(
        lab.prints("touch /x/made; touch /x/below/y 2>/dev/null || echo ro"),
        "ro\n"
    );
    assert!(hosts.0.join("made").exists());
}
