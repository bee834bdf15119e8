//! `--systemd-cgroup`: a container is a unit of systemd, which is gone with it (runc's
//! docs/systemd.md). Needs systemd as the host's init: `scripts/test-vm.sh --systemd` has it, with
//! cgroup v2 and with v1. Limits are in `systemd_limits.rs`, names in `systemd_names.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::json;
use support::systemd::{Scope, shows, systemctl};
use support::{Lab, soon};

#[test]
fn a_container_is_a_delegated_scope_that_goes_with_it() {
    needs_systemd!();
    let scope = Scope::new();
    scope.call(&["create", "c"]).ok();
    assert_eq!(scope.lab.status("c"), "created");
    shows(
        &scope.unit,
        &[
            ("ActiveState", "active"),
            ("Slice", "system.slice"),
            ("Delegate", "yes"),
            ("Transient", "yes"),
            ("ControlGroup", &format!("/{}", scope.path)),
            ("MemoryAccounting", "yes"),
            ("TasksAccounting", "yes"),
            ("DefaultDependencies", "no"),
        ],
    );
    // Without the flag, as everything after creation.
    scope.lab.call(&["start", "c"]).ok();
    assert_eq!(scope.lab.status("c"), "running");
    let pid = scope.lab.pid("c");
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for line in own.lines() {
        assert!(line.ends_with(&format!(":/{}", scope.path)), "{own}");
    }
    let exec = scope
        .lab
        .call(&["exec", "c", "sh", "-c", "cat /proc/self/cgroup"]);
    let inside = exec.ok();
    assert!(inside.lines().all(|line| line.ends_with(":/")), "{inside}");
    scope.lab.call(&["exec", "-d", "c", "sleep", "1000"]).ok();
    let ps = scope.lab.call(&["ps", "--format", "json", "c"]).ok();
    let pids: Vec<i32> = serde_json::from_str(&ps).unwrap();
    assert_eq!(pids.len(), 2);
    let second = pids.into_iter().find(|other| *other != pid).unwrap();
    let seconds = std::fs::read_to_string(format!("/proc/{second}/cgroup")).unwrap();
    assert_eq!(seconds, own);
    scope.lab.call(&["kill", "c", "KILL"]).ok();
    soon("its end", || scope.lab.status("c") == "stopped");
    scope.lab.call(&["delete", "c"]).ok();
    scope.is_gone();
}

#[test]
fn pause_and_resume_and_kill_need_no_flag() {
    needs_systemd!();
    let scope = Scope::new();
    scope.run();
    scope.lab.call(&["pause", "c"]).ok();
    assert_eq!(scope.lab.status("c"), "paused");
    scope.lab.call(&["update", "--pids-limit", "9", "c"]).ok();
    assert_eq!(scope.lab.status("c"), "paused");
    scope.lab.call(&["resume", "c"]).ok();
    assert_eq!(scope.lab.status("c"), "running");
    scope.lab.call(&["pause", "c"]).ok();
    scope.lab.call(&["kill", "--all", "c", "KILL"]).ok();
    soon("its end", || scope.lab.status("c") == "stopped");
    // Its unit has gone with its processes, or goes now.
    scope.lab.call(&["delete", "c"]).ok();
    scope.is_gone();
}

#[test]
fn a_container_whose_unit_has_failed_is_deleted_with_it() {
    needs_systemd!();
    let mut scope = Scope::new();
    scope.lab.config["annotations"] =
        json!({ "org.systemd.property.TimeoutStopUSec": "uint64 100000" });
    scope.run();
    // The first process of a PID namespace does not heed SIGTERM.
    systemctl(&["stop", &scope.unit]);
    shows(&scope.unit, &[("ActiveState", "failed")]);
    soon("its end", || scope.lab.status("c") == "stopped");
    scope.lab.call(&["delete", "c"]).ok();
    scope.is_gone();
}

