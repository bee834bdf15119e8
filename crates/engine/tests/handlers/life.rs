//! From the first verb of a container's life to the last, in order and out of it.

use std::time::Duration;

use engine::container::Resources;
use engine::handler::Ability;
use engine::{AttachEvent, AttachOptions, ContainerFilter, ContainerState, Kind, PodState, Stream};

use crate::world::World;

/// A script that ends when it is asked to, once it says so.
const POLITE: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done";

fn says(world: &World<'_>, id: &str, words: &str) {
    world.until(|| world.log(id).contains(words).then_some(()));
}

pub(crate) fn a_container_lives_from_created_to_removed(world: &mut World<'_>) {
    let pod = world.pod("a");
    assert_eq!(world.engine.pod(&pod).unwrap().state, PodState::Ready);
    let record = world.node.path("run/pods").join(&pod).join("shim.json");
    if let Ok(record) = std::fs::read(record) {
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        // What has the sandbox service is used by it.
        let by_service = record["service"].as_bool().unwrap_or_default();
        assert_eq!(by_service, world.subject.name == "sandbox-shim");
    }
    let id = world.create(&pod, "c", "echo said; exit 3");
    assert_eq!(world.container(&id).state, ContainerState::Created);
    world.engine.start_container(&id).unwrap();
    assert_eq!(world.ended(&id), (3, "Error"));
    let ContainerState::Exited {
        started_at,
        finished_at,
        ..
    } = world.container(&id).state
    else {
        panic!("it has ended");
    };
    assert!(0 < started_at && started_at <= finished_at);
    assert_eq!(world.log(&id), "said\n");
    world.engine.remove_container(&id).unwrap();
    assert_eq!(
        world.engine.container(&id).unwrap_err().kind(),
        Kind::NotFound
    );
    world.engine.stop_pod(&pod).unwrap();
    assert_eq!(world.engine.pod(&pod).unwrap().state, PodState::NotReady);
    world.engine.remove_pod(&pod).unwrap();
    assert_eq!(world.engine.pod(&pod).unwrap_err().kind(), Kind::NotFound);
}

pub(crate) fn a_program_that_is_not_there_is_an_exit_and_not_a_hang(world: &mut World<'_>) {
    let pod = world.pod("a");
    let mut spec = world.spec("c", "");
    spec.command = vec!["/no/such/program".to_owned()];
    // A runtime may look for the program when it makes the container, or when it starts it.
    match world.engine.create_container(&pod, spec) {
        Err(error) => assert!(error.to_string().contains("/no/such/program"), "{error}"),
        Ok(id) => {
            let error = world.engine.start_container(&id).unwrap_err().to_string();
            assert!(error.contains("/no/such/program"), "{error}");
            let (code, reason) = world.ended(&id);
            assert!(matches!(code, 126..=128), "{code}");
            assert_eq!(reason, "StartError");
        }
    }
}

pub(crate) fn stop_gives_grace_and_then_kills(world: &mut World<'_>) {
    let pod = world.pod("a");
    let polite = world.run(&pod, "polite", POLITE);
    says(world, &polite, "ready");
    world
        .engine
        .stop_container(&polite, Duration::from_secs(50))
        .unwrap();
    assert_eq!(world.ended(&polite), (7, "Error"));
    let deaf = world.run(
        &pod,
        "deaf",
        "trap '' TERM; echo ready; while :; do sleep 0.1; done",
    );
    says(world, &deaf, "ready");
    let stop = world.engine.stop_call(&deaf, Duration::from_millis(300));
    let stop = stop.unwrap().unwrap();
    world
        .wait(async { stop.send().await?.wait().await })
        .unwrap();
    assert_eq!(world.ended(&deaf), (137, "Error"));
}

