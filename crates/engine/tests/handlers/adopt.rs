//! The engine's death, and the sandbox's.

use std::time::Duration;

use engine::handler::Happened;
use engine::{ContainerState, PodState};

use crate::world::World;

pub(crate) fn a_pod_outlives_its_engine_and_is_taken_over(world: &mut World<'_>) {
    let pod = world.pod("a");
    let running = world.run(
        &pod,
        "running",
        "trap 'exit 8' TERM; while :; do sleep 0.1; done",
    );
    let created = world.create(&pod, "created", "exit 6");
    let found = world.reopen();
    assert_eq!((found.running, found.dead, found.cleared), (1, 0, 0));
    assert_eq!(world.engine.pod(&pod).unwrap().state, PodState::Ready);
    assert!(matches!(
        world.container(&running).state,
        ContainerState::Running { .. }
    ));
    assert_eq!(world.container(&created).state, ContainerState::Created);
    // Every verb goes on from there.
    let said = world.exec(&running, &["echo", "here"], None).unwrap();
    assert_eq!(said.stdout, b"here\n");
    world.engine.start_container(&created).unwrap();
    assert_eq!(world.ended(&created), (6, "Error"));
    let later = world.run(&pod, "later", "exit 0");
    assert_eq!(world.ended(&later), (0, "Completed"));
    world.reopen();
    let grace = Duration::from_secs(50);
    world.engine.stop_container(&running, grace).unwrap();
    assert_eq!(world.ended(&running), (8, "Error"));
    world.reopen();
    world.engine.remove_pod(&pod).unwrap();
}

pub(crate) fn what_ended_while_no_engine_was_there_is_known(world: &mut World<'_>) {
    let pod = world.pod("a");
    let mut spec = world.spec("c", "read line; echo \"$line\"; exit 11");
    spec.stdin = true;
    spec.stdin_once = true;
    let id = world.engine.create_container(&pod, spec).unwrap();
    world.engine.start_container(&id).unwrap();
    let options = engine::AttachOptions {
        stdin: true,
        stdout: true,
        stderr: false,
    };
    let (mut output, mut input) = world.engine.attach(&id, options).unwrap().split();
    // From here on it is another engine's: what this one held of pods is gone.
    world.reopen();
    input.send(b"last words\n").unwrap();
    while let Ok(event) = output.read() {
        if matches!(event, engine::AttachEvent::Exit(_)) {
            break;
        }
    }
    let found = world.reopen();
    assert_eq!(found.running, 1);
    assert_eq!(world.ended(&id), (11, "Error"));
    assert_eq!(world.log(&id), "last words\n");
    let kept = world.engine.adopt_pod(&pod).unwrap();
    assert!(kept.sandbox.is_some());
    let of_it = kept
        .events
        .iter()
        .filter(|event| event.container.as_ref() == Some(&id));
    let happened: Vec<Happened> = of_it.map(|event| event.happened).collect();
    let ended = Happened::Exited { code: 11 };
    assert_eq!(happened, [Happened::Created, Happened::Started, ended]);
    assert!(kept.events.iter().all(|event| event.number.is_some()));
}

/// Whatever runs a pod, a subscriber hears of it.
pub(crate) fn a_subscriber_hears_what_happens(world: &mut World<'_>) {
    use engine::events::Happening::{Created, Paused, Resumed, Started, Stopped};
    let mut told = world.engine.subscribe().unwrap();
    let mut next = |world: &World<'_>, wanted: &[_]| {
        for wanted in wanted {
            let come = async {
                loop {
                    if let engine::events::Notice::Event(event) = told.next().await.unwrap() {
                        return (event.what, event.container_id.is_some());
                    }
                }
            };
            let limit = async { tokio::time::timeout(Duration::from_secs(60), come).await };
            assert_eq!(world.wait(limit).expect("no event came"), *wanted);
        }
    };
    let pod = world.pod("a");
    next(world, &[(Created, false), (Started, false)]);
    let id = world.run(&pod, "c", "exec sleep 1000");
    next(world, &[(Created, true), (Started, true)]);
    world.engine.pause_container(&id).unwrap();
    next(world, &[(Paused, true)]);
    world.engine.resume_container(&id).unwrap();
    next(world, &[(Resumed, true)]);
    world.engine.stop_container(&id, Duration::ZERO).unwrap();
    next(world, &[(Stopped, true)]);
    world.engine.stop_pod(&pod).unwrap();
    next(world, &[(Stopped, false)]);
}

/// What has not changed is not read again for a list.
pub(crate) fn a_list_reads_nothing_of_a_pod_that_has_not_changed(world: &mut World<'_>) {
    let pod = world.pod("a");
    let id = world.run(&pod, "c", "exec sleep 1000");
    world.engine.watch().unwrap();
    let bytes_read = || -> u64 {
        let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
        line.unwrap().parse().unwrap()
    };
    let list = || {
        let before = bytes_read();
        let of_asking = bytes_read() - before;
        let before = bytes_read();
        let pods = world.engine.pods(&engine::PodFilter::default()).unwrap();
        assert_eq!(pods[0].state, PodState::Ready);
        let containers = world.engine.containers(&engine::ContainerFilter::default());
        assert_eq!(containers.unwrap().len(), 1);
        bytes_read() - before - of_asking
    };
    assert!(list() > 100, "the first reads all");
    // Numbers of bytes read have as many digits as they have.
    assert!(list() < 100);
    world.engine.stop_container(&id, Duration::ZERO).unwrap();
    assert!(list() > 100);
    assert!(list() < 100);
}

