//! Containers that an OCI program makes, driven by the pod's supervisor: the same promises for each program
//! that the machine has. `floe-runtime` itself is one, and always there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::thread;
use std::time::Duration;

use serde_json::json;
use supervisor::{Error, Happening, News, Status};

use machine::{Program, cgroup_exists, nothing_is_left};
use mounts::{
    the_root_is_mounted_where_only_the_program_sees_it,
    volumes_propagate_as_they_ask_and_the_root_does_not,
};
use streams::{
    a_command_has_a_terminal, a_command_has_its_streams_code_and_limit,
    a_command_that_cannot_be_executed_says_why, a_container_has_a_terminal,
    stdin_is_fed_and_closed,
};
use support::{Pod, code, eventually, lives};

mod hostile;
mod machine;
mod mounts;
mod streams;
#[path = "../../../supervisor/tests/suite/support/mod.rs"]
mod support;

const LONG: Duration = Duration::from_secs(1000);

/// A test for each program.
macro_rules! with_each_program {
    ($($test:ident)*) => {
        with_each_program!(@ floe_runtime "floe-runtime" $($test)*);
        with_each_program!(@ runc "runc" $($test)*);
        with_each_program!(@ crun "crun" $($test)*);
    };
    (@ $module:ident $name:literal $($test:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    testkit::needs_host!();
                    if let Some(program) = super::Program::find($name) {
                        super::$test(&program);
                    }
                }
            )*
        }
    };
}

with_each_program! {
    a_life_leaves_nothing
    a_life_is_told
    volumes_propagate_as_they_ask_and_the_root_does_not
    a_short_program_has_been_started
    the_root_is_mounted_where_only_the_program_sees_it
    stop_gives_time_and_then_kills
    signals_reach_the_first_process_and_all
    a_program_that_cannot_be_executed_leaves_nothing
    a_command_has_its_streams_code_and_limit
    a_command_that_cannot_be_executed_says_why
    a_command_has_a_terminal
    a_container_has_a_terminal
    stdin_is_fed_and_closed
    pause_and_resume_hold_and_go_on
    a_paused_container_is_stopped
    limits_are_changed
    memory_that_is_used_up_is_told
    a_removed_container_takes_its_processes_with_it
    a_shut_down_pod_leaves_nothing
    what_a_dead_supervisor_leaves_is_cleaned_up
}

fn a_life_leaves_nothing(program: &Program) {
    let pod = Pod::new();
    let script = "echo out; echo err >&2; while ! test -e /tmp/go; do sleep 0.01; done; exit 7";
    let container = program.container(&pod, "c", script);
    container.create(&pod);
    let created = container.state();
    assert_eq!(created.status, Status::Created);
    assert!(lives(created.pid.unwrap()));
    pod.client().start("c").unwrap();
    assert!(matches!(container.state().status, Status::Running { .. }));
    assert!(matches!(pod.client().start("c"), Err(Error::State { .. })));
    std::fs::write(pod.dir().join("rootfs/tmp/go"), "").unwrap();
    let told = pod.client().wait("c").unwrap();
    assert_eq!(container.state(), told);
    assert!(matches!(
        told.status,
        Status::Exited { started_at: Some(start), finished_at, exit_code: 7, oom_killed: false, message: None }
            if finished_at > start
    ));
    let mut lines = container.log_lines();
    lines.sort();
    assert_eq!(lines, ["stderr F err", "stdout F out"]);
    pod.client().delete("c", false).unwrap();
    nothing_is_left(&pod, &container);
}

fn a_life_is_told(program: &Program) {
    let pod = Pod::new();
    let mut subscription = pod.client().subscribe(None).unwrap();
    program.running(&pod, "c", "sleep 1000");
    pod.client().pause("c").unwrap();
    pod.client().resume("c").unwrap();
    pod.client().delete("c", true).unwrap();
    let mut told = Vec::new();
    while told.last() != Some(&Happening::Deleted) {
        if let News::Event(event) = subscription.next(LONG).unwrap().unwrap() {
            told.push(event.what);
        }
    }
    use Happening::{Created, Deleted, Exited, Paused, Resumed, Started};
    assert_eq!(told, [Created, Started, Paused, Resumed, Exited, Deleted]);
}