#[test]
fn what_fails_on_the_way_leaves_no_unit_and_no_process() {
    needs_systemd!();
    let mut scope = Scope::new();
    let good = scope.lab.config.clone();
    scope.lab.config["process"]["args"] = json!(["nonexistent"]);
    scope.call(&["create", "c"]).fails("nonexistent");
    scope.is_gone();
    scope.lab.config = good.clone();
    scope.lab.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] });
    scope.call(&["create", "c"]).fails("createRuntime hook #0");
    scope.is_gone();
    scope.lab.config = good.clone();
    scope.limits(json!({ "cpu": { "cpus": "4000" } }));
    scope
        .call(&["create", "c"])
        .fails("linux.resources.cpu.cpus");
    scope.is_gone();
    scope.lab.config = good;
    scope.lab.mount("/proc/forbidden", "tmpfs", "none", &[]);
    scope.call(&["create", "c"]).fails("/proc/forbidden");
    scope.is_gone();
    let deadline = "no process of a failed creation";
    soon(deadline, || scope.lab.processes().is_empty());
}

#[test]
fn a_creation_that_was_killed_is_cleaned_up_by_delete() {
    needs_systemd!();
    let mut scope = Scope::new();
    let reached = scope.lab.dir.join("reached");
    let script = format!("touch {}; sleep 1000", reached.display());
    scope.lab.config["hooks"] =
        json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    let mut create = scope.lab.spawn(&["--systemd-cgroup", "create", "c"]);
    soon("the hook", || reached.exists());
    create.kill().unwrap();
    create.wait().unwrap();
    scope.delete();
    // The hook is nobody's child any more.
    for pid in processes_like(&script) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Processes with this in their command line.
fn processes_like(text: &str) -> Vec<rustix::process::Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pid = |dir: PathBuf| {
        let command = std::fs::read(dir.join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let pid = dir.file_name()?.to_str()?.parse().ok()?;
        command
            .contains(text)
            .then(|| rustix::process::Pid::from_raw(pid))?
    };
    entries.filter_map(|entry| pid(entry.path())).collect()
}

#[test]
fn a_container_with_a_user_namespace_is_in_its_scope_too() {
    needs_systemd!();
    let mut scope = Scope::new();
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    scope.lab.config["linux"]["uidMappings"] = map.clone();
    scope.lab.config["linux"]["gidMappings"] = map;
    scope.lab.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "type": "user" }));
    for dir in [&scope.lab.dir.clone(), &scope.lab.dir.join("bundle")] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    scope.run();
    let pid = scope.lab.pid("c");
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for line in own.lines() {
        assert!(line.ends_with(&format!(":/{}", scope.path)), "{own}");
    }
    assert_eq!(scope.file(&["cgroup.procs"]), pid.to_string());
    scope.lab.call(&["exec", "c", "true"]).ok();
    scope.delete();
}

#[test]
fn without_a_bus_root_asks_systemd_itself() {
    needs_systemd!();
    let scope = Scope::new();
    let (mut command, _, _) = scope.lab.command(&["--systemd-cgroup", "run", "-d", "c"]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    assert!(command.status().unwrap().success());
    shows(&scope.unit, &[("ActiveState", "active")]);
    let (mut command, _, _) = scope.lab.command(&["delete", "--force", "c"]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    assert!(command.status().unwrap().success());
    scope.is_gone();
}

#[test]
fn a_scope_in_the_foreground_is_gone_when_run_returns() {
    needs_systemd!();
    let mut scope = Scope::new();
    scope.lab.script("exit 7");
    assert_eq!(scope.call(&["run", "c"]).code, 7);
    scope.is_gone();
}

#[test]
fn without_systemd_the_flag_is_refused() {
    needs_host!();
    if Path::new("/run/systemd/system").is_dir() {
        eprintln!("SKIP: systemd is this host's init");
        return;
    }
    let lab = Lab::new();
    for arguments in [["run", "c"], ["create", "c"]] {
        lab.call(&[&["--systemd-cgroup"][..], &arguments].concat())
            .fails("systemd not running on this host, cannot use systemd cgroups manager");
        lab.is_clean().unwrap();
    }
}
