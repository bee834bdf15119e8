//! From create to delete: exit codes, stop and its time limits, what is on disk after each step.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support::{Container, Pod, code, eventually, lives, program};
use serde_json::json;
use supervisor::{Client, ContainerState, Error, Status};

const LONG: Duration = Duration::from_secs(1000);

fn cgroup_exists(container: &Container) -> bool {
    let path = container.config["linux"]["cgroupsPath"].as_str().unwrap();
    runtime::cgroup::Cgroup::open(path).is_ok()
}

#[test]
fn every_step_is_on_disk_before_it_is_answered() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.container("c", "while ! test -e /tmp/go; do sleep 0.01; done; exit 7");
    container.create(&pod);
    let created = container.state();
    assert_eq!(created.status, Status::Created);
    assert!(lives(created.pid.unwrap()));
    pod.client().start("c").unwrap();
    let running = container.state();
    assert!(
        matches!(running.status, Status::Running { started_at } if started_at >= created.created_at_ns)
    );
    assert_eq!(running.pid, created.pid);
    std::fs::write(pod.dir().join("rootfs/tmp/go"), "").unwrap();
    let told = pod.client().wait("c").unwrap();
    assert_eq!(container.state(), told);
    assert_eq!(told.pid, None);
    assert!(matches!(
        told.status,
        Status::Exited { started_at: Some(start), finished_at, exit_code: 7, oom_killed: false, message: None }
            if finished_at > start
    ));
    pod.client().delete("c", false).unwrap();
    assert_eq!(ContainerState::read(&container.dir).unwrap(), None);
    assert!(!cgroup_exists(&container));
}

#[test]
fn a_process_killed_by_a_signal_has_128_and_its_number() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    pod.client().signal("c", libc::SIGKILL, false).unwrap();
    assert_eq!(code(&pod.client().wait("c").unwrap()), 137);
    let error = pod.client().signal("c", libc::SIGKILL, false).unwrap_err();
    assert!(matches!(error, Error::State { .. }), "{error:?}");
}

#[test]
fn a_program_that_cannot_be_executed_is_a_start_error_and_an_exited_container() {
    needs_host!();
    let pod = Pod::new();
    for (id, program, expected) in [
        ("missing", "/no/such/program", 127),
        ("plain", "/tmp/plain", 126),
    ] {
        let mut container = pod.container(id, "");
        std::fs::write(pod.dir().join("rootfs/tmp/plain"), "text").unwrap();
        container.config["process"]["args"] = json!([program]);
        container.create(&pod);
        match pod.client().start(id).unwrap_err() {
            Error::Start { message, exit_code } => {
                assert_eq!(exit_code, expected);
                assert!(message.contains(program), "{message}");
            }
            other => panic!("{other:?}"),
        }
        match container.state().status {
            Status::Exited {
                started_at: None,
                exit_code,
                message: Some(message),
                ..
            } => {
                assert_eq!(exit_code, expected);
                assert!(message.contains(program), "{message}");
            }
            other => panic!("{other:?}"),
        }
        pod.client().delete(id, false).unwrap();
        assert!(!cgroup_exists(&container));
    }
}

#[test]
fn an_id_can_be_used_once_at_a_time_and_must_be_a_file_name() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.container("c", "true");
    container.create(&pod);
    assert!(matches!(
        pod.client().create(&container.request),
        Err(Error::Exists { .. })
    ));
    pod.client().delete("c", true).unwrap();
    container.create(&pod);
    let mut request = container.request.clone();
    request.id = "../c".into();
    assert!(matches!(
        pod.client().create(&request),
        Err(Error::Invalid { .. })
    ));
}

#[test]
fn start_works_once() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    assert!(matches!(pod.client().start("c"), Err(Error::State { .. })));
}

#[test]
fn stop_gives_the_container_time_to_end_by_itself() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.running(
        "c",
        "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done",
    );
    eventually("the trap", || !container.log_lines().is_empty());
    assert_eq!(
        code(&pod.client().stop("c", libc::SIGTERM, LONG).unwrap()),
        3
    );
    assert_eq!(
        code(&pod.client().stop("c", libc::SIGTERM, LONG).unwrap()),
        3,
        "stop of what has ended"
    );
}

#[test]
fn stop_kills_what_ignores_the_signal_when_the_time_is_over() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.running(
        "c",
        "trap '' TERM; echo ready; while :; do sleep 0.01; done",
    );
    eventually("the trap", || !container.log_lines().is_empty());
    let state = pod
        .client()
        .stop("c", libc::SIGTERM, Duration::from_millis(50))
        .unwrap();
    assert_eq!(code(&state), 137);
}

