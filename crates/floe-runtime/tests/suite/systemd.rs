//! `--systemd-cgroup`: a container is a unit of systemd, which is gone with it (runc's
//! docs/systemd.md). Needs systemd as the host's init: `scripts/test-vm.sh --systemd` has it, with
//! cgroup v2 and with v1. Limits are in `systemd_limits.rs`, names in `systemd_names.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::systemd::{Scope, directories, is_v2, shows, systemctl};
use crate::support::{Lab, soon};
use serde_json::json;

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
    let absent = format!("unix:path={}/no-bus", scope.lab.dir.display());
    let (mut command, _, _) = scope.lab.command(&["--systemd-cgroup", "run", "-d", "c"]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", &absent);
    assert!(command.status().unwrap().success());
    shows(&scope.unit, &[("ActiveState", "active")]);
    let (mut command, _, _) = scope.lab.command(&["delete", "--force", "c"]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", &absent);
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

/// A user whose own manager runs, as `loginctl enable-linger` has it.
const USER: u32 = 1000;

/// A lab of that user.
struct User(Scope);

impl User {
    fn new() -> User {
        let mut scope = Scope::new();
        let name = scope.lab.name().to_owned();
        let slice = format!("user.slice/user-{USER}.slice/user@{USER}.service/user.slice");
        scope.at("", &slice, &name);
        let linux = &mut scope.lab.config["linux"];
        let map = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        let users = json!({ "type": "user" });
        linux["namespaces"].as_array_mut().unwrap().push(users);
        // The group of terminals is not there.
        let terminals = &mut scope.lab.config["mounts"][2]["options"];
        let terminals = terminals.as_array_mut().unwrap();
        terminals.retain(|option| option != "gid=5");
        let owner = format!("{USER}:{USER}");
        let mut chown = Command::new("chown");
        chown.arg("-R").arg(&owner).arg(&scope.lab.dir);
        assert!(chown.status().unwrap().success());
        User(scope)
    }

    fn by_user(command: &mut Command) -> &mut Command {
        use std::os::unix::process::CommandExt;
        command
            .uid(USER)
            .gid(USER)
            .env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"))
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
    }

    /// The exit code and what it said.
    fn call(&self, arguments: &[&str]) -> (i32, String) {
        let (mut command, out, err) = self.0.lab.command(arguments);
        let status = User::by_user(&mut command).status().unwrap();
        let said = [out, err].map(|path| std::fs::read_to_string(path).unwrap());
        (status.code().unwrap_or(-1), said.concat())
    }

    fn show(&self, property: &str) -> String {
        let mut show = Command::new("systemctl");
        show.args(["--user", "show", "--value", "-p", property, &self.0.unit]);
        let output = User::by_user(&mut show).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

#[test]
fn a_user_without_privileges_has_scopes_of_his_own_manager() {
    needs_systemd!();
    if !Path::new(&format!("/run/user/{USER}/bus")).exists() {
        eprintln!("SKIP: no manager of user {USER} runs here");
        return;
    }
    let mut user = User::new();
    user.0.limits(json!({ "pids": { "limit": 20 } }));
    let nothing = (0, String::new());
    let (code, said) = user.call(&["--systemd-cgroup", "run", "-d", "c"]);
    if !is_v2() {
        let words = "cannot use rootless systemd cgroups manager on cgroup v1";
        assert!(code == 1 && said.contains(words), "{said}");
        user.0.lab.is_clean().unwrap();
        return;
    }
    assert_eq!((code, said), nothing);
    let pid = user.0.lab.pid("c");
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(own.trim(), format!("0::/{}", user.0.path));
    assert_eq!(user.0.file(&["pids.max"]), "20");
    assert_eq!(user.show("TasksMax"), "20");
    // He may not move a process himself from where this test runs.
    assert_eq!(user.call(&["exec", "-d", "c", "sleep", "1000"]), nothing);
    assert_eq!(user.0.file(&["cgroup.procs"]).lines().count(), 2);
    assert_eq!(user.call(&["update", "--pids-limit", "25", "c"]), nothing);
    assert_eq!(user.0.file(&["pids.max"]), "25");
    assert_eq!(user.call(&["pause", "c"]), nothing);
    assert_eq!(user.call(&["resume", "c"]), nothing);
    assert_eq!(user.call(&["delete", "--force", "c"]), nothing);
    assert_eq!(user.show("LoadState"), "not-found");
    assert_eq!(directories(&user.0.path), Vec::<PathBuf>::new());
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
