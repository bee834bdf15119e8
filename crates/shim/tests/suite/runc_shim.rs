//! A real shim, Debian's containerd-shim-runc-v2, through every question of the task service; its
//! client may go away at any time, and the shim may be killed.

use std::io::Write;

use crate::support::{PATIENCE, Pipes, Pod, is_alive, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use shim::events::{self, What};
use shim::task::{self, Status};
use shim::{Shim, sandbox};

const KILL: u32 = 9;

/// A program that runs until it is told to end.
const WAITS: &str = "echo begins; trap 'exit 3' TERM; while :; do sleep 0.05; done";

fn state(shim: &Shim, id: &str) -> Status {
    shim.ask(task::state(shim, id, None)).unwrap().status
}

#[test]
fn a_container_lives_through_every_verb() {
    needs_shim!();
    let mut pod = Pod::new();
    let mut pipes = pod.write("c", WAITS, |_| {});
    let shim = pod.start("c");
    let pid = pod.create(&shim, "c", &pipes);
    pod.start("c");
    assert_eq!(state(&shim, "c"), Status::Created);
    let connected = shim.ask(task::connect(&shim, "c")).unwrap();
    assert_eq!(connected.task_pid, Some(pid));

    assert_eq!(shim.ask(task::start(&shim, "c", None)).unwrap(), Some(pid));
    pipes.expect("begins");
    assert_eq!(state(&shim, "c"), Status::Running);
    let pids = shim.ask(task::pids(&shim, "c")).unwrap();
    assert!(pids.contains(&pid), "{pids:?}");

    let stats = shim.ask(task::stats(&shim, "c")).unwrap();
    assert_eq!(stats.memory_limit, Some(64 << 20));
    assert!(stats.pids > Some(0) && stats.memory > Some(0), "{stats:?}");
    let limits = json!({"memory": {"limit": 96 << 20}});
    shim.ask(task::update(&shim, "c", &limits).unwrap())
        .unwrap();
    let stats = shim.ask(task::stats(&shim, "c")).unwrap();
    assert_eq!(stats.memory_limit, Some(96 << 20));

    shim.ask(task::pause(&shim, "c")).unwrap();
    assert_eq!(state(&shim, "c"), Status::Paused);
    shim.ask(task::resume(&shim, "c")).unwrap();
    assert_eq!(state(&shim, "c"), Status::Running);

    shim.ask(task::kill(&shim, "c", None, 15, false)).unwrap();
    let exit = shim.ask(task::wait(&shim, "c", None).within(Some(PATIENCE)));
    let exit = exit.unwrap();
    assert_eq!(exit.code, 3);
    assert!(exit.at.is_some());
    assert_eq!(state(&shim, "c"), Status::Stopped(exit));
    assert_eq!(shim.ask(task::delete(&shim, "c", None)).unwrap().code, 3);
    let error = shim.ask(task::state(&shim, "c", None)).unwrap_err();
    assert!(error.is_not_found(), "{error}");

    let shim_pid = connected.shim_pid.unwrap();
    shim.ask(task::shutdown(&shim, "c", false)).unwrap();
    assert!(until(|| !is_alive(shim_pid)));
    let error = shim.ask(task::state(&shim, "c", None)).unwrap_err();
    assert!(error.is_gone(), "{error}");
}

#[test]
fn a_process_is_added_and_ends_by_itself() {
    needs_shim!();
    let mut pod = Pod::new();
    let pipes = pod.write("c", WAITS, |_| {});
    let shim = pod.start("c");
    pod.create(&shim, "c", &pipes);
    pod.start("c");
    shim.ask(task::start(&shim, "c", None)).unwrap();

    let mut streams = Pipes::new(&pod.bundle("c"), "exec-");
    let script = "cat; echo wrong >&2; exit 7";
    let process = json!({"args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0}});
    let exec = task::exec(&shim, "c", "e", &streams.streams, &process);
    shim.ask(exec.unwrap()).unwrap();
    assert!(
        shim.ask(task::start(&shim, "c", Some("e")))
            .unwrap()
            .is_some()
    );
    let exec = shim.ask(task::state(&shim, "c", Some("e"))).unwrap();
    assert_eq!(exec.status, Status::Running);
    streams
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"words\n")
        .unwrap();
    streams.expect("words");
    streams.stdin = None;
    shim.ask(task::close_stdin(&shim, "c", Some("e"))).unwrap();
    let exit = shim.ask(task::wait(&shim, "c", Some("e")).within(Some(PATIENCE)));
    assert_eq!(exit.unwrap().code, 7);
    assert_eq!(streams.heard(), ["words\n", "wrong\n"].map(str::to_owned));
    shim.ask(task::delete(&shim, "c", Some("e"))).unwrap();
    let error = shim.ask(task::state(&shim, "c", Some("e"))).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(state(&shim, "c"), Status::Running);
}

#[test]
fn a_terminal_has_the_size_that_was_set() {
    needs_shim!();
    let mut pod = Pod::new();
    let script = "read line; stty size";
    let mut pipes = pod
        .write("c", script, |config| {
            config["process"]["terminal"] = true.into()
        })
        .terminal();
    let shim = pod.start("c");
    pod.create(&shim, "c", &pipes);
    pod.start("c");
    shim.ask(task::start(&shim, "c", None)).unwrap();
    shim.ask(task::resize(&shim, "c", None, 33, 77)).unwrap();
    pipes.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    pipes.expect("33 77");
}

#[test]
fn the_containers_of_a_pod_share_a_shim() {
    needs_shim!();
    let mut pod = Pod::new();
    let first = pod.write("a", WAITS, |_| {});
    let second = pod.write("b", WAITS, |_| {});
    let shim = pod.start("a");
    pod.create(&shim, "a", &first);
    assert_eq!(pod.start("b"), shim);
    pod.create(&shim, "b", &second);
    let shims = ["a", "b"].map(|id| shim.ask(task::connect(&shim, id)).unwrap().shim_pid);
    assert_eq!(shims[0], shims[1]);
    // It does not end under its containers.
    shim.ask(task::shutdown(&shim, "a", false)).unwrap();
    assert_eq!(state(&shim, "b"), Status::Created);
}

#[test]
fn what_happened_without_a_client_is_told_to_the_next() {
    needs_shim!();
    let mut pod = Pod::new();
    let pipes = pod.write("c", "exit 5", |_| {});
    let shim = pod.start("c");
    let pid = pod.create(&shim, "c", &pipes);
    shim.ask(task::start(&shim, "c", None)).unwrap();
    let (address, version) = (shim.address().to_owned(), shim.version());
    drop(shim);
    assert!(until(|| !is_alive(pid)));
    let shim = Shim::new(address, version, &pod.name);
    let exit = shim.ask(task::wait(&shim, "c", None).within(Some(PATIENCE)));
    assert_eq!(exit.unwrap().code, 5);
    assert!(matches!(state(&shim, "c"), Status::Stopped(exit) if exit.code == 5));
}

#[test]
fn a_shim_that_is_killed_is_cleaned_up_after() {
    needs_shim!();
    let mut pod = Pod::new();
    let mut pipes = pod.write("c", WAITS, |_| {});
    let shim = pod.start("c");
    let pid = pod.create(&shim, "c", &pipes);
    shim.ask(task::start(&shim, "c", None)).unwrap();
    pipes.expect("begins");
    let shim_pid = shim.ask(task::connect(&shim, "c")).unwrap().shim_pid;
    kill_process(Pid::from_raw(shim_pid.unwrap()).unwrap(), Signal::KILL).unwrap();
    assert!(until(|| {
        let asked = shim.ask(task::state(&shim, "c", None));
        asked.is_err_and(|error| error.is_gone())
    }));
    assert!(is_alive(pid), "it outlives its shim");
    let exit = pod
        .program
        .clean_up("c", &pod.bundle("c"), shim::PROGRAM_LIMIT)
        .unwrap();
    assert_eq!(exit.code, 137);
    assert!(until(|| !is_alive(pid)));
    assert!(
        !pod.bundle("c").join("rootfs/bin").exists(),
        "its root stays mounted"
    );
    std::fs::remove_file(shim.address()).unwrap();
}

#[test]
fn a_container_that_cannot_be_made_says_why() {
    needs_shim!();
    let mut pod = Pod::new();
    let pipes = pod.write("c", WAITS, |config| {
        config["process"]["args"] = json!(["/no/such/program"]);
    });
    let shim = pod.start("c");
    let request = pod.create_request("c", pipes.streams.clone());
    let error = shim.ask(task::create(&shim, request)).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    // The shim ends with it.
    let _ = shim.ask(task::shutdown(&shim, "c", false));
    assert!(until(|| !shim.address().exists()));
}

#[test]
fn a_shim_without_sandboxes_says_so() {
    needs_shim!();
    let mut pod = Pod::new();
    let pipes = pod.write("c", WAITS, |_| {});
    let shim = pod.start("c");
    pod.create(&shim, "c", &pipes);
    pod.start("c");
    let error = shim.ask(sandbox::platform("c")).unwrap_err();
    assert!(error.is_unimplemented(), "{error}");
}

#[tokio::test]
async fn waits_take_no_thread_and_end_with_their_future() {
    needs_shim!();
    let mut pod = Pod::new();
    let pipes = pod.write("c", WAITS, |_| {});
    let shim = pod.start("c");
    pod.create(&shim, "c", &pipes);
    pod.start("c");
    shim.ask(task::start(&shim, "c", None)).unwrap();
    let short = std::time::Duration::from_millis(50);
    let given_up = shim.ask_async(task::wait(&shim, "c", None));
    assert!(tokio::time::timeout(short, given_up).await.is_err());
    let silent = shim.ask_async(task::wait(&shim, "c", None).within(Some(short)));
    assert!(matches!(silent.await, Err(shim::Error::Silent { .. })));
    let waits: Vec<_> = (0..50)
        .map(|_| {
            let shim = shim.clone();
            tokio::spawn(async move { shim.ask_async(task::wait(&shim, "c", None)).await })
        })
        .collect();
    shim.ask_async(task::kill(&shim, "c", None, KILL, true))
        .await
        .unwrap();
    for wait in waits {
        assert_eq!(wait.await.unwrap().unwrap().code, 137);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told_also_to_an_engine_that_came_later() {
    needs_shim!();
    let mut pod = Pod::new();
    let (to, mut events) = tokio::sync::mpsc::channel(16);
    let namespace: std::sync::Arc<str> = pod.name.as_str().into();
    let (_file, listener) = events::listen(&pod.program.events).unwrap().unwrap();
    assert!(
        events::listen(&pod.program.events).unwrap().is_none(),
        "two take them"
    );
    let first = tokio::spawn(events::serve(listener, namespace.clone(), to.clone()));
    let pipes = pod.write("c", WAITS, |_| {});
    let shim = pod.start("c");
    pod.create(&shim, "c", &pipes);
    pod.start("c");
    assert_eq!(events.recv().await.unwrap().what, What::Created);
    shim.ask(task::start(&shim, "c", None)).unwrap();
    let event = events.recv().await.unwrap();
    assert_eq!((event.container.as_str(), event.what), ("c", What::Started));
    // The engine is killed, and the next one listens.
    first.abort();
    let _ = first.await;
    let (_next, listener) = events::listen(&pod.program.events).unwrap().unwrap();
    let _second = tokio::spawn(events::serve(listener, namespace, to));
    shim.ask(task::kill(&shim, "c", None, KILL, true)).unwrap();
    let Some(What::Exited { exec: None, exit }) = events.recv().await.map(|it| it.what) else {
        panic!("no end");
    };
    assert_eq!(exit.code, 137);
    shim.ask(task::delete(&shim, "c", None)).unwrap();
    let deleted = events.recv().await.unwrap().what;
    assert_eq!(deleted, What::Deleted { exec: None });
}
