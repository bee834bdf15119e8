//! config-linux.md, devices: which nodes there are and which may be opened.

use crate::support::Lab;
use serde_json::json;

#[test]
fn every_container_has_the_usual_nodes_and_links() {
    needs_host!();
    let mut lab = Lab::new();
    let out =
        lab.prints("cd /dev; stat -c '%n %F %t:%T %a %u:%g' null zero full random urandom tty");
    let want = [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ];
    let want: String = want
        .iter()
        .map(|(name, number)| format!("{name} character special file {number} 666 0:0\n"))
        .collect();
    assert_eq!(out, want);
    let links = lab.prints("cd /dev; for l in fd stdin stdout stderr ptmx; do readlink $l; done; echo x >/dev/null; head -c 4 /dev/zero | wc -c");
    assert_eq!(
        links,
        "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n4\n"
    );
}

#[test]
fn a_node_asked_for_has_its_number_mode_and_owner() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["linux"]["devices"] = json!([
        { "path": "/dev/deep/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o640, "uid": 7, "gid": 8 },
        { "path": "/dev/pipe", "type": "p" },
        { "path": "/dev/block", "type": "b", "major": 7, "minor": 300 },
        { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600 },
    ]);
    let out =
        lab.prints("cd /dev; stat -c '%F %t:%T %a %u:%g' deep/kmsg block null; stat -c %F pipe");
    assert_eq!(
        out,
        "character special file 1:b 640 7:8\nblock special file 7:12c 666 0:0\ncharacter special file 1:3 600 0:0\nfifo\n"
    );
    lab.config["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "q" }]);
    lab.run().fails("make device /dev/x: invalid argument");
}

/// Tries to open kmsg, which is no device for containers.
const OPEN: &str = "mknod /tmp/kmsg c 1 11; head -c 0 /tmp/kmsg && echo opened";

#[test]
fn a_device_nobody_named_cannot_be_opened_even_with_the_capability_to_make_it() {
    needs_host!();
    let mut lab = Lab::sh(OPEN);
    lab.run().fails("Operation not permitted");
    std::fs::remove_file(lab.rootfs("tmp/kmsg")).unwrap();
    lab.config["linux"]["resources"] = json!({ "memory": { "limit": 50_000_000 } });
    lab.run().fails("Operation not permitted");
    lab.call(&["create", "c"]).ok();
    lab.call(&["start", "c"]).ok();
}

#[test]
fn rules_are_taken_in_order() {
    needs_host!();
    let mut lab = Lab::sh(OPEN);
    // What the kernel itself asks of a reader of kmsg.
    for set in ["effective", "permitted", "bounding"] {
        let set = lab.config["process"]["capabilities"][set]
            .as_array_mut()
            .unwrap();
        set.push(json!("CAP_SYSLOG"));
    }
    let deny = json!({ "allow": false, "access": "rwm" });
    let allow = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" });
    lab.config["linux"]["resources"] = json!({ "devices": [deny, allow] });
    assert_eq!(lab.run().ok(), "opened\n");
    std::fs::remove_file(lab.rootfs("tmp/kmsg")).unwrap();
    lab.config["linux"]["resources"] = json!({ "devices": [allow, deny] });
    lab.run().fails("Operation not permitted");
    std::fs::remove_file(lab.rootfs("tmp/kmsg")).unwrap();
    lab.config["linux"]["resources"] = json!({ "devices": [{ "allow": true, "access": "rwm" }] });
    assert_eq!(lab.run().ok(), "opened\n");
}

#[test]
fn an_exec_is_held_by_the_same_rules() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    lab.call(&["exec", "c", "sh", "-c", OPEN])
        .fails("Operation not permitted");
}

#[test]
fn a_dev_that_is_the_hosts_is_left_alone() {
    needs_host!();
    let mut lab = Lab::new();
    let dev = lab.dir.join("dev");
    std::fs::create_dir(&dev).unwrap();
    let source = dev.to_str().unwrap().to_owned();
    lab.config["mounts"] = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "bind", "source": source, "options": ["rbind"] },
    ]);
    lab.prints("true");
    assert_eq!(std::fs::read_dir(dev).unwrap().count(), 0);
}
