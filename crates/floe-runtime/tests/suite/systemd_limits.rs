//! `--systemd-cgroup`: limits are properties of the unit and are in its control files; annotations
//! are properties too. Needs systemd, as `systemd.rs` says.

use crate::support::systemd::{Scope, either, is_v2, show, shows, systemctl, systemd_run};
use serde_json::json;

#[test]
fn systemd_knows_the_limits_and_the_control_files_have_them() {
    needs_systemd!();
    let mut scope = Scope::new();
    scope.limits(json!({
        "memory": { "limit": 67_108_864, "reservation": 33_554_432 },
        "cpu": { "shares": 512, "quota": 20_000, "period": 50_000, "cpus": "0", "mems": "0" },
        "pids": { "limit": 20 },
    }));
    scope.run();
    let (memory, shares) = either(
        ("MemoryMax", ("CPUWeight", "59")),
        ("MemoryLimit", ("CPUShares", "512")),
    );
    shows(
        &scope.unit,
        &[
            (memory, "67108864"),
            shares,
            ("CPUQuotaPerSecUSec", "400ms"),
            ("CPUQuotaPeriodUSec", "50ms"),
            ("AllowedCPUs", "0"),
            ("AllowedMemoryNodes", "0"),
            ("TasksMax", "20"),
        ],
    );
    if is_v2() {
        shows(&scope.unit, &[("MemoryLow", "33554432")]);
    }
    let check = || {
        let limits: [(&[&str], &str); 7] = [
            (&["memory.max", "memory.limit_in_bytes"], "67108864"),
            (&["memory.low", "memory.soft_limit_in_bytes"], "33554432"),
            (&["cpu.weight", "cpu.shares"], either("59", "512")),
            (
                &["cpu.max", "cpu.cfs_quota_us"],
                either("20000 50000", "20000"),
            ),
            (&["cpuset.cpus"], "0"),
            (&["cpuset.mems"], "0"),
            (&["pids.max"], "20"),
        ];
        for (files, value) in limits {
            assert_eq!(scope.file(files), value, "{files:?}");
        }
    };
    check();
    // What systemd has been told it keeps.
    systemctl(&["daemon-reload"]);
    check();
    scope.delete();
}

#[test]
fn devices_are_refused_also_after_systemd_has_gone_over_its_units() {
    needs_systemd!();
    let mut scope = Scope::new();
    for set in ["bounding", "effective", "permitted"] {
        let set = &mut scope.lab.config["process"]["capabilities"][set];
        set.as_array_mut().unwrap().push(json!("CAP_SYSLOG"));
    }
    scope.lab.config["linux"]["devices"] =
        json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11 }]);
    let deny = json!({ "allow": false, "access": "rwm" });
    let allow = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw" });
    for allowed in [true, false] {
        let rules = if allowed {
            json!([deny, allow])
        } else {
            json!([deny])
        };
        scope.limits(json!({ "devices": rules }));
        scope.run();
        // On v2 systemd would look for the devices anew, and find those only that udev knows. On v1 it
        // looks after them in any case.
        let policy = either("auto", "strict");
        shows(&scope.unit, &[("DevicePolicy", policy)]);
        let list = show(&scope.unit, "DeviceAllow");
        let named = list.contains("/dev/char/1:11 rw");
        assert_eq!(named, allowed && !is_v2(), "{list}");
        // Another unit of the same slice that has devices makes systemd look after those of all, on v1.
        let neighbour = format!("floe-neighbour-{}.service", scope.lab.name());
        let unit = format!("--unit={neighbour}");
        #[rustfmt::skip]
        systemd_run(&[&unit, "-p", "DevicePolicy=closed", "-p", "DeviceAllow=/dev/null rw", "sleep", "1000"]);
        let check = || {
            let exec = |script: &str| scope.lab.call(&["exec", "c", "sh", "-c", script]);
            exec("dd if=/dev/zero of=/dev/null count=1").ok();
            let kmsg = exec(": </dev/kmsg");
            match allowed {
                true => drop(kmsg.ok()),
                false => drop(kmsg.fails("can't open /dev/kmsg: Operation not permitted")),
            }
        };
        check();
        systemctl(&["daemon-reload"]);
        check();
        systemctl(&["daemon-reexec"]);
        check();
        // systemd goes over the cgroup again.
        let update = |limit: &str| scope.lab.call(&["update", "--pids-limit", limit, "c"]);
        update("40").ok();
        check();
        systemctl(&["set-property", "--runtime", &scope.unit, "TasksMax=50"]);
        systemctl(&["stop", &neighbour]);
        systemctl(&["daemon-reload"]);
        check();
        scope.delete();
    }
}

