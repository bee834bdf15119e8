//! `update`: new limits by option, file and standard input; what fails is undone.

use std::process::Stdio;

use crate::support::{Lab, soon};
use serde_json::{Value, json};

/// The resources that the container's state remembers.
fn kept(lab: &Lab) -> Value {
    let text = std::fs::read_to_string(lab.dir.join("state/c/state.json")).unwrap();
    let state: Value = serde_json::from_str(&text).unwrap();
    state["spec"]["linux"]["resources"].clone()
}

#[test]
fn every_option_reaches_the_cgroup_and_the_state() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["linux"]["resources"] = json!({ "memory": { "limit": 67_108_864 } });
    lab.sleeper("c");
    #[rustfmt::skip]
    lab.call(&[
        "update", "--memory", "64M", "--memory-reservation", "33554432", "--pids-limit", "20",
        "--cpu-period", "100000", "--cpu-quota", "50000", "--cpu-share", "512",
        "--cpuset-cpus", "0", "--cpuset-mems", "0", "c",
    ])
    .ok();
    let limits: [(&[&str], &[&str]); 6] = [
        (&["memory.limit_in_bytes", "memory.max"], &["67108864"]),
        (&["memory.soft_limit_in_bytes", "memory.low"], &["33554432"]),
        (&["pids.max"], &["20"]),
        (&["cpu.cfs_quota_us", "cpu.max"], &["50000", "50000 100000"]),
        (&["cpu.shares", "cpu.weight"], &["512", "59"]),
        (&["cpuset.cpus"], &["0"]),
    ];
    for (files, wanted) in limits {
        let found = lab.cgroup_file(files);
        assert!(wanted.contains(&found.as_str()), "{files:?}: {found:?}");
    }
    let all = json!({
        "memory": { "limit": 67_108_864, "reservation": 33_554_432 },
        "pids": { "limit": 20 },
        "cpu": { "period": 100_000, "quota": 50_000, "shares": 512, "cpus": "0", "mems": "0" },
    });
    assert_eq!(kept(&lab), all);
    lab.call(&["update", "--pids-limit", "-1", "--cpu-quota", "-1", "c"])
        .ok();
    assert_eq!(lab.cgroup_file(&["pids.max"]), "max");
    assert!(
        lab.cgroup_file(&["cpu.cfs_quota_us"]) == "-1"
            || lab.cgroup_file(&["cpu.max"]).contains("max")
    );
    assert_eq!(
        lab.cgroup_file(&["memory.limit_in_bytes", "memory.max"]),
        "67108864"
    );
}

#[test]
fn cpu_idle_and_burst_are_set() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    let has = |names: &[&str]| !lab.cgroup_file(names).is_empty();
    if !has(&["cpu.idle"]) || !has(&["cpu.cfs_burst_us", "cpu.max.burst"]) {
        eprintln!("SKIP: this kernel has no cpu.idle or burst");
        return;
    }
    lab.call(&[
        "update",
        "--cpu-quota",
        "50000",
        "--cpu-burst",
        "10000",
        "c",
    ])
    .ok();
    assert_eq!(
        lab.cgroup_file(&["cpu.cfs_burst_us", "cpu.max.burst"]),
        "10000"
    );
    lab.call(&["update", "--cpu-idle", "1", "c"]).ok();
    assert_eq!(lab.cgroup_file(&["cpu.idle"]), "1");
}

