//! config-linux.md, namespaces and sysctl; config.md, hostname and domainname.

use crate::support::{self, Lab};
use serde_json::json;

const KINDS: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

fn inode(process: &str, file: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{process}/ns/{file}")).unwrap();
    link.to_str().unwrap().to_owned()
}

#[test]
fn namespaces_without_a_path_are_new_and_those_not_named_are_the_runtimes() {
    needs_host!();
    let mut lab = Lab::new();
    for (kind, file) in KINDS {
        let inside = lab.prints(&format!("readlink /proc/self/ns/{file}"));
        assert_ne!(inside.trim_end(), inode("self", file), "{kind}");
    }
    lab.namespace("uts", Some(""));
    let inside = lab.prints("readlink /proc/self/ns/uts");
    assert_ne!(inside.trim_end(), inode("self", "uts"), "an empty path");
    lab.config.as_object_mut().unwrap().remove("hostname");
    for kind in ["network", "ipc", "uts", "cgroup"] {
        lab.namespace(kind, None);
    }
    for file in ["net", "ipc", "uts", "cgroup"] {
        let inside = lab.prints(&format!("readlink /proc/self/ns/{file}"));
        assert_eq!(inside.trim_end(), inode("self", file));
    }
}

#[test]
fn namespaces_with_a_path_are_joined_and_an_exec_joins_them_too() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("first");
    let first = lab.pid("first");
    for (kind, file) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
        lab.namespace(kind, Some(&format!("/proc/{first}/ns/{file}")));
    }
    lab.config["hostname"] = json!("second");
    lab.sleeper("second");
    let second = lab.pid("second");
    for (kind, file) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
        let of_first = inode(&first.to_string(), file);
        assert_eq!(inode(&second.to_string(), file), of_first, "{kind}");
        let of_exec = lab
            .call(&[
                "exec",
                "second",
                "readlink",
                &format!("/proc/self/ns/{file}"),
            ])
            .ok();
        assert_eq!(of_exec.trim_end(), of_first, "exec, {kind}");
    }
    assert_ne!(
        inode(&second.to_string(), "mnt"),
        inode(&first.to_string(), "mnt")
    );
    // Both see each other, and the UTS namespace is one.
    let seen = lab
        .call(&[
            "exec",
            "first",
            "sh",
            "-c",
            "ps | grep -c 'sleep 1000$'; hostname",
        ])
        .ok();
    assert_eq!(seen, "2\nsecond\n");
    lab.call(&["delete", "--force", "second"]).ok();
    assert_eq!(lab.status("first"), "running");
}

#[test]
fn a_namespace_that_is_not_there_or_of_another_kind_is_an_error() {
    needs_host!();
    let mut lab = Lab::new();
    let absent = lab.dir.join("absent").display().to_string();
    lab.namespace("network", Some(&absent));
    lab.run().fails(&format!(
        "open namespace {absent}: no such file or directory"
    ));
    lab.namespace("network", Some("/proc/self/ns/uts"));
    lab.run().fails("join Network namespace: invalid argument");
    lab.namespace("network", Some("relative"));
    lab.run().fails("path must be absolute");
    lab.is_clean().unwrap();
}

#[test]
fn the_container_is_process_1_of_its_pid_namespace_and_sees_only_itself() {
    needs_host!();
    let mut lab = Lab::new();
    assert_eq!(lab.prints("echo $$; ls -d /proc/[0-9]* | wc -l"), "1\n3\n");
}

#[test]
fn hostname_and_domainname_are_set_inside_only() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["hostname"] = json!("inside");
    lab.config["domainname"] = json!("example.test");
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let out = lab.prints("hostname; cat /proc/sys/kernel/domainname");
    assert_eq!(out, "inside\nexample.test\n");
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(),
        before
    );
    lab.namespace("uts", None);
    lab.run().fails("hostname: needs a UTS namespace");
}

#[test]
fn sysctls_of_the_containers_namespaces_are_set_in_either_spelling() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel/shm_rmid_forced": "1", "kernel.msgmax": "9000" });
    let out = lab.prints("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced /proc/sys/kernel/msgmax");
    assert_eq!(out, "1\n1\n9000\n");
}

