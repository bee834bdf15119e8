//! Proportional set size (Pss) of the engine with ten pods, and of what one pod needs besides
//! its own processes, beside containerd and its shims.

use cri::*;
use testkit::{Clients, Containerd, Error, Node, Registry, leftovers};

use crate::cri_verbs::{create, pod_config};
use crate::table::{Figure, Section};

const PODS: u32 = 10;

pub(crate) async fn compare(
    registry: &Registry,
    image: &str,
    pause: &str,
) -> Result<Section, Error> {
    let floe = {
        let node = Node::start(&crate::options(registry))?;
        let mut cri = node.clients().await?;
        let pods = fill(&mut cri, image).await?;
        let figures = measure(node.engine_pid(), &pods);
        empty(&mut cri, pods).await?;
        figures
    };
    let peer = {
        let containerd = Containerd::start(pause)?;
        let mut cri = containerd.clients().await?;
        let pods = fill(&mut cri, image).await?;
        let figures = measure(Some(containerd.pid()), &pods);
        empty(&mut cri, pods).await?;
        figures
    };
    Ok(Section {
        title: "Memory".into(),
        about: format!(
            "Pss with {PODS} pods of one container each. The container's own processes are not counted."
        ),
        who: ["floe", "containerd"].map(String::from).to_vec(),
        unit: "MiB",
        rows: vec![
            ("engine".into(), figures([floe.engine, peer.engine])),
            (
                "a pod's supervisor, or shim".into(),
                figures([floe.keeper, peer.keeper]),
            ),
            (
                "a pod's first process, or pause".into(),
                figures([floe.first, peer.first]),
            ),
        ],
    })
}

fn figures(of: [Option<f64>; 2]) -> Vec<Option<Figure>> {
    of.map(|one| one.map(Figure::from)).to_vec()
}

/// MiB.
struct Figures {
    engine: Option<f64>,
    keeper: Option<f64>,
    first: Option<f64>,
}

/// On both sides a pod has one process named by its id, which outlives the engine, and that one's
/// oldest child holds the pod's namespaces.
fn measure(engine: Option<u32>, pods: &[String]) -> Figures {
    let mut keepers = Vec::new();
    let mut firsts = Vec::new();
    for pod in pods {
        let named = leftovers::processes(pod);
        let Some(keeper) = named.iter().map(|(pid, _)| *pid).min() else {
            continue;
        };
        keepers.push(keeper);
        firsts.extend(children(keeper).into_iter().min());
    }
    Figures {
        engine: engine.and_then(pss),
        keeper: mean(keepers.into_iter()),
        first: mean(firsts.into_iter()),
    }
}

fn children(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

async fn fill(cri: &mut Clients, image: &str) -> Result<Vec<String>, Error> {
    crate::pull(cri, image).await?;
    let mut pods = Vec::new();
    for number in 0..PODS {
        let config = pod_config(&format!("memory-{number}"), 0);
        let run = RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        let pod = cri
            .runtime
            .run_pod_sandbox(run)
            .await?
            .into_inner()
            .pod_sandbox_id;
        let container_id = create(cri, &pod, &config, image).await?;
        cri.runtime
            .start_container(StartContainerRequest { container_id })
            .await?;
        pods.push(pod);
    }
    Ok(pods)
}

async fn empty(cri: &mut Clients, pods: Vec<String>) -> Result<(), Error> {
    for pod_sandbox_id in pods {
        cri.runtime
            .stop_pod_sandbox(StopPodSandboxRequest {
                pod_sandbox_id: pod_sandbox_id.clone(),
            })
            .await?;
        cri.runtime
            .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id })
            .await?;
    }
    Ok(())
}

/// MiB of a process.
pub(crate) fn pss(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

fn mean(pids: impl Iterator<Item = u32>) -> Option<f64> {
    let all: Vec<f64> = pids.filter_map(pss).collect();
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}