#[test]
fn an_update_reaches_systemd_and_the_control_files() {
    needs_systemd!();
    let mut scope = Scope::new();
    scope.limits(json!({ "cpu": { "quota": 20_000, "period": 50_000 } }));
    scope.run();
    #[rustfmt::skip]
    scope.lab.call(&[
        "update", "--memory", "64M", "--pids-limit", "30", "--cpu-share", "2048",
        "--cpu-quota", "30000", "c",
    ])
    .ok();
    let (memory, shares) = either(
        ("MemoryMax", ("CPUWeight", "174")),
        ("MemoryLimit", ("CPUShares", "2048")),
    );
    // The period stays as it was.
    shows(
        &scope.unit,
        &[
            (memory, "67108864"),
            shares,
            ("TasksMax", "30"),
            ("CPUQuotaPerSecUSec", "600ms"),
        ],
    );
    let limits: [(&[&str], &str); 4] = [
        (&["memory.max", "memory.limit_in_bytes"], "67108864"),
        (&["cpu.weight", "cpu.shares"], either("174", "2048")),
        (
            &["cpu.max", "cpu.cfs_quota_us"],
            either("30000 50000", "30000"),
        ),
        (&["pids.max"], "30"),
    ];
    for (files, value) in limits {
        assert_eq!(scope.file(files), value, "{files:?}");
    }
    scope
        .lab
        .call(&["update", "--cpu-period", "100000", "c"])
        .ok();
    shows(&scope.unit, &[("CPUQuotaPerSecUSec", "300ms")]);
    scope
        .lab
        .call(&["update", "--cpu-quota", "-1", "--memory", "-1", "c"])
        .ok();
    shows(
        &scope.unit,
        &[("CPUQuotaPerSecUSec", "infinity"), (memory, "infinity")],
    );
    // A refused one is undone, in systemd too.
    scope
        .lab
        .call(&["update", "--pids-limit", "50", "--cpuset-cpus", "4000", "c"])
        .fails("linux.resources.cpu.cpus");
    shows(&scope.unit, &[("TasksMax", "30")]);
    assert_eq!(scope.file(&["pids.max"]), "30");
    scope.delete();
}

#[test]
fn a_quota_that_systemd_rounds_is_rounded_in_the_control_file_too() {
    needs_systemd!();
    let mut scope = Scope::new();
    scope.limits(json!({ "cpu": { "quota": 10_001, "period": 100_000 } }));
    scope.run();
    shows(&scope.unit, &[("CPUQuotaPerSecUSec", "110ms")]);
    let quota = || scope.file(&["cpu.max", "cpu.cfs_quota_us"]);
    assert_eq!(quota(), either("11000 100000", "11000"));
    // Also where the period is the one that there is.
    let update = |option: &str, value: &str| scope.lab.call(&["update", option, value, "c"]);
    update("--cpu-period", "50000").ok();
    update("--cpu-quota", "10001").ok();
    shows(&scope.unit, &[("CPUQuotaPerSecUSec", "210ms")]);
    assert_eq!(quota(), either("10500 50000", "10500"));
    scope.delete();
}

#[test]
fn the_files_of_v2_that_a_configuration_names_reach_systemd() {
    needs_systemd!();
    let mut scope = Scope::new();
    scope.limits(json!({ "unified": {
        "memory.high": "50331648", "pids.max": "40", "cpu.weight": "77", "cpu.max": "20000 50000" } }));
    if !is_v2() {
        scope
            .call(&["run", "c"])
            .fails("invalid configuration for a host that uses cgroup v1");
        scope.is_gone();
        return;
    }
    scope.run();
    let wanted = [
        ("MemoryHigh", "50331648"),
        ("TasksMax", "40"),
        ("CPUWeight", "77"),
    ];
    shows(&scope.unit, &wanted);
    systemctl(&["daemon-reload"]);
    for (file, value) in [
        ("memory.high", "50331648"),
        ("pids.max", "40"),
        ("cpu.max", "20000 50000"),
    ] {
        assert_eq!(scope.file(&[file]), value, "{file}");
    }
    scope.delete();
}

#[test]
fn a_limit_of_no_processes_leaves_room_for_the_first() {
    needs_systemd!();
    let mut scope = Scope::new();
    scope.limits(json!({ "pids": { "limit": 0 } }));
    scope.run();
    shows(&scope.unit, &[("TasksMax", "1")]);
    assert_eq!(scope.file(&["pids.max"]), "1");
    assert_eq!(scope.lab.status("c"), "running");
    scope.delete();
}

#[test]
fn annotations_are_properties_of_the_unit() {
    needs_systemd!();
    let mut scope = Scope::new();
    scope.lab.config["annotations"] = json!({
        "org.systemd.property.TimeoutStopUSec": "uint64 123456789",
        "org.systemd.property.RuntimeMaxSec": "double 3600.5",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.Description": "\"it's ours\"",
        "org.systemd.property.After": "['a.service', 'b.service']",
        "org.systemd.property.SendSIGHUP": "true",
        "org.systemd.property.KillSignal": "int32 9",
        "com.example": "nothing of that kind",
    });
    scope.run();
    shows(
        &scope.unit,
        &[
            ("TimeoutStopUSec", "2min 3.456789s"),
            ("RuntimeMaxUSec", "1h 500ms"),
            ("CollectMode", "inactive-or-failed"),
            ("Description", "it's ours"),
            ("SendSIGHUP", "yes"),
            ("KillSignal", "9"),
        ],
    );
    let after = show(&scope.unit, "After");
    assert!(
        after.contains("a.service") && after.contains("b.service"),
        "{after}"
    );
    scope.delete();
}

#[test]
fn annotations_that_are_no_property_are_refused_and_nothing_is_left() {
    needs_systemd!();
    let mut scope = Scope::new();
    for (name, value, words) in [
        ("Nonsense", "'x'", "Nonsense"),
        (
            "SendSIGHUP",
            "yes",
            "annotation org.systemd.property.SendSIGHUP=yes: unexpected",
        ),
        (
            "Foo.Bar",
            "1",
            "a property has a name of at least three letters",
        ),
        ("TimeoutStopSec", "'1'", "a time is a number"),
        ("CollectMode", "uint64 1", "start unit"),
    ] {
        scope.lab.config["annotations"] = json!({ format!("org.systemd.property.{name}"): value });
        scope.call(&["run", "c"]).fails(words);
        scope.is_gone();
    }
    // Without the flag they mean nothing.
    scope.lab.config["linux"]["cgroupsPath"] = json!(format!("/{}/c", scope.lab.name()));
    scope.lab.config["process"]["args"] = json!(["true"]);
    scope.lab.call(&["run", "c"]).ok();
}
