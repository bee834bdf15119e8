//! Containers that hold up what is done for them: neighbours, the container's own end and the pod's end
//! must not notice (the supervisor waits for nothing that a container can stop, trace, starve or fill).

use std::time::Duration;

use crate::support::{self, Container, Pod, eventually, lives};
use serde_json::json;
use supervisor::{Client, Error, ExecRequest, ExecStdio, Status};

fn request(script: &str, timeout: Option<Duration>) -> ExecRequest {
    let process = serde_json::from_value(json!({
        "args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"],
        "user": {"uid": 1000, "gid": 1000}, "noNewPrivileges": true,
    }));
    ExecRequest {
        process: process.unwrap(),
        timeout,
    }
}

fn null() -> ExecStdio {
    let file = || {
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap()
            .into()
    };
    ExecStdio::Fds([file(), file(), file()])
}

/// As a pod of the class "restricted" has it: uid 1000, no capability, no new privileges.
fn restricted(pod: &Pod, id: &str, script: &str) -> Container {
    let mut container = pod.container(id, script);
    container.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    container.config["process"]["noNewPrivileges"] = json!(true);
    container
}

/// What neighbours have: output that goes on being logged, commands that run.
fn goes_on(pod: &Pod, neighbour: &Container) {
    let before = neighbour.log_lines().len();
    eventually("the neighbour's output", || {
        neighbour.log_lines().len() > before
    });
    let session = pod
        .client()
        .exec("neighbour", &request("exit 3", None), null())
        .unwrap();
    assert_eq!(session.wait().unwrap().code, 3);
}

fn neighbour(pod: &Pod) -> Container {
    pod.running("neighbour", "while :; do echo on; sleep 0.05; done")
}

#[test]
fn a_container_that_stops_all_it_may_signal_holds_up_no_exec_no_neighbour_and_not_its_own_end() {
    needs_host!();
    let pod = Pod::new();
    let neighbour = neighbour(&pod);
    let hostile = restricted(&pod, "hostile", "while :; do kill -STOP -1; done");
    hostile.create(&pod);
    pod.client().start("hostile").unwrap();
    for _ in 0..5 {
        let timeout = Some(Duration::from_millis(300));
        let session = pod
            .client()
            .exec("hostile", &request("exit 0", timeout), null());
        // It runs before the next signal comes, or its time is over.
        let exit = session.unwrap().wait().unwrap();
        assert!(exit.timed_out || exit.code == 0, "{exit:?}");
    }
    goes_on(&pod, &neighbour);
    let ended = pod
        .client()
        .stop("hostile", libc::SIGTERM, Duration::ZERO)
        .unwrap();
    assert_eq!(support::code(&ended), 137);
    pod.client().delete("hostile", false).unwrap();
    pod.client().shutdown().unwrap();
}

/// A hook stands for whatever a container waits for before its program: a volume that hangs, a file that
/// never comes.
fn waiting(pod: &Pod, id: &str, hook: &str) -> Container {
    let mut container = pod.container(id, "exit 0");
    container.config["hooks"] =
        json!({ hook: [{ "path": "/bin/sleep", "args": ["sleep", "1000"] }] });
    container.write_config();
    container
}

fn sleeper_of(id: &str) -> Option<i32> {
    let mut pids = runtime::cgroup::Cgroup::open(id).ok()?.processes().ok()?;
    pids.pop()
}

#[test]
fn a_container_that_never_stands_holds_up_its_creator_alone_and_is_removed_at_once() {
    needs_host!();
    for hook in ["createRuntime", "createContainer"] {
        let pod = Pod::new();
        let neighbour = neighbour(&pod);
        let container = waiting(&pod, "hung", hook);
        let path = container.config["linux"]["cgroupsPath"]
            .as_str()
            .unwrap()
            .to_owned();
        let mut creator = pod.client();
        let created = std::thread::spawn(move || creator.create(&container.request));
        eventually("its process", || sleeper_of(&path).is_some());
        goes_on(&pod, &neighbour);
        let taken = waiting(&pod, "hung", hook);
        let again = pod.client().create(&taken.request).unwrap_err();
        assert!(matches!(again, Error::Exists { .. }), "{again}");
        let gone = pod.client().delete("hung", true).unwrap_err();
        assert!(gone.is_not_found(), "{gone}");
        let failed = created.join().unwrap().unwrap_err().to_string();
        assert!(
            failed.contains("removed while it was being made"),
            "{failed}"
        );
        assert!(
            runtime::cgroup::Cgroup::open(&path).is_err(),
            "{path} stays"
        );
        goes_on(&pod, &neighbour);
    }
}