pub(crate) fn a_sandbox_that_is_killed_is_seen_and_its_pod_can_be_removed(world: &mut World<'_>) {
    let pod = world.pod("a");
    let id = world.run(&pod, "c", "exec sleep 1000");
    let never = world.create(&pod, "never", "true");
    let gone = world.engine.sandbox_gone(&pod).unwrap();
    let Some(pid) = world.engine.pod(&pod).unwrap().supervisor_pid else {
        eprintln!("SKIP: the handler's sandbox is no process of this node");
        return;
    };
    // The pod's own supervisor, which this test started.
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    world.wait(gone).unwrap();
    assert_eq!(world.engine.pod(&pod).unwrap().state, PodState::NotReady);
    let error = world
        .engine
        .create_container(&pod, world.spec("late", "true"))
        .unwrap_err();
    assert_eq!(error.kind(), engine::Kind::FailedPrecondition, "{error}");
    world.reopen();
    world.engine.stop_container(&id, Duration::ZERO).unwrap();
    assert_eq!(world.ended(&id).0, 137);
    world.engine.remove_container(&never).unwrap();
    // Nothing is left to be gone: who asks late learns so at once.
    let gone = world.engine.sandbox_gone(&pod).unwrap();
    world.wait(gone).unwrap();
    world.engine.stop_pod(&pod).unwrap();
    world.engine.remove_pod(&pod).unwrap();
}

pub(crate) fn a_pod_whose_handler_is_not_configured_any_more_says_so_and_can_be_removed(
    world: &mut World<'_>,
) {
    let pod = world.pod("a");
    let id = world.run(&pod, "c", "exec sleep 1000");
    let stopped = world.run(&pod, "stopped", "exec sleep 1000");
    let dir = world.node.path("run").join("pods").join(&pod);
    let records = [&id, &stopped].map(|id| dir.join("containers").join(id).join("container.json"));
    for path in records.into_iter().chain([dir.join("pod.json")]) {
        let text = std::fs::read(&path).unwrap();
        let mut record: serde_json::Value = serde_json::from_slice(&text).unwrap();
        record["handler"] = "no-such-handler".into();
        std::fs::write(&path, record.to_string()).unwrap();
    }
    let found = world.reopen();
    assert_eq!((found.running, found.dead), (0, 1));
    assert_eq!(world.engine.pod(&pod).unwrap().state, PodState::NotReady);
    assert_eq!(world.container(&id).state, ContainerState::Unknown);
    let error = world.engine.attach(&id, engine::AttachOptions::default());
    let error = error.unwrap_err();
    assert_eq!(error.kind(), engine::Kind::FailedPrecondition, "{error}");
    assert!(error.to_string().contains("no-such-handler"), "{error}");
    world
        .engine
        .stop_container(&stopped, Duration::from_secs(1))
        .unwrap();
    world.engine.remove_container(&stopped).unwrap();
    world.engine.stop_pod(&pod).unwrap();
    world.engine.remove_pod(&pod).unwrap();
}

/// The engine was killed when it had renamed a pod's directory for its removal, and nobody had unmounted what
/// the pod's handler had mounted there.
pub(crate) fn what_a_handler_left_mounted_is_gone_with_the_next_engine(world: &mut World<'_>) {
    let pod = world.pod("a");
    let id = world.run(&pod, "c", "exec sleep 1000");
    let pods = world.node.path("run").join("pods");
    let own = pods.join(&pod).join("own mount");
    std::fs::create_dir(&own).unwrap();
    rustix::mount::mount_bind(&pods, &own).unwrap();
    let cgroup = world.container(&id).cgroup;
    if !world.subject.litter.is_empty() {
        // What a program keeps of its containers elsewhere goes before the directory is renamed.
        world.engine.remove_container(&id).unwrap();
    }
    // All processes go as at a kill, and with them nobody is left to clean up.
    let cgroup = runtime::cgroup::Cgroup::open(cgroup.rsplit_once('/').unwrap().0).unwrap();
    cgroup.kill_all().unwrap();
    cgroup.delete().unwrap();
    let gone = pods.join(format!("{pod}.gone"));
    std::fs::rename(pods.join(&pod), &gone).unwrap();
    let table = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = gone.to_str().unwrap();
    assert!(table().contains(below));
    world.reopen();
    assert!(!table().contains(below), "{}", table());
    assert!(!gone.exists());
    // What was mounted there is as it was.
    assert!(pods.is_dir());
    assert!(world.engine.pod(&pod).is_err());
}
