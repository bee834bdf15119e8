//! The life of a pod and a container through CRI, beside containerd.

use std::time::{Duration, Instant};

use cri::*;
use testkit::{Clients, Containerd, Error, Node, Registry};

use crate::calm::Calm;
use crate::table::{Section, figure};

const ROUNDS: usize = 20;
const VERBS: [&str; 9] = [
    "RunPodSandbox (bridge network)",
    "CreateContainer",
    "StartContainer",
    "ExecSync true",
    "ListContainers",
    "StopContainer (exits on SIGTERM)",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

/// Of each verb.
type Samples = [Vec<Duration>; VERBS.len()];

pub(crate) async fn compare(
    calm: &mut Calm,
    registry: &Registry,
    image: &str,
    pause: &str,
) -> Result<Section, Error> {
    let node = Node::start(&crate::options(registry))?;
    let containerd = Containerd::start(pause)?;
    let mut sides = [node.clients().await?, containerd.clients().await?];
    for side in &mut sides {
        crate::pull(side, image).await?;
        // The first round only warms up.
        life(side, &mut Samples::default(), image, 0).await?;
    }
    let [floe, peer]: [Samples; 2] = calm
        .requests(ROUNDS, async |round| {
            let mut samples = <[Samples; 2]>::default();
            for (side, samples) in sides.iter_mut().zip(&mut samples) {
                life(side, samples, image, 1 + u32::try_from(round)?).await?;
            }
            Ok(samples)
        })
        .await?;
    let rows = VERBS
        .iter()
        .zip(floe.into_iter().zip(peer))
        .map(|(verb, (floe, peer))| ((*verb).to_owned(), vec![figure(floe), figure(peer)]))
        .collect();
    Ok(Section {
        title: "CRI verbs".into(),
        about: format!(
            "One pod with one container, {ROUNDS} rounds; containerd with its CRI plugin, runc and the bridge, host-local and portmap plugins."
        ),
        who: ["floe", "containerd"].map(String::from).to_vec(),
        unit: "ms",
        rows,
    })
}

async fn life(
    cri: &mut Clients,
    samples: &mut Samples,
    image: &str,
    round: u32,
) -> Result<(), Error> {
    let mut note = |verb: usize, begin: Instant| samples[verb].push(begin.elapsed());
    let pod = pod_config("bench", round);
    let begin = Instant::now();
    let run = RunPodSandboxRequest {
        config: Some(pod.clone()),
        ..Default::default()
    };
    let pod_id = cri
        .runtime
        .run_pod_sandbox(run)
        .await?
        .into_inner()
        .pod_sandbox_id;
    note(0, begin);
    let begin = Instant::now();
    let id = create(cri, &pod_id, &pod, image).await?;
    note(1, begin);
    let begin = Instant::now();
    cri.runtime
        .start_container(StartContainerRequest {
            container_id: id.clone(),
        })
        .await?;
    note(2, begin);
    let begin = Instant::now();
    let exec = ExecSyncRequest {
        container_id: id.clone(),
        cmd: vec!["/bin/true".into()],
        timeout: 10,
    };
    cri.runtime.exec_sync(exec).await?;
    note(3, begin);
    let begin = Instant::now();
    cri.runtime
        .list_containers(ListContainersRequest::default())
        .await?;
    note(4, begin);
    let begin = Instant::now();
    cri.runtime
        .stop_container(StopContainerRequest {
            container_id: id.clone(),
            timeout: 10,
        })
        .await?;
    note(5, begin);
    let begin = Instant::now();
    cri.runtime
        .remove_container(RemoveContainerRequest { container_id: id })
        .await?;
    note(6, begin);
    let begin = Instant::now();
    cri.runtime
        .stop_pod_sandbox(StopPodSandboxRequest {
            pod_sandbox_id: pod_id.clone(),
        })
        .await?;
    note(7, begin);
    let begin = Instant::now();
    cri.runtime
        .remove_pod_sandbox(RemovePodSandboxRequest {
            pod_sandbox_id: pod_id,
        })
        .await?;
    note(8, begin);
    Ok(())
}

pub(crate) fn pod_config(name: &str, attempt: u32) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: name.into(),
            namespace: "bench".into(),
            attempt,
        }),
        ..Default::default()
    }
}

/// A container that ends at once on SIGTERM, with the default seccomp profile.
pub(crate) async fn create(
    cri: &mut Clients,
    pod: &str,
    config: &PodSandboxConfig,
    image: &str,
) -> Result<String, Error> {
    let container = container(
        image,
        "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
    );
    create_as(cri, pod, config, container).await
}

/// A container that runs a script, with the default seccomp profile.
pub(crate) fn container(image: &str, script: &str) -> ContainerConfig {
    let security = LinuxContainerSecurityContext {
        namespace_options: Some(NamespaceOption {
            pid: NamespaceMode::Container.into(),
            ..Default::default()
        }),
        seccomp: Some(SecurityProfile {
            profile_type: 0,
            ..Default::default()
        }),
        ..Default::default()
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "main".into(),
            attempt: 0,
        }),
        image: Some(spec(image)),
        command: ["sh", "-c", script].map(String::from).to_vec(),
        linux: Some(LinuxContainerConfig {
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Creates what [`container`] says, or a change of it.
pub(crate) async fn create_as(
    cri: &mut Clients,
    pod: &str,
    config: &PodSandboxConfig,
    container: ContainerConfig,
) -> Result<String, Error> {
    let request = CreateContainerRequest {
        pod_sandbox_id: pod.into(),
        config: Some(container),
        sandbox_config: Some(config.clone()),
    };
    Ok(cri
        .runtime
        .create_container(request)
        .await?
        .into_inner()
        .container_id)
}

pub(crate) fn spec(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.into(),
        ..Default::default()
    }
}
