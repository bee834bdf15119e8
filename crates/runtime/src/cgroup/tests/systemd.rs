//! Units of a user's own manager, made by that user: the test calls itself as him. (Those of the
//! system are tested with containers, in the crate `floe-runtime`.)

use std::path::Path;

use super::*;
use crate::spec::{DeviceCgroup, Pids};

/// A user whose manager runs, as `loginctl enable-linger` has it.
const USER: u32 = 1000;
const AS_USER: &str = "FLOE_TEST_AS_USER";

#[test]
fn a_user_without_privileges_has_scopes_of_his_own_manager() {
    if std::env::var_os(AS_USER).is_some() {
        return as_user();
    }
    let runtime_dir = format!("/run/user/{USER}");
    if !Path::new(&runtime_dir).join("bus").exists() {
        eprintln!("SKIP: no manager of user {USER} runs here");
        return;
    }
    let name = "cgroup::tests::systemd::a_user_without_privileges_has_scopes_of_his_own_manager";
    let output = Command::new(std::env::current_exe().expect("own program"))
        .args(["--exact", name, "--nocapture"])
        .env(AS_USER, "1")
        .env("XDG_RUNTIME_DIR", runtime_dir)
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .uid(USER)
        .gid(USER)
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}");
}

fn limits(pids: i64) -> Resources {
    Resources {
        pids: Some(Pids { limit: Some(pids) }),
        // Nobody but root can have it enforced.
        devices: vec![DeviceCgroup::default()],
        ..Resources::default()
    }
}

fn as_user() {
    let name = Scratch::new().0.clone();
    let unit = Unit::named(&format!(":floe:{name}")).expect("unit");
    let path =
        format!("user.slice/user-{USER}.slice/user@{USER}.service/user.slice/floe-{name}.scope");
    assert_eq!(unit.cgroup_path(), path);
    let sleeper = || {
        let mut sleep = Command::new("sleep");
        sleep
            .arg("1000")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Process(sleep.spawn().expect("spawn"))
    };
    let process = sleeper();
    let made = Cgroup::create_unit(&unit, Some(&limits(20)), process.pid());
    if !is_unified() {
        let error = made.expect_err("v1").to_string();
        assert!(
            error.contains("cannot use rootless systemd cgroups manager on cgroup v1"),
            "{error}"
        );
        return;
    }
    let cgroup = made.expect("create");
    let own = format!("/proc/{}/cgroup", process.pid());
    let own = std::fs::read_to_string(own).expect("read");
    assert_eq!(own.trim(), format!("0::/{path}"));
    let limit = || value(&cgroup, Controller::Pids, "pids.max");
    assert_eq!(limit(), "20");
    Cgroup::open_unit(&unit)
        .and_then(|cgroup| cgroup.update(&limits(25)))
        .expect("update");
    assert_eq!(limit(), "25");
    // The name is taken; who wanted it stays where it was.
    let second = sleeper();
    let error = Cgroup::create_unit(&unit, None, second.pid()).expect_err("taken");
    assert!(error.to_string().contains("start unit"), "{error}");
    assert_eq!(cgroup.processes().expect("processes"), [process.pid()]);
    cgroup.kill_all().expect("kill");
    process.end();
    cgroup.delete().expect("delete");
    assert!(Cgroup::open_unit(&unit).is_err());
    // Again is no error.
    unit.stop().expect("stop");
}
