//! Device rules, enforced by the kernel.

use super::*;
use crate::spec::DeviceCgroup;

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

fn everything() -> Resources {
    let allow = DeviceCgroup {
        allow: true,
        ..Default::default()
    };
    Resources {
        devices: vec![allow],
        ..Default::default()
    }
}

/// Which of the nodes a process in the cgroup can open for reading.
fn can_read(cgroup: &Cgroup, nodes: &str) -> String {
    // It starts when the end of its input tells it that it was moved.
    let script = format!(
        "read go; for n in {nodes}; do true 2>/dev/null < /dev/$n && echo $n; done | tr '\\n' ' '"
    );
    Process::start(cgroup, &script).end().1
}

#[test]
fn devices_not_allowed_cannot_be_opened_whichever_version_enforces_it() {
    everywhere().into_iter().for_each(enforced_in);
}

fn enforced_in(hierarchies: &'static Hierarchies) {
    let scratch = Scratch::new();
    let nodes = "null zero full random urandom kmsg mem";
    let defaults = "null zero full random urandom";
    let made = Cgroup::create_in(hierarchies, &scratch.0, Some(&devices(&[])));
    let cgroup = made.expect("create");
    assert_eq!(can_read(&cgroup, nodes), defaults);
    let kmsg = devices(&[device(true, "c", 1, 11, "r")]);
    cgroup.update(&kmsg).expect("update");
    assert_eq!(can_read(&cgroup, nodes), format!("{defaults} kmsg"));
    cgroup.update(&devices(&[])).expect("update");
    assert_eq!(can_read(&cgroup, nodes), defaults);
    cgroup
        .update(&Resources::default())
        .expect("no rules change nothing");
    assert_eq!(can_read(&cgroup, nodes), defaults);
    cgroup.update(&everything()).expect("update");
    assert_eq!(can_read(&cgroup, "null kmsg"), "null kmsg");
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
    let all = Cgroup::create(&format!("{}/all", scratch.0), None).expect("create");
    assert_eq!(
        value(&all, Controller::Devices, "devices.list")
            .lines()
            .count(),
        12
    );
    let other = Scratch::new();
    let privileged = other.create(&everything());
    assert_eq!(
        value(&privileged, Controller::Devices, "devices.list"),
        "a *:* rwm"
    );
}
