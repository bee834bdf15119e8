//! Pods whose runtime handler is a shim (`runtime_type = "vm"`), on Debian's containerd-shim-runc-v2, a real
//! one: every verb of CRI, the engine killed in between, and the shim killed.

use crate::common::{World, log, world_with};

const SHIM: &str = "/usr/bin/containerd-shim-runc-v2";

/// A program that runs until it is told to end.
const WAITS: &str = "trap 'exit 3' TERM; echo begins; while :; do sleep 0.05; done";

/// A world whose engine has the handler `shim`.
fn shim_world(test: impl AsyncFnOnce(&mut World)) {
    if !std::path::Path::new(SHIM).exists() {
        eprintln!("SKIP: needs containerd-shim-runc-v2 (Debian: containerd)");
        return;
    }
    let handler =
        format!("[crio.runtime.runtimes.shim]\nruntime_type = \"vm\"\nruntime_path = \"{SHIM}\"\n");
    world_with(handler, test);
}

async fn try_pod(world: &World, config: cri::PodSandboxConfig) -> Result<String, tonic::Status> {
    let request = cri::RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: "shim".to_owned(),
    };
    let made = world.runtime().run_pod_sandbox(request).await?;
    Ok(made.into_inner().pod_sandbox_id)
}

async fn pod(world: &World, name: &str) -> String {
    try_pod(world, world.pod_config(name)).await.unwrap()
}