fn a_short_program_has_been_started(program: &Program) {
    let pod = Pod::new();
    for id in ["a", "b", "c"] {
        let container = program.container(&pod, id, "exit 3");
        container.create(&pod);
        pod.client().start(id).unwrap();
        let state = pod.client().wait(id).unwrap();
        assert_eq!(code(&state), 3);
        assert!(state.status.started_at().is_some(), "{state:?}");
    }
}

fn stop_gives_time_and_then_kills(program: &Program) {
    let pod = Pod::new();
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    let kind = program.running(&pod, "kind", script);
    eventually("the trap", || !kind.log_lines().is_empty());
    let state = pod.client().stop("kind", libc::SIGTERM, LONG).unwrap();
    assert_eq!(code(&state), 3);
    let script = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
    let deaf = program.running(&pod, "deaf", script);
    eventually("the trap", || !deaf.log_lines().is_empty());
    let soon = Duration::from_millis(50);
    let state = pod.client().stop("deaf", libc::SIGTERM, soon).unwrap();
    assert_eq!(code(&state), 137);
    let created = program.container(&pod, "created", "true");
    created.create(&pod);
    let state = pod.client().stop("created", libc::SIGTERM, LONG).unwrap();
    assert_eq!(code(&state), 137);
    for container in [kind, deaf, created] {
        pod.client().delete(&container.request.id, false).unwrap();
        nothing_is_left(&pod, &container);
    }
}

fn signals_reach_the_first_process_and_all(program: &Program) {
    let pod = Pod::new();
    let script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.01; done";
    let container = program.running(&pod, "c", script);
    eventually("the trap", || !container.log_lines().is_empty());
    pod.client().signal("c", libc::SIGUSR1, false).unwrap();
    eventually("the signal", || container.log_lines().len() == 2);
    pod.client().signal("c", libc::SIGKILL, true).unwrap();
    assert_eq!(code(&pod.client().wait("c").unwrap()), 137);
    let error = pod.client().signal("c", libc::SIGUSR1, false).unwrap_err();
    assert!(matches!(error, Error::State { .. }), "{error:?}");
}