#[test]
fn a_later_shorter_stop_shortens_and_a_longer_one_does_not_lengthen() {
    needs_host!();
    let pod = Pod::new();
    for (id, first, second) in [
        ("a", LONG, Duration::ZERO),
        ("b", Duration::from_millis(300), LONG),
    ] {
        pod.running(id, "trap '' TERM; while :; do sleep 0.01; done");
        let dir = pod.dir().to_owned();
        let early = thread::spawn(move || {
            Client::connect(&dir)
                .unwrap()
                .stop(id, libc::SIGTERM, first)
                .unwrap()
        });
        thread::sleep(Duration::from_millis(50));
        assert_eq!(
            code(&pod.client().stop(id, libc::SIGTERM, second).unwrap()),
            137
        );
        assert_eq!(code(&early.join().unwrap()), 137);
    }
}

#[test]
fn stop_ends_what_is_created_or_paused() {
    needs_host!();
    let pod = Pod::new();
    pod.container("created", "true").create(&pod);
    assert_eq!(
        code(&pod.client().stop("created", libc::SIGTERM, LONG).unwrap()),
        137
    );
    let container = pod.running(
        "paused",
        "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done",
    );
    eventually("the trap", || !container.log_lines().is_empty());
    pod.client().pause("paused").unwrap();
    assert!(matches!(container.state().status, Status::Paused { .. }));
    assert_eq!(
        code(&pod.client().stop("paused", libc::SIGTERM, LONG).unwrap()),
        5
    );
}

#[test]
fn pause_holds_and_resume_lets_go() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.running("c", "while :; do echo tick; sleep 0.01; done");
    pod.client().pause("c").unwrap();
    assert!(matches!(pod.client().pause("c"), Err(Error::State { .. })));
    thread::sleep(Duration::from_millis(50));
    let lines = container.log_lines().len();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(container.log_lines().len(), lines);
    pod.client().resume("c").unwrap();
    eventually("more lines", || container.log_lines().len() > lines);
    assert!(matches!(pod.client().resume("c"), Err(Error::State { .. })));
}

#[test]
fn delete_refuses_what_runs_unless_forced() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.running("c", "sleep 1000");
    assert!(matches!(
        pod.client().delete("c", false),
        Err(Error::State { .. })
    ));
    let pid = container.state().pid.unwrap();
    pod.client().delete("c", true).unwrap();
    assert!(!lives(pid));
    assert!(!cgroup_exists(&container));
    assert!(pod.client().delete("c", true).unwrap_err().is_not_found());
    assert!(container.dir.join("0.log").exists(), "the log stays");
}

#[test]
fn several_clients_can_wait_and_one_that_leaves_disturbs_nobody() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    let waiters: Vec<_> = (0..5)
        .map(|_| {
            let dir = pod.dir().to_owned();
            thread::spawn(move || Client::connect(&dir).unwrap().wait("c").unwrap())
        })
        .collect();
    let dir = pod.dir().to_owned();
    let mut gone = std::os::unix::net::UnixStream::connect(dir.join("supervisor.sock")).unwrap();
    let request = br#"{"stop":{"id":"c","signal":15,"timeout":{"secs":1000,"nanos":0}}}"#;
    std::io::Write::write_all(
        &mut gone,
        &[&(request.len() as u32).to_le_bytes()[..], request].concat(),
    )
    .unwrap();
    drop(gone);
    pod.client().signal("c", libc::SIGKILL, true).unwrap();
    for waiter in waiters {
        assert_eq!(code(&waiter.join().unwrap()), 137);
    }
}

#[test]
fn stop_leaves_no_process_of_a_container_in_a_shared_pid_namespace() {
    needs_host!();
    let pod = Pod::with(|setup| setup.shared_pid = true);
    let container = pod.running("c", "sleep 1000 & sleep 1000 & wait");
    let cgroup =
        runtime::cgroup::Cgroup::open(container.config["linux"]["cgroupsPath"].as_str().unwrap())
            .unwrap();
    eventually("all three", || cgroup.processes().unwrap().len() == 3);
    pod.client()
        .stop("c", libc::SIGTERM, Duration::ZERO)
        .unwrap();
    eventually("an empty cgroup", || cgroup.processes().unwrap().is_empty());
}

#[test]
fn what_is_orphaned_in_the_nodes_pid_namespace_is_reaped() {
    needs_host!();
    let pod = Pod::new();
    let mut container = pod.container("c", "(sleep 0.1 &); exit 0");
    let namespaces = container.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    container.create(&pod);
    pod.client().start("c").unwrap();
    pod.client().wait("c").unwrap();
    let children = format!("/proc/{0}/task/{0}/children", pod.info.pid);
    eventually("no child left", || {
        std::fs::read_to_string(&children)
            .unwrap()
            .trim()
            .is_empty()
    });
}