/// The process of the pod's shim: what runs beside the supervisor in the pod's own cgroup.
fn shim_of(pod: &str) -> i32 {
    let is_shim = |pid: &i32| {
        let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let command = read("cmdline");
        let has = |text: &str| command.windows(text.len()).any(|it| it == text.as_bytes());
        has(SHIM) && has(pod)
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<i32> = pids.filter(is_shim).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_pod_in_a_shim_lives_through_every_verb() {
    shim_world(async |world| {
        let pod = pod(world, "a").await;
        let status = world.pod_status(&pod).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
        assert_eq!(status.runtime_handler, "shim");
        assert!(!status.network.unwrap().ip.is_empty());

        let script = world.script("says", "echo one; echo two >&2; exit 4");
        let (said, ended) = world.output(&pod, script).await;
        assert_eq!((said.as_str(), ended.exit_code), ("one\n", 4));
        assert_eq!(log::read(&ended.log_path).of("stderr"), "two\n");

        let runs = world
            .create(&pod, world.script("runs", WAITS))
            .await
            .unwrap();
        let state = world.status(&runs).await.unwrap().state();
        assert_eq!(state, cri::ContainerState::ContainerCreated);
        world.start(&runs).await.unwrap();
        let answer = world.exec(&runs, &["sh", "-c", "echo out; echo err >&2; exit 6"], 10);
        let answer = answer.await.unwrap();
        assert_eq!(
            (answer.exit_code, &answer.stdout[..], &answer.stderr[..]),
            (6, &b"out\n"[..], &b"err\n"[..])
        );
        let missing = world.exec(&runs, &["/no/such"], 10).await.unwrap_err();
        assert!(missing.message().contains("/no/such"), "{missing}");
        let late = world.exec(&runs, &["sleep", "100"], 1).await.unwrap_err();
        assert_eq!(late.code(), tonic::Code::DeadlineExceeded, "{late}");

        stats_and_limits(world, &runs).await;
        crate::pod_stats::are_told(world, &pod, &runs).await;
        crate::metrics::are_told(world, &runs).await;
        world.stop(&runs, 10).await.unwrap();
        let status = world.status(&runs).await.unwrap();
        assert_eq!(status.exit_code, 3);
        assert_eq!(status.state(), cri::ContainerState::ContainerExited);
        world.remove(&runs).await.unwrap();
        assert!(world.status(&runs).await.is_err());

        let killed = world
            .run(&pod, world.config("killed", &["sleep", "1000"]))
            .await;
        world.stop(&killed, 0).await.unwrap();
        assert_eq!(world.status(&killed).await.unwrap().exit_code, 137);
        world.stop_pod(&pod).await.unwrap();
        let status = world.pod_status(&pod).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxNotready);
        world.remove_pod(&pod).await.unwrap();
        assert!(world.pod_status(&pod).await.is_err());
    });
}

async fn stats_and_limits(world: &World, id: &str) {
    let request = cri::ContainerStatsRequest {
        container_id: id.to_owned(),
    };
    let stats = world.runtime().container_stats(request).await.unwrap();
    let stats = stats.into_inner().stats.unwrap();
    let memory = stats.memory.unwrap().working_set_bytes.unwrap().value;
    assert!(memory > 0);
    let request = cri::UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(cri::LinuxContainerResources {
            memory_limit_in_bytes: 96 << 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    let updated = world.runtime().update_container_resources(request).await;
    updated.unwrap();
    let told = world.info(id).await;
    let pid = told["pid"].as_i64().unwrap();
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = cgroups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.strip_prefix("memory:").or(rest.strip_prefix(':'))
    });
    let path = path.unwrap().trim_start_matches('/');
    let read = |dir: &str, file: &str| std::fs::read_to_string(format!("{dir}/{path}/{file}"));
    let limit = read("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        .or_else(|_| read("/sys/fs/cgroup", "memory.max"));
    assert_eq!(limit.unwrap().trim(), (96 << 20).to_string());
}

#[test]
fn a_killed_engine_costs_a_pod_in_a_shim_nothing() {
    shim_world(async |world| {
        let pod = pod(world, "a").await;
        world.node.kill().unwrap();
        world.serve_again().await;
        let writer = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo $i; sleep 0.005; done; exit 9";
        let writer = world.run(&pod, world.script("writer", writer)).await;
        let ends = world
            .run(&pod, world.script("ends", "sleep 0.2; exit 5"))
            .await;
        let runs = world.run(&pod, world.script("runs", WAITS)).await;
        let created = world.create(&pod, world.config("created", &["true"])).await;
        let created = created.unwrap();
        world.node.kill().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        world.serve_again().await;
        let status = world.pod_status(&pod).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
        assert_eq!(world.ended(&ends).await.exit_code, 5);
        world.start(&created).await.unwrap();
        assert_eq!(world.ended(&created).await.exit_code, 0);
        let written = world.ended(&writer).await;
        assert_eq!(written.exit_code, 9);
        let expected: String = (1..=200).map(|number| format!("{number}\n")).collect();
        assert_eq!(log::read(&written.log_path).of("stdout"), expected);
        let alive = world.exec(&runs, &["echo", "alive"], 10).await.unwrap();
        assert_eq!(alive.stdout, b"alive\n");
        world.node.kill().unwrap();
        world.serve_again().await;
        world.stop(&runs, 10).await.unwrap();
        assert_eq!(world.status(&runs).await.unwrap().exit_code, 3);
        world.node.kill().unwrap();
        world.serve_again().await;
        world.remove(&runs).await.unwrap();
        world.remove_pod(&pod).await.unwrap();
    });
}

#[test]
fn a_kill_of_the_engine_in_the_middle_of_a_verb_of_a_shim_is_cleared_away() {
    shim_world(async |world| {
        for round in 0..8_u64 {
            let config = world.pod_config(&format!("round-{round}"));
            let run = async {
                let pod = try_pod(world, config.clone()).await.ok()?;
                let id = world.create(&pod, world.script("c", WAITS)).await.ok()?;
                world.start(&id).await.ok()?;
                world.remove_pod(&pod).await.ok()
            };
            // The kill comes later in each round.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(60 * round), run).await;
            world.node.kill().unwrap();
            world.serve_again().await;
            let request = cri::ListPodSandboxRequest::default();
            let pods = world.runtime().list_pod_sandbox(request).await.unwrap();
            for pod in pods.into_inner().items {
                world.remove_pod(&pod.id).await.unwrap();
            }
            let again = try_pod(world, config).await.unwrap();
            world.remove_pod(&again).await.unwrap();
        }
    });
}

/// A shim's program that is never done, in either of its verbs, as long as `DIR/hang` is there.
const HANGS: &str = "#!/bin/sh
for verb; do :; done
[ $verb = start ] || [ $verb = delete ] || exit 1
touch DIR/$verb
while [ -e DIR/hang ]; do sleep 0.05; done
exit 3
";

#[test]
fn what_a_handler_takes_long_to_clear_away_does_not_hold_up_the_start_of_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("shim");
    let script = HANGS.replace("DIR", &dir.path().display().to_string());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    std::fs::write(dir.path().join("hang"), "").unwrap();
    let handler = format!(
        "[crio.runtime.runtimes.shim]\nruntime_type = \"vm\"\nruntime_path = \"{}\"\n",
        program.display()
    );
    world_with(handler, async |world| {
        let of_the_shim = world.pod_config("half-made");
        let began = async || dir.path().join("start").exists().then_some(());
        let begun = world.until("the shim begins", began);
        tokio::select! {
            ended = try_pod(world, of_the_shim.clone()) => panic!("{ended:?}"),
            () = begun => {}
        }
        world.node.kill().unwrap();
        // Fails if it does not listen.
        world.listen_again().await;
        let clears = async || dir.path().join("delete").exists().then_some(());
        world.until("it is cleared away", clears).await;
        let other = world.pod("other").await;
        let says = world.script("says", "exit 4");
        assert_eq!(world.output(&other, says).await.1.exit_code, 4);
        let half_made = || world.node.path("run/pods").read_dir().unwrap().count() - 1;
        assert_eq!(half_made(), 1, "it is being cleared away all the while");
        std::fs::remove_file(dir.path().join("hang")).unwrap();
        world
            .until("it is gone", async || (half_made() == 0).then_some(()))
            .await;
        world.remove_pod(&other).await.unwrap();
    });
}

#[test]
fn a_shim_that_is_killed_takes_its_pod_along_and_can_be_removed() {
    shim_world(async |world| {
        let pod = pod(world, "a").await;
        let runs = world.run(&pod, world.script("runs", WAITS)).await;
        let pid = world.info(&runs).await["pid"].as_i64().unwrap();
        let shim = rustix::process::Pid::from_raw(shim_of(&pod)).unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
        let ended = world.ended(&runs).await;
        assert_eq!(ended.exit_code, 137);
        assert!(ended.message.contains("shim is gone"), "{}", ended.message);
        let not_ready = async || {
            let status = world.pod_status(&pod).await.unwrap();
            (status.state() == cri::PodSandboxState::SandboxNotready).then_some(())
        };
        world.until("the pod is not ready", not_ready).await;
        let refused = world.create(&pod, world.config("more", &["true"])).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::FailedPrecondition);
        world.stop_pod(&pod).await.unwrap();
        let gone = !std::path::Path::new(&format!("/proc/{pid}/root")).exists();
        assert!(gone, "a process of it lives");
        world.remove_pod(&pod).await.unwrap();
    });
}