#[test]
fn limits_come_from_a_file_or_standard_input_and_stand_instead_of_options() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    let file = lab.dir.join("limits.json");
    // Device rules and 0 mean "unchanged", as engines hand over everything.
    let limits = json!({ "pids": { "limit": 30 }, "memory": { "limit": 0 },
        "devices": [{ "allow": false, "access": "rwm" }] });
    std::fs::write(&file, limits.to_string()).unwrap();
    lab.call(&[
        "update",
        "--pids-limit",
        "5",
        "-r",
        file.to_str().unwrap(),
        "c",
    ])
    .ok();
    assert_eq!(lab.cgroup_file(&["pids.max"]), "30");
    assert_eq!(kept(&lab)["devices"], Value::Null);
    std::fs::write(&file, r#"{ "pids": { "limit": 31 } }"#).unwrap();
    let (mut command, _, _) = lab.command(&["update", "--resources", "-", "c"]);
    let input = std::fs::File::open(&file).unwrap();
    assert!(
        command
            .stdin(Stdio::from(input))
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(lab.cgroup_file(&["pids.max"]), "31");
    std::fs::write(&file, "{").unwrap();
    lab.call(&["update", "-r", file.to_str().unwrap(), "c"])
        .fails("EOF");
    let absent = lab.dir.join("absent").display().to_string();
    lab.call(&["update", "-r", &absent, "c"])
        .fails(&format!("open {absent}: no such file or directory"));
}

#[test]
fn a_refused_update_leaves_every_limit_as_it_was() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["linux"]["resources"] = json!({ "cpu": { "shares": 2048 } });
    lab.sleeper("c");
    let before = kept(&lab);
    let shares = lab.cgroup_file(&["cpu.shares", "cpu.weight"]);
    // CPU is set before memory, whose limit the kernel or we refuse.
    #[rustfmt::skip]
    lab.call(&["update", "--cpu-share", "512", "--memory", "64M", "--memory-swap", "1M", "c"])
        .fails("linux.resources.memory.");
    assert_eq!(lab.cgroup_file(&["cpu.shares", "cpu.weight"]), shares);
    let limit = lab.cgroup_file(&["memory.limit_in_bytes", "memory.max"]);
    assert!(limit == "max" || limit.len() > 15, "{limit}");
    assert_eq!(kept(&lab), before);
}

#[test]
fn wrong_values_and_containers_are_named() {
    needs_host!();
    let mut lab = Lab::new();
    lab.call(&["update", "--pids-limit", "5", "nope"])
        .fails("container does not exist");
    lab.sleeper("c");
    lab.call(&["update", "--memory", "abc", "c"])
        .fails("invalid value for memory: invalid size: 'abc'");
    lab.call(&["update", "--cpu-period", "x", "c"])
        .fails("invalid value for cpu-period");
    lab.call(&["update", "--l3-cache-schema", "L3:0=f", "c"])
        .fails("Intel RDT is not supported or enabled");
    lab.call(&["kill", "c", "KILL"]).ok();
    soon("its end", || lab.status("c") == "stopped");
    lab.call(&["update", "--pids-limit", "5", "c"])
        .fails("container not running");
}

#[test]
fn an_update_of_a_paused_container_leaves_it_paused() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    lab.call(&["pause", "c"]).ok();
    lab.call(&["update", "--pids-limit", "17", "c"]).ok();
    assert_eq!(lab.status("c"), "paused");
    assert_eq!(lab.cgroup_file(&["pids.max"]), "17");
    lab.call(&["resume", "c"]).ok();
}

#[test]
fn a_shorter_real_time_period_is_set_after_the_runtime_that_fits_into_it() {
    needs_host!();
    let parent = std::path::Path::new("/sys/fs/cgroup/cpu");
    if !parent.join("cpu.rt_period_us").exists() {
        eprintln!("SKIP: no real-time bandwidth of cgroup v1 here");
        return;
    }
    let mut lab = Lab::new();
    lab.sleeper("c");
    // The cgroup above has none to give at first.
    std::fs::write(parent.join(lab.name()).join("cpu.rt_runtime_us"), "50000").unwrap();
    let cgroup = parent.join(lab.name()).join("c");
    let read = |file: &str| std::fs::read_to_string(cgroup.join(file)).unwrap();
    for (period, runtime) in [("900001", "40001"), ("100000", "3000"), ("10000", "200")] {
        let arguments = ["--cpu-rt-period", period, "--cpu-rt-runtime", runtime];
        lab.call(&[&["update", "c"][..], &arguments].concat()).ok();
        assert_eq!(read("cpu.rt_period_us").trim(), period);
        assert_eq!(read("cpu.rt_runtime_us").trim(), runtime);
    }
}