#[test]
fn a_container_killed_for_want_of_memory_says_so() {
    needs_host!();
    if !Path::new("/sys/fs/cgroup/memory").exists()
        && !Path::new("/sys/fs/cgroup/memory.max").exists()
    {
        eprintln!("SKIP: no memory controller");
        return;
    }
    let pod = Pod::new();
    let mut container = pod.container("c", "tail /dev/zero");
    container.config["process"]["args"] = json!(["/bin/tail", "/dev/zero"]);
    container.config["linux"]["resources"] =
        json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    container.config["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/dev/zero", "type": "bind", "source": "/dev/zero", "options": ["bind"]}),
    );
    container.create(&pod);
    pod.client().start("c").unwrap();
    let state = pod.client().wait("c").unwrap();
    assert!(
        matches!(
            state.status,
            Status::Exited {
                exit_code: 137,
                oom_killed: true,
                ..
            }
        ),
        "{state:?}"
    );
}

#[test]
fn limits_can_be_changed_while_a_container_runs() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.running("c", "sleep 1000");
    let resources = serde_json::from_value(json!({"pids": {"limit": 42}})).unwrap();
    pod.client().update("c", &resources).unwrap();
    let cgroup =
        runtime::cgroup::Cgroup::open(container.config["linux"]["cgroupsPath"].as_str().unwrap())
            .unwrap();
    let read = cgroup
        .directories()
        .into_iter()
        .find_map(|dir| std::fs::read_to_string(dir.path.join("pids.max")).ok());
    assert_eq!(read.as_deref().map(str::trim), Some("42"));
}

#[test]
fn hooks_after_the_fact_are_called_with_the_state() {
    needs_host!();
    let pod = Pod::new();
    let mut container = pod.container("c", "exit 3");
    let hook = |file: &str, code: i32| {
        let script = format!("cat > {}; exit {code}", container.dir.join(file).display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    container.config["hooks"] =
        json!({"poststart": hook("started", 0), "poststop": hook("stopped", 1)});
    container.create(&pod);
    pod.client().start("c").unwrap();
    assert_eq!(code(&pod.client().wait("c").unwrap()), 3);
    assert!(!container.dir.join("stopped").exists());
    pod.client().delete("c", false).unwrap();
    for (file, status) in [
        ("started", r#""status":"running""#),
        ("stopped", r#""status":"stopped""#),
    ] {
        let told = std::fs::read_to_string(container.dir.join(file)).unwrap();
        assert!(told.contains(status), "{told}");
    }
    assert!(pod.log().contains("poststop hook #0"), "{}", pod.log());
}

#[test]
fn a_poststart_hook_that_fails_ends_the_container_and_is_what_start_answers() {
    needs_host!();
    let pod = Pod::new();
    let mut container = pod.container("c", "sleep 1000");
    container.config["hooks"] =
        json!({"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 1"]}]});
    container.create(&pod);
    let error = pod.client().start("c").unwrap_err().to_string();
    assert!(error.contains("error running poststart hook #0"), "{error}");
    assert!(container.state().status.is_exited());
}

#[test]
fn many_containers_share_one_supervisor() {
    needs_host!();
    let pod = Pod::new();
    let containers: Vec<Container> = (0..20)
        .map(|n| pod.running(&format!("c{n}"), &format!("echo {n}; exit {n}")))
        .collect();
    for (n, container) in containers.iter().enumerate() {
        let state = pod.client().wait(&format!("c{n}")).unwrap();
        assert_eq!(code(&state), i32::try_from(n).unwrap());
        assert_eq!(container.log_lines(), [format!("stdout F {n}")]);
    }
    pod.client().shutdown().unwrap();
    for container in &containers {
        assert!(!cgroup_exists(container));
        assert!(container.state().status.is_exited(), "the record stays");
    }
}

#[test]
fn shutdown_kills_what_runs_and_records_it() {
    needs_host!();
    let pod = Pod::with(|setup| setup.shared_pid = true);
    let container = pod.running("c", "trap '' TERM; sleep 1000 & wait");
    let pid = container.state().pid.unwrap();
    pod.client().shutdown().unwrap();
    assert!(!lives(pid));
    assert_eq!(code(&container.state()), 137);
    assert!(!lives(pod.info.pod_init.unwrap()));
}

#[test]
fn a_pod_lives_on_when_the_process_that_started_it_is_gone() {
    needs_host!();
    let setup = Pod::setup(|_| {});
    let json = serde_json::to_string(&setup).unwrap();
    let starter = std::process::Command::new(program())
        .args(["launch", &json])
        .status()
        .unwrap();
    assert!(starter.success());
    let info = supervisor::SupervisorInfo::read(&setup.dir)
        .unwrap()
        .unwrap();
    let pod = Pod::adopt(setup, info);
    let (container, state) = pod.run("c", "echo on its own; exit 9");
    assert_eq!(code(&state), 9);
    assert_eq!(container.log_lines(), ["stdout F on its own"]);
}