#[test]
fn want_of_memory_in_a_shim_is_told() {
    shim_world(async |world| {
        let pod = pod(world, "a").await;
        let mut eats = world.script("eats", "tail /dev/zero");
        eats.linux.get_or_insert_default().resources = Some(cri::LinuxContainerResources {
            memory_limit_in_bytes: 32 << 20,
            ..Default::default()
        });
        let eats = world.run(&pod, eats).await;
        let ended = world.ended(&eats).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
    });
}

#[test]
fn what_a_shim_cannot_do_is_refused_by_name_before_anything_is_made() {
    shim_world(async |world| {
        let mut config = world.pod_config("host");
        let security = config
            .linux
            .get_or_insert_default()
            .security_context
            .get_or_insert_default();
        security.namespace_options.get_or_insert_default().network =
            cri::NamespaceMode::Node.into();
        let refused = try_pod(world, config).await.unwrap_err();
        assert!(
            refused.message().contains("namespace_options.network"),
            "{refused}"
        );
        assert!(refused.message().contains("\"shim\""), "{refused}");
        let request = cri::ListPodSandboxRequest::default();
        let pods = world.runtime().list_pod_sandbox(request).await.unwrap();
        assert!(pods.into_inner().items.is_empty());
    });
}

#[test]
fn a_program_that_is_no_shim_says_so_and_leaves_nothing() {
    let handler = "[crio.runtime.runtimes.shim]\nruntime_type = \"vm\"\nruntime_path = \"/bin/true\"\n\
        [crio.runtime.runtimes.none]\nruntime_type = \"vm\"\nruntime_path = \"/no/such/shim\"\n";
    world_with(handler.to_owned(), async |world| {
        let error = try_pod(world, world.pod_config("a")).await.unwrap_err();
        assert!(error.message().contains("/bin/true start"), "{error}");
        let request = cri::RunPodSandboxRequest {
            config: Some(world.pod_config("b")),
            runtime_handler: "none".to_owned(),
        };
        let error = world.runtime().run_pod_sandbox(request).await.unwrap_err();
        assert!(error.message().contains("/no/such/shim"), "{error}");
    });
}