/// runc and crun look for the program before start, floe-runtime's create does as well.
fn a_program_that_cannot_be_executed_leaves_nothing(program: &Program) {
    let pod = Pod::new();
    let mut container = program.container(&pod, "c", "");
    container.config["process"]["args"] = json!(["/no/such/program"]);
    container.write_config();
    let made = pod.client().create(&container.request).map(drop);
    let error = made.and_then(|()| pod.client().start("c")).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    match pod.client().delete("c", true) {
        Ok(()) | Err(Error::NotFound { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    eventually("the end of what was made", || !cgroup_exists(&container));
    nothing_is_left(&pod, &container);
    // The id is free.
    let again = program.container(&pod, "c", "exit 1");
    again.create(&pod);
}

fn pause_and_resume_hold_and_go_on(program: &Program) {
    let pod = Pod::new();
    let container = program.running(&pod, "c", "while :; do echo tick; sleep 0.01; done");
    eventually("output", || !container.log_lines().is_empty());
    pod.client().pause("c").unwrap();
    assert!(matches!(container.state().status, Status::Paused { .. }));
    let before = container.log_lines().len();
    thread::sleep(Duration::from_millis(100));
    assert!(container.log_lines().len() <= before + 1);
    assert!(matches!(pod.client().pause("c"), Err(Error::State { .. })));
    pod.client().resume("c").unwrap();
    assert!(matches!(container.state().status, Status::Running { .. }));
    eventually("more output", || container.log_lines().len() > before + 1);
}

fn a_paused_container_is_stopped(program: &Program) {
    let pod = Pod::new();
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    let container = program.running(&pod, "c", script);
    eventually("the trap", || !container.log_lines().is_empty());
    pod.client().pause("c").unwrap();
    let state = pod.client().stop("c", libc::SIGTERM, LONG).unwrap();
    assert_eq!(code(&state), 3);
    let container = program.running(&pod, "d", "sleep 1000");
    pod.client().pause("d").unwrap();
    pod.client().delete("d", true).unwrap();
    nothing_is_left(&pod, &container);
}

fn limits_are_changed(program: &Program) {
    let pod = Pod::new();
    let container = program.running(&pod, "c", "sleep 1000");
    let resources = json!({"memory": {"limit": 64 << 20}, "cpu": {"shares": 512}});
    let resources = serde_json::from_value(resources).unwrap();
    pod.client().update("c", &resources).unwrap();
    let cgroup = container.config["linux"]["cgroupsPath"].as_str().unwrap();
    let stats = runtime::cgroup::Cgroup::open(cgroup)
        .unwrap()
        .stats()
        .unwrap();
    assert_eq!(stats.memory.unwrap().limit, Some(64 << 20));
}

fn memory_that_is_used_up_is_told(program: &Program) {
    let pod = Pod::new();
    let script = "head -c 100000000 /dev/zero | tail -c 99999999 > /dev/null; sleep 1";
    let mut container = program.container(&pod, "c", script);
    container.config["linux"]["resources"] =
        json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    container.create(&pod);
    pod.client().start("c").unwrap();
    let state = pod.client().wait("c").unwrap();
    let told = matches!(
        state.status,
        Status::Exited {
            oom_killed: true,
            ..
        }
    );
    assert!(told, "{state:?}");
}

fn a_removed_container_takes_its_processes_with_it(program: &Program) {
    let pod = Pod::with(|setup| setup.shared_pid = true);
    let container = program.running(&pod, "c", "sleep 1000 & echo $!; wait");
    eventually("its child", || !container.log_lines().is_empty());
    let cgroup = container.config["linux"]["cgroupsPath"].as_str().unwrap();
    let cgroup = runtime::cgroup::Cgroup::open(cgroup).unwrap();
    let all = cgroup.processes().unwrap();
    assert!(all.len() >= 2, "{all:?}");
    pod.client().delete("c", true).unwrap();
    eventually("their end", || !all.iter().any(|pid| lives(*pid)));
    nothing_is_left(&pod, &container);
}

fn a_shut_down_pod_leaves_nothing(program: &Program) {
    let pod = Pod::new();
    let container = program.running(&pod, "c", "sleep 1000");
    let pid = container.state().pid.unwrap();
    pod.client().shutdown().unwrap();
    assert!(!lives(pid) && !cgroup_exists(&container));
    assert!(!pod.dir().join("state/c").exists());
    assert!(!container.dir.join("program.json").exists());
    // How it ended is kept.
    assert_eq!(code(&container.state()), 137);
}

fn what_a_dead_supervisor_leaves_is_cleaned_up(program: &Program) {
    let pod = Pod::new();
    let container = program.running(&pod, "c", "sleep 1000");
    pod.info.kill().unwrap();
    eventually("the end of the supervisor", || !pod.info.is_alive());
    assert!(pod.dir().join("state/c").exists());
    let cgroup = container.config["linux"]["cgroupsPath"].as_str().unwrap();
    let cgroup = runtime::cgroup::Cgroup::open(cgroup).unwrap();
    cgroup.kill_all().unwrap();
    eventually("the end of all", || cgroup.processes().unwrap().is_empty());
    supervisor::clean_after_death(pod.dir()).unwrap();
    let _ = cgroup.delete();
    assert!(!pod.dir().join("state/c").exists());
    assert!(!container.dir.join("program.json").exists());
    assert!(!cgroup_exists(&container));
}
