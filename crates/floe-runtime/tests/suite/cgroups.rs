//! config-linux.md, cgroups: limits land in the container's own cgroup, which goes with it. The
//! limits themselves are tested in the runtime library.

use crate::support::{Lab, soon};
use serde_json::json;

#[test]
fn limits_land_in_the_cgroup_and_the_cgroup_goes_with_the_container() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["linux"]["resources"] = json!({
        "memory": { "limit": 67_108_864 },
        "pids": { "limit": 11 },
        "cpu": { "quota": 50_000, "period": 100_000 },
    });
    lab.sleeper("c");
    assert_eq!(
        lab.cgroup_file(&["memory.limit_in_bytes", "memory.max"]),
        "67108864"
    );
    assert_eq!(lab.cgroup_file(&["pids.max"]), "11");
    assert!(
        ["50000", "50000 100000"]
            .contains(&lab.cgroup_file(&["cpu.cfs_quota_us", "cpu.max"]).as_str())
    );
    let pid = lab.pid("c").to_string();
    for dir in lab.cgroups("c") {
        assert_eq!(
            std::fs::read_to_string(dir.join("cgroup.procs"))
                .unwrap()
                .trim(),
            pid,
            "{}",
            dir.display()
        );
    }
    lab.call(&["delete", "--force", "c"]).ok();
    assert!(lab.cgroups("c").is_empty());
}

#[test]
fn the_limit_of_processes_is_enforced_and_zero_means_one_and_absence_none() {
    needs_host!();
    let mut lab = Lab::sh("sleep 0 & sleep 0 & sleep 0 & wait; echo forked");
    lab.config["linux"]["resources"] = json!({ "pids": { "limit": 2 } });
    lab.run().fails("fork");
    for (limit, want) in [
        (json!({ "limit": 0 }), "1"),
        (json!({ "limit": -1 }), "max"),
        (json!({}), "max"),
    ] {
        lab.config["linux"]["resources"] = json!({ "pids": limit });
        lab.sleeper("c");
        assert_eq!(lab.cgroup_file(&["pids.max"]), want);
        lab.call(&["delete", "--force", "c"]).ok();
    }
}

#[test]
fn a_limit_that_cannot_be_set_is_an_error_and_leaves_nothing() {
    needs_host!();
    let mut lab = Lab::new();
    lab.config["linux"]["resources"] = json!({ "cpu": { "cpus": "4000" } });
    lab.run().fails("linux.resources.cpu.cpus");
    lab.is_clean().unwrap();
}

#[test]
fn a_cgroup_that_holds_other_processes_is_refused_and_they_live() {
    needs_host!();
    let mut lab = Lab::new();
    lab.sleeper("c");
    lab.call(&["run", "d"])
        .fails("is not empty: 1 process(es) found");
    lab.call(&["delete", "--force", "d"]).ok();
    assert_eq!(lab.status("c"), "running");
}

#[test]
fn delete_takes_processes_and_sub_cgroups_that_are_left_with_it() {
    needs_host!();
    let mut lab = Lab::new();
    // Without a PID namespace the end of the first process does not end the others.
    lab.namespace("pid", None);
    lab.config["mounts"][0] =
        json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] });
    lab.sleeper("c");
    for dir in lab.cgroups("c") {
        std::fs::create_dir_all(dir.join("below/deeper")).unwrap();
    }
    lab.call(&["exec", "-d", "--pid-file", "strays", "c", "sleep", "1000"])
        .ok();
    let stray = std::fs::read_to_string(lab.dir.join("bundle/strays")).unwrap();
    // By its process id: the verb would reach them all.
    let first = rustix::process::Pid::from_raw(lab.pid("c")).unwrap();
    rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
    soon("its end", || lab.status("c") == "stopped");
    let stat = std::fs::read_to_string(format!("/proc/{stray}/stat")).unwrap();
    assert!(!stat.contains(") Z "), "{stat}");
    lab.call(&["delete", "c"]).ok();
    lab.is_clean().unwrap();
    soon("the stray's end", || {
        let stat = std::fs::read_to_string(format!("/proc/{stray}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
}

#[test]
fn the_mounted_cgroups_are_the_containers_own_and_read_only_if_asked_for() {
    needs_host!();
    let mut lab = Lab::new();
    lab.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid"]);
    lab.config["linux"]["resources"] = json!({ "pids": { "limit": 13 } });
    let out = lab.prints(
        "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; \
         cat /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/pids/cgroup.procs 2>/dev/null | head -1; \
         mkdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x 2>/dev/null || echo ro; \
         grep -v ':/$' /proc/self/cgroup || echo own",
    );
    assert_eq!(out, "13\n1\nro\nown\n");
}

#[test]
fn without_a_path_the_cgroup_has_the_containers_id() {
    needs_host!();
    let mut lab = Lab::new();
    let id = lab.dir.file_name().unwrap().to_str().unwrap().to_owned();
    lab.config["linux"]
        .as_object_mut()
        .unwrap()
        .remove("cgroupsPath");
    lab.config["process"]["args"] = json!(["sleep", "1000"]);
    lab.call(&["run", "-d", &id]).ok();
    let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", lab.pid(&id))).unwrap();
    assert!(
        cgroup
            .lines()
            .any(|line| line.ends_with(&format!(":/{id}"))),
        "{cgroup}"
    );
    lab.call(&["delete", "--force", &id]).ok();
}
