//! `make quickstart`: the whole path of a pod on one screen, from an image in a registry to
//! logs, exec, stats and exit codes, with the time of each step. Everything happens in private
//! directories and a private network; at the end it checks that nothing is left.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cri::*;
use testkit::{Clients, Error, Node, NodeOptions, Registry, images, net};

fn main() {
    // Before any thread exists, so that all of them share the private network.
    let done = net::isolate().and_then(|()| tour());
    if let Err(error) = done {
        eprintln!("\nquickstart failed: {error}");
        std::process::exit(1);
    }
}

fn tour() -> Result<(), Error> {
    println!("floe: from a registry to a running pod\n");
    let mut steps = Steps::default();
    let registry = steps.run(
        "start a registry on loopback (Debian's docker-registry)",
        Registry::start,
    )?;
    let options = NodeOptions {
        insecure: vec![registry.host()],
        ..NodeOptions::default()
    };
    let mut node = steps.run(
        "start floe serve on a private root, socket and cgroup",
        || Node::start(&options),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(pods(&mut steps, &node, &registry));
    if result.is_err() {
        eprintln!("\nthe engine's log:\n{}", node.log());
    }
    result?;
    steps.run(
        "end the engine; no process, mount, cgroup or file is left",
        || node.clean(),
    )?;
    drop((node, registry));
    println!(
        "\n{} steps in {} ms. Where to go next:",
        steps.count,
        steps.total.as_millis()
    );
    println!(
        "  make build                                    the programs as they ship: these are a"
    );
    println!("                                                debugger's, and slower");
    println!("  target/*/release/floe run --rm -it IMAGE sh   a container, without any daemon");
    println!(
        "  target/*/release/floe serve                   then point kubelet or crictl at /run/floe/floe.sock"
    );
    println!(
        "  docs/architecture.md                          how it works; docs/benchmarks.md: how fast"
    );
    Ok(())
}

async fn pods(steps: &mut Steps, node: &Node, registry: &Registry) -> Result<(), Error> {
    let image = format!("{}/hello/busybox:1", registry.host());
    steps
        .future(
            "make an image from busybox-static and push it",
            push(&image),
        )
        .await?;
    let mut cri = node.clients().await?;
    let pulled = cri.images.pull_image(PullImageRequest {
        image: Some(spec(&image)),
        ..Default::default()
    });
    steps.future("pull it through CRI", pulled).await?;

    let pod = pod_config(node);
    let run = RunPodSandboxRequest {
        config: Some(pod.clone()),
        ..Default::default()
    };
    let pod_id = steps
        .future(
            "run a pod with a bridge network",
            cri.runtime.run_pod_sandbox(run),
        )
        .await?
        .into_inner()
        .pod_sandbox_id;
    let ip = pod_ip(&mut cri, &pod_id).await?;

    let talker = ["sh", "-c", "echo to stdout; echo to stderr >&2; exit 3"];
    let talker = steps
        .future(
            "create a container that talks",
            create(&mut cri, &pod_id, &pod, "talker", &image, &talker),
        )
        .await?;
    steps.future("start it", start(&mut cri, &talker)).await?;
    let server = [
        "sh",
        "-c",
        "httpd -p 80 -h /www; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
    ];
    let server = steps
        .future(
            "create a container that serves HTTP",
            create(&mut cri, &pod_id, &pod, "web", &image, &server),
        )
        .await?;
    steps.future("start it", start(&mut cri, &server)).await?;

    let body = steps.run(&format!("GET http://{ip}/"), || net::http_get(ip, 80))?;
    note(body.trim());
    let exec = ExecSyncRequest {
        container_id: server.clone(),
        cmd: words(&["hostname"]),
        timeout: 10,
    };
    let said = steps
        .future("exec hostname in it", cri.runtime.exec_sync(exec))
        .await?
        .into_inner();
    note(&format!(
        "{:?}, exit code {}",
        String::from_utf8_lossy(&said.stdout).trim(),
        said.exit_code
    ));
    let exited = steps
        .future(
            "wait for the talker's exit code",
            exit_code(&mut cri, &talker),
        )
        .await?;
    note(&format!("exit code {exited}"));
    let log = steps.run("read its log", || {
        Ok(std::fs::read_to_string(node.path("logs/talker.log"))?)
    })?;
    log.lines().for_each(note);
    let stats = ContainerStatsRequest {
        container_id: server.clone(),
    };
    let stats = steps
        .future("stats of the server", cri.runtime.container_stats(stats))
        .await?
        .into_inner();
    note(&describe(&stats));

    let stop = StopContainerRequest {
        container_id: server.clone(),
        timeout: 2,
    };
    steps
        .future("stop the server", cri.runtime.stop_container(stop))
        .await?;
    for container_id in [server, talker] {
        let remove = RemoveContainerRequest { container_id };
        steps
            .future("remove a container", cri.runtime.remove_container(remove))
            .await?;
    }
    let stop = StopPodSandboxRequest {
        pod_sandbox_id: pod_id.clone(),
    };
    steps
        .future("stop the pod", cri.runtime.stop_pod_sandbox(stop))
        .await?;
    let remove = RemovePodSandboxRequest {
        pod_sandbox_id: pod_id,
    };
    steps
        .future("remove the pod", cri.runtime.remove_pod_sandbox(remove))
        .await?;
    let remove = RemoveImageRequest {
        image: Some(spec(&image)),
    };
    steps
        .future("remove the image", cri.images.remove_image(remove))
        .await?;
    Ok(())
}

async fn push(image: &str) -> Result<(), Error> {
    let client = images::client(&[image.split('/').next().unwrap_or_default()])?;
    let config = serde_json::json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] });
    images::push(&client, image, &[images::busybox()?], config).await?;
    Ok(())
}