#[test]
fn sysctls_of_the_node_are_refused() {
    needs_host!();
    let mut lab = Lab::new();
    for (name, words) in [
        ("vm.swappiness", "vm.swappiness: belongs to no namespace"),
        ("kernel.hostname", "use hostname instead"),
        ("net.ipv4.no_such", "write sysctl net.ipv4.no_such"),
        ("net/../vm/swappiness", "linux.sysctl"),
    ] {
        lab.config["linux"]["sysctl"] = json!({ name: "1" });
        lab.run().fails(words);
    }
    lab.namespace("network", None);
    lab.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    lab.run().fails("no Network namespace of its own");
    lab.is_clean().unwrap();
}

#[test]
fn a_mount_namespace_can_be_joined_and_keeps_its_own_root() {
    needs_host!();
    let mut lab = Lab::new();
    // Others live in this namespace; they see the file system that it has at a place of theirs.
    let dir = lab.dir.clone();
    let mut holder = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs none $0/out && touch $0/out/ready && exec sleep 1000")
        .arg(&dir)
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/ns/mnt", holder.id());
    let inside = format!("/proc/{}/root{}/out/ready", holder.id(), dir.display());
    support::soon("the namespace", || std::path::Path::new(&inside).exists());
    lab.namespace("mount", Some(&path));
    lab.mount("/tmp", "bind", dir.join("out").to_str().unwrap(), &["bind"]);
    lab.config["process"]["args"] = json!(["sleep", "1000"]);
    let (mut run, ..) = lab.command(&["run", "-d", "c"]);
    assert!(run.status().unwrap().success());
    let pid = lab.pid("c");
    assert_eq!(
        inode(&pid.to_string(), "mnt"),
        inode(&holder.id().to_string(), "mnt")
    );
    let seen = lab.call(&["exec", "c", "ls", "/", "/tmp"]).ok();
    assert!(seen.contains("ready") && !seen.contains("boot"), "{seen}");
    lab.call(&["delete", "--force", "c"]).ok();
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", holder.id())).unwrap();
    // Others' tests have mounts as well.
    let dir = lab.dir.display().to_string();
    let mut left = mounts.lines().filter(|line| line.contains(&dir));
    assert!(left.all(|line| !line.contains("rootfs")), "{mounts}");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// The /proc of a mount namespace that is joined may be anything: parameters go to the host's own.
#[test]
fn parameters_are_set_in_the_real_proc_also_in_a_mount_namespace_that_is_joined() {
    needs_host!();
    let mut lab = Lab::new();
    let name = "net/ipv4/ip_default_ttl";
    let fake = lab.dir.join("fake/sys").join(name);
    std::fs::create_dir_all(fake.parent().unwrap()).unwrap();
    std::fs::write(&fake, "fake").unwrap();
    let mut holder = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount --bind $0/fake /proc && touch $0/ready && exec sleep 1000")
        .arg(&lab.dir)
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/ns/mnt", holder.id());
    support::soon("the namespace", || lab.dir.join("ready").exists());
    lab.namespace("mount", Some(&path));
    lab.config["mounts"] = json!([]);
    lab.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "77" });
    lab.config["process"]["args"] = json!(["sleep", "1000"]);
    let done = lab.call(&["run", "-d", "c"]);
    assert_eq!(done.code, 0, "{done:#?}");
    let seen = std::process::Command::new("nsenter")
        .args(["-t", &lab.pid("c").to_string(), "-n", "cat"])
        .arg(format!("/proc/sys/{name}"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "77\n");
    assert_eq!(std::fs::read_to_string(&fake).unwrap(), "fake");
    lab.call(&["delete", "--force", "c"]).ok();
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_new_network_namespace_has_its_loopback_device_up() {
    needs_host!();
    let mut lab = Lab::new();
    let seen = lab.prints("ip address show lo");
    assert!(
        seen.contains("LOOPBACK,UP") && seen.contains("127.0.0.1/8"),
        "{seen}"
    );
}
