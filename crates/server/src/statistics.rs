//! The RPCs about what pods and containers use: read by the engine (`engine::stats`), told in CRI's words
//! (`convert/stats.rs`, `convert/metrics.rs`).

use std::collections::BTreeSet;

use cri::{ContainerStatsFilter, PodSandboxStatsFilter};
use engine::Engine;
use engine::config::MetricGroup;
use tonic::Status;

use crate::convert::{metrics, stats};
use crate::node;
use crate::work::Work;

/// One container's.
pub(crate) async fn container(work: &Work, id: String) -> Result<cri::ContainerStats, Status> {
    let layers = node::writable_layers(&work.engine());
    let read = move |engine: &Engine| engine.container_stats(&id);
    let figures = work.read_disk("ContainerStats", read).await?;
    Ok(stats::stats(figures, &layers))
}

/// Those of all containers that fit.
pub(crate) async fn containers(
    work: &Work,
    filter: Option<ContainerStatsFilter>,
) -> Result<Vec<cri::ContainerStats>, Status> {
    let filter = stats::filter(filter);
    let layers = node::writable_layers(&work.engine());
    let read = move |engine: &Engine| {
        let all = engine.list_container_stats(&filter)?.into_iter();
        Ok(all.map(|figures| stats::stats(figures, &layers)).collect())
    };
    work.read_disk("ListContainerStats", read).await
}

/// One pod's.
pub(crate) async fn pod(work: &Work, id: String) -> Result<cri::PodSandboxStats, Status> {
    let layers = node::writable_layers(&work.engine());
    let read = move |engine: &Engine| engine.pod_stats(&id);
    let figures = work.read_disk("PodSandboxStats", read).await?;
    Ok(stats::pod_stats(figures, &layers))
}

/// Those of all pods that fit.
pub(crate) async fn pods(
    work: &Work,
    filter: Option<PodSandboxStatsFilter>,
) -> Result<Vec<cri::PodSandboxStats>, Status> {
    let filter = stats::pod_filter(filter);
    let layers = node::writable_layers(&work.engine());
    let read = move |engine: &Engine| {
        let all = engine.list_pod_stats(&filter)?.into_iter();
        Ok(all
            .map(|figures| stats::pod_stats(figures, &layers))
            .collect())
    };
    work.read_disk("ListPodSandboxStats", read).await
}

/// The groups of metrics that the configuration wants; checked when it was read.
fn groups(engine: &Engine) -> BTreeSet<MetricGroup> {
    engine.config().stats.groups().unwrap_or_default()
}

/// The metrics that are told.
pub(crate) fn descriptors(work: &Work) -> Vec<cri::MetricDescriptor> {
    metrics::descriptors(&groups(&work.engine()))
}

/// Those of all pods: each is put into words when it is asked for.
pub(crate) async fn metrics(
    work: &Work,
) -> Result<impl Iterator<Item = cri::PodSandboxMetrics> + Send + use<>, Status> {
    let engine = work.engine();
    let (groups, cached) = (groups(&engine), engine.config().stats.period_ns() > 0);
    let wanted = groups.clone();
    let read = move |engine: &Engine| engine.figures(&wanted);
    let all = work.read_disk("ListPodSandboxMetrics", read).await?;
    let count = all.pods.len();
    Ok((0..count)
        .filter_map(move |at| Some(metrics::pod(all.pods.get(at)?, &all, &groups, cached))))
}
