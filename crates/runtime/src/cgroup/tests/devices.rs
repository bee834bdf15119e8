//! Device rules, enforced by the kernel.

use super::*;
use crate::spec::{DeviceCgroup, Pids};

fn device(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceCgroup {
    DeviceCgroup {
        allow,
        kind: Some(kind.into()),
        major: Some(major),
        minor: Some(minor),
        access: Some(access.into()),
    }
}

fn devices(devices: &[DeviceCgroup]) -> Resources {
    let deny = DeviceCgroup {
        allow: false,
        access: Some("rwm".into()),
        ..Default::default()
    };
    Resources {
        devices: [&[deny], devices].concat(),
        ..Default::default()
    }
}

/// Which of the nodes a process in the cgroup can open for reading.
fn can_read(cgroup: &Cgroup, nodes: &str) -> String {
    // It starts when the end of its input tells it that it was moved.
    let script =
        format!("for n in {nodes}; do true 2>/dev/null < /dev/$n && echo $n; done | tr '\\n' ' '");
    Process::start(cgroup, &script).end().1
}

#[test]
fn devices_not_allowed_cannot_be_opened_whichever_version_enforces_it() {
    let scratch = Scratch::new();
    let nodes = "null zero full random urandom kmsg mem";
    let cgroup = scratch.create(&devices(&[]));
    assert_eq!(can_read(&cgroup, nodes), "null zero full random urandom");
    cgroup
        .update(&devices(&[device(true, "c", 1, 11, "r")]))
        .expect("update");
    assert_eq!(
        can_read(&cgroup, nodes),
        "null zero full random urandom kmsg"
    );
    cgroup.update(&devices(&[])).expect("update");
    assert_eq!(can_read(&cgroup, nodes), "null zero full random urandom");
    cgroup
        .update(&Resources {
            pids: Some(Pids { limit: 100 }),
            ..Default::default()
        })
        .expect("update");
    assert_eq!(can_read(&cgroup, "null kmsg"), "null");
}

#[test]
fn v1_lists_the_default_devices_and_changes_only_what_differs() {
    if !on_v1(&[Controller::Devices]) {
        return;
    }
    let scratch = Scratch::new();
    let cgroup = scratch.create(&devices(&[
        device(true, "c", 10, 229, "rw"),
        device(true, "b", 7, -1, "r"),
    ]));
    let list = || -> Vec<String> {
        let mut lines: Vec<_> = value(&cgroup, Controller::Devices, "devices.list")
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    let defaults = [
        "b *:* m",
        "c *:* m",
        "c 136:* rwm",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:2 rwm",
    ];
    let with = |more: &[&'static str]| {
        let mut all = [&defaults, more].concat();
        all.sort_unstable();
        all
    };
    assert_eq!(list(), with(&["c 10:229 rw", "b 7:* r"]));
    // A child keeps the kernel from taking "everything", so this can only be done by differences.
    let below = Cgroup::create(&format!("{}/below", scratch.0), None).expect("create");
    cgroup
        .update(&devices(&[
            device(true, "c", 10, 229, "r"),
            device(true, "c", 10, 200, "rwm"),
        ]))
        .expect("update");
    assert_eq!(list(), with(&["c 10:229 r", "c 10:200 rwm"]));
    below.delete().expect("delete");
    let everything = DeviceCgroup {
        allow: true,
        ..Default::default()
    };
    cgroup
        .update(&Resources {
            devices: vec![everything],
            ..Default::default()
        })
        .expect("update");
    assert_eq!(list(), ["a *:* rwm"]);
}