fn pod_config(node: &Node) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "hello".into(),
            uid: "quickstart".into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: "hello".into(),
        log_directory: node.path("logs").display().to_string(),
        ..Default::default()
    }
}

async fn create(
    cri: &mut Clients,
    pod_id: &str,
    pod: &PodSandboxConfig,
    name: &str,
    image: &str,
    command: &[&str],
) -> Result<String, Error> {
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.into(),
            attempt: 0,
        }),
        image: Some(spec(image)),
        command: words(command),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(NamespaceOption {
                    pid: NamespaceMode::Container.into(),
                    ..Default::default()
                }),
                seccomp: Some(SecurityProfile {
                    profile_type: 0,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = CreateContainerRequest {
        pod_sandbox_id: pod_id.into(),
        config: Some(config),
        sandbox_config: Some(pod.clone()),
    };
    Ok(cri
        .runtime
        .create_container(request)
        .await?
        .into_inner()
        .container_id)
}

async fn start(cri: &mut Clients, container: &str) -> Result<(), Error> {
    cri.runtime
        .start_container(StartContainerRequest {
            container_id: container.into(),
        })
        .await?;
    Ok(())
}

async fn pod_ip(cri: &mut Clients, pod: &str) -> Result<IpAddr, Error> {
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: pod.into(),
        verbose: false,
    };
    let status = cri
        .runtime
        .pod_sandbox_status(request)
        .await?
        .into_inner()
        .status;
    let network = status
        .and_then(|status| status.network)
        .ok_or("the pod has no network")?;
    Ok(network.ip.parse()?)
}

/// Asks until the container has ended, 10 s at most.
async fn exit_code(cri: &mut Clients, container: &str) -> Result<i32, Error> {
    for _ in 0..1000 {
        let request = ContainerStatusRequest {
            container_id: container.into(),
            verbose: false,
        };
        let status = cri
            .runtime
            .container_status(request)
            .await?
            .into_inner()
            .status
            .unwrap_or_default();
        if status.state() == ContainerState::ContainerExited {
            return Ok(status.exit_code);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("the container did not end".into())
}

fn describe(stats: &ContainerStatsResponse) -> String {
    let stats = stats.stats.clone().unwrap_or_default();
    let cpu = stats
        .cpu
        .and_then(|cpu| cpu.usage_core_nano_seconds)
        .unwrap_or_default()
        .value;
    let memory = stats
        .memory
        .and_then(|memory| memory.working_set_bytes)
        .unwrap_or_default()
        .value;
    format!(
        "{:.1} ms of CPU, {} KiB of memory",
        cpu as f64 / 1e6,
        memory / 1024
    )
}

fn spec(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.into(),
        ..Default::default()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn note(text: &str) {
    println!("      {text}");
}

/// Numbers, times and prints the steps.
#[derive(Default)]
struct Steps {
    count: u32,
    total: Duration,
}

impl Steps {
    fn run<T>(&mut self, what: &str, step: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let begin = Instant::now();
        let result = step();
        self.done(what, begin, result)
    }

    async fn future<T, E: Into<Error>>(
        &mut self,
        what: &str,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error> {
        let begin = Instant::now();
        let result = step.await;
        self.done(what, begin, result.map_err(Into::into))
    }

    fn done<T>(
        &mut self,
        what: &str,
        begin: Instant,
        result: Result<T, Error>,
    ) -> Result<T, Error> {
        let took = begin.elapsed();
        self.count += 1;
        self.total += took;
        println!(
            "{:>3}  {:<58}{:>8.1} ms",
            self.count,
            what,
            took.as_secs_f64() * 1e3
        );
        result.map_err(|error| format!("{what}: {error}").into())
    }
}