#[test]
fn a_pod_ends_although_a_container_never_stands() {
    needs_host!();
    let pod = Pod::new();
    let container = waiting(&pod, "hung", "createRuntime");
    let path = container.config["linux"]["cgroupsPath"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut creator = pod.client();
    let created = std::thread::spawn(move || creator.create(&container.request));
    eventually("its process", || sleeper_of(&path).is_some());
    pod.client().shutdown().unwrap();
    created.join().unwrap().unwrap_err();
    assert!(!pod.info.is_alive());
}

#[test]
fn a_start_that_waits_holds_up_no_neighbour_and_is_ended_by_a_stop() {
    needs_host!();
    let pod = Pod::new();
    let neighbour = neighbour(&pod);
    let mut container = waiting(&pod, "slow", "startContainer");
    container.config["hooks"]["startContainer"][0]["path"] = json!("/bin/busybox");
    container.config["hooks"]["startContainer"][0]["args"] = json!(["busybox", "sleep", "1000"]);
    container.create(&pod);
    let mut starter = pod.client();
    let started = std::thread::spawn(move || starter.start("slow"));
    goes_on(&pod, &neighbour);
    assert!(matches!(container.state().status, Status::Created));
    let state = pod
        .client()
        .stop("slow", libc::SIGTERM, Duration::from_secs(60))
        .unwrap();
    assert_eq!(support::code(&state), 137);
    // Whether it was executed is not known of a process that was killed at its gate.
    let _ = started.join().unwrap();
    goes_on(&pod, &neighbour);
}

/// The setting up of an exec costs the container's share of the processor nothing.
#[test]
fn an_exec_is_not_in_the_containers_cgroup_before_it_is_let_on() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.running("c", "sleep 1000");
    let path = container.config["linux"]["cgroupsPath"].as_str().unwrap();
    let cgroup = runtime::cgroup::Cgroup::open(path).unwrap();
    cgroup.freeze().unwrap();
    // Frozen, nothing gets on in there: the exec comes as far as the cgroup, and is ended by its time.
    let timeout = Some(Duration::from_millis(300));
    let session = pod
        .client()
        .exec("c", &request("exit 0", timeout), null())
        .unwrap();
    assert!(session.wait().unwrap().timed_out);
    cgroup.thaw().unwrap();
    let session = pod
        .client()
        .exec("c", &request("exit 4", None), null())
        .unwrap();
    assert_eq!(session.wait().unwrap().code, 4);
}

/// A client that leaves takes what it asked for along, however far that has come.
#[test]
fn a_command_whose_client_leaves_before_it_runs_is_ended() {
    needs_host!();
    let pod = Pod::new();
    let container = pod.running("c", "sleep 1000");
    let path = container.config["linux"]["cgroupsPath"].as_str().unwrap();
    let cgroup = runtime::cgroup::Cgroup::open(path).unwrap();
    for _ in 0..20 {
        let client: Client = pod.client();
        let session = client
            .exec("c", &request("sleep 1000", None), null())
            .unwrap();
        drop(session);
    }
    eventually("their end", || {
        let left = cgroup.processes().unwrap();
        left.len() <= 2 && left.iter().all(|pid| lives(*pid))
    });
}

/// However many begin and end at once, the end of none is missed.
#[test]
fn hundreds_of_commands_that_begin_and_end_at_once_all_have_an_end_and_so_has_their_container() {
    needs_host!();
    let pod = Pod::new();
    pod.running("c", "sleep 1000");
    let many = || {
        for _ in 0..25 {
            let session = pod.client().exec("c", &request("exit 5", None), null());
            assert_eq!(session.unwrap().wait().unwrap().code, 5);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(many);
        }
    });
    pod.client().delete("c", true).unwrap();
    assert!(pod.client().wait("c").unwrap_err().is_not_found());
}
