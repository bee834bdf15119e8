//! An engine with many pods beside the same engine with few: what grows with their number.

use std::time::{Duration, Instant};

use cri::*;
use testkit::{Clients, Error, Node, Registry};

use crate::calm::Calm;
use crate::cri_verbs::{create, pod_config};
use crate::table::{Figure, Section, figure};

const ROUNDS: usize = 20;
const FEW: u32 = 10;
const MANY: u32 = 500;
const VERBS: [&str; 8] = [
    "RunPodSandbox (bridge network)",
    "CreateContainer + StartContainer",
    "ListPodSandbox of all",
    "ListContainers of all",
    "ListContainerStats of all",
    "ContainerStatus",
    "StopPodSandbox + RemovePodSandbox",
    "memory of the engine (Pss), MiB",
];

type Samples = [Vec<Duration>; VERBS.len()];

pub(crate) async fn compare(
    calm: &mut Calm,
    registry: &Registry,
    image: &str,
) -> Result<Section, Error> {
    let node = Node::start(&crate::options(registry))?;
    let mut clients = node.clients().await?;
    crate::pull(&mut clients, image).await?;
    let mut rows: Vec<(String, Vec<Option<Figure>>)> = VERBS
        .iter()
        .map(|verb| ((*verb).to_owned(), Vec::new()))
        .collect();
    let mut made = 0;
    for pods in [FEW, MANY] {
        while made < pods {
            run(
                &mut clients,
                image,
                made,
                &mut [(); VERBS.len()].map(|()| Vec::new()),
            )
            .await?;
            made += 1;
        }
        let samples: Samples = calm
            .requests(ROUNDS, async |round| {
                let mut samples = Samples::default();
                let number = MANY + u32::try_from(round)?;
                round_of(&mut clients, image, number, &mut samples).await?;
                Ok(samples)
            })
            .await?;
        let engine = node.engine_pid().ok_or("the engine has ended")?;
        for (row, samples) in rows.iter_mut().zip(samples) {
            row.1.push(figure(samples));
        }
        if let Some((_, memory)) = rows.last_mut() {
            memory.pop();
            memory.push(crate::memory::pss(engine).map(Figure::from));
        }
    }
    Ok(Section {
        title: "Pods".into(),
        about: format!(
            "One engine with {FEW} and then {MANY} pods of one container each, {ROUNDS} rounds. Here a ratio is many : few."
        ),
        who: [FEW, MANY].map(|pods| format!("{pods} pods")).to_vec(),
        unit: "ms",
        rows,
    })
}

/// A pod and its container; their ids.
async fn run(
    cri: &mut Clients,
    image: &str,
    number: u32,
    samples: &mut Samples,
) -> Result<(String, String), Error> {
    let config = pod_config("pods", number);
    let begin = Instant::now();
    let request = RunPodSandboxRequest {
        config: Some(config.clone()),
        ..Default::default()
    };
    let pod = cri.runtime.run_pod_sandbox(request).await?.into_inner();
    samples[0].push(begin.elapsed());
    let begin = Instant::now();
    let id = create(cri, &pod.pod_sandbox_id, &config, image).await?;
    let request = StartContainerRequest {
        container_id: id.clone(),
    };
    cri.runtime.start_container(request).await?;
    samples[1].push(begin.elapsed());
    Ok((pod.pod_sandbox_id, id))
}

/// Each verb once; nothing is left of it.
async fn round_of(
    cri: &mut Clients,
    image: &str,
    number: u32,
    samples: &mut Samples,
) -> Result<(), Error> {
    let (pod, id) = run(cri, image, number, samples).await?;
    let mut begin = Instant::now();
    let mut lap = |verb: usize| {
        samples[verb].push(begin.elapsed());
        begin = Instant::now();
    };
    let client = &mut cri.runtime;
    client
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await?;
    lap(2);
    client
        .list_containers(ListContainersRequest::default())
        .await?;
    lap(3);
    client
        .list_container_stats(ListContainerStatsRequest::default())
        .await?;
    lap(4);
    client
        .container_status(ContainerStatusRequest {
            container_id: id,
            verbose: false,
        })
        .await?;
    lap(5);
    let pod_sandbox_id = pod;
    client
        .stop_pod_sandbox(StopPodSandboxRequest {
            pod_sandbox_id: pod_sandbox_id.clone(),
        })
        .await?;
    client
        .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id })
        .await?;
    lap(6);
    Ok(())
}