pub(crate) fn every_ending_verb_succeeds_again_and_on_what_is_not_there(world: &mut World<'_>) {
    let nobody = "0".repeat(64);
    let grace = Duration::from_secs(1);
    world.engine.stop_container(&nobody, grace).unwrap();
    world.engine.remove_container(&nobody).unwrap();
    world.engine.stop_pod(&nobody).unwrap();
    world.engine.remove_pod(&nobody).unwrap();
    let pod = world.pod("a");
    let id = world.run(&pod, "c", "sleep 1000");
    for _ in 0..2 {
        world.engine.stop_container(&id, Duration::ZERO).unwrap();
        assert!(world.engine.stop_call(&id, grace).unwrap().is_none());
    }
    for _ in 0..2 {
        world.engine.remove_container(&id).unwrap();
    }
    for _ in 0..2 {
        world.engine.stop_pod(&pod).unwrap();
    }
    for _ in 0..2 {
        world.engine.remove_pod(&pod).unwrap();
    }
    let error = world.engine.start_container(&id).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

pub(crate) fn a_started_container_may_be_started_again_and_an_ended_one_not(world: &mut World<'_>) {
    let pod = world.pod("a");
    let id = world.create(&pod, "c", "exec sleep 1000");
    let start = world.engine.start_call(&id).unwrap().unwrap();
    world
        .wait(async { start.send().await?.wait().await })
        .unwrap();
    world.engine.start_container(&id).unwrap();
    assert!(world.engine.start_call(&id).unwrap().is_none());
    world.engine.stop_container(&id, Duration::ZERO).unwrap();
    let error = world.engine.start_container(&id).unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
}

pub(crate) fn a_signal_reaches_the_first_process(world: &mut World<'_>) {
    let pod = world.pod("a");
    let script = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.1; done";
    let id = world.run(&pod, "c", script);
    says(world, &id, "ready");
    world.engine.signal_container(&id, libc::SIGUSR1).unwrap();
    assert_eq!(world.ended(&id), (9, "Error"));
    let error = world
        .engine
        .signal_container(&id, libc::SIGUSR1)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
}

pub(crate) fn limits_change_and_figures_follow(world: &mut World<'_>) {
    let pod = world.pod("a");
    let mut spec = world.spec("c", "exec sleep 1000");
    spec.resources.memory_limit = 64 << 20;
    let id = world.engine.create_container(&pod, spec).unwrap();
    world.engine.start_container(&id).unwrap();
    let limit = || {
        let stats = world.engine.container_stats(&id).unwrap();
        assert!(stats.cgroup.cpu_usage.is_some());
        stats.cgroup.memory.unwrap().limit
    };
    assert_eq!(limit(), Some(64 << 20));
    let change = Resources {
        memory_limit: 128 << 20,
        ..Resources::default()
    };
    world.engine.update_container(&id, &change).unwrap();
    assert_eq!(limit(), Some(128 << 20));
    assert_eq!(world.container(&id).spec.resources.memory_limit, 128 << 20);
    world.engine.stop_container(&id, Duration::ZERO).unwrap();
    let error = world.engine.container_stats(&id).unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    let error = world.engine.update_container(&id, &change).unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
}

pub(crate) fn a_paused_container_stands_still(world: &mut World<'_>) {
    if !world.can(Ability::Pause) {
        eprintln!("SKIP: the handler cannot pause");
        return;
    }
    let pod = world.pod("a");
    let id = world.run(&pod, "c", "while :; do echo tick; sleep 0.01; done");
    says(world, &id, "tick");
    world.engine.pause_container(&id).unwrap();
    // What it wrote before may still be on its way to the log.
    let mut before = String::new();
    world.until(|| {
        let now = world.log(&id);
        let still = now == before;
        before = now;
        std::thread::sleep(Duration::from_millis(200));
        still.then_some(())
    });
    world.engine.resume_container(&id).unwrap();
    world.until(|| (world.log(&id).len() > before.len()).then_some(()));
    // A stop does not wait for somebody to thaw it.
    world.engine.pause_container(&id).unwrap();
    world.engine.stop_container(&id, Duration::ZERO).unwrap();
    assert_eq!(world.ended(&id).0, 137);
}

pub(crate) fn what_a_container_writes_is_in_its_log_and_in_a_new_one_after_rotation(
    world: &mut World<'_>,
) {
    let pod = world.pod("a");
    let mut spec = world.spec("c", "echo first; read line; echo then; exec sleep 1000");
    spec.stdin = true;
    let id = world.engine.create_container(&pod, spec).unwrap();
    world.engine.start_container(&id).unwrap();
    says(world, &id, "first");
    let path = world.container(&id).log_path.unwrap();
    std::fs::rename(&path, path.with_extension("old")).unwrap();
    world.engine.reopen_log(&id).unwrap();
    assert_eq!(world.log(&id), "");
    let options = AttachOptions {
        stdin: true,
        ..AttachOptions::default()
    };
    let (_output, mut input) = world.engine.attach(&id, options).unwrap().split();
    input.send(b"go\n").unwrap();
    says(world, &id, "then");
    assert_eq!(world.log(&id), "then\n");
}

pub(crate) fn an_attached_client_has_input_output_and_the_end(world: &mut World<'_>) {
    let pod = world.pod("a");
    let mut spec = world.spec("c", "cat; echo done >&2; exit 4");
    spec.stdin = true;
    spec.stdin_once = true;
    let id = world.engine.create_container(&pod, spec).unwrap();
    let options = AttachOptions {
        stdin: true,
        stdout: true,
        stderr: true,
    };
    // Before start, so that nothing is missed.
    let (mut output, mut input) = world.engine.attach(&id, options).unwrap().split();
    world.engine.start_container(&id).unwrap();
    input.send(b"to and fro").unwrap();
    input.close().unwrap();
    let mut said = [Vec::new(), Vec::new()];
    let exit = loop {
        match output.read().unwrap() {
            AttachEvent::Output(Stream::Stdout, bytes) => said[0].extend(bytes),
            AttachEvent::Output(Stream::Stderr, bytes) => said[1].extend(bytes),
            AttachEvent::Exit(state) => break engine::exit_code(&state),
        }
    };
    assert_eq!(said, [b"to and fro".to_vec(), b"done\n".to_vec()]);
    assert_eq!(exit, Some(4));
}

pub(crate) fn a_pod_that_is_removed_takes_its_containers_along(world: &mut World<'_>) {
    let pod = world.pod("a");
    let running = world.run(&pod, "running", "trap '' TERM; while :; do sleep 0.1; done");
    let created = world.create(&pod, "created", "true");
    let ended = world.run(&pod, "ended", "true");
    world.ended(&ended);
    world.engine.remove_pod(&pod).unwrap();
    for id in [running, created, ended] {
        let error = world.engine.container(&id).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
    }
    let left = world.engine.containers(&ContainerFilter::default());
    assert!(left.unwrap().is_empty());
}

pub(crate) fn a_port_of_a_pod_is_a_flow_of_bytes(world: &mut World<'_>) {
    use std::io::{Read, Write};
    if !world.can(Ability::Ports) {
        return;
    }
    let pod = world.pod("a");
    world.run(&pod, "echoes", "exec nc -ll -p 7000 -e cat");
    let connect = |port| world.wait(async { world.engine.port(&pod, port)?.await });
    let flow = world.until(|| connect(7000).ok());
    let mut flow = std::net::TcpStream::from(flow);
    flow.set_nonblocking(false).unwrap();
    // More than all buffers on the way hold.
    let sent: Vec<u8> = (0..8 << 20).map(|at: u32| (at % 251) as u8).collect();
    let mut writer = flow.try_clone().unwrap();
    let twin = sent.clone();
    let writes = std::thread::spawn(move || {
        writer.write_all(&twin).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    flow.read_to_end(&mut back).unwrap();
    writes.join().unwrap();
    assert!(back == sent, "{} bytes of {}", back.len(), sent.len());
    let error = connect(7001).unwrap_err().to_string();
    assert!(
        error.contains("port 7001") && error.contains("refused"),
        "{error}"
    );
    assert_eq!(connect(0).unwrap_err().kind(), Kind::InvalidArgument);
    world.engine.stop_pod(&pod).unwrap();
    let error = connect(7000).unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
}
